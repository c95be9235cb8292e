/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where translated code is entered and left, as code. It calls the event code for all that it
 * cannot do: that stores the guest's registers into struct vcpu, switches from the stack of return
 * addresses to the thread's and calls runtime_event(), which tells where to go on.
 */
#include "translate/generate.h"

static void store_registers(struct emit *e)
{
	for (unsigned guest = 0; guest < 16; guest++) {
		if (translate_resident(guest)) {
			emit_store(e, 8, register_host[guest], generate_gpr(guest));
		}
	}
}

static void load_registers(struct emit *e)
{
	for (unsigned guest = 0; guest < 16; guest++) {
		if (translate_resident(guest)) {
			emit_load(e, 8, register_host[guest], generate_gpr(guest));
		}
	}
}

static struct rm field(size_t offset)
{
	return rm_vcpu((int32_t)offset);
}

/* MOVUPS each XMM register to or from its place (`opcode` 0x11, 0x10). */
static void move_xmm(struct emit *e, unsigned opcode)
{
	for (unsigned n = 0; n < 16; n++) {
		emit_op(e, (struct op){.map = MAP_0F, .opcode = opcode}, n,
			field(offsetof(struct vcpu, fx.xmm) + n * 16));
	}
}

/* A jump that is taken if fewer vectors are the guest's. */
static uint8_t *skip_unless(struct emit *e, enum event_vectors which)
{
	emit_op(e, (struct op){.opcode = 0x80, .byte_rm = true}, 7,
		field(offsetof(struct vcpu, event_vectors)));
	emit8(e, which);
	return emit_jcc(e, 2);
}

/*
 * What AVX-512 adds: VEXTRACTF64X4 or VINSERTF64X4 of ZMM0..15, VMOVUPS of ZMM16..31, KMOVQ. To be
 * stored before the YMM registers' upper halves, and loaded behind them.
 */
static void move_zmm(struct emit *e, bool store)
{
	uint8_t *skip = skip_unless(e, EVENT_ZMM);
	const uint8_t len = 2 << EVEX_LEN_SHIFT;

	for (unsigned n = 0; n < 16; n++) {
		emit_op(e,
			(struct op){.evex = true,
				    .evex2 = len,
				    .map = MAP_0F3A,
				    .prefix = 0x66,
				    .w = true,
				    .opcode = store ? 0x1b : 0x1a,
				    .vvvv = store ? 0 : n},
			n, field(offsetof(struct vcpu, zmmh) + n * 32));
		emit8(e, 1);
	}
	for (unsigned n = 0; n < 16; n++) {
		emit_op(e,
			(struct op){.evex = true,
				    .evex2 = len,
				    .map = MAP_0F,
				    .opcode = store ? 0x11 : 0x10},
			16 + n, field(offsetof(struct vcpu, zmm16) + n * 64));
	}
	for (unsigned n = 0; n < 8; n++) {
		emit_op(e,
			(struct op){.vex = true,
				    .map = MAP_0F,
				    .w = true,
				    .opcode = store ? 0x91 : 0x90},
			n, field(offsetof(struct vcpu, opmask) + n * 8));
	}
	emit_patch(skip, e->p);
}

/* The YMM registers' upper halves, if they are the guest's: VEXTRACTF128 and VINSERTF128. */
static void move_ymm(struct emit *e, bool store)
{
	uint8_t *skip = skip_unless(e, EVENT_YMM);

	for (unsigned n = 0; n < 16; n++) {
		emit_op(e,
			(struct op){.vex = true,
				    .vex_l = true,
				    .map = MAP_0F3A,
				    .prefix = 0x66,
				    .opcode = store ? 0x19 : 0x18,
				    .vvvv = store ? 0 : n},
			n, field(offsetof(struct vcpu, ymmh) + n * 16));
		emit8(e, 1);
	}
	if (store) { /* vzeroupper: C's SSE code wants it */
		emit8(e, 0xc5);
		emit8(e, 0xf8);
		emit8(e, 0x77);
	}
	emit_patch(skip, e->p);
}

static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15};

static void push_saved(struct emit *e)
{
	for (unsigned n = 0; n < sizeof(saved); n++) {
		if (saved[n] & 8) {
			emit8(e, 0x41);
		}
		emit8(e, 0x50 | (saved[n] & 7));
	}
	emit_alu_imm(e, ALU_SUB, 8, rm_reg(RSP), 8);
}

static void pop_saved(struct emit *e)
{
	emit_alu_imm(e, ALU_ADD, 8, rm_reg(RSP), 8);
	for (unsigned n = sizeof(saved); n-- > 0;) {
		if (saved[n] & 8) {
			emit8(e, 0x41);
		}
		emit8(e, 0x58 | (saved[n] & 7));
	}
	emit8(e, 0xc3);
}

