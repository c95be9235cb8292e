/* SPDX-License-Identifier: Apache-2.0 */
/* See blocks_code.h. */
#include "blocks_code.h"

#include <string.h>

void bl_bytes(struct bl_item *i, unsigned n, const char *bytes)
{
	if (i && i->len + n <= BL_ITEM_BYTES) {
		memcpy(i->bytes + i->len, bytes, n);
		i->len += n;
	}
}

void bl_put8(struct bl_item *i, unsigned val)
{
	char c = (char)val;

	bl_bytes(i, 1, &c);
}

void bl_put32(struct bl_item *i, uint32_t val)
{
	bl_bytes(i, 4, (const char *)&val);
}

static unsigned n_regs(const struct bl_gen *g)
{
	return g->is_64 ? 16 : 8;
}

unsigned bl_pick(struct bl_gen *g)
{
	unsigned reg;

	do {
		reg = fz_below(&g->r, n_regs(g));
	} while (g->reserved >> reg & 1);
	return reg;
}

unsigned bl_any(struct bl_gen *g)
{
	return fz_below(&g->r, n_regs(g));
}

/* -- operands -- */

uint32_t bl_data_address(struct bl_gen *g, unsigned align)
{
	uint32_t page = BL_DATA + fz_below(&g->r, BL_DATA_PAGES) * 4096;
	unsigned what = fz_below(&g->r, 100);

	if (what < 12) { /* across the end, or the beginning */
		return page + 4096 - fz_below(&g->r, 40);
	}
	page = fz_chance(&g->r, 60) ? BL_DATA : page;
	if (what < (align < 16 ? 40 : 18)) {
		return page + fz_below(&g->r, 4096);
	}
	return page + (fz_below(&g->r, 256) & ~(align - 1)) + 16 * fz_below(&g->r, 8);
}

struct bl_operand bl_memory(struct bl_gen *g, unsigned align)
{
	uint32_t at = bl_data_address(g, align);
	struct bl_operand o = {.mem = true, .reg = REG_NONE, .index = REG_NONE, .disp = at};
	unsigned k = fz_below(&g->r, 3);

	switch (fz_below(&g->r, 8)) {
	case 0: o.rip = g->is_64; break;
	case 1: break;
	case 2:
		o.index = g->index;
		o.scale = (uint8_t)fz_below(&g->r, 4);
		break;
	case 3:
		o.index = g->index;
		o.scale = (uint8_t)fz_below(&g->r, 4);
		/* fall through */
	default: o.reg = g->ptr[k]; o.disp = at - g->ptr_at[k];
	}
	if (fz_chance(&g->r, 3)) {
		static const uint8_t segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

		o.seg = segs[fz_below(&g->r, g->is_64 ? 6 : 4)];
	}
	return o;
}

struct bl_operand bl_register(unsigned reg)
{
	return (struct bl_operand){.reg = (uint8_t)reg, .index = REG_NONE};
}

/* A register to write to, or memory. */
struct bl_operand bl_target(struct bl_gen *g, unsigned percent_memory)
{
	return fz_chance(&g->r, percent_memory) ? bl_memory(g, 8) : bl_register(bl_pick(g));
}

struct bl_operand bl_source(struct bl_gen *g, unsigned percent_memory)
{
	return fz_chance(&g->r, percent_memory) ? bl_memory(g, 8) : bl_register(bl_any(g));
}

