/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far transfers and event delivery through every kind of descriptor and gate, against the
 * conditions of the manual. Intel SDM volume 2 (JMP, CALL, RET, IRET, INT n), volume 3, 5.8, 6.12.
 */
#include "execute/far.h"

#include "system_rig.h"

static struct rig rig;

enum { TARGET = 0x40000, LOCAL = RIG_FREE + 0x20 };

static struct outcome ok(void)
{
	return (struct outcome){-1, 0};
}

/* JMP or CALL straight to a code segment. SDM vol. 2, JMP: CONFORMING- and NONCONFORMING-CODE. */
static struct outcome expect_direct(unsigned type, unsigned dpl, bool p, unsigned cpl, unsigned rpl)
{
	bool conforming = type & 4;

	if (!(type & 8) || (conforming ? dpl > cpl : rpl > cpl || dpl != cpl)) {
		return (struct outcome){VEC_GP, RIG_FREE};
	}
	return p ? ok() : (struct outcome){VEC_NP, RIG_FREE};
}

static void check_direct(unsigned type, unsigned dpl, bool p, unsigned cpl, unsigned rpl, bool call)
{
	struct outcome want = expect_direct(type, dpl, p, cpl, rpl), got;
	uint16_t was;

	rig_enter(&rig, false, cpl);
	was = rig.v->seg[SEG_CS].selector;
	rig_gdt(&rig, RIG_FREE,
		rig_descriptor(0, 0xfffff, 0xc010 | type | dpl << 5 | (p ? 0x80 : 0)));
	if (call) {
		RIG_TRY(&rig, got, far_call(rig.v, (uint16_t)(RIG_FREE | rpl), TARGET, 4));
	} else {
		RIG_TRY(&rig, got, far_jump(rig.v, (uint16_t)(RIG_FREE | rpl), TARGET, 4));
	}
	assert_int_equal(got.vector, want.vector);
	assert_int_equal(got.error, want.error);
	if (got.vector == -1) {
		assert_int_equal(rig.v->rip, TARGET);
		assert_int_equal(rig.v->cpl, cpl);
		assert_int_equal(rig.v->seg[SEG_CS].selector, RIG_FREE | cpl);
		assert_int_equal(rig.v->gpr[RSP], call ? RIG_STACK - 8 : RIG_STACK);
		if (call) {
			assert_int_equal(rig_peek(&rig, RIG_STACK - 4, 2), was);
			assert_int_equal(rig_peek(&rig, RIG_STACK - 8, 4), RIG_INSN + 3);
		}
	}
}

static void direct_jumps_and_calls_follow_the_manual(void **state)
{
	for (unsigned bits = 0; bits < 1 << 12; bits++) {
		check_direct(bits & 15, bits >> 4 & 3, bits >> 6 & 1, bits >> 7 & 3, bits >> 9 & 3,
			     bits >> 11);
	}
}

/*
 * A call gate of privilege gdpl to a code segment of privilege dpl. SDM vol. 3 5.8.4, table 5-1.
 */
static struct outcome expect_gate(bool call, unsigned gdpl, unsigned dpl, bool conforming,
				  unsigned cpl, unsigned rpl)
{
	if (cpl > gdpl || rpl > gdpl) {
		return (struct outcome){VEC_GP, RIG_FREE};
	}
	if (call || conforming ? dpl > cpl : dpl != cpl) {
		return (struct outcome){VEC_GP, LOCAL};
	}
	return ok();
}

