/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RETF and IRET in every mode. Intel SDM volume 2 (RET, IRET), volume 3, 5.8.6, 6.12.1, 20.
 */
#include "execute/far.h"
#include "execute/far_internal.h"
#include "execute/task.h"

/* Flags that IRET and POPF change in every mode. */
enum {
	FLAGS_ALWAYS = FL_ARITH | FL_TF | FL_DF | FL_NT,
	FLAGS_WIDE = FL_RF | FL_AC | FL_ID, /* when the image has 32 bits or more */
};

/* What is popped. */
struct frame {
	uint64_t rip, rsp;
	uint32_t flags;
	uint16_t cs, ss;
	struct descriptor cs_desc;
	struct segment new_ss; /* for a return that loads SS */
};

/* Checks of the code segment returned to. */
static void check_return_code(struct vcpu *v, struct frame *f)
{
	unsigned rpl = f->cs & SEL_RPL;
	bool ok;

	if (is_null(f->cs)) {
		raise_error(v, VEC_GP, 0);
	}
	desc_read_or_raise(v, f->cs, &f->cs_desc, VEC_GP);
	ok = desc_is_code(&f->cs_desc) && rpl >= v->cpl &&
	     (desc_is_conforming(&f->cs_desc) ? desc_dpl(&f->cs_desc) <= rpl
					      : desc_dpl(&f->cs_desc) == rpl);
	if (!ok || (far_is_64(v, &f->cs_desc) && (desc_attr(&f->cs_desc) & SEG_DB))) {
		raise_error(v, VEC_GP, f->cs & ~SEL_RPL);
	}
	if (!desc_present(&f->cs_desc)) {
		raise_error(v, VEC_NP, f->cs & ~SEL_RPL);
	}
}

/* Checks of the stack segment returned to, at the privilege of the popped CS. */
static void check_return_stack(struct vcpu *v, struct frame *f)
{
	unsigned rpl = f->cs & SEL_RPL;
	struct descriptor ss;

	if (is_null(f->ss) && far_is_64(v, &f->cs_desc) && rpl != 3) {
		if ((unsigned)(f->ss & SEL_RPL) != rpl) {
			raise_error(v, VEC_GP, f->ss & ~SEL_RPL);
		}
		f->new_ss = segment_null(f->ss);
		f->new_ss.attr |= rpl << SEG_DPL_SHIFT;
		return;
	}
	stack_segment_check(v, f->ss, rpl, VEC_GP, &ss);
	desc_set_accessed(v, &ss);
	f->new_ss = segment_from(f->ss, &ss);
}

/* SS:RSP of the outer ring, `released` bytes of parameters dropped from it. */
static void commit_stack(struct vcpu *v, const struct frame *f, unsigned released)
{
	struct stack st;

	v->seg[SEG_SS] = f->new_ss;
	if (far_is_64(v, &f->cs_desc)) {
		v->gpr[RSP] = f->rsp + released;
		return;
	}
	st = stack_in(&f->new_ss, f->rsp + released, 0, 0);
	stack_commit(v, &st);
}

static void commit_code(struct vcpu *v, const struct frame *f)
{
	unsigned rpl = f->cs & SEL_RPL;

	if (rpl > v->cpl) {
		segments_drop_privileged(v, rpl);
	}
	far_enter(v, f->cs, &f->cs_desc, rpl, f->rip);
}

static void return_real(struct vcpu *v, unsigned opsize, unsigned pop)
{
	struct stack st = stack_current(v);
	uint64_t rip = stack_pop(v, &st, opsize);
	uint16_t cs = (uint16_t)stack_pop(v, &st, opsize);

	if (rip > v->seg[SEG_CS].limit) {
		raise_error(v, VEC_GP, 0);
	}
	st.sp += pop;
	stack_commit(v, &st);
	segment_load_real(v, SEG_CS, cs);
	v->rip = rip;
	vcpu_update_mode(v);
}

