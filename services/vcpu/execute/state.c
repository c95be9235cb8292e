/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPU's state in KVM's layout (linux/kvm.h), so that a machine can go from one engine to
 * another, or to disk and back.
 */
#include "execute/state.h"

#include <errno.h>
#include <string.h>

#include "execute/cpuid.h"
#include "execute/execute.h"
#include "execute/fpu_state.h"
#include "execute/simd.h"
#include "exits/board.h"
#include "mmu/walk.h"

/* clang-format off */
const uint32_t mobo_cpu_state_msrs[] = {
	0x10, 0x3b, /* TSC, TSC_ADJUST */
	0x174, 0x175, 0x176, /* SYSENTER_CS, ESP, EIP */
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, /* STAR, LSTAR, CSTAR, SFMASK */
	0xc0000102, 0xc0000103, /* KERNEL_GS_BASE, TSC_AUX */
	0x277, 0x1a0, 0x6e1, /* PAT, MISC_ENABLE, PKRS */
	0x48, 0x1d9, 0xc0010015, /* SPEC_CTRL, DEBUGCTL, HWCR */
	0x17a, 0x17b, /* MCG_STATUS, MCG_CTL; the banks */
	0x400, 0x401, 0x402, 0x403, 0x404, 0x405, 0x406, 0x407,
	0x408, 0x409, 0x40a, 0x40b, 0x40c, 0x40d, 0x40e, 0x40f,
	0x4b564d00, 0x4b564d01, /* KVM_WALL_CLOCK, KVM_SYSTEM_TIME */
	0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
	0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207,
	0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
};
/* clang-format on */
const unsigned mobo_n_cpu_state_msrs = sizeof(mobo_cpu_state_msrs) / sizeof(mobo_cpu_state_msrs[0]);
_Static_assert(sizeof(mobo_cpu_state_msrs) / sizeof(mobo_cpu_state_msrs[0]) <= MOBO_CPU_STATE_MSRS,
	       "the list of MSRs fits");

/* Where an MSR is kept, or NULL: it is computed. */
static uint64_t *msr_place(struct vcpu *v, uint32_t msr)
{
	switch (msr) {
	case 0x3b: return &v->tsc_adjust;
	case 0x48: return &v->spec_ctrl;
	case 0x174: return &v->sysenter_cs;
	case 0x175: return &v->sysenter_esp;
	case 0x176: return &v->sysenter_eip;
	case 0x17a: return &v->mcg_status;
	case 0x17b: return &v->mcg_ctl;
	case 0x1a0: return &v->misc_enable;
	case 0x1d9: return &v->debugctl;
	case 0x200 ... 0x20f: return &v->mtrr_var[msr - 0x200];
	case 0x250: return &v->mtrr_fix[0];
	case 0x258 ... 0x259: return &v->mtrr_fix[1 + msr - 0x258];
	case 0x268 ... 0x26f: return &v->mtrr_fix[3 + msr - 0x268];
	case 0x277: return &v->pat;
	case 0x2ff: return &v->mtrr_def_type;
	case 0x400 ... 0x40f: return &v->mc_bank[(msr - 0x400) / 4][msr % 4];
	case 0x6e1: return &v->pkrs;
	case 0x4b564d00: return &v->kvm_wall_clock;
	case 0x4b564d01: return &v->kvm_system_time;
	case 0xc0000081: return &v->star;
	case 0xc0000082: return &v->lstar;
	case 0xc0000083: return &v->cstar;
	case 0xc0000084: return &v->sfmask;
	case 0xc0000102: return &v->kernel_gs_base;
	case 0xc0000103: return &v->tsc_aux;
	case 0xc0010015: return &v->hwcr;
	}
	return NULL;
}

static struct kvm_segment segment_get(const struct segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & SEG_TYPE,
		.present = !!(s->attr & SEG_P),
		.dpl = s->attr >> SEG_DPL_SHIFT & 3,
		.db = !!(s->attr & SEG_DB),
		.s = !!(s->attr & SEG_S),
		.l = !!(s->attr & SEG_L),
		.g = !!(s->attr & SEG_G),
		.avl = !!(s->attr & SEG_AVL),
		.unusable = !!(s->attr & SEG_UNUSABLE),
	};
}

static struct segment segment_set(const struct kvm_segment *s)
{
	return (struct segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.attr = (s->type & SEG_TYPE) | (s->s ? SEG_S : 0) | (s->dpl & 3u) << SEG_DPL_SHIFT |
			(s->present ? SEG_P : 0) | (s->avl ? SEG_AVL : 0) | (s->l ? SEG_L : 0) |
			(s->db ? SEG_DB : 0) | (s->g ? SEG_G : 0) |
			(s->unusable ? SEG_UNUSABLE : 0),
	};
}

