/* SPDX-License-Identifier: Apache-2.0 */
/* The process of a chip, in its parts: start (start.c), world of the chip (process.c), requests of
 * the machine (verbs.c), byte streams (stream.c). One thread, but for ZeroMQ's. */
#ifndef LIBBUS_DEVICE_PROCESS_H
#define LIBBUS_DEVICE_PROCESS_H

#include "channel.h"
#include "dev.h"
#include "mobo/base.h"
#include "mobo/bus.h"
#include "mobo/loop.h"
#include "mobo/v1/device.pb-c.h"

enum {
	PROCESS_FD = 3, /* the inherited SEQPACKET socket to mobo-machine */
	PROCESS_TICKETS = 8,
	PROCESS_STREAMS = 8,
	STREAM_CLIENTS = 16,
	STREAM_RING = 64 * 1024,
	STREAM_INPUT = 4096,
	PROCESS_WATCHES = 32,
};

struct process;

/* -- stream.c -- */
struct stream_client {
	struct process *process;
	unsigned stream;
	int fd;	       /* -1: free */
	uint64_t pos;  /* output sent up to here */
	bool no_input; /* the peer will send no more */
	bool behind;   /* it was told that it lost bytes */
	struct mobo_watch *watch;
};

struct stream {
	uint8_t *ring; /* the last STREAM_RING bytes of output; NULL: none was written */
	uint64_t end;  /* of all output */
	int log_fd;    /* -1: none; owned by the instance */
	uint64_t log_pos;
	struct stream_client clients[STREAM_CLIENTS];
	uint8_t input[STREAM_INPUT]; /* from all clients, not yet read by the chip */
	size_t in_len;
};

struct ticket {
	uint8_t id[MOBO_TICKET_LEN];
	char names[MOBO_FDS_PER_MESSAGE][24];
	int fds[MOBO_FDS_PER_MESSAGE];
	unsigned n; /* 0: free */
};

struct fd_watch {
	int fd;
	struct mobo_watch *watch;
};

struct process {
	const struct mobo_chip_class *cls;
	struct mobo_dev *dev;
	struct mobo_loop *loop;
	struct mobo_bus *bus; /* NULL: before, or without the machine */
	Mobo__V1__DeviceInit *init;
	struct mobo_channel channel;
	struct mobo_machine_page *page;
	struct mobo_code_map *codemap;
	size_t codemap_pages; /* as mapped: not read from the shared memory again */
	struct mobo_state_journal *journal;
	int bell_fd;
	uint32_t kick_bit;
	bool serving;	/* accesses are taken from the channel */
	bool in_access; /* the chip runs for an access */
	bool paused;
	bool stopping;
	bool sandboxed;
	bool timer_dirty; /* the timer is to be set before the loop sleeps */
	struct mobo_watch *timer, *stop_timer;
	struct stream streams[PROCESS_STREAMS];
	struct ticket tickets[PROCESS_TICKETS];
	unsigned next_ticket;
	struct fd_watch watches[PROCESS_WATCHES];
	uint64_t notify_second_ns;
	unsigned notify_count;
	uint64_t notify_dropped;
	struct mobo_watch *orphan_timer;
	uint64_t orphan_since_ns;
	struct mobo_watch *fd3_watch;
};

/* start.c: takes DeviceInit and its descriptors from fd 3, maps, makes the instance. */
int process_receive_init(struct process *p, struct mobo_error *err);
/* HELLO and the log socket. */
int process_connect(struct process *p, struct mobo_error *err);
/* Claims, closes the sandbox, says Ready. */
int process_join(struct process *p, struct mobo_error *err);

/* process.c */
/* Ends the loop a moment later, when the last reply has left. */
void process_stop(struct process *p);
extern const struct mobo_dev_host process_host;
/* The process itself, for the chip that works over the bus (services/bridge). */
struct process *process_self(void);

/* verbs.c */
void process_serve(struct process *p);
/* Takes what lies in the socket of fd 3; false when the supervisor is gone. */
bool process_take_fds(struct process *p);

/* stream.c */
void streams_open(struct process *p);
size_t stream_read(struct process *p, unsigned stream, void *buf, size_t len);
size_t stream_write(struct process *p, unsigned stream, const void *buf, size_t len);
/* A client, whose fd is taken over; 0 or -ENOSPC. */
int stream_attach(struct process *p, unsigned stream, int fd);
/* Sends what was written since; to be called before the loop sleeps. */
void streams_flush(struct process *p);
/* Input is taken while the machine runs. */
void streams_watch_input(struct process *p);
void streams_close(struct process *p);

#endif
