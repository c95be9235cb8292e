/* SPDX-License-Identifier: Apache-2.0 */
/* The hub's insides: what hub.c, hub_member.c, hub_route.c and hub_events.c share. */
#ifndef BUS_HUB_H
#define BUS_HUB_H

#include <limits.h>
#include <sys/types.h>

#include "fds.h"
#include "mobo/bus.h"
#include "rpc.h"
#include "topics.h"
#include "wire.h"
#include "zsock.h"

enum {
	HUB_MEMBERS_MAX = 256,
	HUB_FORWARDS_MAX = 1024, /* unanswered requests that one member was asked by others */
	HUB_EXPECTED_MAX = 128,
	HUB_TOPICS_MAX = 8192,
	HUB_RING = 4096,
	HUB_RING_BYTES = 16 << 20,
	HUB_HWM = 256, /* messages to one member that does not read them */
	HUB_LOG_HWM = 1000,
	HUB_EVENT_MAX = 16 << 10, /* bytes of an event from a member: HUB_PUB_HWM may wait */
	HUB_PUB_HWM = 10000,
	HUB_HEARTBEAT_MS = 1000,
	HUB_BEATS_MISSED_MAX = 3,
	HUB_RID_MAX = 8,
	HUB_TOKEN_LEN = 32,	    /* hex digits */
	SNAPSHOT_BYTES = 768 << 10, /* of a reply */
};

/* A request that was passed on to a member and waits for its answer. */
struct forward {
	struct forward *next;
	uint64_t corr, deadline_ns;
	uint32_t src;
};

struct hub_member {
	struct mobo_hub *hub;
	uint32_t node;
	uint8_t rid[HUB_RID_MAX];
	size_t rid_len;
	Mobo__V1__Role role;
	char name[WIRE_NAME_MAX + 1];
	int pid;
	int conn_fd; /* of the transport, as its monitor names it */
	uint64_t session;
	struct mobo_watch *process; /* NULL: cannot be watched, it sends heartbeats */
	uint64_t last_heard_ns;
	struct forward *forwards;
	unsigned n_forwards;
	uint64_t bad_messages;
};

struct expected {
	Mobo__V1__Role role;
	char name[WIRE_NAME_MAX + 1];
	char token[HUB_TOKEN_LEN + 1];
};

/* A published event, shared by the ring and the last values. */
struct kept_event {
	unsigned refs;
	char *topic;
	uint64_t hseq, tseq, ts_ns;
	uint32_t type;
	size_t len;
	uint8_t body[];
};

struct mobo_hub {
	struct mobo_loop *loop;
	struct mobo_hub_options opt; /* strings owned */
	char *name, *dir;
	char endpoint[128], pub_endpoint[128], log_endpoint[128], fd_path[128];
	int lock_fd;
	uint64_t epoch;

	struct zsock *router, *pub, *log;
	struct tickets *tickets;
	struct rpc rpc;

	struct hub_member *members[HUB_MEMBERS_MAX];
	unsigned n_members;
	uint32_t next_node;
	struct expected expected[HUB_EXPECTED_MAX];
	unsigned next_expected;
	char operator_token[HUB_TOKEN_LEN + 1], observer_token[HUB_TOKEN_LEN + 1],
		device_token[HUB_TOKEN_LEN + 1];
	struct mobo_watch *beat;
	unsigned heartbeat_ms;

	struct topics *topics;
	uint64_t hseq;
	struct kept_event *ring[HUB_RING];
	unsigned ring_first, ring_len;
	size_t ring_bytes;
	uint64_t ring_lost_hseq; /* newest that fell out */
	uint64_t bad_messages, bad_said_ns;
};

/* -- hub_member.c -- */
struct hub_member *hub_member_by_node(struct mobo_hub *hub, uint32_t node);
struct hub_member *hub_member_by_rid(struct mobo_hub *hub, zmq_msg_t *rid);
/* Answers a HELLO; rid and peer are of its frames. */
void hub_hello(struct mobo_hub *hub, zmq_msg_t *rid, const Mobo__V1__Hdr *hdr, zmq_msg_t *body);
void hub_member_drop(struct hub_member *m, const char *why);
void hub_connection_lost(struct mobo_hub *hub, int conn_fd);
void hub_beat(void *arg); /* timer */
bool hub_allows(struct mobo_hub *hub, const struct hub_member *m, uint32_t type, uint32_t dst,
		const char *topic);
int hub_new_token(char token[HUB_TOKEN_LEN + 1]);

/* -- hub_route.c -- */
void hub_recv(void *arg, struct zmessage *m);
int hub_send_rid(struct mobo_hub *hub, const void *rid, size_t rid_len, const Mobo__V1__Hdr *hdr,
		 const void *body, size_t len);
int hub_send(void *arg, uint32_t node, const Mobo__V1__Hdr *hdr, const void *body, size_t len);
/* Tells those who wait for this member. */
void hub_forwards_fail(struct hub_member *m, const char *why);
void hub_bad_message(struct mobo_hub *hub, struct hub_member *m_or_null, const char *what);

/* -- hub_events.c -- */
int hub_events_create(struct mobo_hub *hub);
void hub_events_destroy(struct mobo_hub *hub);
/* False: there is no room for a new topic. */
bool hub_publish_bytes(struct mobo_hub *hub, const char *topic, uint32_t src, uint32_t type,
		       const void *body, size_t len, bool keep);
void hub_publish_node(struct mobo_hub *hub, const struct hub_member *m, const char *verb);
void hub_pub_recv(void *arg, struct zmessage *m); /* subscriptions */
void hub_log_recv(void *arg, struct zmessage *m);
void hub_serve_snapshot(void *arg, struct mobo_request *r, const ProtobufCMessage *body);

#endif
