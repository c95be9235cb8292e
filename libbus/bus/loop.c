/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: libev for descriptors, signals and waking; one timerfd and a heap for timers,
 * because epoll's timeout counts in milliseconds and a chip's period does not.
 */
#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mobo/base.h"
#include "mobo/loop.h"

enum watch_kind { WATCH_FD, WATCH_TIMER, WATCH_CHILD, WATCH_SIGNAL, WATCH_PREPARE };

struct mobo_watch {
	struct mobo_loop *loop;
	struct mobo_watch *prev, *next; /* of the loop */
	enum watch_kind kind;
	union {
		struct ev_io io;
		struct ev_signal signal;
		struct ev_prepare prepare;
	} ev;
	union {
		void (*fd)(void *arg, int fd, int events);
		void (*timer)(void *arg);
		void (*child)(void *arg, int pid, int status);
		void (*signal)(void *arg, int signum);
		bool (*prepare)(void *arg);
	} cb;
	void *arg;
	int fd; /* FD; CHILD: the pidfd, owned */
	int pid;
	bool reap;	      /* a child of ours: its wait status is taken */
	uint64_t deadline_ns; /* TIMER */
	size_t heap_index;    /* TIMER: 0: not armed */
};

struct mobo_loop {
	struct ev_loop *ev;
	struct ev_io timer_io;
	struct ev_idle idle; /* active: turn without sleeping */
	struct ev_async async;
	struct mobo_watch *watches;
	int timer_fd;
	uint64_t timer_set_ns;	  /* what the timerfd is set to, UINT64_MAX: disarmed */
	struct mobo_watch **heap; /* 1-based, earliest first */
	size_t heap_len, heap_cap, n_timers;
	bool stop;
};

/* -- Timers: a binary heap over one timerfd -- */

static void heap_put(struct mobo_loop *loop, size_t i, struct mobo_watch *w)
{
	loop->heap[i] = w;
	w->heap_index = i;
}

static void heap_up(struct mobo_loop *loop, size_t i)
{
	struct mobo_watch *w = loop->heap[i];

	while (i > 1 && loop->heap[i / 2]->deadline_ns > w->deadline_ns) {
		heap_put(loop, i, loop->heap[i / 2]);
		i /= 2;
	}
	heap_put(loop, i, w);
}

static void heap_down(struct mobo_loop *loop, size_t i)
{
	struct mobo_watch *w = loop->heap[i];

	for (size_t child = 2 * i; child <= loop->heap_len; child = 2 * i) {
		if (child < loop->heap_len &&
		    loop->heap[child + 1]->deadline_ns < loop->heap[child]->deadline_ns) {
			child++;
		}
		if (loop->heap[child]->deadline_ns >= w->deadline_ns) {
			break;
		}
		heap_put(loop, i, loop->heap[child]);
		i = child;
	}
	heap_put(loop, i, w);
}

static void heap_remove(struct mobo_loop *loop, struct mobo_watch *w)
{
	size_t i = w->heap_index;
	struct mobo_watch *last;

	if (!i) {
		return;
	}
	w->heap_index = 0;
	last = loop->heap[loop->heap_len--];
	if (last != w) {
		heap_put(loop, i, last);
		heap_up(loop, i);
		heap_down(loop, last->heap_index);
	}
}

