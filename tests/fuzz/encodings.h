/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encodings fuzzer: random instructions, run by the host CPU in a sandboxed child and by an
 * engine in user mode, must leave the same registers, flags, x87/SSE state and memory, or the same
 * fault. Cases are made by number from a seed, so that any can be run again alone. The translator
 * translates each before its first run; what it leaves to the interpreter is counted.
 *
 * Both sides see the same linear addresses: FZ_CODE holds one slot per case of a batch; FZ_DATA two
 * writable pages, then a read-only one, with nothing mapped before and after; FZ_CTX what the pads
 * use. An instruction is followed by a pad, code that notes where it is and jumps through
 * fz_ctx.landing; slots hold more pads for branches, and all else in them is INT3.
 */
#ifndef TESTS_FUZZ_ENCODINGS_H
#define TESTS_FUZZ_ENCODINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "decode/insn.h"

#define FZ_CODE 0x10000000u
#define FZ_DATA 0x20000000u
#define FZ_CTX	0x35a70000u /* far from what sums of corner values give */
#define FZ_ZMM	0x35a80000u /* native: struct fz_zmm twice, what goes in and what comes out */
#define FZ_LOW	0x35b60000u /* native: bridges between 32- and 64-bit code; guest: landing */

enum {
	FZ_BATCH = 256,
	FZ_SLOT = 256,	/* bytes of code per case */
	FZ_PAD_LOW = 0, /* offsets in a slot: pads, and the instruction */
	FZ_INSN = 64,
	FZ_PAD_HIGH = 160,
	FZ_CODE_LEN = FZ_BATCH * FZ_SLOT,
	FZ_RW_LEN = 0x2000,
	FZ_DATA_LEN = 0x3000,
	FZ_PATCH_MAX = 896,
	FZ_FX_LEN = 512,
	FZ_YMMH_LEN = 256, /* upper halves of YMM0..15; zeros where the host has no AVX */
	FZ_MAX_INSN = 15,
	FZ_CS64 = 0x33,
	FZ_CS32 = 0x23,
	FZ_SS = 0x2b, /* Linux's selectors */
};

/* What AVX-512 adds; zeros where the host has none. Offsets are known to assembly. */
struct fz_zmm {
	uint8_t zmmh[16][32];  /* 0: upper halves of ZMM0..15 */
	uint8_t zmm16[16][64]; /* 512 */
	uint64_t opmask[8];    /* 1536 */
};

struct fz_regs {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	uint64_t fs_base, gs_base;
	uint16_t seg[6]; /* enum seg; CS counts in results only */
	uint8_t fx[FZ_FX_LEN] __attribute__((aligned(16)));
	uint8_t ymmh[FZ_YMMH_LEN];
	struct fz_zmm zmm;
};

struct fz_case {
	uint64_t id;
	struct fz_regs in;
	uint32_t code_len; /* 0: nothing to run */
	uint8_t code[FZ_SLOT];
	uint32_t patch_off, patch_len; /* bytes of FZ_DATA that differ from the pristine content */
	uint8_t patch[FZ_PATCH_MAX];
	uint32_t mask_at; /* byte of FZ_DATA whose bit 1 is not compared: MXCSR_MASK; or 0 */
};

/* Changed 64-byte lines of the writable data, by their number. */
enum { FZ_LINES = FZ_RW_LEN / 64, FZ_LINES_KEPT = 16 };

struct fz_result {
	bool ran;   /* false: the child died */
	bool fault; /* trap, error and cr2 hold; regs.rip is the fault's */
	uint32_t trap, error;
	uint64_t cr2;
	struct fz_regs regs;
	bool translated; /* the translator's: its code was made before it ran */
	uint8_t form;	 /* enum form_kind of the instruction */
	/* RFLAGS that its fault's frame need not have: those it always writes; translate/flags.c */
	uint32_t unspecified;
	uint64_t mem_hash;
	uint32_t n_lines;
	uint8_t line_no[FZ_LINES_KEPT];
	uint8_t line[FZ_LINES_KEPT][64];
};

