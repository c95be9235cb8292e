/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions on general registers: mostly the guest's own, with its registers and memory operand
 * replaced. RAX and RCX are free for each instruction, SCRATCH too.
 */
#include "translate/generate.h"

/* AH, CH, DH or BH? */
static bool is_high(const struct insn *i, unsigned reg, unsigned size)
{
	return size == 1 && !(i->flags & INSN_REX) && reg >= 4 && reg < 8;
}

static void emit_imm(struct generate *g, const struct insn *i)
{
	emit_bytes(&g->e, &i->imm, i->imm_len);
}

/* Instruction i without its operands. */
static struct op op_of(const struct generate *g, const struct insn *i, const struct form *f)
{
	struct op op = {
		.map = i->map,
		.opcode = i->opcode,
		.lock = (i->flags & INSN_LOCK) && !g->x->one_cpu,
		.w = f->reg_size == 8 || f->rm_size == 8,
		.byte_reg = f->reg && f->reg_size == 1,
		.byte_rm = f->rm && f->rm_size == 1,
		.opsize = f->reg_size == 2 || f->rm_size == 2,
	};
	bool mandatory = (i->map == MAP_0F && (i->opcode == 0xb8 || (i->opcode & 0xfe) == 0xbc)) ||
			 (i->map == MAP_0F38);

	if (i->map == MAP_1 && i->opcode == 0x82) {
		op.opcode = 0x80; /* its other name in 32-bit code */
	}
	/* MOVZX and MOVSX from 16 bits, MOVSXD from 32. */
	if (i->map == MAP_0F && (i->opcode & 0xf7) == 0xb7) {
		op.opsize = f->reg_size == 2;
	}
	if (mandatory) {
		op.prefix = i->flags & INSN_REPNE ? 0xf2 : i->flags & INSN_REP ? 0xf3 : 0;
	}
	if (i->map == MAP_0F38 && i->opcode == 0xf6 && !op.prefix) {
		op.prefix = 0x66;
	}
	return op;
}

/* -- operands named by ModRM -- */

/* Both byte operands in RAX and RCX, where AH and CH can be named. */
static void modrm_high(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	struct op op = op_of(g, i, f);
	unsigned reg = i->modrm >> 3 & 7, reg_guest = i->reg, rm_guest = i->rm;
	bool reg_high = is_high(i, i->reg, f->reg_size), mem = i->mod != 3;
	bool rm_high = !mem && is_high(i, i->rm, f->rm_size);
	struct rm rm;

	reg_guest -= reg_high ? 4 : 0;
	rm_guest -= rm_high ? 4 : 0;
	op.byte_reg = op.byte_rm = false;
	if (mem) {
		rm = generate_operand(g, k, 1, f->rm & ROLE_W);
	} else {
		if (g->r->use[k].reads || g->r->use[k].touches) {
			generate_want_flags(g);
		}
		generate_copy(g, RAX, rm_guest);
		rm = rm_reg(rm_high ? 4 : 0);
	}
	if (f->reg) {
		bool same = !mem && reg_guest == rm_guest;

		if (!same) {
			generate_copy(g, RCX, reg_guest);
		}
		reg = (same ? RAX : RCX) + (reg_high ? 4 : 0);
	}
	emit_op(&g->e, op, reg, rm);
	emit_imm(g, i);
	if (f->reg & ROLE_W && reg != 0 && reg != 4) {
		generate_copy_back(g, reg_guest, RCX);
	}
	if (!mem && (f->rm & ROLE_W || (f->reg & ROLE_W && (reg == 0 || reg == 4)))) {
		generate_copy_back(g, rm_guest, RAX);
	}
}

/* MOVZX, MOVSX from AH..BH to 32 or 64 bits. */
static void extend_high(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned to = generate_get(g, i->reg, RCX, false);

	generate_copy(g, RAX, i->rm - 4);
	emit_op(&g->e, (struct op){.map = MAP_0F, .opcode = i->opcode}, RAX, rm_reg(4));
	if (i->opcode == 0xbe && i->opsize == 8) {
		emit_alu(&g->e, 0x63, 8, to, rm_reg(RAX));
	} else {
		emit_mov32(&g->e, to, RAX);
	}
	generate_put(g, i->reg, to);
}

