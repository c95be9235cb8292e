/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to struct insn. Intel SDM volume 2 chapter 2: legacy prefixes, REX or VEX, opcode, ModRM,
 * SIB, displacement, immediate. Where vendors differ in what exists, the AMD64 manual is followed
 * only when the caller says MODE_AMD.
 *
 * Not modelled, hence DECODE_UD: EVEX (length given), XOP, 3DNow!, CET, TSX, AMX and MPX (whose
 * hint encodings are NOPs). VEX instructions other than those on general registers are decoded to
 * their length without asking whether they exist: no processor model here offers them.
 */
#include "decode/insn.h"

#include <string.h>

#include "decode/table.h"

enum { MAX_LEN = 15 };

struct cursor {
	struct insn *i;
	const uint8_t *code;
	unsigned pos;
	unsigned limit;	  /* bytes that may be used */
	unsigned given;	  /* bytes that are there */
	uint32_t mode;	  /* MODE_SIZE bits */
	bool amd, modern; /* modern: protected mode, where VEX exists */
	uint8_t rex;	  /* as in the REX byte: W 8, R 4, X 2, B 1 */
	bool evex;
};

/* Takes `size` bytes into *val, zero-extended; false: there are no more. */
static inline bool take(struct cursor *c, unsigned size, uint64_t *val)
{
	if (c->pos + size > c->limit) {
		return false;
	}
	*val = 0;
	memcpy(val, c->code + c->pos, size);
	c->pos += size;
	return true;
}

static inline uint64_t sign_extend(uint64_t val, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (uint64_t)((int64_t)(val << shift) >> shift);
}

static inline enum decode_result out_of_bytes(const struct cursor *c)
{
	return c->given >= MAX_LEN ? DECODE_GP : DECODE_SHORT;
}

/* Legacy prefixes and REX. Leaves the cursor at the opcode, escape or VEX byte. */
static bool take_prefixes(struct cursor *c)
{
	struct insn *i = c->i;

	for (; c->pos < c->limit; c->pos++) {
		uint8_t byte = c->code[c->pos];

		switch (byte) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			/* In 64-bit mode without effect, also on an FS or GS before. */
			if (c->mode != MODE_64) {
				i->seg = byte >> 3 & 3;
				i->flags |= INSN_SEG_OVERRIDE;
			}
			break;
		case 0x64:
		case 0x65:
			i->seg = byte & 7;
			i->flags |= INSN_SEG_OVERRIDE;
			break;
		case 0x66: i->flags |= INSN_OPSIZE; break;
		case 0x67: i->addrsize = c->mode == MODE_32 ? 2 : 4; break;
		case 0xf0: i->flags |= INSN_LOCK; break;
		case 0xf2: i->flags = (i->flags & ~INSN_REP) | INSN_REPNE; break;
		case 0xf3: i->flags = (i->flags & ~INSN_REPNE) | INSN_REP; break;
		default:
			if (c->mode == MODE_64 && (byte & 0xf0) == 0x40) {
				c->rex = byte; /* counts only right before the opcode */
				continue;
			}
			return true;
		}
		c->rex = 0;
	}
	return false;
}

static void set_segment(struct insn *i, bool stack)
{
	if (!(i->flags & INSN_SEG_OVERRIDE)) {
		i->seg = stack ? SEG_SS : SEG_DS;
	}
}

/* 16-bit addressing, SDM volume 2 table 2-1. */
static bool take_mem16(struct cursor *c, unsigned rm)
{
	static const uint8_t base[8] = {RBX, RBX, RBP, RBP, REG_NONE, REG_NONE, RBP, RBX};
	static const uint8_t index[8] = {RSI, RDI, RSI, RDI, RSI, RDI, REG_NONE, REG_NONE};
	struct insn *i = c->i;
	unsigned size = i->mod;
	uint64_t disp = 0;

	i->base = base[rm];
	i->index = index[rm];
	if (i->mod == 0 && rm == 6) {
		i->base = REG_NONE;
		size = 2;
	}
	if (size && !take(c, size, &disp)) {
		return false;
	}
	i->disp = size ? (int64_t)sign_extend(disp, size) : 0;
	set_segment(i, i->base == RBP);
	return true;
}

