/* SPDX-License-Identifier: Apache-2.0 */
/* The two levels of tables that lead from guest offsets to clusters. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum qcow2_kind qcow2_entry_kind(const struct qcow2 *q, uint64_t entry)
{
	if (entry & QCOW2_COMPRESSED) {
		return QCOW2_PACKED;
	}
	if ((entry & QCOW2_ZERO) && q->h.version >= 3) {
		return entry & QCOW2_OFFSET ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO_PLAIN;
	}
	return entry & QCOW2_OFFSET ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

static uint64_t table_entry(const uint8_t *table, uint64_t i)
{
	uint64_t v;

	memcpy(&v, table + i * 8, 8);
	return be64toh(v);
}

/* Bits of an entry that decide whether neighbours can be treated as one. */
static bool alike(enum qcow2_kind kind, uint64_t first, uint64_t entry, uint64_t distance)
{
	switch (kind) {
	case QCOW2_UNALLOCATED:
	case QCOW2_ZERO_PLAIN: return true;
	case QCOW2_ZERO_ALLOCATED:
	case QCOW2_NORMAL:
		return ((first ^ entry) & QCOW2_COPIED) == 0 &&
		       (entry & QCOW2_OFFSET) == (first & QCOW2_OFFSET) + distance;
	case QCOW2_PACKED: return false;
	}
	return false;
}

int qcow2_lookup(struct mobo_image *img, uint64_t off, uint64_t len, struct qcow2_run *run)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	uint64_t in_cluster = off & (q->cluster_size - 1), i = off >> bits, n_entries, n = 1;
	uint64_t table_offset, l1 = i >> q->l2_bits;
	uint8_t *table;
	int r;

	MOBO_ASSERT(l1 < q->h.l1_size);
	n_entries = 1ull << q->l2_bits;
	i &= n_entries - 1;
	table_offset = q->l1[l1] & QCOW2_OFFSET;
	if (table_offset & (q->cluster_size - 1)) {
		return qcow2_broken(img);
	}
	memset(run, 0, sizeof(*run));
	if (table_offset == 0) {
		run->len = MOBO_MIN(len, ((n_entries - i) << bits) - in_cluster);
		return 0;
	}
	r = qcow2_cache_get(img, &q->l2_cache, table_offset, &table);
	if (r != 0) {
		return r;
	}
	run->entry = table_entry(table, i);
	run->kind = qcow2_entry_kind(q, run->entry);
	if (run->kind == QCOW2_NORMAL || run->kind == QCOW2_ZERO_ALLOCATED) {
		run->host = run->entry & QCOW2_OFFSET;
		if (run->host & (q->cluster_size - 1)) {
			return qcow2_broken(img);
		}
		run->host += in_cluster;
	}
	while (i + n < n_entries && (n << bits) - in_cluster < len) {
		uint64_t entry = table_entry(table, i + n);

		if (qcow2_entry_kind(q, entry) != run->kind ||
		    !alike(run->kind, run->entry, entry, n << bits)) {
			break;
		}
		n++;
	}
	run->len = MOBO_MIN(len, (n << bits) - in_cluster);
	return 0;
}

int qcow2_begin_writing(struct mobo_image *img)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t none = 0;
	int r;

	if (q->broken) {
		return -EIO;
	}
	if (q->writing) {
		return 0;
	}
	if (q->h.version >= 3 && q->h.autoclear != 0) {
		r = image_pwrite_durable(img->fd, &none, 8, QCOW2_H_AUTOCLEAR);
		if (r != 0) {
			return r;
		}
		q->h.autoclear = 0;
	}
	q->writing = true;
	return 0;
}

static int set_l1(struct mobo_image *img, uint64_t i, uint64_t entry)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t be = htobe64(entry);
	int r = image_pwrite(img->fd, &be, 8, q->h.l1_offset + i * 8);

	if (r == 0) {
		q->l1[i] = entry;
	}
	return r;
}

