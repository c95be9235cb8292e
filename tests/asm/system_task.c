/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware task switches: by JMP, CALL, IRET, through task gates and by exceptions, to 16- and
 * 32-bit tasks. Intel SDM volume 3 chapter 7, tables 7-1 and 7-2.
 */
#include "execute/debug.h"
#include "execute/far.h"
#include "execute/task.h"

#include "system_rig.h"

static struct rig rig;

enum {
	NEW_TSS = 0x7000,
	NEW_SEL = RIG_FREE,
	GATE_SEL = RIG_FREE + 8,
	ENTRY = 0x45000,
	BUSY_BYTE = RIG_GDT + NEW_SEL + 5,
	OLD_BUSY_BYTE = RIG_GDT + RIG_TSS_SEL + 5,
};

static void poke32(uint32_t gpa, uint32_t val)
{
	memcpy(rig.board.ram + gpa, &val, 4);
}

static void poke16(uint32_t gpa, uint16_t val)
{
	memcpy(rig.board.ram + gpa, &val, 2);
}

/* A 32-bit task of ring 0 at ENTRY, and the running task in RIG_TSS. */
static void prepare(void)
{
	rig_enter(&rig, false, 0);
	rig_gdt(&rig, RIG_TSS_SEL, rig_descriptor(RIG_TSS, 0xfff, 0x8b));
	rig_gdt(&rig, NEW_SEL, rig_descriptor(NEW_TSS, 0x67, 0x89));
	rig_gdt(&rig, GATE_SEL, rig_gate(NEW_SEL, 0, SYS_TASK_GATE, 3, 0));
	memset(rig.board.ram + NEW_TSS, 0, 0x80);
	poke32(NEW_TSS + 0x20, ENTRY);
	poke32(NEW_TSS + 0x24, FL_1);
	for (unsigned i = 0; i < 8; i++) {
		poke32(NEW_TSS + 0x28 + i * 4, 0x11111111 * i);
	}
	poke32(NEW_TSS + 0x28 + RSP * 4, 0x66000);
	for (unsigned s = 0; s < 6; s++) {
		poke32(NEW_TSS + 0x48 + s * 4, s == SEG_CS ? RIG_CODE : RIG_DATA);
	}
	rig.v->gpr[RAX] = 0xabcdef01;
}

static void expect_switched(const struct outcome *o)
{
	assert_int_equal(o->vector, -1);
	assert_int_equal(rig.v->rip, ENTRY);
	assert_int_equal(rig.v->gpr[RDI], 0x77777777);
	assert_int_equal(rig.v->gpr[RSP], 0x66000);
	assert_int_equal(rig.v->seg[SEG_TR].selector, NEW_SEL);
	assert_int_equal(rig.v->seg[SEG_TR].base, NEW_TSS);
	assert_true(rig.v->cr0 & CR0_TS);
	assert_true(rig_peek(&rig, BUSY_BYTE, 1) & 2);
	/* The old task's registers are in its TSS. */
	assert_int_equal(rig_peek(&rig, RIG_TSS + 0x20, 4), RIG_INSN + 3);
	assert_int_equal(rig_peek(&rig, RIG_TSS + 0x28, 4), 0xabcdef01);
	assert_int_equal(rig_peek(&rig, RIG_TSS + 0x48 + SEG_CS * 4, 2), RIG_CODE);
}

static void jump_leaves_the_old_task_free_and_unlinked(void **state)
{
	for (unsigned gate = 0; gate < 2; gate++) {
		struct outcome o;

		prepare();
		RIG_TRY(&rig, o, far_jump(rig.v, gate ? GATE_SEL : NEW_SEL, 0, 4));
		expect_switched(&o);
		assert_false(rig_peek(&rig, OLD_BUSY_BYTE, 1) & 2);
		assert_false(rig.v->rflags & FL_NT);
	}
}

