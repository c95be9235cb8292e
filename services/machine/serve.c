/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs that clients, parts and the registry speak to a machine: one table at the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine.h"
#include "mobo/v1/debug.pb-c.h"
#include "mobo/v1/display.pb-c.h"
#include "mobo/v1/engine.pb-c.h"

static struct part *part_of_node(struct machine *m, uint32_t node)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].node == node) {
			return &m->parts[i];
		}
	}
	return NULL;
}

/* The part that a client names, or the reply that there is none. */
static struct part *named_part(struct machine *m, struct mobo_request *r, const char *name)
{
	struct part *p = part_find(m, name);

	if (!p || !p->node) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
				 "%s has no running device `%s`; `mobo device list %s` shows them",
				 m->name, name, m->name);
		return NULL;
	}
	return p;
}

/* -- Relaying: the answer of a part is the answer to the client -- */

static void on_relayed(void *arg, const struct mobo_result *res)
{
	struct mobo_request *r = arg;

	if (res->code == MOBO__V1__CODE__OK) {
		mobo_reply(r, res->body);
	} else {
		mobo_reply_error(r, res->code, "%s", res->text);
	}
}

static void relay(struct part *p, struct mobo_request *r, const ProtobufCMessage *msg,
		  unsigned deadline_ms)
{
	mobo_hub_call(p->machine->hub, p->node, msg, deadline_ms, on_relayed, r);
}

/* -- Clients -- */

static void serve_status(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = arg;
	Mobo__V1__MachineStatus s = MOBO__V1__MACHINE_STATUS__INIT;

	s.name = m->name;
	s.state = m->state;
	s.reason = m->reason;
	s.vtime_ns = mobo_clock_now_ns(m->page);
	s.engine = m->engine;
	s.engine_reason = m->engine_reason;
	s.cpus = m->settings->cpu->count;
	s.memory = m->settings->memory;
	s.folder = m->folder;
	s.pid = (uint32_t)getpid();
	mobo_reply(r, &s.base);
}

static void serve_pause(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	debugger_paused(arg, mobo_request_node(r));
	machine_pause(arg, r, "asked by a client");
}

static void serve_resume(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	((struct machine *)arg)->debugger.stopped = false;
	machine_resume(arg, r);
}

static void serve_reset(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	machine_reset(arg, r, "asked by a client");
}

static void serve_power_off(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	machine_power_off(arg, r, "powered off by a client");
}

static void serve_power_button(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct part *p = named_part(arg, r, "piix4pm");
	Mobo__V1__DeviceCommand cmd = MOBO__V1__DEVICE_COMMAND__INIT;

	if (p) {
		cmd.verb = "power-button";
		relay(p, r, &cmd.base, 0);
	}
}

struct stream_open {
	struct machine *machine;
	struct mobo_request *request;
	int fd; /* the client's end */
};

static void on_stream_opened(void *arg, const struct mobo_result *res)
{
	struct stream_open *s = arg;
	Mobo__V1__Ticket reply = MOBO__V1__TICKET__INIT;
	const char *name = "stream";
	uint8_t ticket[MOBO_TICKET_LEN];

	if (res->code != MOBO__V1__CODE__OK) {
		close(s->fd);
		mobo_reply_error(s->request, res->code, "%s", res->text);
	} else if (mobo_hub_ticket(s->machine->hub, &name, &s->fd, 1, ticket) < 0) {
		close(s->fd);
		mobo_reply_error(s->request, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
				 "too many tickets are open; try again");
	} else {
		reply.ticket.data = ticket;
		reply.ticket.len = sizeof(ticket);
		mobo_reply(s->request, &reply.base);
	}
	free(s);
}

static void serve_open_stream(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__OpenStream *open = (const void *)body;
	struct machine *m = arg;
	struct part *p = named_part(m, r, *open->device ? open->device : "uart0");
	Mobo__V1__DeviceStream msg = MOBO__V1__DEVICE_STREAM__INIT;
	const char *name = "stream";
	uint8_t ticket[MOBO_TICKET_LEN];
	int pair[2], ret;

	if (!p) {
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "no more sockets: %s",
				 strerror(errno));
		return;
	}
	ret = part_send_fds(p, &name, &pair[1], 1, ticket);
	close(pair[1]);

	struct stream_open *s = malloc(sizeof(*s));

	if (ret < 0 || !s) {
		close(pair[0]);
		free(s);
		mobo_reply_error(r, MOBO__V1__CODE__UNAVAILABLE, "%s takes no descriptors",
				 p->name);
		return;
	}
	*s = (struct stream_open){m, r, pair[0]};
	msg.stream = open->stream;
	msg.ticket.data = ticket;
	msg.ticket.len = sizeof(ticket);
	mobo_hub_call(m->hub, p->node, &msg.base, 0, on_stream_opened, s);
}

