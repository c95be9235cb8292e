/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SSE moves, the most frequent instructions of the family, in C: MOVAPS and kin, MOVSS, MOVSD,
 * MOVQ, MOVD, MOVLPS, MOVHPS and the non-temporal stores. Intel SDM volume 2.
 */
#include "execute/simd.h"
#include "execute/simd_form.h"

struct xmm {
	uint64_t lo, hi;
};

static inline struct xmm *xmm(struct vcpu *v, unsigned n)
{
	return (struct xmm *)(void *)v->fx.xmm[n];
}

static inline void start(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_sse(v);
}

static inline const struct insn *load_16(struct vcpu *v, const struct insn *i, bool aligned)
{
	start(v, i);
	memcpy(v->fx.xmm[i->reg], simd_operand(v, i, 16, aligned ? 16 : 1), 16);
	NEXT(v, i);
}

static const struct insn *load_a16(struct vcpu *v, const struct insn *i)
{
	return load_16(v, i, true);
}

static const struct insn *load_u16(struct vcpu *v, const struct insn *i)
{
	return load_16(v, i, false);
}

static inline const struct insn *store_16(struct vcpu *v, const struct insn *i, bool aligned)
{
	uint64_t lin;
	void *p;

	start(v, i);
	p = simd_target(v, i, 16, aligned ? 16 : 1, &lin);
	if (__builtin_expect(!p, 0)) {
		mmu_write_bytes(v, lin, v->fx.xmm[i->reg], 16);
	} else {
		memcpy(p, v->fx.xmm[i->reg], 16);
	}
	NEXT(v, i);
}

static const struct insn *store_a16(struct vcpu *v, const struct insn *i)
{
	return store_16(v, i, true);
}

static const struct insn *store_u16(struct vcpu *v, const struct insn *i)
{
	return store_16(v, i, false);
}

static const struct insn *copy_reg_rm(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	*xmm(v, i->reg) = *xmm(v, i->rm);
	NEXT(v, i);
}

static const struct insn *copy_rm_reg(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	*xmm(v, i->rm) = *xmm(v, i->reg);
	NEXT(v, i);
}

/* MOVSS, MOVD, MOVSD, MOVQ from memory: zero-extended. */
static const struct insn *load_4(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	*xmm(v, i->reg) = (struct xmm){mmu_read32(v, ea_linear(v, i, 4, MMU_R)), 0};
	NEXT(v, i);
}

static const struct insn *load_8(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	*xmm(v, i->reg) = (struct xmm){mmu_read64(v, ea_linear(v, i, 8, MMU_R)), 0};
	NEXT(v, i);
}

static const struct insn *store_4(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	mmu_write32(v, ea_linear(v, i, 4, MMU_W), (uint32_t)xmm(v, i->reg)->lo);
	NEXT(v, i);
}

static const struct insn *store_8(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	mmu_write64(v, ea_linear(v, i, 8, MMU_W), xmm(v, i->reg)->lo);
	NEXT(v, i);
}

/* MOVLPS, MOVLPD; MOVHPS, MOVHPD. */
static const struct insn *load_low(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	xmm(v, i->reg)->lo = mmu_read64(v, ea_linear(v, i, 8, MMU_R));
	NEXT(v, i);
}

static const struct insn *load_high(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	xmm(v, i->reg)->hi = mmu_read64(v, ea_linear(v, i, 8, MMU_R));
	NEXT(v, i);
}

static const struct insn *store_high(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	mmu_write64(v, ea_linear(v, i, 8, MMU_W), xmm(v, i->reg)->hi);
	NEXT(v, i);
}

/* Register forms: MOVSS and MOVSD merge, MOVQ and MOVD zero-extend. */
static const struct insn *merge_ss(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	memcpy(v->fx.xmm[i->reg], v->fx.xmm[i->rm], 4);
	NEXT(v, i);
}

static const struct insn *merge_sd(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	xmm(v, i->reg)->lo = xmm(v, i->rm)->lo;
	NEXT(v, i);
}

