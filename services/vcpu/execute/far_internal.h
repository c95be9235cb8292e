/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by far.c, far_return.c and syscall.c. */
#ifndef VCPU_EXECUTE_FAR_INTERNAL_H
#define VCPU_EXECUTE_FAR_INTERNAL_H

#include "execute/segment.h"

/* Whether code of this descriptor runs in 64-bit mode. */
bool far_is_64(const struct vcpu *v, const struct descriptor *cs);
/* Raises #GP(0) unless offset is within the code segment, or canonical. */
void far_check_target(struct vcpu *v, const struct descriptor *cs, uint64_t offset);
/* Commits CS, CPL and RIP. */
void far_enter(struct vcpu *v, uint16_t sel, const struct descriptor *cs, unsigned cpl,
	       uint64_t offset);

#endif
