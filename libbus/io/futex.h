/* SPDX-License-Identifier: Apache-2.0 */
/* Futexes in memory shared between processes (never the PRIVATE ones). */
#ifndef LIBBUS_IO_FUTEX_H
#define LIBBUS_IO_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word == expected, until a wake whose bits meet `bits` or the CLOCK_MONOTONIC time
 * (UINT64_MAX: for ever). May return early: re-check. */
void mobo_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns,
		     uint32_t bits);
/* Wakes at most n sleepers whose bits meet `bits`. */
void mobo_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits);

#endif
