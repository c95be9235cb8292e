/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translation caches and their flushes. Intel SDM volume 3, 4.10.
 *
 * The TLB holds what is cached for the current PCID and for global pages. Two sets list the slots
 * filled for either, so that a flush costs what was filled; pcid.c keeps the sets of other PCIDs.
 * A fill whose slot went to a page of the other sort has no tags. Large pages are cached by the
 * 4 KB piece; INVLPG of one finds its other pieces in the sets.
 */
#include "mmu/tlb.h"

void mmu_init(struct vcpu *v)
{
	struct mmu_cache *m = &v->mmu;
	unsigned ctx, slot;

	for (ctx = 0; ctx < N_MMU_CTX; ctx++) {
		for (slot = 0; slot < TLB_SIZE; slot++) {
			slot_clear(&v->tlbs[ctx], slot);
		}
	}
	m->local = &m->pcid[0];
	set_empty(m->local);
	set_empty(&m->global);
	mmu_flush_all(v);
	v->tlb = &v->tlbs[MMU_SUPER];
}

static void set_flush(struct vcpu *v, struct mmu_set *s)
{
	uint32_t n = s->n;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t fill = s->fill[i].lin;

		if (fill & FILL_TAGS) {
			slot_clear(&v->tlbs[fill_ctx(fill)], tlb_slot(fill));
		}
	}
	set_empty(s);
}

/* What is kept for the other PCIDs. */
static void forget_others(struct mmu_cache *m)
{
	for (unsigned i = 0; i < MMU_PCIDS; i++) {
		m->pcid[i].used = &m->pcid[i] == m->local;
	}
}

static void flush_global(struct vcpu *v)
{
	set_flush(v, &v->mmu.global);
	v->mmu.walk_gen_global = new_gen(&v->mmu);
	v->tlb_epoch++;
}

void tlb_flush_local(struct vcpu *v)
{
	set_flush(v, v->mmu.local);
	v->mmu.local->walk_gen = new_gen(&v->mmu);
	v->tlb_epoch++;
}

void mmu_flush_all(struct vcpu *v)
{
	struct mmu_cache *m = &v->mmu;

	tlb_flush_local(v);
	flush_global(v);
	forget_others(m);
	memset(m->stores, 0, sizeof(m->stores));
	memset(m->large_2m, 0, sizeof(m->large_2m));
	memset(m->large_1g, 0, sizeof(m->large_1g));
	memset(m->ram, 0, sizeof(m->ram));
}

void mmu_flush_nonglobal(struct vcpu *v)
{
	tlb_flush_local(v);
	forget_others(&v->mmu);
}

/* Drops all pieces of the large page that lin lies in, and looks which large pages are left. */
static void drop_large(struct vcpu *v, struct mmu_set *s, uint64_t lin)
{
	for (uint32_t i = 0; i < s->n; i++) {
		uint64_t fill = s->fill[i].lin;

		if (!(fill & FILL_SIZE) || !(fill & FILL_TAGS)) {
			continue;
		}
		if (fill_has(fill, lin)) {
			slot_clear(&v->tlbs[fill_ctx(fill)], tlb_slot(fill));
			s->fill[i].lin &= ~(uint64_t)FILL_TAGS;
		} else {
			large_add(&v->mmu, fill);
		}
	}
}

void tlb_drop_page(struct vcpu *v, uint64_t lin)
{
	struct mmu_cache *m = &v->mmu;
	unsigned slot = tlb_slot(lin);

	for (unsigned ctx = 0; ctx < N_MMU_CTX; ctx++) {
		const struct tlb_entry *e = &v->tlbs[ctx].e[slot];

		if (e->r != tlb_empty(slot) || e->w != tlb_empty(slot) || e->x != tlb_empty(slot)) {
			slot_clear(&v->tlbs[ctx], slot);
			fill_untag(m->local, m->at_local, slot_id(slot, ctx));
			fill_untag(&m->global, m->at_global, slot_id(slot, ctx));
		}
	}
	v->tlb_epoch++;
}

void mmu_flush_page(struct vcpu *v, uint64_t lin)
{
	struct mmu_cache *m = &v->mmu;

	tlb_drop_page(v, lin);
	m->local->walk_gen = new_gen(m);
	m->walk_gen_global = new_gen(m);
	if (large_maybe(m, lin)) {
		memset(m->large_2m, 0, sizeof(m->large_2m));
		memset(m->large_1g, 0, sizeof(m->large_1g));
		drop_large(v, m->local, lin);
		drop_large(v, &m->global, lin);
	}
}

/* Drops stores to a host page from a set, `in_tlb`: and from the TLB; notes what stores stay. */
static void set_protect(struct vcpu *v, struct mmu_set *s, bool in_tlb, uint64_t page)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct mmu_fill *f = &s->fill[i];

		if (!(f->lin & FILL_W)) {
			continue;
		}
		if (f->page != page) {
			stores_add(&v->mmu, f->page);
			continue;
		}
		f->lin = (f->lin & ~(uint64_t)FILL_W) | FILL_REPORTED;
		if (in_tlb) {
			unsigned slot = tlb_slot(f->lin);

			v->tlbs[fill_ctx(f->lin)].e[slot].w = tlb_empty(slot);
		}
	}
}

