/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets: descriptors kept at a hub until the holder of a ticket fetches them. */
#ifndef BUS_FDS_H
#define BUS_FDS_H

#include "mobo/bus.h"

enum {
	FDS_MESSAGE_MAX = 8192,
	TICKET_LIFE_MS = 5000,
	TICKETS_MAX = 256,
	TICKET_MAX_FDS = 112,
	TICKET_CLIENTS_MAX = 16, /* connections that have not yet shown their ticket */
};

/* See mobo_bus_redeem(); path of the SEQPACKET socket. */
int fds_redeem(const char *path, const uint8_t *ticket, size_t ticket_len, int *fds,
	       unsigned max_fds, struct mobo_error *err);

struct tickets;
/* Listens at path. 0 or -errno. */
int tickets_create(struct tickets **ret, struct mobo_loop *loop, const char *path,
		   struct mobo_error *err);
void tickets_destroy(struct tickets *t); /* and unlinks */
/* See mobo_hub_ticket(). */
int tickets_add(struct tickets *t, const char *const *names, const int *fds, unsigned n,
		uint8_t ticket[MOBO_TICKET_LEN]);

#endif
