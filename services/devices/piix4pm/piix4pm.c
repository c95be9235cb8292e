/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power management of Intel's 82371AB (PIIX4), function 3: datasheet 290562-001, chapters 7 (power
 * management) and 11 (SMBus), and APM ports of 7.3. On this board it is function 3 of the ISA
 * bridge's slot, with the SCI on IRQ 9.
 *
 * There is no system management mode: SMIs are not raised, and what a firmware's SMI handler would
 * do when the operating system asks for ACPI at the APM control port is done here. Configuration
 * register 5Bh starts with APMC_EN set, by which firmware knows that it need not set up SMM.
 *
 * Not modelled: device monitors, clock control and general purpose pins (storage only); suspend
 * states other than soft off, which is left to the machine; RTC_STS. No device answers on the
 * SMBus: every command ends in a device error. The counter of PMTMR is the engine's; the one here
 * agrees with it and serves the overflow status.
 */
#include <errno.h>
#include <string.h>

#include "mobo/base.h"
#include "mobo/device.h"

enum { REGION_PM, REGION_SMBUS, REGION_APM };
enum { LINE_SCI };
enum { TIMER_OVERFLOW };

enum {
	CFG_PMBA = 0x40,
	CFG_DEVACTB_3 = 0x5b,
	CFG_PMREGMISC = 0x80,
	CFG_SMBBA = 0x90,
	CFG_SMBHSTCFG = 0xd2
};
enum { DEVACTB_APMC_EN = 1 << 1 };
enum { SMBHSTCFG_INTSEL = 7 << 1, SMBHSTCFG_IRQ9 = 4 << 1 };

/* PMSTS and PMEN */
enum {
	PM_TMROF = 1 << 0,
	PM_GBL = 1 << 5,
	PM_PWRBTN = 1 << 8,
	PM_RTC = 1 << 10,
	PMSTS_RSM = 1 << 15,
	PM_EVENTS = PM_TMROF | PM_GBL | PM_PWRBTN | PM_RTC,
};
/* PMCNTRL */
enum {
	PMC_SCI_EN = 1 << 0,
	PMC_BRLD_EN = 1 << 1,
	PMC_GBL_RLS = 1 << 2,
	PMC_SUS_TYP_SHIFT = 10,
	PMC_SUS_TYP = 7 << PMC_SUS_TYP_SHIFT,
	PMC_SUS_EN = 1 << 13,
	PMC_STORED = PMC_SCI_EN | PMC_BRLD_EN | PMC_SUS_TYP,
};
enum { SUS_SOFT_OFF = 0, SUS_TO_RAM = 1 };
enum { GPE_EVENTS = 0x0f01 };

/* What firmware says at the APM control port to hand over, as the FADT tells the guest. */
enum { APM_ACPI_ENABLE = 0xf1, APM_ACPI_DISABLE = 0xf0 };

/* SMBHSTSTS and SMBHSTCNT */
enum {
	HST_INTER = 1 << 1,
	HST_DEV_ERR = 1 << 2,
	HST_BUS_ERR = 1 << 3,
	HST_FAILED = 1 << 4,
	HST_EVENTS = HST_INTER | HST_DEV_ERR | HST_BUS_ERR | HST_FAILED,
	HSTCNT_INTEREN = 1 << 0,
	HSTCNT_KILL = 1 << 1,
	HSTCNT_START = 1 << 6,
};

enum { SMB_BLOCK = 32, PMTMR_BITS = 24, PMTMR_HZ = 3579545 };
#define SECOND_NS 1000000000ull

struct piix4pm_state {
	uint64_t tmr_seen; /* times that PMTMR's top bit had changed at the last look */
	uint32_t pcntrl, glbctl, devctl, gporeg;
	uint16_t pmsts, pmen, pmcntrl;
	uint16_t gpsts, gpen;
	uint16_t glben;
	uint8_t apmc, apms;
	uint8_t smb_hstcfg; /* copy of the configuration register */
	uint8_t smb_hststs, smb_hstcnt, smb_hstcmd, smb_hstadd, smb_dat0, smb_dat1;
	uint8_t smb_slvcnt, smb_shdwcmd;
	uint8_t smb_index; /* into the block data */
	uint16_t smb_slvevt, smb_slvdat;
	uint8_t smb_block[SMB_BLOCK];
	uint8_t reserved[4];
};

/* -- PM timer: from virtual time, without an offset -- */

