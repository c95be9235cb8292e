/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2, as its specification (docs/interop/qcow2.txt of QEMU's documentation) describes it.
 *
 *   guest offset:  | L1 index | L2 index | offset in cluster |
 *   L1[i] -> L2 table (one cluster of 64-bit entries), L2[i] -> data cluster
 *   reference count of host cluster c: refcount table[c / per block] -> block[c % per block]
 *
 * All changes of metadata go to the file at once, in an order in which a torn sequence only leaks:
 *   allocate: reference count, data, L2 entry
 *   free:     L2 entry, reference count
 * Clusters are set aside by the batch (qcow2_refcount.c), with their reference counts on stable
 * storage, so that a power failure cannot leave a used cluster that counts as free.
 */
#ifndef MOBO_IMAGE_QCOW2_H
#define MOBO_IMAGE_QCOW2_H

#include <endian.h>

#include "image_priv.h"

/* Table entries, big-endian in the file. */
#define QCOW2_COPIED	 (1ull << 63) /* reference count is 1: write in place */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO	 (1ull << 0) /* version 3: reads as zeros */
#define QCOW2_OFFSET	 0x00fffffffffffe00ull
#define QCOW2_RT_OFFSET	 0xfffffffffffffe00ull

/* Header fields that are written later. */
enum {
	QCOW2_H_SIZE = 24,
	QCOW2_H_L1_SIZE = 36,	/* 32 bits, followed by the 64-bit offset */
	QCOW2_H_RT_OFFSET = 48, /* 64 bits, followed by 32 bits of clusters */
	QCOW2_H_INCOMPATIBLE = 72,
	QCOW2_H_AUTOCLEAR = 88,
};
enum {
	QCOW2_INCOMPAT_DIRTY = 1 << 0,
	QCOW2_INCOMPAT_CORRUPT = 1 << 1,
	QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
	QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
	QCOW2_INCOMPAT_EXTENDED_L2 = 1 << 4,
};
enum {
	QCOW2_MAX_L1_BYTES = 32 << 20,
	QCOW2_MAX_RT_BYTES = 8 << 20,
	QCOW2_MAX_SNAPSHOTS = 65536,
	QCOW2_L2_CACHE_BYTES = 8 << 20,
	QCOW2_RB_CACHE_BYTES = 2 << 20,
};

struct qcow2_header {
	uint32_t version, cluster_bits, crypt_method, l1_size, rt_clusters, n_snapshots;
	uint32_t refcount_order, header_length, backing_len;
	uint64_t backing_offset, size, l1_offset, rt_offset, snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	uint8_t compression; /* 0 zlib, 1 zstd */
};

/* Clusters of metadata, as in the file; writes go through. Four ways, least recently used. */
enum { QCOW2_CACHE_WAYS = 4 };
struct qcow2_cache {
	unsigned n_sets, cluster_bits;
	uint64_t clock;
	struct qcow2_slot {
		uint64_t offset; /* in the file; 0: empty (the header's cluster is no table) */
		uint64_t used;
		uint8_t *data;
	} * slots;
};

enum { QCOW2_RESERVE_RUNS = 64 };
struct qcow2_free_run {
	uint64_t first, n; /* clusters */
};

struct qcow2 {
	struct qcow2_header h;
	uint32_t cluster_size;
	unsigned l2_bits; /* log2 of entries in an L2 table */
	unsigned rb_bits; /* log2 of entries in a refcount block */
	uint64_t *l1;	  /* host byte order */
	uint64_t *rt;	  /* refcount table, host byte order */
	uint32_t rt_entries;
	struct qcow2_cache l2_cache, rb_cache;
	/* Allocation, in cluster numbers. */
	uint64_t free_hint; /* below it nothing is free, as far as we know */
	uint64_t freed;	    /* lowest cluster freed since the last flush; UINT64_MAX none */
	struct qcow2_free_run reserve[QCOW2_RESERVE_RUNS]; /* set aside: counted, not used */
	unsigned n_reserve, reserve_at;
	uint64_t n_allocated; /* this session */
	uint64_t data_end;    /* from this byte on nothing was ever written: zeros */
	bool writing;	      /* first write done: autoclear bits are cleared */
	bool broken;	      /* inconsistent metadata met: no more writes */
	uint8_t *bounce;      /* a cluster: what is copied up around a write */
	/* The last compressed cluster that was read. */
	uint64_t unpacked_entry;
	uint8_t *unpacked, *packed;
};

static inline struct qcow2 *qcow2_of(const struct mobo_image *img)
{
	return img->format;
}

/* qcow2_header.c */
int qcow2_header_read(int fd, uint64_t file_size, struct qcow2_header *h, struct mobo_error *err);

/* qcow2_open.c: tables and caches */
/* Table cluster at `offset`; valid until the next call for the same cache. 0, -EIO, -ENOMEM. */
int qcow2_cache_get(struct mobo_image *img, struct qcow2_cache *c, uint64_t offset,
		    uint8_t **ret_data);
/* A table that was just written: contents now known (copied); keeps nothing on -ENOMEM. */
void qcow2_cache_put(struct qcow2_cache *c, uint64_t offset, const uint8_t *data);
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset);
/* The metadata contradicts itself: note it, and refuse writes from now on. Returns -EIO. */
int qcow2_broken(struct mobo_image *img);

