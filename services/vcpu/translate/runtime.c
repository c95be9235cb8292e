/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What translated code cannot do: the event code has stored the guest's registers into struct vcpu;
 * runtime_event() does it and tells where to go on. Exceptions raised here unwind to the run loop:
 * the guest's state is in struct vcpu already.
 */
#include "execute/prepare.h"
#include "execute/run.h"
#include "execute/simd.h"
#include "execute/simd_operands.h"
#include "translate/chaos.h"
#include "translate/generate.h"
#include "translate/verify.h"

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
	pair = memory_alloc(v->translator, 2 * sizeof(*pair));
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
	if (r->of) {
		if (!r->of->dead) {
			loop_speed_up(v, r->of, &r->of->block[r->head]);
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
	uint32_t near;

	v->rip = x->exits[exit].target;
	if (vcpu_must_stop(v) || x->flush || x->verify) {
		return NULL;
	}
	f = cache_lookup(v, x->exits[exit].key);
	if (!f) {
		return NULL;
	}
	near = f->near;
	if (!merge_regions(v, x->regions[x->exits[exit].region], f->region)) {
		cache_link(x, exit, f);
	}
	return cache_exec(x, near);
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
	if (x->verify) {
		verify_event(v, site->kind);
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
