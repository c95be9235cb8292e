/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of blocks' rests. Where a group's check cannot pass the block goes on in one, from the
 * instruction that leads the group. Over a page's end, in one that splits the group there: each
 * half has a check of its own, other groups are as before. Anywhere else, and when a site has
 * enough of those, in one whose accesses are all checked by themselves. Where the failing check
 * leads, the ends that were met are compared, so that none of them is an event again.
 */
#include "translate/generate.h"
#include "translate/loops.h"

enum {
	SPLITS = 6, /* of a site */
	DEPTH = 3,  /* copies that split, one left for the other */
};

struct copy {
	struct copy *next;
	struct region *region;
	const struct rest *rest;
	uint32_t code; /* offset: its entry, flags in memory */
	uint16_t insn; /* the site */
	bool stack;
	uint16_t first, last; /* offsets in a page of the group's first byte */
};

static bool is_of(const struct copy *c, const struct site *site)
{
	return c->insn == site->insn && c->stack == !!(site->flags & SITE_STACK);
}

static struct copy *find(const struct region *r, const struct site *site, unsigned off)
{
	struct copy *c = r->copies;

	while (c && (!is_of(c, site) || off < c->first || off > c->last)) {
		c = c->next;
	}
	return c;
}

static bool may_split(const struct region *r, const struct site *site)
{
	unsigned n = 0;

	for (const struct copy *c = r->copies; c; c = c->next) {
		n += is_of(c, site) && c->rest->split;
	}
	return n < SPLITS && (!r->rest || r->rest->depth < DEPTH);
}

/* Where the group's first byte may be for the copy to be of use. */
static void set_range(struct copy *c, const struct site *site, bool over)
{
	int32_t first = over ? 4097 - site->size : 0, last = over ? 4095 : 4096 - site->size;
	const struct rest *rest = c->rest;

	if (rest->split && rest->most <= site->size) {
		int32_t off = 4096 - (rest->most + site->lead_off);

		first = off > first ? off : first;
	}
	if (rest->split && rest->least >= -site->size) {
		int32_t off = 4096 - (rest->least + site->lead_off);

		last = off < last ? off : last;
	}
	c->first = (uint16_t)first;
	c->last = (uint16_t)last;
}

static struct copy *make(struct vcpu *v, struct region *r, const struct site *site, unsigned off)
{
	struct region *of = r->loop ? r->loop->of : r->rest ? r->rest->of : r, *region;
	struct translator *x = v->translator;
	struct copy *c = cache_alloc(x, sizeof(*c));
	bool over = off + site->size > 4096;

	if (!c || of->dead || r->dead) {
		return NULL;
	}
	region = region_copy(v, of, site->insn);
	if (!region) {
		return NULL;
	}
	region->rest->depth = r->rest ? r->rest->depth + 1 : 1;
	region->rest->split = over && may_split(r, site);
	region->rest->stack = site->flags & SITE_STACK;
	region->rest->end = 4096 - (int32_t)off - site->lead_off;
	if (!generate(v, region)) {
		return NULL;
	}
	*c = (struct copy){.next = r->copies,
			   .region = region,
			   .rest = region->rest,
			   .insn = site->insn,
			   .stack = site->flags & SITE_STACK};
	set_range(c, site, over);
	/* A cached site that fails elsewhere has another page to try. */
	c->code = site_lead(v, site, &region->block[region->n_blocks - 1u], c->first, c->last,
			    over || !(site->flags & SITE_CACHED));
	if (!c->code) {
		return NULL;
	}
	r->copies = c;
	return c;
}

const uint8_t *copies_enter(struct vcpu *v, struct region *r, const struct site *site)
{
	unsigned off = v->event_arg & 4095;
	struct copy *c = find(r, site, off);

	if (!c) {
		c = make(v, r, site, off);
	}
	return c ? cache_exec(v->translator, c->code) : NULL;
}

void copies_drop(struct vcpu *v, struct region *r)
{
	for (struct copy *c = r->copies; c; c = c->next) {
		if (!c->region->dead) {
			cache_drop(v, c->region);
		}
	}
}
