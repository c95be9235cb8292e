/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512 by thunk: EVEX instructions and those on opmask registers. A thunk finds its operands in
 * a struct file and leaves its results there: vectors 1 (ModRM.reg), 2 (ModRM.rm) and 3 (vvvv), in
 * the instruction ZMM1 to ZMM3; opmasks likewise, in K2 to K4, and the one that chooses elements in
 * K1; general registers in RAX (ModRM.reg) and RCX (ModRM.rm). A memory operand is [RSI]. RDX is
 * struct vcpu. Intel SDM volume 2; 2.8 for the exceptions and what of memory is accessed.
 */
#include "decode/evex.h"
#include "decode/vex.h"
#include "execute/simd.h"
#include "execute/simd_form.h"
#include "execute/simd_operands.h"
#include "execute/simd_zmm.h"
#include "execute/thunk.h"

enum operand { OPERAND_REG, OPERAND_RM, OPERAND_VVVV, N_OPERAND };

struct file {
	uint64_t chosen, opmask[N_OPERAND], gpr[N_OPERAND], rsvd;
	struct zmm zmm[N_OPERAND];
} __attribute__((aligned(64)));

/* Returns as thunk_fn does. */
typedef int avx512_fn(struct file *f, void *mem, struct vcpu *v);

/* -- memory operands of which an opmask chooses a part -- */

struct part {
	unsigned n, size; /* elements, and bytes of each */
	uint64_t chosen;  /* elements by bit */
	uint64_t ea;
};

/* What i accesses of its memory operand, as elements: one, if they are the same for all. */
static void part_of(struct vcpu *v, const struct insn *i, struct part *p)
{
	const struct evex_row *row = evex_row(i);
	unsigned n = evex_elements(i, row);

	p->chosen = v->opmask[i->evex & EVEX_OPMASK] & ~0ull >> (64 - n);
	p->ea = ea_offset(v, i);
	p->n = n;
	p->size = row->el;
	if (row->flags & EVEX_PACK) {
		p->n = (unsigned)__builtin_popcountll(p->chosen);
		p->chosen = p->n ? ~0ull >> (64 - p->n) : 0;
	} else if (row->flags & EVEX_REPEAT || i->evex & EVEX_B) {
		p->n = 1;
		p->size = evex_mem(i, row);
		p->chosen = p->chosen != 0;
	}
}

static uint64_t element(struct vcpu *v, const struct insn *i, const struct part *p, unsigned k,
			enum mmu_access acc)
{
	return simd_element_linear(v, i, p->ea + k * p->size, p->size, acc);
}

static void *read_part(struct vcpu *v, const struct insn *i)
{
	struct part p;

	part_of(v, i, &p);
	memset(v->bounce, 0, sizeof(v->bounce));
	for (unsigned k = 0; k < p.n; k++) {
		if (p.chosen >> k & 1) {
			mmu_read_bytes(v, element(v, i, &p, k, MMU_R), v->bounce + k * p.size,
				       p.size);
		}
	}
	return v->bounce;
}

/* All elements that are stored must be writable before the first is. */
static void probe_part(struct vcpu *v, const struct insn *i, const struct part *p)
{
	for (unsigned k = 0; k < p->n; k++) {
		if (p->chosen >> k & 1) {
			mmu_probe(v, element(v, i, p, k, MMU_W), p->size, MMU_W);
		}
	}
}

static void write_part(struct vcpu *v, const struct insn *i, const struct part *p)
{
	for (unsigned k = 0; k < p->n; k++) {
		if (p->chosen >> k & 1) {
			mmu_write_bytes(v, element(v, i, p, k, MMU_W), v->bounce + k * p->size,
					p->size);
		}
	}
}

/* #GP(0) where the operand is not aligned, whatever is chosen. */
static void check_alignment(struct vcpu *v, const struct insn *i, const struct simd_operands *o)
{
	if ((v->seg_base[i->seg] + ea_offset(v, i)) & (o->align - 1u)) {
		raise_error(v, VEC_GP, 0);
	}
}

/* -- handlers -- */

static void load_operand(struct vcpu *v, struct file *f, enum operand which, char kind, unsigned n)
{
	switch (kind) {
	case 'x': zmm_get(v, n, &f->zmm[which]); break;
	case 'k': f->opmask[which] = v->opmask[n]; break;
	case 'g': f->gpr[which] = v->gpr[n]; break;
	}
}

