/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an access of the guest to registers and hooks. An access is cut into pieces: the part of
 * each register that it covers, and the runs between registers, which go to the region's hooks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev.h"
#include "mobo/base.h"
#include "mobo/log.h"

/* Bytes of a region that are looked up in a table; registers may not lie beyond. */
enum { INDEX_MAX = 1 << 20 };

static uint64_t ones(unsigned n_bytes)
{
	return n_bytes >= 8 ? UINT64_MAX : (1ull << (n_bytes * 8)) - 1;
}

int mobo_dev_index_registers(struct mobo_dev *d)
{
	for (unsigned i = 0; i < d->cls->n_regs; i++) {
		const struct mobo_reg *r = &d->cls->regs[i];
		struct mobo_dev_reg_index *x = &d->reg_index[r->region];

		if (r->offset > INDEX_MAX - 8) {
			mobo_error("%s: register %s lies too far out", d->name, r->name);
			return -EINVAL;
		}
		x->n = MOBO_MAX(x->n, r->offset + r->width);
	}
	for (unsigned i = 0; i < d->cls->n_regions; i++) {
		d->reg_index[i].first = calloc(d->reg_index[i].n + 1, sizeof(uint16_t));
		if (!d->reg_index[i].first) {
			return -ENOMEM;
		}
	}
	for (unsigned i = 0; i < d->cls->n_regs; i++) {
		const struct mobo_reg *r = &d->cls->regs[i];
		uint16_t *first = d->reg_index[r->region].first;

		for (unsigned b = 0; b < r->width; b++) {
			if (!first[r->offset + b]) {
				first[r->offset + b] = (uint16_t)(i + 1);
			}
		}
	}
	return 0;
}

/* The visible register that covers a byte of a region, or NULL. */
static const struct mobo_reg *find_register(struct mobo_dev *d, unsigned region, uint64_t offset)
{
	const struct mobo_dev_reg_index *x = &d->reg_index[region];
	const struct mobo_reg *r;

	if (offset >= x->n || !x->first[offset]) {
		return NULL;
	}
	for (unsigned i = x->first[offset] - 1u; i < d->cls->n_regs; i++) {
		r = &d->cls->regs[i];
		if (r->region == region && offset >= r->offset && offset - r->offset < r->width &&
		    (!r->visible || r->visible(d))) {
			return r;
		}
	}
	return NULL;
}

static uint64_t load(struct mobo_dev *d, const struct mobo_reg *r)
{
	uint64_t v = 0;

	if (r->storage != MOBO_NO_STORAGE) {
		memcpy(&v, (char *)d->state + r->storage, r->width);
	}
	return v;
}

static void store(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	if (r->storage != MOBO_NO_STORAGE) {
		memcpy((char *)d->state + r->storage, &val, r->width);
	}
}

static uint64_t register_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	uint64_t v = r->read ? r->read(d, r) : load(d, r);

	v &= ones(r->width);
	if (mobo_log_level() >= MOBO_LOG_TRACE) {
		mobo_log(MOBO_LOG_TRACE, "%s: read %s = %#llx", d->name, r->name,
			 (unsigned long long)v);
	}
	return v;
}

bool mobo_dev_reg_peek(struct mobo_dev *d, const struct mobo_reg *r, uint64_t *val)
{
	if (r->visible && !r->visible(d)) {
		return false;
	}
	*val = (r->read && !r->no_peek ? r->read(d, r) : load(d, r)) & ones(r->width);
	return true;
}

/* Writes the bytes of `lanes` (a mask of whole bytes) of a register. */
static void register_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val,
			   uint64_t lanes)
{
	uint64_t mask = lanes & r->write_mask;
	uint64_t old = 0;

	if (mask != ones(r->width)) {
		if (r->storage != MOBO_NO_STORAGE) {
			old = load(d, r);
		} else if (r->read && !r->no_peek) {
			old = r->read(d, r) & ones(r->width);
		}
	}
	val = (old & ~mask) | (val & mask);
	if (mobo_log_level() >= MOBO_LOG_TRACE) {
		mobo_log(MOBO_LOG_TRACE, "%s: write %s = %#llx", d->name, r->name,
			 (unsigned long long)val);
	}
	if (r->write) {
		r->write(d, r, val);
	}
	store(d, r, val);
}

