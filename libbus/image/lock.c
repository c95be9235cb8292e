/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks that keep two programs from writing one image, as QEMU takes them (its documentation calls
 * it image locking): a program holds a shared lock on byte 100 + p for each permission p that it
 * uses and on byte 200 + p for each that it does not grant to others; then it looks whether anybody
 * holds what contradicts that. Open file description locks, so they live as long as the descriptor,
 * in whatever process.
 */
#include "image_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USED = 100, DENIED = 200 };
enum { READ_CONSISTENT = 1 << 0, WRITE = 1 << 1, RESIZE = 1 << 3 }; /* bits are byte offsets */
enum { N_PERMISSIONS = 4 };

static int lock_byte(int fd, int cmd, short type, off_t byte, bool *ret_conflict)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	if (fcntl(fd, cmd, &fl) != 0) {
		return -errno;
	}
	*ret_conflict = fl.l_type != F_UNLCK;
	return 0;
}

/* Does a descriptor of a process hold a lock? Its fdinfo says so. */
static bool holds_lock(const char *fdinfo)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(fdinfo, "re");

	while (f && !found && fgets(line, sizeof(line), f)) {
		found = strncmp(line, "lock:", 5) == 0;
	}
	if (f) {
		fclose(f);
	}
	return found;
}

/* Whether process `pid` has the file open under a lock, by a descriptor that is not ours. */
static bool process_holds(const char *pid, const struct stat *file)
{
	char path[64];
	bool found = false;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir))) {
		struct stat st;

		if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && st.st_dev == file->st_dev &&
		    st.st_ino == file->st_ino) {
			snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, e->d_name);
			found = holds_lock(path);
		}
	}
	if (dir) {
		closedir(dir);
	}
	return found;
}

/* The kernel does not tell who holds such a lock: look for it. 0: not found. */
static long find_holder(int fd)
{
	struct stat file;
	struct dirent *e;
	long pid = 0;
	DIR *dir;

	if (fstat(fd, &file) != 0) {
		return 0;
	}
	dir = opendir("/proc");
	while (dir && pid == 0 && (e = readdir(dir))) {
		if (isdigit((unsigned char)e->d_name[0]) &&
		    strtol(e->d_name, NULL, 10) != getpid() && process_holds(e->d_name, &file)) {
			pid = strtol(e->d_name, NULL, 10);
		}
	}
	if (dir) {
		closedir(dir);
	}
	return pid;
}

static int busy(int fd, bool readonly, const char *path, struct mobo_error *err)
{
	long pid = find_holder(fd);
	char who[64] = "another program", comm[32] = "";

	if (pid > 0) {
		char name[64];
		FILE *f;

		snprintf(name, sizeof(name), "/proc/%ld/comm", pid);
		f = fopen(name, "re");
		if (f && fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = '\0';
		}
		if (f) {
			fclose(f);
		}
		snprintf(who, sizeof(who), "process %ld (%s)", pid, comm);
	}
	return mobo_error_set(err, EBUSY, "%s is in use by %s. Stop that first%s", path, who,
			      readonly ? "" : ", or attach the disk read-only if it only reads");
}

int mobo_image_lock(int fd, bool readonly, const char *path, struct mobo_error *err)
{
	unsigned used = READ_CONSISTENT | (readonly ? 0 : WRITE | RESIZE);
	unsigned denied = WRITE | RESIZE;
	bool conflict = false;
	int r = 0;

	for (int p = 0; r == 0 && p < N_PERMISSIONS; p++) {
		bool unused;

		if (used & (1u << p)) {
			r = lock_byte(fd, F_OFD_SETLK, F_RDLCK, USED + p, &unused);
		}
		if (r == 0 && (denied & (1u << p))) {
			r = lock_byte(fd, F_OFD_SETLK, F_RDLCK, DENIED + p, &unused);
		}
	}
	for (int p = 0; r == 0 && !conflict && p < N_PERMISSIONS; p++) {
		if (used & (1u << p)) {
			r = lock_byte(fd, F_OFD_GETLK, F_WRLCK, DENIED + p, &conflict);
		}
		if (r == 0 && !conflict && (denied & (1u << p))) {
			r = lock_byte(fd, F_OFD_GETLK, F_WRLCK, USED + p, &conflict);
		}
	}
	if (conflict || r == -EAGAIN || r == -EACCES) {
		return busy(fd, readonly, path, err);
	}
	if (r == -EINVAL || r == -ENOTSUP || r == -ENOSYS || r == -ENOLCK) {
		return 0;
	}
	return r == 0 ? 0 : mobo_error_set(err, -r, "cannot lock %s: %s", path, strerror(-r));
}