static void check_gate(bool call, unsigned gdpl, unsigned dpl, bool conforming, unsigned cpl,
		       unsigned rpl)
{
	struct outcome want = expect_gate(call, gdpl, dpl, conforming, cpl, rpl), got;
	unsigned new_cpl = conforming ? cpl : dpl;

	rig_enter(&rig, false, cpl);
	rig_poke64(&rig, RIG_STACK, 0x2222222211111111);
	rig_gdt(&rig, LOCAL, rig_descriptor(0, 0xfffff, 0xc09a | (conforming ? 4 : 0) | dpl << 5));
	rig_gdt(&rig, RIG_FREE, rig_gate(LOCAL, TARGET, SYS_CALL32, gdpl, 2));
	if (call) {
		RIG_TRY(&rig, got, far_call(rig.v, (uint16_t)(RIG_FREE | rpl), 0, 4));
	} else {
		RIG_TRY(&rig, got, far_jump(rig.v, (uint16_t)(RIG_FREE | rpl), 0, 4));
	}
	assert_int_equal(got.vector, want.vector);
	assert_int_equal(got.error, want.error);
	if (got.vector != -1) {
		return;
	}
	assert_int_equal(rig.v->rip, TARGET);
	assert_int_equal(rig.v->cpl, call ? new_cpl : cpl);
	if (call && new_cpl < cpl) {
		uint32_t sp = RIG_STACK0 + new_cpl * 0x1000;

		assert_int_equal(rig.v->gpr[RSP], sp - 24);
		assert_int_equal(rig.v->seg[SEG_SS].selector, RIG_DATA + new_cpl * 9);
		assert_int_equal(rig_peek(&rig, sp - 4, 2), RIG_DATA + cpl * 9);
		assert_int_equal(rig_peek(&rig, sp - 8, 4), RIG_STACK);
		assert_int_equal(rig_peek(&rig, sp - 12, 4), 0x22222222);
		assert_int_equal(rig_peek(&rig, sp - 16, 4), 0x11111111);
		assert_int_equal(rig_peek(&rig, sp - 20, 2), RIG_CODE + cpl * 9);
		assert_int_equal(rig_peek(&rig, sp - 24, 4), RIG_INSN + 3);
		/* And back. */
		rig.v->trace_rip = TARGET;
		RIG_TRY(&rig, got, far_return(rig.v, 4, 8));
		assert_int_equal(got.vector, -1);
		assert_int_equal(rig.v->cpl, cpl);
		assert_int_equal(rig.v->rip, RIG_INSN + 3);
		assert_int_equal(rig.v->gpr[RSP], RIG_STACK + 8);
		assert_int_equal(rig.v->seg[SEG_SS].selector, RIG_DATA + cpl * 9);
	}
}

static void call_gates_follow_the_manual(void **state)
{
	for (unsigned bits = 0; bits < 1 << 10; bits++) {
		check_gate(bits >> 9, bits & 3, bits >> 2 & 3, bits >> 8 & 1, bits >> 4 & 3,
			   bits >> 6 & 3);
	}
}

static void call_gate_16_pushes_words(void **state)
{
	struct outcome o;

	rig_enter(&rig, false, 3);
	rig_gdt(&rig, RIG_FREE, rig_gate(RIG_CODE, 0x1234, SYS_CALL16, 3, 0));
	RIG_TRY(&rig, o, far_call(rig.v, RIG_FREE | 3, 0, 4));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->rip, 0x1234);
	assert_int_equal(rig.v->gpr[RSP], RIG_STACK0 - 8);
	assert_int_equal(rig_peek(&rig, RIG_STACK0 - 8, 2), (RIG_INSN + 3) & 0xffff);
}

static void call_gate_64_takes_rsp_from_the_tss(void **state)
{
	struct outcome o;

	rig_tables(&rig, true);
	rig_enter(&rig, true, 3);
	rig_gdt(&rig, RIG_FREE, rig_gate(RIG_CODE64, TARGET, SYS_CALL32, 3, 0));
	rig_gdt(&rig, RIG_FREE + 8, 0);
	RIG_TRY(&rig, o, far_call(rig.v, RIG_FREE | 3, 0, 4));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->cpl, 0);
	assert_int_equal(rig.v->gpr[RSP], RIG_STACK0 - 32);
	assert_int_equal(rig.v->seg[SEG_SS].selector, 0);
	assert_int_equal(rig_peek(&rig, RIG_STACK0 - 8, 8), RIG_DATA + 27);
	assert_int_equal(rig_peek(&rig, RIG_STACK0 - 16, 8), RIG_STACK);
	RIG_TRY(&rig, o, far_return(rig.v, 8, 0));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->cpl, 3);
	assert_int_equal(rig.v->gpr[RSP], RIG_STACK);
	rig_tables(&rig, false);
}

