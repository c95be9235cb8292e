/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of a machine and the ways between them. A verb (pause, resume, reset, power off) is a
 * transition: a list of steps, each of which asks some parts for something and is over when all
 * have answered. One transition runs at a time, others queue behind it.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "machine.h"
#include "mobo/v1/engine.pb-c.h"
#include "mobo/v1/event.pb-c.h"

enum { STEP_DEADLINE_MS = 10000, MAX_STEPS = 6, REASON_LEN = 256 };

typedef void step_fn(struct machine *m);

struct transition {
	const char *verb; /* "pausing" */
	step_fn *steps[MAX_STEPS]; /* NULL ends */
	Mobo__V1__MachineState final;
	bool best_effort; /* answers that are errors do not stop it */
	unsigned next, pending;
	bool failed;
	char reason[REASON_LEN], failure[REASON_LEN];
	struct mobo_request *request;
	struct transition *queued;
};

/* -- State and its announcement -- */

void machine_report_state(struct machine *m)
{
	Mobo__V1__ReportState rep = MOBO__V1__REPORT_STATE__INIT;

	if (!m->registry) {
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

void machine_device_event(struct machine *m, const char *device, const char *verb,
			  const char *text, bool keep)
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

		/* Held while the step issues its calls, so that an answer from within cannot turn. */
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
		snprintf(t->failure, sizeof(t->failure), "%s", failure);
	}
	t->pending--;
	if (t->pending == 0) {
		transition_turn(m);
	}
}

static void on_step_result(void *arg, const struct mobo_result *res)
{
	struct part *p = arg;
	char text[REASON_LEN];

	if (!p->machine->transition) {
		return;
	}
	if (res->code == MOBO__V1__CODE__OK) {
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

/* Parts that died and stayed away come back; part_ready answers for them. */
static void step_respawn_lost(struct machine *m)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		struct part *p = &m->parts[i];
		struct mobo_error err = { 0 };

		if (p->state != PART_LOST || p->kind == PART_ENGINE) {
			continue;
		}
		m->transition->pending++;
		if (part_spawn(p, true, &err) < 0) {
			transition_answer(m, err.text);
		}
	}
}

static void step_devices_quit(struct machine *m)
{
	Mobo__V1__DeviceQuit msg = MOBO__V1__DEVICE_QUIT__INIT;

	mobo_clock_stop(m->page);
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
		.steps = { step_engine_pause, step_devices_pause },
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
		.steps = { step_devices_resume, step_engine_run },
		.final = MOBO__V1__MACHINE_STATE__RUNNING,
	};

	if (refuse(m, r, "resume")) {
		return;
	}
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].state == PART_LOST) {
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
		.steps = { step_engine_pause, step_respawn_lost, step_devices_reset,
			   step_engine_reset, step_devices_resume, step_engine_run },
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
		.steps = { step_engine_pause, step_devices_quit, step_engine_quit },
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
	char reason[REASON_LEN];
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
	mobo_loop_stop(m->loop);
}

/* -- Parts come and go -- */

static bool all_ready(const struct machine *m)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].state != PART_READY) {
			return false;
		}
	}
	return true;
}

static struct part *engine_part(struct machine *m)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].kind == PART_ENGINE) {
			return &m->parts[i];
		}
	}
	return NULL;
}

static void on_engine_status(void *arg, const struct mobo_result *res)
{
	struct machine *m = arg;

	if (res->code == MOBO__V1__CODE__OK) {
		const Mobo__V1__EngineStatusReply *s = (const void *)res->body;

		snprintf(m->engine, sizeof(m->engine), "%s", s->engine);
		snprintf(m->engine_reason, sizeof(m->engine_reason), "%s", s->reason);
	}
}

static void everything_ready(struct machine *m)
{
	static const struct transition run = {
		.verb = "starting",
		.steps = { step_devices_resume, step_engine_run },
		.final = MOBO__V1__MACHINE_STATE__RUNNING,
	};
	Mobo__V1__EngineStatus status = MOBO__V1__ENGINE_STATUS__INIT;

	mobo_hub_call(m->hub, engine_part(m)->node, &status.base, 0, on_engine_status, m);
	if (m->start_paused) {
		machine_set_state(m, MOBO__V1__MACHINE_STATE__PAUSED, "started paused");
	} else {
		transition_start(m, &run, NULL, "");
	}
}

