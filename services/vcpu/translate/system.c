/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions that need no interpreter: on interrupts, flags, segment bases, control
 * registers' values, PKRU, CPUID, time. Each is written for the state that code of its key runs in;
 * where something else must be asked that is seldom so, it goes to the interpreter from a stub.
 * Code of a region runs with no interrupt shadow, no single step, and at CPL 0 or 3. Intel SDM
 * volume 2.
 */
#include "execute/cpuid.h"
#include "exits/board.h"
#include "translate/generate.h"

/* -- which -- */

static bool is_register(const struct insn *i)
{
	return i->mod == 3 && i->flags & INSN_MODRM;
}

static bool prefixed(const struct insn *i)
{
	return i->flags & (INSN_REP | INSN_REPNE | INSN_OPSIZE | INSN_LOCK);
}

static bool native_0f01(const struct insn *i, uint32_t key)
{
	if (!is_register(i)) {
		return false;
	}
	return i->modrm == 0xee || (!(key & MODE_USER) && i->modrm == 0xf8); /* RDPKRU, SWAPGS */
}

/* Fences; RDFSBASE and kin. */
static bool native_0fae(const struct insn *i)
{
	if (!is_register(i)) {
		return false;
	}
	return (i->reg & 7) < 4 ? i->flags & INSN_REP : !prefixed(i) && (i->reg & 7) >= 5;
}

static bool native_0f(struct vcpu *v, const struct insn *i, uint32_t key)
{
	uint64_t offset;

	switch (i->opcode) {
	case 0x01:
		if (is_register(i) && i->modrm == 0xf9) { /* RDTSCP */
			return board_tsc_offset(v->board, &offset);
		}
		return native_0f01(i, key);
	case 0x20: return !(key & MODE_USER) && i->reg < 8 && 0x1d >> i->reg & 1 && !prefixed(i);
	case 0x31: return board_tsc_offset(v->board, &offset);
	case 0xa2: return true; /* CPUID */
	case 0xae: return native_0fae(i);
	}
	return false;
}

static bool native_1(const struct insn *i, uint32_t key, bool wide)
{
	switch (i->opcode) {
	case 0x8c: return (i->reg & 7) < N_SEG;
	case 0x9c:
	case 0x9d: return wide;
	case 0xfa:
	case 0xfb: return !(key & MODE_USER);
	case 0xfc:
	case 0xfd: return true;
	}
	return false;
}

/* STAC, CLAC: with SMAP they decide which accesses are right. */
static enum form_kind alignment_check(const struct insn *i, uint32_t key)
{
	if (key & MODE_USER) {
		return FORM_INTERPRET;
	}
	return key & KEY_SMAP && (i->modrm == 0xcb) != !!(key & KEY_AC) ? FORM_CONTEXT
									: FORM_SYSTEM;
}

enum form_kind system_form(struct vcpu *v, const struct insn *i, uint32_t key)
{
	bool wide = i->opsize == ((key & MODE_SIZE) == MODE_64 ? 8 : 4), native;

	if (i->flags & INSN_VEX || i->map > MAP_0F) {
		return FORM_INTERPRET;
	}
	if (i->map == MAP_0F && i->opcode == 0x01 && is_register(i) &&
	    (i->modrm == 0xca || i->modrm == 0xcb)) {
		return alignment_check(i, key);
	}
	native = i->map == MAP_1 ? native_1(i, key, wide) : native_0f(v, i, key);
	return native ? FORM_SYSTEM : FORM_INTERPRET;
}

/* -- how -- */

enum { CC_Z = 4, CC_NZ = 5 };

/* TEST $imm, field */
static void test_field(struct generate *g, struct rm field, uint32_t imm)
{
	emit_alu(&g->e, 0xf7, 4, 0, field);
	emit32(&g->e, imm);
}

static void whole(struct generate *g, unsigned k)
{
	generate_event(g->x, &g->e,
		       (struct site){.region = g->x->n_regions, .insn = k, .kind = SITE_INTERPRET});
}

