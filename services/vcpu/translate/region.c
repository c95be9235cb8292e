/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which instructions make up a region: from its first, along direct branches, within one page and
 * only where the interpreter has already been, so that code which is never reached costs nothing.
 */
#include "execute/debugger.h"
#include "execute/fetch.h"
#include "execute/trace.h"
#include "translate/emit.h"
#include "translate/translate.h"
#include "translate/verify.h"

enum { PAGE = 4096 };

/* A region under construction. */
struct draft {
	struct vcpu *v;
	uint32_t key;
	uint64_t lin, gpa; /* pages */
	uint64_t gpa2;	   /* the next, of an instruction that crosses */
	bool crosses;
	const uint8_t *code; /* the page's bytes */
	const struct code_pages *page;
	uint64_t starts[PAGE / 64];   /* by offset: a block or an instruction begins there */
	uint64_t returned[PAGE / 64]; /* ... what precedes it calls */
	unsigned n_insns, n_blocks;
	struct insn insn[REGION_INSNS];
	struct form form[REGION_INSNS];
	struct flag_use use[REGION_INSNS];
	uint16_t at[REGION_INSNS];
	struct block block[REGION_BLOCKS];
	unsigned n_todo;
	uint16_t todo[REGION_BLOCKS];
};

/* Has the interpreter a trace that begins there? */
static bool was_reached(const struct draft *d, unsigned at)
{
	return trace_at(d->v->interp, d->gpa | at, d->v->mode);
}

static bool has_offset(const uint64_t set[PAGE / 64], unsigned at)
{
	return set[at >> 6] >> (at & 63) & 1;
}

static void add_offset(uint64_t set[PAGE / 64], unsigned at)
{
	set[at >> 6] |= 1ull << (at & 63);
}

static int find_block(const struct draft *d, unsigned at)
{
	for (unsigned n = 0; has_offset(d->starts, at) && n < d->n_blocks; n++) {
		if (d->block[n].at == at) {
			return (int)n;
		}
	}
	return -1;
}

/* Has another region a block there? */
static bool has_entry(const struct draft *d, unsigned at)
{
	return cache_has(d->v->translator, d->page, d->lin | at, d->gpa | at, d->key);
}

static int new_block(struct draft *d, unsigned at)
{
	if (d->n_blocks == REGION_BLOCKS) {
		return -1;
	}
	add_offset(d->starts, at);
	d->block[d->n_blocks] = (struct block){.at = at, .taken = -1, .next = -1};
	return (int)d->n_blocks++;
}

/* The decoded block that has an instruction, not its first, at `at`; *k: that instruction. */
static struct block *find_inside(struct draft *d, unsigned at, unsigned *k)
{
	for (unsigned n = 0; n < d->n_blocks; n++) {
		struct block *b = &d->block[n];

		for (*k = b->first + 1u; *k < b->first + (unsigned)b->n; ++*k) {
			if (d->at[*k] == at) {
				return b;
			}
		}
	}
	return NULL;
}

/* The block at `at`, made now if need be; -1: no room, or another region has it already. */
static int get_block(struct draft *d, unsigned at)
{
	int n = find_block(d, at);
	struct block *inside;
	unsigned k;

	if (n >= 0) {
		return n;
	}
	if (d->n_blocks && has_entry(d, at)) {
		return -1;
	}
	inside = has_offset(d->starts, at) ? find_inside(d, at, &k) : NULL;
	n = new_block(d, at);
	if (n < 0) {
		return -1;
	}
	if (inside) { /* cut it in two */
		struct block *b = &d->block[n];

		b->first = k;
		b->n = inside->first + inside->n - k;
		b->taken = inside->taken;
		b->next = inside->next;
		b->leaves = inside->leaves;
		inside->n = k - inside->first;
		inside->taken = -1;
		inside->next = (int16_t)n;
		inside->leaves = false;
	} else {
		d->todo[d->n_todo++] = n;
	}
	return n;
}

