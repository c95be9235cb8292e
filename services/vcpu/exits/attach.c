/* SPDX-License-Identifier: Apache-2.0 */
/* A device's claims, as it made them on the bus, become regions, lines and PCI functions. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "exits/board_internal.h"
#include "mobo/v1/device.pb-c.h"

static int take_region(struct device *d, unsigned i, const Mobo__V1__Region *c,
		       struct mobo_error *err)
{
	struct region *r = &d->regions[i];

	*r = (struct region){
		.dev = d,
		.index = i,
		.kind = (enum mobo_region_kind)c->kind,
		.base = c->base_address,
		.len = c->len,
		.disabled = c->disabled,
		.fn = (uint8_t)c->fn,
		.bar = (uint8_t)c->bar,
		.priority = (uint8_t)MOBO_MIN(c->priority, 253u),
		.overlay = c->overlay,
		.string_ops = c->string_ops,
		.shadow_offset = c->shadow_offset,
	};
	strncpy(r->name, c->name, sizeof(r->name) - 1);
	r->decoded = !r->disabled && (r->kind == MOBO_REGION_PIO || r->kind == MOBO_REGION_MMIO);
	if (strcmp(c->direct, "ram") == 0) {
		r->direct = DIRECT_GUEST_RAM;
	} else if (strcmp(c->direct, "mem") == 0) {
		r->direct = DIRECT_MEM;
	} else if (*c->direct) {
		return mobo_error_set(err, EINVAL, "region %s: no direct memory \"%s\"", r->name,
				      c->direct);
	}
	if (c->n_attrs > BOARD_ATTRS || c->kind > MOBO__V1__REGION_KIND__REGION_ROM_BAR ||
	    c->bar > 0xff || c->fn >= BOARD_FUNCTIONS || c->shadow_offset > MOBO_IOCH_SHADOW) {
		return mobo_error_set(err, EINVAL, "region %s: bad claim", r->name);
	}
	for (unsigned k = 0; k < c->n_attrs; k++) {
		if (c->attrs[k]->attr > MOBO__V1__REGION_ATTR__ATTR_CONST) {
			return mobo_error_set(err, EINVAL, "region %s: bad attribute", r->name);
		}
		r->attrs[r->n_attrs++] = (struct attr_range){
			c->attrs[k]->offset,
			c->attrs[k]->len,
			/* The API's numbers are in their own order. */
			(enum mobo_attr[]){
				[MOBO__V1__REGION_ATTR__ATTR_SYNC] = MOBO_SYNC,
				[MOBO__V1__REGION_ATTR__ATTR_POSTED] = MOBO_POSTED,
				[MOBO__V1__REGION_ATTR__ATTR_DOORBELL] = MOBO_DOORBELL,
				[MOBO__V1__REGION_ATTR__ATTR_SHADOW] = MOBO_SHADOW,
				[MOBO__V1__REGION_ATTR__ATTR_CONST] = MOBO_CONST,
			}[c->attrs[k]->attr],
		};
	}
	return region_check(r, err);
}

static int take_line(struct device *d, const Mobo__V1__Line *c, struct mobo_error *err)
{
	static const struct {
		enum mobo_line_kind kind;
		unsigned limit;
	} kinds[] = {
		[MOBO__V1__LINE_KIND__LINE_ISA] = {MOBO_LINE_ISA, 16},
		[MOBO__V1__LINE_KIND__LINE_GSI] = {MOBO_LINE_GSI, IOAPIC_PINS},
		[MOBO__V1__LINE_KIND__LINE_INTX] = {MOBO_LINE_INTX, BOARD_FUNCTIONS},
		[MOBO__V1__LINE_KIND__LINE_NMI] = {MOBO_LINE_NMI, 256},
		[MOBO__V1__LINE_KIND__LINE_A20] = {MOBO_LINE_A20, 256},
		[MOBO__V1__LINE_KIND__LINE_INIT] = {MOBO_LINE_INIT, 256},
	};

	if (c->kind >= MOBO_ARRAY_LEN(kinds) || c->n >= kinds[c->kind].limit) {
		return mobo_error_set(err, EINVAL, "%s: bad interrupt line", d->name);
	}
	d->lines[d->n_lines++] = (struct mobo_line){kinds[c->kind].kind, (uint8_t)c->n};
	return 0;
}

