/* SPDX-License-Identifier: Apache-2.0 */
/* ATA commands (ATA/ATAPI-7 volume 1, clause 6; DATA SET MANAGEMENT: ATA8-ACS 7.10). */
#include <string.h>

#include "ide.h"

/* What a read or write command is like. */
enum { RW_WRITE = 1, RW_DMA = 2, RW_EXT = 4, RW_MULTIPLE = 8, RW_FUA = 16, RW_VERIFY = 32 };

static uint64_t chs_to_lba(const struct ide *i)
{
	const struct ide_drive *v = i->drive;
	uint64_t cylinder = v->lba_mid[0] | v->lba_high[0] << 8;
	unsigned head = i->c->select & DEV_HEAD, sector = v->lba_low[0];

	if (sector == 0 || sector > v->sectors || head >= v->heads) {
		return UINT64_MAX;
	}
	return (cylinder * v->heads + head) * v->sectors + sector - 1;
}

/* First block that the registers name; UINT64_MAX: no such place. */
static uint64_t address(const struct ide *i, bool ext)
{
	const struct ide_drive *v = i->drive;
	uint64_t lba = v->lba_low[0] | v->lba_mid[0] << 8 | v->lba_high[0] << 16;

	if (ext) {
		return lba | (uint64_t)v->lba_low[1] << 24 | (uint64_t)v->lba_mid[1] << 32 |
		       (uint64_t)v->lba_high[1] << 40;
	}
	if (!(i->c->select & DEV_LBA)) {
		return chs_to_lba(i);
	}
	return lba | (uint64_t)(i->c->select & DEV_HEAD) << 24;
}

static void cmd_read_write(struct ide *i, unsigned how)
{
	struct ide_channel *c = i->c;
	bool ext = how & RW_EXT;
	uint32_t n = i->drive->sector_count[0];

	if (ext) {
		n |= (uint32_t)i->drive->sector_count[1] << 8;
	}
	n = n ? n : ext ? 65536 : 256;
	if (((how & RW_MULTIPLE) && i->drive->multiple == 0) ||
	    ((how & RW_WRITE) && i->unit->readonly)) {
		ide_fail(i, ER_ABRT);
		return;
	}
	c->lba48 = ext;
	c->lba = address(i, ext);
	c->count = n;
	if (c->lba >= i->unit->n_blocks || n > i->unit->n_blocks - c->lba) {
		ide_fail(i, ER_IDNF);
		return;
	}
	c->op = how & RW_VERIFY ? OP_VERIFY : how & RW_WRITE ? OP_WRITE : OP_READ;
	c->dma = (how & RW_DMA) != 0;
	c->chunk = how & RW_MULTIPLE ? i->drive->multiple * IDE_SECTOR : IDE_SECTOR;
	c->durable = (how & RW_WRITE) && ((how & RW_FUA) || !i->drive->write_cache);
	i->drive->standby = 0;
	ide_begin(i);
}

static void cmd_flush(struct ide *i, unsigned arg)
{
	if (i->unit->readonly) {
		ide_done(i);
		return;
	}
	i->c->op = OP_FLUSH;
	ide_begin(i);
}

static void cmd_trim(struct ide *i, unsigned arg)
{
	uint32_t n = i->drive->sector_count[0] | (uint32_t)i->drive->sector_count[1] << 8;

	if (i->drive->feature[0] != 1 || n == 0 || n > IDE_TRIM_BLOCKS || i->unit->readonly) {
		ide_fail(i, ER_ABRT);
		return;
	}
	i->c->op = OP_TRIM;
	i->c->dma = 1;
	i->c->len = n * IDE_SECTOR;
	ide_begin(i);
}

static void cmd_identify(struct ide *i, unsigned arg)
{
	if (i->unit->cdrom) {
		/* So that old drivers find out what it is (ATA-7, 6.17.5.2). */
		ide_signature(i->unit, i->drive);
		ide_fail(i, ER_ABRT);
		return;
	}
	ide_identify(i, i->c->data);
	ide_send(i, IDE_SECTOR, IDE_SECTOR);
}

static void cmd_identify_packet(struct ide *i, unsigned arg)
{
	ide_identify_packet(i, i->c->data);
	ide_send(i, IDE_SECTOR, IDE_SECTOR);
}

static void cmd_packet(struct ide *i, unsigned arg)
{
	struct ide_channel *c = i->c;
	uint32_t limit = i->drive->lba_mid[0] | i->drive->lba_high[0] << 8;

	/* Bytes a DRQ block: even unless all data fit; the drive chooses where 0 was asked for. */
	if (limit == 0 || limit == 0xffff) {
		limit = 0xfffe;
	}
	c->op = OP_PACKET;
	c->dma = 0;
	c->len = c->chunk = IDE_PACKET;
	c->drq_end = 0;
	c->count = limit; /* kept until the packet is known */
	i->drive->sector_count[0] = IR_COD;
	ide_begin(i);
}

