/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMU and what it keeps of single pages: page crossings, rights, pages with code, INVLPG,
 * large and global pages, watched stores.
 */
#include "mmu_rig.h"

static void crossing_store_faults_before_the_first_byte(void **state)
{
	uint64_t *pte = small_tables();

	pte[1] &= ~2ull;
	if (setjmp(v->unwind) == 0) {
		mmu_write64(v, 0xffc, 0x1122334455667788);
		fail();
	}
	assert_int_equal(raised_vector, VEC_PF);
	assert_int_equal(raised_error, PFERR_P | PFERR_W);
	assert_true(v->cr2 == 0x1000);
	assert_int_equal(*(uint32_t *)(board.ram + (64 << 12) + 0xffc), 0);
}

static void crossing_load_joins_both_pages(void **state)
{
	small_tables();
	memset(board.ram + (64 << 12) + 0xffc, 0x11, 4);
	memset(board.ram + (65 << 12), 0x22, 4);
	assert_true(mmu_read64(v, 0xffc) == 0x2222222211111111);
}

static void first_store_after_load_sets_dirty(void **state)
{
	uint64_t *pte = small_tables();

	mmu_read8(v, 0x2000);
	assert_int_equal(pte[2] & 0x60, 0x20);
	mmu_write8(v, 0x2000, 1);
	assert_int_equal(pte[2] & 0x60, 0x60);
}

static void code_page_has_no_store_pointer(void **state)
{
	uint64_t *pte = small_tables();

	pte[3] = (RAM_PAGES - 1) << 12 | 7;
	assert_null(mmu_ptr(v, 0x3000, 4, MMU_W));
	assert_non_null(mmu_ptr(v, 0x3000, 4, MMU_R));
	assert_non_null(mmu_ptr(v, 0x4000, 4, MMU_RW));
}

static void protecting_a_page_drops_its_store_translations(void **state)
{
	uint64_t *pte = small_tables();

	pte[5] = pte[4];
	mmu_write8(v, 0x4000, 1);
	mmu_write8(v, 0x5000, 1);
	mmu_protect_code(v, 68 << 12);
	assert_true(v->tlb->e[4].w != 0x4000 && v->tlb->e[5].w != 0x5000);
	assert_true(v->tlb->e[4].r == 0x4000);
}

static void store_to_a_code_page_is_reported_and_walks_once(void **state)
{
	uint64_t *pte = small_tables();

	pte[3] = (RAM_PAGES - 1) << 12 | 7;
	mmu_write8(v, 0x3000, 1);
	pte[3] = 0; /* not invalidated: what is cached may be used */
	n_code_written = 0;
	mmu_write32(v, 0x3004, 0x11223344);
	assert_int_equal(n_code_written, 1);
	assert_int_equal(*(uint32_t *)(board.ram + ((RAM_PAGES - 1) << 12) + 4), 0x11223344);
	assert_null(mmu_ptr(v, 0x3000, 4, MMU_RW));
	mmu_flush_page(v, 0x3000);
	if (setjmp(v->unwind) == 0) {
		mmu_write8(v, 0x3000, 1);
		fail();
	}
	assert_int_equal(raised_vector, VEC_PF);
}

static void read_only_code_page_takes_no_store(void **state)
{
	uint64_t *pte = small_tables();

	pte[3] = (RAM_PAGES - 1) << 12 | 5;
	mmu_read8(v, 0x3000);
	if (setjmp(v->unwind) == 0) {
		mmu_write8(v, 0x3000, 1);
		fail();
	}
	assert_int_equal(raised_error, PFERR_P | PFERR_W);
}

static void page_without_code_any_more_has_direct_stores_again(void **state)
{
	uint64_t *pte = small_tables();

	pte[3] = (RAM_PAGES - 1) << 12 | 7;
	mmu_write8(v, 0x3000, 1);
	assert_true(v->tlb->e[3].w != 0x3000);
	last_page_is_code = false;
	mmu_write8(v, 0x3000, 1);
	assert_true(v->tlb->e[3].w == 0x3000);
}

static void page_fault_drops_what_its_page_had_cached(void **state)
{
	uint64_t *pte = small_tables();

	mmu_read8(v, 0x2000);
	pte[2] = 0;
	if (setjmp(v->unwind) == 0) {
		mmu_write8(v, 0x2000, 1);
		fail();
	}
	raised_vector = -1;
	if (setjmp(v->unwind) == 0) {
		mmu_read8(v, 0x2000);
		fail();
	}
	assert_int_equal(raised_vector, VEC_PF);
}

static void invlpg_of_any_page_drops_cached_tables(void **state)
{
	small_tables();
	mmu_read8(v, 0x2000);
	*(uint64_t *)(board.ram + 0x3000) = 0;
	mmu_flush_page(v, 0x7000000);
	mmu_read8(v, 0x2000);
	if (setjmp(v->unwind) == 0) {
		mmu_read8(v, 0x3000);
		fail();
	}
	assert_int_equal(raised_vector, VEC_PF);
}

