/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See verify.h. While it is on, regions are single blocks, cut at instructions that the interpreter
 * runs anyway; nothing is linked and the jump cache stays empty, so that every block returns to the
 * run loop. TLBs have no w tags, so that every store of the interpreter comes to note_store(). For
 * the block's code w tags are filled where the interpreter has stored.
 *
 * The interpreter ends early, before an instruction that faults or that does I/O (neither is to
 * happen twice) and behind one that has changed the block's bytes; the block's code then has to
 * come to runtime_event() at the same place, and stops there. What has been compared is the state
 * that the run loop goes on from. A block that leaves early is not compared.
 */
#include "translate/verify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "execute/run.h"
#include "execute/simd.h"
#include "translate/generate.h"

enum { MAX_STORES = 512, STORE_BYTES = 64, TEXT = 16384 };

/* Registers: all of struct vcpu before this. */
#define STATE offsetof(struct vcpu, n_insns)
#define NEVER UINT64_MAX

struct store {
	uint64_t lin;
	uint8_t *host;
	uint32_t len;
	uint8_t old[STORE_BYTES], new[STORE_BYTES]; /* new: after the interpreter */
};

struct stores {
	unsigned n;
	struct store store[MAX_STORES];
};

struct verify {
	struct mmu_trace trace;
	verify_report_fn *report;
	struct stores by_interpreter, by_block, *stores; /* stores: to note in, or NULL */
	uint64_t end; /* linear address of the first instruction not to be run, or NEVER */
	uint64_t count;
	bool left; /* the block's last event was its end's */
	/*
	 * The block has nothing but instructions on general registers and memory: when none faults,
	 * only what lies before vcpu.fx changes.
	 */
	bool plain;
	uint8_t before[STATE], after[STATE] __attribute__((aligned(64)));
	jmp_buf unwind; /* the run loop's */
	char text[TEXT];
	size_t len;
};

/* -- what memory accesses report -- */

/* Before an access that must not happen twice: unwinds as a fault does. */
static void note_io(struct vcpu *v)
{
	struct verify *y = v->translator->verify;

	if (y->stores == &y->by_interpreter) {
		longjmp(v->unwind, 1);
	}
}

static void note_store(struct vcpu *v, uint64_t lin, uint8_t *host, unsigned len)
{
	struct verify *y = v->translator->verify;
	struct stores *s = y->stores;

	while (s && len) {
		unsigned n = len < STORE_BYTES ? len : STORE_BYTES;
		struct store *one = &s->store[s->n];

		if (s->n == MAX_STORES) {
			note_io(v);
			return;
		}
		*one = (struct store){.lin = lin, .host = host, .len = n};
		memcpy(one->old, host, n);
		s->n++;
		lin += n;
		host += n;
		len -= n;
	}
}

int verify_set(struct vcpu *v, bool on, verify_report_fn *report)
{
	struct translator *x = v->translator;

	if (on && !x->verify) {
		x->verify = calloc(1, sizeof(*x->verify));
		if (!x->verify) {
			return -ENOMEM;
		}
		x->verify->trace = (struct mmu_trace){note_store, note_io, true};
		x->verify->report = report;
		x->verify->end = NEVER;
		v->mmu.trace = &x->verify->trace;
	} else if (!on && x->verify) {
		v->mmu.trace = NULL;
		free(x->verify);
		x->verify = NULL;
	}
	mmu_flush_all(v);
	x->flush = true;
	return 0;
}

uint64_t verify_count(const struct vcpu *v)
{
	return v->translator->verify ? v->translator->verify->count : 0;
}

bool verify_ends(const struct vcpu *v, uint64_t lin)
{
	return v->translator->verify->end == lin;
}

void verify_event(struct vcpu *v, enum site_kind kind)
{
	v->translator->verify->left =
		kind == SITE_EXIT || kind == SITE_INDIRECT || kind == SITE_RETURN;
}

/* Takes stores back, and keeps the list. */
static void put_back(const struct stores *s)
{
	for (unsigned k = s->n; k-- > 0;) {
		memcpy(s->store[k].host, s->store[k].old, s->store[k].len);
	}
}

/* Takes back all stores but the first few. */
static void undo(struct stores *s, unsigned down_to)
{
	while (s->n > down_to) {
		struct store *one = &s->store[--s->n];

		memcpy(one->host, one->old, one->len);
	}
}

void verify_forget_store(struct vcpu *v)
{
	struct verify *y = v->translator->verify;
	const struct store *last = &y->by_block.store[y->by_block.n - 1];

	if (y->by_block.n && last->lin == v->gpr[RSP] - 8) {
		undo(&y->by_block, y->by_block.n - 1);
	}
}

/* -- state -- */

