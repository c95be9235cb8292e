/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A protected-mode or long-mode machine for tests of the system half of the CPU: descriptor tables
 * of which every entry is the test's to fill, an IDT with one handler address per vector, stacks
 * for each ring. Functions of execute/ are called as if by an instruction at RIG_INSN; what they
 * raise is delivered through that IDT, where the test reads it off.
 */
#ifndef TESTS_ASM_SYSTEM_RIG_H
#define TESTS_ASM_SYSTEM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "execute/execute.h"
#include "execute/segment.h"
#include "fake_board.h"

enum {
	RIG_GDT = 0x1000,
	RIG_IDT = 0x2000,
	RIG_LDT = 0x3000,
	RIG_TSS = 0x4000,
	RIG_PAGES =
		0x8000, /* page tables: PML4, PDPT, PD; everything is mapped, user and writable */
	RIG_INSN = 0x20000,    /* the running instruction, 3 bytes long */
	RIG_HANDLER = 0x30000, /* + vector * 16 */
	RIG_STACK = 0x50000,   /* of the current ring */
	RIG_STACK0 = 0x60000,  /* of ring n: + n * 0x1000 */
	RIG_RAM = 0x200000,

	/* Selectors: flat code and data of ring n at + n * 8. */
	RIG_CODE = 0x10,
	RIG_DATA = 0x30,
	RIG_CODE64 = 0x50,
	RIG_TSS_SEL = 0x70,
	RIG_LDT_SEL = 0x80,
	RIG_FREE = 0x100, /* from here on: the test's */
};

struct rig {
	const struct mobo_engine_ops *engine;
	struct board board;
	struct vcpu *v;
	struct insn insn;
};

/* What a function under test came to. */
struct outcome {
	int vector; /* -1: it returned */
	uint32_t error;
};

