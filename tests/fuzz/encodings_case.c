/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an instruction to a case: registers that make its operands land where they should, memory
 * that its operand finds, branch targets that are known.
 */
#include <cpuid.h>
#include <string.h>

#include "encodings.h"
#include "encodings_gen.h"
#include "decode/evex.h"
#include "decode/vex.h"
#include "execute/cpuid.h"
#include "execute/xstate.h"

struct maker {
	struct fz_case *c;
	struct fz_rng r;
	struct insn i;
	uint32_t mode;
	uint32_t slot; /* linear address of the slot */
	uint8_t insn[FZ_MAX_INSN + 1];
	unsigned len;
	bool decoded;
	uint64_t target; /* of the memory operand */
};

static bool legacy(const struct maker *m, unsigned first, unsigned last)
{
	return m->i.map == MAP_1 && m->i.opcode >= first && m->i.opcode <= last;
}

static bool is_xsave(const struct insn *i)
{
	unsigned reg = i->modrm >> 3 & 7;

	return i->map == MAP_0F && i->mod != 3 &&
	       ((i->opcode == 0xae && reg >= 4 && reg <= 6) ||
		(i->opcode == 0xc7 && reg >= 3 && reg <= 5));
}

/* LDMXCSR, VLDMXCSR. */
static bool reads_mxcsr(const struct insn *i)
{
	return i->map == MAP_0F && i->opcode == 0xae && i->mod != 3 && (i->modrm >> 3 & 7) == 2;
}

static bool is_xrstor(const struct insn *i)
{
	unsigned reg = i->modrm >> 3 & 7;

	return is_xsave(i) && reg == (i->opcode == 0xae ? 5 : 3);
}

/* Somewhere in the data pages, or at their edges. */
static uint64_t data_address(struct fz_rng *r)
{
	switch (fz_below(r, 16)) {
	case 0: /* across the pages, or from the read-only one out */
		return FZ_DATA + 0x1000 * (1 + fz_below(r, 3)) - fz_below(r, 64);
	case 1: return FZ_DATA + fz_below(r, FZ_DATA_LEN + 64) - 32;
	case 2:
	case 3: return FZ_DATA + fz_below(r, 0x1d00);
	case 4: return FZ_DATA + (fz_below(r, 0x1c00) & ~7u);
	}
	return FZ_DATA + (fz_below(r, 0x1c00) & ~63u) + (fz_below(r, 4) << 4);
}

static uint64_t branch_target(struct maker *m)
{
	switch (fz_below(&m->r, 8)) {
	case 0: return m->slot + 192 + fz_below(&m->r, 32); /* INT3s */
	case 1: return m->slot + FZ_INSN + m->len;
	case 2:
	case 3:
	case 4: return m->slot + FZ_PAD_LOW;
	}
	return m->slot + FZ_PAD_HIGH;
}

static uint64_t any_target(struct maker *m)
{
	switch (fz_below(&m->r, 12)) {
	case 0: return FZ_DATA + fz_below(&m->r, 256);
	case 1: return 0x0010000000001000ull << fz_below(&m->r, 12);
	}
	return branch_target(m);
}

