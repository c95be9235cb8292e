/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XCR0's state components and where they are in an XSAVE area: in the standard format where Intel's
 * processors have them, which is what programs have come to expect. Intel SDM volume 1 13.1, 13.4.
 */
#ifndef VCPU_EXECUTE_XSTATE_H
#define VCPU_EXECUTE_XSTATE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	XCR0_X87 = 1 << 0,
	XCR0_SSE = 1 << 1,
	XCR0_AVX = 1 << 2,
	XCR0_OPMASK = 1 << 5,
	XCR0_ZMM_HI256 = 1 << 6, /* upper halves of ZMM0..15 */
	XCR0_HI16_ZMM = 1 << 7,	 /* ZMM16..31 */
	XCR0_PKRU = 1 << 9,
	XCR0_AVX_STATE = XCR0_SSE | XCR0_AVX,			 /* what AVX instructions want */
	XCR0_ZMM = XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM, /* set together or not at all */
	XCR0_ZMM_STATE = XCR0_AVX_STATE | XCR0_ZMM, /* what AVX-512 instructions want */
};

enum {
	XSTATE_LEN = 576,    /* legacy region and header: x87 and SSE */
	XSTATE_EXTENDED = 2, /* the first component behind them */
	XSTATE_PKRU = 9,
	N_XSTATE = 10,
};

struct xstate_component {
	uint16_t off, len; /* in the standard format; len 0: there is none */
};

extern const struct xstate_component xstate_component[N_XSTATE];

/* Bytes of an area with these components: standard or compacted. */
unsigned xstate_len(uint64_t components, bool compact);
/* Where component k is, in the format of an area whose XCOMP_BV has `components`. */
unsigned xstate_offset(unsigned k, uint64_t components, bool compact);

#endif