/* RETF to a code segment of privilege dpl with selector RPL rpl. SDM vol. 2, RET. */
static void returns_follow_the_manual(void **state)
{
	for (unsigned bits = 0; bits < 1 << 7; bits++) {
		unsigned cpl = bits & 3, rpl = bits >> 2 & 3, dpl = bits >> 4 & 3;
		bool conforming = bits >> 6, fine;
		struct outcome o;

		fine = rpl >= cpl && (conforming ? dpl <= rpl : dpl == rpl);
		rig_enter(&rig, false, cpl);
		rig_gdt(&rig, RIG_FREE,
			rig_descriptor(0, 0xfffff, 0xc09a | (conforming ? 4 : 0) | dpl << 5));
		rig_poke64(&rig, RIG_STACK, TARGET | (uint64_t)(RIG_FREE | rpl) << 32);
		rig_poke64(&rig, RIG_STACK + 8, 0x77770 | (uint64_t)(RIG_DATA + rpl * 9) << 32);
		rig.v->seg[SEG_FS].selector = 0;
		rig.v->seg[SEG_FS].attr = SEG_UNUSABLE;
		RIG_TRY(&rig, o, far_return(rig.v, 4, 0));
		assert_int_equal(o.vector, fine ? -1 : VEC_GP);
		assert_int_equal(o.error, fine ? 0 : RIG_FREE);
		if (!fine) {
			continue;
		}
		assert_int_equal(rig.v->cpl, rpl);
		assert_int_equal(rig.v->gpr[RSP], rpl > cpl ? 0x77770 : RIG_STACK + 8);
		/* Data segments of the inner ring do not leak out. */
		assert_int_equal(!!(rig.v->seg[SEG_DS].attr & SEG_UNUSABLE), rpl > cpl);
	}
}

/* INT n through a gate: SDM vol. 2, INT n, PROTECTED-MODE. */
static void software_interrupts_follow_the_manual(void **state)
{
	for (unsigned bits = 0; bits < 1 << 7; bits++) {
		unsigned cpl = bits & 3, gdpl = bits >> 2 & 3, dpl = bits >> 4 & 3;
		bool trap = bits >> 6;
		struct outcome o, want = ok();

		if (gdpl < cpl) {
			want = (struct outcome){VEC_GP, 0x40 * 8 + 2};
		} else if (dpl > cpl) {
			want = (struct outcome){VEC_GP, RIG_FREE};
		}
		rig_enter(&rig, false, cpl);
		rig.v->rflags |= FL_IF | FL_NT;
		rig_gdt(&rig, RIG_FREE, rig_descriptor(0, 0xfffff, 0xc09a | dpl << 5));
		rig_poke64(&rig, RIG_IDT + 0x40 * 8,
			   rig_gate(RIG_FREE, TARGET, trap ? 15 : 14, gdpl, 0));
		RIG_TRY(&rig, o, far_interrupt(rig.v, 0x40, EVENT_SOFTWARE, true));
		assert_int_equal(o.vector, want.vector);
		assert_int_equal(o.error, want.error);
		if (o.vector != -1) {
			/* The fault is at INT n itself. */
			assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP] + 4, 4),
					 RIG_INSN);
			continue;
		}
		assert_int_equal(rig.v->rip, TARGET);
		assert_int_equal(rig.v->cpl, dpl);
		assert_int_equal(rig.v->rflags & (FL_IF | FL_NT), trap ? FL_IF : 0);
		assert_int_equal(rig_peek(&rig, (uint32_t)rig.v->gpr[RSP], 4), RIG_INSN + 3);
	}
}

static void faults_push_rf_and_traps_do_not(void **state)
{
	struct outcome o;

	rig_enter(&rig, false, 0);
	RIG_TRY(&rig, o, raise_exception(rig.v, VEC_UD));
	assert_int_equal(o.vector, VEC_UD);
	assert_int_equal(rig_peek(&rig, RIG_STACK - 12, 4), RIG_INSN);
	assert_true(rig_peek(&rig, RIG_STACK - 4, 4) & FL_RF);
	rig_enter(&rig, false, 0);
	RIG_TRY(&rig, o, far_interrupt(rig.v, VEC_BP, EVENT_SOFTWARE, false));
	assert_false(rig_peek(&rig, RIG_STACK - 4, 4) & FL_RF);
}