/* `scaled`: an 8-bit displacement would count in operands. */
static void put_modrm(struct bl_item *i, unsigned reg, const struct bl_operand *o, bool scaled)
{
	unsigned r = (reg & 7) << 3;
	bool disp8 = (int32_t)o->disp == (int8_t)o->disp && !scaled;

	if (!o->mem) {
		bl_put8(i, 0xc0 | r | (o->reg & 7));
	} else if (o->rip) {
		bl_put8(i, r | 5);
		i->fix = BL_FIX_RIP_DATA;
		i->fix_at = i->len;
		i->addr = o->disp;
		bl_put32(i, 0);
	} else if (o->reg == REG_NONE) {
		bl_put8(i, r | 4);
		bl_put8(i, o->scale << 6 | (o->index == REG_NONE ? 4 : o->index & 7) << 3 | 5);
		bl_put32(i, o->disp);
	} else {
		bool sib = o->index != REG_NONE || (o->reg & 7) == RSP;

		bl_put8(i, (disp8 ? 0x40 : 0x80) | r | (sib ? 4 : o->reg & 7));
		if (sib) {
			bl_put8(i, o->scale << 6 | (o->index == REG_NONE ? 4 : o->index & 7) << 3 |
					   (o->reg & 7));
		}
		disp8 ? bl_put8(i, o->disp) : bl_put32(i, o->disp);
	}
}

static unsigned vex_pp(const struct bl_code *c)
{
	return c->prefix == PFX_66 ? 1 : c->prefix == PFX_F3 ? 2 : c->prefix == PFX_F2 ? 3 : 0;
}

static void put_evex(struct bl_item *i, const struct bl_code *c, unsigned rxb, unsigned reg)
{
	bl_put8(i, 0x62);
	bl_put8(i, (~rxb & 7) << 5 | (reg & 16 ? 0 : 0x10) | c->map);
	bl_put8(i, c->w << 7 | (~c->vvvv & 15) << 3 | 4 | vex_pp(c));
	bl_put8(i, c->evex2 | (c->vvvv & 16 ? 0 : 8));
}

static void put_vex(struct bl_item *i, const struct bl_code *c, unsigned rxb)
{
	bl_put8(i, 0xc4);
	bl_put8(i, (~rxb & 7) << 5 | c->map);
	bl_put8(i, c->w << 7 | (~c->vvvv & 15) << 3 | c->vex_l << 2 | vex_pp(c));
}

/* Is SPL..DIL meant? AH..BH of a register that must not change are not. */
static bool needs_rex(struct bl_gen *g, unsigned reg)
{
	return (reg & 0xc) == 4 && (g->reserved >> (reg & 3) & 1 || fz_chance(&g->r, 50));
}

/* One instruction with ModRM. */
struct bl_item *bl_put(struct bl_gen *g, const char *name, struct bl_code c, unsigned reg,
		       struct bl_operand o)
{
	struct bl_item *i = bl_add(g, name);
	unsigned b = !o.mem || o.reg != REG_NONE ? o.reg >> 3 & 1 : 0;
	unsigned x = !o.mem ? c.evex && o.reg & 16 : o.index != REG_NONE ? o.index >> 3 & 1 : 0;
	unsigned rxb = (reg >> 3 & 1) << 2 | x << 1 | b, rex = c.w << 3 | rxb;

	if (!i) {
		return NULL;
	}
	if (o.seg) {
		bl_put8(i, o.seg);
	}
	if (c.evex) {
		put_evex(i, &c, rxb, reg);
	} else if (c.vex) {
		put_vex(i, &c, rxb);
	} else {
		if (c.lock) {
			bl_put8(i, 0xf0);
		}
		if (c.prefix) {
			bl_put8(i, c.prefix);
		}
		if (rex || (c.byte && g->is_64 && (needs_rex(g, reg) || needs_rex(g, o.reg)))) {
			bl_put8(i, 0x40 | rex);
		}
		if (c.map != MAP_1) {
			bl_put8(i, 0x0f);
		}
		if (c.map > MAP_0F) {
			bl_put8(i, c.map == MAP_0F38 ? 0x38 : 0x3a);
		}
	}
	bl_put8(i, c.op);
	put_modrm(i, reg, &o, c.evex);
	if (c.imm_len) {
		i->patch_at = i->len;
		bl_bytes(i, c.imm_len, (const char *)&c.imm);
	}
	return i;
}
