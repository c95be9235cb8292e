/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI power-management timer: ACPI 6.4, 4.8.3.3. Free running from virtual time 0, without
 * state; its overflow status is the power-management function's.
 */
#ifndef VCPU_IRQ_PMTIMER_H
#define VCPU_IRQ_PMTIMER_H

#include <stdint.h>

enum { PMTIMER_HZ = 3579545 };

/* 24-bit count. */
static inline uint32_t pmtimer_read(uint64_t now_ns)
{
	return (uint32_t)((unsigned __int128)now_ns * PMTIMER_HZ / 1000000000) & 0xffffff;
}

#endif