static uint64_t pmtmr_ticks(uint64_t now_ns)
{
	return now_ns / SECOND_NS * PMTMR_HZ + now_ns % SECOND_NS * PMTMR_HZ / SECOND_NS;
}

/* First time at which the counter has run for that many ticks. */
static uint64_t pmtmr_ns(uint64_t ticks)
{
	return ticks / PMTMR_HZ * SECOND_NS +
	       (ticks % PMTMR_HZ * SECOND_NS + PMTMR_HZ - 1) / PMTMR_HZ;
}

static uint64_t top_bit_changes(struct mobo_dev *d)
{
	return pmtmr_ticks(mobo_dev_now_ns(d)) >> (PMTMR_BITS - 1);
}

static void look_at_timer(struct mobo_dev *d)
{
	struct piix4pm_state *s = mobo_dev_state(d);
	uint64_t changes = top_bit_changes(d);

	if (changes > s->tmr_seen) {
		s->tmr_seen = changes;
		s->pmsts |= PM_TMROF;
	}
}

/* -- SCI -- */

static bool smbus_interrupts(const struct piix4pm_state *s)
{
	return (s->smb_hstcnt & HSTCNT_INTEREN) && (s->smb_hststs & HST_EVENTS) &&
	       (s->smb_hstcfg & SMBHSTCFG_INTSEL) == SMBHSTCFG_IRQ9;
}

static void update_sci(struct mobo_dev *d)
{
	const struct piix4pm_state *s = mobo_dev_state(d);
	bool sci = (s->pmsts & s->pmen & PM_EVENTS) || (s->gpsts & s->gpen);
	bool want_overflow = (s->pmen & PM_TMROF) && !(s->pmsts & PM_TMROF);

	mobo_dev_line(d, LINE_SCI, (sci && (s->pmcntrl & PMC_SCI_EN)) || smbus_interrupts(s));
	mobo_dev_timer_set(d, TIMER_OVERFLOW,
			   want_overflow ? pmtmr_ns((s->tmr_seen + 1) << (PMTMR_BITS - 1))
					 : UINT64_MAX);
}

static void timer(struct mobo_dev *d, unsigned n)
{
	look_at_timer(d);
	update_sci(d);
}

/* -- Power management registers -- */

/*
 * Status registers, where a one clears, are two registers of a byte each: what a write of one byte
 * leaves alone must not be taken for ones.
 */
static unsigned high_byte_shift(const struct mobo_reg *r)
{
	return r->offset & 1 ? 8 : 0;
}

static uint64_t pmsts_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	const struct piix4pm_state *s = mobo_dev_state(d);
	unsigned sts = s->pmsts | (top_bit_changes(d) > s->tmr_seen ? PM_TMROF : 0u);

	return sts >> high_byte_shift(r);
}

static void pmsts_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	look_at_timer(d);
	s->pmsts &= (uint16_t) ~(val << high_byte_shift(r));
	update_sci(d);
}

static void pmen_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	look_at_timer(d);
	s->pmen = (uint16_t)val;
	update_sci(d);
}

static void enter_suspend(struct mobo_dev *d, unsigned type)
{
	switch (type) {
	case SUS_SOFT_OFF: mobo_dev_notify(d, "poweroff", "ACPI S5"); break;
	case SUS_TO_RAM: mobo_dev_notify(d, "suspend", "ACPI S3"); break;
	default: mobo_dev_guest_error(d, "suspend state that the board does not have"); break;
	}
}

static uint64_t pmcntrl_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	const struct piix4pm_state *s = mobo_dev_state(d);

	return s->pmcntrl;
}

static void pmcntrl_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->pmcntrl = (uint16_t)(val & PMC_STORED);
	update_sci(d);
	if (val & PMC_SUS_EN) {
		enter_suspend(d, (val & PMC_SUS_TYP) >> PMC_SUS_TYP_SHIFT);
	}
}

static uint64_t pmtmr_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	return pmtmr_ticks(mobo_dev_now_ns(d)) & ((1u << PMTMR_BITS) - 1);
}

static uint64_t gpsts_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	const struct piix4pm_state *s = mobo_dev_state(d);

	return (unsigned)s->gpsts >> high_byte_shift(r);
}

static void gpsts_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->gpsts &= (uint16_t) ~(val << high_byte_shift(r));
	update_sci(d);
}

static void gpen_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->gpen = (uint16_t)val;
	update_sci(d);
}

static uint64_t zero_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	return 0;
}

