/* SPDX-License-Identifier: Apache-2.0 */
/* HPET: IA-PC HPET specification 1.0a, section 2.3. Not modelled: FSB (MSI) interrupts. */
#include "irq/hpet.h"

#include <string.h>

#include "mobo/base.h"

enum {
	REG_CAP = 0x000,
	REG_CONFIG = 0x010,
	REG_STATUS = 0x020,
	REG_COUNTER = 0x0f0,
	REG_TIMER = 0x100, /* 0x20 bytes each */
	CONFIG_ENABLE = 1 << 0,
	CONFIG_LEGACY = 1 << 1,
	T_LEVEL = 1 << 1,
	T_ENABLE = 1 << 2,
	T_PERIODIC = 1 << 3,
	T_PERIODIC_CAP = 1 << 4,
	T_SIZE_CAP = 1 << 5,
	T_VAL_SET = 1 << 6,
	T_32BIT = 1 << 8,
	T_ROUTE_SHIFT = 9,
	T_WRITABLE = T_LEVEL | T_ENABLE | T_PERIODIC | T_VAL_SET | T_32BIT | 0x1f << T_ROUTE_SHIFT,
	MIN_PERIOD_NS = 20000,
};
/* 10,000,000 fs a tick; Intel; legacy routing, 64-bit counter, three timers, revision 1. */
#define CAPABILITIES (0x00989680ull << 32 | 0x8086u << 16 | 1 << 15 | 1 << 13 | 2 << 8 | 1)
/* Interrupts can be routed to the I/O APIC inputs that nothing else uses. */
#define T_CAPABILITIES (0x00f00000ull << 32 | T_PERIODIC_CAP | T_SIZE_CAP)

static bool enabled(const struct hpet *h)
{
	return h->s.config & CONFIG_ENABLE;
}

static uint64_t counter(const struct hpet *h, uint64_t now_ns)
{
	if (!enabled(h) || now_ns < h->s.since_ns) {
		return h->s.counter;
	}
	return h->s.counter + (now_ns - h->s.since_ns) / HPET_TICK_NS;
}

static uint64_t width_mask(const struct hpet_timer *t)
{
	return t->config & T_32BIT ? UINT32_MAX : UINT64_MAX;
}

static void output(const struct hpet *h, unsigned n, bool *isa, unsigned *pin)
{
	static const unsigned legacy[2] = {0, 8};

	*isa = n < 2 && h->s.config & CONFIG_LEGACY;
	*pin = *isa ? legacy[n] : (unsigned)(h->s.timer[n].config >> T_ROUTE_SHIFT & 0x1f);
}

/* When the counter next equals the comparator. */
static void arm(struct hpet *h, unsigned n, uint64_t now_ns)
{
	struct hpet_timer *t = &h->s.timer[n];
	uint64_t ticks = (t->comparator - counter(h, now_ns)) & width_mask(t);

	t->due_ns = UINT64_MAX;
	if (enabled(h) && ticks < (UINT64_MAX / 2 - now_ns) / HPET_TICK_NS) {
		t->due_ns = now_ns + ticks * HPET_TICK_NS;
	}
}

static void arm_all(struct hpet *h, uint64_t now_ns)
{
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		arm(h, n, now_ns);
	}
}

static void lower(struct hpet *h, unsigned n)
{
	bool isa;
	unsigned pin;

	if (h->s.status >> n & 1) {
		h->s.status &= ~(1ull << n);
		output(h, n, &isa, &pin);
		h->line(h->arg, isa, pin, false);
	}
}

static void raise(struct hpet *h, unsigned n)
{
	bool isa;
	unsigned pin;

	output(h, n, &isa, &pin);
	if (!(h->s.timer[n].config & T_ENABLE)) {
		return;
	}
	if (!(h->s.timer[n].config & T_LEVEL)) {
		h->pulse(h->arg, isa, pin);
	} else if (!(h->s.status >> n & 1)) {
		h->s.status |= 1ull << n;
		h->line(h->arg, isa, pin, true);
	}
}

static void expire_timer(struct hpet *h, unsigned n, uint64_t now_ns)
{
	struct hpet_timer *t = &h->s.timer[n];
	uint64_t mask = width_mask(t);

	if (t->config & T_PERIODIC && t->period & mask) {
		uint64_t period = t->period & mask;
		uint64_t late = (counter(h, now_ns) - t->comparator) & mask;

		t->comparator = (t->comparator + (late / period + 1) * period) & mask;
		arm(h, n, now_ns);
		t->due_ns = MOBO_MAX(t->due_ns, now_ns + MIN_PERIOD_NS);
	} else if (t->config & T_32BIT) {
		t->due_ns += (1ull << 32) * HPET_TICK_NS; /* comes round again */
	} else {
		t->due_ns = UINT64_MAX;
	}
	raise(h, n);
}

uint64_t hpet_deadline(const struct hpet *h)
{
	uint64_t next = UINT64_MAX;

	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		if (h->s.timer[n].config & T_ENABLE) {
			next = MOBO_MIN(next, h->s.timer[n].due_ns);
		}
	}
	return next;
}

/* Timers whose interrupt is off are moved on too, lest they fire late when it is turned on. */
void hpet_expire(struct hpet *h, uint64_t now_ns)
{
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		if (now_ns >= h->s.timer[n].due_ns) {
			expire_timer(h, n, now_ns);
		}
	}
}

