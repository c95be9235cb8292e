/* SPDX-License-Identifier: Apache-2.0 */
/* Programs in 4-KB pages at any linear address, on the interpreter and on the translator. */
#ifndef TESTS_ASM_RETURNS_RIG_H
#define TESTS_ASM_RETURNS_RIG_H

#include "two_rigs.h"

#include <signal.h>

#include "mmu/mmu.h"
#include "translate/translate.h"

enum {
	ROUNDS = 4,
	TABLES = 0x70000,
	DATA = 0xb0000,
	CODE = 0xc0000,
	PAGES = 4,
	STACK = 0x1f0000,
	AT = 0x400000,
	USER_AT = 0x200000, /* all memory again, for ring 3 */
	END = 0x40,	    /* the vector that ends a program */
	PTE_P = 1,
	PTE_W = 2,
	PTE_U = 4,
	NO_RETURN = 0xffffffff,
};

/* PROGRAM(name, "bits", "text"): its bytes are name to name_end. */
#define PROGRAM(name, bits, text)                                               \
	asm(".pushsection .rodata\n.code" bits "\n" #name ":\n" text "\n" #name \
	    "_end:\n.code64\n.popsection\n");                                   \
	extern const uint8_t name[], name##_end[]

struct guest {
	const uint8_t *code, *end;
	uint64_t at, again_at; /* linear addresses of its first page; 0: none */
	unsigned cpl;
	bool bits32;
	bool smap, user_pages; /* ... for ring 0 */
	uint64_t rbx, rsi;
	int vector; /* one whose handler is of the program, at offset `handler`; -1: none */
	unsigned handler;
};

#define GUEST(name)                                                       \
	{                                                                 \
		.code = (name), .end = name##_end, .at = AT, .vector = -1 \
	}
#define GUEST_32(name)                                                          \
	{                                                                       \
		.code = (name), .end = name##_end, .bits32 = true, .vector = -1 \
	}

/* The translator's handlers, which cmocka puts its own in place of. */
static struct sigaction on_segv, on_fpe;

static inline int set_up(void **state)
{
	(void)state;
	if (rigs_init()) {
		return -1;
	}
	return sigaction(SIGSEGV, NULL, &on_segv) || sigaction(SIGFPE, NULL, &on_fpe) ? -1 : 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	return rigs_finish();
}

/* -- the translator's stack of return addresses -- */

static inline uint64_t base(void)
{
	return (uint64_t)(uintptr_t)rigs[1].v - 16;
}

/* How many are there. */
static inline uint64_t depth(void)
{
	return (base() - rigs[1].v->code_rsp) / 8;
}

/* Has a return of the last run not led where it was predicted to? */
static inline bool has_missed(void)
{
	return rigs[1].v->returns_by != NO_RETURN;
}

/* -- memory -- */

/* The entry's guest-physical address. */
static inline uint32_t map_page(struct rig *r, uint64_t lin, uint32_t gpa, unsigned flags)
{
	uint32_t table = RIG_PAGES, at;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		at = table + (uint32_t)(lin >> shift & 511) * 8;
		if (!(rig_peek(r, at, 8) & PTE_P)) {
			rig_poke64(r, TABLES, rig_peek(r, TABLES, 8) + 4096);
			rig_poke64(r, at, (TABLES + rig_peek(r, TABLES, 8)) | 7);
		}
		table = (uint32_t)rig_peek(r, at, 8) & ~4095u;
	}
	at = table + (uint32_t)(lin >> 12 & 511) * 8;
	rig_poke64(r, at, gpa | flags);
	return at;
}

static inline void map_program(struct rig *r, uint64_t at, bool user)
{
	for (unsigned n = 0; n < PAGES; n++) {
		map_page(r, at + n * 4096, CODE + n * 4096, PTE_P | PTE_W | (user ? PTE_U : 0));
	}
}

