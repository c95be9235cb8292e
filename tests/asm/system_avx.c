/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX from the system's side: when its instructions exist, what XSAVE's family does with its state,
 * where gathers go on after a fault. What instructions compute is compared with the host by
 * tests/fuzz. Skipped where the host has no AVX2.
 */
#include "system_rig.h"

#include "execute/cpuid.h"
#include "execute/simd.h"

static struct rig rig;

enum {
	AREA = 0x42000,
	OFF_XSTATE_BV = 512,
	OFF_AVX = 576,
	AREA_LEN = 832,
};

static void expect(struct outcome o, int vector)
{
	assert_int_equal(o.vector, vector);
}

/* Ring 0 with AVX switched on. */
static struct vcpu *enter(bool lng)
{
	struct vcpu *v = rig.v;

	if (!cpuid_has(FEAT_AVX2)) {
		skip();
	}
	rig_tables(&rig, lng);
	rig_enter(&rig, lng, 0);
	v->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	v->xcr0 = 7;
	simd_reset(v);
	return v;
}

static void fill(struct vcpu *v)
{
	for (unsigned k = 0; k < 256; k++) {
		((uint8_t *)v->fx.xmm)[k] = (uint8_t)(k + 1);
		((uint8_t *)v->ymmh)[k] = (uint8_t)(k ^ 0xff);
	}
}

#define VADDPS_YMM  0xc5, 0xfc, 0x58, 0xc1 /* vaddps %ymm1, %ymm0, %ymm0 */
#define VZEROUPPER  0xc5, 0xf8, 0x77
#define VZEROALL    0xc5, 0xfc, 0x77
#define VGATHER_SIB 0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x08 /* vpgatherdd %ymm2, (%rax,%ymm1), %ymm0 */

static void vex_needs_osxsave_and_both_bits_of_xcr0(void **state)
{
	for (uint64_t xcr0 = 1; xcr0 < 8; xcr0 += 2) {
		enter(false)->xcr0 = xcr0;
		expect(RIG_CODE_RUN(&rig, VADDPS_YMM), xcr0 == 7 ? -1 : VEC_UD);
	}
	enter(false)->cr4 &= ~(uint64_t)CR4_OSXSAVE;
	expect(RIG_CODE_RUN(&rig, VADDPS_YMM), VEC_UD);
	enter(false)->cr4 &= ~(uint64_t)CR4_OSFXSR;
	expect(RIG_CODE_RUN(&rig, VADDPS_YMM), -1);
	enter(false)->cr0 |= CR0_EM;
	expect(RIG_CODE_RUN(&rig, VADDPS_YMM), -1);
}

static void vex_raises_nm_with_task_switched(void **state)
{
	enter(false)->cr0 |= CR0_TS;
	expect(RIG_CODE_RUN(&rig, VADDPS_YMM), VEC_NM);
	enter(false)->cr0 |= CR0_TS;
	rig.v->xcr0 = 3;
	expect(RIG_CODE_RUN(&rig, VADDPS_YMM), VEC_UD);
}

static void sse_keeps_upper_halves_and_vex_128_clears_them(void **state)
{
	static const uint8_t zeros[16];
	uint8_t before[16];
	struct vcpu *v = enter(true);

	fill(v);
	memcpy(before, v->ymmh[0], 16);
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x57, 0xc1), -1); /* xorps %xmm1, %xmm0 */
	assert_memory_equal(v->ymmh[0], before, 16);
	expect(RIG_CODE_RUN(&rig, 0xc5, 0xf8, 0x57, 0xc1), -1);
	assert_memory_equal(v->ymmh[0], zeros, 16);
}

static void vzeroupper_and_vzeroall_reach_the_registers_of_the_mode(void **state)
{
	static const uint8_t zeros[256];

	for (unsigned lng = 0; lng < 2; lng++) {
		unsigned n = lng ? 256 : 128;
		struct vcpu *v = enter(lng);
		uint8_t xmm[256], ymmh[256];

		fill(v);
		memcpy(xmm, v->fx.xmm, 256);
		memcpy(ymmh, v->ymmh, 256);
		expect(RIG_CODE_RUN(&rig, VZEROUPPER), -1);
		assert_memory_equal(v->ymmh, zeros, n);
		assert_memory_equal((uint8_t *)v->ymmh + n, ymmh + n, 256 - n);
		assert_memory_equal(v->fx.xmm, xmm, 256);
		v->rip = RIG_INSN;
		rig_enter(&rig, lng, 0);
		v->cr4 |= CR4_OSXSAVE;
		expect(RIG_CODE_RUN(&rig, VZEROALL), -1);
		assert_memory_equal(v->fx.xmm, zeros, n);
		assert_memory_equal((uint8_t *)v->fx.xmm + n, xmm + n, 256 - n);
	}
}

