/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers: Intel SDM volume 4, AMD64 manual volume 2 appendix A. Those of the
 * local APIC and its deadline timer are the board's. An unknown one raises #GP in RDMSR and WRMSR.
 * Memory types (MTRR, PAT) are kept and checked but have no effect: there is no cache to be
 * incoherent with.
 */
#include "execute/cpuid.h"
#include "execute/segment.h"
#include "execute/system.h"
#include "exits/board.h"
#include "mmu/walk.h"

enum {
	MSR_TSC = 0x10,
	MSR_KVM_WALL_CLOCK_OLD,
	MSR_KVM_SYSTEM_TIME_OLD,
	MSR_PLATFORM_ID = 0x17,
	MSR_APIC_BASE = 0x1b,
	MSR_EBL_CR_POWERON = 0x2a,
	MSR_SMI_COUNT = 0x34,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48,
	MSR_PRED_CMD = 0x49,
	MSR_UCODE_WRITE = 0x79,
	MSR_UCODE_REV = 0x8b,
	MSR_PLATFORM_INFO = 0xce,
	MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_BBL_CR_CTL3 = 0x11e,
	MSR_MISC_FEATURES = 0x140,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP,
	MSR_SYSENTER_EIP,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS,
	MSR_MCG_CTL,
	MSR_PERF_STATUS = 0x198,
	MSR_PERF_CTL,
	MSR_THERM_INTERRUPT = 0x19b,
	MSR_THERM_STATUS,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_TEMPERATURE_TARGET = 0x1a2,
	MSR_DEBUGCTL = 0x1d9,
	MSR_LAST_BRANCH_FIRST = 0x1db,
	MSR_LAST_BRANCH_LAST = 0x1de,
	MSR_MTRR_VAR_FIRST = 0x200,
	MSR_MTRR_VAR_LAST = 0x20f,
	MSR_MTRR_FIX_64K = 0x250,
	MSR_MTRR_FIX_16K = 0x258,
	MSR_MTRR_FIX_4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_MC_FIRST = 0x400,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_PKRS,
	MSR_X2APIC_FIRST = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
	MSR_XSS = 0xda0,
};
#define MSR_KVM_WALL_CLOCK  0x4b564d00u
#define MSR_KVM_SYSTEM_TIME 0x4b564d01u
#define MSR_EFER	    0xc0000080u
#define MSR_STAR	    0xc0000081u
#define MSR_LSTAR	    0xc0000082u
#define MSR_CSTAR	    0xc0000083u
#define MSR_SFMASK	    0xc0000084u
#define MSR_FS_BASE	    0xc0000100u
#define MSR_GS_BASE	    0xc0000101u
#define MSR_KERNEL_GS_BASE  0xc0000102u
#define MSR_TSC_AUX	    0xc0000103u
/* AMD */
#define MSR_K7_EVNTSEL0	   0xc0010000u
#define MSR_K7_PERFCTR3	   0xc0010007u
#define MSR_SYSCFG	   0xc0010010u
#define MSR_HWCR	   0xc0010015u
#define MSR_IORR_FIRST	   0xc0010016u
#define MSR_TOP_MEM2	   0xc001001du
#define MSR_NB_CFG	   0xc001001fu
#define MSR_PATCH_LOADER   0xc0010020u
#define MSR_COFVID_STATUS  0xc0010071u
#define MSR_SMM_BASE_FIRST 0xc0010112u
#define MSR_SMM_BASE_LAST  0xc0010113u
#define MSR_VM_CR	   0xc0010114u
#define MSR_OSVW_LENGTH	   0xc0010140u
#define MSR_OSVW_STATUS	   0xc0010141u
#define MSR_LS_CFG	   0xc0011020u
#define MSR_IC_CFG	   0xc0011021u
#define MSR_DC_CFG	   0xc0011022u
#define MSR_DE_CFG	   0xc0011029u
#define MSR_BU_CFG2	   0xc001102au
#define MSR_EX_CFG	   0xc001102cu

