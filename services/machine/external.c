/* SPDX-License-Identifier: Apache-2.0 */
#include "external.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"
#include "mobo/v1/engine.pb-c.h"

enum {
	CLAIMS_MAX = 32 * 1024, /* DeviceInit carries them */
	QUIT_MS = 1000,
	ANY_SLOT = 0xff,
};
#define END_NS 5000000000ull /* for a bridge to end after it was told */

static void release(struct external *e);

/* The first reason counts. */
static void refuse(struct external *e, Mobo__V1__Code code, const char *text)
{
	if (!e->refusal) {
		e->refusal = code;
		snprintf(e->refusal_text, sizeof(e->refusal_text), "%.299s", text ? text : "");
	}
}

/* -- Who is there -- */

struct external *external_of_node(struct machine *m, uint32_t node)
{
	for (unsigned i = 0; i < EXTERNAL_MAX; i++) {
		if (m->externals[i].name[0] && m->externals[i].node == node) {
			return &m->externals[i];
		}
	}
	return NULL;
}

bool external_joined(struct machine *m, uint32_t node, const char *name)
{
	if (part_find(m, name)) {
		mobo_warning("a device from outside calls itself %s: that is a part's name", name);
		return false;
	}
	for (unsigned i = 0; i < EXTERNAL_MAX; i++) {
		struct external *e = &m->externals[i];

		if (!e->name[0]) {
			snprintf(e->name, sizeof(e->name), "%s", name);
			e->node = node;
			return true;
		}
	}
	mobo_warning("%s: there are %d devices from outside already", name, EXTERNAL_MAX);
	return false;
}

/* The device and its bridge talk to each other, and to nobody else. */
bool external_may(const struct machine *m, const char *name, uint32_t type, uint32_t dst)
{
	for (unsigned i = 0; i < EXTERNAL_MAX; i++) {
		const struct external *e = &m->externals[i];

		if (!e->part || !e->node) {
			continue;
		}
		if (dst == e->node && strcmp(name, e->part->name) == 0) {
			return type == MOBO__V1__TYPE__IO_REQUEST ||
			       type == MOBO__V1__TYPE__IO_BATCH ||
			       type == MOBO__V1__TYPE__IO_PCI_CONFIG ||
			       type == MOBO__V1__TYPE__DEVICE_RESET ||
			       type == MOBO__V1__TYPE__DEVICE_PAUSE ||
			       type == MOBO__V1__TYPE__DEVICE_RESUME;
		}
		if (dst == e->part->node && strcmp(name, e->name) == 0) {
			return type == MOBO__V1__TYPE__IO_LINE || type == MOBO__V1__TYPE__IO_DMA;
		}
	}
	return false;
}

/* -- Attach -- */

static const char *check_region(const Mobo__V1__Attach *c, const Mobo__V1__Region *g)
{
	if (g->kind > MOBO__V1__REGION_KIND__REGION_BAR_PREFETCH) {
		return "regions are ports, memory or BARs";
	}
	if (g->kind >= MOBO__V1__REGION_KIND__REGION_BAR_IO && g->fn >= c->n_functions) {
		return "a BAR names a function that is not claimed";
	}
	if (*g->direct || g->overlay) {
		return "a device by message has no memory that the guest reaches directly";
	}
	if (g->n_attrs > 1 ||
	    (g->n_attrs == 1 && g->attrs[0]->attr > MOBO__V1__REGION_ATTR__ATTR_POSTED)) {
		return "a region of a device by message is ATTR_SYNC or ATTR_POSTED as a whole";
	}
	if (g->len == 0 || strlen(g->name) > 31) {
		return "a region has a length and a short name";
	}
	return NULL;
}

static const char *check_line(const Mobo__V1__Attach *c, const Mobo__V1__Line *l)
{
	switch ((int)l->kind) {
	case MOBO__V1__LINE_KIND__LINE_ISA:
	case MOBO__V1__LINE_KIND__LINE_GSI: return NULL; /* the engine knows their limits */
	case MOBO__V1__LINE_KIND__LINE_INTX:
		return l->n < c->n_functions ? NULL : "INTx of a function that is not claimed";
	default: return "lines are ISA, GSI or INTx";
	}
}

