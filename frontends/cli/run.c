/* SPDX-License-Identifier: Apache-2.0 */
/* `mobo run`: a throw-away machine from options alone, its serial console on stdin and stdout. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "mobo/v1/event.pb-c.h"

enum { START_TIMEOUT_MS = 60000, ESCAPE = 0x1d };
#define REMOVED_WAIT_NS 5000000000ull
#define REOPEN_WAIT_NS	500000000ull

struct run {
	bool ended;
	Mobo__V1__MachineState state;
	char reason[256];
};

static void on_state(void *arg, const struct mobo_event *ev)
{
	struct run *run = arg;
	const Mobo__V1__StateChanged *sc = (const void *)ev->body;

	if (!sc) {
		return;
	}
	run->state = sc->state;
	snprintf(run->reason, sizeof(run->reason), "%s", sc->reason);
	run->ended = sc->state == MOBO__V1__MACHINE_STATE__POWERED_OFF ||
		     sc->state == MOBO__V1__MACHINE_STATE__CRASHED;
}

static int run_create(struct cli *cli, struct cli_settings *s, char *name, size_t len)
{
	Mobo__V1__CreateMachine create = MOBO__V1__CREATE_MACHINE__INIT;
	Mobo__V1__StartMachine start = MOBO__V1__START_MACHINE__INIT;
	Mobo__V1__MachineInfo *info = NULL;
	int status = cli_registry(cli);

	create.name = s->name ? s->name : (char *)"";
	create.folder = "";
	create.settings = s->ptr;
	create.n_settings = s->n;
	create.transient = true;
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &create.base, 0, (ProtobufCMessage **)&info);
	}
	if (status != CLI_OK) {
		return status;
	}
	snprintf(name, len, "%s", info->name);
	cli_free(info);
	/* Paused until the console is connected: not a byte is missed. */
	start.name = name;
	start.paused = true;
	return cli_call(cli, cli->registry, &start.base, START_TIMEOUT_MS, NULL);
}

/* The console closed: the machine is ending, which can take its time, or the port began anew. */
static void await_end(struct cli *cli, struct run *run)
{
	do {
		mobo_loop_run_until(cli->loop, &run->ended, mobo_monotonic_ns() + REOPEN_WAIT_NS);
	} while (!run->ended && run->state == MOBO__V1__MACHINE_STATE__STOPPING &&
		 !cli->interrupted && mobo_bus_connected(cli->machine));
}

/*
 * The console while the guest runs. A port that closes though the machine goes on had its process
 * restarted: it is opened again.
 */
static int run_console(struct cli *cli, struct run *run, const char *name)
{
	Mobo__V1__Resume resume = MOBO__V1__RESUME__INIT;
	enum console_end end;
	bool resumed = false;

	do {
		int fd, status = cli_open_stream(cli, NULL, &fd);

		if (status == CLI_OK && !resumed) {
			status = cli_call(cli, cli->machine, &resume.base, 0, NULL);
			resumed = true;
		}
		if (status != CLI_OK) {
			return status;
		}
		end = console_run(cli, fd, ESCAPE);
		close(fd);
		if (end == CONSOLE_CLOSED) {
			await_end(cli, run);
		}
	} while (end == CONSOLE_CLOSED && !run->ended && !cli->interrupted &&
		 mobo_bus_connected(cli->machine));
	if (end == CONSOLE_CLOSED && !cli->interrupted) {
		return CLI_OK;
	}

	if (cli->interrupted) {
		cli->interrupted = false;
		mobo_loop_run(cli->loop); /* takes the stop back */
	}
	cli_power_off(cli, name);
	return CLI_INTERRUPTED;
}

static void on_registry(void *arg, const struct mobo_event *ev)
{
	const char *verb = strrchr(ev->topic, '.');

	if (verb && strcmp(verb, ".removed") == 0) {
		*(bool *)arg = true;
	}
}

static int run_verdict(struct cli *cli, const struct run *run, const char *name)
{
	if (run->state == MOBO__V1__MACHINE_STATE__POWERED_OFF) {
		return CLI_OK;
	}
	if (run->state == MOBO__V1__MACHINE_STATE__CRASHED) {
		return cli_fail(cli, CLI_FAILED, "%s crashed: %s", name, run->reason);
	}
	return cli_fail(cli, CLI_UNAVAILABLE,
			"%s ended without saying why; its folder was removed, so run it again with "
			"MOBO_LOG=debug",
			name);
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
	struct run run = {0};
	struct cli_settings s;
	struct mobo_error err = {0};
	char name[128] = "", topic[160];
	bool removed = false;
	int at = cli_settings_parse(cli, argc, argv, &s), status;

	if (at < 0) {
		return s.status;
	}
	if (at != argc) {
		cli_settings_free(&s);
		return cli_usage(cli);
	}
	status = run_create(cli, &s, name, sizeof(name));
	cli_settings_free(&s);
	if (status == CLI_OK) {
		status = cli_machine(cli, name);
	}
	if (status != CLI_OK) {
		return status;
	}
	snprintf(topic, sizeof(topic), "reg.machine.%s.", name);
	if (mobo_bus_subscribe(cli->machine, "vm.state", 0, on_state, &run, &err) < 0 ||
	    mobo_bus_subscribe(cli->registry, topic, 0, on_registry, &removed, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	status = run_console(cli, &run, name);
	/* Nothing of it is left when the prompt is back. */
	mobo_loop_run_until(cli->loop, &removed, mobo_monotonic_ns() + REMOVED_WAIT_NS);
	return status == CLI_OK ? run_verdict(cli, &run, name) : status;
}
