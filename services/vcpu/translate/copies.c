/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of blocks' rests. Where a group's check cannot pass the block goes on in one, from the
 * instruction that leads the group. Over a page's end, in one that splits the group there: what
 * lies below has been checked, as far as its page is concerned, what lies above gets a check of its
 * own, and other groups are as before. Anywhere else, and when a site has enough of those, in one
 * whose accesses are all checked by themselves. What a failing check leads to compares where the
 * page ends with the ends that were met before, so that none of them is an event again.
 */
#include "translate/generate.h"

enum {
	SPLITS = 6, /* of a site */
	DEPTH = 3,  /* copies that split, one left for the other */
	/* How often a page's end is met at a page that the TLB lets not be accessed so. Plain
	 * copies fill it, too; but new ends are not found any more when they are led to. */
	MISSES = 200,
};

struct copy {
	struct copy *next;
	struct region *region;
	uint32_t code; /* offset: `near` of its block */
	uint16_t insn; /* the site */
	bool stack;
	bool split;
	uint16_t first, last; /* if split: offsets in a page of the group's first byte */
	/* Else: is it led to, over a page's end and elsewhere? */
	bool leads_over, leads;
	uint8_t misses;
};

static bool is_of(const struct copy *c, const struct site *site)
{
	return c->insn == site->insn && c->stack == !!(site->flags & SITE_STACK);
}

static struct copy *find_plain(const struct region *r, const struct site *site)
{
	struct copy *c = r->copies;

	while (c && (c->split || !is_of(c, site))) {
		c = c->next;
	}
	return c;
}

static struct copy *find_split(const struct region *r, const struct site *site, unsigned off)
{
	struct copy *c = r->copies;

	while (c && (!c->split || !is_of(c, site) || off < c->first || off > c->last)) {
		c = c->next;
	}
	return c;
}

static bool may_split(const struct region *r, const struct site *site)
{
	unsigned n = 0;

	for (const struct copy *c = r->copies; c; c = c->next) {
		n += is_of(c, site) && c->split;
	}
	return n < SPLITS && (!r->rest || r->rest->depth < DEPTH);
}

static struct copy *make(struct vcpu *v, struct region *r, const struct site *site, unsigned off,
			 bool split)
{
	struct region *of = r->loop || r->rest ? r->of : r, *region;
	struct copy *c = memory_alloc(v->translator, sizeof(*c));

	if (!c || of->dead || r->dead) {
		return NULL;
	}
	region = region_copy(v, of, site->insn);
	if (!region) {
		return NULL;
	}
	region->rest->depth = r->rest ? r->rest->depth + 1 : 1;
	region->rest->split = split;
	region->rest->stack = site->flags & SITE_STACK;
	region->rest->lead_off = site->lead_off;
	region->rest->end = 4096 - (int32_t)off - site->lead_off;
	if (!generate(v, region)) {
		return NULL;
	}
	*c = (struct copy){.next = r->copies,
			   .region = region,
			   .code = region->block[region->n_blocks - 1u].near,
			   .insn = site->insn,
			   .stack = site->flags & SITE_STACK,
			   .split = split};
	r->copies = c;
	return c;
}

/* Where the group's first byte may be for the copy to be of use. */
static void set_range(struct copy *c, const struct site *site)
{
	const struct rest *rest = c->region->rest;
	int32_t first = 4097 - site->size, last = 4095;

	if (rest->most < site->size) {
		int32_t off = 4096 - (rest->most + site->lead_off);

		first = off > first ? off : first;
	}
	if (rest->least > -site->size) {
		int32_t off = 4096 - (rest->least + site->lead_off);

		last = off < last ? off : last;
	}
	c->first = (uint16_t)first;
	c->last = (uint16_t)last;
}

/* Does the group lie over a page's end? */
static bool is_over(const struct vcpu *v, const struct site *site)
{
	return (v->event_arg & 4095) + site->size > 4096;
}

/* The page that the group begins in, as the TLB lets it be accessed; NULL: it does not. */
static const uint8_t *begins_in(const struct vcpu *v, const struct site *site)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(v->event_arg)];
	uint64_t tag = site->flags & SITE_RANGE_WRITE ? e->w : e->r;

	return (v->event_arg ^ tag) < 4096 ? (const uint8_t *)e->page : NULL;
}

static const struct copy *split(struct vcpu *v, struct region *r, const struct site *site,
				const uint8_t *page)
{
	unsigned off = v->event_arg & 4095;
	struct copy *c = find_split(r, site, off);

	if (!c && may_split(r, site)) {
		c = make(v, r, site, off, true);
		if (!c) {
			return NULL;
		}
		set_range(c, site);
		if (!site_split(v, site, c->code, c->first, c->last)) {
			return NULL;
		}
	}
	if (c) {
		v->event_result = (uint64_t)(uintptr_t)(page + off);
	}
	return c;
}

static const struct copy *plain(struct vcpu *v, struct region *r, const struct site *site,
				bool over)
{
	unsigned inside = 4096u - site->size;
	struct copy *c = find_plain(r, site);

	c = c ? c : make(v, r, site, 0, false);
	if (!c) {
		return NULL;
	}
	if (over && !c->leads_over && (!may_split(r, site) || c->misses++ == MISSES)) {
		c->leads_over = site_plain(v, site, c->code, inside + 1, 4095);
	} else if (!over && !c->leads && !(site->flags & SITE_CACHED)) {
		/* A cached one has another page to try. */
		c->leads = site_plain(v, site, c->code, 0, inside);
	}
	return c;
}

bool copies_have(const struct vcpu *v, const struct region *r, const struct site *site)
{
	return is_over(v, site) && begins_in(v, site) && find_split(r, site, v->event_arg & 4095);
}

const uint8_t *copies_enter(struct vcpu *v, struct region *r, const struct site *site)
{
	bool over = is_over(v, site);
	const uint8_t *page = over ? begins_in(v, site) : NULL;
	const struct copy *c = page ? split(v, r, site, page) : NULL;

	c = c ? c : plain(v, r, site, over);
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
