/* SPDX-License-Identifier: Apache-2.0 */
/* Code that changes: what a translator has to throw away, and an interpreter to decode again. */
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

enum { FUNCTION = 64 }; /* bytes from one generated function to the next */

typedef uint64_t (*generated)(uint64_t);

/* mov rax, rdi; n times (add rax, imm32; xor rax, imm32; rol rax, 7); ret: 3 + n * 16 + 1 bytes. */
static void generate(uint8_t *at, uint32_t seed, unsigned n)
{
	static const uint8_t start[] = {0x48, 0x89, 0xf8};

	memcpy(at, start, sizeof(start));
	at += sizeof(start);
	while (n--) {
		static const uint8_t step[] = {0x48, 0x05, 0, 0, 0,    0,    0x48, 0x35,
					       0,    0,	   0, 0, 0x48, 0xc1, 0xc0, 7};
		uint32_t a = seed >> 1, b = (seed = seed * 1664525 + 1013904223) >> 1;

		memcpy(at, step, sizeof(step));
		memcpy(at + 2, &a, 4);
		memcpy(at + 8, &b, 4);
		at += sizeof(step);
	}
	*at = 0xc3;
}

/* One immediate is patched, then the function is called. */
static uint64_t smc(unsigned scale)
{
	uint8_t *code = pages(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	uint64_t sum = 0;

	generate(code, 1, 3);
	for (uint32_t i = 0; i < scale * 3000; i++) {
		memcpy(code + 5, &i, 4);
		__asm__ volatile("" ::: "memory");
		sum = ((generated)(void *)code)(sum);
	}
	munmap(code, 4096);
	return sum;
}

/* The same megabyte of code written anew and run once. */
static uint64_t coldcode(unsigned scale)
{
	enum { LEN = 1 << 17 };
	uint8_t *code = pages(LEN, PROT_READ | PROT_WRITE | PROT_EXEC);
	uint64_t sum = 0;

	for (unsigned round = 0; round < scale; round++) {
		for (unsigned at = 0; at < LEN; at += FUNCTION) {
			generate(code + at, at + round, 3);
		}
		__asm__ volatile("" ::: "memory");
		for (unsigned at = 0; at < LEN; at += FUNCTION) {
			sum = ((generated)(void *)(code + at))(sum);
		}
	}
	munmap(code, LEN);
	return sum;
}

/* Fresh code, run once. */
static uint64_t fresh(unsigned scale)
{
	size_t len = scale * 40960ull;
	uint8_t *code = pages(len, PROT_READ | PROT_WRITE | PROT_EXEC);
	uint64_t sum = 0;

	for (size_t at = 0; at < len; at += FUNCTION) {
		generate(code + at, (uint32_t)at, 3);
	}
	__asm__ volatile("" ::: "memory");
	for (size_t at = 0; at < len; at += FUNCTION) {
		sum = ((generated)(void *)(code + at))(sum);
	}
	munmap(code, len);
	return sum;
}

const struct workload code_workloads[] = {
	{"smc", "code", smc},
	{"coldcode", "code", coldcode},
	{"trans", "code", fresh},
	{0},
};
