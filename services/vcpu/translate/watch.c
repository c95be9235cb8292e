/* SPDX-License-Identifier: Apache-2.0 */
/* Loops are watched for some passes before it is decided which of them get a fast copy. */
#include "translate/emit.h"
#include "translate/loops.h"

/* Passes and rounds that are watched before it is clear whether a loop goes round often. */
enum { WATCHED_PASSES = 48, WATCHED_ROUNDS = 12, LEN_JMP = 5 };

static struct block *block_at(struct region *r, unsigned insn)
{
	struct block *b = r->block;

	while (!b->n || b->first != insn) {
		b++;
	}
	return b;
}

static void skip(struct translator *x, uint32_t code)
{
	static const uint8_t nop[LEN_JMP] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

	memcpy(x->code + code, nop, sizeof(nop));
}

static unsigned times_entered(const struct block *b)
{
	return b->passes > b->rounds ? b->passes - b->rounds : 1;
}

/* Are the passes of a loop, as watched, worth what is to be done before its fast copy? */
static bool is_worth(const struct block *b, const struct loop *l)
{
	unsigned cost = 14 + 15 * l->n_windows + 5 * l->n_narrow, gain = 2 + 5 * l->n_uses;

	return gain * b->rounds > cost * times_entered(b);
}

static bool generate_fast(struct vcpu *v, struct region *fast, const struct block *b)
{
	fast->loop->passes = (uint16_t)(b->rounds / times_entered(b));
	return generate(v, fast);
}

void loop_speed_up(struct vcpu *v, struct region *r, struct block *b)
{
	struct translator *x = v->translator;
	struct region *fast = region_loop(v, r, (unsigned)(b - r->block));

	if (fast && is_worth(b, fast->loop) && generate_fast(v, fast, b)) {
		x->code[b->back] = 0xe9; /* jmp */
		emit_patch(x->code + b->back + 1, x->code + fast->code);
	} else {
		skip(x, b->back);
	}
	skip(x, b->body);
}

const uint8_t *loop_watch(struct vcpu *v, struct region *r, const struct site *site)
{
	struct block *b = block_at(r, site->insn);

	b->rounds += site->kind == SITE_LOOP;
	b->passes += site->kind == SITE_PASS;
	if (!r->dead && (b->rounds == WATCHED_ROUNDS || b->passes == WATCHED_PASSES)) {
		loop_speed_up(v, r, b);
	}
	return (const uint8_t *)(site + 1);
}
