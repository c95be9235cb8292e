/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 128 KiB window at A0000h, IBM VGA Technical Reference: sequencer memory mode and map mask,
 * graphics controller read and write modes.
 *
 * Video memory is kept as the display wants it: byte p of the 32-bit word n is plane p at address
 * n; in chain-4 modes the window is that memory, byte for byte. Three arrangements are reached
 * without this file, as DIRECT memory:
 *  - chain-4 and the banks of the Bochs interface: video memory itself;
 *  - text, the way every text mode uses the chip (odd/even addressing of planes 0 and 1, no
 *    logic): the text window, a linear copy of the first 64 KiB of these planes. It becomes current
 *    when such a mode is set and is written back when it is left (a font is loaded, say).
 */
#include <string.h>

#include "vga.h"

enum {
	SEQ_MAP_MASK = 2,
	SEQ_MEMORY_MODE = 4,
	SEQ4_EXTENDED = 1 << 1,
	SEQ4_SEQUENTIAL = 1 << 2,
	SEQ4_CHAIN4 = 1 << 3,
	GFX_SET_RESET = 0,
	GFX_ENABLE_SET_RESET,
	GFX_COMPARE,
	GFX_ROTATE,
	GFX_READ_MAP,
	GFX_MODE,
	GFX_MISC,
	GFX_DONT_CARE,
	GFX_BIT_MASK,
	GFX5_READ_MODE = 1 << 3,
	GFX5_ODD_EVEN = 1 << 4,
	WINDOW_LEN = 128 * 1024,
	BANK_LEN = 64 * 1024,
};

/* The part of the window that the memory map select (graphics 6, bits 3:2) decodes. */
static bool decode(const struct vga_state *s, uint64_t *offset)
{
	static const struct {
		uint32_t base, len;
	} maps[] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
	unsigned m = s->gfx[GFX_MISC] >> 2 & 3;

	if (*offset < maps[m].base || *offset >= maps[m].base + maps[m].len) {
		return false;
	}
	*offset -= maps[m].base;
	return true;
}

static uint32_t load_word(const struct vga_priv *p, uint32_t word)
{
	uint32_t val = 0;

	if (word * 4ull + 4 <= p->vram_len) {
		memcpy(&val, p->vram + word * 4ull, 4);
	}
	return val;
}

/* Every byte of the result is 00 or FF as the bit of `mask` for its plane says. */
static uint32_t spread(unsigned mask)
{
	return (mask & 1 ? 0xffu : 0) | (mask & 2 ? 0xff00u : 0) | (mask & 4 ? 0xff0000u : 0) |
	       (mask & 8 ? 0xff000000u : 0);
}

static uint8_t read_byte(struct mobo_dev *d, uint64_t offset)
{
	struct vga_state *s = vga_state(d);
	struct vga_priv *p = vga_priv(d);
	uint32_t word, val;
	unsigned plane;

	if (!decode(s, &offset)) {
		return 0xff;
	}
	if (s->seq[SEQ_MEMORY_MODE] & SEQ4_CHAIN4) {
		return offset < p->vram_len ? p->vram[offset] : 0xff;
	}
	plane = s->gfx[GFX_READ_MAP] & 3;
	if (s->gfx[GFX_MODE] & GFX5_ODD_EVEN) {
		plane = (plane & 2) | (offset & 1);
		offset &= ~1ull;
	}
	word = (uint32_t)offset;
	val = load_word(p, word);
	memcpy(s->latch, &val, 4);
	if (!(s->gfx[GFX_MODE] & GFX5_READ_MODE)) {
		return s->latch[plane];
	}
	val = (val ^ spread(s->gfx[GFX_COMPARE])) & spread(s->gfx[GFX_DONT_CARE]);
	val |= val >> 16;
	val |= val >> 8;
	return (uint8_t)~val;
}

/* The four planes' bytes before bit mask and map mask: write modes 0 to 3. */
static uint32_t write_logic(struct vga_state *s, uint8_t val, uint32_t latch, uint8_t *bit_mask)
{
	unsigned rotate = s->gfx[GFX_ROTATE] & 7;
	uint32_t enable = spread(s->gfx[GFX_ENABLE_SET_RESET]);
	uint32_t set = spread(s->gfx[GFX_SET_RESET]), data;

	switch (s->gfx[GFX_MODE] & 3) {
	case 0:
		val = (uint8_t)(val >> rotate | val << (8 - rotate));
		data = (val * 0x01010101u & ~enable) | (set & enable);
		break;
	case 1: *bit_mask = 0; return latch;
	case 2: data = spread(val & 15); break;
	default:
		val = (uint8_t)(val >> rotate | val << (8 - rotate));
		*bit_mask &= val;
		data = set;
		break;
	}
	switch (s->gfx[GFX_ROTATE] >> 3 & 3) {
	case 1: return data & latch;
	case 2: return data | latch;
	case 3: return data ^ latch;
	default: return data;
	}
}

