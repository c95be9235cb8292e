/* SPDX-License-Identifier: Apache-2.0 */
/* What a process costs, from /proc: proc(5), stat fields 14 and 15, smaps_rollup. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

void procstat_read(pid_t pid, uint64_t *cpu_ns, uint64_t *pss_bytes)
{
	char path[64], line[512];
	unsigned long utime, stime;
	uint64_t kib;
	FILE *f;

	*cpu_ns = 0;
	*pss_bytes = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f) {
		if (fgets(line, sizeof(line), f)) {
			/* The name in parentheses may hold anything: start behind the last one. */
			const char *rest = strrchr(line, ')');

			if (rest &&
			    sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				   &utime, &stime) == 2) {
				*cpu_ns = (uint64_t)(utime + stime) * 1000000000ull /
					  (uint64_t)sysconf(_SC_CLK_TCK);
			}
		}
		fclose(f);
	}
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	f = fopen(path, "re");
	if (!f) {
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Pss: %" SCNu64 " kB", &kib) == 1) {
			*pss_bytes = kib * 1024;
		}
	}
	fclose(f);
}
