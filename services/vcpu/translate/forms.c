/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the generator does with each instruction. All that is not named here is interpreted, one
 * instruction at a time, from within the region. Intel SDM volume 2.
 */
#include "execute/simd_operands.h"
#include "execute/prepare.h"
#include "execute/trace.h"
#include "translate/emit.h"
#include "translate/translate.h"

static const struct form interpret = {.kind = FORM_INTERPRET};

static struct form modrm(const struct insn *i, unsigned reg, unsigned rm, bool byte)
{
	unsigned size = byte ? 1 : i->opsize;

	return (struct form){FORM_MODRM, reg, rm, size, size};
}

/* Both sizes given. */
static struct form sized(unsigned reg, unsigned reg_size, unsigned rm, unsigned rm_size)
{
	return (struct form){FORM_MODRM, reg, rm, reg_size, rm_size};
}

static struct form kind(enum form_kind kind, unsigned size)
{
	return (struct form){.kind = kind, .reg_size = size, .rm_size = size};
}

static struct form alu(const struct insn *i)
{
	bool compare = i->opcode >> 3 == 7, byte = !(i->opcode & 1);
	unsigned to = compare ? ROLE_R : ROLE_RW;

	switch (i->opcode & 7) {
	case 0:
	case 1: return modrm(i, ROLE_R, to, byte);
	case 2:
	case 3: return modrm(i, to, ROLE_R, byte);
	case 4:
	case 5:
		return (struct form){FORM_AX_IMM, compare ? ROLE_R : ROLE_RW, 0,
				     byte ? 1 : i->opsize, 0};
	}
	return interpret;
}

static struct form group_3(const struct insn *i)
{
	bool byte = i->opcode == 0xf6;

	switch (i->reg & 7) {
	case 0:
	case 1: return modrm(i, 0, ROLE_R, byte);
	case 2:
	case 3: return modrm(i, 0, ROLE_RW, byte);
	}
	if (byte) {
		return interpret; /* results in AX */
	}
	return (struct form){FORM_MULTIPLY, 0, ROLE_R, i->opsize, i->opsize};
}

static struct form group_5(const struct insn *i, bool wide)
{
	switch (i->reg & 7) {
	case 0:
	case 1: return modrm(i, 0, ROLE_RW, false);
	case 2: return wide ? (struct form){FORM_CALL_RM, 0, ROLE_R, 0, i->opsize} : interpret;
	case 4: return wide ? (struct form){FORM_JMP_RM, 0, ROLE_R, 0, i->opsize} : interpret;
	case 6: return wide ? (struct form){FORM_PUSH, 0, ROLE_R, i->opsize, i->opsize} : interpret;
	}
	return interpret;
}

/* One element of MOVS, STOS, LODS; REP MOVS, REP STOS. */
static struct form string(const struct insn *i, bool long_mode)
{
	bool loads = (i->opcode & ~1) == 0xac;

	if (i->addrsize != (long_mode ? 8 : 4) || i->flags & (INSN_REPNE | INSN_SEG_CHECK) ||
	    i->seg >= SEG_FS || (i->flags & INSN_REP && loads)) {
		return interpret;
	}
	return kind(FORM_STRING, 0);
}

/* The stack's segment has faults of its own far from the operand's address. */
static struct form bit_string(const struct insn *i)
{
	return i->seg == SEG_SS ? interpret : kind(FORM_BIT_STRING, 0);
}

/* `wide`: the operand has the size of the stack and of RIP. */
static struct form map_1(const struct insn *i, bool wide, bool long_mode)
{
	bool byte = !(i->opcode & 1);

