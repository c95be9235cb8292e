/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page-table walk in 32-bit, PAE and 4-level paging. Intel SDM volume 3, 4.3 to 4.6.
 * Five-level paging is not offered to guests.
 *
 * mmu_cache.walk is a paging-structure cache (4.10.3) by regions of a page table's reach: it holds
 * the host address of the page table, or a large page, with the rights that led there and the
 * accessed bits set. What it cannot answer as a success is walked from the top.
 */
#include "mmu/walk.h"

#include "mmu/tlb.h"

enum { MAX_LEVELS = 4 };

/*
 * Rights in the place they have in entries, NX inverted, so that what counts is the AND over the
 * levels. The others, and the key in its place, are of cached entries.
 */
enum walk_rights {
	RIGHT_LARGE = 1 << 0, /* base is a large page */
	RIGHT_WRITE = PTE_W,
	RIGHT_USER = PTE_U,
	RIGHT_DIRTY = PTE_D,
	RIGHT_GLOBAL = PTE_G,
};
#define RIGHT_EXEC PTE_NX
#define RIGHT_AND  (RIGHT_WRITE | RIGHT_USER | RIGHT_EXEC)

/* Where an entry lies, so that A and D can be set in it. */
struct entry {
	uint8_t *host; /* NULL: not in RAM, nothing to set */
	bool ram;      /* reads and writes of the table go to the same memory */
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
	struct entry e = {.val = UINT64_MAX};
	const uint8_t *from;

	gpa &= MMU_PHYS_MASK & board_a20_mask(v->board);
	e.host = ram_host(v, gpa);
	from = e.host;
	e.ram = from != NULL;
	if (!e.ram) {
		struct mem_run run = board_mem_lookup(v->board, gpa);

		from = run.r != NULL ? run.r + (gpa - run.gpa) : (const uint8_t *)&e.val;
		e.host = run.w != NULL && run.r != NULL ? run.w + (gpa - run.gpa) : NULL;
	}
	e.val = size == 4 ? __atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED)
			  : __atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED);
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

/* A walk on its way: the entries used, the leaf last. */
struct path {
	struct form f;
	struct entry e[MAX_LEVELS];
	unsigned n;
	uint64_t rights; /* RIGHT_AND of the entries above the leaf */
};

static void set_rights(struct walk *w, uint64_t rights)
{
	w->write = rights & RIGHT_WRITE;
	w->user = rights & RIGHT_USER;
	w->nx = !(rights & RIGHT_EXEC);
}

static void set_leaf(const struct vcpu *v, struct walk *w, const struct path *p, uint64_t val)
{
	set_rights(w, p->rights & (val ^ PTE_NX));
	w->global = (val & PTE_G) && (v->cr4 & CR4_PGE);
	w->dirty = (val & PTE_D) != 0;
	w->key = val >> PTE_KEY_SHIFT & 15;
}

/* Follows the tables. Returns WALK_OK, or the P and RSVD bits of the error code. */
static int follow(struct vcpu *v, uint64_t lin, struct walk *w, struct path *p)
{
	struct form *f = &p->f;
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
	p->rights = RIGHT_AND;
	p->n = 0;
	for (level = f->levels;; level--) {
		unsigned shift = 12 + f->index_bits * (level - 1);
		uint64_t index = lin >> shift & ((1u << f->index_bits) - 1);
		bool leaf;

		p->e[p->n] = entry_read(v, table + index * f->entry_size, f->entry_size);
		val = p->e[p->n++].val;
		if (!(val & PTE_P)) {
			return 0;
		}
		leaf = is_leaf(v, f, level, val);
		if (val & reserved_bits(f, level, leaf, val)) {
			return PFERR_P | PFERR_RSVD;
		}
		if (leaf) {
			w->shift = shift;
			w->gpa = leaf_address(f, level, val, lin) & MMU_PHYS_MASK;
			set_leaf(v, w, p, val);
			return WALK_OK;
		}
		p->rights &= val ^ PTE_NX;
		table = val & PTE_ADDR;
	}
}

static void identity(uint64_t lin, struct walk *w)
{
	*w = (struct walk){
		.gpa = lin & UINT32_MAX, .shift = 12, .write = true, .user = true, .dirty = true};
}

/* Whether the protection key of a page allows reads or writes, SDM vol. 3 4.6.2. */
static bool key_permits(const struct vcpu *v, const struct walk *w, bool write, bool user)
{
	uint64_t rights;

	if (!(v->cr4 & (w->user ? CR4_PKE : CR4_PKS)) || !(v->efer & EFER_LMA)) {
		return true;
	}
	rights = (w->user ? v->pkru : v->pkrs) >> 2 * w->key;
	return !(rights & KEY_AD) && !((rights & KEY_WD) && write && (user || (v->cr0 & CR0_WP)));
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
	if ((acc & MMU_W) && !w->write && (user || (v->cr0 & CR0_WP))) {
		return false;
	}
	return key_permits(v, w, acc & MMU_W, user);
}

/* PK is set where the key refuses, whatever else does. SDM vol. 3 4.7. */
static int rights_code(const struct vcpu *v, const struct walk *w, enum mmu_access acc,
		       enum mmu_ctx ctx)
{
	bool refused = !(acc & MMU_X) && !key_permits(v, w, acc & MMU_W, ctx >= MMU_USER);

