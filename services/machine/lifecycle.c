/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of a machine and the ways between them. A verb (pause, resume, reset, power off) is a
 * transition: a list of steps, each of which asks some parts for something and is over when all
 * have answered. One transition runs at a time, others queue behind it. The parts themselves come
 * and go in roster.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "mobo/v1/engine.pb-c.h"
#include "mobo/v1/event.pb-c.h"

enum { STEP_DEADLINE_MS = 10000, MAX_STEPS = 6 };

typedef void step_fn(struct machine *m);

struct transition {
	const char *verb;	   /* "pausing" */
	step_fn *steps[MAX_STEPS]; /* NULL ends */
	Mobo__V1__MachineState final;
	bool best_effort; /* answers that are errors do not stop it */
	unsigned next, pending;
	bool failed;
	char reason[MACHINE_REASON_LEN], failure[MACHINE_REASON_LEN];
	struct mobo_request *request;
	struct transition *queued;
};

/* -- State and its announcement -- */

void machine_report_state(struct machine *m)
{
	Mobo__V1__ReportState rep = MOBO__V1__REPORT_STATE__INIT;

	/*
	 * The end is told when images are closed and locks are free: report_end() of main.c. A
	 * registry that is away is told what the state is when it comes, not what it was.
	 */
	if (!m->registry || !mobo_bus_connected(m->registry) ||
	    m->state == MOBO__V1__MACHINE_STATE__POWERED_OFF ||
	    m->state == MOBO__V1__MACHINE_STATE__CRASHED) {
		return;
	}
	rep.name = m->name;
	rep.state = m->state;
	rep.reason = m->reason;
	rep.pid = (uint32_t)getpid();
	rep.rpc_endpoint = (char *)mobo_hub_endpoint(m->hub);
	rep.folder = m->folder;
	rep.transient = m->transient;
	mobo_bus_call(m->registry, 0, &rep.base, 0, NULL, NULL);
}

void machine_set_state(struct machine *m, Mobo__V1__MachineState state, const char *fmt, ...)
{
	Mobo__V1__StateChanged ev = MOBO__V1__STATE_CHANGED__INIT;
	const ProtobufCEnumValue *name =
		protobuf_c_enum_descriptor_get_value(&mobo__v1__machine_state__descriptor, state);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->reason, sizeof(m->reason), fmt, ap);
	va_end(ap);
	m->state = state;
	m->since_ns = mobo_monotonic_ns();
	mobo_info("%s%s%s", name ? name->name : "?", *m->reason ? ": " : "", m->reason);
	ev.machine = m->name;
	ev.state = state;
	ev.reason = m->reason;
	mobo_hub_publish(m->hub, "vm.state", &ev.base, true);
	machine_report_state(m);
}

void machine_device_event(struct machine *m, const char *device, const char *verb, const char *text,
			  bool keep)
{
	Mobo__V1__DeviceEvent ev = MOBO__V1__DEVICE_EVENT__INIT;
	char topic[160];

	ev.device = (char *)device;
	ev.verb = (char *)verb;
	ev.text = (char *)text;
	snprintf(topic, sizeof(topic), "vm.dev.%s.%s", device, verb);
	mobo_hub_publish(m->hub, topic, &ev.base, keep);
}

/* -- Transitions -- */

static void transition_turn(struct machine *m);

/* What waited behind a crash will not come. */
static void transition_drop_all(struct machine *m)
{
	while (m->transition) {
		struct transition *t = m->transition;

		m->transition = t->queued;
		if (t->request) {
			mobo_reply_error(t->request, MOBO__V1__CODE__UNAVAILABLE, "%s crashed: %s",
					 m->name, m->reason);
		}
		free(t);
	}
}

static void transition_end(struct machine *m)
{
	struct transition *t = m->transition;
	bool failed = t->failed && !t->best_effort;

	m->transition = t->queued;
	if (failed) {
		mobo_error("%s failed: %s", t->verb, t->failure);
		if (t->request) {
			mobo_reply_error(t->request, MOBO__V1__CODE__INTERNAL, "%s %s failed: %s",
					 t->verb, m->name, t->failure);
		}
		machine_crash(m, "%s failed: %s", t->verb, t->failure);
	} else {
		if (m->state != t->final || strcmp(m->reason, t->reason) != 0) {
			machine_set_state(m, t->final, "%s", t->reason);
		}
		if (t->request) {
			mobo_reply(t->request, NULL);
		}
		if (t->final == MOBO__V1__MACHINE_STATE__POWERED_OFF) {
			mobo_loop_stop(m->loop);
		}
	}
	free(t);
	if (m->transition) {
		transition_turn(m);
	}
}

