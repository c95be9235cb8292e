/* SPDX-License-Identifier: Apache-2.0 */
/* What all formats share: building the chain, checking requests. */
#include "image_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void free_chain(struct mobo_image *img)
{
	while (img) {
		struct mobo_image *below = img->backing;

		if (img->ops) {
			img->ops->close(img);
		}
		free(img);
		img = below;
	}
}

/* One file of a chain; `force_raw`: do not look at what it begins with. */
static struct mobo_image *open_one(int fd, bool force_raw, unsigned flags,
				   struct mobo_image_info *info, struct mobo_error *err)
{
	struct mobo_image *img = calloc(1, sizeof(*img));
	bool readonly = flags & MOBO_IMAGE_READONLY;
	int r;

	if (!img) {
		mobo_error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	img->fd = fd;
	img->readonly = readonly;
	img->punch = (flags & MOBO_IMAGE_PUNCH) && !readonly;
	memset(info, 0, sizeof(*info));
	if (!force_raw) {
		r = mobo_image_probe(fd, info, err);
		if (r == 0) {
			r = mobo_image_usable(info, "the image", readonly, err);
		}
		if (r != 0) {
			goto failed;
		}
		img->guessed_raw = info->format == MOBO_IMAGE_RAW;
	}
	if (info->format == MOBO_IMAGE_QCOW2) {
		r = qcow2_open(img, err);
	} else {
		r = raw_open(img, err);
	}
	if (r == 0) {
		return img;
	}
failed:
	free(img);
	return NULL;
}

struct mobo_image *mobo_image_create_from_fds(const int *fds, unsigned n, unsigned flags,
					      struct mobo_error *err)
{
	struct mobo_image *top = NULL, **link = &top;
	bool force_raw = flags & MOBO_IMAGE_FORCE_RAW;

	if (n == 0 || n > MOBO_IMAGE_DEPTH) {
		mobo_error_set(err, EINVAL, "a chain of %u files: 1 to %d can be used", n,
			       MOBO_IMAGE_DEPTH);
		return NULL;
	}
	for (unsigned i = 0; i < n; i++) {
		struct mobo_image_info info;
		bool more;

		*link = open_one(fds[i], force_raw, i == 0 ? flags : MOBO_IMAGE_READONLY, &info,
				 err);
		if (!*link) {
			free_chain(top);
			return NULL;
		}
		more = info.backing_file[0] != '\0';
		if (more != (i + 1 < n)) {
			if (more) {
				mobo_error_set(err, EINVAL,
					       "the backing file \"%.200s\" is missing",
					       info.backing_file);
			} else {
				mobo_error_set(
					err, EINVAL,
					"file %u of the chain names no backing file, but more "
					"files were given",
					i);
			}
			free_chain(top);
			return NULL;
		}
		force_raw = strcmp(info.backing_format, "raw") == 0;
		link = &(*link)->backing;
	}
	return top;
}

int mobo_image_destroy(struct mobo_image *img)
{
	struct mobo_image *below;
	int r, r2;

	if (!img) {
		return 0;
	}
	below = img->backing;
	r = mobo_image_flush(img);
	r2 = img->ops->close(img);
	free(img);
	free_chain(below);
	return r != 0 ? r : r2;
}

uint64_t mobo_image_size(const struct mobo_image *img)
{
	return img->size;
}

bool mobo_image_readonly(const struct mobo_image *img)
{
	return img->readonly;
}

bool mobo_image_can_discard(const struct mobo_image *img)
{
	return !img->readonly && img->punch;
}

/* Bytes in iov; SIZE_MAX when that is absurd. */
static size_t iov_len(const struct iovec *iov, unsigned n_iov)
{
	size_t len = 0;

	for (unsigned i = 0; i < n_iov; i++) {
		if (iov[i].iov_len > (size_t)INT64_MAX - len) {
			return SIZE_MAX;
		}
		len += iov[i].iov_len;
	}
	return len;
}

static bool in_range(const struct mobo_image *img, uint64_t off, uint64_t len)
{
	return off <= img->size && len <= img->size - off;
}

int mobo_image_readv(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off)
{
	size_t len = iov_len(iov, n_iov);

	if (!in_range(img, off, len)) {
		return -EINVAL;
	}
	return len == 0 ? 0 : img->ops->readv(img, iov, n_iov, off, len);
}

int mobo_image_writev(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off)
{
	size_t len = iov_len(iov, n_iov);

	if (img->readonly) {
		return -EROFS;
	}
	if (!in_range(img, off, len)) {
		return -EINVAL;
	}
	return len == 0 ? 0 : img->ops->writev(img, iov, n_iov, off, len);
}

int mobo_image_read(struct mobo_image *img, void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {buf, len};

	return mobo_image_readv(img, &iov, 1, off);
}

int mobo_image_write(struct mobo_image *img, const void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {(void *)(uintptr_t)buf, len};

	return mobo_image_writev(img, &iov, 1, off);
}

int mobo_image_flush(struct mobo_image *img)
{
	return img->readonly ? 0 : img->ops->flush(img);
}

int mobo_image_discard(struct mobo_image *img, uint64_t off, uint64_t len)
{
	if (img->readonly) {
		return -EROFS;
	}
	if (!in_range(img, off, len)) {
		return -EINVAL;
	}
	return len == 0 ? 0 : img->ops->discard(img, off, len);
}

int mobo_image_write_zeroes(struct mobo_image *img, uint64_t off, uint64_t len)
{
	if (img->readonly) {
		return -EROFS;
	}
	if (!in_range(img, off, len)) {
		return -EINVAL;
	}
	return len == 0 ? 0 : img->ops->write_zeroes(img, off, len);
}

int image_read_part(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, size_t skip,
		    size_t len, uint64_t off)
{
	uint64_t have = img && off < img->size ? MOBO_MIN(img->size - off, len) : 0;
	size_t done = 0;

	while (done < have) {
		struct iovec part[64];
		size_t want;
		unsigned n = image_iov_slice(iov, n_iov, skip + done, have - done, part,
					     MOBO_ARRAY_LEN(part), &want);
		int r = img->ops->readv(img, part, n, off + done, want);

		if (r != 0) {
			return r;
		}
		done += want;
	}
	image_iov_zero(iov, n_iov, skip + have, len - have);
	return 0;
}
