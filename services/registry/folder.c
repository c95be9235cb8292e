/* SPDX-License-Identifier: Apache-2.0 */
/* Machines' folders: making them, and removing what in them is Mobo's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry.h"

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	if (remove(path) < 0) {
		mobo_warning("cannot remove %s: %s", path, strerror(errno));
	}
	return 0;
}

void folder_remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

int folder_make(const char *path, struct mobo_error *err)
{
	char part[PATH_MAX];
	int existed = 0;

	if (path[0] != '/' || strlen(path) >= sizeof(part)) {
		return mobo_error_set(err, EINVAL, "a folder is an absolute path, not \"%.200s\"",
				      path);
	}
	for (size_t i = 1; path[i - 1]; i++) {
		if (path[i] != '/' && path[i] != '\0') {
			continue;
		}
		memcpy(part, path, i);
		part[i] = '\0';
		existed = 0;
		if (mkdir(part, 0700) < 0) {
			if (errno != EEXIST) {
				return mobo_error_set(err, errno, "cannot make the folder %s: %s",
						      part, strerror(errno));
			}
			existed = 1;
		}
	}
	return existed;
}

int folder_transient(const char *name, char path[PATH_MAX], struct mobo_error *err)
{
	const char *runtime = mobo_dir(MOBO_DIR_RUNTIME, err);

	if (!runtime) {
		return err ? -err->code : -EIO;
	}
	snprintf(path, PATH_MAX, "%s/transient/%s", runtime, name);
	return 0;
}

/* -- What is ours -- */

static int path_add(struct path_list *l, const char *path)
{
	char **grown = realloc(l->paths, (l->n + 1) * sizeof(*grown));

	if (!grown) {
		return -ENOMEM;
	}
	l->paths = grown;
	grown[l->n] = strdup(path);
	return grown[l->n] && ++l->n ? 0 : -ENOMEM;
}

void path_list_free(struct path_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->paths[i]);
	}
	free(l->paths);
	memset(l, 0, sizeof(*l));
}

/* Adds a regular file once. */
static int add_file(struct path_list *l, const char *path)
{
	struct stat st;

	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->paths[i], path) == 0) {
			return 0;
		}
	}
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? path_add(l, path) : 0;
}

static int add_logs(struct path_list *l, const struct machine *m)
{
	char dir[PATH_MAX + 8], path[PATH_MAX + 300];
	struct dirent *e;
	int r = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/logs", m->folder);
	d = opendir(dir);
	while (d && r == 0 && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		r = add_file(l, path);
	}
	if (d) {
		closedir(d);
	}
	return r;
}

/* Images inside the folder; what lies elsewhere may be somebody else's. */
static int add_disks(struct path_list *l, const struct machine *m, const Mobo__V1__Settings *s)
{
	char path[PATH_MAX], real[PATH_MAX], folder[PATH_MAX];
	int r = 0;

	if (!realpath(m->folder, folder)) {
		return 0;
	}
	for (size_t i = 0; i < s->n_disk && r == 0; i++) {
		if (s->disk[i]->file[0] &&
		    mobo_settings_path(m->folder, s->disk[i]->file, path, sizeof(path)) == 0 &&
		    realpath(path, real) && strncmp(real, folder, strlen(folder)) == 0 &&
		    real[strlen(folder)] == '/') {
			r = add_file(l, real);
		}
	}
	return r;
}

int folder_own_files(const struct machine *m, struct path_list *ret, struct mobo_error *err)
{
	struct path_list l = {0};
	Mobo__V1__Settings *s;
	char file[PATH_MAX];
	int r = 0;

	machine_settings_file(m, file);
	/* Unreadable settings name no disks; those stay then. */
	if (mobo_settings_load(file, &s, NULL) == 0) {
		r = add_disks(&l, m, s);
		mobo_settings_free(s);
	}
	r = r < 0 ? r : add_logs(&l, m);
	r = r < 0 ? r
		  : add_file(&l, file); /* last: as long as it is there, it can be tried again */
	if (r < 0) {
		path_list_free(&l);
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	*ret = l;
	return 0;
}

int folder_remove_files(const struct machine *m, const struct path_list *files,
			struct mobo_error *err)
{
	char dir[PATH_MAX + 8];

	for (size_t i = 0; i < files->n; i++) {
		if (unlink(files->paths[i]) < 0 && errno != ENOENT) {
			return mobo_error_set(err, errno, "cannot delete %s: %s", files->paths[i],
					      strerror(errno));
		}
	}
	snprintf(dir, sizeof(dir), "%s/logs", m->folder);
	rmdir(dir);
	rmdir(m->folder); /* when nothing of the user's is in it */
	return 0;
}
