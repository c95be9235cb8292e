/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which memory operands of a block share one check. Accesses at fixed distances from one value of
 * a register (structures, stack frames, pushes and pops) or of a sum of two (elements of arrays)
 * form a group: the first checks the bytes of all of them and keeps the host address in vcpu.group,
 * the others only load that. A block that is led to by one other alone goes on with the groups of
 * that: what is known of registers follows the paths of such blocks, a tree. Where the check fails
 * (a page's end, I/O, a page that cannot be written yet) the rest of the block goes on in a copy of
 * itself: see copies.c.
 */
#include "translate/generate.h"

/* What a register holds: a value that had no name before, and a distance from it. */
struct value {
	uint16_t root;
	int32_t off;
};

/* A base and an index, or REG_NONE's, of which sums have been named. */
struct pair {
	uint16_t base, index, root;
	uint8_t scale;
};

enum { PAIRS = 16, REACH_OF_DISP = 1 << 28 };

/* What is known at a place of the code. */
struct tracker {
	struct generate *g;
	uint16_t block;
	struct value reg[N_GPR];
	uint16_t n_roots;
	unsigned n_pairs;
	struct pair pair[PAIRS]; /* a ring: of the last ones */
	unsigned n_open;
	struct group *open[VCPU_GROUPS]; /* a ring: by slot */
	uint16_t root[VCPU_GROUPS];
};

static void fresh(struct tracker *t, unsigned reg)
{
	t->reg[reg] = (struct value){t->n_roots++, 0};
}

static void forget_all(struct tracker *t)
{
	for (unsigned r = 0; r < N_GPR; r++) {
		fresh(t, r);
	}
}

/*
 * May an access be the group's, too? One that writes and may not happen must not decide that the
 * page be writable.
 */
static bool may_join(const struct tracker *t, const struct group *group, int32_t lo, int32_t hi,
		     bool write)
{
	int32_t low = lo < group->lo ? lo : group->lo, high = hi > group->hi ? hi : group->hi;

	return high - low <= GROUP_REACH && (!write || group->write || group->block == t->block);
}

static struct group *open_group(struct tracker *t, uint16_t root, int32_t lo, int32_t hi)
{
	struct group *group = &t->g->group[t->g->n_groups++];
	unsigned slot = t->n_open++ % VCPU_GROUPS;

	*group = (struct group){.lo = lo, .hi = hi, .slot = (uint8_t)slot, .block = t->block};
	t->open[slot] = group;
	t->root[slot] = root;
	return group;
}

static void join(struct tracker *t, struct access *a, const struct value *v, int32_t disp,
		 unsigned size, bool write)
{
	int32_t lo = v->off + disp, hi = lo + (int32_t)size;
	unsigned oldest = t->n_open < VCPU_GROUPS ? 0 : t->n_open - VCPU_GROUPS;
	struct group *group = NULL;

	for (unsigned n = t->n_open; n-- > oldest && !group;) {
		struct group *open = t->open[n % VCPU_GROUPS];

		if (t->root[n % VCPU_GROUPS] == v->root && may_join(t, open, lo, hi, write)) {
			group = open;
		}
	}
	if (!group) {
		group = open_group(t, v->root, lo, hi);
		a->leads = true;
	}
	group->lo = lo < group->lo ? lo : group->lo;
	group->hi = hi > group->hi ? hi : group->hi;
	group->write |= write;
	group->n++;
	a->group = group;
	a->at = lo;
	a->end = hi;
	a->write = write;
}

/* What is at an operand's address but for its displacement. */
static struct value address(struct tracker *t, const struct insn *i)
{
	const struct value *base = &t->reg[i->base], *index = &t->reg[i->index];
	struct value sum = {.off = base->off + index->off * (1 << i->scale)};
	const struct pair *pair = NULL;

	if (i->index == REG_NONE) {
		return *base;
	}
	for (unsigned n = 0; n < PAIRS && n < t->n_pairs && !pair; n++) {
		const struct pair *p = &t->pair[n];

		if (p->base == base->root && p->index == index->root && p->scale == i->scale) {
			pair = p;
		}
	}
	if (!pair) {
		struct pair *p = &t->pair[t->n_pairs++ % PAIRS];

		*p = (struct pair){base->root, index->root, t->n_roots++, i->scale};
		pair = p;
	}
	sum.root = pair->root;
	return sum;
}

/* A memory operand named by ModRM: registers and a displacement, full address size. */
static void operand(struct tracker *t, unsigned k)
{
	const struct insn *i = &t->g->r->insn[k];
	const struct form *f = &t->g->r->form[k];
	int64_t disp = (int64_t)i->disp;
	struct value v;

	if (f->kind <= FORM_END || !(i->flags & INSN_MODRM) || i->mod == 3 || !f->rm ||
	    !f->rm_size || (i->base == REG_NONE && i->index == REG_NONE) || i->seg >= SEG_FS ||
	    i->addrsize != t->g->stack_size || disp < -REACH_OF_DISP || disp > REACH_OF_DISP ||
	    (t->g->r->loop && t->g->r->loop->use[k])) {
		return;
	}
	v = address(t, i);
	join(t, &t->g->access[k].operand, &v, (int32_t)disp, f->rm_size, f->rm & ROLE_W);
}

/* Instructions with an operand on the stack, and what they do to registers. False: k is none. */
static bool stack(struct tracker *t, unsigned k)
{
	int size = (int)t->g->stack_size;
	struct access *a = &t->g->access[k].stack;
	struct value *sp = &t->reg[RSP];
	const struct insn *i = &t->g->r->insn[k];

	switch (t->g->r->form[k].kind) {
	case FORM_PUSH:
	case FORM_CALL:
	case FORM_CALL_RM:
		join(t, a, sp, -size, (unsigned)size, true);
		sp->off -= size;
		break;
	case FORM_POP:
		join(t, a, sp, 0, (unsigned)size, false);
		sp->off += size;
		fresh(t, i->rm);
		break;
	case FORM_RET: join(t, a, sp, 0, (unsigned)size, false); break;
	case FORM_SYSTEM:
		if (i->map == MAP_1 && i->opcode == 0x9c) { /* PUSHF */
			join(t, a, sp, -size, (unsigned)size, true);
			sp->off -= size;
		} else if (i->map == MAP_1 && i->opcode == 0x9d) { /* POPF */
			join(t, a, sp, 0, (unsigned)size, false);
			sp->off += size;
		} else {
			return false;
		}
		break;
	case FORM_LEAVE:
		join(t, a, &t->reg[RBP], 0, (unsigned)size, false);
		*sp = t->reg[RBP];
		sp->off += size;
		fresh(t, RBP);
		break;
	default: return false;
	}
	return true;
}

/* What instruction k does to registers. */
static void writes(struct tracker *t, unsigned k)
{
	struct effect e = effect_of(t->g->r, k);

	if (e.linear && !e.narrow && e.base != REG_NONE && e.index == REG_NONE &&
	    e.disp == (int16_t)e.disp) {
		t->reg[e.to] =
			(struct value){t->reg[e.base].root, t->reg[e.base].off + (int32_t)e.disp};
		return;
	}
	for (unsigned r = 0; r < 16; r++) {
		if (e.writes >> r & 1) {
			fresh(t, r);
		}
	}
}

/* May the operation of k need SCRATCH? Not for its address. */
bool may_use_scratch(const struct region *r, unsigned k)
{
	const struct insn *i = &r->insn[k];
	const struct form *f = &r->form[k];
	bool mem = i->flags & INSN_MODRM && i->mod != 3;

	switch (f->kind) {
	case FORM_MODRM:
		if ((i->map == MAP_1 && (i->opcode & 0xfe) == 0x86) || form_is_high(i, f)) {
			return true; /* XCHG; AH..BH cannot be named beside SCRATCH */
		}
		return mem && f->reg && !translate_resident(i->reg) &&
		       (r->use[k].reads || r->use[k].touches);
	case FORM_SHIFT_CL: return mem || (f->reg && !translate_resident(i->reg));
	case FORM_PUSH: return i->opcode == 0xff && mem;
	case FORM_CALL_RM: return !generate_keeps_target(i);
	case FORM_SIMD:
	case FORM_X87:
	case FORM_AX_IMM:
	case FORM_MULTIPLY:
	case FORM_XCHG_AX:
	case FORM_MOV_IMM:
	case FORM_LEA:
	case FORM_NOP:
	case FORM_EXTEND_AX:
	case FORM_EXTEND_DX:
	case FORM_BSWAP:
	case FORM_FLAG:
	case FORM_POP:
	case FORM_LEAVE:
	case FORM_JCC:
	case FORM_JMP:
	case FORM_CALL:
	case FORM_RET: return false;
	}
	return true;
}

/* Instructions of a region. */
struct insn_set {
	uint64_t bits[REGION_INSNS / 64];
};

static bool has_insn(const struct insn_set *set, unsigned k)
{
	return set->bits[k >> 6] >> (k & 63) & 1;
}

/* Adds what runs between the group's check, or the copy's beginning, and instruction k of b. */
static void add_way(const struct generate *g, const struct group *group, unsigned n, unsigned k,
		    struct insn_set *set)
{
	const struct block *b = &g->r->block[n];
	bool leads = false;

	for (;;) {
		while (!leads && !has_insn(set, k)) {
			set->bits[k >> 6] |= 1ull << (k & 63);
			leads = (g->access[k].operand.group == group &&
				 g->access[k].operand.leads) ||
				(g->access[k].stack.group == group && g->access[k].stack.leads);
			if (k == b->first) {
				break;
			}
			k--;
		}
		if (leads || k != b->first || b->continues < 0) {
			return;
		}
		b = &g->r->block[b->continues];
		k = b->first + b->n - 1u;
	}
}

/* Groups keep their address in SCRATCH where nothing else needs that on the way to an access. */
static void give_scratch(struct generate *g)
{
	static _Thread_local struct insn_set ways[GENERATE_GROUPS];
	struct insn_set taken = {{0}};

	memset(ways, 0, g->n_groups * sizeof(ways[0]));
	for (unsigned n = 0; n < g->n_order; n++) {
		const struct block *b = &g->r->block[g->order[n]];

		for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
			const struct access *of[2] = {&g->access[k].operand, &g->access[k].stack};

			for (unsigned m = 0; m < 2; m++) {
				if (is_grouped(of[m])) {
					add_way(g, of[m]->group, g->order[n], k,
						&ways[of[m]->group - g->group]);
				}
			}
			if (may_use_scratch(g->r, k)) {
				taken.bits[k >> 6] |= 1ull << (k & 63);
			}
		}
	}
	for (unsigned n = 0; n < g->n_groups; n++) {
		bool free = g->group[n].n > 1;

		for (unsigned w = 0; w < REGION_INSNS / 64; w++) {
			free &= !(ways[n].bits[w] & taken.bits[w]);
		}
		for (unsigned w = 0; w < REGION_INSNS / 64 && free; w++) {
			taken.bits[w] |= ways[n].bits[w];
		}
		g->group[n].in_scratch = free;
	}
}