/* Keys that are typed at a pace: one event at a time, the reply after the last. */
struct typing {
	struct machine *machine;
	struct mobo_request *request;
	Mobo__V1__InputEvent *events;
	size_t n, next;
	uint64_t interval_ns;
	struct mobo_watch *timer;
};

static void typing_end(struct typing *t, Mobo__V1__Code code, const char *text)
{
	if (code == MOBO__V1__CODE__OK) {
		mobo_reply(t->request, NULL);
	} else {
		mobo_reply_error(t->request, code, "%s", text ? text : "keyboard gone");
	}
	mobo_watch_destroy(t->timer);
	free(t->events);
	free(t);
}

static void typing_next(void *arg);

static void on_typed(void *arg, const struct mobo_result *res)
{
	struct typing *t = arg;

	if (res->code != MOBO__V1__CODE__OK || t->next == t->n) {
		typing_end(t, res->code, res->text);
		return;
	}
	mobo_watch_timer(t->timer, mobo_monotonic_ns() + t->interval_ns);
}

static void typing_next(void *arg)
{
	struct typing *t = arg;
	struct part *p = part_find(t->machine, "i8042");
	Mobo__V1__DeviceInput msg = MOBO__V1__DEVICE_INPUT__INIT;
	Mobo__V1__InputEvent *ptr[64];
	size_t n = t->interval_ns ? 1 : MOBO_MIN(t->n - t->next, MOBO_ARRAY_LEN(ptr));

	if (!p || !p->node) {
		typing_end(t, MOBO__V1__CODE__UNAVAILABLE, "the keyboard's process is gone");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		ptr[i] = &t->events[t->next++];
	}
	msg.events = ptr;
	msg.n_events = n;
	mobo_hub_call(t->machine->hub, p->node, &msg.base, 0, on_typed, t);
}

static void serve_keys(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__SendKeys *keys = (const void *)body;
	struct typing *t = calloc(1, sizeof(*t));

	MOBO_ASSERT(t);
	t->machine = arg;
	t->request = r;
	t->n = keys->n_events;
	t->events = calloc(t->n + 1, sizeof(*t->events));
	t->interval_ns = keys->interval_ms * 1000000ull;
	t->timer = mobo_loop_timer(t->machine->loop, UINT64_MAX, typing_next, t);
	MOBO_ASSERT(t->events && t->timer);
	for (size_t i = 0; i < t->n; i++) {
		t->events[i] = *keys->events[i];
	}
	if (t->n == 0) {
		typing_end(t, MOBO__V1__CODE__OK, NULL);
	} else {
		typing_next(t);
	}
}

static void serve_medium(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	media_change(arg, r, (const Mobo__V1__ChangeMedium *)body);
}

static void serve_device_regs(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct part *p = named_part(arg, r, ((const Mobo__V1__GetDeviceRegs *)body)->device);
	Mobo__V1__DeviceRegsRequest msg = MOBO__V1__DEVICE_REGS_REQUEST__INIT;

	if (p) {
		relay(p, r, &msg.base, 0);
	}
}

static void serve_to_engine(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct part *p = named_part(arg, r, "vcpu");

	if (p) {
		relay(p, r, body, 0);
	}
}

/* What only the debugger may ask. */
static void serve_debugger(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	if (debugger_asks(arg, r)) {
		serve_to_engine(arg, r, body);
	}
}

static void serve_count(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	debugger_counts(arg, mobo_request_node(r), ((const Mobo__V1__CountBlocks *)body)->on);
	serve_to_engine(arg, r, body);
}

static void serve_to_display(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct part *p = named_part(arg, r, "display");
	unsigned deadline_ms = 0;

	if (p) {
		if (mobo_type_of(body) == MOBO__V1__TYPE__WAIT_SCREEN_TEXT) {
			deadline_ms = ((const Mobo__V1__WaitScreenText *)body)->timeout_ms + 1000;
		}
		relay(p, r, body, deadline_ms);
	}
}

/* The picture travels as a descriptor: the display paints, the hub hands out the memory. */
struct screenshot {
	struct machine *machine;
	struct mobo_request *request;
};

