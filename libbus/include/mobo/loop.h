/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop (libev behind it): descriptors, timers, child processes, signals. One thread runs
 * a loop and calls everything here, but for mobo_loop_wake().
 */
#ifndef MOBO_LOOP_H
#define MOBO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct mobo_loop;
struct mobo_watch; /* one descriptor, timer, child or signal that is watched */

enum { MOBO_LOOP_READ = 1, MOBO_LOOP_WRITE = 2 };

int mobo_loop_create(struct mobo_loop **ret);
void mobo_loop_destroy(struct mobo_loop *loop); /* and every watch left */
/* Runs until mobo_loop_stop(). */
void mobo_loop_run(struct mobo_loop *loop);
/* Runs until `*done` becomes true or the monotonic deadline passes; nests. Returns *done. */
bool mobo_loop_run_until(struct mobo_loop *loop, const bool *done, uint64_t deadline_mono_ns);
void mobo_loop_stop(struct mobo_loop *loop);
/* Makes the loop turn once more. Any thread. */
void mobo_loop_wake(struct mobo_loop *loop);

/* The callbacks may destroy their own watch. Creation fails only with -ENOMEM (NULL). */
struct mobo_watch *mobo_loop_fd(struct mobo_loop *loop, int fd, int events,
				void (*cb)(void *arg, int fd, int events), void *arg);
void mobo_watch_events(struct mobo_watch *w, int events); /* 0: none for now */
/* One-shot; mobo_watch_timer() arms it again. UINT64_MAX: not armed. */
struct mobo_watch *mobo_loop_timer(struct mobo_loop *loop, uint64_t deadline_mono_ns,
				   void (*cb)(void *arg), void *arg);
void mobo_watch_timer(struct mobo_watch *w, uint64_t deadline_mono_ns);
/* The child ended: it is reaped, its wait status in `status`. One watch a child. */
struct mobo_watch *mobo_loop_child(struct mobo_loop *loop, int pid,
				   void (*cb)(void *arg, int pid, int status), void *arg);
/* Any process ended, child or not; it is not reaped, status is -1. */
struct mobo_watch *mobo_loop_process(struct mobo_loop *loop, int pid,
				     void (*cb)(void *arg, int pid, int status), void *arg);
struct mobo_watch *mobo_loop_signal(struct mobo_loop *loop, int signum,
				    void (*cb)(void *arg, int signum), void *arg);
/* Called each time before the loop sleeps; returns true to turn again without sleeping. */
struct mobo_watch *mobo_loop_prepare(struct mobo_loop *loop, bool (*cb)(void *arg), void *arg);
void mobo_watch_destroy(struct mobo_watch *w); /* NULL is fine */

#endif
