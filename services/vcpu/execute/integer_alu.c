/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-operand arithmetic and logic (ADD OR ADC SBB AND SUB XOR CMP TEST), and INC DEC NOT NEG:
 * every width and form. Intel SDM volume 2.
 *
 * Handler names: <op>_<form><width>; rr: register and register, ri: register and immediate,
 * rm: register and memory (loaded), mr: memory and register, mi: memory and immediate. The memory
 * forms end in the form of address: see operand.h.
 */
#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"

/* The forms of one operation, as indexes of alu_handlers[op][.][width]. */
enum alu_form {
	ALU_RR,
	ALU_RI,
	ALU_RM_B,
	ALU_RM_X,
	ALU_RM_G,
	ALU_MR_B,
	ALU_MR_X,
	ALU_MR_G,
	ALU_MI_B,
	ALU_MI_X,
	ALU_MI_G,
	N_ALU_FORMS
};

#define KEEP_1(...) __VA_ARGS__
#define KEEP_0(...)
#define DROP_1(...)
#define DROP_0(...) (void)(__VA_ARGS__)

#define LOAD_FAST(op, keep, bits, ea)                                                     \
	static const struct insn *op##_rm##bits##ea(struct vcpu *v, const struct insn *i) \
	{                                                                                 \
		const mem##bits *p = tlb_hit_r(v, EA_FAST_##ea(v, i), bits / 8);          \
		uint##bits##_t val;                                                       \
                                                                                          \
		if (__builtin_expect(!p, 0)) {                                            \
			return op##_rm##bits##G(v, i);                                    \
		}                                                                         \
		val = flags_##op##bits(v, get##bits(v, i->reg_at), *p);                   \
		DROP_##keep(val);                                                         \
		KEEP_##keep(set##bits(v, i->reg_at, val);) NEXT(v, i);                    \
	}

#define LOAD_FORM(op, keep, bits)                                                        \
	static const struct insn *op##_rm##bits##G(struct vcpu *v, const struct insn *i) \
	{                                                                                \
		uint##bits##_t val;                                                      \
                                                                                         \
		v->insn = i;                                                             \
		val = mmu_read##bits(v, ea_linear(v, i, bits / 8, MMU_R));               \
		val = flags_##op##bits(v, get##bits(v, i->reg_at), val);                 \
		DROP_##keep(val);                                                        \
		KEEP_##keep(set##bits(v, i->reg_at, val);) NEXT(v, i);                   \
	}                                                                                \
	LOAD_FAST(op, keep, bits, B)                                                     \
	LOAD_FAST(op, keep, bits, X)

#define MEM_FAST(op, name, keep, bits, ea, src)                                                   \
	static const struct insn *op##_##name##bits##ea(struct vcpu *v, const struct insn *i)     \
	{                                                                                         \
		uint64_t lin = EA_FAST_##ea(v, i);                                                \
		mem##bits *p =                                                                    \
			keep ? tlb_hit_w(v, lin, bits / 8) : (void *)tlb_hit_r(v, lin, bits / 8); \
		uint##bits##_t val;                                                               \
                                                                                                  \
		if (__builtin_expect(!p, 0)) {                                                    \
			return op##_##name##bits##G(v, i);                                        \
		}                                                                                 \
		val = flags_##op##bits(v, *p, src);                                               \
		DROP_##keep(val);                                                                 \
		KEEP_##keep(*p = val;) NEXT(v, i);                                                \
	}

/* A destination in memory: the right to write is checked before anything happens. */
#define MEM_SLOW(op, name, keep, bits, src)                                                  \
	static const struct insn *op##_##name##bits##G(struct vcpu *v, const struct insn *i) \
	{                                                                                    \
		enum mmu_access acc = keep ? MMU_RW : MMU_R;                                 \
		uint##bits##_t val;                                                          \
		uint64_t lin;                                                                \
                                                                                             \
		v->insn = i;                                                                 \
		lin = ea_linear(v, i, bits / 8, acc);                                        \
		KEEP_##keep(mmu_probe_write(v, lin, bits / 8);) val =                        \
			flags_##op##bits(v, mmu_read##bits(v, lin), src);                    \
		DROP_##keep(val);                                                            \
		KEEP_##keep(mmu_write##bits(v, lin, val);) NEXT(v, i);                       \
	}