/* qcow2_refcount.c */
/* 1 to `want` adjacent clusters, reference count 1, not linked anywhere yet. */
int qcow2_alloc(struct mobo_image *img, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n);
/* Exactly n adjacent clusters, for tables. */
int qcow2_alloc_exact(struct mobo_image *img, uint64_t n, uint64_t *ret_cluster);
/* One reference less for n clusters; free ones may be punched. */
int qcow2_unref(struct mobo_image *img, uint64_t cluster, uint64_t n, bool punch);
int qcow2_release_reserve(struct mobo_image *img);

/* qcow2_cluster.c */
enum qcow2_kind {
	QCOW2_UNALLOCATED,
	QCOW2_ZERO_PLAIN,
	QCOW2_ZERO_ALLOCATED,
	QCOW2_NORMAL,
	QCOW2_PACKED,
};
enum qcow2_kind qcow2_entry_kind(const struct qcow2 *q, uint64_t entry);
/*
 * What lies at guest offset off: kind, its entry, and how many bytes (at most len) from off on are
 * of the same kind and, where that has a host place, adjacent there and alike in the COPIED bit.
 */
struct qcow2_run {
	enum qcow2_kind kind;
	uint64_t entry; /* of the first cluster */
	uint64_t host;	/* of byte off, for NORMAL and ZERO_ALLOCATED */
	uint64_t len;
};
int qcow2_lookup(struct mobo_image *img, uint64_t off, uint64_t len, struct qcow2_run *run);
/* Make the L2 table of `off` present and ours alone; *ret_offset is its place. */
int qcow2_l2_for_write(struct mobo_image *img, uint64_t off, uint64_t *ret_offset);
/* Replace n entries from that of `off` on (all in one table; host byte order in `entries`). */
int qcow2_l2_set(struct mobo_image *img, uint64_t l2_offset, uint64_t off, const uint64_t *entries,
		 unsigned n);
int qcow2_l2_get(struct mobo_image *img, uint64_t l2_offset, uint64_t off, uint64_t *entries,
		 unsigned n);
/* Give up what an old entry referred to. */
int qcow2_entry_unref(struct mobo_image *img, uint64_t entry, bool punch);
/* First write: clear the autoclear bits. */
int qcow2_begin_writing(struct mobo_image *img);

/* qcow2_compressed.c */
int qcow2_unpack(struct mobo_image *img, uint64_t entry, const uint8_t **ret_cluster);
/* Host bytes of a compressed cluster, by its entry. */
void qcow2_packed_extent(const struct qcow2 *q, uint64_t entry, uint64_t *ret_off,
			 uint64_t *ret_len);

/* qcow2_io.c, qcow2_discard.c, qcow2_resize.c */
int qcow2_readv(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		size_t len);
int qcow2_writev(struct mobo_image *img, const struct iovec *iov, unsigned n_iov, uint64_t off,
		 size_t len);
int qcow2_flush(struct mobo_image *img);
int qcow2_discard(struct mobo_image *img, uint64_t off, uint64_t len);
int qcow2_write_zeroes(struct mobo_image *img, uint64_t off, uint64_t len);
int qcow2_resize(struct mobo_image *img, uint64_t size, struct mobo_error *err);

#endif
