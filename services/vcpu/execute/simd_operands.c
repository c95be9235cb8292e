/* SPDX-License-Identifier: Apache-2.0 */
/* Operands of SIMD instructions, from the table of forms and for those that have no row there. */
#include "execute/simd_operands.h"

#include <string.h>

#include "decode/evex.h"
#include "decode/vex.h"
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

/* Is it one of the processor model's? */
static bool vex_offered(enum vex_feature f)
{
	static const uint8_t needs[N_VEX_FEATURE] = {
		[VEX_AVX] = FEAT_AVX,
		[VEX_AVX2] = FEAT_AVX2,
		[VEX_FMA] = FEAT_FMA,
		[VEX_F16C] = FEAT_F16C,
		[VEX_AES] = FEAT_AES,
		[VEX_VAES] = FEAT_VAES,
		[VEX_PCLMULQDQ] = FEAT_PCLMULQDQ,
		[VEX_VPCLMULQDQ] = FEAT_VPCLMULQDQ,
		[VEX_GFNI] = FEAT_GFNI,
		[VEX_AVX_VNNI] = FEAT_AVX_VNNI,
		[VEX_AVX512] = FEAT_AVX512,
	};

	return f != VEX_BMI && cpuid_has(FEAT_AVX) && cpuid_has(needs[f]);
}

static bool from_vex(const struct insn *i, struct simd_operands *o)
{
	const struct vex_row *row = vex_row(i);
	bool to_rm = row->flags & VEX_TO_RM, mem = i->mod != 3;
	bool mxcsr = row->reg == 'e' && mem;

	if (!vex_offered(vex_feature(i, row))) {
		return false;
	}
	o->reg = row->reg;
	o->rm = row->rm;
	o->vvvv = row->flags & VEX_VVVV_REG && mem ? 0 : row->vvvv;
	o->mem = row->mem[!!(i->flags & INSN_VEX_L)];
	if (row->flags & (VEX_W_MEM | VEX_W_MEM4) && i->flags & INSN_REX_W) {
		o->mem *= row->flags & VEX_W_MEM ? 2 : 4;
	}
	o->mem_write = to_rm || (mxcsr && (i->modrm >> 3 & 7) == 3);
	o->mem_read = o->mem && !o->mem_write;
	o->rm_write = to_rm;
	o->reg_write =
		row->reg && row->reg != 'e' && !to_rm && !(row->flags & (VEX_NO_DEST | VEX_STR));
	o->vvvv_write = (row->reg == 'e' && !mem) || row->flags & VEX_VSIB;
	o->align = row->flags & VEX_ALIGNED ? o->mem : 1;
	o->flags = row->flags & (VEX_FLAGS | VEX_STR);
	o->fp = row->flags & VEX_FP;
	o->avx = true;
	o->avx512 = vex_feature(i, row) == VEX_AVX512;
	o->copy = !(row->flags & (VEX_STR | VEX_MASKED | VEX_VSIB | VEX_IMPLICIT)) && !mxcsr;
	if (!row->reg && !row->rm) {
		o->copy = i->addrsize == 8; /* VZEROUPPER's registers are fewer in 32-bit code */
	}
	return true;
}

static bool evex_offered(enum evex_feature f)
{
	static const uint8_t needs[N_EVEX_FEATURE] = {
		[EVEX_AVX512] = FEAT_AVX512,
		[EVEX_IFMA] = FEAT_AVX512_IFMA,
		[EVEX_VBMI] = FEAT_AVX512_VBMI,
		[EVEX_VBMI2] = FEAT_AVX512_VBMI2,
		[EVEX_VNNI] = FEAT_AVX512_VNNI,
		[EVEX_BITALG] = FEAT_AVX512_BITALG,
		[EVEX_VPOPCNTDQ] = FEAT_AVX512_VPOPCNTDQ,
		[EVEX_BF16] = FEAT_AVX512_BF16,
		[EVEX_VAES] = FEAT_VAES,
		[EVEX_VPCLMULQDQ] = FEAT_VPCLMULQDQ,
		[EVEX_GFNI] = FEAT_GFNI,
	};

	return cpuid_has(FEAT_AVX512) && cpuid_has(needs[f]);
}

static bool from_evex(const struct insn *i, struct simd_operands *o)
{
	const struct evex_row *row = evex_row(i);
	bool to_rm = row->flags & EVEX_TO_RM, mem = i->mod != 3;

	if (!evex_offered(row->feature)) {
		return false;
	}
	o->reg = row->reg;
	o->rm = row->rm;
	o->vvvv = row->flags & EVEX_VVVV_REG && mem ? 0 : row->vvvv;
	o->mem = mem ? evex_mem(i, row) : row->mem;
	o->mem_write = to_rm;
	o->mem_read = o->mem && !to_rm;
	o->rm_write = to_rm;
	o->reg_write = row->reg != 'e' && !to_rm && !(row->flags & EVEX_NO_DEST);
	o->vvvv_write = row->reg == 'e';
	o->align = row->flags & EVEX_ALIGNED ? o->mem : 1;
	o->flags = row->flags & EVEX_FLAGS;
	o->fp = row->flags & EVEX_FP;
	o->avx = true;
	o->avx512 = true;
	o->masked = mem && i->evex & EVEX_OPMASK;
	o->copy = !(row->flags & EVEX_VSIB);
	return true;
}

/* Instructions that not every processor of x86-64-v2 has. */
static bool form_offered(const struct simd_form *f)
{
	if (f->map == MAP_0F38 && f->pfx == PFX_NP && f->op >= 0xc8) {
		return cpuid_has(FEAT_SHA);
	}
	if (f->map == MAP_0F3A && f->pfx == PFX_NP && f->op == 0xcc) {
		return cpuid_has(FEAT_SHA);
	}
	if ((f->map == MAP_0F38 && f->op >= 0xdb) || (f->map == MAP_0F3A && f->op == 0xdf)) {
		return cpuid_has(FEAT_AES);
	}
	if (f->map == MAP_0F3A && f->op == 0x44) {
		return cpuid_has(FEAT_PCLMULQDQ);
	}
	if (f->map != MAP_0F && (f->op == 0xce || f->op == 0xcf)) {
		return cpuid_has(FEAT_GFNI);
	}
	return true;
}

bool simd_operands(const struct insn *i, struct simd_operands *o)
{
	const struct simd_form *f;

	memset(o, 0, sizeof(*o));
	o->align = 1;
	if (i->flags & INSN_EVEX) {
		return from_evex(i, o);
	}
	if (i->flags & INSN_VEX) {
		return from_vex(i, o);
	}
	if (i->map == MAP_1) {
		return false;
	}
	f = simd_form_find(i);
	if (f) {
		from_form(i, f, o);
		return form_offered(f);
	}
	return without_form(i, o);
}
