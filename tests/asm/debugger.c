/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger outside of the guest: breakpoints, watchpoints, steps. Machine code runs in 32-bit
 * protected mode at RIG_INSN and ends with INT 40, whose handler halts. Every test is of the
 * interpreter and of the translator, which then translates all code at once.
 */
#include <errno.h>

#include "execute/debugger.h"
#include "system_rig.h"
#include "translate/translate.h"

enum { DATA = 0x80000 };

static struct rig rig;
static struct vcpu *v;

static int setup(void **state)
{
	if (rig_init(&rig)) {
		return -1;
	}
	v = rig.v;
	if (v->translator) {
		v->translator->hot = 0;
	}
	return 0;
}

static int teardown(void **state)
{
	fake_board_finish(&rig.board);
	return 0;
}

/* What the guest is to run; a stack, flags and registers of its own. */
static void load(const void *code, unsigned len)
{
	static const uint8_t end[] = {0xcd, 0x40};

	rig_enter(&rig, false, 0);
	memcpy(rig.board.ram + RIG_INSN, code, len);
	memcpy(rig.board.ram + RIG_INSN + len, end, sizeof(end));
	memset(rig.board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	trace_flush_all(v);
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
}
#define LOAD(...) load((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void points(unsigned n, enum debug_kind kind, uint64_t lin, uint32_t len)
{
	memset(&v->debug, 0, sizeof(v->debug));
	v->debug.n_exec = kind == DEBUG_EXEC ? n : 0;
	v->debug.n_data = kind == DEBUG_EXEC ? 0 : n;
	v->debug.points[0] = (struct debug_point){lin, len, kind};
	fake_board_engine->debug->changed(v);
}

static enum mobo_exit run(void)
{
	enum mobo_exit e = fake_board_engine->run(v);

	if (e == MOBO_EXIT_DEBUG) {
		assert_true(atomic_load(&v->req) & REQ_DEBUG);
		atomic_fetch_and(&v->req, ~(uint32_t)REQ_DEBUG);
	}
	return e;
}

static enum mobo_exit step(void)
{
	fake_board_engine->debug->step(v, true);
	return run();
}

static void assert_stop(enum debug_stop why, uint64_t stop_lin, uint64_t rip)
{
	assert_int_equal(v->debug.stop, why);
	assert_int_equal(v->debug.stop_lin, stop_lin);
	assert_int_equal(v->rip, rip);
}

static void breakpoint_stops_before_its_instruction(void **state)
{
	LOAD(0x40, 0x43, 0x41); /* inc eax; inc ebx; inc ecx */
	points(1, DEBUG_EXEC, RIG_INSN + 1, 1);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_BREAKPOINT, RIG_INSN + 1, RIG_INSN + 1);
	assert_int_equal(v->gpr[RAX], 1);
	assert_int_equal(v->gpr[RBX], 0);
	assert_int_equal(run(), MOBO_EXIT_DEBUG); /* still there */
	assert_int_equal(v->gpr[RBX], 0);
	assert_int_equal(step(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_STEP, RIG_INSN + 2, RIG_INSN + 2);
	assert_int_equal(v->gpr[RBX], 1);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(v->gpr[RCX], 1);
	assert_int_equal(rig_peek(&rig, RIG_INSN + 1, 1), 0x43);
}

static void breakpoint_stops_each_turn_of_a_loop(void **state)
{
	LOAD(0xb9, 3, 0, 0, 0, 0x40, 0xe2, 0xfd); /* mov ecx, 3; 1: inc eax; loop 1b */
	assert_int_equal(run(), MOBO_EXIT_HALT);  /* decoded without */
	v->halted = false;
	v->rip = RIG_INSN;
	v->gpr[RAX] = 0;
	points(1, DEBUG_EXEC, RIG_INSN + 5, 1);
	for (unsigned n = 0; n < 3; n++) {
		assert_int_equal(run(), MOBO_EXIT_DEBUG);
		assert_int_equal(v->gpr[RAX], n);
		assert_int_equal(step(), MOBO_EXIT_DEBUG);
	}
	assert_int_equal(run(), MOBO_EXIT_HALT);
	points(0, DEBUG_EXEC, 0, 0);
	v->halted = false;
	v->rip = RIG_INSN;
	assert_int_equal(run(), MOBO_EXIT_HALT);
}

static void breakpoint_at_the_same_offset_of_another_page_is_passed(void **state)
{
	LOAD(0x40, 0x43, 0x41);
	points(1, DEBUG_EXEC, RIG_INSN + 0x1001, 1);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(v->gpr[RBX], 1);
	assert_int_equal(v->gpr[RCX], 1);
}

static void breakpoint_is_met_behind_sti_and_on_a_crossing_instruction(void **state)
{
	static const uint8_t crossing[] = {0x81, 0xc0, 1, 2, 0, 0, 0xcd, 0x40}; /* add eax, 201h */

	LOAD(0xfb, 0x40, 0x43);
	points(1, DEBUG_EXEC, RIG_INSN + 1, 1);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_BREAKPOINT, RIG_INSN + 1, RIG_INSN + 1);
	LOAD(0x90);
	memcpy(rig.board.ram + RIG_INSN + 0xffd, crossing, sizeof(crossing));
	v->rip = RIG_INSN + 0xffd;
	points(1, DEBUG_EXEC, RIG_INSN + 0xffd, 1);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_int_equal(v->gpr[RAX], 0);
	assert_int_equal(step(), MOBO_EXIT_DEBUG);
	assert_int_equal(v->gpr[RAX], 0x201);
	points(0, DEBUG_EXEC, 0, 0);
	assert_int_equal(run(), MOBO_EXIT_HALT);
}

