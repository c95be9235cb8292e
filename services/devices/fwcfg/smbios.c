/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMBIOS 2.8 tables (DMTF DSP0134 2.8.0, chapters 5 and 7). The firmware copies them, sets the
 * table's address in the entry point and completes its two checksums.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blob.h"
#include "fwcfg.h"
#include "mobo/base.h"

enum {
	BIOS_INFORMATION = 0,
	SYSTEM_INFORMATION = 1,
	SYSTEM_ENCLOSURE = 3,
	PROCESSOR = 4,
	MEMORY_ARRAY = 16,
	MEMORY_DEVICE = 17,
	MEMORY_ARRAY_MAPPED_ADDRESS = 19,
	SYSTEM_BOOT = 32,
	END_OF_TABLE = 127,
};

#define DEVICE_MAX (16ull << 30) /* bytes of one memory device */

struct smbios {
	struct blob table;
	uint16_t n, longest;
	size_t start; /* of the structure being made */
	const char *strings[4];
	unsigned n_strings;
};

/* Handle: type in the high byte, number in the low one. */
static uint16_t handle(uint8_t type, unsigned n)
{
	return (uint16_t)(type << 8 | (n & 0xff));
}

static void begin(struct smbios *s, uint8_t type, unsigned n, uint8_t len)
{
	s->start = s->table.len;
	s->n_strings = 0;
	blob_u8(&s->table, type);
	blob_u8(&s->table, len);
	blob_u16(&s->table, handle(type, n));
}

/* A string of the structure: its number in the formatted part, or 0 for an empty one. */
static void string(struct smbios *s, const char *text)
{
	if (!*text || s->n_strings == MOBO_ARRAY_LEN(s->strings)) {
		blob_u8(&s->table, 0);
		return;
	}
	s->strings[s->n_strings++] = text;
	blob_u8(&s->table, (uint8_t)s->n_strings);
}

/* Strings follow the formatted part, each ended by a 0; one more 0 ends the structure. */
static void end(struct smbios *s)
{
	for (unsigned i = 0; i < s->n_strings; i++) {
		blob_put(&s->table, s->strings[i], strlen(s->strings[i]) + 1);
	}
	blob_zero(&s->table, s->n_strings ? 1 : 2);
	s->longest = (uint16_t)MOBO_MAX((size_t)s->longest, s->table.len - s->start);
	s->n++;
}

static void put_bios(struct smbios *s)
{
	begin(s, BIOS_INFORMATION, 0, 0x18);
	string(s, "Mobo");
	string(s, "1");
	blob_u16(&s->table, 0xe800); /* segment */
	string(s, "01/01/2026");
	blob_u8(&s->table, 0);		 /* 64 KiB */
	blob_u64(&s->table, 1 << 3);	 /* no characteristics given */
	blob_u16(&s->table, 0x1400 | 1); /* ACPI; virtual machine, targeted content */
	blob_u8(&s->table, 1);		 /* release */
	blob_u8(&s->table, 0);
	blob_u8(&s->table, 0xff); /* no embedded controller */
	blob_u8(&s->table, 0xff);
	end(s);
}

static void put_system(struct smbios *s, const struct fwcfg_machine *m)
{
	const uint8_t *u = m->uuid;

	begin(s, SYSTEM_INFORMATION, 0, 0x1b);
	string(s, m->manufacturer);
	string(s, m->product);
	string(s, m->version);
	string(s, m->serial);
	/* The first three fields of a UUID are little endian here (7.2.1). */
	blob_put(&s->table, (uint8_t[]){u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6]}, 8);
	blob_put(&s->table, u + 8, 8);
	blob_u8(&s->table, 6); /* wake-up: power switch */
	blob_u8(&s->table, 0); /* SKU */
	blob_u8(&s->table, 0); /* family */
	end(s);
}

static void put_enclosure(struct smbios *s, const struct fwcfg_machine *m)
{
	begin(s, SYSTEM_ENCLOSURE, 0, 0x16);
	string(s, m->manufacturer);
	blob_u8(&s->table, 1); /* type: other */
	string(s, m->version);
	string(s, m->serial);
	blob_u8(&s->table, 0);				 /* asset tag */
	blob_put(&s->table, (uint8_t[]){3, 3, 3, 2}, 4); /* states: safe; security unknown */
	blob_u32(&s->table, 0);
	blob_zero(&s->table, 5); /* height, cords, elements, SKU */
	end(s);
}

