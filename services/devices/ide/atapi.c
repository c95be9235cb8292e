/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packet commands of the CD-ROM drive (MMC-3; SPC-2 for the general ones; ATA/ATAPI-7 volume
 * 1, 6.25 for the protocol).
 */
#include <string.h>

#include "ide.h"

enum { NEEDS_MEDIUM = 1, /* fails with "medium not present" without */ NO_ATTENTION = 2 };

/* Sense keys and codes are written as SPC-2 does: key/ASC/ASCQ. */
static void invalid_field(struct ide *i)
{
	ide_atapi_fail(i, 0x5, 0x24, 0);
}

void ide_atapi_send(struct ide *i, unsigned len, unsigned allocated)
{
	len = MOBO_MIN(len, allocated);
	if (len == 0) {
		ide_done(i);
		return;
	}
	ide_send(i, len, i->c->chunk);
}

static void test_unit_ready(struct ide *i)
{
	ide_done(i);
}

static void request_sense(struct ide *i)
{
	uint8_t *p = i->c->data, allocated = p[4];
	struct ide_drive *v = i->drive;

	if (v->sense_key == 0 && v->attention) {
		v->sense_key = 0x6;
		v->asc = v->attention;
		v->attention = 0;
	}
	memset(p, 0, 18);
	p[0] = 0x70; /* current errors, fixed format */
	p[2] = v->sense_key;
	p[7] = 10;
	p[12] = v->asc;
	p[13] = v->ascq;
	v->sense_key = v->asc = v->ascq = 0;
	ide_atapi_send(i, 18, allocated);
}

static void prevent_allow(struct ide *i)
{
	i->drive->locked = i->c->data[4] & 1;
	ide_done(i);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void read_10(struct ide *i)
{
	const uint8_t *p = i->c->data;

	ide_cd_read(i, be32(p + 2), (uint32_t)(p[7] << 8 | p[8]));
}

static void read_12(struct ide *i)
{
	ide_cd_read(i, be32(i->c->data + 2), be32(i->c->data + 6));
}

static void seek(struct ide *i)
{
	if (be32(i->c->data + 2) >= i->unit->n_blocks) {
		ide_atapi_fail(i, 0x5, 0x21, 0);
	} else {
		ide_done(i);
	}
}

static void mode_sense_6(struct ide *i)
{
	ide_cd_mode_sense(i, false);
}

static void mode_sense_10(struct ide *i)
{
	ide_cd_mode_sense(i, true);
}

/* Parameters are taken and have no effect: nothing in the drive can be set. */
static void mode_select(struct ide *i)
{
	const uint8_t *p = i->c->data;
	uint32_t len = p[0] == 0x15 ? p[4] : (uint32_t)(p[7] << 8 | p[8]);

	if (len == 0) {
		ide_done(i);
		return;
	}
	if (len > 512) {
		invalid_field(i);
		return;
	}
	i->c->op = OP_RECEIVE;
	i->c->len = len;
	ide_begin(i);
}

static void no_effect(struct ide *i)
{
	ide_done(i);
}

struct packet {
	void (*run)(struct ide *i);
	uint8_t flags;
};

/* clang-format off */
static const struct packet packets[256] = {
	[0x00] = { test_unit_ready, NEEDS_MEDIUM },
	[0x03] = { request_sense, NO_ATTENTION },
	[0x12] = { ide_cd_inquiry, NO_ATTENTION },
	[0x15] = { mode_select, 0 },
	[0x1a] = { mode_sense_6, 0 },
	[0x1b] = { ide_cd_start_stop, 0 },
	[0x1e] = { prevent_allow, 0 },
	[0x23] = { ide_cd_format_capacities, 0 },
	[0x25] = { ide_cd_capacity, NEEDS_MEDIUM },
	[0x28] = { read_10, NEEDS_MEDIUM },
	[0x2b] = { seek, NEEDS_MEDIUM },
	[0x2f] = { no_effect, NEEDS_MEDIUM }, /* VERIFY(10) */
	[0x35] = { no_effect, NEEDS_MEDIUM }, /* SYNCHRONIZE CACHE */
	[0x42] = { ide_cd_subchannel, NEEDS_MEDIUM },
	[0x43] = { ide_cd_toc, NEEDS_MEDIUM },
	[0x46] = { ide_cd_configuration, NO_ATTENTION },
	[0x4a] = { ide_cd_event_status, NO_ATTENTION },
	[0x51] = { ide_cd_disc_information, NEEDS_MEDIUM },
	[0x52] = { ide_cd_track_information, NEEDS_MEDIUM },
	[0x55] = { mode_select, 0 },
	[0x5a] = { mode_sense_10, 0 },
	[0xa8] = { read_12, NEEDS_MEDIUM },
	[0xad] = { ide_cd_dvd_structure, NEEDS_MEDIUM },
	[0xb9] = { ide_cd_read_cd, NEEDS_MEDIUM }, /* READ CD MSF */
	[0xbb] = { no_effect, 0 }, /* SET CD SPEED */
	[0xbd] = { ide_cd_mechanism, 0 },
	[0xbe] = { ide_cd_read_cd, NEEDS_MEDIUM },
};
/* clang-format on */

void ide_atapi_packet(struct ide *i)
{
	struct ide_channel *c = i->c;
	const struct packet *k = &packets[c->data[0]];
	struct ide_drive *v = i->drive;
	uint32_t limit = c->count;

	c->phase = PHASE_IDLE;
	c->pos = c->len = 0;
	c->dma = v->feature[0] & 1;
	/* Bytes a DRQ block: an even number unless it is the last (ATA-7 volume 2, 11.8). */
	c->chunk = MOBO_MAX(limit & ~1u, 2u);
	if (c->data[0] != 0x03) {
		v->sense_key = v->asc = v->ascq = 0;
	}
	if (v->attention && !(k->flags & NO_ATTENTION)) {
		uint8_t asc = v->attention;

		v->attention = 0;
		ide_atapi_fail(i, 0x6, asc, 0);
	} else if (!k->run) {
		ide_atapi_fail(i, 0x5, 0x20, 0);
	} else if ((k->flags & NEEDS_MEDIUM) && !ide_cd_ready(i)) {
		ide_atapi_fail(i, 0x2, 0x3a, v->tray_open ? 2 : 1);
	} else {
		k->run(i);
	}
}