	switch (i->opcode) {
	case 0x00 ... 0x3f: return alu(i);
	case 0x40 ... 0x4f: return (struct form){FORM_MODRM, 0, ROLE_RW, 0, i->opsize};
	case 0x50 ... 0x57: return wide ? kind(FORM_PUSH, i->opsize) : interpret;
	case 0x58 ... 0x5f: return wide ? kind(FORM_POP, i->opsize) : interpret;
	case 0x63: /* ARPL elsewhere */
		return !long_mode ? interpret
				  : sized(ROLE_W, i->opsize, ROLE_R, i->opsize == 2 ? 2 : 4);
	case 0x68:
	case 0x6a: return wide ? kind(FORM_PUSH, i->opsize) : interpret;
	case 0x69:
	case 0x6b: return modrm(i, ROLE_W, ROLE_R, false);
	case 0x70 ... 0x7f: return wide ? kind(FORM_JCC, 0) : interpret;
	case 0x80 ... 0x83: return modrm(i, 0, (i->reg & 7) == ALU_CMP ? ROLE_R : ROLE_RW, byte);
	case 0x84:
	case 0x85: return modrm(i, ROLE_R, ROLE_R, byte);
	case 0x86:
	case 0x87: return modrm(i, ROLE_RW, ROLE_RW, byte);
	case 0x88:
	case 0x89: return modrm(i, ROLE_R, ROLE_W, byte);
	case 0x8a:
	case 0x8b: return modrm(i, ROLE_W, ROLE_R, byte);
	case 0x8d: return kind(FORM_LEA, i->opsize);
	case 0x90 ... 0x97:
		if (i->flags & INSN_REP) {
			return interpret; /* PAUSE */
		}
		return i->rm == RAX ? kind(FORM_NOP, 0) : kind(FORM_XCHG_AX, i->opsize);
	case 0x98: return kind(FORM_EXTEND_AX, i->opsize);
	case 0x99: return kind(FORM_EXTEND_DX, i->opsize);
	case 0x9e: return kind(FORM_SAHF, 0);
	case 0x9f: return kind(FORM_LAHF, 0);
	case 0xa4:
	case 0xa5:
	case 0xaa ... 0xad: return string(i, long_mode);
	case 0xa8:
	case 0xa9: return (struct form){FORM_AX_IMM, ROLE_R, 0, byte ? 1 : i->opsize, 0};
	case 0xb0 ... 0xb7: return kind(FORM_MOV_IMM, 1);
	case 0xb8 ... 0xbf: return kind(FORM_MOV_IMM, i->opsize);
	case 0xc0:
	case 0xc1:
	case 0xd0:
	case 0xd1: return modrm(i, 0, ROLE_RW, byte);
	case 0xd2:
	case 0xd3: return (struct form){FORM_SHIFT_CL, 0, ROLE_RW, 0, byte ? 1 : i->opsize};
	case 0xc2:
	case 0xc3: return wide ? kind(FORM_RET, i->opsize) : interpret;
	case 0xc6:
	case 0xc7: return modrm(i, 0, ROLE_W, byte);
	case 0xc9: return wide ? kind(FORM_LEAVE, i->opsize) : interpret;
	case 0xe2:
	case 0xe3: return wide && i->addrsize >= 4 ? kind(FORM_LOOP, i->addrsize) : interpret;
	case 0xe8: return wide ? kind(FORM_CALL, i->opsize) : interpret;
	case 0xe9:
	case 0xeb: return wide ? kind(FORM_JMP, 0) : interpret;
	case 0xf5:
	case 0xf8:
	case 0xf9: return kind(FORM_FLAG, 0);
	case 0xf6:
	case 0xf7: return group_3(i);
	case 0xfe: return modrm(i, 0, ROLE_RW, true);
	case 0xff: return group_5(i, wide);
	}
	return interpret;
}

static struct form map_0f(struct vcpu *v, const struct insn *i, bool wide)
{
	bool byte = !(i->opcode & 1);

	switch (i->opcode) {
	case 0x0d:
	case 0x18 ... 0x1f: return kind(FORM_NOP, 0);
	case 0x40 ... 0x4f: return modrm(i, ROLE_RW, ROLE_R, false);
	case 0x80 ... 0x8f: return wide ? kind(FORM_JCC, 0) : interpret;
	case 0x90 ... 0x9f: return modrm(i, 0, ROLE_W, true);
	case 0xa3: return i->mod == 3 ? modrm(i, ROLE_R, ROLE_R, false) : bit_string(i);
	case 0xab:
	case 0xb3:
	case 0xbb: return i->mod == 3 ? modrm(i, ROLE_R, ROLE_RW, false) : bit_string(i);
	case 0xba: return modrm(i, 0, (i->reg & 7) == 4 ? ROLE_R : ROLE_RW, false);
	case 0xa4:
	case 0xac: return modrm(i, ROLE_R, ROLE_RW, false);
	case 0xa5:
	case 0xad: return (struct form){FORM_SHIFT_CL, ROLE_R, ROLE_RW, i->opsize, i->opsize};
	case 0xaf: return modrm(i, ROLE_RW, ROLE_R, false);
	case 0xb0:
	case 0xb1: {
		unsigned size = byte ? 1 : i->opsize;

		return (struct form){FORM_CMPXCHG, ROLE_R, ROLE_RW, size, size};
	}
	case 0xb6:
	case 0xbe: return sized(ROLE_W, i->opsize, ROLE_R, 1);
	case 0xb7:
	case 0xbf: return sized(ROLE_W, i->opsize, ROLE_R, 2);
	case 0xb8: return modrm(i, ROLE_W, ROLE_R, false);
	case 0xbc:
	case 0xbd:
		if (i->flags & INSN_REP) {
			bool tzcnt = i->opcode == 0xbc;

			/* Without the feature they are BSF and BSR, whatever the host has. */
			if (tzcnt ? !(v->interp->leaf_7_ebx & 8)
				  : !(v->interp->leaf_80000001_ecx & 0x20)) {
				return interpret;
			}
		}
		return modrm(i, ROLE_RW, ROLE_R, false);
	case 0xc0:
	case 0xc1: return modrm(i, ROLE_RW, ROLE_RW, byte);
	case 0xc3: return i->mod == 3 ? interpret : modrm(i, ROLE_R, ROLE_W, false);
	case 0xc7:
		if (i->mod != 3 && (i->reg & 7) == 1) {
			unsigned size = i->flags & INSN_REX_W ? 16 : 8;

			return (struct form){FORM_CMPXCHG_WIDE, 0, ROLE_RW, 0, size};
		}
		return interpret;
	case 0xc8 ... 0xcf: return i->opsize >= 4 ? kind(FORM_BSWAP, i->opsize) : interpret;
	}
	return interpret;
}

