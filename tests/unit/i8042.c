/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyboard controller, keyboard and mouse. Expected values: IBM PS/2 Hardware Interface Technical
 * Reference; Microsoft's scan code specification (the set 1 and set 2 columns of its table).
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_i8042;

enum { LINE_IRQ1, LINE_IRQ12, LINE_A20 };
enum { OBF = 1, AUX = 0x20 };
#define MS 1000000ull

static void send_command(struct mobo_test_board *b, uint8_t command)
{
	mobo_test_outb(b, 0x64, command);
}

/* Waits for a byte; aux says where it must come from. */
static uint8_t receive(struct mobo_test_board *b, bool aux)
{
	for (unsigned i = 0; i < 100 && !(mobo_test_inb(b, 0x64) & OBF); i++) {
		mobo_test_step(b, MS / 10);
	}
	assert_int_equal(mobo_test_inb(b, 0x64) & (OBF | AUX), aux ? OBF | AUX : OBF);
	return mobo_test_inb(b, 0x60);
}

static void expect(struct mobo_test_board *b, bool aux, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(receive(b, aux), (uint8_t)bytes[i]);
	}
	mobo_test_step(b, 2 * MS);
	assert_false(mobo_test_inb(b, 0x64) & OBF);
}
#define EXPECT_KBD(b, bytes) expect(b, false, bytes, sizeof(bytes) - 1)
#define EXPECT_AUX(b, bytes) expect(b, true, bytes, sizeof(bytes) - 1)

static void write_ctr(struct mobo_test_board *b, uint8_t ctr)
{
	send_command(b, 0x60);
	mobo_test_outb(b, 0x60, ctr);
}

static void key(struct mobo_test_board *b, uint16_t code, bool down)
{
	mobo_test_input(b,
			&(struct mobo_input){.kind = MOBO_INPUT_KEY, .code = code, .down = down});
}

static void aux_write(struct mobo_test_board *b, uint8_t byte)
{
	send_command(b, 0xd4);
	mobo_test_outb(b, 0x60, byte);
}

static void move(struct mobo_test_board *b, int dx, int dy)
{
	mobo_test_input(b, &(struct mobo_input){.kind = MOBO_INPUT_REL, .dx = dx, .dy = dy});
}

/* Raw set 2, no interrupts. */
static struct mobo_test_board *raw_board(void)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_i8042, NULL);

	write_ctr(b, 0x00);
	return b;
}

static void self_test_answers_and_sets_system_flag(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_i8042, NULL);

	assert_int_equal(mobo_test_inb(b, 0x64) & 0x04, 0);
	send_command(b, 0xaa);
	assert_int_equal(mobo_test_inb(b, 0x64) & 0x0d, 0x0d);
	assert_int_equal(mobo_test_inb(b, 0x60), 0x55);
	send_command(b, 0xab);
	assert_int_equal(mobo_test_inb(b, 0x60), 0x00);
	send_command(b, 0xa9);
	assert_int_equal(mobo_test_inb(b, 0x60), 0x00);
	mobo_test_board_free(b);
}

static void command_byte_is_ram_location_0(void **state)
{
	struct mobo_test_board *b = raw_board();

	write_ctr(b, 0x65);
	send_command(b, 0x20);
	assert_int_equal(mobo_test_inb(b, 0x60), 0x65);
	send_command(b, 0xa8);
	send_command(b, 0x20);
	assert_int_equal(mobo_test_inb(b, 0x60), 0x45);
	send_command(b, 0xad);
	send_command(b, 0x20);
	assert_int_equal(mobo_test_inb(b, 0x60), 0x55);
	mobo_test_board_free(b);
}

static void key_raises_irq_1_until_read(void **state)
{
	struct mobo_test_board *b = raw_board();

	write_ctr(b, 0x01);
	key(b, KEY_A, true);
	key(b, KEY_A, false);
	assert_true(mobo_test_line(b, LINE_IRQ1));
	assert_int_equal(mobo_test_inb(b, 0x60), 0x1c);
	assert_false(mobo_test_line(b, LINE_IRQ1)); /* each byte makes an edge */
	mobo_test_step(b, 2 * MS);
	assert_true(mobo_test_line(b, LINE_IRQ1));
	EXPECT_KBD(b, "\xf0\x1c");
	assert_int_equal(mobo_test_line_rises(b, LINE_IRQ1), 3);
	mobo_test_board_free(b);
}

