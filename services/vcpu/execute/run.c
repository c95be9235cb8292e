/* SPDX-License-Identifier: Apache-2.0 */
/* See run.h. Intel SDM volume 3, 6.9 (priority among events). */
#include "execute/run.h"

#include "execute/debug.h"
#include "execute/debugger.h"
#include "execute/integer.h"
#include "exits/board.h"
#include "mmu/watch.h"

/* Has the vCPU nothing to do but wait? */
static bool is_idle(const struct vcpu *v)
{
	return v->halted || v->wait_sipi;
}

static void take_nmi(struct vcpu *v)
{
	uint32_t req = atomic_load(&v->req), taken;

	do {
		taken = req & REQ_NMI_2 ? REQ_NMI_2 : REQ_NMI;
	} while (!atomic_compare_exchange_weak(&v->req, &req, req & ~taken));
	vcpu_deliver(v, VEC_NMI, EVENT_NMI, false, 0);
}

/* An interrupt or NMI that can be delivered now, is. */
static void take_interrupt(struct vcpu *v)
{
	uint32_t req = atomic_load(&v->req);

	if ((req & REQ_NMI) && !v->nmi_blocked && v->shadow == 0) {
		take_nmi(v);
		return;
	}
	if (!(req & REQ_IRQ) && !atomic_load(v->kick_summary)) {
		return;
	}
	atomic_fetch_and(&v->req, ~(uint32_t)REQ_IRQ);
	if (!board_irq_poll(v)) {
		return;
	}
	if ((v->rflags & FL_IF) && v->shadow == 0) {
		int vector = board_irq_ack(v);

		if (vector >= 0) {
			vcpu_deliver(v, (unsigned)vector, EVENT_EXTERNAL, false, 0);
		}
		if (!board_irq_poll(v)) {
			return;
		}
	}
	vcpu_request(v, REQ_IRQ); /* looked at again when the guest lets it in */
}

static bool take_requests(struct vcpu *v, enum mobo_exit *exit)
{
	if (atomic_load(&v->req) & REQ_DEBUG) {
		*exit = MOBO_EXIT_DEBUG;
		return true;
	}
	if (v->shutdown) {
		*exit = MOBO_EXIT_SHUTDOWN;
		return true;
	}
	if (!v->wait_sipi && !debugger_holds_interrupts(v) && (vcpu_must_stop(v) || is_idle(v))) {
		take_interrupt(v);
	}
	if (v->shutdown) {
		*exit = MOBO_EXIT_SHUTDOWN;
		return true;
	}
	/* All but interrupts, which are taken or cannot be taken now, is the caller's. */
	if ((atomic_load(&v->req) & v->req_mask & ~(uint32_t)(REQ_IRQ | REQ_NMI | REQ_NMI_2)) ||
	    atomic_load(v->kick_summary)) {
		*exit = MOBO_EXIT_REQUEST;
		return true;
	}
	if (is_idle(v)) {
		*exit = MOBO_EXIT_HALT;
		return true;
	}
	return false;
}

void run_trace(struct vcpu *v, const struct trace *t)
{
	const struct insn *i = trace_enter(v, t);

	while (i) {
		i = i->fn(v, i);
	}
}

void run_single(struct vcpu *v)
{
	const struct trace *t;
	bool tf;

	if (!v->debug.step && debugger_break(v)) {
		return;
	}
	if ((v->rflags & FL_RF) && !watch_any(v->dr[7])) {
		/* No breakpoint to suppress: the return from a fault needs no step. */
		v->rflags &= ~(uint32_t)FL_RF;
		vcpu_update_req_mask(v);
		if (!v->stepping && !v->shadow) {
			return;
		}
	}
	if (v->stepping && debug_insn_start(v)) {
		return;
	}
	tf = v->rflags & FL_TF;
	atomic_fetch_or(&v->req, REQ_SINGLE);
	v->shadow = 0;
	t = trace_find(v, true);
	v->insn = t->insns;
	run_trace(v, t);
	atomic_fetch_and(&v->req, ~(uint32_t)REQ_SINGLE);
	if (v->stepping || tf) {
		debug_insn_end(v, tf);
	}
	debugger_insn_end(v);
	vcpu_update_req_mask(v);
}

bool run_take_requests(struct vcpu *v, enum mobo_exit *exit)
{
	return (vcpu_must_stop(v) || is_idle(v) || v->shutdown) && take_requests(v, exit);
}

void run_unwound(struct vcpu *v)
{
	if (v->interp->holds_lock) {
		atomic_unlock(v);
	}
	if (atomic_load_explicit(&v->req, memory_order_relaxed) & REQ_SINGLE) {
		atomic_fetch_and(&v->req, ~(uint32_t)REQ_SINGLE);
		vcpu_update_req_mask(v); /* the shadow ended with the fault */
		debugger_insn_end(v);
	}
}
