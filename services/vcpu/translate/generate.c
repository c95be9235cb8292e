/* SPDX-License-Identifier: Apache-2.0 */
/* One region's code: block by block, then the stubs, then where branches lead. */
#include "translate/generate.h"

void generate_stub(struct generate *g, struct stub s)
{
	if (g->n_stubs == GENERATE_STUBS) {
		g->e.full = true;
		return;
	}
	g->stub[g->n_stubs++] = s;
}

void generate_fixup(struct generate *g, uint8_t *at, unsigned block)
{
	const struct block *from = &g->r->block[g->current], *to = &g->r->block[block];
	bool up = to->at <= from->at;
	bool back = block < g->r->shared
			    ? to->back && up
			    : g->heads[block] && (loop_has(g->members[block], g->current) || up);

	if (g->n_fixups == GENERATE_FIXUPS) {
		g->e.full = true;
		return;
	}
	g->fixup[g->n_fixups++] = (struct fixup){at, block, back};
}

void generate_unlikely(struct generate *g, unsigned k, unsigned cc)
{
	struct site site = {.region = g->x->n_regions, .kind = SITE_INTERPRET, .insn = k};

	generate_stub(g, (struct stub){.site = site, .from = emit_jcc(&g->e, cc)});
}

void generate_rejoin(struct generate *g, unsigned first)
{
	for (unsigned n = first; n < g->n_stubs; n++) {
		if (g->stub[n].site.kind == SITE_INTERPRET) {
			g->stub[n].back = g->e.p;
		}
	}
}

void generate_event(struct translator *x, struct emit *e, struct site site)
{
	emit8(e, 0xe8);
	emit32(e, 0);
	if (!e->full) {
		emit_patch(e->p - 4, x->code + x->event);
	}
	emit_bytes(e, &site, sizeof(site));
}

/* Flags that matter before each instruction of b. */
static void live_in_block(const struct region *r, const struct block *b, flag_set after,
			  flag_set *live)
{
	for (unsigned k = b->first + b->n; k-- > b->first;) {
		after = (after & ~r->use[k].writes) | r->use[k].reads;
		live[k] = after;
	}
}

static flag_set live_behind(const struct region *r, const struct block *b)
{
	flag_set live = b->leaves ? FL_ARITH : 0;

	live |= b->taken >= 0 ? r->block[b->taken].live : 0;
	return live | (b->next >= 0 ? r->block[b->next].live : 0);
}

static void interpret(struct generate *g, unsigned k)
{
	bool flags = g->in_host && !g->in_memory;

	generate_event(g->x, &g->e,
		       (struct site){.region = g->x->n_regions,
				     .insn = k,
				     .kind = SITE_INTERPRET,
				     .flags = flags ? SITE_FLAGS : 0});
	g->in_host = g->in_memory = true;
}

static void instruction(struct generate *g, unsigned k)
{
	switch (g->r->form[k].kind) {
	case FORM_INTERPRET:
	case FORM_END: interpret(g, k); return;
	case FORM_SIMD:
	case FORM_COMPARE_STRINGS:
	case FORM_X87: generate_vector(g, k); break;
	case FORM_SYSTEM: generate_system(g, k); return;
	case FORM_STRING: generate_string(g, k); break;
	case FORM_BIT_STRING: generate_bit_string(g, k); break;
	default: generate_integer(g, k); break;
	}
	if (g->r->use[k].touches) {
		generate_wrote_flags(g);
	}
}

/* Without touching flags. */
static void count_entry(struct generate *g, struct block *b)
{
	emit_const(&g->e, RCX, (uint64_t)(uintptr_t)&b->count);
	emit_load(&g->e, 8, RAX, rm_mem(RCX, 0));
	emit_lea(&g->e, 8, RAX, rm_mem(RAX, 1));
	emit_store(&g->e, 8, RAX, rm_mem(RCX, 0));
}

/* Leaves, by a jump to be set, unless the TLB context's slot of lin has that number. */
static uint8_t *check_page(const struct region *r, struct emit *e, uint64_t lin, uint32_t map_id)
{
	unsigned ctx = r->key & MODE_USER ? MMU_USER : r->key & KEY_AC ? MMU_SUPER_AC : MMU_SUPER;
	size_t id = offsetof(struct vcpu, tlbs) + ctx * sizeof(struct mmu_tlb) +
		    offsetof(struct mmu_tlb, x_id) + tlb_slot(lin) * sizeof(uint32_t);

	emit_op(e, (struct op){.opcode = 0x81}, 7, rm_vcpu((int32_t)id)); /* cmpl */
	emit32(e, map_id);
	return emit_jcc(e, 5);
}

