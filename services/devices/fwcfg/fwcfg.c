/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firmware configuration device: how firmware learns about the machine and gets its tables.
 *
 * Reference: "QEMU Firmware Configuration (fw_cfg) Device", docs/specs/fw_cfg of QEMU 7.2, x86
 * registers. Selector 0x510 (16 bits), data 0x511 (8 bits), DMA address 0x514 (64 bits, big
 * endian). A DMA request is done before the write that started it completes.
 *
 * Not modelled: items that the guest may write (there are none: DMA writes report an error).
 */
#include <errno.h>
#include <string.h>

#include "fwcfg.h"
#include "mobo/base.h"

enum { PORT_SELECTOR, PORT_DATA, N_PORTS };
enum { REGION_PORTS, REGION_DMA };

/* FWCfgDmaAccess.control */
enum {
	DMA_ERROR = 1 << 0,
	DMA_READ = 1 << 1,
	DMA_SKIP = 1 << 2,
	DMA_SELECT = 1 << 3,
	DMA_WRITE = 1 << 4,
};

struct dma_access { /* in guest memory, big endian */
	uint32_t control, length;
	uint64_t address;
};

static const char dma_signature[8] = "QEMU CFG";

struct fwcfg_state {
	uint16_t selector;
	uint8_t reserved[2];
	uint32_t offset;	   /* into the selected item; stays at its end */
	uint32_t dma_address_high; /* host order */
};

static const struct fwcfg_item *selected(struct mobo_dev *d)
{
	const struct fwcfg_state *s = mobo_dev_state(d);

	return fwcfg_find(mobo_dev_priv(d), s->selector);
}

static void select_item(struct mobo_dev *d, uint16_t key)
{
	struct fwcfg_state *s = mobo_dev_state(d);

	s->selector = key;
	s->offset = 0;
}

static void advance(struct mobo_dev *d, uint64_t n)
{
	struct fwcfg_state *s = mobo_dev_state(d);

	s->offset = (uint32_t)MOBO_MIN((uint64_t)s->offset + n, (uint64_t)UINT32_MAX);
}

static void read_item(struct mobo_dev *d, void *buf, size_t len)
{
	const struct fwcfg_state *s = mobo_dev_state(d);

	if (!fwcfg_item_read(selected(d), s->offset, buf, len)) {
		mobo_dev_error(
			d,
			"the file behind item %#x became shorter or unreadable; the guest was "
			"given zeros",
			s->selector);
	}
	advance(d, len);
}

/* -- DMA -- */

/* Moves `len` bytes of the selected item to guest memory. */
static bool dma_read_item(struct mobo_dev *d, uint64_t gpa, uint64_t len)
{
	while (len) {
		size_t n = len;
		uint8_t *to = mobo_dev_dma_map(d, gpa, &n, true);

		if (!to || !n) {
			return false;
		}
		read_item(d, to, n);
		mobo_dev_dma_dirty(d, gpa, n);
		gpa += n;
		len -= n;
	}
	return true;
}

static void dma_run(struct mobo_dev *d, uint64_t gpa)
{
	struct dma_access a;
	uint32_t control, length;
	uint64_t address;
	uint32_t result = 0;

	if (!mobo_dev_dma_read(d, gpa, &a, sizeof(a))) {
		mobo_dev_guest_error(d, "DMA descriptor outside of RAM");
		return;
	}
	control = __builtin_bswap32(a.control);
	length = __builtin_bswap32(a.length);
	address = __builtin_bswap64(a.address);
	if (control & DMA_SELECT) {
		select_item(d, (uint16_t)(control >> 16));
	}
	if (control & DMA_READ) {
		if (!dma_read_item(d, address, length)) {
			mobo_dev_guest_error(d, "DMA read to an address outside of RAM");
			result = DMA_ERROR;
		}
	} else if (control & DMA_WRITE) {
		mobo_dev_guest_error(d, "DMA write to a read-only item");
		result = DMA_ERROR;
	} else if (control & DMA_SKIP) {
		advance(d, length);
	}
	result = __builtin_bswap32(result);
	mobo_dev_dma_write(d, gpa + offsetof(struct dma_access, control), &result, sizeof(result));
}

