/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory and port map. Regions overlap; of those that cover an address the highest priority
 * answers, unless it is an overlay whose map word lets the access through to what lies below. From
 * the regions a flat map is made: page-granular runs for the CPUs' lookups, ranges by priority for
 * I/O. Readers take a pointer and no lock; an old map is freed when no vCPU can see it (sync.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exits/board_internal.h"
#include "mobo/log.h"

enum { PAGE = 4096 };
#define GPA_LIMIT (1ull << LAPIC_PHYS_BITS)

static bool is_pio(const struct region *r)
{
	return r->kind == MOBO_REGION_PIO || r->kind == MOBO_REGION_BAR_IO;
}

struct region *board_own_region(struct board *b, const char *name, enum mobo_region_kind kind,
				uint64_t base, uint64_t len, unsigned priority)
{
	struct region *r = &b->own[b->n_own++];

	MOBO_ASSERT(b->n_own <= BOARD_OWN_REGIONS);
	*r = (struct region){.kind = kind,
			     .base = base,
			     .len = len,
			     .decoded = true,
			     .priority = (uint8_t)priority};
	strncpy(r->name, name, sizeof(r->name) - 1);
	return r;
}

int region_check(const struct region *r, struct mobo_error *err)
{
	uint64_t limit = is_pio(r) ? 65536 : r->kind == MOBO_REGION_MMIO ? GPA_LIMIT : 1ull << 31;
	bool bar = r->kind != MOBO_REGION_PIO && r->kind != MOBO_REGION_MMIO;

	if (r->len == 0 || r->len > limit || (!bar && r->base > limit - r->len)) {
		return mobo_error_set(err, EINVAL, "region %s lies outside the address space",
				      r->name);
	}
	if (r->direct != DIRECT_NONE && !bar && (r->base | r->len) & (PAGE - 1)) {
		return mobo_error_set(err, EINVAL, "region %s is direct memory, but not in pages",
				      r->name);
	}
	return 0;
}

/* -- What a region is, for reads or for writes -- */

static uint8_t *direct_host(const struct region *r, uint32_t word, uint64_t gpa, uint64_t len)
{
	uint64_t offset = gpa - r->base, n = len;
	struct device *d = r->dev;

	if (r->direct == DIRECT_GUEST_RAM) {
		uint8_t *p = mobo_ram_ptr(&d->board->ram, gpa, &n);

		return p && n >= len ? p : NULL;
	}
	offset += word & ~(uint32_t)(PAGE - 1);
	return d->mem && offset < d->mem_len && d->mem_len - offset >= len ? d->mem + offset : NULL;
}

uint8_t *region_host(const struct region *r, uint64_t gpa, uint64_t len, bool write, bool *below)
{
	uint32_t word;

	*below = false;
	switch (r->direct) {
	case DIRECT_NONE: return NULL;
	case DIRECT_ROM: return write ? NULL : r->host + (gpa - r->base);
	case DIRECT_GUEST_RAM:
	case DIRECT_MEM: break;
	}
	if (!r->dev) {
		return r->host + (gpa - r->base); /* RAM itself */
	}
	word = r->dev->map_words[r->index];
	if (word & (write ? MOBO_MAP_WRITE : MOBO_MAP_READ)) {
		return direct_host(r, word, gpa, len);
	}
	*below = r->overlay;
	return NULL;
}

/* -- Building -- */

static int by_priority(const void *a, const void *b)
{
	const struct io_range *x = a, *y = b;

	return (int)y->r->priority - (int)x->r->priority;
}

static void add_range(struct map *m, struct region *r)
{
	struct io_range *ranges = is_pio(r) ? m->pio : m->mem;
	unsigned *n = is_pio(r) ? &m->n_pio : &m->n_mem, at = *n;

	if (!r->decoded) {
		return;
	}
	/* Insertion keeps the order of regions of one priority: first come, first served. */
	while (at && by_priority(&ranges[at - 1], &(struct io_range){.r = r}) > 0) {
		ranges[at] = ranges[at - 1];
		at--;
	}
	ranges[at] = (struct io_range){r->base, r->len, r};
	(*n)++;
}

static void collect(struct board *b, struct map *m)
{
	for (unsigned i = 0; i < BOARD_DEVICES; i++) {
		struct device *d = b->device[i];

		for (unsigned k = 0; d && k < d->n_regions; k++) {
			add_range(m, &d->regions[k]);
		}
	}
	for (unsigned i = 0; i < b->n_own; i++) {
		add_range(m, &b->own[i]);
	}
}

static unsigned count_regions(const struct board *b)
{
	unsigned n = b->n_own;

	for (unsigned i = 0; i < BOARD_DEVICES; i++) {
		n += b->device[i] ? b->device[i]->n_regions : 0;
	}
	return n;
}

static void fill_ports(struct map *m)
{
	for (unsigned i = m->n_pio; i-- > 0;) {
		for (uint64_t p = 0; p < m->pio[i].len; p++) {
			m->port[m->pio[i].base + p] = (uint16_t)(i + 1);
		}
	}
}

/* Memory behind the whole of [gpa, gpa + len), or NULL: I/O. */
static uint8_t *host_of(const struct map *m, uint64_t gpa, uint64_t len, bool write)
{
	for (unsigned i = 0; i < m->n_mem; i++) {
		const struct io_range *range = &m->mem[i];
		bool below;
		uint8_t *p;

		if (range->base >= gpa + len || gpa >= range->base + range->len) {
			continue;
		}
		if (gpa < range->base || gpa + len > range->base + range->len) {
			return NULL; /* a page that it has a part of */
		}
		p = region_host(range->r, gpa, len, write, &below);
		if (p || !below) {
			return p;
		}
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static unsigned unique(uint64_t *edges, unsigned n)
{
	unsigned k = 0;

	qsort(edges, n, sizeof(*edges), by_value);
	for (unsigned i = 0; i < n; i++) {
		if (k == 0 || edges[k - 1] != edges[i]) {
			edges[k++] = edges[i];
		}
	}
	return k;
}

static bool continues(const struct mem_run *a, const struct mem_run *b)
{
	return (a->r ? a->r + a->len == b->r : !b->r) && (a->w ? a->w + a->len == b->w : !b->w);
}

/* Pages of local APICs are I/O wherever a guest moves them. */
static unsigned apic_edges(struct board *b, uint64_t *edges)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->n_cpus; i++) {
		uint64_t base = atomic_load(&b->cpu[i].lapic.s.apic_base) & ~0xfffull;

		edges[n++] = base;
		edges[n++] = base + PAGE;
	}
	return n;
}

static bool is_apic(const struct board *b, uint64_t gpa)
{
	for (unsigned i = 0; i < b->n_cpus; i++) {
		uint64_t base = atomic_load(&b->cpu[i].lapic.s.apic_base);

		if (base & APIC_BASE_EN && (base & ~0xfffull) == gpa) {
			return true;
		}
	}
	return false;
}

static void flatten(struct board *b, struct map *m, uint64_t *edges)
{
	unsigned n = apic_edges(b, edges);

	for (unsigned i = 0; i < m->n_mem; i++) {
		uint64_t end = m->mem[i].base + m->mem[i].len;

		edges[n++] = m->mem[i].base & ~(uint64_t)(PAGE - 1);
		edges[n++] = (m->mem[i].base + PAGE - 1) & ~(uint64_t)(PAGE - 1);
		edges[n++] = end & ~(uint64_t)(PAGE - 1);
		edges[n++] = (end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	}
	edges[n++] = 0;
	n = unique(edges, n);
	for (unsigned i = 0; i < n; i++) {
		uint64_t end = i + 1 < n ? edges[i + 1] : 0;
		struct mem_run run = {.gpa = edges[i], .len = end - edges[i]};

		if (end && !is_apic(b, run.gpa)) {
			run.r = host_of(m, run.gpa, run.len, false);
			run.w = host_of(m, run.gpa, run.len, true);
		}
		if (m->n_runs && continues(&m->runs[m->n_runs - 1], &run)) {
			m->runs[m->n_runs - 1].len += run.len;
		} else {
			m->runs[m->n_runs++] = run;
		}
	}
}

void map_free(struct map *m)
{
	if (m) {
		free(m->runs);
		free(m->mem);
		free(m->pio);
		free(m);
	}
}

static struct map *map_build(struct board *b)
{
	unsigned n = count_regions(b), n_edges = 4 * n + 2 * b->n_cpus + 1;
	uint64_t *edges = calloc(n_edges, sizeof(*edges));
	struct map *m = calloc(1, sizeof(*m));

	if (!m || !edges) {
		goto fail;
	}
	m->mem = calloc(n, sizeof(*m->mem));
	m->pio = calloc(n, sizeof(*m->pio));
	m->runs = calloc(n_edges, sizeof(*m->runs));
	if (!m->mem || !m->pio || !m->runs) {
		goto fail;
	}
	collect(b, m);
	fill_ports(m);
	flatten(b, m, edges);
	free(edges);
	return m;
fail:
	free(edges);
	map_free(m);
	return NULL;
}

/* RAM below 1 MiB is behind the chipset's PAM registers where a chipset is there. */
static void place_hidden_ram(struct board *b)
{
	bool hidden = false;

	for (unsigned i = 0; i < BOARD_DEVICES; i++) {
		struct device *d = b->device[i];

		for (unsigned k = 0; d && k < d->n_regions; k++) {
			hidden |= d->regions[k].direct == DIRECT_GUEST_RAM;
		}
	}
	if (b->hidden_ram) {
		b->hidden_ram->decoded = !hidden;
	}
}

static void read_map_words(struct board *b)
{
	for (unsigned i = 0; i < BOARD_DEVICES; i++) {
		struct device *d = b->device[i];

		for (unsigned k = 0; d && k < d->n_regions; k++) {
			d->map_words[k] = atomic_load(&d->io.ch->map[k]);
		}
	}
}

void board_map_update(struct board *b, struct vcpu *self)
{
	struct map *m, *old;

	board_lock_sync(self, &b->map_lock);
	read_map_words(b);
	pci_place_regions(b);
	place_hidden_ram(b);
	m = map_build(b);
	if (m) {
		old = atomic_exchange(&b->map, m);
		board_sync(b, self, SYNC_MAP, 0, 0);
		if (self) {
			b->ops->map_changed(self);
		}
		map_free(old);
	} else {
		mobo_error("no memory for a new memory map: the old one stays");
	}
	pthread_mutex_unlock(&b->map_lock);
}

void board_map_words(struct device *d, struct vcpu *self)
{
	bool changed = false;

	d->map_gen = atomic_load(&d->io.ch->dev.map_gen);
	for (unsigned k = 0; k < d->n_regions; k++) {
		changed |= d->regions[k].direct != DIRECT_NONE &&
			   atomic_load(&d->io.ch->map[k]) != d->map_words[k];
	}
	if (changed) {
		board_map_update(d->board, self);
	}
}

/* -- Lookup -- */

struct mem_run board_mem_lookup(struct board *b, uint64_t gpa)
{
	const struct map *m = atomic_load_explicit(&b->map, memory_order_acquire);
	unsigned lo = 0, hi = m->n_runs;

	while (hi - lo > 1) {
		unsigned mid = (lo + hi) / 2;

		if (m->runs[mid].gpa <= gpa) {
			lo = mid;
		} else {
			hi = mid;
		}
	}
	return m->runs[lo];
}

uint64_t board_a20_mask(struct board *b)
{
	return atomic_load_explicit(&b->a20_open, memory_order_relaxed) ? UINT64_MAX
									: ~(1ull << 20);
}
