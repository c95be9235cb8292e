/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speed of the interpreter on compiled 64-bit code: guest instructions a second for a few kernels,
 * each checked against the same code run natively. Usage: cpu_mips [kernel]; a time column in
 * seconds of this process, and the ratio to native. `decode` decodes the C library's code into
 * traces, in order, and runs none of it: the first pass fills an empty cache, the others follow a
 * flush.
 */
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "engine.h"
#include "execute/trace.h"
#include "fake_board.h"

/* The guest's code: everything of this section, copied into its RAM as it is. */
#define GUEST                                                          \
	__attribute__((section("guest_code"), noinline, noclone, used, \
		       target("general-regs-only"), no_sanitize("address", "undefined")))

extern const uint8_t __start_guest_code[], __stop_guest_code[];

enum {
	PAGE_TABLES = 0x1000,
	CODE = 0x100000,
	STACK = 0x300000,
	DATA = 0x400000,
	DATA_SIZE = 0x800000,
	RAM = DATA + DATA_SIZE,
};

typedef uint64_t kernel_fn(uint8_t *mem, uint64_t n);

static GUEST uint64_t mix(uint8_t *mem, uint64_t n)
{
	uint64_t a = 0x9e3779b97f4a7c15, b = 1, *w = (uint64_t *)mem;
	uint32_t c = 7;

	while (n--) {
		a ^= a << 13;
		a ^= a >> 7;
		b += a ^ c;
		c = c * 1664525 + 1013904223;
		w[a & 511] += b;
		if (b & 8) {
			b ^= w[c & 511];
		}
	}
	return a + b + c;
}

static GUEST uint64_t chase(uint8_t *mem, uint64_t n)
{
	uint32_t *w = (uint32_t *)mem, at = 0;

	for (uint32_t k = 0; k < 65536; k++) {
		w[k] = (k * 40503 + 1) & 65535;
	}
	while (n--) {
		at = w[at];
	}
	return at;
}

static GUEST uint64_t fib(uint8_t *mem, uint64_t n)
{
	return n < 2 ? n : fib(mem, n - 1) + fib(mem, n - 2);
}

static GUEST uint64_t bytes(uint8_t *mem, uint64_t n)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < 4096; k++) {
		mem[k] = (uint8_t)(k * 7 | 1);
	}
	while (n--) {
		const uint8_t *p = mem;
		uint8_t *q = mem + 8192;

		for (unsigned k = 0; k < 1000; k++) {
			uint8_t c = *p++;

			*q++ = c >= 'a' && c <= 'z' ? c - 32 : c;
			sum += c;
		}
	}
	return sum;
}

static GUEST uint64_t sort(uint8_t *mem, uint64_t n)
{
	uint32_t *w = (uint32_t *)mem, x = 12345;

	for (uint64_t k = 0; k < n; k++) {
		x = x * 1103515245 + 12345;
		w[k] = x;
	}
	for (uint64_t gap = n / 2; gap; gap /= 2) {
		for (uint64_t k = gap; k < n; k++) {
			uint32_t val = w[k];
			uint64_t j = k;

			for (; j >= gap && w[j - gap] > val; j -= gap) {
				w[j] = w[j - gap];
			}
			w[j] = val;
		}
	}
	return w[n / 3];
}

static GUEST uint64_t muldiv(uint8_t *mem, uint64_t n)
{
	uint64_t a = 88172645463325252, sum = 0;

	while (n--) {
		a = a * 6364136223846793005 + 1442695040888963407;
		sum += a / ((a >> 40) | 1);
		sum ^= (uint64_t)(((unsigned __int128)a * sum) >> 64);
	}
	return sum;
}

static GUEST uint64_t copies(uint8_t *mem, uint64_t n)
{
	while (n--) {
		void *to = mem + 0x200001, *from = mem;
		uint64_t count = 65536;

		asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
	}
	return mem[0x200001];
}

/* Rewrites an instruction's immediate before every call of it. In the guest alone. */
static GUEST uint64_t rewrite(uint8_t *mem, uint64_t n)
{
	uint32_t (*fn)(void) = (uint32_t(*)(void))(void *)mem;
	uint64_t sum = 0;

	mem[0] = 0xb8;
	mem[5] = 0xc3;
	for (uint32_t k = 0; k < n; k++) {
		*(volatile uint32_t *)(mem + 1) = k;
		sum += fn();
	}
	return sum;
}

