/* SPDX-License-Identifier: Apache-2.0 */
/* VEX and EVEX: from the prefix on. Intel SDM volume 2 2.3, 2.7. */
#include "decode/cursor.h"
#include "decode/evex.h"
#include "decode/vex.h"

static const uint16_t pp_flags[4] = {0, INSN_OPSIZE, INSN_REP, INSN_REPNE};

/* What must not stand before either. */
static bool is_prefixed(const struct cursor *c)
{
	return (c->flags & (INSN_LOCK | INSN_OPSIZE | INSN_REP | INSN_REPNE)) || c->rex;
}

/* A gather's index is a vector register, which the SIB byte names: it must have one. */
static bool take_vsib(const struct cursor *c)
{
	struct insn *i = c->i;
	uint8_t sib = c->code[i->modrm_off + 1];

	if (c->mod == 3 || c->addrsize == 2 || (c->modrm & 7) != 4) {
		return false;
	}
	i->index = REG_NONE;
	i->imm2 = (sib >> 3 & 7) | (c->rex & 2) << 2;
	i->scale = sib >> 6;
	return true;
}

/*
 * Outside 64-bit mode W means nothing to instructions with general registers; of those with W 1
 * AMD's processors do not have VPEXTRQ and VPINSRQ.
 */
static bool ignore_w(struct cursor *c, const struct vex_row *row)
{
	bool w = c->flags & INSN_REX_W;

	if (c->mode == MODE_64 || !(row->reg == 'g' || row->rm == 'g' || (row->flags & VEX_STR))) {
		return true;
	}
	c->flags &= ~INSN_REX_W;
	return !(w && c->amd && c->map == MAP_0F3A && (c->opcode == 0x16 || c->opcode == 0x22));
}

/* vvvv: all four bits, which must be 0 where they name nothing, in any mode. */
static bool vex_exists(const struct cursor *c, const struct vex_row *row, unsigned vvvv)
{
	bool l = c->flags & INSN_VEX_L, reg = c->mod == 3;
	unsigned wl = (c->flags & INSN_REX_W ? VEX_W1 : VEX_W0) | (l ? VEX_L1 : VEX_L0);
	bool has_vvvv = row->vvvv && !(row->flags & VEX_VVVV_REG && !reg);

	if ((row->wl & wl) != wl || (vvvv && !has_vvvv)) {
		return false;
	}
	if (!(c->flags & INSN_MODRM)) {
		return true;
	}
	if (reg ? !row->rm : !row->mem[l]) {
		return false;
	}
	if (row->reg == 'e' && !(row->ext >> (c->modrm >> 3 & 7) & 1)) {
		return false;
	}
	if ((row->reg == 'k' && c->reg > 7) || (row->vvvv == 'k' && c->i->vvvv > 7)) {
		return false; /* there is no such opmask register */
	}
	return !(row->flags & VEX_VSIB) || (take_vsib(c) && c->reg != c->i->imm2 &&
					    c->reg != c->i->vvvv && c->i->imm2 != c->i->vvvv);
}

static enum decode_result decode_vex_body(struct cursor *c, unsigned pp)
{
	struct insn *i = c->i;
	unsigned vvvv = ~(unsigned)c->code[c->pos - 1] >> 3 & 15;
	const struct vex_row *row;
	bool exists;

	i->prefix_len = c->pos;
	c->flags |= pp_flags[pp];
	c->opcode = take_byte(c);
	c->opsize = c->mode == MODE_64 && (c->flags & INSN_REX_W) ? 8 : 4;
	row = &vex_table[c->map - MAP_0F][pp][c->opcode];
	if (!row->wl) {
		return DECODE_UD;
	}
	if (row->reg || row->rm) { /* not so: VZEROUPPER, VZEROALL */
		take_modrm(c, false);
	}
	if (row->flags & (VEX_IMM | VEX_IS4)) {
		i->imm = take_byte(c);
		i->imm_len = 1;
	}
	if (row->flags & VEX_IS4 && c->mode != MODE_64) {
		i->imm &= 0x7f; /* there is no register 8 */
	}
	i->len = c->pos;
	if (row->rm == 'k') {
		i->rm &= 7;
	}
	exists = vex_exists(c, row, vvvv);
	return ignore_w(c, row) && exists ? DECODE_OK : DECODE_UD;
}

/*
 *   C5: RvvvvLpp                     C4: RXBmmmmm WvvvvLpp
 */
enum decode_result decode_vex(struct cursor *c, uint8_t first)
{
	unsigned map = 1;
	uint8_t p0, p1;

	if (is_prefixed(c) || !c->modern) {
		return DECODE_UD;
	}
	p0 = p1 = take_byte(c);
	if (first == 0xc4) {
		p1 = take_byte(c);
		map = p0 & 0x1f;
		c->rex = ((p0 & 0x40) ? 0 : 2) | ((p0 & 0x20) ? 0 : 1) | (p1 & 0x80 ? 8 : 0);
	}
	c->rex |= p0 & 0x80 ? 0 : 4;
	if (map < 1 || map > 3) {
		return DECODE_UD;
	}
	if (c->mode != MODE_64) {
		c->rex &= 8; /* the other bits must be or are taken as ones */
	}
	c->map = map;
	c->i->vvvv = ~p1 >> 3 & (c->mode == MODE_64 ? 15 : 7);
	c->flags |= INSN_VEX | (p1 & 4 ? INSN_VEX_L : 0) | (c->rex & 8 ? INSN_REX_W : 0);
	return decode_vex_body(c, p1 & 3);
}

/* -- EVEX -- */

