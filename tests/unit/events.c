/* SPDX-License-Identifier: Apache-2.0 */
/* Events: order and stamps, last values, replay, gaps, who may publish what, logs. */
#include "bus_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "mobo/log.h"
#include "mobo/v1/event.pb-c.h"

enum { SEEN_MAX = 6000 };

struct seen {
	char topic[80], text[40];
	uint64_t hseq, tseq, ts_ns;
	bool replayed, lost;
};
struct follower_test {
	unsigned n;
	bool lost; /* was flagged once */
	struct seen all[SEEN_MAX];
};

static void see(void *arg, const struct mobo_event *ev)
{
	struct follower_test *f = arg;
	struct seen *s = &f->all[f->n < SEEN_MAX ? f->n : 0];

	f->n = f->n < SEEN_MAX ? f->n + 1 : 1;
	f->lost = f->lost || ev->lost;
	snprintf(s->topic, sizeof(s->topic), "%s", ev->topic);
	if (ev->body && mobo_type_of(ev->body) == MOBO__V1__TYPE__DEVICE_EVENT) {
		snprintf(s->text, sizeof(s->text), "%s",
			 ((const Mobo__V1__DeviceEvent *)ev->body)->text);
	}
	s->hseq = ev->hseq;
	s->tseq = ev->tseq;
	s->ts_ns = ev->ts_ns;
	s->replayed = ev->replayed;
	s->lost = ev->lost;
}

static void say(struct rig *rig, const char *topic, const char *text, bool keep)
{
	Mobo__V1__DeviceEvent ev = MOBO__V1__DEVICE_EVENT__INIT;

	ev.text = (char *)text;
	mobo_hub_publish(rig->hub, topic, &ev.base, keep);
}

static uint64_t clock_stub(void *arg)
{
	return 4242;
}

static void last_values_come_first_then_live_ones(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f));

	say(rig, "vm.state", "old", true);
	say(rig, "vm.state", "running", true);
	say(rig, "vm.dev.uart0.error", "not kept", false);
	say(rig, "vm.dev.uart0.ready", "kept", true);
	assert_int_equal(mobo_bus_subscribe(bus, "vm.", 0, see, f, NULL), 0);
	rig_wait(rig, f->n == 2);
	assert_string_equal(f->all[0].text, "running");
	assert_true(f->all[0].replayed);
	assert_int_equal(f->all[0].tseq, 2);
	assert_string_equal(f->all[1].topic, "vm.dev.uart0.ready");
	say(rig, "vm.state", "paused", true);
	rig_wait(rig, f->n == 3);
	assert_false(f->all[2].replayed);
	assert_false(f->all[2].lost);
	assert_int_equal(f->all[2].tseq, 3);
	assert_true(f->all[2].hseq > f->all[1].hseq);
	free(f);
	mobo_bus_close(bus);
}

/* An event published at any moment of the joining comes exactly once. */
static void nothing_is_lost_or_doubled_while_joining(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f));
	unsigned sent;
	char text[16];

	say(rig, "vm.a.n", "0", true);
	assert_int_equal(mobo_bus_subscribe(bus, "vm.a.", 0, see, f, NULL), 0);
	for (sent = 1; sent < 400; sent++) {
		snprintf(text, sizeof(text), "%u", sent);
		say(rig, "vm.a.n", text, true);
		rig_turn(rig, 0);
	}
	rig_wait(rig, f->n && !strcmp(f->all[f->n - 1].text, "399"));
	for (unsigned i = 1; i < f->n; i++) {
		assert_int_equal(f->all[i].tseq, f->all[i - 1].tseq + 1);
		assert_false(f->all[i].lost);
	}
	free(f);
	mobo_bus_close(bus);
}

