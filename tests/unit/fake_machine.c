/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for mobo-machine towards the registry: reports, answers GetStatus, obeys PowerOff. What
 * it does is told by its machine's name: "mute" never reports, "fail" ends with a word on stderr,
 * "refuse" reports that it crashed.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mobo/registry.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"

static struct mobo_loop *loop;
static struct mobo_hub *hub;
static struct mobo_bus *registry;
static const char *name = "", *folder = "";
static bool transient;
static Mobo__V1__MachineState state = MOBO__V1__MACHINE_STATE__RUNNING;

static void fill(Mobo__V1__ReportState *rep)
{
	rep->name = (char *)name;
	rep->folder = (char *)folder;
	rep->state = state;
	rep->pid = (uint32_t)getpid();
	rep->rpc_endpoint = (char *)mobo_hub_endpoint(hub);
	rep->transient = transient;
}

static void connected(void *arg, const Mobo__V1__Welcome *welcome)
{
	Mobo__V1__ReportState rep = MOBO__V1__REPORT_STATE__INIT;

	if (registry) { /* again */
		fill(&rep);
		mobo_bus_call(registry, 0, &rep.base, 0, NULL, NULL);
	}
}

static void report(const char *reason)
{
	Mobo__V1__ReportState rep = MOBO__V1__REPORT_STATE__INIT;

	fill(&rep);
	rep.reason = (char *)reason;
	mobo_bus_call_sync(registry, 0, &rep.base, 0, NULL, NULL, NULL);
}

static void serve_status(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	Mobo__V1__MachineStatus s = MOBO__V1__MACHINE_STATUS__INIT;

	s.name = (char *)name;
	s.folder = (char *)folder;
	s.state = state;
	s.pid = (uint32_t)getpid();
	mobo_reply(r, &s.base);
}

static void serve_power_off(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	mobo_reply(r, NULL);
	mobo_loop_stop(loop);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"folder", 1, NULL, 'f'},
						{"name", 1, NULL, 'n'},
						{"transient", 0, NULL, 't'},
						{"paused", 0, NULL, 'p'},
						{0}};
	char dir[4096];
	struct mobo_hub_options opt = {.dir = dir};
	struct mobo_bus_options reg = {.role = MOBO__V1__ROLE__MACHINE,
				       .reconnect = true,
				       .connected = connected};
	struct mobo_error err = {0};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'f': folder = optarg; break;
		case 'n': name = optarg; break;
		case 't': transient = true; break;
		case 'p': state = MOBO__V1__MACHINE_STATE__PAUSED; break;
		}
	}
	if (strncmp(name, "fail", 4) == 0) {
		fprintf(stderr, "first line\nthe disk is gone\n");
		return 7;
	}
	opt.name = reg.name = name;
	if (mobo_loop_create(&loop) < 0 || mobo_hub_dir(dir, sizeof(dir), name, &err) < 0 ||
	    mobo_hub_create(&hub, loop, &opt, &err) < 0 ||
	    mobo_registry_join(&registry, loop, &reg, false, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	mobo_hub_serve(hub, MOBO__V1__TYPE__GET_STATUS, serve_status, NULL);
	mobo_hub_serve(hub, MOBO__V1__TYPE__POWER_OFF, serve_power_off, NULL);
	if (strncmp(name, "refuse", 6) == 0) {
		state = MOBO__V1__MACHINE_STATE__CRASHED;
		report("disk.0.file: no such image");
	} else {
		if (strncmp(name, "mute", 4) != 0) {
			report("");
		}
		mobo_loop_run(loop);
		state = MOBO__V1__MACHINE_STATE__POWERED_OFF;
		report("power off");
	}
	mobo_bus_close(registry);
	mobo_hub_destroy(hub);
	mobo_loop_destroy(loop);
	return 0;
}