/* Which half of its group has an access where the page ends at `end`; -1: it lies over that. */
static int half_of(const struct access *a, int32_t end)
{
	return a->end <= end ? 0 : a->at >= end ? 1 : -1;
}

/* a, of a group that is split, is of that half now; NULL: of none. */
static void move(struct access *a, struct group *half, bool checked)
{
	a->leads = half && !checked && !half->n;
	a->group = half;
	if (half) {
		half->lo = half->lo < a->at ? half->lo : a->at;
		half->hi = half->hi > a->end ? half->hi : a->end;
		half->write |= a->write;
		half->n++;
	}
}

/* For which other ends of the page a would be of the same half. */
static void bound(struct rest *rest, const struct access *a, int32_t end, int32_t lead_at)
{
	int half = half_of(a, end);
	int32_t least = half < 0 ? a->at + 1 : half == 0 ? a->end : INT32_MIN;
	int32_t most = half < 0 ? a->end - 1 : half == 1 ? a->at : INT32_MAX;

	if (least != INT32_MIN && least - lead_at > rest->least) {
		rest->least = least - lead_at;
	}
	if (most != INT32_MAX && most - lead_at < rest->most) {
		rest->most = most - lead_at;
	}
}

/* The group that b's first instruction leads, where its page ends. The lower half is checked. */
static void split(struct generate *g, const struct block *b, struct rest *rest)
{
	const struct access *lead =
		rest->stack ? &g->access[b->first].stack : &g->access[b->first].operand;
	struct group *whole = lead->group, *half[2];
	int32_t lead_at = lead->at, end = lead_at + rest->end;

	rest->least = INT32_MIN;
	rest->most = INT32_MAX;
	if (!whole || !lead->leads || g->n_groups >= VCPU_GROUPS) {
		return;
	}
	half[0] = whole;
	half[1] = &g->group[g->n_groups];
	*half[0] = (struct group){.lo = INT32_MAX, .hi = INT32_MIN, .slot = whole->slot};
	*half[1] = (struct group){.lo = INT32_MAX, .hi = INT32_MIN, .slot = g->n_groups++};
	for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
		struct access *of[2] = {&g->access[k].operand, &g->access[k].stack};

		for (unsigned n = 0; n < 2; n++) {
			if (of[n]->group == whole) {
				int to = half_of(of[n], end);

				bound(rest, of[n], end, lead_at);
				move(of[n], to < 0 ? NULL : half[to], to == 0);
			}
		}
	}
	if (half[0]->n) {
		half[0]->n++; /* where the block is entered */
		g->checked = half[0];
		g->checked_at = half[0]->lo - (lead_at - rest->lead_off);
	}
}

static void find_in_block(struct tracker *t)
{
	const struct block *b = &t->g->r->block[t->block];

	for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
		operand(t, k);
		if (!stack(t, k)) {
			writes(t, k);
		}
	}
}

void groups_find(struct generate *g)
{
	static _Thread_local struct tracker behind[REGION_BLOCKS + 1]; /* each block */

	g->n_groups = 0;
	g->checked = NULL;
	memset(g->access, 0, g->r->n_insns * sizeof(g->access[0]));
	if (g->r->rest && !g->r->rest->split) {
		return;
	}
	for (unsigned n = 0; n < g->n_order; n++) {
		unsigned block = g->order[n];
		int from = g->r->block[block].continues;
		struct tracker *t = &behind[block];

		if (from >= 0) {
			*t = behind[from];
		} else {
			*t = (struct tracker){.g = g};
			forget_all(t);
		}
		t->block = (uint16_t)block;
		find_in_block(t);
	}
	if (g->r->rest) {
		split(g, &g->r->block[g->order[0]], g->r->rest);
	}
	if (!g->r->loop || !g->count_in_scratch) {
		give_scratch(g);
	}
}
