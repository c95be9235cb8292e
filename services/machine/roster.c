/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts come and go: a process joins the bus, a device is attached to the engine, all are ready;
 * one dies, and its class decides whether it comes back with its state or the guest is paused.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "mobo/v1/engine.pb-c.h"

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
	Mobo__V1__EngineStatus status = MOBO__V1__ENGINE_STATUS__INIT;

	mobo_hub_call(m->hub, engine_part(m)->node, &status.base, 0, on_engine_status, m);
	machine_run(m);
}

static void attach_next(struct machine *m);

static void attach_reply(struct part *p, const Mobo__V1__Attached *attached)
{
	p->state = PART_ATTACHED;
	p->in_engine = true;
	if (p->external) {
		external_attached(p, attached);
	}
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
		if (p->external) {
			external_refused(p, res);
			return;
		}
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
	const char *names[3] = {"ioch", "bell", "mem"};
	int fds[3] = {part_fd(p, "ioch"), part_fd(p, "bell"), part_fd(p, "mem")};
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
	msg.name = p->external ? p->external->name : p->name;
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
	if (p->external) {
		external_ready(p);
		return;
	}
	if (m->state == MOBO__V1__MACHINE_STATE__STARTING) {
		if (!m->transition && all_ready(m)) {
			everything_ready(m);
		}
	}
	machine_awaited(p, NULL);
}

/* A process that ended by itself has said why. */
static void describe_exit(struct part *p, char *text, size_t len, int status)
{
	char words[160] = "";

	if (WIFSIGNALED(status)) {
		snprintf(text, len, "signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	} else {
		journal_first_error(p->machine, p->started, p->name, words, sizeof(words));
		snprintf(text, len, "exit status %d%s%s", WEXITSTATUS(status), *words ? ": " : "",
			 words);
	}
}

static bool may_restart(struct part *p)
{
	uint64_t now = mobo_monotonic_ns();

	if (p->kind == PART_ENGINE ||
	    (p->kind == PART_DEVICE && !(p->claims && p->claims->restartable))) {
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

/*
 * Who waits for the part would wait for ever: accesses end as from an empty bus, and the guest is
 * stopped before it makes much of that.
 */
static void stays_away(struct part *p, const char *reason)
{
	struct machine *m = p->machine;
	char text[MACHINE_REASON_LEN];

	if (p->ioch) {
		atomic_store(&p->ioch->dev.state, MOBO_PEER_GONE);
	}
	if (p->awaited) {
		machine_awaited(p, reason);
	} else if (p->kind == PART_DEVICE) {
		snprintf(text, sizeof(text), "%.150s; `mobo reset` starts it and the guest anew",
			 reason);
		machine_pause(m, NULL, text);
	}
}

void machine_part_exited(struct part *p, int status)
{
	struct machine *m = p->machine;
	struct mobo_error err = {0};
	char how[192], reason[MACHINE_REASON_LEN];
	bool was_ready = p->state == PART_READY;

	p->state = PART_LOST;
	part_clear(p);
	if (m->state == MOBO__V1__MACHINE_STATE__STOPPING ||
	    m->state == MOBO__V1__MACHINE_STATE__POWERED_OFF ||
	    m->state == MOBO__V1__MACHINE_STATE__CRASHED) {
		return; /* asked to */
	}
	describe_exit(p, how, sizeof(how), status);
	if (p->external) {
		external_exited(p, how);
		return;
	}
	snprintf(reason, sizeof(reason), "the process of %s ended: %s", p->name, how);
	mobo_error("%s", reason);
	machine_device_event(m, p->name, "lost", how, true);
	if (m->state == MOBO__V1__MACHINE_STATE__STARTING || p->kind == PART_ENGINE) {
		machine_crash(m, "%s", reason);
		return;
	}
	if ((was_ready || p->restarts) && may_restart(p)) {
		p->restarts++;
		if (part_spawn(p, true, &err) == 0) {
			return;
		}
		mobo_error("%s", err.text);
	}
	stays_away(p, reason);
}

void machine_start(struct machine *m)
{
	struct mobo_error err = {0};

	machine_set_state(m, MOBO__V1__MACHINE_STATE__STARTING, "%s", "");
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (part_spawn(&m->parts[i], false, &err) < 0) {
			machine_crash(m, "%s", err.text);
			return;
		}
	}
}