static const struct insn *movq_reg(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	*xmm(v, i->reg) = (struct xmm){xmm(v, i->rm)->lo, 0};
	NEXT(v, i);
}

static const struct insn *movd_from_gpr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = v->gpr[i->rm];

	start(v, i);
	*xmm(v, i->reg) = (struct xmm){i->flags & INSN_REX_W ? val : (uint32_t)val, 0};
	NEXT(v, i);
}

static const struct insn *movd_to_gpr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = xmm(v, i->reg)->lo;

	start(v, i);
	v->gpr[i->rm] = i->flags & INSN_REX_W ? val : (uint32_t)val;
	NEXT(v, i);
}

/* MOVNTI: no SSE state, hence none of its checks. */
static const struct insn *movnti(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if (i->flags & INSN_REX_W) {
		mmu_write64(v, ea_linear(v, i, 8, MMU_W), v->gpr[i->reg]);
	} else {
		mmu_write32(v, ea_linear(v, i, 4, MMU_W), (uint32_t)v->gpr[i->reg]);
	}
	NEXT(v, i);
}

static insn_fn *bind_mem(const struct insn *i, enum simd_prefix pfx)
{
	bool packed = pfx == PFX_NP || pfx == PFX_66;
	bool w = i->flags & INSN_REX_W;

	switch (i->opcode) {
	case 0x10: return packed ? load_u16 : pfx == PFX_F3 ? load_4 : load_8;
	case 0x11: return packed ? store_u16 : pfx == PFX_F3 ? store_4 : store_8;
	case 0x12: return packed ? load_low : NULL;
	case 0x13: return packed ? store_8 : NULL;
	case 0x16: return packed ? load_high : NULL;
	case 0x17: return packed ? store_high : NULL;
	case 0x28: return packed ? load_a16 : NULL;
	case 0x29:
	case 0x2b: return packed ? store_a16 : NULL;
	case 0x6e: return pfx != PFX_66 ? NULL : w ? load_8 : load_4;
	case 0x6f: return pfx == PFX_66 ? load_a16 : pfx == PFX_F3 ? load_u16 : NULL;
	case 0x7e:
		if (pfx == PFX_F3) {
			return load_8;
		}
		return pfx != PFX_66 ? NULL : w ? store_8 : store_4;
	case 0x7f: return pfx == PFX_66 ? store_a16 : pfx == PFX_F3 ? store_u16 : NULL;
	case 0xc3: return pfx == PFX_NP ? movnti : NULL;
	case 0xd6: return pfx == PFX_66 ? store_8 : NULL;
	case 0xe7: return pfx == PFX_66 ? store_a16 : NULL;
	case 0xf0: return pfx == PFX_F2 ? load_u16 : NULL;
	}
	return NULL;
}

static insn_fn *bind_reg(const struct insn *i, enum simd_prefix pfx)
{
	bool packed = pfx == PFX_NP || pfx == PFX_66;

	switch (i->opcode) {
	case 0x10: return packed ? copy_reg_rm : pfx == PFX_F3 ? merge_ss : merge_sd;
	case 0x11: return packed ? copy_rm_reg : NULL;
	case 0x28: return packed ? copy_reg_rm : NULL;
	case 0x29: return packed ? copy_rm_reg : NULL;
	case 0x6e: return pfx == PFX_66 ? movd_from_gpr : NULL;
	case 0x6f: return pfx == PFX_66 || pfx == PFX_F3 ? copy_reg_rm : NULL;
	case 0x7e: return pfx == PFX_66 ? movd_to_gpr : pfx == PFX_F3 ? movq_reg : NULL;
	case 0x7f: return pfx == PFX_66 || pfx == PFX_F3 ? copy_rm_reg : NULL;
	}
	return NULL;
}

bool simd_bind_move(struct vcpu *v, struct insn *i)
{
	insn_fn *fn;

	if (i->map != MAP_0F) {
		return false;
	}
	fn = i->mod == 3 ? bind_reg(i, simd_prefix(i)) : bind_mem(i, simd_prefix(i));
	if (!fn) {
		return false;
	}
	i->fn = fn;
	return true;
}
