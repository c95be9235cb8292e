/* SPDX-License-Identifier: Apache-2.0 */
/* The merged log of a machine: the last lines in memory for `mobo log`, all of them in a file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"

enum { JOURNAL_MAX_FILE = 8 << 20 }; /* then it is rotated to machine.log.1 */

void journal_open(struct machine *m)
{
	char path[4096], old[4100];
	struct stat st;

	snprintf(path, sizeof(path), "%s/logs", m->folder);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/logs/machine.log", m->folder);
	if (stat(path, &st) == 0 && st.st_size > JOURNAL_MAX_FILE) {
		snprintf(old, sizeof(old), "%s.1", path);
		rename(path, old);
	}
	m->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (m->log_fd < 0) {
		mobo_warning("cannot write %s: %s; the log is kept in memory only", path,
			     strerror(errno));
	}
}

static void journal_line(struct machine *m, const char *node, unsigned level, uint64_t ts_ns,
			 const char *text)
{
	static const char *const names[] = {"error", "warning", "info", "debug", "trace"};
	char *line = NULL;
	int n = asprintf(&line, "%llu.%06llu %-7s %s: %s\n",
			 (unsigned long long)(ts_ns / 1000000000),
			 (unsigned long long)(ts_ns % 1000000000 / 1000),
			 names[MOBO_MIN(level, 4u)], node, text);

	if (n < 0) {
		return;
	}
	/* A full disk loses log lines in the file, not in memory, and nothing else. */
	if (m->log_fd >= 0 && write(m->log_fd, line, (size_t)n) < 0 && errno == EBADF) {
		m->log_fd = -1;
	}
	line[n - 1] = '\0';
	free(m->log_lines[m->log_lines_ever % MACHINE_LOG_LINES]);
	m->log_lines[m->log_lines_ever++ % MACHINE_LOG_LINES] = line;
}

void journal_record(void *arg, const Mobo__V1__LogRecord *rec)
{
	struct machine *m = arg;

	if (rec->dropped) {
		char text[64];

		snprintf(text, sizeof(text), "%u lines lost", rec->dropped);
		journal_line(m, rec->node, MOBO_LOG_WARNING, rec->ts_ns, text);
	}
	journal_line(m, rec->node, rec->level, rec->ts_ns, rec->text);
}

void journal_own(void *arg, enum mobo_log_level level, uint64_t ts_ns, const char *line)
{
	journal_line(arg, "machine", level, ts_ns, line);
}

/* Our stderr where it is a file, as the registry makes it; -1. */
static int open_stderr(off_t *len)
{
	int fd = open("/proc/self/fd/2", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	*len = fd >= 0 ? st.st_size : 0;
	return fd;
}

struct journal_mark journal_mark(const struct machine *m)
{
	struct journal_mark mark = {.lines = m->log_lines_ever};
	int fd = open_stderr(&mark.stderr_len);

	if (fd >= 0) {
		close(fd);
	}
	return mark;
}

void journal_first_error(const struct machine *m, struct journal_mark since, const char *name,
			 char *text, size_t len)
{
	char mark[64], words[4096];
	uint64_t n = MOBO_MIN(m->log_lines_ever - since.lines, (uint64_t)MACHINE_LOG_LINES);
	off_t end;
	int fd;

	*text = '\0';
	snprintf(mark, sizeof(mark), " error   %s: ", name);
	for (uint64_t i = m->log_lines_ever - n; i < m->log_lines_ever; i++) {
		const char *at = strstr(m->log_lines[i % MACHINE_LOG_LINES], mark);

		if (at) {
			snprintf(text, len, "%s", at + strlen(mark));
			return;
		}
	}
	/* What it said before it was on the bus. */
	fd = open_stderr(&end);
	if (fd >= 0) {
		ssize_t got = pread(fd, words, sizeof(words) - 1, since.stderr_len);
		char *at;

		words[MOBO_MAX(got, (ssize_t)0)] = '\0';
		snprintf(mark, sizeof(mark), " %s error: ", name);
		at = strstr(words, mark);
		if (at) {
			at += strlen(mark);
			snprintf(text, len, "%.*s", (int)strcspn(at, "\n"), at);
		}
		close(fd);
	}
}

void journal_close(struct machine *m)
{
	if (m->log_fd >= 0) {
		close(m->log_fd);
	}
	for (unsigned i = 0; i < MACHINE_LOG_LINES; i++) {
		free(m->log_lines[i]);
	}
}
