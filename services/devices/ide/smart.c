/* SPDX-License-Identifier: Apache-2.0 */
/* SMART (ATA/ATAPI-7 volume 1, 6.54): a drive in good health, with a few attributes and empty logs.
 */
#include <string.h>

#include "ide.h"

enum {
	SMART_READ_DATA = 0xd0,
	SMART_READ_THRESHOLDS = 0xd1,
	SMART_AUTOSAVE = 0xd2,
	SMART_OFFLINE = 0xd4,
	SMART_READ_LOG = 0xd5,
	SMART_ENABLE = 0xd8,
	SMART_DISABLE = 0xd9,
	SMART_STATUS = 0xda,
};
enum { LOG_DIRECTORY = 0, LOG_ERRORS = 1, LOG_SELF_TEST = 6 };

static const struct {
	uint8_t id;
	uint16_t flags;
	uint8_t value, threshold;
} attributes[] = {
	{1, 0x0003, 100, 6},   /* raw read error rate */
	{3, 0x0003, 100, 0},   /* spin-up time */
	{5, 0x0003, 100, 36},  /* reallocated sectors */
	{9, 0x0003, 100, 0},   /* power-on hours */
	{12, 0x0003, 100, 0},  /* power cycles */
	{190, 0x0003, 69, 50}, /* temperature below its limit */
};

static void fill_attributes(uint8_t *p, bool thresholds)
{
	memset(p, 0, 512);
	p[0] = 1;
	for (unsigned k = 0; k < MOBO_ARRAY_LEN(attributes); k++) {
		uint8_t *a = p + 2 + k * 12;

		a[0] = attributes[k].id;
		if (thresholds) {
			a[1] = attributes[k].threshold;
			continue;
		}
		a[1] = (uint8_t)attributes[k].flags;
		a[3] = attributes[k].value;
		a[4] = attributes[k].value;
	}
	if (!thresholds) {
		p[362] = 0x02; /* off-line data collection completed */
		p[367] = 0x1b; /* off-line and self-tests can be asked for */
		p[368] = 0x03; /* saves before power-saving modes, autosave */
		p[370] = 0x01; /* has an error log */
		p[372] = 2;    /* minutes a short self-test takes, then a long one */
		p[373] = 54;
	}
	ide_checksum(p);
}

/* Log pages without entries; false: there is no such log. */
static bool fill_log(uint8_t *p, uint8_t log)
{
	memset(p, 0, 512);
	switch (log) {
	case LOG_DIRECTORY:
		p[0] = 1;
		p[LOG_ERRORS * 2] = 1;
		p[LOG_SELF_TEST * 2] = 1;
		return true;
	case LOG_ERRORS:
	case LOG_SELF_TEST:
		p[0] = 1;
		ide_checksum(p);
		return true;
	default: return false;
	}
}

void ide_smart(struct ide *i)
{
	struct ide_drive *v = i->drive;
	uint8_t what = v->feature[0];

	if (v->lba_mid[0] != 0x4f || v->lba_high[0] != 0xc2 ||
	    (!v->smart && what != SMART_ENABLE)) {
		ide_fail(i, ER_ABRT);
		return;
	}
	switch (what) {
	case SMART_READ_DATA:
	case SMART_READ_THRESHOLDS:
		fill_attributes(i->c->data, what == SMART_READ_THRESHOLDS);
		ide_send(i, IDE_SECTOR, IDE_SECTOR);
		return;
	case SMART_READ_LOG:
		if (v->sector_count[0] != 1 || !fill_log(i->c->data, v->lba_low[0])) {
			break;
		}
		ide_send(i, IDE_SECTOR, IDE_SECTOR);
		return;
	case SMART_ENABLE:
	case SMART_DISABLE:
		v->smart = what == SMART_ENABLE;
		ide_done(i);
		return;
	case SMART_STATUS: /* the registers stay: no threshold exceeded */
	case SMART_AUTOSAVE:
	case SMART_OFFLINE: ide_done(i); return;
	}
	ide_fail(i, ER_ABRT);
}
