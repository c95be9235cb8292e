/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which loops get a fast copy, and where their operands are: the registers' values are followed
 * through one pass as sums of their values at the loop's head. What comes back to the head says by
 * how much each register moves a pass; an operand's address moves accordingly.
 */
#include "execute/simd_operands.h"
#include "translate/loops.h"

#include "translate/emit.h"

/* -- the blocks of a loop -- */

static bool add_block(uint64_t set[2], int block)
{
	bool had = block < 0 || loop_has(set, (unsigned)block);

	if (!had) {
		set[block >> 6] |= 1ull << (block & 63);
	}
	return !had;
}

/* Where the loop may reach: from its head to the last branch that leads back to it, by address. */
static bool extent(const struct region *r, unsigned head, unsigned *end)
{
	unsigned from = r->block[head].at;
	bool found = false;

	*end = 0;
	for (unsigned n = 0; n < r->n_blocks; n++) {
		const struct block *b = &r->block[n];

		if (b->n && b->at >= from && (b->taken == (int)head || b->next == (int)head)) {
			*end = b->at > *end ? b->at : *end;
			found = true;
		}
	}
	return found;
}

/* Does block n, or what is reached from it within `set`, lead to the head? Adds those that do. */
static void lead_back(const struct region *r, unsigned head, const uint64_t set[2],
		      uint64_t members[2])
{
	bool changed = true;

	members[0] = members[1] = 0;
	add_block(members, (int)head);
	while (changed) {
		changed = false;
		for (unsigned n = 0; n < r->n_blocks; n++) {
			const struct block *b = &r->block[n];
			bool leads = (b->taken >= 0 && loop_has(members, (unsigned)b->taken)) ||
				     (b->next >= 0 && loop_has(members, (unsigned)b->next));

			if (loop_has(set, n) && leads) {
				changed |= add_block(members, (int)n);
			}
		}
	}
}

/* Blocks between the head and `end` that are reached from the head. */
static void reached(const struct region *r, unsigned head, unsigned end, uint64_t set[2])
{
	bool changed = true;

	set[0] = set[1] = 0;
	add_block(set, (int)head);
	while (changed) {
		changed = false;
		for (unsigned n = 0; n < r->n_blocks; n++) {
			const struct block *b = &r->block[n];
			int to[2] = {b->taken, b->next};

			for (unsigned k = 0; k < 2 && loop_has(set, n); k++) {
				const struct block *t = to[k] < 0 ? NULL : &r->block[to[k]];

				if (t && t->at >= r->block[head].at && t->at <= end) {
					changed |= add_block(set, to[k]);
				}
			}
		}
	}
}

/* The next member all of whose predecessors but over the head are done; -1: none. */
static int next_in_order(const struct region *r, unsigned head, const uint64_t members[2],
			 const uint64_t done[2])
{
	for (unsigned n = 0; n < r->n_blocks; n++) {
		bool ready = loop_has(members, n) && !loop_has(done, n);

		for (unsigned p = 0; p < r->n_blocks && ready && n != head; p++) {
			const struct block *b = &r->block[p];

			if (loop_has(members, p) && !loop_has(done, p) &&
			    (b->taken == (int)n || b->next == (int)n)) {
				ready = false;
			}
		}
		if (ready) {
			return (int)n;
		}
	}
	return -1;
}

/* Is every cycle of the members one through the head? */
static bool is_innermost(const struct region *r, unsigned head, const uint64_t members[2])
{
	uint64_t done[2] = {0, 0};
	int n;

	do {
		n = next_in_order(r, head, members, done);
		add_block(done, n);
	} while (n >= 0);
	return done[0] == members[0] && done[1] == members[1];
}

/* Has instruction k an operand that may get a window? */
static bool is_candidate(const struct region *r, unsigned k)
{
	const struct insn *i = &r->insn[k];
	const struct form *f = &r->form[k];

	if (!(i->flags & INSN_MODRM) || i->mod == 3 || !f->rm || !f->rm_size || i->seg >= SEG_FS ||
	    i->addrsize != 8) {
		return false;
	}
	switch (f->kind) {
	case FORM_MODRM: return !form_is_high(i, f);
	case FORM_VEX_GPR:
	case FORM_SIMD:
	case FORM_X87:
	case FORM_SHIFT_CL:
	case FORM_MULTIPLY:
	case FORM_CMPXCHG: return true;
	}
	return false;
}

