/* SPDX-License-Identifier: Apache-2.0 */
/* A hub's events: stamps, last values, the ring for replay, snapshots, and log records as events.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hub.h"
#include "mobo/log.h"

int hub_events_create(struct mobo_hub *hub)
{
	hub->topics = topics_create(HUB_TOPICS_MAX);
	return hub->topics ? 0 : -ENOMEM;
}

static void event_unref(struct kept_event *e)
{
	if (e && --e->refs == 0) {
		free(e->topic);
		free(e);
	}
}

static void unkeep(void *arg, struct topic *t)
{
	event_unref(t->kept);
	t->kept = NULL;
}

static void ring_pop(struct mobo_hub *hub)
{
	struct kept_event *e = hub->ring[hub->ring_first];

	hub->ring_lost_hseq = e->hseq;
	hub->ring_bytes -= e->len;
	hub->ring[hub->ring_first] = NULL;
	hub->ring_first = (hub->ring_first + 1) % HUB_RING;
	hub->ring_len--;
	event_unref(e);
}

void hub_events_destroy(struct mobo_hub *hub)
{
	while (hub->ring_len) {
		ring_pop(hub);
	}
	if (hub->topics) {
		topics_each(hub->topics, unkeep, NULL);
		topics_destroy(hub->topics);
	}
}

static uint64_t now_of(const struct mobo_hub *hub)
{
	struct timespec ts;

	if (hub->opt.now_ns) {
		return hub->opt.now_ns(hub->opt.arg);
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* -- Publishing -- */

static void pub_send(struct mobo_hub *hub, const char *topic, const Mobo__V1__Hdr *hdr,
		     const void *body, size_t len)
{
	uint8_t buf[WIRE_HDR_MAX];
	struct zpart parts[3] = {{topic, strlen(topic)}, {buf, 0}, {body, len}};

	parts[1].len = wire_pack_hdr(hdr, buf);
	zsock_send(hub->pub, parts, 3); /* full subscribers go without, and see the gap */
}

/* Out of memory: it is sent and not kept. */
static void keep_event(struct mobo_hub *hub, struct topic *t, const Mobo__V1__Hdr *hdr,
		       const void *body, size_t len, bool keep)
{
	struct kept_event *e = calloc(1, sizeof(*e) + len);

	if (!e || !(e->topic = strdup(t->name))) {
		free(e);
		hub->ring_lost_hseq = hdr->hseq;
		return;
	}
	e->refs = 1;
	e->hseq = hdr->hseq;
	e->tseq = hdr->tseq;
	e->ts_ns = hdr->ts_ns;
	e->type = hdr->type;
	e->len = len;
	if (len) {
		memcpy(e->body, body, len);
	}
	while (hub->ring_len &&
	       (hub->ring_len == HUB_RING || hub->ring_bytes + len > HUB_RING_BYTES)) {
		ring_pop(hub);
	}
	hub->ring[(hub->ring_first + hub->ring_len++) % HUB_RING] = e;
	hub->ring_bytes += len;
	if (keep) {
		event_unref(t->kept);
		t->kept = e;
		e->refs++;
	}
}

bool hub_publish_bytes(struct mobo_hub *hub, const char *topic, uint32_t src, uint32_t type,
		       const void *body, size_t len, bool keep)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	struct topic *t = topics_get(hub->topics, topic);

	if (!t) {
		return false;
	}
	hdr.kind = MOBO__V1__KIND__EVT;
	hdr.type = type;
	hdr.src = src;
	hdr.hseq = ++hub->hseq;
	hdr.tseq = ++t->tseq;
	hdr.ts_ns = now_of(hub);
	if (strncmp(topic, "log.", 4) != 0) { /* logs are kept elsewhere and would flush the ring */
		keep_event(hub, t, &hdr, body, len, keep);
	}
	pub_send(hub, topic, &hdr, body, len);
	return true;
}

void mobo_hub_publish(struct mobo_hub *hub, const char *topic, const ProtobufCMessage *body,
		      bool keep)
{
	size_t len;
	uint8_t *data = wire_pack(body, &len);

	if (data && len <= MOBO_BUS_MAX_MESSAGE) {
		hub_publish_bytes(hub, topic, 0, mobo_type_of(body), data, len, keep);
	}
	free(data);
}

void mobo_hub_forget(struct mobo_hub *hub, const char *topic)
{
	struct topic *t = topics_get(hub->topics, topic);

	if (t) {
		unkeep(NULL, t);
		topics_remove(hub->topics, topic);
	}
}

void hub_publish_node(struct mobo_hub *hub, const struct hub_member *m, const char *verb)
{
	Mobo__V1__NodeInfo info = MOBO__V1__NODE_INFO__INIT;
	char topic[WIRE_TOPIC_MAX];

	snprintf(topic, sizeof(topic), "node.%s.%s", m->name, verb);
	info.node = m->node;
	info.name = (char *)m->name;
	info.role = m->role;
	info.pid = (uint32_t)m->pid;
	mobo_hub_publish(hub, topic, &info.base, false);
}

/* A subscription arrived; one to "sub.<...>" is answered, see Snapshot in envelope.proto. */
void hub_pub_recv(void *arg, struct zmessage *m)
{
	struct mobo_hub *hub = arg;
	const char *data = zmq_msg_data(&m->frames[0]);
	size_t len = zmq_msg_size(&m->frames[0]);
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	char topic[WIRE_TOPIC_MAX + 1];

	if (len < 6 || data[0] != 1 || memcmp(data + 1, "sub.", 4) != 0 ||
	    !wire_topic_valid(data + 1, len - 1)) {
		return;
	}
	memcpy(topic, data + 1, len - 1);
	topic[len - 1] = '\0';
	hdr.kind = MOBO__V1__KIND__EVT;
	hdr.hseq = hub->hseq;
	hdr.ts_ns = now_of(hub);
	pub_send(hub, topic, &hdr, NULL, 0);
}

