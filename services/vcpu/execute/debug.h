/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug exceptions: breakpoints, single step, RF. Intel SDM volume 3 chapter 17.2 and 17.3.
 * The run loop runs instructions one at a time while vcpu.stepping is set and calls
 * debug_insn_start() before and debug_insn_end() after each. vCPU thread only.
 */
#ifndef VCPU_EXECUTE_DEBUG_H
#define VCPU_EXECUTE_DEBUG_H

#include "cpu.h"

/* Bits of DR6. */
enum {
	DR6_B = 0xf,
	DR6_BD = 1 << 13,
	DR6_BS = 1 << 14,
	DR6_BT = 1 << 15,
};
#define DR6_FIXED 0xffff0ff0u
#define DR7_FIXED 0x400u

/*
 * Before the instruction at v->rip: delivers debug traps left pending (by a task switch or after
 * MOV SS), then an instruction breakpoint; ends RF. True: #DB was delivered, v->rip is its
 * handler's.
 */
bool debug_insn_start(struct vcpu *v);

/*
 * After one instruction completed (not when it raised an exception), v->rip being the next and
 * v->shadow what this instruction left. `tf`: whether TF was set before it. v->insn must not be
 * NULL before it runs: it is afterwards when the instruction was an interrupt or a task switch,
 * which single-stepping passes over. Delivers single-step and data-breakpoint traps. True: #DB
 * was delivered.
 */
bool debug_insn_end(struct vcpu *v, bool tf);

/* I/O breakpoints (CR4.DE). */
void debug_io_access(struct vcpu *v, uint16_t port, unsigned size);

/* Writes DR0-3, 6, 7 as MOV to DR does, fixed bits applied, and re-arms watched pages. */
void debug_set_dr(struct vcpu *v, unsigned n, uint64_t val);

/* Delivers #DB with these DR6 bits as a trap, v->rip being the return address. */
void debug_deliver(struct vcpu *v, uint64_t dr6);

#endif
