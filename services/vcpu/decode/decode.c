/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to struct insn. Intel SDM volume 2 chapter 2: legacy prefixes, REX or VEX, opcode, ModRM,
 * SIB, displacement, immediate. Where vendors differ in what exists, the AMD64 manual is followed
 * only when the caller says MODE_AMD.
 *
 * Not modelled, hence DECODE_UD: XOP, FMA4, 3DNow!, CET, TSX, AMX and MPX (whose hint encodings are
 * NOPs).
 */
#include <string.h>

#include "decode/cursor.h"
#include "decode/table.h"

/* One legacy prefix; false: it is none. */
INLINE bool note_prefix(struct cursor *c, uint8_t byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		/* In 64-bit mode without effect, also on an FS or GS before. */
		if (c->mode != MODE_64) {
			c->seg = byte >> 3 & 3;
			c->flags |= INSN_SEG_OVERRIDE;
		}
		return true;
	case 0x64:
	case 0x65:
		c->seg = byte & 7;
		c->flags |= INSN_SEG_OVERRIDE;
		return true;
	case 0x66: c->flags |= INSN_OPSIZE; return true;
	case 0x67: c->addrsize = c->mode == MODE_32 ? 2 : 4; return true;
	case 0xf0: c->flags |= INSN_LOCK; return true;
	case 0xf2: c->flags = (c->flags & ~INSN_REP) | INSN_REPNE; return true;
	case 0xf3: c->flags = (c->flags & ~INSN_REPNE) | INSN_REP; return true;
	default: return false;
	}
}

/* Legacy prefixes and REX. Leaves the cursor at the opcode, escape or VEX byte. */
INLINE void take_prefixes(struct cursor *c)
{
	while (c->pos < MAX_LEN) {
		uint8_t byte = c->code[c->pos];

		if (c->mode == MODE_64 && (byte & 0xf0) == 0x40) {
			c->rex = byte; /* counts only right before the opcode */
		} else if (note_prefix(c, byte)) {
			c->rex = 0;
		} else {
			return;
		}
		c->pos++;
	}
}

/* The immediates that are rare and none of which is one signed value. */
INLINE void take_odd_imm(struct cursor *c, enum row_imm kind)
{
	struct insn *i = c->i;
	unsigned z = c->opsize == 2 ? 2 : 4;
	uint64_t val = look(c);
	unsigned size;

	switch (kind) {
	case IMM_8U:
	case IMM_16:
		i->imm_len = kind == IMM_8U ? 1 : 2;
		i->imm = zero_extend(val, i->imm_len);
		break;
	case IMM_8_8:
		i->imm_len = 2;
		i->imm = (uint8_t)val;
		i->imm2 = (uint8_t)(val >> 8);
		break;
	case IMM_ENTER:
		i->imm_len = 3;
		i->imm = (uint16_t)val;
		i->imm2 = (uint8_t)(val >> 16);
		break;
	case IMM_MOFFS:
		i->imm_len = c->addrsize;
		i->disp = (int64_t)zero_extend(val, c->addrsize);
		set_segment(c, false);
		break;
	case IMM_FAR:
		i->imm_len = z + 2;
		i->imm = zero_extend(val, z) | (uint64_t)(uint16_t)(val >> z * 8) << 32;
		break;
	case IMM_TEST_B:
	case IMM_TEST_Z:
		if (!(c->modrm & 0x30)) {
			size = kind == IMM_TEST_B ? 1 : z;
			i->imm_len = size;
			i->imm = sign_extend(val, size);
		}
		break;
	case IMM_NONE:
	case IMM_8:
	case IMM_REL8:
	case IMM_Z:
	case IMM_RELZ:
	case IMM_V: break; /* take_imm()'s */
	}
	c->pos += i->imm_len;
}

INLINE void take_imm(struct cursor *c, enum row_imm kind)
{
	unsigned size;

	if (kind == IMM_NONE) {
		return;
	}
	if (kind > IMM_V) {
		take_odd_imm(c, kind);
		return;
	}
	size = kind <= IMM_REL8 ? 1 : kind == IMM_V ? c->opsize : c->opsize == 2 ? 2 : 4;
	c->i->imm = sign_extend(look(c), size);
	c->i->imm_len = size;
	c->pos += size;
}

