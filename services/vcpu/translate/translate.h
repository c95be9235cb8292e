/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator's shared vocabulary: regions, sites, the registers' plan. See README.md for how
 * the files follow one another. vCPU thread only, each vCPU has a translator of its own.
 */
#ifndef VCPU_TRANSLATE_TRANSLATE_H
#define VCPU_TRANSLATE_TRANSLATE_H

#include "engine.h"
#include "execute/execute.h"
#include "execute/xstate.h"

enum {
	REGION_INSNS = 256,
	REGION_BLOCKS = 96,
	GROUP_REACH = 192, /* bytes that a group may span: more would cross pages more often */
	MAP_HASH = 1 << 12,
	ENTRY_HASH = 1 << 17,
	FOUND_HASH = 1 << 13,
	SOURCE_HASH = 1 << 14,
	KEYS = JUMP_CONTEXTS,
};

/*
 * What translated code was made for beside vcpu.mode: bits above those of MODE_*. An instruction
 * that changes it leaves the region.
 */
enum {
	KEY_AC = 1 << 9,   /* supervisor code with SMAP suspended: MMU_SUPER_AC */
	KEY_X87 = 1 << 10, /* x87 and MMX instructions raise neither #NM nor #MF */
	KEY_SSE = 1 << 11,
	KEY_AVX = 1 << 12,
	KEY_SMAP = 1 << 13,   /* EFLAGS.AC of supervisor code decides KEY_AC */
	KEY_AVX512 = 1 << 14, /* ... and the guest uses it: vcpu.zmm_used */
};

/* Which vector registers an event stores: those that hold guest state. */
enum event_vectors { EVENT_XMM, EVENT_YMM, EVENT_ZMM };

static inline enum event_vectors event_vectors(const struct vcpu *v)
{
	if ((v->xcr0 & XCR0_ZMM_STATE) == XCR0_ZMM_STATE && v->zmm_used) {
		return EVENT_ZMM;
	}
	return v->xcr0 & XCR0_AVX ? EVENT_YMM : EVENT_XMM;
}

/* Guest flags as a set of FL_*; all six. */
typedef uint16_t flag_set;

struct flag_use {
	flag_set reads, writes; /* writes: in any case */
	bool touches;		/* may write some */
};

/* A basic block: part of a region's instructions, entered at its first. */
struct block {
	uint16_t at;	     /* offset of its first byte in the page */
	uint16_t first, n;   /* instructions */
	int16_t taken, next; /* successors in the region by branch and by falling through, or -1 */
	bool leaves;	     /* may go on outside of the region */
	bool loops;	     /* led to from its page here or above: it looks for requests */
	flag_set live;	     /* flags that must be the guest's when it is entered */
	bool in_memory; /* nothing of the region leads here: at `body` vcpu.aflags holds them */
	/* The one block that leads here, with its groups; it is emitted before. -1: anyone may. */
	int16_t continues;
	uint32_t body;	    /* offsets into code memory: else host EFLAGS hold the live flags */
	uint32_t near, ext; /* ... vcpu.aflags holds them; ext checks the page first. 0: not made */
	uint32_t links;	    /* exits of other regions that lead here: index + 1 of a list */
	uint32_t back;	    /* offset: where a branch that closes a loop leads; 0: to `body` */
	uint8_t rounds, passes; /* how often one did, and the block began, before it got one */
	uint64_t count;		/* entries, while vcpu.debug.counting */
};

/*
 * Code of one guest-physical page, at one linear page, entered by any of its blocks. An instruction
 * whose last bytes are in the next page is a region of its own.
 */
