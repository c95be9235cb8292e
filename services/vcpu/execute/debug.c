/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug exceptions: instruction, I/O and single-step; data breakpoints are noted by mmu/watch.c.
 * Intel SDM volume 3, 17.2 and 17.3; 6.8.3 for MOV SS. Last-branch records and BTF are not
 * modelled.
 */
#include "execute/debug.h"

#include "execute/cpuid.h"
#include "execute/execute.h"
#include "mmu/watch.h"

#define DR7_VALID 0xffff23ffu

void debug_deliver(struct vcpu *v, uint64_t dr6)
{
	v->dr[6] = (v->dr[6] & ~(uint64_t)DR6_B) | dr6;
	v->dr[7] &= ~0x2000ull; /* GD */
	v->pending_db = 0;
	vcpu_deliver(v, VEC_DB, EVENT_EXCEPTION, false, 0);
}

static uint64_t code_breakpoints(const struct vcpu *v)
{
	uint64_t lin = v->seg_base[SEG_CS] + v->rip, hits = 0;
	unsigned n;

	if ((v->mode & MODE_SIZE) != MODE_64) {
		lin = (uint32_t)lin;
	}
	for (n = 0; n < 4; n++) {
		if (watch_enabled(v->dr[7], n) && watch_kind(v->dr[7], n) == WATCH_EXEC &&
		    v->dr[n] == lin) {
			hits |= 1u << n;
		}
	}
	return hits;
}

bool debug_insn_start(struct vcpu *v)
{
	bool shadow = v->shadow & SHADOW_MOV_SS;
	uint64_t hits = 0;

	if (v->pending_db && !shadow) {
		debug_deliver(v, v->pending_db);
		return true;
	}
	/* AMD's processors stop at a breakpoint behind MOV SS, Intel's do not. */
	if (!(v->rflags & FL_RF) && (!shadow || cpuid_is_amd())) {
		hits = code_breakpoints(v);
	}
	if (hits) {
		debug_deliver(v, hits | v->pending_db);
		return true;
	}
	v->rflags &= ~(uint32_t)FL_RF;
	return false;
}

/* SYSCALL and SYSRET trap by the TF that they leave, others by the one they met. */
static bool is_syscall(const struct insn *i)
{
	return i->map == MAP_0F && (i->opcode == 0x05 || i->opcode == 0x07);
}

bool debug_insn_end(struct vcpu *v, bool tf)
{
	uint64_t bits = v->pending_db;

	if (v->insn == NULL) {
		tf = false;
	} else if (is_syscall(v->insn)) {
		tf = v->rflags & FL_TF;
	}
	if (tf) {
		bits |= DR6_BS;
	}
	if (bits && !(v->shadow & SHADOW_MOV_SS)) {
		debug_deliver(v, bits);
		return true;
	}
	vcpu_update_req_mask(v);
	return false;
}

void debug_io_access(struct vcpu *v, uint16_t port, unsigned size)
{
	unsigned n;

	for (n = 0; n < 4; n++) {
		unsigned len = watch_len(v->dr[7], n);
		uint64_t first = v->dr[n] & ~(uint64_t)(len - 1);

		if (watch_enabled(v->dr[7], n) && watch_kind(v->dr[7], n) == WATCH_IO &&
		    (v->cr4 & CR4_DE) && port < first + len && first < (uint64_t)port + size) {
			v->pending_db |= 1u << n;
		}
	}
}

void debug_set_dr(struct vcpu *v, unsigned n, uint64_t val)
{
	uint64_t was = v->dr[7];

	if (n == 6) {
		v->dr[6] = (val & (DR6_B | DR6_BD | DR6_BS | DR6_BT)) | DR6_FIXED;
		return;
	}
	v->dr[n] = n == 7 ? (val & DR7_VALID) | DR7_FIXED : val;
	if ((was | v->dr[7]) & 0xff) {
		mmu_flush_all(v);
	}
	vcpu_update_req_mask(v);
}
