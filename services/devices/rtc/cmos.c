/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of the battery-backed RAM as firmware expects them: IBM PC AT Technical Reference
 * (1984), section 5, for the lower bytes; SeaBIOS, src/hw/rtc.h, for those that it takes from a
 * virtual machine.
 *
 * Configuration keys: memory, low-memory (bytes), cpus, boot (words or letters, in order: floppy a,
 * disk c, cdrom d, network n).
 */
#include <string.h>

#include "mobo/base.h"
#include "rtc.h"

enum {
	CMOS_FLOPPIES = 0x10,
	CMOS_EQUIPMENT = 0x14,
	CMOS_BASE_MEMORY = 0x15,     /* KiB */
	CMOS_EXTENDED_MEMORY = 0x17, /* KiB above 1 MiB */
	CMOS_CHECKED_FIRST = 0x10,
	CMOS_CHECKED_LAST = 0x2d,
	CMOS_CHECKSUM = 0x2e, /* high byte first */
	CMOS_EXTENDED_MEMORY2 = 0x30,
	CMOS_MEMORY_ABOVE_16M = 0x34, /* 64 KiB */
	CMOS_BOOT3 = 0x38, /* bits 7:4: third boot device; bit 0: floppies need no signature */
	CMOS_TRANSLATION = 0x39, /* two bits a disk */
	CMOS_BOOT12 = 0x3d,	 /* bits 3:0 first, 7:4 second boot device */
	CMOS_HIGH_MEMORY = 0x5b, /* 64 KiB above 4 GiB */
	CMOS_CPUS = 0x5f,	 /* less one */
};
enum { EQUIPMENT_FPU = 1 << 1, EQUIPMENT_MOUSE = 1 << 2, TRANSLATION_LBA = 0x55 };
enum { BOOT_FLOPPY = 1, BOOT_DISK, BOOT_CDROM, BOOT_NETWORK };

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

static void put_le(uint8_t *at, unsigned n, uint64_t v)
{
	for (unsigned i = 0; i < n; i++) {
		at[i] = (uint8_t)(v >> i * 8);
	}
}

static unsigned device_of_letter(char c)
{
	switch (c) {
	case 'a': return BOOT_FLOPPY;
	case 'c': return BOOT_DISK;
	case 'd': return BOOT_CDROM;
	case 'n': return BOOT_NETWORK;
	}
	return 0;
}

static unsigned device_of_word(const char *word, size_t n)
{
	static const struct {
		const char *word;
		unsigned device;
	} words[] = {{"floppy", BOOT_FLOPPY},
		     {"disk", BOOT_DISK},
		     {"cdrom", BOOT_CDROM},
		     {"cd", BOOT_CDROM},
		     {"network", BOOT_NETWORK}};

	for (size_t i = 0; i < MOBO_ARRAY_LEN(words); i++) {
		if (strlen(words[i].word) == n && !memcmp(words[i].word, word, n)) {
			return words[i].device;
		}
	}
	return 0;
}

/* The first three boot devices in order; 0 where there are fewer. */
static void parse_boot(const char *text, unsigned order[3])
{
	unsigned n = 0;

	while (*text && n < 3) {
		size_t len = strcspn(text, ", ");
		unsigned device = device_of_word(text, len);

		if (device) {
			order[n++] = device;
		}
		for (size_t i = 0; !device && i < len && n < 3; i++) {
			order[n] = device_of_letter(text[i]);
			n += order[n] != 0;
		}
		text += len;
		text += strspn(text, ", ");
	}
}

void rtc_fill_cmos(struct mobo_dev *d, uint8_t *ram)
{
	uint64_t memory = mobo_dev_config_u64(d, "memory", 128 * MIB);
	uint64_t low = mobo_dev_config_u64(d, "low-memory", MOBO_MIN(memory, 3584 * MIB));
	uint64_t cpus = mobo_dev_config_u64(d, "cpus", 1);
	uint64_t extended = low > MIB ? MOBO_MIN((low - MIB) / KIB, 65535ull) : 0;
	uint64_t above_16m = low > 16 * MIB ? MOBO_MIN((low - 16 * MIB) / (64 * KIB), 65535ull) : 0;
	unsigned order[3] = {0}, sum = 0;

	ram[CMOS_FLOPPIES] = 0;
	ram[CMOS_EQUIPMENT] = EQUIPMENT_FPU | EQUIPMENT_MOUSE;
	put_le(ram + CMOS_BASE_MEMORY, 2, 640);
	put_le(ram + CMOS_EXTENDED_MEMORY, 2, extended);
	for (unsigned i = CMOS_CHECKED_FIRST; i <= CMOS_CHECKED_LAST; i++) {
		sum += ram[i];
	}
	ram[CMOS_CHECKSUM] = (uint8_t)(sum >> 8);
	ram[CMOS_CHECKSUM + 1] = (uint8_t)sum;
	put_le(ram + CMOS_EXTENDED_MEMORY2, 2, extended);
	put_le(ram + CMOS_MEMORY_ABOVE_16M, 2, above_16m);
	put_le(ram + CMOS_HIGH_MEMORY, 3, memory > low ? (memory - low) / (64 * KIB) : 0);
	ram[CMOS_CPUS] = (uint8_t)(MOBO_MIN(MOBO_MAX(cpus, 1ull), 256ull) - 1);
	parse_boot(mobo_dev_config(d, "boot", "disk,cdrom,network"), order);
	ram[CMOS_BOOT12] = (uint8_t)(order[0] | order[1] << 4);
	ram[CMOS_BOOT3] = (uint8_t)(order[2] << 4 | 1);
	ram[CMOS_TRANSLATION] = TRANSLATION_LBA;
	ram[CMOS_TRANSLATION + 1] = TRANSLATION_LBA;
}
