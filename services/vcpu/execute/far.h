/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far control transfers in every mode: real, virtual-8086, protected with call gates, task gates
 * and outer rings, long mode. Intel SDM volume 2 (JMP, CALL, RET, IRET, INT n), volume 3 5.8, 7.3.
 *
 * All act for the running instruction (v->insn), raise its faults by not returning and commit late;
 * on return v->rip is the target and the caller ends the trace.
 */
#ifndef VCPU_EXECUTE_FAR_H
#define VCPU_EXECUTE_FAR_H

#include "cpu.h"
#include "execute/execute.h"

void far_jump(struct vcpu *v, uint16_t sel, uint64_t offset, unsigned opsize);
/* Return address: the instruction after v->insn. */
void far_call(struct vcpu *v, uint16_t sel, uint64_t offset, unsigned opsize);
/* RETF; `pop` bytes of parameters released. */
void far_return(struct vcpu *v, unsigned opsize, unsigned pop);
void far_iret(struct vcpu *v, unsigned opsize);
/* INT n, INT3, INTO (EVENT_SOFTWARE) and INT1 (EVENT_INT1). `n`: encoded CD ib, for VME and IOPL.
 */
void far_interrupt(struct vcpu *v, unsigned vector, enum event_kind kind, bool n);

void far_syscall(struct vcpu *v);
void far_sysret(struct vcpu *v, unsigned opsize);
void far_sysenter(struct vcpu *v);
void far_sysexit(struct vcpu *v, unsigned opsize);

#endif
