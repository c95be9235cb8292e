/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a video card shows, for the display: one page of the card's memory object, written by the
 * card's process, read by mobo-display, which thereby knows no card. All offsets are bytes from the
 * start of the memory object.
 *
 * Memory object of a card: video memory, option ROM (MOBO_VIDEO_ROM_LEN), text window
 * (MOBO_VIDEO_TEXT_LEN), this page.
 */
#ifndef MOBO_VIDEO_H
#define MOBO_VIDEO_H

#include <stdatomic.h>
#include <stdint.h>

enum {
	MOBO_VIDEO_ROM_LEN = 64 * 1024,
	MOBO_VIDEO_TEXT_LEN = 64 * 1024,
	MOBO_VIDEO_PAGE_LEN = 4096,
	MOBO_VIDEO_TAIL_LEN = MOBO_VIDEO_ROM_LEN + MOBO_VIDEO_TEXT_LEN + MOBO_VIDEO_PAGE_LEN,
	MOBO_VIDEO_MAX_WIDTH = 4096,
	MOBO_VIDEO_MAX_HEIGHT = 4096,
};
#define MOBO_VIDEO_MAGIC 0x44495656u /* "VVID" */

enum mobo_video_kind {
	MOBO_VIDEO_BLANK,
	MOBO_VIDEO_TEXT,
	MOBO_VIDEO_PLANAR,  /* 4 planes, byte p of each 32-bit word is plane p */
	MOBO_VIDEO_PACKED2, /* CGA: 4 colours, 2 bits a pixel, planes 0 and 1 hold even, odd bytes
			     */
	MOBO_VIDEO_INDEXED, /* a byte a pixel */
	MOBO_VIDEO_LINEAR,  /* 15, 16, 24, 32 bits a pixel, direct colour */
};

struct mobo_video {
	uint32_t magic;
	_Atomic uint32_t seq; /* odd while being written */
	uint32_t kind;
	uint32_t width, height; /* in pixels, after doubling */
	uint32_t base;		/* first pixel, word or cell */
	uint32_t stride;	/* bytes from row to row (of cells in text) */
	uint32_t limit; /* end of the memory that addresses wrap in: base and rows stay below */
	uint32_t bits_per_pixel;
	uint32_t x_scale, y_scale; /* each memory pixel is that many pixels wide, high */
	uint32_t row_interleave;   /* not 0: odd rows lie this many bytes further on (CGA) */
	uint32_t split_row;	   /* from this row on memory starts again at 0; height: no split */
	uint32_t pan_x;
	/* Text. */
	uint32_t columns, rows;
	uint32_t cell_width, cell_height;
	uint32_t cell_len; /* bytes from cell to cell: character first, attribute second */
	uint32_t
		font[2]; /* of attribute bit 3 clear, set; glyph c, line l at font + (c*32 + l)*4 */
	uint32_t line_graphics; /* the 9th column of glyphs C0h-DFh repeats the 8th */
	uint32_t blink;		/* attribute bit 7 blinks, else it is a bright background */
	uint32_t cursor_visible;
	uint32_t cursor_column, cursor_row, cursor_start, cursor_end; /* lines, end included */
	uint32_t palette[256]; /* XRGB; text and planar use the first 16 */
};

#endif
