/* SPDX-License-Identifier: Apache-2.0 */
/* Operands of SIMD instructions, from the table of forms and for those that have no row there. */
#include "execute/simd_operands.h"

#include <string.h>

#include "execute/cpuid.h"
#include "execute/simd_form.h"

/* AMD's processors let some accesses be unaligned, and leave x87 alone where MMX is not needed. */
static unsigned vendor_flags(unsigned flags)
{
	if (cpuid_is_amd()) {
		return flags & FORM_MMX_MEM_AMD ? flags | FORM_MMX_MEM : flags;
	}
	return flags & FORM_ALIGN_INTEL ? flags | FORM_ALIGN : flags;
}

static void from_form(const struct insn *i, const struct simd_form *f, struct simd_operands *o)
{
	unsigned flags = vendor_flags(f->flags);
	bool to_rm = flags & FORM_TO_RM;

	o->reg = f->reg;
	o->rm = f->rm;
	o->mem = f->reg == 'e' ? 0 : f->mem;
	if (flags & FORM_W_MEM && i->flags & INSN_REX_W) {
		o->mem = 8;
	}
	o->mem_write = to_rm;
	o->mem_read = !to_rm;
	o->rm_write = to_rm || f->reg == 'e';
	o->reg_write = !o->rm_write && !(flags & (FORM_NO_DEST | FORM_STR));
	o->align = flags & FORM_ALIGN ? 16 : 1;
	o->flags = flags & (FORM_FLAGS | FORM_STR);
	o->fp = flags & FORM_FP;
	o->mmx = f->reg == 'm' || (f->rm == 'm' && !(i->mod != 3 && flags & FORM_MMX_MEM));
	o->copy = !(flags & FORM_STR);
}

/* LDMXCSR, STMXCSR: MXCSR is not the host's own. */
static bool from_mxcsr(const struct insn *i, struct simd_operands *o)
{
	unsigned reg = i->modrm >> 3 & 7;

	o->reg = 'e';
	o->mem = 4;
	o->mem_read = reg == 2;
	o->mem_write = reg == 3;
	return simd_prefix(i) == PFX_NP && i->mod != 3 && (reg == 2 || reg == 3);
}

/* Those with handlers of their own and no form: MOVNTI, EMMS, MASKMOVQ, MASKMOVDQU. */
static bool without_form(const struct insn *i, struct simd_operands *o)
{
	enum simd_prefix pfx = simd_prefix(i);

	if (i->map != MAP_0F) {
		return false;
	}
	switch (i->opcode) {
	case 0x77:
		o->mmx = true;
		o->copy = true;
		return pfx == PFX_NP;
	case 0xae: return from_mxcsr(i, o);
	case 0xc3:
		o->reg = 'g';
		o->mem = i->flags & INSN_REX_W ? 8 : 4;
		o->mem_write = true;
		o->copy = true;
		return pfx == PFX_NP && i->mod != 3;
	case 0xf7:
		o->reg = o->rm = pfx == PFX_66 ? 'x' : 'm';
		o->mmx = pfx == PFX_NP;
		return pfx <= PFX_66 && i->mod == 3;
	}
	return false;
}

bool simd_operands(const struct insn *i, struct simd_operands *o)
{
	const struct simd_form *f;

	memset(o, 0, sizeof(*o));
	o->align = 1;
	if (i->flags & INSN_VEX || i->map == MAP_1) {
		return false;
	}
	f = simd_form_find(i);
	if (f) {
		from_form(i, f, o);
		return true;
	}
	return without_form(i, o);
}