static void invlpg_drops_every_piece_of_a_large_page(void **state)
{
	small_tables();
	mmu_read8(v, 0x200000);
	mmu_read8(v, 0x2ff000);
	mmu_read8(v, 0x0);
	mmu_flush_page(v, 0x3ab123);
	assert_true(v->tlb->e[0x2ff].r != 0x2ff000);
	*(uint64_t *)(board.ram + 0x3008) = 0;
	if (setjmp(v->unwind) == 0) {
		mmu_read8(v, 0x200000);
		fail();
	}
	assert_int_equal(raised_vector, VEC_PF);
}

static void global_pages_survive_a_cr3_load(void **state)
{
	uint64_t *pte = small_tables();

	v->cr4 |= CR4_PGE;
	pte[6] |= PTE_G;
	mmu_read8(v, 0x6000);
	mmu_read8(v, 0x7000);
	pte[6] = pte[7] = 0;
	mmu_flush_nonglobal(v);
	assert_int_equal(mmu_read8(v, 0x6000), 0);
	if (setjmp(v->unwind) == 0) {
		mmu_read8(v, 0x7000);
		fail();
	}
	mmu_flush_all(v);
	if (setjmp(v->unwind) == 0) {
		mmu_read8(v, 0x6000);
		fail();
	}
}

static void watched_store_is_noted_and_others_are_not(void **state)
{
	small_tables();
	v->dr[0] = 0x1008;
	v->dr[7] = 1 | 1 << 16 | 3 << 18; /* L0, writes, 4 bytes */
	v->pending_db = 0;
	mmu_read32(v, 0x1008);
	mmu_write32(v, 0x100c, 1);
	mmu_write32(v, 0x2008, 1);
	assert_int_equal(v->pending_db, 0);
	mmu_write8(v, 0x100b, 1);
	assert_int_equal(v->pending_db, 1);
	v->dr[7] = 0;
}

static void alignment_check_needs_ring_3_am_and_ac(void **state)
{
	small_tables();
	v->cr0 |= CR0_AM;
	v->rflags |= FL_AC;
	mmu_update_context(v);
	mmu_read32(v, 0x1001);
	v->cpl = 3;
	mmu_update_context(v);
	mmu_read32(v, 0x1004);
	if (setjmp(v->unwind) == 0) {
		mmu_read32(v, 0x1001);
		fail();
	}
	assert_int_equal(raised_vector, VEC_AC);
	v->rflags &= ~(uint32_t)FL_AC;
	mmu_update_context(v);
	mmu_read32(v, 0x1001);
}

static void implicit_access_ignores_ac_under_smap(void **state)
{
	small_tables();
	v->cr4 |= CR4_SMAP;
	v->rflags |= FL_AC;
	mmu_update_context(v);
	mmu_read8(v, 0x1000);
	if (setjmp(v->unwind) == 0) {
		mmu_read_sys(v, 0x1000, 8);
		fail();
	}
	assert_int_equal(raised_error, PFERR_P);
}

static void empty_slots_match_no_address(void **state)
{
	small_tables();
	for (uint64_t slot = 0; slot < TLB_SIZE; slot++) {
		uint64_t lins[] = {slot << 12, UINT64_MAX << (12 + TLB_BITS) | slot << 12,
				   ~slot << 12};

		for (unsigned i = 0; i < 3; i++) {
			const struct tlb_entry *e = &v->tlb->e[tlb_slot(lins[i])];

			assert_true((lins[i] ^ e->r) > 4095);
			assert_true(((lins[i] | 0xfff) ^ e->r) > 4095);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crossing_store_faults_before_the_first_byte),
		cmocka_unit_test(crossing_load_joins_both_pages),
		cmocka_unit_test(first_store_after_load_sets_dirty),
		cmocka_unit_test(code_page_has_no_store_pointer),
		cmocka_unit_test(protecting_a_page_drops_its_store_translations),
		cmocka_unit_test(store_to_a_code_page_is_reported_and_walks_once),
		cmocka_unit_test(read_only_code_page_takes_no_store),
		cmocka_unit_test(page_without_code_any_more_has_direct_stores_again),
		cmocka_unit_test(page_fault_drops_what_its_page_had_cached),
		cmocka_unit_test(invlpg_of_any_page_drops_cached_tables),
		cmocka_unit_test(invlpg_drops_every_piece_of_a_large_page),
		cmocka_unit_test(global_pages_survive_a_cr3_load),
		cmocka_unit_test(watched_store_is_noted_and_others_are_not),
		cmocka_unit_test(alignment_check_needs_ring_3_am_and_ac),
		cmocka_unit_test(implicit_access_ignores_ac_under_smap),
		cmocka_unit_test(empty_slots_match_no_address),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
