/* SPDX-License-Identifier: Apache-2.0 */
/* Checking keys and values against the table. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

/* Does the key fit the pattern ("disk.N.file", N below the section's count)? */
static bool fits(const char *pattern, const char *key)
{
	const char *n = strstr(pattern, ".N.");
	size_t head = n ? (size_t)(n - pattern) : 0, digits;
	unsigned long index;

	if (!n) {
		return strcmp(pattern, key) == 0;
	}
	if (strncmp(pattern, key, head + 1) != 0) {
		return false;
	}
	digits = strspn(key + head + 1, "0123456789");
	if (digits < 1 || digits > 4 || (digits > 1 && key[head + 1] == '0') ||
	    strcmp(key + head + 1 + digits, n + 2) != 0) {
		return false;
	}
	index = strtoul(key + head + 1, NULL, 10);
	for (const struct setting_section *s = settings_sections; s->name; s++) {
		if (strlen(s->name) == head && strncmp(s->name, pattern, head) == 0) {
			return index < s->count;
		}
	}
	return false;
}

const struct mobo_setting_info *mobo_settings_find(const char *key)
{
	for (const struct mobo_setting_info *i = mobo_settings_table; i->pattern; i++) {
		if (fits(i->pattern, key)) {
			return i;
		}
	}
	return NULL;
}

/* -- Did you mean -- */

enum { KEY_MAX = 64 };

/* Levenshtein's distance; both shorter than KEY_MAX. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[KEY_MAX + 1], n = (unsigned)strlen(b);

	for (unsigned j = 0; j <= n; j++) {
		row[j] = j;
	}
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned replace = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MOBO_MIN(MOBO_MIN(row[j] + 1, row[j - 1] + 1), replace);
		}
	}
	return row[n];
}

/* The pattern with the number that the key has, or 0. */
static void fill_number(const char *pattern, const char *key, char out[KEY_MAX])
{
	const char *n = strstr(pattern, ".N."), *digit = key + strcspn(key, "0123456789");

	if (n) {
		snprintf(out, KEY_MAX, "%.*s.%c.%s", (int)(n - pattern), pattern,
			 *digit ? *digit : '0', n + 3);
	} else {
		snprintf(out, KEY_MAX, "%s", pattern);
	}
}

int setting_key_error(const char *key, char *reason, size_t reason_len)
{
	char candidate[KEY_MAX], best[KEY_MAX] = "";
	unsigned nearest = UINT32_MAX, d;

	if (strlen(key) < KEY_MAX) {
		for (const struct mobo_setting_info *i = mobo_settings_table; i->pattern; i++) {
			const char *last = strrchr(i->pattern, '.');

			fill_number(i->pattern, key, candidate);
			d = distance(key, candidate);
			/* "append" means kernel.append */
			if (last && strcmp(last + 1, key) == 0) {
				d = 1;
			}
			if (d < nearest && mobo_settings_find(candidate)) {
				nearest = d;
				strcpy(best, candidate);
			}
		}
	}
	if (nearest <= MOBO_MAX(2u, (unsigned)strlen(key) / 3)) {
		snprintf(reason, reason_len, "unknown key \"%.64s\"; did you mean \"%s\"?", key,
			 best);
	} else {
		snprintf(reason, reason_len, "unknown key \"%.64s\"", key);
	}
	return -ENOENT;
}

/* -- Values -- */

/* One of a|b|c:*; the list ends at a NUL. */
static bool among(const char *values, const char *value, size_t len)
{
	for (const char *v = values; *v; v += strcspn(v, "|"), v += *v == '|') {
		size_t n = strcspn(v, "|");

		if (n && v[n - 1] == '*' ? len >= n && strncmp(v, value, n - 1) == 0
					 : len == n && strncmp(v, value, n) == 0) {
			return true;
		}
	}
	return false;
}

