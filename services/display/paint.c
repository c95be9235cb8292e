/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Painting. The card's process is not trusted: its offsets and strides are taken as they come and
 * every load is bounded by the memory object.
 */
#include <string.h>

#include "mobo/base.h"
#include "paint.h"

enum { SNAPSHOT_TRIES = 1000 };

/* Code page 437, the characters that differ from ASCII. */
static const uint16_t cp437_low[32] = {
	0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9,
	0x2642, 0x2640, 0x266a, 0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7,
	0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const uint16_t cp437_high[129] = {
	0x2302, 0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb,
	0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6,
	0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192,
	0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac,
	0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb, 0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561,
	0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514,
	0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566,
	0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553,
	0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580, 0x03b1, 0x00df,
	0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e,
	0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
	0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};

bool paint_snapshot(const struct mobo_video *page, struct mobo_video *v)
{
	for (unsigned i = 0; i < SNAPSHOT_TRIES; i++) {
		uint32_t seq = atomic_load_explicit(&page->seq, memory_order_acquire);

		if (seq & 1) {
			continue;
		}
		memcpy(v, page, sizeof(*v));
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&page->seq, memory_order_relaxed) != seq) {
			continue;
		}
		if (v->magic != MOBO_VIDEO_MAGIC || v->width == 0 || v->height == 0 ||
		    v->width > MOBO_VIDEO_MAX_WIDTH || v->height > MOBO_VIDEO_MAX_HEIGHT) {
			return false;
		}
		v->x_scale = v->x_scale ? v->x_scale : 1;
		v->y_scale = v->y_scale ? v->y_scale : 1;
		if (v->kind == MOBO_VIDEO_TEXT &&
		    (v->cell_width < 8 || v->cell_width > 9 || v->cell_height == 0 ||
		     v->cell_height > 32 || v->columns * (uint64_t)v->cell_width != v->width ||
		     v->rows * (uint64_t)v->cell_height != v->height)) {
			v->kind = MOBO_VIDEO_BLANK;
		}
		return true;
	}
	return false;
}

struct source {
	const uint8_t *mem;
	size_t len;
};

static uint8_t byte_at(const struct source *s, uint64_t off)
{
	return off < s->len ? s->mem[off] : 0;
}

/* -- Text -- */

static uint64_t cell_offset(const struct mobo_video *v, unsigned column, unsigned row)
{
	return v->base + (uint64_t)row * v->stride + (uint64_t)column * v->cell_len;
}

static void paint_cell(const struct mobo_video *v, const struct source *s, unsigned column,
		       unsigned row, uint8_t *pixels, size_t stride, bool cursor)
{
	uint64_t at = cell_offset(v, column, row);
	uint8_t ch = byte_at(s, at), attr = byte_at(s, at + 1);
	uint32_t fg = v->palette[attr & 15], bg = v->palette[attr >> 4 & (v->blink ? 7 : 15)];
	uint64_t glyph = v->font[attr >> 3 & 1] + ch * 32ull * 4;
	bool repeat = v->line_graphics && (ch & 0xe0) == 0xc0;
	bool here =
		cursor && v->cursor_visible && column == v->cursor_column && row == v->cursor_row;

	for (unsigned y = 0; y < v->cell_height; y++) {
		uint32_t *out = (uint32_t *)(pixels + ((size_t)row * v->cell_height + y) * stride) +
				(size_t)column * v->cell_width;
		unsigned bits = byte_at(s, glyph + y * 4ull);

		if (here && y >= v->cursor_start && y <= v->cursor_end) {
			bits = 0xff;
		}
		for (unsigned x = 0; x < 8; x++) {
			out[x] = bits & 0x80 >> x ? fg : bg;
		}
		if (v->cell_width == 9) {
			out[8] = repeat && bits & 1 ? fg : bg;
		}
	}
}

void paint_text_row(const struct mobo_video *v, const uint8_t *mem, size_t mem_len, unsigned row,
		    char *out)
{
	struct source s = {mem, mem_len};
	char *end = out;

	for (unsigned c = 0; c < MOBO_MIN(v->columns, 512u); c++) {
		uint8_t ch = byte_at(&s, cell_offset(v, c, row));
		unsigned u = ch < 32 ? cp437_low[ch] : ch < 127 ? ch : cp437_high[ch - 127];

		if (u < 0x80) {
			*out++ = (char)u;
		} else if (u < 0x800) {
			*out++ = (char)(0xc0 | u >> 6);
			*out++ = (char)(0x80 | (u & 63));
		} else {
			*out++ = (char)(0xe0 | u >> 12);
			*out++ = (char)(0x80 | (u >> 6 & 63));
			*out++ = (char)(0x80 | (u & 63));
		}
		if (u != ' ' && u != 0xa0) {
			end = out;
		}
	}
	*end = '\0';
}

