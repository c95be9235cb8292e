/* SPDX-License-Identifier: Apache-2.0 */
/* What tells a guest that it is one, where vcpu.paravirt says that it may know. vCPU thread. */
#ifndef VCPU_EXECUTE_PARAVIRT_H
#define VCPU_EXECUTE_PARAVIRT_H

#include "execute/system.h"

/* CPUID leaves 0x40000000 to 0x7fffffff; out is zero on entry. */
void paravirt_cpuid(struct vcpu *v, uint32_t leaf, uint32_t out[4]);
insn_fn paravirt_call;

#endif
