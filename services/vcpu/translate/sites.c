/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of memory accesses as code, and how they change while they run. A site looks its page up
 * by the TLB slot of the address, or, in user code, has the slot it met last as a constant, which
 * is set anew when another page comes. After SITE_TURNS such changes its region is translated again
 * with the site by slot. Where a group's check cannot pass, copies.c says where it goes on.
 *
 *   cached:  xor tag(slot), %rax; cmp; ja stub; add page(slot), %rax; back:
 *   by slot: index of %rax to %rcx; xor tag(index), %rax; cmp; ja stub; add page(index), %rax;
 * back: stub:    xor the same tag, %rax; call event; site; jmp back
 */
#include "translate/generate.h"

enum {
	SITE_TURNS = 24,
	ENTRY_SHIFT = 5,
	/* Bytes of the instructions of a cached site, all with 32-bit displacements. */
	LEN_TLB_OP = 8,
	LEN_CMP = 6,
	LEN_JCC = 6,
	LEN_CALL = 5,
	/* Displacements in a way: see site_split(). */
	WAY_ABOVE = LEN_CMP + 2,
	WAY_OTHER = WAY_ABOVE + LEN_CMP + LEN_JCC,
	WAY_PAGE = WAY_OTHER + LEN_TLB_OP,
};
_Static_assert(sizeof(struct tlb_entry) == 1 << ENTRY_SHIFT, "index by shift");

static int32_t tag_offset(bool write)
{
	return write ? (int32_t)offsetof(struct tlb_entry, w)
		     : (int32_t)offsetof(struct tlb_entry, r);
}

static int32_t page_offset(void)
{
	return (int32_t)offsetof(struct tlb_entry, page);
}

/* `opcode` field of struct vcpu, %rax, in LEN_TLB_OP bytes. */
static void emit_tlb_op(struct emit *e, uint8_t opcode, int32_t offset)
{
	emit_alu(e, opcode, 8, RAX, rm_vcpu(offset));
}

/* cmp $4096 - size, %rax; ja. Returns the jump's displacement. */
static uint8_t *emit_limit(struct emit *e, unsigned size)
{
	emit8(e, 0x48);
	emit8(e, 0x3d);
	emit32(e, 4096 - size);
	return emit_jcc(e, 7);
}

uint8_t *site_emit_lookup(struct emit *e, int32_t tlb, bool write, unsigned size)
{
	if (__builtin_cpu_supports("bmi2")) { /* rorx */
		emit_op(e,
			(struct op){.vex = true, .map = MAP_0F3A, .prefix = 0xf2, .opcode = 0xf0},
			RCX, rm_reg(RAX));
	} else {
		emit_mov32(e, RCX, RAX);
		emit_alu(e, 0xc1, 4, 5, rm_reg(RCX)); /* shr */
	}
	emit8(e, 12 - ENTRY_SHIFT);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), (TLB_SIZE - 1) << ENTRY_SHIFT);
	emit_alu(e, 0x33, 8, RAX, rm_vcpu_index(RCX, 0, tlb + tag_offset(write)));
	return emit_limit(e, size);
}

void site_emit_host(struct emit *e, int32_t tlb, bool write)
{
	emit_load(e, 8, RAX, rm_vcpu_index(RCX, 0, tlb + page_offset()));
	emit_alu(e, 0x2b, 8, RAX, rm_vcpu_index(RCX, 0, tlb + tag_offset(write)));
}

static uint8_t *emit_by_slot(struct emit *e, int32_t tlb, const struct site *s)
{
	uint8_t *from = site_emit_lookup(e, tlb, s->flags & SITE_RANGE_WRITE, s->size);

	emit_alu(e, 0x03, 8, RAX, rm_vcpu_index(RCX, 0, tlb + page_offset()));
	return from;
}

uint8_t *site_emit(struct emit *e, int32_t tlb, const struct site *s)
{
	uint8_t *from;

	if (!(s->flags & SITE_CACHED)) {
		return emit_by_slot(e, tlb, s);
	}
	emit_tlb_op(e, 0x33,
		    (int32_t)offsetof(struct vcpu, no_page) +
			    tag_offset(s->flags & SITE_RANGE_WRITE));
	from = emit_limit(e, s->size);
	emit_tlb_op(e, 0x03, (int32_t)offsetof(struct vcpu, no_page) + page_offset());
	return from;
}

void site_emit_stub(struct translator *x, struct emit *e, int32_t tlb, const struct site *s,
		    const uint8_t *back)
{
	int32_t tag = tag_offset(s->flags & SITE_RANGE_WRITE);
	uint8_t *at;

	if (s->flags & SITE_CACHED) {
		emit_tlb_op(e, 0x33, (int32_t)offsetof(struct vcpu, no_page) + tag);
	} else {
		emit_alu(e, 0x33, 8, RAX, rm_vcpu_index(RCX, 0, tlb + tag));
	}
	generate_event(x, e, *s);
	at = emit_jmp(e);
	if (!e->full) {
		emit_patch(at, back);
	}
}

