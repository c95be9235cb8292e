/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512 from the system's side: what XSAVE's family does with its state, what VEX instructions do
 * to it, when its instructions exist, and which of a masked operand may fault. What instructions
 * compute is compared with the host by tests/fuzz. Where the host has no AVX-512 the state is
 * tested all the same; the instructions are skipped.
 */
#include "system_rig.h"

#include "execute/cpuid.h"
#include "execute/fpu_state.h"
#include "execute/simd.h"

static struct rig rig;

enum {
	AREA = 0x42000,
	DATA = 0x46000,
	OFF_XSTATE_BV = 512,
	OFF_XCOMP_BV = 520,
	OFF_OPMASK = 1088,
	OFF_ZMM_HI256 = 1152,
	OFF_HI16_ZMM = 1664,
	AREA_LEN = 2688,
};

static void expect(struct outcome o, int vector)
{
	assert_int_equal(o.vector, vector);
}

/* Ring 0 with AVX-512 switched on, whatever the host has. */
static struct vcpu *enter(bool lng)
{
	struct vcpu *v = rig.v;

	if (!cpuid_has(FEAT_AVX2)) {
		skip();
	}
	rig_tables(&rig, lng);
	rig_enter(&rig, lng, 0);
	v->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	v->xcr0 = XCR0_X87 | XCR0_ZMM_STATE;
	simd_reset(v);
	return v;
}

/* For instructions that need the host's. */
static struct vcpu *enter_host(void)
{
	if (!cpuid_has(FEAT_AVX512)) {
		skip();
	}
	return enter(true);
}

struct zmm_state {
	uint8_t zmmh[512], zmm16[1024], opmask[64];
};

static struct zmm_state get(const struct vcpu *v)
{
	struct zmm_state s;

	memcpy(s.zmmh, v->zmmh, sizeof(s.zmmh));
	memcpy(s.zmm16, v->zmm16, sizeof(s.zmm16));
	memcpy(s.opmask, v->opmask, sizeof(s.opmask));
	return s;
}

static struct zmm_state fill(struct vcpu *v)
{
	for (unsigned k = 0; k < sizeof(v->zmmh); k++) {
		((uint8_t *)v->zmmh)[k] = (uint8_t)(k % 251 + 1);
	}
	for (unsigned k = 0; k < sizeof(v->zmm16); k++) {
		((uint8_t *)v->zmm16)[k] = (uint8_t)(k % 241 + 2);
	}
	for (unsigned k = 0; k < 8; k++) {
		v->opmask[k] = 0x0123456789abcdefull * (k + 1);
	}
	v->zmm_used = true;
	return get(v);
}

/* -- state -- */

/* All with (%rdi) or (%edi). */
#define XSAVE  0x0f, 0xae, 0x27
#define XRSTOR 0x0f, 0xae, 0x2f
#define XSAVEC 0x0f, 0xc7, 0x27

static struct vcpu *with_area(bool lng, uint64_t rfbm)
{
	struct vcpu *v = enter(lng);

	v->gpr[RDI] = AREA;
	v->gpr[RAX] = rfbm;
	return v;
}

static void xsave_and_xrstor_carry_zmm_and_opmasks(void **state)
{
	const uint8_t *area = rig.board.ram + AREA;
	struct vcpu *v = with_area(true, 0xe7);
	struct zmm_state s, back;

	memset(rig.board.ram + AREA, 0, AREA_LEN);
	s = fill(v);
	expect(RIG_CODE_RUN(&rig, XSAVE), -1);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XSTATE_BV, 8), 0xe0);
	assert_memory_equal(area + OFF_OPMASK, s.opmask, 64);
	assert_memory_equal(area + OFF_ZMM_HI256, s.zmmh, 512);
	assert_memory_equal(area + OFF_HI16_ZMM, s.zmm16, 1024);

	v = with_area(true, 0xe7);
	expect(RIG_CODE_RUN(&rig, XRSTOR), -1);
	back = get(v);
	assert_memory_equal(&back, &s, sizeof(s));
	assert_true(v->zmm_used);

	/* Of what is asked for, a component whose bit is clear becomes the initial one. */
	rig_poke64(&rig, AREA + OFF_XSTATE_BV, 0x20);
	v = with_area(true, 0x60);
	fill(v);
	expect(RIG_CODE_RUN(&rig, XRSTOR), -1);
	assert_int_equal(fpu_zmm_in_use(v), XCR0_OPMASK | XCR0_HI16_ZMM);
	assert_memory_equal(v->opmask, s.opmask, 64);
	assert_memory_equal(v->zmm16, s.zmm16, 1024);
}

