/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that look on: events, wait, log, ps, devices, registers. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "mobo/v1/display.pb-c.h"
#include "mobo/v1/event.pb-c.h"

#define FOLLOW_TURN_NS 1000000000ull /* a connection that ended is noticed within it */

static void print_event(struct cli *cli, const struct mobo_event *ev)
{
	json_object *body = ev->body ? cli_json(ev->body) : json_object_new_object();

	if (cli->json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "topic", json_object_new_string(ev->topic));
		json_object_object_add(o, "hseq", json_object_new_uint64(ev->hseq));
		json_object_object_add(o, "tseq", json_object_new_uint64(ev->tseq));
		json_object_object_add(o, "ts_ns", json_object_new_uint64(ev->ts_ns));
		json_object_object_add(o, "lost", json_object_new_boolean(ev->lost));
		json_object_object_add(o, "body", body);
		cli_print_json(o);
		return;
	}
	if (ev->lost) {
		printf("... events lost ...\n");
	}
	printf("%8" PRIu64 " %14.6f %-32s %s\n", ev->hseq, (double)ev->ts_ns / 1e9, ev->topic,
	       json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN |
							    JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(body);
}

static void on_event(void *arg, const struct mobo_event *ev)
{
	print_event(arg, ev);
}

/* What the hub keeps, page by page: the last value of each topic, or all events since `since`. */
static int print_kept(struct cli *cli, struct mobo_bus *bus, const char *prefix, uint64_t since)
{
	Mobo__V1__Snapshot req = MOBO__V1__SNAPSHOT__INIT;
	Mobo__V1__SnapshotReply *r = NULL;
	bool more = true;
	int status = CLI_OK;

	req.prefix = (char *)prefix;
	req.since_hseq = since;
	while (more && status == CLI_OK) {
		status = cli_call(cli, bus, &req.base, 0, (ProtobufCMessage **)&r);
		if (status != CLI_OK) {
			break;
		}
		for (size_t i = 0; i < r->n_events; i++) {
			const Mobo__V1__SnapshotEvent *e = r->events[i];
			const ProtobufCMessageDescriptor *d = mobo_type_descriptor(e->type);
			struct mobo_event ev = {.topic = e->topic,
						.hseq = e->hseq,
						.tseq = e->tseq,
						.ts_ns = e->ts_ns,
						.replayed = true,
						.lost = r->gap && i == 0};
			ProtobufCMessage *body =
				d ? protobuf_c_message_unpack(d, NULL, e->body.len, e->body.data)
				  : NULL;

			ev.body = body;
			print_event(cli, &ev);
			cli_free(body);
			req.since_hseq = since ? e->hseq : 0;
			req.after_hseq = since ? 0 : e->hseq;
		}
		more = r->more && r->n_events;
		cli_free(r);
		r = NULL;
	}
	return status;
}

static int follow(struct cli *cli, struct mobo_bus *bus, const char *name)
{
	while (!cli->interrupted && mobo_bus_connected(bus)) {
		mobo_loop_run_until(cli->loop, &cli->interrupted,
				    mobo_monotonic_ns() + FOLLOW_TURN_NS);
	}
	if (cli->interrupted) {
		return CLI_INTERRUPTED;
	}
	fprintf(stderr, "mobo: %s ended\n", name);
	return CLI_OK;
}

