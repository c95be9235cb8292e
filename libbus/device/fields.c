/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Save and restore from the field table. Fields are found by name and checked by shape, so a table
 * may grow; each has the version that added it, and data of an older version simply lacks it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev.h"

static const char magic[4] = {'M', 'B', 'S', 'T'};
enum { FORMAT = 1, HEAD_LEN = 4 + 2 + 2 + 1, TAIL_LEN = 1 + 4 };

/* CRC-32 of IEEE 802.3, reflected, bit by bit: states are small and saves rare. */
static uint32_t crc32_of(const uint8_t *p, size_t len)
{
	uint32_t crc = 0xffffffffu;

	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++) {
			crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
		}
	}
	return ~crc;
}

static size_t bytes_of(const struct mobo_field *f)
{
	return (size_t)f->size * f->count;
}

size_t mobo_dev_save_size(const struct mobo_dev *d)
{
	size_t n = HEAD_LEN + strlen(d->cls->name) + TAIL_LEN;

	for (unsigned i = 0; i < d->cls->n_fields; i++) {
		n += 1 + strlen(d->cls->fields[i].name) + 8 + bytes_of(&d->cls->fields[i]);
	}
	return n;
}

static uint8_t *put(uint8_t *at, const void *p, size_t len)
{
	memcpy(at, p, len);
	return at + len;
}

static uint8_t *put_name(uint8_t *at, const char *name)
{
	*at++ = (uint8_t)strlen(name);
	return put(at, name, strlen(name));
}

long mobo_dev_save(const struct mobo_dev *d, void *buf, size_t cap)
{
	const uint16_t head[2] = {FORMAT, d->cls->state_version};
	uint8_t *at = buf;
	uint32_t crc;

	if (cap < mobo_dev_save_size(d)) {
		return -ENOSPC;
	}
	at = put(at, magic, sizeof(magic));
	at = put(at, head, sizeof(head));
	at = put_name(at, d->cls->name);
	for (unsigned i = 0; i < d->cls->n_fields; i++) {
		const struct mobo_field *f = &d->cls->fields[i];

		at = put_name(at, f->name);
		at = put(at, &f->size, 4);
		at = put(at, &f->count, 4);
		at = put(at, (const char *)d->state + f->offset, bytes_of(f));
	}
	*at++ = 0;
	crc = crc32_of(buf, (size_t)(at - (uint8_t *)buf));
	at = put(at, &crc, 4);
	return at - (uint8_t *)buf;
}

static const struct mobo_field *find_field(const struct mobo_chip_class *c, const char *name,
					   size_t len)
{
	for (unsigned i = 0; i < c->n_fields; i++) {
		if (strlen(c->fields[i].name) == len && memcmp(c->fields[i].name, name, len) == 0) {
			return &c->fields[i];
		}
	}
	return NULL;
}

struct reader {
	const uint8_t *at, *end;
};

/* The next n bytes, or NULL. */
static const void *take(struct reader *r, size_t n)
{
	const uint8_t *p = r->at;

	if ((size_t)(r->end - r->at) < n) {
		return NULL;
	}
	r->at += n;
	return p;
}

static int load_fields(const struct mobo_dev *d, struct reader *r, uint8_t *state)
{
	for (;;) {
		const struct mobo_field *f;
		const uint8_t *len = take(r, 1);
		const char *name;
		const void *p;
		uint32_t shape[2];

		if (!len) {
			return -EPROTO;
		}
		if (*len == 0) {
			return r->at == r->end ? 0 : -EPROTO;
		}
		name = take(r, *len);
		p = take(r, sizeof(shape));
		if (!name || !p) {
			return -EPROTO;
		}
		memcpy(shape, p, sizeof(shape));
		f = find_field(d->cls, name, *len);
		if (!f || f->size != shape[0] || f->count != shape[1]) {
			return -EPROTO;
		}
		p = take(r, bytes_of(f));
		if (!p) {
			return -EPROTO;
		}
		memcpy(state + f->offset, p, bytes_of(f));
	}
}

int mobo_dev_load(struct mobo_dev *d, const void *buf, size_t len)
{
	struct reader r = {buf, (const uint8_t *)buf + len};
	size_t name_len = strlen(d->cls->name);
	const uint8_t *p;
	uint16_t head[2];
	uint8_t *state;
	uint32_t crc;
	int ret;

	if (len < HEAD_LEN + TAIL_LEN) {
		return -EPROTO;
	}
	r.end -= 4;
	memcpy(&crc, r.end, 4);
	if (memcmp(buf, magic, sizeof(magic)) != 0 || crc != crc32_of(buf, len - 4)) {
		return -EPROTO;
	}
	take(&r, sizeof(magic));
	memcpy(head, take(&r, sizeof(head)), sizeof(head));
	if (head[0] != FORMAT || head[1] > d->cls->state_version) {
		return -EOVERFLOW;
	}
	p = take(&r, 1 + name_len);
	if (!p || p[0] != name_len || memcmp(p + 1, d->cls->name, name_len) != 0) {
		return -EPROTO;
	}
	state = malloc(d->cls->state_size ? d->cls->state_size : 1);
	if (!state) {
		return -ENOMEM;
	}
	memcpy(state, d->state, d->cls->state_size);
	ret = load_fields(d, &r, state);
	if (ret == 0) {
		memcpy(d->state, state, d->cls->state_size);
	}
	free(state);
	return ret;
}
