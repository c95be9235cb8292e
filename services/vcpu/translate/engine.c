/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator as an engine. Code is interpreted trace by trace until one has begun HOT times;
 * then its region is translated. Everything that translated code leaves comes back here.
 */
#include <errno.h>

#include "execute/run.h"
#include "execute/simd.h"
#include "execute/state.h"
#include "exits/board.h"
#include "translate/chaos.h"
#include "translate/generate.h"
#include "translate/verify.h"

enum { HOT = 16 };

/* Not canonical; the host has nothing at 0, so an access there faults as it should. */
#define NO_PAGE 0x8000deadbeef0000ull

/* Can translated code name all of it by 32-bit addresses? */
static bool is_low(const struct vcpu *v)
{
	return (uintptr_t)v < INT32_MAX - sizeof(*v) && (uintptr_t)v->look < INT32_MAX;
}

static const char *translator_unusable(void)
{
	struct vcpu *v = vcpu_new();
	bool low = v && is_low(v);

	vcpu_free(v);
	if (!low) {
		return "there is no memory in the lowest 2 GB";
	}
	return memory_has_code() ? NULL : "the host refuses executable memory";
}

static int translator_vcpu_init(struct vcpu *v)
{
	int ret = is_low(v) ? 0 : -ENOMEM;

	if (ret == 0) {
		ret = mobo_engine_interpreter.vcpu_init(v);
	}
	if (ret == 0) {
		ret = signals_init();
	}
	if (ret == 0) {
		ret = memory_init(v);
	}
	if (ret < 0) {
		return ret;
	}
	v->one_trace = true;
	v->no_page.r = v->no_page.w = v->no_page.x = NO_PAGE;
	v->translator->hot = HOT;
	return 0;
}

static void translator_vcpu_finish(struct vcpu *v)
{
	signals_forget_running(v);
	memory_finish(v);
	mobo_engine_interpreter.vcpu_finish(v);
}

static void enter(struct vcpu *v, const uint8_t *host)
{
	v->event_vectors = event_vectors(v);
	v->event_flags = v->aflags;
	v->translator->enter(v, host);
}

/* A trace that was run often enough becomes a region. */
const struct found *engine_translate(struct vcpu *v, uint32_t key)
{
	struct region *r =
		cache_jump_context(v->translator, key) < 0 ? NULL : region_decode(v, key);

	return r && generate(v, r) ? cache_lookup(v, key) : NULL;
}

static void run_verified(struct vcpu *v)
{
	uint32_t key = cache_key(v);
	const struct found *f = key ? cache_lookup(v, key) : NULL;

	if (!f && key && !trace_find(v, false)->crosses) {
		f = engine_translate(v, key);
	}
	if (f) {
		verify_run(v, f);
	} else {
		verify_interpret(v);
	}
}

static void run_some(struct vcpu *v)
{
	uint32_t key = cache_key(v);
	const struct found *f;
	struct trace *t;

	if (v->translator->chaos) {
		chaos_between(v);
		key = cache_key(v);
	}
	if (v->translator->verify) {
		run_verified(v);
		return;
	}

	f = key ? cache_lookup(v, key) : NULL;
	if (!f) {
		t = (struct trace *)trace_find(v, false);
		if (key && t->crosses) { /* now the TLB has its second page, too */
			f = cache_lookup(v, key);
		}
		if (key && !f && ++t->heat >= v->translator->hot) {
			t->heat = 0;
			f = engine_translate(v, key);
		}
		if (!f) {
			run_trace(v, t);
			return;
		}
	}
	enter(v, cache_exec(v->translator, f->near));
}

static enum mobo_exit run_loop(struct vcpu *v)
{
	enum mobo_exit exit;

	setjmp(v->unwind); /* raised exceptions come back here, their handler's RIP set */
	run_unwound(v);
	for (;;) {
		atomic_store(v->look, 0);
		if (run_take_requests(v, &exit)) {
			return exit;
		}
		if (v->translator->flush) {
			memory_flush(v);
		}
		if (v->stepping || v->shadow) {
			run_single(v);
		} else {
			run_some(v);
		}
	}
}

static enum mobo_exit translator_run(struct vcpu *v)
{
	enum mobo_exit exit;

	signals_set_running(v);
	if (board_tsc_offset(v->board, &v->tsc_from_host)) {
		v->tsc_from_host += v->tsc_offset;
	}
	simd_enter(v);
	exit = run_loop(v);
	simd_leave(v);
	return exit;
}

static int translator_check(struct vcpu *v, bool verify, uint64_t chaos)
{
	int ret = verify_set(v, verify, NULL);

	return ret < 0 ? ret : chaos_set(v, chaos);
}

static void translator_reset(struct vcpu *v, bool init)
{
	mobo_engine_interpreter.reset(v, init);
}

static void translator_kick(struct vcpu *v)
{
	atomic_store(v->look, 1);
}

static void translator_map_changed(struct vcpu *v)
{
	mobo_engine_interpreter.map_changed(v);
	cache_remap(v);
}

static void translator_code_written(struct vcpu *v, uint64_t gpa, uint64_t len)
{
	mobo_engine_interpreter.code_written(v, gpa, len);
	cache_invalidate(v, gpa, len);
}

static void translator_code_protect(struct vcpu *v, uint64_t gpa)
{
	mobo_engine_interpreter.code_protect(v, gpa);
}

const struct mobo_engine_ops mobo_engine_translator = {
	.name = "translator",
	.unusable = translator_unusable,
	.vcpu_init = translator_vcpu_init,
	.vcpu_finish = translator_vcpu_finish,
	.check = translator_check,
	.reset = translator_reset,
	.run = translator_run,
	.kick = translator_kick,
	.get_state = state_get,
	.set_state = state_set,
	.map_changed = translator_map_changed,
	.code_written = translator_code_written,
	.code_protect = translator_code_protect,
	.marks_lines = true,
	.debug = &translator_debug,
	.readds_code = true,
};
