/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far JMP and CALL, INT n. Returns are in far_return.c, the fast system calls in syscall.c.
 * Intel SDM volume 2 (JMP, CALL, INT n), volume 3, 5.8 and 20.
 */
#include "execute/far.h"
#include "execute/far_internal.h"

#include "execute/task.h"

static uint64_t truncate_offset(uint64_t offset, unsigned opsize)
{
	return opsize == 2 ? (uint16_t)offset : opsize == 4 ? (uint32_t)offset : offset;
}

bool far_is_64(const struct vcpu *v, const struct descriptor *cs)
{
	return (v->efer & EFER_LMA) && (desc_attr(cs) & SEG_L);
}

void far_check_target(struct vcpu *v, const struct descriptor *cs, uint64_t offset)
{
	bool ok = far_is_64(v, cs) ? is_canonical(offset) : offset <= desc_limit(cs);

	if (!ok) {
		raise_error(v, VEC_GP, 0);
	}
}

void far_enter(struct vcpu *v, uint16_t sel, const struct descriptor *cs, unsigned cpl,
	       uint64_t offset)
{
	v->seg[SEG_CS] = segment_from((uint16_t)((sel & ~SEL_RPL) | cpl), cs);
	v->cpl = (uint8_t)cpl;
	v->rip = offset;
	vcpu_update_mode(v);
}

/* Real-address and virtual-8086 mode. */
static void enter_real(struct vcpu *v, uint16_t sel, uint64_t offset)
{
	segment_load_real(v, SEG_CS, sel);
	v->rip = offset;
	vcpu_update_mode(v);
}

static bool is_real(const struct vcpu *v)
{
	return !(v->mode & MODE_PROT);
}

