/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions of the blocks fuzzer that go straight on: integer, stack, string ones, and which
 * are how frequent.
 */
#include "blocks_code.h"

/* Operand size: 2, 4 or 8 bytes, as prefix and REX.W. */
static void size(struct bl_gen *g, struct bl_code *c)
{
	unsigned what = fz_below(&g->r, 10);

	c->prefix = what < 2 ? PFX_66 : PFX_NONE;
	c->w = g->is_64 && what >= 6;
}

/* Byte operands, half of the time. 4-7 are AH..BH of registers that may be reserved. */
static unsigned byte_register(struct bl_gen *g, unsigned reg)
{
	return g->is_64 ? reg : fz_below(&g->r, 2) * 4 + (reg & 1) * 2; /* AL, DL, AH, DH */
}

/* -- integer -- */

static void alu(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_1};
	unsigned op = fz_below(&g->r, 8), form = fz_below(&g->r, 6), reg;
	struct bl_operand o;

	size(g, &c);
	if (fz_chance(&g->r, 30)) { /* those that flags are carried through */
		op = 2 + fz_below(&g->r, 2);
	}
	switch (form) {
	case 0:
	case 1: /* r/m, r */
		o = bl_target(g, 30);
		c.op = (uint8_t)(op << 3 | 1);
		c.lock = o.mem && op < 7 && fz_chance(&g->r, 20);
		bl_put(g, "alu rm, r", c, bl_any(g), o);
		return;
	case 2: /* r, r/m */
		c.op = (uint8_t)(op << 3 | 3);
		reg = op == 7 ? bl_any(g) : bl_pick(g);
		bl_put(g, "alu r, rm", c, reg, bl_source(g, 50));
		return;
	case 3: /* imm8 */
		c.op = 0x83;
		c.imm_len = 1;
		c.imm = fz_next(&g->r);
		bl_put(g, "alu rm, imm8", c, op, bl_target(g, 30));
		return;
	case 4:
		c.op = 0x81;
		c.imm_len = c.prefix ? 2 : 4;
		c.imm = fz_integer(&g->r);
		bl_put(g, "alu rm, imm", c, op, bl_target(g, 30));
		return;
	}
	c = (struct bl_code){.map = MAP_1,
			     .op = (uint8_t)(op << 3 | fz_below(&g->r, 2) * 2),
			     .byte = true};
	o = bl_target(g, 40);
	if (!o.mem) {
		o.reg = (uint8_t)byte_register(g, o.reg);
	}
	bl_put(g, "alu byte", c, byte_register(g, bl_pick(g)), o);
}

static void unary(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_1};
	unsigned op = fz_below(&g->r, 6);
	struct bl_operand o;

	size(g, &c);
	if (op < 3) { /* INC, DEC */
		c.op = 0xff;
		bl_put(g, "inc/dec", c, op & 1, bl_target(g, 30));
		return;
	}
	c.op = 0xf7;
	if (op < 5) {
		o = bl_target(g, 30);
		c.lock = o.mem && fz_chance(&g->r, 20);
		bl_put(g, "not/neg", c, 2 + (op & 1), o);
		return;
	}
	c.imm_len = c.prefix ? 2 : 4;
	c.imm = fz_integer(&g->r);
	bl_put(g, "test imm", c, 0, bl_source(g, 40));
}

static void multiply(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_1, .op = 0xf7};
	unsigned op = fz_below(&g->r, 7);

	size(g, &c);
	if (op < 4 && !(g->reserved & (1 << RAX | 1 << RDX))) {
		if (op >= 2 && fz_chance(&g->r, 80)) { /* mostly without #DE */
			struct bl_item *i = bl_add(g, "xor edx, edx");

			bl_bytes(i, 2, "\x31\xd2");
		}
		bl_put(g, "mul/div", c, 4 + op, bl_source(g, 30));
		return;
	}
	if (op < 6) {
		c.map = MAP_0F;
		c.op = 0xaf;
		bl_put(g, "imul", c, bl_pick(g), bl_source(g, 40));
		return;
	}
	c.op = 0x6b;
	c.imm_len = 1;
	c.imm = fz_next(&g->r);
	bl_put(g, "imul imm", c, bl_pick(g), bl_source(g, 40));
}

static void shift(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_1};
	unsigned form = fz_below(&g->r, 5);

	size(g, &c);
	if (form < 3) {
		c.op = form == 0 ? 0xd1 : form == 1 ? 0xd3 : 0xc1;
		c.imm_len = form == 2;
		c.imm = fz_below(&g->r, 70);
		bl_put(g, "shift", c, fz_below(&g->r, 8), bl_target(g, 30));
		return;
	}
	c.map = MAP_0F;
	c.op = (uint8_t)((form == 3 ? 0xa4 : 0xa5) + 8 * fz_below(&g->r, 2));
	c.imm_len = form == 3;
	c.imm = fz_below(&g->r, 70);
	bl_put(g, "shld/shrd", c, bl_any(g), bl_target(g, 30));
}

