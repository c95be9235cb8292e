/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX moves, the most frequent instructions of the family, in C: VMOVAPS and kin, VMOVD, VMOVQ and
 * the non-temporal stores. With 128 bits the upper half becomes 0. Intel SDM volume 2.
 */
#include "decode/vex.h"
#include "execute/simd.h"

static inline void start(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_avx(v);
}

static inline void copy(struct vcpu *v, unsigned dst, unsigned src, bool wide)
{
	memcpy(v->fx.xmm[dst], v->fx.xmm[src], 16);
	if (wide) {
		memcpy(v->ymmh[dst], v->ymmh[src], 16);
	} else {
		memset(v->ymmh[dst], 0, 16);
	}
	simd_clear_zmm(v, dst);
}

static inline void load(struct vcpu *v, const struct insn *i, unsigned len, bool aligned)
{
	const uint8_t *p;

	start(v, i);
	p = simd_operand(v, i, len, aligned ? len : 1);
	memcpy(v->fx.xmm[i->reg], p, 16);
	if (len == 32) {
		memcpy(v->ymmh[i->reg], p + 16, 16);
	} else {
		memset(v->ymmh[i->reg], 0, 16);
	}
	simd_clear_zmm(v, i->reg);
}

static inline void store(struct vcpu *v, const struct insn *i, unsigned len, bool aligned)
{
	uint64_t lin;
	uint8_t *p;

	start(v, i);
	p = simd_target(v, i, len, aligned ? len : 1, &lin);
	if (__builtin_expect(!p, 0)) {
		memcpy(v->bounce, v->fx.xmm[i->reg], 16);
		memcpy(v->bounce + 16, v->ymmh[i->reg], 16);
		mmu_write_bytes(v, lin, v->bounce, len);
		return;
	}
	memcpy(p, v->fx.xmm[i->reg], 16);
	if (len == 32) {
		memcpy(p + 16, v->ymmh[i->reg], 16);
	}
}

#define DEFINE_MOVES(len)                                                                 \
	static const struct insn *load_a##len(struct vcpu *v, const struct insn *i)       \
	{                                                                                 \
		load(v, i, len, true);                                                    \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *load_u##len(struct vcpu *v, const struct insn *i)       \
	{                                                                                 \
		load(v, i, len, false);                                                   \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *store_a##len(struct vcpu *v, const struct insn *i)      \
	{                                                                                 \
		store(v, i, len, true);                                                   \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *store_u##len(struct vcpu *v, const struct insn *i)      \
	{                                                                                 \
		store(v, i, len, false);                                                  \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *copy_reg_rm_##len(struct vcpu *v, const struct insn *i) \
	{                                                                                 \
		start(v, i);                                                              \
		copy(v, i->reg, i->rm, (len) == 32);                                      \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *copy_rm_reg_##len(struct vcpu *v, const struct insn *i) \
	{                                                                                 \
		start(v, i);                                                              \
		copy(v, i->rm, i->reg, (len) == 32);                                      \
		NEXT(v, i);                                                               \
	}
DEFINE_MOVES(16)
DEFINE_MOVES(32)
#undef DEFINE_MOVES

/* VMOVD and VMOVQ: zero-extended. */
static inline void set_low(struct vcpu *v, unsigned n, uint64_t val)
{
	memset(v->fx.xmm[n], 0, 16);
	memcpy(v->fx.xmm[n], &val, 8);
	memset(v->ymmh[n], 0, 16);
	simd_clear_zmm(v, n);
}

static inline uint64_t low(const struct vcpu *v, unsigned n)
{
	uint64_t val;

	memcpy(&val, v->fx.xmm[n], 8);
	return val;
}

static const struct insn *load_4(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	set_low(v, i->reg, mmu_read32(v, ea_linear(v, i, 4, MMU_R)));
	NEXT(v, i);
}

static const struct insn *load_8(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	set_low(v, i->reg, mmu_read64(v, ea_linear(v, i, 8, MMU_R)));
	NEXT(v, i);
}

static const struct insn *store_4(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	mmu_write32(v, ea_linear(v, i, 4, MMU_W), (uint32_t)low(v, i->reg));
	NEXT(v, i);
}

static const struct insn *store_8(struct vcpu *v, const struct insn *i)
{
	start(v, i);
	mmu_write64(v, ea_linear(v, i, 8, MMU_W), low(v, i->reg));
	NEXT(v, i);
}

static const struct insn *vmovd_from_gpr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = v->gpr[i->rm];

	start(v, i);
	set_low(v, i->reg, i->flags & INSN_REX_W ? val : (uint32_t)val);
	NEXT(v, i);
}

static const struct insn *vmovd_to_gpr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = low(v, i->reg);

	start(v, i);
	v->gpr[i->rm] = i->flags & INSN_REX_W ? val : (uint32_t)val;
	NEXT(v, i);
}

/* -- binding -- */

/* VMOVAPS, VMOVUPS, VMOVDQA, VMOVDQU, VMOVNTPS ... : whole vectors. */
static bool is_whole(const struct insn *i)
{
	bool packed = !(i->flags & (INSN_REP | INSN_REPNE));

	switch (i->opcode) {
	case 0x10:
	case 0x11:
	case 0x28:
	case 0x29:
	case 0x2b: return packed;
	case 0x6f:
	case 0x7f:
	case 0xe7: return true;
	}
	return false;
}

static insn_fn *bind_whole(const struct insn *i, const struct vex_row *row)
{
	bool aligned = row->flags & VEX_ALIGNED, to_rm = row->flags & VEX_TO_RM;
	bool l = i->flags & INSN_VEX_L;

	if (i->mod == 3) {
		return to_rm ? (l ? copy_rm_reg_32 : copy_rm_reg_16)
			     : (l ? copy_reg_rm_32 : copy_reg_rm_16);
	}
	if (to_rm) {
		return aligned ? (l ? store_a32 : store_a16) : (l ? store_u32 : store_u16);
	}
	return aligned ? (l ? load_a32 : load_a16) : (l ? load_u32 : load_u16);
}

static insn_fn *bind_low(const struct insn *i)
{
	bool w = i->flags & INSN_REX_W;

	switch (i->opcode) {
	case 0x6e: return i->mod == 3 ? vmovd_from_gpr : w ? load_8 : load_4;
	case 0x7e:
		if (i->flags & INSN_REP) {
			return i->mod == 3 ? NULL : load_8;
		}
		return i->mod == 3 ? vmovd_to_gpr : w ? store_8 : store_4;
	case 0xd6: return i->mod == 3 ? NULL : store_8;
	}
	return NULL;
}

bool simd_bind_avx_move(struct insn *i)
{
	insn_fn *fn;

	if (i->map != MAP_0F) {
		return false;
	}
	fn = is_whole(i) ? bind_whole(i, vex_row(i)) : bind_low(i);
	if (!fn) {
		return false;
	}
	i->fn = fn;
	return true;
}
