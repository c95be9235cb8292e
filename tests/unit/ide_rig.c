/* SPDX-License-Identifier: Apache-2.0 */
/* See ide_rig.h. */
#include "ide_rig.h"

#include <sys/mman.h>

uint8_t disk_byte(uint64_t off)
{
	return (uint8_t)(off / 512 * 7 + off % 512 + (off >> 17));
}

uint8_t cd_byte(uint64_t off)
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

const char *const config[] = {"unit0", "disk", "unit2", "cdrom", "unit0.serial", "S123", NULL};
const char *const fd_names[] = {"unit0.image0", "unit2.image0", NULL};

int make(void **state)
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

int unmake(void **state)
{
	struct rig *r = *state;

	mobo_test_board_free(r->b);
	close(r->disk);
	close(r->cd);
	close(r->other_cd);
	free(r);
	return 0;
}

uint8_t wait_ready(struct rig *r, unsigned ctl)
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

void task(struct rig *r, unsigned base, uint8_t feature, uint8_t count, uint32_t lba,
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

void lba28(struct rig *r, uint32_t lba, uint8_t count, uint8_t command)
{
	task(r, C0, 0, count, lba & 0xffffff, (uint8_t)(0xe0 | lba >> 24), command);
}

void lba48(struct rig *r, uint64_t lba, unsigned count, uint8_t command)
{
	mobo_test_outb(r->b, C0 + 2, (uint8_t)(count >> 8));
	mobo_test_outb(r->b, C0 + 3, (uint8_t)(lba >> 24));
	mobo_test_outb(r->b, C0 + 4, (uint8_t)(lba >> 32));
	mobo_test_outb(r->b, C0 + 5, (uint8_t)(lba >> 40));
	task(r, C0, 0, (uint8_t)count, (uint32_t)lba & 0xffffff, 0xe0, command);
}

void read_words(struct rig *r, unsigned region, void *buf, unsigned bytes)
{
	mobo_test_read_string(r->b, region, 0, 2, buf, bytes / 2);
}

uint8_t take_irq(struct rig *r, unsigned line)
{
	uint8_t s;

	assert_true(mobo_test_line(r->b, line));
	s = mobo_test_inb(r->b, line ? C1 + 7 : C0 + 7);
	assert_false(mobo_test_line(r->b, line));
	return s;
}

void prd(struct rig *r, unsigned at, uint32_t gpa, unsigned len, bool last)
{
	uint8_t *p = mobo_test_ram(r->b) + at;
	uint32_t w = (len & 0xffff) | (last ? 0x80000000u : 0);

	memcpy(p, &gpa, 4);
	memcpy(p + 4, &w, 4);
}

void bm_start(struct rig *r, unsigned channel, uint32_t table, bool to_memory)
{
	mobo_test_write(r->b, REGION_BM, channel * 8 + 4, 4, table);
	mobo_test_write(r->b, REGION_BM, channel * 8 + 2, 1, 6);
	mobo_test_write(r->b, REGION_BM, channel * 8, 1, to_memory ? 8 : 0);
	mobo_test_write(r->b, REGION_BM, channel * 8, 1, to_memory ? 9 : 1);
}

void expect_disk(const uint8_t *p, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != disk_byte(off + i)) {
			fail_msg("byte %zu differs", i);
		}
	}
}
