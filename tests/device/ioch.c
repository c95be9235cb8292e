/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O channel with four vCPUs: its ordering rules, killed devices, hostile peers, one CPU. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ioch_rig.h"
#include "mobo/base.h"

enum { ROUNDS = 20000 };

struct vcpu {
	struct rig *rig;
	unsigned n;
	uint64_t failures;
	pthread_t thread;
};

static uint64_t get(struct rig *r, unsigned vcpu, uint32_t region, uint64_t offset)
{
	uint64_t data = 0;
	bool changed;

	mobo_io_sync(&r->io, vcpu, MOBO_IO_READ, region, offset, 8, &data, &changed);
	return data;
}

static int put(struct rig *r, unsigned vcpu, uint32_t region, uint64_t offset, uint64_t data)
{
	bool changed;

	return mobo_io_sync(&r->io, vcpu, MOBO_IO_WRITE, region, offset, 8, &data, &changed);
}

static unsigned host_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 1 ? (unsigned)n : 1;
}

/* Runs fn on every vCPU at the same time; the sum of their failures. */
static uint64_t on_all_vcpus(struct rig *r, void *(*fn)(void *))
{
	struct vcpu v[RIG_VCPUS];
	uint64_t failures = 0;

	for (unsigned i = 0; i < RIG_VCPUS; i++) {
		v[i] = (struct vcpu){.rig = r, .n = i};
		assert_int_equal(pthread_create(&v[i].thread, NULL, fn, &v[i]), 0);
	}
	for (unsigned i = 0; i < RIG_VCPUS; i++) {
		pthread_join(v[i].thread, NULL);
		failures += v[i].failures;
	}
	return failures;
}

static void *post_then_read(void *arg)
{
	struct vcpu *v = arg;

	for (uint64_t i = 1; i <= ROUNDS; i++) {
		mobo_io_post(&v->rig->io, v->n, RIG_CELLS, v->n * 8, 8, i * 3);
		if (i % 7 == 0) {
			put(v->rig, v->n, RIG_CELLS, v->n * 8, i * 5);
			mobo_io_post(&v->rig->io, v->n, RIG_CELLS, v->n * 8, 8, i);
			v->failures += get(v->rig, v->n, RIG_CELLS, v->n * 8) != i;
		}
	}
	return NULL;
}

static void read_pushes_own_posted_writes(void **state)
{
	struct rig r;

	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	assert_int_equal(on_all_vcpus(&r, post_then_read), 0);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static pthread_spinlock_t guest_lock;
static uint64_t guest_counter;

static void *post_under_lock(void *arg)
{
	struct vcpu *v = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_spin_lock(&guest_lock);
		mobo_io_post(&v->rig->io, v->n, RIG_LOG, 0, 8, ++guest_counter);
		pthread_spin_unlock(&guest_lock);
	}
	return NULL;
}

