/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process-context identifiers. Intel SDM volume 3, 4.10.1 and 4.10.4.
 *
 * The TLB holds the current PCID's translations and global ones. A switch clears the former and
 * fills in what the set of the new PCID lists: both cost what was filled. At most MMU_PCIDS are
 * remembered, and of each the latest KEEP fills; the architecture allows to forget.
 */
#include "mmu/tlb.h"

enum { KEEP = 512 };

/* The set of a PCID that is not the current one, or NULL. */
static struct mmu_set *set_find(struct mmu_cache *m, unsigned pcid)
{
	for (unsigned i = 0; i < MMU_PCIDS; i++) {
		struct mmu_set *s = &m->pcid[i];

		if (s->used && s != m->local && s->pcid == pcid) {
			return s;
		}
	}
	return NULL;
}

/* A set for a PCID that has none: an unused one, else the one left longest ago. */
static struct mmu_set *set_new(struct mmu_cache *m)
{
	struct mmu_set *best = NULL;

	for (unsigned i = 0; i < MMU_PCIDS; i++) {
		struct mmu_set *s = &m->pcid[i];

		if (!s->used) {
			best = s;
			break;
		}
		if (s != m->local && (!best || s->left_at < best->left_at)) {
			best = s;
		}
	}
	best->used = true;
	set_empty(best);
	best->walk_gen = new_gen(m);
	return best;
}

/* Takes the current set's fills out of the TLB. */
static void set_leave(struct vcpu *v, unsigned pcid)
{
	struct mmu_set *s = v->mmu.local;
	uint32_t n = s->n;

	for (uint32_t i = 0; i < n; i++) {
		struct mmu_fill *f = &s->fill[i];
		struct mmu_tlb *t = &v->tlbs[fill_ctx(f->lin)];
		unsigned slot = tlb_slot(f->lin);

		if (f->lin & FILL_TAGS) {
			f->x_id = t->x_id[slot];
			slot_clear(t, slot);
		}
	}
	if (n > KEEP) {
		memmove(s->fill, s->fill + n - KEEP, KEEP * sizeof(s->fill[0]));
		s->n = KEEP;
	}
	s->pcid = (uint16_t)pcid;
	s->left_at = ++v->mmu.last_left;
}

static void slot_restore(struct mmu_tlb *t, const struct mmu_fill *f)
{
	uint64_t fill = f->lin, tag = fill & ~0xfffull;
	unsigned slot = tlb_slot(fill);
	uint64_t empty = tlb_empty(slot);
	struct tlb_entry *e = &t->e[slot];

	e->r = fill & FILL_R ? tag : empty;
	e->w = fill & FILL_W ? tag : empty;
	e->x = fill & FILL_X ? tag : empty;
	e->page = f->page;
	t->x_gpa[slot] = f->gpa;
	t->x_id[slot] = f->x_id;
}

/* Puts the fills of s, which becomes the current set, into the TLB. */
static void set_enter(struct vcpu *v, struct mmu_set *s)
{
	struct mmu_cache *m = &v->mmu;
	uint32_t n = s->n;

	m->local = s;
	for (uint32_t i = 0; i < n; i++) {
		const struct mmu_fill *f = &s->fill[i];
		unsigned id = fill_id(f->lin);

		m->at_local[id] = (uint16_t)i;
		if (!(f->lin & FILL_TAGS)) {
			continue;
		}
		fill_untag(&m->global, m->at_global, id);
		slot_restore(&v->tlbs[fill_ctx(f->lin)], f);
		if (f->lin & FILL_SIZE) {
			large_add(m, f->lin);
		}
	}
}

void mmu_switch_pcid(struct vcpu *v, unsigned from, unsigned to, bool keep)
{
	struct mmu_cache *m = &v->mmu;
	struct mmu_set *next;

	if (from == to) {
		if (!keep) {
			tlb_flush_local(v);
		}
		return;
	}
	set_leave(v, from);
	next = set_find(m, to);
	if (!next) {
		next = set_new(m);
	} else if (!keep) {
		set_empty(next);
		next->walk_gen = new_gen(m);
	}
	set_enter(v, next);
	v->tlb_epoch++;
}

void mmu_forget_ids(struct vcpu *v)
{
	for (unsigned ctx = 0; ctx < N_MMU_CTX; ctx++) {
		memset(v->tlbs[ctx].x_id, 0, sizeof(v->tlbs[ctx].x_id));
	}
	for (unsigned i = 0; i < MMU_PCIDS; i++) {
		struct mmu_set *s = &v->mmu.pcid[i];

		for (uint32_t k = 0; s->used && k < s->n; k++) {
			s->fill[k].x_id = 0;
		}
	}
}

void mmu_flush_pcid(struct vcpu *v, unsigned current, unsigned pcid)
{
	struct mmu_set *s = set_find(&v->mmu, pcid);

	if (pcid == current) {
		tlb_flush_local(v);
	} else if (s) {
		s->used = false;
	}
}

void mmu_flush_pcid_page(struct vcpu *v, unsigned current, unsigned pcid, uint64_t lin)
{
	struct mmu_set *s = set_find(&v->mmu, pcid);

	if (pcid == current) {
		mmu_flush_page(v, lin);
		return;
	}
	if (!s) {
		return;
	}
	s->walk_gen = new_gen(&v->mmu);
	for (uint32_t i = 0; i < s->n; i++) {
		if (fill_has(s->fill[i].lin, lin)) {
			s->fill[i].lin &= ~(uint64_t)FILL_TAGS;
		}
	}
}
