/* SPDX-License-Identifier: Apache-2.0 */
/* See xstate.h. */
#include "execute/xstate.h"

const struct xstate_component xstate_component[N_XSTATE] = {
	[2] = {576, 256},   /* AVX */
	[5] = {1088, 64},   /* opmask */
	[6] = {1152, 512},  /* ZMM_Hi256 */
	[7] = {1664, 1024}, /* Hi16_ZMM */
	[XSTATE_PKRU] = {2688, 8},
};

unsigned xstate_offset(unsigned k, uint64_t components, bool compact)
{
	unsigned off = XSTATE_LEN;

	if (!compact) {
		return xstate_component[k].off;
	}
	for (unsigned n = XSTATE_EXTENDED; n < k; n++) {
		off += components >> n & 1 ? xstate_component[n].len : 0;
	}
	return off;
}

unsigned xstate_len(uint64_t components, bool compact)
{
	unsigned len = XSTATE_LEN;

	for (unsigned k = XSTATE_EXTENDED; k < N_XSTATE; k++) {
		if (components >> k & 1) {
			len = xstate_offset(k, components, compact) + xstate_component[k].len;
		}
	}
	return len;
}
