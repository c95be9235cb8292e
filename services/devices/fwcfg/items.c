/* SPDX-License-Identifier: Apache-2.0 */
/* The table of items that the guest can select. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fwcfg.h"

static struct fwcfg_item *slot(struct fwcfg *f, uint16_t key)
{
	struct fwcfg_item *it;

	for (unsigned i = 0; i < f->n_items; i++) {
		if (f->items[i].key == key) {
			free(f->items[i].data);
			f->items[i] = (struct fwcfg_item){.key = key, .fd = -1};
			return &f->items[i];
		}
	}
	if (f->n_items == FWCFG_ITEMS) {
		return NULL;
	}
	it = &f->items[f->n_items++];
	*it = (struct fwcfg_item){.key = key, .fd = -1};
	return it;
}

int fwcfg_add(struct fwcfg *f, uint16_t key, const void *data, size_t len)
{
	struct fwcfg_item *it;
	uint8_t *copy;

	if (len > UINT32_MAX) {
		return -ENOSPC;
	}
	copy = malloc(len ? len : 1);
	if (!copy) {
		return -ENOMEM;
	}
	it = slot(f, key);
	if (!it) {
		free(copy);
		return -ENOSPC;
	}
	if (len) {
		memcpy(copy, data, len);
	}
	it->data = copy;
	it->len = (uint32_t)len;
	return 0;
}

int fwcfg_add_u16(struct fwcfg *f, uint16_t key, uint16_t val)
{
	return fwcfg_add(f, key, &val, sizeof(val));
}

int fwcfg_add_u32(struct fwcfg *f, uint16_t key, uint32_t val)
{
	return fwcfg_add(f, key, &val, sizeof(val));
}

int fwcfg_add_u64(struct fwcfg *f, uint16_t key, uint64_t val)
{
	return fwcfg_add(f, key, &val, sizeof(val));
}

int fwcfg_add_fd(struct fwcfg *f, uint16_t key, int fd, uint64_t offset, uint32_t len)
{
	struct fwcfg_item *it = slot(f, key);

	if (!it) {
		return -ENOSPC;
	}
	it->fd = fd;
	it->fd_offset = offset;
	it->len = len;
	return 0;
}

int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, int fd, size_t len)
{
	uint16_t key = (uint16_t)(FWCFG_FILE_FIRST + f->next_file);
	size_t n = strlen(name);
	int r;

	if (n >= FWCFG_FILE_NAME || len > UINT32_MAX) {
		return -ENOSPC;
	}
	r = data ? fwcfg_add(f, key, data, len) : fwcfg_add_fd(f, key, fd, 0, (uint32_t)len);
	if (r) {
		return r;
	}
	f->next_file++;
	memcpy(f->items[f->n_items - 1].name, name, n + 1);
	return 0;
}

/* One directory entry, big endian. */
struct dir_entry {
	uint32_t size;
	uint16_t select, reserved;
	char name[FWCFG_FILE_NAME];
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct dir_entry *)a)->name, ((const struct dir_entry *)b)->name);
}

int fwcfg_add_directory(struct fwcfg *f)
{
	struct {
		uint32_t count;
		struct dir_entry entry[FWCFG_ITEMS];
	} dir = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < f->n_items; i++) {
		const struct fwcfg_item *it = &f->items[i];

		if (it->name[0]) {
			dir.entry[n].size = __builtin_bswap32(it->len);
			dir.entry[n].select = __builtin_bswap16(it->key);
			memcpy(dir.entry[n].name, it->name, sizeof(it->name));
			n++;
		}
	}
	qsort(dir.entry, n, sizeof(dir.entry[0]), by_name);
	dir.count = __builtin_bswap32(n);
	return fwcfg_add(f, FWCFG_FILE_DIR, &dir, sizeof(dir.count) + n * sizeof(dir.entry[0]));
}

const struct fwcfg_item *fwcfg_find(const struct fwcfg *f, uint16_t key)
{
	for (unsigned i = 0; i < f->n_items; i++) {
		if (f->items[i].key == key) {
			return &f->items[i];
		}
	}
	return NULL;
}

static bool read_fd(int fd, uint64_t offset, uint8_t *buf, size_t len)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			memset(buf, 0, len);
			return false;
		}
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

bool fwcfg_item_read(const struct fwcfg_item *it, uint64_t offset, void *buf, size_t len)
{
	size_t have = it && offset < it->len ? it->len - offset : 0;

	if (have > len) {
		have = len;
	}
	memset((uint8_t *)buf + have, 0, len - have);
	if (!have) {
		return true;
	}
	if (it->fd >= 0) {
		return read_fd(it->fd, it->fd_offset + offset, buf, have);
	}
	memcpy(buf, it->data + offset, have);
	return true;
}

void fwcfg_items_free(struct fwcfg *f)
{
	for (unsigned i = 0; i < f->n_items; i++) {
		free(f->items[i].data);
	}
	f->n_items = 0;
}