static void transition_turn(struct machine *m)
{
	struct transition *t = m->transition;

	while (t->pending == 0) {
		if (t->next == MAX_STEPS || !t->steps[t->next] || (t->failed && !t->best_effort)) {
			transition_end(m);
			return;
		}
		step_fn *step = t->steps[t->next++];

		/* Held while the step issues its calls, so that an answer from within cannot turn.
		 */
		t->pending++;
		step(m);
		t->pending--;
	}
}

static void transition_answer(struct machine *m, const char *failure)
{
	struct transition *t = m->transition;

	if (failure) {
		t->failed = true;
		snprintf(t->failure, sizeof(t->failure), "%.250s", failure);
	}
	t->pending--;
	if (t->pending == 0) {
		transition_turn(m);
	}
}

static void on_step_result(void *arg, const struct mobo_result *res)
{
	struct part *p = arg;
	char text[MACHINE_REASON_LEN];

	if (!p->machine->transition) {
		return;
	}
	/* A part that died meanwhile is not what fails the step: roster.c decides what follows. Nor
	 * is a device from outside that takes its time. */
	if (res->code == MOBO__V1__CODE__OK || p->state != PART_READY || p->external) {
		transition_answer(p->machine, NULL);
		return;
	}
	snprintf(text, sizeof(text), "%s: %.200s", p->name, res->text ? res->text : "no answer");
	transition_answer(p->machine, text);
}

static void transition_start(struct machine *m, const struct transition *proto,
			     struct mobo_request *r, const char *reason)
{
	struct transition *t = malloc(sizeof(*t));
	struct transition **tail = &m->transition;

	MOBO_ASSERT(t);
	*t = *proto;
	t->request = r;
	snprintf(t->reason, sizeof(t->reason), "%s", reason ? reason : "");
	while (*tail) {
		tail = &(*tail)->queued;
	}
	*tail = t;
	if (m->transition == t) {
		transition_turn(m);
	}
}

/* -- Steps -- */

static void ask(struct part *p, const ProtobufCMessage *msg)
{
	p->machine->transition->pending++;
	mobo_hub_call(p->machine->hub, p->node, msg, STEP_DEADLINE_MS, on_step_result, p);
}

static void ask_engine(struct machine *m, const ProtobufCMessage *msg)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].kind == PART_ENGINE && m->parts[i].state == PART_READY) {
			ask(&m->parts[i], msg);
		}
	}
}

static void ask_devices(struct machine *m, const ProtobufCMessage *msg)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].kind == PART_DEVICE && m->parts[i].state == PART_READY) {
			ask(&m->parts[i], msg);
		}
	}
}

static void step_engine_pause(struct machine *m)
{
	Mobo__V1__EnginePause msg = MOBO__V1__ENGINE_PAUSE__INIT;

	ask_engine(m, &msg.base);
}

static void step_devices_pause(struct machine *m)
{
	Mobo__V1__DevicePause msg = MOBO__V1__DEVICE_PAUSE__INIT;

	mobo_clock_stop(m->page);
	ask_devices(m, &msg.base);
}

static void step_devices_resume(struct machine *m)
{
	Mobo__V1__DeviceResume msg = MOBO__V1__DEVICE_RESUME__INIT;

	mobo_clock_start(m->page);
	ask_devices(m, &msg.base);
}

static void step_engine_run(struct machine *m)
{
	Mobo__V1__EngineRun msg = MOBO__V1__ENGINE_RUN__INIT;

	ask_engine(m, &msg.base);
}

static void step_devices_reset(struct machine *m)
{
	Mobo__V1__DeviceReset msg = MOBO__V1__DEVICE_RESET__INIT;

	ask_devices(m, &msg.base);
}

static void step_engine_reset(struct machine *m)
{
	Mobo__V1__EngineReset msg = MOBO__V1__ENGINE_RESET__INIT;

	ask_engine(m, &msg.base);
}

/* Parts that died and stayed away come back, and those on their way are waited for. */
static void step_gather(struct machine *m)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		struct part *p = &m->parts[i];
		struct mobo_error err = {0};

		if (p->state == PART_READY || p->kind == PART_ENGINE || p->external ||
		    !p->name[0]) { /* devices from outside come and go */
			continue;
		}
		m->transition->pending++;
		p->awaited = true;
		if (p->state != PART_LOST) {
			continue;
		}
		p->restarts++;
		if (part_spawn(p, true, &err) < 0) {
			machine_awaited(p, err.text);
		}
	}
}

