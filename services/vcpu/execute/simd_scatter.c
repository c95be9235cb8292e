/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathers and scatters by opmask. Intel SDM volume 2. Elements are accessed in order, and their
 * bits of the opmask cleared: after a fault the registers say what is still to do, and the
 * instruction goes on there.
 */
#include "execute/simd.h"
#include "execute/simd_zmm.h"

struct elements {
	unsigned n, size; /* of data, in bytes */
	unsigned index_size;
	struct zmm index;
	uint64_t ea; /* of index 0 */
};

static void start(struct vcpu *v, const struct insn *i, struct elements *e)
{
	unsigned len = 16u << (i->evex >> EVEX_LEN_SHIFT & 3);

	v->insn = i;
	simd_check_avx512(v);
	v->zmm_used = true;
	e->size = i->flags & INSN_REX_W ? 8 : 4;
	e->index_size = i->opcode & 1 ? 8 : 4;
	e->n = len / (e->size > e->index_size ? e->size : e->index_size);
	zmm_get(v, i->imm2, &e->index);
	e->ea = ea_offset(v, i);
}

static uint64_t element_ea(const struct insn *i, const struct elements *e, unsigned k)
{
	int64_t index;
	int32_t narrow;

	if (e->index_size == 8) {
		memcpy(&index, e->index.b + k * 8, 8);
	} else {
		memcpy(&narrow, e->index.b + k * 4, 4);
		index = narrow;
	}
	return e->ea + ((uint64_t)index << i->scale);
}

static SIMD_APART void do_gather(struct vcpu *v, const struct insn *i)
{
	uint64_t *mask = &v->opmask[i->evex & EVEX_OPMASK];
	struct elements e;
	struct zmm z;

	start(v, i, &e);
	zmm_get(v, i->reg, &z);
	for (unsigned k = 0; k < e.n; k++) {
		if (*mask >> k & 1) {
			uint64_t lin =
				simd_element_linear(v, i, element_ea(i, &e, k), e.size, MMU_R);

			mmu_read_bytes(v, lin, z.b + k * e.size, e.size);
			zmm_set(v, i->reg, &z);
			*mask &= ~(1ull << k);
		}
	}
	memset(z.b + e.n * e.size, 0, sizeof(z) - e.n * e.size);
	zmm_set(v, i->reg, &z);
	*mask = 0;
}

static SIMD_APART void do_scatter(struct vcpu *v, const struct insn *i)
{
	uint64_t *mask = &v->opmask[i->evex & EVEX_OPMASK];
	struct elements e;
	struct zmm z;

	start(v, i, &e);
	zmm_get(v, i->reg, &z);
	for (unsigned k = 0; k < e.n; k++) {
		if (*mask >> k & 1) {
			uint64_t lin =
				simd_element_linear(v, i, element_ea(i, &e, k), e.size, MMU_W);

			mmu_write_bytes(v, lin, z.b + k * e.size, e.size);
			*mask &= ~(1ull << k);
		}
	}
	*mask = 0;
}

static const struct insn *gather(struct vcpu *v, const struct insn *i)
{
	do_gather(v, i);
	NEXT(v, i);
}

static const struct insn *scatter(struct vcpu *v, const struct insn *i)
{
	do_scatter(v, i);
	NEXT(v, i);
}

void simd_bind_scatter(struct insn *i)
{
	i->fn = i->opcode >= 0xa0 ? scatter : gather;
}
