/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes. */
#include <stdlib.h>
#include <string.h>

#include "blob.h"

/* Room for len more bytes at the end, counted as used; NULL when out of memory. */
static uint8_t *grow(struct blob *b, size_t len)
{
	uint8_t *at;

	if (b->failed) {
		return NULL;
	}
	if (b->len + len > b->cap) {
		size_t cap = (b->len + len) * 2;
		uint8_t *data = realloc(b->data, cap);

		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	at = b->data + b->len;
	b->len += len;
	return at;
}

void blob_put(struct blob *b, const void *data, size_t len)
{
	uint8_t *at = len ? grow(b, len) : NULL;

	if (at) {
		memcpy(at, data, len);
	}
}

void blob_zero(struct blob *b, size_t len)
{
	uint8_t *at = len ? grow(b, len) : NULL;

	if (at) {
		memset(at, 0, len);
	}
}

void blob_u8(struct blob *b, uint8_t v)
{
	blob_put(b, &v, sizeof(v));
}

void blob_u16(struct blob *b, uint16_t v)
{
	blob_put(b, &v, sizeof(v));
}

void blob_u32(struct blob *b, uint32_t v)
{
	blob_put(b, &v, sizeof(v));
}

void blob_u64(struct blob *b, uint64_t v)
{
	blob_put(b, &v, sizeof(v));
}

void blob_text(struct blob *b, const char *text, size_t width, char fill)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < width; i++) {
		blob_u8(b, (uint8_t)(i < n ? text[i] : fill));
	}
}

void blob_align(struct blob *b, size_t to)
{
	blob_zero(b, -b->len & (to - 1));
}

void blob_set(struct blob *b, size_t at, const void *data, size_t len)
{
	if (!b->failed && at <= b->len && len <= b->len - at) {
		memcpy(b->data + at, data, len);
	}
}

void blob_free(struct blob *b)
{
	free(b->data);
	*b = (struct blob){0};
}
