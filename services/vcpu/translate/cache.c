/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in code memory: regions are found by physical address, linear page and key, linked with
 * one another, and end.
 *
 * Invariants: a region that is not dead is in its page's list, its page is reported to the board
 * as one with code, and its bytes are those it was decoded from. Exits lead to live regions only.
 * x_id[slot] is 0 or the number of the pair (linear page, physical page) that the slot holds now.
 */
#include <stdlib.h>

#include "execute/trace.h"
#include "exits/board.h"
#include "mmu/mmu.h"
#include "translate/generate.h"

enum { PAGE = 4096 };

/* -- what code is made for -- */

enum { FCW_ALL_MASKED = 0x3f, MXCSR_ALL_MASKED = 0x1f80 };

uint32_t cache_key(const struct vcpu *v)
{
	uint32_t key = v->mode;

	if ((key & MODE_SIZE) != MODE_64 &&
	    (key & (MODE_SIZE | MODE_FLAT | MODE_SS32)) != (MODE_32 | MODE_FLAT | MODE_SS32)) {
		return 0;
	}
	if (v->tlb == &v->tlbs[MMU_USER_ALIGN] || v->cpl == 1 || v->cpl == 2) {
		return 0;
	}
	key |= v->tlb == &v->tlbs[MMU_SUPER_AC] ? KEY_AC : 0;
	key |= v->cr4 & CR4_SMAP ? KEY_SMAP : 0;
	if (!(v->cr0 & (CR0_EM | CR0_TS))) {
		bool sse = (v->fx.mxcsr & MXCSR_ALL_MASKED) == MXCSR_ALL_MASKED;

		key |= (v->fx.fcw & FCW_ALL_MASKED) == FCW_ALL_MASKED ? KEY_X87 : 0;
		key |= sse && v->cr4 & CR4_OSFXSR ? KEY_SSE : 0;
		key |= sse && v->cr4 & CR4_OSXSAVE && (v->xcr0 & 6) == 6 ? KEY_AVX : 0;
		key |= key & KEY_AVX && event_vectors(v) == EVENT_ZMM ? KEY_AVX512 : 0;
	}
	return key | 1u << 31;
}

int cache_jump_context(struct translator *x, uint32_t key)
{
	for (int c = 0; c < KEYS; c++) {
		if (!x->keys[c]) {
			x->keys[c] = key;
		}
		if (x->keys[c] == key) {
			return c;
		}
	}
	x->flush = true;
	return -1;
}

static unsigned page_hash(uint64_t gpa, uint64_t lin)
{
	uint64_t h = (gpa >> 12) * 0x9e3779b97f4a7c15 ^ (lin >> 12) * 0xc2b2ae3d27d4eb4f;

	return h >> 40 & (MAP_HASH - 1);
}

uint32_t cache_map_id(struct translator *x, uint64_t lin, uint64_t gpa)
{
	struct page_map **bucket = &x->maps[page_hash(gpa, lin)], *m = *bucket;

	while (m && (m->lin != lin || m->gpa != gpa)) {
		m = m->next;
	}
	if (!m) {
		m = memory_alloc(x, sizeof(*m));
		if (!m) {
			return 0;
		}
		*m = (struct page_map){*bucket, lin, gpa, ++x->n_maps};
		*bucket = m;
	}
	return m->id;
}

static struct code_pages *find_page(struct translator *x, uint64_t gpa)
{
	struct code_pages *p = x->pages[page_hash(gpa, 0)];

	while (p && p->gpa != gpa) {
		p = p->next;
	}
	return p;
}

static const uint8_t *page_host(struct vcpu *v, uint64_t gpa)
{
	struct mem_run run = board_mem_lookup(v->board, gpa);

	return run.r ? run.r + (gpa - run.gpa) : NULL;
}

bool cache_is_by_slot(struct translator *x, const struct region *r, unsigned k)
{
	const struct code_pages *p = find_page(x, r->gpa);

	return p && p->by_slot[r->at[k] >> 6] >> (r->at[k] & 63) & 1;
}

void cache_set_by_slot(struct translator *x, const struct region *r, unsigned k)
{
	struct code_pages *p = find_page(x, r->gpa);

	if (p) {
		p->by_slot[r->at[k] >> 6] |= 1ull << (r->at[k] & 63);
	}
}

struct code_pages *cache_page(struct vcpu *v, uint64_t gpa)
{
	struct translator *x = v->translator;
	struct code_pages *p = find_page(x, gpa), **bucket;

