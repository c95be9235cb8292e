/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's registers: memory-mapped (Intel SDM volume 3, table 10-1) and as MSRs (10.12,
 * table 10-6). Both number them alike: MSR 0x800 + n is offset n * 16.
 */
#include "irq/lapic_internal.h"

#include <stddef.h>

enum lapic_reg {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR_LOW = 0x30,
	REG_ICR_HIGH = 0x31,
	REG_LVT_TIMER = 0x32,
	REG_LVT_THERMAL = 0x33,
	REG_LVT_PERF = 0x34,
	REG_LVT_LINT0 = 0x35,
	REG_LVT_LINT1 = 0x36,
	REG_LVT_ERROR = 0x37,
	REG_TIMER_INITIAL = 0x38,
	REG_TIMER_CURRENT = 0x39,
	REG_TIMER_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f,
};

enum {
	VERSION = 0x14 | (LAPIC_N_LVT - 1) << 16,
	ICR_LOGICAL = 1 << 11,
	ICR_ASSERT = 1 << 14,
	ICR_LEVEL = 1 << 15,
	ICR_WRITABLE = 0xccfff,
	SVR_WRITABLE = 0x3ff,
};

/* Writable bits of the LVT entries, figure 10-8. */
static const uint32_t lvt_writable[LAPIC_N_LVT] = {
	[LVT_TIMER] = LVT_VECTOR | LVT_MASK | LVT_TIMER_MODE,
	[LVT_THERMAL] = LVT_VECTOR | LVT_MASK | 7 << LVT_MODE_SHIFT,
	[LVT_PERF] = LVT_VECTOR | LVT_MASK | 7 << LVT_MODE_SHIFT,
	[LVT_LINT0] = LVT_VECTOR | LVT_MASK | 7 << LVT_MODE_SHIFT | LVT_POLARITY | LVT_LEVEL,
	[LVT_LINT1] = LVT_VECTOR | LVT_MASK | 7 << LVT_MODE_SHIFT | LVT_POLARITY | LVT_LEVEL,
	[LVT_ERROR] = LVT_VECTOR | LVT_MASK,
};

static uint32_t read_lvt(struct lapic *l, enum lapic_lvt which)
{
	return atomic_load_explicit(&l->s.lvt[which], memory_order_relaxed);
}

/* False: no such register. */
static bool read_register(struct lapic *l, unsigned reg, uint32_t *val)
{
	if (reg >= REG_ISR && reg < REG_ESR) {
		unsigned i = reg & 7;

		*val = reg < REG_TMR ? l->s.isr[i] : reg < REG_IRR ? l->s.tmr[i] : l->s.irr[i];
		return true;
	}
	switch ((enum lapic_reg)reg) {
	case REG_ID: *val = lapic_x2apic(l) ? l->s.id : l->s.id << 24; return true;
	case REG_VERSION: *val = VERSION; return true;
	case REG_TPR: *val = l->s.tpr; return true;
	case REG_APR:
	case REG_PPR: *val = lapic_priority(l); return true;
	case REG_RRD:
	case REG_EOI: *val = 0; return true;
	case REG_LDR: *val = l->s.ldr; return true;
	case REG_DFR: *val = l->s.dfr; return true;
	case REG_SVR: *val = l->s.svr; return true;
	case REG_ESR: *val = l->s.esr; return true;
	case REG_ICR_LOW: *val = (uint32_t)l->s.icr; return true;
	case REG_ICR_HIGH: *val = (uint32_t)(l->s.icr >> 32); return true;
	case REG_LVT_TIMER:
	case REG_LVT_THERMAL:
	case REG_LVT_PERF:
	case REG_LVT_LINT0:
	case REG_LVT_LINT1:
	case REG_LVT_ERROR: *val = read_lvt(l, (enum lapic_lvt)(reg - REG_LVT_TIMER)); return true;
	case REG_TIMER_INITIAL: *val = l->s.timer_initial; return true;
	case REG_TIMER_CURRENT: *val = lapic_timer_count(l); return true;
	case REG_TIMER_DIVIDE: *val = l->s.timer_divide; return true;
	case REG_SELF_IPI: *val = 0; return true;
	case REG_ISR:
	case REG_TMR:
	case REG_IRR: break;
	}
	return false;
}

static void write_eoi(struct lapic *l)
{
	for (int i = 7; i >= 0; i--) {
		if (l->s.isr[i]) {
			unsigned bit = 31 - (unsigned)__builtin_clz(l->s.isr[i]);
			uint8_t vector = (uint8_t)(i * 32 + (int)bit);
			uint32_t lint0 = read_lvt(l, LVT_LINT0);

			l->s.isr[i] &= ~(1u << bit);
			if (atomic_load(&l->s.tmr[i]) & 1u << bit) {
				if (lint0 & LVT_REMOTE_IRR && (uint8_t)lint0 == vector) {
					atomic_fetch_and(&l->s.lvt[LVT_LINT0], ~LVT_REMOTE_IRR);
					if (atomic_load(&l->s.lint) & 1) {
						lapic_local(l, LVT_LINT0);
					}
				}
				l->ops->eoi(l, vector);
			}
			break;
		}
	}
	lapic_update(l);
}

