/* SPDX-License-Identifier: Apache-2.0 */
/* See registry_rig.h. */
#include "registry_rig.h"

#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

char base[64];
struct mobo_loop *loop;
struct mobo_bus *reg;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	remove(path);
	return 0;
}

/* An own set of XDG directories; the directories of this process are cached, so one for all. */
int setup_group(void **state)
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

int teardown_group(void **state)
{
	mobo_loop_destroy(loop);
	nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

void must(int r, const struct mobo_error *err)
{
	if (r < 0) {
		fail_msg("%s", err->text);
	}
}

void connect_registry(void)
{
	struct mobo_error err = {0};

	must(mobo_registry_connect(&reg, loop, "test", true, &err), &err);
}

int registry_pid(void)
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

int setup(void **state)
{
	connect_registry();
	return 0;
}

int teardown(void **state)
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

int call(const void *req, void *reply, struct mobo_error *err)
{
	return mobo_bus_call_sync(reg, 0, req, 10000, reply, NULL, err);
}

int create(const char *name, struct mobo_error *err)
{
	Mobo__V1__CreateMachine req = MOBO__V1__CREATE_MACHINE__INIT;

	req.name = (char *)name;
	return call(&req, NULL, err);
}

int start(const char *name, struct mobo_error *err)
{
	Mobo__V1__StartMachine req = MOBO__V1__START_MACHINE__INIT;

	req.name = (char *)name;
	return call(&req, NULL, err);
}

Mobo__V1__MachineInfo *get(const char *name)
{
	Mobo__V1__GetMachine req = MOBO__V1__GET_MACHINE__INIT;
	Mobo__V1__MachineInfo *info = NULL;

	req.name = (char *)name;
	call(&req, &info, NULL);
	return info;
}

Mobo__V1__MachineState state_of(const char *name, int *pid, char reason[200])
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

void wait_state(const char *name, Mobo__V1__MachineState s)
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

void power_off(const char *name)
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

bool there(const char *fmt, const char *name)
{
	char path[300], rest[200];
	struct stat st;

	snprintf(rest, sizeof(rest), fmt, name);
	snprintf(path, sizeof(path), "%s/%s", base, rest);
	return stat(path, &st) == 0;
}

void remove_machine(const char *name)
{
	Mobo__V1__DeleteMachine req = MOBO__V1__DELETE_MACHINE__INIT;
	struct mobo_error err = {0};

	req.name = (char *)name;
	must(call(&req, NULL, &err), &err);
}
