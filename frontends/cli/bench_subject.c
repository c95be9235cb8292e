/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs that `mobo bench` compares. All that a subject starts are descendants of this
 * process, even what made itself a daemon (it is their subreaper), so the CPU time, the context
 * switches and the memory of a machine are those of its whole tree, client and registry included.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define QEMU "qemu-system-x86_64"

const char *const bench_peer_names[N_PEERS] = {
	[PEER_MOBO] = "mobo", [PEER_NATIVE] = "native", [PEER_TCG] = "tcg", [PEER_BOCHS] = "bochs"};

static bool in_path(const char *program)
{
	char *path = strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin"), file[PATH_MAX];
	bool found = false;

	MOBO_ASSERT(path);
	for (char *save, *dir = strtok_r(path, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		int n = snprintf(file, sizeof(file), "%s/%s", dir, program);

		found = found || ((size_t)n < sizeof(file) && access(file, X_OK) == 0);
	}
	free(path);
	return found;
}

bool bench_peer_present(enum bench_peer peer, const char **why)
{
	*why = NULL;
	switch (peer) {
	case PEER_MOBO:
	case PEER_NATIVE: break;
	case PEER_TCG: *why = in_path(QEMU) ? NULL : QEMU " is not installed"; break;
	case PEER_BOCHS:
		*why = !in_path("bochs") ? "bochs is not installed"
		       : !in_path("grub-mkrescue")
			       ? "grub-mkrescue is not installed (grub-common, grub-pc-bin)"
		       : !in_path("xorriso") ? "xorriso is not installed"
					     : NULL;
		break;
	case N_PEERS: break;
	}
	return *why == NULL;
}

/* -- starting -- */

enum { MAX_ARGS = 48 };

static void mobo_command(struct bench *b, char **argv, enum bench_what what, char *append)
{
	static char self[PATH_MAX], memory[16], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	unsigned i = 0;

	self[MOBO_MAX(n, 0)] = '\0';
	snprintf(memory, sizeof(memory), "%dM", BENCH_MEMORY_MB);
	argv[i++] = self;
	argv[i++] = (char *)"run";
	argv[i++] = (char *)"--memory";
	argv[i++] = memory;
	switch (what) {
	case RUN_LINUX:
		snprintf(path, sizeof(path), "%s/initrd", b->dir);
		argv[i++] = (char *)"--kernel";
		argv[i++] = b->kernel;
		argv[i++] = (char *)"--initrd";
		argv[i++] = path;
		argv[i++] = (char *)"--append";
		argv[i++] = append;
		break;
	case RUN_FIRMWARE:
		snprintf(path, sizeof(path), "%s/firmware", b->dir);
		argv[i++] = (char *)"--firmware";
		argv[i++] = path;
		break;
	case RUN_BOOT_DISK:
		snprintf(path, sizeof(path), "%s/boot.img", b->dir);
		argv[i++] = (char *)"--disk";
		argv[i++] = path;
		break;
	case RUN_DISK:
		snprintf(path, sizeof(path), "%s/disk.qcow2", b->dir);
		argv[i++] = (char *)"--disk";
		argv[i++] = path;
		break;
	}
	argv[i] = NULL;
}

static void qemu_command(struct bench *b, char **argv, enum bench_what what, char *append)
{
	static const char *const common[] = {QEMU,	   "-accel",	  "tcg",     "-machine",
					     "pc",	   "-nodefaults", "-vga",    "std",
					     "-display",   "none",	  "-serial", "stdio",
					     "-no-reboot", "-m"};
	static char memory[16], path[PATH_MAX + 64];
	unsigned i = 0;

	for (; i < MOBO_ARRAY_LEN(common); i++) {
		argv[i] = (char *)common[i];
	}
	snprintf(memory, sizeof(memory), "%d", BENCH_MEMORY_MB);
	argv[i++] = memory;
	switch (what) {
	case RUN_LINUX:
		snprintf(path, sizeof(path), "%s/initrd", b->dir);
		argv[i++] = (char *)"-kernel";
		argv[i++] = b->kernel;
		argv[i++] = (char *)"-initrd";
		argv[i++] = path;
		argv[i++] = (char *)"-append";
		argv[i++] = append;
		break;
	case RUN_FIRMWARE:
		snprintf(path, sizeof(path), "%s/firmware", b->dir);
		argv[i++] = (char *)"-bios";
		argv[i++] = path;
		break;
	case RUN_BOOT_DISK:
		snprintf(path, sizeof(path), "file=%s/boot.img,format=raw,if=ide,file.locking=off",
			 b->dir);
		argv[i++] = (char *)"-drive";
		argv[i++] = path;
		break;
	case RUN_DISK:
		snprintf(path, sizeof(path), "file=%s/disk.qcow2,format=qcow2,if=ide", b->dir);
		argv[i++] = (char *)"-drive";
		argv[i++] = path;
		break;
	}
	argv[i] = NULL;
}

/* Bochs has no direct boot: GRUB on a CD-ROM starts the kernel. Its serial port is a file. */
static int bochs_command(struct bench *b, char **argv, const char *append)
{
	static char script[4096 + 6 * PATH_MAX];

	snprintf(
		script, sizeof(script),
		"set -e; cd '%s'; rm -rf iso bochs.out; mkdir -p iso/boot/grub; cp '%s' "
		"iso/kernel\n"
		"cp initrd iso/initrd\n"
		"printf 'set timeout=0\\nmenuentry x {\\nlinux /kernel %s\\ninitrd /initrd\\n}\\n' "
		"> iso/boot/grub/grub.cfg\n"
		"grub-mkrescue -o bochs.iso iso > grub.log 2>&1; : > bochs.out\n"
		"{ echo 'display_library: term'; echo 'memory: guest=%d, host=%d'\n"
		"echo 'romimage: file=/usr/share/bochs/BIOS-bochs-latest'\n"
		"echo 'vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest'\n"
		"echo 'ata0-master: type=cdrom, path=bochs.iso, status=inserted'; echo 'boot: "
		"cdrom'\n"
		"echo 'com1: enabled=1, mode=file, dev=bochs.out'; echo 'log: bochs.log'\n"
		"echo 'clock: sync=none'; echo 'cpu: model=corei5_lynnfield_750, ips=100000000'; "
		"echo 'panic: action=fatal'; } "
		"> bochsrc\n"
		"export TERM=xterm; tail -s 0.02 -f bochs.out &\n"
		"exec script -qfc 'echo c | bochs -q -f bochsrc' /dev/null > bochs.ui 2>&1 "
		"</dev/null",
		b->dir, b->kernel, append, BENCH_MEMORY_MB, BENCH_MEMORY_MB);
	argv[0] = (char *)"sh";
	argv[1] = (char *)"-c";
	argv[2] = script;
	argv[3] = NULL;
	return 0;
}

static void native_command(struct bench *b, char **argv, char *args)
{
	unsigned i = 0;

	argv[i++] = b->guest;
	for (char *save, *word = strtok_r(args, ",", &save); word && i + 1 < MAX_ARGS;
	     word = strtok_r(NULL, ",", &save)) {
		argv[i++] = word;
	}
	argv[i] = NULL;
}

/* In the child: Mobo's files go to this run's folder, so that nothing of the user's is touched. */
static void enter(const struct bench *b, int out, char **argv)
{
	static const char *const vars[] = {"XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME",
					   "XDG_CONFIG_HOME"};
	sigset_t none;
	int in[2];

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(vars); i++) {
		setenv(vars[i], b->dir, 1);
	}
	/* An input that never says anything and never ends. */
	if (pipe(in) == 0) {
		dup2(in[0], STDIN_FILENO);
	}
	dup2(out, STDOUT_FILENO);
	if (!getenv("MOBO_BENCH_DEBUG")) {
		dup2(out, STDERR_FILENO);
	}
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	_exit(127);
}

