/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks along paths: blocks that go on with those of the block before, loops of few passes that
 * are unrolled, and parts of a loop that were reached late and become one region with the rest.
 */
#include "frames_rig.h"

#include "translate/chaos.h"

/* A tree of blocks below a loop's head: each pass takes another path. */
PROGRAM(tree, "mov $24, %r13d\n 1: mov (%rsi), %rax\n test $1, %r13b\n jz 2f\n mov 8(%rsi), %rdx\n"
	      "add %rdx, 24(%rsi)\n test $2, %r13b\n jz 4f\n push %rdx\n mov %rdx, 40(%rsi)\n"
	      "pop %r8\n adc %r8, -20(%rdi)\n jmp 4f\n"
	      "2: movzbl 17(%rsi), %edx\n test $4, %r13b\n jnz 3f\n mov %edx, -12(%rdi)\n jmp 4f\n"
	      "3: sub $8, %rsp\n xchg %edx, 12(%rsp)\n add $8, %rsp\n"
	      "4: add 32(%rsi), %rdx\n mov %rdx, (%rdi)\n dec %r13d\n jnz 1b\n");
/* Stores to its frame at first, then reads another that may not be written. */
PROGRAM(unlikely_store, "mov $400, %r13d\n 1: lea -8192(%rsi), %r9\n cmp $380, %r13d\n"
			"cmovbe %rsi, %r9\n mov (%r9), %rax\n cmp $380, %r13d\n jbe 2f\n"
			"test $1, %r13b\n jnz 3f\n 2: dec %r13d\n jnz 1b\n jmp 4f\n"
			"3: mov %rax, 8(%r9)\n jmp 2b\n 4:\n");
/* Three passes a round, as many in reverse; and one with a way out in the middle. */
PROGRAM(few_passes, "mov $16, %r13d\n 1: mov %rsi, %rax\n mov %rdi, %r8\n mov $3, %edx\n"
		    "2: mov (%rax), %r9\n add %r9, (%r8)\n lea 8(%rax), %rax\n add $8, %r8\n"
		    "dec %edx\n jnz 2b\n mov $3, %edx\n"
		    "3: movzwl -2(%rax), %r14d\n adc %r14, -8(%r8)\n sub $8, %r8\n sub $2, %rax\n"
		    "dec %edx\n jnz 3b\n dec %r13d\n jnz 1b\n");
PROGRAM(way_out, "mov $16, %r13d\n 1: xor %edx, %edx\n mov %r13d, %ecx\n and $3, %ecx\n"
		 "2: mov (%rsi, %rdx), %rax\n cmp %ecx, %edx\n ja 3f\n add %rax, 3(%rdi, %rdx)\n"
		 "add $4, %rdx\n cmp $16, %rdx\n jb 2b\n 3: setc 8(%rsi)\n dec %r13d\n jnz 1b\n");
/* Begun in the middle: its region begins there, and has its head between two that follow. */
PROGRAM(middle, "mov $32, %r13d\n mov %rsi, %rax\n mov %rdi, %r8\n mov $3, %edx\n jmp 3f\n"
		"1: mov %rsi, %rax\n mov %rdi, %r8\n mov $3, %edx\n"
		"2: mov 24(%rax), %r9\n add %r9, -8(%r8)\n add $8, %rax\n add $8, %r8\n"
		"3: mov (%rax), %r9\n dec %edx\n js 4f\n test $16, %r9b\n jnz 2b\n"
		"add %r9, 16(%rax)\n mov 8(%r8), %r14\n add %r14, 24(%r8)\n jmp 2b\n"
		"4: setc 3(%rdi)\n dec %r13d\n jnz 1b\n");
/* Part of the loop is reached in the second half only. */
PROGRAM(late, "mov $400, %r13d\n 1: mov (%rsi), %rax\n cmp $200, %r13d\n jbe 3f\n"
	      "2: add %rax, 8(%rsi)\n dec %r13d\n jnz 1b\n jmp 4f\n"
	      "3: adc %r13, 16(%rsi)\n setc 3(%rdi)\n jmp 2b\n 4:\n");

static void with_hot(unsigned hot)
{
	rigs[1].v->translator->flush = true;
	rigs[1].v->translator->hot = (uint16_t)hot;
}

static void trees_are_the_interpreters(void **state)
{
	(void)state;
	COMPARE_ALL(tree);
	with_hot(4);
	COMPARE_ALL(tree);
	COMPARE_ALL(unlikely_store);
	with_hot(0);
}

static void a_store_that_does_not_happen_needs_no_right(void **state)
{
	enum { FEW = 80 }; /* of 380 passes, one a pass otherwise */
	uint64_t n = 0;

	(void)state;
	take_signals();
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		with_hot(4);
		load(unlikely_store, unlikely_store_end);
		for (unsigned k = 0; k < 4; k++) {
			n = events_of(MIDDLE + 64, cpl, NORMAL, READ_ONLY);
		}
		assert_int_equal(rigs[1].v->gpr[R13], 0);
		assert_in_range(n, 0, FEW);
	}
	with_hot(0);
}

/* A live region that is a part of another but neither a rest nor a fast copy. */
static bool has_unrolled(void)
{
	const struct translator *x = rigs[1].v->translator;

	for (unsigned n = 0; n < x->n_regions; n++) {
		const struct region *r = x->regions[n];

		if (r->of && !r->loop && !r->rest && !r->dead) {
			return true;
		}
	}
	return false;
}

static void loops_of_few_passes_are_unrolled(void **state)
{
	(void)state;
	take_signals();
	with_hot(4);
	load(few_passes, few_passes_end);
	run(&rigs[1], MIDDLE + 64, 0, NORMAL, NORMAL);
	assert_true(has_unrolled());
	COMPARE_ALL(few_passes);
	load(way_out, way_out_end);
	run(&rigs[1], MIDDLE + 64, 0, NORMAL, NORMAL);
	assert_true(has_unrolled());
	COMPARE_ALL(way_out);
	with_hot(0);
	load(middle, middle_end);
	run(&rigs[1], MIDDLE + 64, 0, NORMAL, NORMAL);
	assert_true(has_unrolled());
	COMPARE_ALL(middle);
}

static void a_loops_parts_become_one_region(void **state)
{
	const struct code_pages *page;

	(void)state;
	take_signals();
	with_hot(4);
	load(late, late_end);
	run(&rigs[1], MIDDLE + 64, 0, NORMAL, NORMAL);
	page = cache_page(rigs[1].v, CODE & ~4095u);
	assert_int_equal(page->merges, 1);
	assert_in_range(events_of(MIDDLE + 64, 0, NORMAL, NORMAL), 0, 40);
	assert_int_equal(page->merges, 1);
	COMPARE_ALL(late);
	with_hot(0);
}

/* The last: it stays on. */
static void chaos_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(chaos_set(rigs[1].v, 1), 0);
	COMPARE_ALL(tree);
	COMPARE_ALL(few_passes);
	COMPARE_ALL(late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees_are_the_interpreters),
		cmocka_unit_test(a_store_that_does_not_happen_needs_no_right),
		cmocka_unit_test(loops_of_few_passes_are_unrolled),
		cmocka_unit_test(a_loops_parts_become_one_region),
		cmocka_unit_test(chaos_changes_nothing),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