/* XCHG with memory asserts LOCK by itself; a machine of one CPU needs none. */
static void exchange(struct generate *g, unsigned k, struct rm at)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	struct op load = {.opcode = f->rm_size == 1 ? 0x8a : 0x8b,
			  .w = f->rm_size == 8,
			  .byte_reg = f->rm_size == 1,
			  .byte_rm = f->rm_size == 1,
			  .prefix = f->rm_size == 2 ? 0x66 : 0};
	struct op store = load;
	unsigned reg;

	store.opcode -= 2;
	emit_op(&g->e, load, RCX, at);
	reg = generate_get(g, i->reg, SCRATCH, true);
	emit_op(&g->e, store, reg, at);
	emit_op(&g->e, load, reg, rm_reg(RCX));
	generate_put(g, i->reg, reg);
}

/* ModRM.rm as a register of the host; *back: to be stored afterwards. */
static struct rm rm_register(struct generate *g, unsigned k, bool *back)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	bool bit_string = i->map == MAP_0F && i->opcode == 0xa3;

	*back = false;
	if (generate_resident(g, i->rm)) {
		return rm_reg(g->host[i->rm]);
	}
	if (!(f->rm & ROLE_W) && !bit_string) {
		return generate_gpr(i->rm);
	}
	if (f->rm & ROLE_R || f->rm_size < 4) {
		generate_copy(g, RAX, i->rm);
	}
	*back = f->rm & ROLE_W;
	return rm_reg(RAX);
}

/*
 * Register to register where one of them is in vcpu.gpr: with that as the memory operand, the other
 * as the register, if the instruction has such a form.
 */
static bool modrm_in_place(struct generate *g, unsigned k, struct op op)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	bool alu = i->map == MAP_1 && i->opcode < 0x40;
	bool mov = i->map == MAP_1 && (i->opcode & 0xfc) == 0x88;
	unsigned to_reg = i->opcode & 2; /* of alu and mov: the destination is `reg` */
	unsigned to = to_reg ? i->reg : i->rm, from = to_reg ? i->rm : i->reg;
	/* 32-bit results clear what is above them. */
	bool writes = (f->reg | f->rm) & ROLE_W && !(f->reg && generate_resident(g, to));

	if (i->map == MAP_1 && (i->opcode == 0x31 || i->opcode == 0x33) && i->reg == i->rm &&
	    f->rm_size >= 4 && !generate_resident(g, to)) { /* becomes 0 */
		emit_op(&g->e, op, RAX, rm_reg(RAX));
		generate_copy_back(g, to, RAX);
		return true;
	}
	if (f->rm_size != 8 && (f->rm_size != 4 || writes)) {
		return false;
	}
	if (!f->reg) { /* by itself or with an immediate */
		if (i->map != MAP_1 || generate_resident(g, i->rm)) {
			return false;
		}
		emit_op(&g->e, op, i->modrm >> 3 & 7, generate_gpr(i->rm));
		return true;
	}
	if ((!alu && !mov) || f->reg_size != f->rm_size ||
	    generate_resident(g, to) == generate_resident(g, from)) {
		return false;
	}
	op.opcode = (uint8_t)(generate_resident(g, to) ? op.opcode | 2 : op.opcode & ~2);
	emit_op(&g->e, op, g->host[generate_resident(g, to) ? to : from],
		generate_gpr(generate_resident(g, to) ? from : to));
	return true;
}