	if (p) {
		return p;
	}
	p = memory_alloc(x, sizeof(*p));
	if (!p) {
		return NULL;
	}
	bucket = &x->pages[page_hash(gpa, 0)];
	p->gpa = gpa;
	p->host = page_host(v, gpa);
	p->next = *bucket;
	*bucket = p;
	board_code_page_add(v, gpa);
	mmu_protect_code(v, gpa);
	return p;
}

/* -- regions -- */

/* lin, too: a library is at many addresses. */
static struct entry **entry_bucket(struct translator *x, uint64_t lin, uint64_t gpa, uint32_t key)
{
	uint64_t h = (gpa ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15;

	h = (h ^ h >> 32 ^ lin) * 0xc2b2ae3d27d4eb4f;
	return &x->entries[h >> 40 & (ENTRY_HASH - 1)];
}

static void add_start(struct code_pages *page, unsigned at)
{
	page->starts[at >> 6] |= 1ull << (at & 63);
}

/* Makes the region's blocks known by their addresses. */
static bool add_entries(struct translator *x, struct code_pages *page, struct region *r)
{
	struct entry *e = memory_alloc(x, r->n_blocks * sizeof(*e));

	for (unsigned n = 0; e && n < r->n_blocks; n++) {
		struct block *b = &r->block[n];
		struct entry **bucket = entry_bucket(x, r->lin | b->at, r->gpa | b->at, r->key);

		if (b->n && b->continues < 0) {
			e[n] = (struct entry){*bucket, r->lin | b->at, r->gpa | b->at, r,
					      b,       r->key};
			*bucket = &e[n];
			add_start(page, b->at);
		}
	}
	return e;
}

/* False: a line may have changed since it was decoded. */
static bool mark_lines(struct vcpu *v, const struct region *r)
{
	bool stale = false;

	for (unsigned line = 0; line < 64; line++) {
		if (r->lines >> line & 1) {
			stale |= board_code_lines_add(v, r->gpa | line << 6, 64);
		}
	}
	if (r->crosses) {
		stale |= board_code_lines_add(v, r->gpa2, 64);
	}
	return !stale;
}

/* Enters r into the list of the page that it ends in. */
static bool add_crossing(struct vcpu *v, struct region *r)
{
	struct code_pages *page = cache_page(v, r->gpa2);

	r->map_id2 = cache_map_id(v->translator, r->lin + PAGE, r->gpa2);
	if (!page || !r->map_id2) {
		return false;
	}
	r->crossing_next = page->crossing;
	page->crossing = r;
	page->lines |= 1;
	return true;
}

static struct region **source_slot(struct translator *x, uint64_t gpa, uint32_t key)
{
	uint64_t h = (gpa ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15;

	return &x->sources[h >> 40 & (SOURCE_HASH - 1)];
}

bool cache_insert(struct vcpu *v, struct region *r)
{
	struct translator *x = v->translator;
	struct code_pages *page = cache_page(v, r->gpa);

	if (x->n_regions == x->regions_room) {
		uint32_t room = x->regions_room ? x->regions_room * 2 : 1024;
		struct region **p = realloc(x->regions, room * sizeof(*p));

		if (!p) {
			x->flush = true;
			return false;
		}
		x->regions = p;
		x->regions_room = room;
	}
	if (!mark_lines(v, r)) {
		return false;
	}
	if (!page || !r->map_id || (r->crosses && !add_crossing(v, r))) {
		return false;
	}
	r->number = x->n_regions;
	x->regions[x->n_regions++] = r;
	r->page_next = page->regions;
	page->regions = r;
	page->lines |= r->lines;
	if (r->of) {
		return true;
	}
	if (!r->crosses) {
		*source_slot(x, r->gpa | r->block[0].at, r->key) = r;
	}
	return add_entries(x, page, r);
}

static struct found *found_slot(struct translator *x, uint64_t lin, uint32_t key)
{
	uint64_t h = (lin ^ (uint64_t)key << 48) * 0x9e3779b97f4a7c15;

	return &x->found[h >> 40 & (FOUND_HASH - 1)];
}

static struct entry *find_entry(struct translator *x, uint64_t lin, uint64_t gpa, uint32_t key)
{
	struct entry *e = *entry_bucket(x, lin, gpa, key);

