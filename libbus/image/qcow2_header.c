/* SPDX-License-Identifier: Apache-2.0 */
/* The qcow2 header and its extensions. Whatever does not fit together is refused here. */
#include "qcow2.h"

#include <errno.h>
#include <string.h>

static uint32_t be32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return be32toh(v);
}

static uint64_t be64_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return be64toh(v);
}

static void parse(const uint8_t *p, struct qcow2_header *h)
{
	memset(h, 0, sizeof(*h));
	h->version = be32_at(p + 4);
	h->backing_offset = be64_at(p + 8);
	h->backing_len = be32_at(p + 16);
	h->cluster_bits = be32_at(p + 20);
	h->size = be64_at(p + QCOW2_H_SIZE);
	h->crypt_method = be32_at(p + 32);
	h->l1_size = be32_at(p + QCOW2_H_L1_SIZE);
	h->l1_offset = be64_at(p + 40);
	h->rt_offset = be64_at(p + QCOW2_H_RT_OFFSET);
	h->rt_clusters = be32_at(p + 56);
	h->n_snapshots = be32_at(p + 60);
	h->snapshots_offset = be64_at(p + 64);
	h->refcount_order = 4;
	h->header_length = 72;
	if (h->version < 3) {
		return;
	}
	h->incompatible = be64_at(p + QCOW2_H_INCOMPATIBLE);
	h->compatible = be64_at(p + 80);
	h->autoclear = be64_at(p + QCOW2_H_AUTOCLEAR);
	h->refcount_order = be32_at(p + 96);
	h->header_length = be32_at(p + 100);
	if (h->header_length > 104) {
		h->compression = p[104];
	}
}

/* A table of `bytes` at `offset` lies in the file and at a cluster's start. */
static bool table_fits(const struct qcow2_header *h, uint64_t file_size, uint64_t offset,
		       uint64_t bytes)
{
	uint64_t mask = (1ull << h->cluster_bits) - 1;

	return offset != 0 && (offset & mask) == 0 && offset <= file_size &&
	       bytes <= file_size - offset;
}

/* NULL, or what is wrong. */
static const char *check(const struct qcow2_header *h, uint64_t file_size)
{
	uint64_t l2_covers, l1_needed;

	if (h->version != 2 && h->version != 3) {
		return "unknown version";
	}
	if (h->cluster_bits < 9 || h->cluster_bits > 21) {
		return "cluster size out of range";
	}
	if (h->header_length < (h->version == 3 ? 104u : 72u) ||
	    h->header_length > (1u << h->cluster_bits) || (h->header_length & 7)) {
		return "header length out of range";
	}
	if (h->refcount_order > 6) {
		return "reference count width out of range";
	}
	if (h->size > (uint64_t)INT64_MAX - (4 << 20)) {
		return "virtual size out of range";
	}
	l2_covers = 1ull << (2 * h->cluster_bits - 3);
	l1_needed = h->size / l2_covers + (h->size % l2_covers != 0);
	if (h->l1_size > QCOW2_MAX_L1_BYTES / 8 || l1_needed > h->l1_size) {
		return h->l1_size < l1_needed ? "L1 table too small for the virtual size"
					      : "L1 table too large";
	}
	if (h->l1_size > 0 && !table_fits(h, file_size, h->l1_offset, h->l1_size * 8ull)) {
		return "L1 table outside of the file or not at a cluster's start";
	}
	if (h->rt_clusters == 0 ||
	    h->rt_clusters > ((uint32_t)QCOW2_MAX_RT_BYTES >> h->cluster_bits)) {
		return "reference count table of impossible length";
	}
	if (!table_fits(h, file_size, h->rt_offset, (uint64_t)h->rt_clusters << h->cluster_bits)) {
		return "reference count table outside of the file or not at a cluster's start";
	}
	if (h->n_snapshots > QCOW2_MAX_SNAPSHOTS) {
		return "too many snapshots";
	}
	if (h->n_snapshots > 0 && !table_fits(h, file_size, h->snapshots_offset, 40)) {
		return "snapshot table outside of the file or not at a cluster's start";
	}
	if (h->backing_offset != 0 && (h->backing_len > 1023 || h->backing_offset > file_size ||
				       h->backing_len > file_size - h->backing_offset)) {
		return "backing file name outside of the file";
	}
	if (h->compression > 1 ||
	    (h->compression != 0) != ((h->incompatible & QCOW2_INCOMPAT_COMPRESSION) != 0)) {
		return "unknown compression type";
	}
	return NULL;
}

