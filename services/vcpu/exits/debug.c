/* SPDX-License-Identifier: Apache-2.0 */
/* What debuggers ask of the CPUs: memory, breakpoints, steps, stops, blocks of code. */
#include "exits/debug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/mmu.h"
#include "mobo/v1/debug.pb-c.h"

enum { PAGE = 4096, MAX_MEMORY = 65536, MAX_BLOCKS = 1024 };

/* -- Memory, on the CPU's thread -- */

struct memory {
	uint64_t address;
	uint8_t *buf;
	size_t len, done;
	bool physical;
};

/* The run at an address, and how much of what is wanted lies in its page. False: not mapped. */
static bool find(struct vcpu *v, const struct memory *m, size_t at, struct mem_run *run,
		 uint64_t *gpa, size_t *n)
{
	uint64_t address = m->address + at;

	*gpa = address;
	if (!m->physical && mmu_translate_debug(v, address, gpa) < 0) {
		return false;
	}
	*run = board_mem_lookup(v->board, *gpa);
	*n = MOBO_MIN(PAGE - (*gpa & (PAGE - 1)), m->len - at);
	return true;
}

static void read_memory(struct vcpu *v, void *arg)
{
	struct memory *m = arg;
	struct mem_run run;
	uint64_t gpa;
	size_t n;

	for (m->done = 0; m->done < m->len; m->done += n) {
		if (!find(v, m, m->done, &run, &gpa, &n) || !run.r) {
			return;
		}
		memcpy(m->buf + m->done, run.r + (gpa - run.gpa), n);
	}
}

static void write_memory(struct vcpu *v, void *arg)
{
	struct memory *m = arg;
	struct mem_run run;
	uint64_t gpa;
	size_t n;

	for (size_t at = 0; at < m->len; at += n) {
		if (!find(v, m, at, &run, &gpa, &n) || !run.w) {
			return;
		}
	}
	for (; m->done < m->len; m->done += n) {
		find(v, m, m->done, &run, &gpa, &n);
		memcpy(run.w + (gpa - run.gpa), m->buf + m->done, n);
		if (board_code_page(v->board, gpa)) {
			board_code_written(v, gpa, (unsigned)n);
		}
	}
}

static void reply_no_memory(struct mobo_request *r, const struct memory *m, const char *what)
{
	mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND, "there is no %s at %s address 0x%llx", what,
			 m->physical ? "physical" : "linear",
			 (unsigned long long)(m->address + m->done));
}

static void serve_read(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__ReadMemory *msg = (const void *)body;
	Mobo__V1__MemoryData reply = MOBO__V1__MEMORY_DATA__INIT;
	struct service *s = arg;
	static uint8_t buf[MAX_MEMORY];
	struct memory m = {.address = msg->address,
			   .buf = buf,
			   .len = MOBO_MIN(msg->len, (uint32_t)MAX_MEMORY),
			   .physical = msg->physical};
	int rc = board_on_cpu(s->board, msg->vcpu, read_memory, &m);

	if (rc < 0) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
	} else if (m.done == 0 && m.len) {
		reply_no_memory(r, &m, "memory");
	} else {
		reply.data.data = buf;
		reply.data.len = m.done;
		mobo_reply(r, &reply.base);
	}
}

static void serve_write(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__WriteMemory *msg = (const void *)body;
	struct service *s = arg;
	struct memory m = {.address = msg->address,
			   .buf = msg->data.data,
			   .len = msg->data.len,
			   .physical = msg->physical};
	int rc = board_on_cpu(s->board, msg->vcpu, write_memory, &m);

	if (rc < 0) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
	} else if (m.done < m.len) {
		reply_no_memory(r, &m, "RAM, or not enough of it,");
	} else {
		mobo_reply(r, NULL);
	}
}

/* -- Breakpoints and watchpoints -- */

static bool has_debugger(struct service *s, struct mobo_request *r)
{
	if (!s->board->ops->debug) {
		mobo_reply_error(r, MOBO__V1__CODE__UNIMPLEMENTED,
				 "the engine `%s` cannot be debugged", s->board->ops->name);
		return false;
	}
	return true;
}

