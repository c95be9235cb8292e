/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The opcode tables: what the decoder must know of an opcode to find its length and whether it
 * exists. Intel SDM volume 2 appendix A; AMD APM volume 3 appendix A where the two differ.
 */
#ifndef VCPU_DECODE_TABLE_H
#define VCPU_DECODE_TABLE_H

#include <stdint.h>

/* Mandatory prefixes, as a set: which of them an opcode exists with. F2 and F3 win over 66. */
enum { NP = 1 << 0, P66 = 1 << 1, PF3 = 1 << 2, PF2 = 1 << 3, ANY = NP | P66 | PF3 | PF2 };

enum row_flag {
	ROW_MODRM = 1 << 0,
	ROW_I64 = 1 << 1,   /* does not exist in 64-bit mode */
	ROW_D64 = 1 << 2,   /* operand size is 64 bits by default in 64-bit mode */
	ROW_F64 = 1 << 3,   /* near branch: 64 bits always, but for 66 on AMD */
	ROW_LOCK = 1 << 4,  /* may be locked when its operand is memory */
	ROW_GROUP = 1 << 5, /* ModRM.reg extends the opcode: see group */
	ROW_CR = 1 << 6,    /* MOV CRn, DRn: ModRM.mod counts as 3 */
	ROW_ODD = 1 << 7,   /* what exists follows no pattern: see odd_forms() in decode.c */
};

/* Up to IMM_V, one sign-extended value. */
enum row_imm {
	IMM_NONE,
	IMM_8,
	IMM_REL8,
	IMM_Z, /* 2 or 4 bytes */
	IMM_RELZ,
	IMM_V, /* 2, 4 or 8 */
	IMM_8U,
	IMM_16,
	IMM_ENTER, /* 2 and 1 */
	IMM_MOFFS,
	IMM_FAR,
	IMM_8_8, /* EXTRQ, INSERTQ */
	IMM_TEST_B,
	IMM_TEST_Z, /* F6, F7: only TEST has one */
};

struct opcode_row {
	uint8_t flags;
	uint8_t imm;
	uint8_t mem, reg; /* prefixes it exists with, by form; both 0: no such opcode */
	uint8_t group;
};

enum group {
	GROUP_ALU,
	GROUP_POP,
	GROUP_SHIFT,
	GROUP_3,
	GROUP_4,
	GROUP_5,
	GROUP_6,
	GROUP_7,
	GROUP_8,
	GROUP_9,
	GROUP_MOV,
	GROUP_12,
	GROUP_14,
	GROUP_15,
	GROUP_SREG_TO,
	GROUP_SREG_FROM,
	GROUP_CR,
	N_GROUP
};

/* By ModRM.reg. */
struct group_row {
	uint8_t mem[8], reg[8];
	uint8_t lock;	  /* set of reg values */
	uint8_t f64, d64; /* sets of reg values: as ROW_F64, ROW_D64 */
};

extern const struct opcode_row opcode_table[4][256]; /* enum insn_map */
extern const struct group_row group_table[N_GROUP];
/* x87: by opcode & 7, which register forms (ModRM & 3f) and memory forms (reg) exist. */
extern const uint64_t x87_reg[8];
extern const uint8_t x87_mem[8];
/* 0F 01 with mod 3: prefixes by ModRM & 3f. */
extern const uint8_t group_7_reg[64];

#endif