static void xsavec_puts_components_behind_one_another(void **state)
{
	const uint8_t *area = rig.board.ram + AREA;
	struct vcpu *v = with_area(true, 0xe3);
	struct zmm_state s, back;

	memset(rig.board.ram + AREA, 0xa5, AREA_LEN);
	s = fill(v);
	memset(v->opmask, 0, sizeof(v->opmask));
	expect(RIG_CODE_RUN(&rig, XSAVEC), -1);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XSTATE_BV, 8), 0xc0);
	assert_int_equal(rig_peek(&rig, AREA + OFF_XCOMP_BV, 8), 1ull << 63 | 0xe3);
	assert_int_equal(area[576], 0xa5); /* the opmasks' place, which are initial */
	assert_memory_equal(area + 576 + 64, s.zmmh, 512);
	assert_memory_equal(area + 576 + 64 + 512, s.zmm16, 1024);
	assert_int_equal(area[576 + 64 + 512 + 1024], 0xa5);

	memset(rig.board.ram + AREA + OFF_XCOMP_BV + 8, 0, 48);
	v = with_area(true, 0xe7);
	v->opmask[3] = 1;
	expect(RIG_CODE_RUN(&rig, XRSTOR), -1);
	back = get(v);
	memset(s.opmask, 0, sizeof(s.opmask));
	assert_memory_equal(&back, &s, sizeof(s));
}

static void xsave_outside_64_bit_mode_reaches_eight_registers(void **state)
{
	const uint8_t *area = rig.board.ram + AREA;
	struct vcpu *v = with_area(false, 0xe7);
	struct zmm_state s;

	memset(rig.board.ram + AREA, 0, AREA_LEN);
	s = fill(v);
	expect(RIG_CODE_RUN(&rig, XSAVE), -1);
	assert_memory_equal(area + OFF_OPMASK, s.opmask, 64);
	assert_memory_equal(area + OFF_ZMM_HI256, s.zmmh, 256);
	assert_int_equal(area[OFF_ZMM_HI256 + 256], 0);
	assert_int_equal(area[OFF_HI16_ZMM], 0);
}

static void xgetbv_of_1_tells_what_is_in_use(void **state)
{
	struct vcpu *v = enter(true);

	v->gpr[RCX] = 1;
	v->zmm_used = true;
	v->opmask[7] = 1;
	v->zmm16[15][63] = 1;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd0), -1);
	assert_int_equal(v->gpr[RAX], 0xa0);
}

static void engine_state_carries_avx512(void **state)
{
	static struct mobo_cpu_state s;
	struct vcpu *v = enter(true);
	struct zmm_state before = fill(v), after;

	v->xcr0 = 3; /* what any host can be given back */
	mobo_engine_interpreter.get_state(v, &s);
	simd_reset(v);
	assert_int_equal(mobo_engine_interpreter.set_state(v, &s), 0);
	after = get(v);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_true(v->zmm_used);
	s.xcrs.xcrs[0].value = 0xe7;
	assert_int_equal(mobo_engine_interpreter.set_state(v, &s),
			 cpuid_has(FEAT_AVX512) ? 0 : -22);
	simd_reset(v);
	mobo_engine_interpreter.get_state(v, &s);
	fill(v);
	assert_int_equal(mobo_engine_interpreter.set_state(v, &s), 0);
	assert_int_equal(fpu_zmm_in_use(v), 0);
	assert_false(v->zmm_used);
}

