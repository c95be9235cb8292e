/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding and binding; see prepare.h. Most instructions of a program have a shape that occurred
 * before: what becomes of them is a copy of what became of that one, its template, with another
 * displacement and immediate.
 *
 * So binders may not look at these: not at a displacement but by operand_bind(), and at an
 * immediate only where shape_of_row() makes it part of the shape.
 */
#include "execute/prepare.h"

#include <pthread.h>
#include <stdlib.h>

#include "decode/table.h"
#include "execute/trace.h"

enum {
	TEMPLATE_BITS = 12,
	SHAPE_MAX = 8,		       /* bytes */
	TEMPLATE_LOOK = 3 * SHAPE_MAX, /* bytes that finding and filling one may read */
};

/* What follows an opcode, by opcode. */
enum shape_flag {
	SHAPE_MODRM = 1 << 0,
	SHAPE_IMM = 1 << 1,    /* a byte of immediate that binding looks at */
	SHAPE_PREFIX = 1 << 6, /* no opcode */
	SHAPE_NONE = 1 << 7,   /* has no shape: always decoded */
};

/*
 * insn.imm is 0 where it varies. Where insn.aux is the displacement, aux_disp is all ones; aux_off,
 * too, if that counts from the trace's start.
 */
struct insn_template {
	struct insn insn;
	uint64_t shape; /* the bytes, the first lowest */
	uint64_t aux_disp, aux_off;
	uint32_t mode; /* 0: empty. Nothing in 16-bit modes has a template */
	uint8_t imm_at;
	uint8_t disp_shift, imm_shift; /* half the bits of 64 that are not its own */
};

static uint8_t shapes[4][256]; /* enum shape_flag by map and opcode */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* -- by decoding -- */

static const struct insn *raise_ud(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	raise_exception(v, VEC_UD);
}

static const struct insn *raise_gp(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	raise_error(v, VEC_GP, 0);
}

void insn_prepare_gp(struct insn *i, unsigned off)
{
	i->off = off;
	i->fn = raise_gp;
	i->flags |= INSN_END;
}

bool insn_bind(struct vcpu *v, struct insn *i)
{
	if (execute_bind_integer(v, i) || execute_bind_control(v, i) || execute_bind_string(v, i) ||
	    execute_bind_simd(v, i) || execute_bind_system(v, i)) {
		return true;
	}
	i->fn = raise_ud;
	i->flags |= INSN_END;
	return false;
}

/* As insn_prepare(); *bound: it has a handler, other than for #UD and #GP. */
static enum decode_result decode_and_bind(struct vcpu *v, struct insn *i, const uint8_t *code,
					  unsigned n, unsigned off, bool *bound)
{
	enum decode_result decoded = insn_decode(i, code, n, v->mode | v->interp->decode_mode);

	*bound = false;
	if (decoded == DECODE_GP) {
		insn_prepare_gp(i, off);
	} else if (decoded != DECODE_SHORT) {
		i->off = off;
		if (decoded == DECODE_OK) {
			*bound = insn_bind(v, i);
		} else {
			i->fn = raise_ud;
			i->flags |= INSN_END;
		}
	}
	return decoded;
}

/* -- by template -- */

static uint8_t shape_of_row(const struct opcode_row *row)
{
	/* In 64-bit mode, what ROW_I64 would be is a prefix. */
	if (!(row->mem | row->reg) || row->flags & (ROW_CR | ROW_I64)) {
		return SHAPE_NONE;
	}
	switch ((enum row_imm)row->imm) {
	case IMM_NONE:
	case IMM_8:
	case IMM_REL8:
	case IMM_Z:
	case IMM_RELZ:
	case IMM_V:
	case IMM_TEST_B:
	case IMM_TEST_Z: return row->flags & ROW_MODRM ? SHAPE_MODRM : 0;
	case IMM_8U: return SHAPE_IMM | (row->flags & ROW_MODRM ? SHAPE_MODRM : 0);
	case IMM_16:
	case IMM_ENTER:
	case IMM_MOFFS:
	case IMM_FAR:
	case IMM_8_8: return SHAPE_NONE;
	}
	return SHAPE_NONE;
}

static void init_shapes(void)
{
	/* But 67, which may change what ModRM means. */
	static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64,
					   0x65, 0x66, 0xf0, 0xf2, 0xf3};

	for (unsigned map = MAP_1; map <= MAP_0F3A; map++) {
		for (unsigned opcode = 0; opcode < 256; opcode++) {
			shapes[map][opcode] = shape_of_row(&opcode_table[map][opcode]);
		}
	}
	for (unsigned k = 0; k < sizeof(prefixes); k++) {
		shapes[MAP_1][prefixes[k]] = SHAPE_PREFIX;
	}
	/* VEX, or LES, LDS, BOUND. */
	shapes[MAP_1][0xc4] = shapes[MAP_1][0xc5] = shapes[MAP_1][0x62] = SHAPE_NONE;
}

