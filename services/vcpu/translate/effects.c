/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What instructions do to general registers, as far as memory operands care: which they write, and
 * where the new value is a linear function of old ones.
 */
#include "translate/emit.h"
#include "translate/translate.h"

#define NOTHING	   ((struct effect){0})
#define EVERYTHING ((struct effect){.writes = 0xffff})

static struct effect writes(unsigned reg)
{
	return (struct effect){.writes = (uint16_t)(1u << reg)};
}

static struct effect linear(unsigned to, unsigned base, unsigned index, int scale, int64_t disp)
{
	return (struct effect){.writes = (uint16_t)(1u << to),
			       .linear = true,
			       .to = (uint8_t)to,
			       .base = (uint8_t)base,
			       .index = (uint8_t)index,
			       .scale = (int8_t)scale,
			       .disp = disp};
}

/* Of 32 bits in 64-bit code, extended. */
static struct effect narrow(struct effect e)
{
	e.narrow = true;
	return e;
}

static struct effect sign_extended(unsigned to, unsigned from)
{
	struct effect e = narrow(linear(to, from, REG_NONE, 1, 0));

	e.sign = true;
	return e;
}

/* The guest register that a ModRM operand of `size` bytes names. */
static unsigned named(const struct insn *i, unsigned reg, unsigned size)
{
	return size == 1 && !(i->flags & INSN_REX) && reg >= 4 && reg < 8 ? reg - 4 : reg;
}

/* By the roles of the operands that ModRM names. */
static struct effect by_roles(const struct insn *i, const struct form *f)
{
	struct effect e = {0};

	if (f->reg & ROLE_W) {
		e.writes |= (uint16_t)(1u << named(i, i->reg, f->reg_size));
	}
	if (f->rm & ROLE_W && i->mod == 3) {
		e.writes |= (uint16_t)(1u << named(i, i->rm, f->rm_size));
	}
	return e;
}

/* ADD, SUB, INC, DEC, MOV and SHL of whole registers. */
static struct effect whole(const struct insn *i, const struct form *f)
{
	unsigned op = i->modrm >> 3 & 7;
	int64_t imm = (int64_t)i->imm;

	switch (i->opcode) {
	case 0x01: return linear(i->rm, i->rm, i->reg, 1, 0);
	case 0x03: return linear(i->reg, i->reg, i->rm, 1, 0);
	case 0x29: return linear(i->rm, i->rm, i->reg, -1, 0);
	case 0x2b: return linear(i->reg, i->reg, i->rm, -1, 0);
	case 0x89: return linear(i->rm, i->reg, REG_NONE, 1, 0);
	case 0x8b: return linear(i->reg, i->rm, REG_NONE, 1, 0);
	case 0x40 ... 0x47: return linear(i->rm, i->rm, REG_NONE, 1, 1);
	case 0x48 ... 0x4f: return linear(i->rm, i->rm, REG_NONE, 1, -1);
	case 0x81:
	case 0x83:
		if (op == ALU_ADD || op == ALU_SUB) {
			return linear(i->rm, i->rm, REG_NONE, 1, op == ALU_ADD ? imm : -imm);
		}
		break;
	case 0xc1:
	case 0xd1: {
		unsigned by = i->opcode == 0xd1 ? 1 : i->imm & 63;

		if (op == 4 && by && by < 4) {
			return linear(i->rm, REG_NONE, i->rm, 1 << by, 0);
		}
		break;
	}
	case 0x63: return sign_extended(i->reg, i->rm); /* MOVSXD */
	case 0xff:
		if (op < 2) {
			return linear(i->rm, i->rm, REG_NONE, 1, op ? -1 : 1);
		}
		break;
	}
	return by_roles(i, f);
}

static struct effect lea(const struct insn *i, unsigned size)
{
	struct effect e = linear(i->reg, i->base, i->index, 1 << i->scale, i->disp);

