/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt messages: what local APICs, the I/O APIC and MSIs say to each other. Intel SDM volume 3
 * chapter 10 (10.6 issuing, 10.11 MSI).
 */
#ifndef VCPU_IRQ_APIC_H
#define VCPU_IRQ_APIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum apic_mode {
	APIC_FIXED = 0,
	APIC_LOWEST = 1,
	APIC_SMI = 2,
	APIC_RESERVED = 3,
	APIC_NMI = 4,
	APIC_INIT = 5,
	APIC_STARTUP = 6,
	APIC_EXTINT = 7,
};

struct apic_msg {
	uint32_t dest; /* APIC id, or logical destination; ~0 or (8-bit) 0xff is everybody */
	uint8_t vector;
	enum apic_mode mode;
	bool logical;
	bool level; /* level triggered: the EOI goes back to the I/O APICs */
	bool wide;  /* dest is a 32-bit x2APIC destination */
};

enum { APIC_MAX_CPUS = 32 };

struct lapic;

/* The local APICs of a machine. */
struct apic_bus {
	struct lapic *cpu[APIC_MAX_CPUS];
	unsigned n;
	_Atomic uint32_t turn; /* ties of the lowest-priority mode go round */
};

/*
 * Delivers to the addressed local APICs; any thread. Returns 1: accepted by somebody, 0: everyone
 * addressed had this vector pending already, -1: nobody takes it.
 */
int apic_bus_deliver(struct apic_bus *bus, const struct apic_msg *m);

/* A memory write to 0xfeexxxxx: SDM vol. 3, 10.11.1 and 10.11.2. */
struct apic_msg apic_msi_decode(uint64_t gpa, uint32_t data);

#endif