	while (e && (e->gpa != gpa || e->lin != lin || e->key != key)) {
		e = e->next;
	}
	return e;
}

/* Does an entry begin there, of any key and linear page? Code without one is asked for often. */
static bool is_start(const struct code_pages *page, uint64_t gpa)
{
	return page && page->starts[gpa >> 6 & 63] >> (gpa & 63) & 1;
}

bool cache_has(struct translator *x, const struct code_pages *page, uint64_t lin, uint64_t gpa,
	       uint32_t key)
{
	return is_start(page, gpa) && find_entry(x, lin, gpa, key);
}

const struct region *cache_source(struct translator *x, uint64_t gpa, uint32_t key)
{
	const struct region *r = *source_slot(x, gpa, key);

	return r && !r->dead && r->key == key && (r->gpa | r->block[0].at) == gpa ? r : NULL;
}

static void kill(struct vcpu *v, struct region *r);

/*
 * Is the page that r ends in the one it was made from? If the TLB tells, it is known to entry
 * checks; if it tells of another, that is r's end.
 */
static bool second_page_holds(struct vcpu *v, struct region *r)
{
	uint64_t lin = r->lin + PAGE;
	unsigned slot = tlb_slot(lin);

	if ((lin ^ v->tlb->e[slot].x) >= PAGE) {
		return false;
	}
	if (v->tlb->x_gpa[slot] != r->gpa2) {
		kill(v, r);
		return false;
	}
	v->tlb->x_id[slot] = r->map_id2;
	return true;
}

const struct found *cache_lookup(struct vcpu *v, uint32_t key)
{
	struct translator *x = v->translator;
	uint64_t lin = v->seg_base[SEG_CS] + v->rip, gpa;
	unsigned slot = tlb_slot(lin);
	struct found *f;
	struct entry *e;

	if ((lin ^ v->tlb->e[slot].x) >= PAGE) {
		return NULL;
	}
	gpa = v->tlb->x_gpa[slot] | (lin & (PAGE - 1));
	if (!is_start(find_page(x, gpa & ~(uint64_t)(PAGE - 1)), gpa)) {
		return NULL;
	}
	f = found_slot(x, lin, key);
	if (f->lin != lin + 1 || f->gpa != gpa || f->key != key) {
		e = find_entry(x, lin, gpa, key);
		if (!e || (!e->block->ext && !generate_entry(v, e->region, e->block))) {
			return NULL;
		}
		*f = (struct found){lin + 1,	    gpa,	   e->region,
				    e->block,	    key,	   e->region->map_id,
				    e->block->near, e->block->ext, e->region->crosses};
	}
	if (f->crosses && !second_page_holds(v, f->region)) {
		return NULL;
	}
	v->tlb->x_id[slot] = f->map_id;
	return f;
}

struct region *cache_find_host(struct translator *x, const uint8_t *host, unsigned *insn)
{
	uint32_t code = (uint32_t)(host - (x->code + x->to_exec)), low = 0, high = x->n_regions;
	struct region *r;

