/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo, the command line: a bus client and nothing more. Each command is a function of a table
 * (main.c); what several need is in connect.c (registry, machine), output.c (JSON, tables) and
 * options.c (settings from options). One thread.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "mobo/base.h"
#include "mobo/bus.h"
#include "mobo/loop.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"

/* Exit statuses, as in the man page. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_NOT_FOUND = 3,
	CLI_STATE = 4, /* not in this state of the machine */
	CLI_TIMEOUT = 5,
	CLI_UNAVAILABLE = 6, /* nobody answers */
	CLI_INTERRUPTED = 130,
};

struct cli {
	struct mobo_loop *loop;
	struct mobo_bus *registry; /* connected by cli_registry() */
	struct mobo_bus *machine;  /* connected by cli_machine() */
	bool json;
	bool interrupted; /* SIGINT or SIGTERM came: waits end at once */
	const struct cli_command *command;
};

struct cli_command {
	const char *name;    /* one or two words: "disk create" */
	const char *args;    /* "NAME [--force]" */
	const char *summary; /* one line */
	const char *help;    /* options and examples */
	int (*run)(struct cli *cli, int argc,
		   char **argv); /* argv[0] is the command; exit status */
};

extern const struct cli_command cli_commands[];
extern const unsigned n_cli_commands;

/* -- output.c -- */
/* Prints "mobo: ..." on stderr, or {"error": ...} on stdout with --json. Returns `status`, or
 * CLI_INTERRUPTED where the failure only says that we were. */
int cli_fail(struct cli *cli, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The usage of the running command on stderr; CLI_USAGE. */
int cli_usage(struct cli *cli);
/* Any message as JSON: field names as in proto, enums by name, bytes as hex. */
json_object *cli_json(const ProtobufCMessage *msg);
/* Prints and frees. */
void cli_print_json(json_object *obj);
/* With --json prints {"ok":true,...text}; else the text and a newline. */
void cli_say(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The command did what it does silently: {"ok":true} with --json. */
void cli_done(struct cli *cli);
/* Column-aligned rows; cells[rows * columns], first row the headings. */
void cli_table(const char *const *cells, unsigned rows, unsigned columns);
const char *cli_state_name(Mobo__V1__MachineState state); /* "running" */
/* "1.5G" of bytes, into a static buffer per call site's own storage. */
const char *cli_size(char *buf, size_t len, uint64_t bytes);

/* -- connect.c: each prints its error and returns an exit status, CLI_OK on success -- */
int cli_registry(struct cli *cli);
/* Connects to the running machine's own hub. CLI_STATE when it does not run. */
int cli_machine(struct cli *cli, const char *name);
/*
 * What the machine's own process says of it; NULL when none runs or it does not answer, of which
 * nothing is printed. cli_free() frees it.
 */
Mobo__V1__MachineStatus *cli_live(struct cli *cli, const Mobo__V1__MachineInfo *info);
/* Calls and waits; *reply (may be NULL) is to be freed with cli_free(). */
int cli_call(struct cli *cli, struct mobo_bus *bus, const ProtobufCMessage *req,
	     unsigned deadline_ms, ProtobufCMessage **reply);
void cli_free(void *msg);
/* What the registry knows of a machine. */
int cli_machine_info(struct cli *cli, const char *name, Mobo__V1__MachineInfo **info);
/* Redeems a ticket for one descriptor. */
int cli_redeem(struct cli *cli, const ProtobufCBinaryData *ticket, int *fd);
/* Opens the serial stream of the connected machine. device NULL: first port. */
int cli_open_stream(struct cli *cli, const char *device, int *fd);

/* -- options.c -- */
struct cli_settings {
	Mobo__V1__KeyValue kv[128], *ptr[128];
	unsigned n, n_disks;
	char *name, *folder;
	int status; /* exit status when parsing failed */
};
/* Parses the options that create and run share; returns the index of the first other argument, or
 * -1 with the error printed. */
int cli_settings_parse(struct cli *cli, int argc, char **argv, struct cli_settings *s);
void cli_settings_free(struct cli_settings *s);
enum { CLI_MAX_SECONDS = 4000000 }; /* as milliseconds it fits 32 bits */
/* A time in an option; CLI_USAGE with the error printed. */
int cli_seconds(struct cli *cli, const char *text, double *seconds);
extern const char cli_settings_help[];

/* -- power.c -- */
/* Cuts the power of the connected machine and waits until its files are free. */
int cli_power_off(struct cli *cli, const char *name);

/* -- console.c -- */
enum console_end { CONSOLE_LEFT, CONSOLE_CLOSED, CONSOLE_INTERRUPTED };
/* Connects stdin and stdout with fd until the escape key (on a terminal), or the end of fd. */
enum console_end console_run(struct cli *cli, int fd, int escape);

/* -- the commands, one family a file -- */
int cmd_create(struct cli *cli, int argc, char **argv);
int cmd_list(struct cli *cli, int argc, char **argv);
int cmd_show(struct cli *cli, int argc, char **argv);
int cmd_set(struct cli *cli, int argc, char **argv);
int cmd_unset(struct cli *cli, int argc, char **argv);
int cmd_delete(struct cli *cli, int argc, char **argv);
int cmd_register(struct cli *cli, int argc, char **argv);
int cmd_unregister(struct cli *cli, int argc, char **argv);
int cmd_start(struct cli *cli, int argc, char **argv);
int cmd_stop(struct cli *cli, int argc, char **argv);
int cmd_pause(struct cli *cli, int argc, char **argv);
int cmd_resume(struct cli *cli, int argc, char **argv);
int cmd_reset(struct cli *cli, int argc, char **argv);
int cmd_powerbutton(struct cli *cli, int argc, char **argv);
int cmd_poweroff(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_console(struct cli *cli, int argc, char **argv);
int cmd_screenshot(struct cli *cli, int argc, char **argv);
int cmd_screen(struct cli *cli, int argc, char **argv);
int cmd_type(struct cli *cli, int argc, char **argv);
int cmd_key(struct cli *cli, int argc, char **argv);
int cmd_mouse(struct cli *cli, int argc, char **argv);
int cmd_events(struct cli *cli, int argc, char **argv);
int cmd_wait(struct cli *cli, int argc, char **argv);
int cmd_ps(struct cli *cli, int argc, char **argv);
int cmd_log(struct cli *cli, int argc, char **argv);
int cmd_device_list(struct cli *cli, int argc, char **argv);
int cmd_device_regs(struct cli *cli, int argc, char **argv);
int cmd_cpu(struct cli *cli, int argc, char **argv);
int cmd_stats(struct cli *cli, int argc, char **argv);
int cmd_disk_create(struct cli *cli, int argc, char **argv);
int cmd_disk_info(struct cli *cli, int argc, char **argv);
int cmd_disk_resize(struct cli *cli, int argc, char **argv);
int cmd_disk_convert(struct cli *cli, int argc, char **argv);
int cmd_cd_insert(struct cli *cli, int argc, char **argv);
int cmd_cd_eject(struct cli *cli, int argc, char **argv);
int cmd_doctor(struct cli *cli, int argc, char **argv);
int cmd_bench(struct cli *cli, int argc, char **argv);
extern const char bench_help[];
int cmd_debug(struct cli *cli, int argc, char **argv);
extern const char debug_help[];
int cmd_help(struct cli *cli, int argc, char **argv);

#endif
