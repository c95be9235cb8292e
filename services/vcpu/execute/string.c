/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions and port I/O: MOVS CMPS STOS LODS SCAS INS OUTS, IN OUT. Intel SDM volume 1,
 * 7.3.9 and volume 2, REP.
 *
 * A repeated instruction keeps RCX, RSI and RDI exact after every element, so that it can fault or
 * be left for an interrupt anywhere. Runs within a page of plain memory, ascending, are done by the
 * host at once.
 */
#include "exits/board.h"
#include "execute/flags.h"
#include "execute/operand.h"
#include "execute/trace.h"

enum { CHUNK = 4096 };

/* How many elements a repeated instruction may do before it looks for requests. */
static inline bool one_at_a_time(struct vcpu *v)
{
	return atomic_load_explicit(&v->req, memory_order_relaxed) & REQ_SINGLE;
}

static inline uint64_t address_get(struct vcpu *v, const struct insn *i, unsigned reg)
{
	return get_size(v, reg * 8, i->addrsize);
}

static inline void address_add(struct vcpu *v, const struct insn *i, unsigned reg, int64_t delta)
{
	set_size(v, reg * 8, i->addrsize, address_get(v, i, reg) + (uint64_t)delta);
}

static inline int64_t step_of(const struct vcpu *v, unsigned size)
{
	return v->rflags & FL_DF ? -(int64_t)size : (int64_t)size;
}

static inline uint64_t source(struct vcpu *v, const struct insn *i, unsigned size)
{
	return seg_linear(v, i->seg, address_get(v, i, RSI), size, MMU_R,
			  i->flags & INSN_SEG_CHECK);
}

static inline uint64_t destination(struct vcpu *v, const struct insn *i, unsigned size,
				   enum mmu_access acc)
{
	return seg_linear(v, SEG_ES, address_get(v, i, RDI), size, acc, i->flags & INSN_SEG_CHECK);
}

/*
 * How many elements from the one at `reg` on may be accessed ascending without crossing a page, the
 * segment's limit or the end of the address size. At least 1: that one's checks are its access's.
 */
static unsigned span(struct vcpu *v, const struct insn *i, enum seg seg, unsigned reg,
		     unsigned size)
{
	uint64_t off = address_get(v, i, reg), bytes = CHUNK - ((v->seg_base[seg] + off) & 4095);

	if (v->rflags & FL_DF) {
		return 1;
	}
	if (i->addrsize != 8) {
		uint64_t end = i->addrsize == 4 ? UINT64_C(1) << 32 : 1u << 16;

		bytes = bytes < end - off ? bytes : end - off;
	}
	if (i->flags & INSN_SEG_CHECK) {
		const struct segment *s = &v->seg[seg];

		if ((s->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND)) == SEG_TYPE_EXPAND ||
		    off > s->limit) {
			return 1;
		}
		bytes = bytes < s->limit - off + 1 ? bytes : s->limit - off + 1;
	}
	return bytes >= size ? (unsigned)(bytes / size) : 1;
}

static inline unsigned min_count(uint64_t a, uint64_t b)
{
	return (unsigned)(a < b ? a : b);
}

/* -- one element: performs it and moves the pointers -- */

static void movs_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	uint64_t val = mmu_read_size(v, source(v, i, size), size);

	mmu_write_size(v, destination(v, i, size, MMU_W), size, val);
	address_add(v, i, RSI, step_of(v, size));
	address_add(v, i, RDI, step_of(v, size));
}

static void stos_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	mmu_write_size(v, destination(v, i, size, MMU_W), size, v->gpr[RAX]);
	address_add(v, i, RDI, step_of(v, size));
}

static void lods_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	set_size(v, RAX * 8, size, mmu_read_size(v, source(v, i, size), size));
	address_add(v, i, RSI, step_of(v, size));
}

static void compare(struct vcpu *v, unsigned size, uint64_t a, uint64_t b)
{
	switch (size) {
	case 1: flags_cmp8(v, (uint8_t)a, (uint8_t)b); break;
	case 2: flags_cmp16(v, (uint16_t)a, (uint16_t)b); break;
	case 4: flags_cmp32(v, (uint32_t)a, (uint32_t)b); break;
	default: flags_cmp64(v, a, b); break;
	}
}

/* When both operands fault, some AMD processors report the second. The manuals do not say. */
static void cmps_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	uint64_t b = mmu_read_size(v, destination(v, i, size, MMU_R), size);
	uint64_t a = mmu_read_size(v, source(v, i, size), size);

	compare(v, size, a, b);
	address_add(v, i, RSI, step_of(v, size));
	address_add(v, i, RDI, step_of(v, size));
}

