/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operands of an MMX, SSE or AVX instruction are, for engines that execute it on the host
 * by copying its encoding. Intel SDM volume 2; volume 2 2.4 (alignment and exceptions).
 */
#ifndef VCPU_EXECUTE_SIMD_OPERANDS_H
#define VCPU_EXECUTE_SIMD_OPERANDS_H

#include "decode/insn.h"

struct simd_operands {
	/*
	 * Operands by place in the encoding: 'x' XMM, YMM or ZMM register, 'm' MMX register, 'g'
	 * general register, 'e' opcode extension (not an operand), 'k' opmask register, 0 none. rm:
	 * what it is when a register.
	 */
	char reg, rm, vvvv;
	uint8_t mem;		  /* bytes accessed when rm is memory; 0: must be a register */
	bool mem_read, mem_write; /* when rm is memory */
	bool reg_write, rm_write, vvvv_write; /* the operand is written; rm: when a register */
	uint8_t align; /* bytes a memory operand must be aligned to, else #GP(0); 1: any */
	bool flags;    /* writes the arithmetic flags, all six */
	bool fp;       /* may raise SSE floating-point exceptions */
	bool avx; /* VEX: #UD without CR4.OSXSAVE and XCR0's SSE and AVX, CR4.OSFXSR is not asked */
	bool avx512; /* EVEX, or on opmask registers: ... and all of XCR0's AVX-512 */
	/* An opmask chooses what of memory is accessed: the rest must not fault. */
	bool masked;
	bool mmx; /* touches x87/MMX state: #MF, and the state becomes an MMX one */
	/*
	 * Runs on the host as it is, with nothing but general registers that ModRM names and the
	 * memory operand replaced. Not so: implicit general registers (PCMPxSTRx, MASKMOVDQU),
	 * masked memory, gathers, MXCSR.
	 */
	bool copy;
};

/*
 * Fills *o for i, which insn_decode() has accepted. False, *o undefined: not a SIMD instruction
 * that the processor model has; what has no place among them are x87, FXSAVE and its kind,
 * prefetches and fences. Any thread.
 */
bool simd_operands(const struct insn *i, struct simd_operands *o);

#endif
