/* SPDX-License-Identifier: Apache-2.0 */
/* PIIX4 power management. Expected values: 82371AB datasheet 290562, 7 and 11; ACPI 3.0, 4.7. */
#include <errno.h>

#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_piix4pm;

enum { PM, SMBUS };
enum { PMSTS = 0, PMEN = 2, PMCNTRL = 4, PMTMR = 8 };
enum { LINE_SCI };
enum { TMROF = 1, PWRBTN = 1 << 8 };
#define SECOND 1000000000ull

static struct mobo_test_board *new_board(void)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_piix4pm, NULL);

	mobo_test_outb(b, 0xb2, 0xf1); /* SCI_EN */
	return b;
}

static void power_button_raises_sci_until_cleared(void **state)
{
	struct mobo_test_board *b = new_board();

	mobo_test_write(b, PM, PMEN, 2, PWRBTN);
	assert_int_equal(mobo_test_command(b, "power-button", ""), 0);
	assert_true(mobo_test_line(b, LINE_SCI));
	assert_int_equal(mobo_test_read(b, PM, PMSTS, 2), PWRBTN);
	/* The other byte of the status register does not clear it. */
	mobo_test_write(b, PM, PMSTS, 1, 0xff);
	assert_true(mobo_test_line(b, LINE_SCI));
	mobo_test_write(b, PM, PMSTS, 2, PWRBTN);
	assert_false(mobo_test_line(b, LINE_SCI));
	assert_int_equal(mobo_test_command(b, "no-such-thing", ""), -ENOSYS);
	mobo_test_board_free(b);
}

static void acpi_enable_sets_sci_en(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_piix4pm, NULL);

	mobo_test_write(b, PM, PMEN, 2, PWRBTN);
	mobo_test_command(b, "power-button", "");
	assert_false(mobo_test_line(b, LINE_SCI));
	mobo_test_outb(b, 0xb2, 0xf1);
	assert_int_equal(mobo_test_read(b, PM, PMCNTRL, 2) & 1, 1);
	assert_true(mobo_test_line(b, LINE_SCI));
	mobo_test_outb(b, 0xb2, 0xf0);
	assert_false(mobo_test_line(b, LINE_SCI));
	mobo_test_board_free(b);
}

static void soft_off_asks_the_machine(void **state)
{
	struct mobo_test_board *b = new_board();
	unsigned n;

	mobo_test_write(b, PM, PMCNTRL, 2, 1); /* type alone does nothing */
	mobo_test_notified(b, "poweroff", &n);
	assert_int_equal(n, 0);
	mobo_test_write(b, PM, PMCNTRL, 2, 0x2001);
	mobo_test_notified(b, "poweroff", &n);
	assert_int_equal(n, 1);
	assert_int_equal(mobo_test_read(b, PM, PMCNTRL, 2) & 0x2000, 0);
	mobo_test_board_free(b);
}

static void timer_counts_at_3_579545_mhz_in_24_bits(void **state)
{
	struct mobo_test_board *b = new_board();
	uint32_t first = (uint32_t)mobo_test_read(b, PM, PMTMR, 4);

	mobo_test_step(b, SECOND);
	assert_in_range((mobo_test_read(b, PM, PMTMR, 4) - first) & 0xffffff, 3579544, 3579546);
	mobo_test_step(b, 10 * SECOND);
	assert_int_equal(mobo_test_read(b, PM, PMTMR, 4) >> 24, 0);
	mobo_test_board_free(b);
}

static void top_bit_change_sets_overflow_and_interrupts_when_enabled(void **state)
{
	struct mobo_test_board *b = new_board();

	mobo_test_write(b, PM, PMSTS, 2, 0xffff);
	assert_int_equal(mobo_test_next_timer(b), UINT64_MAX); /* costs nothing when not wanted */
	mobo_test_step(b, 5 * SECOND / 2);
	assert_int_equal(mobo_test_read(b, PM, PMSTS, 2), TMROF);
	mobo_test_write(b, PM, PMSTS, 2, TMROF);
	mobo_test_write(b, PM, PMEN, 2, TMROF);
	assert_false(mobo_test_line(b, LINE_SCI));
	mobo_test_step(b, 2343487200); /* 2^23 ticks */
	assert_true(mobo_test_line(b, LINE_SCI));
	assert_int_equal(mobo_test_line_rises(b, LINE_SCI), 1);
	mobo_test_board_free(b);
}

static void no_device_answers_on_the_smbus(void **state)
{
	struct mobo_test_board *b = new_board();

	mobo_test_write(b, SMBUS, 4, 1, 0xa1); /* SPD EEPROM, read */
	mobo_test_write(b, SMBUS, 2, 1, 0x48);
	assert_int_equal(mobo_test_read(b, SMBUS, 0, 1), 0x04); /* device error, not busy */
	mobo_test_write(b, SMBUS, 0, 1, 0x04);
	assert_int_equal(mobo_test_read(b, SMBUS, 0, 1), 0);
	mobo_test_board_free(b);
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_piix4pm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_button_raises_sci_until_cleared),
		cmocka_unit_test(acpi_enable_sets_sci_en),
		cmocka_unit_test(soft_off_asks_the_machine),
		cmocka_unit_test(timer_counts_at_3_579545_mhz_in_24_bits),
		cmocka_unit_test(top_bit_change_sets_overflow_and_interrupts_when_enabled),
		cmocka_unit_test(no_device_answers_on_the_smbus),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
