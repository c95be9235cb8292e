/* SPDX-License-Identifier: Apache-2.0 */
/* The fake board: life, accesses by address, the machine's verbs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mobo/base.h"
#include "test_board_priv.h"

enum { DEFAULT_RAM = 1 << 20 };
static const int64_t default_realtime_ns = 1704067200ll * 1000000000ll;

static void give_setup(struct mobo_test_board *b, const struct mobo_test_setup *s)
{
	for (unsigned i = 0; s->config && s->config[i]; i += 2) {
		assert_int_equal(mobo_dev_config_set(b->dev, s->config[i], s->config[i + 1]), 0);
	}
	for (unsigned i = 0; s->fd_names && s->fd_names[i]; i++) {
		int fd = fcntl(s->fds[i], F_DUPFD_CLOEXEC, 0);

		assert_true(fd >= 0);
		assert_int_equal(mobo_dev_fd_give(b->dev, s->fd_names[i], fd), 0);
	}
}

int mobo_test_make_dev(struct mobo_test_board *b)
{
	static const struct mobo_test_setup none;
	const struct mobo_test_setup *s = b->setup ? b->setup : &none;
	int r;

	r = mobo_dev_new(&b->dev, b->cls, b->cls->name, &mobo_test_host, b->state, b->shadow);
	assert_int_equal(r, 0);
	b->n_watches = 0;
	b->dev->realtime_base_ns = s->realtime_base_ns ? s->realtime_base_ns : default_realtime_ns;
	give_setup(b, s);
	return 0;
}

static void make_memories(struct mobo_test_board *b, struct mobo_ram *ram, void **memory,
			  size_t *memory_len)
{
	ram->size = b->setup && b->setup->ram_size ? b->setup->ram_size : DEFAULT_RAM;
	ram->low_len = ram->size;
	ram->base = calloc(1, ram->size);
	assert_non_null(ram->base);
	*memory_len = b->setup ? b->setup->memory_size : 0;
	*memory = NULL;
	if (*memory_len) {
		*memory = calloc(1, *memory_len);
		assert_non_null(*memory);
	}
}

struct mobo_test_board *mobo_test_board_try(const struct mobo_chip_class *cls,
					    const struct mobo_test_setup *setup, int *ret)
{
	struct mobo_test_board *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->cls = cls;
	b->setup = setup;
	b->bus_master = true;
	b->now = 1000000000; /* not 0: a chip may not take 0 for "never" */
	b->state = calloc(1, cls->state_size ? cls->state_size : 1);
	assert_non_null(b->state);
	mobo_test_make_dev(b);
	make_memories(b, &b->dev->ram, &b->dev->memory, &b->dev->memory_len);
	*ret = mobo_dev_start(b->dev);
	if (*ret < 0) {
		free(b->dev->ram.base);
		free(b->dev->memory);
		mobo_dev_free(b->dev, false);
		free(b->state);
		free(b);
		return NULL;
	}
	mobo_dev_reset(b->dev);
	mobo_test_clear_counts(b);
	return b;
}

struct mobo_test_board *mobo_test_board_new(const struct mobo_chip_class *cls,
					    const struct mobo_test_setup *setup)
{
	int r;
	struct mobo_test_board *b = mobo_test_board_try(cls, setup, &r);

	if (!b) {
		fail_msg("init of %s gave %d", cls->name, r);
	}
	return b;
}

void mobo_test_board_free(struct mobo_test_board *b)
{
	void *ram = b->dev->ram.base;
	void *memory = b->dev->memory;

	mobo_dev_free(b->dev, true);
	for (unsigned i = 0; i < TEST_STREAMS; i++) {
		free(b->to_chip[i].bytes);
		free(b->from_chip[i].bytes);
	}
	free(ram);
	free(memory);
	free(b->state);
	free(b);
}

void mobo_test_restart(struct mobo_test_board *b)
{
	struct mobo_dev *old = b->dev;

	/* A killed process runs no finish hook; what it held in memory is gone. */
	mobo_test_make_dev(b);
	b->dev->ram = old->ram;
	b->dev->memory = old->memory;
	b->dev->memory_len = old->memory_len;
	mobo_dev_free(old, true);
	assert_int_equal(mobo_dev_start(b->dev), 0);
	mobo_dev_restored(b->dev);
}

struct mobo_dev *mobo_test_dev(struct mobo_test_board *b)
{
	return b->dev;
}

void *mobo_test_state(struct mobo_test_board *b)
{
	return b->state;
}

void *mobo_test_priv(struct mobo_test_board *b)
{
	return b->dev->priv;
}

/* -- Accesses -- */

uint64_t mobo_test_read(struct mobo_test_board *b, unsigned region, uint64_t offset, unsigned size)
{
	return mobo_dev_io_read(b->dev, region, offset, size);
}

void mobo_test_write(struct mobo_test_board *b, unsigned region, uint64_t offset, unsigned size,
		     uint64_t val)
{
	mobo_dev_io_write(b->dev, region, offset, size, val);
}

