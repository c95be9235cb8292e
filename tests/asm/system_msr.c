/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers, the TSC, CPUID; KVM's leaves, clocks and hypercalls where they are
 * shown. Expected values: Intel SDM volumes 2 and 4, AMD64 manual where the vendors differ, Linux.
 */
#include "execute/cpuid.h"

#include "one_rig.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(msrs_refuse_what_the_manual_refuses),
		cmocka_unit_test(tsc_and_tsc_adjust_move_together),
		cmocka_unit_test(tsd_closes_rdtsc_to_rings_above_0),
		cmocka_unit_test(cpuid_promises_what_control_registers_take),
		cmocka_unit_test(hypervisor_leaves_are_kvms_where_shown),
		cmocka_unit_test(clock_msrs_exist_where_shown),
		cmocka_unit_test(hypercalls_answer_as_kvm_does),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
