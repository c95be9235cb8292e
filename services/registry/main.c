/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-registry's life: into the background, ready, idle, gone. Started by the first client
 * (mobo_registry_connect()), by systemd's socket activation, or by hand with --foreground.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "registry.h"

enum { LOG_FILE_MAX = 1 << 20, LISTEN_FDS_START = 3 };

static void usage(FILE *out)
{
	fputs("usage: mobo-registry [--foreground] [--idle-timeout SECONDS]\n"
	      "The librarian of your machines. Started by whoever needs it; ends when nobody does\n"
	      "(0 seconds: never).\n",
	      out);
}

/* -- Idle -- */

static void idle_cb(void *arg)
{
	struct registry *reg = arg;

	mobo_info("nobody needs the registry any more");
	mobo_loop_stop(reg->loop);
}

void registry_idle_check(struct registry *reg)
{
	bool needed = !reg->idle_ns || !reg->hub || mobo_hub_members(reg->hub);

	for (struct machine *m = reg->machines; m && !needed; m = m->next) {
		needed = machine_active(m);
	}
	if (reg->idle) {
		mobo_watch_timer(reg->idle,
				 needed ? UINT64_MAX : mobo_monotonic_ns() + reg->idle_ns);
	}
}

static void on_joined(void *arg, uint32_t node, const Mobo__V1__Hello *hello)
{
	registry_idle_check(arg);
}

static void on_left(void *arg, uint32_t node, const char *name)
{
	registry_idle_check(arg);
}

static void on_signal(void *arg, int signum)
{
	mobo_loop_stop(((struct registry *)arg)->loop);
}

/* -- Starting -- */

/* Known folders, when the index was lost. */
static void rebuild(struct registry *reg)
{
	const char *data = mobo_dir(MOBO_DIR_DATA, NULL);
	char all[PATH_MAX], folder[PATH_MAX + 300], file[PATH_MAX];
	Mobo__V1__Settings *s;
	struct machine *m;
	struct dirent *e;
	struct stat st;
	DIR *d;

	snprintf(all, sizeof(all), "%s/machines", data ? data : "");
	d = opendir(all);
	while (d && (e = readdir(d))) {
		snprintf(folder, sizeof(folder), "%s/%s", all, e->d_name);
		if (!mobo_settings_name_valid(e->d_name) ||
		    mobo_settings_path(folder, MOBO_SETTINGS_FILE, file, sizeof(file)) < 0 ||
		    stat(file, &st) < 0) {
			continue;
		}
		m = NULL;
		if (mobo_settings_load(file, &s, NULL) == 0) {
			if (s->name[0] && !machine_find(reg, s->name)) {
				m = machine_add(reg, s->name, folder, false);
			}
			mobo_settings_free(s);
		}
		if (!m && !machine_find(reg, e->d_name)) {
			m = machine_add(reg, e->d_name, folder, false);
		}
		if (m) {
			index_put(reg->index, m);
		}
	}
	if (d) {
		closedir(d);
	}
}

static int open_index(struct registry *reg, struct mobo_error *err)
{
	const char *state = mobo_dir(MOBO_DIR_STATE, err);
	char path[PATH_MAX];
	struct stat st;
	bool lost;
	int r;

	if (!state) {
		return -EIO;
	}
	snprintf(path, sizeof(path), "%s/index.db", state);
	lost = stat(path, &st) < 0;
	r = index_open(&reg->index, path, &(bool){false}, err);
	if (r < 0) {
		return r;
	}
	index_load(reg->index, reg);
	if (lost || !reg->machines) {
		rebuild(reg);
	}
	return 0;
}

static int given_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
	int fd = 0;

	if (pid && n && atoi(pid) == (int)getpid() && atoi(n) == 1) {
		fd = LISTEN_FDS_START;
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return fd;
}

