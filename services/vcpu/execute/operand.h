/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operands of the integer families: registers by byte offset, memory by three forms of address,
 * the stack. Handlers are made by macro for each form and width, so that the frequent ones do
 * nothing but their work.
 */
#ifndef VCPU_EXECUTE_OPERAND_H
#define VCPU_EXECUTE_OPERAND_H

#include "execute/execute.h"

/* Guest memory through a host pointer: any alignment. */
typedef uint8_t mem8;
typedef uint16_t mem16 __attribute__((aligned(1)));
typedef uint32_t mem32 __attribute__((aligned(1)));
typedef uint64_t mem64 __attribute__((aligned(1)));

static inline void *gpr_at(struct vcpu *v, unsigned at)
{
	return (char *)v + offsetof(struct vcpu, gpr) + at;
}

static inline uint8_t get8(struct vcpu *v, unsigned at)
{
	return *(uint8_t *)gpr_at(v, at);
}

static inline uint16_t get16(struct vcpu *v, unsigned at)
{
	return *(uint16_t *)gpr_at(v, at);
}

static inline uint32_t get32(struct vcpu *v, unsigned at)
{
	return *(uint32_t *)gpr_at(v, at);
}

static inline uint64_t get64(struct vcpu *v, unsigned at)
{
	return *(uint64_t *)gpr_at(v, at);
}

static inline void set8(struct vcpu *v, unsigned at, uint8_t val)
{
	*(uint8_t *)gpr_at(v, at) = val;
}

static inline void set16(struct vcpu *v, unsigned at, uint16_t val)
{
	*(uint16_t *)gpr_at(v, at) = val;
}

/* A 32-bit result clears the upper half. */
static inline void set32(struct vcpu *v, unsigned at, uint32_t val)
{
	*(uint64_t *)gpr_at(v, at) = val;
}

static inline void set64(struct vcpu *v, unsigned at, uint64_t val)
{
	*(uint64_t *)gpr_at(v, at) = val;
}

/* Byte offset in vcpu.gpr of byte register `reg` of i: AH..BH are 4 to 7 without REX. */
static inline uint8_t byte_reg_at(const struct insn *i, unsigned reg)
{
	return !(i->flags & INSN_REX) && reg >= 4 && reg < 8 ? (reg - 4) * 8 + 1 : reg * 8;
}

/*
 * The forms of a memory operand's address. B: base + displacement (or RIP + displacement) in 64-bit
 * mode, no segment. X: 64-bit mode, anything with 64-bit addressing. G: everything.
 * operand_bind() prepares base_at and, as the displacement, aux.
 */
enum ea_form { EA_B, EA_X, EA_G, N_EA };

static inline uint64_t ea_b(struct vcpu *v, const struct insn *i)
{
	return get64(v, i->base_at) + (uint64_t)i->aux;
}

static inline uint64_t ea_x(struct vcpu *v, const struct insn *i)
{
	return ea_b(v, i) + (v->gpr[i->index] << i->scale) + v->seg_base[i->seg];
}

/* Where the bytes are on the host, or NULL: not in the TLB, or crossing a page. */
static inline void *tlb_hit(uint64_t tag, uint64_t page, uint64_t lin, unsigned size)
{
	void *p = (void *)(page + (lin ^ tag));

	if (__builtin_expect((lin ^ tag) > 4096 - size, 0)) {
		return NULL;
	}
	if (!p) {
		__builtin_unreachable(); /* saves the callers' second test */
	}
	return p;
}

static inline const void *tlb_hit_r(const struct vcpu *v, uint64_t lin, unsigned size)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];

	return tlb_hit(e->r, e->page, lin, size);
}

static inline void *tlb_hit_w(const struct vcpu *v, uint64_t lin, unsigned size)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];

	return tlb_hit(e->w, e->page, lin, size);
}

/*
 * The address of forms B and X by name of form. Handlers of these forms do hits in the TLB only,
 * and pass all else on to form G's, so that they need no stack frame.
 */
