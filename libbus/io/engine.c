/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's side of an I/O channel. Nothing here trusts the device: what it wrote is copied
 * once, masked and bounded, and a device that does not answer costs its vCPU a wait that give_up()
 * ends.
 *
 * Waiting for a reply (BUS.md section 6), because a sleep and a wake-up across CPUs cost 50 us and
 * a round trip between two awake CPUs costs 0.1 us: the device runs on another CPU      spin up to
 * 20 us, then sleep it slept on another CPU, was woken  spin up to 60 us, then sleep it last ran on
 * this CPU             sleep at once: spinning would keep it from running
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "futex.h"
#include "mobo/base.h"
#include "mobo/io.h"

enum {
	SPIN_RUNNING_NS = 20 * 1000,
	SPIN_WOKEN_NS = 60 * 1000,
	PAUSES_A_LOOK = 32, /* spins between looks at the clock */
	SLICE_FIRST_NS = 250 * 1000,
	SLICE_LAST_NS = 10 * 1000 * 1000,
};

void mobo_ioch_init(struct mobo_ioch *ch)
{
	memset(ch, 0, sizeof(*ch));
	ch->magic = MOBO_IOCH_MAGIC;
	ch->major = MOBO_IOCH_MAJOR;
	ch->minor = MOBO_IOCH_MINOR;
	ch->size = sizeof(*ch);
	/* Nobody is there yet; the first process of the device says RUNNING. */
	atomic_store(&ch->dev.state, MOBO_PEER_SLEEPING);
}

int mobo_ioch_check(const struct mobo_ioch *ch, size_t size)
{
	if (size < sizeof(*ch) || ch->magic != MOBO_IOCH_MAGIC || ch->major != MOBO_IOCH_MAJOR ||
	    ch->size != sizeof(*ch)) {
		return -EPROTO;
	}
	return 0;
}

static uint64_t stamp(const struct mobo_io_engine *io)
{
	return io->page ? mobo_clock_now_ns(io->page) : 0;
}

/*
 * After something was published: rings the bell of a sleeping device. Marking it RUNNING here makes
 * the next writer skip the system call; the device looks at everything before it sleeps again, and
 * its eventfd stays readable until it has.
 */
static bool wake_device(struct mobo_io_engine *io)
{
	uint32_t sleeping = MOBO_PEER_SLEEPING;
	uint64_t one = 1;

	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&io->ch->dev.state, memory_order_relaxed) != sleeping ||
	    !atomic_compare_exchange_strong(&io->ch->dev.state, &sleeping, MOBO_PEER_RUNNING)) {
		return false;
	}
	/* EAGAIN means that the counter is full of unread rings: rung enough. */
	if (write(io->bell_fd, &one, sizeof(one)) < 0) {
		return true;
	}
	return true;
}

static bool answered(const struct mobo_io_rep *rep, uint32_t seq)
{
	return atomic_load_explicit(&rep->seq, memory_order_acquire) == seq;
}

/* True when the reply came within budget_ns. */
static bool spin(struct mobo_io_engine *io, unsigned vcpu, uint32_t seq, uint64_t budget_ns)
{
	const struct mobo_io_rep *rep = &io->ch->rep[vcpu];
	uint64_t end = 0;

	for (;;) {
		for (unsigned i = 0; i < PAUSES_A_LOOK; i++) {
			if (answered(rep, seq)) {
				return true;
			}
			__builtin_ia32_pause();
		}
		if (io->idle) {
			io->idle(io->give_up_arg, vcpu);
		}
		if (!end) {
			end = mobo_monotonic_ns() + budget_ns;
		} else if (mobo_monotonic_ns() >= end) {
			return answered(rep, seq);
		}
	}
}

/*
 * Sleeps until the reply. The slices are for what nobody wakes us for: a device that was killed
 * between its reply and its wake-up, one that was restarted and missed the bell, the engine's own
 * wish to stop.
 */
