/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A. Expected values from the PC16550D data sheet. */
#include <string.h>

#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_uart;

enum {
	BASE = 0x3f8,
	RBR = BASE,
	THR = BASE,
	DLL = BASE,
	IER = BASE + 1,
	DLM = BASE + 1,
	IIR = BASE + 2,
	FCR = BASE + 2,
	LCR = BASE + 3,
	MCR = BASE + 4,
	LSR = BASE + 5,
	MSR = BASE + 6,
	SCR = BASE + 7,
};

static struct mobo_test_board *uart(void)
{
	return mobo_test_board_new(&mobo_chip_uart, NULL);
}

/* 115200 baud, 8N1: a character takes 86805 ns. */
static void fast_line(struct mobo_test_board *b)
{
	mobo_test_outb(b, LCR, 0x83);
	mobo_test_outb(b, DLL, 1);
	mobo_test_outb(b, DLM, 0);
	mobo_test_outb(b, LCR, 0x03);
}

static void uart_passes_the_tests_of_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_uart);
}

static void reset_gives_the_data_sheets_values(void **state)
{
	struct mobo_test_board *b = uart();

	assert_int_equal(mobo_test_inb(b, IER), 0);
	assert_int_equal(mobo_test_inb(b, IIR), 1);
	assert_int_equal(mobo_test_inb(b, LCR), 0);
	assert_int_equal(mobo_test_inb(b, MCR), 0);
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	assert_int_equal(mobo_test_inb(b, MSR) & 0x0f, 0);
	assert_false(mobo_test_line(b, 0));
	mobo_test_board_free(b);
}

static void reserved_bits_read_as_zero(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, IER, 0xff);
	assert_int_equal(mobo_test_inb(b, IER), 0x0f);
	mobo_test_outb(b, MCR, 0xef);
	assert_int_equal(mobo_test_inb(b, MCR), 0x0f);
	mobo_test_outb(b, SCR, 0xa5);
	assert_int_equal(mobo_test_inb(b, SCR), 0xa5);
	mobo_test_outb(b, LSR, 0xff);
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	mobo_test_board_free(b);
}

static void dlab_banks_the_divisor(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, IER, 0x05);
	mobo_test_outb(b, LCR, 0x80);
	mobo_test_outb(b, DLL, 0x34);
	mobo_test_outb(b, DLM, 0x12);
	assert_int_equal(mobo_test_inw(b, DLL), 0x1234);
	mobo_test_outb(b, LCR, 0x03);
	assert_int_equal(mobo_test_inb(b, IER), 0x05);
	assert_int_equal(mobo_test_stream_take(b, 0, (uint8_t[8]){0}, 8), 0); /* DLL is not THR */
	mobo_test_board_free(b);
}

static void written_bytes_leave_on_the_line_whole(void **state)
{
	struct mobo_test_board *b = uart();
	uint8_t out[8];

	mobo_test_outb(b, THR, 'A'); /* LCR as after reset: many a boot sector does no more */
	mobo_test_outb(b, THR, 0xff);
	assert_int_equal(mobo_test_stream_take(b, 0, out, 8), 2);
	assert_memory_equal(out, "A\xff", 2);
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	mobo_test_board_free(b);
}

static void loopback_cuts_to_the_word(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, MCR, 0x10);
	for (unsigned lcr = 0; lcr < 4; lcr++) {
		mobo_test_outb(b, LCR, (uint8_t)lcr);
		mobo_test_outb(b, THR, 0xff);
		assert_int_equal(mobo_test_inb(b, RBR), (1u << (5 + lcr)) - 1);
	}
	mobo_test_board_free(b);
}

static void rx_byte_raises_irq_until_read(void **state)
{
	struct mobo_test_board *b = uart();

	fast_line(b);
	mobo_test_outb(b, IER, 0x01);
	assert_false(mobo_test_line(b, 0));
	mobo_test_stream_send(b, 0, "x", 1);
	assert_true(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_inb(b, IIR), 0x04);
	assert_int_equal(mobo_test_inb(b, LSR), 0x61);
	assert_int_equal(mobo_test_inb(b, RBR), 'x');
	assert_false(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_inb(b, IIR), 0x01);
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	mobo_test_board_free(b);
}

static void without_fifo_bytes_wait_in_the_peer(void **state)
{
	struct mobo_test_board *b = uart();

	fast_line(b);
	mobo_test_stream_send(b, 0, "abc", 3);
	assert_int_equal(mobo_test_stream_queued(b, 0), 2);
	assert_int_equal(mobo_test_inb(b, RBR), 'a');
	assert_int_equal(mobo_test_inb(b, RBR), 'b');
	assert_int_equal(mobo_test_inb(b, RBR), 'c');
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	mobo_test_board_free(b);
}

