/* SPDX-License-Identifier: Apache-2.0 */
/* What clients and machines may ask: the verbs of registry.proto. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry.h"

enum { CHANGES_MAX = 256 };

static struct machine *find_or_refuse(struct registry *reg, struct mobo_request *r,
				      const char *name)
{
	struct machine *m = machine_find(reg, name);

	if (!m) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
				 "no machine \"%.64s\"; `mobo list` shows those there are", name);
	}
	return m;
}

static bool off_or_refuse(const struct machine *m, struct mobo_request *r, const char *verb)
{
	if (machine_active(m)) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "%s runs: stop it before you %s it", m->name, verb);
		return false;
	}
	return true;
}

static void reply_machine(struct machine *m, struct mobo_request *r)
{
	struct machine_info info;

	machine_info(m, &info);
	mobo_reply(r, &info.pb.base);
}

/* -- Creating -- */

static int random_uuid(char text[37])
{
	uint8_t u[16];

	if (getrandom(u, sizeof(u), 0) != sizeof(u)) {
		return -EIO;
	}
	u[6] = (uint8_t)((u[6] & 0x0f) | 0x40); /* RFC 4122: version 4, random */
	u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
	snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		 u[13], u[14], u[15]);
	return 0;
}

static void transient_name(struct registry *reg, char name[NAME_MAX_LEN + 1])
{
	uint32_t n;

	do {
		if (getrandom(&n, sizeof(n), 0) != sizeof(n)) {
			n = (uint32_t)mobo_monotonic_ns();
		}
		snprintf(name, NAME_MAX_LEN + 1, "run-%06x", n & 0xffffff);
	} while (machine_find(reg, name));
}

static int choose_folder(const Mobo__V1__CreateMachine *req, const char *name, char path[PATH_MAX],
			 struct mobo_error *err)
{
	const char *data;

	if (req->folder[0]) {
		snprintf(path, PATH_MAX, "%.*s", PATH_MAX - 1, req->folder);
		return req->folder[0] == '/'
			       ? 0
			       : mobo_error_set(err, EINVAL,
						"the folder must be an absolute path, not "
						"\"%.200s\"",
						req->folder);
	}
	if (req->transient) {
		return folder_transient(name, path, err);
	}
	data = mobo_dir(MOBO_DIR_DATA, err);
	if (!data) {
		return -EIO;
	}
	snprintf(path, PATH_MAX, "%s/machines/%s", data, name);
	return 0;
}

static int write_settings(const Mobo__V1__CreateMachine *req, const char *name, const char *file,
			  struct mobo_error *err)
{
	struct mobo_settings_change c[CHANGES_MAX + 2];
	size_t n = 0;
	char uuid[37];

	if (req->n_settings > CHANGES_MAX) {
		return mobo_error_set(err, E2BIG, "more than %d settings at once", CHANGES_MAX);
	}
	if (random_uuid(uuid) < 0) {
		return mobo_error_set(err, EIO, "the system gives no random numbers");
	}
	c[n++] = (struct mobo_settings_change){"name", name};
	c[n++] = (struct mobo_settings_change){"uuid", uuid};
	for (size_t i = 0; i < req->n_settings; i++) {
		const Mobo__V1__KeyValue *kv = req->settings[i];

		if (strcmp(kv->key, "name") != 0 || strcmp(kv->value, name) != 0) {
			c[n++] = (struct mobo_settings_change){kv->key, kv->value};
		}
		if (strcmp(kv->key, "name") == 0 && strcmp(kv->value, name) != 0) {
			return mobo_error_set(err, EINVAL, "the machine's name is given twice");
		}
	}
	return mobo_settings_create(file, c, n, err);
}

static int create(struct registry *reg, const Mobo__V1__CreateMachine *req, const char *name,
		  struct machine **ret, struct mobo_error *err)
{
	char folder[PATH_MAX], file[PATH_MAX];
	struct stat st;
	int r, existed;

	r = choose_folder(req, name, folder, err);
	if (r < 0) {
		return r;
	}
	if (mobo_settings_path(folder, MOBO_SETTINGS_FILE, file, sizeof(file)) < 0) {
		return mobo_error_set(err, ENAMETOOLONG, "the folder's path is too long");
	}
	if (machine_find_folder(reg, folder) || lstat(file, &st) == 0) {
		return mobo_error_set(err, EEXIST,
				      "%s is there already; `mobo register %s` adopts it", file,
				      folder);
	}
	existed = folder_make(folder, err);
	if (existed < 0) {
		return existed;
	}
	r = write_settings(req, name, file, err);
	if (r == 0) {
		*ret = machine_add(reg, name, folder, req->transient);
		r = *ret ? 0 : mobo_error_set(err, ENOMEM, "out of memory");
		if (r < 0) {
			unlink(file);
		}
	}
	if (r < 0 && !existed) {
		rmdir(folder);
	}
	return r;
}

