/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PUSH, POP, LEAVE, and guest RSP: pushes and pops whose pages one check covers move it once, all
 * together.
 */
#include "translate/generate.h"

void generate_move_stack(struct generate *g, int by)
{
	g->stack_moved += by;
}

void generate_settle_stack(struct generate *g)
{
	unsigned sp = register_host[RSP];

	if (g->stack_moved) {
		emit_lea(&g->e, g->stack_size, sp, rm_mem(sp, g->stack_moved));
		g->stack_moved = 0;
	}
}

static bool follows(const struct access *a)
{
	return is_grouped(a) && !a->leads;
}

bool generate_may_stay_moved(const struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	enum form_kind kind = g->r->form[k].kind;

	if (kind == FORM_PUSH && i->flags & INSN_MODRM && i->mod != 3) {
		return false;
	}
	return (kind != FORM_PUSH && kind != FORM_POP) || is_grouped(&g->access[k].stack);
}

bool generate_may_move_stack(const struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	bool mem = i->flags & INSN_MODRM && i->mod != 3;

	switch (f->kind) {
	case FORM_PUSH:
		return follows(&g->access[k].stack) && !mem &&
		       (i->opcode == 0x68 || i->opcode == 0x6a || i->rm != RSP);
	case FORM_POP: return follows(&g->access[k].stack) && i->rm != RSP;
	case FORM_CALL:
	case FORM_RET: return follows(&g->access[k].stack);
	case FORM_CALL_RM: return generate_keeps_target(i) && follows(&g->access[k].stack);
	case FORM_MODRM:
		if (i->reg == RSP || (mem ? !follows(&g->access[k].operand) : i->rm == RSP)) {
			return false;
		}
		return i->flags & INSN_MODRM;
	case FORM_MOV_IMM: return i->rm != RSP;
	case FORM_NOP: return true;
	}
	return false;
}

/* -- instructions -- */

void generate_push(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = g->stack_size, reg;
	struct rm to;

	if (i->opcode == 0x68 || i->opcode == 0x6a) {
		to = generate_stack(g, k, -(int)size, true);
		emit_alu(&g->e, 0xc7, size, 0, to);
		emit32(&g->e, (uint32_t)i->imm);
	} else {
		if (i->opcode == 0xff && i->mod != 3) {
			emit_load(&g->e, size, SCRATCH, generate_operand(g, k, size, false));
			to = generate_stack(g, k, -(int)size, true);
			reg = SCRATCH;
		} else {
			to = generate_stack(g, k, -(int)size, true);
			reg = generate_get(g, i->rm, RCX, true);
		}
		emit_store(&g->e, size, reg, to);
	}
	generate_move_stack(g, -(int)size);
}

void generate_pop(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	struct rm from = generate_stack(g, k, 0, false);
	unsigned reg = generate_get(g, i->rm, RCX, false);

	emit_load(&g->e, g->stack_size, reg, from);
	generate_put(g, i->rm, reg);
	if (i->rm != RSP) {
		generate_move_stack(g, (int)g->stack_size);
	}
}

void generate_leave_frame(struct generate *g, unsigned k)
{
	struct rm from = generate_stack(g, k, 0, false);
	unsigned bp = register_host[RBP];

	emit_lea(&g->e, g->stack_size, register_host[RSP], rm_mem(bp, (int)g->stack_size));
	emit_load(&g->e, g->stack_size, bp, from);
}
