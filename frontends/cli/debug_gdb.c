/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mobo debug gdb`: a machine as the target of gdb, over a socket or standard input and output. The
 * protocol is in debug_rsp.c, what it asks of the machine goes over the bus.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "debug.h"
#include "debug_rsp.h"
#include "mobo/v1/event.pb-c.h"

enum { VERB_TIMEOUT_MS = 40000, XCR0_AVX = 1 << 2, FLUSH_MS = 2000 };

struct stub {
	struct cli *cli;
	const struct debug_args *args;
	struct rsp rsp;
	unsigned n_cpus;
	int in, out;
	struct mobo_watch *in_watch, *out_watch;
	bool turn;     /* something came: look */
	bool changed;  /* the machine's state did */
	bool readable; /* there is input */
	bool closed;
	struct mobo_error err; /* of the last call */
};

/* -- Calls -- */

/* 0 or -errno, for gdb; the sentence is in s->err. */
static int call(struct stub *s, const ProtobufCMessage *req, ProtobufCMessage **reply)
{
	int r = mobo_bus_call_sync(s->cli->machine, 0, req, VERB_TIMEOUT_MS, reply, NULL, &s->err);

	return r < 0 && r >= -EIO ? -EIO : r;
}

static int get_regs(void *arg, unsigned cpu, struct rsp_regs *regs)
{
	static const char *const names[] = {"cs", "ss", "ds", "es", "fs", "gs"};
	Mobo__V1__GetCpuRegs req = MOBO__V1__GET_CPU_REGS__INIT;
	Mobo__V1__CpuRegs *m = NULL;
	int r;

	req.vcpu = cpu;
	r = call(arg, &req.base, (ProtobufCMessage **)&m);
	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < MOBO_MIN(m->n_gpr, MOBO_ARRAY_LEN(regs->gpr)); i++) {
		regs->gpr[i] = m->gpr[i];
	}
	regs->rip = m->rip;
	regs->rflags = m->rflags;
	for (size_t i = 0; i < MOBO_ARRAY_LEN(names); i++) {
		const Mobo__V1__SegmentReg *seg = debug_segment(m, names[i]);

		regs->selector[i] = seg ? seg->selector : 0;
		if (seg && strcmp(names[i], "fs") == 0) {
			regs->fs_base = seg->base_address;
		} else if (seg && strcmp(names[i], "gs") == 0) {
			regs->gs_base = seg->base_address;
		}
	}
	memcpy(regs->system,
	       (uint64_t[]){m->kernel_gs_base, m->cr0, m->cr2, m->cr3, m->cr4, m->cr8, m->efer},
	       sizeof(regs->system));
	memcpy(regs->xsave, m->xsave.data, MOBO_MIN(m->xsave.len, sizeof(regs->xsave)));
	cli_free(m);
	return 0;
}

static int set_regs(void *arg, unsigned cpu, const struct rsp_regs *regs)
{
	Mobo__V1__SetCpuRegs req = MOBO__V1__SET_CPU_REGS__INIT;

	req.vcpu = cpu;
	req.gpr = (uint64_t *)regs->gpr;
	req.n_gpr = MOBO_ARRAY_LEN(regs->gpr);
	req.rip = regs->rip;
	req.rflags = regs->rflags;
	req.fs_base = regs->fs_base;
	req.gs_base = regs->gs_base;
	req.xsave.data = (uint8_t *)regs->xsave;
	req.xsave.len = sizeof(regs->xsave);
	return call(arg, &req.base, NULL);
}

static ssize_t read_memory(void *arg, unsigned cpu, uint64_t address, void *buf, size_t len)
{
	Mobo__V1__ReadMemory req = MOBO__V1__READ_MEMORY__INIT;
	Mobo__V1__MemoryData *m = NULL;
	ssize_t r;

	req.vcpu = cpu;
	req.address = address;
	req.len = (uint32_t)len;
	r = call(arg, &req.base, (ProtobufCMessage **)&m);
	if (r < 0) {
		return r == -ENOENT ? -EFAULT : r;
	}
	r = (ssize_t)MOBO_MIN(m->data.len, len);
	memcpy(buf, m->data.data, (size_t)r);
	cli_free(m);
	return r;
}

static int write_memory(void *arg, unsigned cpu, uint64_t address, const void *buf, size_t len)
{
	Mobo__V1__WriteMemory req = MOBO__V1__WRITE_MEMORY__INIT;

	req.vcpu = cpu;
	req.address = address;
	req.data.data = (uint8_t *)buf;
	req.data.len = len;
	return call(arg, &req.base, NULL);
}

static int set_points(void *arg, const struct rsp_point *points, unsigned n)
{
	static const Mobo__V1__DebugPoint__DebugKind kinds[] = {
		[RSP_BREAKPOINT] = MOBO__V1__DEBUG_POINT__DEBUG_KIND__BREAKPOINT,
		[RSP_HW_BREAKPOINT] = MOBO__V1__DEBUG_POINT__DEBUG_KIND__BREAKPOINT,
		[RSP_WRITE] = MOBO__V1__DEBUG_POINT__DEBUG_KIND__WRITE,
		[RSP_READ] = MOBO__V1__DEBUG_POINT__DEBUG_KIND__READ,
		[RSP_ACCESS] = MOBO__V1__DEBUG_POINT__DEBUG_KIND__ACCESS,
	};
	Mobo__V1__SetDebugPoints req = MOBO__V1__SET_DEBUG_POINTS__INIT;
	Mobo__V1__DebugPoint m[RSP_POINTS], *ptr[RSP_POINTS];

	for (unsigned i = 0; i < n; i++) {
		mobo__v1__debug_point__init(&m[i]);
		m[i].kind = kinds[points[i].kind];
		m[i].address = points[i].address;
		m[i].len = points[i].len;
		ptr[i] = &m[i];
	}
	req.points = ptr;
	req.n_points = n;
	return call(arg, &req.base, NULL);
}

static int resume(void *arg)
{
	Mobo__V1__Resume req = MOBO__V1__RESUME__INIT;

	return call(arg, &req.base, NULL);
}

static int interrupt(void *arg)
{
	Mobo__V1__Pause req = MOBO__V1__PAUSE__INIT;
	struct stub *s = arg;

	s->changed = true;
	return call(s, &req.base, NULL);
}

static void tell_stop(struct stub *s, const Mobo__V1__DebugStops *stops)
{
	static const enum rsp_stop reasons[] = {
		[MOBO__V1__DEBUG_STOP__STOP_REASON__STEPPED] = RSP_STOP_STEP,
		[MOBO__V1__DEBUG_STOP__STOP_REASON__BREAKPOINT_HIT] = RSP_STOP_BREAKPOINT,
		[MOBO__V1__DEBUG_STOP__STOP_REASON__WATCHPOINT_HIT] = RSP_STOP_WATCHPOINT,
	};
	const Mobo__V1__DebugStop *stop = stops->n_stops ? stops->stops[0] : NULL;

	for (size_t i = 0; i < stops->n_stops; i++) {
		if (stops->stops[i]->vcpu == s->rsp.cpu) {
			stop = stops->stops[i];
		}
	}
	if (stop && (unsigned)stop->reason < MOBO_ARRAY_LEN(reasons)) {
		rsp_stopped(&s->rsp, stop->vcpu, reasons[stop->reason], stop->address);
	} else {
		rsp_stopped(&s->rsp, s->rsp.cpu, RSP_STOP_INTERRUPT, 0);
	}
}

/* Where the CPU cannot go alone (it is halted) the machine goes with it. */
static int step(void *arg, unsigned cpu, bool alone)
{
	Mobo__V1__StepCpu req = MOBO__V1__STEP_CPU__INIT;
	Mobo__V1__DebugStops *stops = NULL;
	struct stub *s = arg;
	int r = -EAGAIN;

	req.vcpu = cpu;
	if (alone) {
		req.alone = true;
		r = call(s, &req.base, (ProtobufCMessage **)&stops);
		if (r == 0) {
			tell_stop(s, stops);
			cli_free(stops);
			return 0;
		}
	}
	req.alone = false;
	r = call(s, &req.base, NULL);
	return r < 0 ? r : resume(s);
}

static void detach(void *arg)
{
	Mobo__V1__DetachDebugger req = MOBO__V1__DETACH_DEBUGGER__INIT;

	call(arg, &req.base, NULL);
}

static const struct rsp_target target = {
	.get_regs = get_regs,
	.set_regs = set_regs,
	.read = read_memory,
	.write = write_memory,
	.points = set_points,
	.resume = resume,
	.step = step,
	.interrupt = interrupt,
	.detach = detach,
};

/* -- A session -- */

static void on_state(void *arg, const struct mobo_event *ev)
{
	struct stub *s = arg;

	(void)ev;
	s->changed = s->turn = true;
}

static void on_readable(void *arg, int fd, int events)
{
	struct stub *s = arg;

	(void)fd;
	(void)events;
	s->readable = s->turn = true;
	mobo_watch_events(s->in_watch, 0);
}

static void on_writable(void *arg, int fd, int events)
{
	struct stub *s = arg;

	(void)fd;
	(void)events;
	s->turn = true;
	mobo_watch_events(s->out_watch, 0);
}

static void flush(struct stub *s)
{
	while (s->rsp.n_out && !s->closed) {
		ssize_t n = write(s->out, s->rsp.out, s->rsp.n_out);

		if (n > 0) {
			rsp_sent(&s->rsp, (size_t)n);
		} else if (n < 0 && errno == EAGAIN) {
			mobo_watch_events(s->out_watch, MOBO_LOOP_WRITE);
			return;
		} else if (n == 0 || errno != EINTR) {
			s->closed = true;
		}
	}
}

static void take_input(struct stub *s)
{
	uint8_t buf[4096];
	ssize_t n = read(s->in, buf, sizeof(buf));

	s->readable = false;
	if (n > 0) {
		rsp_feed(&s->rsp, buf, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		s->closed = true;
	}
	mobo_watch_events(s->in_watch, MOBO_LOOP_READ);
}

/* The events may be of before the last resume: what counts is what the machine says now. */
static void look_at_machine(struct stub *s)
{
	Mobo__V1__GetStatus req = MOBO__V1__GET_STATUS__INIT;
	Mobo__V1__GetDebugStops stops_req = MOBO__V1__GET_DEBUG_STOPS__INIT;
	Mobo__V1__MachineStatus *status = NULL;
	Mobo__V1__DebugStops *stops = NULL;

	s->changed = false;
	if (!mobo_bus_connected(s->cli->machine) ||
	    call(s, &req.base, (ProtobufCMessage **)&status) < 0) {
		rsp_exited(&s->rsp);
		return;
	}
	switch (status->state) {
	case MOBO__V1__MACHINE_STATE__PAUSED:
		if (s->rsp.running && call(s, &stops_req.base, (ProtobufCMessage **)&stops) == 0) {
			tell_stop(s, stops);
			cli_free(stops);
		}
		break;
	case MOBO__V1__MACHINE_STATE__STOPPING:
	case MOBO__V1__MACHINE_STATE__POWERED_OFF:
	case MOBO__V1__MACHINE_STATE__CRASHED: rsp_exited(&s->rsp); break;
	case MOBO__V1__MACHINE_STATE__STARTING:
	case MOBO__V1__MACHINE_STATE__RUNNING:
	case MOBO__V1__MACHINE_STATE__INACCESSIBLE:
	case MOBO__V1__MACHINE_STATE__STATE_UNKNOWN:
	case _MOBO__V1__MACHINE_STATE_IS_INT_SIZE: break;
	}
	cli_free(status);
}

/* Takes the machine over, stopped. */
static int attach(struct stub *s)
{
	Mobo__V1__AttachDebugger attach_req = MOBO__V1__ATTACH_DEBUGGER__INIT;
	Mobo__V1__Pause pause = MOBO__V1__PAUSE__INIT;
	Mobo__V1__GetStatus status_req = MOBO__V1__GET_STATUS__INIT;
	Mobo__V1__MachineStatus *m = NULL;
	Mobo__V1__CpuRegs *regs = NULL;
	int status = cli_call(s->cli, s->cli->machine, &attach_req.base, 0, NULL);

	if (status == CLI_OK) {
		status = cli_call(s->cli, s->cli->machine, &status_req.base, 0,
				  (ProtobufCMessage **)&m);
	}
	if (status == CLI_OK && m->state != MOBO__V1__MACHINE_STATE__PAUSED) {
		status = cli_call(s->cli, s->cli->machine, &pause.base, VERB_TIMEOUT_MS, NULL);
	}
	if (status == CLI_OK) {
		status = debug_regs(s->cli, 0, &regs);
	}
	if (status == CLI_OK) {
		rsp_start(&s->rsp, &target, s, m->cpus, regs->xcr0 & XCR0_AVX);
	}
	cli_free(m);
	cli_free(regs);
	return status;
}

/* Until gdb leaves, the machine ends, or SIGINT. */
static int converse(struct stub *s)
{
	struct cli *cli = s->cli;
	int status = attach(s);

	if (status != CLI_OK) {
		return status;
	}
	fcntl(s->in, F_SETFL, fcntl(s->in, F_GETFL) | O_NONBLOCK);
	fcntl(s->out, F_SETFL, fcntl(s->out, F_GETFL) | O_NONBLOCK);
	s->closed = s->readable = s->changed = false;
	s->in_watch = mobo_loop_fd(cli->loop, s->in, MOBO_LOOP_READ, on_readable, s);
	s->out_watch = mobo_loop_fd(cli->loop, s->out, 0, on_writable, s);
	MOBO_ASSERT(s->in_watch && s->out_watch);
	while (!s->closed && !s->rsp.ended && !cli->interrupted) {
		s->turn = false;
		if (s->readable) {
			take_input(s);
		}
		if (s->changed && !s->rsp.ended) {
			look_at_machine(s);
		}
		flush(s);
		if (!s->turn && !s->closed && !s->rsp.ended) {
			mobo_loop_run_until(cli->loop, &s->turn, UINT64_MAX);
		}
	}
	if (!s->rsp.ended) {
		detach(s);
	}
	for (unsigned ms = 0; s->rsp.n_out && !s->closed && ms < FLUSH_MS; ms++) {
		flush(s);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	mobo_watch_destroy(s->in_watch);
	mobo_watch_destroy(s->out_watch);
	rsp_finish(&s->rsp);
	memset(&s->rsp, 0, sizeof(s->rsp));
	return CLI_OK;
}

/* -- Listening -- */

static int listen_unix(struct cli *cli, const char *path, int *fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	mode_t mask;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		return cli_fail(cli, CLI_USAGE, "%s: the path is too long for a socket", path);
	}
	strcpy(sa.sun_path, path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mask = umask(0177);
	r = *fd < 0 ? -1 : bind(*fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(mask);
	if (r < 0 || listen(*fd, 1) < 0) {
		return cli_fail(cli, CLI_FAILED, "%s cannot be listened on: %s", path,
				errno == EADDRINUSE ? "it exists; remove it, or give another"
						    : strerror(errno));
	}
	fprintf(stderr, "listening; in gdb: target remote %s\n", path);
	return CLI_OK;
}

static int bind_to(const struct addrinfo *list, int *fd)
{
	int r = EADDRNOTAVAIL, one = 1;

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		*fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (*fd < 0) {
			r = errno;
			continue;
		}
		setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(*fd, a->ai_addr, a->ai_addrlen) == 0 && listen(*fd, 1) == 0) {
			return 0;
		}
		r = errno;
		close(*fd);
	}
	return r;
}

static int listen_tcp(struct cli *cli, const char *where, int *fd)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	const char *colon = strrchr(where, ':'), *port = colon ? colon + 1 : where;
	char host[256] = "127.0.0.1", number[16];
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct addrinfo *list;
	int r;

	if (colon && colon > where) {
		bool v6 = *where == '[' && colon[-1] == ']';

		snprintf(host, sizeof(host), "%.*s", (int)(colon - where) - 2 * v6, where + v6);
	}
	r = getaddrinfo(host, port, &hints, &list);
	if (r != 0) {
		return cli_fail(cli, CLI_USAGE, "`%s` is no place to listen: %s", where,
				gai_strerror(r));
	}
	r = bind_to(list, fd);
	freeaddrinfo(list);
	if (r != 0) {
		return cli_fail(cli, CLI_FAILED, "%s cannot be listened on: %s", where,
				strerror(r));
	}
	getsockname(*fd, (struct sockaddr *)&sa, &len);
	getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), number, sizeof(number),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	fprintf(stderr, "listening; in gdb: target remote %s%s%s:%s\n",
		sa.ss_family == AF_INET6 ? "[" : "", host, sa.ss_family == AF_INET6 ? "]" : "",
		number);
	return CLI_OK;
}

static void on_connection(void *arg, int fd, int events)
{
	(void)fd;
	(void)events;
	*(bool *)arg = true;
}

/* One gdb after the other, until SIGINT or the end of the machine. */
static int serve(struct stub *s, int listener)
{
	struct cli *cli = s->cli;
	int status = CLI_OK;

	while (status == CLI_OK && !cli->interrupted && mobo_bus_connected(cli->machine)) {
		bool come = false;
		struct mobo_watch *w =
			mobo_loop_fd(cli->loop, listener, MOBO_LOOP_READ, on_connection, &come);

		MOBO_ASSERT(w);
		s->turn = false;
		while (!come && !cli->interrupted && mobo_bus_connected(cli->machine)) {
			mobo_loop_run_until(cli->loop, &come, mobo_monotonic_ns() + 1000000000ull);
		}
		mobo_watch_destroy(w);
		if (!come) {
			break;
		}
		s->in = s->out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (s->in < 0) {
			continue;
		}
		fprintf(stderr, "gdb is connected\n");
		status = converse(s);
		close(s->in);
		fprintf(stderr, "gdb has left\n");
	}
	return cli->interrupted ? CLI_INTERRUPTED : status;
}

int debug_gdb(struct cli *cli, const struct debug_args *a)
{
	static struct stub s;
	struct mobo_error err = {0};
	const char *where = a->listen ? a->listen : isatty(STDIN_FILENO) ? "1234" : NULL;
	int fd = -1, status;

	if (a->n_words) {
		return cli_usage(cli);
	}
	s = (struct stub){.cli = cli, .args = a};
	if (mobo_bus_subscribe(cli->machine, "vm.state", 0, on_state, &s, &err) < 0) {
		return cli_fail(cli, CLI_UNAVAILABLE, "%s", err.text);
	}
	if (!where) {
		setpgid(0, 0); /* Ctrl-C on gdb's terminal is for gdb, which then asks us */
		s.in = STDIN_FILENO;
		s.out = STDOUT_FILENO;
		return converse(&s);
	}
	status = strchr(where, '/') ? listen_unix(cli, where, &fd) : listen_tcp(cli, where, &fd);
	if (status == CLI_OK) {
		status = serve(&s, fd);
		if (strchr(where, '/')) {
			unlink(where);
		}
	}
	if (fd >= 0) {
		close(fd);
	}
	return status;
}