struct region {
	struct region *page_next, *crossing_next;
	uint64_t gpa, lin; /* pages */
	uint64_t gpa2;	   /* the next page, if it crosses */
	uint64_t lines;	   /* 64-byte lines of the page that it was made from */
	uint32_t number;   /* in translator.regions */
	uint32_t key;
	uint32_t map_id;	 /* see mmu_tlb.x_id */
	uint32_t map_id2;	 /* ... of the next page, if it crosses */
	uint32_t code, code_end; /* offsets into code memory */
	uint16_t n_insns, n_blocks;
	bool dead;
	bool crosses;
	bool returned_to; /* calls leave return addresses: `after` of theirs */
	/*
	 * What this is a copy of a part of, or NULL: a loop's fast copy, a loop unrolled or the
	 * rest of a block. It has no entries, and leaves to the blocks of `of`.
	 */
	struct region *of;
	uint16_t head;	     /* of the loop */
	uint16_t shared;     /* blocks before the copy's own, which are there to be left to */
	struct loop *loop;   /* of a fast copy, whose blocks are those of `of`: see loops.h */
	struct rest *rest;   /* of the rest of a block, the last one: see copies.c */
	struct insn *insn;   /* as decoded, not bound */
	struct insn **bound; /* those that were interpreted, and what ends them; or NULL */
	struct form *form;
	struct flag_use *use;
	uint16_t *at;	     /* offset of each in the page */
	uint32_t *after;     /* offset into code memory of what follows each */
	uint8_t *leads;	     /* its check is also that of others: see groups.c */
	uint8_t *turns;	     /* of each, how often its cached check was set anew */
	struct copy *copies; /* where it goes on when a group's check cannot pass */
	uint8_t *in_host;    /* host EFLAGS hold flags that are needed when its operation runs */
	struct block *block;
};

/* What a copy of a block's rest is of; how it checks. */
struct rest {
	uint8_t depth;	  /* copies that were left on the way to it */
	bool split;	  /* in two: the group that its first instruction leads. Else: no groups */
	bool stack;	  /* ... by its operand on the stack */
	uint8_t lead_off; /* of the leading access in what the check was of */
	/* Where the page ends, from the leading access on; between which ends all is the same. */
	int32_t end, least, most;
};

/* Why translated code calls runtime_event(); the record follows the call instruction. */
enum site_kind {
	SITE_ACCESS,	/* no TLB entry for the memory access at vcpu.event_arg */
	SITE_INTERPRET, /* the instruction is to be interpreted */
	SITE_EXIT,	/* a direct branch leaves the region: exits[region] */
	SITE_INDIRECT,	/* the target vcpu.event_arg is not in the jump cache */
	SITE_RETURN,	/* ... of the return that vcpu.returns_by tells of */
	SITE_POLL,	/* a request, before instruction `insn` */
	SITE_ENTRY,	/* ... or the page moved: an entry's checks */
	SITE_LOOP,	/* the loop whose head `insn` begins goes round again */
	SITE_PASS,	/* ... begins a pass */
	SITE_FAULT,	/* a host signal came from the instruction */
};

enum site_flag {
	SITE_FLAGS = 1 << 0,	   /* host EFLAGS hold the guest's flags */
	SITE_RANGE_WRITE = 1 << 1, /* the bytes checked must be writable */
	SITE_LEAD_WRITE = 1 << 2,  /* the instruction's own access writes */
	SITE_GROUPED = 1 << 3,	   /* the check is for a group: see groups.c */
	SITE_CACHED = 1 << 4,	   /* the check has its TLB slot as a constant: see sites.c */
	SITE_STACK = 1 << 5,	   /* of an operand on the stack, not that named by ModRM */
};

struct site {
	uint32_t region; /* or index of an exit */
	uint16_t insn;
	uint8_t kind, flags;
	/* Of an access: bytes checked from event_arg on; the instruction's own among them. */
	uint8_t size, lead_off, lead_size;
	uint8_t reserved;
} __attribute__((packed));

/* A direct branch out of a region. */
struct exit_link {
	uint64_t target; /* RIP */
	uint32_t key;	 /* there */
	uint32_t region, insn;
	uint32_t branch;     /* code offset of the displacement that skips the saving of flags */
	uint32_t saved;	     /* ... of the jump behind it */
	uint32_t stub, slow; /* where they lead when not linked */
	uint32_t next;	     /* in a block's links */
	bool returns;	     /* it is what follows a call, and what it leads to is checked */
	bool linked;
};

/* A return: what it is said to be by vcpu.returns_by. */
struct code_return {
	uint32_t region, insn;
};

/* A block by which its region is entered. */
struct entry {
	struct entry *next;
	uint64_t lin, gpa; /* of its first byte */
	struct region *region;
	struct block *block;
	uint32_t key;
};

/* A block found by its address: the last one of a bucket. */
struct found {
	uint64_t lin, gpa; /* of its first byte; lin + 1, so that 0 is none */
	struct region *region;
	struct block *block;
	uint32_t key, map_id;
	uint32_t near, ext; /* as in struct block */
	bool crosses;
};

struct page_map {
	struct page_map *next;
	uint64_t lin, gpa;
	uint32_t id;
};

