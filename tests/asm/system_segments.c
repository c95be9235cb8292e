/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kind of descriptor loaded into every kind of segment register at every CPL and RPL, against
 * the conditions as the manual's pages of MOV, LAR, LSL, VERR and VERW list them; limits of
 * segments by offset. Intel SDM volume 2, volume 3 5.5 and 5.6.
 */
#include "system_rig.h"

static struct rig rig;

struct kind {
	unsigned type, dpl;
	bool s, p;
};

static uint64_t kind_descriptor(struct kind k)
{
	return rig_descriptor(0x12345, 0x00fff,
			      k.type | (k.s ? 0x10 : 0) | k.dpl << 5 | (k.p ? 0x80 : 0) | 0x4000);
}

/* SDM vol. 2, MOV: "IF DS, ES, FS, or GS is loaded with non-NULL selector". */
static struct outcome expect_data(struct kind k, unsigned cpl, unsigned rpl, uint16_t sel)
{
	bool code = k.s && (k.type & 8), conforming = code && (k.type & 4);
	bool readable_code = code && (k.type & 2);

	if (!k.s || (code && !readable_code)) {
		return (struct outcome){VEC_GP, sel};
	}
	if (!conforming && (rpl > k.dpl || cpl > k.dpl)) {
		return (struct outcome){VEC_GP, sel};
	}
	return k.p ? (struct outcome){-1, 0} : (struct outcome){VEC_NP, sel};
}

/* SDM vol. 2, MOV: "IF SS is loaded". */
static struct outcome expect_stack(struct kind k, unsigned cpl, unsigned rpl, uint16_t sel)
{
	bool writable_data = k.s && !(k.type & 8) && (k.type & 2);

	if (rpl != cpl || !writable_data || k.dpl != cpl) {
		return (struct outcome){VEC_GP, sel};
	}
	return k.p ? (struct outcome){-1, 0} : (struct outcome){VEC_SS, sel};
}

static void check_load(enum seg seg, struct kind k, unsigned cpl, unsigned rpl)
{
	uint16_t sel = (uint16_t)(RIG_FREE | rpl);
	struct outcome want = seg == SEG_SS ? expect_stack(k, cpl, rpl, RIG_FREE)
					    : expect_data(k, cpl, rpl, RIG_FREE);
	struct outcome got;

	rig_enter(&rig, false, cpl);
	rig_gdt(&rig, RIG_FREE, kind_descriptor(k));
	RIG_TRY(&rig, got, seg_load(rig.v, seg, sel));
	assert_int_equal(got.vector, want.vector);
	assert_int_equal(got.error, want.error);
	if (got.vector == -1) {
		const struct segment *s = &rig.v->seg[seg];

		assert_int_equal(s->selector, sel);
		assert_int_equal(s->base, 0x12345);
		assert_int_equal(s->limit, 0xfff);
		/* The accessed bit is set in the table and in the register. */
		assert_true(s->attr & 1);
		assert_true(rig_peek(&rig, RIG_GDT + RIG_FREE + 5, 1) & 1);
	}
}

static void for_each_kind(void (*check)(struct kind k, unsigned cpl, unsigned rpl))
{
	for (unsigned bits = 0; bits < 1 << 8; bits++) {
		struct kind k = {bits & 15, bits >> 4 & 3, bits >> 6 & 1, bits >> 7};

		for (unsigned cpl = 0; cpl < 4; cpl++) {
			for (unsigned rpl = 0; rpl < 4; rpl++) {
				check(k, cpl, rpl);
			}
		}
	}
}

static void check_data(struct kind k, unsigned cpl, unsigned rpl)
{
	check_load(SEG_DS, k, cpl, rpl);
	check_load(SEG_GS, k, cpl, rpl);
}

static void check_stack(struct kind k, unsigned cpl, unsigned rpl)
{
	check_load(SEG_SS, k, cpl, rpl);
}

static void data_segment_loads_follow_the_manual(void **state)
{
	for_each_kind(check_data);
}

static void stack_segment_loads_follow_the_manual(void **state)
{
	for_each_kind(check_stack);
}

static bool in_list(unsigned type, const uint8_t *list)
{
	for (; *list != 0xff; list++) {
		if (*list == type) {
			return true;
		}
	}
	return false;
}

