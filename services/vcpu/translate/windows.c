/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fast copies of loops, as code. Before them each window's page is looked up once and counted how
 * many passes stay within it; then as many passes run whose operands are checked no more. A window
 * that the TLB does not have whole is met by the loop's slow copy, pass by pass, whose own checks
 * fill the TLB or fault.
 *
 *   requests? to an event
 *   for each window: lowest address; look up; else to the slow copy
 *                    passes until it leaves the page; the least of all
 *                    host less linear address, to its slots
 *   head: ... each operand at its slot's value plus its address
 *         back: passes left? to the head; else again from the start
 */
#include "execute/simd_operands.h"
#include "translate/generate.h"

/* Passes without a look for requests: some microseconds. */
enum { MOST_INSNS = 8192, LEAST_PASSES = 16, MOST_PASSES = 1024 };

static struct rm slot_field(unsigned slot)
{
	return rm_vcpu((int32_t)(offsetof(struct vcpu, window) + slot * sizeof(uint64_t)));
}

/* The host register that has a sum's: a guest register's own, or `scratch`. */
static unsigned term(struct generate *g, unsigned reg, unsigned scratch)
{
	if (!(reg & SUM_SIGNED)) {
		return generate_get(g, reg, scratch, true);
	}
	emit_alu(&g->e, 0x63, 8, scratch, generate_source(g, reg & 15)); /* movsxd */
	return scratch;
}

/* RAX := RAX + register * times. Spoils RCX and flags. */
static void add_register(struct generate *g, unsigned reg, int times)
{
	unsigned host = term(g, reg, RCX);

	if (times < 0) {
		if (times < -1) {
			emit_lea(&g->e, 8, RCX,
				 (struct rm){.mem = true,
					     .reg = REG_NONE,
					     .index = (uint8_t)host,
					     .scale = (uint8_t)__builtin_ctz((unsigned)-times)});
			host = RCX;
		}
		emit_alu(&g->e, 0x29, 8, host, rm_reg(RAX));
	} else {
		emit_lea(&g->e, 8, RAX, rm_index(RAX, host, (unsigned)__builtin_ctz(times), 0));
	}
}

/* RAX := the lowest address of the window's first pass. */
static void lowest(struct generate *g, const struct sum *s)
{
	bool small = s->at == (int32_t)s->at;
	unsigned n = 0;

	if (small && s->n && s->times[0] == 1) {
		unsigned host = term(g, s->reg[0], RAX);

		emit_lea(&g->e, 8, RAX, rm_mem(host, (int32_t)s->at));
		n = 1;
	} else {
		emit_const(&g->e, RAX, (uint64_t)s->at);
	}
	for (; n < s->n; n++) {
		add_register(g, s->reg[n], s->times[n]);
	}
}

/* SCRATCH := EAX / step if that is less. EAX is at most 2^31 or, if step is no power of 2, 4096. */
static void limit_passes(struct generate *g, unsigned step)
{
	struct emit *e = &g->e;

	if (step & (step - 1)) {
		emit_alu(e, 0x69, 4, RAX, rm_reg(RAX)); /* imul; rounds down */
		emit32(e, (1u << 16) / step);
		step = 1u << 16;
	}
	if (step > 1) {
		emit_alu(e, 0xc1, 4, 5, rm_reg(RAX)); /* shr */
		emit8(e, (uint8_t)__builtin_ctz(step));
	}
	emit_alu(e, 0x3b, 4, RAX, rm_reg(SCRATCH)); /* cmp; cmovb */
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0x42}, SCRATCH, rm_reg(RAX));
}

/* RAX is the lowest address' offset in its page. */
static void stay_in_page(struct generate *g, const struct window *w)
{
	if (w->step > 0) { /* bytes that follow */
		emit_alu_imm(&g->e, ALU_SUB, 4, rm_reg(RAX), (int32_t)(4096 - w->sum.span));
		emit_alu(&g->e, 0xf7, 4, 3, rm_reg(RAX)); /* neg */
	}
	if (w->step) {
		limit_passes(g, (unsigned)(w->step < 0 ? -w->step : w->step));
	}
}

/* Passes move no register that is taken for its low half by more than that. */
enum { FURTHEST = MOST_PASSES * LOOP_REACH, SIGNED_LIMIT = 1 << 30 };

