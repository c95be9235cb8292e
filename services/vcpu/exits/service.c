/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of mobo-machine, and what the board has to tell it. */
#include "exits/service.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exits/debug.h"
#include "mobo/log.h"
#include "mobo/v1/device.pb-c.h"
#include "mobo/v1/machine.pb-c.h"

enum { CHILD_FD = 3, REPORT_NS = 1000000000 };

void service_ignore(void *arg, const struct mobo_result *res)
{
	(void)arg;
	(void)res;
}

/* -- Devices -- */

static void close_set(struct fd_set_received *f)
{
	const int fds[] = {f->ioch, f->bell, f->mem};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(fds); i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
	f->used = false;
}

static void keep_set(struct service *s, const Mobo__V1__FdMessage *msg, const int *fds, unsigned n)
{
	struct fd_set_received *f = &s->fds[0];

	for (unsigned i = 0; i < SERVICE_FD_SETS && f->used; i++) {
		f = &s->fds[i];
	}
	if (f->used) {
		close_set(f);
	}
	*f = (struct fd_set_received){.ioch = -1, .bell = -1, .mem = -1, .used = true};
	memcpy(f->ticket, msg->ticket.data, MOBO_TICKET_LEN);
	for (unsigned i = 0; i < n; i++) {
		int *place = strcmp(msg->names[i], "ioch") == 0	  ? &f->ioch
			     : strcmp(msg->names[i], "bell") == 0 ? &f->bell
			     : strcmp(msg->names[i], "mem") == 0  ? &f->mem
								  : NULL;

		if (place && *place < 0) {
			*place = fds[i];
		} else {
			close(fds[i]);
		}
	}
}

static void take_message(struct service *s, const uint8_t *buf, size_t len, const int *fds,
			 unsigned n)
{
	Mobo__V1__FdMessage *msg = mobo__v1__fd_message__unpack(NULL, len, buf);

	if (msg && msg->ticket.len == MOBO_TICKET_LEN && msg->n_names == n) {
		keep_set(s, msg, fds, n);
	} else {
		for (unsigned i = 0; i < n; i++) {
			close(fds[i]);
		}
	}
	if (msg) {
		mobo__v1__fd_message__free_unpacked(msg, NULL);
	}
}

void service_take_fds(struct service *s)
{
	struct pollfd p = {.fd = CHILD_FD, .events = POLLIN};
	uint8_t buf[4096];

	while (poll(&p, 1, 0) == 1 && p.revents & POLLIN) {
		int fds[MOBO_FDS_PER_MESSAGE];
		unsigned n = MOBO_FDS_PER_MESSAGE;
		ssize_t len = mobo_fds_recv(CHILD_FD, buf, sizeof(buf), fds, &n);

		if (len <= 0) {
			return;
		}
		take_message(s, buf, (size_t)len, fds, n);
	}
}

static struct fd_set_received *find_set(struct service *s, const ProtobufCBinaryData *ticket)
{
	service_take_fds(s);
	for (unsigned i = 0; i < SERVICE_FD_SETS; i++) {
		if (s->fds[i].used && ticket->len == MOBO_TICKET_LEN &&
		    memcmp(s->fds[i].ticket, ticket->data, MOBO_TICKET_LEN) == 0) {
			return &s->fds[i];
		}
	}
	return NULL;
}

static void serve_attach(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__EngineAttach *msg = (const void *)body;
	Mobo__V1__EngineAttached reply = MOBO__V1__ENGINE_ATTACHED__INIT;
	struct service *s = arg;
	struct fd_set_received *f = find_set(s, &msg->ticket);
	uint32_t slots[BOARD_FUNCTIONS];
	struct mobo_error err = {0};
	struct device *d;

	if (!f || !msg->claims) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
				 "the descriptors of %s did not come with its ticket", msg->name);
		return;
	}
	f->used = false;
	if (board_attach(s->board, msg->slot, msg->name, msg->claims, f->ioch, f->bell, f->mem,
			 &err) < 0) {
		mobo_reply_errno(r, &err);
		return;
	}
	d = s->board->device[msg->slot];
	for (unsigned i = 0; i < d->n_functions; i++) {
		slots[i] = d->fn[i].device;
	}
	reply.pci_slots = slots;
	reply.n_pci_slots = d->n_functions;
	mobo_reply(r, &reply.base);
}