static void hardware_events_set_ext(void **state)
{
	struct outcome o;

	rig_enter(&rig, false, 0);
	rig_poke64(&rig, RIG_IDT + 0x40 * 8, 0);
	RIG_TRY(&rig, o, vcpu_deliver(rig.v, 0x40, EVENT_EXTERNAL, false, 0));
	assert_int_equal(o.vector, VEC_GP);
	assert_int_equal(o.error, 0x40 * 8 + 3);
}

struct nested {
	unsigned first, second_gate; /* the first's gate makes this: 0 #GP, 1 #NP, 2 #TS */
	int want;
};

/* SDM vol. 3 table 6-5. */
static void double_faults_follow_the_table(void **state)
{
	static const struct nested cases[] = {
		{VEC_UD, 0, VEC_GP}, {VEC_BR, 1, VEC_NP}, {VEC_NM, 0, VEC_GP}, {VEC_DE, 0, VEC_DF},
		{VEC_GP, 1, VEC_DF}, {VEC_NP, 0, VEC_DF}, {VEC_SS, 1, VEC_DF}, {VEC_TS, 0, VEC_DF},
		{VEC_PF, 0, VEC_DF}, {VEC_PF, 1, VEC_DF}, {VEC_AC, 0, VEC_GP}, {VEC_MF, 1, VEC_NP},
	};
	struct outcome o;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct nested *c = &cases[i];
		uint64_t gate = rig_gate(RIG_CODE, RIG_HANDLER, 14, 0, 0);

		rig_tables(&rig, false);
		rig_enter(&rig, false, 0);
		rig_poke64(&rig, RIG_IDT + c->first * 8,
			   c->second_gate == 0 ? 0 : gate & ~(0x80ull << 40));
		RIG_TRY(&rig, o, raise_error(rig.v, c->first, 0));
		assert_int_equal(o.vector, c->want);
		assert_int_equal(o.error, c->want == VEC_DF ? 0 : c->first * 8 + 3);
	}
	rig_tables(&rig, false);
}

static void fault_in_double_fault_shuts_down(void **state)
{
	struct outcome o;

	rig_enter(&rig, false, 0);
	rig.v->idtr.limit = 0;
	RIG_TRY(&rig, o, raise_exception(rig.v, VEC_UD));
	assert_int_equal(o.vector, -2);
	assert_true(rig.v->shutdown);
	assert_int_equal(rig.v->delivering, -1);
}

static void long_mode_frames_are_aligned_and_whole(void **state)
{
	struct outcome o;

	rig_tables(&rig, true);
	for (unsigned ist = 0; ist < 8; ist++) {
		uint32_t base = ist ? 0x70000 + ist * 0x1000 : (RIG_STACK - 8) & ~15;

		rig_enter(&rig, true, 0);
		rig.v->gpr[RSP] = RIG_STACK - 8;
		if (ist) {
			rig_poke64(&rig, RIG_TSS + 0x24 + (ist - 1) * 8, base);
		}
		rig_poke64(&rig, RIG_IDT + VEC_PF * 16,
			   rig_gate(RIG_CODE64, RIG_HANDLER + VEC_PF * 16, 14, 0, ist));
		RIG_TRY(&rig, o, raise_page_fault(rig.v, 0x1234567890, 2));
		assert_int_equal(o.vector, VEC_PF);
		assert_true(rig.v->cr2 == 0x1234567890);
		assert_int_equal(rig.v->gpr[RSP], base - 48);
		assert_int_equal(rig_peek(&rig, base - 48, 8), 2);
		assert_int_equal(rig_peek(&rig, base - 40, 8), RIG_INSN);
		assert_int_equal(rig_peek(&rig, base - 32, 8), RIG_CODE64);
		assert_int_equal(rig_peek(&rig, base - 16, 8), RIG_STACK - 8);
		assert_int_equal(rig_peek(&rig, base - 8, 8), RIG_DATA);
	}
	rig_tables(&rig, false);
}

