/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter as an engine: the run loop, reset. */
#include <errno.h>

#include "engine.h"
#include "execute/cpuid.h"
#include "execute/debugger.h"
#include "execute/run.h"
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

static enum mobo_exit run_loop(struct vcpu *v)
{
	enum mobo_exit exit;

	setjmp(v->unwind); /* raised exceptions come back here, their handler's RIP set */
	run_unwound(v);
	for (;;) {
		if (run_take_requests(v, &exit)) {
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

static const struct mobo_engine_debug interpreter_debug = {
	.changed = debugger_changed,
	.step = debugger_step,
	.count = trace_count,
	.hot_blocks = trace_hot,
};

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
	.marks_lines = true,
	.readds_code = true,
	.debug = &interpreter_debug,
};