bool loop_members(const struct region *r, unsigned head, uint64_t members[2])
{
	unsigned end, n_insns = 0;
	uint64_t set[2];
	bool operands = false;

	if ((r->key & MODE_SIZE) != MODE_64 || r->rest || r->crosses || !extent(r, head, &end)) {
		return false;
	}
	reached(r, head, end, set);
	lead_back(r, head, set, members);
	for (unsigned n = 0; n < r->n_blocks; n++) {
		const struct block *b = &r->block[n];

		if (!loop_has(members, n)) {
			continue;
		}
		n_insns += b->n;
		for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
			operands |= is_candidate(r, k);
			if (r->form[k].kind <= FORM_END || r->form[k].kind == FORM_CALL) {
				return false;
			}
		}
	}
	return operands && n_insns <= LOOP_INSNS && is_innermost(r, head, members);
}

/* -- one pass -- */

struct state {
	struct sum reg[16];
};

struct pass {
	const struct region *r;
	struct loop *l;
	struct state in[REGION_BLOCKS];	  /* before each member */
	struct sum address[REGION_INSNS]; /* of candidates */
	struct state back;		  /* what comes back to the head */
	uint64_t entered[2];
	bool is_back;
	uint16_t written; /* registers that some instruction writes */
	/* By register: its low 32 bits and constants were used as 64 bits. */
	struct {
		bool used;
		int64_t least, most;
	} zero_extended[16];
};

/* s as 64 bits. */
static struct sum whole(struct pass *p, struct sum s)
{
	unsigned reg = s.reg[0];

	if (s.known && s.low) {
		p->zero_extended[reg].used = true;
		if (s.at < p->zero_extended[reg].least) {
			p->zero_extended[reg].least = s.at;
		}
		if (s.at + s.span > p->zero_extended[reg].most) {
			p->zero_extended[reg].most = s.at + s.span;
		}
		s.low = false;
	}
	return s;
}

/* The low 32 bits of s, extended. */
static struct sum extended(struct sum s, bool sign)
{
	if (!s.known || s.n != 1 || s.times[0] != 1 || s.at < -LOOP_REACH || s.at > LOOP_REACH) {
		return sum_unknown;
	}
	s.low = !sign;
	s.reg[0] = (uint8_t)((s.reg[0] & 15) | (sign ? SUM_SIGNED : 0));
	return s;
}

static struct sum address(struct pass *p, const struct state *s, unsigned k)
{
	const struct insn *i = &p->r->insn[k];
	struct sum a = sum_constant(i->disp);

	if (i->flags & INSN_RIPREL) {
		a.at += (int64_t)(p->r->lin + p->r->at[k] + i->len);
	}
	if (i->base != REG_NONE) {
		struct sum base = whole(p, s->reg[i->base]);

		a = sum_add(a, &base, 1);
	}
	if (i->index != REG_NONE) {
		struct sum index = whole(p, s->reg[i->index]);

		a = sum_add(a, &index, 1 << i->scale);
	}
	return a;
}

/* What e makes of base and index. */
static struct sum result(struct pass *p, const struct state *s, const struct effect *e)
{
	struct sum to = sum_constant(e->disp), part;

	if (e->narrow && e->base != REG_NONE && e->index == REG_NONE) {
		to = s->reg[e->base];
		to.at += e->disp;
		return extended(to, e->sign);
	}
	if (e->base != REG_NONE) {
		part = whole(p, s->reg[e->base]);
		to = sum_add(to, &part, 1);
	}
	if (e->index != REG_NONE) {
		part = whole(p, s->reg[e->index]);
		to = sum_add(to, &part, e->scale);
	}
	return e->narrow ? extended(to, e->sign) : to;
}

static void apply(struct pass *p, struct state *s, unsigned k)
{
	struct effect e = effect_of(p->r, k);

	p->written |= e.writes;
	if (e.linear) {
		s->reg[e.to] = result(p, s, &e);
		return;
	}
	for (unsigned n = 0; n < 16; n++) {
		if (e.writes >> n & 1) {
			s->reg[n] = sum_unknown;
		}
	}
}

