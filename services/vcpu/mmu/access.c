/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory accesses that the TLB does not answer: misses, page crossings, I/O, ROM, pages with
 * decoded code or watched addresses, alignment checks. And instruction fetch.
 */
#include <errno.h>

#include "execute/execute.h"
#include "exits/board.h"
#include "mmu/tlb.h"
#include "mmu/walk.h"
#include "mmu/watch.h"

typedef uint16_t __attribute__((aligned(1), may_alias)) unaligned_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) unaligned_u32;
typedef uint64_t __attribute__((aligned(1), may_alias)) unaligned_u64;

static enum mmu_ctx current_ctx(const struct vcpu *v)
{
	return (enum mmu_ctx)(v->tlb - v->tlbs);
}

static bool is_canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

/* Instructions whose implicit operand is the stack. */
static bool uses_stack(const struct insn *i)
{
	if (i->map == MAP_0F) {
		return i->opcode == 0xa0 || i->opcode == 0xa1 || i->opcode == 0xa8 ||
		       i->opcode == 0xa9;
	}
	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x50 ... 0x5f:
	case 0x68:
	case 0x6a:
	case 0x8f:
	case 0x9c:
	case 0x9d:
	case 0xc2:
	case 0xc3:
	case 0xc8:
	case 0xc9:
	case 0xca:
	case 0xcb:
	case 0xcf:
	case 0xe8: return true;
	case 0xff: return (i->reg & 7) == 2 || (i->reg & 7) == 3 || (i->reg & 7) == 6;
	}
	return false;
}

/* A non-canonical address: #SS(0) for the stack segment, else #GP(0). SDM vol. 1, 3.3.7.1. */
static _Noreturn void raise_noncanonical(struct vcpu *v, uint64_t lin)
{
	const struct insn *i = v->insn;
	bool stack = false;

	if (i != NULL) {
		/* BT and friends may reach far from their operand's address. */
		bool operand =
			(i->flags & INSN_MODRM) && i->mod != 3 &&
			(!uses_stack(i) || lin - (v->seg_base[i->seg] + ea_offset(v, i)) < 4096);

		stack = operand && !(uses_stack(i) && i->opcode != 0xff) ? i->seg == SEG_SS
									 : uses_stack(i);
	}
	raise_error(v, stack ? VEC_SS : VEC_GP, 0);
}

/* Fills p with what backs a walked page. */
static void resolve(struct vcpu *v, const struct walk *w, struct tlb_page *p)
{
	uint64_t gpa = w->gpa & ~0xfffull & board_a20_mask(v->board);

	p->gpa = gpa;
	p->r = p->w = ram_host(v, gpa);
	if (p->r == NULL) {
		struct mem_run run = board_mem_lookup(v->board, gpa);

		p->r = run.r != NULL ? run.r + (gpa - run.gpa) : NULL;
		p->w = run.w != NULL ? run.w + (gpa - run.gpa) : NULL;
	}
	p->code = p->w != NULL && board_code_page(v->board, gpa);
	p->global = w->global;
	p->shift = w->shift;
	p->key = w->key;
}

/* Which sides of the slot a walked page may fill for data accesses. */
static void allow_data(struct vcpu *v, uint64_t lin, enum mmu_ctx ctx, const struct walk *w,
		       struct tlb_page *p)
{
	bool armed = watch_any(v->dr[7]) || v->debug.n_data;
	bool watch_w = armed && watch_page(v, lin, true);
	bool watch_r = armed && watch_page(v, lin, false), stores;
	bool hold = v->mmu.trace && v->mmu.trace->hold;

	p->watched = watch_w || watch_r;
	if (ctx == MMU_USER_ALIGN) {
		return;
	}
	p->tag_r = p->r != NULL && !watch_r;
	stores = p->w != NULL && p->w == p->r && !watch_w && w->dirty &&
		 mmu_walk_permits(v, w, MMU_W, ctx);
	p->tag_w = stores && !p->code && !hold;
	p->store_reported = stores && (p->code || hold);
}

/* Translates the page of lin for an access, raising its faults, and fills the TLB where allowed. */
static void translate(struct vcpu *v, uint64_t lin, enum mmu_access acc, enum mmu_ctx ctx,
		      struct tlb_page *p)
{
	bool write = acc & MMU_W;
	struct walk w;
	int code;

