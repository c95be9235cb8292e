/* SPDX-License-Identifier: Apache-2.0 */
/* The child processes of a machine: what they are given, starting and ending them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "mobo/v1/display.pb-c.h"
#include "mobo/v1/engine.pb-c.h"

enum { PART_CHILD_FD = 3, PART_MAX_INIT = 64 * 1024 };
#define PART_REAP_NS 2000000000ull /* a process in the kernel's hands may take longer */

extern char **environ;

struct part *part_add(struct machine *m, enum part_kind kind, const char *name,
		      const char *executable)
{
	MOBO_ASSERT(m->n_parts < MACHINE_MAX_PARTS);
	struct part *p = &m->parts[m->n_parts++];

	*p = (struct part){
		.machine = m, .kind = kind, .sock = -1, .stream_fd = -1, .stream_keep = -1};
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->executable, sizeof(p->executable), "%s", executable);
	if (kind == PART_DEVICE) {
		p->slot = m->n_slots++;
	}
	return p;
}

struct part *part_find(struct machine *m, const char *name)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (strcmp(m->parts[i].name, name) == 0) {
			return &m->parts[i];
		}
	}
	return NULL;
}

void part_set(struct part *p, const char *key, const char *fmt, ...)
{
	va_list ap;
	char *value = NULL;
	struct part_config *c = NULL;

	va_start(ap, fmt);
	int n = vasprintf(&value, fmt, ap);
	va_end(ap);
	MOBO_ASSERT(n >= 0);
	for (unsigned i = 0; i < p->n_config; i++) {
		if (strcmp(p->config[i].key, key) == 0) {
			c = &p->config[i];
		}
	}
	if (c) {
		free(c->value);
	} else {
		MOBO_ASSERT(p->n_config < PART_MAX_CONFIG);
		c = &p->config[p->n_config++];
		c->key = strdup(key);
	}
	c->value = value;
}

void part_give_fd(struct part *p, const char *name, int fd)
{
	MOBO_ASSERT(p->n_fds < PART_MAX_FDS);
	p->fds[p->n_fds++] = (struct part_fd){strdup(name), fd};
}

void part_drop_fds(struct part *p, const char *prefix)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < p->n_fds; i++) {
		if (strncmp(p->fds[i].name, prefix, strlen(prefix)) == 0) {
			free(p->fds[i].name);
			close(p->fds[i].fd);
		} else {
			p->fds[kept++] = p->fds[i];
		}
	}
	p->n_fds = kept;
}

int part_fd(const struct part *p, const char *name)
{
	for (unsigned i = 0; i < p->n_fds; i++) {
		if (strcmp(p->fds[i].name, name) == 0) {
			return p->fds[i].fd;
		}
	}
	return -1;
}

/* The first message of each kind of part, packed; its length. fds: names of this message. */
static size_t pack_init(const struct part *p, bool restarted, char **names, unsigned n_names,
			bool more, uint8_t *buf)
{
	const struct machine *m = p->machine;
	char *endpoint = (char *)mobo_hub_endpoint(m->hub);
	char *log = (char *)mobo_hub_log_endpoint(m->hub);

	if (p->kind == PART_ENGINE) {
		Mobo__V1__EngineInit init = MOBO__V1__ENGINE_INIT__INIT;

		init.name = (char *)p->name;
		init.machine = m->name;
		init.endpoint = endpoint;
		init.log_endpoint = log;
		init.token = (char *)p->token;
		init.cpus = m->settings->cpu->count;
		init.engine = m->settings->cpu->engine;
		init.hypervisor = m->settings->cpu->hypervisor;
		init.verify = m->settings->cpu->verify;
		init.chaos = m->settings->cpu->chaos;
		init.avx512 = m->settings->cpu->avx512;
		init.ram_size = m->settings->memory;
		init.ram_low_len = m->ram_low_len;
		init.rom_len = m->rom_len;
		init.on_triple_fault = m->settings->on_triple_fault;
		init.realtime_base_ns = m->realtime_base_ns;
		init.fds = names;
		init.n_fds = n_names;
		return mobo__v1__engine_init__pack(&init, buf);
	}
	if (p->kind == PART_DISPLAY) {
		Mobo__V1__DisplayInit init = MOBO__V1__DISPLAY_INIT__INIT;

		init.name = (char *)p->name;
		init.machine = m->name;
		init.endpoint = endpoint;
		init.log_endpoint = log;
		init.token = (char *)p->token;
		init.fds = names;
		init.n_fds = n_names;
		return mobo__v1__display_init__pack(&init, buf);
	}

	Mobo__V1__DeviceInit init = MOBO__V1__DEVICE_INIT__INIT;
	Mobo__V1__KeyValue kv[PART_MAX_CONFIG], *kvp[PART_MAX_CONFIG];

	for (unsigned i = 0; i < p->n_config; i++) {
		mobo__v1__key_value__init(&kv[i]);
		kv[i].key = p->config[i].key;
		kv[i].value = p->config[i].value;
		kvp[i] = &kv[i];
	}
	init.name = (char *)p->name;
	init.machine = m->name;
	init.endpoint = endpoint;
	init.log_endpoint = log;
	init.token = (char *)p->token;
	init.config = kvp;
	init.n_config = p->n_config;
	init.fds = names;
	init.n_fds = n_names;
	init.ram_size = m->settings->memory;
	init.ram_low_len = m->ram_low_len;
	init.slot = p->slot;
	init.cpus = m->settings->cpu->count;
	init.realtime_base_ns = m->realtime_base_ns;
	init.more = more;
	init.restarted = restarted;
	if (p->external) {
		init.claims = p->external->claims;
		init.peer = p->external->node;
	}
	return mobo__v1__device_init__pack(&init, buf);
}

