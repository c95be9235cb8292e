/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a chip's process starts: DeviceInit and descriptors on fd 3, shared memory, the chip's init,
 * HELLO, Attach, the sandbox, Ready.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mobo/log.h"
#include "mobo/sandbox.h"
#include "process.h"

enum { INIT_MAX = 64 * 1024, CONNECT_MS = 10000, ATTACH_MS = 30000 };

/* Names that libbus keeps for itself; -1 where the machine gave none. */
struct shared_fds {
	int ioch, bell, page, codemap, ram, state, mem;
};

/* One DeviceInit message: the first is kept, all give their fds to the instance to be. */
static int receive_one(struct process *p, char (*names)[24], int *fds, unsigned *n_fds, bool *more,
		       struct mobo_error *err)
{
	static uint8_t buf[INIT_MAX];
	Mobo__V1__DeviceInit *init;
	unsigned n = MOBO_FDS_PER_MESSAGE;
	int got[MOBO_FDS_PER_MESSAGE];
	ssize_t len = mobo_fds_recv(PROCESS_FD, buf, sizeof(buf), got, &n);

	if (len <= 0) {
		return mobo_error_set(err, len < 0 ? (int)-len : EPIPE,
				      "mobo-machine did not say what this device is.");
	}
	init = mobo__v1__device_init__unpack(NULL, (size_t)len, buf);
	if (!init || init->n_fds != n || *n_fds + n > MOBO_DEV_FDS) {
		return mobo_error_set(err, EPROTO, "mobo-machine sent a malformed DeviceInit.");
	}
	for (unsigned i = 0; i < n; i++) {
		snprintf(names[*n_fds], sizeof(names[0]), "%s", init->fds[i]);
		fds[(*n_fds)++] = got[i];
	}
	*more = init->more;
	if (p->init) {
		mobo__v1__device_init__free_unpacked(init, NULL);
	} else {
		p->init = init;
	}
	return 0;
}

static int fresh_journal(struct process *p)
{
	struct mobo_state_journal *j = p->journal;

	memset(j, 0, MOBO_STATE_OFFSET + p->cls->state_size);
	j->version = p->cls->state_version;
	j->offset = MOBO_STATE_OFFSET;
	j->size = (uint32_t)p->cls->state_size;
	snprintf(j->chip, sizeof(j->chip), "%s", p->cls->name);
	j->magic = MOBO_STATE_MAGIC;
	return 0;
}

static bool journal_fits(const struct process *p)
{
	const struct mobo_state_journal *j = p->journal;

	return j->magic == MOBO_STATE_MAGIC && j->version == p->cls->state_version &&
	       j->size == p->cls->state_size && j->offset == MOBO_STATE_OFFSET &&
	       strncmp(j->chip, p->cls->name, sizeof(j->chip)) == 0;
}

static int *shared_slot(struct shared_fds *s, const char *name)
{
	const struct {
		const char *name;
		int *fd;
	} known[] = {
		{"ioch", &s->ioch},	  {"bell", &s->bell}, {"page", &s->page},
		{"codemap", &s->codemap}, {"ram", &s->ram},   {"state", &s->state},
		{"mem", &s->mem},
	};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(known); i++) {
		if (strcmp(known[i].name, name) == 0) {
			return known[i].fd;
		}
	}
	return NULL;
}

/* Maps and closes; NULL with err when `fd` is there but cannot be mapped, or is needed and absent.
 */
static void *map_one(int fd, const char *name, size_t min, size_t *size, bool needed,
		     struct mobo_error *err)
{
	void *at;

	*size = 0;
	if (fd < 0) {
		if (needed) {
			mobo_error_set(err, ENOENT, "mobo-machine gave no \"%s\".", name);
		}
		return NULL;
	}
	at = mobo_memfd_map(fd, min, true, size);
	if (!at) {
		mobo_error_set(err, errno, "The shared memory \"%s\" cannot be mapped: %s.", name,
			       strerror(errno));
	}
	close(fd);
	return at;
}

static int map_shared(struct process *p, const struct shared_fds *s, struct mobo_ram *ram,
		      void **memory, size_t *memory_len, struct mobo_error *err)
{
	size_t size, ch_size;

	p->channel.ch = map_one(s->ioch, "ioch", sizeof(struct mobo_ioch), &ch_size, true, err);
	p->page = map_one(s->page, "page", sizeof(*p->page), &size, true, err);
	p->journal = map_one(s->state, "state", MOBO_STATE_OFFSET + p->cls->state_size, &size, true,
			     err);
	p->bell_fd = s->bell;
	if (!p->channel.ch || !p->page || !p->journal || p->bell_fd < 0) {
		return err->code ? -err->code : mobo_error_set(err, ENOENT, "No \"bell\" came.");
	}
	if (mobo_ioch_check(p->channel.ch, ch_size) < 0) {
		return mobo_error_set(err, EPROTO,
				      "The I/O channel is of another version of Mobo.");
	}
	p->codemap = map_one(s->codemap, "codemap", sizeof(*p->codemap), &size, false, err);
	if (p->codemap) {
		p->codemap_pages = (size_t)p->codemap->n_pages;
		if (size < sizeof(*p->codemap) + (p->codemap_pages + 63) / 64 * 16) {
			return mobo_error_set(err, EPROTO, "The code map is too short.");
		}
	}
	ram->base = map_one(s->ram, "ram", (size_t)p->init->ram_size, &size, false, err);
	ram->size = p->init->ram_size;
	ram->low_len = MOBO_MIN(p->init->ram_low_len, p->init->ram_size);
	*memory = map_one(s->mem, "mem", 1, memory_len, false, err);
	return err->code ? -err->code : 0;
}

