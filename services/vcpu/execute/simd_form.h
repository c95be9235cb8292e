/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMX and SSE instructions that run by thunk, one row each: what their operands are.
 * Intel SDM volume 2.
 */
#ifndef VCPU_EXECUTE_SIMD_FORM_H
#define VCPU_EXECUTE_SIMD_FORM_H

#include "decode/insn.h"

enum simd_prefix { PFX_NP, PFX_66, PFX_F3, PFX_F2, N_PFX };

enum simd_form_flag {
	FORM_ALIGN = 1 << 0,	/* a memory operand must be aligned to 16 bytes */
	FORM_FP = 1 << 1,	/* may raise SSE floating-point exceptions */
	FORM_W = 1 << 2,	/* REX.W makes the general-purpose register and its memory 64-bit */
	FORM_W_MEM = 1 << 3,	/* ... memory too */
	FORM_IMM = 1 << 4,	/* imm8 */
	FORM_FLAGS = 1 << 5,	/* writes the arithmetic flags */
	FORM_XMM0 = 1 << 6,	/* XMM0 is an implicit source */
	FORM_STR = 1 << 7,	/* PCMPxSTRx: reads RAX and RDX, writes RCX or XMM0, and flags */
	FORM_STR_MASK = 1 << 8, /* ... XMM0 */
	FORM_TO_RM = 1 << 9,	/* the ModRM.rm operand is the destination */
	FORM_NO_DEST = 1 << 10, /* only flags are */
	FORM_MMX_MEM = 1 << 11, /* an MMX operand when it is a register: no MMX access otherwise */
	FORM_MMX_MEM_AMD = 1 << 12, /* ... on AMD's processors */
	FORM_ALIGN_INTEL = 1 << 13, /* FORM_ALIGN on Intel's processors, none on AMD's */
};

/* Operand in ModRM.reg or .rm: 'x' XMM, 'm' MMX, 'g' general-purpose, 'e' opcode extension. */
struct simd_form {
	uint8_t map, op;
	uint8_t pfx;
	char reg;
	char rm;     /* when it is a register; 0: must be memory */
	uint8_t mem; /* bytes of memory operand; 0: must be a register. With reg 'e': the extensions
		      * that exist, one bit each */
	uint16_t flags;
};

/* Mandatory prefix: F2 and F3 go before 66. */
static inline enum simd_prefix simd_prefix(const struct insn *i)
{
	if (i->flags & INSN_REP) {
		return PFX_F3;
	}
	if (i->flags & INSN_REPNE) {
		return PFX_F2;
	}
	return i->flags & INSN_OPSIZE ? PFX_66 : PFX_NP;
}

/* The form of i, or NULL. */
const struct simd_form *simd_form_find(const struct insn *i);

#endif
