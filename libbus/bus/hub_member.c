/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a hub: joining, what a role may do, noticing that one is gone. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub.h"
#include "mobo/log.h"

struct hub_member *hub_member_by_node(struct mobo_hub *hub, uint32_t node)
{
	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		if (hub->members[i] && hub->members[i]->node == node) {
			return hub->members[i];
		}
	}
	return NULL;
}

struct hub_member *hub_member_by_rid(struct mobo_hub *hub, zmq_msg_t *rid)
{
	size_t len = zmq_msg_size(rid);

	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		struct hub_member *m = hub->members[i];

		if (m && m->rid_len == len && memcmp(m->rid, zmq_msg_data(rid), len) == 0) {
			return m;
		}
	}
	return NULL;
}

int hub_new_token(char token[HUB_TOKEN_LEN + 1])
{
	uint8_t raw[HUB_TOKEN_LEN / 2];
	int r = wire_random(raw, sizeof(raw));

	for (unsigned i = 0; i < sizeof(raw); i++) {
		snprintf(token + 2 * i, 3, "%02x", raw[i]);
	}
	return r;
}

void mobo_hub_expect(struct mobo_hub *hub, Mobo__V1__Role role, const char *name, char token[33])
{
	struct expected *e = NULL;
	int r = hub_new_token(token);

	MOBO_ASSERT(r == 0 && strlen(name) <= WIRE_NAME_MAX);
	for (unsigned i = 0; i < HUB_EXPECTED_MAX; i++) {
		if (strcmp(hub->expected[i].name, name) == 0) {
			e = &hub->expected[i]; /* the last start's is no longer good */
		}
	}
	for (unsigned i = 0; i < HUB_EXPECTED_MAX && !e; i++) {
		e = hub->expected[i].name[0] ? NULL : &hub->expected[i];
	}
	if (!e) {
		e = &hub->expected[hub->next_expected++ % HUB_EXPECTED_MAX];
	}
	e->role = role;
	strcpy(e->name, name);
	memcpy(e->token, token, HUB_TOKEN_LEN + 1);
}

/* -- What a role may do -- */

static bool starts(const char *topic, const char *prefix)
{
	return strncmp(topic, prefix, strlen(prefix)) == 0;
}

static bool may_publish(Mobo__V1__Role role, const char *name, const char *topic)
{
	char own[WIRE_NAME_MAX + 16];

	switch (role) {
	case MOBO__V1__ROLE__DEVICE:
		snprintf(own, sizeof(own), "vm.dev.%s.", name);
		return starts(topic, own);
	case MOBO__V1__ROLE__ENGINE:
		return starts(topic, "vm.cpu.") || starts(topic, "vm.irq.") ||
		       starts(topic, "vm.io.") || starts(topic, "vm.pci.") ||
		       starts(topic, "vm.mem.");
	case MOBO__V1__ROLE__DISPLAY:
		return starts(topic, "vm.display.") || starts(topic, "vm.input.");
	case MOBO__V1__ROLE__OPERATOR:
	case MOBO__V1__ROLE__ADMIN:
		return starts(topic, "user."); /* the machine speaks for itself */
	default: /* a number that a peer chose, or one that says nothing */ return false;
	}
}

static bool reads_only(uint32_t type)
{
	switch (type) {
	case MOBO__V1__TYPE__LIST_NODES:
	case MOBO__V1__TYPE__SNAPSHOT:
	case MOBO__V1__TYPE__LIST_MACHINES:
	case MOBO__V1__TYPE__GET_MACHINE:
	case MOBO__V1__TYPE__GET_SETTINGS:
	case MOBO__V1__TYPE__GET_STATUS:
	case MOBO__V1__TYPE__LIST_PROCESSES:
	case MOBO__V1__TYPE__LIST_DEVICES:
	case MOBO__V1__TYPE__GET_STATS:
	case MOBO__V1__TYPE__GET_LOG:
	case MOBO__V1__TYPE__GET_DISPLAY_MODE: return true;
	default: /* a number that a peer chose */ return false;
	}
}

