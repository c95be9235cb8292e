/* SPDX-License-Identifier: Apache-2.0 */
/* A member's connection to a hub: joining, staying, leaving. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fds.h"
#include "member.h"
#include "mobo/log.h"
#include "rpc_served.h"

enum { BEATS_MISSED_MAX = 3, DEALER_HWM = 1000, RECONNECT_MS = 50 };
#define IPC_PREFIX "ipc://"

static void bus_free(struct mobo_bus *bus)
{
	if (bus->welcome) {
		mobo__v1__welcome__free_unpacked(bus->welcome, NULL);
	}
	follower_free(bus->follower);
	free(bus->endpoint);
	free(bus->name);
	free(bus->token);
	free(bus);
}

void bus_enter(struct mobo_bus *bus)
{
	bus->depth++;
}

bool bus_leave(struct mobo_bus *bus)
{
	if (--bus->depth == 0 && bus->closed) {
		bus_free(bus);
		return false;
	}
	return !bus->closed;
}

static int member_send(void *arg, uint32_t node, const Mobo__V1__Hdr *hdr, const void *body,
		       size_t len)
{
	struct mobo_bus *bus = arg;
	uint8_t buf[WIRE_HDR_MAX];
	struct zpart parts[2] = {{buf, 0}, {body, len}};

	if (!bus->connected) {
		return -ENOTCONN;
	}
	parts[0].len = wire_pack_hdr(hdr, buf);
	return zsock_send(bus->dealer, parts, 2);
}

/* -- Joining -- */

/* "<dir of the socket>/<role>.token", as text. NULL: none. */
static char *token_read(const char *endpoint, Mobo__V1__Role role)
{
	const char *file = role == MOBO__V1__ROLE__OBSERVER ? "observer.token"
			   : role == MOBO__V1__ROLE__DEVICE ? "device.token"
							    : "operator.token";
	const char *slash = strrchr(endpoint, '/');
	char path[256], text[65];
	ssize_t n;
	int fd;

	if (strncmp(endpoint, IPC_PREFIX, strlen(IPC_PREFIX)) != 0 || !slash ||
	    snprintf(path, sizeof(path), "%.*s/%s",
		     (int)(slash - endpoint - (ssize_t)strlen(IPC_PREFIX)),
		     endpoint + strlen(IPC_PREFIX), file) >= (int)sizeof(path)) {
		return NULL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return NULL;
	}
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0) {
		return NULL;
	}
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return strdup(text);
}

static void hello_send(struct mobo_bus *bus)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	Mobo__V1__Hello hello = MOBO__V1__HELLO__INIT;
	uint8_t buf[WIRE_HDR_MAX], *body;
	struct zpart parts[2];
	char *token = bus->token ? NULL : token_read(bus->endpoint, bus->opt.role);

	hello.role = bus->opt.role;
	hello.name = bus->name;
	hello.pid = (uint32_t)getpid();
	hello.token = bus->token ? bus->token : token;
	hello.token = hello.token ? hello.token : (char *)protobuf_c_empty_string;
	hello.bus_major = MOBO_BUS_MAJOR;
	hello.bus_minor = MOBO_BUS_MINOR;
	hello.session = bus->session;
	hdr.kind = MOBO__V1__KIND__REQ;
	hdr.type = MOBO__V1__TYPE__HELLO;
	hdr.corr = bus->session;
	parts[0] = (struct zpart){buf, wire_pack_hdr(&hdr, buf)};
	body = wire_pack(&hello.base, &parts[1].len);
	parts[1].data = body;
	bus->hello_sent = body && zsock_send(bus->dealer, parts, 2) == 0;
	free(body);
	free(token);
}

static void dealer_ready(void *arg, bool writable)
{
	struct mobo_bus *bus = arg;

	if (writable && bus->transport && !bus->connected && !bus->hello_sent) {
		hello_send(bus);
	}
}

