/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of decoded instructions; see trace.h. Self-modifying code: SDM volume 3, 11.6. */
#include "execute/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine.h"
#include "execute/debugger.h"
#include "execute/fetch.h"
#include "execute/prepare.h"
#include "exits/board.h"

enum {
	BLOCK_SHIFT = 8, /* traces are found by 256-byte blocks of their first byte */
	BLOCKS = 4096 >> BLOCK_SHIFT,
	PAGE_HASH = 1 << 12,
};
#define ARENA_SIZE ((size_t)48 << 20)

/* A guest-physical page with decoded code. */
struct code_page {
	struct code_page *next;
	uint64_t gpa;
	uint64_t lines; /* 64-byte lines that live traces were decoded from (at least) */
	struct trace *block[BLOCKS]; /* live traces that start in the block */
	struct trace *crossing;	     /* live traces that end in this page */
};

/* Zeroed, page-aligned; NULL: there is none. */
static void *map_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int trace_init(struct vcpu *v)
{
	struct interp *in = map_memory(sizeof(*in));

	if (!in) {
		return -ENOMEM;
	}
	in->arena = map_memory(ARENA_SIZE);
	if (!in->arena) {
		goto unmap_interp;
	}
	in->templates = prepare_init();
	if (!in->templates) {
		goto unmap_arena;
	}
	in->arena_size = ARENA_SIZE;
	/* It is filled from its beginning: fewer page faults, where the host has large pages. */
	madvise(in->arena, ARENA_SIZE, MADV_HUGEPAGE);
	v->interp = in;
	return 0;

unmap_arena:
	munmap(in->arena, ARENA_SIZE);
unmap_interp:
	munmap(in, sizeof(*in));
	return -ENOMEM;
}

void trace_finish(struct vcpu *v)
{
	if (v->interp) {
		free(v->interp->templates);
		munmap(v->interp->arena, v->interp->arena_size);
		munmap(v->interp, sizeof(*v->interp));
		v->interp = NULL;
	}
}

/* Memory from the arena, 64-byte aligned; NULL: it is full. */
static void *arena_alloc(struct interp *in, size_t size)
{
	void *p = in->arena + in->arena_used;

	size = (size + 63) & ~(size_t)63;
	if (size > in->arena_size - in->arena_used) {
		return NULL;
	}
	in->arena_used += size;
	return p;
}

static void arena_empty(struct vcpu *v)
{
	struct interp *in = v->interp;

	memset(in->slots, 0, sizeof(in->slots));
	memset(in->pages, 0, sizeof(in->pages));
	memset(in->dead, 0, sizeof(in->dead));
	in->spare_pages = NULL;
	in->arena_used = 0;
	in->flush = false;
	prepare_flush(v);
}

/* -- Pages -- */

static struct code_page **page_bucket(struct interp *in, uint64_t gpa)
{
	return &in->pages[(gpa >> 12 ^ gpa >> 24) & (PAGE_HASH - 1)];
}

static struct code_page *page_find(struct interp *in, uint64_t gpa)
{
	struct code_page *p = *page_bucket(in, gpa);

	while (p && p->gpa != (gpa & ~4095ull)) {
		p = p->next;
	}
	return p;
}

/*
 * Makes the page's record, if it has none. Stores to it are reported from before that: meanwhile,
 * other CPUs may have this one drop records. False: no memory.
 */
static bool page_add(struct vcpu *v, uint64_t gpa)
{
	struct interp *in = v->interp;
	struct code_page *p, **bucket = page_bucket(in, gpa);

	if (page_find(in, gpa)) {
		return true;
	}
	gpa &= ~4095ull;
	board_code_page_add(v, gpa);
	mmu_protect_code(v, gpa);
	p = in->spare_pages;
	if (p) {
		in->spare_pages = p->next;
	} else {
		p = arena_alloc(in, sizeof(*p));
	}
	if (!p) {
		return false;
	}
	*p = (struct code_page){.next = *bucket, .gpa = gpa};
	*bucket = p;
	return true;
}

/*
 * Of a page without traces: stores to it need not be reported any more. It is added again, at the
 * board, too, when code is decoded from it.
 */
static void page_remove(struct interp *in, struct code_page *page)
{
	struct code_page **p = page_bucket(in, page->gpa);

	while (*p != page) {
		p = &(*p)->next;
	}
	*p = page->next;
	page->next = in->spare_pages;
	in->spare_pages = page;
}

/* The 64-byte lines of a page that bytes [first, end) touch. */
static uint64_t lines_of(unsigned first, unsigned end)
{
	unsigned from = first >> 6, to = (end - 1) >> 6;

	return (~0ull >> (63 - (to - from))) << from;
}

