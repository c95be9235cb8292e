/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real mobo-registry with machines that only pretend (fake_machine.c): starting it, its verbs,
 * and what survives when it, or a machine, is killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mobo/registry.h"
#include "mobo/v1/event.pb-c.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"

static char base[64];
static struct mobo_loop *loop;
static struct mobo_bus *reg;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	remove(path);
	return 0;
}

/* An own set of XDG directories; the directories of this process are cached, so one for all. */
static int setup_group(void **state)
{
	static const char *const vars[] = {"XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME",
					   "XDG_CACHE_HOME", "XDG_CONFIG_HOME"};

	strcpy(base, "/tmp/mobo-test-XXXXXX");
	assert_non_null(mkdtemp(base));
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(vars); i++) {
		setenv(vars[i], base, 1);
	}
	return mobo_loop_create(&loop);
}

static int teardown_group(void **state)
{
	mobo_loop_destroy(loop);
	nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static void must(int r, const struct mobo_error *err)
{
	if (r < 0) {
		fail_msg("%s", err->text);
	}
}

static void connect_registry(void)
{
	struct mobo_error err = {0};

	must(mobo_registry_connect(&reg, loop, "test", true, &err), &err);
}

static int registry_pid(void)
{
	char path[128];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/mobo/registry/lock", base);
	f = fopen(path, "r");
	if (f) {
		if (fscanf(f, "%d", &pid) != 1) {
			pid = 0;
		}
		fclose(f);
	}
	return pid;
}

static int setup(void **state)
{
	connect_registry();
	return 0;
}

static int teardown(void **state)
{
	int pid = registry_pid();
	char path[128];
	struct stat st;

	mobo_bus_close(reg);
	reg = NULL;
	assert_true(pid > 0);
	kill(pid, SIGTERM);
	/* It removes its directory last; who reaps the process is not our business. */
	snprintf(path, sizeof(path), "%s/mobo/registry", base);
	for (unsigned i = 0; i < 500 && stat(path, &st) == 0; i++) {
		usleep(10000);
	}
	assert_int_not_equal(stat(path, &st), 0);
	return 0;
}

static int call(const void *req, void *reply, struct mobo_error *err)
{
	return mobo_bus_call_sync(reg, 0, req, 10000, reply, NULL, err);
}

static int create(const char *name, struct mobo_error *err)
{
	Mobo__V1__CreateMachine req = MOBO__V1__CREATE_MACHINE__INIT;

	req.name = (char *)name;
	return call(&req, NULL, err);
}

static int start(const char *name, struct mobo_error *err)
{
	Mobo__V1__StartMachine req = MOBO__V1__START_MACHINE__INIT;

	req.name = (char *)name;
	return call(&req, NULL, err);
}

static Mobo__V1__MachineInfo *get(const char *name)
{
	Mobo__V1__GetMachine req = MOBO__V1__GET_MACHINE__INIT;
	Mobo__V1__MachineInfo *info = NULL;

	req.name = (char *)name;
	call(&req, &info, NULL);
	return info;
}

static Mobo__V1__MachineState state_of(const char *name, int *pid, char reason[200])
{
	Mobo__V1__MachineInfo *info = get(name);
	Mobo__V1__MachineState s;

	assert_non_null(info);
	s = info->state;
	if (pid) {
		*pid = (int)info->pid;
	}
	if (reason) {
		snprintf(reason, 200, "%s", info->reason);
	}
	mobo__v1__machine_info__free_unpacked(info, NULL);
	return s;
}

static void wait_state(const char *name, Mobo__V1__MachineState s)
{
	bool never = false;

	for (unsigned i = 0; i < 300; i++) {
		if (state_of(name, NULL, NULL) == s) {
			return;
		}
		mobo_loop_run_until(loop, &never, mobo_monotonic_ns() + 10000000);
	}
	fail_msg("%s never got into state %d", name, (int)s);
}

static void power_off(const char *name)
{
	Mobo__V1__PowerOff off = MOBO__V1__POWER_OFF__INIT;
	Mobo__V1__MachineInfo *info = get(name);
	struct mobo_bus_options opt = {.role = MOBO__V1__ROLE__OPERATOR, .name = "test"};
	struct mobo_error err = {0};
	struct mobo_bus *bus;

	opt.endpoint = info->rpc_endpoint;
	must(mobo_bus_connect(&bus, loop, &opt, 2000, &err), &err);
	must(mobo_bus_call_sync(bus, 0, &off.base, 0, NULL, NULL, &err), &err);
	mobo_bus_close(bus);
	mobo__v1__machine_info__free_unpacked(info, NULL);
}

static bool there(const char *fmt, const char *name)
{
	char path[300], rest[200];
	struct stat st;

	snprintf(rest, sizeof(rest), fmt, name);
	snprintf(path, sizeof(path), "%s/%s", base, rest);
	return stat(path, &st) == 0;
}

static void remove_machine(const char *name)
{
	Mobo__V1__DeleteMachine req = MOBO__V1__DELETE_MACHINE__INIT;
	struct mobo_error err = {0};

	req.name = (char *)name;
	must(call(&req, NULL, &err), &err);
}

/* -- Tests -- */

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

static void machine_is_created_listed_and_deleted(void **state)
{
	Mobo__V1__ListMachines list = MOBO__V1__LIST_MACHINES__INIT;
	Mobo__V1__DeleteMachine del = MOBO__V1__DELETE_MACHINE__INIT;
	Mobo__V1__MachineList *machines;
	Mobo__V1__DeletedFiles *files;
	struct mobo_error err = {0};
	char path[200];

	must(create("one", &err), &err);
	must(create("another", &err), &err);
	assert_true(there("mobo/machines/%s/machine.conf", "one"));
	must(call(&list, &machines, &err), &err);
	assert_int_equal(machines->n_machines, 2);
	assert_string_equal(machines->machines[0]->name, "another");
	assert_int_equal(machines->machines[1]->state, MOBO__V1__MACHINE_STATE__POWERED_OFF);
	assert_int_equal(machines->machines[1]->memory, 1ull << 30);
	mobo__v1__machine_list__free_unpacked(machines, NULL);
	/* a file of the user's stays, and the folder with it */
	snprintf(path, sizeof(path), "%s/mobo/machines/one/notes.txt", base);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	del.name = (char *)"one";
	del.dry_run = true;
	must(call(&del, &files, &err), &err);
	assert_int_equal(files->n_paths, 1);
	assert_non_null(strstr(files->paths[0], "machine.conf"));
	mobo__v1__deleted_files__free_unpacked(files, NULL);
	assert_true(there("mobo/machines/%s/machine.conf", "one"));
	remove_machine("one");
	assert_false(there("mobo/machines/%s/machine.conf", "one"));
	assert_true(there("mobo/machines/%s/notes.txt", "one"));
	remove_machine("another");
	assert_false(there("mobo/machines/%s", "another"));
	assert_null(get("one"));
}

static void bad_names_and_folders_are_refused(void **state)
{
	Mobo__V1__CreateMachine req = MOBO__V1__CREATE_MACHINE__INIT;
	Mobo__V1__RegisterMachine add = MOBO__V1__REGISTER_MACHINE__INIT;
	Mobo__V1__KeyValue kv = MOBO__V1__KEY_VALUE__INIT, *kvs[] = {&kv};
	struct mobo_error err = {0};

	assert_int_equal(create("", &err), -EINVAL);
	assert_int_equal(create("../x", &err), -EINVAL);
	assert_int_equal(create("a b", &err), -EINVAL);
	must(create("busy", &err), &err);
	assert_int_equal(create("busy", &err), -EEXIST);
	assert_non_null(strstr(err.text, "busy"));
	assert_int_equal(start("nosuch", &err), -ENOENT);
	req.name = (char *)"rel";
	req.folder = (char *)"some/where";
	assert_int_equal(call(&req, NULL, &err), -EINVAL);
	req.folder = (char *)"";
	kv.key = (char *)"memroy";
	kv.value = (char *)"1G";
	req.settings = kvs;
	req.n_settings = 1;
	assert_int_equal(call(&req, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.text, "did you mean \"memory\""));
	assert_false(there("mobo/machines/%s", "rel")); /* nothing half made stays */
	add.folder = (char *)"/nonexistent";
	assert_int_equal(call(&add, NULL, &err), -ENOENT);
	remove_machine("busy");
}

static void folder_is_unregistered_and_registered(void **state)
{
	Mobo__V1__UnregisterMachine un = MOBO__V1__UNREGISTER_MACHINE__INIT;
	Mobo__V1__RegisterMachine add = MOBO__V1__REGISTER_MACHINE__INIT;
	struct mobo_error err = {0};
	char folder[200];

	must(create("moved", &err), &err);
	un.name = (char *)"moved";
	must(call(&un, NULL, &err), &err);
	assert_null(get("moved"));
	snprintf(folder, sizeof(folder), "%s/mobo/machines/moved", base);
	add.folder = folder;
	must(call(&add, NULL, &err), &err);
	assert_int_equal(call(&add, NULL, &err), -EEXIST);
	assert_int_equal(state_of("moved", NULL, NULL), MOBO__V1__MACHINE_STATE__POWERED_OFF);
	remove_machine("moved");
}

static void settings_are_read_and_changed(void **state)
{
	Mobo__V1__SetSettings set = MOBO__V1__SET_SETTINGS__INIT;
	Mobo__V1__GetSettings ask = MOBO__V1__GET_SETTINGS__INIT;
	Mobo__V1__KeyValue kv = MOBO__V1__KEY_VALUE__INIT, *kvs[] = {&kv};
	Mobo__V1__SetSettingsReply *done;
	Mobo__V1__SettingsReply *all;
	struct mobo_error err = {0};
	bool seen = false;

	must(create("conf", &err), &err);
	set.name = ask.name = (char *)"conf";
	set.settings = kvs;
	set.n_settings = 1;
	kv.key = (char *)"memory";
	kv.value = (char *)"64M";
	must(call(&set, &done, &err), &err);
	assert_int_equal(done->n_next_start, 1);
	assert_string_equal(done->next_start[0], "memory");
	mobo__v1__set_settings_reply__free_unpacked(done, NULL);
	must(call(&ask, &all, &err), &err);
	for (size_t i = 0; i < all->n_settings; i++) {
		if (strcmp(all->settings[i]->key, "memory") == 0) {
			assert_string_equal(all->settings[i]->value, "64M");
			assert_false(all->settings[i]->is_default);
			seen = true;
		}
	}
	assert_true(seen);
	mobo__v1__settings_reply__free_unpacked(all, NULL);
	kv.value = (char *)"1";
	assert_int_equal(call(&set, NULL, &err), -EINVAL);
	/* a new name */
	kv.key = (char *)"name";
	kv.value = (char *)"conf2";
	must(call(&set, NULL, &err), &err);
	assert_null(get("conf"));
	assert_int_equal(state_of("conf2", NULL, NULL), MOBO__V1__MACHINE_STATE__POWERED_OFF);
	remove_machine("conf2");
}

static void broken_settings_make_a_machine_inaccessible(void **state)
{
	struct mobo_error err = {0};
	char path[200], reason[200];
	int fd;

	must(create("broken", &err), &err);
	snprintf(path, sizeof(path), "%s/mobo/machines/broken/machine.conf", base);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "memroy = 1G\n", 12), 12);
	close(fd);
	assert_int_equal(state_of("broken", NULL, reason), MOBO__V1__MACHINE_STATE__INACCESSIBLE);
	assert_non_null(strstr(reason, "machine.conf:6: unknown key \"memroy\""));
	assert_int_equal(start("broken", &err), -EINVAL);
	assert_non_null(strstr(err.text, "memroy"));
	remove_machine("broken");
}

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
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_first_clients_start_one_registry),
		T(machine_is_created_listed_and_deleted),
		T(bad_names_and_folders_are_refused),
		T(folder_is_unregistered_and_registered),
		T(settings_are_read_and_changed),
		T(broken_settings_make_a_machine_inaccessible),
		T(machine_starts_reports_and_stops),
		T(failed_start_says_why),
		T(killed_machine_is_reported_as_crashed),
		T(machines_survive_a_killed_registry),
		T(damaged_index_is_made_again),
		T(transient_machine_leaves_nothing),
		T(states_are_events),
		cmocka_unit_test(idle_registry_ends),
		cmocka_unit_test(registry_takes_a_given_socket),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