/* Is what the last byte of the prefix says right for this row and form? */
static bool evex_modifiers_exist(const struct cursor *c, const struct evex_row *row)
{
	unsigned p2 = c->i->evex, len = p2 >> EVEX_LEN_SHIFT & 3;
	bool mem = c->mod != 3;
	unsigned b = mem ? EVEX_BROADCAST : EVEX_ROUND | EVEX_SAE;

	if (p2 & EVEX_B && !(row->flags & b)) {
		return false;
	}
	/* With b and a register, L'L is a rounding mode or nothing. */
	if (!(p2 & EVEX_B && !mem) && (len == 3 || !(row->len >> len & 1))) {
		return false;
	}
	if (p2 & EVEX_OPMASK ? !(row->flags & EVEX_MASK) : p2 & EVEX_Z || row->flags & EVEX_VSIB) {
		return false;
	}
	return !(p2 & EVEX_Z) ||
	       !(row->reg == 'k' || row->flags & EVEX_VSIB || (mem && row->flags & EVEX_TO_RM));
}

/* vvvv: all five bits, which must be 0 where they name nothing. */
static bool evex_exists(const struct cursor *c, const struct evex_row *row, unsigned vvvv)
{
	bool mem = c->mod != 3;
	bool has_vvvv = row->vvvv && !(row->flags & EVEX_VVVV_REG && mem);

	if (mem ? !row->mem : !row->rm) {
		return false;
	}
	if (row->reg == 'e' && !(row->ext >> (c->modrm >> 3 & 7) & 1)) {
		return false;
	}
	if ((row->reg == 'k' && c->i->reg > 7) || (row->reg == 'g' && c->i->reg > 15)) {
		return false;
	}
	if (row->flags & EVEX_VSIB) {
		/* V' belongs to the index, which take_vsib() has seen to; a gather's differs from
		 * what it fills. */
		return !(vvvv & 15) && (row->flags & EVEX_TO_RM || c->i->reg != c->i->imm2) &&
		       evex_modifiers_exist(c, row);
	}
	return (has_vvvv || !vvvv) && evex_modifiers_exist(c, row);
}

/* The operands of the row beyond what ModRM says with four bits each; `high`: R' and V'. */
static bool evex_operands(struct cursor *c, const struct evex_row *row, bool high_reg,
			  bool high_vvvv)
{
	struct insn *i = c->i;

	i->reg = c->reg |= high_reg ? 16 : 0;
	if (c->mod == 3 && row->rm == 'x') {
		i->rm |= c->rex & 2 ? 16 : 0;
	} else if (c->mod == 3 && row->rm == 'k') {
		i->rm &= 7;
	}
	if (row->flags & EVEX_VSIB) {
		if (!take_vsib(c)) {
			return false;
		}
		i->imm2 |= high_vvvv ? 16 : 0;
	} else if (row->vvvv) {
		i->vvvv |= high_vvvv ? 16 : 0;
	}
	if (c->modrm >> 6 == 1) { /* disp8 counts in operands */
		i->disp *= evex_disp8_scale(i, row);
	}
	if (row->flags & EVEX_NO_B && c->mod == 3 && i->evex & EVEX_B) {
		i->evex = (i->evex & (EVEX_Z | EVEX_OPMASK)) | 2 << EVEX_LEN_SHIFT;
	}
	return true;
}

/*
 *   62  RXBR'0mmm  Wvvvv1pp  zL'LbV'aaa
 */
enum decode_result decode_evex(struct cursor *c)
{
	struct insn *i = c->i;
	uint8_t p0 = take_byte(c), p1 = take_byte(c), p2 = take_byte(c);
	bool long_mode = c->mode == MODE_64, w = p1 & 0x80;
	bool high_reg = !(p0 & 0x10) && long_mode, high_vvvv = !(p2 & 8);
	unsigned map = p0 & 0xf, vvvv = ~(unsigned)p1 >> 3 & 15;
	const struct evex_row *row;
	bool exists;

	if (is_prefixed(c) || !c->modern || map < 1 || map > 3 || !(p1 & 4) ||
	    (high_vvvv && !long_mode)) {
		return DECODE_UD;
	}
	c->rex = (long_mode ? ~(unsigned)p0 >> 5 & 7 : 0) | (w ? 8 : 0);
	i->prefix_len = c->pos;
	i->vvvv = vvvv & (long_mode ? 15 : 7);
	i->evex = p2 & (EVEX_OPMASK | EVEX_B | EVEX_Z | 3 << EVEX_LEN_SHIFT);
	c->map = map;
	c->flags |= INSN_VEX | INSN_EVEX | pp_flags[p1 & 3] | (w ? INSN_REX_W : 0);
	c->opcode = take_byte(c);
	c->opsize = long_mode && w ? 8 : 4;
	row = evex_find(map, p1 & 3, c->opcode, w, c->code[c->pos]);
	if (!row->len) {
		return DECODE_UD;
	}
	if (!long_mode && w && (row->reg == 'g' || row->rm == 'g')) {
		c->flags &= ~INSN_REX_W; /* means nothing to instructions with general registers */
		row = evex_find(map, p1 & 3, c->opcode, false, c->code[c->pos]);
		if (row->flags & EVEX_NO_B && p2 & EVEX_B) {
			return DECODE_UD;
		}
	}
	take_modrm(c, false);
	exists = evex_operands(c, row, high_reg, high_vvvv);
	if (row->flags & EVEX_IMM) {
		i->imm = take_byte(c);
		i->imm_len = 1;
	}
	i->len = c->pos;
	return exists && evex_exists(c, row, vvvv | (p2 & 8 ? 0 : 16)) ? DECODE_OK : DECODE_UD;
}
