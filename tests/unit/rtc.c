/* SPDX-License-Identifier: Apache-2.0 */
/* Real-time clock. Expected values: MC146818A datasheet; dates from the C library's calendar. */
#include <stdlib.h>
#include <time.h>

#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_rtc;

enum { LINE_IRQ8 };
#define SECOND 1000000000ull
#define MS     1000000ull

static uint8_t get(struct mobo_test_board *b, uint8_t at)
{
	mobo_test_outb(b, 0x70, at);
	return mobo_test_inb(b, 0x71);
}

static void set(struct mobo_test_board *b, uint8_t at, uint8_t val)
{
	mobo_test_outb(b, 0x70, at);
	mobo_test_outb(b, 0x71, val);
}

/* The clock at some second since 1970; 24 hours, BCD. */
static struct mobo_test_board *at_time(int64_t seconds)
{
	/* The fake board's time begins one second after its base. */
	const struct mobo_test_setup setup = {.realtime_base_ns = (seconds - 1) * (int64_t)SECOND};

	return mobo_test_board_new(&mobo_chip_rtc, &setup);
}

static unsigned bcd(uint8_t v)
{
	return (v >> 4) * 10u + (v & 0xf);
}

static void shows_the_date_in_bcd(void **state)
{
	static const int64_t times[] = {951782399,  951782400,	1704067199, 1709251199,
					4107542400, 1795411412, 68169600};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct mobo_test_board *b = at_time(times[i]);
		time_t t = (time_t)times[i];
		struct tm tm;

		gmtime_r(&t, &tm);
		assert_int_equal(bcd(get(b, 0)), tm.tm_sec);
		assert_int_equal(bcd(get(b, 2)), tm.tm_min);
		assert_int_equal(bcd(get(b, 4)), tm.tm_hour);
		assert_int_equal(bcd(get(b, 6)), tm.tm_wday + 1);
		assert_int_equal(bcd(get(b, 7)), tm.tm_mday);
		assert_int_equal(bcd(get(b, 8)), tm.tm_mon + 1);
		assert_int_equal(bcd(get(b, 9)), tm.tm_year % 100);
		assert_int_equal(bcd(get(b, 0x32)), (tm.tm_year + 1900) / 100);
		mobo_test_board_free(b);
	}
}

static void binary_and_twelve_hours(void **state)
{
	struct mobo_test_board *b = at_time(1704067200 + 13 * 3600 + 59 * 60 + 58);

	set(b, 0x0b, 0x04);
	assert_int_equal(get(b, 4), 0x81); /* 1 p.m. */
	assert_int_equal(get(b, 2), 59);
	mobo_test_step(b, 11 * 3600 * SECOND);
	assert_int_equal(get(b, 4), 12); /* midnight is 12 a.m. */
	set(b, 0x0b, 0x00);
	assert_int_equal(get(b, 2), 0x59);
	mobo_test_board_free(b);
}

static void set_bit_holds_the_clock_until_released(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	set(b, 0x0b, 0x82);
	set(b, 0x04, 0x23);
	set(b, 0x02, 0x59);
	set(b, 0x00, 0x58);
	set(b, 0x09, 0x31);
	set(b, 0x08, 0x12);
	set(b, 0x07, 0x31);
	mobo_test_step(b, 100 * SECOND);
	assert_int_equal(get(b, 0), 0x58);
	set(b, 0x0b, 0x02);
	mobo_test_step(b, 2 * SECOND);
	assert_int_equal(get(b, 0), 0x00);
	assert_int_equal(get(b, 9), 0x32);
	assert_int_equal(get(b, 8), 0x01);
	assert_int_equal(get(b, 7), 0x01);
	mobo_test_board_free(b);
}

static void first_update_comes_half_a_second_after_the_divider_is_released(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	set(b, 0x0a, 0x76);
	mobo_test_step(b, 3333 * MS);
	set(b, 0x00, 0x10);
	set(b, 0x0a, 0x26);
	mobo_test_step(b, 499 * MS);
	assert_int_equal(get(b, 0), 0x10);
	mobo_test_step(b, 2 * MS);
	assert_int_equal(get(b, 0), 0x11);
	mobo_test_board_free(b);
}

static void update_in_progress_shows_244_us_before(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	assert_int_equal(get(b, 0x0a), 0x26);
	mobo_test_step(b, SECOND - 245000);
	assert_int_equal(get(b, 0x0a), 0x26);
	mobo_test_step(b, 2000);
	assert_int_equal(get(b, 0x0a), 0xa6);
	mobo_test_step(b, 243000);
	assert_int_equal(get(b, 0x0a), 0x26);
	mobo_test_board_free(b);
}

