/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug registers; where debug traps, interrupts and NMIs come between instructions, and which of
 * two faults comes first. Run as machine code. Expected values: Intel SDM volume 3 6.7, 6.8, 17.2,
 * and AMD64 manual where the vendors differ.
 */
#include "execute/debug.h"
#include "execute/far.h"

#include "one_rig.h"

static struct outcome write_dr(unsigned n, uint64_t val)
{
	rig.v->gpr[RAX] = val;
	return RIG_CODE_RUN(&rig, 0x0f, 0x23, (uint8_t)(0xc0 | n << 3));
}

/* -- Debug registers -- */

static void debug_registers_keep_their_fixed_bits(void **state)
{
	enter_protected(0);
	expect(write_dr(6, 0), -1);
	assert_true(rig.v->dr[6] == 0xffff0ff0);
	expect(write_dr(6, UINT32_MAX), -1);
	assert_true(rig.v->dr[6] == 0xffffefff);
	expect(write_dr(7, 0), -1);
	assert_true(rig.v->dr[7] == 0x400);
	enter_long(0);
	expect(write_dr(7, 1ull << 32), VEC_GP);
	expect(write_dr(6, 1ull << 32), VEC_GP);
}

static void dr4_is_dr6_unless_de(void **state)
{
	enter_protected(0);
	expect(write_dr(4, 0xf), -1);
	assert_true(rig.v->dr[6] == 0xffff0fff);
	rig.v->cr4 |= CR4_DE;
	expect(write_dr(4, 0), VEC_UD);
}

static void general_detect_raises_db_before_the_move(void **state)
{
	enter_protected(0);
	rig.v->dr[6] = DR6_FIXED;
	rig.v->dr[7] = 0x2400;
	expect(write_dr(0, 0x1234), VEC_DB);
	assert_true(rig.v->dr[6] == (DR6_FIXED | DR6_BD));
	assert_true(rig.v->dr[7] == 0x400);
	assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP], 4), RIG_INSN);
}

static uint32_t pushed_eip(void)
{
	return (uint32_t)rig_peek(&rig, (uint32_t)rig.v->gpr[RSP], 4);
}

static void single_step_traps_after_the_next_instruction(void **state)
{
	enter_protected(0);
	rig.v->dr[6] = DR6_FIXED;
	/* PUSHF; OR dword [ESP], 100h; POPF; NOP; NOP */
	expect(RIG_CODE_RUN(&rig, 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90), VEC_DB);
	assert_true(rig.v->dr[6] == (DR6_FIXED | DR6_BS));
	assert_int_equal(pushed_eip(), RIG_INSN + 10);
}

static void code_breakpoint_faults_before_the_instruction(void **state)
{
	enter_protected(0);
	rig.v->dr[6] = DR6_FIXED;
	debug_set_dr(rig.v, 1, RIG_INSN + 2);
	debug_set_dr(rig.v, 7, 1 << 2);
	expect(RIG_CODE_RUN(&rig, 0x90, 0x90, 0x40, 0x90), VEC_DB);
	assert_true(rig.v->dr[6] == (DR6_FIXED | 2));
	assert_int_equal(pushed_eip(), RIG_INSN + 2);
	assert_int_equal(rig.v->gpr[RAX], 0);
}

static void data_breakpoint_traps_after_the_instruction(void **state)
{
	enter_protected(0);
	rig.v->dr[6] = DR6_FIXED;
	rig.v->gpr[RBX] = 0x70000;
	debug_set_dr(rig.v, 0, 0x70004);
	debug_set_dr(rig.v, 7, 1 | 1 << 16 | 3 << 18);
	/* MOV EAX,[EBX+4]; MOV [EBX],EAX; MOV [EBX+3],AX; NOP: the last store hits */
	expect(RIG_CODE_RUN(&rig, 0x8b, 0x43, 4, 0x89, 0x03, 0x66, 0x89, 0x43, 3, 0x90), VEC_DB);
	assert_true(rig.v->dr[6] == (DR6_FIXED | 1));
	assert_int_equal(pushed_eip(), RIG_INSN + 9);
}

