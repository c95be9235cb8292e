/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls and returns as the translator makes code of them: programs whose returns lead where they
 * were predicted to, elsewhere, or into code that changed meanwhile run on the interpreter and
 * translated, and all of the machine must be the same afterwards.
 */
#include "returns_rig.h"

/* What is written once for 64 and 32 bits: R, W are "r", "8" or "e", "4", TO(label) sets rAX. */
#define TO_64(label) "	lea " label "(%rip), %rax\n"
#define TO_32(label) "	call 99f\n99:	pop %eax\n	add $" label " - 99b, %eax\n"

/* -- where returns are expected to lead -- */

/* fib(7), CF across a call that leaves it alone, and CF that a call sets. */
#define NESTED(R, W)                                                \
	"	mov $60, %esi\n"                                          \
	"	jmp 1f\n" /* what comes first may be interpreted */ \
	"1:	mov $7, %edi\n"                                         \
	"	call 3f\n"                                                \
	"	add %" R "ax, %" R "bx\n"                           \
	"	cmp $30, %esi\n"                                          \
	"	call 5f\n"                                                \
	"	adc $0, %edx\n"                                           \
	"	call 6f\n"                                                \
	"	adc $0, %edx\n"                                           \
	"	call 7f\n"                                                \
	"	jz 2f\n"                                                  \
	"	rol $3, %edx\n"                                           \
	"2:	dec %esi\n"                                             \
	"	jnz 1b\n"                                                 \
	"	int $0x40\n"                                              \
	"3:	cmp $2, %edi\n"                                         \
	"	jb 4f\n"                                                  \
	"	push %" R "di\n"                                    \
	"	dec %edi\n"                                               \
	"	call 3b\n"                                                \
	"	pop %" R "di\n"                                     \
	"	push %" R "ax\n"                                    \
	"	sub $2, %edi\n"                                           \
	"	call 3b\n"                                                \
	"	pop %" R "cx\n"                                     \
	"	add %ecx, %eax\n"                                         \
	"	ret\n"                                                    \
	"4:	mov %edi, %eax\n"                                       \
	"	ret\n"                                                    \
	"5:	mov %" R "sp, %" R "cx\n"                           \
	"	ret\n"                                                    \
	"6:	cmp $20, %esi\n"                                        \
	"	ret\n"                                                    \
	"7:	push %" R "bx\n"                                    \
	"	test $1, %esi\n"                                          \
	"	pop %" R "bx\n"                                     \
	"	ret\n"

PROGRAM(nested_64, "64", NESTED("r", "8"));
PROGRAM(nested_32, "32", NESTED("e", "4"));

/* Addresses whose constants have various forms. */
static const uint64_t places[] = {
	0x0000000000400000, 0x000000007ffff000, 0x000000007fffe000, 0x0000000080000000,
	0x00000000fffff000, 0x0000000100000000, 0x0000555555554000, 0x00007fffffff8000,
	0xffff800000000000, 0xffffffff7ffff000, 0xffffffff80000000, 0xffffffff81234000,
};

static void nested_calls_return_where_predicted(void **state)
{
	struct guest g = GUEST(nested_64);

	(void)state;
	for (unsigned n = 0; n < sizeof(places) / sizeof(places[0]); n++) {
		g.at = places[n];
		assert_int_equal(compare(&g), END);
		assert_false(has_missed());
	}
	g.at = AT;
	g.cpl = 3;
	assert_int_equal(compare(&g), END);
	assert_false(has_missed());
	g = (struct guest)GUEST_32(nested_32);
	for (; g.cpl < 4; g.cpl += 3) {
		assert_int_equal(compare(&g), END);
		assert_false(has_missed());
	}
}

/* N levels, `call` in each, which counts them on the way back; and what else each does. */
#define LEVELS(n, R, call, more)                            \
	TO_##R("1f") "	mov %eax, (%rdi)\n"                  \
		     "	shr $32, %rax\n"                     \
		     "	mov %eax, 4(%rdi)\n"                 \
		     "	mov (%rdi), %rbp\n"                  \
		     "	mov $" n ", %ecx\n"                 \
		     "	call 1f\n"                           \
		     "	int $0x40\n"                         \
		     "	.org . + 0x1000 - 40\n"              \
		     "1:	dec %ecx\n"                        \
		     "	jz 2f\n"                             \
		     "	push %rcx\n" more "	" call "\n" \
		     "	pop %rdx\n"                          \
		     "	lea (%rax, %rax, 2), %rax\n"         \
		     "	add %rdx, %rax\n"                    \
		     "2:	ret\n"

