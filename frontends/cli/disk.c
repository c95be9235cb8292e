/* SPDX-License-Identifier: Apache-2.0 */
/* Disk images and media: create, look at, grow, convert; CD-ROMs of a running machine. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "mobo/image.h"
#include "mobo/settings.h"

extern char **environ;

static int parse_size(struct cli *cli, const char *text, uint64_t *size)
{
	if (mobo_settings_parse_size(text, size) < 0 || *size == 0) {
		return cli_fail(cli, CLI_USAGE, "`%s` is no size: use 20G, 512M or bytes", text);
	}
	return CLI_OK;
}

int cmd_disk_create(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"format", 1, NULL, 'f'},
						{"backing", 1, NULL, 'b'},
						{0}};
	struct mobo_image_new what = {.format = MOBO_IMAGE_QCOW2};
	struct mobo_error err = {0};
	char size[16];
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			if (mobo_image_format_parse(optarg, &what.format) < 0 ||
			    what.format > MOBO_IMAGE_QCOW2) {
				return cli_fail(cli, CLI_USAGE, "make raw or qcow2, not `%s`",
						optarg);
			}
			break;
		case 'b': what.backing_file = optarg; break;
		default: return cli_usage(cli);
		}
	}
	if (optind != argc - 2 && !(optind == argc - 1 && what.backing_file)) {
		return cli_usage(cli);
	}
	if (optind == argc - 2) {
		int status = parse_size(cli, argv[optind + 1], &what.size);

		if (status != CLI_OK) {
			return status;
		}
	}
	if (mobo_image_new(argv[optind], &what, &err) < 0) {
		return cli_fail(cli, CLI_FAILED, "%s", err.text);
	}
	cli_say(cli, "created %s (%s, %s)", argv[optind], mobo_image_format_name(what.format),
		what.size ? cli_size(size, sizeof(size), what.size)
			  : "as large as its backing file");
	return CLI_OK;
}

int cmd_disk_info(struct cli *cli, int argc, char **argv)
{
	struct mobo_image_info in;
	struct mobo_error err = {0};
	char a[16], b[16];
	int fd, ret;

	if (argc != 2) {
		return cli_usage(cli);
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return cli_fail(cli, CLI_FAILED, "cannot open %s: %s", argv[1], strerror(errno));
	}
	ret = mobo_image_probe(fd, &in, &err);
	close(fd);
	if (ret < 0) {
		return cli_fail(cli, CLI_FAILED, "%s: %s", argv[1], err.text);
	}
	if (cli->json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "file", json_object_new_string(argv[1]));
		json_object_object_add(o, "format",
				       json_object_new_string(mobo_image_format_name(in.format)));
		json_object_object_add(o, "virtual_size", json_object_new_uint64(in.virtual_size));
		json_object_object_add(o, "allocated", json_object_new_uint64(in.allocated));
		json_object_object_add(o, "cluster_size", json_object_new_int64(in.cluster_size));
		json_object_object_add(o, "snapshots", json_object_new_int64(in.n_snapshots));
		json_object_object_add(o, "backing_file", json_object_new_string(in.backing_file));
		json_object_object_add(o, "dirty", json_object_new_boolean(in.dirty));
		json_object_object_add(o, "corrupt", json_object_new_boolean(in.corrupt));
		cli_print_json(o);
		return CLI_OK;
	}
	printf("file          %s\nformat        %s\nsize          %s (%llu bytes)\n"
	       "on the host   %s\n",
	       argv[1], mobo_image_format_name(in.format), cli_size(a, sizeof(a), in.virtual_size),
	       (unsigned long long)in.virtual_size, cli_size(b, sizeof(b), in.allocated));
	if (in.format == MOBO_IMAGE_QCOW2) {
		printf("version       %u, clusters of %u bytes, %u snapshots%s%s%s\n", in.version,
		       in.cluster_size, in.n_snapshots, in.encrypted ? ", encrypted" : "",
		       in.dirty ? ", dirty" : "", in.corrupt ? ", CORRUPT" : "");
	}
	if (*in.backing_file) {
		printf("backing file  %s\n", in.backing_file);
	}
	return CLI_OK;
}

int cmd_disk_resize(struct cli *cli, int argc, char **argv)
{
	struct mobo_image_info in;
	struct mobo_error err = {0};
	const char *text = argc == 3 ? argv[2] : "";
	uint64_t size;
	char a[16];
	int status;

	if (argc != 3) {
		return cli_usage(cli);
	}
	status = parse_size(cli, text + (*text == '+'), &size);
	if (status != CLI_OK) {
		return status;
	}
	if (*text == '+') {
		int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
		int ret = fd < 0 ? -errno : mobo_image_probe(fd, &in, &err);

		if (fd >= 0) {
			close(fd);
		}
		if (ret < 0) {
			return cli_fail(cli, CLI_FAILED, "%s: %s", argv[1],
					fd < 0 ? strerror(-ret) : err.text);
		}
		size += in.virtual_size;
	}
	if (mobo_image_resize(argv[1], size, &err) < 0) {
		return cli_fail(cli, CLI_FAILED, "%s", err.text);
	}
	cli_say(cli, "%s is %s large now", argv[1], cli_size(a, sizeof(a), size));
	return CLI_OK;
}

/* Conversion knows many formats and is not what Mobo exists for: qemu-img does it. */
int cmd_disk_convert(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"format", 1, NULL, 'f'}, {0}};
	char *format = "qcow2", part[4096];
	char *args[] = {"qemu-img", "convert", "-p", "-O", NULL, NULL, part, NULL};
	pid_t pid;
	int c, ret, wstatus;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'f') {
			return cli_usage(cli);
		}
		format = optarg;
	}
	if (optind != argc - 2) {
		return cli_usage(cli);
	}
	if (access(argv[optind + 1], F_OK) == 0) {
		return cli_fail(cli, CLI_FAILED, "%s exists already", argv[optind + 1]);
	}
	snprintf(part, sizeof(part), "%s.part", argv[optind + 1]);
	args[4] = format;
	args[5] = argv[optind];
	if (cli->json || !isatty(STDOUT_FILENO)) {
		args[2] = "-q";
	}
	ret = posix_spawnp(&pid, args[0], NULL, NULL, args, environ);
	if (ret) {
		return cli_fail(cli, CLI_FAILED,
				"cannot run qemu-img: %s; install the Debian package qemu-utils",
				strerror(ret));
	}
	while (waitpid(pid, &wstatus, 0) < 0 && errno == EINTR) {
	}
	if (wstatus != 0) {
		unlink(part);
		return cli_fail(cli, cli->interrupted ? CLI_INTERRUPTED : CLI_FAILED,
				"%s was not converted", argv[optind]);
	}
	if (rename(part, argv[optind + 1]) < 0) {
		return cli_fail(cli, CLI_FAILED, "cannot name %s: %s", argv[optind + 1],
				strerror(errno));
	}
	cli_say(cli, "%s is %s in %s", argv[optind], argv[optind + 1], format);
	return CLI_OK;
}