/*
 * x87 state and MXCSR's flags are in the host's registers, and getting them takes longer than all
 * the rest: they stay there for plain blocks.
 */
static void leave(struct vcpu *v)
{
	if (!v->translator->verify->plain) {
		simd_leave(v);
	}
}

static void enter(struct vcpu *v)
{
	if (!v->translator->verify->plain) {
		simd_enter(v);
	}
}

static bool is_plain(const struct region *r)
{
	for (unsigned k = 0; k < r->n_insns; k++) {
		switch (r->form[k].kind) {
		case FORM_INTERPRET:
		case FORM_END:
		case FORM_SIMD:
		case FORM_X87:
		case FORM_SYSTEM:
		case FORM_COMPARE_STRINGS:
		case FORM_CONTEXT:
		case FORM_SYSCALL:
		case FORM_SYSRET: return false;
		}
	}
	return true;
}

/* Not in line, where it becomes a string instruction that takes longer to start than to copy. */
static __attribute__((noinline)) void copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
}

static void save(struct vcpu *v, uint8_t *state, size_t len)
{
	size_t half = len / 2 & ~(size_t)63;

	leave(v);
	copy(state, v, half);
	copy(state + half, (uint8_t *)v + half, len - half);
	enter(v);
}

/* Not the words that other threads write to. */
static void load(struct vcpu *v, const uint8_t *state, size_t len)
{
	enum { SHARED = offsetof(struct vcpu, req), OWN = offsetof(struct vcpu, look) };

	leave(v);
	copy(v, state, SHARED);
	copy((uint8_t *)v + OWN, state + OWN, len - OWN);
	enter(v);
}

/* -- the interpreter's run -- */

static void interpret(struct vcpu *v, struct region *r, unsigned k)
{
	const struct insn *i = runtime_bind(v, r, k);

	v->trace_rip = v->rip;
	v->insn = i;
	if (i->fn(v, i)) {
		v->rip = v->trace_rip + r->insn[k].len;
		if ((v->mode & MODE_SIZE) != MODE_64) {
			v->rip = (uint32_t)v->rip;
		}
	}
}

/* Up to n instructions of r. Returns how many were run: one that faults or does I/O is not. */
static unsigned run_interpreter(struct vcpu *v, struct region *r, unsigned n)
{
	struct verify *y = v->translator->verify;
	volatile unsigned k = 0, stores = 0;

	y->by_interpreter.n = 0;
	y->stores = &y->by_interpreter;
	if (!setjmp(v->unwind)) {
		while (k < n && !r->dead) {
			interpret(v, r, k);
			stores = y->by_interpreter.n;
			k++;
		}
		return k;
	}
	run_unwound(v);
	undo(&y->by_interpreter, stores);
	return k;
}

/* Runs as many instructions as can be compared, keeps the result in y->after, takes it back. */
static unsigned reference(struct vcpu *v, struct region *r)
{
	struct verify *y = v->translator->verify;
	unsigned n = r->n_insns, done = run_interpreter(v, r, n);
	size_t changed = y->plain ? offsetof(struct vcpu, fx) : STATE;

	if (done < n && !r->dead) { /* once more, so that nothing of the last one is left */
		undo(&y->by_interpreter, 0);
		load(v, y->before, STATE);
		done = run_interpreter(v, r, done);
	}
	y->stores = NULL;
	save(v, y->after, changed);
	for (unsigned k = 0; k < y->by_interpreter.n; k++) {
		struct store *s = &y->by_interpreter.store[k];

		memcpy(s->new, s->host, s->len);
	}
	put_back(&y->by_interpreter);
	load(v, y->before, changed);
	return done;
}

/* -- the block's run -- */

/* w tags where the interpreter has stored; or none again. */
static void allow_stores(struct vcpu *v, bool allow)
{
	struct verify *y = v->translator->verify;

	y->trace.hold = !allow;
	for (unsigned k = 0; k < y->by_interpreter.n; k++) {
		uint64_t lin = y->by_interpreter.store[k].lin;

		if (!allow) {
			mmu_drop_store(v, ((const struct vcpu *)y->before)->tlb, lin);
		} else if (!mmu_allow_store(v, lin)) {
			mmu_ptr_slow(v, lin, 1, MMU_RW);
		}
	}
	y->trace.hold = true;
}

/*
 * `direct`: stores need not come to runtime_event(). False: it raised an exception.
 */
static bool run_block(struct vcpu *v, const uint8_t *code, bool direct)
{
	struct verify *y = v->translator->verify;
	bool raised = true;

	y->by_block.n = 0;
	y->left = false;
	if (direct) {
		allow_stores(v, true);
	}
	y->stores = &y->by_block;
	if (!setjmp(v->unwind)) {
		v->event_vectors = event_vectors(v);
		v->event_flags = v->aflags;
		v->translator->enter(v, code);
		raised = false;
	}
	y->stores = NULL;
	return !raised;
}

