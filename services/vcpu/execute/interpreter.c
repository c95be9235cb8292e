/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter as an engine: the run loop, events between instructions, reset. Intel SDM volume
 * 3, 6.9 (priority among events).
 */
#include <errno.h>

#include "engine.h"
#include "execute/cpuid.h"
#include "execute/debug.h"
#include "execute/integer.h"
#include "execute/simd.h"
#include "execute/state.h"
#include "execute/system.h"
#include "execute/trace.h"
#include "exits/board.h"

static const char *interpreter_unusable(void)
{
	return NULL;
}

static int interpreter_vcpu_init(struct vcpu *v)
{
	uint32_t id[4];
	int ret = simd_init();

	if (ret < 0) {
		return ret;
	}
	ret = trace_init(v);
	if (ret < 0) {
		return ret;
	}
	v->interp->decode_mode = cpuid_is_amd() ? MODE_AMD : 0;
	cpuid_query(v, 7, 0, id);
	v->interp->leaf_7_ebx = id[1];
	cpuid_query(v, 0x80000001, 0, id);
	v->interp->leaf_80000001_ecx = id[2];
	mmu_init(v);
	return 0;
}

static void interpreter_vcpu_finish(struct vcpu *v)
{
	trace_finish(v);
}

static void interpreter_reset(struct vcpu *v, bool init)
{
	uint32_t id[4];

	cpuid_query(v, 1, 0, id);
	system_reset(v, init);
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[RDX] = id[0]; /* the processor's signature */
	if (!init) {
		simd_reset(v);
	}
	v->wait_sipi = v->index != 0;
}

/* -- the run loop -- */

/* Has the vCPU nothing to do but wait? */
static bool is_idle(const struct vcpu *v)
{
	return v->halted || v->wait_sipi;
}

/* An interrupt or NMI that can be delivered now, is. */
static void take_interrupt(struct vcpu *v)
{
	uint32_t req = atomic_load(&v->req);

	if ((req & REQ_NMI) && !v->nmi_blocked && !(v->shadow & SHADOW_MOV_SS)) {
		atomic_fetch_and(&v->req, ~(uint32_t)REQ_NMI);
		vcpu_deliver(v, VEC_NMI, EVENT_NMI, false, 0);
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

/* What stopped the last run. True: run() ends with *exit. */
static bool take_requests(struct vcpu *v, enum mobo_exit *exit)
{
	if (v->shutdown) {
		*exit = MOBO_EXIT_SHUTDOWN;
		return true;
	}
	if (!v->wait_sipi && (vcpu_must_stop(v) || is_idle(v))) {
		take_interrupt(v);
	}
	if (v->shutdown) {
		*exit = MOBO_EXIT_SHUTDOWN;
		return true;
	}
	/* All but interrupts, which are taken or cannot be taken now, is the caller's. */
	if ((atomic_load(&v->req) & v->req_mask & ~(uint32_t)(REQ_IRQ | REQ_NMI)) ||
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

static void run_trace(struct vcpu *v, const struct trace *t)
{
	const struct insn *i = trace_enter(v, t);

	while (i) {
		i = i->fn(v, i);
	}
}

/* One instruction, with what debugging and interrupt shadows want before and after it. */
static void run_single(struct vcpu *v)
{
	const struct trace *t;
	bool tf;

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
	vcpu_update_req_mask(v);
}

static enum mobo_exit run_loop(struct vcpu *v)
{
	enum mobo_exit exit;

	setjmp(v->unwind); /* raised exceptions come back here, their handler's RIP set */
	if (v->interp->holds_lock) {
		atomic_unlock(v);
	}
	if (atomic_load_explicit(&v->req, memory_order_relaxed) & REQ_SINGLE) {
		atomic_fetch_and(&v->req, ~(uint32_t)REQ_SINGLE);
		vcpu_update_req_mask(v); /* the shadow ended with the fault */
	}
	for (;;) {
		if ((vcpu_must_stop(v) || is_idle(v) || v->shutdown) && take_requests(v, &exit)) {
			return exit;
		}
		if (v->stepping || v->shadow) {
			run_single(v);
		} else {
			run_trace(v, trace_find(v, false));
		}
	}
}

static enum mobo_exit interpreter_run(struct vcpu *v)
{
	enum mobo_exit exit;

	simd_enter(v);
	exit = run_loop(v);
	simd_leave(v);
	return exit;
}

static void interpreter_kick(struct vcpu *v)
{
	/* The bits in vcpu.req are all a running vCPU looks at. */
}

static void interpreter_map_changed(struct vcpu *v)
{
	mmu_flush_all(v);
	trace_flush_all(v);
}

static void interpreter_code_written(struct vcpu *v, uint64_t gpa, uint64_t len)
{
	trace_invalidate(v, gpa, len);
}

static void interpreter_code_protect(struct vcpu *v, uint64_t gpa)
{
	mmu_protect_code(v, gpa);
}

const struct mobo_engine_ops mobo_engine_interpreter = {
	.name = "interpreter",
	.unusable = interpreter_unusable,
	.vcpu_init = interpreter_vcpu_init,
	.vcpu_finish = interpreter_vcpu_finish,
	.reset = interpreter_reset,
	.run = interpreter_run,
	.kick = interpreter_kick,
	.get_state = state_get,
	.set_state = state_set,
	.map_changed = interpreter_map_changed,
	.code_written = interpreter_code_written,
	.code_protect = interpreter_code_protect,
};
