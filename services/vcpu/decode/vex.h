/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VEX opcode maps: which encodings exist and what their operands are. Intel SDM volume 2 2.3
 * (the prefix), 2.4 (exception classes) and chapters 3 to 5.
 */
#ifndef VCPU_DECODE_VEX_H
#define VCPU_DECODE_VEX_H

#include "decode/insn.h"

/* Values of VEX.W and VEX.L that an instruction exists with, as a set. */
enum { VEX_W0 = 1, VEX_W1 = 2, VEX_WIG = 3, VEX_L0 = 4, VEX_L1 = 8, VEX_LIG = 12 };

/* What of the processor's features an instruction belongs to. */
enum vex_feature {
	VEX_AVX,
	VEX_AVX2,
	VEX_FMA,
	VEX_F16C,
	VEX_AES,
	VEX_VAES,
	VEX_PCLMULQDQ,
	VEX_VPCLMULQDQ,
	VEX_GFNI,
	VEX_AVX_VNNI,
	VEX_AVX512, /* on opmask registers */
	VEX_BMI,    /* on general registers: neither SIMD state nor its checks */
	N_VEX_FEATURE
};

enum vex_flag {
	VEX_TO_RM = 1 << 0,	/* the ModRM.rm operand is the destination */
	VEX_NO_DEST = 1 << 1,	/* only flags are */
	VEX_ALIGNED = 1 << 2,	/* a memory operand must be aligned to its size */
	VEX_FP = 1 << 3,	/* may raise SSE floating-point exceptions */
	VEX_FLAGS = 1 << 4,	/* writes the arithmetic flags */
	VEX_IMM = 1 << 5,	/* imm8 */
	VEX_IS4 = 1 << 6,	/* imm8 whose upper half is a fourth register, a source */
	VEX_VVVV_REG = 1 << 7,	/* VEX.vvvv is an operand only when ModRM.rm is a register */
	VEX_W_MEM = 1 << 8,	/* W makes the memory operand, and a general register, 64-bit */
	VEX_STR = 1 << 9,	/* PCMPxSTRx: reads RAX and RDX, writes RCX or XMM0, and flags */
	VEX_STR_MASK = 1 << 10, /* ... XMM0 */
	VEX_MASKED = 1 << 11,	/* reads or writes only the elements that vvvv chooses */
	VEX_VSIB = 1 << 12,	/* gather: the index is a vector, vvvv the mask */
	VEX_REG_AVX2 = 1 << 13, /* with a register for ModRM.rm it belongs to AVX2 */
	VEX_XMM_RM = 1 << 14,	/* the register form of ModRM.rm is an XMM register at any L */
	VEX_IMPLICIT = 1 << 15, /* stores to rDI */
	VEX_W_MEM4 = 1 << 16,	/* W makes the memory operand four times as wide */
};

struct vex_row {
	char reg, rm, vvvv; /* 'x' XMM or YMM, 'k' opmask, 'g' general, 'e' opcode extension, 0
			     * none; rm 0: must be memory */
	uint8_t mem[2];	    /* bytes of memory operand by VEX.L; 0: must be a register */
	uint8_t ext;	    /* with reg 'e': the ModRM.reg that exist, one bit each */
	uint8_t wl;	    /* VEX_W0 ..; 0: no such opcode */
	uint8_t feature;    /* enum vex_feature: low half with VEX.L 0, high half with 1 */
	uint32_t flags;	    /* enum vex_flag */
};

/* By map (0F, 0F38, 0F3A), pp as encoded (none, 66, F3, F2) and opcode. */
extern const struct vex_row vex_table[3][4][256];

/* The row of i, which has INSN_VEX and not INSN_EVEX. */
static inline const struct vex_row *vex_row(const struct insn *i)
{
	unsigned pp = i->flags & INSN_REPNE ? 3
		      : i->flags & INSN_REP ? 2
					    : !!(i->flags & INSN_OPSIZE);

	return &vex_table[i->map - MAP_0F][pp][i->opcode];
}

static inline enum vex_feature vex_feature(const struct insn *i, const struct vex_row *row)
{
	if (row->flags & VEX_REG_AVX2 && i->mod == 3) {
		return VEX_AVX2;
	}
	return i->flags & INSN_VEX_L ? row->feature >> 4 : row->feature & 15;
}

#endif