static void merge(struct state *to, bool first, const struct state *from)
{
	for (unsigned n = 0; n < 16; n++) {
		to->reg[n] = first ? from->reg[n] : sum_either(&to->reg[n], &from->reg[n]);
	}
}

static void flow_to(struct pass *p, int block, const struct state *s)
{
	if (block < 0 || !loop_has(p->l->members, (unsigned)block)) {
		return;
	}
	if (block == (int)p->r->head) {
		merge(&p->back, !p->is_back, s);
		p->is_back = true;
		return;
	}
	merge(&p->in[block], add_block(p->entered, block), s);
}

static void follow_block(struct pass *p, unsigned n)
{
	const struct block *b = &p->r->block[n];
	struct state s = p->in[n];

	for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
		if (is_candidate(p->r, k)) {
			p->address[k] = address(p, &s, k);
		}
		apply(p, &s, k);
	}
	flow_to(p, b->taken, &s);
	flow_to(p, b->next, &s);
	p->l->n_insns += b->n;
}

static void follow_pass(struct pass *p)
{
	uint64_t done[2] = {0, 0};
	int n;

	for (unsigned reg = 0; reg < 16; reg++) {
		p->in[p->r->head].reg[reg] = sum_of(reg);
	}
	while ((n = next_in_order(p->r, p->r->head, p->l->members, done)) >= 0) {
		add_block(done, n);
		follow_block(p, (unsigned)n);
	}
}

/* -- windows -- */

/* By how much a register moves in one pass, at least and at most. False: not by a constant. */
static bool moves(const struct pass *p, unsigned reg, int64_t *least, int64_t *most)
{
	const struct sum *s = &p->back.reg[reg & 15];

	if (!s->known || s->n != 1 || s->reg[0] != (reg & 15) || s->times[0] != 1 ||
	    s->at < -LOOP_REACH || s->at > LOOP_REACH) {
		return false;
	}
	*least = s->at;
	*most = s->at + s->span;
	return true;
}

/* The window that an address of `size` bytes would have alone. */
static bool window_of(const struct pass *p, const struct sum *address, unsigned size,
		      struct window *w)
{
	int64_t low = 0, high = 0;

	for (unsigned n = 0; n < address->n; n++) {
		int64_t least, most, times = address->times[n];

		if (!moves(p, address->reg[n], &least, &most)) {
			return false;
		}
		low += times < 0 ? times * most : times * least;
		high += times < 0 ? times * least : times * most;
	}
	if ((low < 0 && high > 0) || low < -LOOP_REACH || high > LOOP_REACH) {
		return false;
	}
	*w = (struct window){.sum = *address, .step = (int32_t)(low < 0 ? low : high), .align = 1};
	w->sum.span += size;
	return w->sum.span <= LOOP_REACH;
}

/* Index of a window of l that has w's bytes now; -1: there is no room. */
static int join(struct loop *l, const struct window *w)
{
	for (unsigned n = 0; n < l->n_windows; n++) {
		struct window *with = &l->window[n];
		struct sum both = sum_either(&with->sum, &w->sum);

		if (both.known) {
			with->sum = both;
			with->write |= w->write;
			return (int)n;
		}
	}
	if (l->n_windows == LOOP_WINDOWS) {
		return -1;
	}
	l->window[l->n_windows] = *w;
	return l->n_windows++;
}

static struct window_slot slot_of(const struct pass *p, unsigned k, unsigned window)
{
	const struct insn *i = &p->r->insn[k];
	struct window_slot s = {.window = (uint8_t)window, .fold = REG_NONE};

	if (i->base == REG_NONE && i->index == REG_NONE) {
		s.fixed = true;
		s.address = (uint64_t)p->address[k].at;
	} else if (i->base != REG_NONE && !(p->written >> i->base & 1)) {
		s.fold = i->base;
	} else if (i->index != REG_NONE && !(p->written >> i->index & 1)) {
		s.fold = i->index;
		s.scale = i->scale;
	}
	return s;
}

