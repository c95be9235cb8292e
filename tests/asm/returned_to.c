/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may happen between a call and its return: the caller's code is rewritten, dropped, remapped;
 * requests and host signals come, also when the stack of return addresses is full.
 */
#include "returns_rig.h"

#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

/* -- while the callee runs -- */

/*
 * Three levels; the innermost, in another page, rewrites what follows the calls of both others by
 * their other address, or in place; and at times what follows becomes a jump.
 */
#define REWRITTEN(here)                                                   \
	"	mov $60, %ebp\n"                                                \
	"1:	call 2f\n"                                                    \
	"3:	mov $0x11111111, %eax\n"                                      \
	"	add %rax, %rdx\n"                                               \
	"	dec %ebp\n"                                                     \
	"	jnz 1b\n"                                                       \
	"	int $0x40\n"                                                    \
	"2:	call 5f\n"                                                    \
	"4:	mov $0x22222222, %eax\n"                                      \
	"	rol $7, %rdx\n"                                                 \
	"	add %rax, %rdx\n"                                               \
	"	ret\n" here "5:	test $2, %ebp\n"                          \
	"	jz 6f\n"                                                        \
	"	lea 3b(%rip), %rax\n"                                           \
	"	xor %rbx, %rax\n"                                               \
	"	mov %ebp, 1(%rax)\n"                                            \
	"	lea 4b(%rip), %rax\n"                                           \
	"	xor %rbx, %rax\n"                                               \
	"	addb $7, 2(%rax)\n"                                             \
	"6:	test $4, %ebp\n"                                              \
	"	jz 7f\n"                                                        \
	"	lea 4b(%rip), %rax\n"                                           \
	"	xor %rbx, %rax\n"                                               \
	"	xorb $0xb8 ^ 0x3d, (%rax)\n" /* mov to %eax; cmp of it */ \
	"7:	ret\n"

PROGRAM(rewritten, "64", REWRITTEN(""));
PROGRAM(rewritten_far, "64", REWRITTEN("	.org rewritten_far + 0x1000\n"));

static void code_that_is_returned_to_may_be_rewritten(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct guest g = GUEST(rewritten);

		if (n & 1) {
			g.code = rewritten_far;
			g.end = rewritten_far_end;
		}
		g.again_at = AT + 0x10000;
		g.rbx = n & 2 ? AT ^ g.again_at : 0;
		assert_int_equal(compare(&g), END);
		assert_true(has_missed());
	}
}

/* Each level is in a page of its own; the innermost tells the board. */
PROGRAM(told, "64",
	"	mov $60, %ebp\n"
	"1:	call 2f\n"
	"	add %ebp, %edx\n"
	"	call 2f\n"
	"	dec %ebp\n"
	"	jnz 1b\n"
	"	int $0x40\n"
	"	.org told + 0x1000\n"
	"2:	lea 3f(%rip), %rax\n"
	"	stc\n"
	"	call *%rax\n"
	"	adc $0, %edx\n"
	"	ret\n"
	"	.org told + 0x2000\n"
	"3:	call 4f\n"
	"	lea (%rdx, %rdx, 2), %edx\n"
	"	ret\n"
	"	.org told + 0x3000\n"
	"4:	out %al, $0x80\n"
	"	ret\n");

enum { DROP, FLUSH, WRITE, REMAP, FORGET_TLB, FORGET_JUMPS, CHAOS, ALL_OF_IT };

static unsigned what_happens;

/* Regions of the callers. */
static void drop_callers(struct vcpu *v)
{
	struct translator *x = v->translator;

	for (unsigned n = 0; n < x->n_regions; n++) {
		struct region *r = x->regions[n];

		if (!r->dead && r->gpa < CODE + 0x3000) {
			cache_drop(v, r);
		}
	}
}

static void on_out(struct board *b, uint16_t port, unsigned size, uint32_t val)
{
	struct vcpu *v = b->vcpu[0];
	static unsigned n;

	(void)port;
	(void)size;
	(void)val;
	if (v->gpr[RBP] == 30) { /* everything has been translated, but for what happens here */
		v->returns_by = NO_RETURN;
	}
	switch (what_happens < CHAOS ? what_happens : n++ % CHAOS) {
	case DROP: drop_callers(v); break;
	case FLUSH: v->translator->flush = true; break;
	case WRITE: mobo_engine_translator.code_written(v, CODE, 0x3000); break;
	case REMAP: mobo_engine_translator.map_changed(v); break;
	case FORGET_TLB: mmu_flush_all(v); break;
	case FORGET_JUMPS: memory_forget_jumps(v); break;
	}
}