static void inner_ring_of_long_mode_gets_a_null_ss(void **state)
{
	struct outcome o;

	rig_tables(&rig, true);
	rig_enter(&rig, true, 3);
	RIG_TRY(&rig, o, raise_exception(rig.v, VEC_UD));
	assert_int_equal(o.vector, VEC_UD);
	assert_int_equal(rig.v->cpl, 0);
	assert_int_equal(rig.v->seg[SEG_SS].selector, 0);
	assert_int_equal(rig.v->gpr[RSP], RIG_STACK0 - 40);
	/* IRETQ restores all of it. */
	rig.v->insn = &rig.insn;
	RIG_TRY(&rig, o, far_iret(rig.v, 8));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->cpl, 3);
	assert_int_equal(rig.v->rip, RIG_INSN);
	assert_int_equal(rig.v->gpr[RSP], RIG_STACK);
	assert_int_equal(rig.v->seg[SEG_SS].selector, RIG_DATA + 27);
	rig_tables(&rig, false);
}

static void enter_v86(unsigned iopl)
{
	rig_enter(&rig, false, 0);
	for (unsigned s = 0; s < N_SEG; s++) {
		rig.v->seg[s] = segment_v86((uint16_t)(0x100 * (s + 1)));
	}
	rig.v->cpl = 3;
	rig.v->rflags |= FL_VM | FL_IF | iopl << 12;
	rig.v->gpr[RSP] = 0x800;
	rig.v->trace_rip = 0x40;
	vcpu_update_mode(rig.v);
}

static void v86_interrupt_saves_segments_and_iret_restores_them(void **state)
{
	static const enum seg order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	struct outcome o;

	enter_v86(3);
	RIG_TRY(&rig, o, far_interrupt(rig.v, 0x41, EVENT_SOFTWARE, true));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->cpl, 0);
	assert_int_equal(rig.v->gpr[RSP], RIG_STACK0 - 36);
	assert_int_equal(rig_peek(&rig, RIG_STACK0 - 36, 4), 0x43);
	assert_int_equal(rig_peek(&rig, RIG_STACK0 - 32, 4), 0x200);
	assert_true(rig_peek(&rig, RIG_STACK0 - 28, 4) & FL_VM);
	assert_int_equal(rig_peek(&rig, RIG_STACK0 - 24, 4), 0x800);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(rig_peek(&rig, RIG_STACK0 - 20 + i * 4, 4),
				 0x100 * (order[i] + 1));
	}
	assert_true(rig.v->seg[SEG_DS].attr & SEG_UNUSABLE);
	rig.v->insn = &rig.insn;
	RIG_TRY(&rig, o, far_iret(rig.v, 4));
	assert_int_equal(o.vector, -1);
	assert_true(rig.v->mode & MODE_V86);
	assert_int_equal(rig.v->rip, 0x43);
	for (unsigned s = 0; s < N_SEG; s++) {
		assert_int_equal(rig.v->seg[s].selector, 0x100 * (s + 1));
	}
}

static void v86_without_iopl_refuses_int_n_but_not_int3(void **state)
{
	struct outcome o;

	enter_v86(0);
	RIG_TRY(&rig, o, far_interrupt(rig.v, 0x41, EVENT_SOFTWARE, true));
	assert_int_equal(o.vector, VEC_GP);
	assert_int_equal(o.error, 0);
	enter_v86(0);
	RIG_TRY(&rig, o, far_interrupt(rig.v, VEC_BP, EVENT_SOFTWARE, false));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->rip, RIG_HANDLER + VEC_BP * 16);
}

/* CR4.VME: a clear bit of the redirection bitmap sends INT n to the 8086's table. */
static void vme_redirects_int_n(void **state)
{
	struct outcome o;

	enter_v86(0);
	rig.v->cr4 |= CR4_VME;
	rig.v->rflags = (rig.v->rflags & ~(uint32_t)FL_IF) | FL_VIF;
	rig_poke64(&rig, RIG_TSS + 0x60, (uint64_t)0x88 << 48);
	rig_poke64(&rig, 0x41 * 4, 0x05000123);
	RIG_TRY(&rig, o, far_interrupt(rig.v, 0x41, EVENT_SOFTWARE, true));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->rip, 0x123);
	assert_int_equal(rig.v->seg[SEG_CS].selector, 0x500);
	assert_false(rig.v->rflags & FL_VIF);
	/* SS is 0x300: IF in the image is VIF, IOPL reads 3. */
	assert_int_equal(rig_peek(&rig, 0x3000 + 0x7fe, 2) & 0x3200, 0x3200);
	assert_int_equal(rig_peek(&rig, 0x3000 + 0x7fa, 2), 0x43);
	rig.v->insn = &rig.insn;
	RIG_TRY(&rig, o, far_iret(rig.v, 2));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->rip, 0x43);
	assert_int_equal(rig.v->rflags & (FL_VIF | FL_IF | FL_IOPL), FL_VIF);
}

