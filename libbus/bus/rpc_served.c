/* SPDX-License-Identifier: Apache-2.0 */
/* The serving side of rpc.h: requests, their answers, and answers kept for a repeated request. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc_served.h"

struct rpc_handler {
	uint32_t type;
	mobo_handler *fn;
	void *arg;
};

struct mobo_request {
	struct mobo_request *prev, *next;
	struct rpc *rpc; /* NULL: the bus was closed meanwhile */
	struct rpc_sender from;
	uint64_t corr;
	uint32_t type;
	bool no_reply, cancelled;
};

int rpc_serve(struct rpc *rpc, uint32_t type, mobo_handler *fn, void *arg)
{
	struct rpc_handler *h;

	for (unsigned i = 0; i < rpc->n_handlers; i++) {
		if (rpc->handlers[i].type == type) {
			rpc->handlers[i].fn = fn;
			rpc->handlers[i].arg = arg;
			return 0;
		}
	}
	if (rpc->n_handlers == rpc->cap_handlers) {
		h = realloc(rpc->handlers, (rpc->cap_handlers + 16) * sizeof(*h));
		if (!h) {
			return -ENOMEM;
		}
		rpc->handlers = h;
		rpc->cap_handlers += 16;
	}
	rpc->handlers[rpc->n_handlers++] = (struct rpc_handler){type, fn, arg};
	return 0;
}

/* -- Answers kept -- */

static void kept_clear(struct rpc *rpc, struct rpc_kept *k)
{
	rpc->kept_bytes -= k->len;
	free(k->text);
	free(k->body);
	memset(k, 0, sizeof(*k));
}

static void keep(struct rpc *rpc, const struct mobo_request *r, const Mobo__V1__Hdr *hdr,
		 const void *body, size_t len)
{
	struct rpc_kept *k = &rpc->kept[rpc->kept_next];
	unsigned oldest = rpc->kept_next;

	if (!r->from.session) {
		return;
	}
	kept_clear(rpc, k);
	while (rpc->kept_bytes + len > RPC_KEPT_BYTES) { /* one answer is never that long */
		oldest = (oldest + 1) % RPC_KEPT;
		kept_clear(rpc, &rpc->kept[oldest]);
	}
	k->body = len ? malloc(len) : NULL;
	if (len && !k->body) {
		return;
	}
	if (len) {
		memcpy(k->body, body, len);
	}
	k->len = len;
	k->session = r->from.session;
	k->corr = r->corr;
	k->type = hdr->type;
	if (hdr->st) {
		k->code = hdr->st->code;
		k->errno_value = hdr->st->errno_value;
		k->text = strdup(hdr->st->text);
	}
	rpc->kept_bytes += len;
	rpc->kept_next = (rpc->kept_next + 1) % RPC_KEPT;
}

static void send_answer(struct rpc *rpc, uint32_t node, uint64_t corr, uint32_t type,
			Mobo__V1__Status *st, const void *body, size_t len, Mobo__V1__Hdr *hdr)
{
	mobo__v1__hdr__init(hdr);
	hdr->kind = st ? MOBO__V1__KIND__ERR : MOBO__V1__KIND__REP;
	hdr->corr = corr;
	hdr->type = type;
	hdr->dst = node;
	hdr->st = st;
	rpc->send(rpc->arg, node, hdr, body, len); /* a peer that does not read goes without */
}

/* The request was carried out before the connection broke: the same answer again. */
static bool answer_again(struct rpc *rpc, const struct rpc_sender *from, uint64_t corr)
{
	Mobo__V1__Status st = MOBO__V1__STATUS__INIT;
	Mobo__V1__Hdr hdr;

	for (unsigned i = 0; from->session && i < RPC_KEPT; i++) {
		struct rpc_kept *k = &rpc->kept[i];

		if (k->session == from->session && k->corr == corr) {
			st.code = k->code;
			st.errno_value = k->errno_value;
			st.text = k->text ? k->text : (char *)protobuf_c_empty_string;
			send_answer(rpc, from->node, corr, k->type, k->code ? &st : NULL, k->body,
				    k->len, &hdr);
			return true;
		}
	}
	/* It is being carried out: the answer goes to the new connection. */
	for (struct mobo_request *r = rpc->served; from->session && r; r = r->next) {
		if (r->from.session == from->session && r->corr == corr) {
			r->from.node = from->node;
			r->cancelled = false;
			return true;
		}
	}
	return false;
}

/* -- Requests -- */

void rpc_refuse(struct rpc *rpc, uint32_t node, const Mobo__V1__Hdr *req, Mobo__V1__Code code,
		const char *text)
{
	Mobo__V1__Status st = MOBO__V1__STATUS__INIT;
	Mobo__V1__Hdr hdr;

	if (req->flags & MOBO__V1__HDR_FLAG__NOREPLY) {
		return;
	}
	st.code = code;
	st.errno_value = wire_errno_of(code);
	st.text = (char *)text;
	send_answer(rpc, node, req->corr, 0, &st, NULL, 0, &hdr);
}

static struct mobo_request *request_new(struct rpc *rpc, const struct rpc_sender *from,
					const Mobo__V1__Hdr *hdr)
{
	struct mobo_request *r = calloc(1, sizeof(*r));

	if (!r) {
		return NULL;
	}
	r->rpc = rpc;
	r->from = *from;
	r->corr = hdr->corr;
	r->type = hdr->type;
	r->no_reply = hdr->flags & MOBO__V1__HDR_FLAG__NOREPLY;
	r->next = rpc->served;
	if (r->next) {
		r->next->prev = r;
	}
	rpc->served = r;
	return r;
}

