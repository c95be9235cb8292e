/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the configuration says about the machine, and the items that are plain numbers or strings.
 *
 * Configuration keys: memory, low-memory, cpus, pm-base, serial-ports, i8042, hpet, name, uuid,
 * manufacturer, product, version, serial, boot-menu, boot-menu-wait, bootorder, serial-console,
 * file0 ... file15 (the name under which the guest sees the fd of that name).
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fwcfg.h"
#include "mobo/base.h"

#define LOW_MEMORY_MAX 0xe0000000ull /* PCI memory begins here */
#define HIGH_MEMORY    0x100000000ull

/* Version bits of FWCFG_ID. */
enum { ID_TRADITIONAL = 1 << 0, ID_DMA = 1 << 1 };

/* An entry of etc/e820. */
struct e820_entry {
	uint64_t address, length;
	uint32_t type;
} __attribute__((packed));
enum { E820_RAM = 1 };

/* 32 hexadecimal digits with dashes between; 0 or -EINVAL. */
static int parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned n = 0;

	for (; *text; text++) {
		unsigned digit;

		if (*text == '-') {
			continue;
		}
		if (!isxdigit((unsigned char)*text) || n == 32) {
			return -EINVAL;
		}
		digit = isdigit((unsigned char)*text)
				? (unsigned)(*text - '0')
				: (unsigned)(tolower((unsigned char)*text) - 'a' + 10);
		uuid[n / 2] = (uint8_t)(uuid[n / 2] << 4 | digit);
		n++;
	}
	return n == 32 ? 0 : -EINVAL;
}

int fwcfg_machine_read(struct mobo_dev *d, struct fwcfg_machine *m)
{
	const char *uuid = mobo_dev_config(d, "uuid", "");
	uint64_t cpus = mobo_dev_config_u64(d, "cpus", 1);

	*m = (struct fwcfg_machine){
		.memory = mobo_dev_config_u64(d, "memory", 128 << 20),
		.pm_base = (uint16_t)mobo_dev_config_u64(d, "pm-base", 0x600),
		.serial_ports = (unsigned)mobo_dev_config_u64(d, "serial-ports", 1),
		.i8042 = mobo_dev_config_u64(d, "i8042", 1),
		.hpet = mobo_dev_config_u64(d, "hpet", 1),
		.name = mobo_dev_config(d, "name", "mobo"),
		.manufacturer = mobo_dev_config(d, "manufacturer", "Mobo"),
		.product = mobo_dev_config(d, "product", "PC (i440FX + PIIX3)"),
		.version = mobo_dev_config(d, "version", "1"),
		.serial = mobo_dev_config(d, "serial", ""),
	};
	m->low_memory = mobo_dev_config_u64(d, "low-memory", MOBO_MIN(m->memory, LOW_MEMORY_MAX));
	if (m->low_memory > m->memory || m->low_memory > LOW_MEMORY_MAX ||
	    m->low_memory < 1 << 20) {
		mobo_dev_error(
			d,
			"memory below 4 GiB (%llu bytes) must be 1 MiB to 3.5 GiB and not more "
			"than all memory",
			(unsigned long long)m->low_memory);
		return -EINVAL;
	}
	if (cpus < 1 || cpus > FWCFG_CPUS_MAX) {
		mobo_dev_error(d, "%llu CPUs: 1 to %d are possible", (unsigned long long)cpus,
			       FWCFG_CPUS_MAX);
		return -EINVAL;
	}
	m->cpus = (unsigned)cpus;
	if (*uuid && parse_uuid(uuid, m->uuid)) {
		mobo_dev_error(d, "\"%s\" is not a UUID", uuid);
		return -EINVAL;
	}
	return 0;
}

static int add_e820(struct fwcfg *f, const struct fwcfg_machine *m)
{
	struct e820_entry e[2] = {
		{0, m->low_memory, E820_RAM},
		{HIGH_MEMORY, m->memory - m->low_memory, E820_RAM},
	};

	return fwcfg_add_file(f, "etc/e820", e, -1, sizeof(e[0]) * (e[1].length ? 2 : 1));
}

/*
 * The boot order: device paths, a line each, ended by a 0 (SeaBIOS, docs/Runtime_config). In the
 * configuration a semicolon may stand for the line's end. A kernel comes before everything else.
 */
