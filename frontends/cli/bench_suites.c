/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `mobo bench` measures. Rounds are interleaved, one subject after the other, so that a change
 * of the host's load meets all of them; what is shown are medians of the rounds.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { BOOT_TIMEOUT_S = 180, TEST_TIMEOUT_S = 600, LOGIN_TIMEOUT_S = 900 };

/* -- the workloads -- */

struct test {
	char name[24], class[16];
	double cpu[N_PEERS][BENCH_MAX_ROUNDS]; /* seconds */
	unsigned n[N_PEERS];
	char sum[N_PEERS][24];
};

/* How long each subject took to come to some point, in seconds. */
struct boots {
	double wall[N_PEERS][BENCH_MAX_ROUNDS], cpu[N_PEERS][BENCH_MAX_ROUNDS];
	unsigned n[N_PEERS];
};

struct results {
	struct test tests[BENCH_MAX_TESTS];
	unsigned n;
	struct boots boots;
};

static struct test *test_of(struct results *r, const char *name, const char *class)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (strcmp(r->tests[i].name, name) == 0) {
			return &r->tests[i];
		}
	}
	if (r->n == BENCH_MAX_TESTS) {
		return NULL;
	}
	snprintf(r->tests[r->n].name, sizeof(r->tests[0].name), "%s", name);
	snprintf(r->tests[r->n].class, sizeof(r->tests[0].class), "%s", class);
	return &r->tests[r->n++];
}

/* What the subject has taken so far. */
static void note_boot(struct boots *boots, struct subject *s)
{
	unsigned n = boots->n[s->peer]++;

	boots->wall[s->peer][n] = (double)(mobo_monotonic_ns() - s->started_ns) / 1e9;
	bench_look(s);
	boots->cpu[s->peer][n] = (double)bench_cpu_ns(s) / 1e9;
}

/* Waits for the first word of the guest's first program. */
static bool await_boot(struct bench *b, struct subject *s, struct boots *boots)
{
	char line[1024];

	if (!bench_line(b, s, "@up", line, sizeof(line), BOOT_TIMEOUT_S)) {
		return false;
	}
	note_boot(boots, s);
	return true;
}

/* All workloads once on one subject; false if it did not come to its end. */
static bool run_workloads(struct bench *b, enum bench_peer peer, struct results *r)
{
	char args[512], line[1024], name[24], class[16], sum[24];
	unsigned long long wall, cpu;
	struct subject s;
	bool done = false;
	uint64_t before;

	snprintf(args, sizeof(args), "--scale,%u%s%s", b->scale, b->only ? "," : "",
		 b->only ? b->only : "");
	if (bench_start(b, &s, peer, RUN_LINUX, args) < 0) {
		return false;
	}
	if (peer != PEER_NATIVE && !await_boot(b, &s, &r->boots)) {
		bench_stop(&s);
		return false;
	}
	before = bench_cpu_ns(&s);
	while (bench_line(b, &s, "@", line, sizeof(line), TEST_TIMEOUT_S)) {
		struct test *test;

		if (strncmp(line, "@begin", 6) == 0) {
			before = bench_cpu_ns(&s);
			continue;
		}
		done = strncmp(line, "@done", 5) == 0;
		if (done || sscanf(line, "@end %23s %15s %llu %llu %23s", name, class, &wall, &cpu,
				   sum) != 5) {
			break;
		}
		/* A guest's own clock is no measure of what it cost. */
		if (peer != PEER_NATIVE) {
			cpu = bench_cpu_ns(&s) - before;
		}
		test = test_of(r, name, class);
		if (test) {
			test->cpu[peer][test->n[peer]++] = (double)cpu / 1e9;
			snprintf(test->sum[peer], sizeof(test->sum[peer]), "%s", sum);
		}
	}
	bench_stop(&s);
	return done;
}

static const char *cell(char *buf, size_t len, const char *fmt, double v)
{
	if (!isfinite(v)) {
		return "-";
	}
	snprintf(buf, len, fmt, v);
	return buf;
}

