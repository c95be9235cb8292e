/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blocks fuzzer: random programs, run from the same state by the interpreter and by the
 * translator on machines of their own, must leave the same registers, flags, x87/SSE/AVX state and
 * memory at each exception. The instruction that faulted is then skipped and the program goes on,
 * so that regions are entered at odd places. Programs are made by number, so that any can be run
 * again alone; one that differs is shortened by removing instructions.
 *
 * Linear memory: BL_CODE and BL_ALIAS are the same writable pages; BL_DATA has pages of which each
 * is writable, read-only, absent or of the other privilege; BL_STACK.
 */
#ifndef TESTS_FUZZ_BLOCKS_H
#define TESTS_FUZZ_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "encodings_gen.h"

#define BL_CODE	 0x10000000u
#define BL_ALIAS 0x11000000u
#define BL_DATA	 0x20000000u
#define BL_STACK 0x30000000u

enum {
	BL_CODE_PAGES = 4,
	BL_DATA_PAGES = 8,
	BL_STACK_PAGES = 2,
	BL_ITEMS = 384,
	BL_ITEM_BYTES = 24,
	BL_RUNS = 3,
	BL_END_VECTOR = 0x90, /* the INT at the end of a program */
};

enum bl_kind { BL_USER_64, BL_KERNEL_64, BL_USER_32, BL_KINDS };

/* What a program's data page is. */
enum bl_page {
	BL_PAGE_RW,
	BL_PAGE_RO,
	BL_PAGE_ABSENT,
	BL_PAGE_OTHER, /* user of a supervisor, supervisor's of a user */
	BL_PAGE_CODE,  /* the last page of BL_CODE */
};

/* What is filled in when the program's instructions have their addresses. */
enum bl_fix {
	BL_FIX_NONE,
	BL_FIX_REL8,	 /* to an item */
	BL_FIX_REL32,	 /* ... */
	BL_FIX_RIP_ITEM, /* displacement to byte `addr` of an item */
	BL_FIX_ABS_ITEM, /* its linear address */
	BL_FIX_RIP_DATA, /* displacement to linear `addr` */
};

/* An instruction, or some that belong together. */
struct bl_item {
	const char *name;
	uint8_t bytes[BL_ITEM_BYTES];
	uint8_t len, fix, fix_at;
	uint8_t patch_at; /* a byte that may be changed at run time; 0: none */
	uint16_t target;
	uint32_t addr;
	uint32_t linear; /* set by bl_layout() */
};

struct bl_state {
	uint64_t gpr[16];
	uint32_t rflags;
	uint64_t fs_base, gs_base;
	uint8_t fx[FZ_FX_LEN];
	uint8_t ymmh[FZ_YMMH_LEN];
	struct fz_zmm zmm;
};

struct bl_program {
	uint64_t seed;
	enum bl_kind kind;
	bool smap;
	bool keys;	/* data page k has key k % 4; rights change */
	unsigned hot;	/* translator.hot */
	uint64_t chaos; /* its seed, or 0 */
	unsigned n, n_runs;
	uint32_t start; /* linear address of the first instruction */
	enum bl_page page[BL_DATA_PAGES];
	struct bl_state state[BL_RUNS];
	struct bl_item item[BL_ITEMS];
	uint8_t code[BL_CODE_PAGES * 4096];
};

/* -- blocks_gen.c -- */

void bl_generate(struct bl_program *p, uint64_t seed, int kind);
/* Gives the items addresses and fills p->code. */
void bl_layout(struct bl_program *p);
/* Takes item k out. */
void bl_remove(struct bl_program *p, unsigned k);
void bl_print(FILE *f, const struct bl_program *p);

/* -- blocks_code.c: instructions that go straight on -- */

struct bl_gen {
	struct bl_program *p;
	struct fz_rng r;
	bool is_64, kernel;
	uint32_t reserved; /* registers that only address operands, or count a loop */
	uint8_t ptr[3];
	uint32_t ptr_at[3];
	uint8_t index;			   /* holds a small number */
	unsigned percent_calls;		   /* of what a body is made of */
	unsigned n_functions, function[8]; /* items that CALL may lead to */
};

/* Appends an empty item; NULL: no room. */
struct bl_item *bl_add(struct bl_gen *g, const char *name);
void bl_bytes(struct bl_item *i, unsigned n, const char *bytes);
void bl_put32(struct bl_item *i, uint32_t val);
/* MOV $val, %reg (32 bits). */
void bl_move_imm(struct bl_gen *g, unsigned reg, uint32_t val);
/* A register that may be written; one that may be read. */
unsigned bl_pick(struct bl_gen *g);
unsigned bl_any(struct bl_gen *g);
void bl_simple(struct bl_gen *g);

/* -- blocks_guest.c -- */

struct mobo_engine_ops;
struct bl_guest;
struct bl_stop {
	int vector; /* -1: shut down, -2: does not end */
	uint32_t error;
	uint64_t cr2, rip, rflags, rsp;
};

struct bl_guest *bl_guest_create(const struct mobo_engine_ops *engine);
/* The translator's: every block is compared with the interpreter by itself. */
bool bl_guest_verify(struct bl_guest *g);
void bl_guest_destroy(struct bl_guest *g);
void bl_guest_load(struct bl_guest *g, const struct bl_program *p);
void bl_guest_start(struct bl_guest *g, const struct bl_program *p, unsigned run);
void bl_guest_run(struct bl_guest *g, struct bl_stop *stop);
/* Back to the program behind an exception. */
void bl_guest_resume(struct bl_guest *g, const struct bl_stop *stop, uint64_t rip, uint64_t rflags);
/* Bytes of the instruction at rip, 0: none. */
unsigned bl_guest_insn_len(struct bl_guest *g, uint64_t rip);
/* Arithmetic flags that an exception's frame at rip need not have: nobody reads them from there. */
uint32_t bl_guest_unspecified(struct bl_guest *g, uint64_t rip);
/* Prints differences, to f if it is not NULL; true: there are some. */
bool bl_differ(struct bl_guest *a, struct bl_guest *b, const struct bl_stop *sa,
	       const struct bl_stop *sb, FILE *f);

#endif
