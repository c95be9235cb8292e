/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC: acceptance, priorities, acknowledge. Intel SDM volume 3, 10.6.2 (destinations), 10.8
 * (handling), 10.5 (local sources). Not modelled: SMI, the performance and thermal sources (their
 * LVT entries are storage), focus processor checking.
 */
#include "irq/lapic_internal.h"

#include <string.h>

static uint64_t base(const struct lapic *l)
{
	return atomic_load_explicit(&l->s.apic_base, memory_order_relaxed);
}

bool lapic_hw_enabled(const struct lapic *l)
{
	return base(l) & APIC_BASE_EN;
}

bool lapic_x2apic(const struct lapic *l)
{
	return (base(l) & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

bool lapic_sw_enabled(const struct lapic *l)
{
	return lapic_hw_enabled(l) &&
	       atomic_load_explicit(&l->s.svr, memory_order_relaxed) & SVR_ENABLE;
}

static int highest(const _Atomic uint32_t *set)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t bits = atomic_load_explicit(&set[i], memory_order_relaxed);

		if (bits) {
			return i * 32 + 31 - __builtin_clz(bits);
		}
	}
	return -1;
}

static int highest_isr(const struct lapic *l)
{
	for (int i = 7; i >= 0; i--) {
		if (l->s.isr[i]) {
			return i * 32 + 31 - __builtin_clz(l->s.isr[i]);
		}
	}
	return -1;
}

