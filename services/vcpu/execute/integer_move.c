/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: MOV of every form, MOVZX, MOVSX, MOVSXD, LEA, CMOVcc, SETcc, MOVNTI, MOVBE, XCHG of two
 * registers, BSWAP. Intel SDM volume 2.
 */
#include <sched.h>

#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"

enum { PAUSES_TO_YIELD = 1024 };

/* A load of `bits` through `conv` into a register of `to` bits, in the three forms of address. */
#define LOAD_FAST(name, bits, to, conv, ea)                                                   \
	static const struct insn *name##_##bits##to##ea(struct vcpu *v, const struct insn *i) \
	{                                                                                     \
		const mem##bits *p = tlb_hit_r(v, EA_FAST_##ea(v, i), bits / 8);              \
                                                                                              \
		if (__builtin_expect(!p, 0)) {                                                \
			return name##_##bits##to##G(v, i);                                    \
		}                                                                             \
		set##to(v, i->reg_at, conv(*p));                                              \
		NEXT(v, i);                                                                   \
	}
#define LOAD(name, bits, to, conv)                                                                \
	static const struct insn *name##_##bits##to##G(struct vcpu *v, const struct insn *i)      \
	{                                                                                         \
		v->insn = i;                                                                      \
		set##to(v, i->reg_at, conv(mmu_read##bits(v, ea_linear(v, i, bits / 8, MMU_R)))); \
		NEXT(v, i);                                                                       \
	}                                                                                         \
	LOAD_FAST(name, bits, to, conv, B)                                                        \
	LOAD_FAST(name, bits, to, conv, X)                                                        \
	static const struct insn *name##_##bits##to##R(struct vcpu *v, const struct insn *i)      \
	{                                                                                         \
		set##to(v, i->reg_at, conv(get##bits(v, i->rm_at)));                              \
		NEXT(v, i);                                                                       \
	}
#define LOAD_ROW(name, bits, to)                                                  \
	{                                                                         \
		name##_##bits##to##B, name##_##bits##to##X, name##_##bits##to##G, \
			name##_##bits##to##R                                      \
	}

LOAD(mov, 8, 8, )
LOAD(mov, 16, 16, )
LOAD(mov, 32, 32, )
LOAD(mov, 64, 64, )
LOAD(movzx, 8, 16, )
LOAD(movzx, 8, 32, )
LOAD(movzx, 16, 32, )
LOAD(movsx, 8, 16, (int8_t))
LOAD(movsx, 8, 32, (uint32_t)(int8_t))
LOAD(movsx, 8, 64, (int64_t)(int8_t))
LOAD(movsx, 16, 32, (uint32_t)(int16_t))
LOAD(movsx, 16, 64, (int64_t)(int16_t))
LOAD(movsx, 32, 64, (int64_t)(int32_t))

#define STORE_FAST(name, bits, src, ea)                                                \
	static const struct insn *name##bits##ea(struct vcpu *v, const struct insn *i) \
	{                                                                              \
		mem##bits *p = tlb_hit_w(v, EA_FAST_##ea(v, i), bits / 8);             \
                                                                                       \
		if (__builtin_expect(!p, 0)) {                                         \
			return name##bits##G(v, i);                                    \
		}                                                                      \
		*p = src;                                                              \
		NEXT(v, i);                                                            \
	}
#define STORE(name, bits, src)                                                        \
	static const struct insn *name##bits##G(struct vcpu *v, const struct insn *i) \
	{                                                                             \
		v->insn = i;                                                          \
		mmu_write##bits(v, ea_linear(v, i, bits / 8, MMU_W), src);            \
		NEXT(v, i);                                                           \
	}                                                                             \
	STORE_FAST(name, bits, src, B)                                                \
	STORE_FAST(name, bits, src, X)
#define STORE_ROW(name, bits)                               \
	{                                                   \
		name##bits##B, name##bits##X, name##bits##G \
	}

