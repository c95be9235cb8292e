/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR. Intel SDM volume 2; volume 3, 2.4.
 */
#include "execute/segment.h"
#include "execute/system.h"

/* UMIP: SGDT, SIDT, SLDT, STR (and SMSW) are ring 0's alone. */
static void require_umip(struct vcpu *v)
{
	if ((v->cr4 & CR4_UMIP) && v->cpl != 0) {
		raise_error(v, VEC_GP, 0);
	}
}

static const struct insn *store_table(struct vcpu *v, const struct insn *i)
{
	const struct desc_table *t = (i->reg & 7) == 0 ? &v->gdtr : &v->idtr;
	unsigned size = in_64bit(v) ? 8 : 4;
	uint8_t image[10];

	v->insn = i;
	require_umip(v);
	memcpy(image, &t->limit, 2);
	memcpy(image + 2, &t->base, size);
	mmu_write_bytes(v, ea_linear(v, i, 2 + size, MMU_W), image, 2 + size);
	NEXT(v, i);
}

static const struct insn *load_table(struct vcpu *v, const struct insn *i)
{
	struct desc_table *t = (i->reg & 7) == 2 ? &v->gdtr : &v->idtr;
	unsigned size = in_64bit(v) ? 8 : 4;
	uint8_t image[10];
	uint64_t base = 0;

	v->insn = i;
	require_cpl0(v);
	mmu_read_bytes(v, ea_linear(v, i, 2 + size, MMU_R), image, 2 + size);
	memcpy(&base, image + 2, size);
	if (size == 4 && i->opsize == 2) {
		base &= 0xffffff;
	}
	if (!is_canonical(base)) {
		raise_error(v, VEC_GP, 0);
	}
	t->base = base;
	memcpy(&t->limit, image, 2);
	NEXT(v, i);
}

static const struct insn *sldt_str(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	require_umip(v);
	rm_write16(v, i, v->seg[(i->reg & 7) == 0 ? SEG_LDTR : SEG_TR].selector);
	NEXT(v, i);
}

static const struct insn *lldt_ltr(struct vcpu *v, const struct insn *i)
{
	uint16_t sel;

	v->insn = i;
	require_cpl0(v);
	sel = rm_read16(v, i);
	if ((i->reg & 7) == 2) {
		segment_load_ldtr(v, sel);
	} else {
		segment_load_tr(v, sel);
	}
	NEXT(v, i);
}

bool system_bind_table(const struct vcpu *v, struct insn *i)
{
	if (i->map != MAP_0F) {
		return false;
	}
	if (i->opcode == 0x01 && i->mod != 3 && (i->reg & 7) < 4) {
		i->fn = (i->reg & 7) < 2 ? store_table : load_table;
		return true;
	}
	if (i->opcode == 0x00 && (v->mode & MODE_PROT) && (i->reg & 7) < 4) {
		i->fn = (i->reg & 7) < 2 ? sldt_str : lldt_ltr;
		return true;
	}
	return false;
}