static int sleep_for_reply(struct mobo_io_engine *io, unsigned vcpu, uint32_t seq)
{
	struct mobo_io_req *req = &io->ch->req[vcpu];
	struct mobo_io_rep *rep = &io->ch->rep[vcpu];
	uint64_t slice = SLICE_FIRST_NS;
	uint32_t seen;
	int r = 0;

	atomic_store(&req->waiting, 1);
	for (;;) {
		seen = atomic_load(&rep->seq);
		if (seen == seq) {
			break;
		}
		if (atomic_load(&io->ch->dev.state) == MOBO_PEER_GONE) {
			r = -EPIPE;
			break;
		}
		mobo_futex_wait(&rep->seq, seen, mobo_monotonic_ns() + slice, UINT32_MAX);
		if (answered(rep, seq)) {
			break;
		}
		if (io->idle) {
			io->idle(io->give_up_arg, vcpu);
		}
		if (io->give_up && io->give_up(io->give_up_arg, vcpu)) {
			r = -ECANCELED;
			break;
		}
		wake_device(io);
		slice = MOBO_MIN(slice * 2, (uint64_t)SLICE_LAST_NS);
	}
	atomic_store_explicit(&req->waiting, 0, memory_order_relaxed);
	return r;
}

static int wait_reply(struct mobo_io_engine *io, unsigned vcpu, uint32_t seq)
{
	struct mobo_ioch *ch = io->ch;
	bool woken = wake_device(io);
	bool may_spin =
		io->n_cpus > 1 && atomic_load_explicit(&ch->dev.cpu, memory_order_relaxed) !=
					  (uint32_t)sched_getcpu();

	if (may_spin && spin(io, vcpu, seq, woken ? SPIN_WOKEN_NS : SPIN_RUNNING_NS)) {
		return 0;
	}
	return sleep_for_reply(io, vcpu, seq);
}

/* Everything but op and string data; publishes. */
static uint32_t publish(struct mobo_io_engine *io, struct mobo_io_req *req, enum mobo_io_op op,
			uint32_t region, uint64_t offset, unsigned size, unsigned count,
			uint64_t data)
{
	uint32_t seq = atomic_load_explicit(&req->seq, memory_order_relaxed) + 1;

	req->addr = offset;
	req->data = data;
	req->vtime_ns = stamp(io);
	req->region = region;
	/* All tickets, not only this vCPU's: it may have the lock under which another one wrote. */
	req->posted_upto = atomic_load_explicit(&io->ch->posted_ticket, memory_order_acquire);
	req->count = count;
	req->op = (uint16_t)op;
	req->size = (uint16_t)size;
	atomic_store_explicit(&req->seq, seq, memory_order_release);
	return seq;
}

static void note_map_gen(struct mobo_io_engine *io, unsigned vcpu, bool *map_changed)
{
	uint32_t gen = *(volatile uint32_t *)&io->ch->rep[vcpu].map_gen;

	*map_changed = gen != io->map_gen_seen[vcpu];
	io->map_gen_seen[vcpu] = gen;
}

static uint64_t ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
}

int mobo_io_sync(struct mobo_io_engine *io, unsigned vcpu, enum mobo_io_op op, uint32_t region,
		 uint64_t offset, unsigned size, uint64_t *data, bool *map_changed)
{
	struct mobo_io_rep *rep = &io->ch->rep[vcpu];
	uint32_t seq;
	int r;

	*map_changed = false;
	seq = publish(io, &io->ch->req[vcpu], op, region, offset, size, 1,
		      op == MOBO_IO_READ ? 0 : *data);
	r = wait_reply(io, vcpu, seq);
	if (r < 0) {
		if (op == MOBO_IO_READ) {
			*data = ones(size);
		}
		return r;
	}
	if (op == MOBO_IO_READ) {
		*data = *(volatile uint64_t *)&rep->data & ones(size);
	}
	note_map_gen(io, vcpu, map_changed);
	return 0;
}