static void connection_lost(struct mobo_bus *bus)
{
	bool was = bus->connected;

	bus->connected = false;
	bus->hello_sent = false;
	if (!bus->joined && !bus->opt.reconnect) { /* before it was answered: nobody will */
		mobo_error_set(&bus->refused, ECONNRESET, "%s closed the connection",
			       bus->endpoint);
		bus->joined = true;
	}
	if (bus->beat) {
		mobo_watch_timer(bus->beat, UINT64_MAX);
	}
	if (!was) {
		return;
	}
	if (!bus->opt.reconnect) {
		rpc_fail_all(&bus->rpc, MOBO__V1__CODE__UNAVAILABLE, "the connection was lost");
	} else {
		rpc_serve_gone(&bus->rpc, 0, true);
	}
	if (bus->opt.disconnected) {
		bus->opt.disconnected(bus->opt.arg);
	}
}

static void beat_send(void *arg)
{
	struct mobo_bus *bus = arg;
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;

	bus_enter(bus);
	if (++bus->beats_missed > BEATS_MISSED_MAX) {
		connection_lost(bus);
		if (!bus->closed && bus->opt.reconnect) {
			hello_send(bus); /* the transport may well be there */
		}
	} else {
		hdr.kind = MOBO__V1__KIND__HB;
		member_send(bus, 0, &hdr, NULL, 0);
		mobo_watch_timer(bus->beat,
				 mobo_monotonic_ns() + bus->welcome->heartbeat_ms * 1000000ull);
	}
	bus_leave(bus);
}

static void beat_start(struct mobo_bus *bus)
{
	bus->beats_missed = 0;
	if (!bus->welcome->heartbeat_ms) {
		return;
	}
	if (!bus->beat) {
		bus->beat = mobo_loop_timer(bus->loop, UINT64_MAX, beat_send, bus);
	}
	if (bus->beat) {
		mobo_watch_timer(bus->beat,
				 mobo_monotonic_ns() + bus->welcome->heartbeat_ms * 1000000ull);
	}
}

static void welcomed(struct mobo_bus *bus, Mobo__V1__Welcome *welcome)
{
	bool again = bus->welcome != NULL, same = again && welcome->epoch == bus->epoch;

	if (bus->welcome) {
		mobo__v1__welcome__free_unpacked(bus->welcome, NULL);
	}
	bus->welcome = welcome;
	bus->epoch = welcome->epoch;
	bus->connected = true;
	bus->joined = true;
	bus->refused.code = 0;
	beat_start(bus);
	if (again) {
		rpc_resend(&bus->rpc, same);
		follower_connected(bus, same);
	}
	if (bus->opt.connected) {
		bus->opt.connected(bus->opt.arg, welcome);
	}
}

/* The answer to HELLO, or the hub does not know us. */
static void joining(struct mobo_bus *bus, const Mobo__V1__Hdr *hdr, zmq_msg_t *body)
{
	ProtobufCMessage *msg;

	if (hdr->kind == MOBO__V1__KIND__REP && hdr->type == MOBO__V1__TYPE__WELCOME &&
	    !bus->connected) {
		msg = wire_unpack(hdr->type, zmq_msg_data(body), zmq_msg_size(body));
		if (msg) {
			welcomed(bus, (Mobo__V1__Welcome *)msg);
		}
	} else if (hdr->kind == MOBO__V1__KIND__ERR && hdr->corr == bus->session) {
		mobo_error_set(&bus->refused,
			       hdr->st && hdr->st->errno_value > 0 ? hdr->st->errno_value : EACCES,
			       "%s", hdr->st ? hdr->st->text : "refused");
		bus->joined = true;
	} else if (hdr->kind == MOBO__V1__KIND__ERR && hdr->type == MOBO__V1__TYPE__HELLO &&
		   bus->connected) {
		connection_lost(bus);
		if (!bus->closed && bus->opt.reconnect) {
			hello_send(bus);
		}
	}
}

