/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O APIC: Intel 82093AA data sheet (290566), with the EOI register of version 0x20 parts
 * (ICH10 data sheet, 13.5.1).
 *
 * Plain object; whoever owns it serialises the calls. Inputs are logical: asserted or not, so the
 * polarity bit of a redirection entry is storage.
 */
#ifndef VCPU_IRQ_IOAPIC_H
#define VCPU_IRQ_IOAPIC_H

#include "irq/apic.h"
#include "mobo/device.h"

enum { IOAPIC_PINS = 24, IOAPIC_LEN = 0x100 };
#define IOAPIC_BASE 0xfec00000u

struct ioapic_state {
	uint64_t rte[IOAPIC_PINS];
	uint32_t lines; /* asserted inputs */
	uint8_t id, select;
};

struct ioapic {
	struct ioapic_state s;
	/* As apic_bus_deliver(). */
	int (*deliver)(void *arg, const struct apic_msg *m);
	void *arg;
};

extern const struct mobo_field ioapic_fields[];
extern const unsigned ioapic_n_fields;

void ioapic_reset(struct ioapic *io);
/* 1: delivered, 0: coalesced with one still pending, -1: masked or no rising edge. */
int ioapic_set_irq(struct ioapic *io, unsigned pin, bool level);
int ioapic_pulse_irq(struct ioapic *io, unsigned pin);
/* A local APIC ended a level-triggered interrupt. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);

/* Offsets in the page; registers are 32 bits wide. */
uint32_t ioapic_read(struct ioapic *io, uint32_t offset);
void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t val);

#endif
