/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded map from topics to their sequence numbers, and on a hub to their last values. */
#ifndef BUS_TOPICS_H
#define BUS_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topic {
	struct topic *next; /* of the bucket */
	uint64_t tseq;
	void *kept; /* the owner's */
	char name[];
};

struct topics;
struct topics *topics_create(unsigned max); /* NULL: out of memory */
void topics_destroy(struct topics *t);
void topics_clear(struct topics *t);
/* Finds, or makes; where it is full, topics without last value are forgotten. NULL: no room. */
struct topic *topics_get(struct topics *t, const char *name);
void topics_remove(struct topics *t, const char *name);
/* Notes tseq; true when numbers between this and the last one seen are missing. */
bool topics_follow(struct topics *t, const char *name, uint64_t tseq);
void topics_each(struct topics *t, void (*cb)(void *arg, struct topic *topic), void *arg);

#endif
