/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that instructions are decoded from. vCPU thread only. */
#ifndef VCPU_EXECUTE_FETCH_H
#define VCPU_EXECUTE_FETCH_H

#include "execute/execute.h"

enum { INSN_MAX = 15 };

/* Where code is fetched from: the rest of a page. */
struct fetch {
	const uint8_t *code;
	unsigned n;
	uint64_t gpa;
	bool crosses; /* the first instruction goes on in the page at gpa2 */
	uint64_t gpa2;
	bool uncached; /* not RAM: decode anew each time */
	uint8_t bytes[2 * INSN_MAX];
};

static inline uint64_t code_linear(const struct vcpu *v, uint64_t rip)
{
	uint64_t lin = v->seg_base[SEG_CS] + rip;

	return (v->mode & MODE_SIZE) == MODE_64 ? lin : (uint32_t)lin;
}

/*
 * Fetches at v->rip, which has become trace_rip: the rest of the page, or, when an instruction
 * crosses into the next, that one's bytes alone. Raises what fetching raises. f->code is valid
 * until the next exit or flush.
 */
void fetch(struct vcpu *v, struct fetch *f);

#endif
