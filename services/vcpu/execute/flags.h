/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic by the host's own instructions, so that every flag, undefined ones too, is a real
 * processor's. Flags come out as `lahf; seto %al` leaves them in AX: see vcpu.aflags.
 */
#ifndef VCPU_EXECUTE_FLAGS_H
#define VCPU_EXECUTE_FLAGS_H

#include "cpu.h"

#define FLAGS_SAVE "\n\tlahf\n\tseto %%al"
/* AX -> host flags: adding 7f to a set OF overflows; SAHF does the others. */
#define FLAGS_LOAD "addb $0x7f, %%al\n\tsahf\n\t"

/* aflags bits. */
enum {
	AF_CF = 1 << 8,
	AF_PF = 1 << 10,
	AF_AF = 1 << 12,
	AF_ZF = 1 << 14,
	AF_SF = 1 << 15,
	AF_OF = 1 << 0
};

/* a OP b, flags written whole. */
#define FLAGS_DEFINE2(name, op, bits, suffix)                                     \
	static inline uint##bits##_t name##bits(struct vcpu *v, uint##bits##_t a, \
						uint##bits##_t b)                 \
	{                                                                         \
		uint16_t f;                                                       \
                                                                                  \
		asm(op suffix " %[b], %[a]" FLAGS_SAVE                            \
		    : [a] "+q"(a), "=&a"(f)                                       \
		    : [b] "q"(b)                                                  \
		    : "cc");                                                      \
		v->aflags = f;                                                    \
		return a;                                                         \
	}
/* The same with CF as input. */
#define FLAGS_DEFINE2C(name, op, bits, suffix)                                    \
	static inline uint##bits##_t name##bits(struct vcpu *v, uint##bits##_t a, \
						uint##bits##_t b)                 \
	{                                                                         \
		uint16_t f;                                                       \
                                                                                  \
		asm("btl $8, %k[in]\n\t" op suffix " %[b], %[a]" FLAGS_SAVE       \
		    : [a] "+q"(a), "=&a"(f)                                       \
		    : [b] "q"(b), [in] "q"((uint32_t)v->aflags)                   \
		    : "cc");                                                      \
		v->aflags = f;                                                    \
		return a;                                                         \
	}
/* OP a, keeping CF: also right for NEG and NOT, which write it or nothing. */
#define FLAGS_DEFINE1(name, op, bits, suffix)                                     \
	static inline uint##bits##_t name##bits(struct vcpu *v, uint##bits##_t a, \
						uint##bits##_t b)                 \
	{                                                                         \
		uint16_t f;                                                       \
                                                                                  \
		asm("btl $8, %k[in]\n\t" op suffix " %[a]" FLAGS_SAVE             \
		    : [a] "+q"(a), "=&a"(f)                                       \
		    : [in] "q"((uint32_t)v->aflags)                               \
		    : "cc");                                                      \
		v->aflags = f;                                                    \
		return a;                                                         \
	}
/* a by count b: flags stay where the count is 0, and most of them in rotates. */
#define FLAGS_DEFINE_SHIFT(name, op, bits, suffix)                                           \
	static inline uint##bits##_t name##bits(struct vcpu *v, uint##bits##_t a, uint8_t b) \
	{                                                                                    \
		uint16_t f = v->aflags;                                                      \
                                                                                             \
		asm(FLAGS_LOAD op suffix " %[b], %[a]" FLAGS_SAVE                            \
		    : [a] "+q"(a), "+&a"(f)                                                  \
		    : [b] "c"(b)                                                             \
		    : "cc");                                                                 \
		v->aflags = f;                                                               \
		return a;                                                                    \
	}
#define FLAGS_WIDTHS(define, name, op)                                               \
	define(name, op, 8, "b") define(name, op, 16, "w") define(name, op, 32, "l") \
		define(name, op, 64, "q")

FLAGS_WIDTHS(FLAGS_DEFINE2, flags_add, "add")
FLAGS_WIDTHS(FLAGS_DEFINE2, flags_or, "or")
FLAGS_WIDTHS(FLAGS_DEFINE2C, flags_adc, "adc")
FLAGS_WIDTHS(FLAGS_DEFINE2C, flags_sbb, "sbb")
FLAGS_WIDTHS(FLAGS_DEFINE2, flags_and, "and")
FLAGS_WIDTHS(FLAGS_DEFINE2, flags_sub, "sub")
FLAGS_WIDTHS(FLAGS_DEFINE2, flags_xor, "xor")
FLAGS_WIDTHS(FLAGS_DEFINE2, flags_cmp, "cmp")
FLAGS_WIDTHS(FLAGS_DEFINE2, flags_test, "test")
FLAGS_WIDTHS(FLAGS_DEFINE1, flags_inc, "inc")
FLAGS_WIDTHS(FLAGS_DEFINE1, flags_dec, "dec")
FLAGS_WIDTHS(FLAGS_DEFINE1, flags_neg, "neg")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_rol, "rol")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_ror, "ror")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_rcl, "rcl")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_rcr, "rcr")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_shl, "shl")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_shr, "shr")
FLAGS_WIDTHS(FLAGS_DEFINE_SHIFT, flags_sar, "sar")

/* NOT: no flags. */
#define FLAGS_DEFINE_NOT(bits)                                                         \
	static inline uint##bits##_t flags_not##bits(struct vcpu *v, uint##bits##_t a, \
						     uint##bits##_t b)                 \
	{                                                                              \
		return ~a;                                                             \
	}
FLAGS_DEFINE_NOT(8)
FLAGS_DEFINE_NOT(16)
FLAGS_DEFINE_NOT(32)
FLAGS_DEFINE_NOT(64)

/* Condition codes, SDM volume 1 appendix B, on aflags. Odd ones negate. */
static inline bool condition(uint16_t f, unsigned cc)
{
	bool less = (f >> 15 ^ f) & 1, is;

	switch (cc >> 1) {
	case 0: is = f & AF_OF; break;
	case 1: is = f & AF_CF; break;
	case 2: is = f & AF_ZF; break;
	case 3: is = f & (AF_CF | AF_ZF); break;
	case 4: is = f & AF_SF; break;
	case 5: is = f & AF_PF; break;
	case 6: is = less; break;
	default: is = less || (f & AF_ZF); break;
	}
	return is ^ (cc & 1);
}

#endif