	if (host < x->code + x->to_exec || host >= x->code + x->to_exec + x->code_used) {
		return NULL;
	}
	while (low + 1 < high) {
		uint32_t mid = (low + high) / 2;

		if (x->regions[mid]->code <= code) {
			low = mid;
		} else {
			high = mid;
		}
	}
	if (!x->n_regions) {
		return NULL;
	}
	r = x->regions[low];
	if (code < r->code || code >= r->code_end) {
		return NULL;
	}
	for (unsigned k = 0; k < r->n_insns; k++) {
		if (code < r->after[k]) {
			*insn = k;
			return r;
		}
	}
	return NULL;
}

/* -- links -- */

void cache_link(struct translator *x, uint32_t exit, const struct found *to)
{
	struct exit_link *e = &x->exits[exit];
	const struct region *from = x->regions[e->region];
	struct block *block = to->block;
	bool same_page = from->lin == to->region->lin && from->gpa == to->region->gpa &&
			 from->key == to->key;
	bool forward = block->at > from->at[e->insn];
	bool checked = same_page && forward && !to->crosses && !e->returns;
	const uint8_t *host = x->code + (checked ? to->near : to->ext);

	if (from->dead || e->linked || e->key != to->key) {
		return;
	}
	if (e->saved && block->live) {
		emit_patch(x->code + e->saved, host);
	} else {
		emit_patch(x->code + e->branch, host);
	}
	e->linked = true;
	e->next = block->links;
	block->links = exit + 1;
}

static void unlink_block(struct translator *x, struct block *b)
{
	uint32_t n = b->links;

	while (n) {
		struct exit_link *e = &x->exits[n - 1];

		emit_patch(x->code + e->branch, x->code + e->stub);
		if (e->saved) {
			emit_patch(x->code + e->saved, x->code + e->slow);
		}
		e->linked = false;
		n = e->next;
	}
	b->links = 0;
}

void cache_remember(struct vcpu *v, const struct found *to)
{
	int c = cache_jump_context(v->translator, to->key);

	if (c >= 0) {
		v->jumps[c][v->rip >> 1 & (JUMP_SLOTS - 1)] =
			(struct jump_slot){v->rip, cache_exec(v->translator, to->ext)};
	}
}

/* Nobody finds b by its address any more. */
static void forget_block(struct vcpu *v, const struct region *r, const struct block *b)
{
	int c = cache_jump_context(v->translator, r->key);
	uint64_t rip = r->lin | b->at;
	struct jump_slot *slot = &v->jumps[c][rip >> 1 & (JUMP_SLOTS - 1)];
	struct found *f = found_slot(v->translator, rip, r->key);

	if (f->block == b) {
		*f = (struct found){0};
	}
	if (slot->rip == rip) {
		slot->rip = ~rip;
	}
}

/* -- the end of regions -- */

/* Returns to r go on as if they were not predicted. */
static void forget_returns(struct translator *x, const struct region *r)
{
	for (unsigned k = 0; k < r->n_insns && r->returned_to; k++) {
		if (generate_is_call(r, k) && r->after[k]) {
			x->code[r->after[k]] = 0xe9; /* jmp */
			emit_patch(x->code + r->after[k] + 1, x->code + x->return_miss);
		}
	}
}

static void kill(struct vcpu *v, struct region *r)
{
	struct translator *x = v->translator;

	r->dead = true;
	forget_returns(x, r);
	for (unsigned n = 0; n < r->n_blocks; n++) {
		struct block *b = &r->block[n];

		struct entry **e = entry_bucket(x, r->lin | b->at, r->gpa | b->at, r->key);

		unlink_block(x, b);
		forget_block(v, r, b);
		while (*e && (*e)->block != b) {
			e = &(*e)->next;
		}
		if (*e) {
			*e = (*e)->next;
		}
	}
}

static uint64_t lines_between(unsigned first, unsigned end)
{
	unsigned from = first >> 6, to = (end - 1) >> 6;

	return (~0ull >> (63 - (to - from))) << from;
}

/* Those that end in a page, if its first line is among `lines`. */
static void invalidate_crossing(struct vcpu *v, struct code_pages *page, uint64_t lines)
{
	if (lines & 1) {
		for (struct region *r = page->crossing; r; r = r->crossing_next) {
			if (!r->dead) {
				kill(v, r);
			}
		}
		page->crossing = NULL;
	}
	page->lines |= page->crossing ? 1 : 0;
}

static void invalidate_page(struct vcpu *v, struct code_pages *page, uint64_t lines)
{
	struct region **p = &page->regions;

	if (!(page->lines & lines)) {
		return;
	}
	page->lines = 0;
	memset(page->starts, 0, sizeof(page->starts));
	while (*p) {
		struct region *r = *p;

		if (r->dead || r->lines & lines) {
			*p = r->page_next;
			if (!r->dead) {
				kill(v, r);
			}
		} else {
			page->lines |= r->lines;
			for (unsigned n = 0; n < r->n_blocks; n++) {
				add_start(page, r->block[n].at);
			}
			p = &r->page_next;
		}
	}
	invalidate_crossing(v, page, lines);
}

void cache_drop(struct vcpu *v, struct region *r)
{
	struct code_pages *page = find_page(v->translator, r->gpa);
	struct region **p = page ? &page->regions : NULL;

	while (p && *p && *p != r) {
		p = &(*p)->page_next;
	}
	if (p && *p) {
		*p = r->page_next;
	}
	kill(v, r);
	copies_drop(v, r);
}

void cache_invalidate(struct vcpu *v, uint64_t gpa, uint64_t len)
{
	struct translator *x = v->translator;
	uint64_t end = gpa + len;

	if (len > x->arena_size) { /* more than a walk over its pages is worth */
		x->flush = true;
		return;
	}
	while (gpa < end) {
		uint64_t next = (gpa | (PAGE - 1)) + 1;
		unsigned first = gpa & (PAGE - 1);
		struct code_pages *page = find_page(x, gpa & ~(uint64_t)(PAGE - 1));

		if (page) {
			unsigned stop = end < next ? (unsigned)((end - 1) % PAGE) + 1 : PAGE;

			invalidate_page(v, page, lines_between(first, stop));
		}
		gpa = next;
	}
}

void cache_remap(struct vcpu *v)
{
	struct translator *x = v->translator;

	for (unsigned h = 0; h < MAP_HASH; h++) {
		for (struct code_pages *p = x->pages[h]; p; p = p->next) {
			const uint8_t *host = page_host(v, p->gpa);

			if (host != p->host) {
				invalidate_page(v, p, ~0ull);
				p->host = host;
			}
		}
	}
}