/* Requests, and whether the page is still there; jumps to be set for those that do not pass. */
static unsigned emit_entry_checks(struct vcpu *v, const struct region *r, struct emit *e,
				  uint8_t *jump[3])
{
	unsigned n = 0;

	jump[n++] = generate_look(v, e);
	jump[n++] = check_page(r, e, r->lin, r->map_id);
	if (r->crosses) {
		jump[n++] = check_page(r, e, r->lin + 4096, r->map_id2);
	}
	return n;
}

/* Before `body`, from where the flags are in memory. */
static void restore_live(struct emit *e, const struct block *b)
{
	if (b->live && !b->in_memory) {
		generate_restore_flags(e);
	}
}

static void entry_event(struct generate *g, const struct block *b, uint8_t *from)
{
	generate_stub(g, (struct stub){.site = {.region = g->x->n_regions,
						.kind = SITE_ENTRY,
						.insn = b->first},
				       .from = from});
}

/* The entries of a block that nothing falls into, right before its body. */
static void entry_in_place(struct generate *g, struct block *b)
{
	uint8_t *jump[3];
	unsigned n;

	b->ext = generate_here(g->x, &g->e);
	n = emit_entry_checks(g->v, g->r, &g->e, jump);
	while (n) {
		entry_event(g, b, jump[--n]);
	}
	b->near = generate_here(g->x, &g->e);
	restore_live(&g->e, b);
}

/* The block of r that begins at `at`, or -1. */
static int block_at(const struct region *r, unsigned at)
{
	for (unsigned n = 0; n < r->n_blocks; n++) {
		if (r->block[n].n && r->block[n].at == at && r->block[n].continues < 0) {
			return (int)n;
		}
	}
	return -1;
}

/*
 * What call k returns to, if it is in the region: is its page still there? Requests are looked for
 * by whoever called: no cycle is made of calls to higher addresses of a page and their returns.
 */
static void returned_to(struct generate *g, unsigned k, int next)
{
	const struct region *r = g->r;
	bool alone = r->crosses || r->loop;
	int to = alone ? -1 : block_at(r, r->at[k] + r->insn[k].len);

	generate_return_checks(g, k);
	if (to < 0) {
		generate_return_exit(g, k);
		return;
	}
	entry_event(g, &r->block[to], check_page(r, &g->e, r->lin, r->map_id));
	restore_live(&g->e, &r->block[to]);
	if (to != next) {
		generate_fixup(g, emit_jmp(&g->e), (unsigned)to);
	}
}

/* A jump to an event that comes back behind it; the event may make it something else. */
static void loop_event(struct generate *g, const struct block *b, enum site_kind kind)
{
	generate_stub(g, (struct stub){.site = {.region = g->x->n_regions,
						.kind = kind,
						.insn = b->first,
						.flags = b->live ? SITE_FLAGS : 0},
				       .from = emit_jmp(&g->e)});
	if (!g->e.full) {
		g->stub[g->n_stubs - 1].back = g->e.p;
	}
}

/*
 * Where branches that close the loop lead, before its head's body: to an event that may give it a
 * fast copy, or to that, or on; to requests.
 */
static void loop_head(struct generate *g, struct block *b)
{
	b->back = generate_here(g->x, &g->e);
	b->rounds = b->passes = 0;
	loop_event(g, b, SITE_LOOP);
	generate_poll(g, b->first);
}

/* Of a copy of a block's rest: `near` alone. */
static void rest_entry(struct generate *g, struct block *b)
{
	b->near = generate_here(g->x, &g->e);
	generate_checked(g);
}

