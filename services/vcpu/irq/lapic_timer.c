/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC's timer: Intel SDM volume 3, 10.5.4. Counts are computed from virtual time. */
#include "irq/lapic_internal.h"

#include "mobo/base.h"

/* A guest that asks for more interrupts than this gets them at this rate. */
enum { MIN_PERIOD_NS = 20000 };

static uint32_t mode(const struct lapic *l)
{
	return atomic_load_explicit(&l->s.lvt[LVT_TIMER], memory_order_relaxed) & LVT_TIMER_MODE;
}

/* DCR bits 3, 1, 0: 000 divides by 2, 001 by 4 ... 110 by 128, 111 by 1. */
static unsigned divide_shift(const struct lapic *l)
{
	uint32_t dcr = l->s.timer_divide;

	return (((dcr & 3) | (dcr >> 1 & 4)) + 1) & 7;
}

static uint64_t period_ns(const struct lapic *l)
{
	return (uint64_t)l->s.timer_initial << divide_shift(l);
}

static void arm(struct lapic *l, uint64_t next_ns)
{
	l->s.timer_next_ns = next_ns;
	l->ops->timer_changed(l);
}

uint32_t lapic_timer_count(const struct lapic *l)
{
	uint64_t elapsed, now = l->ops->now_ns((struct lapic *)l);

	if (l->s.timer_initial == 0 || l->s.timer_next_ns == UINT64_MAX ||
	    mode(l) == LVT_TIMER_DEADLINE) {
		return 0; /* also once it expired, whatever mode it gets then */
	}
	elapsed = now > l->s.timer_start_ns ? now - l->s.timer_start_ns : 0;
	elapsed >>= divide_shift(l);
	if (mode(l) == LVT_TIMER_PERIODIC) {
		return l->s.timer_initial - (uint32_t)(elapsed % l->s.timer_initial);
	}
	return elapsed < l->s.timer_initial ? l->s.timer_initial - (uint32_t)elapsed : 0;
}

void lapic_timer_set_initial(struct lapic *l, uint32_t val)
{
	if (mode(l) == LVT_TIMER_DEADLINE) {
		return;
	}
	l->s.timer_initial = val;
	l->s.timer_start_ns = l->ops->now_ns(l);
	arm(l, val ? l->s.timer_start_ns + period_ns(l) : UINT64_MAX);
}

/* The count stays, what is left of it runs at the new rate. */
void lapic_timer_set_divide(struct lapic *l, uint32_t val)
{
	uint32_t count = lapic_timer_count(l);
	uint64_t now = l->ops->now_ns(l), done;

	l->s.timer_divide = val & 0xb;
	if (l->s.timer_next_ns == UINT64_MAX || mode(l) == LVT_TIMER_DEADLINE) {
		return;
	}
	done = (uint64_t)(l->s.timer_initial - count) << divide_shift(l);
	l->s.timer_start_ns = now - done;
	arm(l, now + ((uint64_t)count << divide_shift(l)));
}

/* Going to or from TSC-deadline mode disarms: 10.5.4.1. */
void lapic_timer_set_lvt(struct lapic *l, uint32_t val)
{
	uint64_t now = l->ops->now_ns(l);
	uint32_t count, old = mode(l);

	lapic_expire(l, now);
	count = lapic_timer_count(l);
	atomic_store_explicit(&l->s.lvt[LVT_TIMER], val, memory_order_relaxed);
	if (old == mode(l)) {
		return;
	}
	if (old == LVT_TIMER_DEADLINE || mode(l) == LVT_TIMER_DEADLINE) {
		l->s.timer_initial = 0;
		l->s.tsc_deadline = 0;
		arm(l, UINT64_MAX);
	} else if (count) {
		arm(l, now + ((uint64_t)count << divide_shift(l)));
	}
}

static void arm_deadline(struct lapic *l)
{
	uint64_t tsc = l->ops->tsc(l), now = l->ops->now_ns(l), ns;

	if (l->s.tsc_deadline <= tsc) {
		arm(l, now);
		return;
	}
	ns = l->ops->tsc_to_ns(l, l->s.tsc_deadline - tsc);
	arm(l, ns < (uint64_t)INT64_MAX ? now + ns : UINT64_MAX - 1);
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc)
{
	if (mode(l) != LVT_TIMER_DEADLINE) {
		return; /* the MSR reads as zero then, 10.5.4.1 */
	}
	l->s.tsc_deadline = tsc;
	if (tsc) {
		arm_deadline(l);
	} else {
		arm(l, UINT64_MAX);
	}
}

void lapic_timer_tsc_moved(struct lapic *l)
{
	if (mode(l) == LVT_TIMER_DEADLINE && l->s.tsc_deadline) {
		arm_deadline(l);
	}
}

uint64_t lapic_deadline(const struct lapic *l)
{
	return l->s.timer_next_ns;
}

static void expire_periodic(struct lapic *l, uint64_t now_ns)
{
	uint64_t period = period_ns(l), next;

	/* Periods that nobody could see are lost, as they are on a CPU held by SMM. */
	next = l->s.timer_start_ns + (now_ns - l->s.timer_start_ns) / period * period + period;
	l->s.timer_start_ns = next - period;
	arm(l, MOBO_MAX(next, now_ns + MIN_PERIOD_NS));
	lapic_local(l, LVT_TIMER);
}

void lapic_expire(struct lapic *l, uint64_t now_ns)
{
	if (now_ns < l->s.timer_next_ns) {
		return;
	}
	switch (mode(l)) {
	case LVT_TIMER_PERIODIC:
		if (l->s.timer_initial && now_ns >= l->s.timer_start_ns) {
			expire_periodic(l, now_ns);
		} else {
			arm(l, UINT64_MAX);
		}
		return;
	case LVT_TIMER_DEADLINE:
		if (l->s.tsc_deadline > l->ops->tsc(l)) {
			arm_deadline(l); /* virtual time and TSC differ by a few ppm */
			return;
		}
		l->s.tsc_deadline = 0;
		break;
	}
	arm(l, UINT64_MAX);
	lapic_local(l, LVT_TIMER);
}
