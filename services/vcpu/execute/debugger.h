/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engines' half of vcpu.debug: where they stop for a debugger. It costs nothing while
 * there is none. An engine that keeps decoded or translated code
 *   - asks debugger_may_break() for each instruction that it takes in, and before it executes one
 *     at such an address calls debugger_break(), with vcpu.rip there;
 *   - runs instructions one at a time while vcpu.stepping is set, and calls debugger_insn_end()
 *     after each, also after one that raised an exception;
 *   - lets interrupts wait while debugger_holds_interrupts();
 *   - leaves run() with MOBO_EXIT_DEBUG, before anything else happens, once REQ_DEBUG is set.
 * vCPU thread only.
 */
#ifndef VCPU_EXECUTE_DEBUGGER_H
#define VCPU_EXECUTE_DEBUGGER_H

#include "cpu.h"

/*
 * May an instruction whose first byte is at guest-physical gpa have a breakpoint, by one of the
 * linear addresses where its page may appear?
 */
static inline bool debugger_may_break(const struct vcpu *v, uint64_t gpa)
{
	for (unsigned n = 0; n < v->debug.n_exec; n++) {
		if (!((v->debug.points[n].lin ^ gpa) & 4095)) {
			return true;
		}
	}
	return false;
}

static inline bool debugger_holds_interrupts(const struct vcpu *v)
{
	return v->debug.step;
}

/* True: there is a breakpoint at v->rip, and REQ_DEBUG is set. */
bool debugger_break(struct vcpu *v);

/* After an instruction that ran alone: ends a step, and says that a watchpoint was hit. */
void debugger_insn_end(struct vcpu *v);

/*
 * The running instruction is about to access a watched byte. When it does not run alone yet it is
 * begun anew, alone: does not return then.
 */
void debugger_watch_hit(struct vcpu *v, uint64_t lin);

/* What vcpu.debug says of points has changed: engines drop the code they made by the old ones. */
void debugger_changed(struct vcpu *v);

/* Makes the next run end behind one instruction, or no longer. */
void debugger_step(struct vcpu *v, bool on);

/* Adds b to the n blocks of out[], of which the `max` with the highest counts stay. Their number.
 */
struct mobo_engine_block;
unsigned debugger_hot_insert(struct mobo_engine_block *out, unsigned n, unsigned max,
			     const struct mobo_engine_block *b);

#endif
