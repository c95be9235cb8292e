/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page-table walk: linear address and access to guest-physical address and rights, or to the
 * error code of a page fault. Intel SDM volume 3 chapter 4.
 */
#ifndef VCPU_MMU_WALK_H
#define VCPU_MMU_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"
#include "mmu/mmu.h"

enum { MMU_PHYS_BITS = 40 }; /* as CPUID 0x80000008 reports */
#define MMU_PHYS_MASK ((1ull << MMU_PHYS_BITS) - 1)

/* Page-fault error code, SDM vol. 3 4.7. */
enum { PFERR_P = 1, PFERR_W = 2, PFERR_U = 4, PFERR_RSVD = 8, PFERR_I = 16, PFERR_PK = 32 };

/* Bits of a paging-structure entry. */
enum {
	PTE_P = 1 << 0,
	PTE_W = 1 << 1,
	PTE_U = 1 << 2,
	PTE_A = 1 << 5,
	PTE_D = 1 << 6,
	PTE_PS = 1 << 7,
	PTE_G = 1 << 8,
};
#define PTE_NX	      (1ull << 63)
#define PTE_KEY	      (15ull << PTE_KEY_SHIFT) /* protection key, of the leaf */
#define PTE_KEY_SHIFT 59
#define PTE_ADDR      0x000ffffffffff000ull

struct walk {
	uint64_t gpa;	  /* of the byte; A20 not applied */
	unsigned shift;	  /* log2 of the page's size: 12, 21, 22, 30; 12 without paging */
	bool write, user; /* the AND of R/W and U/S over all levels */
	bool nx, global, dirty;
	uint8_t key; /* protection key; 0 but in 4-level paging */
};

enum { WALK_OK = -1 };

/*
 * Walks for one access (exactly one of MMU_R, MMU_W, MMU_X) made in a context (`implicit`: to a
 * system structure, so EFLAGS.AC does not suspend SMAP and U/S is supervisor's). Sets A and D.
 * Returns WALK_OK or a page fault's error code. lin is canonical, below 4 GB outside long mode.
 */
int mmu_walk(struct vcpu *v, uint64_t lin, enum mmu_access acc, enum mmu_ctx ctx, struct walk *w);

/* The same without rights and without touching A and D. False: not mapped. */
bool mmu_walk_look(struct vcpu *v, uint64_t lin, struct walk *w);

/* Whether the rights of a page allow an access in a context, SDM vol. 3 4.6. */
bool mmu_walk_permits(const struct vcpu *v, const struct walk *w, enum mmu_access acc,
		      enum mmu_ctx ctx);

/* Loads the PDPTEs of PAE paging from cr3; false (nothing changed): reserved bits, #GP(0). */
bool mmu_load_pdptes(struct vcpu *v, uint64_t cr3);

/* Whether PAE paging outside long mode is what these registers ask for. */
static inline bool mmu_is_pae(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

#endif
