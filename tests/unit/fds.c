/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors by ticket and raw: once, in time, all of them, and nothing leaks. */
#include "bus_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d)) {
		n++;
	}
	closedir(d);
	return n;
}

/* Redeeming blocks, so it has a thread of its own while the loop runs the hub. */
struct redeeming {
	struct mobo_bus *bus;
	const uint8_t *ticket;
	int fds[200], r;
	unsigned max;
	bool done;
	struct mobo_error err;
};

static void *redeem_thread(void *arg)
{
	struct redeeming *r = arg;

	r->r = mobo_bus_redeem(r->bus, r->ticket, MOBO_TICKET_LEN, r->fds, r->max, &r->err);
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static int redeem(struct rig *rig, struct mobo_bus *bus, const uint8_t *ticket, struct redeeming *r)
{
	pthread_t thread;

	memset(r, 0, sizeof(*r));
	r->bus = bus;
	r->ticket = ticket;
	r->max = 200;
	assert_int_equal(pthread_create(&thread, NULL, redeem_thread, r), 0);
	rig_wait(rig, __atomic_load_n(&r->done, __ATOMIC_ACQUIRE));
	pthread_join(thread, NULL);
	return r->r;
}

static void ticket_works_once(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	const char *const names[] = {"a", "b"};
	uint8_t ticket[MOBO_TICKET_LEN], wrong[MOBO_TICKET_LEN] = {0};
	unsigned before = open_fds();
	struct redeeming r;
	int p[2];
	char c;

	assert_int_equal(pipe(p), 0);
	assert_int_equal(mobo_hub_ticket(rig->hub, names, p, 2, ticket), 0);
	assert_int_equal(redeem(rig, bus, wrong, &r), -EACCES);
	assert_int_equal(redeem(rig, bus, ticket, &r), 2);
	assert_int_equal(write(r.fds[1], "x", 1), 1);
	assert_int_equal(read(r.fds[0], &c, 1), 1);
	assert_int_equal(fcntl(r.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(r.fds[0]);
	close(r.fds[1]);
	assert_int_equal(redeem(rig, bus, ticket, &r), -EACCES);
	assert_int_equal(open_fds(), before);
	mobo_bus_close(bus);
}

static void many_descriptors_come_in_several_messages(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	unsigned before = open_fds();
	uint8_t ticket[MOBO_TICKET_LEN];
	struct redeeming r;
	int fds[100];

	for (unsigned i = 0; i < 100; i++) {
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	assert_int_equal(mobo_hub_ticket(rig->hub, NULL, fds, 100, ticket), 0);
	assert_int_equal(redeem(rig, bus, ticket, &r), 100);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(close(r.fds[i]), 0);
	}
	assert_int_equal(open_fds(), before);
	mobo_bus_close(bus);
}

static void unused_tickets_do_not_leak(void **state)
{
	struct rig *rig = *state;
	unsigned before = open_fds(), full = 0;
	uint8_t ticket[MOBO_TICKET_LEN];

	for (unsigned i = 0; i < 300; i++) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		full += mobo_hub_ticket(rig->hub, NULL, &fd, 1, ticket) == -ENOSPC;
	}
	assert_int_equal(full, 300 - 256);
	rig_turn(rig, 5200);
	assert_int_equal(open_fds(), before);
}

static void garbage_and_silence_on_the_socket_do_no_harm(void **state)
{
	struct rig *rig = *state;
	struct mobo_bus *bus = rig_join(rig, MOBO__V1__ROLE__OPERATOR, "cli");
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	uint8_t ticket[MOBO_TICKET_LEN], junk[9000];
	int silent[15], fd;
	struct redeeming r;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/fd", rig->dir);
	memset(junk, 0xa5, sizeof(junk));
	for (unsigned i = 0; i < 15; i++) {
		silent[i] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		assert_int_equal(connect(silent[i], (struct sockaddr *)&sa, sizeof(sa)), 0);
		if (i & 1) {
			assert_int_equal(send(silent[i], junk, i & 2 ? 9000 : 20, 0),
					 i & 2 ? 9000 : 20);
		}
	}
	rig_turn(rig, 50);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(mobo_hub_ticket(rig->hub, NULL, &fd, 1, ticket), 0);
	assert_int_equal(redeem(rig, bus, ticket, &r), 1);
	close(r.fds[0]);
	for (unsigned i = 0; i < 15; i++) {
		close(silent[i]);
	}
	rig_turn(rig, 50);
	mobo_bus_close(bus);
}

static void raw_messages_carry_descriptors(void **state)
{
	unsigned before = open_fds(), n = MOBO_FDS_PER_MESSAGE;
	int s[2], fds[MOBO_FDS_PER_MESSAGE], got[MOBO_FDS_PER_MESSAGE];
	char buf[8];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	for (unsigned i = 0; i < MOBO_FDS_PER_MESSAGE; i++) {
		fds[i] = open("/dev/null", O_RDONLY);
	}
	assert_int_equal(mobo_fds_send(s[0], "hi", 2, fds, n), 0);
	assert_int_equal(mobo_fds_recv(s[1], buf, sizeof(buf), got, &n), 2);
	assert_int_equal(n, MOBO_FDS_PER_MESSAGE);
	for (unsigned i = 0; i < n; i++) {
		close(got[i]);
	}
	/* more descriptors than there is room for, then a message longer than the buffer */
	assert_int_equal(mobo_fds_send(s[0], "hi", 2, fds, 5), 0);
	n = 2;
	assert_int_equal(mobo_fds_recv(s[1], buf, sizeof(buf), got, &n), 2);
	assert_int_equal(n, 2);
	close(got[0]);
	close(got[1]);
	assert_int_equal(mobo_fds_send(s[0], "too long a text", 15, fds, 3), 0);
	n = 3;
	assert_int_equal(mobo_fds_recv(s[1], buf, sizeof(buf), got, &n), -EMSGSIZE);
	assert_int_equal(n, 0);
	close(s[0]);
	n = 3;
	assert_int_equal(mobo_fds_recv(s[1], buf, sizeof(buf), got, &n), 0); /* closed */
	close(s[1]);
	for (unsigned i = 0; i < MOBO_FDS_PER_MESSAGE; i++) {
		close(fds[i]);
	}
	assert_int_equal(open_fds(), before);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(ticket_works_once),
		T(many_descriptors_come_in_several_messages),
		T(unused_tickets_do_not_leak),
		T(garbage_and_silence_on_the_socket_do_no_harm),
		T(raw_messages_carry_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
