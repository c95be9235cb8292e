/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control, debug and model-specific registers, CPUID, privileged instructions and single-stepping,
 * run as machine code. Expected values: Intel SDM volume 2 (each instruction), volume 3 2.5, 17.2,
 * and AMD64 manual where the vendors differ.
 */
#include "execute/cpuid.h"
#include "execute/debug.h"
#include "execute/far.h"
#include "execute/system.h"

#include "system_rig.h"

static struct rig rig;

static void expect(struct outcome o, int vector)
{
	assert_int_equal(o.vector, vector);
	if (vector == VEC_GP) {
		assert_int_equal(o.error, 0);
	}
}

/* MOV CRn, RAX with a value. */
static struct outcome write_cr(unsigned n, uint64_t val)
{
	rig.v->gpr[RAX] = val;
	if (n == 8) {
		return RIG_CODE_RUN(&rig, 0x44, 0x0f, 0x22, 0xc0);
	}
	return RIG_CODE_RUN(&rig, 0x0f, 0x22, (uint8_t)(0xc0 | n << 3));
}

static struct outcome write_dr(unsigned n, uint64_t val)
{
	rig.v->gpr[RAX] = val;
	return RIG_CODE_RUN(&rig, 0x0f, 0x23, (uint8_t)(0xc0 | n << 3));
}

static void enter_long(unsigned cpl)
{
	rig_tables(&rig, true);
	rig_enter(&rig, true, cpl);
}

static void enter_protected(unsigned cpl)
{
	rig_tables(&rig, false);
	rig_enter(&rig, false, cpl);
}

struct cr_case {
	bool lng;
	unsigned cr;
	uint64_t val;
	bool ok;
};

static void control_register_writes_are_checked(void **state)
{
	static const struct cr_case cases[] = {
		{false, 0, CR0_PG | CR0_ET, false}, /* PG without PE */
		{false, 0, CR0_PE | CR0_NW, false}, /* NW without CD */
		{false, 0, CR0_PE | CR0_CD | CR0_NW, true},
		{false, 4, 1 << 13, false},   /* VMXE is not offered */
		{false, 4, 1 << 12, false},   /* LA57 */
		{false, 4, CR4_PCIDE, false}, /* not in long mode */
		{false, 4, CR4_SMEP | CR4_SMAP | CR4_UMIP | CR4_FSGSBASE, true},
		{true, 0, CR0_PE | CR0_ET, false}, /* PG cleared in 64-bit mode */
		{true, 0, 1ull << 32 | CR0_PG | CR0_PE, false},
		{true, 4, 0, false}, /* PAE cleared in long mode */
		{true, 4, CR4_PAE | CR4_PCIDE, true},
		{true, 4, 1ull << 32 | CR4_PAE, false},
		{true, 3, 1ull << 40 | RIG_PAGES, false}, /* above MAXPHYADDR */
		{true, 3, 1ull << 63 | RIG_PAGES, false}, /* no PCIDE: reserved */
		{true, 8, 15, true},
		{true, 8, 16, false},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct cr_case *c = &cases[i];

		c->lng ? enter_long(0) : enter_protected(0);
		expect(write_cr(c->cr, c->val), c->ok ? -1 : VEC_GP);
	}
}

static void absent_control_registers_are_undefined(void **state)
{
	static const uint8_t absent[] = {1, 5, 6, 7};

	for (unsigned i = 0; i < 4; i++) {
		enter_protected(0);
		expect(write_cr(absent[i], 0), VEC_UD);
	}
}

static void pcid_needs_clear_low_bits_and_keeps_on_noflush(void **state)
{
	enter_long(0);
	rig.v->cr3 |= 0x18;
	expect(write_cr(4, CR4_PAE | CR4_PCIDE), VEC_GP);
	enter_long(0);
	expect(write_cr(4, CR4_PAE | CR4_PCIDE), -1);
	/* Bit 63 is taken and not kept; paging cannot end while PCIDs are on. */
	enter_long(0);
	rig.v->cr4 |= CR4_PCIDE;
	expect(write_cr(3, 1ull << 63 | RIG_PAGES | 5), -1);
	assert_true(rig.v->cr3 == (RIG_PAGES | 5));
}

static void pae_reserved_pdpte_bits_raise_gp(void **state)
{
	enter_protected(0);
	rig_poke64(&rig, 0x7000, 0x8000 | 1);
	rig_poke64(&rig, 0x7008, 0x8000 | 3); /* bit 1 is reserved */
	rig.v->cr4 |= CR4_PAE;
	rig.v->cr3 = 0x7000;
	expect(write_cr(0, CR0_PG | CR0_PE | CR0_ET), VEC_GP);
	assert_false(rig.v->cr0 & CR0_PG);
	rig_poke64(&rig, 0x7008, 0);
}

