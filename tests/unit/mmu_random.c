/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random page tables and accesses, the MMU against a reference walker written from SDM volume 3
 * 4.3 to 4.7 in another way: by names of fields, one level at a time, without any cache. Compared:
 * where the access went or which fault it raised, and every byte of memory (A and D bits).
 *
 * The MMU is linked alone; raising an exception ends the access.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "execute/debugger.h"
#include "execute/execute.h"
#include "exits/board.h"
#include "mmu/walk.h"

enum { RAM_SIZE = 2 << 20, RAM_PAGES = RAM_SIZE >> 12, TABLES = 24 /* pages of tables */ };

struct board {
	uint8_t ram[RAM_SIZE];
	uint8_t copy[RAM_SIZE];
};

static struct board board;
static struct vcpu *v;

/* What the last access raised. */
static int raised_vector;
static uint32_t raised_error;
/* Translations made, and stores reported to the owner of decoded code. */
static unsigned n_translations, n_code_written;
static bool last_page_is_code;
static uint64_t rng_state = 0x9e3779b97f4a7c15ull;

static uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static bool chance(unsigned percent)
{
	return rng() >> 32 & 1 ? rng() % 100 < percent : (rng() >> 20) % 100 < percent;
}

/* -- What the MMU is linked with -- */

struct mem_run board_mem_lookup(struct board *b, uint64_t gpa)
{
	if (gpa < RAM_SIZE) {
		return (struct mem_run){0, RAM_SIZE, b->ram, b->ram};
	}
	return (struct mem_run){gpa & ~4095ull, 4096, NULL, NULL};
}

uint64_t board_a20_mask(struct board *b)
{
	return UINT64_MAX;
}

bool board_code_page(struct board *b, uint64_t gpa)
{
	n_translations++;
	return last_page_is_code && gpa >> 12 == RAM_PAGES - 1;
}

void board_code_written(struct vcpu *cpu, uint64_t gpa, unsigned len)
{
	n_code_written++;
}

/* Reads of I/O tell their address. */
uint64_t board_mmio_read(struct vcpu *cpu, uint64_t gpa, unsigned size)
{
	return gpa;
}

void board_mmio_write(struct vcpu *cpu, uint64_t gpa, unsigned size, uint64_t val)
{
}

void debugger_watch_hit(struct vcpu *cpu, uint64_t lin)
{
	fail_msg("no debugger watches");
}

void raise_exception(struct vcpu *cpu, unsigned vector)
{
	raised_vector = (int)vector;
	longjmp(cpu->unwind, 1);
}

void raise_error(struct vcpu *cpu, unsigned vector, uint32_t error_code)
{
	raised_error = error_code;
	raise_exception(cpu, vector);
}

void raise_page_fault(struct vcpu *cpu, uint64_t lin, uint32_t error_code)
{
	cpu->cr2 = lin;
	raise_error(cpu, VEC_PF, error_code);
}

/* -- The reference -- */

struct ref {
	int vector; /* -1: none */
	uint32_t error;
	uint64_t gpa;
};

static uint64_t ref_entry(uint64_t gpa, unsigned size)
{
	uint64_t val = 0;

	if (gpa >= RAM_SIZE) {
		return size == 4 ? UINT32_MAX : UINT64_MAX;
	}
	memcpy(&val, board.copy + gpa, size);
	return val;
}

static void ref_or(uint64_t gpa, uint8_t bits)
{
	if (gpa < RAM_SIZE) {
		board.copy[gpa] |= bits;
	}
}

static struct ref ref_walk(uint64_t lin, enum mmu_access acc, bool user, bool ac)
{
	bool pae = v->cr4 & CR4_PAE, lng = v->efer & EFER_LMA, nxe = v->efer & EFER_NXE;
	bool wr = true, us = true, xd = false, rsvd = false;
	uint64_t used[4], e = 0, base = v->cr3, size_mask = 0xfff;
	unsigned n = 0, level, size = pae ? 8 : 4;
	struct ref r = {-1, 0, lin};

