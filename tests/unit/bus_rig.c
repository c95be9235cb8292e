/* SPDX-License-Identifier: Apache-2.0 */
/* See bus_rig.h. */
#include "bus_rig.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void rig_joined(void *arg, uint32_t node, const Mobo__V1__Hello *hello)
{
	((struct rig *)arg)->joined++;
}

static void rig_left(void *arg, uint32_t node, const char *name)
{
	struct rig *rig = arg;

	rig->left++;
	snprintf(rig->last_left, sizeof(rig->last_left), "%s", name);
}

static void rig_log(void *arg, const Mobo__V1__LogRecord *rec)
{
	struct rig *rig = arg;

	rig->logs++;
	snprintf(rig->last_log, sizeof(rig->last_log), "%s", rec->text);
	snprintf(rig->last_log_node, sizeof(rig->last_log_node), "%s", rec->node);
}

void rig_start_hub(struct rig *rig)
{
	struct mobo_error err = {0};

	if (mobo_hub_create(&rig->hub, rig->loop, &rig->options, &err) < 0) {
		fail_msg("hub: %s", err.text);
	}
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	strcpy(rig->dir, "/tmp/mobo-test-XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	assert_int_equal(mobo_loop_create(&rig->loop), 0);
	rig->options = (struct mobo_hub_options){.name = "m1",
						 .dir = rig->dir,
						 .joined = rig_joined,
						 .left = rig_left,
						 .log = rig_log,
						 .arg = rig,
						 .outside_devices = true};
	rig_start_hub(rig);
	*state = rig;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	mobo_hub_destroy(rig->hub);
	mobo_loop_destroy(rig->loop);
	rmdir(rig->dir);
	assert_int_not_equal(access(rig->dir, F_OK), 0); /* nothing is left behind */
	free(rig);
	return 0;
}

static struct mobo_bus *join(struct rig *rig, Mobo__V1__Role role, const char *name,
			     const char *token)
{
	char endpoint[128];
	struct mobo_bus_options o = {.endpoint = endpoint,
				     .role = role,
				     .name = name,
				     .token = token};
	struct mobo_error err = {0};
	struct mobo_bus *bus;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", rig->dir);
	if (mobo_bus_connect(&bus, rig->loop, &o, 2000, &err) < 0) {
		fail_msg("join as %s: %s", name, err.text);
	}
	return bus;
}

struct mobo_bus *rig_join(struct rig *rig, Mobo__V1__Role role, const char *name)
{
	return join(rig, role, name, NULL);
}

struct mobo_bus *rig_join_child(struct rig *rig, Mobo__V1__Role role, const char *name)
{
	char token[33];

	mobo_hub_expect(rig->hub, role, name, token);
	return join(rig, role, name, token);
}

void rig_turn(struct rig *rig, unsigned ms)
{
	bool never = false;

	mobo_loop_run_until(rig->loop, &never, mobo_monotonic_ns() + ms * 1000000ull);
}
