/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the local APIC: lapic.c, lapic_regs.c, lapic_timer.c. */
#ifndef VCPU_IRQ_LAPIC_INTERNAL_H
#define VCPU_IRQ_LAPIC_INTERNAL_H

#include "irq/lapic.h"

enum {
	SVR_ENABLE = 1 << 8,
	LVT_VECTOR = 0xff,
	LVT_MODE_SHIFT = 8,
	LVT_STATUS = 1 << 12,
	LVT_POLARITY = 1 << 13,
	LVT_REMOTE_IRR = 1 << 14,
	LVT_LEVEL = 1 << 15,
	LVT_MASK = 1 << 16,
	LVT_TIMER_PERIODIC = 1 << 17,
	LVT_TIMER_DEADLINE = 1 << 18,
	LVT_TIMER_MODE = 3 << 17,
	ESR_SEND_ILLEGAL = 1 << 5,
	ESR_RECEIVE_ILLEGAL = 1 << 6,
	ESR_REGISTER = 1 << 7,
};

static inline enum apic_mode lvt_mode(uint32_t lvt)
{
	return (enum apic_mode)(lvt >> LVT_MODE_SHIFT & 7);
}

/* Fires a local source through its LVT entry. */
void lapic_local(struct lapic *l, enum lapic_lvt which);
void lapic_error(struct lapic *l, uint32_t esr_bits);
/* Tells the vCPU if something is deliverable. */
void lapic_update(struct lapic *l);

uint32_t lapic_timer_count(const struct lapic *l);
void lapic_timer_set_initial(struct lapic *l, uint32_t val);
void lapic_timer_set_divide(struct lapic *l, uint32_t val);
void lapic_timer_set_lvt(struct lapic *l, uint32_t val);
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc);

#endif