const struct insn *trace_stopped(struct vcpu *v, const struct insn *i)
{
	v->rip = v->trace_rip + i->off;
	if ((v->mode & MODE_SIZE) != MODE_64) {
		v->rip = (uint32_t)v->rip;
	}
	v->n_insns -= (uint8_t)(i->rest + 1);
	END_TRACE();
}

/* A trace's continuation behind its last instruction, linked as branches are: see control.c. */
static const struct insn *fall_through(struct vcpu *v, const struct insn *i)
{
	const struct trace *t = i->aux;

	v->rip = vcpu_next_rip(v, i);
	if (trace_must_return(v)) {
		END_TRACE();
	}
	if (!t || t->insns[0].fn == trace_stopped) {
		t = trace_lookup(v);
		if (!t) {
			END_TRACE();
		}
		if (mode_is_flat(v->mode) && !((v->rip ^ v->trace_rip) >> 12)) {
			trace_link(i, t);
		}
	}
	i = trace_enter(v, t);
	CHAIN_TO(v, i);
}

static void set_terminator(struct insn *i, unsigned off, insn_fn *fn)
{
	*i = (struct insn){.fn = fn, .off = off, .rest = UINT8_MAX};
}

/*
 * Decodes and binds up to `max` instructions. The first decides: others that do not fit (page end,
 * segment limit, prefix of more than TRACE_BYTES) are left to another trace. They go behind the `n`
 * that a debugger wants there.
 */
static void decode_trace(struct vcpu *v, struct trace *t, const struct fetch *f, unsigned n,
			 unsigned max)
{
	unsigned off = 0;
	bool last = false;

	t->n = n;
	while (t->n < n + max && off < f->n && off < TRACE_BYTES - INSN_MAX) {
		struct insn *i = &t->insns[t->n];

		if (off && debugger_may_break(v, f->gpa + off)) {
			break;
		}
		if (insn_prepare(v, i, f->code + off, f->n - off, off) == DECODE_SHORT) {
			if (off) {
				break;
			}
			insn_prepare_gp(i, off); /* cut off by the segment's limit */
		}
		off += i->len ? i->len : 1;
		t->n++;
		if ((i->flags & INSN_END) || last) {
			break;
		}
		last = i->map == MAP_1 && i->opcode == 0xfb; /* STI: see control.c */
	}
	for (unsigned k = 0; k < t->n; k++) {
		t->insns[k].rest = t->n - 1 - k;
	}
	t->len = off;
	t->gpa = f->gpa;
	t->mode = v->mode;
	t->crosses = f->crosses;
	t->heat = 0;
	t->linked = false;
	t->gpa2 = f->crosses ? f->gpa2 & ~4095ull : 0;
}

/* -- Traces -- */

/* Stops t where it is entered and, if it is the one that runs, behind its running instruction. */
static void trace_kill(struct vcpu *v, struct trace *t)
{
	bool runs = v->insn >= t->insns && v->insn <= &t->insns[t->n];

	for (unsigned k = 0; k <= (runs ? t->n : 0u); k++) {
		t->insns[k].fn = trace_stopped;
	}
}

static void slot_remove(struct interp *in, const struct trace *t)
{
	struct trace_slot *set = in->slots[trace_set(trace_key(t->gpa, t->mode))];

	for (unsigned k = 0; k < TRACE_WAYS; k++) {
		if (set[k].trace == t) {
			memmove(&set[k], &set[k + 1], (TRACE_WAYS - 1 - k) * sizeof(*set));
			set[TRACE_WAYS - 1] = (struct trace_slot){0};
			return;
		}
	}
}

static void crossing_remove(struct interp *in, struct trace *t)
{
	struct trace **p = &page_find(in, t->gpa2)->crossing;

	while (*p != t) {
		p = &(*p)->crossing_next;
	}
	*p = t->crossing_next;
}

static void block_remove(struct interp *in, struct trace *t)
{
	struct trace **p = &page_find(in, t->gpa)->block[(t->gpa & 4095) >> BLOCK_SHIFT];

	while (*p != t) {
		p = &(*p)->block_next;
	}
	*p = t->block_next;
}

/* Forgets t, whose memory is used again if nothing is linked to it. */
static void trace_drop(struct vcpu *v, struct trace *t)
{
	struct interp *in = v->interp;

	block_remove(in, t);
	if (t->crosses) {
		crossing_remove(in, t);
	} else {
		slot_remove(in, t);
	}
	trace_kill(v, t);
	if (!t->linked) {
		t->block_next = in->dead[t->n];
		in->dead[t->n] = t;
	}
}

