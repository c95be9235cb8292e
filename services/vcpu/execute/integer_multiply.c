/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MUL, IMUL, DIV, IDIV and decimal arithmetic. Divisions are checked for overflow before the host
 * does them. Intel SDM volume 2.
 */
#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"

typedef unsigned __int128 uint128_t;
typedef __int128 int128_t;

/* op on the accumulator and `val`; flags start as the guest's, for those the host leaves alone. */
#define WIDE_ASM(op, suffix, lo, hi, val, f)                          \
	asm(FLAGS_LOAD "xchgq %%rax, %[lo]\n\t" op suffix " %[b]\n\t" \
		       "xchgq %%rax, %[lo]" FLAGS_SAVE                \
	    : [lo] "+&r"(lo), "+&d"(hi), "+&a"(f)                     \
	    : [b] "r"(val)                                            \
	    : "cc")

#define MULTIPLY(op, bits, suffix)                                               \
	static const struct insn *op##bits(struct vcpu *v, const struct insn *i) \
	{                                                                        \
		uint64_t lo = v->gpr[RAX], hi = v->gpr[RDX], f = v->aflags;      \
		uint##bits##_t val;                                              \
                                                                                 \
		v->insn = i;                                                     \
		val = rm_read(v, i, bits / 8);                                   \
		WIDE_ASM(#op, suffix, lo, hi, val, f);                           \
		v->aflags = f;                                                   \
		if (bits == 8) {                                                 \
			set16(v, RAX * 8, lo);                                   \
		} else {                                                         \
			set##bits(v, RAX * 8, lo);                               \
			set##bits(v, RDX * 8, hi);                               \
		}                                                                \
		NEXT(v, i);                                                      \
	}
MULTIPLY(mul, 8, "b")
MULTIPLY(mul, 16, "w")
MULTIPLY(mul, 32, "l")
MULTIPLY(mul, 64, "q")
MULTIPLY(imul, 8, "b")
MULTIPLY(imul, 16, "w")
MULTIPLY(imul, 32, "l")
MULTIPLY(imul, 64, "q")

/* Does the quotient fit? hi:lo is the dividend, `bits` wide halves, val is not 0. */
static bool div_fits(uint64_t hi, uint64_t val)
{
	return hi < val;
}

static bool idiv_fits64(int64_t hi, uint64_t lo, int64_t val)
{
	int128_t dividend = (int128_t)((uint128_t)(uint64_t)hi << 64 | lo);
	uint128_t magnitude = dividend < 0 ? -(uint128_t)dividend : (uint128_t)dividend;
	uint64_t divisor = val < 0 ? -(uint64_t)val : (uint64_t)val;
	uint128_t limit; /* the quotient's magnitude must stay below it */

	/* Positive quotients go to 2^63 - 1, negative ones to -2^63. */
	limit = (uint128_t)divisor << 63;
	if ((dividend < 0) != (val < 0)) {
		limit += divisor;
	}
	return magnitude < limit;
}

static bool idiv_fits(int64_t dividend, int64_t val, unsigned bits)
{
	int64_t quotient;

	if (val == -1 && dividend == INT64_MIN) {
		return false;
	}
	quotient = dividend / val;
	return quotient >= -(INT64_C(1) << (bits - 1)) && quotient < INT64_C(1) << (bits - 1);
}

#define DIVIDE(op, bits, suffix, fits)                                           \
	static const struct insn *op##bits(struct vcpu *v, const struct insn *i) \
	{                                                                        \
		uint64_t lo = v->gpr[RAX], hi = v->gpr[RDX], f = v->aflags;      \
		uint##bits##_t val;                                              \
                                                                                 \
		v->insn = i;                                                     \
		val = rm_read(v, i, bits / 8);                                   \
		if (val == 0 || !(fits)) {                                       \
			raise_exception(v, VEC_DE);                              \
		}                                                                \
		WIDE_ASM(#op, suffix, lo, hi, val, f);                           \
		v->aflags = f;                                                   \
		if (bits == 8) {                                                 \
			set16(v, RAX * 8, lo);                                   \
		} else {                                                         \
			set##bits(v, RAX * 8, lo);                               \
			set##bits(v, RDX * 8, hi);                               \
		}                                                                \
		NEXT(v, i);                                                      \
	}
DIVIDE(div, 8, "b", div_fits(lo >> 8 & 0xff, val))
DIVIDE(div, 16, "w", div_fits(hi & 0xffff, val))
DIVIDE(div, 32, "l", div_fits(hi & 0xffffffff, val))
DIVIDE(div, 64, "q", div_fits(hi, val))
DIVIDE(idiv, 8, "b", idiv_fits((int16_t)lo, (int8_t)val, 8))
DIVIDE(idiv, 16, "w", idiv_fits((int32_t)((uint32_t)hi << 16 | (lo & 0xffff)), (int16_t)val, 16))
DIVIDE(idiv, 32, "l", idiv_fits((int64_t)(hi << 32 | (lo & 0xffffffff)), (int32_t)val, 32))
DIVIDE(idiv, 64, "q", idiv_fits64((int64_t)hi, lo, (int64_t)val))

#define ROW(op)                               \
	{                                     \
		op##8, op##16, op##32, op##64 \
	}

/* F6, F7 /4 to /7. */
static insn_fn *const group_3_handlers[4][4] = {ROW(mul), ROW(imul), ROW(div), ROW(idiv)};

/* IMUL with two and three operands. */
#define IMUL_HANDLER(name, bits, suffix, dst, src)                                 \
	static const struct insn *name##bits(struct vcpu *v, const struct insn *i) \
	{                                                                          \
		uint##bits##_t val;                                                \
		uint16_t f = v->aflags;                                            \
                                                                                   \
		v->insn = i;                                                       \
		val = dst;                                                         \
		asm(FLAGS_LOAD "imul" suffix " %[b], %[a]" FLAGS_SAVE              \
		    : [a] "+r"(val), "+&a"(f)                                      \
		    : [b] "r"((uint##bits##_t)(src))                               \
		    : "cc");                                                       \
		v->aflags = f;                                                     \
		set##bits(v, i->reg_at, val);                                      \
		NEXT(v, i);                                                        \
	}
#define IMUL_WIDTH(bits, suffix)                                                              \
	IMUL_HANDLER(imul_rm, bits, suffix, rm_read(v, i, bits / 8), get##bits(v, i->reg_at)) \
	IMUL_HANDLER(imul_imm, bits, suffix, rm_read(v, i, bits / 8), i->imm)
IMUL_WIDTH(16, "w")
IMUL_WIDTH(32, "l")
IMUL_WIDTH(64, "q")

static insn_fn *const imul_rm_handlers[4] = {NULL, imul_rm16, imul_rm32, imul_rm64};
static insn_fn *const imul_imm_handlers[4] = {NULL, imul_imm16, imul_imm32, imul_imm64};

/*
 * Decimal adjustments do not exist in the host's 64-bit mode: by the SDM's pseudocode. The flags it
 * leaves undefined are those of the addition or subtraction that adjusts, as AMD's processors have
 * them.
 */
static void set_carries(struct vcpu *v, bool cf, bool af)
{
	v->aflags = (v->aflags & ~(AF_CF | AF_AF)) | (cf ? AF_CF : 0) | (af ? AF_AF : 0);
}

static const struct insn *daa_das(struct vcpu *v, const struct insn *i)
{
	bool subtract = i->opcode == 0x2f, cf = v->aflags & AF_CF;
	uint8_t al = (uint8_t)v->gpr[RAX], adjust = 0;
	bool low = (al & 15) > 9 || (v->aflags & AF_AF), high = al > 0x99 || cf;

	adjust = (low ? 6 : 0) + (high ? 0x60 : 0);
	cf = high || (low && subtract && al < 6);
	set8(v, RAX * 8, subtract ? flags_sub8(v, al, adjust) : flags_add8(v, al, adjust));
	set_carries(v, cf, low);
	NEXT(v, i);
}

static const struct insn *aaa_aas(struct vcpu *v, const struct insn *i)
{
	uint16_t ax = (uint16_t)v->gpr[RAX];
	bool adjust = (ax & 15) > 9 || (v->aflags & AF_AF);
	uint16_t by = adjust ? 0x106 : 0;

	ax = i->opcode == 0x37 ? flags_add16(v, ax, by) : flags_sub16(v, ax, by);
	set16(v, RAX * 8, ax & 0xff0f);
	set_carries(v, adjust, adjust);
	NEXT(v, i);
}

static const struct insn *aam(struct vcpu *v, const struct insn *i)
{
	uint8_t al = (uint8_t)v->gpr[RAX], base = (uint8_t)i->imm;

	if (base == 0) {
		v->insn = i;
		raise_exception(v, VEC_DE);
	}
	set16(v, RAX * 8, al / base << 8 | al % base);
	flags_test8(v, al % base, al % base);
	set_carries(v, false, false);
	NEXT(v, i);
}

static const struct insn *aad(struct vcpu *v, const struct insn *i)
{
	uint16_t ax = (uint16_t)v->gpr[RAX];

	set16(v, RAX * 8, flags_add8(v, (uint8_t)ax, (uint8_t)((ax >> 8) * (uint8_t)i->imm)));
	NEXT(v, i);
}

bool integer_bind_multiply(struct vcpu *v, struct insn *i)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1;

	if (i->map == MAP_0F && i->opcode == 0xaf && !(i->flags & INSN_VEX)) {
		operand_bind(v, i, i->opsize);
		i->fn = imul_rm_handlers[__builtin_ctz(i->opsize)];
		return true;
	}
	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x27:
	case 0x2f: i->fn = daa_das; return true;
	case 0x37:
	case 0x3f: i->fn = aaa_aas; return true;
	case 0x69:
	case 0x6b:
		operand_bind(v, i, i->opsize);
		i->fn = imul_imm_handlers[__builtin_ctz(i->opsize)];
		return true;
	case 0xd4: i->fn = aam; return true;
	case 0xd5: i->fn = aad; return true;
	case 0xf6:
	case 0xf7:
		operand_bind(v, i, size);
		i->fn = group_3_handlers[(i->modrm >> 3 & 7) - 4][__builtin_ctz(size)];
		return true;
	}
	return false;
}