INLINE unsigned operand_size(const struct cursor *c, unsigned row_flags)
{
	if (c->mode != MODE_64) {
		return (c->mode == MODE_32) == !(c->flags & INSN_OPSIZE) ? 4 : 2;
	}
	if (row_flags & ROW_CR) {
		return 8;
	}
	if (row_flags & ROW_F64) {
		return c->amd && (c->flags & INSN_OPSIZE) && !(c->rex & 8) ? 2 : 8;
	}
	if (c->rex & 8) {
		return 8;
	}
	if (c->flags & INSN_OPSIZE) {
		return 2;
	}
	return row_flags & ROW_D64 ? 8 : 4;
}

/* The mandatory prefix that counts, as a set of one. */
INLINE unsigned prefix_bit(unsigned flags)
{
	if (flags & INSN_REPNE) {
		return PF2;
	}
	if (flags & INSN_REP) {
		return PF3;
	}
	return flags & INSN_OPSIZE ? P66 : NP;
}

/* The prefixes that the odd forms exist with: x87, groups 7 and 15, EXTRQ, control registers. */
INLINE unsigned odd_forms(const struct cursor *c, unsigned row_flags, unsigned forms)
{
	unsigned reg = c->modrm >> 3 & 7;

	if (c->map == MAP_1) {
		uint64_t set = c->mod == 3 ? x87_reg[c->opcode & 7] >> (c->modrm & 0x3f)
					   : (uint64_t)x87_mem[c->opcode & 7] >> reg;

		return set & 1 ? ANY : 0;
	}
	if (row_flags & ROW_CR) {
		if (c->reg > 8 - (c->opcode & 1)) {
			return 0; /* CR9..15, DR8..15 */
		}
		return !(c->opcode & 1) && c->reg == 8 ? ANY : forms; /* CR8 */
	}
	switch (c->opcode) {
	case 0x01:
		if (c->mod != 3) {
			return forms;
		}
		if (c->modrm == 0xf8 && c->mode != MODE_64) {
			return 0; /* SWAPGS */
		}
		return group_7_reg[c->modrm & 0x3f];
	case 0x78: return reg ? forms & ~P66 : forms; /* EXTRQ by immediates */
	default: /* 0F AE; RDFSBASE and the like are of 64-bit mode */
		if (c->modrm > 0xf8) {
			return forms & ~P66; /* PCOMMIT is F8 alone */
		}
		return c->mod == 3 && (forms & PF3) && c->mode != MODE_64 ? 0 : forms;
	}
}

/* Does this form exist, and may it be locked? */
INLINE bool form_exists(const struct cursor *c, const struct opcode_row *row)
{
	unsigned forms = c->mod == 3 ? row->reg : row->mem;
	bool lock = row->flags & ROW_LOCK;

	if (row->flags & ROW_GROUP) {
		const struct group_row *group = &group_table[row->group];
		unsigned reg = c->modrm >> 3 & 7;

		forms &= c->mod == 3 ? group->reg[reg] : group->mem[reg];
		lock = group->lock >> reg & 1;
	}
	if (row->flags & (ROW_ODD | ROW_CR)) {
		forms = odd_forms(c, row->flags, forms);
	}
	if ((c->flags & INSN_LOCK) && (!lock || c->mod == 3)) {
		return false;
	}
	return forms == ANY || (forms & prefix_bit(c->flags));
}

INLINE unsigned group_flags(const struct cursor *c, const struct opcode_row *row)
{
	const struct group_row *group = &group_table[row->group];
	unsigned reg = c->modrm >> 3 & 7;

	return (group->f64 >> reg & 1 ? ROW_F64 : 0) | (group->d64 >> reg & 1 ? ROW_D64 : 0);
}

