/* SPDX-License-Identifier: Apache-2.0 */
/* Growing a qcow2 image. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A longer L1 table, elsewhere; the old one is given up. */
static int grow_l1(struct mobo_image *img, uint64_t n)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	uint64_t old_offset = q->h.l1_offset, old_n = q->h.l1_size, cluster, offset;
	uint64_t bytes = image_round_up(n * 8, q->cluster_size), *l1, *be;
	struct {
		uint32_t size;
		uint64_t offset;
	} __attribute__((packed)) head;
	int r = qcow2_alloc_exact(img, bytes >> bits, &cluster);

	if (r != 0) {
		return r;
	}
	offset = cluster << bits;
	l1 = calloc(n, 8);
	be = calloc(1, bytes);
	r = l1 && be ? 0 : -ENOMEM;
	for (uint64_t i = 0; r == 0 && i < old_n; i++) {
		l1[i] = q->l1[i];
		be[i] = htobe64(l1[i]);
	}
	q->data_end = MOBO_MAX(q->data_end, offset + bytes);
	if (r == 0) {
		r = image_pwrite_durable(img->fd, be, bytes, offset);
	}
	if (r == 0) {
		head.size = htobe32((uint32_t)n);
		head.offset = htobe64(offset);
		r = image_pwrite_durable(img->fd, &head, sizeof(head), QCOW2_H_L1_SIZE);
	}
	free(be);
	if (r != 0) {
		free(l1);
		qcow2_unref(img, cluster, bytes >> bits, false);
		return r;
	}
	free(q->l1);
	q->l1 = l1;
	q->h.l1_size = (uint32_t)n;
	q->h.l1_offset = offset;
	if (old_n > 0) {
		r = qcow2_unref(img, old_offset >> bits,
				image_round_up(old_n * 8, q->cluster_size) >> bits, false);
	}
	return r;
}

int qcow2_resize(struct mobo_image *img, uint64_t size, struct mobo_error *err)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned l2_covers = q->h.cluster_bits + q->l2_bits;
	uint64_t old = q->h.size,
		 l1 = (size >> l2_covers) + ((size & ((1ull << l2_covers) - 1)) != 0);
	uint64_t be, below = img->backing ? img->backing->size : 0;
	int r = qcow2_begin_writing(img);

	if (q->h.version < 3 && q->h.n_snapshots > 0) {
		return mobo_error_set(err, ENOTSUP,
				      "a version 2 image with snapshots cannot grow. Upgrade it: "
				      "qemu-img amend -o compat=1.1");
	}
	if (l1 > QCOW2_MAX_L1_BYTES / 8) {
		return mobo_error_set(err, EFBIG, "too large for clusters of %u bytes",
				      q->cluster_size);
	}
	if (r == 0 && l1 > q->h.l1_size) {
		r = grow_l1(img, l1);
	}
	/* What the backing file has beyond the old end must not show. */
	if (r == 0 && below > old) {
		img->size = image_round_up(size, 512);
		r = qcow2_write_zeroes(img, old, MOBO_MIN(below, img->size) - old);
	}
	if (r == 0) {
		be = htobe64(size);
		r = image_pwrite_durable(img->fd, &be, 8, QCOW2_H_SIZE);
	}
	if (r != 0) {
		return mobo_error_set(err, -r, "cannot grow the image: %s", strerror(-r));
	}
	q->h.size = size;
	img->size = image_round_up(size, 512);
	return 0;
}
