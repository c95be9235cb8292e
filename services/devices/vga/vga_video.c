/* SPDX-License-Identifier: Apache-2.0 */
/* What the registers make of video memory: the page that the display reads. */
#include "vga.h"

enum {
	CRTC_MAX_SCAN = 9,
	CRTC_CURSOR_START = 10,
	CRTC_CURSOR_END = 11,
	CRTC_START_HIGH = 12,
	CRTC_START_LOW = 13,
	CRTC_CURSOR_HIGH = 14,
	CRTC_CURSOR_LOW = 15,
	CRTC_VDE = 18,
	CRTC_OFFSET = 19,
	CRTC_UNDERLINE = 20,
	CRTC_MODE = 23,
	CRTC_LINE_COMPARE = 24,
	CRTC_HDE = 1,
	CRTC_OVERFLOW = 7,
	CRTC_PRESET_ROW = 8,
};

static uint32_t rgb(const struct vga_state *s, unsigned index)
{
	const uint8_t *c = &s->palette[3 * (index & s->dac_mask)];
	unsigned r = c[0], g = c[1], b = c[2];

	if (!vga_dispi_on(s) || !(s->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC)) {
		r = (r & 63) << 2 | (r & 63) >> 4;
		g = (g & 63) << 2 | (g & 63) >> 4;
		b = (b & 63) << 2 | (b & 63) >> 4;
	}
	return r << 16 | g << 8 | b;
}

/* The 16 colours of text and planar modes: through the attribute controller, then the DAC. */
static void palette16(const struct vga_state *s, struct mobo_video *v)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned index = s->attr[i] & 0x3f;

		if (s->attr[16] & 0x80) {
			index = (index & 0x0f) | (s->attr[20] & 3) << 4;
		}
		index |= (s->attr[20] & 0x0c) << 4;
		v->palette[i] = rgb(s, index);
	}
}

static void palette256(const struct vga_state *s, struct mobo_video *v)
{
	for (unsigned i = 0; i < 256; i++) {
		v->palette[i] = rgb(s, i);
	}
}

static unsigned vertical_end(const struct vga_state *s)
{
	return (s->crtc[CRTC_VDE] | (s->crtc[CRTC_OVERFLOW] & 2) << 7 |
		(s->crtc[CRTC_OVERFLOW] & 0x40) << 3) +
	       1u;
}

static unsigned line_compare(const struct vga_state *s)
{
	return s->crtc[CRTC_LINE_COMPARE] | (s->crtc[CRTC_OVERFLOW] & 0x10u) << 4 |
	       (s->crtc[CRTC_MAX_SCAN] & 0x40u) << 3;
}

static unsigned start_address(const struct vga_state *s)
{
	return s->crtc[CRTC_START_HIGH] << 8 | s->crtc[CRTC_START_LOW];
}

static void publish_text(const struct vga_state *s, const struct vga_priv *p, struct mobo_video *v)
{
	unsigned cursor = s->crtc[CRTC_CURSOR_HIGH] << 8 | s->crtc[CRTC_CURSOR_LOW];
	unsigned start = start_address(s), lines = vertical_end(s);
	unsigned cells_per_row = s->crtc[CRTC_OFFSET] * 2u;
	unsigned font_b = s->seq[3], tail = p->vram_len + MOBO_VIDEO_ROM_LEN;

	v->kind = MOBO_VIDEO_TEXT;
	v->cell_width = s->seq[1] & 1 ? 8 : 9;
	v->cell_height = (s->crtc[CRTC_MAX_SCAN] & 31) + 1u;
	if (s->crtc[CRTC_MAX_SCAN] & 0x80) {
		lines /= 2;
	}
	v->columns = s->crtc[CRTC_HDE] + 1u;
	v->rows = lines / v->cell_height;
	v->width = v->columns * v->cell_width;
	v->height = v->rows * v->cell_height;
	v->cell_len = s->text_direct ? 2 : 8;
	v->base = (s->text_direct ? tail : 0) + start * v->cell_len;
	v->limit = s->text_direct ? tail + MOBO_VIDEO_TEXT_LEN : p->vram_len;
	v->stride = cells_per_row * v->cell_len;
	/* Character map select: 3 bits each, 8 KiB steps in plane 2, the low one first. */
	v->font[0] = ((font_b >> 4 & 1) * 8192u + (font_b & 3) * 16384u) * 4 + 2;
	v->font[1] = ((font_b >> 5 & 1) * 8192u + (font_b >> 2 & 3) * 16384u) * 4 + 2;
	/* Attribute bit 3 selects map A (bits 5, 3:2); without a second font both are the same. */
	v->line_graphics = s->attr[16] >> 2 & 1;
	v->blink = s->attr[16] >> 3 & 1;
	v->cursor_visible = !(s->crtc[CRTC_CURSOR_START] & 0x20) && cells_per_row &&
			    cursor >= start && (cursor - start) / cells_per_row < v->rows;
	v->cursor_column = cells_per_row ? (cursor - start) % cells_per_row : 0;
	v->cursor_row = cells_per_row ? (cursor - start) / cells_per_row : 0;
	v->cursor_start = s->crtc[CRTC_CURSOR_START] & 31;
	v->cursor_end = s->crtc[CRTC_CURSOR_END] & 31;
	palette16(s, v);
}

