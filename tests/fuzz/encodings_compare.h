/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing the two sides' results, and telling what differs.
 */
#ifndef TESTS_FUZZ_ENCODINGS_COMPARE_H
#define TESTS_FUZZ_ENCODINGS_COMPARE_H

#include <stdio.h>

#include "encodings.h"

/* Whether the results differ; with a file, each difference is written to it, a line each. */
bool fz_differs(const struct fz_result *native, const struct fz_result *guest, FILE *f);
/* The case (all of it, or only the instruction) and how its results differ. */
void fz_report(FILE *f, const struct fz_case *c, uint32_t mode, const struct fz_result *native,
	       const struct fz_result *guest, bool all);

#endif