int bench_start(struct bench *b, struct subject *s, enum bench_peer peer, enum bench_what what,
		const char *args)
{
	char *argv[MAX_ARGS], append[1024], words[1024];
	int out[2];

	memset(s, 0, sizeof(*s));
	s->peer = peer;
	s->fd = -1;
	snprintf(append, sizeof(append), "console=ttyS0 quiet panic=-1 bench=%s", args);
	snprintf(words, sizeof(words), "%s", args);
	switch (peer) {
	case PEER_MOBO: mobo_command(b, argv, what, append); break;
	case PEER_NATIVE: native_command(b, argv, words); break;
	case PEER_TCG: qemu_command(b, argv, what, append); break;
	case PEER_BOCHS: bochs_command(b, argv, append); break;
	case N_PEERS: return -EINVAL;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (pipe(out) < 0) {
		return -errno;
	}
	s->started_ns = mobo_monotonic_ns();
	s->pid = fork();
	if (s->pid == 0) {
		close(out[0]);
		enter(b, out[1], argv);
	}
	close(out[1]);
	if (s->pid < 0) {
		close(out[0]);
		return -errno;
	}
	s->fd = out[0];
	return 0;
}

/* -- listening -- */

/* More of the console into s->buf; false at its end, the deadline or an interruption. */
static bool hear(struct bench *b, struct subject *s, uint64_t deadline)
{
	struct pollfd p = {s->fd, POLLIN, 0};
	ssize_t n;

	if (s->n_buf == sizeof(s->buf)) {
		s->n_buf = 0;
	}
	while (!b->cli->interrupted) {
		uint64_t now = mobo_monotonic_ns();

		if (now >= deadline) {
			return false;
		}
		/* A signal is seen between two waits. */
		mobo_loop_run_until(b->cli->loop, &b->cli->interrupted, now);
		if (poll(&p, 1, (int)MOBO_MIN((deadline - now) / 1000000 + 1, 500)) > 0) {
			n = read(s->fd, s->buf + s->n_buf, sizeof(s->buf) - s->n_buf);
			s->n_buf += (size_t)MOBO_MAX(n, 0);
			return n > 0;
		}
	}
	return false;
}

bool bench_line(struct bench *b, struct subject *s, const char *wanted, char *line, size_t len,
		unsigned timeout_s)
{
	uint64_t deadline = mobo_monotonic_ns() + timeout_s * 1000000000ull;

	for (;;) {
		char *end = memchr(s->buf, '\n', s->n_buf);
		size_t n;

		if (!end) {
			if (!hear(b, s, deadline)) {
				return false;
			}
			continue;
		}
		n = (size_t)(end - s->buf);
		snprintf(line, len, "%.*s", (int)n, s->buf);
		line[strcspn(line, "\r")] = '\0';
		s->n_buf -= n + 1;
		memmove(s->buf, end + 1, s->n_buf);
		if (strncmp(line, wanted, strlen(wanted)) == 0) {
			return true;
		}
	}
}

bool bench_byte(struct bench *b, struct subject *s, char byte, unsigned timeout_s)
{
	uint64_t deadline = mobo_monotonic_ns() + timeout_s * 1000000000ull;

	while (!memchr(s->buf, byte, s->n_buf)) {
		if (!hear(b, s, deadline)) {
			return false;
		}
	}
	return true;
}

bool bench_text(struct bench *b, struct subject *s, const char *text, unsigned timeout_s)
{
	enum { KEPT = 64 };
	uint64_t deadline = mobo_monotonic_ns() + timeout_s * 1000000000ull;

	while (!memmem(s->buf, s->n_buf, text, strlen(text))) {
		if (s->n_buf > sizeof(s->buf) / 2) {
			memmove(s->buf, s->buf + s->n_buf - KEPT, KEPT);
			s->n_buf = KEPT;
		}
		if (!hear(b, s, deadline)) {
			return false;
		}
	}
	return true;
}

/* -- looking -- */

/* The parent of a process, 0 if it is gone; *end for one that has ended but is not waited for. */
static pid_t parent_of(pid_t pid, bool *ended)
{
	char path[64], text[512], *at;
	int parent = 0;
	char state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f) {
		return 0;
	}
	at = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
	fclose(f);
	if (!at || sscanf(at + 1, " %c %d", &state, &parent) != 2) {
		return 0;
	}
	*ended = state == 'Z';
	return parent;
}