static void cmd_device_reset(struct ide *i, unsigned arg)
{
	ide_drain(i, false);
	i->c->phase = PHASE_IDLE;
	i->c->op = OP_NONE;
	ide_drive_reset(i->unit, i->drive, false);
	ide_update_line(i->d, i->n);
}

static void cmd_diagnose(struct ide *i, unsigned arg)
{
	struct ide_priv *p = mobo_dev_priv(i->d);

	ide_diagnose(i);
	/* Drive 0 answers for both; without it drive 1 does. */
	if (!p->unit[i->n * 2].present) {
		i->c->select = DEV_DEV;
		ide_select(i);
	}
	ide_irq(i, true);
}

static void cmd_nothing(struct ide *i, unsigned arg)
{
	ide_done(i);
}

static void cmd_seek(struct ide *i, unsigned arg)
{
	if (address(i, false) >= i->unit->n_blocks) {
		ide_fail(i, ER_IDNF);
	} else {
		ide_done(i);
	}
}

static void cmd_parameters(struct ide *i, unsigned arg)
{
	if (i->drive->sector_count[0] == 0) {
		ide_fail(i, ER_ABRT);
		return;
	}
	i->drive->sectors = i->drive->sector_count[0];
	i->drive->heads = (uint8_t)((i->c->select & DEV_HEAD) + 1);
	ide_done(i);
}

static void cmd_set_multiple(struct ide *i, unsigned arg)
{
	uint8_t n = i->drive->sector_count[0];

	if (n > IDE_MULTIPLE_MAX || (n & (n - 1))) {
		ide_fail(i, ER_ABRT);
		return;
	}
	i->drive->multiple = n;
	ide_done(i);
}

static void cmd_native_max(struct ide *i, unsigned ext)
{
	struct ide_drive *v = i->drive;
	uint64_t last = i->unit->n_blocks - 1;

	if (!ext) {
		last = MOBO_MIN(last, 0x0fffffffull);
		i->c->select = (uint8_t)((i->c->select & ~DEV_HEAD) | (last >> 24 & DEV_HEAD));
	} else {
		v->lba_low[1] = (uint8_t)(last >> 24);
		v->lba_mid[1] = (uint8_t)(last >> 32);
		v->lba_high[1] = (uint8_t)(last >> 40);
	}
	v->lba_low[0] = (uint8_t)last;
	v->lba_mid[0] = (uint8_t)(last >> 8);
	v->lba_high[0] = (uint8_t)(last >> 16);
	ide_done(i);
}

/* Power: the platters are memory; only CHECK POWER MODE shows the difference. */
static void cmd_power(struct ide *i, unsigned standby)
{
	i->drive->standby = (uint8_t)standby;
	/* STANDBY must not lose what is in the cache. */
	if (standby && !i->unit->readonly && i->unit->image) {
		i->c->op = OP_FLUSH;
		ide_begin(i);
		return;
	}
	ide_done(i);
}

static void cmd_check_power(struct ide *i, unsigned arg)
{
	i->drive->sector_count[0] = i->drive->standby ? 0x00 : 0xff;
	ide_done(i);
}

/* Transfer modes: PIO default, PIO 0-4, multiword DMA 0-2, Ultra DMA 0-5 (ATA-7, table 44). */
static bool set_transfer_mode(struct ide_drive *v)
{
	uint8_t mode = v->sector_count[0];
	bool known = mode <= 1 || (mode >= 0x08 && mode <= 0x0c) ||
		     (mode >= 0x20 && mode <= 0x22) || (mode >= 0x40 && mode <= 0x45);

	if (known) {
		v->transfer_mode = mode;
	}
	return known;
}

static void cmd_set_features(struct ide *i, unsigned arg)
{
	struct ide_drive *v = i->drive;
	bool ok = true;

	switch (v->feature[0]) {
	case 0x02: v->write_cache = 1; break;
	case 0x03: ok = set_transfer_mode(v); break;
	case 0x05: /* power management levels, reverting to defaults: accepted, no effect */
	case 0x85:
	case 0x66:
	case 0xcc: break;
	case 0x55: v->look_ahead = 0; break;
	case 0xaa: v->look_ahead = 1; break;
	case 0x82:
		v->write_cache = 0;
		cmd_flush(i, 0);
		return;
	default: ok = false; break;
	}
	if (ok && !(i->unit->cdrom && v->feature[0] != 0x03 && v->feature[0] != 0x66 &&
		    v->feature[0] != 0xcc)) {
		ide_done(i);
	} else {
		ide_fail(i, ER_ABRT);
	}
}

static void cmd_smart(struct ide *i, unsigned arg)
{
	ide_smart(i);
}

enum { DISK = 1, CD = 2 };
struct command {
	void (*run)(struct ide *i, unsigned arg);
	uint8_t arg, drives;
};