static void write_lvt(struct lapic *l, enum lapic_lvt which, uint32_t val)
{
	uint32_t old = read_lvt(l, which);

	val &= lvt_writable[which];
	if (!(l->s.svr & SVR_ENABLE)) {
		val |= LVT_MASK; /* stays set while disabled by software, 10.4.7.2 */
	}
	if (which == LVT_TIMER) {
		lapic_timer_set_lvt(l, val);
		return;
	}
	if (val & LVT_LEVEL) {
		val |= old & LVT_REMOTE_IRR;
	}
	atomic_store(&l->s.lvt[which], val);
	/* A level that waits at the pin comes in when the entry opens. */
	if (which == LVT_LINT0 && atomic_load(&l->s.lint) & 1 && !(val & LVT_MASK)) {
		if (lvt_mode(val) == APIC_EXTINT) {
			l->ops->signal(l, LAPIC_SIGNAL_IRQ, 0);
		} else if (lvt_mode(val) == APIC_FIXED && val & LVT_LEVEL) {
			lapic_local(l, LVT_LINT0);
		}
	}
}

static void write_svr(struct lapic *l, uint32_t val)
{
	atomic_store(&l->s.svr, val & SVR_WRITABLE);
	if (!(val & SVR_ENABLE)) {
		for (unsigned i = 0; i < LAPIC_N_LVT; i++) {
			atomic_fetch_or(&l->s.lvt[i], LVT_MASK);
		}
	}
}

/* Issue the ICR: 10.6.1, and table 10-3 for what is valid. */
static void send_ipi(struct lapic *l)
{
	uint32_t low = (uint32_t)l->s.icr;
	bool wide = lapic_x2apic(l);
	struct apic_msg m = {
		.dest = wide ? (uint32_t)(l->s.icr >> 32) : (uint32_t)(l->s.icr >> 56),
		.vector = (uint8_t)low,
		.mode = (enum apic_mode)(low >> 8 & 7),
		.logical = low & ICR_LOGICAL,
		.wide = wide,
	};
	enum lapic_to to = (enum lapic_to)(low >> 18 & 3);

	if (m.mode == APIC_INIT && low & ICR_LEVEL && !(low & ICR_ASSERT)) {
		return; /* INIT level de-assert: only arbitration ids, none since the Pentium 4 */
	}
	if (m.mode <= APIC_LOWEST && m.vector < 16) {
		lapic_error(l, ESR_SEND_ILLEGAL);
		return;
	}
	if (m.mode == APIC_EXTINT || m.mode == APIC_RESERVED || m.mode == APIC_SMI) {
		return;
	}
	if (to == LAPIC_TO_SELF && m.mode != APIC_FIXED) {
		return;
	}
	l->ops->send(l, &m, to);
}

static void write_esr(struct lapic *l)
{
	l->s.esr = atomic_exchange(&l->s.esr_pending, 0);
}

static void send_self(struct lapic *l, uint8_t vector)
{
	struct apic_msg m = {.vector = vector, .mode = APIC_FIXED};

	if (vector < 16) {
		lapic_error(l, ESR_SEND_ILLEGAL);
	} else {
		lapic_accept(l, &m);
	}
}

/* False: no such writable register. */
static bool write_register(struct lapic *l, unsigned reg, uint32_t val)
{
	switch ((enum lapic_reg)reg) {
	case REG_TPR:
		atomic_store_explicit(&l->s.tpr, val & 0xff, memory_order_relaxed);
		lapic_update(l);
		return true;
	case REG_EOI: write_eoi(l); return true;
	case REG_LDR: atomic_store(&l->s.ldr, val & 0xff000000); return true;
	case REG_DFR: atomic_store(&l->s.dfr, val | 0x0fffffff); return true;
	case REG_SVR: write_svr(l, val); return true;
	case REG_ESR: write_esr(l); return true;
	case REG_ICR_LOW:
		l->s.icr = (l->s.icr & ~(uint64_t)UINT32_MAX) | (val & ICR_WRITABLE);
		send_ipi(l);
		return true;
	case REG_ICR_HIGH:
		l->s.icr = (uint32_t)l->s.icr | (uint64_t)(val & 0xff000000) << 32;
		return true;
	case REG_LVT_TIMER:
	case REG_LVT_THERMAL:
	case REG_LVT_PERF:
	case REG_LVT_LINT0:
	case REG_LVT_LINT1:
	case REG_LVT_ERROR: write_lvt(l, (enum lapic_lvt)(reg - REG_LVT_TIMER), val); return true;
	case REG_TIMER_INITIAL: lapic_timer_set_initial(l, val); return true;
	case REG_TIMER_DIVIDE: lapic_timer_set_divide(l, val); return true;
	case REG_SELF_IPI: send_self(l, (uint8_t)val); return true;
	case REG_ID: /* read-only since the x2APIC */
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_ISR:
	case REG_TMR:
	case REG_IRR:
	case REG_TIMER_CURRENT: break;
	}
	return false;
}