static void on_painted(void *arg, const struct mobo_result *res)
{
	struct screenshot *s = arg;
	const char *name = "surface";
	uint8_t ticket[MOBO_TICKET_LEN];
	char path[32];
	int fd;

	if (res->code != MOBO__V1__CODE__OK) {
		mobo_reply_error(s->request, res->code, "%s", res->text);
		free(s);
		return;
	}
	Mobo__V1__Surface surface = *(const Mobo__V1__Surface *)res->body;

	/* A read-only description of the same memory. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->machine->surface_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || mobo_hub_ticket(s->machine->hub, &name, &fd, 1, ticket) < 0) {
		if (fd >= 0) {
			close(fd);
		}
		mobo_reply_error(s->request, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
				 "too many tickets are open; try again");
	} else {
		surface.ticket.data = ticket;
		surface.ticket.len = sizeof(ticket);
		mobo_reply(s->request, &surface.base);
	}
	free(s);
}

static void serve_screenshot(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = arg;
	struct part *p = named_part(m, r, "display");
	struct screenshot *s;

	if (!p) {
		return;
	}
	s = malloc(sizeof(*s));
	MOBO_ASSERT(s);
	*s = (struct screenshot){m, r};
	mobo_hub_call(m->hub, p->node, body, 0, on_painted, s);
}

/* -- Parts -- */

static void serve_attach(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct part *p = part_of_node(arg, mobo_request_node(r));
	struct external *e = external_of_node(arg, mobo_request_node(r));

	if (!p && e) {
		external_attach(arg, e, r, (const Mobo__V1__Attach *)body);
		return;
	}
	if (!p || p->kind != PART_DEVICE) {
		mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED,
				 "only a device that this machine started may attach");
		return;
	}
	machine_part_attach(p, r, (const Mobo__V1__Attach *)body);
}

static void serve_ready(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct part *p = part_of_node(arg, mobo_request_node(r));

	if (!p) {
		mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED,
				 "not a part of this machine");
		return;
	}
	mobo_reply(r, NULL);
	machine_part_ready(p, ((const Mobo__V1__Ready *)body)->sandboxed);
}

static void serve_device_notify(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeviceNotify *n = (const void *)body;
	struct machine *m = arg;
	struct part *p = part_of_node(m, mobo_request_node(r));
	struct external *e = external_of_node(m, mobo_request_node(r));
	char reason[96];

	if (!p && e) {
		external_notify(m, e, r, n);
		return;
	}
	if (!p) {
		mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED,
				 "not a part of this machine");
		return;
	}
	mobo_reply(r, NULL);
	snprintf(reason, sizeof(reason), "%s: %.60s", p->name, *n->text ? n->text : n->verb);
	if (strcmp(n->verb, "reset") == 0) {
		machine_reset(m, NULL, reason);
	} else if (strcmp(n->verb, "poweroff") == 0) {
		machine_power_off(m, NULL, "powered off by the guest");
	} else {
		machine_device_event(m, p->external ? p->external->name : p->name, n->verb, n->text,
				     false);
	}
}

static void serve_engine_notify(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__EngineNotify *n = (const void *)body;
	struct machine *m = arg;
	const char *policy = m->settings->on_triple_fault;
	char reason[160];

	mobo_reply(r, NULL);
	machine_device_event(m, "vcpu", n->verb, n->text, false);
	if (strcmp(n->verb, "debug-stop") == 0) {
		debugger_stopped(m, n->text);
	}
	if (strcmp(n->verb, "triple-fault") != 0) {
		return;
	}
	snprintf(reason, sizeof(reason), "triple fault on CPU %u: %.100s", n->vcpu, n->text);
	if (strcmp(policy, "pause") == 0) {
		machine_pause(m, NULL, reason);
	} else if (strcmp(policy, "poweroff") == 0) {
		machine_power_off(m, NULL, reason);
	} else {
		machine_reset(m, NULL, reason);
	}
}

/* -- Who may what -- */

