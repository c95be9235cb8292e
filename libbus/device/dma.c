/* SPDX-License-Identifier: Apache-2.0 */
/* DMA: guest RAM by guest-physical address, refused while a PCI chip may not master the bus. */
#include <string.h>

#include "dev.h"
#include "mobo/base.h"

/* A pointer to all of [gpa, gpa + len), or NULL. No range crosses the hole and is still RAM. */
static void *all_of(struct mobo_dev *d, uint64_t gpa, size_t len)
{
	uint64_t have = len;
	void *p;

	if (!d->ram.base || !d->host->bus_master(d)) {
		return NULL;
	}
	p = mobo_ram_ptr(&d->ram, gpa, &have);
	return p && have == len ? p : NULL;
}

bool mobo_dev_dma_read(struct mobo_dev *d, uint64_t gpa, void *buf, size_t len)
{
	const void *p = all_of(d, gpa, len);

	if (!p) {
		memset(buf, 0, len);
		return len == 0;
	}
	memcpy(buf, p, len);
	return true;
}

bool mobo_dev_dma_write(struct mobo_dev *d, uint64_t gpa, const void *buf, size_t len)
{
	void *p = all_of(d, gpa, len);

	if (!p) {
		return len == 0;
	}
	memcpy(p, buf, len);
	mobo_dev_dma_dirty(d, gpa, len);
	return true;
}

void *mobo_dev_dma_map(struct mobo_dev *d, uint64_t gpa, size_t *len, bool write)
{
	uint64_t have = *len;
	void *p;

	if (!d->ram.base || have == 0 || !d->host->bus_master(d)) {
		return NULL;
	}
	p = mobo_ram_ptr(&d->ram, gpa, &have);
	if (p) {
		*len = (size_t)have;
	}
	return p;
}

void mobo_dev_dma_dirty(struct mobo_dev *d, uint64_t gpa, size_t len)
{
	uint64_t offset = mobo_ram_offset(&d->ram, gpa);

	if (offset != UINT64_MAX && len > 0) {
		d->host->dma_dirty(d, offset, MOBO_MIN(len, d->ram.size - offset));
	}
}