static void modrm(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	struct op op = op_of(g, i, f);
	bool mem = i->mod != 3, back = false;
	unsigned reg = i->modrm >> 3 & 7, scratch = RCX;
	struct rm rm;

	if (is_high(i, i->rm, f->rm_size) && !mem && f->reg && f->reg_size != 1) {
		extend_high(g, k);
		return;
	}
	if ((f->reg && is_high(i, i->reg, f->reg_size)) ||
	    (f->rm && !mem && is_high(i, i->rm, f->rm_size))) {
		modrm_high(g, k);
		return;
	}
	if (mem) {
		rm = generate_operand(g, k, f->rm_size, f->rm & ROLE_W);
		scratch = rm.reg == RCX ? SCRATCH : RCX;
		if (i->map == MAP_1 && (i->opcode & 0xfe) == 0x86 && g->x->one_cpu) {
			exchange(g, k, rm);
			return;
		}
	} else {
		if (g->r->use[k].reads || g->r->use[k].touches) {
			generate_want_flags(g);
		}
		if (modrm_in_place(g, k, op)) {
			emit_imm(g, i);
			return;
		}
		rm = rm_register(g, k, &back);
	}
	if (f->reg) {
		bool load = f->reg & ROLE_R || f->reg_size < 4;

		reg = generate_get(g, i->reg, scratch, load);
	}
	g->r->in_host[k] = g->in_host;
	emit_op(&g->e, op, reg, rm);
	emit_imm(g, i);
	if (f->reg & ROLE_W) {
		generate_put(g, i->reg, reg);
	}
	if (back) {
		generate_put(g, i->rm, RAX);
	}
}

/* INC and DEC of 32-bit code's one-byte form. */
static void inc_short(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned reg;

	generate_want_flags(g);
	reg = generate_get(g, i->rm, RCX, true);
	emit_op(&g->e, (struct op){.opcode = 0xff, .prefix = i->opsize == 2 ? 0x66 : 0},
		i->opcode >> 3 & 1, rm_reg(reg));
	generate_put(g, i->rm, reg);
}

/* -- rAX and others implied -- */

static void ax_imm(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = g->r->form[k].reg_size;
	bool test = i->opcode >= 0xa8;
	struct op op = {.opcode = (test ? 0xf6 : 0x80) | (size != 1),
			.byte_rm = size == 1,
			.w = size == 8,
			.prefix = size == 2 ? 0x66 : 0};
	unsigned ext = test ? 0 : i->opcode >> 3;

	generate_want_flags(g);
	if (!test && size != 1 && (int64_t)i->imm == (int8_t)i->imm) {
		op.opcode = 0x83;
		emit_op(&g->e, op, ext, rm_reg(register_host[RAX]));
		emit8(&g->e, (uint8_t)i->imm);
		return;
	}
	emit_op(&g->e, op, ext, rm_reg(register_host[RAX]));
	emit_imm(g, i);
}

/* Memory operands of those that use RAX are reached through `to`. */
static struct rm operand_in(struct generate *g, unsigned k, unsigned to)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];

	if (i->mod == 3) {
		generate_want_flags(g);
		return generate_source(g, i->rm);
	}
	return generate_operand_at(g, k, f->rm_size, f->rm & ROLE_W, to);
}

static void multiply(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	struct rm rm = operand_in(g, k, RCX);

	generate_copy(g, RAX, RAX);
	if (i->mod == 3 && i->rm == RAX) {
		rm = rm_reg(RAX);
	}
	g->r->in_host[k] = g->in_host;
	emit_op(&g->e, op_of(g, i, &g->r->form[k]), i->modrm >> 3 & 7, rm);
	generate_copy_back(g, RAX, RAX);
}

static void shift_cl(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	struct op op = op_of(g, i, f);
	unsigned reg = i->modrm >> 3 & 7, guest = i->rm;
	bool high = i->mod == 3 && is_high(i, i->rm, f->rm_size), back = false;
	struct rm rm;

	if (i->mod != 3) {
		rm = operand_in(g, k, SCRATCH);
	} else {
		generate_want_flags(g);
		guest -= high ? 4 : 0;
		rm = rm_reg(g->host[guest]);
		if (high || !generate_resident(g, guest)) {
			generate_copy(g, RAX, guest);
			rm = rm_reg(high ? 4 : 0);
			back = true;
		}
	}
	if (high) {
		op.byte_rm = false;
	}
	if (f->reg) {
		reg = generate_get(g, i->reg, SCRATCH, true);
	}
	generate_copy(g, RCX, RCX);
	emit_op(&g->e, op, reg, rm);
	if (back) {
		generate_copy_back(g, guest, RAX);
	}
}