/* Index of a slot like s, made if need be; -1: there is no room. */
static int find_slot(struct loop *l, const struct window_slot *s)
{
	for (unsigned n = 0; n < l->n_slots; n++) {
		const struct window_slot *o = &l->slot[n];

		if (o->window == s->window && o->fold == s->fold && o->scale == s->scale &&
		    o->fixed == s->fixed && o->address == s->address) {
			return (int)n;
		}
	}
	if (l->n_slots == VCPU_WINDOWS) {
		return -1;
	}
	l->slot[l->n_slots] = *s;
	return l->n_slots++;
}

static void give_window(struct pass *p, unsigned k)
{
	const struct form *f = &p->r->form[k];
	struct window_slot slot;
	struct window w;
	int n;

	if (!p->address[k].known || !window_of(p, &p->address[k], f->rm_size, &w)) {
		return;
	}
	w.write = f->rm & ROLE_W;
	n = join(p->l, &w);
	if (n >= 0) {
		slot = slot_of(p, k, (unsigned)n);
		p->l->use[k] = (uint8_t)(find_slot(p->l, &slot) + 1);
		p->l->n_uses += p->l->use[k] != 0;
	}
}

/* Operands that must be aligned, and are when their windows begin so. */
static void align(struct pass *p, unsigned k)
{
	const struct sum *address = &p->address[k];
	struct simd_operands o;
	struct window *w;
	int64_t least, most;

	if (!p->l->use[k] || p->r->form[k].kind != FORM_SIMD ||
	    !simd_operands(&p->r->insn[k], &o) || o.align <= 1 || address->span) {
		return;
	}
	for (unsigned n = 0; n < address->n; n++) {
		if (!moves(p, address->reg[n], &least, &most) || least != most ||
		    least * address->times[n] % o.align) {
			return;
		}
	}
	w = &p->l->window[p->l->slot[p->l->use[k] - 1u].window];
	p->l->aligned[k] = (uint64_t)(address->at - w->sum.at) % o.align == 0;
	if (p->l->aligned[k] && w->align < o.align) {
		w->align = o.align;
	}
}

static bool is_in_window(const struct loop *l, unsigned reg)
{
	for (unsigned n = 0; n < l->n_windows; n++) {
		const struct sum *s = &l->window[n].sum;

		for (unsigned t = 0; t < s->n; t++) {
			if (s->reg[t] == reg) {
				return true;
			}
		}
	}
	return false;
}

/* Must more be known of a register that windows have? */
static bool is_narrow(const struct pass *p, unsigned reg)
{
	return reg & SUM_SIGNED || p->zero_extended[reg].used || p->back.reg[reg].low;
}

/* Fills l->narrow. False: too many. */
static bool find_narrow(struct pass *p)
{
	struct loop *l = p->l;

	for (unsigned reg = 0; reg < 16 + SUM_SIGNED; reg++) {
		int64_t least, most;

		if (!is_in_window(l, reg) || !is_narrow(p, reg) || !moves(p, reg, &least, &most)) {
			continue;
		}
		if (l->n_narrow == LOOP_NARROW) {
			return false;
		}
		l->narrow[l->n_narrow++] =
			(struct narrow){(uint8_t)reg, (int32_t)p->zero_extended[reg & 15].least,
					(int32_t)p->zero_extended[reg & 15].most,
					(int32_t)(least < 0 ? least : 0)};
	}
	return true;
}

bool loop_analyze(const struct region *r, struct loop *l)
{
	static _Thread_local struct pass pass;
	struct pass *p = &pass;

	memset(p->entered, 0, sizeof(p->entered));
	memset(p->zero_extended, 0, sizeof(p->zero_extended));
	memset(p->address, 0, r->n_insns * sizeof(p->address[0]));
	p->r = r;
	p->l = l;
	p->is_back = false;
	p->written = 0;
	l->n_insns = l->n_windows = l->n_slots = l->n_narrow = l->n_uses = 0;
	memset(l->use, 0, sizeof(l->use));
	memset(l->aligned, 0, sizeof(l->aligned));
	follow_pass(p);
	for (unsigned n = 0; n < r->n_blocks; n++) {
		const struct block *b = &r->block[n];

		for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
			if (loop_has(l->members, n) && is_candidate(r, k)) {
				give_window(p, k);
			}
		}
	}
	for (unsigned k = 0; k < r->n_insns; k++) {
		align(p, k);
	}
	return l->n_slots && find_narrow(p);
}
