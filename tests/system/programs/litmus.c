// SPDX-License-Identifier: Apache-2.0
/*
 * Guest program: what two to four CPUs may see of each other's memory accesses. The tests and what
 * x86 forbids in them: P. Sewell et al., "x86-TSO: a rigorous and usable programmer's model for
 * x86 multiprocessors", and Intel SDM volume 3, 8.2.3. `litmus MS` runs each for so long.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CELLS = 512, MAX_THREADS = 4, LINE = 64 };

/* One run of a test: two variables in lines of their own, what the threads read, who has come. */
struct cell {
	_Alignas(LINE) volatile int x;
	_Alignas(LINE) volatile int y;
	_Alignas(LINE) volatile int r[MAX_THREADS];
	_Alignas(LINE) atomic_uint here;
};

static struct cell cells[CELLS];
static pthread_barrier_t barrier;
static atomic_bool over;

struct litmus {
	const char *name;
	unsigned n_threads;
	void (*thread[MAX_THREADS])(struct cell *c);
	bool (*forbidden)(const struct cell *c); /* must never be seen */
	bool (*relaxed)(const struct cell *c);	 /* may be seen, though no interleaving shows it */
};

static void mfence(void)
{
	__asm__ volatile("mfence" ::: "memory");
}

static void lock_add(void)
{
	__asm__ volatile("lock; addl $0, (%%rsp)" ::: "memory", "cc");
}

static void xchg(volatile int *at, int val)
{
	__asm__ volatile("xchgl %0, %1" : "+r"(val), "+m"(*at)::"memory");
}

// clang-format off: a test is two lines
/* Store buffering: x = 1; r0 = y || y = 1; r1 = x. */
static void sb_0(struct cell *c)
{
	c->x = 1;
	c->r[0] = c->y;
}
static void sb_1(struct cell *c)
{
	c->y = 1;
	c->r[1] = c->x;
}
static void sb_mfence_0(struct cell *c)
{
	c->x = 1;
	mfence();
	c->r[0] = c->y;
}
static void sb_mfence_1(struct cell *c)
{
	c->y = 1;
	mfence();
	c->r[1] = c->x;
}
static void sb_lock_0(struct cell *c)
{
	c->x = 1;
	lock_add();
	c->r[0] = c->y;
}
static void sb_lock_1(struct cell *c)
{
	c->y = 1;
	lock_add();
	c->r[1] = c->x;
}
static void sb_xchg_0(struct cell *c)
{
	xchg(&c->x, 1);
	c->r[0] = c->y;
}
static void sb_xchg_1(struct cell *c)
{
	xchg(&c->y, 1);
	c->r[1] = c->x;
}
static bool both_old(const struct cell *c)
{
	return c->r[0] == 0 && c->r[1] == 0;
}

/* Own stores are seen early: x = 1; r0 = x; r2 = y || y = 1; r1 = y; r3 = x. */
static void forward_0(struct cell *c)
{
	c->x = 1;
	c->r[0] = c->x;
	c->r[2] = c->y;
}
static void forward_1(struct cell *c)
{
	c->y = 1;
	c->r[1] = c->y;
	c->r[3] = c->x;
}
static bool own_missed(const struct cell *c)
{
	return c->r[0] == 0 || c->r[1] == 0;
}
static bool forwarded(const struct cell *c)
{
	return c->r[2] == 0 && c->r[3] == 0;
}

/* Message passing: x = 1; y = 1 || r0 = y; r1 = x. */
static void mp_0(struct cell *c)
{
	c->x = 1;
	c->y = 1;
}
static void mp_1(struct cell *c)
{
	c->r[0] = c->y;
	c->r[1] = c->x;
}
static bool mp_bad(const struct cell *c)
{
	return c->r[0] == 1 && c->r[1] == 0;
}

/* Load buffering: r0 = x; y = 1 || r1 = y; x = 1. */
static void lb_0(struct cell *c)
{
	c->r[0] = c->x;
	c->y = 1;
}
static void lb_1(struct cell *c)
{
	c->r[1] = c->y;
	c->x = 1;
}
static bool lb_bad(const struct cell *c)
{
	return c->r[0] == 1 && c->r[1] == 1;
}

/* S: x = 2; y = 1 || r0 = y; x = 1. */
static void s_0(struct cell *c)
{
	c->x = 2;
	c->y = 1;
}
static void s_1(struct cell *c)
{
	c->r[0] = c->y;
	c->x = 1;
}
static bool s_bad(const struct cell *c)
{
	return c->r[0] == 1 && c->x == 2;
}

/* 2+2W: x = 1; y = 2 || y = 1; x = 2. */
static void w22_0(struct cell *c)
{
	c->x = 1;
	c->y = 2;
}
static void w22_1(struct cell *c)
{
	c->y = 1;
	c->x = 2;
}
static bool w22_bad(const struct cell *c)
{
	return c->x == 1 && c->y == 1;
}

