/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock-step: each translated block is run by the interpreter first, its stores are taken back, and
 * what the block's code then makes of the same state must be the same. For machines of one vCPU:
 * another's stores to what the block reads look like a difference. vCPU thread only.
 */
#ifndef VCPU_TRANSLATE_VERIFY_H
#define VCPU_TRANSLATE_VERIFY_H

#include "translate/translate.h"

struct verify;

/* Called with a description of a difference, when it is found. */
typedef void verify_report_fn(struct vcpu *v, const char *text);

/*
 * Switches on, or off. No region may be running. `report` NULL: the description goes to stderr
 * and the process aborts. 0 or -ENOMEM.
 */
int verify_set(struct vcpu *v, bool on, verify_report_fn *report);
/* Blocks compared so far. */
uint64_t verify_count(const struct vcpu *v);

/* Runs the block at v->rip on both; it begins and ends in the run loop. */
void verify_run(struct vcpu *v, const struct found *f);
/* One instruction that no block begins with. */
void verify_interpret(struct vcpu *v);
/* The block's code calls for something. */
void verify_event(struct vcpu *v, enum site_kind kind);
/* Has the interpreter ended before the instruction at linear address lin? */
bool verify_ends(const struct vcpu *v, uint64_t lin);
/* Takes back what an indirect call has stored whose target is not canonical. */
void verify_forget_store(struct vcpu *v);

/* Does a block end before i of this form, and begin anew behind it? Repeated strings may stop. */
static inline bool verify_cuts(const struct insn *i, const struct form *f)
{
	return f->kind <= FORM_END || f->kind == FORM_SYSTEM ||
	       (f->kind == FORM_STRING && i->flags & (INSN_REP | INSN_REPNE));
}

#endif
