/* SPDX-License-Identifier: Apache-2.0 */
/* See emit.h. */
#include "translate/emit.h"

/* `scaled`: an 8-bit displacement would count in operands. */
static void emit_modrm(struct emit *e, unsigned reg, struct rm rm, bool scaled)
{
	unsigned r = (reg & 7) << 3;
	bool disp8 = rm.disp == (int8_t)rm.disp && !scaled;
	unsigned mod;

	if (!rm.mem) {
		emit8(e, 0xc0 | r | (rm.reg & 7));
		return;
	}
	if (rm.reg == REG_NONE || rm.reg == RM_VCPU) { /* [index << scale + disp32] or [disp32] */
		unsigned index = rm.index == REG_NONE ? RSP : rm.index & 7;

		emit8(e, r | 4);
		emit8(e, rm.scale << 6 | index << 3 | 5);
		emit32(e, (uint32_t)rm.disp + (rm.reg == RM_VCPU ? e->vcpu : 0));
		return;
	}
	mod = rm.disp == 0 && (rm.reg & 7) != RBP ? 0 : disp8 ? 0x40 : 0x80;
	if (rm.index != REG_NONE || (rm.reg & 7) == RSP) {
		unsigned index = rm.index == REG_NONE ? RSP : rm.index & 7;

		emit8(e, mod | r | 4);
		emit8(e, rm.scale << 6 | index << 3 | (rm.reg & 7));
	} else {
		emit8(e, mod | r | (rm.reg & 7));
	}
	if (mod == 0x40) {
		emit8(e, (uint8_t)rm.disp);
	} else if (mod == 0x80) {
		emit32(e, (uint32_t)rm.disp);
	}
}

static bool is_high(unsigned reg)
{
	return reg != REG_NONE && reg & 8;
}

static unsigned vex_pp(const struct op *op)
{
	return op->prefix == 0x66 ? 1 : op->prefix == 0xf3 ? 2 : op->prefix == 0xf2 ? 3 : 0;
}

static void emit_evex(struct emit *e, const struct op *op, unsigned reg, const struct rm *rm)
{
	bool x = rm->mem ? is_high(rm->index) : rm->reg & 16;

	emit8(e, 0x62);
	emit8(e, (reg & 8 ? 0 : 0x80) | (x ? 0 : 0x40) | (is_high(rm->reg) ? 0 : 0x20) |
			 (reg & 16 ? 0 : 0x10) | op->map);
	emit8(e, op->w << 7 | (~op->vvvv & 15) << 3 | 4 | vex_pp(op));
	emit8(e, op->evex2 | (op->vvvv & 16 ? 0 : 8));
}

static void emit_vex(struct emit *e, const struct op *op, unsigned reg, const struct rm *rm)
{
	unsigned pp = vex_pp(op);
	bool b = is_high(rm->reg), x = rm->mem && is_high(rm->index);

	if (op->map == MAP_0F && !op->w && !b && !x) {
		emit8(e, 0xc5);
		emit8(e, (is_high(reg) ? 0 : 0x80) | (~op->vvvv & 15) << 3 | op->vex_l << 2 | pp);
	} else {
		emit8(e, 0xc4);
		emit8(e, (is_high(reg) ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | op->map);
		emit8(e, op->w << 7 | (~op->vvvv & 15) << 3 | op->vex_l << 2 | pp);
	}
}

void emit_op(struct emit *e, struct op op, unsigned reg, struct rm rm)
{
	if (op.evex) {
		emit_evex(e, &op, reg, &rm);
	} else if (op.vex) {
		emit_vex(e, &op, reg, &rm);
	} else {
		unsigned rex = op.w << 3 | is_high(reg) << 2 | is_high(rm.reg);

		if (rm.mem && is_high(rm.index)) {
			rex |= 2;
		}
		if ((op.byte_reg && reg >= 4) || (op.byte_rm && !rm.mem && rm.reg >= 4)) {
			rex |= 0x40;
		}
		if (op.lock) {
			emit8(e, 0xf0);
		}
		if (op.opsize) {
			emit8(e, 0x66);
		}
		if (op.prefix) {
			emit8(e, op.prefix);
		}
		if (rex) {
			emit8(e, 0x40 | rex);
		}
		if (op.map != MAP_1) {
			emit8(e, 0x0f);
		}
		if (op.map > MAP_0F) {
			emit8(e, op.map == MAP_0F38 ? 0x38 : 0x3a);
		}
	}
	emit8(e, op.opcode);
	emit_modrm(e, reg, rm, op.evex && rm.disp);
}

void emit_alu_imm(struct emit *e, enum alu_op op, unsigned size, struct rm rm, int32_t imm)
{
	if (imm == (int8_t)imm) {
		emit_alu(e, 0x83, size, op, rm);
		emit8(e, (uint8_t)imm);
	} else {
		emit_alu(e, 0x81, size, op, rm);
		emit32(e, (uint32_t)imm);
	}
}

void emit_const(struct emit *e, unsigned reg, uint64_t imm)
{
	if (imm <= UINT32_MAX) {
		if (reg & 8) {
			emit8(e, 0x41);
		}
		emit8(e, 0xb8 | (reg & 7));
		emit32(e, (uint32_t)imm);
	} else if ((int64_t)imm == (int32_t)imm) {
		emit_alu(e, 0xc7, 8, 0, rm_reg(reg));
		emit32(e, (uint32_t)imm);
	} else {
		emit8(e, 0x48 | (reg >> 3 & 1));
		emit8(e, 0xb8 | (reg & 7));
		emit64(e, imm);
	}
}

uint8_t *emit_jmp(struct emit *e)
{
	emit8(e, 0xe9);
	emit32(e, 0);
	return e->p - 4;
}

uint8_t *emit_jcc(struct emit *e, unsigned cc)
{
	emit8(e, 0x0f);
	emit8(e, 0x80 | cc);
	emit32(e, 0);
	return e->p - 4;
}

uint8_t *emit_call(struct emit *e)
{
	emit8(e, 0xe8);
	emit32(e, 0);
	return e->p - 4;
}
