/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses that share a check, where their bytes lie over a page's end: snippets run on the
 * interpreter and translated with their frames at each offset around it, the page on either side
 * of each kind, and everything must be the same afterwards. Code that stays there must not be an
 * event each time. With an argument: how long a recursion takes by where its stack begins.
 */
#include "two_rigs.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "translate/chaos.h"
#include "translate/translate.h"

/* PROGRAM(name, "text"): its bytes are name to name_end. */
#define PROGRAM(name, text)                                                                \
	asm(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n .popsection\n"); \
	extern const uint8_t name[], name##_end[]

enum {
	TABLE = 0x70000,
	CODE = 0x40800, /* linear and physical; all frames are in other parts of such pages */
	PAGES = 0x100000,
	LIN = 0x400000,
	N_PAGES = 8,
	MIDDLE = LIN + N_PAGES / 2 * 4096, /* the page's end that frames lie over */
	MMIO_GPA = 0x80000000,
	BELOW = 40,
	ABOVE = 200,
	PRESENT = 1,
	WRITABLE = 2,
	USER = 4,
};

enum kind { NORMAL, ABSENT, READ_ONLY, MMIO, WITH_CODE, N_KINDS };

/* What devices were asked, in order. */
static uint64_t asked[2];

static void ask(struct board *b, uint64_t what)
{
	uint64_t *h = b->arg;

	*h = (*h ^ what) * 0x9e3779b97f4a7c15;
	*h ^= *h >> 29;
}

static uint64_t mmio_read(struct board *b, uint64_t gpa, unsigned size)
{
	ask(b, gpa << 8 | size);
	return gpa * 0x0101010101010101;
}

static void mmio_write(struct board *b, uint64_t gpa, unsigned size, uint64_t val)
{
	ask(b, gpa << 8 | size | 0x80);
	ask(b, val);
}

/* cmocka takes signals that are the translator's. */
static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
enum { N_SIGNALS = sizeof(signals) / sizeof(signals[0]) };
static struct sigaction actions[N_SIGNALS];

static void take_signals(void)
{
	for (unsigned n = 0; n < N_SIGNALS; n++) {
		sigaction(signals[n], &actions[n], NULL);
	}
}

static int set_up(void **state)
{
	(void)state;
	if (rigs_init()) {
		return -1;
	}
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];

		fake_board_engine = r->engine;
		r->board.arg = &asked[n];
		r->board.mmio_read = mmio_read;
		r->board.mmio_write = mmio_write;
		rig_tables(r, true);
		for (unsigned vec = 0; vec < 256; vec++) { /* on a stack of their own */
			rig_poke64(r, RIG_IDT + vec * 16,
				   rig_gate(RIG_CODE64, RIG_HANDLER + vec * 16, 14, 3, 1));
		}
		rig_poke64(r, RIG_TSS + 36, RIG_STACK0);
		memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
		rig_poke64(r, RIG_PAGES + 0x2000 + LIN / 0x200000 * 8, TABLE | 7);
	}
	rigs[1].v->translator->hot = 0;
	for (unsigned n = 0; n < N_SIGNALS; n++) {
		sigaction(signals[n], NULL, &actions[n]);
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return rigs_finish();
}

/* -- one run -- */

static void map(struct rig *r, unsigned page, enum kind kind)
{
	uint64_t entry = (uint64_t)(PAGES + page * 4096) | PRESENT | WRITABLE | USER;

	switch (kind) {
	case NORMAL: break;
	case ABSENT: entry = 0; break;
	case READ_ONLY: entry &= ~(uint64_t)WRITABLE; break;
	case MMIO: entry += (uint64_t)MMIO_GPA - PAGES; break;
	case WITH_CODE: entry += (uint64_t)(CODE & ~4095) - PAGES - page * 4096ull; break;
	case N_KINDS: break;
	}
	rig_poke64(r, TABLE + page * 8, entry);
}

static void fill(struct rig *r, uint32_t gpa, unsigned len)
{
	static uint8_t bytes[N_PAGES * 4096];

	for (unsigned n = 0; !bytes[sizeof(bytes) - 1] && n < sizeof(bytes); n++) {
		bytes[n] = (uint8_t)(n * 37 + n / 256);
	}
	memcpy(r->board.ram + gpa, bytes, len);
}

static void load(const uint8_t *code, const uint8_t *end)
{
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];

		memcpy(r->board.ram + CODE, code, (size_t)(end - code));
		memcpy(r->board.ram + CODE + (end - code), "\xcd\x40", 2);
		fake_board_engine = r->engine;
		r->engine->map_changed(r->v);
		r->engine->code_written(r->v, 0, RIG_RAM);
	}
}

