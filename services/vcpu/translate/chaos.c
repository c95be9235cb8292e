/* SPDX-License-Identifier: Apache-2.0 */
/* See chaos.h. */
#include "translate/chaos.h"

#include <errno.h>
#include <stdlib.h>

#include "mmu/mmu.h"

enum { LITTLE_CODE = 192 << 10 }; /* bytes: a few of the largest regions */

struct chaos {
	uint64_t random;
	size_t code_size; /* the translator's own */
};

static uint64_t next_random(struct chaos *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random * 0x2545f4914f6cdd1dull;
}

int chaos_set(struct vcpu *v, uint64_t seed)
{
	struct translator *x = v->translator;

	if (!seed) {
		if (x->chaos) {
			x->code_size = x->chaos->code_size;
		}
		free(x->chaos);
		x->chaos = NULL;
		return 0;
	}
	if (!x->chaos) {
		x->chaos = calloc(1, sizeof(*x->chaos));
		if (!x->chaos) {
			return -ENOMEM;
		}
		x->chaos->code_size = x->code_size;
	}
	x->chaos->random = seed;
	x->code_size = LITTLE_CODE;
	x->flush = true;
	return 0;
}

/* A line of some region is said to have changed. */
static void invalidate_some(struct vcpu *v, uint64_t random)
{
	struct translator *x = v->translator;
	const struct region *r;
	unsigned k;

	if (!x->n_regions) {
		return;
	}
	r = x->regions[random % x->n_regions];
	k = (random >> 32) % r->n_insns;
	mobo_engine_translator.code_written(v, r->gpa | r->at[k], r->insn[k].len);
}

static void anything(struct vcpu *v, uint64_t random)
{
	struct translator *x = v->translator;

	switch (random >> 56 & 7) {
	case 0: mmu_flush_all(v); break;
	case 1: mmu_flush_nonglobal(v); break;
	case 2: memory_forget_jumps(v); break;
	case 3: invalidate_some(v, random); break;
	case 4: x->flush |= !(random & 7); break;
	case 5: mmu_flush_page(v, v->rip); break;
	case 6: mmu_flush_page(v, v->gpr[random & 15]); break;
	case 7: atomic_store(v->look, 1); break;
	}
}

void chaos_between(struct vcpu *v)
{
	uint64_t random = next_random(v->translator->chaos);

	if (!(random & 3 << 20)) {
		anything(v, random);
	}
	if (v->translator->flush) {
		memory_flush(v);
	}
}

void chaos_event(struct vcpu *v)
{
	uint64_t random = next_random(v->translator->chaos);

	if (!(random & 15 << 20)) {
		anything(v, random);
	}
}
