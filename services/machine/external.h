/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices from outside: a program that joined with device.token and attaches by message. For each a
 * part, mobo-bridge, is started, which stands for it in front of the engine. A device that leaves
 * is taken off the board and its part ends; the machine goes on.
 */
#ifndef MACHINE_EXTERNAL_H
#define MACHINE_EXTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "mobo/bus.h"
#include "mobo/v1/device.pb-c.h"

struct machine;
struct part;
struct mobo_result;

enum { EXTERNAL_MAX = 16, EXTERNAL_FUNCTIONS = 8 };

/* One of them; node and part may end in either order. */
struct external {
	char name[65];	   /* empty: free */
	uint32_t node;	   /* 0: it left */
	struct part *part; /* NULL: not attached */
	Mobo__V1__Attach *claims;
	struct mobo_request *request; /* its Attach, until the guest can see it or all is undone */
	Mobo__V1__Code refusal;	      /* what that will be told then */
	char refusal_text[300];
	uint32_t slots[EXTERNAL_FUNCTIONS];
	unsigned n_slots;
	bool leaving;
	bool detaching; /* the engine was asked and has not answered */
	struct mobo_watch *timer;
};

/* Called by the hub. False: the name is a part's. */
bool external_joined(struct machine *m, uint32_t node, const char *name);
void external_left(struct machine *m, uint32_t node);
bool external_may(const struct machine *m, const char *name, uint32_t type, uint32_t dst);
struct external *external_of_node(struct machine *m, uint32_t node);

/* Verbs of the device; each answers r. */
void external_attach(struct machine *m, struct external *e, struct mobo_request *r,
		     const Mobo__V1__Attach *claims);
void external_notify(struct machine *m, struct external *e, struct mobo_request *r,
		     const Mobo__V1__DeviceNotify *n);

/* What happens to the part of one, p->external. */
void external_attached(struct part *p, const Mobo__V1__Attached *attached);
void external_refused(struct part *p, const struct mobo_result *res);
void external_ready(struct part *p);
void external_exited(struct part *p, const char *how);

/* The machine is powered off: they are told, not waited for. */
void external_quit(struct machine *m);

#endif