/* With RSP, RSI and so on near `at`; the pages of MIDDLE of those kinds. Returns the vector. */
static int run(struct rig *r, uint64_t at, unsigned cpl, enum kind below, enum kind above)
{
	struct vcpu *v = r->v;

	fake_board_engine = r->engine;
	fill(r, PAGES, N_PAGES * 4096);
	fill(r, CODE & ~4095, 512);
	fill(r, (CODE | 4095) + 1 - 512, 512);
	for (unsigned n = 0; n < N_PAGES; n++) {
		map(r, n, n == N_PAGES / 2 - 1 ? below : n == N_PAGES / 2 ? above : NORMAL);
	}
	*(uint64_t *)r->board.arg = 1;
	rig_enter(r, true, cpl);
	v->cr0 |= CR0_WP;
	v->cr4 |= CR4_OSFXSR;
	v->cr2 = 0;
	vcpu_update_mode(v);
	for (unsigned n = 0; n < 16; n++) {
		v->gpr[n] = n * 0x1234567;
	}
	v->gpr[RSP] = v->gpr[RSI] = at;
	v->gpr[RDI] = at - 24;
	v->gpr[RBX] = at - 4096;
	v->gpr[RCX] = 6;
	v->rip = CODE;
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
	if (r->engine->run(v) != MOBO_EXIT_HALT) {
		return -1;
	}
	return rig_raised(r).vector;
}

static void same(uint64_t at, const char *what, uint64_t expected, uint64_t val)
{
	if (expected != val) {
		fail_msg("at %+d: %s is %#llx, not %#llx", (int)(at - MIDDLE), what,
			 (unsigned long long)val, (unsigned long long)expected);
	}
}

static void same_bytes(uint64_t at, const char *what, uint32_t gpa, unsigned len)
{
	if (memcmp(rigs[0].board.ram + gpa, rigs[1].board.ram + gpa, len) == 0) {
		return;
	}
	for (unsigned n = 0; n < len; n++) {
		same(at, what, rigs[0].board.ram[gpa + n], rigs[1].board.ram[gpa + n]);
	}
}

static void compare(uint64_t at, unsigned cpl, enum kind below, enum kind above)
{
	const struct vcpu *v = rigs[0].v, *w = rigs[1].v;
	int vector[2];

	for (unsigned n = 0; n < 2; n++) {
		vector[n] = run(&rigs[n], at, cpl, below, above);
	}
	same(at, "the outcome", (uint64_t)vector[0], (uint64_t)vector[1]);
	for (unsigned n = 0; n < 16; n++) {
		same(at, "a register", v->gpr[n], w->gpr[n]);
	}
	same(at, "RIP", v->rip, w->rip);
	same(at, "CR2", v->cr2, w->cr2);
	same(at, "what devices saw", asked[0], asked[1]);
	if (vector[0] == 0x40) {
		same(at, "RFLAGS", v->rflags, w->rflags);
	}
	/* The interrupt frame but for flags. */
	same_bytes(at, "the frame's end", RIG_STACK0 - 16, 16);
	same_bytes(at, "the frame", RIG_STACK0 - 48, 24);
	same_bytes(at, "data", PAGES, N_PAGES * 4096);
	same_bytes(at, "data beside code", CODE & ~4095, 4096);
}

/* -- snippets: RSP = RSI, RDI is 24 below, RBX a page below -- */

PROGRAM(frame, "push %rbp\n mov %rsp, %rbp\n push %rbx\n push %r12\n sub $40, %rsp\n"
	       "mov %rdi, -56(%rbp)\n add %ecx, -52(%rbp)\n mov -24(%rbp), %rax\n"
	       "movups %xmm0, -40(%rbp)\n mov 8(%rbp), %rdx\n adc %rdx, -24(%rbp)\n setc %dl\n"
	       "movb %dl, -31(%rbp)\n add $40, %rsp\n pop %r12\n pop %rbx\n leave\n");
PROGRAM(fields,
	"mov (%rsi), %rax\n add 8(%rsi), %rax\n mov %rax, 24(%rsi)\n mov %eax, 33(%rsi)\n"
	"adc %cl, 16(%rsi)\n movzbl 47(%rsi), %edx\n mov %r14, 40(%rsi)\n xchg %r15, 64(%rsi)\n"
	"movhps 56(%rsi), %xmm1\n movups %xmm1, 80(%rsi)\n");
