/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PUSH, POP, PUSHA, POPA, ENTER, LEAVE. The stack pointer changes after the last access that may
 * fault; its width is the stack segment's, the operand's that of the instruction.
 */
#include "execute/integer.h"
#include "execute/operand.h"

/* 64-bit mode, 8 bytes: the frequent ones. */
static const struct insn *push_slow(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	stack_push_value(v, i, i->opsize, get_size(v, i->rm_at, i->opsize));
	NEXT(v, i);
}

static const struct insn *push_r64(struct vcpu *v, const struct insn *i)
{
	uint64_t sp = v->gpr[RSP] - 8;
	mem64 *p = tlb_hit_w(v, sp, 8);

	if (__builtin_expect(!p, 0)) {
		return push_slow(v, i);
	}
	*p = get64(v, i->rm_at);
	v->gpr[RSP] = sp;
	NEXT(v, i);
}

static const struct insn *pop_slow(struct vcpu *v, const struct insn *i)
{
	uint64_t val;

	v->insn = i;
	val = stack_top(v, i, i->opsize);
	stack_set(v, v->gpr[RSP] + i->opsize);
	set_size(v, i->rm_at, i->opsize, val);
	NEXT(v, i);
}

static const struct insn *pop_r64(struct vcpu *v, const struct insn *i)
{
	const mem64 *p = tlb_hit_r(v, v->gpr[RSP], 8);

	if (__builtin_expect(!p, 0)) {
		return pop_slow(v, i);
	}
	v->gpr[RSP] += 8;
	set64(v, i->rm_at, *p);
	NEXT(v, i);
}

static const struct insn *push_imm(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	stack_push_value(v, i, i->opsize, i->imm);
	NEXT(v, i);
}

static const struct insn *push_rm(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	stack_push_value(v, i, i->opsize, rm_read(v, i, i->opsize));
	NEXT(v, i);
}

/* POP to memory: an address by (E)SP uses the value after the pop. */
static const struct insn *pop_m(struct vcpu *v, const struct insn *i)
{
	uint64_t val, sp = v->gpr[RSP], popped, off;

	v->insn = i;
	val = stack_top(v, i, i->opsize);
	stack_set(v, sp + i->opsize);
	popped = v->gpr[RSP];
	off = ea_offset(v, i);
	v->gpr[RSP] = sp;
	mmu_write_size(v, seg_linear(v, i->seg, off, i->opsize, MMU_W, i->flags & INSN_SEG_CHECK),
		       i->opsize, val);
	v->gpr[RSP] = popped;
	NEXT(v, i);
}

static const struct insn *pusha(struct vcpu *v, const struct insn *i)
{
	uint64_t sp = v->gpr[RSP];
	unsigned size = i->opsize;

	v->insn = i;
	for (unsigned reg = RAX; reg <= RDI; reg++) {
		sp -= size;
		mmu_write_size(v, stack_linear_at(v, i, sp, size, MMU_W), size, v->gpr[reg]);
	}
	stack_set(v, sp);
	NEXT(v, i);
}

static const struct insn *popa(struct vcpu *v, const struct insn *i)
{
	uint64_t sp = v->gpr[RSP], val;
	unsigned size = i->opsize;

	v->insn = i;
	/* Not all or nothing on processors either: it can be done again, as ESP stays. */
	for (int reg = RDI; reg >= RAX; reg--) {
		val = mmu_read_size(v, stack_linear_at(v, i, sp, size, MMU_R), size);
		sp += size;
		if (reg != RSP) {
			set_size(v, reg * 8, size, val);
		}
	}
	stack_set(v, sp);
	NEXT(v, i);
}

static const struct insn *enter(struct vcpu *v, const struct insn *i)
{
	unsigned size = i->opsize, level = i->imm2 & 31;
	uint64_t sp = v->gpr[RSP] - size, bp = v->gpr[RBP], frame;

	v->insn = i;
	mmu_write_size(v, stack_linear_at(v, i, sp, size, MMU_W), size, bp);
	frame = sp;
	if (level) {
		for (unsigned k = 1; k < level; k++) {
			uint64_t link;

			bp -= size;
			link = mmu_read_size(v, stack_linear_at(v, i, bp, size, MMU_R), size);
			sp -= size;
			mmu_write_size(v, stack_linear_at(v, i, sp, size, MMU_W), size, link);
		}
		sp -= size;
		mmu_write_size(v, stack_linear_at(v, i, sp, size, MMU_W), size, frame);
	}
	sp -= i->imm;
	/* A fault that a write at the final stack pointer would make comes now. */
	mmu_probe(v, stack_linear_at(v, i, sp, size, MMU_W), size, MMU_W);
	set_size(v, RBP * 8, size, frame);
	stack_set(v, sp);
	NEXT(v, i);
}

static const struct insn *leave(struct vcpu *v, const struct insn *i)
{
	uint64_t bp = v->gpr[RBP], val;

	v->insn = i;
	val = mmu_read_size(v, stack_linear_at(v, i, bp, i->opsize, MMU_R), i->opsize);
	stack_set(v, bp + i->opsize);
	set_size(v, RBP * 8, i->opsize, val);
	NEXT(v, i);
}

bool integer_bind_stack(struct vcpu *v, struct insn *i)
{
	bool wide = (v->mode & MODE_SIZE) == MODE_64 && i->opsize == 8;

	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x50 ... 0x57:
		i->rm_at = i->rm * 8;
		i->fn = wide ? push_r64 : push_slow;
		return true;
	case 0x58 ... 0x5f:
		i->rm_at = i->rm * 8;
		i->fn = wide ? pop_r64 : pop_slow;
		return true;
	case 0x60: i->fn = pusha; return true;
	case 0x61: i->fn = popa; return true;
	case 0x68:
	case 0x6a: i->fn = push_imm; return true;
	case 0x8f:
		operand_bind(v, i, i->opsize);
		i->fn = i->mod == 3 ? pop_slow : pop_m;
		return true;
	case 0xc8: i->fn = enter; return true;
	case 0xc9: i->fn = leave; return true;
	case 0xff:
		if ((i->modrm >> 3 & 7) != 6) {
			return false;
		}
		operand_bind(v, i, i->opsize);
		i->fn = i->mod == 3 ? push_slow : push_rm;
		return true;
	}
	return false;
}
