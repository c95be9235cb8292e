/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following events. A subscription joins in three steps, so that nothing falls between the last
 * values and what comes: it subscribes, and to a mark after it; the mark's event says that the hub
 * has both; then it asks for the snapshot, while live events wait in line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "member.h"
#include "topics.h"
#include "zsock.h"

enum { SUB_HWM = 10000, WAITING_MAX = 4096, FOLLOWED_TOPICS_MAX = 8192 };

struct waiting {
	struct waiting *next;
	char *topic;
	Mobo__V1__Hdr *hdr;
	uint8_t *body;
	size_t len;
	bool lost;
};

struct subscription {
	struct subscription *next;
	struct follower *follower;
	char *prefix;
	void (*cb)(void *arg, const struct mobo_event *ev);
	void *arg;
	char mark[64]; /* being waited for; empty: none */
	unsigned n_marks;
	bool live;
	bool lost;	     /* say so with the next event */
	bool gone;	     /* the follower is being destroyed */
	uint64_t since_hseq; /* 0: last values */
	uint64_t after_hseq; /* next page of last values */
	uint64_t last_hseq;
	struct waiting *first, **tail;
	unsigned n_waiting;
};

struct follower {
	struct mobo_bus *bus;
	struct zsock *sub;
	struct subscription *subscriptions;
	struct topics *topics; /* last tseq of each */
};

static void waiting_free(struct waiting *w)
{
	free(w->topic);
	free(w->body);
	mobo__v1__hdr__free_unpacked(w->hdr, NULL);
	free(w);
}

static void waiting_clear(struct subscription *s)
{
	struct waiting *w;

	while ((w = s->first)) {
		s->first = w->next;
		waiting_free(w);
	}
	s->tail = &s->first;
	s->n_waiting = 0;
}

/* -- Delivering -- */

static void deliver(struct subscription *s, const char *topic, uint64_t hseq, uint64_t tseq,
		    uint64_t ts_ns, uint32_t type, const void *body, size_t len, bool replayed,
		    bool lost)
{
	struct mobo_event ev = {topic, hseq, tseq, ts_ns, NULL, replayed, lost || s->lost};
	ProtobufCMessage *msg = wire_unpack(type, body, len);

	ev.body = msg;
	s->lost = false;
	s->last_hseq = MOBO_MAX(s->last_hseq, hseq);
	s->cb(s->arg, &ev);
	if (msg) {
		protobuf_c_message_free_unpacked(msg, NULL);
	}
}

static void line_up(struct subscription *s, const char *topic, const Mobo__V1__Hdr *hdr,
		    zmq_msg_t *body, bool lost)
{
	struct waiting *w;

	if (s->n_waiting >= WAITING_MAX) {
		s->lost = true;
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		s->lost = true;
		return;
	}
	w->topic = strdup(topic);
	w->len = zmq_msg_size(body);
	w->body = malloc(w->len + 1);
	w->hdr = calloc(1, sizeof(*w->hdr));
	if (!w->topic || !w->body || !w->hdr) {
		free(w->topic);
		free(w->body);
		free(w->hdr);
		free(w);
		s->lost = true;
		return;
	}
	mobo__v1__hdr__init(w->hdr);
	w->hdr->hseq = hdr->hseq;
	w->hdr->tseq = hdr->tseq;
	w->hdr->ts_ns = hdr->ts_ns;
	w->hdr->type = hdr->type;
	memcpy(w->body, zmq_msg_data(body), w->len);
	w->lost = lost;
	*s->tail = w;
	s->tail = &w->next;
	s->n_waiting++;
}

/* What came since the mark, but for what the snapshot already had. */
static void go_live(struct subscription *s, uint64_t snapshot_hseq)
{
	struct waiting *w;

	s->live = true;
	s->last_hseq = MOBO_MAX(s->last_hseq, snapshot_hseq);
	while (!s->gone && (w = s->first)) {
		s->first = w->next;
		s->tail = s->first ? s->tail : &s->first;
		s->n_waiting--;
		if (w->hdr->hseq > snapshot_hseq) {
			deliver(s, w->topic, w->hdr->hseq, w->hdr->tseq, w->hdr->ts_ns,
				w->hdr->type, w->body, w->len, false, w->lost);
		}
		waiting_free(w);
	}
}

