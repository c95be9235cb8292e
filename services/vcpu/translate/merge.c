/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions of a page that lead to each other become one. A region has what had been reached when it
 * was made; what is reached later is in others at first. Where both are parts of a loop, each pass
 * would find its flags, its page and its checks anew, and no loop that spans regions is seen as
 * one.
 */
#include "translate/translate.h"

enum {
	MERGES = 40, /* of a page: each translates all of a region again */
	LOOK = 64,   /* links that are looked at */
};

static struct region *whole(struct region *r)
{
	return r->of ? whole(r->of) : r;
}

static bool may_merge(const struct region *a, const struct region *b)
{
	return a != b && !a->dead && !b->dead && a->lin == b->lin && a->gpa == b->gpa &&
	       a->key == b->key && !a->crosses && !b->crosses &&
	       a->n_insns + b->n_insns <= REGION_INSNS &&
	       a->n_blocks + b->n_blocks <= REGION_BLOCKS;
}

/* Is `to` linked to by `from`, or by a part of it? */
static bool is_linked(const struct translator *x, struct region *from, const struct region *to)
{
	unsigned looked = 0;

	for (unsigned n = 0; n < to->n_blocks; n++) {
		for (uint32_t e = to->block[n].links; e && looked < LOOK; looked++) {
			const struct exit_link *exit = &x->exits[e - 1];

			if (whole(x->regions[exit->region]) == from) {
				return true;
			}
			e = exit->next;
		}
	}
	return false;
}

/* Has r that block, if only behind others, so that it cannot be entered? */
static bool has_block(const struct region *r, unsigned at)
{
	unsigned n = 0;

	while (n < r->n_blocks && r->block[n].at != at) {
		n++;
	}
	return n < r->n_blocks;
}

bool merge_regions(struct vcpu *v, struct region *from, struct region *to)
{
	struct region *a = whole(from), *b = whole(to);
	struct code_pages *page;
	uint64_t rip = v->rip;

	if (!may_merge(a, b) || has_block(a, v->rip & 4095) || !is_linked(v->translator, b, a)) {
		return false;
	}
	page = cache_page(v, a->gpa);
	if (!page || page->merges == MERGES) {
		return false;
	}
	page->merges++;
	cache_drop(v, b);
	cache_drop(v, a);
	v->rip = a->lin | a->block[0].at;
	engine_translate(v, a->key);
	v->rip = rip;
	return true;
}
