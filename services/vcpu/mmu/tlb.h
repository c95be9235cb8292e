/* SPDX-License-Identifier: Apache-2.0 */
/* The TLB's inside, shared by the files of mmu/. */
#ifndef VCPU_MMU_TLB_H
#define VCPU_MMU_TLB_H

#include "mmu/mmu.h"

/* A translated 4 KB piece of a page. */
struct tlb_page {
	uint64_t gpa;	/* of the piece, A20 applied */
	uint8_t *r, *w; /* host pointers to its first byte; NULL: I/O */
	bool code;	/* holds decoded code: stores are reported */
	bool watched;	/* a data breakpoint lies in it */
	bool global;
	bool tag_r, tag_w, tag_x; /* which sides of the slot to fill */
	unsigned shift;		  /* log2 of the whole page's size */
};

void tlb_fill(struct vcpu *v, enum mmu_ctx ctx, uint64_t lin, const struct tlb_page *p);

#endif
