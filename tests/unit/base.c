/* SPDX-License-Identifier: Apache-2.0 */
/* Small things of libbus/base and libbus/io that need no second process. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobo/base.h"
#include "mobo/io.h"
#include "mobo/log.h"

static void error_carries_words_and_code(void **state)
{
	struct mobo_error err;

	assert_int_equal(mobo_error_set(&err, ENOENT, "no %s", "disk"), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(err.text, "no disk");
	assert_int_equal(mobo_error_set(NULL, EIO, "lost"), -EIO);
}

static void runtime_directory_is_made_private(void **state)
{
	char dir[] = "/tmp/mobo-test-XXXXXX", want[64];
	struct mobo_error err = {0};
	struct stat st;

	assert_non_null(mkdtemp(dir));
	setenv("XDG_RUNTIME_DIR", dir, 1);
	snprintf(want, sizeof(want), "%s/mobo", dir);
	assert_string_equal(mobo_dir(MOBO_DIR_RUNTIME, &err), want);
	assert_int_equal(stat(want, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	rmdir(want);
	rmdir(dir);
}

static void unusable_directory_is_an_error_with_words(void **state)
{
	struct mobo_error err = {0};

	setenv("XDG_CONFIG_HOME", "/dev/null/here", 1);
	assert_null(mobo_dir(MOBO_DIR_CONFIG, &err));
	assert_int_equal(err.code, ENOTDIR);
	assert_non_null(strstr(err.text, "/dev/null/here"));
}

static void missing_executable_is_not_found(void **state)
{
	char path[PATH_MAX];

	assert_int_equal(mobo_find_executable("mobo-no-such-thing", path), -ENOENT);
}

static char logged[256];
static unsigned n_logged;

static void log_sink(void *arg, enum mobo_log_level level, uint64_t ts_ns, const char *line)
{
	snprintf(logged, sizeof(logged), "%d %s", (int)level, line);
	n_logged++;
	mobo_warning("a sink that logs does not come back to itself");
}

static void log_lines_reach_the_sink_on_one_line(void **state)
{
	mobo_log_to(log_sink, NULL);
	mobo_log_set_level(MOBO_LOG_WARNING);
	mobo_info("not at this level");
	assert_int_equal(n_logged, 0);
	mobo_error("two\nlines");
	assert_string_equal(logged, "0 two lines");
	assert_int_equal(n_logged, 1);
	mobo_log_to(NULL, NULL);
	mobo_log_set_level(MOBO_LOG_INFO);
}

static void ram_has_a_hole_below_4_gib(void **state)
{
	const struct mobo_ram ram = {.base = (uint8_t *)0x10000, .size = 0x5000, .low_len = 0x3000};
	uint64_t len = 0x2000;

	assert_ptr_equal(mobo_ram_ptr(&ram, 0x2000, &len), (void *)0x12000);
	assert_int_equal(len, 0x1000);
	assert_null(mobo_ram_ptr(&ram, 0x3000, &len));
	len = 0x9000;
	assert_ptr_equal(mobo_ram_ptr(&ram, 0x100000000, &len), (void *)0x13000);
	assert_int_equal(len, 0x2000);
	assert_true(mobo_ram_offset(&ram, 0x100002000) == UINT64_MAX);
	assert_true(mobo_ram_offset(&ram, UINT64_MAX) == UINT64_MAX);
}

static void memory_that_is_not_sealed_is_refused(void **state)
{
	int open_fd = memfd_create("open", MFD_CLOEXEC);
	int fd = mobo_memfd_create("sealed", 8192);
	size_t size;
	void *p;

	assert_int_equal(ftruncate(open_fd, 8192), 0);
	assert_null(mobo_memfd_map(open_fd, 1, true, NULL));
	assert_null(mobo_memfd_map(fd, 8193, true, NULL));
	p = mobo_memfd_map(fd, 4096, true, &size);
	assert_non_null(p);
	assert_int_equal(size, 8192);
	assert_true(ftruncate(fd, 4096) < 0);
	munmap(p, size);
	close(fd);
	close(open_fd);
}

static void clock_freezes_and_goes_on_where_it_stood(void **state)
{
	static struct mobo_machine_page page;
	uint64_t a, b;

	assert_int_equal(mobo_clock_now_ns(&page), 0);
	assert_true(mobo_clock_to_monotonic_ns(&page, 5) == UINT64_MAX);
	mobo_clock_start(&page);
	a = mobo_clock_now_ns(&page);
	usleep(2000);
	b = mobo_clock_now_ns(&page);
	assert_true(b >= a + 2000000);
	mobo_clock_stop(&page);
	a = mobo_clock_now_ns(&page);
	assert_true(a >= b);
	usleep(2000);
	assert_true(mobo_clock_now_ns(&page) == a);
	mobo_clock_start(&page);
	b = mobo_clock_now_ns(&page);
	assert_true(b >= a && b < a + 1000000000);
	assert_true(mobo_clock_to_monotonic_ns(&page, b) <= mobo_monotonic_ns());
	page.clock.seq = 7; /* its writer was killed half-way */
	assert_true(mobo_clock_now_ns(&page) >= b);
}

