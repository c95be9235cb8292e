/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-guest [--scale N] [--repeat N] [NAME...]: runs the workloads and prints for each
 *
 *	@begin NAME
 *	@end NAME CLASS WALL_NS CPU_NS CHECKSUM
 *
 * (CPU_NS with its children; what a guest makes of CPU time is its own affair)
 *
 * and "@done" at the end. As process 1 it is the whole user land: it takes its options from
 * /proc/cmdline behind "bench=" (commas for blanks), speaks on the serial console and powers the
 * machine off. "@up" is its first word; "bench=idle" leaves the machine idle after it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static const struct workload *const all[] = {
	integer_workloads, fp_workloads,    memory_workloads,
	system_workloads,  shell_workloads, code_workloads,
};

void fail(const char *what)
{
	printf("@failed %s\n", what);
	fflush(stdout);
	exit(1);
}

void *pages(size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fail("memory");
	}
	return p;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU time of the program and the children it has waited for. */
static uint64_t cpu_ns(void)
{
	struct timespec t;
	struct rusage r;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	getrusage(RUSAGE_CHILDREN, &r);
	return (uint64_t)(t.tv_sec + r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)t.tv_nsec + (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000u;
}

/* Returns when the serial port has sent it: the reader's clock starts and stops here. */
static void say(const char *text)
{
	fputs(text, stdout);
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

static void run_one(const struct workload *w, unsigned scale)
{
	char line[160];
	uint64_t start, cpu, ns, sum;

	snprintf(line, sizeof(line), "@begin %s\n", w->name);
	say(line);
	/* Time for the host to read the clock before there is anything to measure. */
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	start = now_ns();
	cpu = cpu_ns();
	sum = w->run(scale);
	ns = now_ns() - start;
	cpu = cpu_ns() - cpu;
	snprintf(line, sizeof(line), "@end %s %s %llu %llu %016llx\n", w->name, w->class,
		 (unsigned long long)ns, (unsigned long long)cpu, (unsigned long long)sum);
	say(line);
}

static bool chosen(const struct workload *w, int n, char **names)
{
	for (int i = 0; i < n; i++) {
		if (strcmp(w->name, names[i]) == 0 || strcmp(w->class, names[i]) == 0) {
			return true;
		}
	}
	return n == 0;
}

static void run_all(int argc, char **argv)
{
	unsigned scale = 20, repeat = 1;
	int at = 1;

	for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
		unsigned v = (unsigned)atoi(argv[at + 1]);

		if (strcmp(argv[at], "--scale") == 0) {
			scale = v;
		} else if (strcmp(argv[at], "--repeat") == 0) {
			repeat = v;
		} else if (strcmp(argv[at], "--exit") == 0) {
			_exit((int)v);
		}
	}
	while (repeat--) {
		for (unsigned c = 0; c < sizeof(all) / sizeof(all[0]); c++) {
			for (const struct workload *w = all[c]; w->name; w++) {
				if (chosen(w, argc - at, argv + at)) {
					run_one(w, scale);
				}
			}
		}
	}
	say("@done\n");
}

/* The words behind "bench=" of the kernel's command line. */
static int kernel_arguments(char *text, size_t len, char **argv, int max)
{
	FILE *f = fopen("/proc/cmdline", "r");
	char *at = NULL;
	int n = 1;

	if (f && fgets(text, (int)len, f)) {
		at = strstr(text, "bench=");
	}
	if (f) {
		fclose(f);
	}
	argv[0] = (char *)"bench-guest";
	if (at) {
		at += strlen("bench=");
		at[strcspn(at, " \n")] = '\0';
		for (char *word = strtok(at, ","); word && n < max; word = strtok(NULL, ",")) {
			argv[n++] = word;
		}
	}
	return n;
}

/* A signal that is caught is no news for the console. */
static void quiet_faults(void)
{
	FILE *f = fopen("/proc/sys/debug/exception-trace", "w");

	if (f) {
		fputs("0\n", f);
		fclose(f);
	}
}

/* Process 1. */
static void be_init(void)
{
	static char text[4096];
	char *argv[64];
	int argc, tty;

	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	tty = open("/dev/ttyS0", O_RDWR);
	for (int fd = 0; tty >= 0 && fd < 3; fd++) {
		dup2(tty, fd);
	}
	quiet_faults();
	say("\n@up\n");
	argc = kernel_arguments(text, sizeof(text), argv, 64);
	if (argc == 2 && strcmp(argv[1], "idle") == 0) {
		for (;;) {
			pause();
		}
	}
	if (argc < 2 || strcmp(argv[1], "off") != 0) {
		run_all(argc, argv);
	}
	reboot(RB_POWER_OFF);
	pause();
}

int main(int argc, char **argv)
{
	if (getpid() == 1) {
		be_init();
	}
	run_all(argc, argv);
	return 0;
}