	if ((v->efer & EFER_LMA) && !is_canonical(lin)) {
		raise_noncanonical(v, lin);
	}
	code = mmu_walk(v, lin, write ? MMU_W : acc, ctx, &w);
	if (code != WALK_OK) {
		tlb_drop_page(v, lin);
		raise_page_fault(v, lin, (uint32_t)code);
	}
	resolve(v, &w, p);
	p->tag_r = p->tag_w = p->store_reported = p->watched = false;
	p->tag_x = (acc & MMU_X) && p->r != NULL;
	if (!(acc & MMU_X)) {
		allow_data(v, lin, ctx, &w, p);
	}
	if (p->tag_r || p->tag_w || p->tag_x) {
		tlb_fill(v, ctx, lin, p);
	}
}

/*
 * The guest-physical address of lin when stores to its page need no walk, yet are not direct for
 * the decoded code there or for lock-step. False: translate() knows.
 */
static bool reported_store(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_ctx ctx,
			   uint64_t *gpa)
{
	unsigned slot = tlb_slot(lin);
	const struct tlb_entry *e = &v->tlbs[ctx].e[slot];
	uint64_t off = lin ^ e->r;

	if (off > 4096 - (uint64_t)size || !tlb_reported_store(v, ctx, lin)) {
		return false;
	}
	*gpa = v->tlbs[ctx].x_gpa[slot] + off;
	return board_code_page(v->board, *gpa) || (v->mmu.trace && v->mmu.trace->hold);
}

/* First byte of the page after lin's; 32-bit linear addresses wrap. */
static uint64_t next_page(const struct vcpu *v, uint64_t lin)
{
	uint64_t next = (lin | 0xfff) + 1;

	return (v->mode & MODE_SIZE) == MODE_64 ? next : (uint32_t)next;
}