static uint64_t next_rip(const struct draft *d, unsigned k)
{
	return d->lin + d->at[k] + d->insn[k].len;
}

/* Where the direct branch k leads, if to the region's page. */
static bool target_in_page(const struct draft *d, unsigned k, unsigned *at)
{
	uint64_t rip = next_rip(d, k) + d->insn[k].imm;

	if ((d->key & MODE_SIZE) != MODE_64) {
		rip = (uint32_t)rip;
	}
	*at = rip & (PAGE - 1);
	return (rip & ~(uint64_t)(PAGE - 1)) == d->lin;
}

static int branch_block(struct draft *d, unsigned k)
{
	unsigned at;

	if (d->v->translator->verify) {
		return -1;
	}
	if (!target_in_page(d, k, &at) || (find_block(d, at) < 0 && !was_reached(d, at))) {
		return -1;
	}
	return get_block(d, at);
}

static struct block *block_ending(struct draft *d, unsigned k)
{
	unsigned n = 0;

	while (d->block[n].first + d->block[n].n != k + 1 || !d->block[n].n) {
		n++;
	}
	return &d->block[n];
}

/* What follows a call: returns enter it. */
static void return_point(struct draft *d, unsigned at)
{
	if (at >= PAGE || d->v->translator->verify) {
		return;
	}
	add_offset(d->returned, at);
	if (was_reached(d, at)) {
		get_block(d, at);
	}
}

/* Sets the successors of the block that ends with instruction k. */
static void end_block(struct draft *d, unsigned k)
{
	unsigned next = d->at[k] + d->insn[k].len;
	int taken = -1, fall = -1;
	bool leaves = true;
	struct block *b;

	switch (d->form[k].kind) {
	case FORM_JCC:
	case FORM_LOOP:
		taken = branch_block(d, k);
		fall = next < PAGE && !d->v->translator->verify ? get_block(d, next) : -1;
		leaves = taken < 0 || fall < 0;
		break;
	case FORM_JMP:
		taken = branch_block(d, k);
		leaves = taken < 0;
		break;
	case FORM_CALL:
		taken = branch_block(d, k);
		leaves = taken < 0;
		return_point(d, next);
		break;
	case FORM_CALL_RM: return_point(d, next); break;
	}
	b = block_ending(d, k); /* not that it began as, if the branch leads into it */
	b->taken = (int16_t)taken;
	b->next = (int16_t)fall;
	b->leaves = leaves;
}

/* Decodes one instruction of n bytes behind the others. False: the region ends before it. */
static bool decode_insn(struct draft *d, unsigned at, const uint8_t *code, unsigned n)
{
	unsigned k = d->n_insns;
	struct insn *i = &d->insn[k];

	if (k == REGION_INSNS || !n || debugger_may_break(d->v, d->gpa | at) ||
	    insn_decode(i, code, n, d->v->mode | d->v->interp->decode_mode) != DECODE_OK) {
		return false;
	}
	add_offset(d->starts, at);
	d->at[k] = at;
	d->form[k] = form_of(d->v, i, d->key);
	if (d->v->translator->verify && verify_cuts(i, &d->form[k])) {
		return false;
	}
	d->use[k] = flags_of(i);
	if (d->form[k].kind <= FORM_END) {
		d->use[k] = (struct flag_use){.reads = FL_ARITH, .touches = true};
	}
	d->n_insns++;
	return true;
}

static void decode_block(struct draft *d, unsigned n)
{
	struct block *b = &d->block[n];
	unsigned at = b->at;

	b->first = d->n_insns;
	for (;;) {
		unsigned k = d->n_insns;
		int other;

		if (!decode_insn(d, at, d->code + at, PAGE - at)) {
			b->leaves = true;
			return;
		}
		b->n++;
		if (form_ends(&d->form[k]) || d->form[k].kind == FORM_JCC ||
		    d->form[k].kind == FORM_LOOP) {
			end_block(d, k);
			return;
		}
		at += d->insn[k].len;
		other = find_block(d, at);
		if (other >= 0) {
			b->next = (int16_t)other;
			return;
		}
		if (has_entry(d, at)) {
			b->leaves = true;
			return;
		}
	}
}