/* 32- and 64-bit addressing, SDM volume 2 tables 2-2 and 2-3. */
static bool take_mem32(struct cursor *c, unsigned rm)
{
	struct insn *i = c->i;
	unsigned size = i->mod == 2 ? 4 : i->mod;
	uint64_t sib, disp;

	i->base = rm | (c->rex & 1) << 3;
	if (rm == 4) {
		if (!take(c, 1, &sib)) {
			return false;
		}
		i->base = (sib & 7) | (c->rex & 1) << 3;
		i->index = (sib >> 3 & 7) | (c->rex & 2) << 2;
		i->index = i->index == RSP ? REG_NONE : i->index;
		i->scale = i->index == REG_NONE ? 0 : sib >> 6;
	}
	if (i->mod == 0 && (i->base & 7) == RBP) {
		size = 4;
		i->base = REG_NONE;
		if (rm == 5 && c->mode == MODE_64) {
			i->flags |= INSN_RIPREL;
		}
	}
	if (size) {
		if (!take(c, size, &disp)) {
			return false;
		}
		i->disp = (int64_t)sign_extend(disp, size);
	}
	set_segment(i, i->base == RSP || i->base == RBP);
	return true;
}

static bool take_modrm(struct cursor *c, bool force_reg)
{
	struct insn *i = c->i;
	uint64_t modrm;

	i->modrm_off = c->pos;
	if (!take(c, 1, &modrm)) {
		return false;
	}
	i->flags |= INSN_MODRM;
	i->modrm = modrm;
	i->mod = force_reg ? 3 : modrm >> 6;
	i->reg = (modrm >> 3 & 7) | (c->rex & 4) << 1;
	if (i->mod == 3) {
		i->rm = (modrm & 7) | (c->rex & 1) << 3;
		return true;
	}
	return i->addrsize == 2 ? take_mem16(c, modrm & 7) : take_mem32(c, modrm & 7);
}

static bool take_imm(struct cursor *c, enum row_imm kind)
{
	struct insn *i = c->i;
	unsigned size = i->opsize == 2 ? 2 : 4, size2 = 0;
	bool is_signed = false;
	uint64_t val, val2 = 0;

	switch (kind) {
	case IMM_NONE: return true;
	case IMM_8:
	case IMM_REL8:
		size = 1;
		is_signed = true;
		break;
	case IMM_8U: size = 1; break;
	case IMM_8_8:
		size = 1;
		size2 = 1;
		break;
	case IMM_16: size = 2; break;
	case IMM_Z:
	case IMM_RELZ: is_signed = true; break;
	case IMM_V:
		size = i->opsize;
		is_signed = true;
		break;
	case IMM_ENTER:
		size = 2;
		size2 = 1;
		break;
	case IMM_MOFFS: size = i->addrsize; break;
	case IMM_FAR: size2 = 2; break;
	case IMM_TEST_B:
	case IMM_TEST_Z:
		if (i->modrm & 0x30) {
			return true;
		}
		size = kind == IMM_TEST_B ? 1 : size;
		is_signed = true;
		break;
	}
	if (!take(c, size, &val) || (size2 && !take(c, size2, &val2))) {
		return false;
	}
	i->imm_len = size + size2;
	if (is_signed) {
		val = sign_extend(val, size);
	}
	if (kind == IMM_MOFFS) {
		i->disp = (int64_t)val;
		set_segment(i, false);
	} else if (kind == IMM_FAR) {
		i->imm = val | val2 << 32;
	} else {
		i->imm = val;
		i->imm2 = val2;
	}
	return true;
}

