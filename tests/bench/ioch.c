/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an access to a device costs, beside a raw ping-pong of one cache line between the same two
 * CPUs in the same run.
 *
 *	ioch [--json] [--quick]
 *
 * Two processes, pinned to two CPUs where there are two. Medians of batches of 500; a 2-CPU host
 * that is busy with something else shows it in the p99.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "mobo/base.h"
#include "mobo/io.h"

enum { BATCH = 500, MAX_BATCHES = 2000, SLEEP_SAMPLES = 200 };

struct line {
	_Atomic uint32_t seq;
	uint32_t data[15];
} __attribute__((aligned(128)));

struct shared {
	struct mobo_ioch ch;
	struct line there, back;
	_Atomic bool stop;
};

static struct shared *sh;
static int bell;
static unsigned n_cpus;
static cpu_set_t all_cpus;
static unsigned n_batches = 200;

struct result {
	const char *name;
	double p50, p99; /* ns */
};

static void *new_shared(void)
{
	void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	MOBO_ASSERT(p != MAP_FAILED);
	return p;
}

static void pin(unsigned which)
{
	cpu_set_t one;
	unsigned n = 0;

	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &all_cpus) && n++ == which % n_cpus) {
			CPU_ZERO(&one);
			CPU_SET(i, &one);
			sched_setaffinity(0, sizeof(one), &one);
			return;
		}
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static struct result summary(const char *name, double *ns, unsigned n)
{
	qsort(ns, n, sizeof(ns[0]), by_size);
	return (struct result){name, ns[n / 2], ns[n * 99 / 100]};
}

static struct result in_batches(const char *name, void (*once)(uint32_t i))
{
	static double ns[MAX_BATCHES];
	uint32_t i = 0;

	for (unsigned b = 0; b < n_batches; b++) {
		uint64_t start = mobo_monotonic_ns();

		for (unsigned k = 0; k < BATCH; k++) {
			once(++i);
		}
		ns[b] = (double)(mobo_monotonic_ns() - start) / BATCH;
	}
	return summary(name, ns, n_batches);
}

/* -- The raw ping-pong -- */

static void raw_device(void)
{
	uint32_t seen = 0;

	while (!sh->stop) {
		uint32_t seq = atomic_load_explicit(&sh->there.seq, memory_order_acquire);

		if (seq != seen) {
			seen = seq;
			sh->back.data[0] = sh->there.data[0] + 1;
			atomic_store_explicit(&sh->back.seq, seq, memory_order_release);
		}
	}
}

static void raw_once(uint32_t i)
{
	sh->there.data[0] = i;
	atomic_store_explicit(&sh->there.seq, i, memory_order_release);
	while (atomic_load_explicit(&sh->back.seq, memory_order_acquire) != i) {
	}
	MOBO_ASSERT(sh->back.data[0] == i + 1);
}

/* -- The channel -- */

static uint64_t dev_read(void *arg, uint32_t region, uint64_t offset, unsigned size,
			 uint64_t vtime_ns)
{
	return offset + 1;
}

static void dev_write(void *arg, uint32_t region, uint64_t offset, unsigned size, uint64_t val,
		      uint64_t vtime_ns)
{
}

static const struct mobo_channel_ops ops = {.read = dev_read, .write = dev_write};

static void channel_device(void)
{
	struct mobo_channel c = {.ch = &sh->ch, .ops = &ops, .n_vcpus = 1, .n_cpus = n_cpus};
	struct pollfd p = {.fd = bell, .events = POLLIN};
	uint64_t n;

	MOBO_ASSERT(mobo_channel_open(&c, sizeof(sh->ch)) == 0);
	while (!sh->stop) {
		mobo_channel_awake(&c);
		if (!mobo_channel_run(&c)) {
			poll(&p, 1, -1);
			if (read(bell, &n, sizeof(n)) < 0) {
				continue;
			}
		}
	}
}

static struct mobo_io_engine io;

static void sync_once(uint32_t i)
{
	uint64_t data = 0;
	bool changed;

	mobo_io_sync(&io, 0, MOBO_IO_READ, 0, i, 4, &data, &changed);
	MOBO_ASSERT(data == i + 1);
}

