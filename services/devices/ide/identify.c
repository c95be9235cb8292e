/* SPDX-License-Identifier: Apache-2.0 */
/* IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA/ATAPI-7 volume 1, 6.17 and 6.18). */
#include <string.h>

#include "ide.h"

static void put(uint8_t *p, unsigned word, unsigned val)
{
	p[word * 2] = (uint8_t)val;
	p[word * 2 + 1] = (uint8_t)(val >> 8);
}

/* Text, padded with blanks, the bytes of each word swapped. */
static void put_text(uint8_t *p, unsigned word, unsigned n_words, const char *text)
{
	size_t len = strlen(text);

	for (unsigned k = 0; k < n_words * 2; k++) {
		p[word * 2 + (k ^ 1)] = k < len ? (uint8_t)text[k] : ' ';
	}
}

void ide_checksum(uint8_t *p)
{
	uint8_t sum = 0;

	for (unsigned k = 0; k < 511; k++) {
		sum += p[k];
	}
	p[511] = (uint8_t)-sum;
}

/* Words 63 and 88: modes supported, and the one that is selected. */
static void put_modes(uint8_t *p, const struct ide_drive *v)
{
	uint8_t mode = v->transfer_mode;

	put(p, 63, 0x0007 | (mode >= 0x20 && mode <= 0x22 ? 0x100u << (mode & 7) : 0));
	put(p, 64, 0x0003); /* PIO modes 3 and 4 */
	for (unsigned word = 65; word <= 68; word++) {
		put(p, word, 120); /* cycle times, ns */
	}
	put(p, 88, 0x003f | (mode >= 0x40 && mode <= 0x45 ? 0x100u << (mode & 7) : 0));
}

static void put_geometry(uint8_t *p, const struct ide *i)
{
	uint64_t n = i->unit->n_blocks, cylinders = MOBO_MIN(n / (16 * 63), 16383ull), current;
	const struct ide_drive *v = i->drive;

	put(p, 1, (unsigned)MOBO_MAX(cylinders, 1ull));
	put(p, 3, 16);
	put(p, 6, 63);
	if (v->heads && v->sectors) {
		current = MOBO_MIN(n / (v->heads * v->sectors), 65535ull);
		put(p, 54, (unsigned)current);
		put(p, 55, v->heads);
		put(p, 56, v->sectors);
		current *= (uint64_t)v->heads * v->sectors;
		put(p, 57, (unsigned)current & 0xffff);
		put(p, 58, (unsigned)(current >> 16));
	}
}

void ide_identify(struct ide *i, uint8_t *p)
{
	const struct ide_drive *v = i->drive;
	uint64_t n = i->unit->n_blocks, n28 = MOBO_MIN(n, 0x0fffffffull);
	bool trim = i->unit->image && mobo_image_can_discard(i->unit->image);

	memset(p, 0, 512);
	put(p, 0, 0x0040); /* fixed drive */
	put_geometry(p, i);
	put_text(p, 10, 10, i->unit->serial);
	put_text(p, 23, 4, "1.0");
	put_text(p, 27, 20, i->unit->model);
	put(p, 47, 0x8000 | IDE_MULTIPLE_MAX);
	put(p, 48, 0x0001); /* 32-bit access to the data register */
	put(p, 49, 0x0f00); /* IORDY, LBA, DMA */
	put(p, 50, 0x4000);
	put(p, 51, 0x0200);
	put(p, 53, 0x0007); /* words 54-58, 64-70 and 88 are valid */
	put(p, 59, v->multiple ? 0x100u | v->multiple : 0);
	put(p, 60, (unsigned)n28 & 0xffff);
	put(p, 61, (unsigned)(n28 >> 16));
	put_modes(p, v);
	if (trim) {
		put(p, 69, 0x4000); /* trimmed sectors read as the same every time */
		put(p, 105, IDE_TRIM_BLOCKS);
		put(p, 169, 1);
	}
	put(p, 80, 0x00f0); /* ATA/ATAPI-4 to -7 */
	put(p, 81, 0x0016);
	put(p, 82, 0x0069 | 0x4000); /* SMART, power management, write cache, look-ahead; NOP */
	put(p, 83, 0x7400);	     /* FLUSH CACHE (EXT), 48-bit addresses */
	put(p, 84, 0x4040);	     /* WRITE DMA FUA EXT */
	put(p, 85,
	    0x4008u | (v->smart ? 1 : 0) | (v->write_cache ? 0x20 : 0) |
		    (v->look_ahead ? 0x40 : 0));
	put(p, 86, 0x3400);
	put(p, 87, 0x4040);
	put(p, 93, i->c->select & DEV_DEV ? 0x6300 : 0x600b); /* hardware reset result */
	for (unsigned k = 0; k < 4; k++) {
		put(p, 100 + k, (unsigned)(n >> (16 * k)) & 0xffff);
	}
	p[510] = 0xa5;
	ide_checksum(p);
}

void ide_identify_packet(struct ide *i, uint8_t *p)
{
	memset(p, 0, 512);
	put(p, 0, 0x8580); /* packet device, CD-ROM, removable, DRQ within 3 ms, 12-byte packets */
	put_text(p, 10, 10, i->unit->serial);
	put_text(p, 23, 4, "1.0");
	put_text(p, 27, 20, i->unit->model);
	put(p, 48, 0x0001);
	put(p, 49, 0x0f00);
	put(p, 50, 0x4000);
	put(p, 53, 0x0006);
	put_modes(p, i->drive);
	put(p, 71, 30); /* ns from PACKET to bus release, and from SERVICE: not used */
	put(p, 72, 30);
	put(p, 80, 0x00f0);
	put(p, 81, 0x0016);
	put(p, 82, 0x4218); /* NOP, DEVICE RESET, PACKET, power management */
	put(p, 83, 0x4000);
	put(p, 84, 0x4000);
	put(p, 85, 0x4218);
	put(p, 87, 0x4000);
	put(p, 93, i->c->select & DEV_DEV ? 0x6300 : 0x600b);
	p[510] = 0xa5;
	ide_checksum(p);
}
