/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firmware configuration. The test does what firmware does: reads the directory, runs the loader's
 * script, and looks at what comes out. Expected values: QEMU docs/specs/fw_cfg, ACPI 3.0, SMBIOS
 * 2.8, Linux Documentation/arch/x86/boot.rst.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_fwcfg;

enum { REGION_PORTS };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
enum { RAM_SIZE = 4 << 20, DESCRIPTOR = 0x1000, BUFFER = 0x2000 };

static uint32_t be32(uint32_t v)
{
	return __builtin_bswap32(v);
}

static void read_port(struct mobo_test_board *b, uint16_t key, void *buf, unsigned n)
{
	mobo_test_outw(b, 0x510, key);
	mobo_test_read_string(b, REGION_PORTS, 1, 1, buf, n);
}

static uint32_t run_dma(struct mobo_test_board *b, uint32_t control, uint32_t len, uint64_t gpa)
{
	struct {
		uint32_t control, len;
		uint64_t gpa;
	} d = {be32(control), be32(len), __builtin_bswap64(gpa)};

	memcpy(mobo_test_ram(b) + DESCRIPTOR, &d, sizeof(d));
	mobo_test_outl(b, 0x518, be32(DESCRIPTOR));
	memcpy(&d, mobo_test_ram(b) + DESCRIPTOR, sizeof(d));
	return be32(d.control);
}

/* A named file's bytes, in malloc'ed memory; fails the test when there is none. */
static uint8_t *read_file(struct mobo_test_board *b, const char *name, uint32_t *len)
{
	struct {
		uint32_t size;
		uint16_t select, reserved;
		char name[56];
	} e;
	uint32_t count;
	uint8_t *buf;

	read_port(b, 0x19, &count, 4);
	for (uint32_t i = 0; i < be32(count); i++) {
		mobo_test_read_string(b, REGION_PORTS, 1, 1, &e, sizeof(e));
		if (!strcmp(e.name, name)) {
			*len = be32(e.size);
			buf = test_malloc(*len + 1);
			read_port(b, __builtin_bswap16(e.select), buf, *len);
			return buf;
		}
	}
	fail_msg("no file %s", name);
	return NULL;
}

static struct mobo_test_board *board_with(const char *const *config)
{
	const struct mobo_test_setup setup = {.config = config, .ram_size = RAM_SIZE};

	return mobo_test_board_new(&mobo_chip_fwcfg, &setup);
}

static void signature_and_features_by_port(void **state)
{
	struct mobo_test_board *b = board_with(NULL);
	uint32_t id;
	char sig[6];

	read_port(b, 0, sig, 6);
	assert_memory_equal(sig, "QEMU\0\0", 6); /* zeros after the end */
	read_port(b, 1, &id, 4);
	assert_int_equal(id, 3);
	assert_int_equal(mobo_test_inl(b, 0x514), be32(0x51454d55));
	assert_int_equal(mobo_test_inl(b, 0x518), be32(0x20434647));
	mobo_test_board_free(b);
}

static void dma_selects_skips_and_reads(void **state)
{
	struct mobo_test_board *b = board_with(NULL);

	assert_int_equal(run_dma(b, DMA_READ | DMA_SELECT, 4, BUFFER), 0);
	assert_memory_equal(mobo_test_ram(b) + BUFFER, "QEMU", 4);
	assert_int_equal(run_dma(b, DMA_SKIP | DMA_SELECT, 2, 0), 0);
	assert_int_equal(run_dma(b, DMA_READ, 3, BUFFER), 0);
	assert_memory_equal(mobo_test_ram(b) + BUFFER, "MU\0", 3);
	mobo_test_board_free(b);
}

static void dma_reports_errors(void **state)
{
	struct mobo_test_board *b = board_with(NULL);

	assert_int_equal(run_dma(b, DMA_READ | DMA_SELECT, 16, 1ull << 40), DMA_ERROR);
	assert_int_equal(run_dma(b, DMA_WRITE | DMA_SELECT, 4, BUFFER), DMA_ERROR);
	/* A descriptor outside of memory is ignored. */
	mobo_test_outl(b, 0x518, be32(0xfffffff0));
	/* Longer than memory: fails, though not before memory is full. */
	assert_int_equal(run_dma(b, DMA_READ | DMA_SELECT, 0xffffffff, BUFFER), DMA_ERROR);
	mobo_test_board_free(b);
}

