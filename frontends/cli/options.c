/* SPDX-License-Identifier: Apache-2.0 */
/* Options of create and run: each becomes one or more settings. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

const char cli_settings_help[] =
	"  --memory SIZE        guest RAM, 512M or 2G (default 1G)\n"
	"  --cpus N             virtual CPUs (default 1)\n"
	"  --disk FILE          hard disk image, raw or qcow2; may be given again\n"
	"  --cdrom FILE         CD-ROM image; may be given again; '' is an empty drive\n"
	"  --kernel FILE        start this Linux kernel directly\n"
	"  --initrd FILE        its initial RAM disk\n"
	"  --append STRING      its command line\n"
	"  --engine E           auto, translator or interpreter\n"
	"  --firmware FILE      firmware instead of SeaBIOS\n"
	"  --boot ORDER         disk, cdrom, network, comma-separated\n"
	"  --serial BACKEND     console, none, pty, file:PATH, socket:PATH; may be given again\n"
	"  --set KEY=VALUE      any setting; docs/SETTINGS.md or `mobo set NAME` lists them\n";

static bool add(struct cli_settings *s, const char *key, const char *value)
{
	if (s->n == MOBO_ARRAY_LEN(s->kv)) {
		return false;
	}
	mobo__v1__key_value__init(&s->kv[s->n]);
	s->kv[s->n].key = strdup(key);
	s->kv[s->n].value = strdup(value);
	s->ptr[s->n] = &s->kv[s->n];
	s->n++;
	return true;
}

/* Paths in settings are relative to the machine's folder; those of the command line are not. */
static bool add_path(struct cli *cli, struct cli_settings *s, const char *key, const char *file)
{
	char *path = *file ? realpath(file, NULL) : strdup("");
	bool ok;

	if (!path) {
		s->status = cli_fail(cli, CLI_FAILED, "cannot open %s: %s", file, strerror(errno));
		return false;
	}
	ok = add(s, key, path);
	free(path);
	return ok;
}

static bool add_disk(struct cli *cli, struct cli_settings *s, const char *file, bool cdrom,
		     bool *used)
{
	char key[32];
	/* The first CD-ROM is secondary master, as the firmware and its users expect. */
	unsigned unit = cdrom ? 2 : 0;

	for (unsigned tried = 0; tried < 4 && used[unit]; tried++) {
		unit = (unit + 1) % 4;
	}
	if (used[unit]) {
		cli_fail(cli, CLI_USAGE, "four disks and CD-ROMs at most");
		return false;
	}
	used[unit] = true;
	if (cdrom) {
		snprintf(key, sizeof(key), "disk.%u.type", unit);
		if (!add(s, key, "cdrom")) {
			return false;
		}
	}
	snprintf(key, sizeof(key), "disk.%u.file", unit);
	return add_path(cli, s, key, file);
}

static bool add_assignment(struct cli *cli, struct cli_settings *s, const char *text)
{
	const char *eq = strchr(text, '=');
	char key[128];

	if (!eq || eq == text || (size_t)(eq - text) >= sizeof(key)) {
		cli_fail(cli, CLI_USAGE, "--set wants KEY=VALUE, not `%s`", text);
		return false;
	}
	snprintf(key, sizeof(key), "%.*s", (int)(eq - text), text);
	return add(s, key, eq + 1);
}

/* Absolute form of a path that need not exist yet. */
static char *absolute(const char *path)
{
	char cwd[PATH_MAX], *out = NULL;

	if (*path == '/' || !getcwd(cwd, sizeof(cwd))) {
		return strdup(path);
	}
	return asprintf(&out, "%s/%s", cwd, path) < 0 ? NULL : out;
}

int cli_settings_parse(struct cli *cli, int argc, char **argv, struct cli_settings *s)
{
	static const struct option options[] = {
		{"memory", 1, NULL, 'm'}, {"cpus", 1, NULL, 'c'},   {"disk", 1, NULL, 'd'},
		{"cdrom", 1, NULL, 'o'},  {"kernel", 1, NULL, 'k'}, {"initrd", 1, NULL, 'i'},
		{"append", 1, NULL, 'a'}, {"engine", 1, NULL, 'e'}, {"firmware", 1, NULL, 'f'},
		{"boot", 1, NULL, 'b'},	  {"set", 1, NULL, 's'},    {"serial", 1, NULL, 'S'},
		{"name", 1, NULL, 'n'},	  {"folder", 1, NULL, 'F'}, {0},
	};
	bool used[4] = {false}, ok = true;
	unsigned n_serial = 0;
	char key[32];
	int c;

	memset(s, 0, sizeof(*s));
	s->status = CLI_USAGE;
	optind = 0;
	while (ok && (c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 'm': ok = add(s, "memory", optarg); break;
		case 'c': ok = add(s, "cpu.count", optarg); break;
		case 'd': ok = add_disk(cli, s, optarg, false, used); break;
		case 'o': ok = add_disk(cli, s, optarg, true, used); break;
		case 'k': ok = add_path(cli, s, "kernel.file", optarg); break;
		case 'i': ok = add_path(cli, s, "kernel.initrd", optarg); break;
		case 'a': ok = add(s, "kernel.append", optarg); break;
		case 'e': ok = add(s, "cpu.engine", optarg); break;
		case 'f': ok = add_path(cli, s, "firmware.file", optarg); break;
		case 'b': ok = add(s, "boot", optarg); break;
		case 's': ok = add_assignment(cli, s, optarg); break;
		case 'S':
			snprintf(key, sizeof(key), "serial.%u.backend", n_serial++);
			ok = add(s, key, optarg);
			break;
		case 'n': s->name = optarg; break;
		case 'F': s->folder = absolute(optarg); break;
		default: cli_usage(cli); ok = false;
		}
	}
	return ok ? optind : -1;
}

void cli_settings_free(struct cli_settings *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		free(s->kv[i].key);
		free(s->kv[i].value);
	}
	free(s->folder);
}

int cli_seconds(struct cli *cli, const char *text, double *seconds)
{
	char *end;

	*seconds = strtod(text, &end);
	if (end == text || *end || !(*seconds >= 0 && *seconds <= CLI_MAX_SECONDS)) {
		return cli_fail(cli, CLI_USAGE, "`%s` is no number of seconds", text);
	}
	return CLI_OK;
}
