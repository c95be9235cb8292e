/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mobo bench`: bench.c has the command and its tables, bench_suites.c what is measured,
 * bench_subject.c the programs it is measured on, bench_image.c what they are given to run.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli.h"

enum bench_peer { PEER_MOBO, PEER_NATIVE, PEER_TCG, PEER_BOCHS, N_PEERS };

enum { BENCH_MEMORY_MB = 512, BENCH_MAX_ROUNDS = 9, BENCH_MAX_TESTS = 64, BENCH_MAX_PIDS = 64 };

struct bench {
	struct cli *cli;
	bool quick, with[N_PEERS];
	unsigned scale, rounds;
	const char *only; /* names and classes of workloads, with commas; NULL: all */
	char kernel[PATH_MAX], guest[PATH_MAX], disk[PATH_MAX]; /* "" where there is none */
	char dir[64]; /* of this run; removed at its end */
	json_object *out;
};

/* A program under test: Mobo with all its processes, QEMU, Bochs, or the workloads themselves. */
struct subject {
	enum bench_peer peer;
	pid_t pid;
	int fd; /* its console */
	uint64_t started_ns;
	char buf[8192];
	size_t n_buf;
	pid_t pids[BENCH_MAX_PIDS];
	unsigned n_pids;
};

/* How a subject spent a while. */
struct spent {
	uint64_t cpu_ns, switches; /* voluntary ones */
	uint64_t pss;		   /* bytes, without the guest's RAM, now */
	unsigned n_processes;
};

extern const char *const bench_peer_names[N_PEERS];

/* -- bench_image.c: files in b->dir; 0 or -errno -- */
/* An initrd whose only file is the program at `program`, as /init. */
int bench_make_initrd(const char *path, const char *program);
/* A firmware of 64 KB whose first instructions send 'F' to the first serial port. */
int bench_make_firmware(const char *path);
/* A disk whose boot sector sends 'B' to the first serial port. */
int bench_make_boot_disk(const char *path);
/* A disk that reads as the image `backing`, which is never written to. */
int bench_make_overlay(const char *path, const char *backing);

/* -- bench_subject.c -- */
enum bench_what { RUN_LINUX, RUN_FIRMWARE, RUN_BOOT_DISK, RUN_DISK };

/* Whether `peer` is here; if not, *why says what is missing. */
bool bench_peer_present(enum bench_peer peer, const char **why);
/* Starts it; `args` is behind "bench=" of a kernel's command line. 0 or -errno. */
int bench_start(struct bench *b, struct subject *s, enum bench_peer peer, enum bench_what what,
		const char *args);
/*
 * The next line of the console, without its end, that contains `wanted` at its start ("" takes
 * any); false at the time-out or its end. A single byte is a line for RUN_FIRMWARE and
 * RUN_BOOT_DISK.
 */
bool bench_line(struct bench *b, struct subject *s, const char *wanted, char *line, size_t len,
		unsigned timeout_s);
bool bench_byte(struct bench *b, struct subject *s, char byte, unsigned timeout_s);
/* Within a line, as a prompt is; at most 64 characters. */
bool bench_text(struct bench *b, struct subject *s, const char *text, unsigned timeout_s);
/* Looks for the processes of the subject anew. */
void bench_look(struct subject *s);
/* CPU time so far of the processes last looked at. */
uint64_t bench_cpu_ns(const struct subject *s);
struct spent bench_spent(const struct subject *s);
/* Ends it, if it has not ended. */
void bench_stop(struct subject *s);
/* Ends what the subjects left behind: Mobo's registry. */
void bench_stop_all(void);

/* -- bench_suites.c: each adds its results to b->out and prints its table; an exit status -- */
int bench_guest(struct bench *b);
int bench_disk(struct bench *b);
int bench_startup(struct bench *b);
int bench_idle(struct bench *b);
int bench_io(struct bench *b);
int bench_bus(struct bench *b);

/* -- bench.c -- */
double bench_median(double *v, unsigned n); /* sorts; 0 of none */
/* Prints, but not with --json. */
void bench_say(const struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