/* PPR, SDM vol. 3, 10.8.3.1. */
unsigned lapic_priority(const struct lapic *l)
{
	unsigned tpr = atomic_load_explicit(&l->s.tpr, memory_order_relaxed);
	int isr = highest_isr(l);
	unsigned in_service = isr < 0 ? 0 : (unsigned)isr & 0xf0;

	return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

int lapic_pending(const struct lapic *l)
{
	int vector = highest(l->s.irr);

	if (vector < 0 || !lapic_hw_enabled(l)) {
		return -1;
	}
	return (unsigned)vector >> 4 > lapic_priority(l) >> 4 ? vector : -1;
}

int lapic_ack(struct lapic *l)
{
	int vector = lapic_pending(l);

	if (vector < 0) {
		return -1;
	}
	atomic_fetch_and(&l->s.irr[vector / 32], ~(1u << (vector & 31)));
	l->s.isr[vector / 32] |= 1u << (vector & 31);
	return vector;
}

void lapic_update(struct lapic *l)
{
	if (lapic_pending(l) >= 0) {
		l->ops->signal(l, LAPIC_SIGNAL_IRQ, 0);
	}
}

/* Logical destinations, SDM vol. 3, 10.6.2.2 and 10.12.10.2. */
static bool matches_logical(const struct lapic *l, const struct apic_msg *m)
{
	uint32_t ldr = atomic_load_explicit(&l->s.ldr, memory_order_relaxed);
	uint32_t dfr = atomic_load_explicit(&l->s.dfr, memory_order_relaxed);

	if (lapic_x2apic(l)) {
		uint32_t dest = m->dest;

		if (!m->wide) { /* an 8-bit MDA reaches cluster 0 */
			return l->s.id < 8 && dest >> l->s.id & 1;
		}
		return dest >> 16 == ldr >> 16 && dest & ldr & 0xffff;
	}
	if (m->wide && m->dest > 0xff) {
		return false;
	}
	ldr >>= 24;
	if (dfr >> 28 == 0xf) {
		return ldr & m->dest & 0xff;
	}
	return dfr >> 28 == 0 && ldr >> 4 == (m->dest >> 4 & 0xf) && ldr & m->dest & 0xf;
}

bool lapic_matches(const struct lapic *l, const struct apic_msg *m)
{
	bool all = m->wide ? m->dest == UINT32_MAX || (!lapic_x2apic(l) && m->dest == 0xff)
			   : (m->dest & 0xff) == 0xff;

	if (!lapic_hw_enabled(l)) {
		return false;
	}
	if (all) {
		return true;
	}
	return m->logical ? matches_logical(l, m) : m->dest == l->s.id;
}

void lapic_error(struct lapic *l, uint32_t esr_bits)
{
	uint32_t old = atomic_fetch_or(&l->s.esr_pending, esr_bits);

	/* An entry with a bad vector of its own must not recurse. */
	if (!(old & esr_bits)) {
		lapic_local(l, LVT_ERROR);
	}
}

static int accept_vector(struct lapic *l, uint8_t vector, bool level)
{
	_Atomic uint32_t *tmr = &l->s.tmr[vector / 32];
	uint32_t bit = 1u << (vector & 31), old;

	if (vector < 16) {
		lapic_error(l, ESR_RECEIVE_ILLEGAL);
		return -1;
	}
	if (level) {
		atomic_fetch_or(tmr, bit);
	} else if (atomic_load_explicit(tmr, memory_order_relaxed) & bit) {
		atomic_fetch_and(tmr, ~bit);
	}
	old = atomic_fetch_or(&l->s.irr[vector / 32], bit);
	l->ops->signal(l, LAPIC_SIGNAL_IRQ, 0);
	return !(old & bit);
}

int lapic_accept(struct lapic *l, const struct apic_msg *m)
{
	switch (m->mode) {
	case APIC_FIXED:
	case APIC_LOWEST: return lapic_sw_enabled(l) ? accept_vector(l, m->vector, m->level) : -1;
	case APIC_NMI: l->ops->signal(l, LAPIC_SIGNAL_NMI, 0); return 1;
	case APIC_INIT: l->ops->signal(l, LAPIC_SIGNAL_INIT, 0); return 1;
	case APIC_STARTUP: l->ops->signal(l, LAPIC_SIGNAL_STARTUP, m->vector); return 1;
	case APIC_EXTINT:
		atomic_store(&l->s.extint, 1);
		l->ops->signal(l, LAPIC_SIGNAL_IRQ, 0);
		return 1;
	case APIC_SMI:
	case APIC_RESERVED: break;
	}
	return -1;
}

void lapic_local(struct lapic *l, enum lapic_lvt which)
{
	uint32_t lvt = atomic_load_explicit(&l->s.lvt[which], memory_order_relaxed);
	struct apic_msg m = {.vector = (uint8_t)lvt, .mode = APIC_FIXED};

	if (lvt & LVT_MASK || !lapic_hw_enabled(l)) {
		return;
	}
	if (which != LVT_TIMER && which != LVT_ERROR) {
		m.mode = lvt_mode(lvt);
	}
	/* LINT0 alone can be level triggered, and then has a remote IRR that EOI clears. */
	if (which == LVT_LINT0 && m.mode == APIC_FIXED && lvt & LVT_LEVEL) {
		if (lvt & LVT_REMOTE_IRR) {
			return;
		}
		atomic_fetch_or(&l->s.lvt[which], LVT_REMOTE_IRR);
		m.level = true;
	}
	lapic_accept(l, &m);
}

void lapic_lint(struct lapic *l, unsigned pin, bool level)
{
	uint32_t bit = 1u << pin;
	uint32_t old =
		level ? atomic_fetch_or(&l->s.lint, bit) : atomic_fetch_and(&l->s.lint, ~bit);

	if (!level || old & bit) {
		return;
	}
	if (!lapic_hw_enabled(l)) { /* the pins are INTR and NMI then: SDM vol. 3, 10.4.3 */
		l->ops->signal(l, pin ? LAPIC_SIGNAL_NMI : LAPIC_SIGNAL_IRQ, 0);
		return;
	}
	if (pin == 0 && lvt_mode(l->s.lvt[LVT_LINT0]) == APIC_EXTINT) {
		l->ops->signal(l, LAPIC_SIGNAL_IRQ, 0);
		return;
	}
	lapic_local(l, pin ? LVT_LINT1 : LVT_LINT0);
}

bool lapic_extint_open(const struct lapic *l)
{
	uint32_t lint0 = atomic_load_explicit(&l->s.lvt[LVT_LINT0], memory_order_relaxed);

	if (!lapic_hw_enabled(l)) {
		return base(l) & APIC_BASE_BSP;
	}
	return atomic_load_explicit(&l->s.extint, memory_order_relaxed) ||
	       (!(lint0 & LVT_MASK) && lvt_mode(lint0) == APIC_EXTINT);
}

unsigned lapic_cr8_read(const struct lapic *l)
{
	return atomic_load_explicit(&l->s.tpr, memory_order_relaxed) >> 4;
}

void lapic_cr8_write(struct lapic *l, unsigned val)
{
	atomic_store_explicit(&l->s.tpr, (val & 0xf) << 4, memory_order_relaxed);
	lapic_update(l);
}

/* Registers as SDM vol. 3, 10.4.7.1 lists them. */
static void reset_registers(struct lapic *l, uint32_t id, uint64_t apic_base, uint32_t lint)
{
	memset(&l->s, 0, sizeof(l->s));
	l->s.id = id;
	l->s.lint = lint;
	l->s.apic_base = apic_base;
	l->s.dfr = UINT32_MAX;
	l->s.svr = 0xff;
	for (unsigned i = 0; i < LAPIC_N_LVT; i++) {
		l->s.lvt[i] = LVT_MASK;
	}
	/*
	 * Firmware without APIC code relies on the virtual wire: the boot CPU's LINT0 passes the
	 * 8259 through, as if the BIOS' first act had been to set it so.
	 */
	if (apic_base & APIC_BASE_BSP) {
		l->s.lvt[LVT_LINT0] = APIC_EXTINT << LVT_MODE_SHIFT;
	}
	l->s.timer_next_ns = UINT64_MAX;
	if (lapic_x2apic(l)) {
		l->s.ldr = (id >> 4) << 16 | 1u << (id & 0xf);
	}
}

void lapic_reset(struct lapic *l, uint32_t id, bool init)
{
	uint64_t apic_base = LAPIC_BASE | APIC_BASE_EN | (id == 0 ? APIC_BASE_BSP : 0);
	uint32_t lint = atomic_load(&l->s.lint);

	reset_registers(l, init ? l->s.id : id, init ? base(l) : apic_base, lint);
	l->ops->timer_changed(l);
	if (!init) {
		l->ops->base_changed(l);
	}
}

const struct mobo_field lapic_fields[] = {
	MOBO_FIELD_ARRAY(struct lapic_state, irr),
	MOBO_FIELD_ARRAY(struct lapic_state, tmr),
	MOBO_FIELD_ARRAY(struct lapic_state, isr),
	MOBO_FIELD(struct lapic_state, esr_pending),
	MOBO_FIELD(struct lapic_state, extint),
	MOBO_FIELD(struct lapic_state, lint),
	MOBO_FIELD(struct lapic_state, apic_base),
	MOBO_FIELD(struct lapic_state, ldr),
	MOBO_FIELD(struct lapic_state, dfr),
	MOBO_FIELD(struct lapic_state, svr),
	MOBO_FIELD(struct lapic_state, tpr),
	MOBO_FIELD_ARRAY(struct lapic_state, lvt),
	MOBO_FIELD(struct lapic_state, id),
	MOBO_FIELD(struct lapic_state, esr),
	MOBO_FIELD(struct lapic_state, icr),
	MOBO_FIELD(struct lapic_state, timer_divide),
	MOBO_FIELD(struct lapic_state, timer_initial),
	MOBO_FIELD(struct lapic_state, timer_start_ns),
	MOBO_FIELD(struct lapic_state, timer_next_ns),
	MOBO_FIELD(struct lapic_state, tsc_deadline),
};
const unsigned lapic_n_fields = sizeof(lapic_fields) / sizeof(lapic_fields[0]);