static unsigned operand_size(const struct cursor *c, unsigned row_flags)
{
	const struct insn *i = c->i;

	if (c->mode != MODE_64) {
		return (c->mode == MODE_32) == !(i->flags & INSN_OPSIZE) ? 4 : 2;
	}
	if (row_flags & ROW_CR) {
		return 8;
	}
	if (row_flags & ROW_F64) {
		return c->amd && (i->flags & INSN_OPSIZE) && !(c->rex & 8) ? 2 : 8;
	}
	if (c->rex & 8) {
		return 8;
	}
	if (i->flags & INSN_OPSIZE) {
		return 2;
	}
	return row_flags & ROW_D64 ? 8 : 4;
}

/* The mandatory prefix that counts, as a set of one. */
static unsigned prefix_bit(const struct insn *i)
{
	if (i->flags & INSN_REPNE) {
		return PF2;
	}
	if (i->flags & INSN_REP) {
		return PF3;
	}
	return i->flags & INSN_OPSIZE ? P66 : NP;
}

/* Does this form exist, and may it be locked? */
static bool form_exists(struct cursor *c, const struct opcode_row *row)
{
	struct insn *i = c->i;
	const struct group_row *group = row->flags & ROW_GROUP ? &group_table[row->group] : NULL;
	unsigned reg = i->modrm >> 3 & 7;
	unsigned forms = i->mod == 3 ? row->reg : row->mem;
	bool lock = row->flags & ROW_LOCK;

	if (group) {
		forms &= i->mod == 3 ? group->reg[reg] : group->mem[reg];
		lock = group->lock >> reg & 1;
	}
	if (i->map == MAP_1 && (i->opcode & 0xf8) == 0xd8) {
		forms = (i->mod == 3 ? x87_reg[i->opcode & 7] >> (i->modrm & 0x3f)
				     : (uint64_t)x87_mem[i->opcode & 7] >> reg) &
					1
				? ANY
				: 0;
	}
	if (i->map == MAP_0F && i->opcode == 0x01 && i->mod == 3) {
		forms = group_7_reg[i->modrm & 0x3f];
		if (i->modrm == 0xf8 && c->mode != MODE_64) {
			forms = 0; /* SWAPGS */
		}
	}
	if (i->map == MAP_0F && i->opcode == 0xae && i->mod == 3 && (forms & PF3) &&
	    c->mode != MODE_64) {
		forms = 0; /* RDFSBASE and the like */
	}
	if (i->map == MAP_0F && i->opcode == 0x78 && reg) {
		forms &= ~P66; /* EXTRQ by immediates */
	}
	if ((row->flags & ROW_CR) && i->reg > 8 - (i->opcode & 1)) {
		return false; /* CR9..15, DR8..15 */
	}
	if ((row->flags & ROW_CR) && !(i->opcode & 1) && i->reg == 8) {
		forms = ANY; /* CR8 */
	}
	if ((i->flags & INSN_LOCK) && (!lock || i->mod == 3)) {
		return false;
	}
	return forms & prefix_bit(i);
}

static enum decode_result finish(struct cursor *c, bool exists)
{
	c->i->len = c->pos;
	return exists ? DECODE_OK : DECODE_UD;
}

/* Segment checks are needed unless everything is flat; what CPL and CR0 say is in the mode. */
static void set_segment_check(struct insn *i, uint32_t mode)
{
	if ((mode & MODE_SIZE) == MODE_64) {
		return;
	}
	/* CS may be flat, and is never writable. */
	if (!(mode & MODE_FLAT) || i->seg == SEG_FS || i->seg == SEG_GS || i->seg == SEG_CS) {
		i->flags |= INSN_SEG_CHECK;
	}
}

static enum decode_result decode_legacy(struct cursor *c)
{
	struct insn *i = c->i;
	unsigned row_flags;
	const struct opcode_row *row = &opcode_table[i->map][i->opcode];

