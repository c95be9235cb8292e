/* SPDX-License-Identifier: Apache-2.0 */
/* What debuggers have traces do: instructions of no length before their first. See trace.h. */
#include "engine.h"
#include "execute/debugger.h"
#include "execute/fetch.h"
#include "execute/trace.h"

/* imm: entries, disp: linear address of the last. */
static const struct insn *count_entry(struct vcpu *v, const struct insn *i)
{
	struct insn *counter = (struct insn *)i;

	counter->imm++;
	counter->disp = (int64_t)code_linear(v, v->trace_rip);
	v->n_insns--;
	NEXT(v, i);
}

static const struct insn *check_break(struct vcpu *v, const struct insn *i)
{
	v->rip = v->trace_rip;
	if (debugger_break(v)) {
		v->n_insns -= i->rest + 1u;
		END_TRACE();
	}
	v->n_insns--;
	NEXT(v, i);
}

unsigned trace_bind_debugger(struct vcpu *v, struct trace *t, uint64_t gpa)
{
	unsigned n = 0;

	if (v->debug.counting) {
		t->insns[n++] = (struct insn){.fn = count_entry};
	}
	if (debugger_may_break(v, gpa)) {
		t->insns[n++] = (struct insn){.fn = check_break};
	}
	return n;
}

void trace_count(struct vcpu *v, bool on)
{
	v->debug.counting = on;
	trace_flush_all(v);
}

unsigned trace_hot(struct vcpu *v, struct mobo_engine_block *out, unsigned max)
{
	struct trace_walk w = {0};
	const struct trace *t;
	unsigned n = 0;

	while ((t = trace_next(v->interp, &w))) {
		if (t->insns[0].fn == count_entry && t->insns[0].imm) {
			n = debugger_hot_insert(out, n, max,
						&(struct mobo_engine_block){
							.lin = (uint64_t)t->insns[0].disp,
							.gpa = t->gpa,
							.count = t->insns[0].imm,
							.guest_len = t->len,
						});
		}
	}
	return n;
}
