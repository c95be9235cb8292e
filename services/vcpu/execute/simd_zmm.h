/* SPDX-License-Identifier: Apache-2.0 */
/* ZMM registers in one piece: in struct vcpu they are in parts. */
#ifndef VCPU_EXECUTE_SIMD_ZMM_H
#define VCPU_EXECUTE_SIMD_ZMM_H

#include "execute/execute.h"

struct zmm {
	uint8_t b[64];
};

static inline void zmm_get(const struct vcpu *v, unsigned n, struct zmm *z)
{
	if (n >= 16) {
		memcpy(z->b, v->zmm16[n - 16], 64);
		return;
	}
	memcpy(z->b, v->fx.xmm[n], 16);
	memcpy(z->b + 16, v->ymmh[n], 16);
	memcpy(z->b + 32, v->zmmh[n], 32);
}

static inline void zmm_set(struct vcpu *v, unsigned n, const struct zmm *z)
{
	if (n >= 16) {
		memcpy(v->zmm16[n - 16], z->b, 64);
		return;
	}
	memcpy(v->fx.xmm[n], z->b, 16);
	memcpy(v->ymmh[n], z->b + 16, 16);
	memcpy(v->zmmh[n], z->b + 32, 32);
}

/* Linear address of offset ea, a part of i's memory operand. */
static inline uint64_t simd_element_linear(struct vcpu *v, const struct insn *i, uint64_t ea,
					   unsigned size, enum mmu_access acc)
{
	ea = i->addrsize == 8 ? ea : (uint32_t)ea;
	return seg_linear(v, i->seg, ea, size, acc, i->flags & INSN_SEG_CHECK);
}

#endif