/* -- Graphics -- */

static uint64_t row_offset(const struct mobo_video *v, unsigned y, uint32_t *pan)
{
	unsigned line = y / v->y_scale;

	if (line >= v->split_row && v->split_row < v->height) {
		*pan = 0;
		return (uint64_t)(line - v->split_row) * v->stride;
	}
	*pan = v->pan_x;
	if (v->row_interleave) {
		return v->base + (uint64_t)(line / 2) * v->stride + (line & 1) * v->row_interleave;
	}
	return v->base + (uint64_t)line * v->stride;
}

static uint32_t planar_pixel(const struct mobo_video *v, const struct source *s, uint64_t row,
			     unsigned x)
{
	uint64_t at = row + x / 8 * 4ull;
	unsigned bit = 7 - (x & 7), index = 0;

	for (unsigned p = 0; p < 4; p++) {
		index |= (byte_at(s, at + p) >> bit & 1u) << p;
	}
	return v->palette[index];
}

static uint32_t packed2_pixel(const struct mobo_video *v, const struct source *s, uint64_t row,
			      unsigned x)
{
	/* Two bytes of a cell (planes 0 and 1) hold eight pixels; cells are two words apart. */
	uint64_t at = row + x / 8 * 8ull + (x >> 2 & 1);

	return v->palette[byte_at(s, at) >> (6 - 2 * (x & 3)) & 3];
}

static uint32_t linear_pixel(const struct mobo_video *v, const struct source *s, uint64_t row,
			     unsigned x)
{
	uint64_t at = row + (uint64_t)x * ((v->bits_per_pixel + 7) / 8);
	unsigned w = byte_at(s, at) | byte_at(s, at + 1) << 8;
	unsigned r, g, b;

	switch (v->bits_per_pixel) {
	case 15:
		r = w >> 10 & 31;
		g = w >> 5 & 31;
		b = w & 31;
		return (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
	case 16:
		r = w >> 11 & 31;
		g = w >> 5 & 63;
		b = w & 31;
		return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
	default: return w | (unsigned)byte_at(s, at + 2) << 16;
	}
}

static void paint_row(const struct mobo_video *v, const struct source *s, unsigned y, uint32_t *out)
{
	uint32_t pan;
	uint64_t row = row_offset(v, y, &pan);

	if (v->kind == MOBO_VIDEO_LINEAR && v->bits_per_pixel == 32 &&
	    row + (uint64_t)v->width * 4 <= s->len) {
		memcpy(out, s->mem + row, v->width * 4ull);
		return;
	}
	for (unsigned x = 0; x < v->width; x++) {
		unsigned px = x / v->x_scale + pan;

		switch ((enum mobo_video_kind)v->kind) {
		case MOBO_VIDEO_PLANAR: out[x] = planar_pixel(v, s, row, px); break;
		case MOBO_VIDEO_PACKED2: out[x] = packed2_pixel(v, s, row, px); break;
		case MOBO_VIDEO_INDEXED: out[x] = v->palette[byte_at(s, row + px)]; break;
		case MOBO_VIDEO_LINEAR: out[x] = linear_pixel(v, s, row, px); break;
		case MOBO_VIDEO_BLANK:
		case MOBO_VIDEO_TEXT: out[x] = 0; break;
		}
	}
}

void paint(const struct mobo_video *v, const uint8_t *mem, size_t mem_len, uint8_t *pixels,
	   size_t stride, bool cursor)
{
	struct source s = {mem, MOBO_MIN(mem_len, v->limit)};

	if (v->kind == MOBO_VIDEO_TEXT) {
		/* Fonts may lie anywhere in the object, text in its window. */
		s.len = mem_len;
		for (unsigned row = 0; row < v->rows; row++) {
			for (unsigned c = 0; c < v->columns; c++) {
				paint_cell(v, &s, c, row, pixels, stride, cursor);
			}
		}
		return;
	}
	for (unsigned y = 0; y < v->height; y++) {
		paint_row(v, &s, y, (uint32_t *)(pixels + y * stride));
	}
}