static bool among(pid_t pid, const pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (pids[i] == pid) {
			return true;
		}
	}
	return false;
}

/* The living descendants of a process. */
static unsigned descendants(pid_t root, pid_t *pids, unsigned max)
{
	pid_t known[BENCH_MAX_PIDS + 1] = {root};
	unsigned n = 1, before;

	do {
		DIR *d = opendir("/proc");
		struct dirent *e;

		before = n;
		while (d && (e = readdir(d))) {
			pid_t pid = (pid_t)atoi(e->d_name);
			bool ended = false;

			if (pid > 0 && n < MOBO_ARRAY_LEN(known) && !among(pid, known, n) &&
			    among(parent_of(pid, &ended), known, n) && !ended) {
				known[n++] = pid;
			}
		}
		if (d) {
			closedir(d);
		}
	} while (n > before);
	n = MOBO_MIN(n - 1, max);
	memcpy(pids, known + 1, n * sizeof(*pids));
	return n;
}

void bench_look(struct subject *s)
{
	/* Mobo's registry and machine have left the tree of the command that started them. */
	if (s->peer == PEER_MOBO) {
		s->n_pids = descendants(getpid(), s->pids, BENCH_MAX_PIDS);
	} else {
		s->pids[0] = s->pid;
		s->n_pids = 1 + descendants(s->pid, s->pids + 1, BENCH_MAX_PIDS - 1);
	}
}

