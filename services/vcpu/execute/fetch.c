/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching instructions; see fetch.h. */
#include "execute/fetch.h"

#include "execute/trace.h"
#include "exits/board.h"

/* Bytes from a device's memory, one by one. */
static void fetch_io(struct vcpu *v, struct fetch *f, unsigned at, uint64_t gpa)
{
	unsigned n = 4096 - (gpa & 4095);

	for (f->n = at; f->n < at + n && f->n < INSN_MAX; f->n++) {
		f->bytes[f->n] = board_mmio_read(v, gpa + f->n - at, 1);
	}
	f->code = f->bytes;
	f->uncached = true;
}

/* How many bytes from v->rip on the code segment's limit allows; raises #GP(0) when none. */
static unsigned fetch_limit(struct vcpu *v)
{
	uint64_t limit = v->seg[SEG_CS].limit;

	if (mode_is_flat(v->mode)) {
		return UINT32_MAX;
	}
	if (v->rip > limit) {
		raise_error(v, VEC_GP, 0);
	}
	return limit - v->rip < UINT32_MAX ? limit - v->rip + 1 : UINT32_MAX;
}

void fetch(struct vcpu *v, struct fetch *f)
{
	struct interp *in = v->interp;
	unsigned limit, n, n2;
	struct insn probe;
	const uint8_t *code;
	uint64_t lin = code_linear(v, v->rip);

	in->fetch = (struct insn){.rest = UINT8_MAX, .len = 1};
	v->trace_rip = v->rip;
	v->insn = &in->fetch;
	limit = fetch_limit(v);
	f->uncached = false;
	f->crosses = false;
	f->code = mmu_fetch(v, lin, &f->n, &f->gpa);
	if (!f->code) {
		fetch_io(v, f, 0, f->gpa);
	}
	f->n = f->n < limit ? f->n : limit;
	n = f->n;
	if (n >= INSN_MAX ||
	    insn_decode(&probe, f->code, n, v->mode | in->decode_mode) != DECODE_SHORT) {
		return;
	}
	if (limit <= n) {
		raise_error(v, VEC_GP, 0);
	}
	if (f->code != f->bytes) {
		memcpy(f->bytes, f->code, n);
		f->code = f->bytes;
	}
	code = mmu_fetch(v, code_linear(v, v->rip + n), &n2, &f->gpa2);
	f->crosses = true;
	if (!code) {
		fetch_io(v, f, n, f->gpa2);
		f->n = f->n < limit ? f->n : limit;
		return;
	}
	n2 = n2 < INSN_MAX ? n2 : INSN_MAX;
	if (n2 > limit - n) {
		n2 = limit - n;
		f->uncached = true; /* what it decodes to depends on the limit */
	}
	memcpy(f->bytes + n, code, n2);
	f->n = n + n2;
}
