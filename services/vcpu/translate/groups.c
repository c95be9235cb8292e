/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which memory operands of a block share one check. Accesses at fixed distances from one value of
 * a register (structures, stack frames, pushes and pops) form a group: the first checks the bytes
 * of all of them and keeps the host address in vcpu.group, the others only load that. Where the
 * check fails (a page's end, I/O, a page that cannot be written yet) the rest of the block goes on
 * in a plain copy of itself.
 */
#include "translate/generate.h"

enum { REACH = 192 }; /* bytes that a group may span: more would cross pages more often */

/* What a register holds: a value that had no name before, and a distance from it. */
struct value {
	uint16_t root;
	int32_t off;
};

struct tracker {
	struct generate *g;
	struct value reg[16];
	uint16_t n_roots;
	struct group *open[GENERATE_GROUPS]; /* by order */
	uint16_t root[GENERATE_GROUPS];
	unsigned n_open;
};

static void fresh(struct tracker *t, unsigned reg)
{
	t->reg[reg] = (struct value){t->n_roots++, 0};
}

static void forget_all(struct tracker *t)
{
	for (unsigned r = 0; r < 16; r++) {
		fresh(t, r);
	}
}

static void join(struct tracker *t, struct access *a, const struct value *v, int32_t disp,
		 unsigned size, bool write)
{
	struct generate *g = t->g;
	int32_t lo = v->off + disp, hi = lo + (int32_t)size;
	struct group *group = NULL;

	for (unsigned n = t->n_open; n-- > 0 && !group;) {
		if (t->root[n] == v->root) {
			group = t->open[n];
		}
	}
	if (group) {
		int32_t low = lo < group->lo ? lo : group->lo;
		int32_t high = hi > group->hi ? hi : group->hi;

		if (high - low > REACH) {
			group = NULL;
		} else {
			group->lo = low;
			group->hi = high;
		}
	}
	if (!group) {
		if (g->n_groups == GENERATE_GROUPS) {
			return;
		}
		group = &g->group[g->n_groups++];
		*group = (struct group){.lo = lo, .hi = hi};
		t->open[t->n_open] = group;
		t->root[t->n_open++] = v->root;
		a->leads = true;
	}
	group->write |= write;
	group->n++;
	a->group = group;
	a->at = lo;
}

/* A memory operand named by ModRM: base and displacement alone, full address size. */
static void operand(struct tracker *t, unsigned k)
{
	const struct insn *i = &t->g->r->insn[k];
	const struct form *f = &t->g->r->form[k];

	if (!(i->flags & INSN_MODRM) || i->mod == 3 || !f->rm || !f->rm_size ||
	    i->base == REG_NONE || i->index != REG_NONE || i->seg >= SEG_FS ||
	    i->addrsize != t->g->stack_size || i->disp != (int16_t)i->disp) {
		return;
	}
	join(t, &t->g->access[k].operand, &t->reg[i->base], (int32_t)i->disp, f->rm_size,
	     f->rm & ROLE_W);
}

static void stack(struct tracker *t, unsigned k)
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
	case FORM_SYSTEM: /* PUSHF, POPF */
		if (i->opcode == 0x9c) {
			join(t, a, sp, -size, (unsigned)size, true);
			sp->off -= size;
		} else {
			join(t, a, sp, 0, (unsigned)size, false);
			sp->off += size;
		}
		break;
	case FORM_LEAVE:
		join(t, a, &t->reg[RBP], 0, (unsigned)size, false);
		*sp = t->reg[RBP];
		sp->off += size;
		fresh(t, RBP);
		break;
	}
}

/* ADD and SUB of an immediate, INC and DEC, to a whole register. */
static bool steps(const struct generate *g, const struct insn *i, int32_t *by)
{
	unsigned op = i->modrm >> 3 & 7;

	if (i->map != MAP_1 || i->mod != 3 || i->opsize != g->stack_size) {
		return false;
	}
	if ((i->opcode == 0x81 || i->opcode == 0x83) && (op == ALU_ADD || op == ALU_SUB) &&
	    (int64_t)i->imm == (int16_t)i->imm) {
		*by = op == ALU_ADD ? (int16_t)i->imm : -(int16_t)i->imm;
		return true;
	}
	if (i->opcode == 0xff && op < 2) {
		*by = op ? -1 : 1;
		return true;
	}
	return false;
}