/* Coherence: x = 1 || r0 = x; r1 = x. */
static void corr_0(struct cell *c)
{
	c->x = 1;
}
static void corr_1(struct cell *c)
{
	c->r[0] = c->x;
	c->r[1] = c->x;
}
static bool corr_bad(const struct cell *c)
{
	return c->r[0] == 1 && c->r[1] == 0;
}

/* Stores are transitive: x = 1 || r0 = x; y = 1 || r1 = y; r2 = x. */
static void wrc_1(struct cell *c)
{
	c->r[0] = c->x;
	c->y = 1;
}
static void wrc_2(struct cell *c)
{
	c->r[1] = c->y;
	c->r[2] = c->x;
}
static bool wrc_bad(const struct cell *c)
{
	return c->r[0] == 1 && c->r[1] == 1 && c->r[2] == 0;
}

/* All see stores in one order: x = 1 || y = 1 || r0 = x; r1 = y || r2 = y; r3 = x. */
static void iriw_1(struct cell *c)
{
	c->y = 1;
}
static void iriw_2(struct cell *c)
{
	c->r[0] = c->x;
	c->r[1] = c->y;
}
static void iriw_3(struct cell *c)
{
	c->r[2] = c->y;
	c->r[3] = c->x;
}

// clang-format on

static bool iriw_bad(const struct cell *c)
{
	return c->r[0] == 1 && c->r[1] == 0 && c->r[2] == 1 && c->r[3] == 0;
}

static const struct litmus all[] = {
	{"SB", 2, {sb_0, sb_1}, NULL, both_old},
	{"SB+mfence", 2, {sb_mfence_0, sb_mfence_1}, both_old, NULL},
	{"SB+lock", 2, {sb_lock_0, sb_lock_1}, both_old, NULL},
	{"SB+xchg", 2, {sb_xchg_0, sb_xchg_1}, both_old, NULL},
	{"forwarding", 2, {forward_0, forward_1}, own_missed, forwarded},
	{"MP", 2, {mp_0, mp_1}, mp_bad, NULL},
	{"LB", 2, {lb_0, lb_1}, lb_bad, NULL},
	{"S", 2, {s_0, s_1}, s_bad, NULL},
	{"2+2W", 2, {w22_0, w22_1}, w22_bad, NULL},
	{"CoRR", 2, {corr_0, corr_1}, corr_bad, NULL},
	{"WRC", 3, {corr_0, wrc_1, wrc_2}, wrc_bad, NULL},
	{"IRIW", 4, {corr_0, iriw_1, iriw_2, iriw_3}, iriw_bad, NULL},
};

struct worker {
	const struct litmus *test;
	unsigned n;
};

static void pin(unsigned n)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(n % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Threads that have a CPU each begin a run together; more of them go through the cells as they may.
 */
static void meet(struct cell *c, const struct worker *w)
{
	if (w->test->n_threads > 2) {
		return;
	}
	atomic_fetch_add(&c->here, 1);
	for (unsigned i = 0; atomic_load(&c->here) < w->test->n_threads; i++) {
		if (i > 20000) {
			sched_yield();
		}
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	pin(w->n);
	for (;;) {
		pthread_barrier_wait(&barrier);
		if (atomic_load(&over)) {
			return NULL;
		}
		for (unsigned i = 0; i < CELLS; i++) {
			meet(&cells[i], w);
			w->test->thread[w->n](&cells[i]);
		}
		pthread_barrier_wait(&barrier);
	}
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned long count(bool (*is)(const struct cell *c))
{
	unsigned long n = 0;

	for (unsigned i = 0; is && i < CELLS; i++) {
		n += is(&cells[i]);
	}
	return n;
}

/* How often what must not be seen was. */
static unsigned long run(const struct litmus *test, uint64_t ms)
{
	pthread_t thread[MAX_THREADS];
	struct worker worker[MAX_THREADS];
	unsigned long runs = 0, relaxed = 0, bad = 0;
	uint64_t end = now_ms() + ms;

	atomic_store(&over, false);
	pthread_barrier_init(&barrier, NULL, test->n_threads + 1);
	for (unsigned i = 0; i < test->n_threads; i++) {
		worker[i] = (struct worker){test, i};
		pthread_create(&thread[i], NULL, work, &worker[i]);
	}
	while (now_ms() < end) {
		memset(cells, 0, sizeof(cells));
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		runs += CELLS;
		bad += count(test->forbidden);
		relaxed += count(test->relaxed);
	}
	atomic_store(&over, true);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < test->n_threads; i++) {
		pthread_join(thread[i], NULL);
	}
	pthread_barrier_destroy(&barrier);
	printf("%s runs=%lu relaxed=%lu forbidden=%lu\n", test->name, runs, relaxed, bad);
	fflush(stdout);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t ms = argc > 1 ? strtoul(argv[1], NULL, 10) : 500;
	unsigned long bad = 0;

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		bad += run(&all[i], ms);
	}
	printf("forbidden in all: %lu\n", bad);
	return bad != 0;
}