/* -- Ports -- */

static uint64_t ports_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	const struct fwcfg_state *s = mobo_dev_state(d);
	uint8_t byte;

	if (offset == PORT_SELECTOR) {
		return s->selector;
	}
	read_item(d, &byte, 1);
	return byte;
}

static unsigned ports_read_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				  unsigned size, void *buf, unsigned count)
{
	if (offset != PORT_DATA || size != 1) {
		uint64_t v = ports_read(d, region, offset, size);

		memcpy(buf, &v, size);
		return 1;
	}
	read_item(d, buf, count);
	return count;
}

static void ports_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			uint64_t val)
{
	if (offset == PORT_SELECTOR && size == 2) {
		select_item(d, (uint16_t)val);
	}
}

static uint64_t dma_port_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, dma_signature + offset, size);
	return v;
}

static void dma_port_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			   uint64_t val)
{
	struct fwcfg_state *s = mobo_dev_state(d);

	if (size != 4 || offset % 4) {
		mobo_dev_guest_error(d, "DMA address written otherwise than by double words");
		return;
	}
	if (offset == 0) {
		s->dma_address_high = __builtin_bswap32((uint32_t)val);
	} else {
		uint64_t gpa =
			(uint64_t)s->dma_address_high << 32 | __builtin_bswap32((uint32_t)val);

		s->dma_address_high = 0;
		dma_run(d, gpa);
	}
}

static const struct mobo_region regions[] = {
	[REGION_PORTS] = {.name = "fwcfg",
			  .kind = MOBO_REGION_PIO,
			  .base = 0x510,
			  .len = N_PORTS,
			  .priority = 1,
			  .read = ports_read,
			  .write = ports_write,
			  .read_string = ports_read_string},
	[REGION_DMA] = {.name = "fwcfg-dma",
			.kind = MOBO_REGION_PIO,
			.base = 0x514,
			.len = 8,
			.priority = 1,
			.read = dma_port_read,
			.write = dma_port_write},
};

static const struct mobo_field fields[] = {
	MOBO_FIELD(struct fwcfg_state, selector),
	MOBO_FIELD_ARRAY(struct fwcfg_state, reserved),
	MOBO_FIELD(struct fwcfg_state, offset),
	MOBO_FIELD(struct fwcfg_state, dma_address_high),
};

static int init(struct mobo_dev *d)
{
	struct fwcfg *f = mobo_dev_priv(d);
	struct fwcfg_machine m;
	int r;

	r = fwcfg_machine_read(d, &m);
	if (!r) {
		r = fwcfg_add_machine(d, f, &m);
	}
	if (!r) {
		r = fwcfg_add_acpi(f, &m);
	}
	if (!r) {
		r = fwcfg_add_smbios(f, &m);
	}
	if (!r) {
		r = fwcfg_add_kernel(d, f, &m);
	}
	if (!r) {
		r = fwcfg_add_directory(f);
	}
	if (r) {
		mobo_dev_error(d, "cannot prepare the firmware configuration: %s", strerror(-r));
		fwcfg_items_free(f);
	}
	return r;
}

static void finish(struct mobo_dev *d)
{
	fwcfg_items_free(mobo_dev_priv(d));
}

static void reset(struct mobo_dev *d)
{
	struct fwcfg_state *s = mobo_dev_state(d);

	*s = (struct fwcfg_state){0};
}

const struct mobo_chip_class mobo_chip_fwcfg = {
	.name = "fwcfg",
	.description = "Firmware configuration (fw_cfg)",
	.state_version = 1,
	.restart = MOBO_RESTART_PAUSE,
	.state_size = sizeof(struct fwcfg_state),
	.priv_size = sizeof(struct fwcfg),
	.regions = regions,
	.n_regions = MOBO_ARRAY_LEN(regions),
	.fields = fields,
	.n_fields = MOBO_ARRAY_LEN(fields),
	.init = init,
	.finish = finish,
	.reset = reset,
};
