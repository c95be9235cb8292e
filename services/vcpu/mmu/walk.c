/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page-table walk in 32-bit, PAE and 4-level paging. Intel SDM volume 3, 4.3 to 4.6.
 * Five-level paging and protection keys are not offered to guests.
 */
#include "mmu/walk.h"

#include "exits/board.h"

enum { MAX_LEVELS = 4 };

/* Where an entry lies, so that A and D can be set in it. */
struct entry {
	uint8_t *host; /* NULL: not in RAM, nothing to set */
	uint64_t val;
};

/* The form of one paging mode. */
struct form {
	unsigned levels, index_bits, entry_size;
	uint64_t top;	   /* guest-physical address of the first table */
	uint64_t reserved; /* in every entry */
};

static struct entry entry_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
	struct mem_run run;
	struct entry e = {NULL, UINT64_MAX};

	gpa &= MMU_PHYS_MASK & board_a20_mask(v->board);
	run = board_mem_lookup(v->board, gpa);
	if (run.r == NULL) {
		if (size == 4) {
			e.val = UINT32_MAX;
		}
		return e;
	}
	if (size == 4) {
		e.val = __atomic_load_n((uint32_t *)(run.r + (gpa - run.gpa)), __ATOMIC_RELAXED);
	} else {
		e.val = __atomic_load_n((uint64_t *)(run.r + (gpa - run.gpa)), __ATOMIC_RELAXED);
	}
	if (run.w != NULL) {
		e.host = run.w + (gpa - run.gpa);
	}
	return e;
}

/* False: another processor changed the entry since it was read. */
static bool entry_set(struct entry *e, uint64_t bits, unsigned size)
{
	uint64_t old64 = e->val;
	uint32_t old32 = (uint32_t)e->val;

	if (e->host == NULL || (e->val & bits) == bits) {
		return true;
	}
	if (size == 4) {
		return __atomic_compare_exchange_n((uint32_t *)e->host, &old32,
						   old32 | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_SEQ_CST);
	}
	return __atomic_compare_exchange_n((uint64_t *)e->host, &old64, old64 | bits, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static struct form paging_form(const struct vcpu *v)
{
	struct form f = {0};

	if (!(v->cr4 & CR4_PAE)) {
		f.levels = 2;
		f.index_bits = 10;
		f.entry_size = 4;
		f.top = v->cr3 & 0xfffff000;
		return f;
	}
	f.index_bits = 9;
	f.entry_size = 8;
	f.reserved = PTE_ADDR & ~MMU_PHYS_MASK;
	if (!(v->efer & EFER_NXE)) {
		f.reserved |= PTE_NX;
	}
	if (v->efer & EFER_LMA) {
		f.levels = 4;
		f.top = v->cr3 & PTE_ADDR;
	} else {
		f.levels = 2; /* below the PDPTE registers */
		f.reserved |= 0x7ff0000000000000ull;
	}
	return f;
}

/* Reserved bits of an entry at `level` (1: the page table), which maps a page if `leaf`. */
static uint64_t reserved_bits(const struct form *f, unsigned level, bool leaf, uint64_t val)
{
	unsigned shift = 12 + f->index_bits * (level - 1);

	if (f->entry_size == 4) {
		/* PSE-36: bits 20:13 are the page's address bits 39:32. */
		return leaf && level == 2 ? 1ull << 21 : 0;
	}
	if (level == 4) {
		return f->reserved | PTE_PS;
	}
	if (leaf && level > 1) {
		return f->reserved | (((1ull << shift) - 1) & ~0x1fffull);
	}
	return f->reserved;
}

static uint64_t leaf_address(const struct form *f, unsigned level, uint64_t val, uint64_t lin)
{
	unsigned shift = 12 + f->index_bits * (level - 1);
	uint64_t mask = (1ull << shift) - 1;
	uint64_t base = val & PTE_ADDR & ~mask;

	if (f->entry_size == 4 && level == 2) {
		base |= (val >> 13 & 0xff) << 32;
	}
	return base | (lin & mask);
}

static bool is_leaf(const struct vcpu *v, const struct form *f, unsigned level, uint64_t val)
{
	if (level == 1) {
		return true;
	}
	if (level == 4 || !(val & PTE_PS)) {
		return false;
	}
	return f->entry_size == 8 || (v->cr4 & CR4_PSE);
}

/*
 * Follows the tables. Returns WALK_OK, or the P and RSVD bits of the error code. e[] and *n: the
 * entries used, the leaf last.
 */
static int follow(struct vcpu *v, uint64_t lin, struct walk *w, struct form *f, struct entry *e,
		  unsigned *n)
{
	uint64_t table, val;
	unsigned level;

	*f = paging_form(v);
	table = f->top;
	if (mmu_is_pae(v->cr0, v->cr4, v->efer)) {
		uint64_t pdpte = v->pdpte[lin >> 30 & 3];

		if (!(pdpte & PTE_P)) {
			return 0;
		}
		table = pdpte & PTE_ADDR;
	}
	w->write = w->user = true;
	w->nx = false;
	*n = 0;
	for (level = f->levels;; level--) {
		unsigned shift = 12 + f->index_bits * (level - 1);
		uint64_t index = lin >> shift & ((1u << f->index_bits) - 1);
		bool leaf;

		e[*n] = entry_read(v, table + index * f->entry_size, f->entry_size);
		val = e[(*n)++].val;
		if (!(val & PTE_P)) {
			return 0;
		}
		leaf = is_leaf(v, f, level, val);
		if (val & reserved_bits(f, level, leaf, val)) {
			return PFERR_P | PFERR_RSVD;
		}
		w->write &= (val & PTE_W) != 0;
		w->user &= (val & PTE_U) != 0;
		w->nx |= f->entry_size == 8 && (val & PTE_NX);
		if (leaf) {
			w->shift = shift;
			w->gpa = leaf_address(f, level, val, lin) & MMU_PHYS_MASK;
			w->global = (val & PTE_G) && (v->cr4 & CR4_PGE);
			w->dirty = (val & PTE_D) != 0;
			return WALK_OK;
		}
		table = val & PTE_ADDR;
	}
}

static void identity(uint64_t lin, struct walk *w)
{
	*w = (struct walk){
		.gpa = lin & UINT32_MAX, .shift = 12, .write = true, .user = true, .dirty = true};
}

bool mmu_walk_permits(const struct vcpu *v, const struct walk *w, enum mmu_access acc,
		      enum mmu_ctx ctx)
{
	bool user = ctx >= MMU_USER;

	if (!(v->cr0 & CR0_PG)) {
		return true;
	}
	if (user && !w->user) {
		return false;
	}
	if (acc & MMU_X) {
		return !w->nx && (user || !w->user || !(v->cr4 & CR4_SMEP));
	}
	if (ctx == MMU_SUPER && w->user && (v->cr4 & CR4_SMAP)) {
		return false;
	}
	return !(acc & MMU_W) || w->write || (!user && !(v->cr0 & CR0_WP));
}

static int fault_code(const struct vcpu *v, int code, enum mmu_access acc, enum mmu_ctx ctx)
{
	if (acc & MMU_W) {
		code |= PFERR_W;
	}
	if (ctx >= MMU_USER) {
		code |= PFERR_U;
	}
	if ((acc & MMU_X) &&
	    ((v->cr4 & CR4_SMEP) || ((v->efer & EFER_NXE) && (v->cr4 & CR4_PAE)))) {
		code |= PFERR_I;
	}
	return code;
}

static bool set_accessed(struct entry *e, unsigned n, unsigned size, bool dirty)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		if (!entry_set(&e[i], dirty && i == n - 1 ? PTE_A | PTE_D : PTE_A, size)) {
			return false;
		}
	}
	return true;
}

