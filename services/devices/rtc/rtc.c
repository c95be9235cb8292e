/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real-time clock and battery-backed RAM: Motorola MC146818A (datasheet ADI856R2), at ports 70h and
 * 71h with the second bank of 128 bytes at 72h and 73h as in the 82371AB (PIIX4), section 11.
 *
 * Time is kept as the difference from the machine's wall clock: the divider's is a shift within the
 * second, the date's a number of seconds. "Divider time" is the wall clock with the first alone, in
 * nanoseconds; seconds of it and of the clock change together. Interrupt flags are worked out when
 * somebody looks, and timers run only towards interrupts that are enabled and not yet pending, so
 * that an unused clock costs nothing.
 *
 * Not modelled: square wave, daylight saving, the mask of NMI (port 70h bit 7 is kept, nothing
 * raises NMI). The day of the week follows the date. Divider settings other than 32.768 kHz hold
 * the clock still.
 *
 * Configuration: those of cmos.c; base ("utc" or "local"), rtc-offset (seconds).
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mobo/base.h"
#include "rtc.h"

enum { REGION_PORTS };
enum { PORT_INDEX, PORT_DATA, PORT_INDEX2, PORT_DATA2, N_PORTS };
enum { LINE_IRQ8 };
enum { TIMER_EVENT };

enum { A_UIP = 1 << 7, A_DV = 7 << 4, A_DV_32KHZ = 2 << 4, A_RS = 0xf };
enum {
	B_SET = 1 << 7,
	B_PIE = 1 << 6,
	B_AIE = 1 << 5,
	B_UIE = 1 << 4,
	B_SQWE = 1 << 3,
};
enum { C_IRQF = 1 << 7, C_PF = 1 << 6, C_AF = 1 << 5, C_UF = 1 << 4, C_FLAGS = C_PF | C_AF | C_UF };
enum { D_VRT = 1 << 7 };

enum { BANK = 128, BANK_MASK = BANK - 1, TICK_HZ = 32768 };
#define SECOND_NS    1000000000ll
#define OFFSET_MAX_S 1000000000000ll /* more than any date that can be written */
#define UIP_NS	     244000ll	     /* before the update: tBUC */

struct rtc_state {
	int64_t offset_s;  /* the clock's seconds less those of divider time */
	int64_t seen_ns;   /* divider time up to which register C was worked out */
	uint32_t phase_ns; /* divider time less the wall clock's, below one second */
	uint8_t ram[2 * BANK];
	uint8_t index, index2;
	uint8_t battery; /* the RAM has contents */
	uint8_t reserved[1];
};

struct rtc_priv {
	int64_t start_offset_s; /* local time and configured offset */
};

/* -- Time -- */

static int64_t divider_ns(struct mobo_dev *d)
{
	const struct rtc_state *s = mobo_dev_state(d);

	return mobo_dev_realtime_ns(d) + s->phase_ns;
}

static int64_t seconds_of(int64_t ns)
{
	return ns >= 0 ? ns / SECOND_NS : -((SECOND_NS - 1 - ns) / SECOND_NS);
}

/* Kept within bounds, whatever was in a saved state. */
static int64_t offset_s(const struct rtc_state *s)
{
	return MOBO_MAX(-OFFSET_MAX_S, MOBO_MIN(s->offset_s, OFFSET_MAX_S));
}

static bool divider_runs(const struct rtc_state *s)
{
	return (s->ram[RTC_A] & A_DV) == A_DV_32KHZ;
}

/* Time goes on; otherwise the time bytes in RAM are what the guest wrote, or were when it stopped.
 */
static bool updates(const struct rtc_state *s)
{
	return divider_runs(s) && !(s->ram[RTC_B] & B_SET);
}

/* Brings the time bytes up to date. */
static void load_time(struct mobo_dev *d)
{
	struct rtc_state *s = mobo_dev_state(d);

	if (updates(s)) {
		rtc_encode(s->ram, seconds_of(divider_ns(d)) + offset_s(s));
	}
}