/* The selector or base of a segment register. */
static struct rm segment_field(enum seg seg, size_t offset)
{
	return rm_vcpu(
		(int32_t)(offsetof(struct vcpu, seg) + seg * sizeof(struct segment) + offset));
}

static struct rm base_field(enum seg seg)
{
	return rm_vcpu((int32_t)(offsetof(struct vcpu, seg_base) + seg * 8));
}

static void put_base(struct generate *g, enum seg seg, unsigned host)
{
	emit_store(&g->e, 8, host, base_field(seg));
	emit_store(&g->e, 8, host, segment_field(seg, offsetof(struct segment, base)));
}

/* -- interrupts and flags -- */

static void cli(struct generate *g)
{
	generate_spoil_flags(g);
	emit_alu_imm(&g->e, ALU_AND, 4, VCPU_FIELD(rflags), ~FL_IF);
	emit_alu_imm(&g->e, ALU_AND, 4, VCPU_FIELD(req_mask), ~REQ_IRQ);
}

/* RAX := what may want to interrupt; sets ZF. Any request will do: they are rare. */
static void requests(struct generate *g)
{
	generate_requests(g->v, &g->e);
}

static bool ends_block(const struct region *r, unsigned k)
{
	for (unsigned n = 0; n < r->n_blocks; n++) {
		if (r->block[n].n && r->block[n].first + r->block[n].n - 1u == k) {
			return true;
		}
	}
	return false;
}

/*
 * With nothing to interrupt, no shadow is needed: what comes later sets *vcpu.look, which is looked
 * at behind the next instruction at the soonest, if that is in the same block.
 */
static void sti(struct generate *g, unsigned k)
{
	generate_spoil_flags(g);
	if (ends_block(g->r, k)) {
		whole(g, k);
		return;
	}
	requests(g);
	generate_unlikely(g, k, CC_NZ);
	emit_alu_imm(&g->e, ALU_OR, 4, VCPU_FIELD(rflags), FL_IF);
	emit_alu_imm(&g->e, ALU_OR, 4, VCPU_FIELD(req_mask), REQ_IRQ);
}

static void set_flag(struct generate *g, uint32_t flag, bool on)
{
	generate_spoil_flags(g);
	emit_alu_imm(&g->e, on ? ALU_OR : ALU_AND, 4, VCPU_FIELD(rflags),
		     (int32_t)(on ? flag : ~flag));
}

void generate_get_rflags(struct emit *e)
{
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xb6}, SCRATCH,
		rm_vcpu(offsetof(struct vcpu, aflags) + 1));
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xb6}, RCX, VCPU_FIELD(aflags));
	emit_alu(e, 0xc1, 4, 4, rm_reg(RCX)); /* shl $11, %ecx */
	emit8(e, 11);
	emit_alu(e, 0x0b, 4, SCRATCH, VCPU_FIELD(rflags));
	emit_alu(e, 0x0b, 4, SCRATCH, rm_reg(RCX));
}

void generate_put_arithmetic(struct emit *e)
{
	emit_mov32(e, RAX, SCRATCH);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RAX), FL_ARITH & 0xff);
	emit_alu(e, 0xc1, 4, 4, rm_reg(RAX)); /* shl $8, %eax */
	emit8(e, 8);
	emit_alu(e, 0xc1, 4, 5, rm_reg(SCRATCH)); /* shr $11 */
	emit8(e, 11);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(SCRATCH), 1);
	emit_lea(e, 4, RAX, rm_index(RAX, SCRATCH, 0, FL_1 << 8));
	emit_op(e, (struct op){.opcode = 0x89, .prefix = 0x66}, RAX, VCPU_FIELD(aflags));
}

/* The flags are in memory: it reads them. */
static void pushf(struct generate *g, unsigned k)
{
	unsigned size = g->stack_size;
	struct rm to;

	generate_spoil_flags(g);
	to = generate_stack(g, k, -(int)size, true);
	generate_get_rflags(&g->e);
	emit_store(&g->e, size, SCRATCH, to);
	generate_move_stack(g, -(int)size);
	generate_settle_stack(g);
}

