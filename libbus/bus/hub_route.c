/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every message that reaches a hub: who sent it (never what it says), may they, and where to. A
 * message for another member is passed on with the sender's number stamped on it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub.h"
#include "mobo/log.h"
#include "mobo/v1/event.pb-c.h"

#define BAD_MESSAGE_PERIOD_NS 1000000000ull

int hub_send_rid(struct mobo_hub *hub, const void *rid, size_t rid_len, const Mobo__V1__Hdr *hdr,
		 const void *body, size_t len)
{
	uint8_t buf[WIRE_HDR_MAX];
	struct zpart parts[3] = {{rid, rid_len}, {buf, 0}, {body, len}};

	if (!hub->router) {
		return -EPIPE; /* being destroyed */
	}
	parts[1].len = wire_pack_hdr(hdr, buf);
	return zsock_send(hub->router, parts, 3);
}

int hub_send(void *arg, uint32_t node, const Mobo__V1__Hdr *hdr, const void *body, size_t len)
{
	struct mobo_hub *hub = arg;
	struct hub_member *m = hub_member_by_node(hub, node);

	return m ? hub_send_rid(hub, m->rid, m->rid_len, hdr, body, len) : -EHOSTUNREACH;
}

void hub_bad_message(struct mobo_hub *hub, struct hub_member *m, const char *what)
{
	Mobo__V1__DeviceEvent ev = MOBO__V1__DEVICE_EVENT__INIT;
	uint64_t now = mobo_monotonic_ns();
	char text[160];

	hub->bad_messages++;
	if (m) {
		m->bad_messages++;
	}
	if (hub->bad_said_ns && now - hub->bad_said_ns < BAD_MESSAGE_PERIOD_NS) {
		return;
	}
	hub->bad_said_ns = now;
	snprintf(text, sizeof(text), "%s (%llu bad messages so far)", what,
		 (unsigned long long)hub->bad_messages);
	ev.device = m ? m->name : (char *)"";
	ev.verb = (char *)"bad-message";
	ev.text = text;
	mobo_hub_publish(hub, "node.bad-message", &ev.base, false);
}

/* -- Between members -- */

static struct forward **forward_find(struct hub_member *m, uint32_t src, uint64_t corr)
{
	struct forward **f = &m->forwards;

	while (*f && ((*f)->src != src || (*f)->corr != corr)) {
		f = &(*f)->next;
	}
	return f;
}

static void forward_remove(struct hub_member *m, struct forward **f)
{
	struct forward *gone = *f;

	*f = gone->next;
	free(gone);
	m->n_forwards--;
}

/* Those whose deadline has passed are forgotten. */
static void forwards_expire(struct hub_member *m)
{
	uint64_t now = mobo_monotonic_ns();

	for (struct forward **f = &m->forwards; *f;) {
		if ((*f)->deadline_ns && (*f)->deadline_ns < now) {
			forward_remove(m, f);
		} else {
			f = &(*f)->next;
		}
	}
}

void hub_forwards_fail(struct hub_member *m, const char *why)
{
	Mobo__V1__Hdr req = MOBO__V1__HDR__INIT;
	char text[100];

	snprintf(text, sizeof(text), "%s left before it answered: %s", m->name, why);
	while (m->forwards) {
		req.corr = m->forwards->corr;
		rpc_refuse(&m->hub->rpc, m->forwards->src, &req, MOBO__V1__CODE__UNAVAILABLE, text);
		forward_remove(m, &m->forwards);
	}
}

static void forward_request(struct hub_member *from, Mobo__V1__Hdr *hdr, zmq_msg_t *body)
{
	struct mobo_hub *hub = from->hub;
	struct hub_member *to = hub_member_by_node(hub, hdr->dst);
	struct forward *f;
	int r;

	if (!to) {
		rpc_refuse(&hub->rpc, from->node, hdr, MOBO__V1__CODE__NOT_FOUND, "no such node");
		return;
	}
	if (hdr->deadline_ns && hdr->deadline_ns < mobo_monotonic_ns()) {
		rpc_refuse(&hub->rpc, from->node, hdr, MOBO__V1__CODE__DEADLINE_EXCEEDED,
			   "the deadline passed before the request was read");
		return;
	}
	if (to->n_forwards >= HUB_FORWARDS_MAX) {
		forwards_expire(to);
	}
	f = to->n_forwards < HUB_FORWARDS_MAX ? calloc(1, sizeof(*f)) : NULL;
	hdr->src = from->node;
	r = f ? hub_send(hub, to->node, hdr, zmq_msg_data(body), zmq_msg_size(body)) : -EAGAIN;
	if (r < 0) {
		free(f);
		rpc_refuse(&hub->rpc, from->node, hdr, MOBO__V1__CODE__UNAVAILABLE,
			   "the node does not read its messages");
		return;
	}
	if (hdr->flags & MOBO__V1__HDR_FLAG__NOREPLY) {
		free(f);
		return;
	}
	f->corr = hdr->corr;
	f->deadline_ns = hdr->deadline_ns;
	f->src = from->node;
	f->next = to->forwards;
	to->forwards = f;
	to->n_forwards++;
}

/* Only what was asked may be answered. */
static void forward_answer(struct hub_member *from, Mobo__V1__Hdr *hdr, zmq_msg_t *body)
{
	struct forward **f = forward_find(from, hdr->dst, hdr->corr);

	if (*f) {
		forward_remove(from, f);
		hdr->src = from->node;
		hub_send(from->hub, hdr->dst, hdr, zmq_msg_data(body), zmq_msg_size(body));
	}
}

