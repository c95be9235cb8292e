/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snippets run on the interpreter and translated, with their frames at each offset around a page's
 * end, the page on either side of each kind; everything must be the same afterwards.
 */
#ifndef TESTS_ASM_FRAMES_RIG_H
#define TESTS_ASM_FRAMES_RIG_H

#include "two_rigs.h"

#include <signal.h>

#include "translate/translate.h"

/* PROGRAM(name, "text"): its bytes are name to name_end. */
#define PROGRAM(name, text)                                                                \
	asm(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n .popsection\n"); \
	extern const uint8_t name[], name##_end[]

enum {
	TABLE = 0x70000,
	CODE = 0x40800, /* linear and physical; all frames are in other parts of such pages */
	PAGES = 0x100000,
	LIN = 0x400000,
	N_PAGES = 8,
	MIDDLE = LIN + N_PAGES / 2 * 4096, /* the page's end that frames lie over */
	MMIO_GPA = 0x80000000,
	BELOW = 40,
	ABOVE = 200,
	PRESENT = 1,
	WRITABLE = 2,
	USER = 4,
};

enum kind { NORMAL, ABSENT, READ_ONLY, MMIO, WITH_CODE, N_KINDS };

/* What devices were asked, in order. */
static uint64_t asked[2];

static inline void ask(struct board *b, uint64_t what)
{
	uint64_t *h = b->arg;

	*h = (*h ^ what) * 0x9e3779b97f4a7c15;
	*h ^= *h >> 29;
}

static inline uint64_t mmio_read(struct board *b, uint64_t gpa, unsigned size)
{
	ask(b, gpa << 8 | size);
	return gpa * 0x0101010101010101;
}

static inline void mmio_write(struct board *b, uint64_t gpa, unsigned size, uint64_t val)
{
	ask(b, gpa << 8 | size | 0x80);
	ask(b, val);
}

/* cmocka takes signals that are the translator's. */
static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
enum { N_SIGNALS = sizeof(signals) / sizeof(signals[0]) };
static struct sigaction actions[N_SIGNALS];

static inline void take_signals(void)
{
	for (unsigned n = 0; n < N_SIGNALS; n++) {
		sigaction(signals[n], &actions[n], NULL);
	}
}

static inline int set_up(void **state)
{
	(void)state;
	if (rigs_init()) {
		return -1;
	}
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];

		fake_board_engine = r->engine;
		r->board.arg = &asked[n];
		r->board.mmio_read = mmio_read;
		r->board.mmio_write = mmio_write;
		rig_tables(r, true);
		for (unsigned vec = 0; vec < 256; vec++) { /* on a stack of their own */
			rig_poke64(r, RIG_IDT + vec * 16,
				   rig_gate(RIG_CODE64, RIG_HANDLER + vec * 16, 14, 3, 1));
		}
		rig_poke64(r, RIG_TSS + 36, RIG_STACK0);
		memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
		rig_poke64(r, RIG_PAGES + 0x2000 + LIN / 0x200000 * 8, TABLE | 7);
	}
	rigs[1].v->translator->hot = 0;
	for (unsigned n = 0; n < N_SIGNALS; n++) {
		sigaction(signals[n], NULL, &actions[n]);
	}
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	return rigs_finish();
}

/* -- one run: RSP = RSI, RDI is 24 below, RBX a page below -- */

static inline void map(struct rig *r, unsigned page, enum kind kind)
{
	uint64_t entry = (uint64_t)(PAGES + page * 4096) | PRESENT | WRITABLE | USER;

	switch (kind) {
	case NORMAL: break;
	case ABSENT: entry = 0; break;
	case READ_ONLY: entry &= ~(uint64_t)WRITABLE; break;
	case MMIO: entry += (uint64_t)MMIO_GPA - PAGES; break;
	case WITH_CODE: entry += (uint64_t)(CODE & ~4095) - PAGES - page * 4096ull; break;
	case N_KINDS: break;
	}
	rig_poke64(r, TABLE + page * 8, entry);
}

static inline void fill(struct rig *r, uint32_t gpa, unsigned len)
{
	static uint8_t bytes[N_PAGES * 4096];

	for (unsigned n = 0; !bytes[sizeof(bytes) - 1] && n < sizeof(bytes); n++) {
		bytes[n] = (uint8_t)(n * 37 + n / 256);
	}
	memcpy(r->board.ram + gpa, bytes, len);
}

static inline void load(const uint8_t *code, const uint8_t *end)
{
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];

		memcpy(r->board.ram + CODE, code, (size_t)(end - code));
		memcpy(r->board.ram + CODE + (end - code), "\xcd\x40", 2);
		fake_board_engine = r->engine;
		r->engine->map_changed(r->v);
		r->engine->code_written(r->v, 0, RIG_RAM);
	}
}

