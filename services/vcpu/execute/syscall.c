/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT. Intel SDM volume 2 and volume 3, 5.8.7 and 5.8.8; AMD64
 * manual volume 2, 6.1. The vendors differ: AMD has SYSCALL outside 64-bit mode as well and
 * SYSENTER outside long mode only; the CPUID vendor decides.
 */
#include "execute/cpuid.h"
#include "execute/debug.h"
#include "execute/far.h"
#include "execute/far_internal.h"

enum {
	ATTR_CODE = SEG_P | SEG_S | 0xb,
	ATTR_DATA = SEG_P | SEG_S | 0x3,
};

/* Flat CS and SS as these instructions load them, without reading descriptors. */
static void load_flat(struct vcpu *v, uint16_t cs, uint16_t ss, unsigned cpl, bool long64)
{
	uint32_t dpl = cpl << SEG_DPL_SHIFT;

	v->seg[SEG_CS] = (struct segment){
		.limit = UINT32_MAX,
		.selector = cs,
		.attr = ATTR_CODE | dpl | SEG_G | (long64 ? SEG_L : SEG_DB),
	};
	v->seg[SEG_SS] = (struct segment){
		.limit = UINT32_MAX,
		.selector = ss,
		.attr = ATTR_DATA | dpl | SEG_G | SEG_DB,
	};
	v->cpl = (uint8_t)cpl;
}

static void check_enabled(struct vcpu *v)
{
	bool mode_ok = cpuid_is_amd() ? (v->cr0 & CR0_PE) != 0 : (v->mode & MODE_SIZE) == MODE_64;

	if (!(v->efer & EFER_SCE) || !mode_ok) {
		raise_exception(v, VEC_UD);
	}
}

void far_syscall(struct vcpu *v)
{
	uint16_t cs = (uint16_t)(v->star >> 32) & 0xfffc;
	bool lma = v->efer & EFER_LMA;
	uint64_t next = vcpu_next_rip(v, v->insn), flags = vcpu_rflags(v);

	check_enabled(v);
	v->gpr[RCX] = next;
	if (lma) {
		v->gpr[R11] = flags & ~(uint64_t)FL_RF;
		v->rip = (v->mode & MODE_SIZE) == MODE_64 ? v->lstar : v->cstar;
		flags &= ~(v->sfmask | FL_RF);
	} else {
		v->rip = (uint32_t)v->star;
		flags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
	}
	load_flat(v, cs, (uint16_t)(cs + 8), 0, lma);
	vcpu_store_rflags(v, flags);
	vcpu_update_mode(v);
}

/* A TF that SYSRET sets traps at once, not after the next instruction. */
void far_sysret(struct vcpu *v, unsigned opsize)
{
	uint16_t sel = (uint16_t)(v->star >> 48);
	uint64_t flags = vcpu_rflags(v);
	bool long64 = opsize == 8;

	check_enabled(v);
	if (v->cpl != 0 || (!cpuid_is_amd() && long64 && !is_canonical(v->gpr[RCX]))) {
		raise_error(v, VEC_GP, 0);
	}
	if (v->efer & EFER_LMA) {
		flags = v->gpr[R11] & 0x3c7fd7;
	} else {
		flags |= FL_IF;
	}
	v->rip = long64 ? v->gpr[RCX] : (uint32_t)v->gpr[RCX];
	load_flat(v, (uint16_t)((sel + (long64 ? 16 : 0)) | 3), (uint16_t)((sel + 8) | 3), 3,
		  long64);
	vcpu_store_rflags(v, flags);
	vcpu_update_mode(v);
	if (flags & FL_TF) {
		debug_deliver(v, DR6_BS);
	}
}

static void check_sysenter(struct vcpu *v)
{
	if (cpuid_is_amd() && (v->efer & EFER_LMA)) {
		raise_exception(v, VEC_UD);
	}
	if (!(v->cr0 & CR0_PE) || is_null((uint16_t)v->sysenter_cs)) {
		raise_error(v, VEC_GP, 0);
	}
}

void far_sysenter(struct vcpu *v)
{
	uint16_t cs = (uint16_t)v->sysenter_cs & 0xfffc;
	bool lma = v->efer & EFER_LMA;

	check_sysenter(v);
	v->gpr[RSP] = lma ? v->sysenter_esp : (uint32_t)v->sysenter_esp;
	v->rip = lma ? v->sysenter_eip : (uint32_t)v->sysenter_eip;
	load_flat(v, cs, (uint16_t)(cs + 8), 0, lma);
	v->rflags &= ~(uint32_t)(FL_VM | FL_IF | FL_RF);
	vcpu_update_mode(v);
}

void far_sysexit(struct vcpu *v, unsigned opsize)
{
	uint16_t cs = (uint16_t)v->sysenter_cs;
	bool long64 = opsize == 8;

	check_sysenter(v);
	if (v->cpl != 0 || (long64 && (!is_canonical(v->gpr[RCX]) || !is_canonical(v->gpr[RDX])))) {
		raise_error(v, VEC_GP, 0);
	}
	v->gpr[RSP] = long64 ? v->gpr[RCX] : (uint32_t)v->gpr[RCX];
	v->rip = long64 ? v->gpr[RDX] : (uint32_t)v->gpr[RDX];
	cs = (uint16_t)(cs + (long64 ? 32 : 16));
	load_flat(v, cs | 3, (uint16_t)(cs + 8) | 3, 3, long64);
	vcpu_update_mode(v);
}