/*
 * Where a return goes that was not predicted: RAX is its target, CL the key's context in
 * vcpu.jumps, ECX >> 8 which return it is. One that finds no return address takes the lowest one of
 * the stack, that of return_empty, which stays there.
 */
static void emit_returns(struct vcpu *v, struct emit *e)
{
	struct translator *x = v->translator;
	int32_t jumps = (int32_t)offsetof(struct vcpu, jumps);
	uint64_t *lowest = (uint64_t *)(uintptr_t)event_code_rsp(v);
	uint8_t *miss;

	*lowest = (uint64_t)(uintptr_t)cache_exec(x, generate_here(x, e));
	v->code_rsp = (uint64_t)(uintptr_t)lowest;
	emit_lea(e, 8, RSP, rm_mem(RSP, -8));
	x->return_miss = generate_here(x, e);
	emit_store(e, 4, RCX, VCPU_FIELD(returns_by));
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xb6}, SCRATCH, rm_reg(RCX));
	emit_alu(e, 0xc1, 4, 4, rm_reg(SCRATCH)); /* shl */
	emit8(e, (uint8_t)__builtin_ctz(sizeof(v->jumps[0])));
	generate_jump_slot(e);
	emit_lea(e, 8, RCX, rm_index(SCRATCH, RCX, 3, 0));
	emit_alu(e, 0x3b, 8, RAX,
		 rm_vcpu_index(RCX, 0, jumps + (int32_t)offsetof(struct jump_slot, rip)));
	miss = emit_jcc(e, 5);
	emit_alu(e, 0xff, 4, 4,
		 rm_vcpu_index(RCX, 0, jumps + (int32_t)offsetof(struct jump_slot, host)));
	emit_patch(miss, e->p);
	generate_event(x, e, (struct site){.kind = SITE_RETURN});
}

/* Calls of C have to be balanced with returns, or the host's return prediction is off by one. */
void event_code_emit(struct vcpu *v)
{
	struct translator *x = v->translator;
	struct emit code = generate_at(v, 0), *e = &code;
	uint8_t *leave, *resume;
	union {
		const uint8_t *code;
		void (*fn)(struct vcpu *v, const uint8_t *host);
	} enter;

	/* enter(v, host) */
	enter.code = e->p + x->to_exec;
	push_saved(e);
	emit_store(e, 8, RSP, VCPU_FIELD(host_rsp));
	emit_store(e, 8, RSI, VCPU_FIELD(event_resume));
	resume = emit_jmp(e);
	x->enter = enter.fn;

	/* event: [rsp] is the site's address */
	x->event = generate_here(x, e);
	emit_store(e, 8, RAX, VCPU_FIELD(event_arg));
	emit_store(e, 8, SCRATCH, VCPU_FIELD(event_scratch));
	emit8(e, 0x9f);								/* lahf */
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0x90}, 0, rm_reg(RAX)); /* seto */
	emit_op(e, (struct op){.prefix = 0x66, .opcode = 0x89}, RAX, VCPU_FIELD(event_flags));
	store_registers(e);
	move_xmm(e, 0x11);
	if (x->avx512) {
		move_zmm(e, true);
	}
	if (x->avx) {
		move_ymm(e, true);
	}
	emit8(e, 0x58 | RSI); /* pop */
	emit_store(e, 8, RSP, VCPU_FIELD(code_rsp));
	emit_load(e, 8, RSP, VCPU_FIELD(host_rsp));
	emit_const(e, RDI, (uint64_t)(uintptr_t)v);
	emit_const(e, RAX, (uint64_t)(uintptr_t)runtime_event);
	emit_alu(e, 0xff, 4, 2, rm_reg(RAX));	/* call */
	emit_alu(e, 0x85, 8, RAX, rm_reg(RAX)); /* test */
	leave = emit_jcc(e, 4);
	emit_store(e, 8, RAX, VCPU_FIELD(event_resume));

	emit_patch(resume, e->p);
	emit_load(e, 8, RSP, VCPU_FIELD(code_rsp));
	move_xmm(e, 0x10);
	if (x->avx) {
		move_ymm(e, false);
	}
	if (x->avx512) {
		move_zmm(e, false);
	}
	load_registers(e);
	emit_load(e, 8, SCRATCH, VCPU_FIELD(event_scratch));
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xb7}, RAX, VCPU_FIELD(event_flags));
	emit8(e, 0x04); /* add $0x7f, %al; sahf */
	emit8(e, 0x7f);
	emit8(e, 0x9e);
	emit_load(e, 8, RAX, VCPU_FIELD(event_result));
	emit_alu(e, 0xff, 4, 6, VCPU_FIELD(event_resume)); /* push */
	emit8(e, 0xc3);

	emit_patch(leave, e->p);
	pop_saved(e);
	emit_returns(v, e);
	x->code_used = (generate_here(x, e) + 63) & ~(size_t)63;
}