void mmu_protect_code(struct vcpu *v, uint64_t gpa)
{
	struct mem_run run = board_mem_lookup(v->board, gpa & ~0xfffull);
	struct mmu_cache *m = &v->mmu;
	uint64_t page;
	unsigned bit;

	v->tlb_epoch++;
	if (run.w == NULL) {
		return;
	}
	page = (uint64_t)(uintptr_t)(run.w + ((gpa & ~0xfffull) - run.gpa));
	bit = store_bit(page);
	if (!(m->stores[bit >> 6] >> (bit & 63) & 1)) {
		return;
	}
	memset(m->stores, 0, sizeof(m->stores));
	for (unsigned i = 0; i < MMU_PCIDS; i++) {
		if (m->pcid[i].used) {
			set_protect(v, &m->pcid[i], &m->pcid[i] == m->local, page);
		}
	}
	set_protect(v, &m->global, true, page);
}

/* The slot's fill in the set it belongs to, made now if need be. */
static struct mmu_fill *fill_get(struct vcpu *v, unsigned id, bool global)
{
	struct mmu_cache *m = &v->mmu;
	struct mmu_set *s = global ? &m->global : m->local;
	uint16_t *at = global ? m->at_global : m->at_local;
	struct mmu_fill *f = set_fill(s, at, id);

	if (f) {
		return f;
	}
	if (s->n == MMU_FILLS) {
		global ? flush_global(v) : tlb_flush_local(v);
	}
	at[id] = (uint16_t)s->n;
	f = &s->fill[s->n++];
	f->lin = 0;
	return f;
}

void tlb_fill(struct vcpu *v, enum mmu_ctx ctx, uint64_t lin, const struct tlb_page *p)
{
	unsigned slot = tlb_slot(lin), id = slot_id(slot, ctx);
	uint64_t tag = lin & ~0xfffull, page = (uint64_t)(uintptr_t)p->r;
	uint64_t fill = tag | (unsigned)ctx << FILL_CTX_SHIFT | fill_of_shift(p->shift) |
			fill_of_key(p->key);
	struct mmu_fill *f = fill_get(v, id, p->global);
	struct mmu_cache *m = &v->mmu;
	struct mmu_tlb *t = &v->tlbs[ctx];
	struct tlb_entry *e = &t->e[slot];

	if ((f->lin & ~(uint64_t)(FILL_TAGS | FILL_REPORTED)) != fill || !(f->lin & FILL_TAGS) ||
	    f->page != page || f->gpa != p->gpa) {
		fill_untag(p->global ? m->local : &m->global,
			   p->global ? m->at_local : m->at_global, id);
		slot_clear(t, slot);
		e->page = page;
		t->x_gpa[slot] = p->gpa;
		*f = (struct mmu_fill){fill, page, p->gpa, 0};
	}
	if (p->tag_r) {
		e->r = tag;
	}
	if (p->tag_w) {
		e->w = tag;
		stores_add(m, page);
	}
	if (p->tag_x) {
		e->x = tag;
	}
	f->lin |= (p->tag_r ? FILL_R : 0) | (p->tag_w ? FILL_W : 0) | (p->tag_x ? FILL_X : 0) |
		  (p->store_reported ? FILL_REPORTED : 0);
	if (v->cr4 & (CR4_PKE | CR4_PKS)) {
		keys_add(p->global ? &m->global : m->local, f->lin);
	}
	if (p->shift != 12) {
		large_add(m, fill);
	}
}

void mmu_drop_store(struct vcpu *v, struct mmu_tlb *t, uint64_t lin)
{
	unsigned slot = tlb_slot(lin), id = slot_id(slot, (unsigned)(t - v->tlbs));
	struct mmu_cache *m = &v->mmu;
	struct mmu_fill *local = set_fill(m->local, m->at_local, id);
	struct mmu_fill *global = set_fill(&m->global, m->at_global, id);

	t->e[slot].w = tlb_empty(slot);
	if (local) {
		local->lin &= ~(uint64_t)FILL_W;
	}
	if (global) {
		global->lin &= ~(uint64_t)FILL_W;
	}
}

bool tlb_reported_store(struct vcpu *v, unsigned ctx, uint64_t lin)
{
	unsigned id = slot_id(tlb_slot(lin), ctx);
	struct mmu_cache *m = &v->mmu;
	const struct mmu_fill *f = set_fill(m->local, m->at_local, id);

	if (!f || !(f->lin & FILL_TAGS)) {
		f = set_fill(&m->global, m->at_global, id);
	}
	return f && (f->lin & FILL_R) && (f->lin & FILL_REPORTED);
}

bool mmu_allow_store(struct vcpu *v, uint64_t lin)
{
	unsigned ctx = (unsigned)(v->tlb - v->tlbs), slot = tlb_slot(lin);
	struct tlb_entry *e = &v->tlb->e[slot];

	if ((lin ^ e->r) > 0xfff || !tlb_reported_store(v, ctx, lin) ||
	    board_code_page(v->board, v->tlb->x_gpa[slot])) {
		return false;
	}
	e->w = e->r;
	return true;
}

uint8_t *ram_find(struct vcpu *v, uint64_t gpa)
{
	struct mem_run run = board_mem_lookup(v->board, gpa);
	unsigned i = ram_index(gpa);

	if (run.r == NULL || run.r != run.w) {
		return NULL;
	}
	v->mmu.ram[i].gpa = run.gpa;
	v->mmu.ram[i].len = run.len;
	v->mmu.ram[i].host = run.r;
	return run.r + (gpa - run.gpa);
}

void mmu_update_context(struct vcpu *v)
{
	enum mmu_ctx ctx;

	if (v->cpl == 3) {
		ctx = (v->cr0 & CR0_AM) && (v->rflags & FL_AC) ? MMU_USER_ALIGN : MMU_USER;
	} else {
		ctx = (v->cr4 & CR4_SMAP) && (v->rflags & FL_AC) ? MMU_SUPER_AC : MMU_SUPER;
	}
	v->tlb = &v->tlbs[ctx];
}