static void replay_gives_everything_since(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f)), *g = calloc(1, sizeof(*g));
	char text[16];

	for (unsigned i = 0; i < 5000; i++) { /* more than the ring holds */
		snprintf(text, sizeof(text), "%u", i);
		say(rig, "vm.b.n", text, false);
	}
	assert_int_equal(mobo_bus_subscribe(bus, "vm.b.", 4991, see, f, NULL), 0);
	rig_wait(rig, f->n >= 10);
	assert_string_equal(f->all[f->n - 1].text, "4999");
	assert_int_equal(f->all[0].hseq, 4992);
	assert_false(f->all[0].lost);
	/* further back than there is: all that is kept, and it says so */
	assert_int_equal(mobo_bus_subscribe(bus, "vm.b.", 1, see, g, NULL), 0);
	rig_wait(rig, g->n >= 4095);
	assert_true(g->all[0].lost);
	assert_false(g->all[1].lost);
	assert_string_equal(g->all[g->n - 1].text, "4999");
	for (unsigned i = 1; i < g->n; i++) {
		assert_int_equal(g->all[i].hseq, g->all[i - 1].hseq + 1);
	}
	free(f);
	free(g);
	mobo_bus_close(bus);
}

static void long_snapshots_come_in_pages(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f));
	char *big = malloc(100001), topic[40];

	memset(big, 'x', 100000);
	big[100000] = '\0';
	for (unsigned i = 0; i < 30; i++) {
		snprintf(topic, sizeof(topic), "vm.c.n%u", i);
		say(rig, topic, big, true);
	}
	assert_int_equal(mobo_bus_subscribe(bus, "vm.c.", 0, see, f, NULL), 0);
	rig_wait(rig, f->n == 30);
	assert_string_equal(f->all[29].topic, "vm.c.n29");
	rig_turn(rig, 20);
	assert_int_equal(f->n, 30);
	free(big);
	free(f);
	mobo_bus_close(bus);
}

static void stopped_subscriber_sees_a_gap_and_harms_nobody(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f));
	void *ctx = zmq_ctx_new(), *stopped = zmq_socket(ctx, ZMQ_SUB);
	char endpoint[128], *big = malloc(1001);
	uint64_t start;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/pub", rig->dir);
	assert_int_equal(zmq_setsockopt(stopped, ZMQ_SUBSCRIBE, "", 0), 0);
	assert_int_equal(zmq_connect(stopped, endpoint), 0); /* and never reads */
	assert_int_equal(mobo_bus_subscribe(bus, "vm.d.x", 0, see, f, NULL), 0);
	say(rig, "vm.d.x", "first", false);
	rig_turn(rig, 100);
	memset(big, 'x', 1000);
	big[1000] = '\0';
	start = mobo_monotonic_ns();
	for (unsigned i = 0; i < 40000; i++) {
		say(rig, "vm.d.flood", big, false);
	}
	assert_true(mobo_monotonic_ns() - start < 2000000000ull);
	say(rig, "vm.d.x", "after", false);
	rig_wait(rig, f->n && !strcmp(f->all[f->n - 1].text, "after"));
	assert_false(f->all[f->n - 1].lost);
	zmq_setsockopt(stopped, ZMQ_LINGER, &(int){0}, sizeof(int));
	zmq_close(stopped);
	zmq_ctx_term(ctx);
	free(big);
	free(f);
	mobo_bus_close(bus);
}

/* A follower that lags: some events of the topic fall out of the queues. */
static void own_lag_is_flagged_as_lost(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f));
	char *big = malloc(4001);

	assert_int_equal(mobo_bus_subscribe(bus, "vm.e.", 0, see, f, NULL), 0);
	rig_turn(rig, 50);
	say(rig, "vm.e.x", "0", false);
	rig_wait(rig, f->n == 1);
	memset(big, 'x', 4000);
	big[4000] = '\0';
	for (unsigned i = 0; i < 60000; i++) { /* without turning the loop */
		say(rig, "vm.e.x", big, false);
	}
	while (!f->lost) {
		say(rig, "vm.e.x", "now", false);
		rig_turn(rig, 1);
		assert_true(f->n == 0 || f->all[f->n - 1].tseq < 100000);
	}
	free(big);
	free(f);
	mobo_bus_close(bus); /* with a full queue, and at once */
}