/* -- Joining -- */

static void ask_snapshot(struct subscription *s);

static void set_mark(struct subscription *s)
{
	struct mobo_bus *bus = s->follower->bus;

	s->live = false;
	waiting_clear(s);
	snprintf(s->mark, sizeof(s->mark), "sub.%016llx.%u.%u", (unsigned long long)bus->session,
		 bus->welcome->node, s->n_marks++);
	zsock_subscribe(s->follower->sub, s->mark, true);
}

static void snapshot_events(struct subscription *s, const Mobo__V1__SnapshotReply *r)
{
	for (size_t i = 0; i < r->n_events && !s->gone; i++) {
		const Mobo__V1__SnapshotEvent *e = r->events[i];

		topics_follow(s->follower->topics, e->topic, e->tseq);
		if (e->hseq > s->last_hseq || !s->since_hseq) {
			deliver(s, e->topic, e->hseq, e->tseq, e->ts_ns, e->type, e->body.data,
				e->body.len, true, false);
		}
	}
}

static void snapshot_done(void *arg, const struct mobo_result *res)
{
	struct subscription *s = arg;
	const Mobo__V1__SnapshotReply *r = (const Mobo__V1__SnapshotReply *)res->body;
	struct mobo_bus *bus;
	uint64_t last;

	if (s->gone || res->code == MOBO__V1__CODE__CANCELLED) {
		return; /* freed by follower_free() */
	}
	bus = s->follower->bus;
	bus_enter(bus);
	if (!r) {
		/* Connected again: set_mark() starts anew. Else the values are lost, not the rest.
		 */
		s->lost = true;
		if (bus->connected && !s->mark[0]) {
			go_live(s, 0);
		}
		bus_leave(bus);
		return;
	}
	s->lost = s->lost || r->gap;
	last = r->n_events ? r->events[r->n_events - 1]->hseq : 0;
	snapshot_events(s, r);
	if (!s->gone && r->more && last) {
		if (s->since_hseq) {
			s->since_hseq = last;
		} else {
			s->after_hseq = last;
		}
		ask_snapshot(s);
	} else if (!s->gone) {
		go_live(s, r->hseq);
	}
	bus_leave(bus);
}

static void ask_snapshot(struct subscription *s)
{
	Mobo__V1__Snapshot req = MOBO__V1__SNAPSHOT__INIT;

	req.prefix = s->prefix;
	req.since_hseq = s->since_hseq;
	req.after_hseq = s->after_hseq;
	mobo_bus_call(s->follower->bus, 0, &req.base, 0, snapshot_done, s);
}

static bool take_mark(struct follower *f, const char *topic)
{
	if (strncmp(topic, "sub.", 4) != 0) {
		return false;
	}
	for (struct subscription *s = f->subscriptions; s; s = s->next) {
		if (strcmp(s->mark, topic) == 0) {
			zsock_subscribe(f->sub, topic, false);
			s->mark[0] = '\0';
			ask_snapshot(s);
		}
	}
	return true;
}

static void event_recv(void *arg, struct zmessage *m)
{
	struct follower *f = arg;
	struct mobo_bus *bus = f->bus;
	Mobo__V1__Hdr *hdr = m->n == 3 ? wire_unpack_hdr(&m->frames[1]) : NULL;
	char topic[WIRE_TOPIC_MAX + 1];
	size_t len = zmq_msg_size(&m->frames[0]);
	bool lost;

	if (!hdr || !wire_topic_valid(zmq_msg_data(&m->frames[0]), len)) {
		goto out;
	}
	memcpy(topic, zmq_msg_data(&m->frames[0]), len);
	topic[len] = '\0';
	bus_enter(bus);
	if (!take_mark(f, topic)) {
		lost = topics_follow(f->topics, topic, hdr->tseq);
		for (struct subscription *s = f->subscriptions; s && !s->gone; s = s->next) {
			if (strncmp(topic, s->prefix, strlen(s->prefix)) != 0) {
				continue;
			}
			if (!s->live) {
				line_up(s, topic, hdr, &m->frames[2], lost);
			} else if (hdr->hseq > s->last_hseq) {
				deliver(s, topic, hdr->hseq, hdr->tseq, hdr->ts_ns, hdr->type,
					zmq_msg_data(&m->frames[2]), zmq_msg_size(&m->frames[2]),
					false, lost);
			}
		}
	}
	bus_leave(bus);
out:
	if (hdr) {
		mobo__v1__hdr__free_unpacked(hdr, NULL);
	}
}

