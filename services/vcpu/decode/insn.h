/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoded x86 instruction, and the decoder: bytes to struct insn, a pure function.
 * Intel SDM volume 2 chapter 2 (instruction format) and appendix A (opcode maps).
 */
#ifndef VCPU_DECODE_INSN_H
#define VCPU_DECODE_INSN_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

enum insn_map { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };

enum insn_flag {
	INSN_LOCK = 1 << 0,
	INSN_REP = 1 << 1,    /* F3 */
	INSN_REPNE = 1 << 2,  /* F2 */
	INSN_OPSIZE = 1 << 3, /* 66 */
	INSN_MODRM = 1 << 4,
	INSN_VEX = 1 << 5, /* VEX or EVEX */
	INSN_VEX_L = 1 << 6,
	INSN_RIPREL = 1 << 7, /* disp is relative to the next instruction */
	INSN_REX = 1 << 8,    /* any REX: byte registers 4-7 are SPL..DIL */
	INSN_REX_W = 1 << 9,  /* REX.W or VEX.W */
	INSN_SEG_OVERRIDE = 1 << 10,
	INSN_END = 1 << 11,	  /* last of its trace: changes control flow or mode, or may */
	INSN_SEG_CHECK = 1 << 12, /* the memory operand needs limit and type checks */
	INSN_EVEX = 1 << 13,	  /* with INSN_VEX, without INSN_VEX_L */
};

/*
 * insn.evex: the last byte of an EVEX prefix, without V'.
 *   7 6  5 4 3 2..0
 *   z L'L  b 0 aaa
 */
enum insn_evex {
	EVEX_OPMASK = 7,
	EVEX_B = 1 << 4, /* broadcast of a memory operand; rounding or no exceptions without one */
	EVEX_LEN_SHIFT = 5,
	EVEX_Z = 1 << 7, /* elements not chosen become 0 */
};

struct vcpu;
struct insn;
struct trace;

/* Executes one instruction; how the next is reached is execute/'s business, see execute.h. */
typedef const struct insn *insn_fn(struct vcpu *v, const struct insn *i);

struct insn {
	insn_fn *fn;
	int64_t disp; /* sign-extended displacement (with EVEX's disp8 to scale), or moffs */
	uint64_t imm; /* sign-extended where the instruction does; far pointers: offset | sel << 32
		       */
	void *aux;    /* handler's own: a thunk, a link, a trace */
	uint16_t off; /* from the first byte of the trace */
	uint16_t flags; /* enum insn_flag */
	uint8_t len;	/* 1 to 15 */
	uint8_t map;	/* enum insn_map */
	uint8_t opcode;
	uint8_t opsize;	  /* effective operand size in bytes: 2, 4, 8 (byte forms: see opcode) */
	uint8_t addrsize; /* 2, 4, 8 */
	uint8_t mod;	  /* ModRM.mod; 3: rm is a register */
	uint8_t reg;	  /* ModRM.reg with REX.R, EVEX.R' */
	uint8_t rm; /* ModRM.rm with REX.B when mod is 3; without ModRM the opcode's low bits */
	uint8_t base, index; /* gpr numbers or REG_NONE, when mod is not 3 */
	uint8_t scale;	     /* shift count 0 to 3 */
	uint8_t seg;	     /* enum seg of the memory operand after overrides and defaults */
	uint8_t vvvv;	     /* VEX.vvvv, with EVEX.V', decoded to a register number */
	uint8_t evex;	     /* enum insn_evex */
	uint8_t imm2;	     /* ENTER's level, EXTRQ's second immediate, a gather's index vector */
	uint8_t imm_len;     /* bytes of immediate in the encoding */
	uint8_t modrm;	     /* the byte as encoded, and its place, for execution on the host */
	uint8_t modrm_off;
	uint8_t prefix_len; /* legacy prefixes + REX/VEX/EVEX before the opcode map bytes */
	/* execute/'s own. */
	uint8_t rest;	       /* instructions of the trace after this one */
	uint8_t reg_at, rm_at; /* byte offsets of operands in vcpu.gpr, AH..BH included */
	uint8_t base_at;       /* the same of the base; of trace_rip when RIP-relative */
	uint8_t vector_at;     /* vector register that a VEX instruction writes, plus 1; 0: none */
};

enum decode_result {
	DECODE_OK,
	DECODE_SHORT, /* needs more bytes than given: the next page, or #PF there */
	DECODE_UD,    /* no such instruction in this mode: #UD */
	DECODE_GP,    /* longer than 15 bytes: #GP(0) */
};

/*
 * Decodes the instruction at `code`, of which `n` bytes (at least 1) are readable, for `mode`
 * (MODE_* of cpu.h). Fills all of *i but fn, aux, off and execute/'s own. Pure: reads nothing but
 * its arguments. DECODE_UD still sets len when the length is known, else 0. LOCK on what cannot be
 * locked is DECODE_UD.
 */
enum decode_result insn_decode(struct insn *i, const uint8_t *code, unsigned n, uint32_t mode);

#endif
