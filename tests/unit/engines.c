/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine a machine gets, and what `mobo show` says of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "exits/engines.h"

static const char *missing;

static const char *why(void)
{
	return missing;
}

static const struct mobo_engine_ops fast = {.name = "fast", .unusable = why};
static const struct mobo_engine_ops slow = {.name = "slow"};
static const struct mobo_engine_ops *const both[] = {&fast, &slow};

static char reason[ENGINE_REASON_LEN];
static struct mobo_error err;

static const struct mobo_engine_ops *choose(const char *name, unsigned n)
{
	return engine_choose(both, n, name, reason, sizeof(reason), &err);
}

static void auto_takes_the_first_usable_and_says_what_others_lack(void **state)
{
	missing = NULL;
	assert_ptr_equal(choose("auto", 2), &fast);
	assert_string_equal(reason, "the fastest there is");
	assert_ptr_equal(choose("", 2), &fast);
	missing = "no petrol";
	assert_ptr_equal(choose("auto", 2), &slow);
	assert_string_equal(reason, "fast: no petrol");
	assert_null(choose("auto", 1));
	assert_string_equal(err.text, "no engine can be used here: fast: no petrol");
}

static void a_name_takes_that_one_or_none(void **state)
{
	missing = NULL;
	assert_ptr_equal(choose("slow", 2), &slow);
	assert_string_equal(reason, "as set");
	assert_ptr_equal(choose("fast", 2), &fast);
	missing = "no petrol";
	assert_null(choose("fast", 2));
	assert_string_equal(err.text, "engine \"fast\" cannot be used here: no petrol");
	assert_null(choose("warp", 2));
	assert_string_equal(err.text,
			    "engine \"warp\" is not in this build, which has: fast, slow");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(auto_takes_the_first_usable_and_says_what_others_lack),
		cmocka_unit_test(a_name_takes_that_one_or_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
