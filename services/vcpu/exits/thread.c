/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads: run guest code, serve requests, sleep in HLT, park. Intel SDM volume 3, 8.4 for
 * INIT and SIPI.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "exits/board_internal.h"
#include "mobo/log.h"

enum {
	/* What ends the sleep of a CPU that waits for SIPI or has shut down. */
	MASK_STOPPED =
		REQ_INIT | REQ_SIPI | REQ_PAUSE | REQ_STATE | REQ_TIMER | REQ_RESET | REQ_STOP,
	/* An access that waits longer than this can be interrupted by a pause. */
	PATIENCE_NS = 500000000,
};

/* -- Parking; park_lock is held -- */

static void notify(struct board *b)
{
	if (b->notify) {
		b->notify(b->notify_arg);
	}
}

/* Outside: another vCPU that works for a client may wait for this one with the lock held. */
static void run_state(struct cpu *c)
{
	void (*fn)(struct vcpu * v, void *arg) = c->v->state_fn;

	atomic_fetch_and(&c->v->req, ~(uint32_t)REQ_STATE);
	if (fn) {
		cpu_enter(c);
		fn(c->v, c->v->state_arg);
		cpu_leave(c);
		c->v->state_fn = NULL;
		pthread_cond_broadcast(&c->board->park_cond);
	}
}

/* Power-on: the first CPU starts at the reset vector, the others wait for SIPI. */
static void reset_cpu(struct cpu *c)
{
	struct vcpu *v = c->v;

	atomic_fetch_and(&v->req, ~(uint32_t)REQ_RESET);
	c->board->ops->reset(v, false);
	c->step = STEP_NO;
	board_clock_changed(v);
	v->apic_base = atomic_load(&c->lapic.s.apic_base);
	v->halted = v->shutdown = false;
	v->wait_sipi = v->index > 0;
	pthread_cond_broadcast(&c->board->park_cond);
}

/* may_reset: between instructions, not in one that waits for a device. */
static void park(struct cpu *c, bool may_reset)
{
	struct board *b = c->board;

	cpu_leave(c);
	pthread_mutex_lock(&b->park_lock);
	if (c->v->debug.step) { /* a pause came first */
		b->ops->debug->step(c->v, false);
	}
	c->parked = true;
	c->in_access = !may_reset;
	b->n_parked++;
	notify(b);
	for (;;) {
		uint32_t req = atomic_load(&c->v->req);

		if (req & REQ_STATE) {
			run_state(c);
		} else if (req & REQ_RESET && may_reset) {
			reset_cpu(c);
		} else if (!b->paused || req & REQ_STOP || req & REQ_RESET ||
			   (c->step == STEP_ALONE && may_reset)) {
			break;
		} else {
			pthread_cond_wait(&b->park_cond, &b->park_lock);
		}
	}
	c->parked = c->in_access = false;
	b->n_parked--;
	if (!b->paused || c->step == STEP_ALONE) {
		atomic_fetch_and(&c->v->req, ~(uint32_t)REQ_PAUSE);
	}
	if (c->step != STEP_NO) {
		b->ops->debug->step(c->v, true);
		c->step = STEP_NO;
	}
	pthread_mutex_unlock(&b->park_lock);
	atomic_store(&c->armed_mono_ns, 0); /* deadlines moved while the clock stood */
	if (may_reset) {		    /* else the access under way goes on waiting */
		cpu_enter(c);
	}
	vcpu_request(c->v, REQ_TIMER);
}

bool cpu_give_up(void *arg, unsigned vcpu)
{
	struct cpu *c = &((struct board *)arg)->cpu[vcpu];
	uint32_t req = atomic_load(&c->v->req);
	uint64_t now = mobo_monotonic_ns();

	if (req & (REQ_RESET | REQ_STOP)) {
		return true;
	}
	if (!c->waiting_since_ns) {
		c->waiting_since_ns = now;
	}
	if (req & REQ_PAUSE && now - c->waiting_since_ns > PATIENCE_NS) {
		park(c, false);
		c->waiting_since_ns = 0;
		return atomic_load(&c->v->req) & (REQ_RESET | REQ_STOP);
	}
	return false;
}

/* -- Requests -- */