/* The writable view of a stub's site. */
static struct site *writable(const struct translator *x, const struct site *s)
{
	return (struct site *)((uint8_t *)s - x->to_exec);
}

/* Where the jump with its displacement `at` leads. */
static uint8_t *target_of(uint8_t *at)
{
	int32_t disp;

	memcpy(&disp, at, 4);
	return at + 4 + disp;
}

/* Where a stub goes back to, in the writable view. */
static uint8_t *back_of(struct site *s)
{
	return target_of((uint8_t *)(s + 1) + 1);
}

/* The displacement of the jump of the check that ends at `back`. */
static uint8_t *fails_at(uint8_t *back)
{
	return back - LEN_TLB_OP - 4;
}

/* Offset of the region's TLB context in struct vcpu. */
int32_t site_tlb(uint32_t key)
{
	unsigned ctx = key & MODE_USER ? MMU_USER : key & KEY_AC ? MMU_SUPER_AC : MMU_SUPER;

	return (int32_t)(offsetof(struct vcpu, tlbs) + ctx * sizeof(struct mmu_tlb) +
			 offsetof(struct mmu_tlb, e));
}

/* Is it a way, not a stub, which begins with XOR? */
static bool is_way(const uint8_t *p)
{
	return p[1] == 0x3d;
}

bool site_turn(struct vcpu *v, const struct site *site, uint64_t lin)
{
	struct translator *x = v->translator;
	struct site *s = writable(x, site);
	struct region *r = x->regions[s->region];
	uint8_t *back = back_of(s), *p = target_of(fails_at(back));
	int32_t entry = (int32_t)(uintptr_t)v + site_tlb(r->key) +
			(int32_t)(tlb_slot(lin) * sizeof(struct tlb_entry));
	int32_t tag = entry + tag_offset(s->flags & SITE_RANGE_WRITE), page = entry + page_offset();

	if (r->turns[s->insn] == SITE_TURNS) {
		return false;
	}
	r->turns[s->insn]++;
	for (; is_way(p); p = target_of(p + WAY_OTHER)) {
		memcpy(p + WAY_PAGE, &page, 4);
	}
	memcpy(p + 4, &tag, 4); /* the stub */
	memcpy(back - 4, &page, 4);
	memcpy(back - LEN_TLB_OP - LEN_JCC - LEN_CMP - 4, &tag, 4);
	return true;
}

/*
 * Ways come one after the other between the check's jump and its stub. In the page whose tag was
 * compared RAX is the offset:
 *
 *   cmp $first, %rax; jb next; cmp $last, %rax; ja next; add page(..), %rax; jmp copy
 */
bool site_split(struct vcpu *v, const struct site *site, uint32_t copy, unsigned first,
		unsigned last)
{
	struct translator *x = v->translator;
	struct emit code = generate_at(v, x->code_used), *e = &code;
	uint8_t *way = e->p, *back = back_of(writable(x, site)), *at, *other[2];

	emit8(e, 0x48);
	emit8(e, 0x3d);
	emit32(e, first);
	other[0] = emit_jcc(e, 2);
	other[1] = emit_limit(e, 4096 - last);
	emit_bytes(e, back - LEN_TLB_OP, LEN_TLB_OP);
	at = emit_jmp(e);
	if (e->full) {
		x->flush = true;
		return false;
	}
	emit_patch(at, x->code + copy);
	for (unsigned n = 0; n < 2; n++) {
		emit_patch(other[n], target_of(fails_at(back)));
	}
	emit_patch(fails_at(back), way);
	x->code_used = (generate_here(x, e) + 15) & ~(size_t)15;
	return true;
}

/* Behind the stub's own work, where RAX is the linear address again. */
bool site_plain(struct vcpu *v, const struct site *site, uint32_t copy, unsigned first,
		unsigned last)
{
	struct translator *x = v->translator;
	struct emit code = generate_at(v, x->code_used), *e = &code;
	struct site *s = writable(x, site);
	uint8_t *call = (uint8_t *)s - LEN_CALL, *way = e->p, *to, *back;

	emit_mov32(e, RCX, RAX);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), 4095);
	emit_alu_imm(e, ALU_SUB, 4, rm_reg(RCX), (int32_t)first);
	emit_alu_imm(e, ALU_CMP, 4, rm_reg(RCX), (int32_t)(last - first));
	to = emit_jcc(e, 6);
	generate_event(x, e, *s);
	back = emit_jmp(e);
	if (e->full) {
		x->flush = true;
		return false;
	}
	emit_patch(to, x->code + copy);
	emit_patch(back, back_of(s));
	x->code_used = (generate_here(x, e) + 15) & ~(size_t)15;
	*call = 0xe9; /* jmp */
	emit_patch(call + 1, way);
	return true;
}

void sites_settle(struct vcpu *v, const struct region *r)
{
	for (unsigned k = 0; k < r->n_insns; k++) {
		if (r->turns[k] > SITE_TURNS / 4) {
			cache_set_by_slot(v->translator, r, k);
		}
	}
}
