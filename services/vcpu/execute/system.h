/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the system instructions. */
#ifndef VCPU_EXECUTE_SYSTEM_H
#define VCPU_EXECUTE_SYSTEM_H

#include "execute/execute.h"

/* Binders of the system family's files; execute_bind_system() asks each. */
bool system_bind_segment(const struct vcpu *v, struct insn *i);
bool system_bind_control(struct insn *i);
bool system_bind_flags(struct insn *i);
bool system_bind_table(const struct vcpu *v, struct insn *i);
bool system_bind_far(struct insn *i);
bool system_bind_misc(struct insn *i);

/*
 * Writes of control registers with all checks, as MOV to CR does and a debugger's may: false means
 * #GP(0), nothing changed. Recompute what depends on them.
 */
bool control_set_cr0(struct vcpu *v, uint64_t val);
bool control_set_cr3(struct vcpu *v, uint64_t val);
bool control_set_cr4(struct vcpu *v, uint64_t val);
bool control_set_efer(struct vcpu *v, uint64_t val);

/*
 * What power-on and INIT make of segments, control, debug and model-specific registers, and of the
 * TLB. The general registers and the FPU are the engine's. SDM vol. 3 table 9-1.
 */
void system_reset(struct vcpu *v, bool init);

static inline bool in_64bit(const struct vcpu *v)
{
	return (v->mode & MODE_SIZE) == MODE_64;
}

static inline void require_cpl0(struct vcpu *v)
{
	if (v->cpl != 0) {
		raise_error(v, VEC_GP, 0);
	}
}

/* Ends the trace behind an instruction that changed what later ones were decoded for. */
#define END_AFTER(v, i)                             \
	do {                                        \
		(v)->rip = vcpu_next_rip((v), (i)); \
		(v)->n_insns -= (i)->rest;          \
		END_TRACE();                        \
	} while (0)

/* Writes a register by operand size: 32-bit results clear the upper half. */
static inline void gpr_write(struct vcpu *v, unsigned reg, unsigned size, uint64_t val)
{
	switch (size) {
	case 2: v->gpr[reg] = (v->gpr[reg] & ~0xffffull) | (uint16_t)val; break;
	case 4: v->gpr[reg] = (uint32_t)val; break;
	default: v->gpr[reg] = val; break;
	}
}

/* A 16-bit source operand, register or memory. */
static inline uint16_t rm_read16(struct vcpu *v, const struct insn *i)
{
	return i->mod == 3 ? (uint16_t)v->gpr[i->rm] : mmu_read16(v, ea_linear(v, i, 2, MMU_R));
}

/* A zero-extended 16-bit result: to memory 16 bits, to a register the operand size. */
static inline void rm_write16(struct vcpu *v, const struct insn *i, uint16_t val)
{
	if (i->mod == 3) {
		gpr_write(v, i->rm, i->opsize, val);
	} else {
		mmu_write16(v, ea_linear(v, i, 2, MMU_W), val);
	}
}

#endif
