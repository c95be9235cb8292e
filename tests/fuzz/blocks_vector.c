/* SPDX-License-Identifier: Apache-2.0 */
/* x87, vector and system instructions of the blocks fuzzer. */
#include "blocks_code.h"
#include "execute/cpuid.h"

void bl_x87(struct bl_gen *g)
{
	static const uint8_t mem[][2] = {
		{0xd9, 0}, {0xdd, 0}, {0xdb, 5}, {0xd9, 3}, {0xdd, 3}, {0xdb, 7},
		{0xdf, 0}, {0xdb, 0}, {0xdf, 5}, {0xdf, 7}, {0xd8, 0}, {0xdc, 1},
		{0xd8, 4}, {0xdc, 6}, {0xda, 0}, {0xde, 5}, {0xdb, 2}, {0xdd, 1},
		{0xdf, 4}, {0xdf, 6}, {0xd9, 7}, {0xdd, 7}, {0xd9, 2},
	};
	static const char *const reg[] = {
		"\xd9\xe8", "\xd9\xeb", "\xd9\xee", "\xd9\xc1", "\xd9\xc9", "\xd9\xe0", "\xd9\xe4",
		"\xdb\xe9", "\xdf\xf1", "\xda\xc9", "\xdb\xd2", "\xde\xc1", "\xde\xc9", "\xd8\xc1",
		"\xdc\xcb", "\xdd\xd8", "\xd9\xfc", "\xd9\xfa", "\xdf\xe0", "\xdb\xe2", "\xd9\xe5",
	};
	unsigned k;

	if (fz_chance(&g->r, 50)) {
		struct bl_code c = {.map = MAP_1};

		k = fz_below(&g->r, sizeof(mem) / sizeof(mem[0]));
		c.op = mem[k][0];
		bl_put(g, "x87 mem", c, mem[k][1], bl_memory(g, 8));
		return;
	}
	k = fz_below(&g->r, sizeof(reg) / sizeof(reg[0]));
	if (reg[k][0] == '\xdf' && reg[k][1] == '\xe0' && g->reserved >> RAX & 1) {
		return;
	}
	bl_bytes(bl_add(g, "x87"), 2, reg[k]);
}

enum { THREE = 1, IMM = 2, GPR_REG = 4, GPR_RM = 8, MEM = 16, SCALAR = 32 };

static const struct {
	uint8_t prefix, map, op, flags;
} vectors[] = {
	{PFX_NONE, MAP_0F, 0x10, 0},
	{PFX_66, MAP_0F, 0x10, 0},
	{PFX_F3, MAP_0F, 0x10, MEM},
	{PFX_F2, MAP_0F, 0x10, MEM},
	{PFX_NONE, MAP_0F, 0x11, 0},
	{PFX_F3, MAP_0F, 0x11, MEM},
	{PFX_F2, MAP_0F, 0x11, MEM},
	{PFX_NONE, MAP_0F, 0x28, 0},
	{PFX_66, MAP_0F, 0x29, 0},
	{PFX_66, MAP_0F, 0x6f, 0},
	{PFX_F3, MAP_0F, 0x6f, 0},
	{PFX_66, MAP_0F, 0x7f, 0},
	{PFX_F3, MAP_0F, 0x7f, 0},
	{PFX_NONE, MAP_0F, 0x58, THREE},
	{PFX_66, MAP_0F, 0x59, THREE},
	{PFX_F3, MAP_0F, 0x5c, THREE},
	{PFX_F2, MAP_0F, 0x5e, THREE},
	{PFX_F2, MAP_0F, 0x51, THREE},
	{PFX_66, MAP_0F, 0xef, THREE},
	{PFX_66, MAP_0F, 0xfc, THREE},
	{PFX_66, MAP_0F, 0xd4, THREE},
	{PFX_66, MAP_0F, 0x60, THREE},
	{PFX_NONE, MAP_0F, 0x54, THREE},
	{PFX_NONE, MAP_0F, 0x2e, SCALAR},
	{PFX_66, MAP_0F, 0x2f, SCALAR},
	{PFX_NONE, MAP_0F, 0xc6, THREE | IMM},
	{PFX_66, MAP_0F, 0x70, IMM},
	{PFX_66, MAP_0F38, 0x00, THREE},
	{PFX_66, MAP_0F38, 0x17, 0},
	{PFX_66, MAP_0F3A, 0x0f, THREE | IMM},
	{PFX_66, MAP_0F, 0x6e, GPR_RM},
	{PFX_66, MAP_0F, 0x7e, GPR_RM},
	{PFX_F2, MAP_0F, 0x2a, THREE | GPR_RM},
	{PFX_F2, MAP_0F, 0x2c, GPR_REG | SCALAR},
	{PFX_F3, MAP_0F, 0x2d, GPR_REG | SCALAR},
	{PFX_F3, MAP_0F, 0x5a, THREE},
	{PFX_F3, MAP_0F, 0x7e, SCALAR},
	{PFX_66, MAP_0F, 0xd6, SCALAR},
	{PFX_66, MAP_0F, 0x13, MEM | SCALAR},
	{PFX_66, MAP_0F, 0x16, THREE | MEM | SCALAR},
};