static void update_interrupt_each_second_until_c_is_read(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	get(b, 0x0c);
	set(b, 0x0b, 0x12);
	mobo_test_step(b, 999 * MS);
	assert_false(mobo_test_line(b, LINE_IRQ8));
	mobo_test_step(b, 1 * MS);
	assert_true(mobo_test_line(b, LINE_IRQ8));
	assert_int_equal(get(b, 0x0c) & 0x90, 0x90);
	assert_false(mobo_test_line(b, LINE_IRQ8));
	assert_int_equal(get(b, 0x0c), 0);
	mobo_test_step(b, SECOND);
	assert_int_equal(mobo_test_line_rises(b, LINE_IRQ8), 2);
	mobo_test_board_free(b);
}

static void periodic_rate_6_makes_1024_a_second(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);
	unsigned n = 0;

	set(b, 0x0b, 0x42);
	get(b, 0x0c);
	for (uint64_t end = mobo_test_now(b) + SECOND; mobo_test_now(b) < end;) {
		mobo_test_step(b, MS / 10);
		if (mobo_test_line(b, LINE_IRQ8)) {
			assert_int_equal(get(b, 0x0c) & 0xc0, 0xc0);
			n++;
		}
	}
	assert_in_range(n, 1023, 1024);
	mobo_test_board_free(b);
}

static void alarm_matches_with_wildcards(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	set(b, 1, 0x30);
	set(b, 3, 0xff);
	set(b, 5, 0xff);
	get(b, 0x0c);
	set(b, 0x0b, 0x22);
	mobo_test_step(b, 29 * SECOND);
	assert_false(mobo_test_line(b, LINE_IRQ8));
	mobo_test_step(b, SECOND);
	assert_true(mobo_test_line(b, LINE_IRQ8));
	assert_int_equal(get(b, 0x0c) & 0xa0, 0xa0);
	mobo_test_step(b, 59 * SECOND);
	assert_false(mobo_test_line(b, LINE_IRQ8));
	mobo_test_step(b, SECOND);
	assert_true(mobo_test_line(b, LINE_IRQ8));
	mobo_test_board_free(b);
}

static void unused_clock_sets_no_timer(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	get(b, 0x0c);
	mobo_test_step(b, 10 * SECOND);
	assert_int_equal(mobo_test_next_timer(b), UINT64_MAX);
	assert_int_equal(get(b, 0x0c), 0x50); /* the flags come up all the same */
	mobo_test_board_free(b);
}

static void ram_and_time_survive_reset(void **state)
{
	struct mobo_test_board *b = at_time(1704067200);

	set(b, 0x0f, 0x0a);
	set(b, 0x0b, 0x72);
	mobo_test_outb(b, 0x72, 0x90);
	mobo_test_outb(b, 0x73, 0x5a);
	mobo_test_step(b, 5 * SECOND);
	mobo_test_reset(b);
	assert_int_equal(get(b, 0x0f), 0x0a);
	assert_int_equal(get(b, 0x0b), 0x02);
	assert_int_equal(get(b, 0x00), 0x05);
	assert_int_equal(get(b, 0x0d), 0x80);
	mobo_test_outb(b, 0x72, 0x90);
	assert_int_equal(mobo_test_inb(b, 0x73), 0x5a);
	mobo_test_board_free(b);
}

static void cmos_tells_firmware_of_memory_and_boot_order(void **state)
{
	static const char *const config[] = {"memory", "6G",   "low-memory",	     "3G", "cpus",
					     "2",      "boot", "cdrom,disk,network", NULL};
	const struct mobo_test_setup setup = {.config = config};
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_rtc, &setup);

	assert_int_equal(get(b, 0x15) | get(b, 0x16) << 8, 640);
	assert_int_equal(get(b, 0x30) | get(b, 0x31) << 8, 0xffff);
	assert_int_equal((get(b, 0x34) | get(b, 0x35) << 8) * 0x10000ull,
			 (3ull << 30) - (16 << 20));
	assert_int_equal((get(b, 0x5b) | get(b, 0x5c) << 8 | get(b, 0x5d) << 16) * 0x10000ull,
			 3ull << 30);
	assert_int_equal(get(b, 0x5f), 1);
	assert_int_equal(get(b, 0x3d), 0x23);
	assert_int_equal(get(b, 0x38) >> 4, 4);
	mobo_test_board_free(b);
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_rtc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_the_date_in_bcd),
		cmocka_unit_test(binary_and_twelve_hours),
		cmocka_unit_test(set_bit_holds_the_clock_until_released),
		cmocka_unit_test(first_update_comes_half_a_second_after_the_divider_is_released),
		cmocka_unit_test(update_in_progress_shows_244_us_before),
		cmocka_unit_test(update_interrupt_each_second_until_c_is_read),
		cmocka_unit_test(periodic_rate_6_makes_1024_a_second),
		cmocka_unit_test(alarm_matches_with_wildcards),
		cmocka_unit_test(unused_clock_sets_no_timer),
		cmocka_unit_test(ram_and_time_survive_reset),
		cmocka_unit_test(cmos_tells_firmware_of_memory_and_boot_order),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