/* Bytes from offset on, at most size, that no register covers, cut to a natural access. */
static unsigned gap(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	unsigned n = 1;

	while (n < size && !find_register(d, region, offset + n)) {
		n++;
	}
	return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

static uint64_t hook_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned n)
{
	const struct mobo_region *g = &d->regions[region];

	if (g->attr == MOBO_SHADOW || g->attr == MOBO_CONST) {
		uint64_t v = 0;

		memcpy(&v, mobo_dev_shadow(d, region) + offset, n);
		return v;
	}
	if (!g->read) {
		return ones(n);
	}
	return g->read(d, region, offset, n) & ones(n);
}

static bool in_region(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t len;

	if (region >= d->cls->n_regions || (size != 1 && size != 2 && size != 4 && size != 8)) {
		return false;
	}
	len = d->regions[region].len;
	return offset < len && size <= len - offset;
}

uint64_t mobo_dev_io_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	const struct mobo_reg *r;
	uint64_t out = 0;
	unsigned n;

	if (!in_region(d, region, offset, size)) {
		return ones(size);
	}
	for (unsigned done = 0; done < size; done += n) {
		uint64_t at = offset + done;
		uint64_t v;

		r = find_register(d, region, at);
		if (r) {
			unsigned skip = (unsigned)(at - r->offset);

			n = MOBO_MIN(size - done, r->width - skip);
			v = (register_read(d, r) >> (skip * 8)) & ones(n);
		} else {
			n = gap(d, region, at, size - done);
			v = hook_read(d, region, at, n);
		}
		out |= v << (done * 8);
	}
	return out;
}

void mobo_dev_io_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		       uint64_t val)
{
	const struct mobo_reg *r;
	unsigned n;

	if (!in_region(d, region, offset, size)) {
		return;
	}
	for (unsigned done = 0; done < size; done += n) {
		uint64_t at = offset + done;
		uint64_t v = val >> (done * 8);

		r = find_register(d, region, at);
		if (r) {
			unsigned skip = (unsigned)(at - r->offset);

			n = MOBO_MIN(size - done, r->width - skip);
			v &= ones(n);
			register_write(d, r, v << (skip * 8), ones(n) << (skip * 8));
		} else {
			n = gap(d, region, at, size - done);
			if (d->regions[region].write) {
				d->regions[region].write(d, region, at, n, v & ones(n));
			}
		}
	}
}

/* MMIO moves on with each element, a port stays. */
static uint64_t element_step(const struct mobo_region *g, unsigned size)
{
	return g->kind == MOBO_REGION_PIO || g->kind == MOBO_REGION_BAR_IO ? 0 : size;
}

unsigned mobo_dev_io_read_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				 unsigned size, void *buf, unsigned count)
{
	const struct mobo_region *g;
	uint64_t v;

	if (!in_region(d, region, offset, size)) {
		memset(buf, 0xff, (size_t)size * count);
		return count;
	}
	g = &d->regions[region];
	if (g->read_string && !find_register(d, region, offset)) {
		unsigned n = g->read_string(d, region, offset, size, buf, count);

		return MOBO_MAX(1u, MOBO_MIN(n, count));
	}
	for (unsigned i = 0; i < count; i++) {
		v = mobo_dev_io_read(d, region, offset + i * element_step(g, size), size);
		memcpy((char *)buf + (size_t)i * size, &v, size);
	}
	return count;
}

unsigned mobo_dev_io_write_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				  unsigned size, const void *buf, unsigned count)
{
	const struct mobo_region *g;
	uint64_t v;

	if (!in_region(d, region, offset, size)) {
		return count;
	}
	g = &d->regions[region];
	if (g->write_string && !find_register(d, region, offset)) {
		unsigned n = g->write_string(d, region, offset, size, buf, count);

		return MOBO_MAX(1u, MOBO_MIN(n, count));
	}
	for (unsigned i = 0; i < count; i++) {
		v = 0;
		memcpy(&v, (const char *)buf + (size_t)i * size, size);
		mobo_dev_io_write(d, region, offset + i * element_step(g, size), size, v);
	}
	return count;
}