static void vex_clears_the_rest_of_zmm_and_sse_keeps_it(void **state)
{
	static const uint8_t zeros[512];
	struct vcpu *v = enter(true);
	struct zmm_state s = fill(v);

	expect(RIG_CODE_RUN(&rig, 0x0f, 0x57, 0xc1), -1); /* xorps %xmm1, %xmm0 */
	assert_memory_equal(v->zmmh, s.zmmh, 512);
	expect(RIG_CODE_RUN(&rig, 0xc5, 0xfc, 0x58, 0xc1), -1); /* vaddps %ymm1, %ymm0, %ymm0 */
	assert_memory_equal(v->zmmh[0], zeros, 32);
	assert_memory_equal(v->zmmh[1], s.zmmh + 32, 480);
	expect(RIG_CODE_RUN(&rig, 0xc5, 0xf8, 0x28, 0xd1), -1); /* vmovaps %xmm1, %xmm2 */
	assert_memory_equal(v->zmmh[2], zeros, 32);
	assert_memory_equal(v->zmmh[3], s.zmmh + 96, 416);
	expect(RIG_CODE_RUN(&rig, 0xc5, 0xf8, 0x77), -1); /* vzeroupper */
	assert_memory_equal(v->zmmh, zeros, 512);
	assert_memory_equal(v->zmm16, s.zmm16, 1024);
}

/* -- what CPUID promises -- */

static void cpuid_and_xcr0_offer_all_or_nothing(void **state)
{
	struct vcpu *v = enter(true);
	uint32_t seven[4], xsave[4], one[4];

	for (unsigned offered = 0; offered < 2; offered++) {
		bool has;

		cpuid_offer_avx512(offered);
		has = cpuid_has(FEAT_AVX512);
		cpuid_query(v, 7, 0, seven);
		assert_int_equal(seven[1] >> 16 & 1, has);
		assert_int_equal(seven[1] >> 31, has);
		assert_true(has || !(seven[1] & 0xd0230000));
		assert_true(has || !(seven[2] & 0x5842));
		cpuid_query(v, 7, 1, one);
		assert_true(has || !(one[0] & 1 << 5));
		cpuid_query(v, 0xd, 0, xsave);
		assert_int_equal(xsave[0], has ? 0x2e7 : 0x207);
		assert_int_equal(xsave[2], AREA_LEN + 8); /* PKRU is the last */
		cpuid_query(v, 0xd, 6, xsave);
		assert_int_equal(xsave[0], has ? 512 : 0);
		assert_int_equal(xsave[1], has ? OFF_ZMM_HI256 : 0);
		assert_int_equal(cpuid_xcr0(), has ? 0x2e7 : 0x207);
		assert_true(offered || !has);
	}
}

static void xsetbv_takes_avx512_whole_and_with_avx(void **state)
{
	static const uint8_t bad[] = {0x27, 0x47, 0x87, 0x67, 0xe3, 0xe5, 0xe1};
	struct vcpu *v = enter(true);

	for (unsigned k = 0; k < sizeof(bad); k++) {
		v = enter(true);
		v->gpr[RAX] = bad[k];
		expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd1), VEC_GP);
	}
	v = enter(true);
	v->gpr[RAX] = 0xe7;
	expect(RIG_CODE_RUN(&rig, 0x0f, 0x01, 0xd1), cpuid_has(FEAT_AVX512) ? -1 : VEC_GP);
}

#define VPXORD_ZMM 0x62, 0xf1, 0x7d, 0x48, 0xef, 0xc0 /* vpxord %zmm0, %zmm0, %zmm0 */
#define KXNORQ	   0xc4, 0xe1, 0xfc, 0x46, 0xc8	      /* kxnorq %k0, %k0, %k1 */