bool machine_policy(void *arg, Mobo__V1__Role role, const char *name, uint32_t type, uint32_t dst,
		    const char *topic)
{
	char own[64];

	switch (role) {
	case MOBO__V1__ROLE__OPERATOR:
	case MOBO__V1__ROLE__ADMIN:
		/* Parts are reached through the machine's own verbs only. */
		return topic == NULL && dst == 0 &&
		       (type < MOBO__V1__TYPE__ATTACH || type >= MOBO__V1__TYPE__GET_DISPLAY_MODE);
	case MOBO__V1__ROLE__OBSERVER:
		return topic == NULL && dst == 0 &&
		       (type == MOBO__V1__TYPE__LIST_NODES || type == MOBO__V1__TYPE__SNAPSHOT ||
			type == MOBO__V1__TYPE__GET_STATUS ||
			type == MOBO__V1__TYPE__LIST_PROCESSES ||
			type == MOBO__V1__TYPE__LIST_DEVICES || type == MOBO__V1__TYPE__GET_LOG);
	case MOBO__V1__ROLE__DEVICE:
	case MOBO__V1__ROLE__ENGINE:
	case MOBO__V1__ROLE__DISPLAY:
		if (topic) {
			snprintf(own, sizeof(own), "vm.dev.%s.", name);
			return strncmp(topic, own, strlen(own)) == 0;
		}
		if (dst != 0) {
			return external_may(arg, name, type, dst);
		}
		return (type == MOBO__V1__TYPE__ATTACH || type == MOBO__V1__TYPE__READY ||
			type == MOBO__V1__TYPE__DEVICE_NOTIFY ||
			(role == MOBO__V1__ROLE__ENGINE && type == MOBO__V1__TYPE__ENGINE_NOTIFY));
	case MOBO__V1__ROLE__ROLE_NONE:
	case MOBO__V1__ROLE__MACHINE:
	case _MOBO__V1__ROLE_IS_INT_SIZE: break;
	}
	return false;
}

void machine_serve(struct machine *m)
{
	static const struct {
		uint32_t type;
		mobo_handler *fn;
	} verbs[] = {
		{MOBO__V1__TYPE__GET_STATUS, serve_status},
		{MOBO__V1__TYPE__PAUSE, serve_pause},
		{MOBO__V1__TYPE__RESUME, serve_resume},
		{MOBO__V1__TYPE__RESET, serve_reset},
		{MOBO__V1__TYPE__POWER_BUTTON, serve_power_button},
		{MOBO__V1__TYPE__POWER_OFF, serve_power_off},
		{MOBO__V1__TYPE__LIST_PROCESSES, inspect_processes},
		{MOBO__V1__TYPE__OPEN_STREAM, serve_open_stream},
		{MOBO__V1__TYPE__SEND_KEYS, serve_keys},
		{MOBO__V1__TYPE__CHANGE_MEDIUM, serve_medium},
		{MOBO__V1__TYPE__LIST_DEVICES, inspect_devices},
		{MOBO__V1__TYPE__GET_DEVICE_REGS, serve_device_regs},
		{MOBO__V1__TYPE__GET_CPU_REGS, serve_to_engine},
		{MOBO__V1__TYPE__GET_STATS, serve_to_engine},
		{MOBO__V1__TYPE__GET_LOG, inspect_log},
		{MOBO__V1__TYPE__READ_MEMORY, serve_to_engine},
		{MOBO__V1__TYPE__WRITE_MEMORY, serve_debugger},
		{MOBO__V1__TYPE__SET_CPU_REGS, serve_debugger},
		{MOBO__V1__TYPE__ATTACH_DEBUGGER, debugger_serve_attach},
		{MOBO__V1__TYPE__DETACH_DEBUGGER, debugger_serve_detach},
		{MOBO__V1__TYPE__SET_DEBUG_POINTS, serve_debugger},
		{MOBO__V1__TYPE__STEP_CPU, serve_debugger},
		{MOBO__V1__TYPE__GET_DEBUG_STOPS, serve_to_engine},
		{MOBO__V1__TYPE__COUNT_BLOCKS, serve_count},
		{MOBO__V1__TYPE__GET_HOT_BLOCKS, serve_to_engine},
		{MOBO__V1__TYPE__GET_TRANSLATION, serve_to_engine},
		{MOBO__V1__TYPE__GET_DISPLAY_MODE, serve_to_display},
		{MOBO__V1__TYPE__SCREENSHOT, serve_screenshot},
		{MOBO__V1__TYPE__GET_SCREEN_TEXT, serve_to_display},
		{MOBO__V1__TYPE__WAIT_SCREEN_TEXT, serve_to_display},
		{MOBO__V1__TYPE__ATTACH, serve_attach},
		{MOBO__V1__TYPE__READY, serve_ready},
		{MOBO__V1__TYPE__DEVICE_NOTIFY, serve_device_notify},
		{MOBO__V1__TYPE__ENGINE_NOTIFY, serve_engine_notify},
	};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(verbs); i++) {
		mobo_hub_serve(m->hub, verbs[i].type, verbs[i].fn, m);
	}
}
