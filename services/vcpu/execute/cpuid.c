/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID: the host's vendor, family, model, stepping and name with the features this engine has.
 * Features whose instructions run on the host are offered when the host has them. Intel SDM
 * volume 2 (CPUID), AMD64 manual volume 3 appendix E. Not offered: AVX512-FP16, VP2INTERSECT, VMX,
 * SVM, TSX, MONITOR, performance counters.
 */
#include "execute/cpuid.h"

#include <cpuid.h>
#include <stdatomic.h>
#include <string.h>

#include "execute/execute.h"
#include "execute/paravirt.h"
#include "execute/xstate.h"
#include "exits/board.h"
#include "mmu/walk.h"

enum { EAX, EBX, ECX, EDX };

enum { HYGON_EBX = 0x6f677948 }; /* "Hygo" */

#define BIT(n) (1u << (n))

enum {
	MAX_BASIC = 0x16,
	MAX_EXTENDED_INTEL = 0x80000008,
	MAX_EXTENDED_AMD = 0x80000021,
};

/* Leaf 1. */
enum {
	L1C_HOST = BIT(0) /* SSE3 */ | BIT(1) /* PCLMULQDQ */ | BIT(9) /* SSSE3 */ |
		   BIT(13) /* CX16 */ | BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ |
		   BIT(22) /* MOVBE */ | BIT(23) /* POPCNT */ | BIT(25) /* AES */ |
		   BIT(26) /* XSAVE */ | BIT(30) /* RDRAND */,
	L1C_AVX = BIT(12) /* FMA */ | BIT(28) /* AVX */ | BIT(29) /* F16C */,
	L1C_OWN = BIT(17) /* PCID */ | BIT(21) /* x2APIC */ | BIT(24) /* TSC-deadline */,
	L1C_OSXSAVE = BIT(27),
	L1D_OWN = BIT(0) /* FPU */ | BIT(1) /* VME */ | BIT(2) /* DE */ | BIT(3) /* PSE */ |
		  BIT(4) /* TSC */ | BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ |
		  BIT(8) /* CX8 */ | BIT(11) /* SEP */ | BIT(12) /* MTRR */ | BIT(13) /* PGE */ |
		  BIT(14) /* MCA */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ |
		  BIT(17) /* PSE-36 */ | BIT(19) /* CLFLUSH */ | BIT(23) /* MMX */ |
		  BIT(24) /* FXSR */ | BIT(25) /* SSE */ | BIT(26) /* SSE2 */,
	L1D_APIC = BIT(9),
	L1D_HTT = BIT(28),
	L1D_SHARED_AMD = 0x0183f3ff, /* what AMD repeats in 0x80000001 */
};
#define L1C_HYPERVISOR (1u << 31)

/* Leaf 7. */
enum {
	L7B_HOST = BIT(3) /* BMI1 */ | BIT(8) /* BMI2 */ | BIT(18) /* RDSEED */ |
		   BIT(19) /* ADX */ | BIT(29) /* SHA */,
	L7B_OWN = BIT(0) /* FSGSBASE */ | BIT(1) /* TSC_ADJUST */ | BIT(7) /* SMEP */ |
		  BIT(9) /* ERMS */ | BIT(10) /* INVPCID */ | BIT(20) /* SMAP */ |
		  BIT(22) /* PCOMMIT */ | BIT(23) /* CLFLUSHOPT */ | BIT(24) /* CLWB */,
	L7B_AVX = BIT(5),  /* AVX2 */
	L7C_HOST = BIT(8), /* GFNI */
	L7C_AVX = BIT(9) /* VAES */ | BIT(10) /* VPCLMULQDQ */,
	L71A_AVX = BIT(4), /* AVX-VNNI */
	L7B_AVX512_BASE = BIT(16) /* F */ | BIT(17) /* DQ */ | BIT(28) /* CD */ | BIT(30) /* BW */,
	L7B_AVX512 = L7B_AVX512_BASE | BIT(21) /* IFMA */,
	L7C_AVX512 = BIT(1) /* VBMI */ | BIT(6) /* VBMI2 */ | BIT(11) /* VNNI */ |
		     BIT(12) /* BITALG */ | BIT(14) /* VPOPCNTDQ */,
	L71A_AVX512 = BIT(5), /* BF16 */
	L7C_OWN = BIT(2) /* UMIP */ | BIT(3) /* PKU */ | BIT(22) /* RDPID */,
	L7C_OSPKE = BIT(4),
	L7D_OWN = BIT(4), /* FSRM */
	L7D_INTEL =
		BIT(26) /* IBRS, IBPB */ | BIT(27) /* STIBP */ | BIT(29) /* ARCH_CAPABILITIES */,
};
#define L7C_PKS	     (1u << 31)
#define L7D_SSBD     (1u << 31)
#define L7B_AVX512VL (1u << 31)