static void what_is_returned_to_may_be_dropped(void **state)
{
	struct guest g = GUEST(told);
	struct translator *x = rigs[1].v->translator;

	(void)state;
	rigs[1].board.pio_write = on_out;
	for (what_happens = 0; what_happens < ALL_OF_IT; what_happens++) {
		for (unsigned cpl = 0; cpl < 4; cpl += 3) {
			uint32_t flushes = x->n_flushes;

			g.user_pages = cpl == 3; /* OUT is ring 0's */
			assert_int_equal(compare(&g), END);
			assert_true(has_missed() || what_happens > WRITE);
			assert_false(has_missed() && what_happens == FORGET_JUMPS);
			assert_int_equal(x->n_flushes > flushes + 100,
					 what_happens == FLUSH || what_happens == CHAOS);
		}
	}
	rigs[1].board.pio_write = NULL;
}

/* The page that is returned to is another one now and then. */
#define REMAPPED(add)                 \
	"	mov $60, %ebp\n"            \
	"1:	call 2f\n"                \
	"	add $" add ", %edx\n" \
	"	dec %ebp\n"                 \
	"	jnz 1b\n"                   \
	"	int $0x40\n"

PROGRAM(remapped, "64",
	REMAPPED("1") "	.org remapped + 0x1000\n"
		      "2:	mov %ebp, %eax\n"
		      "	and $3, %eax\n"
		      "	cmp $2, %eax\n"
		      "	jne 3f\n"
		      "	xorl $0x2000, (%rbx)\n"
		      "	invlpg (%rsi)\n"
		      "3:	ret\n"
		      "	.org remapped + 0x2000\n"
		      "4:	\n"
		      "	mov $60, %ebp\n"
		      "	.byte 0xe8\n	.long 2b - 1b - 5\n"
		      "	add $0x10000, %edx\n"
		      "	dec %ebp\n"
		      "	jnz 4b + 5\n"
		      "	int $0x40\n");

static void a_page_that_is_returned_to_may_be_remapped(void **state)
{
	struct guest g = GUEST(remapped);

	(void)state;
	load(&rigs[1], &g, 0);
	g.rbx = map_page(&rigs[1], AT, CODE, PTE_P | PTE_W);
	g.rsi = AT;
	assert_int_equal(compare(&g), END);
	assert_int_equal(rigs[1].v->gpr[RDX], 30 + 30 * 0x10000);
}

/* -- from outside -- */

static struct {
	volatile sig_atomic_t n, n_on_returns, n_bad;
	bool requests;
} signals;

/* As host signals' handlers are: on a stack of their own, of which it wants much. */
static void on_alarm(int sig, siginfo_t *info, void *uc_)
{
	const ucontext_t *uc = uc_;
	uint64_t rsp = (uint64_t)uc->uc_mcontext.gregs[REG_RSP], low = base() - VCPU_RETURNS;
	volatile uint8_t frame[4 << 10];

	(void)sig;
	(void)info;
	for (unsigned n = 0; n < sizeof(frame); n++) {
		frame[n] = 0xcc;
	}
	signals.n++;
	signals.n_on_returns += rsp - low <= VCPU_RETURNS;
	signals.n_bad += (uint64_t)(uintptr_t)frame - low <= VCPU_RETURNS;
	if (signals.requests) {
		vcpu_request(rigs[1].v, REQ_PAUSE);
	}
	if (signals.n == 100000) { /* a minute and more without a look for requests */
		_exit(1);
	}
}