int mobo_io_string(struct mobo_io_engine *io, unsigned vcpu, enum mobo_io_op op, uint32_t region,
		   uint64_t offset, unsigned size, void *buf, unsigned *count, bool *map_changed)
{
	struct mobo_io_rep *rep = &io->ch->rep[vcpu];
	uint8_t *bounce = io->ch->bounce[vcpu];
	unsigned n = MOBO_MIN(*count, MOBO_IOCH_BOUNCE / size);
	uint32_t moved;
	uint32_t seq;
	int r;

	*map_changed = false;
	if (op == MOBO_IO_WRITE_STRING) {
		memcpy(bounce, buf, (size_t)n * size);
	}
	seq = publish(io, &io->ch->req[vcpu], op, region, offset, size, n, 0);
	r = wait_reply(io, vcpu, seq);
	if (r < 0) {
		if (op == MOBO_IO_READ_STRING) {
			memset(buf, 0xff, (size_t)n * size);
		}
		*count = n;
		return r;
	}
	/* None moved is not an answer: a vCPU would ask again for ever. */
	moved = *(volatile uint32_t *)&rep->count;
	moved = MOBO_MAX(1u, MOBO_MIN(moved, n));
	if (op == MOBO_IO_READ_STRING) {
		memcpy(buf, bounce, (size_t)moved * size);
	}
	*count = moved;
	note_map_gen(io, vcpu, map_changed);
	return 0;
}

/*
 * Room for one entry of every vCPU is kept, so that a ticket, once taken, is always filled: a hole
 * would stop the ring for ever.
 */
static bool has_room(struct mobo_ioch *ch)
{
	const uint32_t limit = MOBO_IOCH_POSTED - MOBO_IOCH_VCPUS;
	uint32_t ticket = atomic_load_explicit(&ch->posted_ticket, memory_order_relaxed);
	uint32_t seen = atomic_load_explicit(&ch->posted_seen, memory_order_acquire);

	if (ticket - seen < limit) {
		return true;
	}
	seen = atomic_load_explicit(&ch->priv.posted_done, memory_order_acquire);
	atomic_store_explicit(&ch->posted_seen, seen, memory_order_release);
	return ticket - seen < limit;
}

/* The ring is full: rare, the device is slow, restarting or hostile. Nobody wakes us. */
static int wait_for_room(struct mobo_io_engine *io, unsigned vcpu)
{
	_Atomic uint32_t *word = &io->ch->priv.posted_done;
	uint64_t slice = 50 * 1000;
	uint64_t end = mobo_monotonic_ns() + (io->n_cpus > 1 ? SPIN_RUNNING_NS : 0);

	while (!has_room(io->ch)) {
		wake_device(io);
		if (atomic_load(&io->ch->dev.state) == MOBO_PEER_GONE) {
			return -EPIPE;
		}
		if (io->idle) {
			io->idle(io->give_up_arg, vcpu);
		}
		if (mobo_monotonic_ns() < end) {
			__builtin_ia32_pause();
			continue;
		}
		if (io->give_up && io->give_up(io->give_up_arg, vcpu)) {
			return -ECANCELED;
		}
		mobo_futex_wait(word, atomic_load(word), mobo_monotonic_ns() + slice, UINT32_MAX);
		slice = MOBO_MIN(slice * 2, (uint64_t)SLICE_LAST_NS);
	}
	return 0;
}

int mobo_io_post(struct mobo_io_engine *io, unsigned vcpu, uint32_t region, uint64_t offset,
		 unsigned size, uint64_t data)
{
	struct mobo_ioch *ch = io->ch;
	struct mobo_io_posted *slot;
	uint32_t ticket;
	int r;

	if (!has_room(ch)) {
		r = wait_for_room(io, vcpu);
		if (r < 0) {
			return r;
		}
	}
	ticket = atomic_fetch_add_explicit(&ch->posted_ticket, 1, memory_order_acq_rel);
	slot = &ch->posted[ticket % MOBO_IOCH_POSTED];
	slot->data = data;
	slot->addr = (uint32_t)offset;
	slot->region = (uint16_t)region;
	slot->size = (uint8_t)size;
	slot->vcpu = (uint8_t)vcpu;
	slot->vtime_ns = stamp(io);
	atomic_store_explicit(&slot->slot_seq, ticket + 1, memory_order_release);
	wake_device(io);
	return 0;
}

void mobo_io_bell(struct mobo_io_engine *io, uint32_t region, uint64_t value)
{
	if (region >= MOBO_IOCH_REGIONS) {
		return;
	}
	*(volatile uint32_t *)&io->ch->bell_value[region] = (uint32_t)value;
	atomic_fetch_add_explicit(&io->ch->bell[region], 1, memory_order_release);
	wake_device(io);
}
