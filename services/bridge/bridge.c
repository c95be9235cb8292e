/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chip that has no behaviour of its own: accesses go over the bus to the device and its answers
 * come back, lines and DMA are done here on the device's behalf. One access at a time, in the order
 * of the channel. While one waits for its answer the event loop runs, so that the device can move a
 * line or read RAM before it answers.
 *
 * A device that does not answer within ACCESS_MS is silent: reads are all ones and writes are
 * dropped, without asking it, until it has worked off what it was sent (the probe says when).
 */
#include "bridge.h"

#include <stdlib.h>
#include <string.h>

#include "mobo/log.h"
#include "mobo/v1/types.pb-c.h"
#include "process.h"

enum {
	ACCESS_MS = 10000,
	VERB_MS = 3000, /* the machine waits 10 s for a pause */
	PROBE_MS = 3600 * 1000,
	BATCH = 64,
	BATCHES_MAX = 8, /* unanswered */
	DMA_MAX = 64 * 1024,
};
#define STRING_NS 100000000ull /* a string access gives the vCPU a turn after this */

struct bridge_state {
	uint64_t reserved; /* the state is the device's own affair */
};

static struct bridge {
	struct mobo_chip_class cls;
	struct mobo_region regions[MOBO_IOCH_REGIONS];
	struct mobo_line lines[MOBO_IOCH_LINES];
	struct mobo_pci_function functions[MOBO_DEV_FUNCTIONS];
	struct mobo_dev *dev;
	struct mobo_bus *bus;
	struct mobo_loop *loop;
	uint32_t peer;
	bool silent;
	Mobo__V1__IoRequest write[BATCH];
	unsigned n_writes;
	unsigned n_batches; /* sent and unanswered */
	bool room;	    /* less than BATCHES_MAX of them */
	struct mobo_watch *flush_timer;
} bridge;

/* -- Asking the device -- */

static void probe(void);

static void on_probe(void *arg, const struct mobo_result *res)
{
	(void)arg;
	if (res->code == MOBO__V1__CODE__OK) {
		bridge.silent = false;
		mobo_info("the device answers again");
		mobo_dev_notify(bridge.dev, "answering", "");
	} else if (res->code == MOBO__V1__CODE__DEADLINE_EXCEEDED) {
		probe();
	}
}

/* An empty batch: answered when all that was sent before it is. */
static void probe(void)
{
	Mobo__V1__IoBatch nothing = MOBO__V1__IO_BATCH__INIT;

	mobo_bus_call(bridge.bus, bridge.peer, &nothing.base, PROBE_MS, on_probe, NULL);
}

static void fall_silent(void)
{
	if (bridge.silent) {
		return;
	}
	bridge.silent = true;
	bridge.n_writes = 0;
	mobo_warning("the device does not answer: it reads as all ones until it does");
	mobo_dev_notify(bridge.dev, "not-answering", "reads are all ones, writes are lost");
	probe();
}

/* The reply (to be freed), or NULL: silent, gone, or an answer of another kind. */
static ProtobufCMessage *ask(const ProtobufCMessage *msg, unsigned ms, uint32_t want)
{
	ProtobufCMessage *reply = NULL;
	Mobo__V1__Code code = MOBO__V1__CODE__OK;

	if (bridge.silent ||
	    mobo_bus_call_sync(bridge.bus, bridge.peer, msg, ms, &reply, &code, NULL) < 0) {
		if (code == MOBO__V1__CODE__DEADLINE_EXCEEDED) {
			fall_silent();
		}
		return NULL;
	}
	if (reply && mobo_type_of(reply) != want) {
		mobo_dev_guest_error(bridge.dev, "the device gave an answer of a wrong type");
		protobuf_c_message_free_unpacked(reply, NULL);
		return NULL;
	}
	return reply;
}

static void tell(const ProtobufCMessage *msg, unsigned ms)
{
	ProtobufCMessage *reply = ask(msg, ms, MOBO__V1__TYPE__ACK);

	if (reply) {
		protobuf_c_message_free_unpacked(reply, NULL);
	}
}