static void apmc_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	if (val == APM_ACPI_ENABLE) {
		s->pmcntrl |= PMC_SCI_EN;
	} else if (val == APM_ACPI_DISABLE) {
		s->pmcntrl &= (uint16_t)~PMC_SCI_EN;
	}
	update_sci(d);
}

/* -- SMBus host controller -- */

static uint64_t hststs_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	const struct piix4pm_state *s = mobo_dev_state(d);

	return s->smb_hststs;
}

static void hststs_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->smb_hststs &= (uint8_t)~val;
	update_sci(d);
}

/* Reading the control register sets the block data back to its first byte (11.2.3). */
static uint64_t hstcnt_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->smb_index = 0;
	return s->smb_hstcnt;
}

static void hstcnt_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->smb_hstcnt = (uint8_t)(val & ~(unsigned)HSTCNT_START);
	if (val & HSTCNT_KILL) {
		s->smb_hststs |= HST_FAILED;
	} else if (val & HSTCNT_START) {
		s->smb_index = 0;
		s->smb_hststs |= HST_DEV_ERR; /* nobody acknowledges the address */
	}
	update_sci(d);
}

static uint64_t blkdat_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct piix4pm_state *s = mobo_dev_state(d);
	uint8_t byte = s->smb_block[s->smb_index % SMB_BLOCK];

	s->smb_index = (uint8_t)((s->smb_index + 1) % SMB_BLOCK);
	return byte;
}

static void blkdat_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	s->smb_block[s->smb_index % SMB_BLOCK] = (uint8_t)val;
	s->smb_index = (uint8_t)((s->smb_index + 1) % SMB_BLOCK);
}

/* -- Tables -- */

static const struct mobo_region regions[] = {
	/* At the base that the configuration registers of these numbers hold. */
	[REGION_PM] = {.name = "pm",
		       .kind = MOBO_REGION_BAR_IO,
		       .len = 64,
		       .fn = 0,
		       .bar = CFG_PMBA,
		       .priority = 1},
	[REGION_SMBUS] = {.name = "smbus",
			  .kind = MOBO_REGION_BAR_IO,
			  .len = 16,
			  .fn = 0,
			  .bar = CFG_SMBBA,
			  .priority = 1},
	[REGION_APM] =
		{.name = "apm", .kind = MOBO_REGION_PIO, .base = 0xb2, .len = 2, .priority = 1},
};

static const struct mobo_line lines[] = {
	[LINE_SCI] = {MOBO_LINE_ISA, 9},
};

