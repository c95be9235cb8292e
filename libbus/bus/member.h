/* SPDX-License-Identifier: Apache-2.0 */
/* A member's connection: what member.c, subscribe.c and logsink.c share. */
#ifndef BUS_MEMBER_H
#define BUS_MEMBER_H

#include "mobo/bus.h"
#include "rpc.h"

struct follower;

struct mobo_bus {
	struct mobo_loop *loop;
	struct zsock *dealer;
	struct rpc rpc;
	struct mobo_bus_options opt; /* strings owned */
	char *endpoint, *name, *token;
	uint64_t session;

	bool transport; /* a ZeroMQ connection is there */
	bool connected; /* WELCOME came */
	bool joined;	/* HELLO was answered once, either way */
	bool hello_sent;
	bool closed;
	unsigned depth; /* our callbacks on the stack: freeing waits */
	Mobo__V1__Welcome *welcome;
	uint64_t epoch;		   /* of the hub that welcomed us last */
	struct mobo_error refused; /* by the hub: code != 0 */

	/* Heartbeats, where the hub asked for them. */
	struct mobo_watch *beat;
	unsigned beats_missed;

	struct follower *follower; /* of events, made at the first subscription */
};

/* Around everything that may call back into the owner. leave: false when the bus is gone. */
void bus_enter(struct mobo_bus *bus);
bool bus_leave(struct mobo_bus *bus);

/* -- subscribe.c -- */
/* The hub welcomed us (again). */
void follower_connected(struct mobo_bus *bus, bool same_hub);
/* No callbacks any more; the memory goes with the bus, one may be on the stack. */
void follower_stop(struct follower *f);
void follower_free(struct follower *f);

/* -- logsink.c -- */
void log_sink_stop(struct mobo_bus *bus); /* when the process' log goes there */

#endif
