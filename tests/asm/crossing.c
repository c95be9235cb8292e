/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loop whose first instruction begins in one page and ends in the next, translated: it is the
 * code that is in both pages now, wherever the second one is.
 */
#include "system_rig.h"

#include "translate/translate.h"

enum {
	TABLE = 0x70000,
	FIRST = 0x80000,  /* physical pages */
	SECOND = 0x90000, /* adds 3 */
	OTHER = 0xa0000,  /* adds 5 */
	CODE = 0x400000,  /* linear */
	LOOP = CODE + 0xffe,
	PRESENT = 7,
	TURNS = 1000,
};

static struct rig rig;

/* add $by, %rax (but for its first two bytes); dec %rcx; jnz to it; int $0x40 */
static void write_second(uint32_t gpa, uint8_t by)
{
	const uint8_t code[] = {by, 0, 0, 0, 0x48, 0xff, 0xc9, 0x75, 0xf5, 0xcd, 0x40};

	memcpy(rig.board.ram + gpa, code, sizeof(code));
}

static void map_second(uint64_t entry)
{
	rig_poke64(&rig, TABLE + 8, entry);
	mmu_flush_page(rig.v, CODE + 4096);
}

static int set_up(void **state)
{
	(void)state;
	fake_board_engine = &mobo_engine_translator;
	if (rig_init(&rig)) {
		return -1;
	}
	rig.v->translator->hot = 0;
	rig_tables(&rig, true);
	rig_enter(&rig, true, 0);
	memset(rig.board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	rig_poke64(&rig, RIG_PAGES + 0x2000 + CODE / 0x200000 * 8, TABLE | PRESENT);
	rig_poke64(&rig, TABLE, FIRST | PRESENT);
	rig_poke64(&rig, TABLE + 8, SECOND | PRESENT);
	memcpy(rig.board.ram + FIRST + 0xffe, "\x48\x05", 2);
	write_second(SECOND, 3);
	write_second(OTHER, 5);
	rig.engine->map_changed(rig.v);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_board_finish(&rig.board);
	return 0;
}

static struct outcome run(void)
{
	struct vcpu *v = rig.v;

	v->gpr[RSP] = RIG_STACK;
	v->gpr[RAX] = 0;
	v->gpr[RCX] = TURNS;
	v->rip = LOOP;
	v->insn = NULL;
	v->halted = false;
	assert_int_equal(rig.engine->run(v), MOBO_EXIT_HALT);
	return rig_raised(&rig);
}

static void adds(uint64_t by)
{
	assert_int_equal(run().vector, 0x40);
	assert_int_equal(rig.v->gpr[RAX], by * TURNS);
}

/* How many regions cross and are alive. */
static unsigned crossing(void)
{
	const struct translator *x = rig.v->translator;
	unsigned n = 0;

	for (uint32_t k = 0; k < x->n_regions; k++) {
		n += x->regions[k]->crosses && !x->regions[k]->dead;
	}
	return n;
}

static void instruction_over_two_pages_is_translated(void **state)
{
	adds(3);
	assert_int_equal(crossing(), 1);
	adds(3);
	assert_int_equal(crossing(), 1);
}

static void store_to_either_page_is_seen(void **state)
{
	adds(3);
	write_second(SECOND, 7);
	rig.engine->code_written(rig.v, SECOND, 1);
	assert_int_equal(crossing(), 0);
	adds(7);
	rig.board.ram[FIRST + 0xfff] = 0x2d; /* sub */
	rig.engine->code_written(rig.v, FIRST + 0xfff, 1);
	assert_int_equal(crossing(), 0);
	adds((uint64_t)-7);
	rig.engine->code_written(rig.v, SECOND + 64, 4096 - 64);
	rig.engine->code_written(rig.v, FIRST, 4096 - 64);
	assert_int_equal(crossing(), 1);
}

static void second_page_may_be_another(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		adds(3);
		map_second(OTHER | PRESENT);
		adds(5);
		map_second(SECOND | PRESENT);
	}
	assert_true(crossing() <= 2);
}

static void second_page_that_is_gone_faults(void **state)
{
	adds(3);
	map_second(0);
	assert_int_equal(run().vector, VEC_PF);
	assert_int_equal(rig.v->cr2, CODE + 4096);
	assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP] + 8, 8), LOOP);
	map_second(SECOND | PRESENT);
	adds(3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(instruction_over_two_pages_is_translated, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(store_to_either_page_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(second_page_may_be_another, set_up, tear_down),
		cmocka_unit_test_setup_teardown(second_page_that_is_gone_faults, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
