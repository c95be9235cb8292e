/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over SEQPACKET: the raw form, and redeeming a ticket at a hub. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "fds.h"
#include "mobo/bus.h"

union fds_control {
	char buf[CMSG_SPACE(MOBO_FDS_PER_MESSAGE * sizeof(int))];
	struct cmsghdr align;
};

int mobo_fds_send(int sock, const void *msg, size_t len, const int *fds, unsigned n_fds)
{
	union fds_control control;
	struct iovec iov = {(void *)msg, len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t r;

	if (n_fds > MOBO_FDS_PER_MESSAGE) {
		return -EINVAL;
	}
	if (n_fds) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do {
		r = sendmsg(sock, &mh, MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Takes the descriptors of a control message; those beyond max are closed. */
static unsigned take(struct msghdr *mh, int *fds, unsigned max)
{
	unsigned n = 0, got;
	int fd;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		got = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < got; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n < max) {
				fds[n++] = fd;
			} else {
				close(fd);
			}
		}
	}
	return n;
}

ssize_t mobo_fds_recv(int sock, void *msg, size_t max_len, int *fds, unsigned *n_fds)
{
	union fds_control control;
	struct iovec iov = {msg, max_len};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf)};
	ssize_t r;

	do {
		r = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0) {
		return -errno;
	}
	*n_fds = take(&mh, fds, *n_fds);
	if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (*n_fds) {
			close(fds[--*n_fds]);
		}
		return -EMSGSIZE;
	}
	return r;
}

/* -- Redeeming -- */

static int redeem_connect(const char *path, struct mobo_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 5};
	int sock;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		return mobo_error_set(err, ENAMETOOLONG, "socket path too long: %s", path);
	}
	strcpy(sa.sun_path, path);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0) {
		return mobo_error_set(err, errno, "cannot make a socket: %s", strerror(errno));
	}
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		mobo_error_set(err, errno, "cannot connect to %s: %s", path, strerror(errno));
		close(sock);
		return -errno;
	}
	return sock;
}

/* One message of the answer. 1: more follow. */
static int redeem_message(int sock, int *fds, unsigned max, unsigned *got, struct mobo_error *err)
{
	uint8_t buf[FDS_MESSAGE_MAX];
	unsigned n = max - *got;
	Mobo__V1__FdMessage *m;
	ssize_t len = mobo_fds_recv(sock, buf, sizeof(buf), fds + *got, &n);
	int r;

	if (len <= 0) {
		r = len < 0 ? (int)-len : EPIPE;
		return mobo_error_set(err, r == EAGAIN ? ETIMEDOUT : r,
				      "no descriptors for the ticket: %s", strerror(r));
	}
	*got += n;
	m = mobo__v1__fd_message__unpack(NULL, (size_t)len, buf);
	if (!m) {
		return mobo_error_set(err, EPROTO, "malformed answer to a ticket");
	}
	if (m->st && m->st->code) {
		r = mobo_error_set(err, m->st->errno_value > 0 ? m->st->errno_value : EACCES, "%s",
				   m->st->text);
	} else {
		r = m->more;
	}
	mobo__v1__fd_message__free_unpacked(m, NULL);
	return r;
}

int fds_redeem(const char *path, const uint8_t *ticket, size_t ticket_len, int *fds,
	       unsigned max_fds, struct mobo_error *err)
{
	Mobo__V1__FdMessage m = MOBO__V1__FD_MESSAGE__INIT;
	uint8_t buf[FDS_MESSAGE_MAX];
	unsigned got = 0;
	int sock, r;

	if (ticket_len != MOBO_TICKET_LEN) {
		return mobo_error_set(err, EINVAL, "a ticket has %d bytes", MOBO_TICKET_LEN);
	}
	sock = redeem_connect(path, err);
	if (sock < 0) {
		return sock;
	}
	m.ticket.data = (uint8_t *)ticket;
	m.ticket.len = ticket_len;
	r = mobo_fds_send(sock, buf, mobo__v1__fd_message__pack(&m, buf), NULL, 0);
	if (r < 0) {
		mobo_error_set(err, -r, "cannot send the ticket: %s", strerror(-r));
	} else {
		do {
			r = redeem_message(sock, fds, max_fds, &got, err);
		} while (r > 0);
	}
	close(sock);
	while (r < 0 && got) {
		close(fds[--got]);
	}
	return r < 0 ? r : (int)got;
}