static int64_t fraction_of(int64_t ns)
{
	return ns - seconds_of(ns) * SECOND_NS;
}

/* Takes the clock's time from the time bytes; `fraction` nanoseconds into that second. */
static void store_time(struct mobo_dev *d, int64_t fraction)
{
	struct rtc_state *s = mobo_dev_state(d);
	int64_t shift = fraction - fraction_of(mobo_dev_realtime_ns(d));

	s->phase_ns = (uint32_t)(shift >= 0 ? shift : shift + SECOND_NS);
	s->seen_ns = divider_ns(d);
	s->offset_s = rtc_decode(s->ram) - seconds_of(s->seen_ns);
}

/* -- Flags and interrupts -- */

/* Ticks of 32.768 kHz between periodic events, a divisor of 32768; 0: none. */
static unsigned period_ticks(const struct rtc_state *s)
{
	unsigned rs = s->ram[RTC_A] & A_RS;

	if (rs == 0 || !divider_runs(s)) {
		return 0;
	}
	return 1u << ((rs <= 2 ? rs + 7 : rs) - 1);
}

/* The divider time of the first periodic event after `after`. */
static int64_t next_period(const struct rtc_state *s, int64_t after)
{
	unsigned ticks = period_ticks(s);
	int64_t second = seconds_of(after);
	int64_t n;

	if (!ticks) {
		return INT64_MAX;
	}
	n = (after - second * SECOND_NS) * TICK_HZ / SECOND_NS / ticks + 1;
	/* Tick n begins at the first whole nanosecond not before it. */
	return second * SECOND_NS + (n * ticks * SECOND_NS + TICK_HZ - 1) / TICK_HZ;
}

static int64_t next_update(const struct rtc_state *s, int64_t after)
{
	return updates(s) ? (seconds_of(after) + 1) * SECOND_NS : INT64_MAX;
}

static int64_t next_alarm(const struct rtc_state *s, int64_t after)
{
	int64_t second = INT64_MAX;

	if (updates(s)) {
		second = rtc_next_alarm(s->ram, seconds_of(after) + offset_s(s));
	}
	return second == INT64_MAX ? INT64_MAX : (second - offset_s(s)) * SECOND_NS;
}

/* Sets the line and the timer after registers B or C, or the time, changed. */
static void update_irq(struct mobo_dev *d)
{
	struct rtc_state *s = mobo_dev_state(d);
	uint8_t want = s->ram[RTC_B] & (uint8_t)~s->ram[RTC_C];
	int64_t next = INT64_MAX, now = divider_ns(d), seen = MOBO_MIN(s->seen_ns, now);

	if (s->ram[RTC_B] & s->ram[RTC_C] & C_FLAGS) {
		s->ram[RTC_C] |= C_IRQF;
	} else {
		s->ram[RTC_C] &= (uint8_t)~C_IRQF;
	}
	mobo_dev_line(d, LINE_IRQ8, s->ram[RTC_C] & C_IRQF);
	if (want & B_PIE) {
		next = next_period(s, seen);
	}
	if (want & B_UIE) {
		next = MOBO_MIN(next, next_update(s, seen));
	}
	if (want & B_AIE) {
		next = MOBO_MIN(next, next_alarm(s, seen));
	}
	mobo_dev_timer_set(d, TIMER_EVENT,
			   next == INT64_MAX ? UINT64_MAX
			   : next > now	     ? mobo_dev_now_ns(d) + (uint64_t)(next - now)
					     : mobo_dev_now_ns(d));
}

