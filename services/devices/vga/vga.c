/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VGA with the Bochs DISPI extension, as PCI function 1234:1111.
 * IBM VGA Technical Reference (PS/2 Hardware Interface, "Video Subsystem"); VBE_DISPI as in the
 * Bochs and QEMU documentation ("QEMU Standard VGA").
 *
 * Not modelled: beam timing beyond the retrace bits of 3DAh, light pen, pixel panning in text,
 * underline, monochrome attributes, CRTC write protection of single bits, overscan.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vga.h"

enum {
	PORT_BASE = 0x3b0,
	FRAME_NS = 16683333,  /* 59.94 Hz */
	RETRACE_NS = 1271000, /* of which vertical retrace */
	LINE_NS = 31777,
	HBLANK_NS = 6356,
	LFB_MIN = 1 << 20,
	DEFAULT_VRAM = 16 << 20,
	MMIO_LEN = 4096,
	MMIO_PORTS = 0x400,
	MMIO_DISPI = 0x500,
	MMIO_QEXT = 0x600,
};

static const uint8_t seq_mask[8] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gfx_mask[16] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

static void registers_changed(struct mobo_dev *d)
{
	vga_map_window(d);
	vga_publish(d);
}

/* -- Ports 3B0h to 3DFh -- */

static uint8_t input_status1(struct mobo_dev *d)
{
	uint64_t now = mobo_dev_now_ns(d), in_frame = now % FRAME_NS;
	uint8_t val = 0;

	vga_state(d)->attr_flip = 0;
	if (in_frame >= FRAME_NS - RETRACE_NS) {
		val = 0x09; /* vertical retrace, display disabled */
	} else if (in_frame % LINE_NS >= LINE_NS - HBLANK_NS) {
		val = 0x01;
	}
	return val;
}

/* A loaded state may hold anything: components count modulo three. */
static uint8_t dac_read(struct vga_state *s)
{
	unsigned component = s->dac_component % 3;
	uint8_t val = s->palette[3 * s->dac_read_index + component];

	s->dac_component = (uint8_t)((component + 1) % 3);
	s->dac_read_index += component == 2;
	return val;
}

static void dac_write(struct mobo_dev *d, uint8_t val)
{
	struct vga_state *s = vga_state(d);
	unsigned component = s->dac_component % 3;

	s->dac_latch[component] = val;
	s->dac_component = (uint8_t)((component + 1) % 3);
	if (component == 2) {
		memcpy(&s->palette[3 * s->dac_write_index], s->dac_latch, 3);
		s->dac_write_index++;
		vga_publish(d);
	}
}

static void attr_write(struct mobo_dev *d, uint8_t val)
{
	struct vga_state *s = vga_state(d);
	unsigned index = s->attr_index & 31;

	if (!s->attr_flip) {
		s->attr_index = val & 0x3f;
	} else if (index < N_ATTR) {
		s->attr[index] = index < 16 ? val & 0x3f : val;
	}
	s->attr_flip ^= 1;
	vga_publish(d);
}

static void crtc_write(struct mobo_dev *d, uint8_t val)
{
	struct vga_state *s = vga_state(d);
	unsigned index = s->crtc_index & 31;

	/* Registers 0 to 7 are protected by bit 7 of 11h, but for the line compare bit. */
	if (index < 8 && s->crtc[17] & 0x80) {
		if (index == 7) {
			s->crtc[7] = (s->crtc[7] & ~0x10) | (val & 0x10);
		}
	} else if (index < N_CRTC) {
		s->crtc[index] = val;
	}
	vga_publish(d);
}

/* Color and monochrome addresses of the CRTC and input status 1 (misc output bit 0). */
static bool crtc_port(const struct vga_state *s, unsigned port)
{
	return (port & 0xfff0) == (s->misc & 1 ? 0x3d0 : 0x3b0);
}

