/* SPDX-License-Identifier: Apache-2.0 */
/* The 8254 against its data sheet (231164), in clock ticks of a stepped clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "irq/i8254.h"

static struct i8254 pit;
static uint64_t now; /* ns */
static unsigned n_ticks;
static int tick_result;

static int on_tick(void *arg)
{
	n_ticks += tick_result > 0;
	return tick_result;
}

/* First nanosecond of a clock tick. */
static uint64_t tick(uint64_t n)
{
	return (uint64_t)(((unsigned __int128)n * 1000000000 + I8254_HZ - 1) / I8254_HZ);
}

static int setup(void **state)
{
	memset(&pit, 0, sizeof(pit));
	pit.tick = on_tick;
	now = 0;
	n_ticks = 0;
	tick_result = 1;
	i8254_reset(&pit, now);
	return 0;
}

static void program(unsigned channel, unsigned mode, uint16_t count)
{
	i8254_write(&pit, 0x43, (uint8_t)(channel << 6 | 3 << 4 | mode << 1), now);
	i8254_write(&pit, (uint16_t)(0x40 + channel), (uint8_t)count, now);
	i8254_write(&pit, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8), now);
}

static unsigned count(unsigned channel)
{
	unsigned low;

	i8254_write(&pit, 0x43, (uint8_t)(channel << 6), now); /* latch */
	low = i8254_read(&pit, (uint16_t)(0x40 + channel), now);
	return low | (unsigned)i8254_read(&pit, (uint16_t)(0x40 + channel), now) << 8;
}

static void run_to(uint64_t until)
{
	while (i8254_deadline(&pit) <= until) {
		now = i8254_deadline(&pit);
		i8254_expire(&pit, now);
	}
	now = until;
}

static void mode_0_counts_down_and_raises_once(void **state)
{
	program(0, 0, 100);
	assert_false(i8254_out(&pit, 0, now));
	now = tick(1);
	assert_int_equal(count(0), 100);
	now = tick(51);
	assert_int_equal(count(0), 50);
	now = tick(100);
	assert_false(i8254_out(&pit, 0, now));
	assert_int_equal(i8254_deadline(&pit), tick(101));
	run_to(tick(101));
	assert_true(i8254_out(&pit, 0, now)); /* N + 1 ticks after the write */
	assert_int_equal(n_ticks, 1);
	run_to(tick(200000));
	assert_int_equal(n_ticks, 1);
	assert_int_equal(count(0), (100 - (200000 - 1)) & 0xffff); /* wraps on */
}

static void mode_2_is_low_for_one_tick_a_period(void **state)
{
	unsigned low = 0;

	program(0, 2, 10);
	for (unsigned i = 1; i < 101; i++) {
		now = tick(i);
		low += !i8254_out(&pit, 0, now);
	}
	assert_int_equal(low, 10);
	now = tick(1);
	assert_int_equal(count(0), 10);
	now = tick(10);
	assert_int_equal(count(0), 1);
	assert_false(i8254_out(&pit, 0, now));
	now = tick(11);
	assert_int_equal(count(0), 10);
}

static void mode_2_ticks_at_its_rate(void **state)
{
	program(0, 2, 11932); /* 100 Hz */
	run_to(1000000000);
	assert_in_range(n_ticks, 99, 100);
}

static void new_count_in_mode_2_waits_for_the_period(void **state)
{
	program(0, 2, 1000);
	now = tick(501);
	i8254_write(&pit, 0x40, 2000 & 0xff, now);
	i8254_write(&pit, 0x40, 2000 >> 8, now);
	assert_int_equal(count(0), 500);
	run_to(tick(1001));
	assert_int_equal(n_ticks, 1);
	assert_int_equal(count(0), 2000);
	run_to(tick(3000));
	assert_int_equal(n_ticks, 1);
	run_to(tick(3001));
	assert_int_equal(n_ticks, 2);
}

static void mode_3_is_a_square_wave(void **state)
{
	unsigned high = 0;

	program(2, 3, 9);
	i8254_write(&pit, 0x61, 1, now);
	for (unsigned i = 1; i < 91; i++) {
		now = tick(i);
		high += i8254_out(&pit, 2, now);
	}
	assert_int_equal(high, 50); /* (N + 1) / 2 of N */
}

static void mode_3_counts_by_two(void **state)
{
	program(0, 3, 100);
	now = tick(1);
	assert_int_equal(count(0), 100);
	now = tick(11);
	assert_int_equal(count(0), 80);
	now = tick(51);
	assert_int_equal(count(0), 100);
	assert_false(i8254_out(&pit, 0, now));
}

static void gate_of_channel_2_holds_mode_0(void **state)
{
	program(2, 0, 1000);
	now = tick(500);
	assert_int_equal(count(2), 1000); /* gate low since reset */
	i8254_write(&pit, 0x61, 1, now);
	now = tick(600);
	assert_int_equal(count(2), 900);
	i8254_write(&pit, 0x61, 0, now);
	now = tick(5000);
	assert_int_equal(count(2), 900);
	assert_int_equal(i8254_read(&pit, 0x61, now) & 0x20, 0);
	i8254_write(&pit, 0x61, 1, now);
	now = tick(5901);
	assert_int_equal(i8254_read(&pit, 0x61, now) & 0x21, 0x21);
}

