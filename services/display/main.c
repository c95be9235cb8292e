/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-display: turns what a video card shows into pictures and text for any number of clients. It
 * paints when asked; it looks at the screen by itself only while somebody waits for a text.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mobo/bus.h"
#include "mobo/io.h"
#include "mobo/log.h"
#include "mobo/sandbox.h"
#include "mobo/v1/device.pb-c.h"
#include "mobo/v1/display.pb-c.h"
#include "paint.h"

enum { PARENT_FD = 3, MAX_ROWS = 256, WAIT_STEP_NS = 50000000, CONNECT_TIMEOUT_MS = 5000 };

/* A client that waits for a text. */
struct waiter {
	struct waiter *next;
	struct mobo_request *request;
	char *text;
	uint64_t deadline_ns;
};

struct display {
	struct mobo_loop *loop;
	struct mobo_bus *bus;
	const uint8_t *vram;
	size_t vram_len, surface_len;
	uint8_t *surface;
	const struct mobo_video *page;
	struct mobo_machine_page *machine;
	struct waiter *waiters;
	struct mobo_watch *look;
};

static uint64_t vtime(void *arg)
{
	return mobo_clock_now_ns(((struct display *)arg)->machine);
}

static void fill_mode(const struct mobo_video *v, Mobo__V1__DisplayMode *m)
{
	static const Mobo__V1__DisplayMode__ModeKind kinds[] = {
		[MOBO_VIDEO_BLANK] = MOBO__V1__DISPLAY_MODE__MODE_KIND__BLANK,
		[MOBO_VIDEO_TEXT] = MOBO__V1__DISPLAY_MODE__MODE_KIND__TEXT,
		[MOBO_VIDEO_PLANAR] = MOBO__V1__DISPLAY_MODE__MODE_KIND__PLANAR,
		[MOBO_VIDEO_PACKED2] = MOBO__V1__DISPLAY_MODE__MODE_KIND__CGA,
		[MOBO_VIDEO_INDEXED] = MOBO__V1__DISPLAY_MODE__MODE_KIND__INDEXED,
		[MOBO_VIDEO_LINEAR] = MOBO__V1__DISPLAY_MODE__MODE_KIND__LINEAR,
	};

	m->kind = v->kind < MOBO_ARRAY_LEN(kinds) ? kinds[v->kind] : kinds[0];
	m->width = v->width;
	m->height = v->height;
	m->columns = v->kind == MOBO_VIDEO_TEXT ? v->columns : 0;
	m->rows = v->kind == MOBO_VIDEO_TEXT ? v->rows : 0;
	m->bits_per_pixel = v->bits_per_pixel;
}

/* The card's page, or the refusal. */
static bool look_or_refuse(struct display *d, struct mobo_request *r, struct mobo_video *v)
{
	if (paint_snapshot(d->page, v)) {
		return true;
	}
	mobo_reply_error(r, MOBO__V1__CODE__UNAVAILABLE,
			 "the video card shows nothing yet; try again");
	return false;
}

static void serve_mode(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	Mobo__V1__DisplayMode m = MOBO__V1__DISPLAY_MODE__INIT;
	struct mobo_video v;

	if (look_or_refuse(arg, r, &v)) {
		fill_mode(&v, &m);
		mobo_reply(r, &m.base);
	}
}

static void serve_screenshot(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct display *d = arg;
	Mobo__V1__Surface s = MOBO__V1__SURFACE__INIT;
	Mobo__V1__DisplayMode m = MOBO__V1__DISPLAY_MODE__INIT;
	struct mobo_video v;

	if (!look_or_refuse(d, r, &v)) {
		return;
	}
	s.width = v.width;
	s.height = v.height;
	s.stride = v.width * 4;
	if ((uint64_t)s.stride * s.height > d->surface_len) {
		mobo_reply_error(r, MOBO__V1__CODE__RESOURCE_EXHAUSTED,
				 "a picture of %ux%u is too large", v.width, v.height);
		return;
	}
	paint(&v, d->vram, d->vram_len, d->surface, s.stride, true);
	fill_mode(&v, &m);
	s.mode = &m;
	mobo_reply(r, &s.base);
}

static void serve_text(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct display *d = arg;
	Mobo__V1__ScreenText t = MOBO__V1__SCREEN_TEXT__INIT;
	static char text[MAX_ROWS][PAINT_MAX_ROW_TEXT];
	char *rows[MAX_ROWS];
	struct mobo_video v;

	if (!look_or_refuse(d, r, &v)) {
		return;
	}
	if (v.kind != MOBO_VIDEO_TEXT) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "the screen is in a graphics mode; take a screenshot");
		return;
	}
	t.n_rows = MOBO_MIN(v.rows, (uint32_t)MAX_ROWS);
	for (unsigned i = 0; i < t.n_rows; i++) {
		paint_text_row(&v, d->vram, d->vram_len, i, text[i]);
		rows[i] = text[i];
	}
	t.rows = rows;
	t.cursor_column = v.cursor_column;
	t.cursor_row = v.cursor_row;
	t.cursor_visible = v.cursor_visible;
	mobo_reply(r, &t.base);
}

/* -- Waiting for a text -- */

static bool on_screen(struct display *d, const char *text)
{
	static char all[MAX_ROWS * PAINT_MAX_ROW_TEXT];
	size_t len = 0;
	struct mobo_video v;

	if (!paint_snapshot(d->page, &v) || v.kind != MOBO_VIDEO_TEXT) {
		return false;
	}
	for (unsigned i = 0; i < MOBO_MIN(v.rows, (uint32_t)MAX_ROWS); i++) {
		paint_text_row(&v, d->vram, d->vram_len, i, all + len);
		len += strlen(all + len);
		all[len++] = '\n';
	}
	all[len] = '\0';
	return strstr(all, text) != NULL;
}

