/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8254 interval timer: Intel 231164, "Mode definitions". Not modelled: the clock pulse's phase (a
 * count is loaded on the tick after its write), and the tick by which an odd count of mode 3 is
 * uneven in the counter's reading.
 */
#include "irq/i8254.h"

#include <string.h>

enum {
	/* Control word */
	CW_BCD = 1 << 0,
	CW_MODE_SHIFT = 1,
	CW_ACCESS_SHIFT = 4,
	CW_CHANNEL_SHIFT = 6,
	ACCESS_LATCH = 0,
	ACCESS_LOW = 1,
	ACCESS_HIGH = 2,
	ACCESS_BOTH = 3,
	READ_BACK = 3,
	RB_NO_STATUS = 1 << 4,
	RB_NO_COUNT = 1 << 5,
	STATUS_OUT = 1 << 7,
	STATUS_NULL = 1 << 6,
	/* Port 0x61 */
	P61_GATE2 = 1 << 0,
	P61_WRITABLE = 0xf,
	P61_REFRESH = 1 << 4,
	P61_OUT2 = 1 << 5,
	REFRESH_NS = 15085,
	/* Two interrupts are at least this far apart, whatever count the guest writes. */
	MIN_TICKS = 24,
};

static uint64_t to_ticks(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * I8254_HZ / 1000000000);
}

/* The first nanosecond of a tick. */
static uint64_t to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * 1000000000 + I8254_HZ - 1) / I8254_HZ);
}

static uint32_t modulus(const struct i8254_channel *c)
{
	return c->bcd ? 10000 : 65536;
}

static uint32_t from_bcd(uint32_t v)
{
	uint32_t n = 0;

	for (int shift = 12; shift >= 0; shift -= 4) {
		n = n * 10 + (v >> shift & 0xf);
	}
	return n;
}

static uint16_t to_bcd(uint32_t n)
{
	return (uint16_t)(n % 10 | n / 10 % 10 << 4 | n / 100 % 10 << 8 | n / 1000 % 10 << 12);
}

static uint32_t high_half(const struct i8254_channel *c)
{
	return (c->reload + 1) / 2;
}

/* Loads the count that waits for the end of a period, once that has come. */
static void sync(struct i8254_channel *c, uint64_t now)
{
	if (c->next_reload && now >= c->switch_at) {
		c->reload = c->next_reload;
		c->next_reload = 0;
		c->start = c->switch_at;
		if (c->switch_low) {
			c->start -= high_half(c);
		}
	}
}

static uint64_t elapsed(const struct i8254_channel *c, uint64_t now)
{
	if (!c->running) {
		return c->held;
	}
	return now > c->start ? now - c->start : 0;
}

static bool output(const struct i8254_channel *c, uint64_t now)
{
	uint64_t e = elapsed(c, now);

	switch (c->mode) {
	case 0: return c->loaded && e >= c->reload;
	case 1: return !c->running || e >= c->reload;
	case 2: return !c->running || e % c->reload != c->reload - 1;
	case 3: return !c->running || e % c->reload < high_half(c);
	}
	return !c->loaded || (c->mode == 5 && !c->running) || e != c->reload;
}

/* The counting element. */
static uint16_t counter(const struct i8254_channel *c, uint64_t now)
{
	uint64_t e = elapsed(c, now);
	uint32_t pos = (uint32_t)(e % c->reload), n;

	switch (c->mode) {
	case 2: n = c->reload - pos; break;
	case 3:
		if (pos >= high_half(c)) {
			pos -= high_half(c);
		}
		n = (c->reload & ~1u) - 2 * pos;
		break;
	case 1:
	case 5:
		if (!c->running) {
			n = c->reload;
			break;
		}
		/* fall through */
	default:
		n = (uint32_t)((c->reload + (uint64_t)modulus(c) - e % modulus(c)) % modulus(c));
		break;
	}
	n %= modulus(c);
	return c->bcd ? to_bcd(n) : (uint16_t)n;
}

/* -- Interrupts: rising edges of channel 0 -- */

