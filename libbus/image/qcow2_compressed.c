/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed clusters. Their entry (x = 62 - (cluster_bits - 8)):
 *   63  62  61 ... x                   x-1 ... 0
 *    0   1  512-byte sectors, less 1   host offset, of any alignment
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

void qcow2_packed_extent(const struct qcow2 *q, uint64_t entry, uint64_t *ret_off,
			 uint64_t *ret_len)
{
	unsigned x = 62 - (q->h.cluster_bits - 8);
	uint64_t off = entry & ((1ull << x) - 1);
	uint64_t sectors = ((entry & (QCOW2_COMPRESSED - 1)) >> x) + 1;

	*ret_off = off;
	*ret_len = sectors * 512 - (off & 511);
}

static int unpack_zlib(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
	z_stream z = {
		.next_in = (Bytef *)(uintptr_t)in,
		.avail_in = (uInt)in_len,
		.next_out = out,
		.avail_out = (uInt)out_len,
	};
	int r;

	if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
		return -ENOMEM;
	}
	/* The input is rounded up to sectors: the end of the stream may come after the last byte.
	 */
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

#ifdef HAVE_ZSTD
static int unpack_zstd(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	ZSTD_inBuffer src = {in, in_len, 0};
	ZSTD_outBuffer dst = {out, out_len, 0};
	int r = 0;

	if (!ctx) {
		return -ENOMEM;
	}
	/* A cluster is one frame or several; what follows the last is padding. */
	while (r == 0 && dst.pos < dst.size) {
		size_t in_before = src.pos, out_before = dst.pos;

		if (ZSTD_isError(ZSTD_decompressStream(ctx, &dst, &src)) ||
		    (src.pos == in_before && dst.pos == out_before)) {
			r = -EIO;
		}
	}
	ZSTD_freeDCtx(ctx);
	return r;
}
#endif

int qcow2_unpack(struct mobo_image *img, uint64_t entry, const uint8_t **ret_cluster)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t off, len;
	int r;

	if (!q->unpacked) {
		q->unpacked = malloc(q->cluster_size);
	}
	if (!q->packed) {
		q->packed = malloc(q->cluster_size * 2 + 512);
	}
	if (!q->unpacked || !q->packed) {
		return -ENOMEM;
	}
	if (q->unpacked_entry != entry) {
		q->unpacked_entry = 0;
		qcow2_packed_extent(q, entry, &off, &len);
		r = image_pread(img->fd, q->packed, len, off);
#ifdef HAVE_ZSTD
		if (r == 0 && q->h.compression == 1) {
			r = unpack_zstd(q->unpacked, q->cluster_size, q->packed, len);
		} else
#endif
			if (r == 0) {
			r = unpack_zlib(q->unpacked, q->cluster_size, q->packed, len);
		}
		if (r != 0) {
			return r;
		}
		q->unpacked_entry = entry;
	}
	*ret_cluster = q->unpacked;
	return 0;
}
