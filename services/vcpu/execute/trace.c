/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of decoded instructions; see trace.h. Self-modifying code: SDM volume 3, 11.6. */
#include "execute/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine.h"
#include "execute/debugger.h"
#include "execute/prepare.h"
#include "exits/board.h"

enum {
	BLOCK_SHIFT = 8, /* traces are found by 256-byte blocks of their first byte */
	BLOCKS = 4096 >> BLOCK_SHIFT,
	INSN_MAX = 15,
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

int trace_init(struct vcpu *v)
{
	struct interp *in = aligned_alloc(64, sizeof(*in));

	if (!in) {
		return -ENOMEM;
	}
	memset(in, 0, sizeof(*in));
	in->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (in->arena == MAP_FAILED) {
		goto free_interp;
	}
	in->templates = prepare_init();
	if (!in->templates) {
		goto unmap;
	}
	in->arena_size = ARENA_SIZE;
	v->interp = in;
	return 0;

unmap:
	munmap(in->arena, ARENA_SIZE);
free_interp:
	free(in);
	return -ENOMEM;
}

void trace_finish(struct vcpu *v)
{
	if (v->interp) {
		free(v->interp->templates);
		munmap(v->interp->arena, v->interp->arena_size);
		free(v->interp);
		v->interp = NULL;
	}
}

/* Memory from the arena, 8-byte aligned; NULL: it is full. */
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

static void arena_empty(struct interp *in)
{
	memset(in->hash, 0, sizeof(in->hash));
	memset(in->last, 0, sizeof(in->last));
	memset(in->pages, 0, sizeof(in->pages));
	in->arena_used = 0;
	in->flush = false;
}

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

/* The page's record, made now if need be: then stores to it begin to be reported. */
static struct code_page *page_get(struct vcpu *v, uint64_t gpa)
{
	struct code_page *p = page_find(v->interp, gpa), **bucket;

	if (p) {
		return p;
	}
	p = arena_alloc(v->interp, sizeof(*p));
	if (!p) {
		return NULL;
	}
	memset(p, 0, sizeof(*p));
	p->gpa = gpa & ~4095ull;
	bucket = page_bucket(v->interp, gpa);
	p->next = *bucket;
	*bucket = p;
	board_code_page_add(v, p->gpa);
	mmu_protect_code(v, p->gpa);
	return p;
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
			((struct insn *)i)->aux = (void *)t;
		}
	}
	i = trace_enter(v, t);
	CHAIN_TO(v, i);
}

static void set_terminator(struct insn *i, unsigned off, insn_fn *fn)
{
	*i = (struct insn){.fn = fn, .off = off, .rest = UINT8_MAX};
}

/* Where code is fetched from: the rest of a page. */
struct fetch {
	const uint8_t *code;
	unsigned n;
	uint64_t gpa;
	bool crosses; /* the first instruction goes on in the page at gpa2 */
	uint64_t gpa2;
	bool uncached; /* not RAM: decode anew each time */
	uint8_t bytes[2 * INSN_MAX];
};

/* Bytes from a device's memory, one by one. */
static void fetch_io(struct vcpu *v, struct fetch *f, unsigned at, uint64_t gpa)
{
	unsigned n = 4096 - (gpa & 4095);

	for (f->n = at; f->n < at + n && f->n < INSN_MAX; f->n++) {
		f->bytes[f->n] = board_mmio_read(v, gpa + f->n - at, 1);
	}
	f->code = f->bytes;
	f->uncached = true;
}

/* How many bytes from v->rip on the code segment's limit allows; raises #GP(0) when none. */
static unsigned fetch_limit(struct vcpu *v)
{
	uint64_t limit = v->seg[SEG_CS].limit;

	if (mode_is_flat(v->mode)) {
		return UINT32_MAX;
	}
	if (v->rip > limit) {
		raise_error(v, VEC_GP, 0);
	}
	return limit - v->rip < UINT32_MAX ? limit - v->rip + 1 : UINT32_MAX;
}

static uint64_t code_linear(const struct vcpu *v, uint64_t rip)
{
	uint64_t lin = v->seg_base[SEG_CS] + rip;

	return (v->mode & MODE_SIZE) == MODE_64 ? lin : (uint32_t)lin;
}

/* -- For debuggers: instructions of no length before a trace's first -- */

/* imm: entries, disp: linear address of the last. */
static const struct insn *count_entry(struct vcpu *v, const struct insn *i)
{
	struct insn *counter = (struct insn *)i;

	counter->imm++;
	counter->disp = (int64_t)code_linear(v, v->trace_rip);
	v->n_insns--;
	NEXT(v, i);
}

static const struct insn *check_break(struct vcpu *v, const struct insn *i)
{
	v->rip = v->trace_rip;
	if (debugger_break(v)) {
		v->n_insns -= i->rest + 1u;
		END_TRACE();
	}
	v->n_insns--;
	NEXT(v, i);
}