static void fill_registers(struct maker *m)
{
	struct fz_regs *in = &m->c->in;

	for (unsigned k = 0; k < 16; k++) {
		in->gpr[k] = fz_chance(&m->r, 8) ? data_address(&m->r) : fz_integer(&m->r);
		if (m->mode == 32) {
			in->gpr[k] = k < 8 ? (uint32_t)in->gpr[k] : 0;
		}
	}
	in->gpr[RSP] = fz_chance(&m->r, 90) ? FZ_DATA + 0x400 + 8 * fz_below(&m->r, 0x200)
					    : data_address(&m->r);
	in->rflags = 0x202 | (fz_next(&m->r) & FL_ARITH);
	in->rflags |= fz_chance(&m->r, 20) ? FL_DF : 0;
	in->rflags |= fz_chance(&m->r, 5) ? FL_NT : 0;
	in->rflags |= fz_chance(&m->r, 5) ? FL_ID : 0;
	in->fs_base = m->mode == 64 ? fz_below(&m->r, 0x4000000) : 0;
	in->gs_base = m->mode == 64 ? fz_below(&m->r, 0x4000000) & ~0xfffu : 0;
	in->rip = m->slot + FZ_INSN;
	if (m->mode == 32) {
		in->seg[SEG_ES] = in->seg[SEG_DS] = FZ_SS;
		in->seg[SEG_FS] = fz_chance(&m->r, 50) ? FZ_SS : 0;
		in->seg[SEG_GS] = fz_chance(&m->r, 50) ? FZ_SS : 0;
	}
	in->seg[SEG_SS] = FZ_SS;
	fz_fx_image(&m->r, in->fx);
	memset(in->ymmh, 0, sizeof(in->ymmh));
	if (cpuid_has(FEAT_AVX) && fz_chance(&m->r, 85)) {
		fz_fill(&m->r, in->ymmh, sizeof(in->ymmh));
	}
	memset(&in->zmm, 0, sizeof(in->zmm));
	if (cpuid_has(FEAT_AVX512) && fz_chance(&m->r, 80)) {
		fz_fill(&m->r, in->zmm.zmmh[0], sizeof(in->zmm.zmmh));
		if (m->mode == 64) {
			fz_fill(&m->r, in->zmm.zmm16[0], sizeof(in->zmm.zmm16));
		}
		for (unsigned k = 0; k < 8; k++) {
			in->zmm.opmask[k] = fz_integer(&m->r);
		}
	}
}

/* Byte `at` of a vector register of the case. */
static uint8_t *vector_byte(struct fz_regs *in, unsigned n, unsigned at)
{
	if (n >= 16) {
		return &in->zmm.zmm16[n - 16][at];
	}
	if (at >= 32) {
		return &in->zmm.zmmh[n][at - 32];
	}
	return at >= 16 ? &in->ymmh[16 * n + at - 16] : &in->fx[160 + 16 * n + at];
}

/* Elements of a gather's index near enough to the operand's address, most of them. */
static void aim_gather(struct maker *m)
{
	unsigned size = m->i.opcode & 1 ? 8 : 4, len = m->i.flags & INSN_EVEX ? 64 : 32;

	for (unsigned at = 0; at < len; at += size) {
		int64_t val = (int64_t)fz_below(&m->r, 400) - (fz_chance(&m->r, 20) ? 200 : 0);

		if (fz_chance(&m->r, 95)) {
			memcpy(vector_byte(&m->c->in, m->i.imm2, at), &val, size);
		}
	}
}

static bool is_vsib(const struct insn *i)
{
	if (i->flags & INSN_EVEX) {
		return evex_row(i)->flags & EVEX_VSIB;
	}
	return i->flags & INSN_VEX && vex_row(i)->flags & VEX_VSIB;
}

