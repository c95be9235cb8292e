/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IDE controller as a driver meets it: task file, PIO and bus master transfers, packets,
 * resets, media. Expected values are those of ATA/ATAPI-7, MMC-3 and the 82371SB datasheet.
 */
#include "mobo/image.h"
#include "test_board.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern const struct mobo_chip_class mobo_chip_ide;

enum { DISK_SECTORS = 20000, CD_BLOCKS = 600 };
enum { C0 = 0x1f0, C1 = 0x170, CTL0 = 0x3f6, CTL1 = 0x376 };
enum { BSY = 0x80, DRDY = 0x40, DSC = 0x10, DRQ = 0x08, ERR = 0x01 };
enum { REGION_COMMAND0, REGION_CONTROL0, REGION_COMMAND1, REGION_CONTROL1, REGION_BM };

struct rig {
	struct mobo_test_board *b;
	struct mobo_test_setup setup;
	int disk, cd, other_cd, fds[2];
};

static uint8_t disk_byte(uint64_t off)
{
	return (uint8_t)(off / 512 * 7 + off % 512 + (off >> 17));
}

static uint8_t cd_byte(uint64_t off)
{
	return (uint8_t)(off / 2048 * 13 + off % 2048 * 3);
}

static int make_file(size_t len, uint8_t (*byte)(uint64_t off))
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	uint8_t *p = malloc(len);

	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i++) {
		p[i] = byte(i);
	}
	assert_int_equal(pwrite(fd, p, len, 0), (ssize_t)len);
	free(p);
	return fd;
}

static uint8_t zero_byte(uint64_t off)
{
	return 0;
}

static const char *const config[] = {"unit0",	     "disk", "unit2", "cdrom",
				     "unit0.serial", "S123", NULL};
static const char *const fd_names[] = {"unit0.image0", "unit2.image0", NULL};

static int make(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->disk = make_file(DISK_SECTORS * 512, disk_byte);
	r->cd = make_file(CD_BLOCKS * 2048, cd_byte);
	r->other_cd = make_file(2048 * 20, zero_byte);
	r->fds[0] = r->disk;
	r->fds[1] = r->cd;
	r->setup = (struct mobo_test_setup){.config = config,
					    .fd_names = fd_names,
					    .fds = r->fds,
					    .ram_size = 4 << 20};
	r->b = mobo_test_board_new(&mobo_chip_ide, &r->setup);
	*state = r;
	return 0;
}

static int unmake(void **state)
{
	struct rig *r = *state;

	mobo_test_board_free(r->b);
	close(r->disk);
	close(r->cd);
	close(r->other_cd);
	free(r);
	return 0;
}

/* Wait until the drive is not busy; its alternate status. */
static uint8_t wait_ready(struct rig *r, unsigned ctl)
{
	for (unsigned k = 0; k < 500; k++) {
		uint8_t s = mobo_test_inb(r->b, ctl);

		if (!(s & BSY)) {
			return s;
		}
		mobo_test_poll(r->b, 20);
	}
	fail_msg("the drive stays busy");
	return 0;
}

static void task(struct rig *r, unsigned base, uint8_t feature, uint8_t count, uint32_t lba,
		 uint8_t device, uint8_t command)
{
	mobo_test_outb(r->b, base + 6, device);
	mobo_test_outb(r->b, base + 1, feature);
	mobo_test_outb(r->b, base + 2, count);
	mobo_test_outb(r->b, base + 3, (uint8_t)lba);
	mobo_test_outb(r->b, base + 4, (uint8_t)(lba >> 8));
	mobo_test_outb(r->b, base + 5, (uint8_t)(lba >> 16));
	mobo_test_outb(r->b, base + 7, command);
}

static void lba28(struct rig *r, uint32_t lba, uint8_t count, uint8_t command)
{
	task(r, C0, 0, count, lba & 0xffffff, (uint8_t)(0xe0 | lba >> 24), command);
}

static void lba48(struct rig *r, uint64_t lba, unsigned count, uint8_t command)
{
	mobo_test_outb(r->b, C0 + 2, (uint8_t)(count >> 8));
	mobo_test_outb(r->b, C0 + 3, (uint8_t)(lba >> 24));
	mobo_test_outb(r->b, C0 + 4, (uint8_t)(lba >> 32));
	mobo_test_outb(r->b, C0 + 5, (uint8_t)(lba >> 40));
	task(r, C0, 0, (uint8_t)count, (uint32_t)lba & 0xffffff, 0xe0, command);
}

static void read_words(struct rig *r, unsigned region, void *buf, unsigned bytes)
{
	mobo_test_read_string(r->b, region, 0, 2, buf, bytes / 2);
}

/* The interrupt came, and reading the status takes it back. */
static uint8_t take_irq(struct rig *r, unsigned line)
{
	uint8_t s;

	assert_true(mobo_test_line(r->b, line));
	s = mobo_test_inb(r->b, line ? C1 + 7 : C0 + 7);
	assert_false(mobo_test_line(r->b, line));
	return s;
}

static void prd(struct rig *r, unsigned at, uint32_t gpa, unsigned len, bool last)
{
	uint8_t *p = mobo_test_ram(r->b) + at;
	uint32_t w = (len & 0xffff) | (last ? 0x80000000u : 0);

	memcpy(p, &gpa, 4);
	memcpy(p + 4, &w, 4);
}