static void keys_have_the_codes_of_the_table(void **state)
{
	static const struct {
		uint16_t key;
		const char *set2, *set1;
	} keys[] = {
		{KEY_ESC, "\x76", "\x01"},
		{KEY_1, "\x16", "\x02"},
		{KEY_BACKSPACE, "\x66", "\x0e"},
		{KEY_TAB, "\x0d", "\x0f"},
		{KEY_ENTER, "\x5a", "\x1c"},
		{KEY_SPACE, "\x29", "\x39"},
		{KEY_F1, "\x05", "\x3b"},
		{KEY_F7, "\x83", "\x41"},
		{KEY_F11, "\x78", "\x57"},
		{KEY_F12, "\x07", "\x58"},
		{KEY_102ND, "\x61", "\x56"},
		{KEY_KPASTERISK, "\x7c", "\x37"},
		{KEY_NUMLOCK, "\x77", "\x45"},
		{KEY_KPENTER, "\xe0\x5a", "\xe0\x1c"},
		{KEY_RIGHTALT, "\xe0\x11", "\xe0\x38"},
		{KEY_HOME, "\xe0\x6c", "\xe0\x47"},
		{KEY_UP, "\xe0\x75", "\xe0\x48"},
		{KEY_DELETE, "\xe0\x71", "\xe0\x53"},
		{KEY_LEFTMETA, "\xe0\x1f", "\xe0\x5b"},
		{KEY_COMPOSE, "\xe0\x2f", "\xe0\x5d"},
		{KEY_SYSRQ, "\xe0\x12\xe0\x7c", "\xe0\x2a\xe0\x37"},
		{KEY_PAUSE, "\xe1\x14\x77\xe1\xf0\x14\xf0\x77", "\xe1\x1d\x45\xe1\x9d\xc5"},
	};
	struct mobo_test_board *b = raw_board();

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		for (unsigned translate = 0; translate < 2; translate++) {
			const char *want = translate ? keys[i].set1 : keys[i].set2;

			write_ctr(b, translate ? 0x40 : 0x00);
			key(b, keys[i].key, true);
			expect(b, false, want, strlen(want));
			key(b, keys[i].key, false);
			while (mobo_test_step(b, MS), mobo_test_inb(b, 0x64) & OBF) {
				mobo_test_inb(b, 0x60);
			}
		}
	}
	mobo_test_board_free(b);
}

static void release_codes(void **state)
{
	struct mobo_test_board *b = raw_board();

	key(b, KEY_SYSRQ, true);
	EXPECT_KBD(b, "\xe0\x12\xe0\x7c");
	key(b, KEY_SYSRQ, false);
	EXPECT_KBD(b, "\xe0\xf0\x7c\xe0\xf0\x12");
	write_ctr(b, 0x40);
	key(b, KEY_UP, true);
	EXPECT_KBD(b, "\xe0\x48");
	key(b, KEY_UP, false);
	EXPECT_KBD(b, "\xe0\xc8");
	key(b, KEY_F7, true);
	key(b, KEY_F7, false);
	EXPECT_KBD(b, "\x41\xc1");
	mobo_test_board_free(b);
}

static void scan_code_set_1_without_translation(void **state)
{
	struct mobo_test_board *b = raw_board();

	mobo_test_outb(b, 0x60, 0xf0);
	EXPECT_KBD(b, "\xfa");
	mobo_test_outb(b, 0x60, 0x01);
	EXPECT_KBD(b, "\xfa");
	key(b, KEY_A, true);
	key(b, KEY_A, false);
	EXPECT_KBD(b, "\x1e\x9e");
	mobo_test_outb(b, 0x60, 0xf0);
	EXPECT_KBD(b, "\xfa");
	mobo_test_outb(b, 0x60, 0x00);
	EXPECT_KBD(b, "\xfa\x01");
	mobo_test_board_free(b);
}

