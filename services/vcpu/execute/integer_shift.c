/* SPDX-License-Identifier: Apache-2.0 */
/* Shifts and rotates: ROL ROR RCL RCR SHL SHR SAR by 1, immediate or CL; SHLD, SHRD. */
#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"

enum { COUNT_IMM, COUNT_CL, N_COUNT };

#define COUNT_OF_IMM (uint8_t) i->imm
#define COUNT_OF_CL  (uint8_t) v->gpr[RCX]

#define SHIFT_HANDLER(op, bits, count)                                                      \
	static const struct insn *op##_r##bits##count(struct vcpu *v, const struct insn *i) \
	{                                                                                   \
		uint##bits##_t val = get##bits(v, i->rm_at);                                \
                                                                                            \
		set##bits(v, i->rm_at, flags_##op##bits(v, val, COUNT_OF_##count));         \
		NEXT(v, i);                                                                 \
	}                                                                                   \
	static const struct insn *op##_m##bits##count(struct vcpu *v, const struct insn *i) \
	{                                                                                   \
		uint##bits##_t val;                                                         \
		uint64_t lin;                                                               \
                                                                                            \
		v->insn = i;                                                                \
		lin = ea_linear(v, i, bits / 8, MMU_RW);                                    \
		mmu_probe_write(v, lin, bits / 8);                                          \
		val = flags_##op##bits(v, mmu_read##bits(v, lin), COUNT_OF_##count);        \
		mmu_write##bits(v, lin, val);                                               \
		NEXT(v, i);                                                                 \
	}
#define SHIFT_WIDTH(op, bits) SHIFT_HANDLER(op, bits, IMM) SHIFT_HANDLER(op, bits, CL)
#define SHIFT_OP(op)	      SHIFT_WIDTH(op, 8) SHIFT_WIDTH(op, 16) SHIFT_WIDTH(op, 32) SHIFT_WIDTH(op, 64)

SHIFT_OP(rol)
SHIFT_OP(ror)
SHIFT_OP(rcl)
SHIFT_OP(rcr)
SHIFT_OP(shl)
SHIFT_OP(shr)
SHIFT_OP(sar)

#define ROW(op, form, count)                                                                      \
	{                                                                                         \
		op##form##8##count, op##form##16##count, op##form##32##count, op##form##64##count \
	}
#define ROWS(op)                                          \
	{                                                 \
		{ROW(op, _r, IMM), ROW(op, _r, CL)},      \
		{                                         \
			ROW(op, _m, IMM), ROW(op, _m, CL) \
		}                                         \
	}

/* By ModRM.reg (6 is SHL again), in memory, kind of count, width. */
static insn_fn *const shift_handlers[8][2][N_COUNT][4] = {
	ROWS(rol), ROWS(ror), ROWS(rcl), ROWS(rcr), ROWS(shl), ROWS(shr), ROWS(shl), ROWS(sar),
};

#define DOUBLE_SHIFT(op, bits, suffix)                                           \
	static const struct insn *op##bits(struct vcpu *v, const struct insn *i) \
	{                                                                        \
		uint8_t count = i->opcode & 1 ? COUNT_OF_CL : COUNT_OF_IMM;      \
		uint64_t lin = 0;                                                \
		uint##bits##_t val;                                              \
		uint16_t f = v->aflags;                                          \
                                                                                 \
		v->insn = i;                                                     \
		if (i->mod == 3) {                                               \
			val = get##bits(v, i->rm_at);                            \
		} else {                                                         \
			lin = ea_linear(v, i, bits / 8, MMU_RW);                 \
			mmu_probe_write(v, lin, bits / 8);                       \
			val = mmu_read##bits(v, lin);                            \
		}                                                                \
		asm(FLAGS_LOAD #op suffix " %%cl, %[b], %[a]" FLAGS_SAVE         \
		    : [a] "+r"(val), "+&a"(f)                                    \
		    : [b] "r"(get##bits(v, i->reg_at)), "c"(count)               \
		    : "cc");                                                     \
		v->aflags = f;                                                   \
		if (i->mod == 3) {                                               \
			set##bits(v, i->rm_at, val);                             \
		} else {                                                         \
			mmu_write##bits(v, lin, val);                            \
		}                                                                \
		NEXT(v, i);                                                      \
	}
DOUBLE_SHIFT(shld, 16, "w")
DOUBLE_SHIFT(shld, 32, "l")
DOUBLE_SHIFT(shld, 64, "q")
DOUBLE_SHIFT(shrd, 16, "w")
DOUBLE_SHIFT(shrd, 32, "l")
DOUBLE_SHIFT(shrd, 64, "q")

static insn_fn *const double_handlers[2][4] = {
	{NULL, shld16, shld32, shld64},
	{NULL, shrd16, shrd32, shrd64},
};

static bool bind_shift(struct vcpu *v, struct insn *i)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1;
	unsigned count = i->opcode >= 0xd2 ? COUNT_CL : COUNT_IMM;

	operand_bind(v, i, size);
	if ((i->opcode & 0xfe) == 0xd0) {
		i->imm = 1;
	}
	i->fn = shift_handlers[i->modrm >> 3 & 7][i->mod != 3][count][__builtin_ctz(size)];
	return true;
}

bool integer_bind_shift(struct vcpu *v, struct insn *i)
{
	if (i->map == MAP_1) {
		switch (i->opcode) {
		case 0xc0:
		case 0xc1:
		case 0xd0 ... 0xd3: return bind_shift(v, i);
		}
		return false;
	}
	if (i->map == MAP_0F && (i->opcode & 0xf6) == 0xa4 && !(i->flags & INSN_VEX)) {
		operand_bind(v, i, i->opsize);
		i->fn = double_handlers[i->opcode >> 3 & 1][__builtin_ctz(i->opsize)];
		return true;
	}
	return false;
}