static void bits(struct bl_gen *g)
{
	static const uint8_t ops[] = {0xa3, 0xab, 0xb3, 0xbb};
	struct bl_code c = {.map = MAP_0F};
	unsigned form = fz_below(&g->r, 4);

	size(g, &c);
	if (form == 0) {
		c.op = ops[fz_below(&g->r, 4)];
		bl_put(g, "bt", c, bl_any(g), bl_target(g, 10));
	} else if (form == 1) {
		c.op = 0xba;
		c.imm_len = 1;
		c.imm = fz_next(&g->r);
		bl_put(g, "bt imm", c, 4 + fz_below(&g->r, 4), bl_target(g, 30));
	} else if (form == 2) {
		c.op = (uint8_t)(0xbc + fz_below(&g->r, 2));
		c.prefix = fz_chance(&g->r, 40) ? PFX_F3 : c.prefix;
		bl_put(g, "bsf/bsr", c, bl_pick(g), bl_source(g, 30));
	} else {
		c.op = 0xb8;
		c.prefix = PFX_F3;
		bl_put(g, "popcnt", c, bl_pick(g), bl_source(g, 30));
	}
}

static void move(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_1};
	unsigned form = fz_below(&g->r, 8);

	size(g, &c);
	switch (form) {
	case 0:
		c.op = 0x89;
		bl_put(g, "mov rm, r", c, bl_any(g), bl_target(g, 80));
		return;
	case 1:
		c.op = 0x8b;
		bl_put(g, "mov r, rm", c, bl_pick(g), bl_source(g, 80));
		return;
	case 2:
		c.op = 0xc7;
		c.imm_len = c.prefix ? 2 : 4;
		c.imm = fz_integer(&g->r);
		bl_put(g, "mov rm, imm", c, 0, bl_target(g, 60));
		return;
	case 3:
	case 4:
		c.map = MAP_0F;
		c.op = (uint8_t)(0xb6 + fz_below(&g->r, 2) + 8 * fz_below(&g->r, 2));
		bl_put(g, "movzx/movsx", c, bl_pick(g), bl_memory(g, 2));
		return;
	case 5: bl_move_imm(g, bl_pick(g), (uint32_t)fz_integer(&g->r)); return;
	case 6:
		c.op = 0x8d;
		bl_put(g, "lea", c, bl_pick(g), bl_memory(g, 1));
		return;
	}
	c = (struct bl_code){.map = MAP_1,
			     .op = (uint8_t)(0x88 + 2 * fz_below(&g->r, 2)),
			     .byte = true};
	bl_put(g, "mov byte", c, byte_register(g, bl_pick(g)), bl_memory(g, 1));
}

static void exchange(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_0F};
	unsigned form = fz_below(&g->r, 5);
	struct bl_operand o = bl_target(g, 50);

	size(g, &c);
	c.lock = o.mem && fz_chance(&g->r, 60);
	switch (form) {
	case 0:
		c.op = 0xc1;
		bl_put(g, "xadd", c, bl_pick(g), o);
		return;
	case 1:
		if (!(g->reserved >> RAX & 1)) {
			c.op = 0xb1;
			bl_put(g, "cmpxchg", c, bl_any(g), o);
		}
		return;
	case 2:
		if (!(g->reserved & (1 << RAX | 1 << RDX))) {
			c.op = 0xc7;
			c.prefix = 0;
			c.lock = fz_chance(&g->r, 60);
			bl_put(g, "cmpxchg8b/16b", c, 1, bl_memory(g, 16));
		}
		return;
	}
	c.map = MAP_1;
	c.op = 0x87;
	bl_put(g, "xchg", c, bl_pick(g), o);
}

/* SETcc, CMOVcc, LAHF, SAHF, CLC and kin: flags come and go. */
static void flags(struct bl_gen *g)
{
	static const char single[] = "\xf5\xf8\xf9\xfc\xf5\x9e\x9f";
	struct bl_code c = {.map = MAP_0F};
	unsigned form = fz_below(&g->r, 4), cc = fz_below(&g->r, 16);

	size(g, &c);
	if (form == 0) {
		c.op = (uint8_t)(0x40 | cc);
		bl_put(g, "cmov", c, bl_pick(g), bl_source(g, 30));
	} else if (form == 1) {
		struct bl_operand o = bl_target(g, 40);

		c = (struct bl_code){.map = MAP_0F, .op = (uint8_t)(0x90 | cc), .byte = true};
		if (!o.mem) {
			o.reg = (uint8_t)byte_register(g, o.reg);
		}
		bl_put(g, "setcc", c, 0, o);
	} else if (form == 2) {
		c = (struct bl_code){.map = MAP_0F38,
				     .op = 0xf6,
				     .prefix = fz_chance(&g->r, 50) ? PFX_66 : PFX_F3};
		bl_put(g, "adcx/adox", c, bl_pick(g), bl_source(g, 30));
	} else {
		unsigned k = fz_below(&g->r, g->reserved >> RAX & 1 ? 5 : 7);

		bl_bytes(bl_add(g, "flag"), 1, single + k);
	}
}