static void take_init(struct cpu *c)
{
	struct vcpu *v = c->v;

	atomic_fetch_and(&v->req, ~(uint32_t)(REQ_INIT | REQ_NMI | REQ_NMI_2));
	lapic_reset(&c->lapic, v->index, true);
	c->board->ops->reset(v, true);
	board_clock_changed(v);
	v->apic_base = atomic_load(&c->lapic.s.apic_base);
	v->halted = v->shutdown = false;
	v->wait_sipi = !(v->apic_base & APIC_BASE_BSP);
}

/* Real mode at vector * 4096; ignored but in the wait-for-SIPI state. */
static void take_sipi(struct cpu *c)
{
	struct vcpu *v = c->v;
	struct mobo_cpu_state s;

	atomic_fetch_and(&v->req, ~(uint32_t)REQ_SIPI);
	if (!v->wait_sipi) {
		return;
	}
	v->sipi_vector = atomic_load(&c->sipi_vector);
	c->board->ops->get_state(v, &s);
	s.sregs.cs.selector = (uint16_t)(v->sipi_vector << 8);
	s.sregs.cs.base = (uint64_t)v->sipi_vector << 12;
	s.regs.rip = 0;
	s.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
	if (c->board->ops->set_state(v, &s) < 0) {
		mobo_error("CPU %u cannot be started", v->index);
		return;
	}
	v->wait_sipi = false;
	v->halted = false;
}

/* False: leave the thread. */
static bool serve(struct cpu *c)
{
	struct board *b = c->board;
	struct vcpu *v = c->v;
	uint32_t req = atomic_load(&v->req);

	if (req & REQ_STOP) {
		return false;
	}
	if (req & REQ_SYNC) {
		cpu_sync_run(c);
	}
	if (req & REQ_STATE) {
		cpu_leave(c);
		pthread_mutex_lock(&b->park_lock);
		run_state(c);
		pthread_mutex_unlock(&b->park_lock);
		cpu_enter(c);
	}
	if (req & (REQ_PAUSE | REQ_RESET)) {
		park(c, true);
		return !(atomic_load(&v->req) & REQ_STOP);
	}
	if (req & REQ_TIMER) {
		cpu_timers(c);
	}
	if (atomic_load_explicit(&b->page->kick.summary, memory_order_acquire)) {
		board_collect(b, v);
	}
	if (req & REQ_INIT) {
		take_init(c);
	}
	if (req & REQ_SIPI) {
		take_sipi(c);
	}
	return true;
}

/* -- Sleeping -- */

static bool ready(void *arg)
{
	struct cpu *c = arg;

	return atomic_load(&c->v->req) & c->sleep_mask ||
	       atomic_load(&c->board->page->kick.summary) != 0;
}

static void sleep_until(struct cpu *c, uint32_t mask)
{
	struct board *b = c->board;
	uint64_t deadline = cpu_deadline_ns(c), mono = UINT64_MAX;

	if (deadline != UINT64_MAX) {
		mono = mobo_clock_to_monotonic_ns(b->page, deadline);
	}
	c->sleep_mask = mask;
	cpu_leave(c);
	mobo_kick_wait(b->page, c->v->index, mono, ready, c);
	cpu_enter(c);
	if (deadline != UINT64_MAX && board_now_ns(b) >= deadline) {
		vcpu_request(c->v, REQ_TIMER);
	}
}

/* Does something end HLT now? */
static bool wakes(struct cpu *c)
{
	uint32_t req = atomic_load(&c->v->req) & c->v->req_mask;

	if (req & REQ_NMI) {
		return true;
	}
	return req & REQ_IRQ && board_irq_poll(c->v);
}

/* -- The loop -- */

static void triple_fault(struct cpu *c)
{
	c->v->shutdown = true;
	atomic_fetch_or(&c->board->triple_faults, 1u << c->v->index);
	notify(c->board);
}

/* This vCPU stopped for a debugger: so do the others. */
static void debug_stop(struct cpu *c)
{
	struct board *b = c->board;

	atomic_fetch_and(&c->v->req, ~(uint32_t)REQ_DEBUG);
	cpu_leave(c);
	pthread_mutex_lock(&b->park_lock);
	atomic_fetch_or(&b->debug_stops, 1u << c->v->index);
	atomic_fetch_or(&b->debug_untold, 1u << c->v->index);
	pthread_mutex_unlock(&b->park_lock);
	board_pause(b);
	cpu_enter(c);
	if (c->v->shutdown) {
		triple_fault(c);
	}
	notify(b);
}

