/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware task switching. Intel SDM volume 3 chapter 7. */
#include "execute/task.h"

#include "execute/debug.h"
#include "execute/segment.h"
#include "mmu/walk.h"

enum { N_TASK_SEGS = 6 };

/* Where the fields of a TSS lie, SDM vol. 3 figures 7-2 and 7-10. */
struct tss_layout {
	unsigned size; /* of a register's field */
	unsigned min_limit;
	unsigned ip, flags, gpr, es, ldt;
	unsigned n_segs; /* from ES on */
};

static const struct tss_layout tss16 = {2, 0x2b, 0x0e, 0x10, 0x12, 0x22, 0x2a, 4};
static const struct tss_layout tss32 = {4, 0x67, 0x20, 0x24, 0x28, 0x48, 0x60, 6};

/* The registers a TSS holds; seg[] in the order ES, CS, SS, DS, FS, GS. */
struct task {
	uint32_t cr3, ip, flags, gpr[8];
	uint16_t seg[N_TASK_SEGS], ldt;
	bool trap;
};

static const struct tss_layout *layout_of(uint32_t type)
{
	return type & 8 ? &tss32 : &tss16;
}

static void save_task(struct vcpu *v, enum task_reason reason)
{
	const struct segment *tr = &v->seg[SEG_TR];
	const struct tss_layout *l = layout_of(tr->attr);
	uint32_t flags = (uint32_t)vcpu_rflags(v);
	unsigned i;

	if (reason == TASK_IRET) {
		flags &= ~(uint32_t)FL_NT;
	}
	mmu_write_sys(v, tr->base + l->ip, l->size, v->rip);
	mmu_write_sys(v, tr->base + l->flags, l->size, flags);
	for (i = 0; i < 8; i++) {
		mmu_write_sys(v, tr->base + l->gpr + i * l->size, l->size, v->gpr[i]);
	}
	for (i = 0; i < l->n_segs; i++) {
		mmu_write_sys(v, tr->base + l->es + i * l->size, 2, v->seg[i].selector);
	}
}

static void read_task(struct vcpu *v, uint64_t base, const struct tss_layout *l, struct task *t)
{
	unsigned i;

	*t = (struct task){.cr3 = (uint32_t)v->cr3};
	t->ip = (uint32_t)mmu_read_sys(v, base + l->ip, l->size);
	t->flags = (uint32_t)mmu_read_sys(v, base + l->flags, l->size);
	for (i = 0; i < 8; i++) {
		t->gpr[i] = (uint32_t)mmu_read_sys(v, base + l->gpr + i * l->size, l->size);
		if (l->size == 2) {
			t->gpr[i] |= 0xffff0000;
		}
	}
	for (i = 0; i < l->n_segs; i++) {
		t->seg[i] = (uint16_t)mmu_read_sys(v, base + l->es + i * l->size, 2);
	}
	t->ldt = (uint16_t)mmu_read_sys(v, base + l->ldt, 2);
	if (l->size == 4) {
		t->cr3 = (uint32_t)mmu_read_sys(v, base + 0x1c, 4);
		t->trap = mmu_read_sys(v, base + 0x64, 2) & 1;
	}
}

