/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a debugger outside of the guest wants of a vCPU, and where the vCPU stopped for it. The
 * guest sees nothing of it: memory, debug registers and RFLAGS are its own.
 *
 * Belongs to the vCPU's thread. Whoever changes points[] or n_* calls the engine's
 * debug->changed() then; debug->step() sets `step`.
 */
#ifndef VCPU_DEBUG_H
#define VCPU_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

enum { DEBUG_POINTS = 64 };

enum debug_kind { DEBUG_EXEC, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };

/* A breakpoint at linear address lin, or a watchpoint on the len bytes there. */
struct debug_point {
	uint64_t lin;
	uint32_t len;
	enum debug_kind kind;
};

enum debug_stop {
	DEBUG_STOP_NONE,
	DEBUG_STOP_STEP,
	DEBUG_STOP_BREAKPOINT, /* before the instruction at stop_lin */
	DEBUG_STOP_WATCHPOINT, /* behind the instruction that accessed stop_lin */
};

struct vcpu_debug {
	unsigned n_exec, n_data; /* points[]: breakpoints first, then watchpoints */
	struct debug_point points[DEBUG_POINTS];
	/* Run one instruction, whatever breakpoint it has, while interrupts wait; then stop. */
	bool step;
	bool careful;	      /* the next instruction accesses a watched address: it runs alone */
	bool watched;	      /* it did, at stop_lin */
	bool counting;	      /* entries of blocks are counted */
	enum debug_stop stop; /* of the last MOBO_EXIT_DEBUG */
	uint64_t stop_lin;
};

#endif