static void set_points(struct vcpu *v, void *arg)
{
	const struct vcpu_debug *points = arg;

	v->debug.n_exec = points->n_exec;
	v->debug.n_data = points->n_data;
	memcpy(v->debug.points, points->points, sizeof(points->points));
	v->board->ops->debug->changed(v);
}

static void take_points(struct vcpu_debug *d, const Mobo__V1__SetDebugPoints *msg, bool exec)
{
	static const enum debug_kind kinds[] = {
		[MOBO__V1__DEBUG_POINT__DEBUG_KIND__BREAKPOINT] = DEBUG_EXEC,
		[MOBO__V1__DEBUG_POINT__DEBUG_KIND__WRITE] = DEBUG_WRITE,
		[MOBO__V1__DEBUG_POINT__DEBUG_KIND__READ] = DEBUG_READ,
		[MOBO__V1__DEBUG_POINT__DEBUG_KIND__ACCESS] = DEBUG_ACCESS,
	};

	for (size_t i = 0; i < msg->n_points; i++) {
		const Mobo__V1__DebugPoint *p = msg->points[i];

		if ((kinds[p->kind] == DEBUG_EXEC) == exec) {
			unsigned n = exec ? d->n_exec++ : d->n_exec + d->n_data++;

			d->points[n] = (struct debug_point){p->address, p->len, kinds[p->kind]};
		}
	}
}

static bool points_valid(const Mobo__V1__SetDebugPoints *msg)
{
	bool ok = msg->n_points <= DEBUG_POINTS;

	for (size_t i = 0; i < msg->n_points; i++) {
		const Mobo__V1__DebugPoint *p = msg->points[i];

		ok &= (unsigned)p->kind <= MOBO__V1__DEBUG_POINT__DEBUG_KIND__ACCESS && p->len &&
		      p->len <= PAGE && p->address + p->len - 1 >= p->address;
	}
	return ok;
}

static void serve_points(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__SetDebugPoints *msg = (const void *)body;
	struct service *s = arg;
	struct vcpu_debug points = {0};

	if (!has_debugger(s, r)) {
		return;
	}
	if (!points_valid(msg)) {
		mobo_reply_error(r, MOBO__V1__CODE__INVALID_ARGUMENT,
				 "up to %u points of 1 to %u bytes are possible", DEBUG_POINTS,
				 PAGE);
		return;
	}
	take_points(&points, msg, true);
	take_points(&points, msg, false);
	for (unsigned i = 0; i < s->board->n_cpus; i++) {
		int rc = board_on_cpu(s->board, i, set_points, &points);

		if (rc < 0) {
			debug_reply_no_cpu(r, i, rc);
			return;
		}
	}
	mobo_reply(r, NULL);
}

/* -- Stops and steps -- */

static void reply_stops(struct service *s, struct mobo_request *r)
{
	static const Mobo__V1__DebugStop__StopReason reasons[] = {
		[DEBUG_STOP_STEP] = MOBO__V1__DEBUG_STOP__STOP_REASON__STEPPED,
		[DEBUG_STOP_BREAKPOINT] = MOBO__V1__DEBUG_STOP__STOP_REASON__BREAKPOINT_HIT,
		[DEBUG_STOP_WATCHPOINT] = MOBO__V1__DEBUG_STOP__STOP_REASON__WATCHPOINT_HIT,
	};
	Mobo__V1__DebugStops reply = MOBO__V1__DEBUG_STOPS__INIT;
	Mobo__V1__DebugStop stop[BOARD_CPUS], *stops[BOARD_CPUS];
	uint32_t bits = atomic_load(&s->board->debug_stops);

	for (; bits; bits &= bits - 1) {
		unsigned i = (unsigned)__builtin_ctz(bits);
		size_t n = reply.n_stops++;

		/* It is parked, or was on its way there when it set the bit. */
		mobo__v1__debug_stop__init(&stop[n]);
		stop[n].vcpu = i;
		stop[n].reason = reasons[s->board->cpu[i].v->debug.stop];
		stop[n].address = s->board->cpu[i].v->debug.stop_lin;
		stops[n] = &stop[n];
	}
	reply.stops = stops;
	mobo_reply(r, &reply.base);
}

