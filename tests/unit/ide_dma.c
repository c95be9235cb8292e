/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IDE controller as bus master: descriptor tables, transfers, and what stops them. Expected
 * values are those of ATA/ATAPI-7 and the 82371SB datasheet.
 */
#include "ide_rig.h"

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

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(dma_read_scatters),
		RIG_TEST(dma_write_long_and_exact),
		RIG_TEST(short_table_hangs_until_more_comes),
		RIG_TEST(dma_to_nowhere_is_an_error),
		RIG_TEST(reset_stops_a_command),
		RIG_TEST(trim_gives_space_back),
	};

	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
