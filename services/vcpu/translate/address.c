/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory operands: the address, then the TLB. One unsigned comparison checks tag, canonical
 * form and page crossing; what does not pass goes to a stub behind the region, which asks
 * translate_event() and comes back with the host address, or not at all.
 */
#include "translate/generate.h"

static bool has_registers(const struct insn *i)
{
	return i->base != REG_NONE || i->index != REG_NONE;
}

static uint64_t fixed_address(const struct generate *g, unsigned k, unsigned size)
{
	const struct insn *i = &g->r->insn[k];
	uint64_t val = (uint64_t)i->disp;

	if (i->flags & INSN_RIPREL) {
		val += generate_next_rip(g, k);
	}
	return size == 4 ? (uint32_t)val : val;
}

/* An operand's registers, loaded if need be, and `disp`. Spoils RAX and RCX. */
static struct rm registers_of(struct generate *g, const struct insn *i, int32_t disp)
{
	struct rm rm = {.mem = true, .reg = REG_NONE, .index = REG_NONE, .disp = disp};

	if (i->base != REG_NONE) {
		rm.reg = generate_get(g, i->base, RAX, true);
	}
	if (i->index != REG_NONE) {
		rm.index = generate_get(g, i->index, RCX, true);
		rm.scale = i->scale;
	}
	return rm;
}

/* Host register `to` := the operand's registers plus `disp`. Spoils RAX and RCX. */
static void add_registers(struct generate *g, const struct insn *i, int32_t disp, unsigned to,
			  unsigned size)
{
	struct rm rm = registers_of(g, i, disp);

	if (i->index != REG_NONE || disp) {
		emit_lea(&g->e, size, to, rm);
	} else if (rm.reg != to || size == 4) {
		emit_load(&g->e, size, to, rm_reg(rm.reg));
	}
}

void generate_offset_of(struct generate *g, unsigned k, unsigned to, unsigned size)
{
	const struct insn *i = &g->r->insn[k];

	if (has_registers(i)) {
		add_registers(g, i, (int32_t)i->disp, to, size);
	} else {
		emit_const(&g->e, to, fixed_address(g, k, size));
	}
}

/* -- the check of the linear address in RAX; afterwards RAX is the host's -- */

/* Will accesses find the same page again? Kernels work for many processes; but not per CPU. */
static bool is_steady(const struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];

	return g->r->key & MODE_USER ||
	       (i->flags & INSN_MODRM && i->mod != 3 && i->seg >= SEG_FS && !has_registers(i));
}

static void check_site(struct generate *g, struct site site)
{
	struct stub s = {.site = site};

	s.site.kind = SITE_ACCESS;
	s.site.region = g->x->n_regions;
	if (!g->r->rest && is_steady(g, site.insn) && !cache_is_by_slot(g->x, g->r, site.insn)) {
		s.site.flags |= SITE_CACHED;
	}
	s.from = site_emit(&g->e, g->tlb, &s.site);
	s.back = g->e.p;
	generate_stub(g, s);
}

static uint8_t write_flags(bool write)
{
	return write ? SITE_RANGE_WRITE | SITE_LEAD_WRITE : 0;
}

void generate_check(struct generate *g, unsigned k, unsigned size, bool write)
{
	check_site(g, (struct site){.insn = k,
				    .size = size,
				    .lead_size = size,
				    .flags = write_flags(write)});
}

/* The address is known: its entry of the TLB is, too. */
static struct rm check_fixed(struct generate *g, unsigned k, uint64_t lin, unsigned size,
			     bool write)
{
	struct emit *e = &g->e;
	uint64_t page = lin & ~4095ull;
	int32_t entry = g->tlb + (int32_t)(tlb_slot(lin) * sizeof(struct tlb_entry));
	int32_t tag = entry + (int32_t)(write ? offsetof(struct tlb_entry, w)
					      : offsetof(struct tlb_entry, r));

	if ((int64_t)page == (int32_t)page) {
		emit_alu_imm(e, ALU_CMP, 8, rm_vcpu(tag), (int32_t)page);
	} else {
		emit_const(e, RAX, page);
		emit_alu(e, 0x3b, 8, RAX, rm_vcpu(tag));
	}
	generate_stub(g, (struct stub){.site = {.region = g->x->n_regions,
						.kind = SITE_ACCESS,
						.insn = k,
						.size = size,
						.lead_size = size,
						.flags = write_flags(write)},
				       .fixed = true,
				       .lin = lin,
				       .from = emit_jcc(e, 5)});
	emit_load(e, 8, RAX, rm_vcpu(entry + (int32_t)offsetof(struct tlb_entry, page)));
	g->stub[g->n_stubs - 1].back = e->p;
	return rm_mem(RAX, (int32_t)(lin & 4095));
}

/* -- groups -- */

static struct rm group_slot(const struct group *group)
{
	return rm_vcpu((int32_t)(offsetof(struct vcpu, group) + group->slot * sizeof(uint64_t)));
}

