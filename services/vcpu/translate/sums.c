/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of registers and a constant: see loops.h. All arithmetic is modulo 2^64. */
#include "translate/loops.h"

const struct sum sum_unknown;

struct sum sum_constant(int64_t at)
{
	return (struct sum){.known = true, .at = at};
}

struct sum sum_of(unsigned reg)
{
	return (struct sum){.known = true, .n = 1, .reg = {(uint8_t)reg}, .times = {1}};
}

static bool same_terms(const struct sum *a, const struct sum *b)
{
	if (a->n != b->n) {
		return false;
	}
	for (unsigned n = 0; n < a->n; n++) {
		if (a->reg[n] != b->reg[n] || a->times[n] != b->times[n]) {
			return false;
		}
	}
	return true;
}

static bool can_be_times(int times)
{
	unsigned size = (unsigned)(times < 0 ? -times : times);

	return size && size <= 8 && !(size & (size - 1));
}

static bool add_term(struct sum *s, unsigned reg, int times)
{
	unsigned n = 0;

	while (n < s->n && s->reg[n] < reg) {
		n++;
	}
	if (n < s->n && s->reg[n] == reg) {
		times += s->times[n];
		if (!times) {
			s->n--;
			memmove(&s->reg[n], &s->reg[n + 1], s->n - n);
			memmove(&s->times[n], &s->times[n + 1], s->n - n);
			return true;
		}
	} else {
		if (s->n == LOOP_TERMS) {
			return false;
		}
		memmove(&s->reg[n + 1], &s->reg[n], s->n - n);
		memmove(&s->times[n + 1], &s->times[n], s->n - n);
		s->n++;
		s->reg[n] = (uint8_t)reg;
	}
	s->times[n] = (int8_t)times;
	return can_be_times(times);
}

struct sum sum_add(struct sum a, const struct sum *b, int scale)
{
	int64_t span = (int64_t)b->span * scale;

	if (!a.known || !b->known) {
		return sum_unknown;
	}
	for (unsigned n = 0; n < b->n; n++) {
		if (!add_term(&a, b->reg[n], b->times[n] * scale)) {
			return sum_unknown;
		}
	}
	a.at = (int64_t)((uint64_t)a.at + (uint64_t)b->at * (uint64_t)(int64_t)scale);
	if (span < 0) {
		a.at = (int64_t)((uint64_t)a.at + (uint64_t)span);
		span = -span;
	}
	a.span += (uint32_t)span;
	return a.span <= LOOP_REACH ? a : sum_unknown;
}

struct sum sum_either(const struct sum *a, const struct sum *b)
{
	const struct sum *low = a, *high = b;
	struct sum s;
	int64_t apart;

	if (!a->known || !b->known || a->low != b->low || !same_terms(a, b)) {
		return sum_unknown;
	}
	apart = (int64_t)((uint64_t)b->at - (uint64_t)a->at);
	if (apart < 0) {
		low = b;
		high = a;
		apart = (int64_t)(0 - (uint64_t)apart);
	}
	if (apart < 0 || apart > LOOP_REACH) {
		return sum_unknown;
	}
	s = *low;
	if ((uint64_t)apart + high->span > s.span) {
		s.span = (uint32_t)apart + high->span;
	}
	return s.span <= LOOP_REACH ? s : sum_unknown;
}
