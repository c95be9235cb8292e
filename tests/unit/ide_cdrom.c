/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CD-ROM drive: packets, their data by PIO and DMA, media. Expected values are those of
 * ATA/ATAPI-7 and MMC-3.
 */
#include "ide_rig.h"

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

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(packets_tell_about_the_drive),
		RIG_TEST(cd_is_read_by_pio_and_dma),
		RIG_TEST(medium_is_changed_live),
	};

	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