static void keyboard_commands(void **state)
{
	struct mobo_test_board *b = raw_board();
	unsigned n;

	mobo_test_outb(b, 0x60, 0xff);
	EXPECT_KBD(b, "\xfa\xaa");
	mobo_test_outb(b, 0x60, 0xf2);
	EXPECT_KBD(b, "\xfa\xab\x83");
	mobo_test_outb(b, 0x60, 0xee);
	EXPECT_KBD(b, "\xee");
	mobo_test_outb(b, 0x60, 0xed);
	EXPECT_KBD(b, "\xfa");
	mobo_test_outb(b, 0x60, 0x06);
	EXPECT_KBD(b, "\xfa");
	assert_string_equal(mobo_test_notified(b, "led", &n), "num caps");
	mobo_test_outb(b, 0x60, 0xfe);
	EXPECT_KBD(b, "\xfa");
	mobo_test_outb(b, 0x60, 0x00);
	EXPECT_KBD(b, "\xfe");
	mobo_test_outb(b, 0x60, 0xf5);
	EXPECT_KBD(b, "\xfa");
	key(b, KEY_A, true);
	EXPECT_KBD(b, "");
	key(b, KEY_A, false);
	mobo_test_outb(b, 0x60, 0xf4);
	EXPECT_KBD(b, "\xfa");
	key(b, KEY_A, true);
	EXPECT_KBD(b, "\x1c");
	mobo_test_board_free(b);
}

static void held_key_repeats_after_the_delay(void **state)
{
	struct mobo_test_board *b = raw_board();
	unsigned n = 0;

	key(b, KEY_A, true);
	assert_int_equal(receive(b, false), 0x1c);
	mobo_test_step(b, 490 * MS);
	assert_false(mobo_test_inb(b, 0x64) & OBF);
	for (unsigned i = 0; i < 1000; i++) {
		mobo_test_step(b, MS);
		if (mobo_test_inb(b, 0x64) & OBF) {
			assert_int_equal(mobo_test_inb(b, 0x60), 0x1c);
			n++;
		}
	}
	assert_in_range(n, 10, 12); /* 10.9 a second */
	key(b, KEY_A, false);
	EXPECT_KBD(b, "\xf0\x1c");
	assert_int_equal(mobo_test_next_timer(b), UINT64_MAX);
	mobo_test_board_free(b);
}

static void loop_back_of_the_auxiliary_port(void **state)
{
	struct mobo_test_board *b = raw_board();

	write_ctr(b, 0x02);
	send_command(b, 0xd3);
	mobo_test_outb(b, 0x60, 0x5a);
	assert_true(mobo_test_line(b, LINE_IRQ12));
	assert_false(mobo_test_line(b, LINE_IRQ1));
	EXPECT_AUX(b, "\x5a");
	mobo_test_board_free(b);
}

static void mouse_moves_in_packets(void **state)
{
	struct mobo_test_board *b = raw_board();

	aux_write(b, 0xff);
	EXPECT_AUX(b, "\xfa\xaa\x00");
	move(b, 5, 5);
	EXPECT_AUX(b, ""); /* not before it is enabled */
	aux_write(b, 0xf4);
	EXPECT_AUX(b, "\xfa");
	mobo_test_step(b, 100 * MS);
	move(b, 5, 3); /* down is negative in a packet */
	EXPECT_AUX(b, "\x28\x05\xfd");
	mobo_test_step(b, 100 * MS);
	move(b, -300, 0);
	assert_int_equal(receive(b, true), 0x18);
	assert_int_equal(receive(b, true), 0x01); /* -255 */
	assert_int_equal(receive(b, true), 0x00);
	mobo_test_step(b, 20 * MS);
	EXPECT_AUX(b, "\x18\xd3\x00"); /* -45 */
	mobo_test_board_free(b);
}