PROGRAM(two_groups,
	"mov (%rsi), %rax\n mov 8(%rdi), %rcx\n mov %rax, 16(%rdi)\n mov %rcx, 24(%rsi)\n"
	"push %rcx\n mov (%rdi), %eax\n push 32(%rdi)\n add %rax, 48(%rsi)\n pop 40(%rsi)\n"
	"pop %r9\n adc %r9, 4096(%rbx)\n mov %r9, 4120(%rbx)\n sbb %rdx, (%rdi)\n");
PROGRAM(flags, "cmp %rcx, %rsi\n mov (%rsi), %rax\n mov 8(%rsi), %rdx\n setc 16(%rsi)\n"
	       "adc %rax, 24(%rsi)\n jc 1f\n rcl 32(%rsi)\n 1: sbb %rdx, 24(%rsi)\n pushf\n"
	       "andq $0x8d5, (%rsp)\n pop %r8\n");
PROGRAM(walk, "1: mov (%rsi), %rax\n add 16(%rsi), %rax\n mov %rax, 8(%rsi)\n mov %rcx, 40(%rsi)\n"
	      "add $8, %rsi\n mov 8(%rdi), %rdx\n add %rdx, 24(%rdi)\n xor %rax, %rdi\n"
	      "xor %rax, %rdi\n dec %ecx\n jnz 1b\n");
/* RCX levels, each with two calls. */
PROGRAM(recursion, "call 1f\n jmp 3f\n"
		   "1: push %rbp\n mov %rsp, %rbp\n push %r12\n push %rbx\n sub $24, %rsp\n"
		   "mov %ecx, -40(%rbp)\n mov $1, %eax\n cmp $2, %ecx\n jb 2f\n"
		   "dec %ecx\n call 1b\n mov %rax, -32(%rbp)\n mov -40(%rbp), %ecx\n sub $2, %ecx\n"
		   "call 1b\n add -32(%rbp), %rax\n"
		   "2: mov -40(%rbp), %ecx\n add $24, %rsp\n pop %rbx\n pop %r12\n pop %rbp\n ret\n"
		   "3:\n");

static void compare_kind(const uint8_t *code, const uint8_t *end, unsigned cpl, enum kind below,
			 enum kind above)
{
	load(code, end);
	for (unsigned round = 0; round < 2; round++) {
		for (uint64_t at = MIDDLE - BELOW; at < MIDDLE + ABOVE; at += round ? 3 : 1) {
			compare(at, cpl, below, above);
		}
	}
}

static void compare_all(const uint8_t *code, const uint8_t *end, unsigned cpl)
{
	take_signals();
	for (enum kind kind = 0; kind < N_KINDS; kind++) {
		compare_kind(code, end, cpl, kind, NORMAL);
		compare_kind(code, end, cpl, NORMAL, kind);
	}
}