PROGRAM(levels, "64", LEVELS("30000", 64, "call 1b", ""));
PROGRAM(levels_rm, "64", LEVELS("30000", 64, "call *%rbp", ""));
PROGRAM(levels_mem, "64", LEVELS("30000", 64, "call *(%rdi)", ""));
PROGRAM(levels_far, "64",
	LEVELS("30000", 64, "call 3f", "") "	.org . + 0x1000\n3:	call 1b\n	ret\n");
/* Instructions that are interpreted, and that fault in the host, at each depth. */
PROGRAM(levels_event, "64",
	LEVELS("17000", 64, "call 1b", "	push %rdi\n	scasb\n	pop %rdi\n"));
PROGRAM(levels_fault, "64",
	LEVELS("17000", 64, "call 1b", "	div %r8d\n") "	.org levels_fault + 0x2000\n"
							     "	addq $3, (%rsp)\n"
							     "	inc %r9d\n"
							     "	iretq\n");

static void recursion_may_be_deeper_than_the_stack(void **state)
{
	const struct guest guests[] = {GUEST(levels),	  GUEST(levels_rm),    GUEST(levels_mem),
				       GUEST(levels_far), GUEST(levels_event), GUEST(levels_fault)};

	(void)state;
	for (unsigned n = 0; n < sizeof(guests) / sizeof(guests[0]); n++) {
		struct guest g = guests[n];

		g.handler = 0x2000;
		g.vector = n == 5 ? VEC_DE : -1;
		assert_int_equal(compare(&g), END);
		assert_true(has_missed());
		assert_in_range(depth(), 0, VCPU_RETURNS / 8 - 1);
	}
	assert_int_equal(rigs[1].v->gpr[R9], 16999);
}

/* It ends without returning. */
PROGRAM(pending, "64",
	"	mov $100, %ecx\n"
	"1:	dec %ecx\n"
	"	jz 2f\n"
	"	call 1b\n"
	"2:	int $0x40\n");

static void calls_leave_a_return_address_each(void **state)
{
	struct guest g = GUEST(pending);

	(void)state;
	load(&rigs[1], &g, 0);
	rigs[1].v->translator->flush = true;
	for (unsigned n = 1; n <= 100; n++) { /* and the guard page is met */
		assert_int_equal(run(&rigs[1], &g), END);
		if (n > 1 && n < 83) {
			assert_in_range(depth(), n * 99 - 3, n * 99);
		}
	}
	assert_in_range(depth(), 99, 20 * 99);
}

/* -- where they are not -- */

#define ODD(R, W, TO)                                                                 \
	"	mov $40, %ebp\n"                                                            \
	"1:\n" TO("2f") "	push %" R "ax\n" /* nobody called */                  \
			"	ret\n"                                                      \
			"	ud2\n"                                                      \
			"2:	call 3f\n"                                                \
			"	ud2\n"                                                      \
			"3:\n" TO("4f") "	mov %" R "ax, (%" R "sp)\n"           \
					"	ret\n"                                      \
					"	ud2\n"                                      \
					"4:	call 5f\n"                                \
					"	add $3, %edx\n"                             \
					"	jmp 7f\n"                                   \
					"5:	call 6f\n" /* is skipped */           \
					"	ud2\n"                                      \
					"6:	add $" W ", %" R "sp\n"               \
					"	ret\n"                                      \
					"7:	push $5\n"                                \
					"	call 8f\n"                                  \
					"	rol $5, %edx\n"                             \
					"	jmp 10f\n"                                  \
					"8:	call 9f\n" /* ... with an argument */ \
					"	ud2\n"                                      \
					"9:	pop %" R "cx\n"                       \
					"	ret $" W "\n"                         \
					"10:	call 11f\n"                              \
					"	lea 1(%" R "dx, %" R "dx), %edx\n"    \
					"	ret\n"                                      \
					"11:	call 12f\n"                              \
					"	xor %ebp, %edx\n"                           \
					"	dec %ebp\n"                                 \
					"	jnz 1b\n"                                   \
					"	int $0x40\n"                                \
					"12:	pop %" R "ax\n" /* are exchanged */   \
					"	xchg %" R "ax, (%" R "sp)\n"          \
					"	push %" R "ax\n"                      \
					"	ret\n"

