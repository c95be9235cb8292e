/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions on segment registers and selectors: MOV, PUSH, POP, LDS and friends, LAR, LSL, VERR,
 * VERW, ARPL, SWAPGS, RDFSBASE and friends. Intel SDM volume 2.
 */
#include "execute/cpuid.h"
#include "execute/segment.h"
#include "execute/system.h"

static void set_zf(struct vcpu *v, bool on)
{
	v->aflags = (uint16_t)((v->aflags & ~0x4000) | (on ? 0x4000 : 0));
}

/* Goes on after a segment was loaded; the trace ends if its instructions no longer fit. */
#define AFTER_LOAD(v, i, was)                            \
	do {                                             \
		if ((v)->mode != (was) || (v)->shadow) { \
			END_AFTER(v, i);                 \
		}                                        \
		NEXT(v, i);                              \
	} while (0)

/* Loading SS holds off interrupts and debug traps for one instruction. SDM vol. 3, 6.8.3. */
static void load(struct vcpu *v, enum seg seg, uint16_t sel)
{
	seg_load(v, seg, sel);
	if (seg == SEG_SS) {
		v->shadow |= SHADOW_MOV_SS;
		vcpu_update_req_mask(v);
	}
}

static const struct insn *mov_to_seg(struct vcpu *v, const struct insn *i)
{
	uint32_t was = v->mode;

	v->insn = i;
	load(v, (enum seg)(i->reg & 7), rm_read16(v, i));
	AFTER_LOAD(v, i, was);
}

static const struct insn *mov_from_seg(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	rm_write16(v, i, v->seg[i->reg & 7].selector);
	NEXT(v, i);
}

static enum seg pushed_seg(const struct insn *i)
{
	if (i->map == MAP_0F) {
		return i->opcode < 0xa8 ? SEG_FS : SEG_GS;
	}
	return (enum seg)(i->opcode >> 3 & 3);
}

/* Zero-extended, as by AMD's processors; Intel's later ones leave the upper half unwritten. */
static const struct insn *push_seg(struct vcpu *v, const struct insn *i)
{
	struct stack st = stack_current(v);
	uint16_t sel = v->seg[pushed_seg(i)].selector;

	v->insn = i;
	stack_push(v, &st, i->opsize, sel);
	stack_commit(v, &st);
	NEXT(v, i);
}

static const struct insn *pop_seg(struct vcpu *v, const struct insn *i)
{
	struct stack st = stack_current(v);
	uint32_t was = v->mode;
	uint16_t sel;

	v->insn = i;
	sel = (uint16_t)stack_pop(v, &st, i->opsize);
	load(v, pushed_seg(i), sel);
	/* The width of the stack that was popped. */
	stack_commit(v, &st);
	AFTER_LOAD(v, i, was);
}

static enum seg far_pointer_seg(const struct insn *i)
{
	if (i->map == MAP_1) {
		return i->opcode == 0xc4 ? SEG_ES : SEG_DS;
	}
	return i->opcode == 0xb2 ? SEG_SS : i->opcode == 0xb4 ? SEG_FS : SEG_GS;
}

/* LES, LDS, LSS, LFS, LGS. */
static const struct insn *load_far_pointer(struct vcpu *v, const struct insn *i)
{
	uint32_t was = v->mode;
	uint64_t lin, offset = 0;
	uint16_t sel;

	v->insn = i;
	lin = ea_linear(v, i, i->opsize + 2, MMU_R);
	mmu_read_bytes(v, lin, &offset, i->opsize);
	sel = mmu_read16(v, lin + i->opsize);
	seg_load(v, far_pointer_seg(i), sel);
	gpr_write(v, i->reg, i->opsize, offset);
	AFTER_LOAD(v, i, was);
}

static const struct insn *lar(struct vcpu *v, const struct insn *i)
{
	uint32_t rights;
	bool ok;

	v->insn = i;
	ok = segment_lar(v, rm_read16(v, i), &rights);
	if (ok) {
		gpr_write(v, i->reg, i->opsize, i->opsize == 2 ? rights & 0xff00 : rights);
	}
	set_zf(v, ok);
	NEXT(v, i);
}

static const struct insn *lsl(struct vcpu *v, const struct insn *i)
{
	uint32_t limit;
	bool ok;

	v->insn = i;
	ok = segment_lsl(v, rm_read16(v, i), &limit);
	if (ok) {
		gpr_write(v, i->reg, i->opsize, limit);
	}
	set_zf(v, ok);
	NEXT(v, i);
}