static void scas_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	uint64_t b = mmu_read_size(v, destination(v, i, size, MMU_R), size);

	compare(v, size, v->gpr[RAX], b);
	address_add(v, i, RDI, step_of(v, size));
}

static void ins_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	uint64_t lin;
	uint32_t val;

	lin = destination(v, i, size, MMU_W);
	mmu_probe(v, lin, size, MMU_W); /* before the port is read */
	val = board_pio_read(v, (uint16_t)v->gpr[RDX], size);
	mmu_write_size(v, lin, size, val);
	address_add(v, i, RDI, step_of(v, size));
}

static void outs_one(struct vcpu *v, const struct insn *i, unsigned size)
{
	uint64_t val = mmu_read_size(v, source(v, i, size), size);

	board_pio_write(v, (uint16_t)v->gpr[RDX], size, (uint32_t)val);
	address_add(v, i, RSI, step_of(v, size));
}

/* -- many elements: up to n, already known not to cross a page; 0: one by one, please -- */

#define HOST_STRING(name, asm_text, ...)                                           \
	switch (size) {                                                            \
	case 1: asm volatile(asm_text "b" : __VA_ARGS__ : "memory", "cc"); break;  \
	case 2: asm volatile(asm_text "w" : __VA_ARGS__ : "memory", "cc"); break;  \
	case 4: asm volatile(asm_text "l" : __VA_ARGS__ : "memory", "cc"); break;  \
	default: asm volatile(asm_text "q" : __VA_ARGS__ : "memory", "cc"); break; \
	}

static unsigned movs_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	const void *src;
	void *dst;
	uint64_t count;

	n = min_count(n, span(v, i, i->seg, RSI, size));
	n = min_count(n, span(v, i, SEG_ES, RDI, size));
	src = mmu_ptr(v, source(v, i, size), n * size, MMU_R);
	dst = src ? mmu_ptr(v, destination(v, i, size, MMU_W), n * size, MMU_W) : NULL;
	if (!dst) {
		return 0;
	}
	count = n;
	/* The host's own, so that overlapping runs repeat as they must. */
	HOST_STRING(movs, "rep movs", "+S"(src), "+D"(dst), "+c"(count) :)
	address_add(v, i, RSI, (int64_t)n * size);
	address_add(v, i, RDI, (int64_t)n * size);
	return n;
}

static unsigned stos_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	void *dst;
	uint64_t count;

	n = min_count(n, span(v, i, SEG_ES, RDI, size));
	dst = mmu_ptr(v, destination(v, i, size, MMU_W), n * size, MMU_W);
	if (!dst) {
		return 0;
	}
	count = n;
	HOST_STRING(stos, "rep stos", "+D"(dst), "+c"(count) : "a"(v->gpr[RAX]))
	address_add(v, i, RDI, (int64_t)n * size);
	return n;
}

static unsigned lods_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	const uint8_t *src;
	uint64_t val = 0;

	n = min_count(n, span(v, i, i->seg, RSI, size));
	src = mmu_ptr(v, source(v, i, size), n * size, MMU_R);
	if (!src) {
		return 0;
	}
	memcpy(&val, src + (size_t)(n - 1) * size, size);
	set_size(v, RAX * 8, size, val);
	address_add(v, i, RSI, (int64_t)n * size);
	return n;
}

static inline uint64_t element(const uint8_t *p, unsigned k, unsigned size)
{
	uint64_t val = 0;

	memcpy(&val, p + (size_t)k * size, size);
	return val;
}

/* Elements until, and with, the first whose equality to `val` differs from `equal`; at most n. */
#define SCAN_RUN(bits)                                                                        \
	static unsigned scan_run##bits(const mem##bits *p, unsigned n, uint##bits##_t val,    \
				       bool equal)                                            \
	{                                                                                     \
		unsigned k = 0;                                                               \
                                                                                              \
		while (k < n - 1 && (p[k] == val) == equal) {                                 \
			k++;                                                                  \
		}                                                                             \
		return k + 1;                                                                 \
	}                                                                                     \
	static unsigned compare_run##bits(const mem##bits *p, const mem##bits *q, unsigned n, \
					  bool equal)                                         \
	{                                                                                     \
		unsigned k = 0;                                                               \
                                                                                              \
		while (k < n - 1 && (p[k] == q[k]) == equal) {                                \
			k++;                                                                  \
		}                                                                             \
		return k + 1;                                                                 \
	}