	if (!(v->cr0 & CR0_PG)) {
		return r;
	}
	r.error = (acc == MMU_W ? 2 : 0) | (user ? 4 : 0) |
		  (acc == MMU_X && ((nxe && pae) || (v->cr4 & CR4_SMEP)) ? 16 : 0);
	r.vector = VEC_PF;
	if (lng) {
		if ((int64_t)lin >> 47 != 0 && (int64_t)lin >> 47 != -1) {
			return (struct ref){VEC_GP, 0, 0};
		}
		base &= 0x000ffffffffff000;
		level = 4;
	} else if (pae) {
		e = v->pdpte[lin >> 30];
		if (!(e & 1)) {
			return r;
		}
		base = e & 0x000ffffffffff000;
		level = 2;
	} else {
		base &= 0xfffff000;
		level = 2;
	}
	for (;; level--) {
		unsigned bits = pae ? 9 : 10, shift = 12 + bits * (level - 1);
		bool big;

		used[n] = base + (lin >> shift & ((1 << bits) - 1)) * size;
		e = ref_entry(used[n++] & 0xffffffffff, size);
		if (!(e & 1)) {
			return r;
		}
		big = level == 1 || ((e & 0x80) && level < 4 && (pae || (v->cr4 & CR4_PSE)));
		if (pae) {
			rsvd |= (e & 0x000fff0000000000) != 0; /* above MAXPHYADDR 40 */
			rsvd |= !nxe && e >> 63;
			rsvd |= !lng && (e & 0x7ff0000000000000);
			rsvd |= level == 4 && (e & 0x80);
			rsvd |= big && level == 2 && (e & 0x1fe000);
			rsvd |= big && level == 3 && (e & 0x3fffe000);
			xd |= e >> 63;
		} else {
			rsvd |= big && level == 2 && (e & 0x200000);
		}
		if (rsvd) {
			r.error |= 9;
			return r;
		}
		wr &= e >> 1 & 1;
		us &= e >> 2 & 1;
		if (big) {
			size_mask = (1ull << shift) - 1;
			break;
		}
		base = e & 0x000ffffffffff000;
	}
	r.error |= 1;
	if (user) {
		if (!us || (acc == MMU_W && !wr) || (acc == MMU_X && xd)) {
			return r;
		}
	} else {
		if (us && acc != MMU_X && (v->cr4 & CR4_SMAP) && !ac) {
			return r;
		}
		if (acc == MMU_W && !wr && (v->cr0 & CR0_WP)) {
			return r;
		}
		if (acc == MMU_X && (xd || (us && (v->cr4 & CR4_SMEP)))) {
			return r;
		}
	}
	for (unsigned k = 0; k < n; k++) {
		ref_or(used[k] & 0xffffffffff, k == n - 1 && acc == MMU_W ? 0x60 : 0x20);
	}
	r.vector = -1;
	r.gpa = (e & 0x000ffffffffff000 & ~size_mask) | (lin & size_mask);
	if (!pae && size_mask > 0xfff) {
		r.gpa |= (e >> 13 & 0xff) << 32;
	}
	return r;
}

/* -- Random machines -- */

static uint64_t random_entry(bool pae)
{
	uint64_t e = (rng() % TABLES) << 12; /* mostly tables, so that walks go deep */

	if (chance(30)) {
		e = (TABLES + rng() % (RAM_PAGES - TABLES)) << 12;
	}
	e |= rng() & 0x078; /* PWT, PCD, A, D */
	e |= chance(95) ? 1 : 0;
	e |= chance(80) ? 2 : 0;
	e |= chance(80) ? 4 : 0;
	e |= chance(15) ? 0x80 : 0;
	e |= chance(30) ? 0x100 : 0;
	if (e & 0x80 && chance(70)) {
		e &= pae ? ~0x1fe000ull : 0xffc01fff;
	}
	if (pae) {
		e |= chance(10) ? 1ull << 63 : 0;
		e |= chance(3) ? 1ull << (12 + rng() % 51) : 0;
	}
	return e;
}

static void random_tables(void)
{
	bool pae = v->cr4 & CR4_PAE;
	unsigned size = pae ? 8 : 4;

	for (unsigned at = 0; at < TABLES << 12; at += size) {
		uint64_t e = random_entry(pae);

		memcpy(board.ram + at, &e, size);
	}
	for (unsigned i = 0; i < 4; i++) {
		v->pdpte[i] = (rng() % TABLES) << 12 | (chance(90) ? 1 : 0);
	}
}