static void decode_all(struct draft *d, unsigned at)
{
	get_block(d, at);
	while (d->n_todo) { /* the last first: what falls through follows its branch */
		unsigned n = d->todo[--d->n_todo];

		decode_block(d, n);
	}
}

/* The instruction at `at` alone, whose last bytes are in the next page. */
static bool decode_crossing(struct draft *d, unsigned at)
{
	uint64_t lin = d->lin + PAGE;
	unsigned slot = tlb_slot(lin), n = PAGE - at;
	const struct tlb_entry *e = &d->v->tlb->e[slot];
	uint8_t code[2 * INSN_MAX];

	if (n >= INSN_MAX || (lin ^ e->x) >= PAGE || !cache_page(d->v, d->v->tlb->x_gpa[slot])) {
		return false;
	}
	memcpy(code, d->code + at, n);
	memcpy(code + n, (const uint8_t *)e->page, INSN_MAX);
	d->n_insns = 0;
	if (!decode_insn(d, at, code, n + INSN_MAX) || d->insn[0].len <= n) {
		return false;
	}
	d->gpa2 = d->v->tlb->x_gpa[slot];
	d->crosses = true;
	d->n_blocks = 1;
	d->block[0] = (struct block){.at = at, .n = 1, .taken = -1, .next = -1, .leaves = true};
	return true;
}

/* Blocks without instructions (no room, or not decodable) become exits of those before them. */
static void drop_empty(struct draft *d)
{
	for (unsigned n = 0; n < d->n_blocks; n++) {
		struct block *b = &d->block[n];

		if (b->taken >= 0 && !d->block[b->taken].n) {
			b->taken = -1;
			b->leaves = true;
		}
		if (b->next >= 0 && !d->block[b->next].n) {
			b->next = -1;
			b->leaves = true;
		}
	}
}

/* A block that is led to from above looks for requests: every cycle has one, or leaves the page. */
static void mark_loop(struct draft *d, const struct block *from, int to)
{
	if (from->n && to >= 0) {
		d->block[to].loops |= d->block[to].at <= from->at;
	}
}

static void find_loops(struct draft *d)
{
	for (unsigned n = 0; n < d->n_blocks; n++) {
		mark_loop(d, &d->block[n], d->block[n].taken);
		mark_loop(d, &d->block[n], d->block[n].next);
	}
}

/*
 * Blocks that one other alone leads to, by a branch down: they go on with what that knows, and are
 * entered in no other way. Who else comes there finds another region, which begins there.
 */
static void find_continuing(struct draft *d)
{
	uint8_t ways[REGION_BLOCKS] = {1}; /* the first is entered */

	for (unsigned n = 0; n < d->n_blocks; n++) {
		struct block *b = &d->block[n];
		bool calls = b->n && d->form[b->first + b->n - 1u].kind == FORM_CALL;
		int to[2] = {b->n ? b->taken : -1, b->n ? b->next : -1};

		b->continues = -1;
		for (unsigned k = 0; k < 2; k++) {
			if (to[k] >= 0) {
				ways[to[k]] += calls ? 2 : ways[to[k]] < 2;
			}
		}
	}
	for (unsigned n = 0; n < d->n_blocks; n++) {
		const struct block *b = &d->block[n];
		int to[2] = {b->n ? b->taken : -1, b->n ? b->next : -1};

		for (unsigned k = 0; k < 2; k++) {
			struct block *t = to[k] < 0 ? NULL : &d->block[to[k]];

			if (t && ways[to[k]] == 1 && !t->loops && t->first > b->first &&
			    !has_offset(d->returned, t->at)) {
				t->continues = (int16_t)n;
			}
		}
	}
}

