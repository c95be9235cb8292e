/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ZeroMQ socket on the loop. ZMQ_FD is edge-triggered and any call on the socket may eat the
 * edge, so the socket's events are read again before the loop sleeps whenever it was touched.
 * One context with one I/O thread is shared by all sockets of the process.
 */
#ifndef BUS_ZSOCK_H
#define BUS_ZSOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

#include "mobo/base.h"
#include "mobo/loop.h"

enum {
	ZSOCK_MAX_FRAMES = 4, /* routing id, topic or nothing, header, body */
	ZSOCK_BATCH = 64,     /* messages per turn of the loop */
};

/* A received multipart message; further frames than fit were dropped and counted in n. */
struct zmessage {
	zmq_msg_t frames[ZSOCK_MAX_FRAMES];
	unsigned n;
};

struct zsock;
/* One message. The frames are closed after the call. */
typedef void zsock_recv_cb(void *arg, struct zmessage *m);
/* Something was sent, received or connected since the last call. May be NULL. */
typedef void zsock_ready_cb(void *arg, bool writable);
/* Of the socket's monitor; fd names the connection. */
typedef void zsock_monitor_cb(void *arg, unsigned event, int fd);

struct zsock_options {
	int type; /* ZMQ_DEALER ... */
	int hwm;
	int reconnect_ms; /* -1: never */
	zsock_recv_cb *recv;
	zsock_ready_cb *ready;
	zsock_monitor_cb *monitor;
	unsigned monitor_events;
	void *arg;
};

/* 0 or -errno. Nothing is connected yet. */
int zsock_create(struct zsock **ret, struct mobo_loop *loop, const struct zsock_options *opt);
/* May be called from the socket's own callbacks. */
void zsock_destroy(struct zsock *s);
/* The next bind takes this listening socket, which belongs to libzmq then. */
int zsock_use_fd(struct zsock *s, int fd);
int zsock_bind(struct zsock *s, const char *endpoint);
int zsock_connect(struct zsock *s, const char *endpoint);
/* Reads pending monitor events now, before what they precede is believed. */
void zsock_monitor_drain(struct zsock *s);

struct zpart {
	const void *data;
	size_t len;
};
/* Sends all parts or none, never blocks. -EAGAIN: full or not connected; -EHOSTUNREACH. */
int zsock_send(struct zsock *s, const struct zpart *parts, unsigned n);
int zsock_subscribe(struct zsock *s, const char *prefix, bool on);

/* A PUSH socket apart from any loop, one thread at a time. */
struct zsock_raw;
/* Returns when it is connected, or with -ETIMEDOUT. linger_ms: how long closing may take. */
int zsock_raw_push(struct zsock_raw **ret, const char *endpoint, int hwm, int linger_ms,
		   bool reconnect, int timeout_ms);
int zsock_raw_send(struct zsock_raw *s, const struct zpart *parts, unsigned n);
void zsock_raw_close(struct zsock_raw *s);

#endif