static void random_mode(void)
{
	unsigned kind = rng() % 10;

	v->cr0 = CR0_PE | CR0_PG | (chance(50) ? CR0_WP : 0);
	v->cr4 = (chance(50) ? CR4_SMEP : 0) | (chance(50) ? CR4_SMAP : 0) |
		 (chance(50) ? CR4_PGE : 0);
	v->efer = chance(60) ? EFER_NXE : 0;
	v->mode = MODE_PROT | MODE_32;
	v->cr3 = (rng() % TABLES) << 12;
	if (kind < 6) {
		v->cr4 |= CR4_PAE;
	} else if (chance(70)) {
		v->cr4 |= CR4_PSE;
	}
	if (kind < 4) {
		v->efer |= EFER_LMA | EFER_LME;
		v->mode = MODE_PROT | MODE_64 | MODE_LMA;
	}
	if (kind == 9) {
		v->cr0 &= ~(uint64_t)CR0_PG;
	}
}

static uint64_t random_lin(void)
{
	uint64_t lin = rng();

	/* Few indices per level: the same addresses come again and meet the TLB. */
	lin &= 0x0000c080c0606fffull | (lin >> 60 == 0 ? 0xffff000000000000ull : 0);
	if (!(v->efer & EFER_LMA)) {
		return (uint32_t)lin & 0xc0c06fff;
	}
	return lin >> 47 & 1 ? lin | 0xffff000000000000ull : lin;
}

static void random_privilege(void)
{
	v->cpl = chance(50) ? 3 : 0;
	v->rflags = FL_1 | (chance(50) ? FL_AC : 0);
	mmu_update_context(v);
}

static void check_access(uint64_t lin, enum mmu_access acc, unsigned size)
{
	bool user = v->cpl == 3, ac = v->rflags & FL_AC;
	struct ref want = ref_walk(lin, acc, user, ac);
	uint64_t val = rng(), gpa = 0;
	volatile uint64_t got = 0;
	unsigned n;

	raised_vector = -1;
	v->cr2 = 0;
	if (setjmp(v->unwind) == 0) {
		if (acc == MMU_X) {
			mmu_fetch(v, lin, &n, &gpa);
			assert_int_equal(n, 4096 - (lin & 0xfff));
		} else if (acc == MMU_W) {
			size == 8 ? mmu_write64(v, lin, val) : mmu_write8(v, lin, (uint8_t)val);
		} else {
			got = size == 8 ? mmu_read64(v, lin) : mmu_read8(v, lin);
		}
	}
	assert_int_equal(raised_vector, want.vector);
	if (want.vector == VEC_PF) {
		assert_int_equal(raised_error, want.error);
		assert_true(v->cr2 == lin);
		return;
	}
	if (want.vector != -1) {
		return;
	}
	if (acc == MMU_X) {
		assert_true(gpa == want.gpa);
	} else if (want.gpa >= RAM_SIZE) {
		assert_true(acc == MMU_W || got == (size == 8 ? want.gpa : (uint8_t)want.gpa));
	} else if (acc == MMU_W) {
		memcpy(board.copy + want.gpa, &val, size);
	} else {
		val = 0;
		memcpy(&val, board.copy + want.gpa, size);
		assert_true(got == val);
	}
}

/* An entry changes, and what is cached of it goes. */
static void mutate(void)
{
	unsigned size = v->cr4 & CR4_PAE ? 8 : 4;
	unsigned at = (unsigned)(rng() % (TABLES << 12)) & ~(size - 1);
	uint64_t e = random_entry(size == 8);

	memcpy(board.ram + at, &e, size);
	memcpy(board.copy + at, &e, size);
	mmu_flush_all(v);
}

static void random_accesses_match_the_reference(void **state)
{
	for (unsigned round = 0; round < 400; round++) {
		random_mode();
		random_privilege();
		mmu_flush_all(v);
		random_tables();
		memcpy(board.copy, board.ram, RAM_SIZE);
		for (unsigned i = 0; i < 400; i++) {
			unsigned size = chance(50) ? 8 : 1;
			uint64_t lin = random_lin() & ~(uint64_t)(size - 1);
			enum mmu_access acc = 1u << rng() % 3;

			if (chance(10)) {
				random_privilege();
			}
			if (chance(2)) {
				mutate();
			}
			check_access(lin, acc, size);
			/* A write may have hit the tables themselves. */
			if (acc == MMU_W) {
				mmu_flush_all(v);
			}
		}
		assert_memory_equal(board.ram, board.copy, RAM_SIZE);
	}
}

/* -- Page crossings, watched and code pages, large pages under INVLPG -- */

