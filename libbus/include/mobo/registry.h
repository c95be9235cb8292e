/* SPDX-License-Identifier: Apache-2.0 */
/* Reaching the registry: one a user, started by whoever needs it first. */
#ifndef MOBO_REGISTRY_H
#define MOBO_REGISTRY_H

#include <stdbool.h>

#include "mobo/bus.h"

/*
 * Connects to the registry as operator. start: where none runs, mobo-registry is started, race-free
 * between any number of clients, and it outlives this process. Blocks for at most about 15 s,
 * mostly a few milliseconds. 0 or -errno with err; -ENOENT or -ECONNREFUSED: none runs (and start
 * was false).
 */
int mobo_registry_connect(struct mobo_bus **ret, struct mobo_loop *loop, const char *client_name,
			  bool start, struct mobo_error *err);
/* The same with a role, callbacks and reconnect of one's own; opt->endpoint is not used. */
int mobo_registry_join(struct mobo_bus **ret, struct mobo_loop *loop,
		       const struct mobo_bus_options *opt, bool start, struct mobo_error *err);

#endif
