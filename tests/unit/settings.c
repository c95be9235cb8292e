/* SPDX-License-Identifier: Apache-2.0 */
/* The settings file: what is read, what is refused with which words, what a change leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mobo/settings.h"

static Mobo__V1__Settings *parse(const char *text)
{
	struct mobo_error err = {0};
	Mobo__V1__Settings *s = NULL;

	if (mobo_settings_parse("f", text, strlen(text), &s, &err) < 0) {
		fail_msg("%s", err.text);
	}
	return s;
}

static void refused(const char *text, const char *words)
{
	struct mobo_error err = {0};
	Mobo__V1__Settings *s = NULL;

	assert_int_equal(mobo_settings_parse("f", text, strlen(text), &s, &err), -EINVAL);
	assert_int_equal(err.code, EINVAL);
	if (!strstr(err.text, words)) {
		fail_msg("\"%s\" lacks \"%s\"", err.text, words);
	}
}

static void empty_file_gives_defaults(void **state)
{
	Mobo__V1__Settings *s = parse("");

	assert_int_equal(s->memory, 1ull << 30);
	assert_int_equal(s->cpu->count, 1);
	assert_string_equal(s->cpu->engine, "auto");
	assert_string_equal(s->kernel->append, "");
	assert_string_equal(s->boot, "disk,cdrom");
	assert_string_equal(s->on_triple_fault, "reset");
	assert_true(s->external_devices);
	assert_true(s->debug->port);
	assert_int_equal(s->display->memory, 16 << 20);
	assert_string_equal(s->rtc->clock, "utc");
	assert_int_equal(s->n_disk, 0);
	assert_int_equal(s->n_serial, 1);
	assert_string_equal(s->serial[0]->backend, "console");
	mobo_settings_free(s);
}

static void values_are_read(void **state)
{
	Mobo__V1__Settings *s =
		parse("# comment\n"
		      "\n"
		      "memory=512M\r\n"
		      "  cpu.count = 4  \n"
		      "name = deb-12.x\n"
		      "kernel.append = console=ttyS0 root=/dev/sda1 # not a comment\n"
		      "description = \"  a \\\"b\\\" \\\\ \"  # a comment\n"
		      "disk.2.file = images/a b.qcow2\n"
		      "disk.2.type = cdrom\n"
		      "disk.0.readonly = on\n"
		      "external_devices = no\n"
		      "serial.1.backend = file:out.log\n"
		      "boot = cdrom");

	assert_int_equal(s->memory, 512 << 20);
	assert_int_equal(s->cpu->count, 4);
	assert_string_equal(s->name, "deb-12.x");
	assert_string_equal(s->kernel->append, "console=ttyS0 root=/dev/sda1 # not a comment");
	assert_string_equal(s->description, "  a \"b\" \\ ");
	assert_int_equal(s->n_disk, 3);
	assert_true(s->disk[0]->readonly);
	assert_string_equal(s->disk[0]->type, "disk");
	assert_string_equal(s->disk[1]->file, "");
	assert_string_equal(s->disk[2]->file, "images/a b.qcow2");
	assert_string_equal(s->disk[2]->type, "cdrom");
	assert_false(s->external_devices);
	assert_int_equal(s->n_serial, 2);
	assert_string_equal(s->serial[0]->backend, "console");
	assert_string_equal(s->serial[1]->backend, "file:out.log");
	assert_string_equal(s->boot, "cdrom");
	mobo_settings_free(s);
}

static void errors_name_line_and_way_out(void **state)
{
	refused("\n\nmemroy = 1G\n", "f:3: unknown key \"memroy\"; did you mean \"memory\"?");
	refused("cpu.cout = 2\n", "did you mean \"cpu.count\"?");
	refused("disk.1.fil = x\n", "did you mean \"disk.1.file\"?");
	refused("append = x\n", "did you mean \"kernel.append\"?");
	refused("zzzzzzzzzzzzzzzzzz = 1\n", "unknown key");
	refused("disk.4.file = x\n", "unknown key");
	refused("disk.00.file = x\n", "unknown key");
	refused("disk.-1.file = x\n", "unknown key");
	refused("memory = 1G\n# x\nmemory = 2G\n",
		"f:3: \"memory\" is set twice; the first time in line 1");
	refused("memory = lots\n", "f:1: memory: \"lots\" is not a size");
	refused("memory = 1Q\n", "not a size");
	refused("memory = -1\n", "not a size");
	refused("memory = 512K\n", "not between 1M and 1T");
	refused("memory = 99999999999999999999\n", "not between");
	refused("memory = 18014398509481984K\n", "not between");
	refused("cpu.count = 0\n", "not between 1 and 32");
	refused("cpu.count = 33\n", "not between 1 and 32");
	refused("cpu.count = 2K\n", "not a number");
	refused("cpu.count =\n", "not a number");
	refused("cpu.engine = warp\n", "it takes auto|translator|interpreter");
	refused("external_devices = maybe\n", "true or false");
	refused("boot = disk,tape\n", "list of disk|cdrom|floppy|network");
	refused("boot = disk,\n", "list of");
	refused("serial.0.backend = filex\n", "it takes none|console|pty|file:...|socket:...");
	refused("name = -x\n", "name");
	refused("uuid = 1234\n", "uuid");
	refused("memory 1G\n", "\"=\" is missing");
	refused("= 1G\n", "a key is missing");
	refused("description = \"x\n", "closing quote is missing");
	refused("description = \"x\" y\n", "behind the closing quote");
	refused("description = \"\\n\"\n", "backslash");
	refused("description = a\x01\n", "not UTF-8");
	refused("description = \xc3(\n", "not UTF-8");
	refused("description = \xed\xa0\x80\n", "not UTF-8");
}

static void unreadable_files_are_named(void **state)
{
	struct mobo_error err = {0};
	Mobo__V1__Settings *s;

	assert_int_equal(mobo_settings_load("/nonexistent/machine.conf", &s, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/machine.conf"));
	assert_int_equal(mobo_settings_load("/", &s, &err), -EINVAL);
	assert_int_equal(mobo_settings_load("/dev/zero", &s, &err), -EINVAL);
}

/* -- Changes -- */