static void look(void *arg)
{
	struct display *d = arg;
	uint64_t now = mobo_monotonic_ns();

	for (struct waiter **at = &d->waiters; *at;) {
		struct waiter *w = *at;
		bool seen = on_screen(d, w->text);

		if (!seen && now < w->deadline_ns && !mobo_request_cancelled(w->request)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		if (seen) {
			mobo_reply(w->request, NULL);
		} else {
			mobo_reply_error(w->request, MOBO__V1__CODE__DEADLINE_EXCEEDED,
					 "`%s` did not come on the screen", w->text);
		}
		free(w->text);
		free(w);
	}
	mobo_watch_timer(d->look, d->waiters ? now + WAIT_STEP_NS : UINT64_MAX);
}

static void serve_wait(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__WaitScreenText *q = (const void *)body;
	struct display *d = arg;
	struct waiter *w = calloc(1, sizeof(*w));
	unsigned timeout_ms = q->timeout_ms ? q->timeout_ms : MOBO_BUS_DEADLINE_MS;

	MOBO_ASSERT(w);

	w->request = r;
	w->text = strdup(q->text);
	w->deadline_ns = mobo_monotonic_ns() + timeout_ms * 1000000ull;
	w->next = d->waiters;
	d->waiters = w;
	look(d);
}

/* -- Start -- */

static void on_parent(void *arg, int fd, int events)
{
	struct display *d = arg;
	uint8_t buf[256];
	int fds[MOBO_FDS_PER_MESSAGE];
	unsigned n = MOBO_FDS_PER_MESSAGE;

	if (mobo_fds_recv(fd, buf, sizeof(buf), fds, &n) <= 0) {
		mobo_loop_stop(d->loop); /* the machine is gone: nobody to paint for */
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		close(fds[i]);
	}
}

static int map_fds(struct display *d, const Mobo__V1__DisplayInit *init, const int *fds, unsigned n)
{
	size_t len;

	for (unsigned i = 0; i < n && i < init->n_fds; i++) {
		if (strcmp(init->fds[i], "vram") == 0) {
			d->vram = mobo_memfd_map(fds[i], MOBO_VIDEO_TAIL_LEN, false, &d->vram_len);
		} else if (strcmp(init->fds[i], "page") == 0) {
			d->machine = mobo_memfd_map(fds[i], sizeof(*d->machine), false, &len);
		} else if (strcmp(init->fds[i], "surface") == 0) {
			d->surface = mobo_memfd_map(fds[i], 4096, true, &d->surface_len);
		}
		close(fds[i]);
	}
	if (!d->vram || !d->machine || !d->surface) {
		return -EPROTO;
	}
	d->page = (const void *)(d->vram + d->vram_len - MOBO_VIDEO_PAGE_LEN);
	return 0;
}

static int join(struct display *d, const Mobo__V1__DisplayInit *init, struct mobo_error *err)
{
	struct mobo_bus_options opt = {
		.endpoint = init->endpoint,
		.role = MOBO__V1__ROLE__DISPLAY,
		.name = init->name,
		.token = init->token,
	};
	Mobo__V1__Ready ready = MOBO__V1__READY__INIT;
	int ret = mobo_bus_connect(&d->bus, d->loop, &opt, CONNECT_TIMEOUT_MS, err);

	if (ret < 0) {
		return ret;
	}
	mobo_bus_log(d->bus, init->log_endpoint);
	mobo_bus_serve(d->bus, MOBO__V1__TYPE__GET_DISPLAY_MODE, serve_mode, d);
	mobo_bus_serve(d->bus, MOBO__V1__TYPE__SCREENSHOT, serve_screenshot, d);
	mobo_bus_serve(d->bus, MOBO__V1__TYPE__GET_SCREEN_TEXT, serve_text, d);
	mobo_bus_serve(d->bus, MOBO__V1__TYPE__WAIT_SCREEN_TEXT, serve_wait, d);
	ret = mobo_sandbox_enter(0, err);
	if (ret < 0) {
		return ret;
	}
	ready.sandboxed = true;
	return mobo_bus_call_sync(d->bus, 0, &ready.base, 0, NULL, NULL, err);
}

int main(int argc, char **argv)
{
	static struct display display;
	struct display *d = &display;
	struct mobo_error err = {0};
	uint8_t buf[8192];
	int fds[MOBO_FDS_PER_MESSAGE];
	unsigned n = MOBO_FDS_PER_MESSAGE;
	ssize_t len;

	mobo_log_init(argc > 1 ? argv[1] : "display");
	len = mobo_fds_recv(PARENT_FD, buf, sizeof(buf), fds, &n);

	Mobo__V1__DisplayInit *init =
		len > 0 ? mobo__v1__display_init__unpack(NULL, (size_t)len, buf) : NULL;

	if (!init || mobo_loop_create(&d->loop) < 0) {
		mobo_error("is started by mobo-machine, not by hand");
		return 2;
	}
	if (map_fds(d, init, fds, n) < 0) {
		mobo_error("was not given the memory it needs");
		return 1;
	}
	mobo_log_set_clock(vtime, d);
	d->look = mobo_loop_timer(d->loop, UINT64_MAX, look, d);
	mobo_loop_fd(d->loop, PARENT_FD, MOBO_LOOP_READ, on_parent, d);
	if (join(d, init, &err) < 0) {
		mobo_error("%s", err.text);
		return 1;
	}
	mobo__v1__display_init__free_unpacked(init, NULL);
	mobo_loop_run(d->loop);
	mobo_bus_close(d->bus);
	return 0;
}