static void lmsw_sets_pe_and_never_clears_it(void **state)
{
	enter_protected(0);
	rig.v->gpr[RAX] = CR0_TS;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xf0), -1);
	assert_int_equal(rig.v->cr0 & 0xf, CR0_PE | CR0_TS);
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x06), -1); /* CLTS */
	assert_int_equal(rig.v->cr0 & 0xf, CR0_PE);
}

/* Instructions of ring 0 alone. */
static void privileged_instructions_raise_gp_outside_ring_0(void **state)
{
	static const uint8_t code[][3] = {
		{0x0f, 0x20, 0xc0}, {0x0f, 0x22, 0xd8}, {0x0f, 0x21, 0xf8}, {0x0f, 0x23, 0xf8},
		{0x0f, 0x06, 0x90}, {0x0f, 0x08, 0x90}, {0x0f, 0x09, 0x90}, {0x0f, 0x30, 0x90},
		{0x0f, 0x32, 0x90}, {0x0f, 0x01, 0x10}, {0x0f, 0x01, 0x18}, {0x0f, 0x01, 0x38},
		{0x0f, 0x01, 0xf0}, {0x0f, 0x00, 0xd0}, {0x0f, 0x00, 0xd8}, {0xf4, 0x90, 0x90},
		{0xfa, 0x90, 0x90}, {0xfb, 0x90, 0x90},
	};

	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		for (unsigned cpl = 1; cpl < 4; cpl++) {
			enter_protected(cpl);
			rig.v->gpr[RAX] = 0x70000;
			expect(rig_run(&rig, code[i], 3), VEC_GP);
			enter_long(cpl);
			rig.v->gpr[RAX] = 0x70000;
			expect(rig_run(&rig, code[i], 3), VEC_GP);
		}
	}
}

static void umip_closes_the_store_instructions(void **state)
{
	static const uint8_t code[][3] = {
		{0x0f, 0x01, 0x00}, {0x0f, 0x01, 0x08}, {0x0f, 0x00, 0x00},
		{0x0f, 0x00, 0x08}, {0x0f, 0x01, 0x20}, {0x0f, 0x01, 0xe0},
	};

	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		for (unsigned on = 0; on < 2; on++) {
			for (unsigned cpl = 0; cpl < 4; cpl += 3) {
				enter_protected(cpl);
				rig.v->cr4 |= on ? CR4_UMIP : 0;
				rig.v->gpr[RAX] = 0x70000;
				expect(rig_run(&rig, code[i], 3), on && cpl ? VEC_GP : -1);
			}
		}
	}
}

static void tables_load_and_store_in_their_forms(void **state)
{
	static const uint8_t image[10] = {0x34, 0x12, 0x78, 0x56, 0x34, 0x92, 0, 0, 0, 0};

	enter_protected(0);
	rig.v->gpr[RAX] = 0x70000;
	memcpy(rig.board.ram + 0x70000, image, 10);
	/* LGDT with 16-bit operands takes 24 bits of the base; nothing works with that table. */
	expect(RIG_CODE_RUN(&rig, 0x66, 0x0f, 0x01, 0x10), -2);
	assert_true(rig.v->gdtr.base == 0x345678 && rig.v->gdtr.limit == 0x1234);
	enter_long(0);
	rig.v->gpr[RAX] = 0x70000;
	memset(rig.board.ram + 0x70008, 0x80, 2); /* not canonical */
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0x10), VEC_GP);
	enter_long(0);
	rig.v->gpr[RAX] = 0x70000;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0x08), -1);
	assert_int_equal(rig_peek(&rig, 0x70000, 2), 0xfff);
	assert_true(rig_peek(&rig, 0x70002, 8) == RIG_IDT);
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

/* -- Virtual-8086 and protected-mode virtual interrupts -- */

static void pvi_turns_cli_and_sti_to_vif(void **state)
{
	enter_protected(3);
	rig.v->cr4 |= CR4_PVI;
	rig.v->rflags |= FL_IF;
	expect(RIG_CODE_RUN(&rig, 0xfb), -1);
	assert_true(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP] + 8, 4) & FL_VIF);
	enter_protected(3);
	rig.v->cr4 |= CR4_PVI;
	rig.v->rflags |= FL_IF | FL_VIP;
	expect(RIG_CODE_RUN(&rig, 0xfb), VEC_GP);
}

