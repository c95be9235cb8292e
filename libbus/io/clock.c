/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's virtual clock: CLOCK_MONOTONIC plus an offset while it runs, a constant while it is
 * frozen. A sequence lock with one writer, mobo-machine. While the sequence is odd the writer reads
 * CLOCK_MONOTONIC, so the frozen time is not before any time that a reader got earlier.
 */
#include "mobo/base.h"
#include "mobo/io.h"

/* A writer that was killed half-way must not hang its readers. */
enum { MAX_TRIES = 10000 };

struct clock_copy {
	bool running;
	int64_t offset_ns;
	uint64_t frozen_ns;
	uint64_t mono_ns;
};

static struct clock_copy clock_read(const struct mobo_machine_page *page, bool want_mono)
{
	struct clock_copy c;
	uint32_t seq;

	for (unsigned i = 0; i < MAX_TRIES; i++) {
		seq = atomic_load_explicit(&page->clock.seq, memory_order_acquire);
		c.running = *(const volatile uint32_t *)&page->clock.running != 0;
		c.offset_ns = *(const volatile int64_t *)&page->clock.offset_ns;
		c.frozen_ns = *(const volatile uint64_t *)&page->clock.frozen_ns;
		c.mono_ns = want_mono && c.running ? mobo_monotonic_ns() : 0;
		atomic_thread_fence(memory_order_acquire);
		if (!(seq & 1) &&
		    seq == atomic_load_explicit(&page->clock.seq, memory_order_relaxed)) {
			break;
		}
		__builtin_ia32_pause();
	}
	return c;
}

uint64_t mobo_clock_now_ns(const struct mobo_machine_page *page)
{
	struct clock_copy c = clock_read(page, true);

	return c.running ? c.mono_ns + (uint64_t)c.offset_ns : c.frozen_ns;
}

bool mobo_clock_running(const struct mobo_machine_page *page)
{
	return clock_read(page, false).running;
}

uint64_t mobo_clock_to_monotonic_ns(const struct mobo_machine_page *page, uint64_t virtual_ns)
{
	struct clock_copy c = clock_read(page, false);

	if (!c.running || virtual_ns == UINT64_MAX) {
		return UINT64_MAX;
	}
	return virtual_ns - (uint64_t)c.offset_ns;
}

static void write_begin(struct mobo_machine_page *page)
{
	uint32_t seq = atomic_load_explicit(&page->clock.seq, memory_order_relaxed);

	atomic_store_explicit(&page->clock.seq, seq | 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

static void write_end(struct mobo_machine_page *page)
{
	uint32_t seq = atomic_load_explicit(&page->clock.seq, memory_order_relaxed);

	atomic_store_explicit(&page->clock.seq, seq + 1, memory_order_release);
}

void mobo_clock_start(struct mobo_machine_page *page)
{
	if (page->clock.running) {
		return;
	}
	write_begin(page);
	page->clock.offset_ns = (int64_t)(page->clock.frozen_ns - mobo_monotonic_ns());
	page->clock.running = 1;
	write_end(page);
}

void mobo_clock_stop(struct mobo_machine_page *page)
{
	if (!page->clock.running) {
		return;
	}
	write_begin(page);
	page->clock.frozen_ns = mobo_monotonic_ns() + (uint64_t)page->clock.offset_ns;
	page->clock.running = 0;
	write_end(page);
}
