/* SPDX-License-Identifier: Apache-2.0 */
/* The asking side of rpc.h: calls that wait for their answer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mobo/log.h"
#include "rpc.h"
#include "rpc_served.h"

struct rpc_call {
	struct rpc_call *next, **link;
	struct rpc *rpc;
	uint64_t corr, deadline_ns;
	uint32_t node, type;
	mobo_result_cb *cb;
	void *arg;
	struct mobo_watch *timer;
	uint8_t *body; /* to send again */
	size_t len;
	bool sent; /* else it waits for a connection */
	/* Failed before it was sent: the callback comes from the loop all the same. */
	Mobo__V1__Code failed;
	char failed_text[160];
};

int rpc_init(struct rpc *rpc, struct mobo_loop *loop)
{
	uint32_t seed;
	int r;

	rpc->loop = loop;
	r = wire_random(&seed, sizeof(seed));
	if (r < 0) {
		return r;
	}
	rpc->next_corr = (uint64_t)seed << 32 | 1;
	rpc->kept = calloc(RPC_KEPT, sizeof(*rpc->kept));
	return rpc->kept ? 0 : -ENOMEM;
}

static void call_unlink(struct rpc_call *call)
{
	*call->link = call->next;
	if (call->next) {
		call->next->link = call->link;
	}
}

/* Unlinks, tells, frees. The callback may close the bus: nothing of it is touched afterwards. */
static void call_end(struct rpc_call *call, const struct mobo_result *res)
{
	call_unlink(call);
	mobo_watch_destroy(call->timer);
	if (call->cb) {
		call->cb(call->arg, res);
	}
	free(call->body);
	free(call);
}

static void call_fail(struct rpc_call *call, Mobo__V1__Code code, const char *text)
{
	struct mobo_result res = {code, wire_errno_of(code), text, NULL};

	call_end(call, &res);
}

static void call_send_cancel(struct rpc_call *call)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;

	hdr.kind = MOBO__V1__KIND__CANCEL;
	hdr.corr = call->corr;
	hdr.type = call->type;
	hdr.dst = call->node;
	call->rpc->send(call->rpc->arg, call->node, &hdr, NULL, 0);
}

static void call_timeout(void *arg)
{
	struct rpc_call *call = arg;

	if (call->failed) {
		call_fail(call, call->failed, call->failed_text);
		return;
	}
	call_send_cancel(call);
	call_fail(call, MOBO__V1__CODE__DEADLINE_EXCEEDED, "no answer before the deadline");
}

static int call_send(struct rpc_call *call)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	int r;

	hdr.kind = MOBO__V1__KIND__REQ;
	hdr.corr = call->corr;
	hdr.type = call->type;
	hdr.dst = call->node;
	hdr.deadline_ns = call->deadline_ns;
	r = call->rpc->send(call->rpc->arg, call->node, &hdr, call->body, call->len);
	call->sent = call->sent || r == 0;
	return r;
}

static void call_fail_later(struct rpc_call *call, Mobo__V1__Code code, const char *text)
{
	call->failed = code;
	snprintf(call->failed_text, sizeof(call->failed_text), "%s", text);
	mobo_watch_timer(call->timer, 0);
}

static void call_link(struct rpc *rpc, struct rpc_call *call)
{
	struct rpc_call **bucket = &rpc->calls[call->corr % RPC_BUCKETS];

	call->next = *bucket;
	call->link = bucket;
	if (call->next) {
		call->next->link = &call->next;
	}
	*bucket = call;
}