static void serve_stops(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	(void)body;
	reply_stops(arg, r);
}

static void serve_step(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__StepCpu *msg = (const void *)body;
	struct service *s = arg;
	int rc;

	if (!has_debugger(s, r)) {
		return;
	}
	if (s->stepping) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION, "a step is under way");
		return;
	}
	rc = board_step(s->board, msg->vcpu, msg->alone);
	if (rc == -EINVAL) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
	} else if (rc == -EBUSY) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "the CPUs are running; pause the machine first");
	} else if (rc < 0) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "CPU %u is halted or waits for a device; it goes on when the "
				 "machine does",
				 msg->vcpu);
	} else if (msg->alone) {
		s->stepping = r;
		mobo_loop_wake(s->loop);
	} else {
		reply_stops(s, r);
	}
}

static void tell_stop(struct service *s, unsigned n)
{
	const struct vcpu_debug *d = &s->board->cpu[n].v->debug;
	unsigned long long lin = d->stop_lin;
	char text[96];

	switch (d->stop) {
	case DEBUG_STOP_NONE: return;
	case DEBUG_STOP_STEP: snprintf(text, sizeof(text), "CPU %u stepped", n); break;
	case DEBUG_STOP_BREAKPOINT:
		snprintf(text, sizeof(text), "CPU %u met the breakpoint at 0x%llx", n, lin);
		break;
	case DEBUG_STOP_WATCHPOINT:
		snprintf(text, sizeof(text), "CPU %u accessed watched memory at 0x%llx", n, lin);
		break;
	}
	service_tell(s, "debug-stop", text, n);
}

void debug_turn(struct service *s)
{
	uint32_t untold = atomic_exchange(&s->board->debug_untold, 0);

	if (s->stepping) {
		if (board_parked(s->board)) {
			reply_stops(s, s->stepping);
			s->stepping = NULL;
		}
	} else if (untold) { /* the machine pauses for the first, clients ask for all */
		tell_stop(s, (unsigned)__builtin_ctz(untold));
	}
}

void debug_run(struct service *s)
{
	if (s->stepping) {
		mobo_reply_error(s->stepping, MOBO__V1__CODE__CANCELLED,
				 "the machine was resumed before the step was done");
		s->stepping = NULL;
	}
}

/* -- Blocks -- */

static void count_blocks(struct vcpu *v, void *arg)
{
	v->board->ops->debug->count(v, *(bool *)arg);
}

static void serve_count(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	bool on = ((const Mobo__V1__CountBlocks *)body)->on;
	struct service *s = arg;

	if (!has_debugger(s, r)) {
		return;
	}
	if (!s->board->ops->debug->count) {
		mobo_reply_error(r, MOBO__V1__CODE__UNIMPLEMENTED,
				 "the engine `%s` keeps no blocks of code", s->board->ops->name);
		return;
	}
	for (unsigned i = 0; i < s->board->n_cpus; i++) {
		int rc = board_on_cpu(s->board, i, count_blocks, &on);

		if (rc < 0) {
			debug_reply_no_cpu(r, i, rc);
			return;
		}
	}
	mobo_reply(r, NULL);
}

struct blocks {
	struct mobo_engine_block block[MAX_BLOCKS];
	unsigned n, max;
};

static void hot_blocks(struct vcpu *v, void *arg)
{
	struct blocks *b = arg;

	b->n = v->board->ops->debug->hot_blocks(v, b->block, b->max);
}

static void fill_block(Mobo__V1__HotBlock *m, const struct mobo_engine_block *b)
{
	mobo__v1__hot_block__init(m);
	m->address = b->lin;
	m->physical = b->gpa;
	m->count = b->count;
	m->len = b->guest_len;
	m->host_address = b->host;
	m->host_len = b->host_len;
}