static void popf_changes_if_and_iopl_by_privilege(void **state)
{
	static const struct {
		unsigned cpl, iopl;
		uint32_t want;
	} cases[] = {
		{0, 0, FL_IF | FL_IOPL}, {1, 0, 0}, {1, 1, FL_IF | 1 << 12}, {3, 2, 2 << 12},
		{3, 3, FL_IF | FL_IOPL},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t frame;

		enter_protected(cases[i].cpl);
		rig.v->rflags |= cases[i].iopl << 12;
		/* PUSH 3202h; POPF */
		expect(RIG_CODE_RUN(&rig, 0x68, 2, 0x32, 0, 0, 0x9d), -1);
		frame = (uint32_t)rig_peek(&rig, (uint32_t)rig.v->gpr[RSP] + 8, 4);
		assert_int_equal(frame & (FL_IF | FL_IOPL), cases[i].want);
	}
}

/* -- I/O permission -- */

static void io_bitmap_decides_above_iopl(void **state)
{
	for (unsigned bit = 0; bit < 2; bit++) {
		enter_protected(3);
		memset(rig.board.ram + RIG_TSS + 0x68, 0, 0x40);
		rig_poke64(&rig, RIG_TSS + 0x60, (uint64_t)0x68 << 48);
		rig.board.ram[RIG_TSS + 0x68 + 0x81 / 8] = (uint8_t)(bit << (0x81 % 8));
		expect(RIG_CODE_RUN(&rig, 0xe4, 0x80), -1);
		enter_protected(3);
		rig_poke64(&rig, RIG_TSS + 0x60, (uint64_t)0x68 << 48);
		expect(RIG_CODE_RUN(&rig, 0x66, 0xe5, 0x80), bit ? VEC_GP : -1);
		enter_protected(3);
		rig_poke64(&rig, RIG_TSS + 0x60, (uint64_t)0x68 << 48);
		rig.v->seg[SEG_TR].limit = 0x68 + 0x80 / 8;
		expect(RIG_CODE_RUN(&rig, 0xe4, 0x80), VEC_GP);
	}
}

/* -- MSRs and CPUID -- */

static void msrs_refuse_what_the_manual_refuses(void **state)
{
	static const struct {
		uint32_t msr;
		uint64_t val;
		bool ok;
	} cases[] = {
		{0x277, 0x0007040600070406, true},
		{0x277, 0x0207040600070406, false},
		{0x277, 8, false},
		{0x2ff, 0xc06, true},
		{0x2ff, 0xc02, false},
		{0x2ff, 0x1c06, false},
		{0x200, 0xe0000006, true},
		{0x200, 0xe0000002, false},
		{0x201, 0xff80000800, true},
		{0x201, 1ull << 40, false},
		{0x250, 0x0606060606060606, true},
		{0x250, 0x0206060606060606, false},
		{0x20f, 0x800, true},
		{0x210, 0, false},
		{0xc0000080, 1 << 1, false},
		{0xc0000080, EFER_NXE | EFER_SCE, true},
		{0xc0000082, 1ull << 47, false},
		{0xc0000082, 0xffff800000000000, true},
		{0xc0000100, 1ull << 47, false},
		{0x12345678, 0, false},
		{0xfe, 0, false},
		{0x179, 0, false},
		{0x400, 0, true},
		{0x401, 1, false},
		{0x49, 0, true},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enter_protected(0);
		assert_int_equal(msr_write(rig.v, cases[i].msr, cases[i].val), cases[i].ok);
	}
	for (unsigned n = 0; n < 16; n++) {
		msr_write(rig.v, 0x200 + n, 0);
	}
}

static void tsc_and_tsc_adjust_move_together(void **state)
{
	uint64_t before, val;

	enter_protected(0);
	msr_write(rig.v, 0x3b, 0);
	msr_read(rig.v, 0x10, &before);
	assert_true(msr_write(rig.v, 0x3b, 1000000));
	msr_read(rig.v, 0x10, &val);
	assert_in_range(val - before, 1000000, 1000100);
	assert_true(msr_write(rig.v, 0x10, 5000000000));
	msr_read(rig.v, 0x3b, &val);
	assert_in_range(val, 5000000000 - before + 1000000 - 1000100, 5000001000);
}

static void tsd_closes_rdtsc_to_rings_above_0(void **state)
{
	enter_protected(3);
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x31), -1);
	rig_enter(&rig, false, 3);
	rig.v->cr4 |= CR4_TSD;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x31), VEC_GP);
	rig_enter(&rig, false, 0);
	rig.v->cr4 |= CR4_TSD;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x31), -1);
}