void far_return(struct vcpu *v, unsigned opsize, unsigned pop)
{
	struct stack st = stack_current(v);
	struct frame f;

	if (!(v->mode & MODE_PROT)) {
		return_real(v, opsize, pop);
		return;
	}
	f.rip = stack_pop(v, &st, opsize);
	f.cs = (uint16_t)stack_pop(v, &st, opsize);
	check_return_code(v, &f);
	st.sp += pop;
	if ((f.cs & SEL_RPL) == v->cpl) {
		far_check_target(v, &f.cs_desc, f.rip);
		desc_set_accessed(v, &f.cs_desc);
		stack_commit(v, &st);
	} else {
		f.rsp = stack_pop(v, &st, opsize);
		f.ss = (uint16_t)stack_pop(v, &st, opsize);
		check_return_stack(v, &f);
		far_check_target(v, &f.cs_desc, f.rip);
		desc_set_accessed(v, &f.cs_desc);
		commit_stack(v, &f, pop);
	}
	commit_code(v, &f);
}

/* -- IRET -- */

static void store_flags(struct vcpu *v, uint32_t image, uint32_t mask)
{
	vcpu_store_rflags(v, (vcpu_rflags(v) & ~(uint64_t)mask) | (image & mask));
}

static void iret_real(struct vcpu *v, unsigned opsize, uint32_t mask)
{
	struct stack st = stack_current(v);
	uint64_t rip = stack_pop(v, &st, opsize);
	uint16_t cs = (uint16_t)stack_pop(v, &st, opsize);
	uint32_t flags = (uint32_t)stack_pop(v, &st, opsize);

	if (rip > v->seg[SEG_CS].limit) {
		raise_error(v, VEC_GP, 0);
	}
	stack_commit(v, &st);
	segment_load_real(v, SEG_CS, cs);
	v->rip = rip;
	store_flags(v, flags, opsize == 2 ? mask : mask | FLAGS_WIDE);
	vcpu_update_mode(v);
}

/* SDM vol. 3, 20.3.3.4: IRET with IOPL below 3 under CR4.VME. */
static void iret_vme(struct vcpu *v)
{
	struct stack st = stack_current(v);
	uint64_t rip = stack_pop(v, &st, 2);
	uint16_t cs = (uint16_t)stack_pop(v, &st, 2);
	uint32_t flags = (uint32_t)stack_pop(v, &st, 2);

	if (((flags & FL_IF) && (v->rflags & FL_VIP)) || (flags & FL_TF) ||
	    rip > v->seg[SEG_CS].limit) {
		raise_error(v, VEC_GP, 0);
	}
	stack_commit(v, &st);
	segment_load_real(v, SEG_CS, cs);
	v->rip = rip;
	store_flags(v, flags | (flags & FL_IF ? FL_VIF : 0), FLAGS_ALWAYS | FL_VIF);
	vcpu_update_mode(v);
}

static void iret_v86(struct vcpu *v, unsigned opsize)
{
	if ((v->rflags & FL_IOPL) == FL_IOPL) {
		iret_real(v, opsize, FLAGS_ALWAYS | FL_IF);
	} else if ((v->cr4 & CR4_VME) && opsize == 2) {
		iret_vme(v);
	} else {
		raise_error(v, VEC_GP, 0);
	}
}

/* From ring 0 to virtual-8086 mode: `st` is past EFLAGS. */
static void iret_to_v86(struct vcpu *v, struct stack *st, const struct frame *f)
{
	static const enum seg order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	uint32_t rsp = (uint32_t)stack_pop(v, st, 4);
	uint16_t sel[5];
	unsigned i;

	for (i = 0; i < 5; i++) {
		sel[i] = (uint16_t)stack_pop(v, st, 4);
	}
	if (f->rip > 0xffff) {
		raise_error(v, VEC_GP, 0);
	}
	for (i = 0; i < 5; i++) {
		v->seg[order[i]] = segment_v86(sel[i]);
	}
	v->seg[SEG_CS] = segment_v86(f->cs);
	v->gpr[RSP] = rsp;
	v->rip = f->rip;
	v->cpl = 3;
	vcpu_store_rflags(v, f->flags);
	vcpu_update_mode(v);
}