	return refused ? PFERR_P | PFERR_PK : PFERR_P;
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

static bool set_accessed(struct path *p, bool dirty)
{
	unsigned i;

	for (i = 0; i < p->n; i++) {
		uint64_t bits = dirty && i == p->n - 1 ? PTE_A | PTE_D : PTE_A;

		if (!entry_set(&p->e[i], bits, p->f.entry_size)) {
			return false;
		}
	}
	return true;
}

/* -- The paging-structure cache -- */

static unsigned region_shift(const struct vcpu *v)
{
	return v->cr4 & CR4_PAE ? 21 : 22;
}

static struct mmu_walk_entry *cache_entry(struct vcpu *v, uint64_t region)
{
	return &v->mmu.walk[(region ^ region >> 9) % MMU_WALKS];
}

static bool walk_large(const struct mmu_walk_entry *c, unsigned shift, uint64_t lin, bool write,
		       struct walk *w)
{
	if (write && !(c->rights & RIGHT_DIRTY)) {
		return false;
	}
	w->shift = c->rights >> 32 & 0x3f;
	w->gpa = c->base | (lin & ((1ull << shift) - 1));
	w->global = c->rights & RIGHT_GLOBAL;
	w->dirty = c->rights & RIGHT_DIRTY;
	w->key = c->rights >> PTE_KEY_SHIFT & 15;
	set_rights(w, c->rights);
	return true;
}

/* False: the cache does not know, or a walk that finds the tables so would do more than find. */
static bool walk_cached(struct vcpu *v, uint64_t lin, bool write, struct walk *w)
{
	unsigned shift = region_shift(v);
	uint64_t region = lin >> shift, val, need = PTE_P | PTE_A | (write ? PTE_D : 0);
	const struct mmu_walk_entry *c = cache_entry(v, region);
	struct path p;

	if (c->region != region ||
	    (c->gen != v->mmu.local->walk_gen && c->gen != v->mmu.walk_gen_global)) {
		return false;
	}
	if (c->rights & RIGHT_LARGE) {
		return walk_large(c, shift, lin, write, w);
	}
	p.f = paging_form(v);
	if (p.f.entry_size == 8) {
		val = __atomic_load_n((uint64_t *)c->base + (lin >> 12 & 511), __ATOMIC_RELAXED);
	} else {
		val = __atomic_load_n((uint32_t *)c->base + (lin >> 12 & 1023), __ATOMIC_RELAXED);
	}
	if ((val & need) != need || (val & p.f.reserved)) {
		return false;
	}
	p.rights = c->rights;
	w->shift = 12;
	w->gpa = (val & PTE_ADDR & MMU_PHYS_MASK) | (lin & 0xfff);
	set_leaf(v, w, &p, val);
	return true;
}

/* After a walk that succeeded, its accessed bits set. */
static void cache_walk(struct vcpu *v, uint64_t lin, const struct walk *w, const struct path *p)
{
	uint64_t region = lin >> region_shift(v), mask = (1ull << region_shift(v)) - 1;
	struct mmu_walk_entry *c = cache_entry(v, region);
	const struct entry *leaf = &p->e[p->n - 1];

	if (w->shift == 12) {
		if (!leaf->ram) {
			return;
		}
		c->base = (uint64_t)(uintptr_t)leaf->host - (lin & mask) / 4096 * p->f.entry_size;
		c->rights = p->rights & RIGHT_AND;
		c->gen = v->mmu.local->walk_gen;
	} else {
		c->base = w->gpa & ~mask;
		c->rights = (p->rights & (leaf->val ^ PTE_NX) & RIGHT_AND) | RIGHT_LARGE |
			    (w->dirty ? RIGHT_DIRTY : 0) | (w->global ? RIGHT_GLOBAL : 0) |
			    (leaf->val & PTE_KEY) | (uint64_t)w->shift << 32;
		c->gen = w->global ? v->mmu.walk_gen_global : v->mmu.local->walk_gen;
	}
	c->region = region;
}

int mmu_walk(struct vcpu *v, uint64_t lin, enum mmu_access acc, enum mmu_ctx ctx, struct walk *w)
{
	struct path p;
	int code;

	if (!(v->cr0 & CR0_PG)) {
		identity(lin, w);
		return WALK_OK;
	}
	if (walk_cached(v, lin, acc & MMU_W, w) && mmu_walk_permits(v, w, acc, ctx)) {
		return WALK_OK;
	}
	cache_entry(v, lin >> region_shift(v))->gen = 0;
	do {
		code = follow(v, lin, w, &p);
		if (code != WALK_OK) {
			return fault_code(v, code, acc, ctx);
		}
		if (!mmu_walk_permits(v, w, acc, ctx)) {
			return fault_code(v, rights_code(v, w, acc, ctx), acc, ctx);
		}
	} while (!set_accessed(&p, acc & MMU_W));
	w->dirty |= (acc & MMU_W) != 0;
	cache_walk(v, lin, w, &p);
	return WALK_OK;
}

bool mmu_walk_look(struct vcpu *v, uint64_t lin, struct walk *w)
{
	struct path p;

	if (!(v->cr0 & CR0_PG)) {
		identity(lin, w);
		return true;
	}
	return follow(v, lin, w, &p) == WALK_OK;
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
