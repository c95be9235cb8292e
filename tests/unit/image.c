/* SPDX-License-Identifier: Apache-2.0 */
/* The image library by itself: formats, refusals, chains, locks, raw files. See image_oracle.c too.
 */
#include "mobo/image.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[256];

static const char *in_dir(const char *name)
{
	static char path[4][512];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static int memory_file(const void *data, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static void make_qcow2(const char *name, uint64_t size, const char *backing)
{
	struct mobo_image_new what = {.format = MOBO_IMAGE_QCOW2,
				      .size = size,
				      .backing_file = backing};
	struct mobo_error err = {0};

	unlink(in_dir(name));
	if (mobo_image_new(in_dir(name), &what, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void poke(const char *name, uint64_t off, const void *data, size_t len)
{
	int fd = open(in_dir(name), O_RDWR);

	assert_int_equal(pwrite(fd, data, len, (off_t)off), (ssize_t)len);
	close(fd);
}

static void foreign_formats_are_named_and_refused(void **state)
{
	static const struct {
		const char *magic;
		size_t len, at;
		const char *name;
	} cases[] = {
		{"KDMV", 4, 0, "vmdk"},
		{"vhdxfile", 8, 0, "vhdx"},
		{"conectix", 8, 0, "vhd"},
		{"QED\0", 4, 0, "qed"},
		{"LUKS\xba\xbe", 6, 0, "LUKS"},
		{"\x7f\x10\xda\xbe", 4, 64, "vdi"},
		{"QFI\xfb\0\0\0\1", 8, 0, "qcow"},
	};

	for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct mobo_image_info info;
		struct mobo_error err = {0};
		uint8_t data[4096] = {0};
		int fd;

		memcpy(data + cases[k].at, cases[k].magic, cases[k].len);
		fd = memory_file(data, sizeof(data));
		assert_int_equal(mobo_image_probe(fd, &info, &err), 0);
		assert_int_equal(mobo_image_usable(&info, "/x/disk", false, &err), -ENOTSUP);
		assert_non_null(strstr(err.text, cases[k].name));
		assert_non_null(strstr(err.text, "/x/disk"));
		assert_non_null(strstr(err.text, "mobo disk convert"));
		assert_null(mobo_image_create_from_fds(&fd, 1, 0, &err));
		close(fd);
	}
}

static void raw_file_with_odd_length_ends_in_zeros(void **state)
{
	struct mobo_error err = {0};
	char data[1000], buf[1024];
	struct mobo_image *img;
	int fd;

	memset(data, 'x', sizeof(data));
	fd = memory_file(data, sizeof(data));
	img = mobo_image_create_from_fds(&fd, 1, 0, &err);
	assert_non_null(img);
	assert_int_equal(mobo_image_size(img), 1024);
	assert_int_equal(mobo_image_read(img, buf, 1024, 0), 0);
	assert_memory_equal(buf, data, 1000);
	assert_memory_equal(buf + 1000, "\0\0\0\0", 4);
	memset(buf, 'y', 512);
	assert_int_equal(mobo_image_write(img, buf, 512, 512), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 1024);
	assert_int_equal(mobo_image_read(img, buf, 512, 1024), -EINVAL);
	assert_int_equal(mobo_image_write(img, buf, 512, UINT64_MAX - 100), -EINVAL);
	assert_int_equal(mobo_image_destroy(img), 0);
	close(fd);
}

static void guest_cannot_turn_raw_into_qcow2(void **state)
{
	struct mobo_error err = {0};
	char buf[512] = "QFI\xfb\0\0\0\3", zeros[4096] = {0};
	int fd = memory_file(zeros, sizeof(zeros));
	struct mobo_image *img = mobo_image_create_from_fds(&fd, 1, 0, &err);

	assert_int_equal(mobo_image_write(img, buf, 512, 0), -EPERM);
	assert_int_equal(mobo_image_write(img, buf, 512, 512), 0);
	mobo_image_destroy(img);
	/* Who says that it is raw may. */
	img = mobo_image_create_from_fds(&fd, 1, MOBO_IMAGE_FORCE_RAW, &err);
	assert_int_equal(mobo_image_write(img, buf, 512, 0), 0);
	mobo_image_destroy(img);
	close(fd);
}

static void readonly_image_refuses_writes(void **state)
{
	struct mobo_error err = {0};
	char zeros[4096] = {0};
	int fd = memory_file(zeros, sizeof(zeros));
	struct mobo_image *img = mobo_image_create_from_fds(&fd, 1, MOBO_IMAGE_READONLY, &err);

	assert_int_equal(mobo_image_write(img, zeros, 512, 0), -EROFS);
	assert_int_equal(mobo_image_discard(img, 0, 512), -EROFS);
	assert_int_equal(mobo_image_write_zeroes(img, 0, 512), -EROFS);
	assert_int_equal(mobo_image_flush(img), 0);
	mobo_image_destroy(img);
	close(fd);
}

static void headers_that_lie_are_refused(void **state)
{
	static const struct {
		unsigned off;
		const char *bytes;
		size_t len;
		const char *says;
	} lies[] = {
		{4, "\0\0\0\7", 4, "version"},
		{20, "\0\0\0\x30", 4, "cluster size"},
		{20, "\0\0\0\x8", 4, "cluster size"},
		{24, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8, "virtual size"},
		{24, "\0\0\x7f\xff\0\0\0\0", 8, "L1 table too small"},
		{32, "\0\0\0\1", 4, "encrypted"},
		{36, "\xff\xff\xff\xff", 4, "L1 table"},
		{40, "\0\0\0\0\0\1\0\1", 8, "L1 table"},
		{40, "\0\0\xff\0\0\0\0\0", 8, "L1 table"},
		{48, "\0\0\xff\0\0\0\0\0", 8, "reference count table"},
		{56, "\xff\xff\xff\xff", 4, "reference count table"},
		{56, "\0\0\0\0", 4, "reference count table"},
		{60, "\xff\0\0\0", 4, "snapshots"},
		{72, "\0\0\0\0\0\0\0\1", 8, "not cleanly closed"},
		{72, "\0\0\0\0\0\0\0\2", 8, "corrupt"},
		{72, "\0\0\0\0\0\0\0\4", 8, "external data file"},
		{72, "\0\0\0\0\0\0\0\x10", 8, "extended L2"},
		{72, "\0\0\0\0\0\0\1\0", 8, "not known"},
		{96, "\0\0\0\7", 4, "reference count width"},
		{100, "\0\0\0\x10", 4, "header length"},
		{8, "\0\0\0\0\0\0\2\0\0\0\xff\xff", 12, "backing file name"},
	};

	for (unsigned k = 0; k < sizeof(lies) / sizeof(lies[0]); k++) {
		struct mobo_image_chain chain;
		struct mobo_error err = {0};

		make_qcow2("lie", 4 << 20, NULL);
		poke("lie", lies[k].off, lies[k].bytes, lies[k].len);
		assert_true(mobo_image_open_chain(in_dir("lie"), 0, &chain, &err) < 0);
		if (!strstr(err.text, lies[k].says) || !strstr(err.text, "/lie")) {
			fail_msg("lie %u: \"%s\"", k, err.text);
		}
	}
}

static void dirty_image_can_be_read(void **state)
{
	struct mobo_image_chain chain;
	struct mobo_error err = {0};

	make_qcow2("dirty", 1 << 20, NULL);
	poke("dirty", 72, "\0\0\0\0\0\0\0\1", 8);
	assert_int_equal(mobo_image_open_chain(in_dir("dirty"), 0, &chain, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "qemu-img check -r all"));
	assert_int_equal(mobo_image_open_chain(in_dir("dirty"), MOBO_IMAGE_READONLY, &chain, &err),
			 0);
	mobo_image_chain_close(&chain);
}

static void autoclear_bits_are_cleared_by_the_first_write(void **state)
{
	struct mobo_image_chain chain;
	struct mobo_error err = {0};
	struct mobo_image *img;
	uint8_t bits[8];

	make_qcow2("auto", 1 << 20, NULL);
	poke("auto", 88, "\0\0\0\0\0\0\0\x81", 8);
	assert_int_equal(mobo_image_open_chain(in_dir("auto"), 0, &chain, &err), 0);
	img = mobo_image_create_from_fds(chain.fds, chain.n, 0, &err);
	assert_int_equal(pread(chain.fds[0], bits, 8, 88), 8);
	assert_int_equal(bits[7], 0x81);
	assert_int_equal(mobo_image_write(img, "x", 1, 0), 0);
	assert_int_equal(pread(chain.fds[0], bits, 8, 88), 8);
	assert_int_equal(bits[7], 0);
	assert_int_equal(mobo_image_destroy(img), 0);
	mobo_image_chain_close(&chain);
}

static void chains_resolve_names_and_find_loops(void **state)
{
	struct mobo_image_chain chain;
	struct mobo_error err = {0};
	char buf[512];
	struct mobo_image *img;

	make_qcow2("a", 1 << 20, NULL);
	make_qcow2("b", 0, "a"); /* relative to b, not to where we are */
	make_qcow2("c", 2 << 20, in_dir("b"));
	assert_int_equal(mobo_image_open_chain(in_dir("c"), 0, &chain, &err), 0);
	assert_int_equal(chain.n, 3);
	assert_int_equal(chain.info[1].virtual_size, 1 << 20);
	img = mobo_image_create_from_fds(chain.fds, 3, 0, &err);
	assert_non_null(img);
	assert_int_equal(mobo_image_write(img, "hello", 5, 100), 0);
	assert_int_equal(mobo_image_read(img, buf, 512, 0), 0);
	assert_memory_equal(buf + 98, "\0\0hello\0", 8);
	assert_int_equal(mobo_image_destroy(img), 0);
	assert_null(mobo_image_create_from_fds(chain.fds, 2, 0, &err));
	assert_non_null(strstr(err.text, "\"a\" is missing"));
	mobo_image_chain_close(&chain);
	unlink(in_dir("a"));
	assert_int_equal(mobo_image_open_chain(in_dir("c"), 0, &chain, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/a"));
	/* a names b, which names a */
	make_qcow2("a", 1 << 20, NULL);
	assert_int_equal(rename(in_dir("b"), in_dir("b2")), 0);
	make_qcow2("b", 1 << 20, NULL);
	unlink(in_dir("a"));
	make_qcow2("a", 1 << 20, "b");
	assert_int_equal(rename(in_dir("b2"), in_dir("b")), 0);
	assert_int_equal(mobo_image_open_chain(in_dir("a"), 0, &chain, &err), -ELOOP);
}

static void raw_backing_file_is_taken_as_raw(void **state)
{
	struct mobo_image_chain chain;
	struct mobo_error err = {0};
	struct mobo_image_new raw = {.format = MOBO_IMAGE_RAW, .size = 1 << 20};
	char buf[8];

	/* The guest of the base wrote something that looks like qcow2; the header says raw. */
	unlink(in_dir("base"));
	assert_int_equal(mobo_image_new(in_dir("base"), &raw, &err), 0);
	make_qcow2("over", 0, "base");
	poke("base", 0, "QFI\xfb\0\0\0\3", 8);
	assert_int_equal(mobo_image_open_chain(in_dir("over"), 0, &chain, &err), 0);
	struct mobo_image *img = mobo_image_create_from_fds(chain.fds, chain.n, 0, &err);
	assert_non_null(img);
	assert_int_equal(mobo_image_read(img, buf, 8, 0), 0);
	assert_memory_equal(buf, "QFI\xfb\0\0\0\3", 8);
	mobo_image_destroy(img);
	mobo_image_chain_close(&chain);
}

static void images_lock_each_other_out(void **state)
{
	struct mobo_image_chain one, two;
	struct mobo_error err = {0};

	make_qcow2("base", 1 << 20, NULL);
	make_qcow2("x", 0, "base");
	make_qcow2("y", 0, "base");
	assert_int_equal(mobo_image_open_chain(in_dir("x"), 0, &one, &err), 0);
	assert_int_equal(mobo_image_open_chain(in_dir("x"), 0, &two, &err), -EBUSY);
	assert_int_equal(mobo_image_open_chain(in_dir("y"), 0, &two, &err), 0); /* shared base */
	mobo_image_chain_close(&two);
	assert_int_equal(mobo_image_open_chain(in_dir("base"), 0, &two, &err), -EBUSY);
	mobo_image_chain_close(&one);
	assert_int_equal(mobo_image_open_chain(in_dir("base"), 0, &two, &err), 0);
	mobo_image_chain_close(&two);
}

static void new_images_do_not_replace_files(void **state)
{
	struct mobo_image_new what = {.format = MOBO_IMAGE_QCOW2, .size = 1 << 20};
	struct mobo_error err = {0};

	make_qcow2("there", 1 << 20, NULL);
	assert_int_equal(mobo_image_new(in_dir("there"), &what, &err), -EEXIST);
	what.cluster_size = 1000;
	assert_int_equal(mobo_image_new(in_dir("not"), &what, &err), -EINVAL);
	what.cluster_size = 0;
	what.backing_file = "nothing";
	assert_int_equal(mobo_image_new(in_dir("not"), &what, &err), -ENOENT);
	assert_int_equal(access(in_dir("not"), F_OK), -1);
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/mobo-image-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {"lie",  "dirty", "auto", "a", "b",	  "c",
					    "base", "over",  "x",    "y", "there"};

	for (unsigned k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
		unlink(in_dir(names[k]));
	}
	return rmdir(dir);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(foreign_formats_are_named_and_refused),
		cmocka_unit_test(raw_file_with_odd_length_ends_in_zeros),
		cmocka_unit_test(guest_cannot_turn_raw_into_qcow2),
		cmocka_unit_test(readonly_image_refuses_writes),
		cmocka_unit_test(headers_that_lie_are_refused),
		cmocka_unit_test(dirty_image_can_be_read),
		cmocka_unit_test(autoclear_bits_are_cleared_by_the_first_write),
		cmocka_unit_test(chains_resolve_names_and_find_loops),
		cmocka_unit_test(raw_backing_file_is_taken_as_raw),
		cmocka_unit_test(images_lock_each_other_out),
		cmocka_unit_test(new_images_do_not_replace_files),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
