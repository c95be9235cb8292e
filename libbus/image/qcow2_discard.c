/* SPDX-License-Identifier: Apache-2.0 */
/* Making ranges of a qcow2 image read as zeros by changing tables, and giving their space back. */
#include "qcow2.h"

#include <errno.h>

enum { MAX_CLUSTERS = 256 };

/* References of entries, adjacent clusters together. */
static int unref_all(struct mobo_image *img, const uint64_t *old, unsigned n)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n;) {
		unsigned run = 1;
		uint64_t at = old[i] & QCOW2_OFFSET;

		if (qcow2_entry_kind(q, old[i]) != QCOW2_NORMAL) {
			r = qcow2_entry_unref(img, old[i++], true);
			continue;
		}
		while (i + run < n && qcow2_entry_kind(q, old[i + run]) == QCOW2_NORMAL &&
		       (old[i + run] & QCOW2_OFFSET) == at + ((uint64_t)run << bits)) {
			run++;
		}
		r = qcow2_unref(img, at >> bits, run, true);
		i += run;
	}
	return r;
}

/* Give n whole clusters of one table the entry `entry`. */
static int replace(struct mobo_image *img, uint64_t off, unsigned n, uint64_t entry)
{
	uint64_t old[MAX_CLUSTERS], entries[MAX_CLUSTERS], table;
	bool change = false;
	int r = qcow2_l2_for_write(img, off, &table);

	if (r == 0) {
		r = qcow2_l2_get(img, table, off, old, n);
	}
	for (unsigned i = 0; r == 0 && i < n; i++) {
		entries[i] = entry;
		change |= old[i] != entry;
	}
	if (r != 0 || !change) {
		return r;
	}
	r = qcow2_l2_set(img, table, off, entries, n);
	return r != 0 ? r : unref_all(img, old, n);
}

static int write_zero_bytes(struct mobo_image *img, uint64_t off, uint64_t len)
{
	static const char zeros[65536];
	int r = 0;

	while (r == 0 && len > 0) {
		struct iovec iov = {(void *)(uintptr_t)zeros, MOBO_MIN(len, sizeof(zeros))};

		r = qcow2_writev(img, &iov, 1, off, iov.iov_len);
		off += iov.iov_len;
		len -= iov.iov_len;
	}
	return r;
}

/* [off, off + len), whole clusters, shall read as zeros. */
static int zero_clusters(struct mobo_image *img, uint64_t off, uint64_t len)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	uint64_t table_bytes = 1ull << (bits + q->l2_bits);

	while (len > 0) {
		uint64_t part = MOBO_MIN(len, table_bytes - (off & (table_bytes - 1)));
		uint64_t below = img->backing ? img->backing->size : 0;
		struct qcow2_run run;
		int r = qcow2_lookup(img, off, part, &run);

		if (r != 0) {
			return r;
		}
		if (run.kind == QCOW2_ZERO_PLAIN ||
		    (run.kind == QCOW2_UNALLOCATED && off >= below)) {
			part = run.len;
		} else {
			part = MOBO_MIN(part, (uint64_t)MAX_CLUSTERS << bits);
			r = replace(img, off, (unsigned)(image_round_up(part, 1u << bits) >> bits),
				    below > off ? QCOW2_ZERO : 0);
		}
		if (r != 0) {
			return r;
		}
		off += part;
		len -= part;
	}
	return 0;
}

/* The whole clusters of a range; the last cluster of the image counts as whole. */
static void whole(const struct mobo_image *img, uint64_t off, uint64_t len, uint64_t *ret_start,
		  uint64_t *ret_end)
{
	uint64_t size = qcow2_of(img)->cluster_size, end = off + len;

	*ret_start = image_round_up(off, size);
	*ret_end = end == img->size ? end : end & ~(size - 1);
	*ret_end = MOBO_MAX(*ret_end, *ret_start);
}

int qcow2_discard(struct mobo_image *img, uint64_t off, uint64_t len)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t start, end;
	int r;

	/* Version 2 cannot hide the backing file's contents without writing. */
	if (!img->punch || (img->backing && q->h.version < 3)) {
		return 0;
	}
	whole(img, off, len, &start, &end);
	if (start >= end) {
		return 0;
	}
	r = qcow2_begin_writing(img);
	return r != 0 ? r : zero_clusters(img, start, end - start);
}

int qcow2_write_zeroes(struct mobo_image *img, uint64_t off, uint64_t len)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t start, end;
	int r = qcow2_begin_writing(img);

	if (r != 0) {
		return r;
	}
	whole(img, off, len, &start, &end);
	if (start >= end || (img->backing && q->h.version < 3)) {
		return write_zero_bytes(img, off, len);
	}
	r = write_zero_bytes(img, off, start - off);
	if (r == 0) {
		r = zero_clusters(img, start, end - start);
	}
	return r != 0 ? r : write_zero_bytes(img, end, off + len - end);
}