/* SDM vol. 2 tables 3-53 (LAR) and 3-55 (LSL). */
static void check_lar_lsl(struct kind k, unsigned cpl, unsigned rpl)
{
	static const uint8_t lar[] = {1, 2, 3, 4, 5, 9, 11, 12, 0xff};
	static const uint8_t lsl[] = {1, 2, 3, 9, 11, 0xff};
	static const uint8_t lar_long[] = {2, 9, 11, 12, 0xff}, lsl_long[] = {2, 9, 11, 0xff};
	bool conforming = k.s && (k.type & 12) == 12;
	bool allowed = conforming || (cpl <= k.dpl && rpl <= k.dpl);
	bool read = k.s && (!(k.type & 8) || (k.type & 2)), write = k.s && (k.type & 10) == 2;
	uint16_t sel = (uint16_t)(RIG_FREE | rpl);
	uint32_t val;

	for (int lng = 0; lng < 2; lng++) {
		rig_enter(&rig, lng, cpl);
		rig_gdt(&rig, RIG_FREE, kind_descriptor(k));
		assert_int_equal(segment_lar(rig.v, sel, &val),
				 allowed && (k.s || in_list(k.type, lng ? lar_long : lar)));
		if (segment_lar(rig.v, sel, &val)) {
			assert_int_equal(val, (kind_descriptor(k) >> 32) & 0xffff00);
		}
		assert_int_equal(segment_lsl(rig.v, sel, &val),
				 allowed && (k.s || in_list(k.type, lng ? lsl_long : lsl)));
		if (segment_lsl(rig.v, sel, &val)) {
			assert_int_equal(val, 0xfff);
		}
		assert_int_equal(segment_verify(rig.v, sel, false), allowed && read);
		assert_int_equal(segment_verify(rig.v, sel, true), allowed && write);
	}
}

static void lar_lsl_verr_verw_follow_the_manual(void **state)
{
	for_each_kind(check_lar_lsl);
}

static void null_selector_is_refused_by_ss_alone(void **state)
{
	struct outcome o;

	for (uint16_t sel = 0; sel < 4; sel++) {
		rig_enter(&rig, false, 0);
		RIG_TRY(&rig, o, seg_load(rig.v, SEG_ES, sel));
		assert_int_equal(o.vector, -1);
		RIG_TRY(&rig, o, seg_linear_checked(rig.v, SEG_ES, 0, 1, MMU_R));
		assert_int_equal(o.vector, VEC_GP);
		rig_enter(&rig, false, 0);
		RIG_TRY(&rig, o, seg_load(rig.v, SEG_SS, sel));
		assert_int_equal(o.vector, VEC_GP);
		assert_int_equal(o.error, 0);
	}
}

static void null_ss_is_allowed_in_64_bit_mode_below_ring_3(void **state)
{
	struct outcome o;

	rig_tables(&rig, true);
	for (unsigned cpl = 0; cpl < 4; cpl++) {
		for (uint16_t sel = 0; sel < 4; sel++) {
			rig_enter(&rig, true, cpl);
			RIG_TRY(&rig, o, seg_load(rig.v, SEG_SS, sel));
			assert_int_equal(o.vector, cpl < 3 && sel == cpl ? -1 : VEC_GP);
		}
	}
	rig_tables(&rig, false);
}

static void selector_beyond_its_table_names_itself(void **state)
{
	struct outcome o;

	rig_enter(&rig, false, 0);
	rig.v->gdtr.limit = RIG_FREE + 6;
	RIG_TRY(&rig, o, seg_load(rig.v, SEG_DS, RIG_FREE));
	assert_int_equal(o.vector, VEC_GP);
	assert_int_equal(o.error, RIG_FREE);
	rig_enter(&rig, false, 0);
	rig.v->seg[SEG_LDTR].limit = 0x16;
	RIG_TRY(&rig, o, seg_load(rig.v, SEG_DS, 0x14));
	assert_int_equal(o.vector, VEC_GP);
	assert_int_equal(o.error, 0x14);
}

struct limit_case {
	uint32_t attr, limit, offset;
	unsigned size;
	bool ok;
};

