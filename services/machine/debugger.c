/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debugger of a machine: one client at a time, whose breakpoints go when it leaves, and without
 * whom a machine that it stopped goes on. What it asks goes to the engine (proto debug.proto).
 */
#include <stdlib.h>

#include "machine.h"
#include "mobo/v1/debug.pb-c.h"

static void on_done(void *arg, const struct mobo_result *res)
{
	if (res->code != MOBO__V1__CODE__OK) {
		mobo_warning("after a debugger left: %s", res->text);
	}
}

static void tell_engine(struct machine *m, const ProtobufCMessage *msg)
{
	struct part *p = part_find(m, "vcpu");

	if (p && p->node) {
		mobo_hub_call(m->hub, p->node, msg, 0, on_done, m);
	}
}

static void detach(struct machine *m)
{
	Mobo__V1__SetDebugPoints none = MOBO__V1__SET_DEBUG_POINTS__INIT;

	m->debugger.node = 0;
	tell_engine(m, &none.base);
	if (m->debugger.stopped) {
		m->debugger.stopped = false;
		machine_resume(m, NULL);
	}
}

void debugger_serve_attach(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = arg;

	if (m->debugger.node && m->debugger.node != mobo_request_node(r)) {
		mobo_reply_error(r, MOBO__V1__CODE__ALREADY_EXISTS,
				 "another debugger is attached to %s; it has to detach first",
				 m->name);
		return;
	}
	m->debugger.node = mobo_request_node(r);
	m->debugger.stopped = false;
	mobo_reply(r, NULL);
}

bool debugger_asks(struct machine *m, struct mobo_request *r)
{
	if (m->debugger.node == mobo_request_node(r)) {
		return true;
	}
	mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
			 "only the debugger that is attached to %s may do this; AttachDebugger "
			 "comes first",
			 m->name);
	return false;
}

void debugger_serve_detach(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	if (debugger_asks(arg, r)) {
		detach(arg);
		mobo_reply(r, NULL);
	}
}

void debugger_counts(struct machine *m, uint32_t node, bool on)
{
	m->debugger.counting = on ? node : 0;
}

void debugger_left(struct machine *m, uint32_t node)
{
	Mobo__V1__CountBlocks off = MOBO__V1__COUNT_BLOCKS__INIT;

	if (node == m->debugger.counting) {
		m->debugger.counting = 0;
		tell_engine(m, &off.base);
	}
	if (node == m->debugger.node) {
		detach(m);
	}
}

void debugger_paused(struct machine *m, uint32_t node)
{
	m->debugger.stopped |=
		node == m->debugger.node && m->state == MOBO__V1__MACHINE_STATE__RUNNING;
}

void debugger_stopped(struct machine *m, const char *text)
{
	if (m->debugger.node) {
		m->debugger.stopped = true;
		machine_pause(m, NULL, text);
	} else { /* it left meanwhile */
		machine_resume(m, NULL);
	}
}
