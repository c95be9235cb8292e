/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The EVEX opcode maps: which encodings exist and what their operands are. Intel SDM volume 2 2.7
 * (the prefix), 2.8 (exception classes) and chapters 3 to 5.
 */
#ifndef VCPU_DECODE_EVEX_H
#define VCPU_DECODE_EVEX_H

#include "decode/insn.h"

/* Vector lengths that an instruction exists with, as a set; L'L is the bit's number. */
enum { EVEX_128 = 1, EVEX_256 = 2, EVEX_512 = 4 };

/* What of the processor's features an instruction belongs to. */
enum evex_feature {
	EVEX_AVX512, /* F, CD, BW, DQ and VL, which come together */
	EVEX_IFMA,
	EVEX_VBMI,
	EVEX_VBMI2,
	EVEX_VNNI,
	EVEX_BITALG,
	EVEX_VPOPCNTDQ,
	EVEX_BF16,
	EVEX_VAES,
	EVEX_VPCLMULQDQ,
	EVEX_GFNI,
	N_EVEX_FEATURE
};

enum evex_flag {
	EVEX_TO_RM = 1 << 0,	 /* the ModRM.rm operand is the destination */
	EVEX_NO_DEST = 1 << 1,	 /* only flags are */
	EVEX_ALIGNED = 1 << 2,	 /* a memory operand must be aligned to its size */
	EVEX_FP = 1 << 3,	 /* may raise SSE floating-point exceptions */
	EVEX_FLAGS = 1 << 4,	 /* writes the arithmetic flags */
	EVEX_IMM = 1 << 5,	 /* imm8 */
	EVEX_VVVV_REG = 1 << 6,	 /* vvvv is an operand only when ModRM.rm is a register */
	EVEX_MASK = 1 << 7,	 /* elements may be chosen by an opmask */
	EVEX_BROADCAST = 1 << 8, /* b with memory: one element for all */
	EVEX_ROUND = 1 << 9,	 /* b with a register: L'L is a rounding mode */
	EVEX_SAE = 1 << 10,	 /* b with a register: no exceptions */
	EVEX_FIXED = 1 << 11,	 /* the memory operand is the same at any length */
	EVEX_DUP = 1 << 12,	 /* ... 8 bytes at 128 bits: VMOVDDUP */
	EVEX_WHOLE = 1 << 13,	 /* memory is accessed whole, whatever is chosen */
	EVEX_REPEAT = 1 << 14,	 /* ... if any element is: VBROADCAST and kin */
	EVEX_PACK = 1 << 15,	 /* memory has as many elements as are chosen: VCOMPRESS, VEXPAND */
	EVEX_VSIB = 1 << 16,	 /* gather, scatter: the index is a vector */
	EVEX_NO_B = 1 << 17,	 /* b with a register means nothing, nor does L'L then */
	EVEX_ODD_W0 = 1 << 18,	 /* an odd ModRM.reg makes it the instruction of W 0 */
};

struct evex_row {
	char reg, rm, vvvv; /* 'x' vector, 'k' opmask, 'g' general, 'e' opcode extension, 0 none;
			     * rm 0: must be memory */
	uint8_t mem;	    /* bytes of memory operand at 512 bits; 0: must be a register */
	uint8_t el;	    /* bytes of one of its elements */
	uint8_t len;	    /* EVEX_128 ..; 0: no such opcode */
	uint8_t ext;	    /* with reg 'e': the ModRM.reg that exist, one bit each */
	uint8_t feature;    /* enum evex_feature */
	uint32_t flags;	    /* enum evex_flag */
};

/* By map (0F, 0F38, 0F3A), pp as encoded (none, 66, F3, F2), opcode and W. */
extern const struct evex_row evex_table[3][4][256][2];

static inline const struct evex_row *evex_find(unsigned map, unsigned pp, unsigned opcode, bool w,
					       unsigned modrm)
{
	const struct evex_row *pair = evex_table[map - MAP_0F][pp][opcode];

	return &pair[w && !(pair[1].flags & EVEX_ODD_W0 && modrm & 8)];
}

/* The row of i, which has INSN_EVEX. */
static inline const struct evex_row *evex_row(const struct insn *i)
{
	unsigned pp = i->flags & INSN_REPNE ? 3
		      : i->flags & INSN_REP ? 2
					    : !!(i->flags & INSN_OPSIZE);

	return evex_find(i->map, pp, i->opcode, i->flags & INSN_REX_W, i->modrm);
}

/* Bytes of the memory operand before broadcasting. */
static inline unsigned evex_full_mem(const struct insn *i, const struct evex_row *row)
{
	unsigned len = i->evex >> EVEX_LEN_SHIFT & 3;

	if (row->flags & EVEX_FIXED) {
		return row->mem;
	}
	return row->flags & EVEX_DUP && len == 0 ? 8 : row->mem >> (len < 2 ? 2 - len : 0);
}

/* Elements that an opmask chooses from, in a memory operand with EVEX_MASK and not EVEX_WHOLE. */
static inline unsigned evex_elements(const struct insn *i, const struct evex_row *row)
{
	return row->flags & EVEX_REPEAT ? (16u << (i->evex >> EVEX_LEN_SHIFT & 3)) / row->el
					: evex_full_mem(i, row) / row->el;
}

/* Bytes of the memory operand; a gather's: of one element. */
static inline unsigned evex_mem(const struct insn *i, const struct evex_row *row)
{
	return i->evex & EVEX_B && row->flags & EVEX_BROADCAST ? row->el : evex_full_mem(i, row);
}

/* What an 8-bit displacement counts in. */
static inline unsigned evex_disp8_scale(const struct insn *i, const struct evex_row *row)
{
	return row->flags & EVEX_PACK ? row->el : evex_mem(i, row);
}

#endif
