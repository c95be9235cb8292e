/* SPDX-License-Identifier: Apache-2.0 */
/* Data breakpoints of DR0-DR3, and a debugger's. Intel SDM volume 3, 17.2.4 and 17.2.5. */
#include "mmu/watch.h"

#include "execute/debugger.h"

/* Whether breakpoint n is one for data accesses of this kind. */
static bool watches(const struct vcpu *v, unsigned n, bool write)
{
	enum watch_kind kind = watch_kind(v->dr[7], n);

	return watch_enabled(v->dr[7], n) && (kind == WATCH_RW || (kind == WATCH_WRITE && write));
}

/* -- A debugger's -- */

static bool point_watches(const struct debug_point *p, bool write)
{
	return p->kind == DEBUG_ACCESS || p->kind == (write ? DEBUG_WRITE : DEBUG_READ);
}

static bool debugger_watches_page(const struct vcpu *v, uint64_t lin, bool write)
{
	const struct debug_point *p = v->debug.points + v->debug.n_exec;

	for (unsigned n = 0; n < v->debug.n_data; n++) {
		/* For reads too there is no entry for writes: a read-modify-write would use it. */
		if ((write || point_watches(&p[n], false)) && p[n].lin >> 12 <= lin >> 12 &&
		    (p[n].lin + p[n].len - 1) >> 12 >= lin >> 12) {
			return true;
		}
	}
	return false;
}

static void debugger_access(struct vcpu *v, uint64_t lin, unsigned size, bool write)
{
	const struct debug_point *p = v->debug.points + v->debug.n_exec;

	for (unsigned n = 0; n < v->debug.n_data; n++) {
		if (point_watches(&p[n], write) && p[n].lin < lin + size &&
		    lin < p[n].lin + p[n].len) {
			debugger_watch_hit(v, p[n].lin > lin ? p[n].lin : lin);
			return;
		}
	}
}

bool watch_page(const struct vcpu *v, uint64_t lin, bool write)
{
	unsigned n;

	for (n = 0; n < 4; n++) {
		if (watches(v, n, write) && (v->dr[n] ^ lin) >> 12 == 0) {
			return true;
		}
	}
	return debugger_watches_page(v, lin, write);
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
	debugger_access(v, lin, size, write);
}
