/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where serial ports go besides the console over the bus: a pseudo-terminal, a file, a Unix socket
 * that takes one peer after the other. All of them are streams of the port's process like any
 * console client's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "machine.h"

/* Hands fd (kept by the caller) to the port as one more peer. */
static void stream_attach(struct part *p, int fd)
{
	Mobo__V1__DeviceStream msg = MOBO__V1__DEVICE_STREAM__INIT;
	const char *name = "stream";
	uint8_t ticket[MOBO_TICKET_LEN];

	if (part_send_fds(p, &name, &fd, 1, ticket) < 0) {
		return;
	}
	msg.ticket.data = ticket;
	msg.ticket.len = sizeof(ticket);
	mobo_hub_call(p->machine->hub, p->node, &msg.base, 0, NULL, NULL);
}

static void on_socket_peer(void *arg, int listener, int events)
{
	struct part *p = arg;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		if (p->state == PART_READY) {
			stream_attach(p, fd);
		}
		close(fd);
	}
}

static int open_pty(struct part *p, unsigned n, struct mobo_error *err)
{
	struct machine *m = p->machine;
	char slave[128], path[4096];
	struct termios raw;
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), keep;

	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, slave, sizeof(slave))) {
		return mobo_error_set(err, errno, "cannot make a pseudo-terminal for serial.%u: %s",
				      n, strerror(errno));
	}
	/* An open slave keeps the master readable without hang-up while nobody has it open. */
	keep = open(slave, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (keep >= 0 && tcgetattr(keep, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(keep, TCSANOW, &raw);
	}
	snprintf(path, sizeof(path), "%s/serial%u.pty", m->folder, n);
	unlink(path);
	if (symlink(slave, path) < 0) {
		mobo_warning("cannot link %s: %s", path, strerror(errno));
	}
	mobo_info("serial port %u is %s", n, slave);
	p->stream_fd = fd;
	p->stream_keep = keep;
	return 0;
}

static int open_socket(struct part *p, unsigned n, const char *file, struct mobo_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char path[4096];
	int fd;

	mobo_settings_path(p->machine->folder, file, path, sizeof(path));
	if (strlen(path) >= sizeof(sa.sun_path)) {
		return mobo_error_set(err, ENAMETOOLONG,
				      "serial.%u.backend: %s is longer than a socket's name may be",
				      n, path);
	}
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return mobo_error_set(err, errno, "no more sockets: %s", strerror(errno));
	}
	/* A stale socket refuses connections; a live one belongs to somebody else. */
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
		close(fd);
		return mobo_error_set(err, EADDRINUSE, "serial.%u.backend: %s is in use", n, path);
	}
	if (errno == ECONNREFUSED) {
		unlink(path);
	}
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0) {
		int e = errno;

		close(fd);
		return mobo_error_set(err, e, "serial.%u.backend: cannot listen on %s: %s", n, path,
				      strerror(e));
	}
	p->stream_keep = fd;
	p->stream_watch = mobo_loop_fd(p->machine->loop, fd, MOBO_LOOP_READ, on_socket_peer, p);
	return 0;
}

int serial_backend(struct part *p, unsigned n, const char *backend, struct mobo_error *err)
{
	char path[4096];
	int fd;

	if (strcmp(backend, "console") == 0) {
		return 0;
	}
	if (strcmp(backend, "pty") == 0) {
		return open_pty(p, n, err);
	}
	if (strncmp(backend, "socket:", 7) == 0) {
		return open_socket(p, n, backend + 7, err);
	}
	if (strncmp(backend, "file:", 5) == 0) {
		mobo_settings_path(p->machine->folder, backend + 5, path, sizeof(path));
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (fd < 0) {
			return mobo_error_set(err, errno, "serial.%u.backend: cannot write %s: %s",
					      n, path, strerror(errno));
		}
		part_drop_fds(p, "log:0");
		part_give_fd(p, "log:0", fd);
		return 0;
	}
	return mobo_error_set(err, EINVAL,
			      "serial.%u.backend is `%s`: use none, console, pty, file:PATH or "
			      "socket:PATH",
			      n, backend);
}

void serial_ready(struct part *p)
{
	if (p->stream_fd >= 0) {
		stream_attach(p, p->stream_fd);
	}
}

void serial_finish(struct part *p)
{
	struct sockaddr_un sa = {0};
	socklen_t len = sizeof(sa) - 1;
	char path[4096];

	if (p->stream_watch && getsockname(p->stream_keep, (struct sockaddr *)&sa, &len) == 0) {
		unlink(sa.sun_path);
	} else if (p->stream_fd >= 0) {
		snprintf(path, sizeof(path), "%s/serial%s.pty", p->machine->folder,
			 p->name + strlen("uart"));
		unlink(path);
	}
	mobo_watch_destroy(p->stream_watch);
	p->stream_watch = NULL;
	if (p->stream_fd >= 0) {
		close(p->stream_fd);
	}
	if (p->stream_keep >= 0) {
		close(p->stream_keep);
	}
	p->stream_fd = p->stream_keep = -1;
}
