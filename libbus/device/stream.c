/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte streams. Output goes into a ring of 64 KiB with an ever growing position; every client and
 * the log file have a position of their own in it. So the ring is scrollback, fan-out buffer and
 * the limit of how far a slow client may fall behind, all in one. Input of all clients goes into
 * one buffer; when the chip does not take it, the clients wait in their sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mobo/log.h"
#include "process.h"

void streams_open(struct process *p)
{
	char name[16];

	for (unsigned i = 0; i < PROCESS_STREAMS; i++) {
		snprintf(name, sizeof(name), "log:%u", i);
		p->streams[i].log_fd = mobo_dev_fd(p->dev, name);
		for (unsigned c = 0; c < STREAM_CLIENTS; c++) {
			p->streams[i].clients[c].fd = -1;
		}
	}
}

static void client_drop(struct stream_client *c)
{
	mobo_watch_destroy(c->watch);
	close(c->fd);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

/* Oldest position that the ring still has. */
static uint64_t oldest(const struct stream *s)
{
	return s->end > STREAM_RING ? s->end - STREAM_RING : 0;
}

/* The bytes from pos on that lie in one piece. */
static size_t piece(const struct stream *s, uint64_t pos, const uint8_t **at)
{
	size_t from = (size_t)(pos % STREAM_RING);

	*at = s->ring + from;
	return (size_t)MOBO_MIN(s->end - pos, (uint64_t)(STREAM_RING - from));
}

static void client_events(struct stream_client *c)
{
	const struct stream *s = &c->process->streams[c->stream];
	int events = 0;

	if (!c->no_input && !c->process->paused && s->in_len < STREAM_INPUT) {
		events |= MOBO_LOOP_READ;
	}
	if (c->pos < s->end) {
		events |= MOBO_LOOP_WRITE;
	}
	mobo_watch_events(c->watch, events);
}

/* false: the client is gone. */
static bool client_flush(struct stream_client *c)
{
	struct stream *s = &c->process->streams[c->stream];
	const uint8_t *at;
	char text[64];
	ssize_t n;

	if (c->pos < oldest(s)) {
		c->pos = oldest(s);
		if (!c->behind) {
			c->behind = true;
			snprintf(text, sizeof(text), "stream %u: a slow client lost bytes",
				 c->stream);
			mobo_dev_notify(c->process->dev, "stream-lost", text);
		}
	}
	while (c->pos < s->end) {
		size_t len = piece(s, c->pos, &at);

		n = write(c->fd, at, len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno != EAGAIN) {
			client_drop(c);
			return false;
		}
		if (n <= 0) {
			break;
		}
		c->pos += (uint64_t)n;
	}
	if (c->pos == s->end) {
		c->behind = false;
	}
	client_events(c);
	return true;
}

static bool hung_up(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void client_read(struct stream_client *c)
{
	struct process *p = c->process;
	struct stream *s = &p->streams[c->stream];
	unsigned stream = c->stream;
	ssize_t n = read(c->fd, s->input + s->in_len, STREAM_INPUT - s->in_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (n <= 0) {
		/* It may have closed only its sending half and still want to listen. */
		if (n < 0 || hung_up(c->fd)) {
			client_drop(c);
		} else {
			c->no_input = true;
			client_events(c);
		}
		return;
	}
	s->in_len += (size_t)n;
	client_events(c);
	if (p->cls->stream_readable) {
		p->cls->stream_readable(p->dev, stream);
	} else {
		s->in_len = 0;
	}
}

static void on_client(void *arg, int fd, int events)
{
	struct stream_client *c = arg;

	if ((events & MOBO_LOOP_WRITE) && !client_flush(c)) {
		return;
	}
	if ((events & MOBO_LOOP_READ) && !c->process->paused &&
	    c->process->streams[c->stream].in_len < STREAM_INPUT) {
		client_read(c);
	}
}

int stream_attach(struct process *p, unsigned stream, int fd)
{
	struct stream *s;
	struct stream_client *c;
	int flags = fcntl(fd, F_GETFL);

	if (stream >= PROCESS_STREAMS || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		close(fd);
		return -EINVAL;
	}
	s = &p->streams[stream];
	for (c = s->clients; c < s->clients + STREAM_CLIENTS && c->fd >= 0; c++) {
	}
	if (c == s->clients + STREAM_CLIENTS) {
		close(fd);
		return -ENOSPC;
	}
	*c = (struct stream_client){.process = p, .stream = stream, .fd = fd, .pos = oldest(s)};
	c->watch = mobo_loop_fd(p->loop, fd, MOBO_LOOP_READ, on_client, c);
	if (!c->watch) {
		client_drop(c);
		return -ENOMEM;
	}
	client_flush(c);
	return 0;
}

static void for_each_client(struct process *p, unsigned stream, void (*fn)(struct stream_client *c))
{
	for (unsigned i = 0; i < STREAM_CLIENTS; i++) {
		if (p->streams[stream].clients[i].fd >= 0) {
			fn(&p->streams[stream].clients[i]);
		}
	}
}

size_t stream_read(struct process *p, unsigned stream, void *buf, size_t len)
{
	struct stream *s = &p->streams[stream];
	bool was_full = s->in_len == STREAM_INPUT;

	MOBO_ASSERT(stream < PROCESS_STREAMS);
	len = MOBO_MIN(len, s->in_len);
	memcpy(buf, s->input, len);
	memmove(s->input, s->input + len, s->in_len - len);
	s->in_len -= len;
	if (was_full && len > 0) {
		for_each_client(p, stream, client_events);
	}
	return len;
}

/* The log file gets what it lacks; a full disk costs it bytes, and is told once. */
static void log_flush(struct process *p, struct stream *s)
{
	const uint8_t *at;
	ssize_t n;

	while (s->log_fd >= 0 && s->log_pos < s->end) {
		size_t len = piece(s, s->log_pos, &at);

		n = write(s->log_fd, at, len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			mobo_dev_error(p->dev, "The log file of stream %u cannot be written (%s).",
				       (unsigned)(s - p->streams), strerror(errno));
			s->log_fd = -1;
			return;
		}
		s->log_pos += (uint64_t)n;
	}
}

size_t stream_write(struct process *p, unsigned stream, const void *buf, size_t len)
{
	struct stream *s = &p->streams[stream];
	const uint8_t *from = buf;
	size_t left = len;

	MOBO_ASSERT(stream < PROCESS_STREAMS);
	if (!s->ring) {
		s->ring = malloc(STREAM_RING);
		if (!s->ring) {
			return len;
		}
	}
	while (left > 0) {
		size_t at = (size_t)(s->end % STREAM_RING);
		size_t n = MOBO_MIN(left, STREAM_RING - at);

		/* The log loses nothing. */
		if (s->log_fd >= 0 && s->end + n - s->log_pos > STREAM_RING) {
			log_flush(p, s);
		}
		memcpy(s->ring + at, from, n);
		s->end += n;
		from += n;
		left -= n;
	}
	return len;
}

static void client_flush_if_due(struct stream_client *c)
{
	if (c->pos < c->process->streams[c->stream].end) {
		client_flush(c);
	}
}

void streams_flush(struct process *p)
{
	for (unsigned i = 0; i < PROCESS_STREAMS; i++) {
		log_flush(p, &p->streams[i]);
		for_each_client(p, i, client_flush_if_due);
	}
}

void streams_watch_input(struct process *p)
{
	for (unsigned i = 0; i < PROCESS_STREAMS; i++) {
		for_each_client(p, i, client_events);
		if (!p->paused && p->streams[i].in_len > 0 && p->cls->stream_readable) {
			p->cls->stream_readable(p->dev, i);
		}
	}
}

void streams_close(struct process *p)
{
	streams_flush(p);
	for (unsigned i = 0; i < PROCESS_STREAMS; i++) {
		for_each_client(p, i, client_drop);
		free(p->streams[i].ring);
		p->streams[i].ring = NULL;
	}
}