/* Long mode: the first 8 pages of linear memory are pages 64 to 71, each of its own rights. */
static uint64_t *small_tables(void)
{
	uint64_t *pte = (uint64_t *)(board.ram + 0x4000);

	memset(board.ram, 0, RAM_SIZE);
	*(uint64_t *)(board.ram + 0x1000) = 0x2007;
	*(uint64_t *)(board.ram + 0x2000) = 0x3007;
	*(uint64_t *)(board.ram + 0x3000) = 0x4007;
	*(uint64_t *)(board.ram + 0x3008) = 0x0087; /* 2 MB page at 2 MB: gpa 0 */
	for (unsigned i = 0; i < 8; i++) {
		pte[i] = (64 + i) << 12 | 7;
	}
	v->cr0 = CR0_PE | CR0_PG | CR0_WP;
	v->cr3 = 0x1000;
	v->cr4 = CR4_PAE;
	v->efer = EFER_LMA | EFER_LME | EFER_NXE;
	v->mode = MODE_PROT | MODE_64 | MODE_LMA;
	v->cpl = 0;
	v->rflags = FL_1;
	v->dr[7] = 0;
	last_page_is_code = true;
	mmu_flush_all(v);
	mmu_update_context(v);
	return pte;
}

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

/* -- PCIDs -- */

/*
 * Address spaces of long mode, space n under PCID n + 1. Linear memory of each: 16 small pages from
 * 0, a large page at 2 MB, 16 global pages from 4 MB, a global large page at 6 MB; large pages are
 * read-only pages 0 to 511. There are two page tables for the small pages, changed by their PDE.
 */
enum {
	SPACES = 12,
	SMALL = 16,
	SPACE_PAGES = 5, /* PML4, PDPT, PD, page table 0, page table 1 */
	FIRST_SPACE = 16,
	GLOBAL_TABLE = 15,
	FIRST_DATA = 128,
};

static unsigned current_space;

static uint64_t *space_page(unsigned n, unsigned k)
{
	return (uint64_t *)(board.ram + ((FIRST_SPACE + n * SPACE_PAGES + k) << 12));
}

static uint64_t page_gpa(const uint64_t *table)
{
	return (uint64_t)((const uint8_t *)table - board.ram);
}

/* What software stores: both memories get it. */
static void poke(uint64_t *at, uint64_t val)
{
	*at = val;
	memcpy(board.copy + page_gpa(at), &val, 8);
}

static uint64_t random_leaf(void)
{
	uint64_t e = (FIRST_DATA + rng() % (RAM_PAGES - 1 - FIRST_DATA)) << 12;

	return e | (chance(90) ? 1 : 0) | (chance(70) ? 2 : 0) | (chance(80) ? 4 : 0) |
	       (rng() & 0x60) | (chance(20) ? PTE_NX : 0);
}

static uint64_t random_large(void)
{
	return 0x81 | (rng() & 0x64) | (chance(20) ? PTE_NX : 0);
}

static void make_spaces(void)
{
	uint64_t *global = (uint64_t *)(board.ram + (GLOBAL_TABLE << 12));

	small_tables();
	for (unsigned i = FIRST_DATA << 12; i < RAM_SIZE; i += 8) {
		uint64_t val = rng();

		memcpy(board.ram + i, &val, 8);
	}
	for (unsigned n = 0; n < SPACES; n++) {
		/* Accessed, where global pages lie below: another space may have walked them. */
		space_page(n, 0)[0] = page_gpa(space_page(n, 1)) | 0x27;
		space_page(n, 1)[0] = page_gpa(space_page(n, 2)) | 0x27;
		space_page(n, 2)[0] = page_gpa(space_page(n, 3)) | 7;
		space_page(n, 2)[1] = random_large();
		space_page(n, 2)[2] = (GLOBAL_TABLE << 12) | 0x27;
		space_page(n, 2)[3] = 0x1a5;
		for (unsigned i = 0; i < 2 * SMALL; i++) {
			space_page(n, 3 + i / SMALL)[i % SMALL] = random_leaf();
		}
	}
	for (unsigned i = 0; i < SMALL; i++) {
		global[i] = random_leaf() | PTE_G;
	}
	memcpy(board.copy, board.ram, RAM_SIZE);
	v->cr4 |= CR4_PGE | CR4_PCIDE;
	v->cr3 = page_gpa(space_page(0, 0)) | 1;
	current_space = 0;
	mmu_flush_all(v);
}

