/* SPDX-License-Identifier: Apache-2.0 */
/* The generator's state while it emits one region, and what its files share. */
#ifndef VCPU_TRANSLATE_GENERATE_H
#define VCPU_TRANSLATE_GENERATE_H

#include "translate/emit.h"
#include "translate/loops.h"
#include "translate/translate.h"

enum { GENERATE_STUBS = 1024, GENERATE_FIXUPS = 3 * REGION_BLOCKS };

/* Code out of the way, emitted behind the region: a call of translate_event(). */
struct stub {
	struct site site;
	bool save;  /* flags first: of exits */
	bool fixed; /* the address is lin, not in RAX */
	uint64_t lin;
	uint8_t *from; /* displacement of the jump that leads here */
	uint8_t *back; /* where to go on; NULL: never */
	bool calls;    /* ... when what the event leads to returns */
};

struct fixup {
	uint8_t *at;
	unsigned block;
	bool back; /* to where the block looks for requests first */
};

/* Accesses that share one check. Offsets count from one value of a register. */
struct group {
	int32_t lo, hi;
	bool write;	 /* one of them does */
	bool in_scratch; /* the host address is in SCRATCH, not in vcpu.group */
	uint8_t slot;	 /* of vcpu.group */
	uint16_t block;	 /* where it is checked */
	uint16_t n;	 /* accesses */
};

/* One access of an instruction; group NULL or of one access: it is checked by itself. */
struct access {
	struct group *group;
	int32_t at, end;
	bool write;
	bool leads; /* the group's first */
};

static inline bool is_grouped(const struct access *a)
{
	return a->group && a->group->n > 1;
}

/* An instruction has two accesses at most, a block leaves by two ways, a group is split in two. */
enum { GENERATE_GROUPS = 2 * REGION_INSNS + 1, GENERATE_LEAVING = 2 * REGION_BLOCKS };

/* A branch that leaves a loop whose registers are elsewhere: they are put back on the way. */
struct leaving {
	uint8_t *from;
	int block; /* or -1: to RIP `target` outside of the region, by instruction `insn` */
	unsigned insn;
	uint64_t target;
	bool in_host, in_memory;
};

struct generate {
	struct vcpu *v;
	struct translator *x;
	struct region *r;
	struct emit e;
	unsigned n_stubs, n_fixups;
	struct stub stub[GENERATE_STUBS];
	struct fixup fixup[GENERATE_FIXUPS];
	int32_t tlb; /* offset in struct vcpu of the region's TLB context */
	bool long_mode;
	unsigned stack_size; /* 8 or 4: bytes of RIP and of stack operands */
	/* Blocks that are the head of a loop that may get a fast copy, with the loop's blocks. */
	bool heads[REGION_BLOCKS + 1]; /* a copy of a rest has one more */
	uint64_t members[REGION_BLOCKS][2];
	/* Where guest registers are: register_host, or as a loop's fast copy wants them. */
	const uint8_t *host;
	/* Of a loop's fast copy: see windows.c. */
	uint8_t loop_host[16], slot_host[VCPU_WINDOWS];
	unsigned n_leaving;
	struct leaving leaving[GENERATE_LEAVING];
	uint8_t *windows_begin;
	bool count_in_scratch; /* passes left are in SCRATCH, not in vcpu.passes */
	unsigned n_order;
	uint8_t order[REGION_BLOCKS + 1]; /* blocks, as they are emitted */
	unsigned current;		  /* the one at hand */
	/* Where the guest's flags are that matter before the instruction at hand. */
	flag_set live;	/* which do */
	flag_set after; /* which do behind it */
	bool in_host, in_memory;
	int stack_moved; /* guest RSP is its register plus this: see stack.c */
	unsigned n_groups;
	struct group group[GENERATE_GROUPS];
	struct group *checked; /* when the copy of a rest is entered, or NULL: see copies.c */
	int32_t checked_at;    /* its first byte, from what the check was of */
	struct {
		struct access operand, stack;
	} access[REGION_INSNS];
};

/* The third scratch register; RAX and RCX are the first two. See README.md. */
enum { SCRATCH = R11 };

/* The linear address, as RIP, of instruction k; of what follows it. */
static inline uint64_t generate_rip(const struct generate *g, unsigned k)
{
	return g->r->lin + g->r->at[k];
}

static inline uint64_t generate_next_rip(const struct generate *g, unsigned k)
{
	uint64_t rip = generate_rip(g, k) + g->r->insn[k].len;

	return g->long_mode ? rip : (uint32_t)rip;
}

static inline bool generate_resident(const struct generate *g, unsigned guest)
{
	return g->host[guest] != REG_NONE;
}