/* NULL when there is no memory: the callback was called. */
static struct rpc_call *call_new(struct rpc *rpc, uint32_t node, const ProtobufCMessage *req,
				 unsigned deadline_ms, mobo_result_cb *cb, void *arg)
{
	static const struct mobo_result no_memory = {MOBO__V1__CODE__RESOURCE_EXHAUSTED, ENOMEM,
						     "out of memory", NULL};
	struct rpc_call *call = calloc(1, sizeof(*call));

	if (!call) {
		goto fail;
	}
	call->rpc = rpc;
	call->corr = rpc->next_corr++;
	call->deadline_ns = mobo_monotonic_ns() +
			    (deadline_ms ? deadline_ms : MOBO_BUS_DEADLINE_MS) * 1000000ull;
	call->node = node;
	call->type = mobo_type_of(req);
	call->cb = cb;
	call->arg = arg;
	call->body = wire_pack(req, &call->len);
	call->timer = mobo_loop_timer(rpc->loop, call->deadline_ns, call_timeout, call);
	if (!call->body || !call->timer) {
		goto fail;
	}
	call_link(rpc, call);
	return call;
fail:
	if (call) {
		mobo_watch_destroy(call->timer);
		free(call->body);
		free(call);
	}
	if (cb) {
		cb(arg, &no_memory);
	}
	return NULL;
}

void rpc_call(struct rpc *rpc, uint32_t node, const ProtobufCMessage *req, unsigned deadline_ms,
	      mobo_result_cb *cb, void *arg)
{
	static const struct mobo_result closed = {MOBO__V1__CODE__CANCELLED, ECANCELED,
						  "the bus is being closed", NULL};
	struct rpc_call *call;
	int r;

	if (rpc->closed) {
		if (cb) {
			cb(arg, &closed);
		}
		return;
	}
	call = call_new(rpc, node, req, deadline_ms, cb, arg);
	if (!call) {
		return;
	}
	if (call->len > MOBO_BUS_MAX_MESSAGE - WIRE_HDR_MAX) {
		call_fail_later(call, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
				"the request is larger than a message may be");
		return;
	}
	r = call_send(call);
	if (r == -EHOSTUNREACH) {
		call_fail_later(call, MOBO__V1__CODE__NOT_FOUND, "no such node");
	} else if (r < 0 && !rpc->keep_calls) {
		call_fail_later(call, MOBO__V1__CODE__UNAVAILABLE,
				r == -ENOTCONN ? "not connected" : "the peer does not read");
	}
}

/* -- Waiting -- */

struct sync_call {
	bool done, abandoned;
	Mobo__V1__Code code;
	int errno_value;
	char text[WIRE_TEXT_MAX + 1];
	uint32_t type;
	ProtobufCMessage *reply;
};

static void sync_done(void *arg, const struct mobo_result *res)
{
	struct sync_call *c = arg;
	uint8_t *copy;
	size_t len;

	if (c->abandoned) {
		free(c);
		return;
	}
	c->done = true;
	c->code = res->code;
	c->errno_value = res->errno_value;
	snprintf(c->text, sizeof(c->text), "%s", res->text ? res->text : "");
	if (res->body) {
		copy = wire_pack(res->body, &len);
		c->reply = copy ? protobuf_c_message_unpack(res->body->descriptor, NULL, len, copy)
				: NULL;
		free(copy);
		if (!c->reply) {
			c->code = MOBO__V1__CODE__RESOURCE_EXHAUSTED;
			c->errno_value = ENOMEM;
		}
	}
}

int rpc_call_sync(struct rpc *rpc, uint32_t node, const ProtobufCMessage *req, unsigned deadline_ms,
		  ProtobufCMessage **reply, Mobo__V1__Code *code, struct mobo_error *err)
{
	struct sync_call *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	rpc_call(rpc, node, req, deadline_ms, sync_done, c);
	if (!mobo_loop_run_until(rpc->loop, &c->done, UINT64_MAX)) {
		c->abandoned = true; /* freed by its callback */
		if (code) {
			*code = MOBO__V1__CODE__CANCELLED;
		}
		return mobo_error_set(err, EINTR, "interrupted while waiting for an answer");
	}
	if (code) {
		*code = c->code;
	}
	if (c->code != MOBO__V1__CODE__OK) {
		r = mobo_error_set(err,
				   c->errno_value > 0 ? c->errno_value : wire_errno_of(c->code),
				   "%s", c->text[0] ? c->text : wire_code_name(c->code));
	}
	if (reply && r == 0) {
		*reply = c->reply;
	} else if (c->reply) {
		protobuf_c_message_free_unpacked(c->reply, NULL);
	}
	free(c);
	return r;
}

