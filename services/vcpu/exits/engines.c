/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine runs the machine: the setting cpu.engine against what this host can. */
#include "exits/engines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *why_not(const struct mobo_engine_ops *e)
{
	return e->unusable ? e->unusable() : NULL;
}

/* The first that works; reason: what the faster ones lack. */
static const struct mobo_engine_ops *choose_any(const struct mobo_engine_ops *const engines[],
						unsigned n, char *reason, size_t len)
{
	size_t used = 0;

	snprintf(reason, len, "the fastest there is");
	for (unsigned i = 0; i < n; i++) {
		const char *why = why_not(engines[i]);

		if (!why) {
			return engines[i];
		}
		if (used < len) {
			used += (size_t)snprintf(reason + used, len - used, "%s%s: %s",
						 used ? "; " : "", engines[i]->name, why);
		}
	}
	return NULL;
}

static void list_names(const struct mobo_engine_ops *const engines[], unsigned n, char *text,
		       size_t len)
{
	size_t used = 0;

	*text = 0;
	for (unsigned i = 0; i < n && used < len; i++) {
		used += (size_t)snprintf(text + used, len - used, "%s%s", i ? ", " : "",
					 engines[i]->name);
	}
}

const struct mobo_engine_ops *engine_choose(const struct mobo_engine_ops *const engines[],
					    unsigned n, const char *name, char *reason, size_t len,
					    struct mobo_error *err)
{
	const struct mobo_engine_ops *found;
	char names[80];

	if (!*name || strcmp(name, "auto") == 0) {
		found = choose_any(engines, n, reason, len);
		if (!found) {
			mobo_error_set(err, ENODEV, "no engine can be used here: %s", reason);
		}
		return found;
	}
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(name, engines[i]->name) == 0) {
			const char *why = why_not(engines[i]);

			if (why) {
				mobo_error_set(err, ENODEV, "engine \"%s\" cannot be used here: %s",
					       name, why);
				return NULL;
			}
			snprintf(reason, len, "as set");
			return engines[i];
		}
	}
	list_names(engines, n, names, sizeof(names));
	mobo_error_set(err, ENODEV, "engine \"%s\" is not in this build, which has: %s", name,
		       names);
	return NULL;
}
