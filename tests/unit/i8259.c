/* SPDX-License-Identifier: Apache-2.0 */
/* The 8259 pair against the data sheet (231468): priorities, EOI forms, modes, cascade. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "irq/i8259.h"

static struct i8259 pic;

/* As a PC's firmware does: vectors 8 and 0x70, cascade on IR2, 8086 mode. */
static void init_pair(uint8_t icw4_master, uint8_t icw4_slave)
{
	memset(&pic, 0, sizeof(pic));
	i8259_reset(&pic);
	i8259_write(&pic, 0x20, 0x11);
	i8259_write(&pic, 0x21, 0x08);
	i8259_write(&pic, 0x21, 0x04);
	i8259_write(&pic, 0x21, icw4_master);
	i8259_write(&pic, 0xa0, 0x11);
	i8259_write(&pic, 0xa1, 0x70);
	i8259_write(&pic, 0xa1, 0x02);
	i8259_write(&pic, 0xa1, icw4_slave);
	i8259_write(&pic, 0x21, 0);
	i8259_write(&pic, 0xa1, 0);
}

static int setup(void **state)
{
	init_pair(0x01, 0x01);
	return 0;
}

static uint8_t isr(uint16_t port)
{
	i8259_write(&pic, port, 0x0b);
	return i8259_read(&pic, port);
}

static uint8_t irr(uint16_t port)
{
	i8259_write(&pic, port, 0x0a);
	return i8259_read(&pic, port);
}

static void edge_is_latched_until_acknowledged(void **state)
{
	assert_false(i8259_intr(&pic));
	assert_int_equal(i8259_set_irq(&pic, 1, true), 1);
	assert_true(i8259_intr(&pic));
	assert_int_equal(irr(0x20), 0x02);
	assert_int_equal(i8259_ack(&pic), 0x09);
	assert_int_equal(irr(0x20), 0);
	assert_int_equal(isr(0x20), 0x02);
	assert_false(i8259_intr(&pic));
	i8259_write(&pic, 0x20, 0x20);
	assert_int_equal(isr(0x20), 0);
	assert_false(i8259_intr(&pic)); /* still high: no new edge */
}

static void line_that_drops_gives_spurious_ir7(void **state)
{
	i8259_set_irq(&pic, 4, true);
	i8259_set_irq(&pic, 4, false);
	assert_false(i8259_intr(&pic));
	assert_int_equal(i8259_ack(&pic), 0x0f);
	assert_int_equal(isr(0x20), 0); /* no EOI wanted */
}

static void slave_line_that_drops_gives_spurious_ir7_of_the_master(void **state)
{
	i8259_write(&pic, 0x21, 0xfb); /* only the cascade */
	i8259_set_irq(&pic, 10, true);
	assert_true(i8259_intr(&pic));
	i8259_set_irq(&pic, 10, false);
	/* The request vanished before INTA: default IR7 of the master, as nothing is left there. */
	assert_int_equal(i8259_ack(&pic), 0x0f);
}

static void slave_goes_through_the_cascade(void **state)
{
	i8259_set_irq(&pic, 14, true);
	assert_int_equal(i8259_ack(&pic), 0x76);
	assert_int_equal(isr(0x20), 0x04);
	assert_int_equal(isr(0xa0), 0x40);
	i8259_write(&pic, 0xa0, 0x20);
	i8259_write(&pic, 0x20, 0x20);
	assert_int_equal(isr(0x20) | isr(0xa0), 0);
}

static void higher_priority_nests_and_lower_waits(void **state)
{
	i8259_set_irq(&pic, 5, true);
	assert_int_equal(i8259_ack(&pic), 0x0d);
	i8259_set_irq(&pic, 6, true);
	assert_false(i8259_intr(&pic));
	i8259_set_irq(&pic, 0, true);
	assert_int_equal(i8259_ack(&pic), 0x08);
	i8259_write(&pic, 0x20, 0x20); /* ends IR0, the highest in service */
	assert_int_equal(isr(0x20), 0x20);
	assert_false(i8259_intr(&pic));
	i8259_write(&pic, 0x20, 0x65); /* specific EOI of 5 */
	assert_int_equal(i8259_ack(&pic), 0x0e);
}

static void fully_nested_blocks_the_slave_but_special_mode_does_not(void **state)
{
	i8259_set_irq(&pic, 12, true);
	assert_int_equal(i8259_ack(&pic), 0x74);
	i8259_set_irq(&pic, 8, true);
	assert_false(i8259_intr(&pic));

	init_pair(0x11, 0x01); /* SFNM */
	i8259_set_irq(&pic, 12, true);
	assert_int_equal(i8259_ack(&pic), 0x74);
	i8259_set_irq(&pic, 8, true);
	assert_true(i8259_intr(&pic));
	assert_int_equal(i8259_ack(&pic), 0x70);
}

static void automatic_eoi_leaves_nothing_in_service(void **state)
{
	init_pair(0x03, 0x01);
	i8259_set_irq(&pic, 3, true);
	assert_int_equal(i8259_ack(&pic), 0x0b);
	assert_int_equal(isr(0x20), 0);
}

