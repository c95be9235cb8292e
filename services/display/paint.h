/* SPDX-License-Identifier: Apache-2.0 */
/* From a card's page and its memory to pixels and characters: pure functions. */
#ifndef DISPLAY_PAINT_H
#define DISPLAY_PAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mobo/video.h"

enum { PAINT_MAX_CELLS = 512 * 256, PAINT_MAX_ROW_TEXT = 512 * 3 + 1 };

/* A consistent copy of the card's page, made safe: sizes within the limits, everything else is
 * checked where it is used. Returns false while the card keeps writing, or has written none. */
bool paint_snapshot(const struct mobo_video *page, struct mobo_video *v);

/*
 * Paints v over `mem` (mem_len bytes: the card's memory object) into XRGB8888 pixels of `stride`
 * bytes a row, which has room for v->width x v->height. cursor: blink phase in which it shows.
 */
void paint(const struct mobo_video *v, const uint8_t *mem, size_t mem_len, uint8_t *pixels,
	   size_t stride, bool cursor);

/* Text row `row` as UTF-8 (code page 437), trailing blanks cut, at most PAINT_MAX_ROW_TEXT bytes.
 */
void paint_text_row(const struct mobo_video *v, const uint8_t *mem, size_t mem_len, unsigned row,
		    char *out);

#endif