static void bm_start(struct rig *r, unsigned channel, uint32_t table, bool to_memory)
{
	mobo_test_write(r->b, REGION_BM, channel * 8 + 4, 4, table);
	mobo_test_write(r->b, REGION_BM, channel * 8 + 2, 1, 6);
	mobo_test_write(r->b, REGION_BM, channel * 8, 1, to_memory ? 8 : 0);
	mobo_test_write(r->b, REGION_BM, channel * 8, 1, to_memory ? 9 : 1);
}

static void expect_disk(const uint8_t *p, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != disk_byte(off + i)) {
			fail_msg("byte %zu differs", i);
		}
	}
}

static unsigned word(const uint8_t *p, unsigned n)
{
	return p[n * 2] | (unsigned)p[n * 2 + 1] << 8;
}

/* -- Task file -- */

static void reset_leaves_signatures(void **state)
{
	struct rig *r = *state;

	mobo_test_outb(r->b, CTL0, 0x04);
	assert_int_equal(mobo_test_inb(r->b, CTL0), BSY);
	mobo_test_outb(r->b, CTL0, 0x00);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_int_equal(mobo_test_inb(r->b, C0 + 1), 1);
	assert_int_equal(mobo_test_inb(r->b, C0 + 2), 1);
	assert_int_equal(mobo_test_inb(r->b, C0 + 3), 1);
	assert_int_equal(mobo_test_inb(r->b, C0 + 4), 0);
	assert_int_equal(mobo_test_inb(r->b, C0 + 5), 0);
	mobo_test_outb(r->b, CTL1, 0x04);
	mobo_test_outb(r->b, CTL1, 0x00);
	assert_int_equal(mobo_test_inb(r->b, CTL1), 0); /* a packet device is not ready */
	assert_int_equal(mobo_test_inb(r->b, C1 + 4), 0x14);
	assert_int_equal(mobo_test_inb(r->b, C1 + 5), 0xeb);
	assert_false(mobo_test_line(r->b, 0));
}

static void absent_drive_reads_zeros(void **state)
{
	struct rig *r = *state;

	mobo_test_outb(r->b, C0 + 6, 0xb0);
	mobo_test_outb(r->b, C0 + 2, 0x55);
	mobo_test_outb(r->b, C0 + 3, 0xaa);
	assert_int_equal(mobo_test_inb(r->b, C0 + 2), 0);
	assert_int_equal(mobo_test_inb(r->b, C0 + 3), 0);
	assert_int_equal(mobo_test_inb(r->b, C0 + 7), 0);
	mobo_test_outb(r->b, C0 + 7, 0xec);
	assert_int_equal(mobo_test_inb(r->b, C0 + 7), 0);
	assert_false(mobo_test_line(r->b, 0));
	mobo_test_outb(r->b, C0 + 6, 0xa0);
	mobo_test_outb(r->b, C0 + 2, 0x55);
	assert_int_equal(mobo_test_inb(r->b, C0 + 2), 0x55);
}

static void identify_tells_size_and_names(void **state)
{
	struct rig *r = *state;
	uint8_t id[512], sum = 0;

	lba28(r, 0, 0, 0xec);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
	take_irq(r, 0);
	read_words(r, REGION_COMMAND0, id, 512);
	assert_int_equal(mobo_test_inb(r->b, CTL0), DRDY | DSC);
	assert_false(mobo_test_line(r->b, 0));
	assert_int_equal(word(id, 60) | word(id, 61) << 16, DISK_SECTORS);
	assert_int_equal(word(id, 100), DISK_SECTORS);
	assert_int_equal(word(id, 1), DISK_SECTORS / (16 * 63));
	assert_int_equal(word(id, 49) & 0x0300, 0x0300);
	assert_memory_equal(id + 20, "1S32    ", 8);
	for (unsigned k = 0; k < 512; k++) {
		sum += id[k];
	}
	assert_int_equal(sum, 0);
	task(r, C1, 0, 0, 0, 0xa0, 0xec);
	assert_int_equal(wait_ready(r, CTL1) & ERR, ERR);
	assert_int_equal(mobo_test_inb(r->b, C1 + 1), 4);
	assert_int_equal(mobo_test_inb(r->b, C1 + 4), 0x14);
	task(r, C1, 0, 0, 0, 0xa0, 0xa1);
	wait_ready(r, CTL1);
	read_words(r, REGION_COMMAND1, id, 512);
	assert_int_equal(word(id, 0), 0x8580);
}

static void wrong_command_is_aborted(void **state)
{
	struct rig *r = *state;

	lba28(r, 0, 1, 0xfe);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | ERR);
	take_irq(r, 0);
	assert_int_equal(mobo_test_inb(r->b, C0 + 1), 4);
}

static void interrupt_can_be_masked(void **state)
{
	struct rig *r = *state;

	mobo_test_outb(r->b, CTL0, 0x02);
	lba28(r, 0, 0, 0xe5);
	assert_int_equal(mobo_test_inb(r->b, C0 + 2), 0xff);
	assert_false(mobo_test_line(r->b, 0));
	mobo_test_outb(r->b, CTL0, 0x00);
	assert_true(mobo_test_line(r->b, 0)); /* still pending */
	take_irq(r, 0);
}

