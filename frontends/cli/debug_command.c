/* SPDX-License-Identifier: Apache-2.0 */
/* What each packet of the GDB remote serial protocol asks. GDB manual, appendix E.2 to E.5. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "debug_rsp.h"
#include "mobo/base.h"

enum { ALL_THREADS = -1 };

/* -- Replies -- */

/* Adds to the reply under way; what does not fit is our own bug. */
static void say(struct rsp *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct rsp *r, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->reply + r->n_reply, sizeof(r->reply) - r->n_reply, fmt, ap);
	va_end(ap);
	MOBO_ASSERT(n >= 0 && (size_t)n < sizeof(r->reply) - r->n_reply);
	r->n_reply += (size_t)n;
}

static void say_hex(struct rsp *r, const uint8_t *data, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	MOBO_ASSERT(r->n_reply + 2 * n < sizeof(r->reply));
	for (size_t i = 0; i < n; i++) {
		r->reply[r->n_reply++] = digits[data[i] >> 4];
		r->reply[r->n_reply++] = digits[data[i] & 15];
	}
}

/* OK, or E and the error number. */
static void say_result(struct rsp *r, int result)
{
	if (result < 0) {
		say(r, "E%02x", (unsigned)-result & 0xff);
	} else {
		say(r, "OK");
	}
}

/* -- Input -- */

/* A hexadecimal number at *p, which moves behind it. False: there is none, or it is too long. */
static bool take_hex(const char **p, uint64_t *n)
{
	unsigned digits = 0;

	for (*n = 0; rsp_hex_digit(**p) >= 0; digits++) {
		*n = *n << 4 | (unsigned)rsp_hex_digit(*(*p)++);
	}
	return digits >= 1 && digits <= 16;
}

static bool take(const char **p, char c)
{
	if (**p != c) {
		return false;
	}
	++*p;
	return true;
}

/* Two digits a byte; the number of bytes, or -1 when that is not what is there. */
static ssize_t take_bytes(const char *p, uint8_t *to, size_t max)
{
	size_t n = 0;

	for (; *p; p += 2) {
		if (n == max || rsp_hex_digit(p[0]) < 0 || rsp_hex_digit(p[1]) < 0) {
			return -1;
		}
		to[n++] = (uint8_t)(rsp_hex_digit(p[0]) << 4 | rsp_hex_digit(p[1]));
	}
	return (ssize_t)n;
}

/* A thread: a CPU's number + 1, ANY_THREAD or ALL_THREADS. */
static bool take_thread(const struct rsp *r, const char **p, int *thread)
{
	uint64_t n;

	if (take(p, '-')) {
		*thread = ALL_THREADS;
		return take(p, '1');
	}
	if (!take_hex(p, &n) || n > r->n_cpus) {
		return false;
	}
	*thread = (int)n;
	return true;
}

/* -- Registers -- */

static void get_all(struct rsp *r)
{
	struct rsp_regs regs = {0};
	int result = r->target->get_regs(r->arg, r->cpu, &regs);
	uint8_t bytes[16];

	if (result < 0) {
		say_result(r, result);
		return;
	}
	for (unsigned n = 0; n < rsp_n_regs(r->avx); n++) {
		rsp_reg_get(&regs, n, bytes);
		say_hex(r, bytes, rsp_reg_len(n, r->avx));
	}
}

/* What cannot be set is left as it is. */
static void set_all(struct rsp *r, const char *p)
{
	static uint8_t bytes[4096];
	struct rsp_regs regs = {0};
	ssize_t len = take_bytes(p, bytes, sizeof(bytes));
	size_t at = 0;
	int result;

	result = len < 0 ? -EINVAL : r->target->get_regs(r->arg, r->cpu, &regs);
	for (unsigned n = 0; result >= 0 && n < rsp_n_regs(r->avx); n++) {
		unsigned size = rsp_reg_len(n, r->avx);

		if (at + size > (size_t)len) {
			result = -EINVAL;
			break;
		}
		rsp_reg_set(&regs, n, bytes + at);
		at += size;
	}
	say_result(r, result < 0 ? result : r->target->set_regs(r->arg, r->cpu, &regs));
}

