/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protection keys: rights of pages that change without a walk. Intel SDM volume 3, 4.6.2.
 *
 * Tags in the TLB have the rights of PKRU and PKRS in them. A right that a write to these takes is
 * dropped from fills with its key, in the sets of all PCIDs. The sets know which keys they have, so
 * that a write that takes no right in use costs nothing more. A right that is given comes with the
 * next miss. Fetches have no key.
 */
#include "mmu/tlb.h"

/* The lower bit of each pair, by key. */
static unsigned every_other(uint32_t x)
{
	x &= 0x55555555;
	x = (x | x >> 1) & 0x33333333;
	x = (x | x >> 2) & 0x0f0f0f0f;
	x = (x | x >> 4) & 0x00ff00ff;
	return (x | x >> 8) & 0xffff;
}

/* Of a set, `in_tlb`: and of the TLB; no_read, no_write: by key. Those of no_read are in both. */
static void set_restrict(struct vcpu *v, struct mmu_set *s, unsigned no_read, unsigned no_write)
{
	bool in_tlb = s == v->mmu.local || s == &v->mmu.global;

	if (!(s->reads & no_read) && !(s->writes & no_write)) {
		return;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		struct mmu_fill *f = &s->fill[i];
		unsigned key = fill_key(f->lin), slot = tlb_slot(f->lin);
		struct tlb_entry *e = &v->tlbs[fill_ctx(f->lin)].e[slot];
		bool r = no_read >> key & 1, w = no_write >> key & 1;

		if (in_tlb && w && (f->lin & FILL_TAGS)) {
			e->r = r ? tlb_empty(slot) : e->r;
			e->w = tlb_empty(slot);
		}
		f->lin &= ~(uint64_t)((r ? FILL_R : 0) | (w ? FILL_W | FILL_REPORTED : 0));
	}
	s->reads &= (uint16_t)~no_read;
	s->writes &= (uint16_t)~no_write;
	v->tlb_epoch++;
}

static void set_register(struct vcpu *v, uint64_t *reg, uint32_t val, uint64_t enabled)
{
	uint32_t taken = val & ~(uint32_t)*reg;
	unsigned no_read = every_other(taken);
	unsigned no_write = no_read | every_other(taken >> 1);

	*reg = val;
	if (!taken || !(v->cr4 & enabled)) {
		return;
	}
	for (unsigned i = 0; i < MMU_PCIDS; i++) {
		if (v->mmu.pcid[i].used) {
			set_restrict(v, &v->mmu.pcid[i], no_read, no_write);
		}
	}
	set_restrict(v, &v->mmu.global, no_read, no_write);
}

void mmu_set_pkru(struct vcpu *v, uint32_t val)
{
	set_register(v, &v->pkru, val, CR4_PKE);
}

void mmu_set_pkrs(struct vcpu *v, uint32_t val)
{
	set_register(v, &v->pkrs, val, CR4_PKS);
}