static uint64_t read_register(const struct hpet *h, uint32_t reg, uint64_t now_ns)
{
	unsigned n = (reg - REG_TIMER) / 0x20;

	switch (reg) {
	case REG_CAP: return CAPABILITIES;
	case REG_CONFIG: return h->s.config;
	case REG_STATUS: return h->s.status;
	case REG_COUNTER: return counter(h, now_ns);
	}
	if (reg < REG_TIMER || n >= HPET_TIMERS) {
		return 0;
	}
	switch (reg & 0x18) {
	case 0x00: return h->s.timer[n].config | T_CAPABILITIES;
	case 0x08: return h->s.timer[n].comparator & width_mask(&h->s.timer[n]);
	}
	return 0;
}

static void write_config(struct hpet *h, uint64_t val, uint64_t now_ns)
{
	uint64_t old = h->s.config;

	val &= CONFIG_ENABLE | CONFIG_LEGACY;
	h->s.counter = counter(h, now_ns);
	h->s.since_ns = now_ns;
	if ((old ^ val) & CONFIG_LEGACY) {
		for (unsigned n = 0; n < 2; n++) {
			lower(h, n);
		}
	}
	h->s.config = val;
	arm_all(h, now_ns);
	if ((old ^ val) & CONFIG_LEGACY) {
		h->legacy(h->arg, val & CONFIG_LEGACY);
	}
}

static void write_timer_config(struct hpet *h, unsigned n, uint64_t val, uint64_t now_ns)
{
	struct hpet_timer *t = &h->s.timer[n];

	val &= T_WRITABLE;
	if ((t->config ^ val) & (T_LEVEL | T_ENABLE | 0x1f << T_ROUTE_SHIFT)) {
		lower(h, n);
	}
	t->config = val;
	if (val & T_32BIT) {
		t->comparator &= UINT32_MAX;
		t->period &= UINT32_MAX;
	}
	arm(h, n, now_ns);
}

/* 2.3.9.2.2: periodic mode's comparator is reached through VAL_SET, other writes are the period. */
static void write_comparator(struct hpet *h, unsigned n, uint64_t val, uint64_t now_ns)
{
	struct hpet_timer *t = &h->s.timer[n];

	val &= width_mask(t);
	if (!(t->config & T_PERIODIC) || t->config & T_VAL_SET) {
		t->comparator = val;
	}
	if (t->config & T_PERIODIC) {
		t->period = val;
	}
	t->config &= ~(uint64_t)T_VAL_SET;
	arm(h, n, now_ns);
}

static void write_register(struct hpet *h, uint32_t reg, uint64_t val, uint64_t now_ns)
{
	unsigned n = (reg - REG_TIMER) / 0x20;

	switch (reg) {
	case REG_CONFIG: write_config(h, val, now_ns); return;
	case REG_STATUS:
		for (n = 0; n < HPET_TIMERS; n++) {
			if (val >> n & 1) {
				lower(h, n);
			}
		}
		return;
	case REG_COUNTER:
		if (!enabled(h)) { /* 2.3.7: written while halted only */
			h->s.counter = val;
		}
		return;
	}
	if (reg < REG_TIMER || n >= HPET_TIMERS) {
		return;
	}
	if ((reg & 0x18) == 0x00) {
		write_timer_config(h, n, val, now_ns);
	} else if ((reg & 0x18) == 0x08) {
		write_comparator(h, n, val, now_ns);
	}
}

uint64_t hpet_read(struct hpet *h, uint32_t offset, unsigned size, uint64_t now_ns)
{
	uint64_t val = read_register(h, offset & ~7u, now_ns);

	return size == 8 ? val : (uint32_t)(val >> (offset & 4 ? 32 : 0));
}

/* What the half that is not written keeps. */
static uint64_t other_half(const struct hpet *h, uint32_t reg, uint64_t now_ns)
{
	const struct hpet_timer *t = &h->s.timer[0];

	if (reg == REG_STATUS) {
		return 0; /* written ones clear: none there */
	}
	for (unsigned n = 0; n < HPET_TIMERS; n++, t++) {
		if (reg == REG_TIMER + n * 0x20 + 8 && t->config & T_PERIODIC) {
			return t->period;
		}
	}
	return read_register(h, reg, now_ns);
}

void hpet_write(struct hpet *h, uint32_t offset, unsigned size, uint64_t val, uint64_t now_ns)
{
	uint32_t reg = offset & ~7u;

	if (size != 8) {
		uint64_t old = other_half(h, reg, now_ns);

		val = offset & 4 ? (uint32_t)old | val << 32
				 : (old & ~(uint64_t)UINT32_MAX) | (uint32_t)val;
	}
	write_register(h, reg, val, now_ns);
}

void hpet_reset(struct hpet *h, uint64_t now_ns)
{
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		lower(h, n);
	}
	if (h->s.config & CONFIG_LEGACY) {
		h->legacy(h->arg, false);
	}
	memset(&h->s, 0, sizeof(h->s));
	h->s.since_ns = now_ns;
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		h->s.timer[n].comparator = UINT64_MAX;
		h->s.timer[n].due_ns = UINT64_MAX;
	}
}

#define TIMER_FIELDS(n)                                             \
	MOBO_FIELD(struct hpet_state, timer[n].config),             \
		MOBO_FIELD(struct hpet_state, timer[n].comparator), \
		MOBO_FIELD(struct hpet_state, timer[n].period),     \
		MOBO_FIELD(struct hpet_state, timer[n].due_ns)

const struct mobo_field hpet_fields[] = {
	MOBO_FIELD(struct hpet_state, config),
	MOBO_FIELD(struct hpet_state, status),
	MOBO_FIELD(struct hpet_state, counter),
	MOBO_FIELD(struct hpet_state, since_ns),
	TIMER_FIELDS(0),
	TIMER_FIELDS(1),
	TIMER_FIELDS(2),
};
const unsigned hpet_n_fields = sizeof(hpet_fields) / sizeof(hpet_fields[0]);
