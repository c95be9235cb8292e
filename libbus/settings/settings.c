/* SPDX-License-Identifier: Apache-2.0 */
/* A settings file as a struct and as a list. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

static int apply_line(const char *name, const struct settings_lines *l, size_t at,
		      Mobo__V1__Settings *s, struct mobo_error *err)
{
	const struct settings_line *line = &l->lines[at];
	const struct mobo_setting_info *info = mobo_settings_find(line->key);
	char reason[300];
	uint64_t number;

	if (!info) {
		setting_key_error(line->key, reason, sizeof(reason));
		return mobo_error_set(err, EINVAL, "%s:%u: %s", name, line->number, reason);
	}
	for (size_t i = 0; i < at; i++) {
		if (l->lines[i].key && strcmp(l->lines[i].key, line->key) == 0) {
			return mobo_error_set(
				err, EINVAL,
				"%s:%u: \"%s\" is set twice; the first time in line %u", name,
				line->number, line->key, l->lines[i].number);
		}
	}
	if (setting_value_check(info, line->value, &number, reason, sizeof(reason)) < 0) {
		return mobo_error_set(err, EINVAL, "%s:%u: %s: %s", name, line->number, line->key,
				      reason);
	}
	if (settings_store(s, line->key, info, line->value, number) < 0) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

/* The first serial port is there even if nobody mentions it. */
static int add_first_serial(Mobo__V1__Settings *s)
{
	static const char key[] = "serial.0.backend";
	const struct mobo_setting_info *info = mobo_settings_find(key);

	return s->n_serial ? 0 : settings_store(s, key, info, info->default_value, 0);
}

int mobo_settings_parse(const char *name, const char *text, size_t len, Mobo__V1__Settings **ret,
			struct mobo_error *err)
{
	struct settings_lines lines;
	Mobo__V1__Settings *s;
	int r = settings_lines_parse(name, text, len, &lines, err);

	if (r < 0) {
		return r;
	}
	s = settings_new();
	r = s ? 0 : mobo_error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < lines.n && r == 0; i++) {
		if (lines.lines[i].key) {
			r = apply_line(name, &lines, i, s, err);
		}
	}
	settings_lines_free(&lines);
	if (r == 0 && add_first_serial(s) < 0) {
		r = mobo_error_set(err, ENOMEM, "out of memory");
	}
	if (r < 0) {
		mobo_settings_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int mobo_settings_load(const char *file, Mobo__V1__Settings **ret, struct mobo_error *err)
{
	struct mobo_error own = {0};
	size_t len;
	char *text;
	int r;

	err = err ? err : &own;
	r = settings_read(file, &text, &len, err);
	if (r < 0) {
		return r;
	}
	r = mobo_settings_parse(file, text, len, ret, err);
	free(text);
	return r;
}

static int list_add(struct mobo_settings_list *list, const Mobo__V1__Settings *s, const char *key,
		    const struct mobo_setting_info *info)
{
	struct mobo_setting *grown = realloc(list->items, (list->n + 1) * sizeof(*list->items));
	struct mobo_setting *it;

	if (!grown) {
		return -ENOMEM;
	}
	list->items = grown;
	it = &grown[list->n++];
	it->key = strdup(key);
	it->value = settings_fetch(s, key, info);
	it->info = info;
	it->is_default = it->value && strcmp(it->value, info->default_value) == 0;
	return it->key && it->value ? 0 : -ENOMEM;
}

/* Consecutive patterns of a section, once per entry: disk.0.*, then disk.1.* */
static const struct mobo_setting_info *list_section(struct mobo_settings_list *list,
						    const Mobo__V1__Settings *s,
						    const struct mobo_setting_info *first, int *r)
{
	size_t head = (size_t)(strstr(first->pattern, ".N.") - first->pattern);
	const struct mobo_setting_info *i = first;
	char key[96], section[64];

	snprintf(section, sizeof(section), "%.*s", (int)head, first->pattern);
	for (unsigned n = 0; n < MOBO_MAX(settings_count(s, section), 1u); n++) {
		bool there = n < settings_count(s, section);

		for (i = first; i->pattern && strncmp(i->pattern, first->pattern, head + 3) == 0;
		     i++) {
			snprintf(key, sizeof(key), "%s.%u.%s", section, n, i->pattern + head + 3);
			*r = there && *r == 0 ? list_add(list, s, key, i) : *r;
		}
	}
	return i;
}

int mobo_settings_list(const char *file, struct mobo_settings_list *ret, struct mobo_error *err)
{
	struct mobo_settings_list list = {0};
	const struct mobo_setting_info *i = mobo_settings_table;
	Mobo__V1__Settings *s;
	int r = mobo_settings_load(file, &s, err);

	if (r < 0) {
		return r;
	}
	while (i->pattern && r == 0) {
		if (strstr(i->pattern, ".N.")) {
			i = list_section(&list, s, i, &r);
		} else {
			r = list_add(&list, s, i->pattern, i);
			i++;
		}
	}
	mobo_settings_free(s);
	if (r < 0) {
		mobo_settings_list_free(&list);
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	*ret = list;
	return 0;
}

void mobo_settings_list_free(struct mobo_settings_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->items[i].key);
		free(list->items[i].value);
	}
	free(list->items);
	memset(list, 0, sizeof(*list));
}
