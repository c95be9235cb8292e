/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions as the translator makes code of them, in single cases that say themselves
 * what must come of them: HLT, XSETBV, the TSC, an interrupt that a store raises.
 */
#include "translated_rig.h"

#include <x86intrin.h>

/* HLT stops also where what follows it has been translated. */
static void hlt_halts_before_translated_code(void **state)
{
	struct rig *r = &rigs[1];
	struct given s = random_state_of(0, false);

	(void)state;
	s.irq = false;
	run(r, &s, "\xfb\xf4\x90", 3); /* sti; hlt; nop */
	enter(r, &s);
	r->v->rip = RIG_INSN + 2;
	r->v->halted = false;
	assert_int_equal(r->engine->run(r->v), MOBO_EXIT_HALT);
	enter(r, &s);
	r->v->rip = RIG_INSN;
	r->v->halted = false;
	assert_int_equal(r->engine->run(r->v), MOBO_EXIT_HALT);
	assert_int_equal(r->v->rip, RIG_INSN + 2);
	assert_true(r->v->halted);
}

/*
 * XSETBV lets AVX in while translated code runs: upper halves are the guest's from there on. What
 * follows it is translated already when it runs.
 */
static void upper_halves_are_kept_from_xsetbv_on(void **state)
{
	/* xsetbv; vpcmpeqd ymm1, ymm1, ymm1; hlt */
	static const uint8_t code[] = "\x0f\x01\xd1\xc5\xf5\x76\xc9\xf4";
	struct rig *r = &rigs[1];
	struct given s = random_state_of(0, false);

	(void)state;
	if (!__builtin_cpu_supports("avx2")) {
		return;
	}
	s.irq = false;
	s.gpr[RAX] = 7;
	s.gpr[RCX] = s.gpr[RDX] = 0;
	s.cr4 |= CR4_OSXSAVE;
	for (unsigned n = 0; n < 3; n++) { /* from its second instruction; whole, twice */
		r->v->xcr0 = n ? 1 : 7;
		memset(r->v->ymmh, 0, sizeof(r->v->ymmh));
		if (n == 0) {
			run(r, &s, code, sizeof(code) - 1);
			r->v->xcr0 = 7;
		}
		enter(r, &s);
		r->v->rip = RIG_INSN + (n ? 0 : 3);
		r->v->halted = false;
		assert_int_equal(r->engine->run(r->v), MOBO_EXIT_HALT);
		assert_int_equal(r->v->ymmh[1][15], 0xff);
	}
	r->v->xcr0 = 1;
	memset(r->v->ymmh, 0, sizeof(r->v->ymmh));
	memset(r->v->fx.xmm, 0, sizeof(r->v->fx.xmm));
	memset(rigs[0].v->fx.xmm, 0, sizeof(rigs[0].v->fx.xmm));
}

/* The TSC is read natively: it lies between the host's before and after, plus the offset. */
static void tsc_is_the_hosts_plus_offsets(void **state)
{
	static const char *const code[] = {"\x0f\x31", "\x0f\x01\xf9"};
	struct rig *r = &rigs[1];

	(void)state;
	r->board.host_tsc = true;
	r->board.tsc = 1ull << 50;
	for (unsigned n = 0; n < 4; n++) {
		struct given s = random_state_of(n & 2 ? 3 : 0, false);
		uint64_t before = __rdtsc(), after, tsc;
		int vector;

		s.irq = false;
		s.cr4 &= ~(uint64_t)CR4_TSD;
		r->v->tsc_offset = 12345;
		vector = run(r, &s, code[n & 1], 2 + (n & 1));
		after = __rdtsc();
		tsc = (uint32_t)r->v->gpr[RAX] | r->v->gpr[RDX] << 32;
		assert_int_equal(vector, 0x40);
		assert_in_range(tsc, before + (1ull << 50) + 12345, after + (1ull << 50) + 12345);
		if (n & 1) {
			assert_int_equal(r->v->gpr[RCX], 7);
		}
		s.cr4 |= CR4_TSD;
		vector = run(r, &s, code[n & 1], 2 + (n & 1));
		assert_int_equal(vector, n & 2 ? VEC_GP : 0x40);
	}
	r->v->tsc_offset = 0;
	r->board.host_tsc = false;
}

static void raise_irq(struct board *b, uint64_t gpa, unsigned size, uint64_t val)
{
	(void)b;
	(void)gpa;
	(void)size;
	(void)val;
	fake_board_raise(rigs[1].v, IRQ);
}

/* As the local APIC does when it is told to interrupt its own CPU. */
static void an_interrupt_by_a_store_comes_behind_the_store(void **state)
{
	static const uint8_t code[] =
		"\x89\x05\0\0\x30\0\x40\x40"; /* mov [300000], eax; inc eax; inc */
	struct given s = {.bits32 = true, .rflags = FL_1 | FL_IF, .gpr[RSP] = RIG_STACK};

	(void)state;
	rigs[1].board.mmio_write = raise_irq;
	assert_int_equal(run(&rigs[1], &s, code, sizeof(code) - 1), IRQ);
	rigs[1].board.mmio_write = NULL;
	assert_int_equal(rigs[1].v->gpr[RAX], 0);
	assert_int_equal(rig_peek(&rigs[1], (uint32_t)rigs[1].v->gpr[RSP], 4), RIG_INSN + 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hlt_halts_before_translated_code),
		cmocka_unit_test(upper_halves_are_kept_from_xsetbv_on),
		cmocka_unit_test(tsc_is_the_hosts_plus_offsets),
		cmocka_unit_test(an_interrupt_by_a_store_comes_behind_the_store),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