PROGRAM(odd_64, "64", ODD("r", "8", TO_64));
PROGRAM(odd_32, "32", ODD("e", "4", TO_32));

static void returns_may_lead_elsewhere(void **state)
{
	struct guest g = GUEST(odd_64);

	(void)state;
	for (unsigned n = 0; n < sizeof(places) / sizeof(places[0]); n++) {
		g.at = places[n];
		assert_int_equal(compare(&g), END);
		assert_true(has_missed());
	}
	g.at = AT;
	g.cpl = 3;
	assert_int_equal(compare(&g), END);
	g = (struct guest)GUEST_32(odd_32);
	for (; g.cpl < 4; g.cpl += 3) {
		assert_int_equal(compare(&g), END);
		assert_true(has_missed());
	}
}

/* More returns than calls. */
PROGRAM(empty, "64",
	"	mov $9000, %ebp\n" TO_64("1f") "1:	push %rax\n"
					       "	dec %ebp\n"
					       "	jz 2f\n"
					       "	ret\n"
					       "2:	call 3f\n"
					       "	pop %rcx\n"
					       "	int $0x40\n"
					       "3:	ret\n");

static void an_empty_stack_stays_empty(void **state)
{
	struct guest g = GUEST(empty);

	(void)state;
	assert_int_equal(compare(&g), END);
	assert_true(has_missed());
	assert_int_equal(depth(), 0);
}

/* rBX is put into what half of the returns go by, which lead to the program's other address. */
PROGRAM(low_half, "64",
	"	mov $40, %ebp\n"
	"1:	call 2f\n"
	"	lea 0(%rip), %rcx\n"
	"	lea (%rcx, %rdx, 2), %rdx\n"
	"	dec %ebp\n"
	"	jnz 1b\n"
	"	int $0x40\n"
	"2:	test $2, %ebp\n"
	"	jz 3f\n"
	"	xor %rbx, (%rsp)\n"
	"3:	ret\n");

static void addresses_are_compared_whole(void **state)
{
	static const uint64_t pairs[][2] = {
		{0x0000000012345000, 0x0000555512345000}, {0x0000555512345000, 0x0000000012345000},
		{0x0000000080001000, 0xffffffff80001000}, {0xffffffff80001000, 0x0000000080001000},
		{0x0000555512345000, 0x00005fff12345000},
	};
	struct guest g = GUEST(low_half);

	(void)state;
	for (unsigned n = 0; n < sizeof(pairs) / sizeof(pairs[0]); n++) {
		g.at = pairs[n][0];
		g.again_at = pairs[n][1];
		g.rbx = pairs[n][0] ^ pairs[n][1];
		assert_int_equal(compare(&g), END);
		assert_true(has_missed());
	}
}

/* Not canonical, after a call, after none, with an argument, among pops. */
PROGRAM(refused_call, "64", "	call 1f\n	ud2\n1:	mov %rbx, (%rsp)\n	ret\n");
PROGRAM(refused_push, "64", "	push %rbx\n	stc\n	ret\n");
PROGRAM(refused_imm, "64", "	push %rbx\n	ret $0x18\n");
PROGRAM(refused_pop, "64",
	"	call 1f\n1:	push %rbx\n	push $7\n	pop %rcx\n	ret $8\n");
/* Where it was predicted to lead, but for the highest bits. */
PROGRAM(refused_bits, "64", "	call 1f\n	ud2\n1:	or %rbx, (%rsp)\n	ret\n");

static void non_canonical_targets_are_refused_before_the_return(void **state)
{
	static const uint64_t targets[] = {0x0000800000000000, 0xffff7fffffffffff,
					   0x8000000000000000, 0x7fffffffffffffff};
	static const struct {
		struct guest g;
		unsigned ret; /* from the end */
		int pushed;
	} cases[] = {
		{GUEST(refused_call), 1, 8}, {GUEST(refused_push), 1, 8},
		{GUEST(refused_imm), 3, 8},  {GUEST(refused_pop), 3, 16},
		{GUEST(refused_bits), 1, 8},
	};

	(void)state;
	for (unsigned n = 0; n < 5 * 4 * 2; n++) {
		struct guest g = cases[n % 5].g;
		uint32_t frame;

		g.rbx = targets[n / 5 % 4];
		g.cpl = n < 20 ? 0 : 3;
		assert_int_equal(compare(&g), VEC_GP);
		frame = (uint32_t)rigs[1].v->gpr[RSP];
		assert_int_equal(rig_peek(&rigs[1], frame + 8, 8),
				 AT + (uint64_t)(g.end - g.code) - cases[n % 5].ret);
		assert_int_equal(rig_peek(&rigs[1], frame + 32, 8),
				 stack_of(&g) - (uint64_t)cases[n % 5].pushed);
	}
}

