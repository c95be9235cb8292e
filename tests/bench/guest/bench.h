/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workloads: one static program that runs natively and as /init of a guest. A workload does a
 * fixed amount of work, `scale` times its unit, and returns a checksum of what it computed, so that
 * whoever runs it must have computed the same.
 */
#ifndef BENCH_GUEST_BENCH_H
#define BENCH_GUEST_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workload {
	const char *name;
	const char *class; /* integer, fp, memory, string, atomic, system, code, clock */
	uint64_t (*run)(unsigned scale);
};

/* Ends with an entry without a name. */
extern const struct workload integer_workloads[], fp_workloads[], memory_workloads[],
	system_workloads[], shell_workloads[], code_workloads[];

/* A xorshift generator: the same numbers everywhere. *state is never zero. */
static inline uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

/* FNV-1a over the bytes of v. */
static inline uint64_t mix(uint64_t h, uint64_t v)
{
	for (int i = 0; i < 8; i++, v >>= 8) {
		h = (h ^ (v & 0xff)) * 0x100000001b3ull;
	}
	return h;
}

#define MIX_START 0xcbf29ce484222325ull

/* Prints what failed and ends the program: a workload that cannot run must not look fast. */
void fail(const char *what) __attribute__((noreturn));
/* Anonymous memory, readable and writable. */
void *pages(size_t len, int prot);

#endif
