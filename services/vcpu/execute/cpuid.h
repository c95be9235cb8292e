/* SPDX-License-Identifier: Apache-2.0 */
/* The processor that the guest sees. Any thread. */
#ifndef VCPU_EXECUTE_CPUID_H
#define VCPU_EXECUTE_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

/* Whether the guest's vendor, which is the host's, is AMD's (or Hygon's). */
bool cpuid_is_amd(void);

/* Features that gate behaviour elsewhere: a static model, the host's features included. */
enum cpuid_feature {
	FEAT_PCID,
	FEAT_SMEP,
	FEAT_SMAP,
	FEAT_UMIP,
	FEAT_FSGSBASE,
	FEAT_INVPCID,
	FEAT_RDTSCP,
	FEAT_RDPID,
	FEAT_XSAVE,
	FEAT_RDRAND,
	FEAT_RDSEED,
	FEAT_AES,
	FEAT_PCLMULQDQ,
	FEAT_SHA,
	FEAT_GFNI,
	FEAT_AVX, /* and all that follow need it */
	FEAT_AVX2,
	FEAT_FMA,
	FEAT_F16C,
	FEAT_VAES,
	FEAT_VPCLMULQDQ,
	FEAT_AVX_VNNI,
	FEAT_AVX512, /* F, CD, BW, DQ and VL; and all that follow need it */
	FEAT_AVX512_IFMA,
	FEAT_AVX512_VBMI,
	FEAT_AVX512_VBMI2,
	FEAT_AVX512_VNNI,
	FEAT_AVX512_BITALG,
	FEAT_AVX512_VPOPCNTDQ,
	FEAT_AVX512_BF16,
	N_FEATURES
};
bool cpuid_has(enum cpuid_feature f);

/*
 * Whether AVX-512 is offered where the host has it. As long as nobody says anything, it is. Before
 * the first vCPU is made.
 */
void cpuid_offer_avx512(bool offer);

/* The bits of XCR0 that may be set. */
uint64_t cpuid_xcr0(void);

/*
 * CPUID's answer, remembered in v->cpuid, where translated code looks for it as well. Of the vCPU's
 * thread; good until the next call.
 */
const struct cpuid_answer *cpuid_answer(struct vcpu *v, uint32_t leaf, uint32_t subleaf);

/* Where an answer is in v->cpuid. */
enum { CPUID_FOLD = 26 };

static inline unsigned cpuid_slot(uint32_t leaf, uint32_t subleaf)
{
	return ((leaf ^ leaf >> CPUID_FOLD) & (CPUID_LEAVES - 1)) * CPUID_SUBLEAVES +
	       (subleaf & (CPUID_SUBLEAVES - 1));
}

/*
 * Nothing else that answers depend on changes after a vCPU's first instruction: one word, which is
 * compared, so that whoever changes state need not think of what was remembered.
 */
enum { CPUID_STATE_CR4 = CR4_OSXSAVE | CR4_PKE, CPUID_STATE_APIC = 1 << 11 };
#define CPUID_STATE_KNOWN (1u << 31)

static inline uint32_t cpuid_state(const struct vcpu *v)
{
	return CPUID_STATE_KNOWN | ((uint32_t)v->cr4 & CPUID_STATE_CR4) |
	       ((uint32_t)v->apic_base & CPUID_STATE_APIC) | (uint32_t)v->xcr0;
}

#endif
