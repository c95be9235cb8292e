/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference counts and the allocation of clusters.
 *
 * Clusters are set aside in batches: their counts become 1 on stable storage, then they are handed
 * out without touching the counts again. A batch grows with what the session allocates, so that a
 * long sequential write waits for the disk rarely. What is left over is given back on close.
 *
 * A new reference count block lies in the first cluster of the range that it counts, which is free
 * because nothing counted there; so it counts itself, and nothing recurses.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH_MIN = 4 << 20, BATCH_MAX = 128 << 20 }; /* bytes of clusters */

static uint64_t count_get(const uint8_t *block, unsigned order, uint64_t i)
{
	uint64_t v64;
	uint32_t v32;
	uint16_t v16;

	switch (order) {
	case 3: return block[i];
	case 4: memcpy(&v16, block + i * 2, 2); return be16toh(v16);
	case 5: memcpy(&v32, block + i * 4, 4); return be32toh(v32);
	case 6: memcpy(&v64, block + i * 8, 8); return be64toh(v64);
	default: { /* 1, 2 or 4 bits, the lowest first */
		unsigned bits = 1u << order, at = (i << order) & 7;

		return (block[(i << order) >> 3] >> at) & ((1u << bits) - 1);
	}
	}
}

static void count_set(uint8_t *block, unsigned order, uint64_t i, uint64_t v)
{
	uint64_t v64 = htobe64(v);
	uint32_t v32 = htobe32((uint32_t)v);
	uint16_t v16 = htobe16((uint16_t)v);

	switch (order) {
	case 3: block[i] = (uint8_t)v; return;
	case 4: memcpy(block + i * 2, &v16, 2); return;
	case 5: memcpy(block + i * 4, &v32, 4); return;
	case 6: memcpy(block + i * 8, &v64, 8); return;
	default: {
		unsigned bits = 1u << order, at = (i << order) & 7;
		uint8_t *byte = &block[(i << order) >> 3], mask = ((1u << bits) - 1) << at;

		*byte = (*byte & ~mask) | ((v << at) & mask);
		return;
	}
	}
}

/* Write entries [i, i + n) of a cached block to its place. */
static int counts_write(struct mobo_image *img, uint64_t block_offset, const uint8_t *block,
			uint64_t i, uint64_t n, bool durable)
{
	unsigned order = qcow2_of(img)->h.refcount_order;
	uint64_t from = (i << order) >> 3, to = (((i + n) << order) + 7) >> 3;

	return durable ? image_pwrite_durable(img->fd, block + from, to - from, block_offset + from)
		       : image_pwrite(img->fd, block + from, to - from, block_offset + from);
}

/* Place of the block that counts `cluster`; 0: there is none. */
static int block_offset(struct mobo_image *img, uint64_t cluster, uint64_t *ret_offset)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t idx = cluster >> q->rb_bits, offset;

	offset = idx < q->rt_entries ? q->rt[idx] & QCOW2_RT_OFFSET : 0;
	if (offset & (q->cluster_size - 1)) {
		return qcow2_broken(img);
	}
	*ret_offset = offset;
	return 0;
}

static bool hits(uint64_t cluster, uint64_t n, uint64_t offset, uint64_t bytes, unsigned bits)
{
	uint64_t first = offset >> bits, last = (offset + bytes - 1) >> bits;

	return bytes > 0 && cluster <= last && first < cluster + n;
}

/* Clusters that count as free hold metadata all the same: the counts are wrong. */
static bool hits_metadata(const struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	unsigned bits = q->h.cluster_bits;

	if (cluster == 0 || hits(cluster, n, q->h.l1_offset, q->h.l1_size * 8ull, bits) ||
	    hits(cluster, n, q->h.rt_offset, (uint64_t)q->h.rt_clusters << bits, bits) ||
	    (q->h.n_snapshots > 0 && hits(cluster, n, q->h.snapshots_offset, 40, bits))) {
		return true;
	}
	for (uint32_t i = 0; i < q->rt_entries; i++) {
		uint64_t offset = q->rt[i] & QCOW2_RT_OFFSET;

		if (offset != 0 && hits(cluster, n, offset, q->cluster_size, bits)) {
			return true;
		}
	}
	for (uint32_t i = 0; i < q->h.l1_size; i++) {
		uint64_t offset = q->l1[i] & QCOW2_OFFSET;

		if (offset != 0 && hits(cluster, n, offset, q->cluster_size, bits)) {
			return true;
		}
	}
	return false;
}