/* At FZ_CTX on both sides. Offsets are known to assembly in encodings_native.c. */
struct fz_ctx {
	uint64_t gpr[16];		   /* 0 */
	uint64_t rflags;		   /* 128 */
	uint64_t fs_base, gs_base;	   /* 136, 144 */
	uint64_t target;		   /* 152 */
	uint32_t far_offset, far_selector; /* 160 */
	uint64_t host_rsp, host_fs;	   /* 168, 176 */
	uint64_t landing;		   /* 184: pads jump through it */
	uint32_t pad_rip, rsvd0;	   /* 192: the pad that was reached */
	uint64_t out_gpr[16];		   /* 200 */
	uint64_t out_rflags;		   /* 328 */
	uint64_t out_fs_base, out_gs_base; /* 336, 344 */
	uint16_t out_seg[8];		   /* 352: enum seg */
	uint16_t in_seg[8];		   /* 368 */
	uint64_t far;			   /* 384: enter 32-bit code */
	uint32_t mxcsr;			   /* 392 */
	uint32_t avx;			   /* 396: the host has it */
	uint32_t upper;			   /* 400: some upper half is not 0 */
	uint32_t avx512;		   /* 404: the host has it */
	uint8_t rsvd1[104];
	uint8_t fx[FZ_FX_LEN];	       /* 512 */
	uint8_t out_fx[FZ_FX_LEN];     /* 1024 */
	uint8_t ymmh[FZ_YMMH_LEN];     /* 1536 */
	uint8_t out_ymmh[FZ_YMMH_LEN]; /* 1792 */
};

/* Shared between parent and child. */
struct fz_batch {
	_Atomic uint32_t go, done; /* futexes: number of the batch asked for, and finished */
	_Atomic uint32_t current;  /* case being run */
	uint32_t mode;		   /* 32 or 64 */
	struct fz_case cases[FZ_BATCH];
	struct fz_result results[FZ_BATCH];
};

/* -- encodings_gen.c, encodings_case.c -- */

/* Which instructions to run: a range of opcodes of one map, and a set of ModRM.reg. */
struct fz_filter {
	uint8_t map, first, last, regs;
	bool vex;
};

/*
 * Makes case `id` of `seed`, for slot id % FZ_BATCH; false: its instruction is one of those that
 * cannot be compared, or not of the filter (NULL: all). Then code_len is 0.
 */
bool fz_generate(struct fz_case *c, uint64_t seed, uint64_t id, uint32_t mode,
		 const struct fz_filter *filter);
/* Decodes the case's instruction for the reports: group key and fields. False: there is none. */
bool fz_decode(const struct fz_case *c, uint32_t mode, struct insn *i);
/* The state components that the guest has and the host lays out alike: AMD's put PKRU elsewhere. */
uint64_t fz_components(void);
/* The data pages' content before the case's patch. */
void fz_pristine(uint8_t *data);

/* -- encodings_excluded.c -- */

/* Why an instruction is left out, or NULL. */
const char *fz_excluded(const struct insn *i, uint32_t mode);
void fz_print_excluded(void);

/* -- encodings_mem.c -- */

/* Notes which lines of the writable data changed, and makes them pristine again. */
void fz_collect_memory(struct fz_result *r, const struct fz_case *c, uint8_t *data,
		       const uint8_t *pristine);
/* Lays out one slot: INT3s, pads, instruction. Returns nothing; code has FZ_SLOT bytes. */
void fz_build_slot(uint8_t *code, uint32_t slot_linear, const uint8_t *insn, unsigned len,
		   uint32_t mode);

/* -- encodings_native.c -- */

struct fz_native;
/* Starts the child. NULL: the host cannot (errno says why). */
struct fz_native *fz_native_start(uint32_t mode);
struct fz_batch *fz_native_batch(struct fz_native *n);
/* Lets the child run the batch; fz_native_wait() returns when results are there. */
void fz_native_go(struct fz_native *n);
void fz_native_wait(struct fz_native *n);
void fz_native_stop(struct fz_native *n);

/* -- encodings_guest.c -- */

struct fz_guest;
struct mobo_engine_ops;
/* NULL: no memory, or the engine cannot run here. */
struct fz_guest *fz_guest_create(uint32_t mode, const struct mobo_engine_ops *engine);
void fz_guest_destroy(struct fz_guest *g);
/* New code for a batch: FZ_CODE_LEN bytes in slots. */
void fz_guest_code(struct fz_guest *g, const struct fz_batch *b);
void fz_guest_run(struct fz_guest *g, const struct fz_case *c, unsigned slot, struct fz_result *r);

#endif
