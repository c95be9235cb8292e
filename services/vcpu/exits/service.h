/* SPDX-License-Identifier: Apache-2.0 */
/* What mobo-machine asks of mobo-vcpu: proto/mobo/v1/engine.proto. Main thread only. */
#ifndef VCPU_EXITS_SERVICE_H
#define VCPU_EXITS_SERVICE_H

#include "exits/board_internal.h"
#include "exits/engines.h"
#include "mobo/bus.h"
#include "mobo/v1/engine.pb-c.h"

enum { SERVICE_FD_SETS = 8 };

/* Descriptors that came before the message that names their ticket. */
struct fd_set_received {
	uint8_t ticket[MOBO_TICKET_LEN];
	int ioch, bell, mem;
	bool used;
};

struct service {
	struct mobo_loop *loop;
	struct mobo_bus *bus;
	struct board *board;
	char reason[ENGINE_REASON_LEN]; /* why this engine */
	struct mobo_request *pausing;	/* waits for the vCPUs to park */
	struct fd_set_received fds[SERVICE_FD_SETS];
	uint32_t triple_faults; /* reported */
	uint64_t unclaimed;	/* reported */
	uint64_t next_report_ns;
	struct mobo_request *stepping; /* waits for a CPU to have run one instruction */
};

void service_start(struct service *s);
/* Tells the machine: "triple-fault", "unclaimed", "debug-stop". */
void service_tell(struct service *s, const char *verb, char *text, unsigned vcpu);
/* Takes in what waits on descriptor 3. */
void service_take_fds(struct service *s);
/* For calls whose outcome does not matter. */
void service_ignore(void *arg, const struct mobo_result *res);

#endif
