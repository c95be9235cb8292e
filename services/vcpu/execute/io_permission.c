/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use which port. Intel SDM volume 1, 19.5. */
#include "execute/debug.h"
#include "execute/execute.h"

/* Offset of the I/O map base in a 32- or 64-bit TSS. */
enum { TSS_IOMAP = 0x66 };

static bool bitmap_allows(struct vcpu *v, uint16_t port, unsigned size)
{
	const struct segment *tr = &v->seg[SEG_TR];
	uint32_t at, bits, mask = ((1u << size) - 1) << (port & 7);

	if ((tr->attr & SEG_UNUSABLE) || !(tr->attr & 8) || tr->limit < TSS_IOMAP + 1) {
		return false;
	}
	at = (uint32_t)mmu_read_sys(v, tr->base + TSS_IOMAP, 2) + port / 8;
	if (at + 1 > tr->limit) {
		return false;
	}
	bits = (uint32_t)mmu_read_sys(v, tr->base + at, 2);
	return !(bits & mask);
}

bool io_permitted(struct vcpu *v, uint16_t port, unsigned size)
{
	unsigned iopl = (v->rflags & FL_IOPL) >> 12;

	if ((v->cr0 & CR0_PE) && ((v->mode & MODE_V86) || v->cpl > iopl) &&
	    !bitmap_allows(v, port, size)) {
		raise_error(v, VEC_GP, 0);
	}
	if (v->dr[7] & 0xff) {
		debug_io_access(v, port, size);
	}
	return true;
}
