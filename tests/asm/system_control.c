/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control registers and descriptor tables, what is refused by privilege and what is undefined, run
 * as machine code. Expected values: Intel SDM volume 2 (each instruction), volume 3 2.5, and AMD64
 * manual where the vendors differ.
 */
#include "execute/cpuid.h"

#include "one_rig.h"

/* MOV CRn, RAX with a value. */
static struct outcome write_cr(unsigned n, uint64_t val)
{
	rig.v->gpr[RAX] = val;
	if (n == 8) {
		return RIG_CODE_RUN(&rig, 0x44, 0x0f, 0x22, 0xc0);
	}
	return RIG_CODE_RUN(&rig, 0x0f, 0x22, (uint8_t)(0xc0 | n << 3));
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
		{false, 4, CR4_PKE | CR4_PKS, true},
		{false, 4, 1 << 23, false},	   /* CET */
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

/* -- Descriptor tables -- */

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

/* -- Privileged and undefined instructions -- */

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

static void pcommit_is_a_fence_of_one_form(void **state)
{
	for (unsigned cpl = 0; cpl < 4; cpl += 3) {
		enter_protected(cpl);
		expect(RIG_CODE_RUN(&rig, 0x66, 0x0f, 0xae, 0xf8), -1);
		enter_long(cpl);
		expect(RIG_CODE_RUN(&rig, 0x66, 0x0f, 0xae, 0xf8), -1);
		enter_long(cpl);
		expect(RIG_CODE_RUN(&rig, 0x66, 0x0f, 0xae, 0xf9), VEC_UD);
	}
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
		cmocka_unit_test(pcommit_is_a_fence_of_one_form),
		cmocka_unit_test(pvi_turns_cli_and_sti_to_vif),
		cmocka_unit_test(popf_changes_if_and_iopl_by_privilege),
		cmocka_unit_test(io_bitmap_decides_above_iopl),
		cmocka_unit_test(xsetbv_takes_x87_then_sse_then_avx),
		cmocka_unit_test(monitor_vmcall_and_rsm_are_undefined),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