static void timer_set(struct mobo_loop *loop)
{
	uint64_t at = loop->heap_len ? loop->heap[1]->deadline_ns : UINT64_MAX;
	struct itimerspec its = {0};

	if (at == loop->timer_set_ns) {
		return;
	}
	loop->timer_set_ns = at;
	if (at != UINT64_MAX) {
		at = MOBO_MAX(at, 1); /* zero would disarm */
		at = MOBO_MIN(at, (uint64_t)INT64_MAX);
		its.it_value.tv_sec = (time_t)(at / 1000000000);
		its.it_value.tv_nsec = (long)(at % 1000000000);
	}
	timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

static void timers_fire(struct ev_loop *ev, struct ev_io *io, int revents)
{
	struct mobo_loop *loop = ev_userdata(ev);
	uint64_t now, expirations;
	size_t n;

	if (read(loop->timer_fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN) {
		return;
	}
	loop->timer_set_ns = UINT64_MAX;
	now = mobo_monotonic_ns();
	/* At most as many as there were: a callback that arms itself for now waits a turn. */
	for (n = loop->heap_len; n && loop->heap_len && loop->heap[1]->deadline_ns <= now; n--) {
		struct mobo_watch *w = loop->heap[1];

		heap_remove(loop, w);
		timer_set(loop); /* the callback may run the loop */
		w->cb.timer(w->arg);
	}
	timer_set(loop);
}

/* -- The loop -- */

static void idle_cb(struct ev_loop *ev, struct ev_idle *idle, int revents)
{
	ev_idle_stop(ev, idle);
}

static void async_cb(struct ev_loop *ev, struct ev_async *async, int revents)
{
}

int mobo_loop_create(struct mobo_loop **ret)
{
	struct mobo_loop *loop = calloc(1, sizeof(*loop));
	int r = -ENOMEM;

	if (!loop) {
		return -ENOMEM;
	}
	loop->timer_set_ns = UINT64_MAX;
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->timer_fd < 0) {
		r = -errno;
		goto fail_alloc;
	}
	loop->ev = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	if (!loop->ev) {
		goto fail_timer;
	}
	ev_set_userdata(loop->ev, loop);
	ev_io_init(&loop->timer_io, timers_fire, loop->timer_fd, EV_READ);
	ev_io_start(loop->ev, &loop->timer_io);
	ev_idle_init(&loop->idle, idle_cb);
	ev_async_init(&loop->async, async_cb);
	ev_async_start(loop->ev, &loop->async);
	*ret = loop;
	return 0;
fail_timer:
	close(loop->timer_fd);
fail_alloc:
	free(loop);
	return r;
}

void mobo_loop_destroy(struct mobo_loop *loop)
{
	if (!loop) {
		return;
	}
	while (loop->watches) {
		mobo_watch_destroy(loop->watches);
	}
	ev_loop_destroy(loop->ev);
	close(loop->timer_fd);
	free(loop->heap);
	free(loop);
}

void mobo_loop_run(struct mobo_loop *loop)
{
	while (!loop->stop) {
		ev_run(loop->ev, EVRUN_ONCE);
	}
	loop->stop = false;
}

static void expired_cb(void *arg)
{
	*(bool *)arg = true;
}

bool mobo_loop_run_until(struct mobo_loop *loop, const bool *done, uint64_t deadline_mono_ns)
{
	struct mobo_watch *timer = NULL;
	bool expired = false;

	if (deadline_mono_ns != UINT64_MAX) {
		timer = mobo_loop_timer(loop, deadline_mono_ns, expired_cb, &expired);
		if (!timer) {
			return *done;
		}
	}
	while (!*done && !expired && !loop->stop) {
		ev_run(loop->ev, EVRUN_ONCE);
	}
	mobo_watch_destroy(timer);
	return *done;
}

void mobo_loop_stop(struct mobo_loop *loop)
{
	loop->stop = true;
	ev_break(loop->ev, EVBREAK_ALL);
}

void mobo_loop_wake(struct mobo_loop *loop)
{
	ev_async_send(loop->ev, &loop->async);
}

/* -- Watches -- */

static struct mobo_watch *watch_new(struct mobo_loop *loop, enum watch_kind kind, void *arg)
{
	struct mobo_watch *w = calloc(1, sizeof(*w));

	if (!w) {
		return NULL;
	}
	w->loop = loop;
	w->kind = kind;
	w->arg = arg;
	w->fd = -1;
	w->next = loop->watches;
	if (w->next) {
		w->next->prev = w;
	}
	loop->watches = w;
	return w;
}

static void fd_cb(struct ev_loop *ev, struct ev_io *io, int revents)
{
	struct mobo_watch *w = MOBO_CONTAINER_OF(io, struct mobo_watch, ev.io);

	w->cb.fd(w->arg, w->fd,
		 (revents & EV_READ ? MOBO_LOOP_READ : 0) |
			 (revents & EV_WRITE ? MOBO_LOOP_WRITE : 0));
}

static int ev_events(int events)
{
	return (events & MOBO_LOOP_READ ? EV_READ : 0) | (events & MOBO_LOOP_WRITE ? EV_WRITE : 0);
}

struct mobo_watch *mobo_loop_fd(struct mobo_loop *loop, int fd, int events,
				void (*cb)(void *arg, int fd, int events), void *arg)
{
	struct mobo_watch *w = watch_new(loop, WATCH_FD, arg);

	if (!w) {
		return NULL;
	}
	w->fd = fd;
	w->cb.fd = cb;
	ev_io_init(&w->ev.io, fd_cb, fd, ev_events(events));
	if (events) {
		ev_io_start(loop->ev, &w->ev.io);
	}
	return w;
}

void mobo_watch_events(struct mobo_watch *w, int events)
{
	if (ev_is_active(&w->ev.io) ? (w->ev.io.events & (EV_READ | EV_WRITE)) == ev_events(events)
				    : !events) {
		return;
	}
	ev_io_stop(w->loop->ev, &w->ev.io);
	ev_io_set(&w->ev.io, w->fd, ev_events(events));
	if (events) {
		ev_io_start(w->loop->ev, &w->ev.io);
	}
}

struct mobo_watch *mobo_loop_timer(struct mobo_loop *loop, uint64_t deadline_mono_ns,
				   void (*cb)(void *arg), void *arg)
{
	struct mobo_watch *w, **heap;
	size_t need = loop->n_timers + 2; /* index 0 is not used */

	/* Room in the heap is made here, so that arming cannot fail. */
	if (need > loop->heap_cap) {
		heap = realloc(loop->heap, 2 * need * sizeof(*heap));
		if (!heap) {
			return NULL;
		}
		loop->heap = heap;
		loop->heap_cap = 2 * need;
	}
	w = watch_new(loop, WATCH_TIMER, arg);
	if (!w) {
		return NULL;
	}
	loop->n_timers++;
	w->cb.timer = cb;
	mobo_watch_timer(w, deadline_mono_ns);
	return w;
}

void mobo_watch_timer(struct mobo_watch *w, uint64_t deadline_mono_ns)
{
	struct mobo_loop *loop = w->loop;

	heap_remove(loop, w);
	w->deadline_ns = deadline_mono_ns;
	if (deadline_mono_ns != UINT64_MAX) {
		loop->heap[++loop->heap_len] = w;
		heap_up(loop, loop->heap_len);
	}
	timer_set(loop);
}

static void child_cb(struct ev_loop *ev, struct ev_io *io, int revents)
{
	struct mobo_watch *w = MOBO_CONTAINER_OF(io, struct mobo_watch, ev.io);
	int status = 0;

	ev_io_stop(ev, io);
	if (!w->reap || waitpid(w->pid, &status, WNOHANG) <= 0) {
		status = -1;
	}
	w->cb.child(w->arg, w->pid, status);
}

static struct mobo_watch *watch_pid(struct mobo_loop *loop, int pid, bool reap,
				    void (*cb)(void *arg, int pid, int status), void *arg)
{
	struct mobo_watch *w;
	int fd = pidfd_open(pid, 0);

	if (fd < 0) {
		return NULL;
	}
	w = watch_new(loop, WATCH_CHILD, arg);
	if (!w) {
		close(fd);
		return NULL;
	}
	w->fd = fd;
	w->pid = pid;
	w->reap = reap;
	w->cb.child = cb;
	ev_io_init(&w->ev.io, child_cb, fd, EV_READ);
	ev_io_start(loop->ev, &w->ev.io);
	return w;
}

struct mobo_watch *mobo_loop_child(struct mobo_loop *loop, int pid,
				   void (*cb)(void *arg, int pid, int status), void *arg)
{
	return watch_pid(loop, pid, true, cb, arg);
}

struct mobo_watch *mobo_loop_process(struct mobo_loop *loop, int pid,
				     void (*cb)(void *arg, int pid, int status), void *arg)
{
	return watch_pid(loop, pid, false, cb, arg);
}

static void signal_cb(struct ev_loop *ev, struct ev_signal *s, int revents)
{
	struct mobo_watch *w = MOBO_CONTAINER_OF(s, struct mobo_watch, ev.signal);

	w->cb.signal(w->arg, s->signum);
}

struct mobo_watch *mobo_loop_signal(struct mobo_loop *loop, int signum,
				    void (*cb)(void *arg, int signum), void *arg)
{
	struct mobo_watch *w = watch_new(loop, WATCH_SIGNAL, arg);

	if (!w) {
		return NULL;
	}
	w->cb.signal = cb;
	ev_signal_init(&w->ev.signal, signal_cb, signum);
	ev_signal_start(loop->ev, &w->ev.signal);
	return w;
}

static void prepare_cb(struct ev_loop *ev, struct ev_prepare *p, int revents)
{
	struct mobo_watch *w = MOBO_CONTAINER_OF(p, struct mobo_watch, ev.prepare);
	struct mobo_loop *loop = w->loop;

	if (w->cb.prepare(w->arg)) {
		ev_idle_start(ev, &loop->idle);
	}
}

struct mobo_watch *mobo_loop_prepare(struct mobo_loop *loop, bool (*cb)(void *arg), void *arg)
{
	struct mobo_watch *w = watch_new(loop, WATCH_PREPARE, arg);

	if (!w) {
		return NULL;
	}
	w->cb.prepare = cb;
	ev_prepare_init(&w->ev.prepare, prepare_cb);
	ev_prepare_start(loop->ev, &w->ev.prepare);
	return w;
}

void mobo_watch_destroy(struct mobo_watch *w)
{
	struct mobo_loop *loop;

	if (!w) {
		return;
	}
	loop = w->loop;
	switch (w->kind) {
	case WATCH_FD: ev_io_stop(loop->ev, &w->ev.io); break;
	case WATCH_CHILD:
		ev_io_stop(loop->ev, &w->ev.io);
		close(w->fd);
		break;
	case WATCH_TIMER:
		heap_remove(loop, w);
		loop->n_timers--;
		break;
	case WATCH_SIGNAL: ev_signal_stop(loop->ev, &w->ev.signal); break;
	case WATCH_PREPARE: ev_prepare_stop(loop->ev, &w->ev.prepare); break;
	}
	if (w->prev) {
		w->prev->next = w->next;
	} else {
		loop->watches = w->next;
	}
	if (w->next) {
		w->next->prev = w->prev;
	}
	free(w);
}
