/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VGA and what the display paints of it. Expected values: IBM VGA Technical Reference (register
 * meanings, write modes), "QEMU Standard VGA" and Bochs' vbe.h for the DISPI interface.
 */
#include <stdlib.h>
#include <string.h>

#include "mobo/ioch.h"
#include "mobo/video.h"
#include "paint.h"
#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_vga;

enum { VRAM = 1 << 20, REGION_WINDOW = 1, REGION_TEXT = 2, REGION_LFB = 3, REGION_ROM = 6 };
enum { A0000 = 0xa0000, B8000 = 0xb8000, RW = MOBO_MAP_READ | MOBO_MAP_WRITE };

static const struct mobo_test_setup setup = {.memory_size = VRAM + MOBO_VIDEO_TAIL_LEN};

static void indexed(struct mobo_test_board *b, uint16_t port, uint8_t index, uint8_t val)
{
	mobo_test_outb(b, port, index);
	mobo_test_outb(b, port + 1, val);
}

static void attribute(struct mobo_test_board *b, uint8_t index, uint8_t val)
{
	mobo_test_inb(b, 0x3da);
	mobo_test_outb(b, 0x3c0, index);
	mobo_test_outb(b, 0x3c0, val);
}

static void dispi(struct mobo_test_board *b, uint16_t index, uint16_t val)
{
	mobo_test_outw(b, 0x1ce, index);
	mobo_test_outw(b, 0x1cf, val);
}

static struct mobo_video shown(struct mobo_test_board *b)
{
	struct mobo_video v;

	assert_true(paint_snapshot(
		(void *)(mobo_test_memory(b) + setup.memory_size - MOBO_VIDEO_PAGE_LEN), &v));
	return v;
}

/* Mode 3: 80x25 text, 9x16 cells, as its parameter table has it. */
static void set_text_mode(struct mobo_test_board *b)
{
	static const uint8_t crtc[] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
				       0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
				       0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};

	mobo_test_outb(b, 0x3c2, 0x67);
	indexed(b, 0x3c4, 1, 0x00);
	indexed(b, 0x3c4, 2, 0x03);
	indexed(b, 0x3c4, 4, 0x02);
	indexed(b, 0x3d4, 0x11, 0x0e);
	for (unsigned i = 0; i < sizeof(crtc); i++) {
		indexed(b, 0x3d4, (uint8_t)i, crtc[i]);
	}
	indexed(b, 0x3ce, 5, 0x10);
	indexed(b, 0x3ce, 6, 0x0e);
	indexed(b, 0x3ce, 8, 0xff);
	for (unsigned i = 0; i < 16; i++) {
		attribute(b, (uint8_t)i, (uint8_t)i);
	}
	attribute(b, 0x10, 0x0c);
	mobo_test_inb(b, 0x3da);
	mobo_test_outb(b, 0x3c0, 0x20);
}

static void text_mode_shows_what_lies_in_its_window(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_vga, &setup);
	uint8_t *text = mobo_test_memory(b) + VRAM + MOBO_VIDEO_ROM_LEN;
	char row[PAINT_MAX_ROW_TEXT];
	struct mobo_video v;

	set_text_mode(b);
	assert_int_equal(mobo_test_map(b, REGION_TEXT) & RW, RW);
	memcpy(text, "H\x07i\x07!\x07\xdb\x07", 8);
	v = shown(b);
	assert_int_equal(v.kind, MOBO_VIDEO_TEXT);
	assert_int_equal(v.columns, 80);
	assert_int_equal(v.rows, 25);
	assert_int_equal(v.width, 720);
	assert_int_equal(v.height, 400);
	paint_text_row(&v, mobo_test_memory(b), setup.memory_size, 0, row);
	assert_string_equal(row, "Hi!\xe2\x96\x88"); /* DBh is the full block, U+2588 */
	mobo_test_board_free(b);
}

static void text_survives_the_loading_of_a_font(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_vga, &setup);
	uint8_t *mem = mobo_test_memory(b), *text = mem + VRAM + MOBO_VIDEO_ROM_LEN;

	set_text_mode(b);
	memcpy(text + 160, "Z\x1f", 2);
	indexed(b, 0x3c4, 2, 0x04); /* plane 2, sequential, at A0000h */
	indexed(b, 0x3c4, 4, 0x06);
	indexed(b, 0x3ce, 5, 0x00);
	indexed(b, 0x3ce, 6, 0x04);
	assert_int_equal(mobo_test_map(b, REGION_TEXT) & RW, 0);
	mobo_test_mmio_write(b, A0000 + 'Z' * 32 + 3, 1, 0x5a);
	assert_int_equal(mem[('Z' * 32 + 3) * 4 + 2], 0x5a);
	assert_int_equal(mem[160 * 4], 'Z'); /* planes 0 and 1 hold the cell meanwhile */
	assert_int_equal(mem[160 * 4 + 1], 0x1f);
	memset(text, 0, 320);
	set_text_mode(b);
	assert_memory_equal(text + 160, "Z\x1f", 2);
	mobo_test_board_free(b);
}

