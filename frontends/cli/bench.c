/* SPDX-License-Identifier: Apache-2.0 */
/* `mobo bench`: Mobo beside native execution, QEMU's translator and Bochs, in one run. */
#include <getopt.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"

enum { QUICK_SCALE = 40, FULL_SCALE = 100, FULL_ROUNDS = 3 };

static const struct {
	const char *name;
	int (*run)(struct bench *b);
	bool linux_guest;
} suites[] = {
	{"guest", bench_guest, true}, {"disk", bench_disk, false}, {"start", bench_startup, false},
	{"idle", bench_idle, true},   {"io", bench_io, false},	   {"bus", bench_bus, false},
};

const char bench_help[] =
	"  guest   workloads in a Linux guest: CPU time, checksums, time to boot\n"
	"  disk    a disk to its login prompt on the first serial port: CPU time\n"
	"  start   from the command to the guest's first instruction, and to its boot sector\n"
	"  idle    what a guest that does nothing costs\n"
	"  io      an access to a device, beside a raw exchange of a cache line\n"
	"  bus     calls and events, beside plain libzmq\n"
	"\n"
	"  --quick              small and once: some two minutes\n"
	"  --peer NAME          compare with native, tcg (QEMU) or bochs; may be given again\n"
	"                       (default: native and tcg)\n"
	"  --kernel FILE        the guest's Linux (bzImage)\n"
	"  --disk FILE          what `disk` starts, as deploy/debian-image makes it; stays as it "
	"is\n"
	"  --scale N, --rounds N\n"
	"                       how much work, and how many times for the median\n"
	"  --only NAME[,NAME]...\n"
	"                       these workloads or classes of them alone\n";

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_median(double *v, unsigned n)
{
	if (n == 0) {
		return 0;
	}
	qsort(v, n, sizeof(*v), by_size);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

void bench_say(const struct bench *b, const char *fmt, ...)
{
	va_list ap;

	if (!b->cli->json) {
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
		fflush(stdout);
	}
}

/* Debian's kernel for virtual machines, where the system tests have put it, or the host's own. */
static bool find_kernel(struct bench *b)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char pattern[3][PATH_MAX];
	bool found = false;

	snprintf(pattern[0], PATH_MAX, "%s%s/mobo/tests/linux-image-cloud-amd64/boot/vmlinuz-*",
		 cache && *cache ? cache
		 : home		 ? home
				 : "",
		 cache && *cache ? "" : "/.cache");
	snprintf(pattern[1], PATH_MAX, "/boot/vmlinuz-*cloud-amd64");
	snprintf(pattern[2], PATH_MAX, "/boot/vmlinuz-*");
	for (unsigned i = 0; i < 3 && !found; i++) {
		glob_t g;

		if (glob(pattern[i], 0, NULL, &g) == 0) {
			const char *file = g.gl_pathv[g.gl_pathc - 1];

			found = access(file, R_OK) == 0;
			if (found) {
				snprintf(b->kernel, sizeof(b->kernel), "%s", file);
			}
			globfree(&g);
		}
	}
	return found;
}

static bool find_guest(struct bench *b)
{
	return mobo_find_executable("bench-guest", b->guest) == 0;
}

/* The first line that a program prints, or "". */
static void first_line(const char *command, char *text, size_t len)
{
	FILE *f = popen(command, "r");

	text[0] = '\0';
	if (f) {
		if (!fgets(text, (int)len, f)) {
			text[0] = '\0';
		}
		pclose(f);
	}
	text[strcspn(text, "\n")] = '\0';
}