enum { W = 64, OPMASK_REG = 128, UNMASKED = 256, BROADCAST = 512 };

static const struct {
	uint8_t prefix, map, op;
	uint16_t flags;
} evex[] = {
	{PFX_NONE, MAP_0F, 0x10, 0},
	{PFX_66, MAP_0F, 0x11, W},
	{PFX_F2, MAP_0F, 0x6f, 0},
	{PFX_F2, MAP_0F, 0x7f, W},
	{PFX_F3, MAP_0F, 0x6f, W},
	{PFX_F3, MAP_0F, 0x7f, 0},
	{PFX_66, MAP_0F, 0x6f, 0},
	{PFX_66, MAP_0F, 0x7f, W},
	{PFX_NONE, MAP_0F, 0x58, THREE | BROADCAST},
	{PFX_66, MAP_0F, 0x59, THREE | BROADCAST | W},
	{PFX_66, MAP_0F, 0xef, THREE | BROADCAST},
	{PFX_66, MAP_0F, 0xfc, THREE},
	{PFX_66, MAP_0F, 0x60, THREE},
	{PFX_66, MAP_0F, 0x74, THREE | OPMASK_REG},
	{PFX_66, MAP_0F, 0x76, THREE | OPMASK_REG | BROADCAST},
	{PFX_NONE, MAP_0F, 0xc2, THREE | OPMASK_REG | BROADCAST | IMM},
	{PFX_66, MAP_0F38, 0x26, THREE | OPMASK_REG},
	{PFX_66, MAP_0F38, 0x31, 0},
	{PFX_66, MAP_0F38, 0x36, THREE | BROADCAST},
	{PFX_66, MAP_0F38, 0x64, THREE | BROADCAST | W},
	{PFX_66, MAP_0F38, 0x88, 0},
	{PFX_66, MAP_0F38, 0x8b, W},
	{PFX_F3, MAP_0F38, 0x31, 0},
	{PFX_F3, MAP_0F38, 0x35, 0},
	{PFX_66, MAP_0F3A, 0x25, THREE | BROADCAST | IMM},
	{PFX_66, MAP_0F3A, 0x03, THREE | BROADCAST | IMM | W},
	{PFX_66, MAP_0F3A, 0x3f, THREE | OPMASK_REG | IMM | W},
	{PFX_66, MAP_0F38, 0x7c, GPR_RM | W},
	{PFX_66, MAP_0F, 0x6e, GPR_RM | UNMASKED},
	{PFX_F3, MAP_0F, 0x2d, GPR_REG | UNMASKED},
};

