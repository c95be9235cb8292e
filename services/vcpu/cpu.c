/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a vCPU. */
#include "cpu.h"

#include <sys/mman.h>

enum {
	PAGE = 4096,
	BEFORE = VCPU_GUARD + VCPU_SIGNAL_STACK + VCPU_GUARD + VCPU_RETURNS,
};

static size_t mapping_size(void)
{
	return BEFORE + ((sizeof(struct vcpu) + PAGE - 1) & ~(size_t)(PAGE - 1));
}

static uint8_t *map(int flags)
{
	return mmap(NULL, mapping_size(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

struct vcpu *vcpu_new(void)
{
	uint8_t *p = map(MAP_32BIT);
	struct vcpu *v;

	if (p == MAP_FAILED) {
		p = map(0);
	}
	if (p == MAP_FAILED) {
		return NULL;
	}
	if (mprotect(p, VCPU_GUARD, PROT_NONE) ||
	    mprotect(p + VCPU_GUARD + VCPU_SIGNAL_STACK, VCPU_GUARD, PROT_NONE)) {
		munmap(p, mapping_size());
		return NULL;
	}
	v = (struct vcpu *)(void *)(p + BEFORE);
	v->look = &v->own_look;
	return v;
}

void vcpu_free(struct vcpu *v)
{
	if (v) {
		munmap((uint8_t *)v - BEFORE, mapping_size());
	}
}
