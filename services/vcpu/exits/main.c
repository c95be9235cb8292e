/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-vcpu: the CPUs of one machine, with everything that sits between them and the device
 * processes. Started by mobo-machine with a SEQPACKET socket as descriptor 3.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "execute/cpuid.h"
#include "exits/engines.h"
#include "exits/service.h"
#include "mobo/log.h"
#include "mobo/sandbox.h"
#include "mobo/v1/device.pb-c.h"

enum { CHILD_FD = 3, MAX_MESSAGE = 65536 };

/* Fastest first. */
static const struct mobo_engine_ops *const engines[] = {&mobo_engine_translator,
							&mobo_engine_interpreter};

/* -- The first message -- */

struct init {
	Mobo__V1__EngineInit *msg;
	int fds[MOBO_FDS_PER_MESSAGE];
	unsigned n_fds;
};

static int receive_init(struct init *in, struct mobo_error *err)
{
	static uint8_t buf[MAX_MESSAGE];
	ssize_t len;

	in->n_fds = MOBO_ARRAY_LEN(in->fds);
	len = mobo_fds_recv(CHILD_FD, buf, sizeof(buf), in->fds, &in->n_fds);
	if (len <= 0) {
		return mobo_error_set(
			err, EPROTO,
			"no machine on descriptor 3; mobo-vcpu is started by mobo-machine");
	}
	in->msg = mobo__v1__engine_init__unpack(NULL, (size_t)len, buf);
	if (!in->msg || in->msg->n_fds != in->n_fds) {
		return mobo_error_set(err, EPROTO, "the first message cannot be read");
	}
	if (in->msg->cpus < 1 || in->msg->cpus > BOARD_CPUS) {
		return mobo_error_set(err, EINVAL, "%u CPUs: 1 to %u are possible", in->msg->cpus,
				      BOARD_CPUS);
	}
	return 0;
}

static int init_fd(const struct init *in, const char *name)
{
	for (unsigned i = 0; i < in->n_fds; i++) {
		if (strcmp(in->msg->fds[i], name) == 0) {
			return in->fds[i];
		}
	}
	return -1;
}

static void *map(const struct init *in, const char *name, size_t min, bool write, size_t *size,
		 struct mobo_error *err)
{
	void *p = mobo_memfd_map(init_fd(in, name), min, write, size);

	if (!p) {
		mobo_error_set(err, errno, "memory \"%s\" cannot be mapped: %s", name,
			       strerror(errno));
	}
	return p;
}

/* Where translated code reaches it by a 32-bit address, if there is room. */
static void *move_low(void *p, size_t size)
{
	void *low = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (!p || low == MAP_FAILED) {
		return p;
	}
	low = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, low);
	return low == MAP_FAILED ? p : low;
}

static int make_board(struct service *s, const struct init *in, struct mobo_error *err)
{
	struct board_options opt = {.n_cpus = in->msg->cpus};
	size_t size, codemap_len;

	opt.ops = engine_choose(engines, MOBO_ARRAY_LEN(engines), in->msg->engine, s->reason,
				sizeof(s->reason), err);
	if (!opt.ops) {
		return -ENODEV;
	}
	if ((in->msg->verify || in->msg->chaos) && !opt.ops->check) {
		return mobo_error_set(err, EINVAL, "cpu.verify and cpu.chaos are the translator's");
	}
	if (in->msg->verify && opt.n_cpus > 1) {
		return mobo_error_set(err, EINVAL, "cpu.verify needs cpu.count to be 1");
	}
	opt.verify = in->msg->verify;
	opt.chaos = in->msg->chaos;
	cpuid_offer_avx512(in->msg->avx512);
	opt.paravirt = strcmp(in->msg->hypervisor, "none") != 0;
	opt.page = map(in, "page", sizeof(*opt.page), true, &size, err);
	opt.page = move_low(opt.page, size);
	opt.ram.base = map(in, "ram", in->msg->ram_size, true, &size, err);
	opt.codemap = map(in, "codemap", sizeof(*opt.codemap), true, &codemap_len, err);
	if (!opt.page || !opt.ram.base || !opt.codemap) {
		return -EPROTO;
	}
	opt.ram.size = in->msg->ram_size;
	opt.ram.low_len = in->msg->ram_low_len;
	if (opt.ram.size & 4095 || opt.ram.low_len & 4095 || opt.ram.low_len > opt.ram.size ||
	    opt.ram.low_len > 0xfec00000u || opt.codemap->n_pages != opt.ram.size / 4096 ||
	    codemap_len < sizeof(*opt.codemap) + (opt.codemap->n_pages + 63) / 64 * 16) {
		return mobo_error_set(err, EPROTO, "the machine's memory does not fit together");
	}
	if (in->msg->rom_len) {
		opt.rom = map(in, "rom", in->msg->rom_len, false, &size, err);
		opt.rom_len = in->msg->rom_len;
		if (!opt.rom || opt.rom_len & 4095 || opt.rom_len > 16u << 20) {
			return mobo_error_set(err, EPROTO, "the firmware's size is wrong");
		}
	}
	return board_create(&s->board, &opt);
}