static void e820_has_memory_below_and_above_4_gib(void **state)
{
	static const char *const config[] = {"memory", "5G", "low-memory", "3G", NULL};
	struct mobo_test_board *b = board_with(config);
	struct {
		uint64_t address, len;
		uint32_t type;
	} __attribute__((packed)) * e;
	uint32_t len;

	e = (void *)read_file(b, "etc/e820", &len);
	assert_int_equal(len, 40);
	assert_int_equal(e[0].address, 0);
	assert_int_equal(e[0].len, 3ull << 30);
	assert_int_equal(e[1].address, 1ull << 32);
	assert_int_equal(e[1].len, 2ull << 30);
	assert_int_equal(e[1].type, 1);
	test_free(e);
	mobo_test_board_free(b);
}

/* -- ACPI: the firmware's side of etc/table-loader -- */

struct loaded {
	uint8_t *rsdp, *tables;
	uint32_t rsdp_len, tables_len;
};
enum { RSDP_GPA = 0xf5000, TABLES_GPA = 0x10000000 };

static uint8_t *file_of(struct loaded *l, const char *name, uint32_t *len, uint64_t *gpa)
{
	bool rsdp = !strcmp(name, "etc/acpi/rsdp");

	assert_true(rsdp || !strcmp(name, "etc/acpi/tables"));
	*len = rsdp ? l->rsdp_len : l->tables_len;
	*gpa = rsdp ? RSDP_GPA : TABLES_GPA;
	return rsdp ? l->rsdp : l->tables;
}

static uint8_t sum(const uint8_t *p, uint32_t n)
{
	uint8_t s = 0;

	while (n--) {
		s = (uint8_t)(s + *p++);
	}
	return s;
}

static void run_command(struct loaded *l, const uint8_t *cmd)
{
	uint32_t op, offset, start, n, len, src_len;
	uint64_t gpa, src_gpa, v = 0;
	uint8_t *file;

	memcpy(&op, cmd, 4);
	file = file_of(l, (const char *)cmd + 4, &len, &gpa);
	switch (op) {
	case 1: break;
	case 2:
		file_of(l, (const char *)cmd + 60, &src_len, &src_gpa);
		memcpy(&offset, cmd + 116, 4);
		assert_true(offset + cmd[120] <= len);
		memcpy(&v, file + offset, cmd[120]);
		assert_true(v < src_len);
		v += src_gpa;
		memcpy(file + offset, &v, cmd[120]);
		break;
	case 3:
		memcpy(&offset, cmd + 60, 4);
		memcpy(&start, cmd + 64, 4);
		memcpy(&n, cmd + 68, 4);
		assert_true(offset < len && start + n <= len);
		file[offset] = (uint8_t)(file[offset] - sum(file + start, n));
		break;
	default: fail_msg("loader command %u", op);
	}
}

static struct loaded load_tables(struct mobo_test_board *b)
{
	struct loaded l;
	uint32_t len;
	uint8_t *script = read_file(b, "etc/table-loader", &len);

	l.rsdp = read_file(b, "etc/acpi/rsdp", &l.rsdp_len);
	l.tables = read_file(b, "etc/acpi/tables", &l.tables_len);
	assert_int_equal(len % 128, 0);
	for (uint32_t i = 0; i < len; i += 128) {
		run_command(&l, script + i);
	}
	test_free(script);
	return l;
}

static const uint8_t *find_table(const struct loaded *l, const char *signature)
{
	uint64_t xsdt, entry;
	uint32_t len;

	memcpy(&xsdt, l->rsdp + 24, 8);
	memcpy(&len, l->tables + (xsdt - TABLES_GPA) + 4, 4);
	for (uint32_t i = 36; i < len; i += 8) {
		memcpy(&entry, l->tables + (xsdt - TABLES_GPA) + i, 8);
		if (!memcmp(l->tables + (entry - TABLES_GPA), signature, 4)) {
			return l->tables + (entry - TABLES_GPA);
		}
	}
	return NULL;
}

static void acpi_tables_are_linked_and_sum_to_zero(void **state)
{
	static const char *const config[] = {"memory", "512M", "cpus", "3", NULL};
	static const char *const names[] = {"FACP", "APIC", "SSDT", "HPET", "WAET"};
	struct mobo_test_board *b = board_with(config);
	struct loaded l = load_tables(b);
	const uint8_t *t;
	uint32_t len, dsdt;

	assert_memory_equal(l.rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(l.rsdp, 20), 0);
	assert_int_equal(sum(l.rsdp, 36), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		t = find_table(&l, names[i]);
		assert_non_null(t);
		memcpy(&len, t + 4, 4);
		assert_int_equal(sum(t, len), 0);
	}
	t = find_table(&l, "FACP");
	assert_int_equal(t[4], 244); /* ACPI 2.0 to 3.0 */
	memcpy(&dsdt, t + 40, 4);
	t = l.tables + (dsdt - TABLES_GPA);
	assert_memory_equal(t, "DSDT", 4);
	memcpy(&len, t + 4, 4);
	assert_int_equal(sum(t, len), 0);
	/* Three processors of 8 bytes, I/O APIC 12, five overrides of 10, NMI 6. */
	t = find_table(&l, "APIC");
	assert_int_equal(t[4], 44 + 3 * 8 + 12 + 5 * 10 + 6);
	test_free(l.rsdp);
	test_free(l.tables);
	mobo_test_board_free(b);
}