/* -- Snapshots -- */

struct snapshot {
	const char *prefix;
	size_t prefix_len;
	uint64_t after_hseq;
	struct kept_event **events;
	size_t n;
};

static void collect_kept(void *arg, struct topic *t)
{
	struct snapshot *s = arg;
	struct kept_event *e = t->kept;

	if (e && e->hseq > s->after_hseq && strncmp(t->name, s->prefix, s->prefix_len) == 0) {
		s->events[s->n++] = e;
	}
}

static int by_hseq(const void *a, const void *b)
{
	const struct kept_event *x = *(struct kept_event *const *)a;
	const struct kept_event *y = *(struct kept_event *const *)b;

	return x->hseq < y->hseq ? -1 : x->hseq > y->hseq;
}

static void collect_ring(struct mobo_hub *hub, struct snapshot *s, uint64_t since)
{
	for (unsigned i = 0; i < hub->ring_len; i++) {
		struct kept_event *e = hub->ring[(hub->ring_first + i) % HUB_RING];

		if (e->hseq > since && strncmp(e->topic, s->prefix, s->prefix_len) == 0) {
			s->events[s->n++] = e;
		}
	}
}

static void snapshot_reply(struct mobo_hub *hub, struct mobo_request *r, const struct snapshot *s,
			   bool gap)
{
	Mobo__V1__SnapshotReply reply = MOBO__V1__SNAPSHOT_REPLY__INIT;
	Mobo__V1__SnapshotEvent *events = calloc(s->n + 1, sizeof(*events));
	size_t bytes = 0;

	reply.events = calloc(s->n + 1, sizeof(*reply.events));
	if (!events || !reply.events) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "out of memory");
		goto out;
	}
	for (size_t i = 0; i < s->n; i++) {
		const struct kept_event *e = s->events[i];

		bytes += e->len + strlen(e->topic) + 64;
		if (i && bytes > SNAPSHOT_BYTES) {
			reply.more = true;
			break;
		}
		mobo__v1__snapshot_event__init(&events[i]);
		events[i].topic = e->topic;
		events[i].hseq = e->hseq;
		events[i].tseq = e->tseq;
		events[i].ts_ns = e->ts_ns;
		events[i].type = e->type;
		events[i].body.data = (uint8_t *)e->body;
		events[i].body.len = e->len;
		reply.events[reply.n_events++] = &events[i];
	}
	reply.hseq = hub->hseq;
	reply.gap = gap;
	mobo_reply(r, &reply.base);
out:
	free(events);
	free(reply.events);
}

void hub_serve_snapshot(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct mobo_hub *hub = arg;
	const Mobo__V1__Snapshot *req = (const Mobo__V1__Snapshot *)body;
	struct snapshot s = {req->prefix, strlen(req->prefix), req->after_hseq, NULL, 0};
	uint64_t since = req->since_hseq;
	bool gap = false;

	s.events =
		calloc(MOBO_MAX((unsigned)HUB_TOPICS_MAX, (unsigned)HUB_RING), sizeof(*s.events));
	if (!s.events) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	if (since) {
		/* A number that we have not reached is another hub's: all there is. */
		gap = since < hub->ring_lost_hseq || since > hub->hseq;
		collect_ring(hub, &s, since > hub->hseq ? 0 : since);
	} else {
		topics_each(hub->topics, collect_kept, &s);
		qsort(s.events, s.n, sizeof(*s.events), by_hseq);
	}
	snapshot_reply(hub, r, &s, gap);
	free(s.events);
}

/* -- Logs -- */

/* The connection says whose record it is, not the record. */
static void stamp_node(struct mobo_hub *hub, Mobo__V1__LogRecord *rec, zmq_msg_t *frame,
		       char name[WIRE_NAME_MAX + 1])
{
	const char *address = zmq_msg_gets(frame, "Peer-Address");
	int pid = 0;

	if (!address || sscanf(address, "localhost:%*u:%*u:%d", &pid) != 1) {
		pid = 0;
	}
	snprintf(name, WIRE_NAME_MAX + 1, "pid-%d", pid);
	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		if (hub->members[i] && hub->members[i]->pid == pid) {
			strcpy(name, hub->members[i]->name);
		}
	}
	free(rec->node != protobuf_c_empty_string ? rec->node : NULL);
	rec->node = strdup(name);
}

void hub_log_recv(void *arg, struct zmessage *m)
{
	static const char *const levels[] = {"error", "warning", "info", "debug", "trace"};
	struct mobo_hub *hub = arg;
	Mobo__V1__LogRecord *rec = NULL;
	char topic[WIRE_TOPIC_MAX], name[WIRE_NAME_MAX + 1];

	if (m->n == 2) {
		rec = mobo__v1__log_record__unpack(NULL, zmq_msg_size(&m->frames[1]),
						   zmq_msg_data(&m->frames[1]));
	}
	if (!rec) {
		hub_bad_message(hub, NULL, "a malformed log record");
		return;
	}
	rec->level = MOBO_MIN(rec->level, MOBO_ARRAY_LEN(levels) - 1);
	stamp_node(hub, rec, &m->frames[1], name);
	if (rec->node) {
		snprintf(topic, sizeof(topic), "log.%s.%s", levels[rec->level], name);
		mobo_hub_publish(hub, topic, &rec->base, false);
		if (hub->opt.log) {
			hub->opt.log(hub->opt.arg, rec);
		}
	}
	mobo__v1__log_record__free_unpacked(rec, NULL);
}
