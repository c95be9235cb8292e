/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host does to the IDE controller, and what the guest sees of it: restarts and pauses in
 * the midst of commands, images that are read-only or damaged, host trouble, bad settings.
 */
#include "ide_rig.h"

#include "mobo/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

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

static void generic(void **state)
{
	struct rig *r = *state;
	int fds[2] = {r->disk, r->cd};

	mobo_chip_generic_tests_with(&mobo_chip_ide, &(struct mobo_test_setup){.config = config,
									       .fd_names = fd_names,
									       .fds = fds});
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(command_goes_on_after_restart),
		RIG_TEST(pause_waits_for_the_disk),
		RIG_TEST(readonly_disk_refuses_writes),
		cmocka_unit_test(host_trouble_reaches_the_guest_as_an_error),
		cmocka_unit_test(damaged_image_reads_as_uncorrectable),
		RIG_TEST(bad_setup_is_refused),
		RIG_TEST(generic),
	};

	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
