/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about machines as the registry keeps them: create, list, show, set, delete ... */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

int cmd_create(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__CreateMachine req = MOBO__V1__CREATE_MACHINE__INIT;
	Mobo__V1__MachineInfo *info = NULL;
	struct cli_settings s;
	int at = cli_settings_parse(cli, argc, argv, &s), status;

	if (at < 0) {
		return s.status;
	}
	/* NAME may stand before the options or behind them. */
	if (at == argc - 1 && !s.name) {
		s.name = argv[at];
	} else if (at < argc && s.n == 0 && !s.name) {
		char *name = argv[at], *folder = s.folder;

		status = cli_settings_parse(cli, argc - at, argv + at, &s);
		if (status < 0) {
			return s.status;
		}
		at += status;
		s.name = name;
		s.folder = s.folder ? s.folder : folder;
		at = at < argc ? at - argc : argc;
	}
	if (!s.name || at < 0) {
		cli_settings_free(&s);
		return cli_usage(cli);
	}
	req.name = s.name;
	req.folder = s.folder ? s.folder : (char *)"";
	req.settings = s.ptr;
	req.n_settings = s.n;
	status = cli_registry(cli);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req.base, 0, (ProtobufCMessage **)&info);
	}
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&info->base));
	} else if (status == CLI_OK) {
		printf("created %s in %s\n", info->name, info->folder);
	}
	cli_free(info);
	cli_settings_free(&s);
	return status;
}

int cmd_list(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__ListMachines req = MOBO__V1__LIST_MACHINES__INIT;
	Mobo__V1__MachineList *list = NULL;
	const char **cells;
	char(*mem)[16];
	int status = cli_registry(cli);

	(void)argv;
	if (argc > 1) {
		return cli_usage(cli);
	}
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req.base, 0, (ProtobufCMessage **)&list);
	}
	if (status != CLI_OK) {
		return status;
	}
	if (cli->json) {
		cli_print_json(cli_json(&list->base));
		cli_free(list);
		return CLI_OK;
	}
	cells = calloc((list->n_machines + 1) * 5, sizeof(*cells));
	mem = calloc(list->n_machines + 1, sizeof(*mem));
	MOBO_ASSERT(cells && mem);
	memcpy(cells, (const char *[]){"NAME", "STATE", "MEMORY", "REASON", "FOLDER"},
	       5 * sizeof(*cells));
	for (size_t i = 0; i < list->n_machines; i++) {
		const Mobo__V1__MachineInfo *in = list->machines[i];
		const char **row = cells + (i + 1) * 5;

		row[0] = in->name;
		row[1] = cli_state_name(in->state);
		row[2] = in->memory ? cli_size(mem[i], sizeof(mem[i]), in->memory) : "-";
		row[3] = *in->reason ? in->reason : "-";
		row[4] = in->folder;
	}
	if (list->n_machines) {
		cli_table(cells, (unsigned)list->n_machines + 1, 5);
	} else {
		puts("no machines; `mobo create NAME --disk FILE` makes one");
	}
	free(cells);
	free(mem);
	cli_free(list);
	return CLI_OK;
}

static void show_json(const Mobo__V1__MachineInfo *info, const Mobo__V1__MachineStatus *st,
		      const Mobo__V1__SettingsReply *set)
{
	json_object *o = cli_json(&info->base);

	if (st) {
		json_object_object_add(o, "live", cli_json(&st->base));
	}
	if (set) {
		json_object_object_add(o, "settings", cli_json(&set->base));
	}
	cli_print_json(o);
}

static void show_text(const Mobo__V1__MachineInfo *info, const Mobo__V1__MachineStatus *st,
		      const Mobo__V1__SettingsReply *set)
{
	printf("name         %s\nfolder       %s\nstate        %s%s%s%s\n", info->name,
	       info->folder, cli_state_name(info->state), *info->reason ? " (" : "", info->reason,
	       *info->reason ? ")" : "");
	if (st) {
		printf("engine       %s (%s)\n", st->engine, st->engine_reason);
		printf("guest time   %.3f s\n", (double)st->vtime_ns / 1e9);
		printf("pid          %u\n", st->pid);
	}
	for (size_t i = 0; set && i < set->n_settings; i++) {
		const Mobo__V1__Setting *s = set->settings[i];

		if (!s->is_default) {
			printf("%-24s = %s\n", s->key, s->value);
		}
	}
}

int cmd_show(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__GetSettings req = MOBO__V1__GET_SETTINGS__INIT;
	Mobo__V1__SettingsReply *set = NULL;
	Mobo__V1__MachineInfo *info = NULL;
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = cli_machine_info(cli, argv[1], &info);
	if (status != CLI_OK) {
		return status;
	}
	req.name = argv[1];
	if (info->state != MOBO__V1__MACHINE_STATE__INACCESSIBLE) {
		status = cli_call(cli, cli->registry, &req.base, 0, (ProtobufCMessage **)&set);
	}
	if (status == CLI_OK) {
		Mobo__V1__MachineStatus *st = cli_live(cli, info);

		(cli->json ? show_json : show_text)(info, st, set);
		cli_free(st);
	}
	cli_free(set);
	cli_free(info);
	return status;
}

static void list_settings(struct cli *cli, const Mobo__V1__SettingsReply *set)
{
	for (size_t i = 0; i < set->n_settings; i++) {
		const Mobo__V1__Setting *s = set->settings[i];

		printf("%-24s = %-16s %s%s%s\n", s->key, s->value,
		       s->is_default ? "(default) " : "", s->live ? "(live) " : "", s->doc);
	}
}