int process_receive_init(struct process *p, struct mobo_error *err)
{
	struct shared_fds shared = {-1, -1, -1, -1, -1, -1, -1};
	char names[MOBO_DEV_FDS][24];
	int fds[MOBO_DEV_FDS];
	unsigned n = 0;
	bool more = true;
	struct mobo_ram ram = {0};
	void *memory = NULL, *state;
	size_t memory_len = 0;
	int r;

	while (more) {
		r = receive_one(p, names, fds, &n, &more, err);
		if (r < 0) {
			return r;
		}
	}
	mobo_log_init(p->init->name);
	for (unsigned i = 0; i < n; i++) {
		int *slot = shared_slot(&shared, names[i]);

		if (slot) {
			*slot = fds[i];
			fds[i] = -1;
		}
	}
	r = map_shared(p, &shared, &ram, &memory, &memory_len, err);
	if (r < 0) {
		return r;
	}
	MOBO_ASSERT(p->journal);
	if (!p->init->restarted || !journal_fits(p)) {
		p->init->restarted = false;
		fresh_journal(p);
		memset(p->channel.ch->shadow, 0, sizeof(p->channel.ch->shadow));
	}
	atomic_fetch_add(&p->journal->epoch, 1);
	state = (char *)p->journal + MOBO_STATE_OFFSET;
	r = mobo_dev_new(&p->dev, p->cls, p->init->name, &process_host, state,
			 p->channel.ch->shadow);
	if (r < 0) {
		return mobo_error_set(err, -r, "The instance cannot be made: %s.", strerror(-r));
	}
	p->dev->ram = ram;
	p->dev->memory = memory;
	p->dev->memory_len = memory_len;
	p->dev->realtime_base_ns = (int64_t)p->init->realtime_base_ns;
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] >= 0) {
			mobo_dev_fd_give(p->dev, names[i], fds[i]);
		}
	}
	for (size_t i = 0; i < p->init->n_config; i++) {
		mobo_dev_config_set(p->dev, p->init->config[i]->key, p->init->config[i]->value);
	}
	return 0;
}

/* -- Attach -- */

struct attach_arrays {
	Mobo__V1__Region region[MOBO_IOCH_REGIONS], *regions[MOBO_IOCH_REGIONS];
	Mobo__V1__AttrRange attr[MOBO_IOCH_REGIONS], *attrs[MOBO_IOCH_REGIONS];
	Mobo__V1__Line line[MOBO_IOCH_LINES], *lines[MOBO_IOCH_LINES];
	Mobo__V1__PciFunction fn[MOBO_DEV_FUNCTIONS], *fns[MOBO_DEV_FUNCTIONS];
	Mobo__V1__PciConfig *config[MOBO_DEV_FUNCTIONS], **configs[MOBO_DEV_FUNCTIONS];
};

static void fill_region(const struct mobo_dev *d, unsigned i, struct attach_arrays *a)
{
	const struct mobo_region *r = &d->regions[i];
	Mobo__V1__Region *m = &a->region[i];

	mobo__v1__region__init(m);
	mobo__v1__attr_range__init(&a->attr[i]);
	m->name = (char *)(r->name ? r->name : "");
	m->kind = (Mobo__V1__RegionKind)r->kind;
	m->base_address = r->base;
	m->len = r->len;
	m->fn = r->fn;
	m->bar = r->bar;
	m->priority = r->priority;
	m->direct = (char *)(r->direct ? r->direct : "");
	m->overlay = r->overlay;
	m->shadow_offset = d->shadow_offset[i];
	m->string_ops = true; /* without hooks of its own, libbus goes element by element */
	m->disabled = r->disabled;
	a->attr[i].len = r->len;
	a->attr[i].attr = (Mobo__V1__RegionAttr)r->attr;
	a->attrs[i] = &a->attr[i];
	m->attrs = &a->attrs[i];
	m->n_attrs = 1;
	a->regions[i] = m;
}