static void roles_publish_only_their_own(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *o = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct mobo_bus *dev = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");
	struct mobo_bus *cli = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct follower_test *f = calloc(1, sizeof(*f));
	Mobo__V1__DeviceEvent ev = MOBO__V1__DEVICE_EVENT__INIT;

	assert_int_equal(mobo_bus_subscribe(o, "", 0, see, f, NULL), 0);
	rig_turn(rig, 50);
	f->n = 0;
	ev.text = (char *)"forged";
	mobo_bus_publish(dev, "vm.cpu.triple-fault", &ev.base);
	mobo_bus_publish(dev, "vm.dev.uart00.x", &ev.base);
	mobo_bus_publish(dev, "vm.dev.uart0 .x", &ev.base);
	mobo_bus_publish(cli, "vm.state", &ev.base);
	ev.text = (char *)"own";
	mobo_bus_publish_kept(dev, "vm.dev.uart0.error", &ev.base);
	mobo_bus_publish(cli, "user.cli.note", &ev.base);
	rig_wait(rig, f->n >= 3);
	rig_turn(rig, 20);
	for (unsigned i = 0; i < f->n; i++) {
		assert_string_not_equal(f->all[i].text, "forged");
	}
	assert_int_equal(f->n, 3); /* two of their own, one node.bad-message for the rest */
	mobo_bus_close(dev);
	mobo_bus_close(cli);
	mobo_bus_close(o);
	free(f);
}

static void stamps_are_the_machines_time(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *o;
	struct follower_test *f = calloc(1, sizeof(*f));

	mobo_hub_destroy(rig->hub);
	rig->options.now_ns = clock_stub;
	rig_start_hub(rig);
	o = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	say(rig, "vm.state", "x", true);
	assert_int_equal(mobo_bus_subscribe(o, "vm.", 0, see, f, NULL), 0);
	rig_wait(rig, f->n == 1);
	assert_int_equal(f->all[0].ts_ns, 4242);
	mobo_bus_close(o);
	free(f);
}

static void subscription_survives_a_new_hub(void **state)
{
	struct rig *rig = *state;
	char endpoint[128];
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OBSERVER,
				       .name = "o",
				       .reconnect = true};
	struct follower_test *f = calloc(1, sizeof(*f));
	struct mobo_bus *bus;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", rig->dir);
	assert_int_equal(mobo_bus_connect(&bus, rig->loop, &opt, 2000, NULL), 0);
	assert_int_equal(mobo_bus_subscribe(bus, "vm.", 0, see, f, NULL), 0);
	say(rig, "vm.state", "one", true);
	rig_wait(rig, f->n == 1);
	mobo_hub_destroy(rig->hub);
	rig_turn(rig, 20);
	rig_start_hub(rig);
	say(rig, "vm.state", "two", true);
	rig_wait(rig, f->n == 2);
	assert_string_equal(f->all[1].text, "two");
	say(rig, "vm.state", "three", true);
	rig_wait(rig, f->n == 3);
	assert_string_equal(f->all[2].text, "three");
	mobo_bus_close(bus);
	free(f);
}

static void log_lines_reach_the_hub_and_become_events(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *dev = rig_join_child(rig, MOBO__V1__ROLE__DEVICE, "uart0");
	struct mobo_bus *o = rig_join(rig, MOBO__V1__ROLE__OBSERVER, "o");
	struct follower_test *f = calloc(1, sizeof(*f));

	assert_int_equal(mobo_bus_subscribe(o, "log.", 0, see, f, NULL), 0);
	rig_turn(rig, 50);
	assert_int_equal(mobo_bus_log(dev, mobo_hub_log_endpoint(rig->hub)), 0);
	mobo_warning("line %d", 1);
	rig_wait(rig, rig->logs == 1 && f->n == 1);
	assert_non_null(strstr(rig->last_log, "line 1"));
	assert_memory_equal(f->all[0].topic, "log.warning.", 12);
	mobo_bus_close(dev);
	mobo_warning("goes to stderr only");
	rig_turn(rig, 20);
	assert_int_equal(rig->logs, 1);
	mobo_bus_close(o);
	free(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(last_values_come_first_then_live_ones),
		T(nothing_is_lost_or_doubled_while_joining),
		T(replay_gives_everything_since),
		T(long_snapshots_come_in_pages),
		T(stopped_subscriber_sees_a_gap_and_harms_nobody),
		T(own_lag_is_flagged_as_lost),
		T(roles_publish_only_their_own),
		T(stamps_are_the_machines_time),
		T(subscription_survives_a_new_hub),
		T(log_lines_reach_the_hub_and_become_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
