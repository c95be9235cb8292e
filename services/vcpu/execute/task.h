/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware task switching. Intel SDM volume 3 chapter 7. */
#ifndef VCPU_EXECUTE_TASK_H
#define VCPU_EXECUTE_TASK_H

#include "cpu.h"

enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };

/*
 * Switches to the task of a TSS selector, v->rip being where the old task goes on. Raises faults
 * by not returning; on return v->rip is the new task's. Outside long mode.
 */
void task_switch(struct vcpu *v, uint16_t sel, enum task_reason reason);
/* Through a task gate, already checked for privilege and presence. */
void task_switch_gate(struct vcpu *v, uint64_t gate, enum task_reason reason);

#endif