static struct form map_0f38(const struct insn *i)
{
	if (i->opcode == 0xf6) {
		unsigned size = i->flags & INSN_REX_W ? 8 : 4;

		return sized(ROLE_RW, size, ROLE_R, size); /* ADCX, ADOX */
	}
	if (i->opcode == 0xf0 || i->opcode == 0xf1) {
		if (i->flags & INSN_REPNE) { /* CRC32 */
			unsigned size = i->opcode == 0xf0 ? 1 : i->opsize;

			return sized(ROLE_RW, i->flags & INSN_REX_W ? 8 : 4, ROLE_R, size);
		}
		return i->opcode == 0xf0 ? modrm(i, ROLE_W, ROLE_R, false)
					 : modrm(i, ROLE_R, ROLE_W, false); /* MOVBE */
	}
	return interpret;
}

static struct form vex_gpr(const struct insn *i)
{
	/* reg is the destination but for BLSR and kin, where vvvv is; MULX writes both. */
	return (struct form){FORM_VEX_GPR, ROLE_W, ROLE_R, i->opsize, i->opsize};
}

static struct form simd(const struct insn *i, const struct simd_operands *o, uint32_t key)
{
	bool compare_strings = i->map == MAP_0F3A && i->opcode >= 0x60 && i->opcode <= 0x63;
	struct form f = {.kind = compare_strings ? FORM_COMPARE_STRINGS : FORM_SIMD};

	if ((!o->copy && !compare_strings) ||
	    (o->avx ? !(key & KEY_AVX) : !o->mmx && !(key & KEY_SSE)) ||
	    (o->avx512 && !(key & KEY_AVX512)) || (o->mmx && !(key & KEY_X87)) ||
	    (o->mmx && !(key & KEY_SSE))) {
		return interpret;
	}
	f.reg = o->reg == 'g' ? ROLE_RW : 0;
	f.rm = i->mod == 3 ? (o->rm == 'g' ? ROLE_RW : 0)
			   : (o->mem_read ? ROLE_R : 0) | (o->mem_write ? ROLE_W : 0);
	if (i->flags & INSN_MODRM && i->mod != 3 && !f.rm) {
		return interpret;
	}
	if (o->vvvv == 'g') {
		return interpret;
	}
	f.reg_size = 8;
	f.rm_size = i->mod == 3 ? 8 : o->mem;
	return f;
}

/* Memory operands of x87 instructions: bytes, and whether they are written; 0: interpreted. */
static struct form x87(const struct insn *i, uint32_t key)
{
	static const uint8_t size[8][8] = {
		{4, 4, 4, 4, 4, 4, 4, 4},   {4, 0, 4, 4, 0, 0, 0, 2},	{4, 4, 4, 4, 4, 4, 4, 4},
		{4, 4, 4, 4, 0, 10, 0, 10}, {8, 8, 8, 8, 8, 8, 8, 8},	{8, 8, 8, 8, 0, 0, 0, 2},
		{2, 2, 2, 2, 2, 2, 2, 2},   {2, 2, 2, 2, 10, 8, 10, 8},
	};
	static const uint8_t stores[8] = {0, 0x8c, 0, 0x8e, 0, 0x8e, 0, 0xce};
	unsigned op = i->opcode & 7, reg = i->reg & 7;
	struct form f = {.kind = FORM_X87};