/* The region of the highest priority at an address, or n_regions. */
static unsigned find_region(struct mobo_test_board *b, enum mobo_region_kind kind, uint64_t at)
{
	unsigned best = b->cls->n_regions;

	for (unsigned i = 0; i < b->cls->n_regions; i++) {
		const struct mobo_region *r = &b->dev->regions[i];

		if (r->kind == kind && at >= r->base && at - r->base < r->len &&
		    (best == b->cls->n_regions || r->priority > b->dev->regions[best].priority)) {
			best = i;
		}
	}
	return best;
}

static uint64_t read_at(struct mobo_test_board *b, enum mobo_region_kind kind, uint64_t at,
			unsigned size)
{
	unsigned region = find_region(b, kind, at);

	if (region == b->cls->n_regions) {
		return size >= 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
	}
	return mobo_test_read(b, region, at - b->dev->regions[region].base, size);
}

static void write_at(struct mobo_test_board *b, enum mobo_region_kind kind, uint64_t at,
		     unsigned size, uint64_t val)
{
	unsigned region = find_region(b, kind, at);

	if (region < b->cls->n_regions) {
		mobo_test_write(b, region, at - b->dev->regions[region].base, size, val);
	}
}

uint8_t mobo_test_inb(struct mobo_test_board *b, uint16_t port)
{
	return (uint8_t)read_at(b, MOBO_REGION_PIO, port, 1);
}

uint16_t mobo_test_inw(struct mobo_test_board *b, uint16_t port)
{
	return (uint16_t)read_at(b, MOBO_REGION_PIO, port, 2);
}

uint32_t mobo_test_inl(struct mobo_test_board *b, uint16_t port)
{
	return (uint32_t)read_at(b, MOBO_REGION_PIO, port, 4);
}

void mobo_test_outb(struct mobo_test_board *b, uint16_t port, uint8_t val)
{
	write_at(b, MOBO_REGION_PIO, port, 1, val);
}

void mobo_test_outw(struct mobo_test_board *b, uint16_t port, uint16_t val)
{
	write_at(b, MOBO_REGION_PIO, port, 2, val);
}

void mobo_test_outl(struct mobo_test_board *b, uint16_t port, uint32_t val)
{
	write_at(b, MOBO_REGION_PIO, port, 4, val);
}

uint64_t mobo_test_mmio_read(struct mobo_test_board *b, uint64_t gpa, unsigned size)
{
	return read_at(b, MOBO_REGION_MMIO, gpa, size);
}

void mobo_test_mmio_write(struct mobo_test_board *b, uint64_t gpa, unsigned size, uint64_t val)
{
	write_at(b, MOBO_REGION_MMIO, gpa, size, val);
}

void mobo_test_read_string(struct mobo_test_board *b, unsigned region, uint64_t offset,
			   unsigned size, void *buf, unsigned count)
{
	bool port = b->dev->regions[region].kind == MOBO_REGION_PIO ||
		    b->dev->regions[region].kind == MOBO_REGION_BAR_IO;
	unsigned n;

	for (unsigned done = 0; done < count; done += n) {
		n = mobo_dev_io_read_string(b->dev, region, offset + (port ? 0 : done * size), size,
					    (char *)buf + (size_t)done * size, count - done);
	}
}

void mobo_test_write_string(struct mobo_test_board *b, unsigned region, uint64_t offset,
			    unsigned size, const void *buf, unsigned count)
{
	bool port = b->dev->regions[region].kind == MOBO_REGION_PIO ||
		    b->dev->regions[region].kind == MOBO_REGION_BAR_IO;
	unsigned n;

	for (unsigned done = 0; done < count; done += n) {
		n = mobo_dev_io_write_string(b->dev, region, offset + (port ? 0 : done * size),
					     size, (const char *)buf + (size_t)done * size,
					     count - done);
	}
}

const struct mobo_reg *mobo_test_find_reg(struct mobo_test_board *b, const char *name)
{
	for (unsigned i = 0; i < b->cls->n_regs; i++) {
		if (strcmp(b->cls->regs[i].name, name) == 0) {
			return &b->cls->regs[i];
		}
	}
	fail_msg("%s has no register %s", b->cls->name, name);
	return NULL;
}

uint64_t mobo_test_reg_read(struct mobo_test_board *b, const char *name)
{
	const struct mobo_reg *r = mobo_test_find_reg(b, name);

	return mobo_test_read(b, r->region, r->offset, r->width);
}

void mobo_test_reg_write(struct mobo_test_board *b, const char *name, uint64_t val)
{
	const struct mobo_reg *r = mobo_test_find_reg(b, name);

	mobo_test_write(b, r->region, r->offset, r->width, val);
}

void mobo_test_doorbell(struct mobo_test_board *b, unsigned region, uint64_t offset, uint64_t val)
{
	if (b->cls->doorbell) {
		b->cls->doorbell(b->dev, region, offset, val);
	}
}

void mobo_test_pci_config(struct mobo_test_board *b, unsigned fn, unsigned offset, unsigned len,
			  uint32_t val)
{
	if (b->cls->pci_config) {
		b->cls->pci_config(b->dev, fn, offset, len, val);
	}
}