/* clang-format off */
#define AT(member) offsetof(struct piix4pm_state, member)
static const struct mobo_reg regs[] = {
	{ "PMSTS.0",   REGION_PM, 0x00, 1, MOBO_NO_STORAGE, PM_EVENTS & 0xff,
	  pmsts_read, pmsts_write },
	{ "PMSTS.1",   REGION_PM, 0x01, 1, MOBO_NO_STORAGE, (PM_EVENTS | PMSTS_RSM) >> 8,
	  pmsts_read, pmsts_write },
	{ "PMEN",      REGION_PM, 0x02, 2, AT(pmen),        PM_EVENTS, NULL, pmen_write },
	{ "PMCNTRL",   REGION_PM, 0x04, 2, MOBO_NO_STORAGE, PMC_STORED | PMC_SUS_EN | PMC_GBL_RLS,
	  pmcntrl_read, pmcntrl_write },
	{ "PMTMR",     REGION_PM, 0x08, 4, MOBO_NO_STORAGE, 0, pmtmr_read },
	{ "GPSTS.0",   REGION_PM, 0x0c, 1, MOBO_NO_STORAGE, GPE_EVENTS & 0xff,
	  gpsts_read, gpsts_write },
	{ "GPSTS.1",   REGION_PM, 0x0d, 1, MOBO_NO_STORAGE, GPE_EVENTS >> 8,
	  gpsts_read, gpsts_write },
	{ "GPEN",      REGION_PM, 0x0e, 2, AT(gpen),        GPE_EVENTS, NULL, gpen_write },
	{ "PCNTRL",    REGION_PM, 0x10, 4, AT(pcntrl),      0x00023e1e },
	{ "PLVL2",     REGION_PM, 0x14, 1, MOBO_NO_STORAGE, 0, zero_read },
	{ "PLVL3",     REGION_PM, 0x15, 1, MOBO_NO_STORAGE, 0, zero_read },
	{ "GLBSTS",    REGION_PM, 0x18, 2, MOBO_NO_STORAGE, 0, zero_read },
	{ "DEVSTS",    REGION_PM, 0x1c, 4, MOBO_NO_STORAGE, 0, zero_read },
	{ "GLBEN",     REGION_PM, 0x20, 2, AT(glben),       0xffff },
	{ "GLBCTL",    REGION_PM, 0x28, 4, AT(glbctl),      0xffffffff },
	{ "DEVCTL",    REGION_PM, 0x2c, 4, AT(devctl),      0xffffffff },
	{ "GPIREG",    REGION_PM, 0x30, 4, MOBO_NO_STORAGE, 0, zero_read },
	{ "GPOREG",    REGION_PM, 0x34, 4, AT(gporeg),      0xffffffff },

	{ "SMBHSTSTS", REGION_SMBUS, 0x0, 1, MOBO_NO_STORAGE, HST_EVENTS,
	  hststs_read, hststs_write },
	{ "SMBSLVSTS", REGION_SMBUS, 0x1, 1, MOBO_NO_STORAGE, 0, zero_read },
	{ "SMBHSTCNT", REGION_SMBUS, 0x2, 1, MOBO_NO_STORAGE, 0x5f,
	  hstcnt_read, hstcnt_write, NULL, true },
	{ "SMBHSTCMD", REGION_SMBUS, 0x3, 1, AT(smb_hstcmd),  0xff },
	{ "SMBHSTADD", REGION_SMBUS, 0x4, 1, AT(smb_hstadd),  0xff },
	{ "SMBHSTDAT0", REGION_SMBUS, 0x5, 1, AT(smb_dat0),   0xff },
	{ "SMBHSTDAT1", REGION_SMBUS, 0x6, 1, AT(smb_dat1),   0xff },
	{ "SMBBLKDAT", REGION_SMBUS, 0x7, 1, MOBO_NO_STORAGE, 0xff,
	  blkdat_read, blkdat_write, NULL, true },
	{ "SMBSLVCNT", REGION_SMBUS, 0x8, 1, AT(smb_slvcnt),  0x0f },
	{ "SMBSHDWCMD", REGION_SMBUS, 0x9, 1, AT(smb_shdwcmd), 0xff },
	{ "SMBSLVEVT", REGION_SMBUS, 0xa, 2, AT(smb_slvevt),  0xffff },
	{ "SMBSLVDAT", REGION_SMBUS, 0xc, 2, AT(smb_slvdat),  0 },

	{ "APMC",      REGION_APM, 0, 1, AT(apmc), 0xff, NULL, apmc_write },
	{ "APMS",      REGION_APM, 1, 1, AT(apms), 0xff },
};

static const struct mobo_pci_config config[] = {
	{ 0x06,          2, 0x0280,     0x0000 }, /* PCISTS */
	{ CFG_PMBA,      4, 0x00000001, 0x0000ffc0 },
	{ 0x44,          4, 0x00000000, 0xffffffff }, /* CNTA */
	{ 0x48,          4, 0x00000000, 0x00ffffff }, /* CNTB */
	{ 0x4c,          4, 0x00000000, 0x000fffff }, /* GPICTL */
	{ 0x50,          3, 0x00000000, 0x00ffffff }, /* DEVRESD */
	{ 0x54,          4, 0x00000000, 0xffffffff }, /* DEVACTA */
	{ 0x58,          4, DEVACTB_APMC_EN << 24, 0x0fffffff },
	{ 0x5c,          4, 0x00000000, 0xffffffff }, /* DEVRESA */
	{ 0x60,          4, 0x00000000, 0xffffffff }, /* DEVRESB */
	{ 0x64,          4, 0x00000000, 0xffffffff }, /* DEVRESC */
	{ 0x68,          4, 0x00000000, 0x001fffff }, /* DEVRESE */
	{ 0x6c,          4, 0x00000000, 0x7fffffff }, /* DEVRESF */
	{ 0x70,          4, 0x00000000, 0x001fffff }, /* DEVRESG */
	{ 0x74,          4, 0x00000000, 0x001fffff }, /* DEVRESH */
	{ 0x78,          4, 0x00000000, 0x7fffffff }, /* DEVRESI */
	{ 0x7c,          4, 0x00000000, 0x001fffff }, /* DEVRESJ */
	{ CFG_PMREGMISC, 1, 0x00,       0x01 },
	{ CFG_SMBBA,     4, 0x00000001, 0x0000fff0 },
	{ CFG_SMBHSTCFG, 1, 0x00,       0x0f, true },
	{ 0xd3,          1, 0x00,       0xff }, /* SMBSLVC */
	{ 0xd4,          2, 0x0000,     0xffff }, /* SMBSHDW1, SMBSHDW2 */
};
/* clang-format on */

