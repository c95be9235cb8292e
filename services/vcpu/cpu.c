/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a vCPU. */
#include "cpu.h"

#include <sys/mman.h>

enum { PAGE = 4096 };

static size_t mapping_size(void)
{
	return PAGE + VCPU_STACK + ((sizeof(struct vcpu) + PAGE - 1) & ~(size_t)(PAGE - 1));
}

struct vcpu *vcpu_new(void)
{
	uint8_t *p = mmap(NULL, mapping_size(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		return NULL;
	}
	if (mprotect(p, PAGE, PROT_NONE)) {
		munmap(p, mapping_size());
		return NULL;
	}
	return (struct vcpu *)(void *)(p + PAGE + VCPU_STACK);
}

void vcpu_free(struct vcpu *v)
{
	if (v) {
		munmap((uint8_t *)v - VCPU_STACK - PAGE, mapping_size());
	}
}