static int set_settings(struct cli *cli, Mobo__V1__SetSettings *req)
{
	Mobo__V1__SetSettingsReply *reply = NULL;
	int status = cli_registry(cli);

	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req->base, 0, (ProtobufCMessage **)&reply);
	}
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&reply->base));
	} else if (status == CLI_OK) {
		for (size_t i = 0; i < reply->n_applied_live; i++) {
			printf("%s applied\n", reply->applied_live[i]);
		}
		for (size_t i = 0; i < reply->n_next_start; i++) {
			printf("%s applies at the next start\n", reply->next_start[i]);
		}
	}
	cli_free(reply);
	return status;
}

int cmd_set(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__GetSettings get = MOBO__V1__GET_SETTINGS__INIT;
	Mobo__V1__SetSettings req = MOBO__V1__SET_SETTINGS__INIT;
	Mobo__V1__SettingsReply *set = NULL;
	Mobo__V1__KeyValue kv[64], *ptr[64];
	int status;

	if (argc < 2 || argc - 2 > (int)MOBO_ARRAY_LEN(kv)) {
		return cli_usage(cli);
	}
	if (argc == 2) {
		get.name = argv[1];
		status = cli_registry(cli);
		if (status == CLI_OK) {
			status = cli_call(cli, cli->registry, &get.base, 0,
					  (ProtobufCMessage **)&set);
		}
		if (status == CLI_OK && cli->json) {
			cli_print_json(cli_json(&set->base));
		} else if (status == CLI_OK) {
			list_settings(cli, set);
		}
		cli_free(set);
		return status;
	}
	for (int i = 2; i < argc; i++) {
		char *eq = strchr(argv[i], '=');

		if (!eq) {
			return cli_fail(cli, CLI_USAGE, "want KEY=VALUE, not `%s`", argv[i]);
		}
		*eq = '\0';
		ptr[i - 2] = &kv[i - 2];
		mobo__v1__key_value__init(ptr[i - 2]);
		kv[i - 2].key = argv[i];
		kv[i - 2].value = eq + 1;
	}
	req.name = argv[1];
	req.settings = ptr;
	req.n_settings = (size_t)argc - 2;
	return set_settings(cli, &req);
}

int cmd_unset(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__SetSettings req = MOBO__V1__SET_SETTINGS__INIT;

	if (argc < 3) {
		return cli_usage(cli);
	}
	req.name = argv[1];
	req.unset = argv + 2;
	req.n_unset = (size_t)argc - 2;
	return set_settings(cli, &req);
}

int cmd_delete(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"yes", 0, NULL, 'y'},
						{"dry-run", 0, NULL, 'n'},
						{0}};
	Mobo__V1__DeleteMachine req = MOBO__V1__DELETE_MACHINE__INIT;
	Mobo__V1__DeletedFiles *files = NULL;
	bool yes = false, dry = false;
	int c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'y': yes = true; break;
		case 'n': dry = true; break;
		default: return cli_usage(cli);
		}
	}
	if (optind != argc - 1) {
		return cli_usage(cli);
	}
	req.name = argv[optind];
	req.dry_run = dry || !yes;
	status = cli_registry(cli);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req.base, 0, (ProtobufCMessage **)&files);
	}
	if (status != CLI_OK) {
		return status;
	}
	if (!yes && !dry && !cli->json && isatty(0)) {
		char answer[16] = "";

		for (size_t i = 0; i < files->n_paths; i++) {
			printf("%s\n", files->paths[i]);
		}
		printf("delete these %zu files? [y/N] ", files->n_paths);
		fflush(stdout);
		yes = fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
		if (yes) {
			cli_free(files);
			files = NULL;
			req.dry_run = false;
			status = cli_call(cli, cli->registry, &req.base, 0,
					  (ProtobufCMessage **)&files);
		}
	} else if (!yes && !dry) {
		cli_free(files);
		return cli_fail(cli, CLI_USAGE,
				"deleting %s removes files: say --yes, or --dry-run to see which",
				argv[optind]);
	} else if (cli->json) {
		cli_print_json(cli_json(&files->base));
	} else {
		for (size_t i = 0; i < files->n_paths; i++) {
			printf("%s%s\n", dry ? "would delete " : "deleted ", files->paths[i]);
		}
	}
	cli_free(files);
	return status;
}

int cmd_register(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__RegisterMachine req = MOBO__V1__REGISTER_MACHINE__INIT;
	Mobo__V1__MachineInfo *info = NULL;
	char *path;
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	path = realpath(argv[1], NULL);
	if (!path) {
		return cli_fail(cli, CLI_FAILED, "there is no folder %s", argv[1]);
	}
	req.folder = path;
	status = cli_registry(cli);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req.base, 0, (ProtobufCMessage **)&info);
	}
	if (status == CLI_OK) {
		if (cli->json) {
			cli_print_json(cli_json(&info->base));
		} else {
			printf("registered %s\n", info->name);
		}
	}
	cli_free(info);
	free(path);
	return status;
}

int cmd_unregister(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__UnregisterMachine req = MOBO__V1__UNREGISTER_MACHINE__INIT;
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	req.name = argv[1];
	status = cli_registry(cli);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req.base, 0, NULL);
	}
	if (status == CLI_OK) {
		cli_say(cli, "unregistered %s; its files stay", argv[1]);
	}
	return status;
}