/* kvm_regs names the registers in its own order. */
static uint64_t *reg_place(struct kvm_regs *r, unsigned reg)
{
	uint64_t *const place[16] = {
		(uint64_t *)&r->rax, (uint64_t *)&r->rcx, (uint64_t *)&r->rdx, (uint64_t *)&r->rbx,
		(uint64_t *)&r->rsp, (uint64_t *)&r->rbp, (uint64_t *)&r->rsi, (uint64_t *)&r->rdi,
		(uint64_t *)&r->r8,  (uint64_t *)&r->r9,  (uint64_t *)&r->r10, (uint64_t *)&r->r11,
		(uint64_t *)&r->r12, (uint64_t *)&r->r13, (uint64_t *)&r->r14, (uint64_t *)&r->r15,
	};

	return place[reg];
}

static struct kvm_segment *sreg_place(struct kvm_sregs *s, unsigned seg)
{
	struct kvm_segment *const place[N_SEG_ALL] = {&s->es, &s->cs, &s->ss,  &s->ds,
						      &s->fs, &s->gs, &s->ldt, &s->tr};

	return place[seg];
}

static void sregs_get(struct vcpu *v, struct kvm_sregs *s)
{
	for (unsigned seg = 0; seg < N_SEG_ALL; seg++) {
		*sreg_place(s, seg) = segment_get(&v->seg[seg]);
	}
	s->gdt.base = v->gdtr.base;
	s->gdt.limit = v->gdtr.limit;
	s->idt.base = v->idtr.base;
	s->idt.limit = v->idtr.limit;
	s->cr0 = v->cr0;
	s->cr2 = v->cr2;
	s->cr3 = v->cr3;
	s->cr4 = v->cr4;
	s->cr8 = board_cr8_read(v);
	s->efer = v->efer;
	s->apic_base = v->apic_base;
}

