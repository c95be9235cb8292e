/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-machine: supervisor and broker of one virtual machine. It plans the parts from the settings
 * (plan.c), starts their processes (part.c), keeps account of who is there (roster.c), takes them
 * through the machine's states (lifecycle.c), serves clients (serve.c) and owns what must outlive a
 * part: RAM, channels, journals, opened images. One thread, one loop.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "external.h"
#include "mobo/base.h"
#include "mobo/bus.h"
#include "mobo/io.h"
#include "mobo/log.h"
#include "mobo/loop.h"
#include "mobo/settings.h"
#include "mobo/v1/device.pb-c.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"
#include "mobo/v1/settings.pb-c.h"

struct machine;

enum {
	MACHINE_MAX_PARTS = 40,
	PART_MAX_CONFIG = 40,
	PART_MAX_FDS = 64,
	PART_START_TIMEOUT_MS = 10000,
	PART_MAX_RESTARTS = 5, /* within PART_RESTART_WINDOW_NS */
	MACHINE_LOG_LINES = 4096,
	MACHINE_REASON_LEN = 256,
};
#define PART_RESTART_WINDOW_NS 10000000000ull

enum part_kind { PART_ENGINE, PART_DEVICE, PART_DISPLAY };

enum part_state {
	PART_IDLE,     /* not started */
	PART_SPAWNED,  /* process runs, has not said HELLO */
	PART_JOINED,   /* on the bus */
	PART_ATTACHED, /* its claims are known to the engine */
	PART_READY,    /* sandbox closed, works */
	PART_LOST,     /* died and stays away */
};

struct part_config {
	char *key, *value;
};

struct part_fd {
	char *name;
	int fd; /* kept open for a restart */
};

/* A place in the merged log and in our stderr. */
struct journal_mark {
	uint64_t lines;
	off_t stderr_len;
};

/* One child process. */
struct part {
	struct machine *machine;
	enum part_kind kind;
	enum part_state state;
	char name[32];	     /* "uart0" */
	char executable[48]; /* "mobo-dev-uart" */
	unsigned slot;	     /* devices: bit in kick.summary */
	struct part_config config[PART_MAX_CONFIG];
	unsigned n_config;
	struct part_fd fds[PART_MAX_FDS];
	unsigned n_fds;
	struct mobo_ioch *ioch;
	Mobo__V1__Attach *claims;	     /* as the device attached, NULL before */
	struct mobo_request *attach_request; /* waits for its turn or the engine's answer */
	bool in_engine;			     /* the engine knows it: a restart only says so */
	bool awaited;			     /* a reset waits until it is ready */
	bool sandboxed;
	struct journal_mark started; /* where its words begin */
	pid_t pid;
	int sock; /* our end of its descriptor 3; -1 */
	struct mobo_watch *child, *timeout;
	uint32_t node;
	char token[33];
	struct external *external; /* mobo-bridge: the device it stands for */
	/* Serial ports: a peer that stays across restarts, what keeps it alive, its listener. */
	int stream_fd, stream_keep;
	struct mobo_watch *stream_watch;
	unsigned restarts, window_restarts;
	uint64_t window_start_ns;
};

/* What the machine is doing between two states: one at a time, later ones wait or are refused. */
struct transition;

struct machine {
	struct mobo_loop *loop;
	struct mobo_hub *hub;
	struct mobo_bus *registry; /* NULL while it cannot be reached */
	char *name, *folder;
	Mobo__V1__Settings *settings;
	bool transient, start_paused;

	Mobo__V1__MachineState state;
	char reason[MACHINE_REASON_LEN];
	uint64_t since_ns;
	char engine[32], engine_reason[160];
	struct transition *transition;
	int exit_code;

	struct part parts[MACHINE_MAX_PARTS];
	unsigned n_parts, n_slots;
	struct mobo_machine_page *page;
	int page_fd, ram_fd, codemap_fd, rom_fd, surface_fd, vram_fd;
	uint64_t rom_len, ram_low_len, realtime_base_ns;

	/* Merged log: a ring of lines, and logs/machine.log. */
	char *log_lines[MACHINE_LOG_LINES];
	uint64_t log_lines_ever; /* the next one goes to this place, modulo */
	int log_fd;
	struct mobo_watch *signals[3];
	struct external externals[EXTERNAL_MAX];
	struct {
		uint32_t node;	   /* the client that is the debugger; 0: none */
		uint32_t counting; /* the client that has entries of blocks counted */
		bool stopped;	   /* paused for the debugger: runs on without it */
	} debugger;
};

/* -- plan.c: settings -> parts, memory files, firmware. -errno with err -- */
int machine_plan(struct machine *m, struct mobo_error *err);
void machine_plan_finish(struct machine *m);
/* What every device has: channel, bell, journal, the shared pages. */
int plan_channel(struct part *p, struct mobo_error *err);

