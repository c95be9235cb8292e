/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI configuration space, mechanism #1, one bus: PCI Local Bus Specification 3.0, 3.2.2.3.2 and
 * chapter 6. The engine keeps each function's 256 bytes with their write masks; a device is told of
 * writes to bytes that it asked for. Interrupt routing as on i440FX/PIIX3 (82371SB, 2.2.8).
 */
#include <errno.h>
#include <string.h>

#include "exits/board_internal.h"

enum {
	CFG_COMMAND = 0x04,
	CFG_STATUS = 0x06,
	CFG_HEADER_TYPE = 0x0e,
	CFG_BAR = 0x10,
	CFG_CAP_POINTER = 0x34,
	CFG_ROM = 0x30,
	CFG_INTERRUPT_LINE = 0x3c,
	CFG_INTERRUPT_PIN = 0x3d,
	COMMAND_IO = 1 << 0,
	COMMAND_MEMORY = 1 << 1,
	COMMAND_MASTER = 1 << 2,
	COMMAND_NO_INTX = 1 << 10,
	COMMAND_WRITABLE = 0x0547, /* I/O, memory, master, parity, SERR, INTx disable */
	STATUS_INTX = 1 << 3,
	STATUS_CAPABILITIES = 1 << 4,
	STATUS_W1C_HIGH = 0xf9,
	ROM_ENABLE = 1 << 0,
	CAP_MSI = 0x05,
	MSI_ENABLE = 1 << 0,
	MSI_64BIT = 1 << 7,
	FIRST_FREE_DEVICE = 3,
	PIRQ_DISABLED = 0x80,
	/* PIIX4 power management (82371AB, 7.1 and 7.2) */
	PIIX4_PM = 0x71138086,
	PIIX4_PMBASE = 0x40,
	PIIX4_PMREGMISC = 0x80,
	PIIX4_SMBBASE = 0x90,
	PIIX4_SMBHSTCFG = 0xd2,
};

static uint16_t get16(const struct pci_function *f, unsigned offset)
{
	return (uint16_t)(f->cfg[offset] | f->cfg[offset + 1] << 8);
}

static uint32_t get32(const struct pci_function *f, unsigned offset)
{
	return get16(f, offset) | (uint32_t)get16(f, offset + 2) << 16;
}

static void put(uint8_t *bytes, unsigned offset, unsigned len, uint32_t val)
{
	for (unsigned i = 0; i < len; i++) {
		bytes[offset + i] = (uint8_t)(val >> i * 8);
	}
}

/* -- Interrupts -- */

/* INTx of all functions of a device are swizzled onto four wires by device number. */
static unsigned pirq_of(const struct pci_function *f)
{
	return (f->device + (unsigned)f->reset[CFG_INTERRUPT_PIN] + 2) & 3;
}

static void show_intx(struct board *b, struct pci_function *f)
{
	bool shown = f->intx && !(get16(f, CFG_COMMAND) & COMMAND_NO_INTX);
	unsigned pirq = pirq_of(f);

	if (f->intx) {
		f->cfg[CFG_STATUS] |= STATUS_INTX;
	} else {
		f->cfg[CFG_STATUS] &= (uint8_t)~STATUS_INTX;
	}
	if (shown == f->intx_shown || f->reset[CFG_INTERRUPT_PIN] == 0) {
		return;
	}
	f->intx_shown = shown;
	b->pirq_count[pirq] += shown ? 1 : UINT32_MAX;
	if (b->pirq_route[pirq] < 16) {
		board_isa_update(b, b->pirq_route[pirq]);
	}
}

void pci_set_intx(struct board *b, struct pci_function *f, bool level)
{
	f->intx += level ? 1 : UINT32_MAX;
	show_intx(b, f);
}