static void attach_next(struct machine *m);

static void attach_reply(struct part *p, const Mobo__V1__Attached *attached)
{
	p->state = PART_ATTACHED;
	p->in_engine = true;
	mobo_reply(p->attach_request, &attached->base);
	p->attach_request = NULL;
	attach_next(p->machine);
}

static void on_engine_attached(void *arg, const struct mobo_result *res)
{
	struct part *p = arg;
	Mobo__V1__Attached attached = MOBO__V1__ATTACHED__INIT;

	if (!p->attach_request) {
		return; /* died meanwhile */
	}
	if (res->code != MOBO__V1__CODE__OK) {
		mobo_error("%s cannot be attached: %s", p->name, res->text);
		mobo_reply_error(p->attach_request, res->code, "%s", res->text);
		p->attach_request = NULL;
		machine_crash(p->machine, "%s cannot be attached: %s", p->name, res->text);
		return;
	}
	if (mobo_type_of(res->body) == MOBO__V1__TYPE__ENGINE_ATTACHED) {
		const Mobo__V1__EngineAttached *ea = (const void *)res->body;

		attached.pci_slots = ea->pci_slots;
		attached.n_pci_slots = ea->n_pci_slots;
	}
	attach_reply(p, &attached);
}

/* The engine is told of one device: first time with its channel, later that it is back. */
static void attach_engine(struct part *p)
{
	struct machine *m = p->machine;
	struct part *engine = engine_part(m);
	Mobo__V1__EngineAttach msg = MOBO__V1__ENGINE_ATTACH__INIT;
	Mobo__V1__EngineDeviceRestarted back = MOBO__V1__ENGINE_DEVICE_RESTARTED__INIT;
	const char *names[3] = { "ioch", "bell", "mem" };
	int fds[3] = { part_fd(p, "ioch"), part_fd(p, "bell"), part_fd(p, "mem") };
	uint8_t ticket[MOBO_TICKET_LEN];

	if (p->in_engine) {
		back.slot = p->slot;
		mobo_hub_call(m->hub, engine->node, &back.base, 0, on_engine_attached, p);
		return;
	}
	if (part_send_fds(engine, names, fds, fds[2] < 0 ? 2 : 3, ticket) < 0) {
		machine_crash(m, "the engine does not take descriptors");
		return;
	}
	msg.slot = p->slot;
	msg.name = p->name;
	msg.claims = p->claims;
	msg.ticket.data = ticket;
	msg.ticket.len = sizeof(ticket);
	mobo_hub_call(m->hub, engine->node, &msg.base, 0, on_engine_attached, p);
}

/* Devices are attached in the order of their slots, so that a guest finds the same board again. */
static void attach_next(struct machine *m)
{
	if (engine_part(m)->state != PART_READY) {
		return;
	}
	for (unsigned i = 0; i < m->n_parts; i++) {
		struct part *p = &m->parts[i];

		if (p->kind != PART_DEVICE || p->state >= PART_ATTACHED) {
			continue;
		}
		if (p->attach_request && p->state == PART_JOINED) {
			p->state = PART_ATTACHED;
			attach_engine(p);
			return;
		}
		if (m->state == MOBO__V1__MACHINE_STATE__STARTING) {
			return; /* its turn has not come */
		}
	}
}

void machine_part_joined(struct part *p)
{
	if (p->state == PART_SPAWNED) {
		p->state = PART_JOINED;
	}
}

void machine_part_attach(struct part *p, struct mobo_request *r, const Mobo__V1__Attach *claims)
{
	size_t len = mobo__v1__attach__get_packed_size(claims);
	uint8_t *copy = malloc(len + 1);

	if (p->state != PART_JOINED || p->attach_request || !copy) {
		free(copy);
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION, "%s is attached already",
				 p->name);
		return;
	}
	mobo__v1__attach__pack(claims, copy);
	if (p->claims) {
		mobo__v1__attach__free_unpacked(p->claims, NULL);
	}
	p->claims = mobo__v1__attach__unpack(NULL, len, copy);
	free(copy);
	p->attach_request = r;
	attach_next(p->machine);
}

