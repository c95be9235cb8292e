/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector instructions that access some elements of memory: VMASKMOVPS, VMASKMOVPD, VPMASKMOVD,
 * VPMASKMOVQ, the gathers, and VMASKMOVDQU. Intel SDM volume 2. An element not chosen is not
 * accessed and cannot fault.
 */
#include "decode/vex.h"
#include "execute/simd.h"
#include "execute/simd_form.h"

/* A YMM register in one piece. */
struct ymm {
	uint8_t b[32];
};

static struct ymm ymm_get(const struct vcpu *v, unsigned n)
{
	struct ymm y;

	memcpy(y.b, v->fx.xmm[n], 16);
	memcpy(y.b + 16, v->ymmh[n], 16);
	return y;
}

static void ymm_set(struct vcpu *v, unsigned n, const struct ymm *y)
{
	memcpy(v->fx.xmm[n], y->b, 16);
	memcpy(v->ymmh[n], y->b + 16, 16);
	simd_clear_zmm(v, n);
}

static unsigned vector_len(const struct insn *i)
{
	return i->flags & INSN_VEX_L ? 32 : 16;
}

/* Of element k, `size` bytes wide: is its top bit set? */
static bool chosen(const struct ymm *mask, unsigned k, unsigned size)
{
	return mask->b[(k + 1) * size - 1] & 0x80;
}

/* Linear address of offset ea, a part of i's memory operand. */
static uint64_t element_linear(struct vcpu *v, const struct insn *i, uint64_t ea, unsigned size,
			       enum mmu_access acc)
{
	ea = i->addrsize == 8 ? ea : (uint32_t)ea;
	return seg_linear(v, i->seg, ea, size, acc, i->flags & INSN_SEG_CHECK);
}

static void read_element(struct vcpu *v, uint64_t lin, struct ymm *y, unsigned k, unsigned size)
{
	uint64_t val = size == 8 ? mmu_read64(v, lin) : mmu_read32(v, lin);

	memcpy(y->b + k * size, &val, size);
}

/* -- masked moves -- */

/* 4 or 8 bytes: VPMASKMOV by W, VMASKMOVPx by the opcode. */
static unsigned masked_size(const struct insn *i)
{
	bool wide = i->opcode >= 0x8c ? i->flags & INSN_REX_W : i->opcode & 1;

	return wide ? 8 : 4;
}

static SIMD_APART void masked_load(struct vcpu *v, const struct insn *i)
{
	unsigned size = masked_size(i), n = vector_len(i) / size;
	struct ymm mask, y = {0};
	uint64_t ea;

	v->insn = i;
	simd_check_avx(v);
	mask = ymm_get(v, i->vvvv);
	ea = ea_offset(v, i);
	for (unsigned k = 0; k < n; k++) {
		if (chosen(&mask, k, size)) {
			read_element(v, element_linear(v, i, ea + k * size, size, MMU_R), &y, k,
				     size);
		}
	}
	ymm_set(v, i->reg, &y);
}

static const struct insn *vmaskmov_load(struct vcpu *v, const struct insn *i)
{
	masked_load(v, i);
	NEXT(v, i);
}

/* All elements that are stored must be writable before the first is. */
static SIMD_APART void masked_store(struct vcpu *v, const struct insn *i)
{
	unsigned size = masked_size(i), n = vector_len(i) / size;
	struct ymm mask, y;
	uint64_t ea;

	v->insn = i;
	simd_check_avx(v);
	mask = ymm_get(v, i->vvvv);
	y = ymm_get(v, i->reg);
	ea = ea_offset(v, i);
	for (unsigned k = 0; k < n; k++) {
		if (chosen(&mask, k, size)) {
			mmu_probe(v, element_linear(v, i, ea + k * size, size, MMU_W), size, MMU_W);
		}
	}
	for (unsigned k = 0; k < n; k++) {
		if (chosen(&mask, k, size)) {
			mmu_write_bytes(v, element_linear(v, i, ea + k * size, size, MMU_W),
					y.b + k * size, size);
		}
	}
}

static const struct insn *vmaskmov_store(struct vcpu *v, const struct insn *i)
{
	masked_store(v, i);
	NEXT(v, i);
}

/* -- gathers -- */

static int64_t gather_index(const struct ymm *index, unsigned k, bool wide)
{
	int64_t val = 0;
	int32_t val32;

	if (wide) {
		memcpy(&val, index->b + k * 8, 8);
		return val;
	}
	memcpy(&val32, index->b + k * 4, 4);
	return val32;
}

/*
 * Elements are gathered in order, and their masks cleared: after a fault the registers say what is
 * still to do, and the instruction goes on there.
 */
static SIMD_APART void do_gather(struct vcpu *v, const struct insn *i)
{
	bool wide_index = i->opcode & 1;
	unsigned size = i->flags & INSN_REX_W ? 8 : 4;
	unsigned n = vector_len(i) / (wide_index ? 8 : size);
	struct ymm index, mask, y, zero = {0};
	uint64_t ea;

	v->insn = i;
	simd_check_avx(v);
	index = ymm_get(v, i->imm2);
	mask = ymm_get(v, i->vvvv);
	y = ymm_get(v, i->reg);
	ea = ea_offset(v, i);
	for (unsigned k = 0; k < n; k++) {
		uint64_t at = ea + ((uint64_t)gather_index(&index, k, wide_index) << i->scale);

		if (chosen(&mask, k, size)) {
			ymm_set(v, i->reg, &y);
			ymm_set(v, i->vvvv, &mask);
			read_element(v, element_linear(v, i, at, size, MMU_R), &y, k, size);
		}
		memset(mask.b + k * size, 0, size);
	}
	memset(y.b + n * size, 0, sizeof(y) - n * size);
	ymm_set(v, i->reg, &y);
	ymm_set(v, i->vvvv, &zero);
}

static const struct insn *gather(struct vcpu *v, const struct insn *i)
{
	do_gather(v, i);
	NEXT(v, i);
}

/* -- VMASKMOVDQU -- */

static const struct insn *vmaskmovdqu(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_avx(v);
	simd_store_masked(v, i, v->fx.xmm[i->reg], v->fx.xmm[i->rm], 16);
	NEXT(v, i);
}

/* -- binding -- */

bool simd_bind_masked(struct insn *i)
{
	const struct vex_row *row = vex_row(i);

	if (row->flags & VEX_MASKED) {
		i->fn = row->flags & VEX_TO_RM ? vmaskmov_store : vmaskmov_load;
	} else if (row->flags & VEX_VSIB) {
		i->fn = gather;
	} else {
		i->fn = vmaskmovdqu;
	}
	return true;
}
