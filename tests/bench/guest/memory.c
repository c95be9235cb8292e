/* SPDX-License-Identifier: Apache-2.0 */
/* Memory workloads: pointer chases, string instructions, locked instructions. */
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

/* One cycle through all lines of `len` bytes in a random order, `steps` long. */
static uint64_t chase(size_t len, uint64_t steps)
{
	size_t n = len / 64;
	uint32_t *order = malloc(n * sizeof(*order));
	struct line {
		struct line *next;
		uint64_t id, rest[6];
	} *lines = pages(len, PROT_READ | PROT_WRITE), *at;
	uint64_t seed = 3, sum = 0;

	if (!order) {
		fail("chase: memory");
	}
	for (size_t i = 0; i < n; i++) {
		order[i] = (uint32_t)i;
	}
	for (size_t i = n - 1; i; i--) {
		size_t j = next_random(&seed) % (i + 1);
		uint32_t t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (size_t i = 0; i < n; i++) {
		lines[order[i]] = (struct line){.next = &lines[order[(i + 1) % n]], .id = i};
	}
	for (at = lines; steps--; at = at->next) {
		sum += at->id;
	}
	munmap(lines, len);
	free(order);
	return sum;
}

static uint64_t chase16k(unsigned scale)
{
	return chase(16 * 1024, scale * 200000ull);
}

static uint64_t chase32m(unsigned scale)
{
	return chase(32 * 1024 * 1024, scale * 20000ull);
}

static uint64_t strrep(unsigned scale)
{
	enum { LEN = 1 << 18 };
	uint8_t *a = pages(LEN, PROT_READ | PROT_WRITE), *b = pages(LEN, PROT_READ | PROT_WRITE);
	uint64_t sum = 0;

	for (unsigned round = 0; round < scale * 4; round++) {
		void *d = a;
		const void *s = a;
		size_t n = LEN / 8;

		__asm__ volatile("rep stosq"
				 : "+D"(d), "+c"(n)
				 : "a"(0x0101010101010101ull * (round % 200 + 1))
				 : "memory");
		a[LEN - 1 - round % 1000] = 0;
		d = b;
		n = LEN;
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		d = b;
		n = LEN;
		__asm__ volatile("repne scasb" : "+D"(d), "+c"(n) : "a"(0) : "memory", "cc");
		sum = sum * 31 + n;
	}
	munmap(a, LEN);
	munmap(b, LEN);
	return sum;
}

static uint64_t atomic(unsigned scale)
{
	static uint64_t v[8];
	uint64_t sum = 0;

	for (unsigned i = 0; i < scale * 25000; i++) {
		uint64_t old = v[i & 7];

		sum += __atomic_fetch_add(&v[i & 7], i, __ATOMIC_SEQ_CST);
		__atomic_compare_exchange_n(&v[(i + 1) & 7], &old, sum, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		sum ^= __atomic_exchange_n(&v[(i + 2) & 7], sum, __ATOMIC_SEQ_CST);
	}
	return sum;
}

const struct workload memory_workloads[] = {
	{"chase16k", "memory", chase16k},
	{"chase32m", "memory", chase32m},
	{"strrep", "string", strrep},
	{"atomic", "atomic", atomic},
	{0},
};
