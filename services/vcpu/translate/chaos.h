/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may happen to translated code at any time, made to happen often, at points that a seed
 * determines: flushes of code, TLBs and jump cache, code lines that changed, requests for nothing,
 * and little room for code. A guest must not notice. vCPU thread only.
 */
#ifndef VCPU_TRANSLATE_CHAOS_H
#define VCPU_TRANSLATE_CHAOS_H

#include "translate/translate.h"

struct chaos;

/* seed 0: off. No region may be running. 0 or -ENOMEM. */
int chaos_set(struct vcpu *v, uint64_t seed);

/* In the run loop, before code is looked up; at the beginning of an event. */
void chaos_between(struct vcpu *v);
void chaos_event(struct vcpu *v);

#endif