static void write_byte(struct mobo_dev *d, uint64_t offset, uint8_t val)
{
	struct vga_state *s = vga_state(d);
	struct vga_priv *p = vga_priv(d);
	unsigned planes = s->seq[SEQ_MAP_MASK] & 15;
	uint8_t bit_mask = s->gfx[GFX_BIT_MASK];
	uint32_t latch, data, old, mask;

	if (!decode(s, &offset)) {
		return;
	}
	if (s->seq[SEQ_MEMORY_MODE] & SEQ4_CHAIN4) {
		if (planes & 1u << (offset & 3) && offset < p->vram_len) {
			p->vram[offset] = val;
		}
		return;
	}
	if (!(s->seq[SEQ_MEMORY_MODE] & SEQ4_SEQUENTIAL)) {
		planes &= offset & 1 ? 0xa : 0x5;
		offset &= ~1ull;
	}
	if (offset * 4 + 4 > p->vram_len) {
		return;
	}
	memcpy(&latch, s->latch, 4);
	data = write_logic(s, val, latch, &bit_mask);
	mask = bit_mask * 0x01010101u;
	data = (data & mask) | (latch & ~mask);
	mask = spread(planes);
	old = load_word(p, (uint32_t)offset);
	data = (data & mask) | (old & ~mask);
	memcpy(p->vram + offset * 4, &data, 4);
}

uint64_t vga_window_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < size; i++) {
		val |= (uint64_t)read_byte(d, offset + i) << (8 * i);
	}
	return val;
}

void vga_window_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		      uint64_t val)
{
	for (unsigned i = 0; i < size; i++) {
		write_byte(d, offset + i, (uint8_t)(val >> (8 * i)));
	}
}

/* -- Direct memory -- */

/* Odd/even text: cell byte n is plane n & 1 at address n & ~1. */
static bool is_plain_text(const struct vga_state *s)
{
	return !vga_dispi_on(s) && (s->gfx[GFX_MISC] & 0x0d) == 0x0c && /* text, B8000h */
	       !(s->seq[SEQ_MEMORY_MODE] & (SEQ4_CHAIN4 | SEQ4_SEQUENTIAL)) &&
	       (s->gfx[GFX_MODE] & 0x1b) == GFX5_ODD_EVEN && (s->seq[SEQ_MAP_MASK] & 15) == 3 &&
	       s->gfx[GFX_BIT_MASK] == 0xff && !(s->gfx[GFX_ENABLE_SET_RESET] & 3) &&
	       s->gfx[GFX_ROTATE] == 0 && (s->gfx[GFX_READ_MAP] & 2) == 0;
}

static void text_load(struct vga_priv *p)
{
	for (uint32_t n = 0; n < MOBO_VIDEO_TEXT_LEN && (n & ~1u) * 4 + 4 <= p->vram_len; n++) {
		p->text[n] = p->vram[(n & ~1u) * 4 + (n & 1)];
	}
}

static void text_store(struct vga_priv *p)
{
	for (uint32_t n = 0; n < MOBO_VIDEO_TEXT_LEN && (n & ~1u) * 4 + 4 <= p->vram_len; n++) {
		p->vram[(n & ~1u) * 4 + (n & 1)] = p->text[n];
	}
}

void vga_map_window(struct mobo_dev *d)
{
	struct vga_state *s = vga_state(d);
	struct vga_priv *p = vga_priv(d);
	bool text = is_plain_text(s);
	uint32_t text_page = (p->vram_len + MOBO_VIDEO_ROM_LEN) / 4096;
	uint64_t bank;

	if (text != s->text_direct) {
		if (text) {
			text_load(p);
		} else {
			text_store(p);
		}
		s->text_direct = text;
	}
	if (text) {
		/* The window begins at A0000h, text at B8000h: the lower part stays on the hooks.
		 */
		mobo_dev_map(d, REGION_WINDOW, 0, 0);
		mobo_dev_map(d, REGION_TEXT, text_page, 3);
		return;
	}
	mobo_dev_map(d, REGION_TEXT, 0, 0);
	bank = vga_dispi_on(s) ? (uint64_t)s->dispi[DISPI_BANK] * BANK_LEN : 0;
	if ((s->seq[SEQ_MEMORY_MODE] & SEQ4_CHAIN4) && (s->seq[SEQ_MAP_MASK] & 15) == 15 &&
	    (s->gfx[GFX_MISC] >> 2 & 3) <= 1 && bank + WINDOW_LEN <= p->vram_len) {
		mobo_dev_map(d, REGION_WINDOW, (uint32_t)(bank / 4096), 3);
	} else {
		mobo_dev_map(d, REGION_WINDOW, 0, 0);
	}
}