static const char *check_function(const Mobo__V1__PciFunction *f)
{
	if (f->function > 7 || f->interrupt_pin > 4 || (f->header_type & ~0x80u) ||
	    f->pirq_offset || (f->device > 31 && f->device != ANY_SLOT)) {
		return "a PCI function is an ordinary one, in a slot below 32 or any (0xff)";
	}
	for (size_t i = 0; i < f->n_config; i++) {
		const Mobo__V1__PciConfig *p = f->config[i];

		if (p->len == 0 || p->len > 4 || p->offset > 256 - p->len) {
			return "configuration bytes lie within 256, 1 to 4 at a time";
		}
	}
	return NULL;
}

/* NULL: they can be put before the engine, which judges addresses. */
static const char *check_claims(const Mobo__V1__Attach *c)
{
	const char *wrong = NULL;

	if (!c->by_message) {
		return "a device from outside attaches by message (by_message)";
	}
	if (!*c->chip || strlen(c->chip) > 23 || strlen(c->description) > 200 ||
	    c->n_regions > MOBO_IOCH_REGIONS || c->n_lines > MOBO_IOCH_LINES ||
	    c->n_functions > EXTERNAL_FUNCTIONS ||
	    mobo__v1__attach__get_packed_size(c) > CLAIMS_MAX) {
		return "the chip has no name, or claims too much";
	}
	for (size_t i = 0; i < c->n_regions && !wrong; i++) {
		wrong = check_region(c, c->regions[i]);
	}
	for (size_t i = 0; i < c->n_lines && !wrong; i++) {
		wrong = check_line(c, c->lines[i]);
	}
	for (size_t i = 0; i < c->n_functions && !wrong; i++) {
		wrong = check_function(c->functions[i]);
	}
	return wrong;
}

static Mobo__V1__Attach *copy_claims(const Mobo__V1__Attach *claims)
{
	size_t len = mobo__v1__attach__get_packed_size(claims);
	uint8_t *bytes = malloc(len + 1);
	Mobo__V1__Attach *copy = NULL;

	if (bytes) {
		mobo__v1__attach__pack(claims, bytes);
		copy = mobo__v1__attach__unpack(NULL, len, bytes);
		free(bytes);
	}
	return copy;
}

/* A part that an earlier device left behind, or a new one; NULL: there are too many. */
static struct part *new_part(struct machine *m, const char *name)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (!m->parts[i].name[0]) {
			snprintf(m->parts[i].name, sizeof(m->parts[i].name), "%s", name);
			snprintf(m->parts[i].executable, sizeof(m->parts[i].executable),
				 "mobo-bridge");
			return &m->parts[i];
		}
	}
	return m->n_parts < MACHINE_MAX_PARTS ? part_add(m, PART_DEVICE, name, "mobo-bridge")
					      : NULL;
}

static int start_bridge(struct machine *m, struct external *e, const Mobo__V1__Attach *claims,
			struct mobo_error *err)
{
	char name[sizeof(e->part->name)];
	int ret;

	if (snprintf(name, sizeof(name), "bridge-%s", e->name) >= (int)sizeof(name)) {
		return mobo_error_set(err, ENAMETOOLONG, "%s is too long for the name of a device",
				      e->name);
	}
	if (part_find(m, name)) {
		return mobo_error_set(err, EAGAIN,
				      "%s is still being taken off the board; try again", e->name);
	}
	e->claims = copy_claims(claims);
	e->part = e->claims ? new_part(m, name) : NULL;
	if (!e->part) {
		return mobo_error_set(err, EBUSY, "%s has no room for another device", m->name);
	}
	e->part->external = e;
	for (size_t i = 0; i < e->claims->n_regions; i++) {
		e->claims->regions[i]->priority = MOBO_MAX(e->claims->regions[i]->priority, 1u);
	}
	ret = plan_channel(e->part, err);
	return ret < 0 ? ret : part_spawn(e->part, false, err);
}

