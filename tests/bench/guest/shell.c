/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What scripts do, by busybox: a shell loop, and compression through pipes. Where /bin/busybox is
 * not there these do nothing, natively and in the guest alike.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define BUSYBOX "/bin/busybox"

/* Runs a shell script; a checksum of what it prints. */
static uint64_t run_script(const char *script)
{
	uint64_t sum = 0xcbf29ce484222325ull;
	int out[2], status;
	unsigned char c;
	pid_t pid;

	if (access(BUSYBOX, X_OK) != 0) {
		return 0;
	}
	if (pipe(out) || (pid = fork()) < 0) {
		fail("shell");
	}
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl(BUSYBOX, "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	while (read(out[0], &c, 1) == 1) {
		sum = mix(sum, c);
	}
	close(out[0]);
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fail("shell");
	}
	return sum;
}

static uint64_t shell(unsigned scale)
{
	char script[256];

	snprintf(script, sizeof(script),
		 "i=0; s=0; while [ $i -lt %u ]; do i=$((i+1)); s=$(((s*31+i)%%65521)); "
		 "case $s in *7*) s=$((s+3));; esac; done; echo $s",
		 scale * 500);
	return run_script(script);
}

static uint64_t gzip(unsigned scale)
{
	char script[256];

	snprintf(script, sizeof(script),
		 "b=" BUSYBOX "; $b seq 1 %u | $b gzip -c | $b gunzip -c | $b md5sum",
		 scale * 2000);
	return run_script(script);
}

const struct workload shell_workloads[] = {
	{"shell", "system", shell},
	{"gzip", "system", gzip},
	{0},
};