/* Leaves 0x80000001, 0x80000008 and 0x80000021. */
enum {
	X1C_HOST = BIT(5), /* LZCNT */
	X1C_OWN = BIT(0) /* LAHF */ | BIT(8) /* PREFETCHW */,
	X1C_CMP_LEGACY = BIT(1),
	X1C_TOPOEXT = BIT(22),
	X1D_OWN = BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1 GB pages */ |
		  BIT(27) /* RDTSCP */ | BIT(29) /* LM */,
	X1D_MMXEXT = BIT(22),
	X8B_AMD = BIT(12) /* IBPB */ | BIT(26) /* no speculative store bypass */,
	X21A_AMD = BIT(0) /* data breakpoints do not nest */ | BIT(2) /* LFENCE serialises */ |
		   BIT(6) /* null selectors clear the base */ | BIT(8) /* automatic IBRS */ |
		   BIT(29) /* SRSO_NO */,
	X21C_AMD = BIT(1) | BIT(2), /* TSA_SQ_NO, TSA_L1_NO */
};

/*
 * The host's own answer; zeros for a leaf that it does not have. Remembered, because where the host
 * is a virtual machine itself each CPUID leaves it, at a cost of microseconds.
 */
static void host(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	static _Thread_local struct {
		uint32_t leaf, subleaf, out[4];
	} known[32];
	static _Thread_local unsigned n;
	unsigned i, max;

	for (i = 0; i < n; i++) {
		if (known[i].leaf == leaf && known[i].subleaf == subleaf) {
			memcpy(out, known[i].out, 16);
			return;
		}
	}
	memset(out, 0, 16);
	max = __get_cpuid_max(leaf & 0x80000000, NULL);
	if (max != 0 && leaf <= max) {
		__cpuid_count(leaf, subleaf, out[EAX], out[EBX], out[ECX], out[EDX]);
	}
	if (n < sizeof(known) / sizeof(known[0])) {
		known[n].leaf = leaf;
		known[n].subleaf = subleaf;
		memcpy(known[n++].out, out, 16);
	}
}

bool cpuid_is_amd(void)
{
	static _Atomic int known; /* 0 not asked yet, 1 no, 2 yes */
	int k = atomic_load_explicit(&known, memory_order_relaxed);

	if (k == 0) {
		uint32_t r[4];

		host(0, 0, r);
		k = r[EBX] == signature_AMD_ebx || r[EBX] == HYGON_EBX ? 2 : 1;
		atomic_store_explicit(&known, k, memory_order_relaxed);
	}
	return k == 2;
}

/* Does the host's kernel keep these state components? */
static bool host_keeps(uint32_t components)
{
	uint32_t r[4], xcr0, high;

	host(1, 0, r);
	if (!(r[ECX] & BIT(27)) || !(r[ECX] & BIT(28))) {
		return false;
	}
	__asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
	return (xcr0 & components) == components;
}

/* AVX-512 as this engine uses it: the features that came with its first servers, all of them. */
static bool host_has_avx512(void)
{
	const uint32_t base = L7B_AVX512_BASE | L7B_AVX512VL;
	uint32_t r[4];

	host(7, 0, r);
	return (r[EBX] & base) == base && host_keeps(XCR0_ZMM_STATE);
}

static atomic_bool offer_avx512 = true;

void cpuid_offer_avx512(bool offer)
{
	atomic_store(&offer_avx512, offer);
}

