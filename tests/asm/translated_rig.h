/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine code run from random states of the machine, on one of the two engines: what such a state
 * is, how a machine comes into it, one run to its end. The seed is fixed.
 */
#ifndef TESTS_ASM_TRANSLATED_RIG_H
#define TESTS_ASM_TRANSLATED_RIG_H

#include "two_rigs.h"

#include "translate/translate.h"

enum {
	DATA = 0x100000,    /* what RSI, RDI and RBX point near to */
	USER_AT = 0x200000, /* all memory again, for ring 3 */
	UNMAPPED = 0x600000,
	LSTAR = 0x3e000, /* INT 40 */
	IRQ = 0x41,
};

#define NOT_CANONICAL 0x8000000012345678ull

static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static inline int set_up(void **state)
{
	(void)state;
	if (rigs_init()) {
		return -1;
	}
	rigs[1].v->translator->hot = 0;
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	return rigs_finish();
}

/* What machine code is run with. */
struct given {
	unsigned cpl;
	bool bits32;
	uint64_t gpr[16], rflags, cr4, base[3]; /* FS, GS, the kernel's GS */
	bool irq;
	uint64_t return_to; /* 0, or RCX */
};

static inline uint64_t near(uint64_t at)
{
	uint64_t r = next_random();

	/* Mostly plain, now and then over a page's end, or nowhere. */
	return r % 16 == 0 ? UNMAPPED : r % 8 == 1 ? at + 4096 - (r >> 8) % 9 : at + (r >> 8) % 64;
}

static inline struct given random_state_of(unsigned cpl, bool bits32)
{
	static const uint32_t odd[] = {FL_DF, FL_NT, FL_ID, FL_AC, 1 << 12, 3 << 12};
	uint64_t r = next_random(), user = cpl == 3 || (r >> 40) % 4 == 0 ? USER_AT : 0;
	struct given s = {.cpl = cpl, .bits32 = bits32};

	for (unsigned n = 0; n < 16; n++) {
		s.gpr[n] = n & 1 ? next_random() : next_random() >> next_random() % 64;
	}
	s.gpr[RSI] = near(DATA + user);
	s.gpr[RDI] = near(DATA + 0x4000 + user);
	s.gpr[RBX] = near(DATA + 0x8000 + user);
	s.gpr[RSP] = RIG_STACK + (cpl == 3 ? USER_AT : 0) + (r >> 48) % 8 * 4;
	s.rflags = (r & (FL_ARITH | FL_IF)) | FL_1;
	if ((r >> 16) % 4 == 0) {
		s.rflags |= odd[(r >> 20) % 6];
	}
	s.cr4 = CR4_PAE | CR4_OSFXSR | (r & CR4_TSD) | (r >> 24 & 7 ? CR4_FSGSBASE : 0) |
		((r >> 27) % 2 ? CR4_SMAP : 0);
	s.base[0] = DATA + (next_random() % 256) * 8;
	s.base[1] = DATA + (next_random() % 256) * 8;
	s.base[2] = next_random() >> 20;
	s.irq = (r >> 30) % 4 == 0;
	return s;
}

static inline void enter(struct rig *r, const struct given *s)
{
	struct vcpu *v = r->v;

	memset(r->board.ram + RIG_STACK - 0x2000, 0, 0x3000);
	memset(r->board.ram + RIG_STACK0 - 0x1000, 0, 0x2000);
	for (unsigned n = 0; n < 0xa000; n++) {
		r->board.ram[DATA + n] = (uint8_t)(n * 37 + n / 256);
	}
	/* The first 2 MB are ring 0's, but for 32-bit code, which runs without paging. */
	rig_poke64(r, RIG_PAGES + 0x2000, 0x83);
	rig_poke64(r, RIG_PAGES + 0x2008, 0x87);
	rig_tables(r, !s->bits32);
	rig_enter(r, !s->bits32, s->cpl);
	memcpy(v->gpr, s->gpr, sizeof(s->gpr));
	v->cr4 = s->bits32 ? CR4_OSFXSR : s->cr4;
	v->cr0 |= CR0_WP;
	v->cr2 = 0;
	v->kernel_gs_base = s->base[2];
	if (!s->bits32) {
		v->seg[SEG_FS].base = s->base[0];
		v->seg[SEG_GS].base = s->base[1];
	} else {
		for (unsigned n = 0; n < 16; n++) {
			v->gpr[n] = (uint32_t)v->gpr[n];
		}
	}
	v->tsc_aux = 7;
	v->sfmask = s->gpr[R8] & 0x7fd7;
	v->lstar = s->gpr[R9] & 7 ? LSTAR : s->gpr[R9] & 8 ? UNMAPPED : NOT_CANONICAL;
	v->efer &= s->gpr[R10] & 7 ? ~0ull : ~(uint64_t)EFER_SCE;
	if (s->return_to) {
		v->gpr[RCX] = s->return_to;
	}
	v->star = (uint64_t)RIG_CODE64 << 32 | (uint64_t)(RIG_DATA + 3 * 8 - 8 + 3) << 48;
	vcpu_set_rflags(v, s->rflags);
	vcpu_update_mode(v);
	atomic_store(&v->req, 0);
	r->board.irq = -1;
	if (s->irq) {
		fake_board_raise(v, IRQ);
	}
}

/* The vector whose handler halted, or how else it ended. */
static inline int run(struct rig *r, const struct given *s, const void *code, unsigned len)
{
	struct vcpu *v = r->v;
	enum mobo_exit exit;

	fake_board_engine = r->engine;
	enter(r, s);
	memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	memcpy(r->board.ram + RIG_INSN, code, len);
	memcpy(r->board.ram + RIG_INSN + len, "\xcd\x40", 2); /* INT 40 */
	memcpy(r->board.ram + LSTAR, "\x9c\xcd\x40", 3);      /* pushf; INT 40 */
	r->engine->map_changed(v);
	r->engine->code_written(v, RIG_INSN, 0x20000);
	v->rip = RIG_INSN + (s->cpl == 3 && !s->bits32 ? USER_AT : 0);
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
	exit = r->engine->run(v);
	if (exit != MOBO_EXIT_HALT) {
		return -(int)exit;
	}
	return (int)((v->rip - RIG_HANDLER) / 16);
}

#endif