/* PIRQRC registers: bit 7 disables, bits 3:0 are the ISA IRQ. */
static void route_pirqs(struct board *b, const struct pci_function *f)
{
	for (unsigned i = 0; i < 4; i++) {
		uint8_t reg = f->cfg[f->pirq_offset + i], old = b->pirq_route[i];
		uint8_t route = reg & PIRQ_DISABLED ? PIRQ_DISABLED : reg & 0xf;

		if (route == old) {
			continue;
		}
		b->pirq_route[i] = route;
		if (old < 16) {
			board_isa_update(b, old);
		}
		if (route < 16) {
			board_isa_update(b, route);
		}
	}
}

static unsigned find_capability(const struct pci_function *f, uint8_t id)
{
	unsigned at = f->cfg[CFG_CAP_POINTER] & 0xfc;

	if (!(f->cfg[CFG_STATUS] & STATUS_CAPABILITIES)) {
		return 0;
	}
	for (unsigned i = 0; i < 48 && at >= 0x40; i++) {
		if (f->cfg[at] == id) {
			return at;
		}
		at = f->cfg[at + 1] & 0xfc;
	}
	return 0;
}

void pci_msi(struct board *b, struct device *d, unsigned vector)
{
	for (unsigned n = 0; n < d->n_functions; n++) {
		struct pci_function *f = &d->fn[n];
		unsigned cap = find_capability(f, CAP_MSI), wide, log2;
		uint64_t gpa;
		uint32_t data;
		struct apic_msg m;

		if (!cap || cap > 0xf0) {
			continue;
		}
		wide = f->cfg[cap + 2] & MSI_64BIT ? 4 : 0;
		log2 = MOBO_MIN(f->cfg[cap + 2] >> 4 & 7, 5);
		if (!(f->cfg[cap + 2] & MSI_ENABLE) || !(get16(f, CFG_COMMAND) & COMMAND_MASTER)) {
			return;
		}
		gpa = get32(f, cap + 4) | (wide ? (uint64_t)get32(f, cap + 8) << 32 : 0);
		data = get16(f, cap + 8 + wide);
		data = (data & ~((1u << log2) - 1)) | (vector & ((1u << log2) - 1));
		if (gpa >> 20 == LAPIC_BASE >> 20) {
			m = apic_msi_decode(gpa, data);
			apic_bus_deliver(&b->apics, &m);
		}
		return;
	}
}

/* -- Base addresses -- */

static bool place(struct region *r, uint64_t base, bool on, uint64_t size, uint64_t limit)
{
	bool decoded = on && !r->disabled && base != 0 && base < limit && limit - base > size;
	bool moved = decoded != r->decoded || (decoded && base != r->base);

	r->decoded = decoded;
	if (decoded) {
		r->base = base;
	}
	return moved;
}

static bool place_bar(struct pci_function *f, unsigned i)
{
	uint16_t command = get16(f, CFG_COMMAND);
	struct region *r = f->bar[i];
	uint64_t size = f->bar_len[i];
	uint32_t val = get32(f, i == 6 ? CFG_ROM : CFG_BAR + i * 4);

	if (r->kind == MOBO_REGION_BAR_IO) {
		return place(r, val & ~(size - 1), command & COMMAND_IO, size, 65537);
	}
	return place(r, val & ~(size - 1), command & COMMAND_MEMORY && (i != 6 || val & ROM_ENABLE),
		     size, 1ull << 32);
}

/* A base register outside the BARs, 16 bits, as PIIX4's power management has. */
static bool place_special(struct pci_function *f, struct region *r)
{
	uint64_t size = 1;
	bool on = true;

	while (size < r->len) {
		size *= 2;
	}
	if (get32(f, 0) == PIIX4_PM && r->bar == PIIX4_PMBASE) {
		on = f->cfg[PIIX4_PMREGMISC] & 1;
	} else if (get32(f, 0) == PIIX4_PM && r->bar == PIIX4_SMBBASE) {
		on = f->cfg[PIIX4_SMBHSTCFG] & 1;
	}
	return place(r, get16(f, r->bar) & ~(size - 1), on, size, 65537);
}

/* The PM timer lies in the power-management block, in front of the chip's own registers. */
static bool place_pmtimer(struct board *b, struct pci_function *f)
{
	return place(b->pmtimer, (get16(f, PIIX4_PMBASE) & 0xffc0u) + 8u,
		     f->cfg[PIIX4_PMREGMISC] & 1 && get16(f, PIIX4_PMBASE) & 0xffc0, 4, 65537);
}