static void request_free(struct mobo_request *r)
{
	if (r->rpc) {
		if (r->prev) {
			r->prev->next = r->next;
		} else {
			r->rpc->served = r->next;
		}
		if (r->next) {
			r->next->prev = r->prev;
		}
	}
	free(r);
}

static struct rpc_handler *handler_find(struct rpc *rpc, uint32_t type)
{
	for (unsigned i = 0; i < rpc->n_handlers; i++) {
		if (rpc->handlers[i].type == type) {
			return &rpc->handlers[i];
		}
	}
	return NULL;
}

static unsigned served_of(const struct rpc *rpc, uint32_t node)
{
	unsigned n = 0;

	for (const struct mobo_request *r = rpc->served; r; r = r->next) {
		n += r->from.node == node;
	}
	return n;
}

bool rpc_serve_request(struct rpc *rpc, const struct rpc_sender *from, const Mobo__V1__Hdr *hdr,
		       const void *body, size_t len)
{
	const struct rpc_handler *h = handler_find(rpc, hdr->type);
	struct mobo_request *r;
	ProtobufCMessage *msg;

	if (hdr->deadline_ns && hdr->deadline_ns < mobo_monotonic_ns()) {
		rpc_refuse(rpc, from->node, hdr, MOBO__V1__CODE__DEADLINE_EXCEEDED,
			   "the deadline passed before the request was read");
		return true;
	}
	if (!h) {
		rpc_refuse(rpc, from->node, hdr, MOBO__V1__CODE__UNIMPLEMENTED,
			   "requests of this type are not served here");
		return true;
	}
	if (answer_again(rpc, from, hdr->corr)) {
		return true;
	}
	if (served_of(rpc, from->node) >= RPC_MAX_SERVED) {
		rpc_refuse(rpc, from->node, hdr, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
			   "too many requests at once: wait for answers first");
		return true;
	}
	msg = wire_unpack(hdr->type, body, len);
	if (!msg) {
		rpc_refuse(rpc, from->node, hdr, MOBO__V1__CODE__INVALID_ARGUMENT,
			   "the request's body is malformed");
		return false;
	}
	r = request_new(rpc, from, hdr);
	if (r) {
		h->fn(h->arg, r, msg);
	} else {
		rpc_refuse(rpc, from->node, hdr, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
			   "out of memory");
	}
	protobuf_c_message_free_unpacked(msg, NULL);
	return true;
}

void rpc_serve_cancel(struct rpc *rpc, uint32_t node, uint64_t corr)
{
	for (struct mobo_request *r = rpc->served; r; r = r->next) {
		if (r->from.node == node && r->corr == corr) {
			r->cancelled = true;
		}
	}
}

void rpc_serve_gone(struct rpc *rpc, uint32_t node, bool all)
{
	for (struct mobo_request *r = rpc->served; r; r = r->next) {
		if (all || r->from.node == node) {
			r->cancelled = true;
		}
	}
}

void rpc_serve_finish(struct rpc *rpc)
{
	for (struct mobo_request *r = rpc->served; r; r = r->next) {
		r->rpc = NULL;
		r->cancelled = true;
	}
	for (unsigned i = 0; rpc->kept && i < RPC_KEPT; i++) {
		kept_clear(rpc, &rpc->kept[i]);
	}
	free(rpc->kept);
	free(rpc->handlers);
}

/* -- What handlers call -- */

static void request_end(struct mobo_request *r, uint32_t type, Mobo__V1__Status *st,
			const void *body, size_t len)
{
	Mobo__V1__Hdr hdr;

	if (r->rpc && !r->no_reply) {
		send_answer(r->rpc, r->from.node, r->corr, type, st, body, len, &hdr);
		keep(r->rpc, r, &hdr, body, len);
	}
	request_free(r);
}

void mobo_reply(struct mobo_request *r, const ProtobufCMessage *body)
{
	static const Mobo__V1__Ack ack = MOBO__V1__ACK__INIT;
	uint8_t *data;
	size_t len;

	body = body ? body : &ack.base;
	data = wire_pack(body, &len);
	if (!data || len > MOBO_BUS_MAX_MESSAGE - WIRE_HDR_MAX) {
		free(data);
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
				 "the answer is larger than a message may be (%zu bytes)", len);
		return;
	}
	request_end(r, mobo_type_of(body), NULL, data, len);
	free(data);
}

static void reply_status(struct mobo_request *r, Mobo__V1__Code code, int err_no, char *text)
{
	Mobo__V1__Status st = MOBO__V1__STATUS__INIT;

	st.code = code;
	st.errno_value = err_no;
	st.text = text;
	request_end(r, 0, &st, NULL, 0);
}

void mobo_reply_error(struct mobo_request *r, Mobo__V1__Code code, const char *fmt, ...)
{
	char text[WIRE_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	MOBO_ASSERT(code != MOBO__V1__CODE__OK);
	reply_status(r, code, wire_errno_of(code), text);
}

void mobo_reply_errno(struct mobo_request *r, const struct mobo_error *err)
{
	char text[sizeof(err->text)];

	snprintf(text, sizeof(text), "%s", err->text);
	reply_status(r, wire_code_of(err->code), err->code, text);
}

Mobo__V1__Role mobo_request_role(const struct mobo_request *r)
{
	return r->from.role;
}

uint32_t mobo_request_node(const struct mobo_request *r)
{
	return r->from.node;
}

bool mobo_request_cancelled(const struct mobo_request *r)
{
	return r->cancelled;
}