uint64_t bench_cpu_ns(const struct subject *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->n_pids; i++) {
		struct timespec t;
		clockid_t clock;

		if (clock_getcpuclockid(s->pids[i], &clock) == 0 && clock_gettime(clock, &t) == 0) {
			sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		}
	}
	return sum;
}

static uint64_t voluntary_switches(pid_t pid)
{
	char path[384], line[256];
	uint64_t sum = 0, v;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &v) == 1) {
				sum += v;
			}
		}
		if (f) {
			fclose(f);
		}
	}
	if (d) {
		closedir(d);
	}
	return sum;
}

/*
 * Proportional set size without the guest's RAM: Mobo's is a memory file, QEMU's the anonymous
 * mapping of just its size.
 */
static uint64_t own_memory(pid_t pid)
{
	const unsigned long ram_kb = BENCH_MEMORY_MB * 1024ul;
	unsigned long v, size = 0, start, end;
	char path[64], line[512];
	uint64_t sum = 0;
	bool ram = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		    strchr(line, '-') < strchr(line, ' ')) {
			size = (end - start) / 1024;
			ram = size == ram_kb || strstr(line, "/memfd:ram") != NULL;
		} else if (sscanf(line, "Pss: %lu kB", &v) == 1 && !ram) {
			sum += v * 1024;
		}
	}
	if (f) {
		fclose(f);
	}
	return sum;
}

struct spent bench_spent(const struct subject *s)
{
	struct spent spent = {.cpu_ns = bench_cpu_ns(s), .n_processes = s->n_pids};

	for (unsigned i = 0; i < s->n_pids; i++) {
		spent.switches += voluntary_switches(s->pids[i]);
		spent.pss += own_memory(s->pids[i]);
	}
	return spent;
}

/* -- ending -- */

static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0) {
	}
}

/* Up to `ms` for a process to end. */
static bool ended_within(pid_t pid, unsigned ms)
{
	for (unsigned t = 0; t < ms; t += 10) {
		if (waitpid(pid, NULL, WNOHANG) != 0) {
			return true;
		}
		usleep(10000);
	}
	return false;
}

void bench_stop(struct subject *s)
{
	if (s->pid > 0 && !ended_within(s->pid, 200)) {
		/* Bochs' shell has children that a signal to it would not reach. */
		kill(s->peer == PEER_BOCHS ? -s->pid : s->pid, SIGTERM);
		if (!ended_within(s->pid, 8000)) {
			kill(-s->pid, SIGKILL);
			ended_within(s->pid, 1000);
		}
	} else if (s->peer == PEER_BOCHS && s->pid > 0) {
		kill(-s->pid, SIGTERM);
	}
	if (s->fd >= 0) {
		close(s->fd);
	}
	s->pid = 0;
	s->fd = -1;
	reap();
}

void bench_stop_all(void)
{
	pid_t pids[BENCH_MAX_PIDS];

	for (unsigned tries = 0; tries < 200; tries++) {
		unsigned n = descendants(getpid(), pids, BENCH_MAX_PIDS);

		for (unsigned i = 0; i < n && (tries == 0 || tries == 100); i++) {
			kill(pids[i], tries ? SIGKILL : SIGTERM);
		}
		reap();
		if (n == 0) {
			return;
		}
		usleep(10000);
	}
}