#define EA_FAST_B(v, i) ea_b(v, i)
#define EA_FAST_X(v, i) ea_x(v, i)

/* Fills reg_at, rm_at, base_at and aux for operands of `size` bytes; says the form of address. */
enum ea_form operand_bind(struct vcpu *v, struct insn *i, unsigned size);

static inline uint64_t mmu_read_size(struct vcpu *v, uint64_t lin, unsigned size)
{
	switch (size) {
	case 1: return mmu_read8(v, lin);
	case 2: return mmu_read16(v, lin);
	case 4: return mmu_read32(v, lin);
	default: return mmu_read64(v, lin);
	}
}

static inline void mmu_write_size(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val)
{
	switch (size) {
	case 1: mmu_write8(v, lin, val); break;
	case 2: mmu_write16(v, lin, val); break;
	case 4: mmu_write32(v, lin, val); break;
	default: mmu_write64(v, lin, val); break;
	}
}

/* Before a read-modify-write by reads and writes: raises now what the write would raise. */
static inline void mmu_probe_write(struct vcpu *v, uint64_t lin, unsigned size)
{
	if (!tlb_hit_w(v, lin, size)) {
		mmu_probe(v, lin, size, MMU_RW);
	}
}

static inline uint64_t get_size(struct vcpu *v, unsigned at, unsigned size)
{
	switch (size) {
	case 1: return get8(v, at);
	case 2: return get16(v, at);
	case 4: return get32(v, at);
	default: return get64(v, at);
	}
}

static inline void set_size(struct vcpu *v, unsigned at, unsigned size, uint64_t val)
{
	switch (size) {
	case 1: set8(v, at, val); break;
	case 2: set16(v, at, val); break;
	case 4: set32(v, at, val); break;
	default: set64(v, at, val); break;
	}
}

/* The r/m operand, `size` bytes, whichever it is. v->insn is set. */
static inline uint64_t rm_read(struct vcpu *v, const struct insn *i, unsigned size)
{
	if (i->mod == 3) {
		return get_size(v, i->rm_at, size);
	}
	return mmu_read_size(v, ea_linear(v, i, size, MMU_R), size);
}

static inline void rm_write(struct vcpu *v, const struct insn *i, unsigned size, uint64_t val)
{
	if (i->mod == 3) {
		set_size(v, i->rm_at, size, val);
	} else {
		mmu_write_size(v, ea_linear(v, i, size, MMU_W), size, val);
	}
}

/* -- the stack -- */

static inline uint64_t stack_mask(const struct vcpu *v)
{
	if ((v->mode & MODE_SIZE) == MODE_64) {
		return UINT64_MAX;
	}
	return v->mode & MODE_SS32 ? 0xffffffff : 0xffff;
}

/* SP, ESP or RSP := sp. */
static inline void stack_set(struct vcpu *v, uint64_t sp)
{
	uint64_t mask = stack_mask(v);

	v->gpr[RSP] = mask == 0xffff ? (v->gpr[RSP] & ~mask) | (sp & mask) : sp & mask;
}

static inline uint64_t stack_linear_at(struct vcpu *v, const struct insn *i, uint64_t sp,
				       unsigned size, enum mmu_access acc)
{
	/* The flag may be there for another segment: then this one's checks pass. */
	return seg_linear(v, SEG_SS, sp & stack_mask(v), size, acc, i->flags & INSN_SEG_CHECK);
}

static inline void stack_push_value(struct vcpu *v, const struct insn *i, unsigned size,
				    uint64_t val)
{
	uint64_t sp = v->gpr[RSP] - size;

	mmu_write_size(v, stack_linear_at(v, i, sp, size, MMU_W), size, val);
	stack_set(v, sp);
}

/* The value on top; the caller moves the pointer when nothing can fault any more. */
static inline uint64_t stack_top(struct vcpu *v, const struct insn *i, unsigned size)
{
	return mmu_read_size(v, stack_linear_at(v, i, v->gpr[RSP], size, MMU_R), size);
}

#endif
