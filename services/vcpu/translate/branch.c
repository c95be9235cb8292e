/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Branches. Within the region they are the host's own; a direct one that leaves it leads to a stub
 * until it is linked, an indirect one looks its target up in the jump cache. Whoever leaves has
 * the guest's flags in vcpu.aflags, or leads through a stub that puts them there. Loops and
 * entries look for requests.
 *
 * Calls are the host's, and so are returns: the host predicts them. What a host's return leads to,
 * behind the call, compares where the guest's return goes with where it is.
 *
 *   call: push of the guest's; call target; cmp RIP behind it, %rax; jne miss;
 *         cmp context of the key, %cl; jne miss; is the page still there? flags if they matter
 *   ret:  pop of the guest's to %rax; mov which return << 8 | context of the key, %ecx; ret
 */
#include <stdlib.h>

#include "translate/generate.h"

static struct site site_of(const struct generate *g, enum site_kind kind, unsigned k)
{
	return (struct site){.region = g->x->n_regions, .kind = kind, .insn = k};
}

/* How a branch is taken that depends on nothing; others have a condition code. */
enum { JUMPS = -1, CALLS = -2 };

static uint8_t *emit_branch(struct emit *e, int how)
{
	return how >= 0 ? emit_jcc(e, (unsigned)how) : how == CALLS ? emit_call(e) : emit_jmp(e);
}

/* Does it leave a loop whose registers are elsewhere? Then it does so by generate_leave(). */
static bool leaves_moved(struct generate *g, struct leaving l, int how)
{
	if (g->host == register_host) {
		return false;
	}
	if (g->n_leaving == GENERATE_LEAVING) {
		g->e.full = true;
		return true;
	}
	l.from = emit_branch(&g->e, how);
	l.in_host = g->in_host;
	l.in_memory = g->in_memory;
	g->leaving[g->n_leaving++] = l;
	return true;
}

static void to_block(struct generate *g, unsigned block, int how)
{
	if (g->r->loop && block == g->r->head) {
		windows_back(g, how);
	} else if (!g->r->loop || loop_has(g->r->loop->members, block) ||
		   !leaves_moved(g, (struct leaving){.block = (int)block}, how)) {
		generate_fixup(g, emit_branch(&g->e, how), block);
	}
}

/* Does the block go on with groups that this region, a copy, does not have? */
static bool lacks_groups(const struct region *r, int block)
{
	return r->block[block].continues >= 0 && !generate_has(r, (unsigned)block);
}

static bool new_exit(struct translator *x, struct exit_link exit, uint32_t *index)
{
	if (x->n_exits == x->exits_room) {
		uint32_t room = x->exits_room ? x->exits_room * 2 : 4096;
		struct exit_link *p = realloc(x->exits, room * sizeof(*p));

		if (!p) {
			return false;
		}
		x->exits = p;
		x->exits_room = room;
	}
	*index = x->n_exits++;
	x->exits[*index] = exit;
	return true;
}

/* A direct branch to RIP `target` outside of the region. */
static void to_exit_key(struct generate *g, unsigned k, uint64_t target, int how, uint32_t key)
{
	struct leaving leaving = {.block = -1, .insn = k, .target = target};
	uint32_t exit;

	if (leaves_moved(g, leaving, how)) {
		return;
	}
	if (!new_exit(g->x,
		      (struct exit_link){
			      .target = target, .key = key, .region = g->x->n_regions, .insn = k},
		      &exit)) {
		g->e.full = true;
		return;
	}
	generate_stub(g, (struct stub){.site = {.kind = SITE_EXIT, .region = exit, .insn = k},
				       .save = g->in_host && !g->in_memory,
				       .from = emit_branch(&g->e, how)});
}

static void to_exit(struct generate *g, unsigned k, uint64_t target, int how)
{
	to_exit_key(g, k, target, how, g->r->key);
}

