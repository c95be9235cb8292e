/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port and memory-mapped accesses: find the region, treat the access as its attribute says
 * (BUS.md section 5), split what no single region answers. Nobody answers: all ones.
 */
#include <string.h>

#include "exits/board_internal.h"

enum { STRING_SLICE = 64 }; /* elements at a time where each is an access of its own */

static uint64_t ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

static void unclaimed(struct board *b, uint64_t gpa, unsigned size, bool mmio, bool write)
{
	atomic_fetch_add_explicit(&b->unclaimed, 1, memory_order_relaxed);
	atomic_store_explicit(&b->unclaimed_last,
			      (gpa & 0xffffffffffffull) | (uint64_t)size << 48 |
				      (uint64_t)mmio << 56 | (uint64_t)write << 57,
			      memory_order_relaxed);
	if (b->notify &&
	    mobo_monotonic_ns() - atomic_load(&b->unclaimed_reported_ns) > 1000000000) {
		atomic_store(&b->unclaimed_reported_ns, mobo_monotonic_ns());
		b->notify(b->notify_arg);
	}
}

/* -- One device -- */

static enum mobo_attr attr_at(const struct region *r, uint64_t offset)
{
	for (unsigned i = 0; i < r->n_attrs; i++) {
		if (offset - r->attrs[i].offset < r->attrs[i].len) {
			return r->attrs[i].attr;
		}
	}
	return r->n_attrs ? r->attrs[r->n_attrs - 1].attr : MOBO_SYNC;
}

void device_settle(struct vcpu *v, struct device *d, bool map_changed)
{
	if (map_changed) {
		board_map_words(d, v);
	}
	/* What the device did to its lines is so before the vCPU goes on: ordering rule O5. */
	if (atomic_load_explicit(&v->board->page->kick.summary, memory_order_acquire)) {
		board_collect(v->board, v);
	}
}

void cpu_wait_begin(struct cpu *c)
{
	c->waiting_since_ns = 0;
	cpu_leave(c);
}

static uint64_t device_access(struct vcpu *v, struct region *r, enum mobo_io_op op, uint64_t offset,
			      unsigned size, uint64_t val)
{
	struct cpu *c = cpu_of(v);
	bool map_changed;

	cpu_wait_begin(c);
	if (mobo_io_sync(&r->dev->io, v->index, op, r->index, offset, size, &val, &map_changed)) {
		val = ones(size);
	}
	cpu_enter(c);
	device_settle(v, r->dev, map_changed);
	return val;
}

uint64_t region_read(struct vcpu *v, struct region *r, uint64_t offset, unsigned size)
{
	enum mobo_attr attr;
	uint64_t val = 0;

	if (!r->dev) {
		return r->read ? r->read(v, offset, size) & ones(size) : ones(size);
	}
	attr = attr_at(r, offset);
	if (attr == MOBO_SHADOW || attr == MOBO_CONST) {
		uint64_t at = r->shadow_offset + offset;

		if (at > MOBO_IOCH_SHADOW - size) {
			return ones(size);
		}
		memcpy(&val, &r->dev->io.ch->shadow[at], size);
		return val;
	}
	return device_access(v, r, MOBO_IO_READ, offset, size, 0);
}

void region_write(struct vcpu *v, struct region *r, uint64_t offset, unsigned size, uint64_t val)
{
	val &= ones(size);
	if (!r->dev) {
		if (r->write) {
			r->write(v, offset, size, val);
		}
		return;
	}
	switch (attr_at(r, offset)) {
	case MOBO_SYNC:
	case MOBO_SHADOW: device_access(v, r, MOBO_IO_WRITE, offset, size, val); break;
	case MOBO_POSTED:
		cpu_wait_begin(cpu_of(v));
		mobo_io_post(&r->dev->io, v->index, r->index, offset, size, val);
		cpu_enter(cpu_of(v));
		break;
	case MOBO_DOORBELL: mobo_io_bell(&r->dev->io, r->index, val); break;
	case MOBO_CONST: break;
	}
}

/* -- Ports -- */

static struct region *port_region(struct board *b, uint32_t port, unsigned size, uint64_t *offset)
{
	const struct map *m = atomic_load_explicit(&b->map, memory_order_acquire);
	unsigned i;