static void dealer_recv(void *arg, struct zmessage *m)
{
	struct mobo_bus *bus = arg;
	Mobo__V1__Hdr *hdr = m->n == 2 ? wire_unpack_hdr(&m->frames[0]) : NULL;
	struct rpc_sender from = {0};

	if (!hdr) {
		return;
	}
	bus_enter(bus);
	bus->beats_missed = 0;
	if (!bus->connected || hdr->type == MOBO__V1__TYPE__HELLO) {
		joining(bus, hdr, &m->frames[1]);
	} else if (hdr->kind != MOBO__V1__KIND__HB) {
		from.node = hdr->src;
		rpc_incoming(&bus->rpc, &from, hdr, zmq_msg_data(&m->frames[1]),
			     zmq_msg_size(&m->frames[1]));
	}
	mobo__v1__hdr__free_unpacked(hdr, NULL);
	bus_leave(bus);
}

static void dealer_monitor(void *arg, unsigned event, int fd)
{
	struct mobo_bus *bus = arg;

	bus_enter(bus);
	bus->transport = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
	if (bus->transport) {
		bus->hello_sent = false; /* dealer_ready() follows */
	} else {
		connection_lost(bus);
	}
	bus_leave(bus);
}

/* Nobody there is said at once, not after a timeout: a socket file without listener, or none. */
static int probe(const char *endpoint, struct mobo_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	const char *path = endpoint + strlen(IPC_PREFIX);
	int sock, r = 0;

	if (strncmp(endpoint, IPC_PREFIX, strlen(IPC_PREFIX)) != 0) {
		return 0;
	}
	if (strlen(path) >= sizeof(sa.sun_path)) {
		return mobo_error_set(err, ENAMETOOLONG, "socket path too long: %s", path);
	}
	strcpy(sa.sun_path, path);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0) {
		return mobo_error_set(err, errno, "cannot make a socket: %s", strerror(errno));
	}
	if (connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EAGAIN) {
		r = mobo_error_set(err, errno, "nobody listens at %s: %s", path, strerror(errno));
	}
	close(sock);
	return r;
}

/* connection_lost() ends the wait, where nothing connects again. */
static int wait_welcome(struct mobo_bus *bus, unsigned timeout_ms, struct mobo_error *err)
{
	uint64_t deadline = mobo_monotonic_ns() + timeout_ms * 1000000ull;

	mobo_loop_run_until(bus->loop, &bus->joined, deadline);
	if (bus->connected) {
		return 0;
	}
	if (bus->refused.code) {
		return mobo_error_set(err, bus->refused.code, "%s", bus->refused.text);
	}
	return mobo_error_set(err, ETIMEDOUT, "no answer from %s", bus->endpoint);
}

int mobo_bus_connect(struct mobo_bus **ret, struct mobo_loop *loop,
		     const struct mobo_bus_options *opt, unsigned timeout_ms,
		     struct mobo_error *err)
{
	struct zsock_options zopt = {
		.type = ZMQ_DEALER,
		.hwm = DEALER_HWM,
		.reconnect_ms = opt->reconnect ? RECONNECT_MS : -1,
		.recv = dealer_recv,
		.ready = dealer_ready,
		.monitor = dealer_monitor,
		.monitor_events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
				  ZMQ_EVENT_CLOSED, /* lost; not even made */
	};
	struct mobo_bus *bus;
	int r;

	bool later = opt->reconnect && !timeout_ms;