static void publish_graphics(const struct vga_state *s, const struct vga_priv *p,
			     struct mobo_video *v)
{
	unsigned shift = s->gfx[5] >> 5 & 3, scan = s->crtc[CRTC_MAX_SCAN];
	unsigned width = (s->crtc[CRTC_HDE] + 1u) * 8, height = vertical_end(s);

	v->y_scale = (scan & 0x80 ? 2 : 1) * ((scan & 31) + 1u);
	v->x_scale = 1;
	v->limit = p->vram_len;
	v->split_row = (line_compare(s) + 1) / v->y_scale;
	v->pan_x = s->attr[19] & 7;
	if (shift >= 2) {
		/* 256 colours: each pixel takes two clocks. */
		v->kind = MOBO_VIDEO_INDEXED;
		v->x_scale = 2;
		v->bits_per_pixel = 8;
		v->base = start_address(s) * 4;
		v->stride = s->crtc[CRTC_OFFSET] * 8u;
		v->pan_x = 0;
		palette256(s, v);
	} else {
		v->kind = shift == 1 ? MOBO_VIDEO_PACKED2 : MOBO_VIDEO_PLANAR;
		v->bits_per_pixel = shift == 1 ? 2 : 4;
		v->x_scale = s->seq[1] & 8 ? 2 : 1;
		v->base = start_address(s) * 4;
		v->stride = s->crtc[CRTC_OFFSET] * 8u;
		if (shift == 1) {
			v->stride *= 2;
			v->x_scale = 2;
		}
		/* Row scan bit 0 takes the place of address bit 13: the CGA's two banks. */
		if (!(s->crtc[CRTC_MODE] & 1)) {
			v->row_interleave = 0x2000 * 4;
			v->y_scale = v->y_scale / 2;
			v->y_scale = v->y_scale ? v->y_scale : 1;
		}
		palette16(s, v);
		if (s->attr[18] != 15) {
			for (unsigned i = 0; i < 16; i++) {
				v->palette[i] = v->palette[i & s->attr[18]];
			}
		}
	}
	v->width = width * (s->seq[1] & 8 && shift < 2 ? 2 : 1);
	v->height = height;
}

static void publish_dispi(const struct vga_state *s, const struct vga_priv *p, struct mobo_video *v)
{
	unsigned bpp = s->dispi[DISPI_BPP], bytes = bpp == 4 ? 4 : (bpp + 7u) / 8;

	v->width = s->dispi[DISPI_XRES];
	v->height = s->dispi[DISPI_YRES];
	v->x_scale = v->y_scale = 1;
	v->bits_per_pixel = bpp;
	v->limit = p->vram_len;
	if (bpp == 4) {
		v->kind = MOBO_VIDEO_PLANAR;
		v->stride = s->dispi[DISPI_VIRT_WIDTH] / 8u * 4;
		v->base = s->dispi[DISPI_Y_OFFSET] * v->stride + s->dispi[DISPI_X_OFFSET] / 8u * 4;
		palette16(s, v);
	} else {
		v->kind = bpp == 8 ? MOBO_VIDEO_INDEXED : MOBO_VIDEO_LINEAR;
		v->stride = s->dispi[DISPI_VIRT_WIDTH] * bytes;
		v->base = s->dispi[DISPI_Y_OFFSET] * v->stride + s->dispi[DISPI_X_OFFSET] * bytes;
		palette256(s, v);
	}
	v->split_row = v->height;
}

void vga_publish(struct mobo_dev *d)
{
	const struct vga_state *s = vga_state(d);
	struct vga_priv *p = vga_priv(d);
	struct mobo_video *page = p->video,
			  v = {.magic = MOBO_VIDEO_MAGIC, .x_scale = 1, .y_scale = 1};
	uint32_t seq = atomic_load_explicit(&page->seq, memory_order_relaxed) & ~1u;

	if (vga_dispi_on(s)) {
		publish_dispi(s, p, &v);
	} else if (!(s->attr_index & 0x20) || s->seq[1] & 0x20) {
		v.kind = MOBO_VIDEO_BLANK; /* palette access disabled, or screen off */
		v.width = 640;
		v.height = 400;
	} else if (s->gfx[6] & 1) {
		publish_graphics(s, p, &v);
	} else {
		publish_text(s, p, &v);
	}
	if (!v.width || !v.height || v.width > MOBO_VIDEO_MAX_WIDTH ||
	    v.height > MOBO_VIDEO_MAX_HEIGHT) {
		v.kind = MOBO_VIDEO_BLANK;
		v.width = 640;
		v.height = 400;
	}
	v.split_row = v.kind == MOBO_VIDEO_TEXT || v.split_row > v.height ? v.height : v.split_row;
	atomic_store_explicit(&page->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_init(&v.seq, seq + 1);
	for (unsigned i = 0; i < sizeof(v) / 4; i++) {
		((volatile uint32_t *)page)[i] = ((const uint32_t *)&v)[i];
	}
	atomic_store_explicit(&page->seq, seq + 2, memory_order_release);
}