static void note_written(struct qcow2 *q, uint64_t end)
{
	q->data_end = MOBO_MAX(q->data_end, end);
}

/* Add the missing block number idx. */
static int make_block(struct mobo_image *img, uint64_t idx)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t cluster = idx << q->rb_bits, offset = cluster << q->h.cluster_bits, be;
	uint8_t *block;
	int r;

	if (cluster > QCOW2_OFFSET >> q->h.cluster_bits) {
		return -EFBIG;
	}
	if (hits_metadata(q, cluster, 1)) {
		return qcow2_broken(img);
	}
	block = calloc(1, q->cluster_size);
	if (!block) {
		return -ENOMEM;
	}
	count_set(block, q->h.refcount_order, 0, 1);
	note_written(q, offset + q->cluster_size);
	r = image_pwrite_durable(img->fd, block, q->cluster_size, offset);
	if (r == 0) {
		be = htobe64(offset);
		r = image_pwrite_durable(img->fd, &be, 8, q->h.rt_offset + idx * 8);
	}
	if (r == 0) {
		q->rt[idx] = offset;
		qcow2_cache_put(&q->rb_cache, offset, block);
	}
	free(block);
	return r;
}

/* Write the blocks and the table that grow_table() planned. */
static int write_new_table(struct mobo_image *img, const uint64_t *rt, uint64_t n_clusters,
			   uint64_t base, uint64_t n_blocks, uint64_t n_used)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t per_block = 1ull << q->rb_bits, n = n_clusters << (q->h.cluster_bits - 3);
	uint64_t *be = calloc(n, 8);
	uint8_t *block = malloc(q->cluster_size);
	int r = be && block ? 0 : -ENOMEM;

	for (uint64_t b = 0; r == 0 && b < n_blocks; b++) {
		memset(block, 0, q->cluster_size);
		for (uint64_t i = 0; i < per_block && b * per_block + i < n_used; i++) {
			count_set(block, q->h.refcount_order, i, 1);
		}
		qcow2_cache_forget(&q->rb_cache, (base + b) << q->h.cluster_bits);
		r = image_pwrite(img->fd, block, q->cluster_size, (base + b) << q->h.cluster_bits);
	}
	for (uint64_t i = 0; r == 0 && i < n; i++) {
		be[i] = htobe64(rt[i]);
	}
	if (r == 0) {
		r = image_pwrite(img->fd, be, n * 8, (base + n_blocks) << q->h.cluster_bits);
	}
	if (r == 0 && fdatasync(img->fd) != 0) {
		r = -errno;
	}
	free(be);
	free(block);
	return r;
}

/*
 * A longer reference count table, behind everything that the old one covers:
 *   base: new blocks (which count these clusters) | new table
 */
static int grow_table(struct mobo_image *img)
{
	struct qcow2 *q = qcow2_of(img);
	unsigned bits = q->h.cluster_bits;
	uint64_t per_block = 1ull << q->rb_bits, old_n = q->h.rt_clusters;
	uint64_t n_clusters = old_n + MOBO_MAX(old_n / 2, 1u);
	uint64_t n_blocks = (n_clusters + per_block - 2) / (per_block - 1);
	uint64_t base = (uint64_t)q->rt_entries << q->rb_bits, old_offset = q->h.rt_offset;
	uint64_t end = base + n_blocks + n_clusters, *rt;
	struct {
		uint64_t offset;
		uint32_t clusters;
	} __attribute__((packed)) head;
	int r;

	if (n_clusters << bits > QCOW2_MAX_RT_BYTES || end > QCOW2_OFFSET >> bits) {
		return -EFBIG;
	}
	if (hits_metadata(q, base, end - base)) {
		return qcow2_broken(img);
	}
	rt = calloc(n_clusters << (bits - 3), 8);
	if (!rt) {
		return -ENOMEM;
	}
	memcpy(rt, q->rt, (size_t)q->rt_entries * 8);
	for (uint64_t b = 0; b < n_blocks; b++) {
		rt[q->rt_entries + b] = (base + b) << bits;
	}
	note_written(q, end << bits);
	r = write_new_table(img, rt, n_clusters, base, n_blocks, end - base);
	if (r == 0) {
		head.offset = htobe64((base + n_blocks) << bits);
		head.clusters = htobe32((uint32_t)n_clusters);
		r = image_pwrite_durable(img->fd, &head, sizeof(head), QCOW2_H_RT_OFFSET);
	}
	if (r != 0) {
		free(rt);
		return r;
	}
	free(q->rt);
	q->rt = rt;
	q->h.rt_offset = (base + n_blocks) << bits;
	q->h.rt_clusters = (uint32_t)n_clusters;
	q->rt_entries = (uint32_t)(n_clusters << (bits - 3));
	return qcow2_unref(img, old_offset >> bits, old_n, false);
}