INLINE enum decode_result decode_legacy(struct cursor *c)
{
	const struct opcode_row *row = &opcode_table[c->map][c->opcode];
	unsigned row_flags = row->flags;
	bool exists;

	if (!(row->mem | row->reg) || ((row_flags & ROW_I64) && c->mode == MODE_64)) {
		return DECODE_UD;
	}
	if (c->rex) {
		c->flags |= INSN_REX | (c->rex & 8 ? INSN_REX_W : 0);
	}
	if (row_flags & ROW_MODRM) {
		take_modrm(c, row_flags & ROW_CR);
		if (row_flags & ROW_GROUP) {
			row_flags |= group_flags(c, row);
		}
		if (row->imm == IMM_8_8 && c->mod != 3) {
			return DECODE_UD;
		}
		exists = form_exists(c, row);
	} else {
		/* The opcode's own register, if any. */
		c->i->rm = (c->opcode & 7) | (c->rex & 1) << 3;
		exists = (row->mem & prefix_bit(c->flags)) && !(c->flags & INSN_LOCK);
	}
	c->opsize = operand_size(c, row_flags);
	take_imm(c, row->imm);
	c->i->len = c->pos;
	return exists ? DECODE_OK : DECODE_UD;
}

/* C4, C5 and 62 are LES, LDS and BOUND where these may be: not in 64-bit mode, nor with mod 3. */
INLINE bool is_vex(const struct cursor *c, uint8_t byte)
{
	return (byte == 0xc4 || byte == 0xc5 || byte == 0x62) &&
	       (c->mode == MODE_64 || (c->pos < MAX_LEN && c->code[c->pos] >= 0xc0));
}

INLINE enum decode_result decode_opcode(struct cursor *c)
{
	uint8_t byte;

	take_prefixes(c);
	c->i->prefix_len = c->pos;
	byte = take_byte(c);
	if (byte == 0x0f) {
		byte = take_byte(c);
		c->map = MAP_0F;
		if (byte == 0x38 || byte == 0x3a) {
			c->map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
			byte = take_byte(c);
		}
	} else if (is_vex(c, byte)) {
		struct cursor copy =
			*c; /* no pointer to *c itself, which is to stay in registers */
		enum decode_result result =
			byte == 0x62 ? decode_evex(&copy) : decode_vex(&copy, byte);

		*c = copy;
		return result;
	}
	c->opcode = byte;
	return decode_legacy(c);
}

/* Segment checks are needed unless everything is flat; what CPL and CR0 say is in the mode. */
INLINE bool needs_segment_check(unsigned seg, uint32_t mode)
{
	/* CS may be flat, and is never writable. */
	return (mode & MODE_SIZE) != MODE_64 &&
	       (!(mode & MODE_FLAT) || seg == SEG_FS || seg == SEG_GS || seg == SEG_CS);
}

/* As insn_decode(), of the first `limit` of at least LOOKAHEAD bytes. */
static enum decode_result decode(struct insn *i, const uint8_t *code, unsigned limit, uint32_t mode)
{
	struct cursor c = {
		.i = i,
		.code = code,
		.mode = mode & MODE_SIZE,
		.amd = mode & MODE_AMD,
		.modern = (mode & MODE_PROT) || (mode & MODE_SIZE) == MODE_64,
		.seg = SEG_DS,
		.addrsize = 2 << (mode & MODE_SIZE),
	};
	enum decode_result result;

	memset(i, 0, sizeof(*i));
	i->base = REG_NONE;
	i->index = REG_NONE;
	result = decode_opcode(&c);
	i->map = c.map;
	i->opcode = c.opcode;
	i->opsize = c.opsize;
	i->addrsize = c.addrsize;
	i->seg = c.seg;
	i->flags = c.flags | (needs_segment_check(c.seg, mode) ? INSN_SEG_CHECK : 0);
	if (c.pos <= limit) {
		return result;
	}
	i->len = 0;
	return limit == MAX_LEN ? DECODE_GP : DECODE_SHORT;
}

enum decode_result insn_decode(struct insn *i, const uint8_t *code, unsigned n, uint32_t mode)
{
	uint8_t bytes[LOOKAHEAD] = {0};

	if (n >= LOOKAHEAD) {
		return decode(i, code, MAX_LEN, mode);
	}
	n = n < MAX_LEN ? n : MAX_LEN;
	memcpy(bytes, code, n);
	return decode(i, bytes, n, mode);
}
