/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from the state: execution mode, segment bases, translation context, which requests
 * stop a run; and RFLAGS whole. Intel SDM volume 3, 2.2 and 2.3.
 */
#include "execute/execute.h"
#include "mmu/watch.h"

#define RFLAGS_VALID 0x3f7fd5u

/* Whether accesses through s need neither limit nor type checks. */
static bool is_flat(const struct segment *s, bool write)
{
	uint32_t must = SEG_P | SEG_S | SEG_TYPE_WRITE | (write ? 0 : SEG_TYPE_CODE);
	uint32_t never = SEG_UNUSABLE | (write ? SEG_TYPE_CODE | SEG_TYPE_EXPAND : 0);

	return s->base == 0 && s->limit == UINT32_MAX && (s->attr & must) == must &&
	       !(s->attr & never);
}

static uint32_t mode_bits(const struct vcpu *v)
{
	uint32_t mode = v->cpl == 3 ? MODE_USER : 0;

	if (v->efer & EFER_LMA) {
		mode |= MODE_LMA;
		if (v->seg[SEG_CS].attr & SEG_L) {
			return mode | MODE_64 | MODE_PROT | MODE_FLAT;
		}
	}
	mode |= v->seg[SEG_CS].attr & SEG_DB ? MODE_32 : MODE_16;
	if (v->seg[SEG_SS].attr & SEG_DB) {
		mode |= MODE_SS32;
	}
	if (!(v->cr0 & CR0_PE)) {
		return mode;
	}
	if (v->rflags & FL_VM) {
		return mode | MODE_V86;
	}
	mode |= MODE_PROT;
	if (is_flat(&v->seg[SEG_CS], false) && is_flat(&v->seg[SEG_DS], true) &&
	    is_flat(&v->seg[SEG_ES], true) && is_flat(&v->seg[SEG_SS], true)) {
		mode |= MODE_FLAT;
	}
	return mode;
}

void vcpu_update_mode(struct vcpu *v)
{
	bool long64;

	v->mode = mode_bits(v);
	long64 = (v->mode & MODE_SIZE) == MODE_64;
	v->seg_base[SEG_ES] = long64 ? 0 : v->seg[SEG_ES].base;
	v->seg_base[SEG_CS] = long64 ? 0 : v->seg[SEG_CS].base;
	v->seg_base[SEG_SS] = long64 ? 0 : v->seg[SEG_SS].base;
	v->seg_base[SEG_DS] = long64 ? 0 : v->seg[SEG_DS].base;
	v->seg_base[SEG_FS] = v->seg[SEG_FS].base;
	v->seg_base[SEG_GS] = v->seg[SEG_GS].base;
	mmu_update_context(v);
	vcpu_update_req_mask(v);
}

void vcpu_update_req_mask(struct vcpu *v)
{
	uint32_t mask = ~(uint32_t)(REQ_IRQ | REQ_NMI | REQ_NMI_2);

	if ((v->rflags & FL_IF) && v->shadow == 0) {
		mask |= REQ_IRQ;
	}
	if (!v->nmi_blocked && v->shadow == 0) {
		mask |= REQ_NMI;
	}
	v->req_mask = mask;
	v->stepping = (v->rflags & (FL_TF | FL_RF)) || v->pending_db || watch_any(v->dr[7]) ||
		      v->debug.step || v->debug.careful;
}

uint64_t vcpu_rflags(const struct vcpu *v)
{
	return v->rflags | aflags_to_rflags(v->aflags);
}

void vcpu_store_rflags(struct vcpu *v, uint64_t rflags)
{
	v->aflags = aflags_from_rflags(rflags);
	v->rflags = ((uint32_t)rflags & RFLAGS_VALID & ~(uint32_t)FL_ARITH) | FL_1;
}

void vcpu_set_rflags(struct vcpu *v, uint64_t rflags)
{
	vcpu_store_rflags(v, rflags);
	mmu_update_context(v);
	vcpu_update_req_mask(v);
}