static void diagnostic_passes(void **state)
{
	struct rig *r = *state;

	mobo_test_outb(r->b, C0 + 6, 0xb0); /* drive 1 is absent: drive 0 answers */
	mobo_test_outb(r->b, C0 + 7, 0x90);
	take_irq(r, 0);
	assert_int_equal(mobo_test_inb(r->b, C0 + 1), 1);
	assert_int_equal(mobo_test_inb(r->b, C0 + 6) & 0x10, 0);
}

/* -- PIO -- */

static void pio_read_interrupts_each_sector(void **state)
{
	struct rig *r = *state;
	uint8_t buf[512];

	lba28(r, 100, 70, 0x20); /* more than the drive's buffer holds */
	for (unsigned k = 0; k < 70; k++) {
		assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
		take_irq(r, 0);
		if (k % 2) {
			mobo_test_read_string(r->b, REGION_COMMAND0, 0, 4, buf, 128);
		} else {
			read_words(r, REGION_COMMAND0, buf, 512);
		}
		expect_disk(buf, (100 + k) * 512, 512);
	}
	assert_int_equal(mobo_test_inb(r->b, CTL0), DRDY | DSC);
	assert_false(mobo_test_line(r->b, 0));
	assert_int_equal(mobo_test_line_rises(r->b, 0), 70);
}

static void data_register_takes_words_and_doublewords(void **state)
{
	struct rig *r = *state;

	lba28(r, 3, 1, 0x20);
	wait_ready(r, CTL0);
	assert_int_equal(mobo_test_inw(r->b, C0), disk_byte(1536) | disk_byte(1537) << 8);
	assert_int_equal(mobo_test_inl(r->b, C0), disk_byte(1538) | disk_byte(1539) << 8 |
							  disk_byte(1540) << 16 |
							  (uint32_t)disk_byte(1541) << 24);
}

static void chs_names_the_same_sectors(void **state)
{
	struct rig *r = *state;
	uint8_t buf[512];

	/* 16 heads, 63 sectors: cylinder 3, head 5, sector 7 */
	task(r, C0, 0, 1, 7 | 3 << 8, 0xa5, 0x20);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
	read_words(r, REGION_COMMAND0, buf, 512);
	expect_disk(buf, ((3 * 16 + 5) * 63 + 6) * 512, 512);
	/* 8 heads, 32 sectors from now on */
	task(r, C0, 0, 32, 0, 0xa7, 0x91);
	task(r, C0, 0, 1, 7 | 3 << 8, 0xa5, 0x20);
	wait_ready(r, CTL0);
	read_words(r, REGION_COMMAND0, buf, 512);
	expect_disk(buf, ((3 * 8 + 5) * 32 + 6) * 512, 512);
	task(r, C0, 0, 1, 0 | 3 << 8, 0xa5, 0x20); /* there is no sector 0 */
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | ERR);
	assert_int_equal(mobo_test_inb(r->b, C0 + 1), 0x10);
}

static void multiple_moves_blocks(void **state)
{
	struct rig *r = *state;
	uint8_t buf[20 * 512], want[20 * 512];

	lba28(r, 0, 8, 0xc4); /* not set yet */
	assert_int_equal(wait_ready(r, CTL0) & ERR, ERR);
	lba28(r, 0, 8, 0xc6);
	mobo_test_clear_counts(r->b);
	mobo_test_inb(r->b, C0 + 7);
	lba28(r, 50, 20, 0xc4);
	for (unsigned k = 0; k < 20; k += 8) {
		assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
		take_irq(r, 0);
		read_words(r, REGION_COMMAND0, buf + k * 512, k + 8 > 20 ? 4 * 512 : 8 * 512);
	}
	expect_disk(buf, 50 * 512, sizeof(buf));
	assert_int_equal(mobo_test_line_rises(r->b, 0), 3);
	for (unsigned k = 0; k < sizeof(want); k++) {
		want[k] = (uint8_t)(k * 11);
	}
	lba28(r, 60, 20, 0xc5);
	for (unsigned k = 0; k < 20; k += 8) {
		assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
		mobo_test_write_string(r->b, REGION_COMMAND0, 0, 2, want + k * 512,
				       (k + 8 > 20 ? 4 : 8) * 256);
	}
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_int_equal(pread(r->disk, buf, sizeof(buf), 60 * 512), sizeof(buf));
	assert_memory_equal(buf, want, sizeof(buf));
}

static void pio_write_reaches_the_image(void **state)
{
	struct rig *r = *state;
	static uint8_t want[100 * 512], got[100 * 512];

	for (unsigned k = 0; k < sizeof(want); k++) {
		want[k] = (uint8_t)(k * 3 + k / 512);
	}
	lba28(r, 1000, 100, 0x30);
	assert_false(mobo_test_line(r->b, 0)); /* none for the first block */
	for (unsigned k = 0; k < 100; k++) {
		assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
		mobo_test_write_string(r->b, REGION_COMMAND0, 0, 2, want + k * 512, 256);
		if (k == 0) {
			take_irq(r, 0);
		}
	}
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_true(mobo_test_line(r->b, 0));
	assert_int_equal(pread(r->disk, got, sizeof(got), 1000 * 512), sizeof(got));
	assert_memory_equal(got, want, sizeof(got));
	lba28(r, 0, 0, 0xe7);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	take_irq(r, 0);
}

