/* SPDX-License-Identifier: Apache-2.0 */
/* The HPET against the IA-PC HPET specification 1.0a. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "irq/hpet.h"

static struct hpet hpet;
static uint64_t now;
static unsigned n_pulses, last_pin;
static bool last_isa, level, legacy;

static void on_line(void *arg, bool isa, unsigned n, bool l)
{
	last_isa = isa;
	last_pin = n;
	level = l;
}

static void on_pulse(void *arg, bool isa, unsigned n)
{
	last_isa = isa;
	last_pin = n;
	n_pulses++;
}

static void on_legacy(void *arg, bool on)
{
	legacy = on;
}

static int setup(void **state)
{
	memset(&hpet, 0, sizeof(hpet));
	hpet.line = on_line;
	hpet.pulse = on_pulse;
	hpet.legacy = on_legacy;
	now = 0;
	n_pulses = 0;
	level = legacy = false;
	hpet_reset(&hpet, now);
	return 0;
}

static void wr(uint32_t offset, uint64_t val)
{
	hpet_write(&hpet, offset, 8, val, now);
}

static uint64_t rd(uint32_t offset)
{
	return hpet_read(&hpet, offset, 8, now);
}

static void run_to(uint64_t until)
{
	while (hpet_deadline(&hpet) <= until) {
		now = hpet_deadline(&hpet);
		hpet_expire(&hpet, now);
	}
	now = until;
}

static void capabilities_say_10_ns_and_three_timers(void **state)
{
	assert_int_equal(rd(0) >> 32, 10000000); /* femtoseconds */
	assert_int_equal(rd(0) >> 8 & 0x1f, 2);
	assert_int_equal(rd(0) >> 13 & 1, 1);
	assert_int_equal(rd(0) >> 15 & 1, 1);
	assert_int_equal(rd(0) >> 16 & 0xffff, 0x8086);
	assert_int_equal(hpet_read(&hpet, 4, 4, now), 10000000);
}

static void counter_runs_only_when_enabled(void **state)
{
	now = 1000;
	assert_int_equal(rd(0xf0), 0);
	wr(0x10, 1);
	now = 2000;
	assert_int_equal(rd(0xf0), 100);
	wr(0xf0, 5); /* ignored while it runs */
	assert_int_equal(rd(0xf0), 100);
	wr(0x10, 0);
	now = 9000;
	assert_int_equal(rd(0xf0), 100);
	wr(0xf0, 0x123456789abcull);
	assert_int_equal(rd(0xf0), 0x123456789abcull);
}

static void one_shot_fires_once_at_its_route(void **state)
{
	wr(0x140, 1 << 2 | 21 << 9);
	wr(0x148, 500);
	wr(0x10, 1);
	run_to(4999);
	assert_int_equal(n_pulses, 0);
	run_to(5000);
	assert_int_equal(n_pulses, 1);
	assert_false(last_isa);
	assert_int_equal(last_pin, 21);
	run_to(1000000000);
	assert_int_equal(n_pulses, 1);
}

static void one_shot_of_32_bits_comes_round(void **state)
{
	wr(0x140, 1 << 2 | 1 << 8 | 20 << 9);
	wr(0x148, 100);
	wr(0x10, 1);
	run_to(1000);
	assert_int_equal(n_pulses, 1);
	run_to(1000 + (1ull << 32) * 10);
	assert_int_equal(n_pulses, 2);
}

static void periodic_with_value_set_as_linux_writes_it(void **state)
{
	wr(0x10, 1);
	now = 1000;
	/* enable, periodic, value set, 32 bit */
	hpet_write(&hpet, 0x100, 4, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 8, now);
	hpet_write(&hpet, 0x108, 4, 100 + 100000, now);
	hpet_write(&hpet, 0x108, 4, 100000, now);
	run_to(1000999);
	assert_int_equal(n_pulses, 0);
	run_to(1001000);
	assert_int_equal(n_pulses, 1);
	run_to(1001000 + 9 * 1000000);
	assert_int_equal(n_pulses, 10);
	assert_int_equal(rd(0x108), 100 + 11 * 100000);
}

static void legacy_replacement_routes_to_irq_0_and_8(void **state)
{
	wr(0x10, 3);
	assert_true(legacy);
	wr(0x120, 1 << 2 | 22 << 9);
	wr(0x128, rd(0xf0) + 10);
	run_to(now + 100);
	assert_true(last_isa);
	assert_int_equal(last_pin, 8);
	wr(0x100, 1 << 2);
	wr(0x108, rd(0xf0) + 10);
	run_to(now + 100);
	assert_true(last_isa);
	assert_int_equal(last_pin, 0);
	wr(0x10, 1);
	assert_false(legacy);
}

static void level_stays_until_status_is_written(void **state)
{
	wr(0x140, 1 << 1 | 1 << 2 | 23 << 9);
	wr(0x148, 10);
	wr(0x10, 1);
	run_to(100);
	assert_true(level);
	assert_int_equal(rd(0x20), 4);
	hpet_write(&hpet, 0x20, 4, 3, now); /* others: no effect */
	assert_true(level);
	hpet_write(&hpet, 0x20, 4, 4, now);
	assert_false(level);
	assert_int_equal(rd(0x20), 0);
}

static void short_periods_do_not_flood(void **state)
{
	unsigned events = 0;

	wr(0x100, 1 << 2 | 1 << 3 | 1 << 6);
	wr(0x108, 1);
	wr(0x10, 1);
	while (now < 10000000 && events < 100000) {
		now = hpet_deadline(&hpet);
		hpet_expire(&hpet, now);
		events++;
	}
	assert_in_range(events, 1, 502);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(capabilities_say_10_ns_and_three_timers, setup),
		cmocka_unit_test_setup(counter_runs_only_when_enabled, setup),
		cmocka_unit_test_setup(one_shot_fires_once_at_its_route, setup),
		cmocka_unit_test_setup(one_shot_of_32_bits_comes_round, setup),
		cmocka_unit_test_setup(periodic_with_value_set_as_linux_writes_it, setup),
		cmocka_unit_test_setup(legacy_replacement_routes_to_irq_0_and_8, setup),
		cmocka_unit_test_setup(level_stays_until_status_is_written, setup),
		cmocka_unit_test_setup(short_periods_do_not_flood, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
