/* SPDX-License-Identifier: Apache-2.0 */
/* The generated table's private half: how a value is checked, and how many a section has. */
#ifndef SETTINGS_TABLE_H
#define SETTINGS_TABLE_H

#include "mobo/settings.h"

enum setting_kind {
	SETTING_TEXT,
	SETTING_BOOL,
	SETTING_NUMBER,
	SETTING_SIZE,
	SETTING_VALUES, /* a|b|c:* */
	SETTING_ITEMS,	/* any of a|b|c, with commas */
	SETTING_NAME,
	SETTING_UUID,
};

struct setting_rule {
	enum setting_kind kind;
	const char *values;
};
/* Beside mobo_settings_table, entry by entry. */
extern const struct setting_rule settings_rules[];

/* Repeated sections: "disk" has 4; ends with NULL. */
struct setting_section {
	const char *name;
	unsigned count;
};
extern const struct setting_section settings_sections[];

/* Is it of this kind? 0 or -EINVAL with a reason that follows "KEY: ". number: where it has one. */
int setting_value_check(const struct mobo_setting_info *info, const char *value, uint64_t *number,
			char *reason, size_t reason_len);
/* -ENOENT with "unknown key ..., did you mean ...?". */
int setting_key_error(const char *key, char *reason, size_t reason_len);

/* -- store.c: values in the struct, through protobuf-c's descriptors -- */
Mobo__V1__Settings *settings_new(void); /* with defaults; NULL: out of memory */
/* key is known and value checked. 0 or -ENOMEM. */
int settings_store(Mobo__V1__Settings *s, const char *key, const struct mobo_setting_info *info,
		   const char *value, uint64_t number);
/* As text that settings_store() takes; freed by the caller. NULL: no such entry. */
char *settings_fetch(const Mobo__V1__Settings *s, const char *key,
		     const struct mobo_setting_info *info);
/* Entries of a repeated section. */
unsigned settings_count(const Mobo__V1__Settings *s, const char *section);

/* -- lines.c: the file's lines -- */
enum { LINE_MAX_LEN = 8192 };
struct settings_line {
	size_t start, end;	       /* in the text, with its newline */
	size_t value_start, value_end; /* the value as written, with its quotes */
	char *key, *value;	       /* NULL: a comment or blank line */
	unsigned number;	       /* from 1 */
};
struct settings_lines {
	struct settings_line *lines;
	size_t n;
};
/* 0, or -EINVAL/-ENOMEM with err "name:LINE: ...". */
int settings_lines_parse(const char *name, const char *text, size_t len, struct settings_lines *ret,
			 struct mobo_error *err);
void settings_lines_free(struct settings_lines *l);
/* A value as it is written in a file, quoted where needed or always; NULL: out of memory. */
char *settings_quote(const char *value, bool always);
/* The whole file; text is freed by the caller. */
int settings_read(const char *file, char **text, size_t *len, struct mobo_error *err);
bool settings_text_valid(const char *text, size_t len); /* UTF-8 without control characters */

#endif
