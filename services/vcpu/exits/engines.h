/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine runs the machine. Any thread. */
#ifndef VCPU_EXITS_ENGINES_H
#define VCPU_EXITS_ENGINES_H

#include "engine.h"
#include "mobo/base.h"

enum { ENGINE_REASON_LEN = 160 };

/*
 * Of `n` engines, fastest first, the one that the setting asks for: by name, or the first usable
 * one for "auto" and "". Says in `reason` why it is that one, for `mobo show`. NULL: none, *err
 * says why, -ENODEV.
 */
const struct mobo_engine_ops *engine_choose(const struct mobo_engine_ops *const engines[],
					    unsigned n, const char *name, char *reason, size_t len,
					    struct mobo_error *err);

#endif