static void iret_in_long_mode_refuses_nt(void **state)
{
	struct outcome o;

	rig_tables(&rig, true);
	rig_enter(&rig, true, 0);
	rig.v->rflags |= FL_NT;
	RIG_TRY(&rig, o, far_iret(rig.v, 8));
	assert_int_equal(o.vector, VEC_GP);
	rig_tables(&rig, false);
}

static void iret_changes_flags_by_privilege(void **state)
{
	const uint32_t all = 0x3f7fd5 & ~(uint32_t)FL_VM;
	struct outcome o;

	for (unsigned cpl = 0; cpl < 4; cpl++) {
		uint32_t want = FL_1 | FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;

		want |= cpl == 0 ? FL_IOPL | FL_IF | FL_VIF | FL_VIP : 0;
		rig_enter(&rig, false, cpl);
		rig_poke64(&rig, RIG_STACK, TARGET | (uint64_t)(RIG_CODE + cpl * 9) << 32);
		rig_poke64(&rig, RIG_STACK + 8, all);
		RIG_TRY(&rig, o, far_iret(rig.v, 4));
		assert_int_equal(o.vector, -1);
		assert_int_equal(vcpu_rflags(rig.v), want);
	}
}

static void real_mode_interrupt_uses_the_vector_table(void **state)
{
	struct outcome o;

	rig_enter(&rig, false, 0);
	rig.v->cr0 = CR0_ET;
	for (unsigned s = 0; s < N_SEG; s++) {
		rig.v->seg[s] = (struct segment){s << 16, 0xffff, 0x93, (uint16_t)(s << 12)};
	}
	rig.v->idtr = (struct desc_table){0, 0x3ff};
	rig.v->gpr[RSP] = 0xabcd0002;
	rig.v->rflags |= FL_IF;
	rig.v->trace_rip = 0x100;
	vcpu_update_mode(rig.v);
	rig_poke64(&rig, 0x21 * 4, 0x12345678);
	RIG_TRY(&rig, o, far_interrupt(rig.v, 0x21, EVENT_SOFTWARE, true));
	assert_int_equal(o.vector, -1);
	assert_int_equal(rig.v->rip, 0x5678);
	assert_int_equal(rig.v->seg[SEG_CS].base, 0x12340);
	assert_int_equal(rig.v->gpr[RSP], 0xabcdfffc);
	assert_int_equal(rig_peek(&rig, 0x20000, 2), 0x202); /* FLAGS, SP wrapped behind it */
	assert_int_equal(rig_peek(&rig, 0x2fffc, 2), 0x103);
	assert_false(rig.v->rflags & FL_IF);
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
		cmocka_unit_test(direct_jumps_and_calls_follow_the_manual),
		cmocka_unit_test(call_gates_follow_the_manual),
		cmocka_unit_test(call_gate_16_pushes_words),
		cmocka_unit_test(call_gate_64_takes_rsp_from_the_tss),
		cmocka_unit_test(returns_follow_the_manual),
		cmocka_unit_test(software_interrupts_follow_the_manual),
		cmocka_unit_test(faults_push_rf_and_traps_do_not),
		cmocka_unit_test(hardware_events_set_ext),
		cmocka_unit_test(double_faults_follow_the_table),
		cmocka_unit_test(fault_in_double_fault_shuts_down),
		cmocka_unit_test(long_mode_frames_are_aligned_and_whole),
		cmocka_unit_test(inner_ring_of_long_mode_gets_a_null_ss),
		cmocka_unit_test(v86_interrupt_saves_segments_and_iret_restores_them),
		cmocka_unit_test(v86_without_iopl_refuses_int_n_but_not_int3),
		cmocka_unit_test(vme_redirects_int_n),
		cmocka_unit_test(iret_in_long_mode_refuses_nt),
		cmocka_unit_test(iret_changes_flags_by_privilege),
		cmocka_unit_test(real_mode_interrupt_uses_the_vector_table),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