/* With RSP, RSI and so on near `at`; the pages of MIDDLE of those kinds. Returns the vector. */
static inline int run(struct rig *r, uint64_t at, unsigned cpl, enum kind below, enum kind above)
{
	struct vcpu *v = r->v;

	fake_board_engine = r->engine;
	fill(r, PAGES, N_PAGES * 4096);
	fill(r, CODE & ~4095, 512);
	fill(r, (CODE | 4095) + 1 - 512, 512);
	for (unsigned n = 0; n < N_PAGES; n++) {
		map(r, n, n == N_PAGES / 2 - 1 ? below : n == N_PAGES / 2 ? above : NORMAL);
	}
	*(uint64_t *)r->board.arg = 1;
	rig_enter(r, true, cpl);
	v->cr0 |= CR0_WP;
	v->cr4 |= CR4_OSFXSR;
	v->cr2 = 0;
	vcpu_update_mode(v);
	for (unsigned n = 0; n < 16; n++) {
		v->gpr[n] = n * 0x1234567;
	}
	v->gpr[RSP] = v->gpr[RSI] = at;
	v->gpr[RDI] = at - 24;
	v->gpr[RBX] = at - 4096;
	v->gpr[RCX] = 6;
	v->rip = CODE;
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
	if (r->engine->run(v) != MOBO_EXIT_HALT) {
		return -1;
	}
	return rig_raised(r).vector;
}

static inline void same(uint64_t at, const char *what, uint64_t expected, uint64_t val)
{
	if (expected != val) {
		fail_msg("at %+d: %s is %#llx, not %#llx", (int)(at - MIDDLE), what,
			 (unsigned long long)val, (unsigned long long)expected);
	}
}

static inline void same_bytes(uint64_t at, const char *what, uint32_t gpa, unsigned len)
{
	if (memcmp(rigs[0].board.ram + gpa, rigs[1].board.ram + gpa, len) == 0) {
		return;
	}
	for (unsigned n = 0; n < len; n++) {
		same(at, what, rigs[0].board.ram[gpa + n], rigs[1].board.ram[gpa + n]);
	}
}

static inline void compare(uint64_t at, unsigned cpl, enum kind below, enum kind above)
{
	const struct vcpu *v = rigs[0].v, *w = rigs[1].v;
	int vector[2];

	for (unsigned n = 0; n < 2; n++) {
		vector[n] = run(&rigs[n], at, cpl, below, above);
	}
	same(at, "the outcome", (uint64_t)vector[0], (uint64_t)vector[1]);
	for (unsigned n = 0; n < 16; n++) {
		same(at, "a register", v->gpr[n], w->gpr[n]);
	}
	same(at, "RIP", v->rip, w->rip);
	same(at, "CR2", v->cr2, w->cr2);
	same(at, "what devices saw", asked[0], asked[1]);
	if (vector[0] == 0x40) {
		same(at, "RFLAGS", v->rflags, w->rflags);
	}
	/* The interrupt frame but for flags. */
	same_bytes(at, "the frame's end", RIG_STACK0 - 16, 16);
	same_bytes(at, "the frame", RIG_STACK0 - 48, 24);
	same_bytes(at, "data", PAGES, N_PAGES * 4096);
	same_bytes(at, "data beside code", CODE & ~4095, 4096);
}

static inline void compare_kind(const uint8_t *code, const uint8_t *end, unsigned cpl,
				enum kind below, enum kind above)
{
	load(code, end);
	for (unsigned round = 0; round < 2; round++) {
		for (uint64_t at = MIDDLE - BELOW; at < MIDDLE + ABOVE; at += round ? 3 : 1) {
			compare(at, cpl, below, above);
		}
	}
}

static inline void compare_all(const uint8_t *code, const uint8_t *end, unsigned cpl)
{
	take_signals();
	for (enum kind kind = 0; kind < N_KINDS; kind++) {
		compare_kind(code, end, cpl, kind, NORMAL);
		compare_kind(code, end, cpl, NORMAL, kind);
	}
}

#define COMPARE_ALL(program)                            \
	do {                                            \
		compare_all(program, program##_end, 0); \
		compare_all(program, program##_end, 3); \
	} while (0)

static inline uint64_t events_of(uint64_t at, unsigned cpl, enum kind below, enum kind above)
{
	uint64_t before = rigs[1].v->translator->n_events;

	run(&rigs[1], at, cpl, below, above);
	return rigs[1].v->translator->n_events - before;
}

#endif