/* One row of times, and of ratios to the native time and of Mobo's to TCG's. */
static void guest_row(const struct bench *b, const char *name, const double *cpu, const char *sums)
{
	char t[N_PEERS][16], r[N_PEERS][16];

	if (b->cli->json) {
		return;
	}
	printf("%-10s", name);
	for (unsigned p = 0; p < N_PEERS; p++) {
		if (b->with[p]) {
			printf(" %10s",
			       cell(t[p], sizeof(t[p]), cpu[p] < 0.1 ? "%.4f" : "%.3f", cpu[p]));
		}
	}
	for (unsigned p = 0; p < N_PEERS; p++) {
		if (b->with[p] && b->with[PEER_NATIVE] && p != PEER_NATIVE) {
			printf(" %8s",
			       cell(r[p], sizeof(r[p]), "%.1fx", cpu[p] / cpu[PEER_NATIVE]));
		}
	}
	for (unsigned p = PEER_TCG; p < N_PEERS; p++) {
		if (b->with[p] && b->with[PEER_MOBO]) {
			printf(" %10s", cell(r[p], sizeof(r[p]), "%.2fx", cpu[PEER_MOBO] / cpu[p]));
		}
	}
	printf("  %s\n", sums);
	fflush(stdout);
}

static void guest_heading(const struct bench *b)
{
	char text[32];

	bench_say(b, "\nWorkloads, CPU seconds at scale %u (median of %u), ratios\n%-10s", b->scale,
		  b->rounds, "");
	for (unsigned p = 0; p < N_PEERS; p++) {
		if (b->with[p]) {
			bench_say(b, " %10s", bench_peer_names[p]);
		}
	}
	for (unsigned p = 0; p < N_PEERS; p++) {
		if (b->with[p] && b->with[PEER_NATIVE] && p != PEER_NATIVE) {
			snprintf(text, sizeof(text), "%s/nat", bench_peer_names[p]);
			bench_say(b, " %8.8s", text);
		}
	}
	for (unsigned p = PEER_TCG; p < N_PEERS; p++) {
		if (b->with[p] && b->with[PEER_MOBO]) {
			snprintf(text, sizeof(text), "mobo/%s", bench_peer_names[p]);
			bench_say(b, " %10s", text);
		}
	}
	bench_say(b, "  checksums\n");
}

/* Whether all that ran it computed the same. */
static bool sums_equal(const struct bench *b, const struct test *t)
{
	const char *first = NULL;

	for (unsigned p = 0; p < N_PEERS; p++) {
		if (b->with[p] && t->n[p]) {
			if (first && strcmp(first, t->sum[p]) != 0) {
				return false;
			}
			first = t->sum[p];
		}
	}
	return true;
}

/* Geometric means by class, of the times: their ratios are the means of the ratios. */
static void class_rows(const struct bench *b, const struct results *r, json_object *out)
{
	static const char *const classes[] = {"integer", "fp",	   "memory", "string",
					      "atomic",	 "system", "code"};

	bench_say(b, "\nGeometric means by class\n");
	for (unsigned c = 0; c < MOBO_ARRAY_LEN(classes); c++) {
		json_object *o = json_object_new_object();
		double mean[N_PEERS];

		for (unsigned p = 0; p < N_PEERS; p++) {
			double sum = 0, n = 0;

			for (unsigned i = 0; i < r->n; i++) {
				const struct test *t = &r->tests[i];

				if (strcmp(t->class, classes[c]) == 0) {
					double v[BENCH_MAX_ROUNDS];

					memcpy(v, t->cpu[p], sizeof(v));
					sum += t->n[p] ? log(bench_median(v, t->n[p])) : NAN;
					n++;
				}
			}
			mean[p] = n > 0 ? exp(sum / n) : NAN;
			if (!isnan(mean[p])) {
				json_object_object_add(o, bench_peer_names[p],
						       json_object_new_double(mean[p]));
			}
		}
		guest_row(b, classes[c], mean, "");
		json_object_object_add(out, classes[c], o);
	}
}

static int show_guest(struct bench *b, struct results *r)
{
	json_object *tests = json_object_new_object(), *means = json_object_new_object();
	bool equal = true;

	guest_heading(b);
	for (unsigned i = 0; i < r->n; i++) {
		struct test *t = &r->tests[i];
		json_object *o = json_object_new_object();
		double cpu[N_PEERS];
		bool same = sums_equal(b, t);

		json_object_object_add(o, "class", json_object_new_string(t->class));
		for (unsigned p = 0; p < N_PEERS; p++) {
			double v[BENCH_MAX_ROUNDS];

			memcpy(v, t->cpu[p], sizeof(v));
			cpu[p] = t->n[p] ? bench_median(v, t->n[p]) : NAN;
			if (t->n[p]) {
				json_object_object_add(o, bench_peer_names[p],
						       json_object_new_double(cpu[p]));
			}
		}
		json_object_object_add(o, "equal", json_object_new_boolean(same));
		json_object_object_add(tests, t->name, o);
		guest_row(b, t->name, cpu, same ? "equal" : "DIFFERENT");
		equal = equal && same;
	}
	class_rows(b, r, means);
	json_object_object_add(b->out, "workloads", tests);
	json_object_object_add(b->out, "means", means);
	return equal ? CLI_OK : cli_fail(b->cli, CLI_FAILED, "checksums differ");
}