static bool copies(const struct generate *g, const struct insn *i, unsigned *to, unsigned *from)
{
	if (i->map != MAP_1 || i->mod != 3 || i->opsize != g->stack_size ||
	    (i->opcode != 0x89 && i->opcode != 0x8b)) {
		return false;
	}
	*to = i->opcode == 0x89 ? i->rm : i->reg;
	*from = i->opcode == 0x89 ? i->reg : i->rm;
	return true;
}

/* The guest register that a ModRM operand of `size` bytes names. */
static unsigned named(const struct insn *i, unsigned reg, unsigned size)
{
	return size == 1 && !(i->flags & INSN_REX) && reg >= 4 && reg < 8 ? reg - 4 : reg;
}

static void modrm_writes(struct tracker *t, unsigned k)
{
	const struct insn *i = &t->g->r->insn[k];
	const struct form *f = &t->g->r->form[k];
	unsigned to, from;
	int32_t by;

	if (i->map == MAP_1 && (i->opcode & 0xf0) == 0x40) {
		fresh(t, i->rm);
		return;
	}
	if (copies(t->g, i, &to, &from)) {
		t->reg[to] = t->reg[from];
		return;
	}
	if (steps(t->g, i, &by)) {
		t->reg[i->rm].off += by;
		return;
	}
	if (f->reg & ROLE_W) {
		fresh(t, named(i, i->reg, f->reg_size));
	}
	if (f->rm & ROLE_W && i->mod == 3) {
		fresh(t, named(i, i->rm, f->rm_size));
	}
}

static void lea_writes(struct tracker *t, unsigned k)
{
	const struct insn *i = &t->g->r->insn[k];

	if (i->base != REG_NONE && i->index == REG_NONE && i->opsize == t->g->stack_size &&
	    i->addrsize == i->opsize && i->disp == (int16_t)i->disp) {
		t->reg[i->reg] = (struct value){t->reg[i->base].root,
						t->reg[i->base].off + (int32_t)i->disp};
	} else {
		fresh(t, i->reg);
	}
}

/* Those that the interpreter may be asked for do not change what memory is where, or leave. */
static void system_writes(struct tracker *t, unsigned k)
{
	const struct insn *i = &t->g->r->insn[k];

	if (i->map == MAP_1 && (i->opcode == 0x9c || i->opcode == 0x9d)) {
		stack(t, k);
	} else if (i->map == MAP_0F && (i->opcode == 0x01 || i->opcode == 0x31)) {
		fresh(t, RAX); /* RDTSC, RDTSCP */
		fresh(t, RCX);
		fresh(t, RDX);
	} else if (i->mod == 3 && i->flags & INSN_MODRM) {
		fresh(t, i->rm);
	}
}

/* What instruction k does to registers. */
static void writes(struct tracker *t, unsigned k)
{
	const struct insn *i = &t->g->r->insn[k];

	switch (t->g->r->form[k].kind) {
	case FORM_SYSTEM: system_writes(t, k); break;
	case FORM_MODRM: modrm_writes(t, k); break;
	case FORM_LEA: lea_writes(t, k); break;
	case FORM_PUSH:
	case FORM_POP:
	case FORM_LEAVE:
	case FORM_CALL:
	case FORM_CALL_RM:
	case FORM_RET: stack(t, k); break;
	case FORM_NOP:
	case FORM_FLAG:
	case FORM_SAHF:
	case FORM_X87:
	case FORM_JCC:
	case FORM_JMP:
	case FORM_JMP_RM: break;
	case FORM_SIMD:
		fresh(t, i->reg);
		fresh(t, i->rm & 15);
		break;
	case FORM_AX_IMM:
	case FORM_EXTEND_AX:
	case FORM_LAHF: fresh(t, RAX); break;
	case FORM_EXTEND_DX: fresh(t, RDX); break;
	case FORM_BSWAP: fresh(t, i->rm); break;
	case FORM_MOV_IMM: fresh(t, named(i, i->rm, t->g->r->form[k].reg_size)); break;
	case FORM_SHIFT_CL:
		if (i->mod == 3) {
			fresh(t, named(i, i->rm, t->g->r->form[k].rm_size));
		}
		break;
	case FORM_MULTIPLY:
		fresh(t, RAX);
		fresh(t, RDX);
		break;
	default: /* the interpreter may do anything to memory as well */ forget_all(t); break;
	}
}

void groups_find(struct generate *g, const struct block *b)
{
	struct tracker t = {.g = g};

	g->n_groups = 0;
	memset(&g->access[b->first], 0, b->n * sizeof(g->access[0]));
	if (g->r->plain) {
		return;
	}
	forget_all(&t);
	for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
		operand(&t, k);
		writes(&t, k);
	}
}