static void address_beyond_the_end_is_not_found(void **state)
{
	struct rig *r = *state;

	lba28(r, DISK_SECTORS - 1, 2, 0x20);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | ERR);
	assert_int_equal(mobo_test_inb(r->b, C0 + 1), 0x10);
	lba48(r, 0xffffffffffffull, 1, 0x24);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | ERR);
	lba28(r, DISK_SECTORS - 1, 1, 0x40);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	lba28(r, 0, 0, 0xf8);
	assert_int_equal(mobo_test_inb(r->b, C0 + 3), (DISK_SECTORS - 1) & 0xff);
	assert_int_equal(mobo_test_inb(r->b, C0 + 4), (DISK_SECTORS - 1) >> 8);
}

static void previous_register_contents_show_with_hob(void **state)
{
	struct rig *r = *state;

	mobo_test_outb(r->b, C0 + 3, 0x12);
	mobo_test_outb(r->b, C0 + 3, 0x34);
	assert_int_equal(mobo_test_inb(r->b, C0 + 3), 0x34);
	mobo_test_outb(r->b, CTL0, 0x80);
	assert_int_equal(mobo_test_inb(r->b, C0 + 3), 0x12);
	mobo_test_outb(r->b, C0 + 2, 0); /* any write clears HOB */
	assert_int_equal(mobo_test_inb(r->b, C0 + 3), 0x34);
}

static void set_features_selects_the_mode(void **state)
{
	struct rig *r = *state;
	uint8_t id[512];

	task(r, C0, 0x03, 0x22, 0, 0xa0, 0xef);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	lba28(r, 0, 0, 0xec);
	wait_ready(r, CTL0);
	read_words(r, REGION_COMMAND0, id, 512);
	assert_int_equal(word(id, 63), 0x0407);
	task(r, C0, 0x03, 0x77, 0, 0xa0, 0xef);
	assert_int_equal(wait_ready(r, CTL0) & ERR, ERR);
}

static void smart_says_healthy(void **state)
{
	struct rig *r = *state;
	uint8_t data[512];

	task(r, C0, 0xda, 0, 0xc24f00, 0xa0, 0xb0);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_int_equal(mobo_test_inb(r->b, C0 + 4), 0x4f);
	assert_int_equal(mobo_test_inb(r->b, C0 + 5), 0xc2);
	task(r, C0, 0xd0, 1, 0xc24f00, 0xa0, 0xb0);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | DRQ);
	read_words(r, REGION_COMMAND0, data, 512);
	task(r, C0, 0xda, 0, 0, 0xa0, 0xb0);
	assert_int_equal(wait_ready(r, CTL0) & ERR, ERR);
}

/* -- DMA -- */

static void dma_read_scatters(void **state)
{
	struct rig *r = *state;
	uint8_t *ram = mobo_test_ram(r->b);

	prd(r, 0x1000, 0x10002, 0x300, false);
	prd(r, 0x1008, 0x20000, 0x100, false);
	prd(r, 0x1010, 0x30000, 0, true); /* 64 KiB */
	lba28(r, 200, 100, 0xc8);
	bm_start(r, 0, 0x1000, true);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_int_equal(mobo_test_read(r->b, REGION_BM, 2, 1) & 7, 5); /* regions left: active */
	take_irq(r, 0);
	mobo_test_write(r->b, REGION_BM, 0, 1, 8);
	mobo_test_write(r->b, REGION_BM, 2, 1, 6);
	assert_int_equal(mobo_test_read(r->b, REGION_BM, 2, 1) & 7, 0);
	expect_disk(ram + 0x10002, 200 * 512, 0x300);
	expect_disk(ram + 0x20000, 200 * 512 + 0x300, 0x100);
	expect_disk(ram + 0x30000, 200 * 512 + 0x400, 100 * 512 - 0x400);
	assert_int_equal(mobo_test_dma_dirty_bytes(r->b), 100 * 512);
}

static void dma_write_long_and_exact(void **state)
{
	struct rig *r = *state;
	uint8_t *ram = mobo_test_ram(r->b), *got;
	unsigned n = 5000; /* 2.5 MB: more than one job */

	for (unsigned k = 0; k < n * 512; k++) {
		ram[0x100000 + k] = (uint8_t)(k * 5 + k / 4096);
	}
	for (unsigned k = 0; k < 40; k++) {
		unsigned left = n * 512 - k * 65536;

		prd(r, 0x2000 + k * 8, 0x100000 + k * 65536, left > 65536 ? 0 : left,
		    left <= 65536);
		if (left <= 65536) {
			break;
		}
	}
	mobo_test_write(r->b, REGION_BM, 4, 4, 0x2000);
	mobo_test_write(r->b, REGION_BM, 0, 1, 1); /* started before the command */
	lba48(r, 10000, n, 0x3d);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_int_equal(mobo_test_read(r->b, REGION_BM, 2, 1) & 7, 4); /* table exhausted */
	take_irq(r, 0);
	got = malloc(n * 512);
	assert_int_equal(pread(r->disk, got, n * 512, 10000 * 512), n * 512);
	assert_memory_equal(got, ram + 0x100000, n * 512);
	free(got);
}