/* IF of the image in SCRATCH, whose difference to vcpu.rflags is in RAX. */
static void put_interrupt_flag(struct generate *g, unsigned k)
{
	struct emit *e = &g->e;
	uint8_t *same;

	emit8(e, 0xa9); /* test $IF, %eax */
	emit32(e, FL_IF);
	emit8(e, 0x74); /* jz */
	emit8(e, 0);
	same = e->p;
	requests(g);
	generate_unlikely(g, k, CC_NZ);
	emit_alu_imm(e, ALU_XOR, 4, VCPU_FIELD(rflags), FL_IF);
	emit_alu_imm(e, ALU_XOR, 4, VCPU_FIELD(req_mask), REQ_IRQ);
	if (!e->full) {
		same[-1] = (uint8_t)(e->p - same);
	}
}

/* If another flag than the arithmetic ones and, at CPL 0, IF changes, it is interpreted. */
static void popf(struct generate *g, unsigned k)
{
	struct emit *e = &g->e;
	bool user = g->r->key & MODE_USER;
	uint32_t rare = FL_TF | FL_DF | FL_NT | FL_AC | FL_ID | FL_IOPL | (user ? FL_IF : 0);

	generate_spoil_flags(g);
	emit_load(e, 4, SCRATCH, generate_stack(g, k, 0, false));
	emit_mov32(e, RAX, SCRATCH);
	emit_alu(e, 0x33, 4, RAX, VCPU_FIELD(rflags));
	emit8(e, 0xa9); /* test $rare, %eax */
	emit32(e, rare);
	generate_unlikely(g, k, CC_NZ);
	if (!user) {
		put_interrupt_flag(g, k);
	}
	generate_put_arithmetic(e);
	generate_move_stack(g, (int)g->stack_size);
	generate_settle_stack(g);
}

/* -- registers -- */

static void swapgs(struct generate *g)
{
	struct emit *e = &g->e;

	emit_load(e, 8, RAX, VCPU_FIELD(kernel_gs_base));
	emit_load(e, 8, RCX, base_field(SEG_GS));
	emit_store(e, 8, RCX, VCPU_FIELD(kernel_gs_base));
	put_base(g, SEG_GS, RAX);
}

/* A result in RAX to general register `guest`, by operand size. */
static void put_result(struct generate *g, unsigned guest, unsigned size)
{
	unsigned reg;

	if (size == 2) {
		reg = generate_get(g, guest, RCX, true);
		emit_op(&g->e, (struct op){.opcode = 0x89, .prefix = 0x66}, RAX, rm_reg(reg));
		generate_put(g, guest, reg);
		return;
	}
	if (size == 4) {
		emit_mov32(&g->e, RAX, RAX);
	}
	generate_copy_back(g, guest, RAX);
}

static void move_from_segment(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	struct rm selector = segment_field(i->reg & 7, offsetof(struct segment, selector));
	struct rm to;

	if (i->mod != 3) {
		to = generate_operand(g, k, 2, true);
		emit_op(&g->e, (struct op){.map = MAP_0F, .opcode = 0xb7}, RCX, selector);
		emit_op(&g->e, (struct op){.opcode = 0x89, .prefix = 0x66}, RCX, to);
		return;
	}
	emit_op(&g->e, (struct op){.map = MAP_0F, .opcode = 0xb7}, RAX, selector);
	put_result(g, i->rm, i->opsize);
}

