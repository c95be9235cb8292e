/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of decoded instructions of one vCPU: traces. A trace is a run of instructions from one
 * guest-physical page, entered at its first, left at a taken branch or at its end. It does not
 * depend on the linear address it runs at: that is vcpu.trace_rip.
 *
 * A trace that died (its bytes changed) has its first handler replaced by one that goes on by
 * vcpu.rip, and all of them if it is the running one. If it was ever linked to, it keeps its memory
 * until the next flush of everything; so links to it need no unlinking. Whoever else keeps a
 * pointer to a trace or its instructions marks it as linked. vCPU thread only.
 */
#ifndef VCPU_EXECUTE_TRACE_H
#define VCPU_EXECUTE_TRACE_H

#include "execute/execute.h"

enum {
	TRACE_INSNS = 32,
	TRACE_ROOM = TRACE_INSNS + 3, /* what debuggers add, and the end */
	TRACE_BYTES = 256,
	TRACE_SET_BITS = 15,
	TRACE_WAYS = 4,
};

struct trace {
	struct trace *block_next;    /* same block of its page, or dead and of the same length */
	struct trace *crossing_next; /* same second page */
	uint64_t gpa;		     /* of the first byte */
	uint64_t gpa2;		     /* page of the last bytes, when they are in another; else 0 */
	uint32_t mode;
	uint16_t len; /* bytes */
	uint8_t n;    /* instructions; insns[n] goes on behind the last */
	bool crosses;
	uint16_t heat; /* the translator's: entries through it */
	bool linked;   /* an instruction's aux is or was this trace */
	struct insn insns[] __attribute__((aligned(64)));
};

/* A live trace that does not cross, found without touching it. */
struct trace_slot {
	uint64_t key; /* trace_key(), or 0 */
	struct trace *trace;
};

struct interp {
	struct trace_slot slots[1 << TRACE_SET_BITS][TRACE_WAYS]; /* the last looked up first */
	struct code_page *pages[1 << 12];			  /* by hash of the page number */
	uint8_t *arena;
	size_t arena_size, arena_used;
	struct code_page *spare_pages;
	struct trace *dead[TRACE_ROOM];		/* traces whose memory is free, by length */
	struct insn_template *templates;	/* see prepare.h */
	uint32_t decode_mode;			/* or'ed into the mode: MODE_AMD */
	uint32_t leaf_7_ebx, leaf_80000001_ecx; /* of the guest's CPUID, for binders */
	bool holds_lock;			/* see atomic_lock() */
	bool flush;				/* the arena is to be emptied at the next lookup */
	struct insn fetch; /* the instruction being fetched, for faults of the fetch */
	struct {
		struct trace head;
		struct insn insns[4];
	} single; /* one instruction at a time */
};

int trace_init(struct vcpu *v);
void trace_finish(struct vcpu *v);

/*
 * The trace at v->rip, decoded now if need be. Raises what fetching raises. `single`: one
 * instruction that returns to the run loop.
 */
const struct trace *trace_find(struct vcpu *v, bool single);

/* Counts entries of traces from now on, from 0, or no longer: for debuggers. Drops all traces. */
void trace_count(struct vcpu *v, bool on);
/* The traces entered most often; their number, at most max. */
struct mobo_engine_block;
unsigned trace_hot(struct vcpu *v, struct mobo_engine_block *out, unsigned max);

/* Binds what a debugger wants before the first instruction of t, at gpa; returns how many. */
unsigned trace_bind_debugger(struct vcpu *v, struct trace *t, uint64_t gpa);

/* A walk over all live traces; zeroed before the first. */
struct trace_walk {
	unsigned bucket, block; /* the next ones */
	struct code_page *page;
	struct trace *t;
};

/* The next one, or NULL: that was all. */
struct trace *trace_next(struct interp *in, struct trace_walk *w);

/* Goes on at v->rip by the run loop: the fn of dead traces. */
insn_fn trace_stopped;

/* Physical addresses have 40 bits; never 0. */
static inline uint64_t trace_key(uint64_t gpa, uint32_t mode)
{
	return 1ull << 63 | (uint64_t)mode << 48 | gpa;
}

static inline unsigned trace_set(uint64_t key)
{
	return key * 0x9e3779b97f4a7c15 >> (64 - TRACE_SET_BITS);
}

static inline bool vcpu_must_stop(struct vcpu *v)
{
	return (atomic_load_explicit(&v->req, memory_order_relaxed) & v->req_mask) |
	       atomic_load_explicit(v->kick_summary, memory_order_relaxed);
}

/* Shall a trace that ends return to the run loop? */
static inline bool trace_must_return(struct vcpu *v)
{
	return v->one_trace || vcpu_must_stop(v);
}

static inline bool mode_is_flat(uint32_t mode)
{
	return (mode & MODE_FLAT) || (mode & MODE_SIZE) == MODE_64;
}

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(MOBO_NO_CHAIN)
#define CHAIN_TO(v, i) return (i)->fn((v), (i))
#else
#define CHAIN_TO(v, i) return (i)
#endif

/* The trace that begins at gpa and does not cross, or NULL. */
static inline const struct trace *trace_at(struct interp *in, uint64_t gpa, uint32_t mode)
{
	uint64_t key = trace_key(gpa, mode);
	struct trace_slot *set = in->slots[trace_set(key)];

	if (__builtin_expect(set[0].key == key, 1)) {
		return set[0].trace;
	}
	for (unsigned k = 1; k < TRACE_WAYS; k++) {
		if (set[k].key == key) {
			struct trace_slot found = set[k];

			set[k] = set[0];
			set[0] = found;
			return found.trace;
		}
	}
	return NULL;
}

/* Looks for a trace at v->rip that can be entered without further ado, or NULL. */
static inline const struct trace *trace_lookup(struct vcpu *v)
{
	uint64_t lin = v->seg_base[SEG_CS] + v->rip;
	const struct tlb_entry *e;
	const struct trace *t;
	unsigned slot;

	if ((v->mode & MODE_SIZE) != MODE_64) {
		lin = (uint32_t)lin;
	}
	slot = tlb_slot(lin);
	e = &v->tlb->e[slot];
	if (__builtin_expect((lin ^ e->x) > 4095, 0)) {
		return NULL;
	}
	t = trace_at(v->interp, v->tlb->x_gpa[slot] | (lin & 4095), v->mode);
	if (!t) {
		return NULL;
	}
	if (__builtin_expect(!mode_is_flat(v->mode), 0) &&
	    v->rip + t->len - 1 > v->seg[SEG_CS].limit) {
		return NULL;
	}
	return t;
}

/* Links i to t: i->aux is t from now on. A link may outlive the trace, whose memory then stays. */
static inline void trace_link(const struct insn *i, const struct trace *t)
{
	((struct insn *)i)->aux = (void *)t;
	((struct trace *)t)->linked = true;
}

/* Makes t the running trace. v->rip is its address. */
static inline const struct insn *trace_enter(struct vcpu *v, const struct trace *t)
{
	v->trace_rip = v->rip;
	v->n_insns += t->insns[0].rest + 1u; /* t->n, in a line that is read anyway */
	return t->insns;
}

#endif
