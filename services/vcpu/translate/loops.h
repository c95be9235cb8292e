/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Innermost loops whose memory operands move by constants: their pages are checked once for many
 * passes, by code before the loop's fast copy. loops.c finds them and says what each operand needs;
 * windows.c emits that.
 */
#ifndef VCPU_TRANSLATE_LOOPS_H
#define VCPU_TRANSLATE_LOOPS_H

#include "translate/translate.h"

enum {
	LOOP_INSNS = 128,
	LOOP_WINDOWS = 8,
	LOOP_TERMS = 3,
	LOOP_NARROW = 4,
	LOOP_REACH = 1024, /* bytes of one pass, and by which a pass moves on */
	LONG_LOOP = 6,	   /* passes from which on slots are worth a register: it is put back */
};

/*
 * A sum of registers, each plus or minus 1, 2, 4 or 8 times, and a constant from `at` to `at` +
 * `span`. A register number with SUM_SIGNED is its low 32 bits, sign-extended.
 */
enum { SUM_SIGNED = 16 };
struct sum {
	bool known;
	bool low; /* only the low 32 bits, zero-extended */
	uint8_t n;
	uint8_t reg[LOOP_TERMS]; /* ascending */
	int8_t times[LOOP_TERMS];
	int64_t at;
	uint32_t span;
};

/* -- sums.c -- */

extern const struct sum sum_unknown;
struct sum sum_constant(int64_t at);
struct sum sum_of(unsigned reg);
/* a + b * scale, scale being 1, 2, 4, 8 or one of their opposites; unknown if it is no such sum. */
struct sum sum_add(struct sum a, const struct sum *b, int scale);
/* What either of two may be: the same registers, and constants not far from each other. */
struct sum sum_either(const struct sum *a, const struct sum *b);

/*
 * Bytes that operands access: of the registers' values at the loop's head, from sum.at on `span`
 * bytes in the first pass; each pass moves on by no more than `step`.
 */
struct window {
	struct sum sum;
	int32_t step; /* 0: stays; negative: downwards */
	bool write;
	uint8_t align; /* setup sees to it that it begins so: 1 or more */
};

/*
 * What operands add to their address: the window's host address less its linear one, plus a
 * register that stays, scaled, or a constant. Those parts of the address are left out then.
 */
struct window_slot {
	uint8_t window;
	uint8_t fold; /* register or REG_NONE */
	uint8_t scale;
	bool fixed; /* plus `address`; the operand has no registers */
	uint64_t address;
};

/*
 * A register of which 32 bits are used as if they were all: that holds while they, with constants
 * from `least` to `most` added, are neither negative nor have bit 31; with SUM_SIGNED, while they
 * are far from where their sign changes by overflow.
 */
struct narrow {
	uint8_t reg;
	int32_t least, most;
	int32_t step; /* by which it moves a pass, if downwards; else 0 */
};

struct loop {
	uint64_t members[2]; /* blocks */
	uint32_t slow;	     /* code offset: the head's body in the slow copy */
	uint16_t n_insns;
	uint16_t passes; /* that it has been seen to make each time */
	uint8_t n_windows, n_slots, n_narrow, n_uses;
	struct narrow narrow[LOOP_NARROW];
	struct window window[LOOP_WINDOWS];
	struct window_slot slot[VCPU_WINDOWS];
	uint8_t use[REGION_INSNS];  /* slot + 1 of an instruction's operand; 0: checked by itself */
	bool aligned[REGION_INSNS]; /* ... is as its instruction wants it, by the window's alignment
				     */
};

static inline bool loop_has(const uint64_t members[2], unsigned block)
{
	return members[block >> 6] >> (block & 63) & 1;
}

/*
 * The blocks of the innermost loop of r with that head. False: there is none, or none that is worth
 * a fast copy.
 */
bool loop_members(const struct region *r, unsigned head, uint64_t members[2]);

/* -- watch.c -- */

/* The event of a site of SITE_LOOP or SITE_PASS: where to go on. */
const uint8_t *loop_watch(struct vcpu *v, struct region *r, const struct site *site);
/* The loop of r with head b gets a fast copy, or is left alone from now on. */
void loop_speed_up(struct vcpu *v, struct region *r, struct block *b);

/* -- loops.c -- */

/* Fills *l, its members set, of r, whose head is set. False: no operand has a window. */
bool loop_analyze(const struct region *r, struct loop *l);

#endif