static void rotation_on_eoi_makes_the_served_one_last(void **state)
{
	i8259_set_irq(&pic, 4, true);
	i8259_ack(&pic);
	i8259_write(&pic, 0x20, 0xa0); /* rotate on non-specific EOI: 4 is now lowest */
	i8259_set_irq(&pic, 4, false);
	i8259_set_irq(&pic, 4, true);
	i8259_set_irq(&pic, 6, true);
	i8259_set_irq(&pic, 3, true);
	assert_int_equal(i8259_ack(&pic), 0x0e); /* 5, 6, 7, 0, 1, 2, 3, 4 */
	i8259_write(&pic, 0x20, 0x20);
	assert_int_equal(i8259_ack(&pic), 0x0b);
	i8259_write(&pic, 0x20, 0x20);
	assert_int_equal(i8259_ack(&pic), 0x0c);
}

static void set_priority_names_the_lowest(void **state)
{
	i8259_write(&pic, 0x20, 0xc0 | 5);
	i8259_set_irq(&pic, 0, true);
	i8259_set_irq(&pic, 6, true);
	assert_int_equal(i8259_ack(&pic), 0x0e);
}

static void special_mask_lets_lower_levels_in(void **state)
{
	i8259_set_irq(&pic, 3, true);
	i8259_ack(&pic);
	i8259_set_irq(&pic, 6, true);
	assert_false(i8259_intr(&pic));
	i8259_write(&pic, 0x21, 0x08); /* mask 3 */
	i8259_write(&pic, 0x20, 0x68); /* special mask on */
	assert_int_equal(i8259_ack(&pic), 0x0e);
	/* A non-specific EOI does not end the masked level. */
	i8259_write(&pic, 0x20, 0x20);
	assert_int_equal(isr(0x20), 0x08);
}

static void poll_acknowledges_without_inta(void **state)
{
	i8259_write(&pic, 0x20, 0x0c);
	assert_int_equal(i8259_read(&pic, 0x20), 0);
	i8259_set_irq(&pic, 7, true);
	i8259_write(&pic, 0x20, 0x0c);
	assert_int_equal(i8259_read(&pic, 0x20), 0x87);
	assert_int_equal(isr(0x20), 0x80);
}

static void elcr_makes_lines_levels(void **state)
{
	i8259_write(&pic, 0x4d0, 0xff);
	i8259_write(&pic, 0x4d1, 0xff);
	assert_int_equal(i8259_read(&pic, 0x4d0), 0xf8);
	assert_int_equal(i8259_read(&pic, 0x4d1), 0xde);
	i8259_set_irq(&pic, 11, true);
	assert_int_equal(i8259_ack(&pic), 0x73);
	i8259_write(&pic, 0xa0, 0x20);
	i8259_write(&pic, 0x20, 0x20);
	assert_true(i8259_intr(&pic)); /* still asserted: again */
	i8259_set_irq(&pic, 11, false);
	assert_false(i8259_intr(&pic));
}

static void masked_lines_stay_in_irr(void **state)
{
	i8259_write(&pic, 0x21, 0xff);
	assert_int_equal(i8259_set_irq(&pic, 1, true), -1);
	assert_false(i8259_intr(&pic));
	assert_int_equal(irr(0x20), 0x02);
	i8259_write(&pic, 0x21, 0xfd);
	assert_true(i8259_intr(&pic));
}

static void pulse_coalesces_while_pending(void **state)
{
	assert_int_equal(i8259_pulse_irq(&pic, 0), 1);
	assert_int_equal(i8259_pulse_irq(&pic, 0), 0);
	assert_int_equal(i8259_ack(&pic), 0x08);
	assert_int_equal(i8259_pulse_irq(&pic, 0), 1);
}

static void icw1_forgets_masks_and_requests(void **state)
{
	i8259_write(&pic, 0x21, 0x55);
	i8259_set_irq(&pic, 1, true);
	i8259_write(&pic, 0x20, 0x11);
	i8259_write(&pic, 0x21, 0x20);
	i8259_write(&pic, 0x21, 0x04);
	i8259_write(&pic, 0x21, 0x01);
	assert_int_equal(i8259_read(&pic, 0x21), 0);
	assert_false(i8259_intr(&pic)); /* needs a new edge */
	i8259_set_irq(&pic, 1, false);
	i8259_set_irq(&pic, 1, true);
	assert_int_equal(i8259_ack(&pic), 0x21);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(edge_is_latched_until_acknowledged, setup),
		cmocka_unit_test_setup(line_that_drops_gives_spurious_ir7, setup),
		cmocka_unit_test_setup(slave_line_that_drops_gives_spurious_ir7_of_the_master,
				       setup),
		cmocka_unit_test_setup(slave_goes_through_the_cascade, setup),
		cmocka_unit_test_setup(higher_priority_nests_and_lower_waits, setup),
		cmocka_unit_test_setup(fully_nested_blocks_the_slave_but_special_mode_does_not,
				       setup),
		cmocka_unit_test_setup(automatic_eoi_leaves_nothing_in_service, setup),
		cmocka_unit_test_setup(rotation_on_eoi_makes_the_served_one_last, setup),
		cmocka_unit_test_setup(set_priority_names_the_lowest, setup),
		cmocka_unit_test_setup(special_mask_lets_lower_levels_in, setup),
		cmocka_unit_test_setup(poll_acknowledges_without_inta, setup),
		cmocka_unit_test_setup(elcr_makes_lines_levels, setup),
		cmocka_unit_test_setup(masked_lines_stay_in_irr, setup),
		cmocka_unit_test_setup(pulse_coalesces_while_pending, setup),
		cmocka_unit_test_setup(icw1_forgets_masks_and_requests, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
