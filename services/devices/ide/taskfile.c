/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command block and control block of a channel (ATA/ATAPI-7 volume 1, clause 6; volume 2, clause 9
 * for resets). Both drives see what is written; the selected one answers. A drive that is not there
 * reads as zeros.
 */
#include <string.h>

#include "ide.h"

enum {
	R_DATA,
	R_ERROR, /* write: features */
	R_SECTOR_COUNT,
	R_LBA_LOW,
	R_LBA_MID,
	R_LBA_HIGH,
	R_DEVICE,
	R_STATUS, /* write: command */
};

void ide_update_line(struct mobo_dev *d, unsigned channel)
{
	struct ide i = ide_channel(d, channel);

	mobo_dev_line(d, channel, i.unit->present && i.drive->intrq && !(i.c->control & CTL_NIEN));
}

void ide_irq(struct ide *i, bool on)
{
	i->drive->intrq = on;
	if (on) {
		i->c->bm_status |= BM_IRQ;
	}
	ide_update_line(i->d, i->n);
}

void ide_signature(struct ide_unit *u, struct ide_drive *drive)
{
	drive->sector_count[0] = 1;
	drive->lba_low[0] = 1;
	drive->lba_mid[0] = u->cdrom ? 0x14 : 0;
	drive->lba_high[0] = u->cdrom ? 0xeb : 0;
}

/* State of a drive after a reset; hard: power-on or RESET#, which also undoes settings. */
void ide_drive_reset(struct ide_unit *u, struct ide_drive *drive, bool hard)
{
	if (hard) {
		memset(drive, 0, sizeof(*drive));
		drive->heads = 16;
		drive->sectors = 63;
		drive->write_cache = drive->look_ahead = drive->smart = 1;
		/* Power on, reset or bus device reset occurred (MMC-3, 29h). */
		drive->attention = u->cdrom ? 0x29 : 0;
	}
	if (!u->present) {
		return;
	}
	drive->intrq = 0;
	drive->standby = 0;
	drive->error = 1; /* diagnostic code: passed */
	drive->status = u->cdrom ? 0 : ST_DRDY | ST_DSC;
	ide_signature(u, drive);
}

/* SRST, EXECUTE DEVICE DIAGNOSTIC: both drives. */
void ide_diagnose(struct ide *i)
{
	struct ide_priv *p = mobo_dev_priv(i->d);
	struct ide_state *s = mobo_dev_state(i->d);

	ide_drain(i, false);
	for (unsigned k = 0; k < 2; k++) {
		unsigned unit = i->n * 2 + k;

		ide_drive_reset(&p->unit[unit], &s->drive[unit], false);
	}
	i->c->phase = PHASE_IDLE;
	i->c->op = OP_NONE;
	i->c->select = 0;
	ide_select(i);
	ide_update_line(i->d, i->n);
}

static uint8_t status(const struct ide *i)
{
	return i->unit->present ? i->drive->status : 0;
}

/* One byte of registers 1 to 7. */
static uint8_t read_register(struct ide *i, unsigned reg)
{
	const struct ide_drive *v = i->drive;
	unsigned hob = i->c->control & CTL_HOB ? 1 : 0;

	if (reg == R_DEVICE) {
		return i->c->select | 0xa0;
	}
	if (!i->unit->present) {
		return 0;
	}
	switch (reg) {
	case R_ERROR: return hob ? v->feature[1] : v->error;
	case R_SECTOR_COUNT: return v->sector_count[hob];
	case R_LBA_LOW: return v->lba_low[hob];
	case R_LBA_MID: return v->lba_mid[hob];
	case R_LBA_HIGH: return v->lba_high[hob];
	default: /* R_STATUS: acknowledges the interrupt */
		if (v->intrq) {
			ide_irq(i, false);
		}
		return v->status;
	}
}

static void push(uint8_t pair[2], uint8_t val)
{
	pair[1] = pair[0];
	pair[0] = val;
}

static void write_register(struct ide *i, unsigned reg, uint8_t val)
{
	struct ide_drive *both = &((struct ide_state *)mobo_dev_state(i->d))->drive[i->n * 2];

	if (reg == R_STATUS) {
		ide_ata_command(i, val);
		return;
	}
	/* A busy drive does not listen (ATA-7, 6.3). */
	if (i->c->phase == PHASE_IO || i->c->resetting) {
		mobo_dev_guest_error(i->d, "register written while the drive is busy");
		return;
	}
	i->c->control &= (uint8_t)~CTL_HOB;
	if (reg == R_DEVICE) {
		i->c->select = val;
		ide_select(i);
		ide_update_line(i->d, i->n);
		return;
	}
	for (unsigned k = 0; k < 2; k++) {
		switch (reg) {
		case R_ERROR: push(both[k].feature, val); break;
		case R_SECTOR_COUNT: push(both[k].sector_count, val); break;
		case R_LBA_LOW: push(both[k].lba_low, val); break;
		case R_LBA_MID: push(both[k].lba_mid, val); break;
		case R_LBA_HIGH: push(both[k].lba_high, val); break;
		}
	}
}

uint64_t ide_command_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	struct ide i = ide_channel(d, region / 2);
	uint64_t v = 0;

	if (offset == R_DATA) {
		ide_data_read(&i, &v, size);
		return v;
	}
	for (unsigned k = 0; k < size; k++) {
		v |= (uint64_t)read_register(&i, (unsigned)offset + k) << (k * 8);
	}
	return v;
}

void ide_command_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		       uint64_t val)
{
	struct ide i = ide_channel(d, region / 2);

	if (offset == R_DATA) {
		ide_data_write(&i, &val, size);
		return;
	}
	for (unsigned k = 0; k < size; k++) {
		write_register(&i, (unsigned)offset + k, (uint8_t)(val >> (k * 8)));
	}
}

uint64_t ide_control_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct ide i = ide_channel(d, r->region / 2);

	return status(&i);
}

void ide_control_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct ide i = ide_channel(d, r->region / 2);
	struct ide_state *s = mobo_dev_state(d);

	i.c->control = (uint8_t)val;
	if ((val & CTL_SRST) && !i.c->resetting) {
		ide_diagnose(&i);
		s->drive[i.n * 2].status = s->drive[i.n * 2 + 1].status = ST_BSY;
		i.c->resetting = 1;
	} else if (!(val & CTL_SRST) && i.c->resetting) {
		i.c->resetting = 0;
		ide_diagnose(&i);
	}
	ide_update_line(d, i.n);
}