void external_attach(struct machine *m, struct external *e, struct mobo_request *r,
		     const Mobo__V1__Attach *claims)
{
	const char *wrong = check_claims(claims);
	struct mobo_error err = {0};

	if (wrong) {
		mobo_reply_error(r, MOBO__V1__CODE__INVALID_ARGUMENT, "%s: %s", e->name, wrong);
	} else if (e->part) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION, "%s is attached already",
				 e->name);
	} else if (m->state != MOBO__V1__MACHINE_STATE__RUNNING &&
		   m->state != MOBO__V1__MACHINE_STATE__PAUSED) {
		mobo_reply_error(r, MOBO__V1__CODE__UNAVAILABLE,
				 "%s is neither running nor paused; try again when it is", m->name);
	} else {
		e->request = r;
		if (start_bridge(m, e, claims, &err) == 0) {
			return;
		}
		refuse(e,
		       err.code == EAGAIN ? MOBO__V1__CODE__UNAVAILABLE
					  : MOBO__V1__CODE__RESOURCE_EXHAUSTED,
		       err.text);
		e->leaving = true;
		if (e->part && e->part->pid > 0) {
			part_kill(e->part); /* the rest when it has ended */
		} else {
			release(e);
		}
	}
}

void external_notify(struct machine *m, struct external *e, struct mobo_request *r,
		     const Mobo__V1__DeviceNotify *n)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";

	if (!*n->verb || strlen(n->verb) > 32 || n->verb[strspn(n->verb, letters)] ||
	    strlen(n->text) > 1024) {
		mobo_reply_error(
			r, MOBO__V1__CODE__INVALID_ARGUMENT,
			"a verb is up to 32 of a-z, 0-9, '-', '_', its text up to 1024 bytes");
		return;
	}
	if (strcmp(n->verb, "reset") == 0 || strcmp(n->verb, "poweroff") == 0 ||
	    strcmp(n->verb, "suspend") == 0) {
		mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED,
				 "a device from outside does not control the machine");
		return;
	}
	mobo_reply(r, NULL);
	machine_device_event(m, e->name, n->verb, n->text, false);
}

/* -- Its part -- */

void external_attached(struct part *p, const Mobo__V1__Attached *attached)
{
	struct external *e = p->external;

	e->n_slots = (unsigned)MOBO_MIN(attached->n_pci_slots, (size_t)EXTERNAL_FUNCTIONS);
	for (unsigned i = 0; i < e->n_slots; i++) {
		e->slots[i] = attached->pci_slots[i];
		if (i < p->claims->n_functions) {
			p->claims->functions[i]->device = e->slots[i]; /* as it is shown */
		}
	}
}

/* The engine said no; the bridge hears it too and ends. */
void external_refused(struct part *p, const struct mobo_result *res)
{
	struct external *e = p->external;

	e->leaving = true;
	refuse(e, res->code, res->text);
}

static void on_end_timer(void *arg)
{
	part_kill(((struct external *)arg)->part);
}

static void on_detached(void *arg, const struct mobo_result *res)
{
	struct external *e = arg;
	Mobo__V1__DeviceQuit quit = MOBO__V1__DEVICE_QUIT__INIT;
	struct machine *m = e->part->machine;

	(void)res;
	e->detaching = false;
	e->part->in_engine = false;
	if (e->part->pid == 0) {
		release(e);
		return;
	}
	mobo_hub_call(m->hub, e->part->node, &quit.base, 0, NULL, NULL);
	e->timer = mobo_loop_timer(m->loop, mobo_monotonic_ns() + END_NS, on_end_timer, e);
}