static const struct insn *verr_verw(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	set_zf(v, segment_verify(v, rm_read16(v, i), (i->reg & 7) == 5));
	NEXT(v, i);
}

static const struct insn *arpl(struct vcpu *v, const struct insn *i)
{
	unsigned rpl = v->gpr[i->reg] & SEL_RPL;
	uint64_t lin = 0;
	uint16_t sel;

	v->insn = i;
	if (i->mod == 3) {
		sel = (uint16_t)v->gpr[i->rm];
	} else {
		lin = ea_linear(v, i, 2, MMU_R);
		sel = mmu_read16(v, lin);
	}
	if ((sel & SEL_RPL) >= rpl) {
		set_zf(v, false);
		NEXT(v, i);
	}
	sel = (uint16_t)((sel & ~SEL_RPL) | rpl);
	if (i->mod == 3) {
		gpr_write(v, i->rm, 2, sel);
	} else {
		lin = ea_linear(v, i, 2, MMU_W);
		mmu_write16(v, lin, sel);
	}
	set_zf(v, true);
	NEXT(v, i);
}

static const struct insn *swapgs(struct vcpu *v, const struct insn *i)
{
	uint64_t base = v->seg[SEG_GS].base;

	v->insn = i;
	require_cpl0(v);
	v->seg[SEG_GS].base = v->seg_base[SEG_GS] = v->kernel_gs_base;
	v->kernel_gs_base = base;
	NEXT(v, i);
}

static const struct insn *fsgsbase(struct vcpu *v, const struct insn *i)
{
	enum seg seg = i->reg & 1 ? SEG_GS : SEG_FS;
	uint64_t val = i->opsize == 8 ? v->gpr[i->rm] : (uint32_t)v->gpr[i->rm];

	v->insn = i;
	if (!(v->cr4 & CR4_FSGSBASE)) {
		raise_exception(v, VEC_UD);
	}
	if ((i->reg & 7) < 2) {
		gpr_write(v, i->rm, i->opsize == 8 ? 8 : 4, v->seg[seg].base);
		NEXT(v, i);
	}
	if (!is_canonical(val)) {
		raise_error(v, VEC_GP, 0);
	}
	v->seg[seg].base = v->seg_base[seg] = val;
	NEXT(v, i);
}

static insn_fn *handler_0f(const struct vcpu *v, const struct insn *i)
{
	bool prot = v->mode & MODE_PROT;

	switch (i->opcode) {
	case 0x00: return prot && ((i->reg & 7) == 4 || (i->reg & 7) == 5) ? verr_verw : NULL;
	case 0x01: return i->mod == 3 && i->modrm == 0xf8 && in_64bit(v) ? swapgs : NULL;
	case 0x02: return prot ? lar : NULL;
	case 0x03: return prot ? lsl : NULL;
	case 0xa0:
	case 0xa8: return push_seg;
	case 0xa1:
	case 0xa9: return pop_seg;
	case 0xae:
		return i->mod == 3 && (i->reg & 7) < 4 && (i->flags & INSN_REP) && in_64bit(v) &&
				       cpuid_has(FEAT_FSGSBASE)
			       ? fsgsbase
			       : NULL;
	case 0xb2:
	case 0xb4:
	case 0xb5: return i->mod != 3 ? load_far_pointer : NULL;
	}
	return NULL;
}

static insn_fn *handler_1(const struct vcpu *v, const struct insn *i)
{
	switch (i->opcode) {
	case 0x06:
	case 0x0e:
	case 0x16:
	case 0x1e: return push_seg;
	case 0x07:
	case 0x17:
	case 0x1f: return pop_seg;
	case 0x63: return !in_64bit(v) && (v->mode & MODE_PROT) ? arpl : NULL;
	case 0x8c: return (i->reg & 7) < N_SEG ? mov_from_seg : NULL;
	case 0x8e: return (i->reg & 7) < N_SEG && (i->reg & 7) != SEG_CS ? mov_to_seg : NULL;
	case 0xc4:
	case 0xc5: return !in_64bit(v) && i->mod != 3 ? load_far_pointer : NULL;
	}
	return NULL;
}

bool system_bind_segment(const struct vcpu *v, struct insn *i)
{
	insn_fn *fn = i->map == MAP_1	 ? handler_1(v, i)
		      : i->map == MAP_0F ? handler_0f(v, i)
					 : NULL;

	if (fn == NULL) {
		return false;
	}
	i->fn = fn;
	return true;
}
