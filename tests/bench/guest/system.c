/* SPDX-License-Identifier: Apache-2.0 */
/* What an operating system does: system calls, faults, processes, pipes, signals, files, clocks. */
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static uint64_t syscalls(unsigned scale)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < scale * 15000; i++) {
		n += syscall(SYS_getppid) >= 0;
	}
	return n;
}

static uint64_t fault(unsigned scale)
{
	enum { N = 64 };
	uint64_t sum = 0;

	for (unsigned i = 0; i < scale * 20; i++) {
		uint8_t *p = pages(N * 4096, PROT_READ | PROT_WRITE);

		for (unsigned k = 0; k < N; k++) {
			p[k * 4096] = (uint8_t)(i + k);
			sum += p[k * 4096];
		}
		munmap(p, N * 4096);
	}
	return sum;
}

static uint64_t protect(unsigned scale)
{
	enum { N = 16 };
	uint8_t *p = pages(N * 4096, PROT_READ | PROT_WRITE);
	uint64_t sum = 0;

	for (unsigned i = 0; i < scale * 60; i++) {
		if (mprotect(p, N * 4096, PROT_READ) ||
		    mprotect(p, N * 4096, PROT_READ | PROT_WRITE)) {
			fail("mprotect");
		}
		for (unsigned k = 0; k < N; k++) {
			sum += ++p[k * 4096];
		}
	}
	munmap(p, N * 4096);
	return sum;
}

static uint64_t fork_exit(unsigned scale)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < scale * 8; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			_exit((int)(i & 0x3f));
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid) {
			fail("fork");
		}
		sum += (unsigned)WEXITSTATUS(status);
	}
	return sum;
}

static uint64_t fork_exec(unsigned scale)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < scale * 5; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			execl("/proc/self/exe", "bench-guest", "--exit", "7", (char *)NULL);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid) {
			fail("fork");
		}
		sum += (unsigned)WEXITSTATUS(status);
	}
	return sum;
}

static uint64_t pipes(unsigned scale)
{
	unsigned n = scale * 250, status;
	int there[2], back[2];
	cpu_set_t before, one;
	uint64_t sum = 0;
	pid_t pid;

	/* Both on one CPU: what is measured is the switch, not the wake-up of another CPU. */
	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (pipe(there) || pipe(back) || (pid = fork()) < 0) {
		fail("pipe");
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned v = i;

		if (pid) {
			if (write(there[1], &v, sizeof(v)) != sizeof(v) ||
			    read(back[0], &v, sizeof(v)) != sizeof(v)) {
				fail("pipe");
			}
			sum += v;
		} else if (read(there[0], &v, sizeof(v)) == sizeof(v)) {
			v = v * 3 + 1;
			sum += (uint64_t)write(back[1], &v, sizeof(v));
		}
	}
	if (!pid) {
		_exit(0);
	}
	waitpid(pid, (int *)&status, 0);
	for (int k = 0; k < 2; k++) {
		close(there[k]);
		close(back[k]);
	}
	sched_setaffinity(0, sizeof(before), &before);
	return sum;
}

static sigjmp_buf after_fault;

static void on_fault(int sig)
{
	siglongjmp(after_fault, sig);
}

static uint64_t sigsegv(unsigned scale)
{
	volatile uint8_t *p = pages(4096, PROT_NONE);
	volatile uint64_t sum = 0;
	struct sigaction act = {.sa_handler = on_fault}, old;

	sigaction(SIGSEGV, &act, &old);
	for (volatile unsigned i = 0; i < scale * 350; i++) {
		int sig = sigsetjmp(after_fault, 1);

		if (!sig) {
			p[i % 4096] = 1;
		}
		sum += (unsigned)sig;
	}
	sigaction(SIGSEGV, &old, NULL);
	munmap((void *)p, 4096);
	return sum;
}

static uint64_t file(unsigned scale)
{
	enum { LEN = 1 << 16, N = 16 };
	uint8_t *buf = malloc(LEN);
	uint64_t sum = 0;
	int fd = memfd_create("bench", 0);

	if (!buf || fd < 0) {
		fail("file");
	}
	for (unsigned round = 0; round < scale; round++) {
		memset(buf, (int)round, LEN);
		for (unsigned i = 0; i < N; i++) {
			buf[i] = (uint8_t)(i * 3);
			if (pwrite(fd, buf, LEN, (off_t)i * LEN) != LEN) {
				fail("write");
			}
		}
		for (unsigned i = 0; i < N; i++) {
			if (pread(fd, buf, LEN, (off_t)i * LEN) != LEN) {
				fail("read");
			}
			sum += buf[i] + buf[LEN - 1];
		}
	}
	close(fd);
	free(buf);
	return sum;
}

static uint64_t time_stamps(unsigned scale)
{
	uint64_t last = 0, backwards = 0;

	for (unsigned i = 0; i < scale * 50000; i++) {
		uint64_t t = __builtin_ia32_rdtsc();

		backwards += t < last;
		last = t;
	}
	return backwards;
}

static uint64_t identify(unsigned scale)
{
	uint64_t n = 0;
	unsigned a, b, c, d;

	for (unsigned i = 0; i < scale * 10000; i++) {
		__cpuid_count(0, 0, a, b, c, d);
		n += b != 0;
	}
	return n;
}

static uint64_t sleeping(unsigned scale)
{
	struct timespec ms = {.tv_nsec = 1000000};
	uint64_t n = 0;

	for (unsigned i = 0; i < scale; i++) {
		n += nanosleep(&ms, NULL) == 0;
	}
	return n;
}

const struct workload system_workloads[] = {
	{"syscall", "system", syscalls},   {"fault", "system", fault},
	{"mprotect", "system", protect},   {"fork", "system", fork_exit},
	{"forkexec", "system", fork_exec}, {"pipe", "system", pipes},
	{"sigsegv", "system", sigsegv},	   {"file", "system", file},
	{"rdtsc", "clock", time_stamps},   {"cpuid", "clock", identify},
	{"sleep", "clock", sleeping},	   {0},
};