struct code_pages {
	struct code_pages *next;
	uint64_t gpa;
	uint64_t starts[64]; /* by offset: an entry begins there */
	uint64_t lines;
	const uint8_t *host;	 /* its bytes */
	uint64_t by_slot[64];	 /* by offset: instructions whose accesses find no one page */
	uint8_t merges;		 /* of its regions */
	struct region *regions;	 /* some may be dead */
	struct region *crossing; /* those that end in it */
};

struct translator {
	uint8_t *code;	 /* writable view */
	int64_t to_exec; /* from it to the executable view */
	size_t code_size, code_used;
	uint8_t *arena;
	size_t arena_size, arena_used;
	struct region **regions;
	uint32_t n_regions, regions_room;
	struct exit_link *exits;
	uint32_t n_exits, exits_room;
	struct code_return *returns;
	uint32_t n_returns, returns_room;
	struct entry *entries[ENTRY_HASH];
	struct found found[FOUND_HASH];
	struct region *sources[SOURCE_HASH]; /* by what they begin with, at any linear address */
	struct page_map *maps[MAP_HASH];
	struct code_pages *pages[MAP_HASH];
	uint32_t n_maps;
	uint32_t keys[KEYS];   /* contexts of vcpu.jumps, 0: free; with bit 31 set */
	bool flush;	       /* everything is to be dropped when no region runs */
	uint32_t n_flushes;    /* how often it was */
	uint64_t n_events;     /* calls of runtime_event(): for tests */
	bool one_cpu;	       /* LOCK is not needed */
	uint16_t hot;	       /* traces that began so often are translated; 0: all. Tests set it */
	bool avx, avx512;      /* events may have to store YMM, ZMM */
	struct chaos *chaos;   /* chaos.h */
	struct verify *verify; /* lock-step with the interpreter is on: verify.h */
	struct site fault;     /* of a signal */
	struct insn pair[2];   /* the instruction being interpreted, and what ends it */
	/* The runtime's entry points, in the executable view. */
	void (*enter)(struct vcpu *v, const uint8_t *host);
	uint32_t event, return_miss; /* code offsets */
};

/* -- memory.c: of code and records -- */

/* Whether the host lets us make code at all. Any thread. */
bool memory_has_code(void);
int memory_init(struct vcpu *v);
void memory_finish(struct vcpu *v);
/* Drops everything. No region may be running. */
void memory_flush(struct vcpu *v);
/* Zeroed memory that lives until the next flush, or NULL. */
void *memory_alloc(struct translator *x, size_t size);
/* Empties the jump cache. */
void memory_forget_jumps(struct vcpu *v);

/* -- cache.c: what code is where, and its end -- */

/* The key for v's state now, or 0: its code is not translated. */
uint32_t cache_key(const struct vcpu *v);
/* Index into vcpu.jumps of a key; -1: there are too many, a flush is needed. */
int cache_jump_context(struct translator *x, uint32_t key);
/*
 * What is translated at v->rip, entries made, or NULL. Makes its page known to entry checks (x_id).
 * Valid until the next lookup.
 */
const struct found *cache_lookup(struct vcpu *v, uint32_t key);
/* Does a block begin there? `page`: that of gpa. */
bool cache_has(struct translator *x, const struct code_pages *page, uint64_t lin, uint64_t gpa,
	       uint32_t key);
/* A live region whose first block begins at gpa, whatever its linear address; or NULL. */
const struct region *cache_source(struct translator *x, uint64_t gpa, uint32_t key);
/* Makes r, complete but for its number, known. False: no memory. */
bool cache_insert(struct vcpu *v, struct region *r);
/* Shall instruction k of r look its pages up by slot? From now on. */
bool cache_is_by_slot(struct translator *x, const struct region *r, unsigned k);
void cache_set_by_slot(struct translator *x, const struct region *r, unsigned k);
struct code_pages *cache_page(struct vcpu *v, uint64_t gpa);
uint32_t cache_map_id(struct translator *x, uint64_t lin, uint64_t gpa);
/* Region and instruction of a host address; NULL: none. */
struct region *cache_find_host(struct translator *x, const uint8_t *host, unsigned *insn);
/* Lets an exit lead to what its target has been found to be. */
void cache_link(struct translator *x, uint32_t exit, const struct found *to);
/* Enters what v->rip has been found to be into the jump cache. */
void cache_remember(struct vcpu *v, const struct found *to);
/* The memory map changed: drops code of pages that are elsewhere on the host now. */
void cache_remap(struct vcpu *v);
/* Drops one region that is not running, or is about to be left. */
void cache_drop(struct vcpu *v, struct region *r);
void cache_invalidate(struct vcpu *v, uint64_t gpa, uint64_t len);

