/* SPDX-License-Identifier: Apache-2.0 */
/* Data breakpoints of DR0-DR3, and a debugger's. Intel SDM volume 3, 17.2.4 and 17.2.5. */
#ifndef VCPU_MMU_WATCH_H
#define VCPU_MMU_WATCH_H

#include "cpu.h"

/* R/W field of DR7 for breakpoint n, and whether it is enabled (L or G). */
enum watch_kind { WATCH_EXEC, WATCH_WRITE, WATCH_IO, WATCH_RW };

static inline enum watch_kind watch_kind(uint64_t dr7, unsigned n)
{
	return (enum watch_kind)(dr7 >> (16 + n * 4) & 3);
}

static inline bool watch_enabled(uint64_t dr7, unsigned n)
{
	return dr7 >> (n * 2) & 3;
}

static inline bool watch_any(uint64_t dr7)
{
	return dr7 & 0xff;
}

/* Length in bytes: LEN 2 means 8. */
static inline unsigned watch_len(uint64_t dr7, unsigned n)
{
	static const uint8_t len[4] = {1, 2, 8, 4};

	return len[dr7 >> (18 + n * 4) & 3];
}

/* Whether a breakpoint for this kind of access touches the page of lin: it gets no TLB entry. */
bool watch_page(const struct vcpu *v, uint64_t lin, bool write);
/* Notes breakpoints that [lin, lin + size) hits in vcpu.pending_db. May begin the instruction anew
 * for a debugger (debugger_watch_hit()): before the access. */
void watch_access(struct vcpu *v, uint64_t lin, unsigned size, bool write);

#endif