static void mode_1_is_triggered_by_the_gate(void **state)
{
	program(2, 1, 50);
	now = tick(10);
	assert_true(i8254_out(&pit, 2, now));
	i8254_write(&pit, 0x61, 1, now);
	now = tick(12);
	assert_false(i8254_out(&pit, 2, now));
	now = tick(60);
	assert_false(i8254_out(&pit, 2, now));
	now = tick(61);
	assert_true(i8254_out(&pit, 2, now));
}

static void mode_4_strobes_for_one_tick(void **state)
{
	program(0, 4, 20);
	now = tick(20);
	assert_true(i8254_out(&pit, 0, now));
	now = tick(21);
	assert_false(i8254_out(&pit, 0, now));
	now = tick(22);
	assert_true(i8254_out(&pit, 0, now));
}

static void bcd_counts_in_decades(void **state)
{
	i8254_write(&pit, 0x43, 0x31, now); /* channel 0, both bytes, mode 0, BCD */
	i8254_write(&pit, 0x40, 0x00, now);
	i8254_write(&pit, 0x40, 0x10, now);
	now = tick(2);
	assert_int_equal(count(0), 0x0999);
	now = tick(1003);
	assert_int_equal(count(0), 0x9998); /* past zero */
}

static void read_back_latches_status_before_count(void **state)
{
	program(1, 2, 500);
	now = tick(1);
	i8254_write(&pit, 0x43, 0xc4, now); /* read back channel 1: count and status */
	now = tick(300);
	assert_int_equal(i8254_read(&pit, 0x41, now), 0xb4); /* out, no null, both, mode 2 */
	assert_int_equal(i8254_read(&pit, 0x41, now), 500 & 0xff);
	assert_int_equal(i8254_read(&pit, 0x41, now), 500 >> 8);
	assert_int_equal(i8254_read(&pit, 0x41, now), (500 - 299) & 0xff); /* live again */
}

static void null_count_until_loaded(void **state)
{
	i8254_write(&pit, 0x43, 0x34, now);
	i8254_write(&pit, 0x43, 0xe2, now); /* status of channel 0 */
	assert_int_equal(i8254_read(&pit, 0x40, now) & 0x40, 0x40);
	program(0, 2, 100);
	now = tick(1);
	i8254_write(&pit, 0x43, 0xe2, now);
	assert_int_equal(i8254_read(&pit, 0x40, now) & 0x40, 0);
}

static void zero_counts_as_65536(void **state)
{
	program(0, 2, 0);
	now = tick(2);
	assert_int_equal(count(0), 65535);
	assert_int_equal(i8254_deadline(&pit), tick(65537));
}

static void lost_ticks_are_made_up_for_without_a_storm(void **state)
{
	uint64_t start;

	program(0, 2, 1193); /* about 1 kHz */
	run_to(tick(1194));
	n_ticks = 0;
	tick_result = 0; /* the guest does not take interrupts for 100 periods */
	run_to(now + tick(1193 * 100));
	tick_result = 1;
	start = now;
	run_to(start + tick(1193 * 50));
	assert_in_range(n_ticks, 80, 105); /* at most twice the rate */
	run_to(start + tick(1193 * 400));
	assert_in_range(n_ticks, 498, 502); /* and none is lost in the end */
}

static void masked_ticks_are_not_owed(void **state)
{
	program(0, 2, 1193);
	tick_result = -1;
	run_to(tick(1193 * 100));
	tick_result = 1;
	n_ticks = 0;
	run_to(tick(1193 * 200));
	assert_in_range(n_ticks, 99, 101);
}

static void tiny_counts_do_not_flood(void **state)
{
	unsigned events = 0;

	program(0, 2, 1);
	while (now < 10000000 && events < 100000) {
		now = i8254_deadline(&pit);
		i8254_expire(&pit, now);
		events++;
	}
	assert_in_range(events, 1, 520); /* 10 ms at no more than one in 20 us */
}

static void refresh_bit_toggles(void **state)
{
	assert_int_not_equal(i8254_read(&pit, 0x61, 0) & 0x10,
			     i8254_read(&pit, 0x61, 15100) & 0x10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(mode_0_counts_down_and_raises_once, setup),
		cmocka_unit_test_setup(mode_2_is_low_for_one_tick_a_period, setup),
		cmocka_unit_test_setup(mode_2_ticks_at_its_rate, setup),
		cmocka_unit_test_setup(new_count_in_mode_2_waits_for_the_period, setup),
		cmocka_unit_test_setup(mode_3_is_a_square_wave, setup),
		cmocka_unit_test_setup(mode_3_counts_by_two, setup),
		cmocka_unit_test_setup(gate_of_channel_2_holds_mode_0, setup),
		cmocka_unit_test_setup(mode_1_is_triggered_by_the_gate, setup),
		cmocka_unit_test_setup(mode_4_strobes_for_one_tick, setup),
		cmocka_unit_test_setup(bcd_counts_in_decades, setup),
		cmocka_unit_test_setup(read_back_latches_status_before_count, setup),
		cmocka_unit_test_setup(null_count_until_loaded, setup),
		cmocka_unit_test_setup(zero_counts_as_65536, setup),
		cmocka_unit_test_setup(lost_ticks_are_made_up_for_without_a_storm, setup),
		cmocka_unit_test_setup(masked_ticks_are_not_owed, setup),
		cmocka_unit_test_setup(tiny_counts_do_not_flood, setup),
		cmocka_unit_test_setup(refresh_bit_toggles, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