/* Returns the displacement of the jump for a register that is not its low half. */
static uint8_t *low_half(struct generate *g, const struct narrow *n)
{
	bool is_signed = n->reg & SUM_SIGNED;
	unsigned host = term(g, n->reg, RAX);
	uint8_t *fail;

	emit_lea(&g->e, 8, RAX, rm_mem(host, is_signed ? SIGNED_LIMIT : n->least));
	emit8(&g->e, 0x48); /* cmp, of RAX */
	emit8(&g->e, 0x3d);
	emit32(&g->e,
	       is_signed ? INT32_MAX : INT32_MAX - FURTHEST - (uint32_t)(n->most - n->least));
	fail = emit_jcc(&g->e, 7);
	if (n->step && !is_signed) {
		unsigned step = 1;

		while (step < (unsigned)-n->step) {
			step *= 2;
		}
		limit_passes(g, step);
	}
	return fail;
}

/* RAX is the window's host address less its linear one. Spoils RCX. */
static void fill_slots(struct generate *g, unsigned window)
{
	const struct loop *l = g->r->loop;

	for (unsigned n = 0; n < l->n_slots; n++) {
		const struct window_slot *s = &l->slot[n];
		unsigned from = RAX;

		if (s->window != window) {
			continue;
		}
		if (s->fixed) {
			emit_const(&g->e, RCX, s->address);
			emit_alu(&g->e, 0x03, 8, RCX, rm_reg(RAX));
			from = RCX;
		} else if (s->fold != REG_NONE) {
			unsigned host = generate_get(g, s->fold, RCX, true);

			emit_lea(&g->e, 8, RCX, rm_index(RAX, host, s->scale, 0));
			from = RCX;
		}
		emit_store(&g->e, 8, from, slot_field(n));
	}
}

/* Adds the displacements of the jumps for a window that cannot be had. */
static unsigned window(struct generate *g, unsigned n, uint8_t **fail)
{
	const struct window *w = &g->r->loop->window[n];
	unsigned n_fail = 0;

	lowest(g, &w->sum);
	if (w->align > 1) {
		emit8(&g->e, 0xa8); /* test, of AL */
		emit8(&g->e, w->align - 1);
		fail[n_fail++] = emit_jcc(&g->e, 5);
	}
	fail[n_fail++] = site_emit_lookup(&g->e, g->tlb, w->write, w->sum.span);
	stay_in_page(g, w);
	site_emit_host(&g->e, g->tlb, w->write);
	fill_slots(g, n);
	return n_fail;
}

static unsigned most_passes(const struct loop *l)
{
	unsigned n = MOST_INSNS / l->n_insns;

	return n < LEAST_PASSES ? LEAST_PASSES : n > MOST_PASSES ? MOST_PASSES : n;
}

static void requests(struct generate *g, unsigned k)
{
	generate_stub(g, (struct stub){.site = {.region = g->x->n_regions,
						.kind = SITE_POLL,
						.insn = (uint16_t)k},
				       .from = generate_look(g->v, &g->e)});
}

/* -- registers that live in vcpu.gpr, moved to where others are that the loop does not have -- */

/* Can instruction k not be interrupted, by a check that fails or a signal? */
static bool is_quiet(const struct region *r, unsigned k)
{
	const struct insn *i = &r->insn[k];
	bool mem = i->flags & INSN_MODRM && i->mod != 3;
	struct simd_operands o;

	switch (r->form[k].kind) {
	case FORM_MODRM:
	case FORM_VEX_GPR:
	case FORM_SHIFT_CL: return !mem || r->loop->use[k];
	case FORM_MULTIPLY: return (i->reg & 7) < 6 && (!mem || r->loop->use[k]); /* not DIV */
	case FORM_SIMD:
		return !mem || (r->loop->use[k] && simd_operands(i, &o) &&
				(o.align <= 1 || r->loop->aligned[k]));
	case FORM_LEA:
	case FORM_AX_IMM:
	case FORM_NOP:
	case FORM_MOV_IMM:
	case FORM_EXTEND_AX:
	case FORM_EXTEND_DX:
	case FORM_FLAG:
	case FORM_BSWAP:
	case FORM_JCC:
	case FORM_JMP: return true;
	}
	return false;
}