static int add_bootorder(struct mobo_dev *d, struct fwcfg *f)
{
	const char *order = mobo_dev_config(d, "bootorder", "");
	const char *kernel = mobo_dev_fd(d, "kernel") >= 0 ? "/rom@genroms/linuxboot.bin" : "";
	char *text;
	int n, r;

	if (!*order && !*kernel) {
		return 0;
	}
	n = asprintf(&text, "%s%s%s", kernel, *order && *kernel ? "\n" : "", order);
	if (n < 0) {
		return -ENOMEM;
	}
	for (char *p = text; *p; p++) {
		if (*p == ';') {
			*p = '\n';
		}
	}
	r = fwcfg_add_file(f, "bootorder", text, -1, (size_t)n + 1);
	free(text);
	return r;
}

static int add_boot_menu(struct mobo_dev *d, struct fwcfg *f)
{
	uint16_t menu = mobo_dev_config_u64(d, "boot-menu", 0) != 0;
	uint64_t wait = mobo_dev_config_u64(d, "boot-menu-wait", UINT64_MAX);
	uint16_t wait_ms = (uint16_t)MOBO_MIN(wait, (uint64_t)UINT16_MAX);
	int r = fwcfg_add_u16(f, FWCFG_BOOT_MENU, menu);

	if (!r && wait != UINT64_MAX) {
		r = fwcfg_add_file(f, "etc/boot-menu-wait", &wait_ms, -1, sizeof(wait_ms));
	}
	return r;
}

static int add_extra_files(struct mobo_dev *d, struct fwcfg *f)
{
	char key[16];
	struct stat st;
	const char *name;
	int fd, r;

	for (unsigned i = 0; i < FWCFG_EXTRA_FILES; i++) {
		snprintf(key, sizeof(key), "file%u", i);
		name = mobo_dev_config(d, key, NULL);
		fd = mobo_dev_fd(d, key);
		if (!name || fd < 0) {
			continue;
		}
		if (fstat(fd, &st)) {
			return -errno;
		}
		if (st.st_size > UINT32_MAX || strlen(name) >= FWCFG_FILE_NAME) {
			mobo_dev_error(
				d, "file \"%s\" is longer than 4 GiB, or its name than %d bytes",
				name, FWCFG_FILE_NAME - 1);
			return -EINVAL;
		}
		r = fwcfg_add_file(f, name, NULL, fd, (size_t)st.st_size);
		if (r) {
			return r;
		}
	}
	return 0;
}

int fwcfg_add_machine(struct mobo_dev *d, struct fwcfg *f, const struct fwcfg_machine *m)
{
	/* S0 and S5 work; S3 (type 1) and S4 (type 2) are not offered. Bit 7: available. */
	static const uint8_t sleep_states[6] = {0x80, 0, 0, 1, 2, 0x80};
	uint16_t headless = mobo_dev_config_u64(d, "serial-console", 0) != 0;
	int r;

	r = fwcfg_add(f, FWCFG_SIGNATURE, "QEMU", 4);
	r = r ? r : fwcfg_add_u32(f, FWCFG_ID, ID_TRADITIONAL | ID_DMA);
	r = r ? r : fwcfg_add(f, FWCFG_UUID, m->uuid, sizeof(m->uuid));
	r = r ? r : fwcfg_add_u64(f, FWCFG_RAM_SIZE, m->memory);
	r = r ? r : fwcfg_add_u16(f, FWCFG_NOGRAPHIC, headless);
	r = r ? r : fwcfg_add_u16(f, FWCFG_NB_CPUS, (uint16_t)m->cpus);
	r = r ? r : fwcfg_add_u16(f, FWCFG_MAX_CPUS, (uint16_t)m->cpus);
	r = r ? r : fwcfg_add_u16(f, FWCFG_BOOT_DEVICE, 'c');
	/* IRQ 0 arrives at input 2 of the I/O APIC. */
	r = r ? r : fwcfg_add_u32(f, FWCFG_IRQ0_OVERRIDE, 1);
	r = r ? r : fwcfg_add_file(f, "etc/system-states", sleep_states, -1, sizeof(sleep_states));
	r = r ? r : add_e820(f, m);
	r = r ? r : add_boot_menu(d, f);
	r = r ? r : add_bootorder(d, f);
	return r ? r : add_extra_files(d, f);
}