static void call_nests_and_iret_returns(void **state)
{
	for (unsigned gate = 0; gate < 2; gate++) {
		struct outcome o;

		prepare();
		RIG_TRY(&rig, o, far_call(rig.v, gate ? GATE_SEL : NEW_SEL, 0, 4));
		expect_switched(&o);
		assert_true(rig_peek(&rig, OLD_BUSY_BYTE, 1) & 2);
		assert_true(rig.v->rflags & FL_NT);
		assert_int_equal(rig_peek(&rig, NEW_TSS, 2), RIG_TSS_SEL);

		rig.v->trace_rip = ENTRY;
		rig.v->insn = &rig.insn;
		RIG_TRY(&rig, o, far_iret(rig.v, 4));
		assert_int_equal(o.vector, -1);
		assert_int_equal(rig.v->rip, RIG_INSN + 3);
		assert_int_equal(rig.v->gpr[RAX], 0xabcdef01);
		assert_int_equal(rig.v->seg[SEG_TR].selector, RIG_TSS_SEL);
		assert_false(rig_peek(&rig, BUSY_BYTE, 1) & 2);
		assert_false(rig_peek(&rig, NEW_TSS + 0x24, 4) & FL_NT);
	}
}

static void exception_through_a_task_gate_pushes_its_error_code(void **state)
{
	struct outcome o;

	prepare();
	rig_poke64(&rig, RIG_IDT + VEC_GP * 8, rig_gate(NEW_SEL, 0, SYS_TASK_GATE, 0, 0));
	RIG_TRY(&rig, o, raise_error(rig.v, VEC_GP, 0x1234));
	assert_int_equal(o.vector, -2); /* none of the interrupt handlers */
	assert_int_equal(rig.v->rip, ENTRY);
	assert_int_equal(rig.v->gpr[RSP], 0x66000 - 4);
	assert_int_equal(rig_peek(&rig, 0x66000 - 4, 4), 0x1234);
	assert_int_equal(rig_peek(&rig, RIG_TSS + 0x20, 4), RIG_INSN); /* a fault */
	assert_true(rig_peek(&rig, RIG_TSS + 0x24, 4) & FL_RF);
	rig_tables(&rig, false);
}

static void task_of_16_bits_loads_words(void **state)
{
	struct outcome o;

	prepare();
	rig_gdt(&rig, NEW_SEL, rig_descriptor(NEW_TSS, 0x2b, 0x81));
	memset(rig.board.ram + NEW_TSS, 0, 0x80);
	poke16(NEW_TSS + 0x0e, 0x4567);
	poke16(NEW_TSS + 0x10, FL_1 | FL_CF);
	poke16(NEW_TSS + 0x12, 0x1122);
	for (unsigned s = 0; s < 4; s++) {
		poke16(NEW_TSS + 0x22 + s * 2, s == SEG_CS ? RIG_CODE : RIG_DATA);
	}
	RIG_TRY(&rig, o, far_jump(rig.v, NEW_SEL, 0, 4));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->rip, 0x4567);
	assert_int_equal(rig.v->gpr[RAX] & 0xffff, 0x1122);
	assert_true(vcpu_rflags(rig.v) & FL_CF);
	assert_true(rig.v->seg[SEG_FS].attr & SEG_UNUSABLE);
}

static void debug_bit_traps_before_the_first_instruction(void **state)
{
	struct outcome o;

	prepare();
	rig.v->dr[6] = DR6_FIXED;
	poke16(NEW_TSS + 0x64, 1);
	RIG_TRY(&rig, o, far_jump(rig.v, NEW_SEL, 0, 4));
	assert_int_equal(o.vector, -1);
	assert_true(rig.v->stepping);
	assert_true(debug_insn_start(rig.v));
	assert_int_equal(rig_raised(&rig).vector, VEC_DB);
	assert_true(rig.v->dr[6] == (DR6_FIXED | DR6_BT));
	assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP], 4), ENTRY);
}

