/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL and SYSRET between 64-bit code of both rings. What would need more than the state that
 * they replace (flags that trap or change the TLB's context otherwise, a request when interrupts
 * are let in) is left to the interpreter. As far_syscall() and far_sysret() do it. Intel SDM volume
 * 2.
 */
#include "translate/generate.h"

enum {
	ATTR_CODE = SEG_P | SEG_S | SEG_G | SEG_L | 0xb,
	ATTR_DATA = SEG_P | SEG_S | SEG_G | SEG_DB | 0x3,
	SYSRET_FLAGS = 0x3c7fd7,
	MODE_BITS = KEY_AC - 1,
};

enum form_kind transfer_form(const struct insn *i, uint32_t key)
{
	if (i->map != MAP_0F || i->flags & INSN_VEX || (key & MODE_SIZE) != MODE_64) {
		return FORM_INTERPRET;
	}
	switch (i->opcode) {
	case 0x05: return key & MODE_USER ? FORM_SYSCALL : FORM_INTERPRET;
	case 0x07:
		return !(key & MODE_USER) && i->flags & INSN_REX_W ? FORM_SYSRET : FORM_INTERPRET;
	}
	return FORM_INTERPRET;
}

static struct rm segment_field(enum seg seg, size_t offset)
{
	return rm_vcpu(
		(int32_t)(offsetof(struct vcpu, seg) + seg * sizeof(struct segment) + offset));
}

/* A flat segment but for its selector. */
static void load_segment(struct emit *e, enum seg seg, uint32_t attr)
{
	_Static_assert(offsetof(struct segment, attr) == offsetof(struct segment, limit) + 4,
		       "stored as one");

	emit_const(e, RAX, (uint64_t)attr << 32 | UINT32_MAX);
	emit_store(e, 8, RAX, segment_field(seg, offsetof(struct segment, limit)));
	emit_alu(e, 0xc7, 8, 0, segment_field(seg, offsetof(struct segment, base)));
	emit32(e, 0);
}

static void store_selector(struct emit *e, enum seg seg, unsigned reg)
{
	emit_op(e, (struct op){.opcode = 0x89, .prefix = 0x66}, reg,
		segment_field(seg, offsetof(struct segment, selector)));
}

/* CS, SS, CPL, mode and the TLB's context of the other ring. */
static void enter_ring(struct generate *g, uint32_t key)
{
	struct emit *e = &g->e;
	bool user = key & MODE_USER;
	uint32_t dpl = user ? 3 << SEG_DPL_SHIFT : 0;
	size_t tlb = offsetof(struct vcpu, tlbs) +
		     (user ? MMU_USER : MMU_SUPER) * sizeof(struct mmu_tlb);

	load_segment(e, SEG_CS, ATTR_CODE | dpl);
	load_segment(e, SEG_SS, ATTR_DATA | dpl);
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xb7}, RAX,
		rm_vcpu((int32_t)offsetof(struct vcpu, star) + (user ? 6 : 4)));
	if (user) {
		emit_alu_imm(e, ALU_ADD, 4, rm_reg(RAX), 8);
		emit_lea(e, 4, RCX, rm_mem(RAX, 8));
		emit_alu_imm(e, ALU_OR, 4, rm_reg(RAX), 3);
		emit_alu_imm(e, ALU_OR, 4, rm_reg(RCX), 3);
	} else {
		emit_alu_imm(e, ALU_AND, 4, rm_reg(RAX), 0xfffc);
		emit_mov32(e, RCX, RAX);
		emit_alu_imm(e, ALU_ADD, 4, rm_reg(RAX), 8);
	}
	store_selector(e, SEG_CS, RCX);
	store_selector(e, SEG_SS, RAX);
	emit_op(e, (struct op){.opcode = 0xc6, .byte_rm = true}, 0, VCPU_FIELD(cpl));
	emit8(e, user ? 3 : 0);
	emit_alu(e, 0xc7, 4, 0, VCPU_FIELD(mode));
	emit32(e, key & MODE_BITS);
	emit_lea(e, 8, RAX, rm_vcpu((int32_t)tlb));
	emit_store(e, 8, RAX, VCPU_FIELD(tlb));
}

/* RFLAGS, with what follows from IF, of an image in RAX. Spoils RCX, SCRATCH. */
static void put_flags(struct generate *g)
{
	struct emit *e = &g->e;

	emit_mov32(e, SCRATCH, RAX);
	emit_mov32(e, RCX, RAX);
	emit_alu(e, 0xc1, 4, 5, rm_reg(RAX)); /* shr $9, %eax */
	emit8(e, 9);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RAX), REQ_IRQ);
	emit_alu_imm(e, ALU_AND, 4, VCPU_FIELD(req_mask), ~REQ_IRQ);
	emit_alu(e, 0x09, 4, RAX, VCPU_FIELD(req_mask)); /* or */
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), ~FL_ARITH);
	emit_alu_imm(e, ALU_OR, 4, rm_reg(RCX), FL_1);
	emit_store(e, 4, RCX, VCPU_FIELD(rflags));
	generate_put_arithmetic(e);
}

/* TEST $imm, %eax; if a bit is set, the instruction is interpreted. */
static void unless_any(struct generate *g, unsigned k, uint32_t bits)
{
	emit8(&g->e, 0xa9);
	emit32(&g->e, bits);
	generate_unlikely(g, k, 5);
}

static void unless_enabled(struct generate *g, unsigned k)
{
	emit_alu(&g->e, 0xf7, 4, 0, VCPU_FIELD(efer));
	emit32(&g->e, EFER_SCE);
	generate_unlikely(g, k, 4);
}

void generate_syscall(struct generate *g, unsigned k)
{
	uint32_t key = g->r->key & ~(uint32_t)MODE_USER;
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	unless_enabled(g, k);
	generate_get_rflags(e);
	emit_load(e, 4, RAX, VCPU_FIELD(sfmask));
	emit_alu(e, 0xf7, 4, 2, rm_reg(RAX)); /* not */
	emit_alu(e, 0x23, 4, RAX, rm_reg(SCRATCH));
	if (key & KEY_SMAP) {
		unless_any(g, k, FL_AC);
	}
	generate_copy_back(g, R11, SCRATCH);
	emit_const(e, register_host[RCX], generate_next_rip(g, k));
	put_flags(g);
	enter_ring(g, key);
	emit_load(e, 8, RAX, VCPU_FIELD(lstar));
	generate_jump(g, k, key);
}

void generate_sysret(struct generate *g, unsigned k)
{
	uint32_t key = (g->r->key & ~(uint32_t)KEY_AC) | MODE_USER;
	unsigned cx = register_host[RCX];
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	unless_enabled(g, k);
	emit_mov(e, RAX, cx); /* canonical? */
	emit_alu(e, 0xc1, 8, 4, rm_reg(RAX));
	emit8(e, 16);
	emit_alu(e, 0xc1, 8, 7, rm_reg(RAX));
	emit8(e, 16);
	emit_alu(e, 0x3b, 8, RAX, rm_reg(cx));
	generate_unlikely(g, k, 5);
	generate_requests(g->v, e);
	generate_unlikely(g, k, 5);
	generate_copy(g, RAX, R11);
	unless_any(g, k, FL_TF | FL_AC);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RAX), SYSRET_FLAGS);
	put_flags(g);
	enter_ring(g, key);
	emit_mov(e, RAX, cx);
	generate_jump(g, k, key);
}
