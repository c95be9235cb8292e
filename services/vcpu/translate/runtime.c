/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between translated code and C. Translated code calls the event code for all that it cannot do;
 * that stores the guest's registers into struct vcpu, switches from the vCPU's small stack to the
 * thread's and calls runtime_event(), which tells where to go on. Exceptions raised there unwind
 * to the run loop: the guest's state is in struct vcpu already.
 *
 * Host signals that translated instructions cause (#DE, alignment, #UD) become events too.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

#include "execute/prepare.h"
#include "execute/run.h"
#include "execute/simd.h"
#include "execute/simd_operands.h"
#include "translate/chaos.h"
#include "translate/generate.h"
#include "translate/loops.h"
#include "translate/verify.h"

/* -- code -- */

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

/* The stack pointer of translated code when its stack is empty. */
static uint64_t returns_base(const struct vcpu *v)
{
	return (uint64_t)(uintptr_t)v - 2 * sizeof(uint64_t);
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
	uint64_t *lowest = (uint64_t *)(uintptr_t)returns_base(v);
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
void runtime_emit(struct vcpu *v)
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

/* -- events -- */

static void set_instruction(struct vcpu *v, const struct region *r, unsigned k)
{
	v->trace_rip = v->rip = r->lin | r->at[k];
	v->insn = &r->insn[k];
}

/* Where to go on at v->rip, or NULL: by the run loop. */
static const uint8_t *go_on(struct vcpu *v)
{
	const struct found *f;
	uint32_t key;

	if (v->halted || v->stepping || v->shadow || v->translator->flush ||
	    v->translator->verify || vcpu_must_stop(v)) {
		return NULL;
	}
	key = cache_key(v);
	f = key ? cache_lookup(v, key) : NULL;
	v->event_vectors = event_vectors(v); /* XSETBV may have been interpreted */
	return f ? cache_exec(v->translator, f->near) : NULL;
}

static const struct insn *interpreted(struct vcpu *v, const struct insn *i)
{
	(void)v;
	return i;
}

struct insn *runtime_bind(struct vcpu *v, struct region *r, unsigned k)
{
	struct insn *pair = r->bound[k];

	if (pair) {
		return pair;
	}
	pair = cache_alloc(v->translator, 2 * sizeof(*pair));
	if (!pair) {
		pair = v->translator->pair; /* until the flush that this asked for */
	}
	pair[0] = r->insn[k];
	pair[1].fn = interpreted;
	insn_bind(v, &pair[0]);
	r->bound[k] = pair == v->translator->pair ? NULL : pair;
	return pair;
}

/* Addresses in 32-bit code have 32 bits. */
static uint64_t wrap(const struct vcpu *v, uint64_t lin)
{
	return (v->mode & MODE_SIZE) == MODE_64 ? lin : (uint32_t)lin;
}

/* Interprets instruction k. `after`: where its successor's code is. */
static const uint8_t *interpret(struct vcpu *v, struct region *r, unsigned k, const uint8_t *after)
{
	struct translator *x = v->translator;
	const struct insn *i = runtime_bind(v, r, k), *next;
	uint32_t epoch = v->tlb_epoch;

	v->trace_rip = v->rip = r->lin | r->at[k];
	v->insn = i;
	next = i->fn(v, i);
	if (!next) {
		return go_on(v);
	}
	v->rip = wrap(v, v->trace_rip + r->insn[k].len);
	if (r->dead || x->flush || v->shadow || v->stepping || r->form[k].kind == FORM_END ||
	    cache_key(v) != r->key) {
		return go_on(v);
	}
	if (x->verify && verify_ends(v, v->rip)) {
		return NULL;
	}
	/*
	 * A check that others rely on may not have been made, or no longer hold; or the local APIC
	 * was told to interrupt this CPU.
	 */
	if (r->leads[k] || v->tlb_epoch != epoch || vcpu_must_stop(v)) {
		return go_on(v);
	}
	v->event_flags = v->aflags;
	return after;
}

/* An operand that must be aligned, and is not: that comes before page faults. */
static bool is_misaligned(const struct region *r, unsigned k, uint64_t lin)
{
	struct simd_operands o;

	if (r->form[k].kind == FORM_CMPXCHG_WIDE && r->form[k].rm_size == 16) {
		return lin & 15;
	}
	return r->form[k].kind == FORM_SIMD && simd_operands(&r->insn[k], &o) &&
	       lin & (o.align - 1u);
}

/* With its sites by slot that met many pages; v->rip is within it, where it goes on. */
static const uint8_t *translate_again(struct vcpu *v, struct region *r)
{
	uint64_t rip = v->rip;

	sites_settle(v, r);
	cache_drop(v, r);
	if (r->loop) {
		struct region *of = r->loop->of;

		if (!of->dead) {
			loop_speed_up(v, of, &of->block[r->loop->head]);
		}
		return go_on(v);
	}
	v->rip = r->lin | r->block[0].at;
	engine_translate(v, r->key);
	v->rip = rip;
	return go_on(v);
}

/* Does it access a part of its operand only? */
static bool is_masked(const struct region *r, unsigned k)
{
	const struct insn *i = &r->insn[k];

	return i->flags & INSN_EVEX && i->evex & EVEX_OPMASK;
}

/* Does the TLB let all bytes that the site checks be accessed? */
static bool passes(const struct vcpu *v, const struct site *site)
{
	const struct tlb_entry *e = &v->tlb->e[tlb_slot(v->event_arg)];
	uint64_t tag = site->flags & SITE_RANGE_WRITE ? e->w : e->r;

	return (v->event_arg ^ tag) <= 4096u - site->size;
}

static const uint8_t *access_memory(struct vcpu *v, struct region *r, const struct site *site)
{
	uint64_t lin = wrap(v, v->event_arg + site->lead_off);
	bool grouped = site->flags & SITE_GROUPED;
	uint8_t *p;

	set_instruction(v, r, site->insn);
	if (!is_misaligned(r, site->insn, lin) && (!is_masked(r, site->insn) || passes(v, site))) {
		p = mmu_ptr_slow(v, lin, site->lead_size,
				 site->flags & SITE_LEAD_WRITE ? MMU_RW : MMU_R);
		if (p && (!grouped || passes(v, site))) {
			v->event_result = (uint64_t)(uintptr_t)(p - site->lead_off);
			if (site->flags & SITE_CACHED && passes(v, site) &&
			    !site_turn(v, site, v->event_arg) && !v->translator->verify) {
				return translate_again(v, r);
			}
			return (const uint8_t *)(site + 1);
		}
	}
	if (grouped) {
		if (site->flags & SITE_CACHED && copies_have(v, r, site) &&
		    !site_turn(v, site, v->event_arg) && !v->translator->verify) {
			return translate_again(v, r);
		}
		return copies_enter(v, r, site);
	}
	return interpret(v, r, site->insn, cache_exec(v->translator, r->after[site->insn]));
}

static const uint8_t *leave_by(struct vcpu *v, uint32_t exit)
{
	struct translator *x = v->translator;
	const struct found *f;

	v->rip = x->exits[exit].target;
	if (vcpu_must_stop(v) || x->flush || x->verify) {
		return NULL;
	}
	f = cache_lookup(v, x->exits[exit].key);
	if (!f) {
		return NULL;
	}
	cache_link(x, exit, f);
	return cache_exec(x, f->near);
}

static bool is_canonical(uint64_t rip)
{
	return (uint64_t)((int64_t)(rip << 16) >> 16) == rip;
}

/* The branch's target is refused: as if the instruction had not begun, it is interpreted. */
static void undo(struct vcpu *v, const struct region *r, unsigned k)
{
	const struct insn *i = &r->insn[k];

	switch (r->form[k].kind) {
	case FORM_RET: v->gpr[RSP] -= 8u + (i->opcode == 0xc2 ? (uint16_t)i->imm : 0u); break;
	case FORM_CALL_RM: v->gpr[RSP] += 8; break;
	}
}

static const uint8_t *indirect(struct vcpu *v, struct region *from, unsigned k)
{
	struct translator *x = v->translator;
	bool same_key = from->form[k].kind < FORM_CONTEXT;
	const struct found *f;

	v->rip = v->event_arg;
	if ((v->mode & MODE_SIZE) == MODE_64 && !is_canonical(v->rip)) {
		if (!same_key) {
			return NULL; /* done; its target's fetch faults */
		}
		undo(v, from, k);
		if (x->verify) {
			if (from->form[k].kind == FORM_CALL_RM) {
				verify_forget_store(v);
			}
			v->rip = from->lin | from->at[k];
			return NULL;
		}
		return interpret(v, from, k, NULL);
	}
	if (vcpu_must_stop(v) || x->flush || x->verify) {
		return NULL;
	}
	f = cache_lookup(v, same_key ? from->key : cache_key(v));
	if (!f) {
		return NULL;
	}
	cache_remember(v, f);
	return cache_exec(x, f->near);
}

const uint8_t *runtime_event(struct vcpu *v, const struct site *site)
{
	struct translator *x = v->translator;
	struct region *r;

	x->n_events++;
	if (site->flags & SITE_FLAGS) {
		v->aflags = v->event_flags;
	}
	if (x->chaos) {
		chaos_event(v);
	}
	if (site->kind == SITE_EXIT) {
		return leave_by(v, site->region);
	}
	if (site->kind == SITE_RETURN) {
		const struct code_return *ret = &x->returns[v->returns_by >> 8];

		return indirect(v, x->regions[ret->region], ret->insn);
	}
	r = x->regions[site->region];
	if (x->verify && site->kind != SITE_INDIRECT &&
	    verify_ends(v, r->lin | r->at[site->insn])) {
		v->rip = r->lin | r->at[site->insn];
		return NULL;
	}
	switch (site->kind) {
	case SITE_ACCESS: return access_memory(v, r, site);
	case SITE_INTERPRET: return interpret(v, r, site->insn, (const uint8_t *)(site + 1));
	case SITE_FAULT: return interpret(v, r, site->insn, cache_exec(x, r->after[site->insn]));
	case SITE_INDIRECT: return indirect(v, r, site->insn);
	case SITE_LOOP:
	case SITE_PASS: return loop_watch(v, r, site);
	}
	v->rip = r->lin | r->at[site->insn];
	return site->kind == SITE_ENTRY ? go_on(v) : NULL;
}

/* -- signals -- */

static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
enum { N_SIGNALS = sizeof(signals) / sizeof(signals[0]) };

static struct sigaction old_actions[N_SIGNALS];

static struct sigaction *old_action(int sig)
{
	unsigned k = 0;

	while (signals[k] != sig) {
		k++;
	}
	return &old_actions[k];
}

static void pass_on(int sig, siginfo_t *info, void *uc)
{
	struct sigaction *old = old_action(sig);

	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, info, uc);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	} else {
		signal(sig, SIG_DFL); /* happens again, without a handler */
	}
}

