/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control and debug registers: MOV CR, MOV DR, LMSW, SMSW, CLTS, XGETBV, XSETBV, RDPKRU, WRPKRU,
 * INVLPG, INVPCID. Intel SDM volume 3, 2.5, 4.6.2, 4.10 and 17.2; volume 2 for each.
 */
#include "execute/cpuid.h"
#include "execute/debug.h"
#include "execute/fpu_state.h"
#include "execute/segment.h"
#include "execute/system.h"
#include "execute/xstate.h"
#include "exits/board.h"
#include "mmu/walk.h"

#define CR0_VALID                                                                                  \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
	 CR0_PG)
#define CR3_NOFLUSH (1ull << 63)
#define CR3_PCID    0xfffull

static uint64_t cr4_valid(void)
{
	uint64_t m = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
		     CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |
		     CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS;

	return cpuid_has(FEAT_XSAVE) ? m | CR4_OSXSAVE : m;
}

bool control_set_cr0(struct vcpu *v, uint64_t val)
{
	uint64_t old = v->cr0, efer = v->efer & ~(uint64_t)EFER_LMA;

	if (val >> 32 || ((val & CR0_PG) && !(val & CR0_PE)) ||
	    ((val & CR0_NW) && !(val & CR0_CD))) {
		return false;
	}
	val = (val & CR0_VALID) | CR0_ET;
	if ((val & CR0_PG) && (efer & EFER_LME)) {
		if (!(v->cr4 & CR4_PAE) || (!(old & CR0_PG) && (v->seg[SEG_CS].attr & SEG_L))) {
			return false;
		}
		efer |= EFER_LMA;
	}
	if (!(val & CR0_PG) && (in_64bit(v) || (v->cr4 & CR4_PCIDE))) {
		return false;
	}
	if (mmu_is_pae(val, v->cr4, efer) && ((old ^ val) & (CR0_PG | CR0_CD | CR0_NW)) &&
	    !mmu_load_pdptes(v, v->cr3)) {
		return false;
	}
	v->cr0 = val;
	v->efer = efer;
	if ((old ^ val) & (CR0_PG | CR0_WP | CR0_PE)) {
		mmu_flush_all(v);
	}
	vcpu_update_mode(v);
	return true;
}

bool control_set_cr3(struct vcpu *v, uint64_t val)
{
	bool pcide = v->cr4 & CR4_PCIDE, keep = pcide && (val & CR3_NOFLUSH);

	if (pcide) {
		val &= ~CR3_NOFLUSH;
	}
	if (v->efer & EFER_LMA) {
		if (val & ~MMU_PHYS_MASK) {
			return false;
		}
	} else {
		val = (uint32_t)val;
	}
	if (mmu_is_pae(v->cr0, v->cr4, v->efer) && !mmu_load_pdptes(v, val)) {
		return false;
	}
	if (pcide) {
		mmu_switch_pcid(v, v->cr3 & CR3_PCID, val & CR3_PCID, keep);
	} else {
		mmu_flush_nonglobal(v);
	}
	v->cr3 = val;
	return true;
}

bool control_set_cr4(struct vcpu *v, uint64_t val)
{
	const uint64_t paging =
		CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS;
	uint64_t changed = v->cr4 ^ val;

	if (val & ~cr4_valid()) {
		return false;
	}
	if ((v->efer & EFER_LMA) && !(val & CR4_PAE)) {
		return false;
	}
	if ((changed & val & CR4_PCIDE) && (!(v->efer & EFER_LMA) || (v->cr3 & CR3_PCID))) {
		return false;
	}
	if (mmu_is_pae(v->cr0, val, v->efer) &&
	    (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP)) && !mmu_load_pdptes(v, v->cr3)) {
		return false;
	}
	v->cr4 = val;
	if (changed & paging) {
		mmu_flush_all(v);
	}
	vcpu_update_mode(v);
	return true;
}

static uint64_t efer_valid(void)
{
	uint64_t m = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;

	return cpuid_is_amd() ? m | EFER_AIBRSE : m;
}

bool control_set_efer(struct vcpu *v, uint64_t val)
{
	uint64_t changed = v->efer ^ val;

	if ((val & ~efer_valid()) || ((changed & EFER_LME) && (v->cr0 & CR0_PG))) {
		return false;
	}
	v->efer = (val & ~(uint64_t)EFER_LMA) | (v->efer & EFER_LMA);
	if (changed & EFER_NXE) {
		mmu_flush_all(v);
	}
	return true;
}

