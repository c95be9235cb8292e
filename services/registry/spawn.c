/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a machine's process, believing its reports, and saying how it ended. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "registry.h"

extern char **environ;

static bool up(Mobo__V1__MachineState s)
{
	return s == MOBO__V1__MACHINE_STATE__RUNNING || s == MOBO__V1__MACHINE_STATE__PAUSED;
}

static bool over(Mobo__V1__MachineState s)
{
	return s == MOBO__V1__MACHINE_STATE__POWERED_OFF || s == MOBO__V1__MACHINE_STATE__CRASHED;
}

/* What the process wrote to stderr; mobo-machine keeps its own log beside it. */
static void output_path(const struct machine *m, char path[PATH_MAX + 32])
{
	snprintf(path, PATH_MAX + 32, "%s/logs/stderr.log", m->folder);
}

/* Its last line, for the reason of an end without a report; "" where there is none. */
static void last_words(const struct machine *m, char words[200])
{
	char path[PATH_MAX + 32], buf[600];
	char *line;
	ssize_t n = 0;
	int fd;

	words[0] = '\0';
	output_path(m, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		return;
	}
	lseek(fd, -(off_t)(sizeof(buf) - 1), SEEK_END);
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	while (n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == ' ')) {
		n--;
	}
	if (n > 0) {
		buf[n] = '\0';
		line = strrchr(buf, '\n');
		snprintf(words, 200, "%.190s", line ? line + 1 : buf);
	}
}

static void start_answer(struct machine *m, Mobo__V1__Code code)
{
	struct mobo_request *r = m->start;
	struct machine_info info;

	m->start = NULL;
	mobo_watch_destroy(m->start_timer);
	m->start_timer = NULL;
	if (!r) {
		return;
	}
	if (code == MOBO__V1__CODE__OK) {
		machine_info(m, &info);
		mobo_reply(r, &info.pb.base);
	} else {
		mobo_reply_error(r, code, "%s did not start: %s", m->name, m->reason);
	}
}

static void spawn_now(struct machine *m);

static void describe_end(int status, char text[80])
{
	if (status < 0) {
		snprintf(text, 80, "how is not known, another process started it");
	} else if (WIFSIGNALED(status)) {
		snprintf(text, 80, "signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
	} else {
		snprintf(text, 80, "exit status %d", WEXITSTATUS(status));
	}
}

void machine_remove_sockets(const struct machine *m)
{
	char dir[PATH_MAX];

	if (mobo_hub_dir(dir, sizeof(dir), m->name, NULL) == 0) {
		folder_remove_all(dir);
	}
}

static void process_ended(void *arg, int pid, int status)
{
	struct machine *m = arg;
	struct registry *reg = m->registry;
	char how[80], words[200];
	bool waiting = m->start && over(m->state) && m->pid && !m->start_timer;

	mobo_watch_destroy(m->process);
	m->process = NULL;
	m->pid = 0;
	m->rpc_endpoint[0] = '\0';
	if (!over(m->state)) {
		describe_end(status, how);
		last_words(m, words);
		machine_set_state(m, MOBO__V1__MACHINE_STATE__CRASHED,
				  "mobo-machine ended without saying goodbye: %s%s%s", how,
				  words[0] ? "; its last words: " : "", words);
		machine_remove_sockets(m);
	}
	if (waiting) {
		spawn_now(m); /* a start came while the last run was ending */
		return;
	}
	start_answer(m, MOBO__V1__CODE__FAILED_PRECONDITION);
	if (m->transient) {
		folder_remove_all(m->folder);
		machine_remove(m);
	}
	registry_idle_check(reg);
}

void machine_watch(struct machine *m, int pid)
{
	mobo_watch_destroy(m->process);
	m->pid = pid;
	m->process = mobo_loop_child(m->registry->loop, pid, process_ended, m);
	if (!m->process) {
		m->pid = 0; /* it is gone already */
	}
}

void machine_reported(struct machine *m, const Mobo__V1__ReportState *rep)
{
	if (rep->pid && (int)rep->pid != m->pid) {
		machine_watch(m, (int)rep->pid);
	}
	snprintf(m->rpc_endpoint, sizeof(m->rpc_endpoint), "%s",
		 over(rep->state) ? "" : rep->rpc_endpoint);
	machine_set_state(m, rep->state, "%s", rep->reason);
	if (up(rep->state)) {
		start_answer(m, MOBO__V1__CODE__OK);
	} else if (over(rep->state) && m->start_timer) {
		start_answer(m, MOBO__V1__CODE__FAILED_PRECONDITION);
	}
}

/* -- Spawning -- */

static void start_timeout(void *arg)
{
	struct machine *m = arg;

	snprintf(m->reason, sizeof(m->reason), "process %d has not reported for %d s", m->pid,
		 START_TIMEOUT_MS / 1000);
	start_answer(m, MOBO__V1__CODE__DEADLINE_EXCEEDED);
}

static int open_output(const struct machine *m)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/logs", m->folder);
	mkdir(path, 0700);
	output_path(m, path);
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* A session of its own, default signals, no descriptors but the standard three. */
static int spawn(struct machine *m, char *const argv[])
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	pid_t pid;
	int r, out = open_output(m);

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (out >= 0) {
		posix_spawn_file_actions_adddup2(&actions, out, 1);
		posix_spawn_file_actions_adddup2(&actions, out, 2);
	} else {
		posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
		posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	}
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSID);
	r = posix_spawn(&pid, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (out >= 0) {
		close(out);
	}
	return r ? -r : pid;
}

static void spawn_now(struct machine *m)
{
	char path[PATH_MAX];
	char *argv[8] = {path, (char *)"--folder", m->folder, (char *)"--name", m->name};
	unsigned n = 5;
	int r = mobo_find_executable("mobo-machine", path);

	if (m->start_paused) {
		argv[n++] = (char *)"--paused";
	}
	if (m->transient) {
		argv[n++] = (char *)"--transient";
	}
	r = r < 0 ? r : spawn(m, argv);
	if (r < 0) {
		machine_set_state(m, MOBO__V1__MACHINE_STATE__CRASHED,
				  "cannot start mobo-machine: %s", strerror(-r));
		start_answer(m, MOBO__V1__CODE__INTERNAL);
		return;
	}
	machine_watch(m, r);
	machine_set_state(m, MOBO__V1__MACHINE_STATE__STARTING, "%s", "");
	mobo_watch_destroy(m->start_timer);
	m->start_timer = mobo_loop_timer(m->registry->loop,
					 mobo_monotonic_ns() + START_TIMEOUT_MS * 1000000ull,
					 start_timeout, m);
}

void machine_start(struct machine *m, struct mobo_request *r, bool paused)
{
	struct mobo_error err = {0};
	Mobo__V1__Settings *s;
	char file[PATH_MAX];

	if (m->start || (m->pid && !over(m->state))) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "%s runs already, as process %d", m->name, m->pid);
		return;
	}
	machine_settings_file(m, file);
	if (mobo_settings_load(file, &s, &err) < 0) {
		mobo_reply_errno(r, &err);
		return;
	}
	index_put_media(m->registry->index, m, s);
	mobo_settings_free(s);
	m->start = r;
	m->start_paused = paused;
	if (!m->pid) {
		spawn_now(m);
	} /* else process_ended() does, when the last run is over */
}