static inline uint64_t rig_descriptor(uint32_t base, uint32_t limit20, uint32_t attr)
{
	return (limit20 & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	       (uint64_t)(attr & 0xff) << 40 | (uint64_t)(limit20 >> 16 & 15) << 48 |
	       (uint64_t)(attr >> 12 & 15) << 52 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t rig_gate(uint16_t sel, uint32_t offset, unsigned type, unsigned dpl,
				unsigned params)
{
	return (offset & 0xffff) | (uint64_t)sel << 16 | (uint64_t)params << 32 |
	       (uint64_t)(type | dpl << 5 | 0x80) << 40 | (uint64_t)(offset >> 16) << 48;
}

static inline void rig_poke64(struct rig *r, uint32_t gpa, uint64_t val)
{
	memcpy(r->board.ram + gpa, &val, 8);
}

static inline uint64_t rig_peek(struct rig *r, uint32_t gpa, unsigned size)
{
	uint64_t val = 0;

	memcpy(&val, r->board.ram + gpa, size);
	return val;
}

static inline void rig_gdt(struct rig *r, uint16_t sel, uint64_t raw)
{
	rig_poke64(r, RIG_GDT + (sel & 0xfff8), raw);
}

static inline void rig_tables(struct rig *r, bool lng)
{
	unsigned vec, n;

	for (n = 0; n < 4; n++) {
		rig_gdt(r, RIG_CODE + n * 8, rig_descriptor(0, 0xfffff, 0xc09b | n << 5));
		rig_gdt(r, RIG_DATA + n * 8, rig_descriptor(0, 0xfffff, 0xc093 | n << 5));
		rig_gdt(r, RIG_CODE64 + n * 8, rig_descriptor(0, 0xfffff, 0xa09b | n << 5));
		if (lng) {
			rig_poke64(r, RIG_TSS + 4 + n * 8, RIG_STACK0 + n * 0x1000);
		} else {
			rig_poke64(r, RIG_TSS + 4 + n * 8,
				   (RIG_STACK0 + n * 0x1000) | (uint64_t)(RIG_DATA + n * 8 + n)
								       << 32);
		}
	}
	for (vec = 0; vec < 256; vec++) {
		uint32_t handler = RIG_HANDLER + vec * 16;

		if (lng) {
			rig_poke64(r, RIG_IDT + vec * 16, rig_gate(RIG_CODE64, handler, 14, 3, 0));
			rig_poke64(r, RIG_IDT + vec * 16 + 8, 0);
		} else {
			rig_poke64(r, RIG_IDT + vec * 8, rig_gate(RIG_CODE, handler, 14, 3, 0));
		}
	}
}

/* Ring `cpl` of 32-bit protected mode, or of 64-bit mode. */
static inline void rig_enter(struct rig *r, bool lng, unsigned cpl)
{
	struct vcpu *v = r->v;
	uint16_t code = (uint16_t)((lng ? RIG_CODE64 : RIG_CODE) + cpl * 8 + cpl);
	uint16_t data = (uint16_t)(RIG_DATA + cpl * 8 + cpl);

	v->cr0 = CR0_PE | CR0_ET | CR0_NE | (lng ? CR0_PG : 0);
	v->cr4 = lng ? CR4_PAE : 0;
	v->efer = lng ? EFER_LME | EFER_LMA | EFER_SCE : 0;
	v->cr3 = RIG_PAGES;
	v->gdtr = (struct desc_table){RIG_GDT, 0xfff};
	v->idtr = (struct desc_table){RIG_IDT, 0xfff};
	v->seg[SEG_LDTR] = (struct segment){RIG_LDT, 0xfff, 0x82, RIG_LDT_SEL};
	v->seg[SEG_TR] = (struct segment){RIG_TSS, 0xfff, 0x8b, RIG_TSS_SEL};
	v->seg[SEG_CS] = (struct segment){0, UINT32_MAX, (lng ? 0xa09b : 0xc09b) | cpl << 5, code};
	v->seg[SEG_SS] = (struct segment){0, UINT32_MAX, 0xc093 | cpl << 5, data};
	v->seg[SEG_DS] = v->seg[SEG_ES] = v->seg[SEG_FS] = v->seg[SEG_GS] = v->seg[SEG_SS];
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[RSP] = RIG_STACK;
	v->cpl = (uint8_t)cpl;
	v->rflags = FL_1;
	v->aflags = aflags_from_rflags(FL_1);
	v->shadow = 0;
	v->shutdown = false;
	v->delivering = -1;
	v->pending_db = 0;
	v->rip = v->trace_rip = RIG_INSN;
	r->insn = (struct insn){.len = 3, .opsize = lng ? 8 : 4, .map = MAP_1, .opcode = 0x90};
	v->insn = &r->insn;
	mmu_flush_all(v);
	vcpu_update_mode(v);
}

static inline int rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	if (fake_board_init(&r->board, RIG_RAM)) {
		return -1;
	}
	r->engine = fake_board_engine;
	r->v = fake_board_add_vcpu(&r->board);
	rig_poke64(r, RIG_PAGES, (RIG_PAGES + 0x1000) | 7);
	rig_poke64(r, RIG_PAGES + 0x1000, (RIG_PAGES + 0x2000) | 7);
	rig_poke64(r, RIG_PAGES + 0x2000, 0x87);
	rig_tables(r, false);
	return r->v ? 0 : -1;
}

/* After the function under test raised: which vector's handler was entered, and its error code. */
static inline struct outcome rig_raised(struct rig *r)
{
	struct vcpu *v = r->v;
	struct outcome o = {-2, 0};

	if (v->rip >= RIG_HANDLER && v->rip < RIG_HANDLER + 256 * 16) {
		o.vector = (int)(v->rip - RIG_HANDLER) / 16;
		if (o.vector == VEC_DF || (o.vector >= VEC_TS && o.vector <= VEC_PF) ||
		    o.vector == VEC_AC) {
			o.error = (uint32_t)rig_peek(r, (uint32_t)v->gpr[RSP], 4);
		}
	}
	return o;
}

/* Runs an expression as the instruction's work; *out is what it came to. */
#define RIG_TRY(r, out, expr)                            \
	do {                                             \
		if (setjmp((r)->v->unwind) == 0) {       \
			expr;                            \
			(out) = (struct outcome){-1, 0}; \
		} else {                                 \
			(out) = rig_raised(r);           \
		}                                        \
	} while (0)

/*
 * Runs machine code in the state rig_enter() made, to its end or to the exception that stops it:
 * every handler halts. Raised error codes as in rig_raised().
 */
static inline struct outcome rig_run(struct rig *r, const void *code, unsigned len)
{
	static const uint8_t end[] = {0xcd, 0x40}; /* INT 40 */
	struct outcome o;

	memcpy(r->board.ram + RIG_INSN, code, len);
	memcpy(r->board.ram + RIG_INSN + len, end, sizeof(end));
	memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	r->engine->map_changed(r->v);
	r->engine->code_written(r->v, 0, RIG_RAM);
	r->v->rip = RIG_INSN;
	r->v->insn = NULL;
	r->v->halted = false;
	r->v->wait_sipi = false;
	if (r->engine->run(r->v) != MOBO_EXIT_HALT) {
		return (struct outcome){-2, 0};
	}
	o = rig_raised(r);
	return o.vector == 0x40 ? (struct outcome){-1, 0} : o;
}

/* The same with the bytes given as a list. */
#define RIG_CODE_RUN(r, ...) \
	rig_run((r), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#endif
