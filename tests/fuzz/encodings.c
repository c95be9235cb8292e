/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_encodings: an engine against the host CPU, see encodings.h. Exit status 0: no
 * difference; 1: differences, each with the options that repeat it; 77: the host cannot be
 * compared.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "encodings.h"
#include "encodings_compare.h"
#include "engine.h"
#include "translate/translate.h"

struct options {
	uint64_t seed, n_cases, first;
	unsigned seconds, max_reports;
	uint32_t mode;
	bool one;
	bool alone; /* only the engine: for sanitizers, whose shadow the host would see */
	bool forms; /* print what was interpreted */
	unsigned min_translated;
	const struct mobo_engine_ops *engine;
	const char *filter_text;
	struct fz_filter filter;
};

struct tally {
	uint64_t n_run, n_bad, n_dead;
	uint32_t run[8][256], bad[8][256][8]; /* by map, 4 more with VEX */
	/* Of the translator: no code was made (no instruction there), it is the interpreter's. */
	uint64_t n_none, n_interpreted;
	uint32_t interpreted[8][256];
};

static void usage(FILE *f)
{
	fprintf(f, "usage: fuzz_encodings [--mode 32|64] [--seed N] [--seconds S] [--cases N] "
		   "[--first ID]\n"
		   "         [--filter [vex.][0f:|0f38:|0f3a:]OP[-OP][/REG]] [--one ID] [--reports "
		   "N]\n"
		   "         [--excluded] [--alone] [--engine interpreter|translator]\n"
		   "         [--forms] [--min-translated PERCENT]\n");
}

/* "vex.0f38:10-17/3": map, opcodes and ModRM.reg, all hexadecimal. */
static bool parse_filter(const char *s, struct fz_filter *f)
{
	static const char *const maps[] = {"", "0f:", "0f38:", "0f3a:"};
	char *end;

	*f = (struct fz_filter){.map = MAP_1, .regs = 0xff};
	if (!strncmp(s, "vex.", 4)) {
		f->vex = true;
		s += 4;
	}
	for (unsigned k = 1; k < 4; k++) {
		if (!strncmp(s, maps[k], strlen(maps[k]))) {
			f->map = (uint8_t)k;
			s += strlen(maps[k]);
			break;
		}
	}
	f->first = f->last = (uint8_t)strtoul(s, &end, 16);
	if (end == s) {
		return false;
	}
	if (*end == '-') {
		f->last = (uint8_t)strtoul(end + 1, &end, 16);
	}
	if (*end == '/') {
		f->regs = (uint8_t)(1 << (strtoul(end + 1, &end, 16) & 7));
	}
	return !*end;
}

static const struct mobo_engine_ops *find_engine(const char *name)
{
	static const struct mobo_engine_ops *const engines[] = {&mobo_engine_interpreter,
								&mobo_engine_translator};

	for (unsigned k = 0; k < sizeof(engines) / sizeof(engines[0]); k++) {
		if (!strcmp(name, engines[k]->name)) {
			return engines[k];
		}
	}
	return NULL;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"seed", 1, NULL, 's'},		  {"seconds", 1, NULL, 't'},
		{"cases", 1, NULL, 'n'},	  {"first", 1, NULL, 'i'},
		{"filter", 1, NULL, 'f'},	  {"one", 1, NULL, 'o'},
		{"mode", 1, NULL, 'm'},		  {"reports", 1, NULL, 'r'},
		{"excluded", 0, NULL, 'x'},	  {"alone", 0, NULL, 'a'},
		{"engine", 1, NULL, 'e'},	  {"forms", 0, NULL, 'k'},
		{"min-translated", 1, NULL, 'p'}, {0},
	};
	int c;

	*o = (struct options){.seed = 1,
			      .n_cases = UINT64_MAX,
			      .max_reports = 20,
			      .mode = 64,
			      .engine = &mobo_engine_interpreter};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 't': o->seconds = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'n': o->n_cases = strtoull(optarg, NULL, 0); break;
		case 'i': o->first = strtoull(optarg, NULL, 0); break;
		case 'm': o->mode = (uint32_t)strtoul(optarg, NULL, 0); break;
		case 'r': o->max_reports = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'a': o->alone = true; break;
		case 'k': o->forms = true; break;
		case 'p': o->min_translated = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'e':
			o->engine = find_engine(optarg);
			if (!o->engine) {
				return false;
			}
			break;
		case 'x': fz_print_excluded(); exit(0);
		case 'f':
			o->filter_text = optarg;
			if (!parse_filter(optarg, &o->filter)) {
				return false;
			}
			break;
		case 'o':
			o->one = true;
			o->first = strtoull(optarg, NULL, 0);
			break;
		default: return false;
		}
	}
	return optind == argc && (o->mode == 32 || o->mode == 64);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Cases first .. of one batch: an id decides its slot. */
static unsigned fill_batch(struct fz_batch *b, const struct options *o, uint64_t base)
{
	unsigned n = 0;

	for (unsigned k = 0; k < FZ_BATCH; k++) {
		struct fz_case *c = &b->cases[k];
		uint64_t id = base + k;

		c->code_len = 0;
		b->results[k].ran = false;
		if (id < o->first || id - o->first >= o->n_cases) {
			continue;
		}
		n += fz_generate(c, o->seed, id, o->mode, o->filter_text ? &o->filter : NULL);
	}
	return n;
}