enum {
	N_MC_BANKS = sizeof(((struct vcpu *)0)->mc_bank) / sizeof(((struct vcpu *)0)->mc_bank[0]),
	MCG_CTL_P = 1 << 8,
	N_MTRR_VAR = 8,
	MTRR_CAP = N_MTRR_VAR | 1 << 8 /* fixed */ | 1 << 10 /* write-combining */,
	SPEC_CTRL_VALID = 1 << 0 /* IBRS */ | 1 << 1 /* STIBP */ | 1 << 2 /* SSBD */,
	HWCR_VALID = 1 << 3 /* TlbCacheDis */ | 1 << 6 /* FFDIS */ | 1 << 8 /* IgnneEm */ |
		     1 << 18 /* McStatusWrEn */ | 1 << 24 /* TscFreqSel */,
	HWCR_MC_STATUS_WRITE = 1 << 18,
	HWCR_TSC_FREQ_SEL = 1 << 24,
	/* RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, and SBDR_SSDP,
	 * FBSDP, PSDP, BHI, PBRSB, GDS, RFDS: not affected. */
	ARCH_CAPABILITIES = 0x3 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0xe000 | 1 << 20 | 1 << 24 |
			    1 << 26 | 1 << 27,
};

/* -- Memory types -- */

static bool is_mtrr_type(uint64_t t)
{
	return t < 8 && (0x73 >> t & 1); /* 0, 1, 4, 5, 6 */
}

static bool are_mtrr_types(uint64_t val)
{
	unsigned i;

	for (i = 0; i < 8; i++) {
		if (!is_mtrr_type(val >> (i * 8) & 0xff)) {
			return false;
		}
	}
	return true;
}

/* PAT entries: 0, 1, 4 to 7. */
static bool is_pat(uint64_t val)
{
	unsigned i;

	for (i = 0; i < 8; i++) {
		uint64_t t = val >> (i * 8) & 0xff;

		if (t > 7 || t == 2 || t == 3) {
			return false;
		}
	}
	return true;
}

static uint64_t *mtrr_fixed(struct vcpu *v, uint32_t msr)
{
	switch (msr) {
	case MSR_MTRR_FIX_64K: return &v->mtrr_fix[0];
	case MSR_MTRR_FIX_16K:
	case MSR_MTRR_FIX_16K + 1: return &v->mtrr_fix[1 + msr - MSR_MTRR_FIX_16K];
	case MSR_MTRR_FIX_4K ... MSR_MTRR_FIX_4K + 7:
		return &v->mtrr_fix[3 + msr - MSR_MTRR_FIX_4K];
	}
	return NULL;
}

static bool mtrr_variable_valid(uint32_t msr, uint64_t val)
{
	if (val & ~MMU_PHYS_MASK) {
		return false;
	}
	if (msr & 1) { /* mask: V, address */
		return !(val & 0x7ff);
	}
	return is_mtrr_type(val & 0xff) && !(val & 0xf00);
}

/* -- Machine checks -- */

static bool mc_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	uint32_t n = msr - MSR_MC_FIRST;

	if (n >= N_MC_BANKS * 4) {
		return false;
	}
	*val = v->mc_bank[n / 4][n % 4];
	return true;
}

static bool mc_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	uint32_t n = msr - MSR_MC_FIRST;

	if (n >= N_MC_BANKS * 4) {
		return false;
	}
	/* CTL takes all or nothing; some systems leave out bits 0 and 10 of a bank. */
	if (n % 4 == 0 && val != 0 && (val | 1 | 1 << 10) != UINT64_MAX) {
		return false;
	}
	if (n % 4 == 1 && val != 0 && !(cpuid_is_amd() && (v->hwcr & HWCR_MC_STATUS_WRITE))) {
		return false;
	}
	v->mc_bank[n / 4][n % 4] = val;
	return true;
}

/* -- Vendors' own -- */

/*
 * Harmless to read as 0 and to write anything to: what firmware and systems touch without asking
 * whether it exists.
 */
static bool is_ignored_amd(uint32_t msr)
{
	switch (msr) {
	case MSR_K7_EVNTSEL0 ... MSR_K7_PERFCTR3:
	case MSR_SYSCFG:
	case MSR_IORR_FIRST ... MSR_TOP_MEM2:
	case MSR_NB_CFG:
	case MSR_PATCH_LOADER:
	case MSR_COFVID_STATUS:
	case MSR_SMM_BASE_FIRST ... MSR_SMM_BASE_LAST:
	case MSR_VM_CR:
	case MSR_OSVW_LENGTH:
	case MSR_OSVW_STATUS:
	case MSR_LS_CFG:
	case MSR_IC_CFG:
	case MSR_DC_CFG:
	case MSR_BU_CFG2:
	case MSR_EX_CFG: return true;
	}
	return false;
}

