/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CLI, STI, PUSHF, POPF with VME and PVI, CLAC, STAC. Intel SDM volume 2; volume 3, 20.3 and 20.4.
 */
#include "execute/cpuid.h"
#include "execute/segment.h"
#include "execute/system.h"

static unsigned iopl(const struct vcpu *v)
{
	return (v->rflags & FL_IOPL) >> 12;
}

/* Whether CLI and STI act on VIF: CR4.VME in virtual-8086 mode, CR4.PVI at CPL 3. */
static bool uses_vif(const struct vcpu *v)
{
	if (v->mode & MODE_V86) {
		return v->cr4 & CR4_VME;
	}
	return (v->mode & MODE_PROT) && v->cpl == 3 && (v->cr4 & CR4_PVI);
}

/* Whether IF itself may be changed. */
static bool may_change_if(const struct vcpu *v)
{
	if (v->mode & MODE_V86) {
		return iopl(v) == 3;
	}
	return !(v->mode & MODE_PROT) || v->cpl <= iopl(v);
}

static const struct insn *cli(struct vcpu *v, const struct insn *i)
{
	if (__builtin_expect(may_change_if(v), 1)) {
		v->rflags &= ~(uint32_t)FL_IF;
		v->req_mask &= ~(uint32_t)REQ_IRQ;
		NEXT(v, i);
	}
	v->insn = i;
	if (!uses_vif(v)) {
		raise_error(v, VEC_GP, 0);
	}
	v->rflags &= ~(uint32_t)FL_VIF;
	NEXT(v, i);
}

static const struct insn *sti(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if (may_change_if(v)) {
		if (v->rflags & FL_IF) {
			NEXT(v, i);
		}
		v->rflags |= FL_IF;
		v->shadow |= SHADOW_STI;
		vcpu_update_req_mask(v);
		END_AFTER(v, i);
	}
	if (!uses_vif(v) || (v->rflags & FL_VIP)) {
		raise_error(v, VEC_GP, 0);
	}
	v->rflags |= FL_VIF;
	NEXT(v, i);
}

static const struct insn *pushf(struct vcpu *v, const struct insn *i)
{
	uint64_t flags = vcpu_rflags(v) & ~(uint64_t)(FL_VM | FL_RF);
	struct stack st;

	v->insn = i;
	if (in_64bit(v) && i->opsize == 8) {
		mmu_write64(v, v->gpr[RSP] - 8, flags);
		v->gpr[RSP] -= 8;
		NEXT(v, i);
	}
	if ((v->mode & MODE_V86) && iopl(v) < 3) {
		if (!(v->cr4 & CR4_VME) || i->opsize != 2) {
			raise_error(v, VEC_GP, 0);
		}
		flags = (flags & ~(uint64_t)FL_IF) | FL_IOPL | (flags & FL_VIF ? FL_IF : 0);
	}
	st = stack_current(v);
	stack_push(v, &st, i->opsize, flags);
	stack_commit(v, &st);
	NEXT(v, i);
}

/* Flags that POPF may change. */
static uint32_t popf_mask(const struct vcpu *v, unsigned opsize)
{
	uint32_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

	if (opsize > 2) {
		mask |= FL_AC | FL_ID;
	}
	if (v->mode & MODE_V86) {
		return mask | FL_IF;
	}
	if (may_change_if(v)) {
		mask |= FL_IF;
	}
	if (v->cpl == 0) {
		mask |= FL_IOPL;
	}
	return mask;
}

/* Virtual-8086 mode with IOPL below 3: IF goes to VIF. */
static uint64_t popf_vme(struct vcpu *v, uint64_t image)
{
	const uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_VIF;

	if (((image & FL_IF) && (v->rflags & FL_VIP)) || (image & FL_TF)) {
		raise_error(v, VEC_GP, 0);
	}
	image = (image & ~(uint64_t)FL_VIF) | (image & FL_IF ? FL_VIF : 0);
	return (vcpu_rflags(v) & ~mask) | (image & mask);
}

/* The bits of vcpu.rflags that need more than to be stored, if they changed. */
enum { POPF_ENDS = FL_IF | FL_TF | FL_AC };

static const struct insn *popf64(struct vcpu *v, const struct insn *i)
{
	uint64_t image = mmu_read64(v, v->gpr[RSP]), flags;
	uint32_t mask = popf_mask(v, 8), was = v->rflags;

	v->gpr[RSP] += 8;
	flags = (vcpu_rflags(v) & ~(uint64_t)(mask | FL_RF)) | (image & mask);
	if (!((was ^ flags) & (POPF_ENDS | FL_RF))) {
		vcpu_store_rflags(v, flags);
		NEXT(v, i);
	}
	vcpu_set_rflags(v, flags);
	END_AFTER(v, i);
}

static const struct insn *popf(struct vcpu *v, const struct insn *i)
{
	struct stack st;
	uint64_t image, flags;
	uint32_t mask, was = v->rflags;

	v->insn = i;
	if (in_64bit(v) && i->opsize == 8) {
		return popf64(v, i);
	}
	st = stack_current(v);
	if ((v->mode & MODE_V86) && iopl(v) < 3 && (!(v->cr4 & CR4_VME) || i->opsize != 2)) {
		raise_error(v, VEC_GP, 0);
	}
	image = stack_pop(v, &st, i->opsize);
	if ((v->mode & MODE_V86) && iopl(v) < 3) {
		flags = popf_vme(v, image);
	} else {
		mask = popf_mask(v, i->opsize);
		flags = (vcpu_rflags(v) & ~(uint64_t)(mask | FL_RF)) | (image & mask);
	}
	stack_commit(v, &st);
	vcpu_set_rflags(v, flags);
	if ((was ^ v->rflags) & POPF_ENDS) {
		END_AFTER(v, i);
	}
	NEXT(v, i);
}

/* CLAC and STAC: SDM vol. 2; #UD outside ring 0. */
static const struct insn *clac_stac(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if (v->cpl != 0) {
		raise_exception(v, VEC_UD);
	}
	if (i->modrm == 0xcb) {
		v->rflags |= FL_AC;
	} else {
		v->rflags &= ~(uint32_t)FL_AC;
	}
	mmu_update_context(v);
	NEXT(v, i);
}

bool system_bind_flags(struct insn *i)
{
	if (i->map == MAP_0F && i->opcode == 0x01 && i->mod == 3 &&
	    (i->modrm == 0xca || i->modrm == 0xcb)) {
		i->fn = clac_stac;
		return cpuid_has(FEAT_SMAP);
	}
	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x9c: i->fn = pushf; return true;
	case 0x9d: i->fn = popf; return true;
	case 0xfa: i->fn = cli; return true;
	case 0xfb:
		i->fn = sti;
		i->flags |= INSN_END;
		return true;
	}
	return false;
}
