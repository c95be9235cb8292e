/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine asks of a chip's process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mobo/log.h"
#include "mobo/v1/types.pb-c.h"
#include "process.h"

enum { FD_MESSAGE_MAX = 4096 };

/* -- Descriptors on fd 3 -- */

static void ticket_drop(struct ticket *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		close(t->fds[i]);
	}
	t->n = 0;
}

static void ticket_keep(struct process *p, const Mobo__V1__FdMessage *msg, const int *fds,
			unsigned n)
{
	struct ticket *t = &p->tickets[p->next_ticket++ % PROCESS_TICKETS];

	ticket_drop(t); /* the oldest one, never asked for */
	memcpy(t->id, msg->ticket.data, MOBO_TICKET_LEN);
	for (unsigned i = 0; i < n; i++) {
		strncpy(t->names[i], i < msg->n_names ? msg->names[i] : "",
			sizeof(t->names[0]) - 1);
		t->names[i][sizeof(t->names[0]) - 1] = '\0';
		t->fds[i] = fds[i];
	}
	t->n = n;
}

/* 1: a message was taken, 0: none is there, -errno: the other end is gone. */
static int take_one(struct process *p)
{
	uint8_t buf[FD_MESSAGE_MAX];
	int fds[MOBO_FDS_PER_MESSAGE];
	unsigned n = MOBO_FDS_PER_MESSAGE;
	Mobo__V1__FdMessage *msg;
	char c;
	ssize_t len = recv(PROCESS_FD, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
		return 0;
	}
	if (len <= 0) {
		return -EPIPE;
	}
	len = mobo_fds_recv(PROCESS_FD, buf, sizeof(buf), fds, &n);
	if (len <= 0) {
		return -EPIPE;
	}
	msg = mobo__v1__fd_message__unpack(NULL, (size_t)len, buf);
	if (msg && msg->ticket.len == MOBO_TICKET_LEN && n > 0) {
		ticket_keep(p, msg, fds, n);
	} else {
		for (unsigned i = 0; i < n; i++) {
			close(fds[i]);
		}
	}
	if (msg) {
		mobo__v1__fd_message__free_unpacked(msg, NULL);
	}
	return 1;
}

bool process_take_fds(struct process *p)
{
	int r;

	do {
		r = take_one(p);
	} while (r > 0);
	return r == 0;
}

/* The descriptors of a ticket: they were sent before the request that names it. */
static struct ticket *redeem(struct process *p, const ProtobufCBinaryData *id)
{
	process_take_fds(p);
	for (unsigned i = 0; i < PROCESS_TICKETS; i++) {
		struct ticket *t = &p->tickets[i];

		if (t->n > 0 && id->len == MOBO_TICKET_LEN &&
		    memcmp(t->id, id->data, MOBO_TICKET_LEN) == 0) {
			return t;
		}
	}
	return NULL;
}

/* -- Verbs -- */

static void reply_result(struct process *p, struct mobo_request *r, const char *what, int result)
{
	struct mobo_error err;

	if (result >= 0) {
		mobo_reply(r, NULL);
		return;
	}
	mobo_error_set(&err, -result, "%s: %s: %s", p->init->name, what, strerror(-result));
	mobo_reply_errno(r, &err);
}

/* All accesses that came before the request are executed first. */
static void drain(struct process *p)
{
	for (unsigned i = 0; i < 1000 && mobo_channel_serve(&p->channel); i++) {
	}
}

static void on_reset(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct process *p = arg;

	drain(p);
	mobo_dev_reset(p->dev);
	mobo_reply(r, NULL);
}

static void on_pause(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct process *p = arg;

	drain(p);
	if (!p->paused) {
		p->paused = true;
		if (p->cls->pause) {
			p->cls->pause(p->dev);
		}
		p->timer_dirty = true;
		streams_watch_input(p);
	}
	streams_flush(p);
	mobo_reply(r, NULL);
}

static void on_resume(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct process *p = arg;

	if (p->paused) {
		p->paused = false;
		if (p->cls->resume) {
			p->cls->resume(p->dev);
		}
		streams_watch_input(p);
	}
	p->timer_dirty = true;
	mobo_reply(r, NULL);
}

static void on_quit(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct process *p = arg;

	drain(p);
	if (!p->paused && p->cls->pause) {
		p->cls->pause(p->dev);
	}
	p->paused = true;
	p->timer_dirty = true;
	streams_flush(p);
	/* The answer says that images are closed: who asked may kill now. */
	p->serving = false;
	mobo_dev_finish(p->dev);
	mobo_reply(r, NULL);
	process_stop(p);
}

static void on_input(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeviceInput *msg = (const void *)body;
	struct process *p = arg;

	if (!p->cls->input) {
		mobo_reply_error(r, MOBO__V1__CODE__UNIMPLEMENTED, "%s takes no input.",
				 p->init->name);
		return;
	}
	for (size_t i = 0; i < msg->n_events; i++) {
		const Mobo__V1__InputEvent *e = msg->events[i];
		struct mobo_input in = {
			.code = (uint16_t)e->code,
			.down = e->down,
			.dx = e->dx,
			.dy = e->dy,
			.dz = e->dz,
		};

		switch ((int)e->kind) {
		case MOBO__V1__INPUT_EVENT__INPUT_KIND__KEY: in.kind = MOBO_INPUT_KEY; break;
		case MOBO__V1__INPUT_EVENT__INPUT_KIND__BUTTON: in.kind = MOBO_INPUT_BUTTON; break;
		case MOBO__V1__INPUT_EVENT__INPUT_KIND__REL: in.kind = MOBO_INPUT_REL; break;
		case MOBO__V1__INPUT_EVENT__INPUT_KIND__WHEEL: in.kind = MOBO_INPUT_WHEEL; break;
		default: continue; /* of a newer peer */
		}
		p->cls->input(p->dev, &in);
	}
	mobo_reply(r, NULL);
}