static void check_case(const struct options *o, struct tally *t, const struct fz_case *c,
		       const struct fz_result *native, const struct fz_result *guest)
{
	struct insn i;
	unsigned map;
	bool exists = fz_decode(c, o->mode, &i);
	bool untranslated = o->engine == &mobo_engine_translator && exists && !guest->translated;

	map = (i.map & 3) | (i.flags & INSN_VEX ? 4 : 0);
	t->n_run++;
	t->run[map][i.opcode]++;
	if (!guest->translated) {
		t->n_none++;
	} else if (guest->form <= FORM_END) {
		t->n_interpreted++;
		t->interpreted[map][i.opcode]++;
	}
	if (!native->ran) {
		t->n_dead++;
		printf("case %llu: the host's child died or hung\n", (unsigned long long)c->id);
	} else if (!untranslated && !fz_differs(native, guest, NULL) && !o->one) {
		return;
	}
	t->n_bad++;
	t->bad[map][i.opcode][i.modrm >> 3 & 7]++;
	if (t->n_bad <= o->max_reports) {
		printf("--mode %u --seed %llu --one %llu\n", o->mode, (unsigned long long)o->seed,
		       (unsigned long long)c->id);
		fz_report(stdout, c, o->mode, native, guest, o->one);
		printf("%s", untranslated ? "  not translated\n" : "");
	}
}

/*
 * Runs one case of the batch again, alone: an interrupt of the host just between instruction and
 * notes loses a null selector's RPL, for one.
 */
static void run_again(struct fz_native *native, unsigned slot, uint32_t len)
{
	struct fz_batch *b = fz_native_batch(native);

	for (unsigned k = 0; k < FZ_BATCH; k++) {
		b->cases[k].code_len = k == slot ? len : 0;
	}
	fz_native_go(native);
	fz_native_wait(native);
}

static void run_batch(const struct options *o, struct tally *t, struct fz_native *native,
		      struct fz_guest *guest, uint64_t base)
{
	static struct fz_result results[FZ_BATCH];
	uint32_t lens[FZ_BATCH];
	static struct fz_batch own;
	struct fz_batch *b = native ? fz_native_batch(native) : &own;

	if (!fill_batch(b, o, base)) {
		return;
	}
	if (native) {
		fz_native_go(native);
	}
	fz_guest_code(guest, b);
	for (unsigned k = 0; k < FZ_BATCH; k++) {
		if (b->cases[k].code_len) {
			fz_guest_run(guest, &b->cases[k], k, &results[k]);
		}
	}
	if (!native) {
		t->n_run += FZ_BATCH;
		return;
	}
	fz_native_wait(native);
	for (unsigned k = 0; k < FZ_BATCH; k++) {
		lens[k] = b->cases[k].code_len;
	}
	for (unsigned k = 0; k < FZ_BATCH; k++) {
		if (!lens[k]) {
			continue;
		}
		if (b->results[k].ran && fz_differs(&b->results[k], &results[k], NULL)) {
			run_again(native, k, lens[k]);
		}
		b->cases[k].code_len = lens[k];
		check_case(o, t, &b->cases[k], &b->results[k], &results[k]);
	}
}

static const char *const maps[] = {"",	   "0F ",     "0F 38 ",	    "0F 3A ",
				   "VEX ", "VEX 0F ", "VEX 0F 38 ", "VEX 0F 3A "};

static void print_forms(const struct tally *t)
{
	for (unsigned m = 0; m < 8; m++) {
		for (unsigned op = 0; op < 256; op++) {
			if (t->interpreted[m][op]) {
				printf("%s%02X: %u of %u interpreted\n", maps[m], op,
				       t->interpreted[m][op], t->run[m][op]);
			}
		}
	}
}

/* Percent of the cases that ran as host code of their own. */
static unsigned percent_translated(const struct tally *t)
{
	uint64_t n = t->n_run - t->n_none - t->n_interpreted;

	return t->n_run ? (unsigned)(n * 100 / t->n_run) : 0;
}

static void print_tally(const struct tally *t, double seconds)
{
	for (unsigned m = 0; m < 8; m++) {
		for (unsigned op = 0; op < 256; op++) {
			for (unsigned reg = 0; reg < 8; reg++) {
				if (t->bad[m][op][reg]) {
					printf("%s%02X /%u: %u of %u differ\n", maps[m], op, reg,
					       t->bad[m][op][reg], t->run[m][op]);
				}
			}
		}
	}
	printf("%llu cases, %llu differ, %.0f a second\n", (unsigned long long)t->n_run,
	       (unsigned long long)t->n_bad, (double)t->n_run / (seconds > 0 ? seconds : 1));
}

int main(int argc, char **argv)
{
	static struct tally tally;
	struct fz_native *native;
	struct fz_guest *guest;
	struct options o;
	double start;

	if (!parse_options(argc, argv, &o)) {
		usage(stderr);
		return 2;
	}
	if (o.one) {
		o.n_cases = 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	native = o.alone ? NULL : fz_native_start(o.mode);
	guest = native || o.alone ? fz_guest_create(o.mode, o.engine) : NULL;
	if (!guest) {
		perror("fuzz_encodings");
		return 77;
	}
	start = now();
	for (uint64_t base = o.first / FZ_BATCH * FZ_BATCH;
	     (base < o.first || base - o.first < o.n_cases) &&
	     (!o.seconds || now() - start < o.seconds);
	     base += FZ_BATCH) {
		run_batch(&o, &tally, native, guest, base);
	}
	print_tally(&tally, now() - start);
	if (o.forms) {
		print_forms(&tally);
	}
	if (o.engine == &mobo_engine_translator && !o.alone) {
		printf("%u %% translated; %llu interpreted, %llu without code\n",
		       percent_translated(&tally), (unsigned long long)tally.n_interpreted,
		       (unsigned long long)tally.n_none);
	}
	if (native) {
		fz_native_stop(native);
	}
	fz_guest_destroy(guest);
	if (!o.alone && percent_translated(&tally) < o.min_translated) {
		printf("fewer are translated than should be\n");
		return 1;
	}
	return tally.n_bad && !o.one ? 1 : 0;
}
