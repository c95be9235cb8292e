/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's connections: the registry (started where it does not run) and machines. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "mobo/registry.h"

enum { CONNECT_TIMEOUT_MS = 3000 };

static int status_of(Mobo__V1__Code code)
{
	switch (code) {
	case MOBO__V1__CODE__NOT_FOUND: return CLI_NOT_FOUND;
	case MOBO__V1__CODE__FAILED_PRECONDITION: return CLI_STATE;
	case MOBO__V1__CODE__DEADLINE_EXCEEDED: return CLI_TIMEOUT;
	case MOBO__V1__CODE__UNAVAILABLE: return CLI_UNAVAILABLE;
	default: return CLI_FAILED;
	}
}

int cli_registry(struct cli *cli)
{
	struct mobo_error err = {0};

	if (cli->registry) {
		return CLI_OK;
	}
	if (mobo_registry_connect(&cli->registry, cli->loop, "cli", true, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	return CLI_OK;
}

int cli_call(struct cli *cli, struct mobo_bus *bus, const ProtobufCMessage *req,
	     unsigned deadline_ms, ProtobufCMessage **reply)
{
	Mobo__V1__Code code = MOBO__V1__CODE__UNKNOWN;
	struct mobo_error err = {0};

	if (mobo_bus_call_sync(bus, 0, req, deadline_ms, reply, &code, &err) < 0) {
		return cli_fail(cli, status_of(code), "%s", err.text);
	}
	return CLI_OK;
}

void cli_free(void *msg)
{
	if (msg) {
		protobuf_c_message_free_unpacked(msg, NULL);
	}
}

int cli_machine_info(struct cli *cli, const char *name, Mobo__V1__MachineInfo **info)
{
	Mobo__V1__GetMachine req = MOBO__V1__GET_MACHINE__INIT;
	int status = cli_registry(cli);

	if (status) {
		return status;
	}
	req.name = (char *)name;
	return cli_call(cli, cli->registry, &req.base, 0, (ProtobufCMessage **)info);
}

int cli_machine(struct cli *cli, const char *name)
{
	Mobo__V1__MachineInfo *info = NULL;
	struct mobo_error err = {0};
	int status = cli_machine_info(cli, name, &info);

	if (status) {
		return status;
	}
	if (!*info->rpc_endpoint) {
		status =
			cli_fail(cli, CLI_STATE, "%s is %s, not running; `mobo start %s` starts it",
				 name, cli_state_name(info->state), name);
	} else {
		struct mobo_bus_options opt = {
			.endpoint = info->rpc_endpoint,
			.role = MOBO__V1__ROLE__OPERATOR,
			.name = "cli",
		};

		if (mobo_bus_connect(&cli->machine, cli->loop, &opt, CONNECT_TIMEOUT_MS, &err) <
		    0) {
			status = cli_fail(cli, CLI_UNAVAILABLE, "%s does not answer: %s", name,
					  err.text);
		}
	}
	cli_free(info);
	return status;
}

Mobo__V1__MachineStatus *cli_live(struct cli *cli, const Mobo__V1__MachineInfo *info)
{
	Mobo__V1__GetStatus req = MOBO__V1__GET_STATUS__INIT;
	Mobo__V1__MachineStatus *status = NULL;
	Mobo__V1__Code code;
	struct mobo_error err = {0};
	struct mobo_bus_options opt = {
		.endpoint = info->rpc_endpoint,
		.role = MOBO__V1__ROLE__OPERATOR,
		.name = "cli",
	};

	if (!*info->rpc_endpoint ||
	    mobo_bus_connect(&cli->machine, cli->loop, &opt, CONNECT_TIMEOUT_MS, &err) < 0 ||
	    mobo_bus_call_sync(cli->machine, 0, &req.base, 0, (ProtobufCMessage **)&status, &code,
			       &err) < 0) {
		return NULL;
	}
	return status;
}

int cli_redeem(struct cli *cli, const ProtobufCBinaryData *ticket, int *fd)
{
	struct mobo_error err = {0};
	int n = mobo_bus_redeem(cli->machine, ticket->data, ticket->len, fd, 1, &err);

	if (n != 1) {
		return cli_fail(cli, CLI_UNAVAILABLE, "the machine handed no descriptor over: %s",
				n < 0 ? err.text : "none came");
	}
	return CLI_OK;
}

int cli_open_stream(struct cli *cli, const char *device, int *fd)
{
	Mobo__V1__OpenStream req = MOBO__V1__OPEN_STREAM__INIT;
	Mobo__V1__Ticket *ticket = NULL;
	int status;

	req.device = (char *)(device ? device : "");
	status = cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)&ticket);
	if (status == CLI_OK) {
		status = cli_redeem(cli, &ticket->ticket, fd);
	}
	cli_free(ticket);
	return status;
}