static uint8_t port_read(struct mobo_dev *d, unsigned port)
{
	struct vga_state *s = vga_state(d);

	switch (port) {
	case 0x3c0: return s->attr_flip ? 0 : s->attr_index;
	case 0x3c1: return (s->attr_index & 31) < N_ATTR ? s->attr[s->attr_index & 31] : 0;
	case 0x3c2: return 0x10; /* switch sense: a monitor is there */
	case 0x3c4: return s->seq_index;
	case 0x3c5: return s->seq_index < N_SEQ ? s->seq[s->seq_index] : 0;
	case 0x3c6: return s->dac_mask;
	case 0x3c7: return s->dac_reading ? 3 : 0;
	case 0x3c8: return s->dac_write_index;
	case 0x3c9: return dac_read(s);
	case 0x3ca: return s->feature;
	case 0x3cc: return s->misc;
	case 0x3ce: return s->gfx_index;
	case 0x3cf: return s->gfx_index < N_GFX ? s->gfx[s->gfx_index] : 0;
	}
	if (!crtc_port(s, port)) {
		return 0xff;
	}
	switch (port & 0xf) {
	case 0x4: return s->crtc_index;
	case 0x5: return (s->crtc_index & 31) < N_CRTC ? s->crtc[s->crtc_index & 31] : 0;
	case 0xa: return input_status1(d);
	}
	return 0xff;
}

static void port_write(struct mobo_dev *d, unsigned port, uint8_t val)
{
	struct vga_state *s = vga_state(d);

	switch (port) {
	case 0x3c0: attr_write(d, val); return;
	case 0x3c2:
		s->misc = val & ~0x10;
		registers_changed(d);
		return;
	case 0x3c4: s->seq_index = val & 7; return;
	case 0x3c5:
		if (s->seq_index < N_SEQ) {
			s->seq[s->seq_index] = val & seq_mask[s->seq_index];
			registers_changed(d);
		}
		return;
	case 0x3c6:
		s->dac_mask = val;
		vga_publish(d);
		return;
	case 0x3c7:
		s->dac_read_index = val;
		s->dac_component = 0;
		s->dac_reading = 1;
		return;
	case 0x3c8:
		s->dac_write_index = val;
		s->dac_component = 0;
		s->dac_reading = 0;
		return;
	case 0x3c9: dac_write(d, val); return;
	case 0x3ce: s->gfx_index = val & 15; return;
	case 0x3cf:
		if (s->gfx_index < N_GFX) {
			s->gfx[s->gfx_index] = val & gfx_mask[s->gfx_index];
			registers_changed(d);
		}
		return;
	}
	if (!crtc_port(s, port)) {
		return;
	}
	switch (port & 0xf) {
	case 0x4: s->crtc_index = val; return;
	case 0x5: crtc_write(d, val); return;
	case 0xa: s->feature = val; return;
	}
}

static uint64_t ports_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < size; i++) {
		val |= (uint64_t)port_read(d, PORT_BASE + (unsigned)offset + i) << (8 * i);
	}
	return val;
}

static void ports_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			uint64_t val)
{
	for (unsigned i = 0; i < size; i++) {
		port_write(d, PORT_BASE + (unsigned)offset + i, (uint8_t)(val >> (8 * i)));
	}
}

/* -- The Bochs interface: index 1CEh, data 1CFh and 1D0h, or words from 500h in BAR 2 -- */

