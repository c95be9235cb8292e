/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_machine.h"
#include "mobo/v1/types.pb-c.h"

extern char **environ;

static void serve_attach(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct fake_machine *m = arg;
	Mobo__V1__Attached reply = MOBO__V1__ATTACHED__INIT;
	size_t len = protobuf_c_message_get_packed_size(body);
	uint8_t *buf = malloc(len + 1);

	m->node = mobo_request_node(r);
	protobuf_c_message_pack(body, buf);
	if (m->claims) {
		mobo__v1__attach__free_unpacked(m->claims, NULL);
	}
	m->claims = mobo__v1__attach__unpack(NULL, len, buf);
	free(buf);
	m->attached = true;
	mobo_reply(r, &reply.base);
}

static void serve_ready(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct fake_machine *m = arg;

	mobo_reply(r, NULL);
	m->sandboxed = ((const Mobo__V1__Ready *)body)->sandboxed;
	m->ready = true;
}

static void serve_notify(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__DeviceNotify *n = (const void *)body;
	struct fake_machine *m = arg;

	pthread_mutex_lock(&m->lock);
	if (m->n_notes < FAKE_NOTES) {
		snprintf(m->notes[m->n_notes++], sizeof(m->notes[0]), "%s %s", n->verb, n->text);
	}
	pthread_mutex_unlock(&m->lock);
	mobo_reply(r, NULL);
}

static void *run_loop(void *arg)
{
	mobo_loop_run(((struct fake_machine *)arg)->loop);
	return NULL;
}

static void *shared(const char *name, size_t size, int *fd)
{
	void *at;

	*fd = mobo_memfd_create(name, size);
	MOBO_ASSERT(*fd >= 0);
	at = mobo_memfd_map(*fd, size, true, NULL);
	MOBO_ASSERT(at);
	return at;
}

/* The loop and the hub belong to their thread: what the test wants done there is an errand. */
struct errand {
	struct fake_machine *m;
	const ProtobufCMessage *msg; /* call the device with it; */
	char *token;		     /* else expect it; else stop the loop */
	ProtobufCMessage **reply;
	Mobo__V1__Code code;
	_Atomic bool done;
};

static _Atomic(struct errand *) errand_box;

static void on_result(void *arg, const struct mobo_result *res)
{
	struct errand *e = arg;

	e->code = res->code;
	if (e->reply && res->body) {
		size_t len = protobuf_c_message_get_packed_size(res->body);
		uint8_t *buf = malloc(len + 1);

		protobuf_c_message_pack(res->body, buf);
		*e->reply = protobuf_c_message_unpack(res->body->descriptor, NULL, len, buf);
		free(buf);
	}
	e->done = true;
}

static bool on_prepare(void *arg)
{
	struct errand *e = atomic_exchange(&errand_box, NULL);

	if (!e) {
		return false;
	}
	if (e->msg) {
		mobo_hub_call(e->m->hub, e->m->node, e->msg, 5000, on_result, e);
	} else {
		if (e->token) {
			mobo_hub_expect(e->m->hub, MOBO__V1__ROLE__DEVICE, "dev0", e->token);
		} else {
			mobo_loop_stop(e->m->loop);
		}
		e->done = true;
	}
	return true; /* a stop is seen when the loop turns */
}

static void run_errand(struct errand *e)
{
	atomic_store(&errand_box, e);
	mobo_loop_wake(e->m->loop);
	while (!e->done) {
		usleep(200);
	}
}

void fake_machine_init(struct fake_machine *m, const char *executable)
{
	struct mobo_hub_options opt = {.name = "fake"};
	struct mobo_error err = {0};
	const uint64_t pages = FAKE_RAM / 4096;

	memset(m, 0, sizeof(*m));
	m->executable = executable;
	pthread_mutex_init(&m->lock, NULL);
	snprintf(m->dir, sizeof(m->dir), "/tmp/mobo-test-XXXXXX");
	MOBO_ASSERT(mkdtemp(m->dir));
	m->page = shared("page", 4096, &m->fd_page);
	m->ch = shared("ioch", sizeof(*m->ch), &m->fd_ioch);
	m->ram = shared("ram", FAKE_RAM, &m->fd_ram);
	m->codemap = shared("codemap", sizeof(*m->codemap) + pages / 64 * 16, &m->fd_codemap);
	m->codemap->n_pages = pages;
	m->fd_state = mobo_memfd_create("state", 65536);
	m->fd_log = memfd_create("log", MFD_CLOEXEC);
	m->fd_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	mobo_ioch_init(m->ch);
	mobo_clock_start(m->page);
	atomic_store(&m->ch->engine_pid, (uint32_t)getpid());
	m->io = (struct mobo_io_engine){.ch = m->ch, .bell_fd = m->fd_bell, .n_cpus = 2};
	MOBO_ASSERT(mobo_loop_create(&m->loop) == 0);
	opt.dir = m->dir;
	opt.arg = m;
	if (mobo_hub_create(&m->hub, m->loop, &opt, &err) < 0) {
		fprintf(stderr, "hub: %s\n", err.text);
		abort();
	}
	mobo_hub_serve(m->hub, MOBO__V1__TYPE__ATTACH, serve_attach, m);
	mobo_hub_serve(m->hub, MOBO__V1__TYPE__READY, serve_ready, m);
	mobo_hub_serve(m->hub, MOBO__V1__TYPE__DEVICE_NOTIFY, serve_notify, m);
	mobo_loop_prepare(m->loop, on_prepare, m);
}