	if (!(row->mem | row->reg) || ((row->flags & ROW_I64) && c->mode == MODE_64)) {
		return DECODE_UD;
	}
	if (c->rex) {
		i->flags |= INSN_REX | (c->rex & 8 ? INSN_REX_W : 0);
	}
	row_flags = row->flags;
	if (row->flags & ROW_MODRM) {
		if (!take_modrm(c, row->flags & ROW_CR)) {
			return out_of_bytes(c);
		}
		if (row->flags & ROW_GROUP) {
			const struct group_row *group = &group_table[row->group];
			unsigned reg = i->modrm >> 3 & 7;

			row_flags |= group->f64 >> reg & 1 ? ROW_F64 : 0;
			row_flags |= group->d64 >> reg & 1 ? ROW_D64 : 0;
		}
	}
	i->opsize = operand_size(c, row_flags);
	if (!(row->flags & ROW_MODRM)) {
		i->rm = (i->opcode & 7) | (c->rex & 1) << 3; /* the opcode's own register, if any */
	}
	if (row->imm == IMM_8_8 && i->mod != 3) {
		return DECODE_UD;
	}
	if (!take_imm(c, row->imm)) {
		return out_of_bytes(c);
	}
	if (!(row->flags & ROW_MODRM)) {
		bool exists = (row->mem & prefix_bit(i)) && !(i->flags & INSN_LOCK);

		return finish(c, exists);
	}
	return finish(c, form_exists(c, row));
}

/* VEX instructions on general registers: ANDN, BLSx, BZHI, PEXT, PDEP, MULX, BEXTR, SHxX, RORX. */
static bool vex_gpr_exists(const struct insn *i, unsigned vvvv)
{
	unsigned pp = prefix_bit(i);

	if (i->flags & INSN_VEX_L) {
		return false;
	}
	if (i->map == MAP_0F3A) {
		return pp == PF2 && vvvv == 0;
	}
	switch (i->opcode) {
	case 0xf2: return pp == NP;
	case 0xf3: return pp == NP && (i->reg & 7) >= 1 && (i->reg & 7) <= 3;
	case 0xf5: return pp & (NP | PF3 | PF2);
	case 0xf6: return pp == PF2;
	default: return true; /* F7: BEXTR, SHLX, SARX, SHRX */
	}
}

static bool is_vex_gpr(const struct insn *i)
{
	return (i->map == MAP_0F38 && (i->opcode == 0xf2 || i->opcode == 0xf3 ||
				       (i->opcode >= 0xf5 && i->opcode <= 0xf7))) ||
	       (i->map == MAP_0F3A && i->opcode == 0xf0);
}

static bool vex_has_imm(const struct insn *i)
{
	if (i->map != MAP_0F) {
		return i->map == MAP_0F3A;
	}
	return (i->opcode >= 0x70 && i->opcode <= 0x73) || i->opcode == 0xc2 ||
	       (i->opcode >= 0xc4 && i->opcode <= 0xc6);
}

static enum decode_result decode_vex_body(struct cursor *c, unsigned pp)
{
	static const uint16_t pp_flags[4] = {0, INSN_OPSIZE, INSN_REP, INSN_REPNE};
	struct insn *i = c->i;
	uint64_t opcode, imm;
	unsigned vvvv;

	i->prefix_len = c->pos;
	vvvv = ~(unsigned)c->code[c->pos - 1] >> 3 & 15; /* all four bits, in any mode */
	i->flags |= pp_flags[pp];
	if (!take(c, 1, &opcode)) {
		return out_of_bytes(c);
	}
	i->opcode = opcode;
	i->opsize = c->mode == MODE_64 && (i->flags & INSN_REX_W) ? 8 : 4;
	if (i->map == MAP_0F && i->opcode == 0x77) { /* VZEROUPPER, VZEROALL */
		return finish(c, !c->evex);
	}
	if (!take_modrm(c, false)) {
		return out_of_bytes(c);
	}
	if (vex_has_imm(i)) {
		if (!take(c, 1, &imm)) {
			return out_of_bytes(c);
		}
		i->imm = imm;
		i->imm_len = 1;
	}
	return finish(c, !c->evex && (!is_vex_gpr(i) || vex_gpr_exists(i, vvvv)));
}

