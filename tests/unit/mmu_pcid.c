/* SPDX-License-Identifier: Apache-2.0 */
/* What the MMU keeps of other PCIDs' pages, and what drops it. */
#include "mmu_rig.h"

/* Spaces 0 and 1 with all small pages present, writable and touched by reads; 0 is current. */
static void touch_two_spaces(void)
{
	make_spaces();
	for (unsigned n = 2; n-- > 0;) {
		switch_space(n, false);
		for (unsigned i = 0; i < SMALL; i++) {
			poke(&space_page(n, 3)[i], (FIRST_DATA + n * SMALL + i) << 12 | 0x67);
			mmu_read8(v, i << 12);
		}
	}
}

static unsigned translations_to_touch(void)
{
	n_translations = 0;
	for (unsigned i = 0; i < SMALL; i++) {
		mmu_write8(v, i << 12, 1);
	}
	return n_translations;
}

static void switch_that_keeps_costs_no_walk(void **state)
{
	touch_two_spaces();
	switch_space(1, true);
	assert_int_equal(translations_to_touch(), 0);
	assert_true(v->tlb->e[3].page == (uintptr_t)board.ram + ((FIRST_DATA + SMALL + 3) << 12));
	switch_space(0, true);
	assert_int_equal(translations_to_touch(), 0);
	assert_true(v->tlb->e[3].page == (uintptr_t)board.ram + ((FIRST_DATA + 3) << 12));
}

static void ids_of_code_pages_come_back_until_forgotten(void **state)
{
	unsigned n;
	uint64_t gpa;

	touch_two_spaces();
	mmu_fetch(v, 0x3000, &n, &gpa);
	v->tlb->x_id[3] = 7;
	switch_space(1, true);
	assert_int_equal(v->tlb->x_id[3], 0);
	switch_space(0, true);
	assert_int_equal(v->tlb->x_id[3], 7);
	switch_space(1, true);
	mmu_forget_ids(v);
	switch_space(0, true);
	assert_int_equal(v->tlb->x_id[3], 0);
}

static void switch_that_flushes_drops_only_the_new_pcid(void **state)
{
	touch_two_spaces();
	switch_space(1, false);
	assert_int_equal(translations_to_touch(), SMALL);
	switch_space(0, true);
	assert_int_equal(translations_to_touch(), 0);
}

static void invpcid_of_one_pcid_leaves_the_others(void **state)
{
	touch_two_spaces();
	mmu_flush_pcid(v, 1, 2);
	assert_int_equal(translations_to_touch(), 0);
	switch_space(1, true);
	assert_int_equal(translations_to_touch(), SMALL);
	mmu_flush_pcid_page(v, 2, 1, 0x3123);
	switch_space(0, true);
	assert_int_equal(translations_to_touch(), 1);
}

static void flushes_of_all_pcids_reach_what_is_put_away(void **state)
{
	touch_two_spaces();
	mmu_flush_nonglobal(v);
	switch_space(1, true);
	assert_int_equal(translations_to_touch(), SMALL);
	mmu_flush_all(v);
	switch_space(0, true);
	assert_int_equal(translations_to_touch(), SMALL);
}

static void protecting_a_page_drops_stores_put_away(void **state)
{
	touch_two_spaces();
	mmu_protect_code(v, (FIRST_DATA + SMALL + 5) << 12);
	switch_space(1, true);
	assert_true(v->tlb->e[5].w != 0x5000 && v->tlb->e[5].r == 0x5000);
	assert_true(v->tlb->e[6].w == 0x6000);
}

static void more_fills_than_a_set_holds_keep_the_latest(void **state)
{
	uint64_t *pd;

	make_spaces();
	pd = space_page(0, 2);
	for (unsigned i = 1; i < 4; i++) {
		poke(&pd[i], 0x85);
		for (unsigned k = 0; k < 512; k++) {
			mmu_read8(v, (uint64_t)i << 21 | k << 12);
		}
	}
	switch_space(1, true);
	switch_space(0, true);
	n_translations = 0;
	for (unsigned k = 0; k < 512; k++) {
		mmu_read8(v, 3ull << 21 | k << 12);
	}
	assert_int_equal(n_translations, 0);
	mmu_read8(v, 1 << 21);
	assert_int_equal(n_translations, 1);
}

static void rights_are_taken_from_what_is_put_away(void **state)
{
	touch_two_spaces();
	mmu_write8(v, 3 << 12, 1);
	poke(&space_page(0, 3)[3], space_page(0, 3)[3] | 9ull << PTE_KEY_SHIFT);
	mmu_flush_page(v, 3 << 12);
	mmu_write8(v, 3 << 12, 1);
	switch_space(1, true);
	mmu_set_pkru(v, 2u << 18);
	switch_space(0, true);
	assert_true(has_tags(3, true, false) && has_tags(4, true, true));
	assert_int_equal(error_of(3 << 12, true), PFERR_P | PFERR_W | PFERR_PK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(switch_that_keeps_costs_no_walk),
		cmocka_unit_test(ids_of_code_pages_come_back_until_forgotten),
		cmocka_unit_test(switch_that_flushes_drops_only_the_new_pcid),
		cmocka_unit_test(invpcid_of_one_pcid_leaves_the_others),
		cmocka_unit_test(flushes_of_all_pcids_reach_what_is_put_away),
		cmocka_unit_test(protecting_a_page_drops_stores_put_away),
		cmocka_unit_test(more_fills_than_a_set_holds_keep_the_latest),
		cmocka_unit_test(rights_are_taken_from_what_is_put_away),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
