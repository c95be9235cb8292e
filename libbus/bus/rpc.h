/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and replies, the same for a hub and for a member: what was asked and waits for its
 * answer, what is being served, and the last answers for clients that connect again.
 */
#ifndef BUS_RPC_H
#define BUS_RPC_H

#include "mobo/bus.h"
#include "wire.h"

enum {
	RPC_BUCKETS = 64,
	RPC_MAX_SERVED = 256, /* unanswered requests of one sender */
	RPC_KEPT = 256,	      /* answers kept for repeated requests */
	RPC_KEPT_BYTES = 4 << 20,
};

struct rpc_call;
struct rpc_handler;
struct rpc_kept {
	uint64_t session, corr;
	Mobo__V1__Code code;
	int errno_value;
	uint32_t type;
	char *text;
	uint8_t *body;
	size_t len;
};

struct rpc {
	struct mobo_loop *loop;
	/* Puts a message on its way to a node; 0 or -errno. */
	int (*send)(void *arg, uint32_t node, const Mobo__V1__Hdr *hdr, const void *body,
		    size_t len);
	void *arg;
	bool keep_calls; /* a lost connection may come back: see rpc_resend() */
	bool closed;
	uint64_t next_corr;
	struct rpc_call *calls[RPC_BUCKETS];
	struct mobo_request *served;
	struct rpc_handler *handlers;
	unsigned n_handlers, cap_handlers;
	struct rpc_kept *kept; /* ring */
	unsigned kept_next;
	size_t kept_bytes;
};

/* A message for the rpc: who sent it, as the hub knows. */
struct rpc_sender {
	uint32_t node;
	Mobo__V1__Role role;
	uint64_t session; /* 0: none */
};

int rpc_init(struct rpc *rpc, struct mobo_loop *loop);
void rpc_finish(struct rpc *rpc); /* calls end with CANCELLED */
int rpc_serve(struct rpc *rpc, uint32_t type, mobo_handler *fn, void *arg);
void rpc_call(struct rpc *rpc, uint32_t node, const ProtobufCMessage *req, unsigned deadline_ms,
	      mobo_result_cb *cb, void *arg);
/* Runs the loop until the answer; see mobo_bus_call_sync(). */
int rpc_call_sync(struct rpc *rpc, uint32_t node, const ProtobufCMessage *req, unsigned deadline_ms,
		  ProtobufCMessage **reply, Mobo__V1__Code *code, struct mobo_error *err);
/* Takes a REQ, REP, ERR or CANCEL. False: malformed. */
bool rpc_incoming(struct rpc *rpc, const struct rpc_sender *from, const Mobo__V1__Hdr *hdr,
		  const void *body, size_t len);
/* A node went away: calls to it fail, its requests count as cancelled. */
void rpc_node_gone(struct rpc *rpc, uint32_t node, const char *why);
/* The connection came back; same: to the same hub. Else calls that had been sent fail. */
void rpc_resend(struct rpc *rpc, bool same);
/* All waiting calls fail; their requests count as cancelled. */
void rpc_fail_all(struct rpc *rpc, Mobo__V1__Code code, const char *why);
/* Sends an ERR without a request object. */
void rpc_refuse(struct rpc *rpc, uint32_t node, const Mobo__V1__Hdr *req, Mobo__V1__Code code,
		const char *text);

#endif