static void serve_detach(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__EngineDetach *msg = (const void *)body;
	struct service *s = arg;

	if (board_detach(s->board, msg->slot) < 0) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND, "no device in slot %u", msg->slot);
	} else {
		mobo_reply(r, NULL);
	}
}

static void serve_restarted(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__EngineDeviceRestarted *msg = (const void *)body;
	struct service *s = arg;
	struct device *d = msg->slot < BOARD_DEVICES ? s->board->device[msg->slot] : NULL;

	if (!d) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND, "no device in slot %u", msg->slot);
		return;
	}
	board_map_words(d, NULL);
	board_collect_device(s->board, d, NULL);
	mobo_reply(r, NULL);
}

/* -- Running -- */

static void serve_run(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct service *s = arg;

	(void)body;
	debug_run(s);
	board_run(s->board);
	mobo_reply(r, NULL);
}

static void serve_pause(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct service *s = arg;

	(void)body;
	if (s->pausing) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION, "a pause is under way");
		return;
	}
	s->pausing = r;
	board_pause(s->board);
	mobo_loop_wake(s->loop);
}

static void serve_reset(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct service *s = arg;

	(void)body;
	if (!board_parked(s->board)) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION, "the CPUs are running");
		return;
	}
	board_reset(s->board);
	s->triple_faults = 0;
	mobo_reply(r, NULL);
}

static void serve_quit(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct service *s = arg;

	(void)body;
	mobo_reply(r, NULL);
	mobo_loop_stop(s->loop);
}

static void serve_status(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	Mobo__V1__EngineStatusReply reply = MOBO__V1__ENGINE_STATUS_REPLY__INIT;
	struct service *s = arg;

	(void)body;
	reply.engine = (char *)s->board->ops->name;
	reply.reason = s->reason;
	mobo_reply(r, &reply.base);
}

/* -- Looking -- */

static void serve_stats(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	static const char *const causes[N_EXIT_CAUSES] = {
		[EXIT_PIO] = "pio",	[EXIT_MMIO] = "mmio",	    [EXIT_PCI] = "pci-config",
		[EXIT_APIC] = "apic",	[EXIT_HALT] = "halt",	    [EXIT_IRQ] = "interrupt",
		[EXIT_TIMER] = "timer", [EXIT_SYNC] = "shoot-down",
	};
	enum { PER_CPU = N_EXIT_CAUSES + 1, N = BOARD_CPUS * PER_CPU + 1 };
	static char names[N][40];
	static Mobo__V1__Counter counters[N], *list[N];
	Mobo__V1__Stats reply = MOBO__V1__STATS__INIT;
	struct service *s = arg;
	unsigned n = 0;

	(void)body;
	for (unsigned i = 0; i < s->board->n_cpus; i++) {
		struct cpu *c = &s->board->cpu[i];

		for (unsigned k = 0; k < PER_CPU; k++, n++) {
			snprintf(names[n], sizeof(names[n]), "cpu%u.%s", i,
				 k < N_EXIT_CAUSES ? causes[k] : "instructions");
			mobo__v1__counter__init(&counters[n]);
			counters[n].value = k < N_EXIT_CAUSES
						    ? atomic_load(&c->exits[k])
						    : *(volatile uint64_t *)&c->v->n_insns;
		}
	}
	snprintf(names[n], sizeof(names[n]), "unclaimed");
	mobo__v1__counter__init(&counters[n]);
	counters[n++].value = atomic_load(&s->board->unclaimed);
	for (unsigned i = 0; i < n; i++) {
		counters[i].name = names[i];
		list[i] = &counters[i];
	}
	reply.counters = list;
	reply.n_counters = n;
	mobo_reply(r, &reply.base);
}