/* Returns their number. */
static unsigned bind_debugger(struct vcpu *v, struct trace *t, uint64_t gpa)
{
	unsigned n = 0;

	if (v->debug.counting) {
		t->insns[n++] = (struct insn){.fn = count_entry};
	}
	if (debugger_may_break(v, gpa)) {
		t->insns[n++] = (struct insn){.fn = check_break};
	}
	return n;
}

/* -- Fetching -- */

/*
 * Fetches at v->rip, which has become trace_rip: the rest of the page, or, when an instruction
 * crosses into the next, that one's bytes alone.
 */
static void fetch(struct vcpu *v, struct fetch *f)
{
	struct interp *in = v->interp;
	unsigned limit, n, n2;
	struct insn probe;
	const uint8_t *code;
	uint64_t lin = code_linear(v, v->rip);

	in->fetch = (struct insn){.rest = UINT8_MAX, .len = 1};
	v->trace_rip = v->rip;
	v->insn = &in->fetch;
	limit = fetch_limit(v);
	f->uncached = false;
	f->crosses = false;
	f->code = mmu_fetch(v, lin, &f->n, &f->gpa);
	if (!f->code) {
		fetch_io(v, f, 0, f->gpa);
	}
	f->n = f->n < limit ? f->n : limit;
	n = f->n;
	if (n >= INSN_MAX ||
	    insn_decode(&probe, f->code, n, v->mode | in->decode_mode) != DECODE_SHORT) {
		return;
	}
	if (limit <= n) {
		raise_error(v, VEC_GP, 0);
	}
	if (f->code != f->bytes) {
		memcpy(f->bytes, f->code, n);
		f->code = f->bytes;
	}
	code = mmu_fetch(v, code_linear(v, v->rip + n), &n2, &f->gpa2);
	f->crosses = true;
	if (!code) {
		fetch_io(v, f, n, f->gpa2);
		f->n = f->n < limit ? f->n : limit;
		return;
	}
	n2 = n2 < INSN_MAX ? n2 : INSN_MAX;
	if (n2 > limit - n) {
		n2 = limit - n;
		f->uncached = true; /* what it decodes to depends on the limit */
	}
	memcpy(f->bytes + n, code, n2);
	f->n = n + n2;
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
	t->gpa2 = f->crosses ? f->gpa2 & ~4095ull : 0;
}

/* Enters t into the tables. False: no memory for a page's record. */
static bool trace_insert(struct vcpu *v, struct trace *t)
{
	unsigned first = t->gpa & 4095, end = first + t->len;
	struct trace **bucket = &v->interp->hash[trace_hash(t->gpa, t->mode)];
	struct code_page *page = page_get(v, t->gpa), *page2 = NULL;

	if (t->crosses) {
		page2 = page_get(v, t->gpa2);
	}
	if (!page || (t->crosses && !page2)) {
		return false;
	}
	if (t->crosses) {
		page2->lines |= 1;
		t->crossing_next = page2->crossing;
		page2->crossing = t;
		end = 4096;
	}
	page->lines |= lines_of(first, end);
	t->block_next = page->block[first >> BLOCK_SHIFT];
	page->block[first >> BLOCK_SHIFT] = t;
	t->next = *bucket;
	*bucket = t;
	return true;
}

/* The run loop asks for breakpoints of a `single` instruction itself. */
static const struct trace *find_single(struct vcpu *v, const struct fetch *f, bool single)
{
	struct trace *t = &v->interp->single.head;

	decode_trace(v, t, f, single ? 0 : bind_debugger(v, t, f->gpa), 1);
	set_terminator(&t->insns[t->n], t->len, trace_stopped);
	return t;
}

/* A cached trace whose only instruction crosses into the page at f->gpa2. */
static const struct trace *find_crossing(struct vcpu *v, const struct fetch *f)
{
	const struct trace *t = v->interp->hash[trace_hash(f->gpa, v->mode)];

	while (t && (t->gpa != f->gpa || t->mode != v->mode || !t->crosses ||
		     t->gpa2 != (f->gpa2 & ~4095ull))) {
		t = t->next;
	}
	return t;
}

/*
 * Fetches with the pages' records made: stores to them are reported from before their bytes are
 * read, so that a store by a device or another CPU is either seen here or drops what is decoded.
 */
static void fetch_reported(struct vcpu *v, struct fetch *f)
{
	struct interp *in = v->interp;

	for (;;) {
		fetch(v, f);
		if (page_find(in, f->gpa) && (!f->crosses || page_find(in, f->gpa2))) {
			return;
		}
		if (!page_get(v, f->gpa) || (f->crosses && !page_get(v, f->gpa2))) {
			arena_empty(in);
		}
	}
}

