/* SPDX-License-Identifier: Apache-2.0 */
/* Reading blocks of a CD or DVD (MMC-3: READ, READ CD). */
#include <string.h>

#include "ide.h"

static void begin_read(struct ide *i, uint64_t lba, uint32_t n, enum ide_op op)
{
	struct ide_channel *c = i->c;

	if (n == 0) {
		ide_done(i);
		return;
	}
	if (lba >= i->unit->n_blocks || n > i->unit->n_blocks - lba) {
		ide_atapi_fail(i, 0x5, 0x21, 0); /* logical block address out of range */
		return;
	}
	c->op = op;
	c->lba = lba;
	c->count = n;
	ide_begin(i);
}

void ide_cd_read(struct ide *i, uint64_t lba, uint32_t n)
{
	begin_read(i, lba, n, OP_CD_READ);
}

static uint64_t msf_to_lba(const uint8_t *p)
{
	uint64_t frames = (p[0] * 60ull + p[1]) * 75 + p[2];

	return frames < 150 ? UINT64_MAX : frames - 150;
}

void ide_cd_read_cd(struct ide *i)
{
	const uint8_t *p = i->c->data;
	uint64_t lba = (uint64_t)p[2] << 24 | (uint64_t)p[3] << 16 | (uint64_t)p[4] << 8 | p[5],
		 end;
	uint32_t n = (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8];
	uint8_t parts = p[9] & 0xf8, subchannel = p[10] & 7, type = p[1] >> 2 & 7;

	if (p[0] == 0xb9) {
		lba = msf_to_lba(p + 3);
		end = msf_to_lba(p + 6);
		if (lba == UINT64_MAX || end == UINT64_MAX || end < lba) {
			ide_atapi_fail(i, 0x5, 0x24, 0);
			return;
		}
		n = (uint32_t)(end - lba);
	}
	if (n == 0 || parts == 0) {
		ide_done(i);
		return;
	}
	/* User data alone, or everything; any type or mode 1; no subchannels. */
	if ((parts != 0x10 && parts != 0xf8) || subchannel != 0) {
		ide_atapi_fail(i, 0x5, 0x24, 0);
		return;
	}
	if (type != 0 && type != 2) {
		ide_atapi_fail(i, 0x5, 0x64, 0); /* illegal mode for this track */
		return;
	}
	begin_read(i, lba, n, parts == 0x10 ? OP_CD_READ : OP_CD_READ_RAW);
}

static uint8_t bcd(unsigned v)
{
	return (uint8_t)(v / 10 << 4 | v % 10);
}

/* Error detection code of ECMA-130, 14.3: over sync, header and data; reflected polynomial. */
static uint32_t edc(const uint8_t *p, unsigned len)
{
	uint32_t crc = 0;

	while (len--) {
		crc ^= *p++;
		for (unsigned k = 0; k < 8; k++) {
			crc = crc >> 1 ^ (crc & 1 ? 0xd8018001u : 0);
		}
	}
	return crc;
}

/* Whole mode 1 sectors around n blocks of data, into the channel's data. ECC bytes are zeros. */
void ide_cd_make_raw(struct ide *i, const uint8_t *blocks, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		uint8_t *p = i->c->data + k * IDE_CD_RAW;
		uint32_t frame = (uint32_t)(i->c->lba + k + 150), code;

		memset(p, 0, IDE_CD_RAW);
		memset(p + 1, 0xff, 10);
		p[12] = bcd(frame / 75 / 60 % 100);
		p[13] = bcd(frame / 75 % 60);
		p[14] = bcd(frame % 75);
		p[15] = 1;
		memcpy(p + 16, blocks + k * IDE_CD_BLOCK, IDE_CD_BLOCK);
		code = edc(p, 2064);
		memcpy(p + 2064, &code, 4);
	}
}