static void known(struct machine *m)
{
	Mobo__V1__Settings *s;
	char file[PATH_MAX];

	index_put(m->registry->index, m);
	machine_settings_file(m, file);
	if (mobo_settings_load(file, &s, NULL) == 0) {
		index_put_media(m->registry->index, m, s);
		mobo_settings_free(s);
	}
	machine_publish(m, "created");
}

static void serve_create(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__CreateMachine *req = (const Mobo__V1__CreateMachine *)body;
	struct registry *reg = arg;
	char name[NAME_MAX_LEN + 1] = "";
	struct mobo_error err = {0};
	struct machine *m;

	if (!req->name[0] && req->transient) {
		transient_name(reg, name);
	} else if (!mobo_settings_name_valid(req->name)) {
		mobo_reply_error(
			r, MOBO__V1__CODE__INVALID_ARGUMENT,
			"\"%.64s\" is no name: take 1 to 63 letters, digits, '-', '_', '.'",
			req->name);
		return;
	} else {
		strcpy(name, req->name);
	}
	if (machine_find(reg, name)) {
		mobo_reply_error(r, MOBO__V1__CODE__ALREADY_EXISTS,
				 "there is a machine \"%s\" already: choose another name", name);
		return;
	}
	if (create(reg, req, name, &m, &err) < 0) {
		mobo_reply_errno(r, &err);
		return;
	}
	known(m);
	reply_machine(m, r);
}

/* -- Looking -- */

static void serve_list(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct registry *reg = arg;
	Mobo__V1__MachineList list = MOBO__V1__MACHINE_LIST__INIT;
	struct machine_info *infos;
	size_t n = 0;

	for (struct machine *m = reg->machines; m; m = m->next) {
		n++;
	}
	infos = calloc(n + 1, sizeof(*infos));
	list.machines = calloc(n + 1, sizeof(*list.machines));
	if (!infos || !list.machines) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "out of memory");
	} else {
		for (struct machine *m = reg->machines; m; m = m->next) {
			machine_info(m, &infos[list.n_machines]);
			list.machines[list.n_machines] = &infos[list.n_machines].pb;
			list.n_machines++;
		}
		mobo_reply(r, &list.base);
	}
	free(infos);
	free(list.machines);
}

static void serve_get(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = find_or_refuse(arg, r, ((const Mobo__V1__GetMachine *)body)->name);

	if (m) {
		reply_machine(m, r);
	}
}

/* -- Registering, unregistering, deleting -- */

static void serve_register(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__RegisterMachine *req = (const Mobo__V1__RegisterMachine *)body;
	char folder[PATH_MAX], file[PATH_MAX], name[NAME_MAX_LEN + 1];
	struct registry *reg = arg;
	struct mobo_error err = {0};
	Mobo__V1__Settings *s;
	struct machine *m;

	if (req->folder[0] != '/' || !realpath(req->folder, folder)) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND, "no folder %.300s: %s", req->folder,
				 req->folder[0] != '/' ? "an absolute path is needed"
						       : strerror(errno));
		return;
	}
	m = machine_find_folder(reg, folder);
	if (m) {
		mobo_reply_error(r, MOBO__V1__CODE__ALREADY_EXISTS,
				 "%s is the folder of machine \"%s\"", folder, m->name);
		return;
	}
	if (mobo_settings_path(folder, MOBO_SETTINGS_FILE, file, sizeof(file)) < 0 ||
	    mobo_settings_load(file, &s, &err) < 0) {
		mobo_reply_errno(r, &err);
		return;
	}
	snprintf(name, sizeof(name), "%s", s->name[0] ? s->name : strrchr(folder, '/') + 1);
	mobo_settings_free(s);
	if (!mobo_settings_name_valid(name)) {
		mobo_reply_error(r, MOBO__V1__CODE__INVALID_ARGUMENT,
				 "%s gives no name and the folder's is none: add `name = ...`",
				 file);
	} else if (machine_find(reg, name)) {
		mobo_reply_error(r, MOBO__V1__CODE__ALREADY_EXISTS,
				 "there is a machine \"%s\" already: change `name` in %s", name,
				 file);
	} else if (!(m = machine_add(reg, name, folder, false))) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "out of memory");
	} else {
		known(m);
		reply_machine(m, r);
	}
}

