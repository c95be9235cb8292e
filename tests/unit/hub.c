/* SPDX-License-Identifier: Apache-2.0 */
/* A hub among strangers: garbage, oversized messages, peers that stop reading, floods, an idle
 * loop. */
#include "bus_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "mobo/v1/machine.pb-c.h"

static void *raw_socket(struct rig *rig, void *ctx, int type, const char *file)
{
	void *s = zmq_socket(ctx, type);
	char endpoint[128];

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/%s", rig->dir, file);
	zmq_setsockopt(s, ZMQ_LINGER, &(int){0}, sizeof(int));
	assert_int_equal(zmq_connect(s, endpoint), 0);
	return s;
}

/* The hub still answers somebody who behaves. */
static void check_alive(struct rig *rig)
{
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "check");
	Mobo__V1__ListNodes list = MOBO__V1__LIST_NODES__INIT;

	assert_int_equal(mobo_bus_call_sync(bus, 0, &list.base, 1000, NULL, NULL, NULL), 0);
	mobo_bus_close(bus);
}

static void garbage_is_dropped(void **state)
{
	struct rig *rig = *state;
	void *ctx = zmq_ctx_new();
	void *dealer = raw_socket(rig, ctx, ZMQ_DEALER, "rpc"),
	     *push = raw_socket(rig, ctx, ZMQ_PUSH, "log");
	uint8_t junk[3000];

	srand(1);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned frames = 1 + (unsigned)rand() % 6;

		for (unsigned k = 0; k < frames; k++) {
			size_t len = (size_t)rand() % (i % 3 ? 40 : sizeof(junk));

			for (size_t b = 0; b < len; b++) {
				junk[b] = (uint8_t)rand();
			}
			if (len > 2 && k == 0 && (i & 1)) {
				memcpy(junk, "\x08\x01\x10", 3); /* a header may begin so */
				junk[3] = i % 9;
			}
			zmq_send(i & 4 ? dealer : push, junk, len,
				 k + 1 < frames ? ZMQ_SNDMORE : 0);
		}
		rig_turn(rig, 0);
	}
	rig_turn(rig, 50);
	check_alive(rig);
	zmq_close(dealer);
	zmq_close(push);
	zmq_ctx_term(ctx);
}

static void garbage_from_a_member_is_dropped(void **state)
{
	struct rig *rig = *state;
	void *ctx = zmq_ctx_new(), *dealer = raw_socket(rig, ctx, ZMQ_DEALER, "rpc");
	Mobo__V1__Hello hello = MOBO__V1__HELLO__INIT;
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	uint8_t h[200], b[200], path[128], token[64] = {0};
	int fd;

	snprintf((char *)path, sizeof(path), "%s/operator.token", rig->dir);
	fd = open((char *)path, O_RDONLY);
	assert_int_equal(read(fd, token, 32), 32);
	close(fd);
	hdr.ver = 1;
	hdr.kind = MOBO__V1__KIND__REQ;
	hdr.type = MOBO__V1__TYPE__HELLO;
	hello.role = MOBO__V1__ROLE__OPERATOR;
	hello.name = (char *)"fuzz";
	hello.token = (char *)token;
	hello.bus_major = 1;
	zmq_send(dealer, h, mobo__v1__hdr__pack(&hdr, h), ZMQ_SNDMORE);
	zmq_send(dealer, b, mobo__v1__hello__pack(&hello, b), 0);
	rig_wait(rig, rig->joined == 1);
	srand(2);
	for (unsigned i = 0; i < 5000; i++) {
		hdr.kind = (Mobo__V1__Kind)(rand() % 9);
		hdr.type = (uint32_t)rand() % 210;
		if (hdr.type == MOBO__V1__TYPE__HELLO) {
			continue;
		}
		hdr.dst = (uint32_t)rand() % 3;
		hdr.flags = (uint32_t)rand() % 8;
		hdr.corr = (uint64_t)rand() % 4;
		for (unsigned k = 0; k < sizeof(b); k++) {
			b[k] = (uint8_t)rand();
		}
		if (i % 3 == 0) {
			zmq_send(dealer, "user.x", 6, ZMQ_SNDMORE);
		}
		zmq_send(dealer, h, mobo__v1__hdr__pack(&hdr, h), ZMQ_SNDMORE);
		zmq_send(dealer, b, (size_t)rand() % sizeof(b), ZMQ_DONTWAIT);
		rig_turn(rig, 0);
		while (zmq_recv(dealer, h, sizeof(h), ZMQ_DONTWAIT) >= 0) {
		}
	}
	rig_turn(rig, 50);
	check_alive(rig);
	zmq_close(dealer);
	zmq_ctx_term(ctx);
	rig_wait(rig, rig->left >= 2);
}

static void oversized_message_ends_its_connection_only(void **state)
{
	struct rig *rig = *state;
	void *ctx = zmq_ctx_new(), *dealer = raw_socket(rig, ctx, ZMQ_DEALER, "rpc");
	size_t len = 8 << 20;
	char *big = calloc(1, len);

	zmq_send(dealer, big, len, 0);
	rig_turn(rig, 100);
	check_alive(rig);
	free(big);
	zmq_close(dealer);
	zmq_ctx_term(ctx);
}

static void bytes_that_are_no_zmtp_do_no_harm(void **state)
{
	struct rig *rig = *state;
	static const char *const files[] = {"rpc", "pub", "log"};
	uint8_t junk[500];

	srand(3);
	for (unsigned i = 0; i < 60; i++) {
		struct sockaddr_un sa = {.sun_family = AF_UNIX};
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", rig->dir, files[i % 3]);
		assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		for (unsigned k = 0; k < sizeof(junk); k++) {
			junk[k] = (uint8_t)rand();
		}
		if (send(fd, junk, sizeof(junk), MSG_NOSIGNAL) < 0) {
			/* dropped already: as good */
		}
		rig_turn(rig, 1);
		close(fd);
	}
	check_alive(rig);
}