static void set_alarm(unsigned us, bool requests)
{
	struct sigaction sa = {.sa_sigaction = on_alarm,
			       .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct itimerval t = {.it_value.tv_usec = us, .it_interval.tv_usec = us};

	signals.n = signals.n_on_returns = signals.n_bad = 0;
	signals.requests = requests;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

/* More levels than the stack has room for. */
PROGRAM(levels, "64",
	"	mov $30000, %ecx\n"
	"	call 1f\n"
	"	int $0x40\n"
	"1:	dec %ecx\n"
	"	jz 2f\n"
	"	call 1b\n"
	"	lea (%rax, %rax, 2), %rax\n"
	"	inc %rax\n"
	"2:	ret\n");

/* They find nothing but return addresses below and above. */
static void signals_may_come_anywhere(void **state)
{
	const struct guest g = GUEST(levels);
	unsigned n_on_returns = 0;

	(void)state;
	assert_int_equal(compare(&g), END);
	load(&rigs[1], &g, 0);
	for (unsigned n = 0; n < 200 || (n_on_returns < 20 && n < 20000); n++) {
		set_alarm(200, false);
		assert_int_equal(run(&rigs[1], &g), END);
		assert_int_equal(rigs[1].v->gpr[RAX], rigs[0].v->gpr[RAX]);
		assert_int_equal(signals.n_bad, 0);
		n_on_returns += (unsigned)signals.n_on_returns;
		set_alarm(0, false);
	}
	assert_true(n_on_returns >= 20);
}

/* Loops of nothing but calls and returns. */
PROGRAM(loop_up, "64",
	"	lea 1f(%rip), %rax\n"
	"1:	call 2f\n"
	"	push %rax\n"
	"	ret\n"
	"2:	ret\n");
PROGRAM(loop_push, "64",
	"	lea 1f(%rip), %rax\n"
	"	lea 2f(%rip), %rcx\n"
	"1:	push %rcx\n"
	"	ret\n"
	"2:	push %rax\n"
	"	ret\n");
PROGRAM(loop_recursion, "64",
	"	mov %rsp, %rcx\n"
	"1:	mov %rcx, %rsp\n"
	"	call 1b\n");
PROGRAM(loop_recursion_rm, "64",
	"	mov %rsp, %rcx\n"
	"	lea 1f(%rip), %rax\n"
	"1:	mov %rcx, %rsp\n"
	"	call *%rax\n");
PROGRAM(loop_recursion_pages, "64",
	"	mov %rsp, %rcx\n"
	"1:	mov %rcx, %rsp\n"
	"	call 2f\n"
	"	.org loop_recursion_pages + 0x1800\n"
	"2:	call 1b\n");
PROGRAM(loop_ret, "64",
	"	lea 1f(%rip), %rax\n"
	"	mov %rsp, %rcx\n"
	"	mov %rax, (%rsp)\n"
	"1:	mov %rcx, %rsp\n"
	"	ret\n");
/* Calls that lead up alone, and returns from them, all predicted: 2 to the power of 60. */
PROGRAM(loop_tree, "64",
	"	call 1f\n"
	"	int $0x40\n"
	"1:	.rept 60\n"
	"	call 2f\n"
	"	call 2f\n"
	"	ret\n"
	"2:\n"
	"	.endr\n"
	"	ret\n");

static void loops_of_calls_and_returns_can_be_stopped(void **state)
{
	const struct guest guests[] = {
		GUEST(loop_up),
		GUEST(loop_push),
		GUEST(loop_recursion),
		GUEST(loop_recursion_rm),
		GUEST(loop_recursion_pages),
		GUEST(loop_ret),
		GUEST(loop_tree),
	};

	(void)state;
	for (unsigned n = 0; n < 2 * sizeof(guests) / sizeof(guests[0]); n++) {
		const struct guest *g = &guests[n / 2];

		load(&rigs[1], g, n & 1 ? 4 : 0);
		for (unsigned k = 0; k < 5; k++) {
			set_alarm(10000, true);
			assert_int_equal(run(&rigs[1], g), -MOBO_EXIT_REQUEST);
			set_alarm(0, false);
			atomic_fetch_and(&rigs[1].v->req, ~(uint32_t)REQ_PAUSE);
		}
	}
}

/* Its stack for signals is not that of another, which this thread had before. */
static void a_vcpu_may_follow_another(void **state)
{
	const stack_t none = {.ss_flags = SS_DISABLE};
	const struct guest g = GUEST(levels);
	struct rig first;
	stack_t stack;

	(void)state;
	sigaltstack(&none, NULL);
	fake_board_engine = &mobo_engine_translator;
	assert_int_equal(rig_init(&first), 0);
	load(&first, &g, 0);
	assert_int_equal(run(&first, &g), END);
	fake_board_finish(&first.board);
	assert_int_equal(sigaltstack(NULL, &stack), 0);
	assert_int_equal(stack.ss_flags, SS_DISABLE);
	load(&rigs[1], &g, 0);
	set_alarm(200, false);
	for (unsigned k = 0; k < 10; k++) {
		assert_int_equal(run(&rigs[1], &g), END);
	}
	set_alarm(0, false);
}

/* Two by turns. */
static void vcpus_may_share_a_thread(void **state)
{
	const stack_t none = {.ss_flags = SS_DISABLE};
	const struct guest g = GUEST(levels);
	struct rig other;

	(void)state;
	sigaltstack(&none, NULL);
	fake_board_engine = &mobo_engine_translator;
	assert_int_equal(rig_init(&other), 0);
	load(&other, &g, 0);
	load(&rigs[1], &g, 0);
	for (unsigned k = 0; k < 4; k++) {
		assert_int_equal(run(&other, &g), END);
		assert_int_equal(run(&rigs[1], &g), END);
	}
	fake_board_engine = &mobo_engine_translator;
	fake_board_finish(&other.board);
	assert_int_equal(run(&rigs[1], &g), END);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(code_that_is_returned_to_may_be_rewritten),
		cmocka_unit_test(what_is_returned_to_may_be_dropped),
		cmocka_unit_test(a_page_that_is_returned_to_may_be_remapped),
		cmocka_unit_test(loops_of_calls_and_returns_can_be_stopped),
		cmocka_unit_test(signals_may_come_anywhere),
		cmocka_unit_test(a_vcpu_may_follow_another),
		cmocka_unit_test(vcpus_may_share_a_thread),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