/* -- Telling -- */

void service_tell(struct service *s, const char *verb, char *text, unsigned vcpu)
{
	Mobo__V1__EngineNotify msg = MOBO__V1__ENGINE_NOTIFY__INIT;

	msg.verb = (char *)verb;
	msg.text = text;
	msg.vcpu = vcpu;
	mobo_bus_call(s->bus, 0, &msg.base, 0, service_ignore, s);
}

static void tell_triple_faults(struct service *s)
{
	uint32_t bits = atomic_load(&s->board->triple_faults) & ~s->triple_faults;

	while (bits) {
		unsigned n = (unsigned)__builtin_ctz(bits);
		struct cpu_look l = {.board = s->board};
		char text[80] = "";

		bits &= bits - 1;
		s->triple_faults |= 1u << n;
		if (board_on_cpu(s->board, n, cpu_look, &l) == 0) {
			snprintf(text, sizeof(text), "cs:rip %04x:%llx", l.state.sregs.cs.selector,
				 l.state.regs.rip);
		}
		mobo_info("triple fault on CPU %u, %s", n, text);
		service_tell(s, "triple-fault", text, n);
	}
}

static void tell_unclaimed(struct service *s)
{
	uint64_t n = atomic_load(&s->board->unclaimed), last, now = mobo_monotonic_ns();
	char text[120];

	if (n == s->unclaimed || now < s->next_report_ns) {
		return;
	}
	last = atomic_load(&s->board->unclaimed_last);
	snprintf(text, sizeof(text), "%llu accesses, the last a %llu-byte %s of %s 0x%llx",
		 (unsigned long long)(n - s->unclaimed), (unsigned long long)(last >> 48 & 0xff),
		 last >> 57 & 1 ? "write" : "read", last >> 56 & 1 ? "address" : "port",
		 (unsigned long long)(last & 0xffffffffffff));
	s->unclaimed = n;
	s->next_report_ns = now + REPORT_NS;
	mobo_debug("unclaimed: %s", text);
	service_tell(s, "unclaimed", text, 0);
}

/* Each turn of the loop, which board.notify asks for. */
static bool turn(void *arg)
{
	struct service *s = arg;

	if (s->pausing && board_parked(s->board)) {
		mobo_reply(s->pausing, NULL);
		s->pausing = NULL;
	}
	debug_turn(s);
	tell_triple_faults(s);
	tell_unclaimed(s);
	return false;
}

static void wake(void *arg)
{
	mobo_loop_wake(((struct service *)arg)->loop);
}

void service_start(struct service *s)
{
	static const struct {
		uint32_t type;
		mobo_handler *fn;
	} verbs[] = {
		{MOBO__V1__TYPE__ENGINE_ATTACH, serve_attach},
		{MOBO__V1__TYPE__ENGINE_DETACH, serve_detach},
		{MOBO__V1__TYPE__ENGINE_DEVICE_RESTARTED, serve_restarted},
		{MOBO__V1__TYPE__ENGINE_RUN, serve_run},
		{MOBO__V1__TYPE__ENGINE_PAUSE, serve_pause},
		{MOBO__V1__TYPE__ENGINE_RESET, serve_reset},
		{MOBO__V1__TYPE__ENGINE_QUIT, serve_quit},
		{MOBO__V1__TYPE__ENGINE_STATUS, serve_status},
		{MOBO__V1__TYPE__GET_CPU_REGS, debug_serve_regs},
		{MOBO__V1__TYPE__SET_CPU_REGS, debug_serve_set_regs},
		{MOBO__V1__TYPE__GET_STATS, serve_stats},
	};

	debug_serve(s);
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(verbs); i++) {
		mobo_bus_serve(s->bus, verbs[i].type, verbs[i].fn, s);
	}
	mobo_loop_prepare(s->loop, turn, s);
	s->board->notify_arg = s;
	s->board->notify = wake;
}