/* Has stores to t's bytes reported. True: there may have been some since they were read. */
static bool mark_lines(struct vcpu *v, const struct trace *t)
{
	bool stale = board_code_lines_add(v, t->gpa, t->crosses ? 4096 - (t->gpa & 4095) : t->len);

	return t->crosses ? board_code_lines_add(v, t->gpa2, INSN_MAX) || stale : stale;
}

const struct trace *trace_find(struct vcpu *v, bool single)
{
	struct interp *in = v->interp;
	const struct trace *found;
	struct trace *t;
	struct fetch f;

	if (in->flush) {
		arena_empty(in);
	}
	found = single ? NULL : trace_lookup(v);
	if (found) {
		return found;
	}
	fetch(v, &f);
	if (single || f.uncached) {
		return find_single(v, &f, single);
	}
	found = f.crosses ? find_crossing(v, &f) : trace_lookup(v);
	if (found) {
		return found;
	}
	fetch_reported(v, &f);
	/* Room for the longest trace, cut to its real length below. */
	t = arena_alloc(in, sizeof(*t) + TRACE_ROOM * sizeof(struct insn));
	if (!t) {
		arena_empty(in);
		t = arena_alloc(in, sizeof(*t) + TRACE_ROOM * sizeof(struct insn));
	}
	decode_trace(v, t, &f, bind_debugger(v, t, f.gpa), f.crosses ? 1 : TRACE_INSNS);
	if (mark_lines(v, t)) {
		in->arena_used = (size_t)((uint8_t *)t - in->arena);
		return trace_find(v, single);
	}
	set_terminator(&t->insns[t->n], t->len, fall_through);
	in->arena_used = (size_t)((uint8_t *)&t->insns[t->n + 1] - in->arena + 63) & ~(size_t)63;
	if (!trace_insert(v, t)) {
		in->flush = true;
		return find_single(v, &f, false);
	}
	return t;
}

/* Stops t wherever it runs or is entered. Its memory stays until the arena is emptied. */
static void trace_kill(struct trace *t)
{
	for (unsigned k = 0; k <= t->n; k++) {
		t->insns[k].fn = trace_stopped;
	}
}

static void hash_remove(struct interp *in, struct trace *t)
{
	unsigned bucket = trace_hash(t->gpa, t->mode);
	struct trace **p = &in->hash[bucket];

	if (in->last[bucket].trace == t) {
		in->last[bucket] = (struct trace_slot){0};
	}
	while (*p != t) {
		p = &(*p)->next;
	}
	*p = t->next;
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

static void trace_drop(struct interp *in, struct trace *t)
{
	hash_remove(in, t);
	block_remove(in, t);
	if (t->crosses) {
		crossing_remove(in, t);
	}
	trace_kill(t);
}

/* Drops the traces of a page that bytes [first, end) of it were decoded into. */
static void page_invalidate(struct interp *in, struct code_page *page, unsigned first, unsigned end)
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
				trace_drop(in, t);
			}
		}
	}
	if (first < INSN_MAX) {
		while (page->crossing) {
			trace_drop(in, page->crossing);
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
			page_invalidate(in, page, first, stop);
			page_update_lines(page, first, stop);
		}
		gpa = next;
	}
}

void trace_flush_all(struct vcpu *v)
{
	struct interp *in = v->interp;

	for (unsigned h = 0; h < 1 << TRACE_HASH_BITS; h++) {
		for (struct trace *t = in->hash[h]; t; t = t->next) {
			trace_kill(t);
		}
		in->hash[h] = NULL;
		in->last[h] = (struct trace_slot){0};
	}
	memset(in->pages, 0, sizeof(in->pages));
	in->flush = true;
}

void trace_count(struct vcpu *v, bool on)
{
	v->debug.counting = on;
	trace_flush_all(v);
}

/* Keeps out[] sorted, the `max` highest counts in it. */
static unsigned hot_insert(struct mobo_engine_block *out, unsigned n, unsigned max,
			   const struct mobo_engine_block *b)
{
	unsigned at = n;

	while (at > 0 && out[at - 1].count < b->count) {
		at--;
	}
	if (at == max) {
		return n;
	}
	n = n < max ? n + 1 : n;
	memmove(&out[at + 1], &out[at], (n - at - 1) * sizeof(*out));
	out[at] = *b;
	return n;
}

unsigned trace_hot(struct vcpu *v, struct mobo_engine_block *out, unsigned max)
{
	unsigned n = 0;

	for (unsigned h = 0; h < 1 << TRACE_HASH_BITS; h++) {
		for (const struct trace *t = v->interp->hash[h]; t; t = t->next) {
			if (t->insns[0].fn == count_entry && t->insns[0].imm) {
				n = hot_insert(out, n, max,
					       &(struct mobo_engine_block){
						       .lin = (uint64_t)t->insns[0].disp,
						       .gpa = t->gpa,
						       .count = t->insns[0].imm,
						       .guest_len = t->len,
					       });
			}
		}
	}
	return n;
}