/* Works out the flags that came up since the last look. */
static void catch_up(struct mobo_dev *d)
{
	struct rtc_state *s = mobo_dev_state(d);
	int64_t now = divider_ns(d);

	if (now <= s->seen_ns) {
		return;
	}
	if (next_period(s, s->seen_ns) <= now) {
		s->ram[RTC_C] |= C_PF;
	}
	if (next_update(s, s->seen_ns) <= now) {
		s->ram[RTC_C] |= C_UF;
	}
	if (next_alarm(s, s->seen_ns) <= now) {
		s->ram[RTC_C] |= C_AF;
	}
	s->seen_ns = now;
}

static void timer(struct mobo_dev *d, unsigned n)
{
	catch_up(d);
	update_irq(d);
}

/* -- Registers -- */

static void write_a(struct mobo_dev *d, uint8_t val)
{
	struct rtc_state *s = mobo_dev_state(d);
	bool ran;

	load_time(d);
	ran = divider_runs(s);
	s->ram[RTC_A] = val & (uint8_t)~A_UIP;
	if (!ran && divider_runs(s)) {
		/* The first update comes half a second after the divider is let go. */
		store_time(d, SECOND_NS / 2);
	}
}

static void write_b(struct mobo_dev *d, uint8_t val)
{
	struct rtc_state *s = mobo_dev_state(d);
	int64_t fraction = fraction_of(divider_ns(d));
	bool ran = updates(s);

	load_time(d);
	if (val & B_SET) {
		val &= (uint8_t)~B_UIE;
	}
	s->ram[RTC_B] = val;
	if (!ran && updates(s)) {
		store_time(d, fraction);
	}
}

static void write_time(struct mobo_dev *d, unsigned at, uint8_t val)
{
	struct rtc_state *s = mobo_dev_state(d);
	int64_t fraction = fraction_of(divider_ns(d));

	load_time(d);
	s->ram[at] = val;
	if (updates(s)) {
		store_time(d, fraction);
	}
}

static void cmos_write(struct mobo_dev *d, unsigned at, uint8_t val)
{
	struct rtc_state *s = mobo_dev_state(d);

	catch_up(d);
	switch (at) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_DAY_OF_WEEK:
	case RTC_DAY_OF_MONTH:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY: write_time(d, at, val); break;
	case RTC_A: write_a(d, val); break;
	case RTC_B: write_b(d, val); break;
	case RTC_C:
	case RTC_D: return;
	default: s->ram[at] = val; break;
	}
	update_irq(d);
}

static uint8_t cmos_read(struct mobo_dev *d, unsigned at)
{
	struct rtc_state *s = mobo_dev_state(d);
	uint8_t val;

	switch (at) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_DAY_OF_WEEK:
	case RTC_DAY_OF_MONTH:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY: load_time(d); return s->ram[at];
	case RTC_A:
		val = s->ram[RTC_A];
		return updates(s) && fraction_of(divider_ns(d)) >= SECOND_NS - UIP_NS ? val | A_UIP
										      : val;
	case RTC_C:
		catch_up(d);
		update_irq(d);
		val = s->ram[RTC_C];
		s->ram[RTC_C] = 0;
		update_irq(d);
		return val;
	case RTC_D: return D_VRT;
	}
	return s->ram[at];
}

static unsigned selected(const struct mobo_dev *d, const struct mobo_reg *r,
			 const struct rtc_state *s)
{
	unsigned at = s->index & BANK_MASK;

	if (r->offset == PORT_DATA2) {
		return BANK + (s->index2 & BANK_MASK);
	}
	return at == RTC_CENTURY_PS2 ? (unsigned)RTC_CENTURY : at;
}

static uint64_t data_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	return cmos_read(d, selected(d, r, mobo_dev_state(d)));
}

static void data_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	cmos_write(d, selected(d, r, mobo_dev_state(d)), (uint8_t)val);
}

/* The index cannot be read back on a PC. */
static uint64_t index_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	return 0xff;
}

static const struct mobo_region regions[] = {
	[REGION_PORTS] = {.name = "rtc",
			  .kind = MOBO_REGION_PIO,
			  .base = 0x70,
			  .len = N_PORTS,
			  .priority = 1},
};