static void move_from_control(struct generate *g, unsigned k)
{
	static const size_t field[8] = {
		[0] = offsetof(struct vcpu, cr0),
		[2] = offsetof(struct vcpu, cr2),
		[3] = offsetof(struct vcpu, cr3),
		[4] = offsetof(struct vcpu, cr4),
	};
	const struct insn *i = &g->r->insn[k];

	emit_load(&g->e, 8, RAX, rm_vcpu((int32_t)field[i->reg & 7]));
	put_result(g, i->rm, g->long_mode ? 8 : 4);
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. */
static void segment_base(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];
	enum seg seg = i->reg & 1 ? SEG_GS : SEG_FS;
	unsigned size = i->opsize == 8 ? 8 : 4;
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	test_field(g, VCPU_FIELD(cr4), CR4_FSGSBASE);
	generate_unlikely(g, k, CC_Z);
	if ((i->reg & 7) < 2) {
		emit_load(e, 8, RAX, base_field(seg));
		put_result(g, i->rm, size);
		return;
	}
	emit_load(e, size, RAX, generate_source(g, i->rm));
	if (size == 8) { /* canonical? */
		emit_mov(e, RCX, RAX);
		emit_alu(e, 0xc1, 8, 4, rm_reg(RCX)); /* shl $16, %rcx */
		emit8(e, 16);
		emit_alu(e, 0xc1, 8, 7, rm_reg(RCX)); /* sar $16, %rcx */
		emit8(e, 16);
		emit_alu(e, 0x3b, 8, RCX, rm_reg(RAX));
		generate_unlikely(g, k, CC_NZ);
	}
	put_base(g, seg, RAX);
}

static void read_pkru(struct generate *g, unsigned k)
{
	unsigned rcx = register_host[RCX], rdx = register_host[RDX];
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	test_field(g, VCPU_FIELD(cr4), CR4_PKE);
	generate_unlikely(g, k, CC_Z);
	emit_alu(e, 0x85, 4, rcx, rm_reg(rcx)); /* test %ecx, %ecx */
	generate_unlikely(g, k, CC_NZ);
	emit_load(e, 4, register_host[RAX], VCPU_FIELD(pkru));
	emit_alu(e, 0x33, 4, rdx, rm_reg(rdx)); /* xor %edx, %edx */
}

/* -- CPUID -- */

static struct rm answer_field(size_t offset)
{
	return rm_vcpu_index(RCX, 0, (int32_t)(offsetof(struct vcpu, cpuid) + offset));
}

#define ANSWER(field) answer_field(offsetof(struct cpuid_answer, field))

static void shift_imm(struct emit *e, unsigned op, unsigned reg, uint8_t by)
{
	emit_alu(e, 0xc1, 4, op, rm_reg(reg));
	emit8(e, by);
}

/* RCX := where in vcpu.cpuid the answer is to be, as cpuid_slot(). Spoils RAX. */
static void find_answer(struct emit *e, unsigned leaf, unsigned subleaf)
{
	_Static_assert(CPUID_SUBLEAVES == 8 && sizeof(struct cpuid_answer) == 32, "shifts");

	emit_mov32(e, RAX, leaf);
	shift_imm(e, 5, RAX, CPUID_FOLD);
	emit_alu(e, 0x33, 4, RAX, rm_reg(leaf));
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RAX), CPUID_LEAVES - 1);
	emit_mov32(e, RCX, subleaf);
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RCX), CPUID_SUBLEAVES - 1);
	emit_lea(e, 4, RCX, rm_index(RCX, RAX, 3, 0));
	shift_imm(e, 4, RCX, 5);
}

/* RAX := what answers depend on, as cpuid_state(). Spoils SCRATCH. */
static void answer_state(struct emit *e)
{
	emit_load(e, 4, RAX, VCPU_FIELD(cr4));
	emit_alu_imm(e, ALU_AND, 4, rm_reg(RAX), CPUID_STATE_CR4);
	emit_load(e, 4, SCRATCH, VCPU_FIELD(apic_base));
	emit_alu_imm(e, ALU_AND, 4, rm_reg(SCRATCH), CPUID_STATE_APIC);
	emit_lea(e, 4, RAX, rm_index(RAX, SCRATCH, 0, (int32_t)CPUID_STATE_KNOWN));
	emit_alu(e, 0x0b, 4, RAX, VCPU_FIELD(xcr0));
}

