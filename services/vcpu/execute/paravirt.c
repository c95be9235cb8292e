/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tells a guest that it is one, in KVM's words: CPUID leaves 0x40000000 on, and hypercalls.
 * Linux, Documentation/virt/kvm/x86/cpuid.rst, msr.rst, hypercalls.rst. The clock is the board's.
 *
 * Not offered, because what they save a guest of KVM costs a function call here: PV_EOI,
 * PV_TLB_FLUSH. Nor STEAL_TIME, PV_UNHALT, asynchronous page faults.
 */
#include "execute/paravirt.h"

#include "exits/board.h"

enum {
	LEAF_SIGNATURE = 0x40000000,
	LEAF_FEATURES = 0x40000001,
	LEAF_TIMING = 0x40000010,
};

enum {
	FEATURE_CLOCKSOURCE = 1 << 0,
	FEATURE_NOP_IO_DELAY = 1 << 1,
	FEATURE_CLOCKSOURCE2 = 1 << 3,
	FEATURE_PV_SEND_IPI = 1 << 11,
	FEATURE_CLOCKSOURCE_STABLE = 1 << 24,
};

void paravirt_cpuid(struct vcpu *v, uint32_t leaf, uint32_t out[4])
{
	if (!v->paravirt) {
		return;
	}
	switch (leaf) {
	case LEAF_SIGNATURE:
		out[0] = LEAF_TIMING;
		memcpy(&out[1], "KVMKVMKVM\0\0\0", 12);
		break;
	case LEAF_FEATURES:
		out[0] = FEATURE_CLOCKSOURCE | FEATURE_NOP_IO_DELAY | FEATURE_CLOCKSOURCE2 |
			 FEATURE_PV_SEND_IPI | FEATURE_CLOCKSOURCE_STABLE;
		break;
	case LEAF_TIMING: /* kHz of the TSC and of the local APIC timer */
		out[0] = (uint32_t)(board_tsc_hz(v->board) / 1000);
		out[1] = BOARD_APIC_TIMER_HZ / 1000;
		break;
	}
}

/* -- Hypercalls -- */

enum {
	HC_VAPIC_POLL_IRQ = 1,
	HC_CLOCK_PAIRING = 9,
	HC_SEND_IPI = 10,
	CLOCK_PAIRING_WALLCLOCK = 0,
};
enum { KVM_EPERM = 1, KVM_EFAULT = 14, KVM_EINVAL = 22, KVM_EOPNOTSUPP = 95, KVM_ENOSYS = 1000 };
/* Of an ICR's low half: a logical destination, and a destination shorthand. */
enum { ICR_LOGICAL = 1 << 11, ICR_SHORTHAND = 3 << 18 };

/* Bit n of `low` addresses the CPU with APIC ID first + n, those of `high` follow. How many got it.
 */
static int64_t send_ipis(struct vcpu *v, uint64_t low, uint64_t high, uint32_t first, uint64_t icr)
{
	unsigned bits = in_64bit(v) ? 64 : 32;
	int64_t n = 0;

	if (icr & (ICR_LOGICAL | ICR_SHORTHAND)) {
		return -KVM_EINVAL;
	}
	for (unsigned k = 0; k < 2 * bits; k++) {
		if ((k < bits ? low >> k : high >> (k - bits)) & 1) {
			n += board_send_ipi(v, (uint64_t)first + k, (uint32_t)icr);
		}
	}
	return n;
}

static int64_t call(struct vcpu *v, uint64_t nr, uint64_t mask)
{
	uint64_t a0 = v->gpr[RBX] & mask, a1 = v->gpr[RCX] & mask;

	if (v->cpl != 0) {
		return -KVM_EPERM;
	}
	switch (nr) {
	case HC_VAPIC_POLL_IRQ: return 0; /* interrupts come without being asked for */
	case HC_CLOCK_PAIRING:
		if (a1 != CLOCK_PAIRING_WALLCLOCK) {
			return -KVM_EOPNOTSUPP;
		}
		return board_clock_pair(v, a0) ? 0 : -KVM_EFAULT;
	case HC_SEND_IPI: return send_ipis(v, a0, a1, (uint32_t)v->gpr[RDX], v->gpr[RSI] & mask);
	}
	return -KVM_ENOSYS;
}

/* VMCALL and VMMCALL, on either vendor's processor: number in RAX, arguments in RBX, RCX, RDX, RSI.
 */
const struct insn *paravirt_call(struct vcpu *v, const struct insn *i)
{
	uint64_t mask = in_64bit(v) ? UINT64_MAX : UINT32_MAX;

	v->insn = i;
	if (!v->paravirt) {
		raise_exception(v, VEC_UD);
	}
	v->gpr[RAX] = (uint64_t)call(v, v->gpr[RAX] & mask, mask) & mask;
	NEXT(v, i);
}