static void limits_hold_to_the_byte(void **state)
{
	static const struct limit_case cases[] = {
		{0x4093, 0xfff, 0xfff, 1, true},
		{0x4093, 0xfff, 0xfff, 2, false},
		{0x4093, 0xfff, 0xffc, 4, true},
		{0x4093, 0xfff, 0xffd, 4, false},
		{0x4093, 0xfff, 0x1000, 1, false},
		{0xc093, UINT32_MAX, UINT32_MAX, 1, true},
		{0xc093, UINT32_MAX, UINT32_MAX, 2, false},
		/* Expand-down: valid above the limit, up to 64 KB or 4 GB by B. */
		{0x4097, 0xfff, 0xfff, 1, false},
		{0x4097, 0xfff, 0x1000, 1, true},
		{0x4097, 0xfff, UINT32_MAX, 1, true},
		{0x0097, 0xfff, 0xffff, 1, true},
		{0x0097, 0xfff, 0xffff, 2, false},
		{0x0097, 0xfff, 0x10000, 1, false},
	};
	struct outcome o;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct limit_case *c = &cases[i];

		for (int stack = 0; stack < 2; stack++) {
			enum seg seg = stack ? SEG_SS : SEG_DS;

			rig_enter(&rig, false, 0);
			rig.v->seg[seg] = (struct segment){0, c->limit, c->attr, RIG_FREE};
			vcpu_update_mode(rig.v);
			/* The handler's stack must work: a double fault is not the question. */
			if (stack && !c->ok) {
				rig_poke64(&rig, RIG_IDT + VEC_SS * 8,
					   rig_gate(RIG_CODE, RIG_HANDLER + VEC_SS * 16, 14, 3, 0));
				rig.v->cpl = 3;
			}
			RIG_TRY(&rig, o, seg_linear_checked(rig.v, seg, c->offset, c->size, MMU_R));
			assert_int_equal(o.vector, c->ok ? -1 : stack ? VEC_SS : VEC_GP);
			assert_int_equal(o.error, 0);
		}
	}
}

static void types_hold_for_reads_and_writes(void **state)
{
	struct outcome o;

	for (unsigned type = 0; type < 16; type++) {
		bool code = type & 8, rw = type & 2;

		for (int write = 0; write < 2; write++) {
			rig_enter(&rig, false, 0);
			rig.v->seg[SEG_ES] = (struct segment){0, type & 4 && !code ? 0 : UINT32_MAX,
							      0xc090 | type, RIG_FREE};
			vcpu_update_mode(rig.v);
			RIG_TRY(&rig, o,
				seg_linear_checked(rig.v, SEG_ES, 0x100, 1, write ? MMU_W : MMU_R));
			assert_int_equal(o.vector,
					 (write ? !code && rw : !code || rw) ? -1 : VEC_GP);
		}
	}
}

static void real_mode_load_changes_the_base_alone(void **state)
{
	rig_enter(&rig, false, 0);
	rig.v->cr0 &= ~(uint64_t)CR0_PE;
	rig.v->seg[SEG_DS].limit = UINT32_MAX;
	vcpu_update_mode(rig.v);
	seg_load(rig.v, SEG_DS, 0x1234);
	assert_int_equal(rig.v->seg[SEG_DS].base, 0x12340);
	assert_true(rig.v->seg[SEG_DS].limit == UINT32_MAX);
	assert_int_equal(seg_linear_checked(rig.v, SEG_DS, 0x100000, 4, MMU_W), 0x112340);
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
		cmocka_unit_test(data_segment_loads_follow_the_manual),
		cmocka_unit_test(stack_segment_loads_follow_the_manual),
		cmocka_unit_test(lar_lsl_verr_verw_follow_the_manual),
		cmocka_unit_test(null_selector_is_refused_by_ss_alone),
		cmocka_unit_test(null_ss_is_allowed_in_64_bit_mode_below_ring_3),
		cmocka_unit_test(selector_beyond_its_table_names_itself),
		cmocka_unit_test(limits_hold_to_the_byte),
		cmocka_unit_test(types_hold_for_reads_and_writes),
		cmocka_unit_test(real_mode_load_changes_the_base_alone),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
