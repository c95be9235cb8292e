/* SPDX-License-Identifier: Apache-2.0 */
/* I/O APIC: Intel 82093AA (290566). Not modelled: the APIC bus' arbitration, SMI. */
#include "irq/ioapic.h"

#include <string.h>

enum {
	IOREGSEL = 0x00,
	IOWIN = 0x10,
	EOI = 0x40,
	REG_ID = 0,
	REG_VERSION = 1,
	REG_ARB = 2,
	REG_RTE = 0x10,
	VERSION = 0x20 | (IOAPIC_PINS - 1) << 16,
	RTE_MODE_SHIFT = 8,
	RTE_LOGICAL = 1 << 11,
	RTE_STATUS = 1 << 12,
	RTE_REMOTE_IRR = 1 << 14,
	RTE_LEVEL = 1 << 15,
	RTE_MASK = 1 << 16,
	RTE_DEST_SHIFT = 56,
};
#define RTE_WRITABLE 0xff0000000001afffull

static enum apic_mode rte_mode(uint64_t rte)
{
	return (enum apic_mode)(rte >> RTE_MODE_SHIFT & 7);
}

/* Only fixed and lowest-priority interrupts can be level triggered. */
static bool rte_level(uint64_t rte)
{
	return rte & RTE_LEVEL && rte_mode(rte) <= APIC_LOWEST;
}

static int deliver(struct ioapic *io, unsigned pin)
{
	uint64_t rte = io->s.rte[pin];
	struct apic_msg m = {
		.dest = (uint32_t)(rte >> RTE_DEST_SHIFT),
		.vector = (uint8_t)rte,
		.mode = rte_mode(rte),
		.logical = rte & RTE_LOGICAL,
		.level = rte_level(rte),
	};
	int rc = io->deliver(io->arg, &m);

	if (m.level && rc >= 0) {
		io->s.rte[pin] |= RTE_REMOTE_IRR;
	}
	return rc;
}

static void service_level(struct ioapic *io, unsigned pin)
{
	uint64_t rte = io->s.rte[pin];

	if (io->s.lines >> pin & 1 && rte_level(rte) && !(rte & (RTE_MASK | RTE_REMOTE_IRR))) {
		deliver(io, pin);
	}
}

int ioapic_pulse_irq(struct ioapic *io, unsigned pin)
{
	if (pin >= IOAPIC_PINS || io->s.rte[pin] & RTE_MASK || rte_level(io->s.rte[pin])) {
		return -1; /* edges on a masked pin are not held: 82093AA, 3.2.4 */
	}
	return deliver(io, pin);
}

int ioapic_set_irq(struct ioapic *io, unsigned pin, bool level)
{
	uint32_t bit;

	if (pin >= IOAPIC_PINS) {
		return -1;
	}
	bit = 1u << pin;
	if (!!(io->s.lines & bit) == level) {
		return -1;
	}
	io->s.lines ^= bit;
	if (!level) {
		return -1;
	}
	if (rte_level(io->s.rte[pin])) {
		service_level(io, pin);
		return -1;
	}
	return ioapic_pulse_irq(io, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *rte = &io->s.rte[pin];

		if ((uint8_t)*rte == vector && *rte & RTE_REMOTE_IRR) {
			*rte &= ~(uint64_t)RTE_REMOTE_IRR;
			service_level(io, pin);
		}
	}
}

static uint32_t read_register(const struct ioapic *io)
{
	unsigned i = io->s.select - REG_RTE;

	switch (io->s.select) {
	case REG_ID:
	case REG_ARB: return (uint32_t)io->s.id << 24;
	case REG_VERSION: return VERSION;
	}
	if (io->s.select < REG_RTE || i / 2 >= IOAPIC_PINS) {
		return 0;
	}
	return (uint32_t)(io->s.rte[i / 2] >> (i & 1 ? 32 : 0));
}

static void write_rte(struct ioapic *io, unsigned pin, bool high, uint32_t val)
{
	uint64_t *rte = &io->s.rte[pin];
	uint64_t mask = high ? RTE_WRITABLE & 0xffffffff00000000ull : RTE_WRITABLE & 0xffffffff;

	*rte = (*rte & ~mask) | ((uint64_t)val << (high ? 32 : 0) & mask);
	if (!rte_level(*rte)) {
		*rte &= ~(uint64_t)RTE_REMOTE_IRR;
	}
	service_level(io, pin);
}

static void write_register(struct ioapic *io, uint32_t val)
{
	unsigned i = io->s.select - REG_RTE;

	if (io->s.select == REG_ID) {
		io->s.id = val >> 24 & 0xf;
	} else if (io->s.select >= REG_RTE && i / 2 < IOAPIC_PINS) {
		write_rte(io, i / 2, i & 1, val);
	}
}

uint32_t ioapic_read(struct ioapic *io, uint32_t offset)
{
	switch (offset) {
	case IOREGSEL: return io->s.select;
	case IOWIN: return read_register(io);
	}
	return 0;
}

void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t val)
{
	switch (offset) {
	case IOREGSEL: io->s.select = (uint8_t)val; break;
	case IOWIN: write_register(io, val); break;
	case EOI: ioapic_eoi(io, (uint8_t)val); break;
	}
}

void ioapic_reset(struct ioapic *io)
{
	uint32_t lines = io->s.lines;

	memset(&io->s, 0, sizeof(io->s));
	io->s.lines = lines;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->s.rte[pin] = RTE_MASK;
	}
}

const struct mobo_field ioapic_fields[] = {
	MOBO_FIELD_ARRAY(struct ioapic_state, rte),
	MOBO_FIELD(struct ioapic_state, lines),
	MOBO_FIELD(struct ioapic_state, id),
	MOBO_FIELD(struct ioapic_state, select),
};
const unsigned ioapic_n_fields = sizeof(ioapic_fields) / sizeof(ioapic_fields[0]);