static void iret_task(struct vcpu *v)
{
	uint16_t link = (uint16_t)mmu_read_sys(v, v->seg[SEG_TR].base, 2);

	v->rip = vcpu_next_rip(v, v->insn);
	task_switch(v, link, TASK_IRET);
}

static uint32_t iret_flags_mask(const struct vcpu *v, unsigned opsize)
{
	uint32_t mask = FLAGS_ALWAYS;

	if (opsize > 2) {
		mask |= FLAGS_WIDE;
	}
	if (v->cpl <= (v->rflags & FL_IOPL) >> 12) {
		mask |= FL_IF;
	}
	if (v->cpl == 0) {
		mask |= FL_IOPL;
		if (opsize > 2) {
			mask |= FL_VIF | FL_VIP;
		}
	}
	return mask;
}

/* A return that loads SS, its code segment checked. */
static void iret_with_stack(struct vcpu *v, struct frame *f, uint32_t mask)
{
	check_return_stack(v, f);
	far_check_target(v, &f->cs_desc, f->rip);
	desc_set_accessed(v, &f->cs_desc);
	commit_stack(v, f, 0);
	store_flags(v, f->flags, mask);
	commit_code(v, f);
}

/* From 64-bit mode with operands of 64 bits and the whole frame at hand. */
static void iret_frame64(struct vcpu *v, const void *from)
{
	struct frame f;
	uint64_t w[5];

	memcpy(w, from, sizeof(w));
	f.rip = w[0];
	f.cs = (uint16_t)w[1];
	f.flags = (uint32_t)w[2];
	f.rsp = w[3];
	f.ss = (uint16_t)w[4];
	check_return_code(v, &f);
	iret_with_stack(v, &f, iret_flags_mask(v, 8));
}

static void iret_protected(struct vcpu *v, unsigned opsize)
{
	bool from64 = (v->mode & MODE_SIZE) == MODE_64;
	uint32_t mask = iret_flags_mask(v, opsize);
	const void *frame;
	struct stack st;
	struct frame f;

	if (from64 && opsize == 8) {
		frame = mmu_hit_cpl(v, v->cpl, v->gpr[RSP], 40, MMU_R);
		if (frame != NULL) {
			iret_frame64(v, frame);
			return;
		}
	}
	st = stack_current(v);
	f.rip = stack_pop(v, &st, opsize);
	f.cs = (uint16_t)stack_pop(v, &st, opsize);
	f.flags = (uint32_t)stack_pop(v, &st, opsize);
	if (!(v->efer & EFER_LMA) && opsize == 4 && (f.flags & FL_VM) && v->cpl == 0) {
		iret_to_v86(v, &st, &f);
		return;
	}
	check_return_code(v, &f);
	if (from64 || (f.cs & SEL_RPL) > v->cpl) {
		f.rsp = stack_pop(v, &st, opsize);
		f.ss = (uint16_t)stack_pop(v, &st, opsize);
		iret_with_stack(v, &f, mask);
		return;
	}
	far_check_target(v, &f.cs_desc, f.rip);
	desc_set_accessed(v, &f.cs_desc);
	stack_commit(v, &st);
	store_flags(v, f.flags, mask);
	commit_code(v, &f);
}

void far_iret(struct vcpu *v, unsigned opsize)
{
	if (v->nmi_blocked) {
		atomic_fetch_and(&v->req, ~(uint32_t)REQ_NMI_2); /* one was kept meanwhile */
	}
	v->nmi_blocked = false; /* even if IRET faults: SDM vol. 3, 6.7.1 */
	if (v->mode & MODE_V86) {
		iret_v86(v, opsize);
	} else if (!(v->mode & MODE_PROT)) {
		iret_real(v, opsize, FLAGS_ALWAYS | FL_IF | FL_IOPL);
	} else if (!(v->rflags & FL_NT)) {
		iret_protected(v, opsize);
	} else if (v->efer & EFER_LMA) {
		raise_error(v, VEC_GP, 0);
	} else {
		iret_task(v);
	}
	vcpu_update_req_mask(v);
}