static void short_table_hangs_until_more_comes(void **state)
{
	struct rig *r = *state;

	prd(r, 0x1000, 0x10000, 1024, true);
	lba28(r, 0, 4, 0xc8);
	bm_start(r, 0, 0x1000, true);
	for (unsigned k = 0; k < 5; k++) {
		mobo_test_poll(r->b, 10);
	}
	assert_int_equal(mobo_test_read(r->b, REGION_BM, 2, 1) & 7, 0);
	assert_false(mobo_test_line(r->b, 0));
	prd(r, 0x1000, 0x10400, 1024, true);
	bm_start(r, 0, 0x1000, true);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	take_irq(r, 0);
	expect_disk(mobo_test_ram(r->b) + 0x10000, 0, 2048);
}

static void dma_to_nowhere_is_an_error(void **state)
{
	struct rig *r = *state;

	prd(r, 0x1000, 0xf0000000u, 1024, true);
	lba28(r, 0, 2, 0xc8);
	bm_start(r, 0, 0x1000, true);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | ERR);
	assert_int_equal(mobo_test_read(r->b, REGION_BM, 2, 1) & 3, 2);
	mobo_test_bus_master(r->b, false);
	prd(r, 0x1000, 0x10000, 1024, true);
	lba28(r, 0, 2, 0xc8);
	bm_start(r, 0, 0x1000, true);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC | ERR);
}

static void reset_stops_a_command(void **state)
{
	struct rig *r = *state;

	prd(r, 0x1000, 0x10000, 0, true);
	lba28(r, 0, 128, 0xc8);
	bm_start(r, 0, 0x1000, true);
	mobo_test_outb(r->b, CTL0, 0x04);
	mobo_test_outb(r->b, CTL0, 0x00);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	mobo_test_poll(r->b, 10);
	assert_false(mobo_test_line(r->b, 0));
	lba28(r, 0, 0, 0xe5);
	take_irq(r, 0);
}

static void trim_gives_space_back(void **state)
{
	struct rig *r = *state;
	uint8_t *ram = mobo_test_ram(r->b), buf[512];
	uint64_t entry = 64 | 128ull << 48;

	memset(ram + 0x10000, 0, 512);
	memcpy(ram + 0x10000, &entry, 8);
	prd(r, 0x1000, 0x10000, 512, true);
	mobo_test_outb(r->b, C0 + 2, 0);
	task(r, C0, 1, 1, 0, 0xe0, 0x06);
	bm_start(r, 0, 0x1000, false);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	take_irq(r, 0);
	assert_int_equal(pread(r->disk, buf, 512, 64 * 512), 512);
	assert_int_equal(buf[5], 0);
	assert_int_equal(pread(r->disk, buf, 512, 192 * 512), 512);
	expect_disk(buf, 192 * 512, 512);
	entry = DISK_SECTORS | 1ull << 48;
	memcpy(ram + 0x10000, &entry, 8);
	task(r, C0, 1, 1, 0, 0xe0, 0x06);
	bm_start(r, 0, 0x1000, false);
	assert_int_equal(wait_ready(r, CTL0) & ERR, ERR);
}

/* -- Life -- */

static void command_goes_on_after_restart(void **state)
{
	struct rig *r = *state;
	uint8_t buf[512];

	lba28(r, 0, 40, 0x20);
	wait_ready(r, CTL0);
	read_words(r, REGION_COMMAND0, buf, 512);
	mobo_test_restart(r->b);
	for (unsigned k = 1; k < 40; k++) {
		wait_ready(r, CTL0);
		if (k == 33) {
			mobo_test_restart(r->b);
		}
		read_words(r, REGION_COMMAND0, buf, 512);
		expect_disk(buf, k * 512, 512);
	}
	/* A DMA command whose job was never seen to end. */
	prd(r, 0x1000, 0x10000, 1024, true);
	lba28(r, 9, 2, 0xc8);
	bm_start(r, 0, 0x1000, true);
	assert_int_equal(mobo_test_inb(r->b, CTL0), BSY);
	mobo_test_restart(r->b);
	assert_int_equal(wait_ready(r, CTL0), DRDY | DSC);
	assert_true(mobo_test_line(r->b, 0));
	expect_disk(mobo_test_ram(r->b) + 0x10000, 9 * 512, 1024);
}

static void pause_waits_for_the_disk(void **state)
{
	struct rig *r = *state;

	prd(r, 0x1000, 0x10000, 0, true);
	lba28(r, 0, 128, 0xc8);
	bm_start(r, 0, 0x1000, true);
	mobo_test_pause(r->b);
	assert_int_equal(mobo_test_inb(r->b, CTL0), DRDY | DSC);
	assert_true(mobo_test_line(r->b, 0));
	mobo_test_resume(r->b);
}

static void readonly_disk_refuses_writes(void **state)
{
	static const char *const cfg[] = {"unit1", "disk", "unit1.readonly", "1", NULL};
	static const char *const names[] = {"unit1.image0", NULL};
	struct rig *r = *state, ro = {0};

	ro.b = mobo_test_board_new(&mobo_chip_ide, &(struct mobo_test_setup){.config = cfg,
									     .fd_names = names,
									     .fds = &r->disk});
	task(&ro, C0, 0, 1, 0, 0xf0, 0x30);
	assert_int_equal(wait_ready(&ro, CTL0), DRDY | DSC | ERR);
	assert_int_equal(mobo_test_inb(ro.b, C0 + 1), 4);
	mobo_test_board_free(ro.b);
}