/* -- part.c -- */
struct part *part_add(struct machine *m, enum part_kind kind, const char *name,
		      const char *executable);
struct part *part_find(struct machine *m, const char *name);
void part_set(struct part *p, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Takes fd over. */
void part_give_fd(struct part *p, const char *name, int fd);
void part_drop_fds(struct part *p, const char *prefix);
int part_fd(const struct part *p, const char *name);
int part_spawn(struct part *p, bool restarted, struct mobo_error *err);
void part_kill(struct part *p);
void part_finish(struct part *p);
/* Sends descriptors on the part's descriptor 3 under a fresh ticket. */
int part_send_fds(struct part *p, const char *const *names, const int *fds, unsigned n,
		  uint8_t ticket[MOBO_TICKET_LEN]);

/* -- lifecycle.c -- */
void machine_set_state(struct machine *m, Mobo__V1__MachineState state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void machine_report_state(struct machine *m);
/* All parts are ready: the guest's clock and CPUs start, or wait where --paused was given. */
void machine_run(struct machine *m);
/* A part that a reset waits for is ready (NULL) or will not come. */
void machine_awaited(struct part *p, const char *failure);
/* Verbs; r may be NULL (asked by a device or a signal), and is answered when the verb is done. */
void machine_pause(struct machine *m, struct mobo_request *r, const char *reason);
void machine_resume(struct machine *m, struct mobo_request *r);
void machine_reset(struct machine *m, struct mobo_request *r, const char *reason);
void machine_power_off(struct machine *m, struct mobo_request *r, const char *reason);
void machine_crash(struct machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void machine_device_event(struct machine *m, const char *device, const char *verb, const char *text,
			  bool keep);

/* -- roster.c: called by the bus and by part.c as things happen to parts -- */
void machine_start(struct machine *m);
void machine_part_joined(struct part *p);
void machine_part_attach(struct part *p, struct mobo_request *r, const Mobo__V1__Attach *claims);
void machine_part_ready(struct part *p, bool sandboxed);
void machine_part_exited(struct part *p, int status);

/* -- serve.c -- */
void machine_serve(struct machine *m);
bool machine_policy(void *arg, Mobo__V1__Role role, const char *name, uint32_t type, uint32_t dst,
		    const char *topic);

/* -- inspect.c: handlers of the table in serve.c -- */
void inspect_processes(void *arg, struct mobo_request *r, const ProtobufCMessage *body);
void inspect_devices(void *arg, struct mobo_request *r, const ProtobufCMessage *body);
void inspect_log(void *arg, struct mobo_request *r, const ProtobufCMessage *body);

/* -- debugger.c -- */
void debugger_serve_attach(void *arg, struct mobo_request *r, const ProtobufCMessage *body);
void debugger_serve_detach(void *arg, struct mobo_request *r, const ProtobufCMessage *body);
/* Whether the sender of r is the debugger; if not, r is answered. */
bool debugger_asks(struct machine *m, struct mobo_request *r);
/* A client has entries of blocks counted, or no longer. */
void debugger_counts(struct machine *m, uint32_t node, bool on);
/* A client has gone. */
void debugger_left(struct machine *m, uint32_t node);
/* A client is about to pause the machine. */
void debugger_paused(struct machine *m, uint32_t node);
/* The engine stopped all CPUs, for the reason in text. */
void debugger_stopped(struct machine *m, const char *text);

/* -- media.c -- */
int media_open(struct machine *m, struct part *p, unsigned unit, const char *file, bool cdrom,
	       bool readonly, struct mobo_error *err);
void media_change(struct machine *m, struct mobo_request *r, const Mobo__V1__ChangeMedium *c);

/* -- serial.c -- */
int serial_backend(struct part *p, unsigned n, const char *backend, struct mobo_error *err);
void serial_ready(struct part *p);
/* Closes what serial_backend() opened and removes its socket or link. */
void serial_finish(struct part *p);

/* -- procstat.c -- */
/* CPU time and proportional memory of a process from /proc; zeros where unreadable. */
void procstat_read(pid_t pid, uint64_t *cpu_ns, uint64_t *pss_bytes);

/* -- journal.c: the merged log -- */
void journal_open(struct machine *m);
void journal_record(void *arg, const Mobo__V1__LogRecord *rec);
void journal_own(void *arg, enum mobo_log_level level, uint64_t ts_ns, const char *line);
struct journal_mark journal_mark(const struct machine *m);
/* The first error of a part since then, which is the cause of those after it; "": none. */
void journal_first_error(const struct machine *m, struct journal_mark since, const char *name,
			 char *text, size_t len);
void journal_close(struct machine *m);

#endif