static int start(struct registry *reg, struct mobo_error *err)
{
	char dir[PATH_MAX];
	struct mobo_hub_options opt = {.name = "registry",
				       .dir = dir,
				       .joined = on_joined,
				       .left = on_left,
				       .arg = reg,
				       .listen_fd = given_socket()};
	int r = mobo_hub_dir(dir, sizeof(dir), NULL, err);

	if (r == 0 && mobo_loop_create(&reg->loop) < 0) {
		r = mobo_error_set(err, ENOMEM, "out of memory");
	}
	/* The hub first: its lock makes us the only one at the index. Clients wait meanwhile. */
	r = r < 0 ? r : mobo_hub_create(&reg->hub, reg->loop, &opt, err);
	r = r < 0 ? r : open_index(reg, err);
	if (r < 0) {
		return r;
	}
	verbs_serve(reg);
	registry_adopt(reg);
	reg->idle = mobo_loop_timer(reg->loop, UINT64_MAX, idle_cb, reg);
	reg->signals[0] = mobo_loop_signal(reg->loop, SIGTERM, on_signal, reg);
	reg->signals[1] = mobo_loop_signal(reg->loop, SIGINT, on_signal, reg);
	registry_idle_check(reg);
	return 0;
}

/* Machines run on; the next registry finds them. Transient ones that never ran go. */
static void finish(struct registry *reg)
{
	struct machine *m;

	while ((m = reg->machines)) {
		if (m->transient && !machine_active(m)) {
			folder_remove_all(m->folder);
			machine_remove(m);
			continue;
		}
		reg->machines = m->next;
		mobo_watch_destroy(m->process);
		mobo_watch_destroy(m->start_timer);
		if (m->start) {
			mobo_reply_error(m->start, MOBO__V1__CODE__UNAVAILABLE,
					 "the registry ends; the machine may yet start");
		}
		free(m->folder);
		free(m);
	}
	mobo_hub_destroy(reg->hub);
	index_close(reg->index);
	mobo_loop_destroy(reg->loop);
}

/* -- The background -- */

/* Waits in the parent until the child serves or fails; its status is ours. */
static int wait_ready(int fd)
{
	char ready = 1;
	ssize_t n;

	do {
		n = read(fd, &ready, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? ready : 1;
}

/* In the child: the pipe that says ready. -1: foreground. Does not return in the parent. */
static int go_background(void)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0) {
		return -1;
	}
	pid = fork(); /* no thread yet */
	if (pid < 0) {
		close(p[0]);
		close(p[1]);
		return -1;
	}
	if (pid > 0) {
		close(p[1]);
		_exit(wait_ready(p[0]));
	}
	close(p[0]);
	setsid();
	if (chdir("/") < 0) {
		mobo_debug("chdir: %s", strerror(errno));
	}
	return p[1];
}

/* stderr goes to a file that does not grow for ever. */
static void keep_log(void)
{
	const char *state = mobo_dir(MOBO_DIR_STATE, NULL);
	char path[PATH_MAX];
	struct stat st;
	int fd, null;

	snprintf(path, sizeof(path), "%s/registry.log", state ? state : "");
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > LOG_FILE_MAX && ftruncate(fd, 0) < 0) {
		mobo_debug("cannot cut %s", path);
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, 0);
	dup2(null, 1);
	dup2(fd >= 0 ? fd : null, 2);
	close(null);
	if (fd >= 0) {
		close(fd);
	}
}

static void say_ready(int fd)
{
	if (fd >= 0) {
		keep_log();
		if (write(fd, "", 1) != 1) {
			mobo_debug("nobody waits for the registry");
		}
		close(fd);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"foreground", no_argument, NULL, 'f'},
						{"idle-timeout", required_argument, NULL, 'i'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct registry reg = {.idle_ns = IDLE_DEFAULT_S * 1000000000ull};
	struct mobo_error err = {0};
	bool foreground = getenv("LISTEN_FDS") != NULL;
	int c, ready = -1, r;

	mobo_log_init("registry");
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'f': foreground = true; break;
		case 'i': reg.idle_ns = strtoull(optarg, NULL, 10) * 1000000000ull; break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (!foreground) {
		ready = go_background();
	}
	r = start(&reg, &err);
	if (r == -EADDRINUSE && ready >= 0) {
		say_ready(ready); /* somebody else was first: as good */
	} else if (r < 0) {
		mobo_error("%s", err.text);
	} else {
		say_ready(ready);
		mobo_loop_run(reg.loop);
	}
	finish(&reg);
	return r < 0 && r != -EADDRINUSE;
}