static void cpuid_sizes_follow_xcr0(void **state)
{
	struct vcpu *v = enter(true);
	uint32_t r[4];

	cpuid_query(v, 0xd, 0, r);
	assert_int_equal(r[0], cpuid_xcr0());
	assert_int_equal(r[1], AREA_LEN);
	assert_int_equal(r[2], xstate_len(cpuid_xcr0(), false));
	v->xcr0 = 3;
	cpuid_query(v, 0xd, 0, r);
	assert_int_equal(r[1], OFF_AVX);
	cpuid_query(v, 0xd, 2, r);
	assert_int_equal(r[0], AREA_LEN - OFF_AVX);
	assert_int_equal(r[1], OFF_AVX);
}

/* All with (%rdi). */
#define XSAVE  0x0f, 0xae, 0x27
#define XRSTOR 0x0f, 0xae, 0x2f
#define XSAVEC 0x0f, 0xc7, 0x27

/* With RFBM in EDX:EAX. */
static struct vcpu *with_area(uint64_t rfbm)
{
	struct vcpu *v = enter(true);

	v->gpr[RDI] = AREA;
	v->gpr[RAX] = rfbm;
	return v;
}

static void xsave_and_xrstor_carry_the_upper_halves(void **state)
{
	static const uint8_t zeros[256];
	uint8_t ymmh[256];
	struct vcpu *v = with_area(7);

	memset(rig.board.ram + AREA, 0, AREA_LEN);
	fill(v);
	memcpy(ymmh, v->ymmh, 256);
	expect(RIG_CODE_RUN(&rig, XSAVE), -1);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XSTATE_BV, 8), 6);
	assert_memory_equal(rig.board.ram + AREA + OFF_AVX, ymmh, 256);

	v = with_area(7);
	expect(RIG_CODE_RUN(&rig, XRSTOR), -1);
	assert_memory_equal(v->ymmh, ymmh, 256);

	/* A component whose bit is clear becomes the initial one; one not asked for stays. */
	rig_poke64(&rig, AREA + OFF_XSTATE_BV, 2);
	v = with_area(3);
	fill(v);
	expect(RIG_CODE_RUN(&rig, XRSTOR), -1);
	assert_memory_equal(v->ymmh, ymmh, 256);
	v = with_area(4);
	fill(v);
	expect(RIG_CODE_RUN(&rig, XRSTOR), -1);
	assert_memory_equal(v->ymmh, zeros, 256);
}

static void xsavec_leaves_out_what_is_initial(void **state)
{
	struct vcpu *v = with_area(7);

	memset(rig.board.ram + AREA, 0xa5, AREA_LEN);
	v->fx.xmm[3][0] = 1;
	expect(RIG_CODE_RUN(&rig, XSAVEC), -1);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XSTATE_BV, 8), 2);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XSTATE_BV + 8, 8), 1ull << 63 | 7);
	assert_int_equal(rig_peek(&rig, AREA + OFF_AVX, 1), 0xa5);
}

static void xgetbv_of_1_tells_what_is_in_use(void **state)
{
	struct vcpu *v = enter(true);

	v->gpr[RCX] = 1;
	v->ymmh[9][3] = 1;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd0), -1);
	assert_int_equal(v->gpr[RAX], 4);
	v = enter(true);
	v->gpr[RCX] = 1;
	v->fx.st[2][4] = 1; /* of a register that is marked empty */
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd0), -1);
	assert_int_equal(v->gpr[RAX], 1);
	v = enter(true);
	v->gpr[RCX] = 2;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd0), VEC_GP);
}