static void serve_unregister(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m =
		find_or_refuse(arg, r, ((const Mobo__V1__UnregisterMachine *)body)->name);

	if (m && off_or_refuse(m, r, "unregister")) {
		machine_remove(m);
		mobo_reply(r, NULL);
	}
}

static void serve_delete(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeleteMachine *req = (const Mobo__V1__DeleteMachine *)body;
	struct machine *m = find_or_refuse(arg, r, req->name);
	Mobo__V1__DeletedFiles reply = MOBO__V1__DELETED_FILES__INIT;
	struct path_list files = {0};
	struct mobo_error err = {0};

	if (!m || !off_or_refuse(m, r, "delete")) {
		return;
	}
	if (folder_own_files(m, &files, &err) < 0 ||
	    (!req->dry_run && folder_remove_files(m, &files, &err) < 0)) {
		mobo_reply_errno(r, &err);
	} else {
		if (!req->dry_run) {
			machine_remove(m);
		}
		reply.paths = files.paths;
		reply.n_paths = files.n;
		mobo_reply(r, &reply.base);
	}
	path_list_free(&files);
}

/* -- Settings -- */

static void serve_get_settings(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = find_or_refuse(arg, r, ((const Mobo__V1__GetSettings *)body)->name);
	Mobo__V1__SettingsReply reply = MOBO__V1__SETTINGS_REPLY__INIT;
	struct mobo_settings_list list;
	struct mobo_error err = {0};
	Mobo__V1__Setting *settings;
	char file[PATH_MAX];

	if (!m) {
		return;
	}
	machine_settings_file(m, file);
	if (mobo_settings_list(file, &list, &err) < 0) {
		mobo_reply_errno(r, &err);
		return;
	}
	settings = calloc(list.n + 1, sizeof(*settings));
	reply.settings = calloc(list.n + 1, sizeof(*reply.settings));
	if (!settings || !reply.settings) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED, "out of memory");
	} else {
		for (size_t i = 0; i < list.n; i++) {
			mobo__v1__setting__init(&settings[i]);
			settings[i].key = list.items[i].key;
			settings[i].value = list.items[i].value;
			settings[i].is_default = list.items[i].is_default;
			settings[i].live = list.items[i].info->live;
			settings[i].doc = (char *)list.items[i].info->doc;
			reply.settings[reply.n_settings++] = &settings[i];
		}
		reply.file = file;
		mobo_reply(r, &reply.base);
	}
	free(settings);
	free(reply.settings);
	mobo_settings_list_free(&list);
}

/* The name is the registry's key too. */
static int rename_machine(struct machine *m, const char *name, struct mobo_error *err)
{
	struct registry *reg = m->registry;
	struct machine *renamed;

	if (machine_active(m)) {
		return mobo_error_set(err, EBUSY, "%s runs: stop it before you rename it", m->name);
	}
	if (!mobo_settings_name_valid(name)) {
		return mobo_error_set(err, EINVAL, "\"%.64s\" is no name for a machine", name);
	}
	if (machine_find(reg, name)) {
		return mobo_error_set(err, EEXIST, "there is a machine \"%s\" already", name);
	}
	renamed = machine_add(reg, name, m->folder, m->transient);
	if (!renamed) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	renamed->state = m->state;
	renamed->since_ns = m->since_ns;
	strcpy(renamed->reason, m->reason);
	machine_remove(m);
	known(renamed);
	return 0;
}

struct change_set {
	struct mobo_settings_change c[CHANGES_MAX];
	size_t n;
	const char *new_name; /* NULL: stays */
};

static int collect_changes(const Mobo__V1__SetSettings *req, struct change_set *set,
			   const struct machine *m, struct mobo_error *err)
{
	if (req->n_settings + req->n_unset > CHANGES_MAX) {
		return mobo_error_set(err, E2BIG, "more than %d settings at once", CHANGES_MAX);
	}
	for (size_t i = 0; i < req->n_settings; i++) {
		const Mobo__V1__KeyValue *kv = req->settings[i];

		if (strcmp(kv->key, "name") == 0 && strcmp(kv->value, m->name) != 0) {
			set->new_name = kv->value;
		}
		set->c[set->n++] = (struct mobo_settings_change){kv->key, kv->value};
	}
	for (size_t i = 0; i < req->n_unset; i++) {
		if (strcmp(req->unset[i], "name") == 0) {
			return mobo_error_set(err, EINVAL, "a machine needs its name");
		}
		set->c[set->n++] = (struct mobo_settings_change){req->unset[i], NULL};
	}
	if (set->new_name && machine_active(m)) {
		return mobo_error_set(err, EBUSY, "%s runs: stop it before you rename it", m->name);
	}
	if (set->new_name && machine_find(m->registry, set->new_name)) {
		return mobo_error_set(err, EEXIST, "there is a machine \"%.63s\" already",
				      set->new_name);
	}
	return 0;
}

