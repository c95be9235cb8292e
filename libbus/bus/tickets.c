/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hub's side of tickets: each is random, works once and for five seconds. A connection shows
 * one ticket, gets its descriptors and is closed; nothing here waits for a peer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fds.h"
#include "wire.h"

struct ticket {
	uint8_t id[MOBO_TICKET_LEN];
	uint64_t expires_ns; /* 0: free slot */
	char **names;
	int *fds;
	unsigned n;
};

struct ticket_client {
	struct tickets *tickets;
	struct mobo_watch *watch; /* NULL: free slot */
	int sock;
	uint64_t expires_ns;
};

struct tickets {
	struct mobo_loop *loop;
	struct mobo_watch *listening, *timer;
	int sock;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct ticket all[TICKETS_MAX];
	struct ticket_client clients[TICKET_CLIENTS_MAX];
};

static void ticket_free(struct ticket *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		free(t->names[i]);
		close(t->fds[i]);
	}
	free(t->names);
	free(t->fds);
	memset(t, 0, sizeof(*t));
}

static void client_drop(struct ticket_client *c)
{
	mobo_watch_destroy(c->watch);
	c->watch = NULL;
	close(c->sock);
}

static void expire(void *arg)
{
	struct tickets *t = arg;
	uint64_t now = mobo_monotonic_ns(), next = UINT64_MAX;

	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		if (t->all[i].expires_ns && t->all[i].expires_ns <= now) {
			ticket_free(&t->all[i]);
		} else if (t->all[i].expires_ns) {
			next = MOBO_MIN(next, t->all[i].expires_ns);
		}
	}
	for (unsigned i = 0; i < TICKET_CLIENTS_MAX; i++) {
		if (t->clients[i].watch && t->clients[i].expires_ns <= now) {
			client_drop(&t->clients[i]);
		} else if (t->clients[i].watch) {
			next = MOBO_MIN(next, t->clients[i].expires_ns);
		}
	}
	mobo_watch_events(t->listening, MOBO_LOOP_READ);
	mobo_watch_timer(t->timer, next);
}

int tickets_add(struct tickets *t, const char *const *names, const int *fds, unsigned n,
		uint8_t ticket[MOBO_TICKET_LEN])
{
	struct ticket *k = NULL;
	int r = -ENOSPC;

	for (unsigned i = 0; i < TICKETS_MAX && !k; i++) {
		k = t->all[i].expires_ns ? NULL : &t->all[i];
	}
	if (!k || n > TICKET_MAX_FDS) {
		goto fail;
	}
	k->names = calloc(n + 1, sizeof(*k->names));
	k->fds = calloc(n + 1, sizeof(*k->fds));
	r = k->names && k->fds ? wire_random(k->id, sizeof(k->id)) : -ENOMEM;
	if (r < 0) {
		free(k->names);
		free(k->fds);
		memset(k, 0, sizeof(*k));
		goto fail;
	}
	for (unsigned i = 0; i < n; i++) {
		k->names[i] = strdup(names && names[i] ? names[i] : "");
		k->fds[i] = fds[i];
	}
	k->n = n;
	k->expires_ns = mobo_monotonic_ns() + TICKET_LIFE_MS * 1000000ull;
	memcpy(ticket, k->id, MOBO_TICKET_LEN);
	expire(t);
	return 0;
fail:
	for (unsigned i = 0; i < n; i++) {
		close(fds[i]); /* they are ours */
	}
	return r;
}

/* In constant time per ticket, so that nobody guesses byte by byte. */
static struct ticket *find(struct tickets *t, const ProtobufCBinaryData *id)
{
	struct ticket *found = NULL;

	for (unsigned i = 0; i < TICKETS_MAX && id->len == MOBO_TICKET_LEN; i++) {
		uint8_t differ = 0;

		for (unsigned j = 0; j < MOBO_TICKET_LEN; j++) {
			differ |= t->all[i].id[j] ^ id->data[j];
		}
		if (!differ && t->all[i].expires_ns > mobo_monotonic_ns()) {
			found = &t->all[i];
		}
	}
	return found;
}

static int send_message(int sock, const Mobo__V1__FdMessage *m, const int *fds, unsigned n)
{
	uint8_t buf[FDS_MESSAGE_MAX];

	if (mobo__v1__fd_message__get_packed_size(m) > sizeof(buf)) {
		return -EMSGSIZE;
	}
	return mobo_fds_send(sock, buf, mobo__v1__fd_message__pack(m, buf), fds, n);
}