static void posted_writes_of_all_vcpus_keep_the_order_of_a_lock(void **state)
{
	struct rig r;

	pthread_spin_init(&guest_lock, PTHREAD_PROCESS_PRIVATE);
	guest_counter = 0;
	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	on_all_vcpus(&r, post_under_lock);
	assert_int_equal(get(&r, 0, RIG_LOG, 0), RIG_VCPUS * ROUNDS);
	assert_int_equal(r.seen->log_disorder, 0);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void *post_then_others_read(void *arg)
{
	struct vcpu *v = arg;

	for (unsigned i = 0; i < ROUNDS / 4; i++) {
		pthread_spin_lock(&guest_lock);
		mobo_io_post(&v->rig->io, v->n, RIG_CELLS, 8, 8, ++guest_counter);
		pthread_spin_unlock(&guest_lock);
		pthread_spin_lock(&guest_lock);
		v->failures += get(v->rig, v->n, RIG_CELLS, 8) != guest_counter;
		pthread_spin_unlock(&guest_lock);
	}
	return NULL;
}

static void read_under_a_lock_sees_what_another_vcpu_posted(void **state)
{
	struct rig r;

	guest_counter = 0;
	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	assert_int_equal(on_all_vcpus(&r, post_then_others_read), 0);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void reply_shows_memory_and_line_of_the_device(void **state)
{
	struct rig r;
	uint64_t level;

	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	for (uint64_t i = 1; i <= ROUNDS; i++) {
		assert_int_equal(get(&r, 0, RIG_IRQ, 0), i);
		level = atomic_load_explicit(&r.ch->irq.level, memory_order_relaxed);
		assert_int_equal(atomic_load_explicit(&r.seen->ram, memory_order_relaxed), i);
		assert_int_equal(level, i & 1);
	}
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void string_request_reports_what_moved(void **state)
{
	struct rig r;
	uint8_t buf[MOBO_IOCH_BOUNCE + 8];
	unsigned count = 512;
	bool changed;

	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(mobo_io_string(&r.io, 1, MOBO_IO_READ_STRING, RIG_STRING, 0, 2, buf,
					&count, &changed),
			 0);
	assert_int_equal(count, 100);
	assert_int_equal(buf[199], 0x5a);
	assert_int_equal(buf[200], 0);
	memset(buf, 1, sizeof(buf));
	count = 5000;
	assert_int_equal(mobo_io_string(&r.io, 1, MOBO_IO_WRITE_STRING, RIG_STRING, 0, 1, buf,
					&count, &changed),
			 0);
	assert_int_equal(count, 100);
	assert_int_equal(get(&r, 0, RIG_CELLS, 0), 100);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void map_change_is_told_once_to_each_vcpu(void **state)
{
	struct rig r;
	uint64_t data;
	bool changed;

	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	atomic_fetch_add(&r.ch->dev.map_gen, 1);
	for (unsigned v = 0; v < 2; v++) {
		mobo_io_sync(&r.io, v, MOBO_IO_READ, RIG_CELLS, 0, 8, &data, &changed);
		assert_true(changed);
		mobo_io_sync(&r.io, v, MOBO_IO_READ, RIG_CELLS, 0, 8, &data, &changed);
		assert_false(changed);
	}
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void doorbell_reaches_a_sleeping_device(void **state)
{
	struct rig r;

	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	usleep(20000);
	mobo_io_bell(&r.io, RIG_BELL, 42);
	for (unsigned i = 0; i < 1000 && r.seen->bells == 0; i++) {
		usleep(1000);
	}
	assert_int_equal(r.seen->bells, 1);
	assert_int_equal(r.seen->bell_value, 42);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void full_ring_waits_until_given_up_and_loses_nothing(void **state)
{
	struct rig r;
	uint64_t n = 0;

	rig_init(&r, host_cpus());
	r.give_up = true;
	while (mobo_io_post(&r.io, 0, RIG_LOG, 0, 8, n + 1) == 0) {
		n++;
		assert_true(n <= MOBO_IOCH_POSTED);
	}
	assert_int_equal(n, MOBO_IOCH_POSTED - MOBO_IOCH_VCPUS);
	r.give_up = false;
	rig_start_thread(&r);
	for (uint64_t i = 0; i < 5 * MOBO_IOCH_POSTED; i++) { /* and round the ring's end */
		assert_int_equal(mobo_io_post(&r.io, 0, RIG_LOG, 0, 8, ++n), 0);
	}
	assert_int_equal(get(&r, 0, RIG_LOG, 0), n);
	assert_int_equal(r.seen->log_disorder, 0);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void tickets_pass_the_end_of_32_bits(void **state)
{
	struct rig r;
	const uint32_t start = UINT32_MAX - 2000;

	rig_init(&r, host_cpus());
	atomic_store(&r.ch->posted_ticket, start);
	atomic_store(&r.ch->posted_seen, start);
	atomic_store(&r.ch->priv.posted_done, start);
	for (unsigned v = 0; v < RIG_VCPUS; v++) {
		atomic_store(&r.ch->req[v].seq, start);
		atomic_store(&r.ch->rep[v].seq, start);
	}
	rig_start_thread(&r);
	assert_int_equal(on_all_vcpus(&r, post_then_read), 0);
	rig_stop_thread(&r);
	rig_finish(&r);
}

static void device_that_is_gone_reads_as_ones(void **state)
{
	struct rig r;
	uint64_t data = 0;
	bool changed;

	rig_init(&r, host_cpus());
	rig_open(&r);
	mobo_channel_close(&r.channel);
	assert_int_equal(mobo_io_sync(&r.io, 0, MOBO_IO_READ, RIG_CELLS, 0, 2, &data, &changed),
			 -EPIPE);
	assert_int_equal(data, 0xffff);
	rig_finish(&r);
}

static void vcpu_gives_up_on_a_silent_device(void **state)
{
	struct rig r;
	uint64_t data = 0;
	bool changed;

	rig_init(&r, host_cpus());
	r.give_up = true;
	assert_int_equal(mobo_io_sync(&r.io, 0, MOBO_IO_READ, RIG_CELLS, 0, 4, &data, &changed),
			 -ECANCELED);
	assert_int_equal(data, 0xffffffffu);
	/* The late answer is not taken for the next one's. */
	rig_open(&r);
	mobo_channel_serve(&r.channel);
	r.give_up = false;
	rig_start_thread(&r);
	put(&r, 0, RIG_CELLS, 0, 7);
	assert_int_equal(get(&r, 0, RIG_CELLS, 0), 7);
	rig_stop_thread(&r);
	rig_finish(&r);
}

/* -- Death -- */

enum { KILLS = 100 };
static _Atomic unsigned kills;

static _Atomic unsigned lost;

static void *fragile_writes(void *arg)
{
	struct vcpu *v = arg;
	uint64_t got;

	for (uint64_t i = 1; kills < KILLS; i++) {
		if (i % 3 == 0) {
			mobo_io_post(&v->rig->io, v->n, RIG_FRAGILE, v->n, 8, i);
		} else {
			v->failures += put(v->rig, v->n, RIG_FRAGILE, v->n, i) != 0;
		}
		got = get(v->rig, v->n, RIG_FRAGILE, v->n);
		if (got < i) {
			lost++; /* begun when the device was killed: not executed again */
		} else {
			v->failures += got != i && got != UINT64_MAX;
		}
	}
	return NULL;
}

static _Atomic bool vcpus_done;

static void *run_vcpus(void *arg)
{
	uint64_t *failures = arg;
	struct vcpu v[RIG_VCPUS];
	struct rig *r = (struct rig *)(uintptr_t)failures[1];

	for (unsigned i = 0; i < RIG_VCPUS; i++) {
		v[i] = (struct vcpu){.rig = r, .n = i};
		pthread_create(&v[i].thread, NULL, fragile_writes, &v[i]);
	}
	for (unsigned i = 0; i < RIG_VCPUS; i++) {
		pthread_join(v[i].thread, NULL);
		failures[0] += v[i].failures;
	}
	vcpus_done = true;
	return NULL;
}

/* Kills (or lets die) and restarts the device as long as the vCPUs work. */
static void torture(bool by_itself)
{
	struct rig r;
	uint64_t result[2];
	pthread_t t;
	unsigned seed = 1;

	rig_init(&r, host_cpus());
	vcpus_done = false;
	kills = 0;
	lost = 0;
	result[0] = 0;
	result[1] = (uintptr_t)&r;
	r.seen->die_after = by_itself ? 50 : 0;
	rig_start_process(&r);
	assert_int_equal(pthread_create(&t, NULL, run_vcpus, result), 0);
	while (!vcpus_done) {
		if (by_itself) {
			if (waitpid(r.pid, NULL, WNOHANG) != r.pid) {
				usleep(100);
				continue;
			}
			r.seen->die_after = (unsigned)rand_r(&seed) % 400 + 1;
		} else {
			usleep((unsigned)rand_r(&seed) % 3000);
			rig_kill_process(&r);
		}
		rig_start_process(&r);
		kills++;
	}
	pthread_join(t, NULL);
	rig_kill_process(&r);
	assert_int_equal(result[0], 0);
	assert_int_equal(r.seen->fragile_twice, 0);
	/* At most what each of the killed processes had begun; some were killed before they began.
	 */
	assert_in_range(lost, 0, kills);
	assert_true(atomic_load(&r.ch->dev.epoch) > 1);
	rig_finish(&r);
}

static void killed_device_executes_nothing_twice_and_vcpus_go_on(void **state)
{
	torture(false);
}

static void device_that_dies_in_a_write_does_not_repeat_it(void **state)
{
	torture(true);
}

/* -- Hostility -- */

static uint64_t random_u64(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static _Atomic bool hostile_stop;

static void *scribble(void *arg)
{
	struct rig *r = arg;
	uint64_t x = 88172645463325252ull;
	uint32_t *words = (uint32_t *)r->ch;

	while (!hostile_stop) {
		words[random_u64(&x) % (sizeof(*r->ch) / 4)] = (uint32_t)random_u64(&x);
		for (unsigned v = 0; v < RIG_VCPUS; v++) {
			r->ch->rep[v].data = random_u64(&x);
			r->ch->rep[v].count = (uint32_t)random_u64(&x);
			atomic_store(&r->ch->rep[v].seq, atomic_load(&r->ch->req[v].seq));
		}
		atomic_store(&r->ch->dev.state, (uint32_t)random_u64(&x) % 4);
	}
	return NULL;
}

static void engine_survives_a_hostile_device(void **state)
{
	struct rig r;
	pthread_t t;
	uint8_t buf[MOBO_IOCH_BOUNCE + 16];
	uint64_t data;
	bool changed;

	rig_init(&r, host_cpus());
	r.give_up = true;
	hostile_stop = false;
	assert_int_equal(pthread_create(&t, NULL, scribble, &r), 0);
	memset(buf + MOBO_IOCH_BOUNCE, 0xcd, 16);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned count = MOBO_IOCH_BOUNCE;

		mobo_io_sync(&r.io, i % 4, MOBO_IO_READ, RIG_CELLS, 0, 1, &data, &changed);
		assert_true(data <= 0xff);
		mobo_io_string(&r.io, i % 4, MOBO_IO_READ_STRING, RIG_STRING, 0, 1, buf, &count,
			       &changed);
		assert_true(count >= 1 && count <= MOBO_IOCH_BOUNCE);
		mobo_io_post(&r.io, i % 4, RIG_LOG, 0, 8, i);
		mobo_io_bell(&r.io, RIG_BELL, i);
	}
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(buf[MOBO_IOCH_BOUNCE + i], 0xcd);
	}
	hostile_stop = true;
	pthread_join(t, NULL);
	rig_finish(&r);
}

static void device_survives_a_hostile_engine(void **state)
{
	struct rig r;
	uint64_t x = 1234567;
	uint8_t *bytes;

	rig_init(&r, 1);
	rig_open(&r);
	bytes = (uint8_t *)r.ch;
	for (unsigned i = 0; i < 3000; i++) {
		for (unsigned k = 0; k < 64; k++) {
			/* Not the device's own private lines: it keeps copies, but tests read them.
			 */
			bytes[128 + random_u64(&x) % (sizeof(*r.ch) - 128)] =
				(uint8_t)random_u64(&x);
		}
		for (unsigned v = 0; v < RIG_VCPUS; v++) {
			r.ch->req[v].size = (uint16_t)(random_u64(&x) % 10);
			r.ch->req[v].op = (uint16_t)(random_u64(&x) % 6);
			r.ch->req[v].count = (uint32_t)(random_u64(&x) >> (random_u64(&x) % 64));
			r.ch->req[v].posted_upto = r.channel.posted_done + (i % 2);
			atomic_fetch_add(&r.ch->req[v].seq, 1);
		}
		mobo_channel_serve(&r.channel);
		mobo_channel_run(&r.channel);
	}
	rig_finish(&r);
}

/* -- One CPU, idleness -- */

static void one_cpu_works_without_spinning(void **state)
{
	struct rig r;
	cpu_set_t all, one;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &all)) {
			CPU_SET(i, &one);
			break;
		}
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	rig_init(&r, 1);
	rig_start_thread(&r);
	for (uint64_t i = 1; i < 2000; i++) {
		mobo_io_post(&r.io, 0, RIG_CELLS, 8, 8, i);
		assert_int_equal(get(&r, 0, RIG_CELLS, 8), i);
	}
	assert_int_equal(r.channel.stats.polled, 0);
	rig_stop_thread(&r);
	rig_finish(&r);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void idle_device_sleeps(void **state)
{
	struct rig r;
	struct timespec before, after;
	clockid_t clock;
	uint64_t sleeps;

	rig_init(&r, host_cpus());
	rig_start_thread(&r);
	for (unsigned i = 0; i < 1000; i++) {
		get(&r, 0, RIG_CELLS, 0);
	}
	usleep(20000);
	assert_int_equal(pthread_getcpuclockid(r.thread, &clock), 0);
	sleeps = r.seen->sleeps;
	clock_gettime(clock, &before);
	usleep(300000);
	clock_gettime(clock, &after);
	assert_int_equal(r.seen->sleeps, sleeps);
	assert_int_equal(before.tv_sec, after.tv_sec);
	assert_int_equal(before.tv_nsec, after.tv_nsec);
	assert_int_equal(atomic_load(&r.ch->dev.state), MOBO_PEER_SLEEPING);
	rig_stop_thread(&r);
	rig_finish(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_pushes_own_posted_writes),
		cmocka_unit_test(posted_writes_of_all_vcpus_keep_the_order_of_a_lock),
		cmocka_unit_test(read_under_a_lock_sees_what_another_vcpu_posted),
		cmocka_unit_test(reply_shows_memory_and_line_of_the_device),
		cmocka_unit_test(string_request_reports_what_moved),
		cmocka_unit_test(map_change_is_told_once_to_each_vcpu),
		cmocka_unit_test(doorbell_reaches_a_sleeping_device),
		cmocka_unit_test(full_ring_waits_until_given_up_and_loses_nothing),
		cmocka_unit_test(tickets_pass_the_end_of_32_bits),
		cmocka_unit_test(device_that_is_gone_reads_as_ones),
		cmocka_unit_test(vcpu_gives_up_on_a_silent_device),
		cmocka_unit_test(killed_device_executes_nothing_twice_and_vcpus_go_on),
		cmocka_unit_test(device_that_dies_in_a_write_does_not_repeat_it),
		cmocka_unit_test(engine_survives_a_hostile_device),
		cmocka_unit_test(device_survives_a_hostile_engine),
		cmocka_unit_test(one_cpu_works_without_spinning),
		cmocka_unit_test(idle_device_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