void machine_part_ready(struct part *p, bool sandboxed)
{
	struct machine *m = p->machine;
	bool back = p->restarts > 0;

	p->state = PART_READY;
	p->sandboxed = sandboxed;
	mobo_watch_destroy(p->timeout);
	p->timeout = NULL;
	machine_device_event(m, p->name, back ? "restored" : "ready", "", true);
	if (p->kind == PART_ENGINE) {
		attach_next(m);
	}
	serial_ready(p);
	if (m->state == MOBO__V1__MACHINE_STATE__STARTING) {
		if (!m->transition && all_ready(m)) {
			everything_ready(m);
		}
	} else if (m->transition && m->transition->steps[m->transition->next - 1] ==
					    step_respawn_lost) {
		transition_answer(m, NULL);
	}
}

static void describe_exit(char *text, size_t len, int status)
{
	if (WIFSIGNALED(status)) {
		snprintf(text, len, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	} else {
		snprintf(text, len, "exit status %d", WEXITSTATUS(status));
	}
}

static bool may_restart(struct part *p)
{
	uint64_t now = mobo_monotonic_ns();

	if (p->kind == PART_ENGINE || (p->kind == PART_DEVICE && !(p->claims && p->claims->restartable))) {
		return false;
	}
	if (now - p->window_start_ns > PART_RESTART_WINDOW_NS) {
		p->window_start_ns = now;
		p->window_restarts = 0;
	}
	return ++p->window_restarts <= PART_MAX_RESTARTS;
}

static void part_clear(struct part *p)
{
	if (p->node) {
		mobo_hub_drop(p->machine->hub, p->node);
		p->node = 0;
	}
	if (p->sock >= 0) {
		close(p->sock);
		p->sock = -1;
	}
	mobo_watch_destroy(p->timeout);
	p->timeout = NULL;
	if (p->attach_request) {
		mobo_reply_error(p->attach_request, MOBO__V1__CODE__UNAVAILABLE, "process ended");
		p->attach_request = NULL;
	}
}

void machine_part_exited(struct part *p, int status)
{
	struct machine *m = p->machine;
	struct mobo_error err = { 0 };
	char how[64], reason[REASON_LEN];
	bool was_ready = p->state == PART_READY;

	p->state = PART_LOST;
	part_clear(p);
	if (m->state == MOBO__V1__MACHINE_STATE__STOPPING ||
	    m->state == MOBO__V1__MACHINE_STATE__POWERED_OFF ||
	    m->state == MOBO__V1__MACHINE_STATE__CRASHED) {
		return; /* asked to */
	}
	describe_exit(how, sizeof(how), status);
	snprintf(reason, sizeof(reason), "the process of %s ended: %s", p->name, how);
	mobo_error("%s", reason);
	machine_device_event(m, p->name, "lost", how, true);
	if (m->state == MOBO__V1__MACHINE_STATE__STARTING || p->kind == PART_ENGINE) {
		machine_crash(m, "%s", reason);
		return;
	}
	if (was_ready && may_restart(p)) {
		p->restarts++;
		if (part_spawn(p, true, &err) == 0) {
			return;
		}
		mobo_error("%s", err.text);
	}
	/* Who waits for it would wait for ever: accesses end as from an empty bus. */
	if (p->ioch) {
		atomic_store(&p->ioch->dev.state, MOBO_PEER_GONE);
	}
	if (p->kind == PART_DEVICE && m->state == MOBO__V1__MACHINE_STATE__RUNNING) {
		machine_pause(m, NULL, reason);
	}
}

void machine_start(struct machine *m)
{
	struct mobo_error err = { 0 };

	machine_set_state(m, MOBO__V1__MACHINE_STATE__STARTING, "%s", "");
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (part_spawn(&m->parts[i], false, &err) < 0) {
			machine_crash(m, "%s", err.text);
			return;
		}
	}
}