static bool is_ignored_intel(uint32_t msr)
{
	switch (msr) {
	case MSR_PLATFORM_ID:
	case MSR_EBL_CR_POWERON:
	case MSR_SMI_COUNT:
	case MSR_BBL_CR_CTL3:
	case MSR_MISC_FEATURES:
	case MSR_PERF_CTL:
	case MSR_THERM_INTERRUPT:
	case MSR_THERM_STATUS:
	case MSR_TEMPERATURE_TARGET: return true;
	}
	return false;
}

static bool read_amd(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	if (msr == MSR_HWCR) {
		*val = v->hwcr;
		return true;
	}
	if (msr == MSR_DE_CFG) {
		*val = 1 << 1; /* LFENCE serialises */
		return true;
	}
	*val = 0;
	return is_ignored_amd(msr);
}

static bool write_amd(struct vcpu *v, uint32_t msr, uint64_t val)
{
	if (msr == MSR_HWCR) {
		if (val & ~(uint64_t)HWCR_VALID) {
			return false;
		}
		v->hwcr = val | HWCR_TSC_FREQ_SEL;
		return true;
	}
	return msr == MSR_DE_CFG || is_ignored_amd(msr);
}

static bool read_intel(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	uint64_t ratio = board_tsc_hz(v->board) / 100000000;

	switch (msr) {
	case MSR_FEATURE_CONTROL: *val = v->feature_control; return true;
	case MSR_SPEC_CTRL: *val = v->spec_ctrl; return true;
	case MSR_ARCH_CAPABILITIES: *val = ARCH_CAPABILITIES; return true;
	case MSR_PLATFORM_INFO: *val = (ratio & 0xff) << 8 | (ratio & 0xff) << 40; return true;
	case MSR_PERF_STATUS: *val = (ratio & 0xff) << 8; return true;
	}
	*val = 0;
	return is_ignored_intel(msr);
}

static bool write_intel(struct vcpu *v, uint32_t msr, uint64_t val)
{
	switch (msr) {
	case MSR_SPEC_CTRL:
		if (val & ~(uint64_t)SPEC_CTRL_VALID) {
			return false;
		}
		v->spec_ctrl = val;
		return true;
	case MSR_SMI_COUNT:
	case MSR_PLATFORM_ID: return false;
	case MSR_MISC_FEATURES: return val == 0;
	}
	return is_ignored_intel(msr);
}

/* -- Those that are a field and a rule -- */

/* Where a register that reads as it was written lives, or NULL. */
static uint64_t *plain(struct vcpu *v, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_CS: return &v->sysenter_cs;
	case MSR_SYSENTER_ESP: return &v->sysenter_esp;
	case MSR_SYSENTER_EIP: return &v->sysenter_eip;
	case MSR_MCG_STATUS: return &v->mcg_status;
	case MSR_MCG_CTL: return &v->mcg_ctl;
	case MSR_MISC_ENABLE: return &v->misc_enable;
	case MSR_DEBUGCTL: return &v->debugctl;
	case MSR_MTRR_VAR_FIRST ... MSR_MTRR_VAR_LAST:
		return &v->mtrr_var[msr - MSR_MTRR_VAR_FIRST];
	case MSR_PAT: return &v->pat;
	case MSR_MTRR_DEF_TYPE: return &v->mtrr_def_type;
	case MSR_STAR: return &v->star;
	case MSR_LSTAR: return &v->lstar;
	case MSR_CSTAR: return &v->cstar;
	case MSR_SFMASK: return &v->sfmask;
	case MSR_FS_BASE: return &v->seg[SEG_FS].base;
	case MSR_GS_BASE: return &v->seg[SEG_GS].base;
	case MSR_KERNEL_GS_BASE: return &v->kernel_gs_base;
	case MSR_TSC_AUX: return &v->tsc_aux;
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK: return v->paravirt ? &v->kvm_wall_clock : NULL;
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME: return v->paravirt ? &v->kvm_system_time : NULL;
	}
	return mtrr_fixed(v, msr);
}

