/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-machine --folder DIR [--name NAME] [--transient] [--paused]
 * Started by mobo-registry; runs one machine from power-on to power-off and ends with it.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

enum { REPORT_TIMEOUT_MS = 2000 };

static struct machine machine;

static uint64_t vtime(void *arg)
{
	const struct machine *m = arg;

	return m->page ? mobo_clock_now_ns(m->page) : 0;
}

static void on_joined(void *arg, uint32_t node, const Mobo__V1__Hello *hello)
{
	struct machine *m = arg;
	struct part *p = part_find(m, hello->name);

	if (p && p->pid == (pid_t)hello->pid) {
		p->node = node;
		machine_part_joined(p);
	} else if (hello->role == MOBO__V1__ROLE__DEVICE &&
		   !external_joined(m, node, hello->name)) {
		mobo_hub_drop(m->hub, node);
	}
}

static void on_left(void *arg, uint32_t node, const char *name)
{
	mobo_debug("%s (node %u) left", name, node);
	external_left(arg, node);
	debugger_left(arg, node);
}

static void on_signal(void *arg, int signum)
{
	machine_power_off(arg, NULL, signum == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void on_registry_connected(void *arg, const Mobo__V1__Welcome *welcome)
{
	(void)welcome;
	machine_report_state(arg);
}

/* timeout_ms 0: does not wait. The registry may be away: it is told when it comes. */
static void connect_registry(struct machine *m, unsigned timeout_ms)
{
	char dir[4096], endpoint[4200];
	struct mobo_bus_options opt = {
		.endpoint = endpoint,
		.role = MOBO__V1__ROLE__MACHINE,
		.name = m->name,
		.reconnect = true,
		.connected = on_registry_connected,
		.arg = m,
	};
	struct mobo_error err = {0};

	if (mobo_hub_dir(dir, sizeof(dir), NULL, &err) < 0) {
		mobo_warning("%s", err.text);
		return;
	}
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	if (mobo_bus_connect(&m->registry, m->loop, &opt, timeout_ms, &err) < 0) {
		mobo_warning("no registry: %s", err.text);
		m->registry = NULL;
	}
}

/* Last words reach the registry before the process ends. */
static void report_end(struct machine *m)
{
	Mobo__V1__ReportState rep = MOBO__V1__REPORT_STATE__INIT;

	if (!m->registry || !mobo_bus_connected(m->registry)) {
		return; /* the next registry finds that the process is gone */
	}
	rep.name = m->name;
	rep.state = m->state;
	rep.reason = m->reason;
	rep.pid = (uint32_t)getpid();
	rep.folder = m->folder;
	rep.transient = m->transient;
	mobo_bus_call_sync(m->registry, 0, &rep.base, REPORT_TIMEOUT_MS, NULL, NULL, NULL);
}

static int start_hub(struct machine *m, struct mobo_error *err)
{
	char dir[4096];
	struct mobo_hub_options opt = {
		.name = m->name,
		.dir = dir,
		.now_ns = vtime,
		.policy = machine_policy,
		.outside_devices = m->settings->external_devices,
		.joined = on_joined,
		.left = on_left,
		.log = journal_record,
		.arg = m,
	};
	int ret = mobo_hub_dir(dir, sizeof(dir), m->name, err);

	if (ret == 0) {
		ret = mobo_hub_create(&m->hub, m->loop, &opt, err);
	}
	if (ret == 0) {
		machine_serve(m);
	}
	return ret;
}

static void usage(FILE *out)
{
	fputs("usage: mobo-machine --folder DIR [--name NAME] [--transient] [--paused]\n"
	      "Runs one machine until it is powered off. Started by mobo-registry; use `mobo "
	      "start`.\n",
	      out);
}

static void parse_options(struct machine *m, int argc, char **argv)
{
	static const struct option options[] = {
		{"folder", required_argument, NULL, 'f'}, {"name", required_argument, NULL, 'n'},
		{"transient", no_argument, NULL, 't'},	  {"paused", no_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},	  {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'f': m->folder = realpath(optarg, NULL); break;
		case 'n': m->name = strdup(optarg); break;
		case 't': m->transient = true; break;
		case 'p': m->start_paused = true; break;
		case 'h': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	if (!m->folder || optind != argc) {
		usage(stderr);
		exit(2);
	}
}

/* 0, or -errno with err; what was made is undone by machine_finish(). */
static int machine_prepare(struct machine *m, struct mobo_error *err)
{
	char file[4200];
	int ret;

	snprintf(file, sizeof(file), "%s/%s", m->folder, MOBO_SETTINGS_FILE);
	ret = mobo_settings_load(file, &m->settings, err);
	if (ret < 0) {
		return ret;
	}
	if (!m->name) {
		m->name = strdup(m->settings->name);
	}
	ret = start_hub(m, err);
	if (ret < 0) {
		return ret;
	}
	journal_open(m);
	mobo_log_to(journal_own, m);
	ret = machine_plan(m, err);
	if (ret == 0) {
		mobo_log_set_clock(vtime, m);
	}
	return ret;
}

static void machine_finish(struct machine *m)
{
	mobo_log_to(NULL, NULL);
	mobo_log_set_clock(NULL, NULL);
	if (m->registry) {
		mobo_bus_close(m->registry);
	}
	if (m->hub) {
		mobo_hub_destroy(m->hub);
	}
	journal_close(m);
	if (m->page) {
		munmap(m->page, 4096);
	}
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(m->signals); i++) {
		mobo_watch_destroy(m->signals[i]);
	}
	mobo_loop_destroy(m->loop);
	if (m->settings) {
		mobo_settings_free(m->settings);
	}
	free(m->name);
	free(m->folder);
}

int main(int argc, char **argv)
{
	struct machine *m = &machine;
	struct mobo_error err = {0};

	mobo_log_init("machine");
	signal(SIGPIPE, SIG_IGN);
	m->log_fd = m->page_fd = m->ram_fd = m->codemap_fd = m->rom_fd = -1;
	m->surface_fd = m->vram_fd = -1;
	parse_options(m, argc, argv);
	if (mobo_loop_create(&m->loop) < 0) {
		mobo_error("no memory");
		return 1;
	}
	m->signals[0] = mobo_loop_signal(m->loop, SIGTERM, on_signal, m);
	m->signals[1] = mobo_loop_signal(m->loop, SIGINT, on_signal, m);
	if (machine_prepare(m, &err) == 0) {
		connect_registry(m, 0);
		machine_start(m);
		mobo_loop_run(m->loop);
	} else {
		mobo_error("%s", err.text);
		m->exit_code = 1;
		m->state = MOBO__V1__MACHINE_STATE__CRASHED;
		snprintf(m->reason, sizeof(m->reason), "%.250s", err.text);
		if (m->name) {
			connect_registry(m, REPORT_TIMEOUT_MS);
		}
	}
	machine_plan_finish(m);
	report_end(m);

	int code = m->exit_code;

	machine_finish(m);
	return code;
}
