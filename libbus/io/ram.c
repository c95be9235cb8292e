/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM in its memfd:
 *
 *   gpa     0 ... low_len-1 | hole (chips, firmware) | 4 GiB ... 4 GiB + size - low_len - 1
 *   offset  0 ... low_len-1 |                        | low_len ... size - 1
 */
#include "mobo/base.h"
#include "mobo/io.h"

static const uint64_t high_base = 1ull << 32;

uint64_t mobo_ram_offset(const struct mobo_ram *ram, uint64_t gpa)
{
	if (gpa < ram->low_len) {
		return gpa;
	}
	if (gpa >= high_base && gpa - high_base < ram->size - ram->low_len) {
		return gpa - high_base + ram->low_len;
	}
	return UINT64_MAX;
}

void *mobo_ram_ptr(const struct mobo_ram *ram, uint64_t gpa, uint64_t *len)
{
	uint64_t offset = mobo_ram_offset(ram, gpa);
	uint64_t end = gpa < ram->low_len ? ram->low_len : ram->size;

	if (offset == UINT64_MAX) {
		return NULL;
	}
	*len = MOBO_MIN(*len, end - offset);
	return ram->base + offset;
}