void generate_leave(struct generate *g)
{
	g->host = register_host;
	for (unsigned n = 0; n < g->n_leaving && !g->e.full; n++) {
		const struct leaving *l = &g->leaving[n];

		emit_patch(l->from, g->e.p);
		windows_put_back(g);
		g->in_host = l->in_host;
		g->in_memory = l->in_memory;
		if (l->block >= 0) {
			to_block(g, (unsigned)l->block, JUMPS);
		} else {
			to_exit(g, l->insn, l->target, JUMPS);
		}
	}
}

static uint64_t branch_target(const struct generate *g, unsigned k)
{
	uint64_t rip = generate_next_rip(g, k) + g->r->insn[k].imm;

	return g->long_mode ? rip : (uint32_t)rip;
}

/* To a successor in the region, or out of it; its flags are where it wants them. */
static void go(struct generate *g, unsigned k, int block, uint64_t rip, int how)
{
	if (block >= 0 && !lacks_groups(g->r, block)) {
		to_block(g, (unsigned)block, how);
	} else {
		to_exit(g, k, rip, how);
	}
}

void generate_fall(struct generate *g, const struct block *b, unsigned k, int next)
{
	if (b->next >= 0) {
		g->live = g->r->block[b->next].live;
		generate_want_flags(g);
	}
	if (b->next < 0 || b->next != next) {
		go(g, k, b->next, generate_next_rip(g, k), JUMPS);
	}
}

void generate_jump_slot(struct emit *e)
{
	emit_mov32(e, RCX, RAX);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), (JUMP_SLOTS - 1) * 2);
}

static int jump_context(struct generate *g, uint32_t key)
{
	int context = cache_jump_context(g->x, key);

	g->e.full |= context < 0;
	return context;
}

/* To the RIP in RAX. Spoils RCX. */
static void jump(struct generate *g, unsigned k, uint32_t key, bool calls)
{
	struct emit *e = &g->e;
	int context = jump_context(g, key);
	int32_t jumps = (int32_t)(offsetof(struct vcpu, jumps) +
				  (size_t)(unsigned)context * sizeof(g->v->jumps[0]));
	struct stub stub = {.site = site_of(g, SITE_INDIRECT, k), .calls = calls};

	if (e->full) {
		return;
	}
	generate_jump_slot(e);
	emit_alu(e, 0x3b, 8, RAX,
		 rm_vcpu_index(RCX, 3, jumps + (int32_t)offsetof(struct jump_slot, rip)));
	stub.from = emit_jcc(e, 5);
	emit_alu(e, 0xff, 4, calls ? 2 : 4,
		 rm_vcpu_index(RCX, 3, jumps + (int32_t)offsetof(struct jump_slot, host)));
	stub.back = calls ? e->p : NULL;
	generate_stub(g, stub);
}

void generate_jump(struct generate *g, unsigned k, uint32_t key)
{
	jump(g, k, key, false);
}

static void push_return(struct generate *g, unsigned k)
{
	uint64_t rip = generate_next_rip(g, k);
	unsigned size = g->stack_size;
	struct rm to = generate_stack(g, k, -(int)size, true);

	if (size == 4 || (int64_t)rip == (int32_t)rip) {
		emit_alu(&g->e, 0xc7, size, 0, to);
		emit32(&g->e, (uint32_t)rip);
	} else {
		emit_const(&g->e, RCX, rip);
		emit_store(&g->e, 8, RCX, to);
	}
	generate_move_stack(g, -(int)size);
	generate_settle_stack(g);
}

/* The target of JMP r/m and CALL r/m: host register `to` := it. */
static void load_target(struct generate *g, unsigned k, unsigned to)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = g->stack_size;

	generate_spoil_flags(g);
	if (i->mod == 3) {
		emit_load(&g->e, size, to, generate_source(g, i->rm));
	} else {
		emit_load(&g->e, size, to, generate_operand(g, k, size, false));
	}
}

static void call_rm(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];

	if (generate_keeps_target(i)) {
		push_return(g, k);
		load_target(g, k, RAX);
	} else {
		load_target(g, k, SCRATCH);
		push_return(g, k);
		emit_mov(&g->e, RAX, SCRATCH);
	}
	jump(g, k, g->r->key, g->r->returned_to);
}

