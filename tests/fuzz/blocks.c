/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_blocks: the translator against the interpreter, see blocks.h. Exit status 0: no difference;
 * 1: differences, each with the options that repeat it.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blocks.h"
#include "cpu.h"
#include "engine.h"

enum { MAX_STOPS = 48 };

struct options {
	uint64_t seed, n_programs;
	unsigned seconds, max_reports;
	int kind; /* -1: all */
	bool verify;
};

struct rig {
	struct bl_guest *a, *b; /* interpreter, translator */
	/* n_slow: the translator did not come to the end that the interpreter found; code that is
	 * rewritten in a loop is translated each time. */
	uint64_t n_stops, n_endless, n_slow;
};

enum outcome { SAME, DIFFERENT, ENDLESS };

/* Can the program go on behind this stop? */
static bool goes_on(struct rig *rig, const struct bl_stop *stop, uint64_t *rip)
{
	unsigned len = bl_guest_insn_len(rig->a, stop->rip);

	if (stop->vector < 0 || stop->vector == BL_END_VECTOR || !len) {
		return false;
	}
	*rip = stop->rip;
	if (stop->vector != VEC_DB && stop->vector != VEC_BP) {
		*rip += len;
	}
	return true;
}

static enum outcome run_once(struct rig *rig, const struct bl_program *p, unsigned run, FILE *f)
{
	struct bl_stop a, b;
	uint64_t rip;

	bl_guest_start(rig->a, p, run);
	bl_guest_start(rig->b, p, run);
	for (unsigned n = 0; n < MAX_STOPS; n++) {
		bl_guest_run(rig->a, &a);
		if (a.vector == -2) {
			return ENDLESS;
		}
		bl_guest_run(rig->b, &b);
		if (b.vector == -2) {
			rig->n_slow++;
			return ENDLESS;
		}
		rig->n_stops++;
		if (bl_differ(rig->a, rig->b, &a, &b, NULL)) {
			if (f) {
				fprintf(f, "  run %u, stop %u: vector %d at %llx\n", run, n,
					a.vector, (unsigned long long)a.rip);
				bl_differ(rig->a, rig->b, &a, &b, f);
			}
			return DIFFERENT;
		}
		if (!goes_on(rig, &a, &rip)) {
			return SAME;
		}
		bl_guest_resume(rig->a, &a, rip, a.rflags);
		bl_guest_resume(rig->b, &b, rip, a.rflags);
	}
	return SAME;
}

static enum outcome run_program(struct rig *rig, struct bl_program *p, FILE *f)
{
	enum outcome outcome = SAME;

	bl_layout(p);
	bl_guest_load(rig->a, p);
	bl_guest_load(rig->b, p);
	for (unsigned run = 0; run < p->n_runs && outcome == SAME; run++) {
		outcome = run_once(rig, p, run, f);
	}
	return outcome;
}

/* Takes out of p what the difference does not need. */
static void shorten(struct rig *rig, struct bl_program *p)
{
	static struct bl_program shorter;
	bool changed = true;

	while (changed) {
		changed = false;
		for (unsigned piece = p->n / 4 + 1; piece > 0; piece /= 2) {
			for (unsigned k = 0; k + 1 < p->n; k += piece) {
				bool any = false;

				shorter = *p;
				for (unsigned i = k; i < k + piece && i + 1 < p->n; i++) {
					any |= shorter.item[i].len;
					bl_remove(&shorter, i);
				}
				if (any && run_program(rig, &shorter, NULL) == DIFFERENT) {
					*p = shorter;
					changed = true;
				}
			}
		}
	}
}

static bool parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"seed", 1, NULL, 's'},	    {"seconds", 1, NULL, 't'},
		{"programs", 1, NULL, 'n'}, {"one", 1, NULL, 'o'},
		{"kind", 1, NULL, 'k'},	    {"reports", 1, NULL, 'r'},
		{"verify", 0, NULL, 'v'},   {0},
	};
	int c;

	*o = (struct options){.seed = 1, .n_programs = UINT64_MAX, .max_reports = 10, .kind = -1};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 't': o->seconds = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'n': o->n_programs = strtoull(optarg, NULL, 0); break;
		case 'k': o->kind = (int)strtol(optarg, NULL, 0) % BL_KINDS; break;
		case 'r': o->max_reports = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'v': o->verify = true; break;
		case 'o':
			o->seed = strtoull(optarg, NULL, 0);
			o->n_programs = 1;
			break;
		default: return false;
		}
	}
	return optind == argc;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static struct bl_program program;
	uint64_t n = 0, n_bad = 0;
	struct rig rig = {0};
	struct options o;
	double start;

	if (!parse_options(argc, argv, &o)) {
		fprintf(stderr, "usage: fuzz_blocks [--seed N] [--seconds S] [--programs N] "
				"[--one SEED] [--kind 0..2] [--reports N] [--verify]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	rig.a = bl_guest_create(&mobo_engine_interpreter);
	rig.b = bl_guest_create(&mobo_engine_translator);
	if (!rig.a || !rig.b || (o.verify && !bl_guest_verify(rig.b))) {
		perror("fuzz_blocks");
		return 77;
	}
	start = now();
	for (; n < o.n_programs && (!o.seconds || now() - start < o.seconds); n++) {
		enum outcome outcome;

		bl_generate(&program, o.seed + n, o.kind);
		outcome = run_program(&rig, &program, NULL);
		rig.n_endless += outcome == ENDLESS;
		if (outcome == DIFFERENT && n_bad++ < o.max_reports) {
			printf("--one %llu\n", (unsigned long long)(o.seed + n));
			shorten(&rig, &program);
			run_program(&rig, &program, stdout);
			bl_print(stdout, &program);
		}
	}
	printf("%llu programs, %llu differ, %llu stops, %llu endless, %llu slow, %.0f a second\n",
	       (unsigned long long)n, (unsigned long long)n_bad, (unsigned long long)rig.n_stops,
	       (unsigned long long)rig.n_endless, (unsigned long long)rig.n_slow,
	       (double)n / (now() - start));
	bl_guest_destroy(rig.a);
	bl_guest_destroy(rig.b);
	return n_bad || (!o.verify && rig.n_slow > 3 + n / 100) ? 1 : 0;
}
