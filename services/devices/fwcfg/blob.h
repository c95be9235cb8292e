/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes, for tables that are put together piece by piece. */
#ifndef FWCFG_BLOB_H
#define FWCFG_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blob {
	uint8_t *data;
	size_t len, cap;
	bool failed; /* out of memory somewhere: check once at the end */
};

/* Append; little endian. Appending to a failed blob does nothing. */
void blob_put(struct blob *b, const void *data, size_t len);
void blob_zero(struct blob *b, size_t len);
void blob_u8(struct blob *b, uint8_t v);
void blob_u16(struct blob *b, uint16_t v);
void blob_u32(struct blob *b, uint32_t v);
void blob_u64(struct blob *b, uint64_t v);
/* A string in a field of fixed width, filled up with `fill`. */
void blob_text(struct blob *b, const char *text, size_t width, char fill);
void blob_align(struct blob *b, size_t to); /* with zeros, to a multiple of a power of two */
/* Overwrites what was appended before. */
void blob_set(struct blob *b, size_t at, const void *data, size_t len);
void blob_free(struct blob *b);

#endif
