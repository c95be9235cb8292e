/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thunks: short host functions, each around one guest instruction with its operands in fixed
 * places, so that the host itself computes results, rounding and flags.
 */
#ifndef VCPU_EXECUTE_THUNK_H
#define VCPU_EXECUTE_THUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vcpu;

/*
 * reg and rm: the operands' storage. Returns what it leaves in EAX, of meaning only for thunks
 * built to return 0: then something else says that nothing was committed, and why.
 */
enum thunk_struck {
	THUNK_FP = 1,	   /* an unmasked SSE exception */
	THUNK_ILLEGAL = 2, /* the host does not have the instruction after all */
};
/* This thread's thunk looks for THUNK_ILLEGAL: others end the process where they are refused. */
extern _Thread_local bool thunk_may_be_refused;
typedef int thunk_fn(void *reg, void *rm, struct vcpu *v);

enum { THUNK_MAX = 96 };

/* A thunk under construction. */
struct thunk_buf {
	unsigned n;
	uint8_t b[THUNK_MAX];
};

void thunk_byte(struct thunk_buf *t, uint8_t b);
void thunk_bytes(struct thunk_buf *t, const char *bytes, unsigned n);
void thunk_u32(struct thunk_buf *t, uint32_t val);
/* Appends a string literal of code bytes. */
#define THUNK_CODE(t, lit) thunk_bytes((t), (lit), sizeof(lit) - 1)

/* Makes code memory, mapped twice: writable here, executable there. Idempotent. 0 or -errno. */
int thunk_init(void);

/*
 * The function made of t's bytes, which must be position-independent: an existing one when the
 * same bytes were asked for before. Lives as long as the process. NULL: no code memory. Any thread.
 */
thunk_fn *thunk_get(const struct thunk_buf *t);

#endif