static void not_offered_is_ud(void **state)
{
	cpuid_offer_avx512(false);
	enter(true);
	expect(RIG_CODE_RUN(&rig, VPXORD_ZMM), VEC_UD);
	enter(true);
	expect(RIG_CODE_RUN(&rig, KXNORQ), VEC_UD);
	cpuid_offer_avx512(true);
}

static void evex_needs_osxsave_and_all_of_xcr0(void **state)
{
	for (unsigned bit = 0; bit < 8; bit++) {
		int vector = 0xe6 >> bit & 1 ? VEC_UD : -1;

		enter_host()->xcr0 &= ~(1ull << bit);
		expect(RIG_CODE_RUN(&rig, VPXORD_ZMM), vector);
		enter_host()->xcr0 &= ~(1ull << bit);
		expect(RIG_CODE_RUN(&rig, KXNORQ), vector);
	}
	enter_host()->cr4 &= ~(uint64_t)CR4_OSXSAVE;
	expect(RIG_CODE_RUN(&rig, VPXORD_ZMM), VEC_UD);
	enter_host()->cr0 |= CR0_TS;
	expect(RIG_CODE_RUN(&rig, VPXORD_ZMM), VEC_NM);
}

/* -- masked operands, of which a part lies behind the end of what is mapped -- */

static void only_chosen_elements_are_read(void **state)
{
	static const uint32_t some[4] = {11, 12, 13, 14};
	static const uint8_t zeros[48];
	struct vcpu *v = enter_host();

	memcpy(rig.board.ram + RIG_RAM - 16, some, 16);
	v->gpr[RAX] = RIG_RAM - 16;
	v->opmask[1] = 0xf;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x00), -1);
	assert_memory_equal(v->fx.xmm[0], some, 16);
	assert_memory_equal(v->ymmh[0], zeros, 16);
	assert_memory_equal(v->zmmh[0], zeros, 32);
	v = enter_host();
	v->gpr[RAX] = RIG_RAM - 16;
	v->opmask[1] = 0x8f;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x00), VEC_PF);
	assert_int_equal(v->cr2, RIG_RAM + 12);
}

static void only_chosen_elements_are_written_and_all_or_none(void **state)
{
	struct vcpu *v = enter_host();

	rig_poke64(&rig, RIG_RAM - 16, 0);
	rig_poke64(&rig, RIG_RAM - 8, 0);
	memset(v->fx.xmm[0], 0x77, 16);
	v->gpr[RAX] = RIG_RAM - 16;
	v->opmask[1] = 0x11;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x00), VEC_PF);
	assert_int_equal(v->cr2, RIG_RAM);
	assert_int_equal(rig_peek(&rig, RIG_RAM - 16, 8), 0);
	v = enter_host();
	memset(v->fx.xmm[0], 0x77, 16);
	v->gpr[RAX] = RIG_RAM - 16;
	v->opmask[1] = 0x5;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x00), -1);
	assert_int_equal(rig_peek(&rig, RIG_RAM - 16, 8), 0x77777777);
	assert_int_equal(rig_peek(&rig, RIG_RAM - 8, 8), 0x77777777);
}

static void broadcast_of_nothing_does_not_fault_and_shuffles_do(void **state)
{
	struct vcpu *v = enter_host();

	v->gpr[RAX] = RIG_RAM;
	v->opmask[1] = 0xffff0000; /* beyond the 16 elements that there are */
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf1, 0x7d, 0x59, 0xfe, 0x00), -1); /* vpaddd bcst */
	v = enter_host();
	v->gpr[RAX] = RIG_RAM;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf2, 0x7d, 0x49, 0x36, 0x00), VEC_PF); /* vpermd */
}