static void switch_space(unsigned n, bool keep)
{
	mmu_switch_pcid(v, current_space + 1, n + 1, keep);
	v->cr3 = page_gpa(space_page(n, 0)) | (n + 1);
	current_space = n;
}

/* One of the ways to invalidate all that is cached for a space. False: left to its next switch. */
static bool invalidate_space(unsigned n)
{
	switch (rng() % 8) {
	case 0: mmu_flush_all(v); return true;
	case 1: mmu_flush_nonglobal(v); return true;
	case 2 ... 5: mmu_flush_pcid(v, current_space + 1, n + 1); return true;
	}
	if (n == current_space) {
		switch_space(n, false);
		return true;
	}
	return false;
}

static void invalidate_page(unsigned n, uint64_t lin, bool *stale)
{
	if (chance(40)) {
		*stale |= !invalidate_space(n);
	} else if (n == current_space && chance(50)) {
		mmu_flush_page(v, lin | (rng() & 0xfff));
	} else {
		mmu_flush_pcid_page(v, current_space + 1, n + 1, lin | (rng() & 0xfff));
	}
}

static void mutate_space(bool *stale)
{
	uint64_t *global = (uint64_t *)(board.ram + (GLOBAL_TABLE << 12));
	unsigned n = chance(40) ? current_space : rng() % SPACES, i = rng() % SMALL;

	switch (rng() % 8) {
	case 0: /* a global page: INVLPG drops it for all */
		poke(&global[i], random_leaf() | PTE_G);
		chance(80) ? mmu_flush_page(v, 0x400000 + i * 4096) : mmu_flush_all(v);
		break;
	case 1: /* a large page */
		poke(&space_page(n, 2)[1], random_large());
		invalidate_page(n, 0x200000 | (rng() & 0x1fffff), &stale[n]);
		break;
	case 2: /* a page table */
		poke(&space_page(n, 2)[0], page_gpa(space_page(n, 3 + rng() % 2)) | 7);
		stale[n] |= !invalidate_space(n);
		break;
	default:
		i = rng() % SMALL;
		poke(&space_page(n, 3)[i], random_leaf());
		poke(&space_page(n, 4)[i], random_leaf());
		invalidate_page(n, i * 4096, &stale[n]);
	}
}

static uint64_t space_lin(void)
{
	uint64_t lin = (rng() % 4) << 21 | rng() % SMALL << 12 | (rng() & 0xff8);

	return lin & 0x200000 ? lin | (rng() & 0x1ff) << 12 : lin;
}

static void random_pcids_match_the_reference(void **state)
{
	for (unsigned round = 0; round < 60; round++) {
		bool stale[SPACES] = {false};

		make_spaces();
		last_page_is_code = false;
		for (unsigned i = 0; i < 4000; i++) {
			unsigned what = rng() % 100;

			if (what < 10) {
				unsigned n = chance(70) ? rng() % 4 : rng() % SPACES;

				switch_space(n, !stale[n] && chance(85));
				stale[n] = false;
			} else if (what < 15) {
				random_privilege();
			} else if (what < 25) {
				mutate_space(stale);
			} else {
				check_access(space_lin(), 1u << rng() % 3, chance(50) ? 8 : 1);
			}
		}
		assert_memory_equal(board.ram, board.copy, RAM_SIZE);
	}
}

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

static int set_up(void **state)
{
	v = aligned_alloc(64, (sizeof(*v) + 63) & ~(size_t)63);
	if (v == NULL) {
		return -1;
	}
	memset(v, 0, sizeof(*v));
	v->board = &board;
	mmu_init(v);
	return 0;
}

static int tear_down(void **state)
{
	free(v);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_accesses_match_the_reference),
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
		cmocka_unit_test(random_pcids_match_the_reference),
		cmocka_unit_test(switch_that_keeps_costs_no_walk),
		cmocka_unit_test(ids_of_code_pages_come_back_until_forgotten),
		cmocka_unit_test(switch_that_flushes_drops_only_the_new_pcid),
		cmocka_unit_test(invpcid_of_one_pcid_leaves_the_others),
		cmocka_unit_test(flushes_of_all_pcids_reach_what_is_put_away),
		cmocka_unit_test(protecting_a_page_drops_stores_put_away),
		cmocka_unit_test(more_fills_than_a_set_holds_keep_the_latest),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