/* -- comparison -- */

static void say(struct verify *y, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct verify *y, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	y->len += (size_t)vsnprintf(y->text + y->len, TEXT - y->len, format, args);
	va_end(args);
	y->len = y->len < TEXT ? y->len : TEXT - 1;
}

static void say_bytes(struct verify *y, const char *name, const uint8_t *p, size_t n)
{
	say(y, "  %s", name);
	for (size_t k = 0; k < n; k++) {
		say(y, " %02x", p[k]);
	}
	say(y, "\n");
}

static void compare(struct verify *y, const char *name, unsigned n, uint64_t a, uint64_t b)
{
	if (a != b) {
		say(y, "  %s%u: interpreter %016llx, block %016llx\n", name, n,
		    (unsigned long long)a, (unsigned long long)b);
	}
}

static void compare_bytes(struct verify *y, const char *name, unsigned n, const uint8_t *a,
			  const uint8_t *b, unsigned len)
{
	for (unsigned at = 0; at < len; at += 8) {
		uint64_t qa = 0, qb = 0;

		memcpy(&qa, a + at, len - at < 8 ? len - at : 8);
		memcpy(&qb, b + at, len - at < 8 ? len - at : 8);
		if (qa != qb) {
			say(y, "  byte %u of", at);
			compare(y, name, n, qa, qb);
		}
	}
}

static void compare_registers(struct verify *y, const struct vcpu *a, const struct vcpu *b,
			      flag_set flags)
{
	uint64_t fa = aflags_to_rflags(a->aflags), fb = aflags_to_rflags(b->aflags);

	for (unsigned k = 0; k < 16; k++) {
		compare(y, "r", k, a->gpr[k], b->gpr[k]);
	}
	compare(y, "rip", 0, a->rip, b->rip);
	compare(y, "flags", 0, fa & flags, fb & flags);
	compare(y, "rflags", 0, a->rflags, b->rflags);
	compare(y, "cpl", 0, a->cpl, b->cpl);
	compare(y, "mode", 0, a->mode, b->mode);
}

static bool same_vectors(const struct vcpu *a, const struct vcpu *b)
{
	return !memcmp(&a->fx, &b->fx, sizeof(a->fx)) &&
	       !memcmp(a->ymmh, b->ymmh, sizeof(a->ymmh)) &&
	       !memcmp(a->zmmh, b->zmmh, sizeof(a->zmmh)) &&
	       !memcmp(a->zmm16, b->zmm16, sizeof(a->zmm16)) &&
	       !memcmp(a->opmask, b->opmask, sizeof(a->opmask));
}

/* What plain instructions leave alone. */
static void compare_others(struct verify *y, const struct vcpu *a, const struct vcpu *b)
{
	compare(y, "cr2 ", 0, a->cr2, b->cr2);
	compare(y, "mxcsr", 0, a->fx.mxcsr, b->fx.mxcsr);
	if (same_vectors(a, b)) {
		return;
	}
	compare_bytes(y, "fcw, fsw, ftw", 0, (const uint8_t *)&a->fx, (const uint8_t *)&b->fx, 5);
	for (unsigned k = 0; k < 8; k++) {
		compare_bytes(y, "st", k, a->fx.st[k], b->fx.st[k], 10);
	}
	for (unsigned k = 0; k < 16; k++) {
		compare_bytes(y, "xmm", k, a->fx.xmm[k], b->fx.xmm[k], 16);
		compare_bytes(y, "ymmh", k, a->ymmh[k], b->ymmh[k], 16);
		compare_bytes(y, "zmmh", k, a->zmmh[k], b->zmmh[k], 32);
		compare_bytes(y, "zmm16+", k, a->zmm16[k], b->zmm16[k], 64);
	}
	for (unsigned k = 0; k < 8; k++) {
		compare(y, "k", k, a->opmask[k], b->opmask[k]);
	}
}

static bool stored_by_interpreter(const struct verify *y, const uint8_t *host)
{
	for (unsigned k = 0; k < y->by_interpreter.n; k++) {
		const struct store *s = &y->by_interpreter.store[k];

		if (host >= s->host && host < s->host + s->len) {
			return true;
		}
	}
	return false;
}

/*
 * Both may have stored page table entries, of which page walks made since have set accessed and
 * dirty bits: the interpreter's, which come first and fill the TLB.
 */
static bool same_but_for_walks(const struct store *s)
{
	enum { ACCESSED_DIRTY = 0x60 };

	for (unsigned b = 0; b < s->len; b++) {
		uint8_t more = s->new[b] & ~s->host[b], less = s->host[b] & ~s->new[b];

		if (less || more & ~((s->lin + b) % 4 ? 0 : ACCESSED_DIRTY)) {
			return false;
		}
	}
	return true;
}