void cpu_loop(struct cpu *c)
{
	struct vcpu *v = c->v;

	cpu_enter(c);
	while (serve(c)) {
		if (v->wait_sipi || v->shutdown) {
			sleep_until(c, MASK_STOPPED);
			continue;
		}
		if (v->halted) {
			if (!wakes(c)) {
				if (!(atomic_load(&v->req) & v->req_mask)) {
					sleep_until(c, v->req_mask);
				}
				continue;
			}
			v->halted = false;
		}
		cpu_arm(c);
		switch (c->board->ops->run(v)) {
		case MOBO_EXIT_HALT:
			cpu_count(c, EXIT_HALT);
			v->halted = true;
			break;
		case MOBO_EXIT_SHUTDOWN: triple_fault(c); break;
		case MOBO_EXIT_DEBUG: debug_stop(c); break;
		case MOBO_EXIT_REQUEST: break;
		}
	}
	cpu_leave(c);
}

static void on_timer(int sig, siginfo_t *si, void *uc)
{
	struct cpu *c = si->si_value.sival_ptr;

	(void)sig;
	(void)uc;
	atomic_store(&c->armed_mono_ns, 0);
	vcpu_request(c->v, REQ_TIMER);
}

static int make_timer(struct cpu *c)
{
	struct sigaction sa = {.sa_sigaction = on_timer,
			       .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID,
			      .sigev_signo = SIGRTMIN,
			      .sigev_value.sival_ptr = c};
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	sigset_t only;

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigfillset(&only);
	sigdelset(&only, SIGRTMIN);
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(own); i++) {
		sigdelset(&only, own[i]);
	}
	pthread_sigmask(SIG_SETMASK, &only, NULL);
	if (sigaction(SIGRTMIN, &sa, NULL) < 0 ||
	    timer_create(CLOCK_MONOTONIC, &ev, &c->timer) < 0) {
		return -errno;
	}
	c->has_timer = true;
	return 0;
}

static void *thread_main(void *arg)
{
	struct cpu *c = arg;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "vcpu%u", c->v->index);
	pthread_setname_np(pthread_self(), name);
	cpu_set_current(c);
	r = make_timer(c);
	if (r == 0) {
		r = c->board->ops->vcpu_init(c->v);
	}
	if (r == 0 && c->board->ops->check) {
		r = c->board->ops->check(c->v, c->board->verify, c->board->chaos);
	}
	pthread_mutex_lock(&c->board->park_lock);
	if (r == 0) {
		vcpu_request(c->v, REQ_PAUSE);
		reset_cpu(c);
	}
	c->start_result = r;
	c->started = true;
	pthread_cond_broadcast(&c->board->park_cond);
	pthread_mutex_unlock(&c->board->park_lock);
	if (r < 0) {
		mobo_error("vCPU %u cannot be made: %s", c->v->index, strerror(-r));
		return NULL;
	}
	cpu_loop(c);
	c->board->ops->vcpu_finish(c->v);
	timer_delete(c->timer);
	return NULL;
}

/* -- From the process' main thread -- */

int board_start_threads(struct board *b)
{
	for (unsigned i = 0; i < b->n_cpus; i++) {
		struct cpu *c = &b->cpu[i];
		int r = -pthread_create(&c->thread, NULL, thread_main, c);

		if (r == 0) {
			b->n_threads++;
			pthread_mutex_lock(&b->park_lock);
			while (!c->started) {
				pthread_cond_wait(&b->park_cond, &b->park_lock);
			}
			r = c->start_result;
			pthread_mutex_unlock(&b->park_lock);
		}
		if (r < 0) {
			board_stop_threads(b);
			return r;
		}
	}
	return 0;
}

void board_stop_threads(struct board *b)
{
	for (unsigned i = 0; i < b->n_threads; i++) {
		pthread_mutex_lock(&b->park_lock);
		vcpu_request(b->cpu[i].v, REQ_STOP);
		pthread_cond_broadcast(&b->park_cond);
		pthread_mutex_unlock(&b->park_lock);
		b->ops->kick(b->cpu[i].v);
		mobo_kick_vcpu(b->page, i);
	}
	for (unsigned i = 0; i < b->n_threads; i++) {
		pthread_join(b->cpu[i].thread, NULL);
	}
	b->n_threads = 0;
}

