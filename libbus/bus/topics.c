/* SPDX-License-Identifier: Apache-2.0 */
/* See topics.h. */
#include <stdlib.h>
#include <string.h>

#include "topics.h"

enum { TOPIC_BUCKETS = 256 };

struct topics {
	struct topic *buckets[TOPIC_BUCKETS];
	unsigned n, max;
};

struct topics *topics_create(unsigned max)
{
	struct topics *t = calloc(1, sizeof(*t));

	if (t) {
		t->max = max;
	}
	return t;
}

void topics_clear(struct topics *t)
{
	for (unsigned i = 0; i < TOPIC_BUCKETS; i++) {
		struct topic *p;

		while ((p = t->buckets[i])) {
			t->buckets[i] = p->next;
			free(p);
		}
	}
	t->n = 0;
}

void topics_destroy(struct topics *t)
{
	if (t) {
		topics_clear(t);
		free(t);
	}
}

static unsigned bucket_of(const char *name)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *name; name++) {
		h = (h ^ (uint8_t)*name) * 16777619u;
	}
	return (h ^ h >> 16) % TOPIC_BUCKETS;
}

static void remove_at(struct topics *t, struct topic **at)
{
	struct topic *p = *at;

	*at = p->next;
	free(p);
	t->n--;
}

static void make_room(struct topics *t)
{
	for (unsigned i = 0; i < TOPIC_BUCKETS; i++) {
		for (struct topic **at = &t->buckets[i]; *at;) {
			if ((*at)->kept) {
				at = &(*at)->next;
			} else {
				remove_at(t, at);
			}
		}
	}
}

void topics_remove(struct topics *t, const char *name)
{
	struct topic **at = &t->buckets[bucket_of(name)];

	while (*at && strcmp((*at)->name, name) != 0) {
		at = &(*at)->next;
	}
	if (*at) {
		remove_at(t, at);
	}
}

struct topic *topics_get(struct topics *t, const char *name)
{
	struct topic **bucket = &t->buckets[bucket_of(name)], *p;
	size_t len = strlen(name) + 1;

	for (p = *bucket; p; p = p->next) {
		if (strcmp(p->name, name) == 0) {
			return p;
		}
	}
	if (t->n >= t->max) {
		make_room(t);
	}
	p = t->n < t->max ? calloc(1, sizeof(*p) + len) : NULL;
	if (p) {
		memcpy(p->name, name, len);
		p->next = *bucket;
		*bucket = p;
		t->n++;
	}
	return p;
}

bool topics_follow(struct topics *t, const char *name, uint64_t tseq)
{
	struct topic *p = topics_get(t, name);
	bool lost;

	if (!p || tseq <= p->tseq) {
		return false;
	}
	lost = p->tseq && tseq != p->tseq + 1;
	p->tseq = tseq;
	return lost;
}

void topics_each(struct topics *t, void (*cb)(void *arg, struct topic *topic), void *arg)
{
	for (unsigned i = 0; i < TOPIC_BUCKETS; i++) {
		for (struct topic *p = t->buckets[i]; p; p = p->next) {
			cb(arg, p);
		}
	}
}