/* Makes t the first of its set, for trace_lookup(); the last one looked up there may have to go. */
static void slot_insert(struct vcpu *v, struct trace *t)
{
	uint64_t key = trace_key(t->gpa, t->mode);
	struct trace_slot *set = v->interp->slots[trace_set(key)];
	unsigned k = 0;

	while (k < TRACE_WAYS - 1 && set[k].key) {
		k++;
	}
	if (set[k].key) {
		trace_drop(v, set[k].trace);
	}
	memmove(&set[1], &set[0], k * sizeof(*set));
	set[0] = (struct trace_slot){key, t};
}

/* Enters t into the tables. Its pages have their records. */
static void trace_insert(struct vcpu *v, struct trace *t)
{
	unsigned first = t->gpa & 4095, end = first + t->len;
	struct code_page *page = page_find(v->interp, t->gpa);

	if (t->crosses) {
		struct code_page *page2 = page_find(v->interp, t->gpa2);

		page2->lines |= 1;
		t->crossing_next = page2->crossing;
		page2->crossing = t;
		end = 4096;
	} else {
		slot_insert(v, t);
	}
	page->lines |= lines_of(first, end);
	t->block_next = page->block[first >> BLOCK_SHIFT];
	page->block[first >> BLOCK_SHIFT] = t;
}

/* The run loop asks for breakpoints of a `single` instruction itself. */
static const struct trace *find_single(struct vcpu *v, const struct fetch *f, bool single)
{
	struct trace *t = &v->interp->single.head;

	decode_trace(v, t, f, single ? 0 : trace_bind_debugger(v, t, f->gpa), 1);
	set_terminator(&t->insns[t->n], t->len, trace_stopped);
	return t;
}

/* A cached trace whose only instruction crosses into the page at f->gpa2. */
static const struct trace *find_crossing(struct interp *in, const struct fetch *f, uint32_t mode)
{
	const struct code_page *page2 = page_find(in, f->gpa2);
	const struct trace *t = page2 ? page2->crossing : NULL;

	while (t && (t->gpa != f->gpa || t->mode != mode)) {
		t = t->crossing_next;
	}
	return t;
}

/*
 * Makes the pages' records and fetches again, if need be: stores to them are reported from before
 * their bytes are read, so that a store by a device or another CPU is either seen here or drops
 * what is decoded.
 */
static void fetch_reported(struct vcpu *v, struct fetch *f)
{
	struct interp *in = v->interp;

	while (!page_find(in, f->gpa) || (f->crosses && !page_find(in, f->gpa2))) {
		if (!page_add(v, f->gpa) || (f->crosses && !page_add(v, f->gpa2))) {
			arena_empty(v);
		}
		fetch(v, f);
	}
}

/*
 * Room for the longest trace, at the arena's free end. Where all of it is used up and emptied, the
 * pages' records are gone, too: then NULL.
 */
static struct trace *trace_room(struct vcpu *v)
{
	struct interp *in = v->interp;
	size_t used = in->arena_used;
	struct trace *t = arena_alloc(in, sizeof(*t) + TRACE_ROOM * sizeof(struct insn));

	in->arena_used = used;
	if (!t) {
		arena_empty(v);
	}
	return t;
}

static size_t trace_size(unsigned n)
{
	return sizeof(struct trace) + (n + 1) * sizeof(struct insn);
}

/* Gives t, made in trace_room(), a place of its length: that of a dead one, or where it is. */
static struct trace *trace_place(struct interp *in, struct trace *t)
{
	struct trace *dead = in->dead[t->n];

	if (!dead) {
		in->arena_used += trace_size(t->n);
		return t;
	}
	in->dead[t->n] = dead->block_next;
	memcpy(dead, t, trace_size(t->n));
	return dead;
}

/* Has stores to t's bytes reported. True: there may have been some since they were read. */
static bool mark_lines(struct vcpu *v, const struct trace *t)
{
	bool stale = board_code_lines_add(v, t->gpa, t->crosses ? 4096 - (t->gpa & 4095) : t->len);

	return t->crosses ? board_code_lines_add(v, t->gpa2, INSN_MAX) || stale : stale;
}

static const struct trace *find(struct vcpu *v)
{
	struct interp *in = v->interp;
	const struct trace *found;
	struct trace *t;
	struct fetch f;

	found = trace_lookup(v);
	if (found) {
		return found;
	}
	fetch(v, &f);
	if (f.uncached) {
		return find_single(v, &f, false);
	}
	found = f.crosses ? find_crossing(in, &f, v->mode) : trace_lookup(v);
	if (found) {
		return found;
	}
	do {
		fetch_reported(v, &f);
		t = trace_room(v);
	} while (!t);
	decode_trace(v, t, &f, trace_bind_debugger(v, t, f.gpa), f.crosses ? 1 : TRACE_INSNS);
	if (mark_lines(v, t)) {
		return find(v); /* reads them again */
	}
	set_terminator(&t->insns[t->n], t->len, fall_through);
	t = trace_place(in, t);
	trace_insert(v, t);
	return t;
}

