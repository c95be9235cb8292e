/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions that are made of others: what was decoded is shared, code is generated anew. The same
 * code at another linear page; a loop's fast copy; a loop unrolled; the rest of a block.
 */
#include "translate/emit.h"
#include "translate/loops.h"
#include "translate/translate.h"

struct region *region_elsewhere(struct vcpu *v, const struct region *from, uint64_t lin)
{
	struct translator *x = v->translator;
	struct region *r = memory_alloc(x, sizeof(*r));

	if (!r) {
		return NULL;
	}
	*r = *from;
	r->page_next = NULL;
	r->copies = NULL;
	r->lin = lin;
	if (!region_alloc_generated(x, r)) {
		return NULL;
	}
	for (unsigned n = 0; n < r->n_blocks; n++) {
		struct block *b = &r->block[n];

		*b = from->block[n];
		b->body = b->near = b->ext = b->links = 0;
		b->count = 0;
	}
	return r;
}

/* What all copies of parts of a region begin as. */
static struct region copy_of(struct region *of)
{
	struct region copy = *of;

	copy.of = of;
	copy.page_next = NULL;
	copy.copies = NULL;
	return copy;
}

/* Those of `of` stay where they are. */
static void share_blocks(struct region *copy, const struct region *of)
{
	for (unsigned n = 0; n < of->n_blocks; n++) {
		copy->block[n] = of->block[n];
		copy->block[n].near = copy->block[n].ext = copy->block[n].links = 0;
		copy->block[n].count = 0;
	}
}

struct region *region_loop(struct vcpu *v, struct region *r, unsigned head)
{
	struct translator *x = v->translator;
	struct region *copy = memory_alloc(x, sizeof(*copy));
	struct loop *l = memory_alloc(x, sizeof(*l));

	if (!copy || !l || !loop_members(r, head, l->members)) {
		return NULL;
	}
	*copy = copy_of(r);
	copy->loop = l;
	copy->head = (uint16_t)head;
	l->slow = r->block[head].body;
	if (!loop_analyze(copy, l) || !region_alloc_generated(x, copy)) {
		return NULL;
	}
	share_blocks(copy, r);
	return copy;
}

/* -- unrolled loops: turns of the members' blocks, behind those of the region itself -- */

/* The copy's block of that turn, of a member of the loop: the head is the first. */
static unsigned in_turn(const struct region *copy, const struct unrolling *u, unsigned turn,
			unsigned member)
{
	unsigned at = copy->shared + turn * u->n_members;

	for (unsigned n = copy->head; n != member; n = (n + 1u) % copy->shared) {
		at += loop_has(u->members, n);
	}
	return at;
}

/* Where a successor of a member of that turn is: the head in the next turn, or in the slow copy. */
static int16_t successor(const struct region *copy, const struct unrolling *u, unsigned turn,
			 int to)
{
	if (to < 0 || !loop_has(u->members, (unsigned)to)) {
		return (int16_t)to;
	}
	turn += to == (int)copy->head;
	return (int16_t)(turn == u->turns ? to : (int)in_turn(copy, u, turn, (unsigned)to));
}

/* The member whose instructions follow those of n, around from the last to the first. */
static unsigned next_member(const struct region *r, const uint64_t members[2], unsigned n)
{
	unsigned best = n, least = REGION_INSNS;

	for (unsigned m = 0; m < r->n_blocks; m++) {
		unsigned ahead =
			(r->block[m].first + REGION_INSNS - r->block[n].first) % REGION_INSNS;

		if (loop_has(members, m) && m != n && ahead < least) {
			best = m;
			least = ahead;
		}
	}
	return best;
}

