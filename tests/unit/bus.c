/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between a hub and its members: joining, answers, errors, deadlines, roles, routing. */
#include "bus_rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mobo/v1/device.pb-c.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"

static void serve_status(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	Mobo__V1__MachineStatus s = MOBO__V1__MACHINE_STATUS__INIT;

	s.name = (char *)"m1";
	s.cpus = 3;
	++*(unsigned *)arg;
	mobo_reply(r, &s.base);
}

static void serve_error(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION, "is %s", "paused");
}

static void keep_request(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	*(struct mobo_request **)arg = r;
}

struct outcome {
	bool done;
	Mobo__V1__Code code;
	char text[200];
	uint32_t cpus;
	struct mobo_bus *close;
};

static void got(void *arg, const struct mobo_result *res)
{
	struct outcome *o = arg;

	assert_false(o->done);
	o->done = true;
	o->code = res->code;
	snprintf(o->text, sizeof(o->text), "%s", res->text ? res->text : "");
	if (res->body && mobo_type_of(res->body) == MOBO__V1__TYPE__MACHINE_STATUS) {
		o->cpus = ((const Mobo__V1__MachineStatus *)res->body)->cpus;
	}
	mobo_bus_close(o->close);
}

static const Mobo__V1__GetStatus get_status = MOBO__V1__GET_STATUS__INIT;

static void call_is_answered(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	Mobo__V1__MachineStatus *s;
	unsigned calls = 0;
	struct mobo_error err;

	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, serve_status, &calls);
	assert_int_equal(mobo_bus_call_sync(bus, 0, &get_status.base, 0, (ProtobufCMessage **)&s,
					    NULL, &err),
			 0);
	assert_int_equal(s->cpus, 3);
	assert_string_equal(s->name, "m1");
	mobo__v1__machine_status__free_unpacked(s, NULL);
	assert_int_equal(calls, 1);
	assert_int_equal(rig->joined, 1);
	assert_int_equal(mobo_hub_find(rig->hub, "cli"), mobo_bus_node(bus));
	mobo_bus_close(bus);
	rig_wait(rig, rig->left == 1);
	assert_string_equal(rig->last_left, "cli");
	assert_int_equal(mobo_hub_members(rig->hub), 0);
}

static void errors_carry_code_and_text(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	Mobo__V1__Code code;
	struct mobo_error err;

	assert_int_equal(mobo_bus_call_sync(bus, 0, &get_status.base, 0, NULL, &code, &err),
			 -EOPNOTSUPP);
	assert_int_equal(code, MOBO__V1__CODE__UNIMPLEMENTED);
	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, serve_error, NULL);
	assert_int_equal(mobo_bus_call_sync(bus, 0, &get_status.base, 0, NULL, &code, &err),
			 -EBUSY);
	assert_int_equal(code, MOBO__V1__CODE__FAILED_PRECONDITION);
	assert_string_equal(err.text, "is paused");
	assert_int_equal(mobo_bus_call_sync(bus, 4711, &get_status.base, 0, NULL, &code, &err),
			 -ENOENT);
	assert_int_equal(code, MOBO__V1__CODE__NOT_FOUND);
	mobo_bus_close(bus);
}

static void late_answer_ends_at_the_deadline_and_cancels(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct mobo_request *r = NULL;
	struct outcome o = {0};

	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, keep_request, &r);
	mobo_bus_call(bus, 0, &get_status.base, 50, got, &o);
	rig_wait(rig, r);
	assert_false(mobo_request_cancelled(r));
	assert_int_equal(mobo_request_role(r), MOBO__V1__ROLE__OPERATOR);
	rig_wait(rig, o.done);
	assert_int_equal(o.code, MOBO__V1__CODE__DEADLINE_EXCEEDED);
	rig_wait(rig, mobo_request_cancelled(r));
	mobo_reply(r, NULL); /* too late: nobody minds */
	rig_turn(rig, 20);
	mobo_bus_close(bus);
}

static void closing_ends_calls(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct mobo_request *r = NULL;
	struct outcome o = {0};

	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, keep_request, &r);
	mobo_bus_call(bus, 0, &get_status.base, 0, got, &o);
	rig_wait(rig, r);
	mobo_bus_close(bus);
	assert_int_equal(o.code, MOBO__V1__CODE__CANCELLED);
	rig_wait(rig, mobo_request_cancelled(r));
	mobo_reply(r, NULL);
}

