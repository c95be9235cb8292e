/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel 440FX PCIset, host bridge: 82441FX PCI and Memory Controller (PMC), datasheet 290549-001,
 * section 3.2. What matters to a guest is which memory answers between 640 KiB and 1 MiB: the
 * programmable attribute map (PAM) for C0000h-FFFFFh and the SMRAM control register.
 *
 * Not modelled: DRAM timing, row boundaries and error registers (storage only), the TRC register
 * at 93h (PIIX3's port CF9h resets), AGP. There is no system management mode: SMRAM shows while
 * D_OPEN is set and is closed otherwise; after D_LCK the register reads as written, though D_OPEN
 * has no effect any more.
 */
#include "mobo/base.h"
#include "mobo/device.h"
#include "mobo/ioch.h"

enum {
	PMC_PMCCFG = 0x50,
	PMC_DETURBO = 0x52,
	PMC_DBC = 0x53,
	PMC_AXC = 0x54,
	PMC_DRT = 0x55,
	PMC_DRAMC = 0x57,
	PMC_DRAMT = 0x58,
	PMC_PAM0 = 0x59,
	PMC_DRB0 = 0x60,
	PMC_FDHC = 0x68,
	PMC_MTT = 0x70,
	PMC_CLT = 0x71,
	PMC_SMRAM = 0x72,
	PMC_ERRCMD = 0x90,
	N_PAM = 7,
};

/* One half of a PAM register. */
enum { PAM_RE = 1 << 0, PAM_WE = 1 << 1, PAM_MASK = 0x33 };

enum {
	SMRAM_D_OPEN = 1 << 6,
	SMRAM_D_LCK = 1 << 4,
	SMRAM_G_SMRAME = 1 << 3,
	SMRAM_MASK = 0x78,
	SMRAM_RESET = 0x02, /* C_BASE_SEG: A0000h */
};

/* The segments of table 3-3 in rising order: 12 of 16 KiB, PAM1 low half to PAM6 high half, then
 * the BIOS area, PAM0 high half. PAM0's low half is reserved. */
enum { N_SEGMENTS = 13, SEGMENT_F = 12, REGION_SMRAM = N_SEGMENTS };

struct i440fx_state {
	uint8_t pam[N_PAM];
	uint8_t smram;
};

static void show_segments(struct mobo_dev *d)
{
	const struct i440fx_state *s = mobo_dev_state(d);

	for (unsigned i = 0; i < N_SEGMENTS; i++) {
		uint8_t reg = i == SEGMENT_F ? s->pam[0] : s->pam[1 + i / 2];
		uint8_t half = i == SEGMENT_F || i % 2 ? reg >> 4 : reg;

		mobo_dev_map(d, i, 0,
			     (half & PAM_RE ? MOBO_MAP_READ : 0u) |
				     (half & PAM_WE ? MOBO_MAP_WRITE : 0u));
	}
}

static void show_smram(struct mobo_dev *d)
{
	const struct i440fx_state *s = mobo_dev_state(d);
	bool open = s->smram & SMRAM_D_OPEN && s->smram & SMRAM_G_SMRAME;

	mobo_dev_map(d, REGION_SMRAM, 0, open ? MOBO_MAP_READ | MOBO_MAP_WRITE : 0);
}

static void write_smram(struct i440fx_state *s, uint8_t val)
{
	uint8_t fixed = SMRAM_RESET;

	if (s->smram & SMRAM_D_LCK) {
		fixed |= SMRAM_D_LCK;
		val &= (uint8_t)~SMRAM_D_OPEN;
	} else if (val & SMRAM_D_LCK) {
		val &= (uint8_t)~SMRAM_D_OPEN;
	}
	s->smram = (val & SMRAM_MASK) | fixed;
}

static void pci_config(struct mobo_dev *d, unsigned fn, unsigned offset, unsigned len, uint32_t val)
{
	struct i440fx_state *s = mobo_dev_state(d);

	for (unsigned i = 0; i < len; i++) {
		unsigned at = offset + i;
		uint8_t byte = (uint8_t)(val >> i * 8);

		if (at >= PMC_PAM0 && at < PMC_PAM0 + N_PAM) {
			s->pam[at - PMC_PAM0] = byte & PAM_MASK;
		} else if (at == PMC_SMRAM) {
			write_smram(s, byte);
		}
	}
	show_segments(d);
	show_smram(d);
}

/* clang-format off */
#define SEGMENT(text, start, bytes) {                                                              \
	.name = text, .kind = MOBO_REGION_MMIO, .base = start, .len = bytes, .priority = 2,        \
	.direct = "ram", .overlay = true }