/* -- other keys -- */

/* With all four pairs of AC before the call and behind it; [rBX] is a user's. */
PROGRAM(key_ac, "64",
	"	mov $60, %ebp\n"
	"1:	call 2f\n"
	"	mov (%rbx), %al\n"
	"	lea 1(%rax, %rdx), %rdx\n"
	"	dec %ebp\n"
	"	jnz 1b\n"
	"	int $0x40\n"
	"2:	test $2, %ebp\n"
	"	jz 3f\n"
	"	stac\n"
	"	ret\n"
	"3:	clac\n"
	"	ret\n"
	"	.org key_ac + 0x2000\n" /* #PF */
	"	add $8, %rsp\n"
	"	addq $2, (%rsp)\n"
	"	inc %r9d\n"
	"	iretq\n");

/* The kernel's calls return to the user now and then, who may not clear IF. */
PROGRAM(key_user, "64",
	"	mov $60, %ebp\n"
	"1:	call 2f\n"
	"	cli\n"
	"4:	dec %ebp\n"
	"	jnz 1b\n"
	"	int $0x40\n"
	"2:	sti\n"
	"	test $2, %ebp\n"
	"	jz 3f\n"
	"	lea 3f(%rip), %rcx\n"
	"	mov $0x202, %r11d\n"
	"	sysretq\n"
	"3:	ret\n"
	"	.org key_user + 0x2000\n" /* #GP */
	"	mov 32(%rsp), %rsp\n"
	"	inc %r9d\n"
	"	jmp 4b\n");

/* ... to 32-bit code, which finds other instructions in the same bytes. */
PROGRAM(key_32, "64",
	"	mov $60, %ebp\n"
	"1:	call 2f\n"
	"	xor %eax, %eax\n"
	"	.byte 0x40, 0x90\n" /* nop; or inc %eax; nop */
	"	test %eax, %eax\n"
	"	jz 4f\n"
	"	.code32\n"
	"	add $4, %esp\n"
	"	inc %edi\n"
	"	ljmp $0x50, $4f - key_32 + 0x400000\n"
	"	.code64\n"
	"4:	dec %ebp\n"
	"	jnz 1b\n"
	"	int $0x40\n"
	"2:	test $2, %ebp\n"
	"	jz 3f\n"
	"	push $0x10\n"
	"	lea 3f(%rip), %rax\n"
	"	push %rax\n"
	"	lretq\n"
	"3:	ret\n");

static void returns_under_another_key_are_not_predicted(void **state)
{
	struct guest g = GUEST(key_ac);

	(void)state;
	g.smap = true;
	g.rbx = USER_AT + DATA;
	g.handler = 0x2000;
	g.vector = VEC_PF;
	assert_int_equal(compare(&g), END);
	assert_int_equal(rigs[1].v->gpr[R9], 30);
	assert_true(has_missed());
	g = (struct guest)GUEST(key_user);
	g.handler = 0x2000;
	g.vector = VEC_GP;
	g.user_pages = true;
	assert_int_equal(compare(&g), END);
	assert_int_equal(rigs[1].v->gpr[R9], 30);
	assert_true(has_missed());
	g = (struct guest)GUEST(key_32);
	assert_int_equal(compare(&g), END);
	assert_int_equal(rigs[1].v->gpr[RDI] - DATA, 30);
	assert_true(has_missed());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nested_calls_return_where_predicted),
		cmocka_unit_test(recursion_may_be_deeper_than_the_stack),
		cmocka_unit_test(calls_leave_a_return_address_each),
		cmocka_unit_test(returns_may_lead_elsewhere),
		cmocka_unit_test(an_empty_stack_stays_empty),
		cmocka_unit_test(addresses_are_compared_whole),
		cmocka_unit_test(non_canonical_targets_are_refused_before_the_return),
		cmocka_unit_test(returns_under_another_key_are_not_predicted),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