static inline void load(struct rig *r, const struct guest *g, unsigned hot)
{
	size_t len = (size_t)(g->end - g->code);
	bool user = g->cpl == 3 || g->user_pages;

	assert_in_range(len, 1, PAGES * 4096);
	memset(r->board.ram + TABLES, 0, DATA - TABLES);
	memset(r->board.ram + RIG_PAGES, 0, 0x3000);
	memset(r->board.ram + DATA, 0x5a, 4096);
	memset(r->board.ram + RIG_STACK - 0x2000, 0, 0x16000);
	memset(r->board.ram + CODE + PAGES * 4096, 0, STACK + 4096 - (CODE + PAGES * 4096));
	memset(r->board.ram + CODE, 0xcc, PAGES * 4096);
	memcpy(r->board.ram + CODE, g->code, len);
	memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	rig_poke64(r, RIG_PAGES, (RIG_PAGES + 0x1000) | 7);
	rig_poke64(r, RIG_PAGES + 0x1000, (RIG_PAGES + 0x2000) | 7);
	rig_poke64(r, RIG_PAGES + 0x2000, 0x83); /* the first 2 MB are ring 0's */
	rig_poke64(r, RIG_PAGES + 0x2008, 0x87);
	if (g->at) {
		map_program(r, g->at, user);
	}
	if (g->again_at) {
		map_program(r, g->again_at, user);
	}
	rig_tables(r, !g->bits32);
	if (g->vector >= 0) {
		rig_poke64(r, RIG_IDT + (uint32_t)g->vector * 16,
			   rig_gate(RIG_CODE64, (uint32_t)g->at + g->handler, 14, 3, 0));
	}
	fake_board_engine = r->engine;
	sigaction(SIGSEGV, &on_segv, NULL);
	sigaction(SIGFPE, &on_fpe, NULL);
	r->engine->map_changed(r->v);
	r->engine->code_written(r->v, 0, RIG_RAM);
	if (r->v->translator) {
		r->v->translator->hot = (uint16_t)hot;
	}
}

static inline uint64_t stack_of(const struct guest *g)
{
	return STACK + ((g->cpl == 3 || g->user_pages) && !g->bits32 ? USER_AT : 0);
}

static inline void enter(struct rig *r, const struct guest *g)
{
	struct vcpu *v = r->v;

	rig_enter(r, !g->bits32, g->cpl);
	v->cr4 |= g->smap ? CR4_SMAP : 0;
	v->gpr[RBX] = g->rbx;
	v->gpr[RSI] = g->rsi;
	v->gpr[RDI] = DATA + (g->cpl == 3 && !g->bits32 ? USER_AT : 0);
	v->gpr[RSP] = stack_of(g);
	v->star = (uint64_t)RIG_CODE64 << 32 | (uint64_t)(RIG_DATA + 3 * 8 - 8 + 3) << 48;
	v->rip = g->bits32 ? CODE : g->at;
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
	v->returns_by = NO_RETURN;
	vcpu_update_mode(v);
	mmu_update_context(v);
}

/* The vector whose handler halted, or how else it ended. */
static inline int run(struct rig *r, const struct guest *g)
{
	enum mobo_exit exit;

	fake_board_engine = r->engine;
	enter(r, g);
	exit = r->engine->run(r->v);
	if (exit != MOBO_EXIT_HALT) {
		return -(int)exit;
	}
	return (int)((r->v->rip - RIG_HANDLER) / 16);
}

/* -- both -- */

static inline void same_machine(void)
{
	const struct vcpu *v = rigs[0].v, *w = rigs[1].v;
	const uint8_t *a = rigs[0].board.ram, *b = rigs[1].board.ram;

	for (unsigned n = 0; n < 16; n++) {
		assert_int_equal(v->gpr[n], w->gpr[n]);
	}
	assert_int_equal(v->rip, w->rip);
	assert_int_equal(v->rflags, w->rflags);
	assert_int_equal(v->cpl, w->cpl);
	assert_int_equal(v->mode, w->mode);
	assert_int_equal(v->tlb - v->tlbs, w->tlb - w->tlbs);
	for (unsigned n = 0; memcmp(a, b, RIG_RAM) != 0 && n < RIG_RAM; n++) {
		if (a[n] != b[n]) {
			fail_msg("memory at %#x is %#x, not %#x", n, b[n], a[n]);
		}
	}
}

/* A few runs on both, translated at once and when it is known where returns lead. */
static inline int compare(const struct guest *g)
{
	int vector[2] = {0};

	for (unsigned hot = 0; hot < 6; hot += 3) {
		load(&rigs[0], g, 0);
		load(&rigs[1], g, hot);
		for (unsigned round = 0; round < ROUNDS; round++) {
			vector[0] = run(&rigs[0], g);
			vector[1] = run(&rigs[1], g);
			assert_int_equal(vector[1], vector[0]);
			same_machine();
		}
	}
	return vector[1];
}

#endif