static void events_get(const struct vcpu *v, struct kvm_vcpu_events *e)
{
	uint32_t req = atomic_load(&v->req);

	e->nmi.masked = v->nmi_blocked;
	e->nmi.pending = v->nmi_pending || (req & REQ_NMI);
	e->interrupt.shadow = (v->shadow & SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0) |
			      (v->shadow & SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
	e->sipi_vector = v->sipi_vector;
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		   KVM_VCPUEVENT_VALID_SHADOW;
	e->exception_payload = v->pending_db;
}

/* Standard format, SDM volume 1 13.4. */
enum { XSTATE_BV = 512 };

static void xsave_get(struct vcpu *v, struct kvm_xsave *x)
{
	/* x87, SSE and AVX are present. */
	const uint64_t xstate_bv =
		3 | XCR0_AVX | (v->zmm_used ? XCR0_ZMM : 0) | (v->pkru ? XCR0_PKRU : 0);

	memset(x, 0, sizeof(*x));
	memcpy(x->region, &v->fx, sizeof(v->fx));
	memcpy((uint8_t *)x->region + XSTATE_BV, &xstate_bv, sizeof(xstate_bv));
	for (unsigned k = XSTATE_EXTENDED; k < N_XSTATE; k++) {
		const void *place = fpu_component(v, k);

		if (place && xstate_bv >> k & 1) {
			memcpy((uint8_t *)x->region + xstate_component[k].off, place,
			       xstate_component[k].len);
		}
	}
}

static void xsave_set(struct vcpu *v, const struct kvm_xsave *x)
{
	uint64_t xstate_bv;

	memcpy(&xstate_bv, (const uint8_t *)x->region + XSTATE_BV, sizeof(xstate_bv));
	memcpy(&v->fx, x->region, sizeof(v->fx));
	for (unsigned k = XSTATE_EXTENDED; k < N_XSTATE; k++) {
		void *place = fpu_component(v, k);

		if (place && xstate_bv >> k & 1) {
			memcpy(place, (const uint8_t *)x->region + xstate_component[k].off,
			       xstate_component[k].len);
		} else if (place) {
			memset(place, 0, xstate_component[k].len);
		}
	}
	v->zmm_used = xstate_bv & XCR0_ZMM;
	v->pkru = (uint32_t)v->pkru;
}

void state_get(struct vcpu *v, struct mobo_cpu_state *s)
{
	struct kvm_lapic_state lapic = s->lapic;

	memset(s, 0, sizeof(*s));
	s->lapic = lapic;
	for (unsigned reg = RAX; reg <= R15; reg++) {
		*reg_place(&s->regs, reg) = v->gpr[reg];
	}
	s->regs.rip = v->rip;
	s->regs.rflags = vcpu_rflags(v);
	sregs_get(v, &s->sregs);
	memcpy(s->debugregs.db, v->dr, 4 * sizeof(v->dr[0]));
	s->debugregs.dr6 = v->dr[6];
	s->debugregs.dr7 = v->dr[7];
	events_get(v, &s->events);
	s->xcrs.nr_xcrs = 1;
	s->xcrs.xcrs[0].value = v->xcr0;
	xsave_get(v, &s->xsave);
	s->mp_state.mp_state = v->wait_sipi ? KVM_MP_STATE_UNINITIALIZED
			       : v->halted  ? KVM_MP_STATE_HALTED
					    : KVM_MP_STATE_RUNNABLE;
	s->clock.clock = board_clock_ns(v->board);
	s->n_msrs = mobo_n_cpu_state_msrs;
	for (unsigned n = 0; n < mobo_n_cpu_state_msrs; n++) {
		uint32_t msr = mobo_cpu_state_msrs[n];
		const uint64_t *place = msr_place(v, msr);
		uint64_t tsc = board_tsc(v->board) + v->tsc_offset;

		s->msrs[n].index = msr;
		s->msrs[n].data = place ? *place : tsc;
	}
}

static bool state_is_possible(const struct mobo_cpu_state *s)
{
	const struct kvm_sregs *r = &s->sregs;
	uint32_t mxcsr;
	bool lma = r->efer & EFER_LMA;

	memcpy(&mxcsr, (const uint8_t *)s->xsave.region + 24, sizeof(mxcsr));
	if ((r->cr0 & CR0_PG) && !(r->cr0 & CR0_PE)) {
		return false;
	}
	if (lma != ((r->cr0 & CR0_PG) && (r->efer & EFER_LME)) || (lma && !(r->cr4 & CR4_PAE))) {
		return false;
	}
	if (s->xcrs.nr_xcrs && s->xcrs.xcrs[0].value & ~cpuid_xcr0()) {
		return false;
	}
	return s->n_msrs <= MOBO_CPU_STATE_MSRS && !(mxcsr >> 16);
}

static void sregs_set(struct vcpu *v, const struct kvm_sregs *s)
{
	for (unsigned seg = 0; seg < N_SEG_ALL; seg++) {
		v->seg[seg] = segment_set(sreg_place((struct kvm_sregs *)s, seg));
	}
	v->gdtr = (struct desc_table){s->gdt.base, s->gdt.limit};
	v->idtr = (struct desc_table){s->idt.base, s->idt.limit};
	v->cr0 = s->cr0;
	v->cr2 = s->cr2;
	v->cr3 = s->cr3;
	v->cr4 = s->cr4;
	board_cr8_write(v, s->cr8 & 15);
	v->efer = s->efer;
	v->apic_base = s->apic_base;
	v->cpl = v->seg[SEG_SS].attr >> SEG_DPL_SHIFT & 3;
}

static void events_set(struct vcpu *v, const struct kvm_vcpu_events *e)
{
	v->nmi_blocked = e->nmi.masked;
	v->nmi_pending = e->nmi.pending;
	if (e->nmi.pending) {
		vcpu_request(v, REQ_NMI);
	}
	v->shadow = (e->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? SHADOW_STI : 0) |
		    (e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_MOV_SS : 0);
	v->sipi_vector = (uint8_t)e->sipi_vector;
}

int state_set(struct vcpu *v, const struct mobo_cpu_state *s)
{
	if (!state_is_possible(s)) {
		return -EINVAL;
	}
	for (unsigned reg = RAX; reg <= R15; reg++) {
		v->gpr[reg] = *reg_place((struct kvm_regs *)&s->regs, reg);
	}
	v->rip = s->regs.rip;
	v->insn = NULL;
	sregs_set(v, &s->sregs);
	memcpy(v->dr, s->debugregs.db, 4 * sizeof(v->dr[0]));
	v->dr[6] = s->debugregs.dr6;
	v->dr[7] = s->debugregs.dr7;
	events_set(v, &s->events);
	v->xcr0 = s->xcrs.nr_xcrs ? s->xcrs.xcrs[0].value : 1;
	xsave_set(v, &s->xsave);
	v->halted = s->mp_state.mp_state == KVM_MP_STATE_HALTED;
	v->wait_sipi = s->mp_state.mp_state == KVM_MP_STATE_UNINITIALIZED ||
		       s->mp_state.mp_state == KVM_MP_STATE_INIT_RECEIVED;
	v->shutdown = false;
	v->delivering = -1;
	v->pkrs = 0; /* states from before it have none */
	for (unsigned n = 0; n < s->n_msrs; n++) {
		uint64_t *place = msr_place(v, s->msrs[n].index);

		if (place) {
			*place = s->msrs[n].data;
		} else if (s->msrs[n].index == 0x10 && board_clock_set(v->board, s->clock.clock)) {
			v->tsc_offset = s->msrs[n].data - board_tsc(v->board);
		}
	}
	board_clock_changed(v);
	mmu_flush_all(v);
	if (mmu_is_pae(v->cr0, v->cr4, v->efer)) {
		mmu_load_pdptes(v, v->cr3); /* refused: they stay as they are */
	}
	vcpu_set_rflags(v, s->regs.rflags);
	vcpu_update_mode(v);
	return 0;
}