static void int3_of_the_guest_reaches_the_guest(void **state)
{
	LOAD(0x40, 0xcc, 0x43);
	points(1, DEBUG_EXEC, RIG_INSN + 2, 1);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(rig_raised(&rig).vector, VEC_BP);
}

static void step_over_a_fault_ends_at_the_handler(void **state)
{
	LOAD(0x0f, 0x0b); /* ud2 */
	points(0, DEBUG_EXEC, 0, 0);
	assert_int_equal(step(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_STEP, RIG_HANDLER + VEC_UD * 16, RIG_HANDLER + VEC_UD * 16);
	assert_int_equal(step(), MOBO_EXIT_DEBUG); /* hlt */
	assert_true(v->halted);
	assert_int_equal(run(), MOBO_EXIT_HALT);
}

static void interrupts_wait_while_stepping(void **state)
{
	LOAD(0x40, 0x43, 0x41);
	points(0, DEBUG_EXEC, 0, 0);
	vcpu_set_rflags(v, FL_1 | FL_IF);
	fake_board_raise(v, 0x50);
	assert_int_equal(step(), MOBO_EXIT_DEBUG);
	assert_int_equal(v->rip, RIG_INSN + 1);
	assert_int_equal(step(), MOBO_EXIT_DEBUG);
	assert_int_equal(v->rip, RIG_INSN + 2);
	assert_int_equal(rig.board.n_acks, 0);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(rig.board.n_acks, 1);
	assert_int_equal(rig_raised(&rig).vector, 0x50);
}

static void disarmed_step_does_not_stop(void **state)
{
	LOAD(0x40, 0x43);
	points(0, DEBUG_EXEC, 0, 0);
	fake_board_engine->debug->step(v, true);
	fake_board_engine->debug->step(v, false);
	assert_int_equal(run(), MOBO_EXIT_HALT);
}

static void write_watchpoint_stops_behind_the_store(void **state)
{
	/* inc ebx; mov eax, [DATA]; mov [DATA+8], eax; mov [DATA+2], al; inc ecx */
	LOAD(0x43, 0xa1, 0, 0, 8, 0, 0xa3, 8, 0, 8, 0, 0xa2, 2, 0, 8, 0, 0x41);
	points(1, DEBUG_WRITE, DATA, 4);
	v->gpr[RAX] = 7;
	rig_poke64(&rig, DATA, 5);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_WATCHPOINT, DATA + 2, RIG_INSN + 16);
	assert_int_equal(rig_peek(&rig, DATA, 4), 0x50005);
	assert_int_equal(v->gpr[RBX], 1);
	assert_int_equal(v->gpr[RCX], 0);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(v->gpr[RCX], 1);
}

static void read_watchpoint_passes_stores(void **state)
{
	LOAD(0xa3, 0, 0, 8, 0, 0xa1, 0, 0, 8, 0, 0x41); /* mov [DATA], eax; mov eax, [DATA] */
	points(1, DEBUG_READ, DATA, 4);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_WATCHPOINT, DATA, RIG_INSN + 10);
	assert_int_equal(run(), MOBO_EXIT_HALT);
}

