/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ioch_rig.h"
#include "mobo/base.h"

static uint64_t rig_read(void *arg, uint32_t region, uint64_t offset, unsigned size,
			 uint64_t vtime_ns)
{
	struct rig *r = arg;

	switch (region) {
	case RIG_CELLS: return r->seen->cell[offset / 8 % RIG_N_CELLS];
	case RIG_LOG: return r->seen->log_count;
	case RIG_IRQ:
		r->seen->ram++;
		atomic_fetch_xor(&r->ch->irq.level, 1);
		return r->seen->ram;
	case RIG_FRAGILE: return r->seen->fragile_last[offset % RIG_VCPUS];
	default: return UINT64_MAX;
	}
}

static void fragile_write(struct rig *r, unsigned vcpu, uint64_t val)
{
	if (val <= r->seen->fragile_last[vcpu]) {
		r->seen->fragile_twice++;
	}
	r->seen->fragile_last[vcpu] = val;
	if (r->seen->die_after && atomic_fetch_sub(&r->seen->die_after, 1) == 1) {
		raise(SIGKILL);
	}
}

static void rig_write(void *arg, uint32_t region, uint64_t offset, unsigned size, uint64_t val,
		      uint64_t vtime_ns)
{
	struct rig *r = arg;

	switch (region) {
	case RIG_CELLS: r->seen->cell[offset / 8 % RIG_N_CELLS] = val; break;
	case RIG_LOG:
		r->seen->log_disorder += val <= r->seen->log_last;
		r->seen->log_last = val;
		r->seen->log_count++;
		break;
	case RIG_FRAGILE: fragile_write(r, offset % RIG_VCPUS, val); break;
	}
}

static unsigned rig_read_string(void *arg, uint32_t region, uint64_t offset, unsigned size,
				void *buf, unsigned count, uint64_t vtime_ns)
{
	unsigned n = MOBO_MIN(count, 100u);

	memset(buf, region == RIG_STRING ? 0x5a : 0xff, (size_t)n * size);
	return n;
}

static unsigned rig_write_string(void *arg, uint32_t region, uint64_t offset, unsigned size,
				 const void *buf, unsigned count, uint64_t vtime_ns)
{
	struct rig *r = arg;
	unsigned n = MOBO_MIN(count, 100u);

	for (unsigned i = 0; i < n * size; i++) {
		r->seen->cell[0] += ((const uint8_t *)buf)[i];
	}
	return n;
}

static void rig_pci_config(void *arg, uint32_t fn, uint64_t offset, unsigned len, uint64_t val)
{
	struct rig *r = arg;

	r->seen->cell[1] = val;
}

static void rig_doorbell(void *arg, uint32_t region, uint64_t val)
{
	struct rig *r = arg;

	r->seen->bells++;
	r->seen->bell_value = val;
}

static const struct mobo_channel_ops rig_ops = {
	.read = rig_read,
	.write = rig_write,
	.read_string = rig_read_string,
	.write_string = rig_write_string,
	.pci_config = rig_pci_config,
	.doorbell = rig_doorbell,
};

static bool rig_give_up(void *arg, unsigned vcpu)
{
	return ((struct rig *)arg)->give_up;
}

void rig_init(struct rig *r, unsigned n_cpus)
{
	memset(r, 0, sizeof(*r));
	r->ch = mmap(NULL, sizeof(*r->ch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	r->seen = mmap(NULL, sizeof(*r->seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	r->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	MOBO_ASSERT(r->ch != MAP_FAILED && r->seen != MAP_FAILED && r->bell_fd >= 0);
	mobo_ioch_init(r->ch);
	r->n_cpus = n_cpus;
	r->io = (struct mobo_io_engine){.ch = r->ch,
					.bell_fd = r->bell_fd,
					.n_cpus = n_cpus,
					.give_up = rig_give_up,
					.give_up_arg = r};
}

void rig_finish(struct rig *r)
{
	munmap(r->ch, sizeof(*r->ch));
	munmap(r->seen, sizeof(*r->seen));
	close(r->bell_fd);
}

void rig_open(struct rig *r)
{
	r->channel = (struct mobo_channel){.ch = r->ch,
					   .ops = &rig_ops,
					   .arg = r,
					   .n_vcpus = RIG_VCPUS,
					   .n_cpus = r->n_cpus,
					   .bells = 1u << RIG_BELL};
	MOBO_ASSERT(mobo_channel_open(&r->channel, sizeof(*r->ch)) == 0);
}

static void *device_loop(void *arg)
{
	struct rig *r = arg;
	struct pollfd p = {.fd = r->bell_fd, .events = POLLIN};
	uint64_t n;

	rig_open(r);
	while (!r->seen->stop) {
		mobo_channel_awake(&r->channel);
		while (mobo_channel_run(&r->channel) && !r->seen->stop) {
		}
		r->seen->sleeps = r->channel.stats.sleeps;
		poll(&p, 1, -1);
		if (read(r->bell_fd, &n, sizeof(n)) < 0) {
			continue;
		}
	}
	return NULL;
}

static void ring(struct rig *r)
{
	uint64_t one = 1;

	MOBO_ASSERT(write(r->bell_fd, &one, sizeof(one)) == sizeof(one));
}

void rig_start_thread(struct rig *r)
{
	r->seen->stop = false;
	MOBO_ASSERT(pthread_create(&r->thread, NULL, device_loop, r) == 0);
}

void rig_stop_thread(struct rig *r)
{
	r->seen->stop = true;
	ring(r);
	pthread_join(r->thread, NULL);
}

void rig_start_process(struct rig *r)
{
	r->pid = fork();
	MOBO_ASSERT(r->pid >= 0);
	if (r->pid == 0) {
		device_loop(r);
		_exit(0);
	}
}

void rig_kill_process(struct rig *r)
{
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
}