static uint64_t lines_of(const struct draft *d)
{
	uint64_t lines = 0;

	for (unsigned k = 0; k < d->n_insns && !d->crosses; k++) {
		lines |= 1ull << (d->at[k] >> 6);
		lines |= 1ull << ((d->at[k] + d->insn[k].len - 1) >> 6);
	}
	return d->crosses ? 1ull << 63 : lines;
}

bool region_alloc_decoded(struct translator *x, struct region *r)
{
	unsigned n = r->n_insns;

	r->insn = memory_alloc(x, n * sizeof(*r->insn));
	r->form = memory_alloc(x, n * sizeof(*r->form));
	r->use = memory_alloc(x, n * sizeof(*r->use));
	r->at = memory_alloc(x, n * sizeof(*r->at));
	r->bound = memory_alloc(x, n * sizeof(*r->bound));
	return r->bound && r->at && r->use && r->form && r->insn;
}

void region_put_decoded(struct region *r, const struct insn *insn, const struct form *form,
			const struct flag_use *use, const uint16_t *at)
{
	memcpy(r->insn, insn, r->n_insns * sizeof(*insn));
	memcpy(r->form, form, r->n_insns * sizeof(*form));
	memcpy(r->use, use, r->n_insns * sizeof(*use));
	memcpy(r->at, at, r->n_insns * sizeof(*at));
}

bool region_alloc_generated(struct translator *x, struct region *r)
{
	unsigned n = r->n_insns;

	r->after = memory_alloc(x, n * sizeof(*r->after));
	r->leads = memory_alloc(x, n);
	r->in_host = memory_alloc(x, n);
	r->turns = memory_alloc(x, n);
	r->block = memory_alloc(x, r->n_blocks * sizeof(*r->block));
	return r->block && r->turns && r->in_host && r->leads && r->after;
}

static struct region *finish(struct draft *d)
{
	struct translator *x = d->v->translator;
	struct region *r = memory_alloc(x, sizeof(*r));

	if (!r) {
		return NULL;
	}
	r->gpa = d->gpa;
	r->lin = d->lin;
	r->gpa2 = d->gpa2;
	r->crosses = d->crosses;
	r->key = d->key;
	r->lines = lines_of(d);
	r->n_insns = d->n_insns;
	r->n_blocks = d->n_blocks;
	if (!region_alloc_decoded(x, r) || !region_alloc_generated(x, r)) {
		return NULL;
	}
	region_put_decoded(r, d->insn, d->form, d->use, d->at);
	memcpy(r->block, d->block, d->n_blocks * sizeof(*r->block));
	flags_flow(r);
	return r;
}

struct region *region_decode(struct vcpu *v, uint32_t key)
{
	static _Thread_local struct draft draft;
	struct draft *d = &draft;
	uint64_t lin = v->seg_base[SEG_CS] + v->rip;
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(lin)];
	const struct region *from;

	d->v = v;
	d->key = key;
	d->lin = lin & ~(uint64_t)(PAGE - 1);
	d->gpa = v->tlb->x_gpa[tlb_slot(lin)];
	d->n_insns = d->n_blocks = d->n_todo = 0;
	d->crosses = false;
	if ((lin ^ e->x) >= PAGE) {
		return NULL;
	}
	d->page = cache_page(v, d->gpa);
	if (!d->page) {
		return NULL;
	}
	from = cache_source(v->translator, d->gpa | (lin & (PAGE - 1)), key);
	if (from && from->lin != d->lin) {
		return region_elsewhere(v, from, d->lin);
	}
	memset(d->starts, 0, sizeof(d->starts));
	memset(d->returned, 0, sizeof(d->returned));
	d->code = (const uint8_t *)e->page;
	decode_all(d, lin & (PAGE - 1));
	if (!d->block[0].n && !decode_crossing(d, lin & (PAGE - 1))) {
		return NULL;
	}
	drop_empty(d);
	find_loops(d);
	find_continuing(d);
	return finish(d);
}