/* Before the switch: faults of the old task. */
static void bad_tss_descriptors_fault_in_the_old_task(void **state)
{
	static const struct {
		uint32_t limit, attr;
		int vector;
	} cases[] = {
		{0x67, 0x8b, VEC_GP}, /* busy */
		{0x67, 0x09, VEC_NP}, {0x66, 0x89, VEC_TS},
		{0x2a, 0x81, VEC_TS}, {0x67, 0x82, VEC_GP}, /* an LDT */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct outcome o;

		prepare();
		rig_gdt(&rig, NEW_SEL, rig_descriptor(NEW_TSS, cases[i].limit, cases[i].attr));
		RIG_TRY(&rig, o, far_jump(rig.v, NEW_SEL, 0, 4));
		assert_int_equal(o.vector, cases[i].vector);
		assert_int_equal(o.error, NEW_SEL);
		assert_int_equal(rig.v->seg[SEG_TR].selector, RIG_TSS_SEL);
		assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP] + 4, 4), RIG_INSN);
	}
}

/* After the switch: faults of the new one. */
static void bad_data_segment_faults_in_the_new_task(void **state)
{
	struct outcome o;

	prepare();
	poke16(NEW_TSS + 0x48 + SEG_DS * 4, 0xff8);
	rig.v->gdtr.limit = 0xff7;
	RIG_TRY(&rig, o, far_jump(rig.v, NEW_SEL, 0, 4));
	assert_int_equal(rig.v->seg[SEG_TR].selector, NEW_SEL);
	assert_int_equal(o.vector, VEC_TS);
	assert_int_equal(o.error, 0xff8);
	assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP] + 4, 4), ENTRY);
}

/* #TS of the new task, whose frame needs the stack that was not loaded: #SS, #DF, shutdown. */
static void bad_code_stack_or_ldt_leave_no_stack_for_the_fault(void **state)
{
	static const struct {
		unsigned at;
		uint16_t sel;
	} cases[] = {
		{0x48 + SEG_CS * 4, RIG_DATA},
		{0x48 + SEG_CS * 4, 0},
		{0x48 + SEG_SS * 4, RIG_CODE},
		{0x48 + SEG_SS * 4, RIG_DATA + 8 + 1},
		{0x60, RIG_DATA},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct outcome o;

		prepare();
		poke16(NEW_TSS + cases[i].at, cases[i].sel);
		RIG_TRY(&rig, o, far_jump(rig.v, NEW_SEL, 0, 4));
		assert_int_equal(o.vector, -2);
		assert_true(rig.v->shutdown);
		assert_int_equal(rig.v->seg[SEG_TR].selector, NEW_SEL);
	}
}

static void iret_with_a_bad_link_raises_ts(void **state)
{
	struct outcome o;

	prepare();
	rig.v->rflags |= FL_NT;
	poke16(RIG_TSS, NEW_SEL); /* not busy */
	RIG_TRY(&rig, o, far_iret(rig.v, 4));
	assert_int_equal(o.vector, VEC_TS);
	assert_int_equal(o.error, NEW_SEL);
}

static void switch_clears_local_breakpoints(void **state)
{
	struct outcome o;

	prepare();
	debug_set_dr(rig.v, 7, 0x3ff);
	RIG_TRY(&rig, o, far_jump(rig.v, NEW_SEL, 0, 4));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->dr[7], 0x400 | 0x2aa);
	debug_set_dr(rig.v, 7, 0);
}

static int set_up(void **state)
{
	return rig_init(&rig);
}

static int tear_down(void **state)
{
	fake_board_finish(&rig.board);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jump_leaves_the_old_task_free_and_unlinked),
		cmocka_unit_test(call_nests_and_iret_returns),
		cmocka_unit_test(exception_through_a_task_gate_pushes_its_error_code),
		cmocka_unit_test(task_of_16_bits_loads_words),
		cmocka_unit_test(debug_bit_traps_before_the_first_instruction),
		cmocka_unit_test(bad_tss_descriptors_fault_in_the_old_task),
		cmocka_unit_test(bad_data_segment_faults_in_the_new_task),
		cmocka_unit_test(bad_code_stack_or_ldt_leave_no_stack_for_the_fault),
		cmocka_unit_test(iret_with_a_bad_link_raises_ts),
		cmocka_unit_test(switch_clears_local_breakpoints),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
