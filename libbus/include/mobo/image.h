/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: raw files, block devices and qcow2 (versions 2 and 3), natively. Formats known only
 * by their magic are refused with the command that converts them.
 *
 * Opening and using are apart, because the process that serves a guest may not open files:
 *   mobo_image_open_chain()       paths -> locked file descriptors, top first
 *   mobo_image_create_from_fds()  descriptors -> an image that reads and writes
 * Descriptors may travel to another process in between; the locks travel with them.
 *
 * What a crash can do. A completed write is in the page cache with its metadata, so the death of
 * the process loses nothing; clusters that were set aside and not used yet leak. When the host
 * loses power the metadata is consistent too, and what was written before the last
 * mobo_image_flush() is there; only a cluster copied up from a backing file or an internal snapshot
 * in the last moments may be torn.
 *
 * An image is used by one thread at a time. All calls block. Offsets and lengths are bytes.
 */
#ifndef MOBO_IMAGE_H
#define MOBO_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "mobo/base.h"

enum { MOBO_IMAGE_DEPTH = 16 }; /* files in a chain, at most */

enum mobo_image_format {
	MOBO_IMAGE_RAW,
	MOBO_IMAGE_QCOW2,
	MOBO_IMAGE_VDI, /* from here on: recognised, not usable */
	MOBO_IMAGE_VMDK,
	MOBO_IMAGE_VHD,
	MOBO_IMAGE_VHDX,
	MOBO_IMAGE_QED,
	MOBO_IMAGE_QCOW1,
	MOBO_IMAGE_LUKS,
	MOBO_IMAGE_PARALLELS,
	MOBO_IMAGE_N_FORMATS,
};
/* "raw", "qcow2", "vdi" ... */
const char *mobo_image_format_name(enum mobo_image_format format);
/* 0 with *ret_format, or -EINVAL. */
int mobo_image_format_parse(const char *name, enum mobo_image_format *ret_format);

enum {
	MOBO_IMAGE_READONLY = 1 << 0,
	MOBO_IMAGE_FORCE_RAW = 1 << 1,	/* the top file is raw, whatever it begins with */
	MOBO_IMAGE_NO_LOCK = 1 << 2,	/* open_chain: somebody else holds the lock for us */
	MOBO_IMAGE_NO_BACKING = 1 << 3, /* open_chain: only the top file */
	MOBO_IMAGE_PUNCH = 1 << 4,	/* create_from_fds: discards give space back to the host */
};

/* What a file says about itself. */
struct mobo_image_info {
	enum mobo_image_format format;
	uint64_t virtual_size; /* what a guest sees, a multiple of 512; 0 when not known */
	uint64_t file_size;    /* length of the file or device */
	uint64_t allocated;    /* bytes on the host's disk */
	bool block_device;
	/* qcow2 only */
	uint32_t version, cluster_size, refcount_bits, n_snapshots;
	uint64_t incompatible, compatible, autoclear; /* feature bits */
	bool encrypted, dirty, corrupt, zstd, lazy_refcounts, external_data, extended_l2;
	char backing_file[1024]; /* as written in the header; "" none */
	char backing_format[32]; /* "" not said */
};

/*
 * Read what the file is. 0 also for formats that cannot be used (see info->format and
 * mobo_image_usable()); -EINVAL when a header lies, -EIO ... when it cannot be read; *err says
 * what.
 */
int mobo_image_probe(int fd, struct mobo_image_info *info, struct mobo_error *err);
/* 0, or -ENOTSUP with a sentence naming `path` and what to do: foreign formats, encryption ... */
int mobo_image_usable(const struct mobo_image_info *info, const char *path, bool readonly,
		      struct mobo_error *err);

/* Open files of a chain, top image first. */
struct mobo_image_chain {
	unsigned n;
	int fds[MOBO_IMAGE_DEPTH];     /* close-on-exec */
	char *paths[MOBO_IMAGE_DEPTH]; /* absolute or as given */
	struct mobo_image_info info[MOBO_IMAGE_DEPTH];
};

/*
 * Open `path` and everything below it. Backing names are relative to the file that names them. The
 * top file is locked against any other writer or reader, unless READONLY; the others against
 * writers. The locks are those of QEMU (open file description locks on bytes 100 and 200 up), so
 * that a running QEMU or qemu-img is kept out as well, and live until the last copy of the
 * descriptors is closed. -EBUSY (locked; text names the holder's pid where it can be found), -ELOOP
 * (loop, too deep), -ENOTSUP, -EINVAL, -errno.
 */
int mobo_image_open_chain(const char *path, unsigned flags, struct mobo_image_chain *chain,
			  struct mobo_error *err);
void mobo_image_chain_close(struct mobo_image_chain *chain);

/* Lock an open file as open_chain does. 0, -EBUSY, -errno. No support in the file system: 0. */
int mobo_image_lock(int fd, bool readonly, const char *path, struct mobo_error *err);

struct mobo_image;

/*
 * An image over the files of a chain. The descriptors stay the caller's and must live as long as
 * the image. flags: READONLY, FORCE_RAW, PUNCH. Nothing is written yet. NULL with *err filled.
 */
struct mobo_image *mobo_image_create_from_fds(const int *fds, unsigned n, unsigned flags,
					      struct mobo_error *err);
/* Flushes, gives back what was set aside, frees. 0, or the first -errno; the image is gone anyway.
 */
int mobo_image_destroy(struct mobo_image *img);

uint64_t mobo_image_size(const struct mobo_image *img); /* bytes, a multiple of 512 */
bool mobo_image_readonly(const struct mobo_image *img);
bool mobo_image_can_discard(const struct mobo_image *img);

/*
 * Read or write the bytes at off, as many as iov holds. 0 or -errno: -EINVAL beyond the end,
 * -EROFS, -ENOSPC (the host's disk is full: nothing that was there is lost, try again when there is
 * room), -EIO (also: the image is damaged there). The iovec array is not changed.
 */
int mobo_image_readv(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off);
int mobo_image_writev(struct mobo_image *img, const struct iovec *iov, unsigned n_iov,
		      uint64_t off);
int mobo_image_read(struct mobo_image *img, void *buf, size_t len, uint64_t off);
int mobo_image_write(struct mobo_image *img, const void *buf, size_t len, uint64_t off);
/* Everything written is on stable storage. */
int mobo_image_flush(struct mobo_image *img);
/* The contents are not needed: they read as before, or as zeros. Never fails for lack of support.
 */
int mobo_image_discard(struct mobo_image *img, uint64_t off, uint64_t len);
int mobo_image_write_zeroes(struct mobo_image *img, uint64_t off, uint64_t len);

/* -- Making and growing -- */

struct mobo_image_new {
	enum mobo_image_format format; /* RAW or QCOW2 */
	uint64_t size; /* bytes, rounded up to 512; 0 with a backing file: as large as that */
	const char *backing_file; /* qcow2: as it shall be written; NULL none */
	uint32_t cluster_size;	  /* qcow2: 512 ... 2M; 0: 64K */
};
/* Creates the file (-EEXIST when there is one), mode 0600, synced. A backing file must be usable.
 */
int mobo_image_new(const char *path, const struct mobo_image_new *what, struct mobo_error *err);
/*
 * Grow to `size` bytes; the new part reads as zeros. Takes the lock. -EINVAL when that is smaller;
 * -ENOTSUP where the tables of small clusters do not fit: qemu-img resize can.
 */
int mobo_image_resize(const char *path, uint64_t size, struct mobo_error *err);

#endif