static void serve_hot(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__GetHotBlocks *msg = (const void *)body;
	Mobo__V1__HotBlocks reply = MOBO__V1__HOT_BLOCKS__INIT;
	static Mobo__V1__HotBlock block[MAX_BLOCKS], *ptr[MAX_BLOCKS];
	static struct blocks b;
	struct service *s = arg;
	int rc;

	if (!has_debugger(s, r)) {
		return;
	}
	b.n = 0;
	b.max = MOBO_MIN(msg->max, (uint32_t)MAX_BLOCKS);
	rc = s->board->ops->debug->hot_blocks ? board_on_cpu(s->board, msg->vcpu, hot_blocks, &b)
					      : 0;
	if (rc < 0) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
		return;
	}
	for (unsigned i = 0; i < b.n; i++) {
		fill_block(&block[i], &b.block[i]);
		ptr[i] = &block[i];
	}
	reply.blocks = ptr;
	reply.n_blocks = b.n;
	mobo_reply(r, &reply.base);
}

struct translation {
	struct mobo_engine_translation t;
	uint64_t lin;
	int rc;
};

static void translation(struct vcpu *v, void *arg)
{
	struct translation *t = arg;

	t->rc = v->board->ops->debug->translation(v, t->lin, &t->t);
}

static void reply_translation(struct mobo_request *r, struct mobo_engine_translation *t)
{
	static Mobo__V1__TranslationMark mark[MOBO_TRANSLATION_MARKS], *marks[MOBO_ARRAY_LEN(mark)];
	Mobo__V1__Translation reply = MOBO__V1__TRANSLATION__INIT;
	Mobo__V1__HotBlock block;

	fill_block(&block, &t->block);
	for (unsigned i = 0; i < t->n_marks; i++) {
		mobo__v1__translation_mark__init(&mark[i]);
		mark[i].guest_offset = t->marks[i].guest_off;
		mark[i].host_offset = t->marks[i].host_off;
		marks[i] = &mark[i];
	}
	reply.block = &block;
	reply.host_code.data = t->host;
	reply.host_code.len = MOBO_MIN(t->block.host_len, (uint32_t)sizeof(t->host));
	reply.marks = marks;
	reply.n_marks = t->n_marks;
	mobo_reply(r, &reply.base);
}

static void serve_translation(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__GetTranslation *msg = (const void *)body;
	static struct translation t;
	struct service *s = arg;
	int rc;

	if (!has_debugger(s, r)) {
		return;
	}
	if (!s->board->ops->debug->translation) {
		mobo_reply_error(r, MOBO__V1__CODE__UNIMPLEMENTED,
				 "the engine `%s` makes no host code", s->board->ops->name);
		return;
	}
	memset(&t, 0, sizeof(t));
	t.lin = msg->address;
	rc = board_on_cpu(s->board, msg->vcpu, translation, &t);
	if (rc < 0) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
	} else if (t.rc < 0) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
				 "CPU %u has no host code of 0x%llx now", msg->vcpu,
				 (unsigned long long)msg->address);
	} else {
		reply_translation(r, &t.t);
	}
}

void debug_serve(struct service *s)
{
	static const struct {
		uint32_t type;
		mobo_handler *fn;
	} verbs[] = {
		{MOBO__V1__TYPE__READ_MEMORY, serve_read},
		{MOBO__V1__TYPE__WRITE_MEMORY, serve_write},
		{MOBO__V1__TYPE__SET_DEBUG_POINTS, serve_points},
		{MOBO__V1__TYPE__STEP_CPU, serve_step},
		{MOBO__V1__TYPE__GET_DEBUG_STOPS, serve_stops},
		{MOBO__V1__TYPE__COUNT_BLOCKS, serve_count},
		{MOBO__V1__TYPE__GET_HOT_BLOCKS, serve_hot},
		{MOBO__V1__TYPE__GET_TRANSLATION, serve_translation},
	};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(verbs); i++) {
		mobo_bus_serve(s->bus, verbs[i].type, verbs[i].fn, s);
	}
}