static const struct mobo_region regions[] = {
	SEGMENT("pam-c0000", 0xc0000, 0x4000),
	SEGMENT("pam-c4000", 0xc4000, 0x4000),
	SEGMENT("pam-c8000", 0xc8000, 0x4000),
	SEGMENT("pam-cc000", 0xcc000, 0x4000),
	SEGMENT("pam-d0000", 0xd0000, 0x4000),
	SEGMENT("pam-d4000", 0xd4000, 0x4000),
	SEGMENT("pam-d8000", 0xd8000, 0x4000),
	SEGMENT("pam-dc000", 0xdc000, 0x4000),
	SEGMENT("pam-e0000", 0xe0000, 0x4000),
	SEGMENT("pam-e4000", 0xe4000, 0x4000),
	SEGMENT("pam-e8000", 0xe8000, 0x4000),
	SEGMENT("pam-ec000", 0xec000, 0x4000),
	SEGMENT("pam-f0000", 0xf0000, 0x10000),
	[REGION_SMRAM] = { .name = "smram", .kind = MOBO_REGION_MMIO, .base = 0xa0000,
			   .len = 0x20000, .priority = 3, .direct = "ram", .overlay = true },
};

static const struct mobo_pci_config config[] = {
	{ 0x04,        2, 0x0006,     0x0140 }, /* PCICMD: memory and master are fixed */
	{ 0x06,        2, 0x0280,     0x0000 }, /* PCISTS */
	{ 0x0d,        1, 0x00,       0xf8 }, /* MLT */
	{ PMC_PMCCFG,  2, 0x0000,     0xffff },
	{ PMC_DETURBO, 1, 0x00,       0xff },
	{ PMC_DBC,     1, 0x80,       0xff },
	{ PMC_AXC,     1, 0x00,       0xff },
	{ PMC_DRT,     2, 0x0000,     0xffff },
	{ PMC_DRAMC,   1, 0x01,       0xff },
	{ PMC_DRAMT,   1, 0x10,       0xff },
	{ 0x59,        1, 0x00,       PAM_MASK, true },
	{ 0x5a,        1, 0x00,       PAM_MASK, true },
	{ 0x5b,        1, 0x00,       PAM_MASK, true },
	{ 0x5c,        1, 0x00,       PAM_MASK, true },
	{ 0x5d,        1, 0x00,       PAM_MASK, true },
	{ 0x5e,        1, 0x00,       PAM_MASK, true },
	{ 0x5f,        1, 0x00,       PAM_MASK, true },
	{ PMC_DRB0,    4, 0x01010101, 0xffffffff },
	{ 0x64,        4, 0x01010101, 0xffffffff },
	{ PMC_FDHC,    1, 0x00,       0xc0 },
	{ PMC_MTT,     1, 0x00,       0xf8 },
	{ PMC_CLT,     1, 0x10,       0xff },
	{ PMC_SMRAM,   1, SMRAM_RESET, SMRAM_MASK, true },
	{ PMC_ERRCMD,  1, 0x00,       0xff },
};
/* clang-format on */

static const struct mobo_pci_function functions[] = {
	{
		.device = 0,
		.function = 0,
		.vendor_id = 0x8086,
		.device_id = 0x1237,
		/* Firmware knows by this that there is a firmware configuration device. */
		.subsystem_vendor_id = 0x1af4,
		.subsystem_id = 0x1100,
		.class_code = 0x060000,
		.revision = 0x02,
		.config = config,
		.n_config = MOBO_ARRAY_LEN(config),
	},
};

static const struct mobo_field fields[] = {
	MOBO_FIELD_ARRAY(struct i440fx_state, pam),
	MOBO_FIELD(struct i440fx_state, smram),
};

static void restored(struct mobo_dev *d)
{
	show_segments(d);
	show_smram(d);
}

static void reset(struct mobo_dev *d)
{
	struct i440fx_state *s = mobo_dev_state(d);

	*s = (struct i440fx_state){.smram = SMRAM_RESET};
	restored(d);
}

const struct mobo_chip_class mobo_chip_i440fx = {
	.name = "i440fx",
	.description = "Intel 440FX host bridge",
	.state_version = 1,
	.restart = MOBO_RESTART_PAUSE,
	.state_size = sizeof(struct i440fx_state),
	.regions = regions,
	.n_regions = MOBO_ARRAY_LEN(regions),
	.functions = functions,
	.n_functions = MOBO_ARRAY_LEN(functions),
	.fields = fields,
	.n_fields = MOBO_ARRAY_LEN(fields),
	.reset = reset,
	.restored = restored,
	.pci_config = pci_config,
};