static void put_processor(struct smbios *s, unsigned n)
{
	char socket[16];

	snprintf(socket, sizeof(socket), "CPU %u", n);
	begin(s, PROCESSOR, n, 0x2a);
	string(s, socket);
	blob_u8(&s->table, 3); /* central processor */
	blob_u8(&s->table, 1); /* family: other */
	string(s, "Mobo");
	blob_u64(&s->table, 0); /* identifier */
	string(s, "1");
	blob_u8(&s->table, 0);	   /* voltage */
	blob_u16(&s->table, 0);	   /* external clock */
	blob_u16(&s->table, 2000); /* highest and current speed, MHz */
	blob_u16(&s->table, 2000);
	blob_u8(&s->table, 0x41); /* populated, enabled */
	blob_u8(&s->table, 1);	  /* upgrade: other */
	blob_put(&s->table, (uint8_t[]){0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 6); /* no caches */
	blob_zero(&s->table, 3);		      /* serial, asset tag, part number */
	blob_put(&s->table, (uint8_t[]){1, 1, 1}, 3); /* cores, enabled, threads */
	blob_u16(&s->table, 1 << 1);		      /* characteristics unknown */
	blob_u16(&s->table, 1);			      /* family 2 */
	end(s);
}

static void put_memory_array(struct smbios *s, const struct fwcfg_machine *m, unsigned n_devices)
{
	uint64_t kib = m->memory >> 10;
	bool extended = kib >= 0x80000000u;

	begin(s, MEMORY_ARRAY, 0, 0x17);
	blob_u8(&s->table, 1); /* location: other */
	blob_u8(&s->table, 3); /* system memory */
	blob_u8(&s->table, 6); /* multi-bit error correction */
	blob_u32(&s->table, extended ? 0x80000000u : (uint32_t)kib);
	blob_u16(&s->table, 0xfffe); /* no error information */
	blob_u16(&s->table, (uint16_t)n_devices);
	blob_u64(&s->table, extended ? m->memory : 0);
	end(s);
}

static void put_memory_device(struct smbios *s, unsigned n, uint64_t bytes)
{
	uint64_t mib = bytes >> 20;
	char locator[16];

	snprintf(locator, sizeof(locator), "DIMM %u", n);
	begin(s, MEMORY_DEVICE, n, 0x28);
	blob_u16(&s->table, handle(MEMORY_ARRAY, 0));
	blob_u16(&s->table, 0xfffe);
	blob_u16(&s->table, 0xffff); /* widths unknown */
	blob_u16(&s->table, 0xffff);
	blob_u16(&s->table, (uint16_t)mib); /* at most 16 GiB: fits */
	blob_u8(&s->table, 9);		    /* DIMM */
	blob_u8(&s->table, 0);		    /* no set */
	string(s, locator);
	blob_u8(&s->table, 0);	     /* bank */
	blob_u8(&s->table, 7);	     /* RAM */
	blob_u16(&s->table, 1 << 1); /* other */
	blob_u16(&s->table, 0);	     /* speed */
	string(s, "Mobo");
	blob_zero(&s->table, 3); /* serial, asset tag, part number */
	blob_u8(&s->table, 0);	 /* attributes */
	blob_u32(&s->table, 0);	 /* extended size */
	blob_u16(&s->table, 0);
	blob_zero(&s->table, 6); /* voltages unknown */
	end(s);
}

/* A range of addresses that the memory array answers to; addresses in KiB, the last one included.
 */
static void put_mapped_address(struct smbios *s, unsigned n, uint64_t start, uint64_t len)
{
	uint64_t last = start + len - 1;
	bool extended = last >> 10 >= 0xffffffffu;

	begin(s, MEMORY_ARRAY_MAPPED_ADDRESS, n, 0x1f);
	blob_u32(&s->table, extended ? 0xffffffffu : (uint32_t)(start >> 10));
	blob_u32(&s->table, extended ? 0xffffffffu : (uint32_t)(last >> 10));
	blob_u16(&s->table, handle(MEMORY_ARRAY, 0));
	blob_u8(&s->table, 1); /* partition width */
	blob_u64(&s->table, extended ? start : 0);
	blob_u64(&s->table, extended ? last : 0);
	end(s);
}

static void put_boot(struct smbios *s)
{
	begin(s, SYSTEM_BOOT, 0, 0x0b);
	blob_zero(&s->table, 6);
	blob_u8(&s->table, 0); /* no errors detected */
	end(s);
}

static void put_end(struct smbios *s)
{
	begin(s, END_OF_TABLE, 0, 4);
	end(s);
}

/* Entry point, checksums and address left to the firmware (5.2.1). */
static void put_anchor(struct blob *b, const struct smbios *s)
{
	blob_text(b, "_SM_", 4, 0);
	blob_u8(b, 0);
	blob_u8(b, 0x1f);
	blob_u8(b, 2);
	blob_u8(b, 8);
	blob_u16(b, s->longest);
	blob_zero(b, 6); /* entry point revision, formatted area */
	blob_text(b, "_DMI_", 5, 0);
	blob_u8(b, 0);
	blob_u16(b, (uint16_t)s->table.len);
	blob_u32(b, 0);
	blob_u16(b, s->n);
	blob_u8(b, 0x28);
}

int fwcfg_add_smbios(struct fwcfg *f, const struct fwcfg_machine *m)
{
	struct smbios s = {0};
	struct blob anchor = {0};
	uint64_t left = m->memory;
	/* Numbers of handles are a byte, the table's length two: 4 TiB of memory fill both. */
	unsigned n_devices =
		(unsigned)MOBO_MIN((m->memory + DEVICE_MAX - 1) / DEVICE_MAX, (uint64_t)0x100);
	int r = -ENOMEM;

	put_bios(&s);
	put_system(&s, m);
	put_enclosure(&s, m);
	for (unsigned i = 0; i < m->cpus; i++) {
		put_processor(&s, i);
	}
	put_memory_array(&s, m, n_devices);
	for (unsigned i = 0; i < n_devices; i++) {
		uint64_t bytes = MOBO_MIN(left, DEVICE_MAX);

		put_memory_device(&s, i, bytes);
		left -= bytes;
	}
	put_mapped_address(&s, 0, 0, m->low_memory);
	if (m->memory > m->low_memory) {
		put_mapped_address(&s, 1, 1ull << 32, m->memory - m->low_memory);
	}
	put_boot(&s);
	put_end(&s);
	put_anchor(&anchor, &s);
	if (!s.table.failed && !anchor.failed) {
		r = s.table.len > UINT16_MAX ? -E2BIG : 0;
		r = r ? r
		      : fwcfg_add_file(f, "etc/smbios/smbios-tables", s.table.data, -1,
				       s.table.len);
		r = r ? r
		      : fwcfg_add_file(f, "etc/smbios/smbios-anchor", anchor.data, -1, anchor.len);
	}
	blob_free(&s.table);
	blob_free(&anchor);
	return r;
}
