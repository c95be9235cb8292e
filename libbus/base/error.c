/* SPDX-License-Identifier: Apache-2.0 */
/* struct mobo_error: an errno with words. */
#include <stdarg.h>
#include <stdio.h>

#include "mobo/base.h"

int mobo_error_set(struct mobo_error *err, int err_no, const char *fmt, ...)
{
	int code = err_no < 0 ? -err_no : err_no;
	va_list ap;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
		va_end(ap);
	}
	return -code;
}
