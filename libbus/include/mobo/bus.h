/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane: RPC, events, logs, descriptors by ticket, over ZeroMQ (docs/PROTOCOL.md).
 *
 * A hub (mobo-registry, mobo-machine) owns a ROUTER, an XPUB, a PULL for logs and a SEQPACKET
 * socket; a member connects to a hub with one DEALER (and a SUB where it follows events). Message
 * bodies are protobuf-c structs; the stable type number of each is in types.proto and looked up by
 * its descriptor. Everything here belongs to the thread of the loop. Nothing blocks but the _sync
 * calls, which run the loop meanwhile.
 */
#ifndef MOBO_BUS_H
#define MOBO_BUS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mobo/base.h"
#include "mobo/loop.h"
#include "mobo/v1/envelope.pb-c.h"
#include "mobo/v1/types.pb-c.h"

enum {
	MOBO_BUS_MAJOR = 1,
	MOBO_BUS_MINOR = 0,
	MOBO_BUS_MAX_MESSAGE = 1 << 20,
	MOBO_BUS_DEADLINE_MS = 5000, /* where 0 is passed */
};

/* -- Types: number <-> descriptor -- */
const ProtobufCMessageDescriptor *mobo_type_descriptor(uint32_t type); /* NULL: unknown */
uint32_t mobo_type_of(const ProtobufCMessage *msg); /* asserts that it is in types.proto */