STORE(store_reg, 8, get8(v, i->reg_at))
STORE(store_reg, 16, get16(v, i->reg_at))
STORE(store_reg, 32, get32(v, i->reg_at))
STORE(store_reg, 64, get64(v, i->reg_at))
STORE(store_imm, 8, (uint8_t)i->imm)
STORE(store_imm, 16, (uint16_t)i->imm)
STORE(store_imm, 32, (uint32_t)i->imm)
STORE(store_imm, 64, i->imm)
STORE(store_swapped, 16, __builtin_bswap16(get16(v, i->reg_at)))
STORE(store_swapped, 32, __builtin_bswap32(get32(v, i->reg_at)))
STORE(store_swapped, 64, __builtin_bswap64(get64(v, i->reg_at)))
LOAD(movbe, 16, 16, __builtin_bswap16)
LOAD(movbe, 32, 32, __builtin_bswap32)
LOAD(movbe, 64, 64, __builtin_bswap64)

/* By width, then enum ea_form; N_EA: from a register. */
static insn_fn *const load_handlers[4][N_EA + 1] = {
	LOAD_ROW(mov, 8, 8),
	LOAD_ROW(mov, 16, 16),
	LOAD_ROW(mov, 32, 32),
	LOAD_ROW(mov, 64, 64),
};
static insn_fn *const movbe_load_handlers[4][N_EA + 1] = {
	{NULL},
	LOAD_ROW(movbe, 16, 16),
	LOAD_ROW(movbe, 32, 32),
	LOAD_ROW(movbe, 64, 64),
};
static insn_fn *const store_handlers[3][4][N_EA] = {
	{STORE_ROW(store_reg, 8), STORE_ROW(store_reg, 16), STORE_ROW(store_reg, 32),
	 STORE_ROW(store_reg, 64)},
	{STORE_ROW(store_imm, 8), STORE_ROW(store_imm, 16), STORE_ROW(store_imm, 32),
	 STORE_ROW(store_imm, 64)},
	{{NULL},
	 STORE_ROW(store_swapped, 16),
	 STORE_ROW(store_swapped, 32),
	 STORE_ROW(store_swapped, 64)},
};
enum { STORE_REG, STORE_IMM, STORE_SWAPPED };
/* By signedness, source width, destination width (log2 of bytes). */
static insn_fn *const extend_handlers[2][3][4][N_EA + 1] = {
	{{{NULL}, LOAD_ROW(movzx, 8, 16), LOAD_ROW(movzx, 8, 32), LOAD_ROW(movzx, 8, 32)},
	 {{NULL}, LOAD_ROW(mov, 16, 16), LOAD_ROW(movzx, 16, 32), LOAD_ROW(movzx, 16, 32)}},
	{{{NULL}, LOAD_ROW(movsx, 8, 16), LOAD_ROW(movsx, 8, 32), LOAD_ROW(movsx, 8, 64)},
	 {{NULL}, LOAD_ROW(mov, 16, 16), LOAD_ROW(movsx, 16, 32), LOAD_ROW(movsx, 16, 64)},
	 {{NULL}, LOAD_ROW(mov, 16, 16), LOAD_ROW(mov, 32, 32), LOAD_ROW(movsx, 32, 64)}},
};

#define WIDTH_HANDLERS(bits)                                                                \
	static const struct insn *mov_imm##bits(struct vcpu *v, const struct insn *i)       \
	{                                                                                   \
		set##bits(v, i->rm_at, (uint##bits##_t)i->imm);                             \
		NEXT(v, i);                                                                 \
	}                                                                                   \
	static const struct insn *xchg_rr##bits(struct vcpu *v, const struct insn *i)       \
	{                                                                                   \
		uint##bits##_t val = get##bits(v, i->reg_at);                               \
                                                                                            \
		set##bits(v, i->reg_at, get##bits(v, i->rm_at));                            \
		set##bits(v, i->rm_at, val);                                                \
		NEXT(v, i);                                                                 \
	}                                                                                   \
	static const struct insn *lea##bits(struct vcpu *v, const struct insn *i)           \
	{                                                                                   \
		set##bits(v, i->reg_at, (uint##bits##_t)ea_offset(v, i));                   \
		NEXT(v, i);                                                                 \
	}                                                                                   \
	static const struct insn *cmov##bits(struct vcpu *v, const struct insn *i)          \
	{                                                                                   \
		uint##bits##_t val;                                                         \
                                                                                            \
		v->insn = i;                                                                \
		val = rm_read(v, i, bits / 8);                                              \
		val = condition(v->aflags, i->opcode & 15) ? val : get##bits(v, i->reg_at); \
		set##bits(v, i->reg_at, val);                                               \
		NEXT(v, i);                                                                 \
	}
