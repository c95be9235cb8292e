/* SPDX-License-Identifier: Apache-2.0 */
/* The firmware's debug port and the POST card. */
#include <string.h>

#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_debugport, mobo_chip_postport;

static void both_pass_the_tests_of_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_debugport);
	mobo_chip_generic_tests(&mobo_chip_postport);
}

static void debug_port_answers_e9_and_collects_lines(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_debugport, NULL);
	const char *text = "SeaBIOS (version 1)\r\nhalf";
	char out[64];
	unsigned n;

	assert_int_equal(mobo_test_inb(b, 0x402), 0xe9);
	for (const char *c = text; *c; c++) {
		mobo_test_outb(b, 0x402, (uint8_t)*c);
	}
	assert_string_equal(mobo_test_notified(b, "firmware-log", &n), "SeaBIOS (version 1)");
	assert_int_equal(n, 1);
	mobo_test_restart(b);
	mobo_test_outb(b, 0x402, '\n');
	assert_string_equal(mobo_test_notified(b, "firmware-log", &n), "half");
	assert_int_equal(mobo_test_stream_take(b, 0, out, sizeof(out)), strlen(text) + 1);
	assert_memory_equal(out, text, strlen(text));
	mobo_test_board_free(b);
}

static void endless_line_is_cut(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_debugport, NULL);
	unsigned n;

	for (unsigned i = 0; i < 1000; i++) {
		mobo_test_outb(b, 0x402, 'x');
	}
	mobo_test_notified(b, "firmware-log", &n);
	assert_int_equal(n, 4);
	mobo_test_board_free(b);
}

static void post_code_is_told_once_and_read_back(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_postport, NULL);
	unsigned n;

	mobo_test_outb(b, 0x80, 0xc3);
	mobo_test_outb(b, 0x80, 0xc3);
	assert_string_equal(mobo_test_notified(b, "post-code", &n), "c3");
	assert_int_equal(n, 1);
	assert_int_equal(mobo_test_inb(b, 0x80), 0xc3);
	for (unsigned i = 0; i < 1000; i++) {
		mobo_test_outb(b, 0x80, (uint8_t)i);
	}
	mobo_test_notified(b, "post-code", &n);
	assert_int_equal(n, 100);
	mobo_test_step(b, 1000000000);
	mobo_test_outb(b, 0x80, 0xaa);
	assert_string_equal(mobo_test_notified(b, "post-code", &n), "aa");
	mobo_test_board_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_pass_the_tests_of_every_chip),
		cmocka_unit_test(debug_port_answers_e9_and_collects_lines),
		cmocka_unit_test(endless_line_is_cut),
		cmocka_unit_test(post_code_is_told_once_and_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