static void mov_ss_holds_off_the_trap_of_its_own_step(void **state)
{
	enter_protected(0);
	rig.v->dr[6] = DR6_FIXED;
	rig.v->gpr[RCX] = RIG_DATA;
	vcpu_set_rflags(rig.v, FL_1 | FL_TF);
	/* MOV SS,ECX; NOP; NOP: the first trap comes behind the NOP */
	expect(RIG_CODE_RUN(&rig, 0x8e, 0xd1, 0x90, 0x90), VEC_DB);
	assert_int_equal(pushed_eip(), RIG_INSN + 3);
}

static void sti_lets_one_instruction_pass(void **state)
{
	enter_protected(0);
	fake_board_raise(rig.v, 0x55);
	/* STI; INC EAX; INC EAX */
	expect(RIG_CODE_RUN(&rig, 0xfb, 0x40, 0x40), 0x55);
	assert_int_equal(rig.v->gpr[RAX], 1);
	assert_int_equal(pushed_eip(), RIG_INSN + 2);
}

static void an_nmi_does_not_come_right_behind_sti(void **state)
{
	enter_protected(0);
	rig.v->rflags |= FL_IF;
	rig.v->shadow = SHADOW_STI;
	vcpu_update_req_mask(rig.v);
	vcpu_request(rig.v, REQ_NMI);
	/* INC EAX; INC EAX */
	expect(RIG_CODE_RUN(&rig, 0x40, 0x40), VEC_NMI);
	assert_int_equal(rig.v->gpr[RAX], 1);
	assert_int_equal(pushed_eip(), RIG_INSN + 1);
}

/* As some AMD processors do, repeated or not. */
static void cmps_faults_at_its_second_operand_first(void **state)
{
	static const uint8_t code[] = {0xf3, 0xa6};

	for (unsigned n = 0; n < 2; n++) {
		enter_long(0);
		rig.v->gpr[RSI] = 1ull << 40;
		rig.v->gpr[RDI] = 1ull << 41;
		rig.v->gpr[RCX] = 3;
		expect(rig_run(&rig, code + n, 2 - n), VEC_PF);
		assert_int_equal(rig.v->cr2, 1ull << 41);
		assert_int_equal(rig.v->gpr[RCX], 3);
	}
}

static void two_nmis_at_once_are_both_taken_and_more_at_iret_are_one(void **state)
{
	enter_protected(0);
	rig.v->nmi_blocked = false;
	vcpu_update_req_mask(rig.v);
	vcpu_request(rig.v, REQ_NMI | REQ_NMI_2);
	expect(RIG_CODE_RUN(&rig, 0x40), VEC_NMI);
	assert_int_equal(rig.v->req & (REQ_NMI | REQ_NMI_2), REQ_NMI);
	assert_true(rig.v->nmi_blocked);
	vcpu_request(rig.v, REQ_NMI_2);
	far_iret(rig.v, 4);
	assert_int_equal(rig.v->req & (REQ_NMI | REQ_NMI_2), REQ_NMI);
	expect(RIG_CODE_RUN(&rig, 0x40), VEC_NMI);
	assert_int_equal(rig.v->req & (REQ_NMI | REQ_NMI_2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(debug_registers_keep_their_fixed_bits),
		cmocka_unit_test(dr4_is_dr6_unless_de),
		cmocka_unit_test(general_detect_raises_db_before_the_move),
		cmocka_unit_test(single_step_traps_after_the_next_instruction),
		cmocka_unit_test(code_breakpoint_faults_before_the_instruction),
		cmocka_unit_test(data_breakpoint_traps_after_the_instruction),
		cmocka_unit_test(mov_ss_holds_off_the_trap_of_its_own_step),
		cmocka_unit_test(sti_lets_one_instruction_pass),
		cmocka_unit_test(an_nmi_does_not_come_right_behind_sti),
		cmocka_unit_test(cmps_faults_at_its_second_operand_first),
		cmocka_unit_test(two_nmis_at_once_are_both_taken_and_more_at_iret_are_one),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