/* Makes the memory operand land at m->target: by its base, its index or its displacement. */
static void aim_operand(struct maker *m)
{
	const struct insn *i = &m->i;
	uint64_t *gpr = m->c->in.gpr, ea = m->target, rest;
	unsigned disp_off = i->modrm_off + 1u + (i->modrm % 8 == 4 && i->addrsize != 2);
	uint32_t disp;

	if (m->mode == 64 && i->seg == SEG_FS) {
		ea -= m->c->in.fs_base;
	} else if (m->mode == 64 && i->seg == SEG_GS) {
		ea -= m->c->in.gs_base;
	}
	if (i->base == REG_NONE && i->index == REG_NONE) {
		disp = (uint32_t)ea;
		if (i->flags & INSN_RIPREL) {
			disp = (uint32_t)(ea - (m->slot + FZ_INSN + m->len));
		}
		memcpy(m->insn + disp_off, &disp, i->addrsize == 2 ? 2 : 4);
		return;
	}
	rest = ea - (uint64_t)i->disp;
	if (i->base == REG_NONE) {
		rest >>= i->scale;
		gpr[i->index] = rest;
	} else if (i->base == i->index) {
		gpr[i->base] = rest / ((1u << i->scale) + 1);
	} else {
		if (i->index != REG_NONE && m->mode == 64 && fz_chance(&m->r, 90)) {
			gpr[i->index] = (uint32_t)gpr[i->index] >> 3;
		}
		rest -= i->index == REG_NONE ? 0 : gpr[i->index] << i->scale;
		gpr[i->base] = i->addrsize == 4 ? (uint32_t)rest : rest;
	}
	if (m->mode == 32) {
		gpr[i->base] = (uint32_t)gpr[i->base];
		gpr[i->index] = (uint32_t)gpr[i->index];
	}
}

static uint16_t selector(struct fz_rng *r)
{
	static const uint16_t some[] = {0,	 1,    3,    FZ_SS, FZ_SS, FZ_SS, FZ_CS32,
					FZ_CS64, 0x10, 0x18, 0x28,  0x2a,  0x20,  0x30,
					0x40,	 0x63, 0x83, 0x07,  0x2f};

	return some[fz_below(r, sizeof(some) / sizeof(some[0]))];
}

/* A code selector that leads to code of this mode, or to a fault. */
static uint16_t code_selector(struct maker *m)
{
	static const uint16_t bad[] = {0, 3, FZ_SS, 0x10, 0x30, 0x08, 0x63, 0x83, 0x0f};

	return fz_chance(&m->r, 75) ? (m->mode == 64 ? FZ_CS64 : FZ_CS32) : bad[fz_below(&m->r, 9)];
}

static void put(uint8_t **p, unsigned size, uint64_t val)
{
	memcpy(*p, &val, size);
	*p += size;
}

/* What far returns, far branches, IRET, POPF, POP seg find. */
static void plant_frame(struct maker *m, uint8_t *p, bool far, bool flags)
{
	unsigned size = m->i.opsize, bad = fz_below(&m->r, 8);
	uint64_t fl = 0x202 | (fz_next(&m->r) & (FL_ARITH | FL_DF | FL_ID | FL_IOPL | FL_RF));

	if (m->i.map == MAP_1 && (m->i.opcode == 0x9d || m->i.opcode == 0x07 ||
				  m->i.opcode == 0x17 || m->i.opcode == 0x1f)) {
		put(&p, size, m->i.opcode == 0x9d ? fl : selector(&m->r));
		return;
	}
	/* One thing wrong at most: which is seen first differs between processors. */
	put(&p, size, bad == 0 ? any_target(m) : branch_target(m));
	if (far) {
		put(&p, size, bad == 1 ? code_selector(m) : m->mode == 64 ? FZ_CS64 : FZ_CS32);
	}
	if (flags) {
		put(&p, size, fl);
	}
	if (far) {
		if (m->i.opcode == 0xca) {
			p += m->i.imm & 0x3f;
		}
		put(&p, size, data_address(&m->r));
		put(&p, size, bad == 2 ? selector(&m->r) : FZ_SS);
	}
}

uint64_t fz_components(void)
{
	return cpuid_xcr0() & ~(uint64_t)XCR0_PKRU;
}

/* Sets of them. */
static uint32_t n_components(void)
{
	return (uint32_t)fz_components() + 1;
}

/* A state component that neither side has (the host has more than the guest). */
static uint64_t some_bad_component(struct maker *m)
{
	static const uint64_t bad[] = {1 << 3, 1 << 4, 1ull << 40, 1ull << 62};

	return fz_chance(&m->r, 8) ? bad[fz_below(&m->r, 4)] : 0;
}