static void bmi(struct bl_gen *g)
{
	static const struct {
		uint8_t prefix, map, op, imm;
	} ops[] = {
		{PFX_NONE, MAP_0F38, 0xf2, 0}, {PFX_NONE, MAP_0F38, 0xf7, 0},
		{PFX_66, MAP_0F38, 0xf7, 0},   {PFX_F2, MAP_0F38, 0xf7, 0},
		{PFX_F3, MAP_0F38, 0xf7, 0},   {PFX_NONE, MAP_0F38, 0xf5, 0},
		{PFX_F2, MAP_0F38, 0xf5, 0},   {PFX_F3, MAP_0F38, 0xf5, 0},
		{PFX_F2, MAP_0F3A, 0xf0, 1},
	};
	unsigned k = fz_below(&g->r, 9);
	struct bl_code c = {.vex = true,
			    .prefix = ops[k].prefix,
			    .map = ops[k].map,
			    .op = ops[k].op};

	c.w = g->is_64 && fz_chance(&g->r, 50);
	c.vvvv = (uint8_t)(ops[k].imm ? 0 : bl_any(g));
	c.imm_len = ops[k].imm;
	c.imm = fz_next(&g->r);
	bl_put(g, "bmi", c, bl_pick(g), bl_source(g, 40));
}

/* -- the stack -- */

static void stack(struct bl_gen *g)
{
	struct bl_code c = {.map = MAP_1, .op = 0xff};
	unsigned form = fz_below(&g->r, 8), reg = form < 2 ? bl_any(g) : bl_pick(g);
	struct bl_item *i;

	switch (form) {
	case 0:
	case 1:
	case 2:
	case 3:
		i = bl_add(g, form < 2 ? "push r" : "pop r");
		if (reg & 8) {
			bl_put8(i, 0x41);
		}
		bl_put8(i, (form < 2 ? 0x50 : 0x58) | (reg & 7));
		return;
	case 4:
		i = bl_add(g, "push imm");
		if (i) {
			bl_put8(i, 0x68);
			i->patch_at = i->len;
			bl_put32(i, (uint32_t)fz_integer(&g->r));
		}
		return;
	case 5: bl_put(g, "push rm", c, 6, bl_memory(g, 8)); return;
	case 6: bl_bytes(bl_add(g, "pushf; popf"), 2, "\x9c\x9d"); return;
	}
	i = bl_add(g, "push rsp; lea rsp");
	bl_put8(i, 0x54);
	bl_bytes(i, g->is_64 ? 5 : 4, g->is_64 ? "\x48\x8d\x64\x24\x08" : "\x8d\x64\x24\x04");
}

/* -- strings -- */

void bl_move_imm(struct bl_gen *g, unsigned reg, uint32_t val)
{
	struct bl_item *i = bl_add(g, "mov r, imm32");

	if (i && reg & 8) {
		bl_put8(i, 0x41);
	}
	if (i) {
		bl_put8(i, 0xb8 | (reg & 7));
		i->patch_at = i->len;
		bl_put32(i, val);
	}
}

static void strings(struct bl_gen *g)
{
	static const uint8_t ops[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
	bool rep = fz_chance(&g->r, 70);
	unsigned k = fz_below(&g->r, 5);
	struct bl_item *i;

	if (g->reserved & (1 << RSI | 1 << RDI | 1 << RCX | 1 << RAX)) {
		return;
	}
	bl_move_imm(g, RSI, bl_data_address(g, 8));
	bl_move_imm(g, RDI, bl_data_address(g, 8));
	if (rep) {
		bl_move_imm(g, RCX, fz_below(&g->r, fz_chance(&g->r, 90) ? 50 : 5000));
	}
	if (fz_chance(&g->r, 20)) {
		bl_bytes(bl_add(g, "cld/std"), 1, fz_chance(&g->r, 50) ? "\xfc" : "\xfd");
	}
	i = bl_add(g, "string");
	if (rep) {
		bl_put8(i, fz_chance(&g->r, 80) ? PFX_F3 : PFX_F2);
	}
	if (g->is_64 && fz_chance(&g->r, 30)) {
		bl_put8(i, 0x48);
	}
	bl_put8(i, ops[k] | fz_below(&g->r, 2));
}

void bl_simple(struct bl_gen *g)
{
	static const struct {
		uint8_t weight;
		void (*make)(struct bl_gen *g);
	} kinds[] = {
		{22, alu},    {8, unary},    {5, multiply},   {8, shift},  {5, bits},
		{16, move},   {6, exchange}, {10, flags},     {3, bmi},	   {8, stack},
		{3, strings}, {5, bl_x87},   {10, bl_vector}, {1, bl_mmx}, {1, bl_user_system},
	};
	unsigned at = fz_below(&g->r, 111), k = 0;

	if (g->kernel && fz_chance(&g->r, 5)) {
		bl_kernel_system(g);
		return;
	}
	if (g->p->keys && fz_chance(&g->r, 4)) {
		bl_rights(g);
		return;
	}
	while (at >= kinds[k].weight) {
		at -= kinds[k++].weight;
	}
	kinds[k].make(g);
}