void board_run(struct board *b)
{
	pthread_mutex_lock(&b->park_lock);
	if (b->paused) {
		board_tsc_start(b);
		board_clock_started(b);
		b->paused = false;
		atomic_store(&b->debug_stops, 0);
		pthread_cond_broadcast(&b->park_cond);
	}
	pthread_mutex_unlock(&b->park_lock);
}

void board_pause(struct board *b)
{
	pthread_mutex_lock(&b->park_lock);
	b->paused = true;
	pthread_mutex_unlock(&b->park_lock);
	for (unsigned i = 0; i < b->n_cpus; i++) {
		vcpu_request(b->cpu[i].v, REQ_PAUSE);
		b->ops->kick(b->cpu[i].v);
		mobo_kick_vcpu(b->page, i);
	}
}

static bool any_steps(const struct board *b)
{
	for (unsigned i = 0; i < b->n_cpus; i++) {
		if (b->cpu[i].step == STEP_ALONE) {
			return true;
		}
	}
	return false;
}

bool board_parked(struct board *b)
{
	bool parked;

	pthread_mutex_lock(&b->park_lock);
	parked = b->paused && b->n_parked == b->n_cpus && !any_steps(b);
	if (parked) {
		board_tsc_stop(b);
	}
	pthread_mutex_unlock(&b->park_lock);
	return parked;
}

static bool any_resetting(struct board *b)
{
	for (unsigned i = 0; i < b->n_cpus; i++) {
		if (atomic_load(&b->cpu[i].v->req) & REQ_RESET) {
			return true;
		}
	}
	return false;
}

void board_reset(struct board *b)
{
	/* CPUs first: one that still waits for a device leaves its access here. */
	pthread_mutex_lock(&b->park_lock);
	for (unsigned i = 0; i < b->n_cpus; i++) {
		vcpu_request(b->cpu[i].v, REQ_RESET);
	}
	pthread_cond_broadcast(&b->park_cond);
	while (any_resetting(b) || b->n_parked < b->n_cpus) {
		pthread_cond_wait(&b->park_cond, &b->park_lock);
	}
	atomic_store(&b->triple_faults, 0);
	pthread_mutex_unlock(&b->park_lock);
	board_reset_chips(b);
}

int board_step(struct board *b, unsigned n, bool now)
{
	struct vcpu *v;
	int r = 0;

	if (n >= b->n_cpus) {
		return -EINVAL;
	}
	v = b->cpu[n].v;
	pthread_mutex_lock(&b->park_lock);
	if (!b->paused || b->n_parked < b->n_cpus) {
		r = -EBUSY;
	} else if (b->cpu[n].in_access || (now && (v->halted || v->wait_sipi || v->shutdown))) {
		r = -EAGAIN;
	} else {
		atomic_fetch_and(&b->debug_stops, ~(1u << n));
		b->cpu[n].step = now ? STEP_ALONE : STEP_RUN;
		pthread_cond_broadcast(&b->park_cond);
	}
	pthread_mutex_unlock(&b->park_lock);
	return r;
}

int board_on_cpu(struct board *b, unsigned n, void (*fn)(struct vcpu *v, void *arg), void *arg)
{
	struct timespec until;
	struct vcpu *v;
	int r = 0;

	if (n >= b->n_cpus) {
		return -EINVAL;
	}
	v = b->cpu[n].v;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	pthread_mutex_lock(&b->park_lock);
	v->state_fn = fn;
	v->state_arg = arg;
	vcpu_request(v, REQ_STATE);
	pthread_cond_broadcast(&b->park_cond);
	b->ops->kick(v);
	mobo_kick_vcpu(b->page, n);
	while (v->state_fn && r == 0) {
		r = -pthread_cond_timedwait(&b->park_cond, &b->park_lock, &until);
	}
	if (v->state_fn) { /* it waits for a device that does not answer */
		v->state_fn = NULL;
	} else {
		r = 0;
	}
	pthread_mutex_unlock(&b->park_lock);
	return r;
}