static bool new_return(struct generate *g, unsigned k, uint32_t *index)
{
	struct translator *x = g->x;

	if (x->n_returns == x->returns_room) {
		uint32_t room = x->returns_room ? x->returns_room * 2 : 1024;
		struct code_return *p = realloc(x->returns, room * sizeof(*p));

		if (!p) {
			return false;
		}
		x->returns = p;
		x->returns_room = room;
	}
	*index = x->n_returns++;
	x->returns[*index] = (struct code_return){x->n_regions, k};
	return true;
}

static void ret(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = g->stack_size;
	uint32_t number;
	int context;

	generate_spoil_flags(g);
	emit_load(&g->e, size, RAX, generate_stack(g, k, 0, false));
	generate_move_stack(g, (int)size + (i->opcode == 0xc2 ? (uint16_t)i->imm : 0));
	generate_settle_stack(g);
	if (!g->r->returned_to) {
		generate_jump(g, k, g->r->key);
		return;
	}
	context = jump_context(g, g->r->key);
	if (g->e.full || !new_return(g, k, &number)) {
		g->e.full = true;
		return;
	}
	emit_const(&g->e, RCX, number << 8 | (unsigned)context);
	emit8(&g->e, 0xc3);
}

bool generate_is_call(const struct region *r, unsigned k)
{
	return r->form[k].kind == FORM_CALL || r->form[k].kind == FORM_CALL_RM;
}

void generate_return_checks(struct generate *g, unsigned k)
{
	uint64_t rip = generate_next_rip(g, k);
	int context = jump_context(g, g->r->key);
	struct emit *e = &g->e;
	uint8_t *miss[2];

	if (!g->long_mode || (int64_t)rip == (int32_t)rip) {
		if (g->long_mode) {
			emit8(e, 0x48);
		}
		emit8(e, 0x3d); /* no shorter than a jump: see forget_returns() */
		emit32(e, (uint32_t)rip);
	} else {
		emit_const(e, SCRATCH, rip);
		emit_alu(e, 0x3b, 8, RAX, rm_reg(SCRATCH));
	}
	miss[0] = emit_jcc(e, 5);
	emit8(e, 0x80); /* cmp, %cl */
	emit8(e, 0xf9);
	emit8(e, (uint8_t)context);
	miss[1] = emit_jcc(e, 5);
	if (!e->full) {
		emit_patch(miss[0], g->x->code + g->x->return_miss);
		emit_patch(miss[1], g->x->code + g->x->return_miss);
	}
}

void generate_return_exit(struct generate *g, unsigned k)
{
	g->in_host = false;
	g->in_memory = true;
	to_exit(g, k, generate_next_rip(g, k), JUMPS);
	if (!g->e.full) {
		g->x->exits[g->x->n_exits - 1].returns = true;
	}
}

static void jcc(struct generate *g, const struct block *b, unsigned k, int next)
{
	unsigned cc = g->r->insn[k].opcode & 15;

	generate_want_flags(g);
	if (b->taken >= 0 && b->taken == next) {
		go(g, k, b->next, generate_next_rip(g, k), (int)(cc ^ 1));
		return;
	}
	go(g, k, b->taken, branch_target(g, k), (int)cc);
	if (b->next < 0 || b->next != next) {
		go(g, k, b->next, generate_next_rip(g, k), JUMPS);
	}
}

