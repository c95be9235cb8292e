/* SPDX-License-Identifier: Apache-2.0 */
/* Changing a settings file: only the lines that change, and the file as a whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "table.h"

struct text {
	char *data;
	size_t len;
};

/* Replaces [start, end) by new. 0 or -ENOMEM. */
static int text_replace(struct text *t, size_t start, size_t end, const char *new)
{
	size_t n = strlen(new);
	char *grown = malloc(t->len - (end - start) + n + 1);

	if (!grown) {
		return -ENOMEM;
	}
	memcpy(grown, t->data, start);
	memcpy(grown + start, new, n);
	memcpy(grown + start + n, t->data + end, t->len - end);
	t->len = t->len - (end - start) + n;
	grown[t->len] = '\0';
	free(t->data);
	t->data = grown;
	return 0;
}

static const struct settings_line *find(const struct settings_lines *l, const char *key)
{
	for (size_t i = 0; i < l->n; i++) {
		if (l->lines[i].key && strcmp(l->lines[i].key, key) == 0) {
			return &l->lines[i];
		}
	}
	return NULL;
}

/* Behind the last line of the same section ("disk."), else at the end. */
static size_t place_for(const struct settings_lines *l, const struct text *t, const char *key)
{
	size_t section = strcspn(key, "."), at = t->len;

	for (size_t i = 0; key[section] && i < l->n; i++) {
		const char *k = l->lines[i].key;

		if (k && strncmp(k, key, section + 1) == 0) {
			at = l->lines[i].end;
		}
	}
	return at;
}

static int insert(struct text *t, const struct settings_lines *l, const char *key,
		  const char *value)
{
	size_t at = place_for(l, t, key), len = strlen(key) + strlen(value) + 6;
	char *line = malloc(len);
	int r;

	if (!line) {
		return -ENOMEM;
	}
	snprintf(line, len, "%s%s = %s\n", at && t->data[at - 1] != '\n' ? "\n" : "", key, value);
	r = text_replace(t, at, at, line);
	free(line);
	return r;
}

static int change_one(const char *file, struct text *t, const struct mobo_settings_change *c,
		      struct mobo_error *err)
{
	const struct settings_line *line;
	struct settings_lines l;
	char *value = NULL;
	int r = settings_lines_parse(file, t->data, t->len, &l, err);

	if (r < 0) {
		return r;
	}
	line = find(&l, c->key);
	if (c->value) {
		/* Behind a closing quote a comment may stand, behind a bare value it may not. */
		value = settings_quote(c->value, line && t->data[line->value_start] == '"');
		r = !value ? -ENOMEM
		    : line ? text_replace(t, line->value_start, line->value_end, value)
			   : insert(t, &l, c->key, value);
	} else if (line) {
		r = text_replace(t, line->start, line->end, "");
	}
	free(value);
	settings_lines_free(&l);
	return r < 0 ? mobo_error_set(err, -r, "out of memory") : 0;
}

/* fsync of the folder makes the rename last. */
static void sync_folder(const char *file)
{
	char copy[PATH_MAX];
	int fd;

	snprintf(copy, sizeof(copy), "%s", file);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int replace_file(const char *file, const struct text *t, mode_t mode, bool must_be_new,
			struct mobo_error *err)
{
	char temp[PATH_MAX + 8];
	int fd, r;

	snprintf(temp, sizeof(temp), "%s.XXXXXX", file);
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0) {
		return mobo_error_set(err, errno, "cannot write beside %s: %s", file,
				      strerror(errno));
	}
	r = write_all(fd, t->data, t->len);
	if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0)) {
		r = -errno;
	}
	close(fd);
	if (r == 0 && (must_be_new ? link(temp, file) : rename(temp, file)) < 0) {
		r = -errno;
	}
	if (r < 0 || must_be_new) {
		unlink(temp);
	}
	if (r < 0) {
		return mobo_error_set(err, -r, "cannot write %s: %s", file, strerror(-r));
	}
	sync_folder(file);
	return 0;
}

static int check_changes(const struct mobo_settings_change *changes, size_t n,
			 struct mobo_error *err)
{
	char reason[300];
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (changes[i].value) {
			r = mobo_settings_check(changes[i].key, changes[i].value, err);
		} else if (!mobo_settings_find(changes[i].key)) {
			setting_key_error(changes[i].key, reason, sizeof(reason));
			r = mobo_error_set(err, ENOENT, "%s", reason);
		}
	}
	return r;
}

static int apply(const char *file, struct text *t, const struct mobo_settings_change *changes,
		 size_t n, struct mobo_error *err)
{
	Mobo__V1__Settings *s;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		r = change_one(file, t, &changes[i], err);
	}
	r = r < 0 ? r : mobo_settings_parse(file, t->data, t->len, &s, err);
	if (r == 0) {
		mobo_settings_free(s);
	}
	return r;
}

int mobo_settings_change(const char *file, const struct mobo_settings_change *changes, size_t n,
			 struct mobo_error *err)
{
	struct mobo_error own = {0};
	struct text t = {0};
	char real[PATH_MAX];
	struct stat st;
	int r;

	err = err ? err : &own;
	r = check_changes(changes, n, err);
	if (r < 0) {
		return r;
	}
	/* The file behind a link is replaced, not the link. */
	if (!realpath(file, real) || stat(real, &st) < 0) {
		return mobo_error_set(err, errno, "cannot open %s: %s", file, strerror(errno));
	}
	r = settings_read(real, &t.data, &t.len, err);
	r = r < 0 ? r : apply(file, &t, changes, n, err);
	r = r < 0 ? r : replace_file(real, &t, st.st_mode & 0777, false, err);
	free(t.data);
	return r;
}

int mobo_settings_create(const char *file, const struct mobo_settings_change *changes, size_t n,
			 struct mobo_error *err)
{
	static const char head[] = "# Settings of a Mobo machine. A line is `key = value`; what is "
				   "not here has its default.\n"
				   "# `mobo set NAME` lists the keys, and changes them keeping "
				   "your comments.\n\n";
	struct mobo_error own = {0};
	struct text t = {strdup(head), strlen(head)};
	int r;

	err = err ? err : &own;
	if (!t.data) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	r = check_changes(changes, n, err);
	r = r < 0 ? r : apply(file, &t, changes, n, err);
	r = r < 0 ? r : replace_file(file, &t, 0600, true, err);
	free(t.data);
	return r;
}
