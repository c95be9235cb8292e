/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions and interrupts: from the vector to the handler's first instruction, in every mode.
 * Intel SDM volume 3 chapter 6, 20.1.4 (real-address mode), 20.3 (virtual-8086 mode).
 */
#include "execute/debug.h"
#include "execute/execute.h"
#include "execute/segment.h"
#include "execute/task.h"

/*
 * Benign exceptions may be raised while delivering each other without end (#AC by a misaligned
 * stack): a processor hangs on them, here it shuts down.
 */
enum { MAX_NESTED = 8 };

struct event {
	unsigned vector;
	enum event_kind kind;
	bool has_error;
	uint32_t error;
	uint32_t flags; /* RFLAGS image to push */
};

static void deliver(struct vcpu *v, const struct event *ev);

void vcpu_unwind(struct vcpu *v)
{
	longjmp(v->unwind, 1);
}

/* -- Raising -- */

static bool is_contributory(int vector)
{
	return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* SDM vol. 3 table 6-5: what becomes of `second`, raised while `first` was being delivered. */
static bool makes_double_fault(int first, int second)
{
	if (first == VEC_PF) {
		return is_contributory(second) || second == VEC_PF;
	}
	return is_contributory(first) && is_contributory(second);
}

static _Noreturn void shut_down(struct vcpu *v)
{
	v->delivering = -1;
	v->n_nested = 0;
	v->shutdown = true;
	vcpu_unwind(v);
}

static _Noreturn void raise_fault(struct vcpu *v, unsigned vector, bool has_error, uint32_t error)
{
	int first = v->delivering;
	struct event ev = {vector, EVENT_EXCEPTION, has_error, error, 0};

	if (v->insn != NULL) {
		uint64_t rip = vcpu_insn_rip(v);

		v->rip = (v->mode & MODE_SIZE) == MODE_64 ? rip : (uint32_t)rip;
		v->pending_db = 0;
		v->n_insns -= (uint8_t)(v->insn->rest + 1);
	}
	if (first >= 0) {
		if (vector >= VEC_TS && vector <= VEC_GP) {
			ev.error |= v->delivering_ext;
		}
		if ((first == VEC_DF && (is_contributory((int)vector) || vector == VEC_PF)) ||
		    v->n_nested++ == MAX_NESTED) {
			shut_down(v);
		}
		if (makes_double_fault(first, (int)vector)) {
			ev = (struct event){VEC_DF, EVENT_EXCEPTION, true, 0, 0};
		}
	}
	ev.flags = (uint32_t)vcpu_rflags(v) | (vector != VEC_DB ? FL_RF : 0);
	deliver(v, &ev);
	vcpu_unwind(v);
}

void raise_exception(struct vcpu *v, unsigned vector)
{
	raise_fault(v, vector, false, 0);
}

void raise_error(struct vcpu *v, unsigned vector, uint32_t error_code)
{
	raise_fault(v, vector, true, error_code & 0xffff);
}

void raise_page_fault(struct vcpu *v, uint64_t lin, uint32_t error_code)
{
	v->cr2 = lin;
	raise_fault(v, VEC_PF, true, error_code);
}

/* -- Delivery -- */

/* Flags on entry: through an interrupt gate IF ends as well. */
static void enter_flags(struct vcpu *v, bool interrupt_gate)
{
	v->rflags &= ~(uint32_t)(FL_TF | FL_NT | FL_RF | FL_VM);
	if (interrupt_gate) {
		v->rflags &= ~(uint32_t)FL_IF;
	}
}

static void deliver_real(struct vcpu *v, const struct event *ev)
{
	struct stack st = stack_current(v);
	uint32_t entry;

	if (ev->vector * 4 + 3 > v->idtr.limit) {
		raise_error(v, VEC_GP, ev->vector * 8 + 2);
	}
	entry = (uint32_t)mmu_read_sys(v, v->idtr.base + ev->vector * 4, 4);
	stack_push(v, &st, 2, ev->flags & 0xffff);
	stack_push(v, &st, 2, v->seg[SEG_CS].selector);
	stack_push(v, &st, 2, v->rip & 0xffff);
	stack_commit(v, &st);
	segment_load_real(v, SEG_CS, (uint16_t)(entry >> 16));
	v->rip = entry & 0xffff;
	v->rflags &= ~(uint32_t)(FL_IF | FL_TF | FL_RF | FL_AC);
}

/* Reads and checks the gate for an event; `types`: bit mask of the types the mode knows. */
static void gate_read(struct vcpu *v, const struct event *ev, unsigned entry_size, unsigned types,
		      struct descriptor *gate)
{
	uint32_t error = ev->vector * 8 + 2;

	if (ev->vector * entry_size + entry_size - 1 > v->idtr.limit) {
		raise_error(v, VEC_GP, error);
	}
	gate->lin = v->idtr.base + ev->vector * entry_size;
	gate->raw = mmu_read_sys(v, gate->lin, 8);
	if (desc_is_segment(gate) || !(types >> desc_type(gate) & 1)) {
		raise_error(v, VEC_GP, error);
	}
	if (ev->kind == EVENT_SOFTWARE && desc_dpl(gate) < v->cpl) {
		raise_error(v, VEC_GP, error);
	}
	if (!desc_present(gate)) {
		raise_error(v, VEC_NP, error);
	}
}

/* The handler's code segment. */
static void handler_segment(struct vcpu *v, uint16_t sel, struct descriptor *cs)
{
	if (is_null(sel)) {
		raise_error(v, VEC_GP, 0);
	}
	desc_read_or_raise(v, sel, cs, VEC_GP);
	if (!desc_is_code(cs) || desc_dpl(cs) > v->cpl) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	if (v->efer & EFER_LMA) {
		if ((desc_attr(cs) & (SEG_L | SEG_DB)) != SEG_L) {
			raise_error(v, VEC_GP, sel & ~SEL_RPL);
		}
	}
	if (!desc_present(cs)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
}

static void enter_code_segment(struct vcpu *v, uint16_t sel, struct descriptor *cs, unsigned cpl)
{
	v->seg[SEG_CS] = segment_from((uint16_t)((sel & ~SEL_RPL) | cpl), cs);
	v->cpl = (uint8_t)cpl;
}

static void push_frame_protected(struct vcpu *v, const struct event *ev, struct stack *st,
				 unsigned size, bool inner)
{
	static const enum seg order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
	unsigned i;

	if (v->rflags & FL_VM) {
		for (i = 0; i < 4; i++) {
			stack_push(v, st, size, v->seg[order[i]].selector);
		}
	}
	if (inner) {
		stack_push(v, st, size, v->seg[SEG_SS].selector);
		stack_push(v, st, size, v->gpr[RSP]);
	}
	stack_push(v, st, size, ev->flags);
	stack_push(v, st, size, v->seg[SEG_CS].selector);
	stack_push(v, st, size, v->rip);
	if (ev->has_error) {
		stack_push(v, st, size, ev->error);
	}
}

static void deliver_task_gate(struct vcpu *v, const struct event *ev, uint64_t gate)
{
	struct stack st;

	/* The old TSS gets the image, RF included. */
	v->rflags = (v->rflags & ~(uint32_t)FL_RF) | (ev->flags & FL_RF);
	task_switch_gate(v, gate, TASK_EVENT);
	if (ev->has_error) {
		st = stack_current(v);
		stack_push(v, &st, v->seg[SEG_TR].attr & 8 ? 4 : 2, ev->error);
		stack_commit(v, &st);
	}
}

static void deliver_protected(struct vcpu *v, const struct event *ev)
{
	const unsigned types = 1 << SYS_TASK_GATE | 1 << SYS_INT16 | 1 << SYS_TRAP16 |
			       1 << SYS_INT32 | 1 << SYS_TRAP32;
	struct descriptor gate, cs, ss;
	struct segment new_ss = v->seg[SEG_SS];
	bool v86 = v->rflags & FL_VM, inner;
	unsigned cpl, size;
	uint32_t offset, sp;
	uint16_t sel, ss_sel;
	struct stack st;

	gate_read(v, ev, 8, types, &gate);
	if (desc_type(&gate) == SYS_TASK_GATE) {
		deliver_task_gate(v, ev, gate.raw);
		return;
	}
	size = desc_type(&gate) & 8 ? 4 : 2;
	offset = size == 4 ? gate_offset(&gate) : gate_offset(&gate) & 0xffff;
	sel = gate_selector(&gate);
	handler_segment(v, sel, &cs);
	inner = !desc_is_conforming(&cs) && desc_dpl(&cs) < v->cpl;
	if (v86 && (!inner || desc_dpl(&cs) != 0)) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	cpl = inner ? desc_dpl(&cs) : v->cpl;
	if (inner) {
		tss_stack(v, cpl, &ss_sel, &sp);
		stack_segment_check(v, ss_sel, cpl, VEC_TS, &ss);
		desc_set_accessed(v, &ss);
		new_ss = segment_from(ss_sel, &ss);
		st = stack_in(&new_ss, sp, cpl, ss_sel & ~SEL_RPL);
	} else {
		st = stack_current(v);
	}
	if (offset > desc_limit(&cs)) {
		raise_error(v, VEC_GP, 0);
	}
	push_frame_protected(v, ev, &st, size, inner);
	desc_set_accessed(v, &cs);
	if (v86) {
		v->seg[SEG_GS] = v->seg[SEG_FS] = v->seg[SEG_DS] = v->seg[SEG_ES] = segment_null(0);
	}
	v->seg[SEG_SS] = new_ss;
	enter_code_segment(v, sel, &cs, cpl);
	if (inner) {
		v->gpr[RSP] = st.mask == UINT32_MAX ? (uint32_t)st.sp
						    : (sp & ~0xffffu) | (st.sp & 0xffff);
	} else {
		stack_commit(v, &st);
	}
	v->rip = offset;
	enter_flags(v, !(desc_type(&gate) & 1));
}

/* SS, RSP, RFLAGS, CS, RIP and the error code, downwards from st->sp. */
static void push_frame_long(struct vcpu *v, const struct event *ev, struct stack *st)
{
	const uint64_t frame[] = {v->seg[SEG_SS].selector, v->gpr[RSP], ev->flags,
				  v->seg[SEG_CS].selector, v->rip,	ev->error};
	unsigned n = ev->has_error ? 6 : 5;
	uint64_t *to = mmu_hit_cpl(v, st->cpl, st->sp - n * 8, n * 8, MMU_W);

	for (unsigned i = 0; i < n; i++) {
		if (to != NULL) {
			to[n - 1 - i] = frame[i];
		} else {
			stack_push(v, st, 8, frame[i]);
		}
	}
	st->sp -= to != NULL ? n * 8 : 0;
}

static void deliver_long(struct vcpu *v, const struct event *ev)
{
	struct descriptor gate, cs;
	struct stack st = {.mask = UINT64_MAX, .flat64 = true};
	uint64_t offset;
	unsigned ist;
	uint16_t sel;

	gate_read(v, ev, 16, 1 << SYS_INT32 | 1 << SYS_TRAP32, &gate);
	offset = gate_offset(&gate) | mmu_read_sys(v, gate.lin + 8, 4) << 32;
	sel = gate_selector(&gate);
	ist = gate.raw >> 32 & 7;
	handler_segment(v, sel, &cs);
	st.cpl = desc_is_conforming(&cs) ? v->cpl : desc_dpl(&cs);
	if (ist != 0) {
		st.sp = tss_stack64(v, 3 + ist);
	} else if (st.cpl < v->cpl) {
		st.sp = tss_stack64(v, st.cpl);
	} else {
		st.sp = v->gpr[RSP];
	}
	st.sp &= ~0xfull;
	if (!is_canonical(offset)) {
		raise_error(v, VEC_GP, 0);
	}
	push_frame_long(v, ev, &st);
	desc_set_accessed(v, &cs);
	if (st.cpl < v->cpl) {
		v->seg[SEG_SS] = segment_null((uint16_t)st.cpl);
		v->seg[SEG_SS].attr |= st.cpl << SEG_DPL_SHIFT;
	}
	enter_code_segment(v, sel, &cs, st.cpl);
	v->gpr[RSP] = st.sp;
	v->rip = offset;
	enter_flags(v, !(desc_type(&gate) & 1));
}

static void deliver(struct vcpu *v, const struct event *ev)
{
	v->delivering = ev->kind == EVENT_EXCEPTION ? (int)ev->vector : DELIVERING_INTERRUPT;
	v->delivering_ext = ev->kind != EVENT_SOFTWARE;
	if (!(v->cr0 & CR0_PE)) {
		deliver_real(v, ev);
	} else if (v->efer & EFER_LMA) {
		deliver_long(v, ev);
	} else {
		deliver_protected(v, ev);
	}
	v->delivering = -1;
	v->n_nested = 0;
	v->insn = NULL;
	v->shadow = 0;
	v->halted = false;
	if (ev->kind == EVENT_NMI) {
		v->nmi_blocked = true;
	}
	vcpu_update_mode(v);
}

void vcpu_deliver(struct vcpu *v, unsigned vector, enum event_kind kind, bool has_error,
		  uint32_t error_code)
{
	struct event ev = {vector, kind, has_error, error_code, (uint32_t)vcpu_rflags(v)};

	if ((kind == EVENT_EXTERNAL || kind == EVENT_NMI) && v->pending_db) {
		/* A trap of the instruction before comes first: SDM vol. 3 table 6-2. */
		debug_deliver(v, v->pending_db);
		ev.flags = (uint32_t)vcpu_rflags(v);
	}
	if (kind == EVENT_EXCEPTION || kind == EVENT_EXTERNAL || kind == EVENT_NMI) {
		v->insn = NULL; /* between instructions: faults of the delivery belong to v->rip */
	}
	deliver(v, &ev);
}
