/* SPDX-License-Identifier: Apache-2.0 */
/* A serial port in the terminal: `mobo console`, and the same for `mobo run`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"

enum { ESCAPE = 0x1d, BUFFER = 4096 }; /* Ctrl-] */

struct console {
	struct cli *cli;
	int fd, escape;
	bool done;
	enum console_end end;
	struct mobo_watch *in, *out;
	uint8_t pending[BUFFER]; /* typed, not yet taken by the port */
	size_t n_pending;
};

static struct termios saved;
static bool raw;

static void restore_terminal(void)
{
	if (raw) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
		raw = false;
	}
}

static void raw_terminal(void)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0) {
		return;
	}
	t = saved;
	cfmakeraw(&t);
	t.c_oflag |= OPOST;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0) {
		raw = true;
		atexit(restore_terminal);
	}
}

static void console_end(struct console *c, enum console_end end)
{
	c->done = true;
	c->end = end;
}

static bool write_all(int fd, const uint8_t *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {fd, POLLOUT, 0};

			poll(&p, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return false;
		} else if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static void send_pending(struct console *c)
{
	while (c->n_pending) {
		ssize_t n = send(c->fd, c->pending, c->n_pending, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n <= 0) {
			break;
		}
		c->n_pending -= (size_t)n;
		memmove(c->pending, c->pending + n, c->n_pending);
	}
	mobo_watch_events(c->out, MOBO_LOOP_READ | (c->n_pending ? MOBO_LOOP_WRITE : 0));
	if (c->in) {
		mobo_watch_events(c->in, c->n_pending < BUFFER ? MOBO_LOOP_READ : 0);
	}
}

static void on_typed(void *arg, int fd, int events)
{
	struct console *c = arg;
	ssize_t n = read(fd, c->pending + c->n_pending, BUFFER - c->n_pending);
	const uint8_t *at;

	(void)events;
	if (n <= 0) {
		/* The end of a script's input is not the end of the guest. */
		if (n == 0 || errno != EAGAIN) {
			mobo_watch_destroy(c->in);
			c->in = NULL;
		}
		return;
	}
	at = c->escape ? memchr(c->pending + c->n_pending, c->escape, (size_t)n) : NULL;
	if (at) {
		n = at - (c->pending + c->n_pending);
		console_end(c, CONSOLE_LEFT);
	}
	c->n_pending += (size_t)n;
	send_pending(c);
}

static void on_port(void *arg, int fd, int events)
{
	struct console *c = arg;
	uint8_t buf[BUFFER];
	ssize_t n;

	if (events & MOBO_LOOP_WRITE) {
		send_pending(c);
	}
	if (!(events & MOBO_LOOP_READ)) {
		return;
	}
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		console_end(c, CONSOLE_CLOSED);
	} else if (n > 0 && !write_all(STDOUT_FILENO, buf, (size_t)n)) {
		console_end(c, CONSOLE_LEFT);
	}
}

enum console_end console_run(struct cli *cli, int fd, int escape)
{
	struct console c = {.cli = cli,
			    .fd = fd,
			    .escape = raw || isatty(STDIN_FILENO) ? escape : 0,
			    .end = CONSOLE_CLOSED};

	raw_terminal();
	c.out = mobo_loop_fd(cli->loop, fd, MOBO_LOOP_READ, on_port, &c);
	/* A regular file or /dev/null as input cannot be watched: it is read at once. */
	c.in = mobo_loop_fd(cli->loop, STDIN_FILENO, MOBO_LOOP_READ, on_typed, &c);
	while (!c.done && !cli->interrupted) {
		mobo_loop_run_until(cli->loop, &c.done, mobo_monotonic_ns() + 3600000000000ull);
	}
	mobo_watch_destroy(c.in);
	mobo_watch_destroy(c.out);
	/* What the port said before its end. */
	for (;;) {
		uint8_t buf[BUFFER];
		ssize_t n = c.end == CONSOLE_LEFT && c.done
				    ? 0
				    : recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n <= 0 || !write_all(STDOUT_FILENO, buf, (size_t)n)) {
			break;
		}
	}
	restore_terminal();
	return cli->interrupted ? CONSOLE_INTERRUPTED : c.done ? c.end : CONSOLE_CLOSED;
}

int cmd_console(struct cli *cli, int argc, char **argv)
{
	const char *device = argc == 3 ? argv[2] : NULL;
	enum console_end end;
	int fd, status;

	if (argc != 2 && argc != 3) {
		return cli_usage(cli);
	}
	status = cli_machine(cli, argv[1]);
	if (status == CLI_OK) {
		status = cli_open_stream(cli, device, &fd);
	}
	if (status != CLI_OK) {
		return status;
	}
	if (isatty(STDIN_FILENO)) {
		fprintf(stderr, "[%s: Ctrl-] leaves, the machine runs on]\n", argv[1]);
	}
	end = console_run(cli, fd, ESCAPE);
	close(fd);
	/* The port's process may have been restarted: its scrollback would repeat what was shown,
	 * so only say that the connection is over. */
	if (isatty(STDIN_FILENO)) {
		fprintf(stderr, "\n[%s: %s]\n", argv[1],
			end == CONSOLE_LEFT ? "left; the machine runs on"
					    : "the serial port closed");
	}
	return end == CONSOLE_INTERRUPTED ? CLI_INTERRUPTED : CLI_OK;
}