static void trigger_level_and_timeout_raise_their_interrupts(void **state)
{
	struct mobo_test_board *b = uart();

	fast_line(b);
	mobo_test_outb(b, FCR, 0x81); /* trigger at 8 */
	mobo_test_outb(b, IER, 0x01);
	mobo_test_stream_send(b, 0, "1234567", 7);
	assert_int_equal(mobo_test_inb(b, IIR), 0xc1);
	mobo_test_step(b, 4 * 86805 - 100);
	assert_false(mobo_test_line(b, 0));
	mobo_test_step(b, 200);
	assert_true(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_inb(b, IIR), 0xcc);
	assert_int_equal(mobo_test_inb(b, RBR), '1'); /* clears it, and the time starts again */
	assert_int_equal(mobo_test_inb(b, IIR), 0xc1);
	mobo_test_step(b, 4 * 86806);
	assert_int_equal(mobo_test_inb(b, IIR), 0xcc);
	mobo_test_stream_send(b, 0, "89", 2);
	assert_int_equal(mobo_test_inb(b, IIR), 0xc4);
	for (unsigned i = 2; i <= 9; i++) {
		assert_int_equal(mobo_test_inb(b, RBR), '0' + i);
	}
	mobo_test_step(b, 1000000000);
	assert_int_equal(mobo_test_inb(b, IIR), 0xc1); /* empty: no timeout */
	mobo_test_board_free(b);
}

static void fcr_clears_the_fifo_only_with_its_enable_bit(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, FCR, 0x01);
	mobo_test_stream_send(b, 0, "ab", 2);
	mobo_test_outb(b, FCR, 0x03);
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	assert_int_equal(mobo_test_inb(b, IIR), 0xc1);
	mobo_test_stream_send(b, 0, "c", 1);
	mobo_test_outb(b, FCR, 0xc0); /* FIFO off: both are emptied */
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	assert_int_equal(mobo_test_inb(b, IIR), 0x01);
	mobo_test_board_free(b);
}

static void thre_interrupt_comes_on_enable_and_after_each_byte(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, IER, 0x02);
	assert_true(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_inb(b, IIR), 0x02);
	assert_false(mobo_test_line(b, 0)); /* reading IIR took it */
	assert_int_equal(mobo_test_inb(b, IIR), 0x01);
	mobo_test_outb(b, THR, 'a');
	assert_int_equal(mobo_test_inb(b, IIR), 0x02);
	mobo_test_outb(b, IER, 0x00);
	mobo_test_outb(b, IER, 0x02);
	assert_int_equal(mobo_test_inb(b, IIR), 0x02);
	mobo_test_board_free(b);
}

static void iir_read_takes_thre_only_when_it_shows_it(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, IER, 0x03);
	mobo_test_stream_send(b, 0, "x", 1);
	assert_int_equal(mobo_test_inb(b, IIR), 0x04);
	assert_int_equal(mobo_test_inb(b, RBR), 'x');
	assert_int_equal(mobo_test_inb(b, IIR), 0x02); /* THRE still waits */
	mobo_test_board_free(b);
}

static void loopback_returns_bytes_and_modem_outputs(void **state)
{
	struct mobo_test_board *b = uart();
	static const uint8_t msr_of_mcr[][2] = {
		{0x10, 0x00}, {0x11, 0x20}, {0x12, 0x10}, {0x14, 0x40}, {0x18, 0x80}, {0x1f, 0xf0},
	};

	mobo_test_outb(b, LCR, 0x03);
	mobo_test_outb(b, MCR, 0x1e);
	mobo_test_outb(b, THR, 0xae);
	assert_int_equal(mobo_test_inb(b, RBR), 0xae);
	assert_int_equal(mobo_test_stream_take(b, 0, (uint8_t[8]){0}, 8), 0);
	for (unsigned i = 0; i < sizeof(msr_of_mcr) / 2; i++) {
		mobo_test_outb(b, MCR, msr_of_mcr[i][0]);
		assert_int_equal(mobo_test_inb(b, MSR) & 0xf0, msr_of_mcr[i][1]);
	}
	mobo_test_board_free(b);
}

static void modem_changes_raise_irq_until_msr_is_read(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, MCR, 0x10);
	mobo_test_inb(b, MSR);
	mobo_test_outb(b, IER, 0x08);
	mobo_test_outb(b, MCR, 0x12); /* RTS -> CTS */
	assert_true(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_inb(b, IIR), 0x00);
	assert_int_equal(mobo_test_inb(b, MSR), 0x11);
	assert_false(mobo_test_line(b, 0));
	mobo_test_outb(b, MCR, 0x16); /* RI on: no delta */
	assert_int_equal(mobo_test_inb(b, MSR), 0x50);
	mobo_test_outb(b, MCR, 0x12); /* RI off: its trailing edge */
	assert_int_equal(mobo_test_inb(b, MSR), 0x14);
	mobo_test_board_free(b);
}