static const struct mobo_line lines[] = {
	[LINE_IRQ8] = {MOBO_LINE_ISA, 8},
};

/* clang-format off */
static const struct mobo_reg regs[] = {
	{ "INDEX",  REGION_PORTS, PORT_INDEX,  1, offsetof(struct rtc_state, index),
	   0xff, index_read },
	{ "DATA",   REGION_PORTS, PORT_DATA,   1, MOBO_NO_STORAGE, 0xff,
	  data_read, data_write, NULL, true },
	{ "INDEX2", REGION_PORTS, PORT_INDEX2, 1, offsetof(struct rtc_state, index2), 0xff },
	{ "DATA2",  REGION_PORTS, PORT_DATA2,  1, MOBO_NO_STORAGE, 0xff,
	  data_read, data_write, NULL, true },
};
/* clang-format on */

static const struct mobo_field fields[] = {
	MOBO_FIELD(struct rtc_state, offset_s), MOBO_FIELD(struct rtc_state, seen_ns),
	MOBO_FIELD(struct rtc_state, phase_ns), MOBO_FIELD_ARRAY(struct rtc_state, ram),
	MOBO_FIELD(struct rtc_state, index),	MOBO_FIELD(struct rtc_state, index2),
	MOBO_FIELD(struct rtc_state, battery),	MOBO_FIELD_ARRAY(struct rtc_state, reserved),
};

static int init(struct mobo_dev *d)
{
	struct rtc_priv *p = mobo_dev_priv(d);
	time_t now = (time_t)(mobo_dev_realtime_ns(d) / SECOND_NS);
	struct tm tm;

	p->start_offset_s = strtoll(mobo_dev_config(d, "rtc-offset", "0"), NULL, 0) % OFFSET_MAX_S;
	if (!strcmp(mobo_dev_config(d, "base", "utc"), "local") && localtime_r(&now, &tm)) {
		p->start_offset_s += tm.tm_gmtoff;
	}
	return 0;
}

/* The battery was put in: the clock is right and the set-up program has run. */
static void first_power(struct mobo_dev *d)
{
	struct rtc_state *s = mobo_dev_state(d);
	const struct rtc_priv *p = mobo_dev_priv(d);

	*s = (struct rtc_state){.battery = 1, .offset_s = p->start_offset_s};
	s->ram[RTC_A] = A_DV_32KHZ | 6; /* 1024 Hz */
	s->ram[RTC_B] = RTC_B_24H;
	rtc_fill_cmos(d, s->ram);
	s->seen_ns = divider_ns(d);
	load_time(d);
}

/* RESET# leaves time and RAM alone (MC146818A, "RESET"). */
static void reset(struct mobo_dev *d)
{
	struct rtc_state *s = mobo_dev_state(d);

	if (!s->battery) {
		first_power(d);
	}
	s->ram[RTC_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
	s->ram[RTC_C] = 0;
	s->index = 0;
	s->index2 = 0;
	s->seen_ns = divider_ns(d);
	update_irq(d);
}

const struct mobo_chip_class mobo_chip_rtc = {
	.name = "rtc",
	.description = "MC146818A real-time clock and CMOS RAM",
	.state_version = 1,
	.restart = MOBO_RESTART_STATE,
	.state_size = sizeof(struct rtc_state),
	.priv_size = sizeof(struct rtc_priv),
	.regions = regions,
	.n_regions = MOBO_ARRAY_LEN(regions),
	.lines = lines,
	.n_lines = MOBO_ARRAY_LEN(lines),
	.regs = regs,
	.n_regs = MOBO_ARRAY_LEN(regs),
	.fields = fields,
	.n_fields = MOBO_ARRAY_LEN(fields),
	.init = init,
	.reset = reset,
	.restored = update_irq,
	.timer = timer,
};