static inline struct rm generate_gpr(unsigned guest)
{
	return rm_vcpu((int32_t)(guest * 8));
}

/* -- state.c: flags and registers -- */

/* Before code that spoils host EFLAGS: keeps the guest's if they matter. Spoils RAX. */
void generate_spoil_flags(struct generate *g);
/* Before an operation that reads flags or keeps some: they are in host EFLAGS. Spoils RAX. */
void generate_want_flags(struct generate *g);
/* After an operation that wrote flags. */
void generate_wrote_flags(struct generate *g);
void generate_save_flags(struct emit *e);
void generate_restore_flags(struct emit *e);

/*
 * The host register of a guest register: its own, or `scratch` with the value loaded if `load`.
 * generate_put() stores it back where it was a scratch one.
 */
unsigned generate_get(struct generate *g, unsigned guest, unsigned scratch, bool load);
void generate_put(struct generate *g, unsigned guest, unsigned host);
/* host := guest register, all 64 bits; and back. */
void generate_copy(struct generate *g, unsigned host, unsigned guest);
void generate_copy_back(struct generate *g, unsigned guest, unsigned host);
/* A register operand that is only read: as ModRM.rm. */
struct rm generate_source(const struct generate *g, unsigned guest);

/* -- address.c: guest memory -- */

/*
 * Emits the check of instruction k's memory operand and returns where it is on the host: at RAX,
 * RCX or SCRATCH, a displacement and perhaps a guest register. Flags are where its operation wants
 * them. Spoils RAX and RCX.
 */
struct rm generate_operand(struct generate *g, unsigned k, unsigned size, bool write);
/* The same, at host register `to`. */
struct rm generate_operand_at(struct generate *g, unsigned k, unsigned size, bool write,
			      unsigned to);
/* The check alone, of the linear address in RAX, which becomes the host's. Spoils RCX, flags. */
void generate_check(struct generate *g, unsigned k, unsigned size, bool write);
/* Host register `to` := the operand's offset, 4 or 8 bytes of it. Keeps flags; spoils RAX, RCX. */
void generate_offset_of(struct generate *g, unsigned k, unsigned to, unsigned size);
/* The same of a stack operand at guest RSP (for LEAVE: RBP) + disp. Flags are not restored. */
struct rm generate_stack(struct generate *g, unsigned k, int disp, bool write);
/*
 * Guest RSP += by. Its register is behind until generate_settle_stack(), which comes before what
 * reads it or may leave.
 */
void generate_move_stack(struct generate *g, int by);
void generate_settle_stack(struct generate *g);
/* Can it stay behind after instruction k? Not if that may be interpreted and then goes on there. */
bool generate_may_stay_moved(const struct generate *g, unsigned k);
/* Can instruction k be emitted while the register is behind? */
bool generate_may_move_stack(const struct generate *g, unsigned k);

/* Where the block is entered: RAX is where the check that failed found g->checked, on the host. */
void generate_checked(struct generate *g);

/* -- stack.c: the instruction k, one of them -- */

void generate_push(struct generate *g, unsigned k);
void generate_pop(struct generate *g, unsigned k);
void generate_leave_frame(struct generate *g, unsigned k);

/* -- sites.c -- */

/* The check of the linear address in RAX, which becomes the host's. Spoils RCX and flags. Returns
 * the displacement of the jump to the stub, which goes back to what follows. */
uint8_t *site_emit(struct emit *e, int32_t tlb, const struct site *s);
void site_emit_stub(struct translator *x, struct emit *e, int32_t tlb, const struct site *s,
		    const uint8_t *back);
int32_t site_tlb(uint32_t key);
/* A cached site met the page of lin, which the TLB has. False: it has met too many. */
bool site_turn(struct vcpu *v, const struct site *site, uint64_t lin);
/* The sites of r that met many pages are to be by slot when it is translated again. */
void sites_settle(struct vcpu *v, const struct region *r);
/*
 * To a copy of a block's rest from where a group's check fails, from now on, if the group's first
 * byte is at offset `first` to `last` of a page. site_split(): with RAX, where that is on the host;
 * the TLB lets it be accessed. False: no room (translator.flush is set).
 */
bool site_split(struct vcpu *v, const struct site *site, uint32_t copy, unsigned first,
		unsigned last);
bool site_plain(struct vcpu *v, const struct site *site, uint32_t copy, unsigned first,
		unsigned last);

/*
 * Looks the address in RAX up: RAX := its offset in the page, RCX := the entry's index. Spoils
 * flags. Returns the displacement of the jump for an address that the TLB does not have.
 */