/* Bits of the host that cpuid_has() tells; CPUID itself may be slow, as in a virtual machine. */
static uint32_t host_features(void)
{
	static const struct {
		uint32_t leaf;
		uint8_t subleaf, reg, bit, feature;
	} bits[] = {
		{1, 0, ECX, 1, FEAT_PCLMULQDQ},
		{1, 0, ECX, 12, FEAT_FMA},
		{1, 0, ECX, 25, FEAT_AES},
		{1, 0, ECX, 26, FEAT_XSAVE},
		{1, 0, ECX, 28, FEAT_AVX},
		{1, 0, ECX, 29, FEAT_F16C},
		{1, 0, ECX, 30, FEAT_RDRAND},
		{7, 0, EBX, 5, FEAT_AVX2},
		{7, 0, EBX, 18, FEAT_RDSEED},
		{7, 0, EBX, 29, FEAT_SHA},
		{7, 0, ECX, 8, FEAT_GFNI},
		{7, 0, ECX, 9, FEAT_VAES},
		{7, 0, ECX, 10, FEAT_VPCLMULQDQ},
		{7, 1, EAX, 4, FEAT_AVX_VNNI},
		{7, 0, EBX, 16, FEAT_AVX512},
		{7, 0, EBX, 21, FEAT_AVX512_IFMA},
		{7, 0, ECX, 1, FEAT_AVX512_VBMI},
		{7, 0, ECX, 6, FEAT_AVX512_VBMI2},
		{7, 0, ECX, 11, FEAT_AVX512_VNNI},
		{7, 0, ECX, 12, FEAT_AVX512_BITALG},
		{7, 0, ECX, 14, FEAT_AVX512_VPOPCNTDQ},
		{7, 1, EAX, 5, FEAT_AVX512_BF16},
	};
	static _Atomic uint32_t cached;
	uint32_t f = atomic_load_explicit(&cached, memory_order_relaxed), r[4];

	if (f == 0) {
		f = BIT(N_FEATURES); /* asked */
		for (unsigned k = 0; k < sizeof(bits) / sizeof(bits[0]); k++) {
			host(bits[k].leaf, bits[k].subleaf, r);
			f |= r[bits[k].reg] >> bits[k].bit & 1 ? BIT(bits[k].feature) : 0;
		}
		if (!host_keeps(XCR0_AVX_STATE)) {
			f &= BIT(FEAT_AVX) - 1;
		}
		if (!host_has_avx512()) {
			f &= BIT(FEAT_AVX512) - 1;
		}
		f |= BIT(N_FEATURES);
		atomic_store_explicit(&cached, f, memory_order_relaxed);
	}
	return f;
}

bool cpuid_has(enum cpuid_feature f)
{
	switch (f) {
	case FEAT_XSAVE:
	case FEAT_RDRAND:
	case FEAT_RDSEED:
	case FEAT_AES:
	case FEAT_PCLMULQDQ:
	case FEAT_SHA:
	case FEAT_GFNI:
	case FEAT_AVX:
	case FEAT_AVX2:
	case FEAT_FMA:
	case FEAT_F16C:
	case FEAT_VAES:
	case FEAT_VPCLMULQDQ:
	case FEAT_AVX_VNNI: return host_features() & BIT(f);
	case FEAT_AVX512:
	case FEAT_AVX512_IFMA:
	case FEAT_AVX512_VBMI:
	case FEAT_AVX512_VBMI2:
	case FEAT_AVX512_VNNI:
	case FEAT_AVX512_BITALG:
	case FEAT_AVX512_VPOPCNTDQ:
	case FEAT_AVX512_BF16: return atomic_load(&offer_avx512) && host_features() & BIT(f);
	case FEAT_PCID:
	case FEAT_SMEP:
	case FEAT_SMAP:
	case FEAT_UMIP:
	case FEAT_FSGSBASE:
	case FEAT_INVPCID:
	case FEAT_RDTSCP:
	case FEAT_RDPID: return true;
	case N_FEATURES: break;
	}
	return false;
}

uint64_t cpuid_xcr0(void)
{
	return XCR0_X87 | XCR0_SSE | XCR0_PKRU | (cpuid_has(FEAT_AVX) ? XCR0_AVX : 0) |
	       (cpuid_has(FEAT_AVX512) ? XCR0_ZMM : 0);
}

static unsigned bits_for(unsigned n)
{
	return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0;
}

static uint32_t apic_id(const struct vcpu *v)
{
	return v->index;
}

