/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of iovec arrays: a transfer is cut at cluster borders, its memory at guest pages. */
#include "image_priv.h"

#include <string.h>

/*
 * The elements of iov that hold bytes [skip, skip + len), at most max of them. Returns how many
 * were written to out; *ret_len is the bytes they hold, less than len when max did not suffice.
 */
unsigned image_iov_slice(const struct iovec *iov, unsigned n_iov, size_t skip, size_t len,
			 struct iovec *out, unsigned max, size_t *ret_len)
{
	unsigned n = 0;
	size_t got = 0;

	for (unsigned i = 0; i < n_iov && got < len && n < max; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		out[n].iov_base = (char *)iov[i].iov_base + skip;
		out[n].iov_len = MOBO_MIN(iov[i].iov_len - skip, len - got);
		got += out[n].iov_len;
		n++;
		skip = 0;
	}
	*ret_len = got;
	return n;
}

enum iov_job { IOV_ZERO, IOV_PUT, IOV_GET };

static void walk(const struct iovec *iov, unsigned n_iov, size_t skip, char *buf, size_t len,
		 enum iov_job job)
{
	for (unsigned i = 0; i < n_iov && len > 0; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		char *at = (char *)iov[i].iov_base + skip;
		size_t part = MOBO_MIN(iov[i].iov_len - skip, len);

		switch (job) {
		case IOV_ZERO: memset(at, 0, part); break;
		case IOV_PUT: memcpy(at, buf, part); break;
		case IOV_GET: memcpy(buf, at, part); break;
		}
		if (buf) {
			buf += part;
		}
		len -= part;
		skip = 0;
	}
}

void image_iov_zero(const struct iovec *iov, unsigned n_iov, size_t skip, size_t len)
{
	walk(iov, n_iov, skip, NULL, len, IOV_ZERO);
}

void image_iov_put(const struct iovec *iov, unsigned n_iov, size_t skip, const void *buf,
		   size_t len)
{
	walk(iov, n_iov, skip, (char *)(uintptr_t)buf, len, IOV_PUT);
}

void image_iov_get(const struct iovec *iov, unsigned n_iov, size_t skip, void *buf, size_t len)
{
	walk(iov, n_iov, skip, buf, len, IOV_GET);
}