/* `next`: the block that is emitted next and may be fallen into, or -1. */
static void block(struct generate *g, unsigned n, int next, bool fallen_into)
{
	static _Thread_local flag_set live[REGION_INSNS];
	struct block *b = &g->r->block[n];
	unsigned last = b->first + b->n - 1u;
	flag_set behind = live_behind(g->r, b);

	live_in_block(g->r, b, behind, live);
	g->current = n;
	g->stack_moved = 0;
	g->in_host = b->live && !b->in_memory;
	g->in_memory = b->in_memory;
	g->live = b->live;
	b->back = 0;
	if (g->heads[n]) {
		loop_head(g, b);
	} else if (n == 0 && !fallen_into && !g->r->of && !g->r->crosses) {
		entry_in_place(g, b);
	}
	if (g->r->rest) {
		rest_entry(g, b);
	}
	b->body = generate_here(g->x, &g->e);
	if (g->heads[n]) {
		loop_event(g, b, SITE_PASS);
	}
	if (g->v->debug.counting) {
		count_entry(g, b);
	}
	if (b->loops && !g->heads[n] && !g->r->loop) {
		generate_poll(g, b->first);
	}
	for (unsigned k = b->first; k <= last; k++) {
		g->live = live[k];
		g->after = k < last ? live[k + 1] : behind;
		if (!generate_may_move_stack(g, k)) {
			generate_settle_stack(g);
		}
		if (k == last && g->r->form[k].kind >= FORM_JCC) {
			generate_branch(g, b, k, next);
		} else {
			instruction(g, k);
			if (!generate_may_stay_moved(g, k)) {
				generate_settle_stack(g);
			}
		}
		g->r->after[k] = generate_here(g->x, &g->e);
	}
	if (g->r->returned_to && generate_is_call(g->r, last)) {
		returned_to(g, last, next);
	}
	generate_settle_stack(g);
	if (g->r->form[last].kind < FORM_JCC && g->r->form[last].kind != FORM_END) {
		g->live = behind;
		generate_fall(g, b, last, next);
	}
}

static void emit_stub(struct generate *g, const struct stub *s)
{
	struct emit *e = &g->e;
	struct site site = s->site;

	if (e->full) {
		return;
	}
	emit_patch(s->from, e->p);
	if (site.kind == SITE_ACCESS && !s->fixed) {
		site_emit_stub(g->x, e, g->tlb, &site, s->back);
		return;
	}
	if (site.kind == SITE_EXIT) {
		struct exit_link *exit = &g->x->exits[site.region];

		exit->branch = (uint32_t)(s->from - g->x->code);
		exit->stub = generate_here(g->x, e);
		if (s->save) {
			generate_save_flags(e);
			exit->saved = (uint32_t)(emit_jmp(e) - g->x->code);
		}
		exit->slow = generate_here(g->x, e);
	}
	if (s->fixed) {
		emit_const(e, RAX, s->lin);
	}
	if (s->calls) { /* over the jump back */
		uint8_t *over = emit_call(e), *back = emit_jmp(e);

		if (!e->full) {
			emit_patch(over, e->p);
			emit_patch(back, s->back);
		}
		generate_event(g->x, e, site);
		return;
	}
	generate_event(g->x, e, site);
	if (s->fixed) { /* what follows adds the offset */
		emit_lea(e, 8, RAX, rm_mem(RAX, -(int32_t)(s->lin & 4095)));
	}
	if (s->back) {
		uint8_t *at = emit_jmp(e);

		if (!e->full) {
			emit_patch(at, s->back);
		}
	}
}

/* Those that are emitted, by their instructions. */
static void find_order(struct generate *g)
{
	const struct region *r = g->r;

	g->n_order = 0;
	for (unsigned n = 0; n < r->n_blocks; n++) {
		unsigned at = g->n_order;

		if (!generate_has(r, n)) {
			continue;
		}
		for (; at && r->block[g->order[at - 1]].first > r->block[n].first; at--) {
			g->order[at] = g->order[at - 1];
		}
		g->order[at] = (uint8_t)n;
		g->n_order++;
	}
}

/* Does block n, which `next` is emitted behind, go on there without a jump? */
static bool falls_into(const struct region *r, unsigned n, int next)
{
	const struct block *b = &r->block[n];
	unsigned kind = r->form[b->first + b->n - 1u].kind;

	return b->next == next || ((kind == FORM_JMP || kind == FORM_JCC) && b->taken == next);
}

/* Loops that may get a fast copy when they turn out to go round. */
static void find_heads(struct generate *g)
{
	for (unsigned n = 0; n < g->r->n_blocks; n++) {
		g->heads[n] =
			!g->r->of && g->r->block[n].loops && loop_members(g->r, n, g->members[n]);
	}
}

