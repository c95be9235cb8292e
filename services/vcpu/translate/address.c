/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory operands: the address, then the TLB. One unsigned comparison checks tag, canonical
 * form and page crossing; what does not pass goes to a stub behind the region, which asks
 * translate_event() and comes back with the host address, or not at all.
 */
#include "translate/generate.h"

enum { ENTRY_SHIFT = 5 };
_Static_assert(sizeof(struct tlb_entry) == 1 << ENTRY_SHIFT, "index by shift");

static bool has_registers(const struct insn *i)
{
	return i->base != REG_NONE || i->index != REG_NONE;
}

static void fixed_offset(struct generate *g, unsigned k, unsigned to, unsigned size)
{
	const struct insn *i = &g->r->insn[k];
	uint64_t val = (uint64_t)i->disp;

	if (i->flags & INSN_RIPREL) {
		val += generate_next_rip(g, k);
	}
	emit_const(&g->e, to, size == 4 ? (uint32_t)val : val);
}

void generate_offset_of(struct generate *g, unsigned k, unsigned to, unsigned size)
{
	const struct insn *i = &g->r->insn[k];
	struct rm rm = {.mem = true, .reg = REG_NONE, .index = REG_NONE, .disp = (int32_t)i->disp};

	if (!has_registers(i)) {
		fixed_offset(g, k, to, size);
		return;
	}
	if (i->base != REG_NONE) {
		rm.reg = generate_get(g, i->base, RAX, true);
	}
	if (i->index != REG_NONE) {
		rm.index = generate_get(g, i->index, RCX, true);
		rm.scale = i->scale;
	}
	if (i->index == REG_NONE && !i->disp) {
		if (rm.reg != to || size == 4) {
			emit_load(&g->e, size, to, rm_reg(rm.reg));
		}
		return;
	}
	emit_lea(&g->e, size, to, rm);
}

void generate_check(struct generate *g, unsigned k, unsigned size, bool write)
{
	struct emit *e = &g->e;
	int32_t tag = g->tlb + (int32_t)(write ? offsetof(struct tlb_entry, w)
					       : offsetof(struct tlb_entry, r));

	emit_mov32(e, RCX, RAX);
	emit_alu(e, 0xc1, 4, 5, rm_reg(RCX)); /* shr */
	emit8(e, 12 - ENTRY_SHIFT);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), (TLB_SIZE - 1) << ENTRY_SHIFT);
	emit_alu(e, 0x33, 8, RAX, rm_index(RSP, RCX, 0, tag)); /* xor */
	emit8(e, 0x48);					       /* cmp $4096 - size, %rax */
	emit8(e, 0x3d);
	emit32(e, 4096 - size);
	generate_stub(g, (struct stub){.kind = write ? SITE_WRITE : SITE_READ,
				       .size = size,
				       .insn = k,
				       .from = emit_jcc(e, 7), /* ja */
				       .back = NULL});
	emit_alu(e, 0x03, 8, RAX,
		 rm_index(RSP, RCX, 0, g->tlb + (int32_t)offsetof(struct tlb_entry, page)));
	g->stub[g->n_stubs - 1].back = e->p;
}

unsigned generate_operand(struct generate *g, unsigned k, unsigned size, bool write)
{
	const struct insn *i = &g->r->insn[k];
	struct flag_use use = g->r->use[k];

	generate_spoil_flags(g);
	generate_offset_of(g, k, RAX, i->addrsize == 4 ? 4 : 8);
	if (i->seg >= SEG_FS && g->long_mode) {
		emit_alu(&g->e, 0x03, 8, RAX,
			 rm_mem(RSP, (int32_t)(offsetof(struct vcpu, seg_base) + i->seg * 8)));
	}
	generate_check(g, k, size, write);
	if (g->live && (use.reads || use.touches)) {
		emit_mov(&g->e, RCX, RAX);
		generate_want_flags(g);
		return RCX;
	}
	return RAX;
}

void generate_stack(struct generate *g, unsigned k, int disp, bool write)
{
	unsigned sp = register_host[RSP];

	generate_spoil_flags(g);
	if (disp) {
		emit_lea(&g->e, g->stack_size, RAX, rm_mem(sp, disp));
	} else {
		emit_load(&g->e, g->stack_size, RAX, rm_reg(sp));
	}
	generate_check(g, k, g->stack_size, write);
}

void generate_move_stack(struct generate *g, int by)
{
	unsigned sp = register_host[RSP];

	emit_lea(&g->e, g->stack_size, sp, rm_mem(sp, by));
}