/* -- Posted writes -- */

static void on_batch(void *arg, const struct mobo_result *res)
{
	(void)arg;
	bridge.n_batches--;
	bridge.room = bridge.n_batches < BATCHES_MAX;
	if (res->code == MOBO__V1__CODE__DEADLINE_EXCEEDED) {
		fall_silent();
	}
}

static void flush(void)
{
	Mobo__V1__IoBatch batch = MOBO__V1__IO_BATCH__INIT;
	Mobo__V1__IoRequest *writes[BATCH];

	if (bridge.n_writes == 0) {
		return;
	}
	for (unsigned i = 0; i < bridge.n_writes; i++) {
		writes[i] = &bridge.write[i];
	}
	batch.writes = writes;
	batch.n_writes = bridge.n_writes;
	bridge.n_writes = 0;
	bridge.n_batches++;
	bridge.room = bridge.n_batches < BATCHES_MAX;
	mobo_bus_call(bridge.bus, bridge.peer, &batch.base, ACCESS_MS, on_batch, NULL);
}

static void on_flush_timer(void *arg)
{
	(void)arg;
	flush();
}

static void post(const Mobo__V1__IoRequest *write)
{
	if (!bridge.room) {
		mobo_loop_run_until(bridge.loop, &bridge.room,
				    mobo_monotonic_ns() + ACCESS_MS * 1000000ull);
	}
	if (bridge.silent || !bridge.room) {
		return;
	}
	bridge.write[bridge.n_writes++] = *write;
	if (bridge.n_writes == BATCH) {
		flush();
	} else {
		mobo_watch_timer(bridge.flush_timer, mobo_monotonic_ns());
	}
}

/* -- Accesses of the guest -- */

static Mobo__V1__IoRequest request_of(unsigned region, uint64_t offset, unsigned size)
{
	Mobo__V1__IoRequest req = MOBO__V1__IO_REQUEST__INIT;

	req.region = region;
	req.offset = offset;
	req.size = size;
	req.vtime_ns = mobo_dev_now_ns(bridge.dev);
	return req;
}

static uint64_t on_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	Mobo__V1__IoRequest req = request_of(region, offset, size);
	ProtobufCMessage *reply;
	uint64_t data = UINT64_MAX;

	(void)d;
	flush();
	reply = ask(&req.base, ACCESS_MS, MOBO__V1__TYPE__IO_REPLY);
	if (reply) {
		data = ((const Mobo__V1__IoReply *)reply)->data;
		protobuf_c_message_free_unpacked(reply, NULL);
	}
	return data;
}

static void on_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		     uint64_t val)
{
	Mobo__V1__IoRequest req = request_of(region, offset, size);
	ProtobufCMessage *reply;

	(void)d;
	req.write = true;
	req.data = val;
	if (bridge.regions[region].attr == MOBO_POSTED) {
		post(&req);
		return;
	}
	flush();
	reply = ask(&req.base, ACCESS_MS, MOBO__V1__TYPE__IO_REPLY);
	if (reply) {
		protobuf_c_message_free_unpacked(reply, NULL);
	}
}

static unsigned on_read_string(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			       void *buf, unsigned count)
{
	uint64_t end = mobo_monotonic_ns() + STRING_NS;
	unsigned n = 0;

	do {
		uint64_t val = on_read(d, region, offset, size);

		memcpy((char *)buf + (size_t)n * size, &val, size);
		n++;
	} while (n < count && mobo_monotonic_ns() < end);
	return n;
}

static unsigned on_write_string(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
				const void *buf, unsigned count)
{
	uint64_t end = mobo_monotonic_ns() + STRING_NS;
	unsigned n = 0;

	do {
		uint64_t val = 0;

		memcpy(&val, (const char *)buf + (size_t)n * size, size);
		on_write(d, region, offset, size, val);
		n++;
	} while (n < count && mobo_monotonic_ns() < end);
	return n;
}