static void compare_memory(struct verify *y)
{
	for (unsigned k = 0; k < y->by_interpreter.n; k++) {
		const struct store *s = &y->by_interpreter.store[k];

		if (memcmp(s->host, s->new, s->len) && !same_but_for_walks(s)) {
			say(y, "  stores at %llx differ\n", (unsigned long long)s->lin);
			say_bytes(y, "interpreter", s->new, s->len);
			say_bytes(y, "block      ", s->host, s->len);
		}
	}
	for (unsigned k = y->by_block.n; k-- > 0;) { /* the last first: old is the first's */
		const struct store *s = &y->by_block.store[k];

		for (unsigned b = 0; b < s->len; b++) {
			if (!stored_by_interpreter(y, s->host + b) && s->host[b] != s->old[b]) {
				say(y, "  only the block stores %02x at %llx\n", s->host[b],
				    (unsigned long long)(s->lin + b));
			}
		}
	}
}

static void report(struct vcpu *v, const struct region *r, unsigned done)
{
	struct verify *y = v->translator->verify;
	const struct vcpu *before = (const struct vcpu *)y->before;
	unsigned last = r->n_insns - 1u;
	char *found = strdup(y->text);

	y->len = 0;
	say(y, "block at %llx of %u instructions, %u compared:\n", (unsigned long long)before->rip,
	    r->n_insns, done);
	say(y, "%s", found ? found : "");
	free(found);
	for (unsigned k = 0; k < 16; k++) {
		say(y, "  r%u was %016llx%s", k, (unsigned long long)before->gpr[k],
		    k % 4 == 3 ? "\n" : "");
	}
	say_bytes(y, "guest:", cache_page(v, r->gpa)->host + r->at[0],
		  (size_t)(r->at[last] + r->insn[last].len - r->at[0]));
	say_bytes(y, "host:", v->translator->code + r->code, r->code_end - r->code);
	if (y->report) {
		y->report(v, y->text);
		return;
	}
	fprintf(stderr, "%s", y->text);
	abort();
}

/*
 * Has the block left before one of its instructions, as it may when one had to be interpreted, it
 * died, or there was no room for code?
 */
static bool ends_early(const struct vcpu *v, const struct region *r, unsigned done)
{
	const struct verify *y = v->translator->verify;
	const struct vcpu *after = (const struct vcpu *)y->after;

	for (unsigned k = 0; k < done; k++) {
		/* One that leads to itself is at an end there, too. */
		if (v->rip == (r->lin | r->at[k]) && (v->rip != after->rip || !y->left)) {
			return true;
		}
	}
	return false;
}

void verify_run(struct vcpu *v, const struct found *f)
{
	const uint8_t *code = cache_exec(v->translator, f->near);
	struct verify *y = v->translator->verify;
	struct region *r = f->region;
	unsigned done, dead;
	flag_set flags = FL_ARITH;

	y->plain = is_plain(r);
	save(v, y->before, STATE);
	memcpy(&y->unwind, &v->unwind, sizeof(y->unwind));
	done = reference(v, r);
	if (done == 0) {
		memcpy(&v->unwind, &y->unwind, sizeof(y->unwind));
		verify_interpret(v);
		return;
	}
	dead = r->dead;
	r->dead = false; /* it stops where the interpreter has found that */
	if (done < r->n_insns) {
		y->end = r->lin | r->at[done];
		flags = flags_before(r, done);
	}
	y->len = 0;
	y->text[0] = 0;
	/* The store that has killed it may have been the page's last that is reported. */
	if (!run_block(v, code, !dead)) {
		say(y, "  the block raises an exception\n");
	}
	memcpy(&v->unwind, &y->unwind, sizeof(y->unwind));
	y->end = NEVER;
	r->dead |= dead;
	allow_stores(v, false);
	if (v->translator->flush || ends_early(v, r, done)) {
		put_back(&y->by_block);
		put_back(&y->by_interpreter);
		load(v, y->before, STATE);
		verify_interpret(v);
		return;
	}
	compare_memory(y);
	leave(v);
	compare_registers(y, (const struct vcpu *)y->after, v, flags);
	compare_others(y, (const struct vcpu *)(y->plain ? y->before : y->after), v);
	v->aflags = ((const struct vcpu *)y->after)->aflags;
	enter(v);
	y->count++;
	if (y->len) {
		report(v, r, done);
	}
}

void verify_interpret(struct vcpu *v)
{
	const struct trace *t = trace_find(v, true);

	v->insn = t->insns;
	run_trace(v, t);
}
