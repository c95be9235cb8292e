/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling other vCPUs that something which they cache is no longer so.
 *
 * The asker queues the work, sets REQ_SYNC and waits until the other has done it or is outside:
 * asleep, parked, waiting for a device or for a lock of this folder. Whoever is outside does its
 * work before it comes in. Both sides write one word and read the other's, sequentially consistent,
 * so one of them sees the other. An asker that waits answers others meanwhile, so two can ask each
 * other.
 */
#include <errno.h>
#include <sched.h>

#include "exits/board_internal.h"

static void queue(struct cpu *c, enum sync_kind kind, uint64_t gpa, uint64_t len, uint32_t *want)
{
	pthread_mutex_lock(&c->sync_lock);
	if (kind == SYNC_MAP || c->n_work == SYNC_QUEUE) {
		c->work_all = true;
		c->n_work = 0;
	} else if (!c->work_all || kind == SYNC_CODE_PROTECT) {
		c->work[c->n_work++] = (struct sync_work){kind, gpa, len};
	}
	*want = ++c->sync_want;
	pthread_mutex_unlock(&c->sync_lock);
}

void cpu_sync_run(struct cpu *c)
{
	const struct mobo_engine_ops *ops = c->board->ops;
	struct sync_work work[SYNC_QUEUE];
	unsigned n;
	bool all;
	uint32_t want;

	atomic_fetch_and(&c->v->req, ~(uint32_t)REQ_SYNC);
	pthread_mutex_lock(&c->sync_lock);
	n = c->n_work;
	all = c->work_all;
	want = c->sync_want;
	for (unsigned i = 0; i < n; i++) {
		work[i] = c->work[i];
	}
	c->n_work = 0;
	c->work_all = false;
	pthread_mutex_unlock(&c->sync_lock);
	if (all) {
		ops->map_changed(c->v);
	}
	for (unsigned i = 0; i < n; i++) {
		if (work[i].kind == SYNC_CODE_WRITTEN) {
			ops->code_written(c->v, work[i].gpa, work[i].len);
		} else {
			ops->code_protect(c->v, work[i].gpa);
		}
	}
	cpu_count(c, EXIT_SYNC);
	atomic_store(&c->sync_done, want);
}

static bool done(struct cpu *c, uint32_t want)
{
	return atomic_load(&c->outside) || (int32_t)(atomic_load(&c->sync_done) - want) >= 0;
}

static void wait_for(struct cpu *c, uint32_t want, struct vcpu *self)
{
	enum { SPINS = 2000 };

	for (unsigned i = 0; !done(c, want); i++) {
		if (self && atomic_load_explicit(&self->req, memory_order_relaxed) & REQ_SYNC) {
			cpu_sync_run(cpu_of(self));
		}
		if (i < SPINS) {
			__builtin_ia32_pause();
		} else { /* it was preempted: let it run */
			nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
		}
	}
}

void board_sync(struct board *b, struct vcpu *self, enum sync_kind kind, uint64_t gpa, uint64_t len)
{
	uint32_t want[BOARD_CPUS];

	for (unsigned i = 0; i < b->n_cpus; i++) {
		struct cpu *c = &b->cpu[i];

		if (c->v != self) {
			queue(c, kind, gpa, len, &want[i]);
			vcpu_request(c->v, REQ_SYNC);
			b->ops->kick(c->v);
		}
	}
	for (unsigned i = 0; i < b->n_cpus; i++) {
		if (b->cpu[i].v != self) {
			wait_for(&b->cpu[i], want[i], self);
		}
	}
}

void cpu_leave(struct cpu *c)
{
	atomic_store(&c->outside, 1);
}

void cpu_enter(struct cpu *c)
{
	atomic_store(&c->outside, 0);
	if (atomic_load(&c->v->req) & REQ_SYNC) {
		cpu_sync_run(c);
	}
}

void board_lock_sync(struct vcpu *self, pthread_mutex_t *m)
{
	if (pthread_mutex_trylock(m) == 0) {
		return;
	}
	if (self) {
		cpu_leave(cpu_of(self));
	}
	pthread_mutex_lock(m);
	if (self) {
		cpu_enter(cpu_of(self));
	}
}