	if (port + size > MOBO_ARRAY_LEN(m->port)) {
		return NULL;
	}
	i = m->port[port];
	for (unsigned k = 1; k < size; k++) {
		if (m->port[port + k] != i) {
			return NULL;
		}
	}
	if (i == 0) {
		return NULL;
	}
	*offset = port - m->pio[i - 1].base;
	return m->pio[i - 1].r;
}

static uint32_t port_read(struct vcpu *v, uint16_t port, unsigned size)
{
	uint64_t offset;
	struct region *r = port_region(v->board, port, size, &offset);
	uint32_t val = 0;

	if (r) {
		return (uint32_t)region_read(v, r, offset, size);
	}
	if (size == 1) {
		unclaimed(v->board, port, size, false, false);
		return 0xff;
	}
	for (unsigned i = 0; i < size; i++) {
		val |= port_read(v, (uint16_t)(port + i), 1) << i * 8;
	}
	return val;
}

static void port_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
	uint64_t offset;
	struct region *r = port_region(v->board, port, size, &offset);

	if (r) {
		region_write(v, r, offset, size, val);
	} else if (size == 1) {
		unclaimed(v->board, port, size, false, true);
	} else {
		for (unsigned i = 0; i < size; i++) {
			port_write(v, (uint16_t)(port + i), 1, val >> i * 8 & 0xff);
		}
	}
}

/* 0xcf8 as a dword and 0xcfc-0xcff belong to configuration mechanism #1. */
static bool is_pci(uint16_t port, unsigned size)
{
	return (port == 0xcf8 && size == 4) || (port >= 0xcfc && port + size <= 0xd00);
}

uint32_t board_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
	cpu_count(cpu_of(v), is_pci(port, size) ? EXIT_PCI : EXIT_PIO);
	return is_pci(port, size) ? pci_io_read(v, port, size) : port_read(v, port, size);
}

void board_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
	cpu_count(cpu_of(v), is_pci(port, size) ? EXIT_PCI : EXIT_PIO);
	if (is_pci(port, size)) {
		pci_io_write(v, port, size, val);
	} else {
		port_write(v, port, size, val);
	}
}

/* The region when it takes a whole string in one request. */
static struct region *string_region(struct vcpu *v, uint16_t port, unsigned size, uint64_t *offset)
{
	struct region *r = port_region(v->board, port, size, offset);

	return r && r->dev && r->string_ops && attr_at(r, *offset) != MOBO_SHADOW &&
			       attr_at(r, *offset) != MOBO_CONST && !is_pci(port, size)
		       ? r
		       : NULL;
}

static unsigned device_string(struct vcpu *v, struct region *r, enum mobo_io_op op, uint64_t offset,
			      unsigned size, void *buf, unsigned n)
{
	struct cpu *c = cpu_of(v);
	bool map_changed;

	cpu_count(c, EXIT_PIO);
	cpu_wait_begin(c);
	/* An access given up reads as ones, all of it. */
	mobo_io_string(&r->dev->io, v->index, op, r->index, offset, size, buf, &n, &map_changed);
	cpu_enter(c);
	device_settle(v, r->dev, map_changed);
	return n;
}

unsigned board_pio_read_string(struct vcpu *v, uint16_t port, unsigned size, void *buf, unsigned n)
{
	uint64_t offset;
	struct region *r = string_region(v, port, size, &offset);

	if (r) {
		return device_string(v, r, MOBO_IO_READ_STRING, offset, size, buf, n);
	}
	n = MOBO_MIN(n, (unsigned)STRING_SLICE);
	for (unsigned i = 0; i < n; i++) {
		uint32_t val = board_pio_read(v, port, size);

		memcpy((uint8_t *)buf + i * size, &val, size);
	}
	return n;
}

unsigned board_pio_write_string(struct vcpu *v, uint16_t port, unsigned size, const void *buf,
				unsigned n)
{
	uint64_t offset;
	struct region *r = string_region(v, port, size, &offset);

	if (r) {
		return device_string(v, r, MOBO_IO_WRITE_STRING, offset, size, (void *)buf, n);
	}
	n = MOBO_MIN(n, (unsigned)STRING_SLICE);
	for (unsigned i = 0; i < n; i++) {
		uint32_t val = 0;

		memcpy(&val, (const uint8_t *)buf + i * size, size);
		board_pio_write(v, port, size, val);
	}
	return n;
}