/* Registers that k may name; to *read those that it does more with than write them. */
static uint32_t named(const struct region *r, unsigned k, uint32_t *read)
{
	const struct insn *i = &r->insn[k];
	const struct form *f = &r->form[k];
	bool modrm = i->flags & INSN_MODRM, mem = modrm && i->mod != 3;
	uint32_t reg = modrm ? 1u << i->reg : 0, rm = 1u << i->rm, others = 0;

	if (modrm && (f->reg_size == 1 || f->rm_size == 1)) {
		/* AH..BH have the numbers of RSP..RDI. */
		others |= 1u << (i->reg & 3) | 1u << (i->rm & 3);
	}
	others |= i->flags & INSN_VEX ? 1u << i->vvvv : 0;
	others |= f->kind == FORM_SHIFT_CL ? 1u << RCX : 0;
	if (mem) {
		others |= i->base != REG_NONE ? 1u << i->base : 0;
		others |= i->index != REG_NONE ? 1u << i->index : 0;
	}
	*read |= others | (f->reg == ROLE_W ? 0 : reg) | (f->rm == ROLE_W && !mem ? 0 : rm);
	return reg | rm | others;
}

/* The host register of a guest register that the loop does not name, from *at on; or REG_NONE. */
static uint8_t free_register(struct generate *g, uint32_t used, unsigned *at)
{
	static const uint8_t candidate[] = {RCX, RBX, RBP, RSI, RDI, R8, R9, R12, R13};

	while (*at < sizeof(candidate) && used >> candidate[*at] & 1) {
		++*at;
	}
	if (*at == sizeof(candidate)) {
		return REG_NONE;
	}
	g->loop_host[candidate[*at]] = REG_NONE;
	return register_host[candidate[(*at)++]];
}

/* Fills g->loop_host and g->slot_host. What passes hand on comes first: they wait for it. */
static void move_registers(struct generate *g)
{
	const struct region *r = g->r;
	uint32_t used = 0, handed_on = 0;
	unsigned at = 0;

	memcpy(g->loop_host, register_host, sizeof(g->loop_host));
	memset(g->slot_host, REG_NONE, sizeof(g->slot_host));
	for (unsigned n = 0; n < r->n_blocks; n++) {
		const struct block *b = &r->block[n];

		for (unsigned k = b->first; k < (unsigned)b->first + b->n; k++) {
			uint32_t before = used, read = 0;

			if (!loop_has(r->loop->members, n)) {
				continue;
			}
			if (!is_quiet(r, k)) {
				return;
			}
			used |= named(r, k, &read);
			handed_on |= read & ~before;
		}
	}
	for (unsigned n = 0; n < 32; n++) {
		uint32_t set = n < 16 ? handed_on : used & ~handed_on;

		if (set >> n % 16 & 1 && register_host[n % 16] == REG_NONE) {
			g->loop_host[n % 16] = free_register(g, used, &at);
		}
	}
	for (unsigned n = 0; n < r->loop->n_slots && r->loop->passes >= LONG_LOOP; n++) {
		g->slot_host[n] = free_register(g, used, &at);
	}
}

/* Flags are kept. */
static void exchange(struct generate *g, const uint8_t *from, const uint8_t *to)
{
	for (unsigned reg = 0; reg < 16; reg++) {
		if (from[reg] != REG_NONE && to[reg] == REG_NONE) {
			emit_store(&g->e, 8, from[reg], generate_gpr(reg));
		}
	}
	for (unsigned reg = 0; reg < 16; reg++) {
		if (from[reg] == REG_NONE && to[reg] != REG_NONE) {
			emit_load(&g->e, 8, to[reg], generate_gpr(reg));
		}
	}
}

void windows_put_back(struct generate *g)
{
	exchange(g, g->loop_host, register_host);
}