static void show_boots(struct bench *b, struct boots *boots, const char *title, const char *key)
{
	json_object *o = json_object_new_object();

	bench_say(b, "\n%s (median of %u)\n%-10s %10s %10s\n", title, b->rounds, "", "wall s",
		  "CPU s");
	for (unsigned p = 0; p < N_PEERS; p++) {
		double wall, cpu;
		json_object *v;

		if (!boots->n[p]) {
			continue;
		}
		wall = bench_median(boots->wall[p], boots->n[p]);
		cpu = bench_median(boots->cpu[p], boots->n[p]);
		bench_say(b, "%-10s %10.2f %10.2f\n", bench_peer_names[p], wall, cpu);
		v = json_object_new_object();
		json_object_object_add(v, "wall_s", json_object_new_double(wall));
		json_object_object_add(v, "cpu_s", json_object_new_double(cpu));
		json_object_object_add(o, bench_peer_names[p], v);
	}
	json_object_object_add(b->out, key, o);
}

int bench_guest(struct bench *b)
{
	struct results *r = calloc(1, sizeof(*r));
	int status = CLI_OK;

	MOBO_ASSERT(r);
	for (unsigned round = 0; round < b->rounds && status == CLI_OK; round++) {
		for (unsigned p = 0; p < N_PEERS && status == CLI_OK; p++) {
			if (b->with[p] && !run_workloads(b, p, r)) {
				status =
					cli_fail(b->cli,
						 b->cli->interrupted ? CLI_INTERRUPTED : CLI_FAILED,
						 "%s did not come to the end of the workloads",
						 bench_peer_names[p]);
			}
		}
	}
	if (status == CLI_OK) {
		status = show_guest(b, r);
		show_boots(b, &r->boots, "Kernel to its first program", "boot");
	}
	free(r);
	return status;
}

/* -- a disk -- */

int bench_disk(struct bench *b)
{
	struct boots boots = {0};
	char path[PATH_MAX];

	if (!b->disk[0]) {
		bench_say(b, "\nA disk to its login prompt: left out, there is no --disk FILE\n");
		return CLI_OK;
	}
	snprintf(path, sizeof(path), "%s/disk.qcow2", b->dir);
	for (unsigned round = 0; round < b->rounds; round++) {
		for (unsigned p = 0; p < N_PEERS; p++) {
			struct subject s;
			bool came;

			if (!b->with[p] || p == PEER_NATIVE || p == PEER_BOCHS) {
				continue;
			}
			came = bench_make_overlay(path, b->disk) == 0 &&
			       bench_start(b, &s, p, RUN_DISK, "") == 0;
			if (came) {
				came = bench_text(b, &s, "login: ", LOGIN_TIMEOUT_S);
				if (came) {
					note_boot(&boots, &s);
				}
				bench_stop(&s);
			}
			if (!came) {
				return cli_fail(b->cli, CLI_FAILED,
						"%s did not come to a login prompt",
						bench_peer_names[p]);
			}
		}
	}
	show_boots(b, &boots, "A disk to its login prompt", "disk");
	return CLI_OK;
}

/* -- start -- */

int bench_startup(struct bench *b)
{
	static const struct {
		enum bench_what what;
		char byte;
		const char *key, *label;
	} points[] = {{RUN_FIRMWARE, 'F', "first_instruction", "to the first instruction"},
		      {RUN_BOOT_DISK, 'B', "boot_sector", "through SeaBIOS to a boot sector"}};
	unsigned rounds = b->quick ? 3 : 9;
	json_object *out = json_object_new_object();

	bench_say(b, "\nStart, wall milliseconds (median of %u)\n%-36s %10s %10s\n", rounds, "",
		  "mobo", "tcg");
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(points); i++) {
		json_object *o = json_object_new_object();
		double t[N_PEERS][BENCH_MAX_ROUNDS], m[N_PEERS];

		/* One more than counts: the first of Mobo starts its registry. */
		for (unsigned round = 0; round <= rounds; round++) {
			for (unsigned p = 0; p < N_PEERS; p++) {
				struct subject s;
				bool came;

				if (!b->with[p] || p == PEER_NATIVE || p == PEER_BOCHS) {
					continue;
				}
				came = bench_start(b, &s, p, points[i].what, "") == 0 &&
				       bench_byte(b, &s, points[i].byte, 60);
				t[p][round ? round - 1 : 0] =
					came ? (double)(mobo_monotonic_ns() - s.started_ns) / 1e6
					     : NAN;
				bench_stop(&s);
				if (!came) {
					json_object_put(out);
					json_object_put(o);
					return cli_fail(b->cli, CLI_FAILED, "%s did not come %s",
							bench_peer_names[p], points[i].label);
				}
			}
		}
		bench_say(b, "%-36s", points[i].label);
		for (unsigned p = 0; p < N_PEERS; p++) {
			if (b->with[p] && (p == PEER_MOBO || p == PEER_TCG)) {
				m[p] = bench_median(t[p], rounds);
				bench_say(b, " %10.1f", m[p]);
				json_object_object_add(o, bench_peer_names[p],
						       json_object_new_double(m[p]));
			}
		}
		bench_say(b, "\n");
		json_object_object_add(out, points[i].key, o);
	}
	json_object_object_add(b->out, "start_ms", out);
	return CLI_OK;
}