/* Data in the page of the code that runs: the store is no fast one, and changes no code. */
static GUEST uint64_t beside(uint8_t *mem, uint64_t n)
{
	uint32_t (*fn)(void) = (uint32_t(*)(void))(void *)mem;
	uint64_t sum = 0;

	*(volatile uint8_t *)mem = 0xb8; /* volatile: no constants from elsewhere */
	*(volatile uint8_t *)(mem + 1) = 7;
	*(volatile uint8_t *)(mem + 5) = 0xc3;
	for (uint32_t k = 0; k < n; k++) {
		*(volatile uint32_t *)(mem + 2048) = k;
		sum += fn();
	}
	return sum;
}

/* A loop whose first instruction begins in one page and ends in the next. */
static GUEST uint64_t crossing(uint8_t *mem, uint64_t n)
{
	volatile uint64_t *to = (volatile uint64_t *)(void *)(mem + 4088);

	to[0] = 0x0548c031f9894890; /* nop; mov %rdi, %rcx; xor %eax, %eax; add $3, %rax */
	to[1] = 0x75c9ff4800000003; /* ...; dec %rcx; jnz -11 */
	to[2] = 0xc3f5;		    /* ...; ret */
	return ((uint64_t(*)(uint64_t))(void *)(mem + 4088))(n);
}

/* mov %rdi, %rax; 3 times (add $a, %rax; xor $b, %rax; rol $7, %rax); ret. 24 bits of a count. */
static GUEST void generate(volatile uint64_t *to, uint64_t a, uint64_t b)
{
	to[0] = 0x0548f88948 | a << 40;
	to[1] = 0x4800000000354800 | (b & 0x7fffffff) << 24;
	to[2] = 0x054807c0c1 | a << 40;
	to[3] = 0x4800000000354800 | (a & 0x7fffffff) << 24;
	to[4] = 0x054807c0c1 | b << 40;
	to[5] = 0x4800000000354800 | (b & 0x7fffffff) << 24;
	to[6] = 0xc307c0c1;
}

/* Writes 2048 functions and calls each once, n times over. */
static GUEST uint64_t cold(uint8_t *mem, uint64_t n)
{
	enum { LEN = 1 << 17, FUNCTION = 64 };
	uint64_t sum = 0;

	for (uint64_t round = 0; round < n; round++) {
		for (unsigned at = 0; at < LEN; at += FUNCTION) {
			generate((uint64_t *)(mem + at), at + round, at * 1664525 + round);
		}
		for (unsigned at = 0; at < LEN; at += FUNCTION) {
			sum = ((uint64_t(*)(uint64_t))(void *)(mem + at))(sum);
		}
	}
	return sum;
}

/* Writes n functions, then calls each once. */
static GUEST uint64_t fresh(uint8_t *mem, uint64_t n)
{
	enum { FUNCTION = 64 };
	uint64_t sum = 0;

	for (uint64_t k = 0; k < n; k++) {
		generate((uint64_t *)(mem + k * FUNCTION), k, k * 1664525);
	}
	for (uint64_t k = 0; k < n; k++) {
		sum = ((uint64_t(*)(uint64_t))(void *)(mem + k * FUNCTION))(sum);
	}
	return sum;
}