static void bus_may_be_closed_by_a_callback(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct outcome o = {.close = bus}, other = {0};
	unsigned calls = 0;

	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, serve_status, &calls);
	mobo_bus_call(bus, 0, &get_status.base, 0, got, &o);
	mobo_bus_call(bus, 0, &get_status.base, 0, got, &other);
	rig_wait(rig, o.done && other.done);
	assert_int_equal(o.cpus, 3);
}

static void lost_hub_fails_calls_at_once(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct mobo_request *r = NULL;
	struct outcome o = {0};

	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, keep_request, &r);
	mobo_bus_call(bus, 0, &get_status.base, 5000, got, &o);
	rig_wait(rig, r);
	mobo_hub_destroy(rig->hub);
	rig->hub = NULL;
	rig_wait(rig, o.done); /* two seconds, not five */
	assert_int_equal(o.code, MOBO__V1__CODE__UNAVAILABLE);
	mobo_reply(r, NULL); /* the request outlived its hub */
	mobo_bus_close(bus);
}

static void member_connects_again_to_a_new_hub(void **state)
{
	struct rig *rig = *state;
	char endpoint[128];
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OPERATOR,
				       .name = "cli",
				       .reconnect = true};
	struct mobo_bus *bus;
	unsigned calls = 0;
	struct outcome o = {0};

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", rig->dir);
	assert_int_equal(mobo_bus_connect(&bus, rig->loop, &opt, 2000, NULL), 0);
	mobo_hub_destroy(rig->hub);
	rig_turn(rig, 100);
	rig_start_hub(rig);
	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, serve_status, &calls);
	rig_wait(rig, rig->joined == 2);
	mobo_bus_call(bus, 0, &get_status.base, 0, got, &o);
	rig_wait(rig, o.done);
	assert_int_equal(o.code, MOBO__V1__CODE__OK);
	mobo_bus_close(bus);
}

static void repeated_request_is_carried_out_once(void **state)
{
	struct rig *rig = *state;
	char endpoint[128];
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OPERATOR,
				       .name = "cli",
				       .reconnect = true};
	struct mobo_bus *bus;
	struct mobo_request *r = NULL, *first;
	struct outcome o = {0};

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", rig->dir);
	assert_int_equal(mobo_bus_connect(&bus, rig->loop, &opt, 2000, NULL), 0);
	mobo_hub_serve(rig->hub, MOBO__V1__TYPE__GET_STATUS, keep_request, &r);
	mobo_bus_call(bus, 0, &get_status.base, 5000, got, &o);
	rig_wait(rig, r);
	first = r;
	mobo_hub_drop(rig->hub, mobo_bus_node(bus)); /* the hub forgets it: it says HELLO again */
	mobo_bus_publish(bus, "user.cli.x", &get_status.base); /* a stranger's message */
	mobo_bus_call(bus, 0, &get_status.base, 5000, NULL, NULL);
	rig_wait(rig, rig->joined == 2);
	rig_wait(rig, !mobo_request_cancelled(first));
	mobo_reply(first, NULL);
	rig_wait(rig, o.done);
	assert_int_equal(o.code, MOBO__V1__CODE__OK);
	if (r != first) {
		mobo_reply(r, NULL);
	}
	mobo_bus_close(bus);
}

static void members_reach_each_other_through_the_hub(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *cli = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct mobo_bus *dev = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");
	struct outcome o = {0};
	unsigned calls = 0;

	mobo_bus_serve(dev, MOBO__V1__TYPE__GET_STATUS, serve_status, &calls);
	mobo_bus_call(cli, mobo_bus_node(dev), &get_status.base, 0, got, &o);
	rig_wait(rig, o.done);
	assert_int_equal(o.cpus, 3);
	/* and the device may not ask back */
	memset(&o, 0, sizeof(o));
	mobo_bus_call(dev, mobo_bus_node(cli), &get_status.base, 0, got, &o);
	rig_wait(rig, o.done);
	assert_int_equal(o.code, MOBO__V1__CODE__PERMISSION_DENIED);
	mobo_bus_close(dev);
	mobo_bus_close(cli);
}

