/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "futex.h"

void mobo_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns, uint32_t bits)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};

	/* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time. */
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
		deadline_ns == UINT64_MAX ? NULL : &ts, NULL, bits);
}

void mobo_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits)
{
	syscall(SYS_futex, word, FUTEX_WAKE_BITSET, n, NULL, NULL, bits);
}
