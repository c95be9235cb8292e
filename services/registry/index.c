/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index in SQLite: machines with their folders and last known states, and the media they use.
 * It is a memory, not the truth: that is in the folders and in the running machines, from which a
 * lost index is made again.
 */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "registry.h"

struct index {
	sqlite3 *db;
};

enum { INDEX_VERSION = 1 };

static const char schema[] =
	"PRAGMA journal_mode = WAL;"
	"PRAGMA synchronous = NORMAL;"
	"PRAGMA foreign_keys = ON;"
	"CREATE TABLE IF NOT EXISTS machines (name TEXT PRIMARY KEY, folder TEXT NOT NULL UNIQUE,"
	" transient INTEGER NOT NULL, state INTEGER NOT NULL, reason TEXT NOT NULL,"
	" since INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS media (machine TEXT NOT NULL REFERENCES machines(name)"
	" ON DELETE CASCADE ON UPDATE CASCADE, key TEXT NOT NULL, path TEXT NOT NULL,"
	" PRIMARY KEY (machine, key));"
	"CREATE INDEX IF NOT EXISTS media_path ON media(path);"
	"PRAGMA user_version = 1;";

static int first_text(void *arg, int n, char **values, char **names)
{
	snprintf(arg, 32, "%s", n && values[0] ? values[0] : "");
	return 0;
}

/* 0, or an SQLite code: it cannot be opened, is damaged, or of a version that we do not know. */
static int open_checked(struct index *x, const char *path)
{
	char text[32] = "";
	int r = sqlite3_open_v2(path, &x->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

	r = r ? r : sqlite3_busy_timeout(x->db, 2000);
	r = r ? r : sqlite3_exec(x->db, "PRAGMA user_version", first_text, text, NULL);
	if (r == 0 && atoi(text) > INDEX_VERSION) {
		return SQLITE_MISMATCH;
	}
	r = r ? r : sqlite3_exec(x->db, "PRAGMA quick_check", first_text, text, NULL);
	if (r == 0 && strcmp(text, "ok") != 0) {
		return SQLITE_CORRUPT;
	}
	return r ? r : sqlite3_exec(x->db, schema, NULL, NULL, NULL);
}

static void move_aside(const char *path)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	char from[PATH_MAX], to[PATH_MAX];

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(suffixes); i++) {
		snprintf(from, sizeof(from), "%s%s", path, suffixes[i]);
		snprintf(to, sizeof(to), "%s.damaged-%lld%s", path, (long long)time(NULL),
			 suffixes[i]);
		if (rename(from, to) == 0 && i == 0) {
			mobo_warning("the index %s was damaged; it is now %s and a new one is made",
				     path, to);
		}
	}
}

int index_open(struct index **ret, const char *path, bool *rebuilt, struct mobo_error *err)
{
	struct index *x = calloc(1, sizeof(*x));
	int r;

	if (!x) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	*rebuilt = false;
	r = open_checked(x, path);
	if (r == SQLITE_CORRUPT || r == SQLITE_NOTADB || r == SQLITE_MISMATCH ||
	    r == SQLITE_ERROR) {
		sqlite3_close(x->db);
		x->db = NULL;
		move_aside(path);
		*rebuilt = true;
		r = open_checked(x, path);
	}
	if (r) {
		mobo_error_set(err, EIO, "cannot open the index %s: %s", path,
			       x->db ? sqlite3_errmsg(x->db) : sqlite3_errstr(r));
		index_close(x);
		return -EIO;
	}
	*ret = x;
	return 0;
}

void index_close(struct index *x)
{
	if (x) {
		sqlite3_close(x->db);
		free(x);
	}
}

/* NULL when it cannot be prepared; logged. */
static sqlite3_stmt *prepare(struct index *x, const char *sql)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(x->db, sql, -1, &st, NULL)) {
		mobo_error("index: %s", sqlite3_errmsg(x->db));
	}
	return st;
}

static void run(struct index *x, sqlite3_stmt *st)
{
	if (st && sqlite3_step(st) != SQLITE_DONE) {
		mobo_error("index: %s", sqlite3_errmsg(x->db));
	}
	sqlite3_finalize(st);
}

void index_put(struct index *x, const struct machine *m)
{
	sqlite3_stmt *st = prepare(
		x,
		"INSERT INTO machines VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(name) DO UPDATE"
		" SET folder = ?2, transient = ?3, state = ?4, reason = ?5, since = ?6");

	if (st) {
		sqlite3_bind_text(st, 1, m->name, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 2, m->folder, -1, SQLITE_STATIC);
		sqlite3_bind_int(st, 3, m->transient);
		sqlite3_bind_int(st, 4, (int)m->state);
		sqlite3_bind_text(st, 5, m->reason, -1, SQLITE_STATIC);
		sqlite3_bind_int64(st, 6, (sqlite3_int64)m->since_ns);
	}
	run(x, st);
}

void index_delete(struct index *x, const char *name)
{
	sqlite3_stmt *st = prepare(x, "DELETE FROM machines WHERE name = ?1");

	if (st) {
		sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	}
	run(x, st);
}

static void put_medium(struct index *x, const struct machine *m, const char *key, const char *file)
{
	char path[PATH_MAX];
	sqlite3_stmt *st;

	if (!*file || mobo_settings_path(m->folder, file, path, sizeof(path)) < 0) {
		return;
	}
	st = prepare(x, "INSERT OR REPLACE INTO media VALUES (?1, ?2, ?3)");
	if (st) {
		sqlite3_bind_text(st, 1, m->name, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 2, key, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 3, path, -1, SQLITE_STATIC);
	}
	run(x, st);
}

void index_put_media(struct index *x, const struct machine *m, const Mobo__V1__Settings *s)
{
	sqlite3_stmt *st = prepare(x, "DELETE FROM media WHERE machine = ?1");
	char key[32];

	if (st) {
		sqlite3_bind_text(st, 1, m->name, -1, SQLITE_STATIC);
	}
	run(x, st);
	for (size_t i = 0; i < s->n_disk; i++) {
		snprintf(key, sizeof(key), "disk.%zu.file", i);
		put_medium(x, m, key, s->disk[i]->file);
	}
}

int index_load(struct index *x, struct registry *reg)
{
	sqlite3_stmt *st = prepare(x, "SELECT * FROM machines ORDER BY name DESC");
	struct machine *m;

	if (!st) {
		return -EIO;
	}
	while (sqlite3_step(st) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(st, 0);
		const char *folder = (const char *)sqlite3_column_text(st, 1);
		const char *reason = (const char *)sqlite3_column_text(st, 4);

		if (!name || !mobo_settings_name_valid(name) || !folder || folder[0] != '/') {
			continue;
		}
		m = machine_add(reg, name, folder, sqlite3_column_int(st, 2));
		if (!m) {
			break;
		}
		m->state = (Mobo__V1__MachineState)sqlite3_column_int(st, 3);
		snprintf(m->reason, sizeof(m->reason), "%s", reason ? reason : "");
		m->since_ns = (uint64_t)sqlite3_column_int64(st, 5);
	}
	sqlite3_finalize(st);
	return 0;
}