/* The first rising edge after now; sync()ed. */
static uint64_t edge_of(const struct i8254_channel *c, uint64_t now)
{
	if (!c->running) {
		return UINT64_MAX;
	}
	switch (c->mode) {
	case 0: return now < c->start + c->reload ? c->start + c->reload : UINT64_MAX;
	case 2:
	case 3:
		if (now < c->start) {
			return c->start + c->reload;
		}
		return c->start + ((now - c->start) / c->reload + 1) * c->reload;
	case 4: return now < c->start + c->reload + 1 ? c->start + c->reload + 1 : UINT64_MAX;
	}
	return UINT64_MAX;
}

static uint64_t next_edge(const struct i8254_channel *c, uint64_t now)
{
	struct i8254_channel after = *c;
	uint64_t edge = edge_of(c, now);

	if (c->next_reload && edge > c->switch_at) {
		sync(&after, c->switch_at);
		return edge_of(&after, c->switch_at);
	}
	return edge;
}

static void rearm(struct i8254 *p, uint64_t now)
{
	p->s.next_edge = next_edge(&p->s.ch[0], now);
	p->s.owed = 0;
	p->s.extra_at = UINT64_MAX;
}

uint64_t i8254_deadline(const struct i8254 *p)
{
	uint64_t at = p->s.next_edge < p->s.extra_at ? p->s.next_edge : p->s.extra_at;

	if (at == UINT64_MAX) {
		return UINT64_MAX;
	}
	return to_ns(at < p->s.fired_at + MIN_TICKS ? p->s.fired_at + MIN_TICKS : at);
}

/*
 * Ticks that came while the guest could not take them are made up for at twice the rate, at most
 * one second of them: a clock that counts interrupts stays right, and there is no storm.
 */
static void fire(struct i8254 *p, uint64_t now, uint64_t edges)
{
	const struct i8254_channel *c = &p->s.ch[0];
	bool periodic = c->mode == 2 || c->mode == 3;
	uint32_t most = periodic ? I8254_HZ / c->reload : 0;
	uint64_t owed = p->s.owed + edges;
	int rc = p->tick(p->arg);

	p->s.fired_at = now;
	if (rc > 0 && owed) {
		owed--;
	} else if (rc < 0) {
		owed = 0;
	}
	p->s.owed = owed < most ? (uint32_t)owed : most;
	p->s.extra_at = p->s.owed ? now + (c->reload + 1) / 2 : UINT64_MAX;
}

void i8254_expire(struct i8254 *p, uint64_t now_ns)
{
	struct i8254_channel *c = &p->s.ch[0];
	uint64_t now = to_ticks(now_ns), edges = 0;

	if (now_ns < i8254_deadline(p)) {
		return;
	}
	if (now >= p->s.next_edge) {
		edges = 1;
		/* A count that waits is loaded at an edge, or half a period before one. */
		sync(c, p->s.next_edge);
		if (c->mode == 2 || c->mode == 3) {
			edges += (now - p->s.next_edge) / c->reload;
		}
		sync(c, now);
		p->s.next_edge = next_edge(c, now);
	}
	fire(p, now, edges);
}

/* -- Programming -- */

static void load(struct i8254_channel *c, uint32_t count, uint64_t now)
{
	uint64_t e;

	count = c->bcd ? from_bcd(count) : count;
	if (count == 0) {
		count = modulus(c);
	}
	if (c->mode == 2 || c->mode == 3) {
		if (c->loaded && c->running && now >= c->start) {
			e = (now - c->start) % c->reload;
			c->switch_low = c->mode == 3 && e < high_half(c);
			c->switch_at = now - e + (c->switch_low ? high_half(c) : c->reload);
			c->next_reload = count;
			return;
		}
	}
	c->next_reload = 0;
	if ((c->mode == 1 || c->mode == 5) && c->running) {
		c->next_reload = count; /* taken at the next trigger */
		c->switch_at = UINT64_MAX;
		return;
	}
	c->reload = count;
	c->loaded = 1;
	c->held = 0;
	c->start = now + 1;
	c->running = c->gate && c->mode != 1 && c->mode != 5;
}