static char dir[64], file[96];

static int setup(void **state)
{
	strcpy(dir, "/tmp/mobo-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/machine.conf", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(file);
	return rmdir(dir); /* no temporary file stays */
}

static void write_file(const char *text)
{
	FILE *f = fopen(file, "w");

	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	fclose(f);
}

static void assert_file(const char *text)
{
	char buf[4096];
	FILE *f = fopen(file, "r");
	size_t n = fread(buf, 1, sizeof(buf) - 1, f);

	fclose(f);
	buf[n] = '\0';
	assert_string_equal(buf, text);
}

static int change(const char *key, const char *value)
{
	struct mobo_settings_change c = {key, value};

	return mobo_settings_change(file, &c, 1, NULL);
}

static void change_keeps_comments_order_and_spaces(void **state)
{
	write_file("# my machine\n"
		   "  memory   =  1G   \n"
		   "\n"
		   "disk.0.file = a.img\n"
		   "# the second\n"
		   "description = \"x\"   # why\n"
		   "cpu.count=2");
	assert_int_equal(change("memory", "2G"), 0);
	assert_int_equal(change("description", "two words"), 0);
	assert_int_equal(change("disk.1.file", "b.img"), 0);
	assert_int_equal(change("boot", "cdrom"), 0);
	assert_file("# my machine\n"
		    "  memory   =  2G   \n"
		    "\n"
		    "disk.0.file = a.img\n"
		    "disk.1.file = b.img\n"
		    "# the second\n"
		    "description = \"two words\"   # why\n"
		    "cpu.count=2\n"
		    "boot = cdrom\n");
}

static void value_behind_a_comment_stays_apart_from_it(void **state)
{
	Mobo__V1__Settings *s;

	write_file("description = \"x\"   # why\n");
	assert_int_equal(change("description", "y"), 0);
	assert_int_equal(mobo_settings_load(file, &s, NULL), 0);
	assert_string_equal(s->description, "y");
	mobo_settings_free(s);
}

static void unset_removes_the_line(void **state)
{
	write_file("# a\nmemory = 2G\n# b\ncpu.count = 2\n");
	assert_int_equal(change("memory", NULL), 0);
	assert_int_equal(change("kernel.append", NULL), 0);
	assert_file("# a\n# b\ncpu.count = 2\n");
}

static void bad_change_changes_nothing(void **state)
{
	struct mobo_settings_change c[] = {{"memory", "2G"}, {"cpu.count", "99"}};
	struct mobo_error err = {0};

	write_file("memory = 1G\n");
	assert_int_equal(mobo_settings_change(file, c, 2, &err), -EINVAL);
	assert_non_null(strstr(err.text, "cpu.count"));
	assert_file("memory = 1G\n");
	assert_int_equal(change("memroy", "1G"), -ENOENT);
	assert_int_equal(change("description", "two\nlines"), -EINVAL);
	assert_file("memory = 1G\n");
}

static void odd_texts_survive_the_file(void **state)
{
	static const char *const texts[] = {"",	    " lead",	    "trail ", "\"quoted\"",
					    "a\\b", "# no comment", "a = b",  "\t",
					    "\"",   "ünïcödé"};
	Mobo__V1__Settings *s;

	write_file("memory = 1G\n");
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(change("description", texts[i]), 0);
		assert_int_equal(mobo_settings_load(file, &s, NULL), 0);
		assert_string_equal(s->description, texts[i]);
		mobo_settings_free(s);
	}
}