static void planar_write_modes_combine_latches(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_vga, &setup);
	uint8_t *mem = mobo_test_memory(b);

	indexed(b, 0x3c4, 2, 0x0f);
	indexed(b, 0x3c4, 4, 0x06);
	indexed(b, 0x3ce, 6, 0x05);
	indexed(b, 0x3ce, 8, 0xff);
	mobo_test_mmio_write(b, A0000, 1, 0xa5); /* mode 0: to all planes */
	assert_memory_equal(mem, "\xa5\xa5\xa5\xa5", 4);
	indexed(b, 0x3ce, 8, 0x0f); /* only the low bits, the rest from the latches */
	mobo_test_mmio_read(b, A0000, 1);
	indexed(b, 0x3ce, 5, 0x02);
	mobo_test_mmio_write(b, A0000, 1, 0x05); /* mode 2: colour 5 to planes 0 and 2 */
	assert_memory_equal(mem, "\xaf\xa0\xaf\xa0", 4);
	indexed(b, 0x3ce, 5, 0x01);
	mobo_test_mmio_read(b, A0000, 1);
	mobo_test_mmio_write(b, A0000 + 1, 1, 0xff); /* mode 1: the latches, copied */
	assert_memory_equal(mem + 4, "\xaf\xa0\xaf\xa0", 4);
	indexed(b, 0x3ce, 5, 0x08); /* read mode 1: where the colour is 5 */
	indexed(b, 0x3ce, 2, 0x05);
	indexed(b, 0x3ce, 7, 0x0f);
	assert_int_equal(mobo_test_mmio_read(b, A0000, 1), 0x0f);
	mobo_test_board_free(b);
}

static void dac_takes_three_writes_and_steps(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_vga, &setup);

	mobo_test_outb(b, 0x3c8, 7);
	for (unsigned i = 1; i <= 6; i++) {
		mobo_test_outb(b, 0x3c9, (uint8_t)i);
	}
	mobo_test_outb(b, 0x3c7, 8);
	assert_int_equal(mobo_test_inb(b, 0x3c9), 4);
	assert_int_equal(mobo_test_inb(b, 0x3c9), 5);
	assert_int_equal(mobo_test_inb(b, 0x3c9), 6);
	mobo_test_board_free(b);
}

static void dispi_mode_is_a_linear_picture(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_vga, &setup);
	uint32_t *pixels = calloc(640 * 400, 4);
	struct mobo_video v;

	mobo_test_outw(b, 0x1ce, 0);
	assert_int_equal(mobo_test_inw(b, 0x1cf), 0xb0c5);
	dispi(b, 1, 640);
	dispi(b, 2, 400);
	dispi(b, 3, 32);
	dispi(b, 4, 0x41);
	v = shown(b);
	assert_int_equal(v.kind, MOBO_VIDEO_LINEAR);
	assert_int_equal(v.width, 640);
	assert_int_equal(v.height, 400);
	assert_int_equal(v.stride, 2560);
	assert_int_equal(mobo_test_map(b, REGION_LFB), RW);
	memcpy(mobo_test_memory(b) + 2560 + 4, "\x33\x22\x11\x00", 4);
	paint(&v, mobo_test_memory(b), setup.memory_size, (uint8_t *)pixels, 2560, false);
	assert_int_equal(pixels[641], 0x112233);
	free(pixels);
	mobo_test_board_free(b);
}

static void sizes_beyond_memory_are_cut(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_vga, &setup);
	struct mobo_video v;

	dispi(b, 1, 1024);
	dispi(b, 2, 768);
	dispi(b, 3, 32); /* 3 MiB of 1 */
	dispi(b, 4, 0x41);
	v = shown(b);
	assert_true((uint64_t)v.stride * v.height <= VRAM);
	mobo_test_board_free(b);
}

static void painter_stays_within_memory(void **state)
{
	size_t len = 64 * 1024;
	uint8_t *mem = calloc(1, len), *pixels = malloc(640 * 480 * 4);
	struct mobo_video v = {.magic = MOBO_VIDEO_MAGIC,
			       .width = 640,
			       .height = 480,
			       .x_scale = 1,
			       .y_scale = 1,
			       .base = 0xfffffff0,
			       .stride = 0xffffffff,
			       .limit = 0xffffffff,
			       .bits_per_pixel = 24,
			       .split_row = 480};

	for (unsigned kind = MOBO_VIDEO_BLANK; kind <= MOBO_VIDEO_LINEAR; kind++) {
		v.kind = kind;
		v.columns = 80;
		v.rows = 30;
		v.cell_width = 8;
		v.cell_height = 16;
		v.cell_len = 0xffff;
		v.font[0] = v.font[1] = 0xffffffff;
		paint(&v, mem, len, pixels, 640 * 4, true);
	}
	free(mem);
	free(pixels);
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests_with(&mobo_chip_vga, &setup);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_mode_shows_what_lies_in_its_window),
		cmocka_unit_test(text_survives_the_loading_of_a_font),
		cmocka_unit_test(planar_write_modes_combine_latches),
		cmocka_unit_test(dac_takes_three_writes_and_steps),
		cmocka_unit_test(dispi_mode_is_a_linear_picture),
		cmocka_unit_test(sizes_beyond_memory_are_cut),
		cmocka_unit_test(painter_stays_within_memory),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
