/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the system registers after power-on and INIT. Intel SDM volume 3 table 9-1.
 */
#include "execute/debug.h"
#include "execute/segment.h"
#include "execute/system.h"

static void reset_segments(struct vcpu *v)
{
	unsigned s;

	for (s = 0; s < N_SEG; s++) {
		v->seg[s] = (struct segment){
			.limit = 0xffff,
			.attr = SEG_P | SEG_S | SEG_TYPE_WRITE | SEG_TYPE_ACCESSED,
		};
	}
	v->seg[SEG_CS].selector = 0xf000;
	v->seg[SEG_CS].base = 0xffff0000;
	v->seg[SEG_CS].attr |= SEG_TYPE_CODE;
	v->seg[SEG_LDTR] = (struct segment){.limit = 0xffff, .attr = SEG_P | SYS_LDT};
	v->seg[SEG_TR] = (struct segment){.limit = 0xffff, .attr = SEG_P | SYS_TSS32_BUSY};
	v->gdtr = v->idtr = (struct desc_table){.limit = 0xffff};
}

/* What INIT leaves alone. */
static void reset_msrs(struct vcpu *v)
{
	v->star = v->lstar = v->cstar = v->sfmask = v->kernel_gs_base = v->tsc_aux = 0;
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->pat = 0x0007040600070406ull;
	v->misc_enable = 1 | 1 << 11 | 1 << 12; /* fast strings; no BTS, no PEBS */
	v->mtrr_def_type = 0;
	memset(v->mtrr_fix, 0, sizeof(v->mtrr_fix));
	memset(v->mtrr_var, 0, sizeof(v->mtrr_var));
	memset(v->mc_bank, 0, sizeof(v->mc_bank));
	v->mcg_status = 0;
	v->mcg_ctl = UINT64_MAX;
	v->tsc_offset = v->tsc_adjust = 0;
	v->spec_ctrl = v->debugctl = 0;
	v->feature_control = 1; /* locked, VMX off */
	v->hwcr = 1 << 24;	/* TscFreqSel */
	v->xcr0 = 1;
	v->pkru = v->pkrs = 0;
}

void system_reset(struct vcpu *v, bool init)
{
	uint64_t kept = init ? v->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;

	v->cr0 = kept | CR0_ET;
	v->cr2 = v->cr3 = v->cr4 = v->cr8 = v->efer = 0;
	memset(v->pdpte, 0, sizeof(v->pdpte));
	memset(v->dr, 0, sizeof(v->dr));
	v->dr[6] = DR6_FIXED;
	v->dr[7] = DR7_FIXED;
	reset_segments(v);
	if (!init) {
		reset_msrs(v);
	}
	v->kvm_system_time = v->kvm_wall_clock = 0;
	v->rip = 0xfff0;
	v->cpl = 0;
	v->rflags = FL_1;
	v->aflags = aflags_from_rflags(FL_1);
	v->shadow = 0;
	v->halted = v->nmi_blocked = v->nmi_pending = v->shutdown = false;
	v->delivering = -1;
	v->n_nested = 0;
	v->pending_db = 0;
	v->insn = NULL;
	mmu_init(v);
	vcpu_update_mode(v);
}