static void overrun_in_loopback_is_a_line_status_interrupt(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, LCR, 0x03);
	mobo_test_outb(b, MCR, 0x10);
	mobo_test_outb(b, IER, 0x05);
	mobo_test_outb(b, THR, 'a');
	mobo_test_outb(b, THR, 'b');
	assert_int_equal(mobo_test_inb(b, IIR), 0x06);
	assert_int_equal(mobo_test_inb(b, LSR), 0x63);
	assert_int_equal(mobo_test_inb(b, LSR), 0x61); /* reading cleared it */
	assert_int_equal(mobo_test_inb(b, RBR), 'b');  /* without FIFO the newer one stays */
	mobo_test_outb(b, FCR, 0x01);
	for (unsigned i = 0; i < 17; i++) {
		mobo_test_outb(b, THR, (uint8_t)('a' + i));
	}
	assert_int_equal(mobo_test_inb(b, LSR) & 0x02, 0x02);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(mobo_test_inb(b, RBR), 'a' + i); /* with FIFO the older ones */
	}
	assert_int_equal(mobo_test_inb(b, LSR), 0x60);
	mobo_test_board_free(b);
}

static void break_in_loopback_shows_with_its_character(void **state)
{
	struct mobo_test_board *b = uart();

	mobo_test_outb(b, LCR, 0x03);
	mobo_test_outb(b, FCR, 0x01);
	mobo_test_outb(b, MCR, 0x10);
	mobo_test_outb(b, THR, 'a');
	mobo_test_outb(b, LCR, 0x43);
	mobo_test_outb(b, LCR, 0x03);
	assert_int_equal(mobo_test_inb(b, LSR), 0xe1); /* in the FIFO, not on top */
	assert_int_equal(mobo_test_inb(b, RBR), 'a');
	assert_int_equal(mobo_test_inb(b, LSR), 0xf1);
	assert_int_equal(mobo_test_inb(b, LSR), 0x61);
	assert_int_equal(mobo_test_inb(b, RBR), 0);
	mobo_test_board_free(b);
}

static void base_and_irq_come_from_the_configuration(void **state)
{
	static const char *const config[] = {"base", "0x2f8", "irq", "3", NULL};
	const struct mobo_test_setup setup = {.config = config};
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_uart, &setup);

	assert_int_equal(mobo_test_inb(b, 0x2fd), 0x60);
	assert_int_equal(mobo_test_inb(b, 0x3fd), 0xff);
	assert_int_equal(mobo_test_line_target(b, 0).n, 3);
	mobo_test_board_free(b);
}

static void out2_gate_holds_the_irq_back(void **state)
{
	static const char *const config[] = {"out2-gate", "1", NULL};
	const struct mobo_test_setup setup = {.config = config};
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_uart, &setup);

	mobo_test_outb(b, IER, 0x02);
	assert_false(mobo_test_line(b, 0));
	mobo_test_outb(b, MCR, 0x08);
	assert_true(mobo_test_line(b, 0));
	mobo_test_board_free(b);
}

static void restart_keeps_bytes_timeout_and_irq(void **state)
{
	struct mobo_test_board *b = uart();

	fast_line(b);
	mobo_test_outb(b, FCR, 0x81);
	mobo_test_outb(b, IER, 0x01);
	mobo_test_stream_send(b, 0, "hi", 2);
	mobo_test_restart(b);
	mobo_test_step(b, 4 * 86806);
	assert_true(mobo_test_line(b, 0));
	mobo_test_restart(b);
	assert_true(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_inb(b, IIR), 0xcc);
	assert_int_equal(mobo_test_inb(b, RBR), 'h');
	assert_int_equal(mobo_test_inb(b, RBR), 'i');
	mobo_test_board_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uart_passes_the_tests_of_every_chip),
		cmocka_unit_test(reset_gives_the_data_sheets_values),
		cmocka_unit_test(reserved_bits_read_as_zero),
		cmocka_unit_test(dlab_banks_the_divisor),
		cmocka_unit_test(written_bytes_leave_on_the_line_whole),
		cmocka_unit_test(loopback_cuts_to_the_word),
		cmocka_unit_test(rx_byte_raises_irq_until_read),
		cmocka_unit_test(without_fifo_bytes_wait_in_the_peer),
		cmocka_unit_test(trigger_level_and_timeout_raise_their_interrupts),
		cmocka_unit_test(fcr_clears_the_fifo_only_with_its_enable_bit),
		cmocka_unit_test(thre_interrupt_comes_on_enable_and_after_each_byte),
		cmocka_unit_test(iir_read_takes_thre_only_when_it_shows_it),
		cmocka_unit_test(loopback_returns_bytes_and_modem_outputs),
		cmocka_unit_test(modem_changes_raise_irq_until_msr_is_read),
		cmocka_unit_test(overrun_in_loopback_is_a_line_status_interrupt),
		cmocka_unit_test(break_in_loopback_shows_with_its_character),
		cmocka_unit_test(base_and_irq_come_from_the_configuration),
		cmocka_unit_test(out2_gate_holds_the_irq_back),
		cmocka_unit_test(restart_keeps_bytes_timeout_and_irq),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