static unsigned mmio_piece(unsigned len)
{
	return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static void page_read(struct vcpu *v, const struct tlb_page *p, unsigned off, void *buf,
		      unsigned len)
{
	uint8_t *to = buf;

	if (p->r != NULL) {
		memcpy(to, p->r + off, len);
		return;
	}
	while (len > 0) {
		unsigned n = mmio_piece(len);
		uint64_t val = board_mmio_read(v, p->gpa + off, n);

		memcpy(to, &val, n);
		to += n;
		off += n;
		len -= n;
	}
}

static void page_write(struct vcpu *v, const struct tlb_page *p, unsigned off, const void *buf,
		       unsigned len)
{
	const uint8_t *from = buf;

	if (p->w != NULL) {
		memcpy(p->w + off, from, len);
		if (p->code) {
			board_code_written(v, p->gpa + off, len);
		}
		return;
	}
	while (len > 0) {
		unsigned n = mmio_piece(len);
		uint64_t val = 0;

		memcpy(&val, from, n);
		board_mmio_write(v, p->gpa + off, n, val);
		from += n;
		off += n;
		len -= n;
	}
}

/* Aligned accesses within a page are one host access each: other processors see them whole. */
static uint64_t load_whole(const uint8_t *from, unsigned size)
{
	switch (size) {
	case 1: return *from;
	case 2: return *(const unaligned_u16 *)from;
	case 4: return *(const unaligned_u32 *)from;
	}
	return *(const unaligned_u64 *)from;
}

static uint64_t page_read_whole(struct vcpu *v, const struct tlb_page *p, unsigned off,
				unsigned size)
{
	if (p->r == NULL) {
		return board_mmio_read(v, p->gpa + off, size);
	}
	return load_whole(p->r + off, size);
}

static void store_whole(uint8_t *to, unsigned size, uint64_t val)
{
	switch (size) {
	case 1: *to = (uint8_t)val; break;
	case 2: *(unaligned_u16 *)to = (uint16_t)val; break;
	case 4: *(unaligned_u32 *)to = (uint32_t)val; break;
	case 8: *(unaligned_u64 *)to = val; break;
	}
}

static void page_write_whole(struct vcpu *v, const struct tlb_page *p, unsigned off, unsigned size,
			     uint64_t val)
{
	if (p->w == NULL) {
		board_mmio_write(v, p->gpa + off, size, val);
		return;
	}
	store_whole(p->w + off, size, val);
	if (p->code) {
		board_code_written(v, p->gpa + off, size);
	}
}

static void check_alignment(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_ctx ctx)
{
	if (ctx == MMU_USER_ALIGN && (lin & (size - 1))) {
		raise_error(v, VEC_AC, 0);
	}
}

/* Tells of an access to one page, before it is made. */
static void note(struct vcpu *v, uint64_t lin, const struct tlb_page *p, unsigned len, bool write)
{
	const struct mmu_trace *trace = v->mmu.trace;
	uint8_t *host = write ? p->w : p->r;

	if (__builtin_expect(trace == NULL, 1)) {
		return;
	}
	if (host == NULL) {
		trace->io(v);
	} else if (write) {
		trace->store(v, lin, host + (lin & 0xfff), len);
	}
}

/* Both pages of a crossing access are translated before the first byte moves. */
static void access_bytes(struct vcpu *v, uint64_t lin, void *rbuf, const void *wbuf, unsigned len,
			 enum mmu_ctx ctx)
{
	enum mmu_access acc = wbuf != NULL ? MMU_W : MMU_R;
	unsigned off = lin & 0xfff;
	unsigned first = len < 4096 - off ? len : 4096 - off;
	struct tlb_page p[2];

	if (len == 0) {
		return;
	}
	translate(v, lin, acc, ctx, &p[0]);
	if (first < len) {
		translate(v, next_page(v, lin), acc, ctx, &p[1]);
	}
	if (p[0].watched || (first < len && p[1].watched)) {
		watch_access(v, lin, len, wbuf != NULL);
	}
	note(v, lin, &p[0], first, wbuf != NULL);
	if (first < len) {
		note(v, next_page(v, lin), &p[1], len - first, wbuf != NULL);
	}
	if (wbuf != NULL) {
		page_write(v, &p[0], off, wbuf, first);
		if (first < len) {
			page_write(v, &p[1], 0, (const uint8_t *)wbuf + first, len - first);
		}
		return;
	}
	page_read(v, &p[0], off, rbuf, first);
	if (first < len) {
		page_read(v, &p[1], 0, (uint8_t *)rbuf + first, len - first);
	}
}

static uint64_t read_ctx(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_ctx ctx)
{
	struct tlb_page p;
	uint64_t val = 0;

	if ((lin & 0xfff) + size > 4096) {
		if (ctx == MMU_USER_ALIGN) {
			mmu_probe(v, lin, size, MMU_R);
			check_alignment(v, lin, size, ctx);
		}
		access_bytes(v, lin, &val, NULL, size, ctx);
		return val;
	}
	translate(v, lin, MMU_R, ctx, &p);
	check_alignment(v, lin, size, ctx);
	if (p.watched) {
		watch_access(v, lin, size, false);
	}
	note(v, lin, &p, size, false);
	return page_read_whole(v, &p, lin & 0xfff, size);
}

static void write_ctx(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val, enum mmu_ctx ctx)
{
	struct tlb_page p;
	uint64_t gpa;

	if (reported_store(v, lin, size, ctx, &gpa)) {
		const struct tlb_entry *e = &v->tlbs[ctx].e[tlb_slot(lin)];

		if (v->mmu.trace) {
			v->mmu.trace->store(v, lin, (uint8_t *)(e->page + (lin & 0xfff)), size);
		}
		store_whole((uint8_t *)(e->page + (lin & 0xfff)), size, val);
		if (board_code_page(v->board, gpa)) {
			board_code_written(v, gpa, size);
		}
		return;
	}
	if ((lin & 0xfff) + size > 4096) {
		if (ctx == MMU_USER_ALIGN) {
			mmu_probe(v, lin, size, MMU_W);
			check_alignment(v, lin, size, ctx);
		}
		access_bytes(v, lin, NULL, &val, size, ctx);
		return;
	}
	translate(v, lin, MMU_W, ctx, &p);
	check_alignment(v, lin, size, ctx);
	if (p.watched) {
		watch_access(v, lin, size, true);
	}
	note(v, lin, &p, size, true);
	page_write_whole(v, &p, lin & 0xfff, size, val);
}

uint64_t mmu_read_slow(struct vcpu *v, uint64_t lin, unsigned size)
{
	return read_ctx(v, lin, size, current_ctx(v));
}

void mmu_write_slow(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val)
{
	write_ctx(v, lin, size, val, current_ctx(v));
}

void *mmu_ptr_slow(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_access acc)
{
	enum mmu_ctx ctx = current_ctx(v);
	struct tlb_page p;
	uint64_t gpa;

	if ((lin & 0xfff) + size > 4096 ||
	    ((acc & MMU_W) && reported_store(v, lin, size, ctx, &gpa))) {
		return NULL;
	}
	translate(v, lin, acc, ctx, &p);
	if (ctx == MMU_USER_ALIGN || p.r == NULL) {
		return NULL;
	}
	if (acc & MMU_W) {
		return p.tag_w ? p.w + (lin & 0xfff) : NULL;
	}
	return p.tag_r ? p.r + (lin & 0xfff) : NULL;
}

void mmu_read_bytes(struct vcpu *v, uint64_t lin, void *buf, unsigned len)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];
	uint64_t off = lin ^ e->r;

	if (off <= 4096 - (uint64_t)len) {
		memcpy(buf, (const void *)(e->page + off), len);
		return;
	}
	access_bytes(v, lin, buf, NULL, len, current_ctx(v));
}

