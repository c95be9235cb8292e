/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC against the 82093AA data sheet (290566). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "irq/ioapic.h"

static struct ioapic io;
static struct apic_msg last;
static unsigned n_sent;
static int result;

static int deliver(void *arg, const struct apic_msg *m)
{
	last = *m;
	n_sent++;
	return result;
}

static int setup(void **state)
{
	memset(&io, 0, sizeof(io));
	io.deliver = deliver;
	result = 1;
	n_sent = 0;
	ioapic_reset(&io);
	return 0;
}

static uint32_t rd(uint8_t reg)
{
	ioapic_write(&io, 0, reg);
	return ioapic_read(&io, 0x10);
}

static void wr(uint8_t reg, uint32_t val)
{
	ioapic_write(&io, 0, reg);
	ioapic_write(&io, 0x10, val);
}

static void route(unsigned pin, uint64_t rte)
{
	wr((uint8_t)(0x11 + pin * 2), (uint32_t)(rte >> 32));
	wr((uint8_t)(0x10 + pin * 2), (uint32_t)rte);
}

static void registers(void **state)
{
	assert_int_equal(rd(1), 0x00170020);
	wr(0, 0x0f000000);
	assert_int_equal(rd(0), 0x0f000000);
	assert_int_equal(rd(2), 0x0f000000);
	for (unsigned pin = 0; pin < 24; pin++) {
		assert_int_equal(rd((uint8_t)(0x10 + pin * 2)), 0x10000);
	}
	route(3, 0xffffffffffffffffull);
	assert_int_equal(rd(0x16), 0x1afff); /* status and remote IRR are read only */
	assert_int_equal(rd(0x17), 0xff000000);
	assert_int_equal(rd(0x40), 0);
	assert_int_equal(rd(0xff), 0);
}

static void edge_sends_once_per_rise(void **state)
{
	route(4, 2ull << 56 | 0x800 | 0x31);
	assert_int_equal(ioapic_set_irq(&io, 4, true), 1);
	assert_int_equal(n_sent, 1);
	assert_int_equal(last.vector, 0x31);
	assert_int_equal(last.dest, 2);
	assert_true(last.logical);
	assert_false(last.level);
	assert_int_equal(ioapic_set_irq(&io, 4, true), -1);
	ioapic_set_irq(&io, 4, false);
	ioapic_set_irq(&io, 4, true);
	assert_int_equal(n_sent, 2);
}

static void edge_while_masked_is_lost(void **state)
{
	ioapic_set_irq(&io, 4, true);
	route(4, 0x31);
	assert_int_equal(n_sent, 0);
}

static void level_repeats_after_eoi_while_asserted(void **state)
{
	route(11, 0x8000 | 0x55);
	ioapic_set_irq(&io, 11, true);
	assert_int_equal(n_sent, 1);
	assert_true(last.level);
	assert_int_equal(rd(0x26), 0xc055);
	ioapic_set_irq(&io, 11, false);
	ioapic_set_irq(&io, 11, true);
	assert_int_equal(n_sent, 1); /* remote IRR holds it */
	ioapic_eoi(&io, 0x54);
	assert_int_equal(n_sent, 1);
	ioapic_eoi(&io, 0x55);
	assert_int_equal(n_sent, 2);
	ioapic_set_irq(&io, 11, false);
	ioapic_write(&io, 0x40, 0x55); /* the EOI register does the same */
	assert_int_equal(n_sent, 2);
	assert_int_equal(rd(0x26), 0x8055);
}

static void level_that_waits_comes_with_the_unmask(void **state)
{
	route(11, 0x18000 | 0x55);
	ioapic_set_irq(&io, 11, true);
	assert_int_equal(n_sent, 0);
	route(11, 0x8000 | 0x55);
	assert_int_equal(n_sent, 1);
}

static void level_that_nobody_takes_has_no_remote_irr(void **state)
{
	result = -1;
	route(11, 0x8000 | 0x55);
	ioapic_set_irq(&io, 11, true);
	assert_int_equal(rd(0x26), 0x8055);
}

static void changing_to_edge_clears_remote_irr(void **state)
{
	route(11, 0x8000 | 0x55);
	ioapic_set_irq(&io, 11, true);
	route(11, 0x10055);
	assert_int_equal(rd(0x26), 0x10055);
}

static void delivery_modes_pass(void **state)
{
	route(0, 0x700);
	ioapic_pulse_irq(&io, 0);
	assert_int_equal(last.mode, APIC_EXTINT);
	route(0, 0x8400); /* NMI is an edge whatever the entry says */
	ioapic_set_irq(&io, 0, true);
	assert_int_equal(last.mode, APIC_NMI);
	assert_false(last.level);
}

static void pins_beyond_are_ignored(void **state)
{
	assert_int_equal(ioapic_set_irq(&io, 24, true), -1);
	assert_int_equal(ioapic_pulse_irq(&io, 1000), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(registers, setup),
		cmocka_unit_test_setup(edge_sends_once_per_rise, setup),
		cmocka_unit_test_setup(edge_while_masked_is_lost, setup),
		cmocka_unit_test_setup(level_repeats_after_eoi_while_asserted, setup),
		cmocka_unit_test_setup(level_that_waits_comes_with_the_unmask, setup),
		cmocka_unit_test_setup(level_that_nobody_takes_has_no_remote_irr, setup),
		cmocka_unit_test_setup(changing_to_edge_clears_remote_irr, setup),
		cmocka_unit_test_setup(delivery_modes_pass, setup),
		cmocka_unit_test_setup(pins_beyond_are_ignored, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
