/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IDE controller as a driver of disks meets it: task file and PIO. Expected values are those
 * of ATA/ATAPI-7.
 */
#include "ide_rig.h"

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
	};

	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