/* Whether a plain register takes the value. */
static bool plain_valid(uint32_t msr, uint64_t val)
{
	switch (msr) {
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP: return cpuid_is_amd() || is_canonical(val);
	case MSR_MCG_STATUS: return !(val & ~7ull);
	case MSR_MCG_CTL: return val == 0 || val == UINT64_MAX;
	case MSR_DEBUGCTL: return val == 0;
	case MSR_MTRR_VAR_FIRST ... MSR_MTRR_VAR_LAST: return mtrr_variable_valid(msr, val);
	case MSR_PAT: return is_pat(val);
	case MSR_MTRR_DEF_TYPE: return !(val & ~0xcffull) && is_mtrr_type(val & 0xff);
	case MSR_MTRR_FIX_64K:
	case MSR_MTRR_FIX_16K ... MSR_MTRR_FIX_16K + 1:
	case MSR_MTRR_FIX_4K ... MSR_MTRR_FIX_4K + 7: return are_mtrr_types(val);
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE: return is_canonical(val);
	case MSR_TSC_AUX:
	case MSR_SFMASK: return !(val >> 32);
	}
	return true;
}

static bool is_board(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	uint64_t *p;

	if (is_board(msr)) {
		return board_apic_msr_read(v, msr, val);
	}
	switch (msr) {
	case MSR_TSC: *val = board_tsc(v->board) + v->tsc_offset; return true;
	case MSR_TSC_ADJUST: *val = v->tsc_adjust; return true;
	case MSR_EFER: *val = v->efer; return true;
	case MSR_UCODE_REV: *val = cpuid_is_amd() ? 0x01000065 : 0x100000000ull; return true;
	case MSR_MTRR_CAP: *val = MTRR_CAP; return true;
	case MSR_MCG_CAP: *val = N_MC_BANKS | MCG_CTL_P; return true;
	case MSR_LAST_BRANCH_FIRST ... MSR_LAST_BRANCH_LAST: *val = 0; return true;
	case MSR_XSS: *val = 0; return cpuid_has(FEAT_XSAVE);
	case MSR_PKRS: *val = v->pkrs; return true;
	}
	p = plain(v, msr);
	if (p != NULL) {
		*val = *p;
		return true;
	}
	return mc_read(v, msr, val) ||
	       (cpuid_is_amd() ? read_amd(v, msr, val) : read_intel(v, msr, val));
}

static void tsc_write(struct vcpu *v, uint64_t offset)
{
	v->tsc_adjust += offset - v->tsc_offset;
	v->tsc_from_host += offset - v->tsc_offset;
	v->tsc_offset = offset;
	board_clock_changed(v);
}

static bool pkrs_write(struct vcpu *v, uint64_t val)
{
	if (val >> 32) {
		return false;
	}
	mmu_set_pkrs(v, (uint32_t)val);
	return true;
}

static bool plain_write(struct vcpu *v, uint32_t msr, uint64_t *p, uint64_t val)
{
	if (!plain_valid(msr, val)) {
		return false;
	}
	*p = val;
	switch (msr) {
	case MSR_FS_BASE:
	case MSR_GS_BASE: vcpu_update_mode(v); break; /* seg_base follows */
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK: board_clock_wall(v, val); break;
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME: board_clock_changed(v); break;
	}
	return true;
}

bool msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	uint64_t *p;

	if (is_board(msr)) {
		return board_apic_msr_write(v, msr, val);
	}
	switch (msr) {
	case MSR_TSC: tsc_write(v, val - board_tsc(v->board)); return true;
	case MSR_TSC_ADJUST: tsc_write(v, v->tsc_offset + (val - v->tsc_adjust)); return true;
	case MSR_EFER: return control_set_efer(v, val);
	case MSR_PRED_CMD: return !(val & ~1ull); /* nothing is predicted */
	case MSR_UCODE_WRITE:
	case MSR_UCODE_REV: return true;
	case MSR_PKRS: return pkrs_write(v, val);
	case MSR_XSS: return !val && cpuid_has(FEAT_XSAVE); /* no component is the system's */
	}
	p = plain(v, msr);
	if (p != NULL) {
		return plain_write(v, msr, p, val);
	}
	return mc_write(v, msr, val) ||
	       (cpuid_is_amd() ? write_amd(v, msr, val) : write_intel(v, msr, val));
}