static bool dispi_bpp_ok(unsigned bpp)
{
	return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Sizes that fit video memory, as the guest may have asked for others. */
static void dispi_settle(struct mobo_dev *d)
{
	struct vga_state *s = vga_state(d);
	uint32_t vram = vga_priv(d)->vram_len, row;

	s->dispi[DISPI_XRES] = (uint16_t)((s->dispi[DISPI_XRES] + 7) & ~7);
	if (s->dispi[DISPI_XRES] == 0 || s->dispi[DISPI_XRES] > MOBO_VIDEO_MAX_WIDTH) {
		s->dispi[DISPI_XRES] = MOBO_VIDEO_MAX_WIDTH;
	}
	if (s->dispi[DISPI_YRES] == 0 || s->dispi[DISPI_YRES] > MOBO_VIDEO_MAX_HEIGHT) {
		s->dispi[DISPI_YRES] = MOBO_VIDEO_MAX_HEIGHT;
	}
	if (s->dispi[DISPI_VIRT_WIDTH] < s->dispi[DISPI_XRES]) {
		s->dispi[DISPI_VIRT_WIDTH] = s->dispi[DISPI_XRES];
	}
	row = s->dispi[DISPI_BPP] == 4
		      ? s->dispi[DISPI_VIRT_WIDTH] / 2u
		      : s->dispi[DISPI_VIRT_WIDTH] * ((s->dispi[DISPI_BPP] + 7u) / 8);
	if (row * s->dispi[DISPI_YRES] > vram) {
		s->dispi[DISPI_YRES] = (uint16_t)(vram / row);
	}
	s->dispi[DISPI_VIRT_HEIGHT] = (uint16_t)(vram / row > 0xffff ? 0xffff : vram / row);
	if (s->dispi[DISPI_Y_OFFSET] + s->dispi[DISPI_YRES] > s->dispi[DISPI_VIRT_HEIGHT]) {
		s->dispi[DISPI_Y_OFFSET] =
			(uint16_t)(s->dispi[DISPI_VIRT_HEIGHT] - s->dispi[DISPI_YRES]);
	}
	if (s->dispi[DISPI_X_OFFSET] + s->dispi[DISPI_XRES] > s->dispi[DISPI_VIRT_WIDTH]) {
		s->dispi[DISPI_X_OFFSET] = 0;
	}
}

static void dispi_enable(struct mobo_dev *d, uint16_t val)
{
	struct vga_state *s = vga_state(d);
	bool was = vga_dispi_on(s);

	s->dispi[DISPI_ENABLE] = val & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BIT_DAC | DISPI_LFB |
					DISPI_NOCLEARMEM);
	if (!(val & DISPI_ENABLED)) {
		s->dispi[DISPI_BANK] = 0;
		return;
	}
	if (!was) {
		s->dispi[DISPI_VIRT_WIDTH] = s->dispi[DISPI_XRES];
		s->dispi[DISPI_X_OFFSET] = s->dispi[DISPI_Y_OFFSET] = 0;
	}
	dispi_settle(d);
	/* What a VGA BIOS would set beside it: packed pixels through the window at A0000h. */
	s->seq[4] |= 0x0e;
	s->seq[2] = 0x0f;
	s->gfx[6] = (s->gfx[6] & ~0x0c) | 0x05;
	if (s->dispi[DISPI_BPP] == 4) {
		s->seq[4] &= ~0x08;
	} else {
		s->gfx[5] |= 0x40;
	}
	if (!was && !(val & DISPI_NOCLEARMEM)) {
		memset(vga_priv(d)->vram, 0, vga_priv(d)->vram_len);
	}
}

static uint16_t dispi_read(struct mobo_dev *d, unsigned index)
{
	const struct vga_state *s = vga_state(d);

	if (s->dispi[DISPI_ENABLE] & DISPI_GETCAPS) {
		switch (index) {
		case DISPI_XRES: return MOBO_VIDEO_MAX_WIDTH;
		case DISPI_YRES: return MOBO_VIDEO_MAX_HEIGHT;
		case DISPI_BPP: return 32;
		}
	}
	if (index == DISPI_MEMORY_64K) {
		return (uint16_t)(vga_priv(d)->vram_len >> 16);
	}
	return index < N_DISPI ? s->dispi[index] : 0;
}

static void dispi_write(struct mobo_dev *d, unsigned index, uint16_t val)
{
	struct vga_state *s = vga_state(d);

	switch (index) {
	case DISPI_ID:
		if (val >= 0xb0c0 && val <= DISPI_ID_VALUE) {
			s->dispi[DISPI_ID] = val;
		}
		return;
	case DISPI_XRES:
	case DISPI_YRES: s->dispi[index] = val; break;
	case DISPI_BPP:
		s->dispi[index] = dispi_bpp_ok(val) ? val : val == 0 ? 8 : s->dispi[index];
		break;
	case DISPI_BANK:
		s->dispi[index] = val < vga_priv(d)->vram_len >> 16 ? val : s->dispi[index];
		break;
	case DISPI_VIRT_WIDTH:
	case DISPI_X_OFFSET:
	case DISPI_Y_OFFSET: s->dispi[index] = val; break;
	case DISPI_ENABLE: dispi_enable(d, val); break;
	default: return;
	}
	if (vga_dispi_on(s)) {
		dispi_settle(d);
	}
	registers_changed(d);
}

