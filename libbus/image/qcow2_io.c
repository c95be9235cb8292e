/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, writing and flushing qcow2 images. */
#include "qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_CLUSTERS = 256 }; /* handled at once; their entries are on the stack */

int qcow2_readv(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		size_t len)
{
	struct qcow2 *q = qcow2_of(img);
	size_t done = 0;

	while (done < len) {
		struct qcow2_run run;
		const uint8_t *cluster;
		int r = qcow2_lookup(img, off + done, len - done, &run);

		if (r != 0) {
			return r;
		}
		switch (run.kind) {
		case QCOW2_UNALLOCATED:
			r = image_read_part(img->backing, iov, n_iov, done, run.len, off + done);
			break;
		case QCOW2_ZERO_PLAIN:
		case QCOW2_ZERO_ALLOCATED: image_iov_zero(iov, n_iov, done, run.len); break;
		case QCOW2_NORMAL:
			r = image_preadv(img->fd, iov, n_iov, done, run.len, run.host);
			break;
		case QCOW2_PACKED:
			r = qcow2_unpack(img, run.entry, &cluster);
			if (r == 0) {
				cluster += (off + done) & (q->cluster_size - 1);
				image_iov_put(iov, n_iov, done, cluster, run.len);
			}
			break;
		}
		if (r != 0) {
			return r;
		}
		done += run.len;
	}
	return 0;
}

/* What lies below reads as zeros there: nothing to copy up but zeros. */
static bool zeros_below(const struct mobo_image *img, enum qcow2_kind kind, uint64_t off)
{
	switch (kind) {
	case QCOW2_UNALLOCATED: return !img->backing || off >= img->backing->size;
	case QCOW2_ZERO_PLAIN:
	case QCOW2_ZERO_ALLOCATED: return true;
	case QCOW2_NORMAL:
	case QCOW2_PACKED: return false;
	}
	return false;
}

/* Old contents of [off, off + len), which lies in one cluster, to `host`. */
static int copy_up(struct mobo_image *img, uint64_t off, uint64_t len, uint64_t host)
{
	struct qcow2 *q = qcow2_of(img);
	struct iovec iov = {NULL, len};
	int r;

	if (len == 0) {
		return 0;
	}
	if (!q->bounce) {
		q->bounce = malloc(q->cluster_size);
		if (!q->bounce) {
			return -ENOMEM;
		}
	}
	iov.iov_base = q->bounce;
	r = image_read_part(img, &iov, 1, 0, len, off);
	if (r == 0) {
		r = image_pwrite(img->fd, q->bounce, len, host);
	}
	/* The table that will name the copy is written back much later: the copy is there first. */
	if (r == 0) {
		sync_file_range(img->fd, (off_t)host, (off_t)len, SYNC_FILE_RANGE_WRITE);
	}
	return r;
}

/*
 * Fill the clusters at `host` (of the cluster that off lies in) with the data, and what surrounds
 * the data in its first and last cluster with what the guest saw there before.
 */
static int fill_clusters(struct mobo_image *img, const struct iovec *iov, unsigned n_iov,
			 size_t skip, size_t len, uint64_t off, enum qcow2_kind kind, uint64_t host)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t mask = q->cluster_size - 1, head = off & mask, start = off - head;
	uint64_t end = off + len, tail = -end & mask;
	bool fresh = host >= q->data_end && zeros_below(img, kind, start);
	int r;

	q->data_end = MOBO_MAX(q->data_end, host + head + len + tail);
	r = fresh ? 0 : copy_up(img, start, head, host);
	if (r == 0) {
		r = image_pwritev(img->fd, iov, n_iov, skip, len, host + head);
	}
	if (r == 0 && !fresh) {
		r = copy_up(img, end, tail, host + head + len);
	}
	return r;
}

/* Write to clusters that are all alike and cannot be written in place. *ret_done: bytes written. */
static int write_new(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, size_t skip,
		     uint64_t off, const struct qcow2_run *run, size_t *ret_done)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	uint64_t head = off & (q->cluster_size - 1), len = run->len, table, cluster, n;
	uint64_t old[MAX_CLUSTERS], entries[MAX_CLUSTERS];
	bool keep = run->kind == QCOW2_ZERO_ALLOCATED && (run->entry & QCOW2_COPIED);
	int r = qcow2_l2_for_write(img, off, &table);

	if (r != 0) {
		return r;
	}
	n = MOBO_MIN((head + len + q->cluster_size - 1) >> bits, (uint64_t)MAX_CLUSTERS);
	if (keep) {
		cluster = run->host >> bits;
	} else {
		r = qcow2_alloc(img, n, &cluster, &n);
	}
	if (r == 0) {
		r = qcow2_l2_get(img, table, off, old, (unsigned)n);
	} else {
		return r;
	}
	len = MOBO_MIN(len, (n << bits) - head);
	if (r == 0) {
		r = fill_clusters(img, iov, n_iov, skip, len, off, run->kind, cluster << bits);
	}
	if (r != 0) {
		if (!keep) {
			qcow2_unref(img, cluster, n, true);
		}
		return r;
	}
	for (uint64_t i = 0; i < n; i++) {
		entries[i] = ((cluster + i) << bits) | QCOW2_COPIED;
	}
	r = qcow2_l2_set(img, table, off, entries, (unsigned)n);
	for (uint64_t i = 0; r == 0 && !keep && i < n; i++) {
		r = qcow2_entry_unref(img, old[i], false);
	}
	*ret_done = len;
	return r;
}

int qcow2_writev(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		 size_t len)
{
	struct qcow2 *q = qcow2_of(img);
	int r = qcow2_begin_writing(img);
	size_t done = 0;

	while (r == 0 && done < len) {
		struct qcow2_run run;
		size_t part;

		r = qcow2_lookup(img, off + done, len - done, &run);
		if (r != 0) {
			break;
		}
		part = run.len;
		if (run.kind == QCOW2_NORMAL && (run.entry & QCOW2_COPIED)) {
			q->data_end = MOBO_MAX(q->data_end, run.host + part);
			r = image_pwritev(img->fd, iov, n_iov, done, part, run.host);
		} else {
			r = write_new(img, iov, n_iov, done, off + done, &run, &part);
		}
		done += part;
	}
	return r;
}

int qcow2_flush(struct mobo_image *img)
{
	struct qcow2 *q = qcow2_of(img);

	if (fdatasync(img->fd) != 0) {
		return -errno;
	}
	/* No table on the disk names what was freed before: it can be used again. */
	q->free_hint = MOBO_MIN(q->free_hint, q->freed);
	q->freed = UINT64_MAX;
	return 0;
}