static void compare_exchange(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	struct op op = op_of(g, i, &g->r->form[k]);
	bool back = false;
	unsigned reg;
	struct rm rm;

	if (i->mod != 3) {
		rm = operand_in(g, k, RCX);
	} else {
		rm = rm_reg(generate_get(g, i->rm, RCX, true));
		back = true;
	}
	reg = generate_get(g, i->reg, SCRATCH, true);
	generate_copy(g, RAX, RAX);
	emit_op(&g->e, op, reg, rm);
	generate_copy_back(g, RAX, RAX);
	if (back) {
		generate_put(g, i->rm, rm.reg);
	}
}

static void compare_exchange_wide(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	struct rm rm = operand_in(g, k, SCRATCH);

	generate_copy(g, RAX, RAX);
	generate_copy(g, RCX, RCX);
	g->r->in_host[k] = g->in_host;
	emit_op(&g->e,
		(struct op){.map = MAP_0F,
			    .opcode = 0xc7,
			    .w = g->r->form[k].rm_size == 16,
			    .lock = (i->flags & INSN_LOCK) && !g->x->one_cpu},
		1, rm);
	generate_copy_back(g, RAX, RAX);
}

static void exchange_ax(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned reg = generate_get(g, i->rm, RCX, true);

	emit_op(&g->e,
		(struct op){.opcode = 0x87,
			    .w = i->opsize == 8,
			    .prefix = i->opsize == 2 ? 0x66 : 0},
		register_host[RAX], rm_reg(reg));
	generate_put(g, i->rm, reg);
}

static void extend_ax(struct generate *g, unsigned size)
{
	unsigned ax = register_host[RAX];

	if (size == 8) {
		emit_alu(&g->e, 0x63, 8, ax, rm_reg(ax));
	} else if (size == 4) {
		emit_op(&g->e, (struct op){.map = MAP_0F, .opcode = 0xbf}, ax, rm_reg(ax));
	} else {
		emit_op(&g->e,
			(struct op){.map = MAP_0F, .opcode = 0xbe, .prefix = 0x66, .byte_rm = true},
			ax, rm_reg(ax));
	}
}

static void extend_dx(struct generate *g, unsigned size)
{
	generate_copy(g, RAX, RAX);
	if (size != 4) {
		emit8(&g->e, size == 8 ? 0x48 : 0x66);
	}
	emit8(&g->e, 0x99);
}

/* -- moves -- */

/* The low 16 bits of a guest register := those of RAX. */
static void put_16(struct generate *g, unsigned guest)
{
	unsigned reg = generate_get(g, guest, RCX, true);

	emit_op(&g->e, (struct op){.opcode = 0x89, .prefix = 0x66}, RAX, rm_reg(reg));
	generate_put(g, guest, reg);
}

static void move_imm(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = g->r->form[k].reg_size;
	bool high = is_high(i, i->rm, size);
	unsigned guest = i->rm - (high ? 4 : 0), reg;

	if (size >= 4) {
		reg = generate_get(g, guest, RAX, false);
		emit_const(&g->e, reg, size == 4 ? (uint32_t)i->imm : i->imm);
		generate_put(g, guest, reg);
		return;
	}
	if (high) {
		generate_copy(g, RAX, guest);
		emit8(&g->e, 0xb4);
		emit8(&g->e, (uint8_t)i->imm);
		generate_copy_back(g, guest, RAX);
		return;
	}
	reg = generate_get(g, guest, RAX, true);
	emit_op(&g->e,
		(struct op){.opcode = size == 1 ? 0xc6 : 0xc7,
			    .prefix = size == 2 ? 0x66 : 0,
			    .byte_rm = size == 1},
		0, rm_reg(reg));
	emit_bytes(&g->e, &i->imm, size);
	generate_put(g, guest, reg);
}

static void load_address(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned reg;

	if (i->opsize == 2) {
		generate_offset_of(g, k, RAX, 4);
		put_16(g, i->reg);
		return;
	}
	reg = generate_get(g, i->reg, RAX, false);
	generate_offset_of(g, k, reg, i->opsize < i->addrsize ? i->opsize : i->addrsize);
	generate_put(g, i->reg, reg);
}

