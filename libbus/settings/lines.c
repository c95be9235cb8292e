/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a settings file, and where in each the value stands. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "table.h"

bool settings_text_valid(const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text, *end = p + len;

	while (p < end) {
		unsigned more = *p < 0x80	      ? 0
				: (*p & 0xe0) == 0xc0 ? 1
				: (*p & 0xf0) == 0xe0 ? 2
						      : 3;
		uint32_t c = more == 0 ? *p : *p & (0x3fu >> more);

		if ((*p < 0x20 && *p != '\t') || *p == 0x7f || (*p >= 0x80 && *p < 0xc2) ||
		    *p > 0xf4 || (size_t)(end - p) <= more) {
			return false;
		}
		for (unsigned i = 1; i <= more; i++) {
			if ((p[i] & 0xc0) != 0x80) {
				return false;
			}
			c = c << 6 | (p[i] & 0x3f);
		}
		/* overlong forms, surrogates, beyond Unicode */
		if ((more == 2 && c < 0x800) || (more == 3 && (c < 0x10000 || c > 0x10ffff)) ||
		    (c >= 0xd800 && c < 0xe000)) {
			return false;
		}
		p += more + 1;
	}
	return true;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static size_t skip_blank(const char *text, size_t at, size_t end)
{
	while (at < end && blank(text[at])) {
		at++;
	}
	return at;
}

/* "..." with \" and \\; behind it blanks or a comment. NULL: malformed. */
static const char *take_quoted(const char *text, size_t end, struct settings_line *l)
{
	size_t at = l->value_start + 1, n = 0;

	l->value = malloc(end - l->value_start + 1);
	if (!l->value) {
		return "out of memory";
	}
	while (at < end && text[at] != '"') {
		if (text[at] == '\\') {
			at++;
			if (at >= end || (text[at] != '"' && text[at] != '\\')) {
				return "in quotes, a backslash stands before a quote or a "
				       "backslash";
			}
		}
		l->value[n++] = text[at++];
	}
	if (at >= end) {
		return "the closing quote is missing";
	}
	l->value[n] = '\0';
	l->value_end = at + 1;
	at = skip_blank(text, at + 1, end);
	if (at < end && text[at] != '#') {
		return "there is text behind the closing quote";
	}
	return NULL;
}

/* One line without its newline. Returns what is wrong, or NULL. */
static const char *take_line(const char *text, size_t end, struct settings_line *l)
{
	size_t at = skip_blank(text, l->start, end), key = at;

	if (at == end || text[at] == '#') {
		return NULL;
	}
	while (at < end && !blank(text[at]) && text[at] != '=') {
		at++;
	}
	if (at == key) {
		return "a key is missing before \"=\"";
	}
	l->key = strndup(text + key, at - key);
	if (!l->key) {
		return "out of memory";
	}
	at = skip_blank(text, at, end);
	if (at == end || text[at] != '=') {
		return "\"=\" is missing: a line is `key = value`, a comment begins with #";
	}
	at = skip_blank(text, at + 1, end);
	l->value_start = at;
	if (at < end && text[at] == '"') {
		return take_quoted(text, end, l);
	}
	while (end > at && blank(text[end - 1])) {
		end--;
	}
	l->value_end = end;
	l->value = strndup(text + at, end - at);
	return l->value ? NULL : "out of memory";
}

static const char *check_line(const char *text, size_t len)
{
	if (len > LINE_MAX_LEN) {
		return "the line is too long";
	}
	return settings_text_valid(text, len) ? NULL : "the line is not UTF-8 text";
}

int settings_lines_parse(const char *name, const char *text, size_t len, struct settings_lines *ret,
			 struct mobo_error *err)
{
	struct settings_lines l = {0};
	const char *wrong = NULL;

	for (size_t at = 0; at < len && !wrong;) {
		const char *newline = memchr(text + at, '\n', len - at);
		size_t end = newline ? (size_t)(newline - text) : len;
		struct settings_line *grown;

		if ((l.n & (l.n + 1)) == 0) { /* 0, 1, 3, 7 ...: full */
			grown = realloc(l.lines, 2 * (l.n + 1) * sizeof(*grown));
			if (!grown) {
				wrong = "out of memory";
				break;
			}
			l.lines = grown;
		}
		l.lines[l.n] = (struct settings_line){.start = at,
						      .end = newline ? end + 1 : end,
						      .number = (unsigned)l.n + 1};
		if (end > at && text[end - 1] == '\r') {
			end--;
		}
		wrong = check_line(text + at, end - at);
		wrong = wrong ? wrong : take_line(text, end, &l.lines[l.n]);
		at = l.lines[l.n++].end;
	}
	if (wrong) {
		mobo_error_set(err, EINVAL, "%s:%zu: %s", name, l.n, wrong);
		settings_lines_free(&l);
		return -EINVAL;
	}
	*ret = l;
	return 0;
}

void settings_lines_free(struct settings_lines *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->lines[i].key);
		free(l->lines[i].value);
	}
	free(l->lines);
	memset(l, 0, sizeof(*l));
}

char *settings_quote(const char *value, bool always)
{
	size_t len = strlen(value), n = 0;
	char *out = malloc(2 * len + 3);

	if (!out) {
		return NULL;
	}
	if (!always && (!len || (value[0] != '"' && !blank(value[0]) && !blank(value[len - 1])))) {
		strcpy(out, value);
		return out;
	}
	out[n++] = '"';
	for (const char *c = value; *c; c++) {
		if (*c == '"' || *c == '\\') {
			out[n++] = '\\';
		}
		out[n++] = *c;
	}
	out[n++] = '"';
	out[n] = '\0';
	return out;
}

int settings_read(const char *file, char **text, size_t *len, struct mobo_error *err)
{
	struct stat st;
	ssize_t n = 0;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		return mobo_error_set(err, errno, "cannot open %s: %s", file, strerror(errno));
	}
	*text = NULL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		mobo_error_set(err, EINVAL, "%s is not a file", file);
		goto fail;
	}
	if (st.st_size > MOBO_SETTINGS_MAX_FILE) {
		mobo_error_set(err, EFBIG, "%s is too long for a settings file", file);
		goto fail;
	}
	*text = malloc((size_t)st.st_size + 1);
	if (!*text) {
		mobo_error_set(err, ENOMEM, "out of memory");
		goto fail;
	}
	*len = 0;
	while (*len < (size_t)st.st_size &&
	       (n = read(fd, *text + *len, (size_t)st.st_size - *len)) > 0) {
		*len += (size_t)n;
	}
	if (n < 0) {
		mobo_error_set(err, errno, "cannot read %s: %s", file, strerror(errno));
		goto fail;
	}
	(*text)[*len] = '\0';
	close(fd);
	return 0;
fail:
	close(fd);
	free(*text);
	*text = NULL;
	return err ? -err->code : -EIO;
}