static void member_that_dies_ends_what_others_asked_it(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *cli = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct mobo_bus *dev = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");
	struct mobo_request *r = NULL, *r2;
	struct outcome o = {0}, o2 = {0};

	mobo_bus_serve(dev, MOBO__V1__TYPE__GET_STATUS, keep_request, &r);
	mobo_bus_call(cli, mobo_bus_node(dev), &get_status.base, 5000, got, &o);
	rig_wait(rig, r);
	r2 = r;
	r = NULL;
	mobo_hub_call(rig->hub, mobo_bus_node(dev), &get_status.base, 5000, got, &o2);
	rig_wait(rig, r);
	mobo_bus_close(dev);
	rig_wait(rig, o.done && o2.done);
	assert_int_equal(o.code, MOBO__V1__CODE__UNAVAILABLE);
	assert_int_equal(o2.code, MOBO__V1__CODE__UNAVAILABLE);
	mobo_reply(r, NULL);
	mobo_reply(r2, NULL);
	mobo_bus_close(cli);
}

static void hub_calls_a_member(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *dev = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");
	struct outcome o = {0}, none = {0};
	unsigned calls = 0;

	mobo_bus_serve(dev, MOBO__V1__TYPE__GET_STATUS, serve_status, &calls);
	mobo_hub_call(rig->hub, mobo_bus_node(dev), &get_status.base, 0, got, &o);
	mobo_hub_call(rig->hub, 999, &get_status.base, 0, got, &none);
	assert_false(none.done); /* never from within the call */
	rig_wait(rig, o.done && none.done);
	assert_int_equal(o.cpus, 3);
	assert_int_equal(none.code, MOBO__V1__CODE__NOT_FOUND);
	mobo_bus_close(dev);
}

/* -- Joining -- */

static int try_join(struct rig *rig, Mobo__V1__Role role, const char *name, const char *token,
		    struct mobo_error *err)
{
	char endpoint[128];
	struct mobo_bus_options o = {.endpoint = endpoint,
				     .role = role,
				     .name = name,
				     .token = token};
	struct mobo_bus *bus = NULL;
	int r;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", rig->dir);
	r = mobo_bus_connect(&bus, rig->loop, &o, 2000, err);
	mobo_bus_close(bus);
	return r;
}

static void wrong_token_or_name_is_refused(void **state)
{
	struct rig *rig = *state;
	struct mobo_error err;
	char token[33];

	assert_int_equal(try_join(rig, MOBO__V1__ROLE__OPERATOR, "cli", "guess", &err), -EACCES);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__OPERATOR, "a b", NULL, &err), -EINVAL);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__OPERATOR, "", NULL, &err), -EINVAL);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__ENGINE, "vcpu", NULL, &err), -EACCES);
	assert_int_equal(try_join(rig, (Mobo__V1__Role)77, "x", NULL, &err), -EACCES);
	mobo_hub_expect(rig->hub, MOBO__V1__ROLE__DEVICE, "uart0", token);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__DEVICE, "uart1", token, &err), -EACCES);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__DEVICE, "uart0", token, &err), 0);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__DEVICE, "uart0", token, &err), -EACCES);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__OBSERVER, "o", NULL, &err), 0);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__DEVICE, "py0", NULL, &err), 0);
}

