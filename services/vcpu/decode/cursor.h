/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instruction half decoded, and what the decoder's files share of taking it apart. Intel SDM
 * volume 2 2.1.5 (ModRM and SIB).
 */
#ifndef VCPU_DECODE_CURSOR_H
#define VCPU_DECODE_CURSOR_H

#include <string.h>

#include "decode/insn.h"

enum {
	MAX_LEN = 15,
	/* Bytes that decoding may look at: 14 prefixes, and the longest of all that may follow. */
	LOOKAHEAD = 48,
};

/*
 * All helpers are inlined, so that it lives in registers. None asks
 * whether there are bytes enough: LOOKAHEAD bytes are, and what was taken is counted at the end.
 */
struct cursor {
	struct insn *i;
	const uint8_t *code;
	unsigned pos;
	uint32_t mode;	  /* MODE_SIZE bits */
	bool amd, modern; /* modern: protected mode, where VEX exists */
	uint8_t rex;	  /* as in the REX byte: W 8, R 4, X 2, B 1 */
	uint8_t seg;	  /* as in struct insn, like the others below */
	uint16_t flags;	  /* enum insn_flag */
	uint8_t map, opcode, opsize, addrsize;
	uint8_t modrm, mod, reg;
};

#define INLINE static inline __attribute__((always_inline))

INLINE uint8_t take_byte(struct cursor *c)
{
	return c->code[c->pos++];
}

/* The next 8 bytes; how many of them are taken is the caller's business. */
INLINE uint64_t look(const struct cursor *c)
{
	uint64_t val;

	memcpy(&val, c->code + c->pos, sizeof(val));
	return val;
}

/* The low `size` bytes of val, 1 to 8. */
INLINE uint64_t sign_extend(uint64_t val, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (uint64_t)((int64_t)(val << shift) >> shift);
}

INLINE uint64_t zero_extend(uint64_t val, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return val << shift >> shift;
}

INLINE void set_segment(struct cursor *c, bool stack)
{
	if (!(c->flags & INSN_SEG_OVERRIDE)) {
		c->seg = stack ? SEG_SS : SEG_DS;
	}
}

/* 16-bit addressing, SDM volume 2 table 2-1. */
INLINE void take_mem16(struct cursor *c, unsigned rm)
{
	static const uint8_t base[8] = {RBX, RBX, RBP, RBP, REG_NONE, REG_NONE, RBP, RBX};
	static const uint8_t index[8] = {RSI, RDI, RSI, RDI, RSI, RDI, REG_NONE, REG_NONE};
	struct insn *i = c->i;
	unsigned size = c->mod;

	i->base = base[rm];
	i->index = index[rm];
	if (c->mod == 0 && rm == 6) {
		i->base = REG_NONE;
		size = 2;
	}
	if (size) {
		i->disp = (int64_t)sign_extend(look(c), size);
		c->pos += size;
	}
	set_segment(c, i->base == RBP);
}

/* 32- and 64-bit addressing, SDM volume 2 tables 2-2 and 2-3. */
INLINE void take_mem32(struct cursor *c, unsigned rm)
{
	struct insn *i = c->i;
	unsigned size = c->mod == 2 ? 4 : c->mod;
	unsigned base = rm | (c->rex & 1) << 3;

	if (rm == 4) {
		uint8_t sib = take_byte(c);
		unsigned index = (sib >> 3 & 7) | (c->rex & 2) << 2;

		base = (sib & 7) | (c->rex & 1) << 3;
		if (index != RSP) {
			i->index = index;
			i->scale = sib >> 6;
		}
	}
	if (c->mod == 0 && (base & 7) == RBP) {
		size = 4;
		base = REG_NONE;
		if (rm == 5 && c->mode == MODE_64) {
			c->flags |= INSN_RIPREL;
		}
	}
	i->base = base;
	if (size) {
		uint64_t val = look(c);

		i->disp = size == 1 ? (int8_t)val : (int32_t)val;
		c->pos += size;
	}
	set_segment(c, base == RSP || base == RBP);
}

INLINE void take_modrm(struct cursor *c, bool force_reg)
{
	struct insn *i = c->i;

	i->modrm_off = c->pos;
	c->modrm = take_byte(c);
	c->flags |= INSN_MODRM;
	c->mod = force_reg ? 3 : c->modrm >> 6;
	c->reg = (c->modrm >> 3 & 7) | (c->rex & 4) << 1;
	i->modrm = c->modrm;
	i->mod = c->mod;
	i->reg = c->reg;
	if (c->mod == 3) {
		i->rm = (c->modrm & 7) | (c->rex & 1) << 3;
	} else if (c->addrsize == 2) {
		take_mem16(c, c->modrm & 7);
	} else {
		take_mem32(c, c->modrm & 7);
	}
}

/*
 * VEX and EVEX (decode_vex.c): the cursor is behind the first byte of the prefix, which is `first`.
 */
enum decode_result decode_vex(struct cursor *c, uint8_t first);
enum decode_result decode_evex(struct cursor *c);

#endif
