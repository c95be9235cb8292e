/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 3.0, chapters 5 and 15; IA-PC HPET 1.0a, 3.2.4; Microsoft WAET), and the script
 * by which the firmware places them: it allocates memory for the two files, adds the address of a
 * file to each pointer in it, and completes the checksums (etc/table-loader of fw_cfg).
 *
 * What depends on the machine's size is in an SSDT made here; all else is in dsdt.asl.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "blob.h"
#include "fwcfg.h"

#define FILE_TABLES "etc/acpi/tables"
#define FILE_RSDP   "etc/acpi/rsdp"

/* Physical addresses and interrupts that the tables tell of. */
enum {
	LAPIC_BASE = 0xfee00000,
	IOAPIC_BASE = 0xfec00000,
	HPET_BASE = 0xfed00000,
	SCI_IRQ = 9,
	APM_PORT = 0xb2,
	APM_ACPI_ENABLE = 0xf1,
	APM_ACPI_DISABLE = 0xf0,
	RESET_PORT = 0xcf9,
	RESET_VALUE = 0x06,
	CMOS_CENTURY = 0x32,
};
#define HPET_ID 0x8086a201u /* Intel, legacy replacement, 64 bits, 3 comparators, revision 1 */

/* Offsets into a table's header. */
enum { HEADER_LEN_AT = 4, HEADER_CHECKSUM_AT = 9, HEADER_LEN = 36 };

/* FADT feature flags and boot architecture flags (ACPI 3.0, tables 5-10 and 5-11). */
enum {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_NO_SLP_BUTTON = 1 << 5,
	FADT_NO_FIXED_RTC = 1 << 6,
	FADT_RESET_REG = 1 << 10,
	FADT_PLATFORM_CLOCK = 1 << 15,
	BOOT_LEGACY_DEVICES = 1 << 0,
	BOOT_8042 = 1 << 1,
};

/* Bits of HWCF, which dsdt.asl looks at. */
enum { HWCF_COM1 = 1 << 0, HWCF_COM2 = 1 << 1, HWCF_I8042 = 1 << 2, HWCF_HPET = 1 << 3 };