static void silly(void *arg, const struct mobo_result *res)
{
	++*(unsigned *)arg;
}

/* A member that joined and then stops reading: calls to it end, nobody else notices. */
static void member_that_stops_reading_does_not_stall_the_hub(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *cli = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	static char text[60000];
	Mobo__V1__OpenStream req = MOBO__V1__OPEN_STREAM__INIT;
	unsigned done = 0, n = 4000, node;
	uint64_t start;
	int go[2];
	pid_t pid;

	/* a process of its own, so that the loop that runs the hub does not run the member too */
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		char self[200];
		ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

		self[len > 0 ? len : 0] = '\0';
		close(go[0]);
		dup2(go[1], 1);
		execl(self, self, "--sleeper", rig->dir, (char *)NULL);
		_exit(127);
	}
	close(go[1]);
	rig_wait(rig, rig->joined == 2);
	node = mobo_hub_find(rig->hub, "sleeper");
	assert_int_not_equal(node, 0);
	memset(text, 'x', sizeof(text) - 1);
	req.device = text;
	start = mobo_monotonic_ns();
	for (unsigned i = 0; i < n; i++) {
		mobo_hub_call(rig->hub, node, &req.base, 100, silly, &done);
	}
	check_alive(rig);
	assert_true(mobo_monotonic_ns() - start < 1900000000ull);
	rig_wait(rig, done == n);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	rig_wait(rig, rig->left >= 2);
	close(go[0]);
	mobo_bus_close(cli);
}

static int sleeper(const char *dir)
{
	struct mobo_bus_options o = {.role = MOBO__V1__ROLE__OPERATOR, .name = "sleeper"};
	char endpoint[128];
	struct mobo_loop *loop;
	struct mobo_bus *bus;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	o.endpoint = endpoint;
	if (mobo_loop_create(&loop) < 0 || mobo_bus_connect(&bus, loop, &o, 2000, NULL) < 0) {
		return 1;
	}
	raise(SIGSTOP);
	return 0;
}

static void killed_member_is_noticed_at_once(void **state)
{
	struct rig *rig = *state;
	pid_t pid = fork();
	uint64_t start;

	if (pid == 0) {
		char self[200];
		ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

		self[len > 0 ? len : 0] = '\0';
		execl(self, self, "--sleeper", rig->dir, (char *)NULL);
		_exit(127);
	}
	rig_wait(rig, rig->joined == 1);
	start = mobo_monotonic_ns();
	kill(pid, SIGKILL);
	rig_wait(rig, rig->left == 1);
	assert_true(mobo_monotonic_ns() - start < 500000000);
	waitpid(pid, NULL, 0);
}

static void idle_hub_and_member_do_not_wake(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct rusage a, b;

	rig_turn(rig, 100);
	getrusage(RUSAGE_SELF, &a);
	rig_turn(rig, 1000);
	getrusage(RUSAGE_SELF, &b);
	assert_true(b.ru_nvcsw - a.ru_nvcsw < 8);
	mobo_bus_close(bus);
}

static void heartbeats_find_a_silent_client(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus;
	pid_t pid;

	mobo_hub_destroy(rig->hub);
	rig->options.heartbeat_ms = 50;
	rig_start_hub(rig);
	bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "beating");
	pid = fork();
	if (pid == 0) {
		char self[200];
		ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

		self[len > 0 ? len : 0] = '\0';
		execl(self, self, "--sleeper", rig->dir, (char *)NULL); /* stopped, not dead */
		_exit(127);
	}
	rig_wait(rig, rig->joined == 2);
	rig_wait(rig, rig->left == 1);
	assert_string_equal(rig->last_left, "sleeper");
	rig_turn(rig, 500);
	assert_int_equal(rig->left, 1); /* the beating one stays */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	mobo_bus_close(bus);
}

static void files_are_private(void **state)
{
	struct rig *rig = *state;
	static const char *const files[] = {"operator.token", "observer.token", "device.token",
					    "lock"};
	struct stat st;
	char path[128];

	assert_int_equal(stat(rig->dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", rig->dir, files[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
}

/* Sockets of an owner that was killed are taken over. */
static void stale_sockets_are_replaced(void **state)
{
	struct rig *rig = *state;
	char path[128];

	mobo_hub_destroy(rig->hub);
	mkdir(rig->dir, 0700);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const files[] = {"rpc", "pub", "log", "fd"};
		struct sockaddr_un sa = {.sun_family = AF_UNIX};
		int fd = socket(AF_UNIX, i < 3 ? SOCK_STREAM : SOCK_SEQPACKET, 0);

		snprintf(path, sizeof(path), "%s/%s", rig->dir, files[i]);
		strcpy(sa.sun_path, path);
		assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		close(fd);
	}
	rig_start_hub(rig);
	check_alive(rig);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(garbage_is_dropped),
		T(garbage_from_a_member_is_dropped),
		T(oversized_message_ends_its_connection_only),
		T(bytes_that_are_no_zmtp_do_no_harm),
		T(member_that_stops_reading_does_not_stall_the_hub),
		T(killed_member_is_noticed_at_once),
		T(idle_hub_and_member_do_not_wake),
		T(heartbeats_find_a_silent_client),
		T(files_are_private),
		T(stale_sockets_are_replaced),
	};

	if (argc == 3 && strcmp(argv[1], "--sleeper") == 0) {
		return sleeper(argv[2]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