/* Checks of a direct transfer, and of one through a gate, to a code segment at the same level. */
static void check_code(struct vcpu *v, uint16_t sel, const struct descriptor *cs)
{
	bool ok = desc_is_conforming(cs)
			  ? desc_dpl(cs) <= v->cpl
			  : (unsigned)(sel & SEL_RPL) <= v->cpl && desc_dpl(cs) == v->cpl;

	if (!ok || (far_is_64(v, cs) && (desc_attr(cs) & SEG_DB))) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	if (!desc_present(cs)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
}

/* A gate or TSS that a selector names: privilege, presence. */
static void check_system(struct vcpu *v, uint16_t sel, const struct descriptor *d)
{
	const unsigned legacy = 1 << SYS_TSS16 | 1 << SYS_CALL16 | 1 << SYS_TASK_GATE |
				1 << SYS_TSS32 | 1 << SYS_CALL32;
	unsigned types = v->efer & EFER_LMA ? 1 << SYS_CALL32 : legacy;

	if (!(types >> desc_type(d) & 1) || desc_dpl(d) < v->cpl ||
	    desc_dpl(d) < (unsigned)(sel & SEL_RPL)) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	if (!desc_present(d)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
}

/* Where a call gate leads. */
struct gate_target {
	struct descriptor cs;
	uint64_t offset;
	unsigned size; /* of what is pushed: 2, 4, 8 */
	unsigned n_params;
	uint16_t sel;
};

static void read_call_gate(struct vcpu *v, uint16_t sel, const struct descriptor *gate,
			   struct gate_target *t)
{
	uint64_t upper = 0;

	t->size = desc_type(gate) & 8 ? 4 : 2;
	t->offset = t->size == 4 ? gate_offset(gate) : gate_offset(gate) & 0xffff;
	t->n_params = gate->raw >> 32 & 31;
	t->sel = gate_selector(gate);
	if (v->efer & EFER_LMA) {
		if (!desc_read_upper(v, sel, gate, &upper) || (upper >> 32 & 0x1f00)) {
			raise_error(v, VEC_GP, sel & ~SEL_RPL);
		}
		t->offset |= upper << 32;
		t->size = 8;
		t->n_params = 0;
	}
	if (is_null(t->sel)) {
		raise_error(v, VEC_GP, 0);
	}
	desc_read_or_raise(v, t->sel, &t->cs, VEC_GP);
	if (!desc_is_code(&t->cs) || desc_dpl(&t->cs) > v->cpl ||
	    ((v->efer & EFER_LMA) && (desc_attr(&t->cs) & (SEG_L | SEG_DB)) != SEG_L)) {
		raise_error(v, VEC_GP, t->sel & ~SEL_RPL);
	}
	if (!desc_present(&t->cs)) {
		raise_error(v, VEC_NP, t->sel & ~SEL_RPL);
	}
}

/* JMP and CALL straight to a TSS or through a task gate. */
static bool transfer_task(struct vcpu *v, uint16_t sel, const struct descriptor *d,
			  enum task_reason reason)
{
	switch (desc_type(d)) {
	case SYS_TASK_GATE:
		v->rip = vcpu_next_rip(v, v->insn);
		task_switch_gate(v, d->raw, reason);
		return true;
	case SYS_TSS16:
	case SYS_TSS32:
		v->rip = vcpu_next_rip(v, v->insn);
		task_switch(v, sel, reason);
		return true;
	}
	return false;
}

void far_jump(struct vcpu *v, uint16_t sel, uint64_t offset, unsigned opsize)
{
	struct descriptor d;
	struct gate_target t;

	offset = truncate_offset(offset, opsize);
	if (is_real(v)) {
		if (offset > v->seg[SEG_CS].limit) {
			raise_error(v, VEC_GP, 0);
		}
		enter_real(v, sel, offset);
		return;
	}
	if (is_null(sel)) {
		raise_error(v, VEC_GP, 0);
	}
	desc_read_or_raise(v, sel, &d, VEC_GP);
	if (desc_is_segment(&d)) {
		if (!desc_is_code(&d)) {
			raise_error(v, VEC_GP, sel & ~SEL_RPL);
		}
		check_code(v, sel, &d);
		far_check_target(v, &d, offset);
		desc_set_accessed(v, &d);
		far_enter(v, sel, &d, v->cpl, offset);
		return;
	}
	check_system(v, sel, &d);
	if (transfer_task(v, sel, &d, TASK_JUMP)) {
		return;
	}
	read_call_gate(v, sel, &d, &t);
	if (!desc_is_conforming(&t.cs) && desc_dpl(&t.cs) != v->cpl) {
		raise_error(v, VEC_GP, t.sel & ~SEL_RPL);
	}
	far_check_target(v, &t.cs, t.offset);
	desc_set_accessed(v, &t.cs);
	far_enter(v, t.sel, &t.cs, v->cpl, t.offset);
}

static void push_return(struct vcpu *v, struct stack *st, unsigned size)
{
	stack_push(v, st, size, v->seg[SEG_CS].selector);
	stack_push(v, st, size, vcpu_next_rip(v, v->insn));
}

/* A call gate to an inner ring of a 16- or 32-bit task: the stack changes, parameters follow. */
static void call_inner(struct vcpu *v, struct gate_target *t)
{
	unsigned cpl = desc_dpl(&t->cs), n;
	struct stack old = stack_current(v), st;
	struct segment new_ss;
	struct descriptor ss;
	uint32_t sp, params[31];
	uint16_t ss_sel;

	tss_stack(v, cpl, &ss_sel, &sp);
	stack_segment_check(v, ss_sel, cpl, VEC_TS, &ss);
	far_check_target(v, &t->cs, t->offset);
	for (n = 0; n < t->n_params; n++) {
		params[n] = (uint32_t)stack_pop(v, &old, t->size);
	}
	desc_set_accessed(v, &ss);
	new_ss = segment_from(ss_sel, &ss);
	st = stack_in(&new_ss, sp, cpl, ss_sel & ~SEL_RPL);
	stack_push(v, &st, t->size, v->seg[SEG_SS].selector);
	stack_push(v, &st, t->size, v->gpr[RSP]);
	while (n > 0) {
		stack_push(v, &st, t->size, params[--n]);
	}
	push_return(v, &st, t->size);
	desc_set_accessed(v, &t->cs);
	v->seg[SEG_SS] = new_ss;
	v->gpr[RSP] = sp;
	stack_commit(v, &st);
	far_enter(v, t->sel, &t->cs, cpl, t->offset);
}

static void call_inner_long(struct vcpu *v, struct gate_target *t)
{
	struct stack st = {.mask = UINT64_MAX, .flat64 = true, .cpl = desc_dpl(&t->cs)};

	st.sp = tss_stack64(v, st.cpl);
	far_check_target(v, &t->cs, t->offset);
	stack_push(v, &st, 8, v->seg[SEG_SS].selector);
	stack_push(v, &st, 8, v->gpr[RSP]);
	push_return(v, &st, 8);
	desc_set_accessed(v, &t->cs);
	v->seg[SEG_SS] = segment_null((uint16_t)st.cpl);
	v->seg[SEG_SS].attr |= st.cpl << SEG_DPL_SHIFT;
	v->gpr[RSP] = st.sp;
	far_enter(v, t->sel, &t->cs, st.cpl, t->offset);
}

static void call_gate(struct vcpu *v, uint16_t sel, const struct descriptor *gate)
{
	struct gate_target t;
	struct stack st;

	read_call_gate(v, sel, gate, &t);
	if (!desc_is_conforming(&t.cs) && desc_dpl(&t.cs) < v->cpl) {
		if (v->efer & EFER_LMA) {
			call_inner_long(v, &t);
		} else {
			call_inner(v, &t);
		}
		return;
	}
	far_check_target(v, &t.cs, t.offset);
	st = stack_current(v);
	if (v->efer & EFER_LMA) {
		/* The target is 64-bit code even when the caller is not. */
		st = (struct stack){.sp = v->gpr[RSP],
				    .mask = UINT64_MAX,
				    .flat64 = true,
				    .cpl = v->cpl};
	}
	push_return(v, &st, t.size);
	desc_set_accessed(v, &t.cs);
	stack_commit(v, &st);
	far_enter(v, t.sel, &t.cs, v->cpl, t.offset);
}

void far_call(struct vcpu *v, uint16_t sel, uint64_t offset, unsigned opsize)
{
	struct stack st = stack_current(v);
	struct descriptor d;

	offset = truncate_offset(offset, opsize);
	if (is_real(v)) {
		if (offset > v->seg[SEG_CS].limit) {
			raise_error(v, VEC_GP, 0);
		}
		push_return(v, &st, opsize);
		stack_commit(v, &st);
		enter_real(v, sel, offset);
		return;
	}
	if (is_null(sel)) {
		raise_error(v, VEC_GP, 0);
	}
	desc_read_or_raise(v, sel, &d, VEC_GP);
	if (desc_is_segment(&d)) {
		if (!desc_is_code(&d)) {
			raise_error(v, VEC_GP, sel & ~SEL_RPL);
		}
		check_code(v, sel, &d);
		far_check_target(v, &d, offset);
		push_return(v, &st, opsize);
		desc_set_accessed(v, &d);
		stack_commit(v, &st);
		far_enter(v, sel, &d, v->cpl, offset);
		return;
	}
	check_system(v, sel, &d);
	if (!transfer_task(v, sel, &d, TASK_CALL)) {
		call_gate(v, sel, &d);
	}
}

/* -- INT n -- */

/* CR4.VME: whether the redirection bitmap of the TSS hands this vector to the IVT. */
static bool is_redirected(struct vcpu *v, unsigned vector)
{
	const struct segment *tr = &v->seg[SEG_TR];
	uint32_t map;

	if ((tr->attr & SEG_UNUSABLE) || !(tr->attr & 8) || tr->limit < 0x67) {
		raise_error(v, VEC_GP, 0);
	}
	map = (uint32_t)mmu_read_sys(v, tr->base + 0x66, 2);
	if (map < 32 || map - 32 + vector / 8 > tr->limit) {
		raise_error(v, VEC_GP, 0);
	}
	return !(mmu_read_sys(v, tr->base + map - 32 + vector / 8, 1) >> (vector % 8) & 1);
}

/* SDM vol. 3, 20.3.3.4: as an 8086 would, within virtual-8086 mode. */
static void interrupt_v86(struct vcpu *v, unsigned vector)
{
	struct stack st = stack_current(v);
	uint32_t entry = (uint32_t)mmu_read_cpl(v, v->cpl, vector * 4, 4);
	uint32_t flags = (uint32_t)vcpu_rflags(v);
	bool full = (flags & FL_IOPL) == FL_IOPL;

	if (!full) {
		flags = (flags & ~(uint32_t)FL_IF) | FL_IOPL | (flags & FL_VIF ? FL_IF : 0);
	}
	stack_push(v, &st, 2, flags & 0xffff);
	stack_push(v, &st, 2, v->seg[SEG_CS].selector);
	stack_push(v, &st, 2, vcpu_next_rip(v, v->insn));
	stack_commit(v, &st);
	v->rflags &= ~(uint32_t)(FL_TF | FL_NT | FL_RF | (full ? FL_IF : FL_VIF));
	v->insn = NULL; /* no single-step trap after it: debug_insn_end() */
	enter_real(v, (uint16_t)(entry >> 16), entry & 0xffff);
}

void far_interrupt(struct vcpu *v, unsigned vector, enum event_kind kind, bool n)
{
	if ((v->mode & MODE_V86) && n) {
		if ((v->cr4 & CR4_VME) && is_redirected(v, vector)) {
			interrupt_v86(v, vector);
			return;
		}
		if ((v->rflags & FL_IOPL) != FL_IOPL) {
			raise_error(v, VEC_GP, 0);
		}
	}
	v->rip = vcpu_next_rip(v, v->insn);
	if (kind == EVENT_INT1) {
		/* Data breakpoints that MOV SS held back are told by this same #DB. */
		v->dr[6] |= v->pending_db;
		v->pending_db = 0;
	}
	vcpu_deliver(v, vector, kind, false, 0);
}