/* Memory at the operand or the stack pointer, made for instructions that are picky. */
static void fill_patch(struct maker *m)
{
	struct fz_case *c = m->c;
	const struct insn *i = &m->i;
	unsigned reg = i->modrm >> 3 & 7;
	bool ae = i->map == MAP_0F && i->opcode == 0xae && i->mod != 3;
	bool stack = legacy(m, 0xc2, 0xc3) || legacy(m, 0xca, 0xcb) || legacy(m, 0xcf, 0xcf) ||
		     legacy(m, 0x9d, 0x9d) || legacy(m, 0x07, 0x07) || legacy(m, 0x17, 0x17) ||
		     legacy(m, 0x1f, 0x1f) || (i->map == MAP_0F && (i->opcode & 0xf7) == 0xa1);
	uint64_t at = stack ? c->in.gpr[RSP] : m->target;
	uint8_t *p = c->patch, *q;

	c->patch_len = 64;
	fz_fill(&m->r, p, 64);
	if (legacy(m, 0xc2, 0xcf) && stack) {
		plant_frame(m, p, i->opcode >= 0xca, i->opcode == 0xcf);
	} else if (stack) {
		plant_frame(m, p, false, false);
		if (i->map == MAP_0F) {
			put(&p, i->opsize, selector(&m->r));
		}
	} else if (legacy(m, 0xff, 0xff) && reg >= 2 && reg <= 5) {
		put(&p, reg & 1 && i->opsize == 2 ? 2 : reg & 1 ? i->opsize : 8, any_target(m));
		if (reg & 1) {
			put(&p, 2, code_selector(m));
		}
	} else if (legacy(m, 0xc4, 0xc5) ||
		   (i->map == MAP_0F && i->opcode >= 0xb2 && i->opcode <= 0xb5)) {
		p += i->opsize;
		put(&p, 2, selector(&m->r));
	} else if (legacy(m, 0x8e, 0x8e) || (i->map == MAP_0F && i->opcode <= 0x03)) {
		put(&p, 2, selector(&m->r));
	} else if (ae && reg == 2) {
		put(&p, 4, fz_mxcsr(&m->r) | (fz_chance(&m->r, 10) ? 0x10000 : 0));
	} else if (ae ||
		   (i->map == MAP_0F && i->opcode == 0xc7 && (reg == 3 || reg == 4 || reg == 5))) {
		fz_fx_image(&m->r, p);
		c->patch_len = 832;
		fz_fill(&m->r, p + 576, 256);
		q = p + 512;
		memset(q, 0, 64);
		put(&q, 8, fz_below(&m->r, n_components()) | some_bad_component(m));
		put(&q, 8, fz_chance(&m->r, 40) ? 1ull << 63 | fz_below(&m->r, n_components()) : 0);
		if (fz_chance(&m->r, 5)) {
			p[528 + fz_below(&m->r, 48)] ^= 1 << fz_below(&m->r, 8);
		}
	}
	c->mask_at = (ae || is_xsave(i)) && at - FZ_DATA < FZ_RW_LEN - 32
			     ? (uint32_t)(at - FZ_DATA) + 30
			     : 0;
	if (at < FZ_DATA || at - FZ_DATA + c->patch_len > FZ_RW_LEN) {
		c->patch_len = 0;
		return;
	}
	c->patch_off = (uint32_t)(at - FZ_DATA);
}

/* Far returns and indirect calls: faults of the stack and of the target come in either order. */
static bool stack_matters(const struct maker *m)
{
	return legacy(m, 0xca, 0xcb) || legacy(m, 0xcf, 0xcf) ||
	       (legacy(m, 0xff, 0xff) && (m->i.modrm & 0x30) == 0x10);
}