static _Thread_local struct vcpu *running;
static _Thread_local bool lends; /* `running` has the thread's stack for signals */

/* Translated code's stack is no place for signals: they get one, if the thread has none yet. */
void runtime_set_running(struct vcpu *v)
{
	uint8_t *end = (uint8_t *)v - VCPU_RETURNS - VCPU_GUARD;
	stack_t stack;

	if (running == v) {
		return;
	}
	running = v;
	if (lends || (sigaltstack(NULL, &stack) == 0 && stack.ss_flags & SS_DISABLE)) {
		stack = (stack_t){.ss_sp = end - VCPU_SIGNAL_STACK, .ss_size = VCPU_SIGNAL_STACK};
		lends = sigaltstack(&stack, NULL) == 0;
	}
}

void runtime_forget_running(const struct vcpu *v)
{
	const stack_t none = {.ss_flags = SS_DISABLE};

	if (running == v) {
		running = NULL;
		if (lends) {
			sigaltstack(&none, NULL);
			lends = false;
		}
	}
}

/* More calls than the stack has room for: it is empty from now on. */
static bool is_returns_end(const struct vcpu *v, uint64_t rip, const void *at)
{
	const struct translator *x = v->translator;
	const uint8_t *guard = (const uint8_t *)v - VCPU_RETURNS - VCPU_GUARD;

	return (uint64_t)((const uint8_t *)at - guard) < VCPU_GUARD &&
	       rip - (uint64_t)(uintptr_t)cache_exec(x, 0) < x->code_used;
}

