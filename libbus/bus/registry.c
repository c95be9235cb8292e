/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the registry, or starting it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mobo/registry.h"

enum { CONNECT_MS = 5000, START_ATTEMPTS = 3, RETRY_MS = 20, RETRIES = 250 };

extern char **environ;

static bool nobody_there(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED || r == -ECONNRESET;
}

/* One starter at a time; the others find the registry when it is their turn. */
static int start_lock(struct mobo_error *err)
{
	const char *runtime = mobo_dir(MOBO_DIR_RUNTIME, err);
	char path[PATH_MAX];
	int fd;

	if (!runtime) {
		return err ? -err->code : -EIO;
	}
	snprintf(path, sizeof(path), "%s/registry.start", runtime);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return mobo_error_set(err, errno, "cannot open %s: %s", path, strerror(errno));
	}
	for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i == RETRIES || errno != EWOULDBLOCK) {
			close(fd);
			return mobo_error_set(err, ETIMEDOUT,
					      "another process has been starting the registry for "
					      "long: see %s",
					      path);
		}
		poll(NULL, 0, RETRY_MS);
	}
	return fd;
}

/* Runs mobo-registry, which returns when it serves in the background; its words are the error. */
static int start_registry(struct mobo_error *err)
{
	char path[PATH_MAX], words[400] = "";
	char *argv[] = {path, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	size_t len = 0;
	ssize_t n;
	int p[2], status = 0, r;
	pid_t pid;

	r = mobo_find_executable("mobo-registry", path);
	if (r < 0) {
		return mobo_error_set(err, -r,
				      "mobo-registry is not installed beside this program");
	}
	if (pipe2(p, O_CLOEXEC) < 0) {
		return mobo_error_set(err, errno, "cannot make a pipe: %s", strerror(errno));
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, p[1], 2);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	r = posix_spawn(&pid, path, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	close(p[1]);
	if (r) {
		close(p[0]);
		return mobo_error_set(err, r, "cannot start %s: %s", path, strerror(r));
	}
	while (len < sizeof(words) - 1 &&
	       ((n = read(p[0], words + len, sizeof(words) - 1 - len)) > 0 ||
		(n < 0 && errno == EINTR))) {
		len += n > 0 ? (size_t)n : 0;
	}
	close(p[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	words[strcspn(words, "\n")] = '\0';
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		return mobo_error_set(err, EIO, "the registry could not be started: %s",
				      words[0] ? words : path);
	}
	return 0;
}

int mobo_registry_join(struct mobo_bus **ret, struct mobo_loop *loop,
		       const struct mobo_bus_options *opt, bool start, struct mobo_error *err)
{
	struct mobo_bus_options own = *opt;
	char dir[PATH_MAX], endpoint[PATH_MAX + 16];
	int lock, r = mobo_hub_dir(dir, sizeof(dir), NULL, err);

	if (r < 0) {
		return r;
	}
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", dir);
	own.endpoint = endpoint;
	r = mobo_bus_connect(ret, loop, &own, CONNECT_MS, err);
	/* It may end for want of clients while we connect: once more then. */
	for (unsigned i = 0; start && nobody_there(r) && i < START_ATTEMPTS; i++) {
		lock = start_lock(err);
		if (lock < 0) {
			return lock;
		}
		r = mobo_bus_connect(ret, loop, &own, CONNECT_MS, err);
		if (nobody_there(r)) {
			r = start_registry(err);
			r = r < 0 ? r : mobo_bus_connect(ret, loop, &own, CONNECT_MS, err);
		}
		close(lock);
	}
	return r;
}

int mobo_registry_connect(struct mobo_bus **ret, struct mobo_loop *loop, const char *client_name,
			  bool start, struct mobo_error *err)
{
	struct mobo_bus_options opt = {.role = MOBO__V1__ROLE__OPERATOR, .name = client_name};

	return mobo_registry_join(ret, loop, &opt, start, err);
}