/*
 *   C5: RvvvvLpp                     C4: RXBmmmmm WvvvvLpp
 *   62: RXBR'0mmm Wvvvv1pp zLLbV'aaa (length only)
 */
static enum decode_result decode_vex(struct cursor *c, uint8_t first)
{
	struct insn *i = c->i;
	unsigned map = 1;
	uint64_t p0, p1, p2;

	if ((i->flags & (INSN_LOCK | INSN_OPSIZE | INSN_REP | INSN_REPNE)) || c->rex ||
	    !c->modern) {
		return DECODE_UD;
	}
	if (!take(c, 1, &p0)) {
		return out_of_bytes(c);
	}
	p1 = p0;
	if (first != 0xc5) {
		if (!take(c, 1, &p1)) {
			return out_of_bytes(c);
		}
		map = p0 & 0x1f;
		c->rex = ((p0 & 0x40) ? 0 : 2) | ((p0 & 0x20) ? 0 : 1) | (p1 & 0x80 ? 8 : 0);
	}
	c->rex |= p0 & 0x80 ? 0 : 4;
	if (first == 0x62) {
		if (!take(c, 1, &p2)) {
			return out_of_bytes(c);
		}
		c->evex = true;
		map = p0 & 7;
	}
	if (map < 1 || map > 3) {
		return DECODE_UD;
	}
	if (c->mode != MODE_64) {
		c->rex &= 8; /* the other bits must be or are taken as ones */
	}
	i->map = map;
	i->vvvv = ~p1 >> 3 & (c->mode == MODE_64 ? 15 : 7);
	i->flags |=
		INSN_VEX | (p1 & 4 && !c->evex ? INSN_VEX_L : 0) | (c->rex & 8 ? INSN_REX_W : 0);
	return decode_vex_body(c, p1 & 3);
}

static enum decode_result decode_opcode(struct cursor *c)
{
	struct insn *i = c->i;
	uint64_t byte;

	if (!take_prefixes(c) || !take(c, 1, &byte)) {
		return out_of_bytes(c);
	}
	i->prefix_len = c->pos - 1;
	if (byte == 0xc4 || byte == 0xc5 || byte == 0x62) {
		if (c->mode == MODE_64) {
			return decode_vex(c, byte);
		}
		if (c->pos >= c->limit) {
			return out_of_bytes(c);
		}
		if (c->code[c->pos] >= 0xc0) { /* mod 3: no LES, LDS, BOUND */
			return decode_vex(c, byte);
		}
	}
	if (byte == 0x0f) {
		if (!take(c, 1, &byte)) {
			return out_of_bytes(c);
		}
		i->map = MAP_0F;
		if (byte == 0x38 || byte == 0x3a) {
			i->map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
			if (!take(c, 1, &byte)) {
				return out_of_bytes(c);
			}
		}
	}
	i->opcode = byte;
	return decode_legacy(c);
}

enum decode_result insn_decode(struct insn *i, const uint8_t *code, unsigned n, uint32_t mode)
{
	struct cursor c = {
		.i = i,
		.code = code,
		.limit = n < MAX_LEN ? n : MAX_LEN,
		.given = n,
		.mode = mode & MODE_SIZE,
		.amd = mode & MODE_AMD,
		.modern = (mode & MODE_PROT) || (mode & MODE_SIZE) == MODE_64,
	};
	enum decode_result result;

	memset(i, 0, sizeof(*i));
	i->base = REG_NONE;
	i->index = REG_NONE;
	i->seg = SEG_DS;
	i->addrsize = 2 << c.mode;
	result = decode_opcode(&c);
	set_segment_check(i, mode);
	return result;
}
