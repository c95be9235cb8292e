/* SPDX-License-Identifier: Apache-2.0 */
/* See zsock.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "mobo/bus.h"
#include "zsock.h"

enum {
	MONITOR_BATCH = 32,
	RECONNECT_NEVER_MS = 1 << 29, /* six days; libzmq adds as much again at most */
};

struct zsock {
	struct mobo_loop *loop;
	void *handle, *monitor;
	struct zsock_options opt;
	struct mobo_watch *fd, *monitor_fd, *prepare;
	bool touched;	    /* events must be read again before the loop sleeps */
	bool monitor_ready; /* it may have something to tell */
	bool destroyed;
	unsigned depth; /* callbacks of ours on the stack */
	/* What the monitor told and has not been passed on yet. */
	struct {
		unsigned event;
		int fd;
	} pending[MONITOR_BATCH];
	unsigned n_pending;
};

static pthread_mutex_t context_lock = PTHREAD_MUTEX_INITIALIZER;
static void *context;
static unsigned context_users;

static void *context_get(void)
{
	void *c;

	pthread_mutex_lock(&context_lock);
	if (!context) {
		context = zmq_ctx_new();
		if (context) {
			zmq_ctx_set(context, ZMQ_IO_THREADS, 1);
			zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 256);
			zmq_ctx_set(context, ZMQ_BLOCKY, 0);
		}
	}
	c = context;
	context_users += c != NULL;
	pthread_mutex_unlock(&context_lock);
	return c;
}

static void context_put(void)
{
	void *last = NULL;

	pthread_mutex_lock(&context_lock);
	if (--context_users == 0) {
		last = context;
		context = NULL;
	}
	pthread_mutex_unlock(&context_lock);
	if (last) {
		while (zmq_ctx_term(last) < 0 && errno == EINTR) {
		}
	}
}

static void zsock_free(struct zsock *s)
{
	mobo_watch_destroy(s->fd);
	mobo_watch_destroy(s->monitor_fd);
	mobo_watch_destroy(s->prepare);
	if (s->monitor) {
		zmq_socket_monitor(s->handle, NULL, 0);
		zmq_close(s->monitor);
	}
	if (s->handle) {
		zmq_close(s->handle);
	}
	context_put();
	free(s);
}

/* False: it is gone. */
static bool leave(struct zsock *s)
{
	if (--s->depth == 0 && s->destroyed) {
		zsock_free(s);
		return false;
	}
	return true;
}

void zsock_destroy(struct zsock *s)
{
	if (!s) {
		return;
	}
	s->destroyed = true;
	if (s->depth == 0) {
		zsock_free(s);
	}
}

static int events_of(void *handle)
{
	int events = 0;
	size_t len = sizeof(events);

	return zmq_getsockopt(handle, ZMQ_EVENTS, &events, &len) < 0 ? 0 : events;
}