static bool may_ask(Mobo__V1__Role role, uint32_t type, uint32_t dst)
{
	switch (role) {
	case MOBO__V1__ROLE__OPERATOR:
	case MOBO__V1__ROLE__ADMIN: return true;
	case MOBO__V1__ROLE__OBSERVER: return dst == 0 && reads_only(type);
	case MOBO__V1__ROLE__DEVICE:
		return dst == 0 &&
		       (type == MOBO__V1__TYPE__ATTACH || type == MOBO__V1__TYPE__READY ||
			type == MOBO__V1__TYPE__DEVICE_NOTIFY);
	case MOBO__V1__ROLE__ENGINE:
		return dst == 0 &&
		       (type == MOBO__V1__TYPE__READY || type == MOBO__V1__TYPE__ENGINE_NOTIFY);
	case MOBO__V1__ROLE__DISPLAY:
		return type == MOBO__V1__TYPE__DEVICE_INPUT ||
		       (dst == 0 && type == MOBO__V1__TYPE__READY);
	case MOBO__V1__ROLE__MACHINE:
		return dst == 0 && (type == MOBO__V1__TYPE__REPORT_STATE || reads_only(type));
	default: /* a number that a peer chose */ return false;
	}
}

bool hub_allows(struct mobo_hub *hub, const struct hub_member *m, uint32_t type, uint32_t dst,
		const char *topic)
{
	if (hub->opt.policy) {
		return hub->opt.policy(hub->opt.arg, m->role, m->name, type, dst, topic);
	}
	return mobo_hub_default_policy(m->role, m->name, type, dst, topic);
}

bool mobo_hub_default_policy(Mobo__V1__Role role, const char *name, uint32_t type, uint32_t dst,
			     const char *topic)
{
	return topic ? may_publish(role, name, topic) : may_ask(role, type, dst);
}

/* -- Leaving -- */

void hub_member_drop(struct hub_member *m, const char *why)
{
	struct mobo_hub *hub = m->hub;

	mobo_debug("%s (node %u) left: %s", m->name, m->node, why);
	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		if (hub->members[i] == m) {
			hub->members[i] = NULL;
		}
	}
	hub->n_members--;
	mobo_watch_destroy(m->process);
	hub_forwards_fail(m, why);
	if (!hub->rpc.closed) {
		rpc_node_gone(&hub->rpc, m->node, why);
		hub_publish_node(hub, m, "left");
	}
	if (hub->opt.left) {
		hub->opt.left(hub->opt.arg, m->node, m->name);
	}
	free(m);
}

void hub_connection_lost(struct mobo_hub *hub, int conn_fd)
{
	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		if (hub->members[i] && hub->members[i]->conn_fd == conn_fd) {
			hub_member_drop(hub->members[i], "its connection closed");
			return;
		}
	}
}

static void process_ended(void *arg, int pid, int status)
{
	hub_member_drop(arg, "its process ended");
}

void hub_beat(void *arg)
{
	struct mobo_hub *hub = arg;
	uint64_t now = mobo_monotonic_ns();
	bool beats = false;

	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		struct hub_member *m = hub->members[i];

		if (!m || m->process) {
			continue;
		}
		if (now - m->last_heard_ns >
		    HUB_BEATS_MISSED_MAX * hub->heartbeat_ms * 1000000ull) {
			hub_publish_node(hub, m, "heartbeat-missed");
			hub_member_drop(m, "it sent no heartbeats");
		} else {
			beats = true;
		}
	}
	if (beats) {
		mobo_watch_timer(hub->beat, now + hub->heartbeat_ms * 1000000ull);
	}
}

uint32_t mobo_hub_find(const struct mobo_hub *hub, const char *name)
{
	uint32_t client = 0;

	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		const struct hub_member *m = hub->members[i];

		if (!m || strcmp(m->name, name) != 0) {
			continue;
		}
		if (m->role > MOBO__V1__ROLE__ADMIN) {
			return m->node; /* a part of the machine, not a client that borrows its name
					 */
		}
		client = m->node;
	}
	return client;
}

void mobo_hub_drop(struct mobo_hub *hub, uint32_t node)
{
	struct hub_member *m = hub_member_by_node(hub, node);

	if (m) {
		hub_member_drop(m, "its process ended");
	}
}

/* -- Joining -- */

struct hello_refusal {
	Mobo__V1__Code code;
	char text[200];
};