static bool place_function(struct board *b, struct pci_function *f)
{
	bool moved = false;

	for (unsigned k = 0; k < PCI_BARS; k++) {
		moved |= f->bar[k] && place_bar(f, k);
	}
	for (unsigned k = 0; k < f->dev->n_regions; k++) {
		struct region *r = &f->dev->regions[k];

		if (r->kind == MOBO_REGION_BAR_IO && r->bar >= 0x40 && r->fn == f->n) {
			moved |= place_special(f, r);
		}
	}
	if (get32(f, 0) == PIIX4_PM) {
		moved |= place_pmtimer(b, f);
	}
	return moved;
}

bool pci_place_regions(struct board *b)
{
	bool moved = false;

	pthread_mutex_lock(&b->pci_lock);
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		moved |= b->function[i] && place_function(b, b->function[i]);
	}
	pthread_mutex_unlock(&b->pci_lock);
	return moved;
}

static void grant_bus_master(struct pci_function *f)
{
	_Atomic uint32_t *word = &f->dev->io.ch->bus_master;

	if (get16(f, CFG_COMMAND) & COMMAND_MASTER) {
		atomic_fetch_or(word, 1u << f->n);
	} else {
		atomic_fetch_and(word, ~(1u << f->n));
	}
}

/* -- Accesses -- */

static struct pci_function *addressed(struct board *b, unsigned *offset)
{
	uint32_t address = atomic_load_explicit(&b->pci_address, memory_order_relaxed);

	*offset = address & 0xfc;
	if (!(address & 1u << 31) || address >> 16 & 0xff) {
		return NULL;
	}
	return b->function[address >> 8 & 0xff];
}

uint32_t pci_io_read(struct vcpu *v, uint16_t port, unsigned size)
{
	struct board *b = v->board;
	struct pci_function *f;
	unsigned offset;
	uint32_t val = 0;

	if (port == 0xcf8) {
		return atomic_load_explicit(&b->pci_address, memory_order_relaxed);
	}
	pthread_mutex_lock(&b->pci_lock);
	f = addressed(b, &offset);
	for (unsigned i = 0; i < size; i++) {
		val |= (f ? (uint32_t)f->cfg[offset + (port & 3) + i] : 0xff) << i * 8;
	}
	pthread_mutex_unlock(&b->pci_lock);
	return val;
}

struct written {
	struct device *dev; /* to be told, or NULL */
	unsigned fn, offset, len;
	uint64_t val;
	bool decode; /* something that places regions */
};

static bool overlaps(unsigned offset, unsigned len, unsigned at, unsigned at_len)
{
	return offset < at + at_len && at < offset + len;
}

static bool places(const struct pci_function *f, unsigned offset, unsigned len)
{
	if (overlaps(offset, len, CFG_COMMAND, 2) || overlaps(offset, len, CFG_BAR, 24) ||
	    overlaps(offset, len, CFG_ROM, 4) ||
	    (get32(f, 0) == PIIX4_PM &&
	     (overlaps(offset, len, PIIX4_PMBASE, 4) || overlaps(offset, len, PIIX4_PMREGMISC, 1) ||
	      overlaps(offset, len, PIIX4_SMBBASE, 4) ||
	      overlaps(offset, len, PIIX4_SMBHSTCFG, 1)))) {
		return true;
	}
	for (unsigned k = 0; k < f->dev->n_regions; k++) {
		const struct region *r = &f->dev->regions[k];

		if (r->kind == MOBO_REGION_BAR_IO && r->bar >= 0x40 && r->fn == f->n &&
		    overlaps(offset, len, r->bar, 2)) {
			return true;
		}
	}
	return false;
}