static void get_one(struct rsp *r, const char *p)
{
	struct rsp_regs regs = {0};
	uint8_t bytes[16];
	uint64_t n;
	int result;

	if (!take_hex(&p, &n) || *p || n > INT32_MAX || !rsp_reg_len((unsigned)n, r->avx)) {
		say_result(r, -EINVAL);
		return;
	}
	result = r->target->get_regs(r->arg, r->cpu, &regs);
	if (result < 0) {
		say_result(r, result);
		return;
	}
	rsp_reg_get(&regs, (unsigned)n, bytes);
	say_hex(r, bytes, rsp_reg_len((unsigned)n, r->avx));
}

static void set_one(struct rsp *r, const char *p)
{
	struct rsp_regs regs = {0};
	uint8_t bytes[16];
	uint64_t n;
	int result;

	if (!take_hex(&p, &n) || n > INT32_MAX || !rsp_reg_len((unsigned)n, r->avx) ||
	    !take(&p, '=') ||
	    take_bytes(p, bytes, sizeof(bytes)) != (ssize_t)rsp_reg_len((unsigned)n, r->avx)) {
		say_result(r, -EINVAL);
		return;
	}
	result = r->target->get_regs(r->arg, r->cpu, &regs);
	if (result >= 0 && !rsp_reg_set(&regs, (unsigned)n, bytes)) {
		result = -EPERM;
	}
	say_result(r, result < 0 ? result : r->target->set_regs(r->arg, r->cpu, &regs));
}

/* -- Memory -- */

static bool take_range(const char **p, uint64_t *address, uint64_t *len)
{
	return take_hex(p, address) && take(p, ',') && take_hex(p, len);
}

static void read_memory(struct rsp *r, const char *p)
{
	static uint8_t bytes[RSP_PACKET / 2];
	uint64_t address, len;
	ssize_t n;

	if (!take_range(&p, &address, &len) || *p) {
		say_result(r, -EINVAL);
		return;
	}
	len = MOBO_MIN(len, (uint64_t)sizeof(bytes) - 8);
	n = r->target->read(r->arg, r->cpu, address, bytes, len);
	if (n < 0) {
		say_result(r, (int)n);
	} else {
		say_hex(r, bytes, (size_t)n);
	}
}

/* M has its bytes in hexadecimal, X as they are. `end`: behind the packet. */
static void write_memory(struct rsp *r, const char *p, const char *end, bool binary)
{
	static uint8_t bytes[RSP_PACKET];
	uint64_t address, len;
	const uint8_t *data = bytes;
	ssize_t n;

	if (!take_range(&p, &address, &len) || !take(&p, ':')) {
		say_result(r, -EINVAL);
		return;
	}
	if (binary) {
		data = (const uint8_t *)p;
		n = end - p;
	} else {
		n = take_bytes(p, bytes, sizeof(bytes));
	}
	if (n < 0 || (uint64_t)n != len) {
		say_result(r, -EINVAL);
	} else {
		say_result(r, n ? r->target->write(r->arg, r->cpu, address, data, len) : 0);
	}
}

/* -- Breakpoints and watchpoints: sent to the target before it goes on -- */

static void change_point(struct rsp *r, const char *p, bool set)
{
	static const enum rsp_kind kinds[] = {RSP_BREAKPOINT, RSP_HW_BREAKPOINT, RSP_WRITE,
					      RSP_READ, RSP_ACCESS};
	struct rsp_point point = {0};
	uint64_t address, len;
	unsigned at = 0;
	char type = *p;

	if (type < '0' || type > '4') {
		return; /* not supported: an empty reply */
	}
	p++;
	if (!take(&p, ',') || !take_range(&p, &address, &len) || (*p && *p != ';')) {
		say_result(r, -EINVAL);
		return;
	}
	point = (struct rsp_point){kinds[type - '0'], address, type < '2' ? 1 : (uint32_t)len};
	if (len > 4096 || (type >= '2' && !len)) {
		say_result(r, -EINVAL);
		return;
	}
	while (at < r->n_points &&
	       (r->points[at].kind != point.kind || r->points[at].address != point.address ||
		r->points[at].len != point.len)) {
		at++;
	}
	if (set && at == r->n_points) {
		if (at == RSP_POINTS) {
			say_result(r, -ENOSPC);
			return;
		}
		r->points[r->n_points++] = point;
		r->points_changed = true;
	} else if (!set && at < r->n_points) {
		r->points[at] = r->points[--r->n_points];
		r->points_changed = true;
	}
	say_result(r, 0);
}