static bool items_good(const char *values, const char *value)
{
	if (!*value) {
		return true;
	}
	for (;;) {
		size_t n = strcspn(value, ",");

		if (!among(values, value, n)) {
			return false;
		}
		if (!value[n]) {
			return true;
		}
		value += n + 1;
	}
}

static bool uuid_good(const char *value)
{
	for (unsigned i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? value[i] != '-' : !isxdigit((unsigned char)value[i])) {
			return false;
		}
	}
	return !value[36];
}

static int number_good(const struct mobo_setting_info *info, enum setting_kind kind,
		       const char *value, uint64_t *number, char *reason, size_t reason_len)
{
	uint64_t min = 0, max = UINT32_MAX;
	int r = mobo_settings_parse_size(value, number);

	if (kind == SETTING_NUMBER && r == 0 && value[strspn(value, "0123456789")]) {
		r = -EINVAL;
	}
	if (r == -EINVAL) {
		snprintf(reason, reason_len, "\"%.40s\" is not a %s%s", value,
			 kind == SETTING_SIZE ? "size" : "number",
			 kind == SETTING_SIZE ? " (like 512M or 2G)" : "");
		return -EINVAL;
	}
	if (*info->min) {
		mobo_settings_parse_size(info->min, &min);
	}
	if (*info->max) {
		mobo_settings_parse_size(info->max, &max);
	}
	if (r < 0 || *number < min || *number > max) {
		snprintf(reason, reason_len, "%.40s is not between %s and %s", value,
			 *info->min ? info->min : "0", *info->max ? info->max : "4294967295");
		return -EINVAL;
	}
	return 0;
}

int setting_value_check(const struct mobo_setting_info *info, const char *value, uint64_t *number,
			char *reason, size_t reason_len)
{
	static const char *const yes[] = {"true", "yes", "on", "1"};
	static const char *const no[] = {"false", "no", "off", "0"};
	const struct setting_rule *rule = &settings_rules[info - mobo_settings_table];
	bool good = true;

	*number = 0;
	if (strlen(value) > MOBO_SETTINGS_MAX_VALUE) {
		snprintf(reason, reason_len, "the value is longer than %d bytes",
			 MOBO_SETTINGS_MAX_VALUE);
		return -EINVAL;
	}
	if (!settings_text_valid(value, strlen(value))) {
		snprintf(reason, reason_len, "the value is not one line of UTF-8 text");
		return -EINVAL;
	}
	switch (rule->kind) {
	case SETTING_TEXT: break;
	case SETTING_BOOL:
		for (unsigned i = 0; i < MOBO_ARRAY_LEN(yes); i++) {
			if (strcmp(value, yes[i]) == 0) {
				*number = 1;
				return 0;
			}
			if (strcmp(value, no[i]) == 0) {
				return 0;
			}
		}
		good = false;
		break;
	case SETTING_NUMBER:
	case SETTING_SIZE: return number_good(info, rule->kind, value, number, reason, reason_len);
	case SETTING_VALUES: good = among(rule->values, value, strlen(value)); break;
	case SETTING_ITEMS: good = items_good(rule->values, value); break;
	case SETTING_NAME: good = !*value || mobo_settings_name_valid(value); break;
	case SETTING_UUID: good = !*value || uuid_good(value); break;
	}
	if (!good) {
		snprintf(reason, reason_len, "\"%.40s\" is not good here: it takes %s", value,
			 rule->kind == SETTING_BOOL ? "true or false" : info->type);
	}
	return good ? 0 : -EINVAL;
}

int mobo_settings_check(const char *key, const char *value, struct mobo_error *err)
{
	const struct mobo_setting_info *info = mobo_settings_find(key);
	char reason[300];
	uint64_t number;

	if (!info) {
		setting_key_error(key, reason, sizeof(reason));
		return mobo_error_set(err, ENOENT, "%s", reason);
	}
	if (setting_value_check(info, value, &number, reason, sizeof(reason)) < 0) {
		return mobo_error_set(err, EINVAL, "%s: %s", key, reason);
	}
	return 0;
}
