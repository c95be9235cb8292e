/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry's own process: first clients start it, it ends when idle and takes a given socket;
 * machines survive when it is killed, and when its index is damaged.
 */
#include "registry_rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static void *connect_thread(void *arg)
{
	struct mobo_loop *own;
	struct mobo_bus *bus;
	struct mobo_error err = {0};
	int r;

	mobo_loop_create(&own);
	r = mobo_registry_connect(&bus, own, "racer", true, &err);
	if (r == 0) {
		mobo_bus_close(bus);
	} else {
		fprintf(stderr, "%s\n", err.text);
	}
	mobo_loop_destroy(own);
	return (void *)(intptr_t)r;
}

static void many_first_clients_start_one_registry(void **state)
{
	pthread_t threads[8];
	void *r;

	assert_int_equal(mobo_registry_connect(&reg, loop, "test", false, NULL), -ENOENT);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, connect_thread, NULL), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(threads[i], &r);
		assert_int_equal((intptr_t)r, 0);
	}
	connect_registry();
	teardown(state);
}

static void machines_survive_a_killed_registry(void **state)
{
	struct mobo_error err = {0};
	int pid, same, old = registry_pid();

	must(create("s", &err), &err);
	must(start("s", &err), &err);
	state_of("s", &pid, NULL);
	kill(old, SIGKILL);
	mobo_bus_close(reg);
	reg = NULL;
	connect_registry(); /* the next client starts a new one */
	assert_int_not_equal(registry_pid(), old);
	/* known at once, not only when the machine has reported again */
	assert_int_equal(state_of("s", &same, NULL), MOBO__V1__MACHINE_STATE__RUNNING);
	assert_int_equal(same, pid);
	power_off("s"); /* its last report reaches the new registry */
	wait_state("s", MOBO__V1__MACHINE_STATE__POWERED_OFF);
	for (pid = 1; pid;) {
		state_of("s", &pid, NULL);
	}
	remove_machine("s");
}

static void damaged_index_is_made_again(void **state)
{
	struct mobo_error err = {0};
	char path[128], junk[4096];
	int fd, pid;

	must(create("a1", &err), &err);
	must(create("a2", &err), &err);
	must(start("a2", &err), &err);
	kill(registry_pid(), SIGKILL);
	mobo_bus_close(reg);
	usleep(50000);
	snprintf(path, sizeof(path), "%s/mobo/index.db-wal", base);
	unlink(path);
	snprintf(path, sizeof(path), "%s/mobo/index.db", base);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	close(fd);
	connect_registry();
	assert_int_equal(state_of("a1", NULL, NULL), MOBO__V1__MACHINE_STATE__POWERED_OFF);
	assert_int_equal(state_of("a2", NULL, NULL), MOBO__V1__MACHINE_STATE__RUNNING);
	power_off("a2");
	for (pid = 1; pid;) {
		state_of("a2", &pid, NULL);
	}
	remove_machine("a1");
	remove_machine("a2");
}

static pid_t run_registry(int listen_fd, const char *idle)
{
	char path[4096];
	pid_t pid;

	assert_int_equal(mobo_find_executable("mobo-registry", path), 0);
	pid = fork();
	if (pid == 0) {
		char self[16];

		if (listen_fd >= 0) {
			dup2(listen_fd, 3);
			snprintf(self, sizeof(self), "%d", (int)getpid());
			setenv("LISTEN_PID", self, 1);
			setenv("LISTEN_FDS", "1", 1);
		}
		execl(path, path, "--foreground", "--idle-timeout", idle, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static void idle_registry_ends(void **state)
{
	int status = -1;
	pid_t pid = run_registry(-1, "1");

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_false(there("mobo/%s", "registry"));
}

static void registry_takes_a_given_socket(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char dir[80];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status;
	struct mobo_error err = {0};
	pid_t pid;

	snprintf(dir, sizeof(dir), "%.50s/mobo/registry", base);
	mkdir(dir, 0700);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/rpc", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 16), 0);
	pid = run_registry(fd, "1");
	must(mobo_registry_connect(&reg, loop, "test", false, &err), &err);
	assert_null(get("x"));
	mobo_bus_close(reg);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* the socket stays for the next one */
	assert_true(there("mobo/registry/%s", "rpc"));
	close(fd);
	unlink(sa.sun_path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_first_clients_start_one_registry),
		T(machines_survive_a_killed_registry),
		T(damaged_index_is_made_again),
		cmocka_unit_test(idle_registry_ends),
		cmocka_unit_test(registry_takes_a_given_socket),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