/* The block that counts `cluster`, made when it is missing. */
static int block_for(struct mobo_image *img, uint64_t cluster, uint64_t *ret_offset,
		     uint8_t **ret_block)
{
	struct qcow2 *q = qcow2_of(img);
	int r;

	while (cluster >> q->rb_bits >= q->rt_entries) {
		r = grow_table(img);
		if (r != 0) {
			return r;
		}
	}
	r = block_offset(img, cluster, ret_offset);
	if (r == 0 && *ret_offset == 0) {
		r = make_block(img, cluster >> q->rb_bits);
		if (r == 0) {
			r = block_offset(img, cluster, ret_offset);
		}
	}
	return r != 0 ? r : qcow2_cache_get(img, &q->rb_cache, *ret_offset, ret_block);
}

/* The free clusters of a block from i on: at most `most`, in at most `max_runs` runs. */
static unsigned free_runs(const struct qcow2 *q, const uint8_t *block, uint64_t base, uint64_t i,
			  uint64_t most, struct qcow2_free_run *runs, unsigned max_runs)
{
	uint64_t per_block = 1ull << q->rb_bits;
	unsigned n_runs = 0;

	for (; i < per_block && most > 0; i++) {
		if (count_get(block, q->h.refcount_order, i) != 0) {
			continue;
		}
		if (n_runs > 0 && runs[n_runs - 1].first + runs[n_runs - 1].n == base + i) {
			runs[n_runs - 1].n++;
		} else if (n_runs == max_runs) {
			break;
		} else {
			runs[n_runs].first = base + i;
			runs[n_runs++].n = 1;
		}
		most--;
	}
	return n_runs;
}

/* Free clusters of the first block from free_hint on that has some. */
static int find_free(struct mobo_image *img, uint64_t most, struct qcow2_free_run *runs,
		     unsigned max_runs, unsigned *ret_n_runs)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t per_block = 1ull << q->rb_bits, file_size, budget;
	bool block_device;
	int r = image_file_size(img->fd, &file_size, &block_device);

	if (r != 0) {
		return r;
	}
	/* Full blocks far beyond the end of the file are a lie that must not keep us busy. */
	budget = (file_size >> q->h.cluster_bits) / per_block + (1u << 20) / per_block + 1024;
	for (; budget > 0; budget--) {
		uint64_t offset, base = q->free_hint & ~(per_block - 1);
		uint8_t *block;

		r = block_for(img, q->free_hint, &offset, &block);
		if (r != 0) {
			return r;
		}
		*ret_n_runs = free_runs(q, block, base, q->free_hint - base, most, runs, max_runs);
		if (*ret_n_runs > 0) {
			const struct qcow2_free_run *last = &runs[*ret_n_runs - 1];

			return (last->first + last->n) > QCOW2_OFFSET >> q->h.cluster_bits ? -EFBIG
											   : 0;
		}
		q->free_hint = base + per_block;
	}
	return qcow2_broken(img);
}

/* Count the clusters of runs, which lie in one block, as used; with one write. */
static int claim(struct mobo_image *img, const struct qcow2_free_run *runs, unsigned n_runs)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t offset, mask = (1ull << q->rb_bits) - 1, first = runs[0].first;
	uint64_t end = runs[n_runs - 1].first + runs[n_runs - 1].n;
	uint8_t *block;
	int r;

	for (unsigned i = 0; i < n_runs; i++) {
		if (hits_metadata(q, runs[i].first, runs[i].n)) {
			return qcow2_broken(img);
		}
	}
	r = block_for(img, first, &offset, &block);
	if (r != 0) {
		return r;
	}
	for (unsigned i = 0; i < n_runs; i++) {
		for (uint64_t k = 0; k < runs[i].n; k++) {
			count_set(block, q->h.refcount_order, (runs[i].first + k) & mask, 1);
		}
	}
	r = counts_write(img, offset, block, first & mask, end - first, true);
	if (r != 0) {
		qcow2_cache_forget(&q->rb_cache, offset);
		return r;
	}
	q->free_hint = end;
	return 0;
}