/* RAX is where its first byte is on the host. */
static void keep(struct generate *g, const struct group *group)
{
	if (group->in_scratch) {
		emit_mov(&g->e, SCRATCH, RAX);
	} else {
		emit_store(&g->e, 8, RAX, group_slot(group));
	}
}

void generate_checked(struct generate *g)
{
	if (g->checked) {
		if (g->checked_at) {
			emit_lea(&g->e, 8, RAX, rm_mem(RAX, g->checked_at));
		}
		keep(g, g->checked);
	}
}

/* RAX: the linear address of the group's first byte. `size`, `write`: the access that leads it. */
static struct rm lead(struct generate *g, unsigned k, const struct access *a, unsigned size,
		      bool write)
{
	const struct group *group = a->group;

	check_site(g, (struct site){.insn = k,
				    .size = (uint8_t)(group->hi - group->lo),
				    .lead_off = (uint8_t)(a->at - group->lo),
				    .lead_size = size,
				    .flags = SITE_GROUPED | (write ? SITE_LEAD_WRITE : 0) |
					     (a == &g->access[k].stack ? SITE_STACK : 0) |
					     (group->write ? SITE_RANGE_WRITE : 0)});
	keep(g, group);
	g->r->leads[k] = true;
	return rm_mem(RAX, a->at - group->lo);
}

static struct rm follow(struct generate *g, const struct access *a)
{
	if (a->group->in_scratch) {
		return rm_mem(SCRATCH, a->at - a->group->lo);
	}
	emit_load(&g->e, 8, RAX, group_slot(a->group));
	return rm_mem(RAX, a->at - a->group->lo);
}

/* -- operands -- */

static void want_flags(struct generate *g, unsigned k)
{
	if (g->r->use[k].reads || g->r->use[k].touches) {
		generate_want_flags(g);
	}
}

static bool has_window(const struct generate *g, unsigned k)
{
	return g->r->loop && g->r->loop->use[k];
}

/* After a check: flags where k's operation wants them. */
static struct rm with_flags(struct generate *g, unsigned k, struct rm rm)
{
	struct flag_use use = g->r->use[k];

	if (g->live && !g->in_host && (use.reads || use.touches)) {
		if (rm.reg == RAX) {
			emit_mov(&g->e, RCX, RAX);
			rm.reg = RCX;
		}
		generate_want_flags(g);
	}
	return rm;
}

struct rm generate_operand(struct generate *g, unsigned k, unsigned size, bool write)
{
	const struct insn *i = &g->r->insn[k];
	const struct access *a = &g->access[k].operand;
	unsigned address_size = i->addrsize == 4 ? 4 : 8;

	if (has_window(g, k)) {
		want_flags(g, k);
		return window_operand(g, k, RAX);
	}
	if (is_grouped(a) && !a->leads) {
		return with_flags(g, k, follow(g, a));
	}
	generate_spoil_flags(g);
	if (is_grouped(a)) {
		add_registers(g, i, (int32_t)i->disp - (a->at - a->group->lo), RAX, address_size);
		return with_flags(g, k, lead(g, k, a, size, write));
	}
	if (!has_registers(i) && (i->seg < SEG_FS || !g->long_mode)) {
		uint64_t lin = fixed_address(g, k, address_size);

		if ((lin & 4095) + size <= 4096) {
			return with_flags(g, k, check_fixed(g, k, lin, size, write));
		}
	}
	generate_offset_of(g, k, RAX, address_size);
	if (i->seg >= SEG_FS && g->long_mode) {
		emit_alu(&g->e, 0x03, 8, RAX,
			 rm_vcpu((int32_t)(offsetof(struct vcpu, seg_base) + i->seg * 8)));
	}
	generate_check(g, k, size, write);
	return with_flags(g, k, rm_mem(RAX, 0));
}

struct rm generate_operand_at(struct generate *g, unsigned k, unsigned size, bool write,
			      unsigned to)
{
	struct rm rm;

	if (has_window(g, k)) {
		want_flags(g, k);
		return window_operand(g, k, to);
	}
	rm = generate_operand(g, k, size, write);
	if (rm.reg != to) {
		emit_mov(&g->e, to, rm.reg);
		rm.reg = to;
	}
	return rm;
}

struct rm generate_stack(struct generate *g, unsigned k, int disp, bool write)
{
	const struct access *a = &g->access[k].stack;
	unsigned base = register_host[g->r->form[k].kind == FORM_LEAVE ? RBP : RSP];

	if (is_grouped(a) && !a->leads) {
		return follow(g, a);
	}
	generate_spoil_flags(g);
	if (is_grouped(a)) {
		disp -= a->at - a->group->lo;
	}
	if (disp) {
		emit_lea(&g->e, g->stack_size, RAX, rm_mem(base, disp));
	} else {
		emit_load(&g->e, g->stack_size, RAX, rm_reg(base));
	}
	if (is_grouped(a)) {
		return lead(g, k, a, g->stack_size, write);
	}
	generate_check(g, k, g->stack_size, write);
	return rm_mem(RAX, 0);
}
