/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random page tables and accesses, the MMU against a reference walker written from SDM volume 3
 * 4.3 to 4.7 in another way: by names of fields, one level at a time, without any cache. Compared:
 * where the access went or which fault it raised, and every byte of memory (A and D bits). Rights
 * of protection keys change meanwhile.
 */
#include "mmu_rig.h"

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

/* Whether key `key` of a user page, or of another, is in the way. */
static bool ref_key_refuses(unsigned key, bool us, bool user, bool write)
{
	uint64_t reg = us ? v->pkru : v->pkrs;
	bool ad = reg >> (key * 2) & 1, wd = reg >> (key * 2 + 1) & 1;

	if (!(v->cr4 & (us ? CR4_PKE : CR4_PKS))) {
		return false;
	}
	return ad || (wd && write && (user || v->cr0 & CR0_WP));
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
	if (lng && acc != MMU_X && ref_key_refuses(e >> 59 & 15, us, user, acc == MMU_W)) {
		r.error |= 32;
		return r;
	}
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

/* Rights are taken and given, mostly few at a time. */
static void random_rights(void)
{
	uint32_t pkru = (uint32_t)v->pkru, pkrs = (uint32_t)v->pkrs, bits = (uint32_t)rng();

	bits = chance(20) ? bits : 1u << bits % 32;
	pkru = chance(20) ? 0 : pkru ^ bits;
	pkrs = chance(20) ? 0 : pkrs ^ (bits >> 7 | bits << 25);
	chance(60) ? mmu_set_pkru(v, pkru) : mmu_set_pkrs(v, pkrs);
}

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
		e |= random_key();
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
		 (chance(50) ? CR4_PGE : 0) | (chance(50) ? CR4_PKE : 0) |
		 (chance(50) ? CR4_PKS : 0);
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
			if (chance(10)) {
				random_rights();
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

/* -- PCIDs -- */

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
			} else if (what < 30) {
				random_rights();
			} else {
				check_access(space_lin(), 1u << rng() % 3, chance(50) ? 8 : 1);
			}
		}
		assert_memory_equal(board.ram, board.copy, RAM_SIZE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_accesses_match_the_reference),
		cmocka_unit_test(random_pcids_match_the_reference),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
