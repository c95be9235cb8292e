/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The integer family: preparation of operands, the chain of binders, and the instructions that fit
 * nowhere else: conversions, single flags, XLAT, BOUND, SALC.
 */
#include "execute/integer.h"

#include "execute/flags.h"
#include "execute/operand.h"

enum ea_form operand_bind(struct vcpu *v, struct insn *i, unsigned size)
{
	int64_t disp = i->disp;

	i->reg_at = size == 1 ? byte_reg_at(i, i->reg) : i->reg * 8;
	i->rm_at = size == 1 ? byte_reg_at(i, i->rm) : i->rm * 8;
	i->base_at = i->base * 8;
	if (i->flags & INSN_RIPREL) {
		i->base_at = offsetof(struct vcpu, trace_rip) - offsetof(struct vcpu, gpr);
		disp += i->off + i->len;
	}
	i->aux = (void *)disp;
	if ((v->mode & MODE_SIZE) != MODE_64 || i->addrsize != 8) {
		return EA_G;
	}
	return i->index != REG_NONE || i->seg == SEG_FS || i->seg == SEG_GS ? EA_X : EA_B;
}

static const struct insn *cbw(struct vcpu *v, const struct insn *i)
{
	set16(v, RAX * 8, (int8_t)v->gpr[RAX]);
	NEXT(v, i);
}

static const struct insn *cwde(struct vcpu *v, const struct insn *i)
{
	set32(v, RAX * 8, (int16_t)v->gpr[RAX]);
	NEXT(v, i);
}

static const struct insn *cdqe(struct vcpu *v, const struct insn *i)
{
	set64(v, RAX * 8, (int64_t)(int32_t)v->gpr[RAX]);
	NEXT(v, i);
}

static const struct insn *cwd(struct vcpu *v, const struct insn *i)
{
	set16(v, RDX * 8, (int16_t)v->gpr[RAX] >> 15);
	NEXT(v, i);
}

static const struct insn *cdq(struct vcpu *v, const struct insn *i)
{
	set32(v, RDX * 8, (uint32_t)((int32_t)v->gpr[RAX] >> 31));
	NEXT(v, i);
}

static const struct insn *cqo(struct vcpu *v, const struct insn *i)
{
	set64(v, RDX * 8, (uint64_t)((int64_t)v->gpr[RAX] >> 63));
	NEXT(v, i);
}

static const struct insn *sahf(struct vcpu *v, const struct insn *i)
{
	v->aflags = (v->aflags & AF_OF) | (v->gpr[RAX] & 0xd500) | 0x200;
	NEXT(v, i);
}

static const struct insn *lahf(struct vcpu *v, const struct insn *i)
{
	set8(v, RAX * 8 + 1, v->aflags >> 8);
	NEXT(v, i);
}

static const struct insn *cmc(struct vcpu *v, const struct insn *i)
{
	v->aflags ^= AF_CF;
	NEXT(v, i);
}

static const struct insn *clc(struct vcpu *v, const struct insn *i)
{
	v->aflags &= ~AF_CF;
	NEXT(v, i);
}

static const struct insn *stc(struct vcpu *v, const struct insn *i)
{
	v->aflags |= AF_CF;
	NEXT(v, i);
}

static const struct insn *cld(struct vcpu *v, const struct insn *i)
{
	v->rflags &= ~FL_DF;
	NEXT(v, i);
}

static const struct insn *std(struct vcpu *v, const struct insn *i)
{
	v->rflags |= FL_DF;
	NEXT(v, i);
}

static const struct insn *salc(struct vcpu *v, const struct insn *i)
{
	set8(v, RAX * 8, v->aflags & AF_CF ? 0xff : 0);
	NEXT(v, i);
}

static const struct insn *xlat(struct vcpu *v, const struct insn *i)
{
	uint64_t off = v->gpr[RBX] + (uint8_t)v->gpr[RAX];

	v->insn = i;
	off = i->addrsize == 4 ? (uint32_t)off : i->addrsize == 2 ? (uint16_t)off : off;
	set8(v, RAX * 8,
	     mmu_read8(v, seg_linear(v, i->seg, off, 1, MMU_R, i->flags & INSN_SEG_CHECK)));
	NEXT(v, i);
}

static const struct insn *bound(struct vcpu *v, const struct insn *i)
{
	uint64_t lin, off;
	int64_t low, high, val;

	v->insn = i;
	off = ea_offset(v, i);
	lin = seg_linear(v, i->seg, off, i->opsize, MMU_R, i->flags & INSN_SEG_CHECK);
	if (i->opsize == 2) {
		val = (int16_t)get16(v, i->reg_at);
		low = (int16_t)mmu_read16(v, lin);
	} else {
		val = (int32_t)get32(v, i->reg_at);
		low = (int32_t)mmu_read32(v, lin);
	}
	off += i->opsize;
	off = i->addrsize == 2 ? (uint16_t)off : (uint32_t)off;
	lin = seg_linear(v, i->seg, off, i->opsize, MMU_R, i->flags & INSN_SEG_CHECK);
	high = i->opsize == 2 ? (int16_t)mmu_read16(v, lin) : (int32_t)mmu_read32(v, lin);
	if (val < low || val > high) {
		raise_exception(v, VEC_BR);
	}
	NEXT(v, i);
}

bool integer_bind_misc(struct vcpu *v, struct insn *i)
{
	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x62:
		operand_bind(v, i, i->opsize);
		i->fn = bound;
		return true;
	case 0x98: i->fn = i->opsize == 2 ? cbw : i->opsize == 4 ? cwde : cdqe; return true;
	case 0x99: i->fn = i->opsize == 2 ? cwd : i->opsize == 4 ? cdq : cqo; return true;
	case 0x9e: i->fn = sahf; return true;
	case 0x9f: i->fn = lahf; return true;
	case 0xd6: i->fn = salc; return true;
	case 0xd7: i->fn = xlat; return true;
	case 0xf5: i->fn = cmc; return true;
	case 0xf8: i->fn = clc; return true;
	case 0xf9: i->fn = stc; return true;
	case 0xfc: i->fn = cld; return true;
	case 0xfd: i->fn = std; return true;
	}
	return false;
}

bool execute_bind_integer(struct vcpu *v, struct insn *i)
{
	return integer_bind_alu(v, i) || integer_bind_move(v, i) || integer_bind_stack(v, i) ||
	       integer_bind_shift(v, i) || integer_bind_multiply(v, i) || integer_bind_bit(v, i) ||
	       integer_bind_atomic(v, i) || integer_bind_bmi(v, i) || integer_bind_misc(v, i);
}