WIDTH_HANDLERS(8)
WIDTH_HANDLERS(16)
WIDTH_HANDLERS(32)
WIDTH_HANDLERS(64)
#define WIDTH_ROW(name)                               \
	{                                             \
		name##8, name##16, name##32, name##64 \
	}

static insn_fn *const mov_imm_handlers[4] = WIDTH_ROW(mov_imm);
static insn_fn *const xchg_handlers[4] = WIDTH_ROW(xchg_rr);
static insn_fn *const lea_handlers[4] = WIDTH_ROW(lea);
static insn_fn *const cmov_handlers[4] = WIDTH_ROW(cmov);

/* LEA in 64-bit mode with 64-bit addressing. */
static const struct insn *lea64_b(struct vcpu *v, const struct insn *i)
{
	set64(v, i->reg_at, ea_b(v, i));
	NEXT(v, i);
}

static const struct insn *lea64_x(struct vcpu *v, const struct insn *i)
{
	set64(v, i->reg_at, ea_b(v, i) + (v->gpr[i->index] << i->scale));
	NEXT(v, i);
}

static const struct insn *setcc(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	rm_write(v, i, 1, condition(v->aflags, i->opcode & 15));
	NEXT(v, i);
}

static const struct insn *nop(struct vcpu *v, const struct insn *i)
{
	NEXT(v, i);
}

/* Who spins waits for another CPU, and that may be waiting for this host CPU. */
static const struct insn *pause_spin(struct vcpu *v, const struct insn *i)
{
	__builtin_ia32_pause();
	if (++v->n_pauses % PAUSES_TO_YIELD == 0) {
		sched_yield();
	}
	NEXT(v, i);
}

static const struct insn *bswap16(struct vcpu *v, const struct insn *i)
{
	uint32_t val = get32(v, i->rm_at);

	/* Undefined: whatever this host does with the prefix. */
	asm(".byte 0x66, 0x0f, 0xc8" : "+a"(val));
	set16(v, i->rm_at, (uint16_t)val);
	NEXT(v, i);
}

static const struct insn *bswap32(struct vcpu *v, const struct insn *i)
{
	set32(v, i->rm_at, __builtin_bswap32(get32(v, i->rm_at)));
	NEXT(v, i);
}

static const struct insn *bswap64(struct vcpu *v, const struct insn *i)
{
	set64(v, i->rm_at, __builtin_bswap64(get64(v, i->rm_at)));
	NEXT(v, i);
}

