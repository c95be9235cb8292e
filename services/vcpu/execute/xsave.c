/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS and XGETBV's view of what is in use, for x87,
 * SSE, AVX, AVX-512 and PKRU state. Intel SDM volume 1 chapter 13. Not modelled: the modified
 * optimisation, other components (XCR0 has none).
 */
#include "execute/fpu_state.h"
#include "execute/simd.h"

enum {
	OFF_MXCSR = 24,
	OFF_ST = 32,
	OFF_XMM = 160,
	OFF_HEADER = 512,
	HEADER_LEN = 64,
	AREA_LEN = OFF_HEADER + HEADER_LEN, /* without extended components */
};
#define XCOMP_COMPACT (1ull << 63)

struct xsave_area {
	uint8_t legacy[OFF_HEADER];
	uint64_t xstate_bv, xcomp_bv, rsvd[6];
};
_Static_assert(sizeof(struct xsave_area) == AREA_LEN, "SDM volume 1 13.4");
_Static_assert((int)AREA_LEN == XSTATE_LEN, "SDM volume 1 13.4");

enum xsave_form { XSAVE, XSAVEOPT, XSAVEC };

static unsigned xmm_len(const struct vcpu *v)
{
	return (v->mode & MODE_SIZE) == MODE_64 ? 256 : 128;
}

void *fpu_component(struct vcpu *v, unsigned k)
{
	switch (k) {
	case 2: return v->ymmh;
	case 5: return v->opmask;
	case 6: return v->zmmh;
	case 7: return v->zmm16;
	case XSTATE_PKRU: return &v->pkru;
	}
	return NULL;
}

/* Bytes of an extended component that the mode lets be accessed. */
static unsigned component_len(const struct vcpu *v, unsigned k)
{
	unsigned whole = xstate_component[k].len;
	bool long_mode = (v->mode & MODE_SIZE) == MODE_64;

	switch (k) {
	case 2:
	case 6: return long_mode ? whole : whole / 2;
	case 7: return long_mode ? whole : 0;
	}
	return whole;
}

static bool any_set(const void *p, unsigned len)
{
	const uint8_t *bytes = p;
	uint64_t any = 0, word;

	for (unsigned at = 0; at < len; at += sizeof(word)) {
		memcpy(&word, bytes + at, sizeof(word));
		any |= word;
	}
	return any;
}

/* XINUSE: what is not as it was initialized. SDM vol. 1, 13.6: registers marked empty count. */
uint64_t fpu_in_use(struct vcpu *v)
{
	uint64_t bv = 0;

	simd_store_x87(v);
	if (v->fx.fcw != FCW_INIT || v->fx.fsw || v->fx.ftw ||
	    any_set(v->fx.st, sizeof(v->fx.st))) {
		bv |= XCR0_X87;
	}
	if (any_set(v->fx.xmm, sizeof(v->fx.xmm)) || simd_mxcsr(v) != MXCSR_INIT) {
		bv |= XCR0_SSE;
	}
	bv |= any_set(v->ymmh, sizeof(v->ymmh)) ? XCR0_AVX : 0;
	bv |= v->pkru ? XCR0_PKRU : 0;
	return v->zmm_used ? bv | fpu_zmm_in_use(v) : bv;
}

uint64_t fpu_zmm_in_use(const struct vcpu *v)
{
	return (any_set(v->opmask, sizeof(v->opmask)) ? XCR0_OPMASK : 0) |
	       (any_set(v->zmmh, sizeof(v->zmmh)) ? XCR0_ZMM_HI256 : 0) |
	       (any_set(v->zmm16, sizeof(v->zmm16)) ? XCR0_HI16_ZMM : 0);
}

static uint64_t operand(struct vcpu *v, const struct insn *i, unsigned len, enum mmu_access acc)
{
	uint64_t lin;

	v->insn = i;
	if (!(v->cr4 & CR4_OSXSAVE)) {
		raise_exception(v, VEC_UD);
	}
	if (v->cr0 & CR0_TS) {
		raise_exception(v, VEC_NM);
	}
	lin = ea_linear(v, i, len, acc);
	if (lin & 63) {
		raise_error(v, VEC_GP, 0);
	}
	return lin;
}

static uint64_t requested(const struct vcpu *v)
{
	return v->xcr0 & ((uint64_t)(uint32_t)v->gpr[RDX] << 32 | (uint32_t)v->gpr[RAX]);
}

/* Pieces of the area to be written: all are probed before the first is stored. */
enum { PIECES = 5 + N_XSTATE };
struct piece {
	unsigned off, len;
	const void *data;
};