static void host_trouble_reaches_the_guest_as_an_error(void **state)
{
	static const char *const cfg[] = {"unit0", "disk", NULL};
	static const char *const names[] = {"unit0.image0", NULL};
	struct rig bad = {0};
	uint8_t buf[512] = {1};

	/* Reading is possible, writing is not. */
	bad.disk = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(bad.disk, 64 * 512), 0);
	bad.setup = (struct mobo_test_setup){.config = cfg, .fd_names = names, .fds = &bad.disk};
	bad.b = mobo_test_board_new(&mobo_chip_ide, &bad.setup);
	assert_int_equal(fcntl(bad.disk, F_ADD_SEALS, F_SEAL_WRITE), 0);
	lba28(&bad, 5, 1, 0x30);
	wait_ready(&bad, CTL0);
	mobo_test_write_string(bad.b, REGION_COMMAND0, 0, 2, buf, 256);
	assert_int_equal(wait_ready(&bad, CTL0), DRDY | DSC | ERR);
	take_irq(&bad, 0);
	assert_int_equal(mobo_test_inb(bad.b, C0 + 1), 0x04);
	assert_int_equal(mobo_test_errors(bad.b), 1);
	mobo_test_board_free(bad.b);
	close(bad.disk);
}

static void damaged_image_reads_as_uncorrectable(void **state)
{
	static const char *const cfg[] = {"unit0", "disk", NULL};
	static const char *const names[] = {"unit0.image0", NULL};
	struct mobo_image_new what = {.format = MOBO_IMAGE_QCOW2, .size = 1 << 30};
	uint8_t entry[8] = {0x80, 0, 0, 0, 0, 0, 0x12, 0}; /* no cluster starts there */
	uint8_t l1[8];
	struct rig bad = {0};
	char path[64];

	snprintf(path, sizeof(path), "/tmp/mobo-ide-%d.qcow2", (int)getpid());
	assert_int_equal(mobo_image_new(path, &what, NULL), 0);
	bad.disk = open(path, O_RDWR);
	unlink(path);
	assert_int_equal(pread(bad.disk, l1, 8, 40), 8);
	/* The second half of the disk is damaged: entry 1 of the L1 table. */
	assert_int_equal(pwrite(bad.disk, entry, 8, (l1[5] << 16 | l1[6] << 8 | l1[7]) + 8), 8);
	bad.setup = (struct mobo_test_setup){.config = cfg, .fd_names = names, .fds = &bad.disk};
	bad.b = mobo_test_board_new(&mobo_chip_ide, &bad.setup);
	lba28(&bad, 0x100000 + 3, 1, 0x20);
	assert_int_equal(wait_ready(&bad, CTL0), DRDY | DSC | ERR);
	assert_int_equal(mobo_test_inb(bad.b, C0 + 1), 0x40);
	assert_int_equal(mobo_test_inb(bad.b, C0 + 3), 3);
	assert_int_equal(mobo_test_inb(bad.b, C0 + 5), 0x10);
	lba28(&bad, 3, 1, 0x20);
	assert_int_equal(wait_ready(&bad, CTL0), DRDY | DSC | DRQ);
	mobo_test_board_free(bad.b);
	close(bad.disk);
}

static void bad_setup_is_refused(void **state)
{
	static const char *const no_image[] = {"unit0", "disk", NULL};
	static const char *const odd_type[] = {"unit0", "floppy", NULL};
	int ret = 0;

	assert_null(mobo_test_board_try(&mobo_chip_ide,
					&(struct mobo_test_setup){.config = no_image}, &ret));
	assert_true(ret < 0);
	assert_null(mobo_test_board_try(&mobo_chip_ide,
					&(struct mobo_test_setup){.config = odd_type}, &ret));
	assert_true(ret < 0);
}

/* -- Packets -- */

/* Sends a packet; status after it. limit: byte count for PIO. */
static uint8_t packet(struct rig *r, const uint8_t *p, unsigned limit, bool dma)
{
	task(r, C1, dma, 0, (uint32_t)limit << 8, 0xa0, 0xa0);
	assert_int_equal(wait_ready(r, CTL1), DRDY | DSC | DRQ);
	assert_int_equal(mobo_test_inb(r->b, C1 + 2) & 3, 1);
	mobo_test_write_string(r->b, REGION_COMMAND1, 0, 2, p, 6);
	return dma ? 0 : wait_ready(r, CTL1);
}

/* A packet whose data come by PIO: their number. */
static unsigned packet_in(struct rig *r, const uint8_t *p, void *buf, unsigned limit)
{
	uint8_t s = packet(r, p, limit, false);
	unsigned got = 0;

	while (s & DRQ) {
		unsigned n = mobo_test_inb(r->b, C1 + 4) | mobo_test_inb(r->b, C1 + 5) << 8;

		assert_int_equal(mobo_test_inb(r->b, C1 + 2) & 3, 2);
		assert_true(n > 0 && n <= limit);
		take_irq(r, 1);
		read_words(r, REGION_COMMAND1, (uint8_t *)buf + got, (n + 1) & ~1u);
		got += n;
		s = wait_ready(r, CTL1);
	}
	assert_int_equal(mobo_test_inb(r->b, C1 + 2) & 3, 3);
	take_irq(r, 1);
	return s & ERR ? 0 : got;
}

