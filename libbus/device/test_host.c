/* SPDX-License-Identifier: Apache-2.0 */
/* The fake board's side of struct mobo_dev_host: everything is recorded. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mobo/base.h"
#include "test_board_priv.h"

/* The board of an instance: its state bytes begin the search, so no global is needed. */
static struct mobo_test_board *board_of(struct mobo_dev *d)
{
	return MOBO_CONTAINER_OF(d->shadow, struct mobo_test_board, shadow);
}

static void host_line(struct mobo_dev *d, unsigned line, bool level)
{
	board_of(d)->rises[line] += level;
}

static void host_pulse(struct mobo_dev *d, unsigned line)
{
	board_of(d)->pulses[line]++;
}

static void host_msi(struct mobo_dev *d, unsigned vector)
{
	board_of(d)->msis[vector]++;
}

static void host_map(struct mobo_dev *d, unsigned region, uint32_t word)
{
	/* d->map holds it. */
}

static uint64_t host_now_ns(struct mobo_dev *d)
{
	return board_of(d)->now;
}

static void host_timer(struct mobo_dev *d)
{
	/* mobo_test_step() looks at d->timer_ns. */
}

static bool host_bus_master(struct mobo_dev *d)
{
	return d->cls->n_functions == 0 || board_of(d)->bus_master;
}

static void host_dma_dirty(struct mobo_dev *d, uint64_t ram_offset, size_t len)
{
	board_of(d)->dma_dirty_bytes += len;
}

static size_t host_stream_read(struct mobo_dev *d, unsigned stream, void *buf, size_t len)
{
	struct test_queue *q;
	size_t n = 0;

	assert_true(stream < TEST_STREAMS);
	q = &board_of(d)->to_chip[stream];
	while (n < len && q->out != q->in) {
		((uint8_t *)buf)[n++] = q->bytes[q->out++ % TEST_STREAM_BYTES];
	}
	return n;
}

static size_t host_stream_write(struct mobo_dev *d, unsigned stream, const void *buf, size_t len)
{
	struct test_queue *q;

	assert_true(stream < TEST_STREAMS);
	q = &board_of(d)->from_chip[stream];
	if (!q->bytes) {
		q->bytes = calloc(1, TEST_STREAM_BYTES);
		assert_non_null(q->bytes);
	}
	for (size_t i = 0; i < len; i++) {
		q->bytes[q->in++ % TEST_STREAM_BYTES] = ((const uint8_t *)buf)[i];
	}
	if (q->in - q->out > TEST_STREAM_BYTES) {
		q->out = q->in - TEST_STREAM_BYTES;
	}
	return len;
}

static void host_watch_fd(struct mobo_dev *d, int fd, bool on)
{
	struct mobo_test_board *b = board_of(d);
	unsigned i = 0;

	while (i < b->n_watches && b->watches[i] != fd) {
		i++;
	}
	if (!on && i < b->n_watches) {
		b->watches[i] = b->watches[--b->n_watches];
	} else if (on && i == b->n_watches) {
		assert_true(b->n_watches < TEST_WATCHES);
		b->watches[b->n_watches++] = fd;
	}
}

static void host_notify(struct mobo_dev *d, const char *verb, const char *text)
{
	struct mobo_test_board *b = board_of(d);
	struct test_note *note = b->notes;

	while (note < b->notes + b->n_notes && strcmp(note->verb, verb) != 0) {
		note++;
	}
	if (note == b->notes + b->n_notes) {
		assert_true(b->n_notes < TEST_NOTES);
		b->n_notes++;
		snprintf(note->verb, sizeof(note->verb), "%s", verb);
	}
	snprintf(note->text, sizeof(note->text), "%s", text);
	note->n++;
}

static void host_error(struct mobo_dev *d, const char *text)
{
	board_of(d)->n_errors++;
}

const struct mobo_dev_host mobo_test_host = {
	.line = host_line,
	.pulse = host_pulse,
	.msi = host_msi,
	.map = host_map,
	.now_ns = host_now_ns,
	.timer = host_timer,
	.bus_master = host_bus_master,
	.dma_dirty = host_dma_dirty,
	.stream_read = host_stream_read,
	.stream_write = host_stream_write,
	.watch_fd = host_watch_fd,
	.notify = host_notify,
	.error = host_error,
};

void mobo_test_stream_send(struct mobo_test_board *b, unsigned stream, const void *buf, size_t len)
{
	struct test_queue *q;

	assert_true(stream < TEST_STREAMS);
	q = &b->to_chip[stream];
	if (!q->bytes) {
		q->bytes = calloc(1, TEST_STREAM_BYTES);
		assert_non_null(q->bytes);
	}
	assert_true(q->in - q->out + len <= TEST_STREAM_BYTES);
	for (size_t i = 0; i < len; i++) {
		q->bytes[q->in++ % TEST_STREAM_BYTES] = ((const uint8_t *)buf)[i];
	}
	if (b->cls->stream_readable) {
		b->cls->stream_readable(b->dev, stream);
	}
}

size_t mobo_test_stream_queued(struct mobo_test_board *b, unsigned stream)
{
	assert_true(stream < TEST_STREAMS);
	return (size_t)(b->to_chip[stream].in - b->to_chip[stream].out);
}

size_t mobo_test_stream_take(struct mobo_test_board *b, unsigned stream, void *buf, size_t len)
{
	struct test_queue *q;
	size_t n = 0;

	assert_true(stream < TEST_STREAMS);
	q = &b->from_chip[stream];
	while (n < len && q->out != q->in) {
		((uint8_t *)buf)[n++] = q->bytes[q->out++ % TEST_STREAM_BYTES];
	}
	return n;
}

unsigned mobo_test_poll(struct mobo_test_board *b, int timeout_ms)
{
	struct pollfd p[TEST_WATCHES];
	unsigned n = b->n_watches;
	unsigned ready = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i] = (struct pollfd){.fd = b->watches[i], .events = POLLIN};
	}
	if (poll(p, n, timeout_ms) <= 0) {
		return 0;
	}
	for (unsigned i = 0; i < n; i++) {
		if (p[i].revents && b->cls->fd_ready) {
			b->cls->fd_ready(b->dev, p[i].fd);
			ready++;
		}
	}
	return ready;
}

const char *mobo_test_notified(struct mobo_test_board *b, const char *verb, unsigned *n)
{
	for (unsigned i = 0; i < b->n_notes; i++) {
		if (strcmp(b->notes[i].verb, verb) == 0) {
			if (n) {
				*n = b->notes[i].n;
			}
			return b->notes[i].text;
		}
	}
	if (n) {
		*n = 0;
	}
	return "";
}