static void cpuid_promises_what_control_registers_take(void **state)
{
	uint32_t r[4], host_max[4];

	enter_protected(0);
	cpuid_query(rig.v, 0x80000008, 0, r);
	assert_int_equal(r[0] & 0xffff, 40 | 48 << 8);
	cpuid_query(rig.v, 1, 0, r);
	assert_false(r[2] >> 31);		/* hypervisor */
	assert_false(r[2] & (1 << 5 | 1 << 3)); /* VMX, MONITOR */
	assert_int_equal(!!(r[2] & 1 << 28), cpuid_has(FEAT_AVX));
	assert_false(r[2] & 1 << 27); /* OSXSAVE follows CR4 */
	rig.v->cr4 |= CR4_OSXSAVE;
	cpuid_query(rig.v, 1, 0, r);
	assert_true(r[2] & 1 << 27);
	cpuid_query(rig.v, 7, 0, r);
	assert_false(r[1] & (1 << 4 | 1 << 11 | 1 << 16)); /* HLE, RTM, AVX-512 */
	assert_int_equal(!!(r[1] & 1 << 5), cpuid_has(FEAT_AVX2));
	cpuid_query(rig.v, 0x40000000, 0, r);
	assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	cpuid_query(rig.v, 0x80000001, 0, r);
	assert_false(r[2] & 1 << 2); /* SVM */
	cpuid_query(rig.v, 0, 0, host_max);
	cpuid_query(rig.v, host_max[0] + 1, 0, r);
	assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
}

static void xsetbv_takes_x87_then_sse_then_avx(void **state)
{
	bool avx = cpuid_has(FEAT_AVX);

	for (uint32_t val = 0; val < 16; val++) {
		enter_protected(0);
		rig.v->cr4 |= CR4_OSXSAVE;
		rig.v->gpr[RAX] = val;
		expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd1),
		       val == 1 || val == 3 || (val == 7 && avx) ? -1 : VEC_GP);
	}
	enter_protected(0);
	rig.v->gpr[RAX] = 1;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd1), VEC_UD);
	rig.v->xcr0 = 1;
}

static void monitor_vmcall_and_rsm_are_undefined(void **state)
{
	static const uint8_t code[][3] = {
		{0x0f, 0x01, 0xc8}, {0x0f, 0x01, 0xc9},
		{0x0f, 0x01, 0xc1}, {0x0f, 0x01, 0xd9},
		{0x0f, 0xaa, 0x90}, {0x0f, 0x0b, 0x90},
		{0x0f, 0xff, 0xc0}, {0x0f, 0xb9, 0xc0},
		{0x0f, 0x01, 0xd8}, {0x0f, 0x01, 0xf8 /* SWAPGS: 64-bit mode alone */},
	};

	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		enter_protected(0);
		expect(rig_run(&rig, code[i], 3), VEC_UD);
	}
}

/* Linux, Documentation/virt/kvm/x86/cpuid.rst. */
static void hypervisor_leaves_are_kvms_where_shown(void **state)
{
	uint32_t r[4];

	rig.v->paravirt = true;
	cpuid_query(rig.v, 1, 0, r);
	assert_true(r[2] >> 31);
	cpuid_query(rig.v, 0x40000000, 0, r);
	assert_int_equal(r[0], 0x40000010);
	assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
	cpuid_query(rig.v, 0x40000001, 0, r);
	assert_int_equal(r[0], 1 << 0 | 1 << 1 | 1 << 3 | 1 << 11 | 1 << 24);
	assert_int_equal(r[1] | r[2] | r[3], 0);
	cpuid_query(rig.v, 0x40000010, 0, r);
	assert_int_equal(r[0], 1000000);
	assert_int_equal(r[1], 1000000);
	cpuid_query(rig.v, 0x40000002, 0, r);
	assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	rig.v->paravirt = false;
}

static void clock_msrs_exist_where_shown(void **state)
{
	static const uint32_t pairs[][2] = {{0x11, 0x12}, {0x4b564d00, 0x4b564d01}};
	uint64_t val;

	enter_protected(0);
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 2; k++) {
			assert_false(msr_read(rig.v, pairs[i][k], &val));
			assert_false(msr_write(rig.v, pairs[i][k], 0x9001));
		}
		rig.v->paravirt = true;
		rig.board.n_clock_changes = 0;
		assert_true(msr_write(rig.v, pairs[i][0], 0x9000 + i));
		assert_int_equal(rig.board.wall_gpa, 0x9000 + i);
		assert_int_equal(rig.board.n_clock_changes, 0);
		assert_true(msr_write(rig.v, pairs[i][1], 0xa001 + i));
		assert_int_equal(rig.board.n_clock_changes, 1);
		for (unsigned k = 0; k < 2; k++) { /* each reads by its other number too */
			assert_true(msr_read(rig.v, pairs[1 - i][k], &val));
			assert_int_equal(val, (k ? 0xa001 : 0x9000) + i);
		}
		rig.v->paravirt = false;
	}
	mobo_engine_interpreter.reset(rig.v, true);
	assert_int_equal(rig.v->kvm_system_time | rig.v->kvm_wall_clock, 0);
}

