/* SPDX-License-Identifier: Apache-2.0 */
/* The integer families' binders, called in turn by execute_bind_integer(); and what they share. */
#ifndef VCPU_EXECUTE_INTEGER_H
#define VCPU_EXECUTE_INTEGER_H

#include "execute/execute.h"

bool integer_bind_alu(struct vcpu *v, struct insn *i);
bool integer_bind_move(struct vcpu *v, struct insn *i);
bool integer_bind_shift(struct vcpu *v, struct insn *i);
bool integer_bind_multiply(struct vcpu *v, struct insn *i);
bool integer_bind_bit(struct vcpu *v, struct insn *i);
bool integer_bind_atomic(struct vcpu *v, struct insn *i);
bool integer_bind_stack(struct vcpu *v, struct insn *i);
bool integer_bind_misc(struct vcpu *v, struct insn *i);
bool integer_bind_bmi(struct vcpu *v, struct insn *i);

/*
 * Handlers of locked forms with a destination in memory. op: ModRM.reg of 80..83; size: bytes.
 * Unary: 0 INC, 1 DEC, 2 NOT, 3 NEG.
 */
insn_fn *locked_alu(unsigned op, unsigned size, bool imm);
insn_fn *locked_unary(unsigned op, unsigned size);

/*
 * Held around a locked access that is no single host access: one that crosses a page, or is of a
 * device or of a page with code. Probe first. atomic_lock() does not return when the vCPU must stop
 * meanwhile: the instruction starts again. What unwinds while holding the lock gives it back.
 */
void atomic_lock(struct vcpu *v);
void atomic_unlock(struct vcpu *v);

#endif