static int change_medium(struct cli *cli, const char *name, const char *file, unsigned slot,
			 bool force)
{
	Mobo__V1__ChangeMedium req = MOBO__V1__CHANGE_MEDIUM__INIT;
	char *path = *file ? realpath(file, NULL) : strdup("");
	int status;

	if (!path) {
		return cli_fail(cli, CLI_FAILED, "cannot open %s: %s", file, strerror(errno));
	}
	req.device = "";
	req.slot = slot;
	req.file = path;
	req.force = force;
	status = cli_machine(cli, name);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->machine, &req.base, 0, NULL);
	}
	free(path);
	if (status == CLI_OK) {
		cli_say(cli, *file ? "inserted %s into %s" : "%sejected the CD of %s", file, name);
	}
	return status;
}

static int medium_command(struct cli *cli, int argc, char **argv, bool insert)
{
	static const struct option options[] = {{"unit", 1, NULL, 'u'},
						{"force", 0, NULL, 'f'},
						{0}};
	unsigned slot = 0xffffffff;
	bool force = false;
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'u': slot = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'f': force = true; break;
		default: return cli_usage(cli);
		}
	}
	if (optind != argc - 1 - insert) {
		return cli_usage(cli);
	}
	return change_medium(cli, argv[optind], insert ? argv[optind + 1] : "", slot, force);
}

int cmd_cd_insert(struct cli *cli, int argc, char **argv)
{
	return medium_command(cli, argc, argv, true);
}

int cmd_cd_eject(struct cli *cli, int argc, char **argv)
{
	return medium_command(cli, argc, argv, false);
}