static void byte_swap(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned reg = generate_get(g, i->rm, RCX, true);

	emit8(&g->e, 0x40 | (i->opsize == 8) << 3 | reg >> 3);
	emit8(&g->e, 0x0f);
	emit8(&g->e, 0xc8 | (reg & 7));
	generate_put(g, i->rm, reg);
}

/* -- flags by themselves -- */

static void flag(struct generate *g, unsigned k)
{
	generate_want_flags(g);
	emit8(&g->e, g->r->insn[k].opcode);
}

static void ah_flags(struct generate *g, unsigned k)
{
	generate_want_flags(g);
	generate_copy(g, RAX, RAX);
	emit8(&g->e, g->r->insn[k].opcode);
	if (g->r->form[k].kind == FORM_LAHF) {
		generate_copy_back(g, RAX, RAX);
	}
}

/* -- three registers: BMI1, BMI2 -- */

static void vex_gpr(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	const struct form *f = &g->r->form[k];
	bool group = i->map == MAP_0F38 && i->opcode == 0xf3; /* BLSR, BLSMSK, BLSI */
	bool mulx = i->map == MAP_0F38 && i->opcode == 0xf6, rorx = i->map == MAP_0F3A;
	struct op op = {.vex = true,
			.map = i->map,
			.opcode = i->opcode,
			.w = i->opsize == 8,
			.prefix = i->flags & INSN_REPNE	   ? 0xf2
				  : i->flags & INSN_REP	   ? 0xf3
				  : i->flags & INSN_OPSIZE ? 0x66
							   : 0};
	unsigned reg = i->modrm >> 3 & 7, vvvv = 0;
	struct rm rm;

	if (i->mod != 3) {
		rm = generate_operand(g, k, f->rm_size, false);
	} else {
		if (g->r->use[k].touches) {
			generate_want_flags(g);
		}
		rm = generate_source(g, i->rm);
	}
	if (!group) {
		reg = generate_get(g, i->reg, rm.mem && rm.reg == RCX ? RAX : RCX, false);
	}
	if (!rorx) {
		vvvv = generate_get(g, i->vvvv, SCRATCH, !group && !mulx);
	}
	op.vvvv = vvvv;
	emit_op(&g->e, op, reg, rm);
	emit_imm(g, i);
	if (group || mulx) {
		generate_put(g, i->vvvv, vvvv);
	}
	if (!group) {
		generate_put(g, i->reg, reg);
	}
}

void generate_integer(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];

	switch (g->r->form[k].kind) {
	case FORM_MODRM:
		if (i->map == MAP_1 && (i->opcode & 0xf0) == 0x40) {
			inc_short(g, k);
		} else {
			modrm(g, k);
		}
		break;
	case FORM_VEX_GPR: vex_gpr(g, k); break;
	case FORM_AX_IMM: ax_imm(g, k); break;
	case FORM_SHIFT_CL: shift_cl(g, k); break;
	case FORM_MULTIPLY: multiply(g, k); break;
	case FORM_CMPXCHG: compare_exchange(g, k); break;
	case FORM_CMPXCHG_WIDE: compare_exchange_wide(g, k); break;
	case FORM_XCHG_AX: exchange_ax(g, k); break;
	case FORM_MOV_IMM: move_imm(g, k); break;
	case FORM_LEA: load_address(g, k); break;
	case FORM_EXTEND_AX: extend_ax(g, i->opsize); break;
	case FORM_EXTEND_DX: extend_dx(g, i->opsize); break;
	case FORM_BSWAP: byte_swap(g, k); break;
	case FORM_FLAG: flag(g, k); break;
	case FORM_LAHF:
	case FORM_SAHF: ah_flags(g, k); break;
	case FORM_PUSH: generate_push(g, k); break;
	case FORM_POP: generate_pop(g, k); break;
	case FORM_LEAVE: generate_leave_frame(g, k); break;
	default: break; /* NOP */
	}
}