static void begin_blocks(struct region *r)
{
	for (unsigned n = 0; n < r->n_blocks; n++) {
		r->block[n].ext = r->block[n].near = 0;
		r->block[n].in_memory = true;
	}
	if (r->of && !r->rest) { /* where it begins */
		r->block[r->loop ? r->head : r->shared].in_memory = false;
	}
	for (unsigned n = 0; n < r->n_blocks; n++) {
		const struct block *b = &r->block[n];

		if (b->n && b->taken >= 0) {
			r->block[b->taken].in_memory = false;
		}
		if (b->n && b->next >= 0) {
			r->block[b->next].in_memory = false;
		}
	}
}

/* May the fast copy of a loop have its passes left there? */
static bool count_in_scratch(const struct generate *g)
{
	for (unsigned n = 0; n < g->n_order; n++) {
		const struct block *b = &g->r->block[g->order[n]];

		for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
			if (may_use_scratch(g->r, k)) {
				return false;
			}
		}
	}
	return true;
}

static void emit_region(struct generate *g)
{
	struct region *r = g->r;
	bool fallen_into = false;

	find_heads(g);
	begin_blocks(r);
	r->returned_to = !g->x->verify;
	g->host = register_host;
	g->n_leaving = 0;
	find_order(g);
	g->count_in_scratch = r->loop && count_in_scratch(g);
	groups_find(g);
	if (r->loop) {
		windows_begin(g);
		if (memcmp(g->loop_host, register_host, sizeof(g->loop_host)) != 0) {
			g->host = g->loop_host;
		}
	}
	for (unsigned at = 0; at < g->n_order; at++) {
		unsigned n = g->order[at];
		int next = at + 1 < g->n_order ? g->order[at + 1] : -1;
		bool falls = next >= 0 && !g->heads[next] && !(r->loop && next == (int)r->head);

		block(g, n, falls ? next : -1, fallen_into);
		fallen_into = falls && falls_into(r, n, next);
	}
	generate_leave(g);
	for (unsigned k = 0; k < g->n_stubs; k++) {
		emit_stub(g, &g->stub[k]);
	}
	for (unsigned k = 0; k < g->n_fixups && !g->e.full; k++) {
		const struct block *to = &r->block[g->fixup[k].block];

		emit_patch(g->fixup[k].at, g->x->code + (g->fixup[k].back ? to->back : to->body));
	}
}

static void set_context(struct generate *g)
{
	uint32_t key = g->r->key;

	g->tlb = site_tlb(key);
	g->long_mode = (key & MODE_SIZE) == MODE_64;
	g->stack_size = g->long_mode ? 8 : 4;
}

bool generate(struct vcpu *v, struct region *r)
{
	static _Thread_local struct generate generate;
	struct generate *g = &generate;
	struct translator *x = v->translator;

	g->v = v;
	g->x = x;
	g->r = r;
	g->n_stubs = g->n_fixups = 0;
	g->e = generate_at(v, x->code_used);
	set_context(g);
	r->map_id = cache_map_id(x, r->lin, r->gpa);
	r->code = generate_here(x, &g->e);
	emit_region(g);
	if (g->e.full) {
		x->flush = true;
		return false;
	}
	r->code_end = generate_here(x, &g->e);
	x->code_used = (r->code_end + 15) & ~(size_t)15;
	return cache_insert(v, r);
}

/*
 * The block's entries for those who come with flags in memory:
 *   ext:  requests? to an event; is the page still there? else to an event
 *   near: flags if they matter; to the body
 */
bool generate_entry(struct vcpu *v, struct region *r, struct block *b)
{
	struct translator *x = v->translator;
	struct emit e = generate_at(v, x->code_used);
	struct site site = {.region = r->number, .insn = b->first, .kind = SITE_ENTRY};
	uint32_t ext = generate_here(x, &e), near;
	uint8_t *event[3], *body;
	unsigned n = emit_entry_checks(v, r, &e, event);

	near = generate_here(x, &e);
	restore_live(&e, b);
	body = emit_jmp(&e);
	if (e.full) {
		x->flush = true;
		return false;
	}
	emit_patch(body, x->code + b->body);
	while (n) {
		emit_patch(event[--n], e.p);
	}
	generate_event(x, &e, site);
	if (e.full) {
		x->flush = true;
		return false;
	}
	b->ext = ext;
	b->near = near;
	x->code_used = (generate_here(x, &e) + 15) & ~(size_t)15;
	return true;
}