static void on_signal(int sig, siginfo_t *info, void *uc_)
{
	ucontext_t *uc = uc_;
	greg_t *reg = uc->uc_mcontext.gregs;
	struct vcpu *v = running;
	struct translator *x = v ? v->translator : NULL;
	struct region *r;
	unsigned k;

	if (x && sig == SIGSEGV && is_returns_end(v, (uint64_t)reg[REG_RIP], info->si_addr)) {
		reg[REG_RSP] = (greg_t)returns_base(v);
		return;
	}
	r = x ? cache_find_host(x, (const uint8_t *)reg[REG_RIP], &k) : NULL;
	if (!r) {
		pass_on(sig, info, uc_);
		return;
	}
	x->fault = (struct site){.region = r->number,
				 .insn = k,
				 .kind = SITE_FAULT,
				 .flags = r->in_host[k] ? SITE_FLAGS : 0};
	reg[REG_RSP] -= 8;
	if ((uint64_t)reg[REG_RSP] < (uint64_t)(uintptr_t)v - VCPU_RETURNS) {
		reg[REG_RSP] = (greg_t)returns_base(v) - 8;
	}
	*(const struct site **)(uintptr_t)reg[REG_RSP] = &x->fault;
	reg[REG_RIP] = (greg_t)(uintptr_t)cache_exec(x, x->event);
}

static int init_result;

static void init_signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	for (unsigned k = 0; k < N_SIGNALS && !init_result; k++) {
		init_result = sigaction(signals[k], &sa, &old_actions[k]) ? -errno : 0;
	}
}

int runtime_init_signals(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_signals);
	return init_result;
}
