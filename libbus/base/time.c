/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "mobo/base.h"

uint64_t mobo_monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
