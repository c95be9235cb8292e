/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls and events over the bus against plain libzmq with messages of the same sizes, in the same
 * run, each side in processes of its own. Medians.
 * Usage: bench-bus [--json] [--quick]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "mobo/bus.h"
#include "mobo/v1/event.pb-c.h"
#include "mobo/v1/machine.pb-c.h"

enum { MAX_SUBS = 100, HDR_SIZE = 30, EVENT_TEXT = 30, EVENT_ROUNDS = 5 };

static char dir[64];
static char self[512];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static double now_us(void)
{
	return (double)mobo_monotonic_ns() / 1000;
}

/* A child that is this program in another role; says "ready" with one byte on the pipe it gets. */
static pid_t child(const char *role, const char *arg, int *pipe_out)
{
	char byte, fd[16];
	int p[2];
	pid_t pid;

	if (pipe(p) < 0 || (pid = fork()) < 0) {
		die("fork");
	}
	if (pid == 0) {
		close(p[0]);
		snprintf(fd, sizeof(fd), "%d", p[1]);
		execl(self, self, "--role", role, dir, arg, fd, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	if (read(p[0], &byte, 1) != 1) {
		fprintf(stderr, "the %s did not start\n", role);
		exit(1);
	}
	*pipe_out = p[0];
	return pid;
}

static void end_child(pid_t pid, int fd)
{
	close(fd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void tell(int fd)
{
	if (write(fd, "", 1) != 1) {
		exit(1);
	}
}

/* -- Roles of the children -- */

static void serve_status(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	Mobo__V1__MachineStatus s = MOBO__V1__MACHINE_STATUS__INIT;

	s.name = (char *)"bench";
	s.memory = 1 << 30;
	mobo_reply(r, &s.base);
}

static void role_hub(int ready)
{
	struct mobo_hub_options opt = {.name = "bench", .dir = dir};
	struct mobo_error err = {0};
	struct mobo_loop *loop;
	struct mobo_hub *hub;

	if (mobo_loop_create(&loop) < 0 || mobo_hub_create(&hub, loop, &opt, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	mobo_hub_serve(hub, MOBO__V1__TYPE__GET_STATUS, serve_status, NULL);
	tell(ready);
	mobo_loop_run(loop);
}

static void role_router(int ready)
{
	void *s = zmq_socket(zmq_ctx_new(), ZMQ_ROUTER);
	char endpoint[128], id[16], a[256], b[256];

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/plain", dir);
	if (zmq_bind(s, endpoint) < 0) {
		die("bind");
	}
	tell(ready);
	for (;;) {
		int n = zmq_recv(s, id, sizeof(id), 0);
		int na = zmq_recv(s, a, sizeof(a), 0);

		zmq_recv(s, b, sizeof(b), 0);
		zmq_send(s, id, (size_t)n, ZMQ_SNDMORE);
		zmq_send(s, a, (size_t)na, ZMQ_SNDMORE);
		zmq_send(s, b, 13, 0);
	}
}

/* Each after its own count of events: one byte. */
struct counting {
	unsigned n, of;
	int fd;
};

static void count_event(void *arg, const struct mobo_event *ev)
{
	struct counting *c = arg;

	if (ev->body && ++c->n == c->of) {
		c->n = 0;
		tell(c->fd);
	}
}

static void role_sub(int ready, unsigned of)
{
	char endpoint[128];
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OBSERVER,
				       .name = "sub"};
	struct counting c = {.of = of, .fd = ready};
	struct mobo_error err = {0};
	struct mobo_loop *loop;
	struct mobo_bus *bus;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	tell(ready); /* the hub runs in the parent, which must not wait for us */
	if (mobo_loop_create(&loop) < 0 || mobo_bus_connect(&bus, loop, &opt, 10000, &err) < 0 ||
	    mobo_bus_subscribe(bus, "vm.bench", 0, count_event, &c, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	mobo_loop_run(loop);
}

static void role_plainsub(int ready, unsigned of)
{
	void *s = zmq_socket(zmq_ctx_new(), ZMQ_SUB);
	char endpoint[128], buf[256];
	int hwm = 10000;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/plainpub", dir);
	zmq_setsockopt(s, ZMQ_RCVHWM, &hwm, sizeof(hwm));
	zmq_setsockopt(s, ZMQ_SUBSCRIBE, "vm.bench", 8);
	if (zmq_connect(s, endpoint) < 0) {
		die("connect");
	}
	tell(ready);
	for (unsigned n = 1;; n++) {
		for (int more = 1, frame = 0; more; frame++) {
			size_t len = sizeof(more);

			zmq_recv(s, buf, sizeof(buf), 0);
			zmq_getsockopt(s, ZMQ_RCVMORE, &more, &len);
		}
		if (n == of) {
			n = 0;
			tell(ready);
		}
	}
}

static int role(const char *name, unsigned n, int fd)
{
	signal(SIGPIPE, SIG_DFL);
	if (strcmp(name, "hub") == 0) {
		role_hub(fd);
	} else if (strcmp(name, "router") == 0) {
		role_router(fd);
	} else if (strcmp(name, "sub") == 0) {
		role_sub(fd, n);
	} else {
		role_plainsub(fd, n);
	}
	return 1;
}

/* -- Calls -- */

static double bench_call(unsigned n)
{
	double *t = calloc(n, sizeof(*t)), result;
	char endpoint[128];
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OPERATOR,
				       .name = "bench"};
	Mobo__V1__GetStatus get = MOBO__V1__GET_STATUS__INIT;
	struct mobo_error err = {0};
	struct mobo_loop *loop;
	struct mobo_bus *bus;
	int fd;
	pid_t hub = child("hub", "0", &fd);

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	if (mobo_loop_create(&loop) < 0 || mobo_bus_connect(&bus, loop, &opt, 5000, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	for (unsigned i = 0; i < n; i++) {
		ProtobufCMessage *reply = NULL;
		double start = now_us();

		mobo_bus_call_sync(bus, 0, &get.base, 0, &reply, NULL, NULL);
		t[i] = now_us() - start;
		protobuf_c_message_free_unpacked(reply, NULL);
	}
	mobo_bus_close(bus);
	mobo_loop_destroy(loop);
	end_child(hub, fd);
	result = median(t, n);
	free(t);
	return result;
}

static double bench_plain_call(unsigned n)
{
	double *t = calloc(n, sizeof(*t)), result;
	void *ctx, *s;
	char endpoint[128], buf[256] = {0};
	int fd;
	pid_t router = child("router", "0", &fd);

	ctx = zmq_ctx_new();
	s = zmq_socket(ctx, ZMQ_DEALER);
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/plain", dir);
	zmq_connect(s, endpoint);
	for (unsigned i = 0; i < n; i++) {
		double start = now_us();

		zmq_send(s, buf, HDR_SIZE, ZMQ_SNDMORE);
		zmq_send(s, buf, 0, 0);
		zmq_recv(s, buf, sizeof(buf), 0);
		zmq_recv(s, buf, sizeof(buf), 0);
		t[i] = now_us() - start;
	}
	zmq_close(s);
	zmq_ctx_term(ctx);
	end_child(router, fd);
	result = median(t, n);
	free(t);
	return result;
}

/* -- Events: from the first one sent until every subscriber has all -- */

struct subscribers {
	pid_t pids[MAX_SUBS];
	int fds[MAX_SUBS];
	unsigned n;
};

static void subscribers_start(struct subscribers *s, unsigned n, const char *who, unsigned events)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", events);
	s->n = n;
	for (unsigned i = 0; i < n; i++) {
		s->pids[i] = child(who, text, &s->fds[i]);
	}
}

static void subscribers_wait(const struct subscribers *s)
{
	char byte;

	for (unsigned i = 0; i < s->n; i++) {
		if (read(s->fds[i], &byte, 1) != 1) {
			die("a subscriber ended");
		}
	}
}

static void subscribers_end(struct subscribers *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		end_child(s->pids[i], s->fds[i]);
	}
}

/* Events per second and subscriber. */
static double bench_events(unsigned subs, unsigned events)
{
	struct mobo_hub_options opt = {.name = "bench", .dir = dir};
	Mobo__V1__DeviceEvent ev = MOBO__V1__DEVICE_EVENT__INIT;
	struct mobo_error err = {0};
	double rate[EVENT_ROUNDS];
	struct subscribers s;
	struct mobo_loop *loop;
	struct mobo_hub *hub;
	bool never = false;

	ev.text = (char *)"123456789012345678901234567890";
	if (mobo_loop_create(&loop) < 0 || mobo_hub_create(&hub, loop, &opt, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	subscribers_start(&s, subs, "sub", events);
	while (mobo_hub_members(hub) < subs) {
		mobo_loop_run_until(loop, &never, mobo_monotonic_ns() + 10000000);
	}
	mobo_loop_run_until(loop, &never, mobo_monotonic_ns() + 500000000);
	for (unsigned k = 0; k < EVENT_ROUNDS; k++) {
		double start = now_us();

		for (unsigned i = 0; i < events; i++) {
			mobo_hub_publish(hub, "vm.bench.event", &ev.base, false);
		}
		subscribers_wait(&s);
		rate[k] = events / (now_us() - start) * 1e6;
	}
	subscribers_end(&s);
	mobo_hub_destroy(hub);
	mobo_loop_destroy(loop);
	return median(rate, EVENT_ROUNDS);
}

static double bench_plain_events(unsigned subs, unsigned events)
{
	void *ctx = zmq_ctx_new(), *pub = zmq_socket(ctx, ZMQ_XPUB);
	double rate[EVENT_ROUNDS];
	char endpoint[128], buf[256] = {0};
	struct subscribers s;
	int hwm = 10000, linger = 0, verbose = 1;

	zmq_setsockopt(pub, ZMQ_SNDHWM, &hwm, sizeof(hwm));
	zmq_setsockopt(pub, ZMQ_LINGER, &linger, sizeof(linger));
	zmq_setsockopt(pub, ZMQ_XPUB_VERBOSE, &verbose, sizeof(verbose));
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/plainpub", dir);
	if (zmq_bind(pub, endpoint) < 0) {
		die("bind");
	}
	subscribers_start(&s, subs, "plainsub", events);
	for (unsigned i = 0; i < subs; i++) {
		zmq_recv(pub, buf, sizeof(buf), 0);
	}
	for (unsigned k = 0; k < EVENT_ROUNDS; k++) {
		double start = now_us();

		for (unsigned i = 0; i < events; i++) {
			zmq_send(pub, "vm.bench.event", 14, ZMQ_SNDMORE);
			zmq_send(pub, buf, 40, ZMQ_SNDMORE);
			zmq_send(pub, buf, EVENT_TEXT + 2, 0);
		}
		subscribers_wait(&s);
		rate[k] = events / (now_us() - start) * 1e6;
	}
	subscribers_end(&s);
	zmq_close(pub);
	zmq_ctx_term(ctx);
	return median(rate, EVENT_ROUNDS);
}

/* -- Joining: what each process of a machine pays at its start -- */

static double bench_join(unsigned n)
{
	double *t = calloc(n, sizeof(*t)), result;
	char endpoint[128];
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OPERATOR,
				       .name = "bench"};
	struct mobo_error err = {0};
	struct mobo_loop *loop;
	struct mobo_bus *bus;
	int fd;
	pid_t hub = child("hub", "0", &fd);

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	for (unsigned i = 0; i < n; i++) {
		double start = now_us();

		if (mobo_loop_create(&loop) < 0 ||
		    mobo_bus_connect(&bus, loop, &opt, 5000, &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			exit(1);
		}
		t[i] = now_us() - start;
		mobo_bus_close(bus);
		mobo_loop_destroy(loop);
	}
	end_child(hub, fd);
	result = median(t, n);
	free(t);
	return result;
}

/* -- The table -- */

static bool json, first = true;

static void row(const char *name, const char *unit, double ours, double plain, bool more_is_better)
{
	double ratio = plain > 0 ? (more_is_better ? plain / ours : ours / plain) : 0;

	if (json) {
		printf("%s{\"name\": \"%s\", \"unit\": \"%s\", \"mobo\": %.1f, \"libzmq\": %.1f, "
		       "\"ratio\": %.3f}",
		       first ? "[" : ",\n ", name, unit, ours, plain, ratio);
	} else if (plain > 0) {
		printf("%-28s %12.1f %12.1f %-10s %6.2f\n", name, ours, plain, unit, ratio);
	} else {
		printf("%-28s %12.1f %12s %-10s\n", name, ours, "", unit);
	}
	first = false;
	fflush(stdout);
}

static void events_row(unsigned subs, unsigned events)
{
	char name[40];

	snprintf(name, sizeof(name), "events to %u", subs);
	row(name, "1/s", bench_events(subs, events), bench_plain_events(subs, events), true);
}

int main(int argc, char **argv)
{
	bool quick = false;
	unsigned calls;
	ssize_t len;

	if (argc == 6 && strcmp(argv[1], "--role") == 0) {
		snprintf(dir, sizeof(dir), "%s", argv[3]);
		return role(argv[2], (unsigned)atoi(argv[4]), atoi(argv[5]));
	}
	for (int i = 1; i < argc; i++) {
		json = json || strcmp(argv[i], "--json") == 0;
		quick = quick || strcmp(argv[i], "--quick") == 0;
	}
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	strcpy(dir, "/tmp/mobo-bench-XXXXXX");
	if (len < 0 || !mkdtemp(dir)) {
		die("start");
	}
	self[len] = '\0';
	calls = quick ? 200 : 5000;
	if (!json) {
		printf("%-28s %12s %12s %-10s %6s\n", "", "mobo", "libzmq", "", "ratio");
	}
	row("call round trip", "us", bench_call(calls), bench_plain_call(calls), false);
	events_row(1, quick ? 200 : 5000);
	events_row(10, quick ? 200 : 5000);
	if (!quick) {
		events_row(100, 1000);
	}
	row("join (context to welcome)", "us", bench_join(quick ? 10 : 100), 0, false);
	if (json) {
		printf("]\n");
	}
	snprintf(self, sizeof(self), "rm -rf '%s'", dir);
	return system(self) ? 1 : 0;
}