static unsigned width_index(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

static bool bind_load(struct vcpu *v, struct insn *i, insn_fn *const row[N_EA + 1], unsigned size)
{
	enum ea_form ea = operand_bind(v, i, size);

	i->fn = row[i->mod == 3 ? N_EA : ea];
	return true;
}

static bool bind_store(struct vcpu *v, struct insn *i, unsigned kind, unsigned size)
{
	enum ea_form ea = operand_bind(v, i, size);

	i->fn = store_handlers[kind][width_index(size)][ea];
	return true;
}

/* MOVZX, MOVSX, MOVSXD: the source is `from` bytes, the destination opsize. */
static bool bind_extend(struct vcpu *v, struct insn *i, bool is_signed, unsigned from)
{
	if (from > i->opsize) {
		from = i->opsize; /* MOVSXD with a 16-bit destination */
	}
	bind_load(v, i, extend_handlers[is_signed][width_index(from)][width_index(i->opsize)],
		  from);
	i->reg_at = i->reg * 8;
	return true;
}

static bool bind_xchg_acc(struct insn *i)
{
	i->reg_at = RAX * 8;
	i->rm_at = i->rm * 8;
	i->fn = i->reg_at != i->rm_at ? xchg_handlers[width_index(i->opsize)]
		: i->flags & INSN_REP ? pause_spin
				      : nop;
	return true;
}

static bool bind_lea(struct vcpu *v, struct insn *i)
{
	enum ea_form ea = operand_bind(v, i, i->opsize);

	i->fn = lea_handlers[width_index(i->opsize)];
	if (i->opsize == 8 && i->addrsize == 8) {
		i->fn = ea == EA_B ? lea64_b : lea64_x;
	}
	return true;
}

static bool bind_0f(struct vcpu *v, struct insn *i)
{
	switch (i->opcode) {
	case 0x0d:
	case 0x18 ... 0x1f: i->fn = nop; return true; /* prefetches and hints */
	case 0x40 ... 0x4f:
		operand_bind(v, i, i->opsize);
		i->fn = cmov_handlers[width_index(i->opsize)];
		return true;
	case 0x90 ... 0x9f:
		operand_bind(v, i, 1);
		i->fn = setcc;
		return true;
	case 0xb6:
	case 0xb7: return bind_extend(v, i, false, i->opcode & 1 ? 2 : 1);
	case 0xbe:
	case 0xbf: return bind_extend(v, i, true, i->opcode & 1 ? 2 : 1);
	case 0xc3: return bind_store(v, i, STORE_REG, i->opsize == 2 ? 4 : i->opsize); /* MOVNTI */
	case 0xc8 ... 0xcf:
		i->rm_at = i->rm * 8;
		i->fn = i->opsize == 2 ? bswap16 : i->opsize == 4 ? bswap32 : bswap64;
		return true;
	}
	return false;
}

static bool bind_movbe(struct vcpu *v, struct insn *i)
{
	if (i->map != MAP_0F38 || (i->opcode & 0xfe) != 0xf0 || i->mod == 3 ||
	    (i->flags & (INSN_REPNE | INSN_VEX))) {
		return false;
	}
	if (i->opcode == 0xf1) {
		return bind_store(v, i, STORE_SWAPPED, i->opsize);
	}
	return bind_load(v, i, movbe_load_handlers[width_index(i->opsize)], i->opsize);
}

bool integer_bind_move(struct vcpu *v, struct insn *i)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1;

	if (i->flags & INSN_VEX) {
		return false;
	}
	if (i->map != MAP_1) {
		return i->map == MAP_0F ? bind_0f(v, i) : bind_movbe(v, i);
	}
	switch (i->opcode) {
	case 0x63: return (v->mode & MODE_SIZE) == MODE_64 && bind_extend(v, i, true, 4);
	case 0x86:
	case 0x87:
		operand_bind(v, i, size);
		i->fn = xchg_handlers[width_index(size)];
		return i->mod == 3; /* with memory: integer_bind_atomic() */
	case 0x88:
	case 0x89:
		if (i->mod == 3) {
			uint8_t reg = i->reg;

			i->reg = i->rm; /* as 8A and 8B */
			i->rm = reg;
			return bind_load(v, i, load_handlers[width_index(size)], size);
		}
		return bind_store(v, i, STORE_REG, size);
	case 0x8a:
	case 0x8b: return bind_load(v, i, load_handlers[width_index(size)], size);
	case 0x8d: return bind_lea(v, i);
	case 0x90 ... 0x97: return bind_xchg_acc(i);
	case 0xa0:
	case 0xa1: i->reg = RAX; return bind_load(v, i, load_handlers[width_index(size)], size);
	case 0xa2:
	case 0xa3: i->reg = RAX; return bind_store(v, i, STORE_REG, size);
	case 0xb0 ... 0xb7:
		i->rm_at = byte_reg_at(i, i->rm);
		i->fn = mov_imm8;
		return true;
	case 0xb8 ... 0xbf:
		i->rm_at = i->rm * 8;
		i->fn = mov_imm_handlers[width_index(i->opsize)];
		return true;
	case 0xc6:
	case 0xc7:
		if (i->mod != 3) {
			return bind_store(v, i, STORE_IMM, size);
		}
		operand_bind(v, i, size);
		i->fn = mov_imm_handlers[width_index(size)];
		return true;
	}
	return false;
}