static bool refuse(struct hello_refusal *no, Mobo__V1__Code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static bool refuse(struct hello_refusal *no, Mobo__V1__Code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(no->text, sizeof(no->text), fmt, ap);
	va_end(ap);
	no->code = code;
	return false;
}

/* All digits are compared, so that time tells nothing. */
static bool same_token(const char *a, const char *b)
{
	uint8_t differ = 0;

	if (strlen(a) != HUB_TOKEN_LEN || strlen(b) != HUB_TOKEN_LEN) {
		return false;
	}
	for (unsigned i = 0; i < HUB_TOKEN_LEN; i++) {
		differ |= (uint8_t)(a[i] ^ b[i]);
	}
	return !differ;
}

/* A child that was expected; its token is spent. */
static bool take_expected(struct mobo_hub *hub, const Mobo__V1__Hello *hello)
{
	for (unsigned i = 0; i < HUB_EXPECTED_MAX; i++) {
		struct expected *e = &hub->expected[i];

		if (e->name[0] && e->role == hello->role && strcmp(e->name, hello->name) == 0 &&
		    same_token(e->token, hello->token)) {
			memset(e, 0, sizeof(*e));
			return true;
		}
	}
	return false;
}

/* *spawned: by the token that a child of ours was given. */
static bool token_good(struct mobo_hub *hub, const Mobo__V1__Hello *hello, bool *spawned)
{
	switch (hello->role) {
	case MOBO__V1__ROLE__OBSERVER:
		return same_token(hub->observer_token, hello->token) ||
		       same_token(hub->operator_token, hello->token);
	case MOBO__V1__ROLE__OPERATOR:
	case MOBO__V1__ROLE__ADMIN:
	case MOBO__V1__ROLE__MACHINE:
		return same_token(hub->operator_token, hello->token) ||
		       (*spawned = take_expected(hub, hello));
	case MOBO__V1__ROLE__DEVICE:
		return (hub->opt.outside_devices && same_token(hub->device_token, hello->token)) ||
		       (*spawned = take_expected(hub, hello));
	case MOBO__V1__ROLE__ENGINE:
	case MOBO__V1__ROLE__DISPLAY: return (*spawned = take_expected(hub, hello));
	default: /* a number that a peer chose */ return false;
	}
}

/* "localhost:uid:gid:pid", from the kernel. */
static bool peer_of(zmq_msg_t *frame, unsigned *uid, int *pid)
{
	const char *address = zmq_msg_gets(frame, "Peer-Address");

	return address && sscanf(address, "localhost:%u:%*u:%d", uid, pid) == 2;
}

/*
 * A part of a machine has its name for itself. The one that has it makes room for its own next
 * connection, and for the process that was spawned in its place.
 */
static bool name_free(struct mobo_hub *hub, const Mobo__V1__Hello *hello, int pid, bool spawned,
		      struct hello_refusal *no)
{
	for (unsigned i = 0; hello->role > MOBO__V1__ROLE__ADMIN && i < HUB_MEMBERS_MAX; i++) {
		struct hub_member *m = hub->members[i];

		if (!m || m->role != hello->role || strcmp(m->name, hello->name) != 0) {
			continue;
		}
		if (!spawned && m->pid != pid && (!m->session || m->session != hello->session)) {
			return refuse(no, MOBO__V1__CODE__ALREADY_EXISTS,
				      "\"%s\" is on the bus already, as process %d", m->name,
				      m->pid);
		}
		hub_member_drop(m, "it is replaced");
	}
	return true;
}

static bool acceptable(struct mobo_hub *hub, const Mobo__V1__Hello *hello, zmq_msg_t *frame,
		       int *pid, struct hello_refusal *no)
{
	bool spawned = false;
	unsigned uid;

	if (!peer_of(frame, &uid, pid) || uid != geteuid()) {
		return refuse(no, MOBO__V1__CODE__PERMISSION_DENIED,
			      "this bus belongs to another user");
	}
	if (hello->bus_major != MOBO_BUS_MAJOR) {
		return refuse(no, MOBO__V1__CODE__FAILED_PRECONDITION,
			      "the bus speaks version %d, the client version %u", MOBO_BUS_MAJOR,
			      hello->bus_major);
	}
	if (!wire_name_valid(hello->name)) {
		return refuse(no, MOBO__V1__CODE__INVALID_ARGUMENT,
			      "a name has 1 to %d letters, digits, '-', '_' or '.'", WIRE_NAME_MAX);
	}
	if (hub->n_members >= HUB_MEMBERS_MAX) {
		return refuse(no, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
			      "the bus has its %d members already", HUB_MEMBERS_MAX);
	}
	if (!token_good(hub, hello, &spawned)) {
		return refuse(no, MOBO__V1__CODE__PERMISSION_DENIED,
			      "the token does not fit role %d: read it from the token file in %s",
			      (int)hello->role, hub->dir);
	}
	return name_free(hub, hello, *pid, spawned, no);
}

static struct hub_member *member_new(struct mobo_hub *hub, const Mobo__V1__Hello *hello,
				     zmq_msg_t *rid, int conn_fd, int pid)
{
	struct hub_member *m = calloc(1, sizeof(*m));

	if (!m) {
		return NULL;
	}
	m->hub = hub;
	m->node = hub->next_node++;
	m->rid_len = zmq_msg_size(rid);
	memcpy(m->rid, zmq_msg_data(rid), m->rid_len);
	m->role = hello->role;
	strcpy(m->name, hello->name);
	m->pid = pid;
	m->conn_fd = conn_fd;
	m->session = hello->session;
	m->last_heard_ns = mobo_monotonic_ns();
	if (!hub->opt.heartbeat_ms || hello->role > MOBO__V1__ROLE__ADMIN) {
		m->process = mobo_loop_process(hub->loop, pid, process_ended, m);
	}
	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		if (!hub->members[i]) {
			hub->members[i] = m;
			break;
		}
	}
	hub->n_members++;
	if (!m->process) {
		mobo_watch_timer(hub->beat, m->last_heard_ns + hub->heartbeat_ms * 1000000ull);
	}
	return m;
}