/* -- A request that is being served -- */
struct mobo_request;
/* Exactly one of these ends it; either may be called later, from another callback. */
void mobo_reply(struct mobo_request *r, const ProtobufCMessage *body); /* NULL: Ack */
void mobo_reply_error(struct mobo_request *r, Mobo__V1__Code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void mobo_reply_errno(struct mobo_request *r, const struct mobo_error *err);
Mobo__V1__Role mobo_request_role(const struct mobo_request *r);
uint32_t mobo_request_node(const struct mobo_request *r); /* sender */
/* True when the sender gave up or went away: finish early, still reply. */
bool mobo_request_cancelled(const struct mobo_request *r);

/* body is valid during the call only. */
typedef void mobo_handler(void *arg, struct mobo_request *r, const ProtobufCMessage *body);

/* -- Outcome of a call: body (owned by the caller of the callback, valid during it) or status -- */
struct mobo_result {
	Mobo__V1__Code code; /* OK: body is set */
	int errno_value;
	const char *text;
	const ProtobufCMessage *body;
};
typedef void mobo_result_cb(void *arg, const struct mobo_result *res);

/* -- A member's connection to a hub -- */
struct mobo_bus;

struct mobo_bus_options {
	const char *endpoint; /* "ipc:///.../rpc" */
	Mobo__V1__Role role;
	const char *name;
	const char *token; /* or NULL: the token file of the role beside the endpoint is read */
	/* Reconnect by itself, HELLO again, when the hub was restarted. false: disconnected is
	 * final (a sandboxed process cannot open sockets). */
	bool reconnect;
	void (*connected)(void *arg, const Mobo__V1__Welcome *welcome); /* each time; may be NULL */
	void (*disconnected)(void *arg); /* heartbeats missed; may be NULL */
	void *arg;
};

/*
 * Connects, says HELLO and waits for WELCOME (at most timeout_ms). 0 or -errno with err; -ENOENT or
 * -ECONNREFUSED at once when nobody listens there. With reconnect and timeout_ms 0 it returns at
 * once and connected() tells when the hub was reached, be it started later.
 */
int mobo_bus_connect(struct mobo_bus **ret, struct mobo_loop *loop,
		     const struct mobo_bus_options *opt, unsigned timeout_ms,
		     struct mobo_error *err);
void mobo_bus_close(struct mobo_bus *bus); /* pending calls end with CANCELLED */
uint32_t mobo_bus_node(const struct mobo_bus *bus);
/* False once the hub is gone (and, with reconnect, until it is back). */
bool mobo_bus_connected(const struct mobo_bus *bus);

/* Asks node dst (0: the hub). deadline_ms 0: the default. Always exactly one callback. */
void mobo_bus_call(struct mobo_bus *bus, uint32_t dst, const ProtobufCMessage *req,
		   unsigned deadline_ms, mobo_result_cb *cb, void *arg);
/*
 * The same, waiting. On success *reply is a message that protobuf_c_message_free_unpacked() frees
 * (reply may be NULL). Else -errno with err filled from the status; *code gets the status code
 * where code is not NULL.
 */
int mobo_bus_call_sync(struct mobo_bus *bus, uint32_t dst, const ProtobufCMessage *req,
		       unsigned deadline_ms, ProtobufCMessage **reply, Mobo__V1__Code *code,
		       struct mobo_error *err);
/* Serves requests of a type that the hub routes here. */
void mobo_bus_serve(struct mobo_bus *bus, uint32_t type, mobo_handler *fn, void *arg);
/* Publishes an event through the hub, which checks the topic against the role. */
void mobo_bus_publish(struct mobo_bus *bus, const char *topic, const ProtobufCMessage *body);
/* The same, and it becomes the last value of its topic, which late subscribers get. */
void mobo_bus_publish_kept(struct mobo_bus *bus, const char *topic, const ProtobufCMessage *body);
/* Sends log lines to the hub from now on (connects the PUSH socket). */
int mobo_bus_log(struct mobo_bus *bus, const char *endpoint);

/* -- Events -- */
struct mobo_event {
	const char *topic;
	uint64_t hseq, tseq, ts_ns;
	const ProtobufCMessage *body; /* NULL where the type is unknown here */
	bool replayed;		      /* from Snapshot */
	bool lost; /* a gap was found before this one: events of this topic are missing */
};
/*
 * Follows topics with this prefix: first the last values (or everything kept since since_hseq, when
 * not 0), then what comes. Callback until the connection closes. 0 or -errno.
 */
int mobo_bus_subscribe(struct mobo_bus *bus, const char *prefix, uint64_t since_hseq,
		       void (*cb)(void *arg, const struct mobo_event *ev), void *arg,
		       struct mobo_error *err);

/* -- Descriptors by ticket -- */
enum { MOBO_TICKET_LEN = 16, MOBO_FDS_PER_MESSAGE = 28 };
/* Redeems a ticket at the hub's fd socket: fds[] filled (CLOEXEC), their number returned, or
 * -errno. Blocks for at most 5 s. */
int mobo_bus_redeem(struct mobo_bus *bus, const uint8_t *ticket, size_t ticket_len, int *fds,
		    unsigned max_fds, struct mobo_error *err);
/*
 * The raw form, for inherited descriptors: one SEQPACKET message with protobuf bytes and fds.
 * send: 0 or -errno; recv: length of the message (0: peer closed) or -errno, *n_fds in/out.
 */
int mobo_fds_send(int sock, const void *msg, size_t len, const int *fds, unsigned n_fds);
ssize_t mobo_fds_recv(int sock, void *msg, size_t max_len, int *fds, unsigned *n_fds);

/* -- The hub -- */
struct mobo_hub;

/* What may a role do: asked for each REQ (with dst) and each EVT (topic not NULL). */
typedef bool mobo_hub_policy(void *arg, Mobo__V1__Role role, const char *name, uint32_t type,
			     uint32_t dst, const char *topic);

/* What NULL means, for a policy that refines it. */
bool mobo_hub_default_policy(Mobo__V1__Role role, const char *name, uint32_t type, uint32_t dst,
			     const char *topic);

struct mobo_hub_options {
	const char *name; /* in Welcome and in topics */
	const char *dir;  /* 0700; sockets rpc, pub, log, fd and token files are made here */
	uint64_t (*now_ns)(void *arg); /* for Hdr.ts_ns; NULL: wall clock */
	mobo_hub_policy
		*policy; /* NULL: everything to OPERATOR and ADMIN, devices their own events */
	/* Tokens: a spawned child's is added with mobo_hub_expect(); role files operator.token,
	 * observer.token are written by the hub, 0600. */
	void (*joined)(void *arg, uint32_t node, const Mobo__V1__Hello *hello);
	void (*left)(void *arg, uint32_t node, const char *name); /* silent or said goodbye */
	void (*log)(void *arg, const Mobo__V1__LogRecord *rec);
	void *arg;
	/* Devices from outside may join with the token in device.token, written then too. */
	bool outside_devices;
	/* 0: only members whose process cannot be watched send heartbeats, one a second. Else every
	 * client does, at this interval. */
	unsigned heartbeat_ms;
	/* A listening socket that was given to us (socket activation) in place of rpc; 0: none. */
	int listen_fd;
};

/* -EADDRINUSE when another process holds the directory's lock (its pid in err). Stale sockets of a
 * dead owner are replaced. */
int mobo_hub_create(struct mobo_hub **ret, struct mobo_loop *loop,
		    const struct mobo_hub_options *opt, struct mobo_error *err);
/* Unlinks what it made. Not from one of the hub's callbacks. */
void mobo_hub_destroy(struct mobo_hub *hub);
const char *mobo_hub_endpoint(const struct mobo_hub *hub); /* of the ROUTER */
const char *mobo_hub_log_endpoint(const struct mobo_hub *hub);
/* A child will say HELLO with this token (hex text, 32 digits, filled in), role and name. */
void mobo_hub_expect(struct mobo_hub *hub, Mobo__V1__Role role, const char *name, char token[33]);
/* Serves requests with dst 0. */
void mobo_hub_serve(struct mobo_hub *hub, uint32_t type, mobo_handler *fn, void *arg);
/* Calls a member. */
void mobo_hub_call(struct mobo_hub *hub, uint32_t node, const ProtobufCMessage *req,
		   unsigned deadline_ms, mobo_result_cb *cb, void *arg);
/* Node of a member by name, 0: none. Drops a member (its process is known to be dead). */
uint32_t mobo_hub_find(const struct mobo_hub *hub, const char *name);
void mobo_hub_drop(struct mobo_hub *hub, uint32_t node);
/* Publishes: stamps hseq, tseq, ts. keep: last value of its topic. The last 4096 events are kept
 * for replay. */
void mobo_hub_publish(struct mobo_hub *hub, const char *topic, const ProtobufCMessage *body,
		      bool keep);
/* Drops the last value of a topic that is over, and the topic's numbering. */
void mobo_hub_forget(struct mobo_hub *hub, const char *topic);
/* Descriptors to be fetched by ticket within 5 s; the hub owns (closes) the fds. */
int mobo_hub_ticket(struct mobo_hub *hub, const char *const *names, const int *fds, unsigned n,
		    uint8_t ticket[MOBO_TICKET_LEN]);
unsigned mobo_hub_members(const struct mobo_hub *hub); /* besides itself */

/* Where a hub's sockets live: "<runtime dir>/registry" or "<runtime dir>/vm/<name>". 0 or -errno.
 */
int mobo_hub_dir(char *path, size_t len, const char *machine_or_null, struct mobo_error *err);

#endif