static void send_ticket(int sock, const struct ticket *k)
{
	unsigned sent = 0, n;

	do {
		Mobo__V1__FdMessage m = MOBO__V1__FD_MESSAGE__INIT;

		n = MOBO_MIN(k->n - sent, (unsigned)MOBO_FDS_PER_MESSAGE);
		m.names = k->names + sent;
		m.n_names = n;
		m.more = sent + n < k->n;
		if (send_message(sock, &m, k->fds + sent, n) < 0) {
			break; /* it does not read or is gone: the ticket is spent */
		}
		sent += n;
	} while (sent < k->n);
}

static void send_refusal(int sock, const char *text)
{
	Mobo__V1__FdMessage m = MOBO__V1__FD_MESSAGE__INIT;
	Mobo__V1__Status st = MOBO__V1__STATUS__INIT;

	st.code = MOBO__V1__CODE__PERMISSION_DENIED;
	st.errno_value = EACCES;
	st.text = (char *)text;
	m.st = &st;
	send_message(sock, &m, NULL, 0);
}

static void client_readable(void *arg, int sock, int events)
{
	struct ticket_client *c = arg;
	uint8_t buf[FDS_MESSAGE_MAX];
	Mobo__V1__FdMessage *m = NULL;
	struct ticket *k;
	unsigned none = 0;
	ssize_t len = mobo_fds_recv(sock, buf, sizeof(buf), NULL, &none);

	if (len == -EAGAIN) {
		return;
	}
	if (len > 0) {
		m = mobo__v1__fd_message__unpack(NULL, (size_t)len, buf);
	}
	k = m ? find(c->tickets, &m->ticket) : NULL;
	if (k) {
		send_ticket(sock, k);
		ticket_free(k);
	} else if (len > 0) {
		send_refusal(sock, "the ticket is unknown, was used or is older than five seconds");
	}
	if (m) {
		mobo__v1__fd_message__free_unpacked(m, NULL);
	}
	client_drop(c);
}

static void accept_client(void *arg, int listening, int events)
{
	struct tickets *t = arg;
	struct ticket_client *c = NULL;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int sock = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			/* It stays readable: look again in a while instead of spinning. */
			mobo_watch_events(t->listening, 0);
			mobo_watch_timer(t->timer, mobo_monotonic_ns() + 100000000);
		}
		return;
	}
	for (unsigned i = 0; i < TICKET_CLIENTS_MAX && !c; i++) {
		c = t->clients[i].watch ? NULL : &t->clients[i];
	}
	if (!c || getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    cred.uid != geteuid()) {
		close(sock);
		return;
	}
	c->tickets = t;
	c->sock = sock;
	c->expires_ns = mobo_monotonic_ns() + TICKET_LIFE_MS * 1000000ull;
	c->watch = mobo_loop_fd(t->loop, sock, MOBO_LOOP_READ, client_readable, c);
	if (!c->watch) {
		close(sock);
		return;
	}
	expire(t);
}

int tickets_create(struct tickets **ret, struct mobo_loop *loop, const char *path,
		   struct mobo_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct tickets *t = calloc(1, sizeof(*t));
	int r;

	if (!t || strlen(path) >= sizeof(sa.sun_path)) {
		free(t);
		return mobo_error_set(err, t ? ENAMETOOLONG : ENOMEM, "cannot listen at %s", path);
	}
	strcpy(sa.sun_path, path);
	strcpy(t->path, path);
	t->loop = loop;
	t->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(path); /* of a dead owner: the directory's lock is ours */
	if (t->sock < 0 || bind(t->sock, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(t->sock, 64) < 0) {
		r = mobo_error_set(err, errno, "cannot listen at %s: %s", path, strerror(errno));
		goto fail;
	}
	t->listening = mobo_loop_fd(loop, t->sock, MOBO_LOOP_READ, accept_client, t);
	t->timer = mobo_loop_timer(loop, UINT64_MAX, expire, t);
	if (t->listening && t->timer) {
		*ret = t;
		return 0;
	}
	r = mobo_error_set(err, ENOMEM, "out of memory");
fail:
	tickets_destroy(t);
	return r;
}

void tickets_destroy(struct tickets *t)
{
	if (!t) {
		return;
	}
	for (unsigned i = 0; i < TICKET_CLIENTS_MAX; i++) {
		if (t->clients[i].watch) {
			client_drop(&t->clients[i]);
		}
	}
	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		ticket_free(&t->all[i]);
	}
	mobo_watch_destroy(t->listening);
	mobo_watch_destroy(t->timer);
	if (t->sock >= 0) {
		close(t->sock);
		unlink(t->path);
	}
	free(t);
}