static void forward_cancel(struct hub_member *from, Mobo__V1__Hdr *hdr)
{
	struct hub_member *to = hub_member_by_node(from->hub, hdr->dst);
	struct forward **f = to ? forward_find(to, from->node, hdr->corr) : NULL;

	if (f && *f) {
		forward_remove(to, f);
		hdr->src = from->node;
		hub_send(from->hub, to->node, hdr, NULL, 0);
	}
}

/* -- From the wire -- */

static void take_rpc(struct hub_member *m, Mobo__V1__Hdr *hdr, zmq_msg_t *body)
{
	struct mobo_hub *hub = m->hub;
	struct rpc_sender from = {m->node, m->role, m->session};
	bool req = hdr->kind == MOBO__V1__KIND__REQ;

	if (req && !hub_allows(hub, m, hdr->type, hdr->dst, NULL)) {
		rpc_refuse(&hub->rpc, m->node, hdr, MOBO__V1__CODE__PERMISSION_DENIED,
			   "the role of this connection may not do that");
	} else if (hdr->dst == 0) {
		if (!rpc_incoming(&hub->rpc, &from, hdr, zmq_msg_data(body), zmq_msg_size(body))) {
			m = hub_member_by_node(hub, from.node); /* a callback may have dropped it */
			hub_bad_message(hub, m, "a body that does not fit its type");
		}
	} else if (req) {
		forward_request(m, hdr, body);
	} else if (hdr->kind == MOBO__V1__KIND__CANCEL) {
		forward_cancel(m, hdr);
	} else {
		forward_answer(m, hdr, body);
	}
}

static void take_event(struct hub_member *m, const char *topic, size_t topic_len,
		       const Mobo__V1__Hdr *hdr, zmq_msg_t *body)
{
	char text[WIRE_TOPIC_MAX + 1];

	if (!wire_topic_valid(topic, topic_len)) {
		hub_bad_message(m->hub, m, "an event with a malformed topic");
		return;
	}
	if (zmq_msg_size(body) > HUB_EVENT_MAX) {
		hub_bad_message(m->hub, m, "an event that is too long: large data goes by ticket");
		return;
	}
	memcpy(text, topic, topic_len);
	text[topic_len] = '\0';
	if (!mobo_type_descriptor(hdr->type) || !hub_allows(m->hub, m, hdr->type, 0, text)) {
		hub_bad_message(m->hub, m, "an event that its role may not publish");
	} else if (!hub_publish_bytes(m->hub, text, m->node, hdr->type, zmq_msg_data(body),
				      zmq_msg_size(body), hdr->flags & MOBO__V1__HDR_FLAG__KEEP)) {
		hub_bad_message(m->hub, m, "an event with one topic too many");
	}
}

/* Nobody we know: only HELLO is heard; the rest is told to say it. */
static void take_stranger(struct mobo_hub *hub, zmq_msg_t *rid, const Mobo__V1__Hdr *hdr)
{
	Mobo__V1__Hdr out = MOBO__V1__HDR__INIT;
	Mobo__V1__Status st = MOBO__V1__STATUS__INIT;

	hub_bad_message(hub, NULL, "a message before HELLO");
	if (hdr->kind != MOBO__V1__KIND__REQ && hdr->kind != MOBO__V1__KIND__HB) {
		return;
	}
	st.code = MOBO__V1__CODE__PERMISSION_DENIED;
	st.errno_value = EACCES;
	st.text = (char *)"say HELLO first";
	out.kind = MOBO__V1__KIND__ERR;
	out.corr = hdr->corr;
	out.type = MOBO__V1__TYPE__HELLO;
	out.st = &st;
	hub_send_rid(hub, zmq_msg_data(rid), zmq_msg_size(rid), &out, NULL, 0);
}

static void take_from(struct hub_member *m, struct zmessage *msg, Mobo__V1__Hdr *hdr)
{
	Mobo__V1__Hdr out = MOBO__V1__HDR__INIT;

	m->last_heard_ns = mobo_monotonic_ns();
	switch (hdr->kind) {
	case MOBO__V1__KIND__REQ:
	case MOBO__V1__KIND__REP:
	case MOBO__V1__KIND__ERR:
	case MOBO__V1__KIND__CANCEL:
		if (msg->n == 3) {
			take_rpc(m, hdr, &msg->frames[2]);
			return;
		}
		break;
	case MOBO__V1__KIND__EVT:
		if (msg->n == 4) {
			take_event(m, zmq_msg_data(&msg->frames[1]), zmq_msg_size(&msg->frames[1]),
				   hdr, &msg->frames[3]);
			return;
		}
		break;
	case MOBO__V1__KIND__HB:
		out.kind = MOBO__V1__KIND__HB;
		hub_send(m->hub, m->node, &out, NULL, 0);
		return;
	default: /* a number that a peer chose */ break;
	}
	hub_bad_message(m->hub, m, "a message of a kind that is not taken here");
}

void hub_recv(void *arg, struct zmessage *msg)
{
	struct mobo_hub *hub = arg;
	struct hub_member *m = hub_member_by_rid(hub, &msg->frames[0]);
	Mobo__V1__Hdr *hdr = NULL;

	if (msg->n == 3 || msg->n == 4) {
		hdr = wire_unpack_hdr(&msg->frames[msg->n - 2]);
	}
	if (!hdr) {
		hub_bad_message(hub, m, "a malformed message");
		return;
	}
	if (hdr->kind == MOBO__V1__KIND__REQ && hdr->type == MOBO__V1__TYPE__HELLO && msg->n == 3) {
		hub_hello(hub, &msg->frames[0], hdr, &msg->frames[2]);
	} else if (m) {
		take_from(m, msg, hdr);
	} else {
		take_stranger(hub, &msg->frames[0], hdr);
	}
	mobo__v1__hdr__free_unpacked(hdr, NULL);
}