void mmu_write_bytes(struct vcpu *v, uint64_t lin, const void *buf, unsigned len)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];
	uint64_t off = lin ^ e->w;

	if (off <= 4096 - (uint64_t)len) {
		memcpy((void *)(e->page + off), buf, len);
		return;
	}
	access_bytes(v, lin, NULL, buf, len, current_ctx(v));
}

void mmu_probe(struct vcpu *v, uint64_t lin, unsigned len, enum mmu_access acc)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];
	struct tlb_page p;
	uint64_t gpa;

	if (len == 0 || (lin ^ (acc & MMU_W ? e->w : e->r)) <= 4096 - (uint64_t)len ||
	    ((acc & MMU_W) && reported_store(v, lin, len, current_ctx(v), &gpa))) {
		return;
	}
	translate(v, lin, acc, current_ctx(v), &p);
	if ((lin & 0xfff) + len > 4096) {
		translate(v, next_page(v, lin), acc, current_ctx(v), &p);
	}
}

static uint64_t sys_linear(const struct vcpu *v, uint64_t lin)
{
	return v->efer & EFER_LMA ? lin : (uint32_t)lin;
}

static uint64_t read_other(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_ctx ctx)
{
	const struct tlb_entry *e;

	lin = sys_linear(v, lin);
	e = &v->tlbs[ctx].e[tlb_slot(lin)];
	if ((lin ^ e->r) > 4096 - size) {
		return read_ctx(v, lin, size, ctx);
	}
	return load_whole((const uint8_t *)(e->page + (lin ^ e->r)), size);
}

static void write_other(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val, enum mmu_ctx ctx)
{
	const struct tlb_entry *e;

	lin = sys_linear(v, lin);
	e = &v->tlbs[ctx].e[tlb_slot(lin)];
	if ((lin ^ e->w) > 4096 - size) {
		write_ctx(v, lin, size, val, ctx);
		return;
	}
	store_whole((uint8_t *)(e->page + (lin ^ e->w)), size, val);
}

uint64_t mmu_read_sys(struct vcpu *v, uint64_t lin, unsigned size)
{
	return read_other(v, lin, size, MMU_SUPER);
}

void mmu_write_sys(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val)
{
	write_other(v, lin, size, val, MMU_SUPER);
}

static enum mmu_ctx ctx_of_cpl(const struct vcpu *v, unsigned cpl)
{
	if (cpl == v->cpl) {
		return current_ctx(v);
	}
	if (cpl == 3) {
		return MMU_USER;
	}
	return (v->cr4 & CR4_SMAP) && (v->rflags & FL_AC) ? MMU_SUPER_AC : MMU_SUPER;
}

uint64_t mmu_read_cpl(struct vcpu *v, unsigned cpl, uint64_t lin, unsigned size)
{
	return read_other(v, lin, size, ctx_of_cpl(v, cpl));
}

void mmu_write_cpl(struct vcpu *v, unsigned cpl, uint64_t lin, unsigned size, uint64_t val)
{
	write_other(v, lin, size, val, ctx_of_cpl(v, cpl));
}

void *mmu_hit_cpl(struct vcpu *v, unsigned cpl, uint64_t lin, unsigned size, enum mmu_access acc)
{
	const struct tlb_entry *e = &v->tlbs[ctx_of_cpl(v, cpl)].e[tlb_slot(lin)];
	uint64_t off = lin ^ (acc & MMU_W ? e->w : e->r);

	return off <= 4096 - (uint64_t)size ? (void *)(e->page + off) : NULL;
}

const uint8_t *mmu_fetch(struct vcpu *v, uint64_t lin, unsigned *n, uint64_t *gpa)
{
	unsigned slot = tlb_slot(lin), off = lin & 0xfff;
	const struct tlb_entry *e = &v->tlb->e[slot];
	struct tlb_page p;

	*n = 4096 - off;
	if ((lin ^ e->x) <= 4095) {
		*gpa = v->tlb->x_gpa[slot] + off;
		return (const uint8_t *)(e->page + off);
	}
	translate(v, lin, MMU_X, current_ctx(v), &p);
	*gpa = p.gpa + off;
	return p.r != NULL ? p.r + off : NULL;
}

int mmu_translate_debug(struct vcpu *v, uint64_t lin, uint64_t *gpa)
{
	struct walk w;

	lin = sys_linear(v, lin);
	if (((v->efer & EFER_LMA) && !is_canonical(lin)) || !mmu_walk_look(v, lin, &w)) {
		return -EFAULT;
	}
	*gpa = w.gpa & board_a20_mask(v->board);
	return 0;
}