	if (i->addrsize != size || i->opsize < 4 || i->flags & INSN_RIPREL) {
		return writes(i->reg);
	}
	return i->opsize == size ? e : narrow(e);
}

static struct effect ax_imm(const struct insn *i, unsigned size)
{
	int64_t imm = (int64_t)i->imm;
	struct effect e;

	if (i->opcode >= 0xa8) { /* TEST */
		return NOTHING;
	}
	if ((i->opcode != 0x05 && i->opcode != 0x2d) || (i->opsize != size && i->opsize != 4)) {
		return writes(RAX);
	}
	e = linear(RAX, RAX, REG_NONE, 1, i->opcode == 0x05 ? imm : -imm); /* ADD, SUB */
	return i->opsize == size ? e : narrow(e);
}

/* Those that the interpreter may be asked for do not change what memory is where, or leave. */
static struct effect of_system(const struct insn *i)
{
	if (i->map == MAP_0F && (i->opcode == 0x01 || i->opcode == 0x31)) {
		return (struct effect){.writes =
					       1 << RAX | 1 << RCX | 1 << RDX}; /* RDTSC, RDTSCP */
	}
	if (i->map == MAP_0F && i->opcode == 0xa2) { /* CPUID */
		return (struct effect){.writes = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RBX};
	}
	return i->mod == 3 && i->flags & INSN_MODRM ? writes(i->rm) : NOTHING;
}

struct effect effect_of(const struct region *r, unsigned k)
{
	const struct insn *i = &r->insn[k];
	const struct form *f = &r->form[k];
	unsigned size = (r->key & MODE_SIZE) == MODE_64 ? 8 : 4;
	struct effect e;

	switch (f->kind) {
	case FORM_MODRM:
		if (i->map == MAP_1 && (i->opcode & 0xf0) == 0x40) {
			return i->opsize == size ? whole(i, f) : writes(i->rm);
		}
		if (i->map != MAP_1 || i->mod != 3) {
			return by_roles(i, f);
		}
		return i->opsize == size ? whole(i, f)
		       : i->opsize == 4	 ? narrow(whole(i, f))
					 : by_roles(i, f);
	case FORM_LEA: return lea(i, size);
	case FORM_SIMD:
	case FORM_SHIFT_CL: return by_roles(i, f);
	case FORM_CMPXCHG:
		e = by_roles(i, f);
		e.writes |= 1 << RAX;
		return e;
	case FORM_VEX_GPR:
		e = writes(i->reg);
		if (i->map == MAP_0F38 && (i->opcode == 0xf3 || i->opcode == 0xf6)) {
			e.writes |= (uint16_t)(1u << i->vvvv); /* BLSR and kin, MULX */
		}
		return e;
	case FORM_XCHG_AX:
		e = writes(RAX);
		e.writes |= (uint16_t)(1u << i->rm);
		return e;
	case FORM_AX_IMM: return ax_imm(i, size);
	case FORM_EXTEND_AX: return i->opsize == 8 ? sign_extended(RAX, RAX) : writes(RAX);
	case FORM_LAHF: return writes(RAX);
	case FORM_EXTEND_DX: return writes(RDX);
	case FORM_COMPARE_STRINGS: return writes(RCX);
	case FORM_CMPXCHG_WIDE:
	case FORM_MULTIPLY: return (struct effect){.writes = 1 << RAX | 1 << RDX};
	case FORM_BSWAP: return writes(i->rm);
	case FORM_MOV_IMM: return writes(named(i, i->rm, f->reg_size));
	case FORM_SYSTEM: return of_system(i);
	case FORM_LOOP: return i->opcode == 0xe3 ? NOTHING : writes(RCX); /* JCXZ */
	case FORM_NOP:
	case FORM_FLAG:
	case FORM_SAHF:
	case FORM_X87:
	case FORM_JCC:
	case FORM_JMP:
	case FORM_JMP_RM: return NOTHING;
	}
	return EVERYTHING; /* the interpreter may do anything to memory as well */
}
