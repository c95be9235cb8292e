/* SPDX-License-Identifier: Apache-2.0 */
/* How instructions of the blocks fuzzer are put together. */
#ifndef TESTS_FUZZ_BLOCKS_CODE_H
#define TESTS_FUZZ_BLOCKS_CODE_H

#include "blocks.h"
#include "cpu.h"
#include "decode/insn.h"

enum { PFX_NONE, PFX_66 = 0x66, PFX_F2 = 0xf2, PFX_F3 = 0xf3 };

/* ModRM.rm: a register or memory. */
struct bl_operand {
	bool mem, rip;
	uint8_t reg;		   /* or base; REG_NONE: none */
	uint8_t index, scale, seg; /* REG_NONE; seg: the prefix, 0: none */
	uint32_t disp;		   /* rip: linear address */
};

struct bl_code {
	uint8_t prefix, map, op;
	bool lock, w, vex, vex_l;
	uint8_t vvvv;
	bool evex;     /* vector registers up to 31 */
	uint8_t evex2; /* z, L'L, b and aaa */
	bool byte;     /* operands are byte registers */
	uint8_t imm_len;
	uint64_t imm;
};

/* Memory, mostly where there is some; vectors' wants to be aligned. */
struct bl_operand bl_memory(struct bl_gen *g, unsigned align);
struct bl_operand bl_register(unsigned reg);
/* A register to write to, or memory. And one to read. */
struct bl_operand bl_target(struct bl_gen *g, unsigned percent_memory);
struct bl_operand bl_source(struct bl_gen *g, unsigned percent_memory);
uint32_t bl_data_address(struct bl_gen *g, unsigned align);
void bl_put8(struct bl_item *i, unsigned val);
/* Appends one instruction with ModRM; NULL: no room. */
struct bl_item *bl_put(struct bl_gen *g, const char *name, struct bl_code c, unsigned reg,
		       struct bl_operand o);

/* -- blocks_loops.c -- */

/* What is in a loop that walks through memory; and behind it, pointers are where they were. */
void bl_walk(struct bl_gen *g);
void bl_walk_end(struct bl_gen *g);

/* -- blocks_calls.c -- */

/* A subroutine that others may call; such a call; calls and returns of all kinds. */
void bl_subroutine(struct bl_gen *g, unsigned depth);
void bl_call(struct bl_gen *g);
void bl_calls(struct bl_gen *g);

/* -- blocks_gen.c -- */

/* The item's last bytes lead to another. */
void bl_fix(struct bl_item *i, enum bl_fix kind, unsigned target);
/*
 * Branches ahead from items `from` and behind lead no further than to the next item: those from
 * within a loop or subroutine do not leave it but for its end, others do not lead into a loop.
 */
void bl_clamp(struct bl_gen *g, unsigned from);
/* A register to count with, or -1. */
int bl_counter(struct bl_gen *g);
void bl_body(struct bl_gen *g, unsigned n, unsigned depth);
void bl_jump_ahead(struct bl_gen *g);

/* -- blocks_vector.c -- */

void bl_x87(struct bl_gen *g);
void bl_vector(struct bl_gen *g);
void bl_mmx(struct bl_gen *g);
void bl_user_system(struct bl_gen *g);
void bl_kernel_system(struct bl_gen *g);
/* Takes a right of a key, or gives all. */
void bl_rights(struct bl_gen *g);

#endif