/* -- Memory-mapped -- */

enum found { FOUND_NOTHING, FOUND_REGION, FOUND_MEMORY, FOUND_SPLIT };

static enum found find(struct board *b, uint64_t gpa, unsigned size, bool write,
		       struct region **ret, uint64_t *offset, uint8_t **host)
{
	const struct map *m = atomic_load_explicit(&b->map, memory_order_acquire);

	for (unsigned i = 0; i < m->n_mem; i++) {
		const struct io_range *range = &m->mem[i];
		bool below;

		if (gpa + size <= range->base || gpa >= range->base + range->len) {
			continue;
		}
		if (gpa < range->base || gpa + size > range->base + range->len) {
			return FOUND_SPLIT;
		}
		*host = region_host(range->r, gpa, size, write, &below);
		if (*host) {
			return FOUND_MEMORY;
		}
		if (!below) {
			*ret = range->r;
			*offset = gpa - range->base;
			return FOUND_REGION;
		}
	}
	return FOUND_NOTHING;
}

/* The page of v's own local APIC, in xAPIC mode. */
static bool is_own_apic(struct vcpu *v, uint64_t gpa)
{
	const struct lapic *l = &cpu_of(v)->lapic;

	return (gpa & ~0xfffull) ==
		       (atomic_load_explicit(&l->s.apic_base, memory_order_relaxed) & ~0xfffull) &&
	       lapic_hw_enabled(l) && !lapic_x2apic(l);
}

/* Registers are 32 bits, at multiples of 16; narrower reads see their part: SDM vol. 3, 10.4.1. */
static uint64_t apic_read(struct vcpu *v, uint32_t offset, unsigned size)
{
	uint32_t val = lapic_mmio_read(&cpu_of(v)->lapic, offset & 0xffc);

	cpu_count(cpu_of(v), EXIT_APIC);
	return val >> (offset & 3) * 8 & ones(size);
}

static void apic_write(struct vcpu *v, uint32_t offset, unsigned size, uint64_t val)
{
	cpu_count(cpu_of(v), EXIT_APIC);
	if ((offset & 3) == 0 && size >= 4) {
		lapic_mmio_write(&cpu_of(v)->lapic, offset, (uint32_t)val);
	}
}

uint64_t board_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
	struct region *r;
	uint64_t offset, val = 0;
	uint8_t *host;

	if (is_own_apic(v, gpa)) {
		return apic_read(v, gpa & 0xfff, size);
	}
	cpu_count(cpu_of(v), EXIT_MMIO);
	switch (find(v->board, gpa, size, false, &r, &offset, &host)) {
	case FOUND_MEMORY: memcpy(&val, host, size); return val;
	case FOUND_REGION: return region_read(v, r, offset, size);
	case FOUND_SPLIT:
		for (unsigned i = 0; i < size; i++) {
			val |= board_mmio_read(v, gpa + i, 1) << i * 8;
		}
		return val;
	case FOUND_NOTHING: break;
	}
	unclaimed(v->board, gpa, size, true, false);
	return ones(size);
}

void board_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t val)
{
	struct region *r;
	uint64_t offset;
	uint8_t *host;

	if (is_own_apic(v, gpa)) {
		apic_write(v, gpa & 0xfff, size, val);
		return;
	}
	cpu_count(cpu_of(v), EXIT_MMIO);
	switch (find(v->board, gpa, size, true, &r, &offset, &host)) {
	case FOUND_MEMORY:
		memcpy(host, &val, size);
		if (board_code_page(v->board, gpa)) {
			board_code_written(v, gpa, size);
		}
		return;
	case FOUND_REGION: region_write(v, r, offset, size, val); return;
	case FOUND_SPLIT:
		for (unsigned i = 0; i < size; i++) {
			board_mmio_write(v, gpa + i, 1, val >> i * 8 & 0xff);
		}
		return;
	case FOUND_NOTHING: break;
	}
	unclaimed(v->board, gpa, size, true, true);
}
