/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host instructions as bytes. Registers have the numbers of cpu.h's RAX..R15, on the host as in
 * the guest. Intel SDM volume 2 chapter 2.
 */
#ifndef VCPU_TRANSLATE_EMIT_H
#define VCPU_TRANSLATE_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"
#include "decode/insn.h"

/* Where bytes go. Behind `end` there is room for one more instruction. */
struct emit {
	uint8_t *p, *end;
	uint32_t vcpu; /* the address of struct vcpu, which lies in the lowest 2 GB */
	bool full;     /* something did not fit: what was emitted is worthless */
};

enum { EMIT_SLACK = 64 };

static inline void emit8(struct emit *e, uint8_t b)
{
	if (e->p >= e->end) {
		e->full = true;
		return;
	}
	*e->p++ = b;
}

static inline void emit_bytes(struct emit *e, const void *bytes, unsigned n)
{
	if (e->p + n > e->end) {
		e->full = true;
		return;
	}
	memcpy(e->p, bytes, n);
	e->p += n;
}

static inline void emit16(struct emit *e, uint16_t val)
{
	emit_bytes(e, &val, 2);
}

static inline void emit32(struct emit *e, uint32_t val)
{
	emit_bytes(e, &val, 4);
}

static inline void emit64(struct emit *e, uint64_t val)
{
	emit_bytes(e, &val, 8);
}

/* A ModRM.rm operand: a register, or base + index << scale + disp. */
struct rm {
	bool mem;
	uint8_t reg;	      /* register, or base; REG_NONE: none; RM_VCPU */
	uint8_t index, scale; /* REG_NONE: no index */
	int32_t disp;
};

static inline struct rm rm_reg(unsigned reg)
{
	return (struct rm){.reg = reg, .index = REG_NONE};
}

static inline struct rm rm_mem(unsigned base, int32_t disp)
{
	return (struct rm){.mem = true, .reg = base, .index = REG_NONE, .disp = disp};
}

static inline struct rm rm_index(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	return (struct rm){.mem = true, .reg = base, .index = index, .scale = scale, .disp = disp};
}

/* At an offset in struct vcpu, whose address is a constant of the code; and with an index. */
enum { RM_VCPU = 32 };

static inline struct rm rm_vcpu(int32_t offset)
{
	return rm_mem(RM_VCPU, offset);
}

static inline struct rm rm_vcpu_index(unsigned index, unsigned scale, int32_t offset)
{
	return rm_index(RM_VCPU, index, scale, offset);
}

#define VCPU_FIELD(field) rm_vcpu((int32_t)offsetof(struct vcpu, field))

/* What an instruction is but for its operands. */
struct op {
	uint8_t prefix;		/* 0x66, 0xf2, 0xf3 or 0 */
	bool lock, opsize;	/* LOCK; 66 beside a mandatory F2 or F3 */
	bool w;			/* REX.W */
	bool byte_reg, byte_rm; /* an 8-bit register: 4-7 are SPL..DIL, not AH..BH */
	bool high_reg, high_rm; /* an 8-bit register: 4-7 are AH..BH */
	uint8_t map, opcode;
	bool vex, vex_l;
	uint8_t vvvv;
	bool evex;     /* registers up to 31 */
	uint8_t evex2; /* z, L'L, b and aaa: enum insn_evex */
};

void emit_op(struct emit *e, struct op op, unsigned reg, struct rm rm);

/* -- the frequent ones; size in bytes: 4 or 8 -- */

static inline void emit_alu(struct emit *e, unsigned opcode, unsigned size, unsigned reg,
			    struct rm rm)
{
	emit_op(e, (struct op){.opcode = opcode, .w = size == 8}, reg, rm);
}

static inline void emit_mov(struct emit *e, unsigned to, unsigned from)
{
	emit_alu(e, 0x89, 8, from, rm_reg(to));
}

static inline void emit_mov32(struct emit *e, unsigned to, unsigned from)
{
	emit_alu(e, 0x89, 4, from, rm_reg(to));
}

static inline void emit_load(struct emit *e, unsigned size, unsigned reg, struct rm rm)
{
	emit_alu(e, 0x8b, size, reg, rm);
}

static inline void emit_store(struct emit *e, unsigned size, unsigned reg, struct rm rm)
{
	emit_alu(e, 0x89, size, reg, rm);
}

static inline void emit_lea(struct emit *e, unsigned size, unsigned reg, struct rm rm)
{
	emit_alu(e, 0x8d, size, reg, rm);
}

enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* op $imm, rm; imm is sign-extended. */
void emit_alu_imm(struct emit *e, enum alu_op op, unsigned size, struct rm rm, int32_t imm);

/* reg := imm, flags untouched, in the shortest form. */
void emit_const(struct emit *e, unsigned reg, uint64_t imm);

/* Branches with a 32-bit displacement to be set by emit_patch(); return its place. */
uint8_t *emit_jmp(struct emit *e);
uint8_t *emit_call(struct emit *e);
uint8_t *emit_jcc(struct emit *e, unsigned cc);

/* Lets the jump whose displacement is at `at` lead to `to`, both in the same view of memory. */
static inline void emit_patch(uint8_t *at, const uint8_t *to)
{
	int32_t disp = (int32_t)(to - (at + 4));

	memcpy(at, &disp, 4);
}

#endif