uint32_t lapic_mmio_read(struct lapic *l, uint32_t offset)
{
	uint32_t val = 0;

	if (offset & 0xf || offset >= 0x400 || offset >> 4 == REG_SELF_IPI ||
	    !read_register(l, offset >> 4, &val)) {
		lapic_error(l, ESR_REGISTER);
	}
	return val;
}

void lapic_mmio_write(struct lapic *l, uint32_t offset, uint32_t val)
{
	if (offset & 0xf || offset >= 0x400 || offset >> 4 == REG_SELF_IPI ||
	    (!write_register(l, offset >> 4, val) && offset >> 4 != REG_ID)) {
		lapic_error(l, ESR_REGISTER);
	}
}

/* Bits that a WRMSR may set: table 10-6 and 10.12.1.2; 0: not writable. */
static uint64_t x2apic_writable(unsigned reg)
{
	if (reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR) {
		/* The read-only status bits may be written with anything. */
		return lvt_writable[reg - REG_LVT_TIMER] | LVT_STATUS | LVT_REMOTE_IRR;
	}
	switch (reg) {
	case REG_TPR:
	case REG_SELF_IPI: return 0xff;
	case REG_SVR: return SVR_WRITABLE;
	case REG_ICR_LOW: return 0xffffffff00000000ull | ICR_WRITABLE | 1 << 12;
	case REG_TIMER_INITIAL: return UINT32_MAX;
	case REG_TIMER_DIVIDE: return 0xb;
	}
	return 0;
}

static bool x2apic_read(struct lapic *l, unsigned reg, uint64_t *val)
{
	uint32_t low;

	if (!lapic_x2apic(l) || reg == REG_EOI || reg == REG_DFR || reg == REG_ICR_HIGH ||
	    reg == REG_SELF_IPI || reg == REG_APR || reg == REG_RRD || reg > REG_SELF_IPI ||
	    !read_register(l, reg, &low)) {
		return false;
	}
	*val = reg == REG_ICR_LOW ? l->s.icr : low;
	return true;
}

static bool x2apic_write(struct lapic *l, unsigned reg, uint64_t val)
{
	if (!lapic_x2apic(l)) {
		return false;
	}
	if (reg == REG_EOI || reg == REG_ESR) {
		return val == 0 && write_register(l, reg, 0);
	}
	if (!x2apic_writable(reg) || val & ~x2apic_writable(reg)) {
		return false;
	}
	if (reg == REG_ICR_LOW) {
		l->s.icr = val & ~(uint64_t)(1 << 12);
		send_ipi(l);
		return true;
	}
	return write_register(l, reg, (uint32_t)val);
}

/* Transitions of figure 10-27: from x2APIC only to disabled, to x2APIC only from xAPIC. */
static bool write_base(struct lapic *l, uint64_t val)
{
	uint64_t old = l->s.apic_base;
	uint64_t was = old & (APIC_BASE_EN | APIC_BASE_EXTD);
	uint64_t is = val & (APIC_BASE_EN | APIC_BASE_EXTD);

	if (val >> LAPIC_PHYS_BITS || val & 0x2ff) {
		return false;
	}
	if (is == APIC_BASE_EXTD || (was == 0 && is == (APIC_BASE_EN | APIC_BASE_EXTD)) ||
	    (was == (APIC_BASE_EN | APIC_BASE_EXTD) && is == APIC_BASE_EN)) {
		return false;
	}
	val = (val & ~(uint64_t)APIC_BASE_BSP) | (old & APIC_BASE_BSP);
	if (was && !is) { /* loses its state: 10.4.3 */
		lapic_reset(l, l->s.id, true);
	}
	atomic_store(&l->s.apic_base, val);
	if (was != is && is & APIC_BASE_EXTD) {
		atomic_store(&l->s.ldr, (l->s.id >> 4) << 16 | 1u << (l->s.id & 0xf));
	}
	if (val != old) {
		l->ops->base_changed(l);
	}
	return true;
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *val)
{
	if (msr == MSR_APIC_BASE) {
		*val = l->s.apic_base;
		return true;
	}
	if (msr == MSR_TSC_DEADLINE) {
		*val = l->s.tsc_deadline;
		return true;
	}
	if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST) {
		return x2apic_read(l, msr - MSR_X2APIC_FIRST, val);
	}
	return false;
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t val)
{
	if (msr == MSR_APIC_BASE) {
		return write_base(l, val);
	}
	if (msr == MSR_TSC_DEADLINE) {
		lapic_timer_set_deadline(l, val);
		return true;
	}
	if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST) {
		return x2apic_write(l, msr - MSR_X2APIC_FIRST, val);
	}
	return false;
}