static void smbios_counts_agree(void **state)
{
	static const char *const config[] = {"uuid", "00112233-4455-6677-8899-aabbccddeeff", "cpus",
					     "2", NULL};
	static const uint8_t mixed_endian[] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
					       0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	struct mobo_test_board *b = board_with(config);
	uint32_t len, anchor_len, n = 0, at = 0;
	uint8_t *table = read_file(b, "etc/smbios/smbios-tables", &len);
	uint8_t *anchor = read_file(b, "etc/smbios/smbios-anchor", &anchor_len);

	assert_int_equal(anchor_len, 31);
	assert_memory_equal(anchor, "_SM_", 4);
	assert_int_equal(anchor[0x16] | anchor[0x17] << 8, len);
	while (at < len) {
		if (table[at] == 1) {
			assert_memory_equal(table + at + 8, mixed_endian, 16);
		}
		at += table[at + 1];
		while (table[at] || table[at + 1]) {
			at++;
		}
		at += 2;
		n++;
	}
	assert_int_equal(at, len);
	assert_int_equal(anchor[0x1c] | anchor[0x1d] << 8, n);
	test_free(table);
	test_free(anchor);
	mobo_test_board_free(b);
}

/* -- Kernel -- */

enum { SETUP_SECTS = 3, KERNEL_BYTES = 70000, INITRD_BYTES = 5000 };

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

static int make_file(const void *data, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	return fd;
}

/* A kernel of protocol 2.12 whose bytes after the set-up code are 0x77. */
static int make_kernel(uint16_t version, uint8_t loadflags)
{
	static uint8_t image[(SETUP_SECTS + 1) * 512 + KERNEL_BYTES];

	memset(image, 0, sizeof(image));
	memset(image + (SETUP_SECTS + 1) * 512, 0x77, KERNEL_BYTES);
	image[0x1f1] = SETUP_SECTS;
	image[0x1fe] = 0x55;
	image[0x1ff] = 0xaa;
	memcpy(image + 0x202, "HdrS", 4);
	memcpy(image + 0x206, &version, 2);
	image[0x211] = loadflags;
	put32(image + 0x22c, 0x7fffffff);
	put32(image + 0x238, 2047);
	return make_file(image, sizeof(image));
}

static uint32_t number(struct mobo_test_board *b, uint16_t key)
{
	uint32_t v;

	read_port(b, key, &v, 4);
	return v;
}

static void kernel_header_is_filled_in(void **state)
{
	static const char *const config[] = {"memory", "64M", "append", "console=ttyS0 vga=0x317",
					     NULL};
	static const char *const names[] = {"kernel", "initrd", NULL};
	static uint8_t initrd[INITRD_BYTES];
	int fds[] = {make_kernel(0x20c, 1), make_file(initrd, sizeof(initrd))};
	const struct mobo_test_setup setup = {.config = config,
					      .fd_names = names,
					      .fds = fds,
					      .ram_size = RAM_SIZE};
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_fwcfg, &setup);
	uint8_t head[(SETUP_SECTS + 1) * 512];
	uint32_t v, len;
	char cmdline[64];
	uint8_t *order;

	assert_int_equal(number(b, 0x16), 0x10000);
	assert_int_equal(number(b, 0x17), sizeof(head));
	assert_int_equal(number(b, 0x07), 0x100000);
	assert_int_equal(number(b, 0x08), KERNEL_BYTES);
	assert_int_equal(number(b, 0x0b), INITRD_BYTES);
	read_port(b, 0x18, head, sizeof(head));
	assert_int_equal(head[0x210], 0xff);
	assert_int_equal(head[0x211], 0x81);
	assert_int_equal(head[0x1fa] | head[0x1fb] << 8, 0x317);
	memcpy(&v, head + 0x228, 4);
	assert_int_equal(v, number(b, 0x13));
	memcpy(&v, head + 0x218, 4);
	assert_int_equal(v, number(b, 0x0a));
	assert_int_equal(v % 4096, 0);
	assert_true(v + INITRD_BYTES <= (64 << 20) && v > 0x100000 + KERNEL_BYTES);
	read_port(b, 0x15, cmdline, sizeof(cmdline));
	assert_string_equal(cmdline, "console=ttyS0 vga=0x317");
	assert_int_equal(number(b, 0x14), strlen(cmdline) + 1);
	assert_int_equal(run_dma(b, 0x11 << 16 | DMA_READ | DMA_SELECT, KERNEL_BYTES, 0x100000), 0);
	assert_int_equal(mobo_test_ram(b)[0x100000], 0x77);
	assert_int_equal(mobo_test_ram(b)[0x100000 + KERNEL_BYTES - 1], 0x77);
	assert_int_equal(mobo_test_ram(b)[0x100000 + KERNEL_BYTES], 0);
	order = read_file(b, "bootorder", &len);
	assert_string_equal((char *)order, "/rom@genroms/linuxboot.bin");
	test_free(order);
	mobo_test_board_free(b);
	close(fds[0]);
	close(fds[1]);
}

