/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses that share a check, where their bytes lie over a page's end. Code that stays there must
 * not be an event each time. With an argument: how long a recursion takes by where its stack
 * begins.
 */
#include "frames_rig.h"

#include <stdio.h>
#include <time.h>

#include "translate/chaos.h"

/* -- snippets -- */

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