static void describe_host(struct bench *b)
{
	json_object *o = json_object_new_object();
	char cpu[256], text[256];
	struct utsname u;

	first_line("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo", cpu, sizeof(cpu));
	uname(&u);
	json_object_object_add(o, "cpu", json_object_new_string(cpu));
	json_object_object_add(o, "cpus", json_object_new_int64(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_object_add(o, "kernel", json_object_new_string(u.release));
	json_object_object_add(o, "mobo", json_object_new_string(MOBO_VERSION));
	bench_say(b, "Host: %s, %ld CPUs, Linux %s; mobo %s", cpu, sysconf(_SC_NPROCESSORS_ONLN),
		  u.release, MOBO_VERSION);
	if (b->with[PEER_TCG]) {
		first_line("qemu-system-x86_64 --version", text, sizeof(text));
		bench_say(b, "; %s", text);
		json_object_object_add(o, "tcg", json_object_new_string(text));
	}
	if (b->with[PEER_BOCHS]) {
		first_line("bochs --help 2>&1 | grep -o 'Bochs.*Emulator [0-9.]*'", text,
			   sizeof(text));
		bench_say(b, "; %s", text);
		json_object_object_add(o, "bochs", json_object_new_string(text));
	}
	bench_say(b, "\n");
	json_object_object_add(b->out, "host", o);
}

static bool choose_peer(struct bench *b, const char *name)
{
	for (unsigned p = 0; p < N_PEERS; p++) {
		if (strcmp(name, bench_peer_names[p]) == 0) {
			b->with[p] = true;
			return true;
		}
	}
	return false;
}

/* Leaves out the peers that are not installed, and says so. */
static void check_peers(struct bench *b)
{
	json_object *skipped = json_object_new_object();
	const char *why;

	for (unsigned p = 0; p < N_PEERS; p++) {
		if (b->with[p] && !bench_peer_present(p, &why)) {
			bench_say(b, "%s is left out: %s\n", bench_peer_names[p], why);
			json_object_object_add(skipped, bench_peer_names[p],
					       json_object_new_string(why));
			b->with[p] = false;
		}
	}
	json_object_object_add(b->out, "skipped", skipped);
}

/* The files that guests need; an exit status. */
static int prepare(struct bench *b, bool linux_guest)
{
	char path[PATH_MAX];
	int r;

	strcpy(b->dir, "/tmp/mobo-bench-XXXXXX");
	if (!mkdtemp(b->dir)) {
		return cli_fail(b->cli, CLI_FAILED, "cannot make a folder in /tmp");
	}
	if (linux_guest && !find_guest(b)) {
		return cli_fail(
			b->cli, CLI_FAILED,
			"bench-guest is neither installed nor in this build tree; build the tests");
	}
	if (linux_guest && !b->kernel[0] && !find_kernel(b)) {
		return cli_fail(
			b->cli, CLI_FAILED,
			"no Linux kernel for the guest: say --kernel FILE (`apt-get download "
			"linux-image-cloud-amd64`, `dpkg -x` it)");
	}
	if (linux_guest && access(b->kernel, R_OK) != 0) {
		return cli_fail(b->cli, CLI_FAILED, "cannot read the kernel %s", b->kernel);
	}
	snprintf(path, sizeof(path), "%s/firmware", b->dir);
	r = bench_make_firmware(path);
	snprintf(path, sizeof(path), "%s/boot.img", b->dir);
	r = r ? r : bench_make_boot_disk(path);
	snprintf(path, sizeof(path), "%s/initrd", b->dir);
	if (r == 0 && linux_guest) {
		r = bench_make_initrd(path, b->guest);
	}
	return r ? cli_fail(b->cli, CLI_FAILED, "cannot write to %s: %s", b->dir, strerror(-r))
		 : CLI_OK;
}

static void clean_up(struct bench *b)
{
	char command[128];

	bench_stop_all();
	snprintf(command, sizeof(command), "rm -rf '%s'", b->dir);
	if (b->dir[0] && system(command) != 0) {
		fprintf(stderr, "mobo: cannot remove %s\n", b->dir);
	}
}

static bool wanted(const char *suite, int n, char **names)
{
	for (int i = 0; i < n; i++) {
		if (strcmp(suite, names[i]) == 0) {
			return true;
		}
	}
	return n == 0;
}

static int parse(struct bench *b, int argc, char **argv)
{
	static const struct option options[] = {{"quick", 0, NULL, 'q'},  {"peer", 1, NULL, 'p'},
						{"kernel", 1, NULL, 'k'}, {"disk", 1, NULL, 'd'},
						{"only", 1, NULL, 'o'},	  {"scale", 1, NULL, 's'},
						{"rounds", 1, NULL, 'r'}, {0}};
	bool peers = false;
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'q': b->quick = true; break;
		case 'k': snprintf(b->kernel, sizeof(b->kernel), "%s", optarg); break;
		case 'd':
			if (!realpath(optarg, b->disk)) {
				return cli_fail(b->cli, CLI_FAILED, "cannot find %s", optarg);
			}
			break;
		case 'o': b->only = optarg; break;
		case 's': b->scale = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'r': b->rounds = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'p':
			peers = true;
			if (!choose_peer(b, optarg)) {
				return cli_fail(b->cli, CLI_USAGE,
						"no peer is called `%s`: native, tcg, bochs",
						optarg);
			}
			break;
		default: return cli_usage(b->cli);
		}
	}
	b->with[PEER_MOBO] = true;
	if (!peers) {
		b->with[PEER_NATIVE] = b->with[PEER_TCG] = true;
	}
	b->scale = b->scale ? b->scale : b->quick ? QUICK_SCALE : FULL_SCALE;
	b->rounds = b->rounds ? b->rounds : b->quick ? 1 : FULL_ROUNDS;
	b->rounds = MOBO_MIN(b->rounds, (unsigned)BENCH_MAX_ROUNDS);
	for (int i = optind; i < argc; i++) {
		bool known = false;

		for (unsigned k = 0; k < MOBO_ARRAY_LEN(suites); k++) {
			known = known || strcmp(argv[i], suites[k].name) == 0;
		}
		if (!known) {
			return cli_fail(
				b->cli, CLI_USAGE,
				"no suite is called `%s`: guest, disk, start, idle, io, bus",
				argv[i]);
		}
	}
	return CLI_OK;
}

int cmd_bench(struct cli *cli, int argc, char **argv)
{
	struct bench *b = calloc(1, sizeof(*b));
	bool linux_guest = false;
	int status;

	MOBO_ASSERT(b);
	b->cli = cli;
	status = parse(b, argc, argv);
	if (status != CLI_OK) {
		free(b);
		return status;
	}
	b->out = json_object_new_object();
	check_peers(b);
	describe_host(b);
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(suites); i++) {
		linux_guest = linux_guest || (suites[i].linux_guest &&
					      wanted(suites[i].name, argc - optind, argv + optind));
	}
	status = prepare(b, linux_guest);
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(suites) && status == CLI_OK && !cli->interrupted;
	     i++) {
		if (wanted(suites[i].name, argc - optind, argv + optind)) {
			status = suites[i].run(b);
		}
	}
	clean_up(b);
	if (cli->json && status == CLI_OK) {
		cli_print_json(b->out);
	} else {
		json_object_put(b->out);
	}
	free(b);
	return cli->interrupted ? CLI_INTERRUPTED : status;
}
