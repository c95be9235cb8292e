/* SPDX-License-Identifier: Apache-2.0 */
/* Rights of protection keys: what they refuse, and which pages they drop from the TLB. */
#include "mmu_rig.h"

/* Pages 1 to 3 have keys 1 to 3 and are read and written; the others have key 0. */
static uint64_t *keyed_tables(void)
{
	uint64_t *pte = small_tables();

	v->cr4 |= CR4_PKE | CR4_PKS;
	for (uint64_t i = 1; i < 4; i++) {
		pte[i] |= i << PTE_KEY_SHIFT;
		mmu_write8(v, i << 12, 1);
		mmu_read8(v, i << 12);
	}
	return pte;
}

static void taken_rights_drop_the_pages_of_their_key_alone(void **state)
{
	keyed_tables();
	mmu_set_pkru(v, 2u << 2);
	assert_true(has_tags(1, true, false) && has_tags(2, true, true));
	assert_int_equal(error_of(0x1000, true), PFERR_P | PFERR_W | PFERR_PK);
	assert_int_equal(error_of(0x1000, false), 0);
	mmu_set_pkru(v, 1u << 4);
	assert_true(has_tags(2, false, false) && has_tags(3, true, true));
	assert_int_equal(error_of(0x2000, false), PFERR_P | PFERR_PK);
	assert_int_equal(error_of(0x1000, true), 0);
}

static void rights_that_no_page_has_cost_nothing(void **state)
{
	uint32_t epoch;

	keyed_tables();
	mmu_read8(v, 0x4000);
	epoch = v->tlb_epoch;
	mmu_set_pkru(v, 0x55555500); /* all keys but 0 to 3 */
	mmu_set_pkru(v, 0x55555500);
	mmu_set_pkru(v, 0);
	mmu_set_pkrs(v, 1u << 8);
	assert_int_equal(v->tlb_epoch, epoch);
	mmu_set_pkru(v, 0x55555540);
	assert_int_not_equal(v->tlb_epoch, epoch);
	epoch = v->tlb_epoch;
	mmu_set_pkru(v, 0);
	mmu_set_pkru(v, 0x55555540); /* not filled since */
	assert_int_equal(v->tlb_epoch, epoch);
	assert_true(has_tags(1, true, true) && has_tags(2, true, true) && has_tags(4, true, false));
}

static void reported_stores_need_the_right_of_their_key(void **state)
{
	uint64_t *pte = keyed_tables();

	pte[3] = (RAM_PAGES - 1) << 12 | 7 | 5ull << PTE_KEY_SHIFT;
	mmu_flush_all(v);
	mmu_write8(v, 0x3000, 1);
	mmu_set_pkru(v, 2u << 10);
	assert_int_equal(error_of(0x3000, true), PFERR_P | PFERR_W | PFERR_PK);
	mmu_set_pkru(v, 0);
	assert_int_equal(error_of(0x3000, true), 0);
}

static void fetches_have_no_key(void **state)
{
	unsigned n;
	uint64_t gpa;

	keyed_tables();
	mmu_fetch(v, 0x1000, &n, &gpa);
	mmu_set_pkru(v, UINT32_MAX);
	assert_true(v->tlb->e[1].x == 0x1000);
	mmu_flush_all(v);
	mmu_fetch(v, 0x1000, &n, &gpa);
	assert_int_equal(gpa, 65 << 12);
}

static void writes_of_the_system_are_refused_under_wp_only(void **state)
{
	keyed_tables();
	mmu_set_pkru(v, 2u << 2);
	v->cr0 &= ~(uint64_t)CR0_WP;
	mmu_flush_all(v);
	assert_int_equal(error_of(0x1000, true), 0);
	v->cpl = 3;
	mmu_update_context(v);
	assert_int_equal(error_of(0x1000, true), PFERR_P | PFERR_W | PFERR_U | PFERR_PK);
}

static void pages_of_the_system_have_the_rights_of_pkrs(void **state)
{
	uint64_t *pte = keyed_tables();

	pte[1] &= ~4ull;
	mmu_flush_all(v);
	mmu_write8(v, 0x1000, 1);
	mmu_set_pkru(v, UINT32_MAX);
	assert_int_equal(error_of(0x1000, true), 0);
	mmu_set_pkrs(v, 1u << 2);
	assert_int_equal(error_of(0x1000, false), PFERR_P | PFERR_PK);
	v->cpl = 3;
	mmu_update_context(v);
	assert_int_equal(error_of(0x1000, false), PFERR_P | PFERR_U | PFERR_PK);
}

static void implicit_accesses_need_the_right_of_the_key(void **state)
{
	keyed_tables();
	mmu_set_pkru(v, 1u << 2);
	v->cpl = 3;
	mmu_update_context(v);
	raised_error = 0;
	if (setjmp(v->unwind) == 0) {
		mmu_read_sys(v, 0x1000, 8);
	}
	assert_int_equal(raised_error, PFERR_P | PFERR_PK);
}

static void large_pages_keep_their_key_in_cached_walks(void **state)
{
	keyed_tables();
	*(uint64_t *)(board.ram + 0x3008) |= 7ull << PTE_KEY_SHIFT;
	mmu_read8(v, 0x200000);
	mmu_set_pkru(v, 1u << 14);
	assert_int_equal(error_of(0x200000, false), PFERR_P | PFERR_PK);
	mmu_set_pkru(v, 0);
	mmu_read8(v, 0x200000);
	mmu_set_pkru(v, 1u << 14);
	assert_int_equal(error_of(0x201000, false), PFERR_P | PFERR_PK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken_rights_drop_the_pages_of_their_key_alone),
		cmocka_unit_test(rights_that_no_page_has_cost_nothing),
		cmocka_unit_test(reported_stores_need_the_right_of_their_key),
		cmocka_unit_test(fetches_have_no_key),
		cmocka_unit_test(writes_of_the_system_are_refused_under_wp_only),
		cmocka_unit_test(pages_of_the_system_have_the_rights_of_pkrs),
		cmocka_unit_test(implicit_accesses_need_the_right_of_the_key),
		cmocka_unit_test(large_pages_keep_their_key_in_cached_walks),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