struct insn_template *prepare_init(void)
{
	pthread_once(&once, init_shapes);
	return calloc(1u << TEMPLATE_BITS, sizeof(struct insn_template));
}

void prepare_flush(struct vcpu *v)
{
	memset(v->interp->templates, 0, sizeof(struct insn_template) << TEMPLATE_BITS);
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t val;

	memcpy(&val, p, sizeof(val));
	return val;
}

/* How many bytes the shape at `code` has; 0: there is none. Not for 16-bit modes. */
static inline unsigned shape_len(const uint8_t *code, bool long_mode)
{
	unsigned n = 0, shape, modrm, has_modrm;

	while (__builtin_expect(shapes[MAP_1][code[n]] & SHAPE_PREFIX, 0)) {
		if (++n == SHAPE_MAX) {
			return 0;
		}
	}
	n += long_mode & ((code[n] & 0xf0) == 0x40); /* REX */
	if (code[n] != 0x0f) {
		shape = shapes[MAP_1][code[n++]];
	} else if ((code[n + 1] & 0xfd) != 0x38) {
		shape = shapes[MAP_0F][code[n + 1]];
		n += 2;
	} else {
		shape = shapes[code[n + 1] == 0x38 ? MAP_0F38 : MAP_0F3A][code[n + 2]];
		n += 3;
	}
	has_modrm = shape & SHAPE_MODRM;
	modrm = code[n];
	/* An immediate behind a displacement is none of a run of bytes. */
	if ((shape & (SHAPE_NONE | SHAPE_PREFIX)) ||
	    ((shape & SHAPE_IMM) && has_modrm && modrm < 0xc0)) {
		return 0;
	}
	n += has_modrm + (has_modrm & ((modrm & 7) == 4) & (modrm < 0xc0)); /* and SIB */
	n += shape & SHAPE_IMM ? 1 : 0;
	return n <= SHAPE_MAX ? n : 0;
}

static inline uint64_t shape_bytes(const uint8_t *code, unsigned len)
{
	return load64(code) & ~0ull >> (64 - len * 8);
}

static inline struct insn_template *template_at(struct vcpu *v, uint64_t shape)
{
	uint64_t h = (shape ^ (uint64_t)v->mode << 52) * 0x9e3779b97f4a7c15;

	return &v->interp->templates[h >> (64 - TEMPLATE_BITS)];
}

/* The value in the low 64 - 2 * shift bits, sign-extended; of no bits: 0. */
static inline uint64_t field(uint64_t val, unsigned shift)
{
	return (uint64_t)((int64_t)(val << shift << shift) >> shift >> shift);
}

static inline void template_fill(const struct insn_template *t, struct insn *i, const uint8_t *code,
				 unsigned len, unsigned off)
{
	uint64_t disp = field(load64(code + len), t->disp_shift);

	*i = t->insn;
	i->disp = (int64_t)disp;
	i->imm |= field(load64(code + t->imm_at), t->imm_shift);
	i->aux = (void *)((uint64_t)i->aux + (disp & t->aux_disp) + (off & t->aux_off));
	i->off = off;
}

/* Makes *t of i, if there can be a template of it; `len`: its shape's. */
static void template_learn(struct insn_template *t, const struct insn *i, uint64_t shape,
			   unsigned len, uint32_t mode)
{
	unsigned imm_len = i->len == len ? 0 : i->imm_len, disp_len = i->len - len - imm_len;
	bool from_off = i->flags & INSN_RIPREL;

	if (disp_len && !i->disp) {
		return; /* cannot tell whether aux is the displacement: another time */
	}
	*t = (struct insn_template){
		.insn = *i,
		.shape = shape,
		.mode = mode,
		.imm_at = len + disp_len,
		.disp_shift = 32 - disp_len * 4,
		.imm_shift = 32 - imm_len * 4,
	};
	if (disp_len && (int64_t)i->aux == i->disp + (from_off ? i->off + i->len : 0)) {
		t->insn.aux = (void *)(from_off ? (uint64_t)i->len : 0);
		t->aux_disp = ~0ull;
		t->aux_off = from_off ? ~0ull : 0;
	}
	if (imm_len) {
		t->insn.imm = 0;
	}
}

enum decode_result insn_prepare(struct vcpu *v, struct insn *i, const uint8_t *code, unsigned n,
				unsigned off)
{
	unsigned size = v->mode & MODE_SIZE, len = 0;
	struct insn_template *t = NULL;
	enum decode_result decoded;
	uint64_t shape = 0;
	bool bound;

	if (n >= TEMPLATE_LOOK && size != MODE_16) {
		len = shape_len(code, size == MODE_64);
	}
	if (len) {
		shape = shape_bytes(code, len);
		t = template_at(v, shape);
		if (__builtin_expect(t->shape == shape && t->mode == v->mode, 1)) {
			template_fill(t, i, code, len, off);
			return DECODE_OK;
		}
	}
	decoded = decode_and_bind(v, i, code, n, off, &bound);
	if (len && bound) {
		template_learn(t, i, shape, len, v->mode);
	}
	return decoded;
}
