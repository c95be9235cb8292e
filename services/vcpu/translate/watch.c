/* SPDX-License-Identifier: Apache-2.0 */
/* Loops are watched for some passes before it is decided which of them get a fast copy. */
#include <limits.h>
#include <stdlib.h>

#include "translate/emit.h"
#include "translate/loops.h"

/* Passes and rounds that are watched before it is clear whether a loop goes round often. */
enum { WATCHED_PASSES = 48, WATCHED_ROUNDS = 12, TURNS = 4, LEN_JMP = 5 };

static struct block *block_at(struct region *r, unsigned insn)
{
	struct block *b = r->block;

	while (!b->n || b->first != insn) {
		b++;
	}
	return b;
}

static void skip(struct translator *x, uint32_t code)
{
	static const uint8_t nop[LEN_JMP] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

	memcpy(x->code + code, nop, sizeof(nop));
}

/* How many passes it makes each time. One that has not ended yet will go on, supposedly. */
static unsigned passes_of(const struct block *b)
{
	unsigned ended = b->passes > b->rounds ? b->passes - b->rounds : 0;

	return ended ? b->rounds / ended + 1 : WATCHED_PASSES;
}

/*
 * What a loop costs beside its own work each time it is entered, in host instructions, as watched:
 * as it is, by its fast copy, and unrolled.
 */
struct costs {
	unsigned slow, fast, unrolled;
};

static struct costs costs_of(const struct block *b, const struct loop *l, unsigned turns)
{
	unsigned passes = passes_of(b);
	unsigned setup = 14 + 15 * l->n_windows + 5 * l->n_narrow;

	return (struct costs){
		.slow = passes * (3 + 5 * l->n_uses),
		.fast = setup + passes * (2 + (passes < LONG_LOOP ? l->n_uses : 0)),
		.unrolled = turns && passes > 1
				    ? (passes + turns - 1) / turns * (4 + 5 * l->n_windows) +
					      passes * l->n_uses
				    : UINT_MAX,
	};
}

/* How the loop may be unrolled: its operands' addresses go on by constants that groups follow. */
static bool may_unroll(const struct region *r, const struct loop *l, struct unrolling *u)
{
	*u = (struct unrolling){.members = {l->members[0], l->members[1]}, .turns = TURNS};
	for (unsigned n = 0; n < r->n_blocks; n++) {
		if (loop_has(l->members, n)) {
			u->n_members++;
			u->n_insns += r->block[n].n;
		}
	}
	while (u->turns > 1 && (r->n_blocks + u->turns * u->n_members > REGION_BLOCKS ||
				r->n_insns + u->turns * u->n_insns > REGION_INSNS)) {
		u->turns /= 2;
	}
	for (unsigned n = 0; n < l->n_windows; n++) {
		unsigned step = (unsigned)abs(l->window[n].step);

		if (u->turns * step + l->window[n].sum.span > GROUP_REACH) {
			return false;
		}
	}
	return !l->n_narrow && u->turns > 1;
}

/* The loop goes on in `fast` from where the jump that `at` is the place of leads. */
static void lead_to(struct translator *x, uint32_t at, uint32_t to)
{
	x->code[at] = 0xe9; /* jmp */
	emit_patch(x->code + at + 1, x->code + to);
}

void loop_speed_up(struct vcpu *v, struct region *r, struct block *b)
{
	struct translator *x = v->translator;
	unsigned head = (unsigned)(b - r->block);
	struct region *fast = region_loop(v, r, head);
	struct unrolling u = {.turns = 0};
	struct costs costs;

	skip(x, b->back);
	skip(x, b->body);
	if (!fast) {
		return;
	}
	costs = costs_of(b, fast->loop, may_unroll(r, fast->loop, &u) ? u.turns : 0);
	if (costs.unrolled < costs.slow && costs.unrolled < costs.fast) {
		struct region *unrolled = region_unroll(v, r, head, &u);

		if (unrolled && generate(v, unrolled)) {
			lead_to(x, b->body, unrolled->block[unrolled->shared].body);
		}
	} else if (costs.fast < costs.slow) {
		fast->loop->passes = (uint16_t)passes_of(b);
		if (generate(v, fast)) {
			lead_to(x, b->back, fast->code);
		}
	}
}

const uint8_t *loop_watch(struct vcpu *v, struct region *r, const struct site *site)
{
	struct block *b = block_at(r, site->insn);

	b->rounds += site->kind == SITE_LOOP;
	b->passes += site->kind == SITE_PASS;
	if (!r->dead && (b->rounds == WATCHED_ROUNDS || b->passes == WATCHED_PASSES)) {
		loop_speed_up(v, r, b);
	}
	return (const uint8_t *)(site + 1);
}
