/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line prints and reads, without a bus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli.h"

static void sizes_are_short_and_in_powers_of_1024(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {{0, "0B"},	     {1023, "1023B"},	     {1536, "1.5K"},
		     {10240, "10K"}, {512ull << 20, "512M"}, {1ull << 40, "1.0T"}};
	char buf[16];

	for (size_t i = 0; i < MOBO_ARRAY_LEN(cases); i++) {
		assert_string_equal(cli_size(buf, sizeof(buf), cases[i].bytes), cases[i].text);
	}
}

static void seconds_are_numbers_in_range(void **state)
{
	static const char *const bad[] = {"", "x", "5x", "-1", "nan", "inf", "1e9"};
	struct cli cli = {.json = true};
	double s;

	assert_int_equal(cli_seconds(&cli, "0.5", &s), CLI_OK);
	assert_true(s == 0.5);
	assert_int_equal(cli_seconds(&cli, "0", &s), CLI_OK);
	for (size_t i = 0; i < MOBO_ARRAY_LEN(bad); i++) {
		assert_int_equal(cli_seconds(&cli, bad[i], &s), CLI_USAGE);
	}
}

static void failure_after_an_interruption_says_interrupted(void **state)
{
	struct cli cli = {.json = true};

	assert_int_equal(cli_fail(&cli, CLI_STATE, "x"), CLI_STATE);
	cli.interrupted = true;
	assert_int_equal(cli_fail(&cli, CLI_STATE, "x"), CLI_INTERRUPTED);
}

static void messages_become_json_by_their_descriptors(void **state)
{
	Mobo__V1__MachineInfo info = MOBO__V1__MACHINE_INFO__INIT;
	Mobo__V1__MachineList list = MOBO__V1__MACHINE_LIST__INIT;
	Mobo__V1__MachineInfo *ptr[] = {&info};
	json_object *o, *array, *field;

	info.name = "we\"b";
	info.state = MOBO__V1__MACHINE_STATE__RUNNING;
	info.memory = 3ull << 33;
	list.machines = ptr;
	list.n_machines = 1;
	o = cli_json(&list.base);
	assert_true(json_object_object_get_ex(o, "machines", &array));
	assert_int_equal(json_object_array_length(array), 1);
	array = json_object_array_get_idx(array, 0);
	assert_true(json_object_object_get_ex(array, "name", &field));
	assert_string_equal(json_object_get_string(field), "we\"b");
	assert_true(json_object_object_get_ex(array, "state", &field));
	assert_string_equal(json_object_get_string(field), "RUNNING");
	assert_true(json_object_object_get_ex(array, "memory", &field));
	assert_true(json_object_get_uint64(field) == 3ull << 33);
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_short_and_in_powers_of_1024),
		cmocka_unit_test(seconds_are_numbers_in_range),
		cmocka_unit_test(failure_after_an_interruption_says_interrupted),
		cmocka_unit_test(messages_become_json_by_their_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
