/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are: XDG directories, Mobo's own executables and data files. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mobo/base.h"

struct dir_kind {
	const char *env;	/* XDG variable */
	const char *under_home; /* when it is not set; NULL: runtime directory */
};
static const struct dir_kind dir_kinds[] = {
	[MOBO_DIR_RUNTIME] = {"XDG_RUNTIME_DIR", NULL},
	[MOBO_DIR_DATA] = {"XDG_DATA_HOME", ".local/share"},
	[MOBO_DIR_STATE] = {"XDG_STATE_HOME", ".local/state"},
	[MOBO_DIR_CACHE] = {"XDG_CACHE_HOME", ".cache"},
	[MOBO_DIR_CONFIG] = {"XDG_CONFIG_HOME", ".config"},
};

static char dirs[MOBO_ARRAY_LEN(dir_kinds)][PATH_MAX];
static pthread_mutex_t dirs_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *home(void)
{
	const char *env = getenv("HOME");
	struct passwd *pw;

	if (env && env[0] == '/') {
		return env;
	}
	pw = getpwuid(getuid());
	return pw && pw->pw_dir && pw->pw_dir[0] == '/' ? pw->pw_dir : NULL;
}

/* mkdir -p with 0700 for what is missing. */
static int make_dirs(const char *path)
{
	char part[PATH_MAX];

	for (size_t i = 1; path[i - 1]; i++) {
		if (path[i] != '/' && path[i] != '\0') {
			continue;
		}
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST) {
			return -errno;
		}
	}
	return 0;
}

static int dir_path(enum mobo_dir which, char *path)
{
	const struct dir_kind *k = &dir_kinds[which];
	const char *env = getenv(k->env);
	const char *h;
	int n;

	if (env && env[0] == '/') { /* the specification: relative paths are ignored */
		n = snprintf(path, PATH_MAX, "%s/mobo", env);
	} else if (!k->under_home) {
		n = snprintf(path, PATH_MAX, "/tmp/mobo-%u", (unsigned)getuid());
	} else {
		h = home();
		if (!h) {
			return -ENOENT;
		}
		n = snprintf(path, PATH_MAX, "%s/%s/mobo", h, k->under_home);
	}
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Sockets and keys lie here: it must be ours, not something planted in /tmp. */
static int check_private(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0) {
		return -errno;
	}
	if (!S_ISDIR(st.st_mode)) {
		return -ENOTDIR;
	}
	if (st.st_uid != getuid()) {
		return -EPERM;
	}
	if ((st.st_mode & 077) && chmod(path, 0700) < 0) {
		return -errno;
	}
	return 0;
}

const char *mobo_dir(enum mobo_dir which, struct mobo_error *err)
{
	const char *result = dirs[which];
	char path[PATH_MAX];
	int r = 0;

	pthread_mutex_lock(&dirs_lock);
	if (!dirs[which][0]) {
		r = dir_path(which, path);
		if (r < 0) {
			mobo_error_set(
				err, -r,
				"No home directory is known: set HOME or %s to an absolute path.",
				dir_kinds[which].env);
			goto out;
		}
		r = make_dirs(path);
		if (r == 0 && which == MOBO_DIR_RUNTIME) {
			r = check_private(path);
		}
		if (r < 0) {
			mobo_error_set(err, -r,
				       "The directory %s cannot be used (%s). "
				       "Make it writable for this user or set %s.",
				       path, strerror(-r), dir_kinds[which].env);
			goto out;
		}
		memcpy(dirs[which], path, strlen(path) + 1);
	}
out:
	pthread_mutex_unlock(&dirs_lock);
	return r < 0 ? NULL : result;
}

static bool is_file(const char *path, int mode)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, mode) == 0;
}

/* Directory of the running executable, without a trailing slash. */
static int own_dir(char *dir)
{
	ssize_t n = readlink("/proc/self/exe", dir, PATH_MAX - 1);
	char *slash;

	if (n < 0) {
		return -errno;
	}
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (!slash) {
		return -ENOENT;
	}
	*slash = '\0';
	return 0;
}

static bool try_file(char *path, int mode, const char *dir, const char *sub, const char *name)
{
	int n = snprintf(path, PATH_MAX, "%s/%s%s", dir, sub, name);

	return n < PATH_MAX && is_file(path, mode);
}

/*
 * Looks for sub-folders `subs` of the executable's directory and of the ones above it: the build
 * tree keeps each executable in its service's folder, at most three below the root.
 */
static bool find_near(char *path, int mode, const char *const *subs, const char *name)
{
	char dir[PATH_MAX];
	char *slash;

	if (own_dir(dir) < 0) {
		return false;
	}
	for (unsigned up = 0; up < 5; up++) {
		for (unsigned i = 0; subs[i]; i++) {
			/* A file of that name in a folder above could be anybody's. */
			if ((up == 0 || subs[i][0]) && try_file(path, mode, dir, subs[i], name)) {
				return true;
			}
		}
		slash = strrchr(dir, '/');
		if (!slash || slash == dir) {
			break;
		}
		*slash = '\0';
	}
	return false;
}

int mobo_find_executable(const char *name, char *path)
{
	static const char *const subs[] = {
		"",
		"services/registry/",
		"services/machine/",
		"services/vcpu/",
		"services/display/",
		"services/devices/",
		"services/bridge/",
		"frontends/cli/",
		"frontends/gtk/",
		"frontends/sdl/",
		"frontends/rdp/",
		"tests/bench/",
		"tests/bench/guest/",
		"libexec/mobo/",
		"bin/",
		NULL,
	};
	const char *env = getenv("MOBO_LIBEXEC");

	if (env && env[0]) {
		return try_file(path, X_OK, env, "", name) ? 0 : -ENOENT;
	}
	if (find_near(path, X_OK, subs, name) || try_file(path, X_OK, MOBO_LIBEXEC_DIR, "", name)) {
		return 0;
	}
	return -ENOENT;
}

int mobo_find_data(const char *name, char *path)
{
	static const char *const subs[] = {"firmware/", "deploy/firmware/", "share/mobo/", NULL};
	const char *env = getenv("MOBO_DATA");

	if (env && env[0]) {
		return try_file(path, R_OK, env, "", name) ? 0 : -ENOENT;
	}
	if (try_file(path, R_OK, MOBO_DATA_DIR, "", name) || find_near(path, R_OK, subs, name)) {
		return 0;
	}
	return -ENOENT;
}
