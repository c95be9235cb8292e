/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions prepared by template against the same ones decoded and bound: any shape, with any
 * displacement, immediate and place in its trace. The seed is fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "execute/prepare.h"
#include "fake_board.h"

enum {
	ROUNDS = 200000,
	TAILS = 4,
	BYTES = 48,
	FEW = 16, /* bytes: too few for a template */
};

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

/* Returns where the opcode ends. */
static unsigned make_shape(uint8_t *b)
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x3e, 0x64, 0x48};
	uint64_t r = next_random();
	unsigned n = 0;

	while ((r & 7) == 0 && n < 3) {
		b[n++] = prefixes[(r >> 3) % sizeof(prefixes)];
		r >>= 12;
	}
	if (r & 8) {
		b[n++] = 0x40 | (r >> 4 & 15);
	}
	switch (r >> 12 & 7) {
	case 0:
	case 1: b[n++] = 0x0f; break;
	case 2:
		b[n++] = 0x0f;
		b[n++] = r >> 16 & 1 ? 0x38 : 0x3a;
		break;
	case 3: b[n++] = r >> 16 & 1 ? 0xc5 : 0xc4; break;
	}
	b[n++] = (uint8_t)(r >> 20);
	return n;
}

static void check(struct vcpu *v, const uint8_t *b, unsigned off)
{
	enum decode_result plain_result, result;
	struct insn plain = {0}, i = {0};

	plain_result = insn_prepare(v, &plain, b, FEW, off);
	result = insn_prepare(v, &i, b, BYTES, off);
	if (result == plain_result && i.fn == plain.fn &&
	    (result == DECODE_GP || !memcmp(&i, &plain, offsetof(struct insn, base_at) + 1))) {
		return;
	}
	print_error("mode %x:", v->mode);
	for (unsigned k = 0; k < FEW; k++) {
		print_error(" %02x", b[k]);
	}
	fail_msg(": %d and %d", plain_result, result);
}

static void prepared_by_template_equals_decoded(void **state)
{
	static const uint32_t modes[] = {
		MODE_64 | MODE_PROT | MODE_LMA | MODE_FLAT,
		MODE_64 | MODE_PROT | MODE_LMA | MODE_USER,
		MODE_32 | MODE_SS32 | MODE_PROT | MODE_FLAT,
		MODE_32 | MODE_SS32 | MODE_PROT,
		MODE_16,
	};
	struct board board;
	struct vcpu *v;

	assert_int_equal(fake_board_init(&board, 0x100000), 0);
	v = fake_board_add_vcpu(&board);
	assert_non_null(v);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint8_t b[BYTES];
		unsigned shape = make_shape(b);

		v->mode = modes[next_random() % (sizeof(modes) / sizeof(modes[0]))];
		b[shape] = (uint8_t)next_random(); /* ModRM, perhaps */
		b[shape + 1] = (uint8_t)next_random();
		for (unsigned tail = 0; tail < TAILS; tail++) {
			for (unsigned k = shape + 1 + (tail & 1); k < BYTES; k++) {
				b[k] = next_random() & 3 ? (uint8_t)next_random() : 0;
			}
			check(v, b, (unsigned)next_random() % 240);
		}
	}
	fake_board_finish(&board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(prepared_by_template_equals_decoded)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
