/* SPDX-License-Identifier: Apache-2.0 */
/* What the CD-ROM drive tells about itself and the medium (MMC-3, clause 6; SPC-2 for INQUIRY). */
#include <string.h>

#include "ide.h"

enum { CD_BLOCKS_MAX = 405000 }; /* 90 minutes; what is longer is a DVD */
enum { PROFILE_CD_ROM = 0x0008, PROFILE_DVD_ROM = 0x0010 };

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)(p[0] << 8 | p[1]);
}

bool ide_cd_is_dvd(const struct ide *i)
{
	return ide_cd_ready(i) && i->unit->n_blocks > CD_BLOCKS_MAX;
}

/* An address in a response: block number, or minute, second, frame. */
static void put_address(uint8_t *p, uint64_t lba, bool msf)
{
	uint32_t frame = (uint32_t)lba + 150;

	if (!msf) {
		put32(p, (uint32_t)lba);
		return;
	}
	p[0] = 0;
	p[1] = (uint8_t)(frame / 75 / 60);
	p[2] = (uint8_t)(frame / 75 % 60);
	p[3] = (uint8_t)(frame % 75);
}

static void put_padded(uint8_t *p, unsigned len, const char *text)
{
	size_t n = strlen(text);

	memset(p, ' ', len);
	memcpy(p, text, MOBO_MIN(n, len));
}