/* Reads and checks the descriptor of the TSS to switch to. */
static void check_tss(struct vcpu *v, uint16_t sel, enum task_reason reason, struct descriptor *d)
{
	unsigned vector = reason == TASK_IRET ? VEC_TS : VEC_GP;
	unsigned types = reason == TASK_IRET ? 1 << SYS_TSS16_BUSY | 1 << SYS_TSS32_BUSY
					     : 1 << SYS_TSS16 | 1 << SYS_TSS32;

	if (is_null(sel) || (sel & SEL_TI)) {
		raise_error(v, vector, sel & ~SEL_RPL);
	}
	desc_read_or_raise(v, sel, d, vector);
	if (desc_is_segment(d) || !(types >> desc_type(d) & 1)) {
		raise_error(v, vector, sel & ~SEL_RPL);
	}
	if (!desc_present(d)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
	if (desc_limit(d) < layout_of(desc_type(d))->min_limit) {
		raise_error(v, VEC_TS, sel & ~SEL_RPL);
	}
}

static void load_ldt(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;

	v->seg[SEG_LDTR] = segment_null(sel);
	if (is_null(sel)) {
		return;
	}
	if (sel & SEL_TI) {
		raise_error(v, VEC_TS, sel & ~SEL_RPL);
	}
	desc_read_or_raise(v, sel, &d, VEC_TS);
	if (desc_is_segment(&d) || desc_type(&d) != SYS_LDT || !desc_present(&d)) {
		raise_error(v, VEC_TS, sel & ~SEL_RPL);
	}
	v->seg[SEG_LDTR] = segment_from(sel, &d);
}

static void load_code(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;
	unsigned rpl = sel & SEL_RPL;

	if (is_null(sel)) {
		raise_error(v, VEC_TS, 0);
	}
	desc_read_or_raise(v, sel, &d, VEC_TS);
	if (!desc_is_code(&d) ||
	    (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl)) {
		raise_error(v, VEC_TS, sel & ~SEL_RPL);
	}
	if (!desc_present(&d)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
	desc_set_accessed(v, &d);
	v->seg[SEG_CS] = segment_from(sel, &d);
}

static void load_data(struct vcpu *v, enum seg seg, uint16_t sel)
{
	struct descriptor d;

	if (is_null(sel)) {
		return;
	}
	desc_read_or_raise(v, sel, &d, VEC_TS);
	if (!desc_is_segment(&d) || (desc_is_code(&d) && !(desc_type(&d) & SEG_TYPE_WRITE)) ||
	    (!desc_is_conforming(&d) &&
	     ((unsigned)(sel & SEL_RPL) > desc_dpl(&d) || v->cpl > desc_dpl(&d)))) {
		raise_error(v, VEC_TS, sel & ~SEL_RPL);
	}
	if (!desc_present(&d)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
	desc_set_accessed(v, &d);
	v->seg[seg] = segment_from(sel, &d);
}

static void load_segments(struct vcpu *v, const struct task *t)
{
	static const enum seg data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	struct descriptor ss;
	unsigned i;

	load_ldt(v, t->ldt);
	if (v->rflags & FL_VM) {
		return;
	}
	load_code(v, t->seg[SEG_CS]);
	vcpu_update_mode(v);
	stack_segment_check(v, t->seg[SEG_SS], v->cpl, VEC_TS, &ss);
	desc_set_accessed(v, &ss);
	v->seg[SEG_SS] = segment_from(t->seg[SEG_SS], &ss);
	for (i = 0; i < 4; i++) {
		load_data(v, data[i], t->seg[data[i]]);
	}
}

static void load_cr3(struct vcpu *v, uint32_t cr3)
{
	if (!(v->cr0 & CR0_PG) || cr3 == v->cr3) {
		return;
	}
	if (mmu_is_pae(v->cr0, v->cr4, v->efer) && !mmu_load_pdptes(v, cr3)) {
		raise_error(v, VEC_GP, 0);
	}
	v->cr3 = cr3;
	mmu_flush_nonglobal(v);
}

/* The point of no return: from here on faults belong to the new task. */
static void load_task(struct vcpu *v, const struct task *t)
{
	unsigned i;

	v->insn = NULL;
	v->rip = t->ip;
	for (i = 0; i < 8; i++) {
		v->gpr[i] = t->gpr[i];
	}
	for (i = 0; i < N_TASK_SEGS; i++) {
		v->seg[i] = t->flags & FL_VM ? segment_v86(t->seg[i]) : segment_null(t->seg[i]);
	}
	v->cpl = t->flags & FL_VM ? 3 : t->seg[SEG_CS] & SEL_RPL;
	debug_set_dr(v, 7, v->dr[7] & ~0x155ull); /* local breakpoints */
	vcpu_set_rflags(v, t->flags);
	vcpu_update_mode(v);
	load_cr3(v, t->cr3);
	load_segments(v, t);
	if (t->trap) {
		v->pending_db |= DR6_BT;
	}
	vcpu_update_mode(v);
	if (v->rip > v->seg[SEG_CS].limit) {
		raise_error(v, VEC_GP, 0);
	}
}

void task_switch(struct vcpu *v, uint16_t sel, enum task_reason reason)
{
	const struct segment old = v->seg[SEG_TR];
	bool nests = reason == TASK_CALL || reason == TASK_EVENT;
	const struct tss_layout *l;
	struct descriptor d, back;
	struct segment tr;
	struct task t;

	check_tss(v, sel, reason, &d);
	l = layout_of(desc_type(&d));
	tr = segment_from(sel, &d);
	save_task(v, reason);
	read_task(v, tr.base, l, &t);
	if (nests) {
		mmu_write_sys(v, tr.base, 2, old.selector);
		t.flags |= FL_NT;
	} else if (!is_null(old.selector) && desc_read(v, old.selector, &back)) {
		desc_set_busy(v, back.lin, false);
	}
	desc_set_busy(v, d.lin, true);
	tr.attr |= SYS_TSS_BUSY_BIT;
	v->seg[SEG_TR] = tr;
	v->cr0 |= CR0_TS;
	load_task(v, &t);
}

void task_switch_gate(struct vcpu *v, uint64_t gate, enum task_reason reason)
{
	const struct descriptor d = {.raw = gate};

	task_switch(v, gate_selector(&d), reason);
}
