/* SPDX-License-Identifier: Apache-2.0 */
/* Values of settings that need no file: sizes, paths, names. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mobo/settings.h"

bool mobo_settings_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > 63 || name[0] == '.' || name[0] == '-') {
		return false;
	}
	for (const char *c = name; *c; c++) {
		if (!isascii((unsigned char)*c) ||
		    !(isalnum((unsigned char)*c) || strchr("-_.", *c))) {
			return false;
		}
	}
	return true;
}

int mobo_settings_parse_size(const char *text, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	uint64_t value = 0;
	unsigned shift = 0;

	if (!isdigit((unsigned char)*text)) {
		return -EINVAL;
	}
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value)) {
			return -ERANGE;
		}
	}
	if (*text) {
		suffix = strchr(suffixes, toupper((unsigned char)*text));
		if (!suffix || text[1]) {
			return -EINVAL;
		}
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (value > UINT64_MAX >> shift) {
		return -ERANGE;
	}
	*ret = value << shift;
	return 0;
}

void mobo_settings_format_size(uint64_t size, char text[24])
{
	static const char suffixes[] = "KMGT";
	unsigned n = 0;

	while (n < 4 && size && !(size & 1023)) {
		size >>= 10;
		n++;
	}
	if (n) {
		snprintf(text, 24, "%" PRIu64 "%c", size, suffixes[n - 1]);
	} else {
		snprintf(text, 24, "%" PRIu64, size);
	}
}

int mobo_settings_path(const char *folder, const char *file, char *path, size_t len)
{
	int n = file[0] == '/' ? snprintf(path, len, "%s", file)
			       : snprintf(path, len, "%s/%s", folder, file);

	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}
