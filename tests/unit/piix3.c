/* SPDX-License-Identifier: Apache-2.0 */
/* PIIX3 ISA bridge. Expected values: 82371SB datasheet 290550; 8237A datasheet 231466. */
#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_piix3;

enum { LINE_A20, LINE_INIT };

static struct mobo_test_board *new_board(void)
{
	return mobo_test_board_new(&mobo_chip_piix3, NULL);
}

static void hard_reset_at_cf9_needs_a_rising_edge(void **state)
{
	struct mobo_test_board *b = new_board();
	unsigned n;

	mobo_test_outb(b, 0xcf9, 0x02);
	mobo_test_notified(b, "reset", &n);
	assert_int_equal(n, 0);
	mobo_test_outb(b, 0xcf9, 0x06);
	mobo_test_notified(b, "reset", &n);
	assert_int_equal(n, 1);
	mobo_test_outb(b, 0xcf9, 0x06);
	mobo_test_notified(b, "reset", &n);
	assert_int_equal(n, 1);
	mobo_test_board_free(b);
}

static void soft_reset_at_cf9_is_init(void **state)
{
	struct mobo_test_board *b = new_board();
	unsigned n;

	mobo_test_outb(b, 0xcf9, 0x04);
	mobo_test_notified(b, "reset", &n);
	assert_int_equal(n, 0);
	assert_int_equal(mobo_test_pulses(b, LINE_INIT), 1);
	mobo_test_board_free(b);
}

static void port_92_drives_a20_and_init(void **state)
{
	struct mobo_test_board *b = new_board();

	assert_false(mobo_test_line(b, LINE_A20));
	mobo_test_outb(b, 0x92, 0x02);
	assert_true(mobo_test_line(b, LINE_A20));
	assert_int_equal(mobo_test_inb(b, 0x92), 0x02);
	mobo_test_outb(b, 0x92, 0x03);
	mobo_test_outb(b, 0x92, 0x03);
	assert_int_equal(mobo_test_pulses(b, LINE_INIT), 1);
	mobo_test_reset(b);
	assert_false(mobo_test_line(b, LINE_A20));
	mobo_test_board_free(b);
}

static void dma_count_is_two_bytes_by_flip_flop(void **state)
{
	struct mobo_test_board *b = new_board();

	mobo_test_outb(b, 0x0c, 0);
	mobo_test_outb(b, 0x05, 0x34);
	mobo_test_outb(b, 0x05, 0x12);
	mobo_test_outb(b, 0x0c, 0);
	assert_int_equal(mobo_test_inb(b, 0x05), 0x34);
	assert_int_equal(mobo_test_inb(b, 0x05), 0x12);
	/* The second controller's registers are at even ports. */
	mobo_test_outb(b, 0xd8, 0);
	mobo_test_outb(b, 0xc4, 0x78);
	mobo_test_outb(b, 0xc4, 0x56);
	mobo_test_outb(b, 0xd8, 0);
	assert_int_equal(mobo_test_inb(b, 0xc4), 0x78);
	assert_int_equal(mobo_test_inb(b, 0xc4), 0x56);
	mobo_test_outb(b, 0x87, 0xa5);
	assert_int_equal(mobo_test_inb(b, 0x87), 0xa5);
	mobo_test_board_free(b);
}

static void master_clear_masks_all_channels(void **state)
{
	struct mobo_test_board *b = new_board();

	mobo_test_outb(b, 0x0e, 0);
	assert_int_equal(mobo_test_inb(b, 0x0f) & 0xf, 0);
	mobo_test_outb(b, 0x0a, 0x06);
	assert_int_equal(mobo_test_inb(b, 0x0f) & 0xf, 4);
	mobo_test_outb(b, 0x0d, 0);
	assert_int_equal(mobo_test_inb(b, 0x0f) & 0xf, 0xf);
	mobo_test_board_free(b);
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_piix3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hard_reset_at_cf9_needs_a_rising_edge),
		cmocka_unit_test(soft_reset_at_cf9_is_init),
		cmocka_unit_test(port_92_drives_a20_and_init),
		cmocka_unit_test(dma_count_is_two_bytes_by_flip_flop),
		cmocka_unit_test(master_clear_masks_all_channels),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