static void option_rom_is_valid(void **state)
{
	static const char *const names[] = {"kernel", NULL};
	int fd = make_kernel(0x20c, 1);
	const struct mobo_test_setup setup = {.fd_names = names, .fds = &fd, .ram_size = RAM_SIZE};
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_fwcfg, &setup);
	uint32_t len;
	uint8_t *rom = read_file(b, "genroms/linuxboot.bin", &len);

	assert_int_equal(rom[0] | rom[1] << 8, 0xaa55);
	assert_int_equal(rom[2] * 512, len);
	assert_int_equal(sum(rom, len), 0);
	assert_memory_equal(rom + (rom[0x1a] | rom[0x1b] << 8), "$PnP", 4);
	test_free(rom);
	mobo_test_board_free(b);
	close(fd);
}

static void old_low_kernel_goes_below_640_kib(void **state)
{
	static const char *const names[] = {"kernel", NULL};
	int fd = make_kernel(0x200, 0);
	const struct mobo_test_setup setup = {.fd_names = names, .fds = &fd, .ram_size = RAM_SIZE};
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_fwcfg, &setup);
	uint8_t head[512];

	assert_int_equal(number(b, 0x16), 0x90000);
	assert_int_equal(number(b, 0x07), 0x10000);
	read_port(b, 0x18, head, sizeof(head));
	assert_int_equal(head[0x20] | head[0x21] << 8, 0xa33f);
	assert_int_equal((uint32_t)(head[0x22] | head[0x23] << 8) + 0x90000, number(b, 0x13));
	mobo_test_board_free(b);
	close(fd);
}

/* What init says to a kernel file with these bytes. */
static int try_kernel(const void *data, size_t len, const char *const *config)
{
	static const char *const names[] = {"kernel", NULL};
	int fd = make_file(data, len), r;
	const struct mobo_test_setup setup = {.config = config, .fd_names = names, .fds = &fd};
	struct mobo_test_board *b = mobo_test_board_try(&mobo_chip_fwcfg, &setup, &r);

	if (b) {
		mobo_test_board_free(b);
	}
	close(fd);
	return r;
}

static void bad_kernels_and_configurations_are_refused(void **state)
{
	static const char *const no_uuid[] = {"uuid", "x", NULL};
	static const char *const no_memory[] = {"memory", "1M", "low-memory", "2M", NULL};
	static const char *const no_cpus[] = {"cpus", "0", NULL};
	static uint8_t image[2048];
	struct mobo_test_setup setup = {0};
	int r;

	assert_int_equal(try_kernel("", 0, NULL), -EINVAL);
	assert_int_equal(try_kernel(image, sizeof(image), NULL), -EINVAL);
	image[0x1fe] = 0x55;
	image[0x1ff] = 0xaa;
	image[0x1f1] = 64; /* more set-up code than the file has */
	assert_int_equal(try_kernel(image, sizeof(image), NULL), -EINVAL);
	for (unsigned i = 0; i < 3; i++) {
		setup.config = i == 0 ? no_uuid : i == 1 ? no_memory : no_cpus;
		assert_null(mobo_test_board_try(&mobo_chip_fwcfg, &setup, &r));
		assert_int_equal(r, -EINVAL);
	}
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_fwcfg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signature_and_features_by_port),
		cmocka_unit_test(dma_selects_skips_and_reads),
		cmocka_unit_test(dma_reports_errors),
		cmocka_unit_test(e820_has_memory_below_and_above_4_gib),
		cmocka_unit_test(acpi_tables_are_linked_and_sum_to_zero),
		cmocka_unit_test(smbios_counts_agree),
		cmocka_unit_test(kernel_header_is_filled_in),
		cmocka_unit_test(option_rom_is_valid),
		cmocka_unit_test(old_low_kernel_goes_below_640_kib),
		cmocka_unit_test(bad_kernels_and_configurations_are_refused),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
