/* SPDX-License-Identifier: Apache-2.0 */
/* The VGA chip's own state, shared by its files: registers, memory access, mode. */
#ifndef VGA_VGA_H
#define VGA_VGA_H

#include <stdbool.h>
#include <stdint.h>

#include "mobo/device.h"
#include "mobo/video.h"

enum {
	REGION_PORTS,
	REGION_WINDOW,
	REGION_TEXT,
	REGION_LFB,
	REGION_MMIO,
	REGION_DISPI,
	REGION_ROM,
	N_REGION
};

enum {
	N_SEQ = 5,
	N_GFX = 9,
	N_ATTR = 21,
	N_CRTC = 25,
	N_DISPI = 11,
	/* VBE_DISPI index numbers of the Bochs interface. */
	DISPI_ID = 0,
	DISPI_XRES,
	DISPI_YRES,
	DISPI_BPP,
	DISPI_ENABLE,
	DISPI_BANK,
	DISPI_VIRT_WIDTH,
	DISPI_VIRT_HEIGHT,
	DISPI_X_OFFSET,
	DISPI_Y_OFFSET,
	DISPI_MEMORY_64K,
	DISPI_ID_VALUE = 0xb0c5,
	DISPI_ENABLED = 1 << 0,
	DISPI_GETCAPS = 1 << 1,
	DISPI_8BIT_DAC = 1 << 5,
	DISPI_LFB = 1 << 6,
	DISPI_NOCLEARMEM = 1 << 7,
};

struct vga_state {
	uint8_t seq_index, gfx_index, crtc_index, attr_index;
	uint8_t attr_flip; /* next write to 3C0h: 0 index, 1 data */
	uint8_t misc, feature;
	uint8_t seq[8], gfx[16], attr[32], crtc[32];
	uint8_t latch[4];
	uint8_t dac_mask, dac_read_index, dac_write_index, dac_component, dac_reading;
	uint8_t dac_latch[3];
	uint8_t palette[768];
	uint8_t text_direct; /* the text window holds planes 0 and 1: see vga_memory.c */
	uint16_t dispi_index;
	uint16_t dispi[16];
};

struct vga_priv {
	uint8_t *vram;	   /* memory object */
	uint32_t vram_len; /* without the tail */
	uint8_t *text;	   /* the text window in the tail */
	struct mobo_video *video;
};

static inline struct vga_state *vga_state(struct mobo_dev *d)
{
	return mobo_dev_state(d);
}

static inline struct vga_priv *vga_priv(struct mobo_dev *d)
{
	return mobo_dev_priv(d);
}

static inline bool vga_dispi_on(const struct vga_state *s)
{
	return s->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

/* -- vga_memory.c: the window at A0000h -- */
uint64_t vga_window_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size);
void vga_window_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		      uint64_t val);
/* Registers changed: what of the window is directly accessible now. */
void vga_map_window(struct mobo_dev *d);

/* -- vga_video.c: registers to the page that the display reads -- */
void vga_publish(struct mobo_dev *d);

#endif