static const struct insn *mov_from_cr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = 0;

	v->insn = i;
	switch (i->reg) {
	case 0:
		require_cpl0(v);
		val = v->cr0;
		break;
	case 2:
		require_cpl0(v);
		val = v->cr2;
		break;
	case 3:
		require_cpl0(v);
		val = v->cr3;
		break;
	case 4:
		require_cpl0(v);
		val = v->cr4;
		break;
	case 8:
		require_cpl0(v);
		val = board_cr8_read(v);
		break;
	default: raise_exception(v, VEC_UD);
	}
	gpr_write(v, i->rm, in_64bit(v) ? 8 : 4, val);
	NEXT(v, i);
}

static const struct insn *mov_to_cr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = in_64bit(v) ? v->gpr[i->rm] : (uint32_t)v->gpr[i->rm];
	bool ok = true;

	v->insn = i;
	if (i->reg > 8 || !(1u << i->reg & 0x11d)) {
		raise_exception(v, VEC_UD);
	}
	require_cpl0(v);
	switch (i->reg) {
	case 0: ok = control_set_cr0(v, val); break;
	case 2: v->cr2 = val; break;
	case 3: ok = control_set_cr3(v, val); break;
	case 4: ok = control_set_cr4(v, val); break;
	case 8:
		ok = val <= 15;
		if (ok) {
			board_cr8_write(v, (unsigned)val);
		}
		break;
	}
	if (!ok) {
		raise_error(v, VEC_GP, 0);
	}
	END_AFTER(v, i);
}

