/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that is rewritten over and over: snippets that jump to one another, of all lengths, are
 * replaced at random and run from anywhere. What they compute is known. The seed is fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "execute/execute.h"
#include "fake_board.h"
#include "translate/translate.h"

enum {
	ROUNDS = 100000,
	SNIPPETS = 200,
	SNIPPET_BYTES = 48,
	CODE = 0x7f00, /* over a few pages, snippets across their ends */
	RAM = 0x100000,
	/* Of the translator's memory. */
	PLENTY = 16 << 20,
	LITTLE = 64 << 10,
	RUNTIME = 4 << 10, /* about what all code shares */
};

/* add $add, %eax; nops; then a jump to snippet `to`, or HLT when that is no snippet. */
struct snippet {
	uint32_t add;
	unsigned to;
};

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static const struct mobo_engine_ops *engine;

static void enter_flat32(struct vcpu *v)
{
	for (unsigned s = 0; s < N_SEG; s++) {
		v->seg[s].selector = s == SEG_CS ? 8 : 16;
		v->seg[s].base = 0;
		v->seg[s].limit = UINT32_MAX;
		v->seg[s].attr =
			SEG_P | SEG_S | SEG_G | SEG_DB | 3 | (s == SEG_CS ? SEG_TYPE_CODE : 0);
	}
	v->cr0 |= CR0_PE;
	vcpu_update_mode(v);
	engine->map_changed(v);
}

static void rewrite(struct vcpu *v, struct snippet *s, unsigned n)
{
	uint64_t r = next_random();
	unsigned gpa = CODE + n * SNIPPET_BYTES, nops = r % 37, at = 5 + nops;
	uint8_t *code = v->board->ram + gpa;
	uint32_t add = (uint32_t)(r >> 32);
	int32_t rel;

	s[n] = (struct snippet){add, n + 1 + (unsigned)next_random() % 40};
	code[0] = 0x05;
	memcpy(code + 1, &add, sizeof(add));
	memset(code + 5, 0x90, nops);
	if (s[n].to >= SNIPPETS) {
		code[at] = 0xf4;
	} else {
		rel = (int32_t)((s[n].to - n) * SNIPPET_BYTES) - (int32_t)(at + 5);
		code[at] = 0xe9;
		memcpy(code + at + 1, &rel, sizeof(rel));
	}
	if (r >> 8 & 15) {
		engine->code_written(v, gpa, SNIPPET_BYTES);
	} else {
		engine->code_written(v, gpa & ~4095u, 2 * 4096); /* all of a page */
	}
}

static uint32_t sum(const struct snippet *s, unsigned n)
{
	uint32_t total = 0;

	for (; n < SNIPPETS; n = s[n].to) {
		total += s[n].add;
	}
	return total;
}

/* `hot`: the translator's, which has so much memory for code and for the rest. Returns its flushes.
 */
static unsigned run_rewritten(unsigned rounds, uint16_t hot, size_t code, size_t arena)
{
	unsigned flushes = 0;
	struct snippet s[SNIPPETS];
	struct board board;
	struct vcpu *v;

	fake_board_engine = engine;
	assert_int_equal(fake_board_init(&board, RAM), 0);
	v = fake_board_add_vcpu(&board);
	assert_non_null(v);
	if (v->translator) {
		v->translator->hot = hot;
		v->translator->code_size = code;
		v->translator->arena_size = arena;
	}
	enter_flat32(v);
	for (unsigned n = 0; n < SNIPPETS; n++) {
		rewrite(v, s, n);
	}
	for (unsigned round = 0; round < rounds; round++) {
		unsigned first = next_random() % SNIPPETS;

		rewrite(v, s, next_random() % SNIPPETS);
		v->gpr[RAX] = 0;
		v->rip = CODE + first * SNIPPET_BYTES;
		v->halted = false;
		assert_int_equal(engine->run(v), MOBO_EXIT_HALT);
		assert_int_equal((uint32_t)v->gpr[RAX], sum(s, first));
		if (v->translator) {
			assert_true(v->translator->code_used <= code);
			assert_true(v->translator->arena_used <= arena);
			flushes = v->translator->n_flushes;
		}
	}
	fake_board_finish(&board);
	return flushes;
}

static void rewritten_code_runs_as_it_is(void **state)
{
	engine = &mobo_engine_interpreter;
	run_rewritten(ROUNDS, 0, 0, 0);
}

static void rewritten_code_is_translated_as_it_is(void **state)
{
	engine = &mobo_engine_translator;
	run_rewritten(ROUNDS / 4, 0, PLENTY, PLENTY);
	run_rewritten(ROUNDS / 4, 3, PLENTY, PLENTY);
}

static void full_memory_is_emptied(void **state)
{
	engine = &mobo_engine_translator;
	assert_true(run_rewritten(ROUNDS / 10, 0, LITTLE, PLENTY) > 20);
	assert_true(run_rewritten(ROUNDS / 10, 0, PLENTY, LITTLE) > 20);
	assert_true(run_rewritten(ROUNDS / 10, 0, LITTLE / 4, LITTLE) > 20);
}

/* Not even one region's worth: the interpreter goes on. */
static void code_runs_without_room_for_it(void **state)
{
	engine = &mobo_engine_translator;
	run_rewritten(ROUNDS / 100, 0, PLENTY, 1);
	run_rewritten(ROUNDS / 100, 0, RUNTIME + 64, PLENTY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rewritten_code_runs_as_it_is),
		cmocka_unit_test(rewritten_code_is_translated_as_it_is),
		cmocka_unit_test(full_memory_is_emptied),
		cmocka_unit_test(code_runs_without_room_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