	if (!(key & KEY_X87)) {
		return interpret;
	}
	if (i->mod == 3) {
		/* FNCLEX, FNINIT and their kind, and FNSTSW AX. */
		if ((op == 3 && i->modrm >= 0xe0 && i->modrm <= 0xe4) ||
		    (op == 7 && i->modrm == 0xe0)) {
			return interpret;
		}
		return f;
	}
	if (!size[op][reg]) {
		return interpret;
	}
	f.rm_size = size[op][reg];
	f.rm = stores[op] >> reg & 1 ? ROLE_W : ROLE_R;
	return f;
}

/* Is the address computed as the generator does it? */
static bool address_can(const struct insn *i, uint32_t key)
{
	if (!(i->flags & INSN_MODRM) || i->mod == 3) {
		return true;
	}
	return !(i->flags & INSN_SEG_CHECK) && i->addrsize >= 4 &&
	       ((key & MODE_SIZE) == MODE_64 || i->addrsize == 4);
}

/* What the interpreter makes of i: whether it exists, and whether its trace ends behind it. */
static bool exists(struct vcpu *v, const struct insn *i, bool *ends)
{
	struct insn copy = *i;
	bool ok = insn_bind(v, &copy);

	*ends = copy.flags & INSN_END;
	return ok;
}

/* Does a byte operand name AH, CH, DH or BH? */
static bool is_high(const struct insn *i, unsigned reg)
{
	return !(i->flags & INSN_REX) && reg >= 4 && reg < 8;
}

/* The few that the generator's registers do not suffice for. */
static bool too_many_registers(const struct insn *i, const struct form *f)
{
	bool high_reg = f->reg && f->reg_size == 1 && is_high(i, i->reg);
	bool high_rm = f->rm && i->mod == 3 && f->rm_size == 1 && is_high(i, i->rm);
	bool mem = (i->flags & INSN_MODRM) && i->mod != 3;
	unsigned alu = i->opcode >> 3;

	switch (f->kind) {
	case FORM_MODRM:
		if (high_reg && mem && i->map == MAP_1 && (alu == ALU_ADC || alu == ALU_SBB)) {
			return true;
		}
		return high_rm && i->map != MAP_1 && f->reg && f->reg_size != 1 &&
		       (i->map != MAP_0F || i->opsize == 2); /* CRC32; to 16 bits */
	case FORM_SHIFT_CL: return f->reg && mem && !translate_resident(i->reg);
	case FORM_CMPXCHG: return high_reg || high_rm || (!mem && i->rm == RAX);
	}
	return false;
}

struct form form_of(struct vcpu *v, const struct insn *i, uint32_t key)
{
	bool wide = i->opsize == ((key & MODE_SIZE) == MODE_64 ? 8 : 4);
	struct simd_operands o;
	struct form f = interpret;
	bool ends;

	if (address_can(i, key) || (i->map == MAP_1 && i->opcode == 0x8d)) {
		f.kind = transfer_form(i, key);
		if (f.kind == FORM_INTERPRET) {
			f.kind = system_form(v, i, key);
		}
		if (f.kind != FORM_INTERPRET) {
			return exists(v, i, &ends) ? f : (struct form){.kind = FORM_END};
		}
		if (i->map == MAP_1) {
			f = (i->opcode & 0xf8) == 0xd8
				    ? x87(i, key)
				    : map_1(i, wide, (key & MODE_SIZE) == MODE_64);
		} else if (simd_operands(i, &o)) {
			f = simd(i, &o, key);
		} else if (i->flags & INSN_VEX) {
			f = i->map == MAP_0F || i->flags & INSN_EVEX ? interpret : vex_gpr(i);
		} else if (i->map == MAP_0F) {
			f = map_0f(v, i, wide);
		} else if (i->map == MAP_0F38) {
			f = map_0f38(i);
		}
	}
	if ((f.kind == FORM_LEA && i->addrsize == 2) || too_many_registers(i, &f)) {
		f = interpret;
	}
	if (i->map >= MAP_0F38 && f.kind != FORM_SIMD && !exists(v, i, &ends)) {
		f = interpret; /* a feature that the guest does not have */
	}
	if (f.kind == FORM_INTERPRET && (!exists(v, i, &ends) || ends)) {
		f.kind = FORM_END;
	}
	return f;
}