static uint32_t sense(struct rig *r)
{
	static const uint8_t p[12] = {3, 0, 0, 0, 18};
	uint8_t data[18];

	assert_int_equal(packet_in(r, p, data, 18), 18);
	assert_int_equal(data[0], 0x70);
	return (uint32_t)(data[2] << 16 | data[12] << 8 | data[13]);
}

static const uint8_t test_unit_ready[12] = {0};

/* Past the attention after power-on. */
static void ready(struct rig *r)
{
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR);
	assert_int_equal(mobo_test_inb(r->b, C1 + 1) >> 4, 6);
	assert_int_equal(sense(r), 0x062900);
	assert_int_equal(packet(r, test_unit_ready, 0, false), DRDY | DSC);
	assert_int_equal(sense(r), 0);
}

static void packets_tell_about_the_drive(void **state)
{
	static const uint8_t inquiry[12] = {0x12, 0, 0, 0, 36};
	static const uint8_t capacity[12] = {0x25};
	static const uint8_t toc[12] = {0x43, 2, 0, 0, 0, 0, 0, 0, 64};
	static const uint8_t toc_raw[12] = {0x43, 0, 2, 0, 0, 0, 0, 1, 0};
	static const uint8_t sessions[12] = {0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40};
	static const uint8_t mode[12] = {0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128};
	static const uint8_t features[12] = {0x46, 0, 0, 0, 0, 0, 0, 1, 0};
	static const uint8_t wrong[12] = {0xee};
	struct rig *r = *state;
	uint8_t buf[512];
	unsigned n;

	ready(r);
	assert_int_equal(packet_in(r, inquiry, buf, 0xfffe), 36);
	assert_int_equal(buf[0], 5);
	assert_int_equal(buf[1], 0x80);
	assert_int_equal(packet_in(r, capacity, buf, 8), 8);
	assert_int_equal(buf[2] << 8 | buf[3], CD_BLOCKS - 1);
	assert_int_equal(buf[6], 8);
	assert_int_equal(packet_in(r, toc, buf, 64), 20);
	assert_int_equal(buf[1], 18);
	assert_int_equal(buf[6], 1);
	assert_memory_equal(buf + 8, "\0\0\2\0", 4); /* 00:02:00 */
	assert_int_equal(buf[14], 0xaa);
	assert_memory_equal(buf + 16, "\0\0\12\0", 4); /* 600 blocks and 2 seconds: 00:10:00 */
	assert_int_equal(packet_in(r, toc_raw, buf, 256), 48);
	assert_int_equal(buf[7], 0xa0);
	assert_int_equal(packet_in(r, sessions, buf, 256), 12);
	assert_int_equal(packet_in(r, mode, buf, 128), 30);
	assert_int_equal(buf[8], 0x2a);
	n = packet_in(r, features, buf, 256);
	assert_int_equal(n, (buf[2] << 8 | buf[3]) + 4);
	assert_int_equal(buf[7], 8); /* CD-ROM */
	assert_int_equal(packet(r, wrong, 0, false) & ERR, ERR);
	assert_int_equal(sense(r), 0x052000);
}

static void expect_cd(const uint8_t *p, unsigned block, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != cd_byte(block * 2048ull + i)) {
			fail_msg("byte %zu differs", i);
		}
	}
}

static void cd_is_read_by_pio_and_dma(void **state)
{
	static const uint8_t read_10[12] = {0x28, 0, 0, 0, 0, 20, 0, 0, 30};
	static const uint8_t read_12[12] = {0xa8, 0, 0, 0, 0, 20, 0, 0, 0, 30};
	static const uint8_t beyond[12] = {0x28, 0, 0, 0, 2, 0x50, 0, 0, 30};
	static const uint8_t raw[12] = {0xbe, 0, 0, 0, 0, 20, 0, 0, 8, 0xf8};
	struct rig *r = *state;
	uint8_t *buf = malloc(30 * 2352), *ram = mobo_test_ram(r->b);

	ready(r);
	assert_int_equal(packet_in(r, read_10, buf, 2048), 30 * 2048);
	expect_cd(buf, 20, 30 * 2048);
	assert_int_equal(packet_in(r, read_12, buf, 0xfffe), 30 * 2048);
	expect_cd(buf, 20, 30 * 2048);
	prd(r, 0x1000, 0x10000, 0x8000, false);
	prd(r, 0x1008, 0x40000, 0x7000, true);
	packet(r, read_10, 0, true);
	bm_start(r, 1, 0x1000, true);
	assert_int_equal(wait_ready(r, CTL1), DRDY | DSC);
	take_irq(r, 1);
	assert_int_equal(mobo_test_read(r->b, REGION_BM, 10, 1) & 7, 4);
	expect_cd(ram + 0x10000, 20, 0x8000);
	expect_cd(ram + 0x40000, 36, 0x7000);
	assert_int_equal(packet_in(r, beyond, buf, 0xfffe), 0);
	assert_int_equal(sense(r), 0x052100);
	assert_int_equal(packet_in(r, raw, buf, 0xfffe), 8 * 2352);
	assert_memory_equal(buf + 2352 * 7,
			    "\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\2\x27\1",
			    16); /* block 27: 00:02:27 */
	expect_cd(buf + 2352 * 7 + 16, 27, 2048);
	prd(r, 0x1000, 0x10000, 0x8000, true);
	packet(r, raw, 0, true);
	bm_start(r, 1, 0x1000, true);
	assert_int_equal(wait_ready(r, CTL1), DRDY | DSC);
	assert_memory_equal(ram + 0x10000, buf, 8 * 2352);
	free(buf);
}

