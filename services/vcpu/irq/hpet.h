/* SPDX-License-Identifier: Apache-2.0 */
/*
 * High precision event timers: IA-PC HPET specification 1.0a. Three timers, all periodic and
 * 64-bit capable, 100 MHz.
 *
 * Plain object; whoever owns it serialises the calls.
 */
#ifndef VCPU_IRQ_HPET_H
#define VCPU_IRQ_HPET_H

#include <stdbool.h>
#include <stdint.h>

#include "mobo/device.h"

#define HPET_BASE 0xfed00000u
enum { HPET_LEN = 0x400, HPET_TIMERS = 3, HPET_TICK_NS = 10 };

struct hpet_timer {
	uint64_t config; /* writable bits only */
	uint64_t comparator, period;
	uint64_t due_ns; /* UINT64_MAX: not armed */
};

struct hpet_state {
	uint64_t config, status;
	uint64_t counter; /* main counter at since_ns, or as halted */
	uint64_t since_ns;
	struct hpet_timer timer[HPET_TIMERS];
};

struct hpet {
	struct hpet_state s;
	/* isa: IRQ n of the legacy replacement routing, else I/O APIC input n. */
	void (*line)(void *arg, bool isa, unsigned n, bool level);
	void (*pulse)(void *arg, bool isa, unsigned n);
	/* Timers 0 and 1 take IRQ 0 and 8 from the 8254 and the RTC, or give them back. */
	void (*legacy)(void *arg, bool on);
	void *arg;
};

extern const struct mobo_field hpet_fields[];
extern const unsigned hpet_n_fields;

void hpet_reset(struct hpet *h, uint64_t now_ns);
/* Aligned accesses of 4 or 8 bytes. */
uint64_t hpet_read(struct hpet *h, uint32_t offset, unsigned size, uint64_t now_ns);
void hpet_write(struct hpet *h, uint32_t offset, unsigned size, uint64_t val, uint64_t now_ns);
uint64_t hpet_deadline(const struct hpet *h);
void hpet_expire(struct hpet *h, uint64_t now_ns);

#endif