static void file_mode_and_link_stay(void **state)
{
	char target[96];
	struct stat st;

	snprintf(target, sizeof(target), "%s/real.conf", dir);
	write_file("memory = 1G\n");
	assert_int_equal(rename(file, target), 0);
	assert_int_equal(chmod(target, 0640), 0);
	assert_int_equal(symlink("real.conf", file), 0);
	assert_int_equal(change("memory", "2G"), 0);
	assert_int_equal(lstat(file, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(target, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_file("memory = 2G\n");
	unlink(target);
}

static void create_makes_a_file_once(void **state)
{
	struct mobo_settings_change c[] = {{"name", "m1"}, {"memory", "64M"}};
	Mobo__V1__Settings *s;

	assert_int_equal(mobo_settings_create(file, c, 2, NULL), 0);
	assert_int_equal(mobo_settings_create(file, c, 2, NULL), -EEXIST);
	assert_int_equal(mobo_settings_load(file, &s, NULL), 0);
	assert_string_equal(s->name, "m1");
	assert_int_equal(s->memory, 64 << 20);
	mobo_settings_free(s);
}

static void list_has_every_key(void **state)
{
	struct mobo_settings_list list;
	unsigned found = 0;

	write_file("memory = 2048M\ndisk.1.file = x\n");
	assert_int_equal(mobo_settings_list(file, &list, NULL), 0);
	for (size_t i = 0; i < list.n; i++) {
		const struct mobo_setting *s = &list.items[i];

		assert_true(strlen(s->info->doc) > 5);
		if (strcmp(s->key, "memory") == 0) {
			assert_string_equal(s->value, "2G");
			assert_false(s->is_default);
			found++;
		} else if (strcmp(s->key, "cpu.count") == 0) {
			assert_true(s->is_default);
			found++;
		} else if (strcmp(s->key, "disk.0.file") == 0) {
			assert_true(s->is_default);
			found++;
		} else if (strcmp(s->key, "disk.1.file") == 0) {
			assert_false(s->is_default);
			found++;
		} else if (strcmp(s->key, "description") == 0) {
			assert_true(s->info->live);
			found++;
		}
		assert_int_equal(mobo_settings_check(s->key, s->value, NULL), 0);
	}
	assert_int_equal(found, 5);
	mobo_settings_list_free(&list);
}

static void sizes_both_ways(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = {{"0", 0},		{"1", 1},  {"1K", 1024}, {"1536M", 1536ull << 20},
		    {"3T", 3ull << 40}, {"17", 17}};
	char text[24];
	uint64_t v;

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(mobo_settings_parse_size(good[i].text, &v), 0);
		assert_int_equal(v, good[i].size);
		mobo_settings_format_size(v, text);
		assert_string_equal(text, good[i].text);
	}
	assert_int_equal(mobo_settings_parse_size("", &v), -EINVAL);
	assert_int_equal(mobo_settings_parse_size("1GB", &v), -EINVAL);
	assert_int_equal(mobo_settings_parse_size("16777216T", &v), -ERANGE);
}

static void paths_are_relative_to_the_folder(void **state)
{
	char path[20];

	assert_int_equal(mobo_settings_path("/m", "a.img", path, sizeof(path)), 0);
	assert_string_equal(path, "/m/a.img");
	assert_int_equal(mobo_settings_path("/m", "/x/a.img", path, sizeof(path)), 0);
	assert_string_equal(path, "/x/a.img");
	assert_int_equal(mobo_settings_path("/m", "much-too-long-a-name", path, sizeof(path)),
			 -ENAMETOOLONG);
}

/* Whatever the bytes are: an answer, no crash; what is accepted reads the same again. */
static void random_files_do_no_harm(void **state)
{
	static const char seed_text[] =
		"# c\nmemory = 1G\ncpu.count = 2\ndisk.3.file = \"a b\" # x\n"
		"kernel.append = a=b c\nserial.0.backend = pty\nboot = disk\n";
	char text[sizeof(seed_text) + 64];
	struct mobo_error err;
	Mobo__V1__Settings *s;
	unsigned accepted = 0;

	srand(7);
	for (unsigned i = 0; i < 60000; i++) {
		size_t len = sizeof(seed_text) - 1;

		memcpy(text, seed_text, len);
		for (int k = rand() % 4; k >= 0; k--) {
			size_t at = (size_t)rand() % len;

			switch (rand() % 4) {
			case 0: text[at] = (char)rand(); break;
			case 1: text[at] = "=\n\"#\\.09 "[rand() % 9]; break;
			case 2:
				memmove(text + at, text + at + 1, len - at - 1);
				len--;
				break;
			case 3:
				memmove(text + at + 1, text + at, len - at);
				len++;
				break;
			}
		}
		if (mobo_settings_parse("f", text, len, &s, &err) == 0) {
			accepted++;
			mobo_settings_free(s);
		} else {
			assert_int_equal(err.code, EINVAL);
			assert_memory_equal(err.text, "f:", 2);
		}
	}
	assert_true(accepted > 1000);
}

int main(void)
{
#define F(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_file_gives_defaults),
		cmocka_unit_test(values_are_read),
		cmocka_unit_test(errors_name_line_and_way_out),
		cmocka_unit_test(unreadable_files_are_named),
		F(change_keeps_comments_order_and_spaces),
		F(value_behind_a_comment_stays_apart_from_it),
		F(unset_removes_the_line),
		F(bad_change_changes_nothing),
		F(odd_texts_survive_the_file),
		F(file_mode_and_link_stay),
		F(create_makes_a_file_once),
		F(list_has_every_key),
		cmocka_unit_test(sizes_both_ways),
		cmocka_unit_test(paths_are_relative_to_the_folder),
		cmocka_unit_test(random_files_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
