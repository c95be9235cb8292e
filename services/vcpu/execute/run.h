/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the run loops of the software engines share: events between instructions, and instructions
 * that run alone. vCPU thread only.
 */
#ifndef VCPU_EXECUTE_RUN_H
#define VCPU_EXECUTE_RUN_H

#include "engine.h"
#include "execute/trace.h"

/* Takes interrupts. True: run() ends with *exit. */
bool run_take_requests(struct vcpu *v, enum mobo_exit *exit);

/* What remains to be undone when a raised exception has unwound to the run loop. */
void run_unwound(struct vcpu *v);

/* Interprets t and what it chains to; v->rip is next. */
void run_trace(struct vcpu *v, const struct trace *t);

/* One instruction, with what debugging and interrupt shadows want before and after it. */
void run_single(struct vcpu *v);

#endif