static void start_loop(struct fake_machine *m)
{
	if (!m->thread) {
		MOBO_ASSERT(pthread_create(&m->thread, NULL, run_loop, m) == 0);
	}
}

void fake_machine_finish(struct fake_machine *m)
{
	struct errand stop = {.m = m};

	if (m->pid > 0) {
		fake_machine_kill(m, SIGKILL);
		fake_machine_wait_exit(m);
	}
	if (m->thread) {
		run_errand(&stop);
		pthread_join(m->thread, NULL);
	}
	mobo_hub_destroy(m->hub);
	mobo_loop_destroy(m->loop);
	if (m->claims) {
		mobo__v1__attach__free_unpacked(m->claims, NULL);
	}
	rmdir(m->dir);
}

static void send_init(struct fake_machine *m, const char *token, bool restarted)
{
	static const char *names[] = {"ioch", "bell", "page", "codemap", "ram", "state", "log:0"};
	const int fds[] = {m->fd_ioch, m->fd_bell,  m->fd_page, m->fd_codemap,
			   m->fd_ram,  m->fd_state, m->fd_log};
	Mobo__V1__DeviceInit init = MOBO__V1__DEVICE_INIT__INIT;
	Mobo__V1__KeyValue kv[8], *kvp[8];
	static uint8_t buf[4096];

	for (unsigned i = 0; i < m->n_config; i++) {
		mobo__v1__key_value__init(&kv[i]);
		kv[i].key = (char *)m->config[i][0];
		kv[i].value = (char *)m->config[i][1];
		kvp[i] = &kv[i];
	}
	init.name = "dev0";
	init.machine = "fake";
	init.endpoint = (char *)mobo_hub_endpoint(m->hub);
	init.log_endpoint = (char *)mobo_hub_log_endpoint(m->hub);
	init.token = (char *)token;
	init.config = kvp;
	init.n_config = m->n_config;
	init.fds = (char **)names;
	init.n_fds = MOBO_ARRAY_LEN(names);
	init.ram_size = init.ram_low_len = FAKE_RAM;
	init.slot = 3;
	init.cpus = 2;
	init.restarted = restarted;
	MOBO_ASSERT(mobo_fds_send(m->sock, buf, mobo__v1__device_init__pack(&init, buf), fds,
				  MOBO_ARRAY_LEN(fds)) == 0);
}

void fake_machine_spawn(struct fake_machine *m, bool restarted)
{
	posix_spawn_file_actions_t actions;
	char *argv[] = {(char *)m->executable, "dev0", NULL};
	char token[33];
	int pair[2];
	struct errand expect = {.m = m, .token = token};

	m->ready = m->attached = false;
	start_loop(m);
	run_errand(&expect);
	MOBO_ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pair[1], 3);
	MOBO_ASSERT(pair[1] != 3);
	MOBO_ASSERT(posix_spawn(&m->pid, m->executable, &actions, NULL, argv, environ) == 0);
	posix_spawn_file_actions_destroy(&actions);
	close(pair[1]);
	if (m->sock > 0) {
		close(m->sock);
	}
	m->sock = pair[0];
	send_init(m, token, restarted);
}

void fake_machine_wait_ready(struct fake_machine *m)
{
	for (unsigned i = 0; i < 10000 && !m->ready; i++) {
		usleep(1000);
	}
	MOBO_ASSERT(m->ready);
}

void fake_machine_kill(struct fake_machine *m, int signum)
{
	kill(m->pid, signum);
}

int fake_machine_wait_exit(struct fake_machine *m)
{
	int status = 0;
	pid_t pid;

	for (unsigned i = 0; i < 10000; i++) {
		pid = waitpid(m->pid, &status, WNOHANG);
		if (pid == m->pid || (pid < 0 && errno == ECHILD)) {
			m->pid = 0;
			return status;
		}
		usleep(1000);
	}
	return -1;
}

Mobo__V1__Code fake_machine_call(struct fake_machine *m, const ProtobufCMessage *msg,
				 ProtobufCMessage **reply)
{
	struct errand e = {.m = m, .msg = msg, .reply = reply};

	run_errand(&e);
	return e.code;
}

int fake_machine_stream(struct fake_machine *m)
{
	Mobo__V1__FdMessage fd_msg = MOBO__V1__FD_MESSAGE__INIT;
	Mobo__V1__DeviceStream msg = MOBO__V1__DEVICE_STREAM__INIT;
	uint8_t ticket[MOBO_TICKET_LEN], buf[256];
	char *names[] = {"stream"};
	static unsigned n;
	int pair[2];

	MOBO_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	memset(ticket, (int)++n, sizeof(ticket));
	fd_msg.ticket.data = msg.ticket.data = ticket;
	fd_msg.ticket.len = msg.ticket.len = sizeof(ticket);
	fd_msg.names = names;
	fd_msg.n_names = 1;
	MOBO_ASSERT(mobo_fds_send(m->sock, buf, mobo__v1__fd_message__pack(&fd_msg, buf), &pair[1],
				  1) == 0);
	close(pair[1]);
	MOBO_ASSERT(fake_machine_call(m, &msg.base, NULL) == MOBO__V1__CODE__OK);
	return pair[0];
}

bool fake_machine_noted(struct fake_machine *m, const char *note)
{
	bool found = false;

	for (unsigned tries = 0; tries < 2000 && !found; tries++) {
		pthread_mutex_lock(&m->lock);
		for (unsigned i = 0; i < m->n_notes; i++) {
			found |= strcmp(m->notes[i], note) == 0;
		}
		pthread_mutex_unlock(&m->lock);
		usleep(1000);
	}
	return found;
}