static void channel_of_another_version_is_refused(void **state)
{
	static struct mobo_ioch ch;

	assert_int_equal(mobo_ioch_check(&ch, sizeof(ch)), -EPROTO);
	mobo_ioch_init(&ch);
	assert_int_equal(mobo_ioch_check(&ch, sizeof(ch)), 0);
	assert_int_equal(mobo_ioch_check(&ch, sizeof(ch) - 1), -EPROTO);
	ch.major++;
	assert_int_equal(mobo_ioch_check(&ch, sizeof(ch)), -EPROTO);
}

static bool ready(void *arg)
{
	return *(bool *)arg;
}

static void halted_vcpu_does_not_sleep_past_a_kick_or_its_deadline(void **state)
{
	static struct mobo_machine_page page;
	bool yes = true, no = false;
	uint64_t start = mobo_monotonic_ns();

	mobo_kick(&page, 1u << 4);
	assert_int_equal(page.kick.summary, 1u << 4);
	mobo_kick_wait(&page, 0, UINT64_MAX, ready, &yes); /* would sleep for ever */
	mobo_kick_wait(&page, 0, mobo_monotonic_ns() + 2000000, ready, &no);
	assert_true(mobo_monotonic_ns() - start >= 2000000);
	assert_int_equal(page.kick.halted, 0);
}

static void kick_tells_each_vcpu_that_there_is(void **state)
{
	static struct mobo_machine_page page;

	page.kick.n_cpus = 2;
	mobo_kick(&page, 1);
	assert_int_equal(page.cpu[0].look, 1);
	assert_int_equal(page.cpu[1].look, 1);
	assert_int_equal(page.cpu[2].look, 0);
	page.kick.n_cpus = UINT32_MAX; /* nobody's number */
	mobo_kick(&page, 1);
	assert_int_equal(page.cpu[MOBO_IOCH_VCPUS - 1].look, 1);
	/* As docs/PROTOCOL.md has it, for those who do not use this library. */
	assert_int_equal(offsetof(struct mobo_machine_page, kick.n_cpus), 76);
	assert_int_equal(offsetof(struct mobo_machine_page, cpu[3]), 192 + 3 * 64);
	assert_int_equal(offsetof(struct mobo_ioch, irq.fell), 256 + 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_carries_words_and_code),
		cmocka_unit_test(runtime_directory_is_made_private),
		cmocka_unit_test(unusable_directory_is_an_error_with_words),
		cmocka_unit_test(missing_executable_is_not_found),
		cmocka_unit_test(log_lines_reach_the_sink_on_one_line),
		cmocka_unit_test(ram_has_a_hole_below_4_gib),
		cmocka_unit_test(memory_that_is_not_sealed_is_refused),
		cmocka_unit_test(clock_freezes_and_goes_on_where_it_stood),
		cmocka_unit_test(channel_of_another_version_is_refused),
		cmocka_unit_test(halted_vcpu_does_not_sleep_past_a_kick_or_its_deadline),
		cmocka_unit_test(kick_tells_each_vcpu_that_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
