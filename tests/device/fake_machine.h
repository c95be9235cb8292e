/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mobo-machine and the engine are to a device process: a hub, the descriptors of DeviceInit,
 * and the engine's end of the channel. The hub's loop runs in a thread of its own, so that a test
 * can make accesses like a vCPU.
 */
#ifndef TESTS_DEVICE_FAKE_MACHINE_H
#define TESTS_DEVICE_FAKE_MACHINE_H

#include <pthread.h>
#include <sys/types.h>

#include "mobo/bus.h"
#include "mobo/io.h"
#include "mobo/v1/device.pb-c.h"
#include "mobo/v1/machine.pb-c.h"

enum { FAKE_RAM = 4 << 20, FAKE_NOTES = 64 };

struct fake_machine {
	char dir[64];
	struct mobo_loop *loop;
	struct mobo_hub *hub;
	pthread_t thread;
	struct mobo_machine_page *page;
	struct mobo_ioch *ch;
	struct mobo_code_map *codemap;
	uint8_t *ram;
	int fd_ioch, fd_bell, fd_page, fd_codemap, fd_ram, fd_state, fd_log;
	const char *executable;
	const char *config[8][2];
	unsigned n_config;
	pid_t pid;
	int sock; /* our end of its fd 3 */
	struct mobo_io_engine io;
	/* Seen by the hub's thread. */
	_Atomic uint32_t node;
	_Atomic bool attached, ready, sandboxed;
	Mobo__V1__Attach *claims;
	pthread_mutex_t lock;
	char notes[FAKE_NOTES][64]; /* "verb text" */
	unsigned n_notes;
};

void fake_machine_init(struct fake_machine *m, const char *executable);
void fake_machine_finish(struct fake_machine *m);
void fake_machine_spawn(struct fake_machine *m, bool restarted);
/* Waits (10 s at most) until the device said Ready. */
void fake_machine_wait_ready(struct fake_machine *m);
void fake_machine_kill(struct fake_machine *m, int signum);
/* Waits for the end of the process: its wait status (0 when the hub, which watches its members too,
 * has taken it), -1 after 10 s. */
int fake_machine_wait_exit(struct fake_machine *m);
/* Asks the device for something; the reply's code. reply (may be NULL) gets a copy to be freed with
 * protobuf_c_message_free_unpacked(). */
Mobo__V1__Code fake_machine_call(struct fake_machine *m, const ProtobufCMessage *msg,
				 ProtobufCMessage **reply);
/* Gives a client's end of a new stream; the caller closes it. */
int fake_machine_stream(struct fake_machine *m);
bool fake_machine_noted(struct fake_machine *m, const char *note);

#endif
