/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC, xAPIC and x2APIC: Intel SDM volume 3 chapter 10.
 *
 * Registers are touched by the owning vCPU's thread alone. lapic_accept(), lapic_lint() and
 * lapic_matches() may be called by any thread: they read words that the owner writes whole, and set
 * bits in atomic ones.
 */
#ifndef VCPU_IRQ_LAPIC_H
#define VCPU_IRQ_LAPIC_H

#include <stdatomic.h>

#include "irq/apic.h"
#include "mobo/device.h"

#define LAPIC_BASE 0xfee00000u
enum { LAPIC_LEN = 0x1000 };
/* One timer count is one virtual nanosecond at divide by 1. */
#define LAPIC_TIMER_HZ 1000000000u

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LAPIC_N_LVT };

enum {
	MSR_APIC_BASE = 0x1b,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC_FIRST = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
};
enum {
	APIC_BASE_BSP = 1 << 8,
	APIC_BASE_EXTD = 1 << 10,
	APIC_BASE_EN = 1 << 11,
};
/* MAXPHYADDR limits the APIC base; as CPUID 0x80000008 reports. */
enum { LAPIC_PHYS_BITS = 40 };

struct lapic_state {
	_Atomic uint32_t irr[8], tmr[8];
	uint32_t isr[8];
	_Atomic uint32_t esr_pending; /* errors since ESR was last written */
	_Atomic uint32_t extint;      /* an ExtINT message arrived */
	_Atomic uint32_t lint;	      /* levels of LINT0 and LINT1 */
	_Atomic uint64_t apic_base;
	_Atomic uint32_t ldr, dfr, svr;
	_Atomic uint32_t tpr;
	_Atomic uint32_t lvt[LAPIC_N_LVT];
	uint32_t id, esr;
	uint64_t icr;
	uint32_t timer_divide; /* DCR */
	uint32_t timer_initial;
	uint64_t timer_start_ns; /* when the count was timer_initial */
	uint64_t timer_next_ns;	 /* expiry; UINT64_MAX: not armed */
	uint64_t tsc_deadline;	 /* 0: not armed */
};

enum lapic_signal { LAPIC_SIGNAL_IRQ, LAPIC_SIGNAL_NMI, LAPIC_SIGNAL_INIT, LAPIC_SIGNAL_STARTUP };

enum lapic_to { LAPIC_TO_DEST, LAPIC_TO_SELF, LAPIC_TO_ALL, LAPIC_TO_OTHERS };

struct lapic;
struct lapic_ops {
	uint64_t (*now_ns)(struct lapic *l);
	uint64_t (*tsc)(struct lapic *l); /* the guest's, as RDTSC shows it */
	uint64_t (*tsc_to_ns)(struct lapic *l, uint64_t ticks);
	/* Sends an interprocessor interrupt; m->dest counts for LAPIC_TO_DEST only. */
	void (*send)(struct lapic *l, const struct apic_msg *m, enum lapic_to to);
	/* A level-triggered vector was ended: tell the I/O APICs. */
	void (*eoi)(struct lapic *l, uint8_t vector);
	/* Its vCPU has something to look at. Any thread. vector: STARTUP's. */
	void (*signal)(struct lapic *l, enum lapic_signal what, uint8_t vector);
	/* timer_next_ns changed. */
	void (*timer_changed)(struct lapic *l);
	/* The base address or mode changed. */
	void (*base_changed)(struct lapic *l);
};

struct lapic {
	struct lapic_state s;
	const struct lapic_ops *ops;
	void *arg;
};

extern const struct mobo_field lapic_fields[];
extern const unsigned lapic_n_fields;

/* Power-on, or INIT, which keeps the APIC base and the id (SDM vol. 3, 10.4.7.1 and 10.4.7.3). */
void lapic_reset(struct lapic *l, uint32_t id, bool init);

bool lapic_hw_enabled(const struct lapic *l);
bool lapic_x2apic(const struct lapic *l);
/* Enabled by SVR too: takes fixed interrupts. */
bool lapic_sw_enabled(const struct lapic *l);

/* -- Any thread -- */
/* Is it addressed by m? */
bool lapic_matches(const struct lapic *l, const struct apic_msg *m);
/* As apic_bus_deliver(). */
int lapic_accept(struct lapic *l, const struct apic_msg *m);
/* Level of LINT0 (the 8259's INTR) or LINT1 (NMI). */
void lapic_lint(struct lapic *l, unsigned pin, bool level);
/* Does LINT0, or an ExtINT message, let the 8259 interrupt this CPU? */
bool lapic_extint_open(const struct lapic *l);
/* Arbitration: the processor priority that a lowest-priority interrupt compares. */
unsigned lapic_priority(const struct lapic *l);

/* -- Owner -- */
/* Vector deliverable now, TPR and ISR considered; -1: none. */
int lapic_pending(const struct lapic *l);
/* Moves it from IRR to ISR and returns it; -1: none. */
int lapic_ack(struct lapic *l);

uint32_t lapic_mmio_read(struct lapic *l, uint32_t offset);
void lapic_mmio_write(struct lapic *l, uint32_t offset, uint32_t val);
/* False: #GP. */
bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *val);
bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t val);
unsigned lapic_cr8_read(const struct lapic *l);
void lapic_cr8_write(struct lapic *l, unsigned val);

/* Next timer expiry in virtual ns; UINT64_MAX: none. */
uint64_t lapic_deadline(const struct lapic *l);
/* The guest's TSC jumped: a TSC deadline is as far away as it now says. */
void lapic_timer_tsc_moved(struct lapic *l);
/* Time has come to now_ns: fires what is due. */
void lapic_expire(struct lapic *l, uint64_t now_ns);

#endif