/* Under pci_lock. */
static struct written store(struct board *b, struct pci_function *f, unsigned offset, unsigned len,
			    uint32_t val)
{
	struct written w = {.fn = f->n,
			    .offset = offset,
			    .len = len,
			    .decode = places(f, offset, len)};

	for (unsigned i = 0; i < len; i++) {
		unsigned at = offset + i;
		uint8_t byte = (uint8_t)(val >> i * 8);

		f->cfg[at] = (uint8_t)((f->cfg[at] & ~f->mask[at]) | (byte & f->mask[at]));
		f->cfg[at] &= (uint8_t) ~(byte & f->w1c[at]);
		w.val |= (uint64_t)f->cfg[at] << i * 8;
		w.dev = f->notify[at] ? f->dev : w.dev;
	}
	if (overlaps(offset, len, CFG_COMMAND, 2)) {
		grant_bus_master(f);
		board_irq_lock(b);
		show_intx(b, f);
		board_irq_unlock(b);
	}
	if (f->pirq_offset && overlaps(offset, len, f->pirq_offset, 4)) {
		board_irq_lock(b);
		route_pirqs(b, f);
		board_irq_unlock(b);
	}
	return w;
}

void pci_io_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
	struct board *b = v->board;
	struct written w = {0};
	struct pci_function *f;
	unsigned offset;
	bool map_changed;

	if (port == 0xcf8) {
		atomic_store_explicit(&b->pci_address, val & 0x80fffffc, memory_order_relaxed);
		return;
	}
	pthread_mutex_lock(&b->pci_lock);
	f = addressed(b, &offset);
	if (f) {
		w = store(b, f, offset + (port & 3), size, val);
	}
	pthread_mutex_unlock(&b->pci_lock);
	if (w.decode) {
		bool moved;

		board_lock_sync(v, &b->map_lock);
		moved = pci_place_regions(b);
		pthread_mutex_unlock(&b->map_lock);
		if (moved) {
			board_map_update(b, v);
		}
	}
	if (w.dev) {
		cpu_wait_begin(cpu_of(v));
		mobo_io_sync(&w.dev->io, v->index, MOBO_IO_PCI_CONFIG, w.fn, w.offset, w.len,
			     &w.val, &map_changed);
		cpu_enter(cpu_of(v));
		device_settle(v, w.dev, map_changed);
	}
}

/* -- Functions -- */

static bool is_bar(const struct region *r)
{
	return (r->kind == MOBO_REGION_BAR_IO || r->kind == MOBO_REGION_BAR_MEM ||
		r->kind == MOBO_REGION_BAR_PREFETCH) &&
	       r->bar < 6;
}

static void set_bar(struct pci_function *f, unsigned i, struct region *r)
{
	uint64_t size = r->kind == MOBO_REGION_BAR_IO ? 4 : i == 6 ? 2048 : 16;
	uint32_t type = r->kind == MOBO_REGION_BAR_IO	      ? 1
			: r->kind == MOBO_REGION_BAR_PREFETCH ? 8
							      : 0;
	unsigned at = i == 6 ? CFG_ROM : CFG_BAR + i * 4;

	while (size < r->len) {
		size *= 2;
	}
	f->bar[i] = r;
	f->bar_len[i] = size;
	put(f->reset, at, 4, type);
	put(f->mask, at, 4, (uint32_t) ~(size - 1) | (i == 6 ? ROM_ENABLE : 0));
}

static int set_bars(struct device *d, struct pci_function *f, struct mobo_error *err)
{
	for (unsigned k = 0; k < d->n_regions; k++) {
		struct region *r = &d->regions[k];
		unsigned i = r->kind == MOBO_REGION_ROM_BAR ? 6 : r->bar;

		if (r->fn != f->n || r->kind == MOBO_REGION_PIO || r->kind == MOBO_REGION_MMIO) {
			continue;
		}
		if (r->kind == MOBO_REGION_BAR_IO && r->bar >= 0x40 && r->bar <= 0xfc) {
			if (!f->mask[r->bar] && !f->mask[r->bar + 1]) {
				put(f->mask, r->bar, 2, 0xffff & ~(uint32_t)(r->len - 1));
			}
			continue;
		}
		if ((i != 6 && !is_bar(r)) || f->bar[i]) {
			return mobo_error_set(err, EINVAL, "%s: region %s has a bad or used BAR",
					      d->name, r->name);
		}
		set_bar(f, i, r);
	}
	return 0;
}