static void on_media(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeviceMedia *msg = (const void *)body;
	struct process *p = arg;
	const char *names[MOBO_FDS_PER_MESSAGE] = {NULL};
	struct ticket *t = NULL;
	unsigned n = 0;
	int result;

	if (msg->ticket.len > 0) {
		t = redeem(p, &msg->ticket);
		if (!t) {
			mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
					 "%s: the descriptors of the medium did not come.",
					 p->init->name);
			return;
		}
		n = t->n;
		t->n = 0; /* taken over below, whatever comes of it */
		for (unsigned i = 0; i < n; i++) {
			names[i] = t->names[i];
		}
	}
	for (size_t i = 0; i < msg->n_config; i++) {
		mobo_dev_config_set(p->dev, msg->config[i]->key, msg->config[i]->value);
	}
	result = mobo_dev_media(p->dev, msg->slot, names, t ? t->fds : NULL, n, msg->force);
	reply_result(p, r, n ? "insert" : "eject", result);
}

static void on_stream(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeviceStream *msg = (const void *)body;
	struct process *p = arg;
	struct ticket *t = redeem(p, &msg->ticket);
	int fd;

	if (!t) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
				 "%s: the descriptor of the stream did not come.", p->init->name);
		return;
	}
	fd = t->fds[0];
	t->fds[0] = t->fds[--t->n];
	ticket_drop(t);
	reply_result(p, r, "stream", stream_attach(p, msg->stream, fd));
}

static void on_command(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeviceCommand *msg = (const void *)body;
	struct process *p = arg;

	reply_result(p, r, msg->verb,
		     p->cls->command ? p->cls->command(p->dev, msg->verb, msg->arg) : -ENOSYS);
}

static void on_regs(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct process *p = arg;
	unsigned n = p->cls->n_regs;
	Mobo__V1__RegisterValue *values = calloc(n + 1, sizeof(*values));
	Mobo__V1__RegisterValue **pointers = calloc(n + 1, sizeof(void *));
	Mobo__V1__DeviceRegs reply = MOBO__V1__DEVICE_REGS__INIT;

	if (!values || !pointers) {
		reply_result(p, r, "registers", -ENOMEM);
		goto out;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct mobo_reg *reg = &p->cls->regs[i];
		Mobo__V1__RegisterValue *v = &values[reply.n_registers];

		mobo__v1__register_value__init(v);
		if (!mobo_dev_reg_peek(p->dev, reg, &v->value)) {
			continue;
		}
		v->name = (char *)reg->name;
		v->region = (char *)p->dev->regions[reg->region].name;
		v->offset = reg->offset;
		v->width = reg->width;
		pointers[reply.n_registers++] = v;
	}
	reply.registers = pointers;
	mobo_reply(r, &reply.base);
out:
	free(values);
	free(pointers);
}

static void on_stats(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct process *p = arg;
	const struct mobo_channel_stats *s = &p->channel.stats;
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"sync", s->sync},
		{"posted", s->posted},
		{"doorbells", s->bells},
		{"sleeps", s->sleeps},
		{"polled", s->polled},
		{"guest-errors", p->dev->n_guest_errors},
		{"epoch", atomic_load(&p->journal->epoch)},
	};
	Mobo__V1__Counter values[MOBO_ARRAY_LEN(counters)], *pointers[MOBO_ARRAY_LEN(counters)];
	Mobo__V1__Stats reply = MOBO__V1__STATS__INIT;

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(counters); i++) {
		mobo__v1__counter__init(&values[i]);
		values[i].name = (char *)counters[i].name;
		values[i].value = counters[i].value;
		pointers[i] = &values[i];
	}
	reply.counters = pointers;
	reply.n_counters = MOBO_ARRAY_LEN(counters);
	mobo_reply(r, &reply.base);
}

void process_serve(struct process *p)
{
	static const struct {
		uint32_t type;
		mobo_handler *fn;
	} verbs[] = {
		{MOBO__V1__TYPE__DEVICE_RESET, on_reset},
		{MOBO__V1__TYPE__DEVICE_PAUSE, on_pause},
		{MOBO__V1__TYPE__DEVICE_RESUME, on_resume},
		{MOBO__V1__TYPE__DEVICE_QUIT, on_quit},
		{MOBO__V1__TYPE__DEVICE_INPUT, on_input},
		{MOBO__V1__TYPE__DEVICE_MEDIA, on_media},
		{MOBO__V1__TYPE__DEVICE_STREAM, on_stream},
		{MOBO__V1__TYPE__DEVICE_COMMAND, on_command},
		{MOBO__V1__TYPE__DEVICE_REGS_REQUEST, on_regs},
		{MOBO__V1__TYPE__DEVICE_STATS_REQUEST, on_stats},
	};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(verbs); i++) {
		mobo_bus_serve(p->bus, verbs[i].type, verbs[i].fn, p);
	}
}