static void store_operand(struct vcpu *v, const struct file *f, enum operand which, char kind,
			  unsigned n)
{
	switch (kind) {
	case 'x': zmm_set(v, n, &f->zmm[which]); break;
	case 'k': v->opmask[n] = f->opmask[which]; break;
	case 'g': v->gpr[n] = f->gpr[which]; break;
	}
}

static void run_thunk(struct vcpu *v, const struct insn *i, const struct simd_operands *o,
		      struct file *f, void *mem)
{
	bool unmasked = o->fp && (v->fx.mxcsr & MXCSR_MASKS) != MXCSR_MASKS;
	avx512_fn *fn = (avx512_fn *)i->aux;
	int struck;

	if (unmasked) {
		simd_unmask(v);
	}
	thunk_may_be_refused = true;
	struck = fn(f, mem, v);
	thunk_may_be_refused = false;
	if (unmasked) {
		simd_mask(v, struck == THUNK_FP);
	}
	if (struck) {
		raise_exception(v, VEC_UD);
	}
}

static void call_thunk(struct vcpu *v, const struct insn *i, const struct simd_operands *o,
		       struct file *f, void *mem)
{
	load_operand(v, f, OPERAND_REG, o->reg, i->reg);
	load_operand(v, f, OPERAND_VVVV, o->vvvv, i->vvvv);
	if (i->mod == 3) {
		load_operand(v, f, OPERAND_RM, o->rm, i->rm);
	}
	f->chosen = v->opmask[i->evex & EVEX_OPMASK];
	run_thunk(v, i, o, f, mem);
	if (o->reg_write) {
		store_operand(v, f, OPERAND_REG, o->reg, i->reg);
	}
	if (o->vvvv_write) {
		store_operand(v, f, OPERAND_VVVV, o->vvvv, i->vvvv);
	}
	if (o->rm_write && i->mod == 3) {
		store_operand(v, f, OPERAND_RM, o->rm, i->rm);
	}
}

static void store_masked(struct vcpu *v, const struct insn *i, const struct simd_operands *o,
			 struct file *f)
{
	struct part p;

	part_of(v, i, &p);
	check_alignment(v, i, o);
	if (evex_row(i)->flags & EVEX_WHOLE) {
		mmu_probe(v, ea_linear(v, i, o->mem, MMU_W), o->mem, MMU_W);
	}
	probe_part(v, i, &p);
	call_thunk(v, i, o, f, v->bounce);
	write_part(v, i, &p);
}

static void store(struct vcpu *v, const struct insn *i, const struct simd_operands *o,
		  struct file *f)
{
	uint64_t lin;
	void *p;

	if (o->masked) {
		store_masked(v, i, o, f);
		return;
	}
	p = simd_target(v, i, o->mem, o->align, &lin);
	call_thunk(v, i, o, f, p ? p : v->bounce);
	if (!p) {
		mmu_write_bytes(v, lin, v->bounce, o->mem);
	}
}

static SIMD_APART void do_avx512(struct vcpu *v, const struct insn *i)
{
	struct simd_operands o;
	struct file f;
	void *mem;

	v->insn = i;
	simd_check_avx512(v);
	simd_operands(i, &o);
	v->zmm_used = true;
	if (i->mod == 3) {
		call_thunk(v, i, &o, &f, NULL);
	} else if (o.mem_write) {
		store(v, i, &o, &f);
	} else {
		if (o.masked && !(evex_row(i)->flags & EVEX_WHOLE)) {
			check_alignment(v, i, &o);
			mem = read_part(v, i);
		} else {
			mem = (void *)simd_operand(v, i, o.mem, o.align);
		}
		call_thunk(v, i, &o, &f, mem);
	}
}

static const struct insn *avx512(struct vcpu *v, const struct insn *i)
{
	do_avx512(v, i);
	NEXT(v, i);
}

/* -- thunks -- */

/* VMOVUPS between ZMM1 + which and its place. */
static void emit_vector(struct thunk_buf *t, enum operand which, bool store)
{
	THUNK_CODE(t, "\x62\xf1\x7c\x48");
	thunk_byte(t, store ? 0x11 : 0x10);
	thunk_byte(t, (uint8_t)(0x40 | (1 + which) << 3 | RDI));
	thunk_byte(t, (uint8_t)(offsetof(struct file, zmm) / 64 + which));
}

