/* SPDX-License-Identifier: Apache-2.0 */
/* Making images, and growing them by path. */
#include "qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * The new file: header | reference count table | blocks | L1 table, which need as many clusters as
 * the counts of all of them fill.
 */
struct layout {
	unsigned bits;
	uint64_t l1_entries, l1_clusters, n_blocks, rt_clusters;
};

static int plan(uint64_t size, unsigned bits, struct layout *l)
{
	uint64_t cluster = 1ull << bits, per_block = cluster / 2, covers = 1ull << (2 * bits - 3),
		 all;

	l->bits = bits;
	l->l1_entries = size / covers + (size % covers != 0);
	if (l->l1_entries > QCOW2_MAX_L1_BYTES / 8) {
		return -EFBIG;
	}
	l->l1_clusters = (l->l1_entries * 8 + cluster - 1) / cluster;
	l->n_blocks = l->rt_clusters = 1;
	do {
		all = 1 + l->rt_clusters + l->n_blocks + l->l1_clusters;
		l->n_blocks = (all + per_block - 1) / per_block;
		l->rt_clusters = (l->n_blocks * 8 + cluster - 1) / cluster;
	} while (all != 1 + l->rt_clusters + l->n_blocks + l->l1_clusters);
	return 0;
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, 8);
}

/* Fill one cluster with the header, the backing file's format and its name. */
static int make_header(uint8_t *p, const struct layout *l, uint64_t size, const char *backing,
		       const char *backing_format)
{
	size_t at = 112, name_len = backing ? strlen(backing) : 0;

	memcpy(p, "QFI\xfb", 4);
	put32(p + 4, 3);
	put32(p + 20, l->bits);
	put64(p + QCOW2_H_SIZE, size);
	put32(p + QCOW2_H_L1_SIZE, (uint32_t)l->l1_entries);
	put64(p + 40, (1 + l->rt_clusters + l->n_blocks) << l->bits);
	put64(p + QCOW2_H_RT_OFFSET, 1ull << l->bits);
	put32(p + 56, (uint32_t)l->rt_clusters);
	put32(p + 96, 4); /* 16-bit reference counts */
	put32(p + 100, 112);
	if (!backing) {
		return 0;
	}
	put32(p + at, 0xe2792aca);
	put32(p + at + 4, (uint32_t)strlen(backing_format));
	memcpy(p + at + 8, backing_format, strlen(backing_format));
	at += 8 + 8 + 8; /* a name of at most 8 bytes, then the end mark */
	if (name_len > 1023 || at + name_len > 1ull << l->bits) {
		return -ENAMETOOLONG;
	}
	put64(p + 8, at);
	put32(p + 16, (uint32_t)name_len);
	memcpy(p + at, backing, name_len);
	return 0;
}

static int write_qcow2(int fd, uint64_t size, unsigned bits, const char *backing,
		       const char *backing_format)
{
	struct layout l;
	uint64_t cluster = 1ull << bits, all;
	uint8_t *p;
	int r = plan(size, bits, &l);

	if (r != 0) {
		return r;
	}
	all = 1 + l.rt_clusters + l.n_blocks + l.l1_clusters;
	if (ftruncate(fd, (off_t)(all * cluster)) != 0) {
		return -errno;
	}
	p = calloc(1 + l.rt_clusters + l.n_blocks, cluster);
	if (!p) {
		return -ENOMEM;
	}
	r = make_header(p, &l, size, backing, backing_format);
	for (uint64_t i = 0; i < l.n_blocks; i++) {
		put64(p + cluster + i * 8, (1 + l.rt_clusters + i) << bits);
	}
	for (uint64_t i = 0; i < all; i++) {
		p[((1 + l.rt_clusters) << bits) + i * 2 + 1] = 1;
	}
	if (r == 0) {
		r = image_pwrite(fd, p, (1 + l.rt_clusters + l.n_blocks) * cluster, 0);
	}
	free(p);
	return r;
}