static uint64_t dispi_ports_read(struct mobo_dev *d, unsigned region, uint64_t offset,
				 unsigned size)
{
	return offset == 0 ? vga_state(d)->dispi_index : dispi_read(d, vga_state(d)->dispi_index);
}

static void dispi_ports_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			      uint64_t val)
{
	if (offset == 0) {
		vga_state(d)->dispi_index = (uint16_t)val;
	} else {
		dispi_write(d, vga_state(d)->dispi_index, (uint16_t)val);
	}
}

static uint64_t mmio_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
		return ports_read(d, region, offset - MMIO_PORTS + 0x10, size);
	}
	if (offset >= MMIO_DISPI && offset < MMIO_DISPI + 2 * N_DISPI) {
		return dispi_read(d, (unsigned)(offset - MMIO_DISPI) / 2);
	}
	if (offset == MMIO_QEXT) {
		return 8; /* extension registers: length, byte order */
	}
	if (offset == MMIO_QEXT + 4) {
		return 0x1e1e1e1e; /* little endian */
	}
	return UINT64_MAX;
}

static void mmio_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		       uint64_t val)
{
	if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
		ports_write(d, region, offset - MMIO_PORTS + 0x10, size, val);
	} else if (offset >= MMIO_DISPI && offset < MMIO_DISPI + 2 * N_DISPI) {
		dispi_write(d, (unsigned)(offset - MMIO_DISPI) / 2, (uint16_t)val);
	}
}

/* -- Tables -- */

/* clang-format off */
static const struct mobo_region regions[N_REGION] = {
	[REGION_PORTS] = { .name = "ports", .kind = MOBO_REGION_PIO, .base = PORT_BASE, .len = 0x30,
			   .attr = MOBO_POSTED, .priority = 1, .read = ports_read, .write = ports_write },
	[REGION_WINDOW] = { .name = "window", .kind = MOBO_REGION_MMIO, .base = 0xa0000, .len = 0x20000,
			    .attr = MOBO_POSTED, .priority = 1, .direct = "mem",
			    .read = vga_window_read, .write = vga_window_write },
	[REGION_TEXT] = { .name = "text", .kind = MOBO_REGION_MMIO, .base = 0xb8000, .len = 0x8000,
			  .priority = 2, .direct = "mem", .overlay = true },
	[REGION_LFB] = { .name = "framebuffer", .kind = MOBO_REGION_BAR_PREFETCH, .len = DEFAULT_VRAM,
			 .bar = 0, .priority = 1, .direct = "mem" },
	[REGION_MMIO] = { .name = "mmio", .kind = MOBO_REGION_BAR_MEM, .len = MMIO_LEN, .bar = 2,
			  .priority = 1, .read = mmio_read, .write = mmio_write },
	[REGION_DISPI] = { .name = "dispi", .kind = MOBO_REGION_PIO, .base = 0x1ce, .len = 3,
			   .priority = 1, .read = dispi_ports_read, .write = dispi_ports_write },
	[REGION_ROM] = { .name = "rom", .kind = MOBO_REGION_ROM_BAR, .len = MOBO_VIDEO_ROM_LEN,
			 .priority = 1, .direct = "mem" },
};

static const struct mobo_pci_function functions[] = {
	{ .device = 2, .function = 0, .vendor_id = 0x1234, .device_id = 0x1111,
	  .subsystem_vendor_id = 0x1af4, .subsystem_id = 0x1100, .class_code = 0x030000, .revision = 2 },
};