static void bl_evex(struct bl_gen *g)
{
	unsigned k = fz_below(&g->r, sizeof(evex) / sizeof(evex[0])), fl = evex[k].flags;
	struct bl_code c = {.prefix = evex[k].prefix,
			    .map = evex[k].map,
			    .op = evex[k].op,
			    .w = fl & W,
			    .evex = true,
			    .imm_len = fl & IMM ? 1 : 0,
			    .imm = fz_next(&g->r)};
	unsigned n = g->is_64 ? 32 : 8;
	unsigned reg = fl & GPR_REG	 ? bl_pick(g)
		       : fl & OPMASK_REG ? fz_below(&g->r, 8)
					 : fz_below(&g->r, n);
	struct bl_operand o = fl & GPR_RM	     ? bl_register(bl_any(g))
			      : fz_chance(&g->r, 60) ? bl_memory(g, 64)
						     : bl_register(fz_below(&g->r, n));

	c.w = c.w && (g->is_64 || !(fl & GPR_RM));
	c.vvvv = (uint8_t)(fl & THREE ? fz_below(&g->r, n) : 0);
	if (!(fl & UNMASKED)) {
		c.evex2 = (uint8_t)(fz_below(&g->r, 3) << 5 | fz_below(&g->r, 8));
		c.evex2 |= fl & BROADCAST && o.mem && fz_chance(&g->r, 30) ? 0x10 : 0;
		c.evex2 |= fz_chance(&g->r, 15) ? 0x80 : 0; /* #UD now and then */
	}
	bl_put(g, "evex", c, reg, o);
}

/* KMOVQ, KMOVD of general registers and memory, and what is done with opmasks. */
static void bl_opmask(struct bl_gen *g)
{
	static const uint8_t three[] = {0x41, 0x42, 0x45, 0x46, 0x47, 0x4a, 0x4b};
	struct bl_code c = {.vex = true, .map = MAP_0F, .w = fz_chance(&g->r, 50)};
	unsigned reg = fz_below(&g->r, 8);
	struct bl_operand o = bl_register(fz_below(&g->r, 8));

	switch (fz_below(&g->r, 6)) {
	case 0:
		c.op = 0x92;
		c.prefix = PFX_F2;
		c.w = c.w && g->is_64;
		o = bl_register(bl_any(g));
		break;
	case 1:
		c.op = 0x93;
		c.prefix = PFX_F2;
		c.w = c.w && g->is_64;
		reg = bl_pick(g);
		break;
	case 2:
		c.op = 0x90 + (uint8_t)fz_below(&g->r, 2);
		o = bl_memory(g, 8);
		break;
	case 3: c.op = 0x98 + (uint8_t)fz_below(&g->r, 2); break;
	case 4:
		c.map = MAP_0F3A;
		c.prefix = PFX_66;
		c.op = 0x30 + (uint8_t)fz_below(&g->r, 4);
		c.imm_len = 1;
		c.imm = fz_below(&g->r, 64);
		break;
	default:
		c.op = three[fz_below(&g->r, sizeof(three))];
		c.vex_l = true;
		c.vvvv = (uint8_t)fz_below(&g->r, 8);
	}
	bl_put(g, "opmask", c, reg, o);
}

static void bl_avx512(struct bl_gen *g)
{
	if (fz_chance(&g->r, 75)) {
		bl_evex(g);
	} else {
		bl_opmask(g);
	}
}

void bl_vector(struct bl_gen *g)
{
	unsigned k = fz_below(&g->r, sizeof(vectors) / sizeof(vectors[0])), fl = vectors[k].flags;
	struct bl_code c = {.prefix = vectors[k].prefix,
			    .map = vectors[k].map,
			    .op = vectors[k].op,
			    .vex = fz_chance(&g->r, 50),
			    .imm_len = fl & IMM ? 1 : 0,
			    .imm = fz_next(&g->r)};
	unsigned reg = fl & GPR_REG ? bl_pick(g) : bl_any(g);
	struct bl_operand o;

	if (cpuid_has(FEAT_AVX512) && fz_chance(&g->r, 50)) {
		bl_avx512(g);
		return;
	}
	if (fl & GPR_RM) {
		o = bl_target(g, 30);
		c.w = g->is_64 && fz_chance(&g->r, 50);
	} else {
		o = fl & MEM || fz_chance(&g->r, 50) ? bl_memory(g, 16) : bl_register(bl_any(g));
	}
	if (c.vex) {
		c.vex_l = !(fl & (SCALAR | GPR_RM | MEM)) && fz_chance(&g->r, 50);
		c.vvvv = (uint8_t)(fl & THREE ? bl_any(g) : 0);
	}
	bl_put(g, "vector", c, reg, o);
}