static void second_device_of_a_name_is_refused(void **state)
{
	struct rig *rig = *state;
	pid_t pid = fork();
	struct mobo_error err;

	if (pid == 0) {
		execl("/proc/self/exe", "unit-bus", "--device", rig->dir, (char *)NULL);
		_exit(127);
	}
	rig_wait(rig, rig->joined == 1);
	assert_int_equal(try_join(rig, MOBO__V1__ROLE__DEVICE, "uart0", NULL, &err), -EEXIST);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void respawned_device_takes_the_place_of_the_dead_one(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *old = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");
	uint32_t node = mobo_bus_node(old);
	struct mobo_bus *dev = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");

	assert_int_not_equal(mobo_bus_node(dev), node);
	assert_int_equal(mobo_hub_find(rig->hub, "uart0"), mobo_bus_node(dev));
	mobo_bus_close(old);
	rig_turn(rig, 50);
	assert_int_equal(mobo_hub_find(rig->hub, "uart0"), mobo_bus_node(dev));
	mobo_bus_close(dev);
}

static void nobody_listening_is_said_at_once(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus_options o = {.endpoint = "ipc:///tmp/mobo-no-such-dir/rpc",
				     .role = MOBO__V1__ROLE__OPERATOR,
				     .name = "cli"};
	struct mobo_bus *bus;
	uint64_t start = mobo_monotonic_ns();

	assert_int_equal(mobo_bus_connect(&bus, rig->loop, &o, 5000, NULL), -ENOENT);
	assert_true(mobo_monotonic_ns() - start < 1000000000);
}

static void second_hub_of_a_directory_is_refused(void **state)
{
	struct rig *rig = *state;
	struct mobo_hub *second;
	struct mobo_error err;
	char pid[16];

	assert_int_equal(mobo_hub_create(&second, rig->loop, &rig->options, &err), -EADDRINUSE);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_non_null(strstr(err.text, pid));
	/* and did no harm to the first */
	mobo_bus_close(rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli"));
}

static void observer_may_look_and_not_touch(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	Mobo__V1__PowerOff power_off = MOBO__V1__POWER_OFF__INIT;
	Mobo__V1__ListNodes list = MOBO__V1__LIST_NODES__INIT;
	Mobo__V1__NodeList *nodes;
	struct mobo_error err;

	assert_int_equal(mobo_bus_call_sync(bus, 0, &power_off.base, 0, NULL, NULL, &err), -EACCES);
	assert_int_equal(mobo_bus_call_sync(bus, 0, &list.base, 0, (ProtobufCMessage **)&nodes,
					    NULL, &err),
			 0);
	assert_int_equal(nodes->n_nodes, 1);
	assert_string_equal(nodes->nodes[0]->name, "o");
	assert_int_equal(nodes->nodes[0]->pid, getpid());
	mobo__v1__node_list__free_unpacked(nodes, NULL);
	mobo_bus_close(bus);
}

static void too_long_a_request_or_answer_is_an_error(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	Mobo__V1__OpenStream req = MOBO__V1__OPEN_STREAM__INIT;
	Mobo__V1__Code code;
	char *big = malloc(2 << 20);

	memset(big, 'x', 2 << 20);
	big[(2 << 20) - 1] = '\0';
	req.device = big;
	assert_true(mobo_bus_call_sync(bus, 0, &req.base, 0, NULL, &code, NULL) < 0);
	assert_int_equal(code, MOBO__V1__CODE__RESOURCE_EXHAUSTED);
	free(big);
	mobo_bus_close(bus);
}

/* Another process that is uart0 until it is killed. */
static int be_device(const char *dir)
{
	struct mobo_bus_options o = {.role = MOBO__V1__ROLE__DEVICE, .name = "uart0"};
	char endpoint[128];
	struct mobo_loop *loop;
	struct mobo_bus *bus;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	o.endpoint = endpoint;
	if (mobo_loop_create(&loop) == 0 && mobo_bus_connect(&bus, loop, &o, 2000, NULL) == 0) {
		mobo_loop_run(loop);
	}
	return 1;
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(call_is_answered),
		T(errors_carry_code_and_text),
		T(late_answer_ends_at_the_deadline_and_cancels),
		T(closing_ends_calls),
		T(bus_may_be_closed_by_a_callback),
		T(lost_hub_fails_calls_at_once),
		T(member_connects_again_to_a_new_hub),
		T(repeated_request_is_carried_out_once),
		T(members_reach_each_other_through_the_hub),
		T(member_that_dies_ends_what_others_asked_it),
		T(hub_calls_a_member),
		T(wrong_token_or_name_is_refused),
		T(second_device_of_a_name_is_refused),
		T(respawned_device_takes_the_place_of_the_dead_one),
		T(nobody_listening_is_said_at_once),
		T(second_hub_of_a_directory_is_refused),
		T(observer_may_look_and_not_touch),
		T(too_long_a_request_or_answer_is_an_error),
	};

	if (argc == 3 && strcmp(argv[1], "--device") == 0) {
		return be_device(argv[2]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