static void reply_changes(struct mobo_request *r, const struct change_set *set, bool active)
{
	Mobo__V1__SetSettingsReply reply = MOBO__V1__SET_SETTINGS_REPLY__INIT;
	char *live[CHANGES_MAX], *next[CHANGES_MAX];

	reply.applied_live = live;
	reply.next_start = next;
	for (size_t i = 0; i < set->n; i++) {
		const struct mobo_setting_info *info = mobo_settings_find(set->c[i].key);

		if (active && info && info->live) {
			live[reply.n_applied_live++] = (char *)set->c[i].key;
		} else {
			next[reply.n_next_start++] = (char *)set->c[i].key;
		}
	}
	mobo_reply(r, &reply.base);
}

static void serve_set_settings(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__SetSettings *req = (const Mobo__V1__SetSettings *)body;
	struct machine *m = find_or_refuse(arg, r, req->name);
	struct change_set set = {.n = 0};
	struct mobo_error err = {0};
	Mobo__V1__Settings *s;
	char file[PATH_MAX];
	bool active;

	if (!m) {
		return;
	}
	machine_settings_file(m, file);
	if (collect_changes(req, &set, m, &err) < 0 ||
	    mobo_settings_change(file, set.c, set.n, &err) < 0) {
		mobo_reply_errno(r, &err);
		return;
	}
	active = machine_active(m);
	if (set.new_name) {
		if (rename_machine(m, set.new_name, &err) < 0) {
			mobo_reply_errno(r, &err);
			return;
		}
		m = machine_find(arg, set.new_name);
	} else if (mobo_settings_load(file, &s, NULL) == 0) {
		index_put_media(m->registry->index, m, s);
		mobo_settings_free(s);
	}
	machine_publish(m, "settings");
	reply_changes(r, &set, active);
}

/* -- Running -- */

static void serve_start(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__StartMachine *req = (const Mobo__V1__StartMachine *)body;
	struct machine *m = find_or_refuse(arg, r, req->name);

	if (m) {
		machine_start(m, r, req->paused);
	}
}

static void serve_report(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__ReportState *rep = (const Mobo__V1__ReportState *)body;
	struct registry *reg = arg;
	struct machine *m = machine_find(reg, rep->name);

	if (mobo_request_role(r) != MOBO__V1__ROLE__MACHINE) {
		mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED,
				 "only a machine reports its state");
		return;
	}
	/* Started by hand, or the index was lost. */
	if (!m && mobo_settings_name_valid(rep->name) && rep->folder[0] == '/' &&
	    !machine_find_folder(reg, rep->folder)) {
		m = machine_add(reg, rep->name, rep->folder, rep->transient);
		if (m) {
			known(m);
		}
	}
	if (!m) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND, "no machine \"%.64s\"", rep->name);
		return;
	}
	machine_reported(m, rep);
	mobo_reply(r, NULL);
}

void verbs_serve(struct registry *reg)
{
	static const struct {
		uint32_t type;
		mobo_handler *fn;
	} verbs[] = {
		{MOBO__V1__TYPE__CREATE_MACHINE, serve_create},
		{MOBO__V1__TYPE__LIST_MACHINES, serve_list},
		{MOBO__V1__TYPE__GET_MACHINE, serve_get},
		{MOBO__V1__TYPE__REGISTER_MACHINE, serve_register},
		{MOBO__V1__TYPE__UNREGISTER_MACHINE, serve_unregister},
		{MOBO__V1__TYPE__DELETE_MACHINE, serve_delete},
		{MOBO__V1__TYPE__START_MACHINE, serve_start},
		{MOBO__V1__TYPE__GET_SETTINGS, serve_get_settings},
		{MOBO__V1__TYPE__SET_SETTINGS, serve_set_settings},
		{MOBO__V1__TYPE__REPORT_STATE, serve_report},
	};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(verbs); i++) {
		mobo_hub_serve(reg->hub, verbs[i].type, verbs[i].fn, reg);
	}
}