static void read_watchpoint_sees_what_is_modified(void **state)
{
	LOAD(0xff, 0x05, 0, 0, 8, 0, 0x41); /* inc dword [DATA]; inc ecx */
	points(1, DEBUG_READ, DATA, 4);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_WATCHPOINT, DATA, RIG_INSN + 6);
	assert_int_equal(rig_peek(&rig, DATA, 4), 1);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(rig_peek(&rig, DATA, 4), 1);
}

static void watchpoint_in_a_loop_stops_in_its_turn(void **state)
{
	static const uint8_t code[] = {0xbf, 0,	   0,	8, 0, /* mov edi, DATA */
				       0xb9, 0,	   2,	0, 0, /* mov ecx, 200h */
				       0x89, 0x0f,	      /* 1: mov [edi], ecx */
				       0x83, 0xc7, 4,	      /* add edi, 4 */
				       0xe2, 0xf9, 0x40};     /* loop 1b; inc eax */

	load(code, sizeof(code));
	points(1, DEBUG_WRITE, DATA + 0x100, 4);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_WATCHPOINT, DATA + 0x100, RIG_INSN + 12);
	assert_int_equal(v->gpr[RDI], DATA + 0x100);
	assert_int_equal(v->gpr[RCX], 0x200 - 0x40);
	assert_int_equal(rig_peek(&rig, DATA + 0x100, 8), 0x200 - 0x40);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(v->gpr[RAX], 1);
	assert_int_equal(rig_peek(&rig, DATA + 0x7fc, 4), 1);
}

static void watchpoint_on_what_a_call_pushes_stops_at_its_target(void **state)
{
	LOAD(0xe8, 1, 0, 0, 0, 0x90, 0x40); /* call 1f; nop; 1: inc eax */
	points(1, DEBUG_WRITE, RIG_STACK - 4, 4);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_WATCHPOINT, RIG_STACK - 4, RIG_INSN + 6);
	assert_int_equal(rig_peek(&rig, RIG_STACK - 4, 4), RIG_INSN + 5);
	assert_int_equal(v->gpr[RSP], RIG_STACK - 4);
	assert_int_equal(v->gpr[RAX], 0);
}

static void watchpoint_in_the_frame_of_an_exception_stops_at_the_handler(void **state)
{
	LOAD(0x0f, 0x0b);
	points(1, DEBUG_WRITE, RIG_STACK - 4, 4);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_stop(DEBUG_STOP_WATCHPOINT, RIG_STACK - 4, RIG_HANDLER + VEC_UD * 16);
}

static void watchpoint_in_a_repeated_copy_stops_behind_the_element(void **state)
{
	static const uint8_t code[] = {0xbe, 0,	   0,	8, 0, /* mov esi, DATA */
				       0xbf, 0,	   0,	9, 0, /* mov edi, DATA + 10000h */
				       0xb9, 0,	   1,	0, 0, /* mov ecx, 100h */
				       0xf3, 0xa4, 0x41};     /* rep movsb; inc ecx */

	load(code, sizeof(code));
	points(1, DEBUG_WRITE, DATA + 0x10080, 1);
	memset(rig.board.ram + DATA, 0x5a, 0x100);
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_int_equal(v->debug.stop, DEBUG_STOP_WATCHPOINT);
	assert_int_equal(v->debug.stop_lin, DATA + 0x10080);
	assert_int_equal(v->gpr[RCX], 0x7f);
	assert_int_equal(v->gpr[RDI], DATA + 0x10081);
	assert_int_equal(rig_peek(&rig, DATA + 0x10081, 1), 0);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_memory_equal(rig.board.ram + DATA, rig.board.ram + DATA + 0x10000, 0x100);
	assert_int_equal(v->gpr[RCX], 1);
}

static void entries_are_counted_on_demand(void **state)
{
	struct mobo_engine_block b[2] = {0};

	LOAD(0xb9, 0, 1, 0, 0, 0x40, 0xe2, 0xfd);
	points(0, DEBUG_EXEC, 0, 0);
	fake_board_engine->debug->count(v, true);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(v->gpr[RAX], 0x100);
	assert_int_equal(fake_board_engine->debug->hot_blocks(v, b, 2), 2);
	assert_int_equal(b[0].lin, RIG_INSN + 5);
	assert_int_equal(b[0].count, 0xff);
	assert_in_range(b[0].guest_len, 3, 5); /* with INT 40, or without */
	assert_int_equal(b[1].count, 1);
	fake_board_engine->debug->count(v, false);
	assert_int_equal(fake_board_engine->debug->hot_blocks(v, b, 2), 0);
}

