/* SPDX-License-Identifier: Apache-2.0 */
/* Whole transfers on host files and block devices. */
#include "image_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IOV_PART = 128 }; /* elements handed to the kernel at once */

int image_file_size(int fd, uint64_t *ret_size, bool *ret_block)
{
	struct stat st;
	off_t end;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (S_ISREG(st.st_mode)) {
		*ret_size = (uint64_t)st.st_size;
		*ret_block = false;
		return 0;
	}
	if (!S_ISBLK(st.st_mode)) {
		return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
	}
	end = lseek(fd, 0, SEEK_END);
	if (end < 0) {
		return -errno;
	}
	*ret_size = (uint64_t)end;
	*ret_block = true;
	return 0;
}

/* Like pread until len bytes, the end of the file or an error; *ret_done is what was read. */
static int pread_some(int fd, char *buf, size_t len, uint64_t off, size_t *ret_done)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			break;
		}
		done += (size_t)n;
	}
	*ret_done = done;
	return 0;
}

int image_pread(int fd, void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {buf, len};

	return image_preadv(fd, &iov, 1, 0, len, off);
}

int image_pread_strict(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;
	int r = pread_some(fd, buf, len, off, &done);

	return r != 0 ? r : done < len ? -EIO : 0;
}

int image_preadv(int fd, const struct iovec *iov, unsigned n_iov, size_t skip, size_t len,
		 uint64_t off)
{
	while (len > 0) {
		struct iovec part[IOV_PART];
		size_t want;
		unsigned n = image_iov_slice(iov, n_iov, skip, len, part, IOV_PART, &want);
		ssize_t got;

		MOBO_ASSERT(n > 0);
		got = preadv(fd, part, (int)n, (off_t)off);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0) {
			return -errno;
		}
		if (got == 0) {
			image_iov_zero(iov, n_iov, skip, len);
			return 0;
		}
		skip += (size_t)got;
		off += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

int image_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {(void *)(uintptr_t)buf, len};

	return image_pwritev(fd, &iov, 1, 0, len, off);
}

int image_pwritev(int fd, const struct iovec *iov, unsigned n_iov, size_t skip, size_t len,
		  uint64_t off)
{
	while (len > 0) {
		struct iovec part[IOV_PART];
		size_t want;
		unsigned n = image_iov_slice(iov, n_iov, skip, len, part, IOV_PART, &want);
		ssize_t put;

		MOBO_ASSERT(n > 0);
		put = pwritev(fd, part, (int)n, (off_t)off);
		if (put < 0 && errno == EINTR) {
			continue;
		}
		if (put <= 0) {
			return put < 0 ? -errno : -EIO;
		}
		skip += (size_t)put;
		off += (uint64_t)put;
		len -= (size_t)put;
	}
	return 0;
}

int image_pwrite_durable(int fd, const void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	ssize_t put = pwritev2(fd, &iov, 1, (off_t)off, RWF_DSYNC);
	int r;

	if (put == (ssize_t)len) {
		return 0;
	}
	if (put < 0 && errno != EINTR && errno != EOPNOTSUPP && errno != ENOSYS) {
		return -errno;
	}
	r = image_pwrite(fd, buf, len, off);
	if (r == 0 && fdatasync(fd) != 0) {
		r = -errno;
	}
	return r;
}

int image_punch(int fd, uint64_t off, uint64_t len)
{
	/* On a block device the kernel makes it a discard that zeroes, or refuses. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) ==
	    0) {
		return 0;
	}
	return -errno;
}
