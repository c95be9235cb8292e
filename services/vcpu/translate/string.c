/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings: one element of MOVS, STOS and LODS, upwards; REP MOVS and REP STOS within pages that the
 * TLB has, by the host's own; and bit strings in memory, whose bit is named by a register (BT, BTS,
 * BTR, BTC). Intel SDM volume 2.
 */
#include "translate/generate.h"

static unsigned log_of(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

/* MOV between a register and memory: opcode 0x88 stores, 0x8a loads. */
static void move(struct generate *g, unsigned opcode, unsigned size, unsigned reg, struct rm rm)
{
	emit_op(&g->e,
		(struct op){.opcode = opcode | (size != 1),
			    .byte_reg = size == 1,
			    .w = size == 8,
			    .prefix = size == 2 ? 0x66 : 0},
		reg, rm);
}

/* RAX := the host address of the element at a pointer register. */
static struct rm element(struct generate *g, unsigned k, unsigned pointer, unsigned size,
			 bool write)
{
	emit_load(&g->e, g->r->insn[k].addrsize, RAX, rm_reg(register_host[pointer]));
	generate_check(g, k, size, write);
	return rm_mem(RAX, 0);
}

static void advance(struct generate *g, unsigned k, unsigned pointer, unsigned by)
{
	unsigned reg = register_host[pointer];

	emit_lea(&g->e, g->r->insn[k].addrsize, reg, rm_mem(reg, (int32_t)by));
}

static void one_element(struct generate *g, unsigned k, unsigned size)
{
	const struct insn *i = &g->r->insn[k];

	switch (i->opcode & ~1) {
	case 0xa4:
		move(g, 0x8a, size, SCRATCH, element(g, k, RSI, size, false));
		move(g, 0x88, size, SCRATCH, element(g, k, RDI, size, true));
		advance(g, k, RSI, size);
		advance(g, k, RDI, size);
		break;
	case 0xaa:
		move(g, 0x88, size, register_host[RAX], element(g, k, RDI, size, true));
		advance(g, k, RDI, size);
		break;
	default:
		move(g, 0x8a, size, register_host[RAX], element(g, k, RSI, size, false));
		advance(g, k, RSI, size);
		break;
	}
}

/* RAX := the host address of a run at a pointer register, of which SCRATCH has 4096 - bytes. */
static void check_run(struct generate *g, unsigned k, unsigned pointer, bool write)
{
	size_t tag = write ? offsetof(struct tlb_entry, w) : offsetof(struct tlb_entry, r);
	struct emit *e = &g->e;

	emit_load(e, g->r->insn[k].addrsize, RAX, rm_reg(register_host[pointer]));
	emit_mov32(e, RCX, RAX);
	emit_alu(e, 0xc1, 4, 5, rm_reg(RCX)); /* shr */
	emit8(e, 12 - log_of(sizeof(struct tlb_entry)));
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), (TLB_SIZE - 1) * (int)sizeof(struct tlb_entry));
	emit_alu(e, 0x33, 8, RAX, rm_vcpu_index(RCX, 0, g->tlb + (int32_t)tag));
	emit_alu(e, 0x3b, 8, RAX, rm_reg(SCRATCH));
	generate_unlikely(g, k, 7);
	emit_alu(e, 0x03, 8, RAX,
		 rm_vcpu_index(RCX, 0, g->tlb + (int32_t)offsetof(struct tlb_entry, page)));
}

/* The guest's RSI or RDI behind the run, of which RCX has the bytes. */
static void advance_run(struct generate *g, unsigned k, unsigned pointer)
{
	emit_load(&g->e, 8, register_host[pointer], generate_gpr(pointer));
	emit_alu(&g->e, 0x03, g->r->insn[k].addrsize, register_host[pointer], rm_reg(RCX));
}

/*
 * Repeated: what lies in one page each of source and destination is done at once, by registers
 * that are the guest's, which wait in vcpu.gpr meanwhile.
 */