static void put(uint8_t *bytes, unsigned offset, unsigned len, uint32_t val)
{
	for (unsigned i = 0; i < len; i++) {
		bytes[offset + i] = (uint8_t)(val >> i * 8);
	}
}

static int take_function(struct device *d, const Mobo__V1__PciFunction *c, struct mobo_error *err)
{
	struct pci_function *f = &d->fn[d->n_functions];

	if (c->device > 0xff || c->function > 7 || c->interrupt_pin > 4 || c->pirq_offset > 0xfc) {
		return mobo_error_set(err, EINVAL, "%s: bad PCI function", d->name);
	}
	f->dev = d;
	f->n = d->n_functions++;
	f->device = (uint8_t)c->device;
	f->function = (uint8_t)c->function;
	f->pirq_offset = (uint8_t)c->pirq_offset;
	put(f->reset, 0x00, 2, c->vendor_id);
	put(f->reset, 0x02, 2, c->device_id);
	put(f->reset, 0x08, 1, c->revision);
	put(f->reset, 0x09, 3, c->class_code);
	put(f->reset, 0x0e, 1, c->header_type);
	put(f->reset, 0x2c, 2, c->subsystem_vendor_id);
	put(f->reset, 0x2e, 2, c->subsystem_id);
	put(f->reset, 0x3d, 1, c->interrupt_pin);
	for (unsigned i = 0; i < c->n_config; i++) {
		const Mobo__V1__PciConfig *cfg = c->config[i];

		if (cfg->len == 0 || cfg->len > 4 || cfg->offset > 256 - cfg->len) {
			return mobo_error_set(err, EINVAL, "%s: bad configuration bytes at 0x%x",
					      d->name, cfg->offset);
		}
		put(f->reset, cfg->offset, cfg->len, cfg->reset);
		put(f->mask, cfg->offset, cfg->len, cfg->write_mask);
		for (unsigned k = 0; k < cfg->len; k++) {
			f->notify[cfg->offset + k] = cfg->notify;
		}
	}
	return 0;
}

static int take_claims(struct device *d, const Mobo__V1__Attach *claims, struct mobo_error *err)
{
	int r = 0;

	if (claims->n_regions > MOBO_IOCH_REGIONS || claims->n_lines > MOBO_IOCH_LINES ||
	    claims->n_functions > BOARD_FUNCTIONS) {
		return mobo_error_set(err, EINVAL, "%s claims too much", d->name);
	}
	d->regions = calloc(MOBO_MAX(claims->n_regions, 1u), sizeof(*d->regions));
	if (!d->regions) {
		return mobo_error_set(err, ENOMEM, "no memory for %s", d->name);
	}
	for (unsigned i = 0; i < claims->n_regions && r == 0; i++) {
		r = take_region(d, i, claims->regions[i], err);
		d->n_regions = i + 1;
	}
	for (unsigned i = 0; i < claims->n_lines && r == 0; i++) {
		r = take_line(d, claims->lines[i], err);
	}
	for (unsigned i = 0; i < claims->n_functions && r == 0; i++) {
		r = take_function(d, claims->functions[i], err);
	}
	return r;
}

/* Fixed ranges of one priority must not overlap: nobody could say who answers. */
static int check_conflicts(struct board *b, const struct device *d, struct mobo_error *err)
{
	for (unsigned i = 0; i < BOARD_DEVICES; i++) {
		const struct device *o = b->device[i];

		for (unsigned k = 0; o && k < o->n_regions * d->n_regions; k++) {
			const struct region *x = &d->regions[k / o->n_regions];
			const struct region *y = &o->regions[k % o->n_regions];

			if (x->kind <= MOBO_REGION_MMIO && x->kind == y->kind && !x->disabled &&
			    !y->disabled && x->priority == y->priority && !x->overlay &&
			    !y->overlay && x->base < y->base + y->len &&
			    y->base < x->base + x->len) {
				return mobo_error_set(err, EEXIST,
						      "%s claims %s at 0x%llx, which %s has as %s",
						      d->name, x->name, (unsigned long long)x->base,
						      o->name, y->name);
			}
		}
	}
	return 0;
}