static void compress_and_expand_reach_as_many_as_are_chosen(void **state)
{
	struct vcpu *v = enter_host();

	for (uint32_t k = 0; k < 4; k++) {
		memcpy(v->fx.xmm[0] + 4 * k, &k, 4);
	}
	v->gpr[RAX] = RIG_RAM - 8;
	v->opmask[1] = 0xa;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf2, 0x7d, 0x49, 0x8b, 0x00), -1); /* vpcompressd */
	assert_int_equal(rig_peek(&rig, RIG_RAM - 8, 8), 3ull << 32 | 1);
	v = enter_host();
	v->gpr[RAX] = RIG_RAM - 8;
	v->opmask[1] = 0x8001;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf2, 0x7d, 0xc9, 0x89, 0x00), -1); /* vpexpandd */
	assert_int_equal(v->fx.xmm[0][0], 1);
	assert_int_equal(v->zmmh[0][28], 3);
	v = enter_host();
	v->gpr[RAX] = RIG_RAM - 8;
	v->opmask[1] = 0x8011;
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf2, 0x7d, 0xc9, 0x89, 0x00), VEC_PF);
}

/* Elements 0 to 3 lie before the end of what is mapped, the others behind it. */
static void gather_and_scatter_go_on_where_they_faulted(void **state)
{
	struct vcpu *v = enter_host();

	for (uint32_t k = 0; k < 4; k++) {
		uint32_t at = k * 4, behind = 16 + k * 4, val = 0x100 + k;

		memcpy(v->fx.xmm[1] + 4 * k, &at, 4);
		memcpy(v->ymmh[1] + 4 * k, &behind, 4);
		memcpy(rig.board.ram + RIG_RAM - 16 + 4 * k, &val, 4);
	}
	v->gpr[RAX] = RIG_RAM - 16;
	v->opmask[2] = 0xff;
	/* vpgatherdd (%rax,%ymm1), %ymm0 {%k2} */
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf2, 0x7d, 0x2a, 0x90, 0x04, 0x08), VEC_PF);
	assert_int_equal(v->cr2, RIG_RAM);
	assert_int_equal(v->opmask[2], 0xf0);
	assert_memory_equal(v->fx.xmm[0], rig.board.ram + RIG_RAM - 16, 16);
	rig_enter(&rig, true, 0);
	v->cr4 |= CR4_OSXSAVE;
	v->gpr[RAX] = RIG_RAM - 16;
	v->opmask[2] = 0x1f;
	memset(v->fx.xmm[0], 0x55, 16);
	/* vpscatterdd %ymm0, (%rax,%ymm1) {%k2} */
	expect(RIG_CODE_RUN(&rig, 0x62, 0xf2, 0x7d, 0x2a, 0xa0, 0x04, 0x08), VEC_PF);
	assert_int_equal(v->opmask[2], 0x10);
	assert_int_equal(rig_peek(&rig, RIG_RAM - 8, 8), 0x5555555555555555);
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
		cmocka_unit_test(xsave_and_xrstor_carry_zmm_and_opmasks),
		cmocka_unit_test(xsavec_puts_components_behind_one_another),
		cmocka_unit_test(xsave_outside_64_bit_mode_reaches_eight_registers),
		cmocka_unit_test(xgetbv_of_1_tells_what_is_in_use),
		cmocka_unit_test(engine_state_carries_avx512),
		cmocka_unit_test(vex_clears_the_rest_of_zmm_and_sse_keeps_it),
		cmocka_unit_test(cpuid_and_xcr0_offer_all_or_nothing),
		cmocka_unit_test(xsetbv_takes_avx512_whole_and_with_avx),
		cmocka_unit_test(not_offered_is_ud),
		cmocka_unit_test(evex_needs_osxsave_and_all_of_xcr0),
		cmocka_unit_test(only_chosen_elements_are_read),
		cmocka_unit_test(only_chosen_elements_are_written_and_all_or_none),
		cmocka_unit_test(broadcast_of_nothing_does_not_fault_and_shuffles_do),
		cmocka_unit_test(compress_and_expand_reach_as_many_as_are_chosen),
		cmocka_unit_test(gather_and_scatter_go_on_where_they_faulted),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