/* -- Going on -- */

/* The packet is answered when the machine stops. */
static void go(struct rsp *r, int step_cpu, bool alone)
{
	int result = 0;

	if (r->points_changed) {
		result = r->target->points(r->arg, r->points, r->n_points);
		r->points_changed = result < 0;
	}
	if (result >= 0) {
		r->running = r->silent = true; /* it may stop before the call is back */
		result = step_cpu >= 0 ? r->target->step(r->arg, (unsigned)step_cpu, alone)
				       : r->target->resume(r->arg);
	}
	if (result < 0) {
		r->running = r->silent = false;
		say_result(r, result);
	}
}

/* c and s, with an address to go on from; C and S with a signal before it, which is ignored. */
static void go_on(struct rsp *r, const char *p, bool step, bool with_signal)
{
	struct rsp_regs regs = {0};
	uint64_t address, signal;
	int result;

	if (with_signal && (!take_hex(&p, &signal) || (*p && !take(&p, ';')))) {
		say_result(r, -EINVAL);
		return;
	}
	if (*p) {
		if (!take_hex(&p, &address) || *p) {
			say_result(r, -EINVAL);
			return;
		}
		result = r->target->get_regs(r->arg, r->cpu, &regs);
		regs.rip = address;
		if (result < 0 || (result = r->target->set_regs(r->arg, r->cpu, &regs)) < 0) {
			say_result(r, result);
			return;
		}
	}
	go(r, step ? (int)r->cpu : -1, true);
}

/*
 * ;action[:thread]...: for each thread the first that names it. A step of one CPU while others have
 * no action lets them stand; CPUs cannot run while another stands.
 */
static void go_each(struct rsp *r, const char *p)
{
	int step_cpu = -1, thread;
	bool others = false;
	uint64_t signal;
	char action;

	while (take(&p, ';')) {
		action = *p;
		if (!action || !strchr("cCsS", action)) {
			say_result(r, -EINVAL);
			return;
		}
		p++;
		if ((action == 'C' || action == 'S') && !take_hex(&p, &signal)) {
			say_result(r, -EINVAL);
			return;
		}
		thread = ALL_THREADS;
		if (take(&p, ':') && !take_thread(r, &p, &thread)) {
			say_result(r, -EINVAL);
			return;
		}
		if (action == 'c' || action == 'C') {
			others = true;
		} else if (step_cpu < 0) {
			step_cpu = thread > 0 ? thread - 1 : (int)r->cpu;
		}
	}
	if (*p || (step_cpu < 0 && !others)) {
		say_result(r, -EINVAL);
		return;
	}
	go(r, step_cpu, !others || r->n_cpus == 1);
}

/* -- Queries -- */

static void supported(struct rsp *r, const char *p)
{
	r->says_break = strstr(p, "swbreak+") && strstr(p, "hwbreak+");
	say(r,
	    "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
	    "swbreak+;hwbreak+",
	    RSP_PACKET);
}

/* A piece of target.xml: offset,length. */
static void read_xml(struct rsp *r, const char *p)
{
	uint64_t offset, len, n;

	if (!take_range(&p, &offset, &len) || *p) {
		say_result(r, -EINVAL);
		return;
	}
	n = rsp_xml(r->xml, sizeof(r->xml), r->avx);
	offset = MOBO_MIN(offset, n);
	len = MOBO_MIN(len, (uint64_t)RSP_PACKET / 2);
	say(r, "%c%.*s", offset + len < n ? 'm' : 'l', (int)MOBO_MIN(len, n - offset),
	    r->xml + offset);
}

