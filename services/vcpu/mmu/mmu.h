/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as instructions see it: linear address -> guest-physical -> host pointer.
 * Intel SDM volume 3 chapter 4 (paging), 4.6 (access rights), 4.10 (caching translations).
 *
 * The inline functions are the fast path; everything else (miss, page crossing, MMIO, ROM, a page
 * that holds decoded code) is in the _slow ones. All raise guest exceptions by not returning
 * (exception.h), so a caller commits registers only after its last access. vCPU thread only.
 */
#ifndef VCPU_MMU_MMU_H
#define VCPU_MMU_MMU_H

#include <string.h>

#include "cpu.h"

enum mmu_access { MMU_R = 1, MMU_W = 2, MMU_X = 4, MMU_RW = MMU_R | MMU_W };

static inline unsigned tlb_slot(uint64_t lin)
{
	return (lin >> 12) & (TLB_SIZE - 1);
}

/* Empties every slot. Before the first access: a zeroed struct mmu_tlb is not an empty one. */
void mmu_init(struct vcpu *v);

uint64_t mmu_read_slow(struct vcpu *v, uint64_t lin, unsigned size);
void mmu_write_slow(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val);

/*
 * Host pointer to `size` bytes of directly accessible RAM at lin with access rights `acc` checked
 * (A and D bits set), or NULL when the bytes cross a page, are MMIO or ROM (for writes), or hold
 * decoded code (for writes): the caller then uses reads and writes. Valid until the next exit,
 * flush or instruction end.
 */
void *mmu_ptr_slow(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_access acc);

#define MMU_DEFINE_ACCESS(bits)                                                              \
	static inline uint##bits##_t mmu_read##bits(struct vcpu *v, uint64_t lin)            \
	{                                                                                    \
		const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];                       \
		uint64_t off = lin ^ e->r;                                                   \
		uint##bits##_t val;                                                          \
                                                                                             \
		if (__builtin_expect(off > 4096 - bits / 8, 0)) {                            \
			return (uint##bits##_t)mmu_read_slow(v, lin, bits / 8);              \
		}                                                                            \
		memcpy(&val, (const void *)(e->page + off), sizeof(val));                    \
		return val;                                                                  \
	}                                                                                    \
	static inline void mmu_write##bits(struct vcpu *v, uint64_t lin, uint##bits##_t val) \
	{                                                                                    \
		const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];                       \
		uint64_t off = lin ^ e->w;                                                   \
                                                                                             \
		if (__builtin_expect(off > 4096 - bits / 8, 0)) {                            \
			mmu_write_slow(v, lin, bits / 8, val);                               \
			return;                                                              \
		}                                                                            \
		memcpy((void *)(e->page + off), &val, sizeof(val));                          \
	}
MMU_DEFINE_ACCESS(8)
MMU_DEFINE_ACCESS(16)
MMU_DEFINE_ACCESS(32)
MMU_DEFINE_ACCESS(64)
#undef MMU_DEFINE_ACCESS

/* As mmu_ptr_slow(), fast when the TLB has the page. For RMW pass MMU_RW (checks write). */
static inline void *mmu_ptr(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_access acc)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];
	uint64_t off = lin ^ (acc & MMU_W ? e->w : e->r);

	if (__builtin_expect(off > 4096 - size, 0)) {
		return mmu_ptr_slow(v, lin, size, acc);
	}
	return (void *)(e->page + off);
}

/*
 * Copies between guest linear memory and `buf`; len up to 4096, may cross one page. Write checks
 * both pages before the first byte is stored.
 */
void mmu_read_bytes(struct vcpu *v, uint64_t lin, void *buf, unsigned len);
void mmu_write_bytes(struct vcpu *v, uint64_t lin, const void *buf, unsigned len);
/* Raises what an access would raise and does nothing else: write intent before a read, probes. */
void mmu_probe(struct vcpu *v, uint64_t lin, unsigned len, enum mmu_access acc);

/* Implicit supervisor accesses at any CPL: descriptor tables, TSS (SDM vol. 3, 4.6.1). */
uint64_t mmu_read_sys(struct vcpu *v, uint64_t lin, unsigned size);
void mmu_write_sys(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val);

/*
 * Explicit accesses with the rights of another privilege level than v->cpl: the stack that a
 * transfer is about to switch to.
 */
uint64_t mmu_read_cpl(struct vcpu *v, unsigned cpl, uint64_t lin, unsigned size);
void mmu_write_cpl(struct vcpu *v, unsigned cpl, uint64_t lin, unsigned size, uint64_t val);
/*
 * Host pointer to `size` bytes in one page for such accesses when the TLB has them, else NULL. For
 * whole frames; in long mode only (lin is not truncated).
 */
void *mmu_hit_cpl(struct vcpu *v, unsigned cpl, uint64_t lin, unsigned size, enum mmu_access acc);

/*
 * Instruction fetch: fills the x side of the TLB. Returns the host pointer of the byte at lin, the
 * bytes readable to the end of its page in *n, and its guest-physical address in *gpa; NULL when
 * the page is not RAM or ROM (then *gpa is valid and bytes are read one at a time). Faults are
 * raised at v->insn, or at v->rip when that is NULL.
 */
const uint8_t *mmu_fetch(struct vcpu *v, uint64_t lin, unsigned *n, uint64_t *gpa);

/* Translates without side effects, for debuggers. Returns 0 or -EFAULT. */
int mmu_translate_debug(struct vcpu *v, uint64_t lin, uint64_t *gpa);

/*
 * Drop cached translations, of all PCIDs: all; all but global pages. And of the current PCID and
 * global pages: those of one page and all that lead there (INVLPG). SDM vol. 3, 4.10.4.1.
 */
void mmu_flush_all(struct vcpu *v);
void mmu_flush_nonglobal(struct vcpu *v);
void mmu_flush_page(struct vcpu *v, uint64_t lin);
/*
 * A load of CR3 under CR4.PCIDE: what was cached for PCID `from` is put away. `keep`: what was put
 * away for `to` is good again; else what is cached for it is dropped. Global pages stay.
 */
void mmu_switch_pcid(struct vcpu *v, unsigned from, unsigned to, bool keep);
/* INVPCID: drop what is cached for a PCID, or for one page of it, but global pages. */
void mmu_flush_pcid(struct vcpu *v, unsigned current, unsigned pcid);
void mmu_flush_pcid_page(struct vcpu *v, unsigned current, unsigned pcid, uint64_t lin);
/*
 * The registers of protection keys, for user and for supervisor pages: cached translations keep no
 * right that the new value takes.
 */
void mmu_set_pkru(struct vcpu *v, uint32_t val);
void mmu_set_pkrs(struct vcpu *v, uint32_t val);
/* Drop write permission for a guest-physical page: it now holds decoded code. */
void mmu_protect_code(struct vcpu *v, uint64_t gpa);
/* Forgets what the translator put into mmu_tlb.x_id, for all PCIDs. */
void mmu_forget_ids(struct vcpu *v);
/*
 * Lock-step: lets stores to the page of lin be direct for a while, mmu_trace.hold off. False: that
 * takes a walk, or it holds code.
 */
bool mmu_allow_store(struct vcpu *v, uint64_t lin);
/* Stores to the page of lin go the slow way again, in the context that has t. */
void mmu_drop_store(struct vcpu *v, struct mmu_tlb *t, uint64_t lin);
/* CPL, EFLAGS.AC, CR0.WP, CR4.SMAP ... changed: choose v->tlb and flush what must be flushed. */
void mmu_update_context(struct vcpu *v);

#endif