#define COMPARE_ALL(program)                            \
	do {                                            \
		compare_all(program, program##_end, 0); \
		compare_all(program, program##_end, 3); \
	} while (0)

static void frames_over_a_pages_end(void **state)
{
	(void)state;
	COMPARE_ALL(frame);
	COMPARE_ALL(fields);
}

static void several_groups_over_a_pages_end(void **state)
{
	(void)state;
	COMPARE_ALL(two_groups);
	COMPARE_ALL(flags);
}

static void loops_over_a_pages_end(void **state)
{
	(void)state;
	COMPARE_ALL(walk);
	rigs[1].v->translator->hot = 4;
	COMPARE_ALL(walk);
	rigs[1].v->translator->hot = 0;
}

static void recursion_over_a_pages_end(void **state)
{
	(void)state;
	COMPARE_ALL(recursion);
}

/* -- events, and time -- */

/* A frame at 32 places by turns, one after the other; over and over at two of them. */
PROGRAM(moving, "mov $400, %r13d\n 1: mov %r13d, %eax\n and $31, %eax\n lea (%rsi, %rax, 8), %rsp\n"
		"push %rbp\n push %rbx\n push %r12\n mov %rax, -16(%rsp)\n add %rax, -64(%rsp)\n"
		"pop %r12\n pop %rbx\n pop %rbp\n dec %r13d\n jnz 1b\n");
PROGRAM(turning, "mov $400, %r13d\n 1: mov %r13d, %eax\n and $1, %eax\n shl $5, %eax\n"
		 "lea (%rsi, %rax), %rsp\n mov %rdi, %rbx\n sub %rax, %rbx\n"
		 "push %rbp\n add %rax, 8(%rbx)\n push %rbx\n push %r12\n mov %rax, -16(%rsp)\n"
		 "mov %rax, 48(%rbx)\n add %rax, -64(%rsp)\n adc %rax, 24(%rbx)\n"
		 "pop %r12\n pop %rbx\n pop %rbp\n dec %r13d\n jnz 1b\n");

PROGRAM(many, "mov $1500, %r13d\n 0: mov $9, %ecx\n call 1f\n dec %r13d\n jnz 0b\n jmp 3f\n"
	      "1: push %rbp\n mov %rsp, %rbp\n push %r12\n push %rbx\n sub $24, %rsp\n"
	      "mov %ecx, -40(%rbp)\n mov $1, %eax\n cmp $2, %ecx\n jb 2f\n"
	      "dec %ecx\n call 1b\n mov %rax, -32(%rbp)\n mov -40(%rbp), %ecx\n sub $2, %ecx\n"
	      "call 1b\n add -32(%rbp), %rax\n"
	      "2: mov -40(%rbp), %ecx\n add $24, %rsp\n pop %rbx\n pop %r12\n pop %rbp\n ret\n"
	      "3:\n");

static uint64_t events_of(uint64_t at, unsigned cpl, enum kind below, enum kind above)
{
	uint64_t before = rigs[1].v->translator->n_events;

	run(&rigs[1], at, cpl, below, above);
	return rigs[1].v->translator->n_events - before;
}

/* Each run begins with an empty TLB. */
static void settles(const uint8_t *code, const uint8_t *end, unsigned hot)
{
	enum { ENOUGH = 6, FEW = 40 };

	take_signals();
	rigs[1].v->translator->hot = (uint16_t)hot;
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		for (uint64_t at = MIDDLE - BELOW; at < MIDDLE + ABOVE; at += 8) {
			uint64_t n = 0;

			rigs[1].v->translator->flush = true;
			load(code, end);
			for (unsigned k = 0; k < ENOUGH; k++) {
				n = events_of(at, cpl, NORMAL, NORMAL);
			}
			if (n > FEW) {
				fail_msg("at %+d: %llu events", (int)(at - MIDDLE),
					 (unsigned long long)n);
			}
		}
	}
	rigs[1].v->translator->hot = 0;
}

static void frames_that_stay_or_move_are_no_events(void **state)
{
	(void)state;
	settles(moving, moving_end, 0);
	settles(moving, moving_end, 4);
	settles(turning, turning_end, 0);
	settles(turning, turning_end, 4);
	settles(many, many_end, 0);
	COMPARE_ALL(moving);
	COMPARE_ALL(turning);
}

/* The last: it stays on. */
static void chaos_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(chaos_set(rigs[1].v, 1), 0);
	COMPARE_ALL(frame);
	COMPARE_ALL(two_groups);
	COMPARE_ALL(turning);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void warm_up(void)
{
	rigs[1].v->translator->flush = true;
	load(many, many_end);
	run(&rigs[1], MIDDLE - 1024, 3, NORMAL, NORMAL);
}

/* Milliseconds of that recursion with its stack at `at`, and within a page: the least of some. */
static void time_of(uint64_t at, unsigned cpl, double *over, double *within)
{
	*over = *within = 1e9;
	for (unsigned round = 0; round < 8; round++) {
		double *best = round % 2 ? within : over;

		rigs[1].v->translator->flush = true;
		load(many, many_end);
		for (unsigned n = 0; n < 8; n++) {
			double start = now(), t;

			run(&rigs[1], round % 2 ? MIDDLE - 1024 : at, cpl, NORMAL, NORMAL);
			t = (now() - start) * 1e3;
			*best = t < *best ? t : *best;
		}
	}
}

static int report_times(void)
{
	void *state = NULL;

	if (set_up(&state)) {
		return 1;
	}
	rigs[1].v->translator->hot = 16;
	warm_up();
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		double sum = 0, most = 0, least = 1e9;
		unsigned n = 0;

		for (uint64_t at = 8; at < 72 * 9; at += 8, n++) {
			double over, within;

			time_of(MIDDLE + at, cpl, &over, &within);
			printf(" %.2f", over / within);
			sum += over / within;
			most = over / within > most ? over / within : most;
			least = within < least ? within : least;
		}
		printf("\ncpl %u: %.2f ms within a page; over its end %.2fx, %.2fx at most\n", cpl,
		       least, sum / n, most);
	}
	tear_down(&state);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_over_a_pages_end),
		cmocka_unit_test(several_groups_over_a_pages_end),
		cmocka_unit_test(loops_over_a_pages_end),
		cmocka_unit_test(recursion_over_a_pages_end),
		cmocka_unit_test(frames_that_stay_or_move_are_no_events),
		cmocka_unit_test(chaos_changes_nothing),
	};

	(void)argv;
	return argc > 1 ? report_times() : cmocka_run_group_tests(tests, set_up, tear_down);
}