/* Receives all parts. False: nothing there. */
static bool receive(struct zsock *s, struct zmessage *m)
{
	zmq_msg_t rest;
	bool more = true;

	m->n = 0;
	while (more) {
		zmq_msg_t *part = m->n < ZSOCK_MAX_FRAMES ? &m->frames[m->n] : &rest;

		zmq_msg_init(part);
		if (zmq_msg_recv(part, s->handle, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(part);
			break; /* parts of a message come together: only before the first */
		}
		more = zmq_msg_more(part);
		if (m->n++ >= ZSOCK_MAX_FRAMES) {
			zmq_msg_close(part);
		}
	}
	return m->n > 0;
}

/* Frames are public to the callback, which may steal them by zmq_msg_move(). */
static void message_close(struct zmessage *m)
{
	for (unsigned i = 0; i < MOBO_MIN(m->n, (unsigned)ZSOCK_MAX_FRAMES); i++) {
		zmq_msg_close(&m->frames[i]);
	}
}

/* False: the batch ended, more may wait. */
static bool pump(struct zsock *s)
{
	struct zmessage m;

	s->touched = true;
	for (unsigned n = 0; n < ZSOCK_BATCH && !s->destroyed; n++) {
		if (!receive(s, &m)) {
			return true;
		}
		s->opt.recv(s->opt.arg, &m);
		message_close(&m);
	}
	return false;
}

static void fd_readable(void *arg, int fd, int events)
{
	struct zsock *s = arg;

	s->touched = true; /* before_sleep() looks what there is */
}

/* One event of the monitor; false: none there. */
static bool monitor_receive(struct zsock *s, unsigned *event, int *fd)
{
	uint16_t number;
	uint32_t value;
	zmq_msg_t part;

	zmq_msg_init(&part);
	while (zmq_msg_recv(&part, s->monitor, ZMQ_DONTWAIT) < 0) {
		if (!(events_of(s->monitor) & ZMQ_POLLIN)) {
			zmq_msg_close(&part);
			return false;
		}
	}
	memcpy(&number, zmq_msg_data(&part), sizeof(number));
	memcpy(&value, (char *)zmq_msg_data(&part) + sizeof(number), sizeof(value));
	zmq_msg_recv(&part, s->monitor, ZMQ_DONTWAIT); /* the address */
	zmq_msg_close(&part);
	*event = number;
	*fd = (int)value;
	return true;
}

/* Only after its descriptor said so, or when the order matters: each look costs a system call. */
static void monitor_fetch(struct zsock *s)
{
	while (s->monitor && s->n_pending < MONITOR_BATCH) {
		if (!monitor_receive(s, &s->pending[s->n_pending].event,
				     &s->pending[s->n_pending].fd)) {
			s->monitor_ready = false;
			break;
		}
		s->n_pending++;
	}
}

static void monitor_pass_on(struct zsock *s)
{
	while (s->n_pending && !s->destroyed) {
		unsigned event = s->pending[0].event;
		int fd = s->pending[0].fd;

		s->n_pending--;
		memmove(&s->pending[0], &s->pending[1], s->n_pending * sizeof(s->pending[0]));
		s->touched = true;
		s->opt.monitor(s->opt.arg, event, fd);
	}
}

void zsock_monitor_drain(struct zsock *s)
{
	s->depth++;
	s->monitor_ready = s->monitor != NULL;
	do {
		monitor_fetch(s);
		monitor_pass_on(s);
	} while (!s->destroyed && s->monitor_ready);
	leave(s);
}

/*
 * Runs in nested loops too: a callback may wait for a reply on this socket. The order is that in
 * which the peer acted: the messages of a connection, that it was lost, the next one.
 */
static bool before_sleep(void *arg)
{
	struct zsock *s = arg;
	bool all = true;
	int events;

	if (!s->touched) {
		return false;
	}
	s->touched = false;
	s->depth++;
	if (s->monitor_ready) {
		monitor_fetch(s);
	}
	events = events_of(s->handle);
	if (s->opt.recv && (events & ZMQ_POLLIN)) {
		all = pump(s);
	}
	if (all) {
		monitor_pass_on(s);
	}
	if (!s->destroyed && s->opt.ready) {
		s->opt.ready(s->opt.arg, events & ZMQ_POLLOUT);
	}
	return !leave(s) || s->touched;
}

static void monitor_readable(void *arg, int fd, int events)
{
	struct zsock *s = arg;

	s->touched = true;
	s->monitor_ready = true;
}

static int monitor_start(struct zsock *s)
{
	static unsigned serial;
	char address[64];
	size_t len = sizeof(int);
	int fd;

	snprintf(address, sizeof(address), "inproc://monitor-%u",
		 __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
	if (zmq_socket_monitor(s->handle, address, (int)s->opt.monitor_events) < 0) {
		return -errno;
	}
	s->monitor = zmq_socket(context, ZMQ_PAIR);
	if (!s->monitor || zmq_connect(s->monitor, address) < 0 ||
	    zmq_getsockopt(s->monitor, ZMQ_FD, &fd, &len) < 0) {
		return -errno;
	}
	s->monitor_fd = mobo_loop_fd(s->loop, fd, MOBO_LOOP_READ, monitor_readable, s);
	return s->monitor_fd ? 0 : -ENOMEM;
}

static void set_int(void *handle, int option, int value)
{
	zmq_setsockopt(handle, option, &value, sizeof(value));
}

static void set_options(struct zsock *s)
{
	int64_t max = MOBO_BUS_MAX_MESSAGE;

	set_int(s->handle, ZMQ_LINGER, 0);
	/*
	 * Not ZMQ_IMMEDIATE, nor a reconnect interval of -1: both drop what was received and not
	 * yet read when the connection ends, a last answer for instance.
	 */
	set_int(s->handle, ZMQ_SNDHWM, s->opt.hwm);
	set_int(s->handle, ZMQ_RCVHWM, s->opt.hwm);
	set_int(s->handle, ZMQ_HANDSHAKE_IVL, 2000);
	set_int(s->handle, ZMQ_RECONNECT_IVL,
		s->opt.reconnect_ms < 0 ? RECONNECT_NEVER_MS : s->opt.reconnect_ms);
	set_int(s->handle, ZMQ_RECONNECT_IVL_MAX, s->opt.reconnect_ms > 0 ? 1000 : 0);
	zmq_setsockopt(s->handle, ZMQ_MAXMSGSIZE, &max, sizeof(max));
	if (s->opt.type == ZMQ_ROUTER) {
		set_int(s->handle, ZMQ_ROUTER_MANDATORY, 1);
	}
	if (s->opt.type == ZMQ_XPUB) {
		set_int(s->handle, ZMQ_XPUB_VERBOSE, 1);
	}
}

int zsock_create(struct zsock **ret, struct mobo_loop *loop, const struct zsock_options *opt)
{
	struct zsock *s = calloc(1, sizeof(*s));
	size_t len = sizeof(int);
	void *ctx;
	int fd, r;

	if (!s) {
		return -ENOMEM;
	}
	ctx = context_get();
	if (!ctx) {
		free(s);
		return -EMFILE;
	}
	s->loop = loop;
	s->opt = *opt;
	s->handle = zmq_socket(ctx, opt->type);
	if (!s->handle) {
		r = -errno;
		goto fail;
	}
	set_options(s);
	if (zmq_getsockopt(s->handle, ZMQ_FD, &fd, &len) < 0) {
		r = -errno;
		goto fail;
	}
	r = opt->monitor ? monitor_start(s) : 0;
	if (r < 0) {
		goto fail;
	}
	r = -ENOMEM;
	s->fd = mobo_loop_fd(loop, fd, MOBO_LOOP_READ, fd_readable, s);
	s->prepare = mobo_loop_prepare(loop, before_sleep, s);
	if (!s->fd || !s->prepare) {
		goto fail;
	}
	zsock_monitor_drain(s); /* its descriptor tells nothing before the first look */
	*ret = s;
	return 0;
fail:
	zsock_free(s);
	return r;
}

int zsock_use_fd(struct zsock *s, int fd)
{
	return zmq_setsockopt(s->handle, ZMQ_USE_FD, &fd, sizeof(fd)) < 0 ? -errno : 0;
}

int zsock_bind(struct zsock *s, const char *endpoint)
{
	s->touched = true;
	return zmq_bind(s->handle, endpoint) < 0 ? -errno : 0;
}

int zsock_connect(struct zsock *s, const char *endpoint)
{
	s->touched = true;
	return zmq_connect(s->handle, endpoint) < 0 ? -errno : 0;
}

static int send_parts(void *handle, const struct zpart *parts, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int flags = ZMQ_DONTWAIT | (i + 1 < n ? ZMQ_SNDMORE : 0);

		/* Room is checked at the first part; the others go where that went. */
		if (zmq_send(handle, parts[i].data, parts[i].len, flags) < 0) {
			return -errno;
		}
	}
	return 0;
}

int zsock_send(struct zsock *s, const struct zpart *parts, unsigned n)
{
	s->touched = true;
	return send_parts(s->handle, parts, n);
}

int zsock_subscribe(struct zsock *s, const char *prefix, bool on)
{
	s->touched = true;
	return zmq_setsockopt(s->handle, on ? ZMQ_SUBSCRIBE : ZMQ_UNSUBSCRIBE, prefix,
			      strlen(prefix)) < 0
		       ? -errno
		       : 0;
}

/* -- Apart from the loop: the handle is the socket -- */

int zsock_raw_push(struct zsock_raw **ret, const char *endpoint, int hwm, int linger_ms,
		   bool reconnect, int timeout_ms)
{
	void *ctx = context_get(), *handle;
	zmq_pollitem_t item = {.events = ZMQ_POLLOUT};
	int r;

	if (!ctx) {
		return -EMFILE;
	}
	handle = zmq_socket(ctx, ZMQ_PUSH);
	if (!handle) {
		r = -errno;
		context_put();
		return r;
	}
	set_int(handle, ZMQ_LINGER, linger_ms);
	set_int(handle, ZMQ_IMMEDIATE, 1);
	set_int(handle, ZMQ_SNDHWM, hwm);
	set_int(handle, ZMQ_RECONNECT_IVL, reconnect ? 50 : RECONNECT_NEVER_MS);
	set_int(handle, ZMQ_RECONNECT_IVL_MAX, reconnect ? 1000 : 0);
	r = zmq_connect(handle, endpoint) < 0 ? -errno : 0;
	item.socket = handle;
	if (r == 0 && zmq_poll(&item, 1, timeout_ms) < 1) {
		r = -ETIMEDOUT;
	}
	if (r < 0) {
		zsock_raw_close((struct zsock_raw *)handle);
		return r;
	}
	*ret = (struct zsock_raw *)handle;
	return 0;
}

int zsock_raw_send(struct zsock_raw *s, const struct zpart *parts, unsigned n)
{
	return send_parts(s, parts, n);
}

void zsock_raw_close(struct zsock_raw *s)
{
	zmq_close(s);
	context_put();
}
