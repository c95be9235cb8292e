/* SPDX-License-Identifier: Apache-2.0 */
/* Breakpoints, watchpoints and single steps of a debugger outside of the guest: debugger.h. */
#include "execute/debugger.h"

#include "engine.h"
#include "execute/execute.h"

static void stop(struct vcpu *v, enum debug_stop why, uint64_t lin)
{
	v->debug.stop = why;
	v->debug.stop_lin = lin;
	v->debug.step = v->debug.careful = false;
	vcpu_request(v, REQ_DEBUG);
	vcpu_update_req_mask(v);
}

static uint64_t code_linear(const struct vcpu *v)
{
	uint64_t lin = v->seg_base[SEG_CS] + v->rip;

	return (v->mode & MODE_SIZE) == MODE_64 ? lin : (uint32_t)lin;
}

bool debugger_break(struct vcpu *v)
{
	uint64_t lin = code_linear(v);

	for (unsigned n = 0; n < v->debug.n_exec; n++) {
		if (v->debug.points[n].lin == lin) {
			stop(v, DEBUG_STOP_BREAKPOINT, lin);
			return true;
		}
	}
	return false;
}

void debugger_insn_end(struct vcpu *v)
{
	if (v->debug.watched) {
		v->debug.watched = false;
		stop(v, DEBUG_STOP_WATCHPOINT, v->debug.stop_lin);
	} else if (v->debug.step) {
		stop(v, DEBUG_STOP_STEP, code_linear(v));
	} else if (v->debug.careful) {
		v->debug.careful = false;
		vcpu_update_req_mask(v);
	}
}

void debugger_watch_hit(struct vcpu *v, uint64_t byte)
{
	if (atomic_load(&v->req) & REQ_SINGLE) {
		if (!v->debug.watched) { /* else of a copy's reads and writes the first is told */
			v->debug.watched = true;
			v->debug.stop_lin = byte;
		}
		return;
	}
	/*
	 * An event's delivery cannot be begun anew, and neither can far transfers: their accesses
	 * are many. Both are the last of their trace, so that the run ends behind them.
	 */
	if (v->insn == NULL || v->delivering >= 0 || (v->insn->flags & INSN_END)) {
		stop(v, DEBUG_STOP_WATCHPOINT, byte);
		return;
	}
	v->rip = vcpu_insn_rip(v);
	if ((v->mode & MODE_SIZE) != MODE_64) {
		v->rip = (uint32_t)v->rip;
	}
	v->n_insns -= (uint8_t)(v->insn->rest + 1);
	v->pending_db = 0;
	v->debug.careful = true;
	vcpu_update_req_mask(v);
	vcpu_unwind(v);
}

void debugger_changed(struct vcpu *v)
{
	mmu_flush_all(v);
	trace_flush_all(v);
	vcpu_update_req_mask(v);
}

void debugger_step(struct vcpu *v, bool on)
{
	v->debug.step = on;
	vcpu_update_req_mask(v);
}

unsigned debugger_hot_insert(struct mobo_engine_block *out, unsigned n, unsigned max,
			     const struct mobo_engine_block *b)
{
	unsigned at = n;

	while (at > 0 && out[at - 1].count < b->count) {
		at--;
	}
	if (at == max) {
		return n;
	}
	n = n < max ? n + 1 : n;
	memmove(&out[at + 1], &out[at], (n - at - 1) * sizeof(*out));
	out[at] = *b;
	return n;
}