/* Size and format of the backing file, as the new image at `path` will find it. */
static int look_at_backing(const char *path, const char *backing, struct mobo_image_info *info,
			   struct mobo_error *err)
{
	const char *slash = strrchr(path, '/');
	struct mobo_image_chain chain;
	char *full = NULL;
	int r;

	if (backing[0] == '/' || !slash) {
		full = strdup(backing);
	} else if (asprintf(&full, "%.*s/%s", (int)(slash - path), path, backing) < 0) {
		full = NULL;
	}
	if (!full) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	r = mobo_image_open_chain(full, MOBO_IMAGE_READONLY, &chain, err);
	if (r == 0) {
		*info = chain.info[0];
		mobo_image_chain_close(&chain);
	}
	free(full);
	return r;
}

int mobo_image_new(const char *path, const struct mobo_image_new *what, struct mobo_error *err)
{
	uint32_t cluster = what->cluster_size ? what->cluster_size : 65536;
	uint64_t size = image_round_up(what->size, 512);
	struct mobo_image_info below = {0};
	int fd, r = 0;

	if ((what->format != MOBO_IMAGE_RAW && what->format != MOBO_IMAGE_QCOW2) ||
	    (what->format == MOBO_IMAGE_RAW && what->backing_file) || cluster < 512 ||
	    cluster > 2 << 20 || (cluster & (cluster - 1)) ||
	    what->size > (uint64_t)INT64_MAX / 2) {
		return mobo_error_set(
			err, EINVAL,
			"cannot make such an image: raw or qcow2, a backing file for qcow2 "
			"only, clusters of 512 bytes to 2 MiB");
	}
	if (what->backing_file) {
		r = look_at_backing(path, what->backing_file, &below, err);
		if (r != 0) {
			return r;
		}
		size = size ? size : below.virtual_size;
	}
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		int e = errno;

		return mobo_error_set(err, e, "cannot create %s: %s", path, strerror(e));
	}
	if (what->format == MOBO_IMAGE_QCOW2) {
		r = write_qcow2(fd, size, (unsigned)__builtin_ctz(cluster), what->backing_file,
				mobo_image_format_name(below.format));
	} else if (ftruncate(fd, (off_t)size) != 0) {
		r = -errno;
	}
	if (r == 0 && fsync(fd) != 0) {
		r = -errno;
	}
	close(fd);
	if (r != 0) {
		unlink(path);
		return mobo_error_set(err, -r, "cannot create %s: %s", path, strerror(-r));
	}
	return 0;
}

int mobo_image_resize(const char *path, uint64_t size, struct mobo_error *err)
{
	struct mobo_image_chain chain;
	struct mobo_image *img;
	int r = mobo_image_open_chain(path, 0, &chain, err), r2;

	if (r != 0) {
		return r;
	}
	img = mobo_image_create_from_fds(chain.fds, chain.n, 0, err);
	if (!img) {
		r = err && err->code ? -err->code : -EIO;
		goto out;
	}
	size = image_round_up(size, 512);
	if (size < img->size || size > (uint64_t)INT64_MAX / 2) {
		r = mobo_error_set(
			err, EINVAL,
			"%s has %llu bytes and cannot shrink: what lies at its end would be "
			"lost",
			path, (unsigned long long)img->size);
	} else if (chain.info[0].format == MOBO_IMAGE_QCOW2) {
		r = qcow2_resize(img, size, err);
	} else if (img->block_device || ftruncate(chain.fds[0], (off_t)size) != 0) {
		r = mobo_error_set(err, img->block_device ? EINVAL : errno, "cannot grow %s", path);
	}
	r2 = mobo_image_destroy(img);
	if (r == 0 && r2 != 0) {
		r = mobo_error_set(err, -r2, "cannot write %s: %s", path, strerror(-r2));
	}
out:
	mobo_image_chain_close(&chain);
	return r;
}