/* The first instruction of a trace alone. */
static const struct trace *single_of(struct interp *in, const struct trace *found)
{
	struct trace *t = &in->single.head;

	if (found == t) {
		return found;
	}
	t->insns[0] = found->insns[0];
	t->insns[0].rest = 0;
	set_terminator(&t->insns[1], t->insns[0].len, trace_stopped);
	t->n = 1;
	t->len = t->insns[0].len;
	t->gpa = found->gpa;
	t->mode = found->mode;
	t->crosses = false;
	return t;
}

const struct trace *trace_find(struct vcpu *v, bool single)
{
	struct fetch f;

	if (v->interp->flush) {
		arena_empty(v);
	}
	if (!single) {
		return find(v);
	}
	if (v->debug.n_exec || v->debug.counting) { /* traces may begin with a debugger's */
		fetch(v, &f);
		return find_single(v, &f, true);
	}
	return single_of(v->interp, find(v));
}

/* Drops the traces of a page that bytes [first, end) of it were decoded into. */
static void page_invalidate(struct vcpu *v, struct code_page *page, unsigned first, unsigned end)
{
	unsigned from = first > TRACE_BYTES ? (first - TRACE_BYTES) >> BLOCK_SHIFT : 0;

	if (!(page->lines & lines_of(first, end))) {
		return;
	}
	for (unsigned b = from; b <= (end - 1) >> BLOCK_SHIFT; b++) {
		struct trace *t = page->block[b], *next;

		for (; t; t = next) {
			unsigned at = t->gpa & 4095;

			next = t->block_next;
			if (at < end && at + t->len > first) {
				trace_drop(v, t);
			}
		}
	}
	if (first < INSN_MAX) {
		while (page->crossing) {
			trace_drop(v, page->crossing);
		}
	}
}

/* Recomputes which lines [first, end) of a page still hold code, after traces were dropped. */
static void page_update_lines(struct code_page *page, unsigned first, unsigned end)
{
	unsigned from = first > 2 * TRACE_BYTES ? (first - 2 * TRACE_BYTES) >> BLOCK_SHIFT : 0;
	uint64_t range = lines_of(first, end), lines = page->crossing ? 1 : 0;

	for (unsigned b = from; b <= (end - 1) >> BLOCK_SHIFT; b++) {
		for (struct trace *t = page->block[b]; t; t = t->block_next) {
			unsigned at = t->gpa & 4095, stop = at + t->len;

			lines |= lines_of(at, stop < 4096 ? stop : 4096);
		}
	}
	page->lines = (page->lines & ~range) | (lines & range);
}

void trace_invalidate(struct vcpu *v, uint64_t gpa, uint64_t len)
{
	struct interp *in = v->interp;
	uint64_t end = gpa + len;

	if (len > ARENA_SIZE) { /* more than a walk over its pages is worth */
		trace_flush_all(v);
		return;
	}
	while (gpa < end) {
		uint64_t next = (gpa | 4095) + 1;
		unsigned first = gpa & 4095, stop = end < next ? (end - 1) % 4096 + 1 : 4096;
		struct code_page *page = page_find(in, gpa);

		if (page && (page->lines & lines_of(first, stop))) {
			page_invalidate(v, page, first, stop);
			page_update_lines(page, first, stop);
		}
		if (page && stop - first == 4096) {
			page_remove(in, page);
		}
		gpa = next;
	}
}

struct trace *trace_next(struct interp *in, struct trace_walk *w)
{
	w->t = w->t ? w->t->block_next : NULL;
	while (!w->t) {
		if (w->page && w->block < BLOCKS) {
			w->t = w->page->block[w->block++];
		} else if (w->page && w->page->next) {
			w->page = w->page->next;
			w->block = 0;
		} else if (w->bucket < PAGE_HASH) {
			w->page = in->pages[w->bucket++];
			w->block = 0;
		} else {
			return NULL;
		}
	}
	return w->t;
}

void trace_flush_all(struct vcpu *v)
{
	struct interp *in = v->interp;
	struct trace_walk w = {0};
	struct trace *t;

	while ((t = trace_next(in, &w))) {
		trace_kill(v, t);
		slot_remove(in, t);
	}
	memset(in->pages, 0, sizeof(in->pages));
	in->flush = true;
}