static const struct mobo_field fields[] = {
	MOBO_FIELD(struct vga_state, seq_index), MOBO_FIELD(struct vga_state, gfx_index),
	MOBO_FIELD(struct vga_state, crtc_index), MOBO_FIELD(struct vga_state, attr_index),
	MOBO_FIELD(struct vga_state, attr_flip), MOBO_FIELD(struct vga_state, misc),
	MOBO_FIELD(struct vga_state, feature),
	MOBO_FIELD_ARRAY(struct vga_state, seq), MOBO_FIELD_ARRAY(struct vga_state, gfx),
	MOBO_FIELD_ARRAY(struct vga_state, attr), MOBO_FIELD_ARRAY(struct vga_state, crtc),
	MOBO_FIELD_ARRAY(struct vga_state, latch), MOBO_FIELD(struct vga_state, dac_mask),
	MOBO_FIELD(struct vga_state, dac_read_index), MOBO_FIELD(struct vga_state, dac_write_index),
	MOBO_FIELD(struct vga_state, dac_component), MOBO_FIELD(struct vga_state, dac_reading),
	MOBO_FIELD_ARRAY(struct vga_state, dac_latch), MOBO_FIELD_ARRAY(struct vga_state, palette),
	MOBO_FIELD(struct vga_state, text_direct), MOBO_FIELD(struct vga_state, dispi_index),
	MOBO_FIELD_ARRAY(struct vga_state, dispi),
};
/* clang-format on */

static int vga_init(struct mobo_dev *d)
{
	struct vga_priv *p = vga_priv(d);
	struct mobo_region lfb = regions[REGION_LFB];
	size_t len;
	int rom = mobo_dev_fd(d, "rom");

	p->vram = mobo_dev_memory(d, &len);
	if (!p->vram || len < LFB_MIN + MOBO_VIDEO_TAIL_LEN) {
		mobo_dev_error(d, "needs a memory object of at least 1 MiB and its tail");
		return -EINVAL;
	}
	p->vram_len = (uint32_t)(len - MOBO_VIDEO_TAIL_LEN);
	if (p->vram_len & (p->vram_len - 1)) {
		mobo_dev_error(d, "video memory of %u bytes: PCI wants a power of two",
			       p->vram_len);
		return -EINVAL;
	}
	p->text = p->vram + p->vram_len + MOBO_VIDEO_ROM_LEN;
	p->video = (struct mobo_video *)(p->text + MOBO_VIDEO_TEXT_LEN);
	if (rom >= 0 && pread(rom, p->vram + p->vram_len, MOBO_VIDEO_ROM_LEN, 0) < 0) {
		mobo_dev_error(d, "the option ROM cannot be read");
		return -EIO;
	}
	lfb.len = p->vram_len;
	return mobo_dev_set_region(d, REGION_LFB, &lfb);
}

static void vga_restored(struct mobo_dev *d)
{
	struct vga_priv *p = vga_priv(d);

	mobo_dev_map(d, REGION_LFB, 0, 3);
	mobo_dev_map(d, REGION_ROM, p->vram_len / 4096, 1);
	registers_changed(d);
}

static void vga_reset(struct mobo_dev *d)
{
	struct vga_state *s = vga_state(d);

	memset(s, 0, sizeof(*s));
	s->misc = 1;
	s->dac_mask = 0xff;
	s->dispi[DISPI_ID] = DISPI_ID_VALUE;
	s->dispi[DISPI_BPP] = 8;
	vga_restored(d);
}

const struct mobo_chip_class mobo_chip_vga = {
	.name = "vga",
	.description = "VGA with Bochs DISPI linear framebuffer",
	.state_version = 1,
	.restart = MOBO_RESTART_PAUSE,
	.state_size = sizeof(struct vga_state),
	.priv_size = sizeof(struct vga_priv),
	.regions = regions,
	.n_regions = N_REGION,
	.functions = functions,
	.n_functions = 1,
	.fields = fields,
	.n_fields = sizeof(fields) / sizeof(fields[0]),
	.init = vga_init,
	.reset = vga_reset,
	.restored = vga_restored,
};