/* clang-format off */
static const struct command commands[256] = {
	[0x06] = { cmd_trim, 0, DISK },
	[0x08] = { cmd_device_reset, 0, CD },
	[0x10 ... 0x1f] = { cmd_nothing, 0, DISK }, /* RECALIBRATE */
	[0x20] = { cmd_read_write, 0, DISK },
	[0x21] = { cmd_read_write, 0, DISK },
	[0x24] = { cmd_read_write, RW_EXT, DISK },
	[0x25] = { cmd_read_write, RW_EXT | RW_DMA, DISK },
	[0x27] = { cmd_native_max, 1, DISK },
	[0x29] = { cmd_read_write, RW_EXT | RW_MULTIPLE, DISK },
	[0x30] = { cmd_read_write, RW_WRITE, DISK },
	[0x31] = { cmd_read_write, RW_WRITE, DISK },
	[0x34] = { cmd_read_write, RW_WRITE | RW_EXT, DISK },
	[0x35] = { cmd_read_write, RW_WRITE | RW_EXT | RW_DMA, DISK },
	[0x39] = { cmd_read_write, RW_WRITE | RW_EXT | RW_MULTIPLE, DISK },
	[0x3c] = { cmd_read_write, RW_WRITE | RW_FUA, DISK }, /* WRITE VERIFY */
	[0x3d] = { cmd_read_write, RW_WRITE | RW_EXT | RW_DMA | RW_FUA, DISK },
	[0x40] = { cmd_read_write, RW_VERIFY, DISK },
	[0x41] = { cmd_read_write, RW_VERIFY, DISK },
	[0x42] = { cmd_read_write, RW_VERIFY | RW_EXT, DISK },
	[0x70 ... 0x7f] = { cmd_seek, 0, DISK },
	[0x90] = { cmd_diagnose, 0, DISK | CD },
	[0x91] = { cmd_parameters, 0, DISK },
	[0x94] = { cmd_power, 1, DISK | CD }, /* STANDBY IMMEDIATE, the old code; likewise below */
	[0x95] = { cmd_power, 0, DISK | CD },
	[0x96] = { cmd_power, 1, DISK | CD },
	[0x97] = { cmd_power, 0, DISK | CD },
	[0x98] = { cmd_check_power, 0, DISK | CD },
	[0x99] = { cmd_power, 1, DISK | CD },
	[0xa0] = { cmd_packet, 0, CD },
	[0xa1] = { cmd_identify_packet, 0, CD },
	[0xb0] = { cmd_smart, 0, DISK },
	[0xc4] = { cmd_read_write, RW_MULTIPLE, DISK },
	[0xc5] = { cmd_read_write, RW_WRITE | RW_MULTIPLE, DISK },
	[0xc6] = { cmd_set_multiple, 0, DISK },
	[0xc8] = { cmd_read_write, RW_DMA, DISK },
	[0xc9] = { cmd_read_write, RW_DMA, DISK },
	[0xca] = { cmd_read_write, RW_WRITE | RW_DMA, DISK },
	[0xcb] = { cmd_read_write, RW_WRITE | RW_DMA, DISK },
	[0xce] = { cmd_read_write, RW_WRITE | RW_EXT | RW_MULTIPLE | RW_FUA, DISK },
	[0xe0] = { cmd_power, 1, DISK | CD }, /* STANDBY IMMEDIATE */
	[0xe1] = { cmd_power, 0, DISK | CD }, /* IDLE IMMEDIATE */
	[0xe2] = { cmd_power, 1, DISK | CD }, /* STANDBY */
	[0xe3] = { cmd_power, 0, DISK | CD }, /* IDLE */
	[0xe5] = { cmd_check_power, 0, DISK | CD },
	[0xe6] = { cmd_power, 1, DISK | CD }, /* SLEEP */
	[0xe7] = { cmd_flush, 0, DISK | CD },
	[0xea] = { cmd_flush, 0, DISK },
	[0xec] = { cmd_identify, 0, DISK | CD },
	[0xef] = { cmd_set_features, 0, DISK | CD },
	[0xf8] = { cmd_native_max, 0, DISK },
};
/* clang-format on */

void ide_ata_command(struct ide *i, uint8_t command)
{
	const struct command *k = &commands[command];

	if (i->c->resetting) {
		return;
	}
	if (i->c->phase == PHASE_IO && command != 0x08) {
		mobo_dev_guest_error(i->d, "command written while the drive is busy");
		return;
	}
	if (!i->unit->present && command != 0x90) {
		return;
	}
	if (i->drive->intrq) {
		ide_irq(i, false);
	}
	/* A command in its data phase is given up (ATA-7 volume 2, 9.3). */
	i->c->phase = PHASE_IDLE;
	i->c->op = OP_NONE;
	i->c->dma = i->c->durable = i->c->lba48 = 0;
	i->c->pos = i->c->len = 0;
	if (command == 0x90) {
		cmd_diagnose(i, 0);
	} else if (k->run && (k->drives & (i->unit->cdrom ? CD : DISK))) {
		k->run(i, k->arg);
	} else {
		ide_fail(i, ER_ABRT);
	}
}
