/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry's list of machines: they are created, registered, set, deleted, and what is wrong
 * with them is said.
 */
#include "registry_rig.h"

#include <fcntl.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(machine_is_created_listed_and_deleted),
		T(bad_names_and_folders_are_refused),
		T(folder_is_unregistered_and_registered),
		T(settings_are_read_and_changed),
		T(broken_settings_make_a_machine_inaccessible),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
