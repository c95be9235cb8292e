/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware configuration device's own header: what its items are and who makes them.
 *
 *   machine.c  the configuration as numbers and strings; the plain items and the file directory
 *   acpi.c     ACPI tables, smbios.c SMBIOS tables, both on blob.c
 *   kernel.c   a Linux kernel and what belongs to it
 *   items.c    the table of items, and reading from it
 *   fwcfg.c    the chip: ports and DMA
 */
#ifndef FWCFG_H
#define FWCFG_H

#include "mobo/device.h"

/*
 * Item keys of the QEMU firmware configuration interface (QEMU, docs/specs/fw_cfg). A key without
 * an item reads as zeros, which says "none" for those that Mobo does not have (NUMA, old tables).
 */
enum {
	FWCFG_SIGNATURE = 0x00,
	FWCFG_ID = 0x01,
	FWCFG_UUID = 0x02,
	FWCFG_RAM_SIZE = 0x03,
	FWCFG_NOGRAPHIC = 0x04,
	FWCFG_NB_CPUS = 0x05,
	FWCFG_MACHINE_ID = 0x06,
	FWCFG_KERNEL_ADDR = 0x07,
	FWCFG_KERNEL_SIZE = 0x08,
	FWCFG_KERNEL_CMDLINE = 0x09,
	FWCFG_INITRD_ADDR = 0x0a,
	FWCFG_INITRD_SIZE = 0x0b,
	FWCFG_BOOT_DEVICE = 0x0c,
	FWCFG_NUMA = 0x0d,
	FWCFG_BOOT_MENU = 0x0e,
	FWCFG_MAX_CPUS = 0x0f,
	FWCFG_KERNEL_ENTRY = 0x10,
	FWCFG_KERNEL_DATA = 0x11,
	FWCFG_INITRD_DATA = 0x12,
	FWCFG_CMDLINE_ADDR = 0x13,
	FWCFG_CMDLINE_SIZE = 0x14,
	FWCFG_CMDLINE_DATA = 0x15,
	FWCFG_SETUP_ADDR = 0x16,
	FWCFG_SETUP_SIZE = 0x17,
	FWCFG_SETUP_DATA = 0x18,
	FWCFG_FILE_DIR = 0x19,
	FWCFG_FILE_FIRST = 0x20,

	FWCFG_ARCH = 0x8000, /* architecture-specific keys */
	FWCFG_IRQ0_OVERRIDE = FWCFG_ARCH + 2,
	FWCFG_E820_TABLE = FWCFG_ARCH + 3,
};

enum {
	FWCFG_FILE_NAME = 56, /* bytes of a file's name, the final 0 included */
	FWCFG_ITEMS = 96,
	FWCFG_EXTRA_FILES = 16, /* files given by configuration, "file0" ... */
	FWCFG_CPUS_MAX = 255,
};

/* What a key selects: bytes in memory, or a part of a file that is read as it is asked for. */
struct fwcfg_item {
	uint16_t key;
	char name[FWCFG_FILE_NAME]; /* "": not in the directory */
	uint8_t *data;		    /* owned */
	int fd;			    /* -1, or where the bytes are; libbus owns it */
	uint64_t fd_offset;
	uint32_t len;
};

struct fwcfg {
	struct fwcfg_item items[FWCFG_ITEMS];
	unsigned n_items;
	uint16_t next_file;
};

/* The machine as the configuration describes it. Strings live as long as the chip. */
struct fwcfg_machine {
	uint64_t memory, low_memory; /* bytes in all, and below 4 GiB */
	unsigned cpus;
	uint16_t pm_base; /* where the firmware puts the power management ports */
	unsigned serial_ports;
	bool i8042, hpet;
	const char *name, *manufacturer, *product, *version, *serial;
	uint8_t uuid[16]; /* in text order */
};

/* -- items.c: all return 0, -ENOMEM or -ENOSPC -- */
/* Adds bytes under a key; copies. An item of the same key is replaced. */
int fwcfg_add(struct fwcfg *f, uint16_t key, const void *data, size_t len);
int fwcfg_add_u16(struct fwcfg *f, uint16_t key, uint16_t val);
int fwcfg_add_u32(struct fwcfg *f, uint16_t key, uint32_t val);
int fwcfg_add_u64(struct fwcfg *f, uint16_t key, uint64_t val);
/* Adds a part of an open file under a key. */
int fwcfg_add_fd(struct fwcfg *f, uint16_t key, int fd, uint64_t offset, uint32_t len);
/* Adds a named file, from memory or (data NULL) from all of fd; its key is the next free one. */
int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, int fd, size_t len);
/* Makes the directory out of the named files; the last step. */
int fwcfg_add_directory(struct fwcfg *f);
/* The item of a key, or NULL. */
const struct fwcfg_item *fwcfg_find(const struct fwcfg *f, uint16_t key);
/*
 * Copies len bytes from offset on; zeros beyond the item's end (or for item NULL). false: the file
 * behind it could not be read, the rest is zeros.
 */
bool fwcfg_item_read(const struct fwcfg_item *it, uint64_t offset, void *buf, size_t len);
void fwcfg_items_free(struct fwcfg *f);

/* -- Makers: 0 or -errno, having said what is wrong with mobo_dev_error() -- */
int fwcfg_machine_read(struct mobo_dev *d, struct fwcfg_machine *m);
int fwcfg_add_machine(struct mobo_dev *d, struct fwcfg *f, const struct fwcfg_machine *m);
int fwcfg_add_acpi(struct fwcfg *f, const struct fwcfg_machine *m);
int fwcfg_add_smbios(struct fwcfg *f, const struct fwcfg_machine *m);
/* Adds kernel, initial RAM disk and command line when there is an fd "kernel". */
int fwcfg_add_kernel(struct mobo_dev *d, struct fwcfg *f, const struct fwcfg_machine *m);

/* Built with the chip: ACPI machine language of dsdt.asl, option ROM of linuxboot.S. */
extern const uint8_t fwcfg_dsdt[];
extern const size_t fwcfg_dsdt_len;
extern const uint8_t fwcfg_linuxboot[];
extern const size_t fwcfg_linuxboot_len;

extern const struct mobo_chip_class mobo_chip_fwcfg;

#endif
