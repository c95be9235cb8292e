/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector and x87 instructions: the guest's registers are the host's, so they run as they are but
 * for general registers and the memory operand. Alignment faults come from the host.
 */
#include "execute/simd_operands.h"
#include "translate/generate.h"

static uint8_t prefix_of(const struct insn *i)
{
	if (i->flags & INSN_REPNE) {
		return 0xf2;
	}
	if (i->flags & INSN_REP) {
		return 0xf3;
	}
	return i->flags & INSN_OPSIZE ? 0x66 : 0;
}

/* The immediate; where it names a register, 32-bit code has only eight. */
static uint64_t immediate(const struct generate *g, const struct insn *i)
{
	bool is4 =
		i->flags & INSN_VEX && i->map == MAP_0F3A && i->opcode >= 0x4a && i->opcode <= 0x4c;

	return is4 && !g->long_mode ? i->imm & 0x7f : i->imm;
}

/* EMMS, VZEROUPPER, VZEROALL. */
static void without_operands(struct emit *e, const struct insn *i)
{
	if (i->flags & INSN_VEX) {
		emit8(e, 0xc5);
		emit8(e, i->flags & INSN_VEX_L ? 0xfc : 0xf8);
	} else {
		emit8(e, 0x0f);
	}
	emit8(e, i->opcode);
}

static void simd(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	struct op op = {.prefix = prefix_of(i),
			.map = i->map,
			.opcode = i->opcode,
			.w = i->flags & INSN_REX_W,
			.vex = i->flags & INSN_VEX,
			.vex_l = i->flags & INSN_VEX_L,
			.vvvv = i->vvvv,
			.evex = i->flags & INSN_EVEX,
			.evex2 = i->evex};
	uint64_t imm = immediate(g, i);
	struct simd_operands o;
	unsigned reg = i->reg;
	struct rm rm = rm_reg(i->rm);

	if (!(i->flags & INSN_MODRM)) {
		without_operands(&g->e, i);
		return;
	}
	simd_operands(i, &o);
	if (i->mod != 3) {
		rm = generate_operand(g, k, f->rm_size, f->rm & ROLE_W);
	} else {
		if (o.flags) {
			generate_want_flags(g);
		}
		if (o.rm == 'g') {
			rm = rm_reg(generate_get(g, i->rm, RAX, true));
		} else if (o.rm == 'm') {
			rm = rm_reg(i->rm & 7);
		}
	}
	if (o.reg == 'g') {
		reg = generate_get(g, i->reg, RCX, true);
	} else if (o.reg == 'm') {
		reg &= 7;
	} else if (o.reg == 'e') {
		reg = i->modrm >> 3 & 7;
	}
	g->r->in_host[k] = g->in_host;
	emit_op(&g->e, op, reg, rm);
	emit_bytes(&g->e, &imm, i->imm_len);
	if (o.reg == 'g' && o.reg_write) {
		generate_put(g, i->reg, reg);
	}
	if (i->mod == 3 && o.rm == 'g' && o.rm_write) {
		generate_put(g, i->rm, rm.reg);
	}
}

/* PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI: lengths in rAX and rDX, an index to ECX. */
static void compare_strings(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	bool explicit = !(i->opcode & 2);
	struct op op = {.prefix = 0x66,
			.map = i->map,
			.opcode = i->opcode,
			.w = i->flags & INSN_REX_W,
			.vex = i->flags & INSN_VEX};
	struct rm rm = rm_reg(i->rm);

	if (i->mod != 3) {
		rm = generate_operand(g, k, 16, false);
		if (explicit) {
			emit_mov(&g->e, SCRATCH, rm.reg);
			rm.reg = SCRATCH;
		}
	}
	if (explicit) {
		generate_copy(g, RAX, RAX);
	}
	emit_op(&g->e, op, i->reg, rm);
	emit8(&g->e, (uint8_t)i->imm);
	if (i->opcode & 1) {
		generate_copy_back(g, RCX, RCX);
	}
}

static void x87(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];

	if (i->mod == 3) {
		if (g->r->use[k].reads || g->r->use[k].touches) {
			generate_want_flags(g);
		}
		emit8(&g->e, i->opcode);
		emit8(&g->e, i->modrm);
		return;
	}
	emit_op(&g->e, (struct op){.opcode = i->opcode}, i->modrm >> 3 & 7,
		generate_operand(g, k, f->rm_size, f->rm & ROLE_W));
}

void generate_vector(struct generate *g, unsigned k)
{
	if (g->r->form[k].kind == FORM_X87) {
		x87(g, k);
	} else if (g->r->form[k].kind == FORM_COMPARE_STRINGS) {
		compare_strings(g, k);
	} else {
		simd(g, k);
	}
}