/* -- Life -- */

/* The machine is gone: nobody can ask us anything more. */
static void on_hangup(void *arg, int fd, int events)
{
	struct service *s = arg;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	(void)events;
	/* Descriptors for an attach are read when the attach comes. */
	if (poll(&p, 1, 0) == 1 && p.revents & POLLHUP) {
		mobo_loop_stop(s->loop);
	} else {
		service_take_fds(s);
	}
}

static void on_disconnected(void *arg)
{
	mobo_loop_stop(((struct service *)arg)->loop);
}

static int connect_bus(struct service *s, const struct init *in, struct mobo_error *err)
{
	struct mobo_bus_options opt = {
		.endpoint = in->msg->endpoint,
		.role = MOBO__V1__ROLE__ENGINE,
		.name = in->msg->name,
		.token = in->msg->token,
		.disconnected = on_disconnected,
		.arg = s,
	};
	int r = mobo_loop_create(&s->loop);

	if (r < 0) {
		return mobo_error_set(err, -r, "no event loop: %s", strerror(-r));
	}
	r = mobo_bus_connect(&s->bus, s->loop, &opt, MOBO_BUS_DEADLINE_MS, err);
	if (r < 0) {
		return r;
	}
	if (*in->msg->log_endpoint) {
		mobo_bus_log(s->bus, in->msg->log_endpoint);
	}
	return 0;
}

static uint64_t log_clock(void *arg)
{
	return board_now_ns(arg);
}

static int run(struct service *s, const struct init *in, struct mobo_error *err)
{
	Mobo__V1__Ready ready = MOBO__V1__READY__INIT;
	int r;

	r = make_board(s, in, err);
	if (r < 0) {
		return r;
	}
	mobo_log_set_clock(log_clock, s->board);
	r = connect_bus(s, in, err);
	if (r < 0) {
		return r;
	}
	service_start(s);
	r = board_start_threads(s->board);
	if (r < 0) {
		return mobo_error_set(err, -r, "the CPUs cannot be started: %s", strerror(-r));
	}
	mobo_loop_fd(s->loop, CHILD_FD, MOBO_LOOP_READ, on_hangup, s);
	r = mobo_sandbox_enter(MOBO_SANDBOX_EXEC_MEMORY, err);
	if (r < 0) {
		return r;
	}
	ready.sandboxed = true;
	mobo_bus_call(s->bus, 0, &ready.base, 0, service_ignore, s);
	mobo_loop_run(s->loop);
	board_stop_threads(s->board);
	return 0;
}

int main(int argc, char **argv)
{
	static struct service service;
	struct mobo_error err = {0};
	struct init in = {0};
	int r;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	/* What ends the whole process group is for the machine, which then tells us. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	mobo_log_init("vcpu");
	r = receive_init(&in, &err);
	if (r == 0) {
		r = run(&service, &in, &err);
	}
	if (r < 0) {
		mobo_error("%s", err.text);
		return 1;
	}
	/* Threads are joined and the machine knows: the kernel frees the rest faster. */
	_exit(0);
}