	r = later ? 0 : probe(opt->endpoint, err);
	if (r < 0) {
		return r;
	}
	bus = calloc(1, sizeof(*bus));
	if (!bus) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	bus->loop = loop;
	bus->opt = *opt;
	bus->endpoint = strdup(opt->endpoint);
	bus->name = strdup(opt->name);
	bus->token = opt->token ? strdup(opt->token) : NULL;
	bus->rpc.send = member_send;
	bus->rpc.arg = bus;
	bus->rpc.keep_calls = opt->reconnect;
	zopt.arg = bus;
	r = wire_random(&bus->session, sizeof(bus->session));
	r = r < 0 ? r : rpc_init(&bus->rpc, loop);
	r = r < 0 ? r : zsock_create(&bus->dealer, loop, &zopt);
	r = r < 0 ? r : zsock_connect(bus->dealer, opt->endpoint);
	if (r < 0) {
		mobo_error_set(err, -r, "cannot connect to %s: %s", opt->endpoint, strerror(-r));
	} else if (!later) {
		r = wait_welcome(bus, timeout_ms, err);
	}
	if (r < 0) {
		mobo_bus_close(bus);
		return r;
	}
	*ret = bus;
	return 0;
}

void mobo_bus_close(struct mobo_bus *bus)
{
	if (!bus || bus->closed) {
		return;
	}
	bus->closed = true;
	bus->connected = false;
	bus_enter(bus);
	rpc_finish(&bus->rpc);
	follower_stop(bus->follower);
	log_sink_stop(bus);
	mobo_watch_destroy(bus->beat);
	zsock_destroy(bus->dealer);
	bus_leave(bus);
}

/* -- The rest of bus.h that is one line -- */

uint32_t mobo_bus_node(const struct mobo_bus *bus)
{
	return bus->welcome ? bus->welcome->node : 0;
}

bool mobo_bus_connected(const struct mobo_bus *bus)
{
	return bus->connected;
}

void mobo_bus_call(struct mobo_bus *bus, uint32_t dst, const ProtobufCMessage *req,
		   unsigned deadline_ms, mobo_result_cb *cb, void *arg)
{
	rpc_call(&bus->rpc, dst, req, deadline_ms, cb, arg);
}

int mobo_bus_call_sync(struct mobo_bus *bus, uint32_t dst, const ProtobufCMessage *req,
		       unsigned deadline_ms, ProtobufCMessage **reply, Mobo__V1__Code *code,
		       struct mobo_error *err)
{
	return rpc_call_sync(&bus->rpc, dst, req, deadline_ms, reply, code, err);
}

void mobo_bus_serve(struct mobo_bus *bus, uint32_t type, mobo_handler *fn, void *arg)
{
	int r = rpc_serve(&bus->rpc, type, fn, arg);

	MOBO_ASSERT(r == 0); /* a few handlers at start */
}

static void publish(struct mobo_bus *bus, const char *topic, const ProtobufCMessage *body,
		    uint32_t flags)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	uint8_t buf[WIRE_HDR_MAX], *data;
	struct zpart parts[3] = {{topic, strlen(topic)}, {buf, 0}};

	if (!bus->connected) {
		return;
	}
	hdr.kind = MOBO__V1__KIND__EVT;
	hdr.type = mobo_type_of(body);
	hdr.flags = flags;
	parts[1].len = wire_pack_hdr(&hdr, buf);
	data = wire_pack(body, &parts[2].len);
	parts[2].data = data;
	if (data && parts[2].len <= MOBO_BUS_MAX_MESSAGE) {
		zsock_send(bus->dealer, parts, 3);
	}
	free(data);
}

void mobo_bus_publish(struct mobo_bus *bus, const char *topic, const ProtobufCMessage *body)
{
	publish(bus, topic, body, 0);
}

void mobo_bus_publish_kept(struct mobo_bus *bus, const char *topic, const ProtobufCMessage *body)
{
	publish(bus, topic, body, MOBO__V1__HDR_FLAG__KEEP);
}

int mobo_bus_redeem(struct mobo_bus *bus, const uint8_t *ticket, size_t ticket_len, int *fds,
		    unsigned max_fds, struct mobo_error *err)
{
	if (!bus->welcome) {
		return mobo_error_set(err, ENOTCONN, "not connected");
	}
	return fds_redeem(bus->welcome->fd_endpoint, ticket, ticket_len, fds, max_fds, err);
}