/* LOOP and JCXZ: by JRCXZ, which leaves flags alone. */
static void loop(struct generate *g, const struct block *b, unsigned k, int next)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = i->addrsize == 8 ? 8 : 4, cx = register_host[RCX];
	bool jcxz = i->opcode == 0xe3;
	uint8_t *skip;

	g->live = g->after;
	generate_want_flags(g);
	if (!jcxz) {
		emit_lea(&g->e, size, cx, rm_mem(cx, -1));
	}
	emit_load(&g->e, size, RCX, rm_reg(cx));
	emit8(&g->e, 0xe3); /* jrcxz */
	emit8(&g->e, 0);
	skip = g->e.p;
	if (jcxz) {
		go(g, k, b->next, generate_next_rip(g, k), JUMPS);
	} else {
		go(g, k, b->taken, branch_target(g, k), JUMPS);
	}
	if (!g->e.full) {
		skip[-1] = (uint8_t)(g->e.p - skip);
	}
	if (jcxz) {
		go(g, k, b->taken, branch_target(g, k), JUMPS);
	} else if (b->next < 0 || b->next != next) {
		go(g, k, b->next, generate_next_rip(g, k), JUMPS);
	}
}

/* STAC and CLAC that change the TLB's context. Keeps flags. */
static void context(struct generate *g, unsigned k)
{
	uint32_t key = g->r->key ^ KEY_AC;
	bool on = key & KEY_AC;
	size_t tlb = offsetof(struct vcpu, tlbs) +
		     (on ? MMU_SUPER_AC : MMU_SUPER) * sizeof(struct mmu_tlb);

	emit_load(&g->e, 4, RAX, VCPU_FIELD(rflags));
	emit_lea(&g->e, 4, RAX, rm_mem(RAX, on ? FL_AC : -FL_AC));
	emit_store(&g->e, 4, RAX, VCPU_FIELD(rflags));
	emit_lea(&g->e, 8, RAX, rm_vcpu((int32_t)tlb));
	emit_store(&g->e, 8, RAX, VCPU_FIELD(tlb));
	to_exit_key(g, k, generate_next_rip(g, k), JUMPS, key);
}

void generate_branch(struct generate *g, const struct block *b, unsigned k, int next)
{
	switch (g->r->form[k].kind) {
	case FORM_JCC: jcc(g, b, k, next); break;
	case FORM_LOOP: loop(g, b, k, next); break;
	case FORM_JMP:
		g->live = g->after;
		if (b->taken >= 0) {
			generate_want_flags(g);
		}
		if (b->taken < 0 || b->taken != next) {
			go(g, k, b->taken, branch_target(g, k), JUMPS);
		}
		break;
	case FORM_CALL:
		push_return(g, k);
		g->live = g->after;
		if (b->taken >= 0) {
			generate_want_flags(g);
		}
		go(g, k, b->taken, branch_target(g, k), g->r->returned_to ? CALLS : JUMPS);
		break;
	case FORM_CALL_RM: call_rm(g, k); break;
	case FORM_JMP_RM:
		load_target(g, k, RAX);
		generate_jump(g, k, g->r->key);
		break;
	case FORM_CONTEXT: context(g, k); break;
	case FORM_SYSCALL: generate_syscall(g, k); break;
	case FORM_SYSRET: generate_sysret(g, k); break;
	default: ret(g, k); break;
	}
}

static struct rm look(const struct vcpu *v)
{
	return rm_mem(REG_NONE, (int32_t)(uintptr_t)v->look);
}

uint8_t *generate_look(struct vcpu *v, struct emit *e)
{
	emit_alu_imm(e, ALU_CMP, 4, look(v), 0);
	return emit_jcc(e, 5);
}

void generate_requests(struct vcpu *v, struct emit *e)
{
	emit_load(e, 4, RAX, look(v));
	emit_alu(e, 0x0b, 4, RAX, VCPU_FIELD(req));
}

void generate_poll(struct generate *g, unsigned k)
{
	struct site site = site_of(g, SITE_POLL, k);
	struct emit *e = &g->e;

	if (!g->live) {
		generate_stub(g, (struct stub){.site = site, .from = generate_look(g->v, e)});
		return;
	}
	emit_load(e, 4, RCX, look(g->v));
	emit8(e, 0xe3); /* jrcxz over the jump */
	emit8(e, 5);
	site.flags = g->in_host ? SITE_FLAGS : 0;
	generate_stub(g, (struct stub){.site = site, .from = emit_jmp(e)});
}