static inline const uint8_t *cache_exec(const struct translator *x, uint32_t code)
{
	return x->code + x->to_exec + code;
}

/* -- forms.c: what the generator does with an instruction -- */

enum form_kind {
	FORM_INTERPRET, /* calls the interpreter */
	FORM_END,	/* ... and leaves: its successor is decoded anew */
	FORM_MODRM,	/* the same instruction with its operands replaced */
	FORM_VEX_GPR,	/* ... with three general registers */
	FORM_SIMD,	/* ... on vector registers */
	FORM_X87,
	FORM_AX_IMM, /* rAX and an immediate */
	FORM_SHIFT_CL,
	FORM_MULTIPLY, /* one operand: rDX:rAX */
	FORM_CMPXCHG,
	FORM_CMPXCHG_WIDE,
	FORM_XCHG_AX,
	FORM_MOV_IMM,
	FORM_LEA,
	FORM_NOP,
	FORM_EXTEND_AX, /* CBW and kin */
	FORM_EXTEND_DX, /* CWD and kin */
	FORM_BSWAP,
	FORM_FLAG, /* CLC, STC, CMC */
	FORM_LAHF,
	FORM_SAHF,
	FORM_PUSH,
	FORM_POP,
	FORM_LEAVE,
	FORM_SYSTEM,	 /* by system.c */
	FORM_STRING,	 /* MOVS, STOS, LODS; REP MOVS, REP STOS */
	FORM_BIT_STRING, /* in memory, the bit by register */
	FORM_COMPARE_STRINGS,
	FORM_JCC,
	FORM_LOOP,
	FORM_JMP,
	FORM_CALL,
	FORM_JMP_RM,
	FORM_CALL_RM,
	FORM_RET,
	FORM_CONTEXT, /* STAC, CLAC: from here on they go on under another key */
	FORM_SYSCALL,
	FORM_SYSRET,
};

enum { ROLE_R = 1, ROLE_W = 2, ROLE_RW = 3 };

/* Sizes in bytes of the operands that ModRM names, and what happens to them. */
struct form {
	uint8_t kind;	 /* enum form_kind */
	uint8_t reg, rm; /* ROLE_*; 0: no such operand */
	uint8_t reg_size, rm_size;
};

struct form form_of(struct vcpu *v, const struct insn *i, uint32_t key);

/* Is ModRM.reg AH, CH, DH or BH? */
static inline bool form_is_high(const struct insn *i, const struct form *f)
{
	return f->reg && f->reg_size == 1 && !(i->flags & INSN_REX) && i->reg >= 4 && i->reg < 8;
}

/* -- system.c -- */

/* What i is, if it exists and its memory operand can be addressed; else FORM_INTERPRET. */
enum form_kind system_form(struct vcpu *v, const struct insn *i, uint32_t key);

/* -- transfer.c -- */

/* FORM_SYSCALL, FORM_SYSRET or FORM_INTERPRET. */
enum form_kind transfer_form(const struct insn *i, uint32_t key);

static inline bool form_ends(const struct form *f)
{
	return f->kind >= FORM_JMP || f->kind == FORM_END;
}

/* -- region.c: which instructions make up a region -- */

/*
 * Decodes the region that begins at v->rip, whose page the TLB's x side holds. NULL: cannot be
 * translated, or no memory (then translator.flush is set).
 */
struct region *region_decode(struct vcpu *v, uint32_t key);

/*
 * Room for r's n_insns instructions as decoded; for what the generator fills, and n_blocks blocks.
 * False: no memory (translator.flush is set).
 */
bool region_alloc_decoded(struct translator *x, struct region *r);
bool region_alloc_generated(struct translator *x, struct region *r);
/* Copies the first n_insns of each there. */
void region_put_decoded(struct region *r, const struct insn *insn, const struct form *form,
			const struct flag_use *use, const uint16_t *at);

/* -- derive.c: regions made of others; NULL: no memory (translator.flush is set) -- */

/* The same code at another linear page: nothing that was decoded depends on it. */
struct region *region_elsewhere(struct vcpu *v, const struct region *from, uint64_t lin);

/* A fast copy of the loop of r with that head. NULL: none can be made, too. */
struct region *region_loop(struct vcpu *v, struct region *r, unsigned head);

/* A loop that is to be unrolled. */
struct unrolling {
	uint64_t members[2]; /* blocks */
	unsigned n_members, n_insns;
	unsigned turns;
};