static int refill(struct mobo_image *img)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t bytes = q->n_allocated << q->h.cluster_bits;
	unsigned n;
	int r;

	bytes = MOBO_MIN(MOBO_MAX(bytes, (uint64_t)BATCH_MIN), (uint64_t)BATCH_MAX);
	r = find_free(img, bytes >> q->h.cluster_bits, q->reserve, QCOW2_RESERVE_RUNS, &n);
	if (r == 0) {
		r = claim(img, q->reserve, n);
	}
	if (r == 0) {
		q->n_reserve = n;
		q->reserve_at = 0;
	}
	return r;
}

int qcow2_alloc(struct mobo_image *img, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n)
{
	struct qcow2 *q = qcow2_of(img);
	struct qcow2_free_run *run;

	if (q->reserve_at == q->n_reserve) {
		int r = refill(img);

		if (r != 0) {
			return r;
		}
	}
	run = &q->reserve[q->reserve_at];
	*ret_cluster = run->first;
	*ret_n = MOBO_MIN(want, run->n);
	run->first += *ret_n;
	run->n -= *ret_n;
	if (run->n == 0) {
		q->reserve_at++;
	}
	q->n_allocated += *ret_n;
	return 0;
}

int qcow2_alloc_exact(struct mobo_image *img, uint64_t n, uint64_t *ret_cluster)
{
	struct qcow2 *q = qcow2_of(img);
	int r = qcow2_release_reserve(img);

	/* Longer runs would have to cross the blocks that lie at the start of their ranges. */
	if (n >= 1ull << q->rb_bits) {
		return -ENOTSUP;
	}
	while (r == 0) {
		struct qcow2_free_run run;
		unsigned n_runs;

		r = find_free(img, n, &run, 1, &n_runs);
		if (r != 0) {
			break;
		}
		if (run.n == n) {
			*ret_cluster = run.first;
			return claim(img, &run, 1);
		}
		q->free_hint = run.first + run.n;
	}
	return r;
}

int qcow2_release_reserve(struct mobo_image *img)
{
	struct qcow2 *q = qcow2_of(img);
	int r = 0;

	while (q->reserve_at < q->n_reserve && r == 0) {
		const struct qcow2_free_run *run = &q->reserve[q->reserve_at++];

		q->free_hint = MOBO_MIN(q->free_hint, run->first);
		r = qcow2_unref(img, run->first, run->n, false);
	}
	q->n_reserve = q->reserve_at = 0;
	return r;
}

/* One reference less for clusters that one block counts; *ret_free: how many of them became free.
 */
static int unref_in_block(struct mobo_image *img, uint64_t cluster, uint64_t n, bool punch)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t offset, at = cluster & ((1ull << q->rb_bits) - 1), run = 0;
	uint8_t *block;
	int r = block_offset(img, cluster, &offset);

	if (r != 0 || offset == 0) {
		return r != 0 ? r : qcow2_broken(img);
	}
	r = qcow2_cache_get(img, &q->rb_cache, offset, &block);
	if (r != 0) {
		return r;
	}
	for (uint64_t i = 0; i < n; i++) {
		uint64_t count = count_get(block, q->h.refcount_order, at + i);

		if (count == 0) {
			qcow2_cache_forget(&q->rb_cache, offset);
			return qcow2_broken(img);
		}
		count_set(block, q->h.refcount_order, at + i, count - 1);
	}
	r = counts_write(img, offset, block, at, n, false);
	if (r != 0) {
		qcow2_cache_forget(&q->rb_cache, offset);
		return r;
	}
	for (uint64_t i = 0; i <= n; i++) {
		if (i < n && count_get(block, q->h.refcount_order, at + i) == 0) {
			q->freed = MOBO_MIN(q->freed, cluster + i);
			qcow2_cache_forget(&q->l2_cache, (cluster + i) << q->h.cluster_bits);
			run++;
			continue;
		}
		if (run > 0 && punch && img->punch) {
			image_punch(img->fd, (cluster + i - run) << q->h.cluster_bits,
				    run << q->h.cluster_bits);
		}
		run = 0;
	}
	return 0;
}

int qcow2_unref(struct mobo_image *img, uint64_t cluster, uint64_t n, bool punch)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t per_block = 1ull << q->rb_bits;

	while (n > 0) {
		uint64_t part = MOBO_MIN(n, per_block - (cluster & (per_block - 1)));
		int r = unref_in_block(img, cluster, part, punch);

		if (r != 0) {
			return r;
		}
		cluster += part;
		n -= part;
	}
	return 0;
}