/* KMOVQ between opmask register n and its place. */
static void emit_opmask(struct thunk_buf *t, unsigned n, size_t place, bool store)
{
	THUNK_CODE(t, "\xc4\xe1\xf8");
	thunk_byte(t, store ? 0x91 : 0x90);
	thunk_byte(t, (uint8_t)(0x40 | n << 3 | RDI));
	thunk_byte(t, (uint8_t)place);
}

static void emit_gpr(struct thunk_buf *t, unsigned host, enum operand which, bool store)
{
	thunk_byte(t, 0x48);
	thunk_byte(t, store ? 0x89 : 0x8b);
	thunk_byte(t, (uint8_t)(0x40 | host << 3 | RDI));
	thunk_byte(t, (uint8_t)(offsetof(struct file, gpr) + which * 8u));
}

static void emit_operand(struct thunk_buf *t, enum operand which, char kind, bool store)
{
	switch (kind) {
	case 'x': emit_vector(t, which, store); break;
	case 'k':
		emit_opmask(t, 2 + which, offsetof(struct file, opmask) + which * 8u, store);
		break;
	case 'g': emit_gpr(t, which == OPERAND_REG ? RAX : RCX, which, store); break;
	}
}

/* The number that an operand's register has in a thunk. */
static unsigned host_register(enum operand which, char kind)
{
	switch (kind) {
	case 'x': return 1 + which;
	case 'k': return 2 + which;
	case 'g': return which == OPERAND_REG ? RAX : RCX;
	}
	return 0;
}

static void emit_instruction(struct thunk_buf *t, const struct insn *i,
			     const struct simd_operands *o)
{
	unsigned reg = o->reg == 'e' ? i->modrm >> 3 & 7 : host_register(OPERAND_REG, o->reg);
	unsigned rm = i->mod == 3 ? 0xc0 | host_register(OPERAND_RM, o->rm) : RSI;
	unsigned vvvv = ~host_register(OPERAND_VVVV, o->vvvv) & 15;
	unsigned w = i->flags & INSN_REX_W ? 0x80 : 0;

	if (i->flags & INSN_EVEX) {
		thunk_byte(t, 0x62);
		thunk_byte(t, 0xf0 | i->map);
		thunk_byte(t, (uint8_t)(w | vvvv << 3 | 4 | simd_prefix(i)));
		thunk_byte(t, (i->evex & ~EVEX_OPMASK) | 8 | (i->evex & EVEX_OPMASK ? 1 : 0));
	} else {
		thunk_byte(t, 0xc4);
		thunk_byte(t, 0xe0 | i->map);
		thunk_byte(t, (uint8_t)(w | vvvv << 3 | (i->flags & INSN_VEX_L ? 4 : 0) |
					simd_prefix(i)));
	}
	thunk_byte(t, i->opcode);
	thunk_byte(t, (uint8_t)(reg << 3 | rm));
	if (i->imm_len) {
		thunk_byte(t, (uint8_t)i->imm);
	}
}

static void emit_thunk(struct thunk_buf *t, const struct insn *i, const struct simd_operands *o)
{
	bool reg = i->mod == 3;

	if (i->evex & EVEX_OPMASK) {
		emit_opmask(t, 1, offsetof(struct file, chosen), false);
	}
	emit_operand(t, OPERAND_REG, o->reg, false);
	emit_operand(t, OPERAND_VVVV, o->vvvv, false);
	emit_operand(t, OPERAND_RM, reg ? o->rm : 0, false);
	emit_instruction(t, i, o);
	if (o->flags) {
		THUNK_CODE(t, "\x9f\x0f\x90\xc0"); /* lahf; seto %al */
		THUNK_CODE(t, "\x66\x89\x82");	   /* mov %ax, aflags(%rdx) */
		thunk_u32(t, offsetof(struct vcpu, aflags));
	}
	emit_operand(t, OPERAND_REG, o->reg_write ? o->reg : 0, true);
	emit_operand(t, OPERAND_VVVV, o->vvvv_write ? o->vvvv : 0, true);
	emit_operand(t, OPERAND_RM, reg && o->rm_write ? o->rm : 0, true);
	THUNK_CODE(t, "\x31\xc0"	   /* xor %eax, %eax */
		      "\xc5\xf8\x77\xc3"); /* vzeroupper; ret */
}

bool simd_bind_avx512(struct insn *i, const struct simd_operands *o)
{
	struct thunk_buf t = {0};

	if (!o->copy) {
		simd_bind_scatter(i);
		return true;
	}
	emit_thunk(&t, i, o);
	i->aux = (void *)thunk_get(&t);
	i->fn = avx512;
	return i->aux;
}