int cmd_events(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"follow", 0, NULL, 'f'},
						{"since", 1, NULL, 's'},
						{"topic", 1, NULL, 't'},
						{0}};
	struct mobo_error err = {0};
	const char *topic = "";
	uint64_t since = 0;
	bool go_on = false;
	int c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "f", options, NULL)) != -1) {
		switch (c) {
		case 'f': go_on = true; break;
		case 's': since = strtoull(optarg, NULL, 0); break;
		case 't': topic = optarg; break;
		default: return cli_usage(cli);
		}
	}
	if (optind < argc - 1) {
		return cli_usage(cli);
	}
	status = optind == argc ? cli_registry(cli) : cli_machine(cli, argv[optind]);
	if (status != CLI_OK) {
		return status;
	}

	struct mobo_bus *bus = optind == argc ? cli->registry : cli->machine;

	if (!go_on) {
		return print_kept(cli, bus, topic, since);
	}
	if (mobo_bus_subscribe(bus, topic, since, on_event, cli, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	return follow(cli, bus, optind == argc ? "the registry" : argv[optind]);
}

/* -- wait -- */

struct waiting {
	const char *state;
	bool done, gone;
	const char *text;
	char *seen; /* the end of what the serial port said */
	size_t n_seen;
};

static void on_wait_state(void *arg, const struct mobo_event *ev)
{
	struct waiting *w = arg;
	const Mobo__V1__StateChanged *sc = (const void *)ev->body;

	if (sc && strcasecmp(cli_state_name(sc->state), w->state) == 0) {
		w->done = true;
	}
}

/*
 * States change on the registry's hub too, so that the wait may begin before the machine. Its last
 * state comes as the first event; what has none yet has been off since the registry started.
 */
static int wait_state(struct cli *cli, const char *name, struct waiting *w, uint64_t deadline)
{
	char topic[300];
	struct mobo_error err = {0};
	Mobo__V1__MachineInfo *info = NULL;
	int status = cli_registry(cli);

	if (status != CLI_OK) {
		return status;
	}
	snprintf(topic, sizeof(topic), "reg.machine.%s.state", name);
	if (mobo_bus_subscribe(cli->registry, topic, 0, on_wait_state, w, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	status = cli_machine_info(cli, name, &info);
	if (status == CLI_OK) {
		w->done |= strcasecmp(cli_state_name(info->state), w->state) == 0;
		cli_free(info);
		mobo_loop_run_until(cli->loop, &w->done, deadline);
	}
	return status;
}

static void on_wait_serial(void *arg, int fd, int events)
{
	enum { KEEP = 64 * 1024 };
	struct waiting *w = arg;
	char buf[4096];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	(void)events;
	if (n <= 0) {
		w->gone = n == 0;
		w->done = w->gone;
		return;
	}
	if (w->n_seen + (size_t)n > KEEP) {
		size_t keep = KEEP / 2;

		memmove(w->seen, w->seen + w->n_seen - keep, keep);
		w->n_seen = keep;
	}
	memcpy(w->seen + w->n_seen, buf, (size_t)n);
	w->n_seen += (size_t)n;
	w->done = memmem(w->seen, w->n_seen, w->text, strlen(w->text)) != NULL;
}

static int wait_serial(struct cli *cli, const char *name, struct waiting *w, uint64_t deadline)
{
	struct mobo_watch *watch;
	int fd, status = cli_machine(cli, name);

	if (status == CLI_OK) {
		status = cli_open_stream(cli, NULL, &fd);
	}
	if (status != CLI_OK) {
		return status;
	}
	w->seen = malloc(128 * 1024);
	MOBO_ASSERT(w->seen);
	watch = mobo_loop_fd(cli->loop, fd, MOBO_LOOP_READ, on_wait_serial, w);
	mobo_loop_run_until(cli->loop, &w->done, deadline);
	mobo_watch_destroy(watch);
	close(fd);
	free(w->seen);
	if (w->gone) {
		return cli_fail(cli, CLI_STATE, "%s stopped before `%s` came on its serial port",
				name, w->text);
	}
	return CLI_OK;
}

static int wait_screen(struct cli *cli, const char *name, struct waiting *w, unsigned timeout_ms)
{
	Mobo__V1__WaitScreenText req = MOBO__V1__WAIT_SCREEN_TEXT__INIT;
	int status = cli_machine(cli, name);

	req.text = (char *)w->text;
	req.timeout_ms = timeout_ms;
	if (status == CLI_OK) {
		status = cli_call(cli, cli->machine, &req.base, timeout_ms + 2000, NULL);
	}
	w->done = status == CLI_OK;
	return status;
}

static bool state_known(const char *name)
{
	const ProtobufCEnumDescriptor *d = &mobo__v1__machine_state__descriptor;

	for (unsigned i = 0; i < d->n_values; i++) {
		if (strcasecmp(cli_state_name((Mobo__V1__MachineState)d->values[i].value), name) ==
		    0) {
			return true;
		}
	}
	return false;
}

int cmd_wait(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"state", 1, NULL, 's'},
						{"serial", 1, NULL, 'c'},
						{"screen", 1, NULL, 'v'},
						{"timeout", 1, NULL, 't'},
						{0}};
	struct waiting w = {0};
	double timeout = 60;
	int c, kind = 0, status = CLI_OK;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			w.state = optarg;
			kind = c;
			break;
		case 'c':
		case 'v':
			w.text = optarg;
			kind = c;
			break;
		case 't':
			if (cli_seconds(cli, optarg, &timeout) != CLI_OK) {
				return CLI_USAGE;
			}
			break;
		default: return cli_usage(cli);
		}
	}
	if (optind != argc - 1 || !kind) {
		return cli_usage(cli);
	}
	if (kind == 's' && !state_known(w.state)) {
		return cli_fail(
			cli, CLI_USAGE,
			"no state is called `%s`; there are powered-off, starting, running, "
			"paused, stopping, crashed, inaccessible",
			w.state);
	}

	uint64_t deadline = mobo_monotonic_ns() + (uint64_t)(timeout * 1e9);

	switch (kind) {
	case 's': status = wait_state(cli, argv[optind], &w, deadline); break;
	case 'c': status = wait_serial(cli, argv[optind], &w, deadline); break;
	case 'v': status = wait_screen(cli, argv[optind], &w, (unsigned)(timeout * 1000)); break;
	}
	if (status == CLI_OK && cli->interrupted) {
		return CLI_INTERRUPTED;
	}
	if (status == CLI_OK && w.done) {
		cli_done(cli);
	}
	if (status == CLI_OK && !w.done) {
		return cli_fail(cli, CLI_TIMEOUT, "%s: `%s` did not come within %g s", argv[optind],
				w.state ? w.state : w.text, timeout);
	}
	return status;
}