int qcow2_header_read(int fd, uint64_t file_size, struct qcow2_header *h, struct mobo_error *err)
{
	uint8_t raw[112];
	const char *wrong;
	int r = image_pread(fd, raw, sizeof(raw), 0);

	if (r != 0) {
		return mobo_error_set(err, -r, "cannot read the qcow2 header: %s", strerror(-r));
	}
	if (file_size < 72) {
		return mobo_error_set(err, EINVAL, "damaged qcow2 image: it ends in the header");
	}
	parse(raw, h);
	wrong = check(h, file_size);
	if (wrong) {
		return mobo_error_set(err, EINVAL, "damaged qcow2 image: %s", wrong);
	}
	return 0;
}

/* Header extensions: only the backing format matters. Reads at most one cluster's worth of headers.
 */
static int read_extensions(int fd, const struct qcow2_header *h, struct mobo_image_info *info,
			   struct mobo_error *err)
{
	uint64_t at = h->header_length, end = 1ull << h->cluster_bits;

	if (h->backing_offset > at && h->backing_offset < end) {
		end = h->backing_offset;
	}
	while (at + 8 <= end) {
		uint8_t ext[8];
		uint32_t type, len;
		int r = image_pread(fd, ext, sizeof(ext), at);

		if (r != 0) {
			return mobo_error_set(err, -r, "cannot read the qcow2 header: %s",
					      strerror(-r));
		}
		type = be32_at(ext);
		len = be32_at(ext + 4);
		at += 8;
		if (type == 0) {
			break;
		}
		if (len > end - at) {
			return mobo_error_set(err, EINVAL,
					      "damaged qcow2 image: header extension 0x%08x is too "
					      "long",
					      type);
		}
		if (type == 0xe2792aca && len < sizeof(info->backing_format)) {
			r = image_pread(fd, info->backing_format, len, at);
			if (r != 0) {
				return mobo_error_set(err, -r, "cannot read the qcow2 header: %s",
						      strerror(-r));
			}
		}
		at += image_round_up(len, 8);
	}
	return 0;
}

int qcow2_probe(int fd, uint64_t file_size, struct mobo_image_info *info, struct mobo_error *err)
{
	struct qcow2_header h;
	int r = qcow2_header_read(fd, file_size, &h, err);

	if (r != 0) {
		return r;
	}
	info->version = h.version;
	info->cluster_size = 1u << h.cluster_bits;
	info->refcount_bits = 1u << h.refcount_order;
	info->n_snapshots = h.n_snapshots;
	info->virtual_size = image_round_up(h.size, 512);
	info->incompatible = h.incompatible;
	info->compatible = h.compatible;
	info->autoclear = h.autoclear;
	info->encrypted = h.crypt_method != 0;
	info->dirty = h.incompatible & QCOW2_INCOMPAT_DIRTY;
	info->corrupt = h.incompatible & QCOW2_INCOMPAT_CORRUPT;
	info->external_data = h.incompatible & QCOW2_INCOMPAT_DATA_FILE;
	info->extended_l2 = h.incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
	info->zstd = h.compression == 1;
	info->lazy_refcounts = h.compatible & 1;
	r = read_extensions(fd, &h, info, err);
	if (r == 0 && h.backing_offset != 0) {
		r = image_pread(fd, info->backing_file, h.backing_len, h.backing_offset);
		if (r != 0) {
			return mobo_error_set(err, -r, "cannot read the backing file's name: %s",
					      strerror(-r));
		}
		if (memchr(info->backing_file, '\0', h.backing_len)) {
			return mobo_error_set(
				err, EINVAL,
				"damaged qcow2 image: zero byte in the backing file's "
				"name");
		}
	}
	return r;
}