/* Bytes that every function has, over what the chip said. */
static void set_standard(struct pci_function *f)
{
	put(f->mask, CFG_COMMAND, 2, COMMAND_WRITABLE);
	f->w1c[CFG_STATUS + 1] = STATUS_W1C_HIGH;
	f->mask[CFG_STATUS + 1] &= (uint8_t)~STATUS_W1C_HIGH;
	f->mask[CFG_INTERRUPT_LINE] = 0xff;
}

/* Devices with several functions say so in function 0's header type. */
static void mark_multifunction(struct board *b, unsigned device)
{
	struct pci_function *first = b->function[device << 3];
	bool multi = false;

	for (unsigned fn = 1; fn < 8; fn++) {
		multi |= b->function[device << 3 | fn] != NULL;
	}
	if (first && multi) {
		first->cfg[CFG_HEADER_TYPE] |= 0x80;
		first->reset[CFG_HEADER_TYPE] |= 0x80;
	}
}

static int choose_device(struct board *b)
{
	for (unsigned device = FIRST_FREE_DEVICE; device < 32; device++) {
		bool used = false;

		for (unsigned fn = 0; fn < 8; fn++) {
			used |= b->function[device << 3 | fn] != NULL;
		}
		if (!used) {
			return (int)device;
		}
	}
	return -1;
}

static void reset_function(struct board *b, struct pci_function *f)
{
	memcpy(f->cfg, f->reset, sizeof(f->cfg));
	grant_bus_master(f);
	board_irq_lock(b);
	show_intx(b, f);
	if (f->pirq_offset) {
		route_pirqs(b, f);
	}
	board_irq_unlock(b);
}

int pci_attach(struct board *b, struct device *d, struct mobo_error *err)
{
	int any = -1;

	for (unsigned n = 0; n < d->n_functions; n++) {
		struct pci_function *f = &d->fn[n];

		if (f->device == MOBO_PCI_ANY) {
			any = any >= 0 ? any : choose_device(b);
			if (any < 0) {
				return mobo_error_set(err, ENOSPC, "no free PCI slot for %s",
						      d->name);
			}
			f->device = (uint8_t)any;
		}
		if (f->device > 31 || f->function > 7 || f->pirq_offset > 0xfc) {
			return mobo_error_set(err, EINVAL, "%s: bad PCI function", d->name);
		}
		if (b->function[f->device << 3 | f->function]) {
			return mobo_error_set(err, EEXIST,
					      "PCI %02x.%x, wanted by %s, is taken by %s",
					      f->device, f->function, d->name,
					      b->function[f->device << 3 | f->function]->dev->name);
		}
		set_standard(f);
		if (set_bars(d, f, err) < 0) {
			return -EINVAL;
		}
	}
	pthread_mutex_lock(&b->pci_lock);
	for (unsigned n = 0; n < d->n_functions; n++) {
		struct pci_function *f = &d->fn[n];

		b->function[f->device << 3 | f->function] = f;
		mark_multifunction(b, f->device);
		reset_function(b, f);
	}
	pthread_mutex_unlock(&b->pci_lock);
	return 0;
}

void pci_detach(struct board *b, struct device *d)
{
	pthread_mutex_lock(&b->pci_lock);
	for (unsigned n = 0; n < d->n_functions; n++) {
		unsigned devfn = (unsigned)d->fn[n].device << 3 | d->fn[n].function;

		if (b->function[devfn] == &d->fn[n]) {
			b->function[devfn] = NULL;
		}
	}
	pthread_mutex_unlock(&b->pci_lock);
}

void pci_reset(struct board *b)
{
	pthread_mutex_lock(&b->pci_lock);
	atomic_store(&b->pci_address, 0);
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		if (b->function[i]) {
			reset_function(b, b->function[i]);
		}
	}
	pthread_mutex_unlock(&b->pci_lock);
}
