/* SPDX-License-Identifier: Apache-2.0 */
/* What debuggers ask of mobo-vcpu: proto/mobo/v1/debug.proto. Main thread only, but cpu_look(). */
#ifndef VCPU_EXITS_DEBUG_H
#define VCPU_EXITS_DEBUG_H

#include "exits/service.h"

/* A CPU's state, taken by cpu_look() on its thread (board_on_cpu()). */
struct cpu_look {
	struct board *board;
	struct mobo_cpu_state state;
	uint64_t instructions, kernel_gs_base;
	uint32_t pkrs;
	const char *activity;
};
void cpu_look(struct vcpu *v, void *arg);

mobo_handler debug_serve_regs, debug_serve_set_regs;

/* Registers the other verbs. */
void debug_serve(struct service *s);
/* Each turn of the loop: answers a step that is done, tells the machine of stops. */
void debug_turn(struct service *s);
/* The machine is about to run. */
void debug_run(struct service *s);

/* The reply where board_on_cpu() failed. */
void debug_reply_no_cpu(struct mobo_request *r, unsigned vcpu, int rc);

#endif