static void medium_is_changed_live(void **state)
{
	static const char *const names[] = {"media2.image0"}, *const unit[] = {"unit2.image0"};
	static const uint8_t capacity[12] = {0x25};
	static const uint8_t lock[12] = {0x1e, 0, 0, 0, 1};
	static const uint8_t unlock[12] = {0x1e};
	static const uint8_t events[12] = {0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8};
	static const uint8_t eject[12] = {0x1b, 0, 0, 0, 2};
	static const uint8_t load[12] = {0x1b, 0, 0, 0, 3};
	struct rig *r = *state;
	uint8_t buf[64];

	ready(r);
	packet(r, lock, 0, false);
	assert_int_equal(packet(r, eject, 0, false) & ERR, ERR);
	assert_int_equal(sense(r), 0x055302);
	assert_int_equal(mobo_test_media(r->b, 2, NULL, NULL, 0, false), -16); /* EBUSY */
	assert_int_equal(packet_in(r, events, buf, 8), 8);
	assert_int_equal(buf[4], 1); /* eject requested */
	assert_int_equal(buf[5], 2); /* present */
	packet(r, unlock, 0, false);
	assert_int_equal(mobo_test_media(r->b, 2, NULL, NULL, 0, false), 0);
	assert_int_equal(packet_in(r, events, buf, 8), 8);
	assert_int_equal(buf[4], 3);
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR); /* attention */
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR);
	assert_int_equal(sense(r), 0x023a01);
	assert_int_equal(mobo_test_media(r->b, 2, names, &r->other_cd, 1, false), 0);
	assert_int_equal(packet_in(r, events, buf, 8), 8);
	assert_int_equal(buf[4], 2);
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR);
	assert_int_equal(sense(r), 0x062800);
	assert_int_equal(packet_in(r, capacity, buf, 8), 8);
	assert_int_equal(buf[3], 19);
	assert_int_equal(packet(r, eject, 0, false), DRDY | DSC);
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR);
	assert_int_equal(sense(r), 0x023a02);
	assert_int_equal(packet(r, load, 0, false), DRDY | DSC);
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR);
	assert_int_equal(packet(r, test_unit_ready, 0, false), DRDY | DSC);
	assert_int_equal(mobo_test_media(r->b, 2, unit, &r->cd, 1, false), 0);
	assert_int_equal(packet(r, test_unit_ready, 0, false) & ERR, ERR);
	assert_int_equal(packet_in(r, capacity, buf, 8), 8);
	assert_int_equal(buf[2] << 8 | buf[3], CD_BLOCKS - 1);
	assert_int_equal(mobo_test_media(r->b, 0, NULL, NULL, 0, true), -19); /* a disk: ENODEV */
}

static void generic(void **state)
{
	struct rig *r = *state;
	int fds[2] = {r->disk, r->cd};

	mobo_chip_generic_tests_with(&mobo_chip_ide, &(struct mobo_test_setup){.config = config,
									       .fd_names = fd_names,
									       .fds = fds});
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(reset_leaves_signatures),
		RIG_TEST(absent_drive_reads_zeros),
		RIG_TEST(identify_tells_size_and_names),
		RIG_TEST(wrong_command_is_aborted),
		RIG_TEST(interrupt_can_be_masked),
		RIG_TEST(diagnostic_passes),
		RIG_TEST(pio_read_interrupts_each_sector),
		RIG_TEST(data_register_takes_words_and_doublewords),
		RIG_TEST(chs_names_the_same_sectors),
		RIG_TEST(multiple_moves_blocks),
		RIG_TEST(pio_write_reaches_the_image),
		RIG_TEST(address_beyond_the_end_is_not_found),
		RIG_TEST(previous_register_contents_show_with_hob),
		RIG_TEST(set_features_selects_the_mode),
		RIG_TEST(smart_says_healthy),
		RIG_TEST(dma_read_scatters),
		RIG_TEST(dma_write_long_and_exact),
		RIG_TEST(short_table_hangs_until_more_comes),
		RIG_TEST(dma_to_nowhere_is_an_error),
		RIG_TEST(reset_stops_a_command),
		RIG_TEST(trim_gives_space_back),
		RIG_TEST(command_goes_on_after_restart),
		RIG_TEST(pause_waits_for_the_disk),
		RIG_TEST(readonly_disk_refuses_writes),
		cmocka_unit_test(host_trouble_reaches_the_guest_as_an_error),
		cmocka_unit_test(damaged_image_reads_as_uncorrectable),
		RIG_TEST(bad_setup_is_refused),
		RIG_TEST(packets_tell_about_the_drive),
		RIG_TEST(cd_is_read_by_pio_and_dma),
		RIG_TEST(medium_is_changed_live),
		RIG_TEST(generic),
	};

	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