static void write_count(struct i8254 *p, unsigned n, uint8_t val, uint64_t now)
{
	struct i8254_channel *c = &p->s.ch[n];

	sync(c, now);
	if (c->access == ACCESS_BOTH && !c->write_high) {
		c->write_low = val;
		c->write_high = 1;
		if (c->mode == 0) { /* the first byte stops the count, out goes low */
			c->running = 0;
			c->loaded = 0;
			c->held = 0;
		}
	} else if (c->access == ACCESS_BOTH) {
		c->write_high = 0;
		load(c, c->write_low | (uint32_t)val << 8, now);
	} else {
		load(c, c->access == ACCESS_LOW ? val : (uint32_t)val << 8, now);
	}
	if (n == 0) {
		rearm(p, now);
	}
}

static void latch_count(struct i8254_channel *c, uint64_t now)
{
	if (!c->latched) {
		c->latch = counter(c, now);
		c->latched = c->access == ACCESS_BOTH ? 2 : 1;
	}
}

static void latch_status(struct i8254_channel *c, uint64_t now)
{
	bool null = !c->loaded || c->next_reload || (c->running && now < c->start);

	if (!c->status_latched) {
		c->status =
			(uint8_t)((output(c, now) ? STATUS_OUT : 0) | (null ? STATUS_NULL : 0) |
				  c->access << CW_ACCESS_SHIFT | c->mode << CW_MODE_SHIFT | c->bcd);
		c->status_latched = 1;
	}
}

static void read_back(struct i8254 *p, uint8_t val, uint64_t now)
{
	for (unsigned n = 0; n < 3; n++) {
		struct i8254_channel *c = &p->s.ch[n];

		if (!(val >> n & 2)) {
			continue;
		}
		sync(c, now);
		if (!(val & RB_NO_COUNT)) {
			latch_count(c, now);
		}
		if (!(val & RB_NO_STATUS)) {
			latch_status(c, now);
		}
	}
}

static void write_control(struct i8254 *p, uint8_t val, uint64_t now)
{
	unsigned n = val >> CW_CHANNEL_SHIFT;
	struct i8254_channel *c;

	if (n == READ_BACK) {
		read_back(p, val, now);
		return;
	}
	c = &p->s.ch[n];
	sync(c, now);
	if ((val >> CW_ACCESS_SHIFT & 3) == ACCESS_LATCH) {
		latch_count(c, now);
		return;
	}
	c->access = val >> CW_ACCESS_SHIFT & 3;
	c->mode = val >> CW_MODE_SHIFT & 7;
	if (c->mode > 5) {
		c->mode -= 4; /* modes 2 and 3 ignore the top bit */
	}
	c->bcd = val & CW_BCD;
	c->loaded = c->running = 0;
	c->next_reload = 0;
	c->held = 0;
	c->write_high = c->read_high = c->latched = c->status_latched = 0;
	if (n == 0) {
		rearm(p, now);
	}
}

static void set_gate(struct i8254_channel *c, bool gate, uint64_t now)
{
	bool was = c->gate;

	if (was == gate) {
		return;
	}
	sync(c, now);
	c->gate = gate;
	if (c->mode == 1 || c->mode == 5) {
		if (gate && c->loaded) {
			c->reload = c->next_reload ? c->next_reload : c->reload;
			c->next_reload = 0;
			c->start = now + 1;
			c->running = 1;
		}
		return;
	}
	if (!gate) {
		c->held = (uint32_t)(elapsed(c, now) % ((uint64_t)modulus(c) * c->reload));
		c->running = 0;
	} else if (c->loaded) {
		bool again = c->mode == 2 || c->mode == 3;

		c->start = again || now < c->held ? now + 1 : now - c->held;
		c->running = 1;
	}
}

