/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-registry: the librarian of one user's machines. It knows which there are (index.c), in what
 * state each is and why (machines.c), starts them (spawn.c) and serves clients (verbs.c). Machines
 * outlive it: the next registry finds them (adopt.c).
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "mobo/base.h"
#include "mobo/bus.h"
#include "mobo/log.h"
#include "mobo/loop.h"
#include "mobo/settings.h"
#include "mobo/v1/event.pb-c.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"

enum {
	REASON_MAX = 400,
	NAME_MAX_LEN = 63,
	IDLE_DEFAULT_S = 60,
	START_TIMEOUT_MS = 30000, /* from spawning to the first report */
	ADOPT_TIMEOUT_MS = 1000,
};

struct index;

struct machine {
	struct registry *registry;
	struct machine *next;
	char name[NAME_MAX_LEN + 1];
	char *folder;
	bool transient;
	Mobo__V1__MachineState state;
	char reason[REASON_MAX];
	uint64_t since_ns; /* wall clock */
	char rpc_endpoint[160];

	/* Its mobo-machine, while there is one. */
	int pid; /* 0: none */
	struct mobo_watch *process;
	struct mobo_request *start; /* waits for the first report */
	struct mobo_watch *start_timer;
	bool start_paused;
};

struct registry {
	struct mobo_loop *loop;
	struct mobo_hub *hub;
	struct index *index;
	struct machine *machines;
	struct mobo_watch *idle, *signals[2];
	uint64_t idle_ns;
};

/* -- machines.c -- */
struct machine *machine_find(struct registry *reg, const char *name);
struct machine *machine_find_folder(struct registry *reg, const char *folder);
/* NULL: out of memory. Not in the index yet. */
struct machine *machine_add(struct registry *reg, const char *name, const char *folder,
			    bool transient);
/* Out of the list and of the index; its folder stays. */
void machine_remove(struct machine *m);
bool machine_active(const struct machine *m); /* a process runs, or is being started */
void machine_set_state(struct machine *m, Mobo__V1__MachineState state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What an answer says of a machine; strings point into m and storage. */
struct machine_info {
	Mobo__V1__MachineInfo pb;
	char reason[REASON_MAX];
};
void machine_info(const struct machine *m, struct machine_info *info);
void machine_publish(struct machine *m, const char *verb);
/* Path of the settings file. */
void machine_settings_file(const struct machine *m, char path[PATH_MAX]);
/* Arms or disarms the timer that ends an idle registry. */
void registry_idle_check(struct registry *reg);

/* -- spawn.c -- */
/* Starts mobo-machine and answers r when it has reported; or answers at once. */
void machine_start(struct machine *m, struct mobo_request *r, bool paused);
/* A report of the machine. */
void machine_reported(struct machine *m, const Mobo__V1__ReportState *rep);
/* Watches a process that was not started here. */
/* What the hub of a killed machine left. */
void machine_remove_sockets(const struct machine *m);
void machine_watch(struct machine *m, int pid);

/* -- adopt.c -- */
/* Machines that run already; folders of transient ones that do not are removed. */
void registry_adopt(struct registry *reg);

/* -- folder.c -- */
/* Removes a folder and all in it; for folders that are the registry's own. */
void folder_remove_all(const char *path);
int folder_make(const char *path, struct mobo_error *err); /* with parents, 0700; 0, 1: was there */
/* The files of a machine that are Mobo's; remove: and removes them and what gets empty. */
struct path_list {
	char **paths;
	size_t n;
};
int folder_own_files(const struct machine *m, struct path_list *ret, struct mobo_error *err);
int folder_remove_files(const struct machine *m, const struct path_list *files,
			struct mobo_error *err);
void path_list_free(struct path_list *l);
/* "<runtime dir>/transient/<name>" */
int folder_transient(const char *name, char path[PATH_MAX], struct mobo_error *err);

/* -- index.c: SQLite -- */
/* A broken file is moved aside; *rebuilt says that what is known must be put in again. */
int index_open(struct index **ret, const char *path, bool *rebuilt, struct mobo_error *err);
void index_close(struct index *x);
void index_put(struct index *x, const struct machine *m); /* errors are logged */
void index_delete(struct index *x, const char *name);
/* The disk images of a machine, from its settings. */
void index_put_media(struct index *x, const struct machine *m, const Mobo__V1__Settings *s);
int index_load(struct index *x, struct registry *reg);

/* -- verbs.c -- */
void verbs_serve(struct registry *reg);

#endif
