/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's settings file: `key = value` lines, `#` comments, blank lines. What keys there are,
 * their types, defaults and limits comes from settings.proto, through a table made at build time.
 *
 * Nothing here keeps state; any thread, but two changes of one file at a time are the caller's to
 * avoid (the registry makes them).
 */
#ifndef MOBO_SETTINGS_H
#define MOBO_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mobo/base.h"
#include "mobo/v1/settings.pb-c.h"

#define MOBO_SETTINGS_FILE "machine.conf" /* in a machine's folder */

enum {
	MOBO_SETTINGS_MAX_FILE = 1 << 20, /* bytes */
	MOBO_SETTINGS_MAX_VALUE = 4096,
};

/* One kind of key. "disk.N.file" stands for disk.0.file, disk.1.file ... */
struct mobo_setting_info {
	const char *pattern;
	const char *type;	   /* "text", "number", "size", "yes/no", "a|b|c" or "path" */
	const char *default_value; /* as text; "" where empty */
	const char *min, *max;	   /* "" where there is none */
	const char *doc;
	bool live;    /* applies at once; else at the next start */
	bool is_path; /* relative to the machine's folder */
};
/* The table, ending with a NULL pattern. */
extern const struct mobo_setting_info mobo_settings_table[];
/* NULL: no such key. */
const struct mobo_setting_info *mobo_settings_find(const char *key);

/*
 * Reads a file into a struct with the defaults applied: submessages are never NULL, disk has as
 * many entries as the file mentions, serial at least one. 0, or -errno with err "FILE:LINE: what,
 * and what to do". -EINVAL: the content; others: reading it.
 */
int mobo_settings_load(const char *file, Mobo__V1__Settings **ret, struct mobo_error *err);
void mobo_settings_free(Mobo__V1__Settings *s);
/* The same from memory; name stands for the file in errors. */
int mobo_settings_parse(const char *name, const char *text, size_t len, Mobo__V1__Settings **ret,
			struct mobo_error *err);

/* Is this value good for this key? 0, -ENOENT (no such key, with "did you mean"), -EINVAL. */
int mobo_settings_check(const char *key, const char *value, struct mobo_error *err);

struct mobo_setting {
	char *key, *value; /* value as mobo_settings_change() takes it */
	bool is_default;
	const struct mobo_setting_info *info;
};
struct mobo_settings_list {
	struct mobo_setting *items;
	size_t n;
};
/* Every key with its value, in the table's order; unused disks and ports are left out. */
int mobo_settings_list(const char *file, struct mobo_settings_list *ret, struct mobo_error *err);
void mobo_settings_list_free(struct mobo_settings_list *list);

struct mobo_settings_change {
	const char *key, *value; /* NULL: back to the default */
};
/*
 * Changes values in a file: all or none. Comments, order and formatting of what is not changed
 * stay. The file is replaced as a whole (written beside, fsync, rename), so that a crash leaves the
 * old one or the new one. The result is checked first.
 */
int mobo_settings_change(const char *file, const struct mobo_settings_change *changes, size_t n,
			 struct mobo_error *err);
/* Makes a new file, with a head comment. -EEXIST: there is one. */
int mobo_settings_create(const char *file, const struct mobo_settings_change *changes, size_t n,
			 struct mobo_error *err);

/* Is it a machine's name: letters, digits, '-', '_', '.', at most 63, no leading '.' or '-'? */
bool mobo_settings_name_valid(const char *name);
/* "512M", "1G", "1048576"; K, M, G, T with 1024. 0, -EINVAL or -ERANGE. */
int mobo_settings_parse_size(const char *text, uint64_t *ret);
/* The other way, with the largest suffix that loses nothing. */
void mobo_settings_format_size(uint64_t size, char text[24]);
/* A path of the settings against the folder. 0 or -ENAMETOOLONG. */
int mobo_settings_path(const char *folder, const char *file, char *path, size_t len);

#endif