static void welcome(struct hub_member *m, const Mobo__V1__Hdr *hello_hdr,
		    const Mobo__V1__Hello *hello)
{
	struct mobo_hub *hub = m->hub;
	Mobo__V1__Welcome w = MOBO__V1__WELCOME__INIT;
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	uint8_t body[2048];

	w.node = m->node;
	w.epoch = hub->epoch;
	w.bus_minor = hello->bus_minor < MOBO_BUS_MINOR + 1 ? hello->bus_minor : MOBO_BUS_MINOR;
	w.heartbeat_ms = m->process ? 0 : hub->heartbeat_ms;
	w.max_message = MOBO_BUS_MAX_MESSAGE;
	w.pub_endpoint = hub->pub_endpoint;
	w.fd_endpoint = hub->fd_path;
	w.log_endpoint = hub->log_endpoint;
	w.hub = hub->name;
	hdr.kind = MOBO__V1__KIND__REP;
	hdr.corr = hello_hdr->corr;
	hdr.type = MOBO__V1__TYPE__WELCOME;
	hdr.dst = m->node;
	MOBO_ASSERT(mobo__v1__welcome__get_packed_size(&w) <= sizeof(body));
	hub_send_rid(hub, m->rid, m->rid_len, &hdr, body, mobo__v1__welcome__pack(&w, body));
}

static void answer_no(struct mobo_hub *hub, zmq_msg_t *rid, const Mobo__V1__Hdr *hello_hdr,
		      struct hello_refusal *no)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	Mobo__V1__Status st = MOBO__V1__STATUS__INIT;

	st.code = no->code;
	st.errno_value = wire_errno_of(no->code);
	st.text = no->text;
	hdr.kind = MOBO__V1__KIND__ERR;
	hdr.corr = hello_hdr->corr;
	hdr.type = MOBO__V1__TYPE__HELLO;
	hdr.st = &st;
	hub_send_rid(hub, zmq_msg_data(rid), zmq_msg_size(rid), &hdr, NULL, 0);
}

void hub_hello(struct mobo_hub *hub, zmq_msg_t *rid, const Mobo__V1__Hdr *hdr, zmq_msg_t *body)
{
	struct hub_member *m = hub_member_by_rid(hub, rid);
	struct hello_refusal no = {0};
	Mobo__V1__Hello *hello;
	int pid;

	if (m) {
		hub_member_drop(m, "it said HELLO again");
	}
	zsock_monitor_drain(hub->router); /* an older connection may have had the same fd */
	hello = mobo__v1__hello__unpack(NULL, zmq_msg_size(body), zmq_msg_data(body));
	if (!hello || zmq_msg_size(rid) > HUB_RID_MAX) {
		refuse(&no, MOBO__V1__CODE__INVALID_ARGUMENT, "malformed HELLO");
		hub_bad_message(hub, NULL, "malformed HELLO");
	} else if (acceptable(hub, hello, body, &pid, &no)) {
		m = member_new(hub, hello, rid, zmq_msg_get(body, ZMQ_SRCFD), pid);
		if (!m) {
			refuse(&no, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "out of memory");
		}
	}
	if (no.code) {
		answer_no(hub, rid, hdr, &no);
	} else {
		welcome(m, hdr, hello);
		hub_publish_node(hub, m, "joined");
		if (hub->opt.joined) {
			hub->opt.joined(hub->opt.arg, m->node, hello);
		}
	}
	if (hello) {
		mobo__v1__hello__free_unpacked(hello, NULL);
	}
}