static bool starts(const char **p, const char *with)
{
	size_t n = strlen(with);

	if (strncmp(*p, with, n) != 0) {
		return false;
	}
	*p += n;
	return true;
}

static void thread_list(struct rsp *r)
{
	say(r, "m");
	for (unsigned i = 0; i < r->n_cpus; i++) {
		say(r, "%s%x", i ? "," : "", i + 1);
	}
}

static void thread_name(struct rsp *r, const char *p)
{
	char name[16];
	int thread;

	if (!take_thread(r, &p, &thread) || *p || thread < 1) {
		say_result(r, -EINVAL);
		return;
	}
	snprintf(name, sizeof(name), "CPU %d", thread - 1);
	say_hex(r, (const uint8_t *)name, strlen(name));
}

static void query(struct rsp *r, const char *p)
{
	if (starts(&p, "Supported")) {
		supported(r, p);
	} else if (starts(&p, "Xfer:features:read:target.xml:")) {
		read_xml(r, p);
	} else if (strcmp(p, "C") == 0) {
		say(r, "QC%x", r->cpu + 1);
	} else if (strcmp(p, "fThreadInfo") == 0) {
		thread_list(r);
	} else if (strcmp(p, "sThreadInfo") == 0) {
		say(r, "l");
	} else if (starts(&p, "ThreadExtraInfo,")) {
		thread_name(r, p);
	} else if (strcmp(p, "Attached") == 0) {
		say(r, "1");
	}
}

static void choose_thread(struct rsp *r, const char *p)
{
	int thread;

	if ((!take(&p, 'g') && !take(&p, 'c')) || !take_thread(r, &p, &thread) || *p) {
		say_result(r, -EINVAL);
		return;
	}
	if (thread > 0) {
		r->cpu = (unsigned)thread - 1;
	}
	say_result(r, 0);
}

static void thread_alive(struct rsp *r, const char *p)
{
	int thread;

	say_result(r, take_thread(r, &p, &thread) && !*p && thread > 0 ? 0 : -EINVAL);
}

static void detach(struct rsp *r)
{
	r->ended = true;
	r->running = false;
	r->n_points = 0;
	r->target->detach(r->arg);
}

/* -- All of them -- */

/* v packets; others than these have an empty reply. */
static void verbose(struct rsp *r, const char *p)
{
	if (strcmp(p, "Cont?") == 0) {
		say(r, "vCont;c;C;s;S");
	} else if (starts(&p, "Cont")) {
		go_each(r, p);
	} else if (starts(&p, "Kill")) { /* a machine is not its debugger's to kill */
		detach(r);
		say_result(r, 0);
	}
}

void rsp_command(struct rsp *r, const char *p, const char *end)
{
	switch (*p++) {
	case '?': say(r, "%s", r->stop); break;
	case 'c': go_on(r, p, false, false); break;
	case 'C': go_on(r, p, false, true); break;
	case 's': go_on(r, p, true, false); break;
	case 'S': go_on(r, p, true, true); break;
	case 'D':
		detach(r);
		say_result(r, 0);
		break;
	case 'g': get_all(r); break;
	case 'G': set_all(r, p); break;
	case 'H': choose_thread(r, p); break;
	case 'k':
		detach(r);
		r->silent = true;
		break;
	case 'm': read_memory(r, p); break;
	case 'M': write_memory(r, p, end, false); break;
	case 'p': get_one(r, p); break;
	case 'P': set_one(r, p); break;
	case 'q': query(r, p); break;
	case 'Q':
		if (strcmp(p, "StartNoAckMode") == 0) {
			r->no_ack = true;
			say_result(r, 0);
		}
		break;
	case 'T': thread_alive(r, p); break;
	case 'v': verbose(r, p); break;
	case 'X': write_memory(r, p, end, true); break;
	case 'z': change_point(r, p, false); break;
	case 'Z': change_point(r, p, true); break;
	}
}
