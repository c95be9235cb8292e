/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new registry looks who is there: machines that run hold the lock of their hub's directory, and
 * are asked. Nothing is taken from the index that they can say themselves.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "registry.h"

enum { DIR_LEN = PATH_MAX + 300 };

/* Does a process hold the lock of this hub's directory? */
static bool hub_lives(const char *dir)
{
	char path[DIR_LEN + 8];
	bool held;
	int fd;

	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		return false;
	}
	held = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

static int lock_pid(const char *dir)
{
	char path[DIR_LEN + 8];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/lock", dir);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%d", &pid) != 1) {
			pid = 0;
		}
		fclose(f);
	}
	return pid;
}

/*
 * Asks the machine itself. NULL with err: it does not answer. On a loop of its own, so that no
 * client is served before the answer is known.
 */
static Mobo__V1__MachineStatus *ask(const char *endpoint, struct mobo_error *err)
{
	struct mobo_bus_options opt = {.endpoint = endpoint,
				       .role = MOBO__V1__ROLE__OPERATOR,
				       .name = "registry"};
	Mobo__V1__GetStatus get = MOBO__V1__GET_STATUS__INIT;
	ProtobufCMessage *reply = NULL;
	struct mobo_loop *loop;
	struct mobo_bus *bus;

	if (mobo_loop_create(&loop) < 0) {
		mobo_error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	if (mobo_bus_connect(&bus, loop, &opt, ADOPT_TIMEOUT_MS, err) == 0) {
		mobo_bus_call_sync(bus, 0, &get.base, ADOPT_TIMEOUT_MS, &reply, NULL, err);
		mobo_bus_close(bus);
	}
	mobo_loop_destroy(loop);
	if (reply && reply->descriptor != &mobo__v1__machine_status__descriptor) {
		protobuf_c_message_free_unpacked(reply, NULL);
		mobo_error_set(err, EPROTO, "it answers what was not asked");
		return NULL;
	}
	return (Mobo__V1__MachineStatus *)reply;
}

static void adopt(struct registry *reg, const char *name, const char *dir)
{
	struct machine *m = machine_find(reg, name);
	struct mobo_error err = {0};
	Mobo__V1__MachineStatus *s;
	char endpoint[DIR_LEN + 16], transient[PATH_MAX];
	int pid = lock_pid(dir);

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	s = ask(endpoint, &err);
	if (!m && s && s->folder[0] == '/' && !machine_find_folder(reg, s->folder)) {
		m = machine_add(reg, name, s->folder,
				folder_transient(name, transient, NULL) == 0 &&
					strcmp(transient, s->folder) == 0);
	}
	if (!m) {
		mobo_warning(
			"process %d runs a machine \"%s\" that is not known and cannot be asked",
			pid, name);
	} else {
		machine_watch(m, s && s->pid ? (int)s->pid : pid);
		snprintf(m->rpc_endpoint, sizeof(m->rpc_endpoint), "%.150s", endpoint);
		if (s) {
			machine_set_state(m, s->state, "%s", s->reason);
		} else {
			machine_set_state(m, MOBO__V1__MACHINE_STATE__STATE_UNKNOWN,
					  "process %d holds it and does not answer: %s", pid,
					  err.text);
		}
		index_put(reg->index, m);
	}
	if (s) {
		mobo__v1__machine_status__free_unpacked(s, NULL);
	}
}

static void adopt_running(struct registry *reg, const char *runtime)
{
	char vms[PATH_MAX], dir[DIR_LEN];
	struct dirent *e;
	DIR *d;

	snprintf(vms, sizeof(vms), "%s/vm", runtime);
	d = opendir(vms);
	while (d && (e = readdir(d))) {
		snprintf(dir, sizeof(dir), "%s/%s", vms, e->d_name);
		if (mobo_settings_name_valid(e->d_name) && hub_lives(dir)) {
			adopt(reg, e->d_name, dir);
		}
	}
	if (d) {
		closedir(d);
	}
}

/* What the index believed to run and does not. */
static void settle_ended(struct registry *reg)
{
	struct machine *m, *next;

	for (m = reg->machines; m; m = next) {
		next = m->next;
		if (m->pid) {
			continue;
		}
		if (m->state != MOBO__V1__MACHINE_STATE__POWERED_OFF) {
			machine_remove_sockets(m);
		}
		if (m->transient) {
			folder_remove_all(m->folder);
			machine_remove(m);
		} else if (m->state != MOBO__V1__MACHINE_STATE__POWERED_OFF &&
			   m->state != MOBO__V1__MACHINE_STATE__CRASHED) {
			machine_set_state(m, MOBO__V1__MACHINE_STATE__POWERED_OFF,
					  "it ended while no registry ran; see its log");
		}
	}
}

/* Folders of transient machines that nobody knows any more. */
static void remove_leftovers(struct registry *reg, const char *runtime)
{
	char all[PATH_MAX], path[PATH_MAX + 300];
	struct dirent *e;
	DIR *d;

	snprintf(all, sizeof(all), "%s/transient", runtime);
	d = opendir(all);
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", all, e->d_name);
		if (e->d_name[0] != '.' && !machine_find_folder(reg, path)) {
			folder_remove_all(path);
		}
	}
	if (d) {
		closedir(d);
	}
}

void registry_adopt(struct registry *reg)
{
	const char *runtime = mobo_dir(MOBO_DIR_RUNTIME, NULL);

	if (runtime) {
		adopt_running(reg, runtime);
		settle_ended(reg);
		remove_leftovers(reg, runtime);
	}
}
