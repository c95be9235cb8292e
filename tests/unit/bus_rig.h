/* SPDX-License-Identifier: Apache-2.0 */
/* A hub and members in one process and one loop, in a directory that is removed again. */
#ifndef TESTS_BUS_RIG_H
#define TESTS_BUS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>

#include "mobo/bus.h"

struct rig {
	struct mobo_loop *loop;
	struct mobo_hub *hub;
	struct mobo_hub_options options;
	char dir[64];
	unsigned joined, left, logs;
	char last_left[64], last_log[256], last_log_node[64];
};

int rig_setup(void **state); /* *state: a rig whose hub runs */
int rig_teardown(void **state);
void rig_start_hub(struct rig *rig);
/* With reconnect off; fails the test when refused. */
struct mobo_bus *rig_join(struct rig *rig, Mobo__V1__Role role, const char *name);
/* A child that was expected. */
struct mobo_bus *rig_join_child(struct rig *rig, Mobo__V1__Role role, const char *name);
/* Runs the loop until it is so; fails the test after two seconds. */
#define rig_wait(rig, condition)                                             \
	do {                                                                 \
		uint64_t rig_end = mobo_monotonic_ns() + 2000000000ull;      \
		while (!(condition)) {                                       \
			if (mobo_monotonic_ns() > rig_end) {                 \
				fail_msg("never came true: %s", #condition); \
			}                                                    \
			rig_turn(rig, 5);                                    \
		}                                                            \
	} while (0)
void rig_turn(struct rig *rig, unsigned ms);

#endif