/* Loader commands: 128 bytes each. */
enum { CMD_ALLOCATE = 1, CMD_ADD_POINTER = 2, CMD_ADD_CHECKSUM = 3, CMD_LEN = 128 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct acpi {
	struct blob tables, rsdp, script;
	const struct fwcfg_machine *m;
	size_t listed[12]; /* tables that the root tables point to */
	unsigned n_listed;
};

/* -- The loader's script -- */

static void script_allocate(struct acpi *a, const char *file, uint32_t align, uint8_t zone)
{
	blob_u32(&a->script, CMD_ALLOCATE);
	blob_text(&a->script, file, FWCFG_FILE_NAME, 0);
	blob_u32(&a->script, align);
	blob_u8(&a->script, zone);
	blob_align(&a->script, CMD_LEN);
}

/* The pointer at `at` of `file` holds an offset into the tables: add their address. */
static void script_pointer(struct acpi *a, const char *file, size_t at, uint8_t size)
{
	blob_u32(&a->script, CMD_ADD_POINTER);
	blob_text(&a->script, file, FWCFG_FILE_NAME, 0);
	blob_text(&a->script, FILE_TABLES, FWCFG_FILE_NAME, 0);
	blob_u32(&a->script, (uint32_t)at);
	blob_u8(&a->script, size);
	blob_align(&a->script, CMD_LEN);
}

static void script_checksum(struct acpi *a, const char *file, size_t at, size_t start, size_t len)
{
	blob_u32(&a->script, CMD_ADD_CHECKSUM);
	blob_text(&a->script, file, FWCFG_FILE_NAME, 0);
	blob_u32(&a->script, (uint32_t)at);
	blob_u32(&a->script, (uint32_t)start);
	blob_u32(&a->script, (uint32_t)len);
	blob_align(&a->script, CMD_LEN);
}

/* -- Pieces of tables -- */

static size_t table_begin(struct acpi *a, const char *signature, uint8_t revision)
{
	size_t at;

	blob_align(&a->tables, 8);
	at = a->tables.len;
	blob_text(&a->tables, signature, 4, 0);
	blob_u32(&a->tables, 0); /* length: table_end() */
	blob_u8(&a->tables, revision);
	blob_u8(&a->tables, 0); /* checksum */
	blob_text(&a->tables, "MOBO", 6, ' ');
	blob_text(&a->tables, "MOBOPC", 8, ' ');
	blob_u32(&a->tables, 1);
	blob_text(&a->tables, "MOBO", 4, ' ');
	blob_u32(&a->tables, 1);
	return at;
}

/* Pointers in the table must be in the script already: they change its sum. */
static void table_end(struct acpi *a, size_t at, bool listed)
{
	uint32_t len = (uint32_t)(a->tables.len - at);

	blob_set(&a->tables, at + HEADER_LEN_AT, &len, sizeof(len));
	script_checksum(a, FILE_TABLES, at + HEADER_CHECKSUM_AT, at, len);
	if (listed) {
		a->listed[a->n_listed++] = at;
	}
}

static void put_pointer(struct acpi *a, size_t to, uint8_t size)
{
	script_pointer(a, FILE_TABLES, a->tables.len, size);
	blob_put(&a->tables, &(uint64_t){to}, size);
}

/* Generic address structure of an I/O port range (ACPI 3.0, 5.2.3.1). */
static void put_gas_io(struct acpi *a, uint8_t bits, uint64_t port)
{
	blob_u8(&a->tables, port ? 1 : 0);
	blob_u8(&a->tables, bits);
	blob_u8(&a->tables, 0);
	blob_u8(&a->tables, 0);
	blob_u64(&a->tables, port);
}

/* -- The tables -- */

static size_t put_facs(struct acpi *a)
{
	size_t at;

	blob_align(&a->tables, 64);
	at = a->tables.len;
	blob_text(&a->tables, "FACS", 4, 0);
	blob_u32(&a->tables, 64);
	blob_zero(&a->tables, 24); /* signature, waking vectors, global lock, flags */
	blob_u8(&a->tables, 1);
	blob_zero(&a->tables, 31);
	return at;
}

static size_t put_dsdt(struct acpi *a)
{
	size_t at;

	blob_align(&a->tables, 8);
	at = a->tables.len;
	blob_put(&a->tables, fwcfg_dsdt, fwcfg_dsdt_len);
	/* iasl left the sum right, and nothing in it changes. */
	return at;
}

static void put_fadt(struct acpi *a, size_t facs, size_t dsdt)
{
	const struct fwcfg_machine *m = a->m;
	struct blob *b = &a->tables;
	size_t at = table_begin(a, "FACP", 3);

	put_pointer(a, facs, 4);
	put_pointer(a, dsdt, 4);
	blob_u8(b, 0); /* reserved */
	blob_u8(b, 1); /* profile: desktop */
	blob_u16(b, SCI_IRQ);
	blob_u32(b, APM_PORT);
	blob_u8(b, APM_ACPI_ENABLE);
	blob_u8(b, APM_ACPI_DISABLE);
	blob_zero(b, 2);	 /* S4BIOS_REQ, PSTATE_CNT */
	blob_u32(b, m->pm_base); /* PM1a_EVT_BLK */
	blob_u32(b, 0);
	blob_u32(b, m->pm_base + 4u); /* PM1a_CNT_BLK */
	blob_u32(b, 0);
	blob_u32(b, 0);		       /* PM2_CNT_BLK */
	blob_u32(b, m->pm_base + 8u);  /* PM_TMR_BLK */
	blob_u32(b, m->pm_base + 12u); /* GPE0_BLK */
	blob_u32(b, 0);
	blob_put(b, (uint8_t[]){4, 2, 0, 4, 4, 0, 0, 0}, 8); /* lengths; GPE1_BASE, CST_CNT */
	blob_u16(b, 0x0fff);				     /* C2 and C3: not supported */
	blob_u16(b, 0x0fff);
	blob_zero(b, 4); /* FLUSH_SIZE, FLUSH_STRIDE */
	blob_zero(b, 4); /* DUTY_*, DAY_ALRM, MON_ALRM */
	blob_u8(b, CMOS_CENTURY);
	blob_u16(b, (uint16_t)(BOOT_LEGACY_DEVICES | (m->i8042 ? BOOT_8042 : 0)));
	blob_u8(b, 0);
	blob_u32(b, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLP_BUTTON | FADT_NO_FIXED_RTC |
			    FADT_RESET_REG | FADT_PLATFORM_CLOCK);
	put_gas_io(a, 8, RESET_PORT);
	blob_u8(b, RESET_VALUE);
	blob_zero(b, 3);
	blob_u64(b, 0); /* X_FIRMWARE_CTRL: the 32-bit one counts */
	put_pointer(a, dsdt, 8);
	put_gas_io(a, 32, m->pm_base);
	put_gas_io(a, 0, 0);
	put_gas_io(a, 16, m->pm_base + 4u);
	put_gas_io(a, 0, 0);
	put_gas_io(a, 0, 0);
	put_gas_io(a, 32, m->pm_base + 8u);
	put_gas_io(a, 32, m->pm_base + 12u);
	put_gas_io(a, 0, 0);
	table_end(a, at, true);
}

static void put_interrupt_override(struct acpi *a, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	blob_u8(&a->tables, 2);
	blob_u8(&a->tables, 10);
	blob_u8(&a->tables, 0); /* ISA */
	blob_u8(&a->tables, irq);
	blob_u32(&a->tables, gsi);
	blob_u16(&a->tables, flags);
}

static void put_madt(struct acpi *a)
{
	/* Those that the PCI interrupts and the SCI use: level-triggered, active high (flags 0xd).
	 */
	static const uint8_t level[] = {5, 9, 10, 11};
	struct blob *b = &a->tables;
	size_t at = table_begin(a, "APIC", 1);

	blob_u32(b, LAPIC_BASE);
	blob_u32(b, 1); /* there are two 8259s also */
	for (unsigned i = 0; i < a->m->cpus; i++) {
		blob_put(b, (uint8_t[]){0, 8, (uint8_t)i, (uint8_t)i}, 4);
		blob_u32(b, 1); /* enabled */
	}
	/* The I/O APIC; inputs from 0 on. */
	blob_put(b, (uint8_t[]){1, 12, 0, 0}, 4);
	blob_u32(b, IOAPIC_BASE);
	blob_u32(b, 0);
	put_interrupt_override(a, 0, 2, 0);
	for (size_t i = 0; i < sizeof(level); i++) {
		put_interrupt_override(a, level[i], level[i], 0xd);
	}
	/* LINT1 of all CPUs is NMI. */
	blob_put(b, (uint8_t[]){4, 6, 0xff, 0, 0, 1}, 6);
	table_end(a, at, true);
}

static void put_hpet(struct acpi *a)
{
	struct blob *b = &a->tables;
	size_t at = table_begin(a, "HPET", 1);

	blob_u32(b, HPET_ID);
	blob_put(b, (uint8_t[]){0, 64, 0, 0}, 4);
	blob_u64(b, HPET_BASE);
	blob_u8(b, 0);	   /* number */
	blob_u16(b, 0x80); /* least ticks in periodic mode */
	blob_u8(b, 0);
	table_end(a, at, true);
}

static void put_waet(struct acpi *a)
{
	size_t at = table_begin(a, "WAET", 1);

	blob_u32(&a->tables, 1 << 1); /* one read of the PM timer is enough */
	table_end(a, at, true);
}

/* -- The SSDT: ACPI machine language (ACPI 3.0, chapter 17) -- */

enum { AML_NAME = 0x08, AML_SCOPE = 0x10, AML_DWORD = 0x0c, AML_EXT = 0x5b, AML_PROCESSOR = 0x83 };

/* A package length of two bytes: of what follows, itself included (17.2.4). */
static void put_pkg_length(struct blob *b, size_t content)
{
	size_t len = content + 2;

	blob_u8(b, (uint8_t)(0x40 | (len & 0xf)));
	blob_u8(b, (uint8_t)(len >> 4));
}

static void put_name_dword(struct blob *b, const char *name, uint32_t val)
{
	blob_u8(b, AML_NAME);
	blob_text(b, name, 4, '_');
	blob_u8(b, AML_DWORD);
	blob_u32(b, val);
}

static void put_ssdt(struct acpi *a)
{
	const struct fwcfg_machine *m = a->m;
	struct blob *b = &a->tables;
	size_t at = table_begin(a, "SSDT", 1);
	char name[8];

	put_name_dword(b, "LOWM", (uint32_t)m->low_memory);
	put_name_dword(b, "HWCF",
		       (m->serial_ports > 0 ? HWCF_COM1 : 0) |
			       (m->serial_ports > 1 ? HWCF_COM2 : 0) | (m->i8042 ? HWCF_I8042 : 0) |
			       (m->hpet ? HWCF_HPET : 0));
	/* Scope (\_SB) { Processor (C000, 0, 0, 0) {} ... }: 14 bytes each. */
	enum { PROCESSOR_LEN = 14, PROCESSOR_CONTENT = 10 };
	_Static_assert(5 + FWCFG_CPUS_MAX * PROCESSOR_LEN + 2 < 4096, "two-byte package length");
	blob_u8(b, AML_SCOPE);
	put_pkg_length(b, 5 + m->cpus * PROCESSOR_LEN);
	blob_put(b, "\\_SB_", 5);
	for (unsigned i = 0; i < m->cpus; i++) {
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		blob_u8(b, AML_EXT);
		blob_u8(b, AML_PROCESSOR);
		put_pkg_length(b, PROCESSOR_CONTENT);
		blob_put(b, name, 4);
		blob_u8(b, (uint8_t)i);
		blob_u32(b, 0); /* no P_BLK */
		blob_u8(b, 0);
	}
	table_end(a, at, true);
}

/* RSDT (pointers of 4 bytes) or XSDT (8 bytes). */
static size_t put_root(struct acpi *a, const char *signature, uint8_t pointer_size)
{
	size_t at = table_begin(a, signature, 1);

	for (unsigned i = 0; i < a->n_listed; i++) {
		put_pointer(a, a->listed[i], pointer_size);
	}
	table_end(a, at, false);
	return at;
}

/* Root system description pointer (ACPI 3.0, 5.2.5.3). */
static void put_rsdp(struct acpi *a, size_t rsdt, size_t xsdt)
{
	enum {
		CHECKSUM_AT = 8,
		RSDT_AT = 16,
		LEN_V1 = 20,
		XSDT_AT = 24,
		CHECKSUM2_AT = 32,
		LEN = 36
	};
	struct blob *b = &a->rsdp;

	blob_text(b, "RSD PTR ", 8, 0);
	blob_u8(b, 0);
	blob_text(b, "MOBO", 6, ' ');
	blob_u8(b, 2);
	blob_u32(b, (uint32_t)rsdt);
	blob_u32(b, LEN);
	blob_u64(b, xsdt);
	blob_zero(b, 4);
	script_pointer(a, FILE_RSDP, RSDT_AT, 4);
	script_pointer(a, FILE_RSDP, XSDT_AT, 8);
	script_checksum(a, FILE_RSDP, CHECKSUM_AT, 0, LEN_V1);
	script_checksum(a, FILE_RSDP, CHECKSUM2_AT, 0, LEN);
}

int fwcfg_add_acpi(struct fwcfg *f, const struct fwcfg_machine *m)
{
	struct acpi a = {.m = m};
	size_t facs, dsdt, rsdt, xsdt;
	int r = -ENOMEM;

	script_allocate(&a, FILE_RSDP, 16, ZONE_FSEG);
	script_allocate(&a, FILE_TABLES, 64, ZONE_HIGH);
	facs = put_facs(&a);
	dsdt = put_dsdt(&a);
	put_fadt(&a, facs, dsdt);
	put_madt(&a);
	put_ssdt(&a);
	if (m->hpet) {
		put_hpet(&a);
	}
	put_waet(&a);
	rsdt = put_root(&a, "RSDT", 4);
	xsdt = put_root(&a, "XSDT", 8);
	put_rsdp(&a, rsdt, xsdt);
	if (!a.tables.failed && !a.rsdp.failed && !a.script.failed) {
		r = fwcfg_add_file(f, FILE_TABLES, a.tables.data, -1, a.tables.len);
		r = r ? r : fwcfg_add_file(f, FILE_RSDP, a.rsdp.data, -1, a.rsdp.len);
		r = r ? r : fwcfg_add_file(f, "etc/table-loader", a.script.data, -1, a.script.len);
	}
	blob_free(&a.tables);
	blob_free(&a.rsdp);
	blob_free(&a.script);
	return r;
}