void follower_connected(struct mobo_bus *bus, bool same_hub)
{
	struct follower *f = bus->follower;

	if (!f) {
		return;
	}
	topics_clear(f->topics);
	for (struct subscription *s = f->subscriptions; s; s = s->next) {
		if (s->mark[0]) {
			zsock_subscribe(f->sub, s->mark, false);
		}
		s->since_hseq = same_hub ? s->last_hseq : 0;
		s->after_hseq = 0;
		s->last_hseq = same_hub ? s->last_hseq : 0;
		set_mark(s);
	}
}

/* -- Making and ending -- */

static int follower_create(struct mobo_bus *bus, struct mobo_error *err)
{
	struct follower *f = calloc(1, sizeof(*f));
	struct zsock_options zopt = {
		.type = ZMQ_SUB,
		.hwm = SUB_HWM,
		.reconnect_ms = bus->opt.reconnect ? 50 : -1,
		.recv = event_recv,
		.arg = f,
	};
	int r = -ENOMEM;

	if (!f) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	f->bus = bus;
	f->topics = topics_create(FOLLOWED_TOPICS_MAX);
	r = f->topics ? zsock_create(&f->sub, bus->loop, &zopt) : -ENOMEM;
	r = r < 0 ? r : zsock_connect(f->sub, bus->welcome->pub_endpoint);
	if (r < 0) {
		zsock_destroy(f->sub);
		topics_destroy(f->topics);
		free(f);
		return mobo_error_set(err, -r, "cannot follow events of %s: %s", bus->welcome->hub,
				      strerror(-r));
	}
	bus->follower = f;
	return 0;
}

int mobo_bus_subscribe(struct mobo_bus *bus, const char *prefix, uint64_t since_hseq,
		       void (*cb)(void *arg, const struct mobo_event *ev), void *arg,
		       struct mobo_error *err)
{
	struct subscription *s, **last;
	int r;

	if (!bus->welcome) {
		return mobo_error_set(err, ENOTCONN, "not connected");
	}
	r = bus->follower ? 0 : follower_create(bus, err);
	if (r < 0) {
		return r;
	}
	s = calloc(1, sizeof(*s));
	if (!s || !(s->prefix = strdup(prefix))) {
		free(s);
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	s->follower = bus->follower;
	s->cb = cb;
	s->arg = arg;
	s->since_hseq = since_hseq;
	s->last_hseq = since_hseq;
	s->tail = &s->first;
	for (last = &bus->follower->subscriptions; *last; last = &(*last)->next) {
		s->n_marks += 1000; /* marks of two subscriptions differ */
	}
	*last = s;
	r = zsock_subscribe(bus->follower->sub, prefix, true);
	if (r < 0) {
		*last = NULL;
		free(s->prefix);
		free(s);
		return mobo_error_set(err, -r, "cannot subscribe to %s: %s", prefix, strerror(-r));
	}
	set_mark(s);
	return 0;
}

void follower_stop(struct follower *f)
{
	if (!f) {
		return;
	}
	zsock_destroy(f->sub);
	for (struct subscription *s = f->subscriptions; s; s = s->next) {
		s->gone = true;
		waiting_clear(s);
	}
}

void follower_free(struct follower *f)
{
	struct subscription *s;

	if (!f) {
		return;
	}
	while ((s = f->subscriptions)) {
		f->subscriptions = s->next;
		free(s->prefix);
		free(s);
	}
	topics_destroy(f->topics);
	free(f);
}
