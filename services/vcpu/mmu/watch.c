/* SPDX-License-Identifier: Apache-2.0 */
/* Data breakpoints of DR0-DR3. Intel SDM volume 3, 17.2.4 and 17.2.5. */
#include "mmu/watch.h"

/* Whether breakpoint n is one for data accesses of this kind. */
static bool watches(const struct vcpu *v, unsigned n, bool write)
{
	enum watch_kind kind = watch_kind(v->dr[7], n);

	return watch_enabled(v->dr[7], n) && (kind == WATCH_RW || (kind == WATCH_WRITE && write));
}

bool watch_page(const struct vcpu *v, uint64_t lin, bool write)
{
	unsigned n;

	for (n = 0; n < 4; n++) {
		if (watches(v, n, write) && (v->dr[n] ^ lin) >> 12 == 0) {
			return true;
		}
	}
	return false;
}

void watch_access(struct vcpu *v, uint64_t lin, unsigned size, bool write)
{
	unsigned n;

	for (n = 0; n < 4; n++) {
		uint64_t len = watch_len(v->dr[7], n);
		uint64_t first = v->dr[n] & ~(len - 1);

		if (watches(v, n, write) && lin < first + len && first < lin + size) {
			v->pending_db |= 1u << n;
		}
	}
}
