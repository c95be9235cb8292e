/* SPDX-License-Identifier: Apache-2.0 */
/* MOBO_ASSERT()'s far end: say where, then abort, so that a core and a line of log remain. */
#include <stdlib.h>

#include "mobo/base.h"
#include "mobo/log.h"

_Noreturn void mobo_assert_failed(const char *cond, const char *file, int line)
{
	mobo_error("internal error: %s does not hold at %s:%d", cond, file, line);
	abort();
}