/* -- idle -- */

int bench_idle(struct bench *b)
{
	unsigned settle = b->quick ? 2 : 5, seconds = b->quick ? 5 : 20;
	json_object *out = json_object_new_object();

	bench_say(b, "\nAn idle Linux guest, all processes, over %u s\n%-10s %12s %12s %14s %10s\n",
		  seconds, "", "CPU ms/10 s", "switches/s", "memory MB", "processes");
	for (unsigned p = 0; p < N_PEERS; p++) {
		json_object *o;
		struct subject s;
		struct spent before, after;
		struct boots boots = {0};
		double wall, cpu;

		if (!b->with[p] || p == PEER_NATIVE || p == PEER_BOCHS) {
			continue;
		}
		if (bench_start(b, &s, p, RUN_LINUX, "idle") < 0 || !await_boot(b, &s, &boots)) {
			bench_stop(&s);
			json_object_put(out);
			return cli_fail(b->cli, CLI_FAILED, "%s did not boot", bench_peer_names[p]);
		}
		sleep(settle);
		bench_look(&s);
		before = bench_spent(&s);
		wall = (double)mobo_monotonic_ns();
		sleep(seconds);
		after = bench_spent(&s);
		wall = ((double)mobo_monotonic_ns() - wall) / 1e9;
		bench_stop(&s);
		cpu = (double)(after.cpu_ns - before.cpu_ns) / 1e6 / wall * 10;
		o = json_object_new_object();
		json_object_object_add(o, "cpu_ms_per_10s", json_object_new_double(cpu));
		json_object_object_add(o, "switches_per_s",
				       json_object_new_double(
					       (double)(after.switches - before.switches) / wall));
		json_object_object_add(o, "memory_mb",
				       json_object_new_double((double)after.pss / 1048576.0));
		json_object_object_add(o, "processes", json_object_new_int((int)after.n_processes));
		bench_say(b, "%-10s %12.1f %12.1f %14.1f %10u\n", bench_peer_names[p], cpu,
			  (double)(after.switches - before.switches) / wall,
			  (double)after.pss / 1048576.0, after.n_processes);
		json_object_object_add(out, bench_peer_names[p], o);
	}
	json_object_object_add(b->out, "idle", out);
	return CLI_OK;
}

/* -- programs of the build tree that measure one thing -- */

static int run_program(struct bench *b, const char *name, const char *key)
{
	char path[PATH_MAX], command[PATH_MAX + 32], *text;
	size_t cap = 64 * 1024, n;
	int r = mobo_find_executable(name, path);
	FILE *f;

	if (r < 0) {
		bench_say(b, "\n%s: skipped, it is only in a build tree\n", key);
		return CLI_OK;
	}
	snprintf(command, sizeof(command), "'%s'%s%s", path, b->cli->json ? " --json" : "",
		 b->quick ? " --quick" : "");
	bench_say(b, "\n");
	fflush(stdout);
	f = popen(command, "r");
	text = malloc(cap);
	MOBO_ASSERT(text);
	n = f ? fread(text, 1, cap - 1, f) : 0;
	text[n] = '\0';
	r = f ? pclose(f) : -1;
	if (b->cli->json) {
		json_object_object_add(b->out, key, json_tokener_parse(text));
	} else {
		fputs(text, stdout);
	}
	free(text);
	return r == 0 ? CLI_OK : cli_fail(b->cli, CLI_FAILED, "%s failed", name);
}

int bench_io(struct bench *b)
{
	bench_say(b, "\nAccess to a device over the I/O channel");
	return run_program(b, "bench-ioch", "io");
}

int bench_bus(struct bench *b)
{
	bench_say(b, "\nCalls and events over the bus");
	return run_program(b, "bench-bus", "bus");
}