/* Registers with a part of their own in some instructions. */
static void special_registers(struct maker *m)
{
	uint64_t *gpr = m->c->in.gpr;
	const struct insn *i = &m->i;
	bool string = legacy(m, 0x6c, 0x6f) || legacy(m, 0xa4, 0xa7) || legacy(m, 0xaa, 0xaf);

	if (string || (i->map == MAP_0F && i->opcode == 0xf7)) {
		gpr[RSI] = data_address(&m->r);
		gpr[RDI] = data_address(&m->r);
		if (fz_chance(&m->r, 85)) {
			gpr[RCX] = fz_below(&m->r, 40);
		}
	}
	if (string && m->mode == 64) {
		gpr[RSI] -= i->seg == SEG_FS ? m->c->in.fs_base : 0;
		gpr[RSI] -= i->seg == SEG_GS ? m->c->in.gs_base : 0;
	}
	if (legacy(m, 0xd7, 0xd7)) {
		gpr[RBX] = data_address(&m->r);
	}
	if (legacy(m, 0xc8, 0xc9)) {
		gpr[RBP] = data_address(&m->r);
	}
	if (legacy(m, 0xff, 0xff) && i->mod == 3 && (i->modrm >> 3 & 7) >= 2 &&
	    (i->modrm >> 3 & 7) <= 5) {
		gpr[i->rm] = any_target(m);
	}
	if (legacy(m, 0x8e, 0x8e) && i->mod == 3) {
		gpr[i->rm] = (gpr[i->rm] & ~(uint64_t)0xffff) | selector(&m->r);
	}
	if (stack_matters(m)) {
		gpr[RSP] = FZ_DATA + 0x400 + 8 * fz_below(&m->r, 0x200);
	}
	if (i->map == MAP_0F && i->mod == 3 && i->opcode <= 0x03) {
		gpr[i->rm] = (gpr[i->rm] & ~(uint64_t)0xffff) | selector(&m->r);
	}
	if (is_xsave(i)) { /* the state components both sides have */
		gpr[RDX] = 0;
		gpr[RAX] = fz_below(&m->r, n_components());
	}
	if (m->mode == 32) {
		for (unsigned k = 0; k < 8; k++) {
			gpr[k] = (uint32_t)gpr[k];
		}
	}
}

static void aim_branch(struct maker *m)
{
	const struct insn *i = &m->i;
	bool rel8 = legacy(m, 0x70, 0x7f) || legacy(m, 0xe0, 0xe3) || legacy(m, 0xeb, 0xeb);
	bool rel32 = legacy(m, 0xe8, 0xe9) ||
		     (i->map == MAP_0F && i->opcode >= 0x80 && i->opcode <= 0x8f);
	uint64_t rel;

	if (legacy(m, 0x9a, 0x9a) || legacy(m, 0xea, 0xea)) {
		rel = any_target(m);
		memcpy(m->insn + m->len - i->imm_len, &rel, i->imm_len - 2);
		rel = code_selector(m);
		memcpy(m->insn + m->len - 2, &rel, 2);
	} else if (rel8 || rel32) {
		rel = (rel8 ? branch_target(m) : any_target(m)) - (m->slot + FZ_INSN + m->len);
		memcpy(m->insn + m->len - i->imm_len, &rel, i->imm_len);
	} else if (legacy(m, 0xca, 0xca)) {
		m->insn[m->len - 2] &= 0x3f; /* keeps RSP among the mapped pages */
		m->insn[m->len - 1] = 0;
	} else if (legacy(m, 0xcd, 0xcd) && m->insn[m->len - 1] == 0x80) {
		m->insn[m->len - 1] = 0x81; /* Linux's system call */
	}
}

static bool host_is_amd(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && c == signature_AMD_ecx;
}

static uint32_t decode_mode(uint32_t mode)
{
	static int amd = -1;

	if (amd < 0) {
		amd = host_is_amd();
	}
	return (amd ? MODE_AMD : 0) | (mode == 64 ? MODE_64 : MODE_32 | MODE_SS32) | MODE_PROT |
	       MODE_LMA | MODE_FLAT | MODE_USER;
}

