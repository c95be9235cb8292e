/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <sched.h>

#include "../io/futex.h"
#include "channel.h"
#include "mobo/base.h"
#include "mobo/io.h"

enum {
	POLL_MAX_NS = 50 * 1000,
	GAP_MAX_NS = 200 * 1000, /* longer gaps count as this, so that the mean recovers */
	QUICK_SPINS = 32,	 /* before the clock is asked at all */
	QUICK_GAP_NS = 300,
	PAUSES_A_LOOK = 16,
	TURN_NS = 1000 * 1000, /* longest time without a turn of the event loop */
	PASSES_A_LOOK = 32,
};

static void complete(struct mobo_channel *c, unsigned v, uint32_t seq, uint64_t data,
		     uint32_t count)
{
	struct mobo_io_rep *rep = &c->ch->rep[v];

	rep->data = data;
	rep->count = count;
	rep->map_gen = atomic_load_explicit(&c->ch->dev.map_gen, memory_order_relaxed);
	c->answered[v] = seq;
	atomic_store_explicit(&rep->seq, seq, memory_order_release);
	/* Against the vCPU's "waiting, then look at rep.seq again". */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&c->ch->req[v].waiting, memory_order_relaxed)) {
		mobo_futex_wake(&rep->seq, INT_MAX, UINT32_MAX);
	}
}

static void refresh_cpu(struct mobo_channel *c)
{
	uint32_t cpu = (uint32_t)sched_getcpu();

	if (atomic_load_explicit(&c->ch->dev.cpu, memory_order_relaxed) != cpu) {
		atomic_store_explicit(&c->ch->dev.cpu, cpu, memory_order_relaxed);
	}
}