/* Linux, Documentation/virt/kvm/x86/hypercalls.rst; errors of include/uapi/linux/kvm_para.h. */
static void hypercalls_answer_as_kvm_does(void **state)
{
	static const uint8_t code[][3] = {{0x0f, 0x01, 0xc1}, {0x0f, 0x01, 0xd9}};
	static const struct {
		bool lng;
		unsigned cpl;
		uint64_t rax, rbx, rcx, expected, rdx, rsi;
	} cases[] = {
		{true, 0, 99, 0, 0, (uint64_t)-1000},
		{false, 0, 99, 0, 0, (uint32_t)-1000},
		{true, 3, 1, 0, 0, (uint64_t)-1},
		{false, 3, 1, 0, 0, (uint32_t)-1},
		{true, 0, 1, 0, 0, 0},
		{true, 0, 9, 0x9000, 0, 0},
		{true, 0, 9, 1ull << 40, 0, (uint64_t)-14},
		{false, 0, 9ull | 1ull << 32, 0x9000 | 1ull << 40, 1ull << 32, 0},
		{true, 0, 9, 0x9000, 1, (uint64_t)-95},
		{true, 0, 10, 7, 0, 2, 0, 0x400}, /* the fake board's CPUs are 0 and 1 */
		{true, 0, 10, 3, 0, 1, 1, 0x40},
		{true, 0, 10, 0xffffffff, 0, 0, 0xffffffff, 0x40},
		{false, 0, 10, 1ull << 32 | 1, 0, 1, 1, 0x40},
		{true, 0, 10, 1, 0, (uint64_t)-22, 0, 0x840},
	};

	for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t rax;

		rig_tables(&rig, cases[i / 2].lng);
		rig_enter(&rig, cases[i / 2].lng, cases[i / 2].cpl);
		rig.v->paravirt = true;
		rig.v->gpr[RAX] = cases[i / 2].rax;
		rig.v->gpr[RBX] = cases[i / 2].rbx;
		rig.v->gpr[RCX] = cases[i / 2].rcx;
		rig.v->gpr[RDX] = cases[i / 2].rdx;
		rig.v->gpr[RSI] = cases[i / 2].rsi;
		expect(rig_run(&rig, code[i % 2], 3), -1);
		if (cases[i / 2].rsi && cases[i / 2].expected == 1) {
			assert_int_equal(rig.board.last_icr, cases[i / 2].rsi);
		}
		rax = rig.v->gpr[RAX];
		rig.v->paravirt = false;
		assert_int_equal(rax, cases[i / 2].expected);
	}
	rig_tables(&rig, false);
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
		cmocka_unit_test(control_register_writes_are_checked),
		cmocka_unit_test(absent_control_registers_are_undefined),
		cmocka_unit_test(pcid_needs_clear_low_bits_and_keeps_on_noflush),
		cmocka_unit_test(pae_reserved_pdpte_bits_raise_gp),
		cmocka_unit_test(lmsw_sets_pe_and_never_clears_it),
		cmocka_unit_test(privileged_instructions_raise_gp_outside_ring_0),
		cmocka_unit_test(umip_closes_the_store_instructions),
		cmocka_unit_test(tables_load_and_store_in_their_forms),
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
		cmocka_unit_test(pvi_turns_cli_and_sti_to_vif),
		cmocka_unit_test(popf_changes_if_and_iopl_by_privilege),
		cmocka_unit_test(io_bitmap_decides_above_iopl),
		cmocka_unit_test(msrs_refuse_what_the_manual_refuses),
		cmocka_unit_test(tsc_and_tsc_adjust_move_together),
		cmocka_unit_test(tsd_closes_rdtsc_to_rings_above_0),
		cmocka_unit_test(cpuid_promises_what_control_registers_take),
		cmocka_unit_test(xsetbv_takes_x87_then_sse_then_avx),
		cmocka_unit_test(monitor_vmcall_and_rsm_are_undefined),
		cmocka_unit_test(hypervisor_leaves_are_kvms_where_shown),
		cmocka_unit_test(clock_msrs_exist_where_shown),
		cmocka_unit_test(hypercalls_answer_as_kvm_does),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