static int fill_function(const struct mobo_dev *d, unsigned i, struct attach_arrays *a)
{
	const struct mobo_pci_function *f = &d->functions[i];
	Mobo__V1__PciFunction *m = &a->fn[i];

	mobo__v1__pci_function__init(m);
	m->device = f->device;
	m->function = f->function;
	m->vendor_id = f->vendor_id;
	m->device_id = f->device_id;
	m->subsystem_vendor_id = f->subsystem_vendor_id;
	m->subsystem_id = f->subsystem_id;
	m->class_code = f->class_code;
	m->revision = f->revision;
	m->header_type = f->header_type;
	m->interrupt_pin = f->interrupt_pin;
	m->pirq_offset = f->pirq_offset;
	a->config[i] = calloc(f->n_config + 1, sizeof(*a->config[i]));
	a->configs[i] = calloc(f->n_config + 1, sizeof(void *));
	if (!a->config[i] || !a->configs[i]) {
		return -ENOMEM;
	}
	for (unsigned k = 0; k < f->n_config; k++) {
		Mobo__V1__PciConfig *c = &a->config[i][k];

		mobo__v1__pci_config__init(c);
		c->offset = f->config[k].offset;
		c->len = f->config[k].len;
		c->reset = f->config[k].reset;
		c->write_mask = f->config[k].write_mask;
		c->notify = f->config[k].notify;
		a->configs[i][k] = c;
	}
	m->config = a->configs[i];
	m->n_config = f->n_config;
	a->fns[i] = m;
	return 0;
}

static int attach(struct process *p, struct mobo_error *err)
{
	const struct mobo_chip_class *cls = p->cls;
	struct attach_arrays *a = calloc(1, sizeof(*a));
	Mobo__V1__Attach msg = MOBO__V1__ATTACH__INIT;
	ProtobufCMessage *reply = NULL;
	int r = a ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < cls->n_regions; i++) {
		fill_region(p->dev, i, a);
	}
	for (unsigned i = 0; r == 0 && i < cls->n_lines; i++) {
		mobo__v1__line__init(&a->line[i]);
		a->line[i].kind = (Mobo__V1__LineKind)p->dev->lines[i].kind;
		a->line[i].n = p->dev->lines[i].n;
		a->lines[i] = &a->line[i];
	}
	for (unsigned i = 0; r == 0 && i < cls->n_functions; i++) {
		r = fill_function(p->dev, i, a);
	}
	if (r < 0) {
		mobo_error_set(err, -r, "%s.", strerror(-r));
		goto out;
	}
	msg.chip = (char *)cls->name;
	msg.description = (char *)(cls->description ? cls->description : "");
	msg.regions = a->regions;
	msg.n_regions = cls->n_regions;
	msg.lines = a->lines;
	msg.n_lines = cls->n_lines;
	msg.functions = a->fns;
	msg.n_functions = cls->n_functions;
	msg.state_version = cls->state_version;
	msg.restartable = cls->restart == MOBO_RESTART_STATE;
	msg.removable_media = cls->media != NULL;
	msg.streams = cls->stream_readable ? 1 : 0;
	r = mobo_bus_call_sync(p->bus, 0, &msg.base, ATTACH_MS, &reply, NULL, err);
	if (reply) {
		protobuf_c_message_free_unpacked(reply, NULL);
	}
out:
	for (unsigned i = 0; a && i < cls->n_functions; i++) {
		free(a->config[i]);
		free(a->configs[i]);
	}
	free(a);
	return r;
}

static int close_sandbox(struct process *p, struct mobo_error *err)
{
	const char *env = getenv("MOBO_SANDBOX");
	int r;

	if (env && strcmp(env, "off") == 0) {
		mobo_warning("runs without sandbox because MOBO_SANDBOX=off");
		return 0;
	}
	r = mobo_sandbox_enter(0, err);
	p->sandboxed = r == 0;
	return r;
}

static void on_disconnected(void *arg)
{
	/* The machine runs on without its supervisor; fd 3 says when that is for good. */
	mobo_debug("the machine's bus does not answer");
}

int process_connect(struct process *p, struct mobo_error *err)
{
	const struct mobo_bus_options opt = {
		.endpoint = p->init->endpoint,
		.role = MOBO__V1__ROLE__DEVICE,
		.name = p->init->name,
		.token = p->init->token,
		.reconnect = false,
		.disconnected = on_disconnected,
		.arg = p,
	};
	int r = mobo_bus_connect(&p->bus, p->loop, &opt, CONNECT_MS, err);

	if (r == 0 && p->init->log_endpoint[0]) {
		mobo_bus_log(p->bus, p->init->log_endpoint);
	}
	return r;
}

int process_join(struct process *p, struct mobo_error *err)
{
	Mobo__V1__Ready ready = MOBO__V1__READY__INIT;
	ProtobufCMessage *reply = NULL;
	int r;

	process_serve(p);
	r = attach(p, err);
	if (r < 0) {
		return r;
	}
	r = close_sandbox(p, err);
	if (r < 0) {
		return r;
	}
	p->serving = true;
	ready.sandboxed = p->sandboxed;
	r = mobo_bus_call_sync(p->bus, 0, &ready.base, 0, &reply, NULL, err);
	if (reply) {
		protobuf_c_message_free_unpacked(reply, NULL);
	}
	return r;
}