SCAN_RUN(8)
SCAN_RUN(16)
SCAN_RUN(32)
SCAN_RUN(64)

static unsigned scan_bytes(const uint8_t *p, unsigned n, uint8_t val, bool equal)
{
	const uint8_t *found;

	if (equal) {
		return scan_run8(p, n, val, true);
	}
	found = memchr(p, val, n);
	return found ? (unsigned)(found - p) + 1 : n;
}

static unsigned scas_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	bool equal = i->flags & INSN_REP;
	uint64_t val = v->gpr[RAX];
	const void *p;

	n = min_count(n, span(v, i, SEG_ES, RDI, size));
	p = mmu_ptr(v, destination(v, i, size, MMU_R), n * size, MMU_R);
	if (!p) {
		return 0;
	}
	switch (size) {
	case 1: n = scan_bytes(p, n, (uint8_t)val, equal); break;
	case 2: n = scan_run16(p, n, (uint16_t)val, equal); break;
	case 4: n = scan_run32(p, n, (uint32_t)val, equal); break;
	default: n = scan_run64(p, n, val, equal); break;
	}
	compare(v, size, val, element(p, n - 1, size));
	address_add(v, i, RDI, (int64_t)n * size);
	return n;
}

static unsigned cmps_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	bool equal = i->flags & INSN_REP;
	const void *p, *q;

	n = min_count(n, span(v, i, i->seg, RSI, size));
	n = min_count(n, span(v, i, SEG_ES, RDI, size));
	q = mmu_ptr(v, destination(v, i, size, MMU_R), n * size, MMU_R);
	p = q ? mmu_ptr(v, source(v, i, size), n * size, MMU_R) : NULL;
	if (!p) {
		return 0;
	}
	switch (size) {
	case 1: n = compare_run8(p, q, n, equal); break;
	case 2: n = compare_run16(p, q, n, equal); break;
	case 4: n = compare_run32(p, q, n, equal); break;
	default: n = compare_run64(p, q, n, equal); break;
	}
	compare(v, size, element(p, n - 1, size), element(q, n - 1, size));
	address_add(v, i, RSI, (int64_t)n * size);
	address_add(v, i, RDI, (int64_t)n * size);
	return n;
}

static unsigned ins_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	uint8_t buf[CHUNK];
	uint64_t lin;

	n = min_count(n, span(v, i, SEG_ES, RDI, size));
	lin = destination(v, i, size, MMU_W);
	if (!mmu_ptr(v, lin, n * size, MMU_W)) {
		return 0;
	}
	n = board_pio_read_string(v, (uint16_t)v->gpr[RDX], size, buf, n);
	mmu_write_bytes(v, lin, buf, n * size);
	address_add(v, i, RDI, (int64_t)n * size);
	return n;
}

static unsigned outs_many(struct vcpu *v, const struct insn *i, unsigned size, unsigned n)
{
	uint8_t buf[CHUNK];
	const void *src;

	n = min_count(n, span(v, i, i->seg, RSI, size));
	src = mmu_ptr(v, source(v, i, size), n * size, MMU_R);
	if (!src) {
		return 0;
	}
	memcpy(buf, src, n * size);
	n = board_pio_write_string(v, (uint16_t)v->gpr[RDX], size, buf, n);
	address_add(v, i, RSI, (int64_t)n * size);
	return n;
}

/* -- repetition -- */

typedef void one_fn(struct vcpu *v, const struct insn *i, unsigned size);
typedef unsigned many_fn(struct vcpu *v, const struct insn *i, unsigned size, unsigned n);

/* Leaves a repeated instruction in its middle: it goes on from its registers. */
static const struct insn *leave(struct vcpu *v, const struct insn *i)
{
	v->rip = v->trace_rip + i->off;
	if ((v->mode & MODE_SIZE) != MODE_64) {
		v->rip = (uint32_t)v->rip;
	}
	v->n_insns -= i->rest + 1u;
	END_TRACE();
}

/* CMPS and SCAS stop by ZF. */
static inline bool repeat_ends(const struct vcpu *v, const struct insn *i)
{
	return !(v->aflags & AF_ZF) == !!(i->flags & INSN_REP);
}