/* Appends the instructions of a member, and it. It goes on with what comes before it alone. */
static void add_member(struct region *copy, const struct unrolling *u, unsigned turn, unsigned n)
{
	const struct block *of = &copy->of->block[n];
	struct block *b = &copy->block[in_turn(copy, u, turn, n)];
	unsigned to = copy->n_insns;

	for (unsigned k = 0; k < of->n; k++, to++) {
		copy->insn[to] = copy->insn[of->first + k];
		copy->form[to] = copy->form[of->first + k];
		copy->use[to] = copy->use[of->first + k];
		copy->at[to] = copy->at[of->first + k];
	}
	*b = (struct block){.at = of->at,
			    .first = copy->n_insns,
			    .n = of->n,
			    .taken = successor(copy, u, turn, of->taken),
			    .next = successor(copy, u, turn, of->next),
			    .leaves = of->leaves,
			    .live = of->live,
			    .continues = -1};
	if (of->continues >= 0) {
		unsigned from = in_turn(copy, u, turn, (unsigned)of->continues);

		b->continues = (int16_t)(copy->block[from].n ? (int)from : -1);
	}
	copy->n_insns = (uint16_t)to;
}

/* The one block that leads to the head in that turn, from the one before; -1: several do. */
static int16_t leads_on(const struct region *copy, const struct unrolling *u, unsigned turn)
{
	int head = (int)in_turn(copy, u, turn, copy->head);
	int16_t from = -1;

	for (unsigned n = copy->shared; n < copy->n_blocks; n++) {
		const struct block *b = &copy->block[n];

		if (b->taken == head || b->next == head) {
			if (from >= 0) {
				return -1;
			}
			from = (int16_t)n;
		}
	}
	return from;
}

struct region *region_unroll(struct vcpu *v, struct region *r, unsigned head,
			     const struct unrolling *u)
{
	struct translator *x = v->translator;
	struct region *copy = memory_alloc(x, sizeof(*copy));
	unsigned n_insns = r->n_insns;

	if (!copy) {
		return NULL;
	}
	*copy = copy_of(r);
	copy->head = (uint16_t)head;
	copy->shared = r->n_blocks;
	copy->n_insns = (uint16_t)(n_insns + u->turns * u->n_insns);
	copy->n_blocks = (uint16_t)(r->n_blocks + u->turns * u->n_members);
	if (!region_alloc_decoded(x, copy) || !region_alloc_generated(x, copy)) {
		return NULL;
	}
	copy->n_insns = (uint16_t)n_insns;
	region_put_decoded(copy, r->insn, r->form, r->use, r->at);
	share_blocks(copy, r);
	for (unsigned turn = 0; turn < u->turns; turn++) {
		unsigned member = head;

		do {
			add_member(copy, u, turn, member);
			member = next_member(r, u->members, member);
		} while (member != head);
	}
	for (unsigned turn = 1; turn < u->turns; turn++) {
		copy->block[in_turn(copy, u, turn, head)].continues = leads_on(copy, u, turn);
	}
	return copy;
}

/* -- rests -- */

/* The block of r that holds instruction k. */
static const struct block *block_of(const struct region *r, unsigned k)
{
	const struct block *b = r->block;

	while (k < b->first || k >= (unsigned)b->first + b->n) {
		b++;
	}
	return b;
}

struct region *region_copy(struct vcpu *v, struct region *of, unsigned k)
{
	const struct block *b = block_of(of, k);
	struct translator *x = v->translator;
	struct region *copy = memory_alloc(x, sizeof(*copy));
	struct rest *rest = memory_alloc(x, sizeof(*rest));

	if (!copy || !rest) {
		return NULL;
	}
	*copy = copy_of(of);
	copy->rest = rest;
	copy->shared = of->n_blocks;
	copy->n_blocks = of->n_blocks + 1u;
	if (!region_alloc_generated(x, copy)) {
		return NULL;
	}
	share_blocks(copy, of);
	copy->block[of->n_blocks] = (struct block){.at = of->at[k],
						   .first = (uint16_t)k,
						   .n = (uint16_t)(b->first + b->n - k),
						   .taken = b->taken,
						   .next = b->next,
						   .leaves = b->leaves,
						   .live = flags_before(of, k),
						   .continues = -1};
	return copy;
}