void bl_mmx(struct bl_gen *g)
{
	static const uint8_t ops[] = {0x6f, 0x7f, 0xfc, 0xef, 0x61, 0xd5};
	struct bl_code c = {.map = MAP_0F, .op = ops[fz_below(&g->r, 6)]};

	if (fz_chance(&g->r, 30)) {
		bl_bytes(bl_add(g, "emms"), 2, "\x0f\x77");
		return;
	}
	bl_put(g, "mmx", c, fz_below(&g->r, 8),
	       fz_chance(&g->r, 50) ? bl_memory(g, 8) : bl_register(fz_below(&g->r, 8)));
}

/* -- what changes the mode of things -- */

void bl_user_system(struct bl_gen *g)
{
	static const struct {
		uint8_t n;
		const char *bytes;
	} some[] = {
		{1, "\x90"},	 {3, "\x0f\xae\xe8"}, {3, "\x0f\xae\xf0"},     {1, "\xcc"},
		{2, "\x0f\x0b"}, {2, "\xf3\x90"},     {4, "\x0f\x1f\x40\x00"}, {3, "\xc5\xf8\x77"},
	};
	struct bl_code c = {.map = MAP_0F, .op = 0xae};
	unsigned k = fz_below(&g->r, 10);

	if (k == 8) { /* LDMXCSR of whatever is there */
		bl_put(g, "ldmxcsr/stmxcsr", c, 2 + fz_below(&g->r, 2), bl_memory(g, 4));
	} else if (k == 9) {
		c = (struct bl_code){.map = MAP_1, .op = 0xd9};
		bl_put(g, "fldcw", c, 5, bl_memory(g, 2));
	} else {
		bl_bytes(bl_add(g, "misc"), some[k].n, some[k].bytes);
	}
}

void bl_kernel_system(struct bl_gen *g)
{
	static const struct {
		uint8_t n;
		const char *bytes;
		const char *name;
	} some[] = {
		{3, "\x0f\x01\xcb", "stac"},
		{3, "\x0f\x01\xca", "clac"},
		{1, "\xfa", "cli"},
		{1, "\xfb", "sti"},
		{2, "\x0f\x06", "clts"},
		{6, "\x0f\x20\xd8\x0f\x22\xd8", "mov cr3, cr3"},
		{9, "\x0f\x20\xc0\x83\xc8\x08\x0f\x22\xc0", "set cr0.ts"},
		{6, "\x0f\x20\xe0\x0f\x22\xe0", "mov cr4, cr4"},
		{2, "\x0f\x31", "rdtsc"},
	};
	struct bl_code c = {.map = MAP_0F, .op = 0x01};
	unsigned k = fz_below(&g->r, 14);

	if (k == 6 && fz_chance(&g->r, 80)) {
		k = 4; /* or there is little but #NM */
	} else if (k >= 9) {
		k = k < 13 ? k & 1 : 9;
	}
	if (k == 9) {
		bl_put(g, "invlpg", c, 7, bl_memory(g, 8));
	} else if (k < 5 || !(g->reserved & (1 << RAX | 1 << RDX))) {
		bl_bytes(bl_add(g, some[k].name), some[k].n, some[k].bytes);
	}
}

void bl_rights(struct bl_gen *g)
{
	bool pkrs = g->kernel && fz_chance(&g->r, 70);
	struct bl_item *i;

	if (g->reserved & (1 << RAX | 1 << RCX | 1 << RDX)) {
		return;
	}
	i = bl_add(g, pkrs ? "wrmsr pkrs" : "wrpkru; rdpkru");
	bl_put8(i, 0xb8);
	bl_put32(i, fz_chance(&g->r, 40) ? 0 : 1u << (2 + fz_below(&g->r, 6)));
	bl_put8(i, 0xb9);
	bl_put32(i, pkrs ? 0x6e1 : 0);
	bl_put8(i, 0xba);
	bl_put32(i, 0);
	bl_bytes(i, pkrs ? 2 : 6, pkrs ? "\x0f\x30" : "\x0f\x01\xef\x0f\x01\xee");
}