static void instructions_are_counted_without_the_debuggers_own(void **state)
{
	uint64_t n;

	LOAD(0x40, 0x43, 0x41);
	points(0, DEBUG_EXEC, 0, 0);
	n = v->n_insns;
	assert_int_equal(run(), MOBO_EXIT_HALT);
	n = v->n_insns - n;
	LOAD(0x40, 0x43, 0x41);
	points(1, DEBUG_EXEC, RIG_INSN + 1, 1);
	fake_board_engine->debug->count(v, true);
	v->n_insns = 0;
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_int_equal(v->n_insns, 1);
	assert_int_equal(step(), MOBO_EXIT_DEBUG);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(v->n_insns, n);
}

static void host_code_is_told_with_its_instructions(void **state)
{
	static struct mobo_engine_translation tr;
	const struct mobo_engine_debug *debug = fake_board_engine->debug;

	LOAD(0xb9, 0, 1, 0, 0, 0x40, 0xe2, 0xfd);
	points(0, DEBUG_EXEC, 0, 0);
	assert_int_equal(debug->translation(v, RIG_INSN + 6, &tr), -ENOENT);
	assert_int_equal(run(), MOBO_EXIT_HALT);
	assert_int_equal(debug->translation(v, RIG_INSN + 6, &tr), 0);
	assert_int_equal(tr.block.lin, RIG_INSN + 5);
	assert_int_equal(tr.n_marks, 2);
	assert_int_equal(tr.marks[0].guest_off, 0);
	assert_int_equal(tr.marks[0].host_off, 0);
	assert_int_equal(tr.marks[1].guest_off, 1);
	assert_in_range(tr.marks[1].host_off, 1, tr.block.host_len - 1);
	assert_memory_equal(tr.host, (const void *)(uintptr_t)tr.block.host, tr.block.host_len);
	assert_int_equal(debug->translation(v, RIG_INSN + 7, &tr), -ENOENT);
	points(1, DEBUG_EXEC, RIG_INSN + 6, 1);
	v->rip = RIG_INSN;
	v->halted = false;
	assert_int_equal(run(), MOBO_EXIT_DEBUG);
	assert_int_equal(debug->translation(v, RIG_INSN + 6, &tr), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run_all(const struct mobo_engine_ops *engine, const char *name)
{
	const struct CMUnitTest tests[] = {
		TEST(breakpoint_stops_before_its_instruction),
		TEST(breakpoint_stops_each_turn_of_a_loop),
		TEST(breakpoint_at_the_same_offset_of_another_page_is_passed),
		TEST(breakpoint_is_met_behind_sti_and_on_a_crossing_instruction),
		TEST(int3_of_the_guest_reaches_the_guest),
		TEST(step_over_a_fault_ends_at_the_handler),
		TEST(interrupts_wait_while_stepping),
		TEST(disarmed_step_does_not_stop),
		TEST(write_watchpoint_stops_behind_the_store),
		TEST(read_watchpoint_passes_stores),
		TEST(read_watchpoint_sees_what_is_modified),
		TEST(watchpoint_in_a_loop_stops_in_its_turn),
		TEST(watchpoint_on_what_a_call_pushes_stops_at_its_target),
		TEST(watchpoint_in_the_frame_of_an_exception_stops_at_the_handler),
		TEST(watchpoint_in_a_repeated_copy_stops_behind_the_element),
		TEST(entries_are_counted_on_demand),
	};

	fake_board_engine = engine;
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest of_the_interpreter[] = {
		TEST(instructions_are_counted_without_the_debuggers_own),
	};
	const struct CMUnitTest of_the_translator[] = {
		TEST(host_code_is_told_with_its_instructions),
	};
	int failed = run_all(&mobo_engine_interpreter, "interpreter");

	failed += cmocka_run_group_tests(of_the_interpreter, NULL, NULL);
	failed += run_all(&mobo_engine_translator, "translator");
	return failed + cmocka_run_group_tests(of_the_translator, NULL, NULL);
}