static void on_pci_config(struct mobo_dev *d, unsigned fn, unsigned offset, unsigned len,
			  uint32_t val)
{
	Mobo__V1__IoPciConfig msg = MOBO__V1__IO_PCI_CONFIG__INIT;

	(void)d;
	msg.fn = fn;
	msg.offset = offset;
	msg.len = len;
	msg.value = val;
	flush();
	tell(&msg.base, ACCESS_MS);
}

/* -- Verbs of the machine -- */

/* Before the device is attached it need not hear of anything. */
static void pass_on(const ProtobufCMessage *msg)
{
	if (process_self()->serving) {
		flush();
		tell(msg, VERB_MS);
	}
}

static void on_reset(struct mobo_dev *d)
{
	Mobo__V1__DeviceReset msg = MOBO__V1__DEVICE_RESET__INIT;

	for (unsigned i = 0; i < bridge.cls.n_lines; i++) {
		mobo_dev_line(d, i, false);
	}
	pass_on(&msg.base);
}

static void on_pause(struct mobo_dev *d)
{
	Mobo__V1__DevicePause msg = MOBO__V1__DEVICE_PAUSE__INIT;

	(void)d;
	pass_on(&msg.base);
}

static void on_resume(struct mobo_dev *d)
{
	Mobo__V1__DeviceResume msg = MOBO__V1__DEVICE_RESUME__INIT;

	(void)d;
	pass_on(&msg.base);
}

/* -- What the device asks for -- */

static bool from_device(struct mobo_request *r)
{
	if (mobo_request_node(r) == bridge.peer) {
		return true;
	}
	mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED, "that is not your device");
	return false;
}

static void serve_line(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__IoLine *msg = (const void *)body;

	(void)arg;
	if (!from_device(r)) {
		return;
	}
	if (msg->line >= bridge.cls.n_lines) {
		mobo_reply_error(r, MOBO__V1__CODE__OUT_OF_RANGE,
				 "line %u: the device attached with %u lines", msg->line,
				 bridge.cls.n_lines);
		return;
	}
	if (msg->pulse) {
		mobo_dev_line_pulse(bridge.dev, msg->line);
	} else {
		mobo_dev_line(bridge.dev, msg->line, msg->level);
	}
	mobo_reply(r, NULL);
}

static void serve_dma(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	static uint8_t buf[DMA_MAX];
	const Mobo__V1__IoDma *msg = (const void *)body;
	Mobo__V1__IoDmaReply reply = MOBO__V1__IO_DMA_REPLY__INIT;
	size_t len = msg->write ? msg->data.len : msg->len;
	bool done;

	(void)arg;
	if (!from_device(r)) {
		return;
	}
	if (len > DMA_MAX || len == 0) {
		mobo_reply_error(r, MOBO__V1__CODE__INVALID_ARGUMENT,
				 "a transfer has 1 to %d bytes", DMA_MAX);
		return;
	}
	if (bridge.cls.n_functions == 0) {
		mobo_reply_error(r, MOBO__V1__CODE__PERMISSION_DENIED,
				 "DMA is for devices with a PCI function");
		return;
	}
	if (msg->write) {
		done = mobo_dev_dma_write(bridge.dev, msg->gpa, msg->data.data, len);
	} else {
		done = mobo_dev_dma_read(bridge.dev, msg->gpa, buf, len);
		reply.data.data = buf;
		reply.data.len = len;
	}
	if (done) {
		mobo_reply(r, &reply.base);
	} else {
		mobo_reply_error(r, MOBO__V1__CODE__OUT_OF_RANGE,
				 "no RAM at 0x%llx, or bus mastering is off",
				 (unsigned long long)msg->gpa);
	}
}

/* -- Life -- */