static uint8_t read_channel(struct i8254_channel *c, uint64_t now)
{
	uint16_t val;

	sync(c, now);
	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	val = c->latched ? c->latch : counter(c, now);
	if (c->latched) {
		c->latched--;
	}
	if (c->access == ACCESS_HIGH) {
		return (uint8_t)(val >> 8);
	}
	if (c->access == ACCESS_BOTH) {
		c->read_high ^= 1;
		return c->read_high ? (uint8_t)val : (uint8_t)(val >> 8);
	}
	return (uint8_t)val;
}

bool i8254_out(struct i8254 *p, unsigned channel, uint64_t now_ns)
{
	uint64_t now = to_ticks(now_ns);

	sync(&p->s.ch[channel], now);
	return output(&p->s.ch[channel], now);
}

uint8_t i8254_read(struct i8254 *p, uint16_t port, uint64_t now_ns)
{
	if (port == 0x61) {
		return (uint8_t)(p->s.port61 | (now_ns / REFRESH_NS & 1 ? P61_REFRESH : 0) |
				 (i8254_out(p, 2, now_ns) ? P61_OUT2 : 0));
	}
	if ((port & 3) == 3) {
		return 0xff; /* the control word cannot be read */
	}
	return read_channel(&p->s.ch[port & 3], to_ticks(now_ns));
}

void i8254_write(struct i8254 *p, uint16_t port, uint8_t val, uint64_t now_ns)
{
	uint64_t now = to_ticks(now_ns);

	if (port == 0x61) {
		p->s.port61 = val & P61_WRITABLE;
		set_gate(&p->s.ch[2], val & P61_GATE2, now);
	} else if ((port & 3) == 3) {
		write_control(p, val, now);
	} else {
		write_count(p, port & 3, val, now);
	}
}

void i8254_reset(struct i8254 *p, uint64_t now_ns)
{
	memset(&p->s, 0, sizeof(p->s));
	for (unsigned n = 0; n < 3; n++) {
		p->s.ch[n].reload = 65536;
		p->s.ch[n].access = ACCESS_BOTH;
		p->s.ch[n].gate = n != 2;
	}
	rearm(p, to_ticks(now_ns));
}

#define CHANNEL_FIELDS(n)                                             \
	MOBO_FIELD(struct i8254_state, ch[n].start),                  \
		MOBO_FIELD(struct i8254_state, ch[n].switch_at),      \
		MOBO_FIELD(struct i8254_state, ch[n].reload),         \
		MOBO_FIELD(struct i8254_state, ch[n].next_reload),    \
		MOBO_FIELD(struct i8254_state, ch[n].held),           \
		MOBO_FIELD(struct i8254_state, ch[n].latch),          \
		MOBO_FIELD(struct i8254_state, ch[n].mode),           \
		MOBO_FIELD(struct i8254_state, ch[n].access),         \
		MOBO_FIELD(struct i8254_state, ch[n].bcd),            \
		MOBO_FIELD(struct i8254_state, ch[n].gate),           \
		MOBO_FIELD(struct i8254_state, ch[n].loaded),         \
		MOBO_FIELD(struct i8254_state, ch[n].running),        \
		MOBO_FIELD(struct i8254_state, ch[n].switch_low),     \
		MOBO_FIELD(struct i8254_state, ch[n].write_high),     \
		MOBO_FIELD(struct i8254_state, ch[n].read_high),      \
		MOBO_FIELD(struct i8254_state, ch[n].write_low),      \
		MOBO_FIELD(struct i8254_state, ch[n].latched),        \
		MOBO_FIELD(struct i8254_state, ch[n].status_latched), \
		MOBO_FIELD(struct i8254_state, ch[n].status)

const struct mobo_field i8254_fields[] = {
	CHANNEL_FIELDS(0),
	CHANNEL_FIELDS(1),
	CHANNEL_FIELDS(2),
	MOBO_FIELD(struct i8254_state, next_edge),
	MOBO_FIELD(struct i8254_state, extra_at),
	MOBO_FIELD(struct i8254_state, fired_at),
	MOBO_FIELD(struct i8254_state, owed),
	MOBO_FIELD(struct i8254_state, port61),
};
const unsigned i8254_n_fields = sizeof(i8254_fields) / sizeof(i8254_fields[0]);
