/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing qcow2 images, and the bounded caches of their tables. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cache_init(struct qcow2_cache *c, unsigned cluster_bits, size_t bytes)
{
	c->cluster_bits = cluster_bits;
	c->n_sets = MOBO_MIN(bytes >> cluster_bits, 1024u) / QCOW2_CACHE_WAYS;
	c->n_sets = MOBO_MAX(c->n_sets, 1u);
	c->slots = calloc((size_t)c->n_sets * QCOW2_CACHE_WAYS, sizeof(*c->slots));
	return c->slots ? 0 : -ENOMEM;
}

static void cache_finish(struct qcow2_cache *c)
{
	for (unsigned i = 0; c->slots && i < c->n_sets * QCOW2_CACHE_WAYS; i++) {
		free(c->slots[i].data);
	}
	free(c->slots);
}

/* The slot of offset, or the one to replace. */
static struct qcow2_slot *cache_find(struct qcow2_cache *c, uint64_t offset)
{
	uint64_t set = (offset >> c->cluster_bits) % c->n_sets;
	struct qcow2_slot *s = c->slots + set * QCOW2_CACHE_WAYS, *oldest = s;

	for (unsigned i = 0; i < QCOW2_CACHE_WAYS; i++) {
		if (s[i].offset == offset) {
			oldest = &s[i];
			break;
		}
		if (s[i].used < oldest->used) {
			oldest = &s[i];
		}
	}
	oldest->used = ++c->clock;
	return oldest;
}

int qcow2_cache_get(struct mobo_image *img, struct qcow2_cache *c, uint64_t offset,
		    uint8_t **ret_data)
{
	struct qcow2_slot *s = cache_find(c, offset);
	int r;

	if (s->offset != offset) {
		s->offset = 0;
		if (!s->data) {
			s->data = malloc(1u << c->cluster_bits);
			if (!s->data) {
				return -ENOMEM;
			}
		}
		r = image_pread_strict(img->fd, s->data, 1u << c->cluster_bits, offset);
		if (r != 0) {
			return r;
		}
		s->offset = offset;
	}
	*ret_data = s->data;
	return 0;
}

void qcow2_cache_put(struct qcow2_cache *c, uint64_t offset, const uint8_t *data)
{
	struct qcow2_slot *s = cache_find(c, offset);

	if (!s->data) {
		s->data = malloc(1u << c->cluster_bits);
	}
	s->offset = s->data ? offset : 0;
	if (s->data) {
		memcpy(s->data, data, 1u << c->cluster_bits);
	}
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset)
{
	uint64_t set = (offset >> c->cluster_bits) % c->n_sets;
	struct qcow2_slot *s = c->slots + set * QCOW2_CACHE_WAYS;

	for (unsigned i = 0; i < QCOW2_CACHE_WAYS; i++) {
		if (s[i].offset == offset) {
			s[i].offset = 0;
			s[i].used = 0;
		}
	}
}

int qcow2_broken(struct mobo_image *img)
{
	qcow2_of(img)->broken = true;
	return -EIO;
}

static int qcow2_close(struct mobo_image *img)
{
	struct qcow2 *q = qcow2_of(img);
	int r = 0;

	if (!q) {
		return 0;
	}
	if (!img->readonly) {
		r = qcow2_release_reserve(img);
	}
	cache_finish(&q->l2_cache);
	cache_finish(&q->rb_cache);
	free(q->l1);
	free(q->rt);
	free(q->bounce);
	free(q->unpacked);
	free(q->packed);
	free(q);
	img->format = NULL;
	return r;
}

static const struct image_ops qcow2_ops = {
	.readv = qcow2_readv,
	.writev = qcow2_writev,
	.flush = qcow2_flush,
	.discard = qcow2_discard,
	.write_zeroes = qcow2_write_zeroes,
	.close = qcow2_close,
};

static int read_table(int fd, uint64_t **ret_table, uint64_t offset, size_t n)
{
	uint64_t *table = calloc(n ? n : 1, 8);
	int r;

	if (!table) {
		return -ENOMEM;
	}
	r = image_pread_strict(fd, table, n * 8, offset);
	if (r != 0) {
		free(table);
		return r;
	}
	for (size_t i = 0; i < n; i++) {
		table[i] = be64toh(table[i]);
	}
	*ret_table = table;
	return 0;
}

int qcow2_open(struct mobo_image *img, struct mobo_error *err)
{
	struct qcow2 *q;
	uint64_t file_size;
	int r = image_file_size(img->fd, &file_size, &img->block_device);

	if (r != 0) {
		return mobo_error_set(err, -r, "cannot tell the size of the image: %s",
				      strerror(-r));
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	img->format = q;
	r = qcow2_header_read(img->fd, file_size, &q->h, err);
	if (r != 0) {
		qcow2_close(img);
		return r;
	}
	q->cluster_size = 1u << q->h.cluster_bits;
	q->l2_bits = q->h.cluster_bits - 3;
	q->rb_bits = q->h.cluster_bits + 3 - q->h.refcount_order;
	q->rt_entries = q->h.rt_clusters << (q->h.cluster_bits - 3);
	q->freed = UINT64_MAX;
	q->data_end = img->block_device ? UINT64_MAX : image_round_up(file_size, q->cluster_size);
	r = cache_init(&q->l2_cache, q->h.cluster_bits, QCOW2_L2_CACHE_BYTES);
	if (r == 0) {
		r = cache_init(&q->rb_cache, q->h.cluster_bits, QCOW2_RB_CACHE_BYTES);
	}
	if (r == 0) {
		r = read_table(img->fd, &q->l1, q->h.l1_offset, q->h.l1_size);
	}
	if (r == 0 && !img->readonly) {
		r = read_table(img->fd, &q->rt, q->h.rt_offset, q->rt_entries);
	}
	if (r != 0) {
		qcow2_close(img);
		return mobo_error_set(err, -r, "cannot read the image's tables: %s", strerror(-r));
	}
	img->size = image_round_up(q->h.size, 512);
	img->ops = &qcow2_ops;
	return 0;
}