static void write_pieces(struct vcpu *v, uint64_t lin, const struct piece *p, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		mmu_probe(v, lin + p[k].off, p[k].len, MMU_W);
	}
	for (unsigned k = 0; k < n; k++) {
		mmu_write_bytes(v, lin + p[k].off, p[k].data, p[k].len);
	}
}

static unsigned extended_pieces(struct vcpu *v, struct piece *p, uint64_t rfbm, uint64_t stored,
				bool compact)
{
	unsigned n = 0;

	for (unsigned k = XSTATE_EXTENDED; k < N_XSTATE; k++) {
		unsigned len = component_len(v, k);

		if (stored >> k & 1 && len) {
			p[n++] = (struct piece){xstate_offset(k, rfbm, compact), len,
						fpu_component(v, k)};
		}
	}
	return n;
}

static SIMD_APART void xsave_any(struct vcpu *v, const struct insn *i, enum xsave_form form,
				 uint64_t rfbm)
{
	unsigned len = xstate_len(rfbm, form == XSAVEC);
	uint64_t lin = operand(v, i, len, MMU_W);
	uint32_t csr[2] = {simd_mxcsr(v), MXCSR_VALID};
	uint64_t header[2], used, stored;
	struct piece p[PIECES];
	unsigned n = 0;
	uint8_t x87[OFF_XMM];

	mmu_probe(v, lin, 1, MMU_W);
	mmu_probe(v, lin + len - 1, 1, MMU_W);
	used = fpu_in_use(v) & rfbm;
	stored = form == XSAVE ? rfbm : used;
	memcpy(x87, &v->fx, sizeof(x87));
	fpu_put_pointers(v, i, x87);
	if (stored & XCR0_X87) {
		p[n++] = (struct piece){0, OFF_MXCSR, x87};
		p[n++] = (struct piece){OFF_ST, OFF_XMM - OFF_ST, x87 + OFF_ST};
	}
	if (form == XSAVEC ? stored & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX)) {
		p[n++] = (struct piece){OFF_MXCSR, sizeof(csr), csr};
	}
	if (stored & XCR0_SSE) {
		p[n++] = (struct piece){OFF_XMM, xmm_len(v), v->fx.xmm};
	}
	n += extended_pieces(v, p + n, rfbm, stored, form == XSAVEC);
	if (form == XSAVEC) {
		header[0] = used;
		header[1] = rfbm | XCOMP_COMPACT;
	} else {
		header[0] = (mmu_read64(v, lin + OFF_HEADER) & ~rfbm) | used;
	}
	p[n++] = (struct piece){OFF_HEADER, form == XSAVEC ? 16 : 8, header};
	write_pieces(v, lin, p, n);
}

static const struct insn *xsave(struct vcpu *v, const struct insn *i)
{
	xsave_any(v, i, XSAVE, requested(v));
	NEXT(v, i);
}

static const struct insn *xsaveopt(struct vcpu *v, const struct insn *i)
{
	xsave_any(v, i, XSAVEOPT, requested(v));
	NEXT(v, i);
}

static const struct insn *xsavec(struct vcpu *v, const struct insn *i)
{
	xsave_any(v, i, XSAVEC, requested(v));
	NEXT(v, i);
}

static void check_privilege(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if (!(v->cr4 & CR4_OSXSAVE)) {
		raise_exception(v, VEC_UD);
	}
	if (v->cpl) {
		raise_error(v, VEC_GP, 0);
	}
}

/* No supervisor state component exists: XSAVES is XSAVEC at CPL 0. */
static const struct insn *xsaves(struct vcpu *v, const struct insn *i)
{
	check_privilege(v, i);
	xsave_any(v, i, XSAVEC, requested(v));
	NEXT(v, i);
}

/* #GP for a header or MXCSR that cannot be. SDM volume 1 13.8. */
static void check_area(struct vcpu *v, const struct xsave_area *a, uint64_t rfbm, bool compact_only)
{
	bool compact = a->xcomp_bv & XCOMP_COMPACT, bad;
	uint64_t rsvd = 0;
	uint32_t csr;

	for (unsigned k = 0; k < 6; k++) {
		rsvd |= compact || k == 0 ? a->rsvd[k] : 0;
	}
	if (compact) {
		bad = a->xcomp_bv & ~XCOMP_COMPACT & ~v->xcr0 || a->xstate_bv & ~a->xcomp_bv;
	} else {
		bad = compact_only || a->xcomp_bv || a->xstate_bv & ~v->xcr0;
	}
	memcpy(&csr, a->legacy + OFF_MXCSR, 4);
	if (csr & ~(uint32_t)MXCSR_VALID) {
		bad |= compact ? !!(rfbm & a->xstate_bv & XCR0_SSE)
			       : !!(rfbm & (XCR0_SSE | XCR0_AVX));
	}
	if (bad || rsvd) {
		raise_error(v, VEC_GP, 0);
	}
}