static void device_free(struct device *d)
{
	if (d->io.ch) {
		munmap(d->io.ch, sizeof(*d->io.ch));
	}
	if (d->mem) {
		munmap(d->mem, d->mem_len);
	}
	if (d->io.bell_fd >= 0) {
		close(d->io.bell_fd);
	}
	free(d->mem_code);
	free(d->regions);
	free(d);
}

static int map_memory(struct device *d, int ioch_fd, int mem_fd, struct mobo_error *err)
{
	size_t size;

	d->io.ch = mobo_memfd_map(ioch_fd, sizeof(*d->io.ch), true, &size);
	if (!d->io.ch || mobo_ioch_check(d->io.ch, size) < 0) {
		return mobo_error_set(err, EPROTO, "%s: not an I/O channel", d->name);
	}
	if (mem_fd < 0) {
		return 0;
	}
	d->mem = mobo_memfd_map(mem_fd, 1, true, &d->mem_len);
	d->mem_code = calloc(d->mem_len / 4096 / 64 + 1, sizeof(*d->mem_code));
	if (!d->mem || !d->mem_code) {
		return mobo_error_set(err, EPROTO, "%s: its memory cannot be mapped", d->name);
	}
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0) {
		close(fd);
	}
}

static int attach(struct board *b, unsigned slot, struct device *d, const Mobo__V1__Attach *claims,
		  int ioch_fd, int mem_fd, struct mobo_error *err)
{
	int r;

	if (slot >= BOARD_DEVICES || b->device[slot]) {
		return mobo_error_set(err, EEXIST, "slot %u of %s is taken", slot, d->name);
	}
	r = map_memory(d, ioch_fd, mem_fd, err);
	r = r < 0 ? r : take_claims(d, claims, err);
	r = r < 0 ? r : check_conflicts(b, d, err);
	r = r < 0 ? r : pci_attach(b, d, err);
	if (r < 0) {
		return r;
	}
	board_irq_lock(b);
	for (unsigned i = 0; i < d->n_lines; i++) {
		b->n_a20 += d->lines[i].kind == MOBO_LINE_A20;
	}
	board_irq_unlock(b);
	atomic_store(&b->device[slot], d);
	board_map_update(b, NULL);
	board_collect_device(b, d, NULL);
	return 0;
}

int board_attach(struct board *b, unsigned slot, const char *name, const Mobo__V1__Attach *claims,
		 int ioch_fd, int bell_fd, int mem_fd, struct mobo_error *err)
{
	struct device *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		close_fd(ioch_fd);
		close_fd(bell_fd);
		close_fd(mem_fd);
		return mobo_error_set(err, ENOMEM, "no memory for %s", name);
	}
	strncpy(d->name, name, sizeof(d->name) - 1);
	d->board = b;
	d->slot = slot;
	d->io.bell_fd = bell_fd;
	d->io.n_cpus = b->host_cpus;
	d->io.page = b->page;
	d->io.give_up = cpu_give_up;
	d->io.give_up_arg = b;
	r = attach(b, slot, d, claims, ioch_fd, mem_fd, err);
	close_fd(ioch_fd);
	close_fd(mem_fd);
	if (r < 0) {
		device_free(d);
	}
	return r;
}

int board_detach(struct board *b, unsigned slot)
{
	struct device *d = slot < BOARD_DEVICES ? atomic_exchange(&b->device[slot], NULL) : NULL;

	if (!d) {
		return -ENOENT;
	}
	pci_detach(b, d);
	board_map_update(b, NULL);
	board_release_lines(b, d);
	atomic_store(&d->io.ch->dev.state, MOBO_PEER_GONE); /* ends waits for it */
	d->next = b->gone;
	b->gone = d;
	return 0;
}

void board_finish_devices(struct board *b)
{
	while (b->gone) {
		struct device *d = b->gone;

		b->gone = d->next;
		device_free(d);
	}
}