static void repeated(struct generate *g, unsigned k, unsigned size)
{
	const struct insn *i = &g->r->insn[k];
	unsigned cx = register_host[RCX], log = log_of(size);
	bool moves = (i->opcode & ~1) == 0xa4;
	struct emit *e = &g->e;

	emit_alu_imm(e, ALU_CMP, i->addrsize, rm_reg(cx), 4096 >> log);
	generate_unlikely(g, k, 7);
	emit_mov32(e, RCX, cx);
	emit_alu(e, 0xc1, 4, 4, rm_reg(RCX)); /* shl */
	emit8(e, log);
	emit_const(e, SCRATCH, 4096);
	emit_alu(e, 0x2b, 4, SCRATCH, rm_reg(RCX));
	if (moves) {
		check_run(g, k, RSI, false);
		emit_store(e, 8, RAX, VCPU_FIELD(event_result));
	}
	check_run(g, k, RDI, true);
	emit_store(e, 8, RDI, generate_gpr(RDI));
	emit_mov(e, RDI, RAX);
	if (moves) {
		emit_store(e, 8, RSI, generate_gpr(RSI));
		emit_load(e, 8, RSI, VCPU_FIELD(event_result));
	} else {
		generate_copy(g, RAX, RAX);
	}
	emit_mov32(e, RCX, cx);
	if (size == 2) {
		emit8(e, 0x66);
	}
	emit8(e, 0xf3);
	if (size == 8) {
		emit8(e, 0x48);
	}
	emit8(e, i->opcode);
	emit_mov32(e, RCX, cx);
	emit_alu(e, 0xc1, 4, 4, rm_reg(RCX));
	emit8(e, log);
	advance_run(g, k, RDI);
	if (moves) {
		advance_run(g, k, RSI);
	}
	emit_const(e, cx, 0);
}

void generate_string(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = i->opcode & 1 ? i->opsize : 1, stubs = g->n_stubs;

	generate_spoil_flags(g);
	emit_alu(&g->e, 0xf7, 4, 0, VCPU_FIELD(rflags)); /* testl $DF */
	emit32(&g->e, FL_DF);
	generate_unlikely(g, k, 5);
	if (i->flags & INSN_REP) {
		repeated(g, k, size);
	} else {
		one_element(g, k, size);
	}
	generate_rejoin(g, stubs);
}

/* -- bit strings -- */

/* RAX := the linear address of the operand-sized unit that holds the bit. */
static void bit_address(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	struct rm bit = generate_source(g, i->reg);
	unsigned size = i->opsize;
	struct emit *e = &g->e;

	generate_offset_of(g, k, RAX, i->addrsize == 4 ? 4 : 8);
	if (size == 2) {
		emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xbf, .w = true}, RCX, bit);
	} else if (size == 4) {
		emit_alu(e, 0x63, 8, RCX, bit);
	} else {
		emit_load(e, 8, RCX, bit);
	}
	emit_alu(e, 0xc1, 8, 7, rm_reg(RCX)); /* sar */
	emit8(e, 3 + log_of(size));
	emit_lea(e, i->addrsize == 4 ? 4 : 8, RAX, rm_index(RAX, RCX, log_of(size), 0));
	if (i->seg >= SEG_FS && g->long_mode) {
		emit_alu(e, 0x03, 8, RAX,
			 rm_vcpu((int32_t)(offsetof(struct vcpu, seg_base) + i->seg * 8)));
	}
}

void generate_bit_string(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	unsigned size = i->opsize;
	bool test = i->opcode == 0xa3, lock = i->flags & INSN_LOCK && !g->x->one_cpu;
	struct op op = {.map = MAP_0F,
			.opcode = i->opcode,
			.w = size == 8,
			.opsize = size == 2,
			.lock = lock};
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	bit_address(g, k);
	generate_check(g, k, size, !test);
	emit_mov(e, SCRATCH, RAX);
	if (lock) {
		generate_copy(g, RCX, i->reg);
		emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), (int32_t)size * 8 - 1);
		generate_want_flags(g);
		emit_op(e, op, RCX, rm_mem(SCRATCH, 0));
		return;
	}
	generate_want_flags(g);
	move(g, 0x8a, size, RCX, rm_mem(SCRATCH, 0));
	emit_op(e, op, generate_get(g, i->reg, RAX, true), rm_reg(RCX));
	if (!test) {
		move(g, 0x88, size, RCX, rm_mem(SCRATCH, 0));
	}
}