/* What has been answered before, else the interpreter answers. */
static void cpuid(struct generate *g, unsigned k)
{
	unsigned leaf = register_host[RAX], subleaf = register_host[RCX];
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	if (!g->x->one_cpu) {
		emit_bytes(e, "\x0f\xae\xf0", 3); /* mfence */
	}
	emit_bytes(e, "\x0f\xae\xe8", 3); /* lfence */
	find_answer(e, leaf, subleaf);
	answer_state(e);
	emit_alu(e, 0x3b, 4, RAX, ANSWER(state));
	generate_unlikely(g, k, CC_NZ);
	emit_alu(e, 0x3b, 4, leaf, ANSWER(leaf));
	generate_unlikely(g, k, CC_NZ);
	emit_mov32(e, RAX, subleaf);
	emit_alu(e, 0x33, 4, RAX, ANSWER(subleaf));
	emit_alu(e, 0x23, 4, RAX, ANSWER(subleaf_mask));
	generate_unlikely(g, k, CC_NZ);
	emit_load(e, 4, register_host[RAX], ANSWER(out[0]));
	emit_load(e, 4, register_host[RBX], ANSWER(out[1]));
	emit_load(e, 4, register_host[RDX], ANSWER(out[3]));
	emit_load(e, 4, register_host[RCX], ANSWER(out[2]));
}

/* -- time -- */

static void read_tsc(struct generate *g, unsigned k)
{
	bool with_aux = g->r->insn[k].opcode == 0x01;
	struct emit *e = &g->e;

	generate_spoil_flags(g);
	if (g->r->key & MODE_USER) {
		test_field(g, VCPU_FIELD(cr4), CR4_TSD);
		generate_unlikely(g, k, CC_NZ);
	}
	if (with_aux) {
		emit_bytes(e, "\x0f\xae\xe8", 3); /* lfence: RDTSCP waits for loads before it */
		emit_load(e, 4, register_host[RCX], VCPU_FIELD(tsc_aux));
	}
	emit_bytes(e, "\x0f\x31", 2);
	emit_alu(e, 0xc1, 8, 4, rm_reg(RDX)); /* shl $32, %rdx */
	emit8(e, 32);
	emit_alu(e, 0x0b, 8, RDX, rm_reg(RAX));
	emit_alu(e, 0x03, 8, RDX, VCPU_FIELD(tsc_from_host));
	emit_mov32(e, register_host[RAX], RDX);
	emit_alu(e, 0xc1, 8, 5, rm_reg(RDX)); /* shr $32, %rdx */
	emit8(e, 32);
}

static void group_0fae(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];

	if ((i->reg & 7) < 4) {
		segment_base(g, k);
		return;
	}
	emit8(&g->e, 0x0f);
	emit8(&g->e, 0xae);
	emit8(&g->e, i->modrm);
}

static void generate_0f(struct generate *g, unsigned k)
{
	const struct insn *i = &g->r->insn[k];

	switch (i->opcode) {
	case 0x01:
		switch (i->modrm) {
		case 0xca:
		case 0xcb: set_flag(g, FL_AC, i->modrm & 1); break;
		case 0xee: read_pkru(g, k); break;
		case 0xf8: swapgs(g); break;
		default: read_tsc(g, k); break;
		}
		break;
	case 0x20: move_from_control(g, k); break;
	case 0x31: read_tsc(g, k); break;
	case 0xa2: cpuid(g, k); break;
	case 0xae: group_0fae(g, k); break;
	}
}

void generate_system(struct generate *g, unsigned k)
{
	unsigned stubs = g->n_stubs;
	const struct insn *i = &g->r->insn[k];

	if (i->map == MAP_0F) {
		generate_0f(g, k);
	} else {
		switch (i->opcode) {
		case 0x8c: move_from_segment(g, k); break;
		case 0x9c: pushf(g, k); break;
		case 0x9d:
			popf(g, k);
			g->in_memory = true;
			break;
		case 0xfa: cli(g); break;
		case 0xfb: sti(g, k); break;
		default: set_flag(g, FL_DF, i->opcode & 1); break;
		}
	}
	generate_rejoin(g, stubs);
}