/* A new table with the contents of the one at old_offset; 0: with nothing. */
static int new_table(struct mobo_image *img, uint64_t old_offset, uint64_t *ret_offset)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t cluster, n, offset;
	uint8_t *data, *old;
	bool fresh;
	int r = qcow2_alloc(img, 1, &cluster, &n);

	if (r != 0) {
		return r;
	}
	offset = cluster << q->h.cluster_bits;
	fresh = offset >= q->data_end;
	q->data_end = MOBO_MAX(q->data_end, offset + q->cluster_size);
	data = calloc(1, q->cluster_size);
	r = data ? 0 : -ENOMEM;
	if (r == 0 && old_offset != 0) {
		r = qcow2_cache_get(img, &q->l2_cache, old_offset, &old);
		if (r == 0) {
			memcpy(data, old, q->cluster_size);
		}
	}
	/* Zeros in a place that was never written need no wait: a lost write leaves them there. */
	if (r == 0 && fresh && old_offset == 0) {
		r = image_pwrite(img->fd, data, q->cluster_size, offset);
	} else if (r == 0) {
		r = image_pwrite_durable(img->fd, data, q->cluster_size, offset);
	}
	if (r == 0) {
		qcow2_cache_put(&q->l2_cache, offset, data);
		*ret_offset = offset;
	} else {
		qcow2_unref(img, cluster, 1, false);
	}
	free(data);
	return r;
}

int qcow2_l2_for_write(struct mobo_image *img, uint64_t off, uint64_t *ret_offset)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t i = off >> (q->h.cluster_bits + q->l2_bits), old = q->l1[i] & QCOW2_OFFSET;
	int r;

	if (old & (q->cluster_size - 1)) {
		return qcow2_broken(img);
	}
	if (old != 0 && (q->l1[i] & QCOW2_COPIED)) {
		*ret_offset = old;
		return 0;
	}
	r = new_table(img, old, ret_offset);
	if (r != 0) {
		return r;
	}
	r = set_l1(img, i, *ret_offset | QCOW2_COPIED);
	if (r != 0) {
		qcow2_unref(img, *ret_offset >> q->h.cluster_bits, 1, false);
		return r;
	}
	/* The snapshot that shares the old table keeps it; a lost reference only leaks. */
	return old != 0 ? qcow2_unref(img, old >> q->h.cluster_bits, 1, false) : 0;
}

int qcow2_l2_get(struct mobo_image *img, uint64_t l2_offset, uint64_t off, uint64_t *entries,
		 unsigned n)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t i = (off >> q->h.cluster_bits) & ((1ull << q->l2_bits) - 1);
	uint8_t *table;
	int r = qcow2_cache_get(img, &q->l2_cache, l2_offset, &table);

	for (unsigned k = 0; r == 0 && k < n; k++) {
		entries[k] = table_entry(table, i + k);
	}
	return r;
}

int qcow2_l2_set(struct mobo_image *img, uint64_t l2_offset, uint64_t off, const uint64_t *entries,
		 unsigned n)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t i = (off >> q->h.cluster_bits) & ((1ull << q->l2_bits) - 1);
	uint8_t *table;
	int r = qcow2_cache_get(img, &q->l2_cache, l2_offset, &table);

	if (r != 0) {
		return r;
	}
	for (unsigned k = 0; k < n; k++) {
		uint64_t be = htobe64(entries[k]);

		memcpy(table + (i + k) * 8, &be, 8);
	}
	r = image_pwrite(img->fd, table + i * 8, n * 8, l2_offset + i * 8);
	if (r != 0) {
		qcow2_cache_forget(&q->l2_cache, l2_offset);
	}
	return r;
}

int qcow2_entry_unref(struct mobo_image *img, uint64_t entry, bool punch)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	uint64_t off, len;

	switch (qcow2_entry_kind(q, entry)) {
	case QCOW2_UNALLOCATED:
	case QCOW2_ZERO_PLAIN: return 0;
	case QCOW2_ZERO_ALLOCATED:
	case QCOW2_NORMAL: return qcow2_unref(img, (entry & QCOW2_OFFSET) >> bits, 1, punch);
	case QCOW2_PACKED:
		qcow2_packed_extent(q, entry, &off, &len);
		q->unpacked_entry = 0;
		return qcow2_unref(img, off >> bits, ((off + len - 1) >> bits) - (off >> bits) + 1,
				   punch);
	}
	return 0;
}
