/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time. The guest's TSC is the host's plus an offset, frozen while the machine is paused and
 * in step with virtual time over pauses. Timers
 * are deadlines in virtual time; a vCPU that runs learns of its next one by a POSIX timer that
 * signals its thread, set only when it must ring earlier than it is going to. One that sleeps
 * passes the deadline to the futex.
 */
#include <signal.h>
#include <x86intrin.h>

#include "exits/board_internal.h"

struct moment {
	uint64_t tsc, mono_ns;
};

/* The TSC and CLOCK_MONOTONIC of one moment: of some tries that which took the least time. */
static struct moment sample(void)
{
	struct moment best = {0};
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 32; i++) {
		uint64_t before = __rdtsc(), mono = mobo_monotonic_ns(), after = __rdtsc();

		if (after - before < least) {
			least = after - before;
			best = (struct moment){before + least / 2, mono};
		}
	}
	return best;
}

void board_time_init(struct board *b)
{
	struct moment first = sample(), last;

	/* Samples good to some 20 ns give the frequency to a few ppm in 20 ms. */
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	last = sample();
	b->tsc_hz = (uint64_t)((unsigned __int128)(last.tsc - first.tsc) * 1000000000 /
			       (last.mono_ns - first.mono_ns));
	MOBO_ASSERT(b->tsc_hz > 0);
	b->tsc_frozen = 0;
	b->tsc_frozen_ns = board_now_ns(b);
}

/*
 * All vCPUs are parked during start and stop. What virtual time has gone on meanwhile, because the
 * clock stops after the CPUs and starts before them, the TSC makes up for.
 */
void board_tsc_start(struct board *b)
{
	uint64_t now = board_now_ns(b), missed;

	if (atomic_load(&b->tsc_running)) {
		return;
	}
	missed = now > b->tsc_frozen_ns ? now - b->tsc_frozen_ns : 0;
	b->tsc_frozen += (uint64_t)((unsigned __int128)missed * b->tsc_hz / 1000000000);
	atomic_store(&b->tsc_offset, b->tsc_frozen - __rdtsc());
	atomic_store(&b->tsc_running, true);
}

void board_tsc_stop(struct board *b)
{
	if (atomic_load(&b->tsc_running)) {
		b->tsc_frozen = board_tsc(b);
		b->tsc_frozen_ns = board_now_ns(b);
		atomic_store(&b->tsc_running, false);
	}
}

uint64_t board_tsc(struct board *b)
{
	if (!atomic_load_explicit(&b->tsc_running, memory_order_relaxed)) {
		return b->tsc_frozen;
	}
	return __rdtsc() + atomic_load_explicit(&b->tsc_offset, memory_order_relaxed);
}

bool board_tsc_offset(struct board *b, uint64_t *offset)
{
	*offset = atomic_load_explicit(&b->tsc_offset, memory_order_relaxed);
	return true;
}

uint64_t board_tsc_hz(struct board *b)
{
	return b->tsc_hz;
}

uint64_t board_guest_tsc(struct vcpu *v)
{
	return board_tsc(v->board) + v->tsc_offset;
}

/* -- Deadlines -- */

uint64_t cpu_deadline_ns(struct cpu *c)
{
	uint64_t deadline = lapic_deadline(&c->lapic);

	if (c == &c->board->cpu[0]) {
		deadline = MOBO_MIN(deadline, atomic_load(&c->board->chip_deadline_ns));
	}
	return deadline;
}

void cpu_arm(struct cpu *c)
{
	uint64_t deadline = cpu_deadline_ns(c), mono, armed;
	struct itimerspec it = {0};

	if (deadline == UINT64_MAX) {
		return;
	}
	if (deadline <= board_now_ns(c->board)) {
		vcpu_request(c->v, REQ_TIMER);
		return;
	}
	mono = mobo_clock_to_monotonic_ns(c->board->page, deadline);
	armed = atomic_load(&c->armed_mono_ns);
	if (!c->has_timer || mono == UINT64_MAX || (armed && armed <= mono)) {
		return;
	}
	atomic_store(&c->armed_mono_ns, mono);
	it.it_value.tv_sec = (time_t)(mono / 1000000000);
	it.it_value.tv_nsec = (long)(mono % 1000000000);
	timer_settime(c->timer, TIMER_ABSTIME, &it, NULL);
}

void cpu_timers(struct cpu *c)
{
	struct board *b = c->board;
	uint64_t now;

	atomic_fetch_and(&c->v->req, ~(uint32_t)REQ_TIMER);
	now = board_now_ns(b);
	lapic_expire(&c->lapic, now);
	if (c == &b->cpu[0] && now >= atomic_load(&b->chip_deadline_ns)) {
		board_irq_lock(b);
		i8254_expire(&b->pit, now);
		hpet_expire(&b->hpet, now);
		board_irq_unlock(b);
	}
	cpu_count(c, EXIT_TIMER);
	cpu_arm(c);
}