void mobo_test_bus_master(struct mobo_test_board *b, bool on)
{
	b->bus_master = on;
}

uint8_t *mobo_test_ram(struct mobo_test_board *b)
{
	return b->dev->ram.base;
}

uint8_t *mobo_test_memory(struct mobo_test_board *b)
{
	return b->dev->memory;
}

/* -- The machine -- */

uint64_t mobo_test_now(struct mobo_test_board *b)
{
	return b->now;
}

uint64_t mobo_test_next_timer(struct mobo_test_board *b)
{
	return mobo_dev_next_timer(b->dev);
}

void mobo_test_step(struct mobo_test_board *b, uint64_t ns)
{
	const uint64_t end = b->now + ns;
	uint64_t stuck_at = 0;
	unsigned stuck = 0;
	uint64_t next;

	while ((next = mobo_dev_next_timer(b->dev)) <= end) {
		b->now = MOBO_MAX(b->now, next);
		stuck = b->now == stuck_at ? stuck + 1 : 0;
		stuck_at = b->now;
		if (stuck > 1000) {
			fail_msg("%s: a timer sets itself again without time passing",
				 b->cls->name);
		}
		mobo_dev_fire_timers(b->dev, b->now);
	}
	b->now = end;
}

void mobo_test_reset(struct mobo_test_board *b)
{
	mobo_dev_reset(b->dev);
}

void mobo_test_pause(struct mobo_test_board *b)
{
	if (b->cls->pause) {
		b->cls->pause(b->dev);
	}
}

void mobo_test_resume(struct mobo_test_board *b)
{
	if (b->cls->resume) {
		b->cls->resume(b->dev);
	}
}

void *mobo_test_save(struct mobo_test_board *b, size_t *len)
{
	void *buf;

	*len = mobo_dev_save_size(b->dev);
	buf = test_malloc(*len);
	assert_int_equal(mobo_dev_save(b->dev, buf, *len), (long)*len);
	return buf;
}

int mobo_test_load(struct mobo_test_board *b, const void *buf, size_t len)
{
	int r;

	mobo_dev_reset(b->dev);
	r = mobo_dev_load(b->dev, buf, len);
	if (r == 0) {
		mobo_dev_restored(b->dev);
	}
	return r;
}

void mobo_test_input(struct mobo_test_board *b, const struct mobo_input *in)
{
	assert_non_null(b->cls->input);
	b->cls->input(b->dev, in);
}

int mobo_test_media(struct mobo_test_board *b, unsigned slot, const char *const *names,
		    const int *fds, unsigned n, bool force)
{
	int copies[MOBO_DEV_FDS];

	assert_true(n <= MOBO_DEV_FDS);
	for (unsigned i = 0; i < n; i++) {
		copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		assert_true(copies[i] >= 0);
	}
	return mobo_dev_media(b->dev, slot, names, copies, n, force);
}

int mobo_test_command(struct mobo_test_board *b, const char *verb, const char *arg)
{
	return b->cls->command ? b->cls->command(b->dev, verb, arg) : -ENOSYS;
}

/* -- What came out -- */

bool mobo_test_line(struct mobo_test_board *b, unsigned line)
{
	return (b->dev->level >> line) & 1;
}

unsigned mobo_test_line_rises(struct mobo_test_board *b, unsigned line)
{
	return b->rises[line];
}

unsigned mobo_test_pulses(struct mobo_test_board *b, unsigned line)
{
	return b->pulses[line];
}

unsigned mobo_test_msis(struct mobo_test_board *b, unsigned vector)
{
	return b->msis[vector];
}

void mobo_test_clear_counts(struct mobo_test_board *b)
{
	memset(b->rises, 0, sizeof(b->rises));
	memset(b->pulses, 0, sizeof(b->pulses));
	memset(b->msis, 0, sizeof(b->msis));
	b->n_notes = 0;
	b->n_errors = 0;
	b->dma_dirty_bytes = 0;
}

uint32_t mobo_test_map(struct mobo_test_board *b, unsigned region)
{
	return b->dev->map[region];
}

const struct mobo_region *mobo_test_region(struct mobo_test_board *b, unsigned region)
{
	assert_true(region < b->cls->n_regions);
	return &b->dev->regions[region];
}

struct mobo_line mobo_test_line_target(struct mobo_test_board *b, unsigned line)
{
	assert_true(line < b->cls->n_lines);
	return b->dev->lines[line];
}

const struct mobo_pci_function *mobo_test_function(struct mobo_test_board *b, unsigned fn)
{
	assert_true(fn < b->cls->n_functions);
	return &b->dev->functions[fn];
}

unsigned mobo_test_errors(struct mobo_test_board *b)
{
	return b->n_errors;
}

uint64_t mobo_test_guest_errors(struct mobo_test_board *b)
{
	return b->dev->n_guest_errors;
}

uint64_t mobo_test_dma_dirty_bytes(struct mobo_test_board *b)
{
	return b->dma_dirty_bytes;
}
