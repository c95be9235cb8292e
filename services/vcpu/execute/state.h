/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU's state in KVM's layout: both directions. vCPU thread, between runs. */
#ifndef VCPU_EXECUTE_STATE_H
#define VCPU_EXECUTE_STATE_H

#include "cpu.h"
#include "engine.h"

/* The MSRs of a saved state, in order. */
extern const uint32_t mobo_cpu_state_msrs[];
extern const unsigned mobo_n_cpu_state_msrs;

/* All of *s but lapic, which is the board's. */
void state_get(struct vcpu *v, struct mobo_cpu_state *s);
/* 0 or -EINVAL: a value no processor could hold; then part of the state may have been set. */
int state_set(struct vcpu *v, const struct mobo_cpu_state *s);

#endif