static void post_once(uint32_t i)
{
	mobo_io_post(&io, 0, 0, 0, 4, i);
}

/* One posted write every few microseconds, as drivers make them: not limited by the device. */
static void post_spaced_once(uint32_t i)
{
	for (unsigned k = 0; k < 40; k++) {
		__builtin_ia32_pause();
	}
	mobo_io_post(&io, 0, 0, 0, 4, i);
}

static void space_once(uint32_t i)
{
	for (unsigned k = 0; k < 40; k++) {
		__builtin_ia32_pause();
	}
}

static struct result sleeping_peer(const char *name)
{
	static double ns[SLEEP_SAMPLES];
	unsigned n = n_batches < 100 ? 20 : SLEEP_SAMPLES;

	for (unsigned i = 0; i < n; i++) {
		uint64_t start;

		usleep(1000);
		start = mobo_monotonic_ns();
		sync_once(i);
		ns[i] = (double)(mobo_monotonic_ns() - start);
	}
	return summary(name, ns, n);
}

static pid_t start_device(void (*fn)(void))
{
	pid_t pid = fork();

	MOBO_ASSERT(pid >= 0);
	if (pid == 0) {
		pin(1);
		fn();
		_exit(0);
	}
	return pid;
}

static void stop_device(pid_t pid)
{
	uint64_t one = 1;

	sh->stop = true;
	MOBO_ASSERT(write(bell, &one, sizeof(one)) == sizeof(one));
	waitpid(pid, NULL, 0);
	MOBO_ASSERT(read(bell, &one, sizeof(one)) != 0);
	munmap(sh, sizeof(*sh));
	sh = new_shared();
}

int main(int argc, char **argv)
{
	struct result r[6];
	unsigned n = 0;
	bool json = false;
	double empty;
	pid_t pid;

	for (int i = 1; i < argc; i++) {
		json |= strcmp(argv[i], "--json") == 0;
		if (strcmp(argv[i], "--quick") == 0) {
			n_batches = 20;
		}
	}
	MOBO_ASSERT(sched_getaffinity(0, sizeof(all_cpus), &all_cpus) == 0);
	n_cpus = (unsigned)CPU_COUNT(&all_cpus);
	bell = eventfd(0, EFD_NONBLOCK);
	sh = new_shared();
	pin(0);

	if (n_cpus > 1) { /* two spinners on one CPU measure the scheduler */
		pid = start_device(raw_device);
		r[n++] = in_batches("raw ping-pong", raw_once);
		stop_device(pid);
	}
	mobo_ioch_init(&sh->ch);
	io = (struct mobo_io_engine){.ch = &sh->ch, .bell_fd = bell, .n_cpus = n_cpus};
	pid = start_device(channel_device);
	r[n++] = in_batches("sync read, device awake", sync_once);
	r[n++] = in_batches("posted write, back to back", post_once);
	empty = in_batches("", space_once).p50;
	r[n] = in_batches("posted write, one a microsecond", post_spaced_once);
	r[n].p50 -= empty;
	r[n++].p99 -= empty;
	r[n++] = sleeping_peer("sync read, device asleep");
	stop_device(pid);

	if (json) {
		printf("{\"cpus\": %u", n_cpus);
		for (unsigned i = 0; i < n; i++) {
			printf(", \"%s\": {\"p50_ns\": %.1f, \"p99_ns\": %.1f}", r[i].name,
			       r[i].p50, r[i].p99);
		}
		if (n_cpus > 1) {
			printf(", \"sync/raw\": %.2f", r[1].p50 / r[0].p50);
		}
		printf("}\n");
		return 0;
	}
	printf("%-34s %10s %10s\n", "", "p50 ns", "p99 ns");
	for (unsigned i = 0; i < n; i++) {
		printf("%-34s %10.1f %10.1f\n", r[i].name, r[i].p50, r[i].p99);
	}
	if (n_cpus > 1) {
		printf("sync / raw: %.2f (aim: at most 1.3)\n", r[1].p50 / r[0].p50);
	}
	return 0;
}