static void leaf_1(struct vcpu *v, uint32_t out[4])
{
	unsigned n = board_n_cpus(v->board);
	uint32_t h[4];

	host(1, 0, h);
	out[EAX] = h[EAX] & 0x0fff3fff;
	out[EBX] = 64 / 8 << 8 | (n < 255 ? n : 255) << 16 | apic_id(v) << 24;
	out[ECX] = (h[ECX] & (cpuid_has(FEAT_AVX) ? L1C_HOST | L1C_AVX : L1C_HOST)) | L1C_OWN |
		   (v->paravirt ? L1C_HYPERVISOR : 0) | (v->cr4 & CR4_OSXSAVE ? L1C_OSXSAVE : 0);
	out[EDX] =
		L1D_OWN | (v->apic_base & CPUID_STATE_APIC ? L1D_APIC : 0) | (n > 1 ? L1D_HTT : 0);
}

/* Caches: the host's, shared by all processors at level 3 and by none below. */
static void leaf_cache(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	unsigned n = board_n_cpus(v->board), level;
	uint32_t cores = (1u << bits_for(n)) - 1;

	host(leaf, subleaf, out);
	if ((out[EAX] & 0x1f) == 0) {
		memset(out, 0, 16);
		return;
	}
	level = out[EAX] >> 5 & 7;
	out[EAX] = (out[EAX] & 0x3ff) | (level >= 3 ? cores << 14 : 0);
	if (leaf == 4) {
		out[EAX] |= (cores < 63 ? cores : 63) << 26;
	}
}

static void leaf_7(const struct vcpu *v, uint32_t subleaf, uint32_t out[4])
{
	bool avx = cpuid_has(FEAT_AVX), avx512 = cpuid_has(FEAT_AVX512);
	uint32_t h[4];

	if (subleaf > 1) {
		return;
	}
	host(7, subleaf, h);
	if (subleaf == 1) {
		out[EAX] = h[EAX] & ((avx ? L71A_AVX : 0) | (avx512 ? L71A_AVX512 : 0));
		return;
	}
	out[EAX] = 1;
	out[EBX] = (h[EBX] &
		    (L7B_HOST | (avx ? L7B_AVX : 0) | (avx512 ? L7B_AVX512 | L7B_AVX512VL : 0))) |
		   L7B_OWN;
	out[ECX] = (h[ECX] & (L7C_HOST | (avx ? L7C_AVX : 0) | (avx512 ? L7C_AVX512 : 0))) |
		   L7C_OWN | L7C_PKS | (v->cr4 & CR4_PKE ? L7C_OSPKE : 0);
	out[EDX] = L7D_OWN | (cpuid_is_amd() ? 0 : L7D_INTEL | L7D_SSBD);
}

static void leaf_topology(struct vcpu *v, uint32_t subleaf, uint32_t out[4])
{
	unsigned n = board_n_cpus(v->board);

	out[ECX] = subleaf & 0xff;
	out[EDX] = apic_id(v);
	if (subleaf == 0) {
		out[EBX] = 1;
		out[ECX] |= 1 << 8; /* threads */
	} else if (subleaf == 1) {
		out[EAX] = bits_for(n);
		out[EBX] = n;
		out[ECX] |= 2 << 8; /* cores */
	}
}

static void leaf_xsave(const struct vcpu *v, uint32_t subleaf, uint32_t out[4])
{
	if (!cpuid_has(FEAT_XSAVE)) {
		return;
	}
	if (subleaf == 0) {
		out[EAX] = (uint32_t)cpuid_xcr0();
		out[EBX] = xstate_len(v->xcr0, false);
		out[ECX] = xstate_len(cpuid_xcr0(), false);
	} else if (subleaf == 1) {
		out[EAX] = 0xf; /* XSAVEOPT, XSAVEC, XGETBV of 1, XSAVES */
		out[EBX] = xstate_len(v->xcr0, true);
	} else if (subleaf < N_XSTATE && cpuid_xcr0() >> subleaf & 1) {
		out[EAX] = xstate_component[subleaf].len;
		out[EBX] = xstate_component[subleaf].off;
	}
}

/* The crystal is the local APIC timer's clock. */
static void leaf_tsc(struct vcpu *v, uint32_t leaf, uint32_t out[4])
{
	uint64_t hz = board_tsc_hz(v->board);

	if (leaf == 0x15) {
		out[EAX] = BOARD_APIC_TIMER_HZ / 1000;
		out[EBX] = (uint32_t)(hz / 1000);
		out[ECX] = BOARD_APIC_TIMER_HZ;
	} else {
		out[EAX] = out[EBX] = (uint32_t)(hz / 1000000);
		out[ECX] = 100;
	}
}