static const struct kernel {
	const char *name;
	kernel_fn *fn;
	uint64_t n;
	bool native;	 /* can run natively, too */
	uint64_t result; /* when it cannot */
} kernels[] = {
	{"mix", mix, 4000000, true},
	{"chase", chase, 20000000, true},
	{"calls", fib, 30, true},
	{"bytes", bytes, 10000, true},
	{"sort", sort, 200000, true},
	{"muldiv", muldiv, 4000000, true},
	{"copies", copies, 2000, true},
	{"rewrite", rewrite, 1000000, false, 499999500000},
	{"beside", beside, 1000000, false, 7000000},
	{"crossing", crossing, 3000000, true},
	{"cold", cold, 100, true},
	{"fresh", fresh, 100000, true},
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Long mode, everything mapped onto itself by 2 MB pages, stopped before fn(DATA, n). */
static void set_up(struct vcpu *v, kernel_fn *fn, uint64_t n)
{
	uint8_t *ram = v->board->ram;
	uint64_t *pml4 = (uint64_t *)(ram + PAGE_TABLES), *pdpt = pml4 + 512, *pd = pdpt + 512;
	struct mobo_cpu_state *s = calloc(1, sizeof(*s));
	uint64_t back = CODE - 1;

	memset(ram, 0, RAM);
	pml4[0] = (PAGE_TABLES + 0x1000) | 3;
	pdpt[0] = (PAGE_TABLES + 0x2000) | 3;
	for (unsigned k = 0; k < 512; k++) {
		pd[k] = (uint64_t)k << 21 | 0x83;
	}
	memcpy(ram + CODE, __start_guest_code, (size_t)(__stop_guest_code - __start_guest_code));
	ram[back] = 0xf4; /* HLT */
	memcpy(ram + STACK - 8, &back, sizeof(back));
	fake_board_engine->get_state(v, s);
	s->sregs.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
	s->sregs.cr3 = PAGE_TABLES;
	s->sregs.cr4 = CR4_PAE;
	s->sregs.efer = EFER_LME | EFER_LMA;
	s->sregs.cs = (struct kvm_segment){.limit = UINT32_MAX,
					   .selector = 8,
					   .type = 11,
					   .present = 1,
					   .s = 1,
					   .l = 1,
					   .g = 1};
	s->sregs.ss = (struct kvm_segment){.limit = UINT32_MAX,
					   .selector = 16,
					   .type = 3,
					   .present = 1,
					   .s = 1,
					   .db = 1,
					   .g = 1};
	s->sregs.ds = s->sregs.es = s->sregs.fs = s->sregs.gs = s->sregs.ss;
	s->regs.rip = CODE + (uint64_t)((const uint8_t *)fn - __start_guest_code);
	s->regs.rsp = STACK - 8;
	s->regs.rdi = DATA;
	s->regs.rsi = n;
	s->regs.rflags = 2;
	s->mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
	if (fake_board_engine->set_state(v, s)) {
		abort();
	}
	fake_board_engine->map_changed(v);
	free(s);
}

static bool measure(struct vcpu *v, const struct kernel *k)
{
	uint8_t *mem = mmap(NULL, DATA_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t result = 0, insns;
	double native, guest;
	enum mobo_exit exit;

	if (mem == MAP_FAILED) {
		abort();
	}
	native = now();
	if (k->native) {
		result = k->fn(mem, k->n);
	} else {
		result = k->result;
	}
	native = now() - native;
	munmap(mem, DATA_SIZE);
	set_up(v, k->fn, k->n);
	insns = v->n_insns;
	guest = now();
	exit = fake_board_engine->run(v);
	guest = now() - guest;
	insns = v->n_insns - insns;
	printf("%-8s %8.1f MIPS %8.3f s", k->name, (double)insns / guest * 1e-6, guest);
	if (k->native) {
		printf(" %7.1f x native", guest / native);
	}
	printf("%s\n", exit == MOBO_EXIT_HALT && v->gpr[RAX] == result ? "" : "  WRONG RESULT");
	return exit == MOBO_EXIT_HALT && v->gpr[RAX] == result;
}

struct text {
	const uint8_t *at;
	size_t len;
};

/* dl_iterate_phdr()'s callback: the C library's code. */
static int find_text(struct dl_phdr_info *info, size_t size, void *text_)
{
	struct text *text = text_;

	if (!strstr(info->dlpi_name, "libc.so")) {
		return 0;
	}
	for (unsigned k = 0; k < info->dlpi_phnum; k++) {
		if (info->dlpi_phdr[k].p_type == PT_LOAD && info->dlpi_phdr[k].p_flags & PF_X) {
			text->at = (const uint8_t *)(info->dlpi_addr + info->dlpi_phdr[k].p_vaddr);
			text->len = info->dlpi_phdr[k].p_memsz;
			return 1;
		}
	}
	return 0;
}

static void measure_decoding(struct vcpu *v)
{
	enum { PASSES = 5 };
	struct text text = {0};

	dl_iterate_phdr(find_text, &text);
	text.len = text.len < DATA_SIZE ? text.len : DATA_SIZE;
	set_up(v, mix, 0);
	memcpy(v->board->ram + DATA, text.at, text.len);
	for (unsigned pass = 0; pass < PASSES; pass++) {
		uint64_t insns = 0;
		double time;

		trace_flush_all(v);
		v->rip = DATA;
		time = now();
		while (v->rip < DATA + text.len) {
			const struct trace *t = trace_find(v, false);

			insns += t->n;
			v->rip += t->len;
		}
		time = now() - time;
		printf("%-8s %8.1f ns an instruction, of %llu\n", "decode",
		       time * 1e9 / (double)insns, (unsigned long long)insns);
	}
}

int main(int argc, char **argv)
{
	struct board board;
	struct vcpu *v;
	bool ok = true;

	if (argc > 1 && !strcmp(argv[1], "--translator")) {
		fake_board_engine = &mobo_engine_translator;
		argc--;
		argv++;
	}
	if (fake_board_init(&board, RAM) || !(v = fake_board_add_vcpu(&board))) {
		return 2;
	}
	for (size_t n = 0; n < sizeof(kernels) / sizeof(kernels[0]); n++) {
		if (argc < 2 || !strcmp(argv[1], kernels[n].name)) {
			ok = measure(v, &kernels[n]) && ok;
		}
	}
	if (argc < 2 || !strcmp(argv[1], "decode")) {
		measure_decoding(v);
	}
	fake_board_finish(&board);
	return !ok;
}