#define MEM_FORM(op, name, keep, bits, src)    \
	MEM_SLOW(op, name, keep, bits, src)    \
	MEM_FAST(op, name, keep, bits, B, src) \
	MEM_FAST(op, name, keep, bits, X, src)

#define ALU_WIDTH(op, keep, bits)                                                             \
	static const struct insn *op##_rr##bits(struct vcpu *v, const struct insn *i)         \
	{                                                                                     \
		uint##bits##_t val =                                                          \
			flags_##op##bits(v, get##bits(v, i->rm_at), get##bits(v, i->reg_at)); \
                                                                                              \
		DROP_##keep(val);                                                             \
		KEEP_##keep(set##bits(v, i->rm_at, val);) NEXT(v, i);                         \
	}                                                                                     \
	static const struct insn *op##_ri##bits(struct vcpu *v, const struct insn *i)         \
	{                                                                                     \
		uint##bits##_t val =                                                          \
			flags_##op##bits(v, get##bits(v, i->rm_at), (uint##bits##_t)i->imm);  \
                                                                                              \
		DROP_##keep(val);                                                             \
		KEEP_##keep(set##bits(v, i->rm_at, val);) NEXT(v, i);                         \
	}                                                                                     \
	LOAD_FORM(op, keep, bits)                                                             \
	MEM_FORM(op, mr, keep, bits, get##bits(v, i->reg_at))                                 \
	MEM_FORM(op, mi, keep, bits, (uint##bits##_t)i->imm)

#define ALU_OP(op, keep)       \
	ALU_WIDTH(op, keep, 8) \
	ALU_WIDTH(op, keep, 16) ALU_WIDTH(op, keep, 32) ALU_WIDTH(op, keep, 64)

ALU_OP(add, 1)
ALU_OP(or, 1)
ALU_OP(adc, 1)
ALU_OP(sbb, 1)
ALU_OP(and, 1)
ALU_OP(sub, 1)
ALU_OP(xor, 1)
ALU_OP(cmp, 0)
ALU_OP(test, 0)

#define ROW(op, form)                                                 \
	{                                                             \
		op##form##8, op##form##16, op##form##32, op##form##64 \
	}
#define ROW_EA(op, form, ea)                                                          \
	{                                                                             \
		op##form##8##ea, op##form##16##ea, op##form##32##ea, op##form##64##ea \
	}
#define ALU_ROWS(op)                                                                \
	{                                                                           \
		ROW(op, _rr), ROW(op, _ri), ROW_EA(op, _rm, B), ROW_EA(op, _rm, X), \
			ROW_EA(op, _rm, G), ROW_EA(op, _mr, B), ROW_EA(op, _mr, X), \
			ROW_EA(op, _mr, G), ROW_EA(op, _mi, B), ROW_EA(op, _mi, X), \
			ROW_EA(op, _mi, G)                                          \
	}

enum { ALU_CMP = 7, ALU_TEST = 8, N_ALU = 9 };

static insn_fn *const alu_handlers[N_ALU][N_ALU_FORMS][4] = {
	ALU_ROWS(add), ALU_ROWS(or),  ALU_ROWS(adc), ALU_ROWS(sbb),  ALU_ROWS(and),
	ALU_ROWS(sub), ALU_ROWS(xor), ALU_ROWS(cmp), ALU_ROWS(test),
};

/* -- one operand -- */

#define UNARY_WIDTH(op, bits)                                                           \
	static const struct insn *op##_r##bits(struct vcpu *v, const struct insn *i)    \
	{                                                                               \
		set##bits(v, i->rm_at, flags_##op##bits(v, get##bits(v, i->rm_at), 0)); \
		NEXT(v, i);                                                             \
	}                                                                               \
	MEM_FORM(op, m, 1, bits, 0)

#define UNARY_OP(op) UNARY_WIDTH(op, 8) UNARY_WIDTH(op, 16) UNARY_WIDTH(op, 32) UNARY_WIDTH(op, 64)

UNARY_OP(inc)
UNARY_OP(dec)
UNARY_OP(not )
UNARY_OP(neg)

#define UNARY_ROWS(op)                                                               \
	{                                                                            \
		ROW_EA(op, _m, B), ROW_EA(op, _m, X), ROW_EA(op, _m, G), ROW(op, _r) \
	}

/* Order: INC, DEC, NOT, NEG. By enum ea_form; N_EA: a register. */
static insn_fn *const unary_handlers[4][N_EA + 1][4] = {
	UNARY_ROWS(inc),
	UNARY_ROWS(dec),
	UNARY_ROWS(not ),
	UNARY_ROWS(neg),
};

static unsigned width_index(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

static bool bind_alu(struct vcpu *v, struct insn *i, unsigned op, unsigned size, bool to_reg)
{
	enum ea_form ea = operand_bind(v, i, size);
	enum alu_form form;

	if (i->flags & INSN_LOCK) {
		i->fn = locked_alu(op, size, false);
		return true;
	}
	if (i->mod == 3) {
		form = ALU_RR;
		if (to_reg) {
			uint8_t at = i->reg_at;

			i->reg_at = i->rm_at;
			i->rm_at = at;
		}
	} else {
		form = (to_reg ? ALU_RM_B : ALU_MR_B) + ea;
	}
	i->fn = alu_handlers[op][form][width_index(size)];
	return true;
}

static bool bind_alu_imm(struct vcpu *v, struct insn *i, unsigned op, unsigned size)
{
	enum ea_form ea = operand_bind(v, i, size);

	if (i->flags & INSN_LOCK) {
		i->fn = locked_alu(op, size, true);
	} else {
		i->fn = alu_handlers[op][i->mod == 3 ? ALU_RI : ALU_MI_B + ea][width_index(size)];
	}
	return true;
}

/* AL, AX, EAX, RAX and an immediate. */
static bool bind_alu_acc(struct insn *i, unsigned op, unsigned size)
{
	i->rm_at = RAX * 8;
	i->fn = alu_handlers[op][ALU_RI][width_index(size)];
	return true;
}

static bool bind_unary(struct vcpu *v, struct insn *i, unsigned op, unsigned size)
{
	enum ea_form ea = operand_bind(v, i, size);

	if (i->flags & INSN_LOCK) {
		i->fn = locked_unary(op, size);
	} else {
		i->fn = unary_handlers[op][i->mod == 3 ? N_EA : ea][width_index(size)];
	}
	return true;
}

bool integer_bind_alu(struct vcpu *v, struct insn *i)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1;
	unsigned reg = i->modrm >> 3 & 7;

	if (i->map != MAP_1) {
		return false;
	}
	if (i->opcode < 0x40 && (i->opcode & 7) < 6) {
		if ((i->opcode & 7) >= 4) {
			return bind_alu_acc(i, i->opcode >> 3, size);
		}
		return bind_alu(v, i, i->opcode >> 3, size, i->opcode & 2);
	}
	switch (i->opcode) {
	case 0x40 ... 0x4f:
		i->rm_at = (i->opcode & 7) * 8;
		i->fn = unary_handlers[i->opcode >> 3 & 1][N_EA][width_index(i->opsize)];
		return true;
	case 0x80 ... 0x83: return bind_alu_imm(v, i, reg, size);
	case 0x84:
	case 0x85: return bind_alu(v, i, ALU_TEST, size, false);
	case 0xa8:
	case 0xa9: return bind_alu_acc(i, ALU_TEST, size);
	case 0xf6:
	case 0xf7:
		if (reg < 2) {
			return bind_alu_imm(v, i, ALU_TEST, size);
		}
		return reg < 4 && bind_unary(v, i, reg, size);
	case 0xfe: return bind_unary(v, i, reg, size);
	case 0xff: return reg < 2 && bind_unary(v, i, reg, size);
	}
	return false;
}