static const struct mobo_pci_function functions[] = {
	{
		.device = 1,
		.function = 3,
		.vendor_id = 0x8086,
		.device_id = 0x7113,
		.subsystem_vendor_id = 0x1af4,
		.subsystem_id = 0x1100,
		.class_code = 0x068000,
		.revision = 0x03,
		.interrupt_pin = 1,
		.config = config,
		.n_config = MOBO_ARRAY_LEN(config),
	},
};

static const struct mobo_field fields[] = {
	MOBO_FIELD(struct piix4pm_state, tmr_seen),
	MOBO_FIELD(struct piix4pm_state, pcntrl),
	MOBO_FIELD(struct piix4pm_state, glbctl),
	MOBO_FIELD(struct piix4pm_state, devctl),
	MOBO_FIELD(struct piix4pm_state, gporeg),
	MOBO_FIELD(struct piix4pm_state, pmsts),
	MOBO_FIELD(struct piix4pm_state, pmen),
	MOBO_FIELD(struct piix4pm_state, pmcntrl),
	MOBO_FIELD(struct piix4pm_state, gpsts),
	MOBO_FIELD(struct piix4pm_state, gpen),
	MOBO_FIELD(struct piix4pm_state, glben),
	MOBO_FIELD(struct piix4pm_state, apmc),
	MOBO_FIELD(struct piix4pm_state, apms),
	MOBO_FIELD(struct piix4pm_state, smb_hstcfg),
	MOBO_FIELD(struct piix4pm_state, smb_hststs),
	MOBO_FIELD(struct piix4pm_state, smb_hstcnt),
	MOBO_FIELD(struct piix4pm_state, smb_hstcmd),
	MOBO_FIELD(struct piix4pm_state, smb_hstadd),
	MOBO_FIELD(struct piix4pm_state, smb_dat0),
	MOBO_FIELD(struct piix4pm_state, smb_dat1),
	MOBO_FIELD(struct piix4pm_state, smb_slvcnt),
	MOBO_FIELD(struct piix4pm_state, smb_shdwcmd),
	MOBO_FIELD(struct piix4pm_state, smb_index),
	MOBO_FIELD(struct piix4pm_state, smb_slvevt),
	MOBO_FIELD(struct piix4pm_state, smb_slvdat),
	MOBO_FIELD_ARRAY(struct piix4pm_state, smb_block),
	MOBO_FIELD_ARRAY(struct piix4pm_state, reserved),
};

static void reset(struct mobo_dev *d)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	*s = (struct piix4pm_state){.gporeg = 0x7fffbfff, .tmr_seen = top_bit_changes(d)};
	update_sci(d);
}

static void pci_config(struct mobo_dev *d, unsigned fn, unsigned offset, unsigned len, uint32_t val)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	if (CFG_SMBHSTCFG >= offset && CFG_SMBHSTCFG < offset + len) {
		s->smb_hstcfg = (uint8_t)(val >> (CFG_SMBHSTCFG - offset) * 8) & 0x0f;
		update_sci(d);
	}
}

static int command(struct mobo_dev *d, const char *verb, const char *arg)
{
	struct piix4pm_state *s = mobo_dev_state(d);

	if (strcmp(verb, "power-button") != 0) {
		return -ENOSYS;
	}
	s->pmsts |= PM_PWRBTN;
	update_sci(d);
	return 0;
}

const struct mobo_chip_class mobo_chip_piix4pm = {
	.name = "piix4pm",
	.description = "Intel 82371AB (PIIX4) power management",
	.state_version = 1,
	.restart = MOBO_RESTART_PAUSE,
	.state_size = sizeof(struct piix4pm_state),
	.regions = regions,
	.n_regions = MOBO_ARRAY_LEN(regions),
	.lines = lines,
	.n_lines = MOBO_ARRAY_LEN(lines),
	.functions = functions,
	.n_functions = MOBO_ARRAY_LEN(functions),
	.regs = regs,
	.n_regs = MOBO_ARRAY_LEN(regs),
	.fields = fields,
	.n_fields = MOBO_ARRAY_LEN(fields),
	.reset = reset,
	.restored = update_sci,
	.timer = timer,
	.pci_config = pci_config,
	.command = command,
};
