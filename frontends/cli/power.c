/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that take a machine from one state to another. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mobo/v1/event.pb-c.h"

enum {
	START_TIMEOUT_MS = 60000,
	VERB_TIMEOUT_MS = 40000,
	STOP_TIMEOUT_S = 60,
	PROCESS_LOOKS = 300
};
#define PROCESS_LOOK_NS 10000000ull
#define END_TIMEOUT_NS	10000000000ull

int cmd_start(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"paused", 0, NULL, 'p'}, {0}};
	Mobo__V1__StartMachine req = MOBO__V1__START_MACHINE__INIT;
	Mobo__V1__MachineInfo *info = NULL;
	int c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'p') {
			return cli_usage(cli);
		}
		req.paused = true;
	}
	if (optind != argc - 1) {
		return cli_usage(cli);
	}
	req.name = argv[optind];
	status = cli_registry(cli);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->registry, &req.base, START_TIMEOUT_MS,
				  (ProtobufCMessage **)&info);
	}
	if (status == CLI_OK) {
		if (cli->json) {
			cli_print_json(cli_json(&info->base));
		} else {
			printf("%s is %s\n", info->name, cli_state_name(info->state));
		}
	}
	cli_free(info);
	return status;
}

/* The verbs that only name a machine. */
static int simple_verb(struct cli *cli, int argc, char **argv, const ProtobufCMessage *req,
		       const char *done)
{
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = cli_machine(cli, argv[1]);
	if (status == CLI_OK) {
		status = cli_call(cli, cli->machine, req, VERB_TIMEOUT_MS, NULL);
	}
	if (status == CLI_OK) {
		cli_say(cli, done, argv[1]);
	}
	return status;
}

int cmd_pause(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__Pause req = MOBO__V1__PAUSE__INIT;

	return simple_verb(cli, argc, argv, &req.base, "%s is paused");
}

int cmd_resume(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__Resume req = MOBO__V1__RESUME__INIT;

	return simple_verb(cli, argc, argv, &req.base, "%s is running");
}

int cmd_reset(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__Reset req = MOBO__V1__RESET__INIT;

	return simple_verb(cli, argc, argv, &req.base, "%s was reset");
}

int cmd_powerbutton(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__PowerButton req = MOBO__V1__POWER_BUTTON__INIT;

	return simple_verb(cli, argc, argv, &req.base, "pressed the power button of %s");
}

static void on_state(void *arg, const struct mobo_event *ev)
{
	bool *off = arg;
	const Mobo__V1__StateChanged *sc = (const void *)ev->body;

	if (sc && (sc->state == MOBO__V1__MACHINE_STATE__POWERED_OFF ||
		   sc->state == MOBO__V1__MACHINE_STATE__CRASHED)) {
		*off = true;
	}
}

/* The state is told just before the process ends; after this the machine may be deleted at once. */
static void wait_process(struct cli *cli, const char *name)
{
	Mobo__V1__GetMachine req = MOBO__V1__GET_MACHINE__INIT;
	bool never = false, gone = false;

	req.name = (char *)name;
	for (unsigned i = 0; i < PROCESS_LOOKS && !gone && !cli->interrupted; i++) {
		ProtobufCMessage *reply = NULL;

		gone = mobo_bus_call_sync(cli->registry, 0, &req.base, 0, &reply, NULL, NULL) < 0 ||
		       ((Mobo__V1__MachineInfo *)reply)->pid == 0;
		cli_free(reply);
		if (!gone) {
			mobo_loop_run_until(cli->loop, &never,
					    mobo_monotonic_ns() + PROCESS_LOOK_NS);
		}
	}
}

int cli_power_off(struct cli *cli, const char *name)
{
	Mobo__V1__PowerOff req = MOBO__V1__POWER_OFF__INIT;
	Mobo__V1__Code code = MOBO__V1__CODE__OK;
	struct mobo_error err = {0};
	bool off = false;
	char topic[128];

	/* The registry hears of the end when images are closed and may be used again. */
	snprintf(topic, sizeof(topic), "reg.machine.%s.state", name);
	if (mobo_bus_subscribe(cli->registry, topic, 0, on_state, &off, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	/* The machine may be gone before its answer is here: that is no failure. */
	if (mobo_bus_call_sync(cli->machine, 0, &req.base, VERB_TIMEOUT_MS, NULL, &code, &err) <
		    0 &&
	    code != MOBO__V1__CODE__UNAVAILABLE) {
		return cli_fail(cli, CLI_FAILED, "%s", err.text);
	}
	if (!mobo_loop_run_until(cli->loop, &off, mobo_monotonic_ns() + END_TIMEOUT_NS)) {
		return cli_fail(
			cli, CLI_TIMEOUT,
			"%s was told to power off and has not said that it did; `mobo list` "
			"shows its state",
			name);
	}
	wait_process(cli, name);
	return CLI_OK;
}

int cmd_poweroff(struct cli *cli, int argc, char **argv)
{
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = cli_machine(cli, argv[1]);
	if (status == CLI_OK) {
		status = cli_power_off(cli, argv[1]);
	}
	if (status == CLI_OK) {
		cli_say(cli, "%s is powered off", argv[1]);
	}
	return status;
}

int cmd_stop(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"force", 0, NULL, 'f'},
						{"timeout", 1, NULL, 't'},
						{0}};
	Mobo__V1__PowerButton button = MOBO__V1__POWER_BUTTON__INIT;
	struct mobo_error err = {0};
	double timeout = STOP_TIMEOUT_S;
	bool force = false, off = false;
	char topic[128];
	int c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'f': force = true; break;
		case 't':
			if (cli_seconds(cli, optarg, &timeout) != CLI_OK) {
				return CLI_USAGE;
			}
			break;
		default: return cli_usage(cli);
		}
	}
	if (optind != argc - 1) {
		return cli_usage(cli);
	}
	status = cli_machine(cli, argv[optind]);
	if (status != CLI_OK) {
		return status;
	}
	if (!force) {
		/* The registry hears of the end when images are closed and may be used again. */
		snprintf(topic, sizeof(topic), "reg.machine.%s.state", argv[optind]);
		if (mobo_bus_subscribe(cli->registry, topic, 0, on_state, &off, &err) < 0) {
			return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
		}
		status = cli_call(cli, cli->machine, &button.base, 0, NULL);
		if (status != CLI_OK) {
			return status;
		}
		mobo_loop_run_until(cli->loop, &off,
				    mobo_monotonic_ns() + (uint64_t)(timeout * 1e9));
		if (cli->interrupted) {
			return CLI_INTERRUPTED;
		}
		if (off) {
			wait_process(cli, argv[optind]);
			cli_say(cli, "%s shut down", argv[optind]);
			return CLI_OK;
		}
	}
	status = cli_power_off(cli, argv[optind]);
	if (status == CLI_OK) {
		cli_say(cli,
			force ? "%s is powered off"
			      : "%s did not shut down in time and was powered off",
			argv[optind]);
	}
	return status;
}