static void knocking_makes_a_wheel_and_five_buttons(void **state)
{
	static const uint8_t wheel[] = {200, 100, 80}, buttons[] = {200, 200, 80};
	struct mobo_test_board *b = raw_board();

	for (size_t i = 0; i < 3; i++) {
		aux_write(b, 0xf3);
		EXPECT_AUX(b, "\xfa");
		aux_write(b, wheel[i]);
		EXPECT_AUX(b, "\xfa");
	}
	aux_write(b, 0xf2);
	EXPECT_AUX(b, "\xfa\x03");
	aux_write(b, 0xf4);
	EXPECT_AUX(b, "\xfa");
	mobo_test_input(b, &(struct mobo_input){.kind = MOBO_INPUT_WHEEL, .dz = 1});
	EXPECT_AUX(b, "\x08\x00\x00\xff"); /* away from the user is negative */
	for (size_t i = 0; i < 3; i++) {
		aux_write(b, 0xf3);
		EXPECT_AUX(b, "\xfa");
		aux_write(b, buttons[i]);
		EXPECT_AUX(b, "\xfa");
	}
	aux_write(b, 0xf2);
	EXPECT_AUX(b, "\xfa\x04");
	mobo_test_input(b, &(struct mobo_input){.kind = MOBO_INPUT_BUTTON,
						.code = BTN_SIDE,
						.down = true});
	EXPECT_AUX(b, "\x08\x00\x00\x10");
	mobo_test_board_free(b);
}

static void short_click_is_two_packets(void **state)
{
	struct mobo_test_board *b = raw_board();
	struct mobo_input in = {.kind = MOBO_INPUT_BUTTON, .code = BTN_LEFT};

	aux_write(b, 0xf4);
	EXPECT_AUX(b, "\xfa");
	for (unsigned i = 0; i < 3; i++) {
		in.down = true;
		mobo_test_input(b, &in);
		in.down = false;
		mobo_test_input(b, &in);
	}
	EXPECT_AUX(b, "\x09\x00\x00\x08\x00\x00\x09\x00\x00\x08\x00\x00\x09\x00\x00\x08\x00\x00");
	mobo_test_board_free(b);
}

static void remote_mode_gives_data_when_asked(void **state)
{
	struct mobo_test_board *b = raw_board();

	aux_write(b, 0xf0);
	EXPECT_AUX(b, "\xfa");
	move(b, 7, 0);
	EXPECT_AUX(b, "");
	aux_write(b, 0xeb);
	EXPECT_AUX(b, "\xfa\x08\x07\x00");
	aux_write(b, 0xe9);
	EXPECT_AUX(b, "\xfa\x40\x02\x64");
	mobo_test_board_free(b);
}

static void output_port_gates_a20_and_resets(void **state)
{
	struct mobo_test_board *b = raw_board();
	unsigned n;

	assert_true(mobo_test_line(b, LINE_A20));
	send_command(b, 0xd1);
	mobo_test_outb(b, 0x60, 0xdd);
	assert_false(mobo_test_line(b, LINE_A20));
	send_command(b, 0xd0);
	assert_int_equal(receive(b, false) & 0x03, 0x01);
	send_command(b, 0xdf);
	assert_true(mobo_test_line(b, LINE_A20));
	mobo_test_notified(b, "reset", &n);
	assert_int_equal(n, 0);
	send_command(b, 0xfe);
	mobo_test_notified(b, "reset", &n);
	assert_int_equal(n, 1);
	mobo_test_board_free(b);
}

static void typed_text_goes_on_after_a_restart(void **state)
{
	struct mobo_test_board *b = raw_board();

	key(b, KEY_A, true);
	key(b, KEY_A, false);
	key(b, KEY_B, true);
	key(b, KEY_B, false);
	assert_int_equal(receive(b, false), 0x1c);
	mobo_test_restart(b);
	EXPECT_KBD(b, "\xf0\x1c\x32\xf0\x32");
	mobo_test_board_free(b);
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_i8042);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(self_test_answers_and_sets_system_flag),
		cmocka_unit_test(command_byte_is_ram_location_0),
		cmocka_unit_test(key_raises_irq_1_until_read),
		cmocka_unit_test(keys_have_the_codes_of_the_table),
		cmocka_unit_test(release_codes),
		cmocka_unit_test(scan_code_set_1_without_translation),
		cmocka_unit_test(keyboard_commands),
		cmocka_unit_test(held_key_repeats_after_the_delay),
		cmocka_unit_test(loop_back_of_the_auxiliary_port),
		cmocka_unit_test(mouse_moves_in_packets),
		cmocka_unit_test(knocking_makes_a_wheel_and_five_buttons),
		cmocka_unit_test(short_click_is_two_packets),
		cmocka_unit_test(remote_mode_gives_data_when_asked),
		cmocka_unit_test(output_port_gates_a20_and_resets),
		cmocka_unit_test(typed_text_goes_on_after_a_restart),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