/* -- Answers -- */

/* node 0 towards a member is the hub, which answers for a node that cannot. */
static struct rpc_call *call_find(struct rpc *rpc, uint64_t corr, uint32_t node)
{
	struct rpc_call *call = rpc->calls[corr % RPC_BUCKETS];

	while (call && (call->corr != corr || (node && call->node != node) || call->failed)) {
		call = call->next;
	}
	return call;
}

static bool answer(struct rpc *rpc, uint32_t node, const Mobo__V1__Hdr *hdr, const void *body,
		   size_t len)
{
	struct rpc_call *call = call_find(rpc, hdr->corr, node);
	struct mobo_result res = {MOBO__V1__CODE__OK, 0, "", NULL};
	ProtobufCMessage *msg;

	if (!call) {
		return true; /* came too late */
	}
	if (hdr->kind == MOBO__V1__KIND__ERR) {
		res.code = hdr->st && hdr->st->code ? hdr->st->code : MOBO__V1__CODE__UNKNOWN;
		res.errno_value = hdr->st && hdr->st->errno_value > 0 ? hdr->st->errno_value
								      : wire_errno_of(res.code);
		res.text = hdr->st ? hdr->st->text : "";
		call_end(call, &res);
		return true;
	}
	msg = wire_unpack(hdr->type, body, len);
	if (!msg) {
		call_fail(call, MOBO__V1__CODE__INTERNAL, "the answer cannot be understood");
		return false;
	}
	res.body = msg;
	call_end(call, &res);
	protobuf_c_message_free_unpacked(msg, NULL);
	return true;
}

bool rpc_incoming(struct rpc *rpc, const struct rpc_sender *from, const Mobo__V1__Hdr *hdr,
		  const void *body, size_t len)
{
	switch (hdr->kind) {
	case MOBO__V1__KIND__REP:
	case MOBO__V1__KIND__ERR: return answer(rpc, from->node, hdr, body, len);
	case MOBO__V1__KIND__REQ: return rpc_serve_request(rpc, from, hdr, body, len);
	case MOBO__V1__KIND__CANCEL: rpc_serve_cancel(rpc, from->node, hdr->corr); return true;
	default: /* a number that a peer chose */ return false;
	}
}

/* Calls end while the lists are walked, and callbacks make new ones: mark first, then end. */
static void fail_marked(struct rpc *rpc, Mobo__V1__Code code, const char *why, bool any_node,
			uint32_t node)
{
	for (unsigned i = 0; i < RPC_BUCKETS; i++) {
		for (struct rpc_call *c = rpc->calls[i]; c; c = c->next) {
			if (!c->failed && (any_node || c->node == node)) {
				call_fail_later(c, code, why);
			}
		}
	}
}

void rpc_node_gone(struct rpc *rpc, uint32_t node, const char *why)
{
	fail_marked(rpc, MOBO__V1__CODE__UNAVAILABLE, why, false, node);
	rpc_serve_gone(rpc, node, false);
}

void rpc_fail_all(struct rpc *rpc, Mobo__V1__Code code, const char *why)
{
	fail_marked(rpc, code, why, true, 0);
	rpc_serve_gone(rpc, 0, true);
}

void rpc_resend(struct rpc *rpc, bool same)
{
	for (unsigned i = 0; i < RPC_BUCKETS; i++) {
		for (struct rpc_call *c = rpc->calls[i]; c; c = c->next) {
			if (!c->failed && c->sent && !same) {
				call_fail_later(c, MOBO__V1__CODE__UNAVAILABLE,
						"the peer was started anew: what was asked may or "
						"may not be done");
			} else if (!c->failed) {
				call_send(c);
			}
		}
	}
}

void rpc_finish(struct rpc *rpc)
{
	rpc->closed = true;
	for (unsigned i = 0; i < RPC_BUCKETS; i++) {
		while (rpc->calls[i]) {
			call_fail(rpc->calls[i], MOBO__V1__CODE__CANCELLED,
				  "the bus is being closed");
		}
	}
	rpc_serve_finish(rpc);
}