/* The extended components one after the other, zeros for those that become initial. */
enum { EXTENDED_LEN = 256 + 64 + 512 + 1024 + 8 };

static void read_extended(struct vcpu *v, const struct insn *i, uint64_t lin,
			  const struct xsave_area *a, uint64_t rfbm, uint8_t *to)
{
	bool compact = a->xcomp_bv & XCOMP_COMPACT;
	unsigned off;

	memset(to, 0, EXTENDED_LEN);
	for (unsigned k = XSTATE_EXTENDED; k < N_XSTATE; k++) {
		unsigned len = component_len(v, k);

		if (rfbm & a->xstate_bv & 1u << k && len) {
			off = xstate_offset(k, a->xcomp_bv, compact);
			ea_linear(v, i, off + xstate_component[k].len, MMU_R);
			mmu_read_bytes(v, lin + off, to, len);
		}
		to += xstate_component[k].len;
	}
}

static void set_extended(struct vcpu *v, uint64_t rfbm, const uint8_t *from)
{
	uint32_t pkru;

	for (unsigned k = XSTATE_EXTENDED; k < N_XSTATE; k++) {
		void *to = fpu_component(v, k);

		if (rfbm >> k & 1 && k == XSTATE_PKRU) {
			memcpy(&pkru, from, sizeof(pkru));
			mmu_set_pkru(v, pkru);
		} else if (rfbm >> k & 1 && to) {
			memcpy(to, from, component_len(v, k));
		}
		from += xstate_component[k].len;
	}
	if (rfbm & XCR0_ZMM) {
		v->zmm_used |= fpu_zmm_in_use(v) != 0;
	}
}

static SIMD_APART void xrstor_any(struct vcpu *v, const struct insn *i, bool compact_only)
{
	uint64_t rfbm = requested(v), lin = operand(v, i, AREA_LEN, MMU_R);
	uint8_t extended[EXTENDED_LEN];
	struct xsave_area a;
	uint32_t csr;

	mmu_probe(v, lin, 1, MMU_R);
	mmu_probe(v, lin + OFF_HEADER, HEADER_LEN, MMU_R);
	mmu_read_bytes(v, lin, &a, sizeof(a));
	check_area(v, &a, rfbm, compact_only);
	read_extended(v, i, lin, &a, rfbm, extended);
	memcpy(&csr, a.legacy + OFF_MXCSR, 4);
	if (a.xcomp_bv & XCOMP_COMPACT) {
		if (rfbm & XCR0_SSE) {
			simd_set_mxcsr(v, a.xstate_bv & XCR0_SSE ? csr : MXCSR_INIT);
		}
	} else if (rfbm & (XCR0_SSE | XCR0_AVX)) {
		simd_set_mxcsr(v, csr);
	}
	if (rfbm & XCR0_SSE) {
		if (a.xstate_bv & XCR0_SSE) {
			memcpy(v->fx.xmm, a.legacy + OFF_XMM, xmm_len(v));
		} else {
			memset(v->fx.xmm, 0, xmm_len(v));
		}
	}
	set_extended(v, rfbm, extended);
	if (rfbm & XCR0_X87) {
		if (a.xstate_bv & XCR0_X87) {
			fpu_load_x87_image(v, i, a.legacy);
		} else {
			fpu_init_x87(v);
		}
	}
}

static const struct insn *xrstor(struct vcpu *v, const struct insn *i)
{
	xrstor_any(v, i, false);
	NEXT(v, i);
}

static const struct insn *xrstors(struct vcpu *v, const struct insn *i)
{
	check_privilege(v, i);
	xrstor_any(v, i, true);
	NEXT(v, i);
}

bool simd_bind_xsave(struct vcpu *v, struct insn *i)
{
	static insn_fn *const ae[8] = {[4] = xsave, [5] = xrstor, [6] = xsaveopt};
	static insn_fn *const c7[8] = {[3] = xrstors, [4] = xsavec, [5] = xsaves};
	insn_fn *fn = NULL;

	if (i->map != MAP_0F || i->mod == 3 || i->flags & (INSN_OPSIZE | INSN_REP | INSN_REPNE)) {
		return false;
	}
	if (i->opcode == 0xae) {
		fn = ae[i->modrm >> 3 & 7];
	} else if (i->opcode == 0xc7) {
		fn = c7[i->modrm >> 3 & 7];
	}
	if (!fn) {
		return false;
	}
	i->fn = fn;
	return true;
}
