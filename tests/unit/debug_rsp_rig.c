/* SPDX-License-Identifier: Apache-2.0 */
/* See debug_rsp_rig.h. */
#include "debug_rsp_rig.h"

struct rsp rsp;
struct fake_target t;

static int get_regs(void *arg, unsigned cpu, struct rsp_regs *r)
{
	*r = t.regs[cpu];
	return 0;
}

static int set_regs(void *arg, unsigned cpu, const struct rsp_regs *r)
{
	t.regs[cpu] = *r;
	return 0;
}

static ssize_t read_memory(void *arg, unsigned cpu, uint64_t address, void *buf, size_t len)
{
	if (address - BASE >= SIZE) {
		return -EFAULT;
	}
	len = len < BASE + SIZE - address ? len : BASE + SIZE - address;
	memcpy(buf, t.memory + (address - BASE), len);
	return (ssize_t)len;
}

static int write_memory(void *arg, unsigned cpu, uint64_t address, const void *buf, size_t len)
{
	if (address - BASE >= SIZE || len > BASE + SIZE - address) {
		return -EFAULT;
	}
	memcpy(t.memory + (address - BASE), buf, len);
	return 0;
}

static int points(void *arg, const struct rsp_point *p, unsigned n)
{
	memcpy(t.points, p, n * sizeof(*p));
	t.n_points = n;
	t.n_point_calls++;
	return 0;
}

static int resume(void *arg)
{
	t.n_resumes++;
	return t.result;
}

static int step(void *arg, unsigned cpu, bool alone)
{
	t.stepped = (int)cpu;
	t.alone = alone;
	if (!t.result && !t.step_runs) {
		rsp_stopped(&rsp, cpu, RSP_STOP_STEP, 0);
	}
	return t.result;
}

static int interrupt(void *arg)
{
	t.n_interrupts++;
	return 0;
}

static void detach(void *arg)
{
	t.n_detached++;
}

static const struct rsp_target target = {
	.get_regs = get_regs,
	.set_regs = set_regs,
	.read = read_memory,
	.write = write_memory,
	.points = points,
	.resume = resume,
	.step = step,
	.interrupt = interrupt,
	.detach = detach,
};

int setup(void **state)
{
	memset(&rsp, 0, sizeof(rsp));
	memset(&t, 0, sizeof(t));
	t.stepped = -1;
	for (unsigned i = 0; i < SIZE; i++) {
		t.memory[i] = (uint8_t)i;
	}
	rsp_start(&rsp, &target, NULL, 2, false);
	return 0;
}

int teardown(void **state)
{
	rsp_finish(&rsp);
	return 0;
}

void feed(const char *bytes)
{
	rsp_feed(&rsp, (const uint8_t *)bytes, strlen(bytes));
}

const char *sent(void)
{
	static char text[65536];

	assert_true(rsp.n_out < sizeof(text));
	if (rsp.n_out) {
		memcpy(text, rsp.out, rsp.n_out);
	}
	text[rsp.n_out] = '\0';
	rsp_sent(&rsp, rsp.n_out);
	return text;
}

static unsigned sum(const char *content, size_t n)
{
	unsigned s = 0;

	for (size_t i = 0; i < n; i++) {
		s += (uint8_t)content[i];
	}
	return s & 0xff;
}

void ask_bytes(const char *content, size_t n)
{
	char end[4];

	feed("$");
	rsp_feed(&rsp, (const uint8_t *)content, n);
	snprintf(end, sizeof(end), "#%02x", sum(content, n));
	feed(end);
}

void ask(const char *content)
{
	ask_bytes(content, strlen(content));
}

const char *reply(void)
{
	static char content[65536];
	const char *p = sent();
	size_t n;

	if (!rsp.no_ack && *p == '+') {
		p++;
	}
	assert_int_equal(*p, '$');
	n = strcspn(p + 1, "#");
	memcpy(content, p + 1, n);
	content[n] = '\0';
	assert_int_equal(strlen(p), n + 4);
	assert_int_equal(strtoul(p + n + 2, NULL, 16), sum(content, n));
	return content;
}
