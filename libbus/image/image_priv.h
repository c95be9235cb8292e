/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the image library. */
#ifndef MOBO_IMAGE_PRIV_H
#define MOBO_IMAGE_PRIV_H

#include "mobo/image.h"

/* What a format does. pos and len are checked against size by image.c; len is not 0. */
struct image_ops {
	int (*readv)(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		     size_t len);
	int (*writev)(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		      size_t len);
	int (*flush)(struct mobo_image *img);
	int (*discard)(struct mobo_image *img, uint64_t off, uint64_t len);
	int (*write_zeroes)(struct mobo_image *img, uint64_t off, uint64_t len);
	int (*close)(struct mobo_image *img); /* frees what the format allocated, not img */
};

struct mobo_image {
	const struct image_ops *ops;
	int fd;
	bool readonly;
	bool punch; /* give discarded space back */
	bool block_device;
	bool guessed_raw;	    /* raw because nothing was recognised: keep it that way */
	uint64_t size;		    /* rounded up to 512 */
	struct mobo_image *backing; /* owned; NULL none */
	void *format;		    /* of the format */
};

int raw_open(struct mobo_image *img, struct mobo_error *err);
int qcow2_open(struct mobo_image *img, struct mobo_error *err);
int qcow2_probe(int fd, uint64_t file_size, struct mobo_image_info *info, struct mobo_error *err);

/* Whole transfers on a file. 0 or -errno; pread_full zero-fills beyond the end of the file. */
int image_pread(int fd, void *buf, size_t len, uint64_t off);
int image_pread_strict(int fd, void *buf, size_t len, uint64_t off); /* -EIO beyond the end */
int image_pwrite(int fd, const void *buf, size_t len, uint64_t off);
/* Likewise with the bytes [skip, skip + len) of an iovec array. */
int image_preadv(int fd, const struct iovec *iov, unsigned n_iov, size_t skip, size_t len,
		 uint64_t off);
int image_pwritev(int fd, const struct iovec *iov, unsigned n_iov, size_t skip, size_t len,
		  uint64_t off);
/* pwrite that is on stable storage when it returns. */
int image_pwrite_durable(int fd, const void *buf, size_t len, uint64_t off);
/* Free the space of a range; -EOPNOTSUP where the file system cannot. */
int image_punch(int fd, uint64_t off, uint64_t len);

/* Parts of iovec arrays. */
unsigned image_iov_slice(const struct iovec *iov, unsigned n_iov, size_t skip, size_t len,
			 struct iovec *out, unsigned max, size_t *ret_len);
void image_iov_zero(const struct iovec *iov, unsigned n_iov, size_t skip, size_t len);
void image_iov_put(const struct iovec *iov, unsigned n_iov, size_t skip, const void *buf,
		   size_t len);
void image_iov_get(const struct iovec *iov, unsigned n_iov, size_t skip, void *buf, size_t len);

/* Read [off, off+len) of img into a part of iov; zeros beyond its end. img may be NULL: zeros. */
int image_read_part(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, size_t skip,
		    size_t len, uint64_t off);

/* Length of a file or block device. */
int image_file_size(int fd, uint64_t *ret_size, bool *ret_block);

static inline uint64_t image_round_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

#endif