/* That loop of r, with that head, as often as u says: from its head on, to that of r. */
struct region *region_unroll(struct vcpu *v, struct region *r, unsigned head,
			     const struct unrolling *u);

/* The rest of the block of `of` from instruction k on, to go on in the other blocks of `of`. */
struct region *region_copy(struct vcpu *v, struct region *of, unsigned k);

/* -- merge.c -- */

/*
 * `from` is about to be linked to `to`, at v->rip: translates them again as one, if that may be.
 * Both are dead then, and whoever is inside goes on there until it leaves.
 */
bool merge_regions(struct vcpu *v, struct region *from, struct region *to);

/* -- copies.c: copies of blocks' rests -- */

/* Where to go on when a group's check cannot pass, or NULL: by the run loop. */
const uint8_t *copies_enter(struct vcpu *v, struct region *r, const struct site *site);
/* Is there one for where the page ends, so that the site failed because it has another page? */
bool copies_have(const struct vcpu *v, const struct region *r, const struct site *site);
/* Drops those of r, which is dropped. */
void copies_drop(struct vcpu *v, struct region *r);

/* -- host_flags.c -- */

enum host_flags_of {
	HOST_MULTIPLY,
	HOST_SHIFT_1, /* by 1, and by a constant that is more */
	HOST_SHIFT,
	HOST_ROTATE,
	HOST_SHIFT_DOUBLE,
	HOST_BIT,
	HOST_BIT_SCAN,
	HOST_COMPARE_X87,
	N_HOST_FLAGS
};
/* Flags that the host's instructions of a kind write in any case, undefined ones too. Any thread.
 */
flag_set host_flags(enum host_flags_of what);

/* -- flags.c: which flags matter where -- */

struct flag_use flags_of(const struct insn *i);
/* Flags that must be the guest's before instruction k. */
flag_set flags_before(const struct region *r, unsigned k);
/* Fills block.live of all blocks. */
void flags_flow(struct region *r);

/* -- effects.c -- */

/*
 * What an instruction does to general registers. If linear: to := base + index * scale + disp, of
 * the size of addresses, where base and index may be REG_NONE; nothing else is written then.
 * Narrow: its low 32 bits, zero- or sign-extended.
 */
struct effect {
	uint16_t writes; /* by register number */
	bool linear, narrow, sign;
	uint8_t to, base, index;
	int8_t scale;
	int64_t disp;
};

/* Of instruction k of r. What may change the memory map or leave writes all registers. */
struct effect effect_of(const struct region *r, unsigned k);

/* -- generate.c -- */

/* Emits r's code and enters it into the cache. False: no room (translator.flush is set). */
bool generate(struct vcpu *v, struct region *r);
/* Makes a block's `ext` and `near`. False: no room (translator.flush is set). */
bool generate_entry(struct vcpu *v, struct region *r, struct block *b);

/* -- debug.c -- */
extern const struct mobo_engine_debug translator_debug;

/* -- engine.c -- */

/* Translates the region at v->rip, whose page the TLB's x side holds. NULL: not possible. */
const struct found *engine_translate(struct vcpu *v, uint32_t key);

/* -- event_code.c: between translated code and C -- */

/* Emits the entry and event code; called when code memory is empty. */
void event_code_emit(struct vcpu *v);

/* The stack pointer of translated code when no call waits for its return. */
static inline uint64_t event_code_rsp(const struct vcpu *v)
{
	return (uint64_t)(uintptr_t)v - 2 * sizeof(uint64_t);
}

/* -- runtime.c: events -- */

/*
 * C's side of all that translated code cannot do itself. Returns the host address to go on at, or
 * NULL: back to the run loop, v->rip set. May not return: exceptions unwind.
 */
const uint8_t *runtime_event(struct vcpu *v, const struct site *site);
/* Instruction k as the interpreter wants it: until the next call, if there was no memory. */
struct insn *runtime_bind(struct vcpu *v, struct region *r, unsigned k);

/* -- signals.c: host signals -- */

/* Signals of this thread may come from v's code. */
void signals_set_running(struct vcpu *v);
/* v is about to be freed: this thread has nothing of it any more. */
void signals_forget_running(const struct vcpu *v);
int signals_init(void);

/* Where guest registers live in translated code; REG_NONE: in vcpu.gpr. */
extern const uint8_t register_host[16];

static inline bool translate_resident(unsigned guest)
{
	return register_host[guest] != REG_NONE;
}

#endif
