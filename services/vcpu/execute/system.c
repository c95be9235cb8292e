/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system family's binder, and those of its instructions that belong nowhere else: HLT, CPUID,
 * RDMSR, WRMSR, RDTSC(P), RDPMC, RDPID, cache control, fences, prefetches. Intel SDM volume 2.
 * VMCALL and VMMCALL are in paravirt.c. MONITOR and MWAIT are not offered, nor VMX, SVM, SMM: they
 * raise #UD by having no handler.
 */
#include "execute/system.h"

#include "execute/cpuid.h"
#include "execute/paravirt.h"
#include "exits/board.h"

static const struct insn *hlt(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	require_cpl0(v);
	v->halted = true;
	END_AFTER(v, i);
}

/* It serialises: stores before it are seen, RDTSC behind it reads later than loads before it. */
static const struct insn *cpuid(struct vcpu *v, const struct insn *i)
{
	const struct cpuid_answer *a;

	atomic_thread_fence(memory_order_seq_cst);
	__builtin_ia32_lfence();
	a = cpuid_answer(v, (uint32_t)v->gpr[RAX], (uint32_t)v->gpr[RCX]);
	v->gpr[RAX] = a->out[0];
	v->gpr[RBX] = a->out[1];
	v->gpr[RCX] = a->out[2];
	v->gpr[RDX] = a->out[3];
	NEXT(v, i);
}

static const struct insn *rdmsr(struct vcpu *v, const struct insn *i)
{
	uint64_t val;

	v->insn = i;
	require_cpl0(v);
	if (!msr_read(v, (uint32_t)v->gpr[RCX], &val)) {
		raise_error(v, VEC_GP, 0);
	}
	v->gpr[RAX] = (uint32_t)val;
	v->gpr[RDX] = val >> 32;
	NEXT(v, i);
}

static const struct insn *wrmsr(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	require_cpl0(v);
	if (!msr_write(v, (uint32_t)v->gpr[RCX], (uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32)) {
		raise_error(v, VEC_GP, 0);
	}
	END_AFTER(v, i);
}

static const struct insn *rdtsc(struct vcpu *v, const struct insn *i)
{
	uint64_t tsc;

	v->insn = i;
	if ((v->cr4 & CR4_TSD) && v->cpl != 0) {
		raise_error(v, VEC_GP, 0);
	}
	if (i->opcode == 0x01) { /* RDTSCP waits for loads before it */
		__builtin_ia32_lfence();
		v->gpr[RCX] = (uint32_t)v->tsc_aux;
	}
	tsc = board_tsc(v->board) + v->tsc_offset;
	v->gpr[RAX] = (uint32_t)tsc;
	v->gpr[RDX] = tsc >> 32;
	NEXT(v, i);
}

/* No counters are offered but AMD's four old ones, which every such processor has: they read 0. */
static const struct insn *rdpmc(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if ((!(v->cr4 & CR4_PCE) && v->cpl != 0) || !cpuid_is_amd() || (uint32_t)v->gpr[RCX] > 3) {
		raise_error(v, VEC_GP, 0);
	}
	v->gpr[RAX] = v->gpr[RDX] = 0;
	NEXT(v, i);
}

static const struct insn *rdpid(struct vcpu *v, const struct insn *i)
{
	v->gpr[i->rm] = (uint32_t)v->tsc_aux;
	NEXT(v, i);
}

/* INVD, WBINVD, WBNOINVD: there is no cache to empty. */
static const struct insn *wbinvd(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	require_cpl0(v);
	NEXT(v, i);
}

/* CLFLUSH, CLFLUSHOPT, CLWB raise what a byte's load raises. */
static const struct insn *clflush(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	mmu_probe(v, ea_linear(v, i, 1, MMU_R), 1, MMU_R);
	NEXT(v, i);
}

/* LFENCE: RDTSC behind it reads later than loads before it, as guests that compare clocks need. */
static const struct insn *lfence(struct vcpu *v, const struct insn *i)
{
	__builtin_ia32_lfence();
	NEXT(v, i);
}

/* MFENCE, SFENCE; PCOMMIT, which has nothing more to wait for. */
static const struct insn *fence(struct vcpu *v, const struct insn *i)
{
	atomic_thread_fence(memory_order_seq_cst);
	NEXT(v, i);
}

static const struct insn *nop(struct vcpu *v, const struct insn *i)
{
	NEXT(v, i);
}

static insn_fn *group_0fae(const struct insn *i)
{
	unsigned reg = i->reg & 7;

	if (i->flags & (INSN_REP | INSN_REPNE)) {
		return NULL;
	}
	if (i->mod == 3) {
		if (reg < 5 || (i->flags & INSN_OPSIZE && reg != 7)) {
			return NULL;
		}
		return reg == 5 ? lfence : fence;
	}
	return reg == 7 || (reg == 6 && (i->flags & INSN_OPSIZE)) ? clflush : NULL;
}

static insn_fn *group_0f01(const struct insn *i)
{
	if (i->mod != 3) {
		return NULL;
	}
	switch (i->modrm) {
	case 0xc1:
	case 0xd9: return paravirt_call;
	case 0xf9: return cpuid_has(FEAT_RDTSCP) ? rdtsc : NULL;
	}
	return NULL;
}

static insn_fn *handler_0f(const struct insn *i)
{
	switch (i->opcode) {
	case 0x01: return group_0f01(i);
	case 0x08:
	case 0x09: return wbinvd;
	case 0x0d:
	case 0x18: return nop;
	case 0x30: return wrmsr;
	case 0x31: return rdtsc;
	case 0x32: return rdmsr;
	case 0x33: return rdpmc;
	case 0xa2: return cpuid;
	case 0xae: return group_0fae(i);
	case 0xc7:
		return i->mod == 3 && (i->reg & 7) == 7 && (i->flags & INSN_REP) &&
				       cpuid_has(FEAT_RDPID)
			       ? rdpid
			       : NULL;
	}
	return NULL;
}

bool system_bind_misc(struct insn *i)
{
	insn_fn *fn = NULL;

	if (i->map == MAP_0F) {
		fn = handler_0f(i);
	} else if (i->map == MAP_1 && i->opcode == 0xf4) {
		fn = hlt;
	}
	if (fn == NULL) {
		return false;
	}
	i->fn = fn;
	if (fn == hlt || fn == wrmsr) {
		i->flags |= INSN_END;
	}
	return true;
}

bool execute_bind_system(struct vcpu *v, struct insn *i)
{
	if (i->flags & INSN_VEX) {
		return false;
	}
	return system_bind_segment(v, i) || system_bind_control(i) || system_bind_flags(i) ||
	       system_bind_table(v, i) || system_bind_far(i) || system_bind_misc(i);
}
