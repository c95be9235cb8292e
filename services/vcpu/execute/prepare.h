/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to an instruction that can run: decoded and bound to its handler. What was prepared
 * before is remembered by its shape: all its bytes but displacement and immediate. vCPU thread
 * only.
 */
#ifndef VCPU_EXECUTE_PREPARE_H
#define VCPU_EXECUTE_PREPARE_H

#include "execute/execute.h"

struct insn_template;

/* The memory for templates, of struct interp; NULL: there is none. Freed by free(). */
struct insn_template *prepare_init(void);
/* Forgets all. */
void prepare_flush(struct vcpu *v);

/*
 * Decodes the instruction at `code`, of which `n` bytes are readable, for v->mode, and chooses its
 * handler. `off`: where it lies in its trace. Returns what decoding did: on DECODE_SHORT *i cannot
 * run, else it can, if only to raise #UD or #GP. i->rest is the caller's.
 */
enum decode_result insn_prepare(struct vcpu *v, struct insn *i, const uint8_t *code, unsigned n,
				unsigned off);
/* Chooses the handler of a decoded instruction. False: it does not exist, *i raises #UD. */
bool insn_bind(struct vcpu *v, struct insn *i);
/* The same for an instruction cut off by the segment's limit: raises #GP(0). */
void insn_prepare_gp(struct insn *i, unsigned off);

#endif