/* XSAVES at CPL 0 writes the compacted format, which is the only one that XRSTORS takes. */
static void xsaves_and_xrstors_belong_to_the_system(void **state)
{
	uint64_t val;
	struct vcpu *v = with_area(7);

	memset(rig.board.ram + AREA, 0, AREA_LEN);
	fill(v);
	expect(RIG_CODE_RUN(&rig, 0x0f, 0xc7, 0x2f), -1);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XSTATE_BV + 8, 8), 1ull << 63 | 7);
	v = with_area(7);
	expect(RIG_CODE_RUN(&rig, 0x0f, 0xc7, 0x1f), -1);
	assert_int_equal(v->ymmh[15][15], 255 ^ 0xff);
	assert_int_equal(v->ymmh[0][0], 0xff);
	rig_poke64(&rig, AREA + OFF_XSTATE_BV + 8, 0);
	v = with_area(7);
	expect(RIG_CODE_RUN(&rig, 0x0f, 0xc7, 0x1f), VEC_GP);
	assert_true(msr_write(v, 0xda0, 0));
	assert_false(msr_write(v, 0xda0, 1 << 8));
	assert_true(msr_read(v, 0xda0, &val));
	rig_enter(&rig, true, 3);
	v->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	v->gpr[RDI] = AREA;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0xc7, 0x2f), VEC_GP);
}

static void xsave_area_reaches_as_far_as_its_components(void **state)
{
	struct vcpu *v = with_area(7);

	v->gpr[RDI] = RIG_RAM - 640; /* the end of what is mapped, too early for AVX */
	expect(RIG_CODE_RUN(&rig, XSAVE), VEC_PF);
	v = with_area(3);
	v->gpr[RDI] = RIG_RAM - 640;
	expect(RIG_CODE_RUN(&rig, XSAVE), -1);
}

/* Elements 0 to 3 lie before the end of what is mapped, 4 to 7 behind it. */
static void gather_goes_on_where_it_faulted(void **state)
{
	struct vcpu *v = enter(true);
	static const uint8_t zeros[16];

	memset(v->fx.xmm[2], 0xff, 16);
	memset(v->ymmh[2], 0xff, 16);
	for (uint32_t k = 0; k < 4; k++) {
		uint32_t low = k * 4, high = 16 + k * 4, val = 0x100 + k;

		memcpy(v->fx.xmm[1] + 4 * k, &low, 4);
		memcpy(v->ymmh[1] + 4 * k, &high, 4);
		memcpy(rig.board.ram + RIG_RAM - 16 + 4 * k, &val, 4);
	}
	v->gpr[RAX] = RIG_RAM - 16;
	expect(RIG_CODE_RUN(&rig, VGATHER_SIB), VEC_PF);
	assert_int_equal(v->cr2, RIG_RAM);
	assert_memory_equal(v->fx.xmm[2], zeros, 16);
	assert_int_equal(v->ymmh[2][3], 0xff);
	assert_memory_equal(v->fx.xmm[0], rig.board.ram + RIG_RAM - 16, 16);
}

static void engine_state_carries_avx(void **state)
{
	static struct mobo_cpu_state s;
	struct vcpu *v = enter(true);
	uint8_t ymmh[256];

	fill(v);
	memcpy(ymmh, v->ymmh, 256);
	mobo_engine_interpreter.get_state(v, &s);
	assert_int_equal(s.xcrs.xcrs[0].value, 7);
	assert_memory_equal((uint8_t *)s.xsave.region + OFF_AVX, ymmh, 256);
	memset(v->ymmh, 0, 256);
	v->xcr0 = 1;
	assert_int_equal(mobo_engine_interpreter.set_state(v, &s), 0);
	assert_int_equal(v->xcr0, 7);
	assert_memory_equal(v->ymmh, ymmh, 256);
	s.xcrs.xcrs[0].value = 1ull << 40;
	assert_int_equal(mobo_engine_interpreter.set_state(v, &s), -22);
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
		cmocka_unit_test(vex_needs_osxsave_and_both_bits_of_xcr0),
		cmocka_unit_test(vex_raises_nm_with_task_switched),
		cmocka_unit_test(sse_keeps_upper_halves_and_vex_128_clears_them),
		cmocka_unit_test(vzeroupper_and_vzeroall_reach_the_registers_of_the_mode),
		cmocka_unit_test(cpuid_sizes_follow_xcr0),
		cmocka_unit_test(xsave_and_xrstor_carry_the_upper_halves),
		cmocka_unit_test(xsavec_leaves_out_what_is_initial),
		cmocka_unit_test(xgetbv_of_1_tells_what_is_in_use),
		cmocka_unit_test(xsaves_and_xrstors_belong_to_the_system),
		cmocka_unit_test(xsave_area_reaches_as_far_as_its_components),
		cmocka_unit_test(gather_goes_on_where_it_faulted),
		cmocka_unit_test(engine_state_carries_avx),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
