/* SPDX-License-Identifier: Apache-2.0 */
/* What the subjects of `mobo bench` run: an initrd, a firmware, a boot sector, a disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "mobo/image.h"

/* One member in the "newc" format (cpio(5)): hexadecimal header, name and data, each padded to 4.
 */
static void add_member(FILE *f, const char *name, unsigned mode, const void *data, size_t len)
{
	static const char zeros[4];
	unsigned name_len = (unsigned)strlen(name) + 1;

	/* magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor
	 * namesize check */
	fprintf(f, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08X%08X", 1, mode, 0, 0, 1,
		0, len, 0, 0, 0, 0, name_len, 0);
	fwrite(name, 1, name_len, f);
	fwrite(zeros, 1, -(110 + name_len) & 3, f);
	fwrite(data, 1, len, f);
	fwrite(zeros, 1, -len & 3, f);
}

/* 0, or what went wrong while writing f; closes it. */
static int finish(FILE *f)
{
	bool bad = ferror(f) != 0;

	return fclose(f) != 0 || bad ? -EIO : 0;
}

/* Adds a file of the host as `name`. 0 or -errno. */
static int add_file(FILE *out, const char *name, const char *path)
{
	enum { MAX = 8 << 20 };
	FILE *in = fopen(path, "r");
	char *data = malloc(MAX);
	size_t len = 0;
	int r = in ? 0 : -errno;

	if (in && data) {
		len = fread(data, 1, MAX, in);
		r = len == 0 || len == MAX ? -EINVAL : 0;
	}
	if (r == 0) {
		add_member(out, name, 0100755, data, len);
	}
	if (in) {
		fclose(in);
	}
	free(data);
	return r;
}

int bench_make_initrd(const char *path, const char *program)
{
	FILE *out = fopen(path, "w");
	int r;

	if (!out) {
		return -errno;
	}
	r = add_file(out, "init", program);
	/* The workloads that are shell scripts do nothing where the host has no busybox. */
	add_member(out, "bin", 0040755, "", 0);
	add_file(out, "bin/busybox", "/bin/busybox");
	add_member(out, "TRAILER!!!", 0, "", 0);
	return finish(out) < 0 ? -EIO : r;
}

/* mov dx, 3f8h; mov al, LETTER; out dx, al; hlt; jmp to the hlt */
static void send_letter(uint8_t *at, char letter)
{
	static const uint8_t code[] = {0xba, 0xf8, 0x03, 0xb0, 0, 0xee, 0xf4, 0xeb, 0xfd};

	memcpy(at, code, sizeof(code));
	at[4] = (uint8_t)letter;
}

static int write_file(const char *path, const uint8_t *data, size_t len)
{
	FILE *f = fopen(path, "w");

	if (!f) {
		return -errno;
	}
	fwrite(data, 1, len, f);
	return finish(f);
}

int bench_make_firmware(const char *path)
{
	static uint8_t image[64 * 1024];

	send_letter(image + sizeof(image) - 16, 'F'); /* the reset vector, FFFFFFF0h */
	return write_file(path, image, sizeof(image));
}

int bench_make_boot_disk(const char *path)
{
	static uint8_t image[1024 * 1024];

	send_letter(image, 'B');
	image[510] = 0x55;
	image[511] = 0xaa;
	return write_file(path, image, sizeof(image));
}

int bench_make_overlay(const char *path, const char *backing)
{
	struct mobo_image_new what = {.format = MOBO_IMAGE_QCOW2, .backing_file = backing};
	struct mobo_error err = {0};

	unlink(path);
	return mobo_image_new(path, &what, &err);
}