static int on_init(struct mobo_dev *d)
{
	struct process *p = process_self();

	bridge.dev = d;
	bridge.bus = p->bus;
	bridge.loop = p->loop;
	bridge.room = true;
	bridge.flush_timer = mobo_loop_timer(p->loop, UINT64_MAX, on_flush_timer, NULL);
	mobo_bus_serve(p->bus, MOBO__V1__TYPE__IO_LINE, serve_line, NULL);
	mobo_bus_serve(p->bus, MOBO__V1__TYPE__IO_DMA, serve_dma, NULL);
	return bridge.flush_timer ? 0 : -1;
}

static void take_regions(const Mobo__V1__Attach *claims)
{
	for (size_t i = 0; i < claims->n_regions && i < MOBO_IOCH_REGIONS; i++) {
		const Mobo__V1__Region *c = claims->regions[i];
		bool posted =
			c->n_attrs > 0 && c->attrs[0]->attr == MOBO__V1__REGION_ATTR__ATTR_POSTED;

		bridge.regions[i] = (struct mobo_region){
			.name = c->name,
			.kind = (enum mobo_region_kind)c->kind,
			.base = c->base_address,
			.len = c->len,
			.attr = posted ? MOBO_POSTED : MOBO_SYNC,
			.fn = (uint8_t)c->fn,
			.bar = (uint8_t)c->bar,
			.priority = (uint8_t)MOBO_MIN(c->priority, 255u),
			.read = on_read,
			.write = on_write,
			.read_string = on_read_string,
			.write_string = on_write_string,
		};
		bridge.cls.n_regions = (unsigned)i + 1;
	}
}

static void take_function(struct mobo_pci_function *f, const Mobo__V1__PciFunction *c)
{
	struct mobo_pci_config *config = calloc(c->n_config + 1, sizeof(*config));

	MOBO_ASSERT(config);
	*f = (struct mobo_pci_function){
		.device = (uint8_t)c->device,
		.function = (uint8_t)c->function,
		.vendor_id = (uint16_t)c->vendor_id,
		.device_id = (uint16_t)c->device_id,
		.subsystem_vendor_id = (uint16_t)c->subsystem_vendor_id,
		.subsystem_id = (uint16_t)c->subsystem_id,
		.class_code = c->class_code,
		.revision = (uint8_t)c->revision,
		.header_type = (uint8_t)c->header_type,
		.interrupt_pin = (uint8_t)c->interrupt_pin,
		.config = config,
		.n_config = (unsigned)c->n_config,
	};
	for (size_t i = 0; i < c->n_config; i++) {
		config[i] = (struct mobo_pci_config){
			.offset = (uint8_t)c->config[i]->offset,
			.len = (uint8_t)c->config[i]->len,
			.reset = c->config[i]->reset,
			.write_mask = c->config[i]->write_mask,
			.notify = c->config[i]->notify,
		};
	}
}

const struct mobo_chip_class *bridge_class(const Mobo__V1__Attach *claims, uint32_t peer)
{
	struct mobo_chip_class *cls = &bridge.cls;

	*cls = (struct mobo_chip_class){
		.name = claims->chip,
		.description = claims->description,
		.state_version = 1,
		.state_size = sizeof(struct bridge_state),
		.regions = bridge.regions,
		.lines = bridge.lines,
		.functions = bridge.functions,
		.init = on_init,
		.reset = on_reset,
		.pause = on_pause,
		.resume = on_resume,
		.pci_config = on_pci_config,
	};
	bridge.peer = peer;
	take_regions(claims);
	for (size_t i = 0; i < claims->n_lines && i < MOBO_IOCH_LINES; i++) {
		bridge.lines[i] = (struct mobo_line){(enum mobo_line_kind)claims->lines[i]->kind,
						     (uint8_t)claims->lines[i]->n};
		cls->n_lines = (unsigned)i + 1;
	}
	for (size_t i = 0; i < claims->n_functions && i < MOBO_DEV_FUNCTIONS; i++) {
		take_function(&bridge.functions[i], claims->functions[i]);
		cls->n_functions = (unsigned)i + 1;
	}
	return cls;
}
