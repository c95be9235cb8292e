/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in a guest, one process a CPU: compares each reading of the clocks with what any process
 * read before. clocks SECONDS prints, for each clock, the readings that went back, the farthest one
 * in its unit, and the greatest step forward.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TSC, MONOTONIC, REALTIME, MONOTONIC_SYSCALL, N_CLOCKS };
static const char *const names[] = {"tsc", "monotonic", "realtime", "syscall"};

static struct clock {
	_Atomic uint64_t last, n_back, farthest, step;
} * clocks;

static uint64_t ns(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000 + (uint64_t)t->tv_nsec;
}

static uint64_t read_clock(unsigned which)
{
	struct timespec t;

	__builtin_ia32_lfence();
	switch (which) {
	case TSC: return __builtin_ia32_rdtsc();
	case MONOTONIC: clock_gettime(CLOCK_MONOTONIC, &t); break;
	case REALTIME: clock_gettime(CLOCK_REALTIME, &t); break;
	default: syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t); break;
	}
	return ns(&t);
}

static void raise_to(_Atomic uint64_t *max, uint64_t val)
{
	uint64_t old = atomic_load(max);

	while (val > old && !atomic_compare_exchange_weak(max, &old, val)) {
	}
}

static void sample(struct clock *c, unsigned which)
{
	uint64_t last = atomic_load(&c->last), now = read_clock(which);

	if (now < last) {
		atomic_fetch_add(&c->n_back, 1);
		raise_to(&c->farthest, last - now);
	} else if (last) {
		raise_to(&c->step, now - last);
	}
	raise_to(&c->last, now);
}

static void watch(unsigned cpu, uint64_t until_ns)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (read_clock(MONOTONIC) < until_ns) {
		for (unsigned i = 0; i < N_CLOCKS; i++) {
			sample(&clocks[i], i);
		}
	}
}

int main(int argc, char **argv)
{
	uint64_t until_ns = read_clock(MONOTONIC) + strtoull(argv[argc - 1], NULL, 10) * 1000000000;
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	clocks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (long cpu = 0; cpu < n; cpu++) {
		if (fork() == 0) {
			watch((unsigned)cpu, until_ns);
			_exit(0);
		}
	}
	while (wait(NULL) > 0) {
	}
	for (unsigned i = 0; i < N_CLOCKS; i++) {
		printf("%s back=%llu farthest=%llu step=%llu\n", names[i],
		       (unsigned long long)clocks[i].n_back, (unsigned long long)clocks[i].farthest,
		       (unsigned long long)clocks[i].step);
	}
	return 0;
}
