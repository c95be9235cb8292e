/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translation caches and their flushes. Intel SDM volume 3, 4.10.
 *
 * vcpu.fills lists the slots filled since the last flush, so that a flush costs what was filled.
 * Large pages are cached by the 4 KB piece; INVLPG of one finds its other pieces in the list.
 * PCIDs are not told apart: a load of CR3 that switches them flushes all but global pages, which
 * the architecture allows.
 */
#include "mmu/tlb.h"

#include "exits/board.h"

/* One word of vcpu.fills. */
enum {
	FILL_SLOT = TLB_SIZE - 1,
	FILL_CTX_SHIFT = TLB_BITS,	 /* 2 bits */
	FILL_SHIFT_SHIFT = TLB_BITS + 2, /* log2 of the page size, 5 bits */
	N_FILLS = sizeof(((struct vcpu *)0)->fills) / sizeof(uint32_t),
};
#define FILL_GLOBAL (1u << 31)

/* Large pages by the GB they lie in, so that INVLPG elsewhere need not look for them. */
static uint64_t large_bit(uint64_t lin)
{
	return 1ull << (lin >> 30 & 63);
}

static void slot_clear(struct mmu_tlb *t, unsigned slot)
{
	t->e[slot].r = t->e[slot].w = t->e[slot].x = tlb_empty(slot);
	t->x_id[slot] = 0;
}

static struct mmu_tlb *fill_tlb(struct vcpu *v, uint32_t fill)
{
	return &v->tlbs[fill >> FILL_CTX_SHIFT & 3];
}

void mmu_init(struct vcpu *v)
{
	unsigned ctx, slot;

	for (ctx = 0; ctx < N_MMU_CTX; ctx++) {
		for (slot = 0; slot < TLB_SIZE; slot++) {
			slot_clear(&v->tlbs[ctx], slot);
		}
	}
	v->n_fills = 0;
	v->large_fills = 0;
	v->tlb_epoch++;
	v->tlb = &v->tlbs[MMU_SUPER];
}

void mmu_flush_all(struct vcpu *v)
{
	uint32_t i;

	for (i = 0; i < v->n_fills; i++) {
		slot_clear(fill_tlb(v, v->fills[i]), v->fills[i] & FILL_SLOT);
	}
	v->n_fills = 0;
	v->large_fills = 0;
	v->tlb_epoch++;
}

void mmu_flush_nonglobal(struct vcpu *v)
{
	uint32_t i, kept = 0;

	for (i = 0; i < v->n_fills; i++) {
		if (!(v->fills[i] & FILL_GLOBAL)) {
			slot_clear(fill_tlb(v, v->fills[i]), v->fills[i] & FILL_SLOT);
		}
	}
	for (i = 0; i < v->n_fills; i++) {
		if (v->fills[i] & FILL_GLOBAL) {
			v->fills[kept++] = v->fills[i];
		}
	}
	v->n_fills = kept;
	v->tlb_epoch++;
}

static bool same_page(uint64_t tag, unsigned slot, uint64_t lin, unsigned shift)
{
	return tag != tlb_empty(slot) && (tag ^ lin) >> shift == 0;
}

void mmu_flush_page(struct vcpu *v, uint64_t lin)
{
	unsigned ctx, slot = tlb_slot(lin);
	uint32_t i;

	for (ctx = 0; ctx < N_MMU_CTX; ctx++) {
		slot_clear(&v->tlbs[ctx], slot);
	}
	v->tlb_epoch++;
	if (!(v->large_fills & large_bit(lin))) {
		return;
	}
	for (i = 0; i < v->n_fills; i++) {
		unsigned shift = v->fills[i] >> FILL_SHIFT_SHIFT & 31;
		struct mmu_tlb *t = fill_tlb(v, v->fills[i]);

		slot = v->fills[i] & FILL_SLOT;
		if (shift != 12 && (same_page(t->e[slot].r, slot, lin, shift) ||
				    same_page(t->e[slot].w, slot, lin, shift) ||
				    same_page(t->e[slot].x, slot, lin, shift))) {
			slot_clear(t, slot);
		}
	}
}

void mmu_protect_code(struct vcpu *v, uint64_t gpa)
{
	struct mem_run run = board_mem_lookup(v->board, gpa & ~0xfffull);
	uint64_t host;
	uint32_t i;

	if (run.w == NULL) {
		return;
	}
	host = (uint64_t)(uintptr_t)(run.w + ((gpa & ~0xfffull) - run.gpa));
	for (i = 0; i < v->n_fills; i++) {
		unsigned slot = v->fills[i] & FILL_SLOT;
		struct tlb_entry *e = &fill_tlb(v, v->fills[i])->e[slot];

		if (e->page == host) {
			e->w = tlb_empty(slot);
		}
	}
}

void tlb_fill(struct vcpu *v, enum mmu_ctx ctx, uint64_t lin, const struct tlb_page *p)
{
	unsigned slot = tlb_slot(lin);
	uint64_t tag = lin & ~0xfffull;
	struct mmu_tlb *t = &v->tlbs[ctx];
	struct tlb_entry *e = &t->e[slot];
	uint64_t page = (uint64_t)(uintptr_t)p->r;

	if (v->n_fills == N_FILLS) {
		mmu_flush_all(v);
	}
	if (e->page != page || (e->r != tag && e->w != tag && e->x != tag)) {
		slot_clear(t, slot);
		e->page = page;
	}
	if (p->tag_r) {
		e->r = tag;
	}
	if (p->tag_w) {
		e->w = tag;
	}
	if (p->tag_x) {
		if (e->x != tag || t->x_gpa[slot] != p->gpa) {
			t->x_id[slot] = 0;
		}
		e->x = tag;
		t->x_gpa[slot] = p->gpa;
	}
	if (p->shift != 12) {
		v->large_fills |= large_bit(lin);
	}
	v->fills[v->n_fills++] = slot | (uint32_t)ctx << FILL_CTX_SHIFT |
				 (uint32_t)p->shift << FILL_SHIFT_SHIFT |
				 (p->global ? FILL_GLOBAL : 0);
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