static void detach(struct external *e)
{
	Mobo__V1__EngineDetach msg = MOBO__V1__ENGINE_DETACH__INIT;
	struct machine *m = e->part->machine;
	struct part *engine = part_find(m, "vcpu");

	if (e->detaching) {
		return;
	}
	e->leaving = e->detaching = true;
	e->part->state = PART_ATTACHED; /* no verb of the machine concerns it any more */
	msg.slot = e->part->slot;
	mobo_hub_call(m->hub, engine ? engine->node : 0, &msg.base, 0, on_detached, e);
}

static bool ending(const struct machine *m)
{
	return m->state != MOBO__V1__MACHINE_STATE__RUNNING &&
	       m->state != MOBO__V1__MACHINE_STATE__PAUSED;
}

void external_ready(struct part *p)
{
	Mobo__V1__Attached attached = MOBO__V1__ATTACHED__INIT;
	struct external *e = p->external;

	if (e->leaving) {
		detach(e); /* it left while it was being attached */
		return;
	}
	attached.pci_slots = e->slots;
	attached.n_pci_slots = e->n_slots;
	attached.bridge = p->node;
	if (e->request) {
		mobo_reply(e->request, &attached.base);
		e->request = NULL;
	}
	machine_device_event(p->machine, e->name, "attached", e->claims->chip, false);
}

void external_left(struct machine *m, uint32_t node)
{
	struct external *e = external_of_node(m, node);

	if (!e) {
		return;
	}
	e->node = 0;
	refuse(e, MOBO__V1__CODE__UNAVAILABLE, "it left");
	if (!e->part) {
		release(e);
		return;
	}
	if (e->leaving || ending(m)) {
		return;
	}
	mobo_warning("%s left: it reads as all ones", e->name);
	machine_device_event(m, e->name, "lost", "it left the bus", false);
	e->leaving = true;
	if (e->part->state == PART_READY) {
		detach(e);
	}
}

/* The process of p ended; the caller has cleared what belongs to the process. */
void external_exited(struct part *p, const char *how)
{
	struct machine *m = p->machine;
	struct external *e = p->external;
	uint32_t node = e->node;

	atomic_store(&p->ioch->dev.state, MOBO_PEER_GONE);
	mobo_watch_destroy(e->timer);
	e->timer = NULL;
	refuse(e, MOBO__V1__CODE__UNAVAILABLE, how);
	if (!e->leaving && !e->request) {
		machine_device_event(m, e->name, "lost", how, false);
		e->node = 0;
		mobo_hub_drop(m->hub, node); /* it may join and attach again */
	}
	detach(e);
}

/* All that the part had; its place and its slot can be used again. */
static void release(struct external *e)
{
	struct part *p = e->part;

	mobo_watch_destroy(e->timer);
	e->timer = NULL;
	if (p) {
		struct machine *m = p->machine;
		unsigned slot = p->slot;
		char topic[64];

		snprintf(topic, sizeof(topic), "vm.dev.%s.ready", p->name);
		mobo_hub_forget(m->hub, topic);
		part_finish(p);
		if (p->ioch) {
			munmap(p->ioch, sizeof(*p->ioch));
		}
		*p = (struct part){.machine = m,
				   .kind = PART_DEVICE,
				   .slot = slot,
				   .sock = -1,
				   .stream_fd = -1,
				   .stream_keep = -1};
	}
	if (e->claims) {
		mobo__v1__attach__free_unpacked(e->claims, NULL);
	}

	struct external was = *e;

	memset(e, 0, sizeof(*e));
	if (was.node) { /* refused, but still on the bus: it may try again */
		e->node = was.node;
		memcpy(e->name, was.name, sizeof(e->name));
	}
	if (was.request) {
		mobo_reply_error(was.request, was.refusal, "%s", was.refusal_text);
	}
}

void external_quit(struct machine *m)
{
	Mobo__V1__DeviceQuit msg = MOBO__V1__DEVICE_QUIT__INIT;

	for (unsigned i = 0; i < EXTERNAL_MAX; i++) {
		if (m->externals[i].name[0] && m->externals[i].node) {
			mobo_hub_call(m->hub, m->externals[i].node, &msg.base, QUIT_MS, NULL, NULL);
		}
	}
}
