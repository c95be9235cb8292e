/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image library on damaged qcow2 images: small images are made, written, damaged where it hurts
 * (header, tables, counts), opened and used. Anything may be refused; nothing may crash, hang or
 * allocate without bound. Run it under the sanitizers.
 *
 *   fuzz_qcow2 [--seed N] [--seconds S]    or    fuzz_qcow2 FILE ...
 */
#include "mobo/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t random_state;

static uint64_t rnd(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t n)
{
	return n ? (rnd() >> 16) % n : 0;
}

static uint64_t be_at(int fd, uint64_t off, unsigned bytes)
{
	uint8_t p[8] = {0};
	uint64_t v = 0;

	if (pread(fd, p, bytes, (off_t)off) != (ssize_t)bytes) {
		return 0;
	}
	for (unsigned k = 0; k < bytes; k++) {
		v = v << 8 | p[k];
	}
	return v;
}

/* A number that might hurt, for a field of an image with clusters of 1 << bits. */
static uint64_t nasty(unsigned bits, uint64_t file_size)
{
	switch (below(10)) {
	case 0: return 0;
	case 1: return 1ull << below(64);
	case 2: return UINT64_MAX;
	case 3: return below(file_size >> bits) << bits; /* a cluster of the file */
	case 4: return below(file_size >> bits) << bits | 1ull << 63;
	case 5: return below(file_size) | 1ull << 62 | below(256) << (62 - (bits - 8));
	case 6: return below(64);
	case 7: return (below(1 << 20) << bits) | 1ull << 63;
	case 8: return INT64_MAX - below(1 << 20);
	default: return rnd();
	}
}

static void put(int fd, uint64_t off, uint64_t v, unsigned bytes)
{
	uint8_t p[8];

	for (unsigned k = bytes; k-- > 0; v >>= 8) {
		p[k] = (uint8_t)v;
	}
	(void)!pwrite(fd, p, bytes, (off_t)off);
}

/* One piece of damage. */
static void damage(int fd, uint64_t file_size)
{
	static const struct {
		uint8_t off, bytes;
	} header[] = {{4, 4},  {8, 8},	{16, 4}, {20, 4}, {24, 8}, {32, 4},
		      {36, 4}, {40, 8}, {48, 8}, {56, 4}, {60, 4}, {64, 8},
		      {72, 8}, {80, 8}, {88, 8}, {96, 4}, {100, 4}};
	unsigned bits = 16, k = (unsigned)below(sizeof(header) / sizeof(header[0]));
	uint64_t table, n = be_at(fd, 36, 4);

	for (bits = 9; bits < 21 && bits != be_at(fd, 20, 4); bits++) {
	}
	switch (below(8)) {
	case 0: put(fd, header[k].off, nasty(bits, file_size), header[k].bytes); break;
	case 1: /* L1 */
		put(fd, be_at(fd, 40, 8) + below(n + 1) * 8, nasty(bits, file_size), 8);
		break;
	case 2:
	case 3:
	case 4: /* L2 */
		table = be_at(fd, be_at(fd, 40, 8) + below(n + 1) * 8, 8) & 0x00fffffffffffe00ull;
		put(fd, table + below(32) * 8, nasty(bits, file_size), 8);
		break;
	case 5: /* reference count table */
		put(fd, be_at(fd, 48, 8) + below(8) * 8, nasty(bits, file_size), 8);
		break;
	case 6: /* reference counts */
		put(fd, be_at(fd, be_at(fd, 48, 8), 8) + below(64), below(4) ? 0 : rnd(), 1);
		break;
	default: put(fd, below(file_size), rnd(), 1 + (unsigned)below(8)); break;
	}
}

static void use(int fd, bool readonly)
{
	static uint8_t buf[200000];
	struct mobo_image_info info;
	struct mobo_error err;
	struct mobo_image *img;
	uint64_t size;

	if (mobo_image_probe(fd, &info, &err) == 0) {
		mobo_image_usable(&info, "the image", readonly, &err);
	}
	img = mobo_image_create_from_fds(&fd, 1,
					 (readonly ? MOBO_IMAGE_READONLY : 0) |
						 (below(2) ? MOBO_IMAGE_PUNCH : 0),
					 &err);
	if (!img) {
		return;
	}
	size = mobo_image_size(img);
	for (unsigned k = 0; k < 40 && size > 0; k++) {
		uint64_t off = below(below(4) ? (size < 4 << 20 ? size : 4 << 20) : size);
		uint64_t len = below(sizeof(buf)) + 1;

		len = len > size - off ? size - off : len;
		switch (below(6)) {
		case 0:
		case 1: mobo_image_read(img, buf, len, off); break;
		case 2:
		case 3: mobo_image_write(img, buf, len, off); break;
		case 4: mobo_image_discard(img, off, len); break;
		default:
			if (below(2)) {
				mobo_image_write_zeroes(img, off, len);
			} else {
				mobo_image_flush(img);
			}
			break;
		}
	}
	mobo_image_destroy(img);
}

static int fresh_image(uint64_t *ret_size)
{
	char path[64];
	struct mobo_image_new what = {.format = MOBO_IMAGE_QCOW2,
				      .size = (1 + below(64)) << 18,
				      .cluster_size = 512u << below(9)};
	struct mobo_error err = {0};
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/mobo-fuzz-%d", (int)getpid());
	unlink(path);
	if (mobo_image_new(path, &what, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	use(fd, false);
	fstat(fd, &st);
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

static void one_round(void)
{
	uint64_t size, start = mobo_monotonic_ns(), took;
	int fd = fresh_image(&size);

	for (uint64_t n = 1 + below(6); n > 0; n--) {
		damage(fd, size);
	}
	use(fd, below(2));
	use(fd, false);
	close(fd);
	took = mobo_monotonic_ns() - start;
	if (took > 20000000000ull) {
		fprintf(stderr, "a round took %llu ms\n", (unsigned long long)(took / 1000000));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, seconds = 10, end, rounds = 0;
	struct rlimit no_core = {0, 0};
	int files = 0;

	setrlimit(RLIMIT_CORE, &no_core);
	for (int k = 1; k < argc; k++) {
		if (strcmp(argv[k], "--seed") == 0 && k + 1 < argc) {
			seed = strtoull(argv[++k], NULL, 0);
		} else if (strcmp(argv[k], "--seconds") == 0 && k + 1 < argc) {
			seconds = strtoull(argv[++k], NULL, 0);
		} else {
			int fd = open(argv[k], O_RDONLY | O_CLOEXEC);

			random_state = 1;
			use(fd, true);
			close(fd);
			files++;
		}
	}
	if (files > 0) {
		return 0;
	}
	end = mobo_monotonic_ns() + seconds * 1000000000ull;
	for (; mobo_monotonic_ns() < end; rounds++) {
		random_state = (seed << 32 | rounds) * 0x9e3779b97f4a7c15ull | 1;
		one_round();
	}
	printf("%llu images\n", (unsigned long long)rounds);
	return 0;
}