static int send_init(struct part *p, bool restarted, struct mobo_error *err)
{
	static uint8_t buf[PART_MAX_INIT];
	unsigned sent = 0;

	do {
		char *names[MOBO_FDS_PER_MESSAGE];
		int fds[MOBO_FDS_PER_MESSAGE];
		unsigned n = MOBO_MIN(p->n_fds - sent, (unsigned)MOBO_FDS_PER_MESSAGE);

		for (unsigned i = 0; i < n; i++) {
			names[i] = p->fds[sent + i].name;
			fds[i] = p->fds[sent + i].fd;
		}
		sent += n;

		size_t len = pack_init(p, restarted, names, n, sent < p->n_fds, buf);
		int ret = mobo_fds_send(p->sock, buf, len, fds, n);

		if (ret < 0) {
			return mobo_error_set(err, -ret, "cannot hand %s its descriptors: %s",
					      p->name, strerror(-ret));
		}
	} while (sent < p->n_fds);
	return 0;
}

static void on_child_exit(void *arg, int pid, int status)
{
	struct part *p = arg;

	(void)pid;
	mobo_watch_destroy(p->child);
	p->child = NULL;
	p->pid = 0;
	machine_part_exited(p, status);
}

static void on_start_timeout(void *arg)
{
	struct part *p = arg;

	mobo_error("%s did not become ready within %d s", p->name, PART_START_TIMEOUT_MS / 1000);
	part_kill(p);
}

static int spawn_process(struct part *p, const char *path, int child_fd, struct mobo_error *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	char *argv[] = {p->executable, p->name, NULL};
	int ret;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, child_fd, PART_CHILD_FD);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGINT);
	sigaddset(&defaults, SIGTERM);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	ret = posix_spawn(&p->pid, path, &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (ret) {
		p->pid = 0;
		return mobo_error_set(err, ret, "cannot start %s for %s: %s", path, p->name,
				      strerror(ret));
	}
	return 0;
}

int part_spawn(struct part *p, bool restarted, struct mobo_error *err)
{
	static const Mobo__V1__Role roles[] = {
		[PART_ENGINE] = MOBO__V1__ROLE__ENGINE,
		[PART_DEVICE] = MOBO__V1__ROLE__DEVICE,
		[PART_DISPLAY] = MOBO__V1__ROLE__DISPLAY,
	};
	char path[4096];
	int pair[2], ret;

	if (mobo_find_executable(p->executable, path) < 0) {
		return mobo_error_set(
			err, ENOENT,
			"%s, the process of %s, is not installed; build or reinstall Mobo",
			p->executable, p->name);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		return mobo_error_set(err, errno, "cannot make a socket for %s: %s", p->name,
				      strerror(errno));
	}
	/* dup2 onto the same number would keep CLOEXEC set. */
	if (pair[1] == PART_CHILD_FD) {
		int moved = fcntl(pair[1], F_DUPFD_CLOEXEC, PART_CHILD_FD + 1);

		close(pair[1]);
		pair[1] = moved;
	}
	mobo_hub_expect(p->machine->hub, roles[p->kind], p->name, p->token);
	p->started = journal_mark(p->machine);
	ret = spawn_process(p, path, pair[1], err);
	close(pair[1]);
	if (ret < 0) {
		close(pair[0]);
		return ret;
	}
	p->sock = pair[0];
	p->state = PART_SPAWNED;
	p->child = mobo_loop_child(p->machine->loop, p->pid, on_child_exit, p);
	p->timeout = mobo_loop_timer(p->machine->loop,
				     mobo_monotonic_ns() + PART_START_TIMEOUT_MS * 1000000ull,
				     on_start_timeout, p);
	return send_init(p, restarted, err);
}

void part_kill(struct part *p)
{
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
	}
}

/* Waits for a killed process, so that its files are free when the machine is gone. */
static void reap(struct part *p)
{
	uint64_t deadline = mobo_monotonic_ns() + PART_REAP_NS;

	while (p->pid > 0 && waitpid(p->pid, NULL, WNOHANG) == 0 &&
	       mobo_monotonic_ns() < deadline) {
		poll(NULL, 0, 1);
	}
	p->pid = 0;
}

void part_finish(struct part *p)
{
	part_kill(p);
	mobo_watch_destroy(p->child);
	reap(p);
	mobo_watch_destroy(p->timeout);
	if (p->sock >= 0) {
		close(p->sock);
	}
	serial_finish(p);
	part_drop_fds(p, "");
	for (unsigned i = 0; i < p->n_config; i++) {
		free(p->config[i].key);
		free(p->config[i].value);
	}
	if (p->claims) {
		mobo__v1__attach__free_unpacked(p->claims, NULL);
	}
}

int part_send_fds(struct part *p, const char *const *names, const int *fds, unsigned n,
		  uint8_t ticket[MOBO_TICKET_LEN])
{
	Mobo__V1__FdMessage msg = MOBO__V1__FD_MESSAGE__INIT;
	uint8_t buf[2048];

	MOBO_ASSERT(n <= MOBO_FDS_PER_MESSAGE);
	if (p->sock < 0) {
		return -EPIPE;
	}
	if (getrandom(ticket, MOBO_TICKET_LEN, 0) != MOBO_TICKET_LEN) {
		return -EIO;
	}
	msg.ticket.data = ticket;
	msg.ticket.len = MOBO_TICKET_LEN;
	msg.names = (char **)names;
	msg.n_names = n;
	if (mobo__v1__fd_message__get_packed_size(&msg) > sizeof(buf)) {
		return -E2BIG;
	}
	return mobo_fds_send(p->sock, buf, mobo__v1__fd_message__pack(&msg, buf), fds, n);
}