void ide_cd_inquiry(struct ide *i)
{
	uint8_t *p = i->c->data;
	unsigned allocated = get16(p + 3);

	if (p[1] & 1 || p[2]) { /* vital product data pages: none */
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	memset(p, 0, 36);
	p[0] = 5;    /* CD/DVD */
	p[1] = 0x80; /* removable */
	p[3] = 0x21; /* ATAPI response format */
	p[4] = 31;
	put_padded(p + 8, 8, "MOBO");
	put_padded(p + 16, 16, i->unit->model + (strncmp(i->unit->model, "MOBO ", 5) ? 0 : 5));
	put_padded(p + 32, 4, "1.0");
	ide_atapi_send(i, 36, allocated);
}

/* -- Mode pages -- */

static unsigned page_errors(uint8_t *p)
{
	static const uint8_t page[8] = {0x01, 6, 0, 5}; /* five retries */

	memcpy(p, page, sizeof(page));
	return sizeof(page);
}

static unsigned page_audio(uint8_t *p)
{
	static const uint8_t page[16] = {0x0e, 14, 0x04, 0, 0, 0, 0, 75, 1, 0xff, 2, 0xff};

	memcpy(p, page, sizeof(page));
	return sizeof(page);
}

static unsigned page_capabilities(const struct ide *i, uint8_t *p)
{
	memset(p, 0, 22);
	p[0] = 0x2a;
	p[1] = 20;
	p[2] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
	p[4] = 0x70; /* mode 2 forms 1 and 2, multi-session */
	p[6] = (uint8_t)(0x29 | (i->drive->locked ? 2 : 0)); /* tray, eject, lock */
	put16(p + 8, 706 * 4);				     /* maximum speed, kB/s */
	put16(p + 10, 2);
	put16(p + 12, 512); /* buffer, KiB */
	put16(p + 14, 706 * 4);
	return 22;
}

void ide_cd_mode_sense(struct ide *i, bool ten)
{
	uint8_t *p = i->c->data;
	unsigned page = p[2] & 0x3f, control = p[2] >> 6, len = ten ? 8 : 4;
	unsigned allocated = ten ? get16(p + 7) : p[4], header = len;
	uint8_t type = ide_cd_ready(i) ? 0x01 : i->drive->tray_open ? 0x71 : 0x70;

	if (control == 3) {
		ide_atapi_fail(i, 0x5, 0x39, 0); /* saving parameters not supported */
		return;
	}
	memset(p, 0, 64);
	if (page == 0x01 || page == 0x3f) {
		len += page_errors(p + len);
	}
	if (page == 0x0e || page == 0x3f) {
		len += page_audio(p + len);
	}
	if (page == 0x2a || page == 0x3f) {
		len += page_capabilities(i, p + len);
	}
	if (len == header) {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	if (ten) {
		put16(p, len - 2);
		p[2] = type;
	} else {
		p[0] = (uint8_t)(len - 1);
		p[1] = type;
	}
	ide_atapi_send(i, len, allocated);
}

/* -- Table of contents: one data track, one session -- */

static unsigned toc_tracks(const struct ide *i, uint8_t *p, unsigned start, bool msf)
{
	unsigned len = 4;

	p[2] = p[3] = 1;
	if (start <= 1) {
		p[len + 1] = 0x14; /* data track, address in the Q channel */
		p[len + 2] = 1;
		put_address(p + len + 4, 0, msf);
		len += 8;
	}
	p[len + 1] = 0x16;
	p[len + 2] = 0xaa;
	put_address(p + len + 4, i->unit->n_blocks, msf);
	return len + 8;
}

static unsigned toc_session(uint8_t *p, bool msf)
{
	p[2] = p[3] = 1;
	p[5] = 0x14;
	p[6] = 1;
	put_address(p + 8, 0, msf);
	return 12;
}

/* The lead-in's Q channel: points A0, A1, A2 and the track; always in minutes. */
static unsigned toc_full(const struct ide *i, uint8_t *p)
{
	static const uint8_t points[] = {0xa0, 0xa1, 0xa2, 0x01};
	unsigned len = 4;

	p[2] = p[3] = 1;
	for (unsigned k = 0; k < sizeof(points); k++, len += 11) {
		uint8_t *e = p + len, at[4];

		e[0] = 1;
		e[1] = 0x14;
		e[3] = points[k];
		if (points[k] == 0xa2 || points[k] == 1) {
			put_address(at, points[k] == 1 ? 0 : i->unit->n_blocks, true);
			memcpy(e + 8, at + 1, 3);
		} else {
			e[8] = 1; /* first and last track */
		}
	}
	return len;
}

void ide_cd_toc(struct ide *i)
{
	uint8_t *p = i->c->data;
	bool msf = p[1] & 2;
	unsigned format = p[2] & 0xf, start = p[6], allocated = get16(p + 7), len;

	if (format == 0) {
		format = p[9] >> 6;
	}
	memset(p, 0, 64);
	if (format == 0 && (start <= 1 || start == 0xaa)) {
		len = toc_tracks(i, p, start, msf);
	} else if (format == 1) {
		len = toc_session(p, msf);
	} else if (format == 2) {
		len = toc_full(i, p);
	} else {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	put16(p, len - 2);
	ide_atapi_send(i, len, allocated);
}

void ide_cd_capacity(struct ide *i)
{
	put32(i->c->data, (uint32_t)(i->unit->n_blocks - 1));
	put32(i->c->data + 4, IDE_CD_BLOCK);
	ide_atapi_send(i, 8, 8);
}

void ide_cd_format_capacities(struct ide *i)
{
	uint8_t *p = i->c->data;
	unsigned allocated = get16(p + 7);
	bool ready = ide_cd_ready(i);

	memset(p, 0, 12);
	p[3] = 8;
	put32(p + 4, ready ? (uint32_t)i->unit->n_blocks : 0);
	put32(p + 8, IDE_CD_BLOCK);
	p[8] = ready ? 2 : 3; /* formatted medium, no medium */
	ide_atapi_send(i, 12, allocated);
}

/* -- Features -- */

static unsigned put_feature(uint8_t *p, unsigned code, unsigned flags, unsigned len)
{
	put16(p, code);
	p[2] = (uint8_t)flags;
	p[3] = (uint8_t)len;
	return 4 + len;
}

/* One feature's descriptor at p: its length; 0: not one of ours. */
static unsigned describe(const struct ide *i, unsigned code, unsigned profile, uint8_t *p)
{
	bool dvd = profile == PROFILE_DVD_ROM, cd = profile == PROFILE_CD_ROM;

	switch (code) {
	case 0x0000: /* profiles */
		put16(p + 4, PROFILE_DVD_ROM);
		p[6] = dvd;
		put16(p + 8, PROFILE_CD_ROM);
		p[10] = cd;
		return put_feature(p, code, 0x03, 8);
	case 0x0001: /* core: ATAPI */ put32(p + 4, 2); return put_feature(p, code, 0x03, 4);
	case 0x0003: /* removable medium: tray, eject, lock */
		p[4] = 0x29;
		return put_feature(p, code, 0x03, 4);
	case 0x0010: /* random readable */
		put32(p + 4, IDE_CD_BLOCK);
		put16(p + 8, 1);
		return put_feature(p, code, cd || dvd, 8);
	case 0x001e: /* CD read */ return put_feature(p, code, cd, 4);
	case 0x001f: /* DVD read */ return put_feature(p, code, dvd, 0);
	case 0x0100: /* power management */
	case 0x0105: /* time-out */ return put_feature(p, code, 0x03, 0);
	default: return 0;
	}
}

void ide_cd_configuration(struct ide *i)
{
	static const uint16_t codes[] = {0x0000, 0x0001, 0x0003, 0x0010,
					 0x001e, 0x001f, 0x0100, 0x0105};
	uint8_t *p = i->c->data;
	unsigned which = p[1] & 3, start = get16(p + 2), allocated = get16(p + 7), len = 8;
	unsigned profile = !ide_cd_ready(i)   ? 0
			   : ide_cd_is_dvd(i) ? PROFILE_DVD_ROM
					      : PROFILE_CD_ROM;

	if (which == 3) {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	memset(p, 0, 256);
	put16(p + 6, profile);
	for (unsigned k = 0; k < MOBO_ARRAY_LEN(codes); k++) {
		unsigned n;

		if (which == 2 ? codes[k] != start : codes[k] < start) {
			continue;
		}
		n = describe(i, codes[k], profile, p + len);
		if (which == 1 && !(p[len + 2] & 1)) { /* current ones only */
			memset(p + len, 0, n);
			continue;
		}
		len += n;
	}
	put32(p, len - 4);
	ide_atapi_send(i, len, allocated);
}

/* -- Disc and track -- */

void ide_cd_disc_information(struct ide *i)
{
	uint8_t *p = i->c->data;
	unsigned allocated = get16(p + 7);

	if (p[1] & 7) {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	memset(p, 0, 34);
	put16(p, 32);
	p[2] = 0x0e;		       /* complete disc, complete last session */
	p[3] = p[4] = p[5] = p[6] = 1; /* first track, sessions, tracks of the last session */
	p[7] = 0x20;		       /* unrestricted use */
	memset(p + 16, 0xff, 8);
	ide_atapi_send(i, 34, allocated);
}

void ide_cd_track_information(struct ide *i)
{
	uint8_t *p = i->c->data;
	unsigned allocated = get16(p + 7);

	memset(p, 0, 36);
	put16(p, 34);
	p[2] = p[3] = 1; /* track, session */
	p[5] = 4;	 /* data, uninterrupted */
	p[6] = 1;	 /* mode 1 */
	put32(p + 24, (uint32_t)i->unit->n_blocks);
	ide_atapi_send(i, 36, allocated);
}

void ide_cd_mechanism(struct ide *i)
{
	uint8_t *p = i->c->data;
	unsigned allocated = get16(p + 8);

	memset(p, 0, 8);
	p[1] = i->drive->tray_open ? 0x10 : 0;
	ide_atapi_send(i, 8, allocated);
}

void ide_cd_subchannel(struct ide *i)
{
	uint8_t *p = i->c->data;
	bool msf = p[1] & 2, want = p[2] & 0x40;
	unsigned format = p[3], allocated = get16(p + 7), len = 4;

	if (want && (format < 1 || format > 3)) {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	memset(p, 0, 24);
	p[1] = 0x15; /* no audio status */
	if (want) {
		p[4] = (uint8_t)format;
		len = format == 1 ? 16 : 24;
		if (format == 1) {
			p[5] = 0x14;
			p[6] = p[7] = 1;
			put_address(p + 8, 0, msf);
			put_address(p + 12, 0, msf);
		}
	}
	put16(p + 2, len - 4);
	ide_atapi_send(i, len, allocated);
}

/* READ DVD STRUCTURE: physical format and copyright of a single-layer DVD-ROM. */
void ide_cd_dvd_structure(struct ide *i)
{
	uint8_t *p = i->c->data;
	unsigned format = p[7], layer = p[6], allocated = get16(p + 8), len;

	if (!ide_cd_is_dvd(i) || p[1] & 0xf) {
		ide_atapi_fail(i, 0x5, 0x30, 2); /* incompatible medium */
		return;
	}
	if (format > 1 || layer != 0) {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	len = format == 0 ? 2052 : 8;
	memset(p, 0, len);
	put16(p, len - 2);
	if (format == 0) {
		p[4] = 0x01;		/* DVD-ROM, part version 1 */
		p[5] = 0x0f;		/* 120 mm, maximum rate not specified */
		p[6] = 0x01;		/* one layer, embossed */
		put32(p + 8, 0x030000); /* first and last physical sector */
		put32(p + 12, (uint32_t)(0x030000 + i->unit->n_blocks - 1));
	}
	ide_atapi_send(i, len, allocated);
}
