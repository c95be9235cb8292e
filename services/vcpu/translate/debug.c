/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What debuggers ask of the translator. Instructions that may have a breakpoint are in no region:
 * traces of the interpreter have them, which look. Watched pages have no TLB entry, so that
 * accesses to them are interpreted.
 */
#include <errno.h>

#include "execute/debugger.h"
#include "execute/trace.h"
#include "translate/generate.h"

static void changed(struct vcpu *v)
{
	debugger_changed(v);
	v->translator->flush = true;
}

static void count(struct vcpu *v, bool on)
{
	trace_count(v, on);
	v->translator->flush = true;
}

static struct mobo_engine_block describe(const struct translator *x, const struct region *r,
					 const struct block *b)
{
	unsigned last = b->first + b->n - 1u;

	return (struct mobo_engine_block){
		.lin = r->lin | b->at,
		.gpa = r->gpa | b->at,
		.count = b->count,
		.host = (uint64_t)(uintptr_t)cache_exec(x, b->body),
		.guest_len = r->at[last] + r->insn[last].len - b->at,
		.host_len = r->after[last] - b->body,
	};
}

static unsigned hot_blocks(struct vcpu *v, struct mobo_engine_block *out, unsigned max)
{
	const struct translator *x = v->translator;
	unsigned n = trace_hot(v, out, max);

	for (uint32_t i = 0; v->debug.counting && i < x->n_regions; i++) {
		const struct region *r = x->regions[i];

		for (unsigned k = 0; k < r->n_blocks; k++) {
			if (r->block[k].n && r->block[k].count) {
				struct mobo_engine_block b = describe(x, r, &r->block[k]);

				n = debugger_hot_insert(out, n, max, &b);
			}
		}
	}
	return n;
}

/* The block of a region that holds the instruction at an offset of its page, or NULL. */
static const struct block *block_with(const struct region *r, unsigned at)
{
	for (unsigned n = 0; n < r->n_blocks; n++) {
		const struct block *b = &r->block[n];

		for (unsigned k = b->first; k < b->first + (unsigned)b->n; k++) {
			if (r->at[k] == at) {
				return b;
			}
		}
	}
	return NULL;
}

static void fill(const struct translator *x, const struct region *r, const struct block *b,
		 struct mobo_engine_translation *out)
{
	uint32_t from = b->body;

	out->block = describe(x, r, b);
	if (out->block.host_len > sizeof(out->host)) {
		out->block.host_len = sizeof(out->host);
	}
	memcpy(out->host, x->code + b->body, out->block.host_len);
	out->n_marks = 0;
	for (unsigned k = b->first;
	     k < b->first + (unsigned)b->n && out->n_marks < MOBO_TRANSLATION_MARKS; k++) {
		out->marks[out->n_marks++] = (struct mobo_engine_mark){
			.guest_off = r->at[k] - b->at,
			.host_off = from - b->body,
		};
		from = r->after[k];
	}
}

static int translation(struct vcpu *v, uint64_t lin, struct mobo_engine_translation *out)
{
	const struct translator *x = v->translator;
	uint64_t gpa;

	if (mmu_translate_debug(v, lin, &gpa) < 0) {
		return -ENOENT;
	}
	for (uint32_t i = x->n_regions; i-- > 0;) { /* the newest first */
		const struct region *r = x->regions[i];
		const struct block *b;

		if (r->dead || (r->of && !r->loop) || (r->lin ^ lin) >> 12 ||
		    (r->gpa ^ gpa) >> 12) {
			continue;
		}
		b = block_with(r, lin & 4095);
		if (b) {
			fill(x, r, b, out);
			return 0;
		}
	}
	return -ENOENT;
}

const struct mobo_engine_debug translator_debug = {
	.changed = changed,
	.step = debugger_step,
	.count = count,
	.hot_blocks = hot_blocks,
	.translation = translation,
};