/* Checks common to both directions; returns the register, DR4 and DR5 resolved. */
static unsigned check_dr(struct vcpu *v, const struct insn *i)
{
	unsigned n = i->reg;

	require_cpl0(v);
	if (n > 7 || ((n == 4 || n == 5) && (v->cr4 & CR4_DE))) {
		raise_exception(v, VEC_UD);
	}
	if (v->dr[7] & 0x2000) {
		v->dr[6] |= DR6_BD;
		v->dr[7] &= ~0x2000ull;
		raise_exception(v, VEC_DB);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

static const struct insn *mov_from_dr(struct vcpu *v, const struct insn *i)
{
	unsigned n;

	v->insn = i;
	n = check_dr(v, i);
	gpr_write(v, i->rm, in_64bit(v) ? 8 : 4, v->dr[n]);
	NEXT(v, i);
}

static const struct insn *mov_to_dr(struct vcpu *v, const struct insn *i)
{
	uint64_t val = in_64bit(v) ? v->gpr[i->rm] : (uint32_t)v->gpr[i->rm];
	unsigned n;

	v->insn = i;
	n = check_dr(v, i);
	if (n >= 6 && val >> 32) {
		raise_error(v, VEC_GP, 0);
	}
	debug_set_dr(v, n, val);
	END_AFTER(v, i);
}

static const struct insn *lmsw(struct vcpu *v, const struct insn *i)
{
	uint64_t val;

	v->insn = i;
	require_cpl0(v);
	val = rm_read16(v, i) & (CR0_PE | CR0_MP | CR0_EM | CR0_TS);
	val |= v->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS); /* PE can be set, not cleared */
	if (!control_set_cr0(v, val)) {
		raise_error(v, VEC_GP, 0);
	}
	END_AFTER(v, i);
}

static const struct insn *smsw(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if ((v->cr4 & CR4_UMIP) && v->cpl != 0) {
		raise_error(v, VEC_GP, 0);
	}
	if (i->mod == 3) {
		gpr_write(v, i->rm, i->opsize, v->cr0);
	} else {
		mmu_write16(v, ea_linear(v, i, 2, MMU_W), (uint16_t)v->cr0);
	}
	NEXT(v, i);
}

static const struct insn *clts(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	require_cpl0(v);
	v->cr0 &= ~(uint64_t)CR0_TS;
	END_AFTER(v, i);
}

static const struct insn *invlpg(struct vcpu *v, const struct insn *i)
{
	uint64_t lin;

	v->insn = i;
	require_cpl0(v);
	lin = v->seg_base[i->seg] + ea_offset(v, i);
	mmu_flush_page(v, in_64bit(v) ? lin : (uint32_t)lin);
	END_AFTER(v, i);
}

static const struct insn *invpcid(struct vcpu *v, const struct insn *i)
{
	uint64_t type = in_64bit(v) ? v->gpr[i->reg] : (uint32_t)v->gpr[i->reg];
	unsigned current = v->cr4 & CR4_PCIDE ? v->cr3 & CR3_PCID : 0;
	uint64_t lin, pcid, gva;

	v->insn = i;
	require_cpl0(v);
	lin = ea_linear(v, i, 16, MMU_R);
	pcid = mmu_read64(v, lin);
	gva = mmu_read64(v, lin + 8);
	if (type > 3 || (type <= 1 && pcid >> 12) ||
	    (type <= 1 && !(v->cr4 & CR4_PCIDE) && (pcid & CR3_PCID)) ||
	    (type == 0 && !is_canonical(gva))) {
		raise_error(v, VEC_GP, 0);
	}
	switch (type) {
	case 0: mmu_flush_pcid_page(v, current, pcid & CR3_PCID, gva); break;
	case 1: mmu_flush_pcid(v, current, pcid & CR3_PCID); break;
	case 3: mmu_flush_nonglobal(v); break;
	case 2: mmu_flush_all(v); break;
	}
	END_AFTER(v, i);
}

static const struct insn *xgetbv(struct vcpu *v, const struct insn *i)
{
	uint64_t val;

	v->insn = i;
	if (!(v->cr4 & CR4_OSXSAVE)) {
		raise_exception(v, VEC_UD);
	}
	switch ((uint32_t)v->gpr[RCX]) {
	case 0: val = v->xcr0; break;
	case 1: val = v->xcr0 & fpu_in_use(v); break;
	default: raise_error(v, VEC_GP, 0);
	}
	v->gpr[RAX] = (uint32_t)val;
	v->gpr[RDX] = val >> 32;
	NEXT(v, i);
}

/* SDM volume 1 13.3 */
static bool xcr0_possible(uint64_t val)
{
	uint64_t zmm = val & XCR0_ZMM;

	return (val & XCR0_X87) && !(val & ~cpuid_xcr0()) && (val & XCR0_AVX_STATE) != XCR0_AVX &&
	       (!zmm || (zmm == XCR0_ZMM && val & XCR0_AVX));
}

static const struct insn *xsetbv(struct vcpu *v, const struct insn *i)
{
	uint64_t val = (uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32;

	v->insn = i;
	if (!(v->cr4 & CR4_OSXSAVE)) {
		raise_exception(v, VEC_UD);
	}
	require_cpl0(v);
	if ((uint32_t)v->gpr[RCX] != 0 || !xcr0_possible(val)) {
		raise_error(v, VEC_GP, 0);
	}
	v->xcr0 = val;
	END_AFTER(v, i);
}

/* What RDPKRU and WRPKRU refuse alike. */
static void check_pkru(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if (!(v->cr4 & CR4_PKE)) {
		raise_exception(v, VEC_UD);
	}
	if ((uint32_t)v->gpr[RCX] != 0) {
		raise_error(v, VEC_GP, 0);
	}
}

static const struct insn *rdpkru(struct vcpu *v, const struct insn *i)
{
	check_pkru(v, i);
	v->gpr[RAX] = v->pkru;
	v->gpr[RDX] = 0;
	NEXT(v, i);
}

static const struct insn *wrpkru(struct vcpu *v, const struct insn *i)
{
	check_pkru(v, i);
	if ((uint32_t)v->gpr[RDX] != 0) {
		raise_error(v, VEC_GP, 0);
	}
	mmu_set_pkru(v, (uint32_t)v->gpr[RAX]);
	NEXT(v, i);
}

static insn_fn *group_0f01(const struct insn *i)
{
	switch (i->reg & 7) {
	case 4: return smsw;
	case 6: return lmsw;
	case 7: return i->mod != 3 ? invlpg : NULL;
	}
	if (i->mod == 3) {
		switch (i->modrm) {
		case 0xd0: return xgetbv;
		case 0xd1: return xsetbv;
		case 0xee: return rdpkru;
		case 0xef: return wrpkru;
		}
	}
	return NULL;
}

static insn_fn *handler(const struct insn *i)
{
	if (i->map == MAP_0F38) {
		return i->opcode == 0x82 && i->mod != 3 ? invpcid : NULL;
	}
	if (i->map != MAP_0F) {
		return NULL;
	}
	switch (i->opcode) {
	case 0x01: return group_0f01(i);
	case 0x06: return clts;
	case 0x20: return mov_from_cr;
	case 0x21: return mov_from_dr;
	case 0x22: return mov_to_cr;
	case 0x23: return mov_to_dr;
	}
	return NULL;
}

bool system_bind_control(struct insn *i)
{
	insn_fn *fn = handler(i);

	if (fn == NULL) {
		return false;
	}
	i->fn = fn;
	if (fn != mov_from_cr && fn != mov_from_dr && fn != smsw && fn != xgetbv && fn != rdpkru &&
	    fn != wrpkru) {
		i->flags |= INSN_END;
	}
	return true;
}