static void leaf_basic(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	switch (leaf) {
	case 0:
		host(0, 0, out);
		out[EAX] = MAX_BASIC;
		break;
	case 1: leaf_1(v, out); break;
	case 2:
		if (!cpuid_is_amd()) {
			out[EAX] = 0x00feff01; /* see leaf 4; TLBs: none told */
		}
		break;
	case 4:
		if (!cpuid_is_amd()) {
			leaf_cache(v, leaf, subleaf, out);
		}
		break;
	case 6:
		out[EAX] = BIT(2); /* ARAT: the APIC timer runs in every idle state */
		break;
	case 7: leaf_7(v, subleaf, out); break;
	case 0xb: leaf_topology(v, subleaf, out); break;
	case 0xd: leaf_xsave(v, subleaf, out); break;
	case 0x15:
	case 0x16: leaf_tsc(v, leaf, out); break;
	}
}

static void leaf_ext_1(struct vcpu *v, uint32_t out[4])
{
	bool amd = cpuid_is_amd();
	uint32_t h[4], basic[4];

	host(0x80000001, 0, h);
	leaf_1(v, basic);
	out[ECX] = (h[ECX] & X1C_HOST) | X1C_OWN;
	out[EDX] = X1D_OWN;
	if (amd) {
		out[EAX] = basic[EAX];
		out[ECX] |= X1C_TOPOEXT | (basic[EDX] & L1D_HTT ? X1C_CMP_LEGACY : 0);
		out[EDX] |= X1D_MMXEXT | (basic[EDX] & L1D_SHARED_AMD);
	}
}

static void leaf_ext_amd(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	unsigned n = board_n_cpus(v->board);

	switch (leaf) {
	case 0x80000005:
	case 0x80000006: host(leaf, 0, out); break;
	case 0x80000008:
		out[EBX] = X8B_AMD;
		out[ECX] = (n - 1) & 0xff;
		out[ECX] |= bits_for(n) << 12;
		break;
	case 0x8000001d: leaf_cache(v, leaf, subleaf, out); break;
	case 0x8000001e:
		out[EAX] = apic_id(v);
		out[EBX] = apic_id(v) & 0xff; /* one thread a core */
		break;
	case 0x80000021:
		out[EAX] = X21A_AMD;
		out[ECX] = X21C_AMD;
		break;
	}
}

static void leaf_extended(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	if (cpuid_is_amd()) {
		leaf_ext_amd(v, leaf, subleaf, out);
	}
	switch (leaf) {
	case 0x80000000:
		if (cpuid_is_amd()) {
			host(0, 0, out);
		}
		out[EAX] = cpuid_is_amd() ? MAX_EXTENDED_AMD : MAX_EXTENDED_INTEL;
		break;
	case 0x80000001: leaf_ext_1(v, out); break;
	case 0x80000002 ... 0x80000004: host(leaf, 0, out); break;
	case 0x80000006:
		if (!cpuid_is_amd()) {
			host(leaf, 0, out);
		}
		break;
	case 0x80000007:
		out[EDX] = BIT(8); /* invariant TSC */
		break;
	case 0x80000008: out[EAX] = MMU_PHYS_BITS | 48 << 8; break;
	}
}

void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	memset(out, 0, 16);
	if (leaf < 0x40000000) {
		leaf_basic(v, leaf, subleaf, out);
	} else if (leaf < 0x80000000) {
		paravirt_cpuid(v, leaf, out);
	} else {
		leaf_extended(v, leaf, subleaf, out);
	}
}

/* Which bits of the subleaf matter. */
static uint32_t subleaf_mask(uint32_t leaf)
{
	switch (leaf) {
	case 4:
	case 7:
	case 0xb:
	case 0xd:
	case 0x8000001d: return UINT32_MAX;
	}
	return 0;
}

const struct cpuid_answer *cpuid_answer(struct vcpu *v, uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_answer *a = &v->cpuid[cpuid_slot(leaf, subleaf)];

	if (a->state != cpuid_state(v) || a->leaf != leaf ||
	    ((subleaf ^ a->subleaf) & a->subleaf_mask)) {
		cpuid_query(v, leaf, subleaf, a->out);
		a->leaf = leaf;
		a->subleaf = subleaf;
		a->subleaf_mask = subleaf_mask(leaf);
		a->state = cpuid_state(v);
	}
	return a;
}