int mmu_walk(struct vcpu *v, uint64_t lin, enum mmu_access acc, enum mmu_ctx ctx, struct walk *w)
{
	struct entry e[MAX_LEVELS];
	struct form f;
	unsigned n = 0;
	int code;

	if (!(v->cr0 & CR0_PG)) {
		identity(lin, w);
		return WALK_OK;
	}
	do {
		code = follow(v, lin, w, &f, e, &n);
		if (code != WALK_OK) {
			return fault_code(v, code, acc, ctx);
		}
		if (!mmu_walk_permits(v, w, acc, ctx)) {
			return fault_code(v, PFERR_P, acc, ctx);
		}
	} while (!set_accessed(e, n, f.entry_size, acc & MMU_W));
	w->dirty |= (acc & MMU_W) != 0;
	return WALK_OK;
}

bool mmu_walk_look(struct vcpu *v, uint64_t lin, struct walk *w)
{
	struct entry e[MAX_LEVELS];
	struct form f;
	unsigned n = 0;

	if (!(v->cr0 & CR0_PG)) {
		identity(lin, w);
		return true;
	}
	return follow(v, lin, w, &f, e, &n) == WALK_OK;
}

bool mmu_load_pdptes(struct vcpu *v, uint64_t cr3)
{
	const uint64_t reserved = ~MMU_PHYS_MASK | 0x1e6;
	uint64_t pdpte[4];
	unsigned i;

	for (i = 0; i < 4; i++) {
		pdpte[i] = entry_read(v, (cr3 & 0xffffffe0) + i * 8, 8).val;
		if ((pdpte[i] & PTE_P) && (pdpte[i] & reserved)) {
			return false;
		}
	}
	for (i = 0; i < 4; i++) {
		v->pdpte[i] = pdpte[i];
	}
	return true;
}