/* -- looking at a running machine -- */

static int ask_machine(struct cli *cli, const char *name, const ProtobufCMessage *req,
		       ProtobufCMessage **reply)
{
	int status = cli_machine(cli, name);

	return status ? status : cli_call(cli, cli->machine, req, 0, reply);
}

int cmd_ps(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__ListProcesses req = MOBO__V1__LIST_PROCESSES__INIT;
	Mobo__V1__ProcessList *list = NULL;
	uint64_t pss = 0, cpu = 0;
	char a[16];
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = ask_machine(cli, argv[1], &req.base, (ProtobufCMessage **)&list);
	if (status != CLI_OK) {
		return status;
	}
	if (cli->json) {
		cli_print_json(cli_json(&list->base));
		cli_free(list);
		return CLI_OK;
	}
	printf("%8s %10s %8s  %-10s %-8s %s\n", "PID", "CPU", "MEMORY", "STATE", "SANDBOX",
	       "PROCESS");
	for (size_t i = 0; i < list->n_processes; i++) {
		const Mobo__V1__ProcessInfo *p = list->processes[i];

		pss += p->pss_bytes;
		cpu += p->cpu_ns;
		printf("%8u %9.2fs %8s  %-10s %-8s %s%s", p->pid, (double)p->cpu_ns / 1e9,
		       cli_size(a, sizeof(a), p->pss_bytes), p->state,
		       p->sandboxed ? "closed" : "-", i ? "  `- " : "", p->name);
		printf(p->restarts ? " (%s, restarted %u times)\n" : " (%s)\n", p->executable,
		       p->restarts);
	}
	printf("%8s %9.2fs %8s\n", "", (double)cpu / 1e9, cli_size(a, sizeof(a), pss));
	cli_free(list);
	return CLI_OK;
}