bool fz_decode(const struct fz_case *c, uint32_t mode, struct insn *i)
{
	memset(i, 0, sizeof(*i));
	return DECODE_OK == insn_decode(i, c->code + FZ_INSN, FZ_MAX_INSN, decode_mode(mode));
}

/* An EVEX prefix, also where the decoder refuses one for what comes before it. */
static bool is_evex(const uint8_t *p, uint32_t mode)
{
	static const uint8_t prefixes[] = "\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3";

	while (memchr(prefixes, *p, sizeof(prefixes) - 1) || (mode == 64 && (*p & 0xf0) == 0x40)) {
		p++;
	}
	return *p == 0x62 && (mode == 64 || p[1] >= 0xc0);
}

static bool filtered(const struct fz_filter *f, const struct insn *i)
{
	return f &&
	       !(i->map == f->map && f->vex == !!(i->flags & INSN_VEX) && i->opcode >= f->first &&
		 i->opcode <= f->last && f->regs >> (i->modrm >> 3 & 7) & 1);
}

bool fz_generate(struct fz_case *c, uint64_t seed, uint64_t id, uint32_t mode,
		 const struct fz_filter *filter)
{
	struct maker m = {.c = c, .mode = mode};

	m.r.s = seed ^ id * 0xd1342543de82ef95;
	m.r.s = fz_next(&m.r); /* neighbours' sequences must not overlap */
	c->code_len = 0;
	memset(&c->in.seg, 0, sizeof(c->in.seg));
	c->id = id;
	m.slot = FZ_CODE + (uint32_t)(id % FZ_BATCH) * FZ_SLOT;
	fz_put_instruction(&m.r, m.insn, mode);
	memset(&m.i, 0, sizeof(m.i));
	m.i.base = m.i.index = REG_NONE;
	m.decoded = insn_decode(&m.i, m.insn, FZ_MAX_INSN, decode_mode(mode)) == DECODE_OK;
	if ((is_evex(m.insn, mode) && !cpuid_has(FEAT_AVX512)) || filtered(filter, &m.i) ||
	    fz_excluded(&m.i, mode)) {
		return false;
	}
	if (is_xsave(&m.i) &&
	    (m.i.base == RAX || m.i.index == RAX || m.i.base == RDX || m.i.index == RDX)) {
		return false; /* they choose the state components */
	}
	m.len = m.i.len ? m.i.len : FZ_MAX_INSN;
	m.target = data_address(&m.r);
	if (m.i.opcode == 0xae && m.i.map == MAP_0F && fz_chance(&m.r, 90)) {
		m.target = FZ_DATA + (fz_below(&m.r, 0x1f00) & ~63u);
	}
	if (is_xrstor(&m.i)) { /* a header made for it, or none at all */
		m.target = FZ_DATA + (fz_below(&m.r, 0x1c00) & ~63u);
		m.target += fz_chance(&m.r, 5) ? 8 : 0;
		m.target = fz_chance(&m.r, 3) ? FZ_DATA + FZ_DATA_LEN - 64 : m.target;
	}
	fill_registers(&m);
	special_registers(&m);
	if (m.decoded && is_vsib(&m.i)) {
		aim_gather(&m);
	}
	if (m.decoded && m.i.flags & INSN_MODRM && m.i.mod != 3) {
		aim_operand(&m);
	} else if (m.decoded && legacy(&m, 0xa0, 0xa3)) {
		memcpy(m.insn + m.len - m.i.imm_len, &m.target, m.i.imm_len);
	}
	if (m.decoded) {
		aim_branch(&m);
	}
	fill_patch(&m);
	if (reads_mxcsr(&m.i) && !c->patch_len && m.target - FZ_DATA < FZ_DATA_LEN) {
		return false; /* what is there may have AMD's misaligned SSE mode, as mask_at */
	}
	c->code_len = m.len;
	fz_build_slot(c->code, m.slot, m.insn, m.len, mode);
	return true;
}
