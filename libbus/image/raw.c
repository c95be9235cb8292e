/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: the file is the disk. A length that is no multiple of 512 is rounded up; the missing
 * bytes read as zeros, and a write there makes the file longer.
 */
#include "image_priv.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/*
 * A guest must not turn a raw file into something that the next start takes for another format, and
 * with it for a licence to read the host's files as "backing file".
 */
static bool changes_format(const struct mobo_image *img, const struct iovec *iov, unsigned n_iov,
			   uint64_t off, size_t len)
{
	char head[8] = "";

	if (!img->guessed_raw || off != 0) {
		return false;
	}
	image_iov_get(iov, n_iov, 0, head, MOBO_MIN(len, sizeof(head)));
	return memcmp(head, "QFI\xfb", 4) == 0 || memcmp(head, "QED", 4) == 0;
}

static int raw_readv(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		     size_t len)
{
	return image_preadv(img->fd, iov, n_iov, 0, len, off);
}

static int raw_writev(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		      size_t len)
{
	if (changes_format(img, iov, n_iov, off, len)) {
		return -EPERM;
	}
	return image_pwritev(img->fd, iov, n_iov, 0, len, off);
}

static int raw_flush(struct mobo_image *img)
{
	return fdatasync(img->fd) == 0 ? 0 : -errno;
}

static int raw_discard(struct mobo_image *img, uint64_t off, uint64_t len)
{
	int r = img->punch ? image_punch(img->fd, off, len) : 0;

	return r == -EOPNOTSUPP || r == -ENODEV || r == -EINVAL ? 0 : r;
}

static int raw_write_zeroes(struct mobo_image *img, uint64_t off, uint64_t len)
{
	static const char zeros[65536];

	if (img->punch && image_punch(img->fd, off, len) == 0) {
		return 0;
	}
	while (len > 0) {
		size_t part = MOBO_MIN(len, sizeof(zeros));
		int r = image_pwrite(img->fd, zeros, part, off);

		if (r != 0) {
			return r;
		}
		off += part;
		len -= part;
	}
	return 0;
}

static int raw_close(struct mobo_image *img)
{
	(void)img;
	return 0;
}

static const struct image_ops raw_ops = {
	.readv = raw_readv,
	.writev = raw_writev,
	.flush = raw_flush,
	.discard = raw_discard,
	.write_zeroes = raw_write_zeroes,
	.close = raw_close,
};

int raw_open(struct mobo_image *img, struct mobo_error *err)
{
	uint64_t size;
	int r = image_file_size(img->fd, &size, &img->block_device);

	if (r != 0) {
		return mobo_error_set(err, -r, "cannot tell the size of the image: %s",
				      strerror(-r));
	}
	if (size > (uint64_t)INT64_MAX - 512) {
		return mobo_error_set(err, EFBIG, "the image is too large");
	}
	img->size = image_round_up(size, 512);
	img->ops = &raw_ops;
	return 0;
}