uint8_t *site_emit_lookup(struct emit *e, int32_t tlb, bool write, unsigned size);
/* RAX := host less linear addresses of the entry at index RCX. */
void site_emit_host(struct emit *e, int32_t tlb, bool write);

/* -- windows.c: of a loop's fast copy -- */

/* What runs before it. */
void windows_begin(struct generate *g);
/* A branch back to the head, on a condition or always (cc < 0). */
void windows_back(struct generate *g, int cc);
/* Where registers were moved to for the fast copy, they are put back; it was left. */
void windows_put_back(struct generate *g);
/*
 * Where instruction k's operand, which has a window, is: at `to` (RAX, RCX or SCRATCH) and perhaps
 * a guest register. Keeps flags; spoils RAX and RCX.
 */
struct rm window_operand(struct generate *g, unsigned k, unsigned to);

/* -- groups.c -- */

/* May instruction k's operation use SCRATCH? */
bool may_use_scratch(const struct region *r, unsigned k);
/* Fills g->access and g->group. */
void groups_find(struct generate *g);

/* -- branch.c -- */

/* The branch k, and what block b, which it ends, goes on with; `next` is emitted next. */
void generate_branch(struct generate *g, const struct block *b, unsigned k, int next);
bool generate_is_call(const struct region *r, unsigned k);
/* Does the target of CALL r/m stay where it is while the return address is pushed? */
static inline bool generate_keeps_target(const struct insn *i)
{
	return i->mod == 3 && i->rm != RSP;
}
/* Where call k returns to, right behind it: is this what the guest returns to? */
void generate_return_checks(struct generate *g, unsigned k);
/* ... and on, out of the region. */
void generate_return_exit(struct generate *g, unsigned k);
/* RCX := twice the slot of vcpu.jumps[] for the RIP in RAX. */
void generate_jump_slot(struct emit *e);
/* The end of a block without a branch. */
void generate_fall(struct generate *g, const struct block *b, unsigned k, int next);
/* On the way of what has left a loop's fast copy. */
void generate_leave(struct generate *g);
/* At the head of a loop, before its instruction k: looks for requests. */
void generate_poll(struct generate *g, unsigned k);

/*
 * A branch to the address in RAX, the flags in memory, that goes on under `key`: by the jump cache.
 */
void generate_jump(struct generate *g, unsigned k, uint32_t key);

/* -- transfer.c: the branch k, one of them -- */

void generate_syscall(struct generate *g, unsigned k);
void generate_sysret(struct generate *g, unsigned k);

/* -- integer.c, vector.c, system.c, string.c -- */

void generate_integer(struct generate *g, unsigned k);
void generate_vector(struct generate *g, unsigned k);
void generate_system(struct generate *g, unsigned k);
/* SCRATCH := RFLAGS whole, of flags in memory. Spoils RCX. */
void generate_get_rflags(struct emit *e);
/* vcpu.aflags := the arithmetic flags of the image in SCRATCH. Spoils RAX, SCRATCH. */
void generate_put_arithmetic(struct emit *e);
void generate_string(struct generate *g, unsigned k);
void generate_bit_string(struct generate *g, unsigned k);

/* -- generate.c -- */

/* Is block n of r's code, not only led to? */
static inline bool generate_has(const struct region *r, unsigned n)
{
	return r->block[n].n && n >= r->shared && (!r->loop || loop_has(r->loop->members, n));
}

void generate_stub(struct generate *g, struct stub s);
/* The jump with its displacement `at` leads to the region's block. */
void generate_fixup(struct generate *g, uint8_t *at, unsigned block);
/*
 * If the condition holds, instruction k is interpreted; nothing of it has happened, and the flags
 * are in memory. generate_rejoin(), behind its code, says where those go on; `first`: the number of
 * stubs before it.
 */
void generate_unlikely(struct generate *g, unsigned k, unsigned cc);
void generate_rejoin(struct generate *g, unsigned first);
/* Calls runtime_event(), which goes on behind the site, elsewhere, or not at all. */
void generate_event(struct translator *x, struct emit *e, struct site site);
/* The address, as an offset into code memory, of the next byte. */
static inline struct emit generate_at(const struct vcpu *v, size_t code)
{
	const struct translator *x = v->translator;

	return (struct emit){x->code + code, x->code + x->code_size - EMIT_SLACK,
			     (uint32_t)(uintptr_t)v, false};
}

static inline uint32_t generate_here(const struct translator *x, const struct emit *e)
{
	return (uint32_t)(e->p - x->code);
}
/* A jump, to be set, that is taken if something came. Spoils flags. */
uint8_t *generate_look(struct vcpu *v, struct emit *e);
/* RAX is not 0 if something came or is waiting. */
void generate_requests(struct vcpu *v, struct emit *e);

#endif
