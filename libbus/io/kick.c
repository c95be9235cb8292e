/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kicks: "something for the vCPUs changed", from any process. Setting bits and testing for sleepers
 * on one side, counting oneself as a sleeper and testing the bits on the other, both sequentially
 * consistent: one of the two sees the other.
 */
#include <limits.h>

#include "futex.h"
#include "mobo/base.h"
#include "mobo/io.h"

/* Bit of a vCPU in the futex' bitset. The last ones share bit 30: they wake together. */
static uint32_t vcpu_bit(unsigned cpu)
{
	return 1u << MOBO_MIN(cpu, 30u);
}

void mobo_kick(struct mobo_machine_page *page, uint32_t summary_bits)
{
	uint32_t n = page->kick.n_cpus;

	atomic_fetch_or(&page->kick.summary, summary_bits);
	for (unsigned cpu = 0; cpu < MOBO_MIN(n, (uint32_t)MOBO_IOCH_VCPUS); cpu++) {
		atomic_store_explicit(&page->cpu[cpu].look, 1, memory_order_release);
	}
	if (atomic_load(&page->kick.halted) != 0) {
		atomic_fetch_add(&page->kick.futex, 1);
		mobo_futex_wake(&page->kick.futex, 1, MOBO_KICK_ANY);
	}
}

void mobo_kick_vcpu(struct mobo_machine_page *page, unsigned cpu)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&page->kick.halted) != 0) {
		atomic_fetch_add(&page->kick.futex, 1);
		mobo_futex_wake(&page->kick.futex, INT_MAX, vcpu_bit(cpu));
	}
}

void mobo_kick_wait(struct mobo_machine_page *page, unsigned cpu, uint64_t deadline_mono_ns,
		    bool (*ready)(void *arg), void *arg)
{
	uint32_t seen;

	atomic_fetch_add(&page->kick.halted, 1);
	seen = atomic_load(&page->kick.futex);
	if (!ready(arg)) {
		mobo_futex_wait(&page->kick.futex, seen, deadline_mono_ns,
				vcpu_bit(cpu) | MOBO_KICK_ANY);
	}
	atomic_fetch_sub(&page->kick.halted, 1);
}