void machine_awaited(struct part *p, const char *failure)
{
	if (p->awaited) {
		p->awaited = false;
		transition_answer(p->machine, failure);
	}
}

static void step_devices_quit(struct machine *m)
{
	Mobo__V1__DeviceQuit msg = MOBO__V1__DEVICE_QUIT__INIT;

	mobo_clock_stop(m->page);
	external_quit(m);
	ask_devices(m, &msg.base);
}

static void step_engine_quit(struct machine *m)
{
	Mobo__V1__EngineQuit msg = MOBO__V1__ENGINE_QUIT__INIT;

	ask_engine(m, &msg.base);
}

/* -- Verbs -- */

static bool refuse(struct machine *m, struct mobo_request *r, const char *verb)
{
	if (m->state == MOBO__V1__MACHINE_STATE__RUNNING ||
	    m->state == MOBO__V1__MACHINE_STATE__PAUSED) {
		return false;
	}
	if (r) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "cannot %s %s: it is neither running nor paused", verb, m->name);
	}
	return true;
}

void machine_pause(struct machine *m, struct mobo_request *r, const char *reason)
{
	static const struct transition pause = {
		.verb = "pausing",
		.steps = {step_engine_pause, step_devices_pause},
		.final = MOBO__V1__MACHINE_STATE__PAUSED,
	};

	if (!refuse(m, r, "pause")) {
		transition_start(m, &pause, r, reason);
	}
}

void machine_resume(struct machine *m, struct mobo_request *r)
{
	static const struct transition resume = {
		.verb = "resuming",
		.steps = {step_devices_resume, step_engine_run},
		.final = MOBO__V1__MACHINE_STATE__RUNNING,
	};

	if (refuse(m, r, "resume")) {
		return;
	}
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].state == PART_LOST && m->parts[i].kind == PART_DEVICE) {
			if (r) {
				mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
						 "cannot resume %s: the process of %s is gone; "
						 "`mobo reset` starts it and the guest anew",
						 m->name, m->parts[i].name);
			}
			return;
		}
	}
	transition_start(m, &resume, r, "");
}

void machine_reset(struct machine *m, struct mobo_request *r, const char *reason)
{
	static const struct transition reset = {
		.verb = "resetting",
		.steps = {step_engine_pause, step_gather, step_devices_reset, step_engine_reset,
			  step_devices_resume, step_engine_run},
		.final = MOBO__V1__MACHINE_STATE__RUNNING,
	};

	if (refuse(m, r, "reset")) {
		return;
	}
	mobo_info("reset%s%s", reason ? ": " : "", reason ? reason : "");
	machine_device_event(m, "machine", "reset", reason ? reason : "", false);
	transition_start(m, &reset, r, "");
}

void machine_power_off(struct machine *m, struct mobo_request *r, const char *reason)
{
	static const struct transition off = {
		.verb = "powering off",
		.steps = {step_engine_pause, step_devices_quit, step_engine_quit},
		.final = MOBO__V1__MACHINE_STATE__POWERED_OFF,
		.best_effort = true,
	};

	if (m->state == MOBO__V1__MACHINE_STATE__STOPPING) {
		if (r) {
			mobo_reply(r, NULL);
		}
		return;
	}
	if (m->state == MOBO__V1__MACHINE_STATE__STARTING) {
		machine_crash(m, "stopped while starting: %s", reason);
		if (r) {
			mobo_reply(r, NULL);
		}
		return;
	}
	machine_set_state(m, MOBO__V1__MACHINE_STATE__STOPPING, "%s", reason);
	transition_start(m, &off, r, reason);
}

void machine_crash(struct machine *m, const char *fmt, ...)
{
	char reason[MACHINE_REASON_LEN];
	va_list ap;

	if (m->state == MOBO__V1__MACHINE_STATE__CRASHED) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	mobo_clock_stop(m->page);
	machine_set_state(m, MOBO__V1__MACHINE_STATE__CRASHED, "%s", reason);
	m->exit_code = 1;
	transition_drop_all(m);
	mobo_loop_stop(m->loop);
}

void machine_run(struct machine *m)
{
	static const struct transition run = {
		.verb = "starting",
		.steps = {step_devices_resume, step_engine_run},
		.final = MOBO__V1__MACHINE_STATE__RUNNING,
	};

	if (m->start_paused) {
		machine_set_state(m, MOBO__V1__MACHINE_STATE__PAUSED, "started paused");
	} else {
		transition_start(m, &run, NULL, "");
	}
}
