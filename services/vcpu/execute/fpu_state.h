/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fpu_state.c and xsave.c share: the x87 part of an FXSAVE image.
 */
#ifndef VCPU_EXECUTE_FPU_STATE_H
#define VCPU_EXECUTE_FPU_STATE_H

#include "execute/execute.h"

bool simd_bind_xsave(struct vcpu *v, struct insn *i);

/*
 * The state components that are not in their initial configuration, as XSAVE's family and XGETBV
 * see them: a set of XCR0 bits. Brings vcpu.fx's x87 part up to date.
 */
uint64_t fpu_in_use(struct vcpu *v);
/* Where an extended component is kept, as XSAVE lays it out; NULL: there is no such component. */
void *fpu_component(struct vcpu *v, unsigned k);
/* Of AVX-512's alone, whatever vcpu.zmm_used says. */
uint64_t fpu_zmm_in_use(const struct vcpu *v);

/* FOP, FIP and FDP into an image, as i (REX.W or not) lays them out; vcpu.fx.fsw is current. */
void fpu_put_pointers(const struct vcpu *v, const struct insn *i, uint8_t *img);
/* The x87 part of an image into vcpu.fx and the host; initial x87 state likewise. */
void fpu_load_x87_image(struct vcpu *v, const struct insn *i, const uint8_t *img);
void fpu_init_x87(struct vcpu *v);

#endif