static void on_log_event(void *arg, const struct mobo_event *ev)
{
	struct cli *cli = arg;
	const Mobo__V1__LogRecord *r = (const void *)ev->body;

	if (ev->replayed || !r || strcmp(r->base.descriptor->name, "mobo.v1.LogRecord") != 0) {
		return;
	}
	if (cli->json) {
		cli_print_json(cli_json(&r->base));
	} else {
		printf("%.6f %s: %s\n", (double)r->ts_ns / 1e9, r->node, r->text);
		fflush(stdout);
	}
}

int cmd_log(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"follow", 0, NULL, 'f'},
						{"lines", 1, NULL, 'n'},
						{0}};
	Mobo__V1__GetLog req = MOBO__V1__GET_LOG__INIT;
	Mobo__V1__LogLines *lines = NULL;
	struct mobo_error err = {0};
	bool go_on = false;
	int c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "fn:", options, NULL)) != -1) {
		switch (c) {
		case 'f': go_on = true; break;
		case 'n': req.lines = (uint32_t)strtoul(optarg, NULL, 0); break;
		default: return cli_usage(cli);
		}
	}
	if (optind != argc - 1) {
		return cli_usage(cli);
	}
	status = ask_machine(cli, argv[optind], &req.base, (ProtobufCMessage **)&lines);
	if (status != CLI_OK) {
		return status;
	}
	if (cli->json) {
		cli_print_json(cli_json(&lines->base));
	} else {
		for (size_t i = 0; i < lines->n_lines; i++) {
			puts(lines->lines[i]);
		}
	}
	cli_free(lines);
	if (go_on && mobo_bus_subscribe(cli->machine, "log.", 0, on_log_event, cli, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	return go_on ? follow(cli, cli->machine, argv[optind]) : CLI_OK;
}

int cmd_device_list(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__ListDevices req = MOBO__V1__LIST_DEVICES__INIT;
	Mobo__V1__DeviceList *list = NULL;
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = ask_machine(cli, argv[1], &req.base, (ProtobufCMessage **)&list);
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&list->base));
	} else if (status == CLI_OK) {
		for (size_t i = 0; i < list->n_devices; i++) {
			const Mobo__V1__DeviceInfo *d = list->devices[i];

			printf("%-12s %-10s %s\n", d->name, d->state, d->description);
			for (size_t k = 0; k < d->n_claims; k++) {
				printf("             %s\n", d->claims[k]);
			}
		}
	}
	cli_free(list);
	return status;
}

int cmd_device_regs(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__GetDeviceRegs req = MOBO__V1__GET_DEVICE_REGS__INIT;
	Mobo__V1__DeviceRegs *regs = NULL;
	int status;

	if (argc != 3) {
		return cli_usage(cli);
	}
	req.device = argv[2];
	status = ask_machine(cli, argv[1], &req.base, (ProtobufCMessage **)&regs);
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&regs->base));
	} else if (status == CLI_OK) {
		for (size_t i = 0; i < regs->n_registers; i++) {
			const Mobo__V1__RegisterValue *r = regs->registers[i];

			printf("%-12s %-16s +0x%-4" PRIx64 " 0x%0*" PRIx64 "\n", r->region, r->name,
			       r->offset, (int)r->width * 2, r->value);
		}
	}
	cli_free(regs);
	return status;
}

int cmd_stats(struct cli *cli, int argc, char **argv)
{
	Mobo__V1__GetStats req = MOBO__V1__GET_STATS__INIT;
	Mobo__V1__Stats *stats = NULL;
	int status;

	if (argc != 2) {
		return cli_usage(cli);
	}
	status = ask_machine(cli, argv[1], &req.base, (ProtobufCMessage **)&stats);
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&stats->base));
	} else if (status == CLI_OK) {
		for (size_t i = 0; i < stats->n_counters; i++) {
			printf("%-32s %" PRIu64 "\n", stats->counters[i]->name,
			       stats->counters[i]->value);
		}
	}
	cli_free(stats);
	return status;
}