void windows_begin(struct generate *g)
{
	const struct loop *l = g->r->loop;
	const struct block *head = &g->r->block[g->r->head];
	struct emit *e = &g->e;
	uint8_t *fail[2 * LOOP_WINDOWS + LOOP_NARROW], *start, *slow;
	unsigned n_fail = 0;

	g->windows_begin = e->p;
	if (head->live) {
		generate_save_flags(e);
	}
	requests(g, head->first);
	emit_const(e, SCRATCH, most_passes(l) - 1);
	for (unsigned n = 0; n < l->n_narrow; n++) {
		fail[n_fail++] = low_half(g, &l->narrow[n]);
	}
	for (unsigned n = 0; n < l->n_windows; n++) {
		n_fail += window(g, n, &fail[n_fail]);
	}
	emit_alu_imm(e, ALU_ADD, 4, rm_reg(SCRATCH), 1);
	if (!g->count_in_scratch) {
		emit_store(e, 4, SCRATCH, VCPU_FIELD(passes));
	}
	if (head->live) {
		generate_restore_flags(e);
	}
	move_registers(g);
	exchange(g, register_host, g->loop_host);
	for (unsigned n = 0; n < l->n_slots; n++) {
		if (g->slot_host[n] != REG_NONE) {
			emit_load(e, 8, g->slot_host[n], slot_field(n));
		}
	}
	start = emit_jmp(e);
	generate_fixup(g, start, g->r->head);
	if (e->full) {
		return;
	}
	while (n_fail) {
		emit_patch(fail[--n_fail], e->p);
	}
	if (head->live) {
		generate_restore_flags(e);
	}
	slow = emit_jmp(e);
	if (!e->full) {
		emit_patch(slow, g->x->code + l->slow);
	}
}

/* The branch from the last pass' end to the head, always taken. Keeps flags that the head wants. */
static void back(struct generate *g)
{
	struct emit *e = &g->e;
	uint8_t *again;

	if (!g->r->block[g->r->head].live) {
		emit_alu_imm(e, ALU_SUB, 4,
			     g->count_in_scratch ? rm_reg(SCRATCH) : VCPU_FIELD(passes), 1);
		generate_fixup(g, emit_jcc(e, 5), g->r->head);
	} else {
		unsigned count = g->count_in_scratch ? SCRATCH : RCX;

		if (!g->count_in_scratch) {
			emit_load(e, 4, RCX, VCPU_FIELD(passes));
		}
		emit_lea(e, 4, count, rm_mem(count, -1));
		if (g->count_in_scratch) {
			emit_mov32(e, RCX, SCRATCH);
		} else {
			emit_store(e, 4, RCX, VCPU_FIELD(passes));
		}
		emit8(e, 0xe3); /* jrcxz over the jump */
		emit8(e, 5);
		generate_fixup(g, emit_jmp(e), g->r->head);
	}
	windows_put_back(g);
	again = emit_jmp(e);
	if (!e->full) {
		emit_patch(again, g->windows_begin);
	}
}

void windows_back(struct generate *g, int cc)
{
	uint8_t *over = cc < 0 ? NULL : emit_jcc(&g->e, (unsigned)cc ^ 1);

	back(g);
	if (over && !g->e.full) {
		emit_patch(over, g->e.p);
	}
}

/* -- operands -- */

/* Register `base`, or `to` if that is spoilt, plus a guest register, scaled. Keeps flags. */
static struct rm plus(struct generate *g, unsigned base, unsigned to, unsigned reg, unsigned scale,
		      int32_t disp)
{
	unsigned other = base == RAX ? RCX : RAX;

	if (generate_resident(g, reg)) {
		return rm_index(base, g->host[reg], scale, disp);
	}
	emit_load(&g->e, 8, other, generate_gpr(reg));
	emit_lea(&g->e, 8, to, rm_index(base, other, scale, 0));
	return rm_mem(to, disp);
}

struct rm window_operand(struct generate *g, unsigned k, unsigned to)
{
	const struct insn *i = &g->r->insn[k];
	unsigned n = g->r->loop->use[k] - 1u, at = g->slot_host[n];
	const struct window_slot *s = &g->r->loop->slot[n];
	bool base = i->base != REG_NONE, index = i->index != REG_NONE;
	int32_t disp = s->fixed ? 0 : (int32_t)i->disp;

	if (at == REG_NONE) {
		emit_load(&g->e, 8, to, slot_field(n));
		at = to;
	}
	if (s->fold != REG_NONE && base && s->fold == i->base) {
		base = false;
	} else if (s->fold != REG_NONE) {
		index = false;
	}
	if (base && index) {
		struct rm rm = plus(g, at, to, i->base, 0, 0);

		if (rm.index != REG_NONE) {
			emit_lea(&g->e, 8, to, rm);
		}
		at = to;
	} else if (base) {
		return plus(g, at, to, i->base, 0, disp);
	}
	return index ? plus(g, at, to, i->index, i->scale, disp) : rm_mem(at, disp);
}
