/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry and the processes of its machines: they start, report, fail, are killed and end, and
 * their states are events.
 */
#include "registry_rig.h"

#include <signal.h>

static void machine_starts_reports_and_stops(void **state)
{
	struct mobo_error err = {0};
	Mobo__V1__DeleteMachine del = MOBO__V1__DELETE_MACHINE__INIT;
	char reason[200];
	int pid;

	must(create("m", &err), &err);
	must(start("m", &err), &err);
	assert_int_equal(state_of("m", &pid, NULL), MOBO__V1__MACHINE_STATE__RUNNING);
	assert_int_equal(kill(pid, 0), 0);
	assert_int_equal(start("m", &err), -EBUSY);
	del.name = (char *)"m";
	assert_int_equal(call(&del, NULL, &err), -EBUSY);
	power_off("m");
	wait_state("m", MOBO__V1__MACHINE_STATE__POWERED_OFF);
	state_of("m", NULL, reason);
	assert_string_equal(reason, "power off");
	must(start("m", &err), &err); /* at once, though the process may not have ended yet */
	power_off("m");
	wait_state("m", MOBO__V1__MACHINE_STATE__POWERED_OFF);
	for (unsigned i = 0; i < 100 && there("mobo/vm/%s", "m"); i++) {
		usleep(10000);
	}
	state_of("m", &pid, NULL);
	while (pid) {
		state_of("m", &pid, NULL);
	}
	remove_machine("m");
}

static void failed_start_says_why(void **state)
{
	struct mobo_error err = {0};
	char reason[200];

	must(create("fail1", &err), &err);
	assert_int_equal(start("fail1", &err), -EBUSY);
	assert_non_null(strstr(err.text, "exit status 7"));
	assert_non_null(strstr(err.text, "the disk is gone"));
	assert_int_equal(state_of("fail1", NULL, reason), MOBO__V1__MACHINE_STATE__CRASHED);
	remove_machine("fail1");
	must(create("refuse1", &err), &err);
	assert_int_equal(start("refuse1", &err), -EBUSY);
	assert_non_null(strstr(err.text, "disk.0.file: no such image"));
	for (int pid = 1; pid;) {
		state_of("refuse1", &pid, NULL);
	}
	remove_machine("refuse1");
}

static void killed_machine_is_reported_as_crashed(void **state)
{
	struct mobo_error err = {0};
	char reason[200];
	int pid;

	must(create("k", &err), &err);
	must(start("k", &err), &err);
	state_of("k", &pid, NULL);
	kill(pid, SIGKILL);
	wait_state("k", MOBO__V1__MACHINE_STATE__CRASHED);
	state_of("k", NULL, reason);
	assert_non_null(strstr(reason, "without saying goodbye: signal 9"));
	must(start("k", &err), &err); /* over the dead one's sockets */
	power_off("k");
	wait_state("k", MOBO__V1__MACHINE_STATE__POWERED_OFF);
	for (pid = 1; pid;) {
		state_of("k", &pid, NULL);
	}
	remove_machine("k");
}

static void transient_machine_leaves_nothing(void **state)
{
	Mobo__V1__CreateMachine req = MOBO__V1__CREATE_MACHINE__INIT;
	Mobo__V1__MachineInfo *info;
	struct mobo_error err = {0};
	char name[64];

	req.transient = true;
	must(call(&req, &info, &err), &err);
	snprintf(name, sizeof(name), "%s", info->name);
	mobo__v1__machine_info__free_unpacked(info, NULL);
	assert_true(there("mobo/transient/%s/machine.conf", name));
	must(start(name, &err), &err);
	power_off(name);
	for (unsigned i = 0; i < 200 && (info = get(name)); i++) {
		mobo__v1__machine_info__free_unpacked(info, NULL);
		usleep(10000);
	}
	assert_null(get(name));
	assert_false(there("mobo/transient/%s", name));
	assert_false(there("mobo/vm/%s", name));
}

struct seen {
	unsigned running, off, created, removed;
};
static void see(void *arg, const struct mobo_event *ev)
{
	struct seen *s = arg;
	const Mobo__V1__StateChanged *c = (const Mobo__V1__StateChanged *)ev->body;

	if (strcmp(ev->topic, "reg.machine.e.state") == 0) {
		s->running += c->state == MOBO__V1__MACHINE_STATE__RUNNING;
		s->off += c->state == MOBO__V1__MACHINE_STATE__POWERED_OFF;
	}
	s->created += strcmp(ev->topic, "reg.machine.e.created") == 0;
	s->removed += strcmp(ev->topic, "reg.machine.e.removed") == 0;
}

static void states_are_events(void **state)
{
	struct mobo_error err = {0};
	struct seen s = {0};
	bool never = false;
	int pid;

	must(mobo_bus_subscribe(reg, "reg.", 0, see, &s, &err), &err);
	mobo_loop_run_until(loop, &never, mobo_monotonic_ns() + 100000000);
	must(create("e", &err), &err);
	must(start("e", &err), &err);
	power_off("e");
	for (pid = 1; pid;) {
		state_of("e", &pid, NULL);
	}
	remove_machine("e");
	for (unsigned i = 0; i < 100 && !s.removed; i++) {
		mobo_loop_run_until(loop, &never, mobo_monotonic_ns() + 10000000);
	}
	assert_int_equal(s.created, 1);
	assert_int_equal(s.running, 1);
	assert_int_equal(s.off, 1);
	assert_int_equal(s.removed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(machine_starts_reports_and_stops),
		T(failed_start_says_why),
		T(killed_machine_is_reported_as_crashed),
		T(transient_machine_leaves_nothing),
		T(states_are_events),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