static inline const struct insn *repeat(struct vcpu *v, const struct insn *i, unsigned size,
					one_fn *one, many_fn *many, bool conditional)
{
	bool single = one_at_a_time(v) || v->rflags & FL_DF;
	uint64_t count;

	v->insn = i;
	while ((count = address_get(v, i, RCX)) != 0) {
		unsigned n = single ? 0 : many(v, i, size, min_count(count, CHUNK / size));

		if (n == 0) {
			one(v, i, size);
			n = 1;
		}
		set_size(v, RCX * 8, i->addrsize, count - n);
		if (conditional && repeat_ends(v, i)) {
			break;
		}
		if (count != n && vcpu_must_stop(v)) {
			return leave(v, i);
		}
	}
	NEXT(v, i);
}

#define STRING_HANDLER(name, conditional, check)                                            \
	static const struct insn *name(struct vcpu *v, const struct insn *i)                \
	{                                                                                   \
		v->insn = i;                                                                \
		check;                                                                      \
		name##_one(v, i, i->opcode & 1 ? i->opsize : 1);                            \
		NEXT(v, i);                                                                 \
	}                                                                                   \
	static const struct insn *rep_##name(struct vcpu *v, const struct insn *i)          \
	{                                                                                   \
		v->insn = i;                                                                \
		check;                                                                      \
		return repeat(v, i, i->opcode & 1 ? i->opsize : 1, name##_one, name##_many, \
			      conditional);                                                 \
	}
STRING_HANDLER(movs, false, )
STRING_HANDLER(stos, false, )
STRING_HANDLER(lods, false, )
STRING_HANDLER(cmps, true, )
STRING_HANDLER(scas, true, )

#define IO_HANDLER(name)                                                              \
	static const struct insn *name(struct vcpu *v, const struct insn *i)          \
	{                                                                             \
		unsigned size = io_size(i);                                           \
                                                                                      \
		v->insn = i;                                                          \
		io_permitted(v, (uint16_t)v->gpr[RDX], size);                         \
		name##_one(v, i, size);                                               \
		NEXT(v, i);                                                           \
	}                                                                             \
	static const struct insn *rep_##name(struct vcpu *v, const struct insn *i)    \
	{                                                                             \
		unsigned size = io_size(i);                                           \
                                                                                      \
		v->insn = i;                                                          \
		io_permitted(v, (uint16_t)v->gpr[RDX], size); /* with RCX = 0, too */ \
		return repeat(v, i, size, name##_one, name##_many, false);            \
	}

/* There is no 64-bit port access. */
static inline unsigned io_size(const struct insn *i)
{
	return !(i->opcode & 1) ? 1 : i->opsize == 2 ? 2 : 4;
}
IO_HANDLER(ins)
IO_HANDLER(outs)

static const struct insn *in(struct vcpu *v, const struct insn *i)
{
	unsigned size = io_size(i);
	uint16_t port = i->opcode & 8 ? (uint16_t)v->gpr[RDX] : (uint16_t)i->imm;

	v->insn = i;
	io_permitted(v, port, size);
	set_size(v, RAX * 8, size, board_pio_read(v, port, size));
	NEXT(v, i);
}

static const struct insn *out(struct vcpu *v, const struct insn *i)
{
	unsigned size = io_size(i);
	uint16_t port = i->opcode & 8 ? (uint16_t)v->gpr[RDX] : (uint16_t)i->imm;

	v->insn = i;
	io_permitted(v, port, size);
	board_pio_write(v, port, size, (uint32_t)v->gpr[RAX]);
	/* It may have raised an interrupt, changed the map, stopped the machine: look. */
	v->rip = vcpu_next_rip(v, i);
	END_TRACE();
}

bool execute_bind_string(struct vcpu *v, struct insn *i)
{
	bool rep = i->flags & (INSN_REP | INSN_REPNE);

	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x6c:
	case 0x6d: i->fn = rep ? rep_ins : ins; return true;
	case 0x6e:
	case 0x6f: i->fn = rep ? rep_outs : outs; return true;
	case 0xa4:
	case 0xa5: i->fn = rep ? rep_movs : movs; return true;
	case 0xa6:
	case 0xa7: i->fn = rep ? rep_cmps : cmps; return true;
	case 0xaa:
	case 0xab: i->fn = rep ? rep_stos : stos; return true;
	case 0xac:
	case 0xad: i->fn = rep ? rep_lods : lods; return true;
	case 0xae:
	case 0xaf: i->fn = rep ? rep_scas : scas; return true;
	case 0xe4:
	case 0xe5:
	case 0xec:
	case 0xed: i->fn = in; return true;
	case 0xe6:
	case 0xe7:
	case 0xee:
	case 0xef:
		i->fn = out;
		i->flags |= INSN_END;
		return true;
	}
	return false;
}