static bool size_ok(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* -- The posted ring -- */

static bool posted_ready(const struct mobo_channel *c)
{
	const struct mobo_io_posted *slot = &c->ch->posted[c->posted_done % MOBO_IOCH_POSTED];

	return atomic_load_explicit(&slot->slot_seq, memory_order_acquire) == c->posted_done + 1;
}

static bool posted_one(struct mobo_channel *c)
{
	const struct mobo_io_posted *slot = &c->ch->posted[c->posted_done % MOBO_IOCH_POSTED];
	uint64_t data, vtime_ns;
	uint32_t addr;
	unsigned region, size;

	if (!posted_ready(c)) {
		return false;
	}
	data = slot->data;
	addr = slot->addr;
	region = slot->region;
	size = slot->size;
	vtime_ns = slot->vtime_ns;
	/* Done before it is executed: a write that kills the process must not kill the next one. */
	c->posted_done++;
	atomic_store_explicit(&c->ch->priv.posted_done, c->posted_done, memory_order_release);
	if (size_ok(size)) {
		c->ops->write(c->arg, region, addr, size, data, vtime_ns);
	}
	c->stats.posted++;
	return true;
}

/* Executes the ring up to a ticket; false when an entry on the way is not filled yet: its writer
 * rings the bell. */
static bool posted_drain(struct mobo_channel *c, uint32_t upto)
{
	while ((int32_t)(upto - c->posted_done) > 0) {
		if (!posted_one(c)) {
			return false;
		}
	}
	return true;
}

/* -- Requests -- */

static bool request_ready(const struct mobo_channel *c, unsigned v)
{
	const struct mobo_io_req *req = &c->ch->req[v];

	if (atomic_load_explicit(&req->seq, memory_order_acquire) == c->answered[v]) {
		return false;
	}
	return (int32_t)(*(const volatile uint32_t *)&req->posted_upto - c->posted_done) <= 0 ||
	       posted_ready(c);
}

static void execute(struct mobo_channel *c, unsigned v, uint32_t seq, const struct mobo_io_req *r)
{
	uint8_t *bounce = c->ch->bounce[v];
	uint64_t data = UINT64_MAX;
	uint32_t count = r->count;
	bool fits;

	if (r->op == MOBO_IO_PCI_CONFIG) {
		c->ops->pci_config(c->arg, r->region, r->addr, r->size, r->data);
		complete(c, v, seq, 0, 1);
		return;
	}
	fits = size_ok(r->size) && count > 0 && count <= MOBO_IOCH_BOUNCE / r->size;
	if (!fits) {
		complete(c, v, seq, data, count);
		return;
	}
	switch ((enum mobo_io_op)r->op) {
	case MOBO_IO_READ:
		data = c->ops->read(c->arg, r->region, r->addr, r->size, r->vtime_ns);
		break;
	case MOBO_IO_WRITE:
		c->ops->write(c->arg, r->region, r->addr, r->size, r->data, r->vtime_ns);
		break;
	case MOBO_IO_READ_STRING:
		count = c->ops->read_string(c->arg, r->region, r->addr, r->size, bounce, count,
					    r->vtime_ns);
		break;
	case MOBO_IO_WRITE_STRING:
		count = c->ops->write_string(c->arg, r->region, r->addr, r->size, bounce, count,
					     r->vtime_ns);
		break;
	case MOBO_IO_PCI_CONFIG: break;
	}
	complete(c, v, seq, data, count);
}

static bool serve_request(struct mobo_channel *c, unsigned v)
{
	const struct mobo_io_req *req = &c->ch->req[v];
	uint32_t seq = atomic_load_explicit(&req->seq, memory_order_acquire);
	struct mobo_io_req copy;

	if (seq == c->answered[v]) {
		return false;
	}
	copy.addr = req->addr;
	copy.data = req->data;
	copy.vtime_ns = req->vtime_ns;
	copy.region = req->region;
	copy.posted_upto = req->posted_upto;
	copy.count = req->count;
	copy.op = req->op;
	copy.size = req->size;
	__asm__ volatile("" ::: "memory"); /* one copy, whatever the other side does to it now */
	if (!posted_drain(c, copy.posted_upto)) {
		return false;
	}
	atomic_store_explicit(&c->ch->priv.started_seq[v], seq, memory_order_release);
	execute(c, v, seq, &copy);
	c->stats.sync++;
	return true;
}

static bool serve_bells(struct mobo_channel *c)
{
	bool any = false;

	for (uint64_t left = c->bells; left; left &= left - 1) {
		unsigned r = (unsigned)__builtin_ctzll(left);
		uint32_t seq = atomic_load_explicit(&c->ch->bell[r], memory_order_acquire);

		if (seq != c->bell_seen[r]) {
			c->bell_seen[r] = seq;
			c->ops->doorbell(c->arg, r,
					 *(const volatile uint32_t *)&c->ch->bell_value[r]);
			c->stats.bells++;
			any = true;
		}
	}
	return any;
}

/* -- Passes, polling, sleeping -- */

bool mobo_channel_serve(struct mobo_channel *c)
{
	bool any = false;

	if (c->serving) {
		return false;
	}
	c->serving = true;
	for (unsigned i = 0; i < MOBO_IOCH_POSTED && posted_one(c); i++) {
		any = true;
	}
	for (unsigned v = 0; v < c->n_vcpus; v++) {
		any |= serve_request(c, v);
	}
	any |= serve_bells(c);
	c->serving = false;
	if (any) {
		refresh_cpu(c);
	}
	return any;
}

static bool pending(const struct mobo_channel *c)
{
	if (posted_ready(c)) {
		return true;
	}
	for (unsigned v = 0; v < c->n_vcpus; v++) {
		if (request_ready(c, v)) {
			return true;
		}
	}
	for (uint64_t left = c->bells; left; left &= left - 1) {
		unsigned r = (unsigned)__builtin_ctzll(left);

		if (atomic_load_explicit(&c->ch->bell[r], memory_order_acquire) !=
		    c->bell_seen[r]) {
			return true;
		}
	}
	return false;
}

static void note_gap(struct mobo_channel *c, uint64_t gap_ns)
{
	gap_ns = MOBO_MIN(gap_ns, (uint64_t)GAP_MAX_NS);
	c->gap_ns = c->gap_ns - c->gap_ns / 8 + gap_ns / 8;
}

/* How long to poll: a few mean gaps, not at all when work comes too seldom for it. */
static uint64_t poll_window(const struct mobo_channel *c)
{
	if (c->gap_ns > POLL_MAX_NS) {
		return 0;
	}
	return MOBO_MIN(c->gap_ns * 4 + QUICK_GAP_NS, (uint64_t)POLL_MAX_NS);
}

/* With two CPUs a second poller would take the vCPU's own. */
static bool may_poll(struct mobo_channel *c, uint64_t now_ns, uint64_t window_ns)
{
	uint64_t until;

	if (c->n_cpus > 2 || !c->page) {
		return true;
	}
	until = atomic_load_explicit(&c->page->poller_until_ns, memory_order_relaxed);
	/* A time far ahead is nonsense from somewhere, not a poller. */
	if (until > now_ns && until - now_ns <= POLL_MAX_NS) {
		return false;
	}
	return atomic_compare_exchange_strong(&c->page->poller_until_ns, &until,
					      now_ns + window_ns);
}

static void stop_polling(struct mobo_channel *c, uint64_t until_ns)
{
	if (c->n_cpus <= 2 && c->page) {
		atomic_compare_exchange_strong(&c->page->poller_until_ns, &until_ns, 0);
	}
}

/* True when work came. */
static bool poll_for_work(struct mobo_channel *c)
{
	uint64_t start, now, window, until;
	bool found = false;

	if (c->n_cpus <= 1) {
		return false;
	}
	for (unsigned i = 0; i < QUICK_SPINS; i++) {
		if (pending(c)) {
			note_gap(c, QUICK_GAP_NS);
			return true;
		}
		__builtin_ia32_pause();
	}
	start = now = mobo_monotonic_ns();
	c->idle_since_ns = start;
	window = poll_window(c);
	if (window == 0 || !may_poll(c, start, window)) {
		return false;
	}
	until = start + window;
	while (!found && now < until) {
		for (unsigned i = 0; i < PAUSES_A_LOOK && !found; i++) {
			found = pending(c);
			__builtin_ia32_pause();
		}
		now = mobo_monotonic_ns();
	}
	stop_polling(c, until);
	return found;
}

static bool fall_asleep(struct mobo_channel *c)
{
	atomic_store(&c->ch->dev.state, MOBO_PEER_SLEEPING);
	atomic_thread_fence(memory_order_seq_cst);
	if (pending(c)) {
		atomic_store(&c->ch->dev.state, MOBO_PEER_RUNNING);
		return false;
	}
	c->stats.sleeps++;
	return true;
}

void mobo_channel_awake(struct mobo_channel *c)
{
	refresh_cpu(c);
	atomic_store_explicit(&c->ch->dev.state, MOBO_PEER_RUNNING, memory_order_relaxed);
}

bool mobo_channel_run(struct mobo_channel *c)
{
	uint64_t end = 0;

	if (c->serving) {
		return false; /* who is served now is followed by the rest */
	}
	for (unsigned n = 1;; n++) {
		if (mobo_channel_serve(c)) {
			if (c->idle_since_ns) {
				note_gap(c, mobo_monotonic_ns() - c->idle_since_ns);
				c->idle_since_ns = 0;
			}
		} else if (poll_for_work(c)) {
			c->stats.polled++;
		} else if (fall_asleep(c)) {
			return false;
		}
		if (n % PASSES_A_LOOK == 0) {
			uint64_t now = mobo_monotonic_ns();

			end = end ? end : now + TURN_NS;
			if (now >= end) {
				return true;
			}
		}
	}
}

/* -- Opening and closing -- */

int mobo_channel_open(struct mobo_channel *c, size_t size)
{
	struct mobo_ioch *ch = c->ch;

	if (mobo_ioch_check(ch, size) < 0) {
		return -EPROTO;
	}
	c->n_vcpus = MOBO_MIN(c->n_vcpus, (unsigned)MOBO_IOCH_VCPUS);
	c->gap_ns = GAP_MAX_NS;
	c->posted_done = atomic_load_explicit(&ch->priv.posted_done, memory_order_acquire);
	mobo_channel_awake(c);
	atomic_fetch_add(&ch->dev.epoch, 1);
	for (unsigned r = 0; r < MOBO_IOCH_REGIONS; r++) {
		/* A bell that rang meanwhile rings again: at least once is the rule for bells. */
		c->bell_seen[r] =
			atomic_load(&ch->dev.epoch) == 1 ? 0 : atomic_load(&ch->bell[r]) - 1;
	}
	for (unsigned v = 0; v < c->n_vcpus; v++) {
		uint32_t seq = atomic_load_explicit(&ch->req[v].seq, memory_order_acquire);

		c->answered[v] = atomic_load_explicit(&ch->rep[v].seq, memory_order_relaxed);
		if (seq != c->answered[v] && atomic_load(&ch->priv.started_seq[v]) == seq) {
			complete(c, v, seq, UINT64_MAX, ch->req[v].count);
		}
	}
	return 0;
}

void mobo_channel_close(struct mobo_channel *c)
{
	atomic_store(&c->ch->dev.state, MOBO_PEER_GONE);
	for (unsigned v = 0; v < c->n_vcpus; v++) {
		mobo_futex_wake(&c->ch->rep[v].seq, INT_MAX, UINT32_MAX);
	}
}
