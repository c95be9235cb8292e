/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main() of a chip's process, and the world it gives the chip: lines and map words in the I/O
 * channel, virtual timers on the event loop, DMA with the code map, notes to the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mobo/log.h"
#include "process.h"

enum {
	NOTIFY_A_SECOND = 1000, /* what a guest can provoke must not flood the bus */
	STOP_DELAY_NS = 20 * 1000 * 1000,
};
static const uint64_t orphan_look_ns = 250000000ull;
static const uint64_t orphan_end_ns = 500000000ull; /* its images are wanted by the next start */

static struct process the_process; /* a process has one chip */

struct process *process_self(void)
{
	return &the_process;
}

/* -- The chip's world -- */

static void kick(struct process *p)
{
	mobo_kick(p->page, p->kick_bit);
}

static void host_line(struct mobo_dev *d, unsigned line, bool level)
{
	struct process *p = &the_process;

	if (level) {
		atomic_fetch_or(&p->channel.ch->irq.level, 1ull << line);
	} else {
		atomic_fetch_and(&p->channel.ch->irq.level, ~(1ull << line));
		atomic_fetch_or(&p->channel.ch->irq.fell, 1ull << line);
	}
	kick(p);
}

static void host_pulse(struct mobo_dev *d, unsigned line)
{
	atomic_fetch_or(&the_process.channel.ch->irq.pulse, 1ull << line);
	kick(&the_process);
}

static void host_msi(struct mobo_dev *d, unsigned vector)
{
	atomic_fetch_or(&the_process.channel.ch->irq.msi[vector / 64], 1ull << (vector % 64));
	kick(&the_process);
}

static void host_map(struct mobo_dev *d, unsigned region, uint32_t word)
{
	struct process *p = &the_process;

	atomic_store_explicit(&p->channel.ch->map[region], word, memory_order_release);
	atomic_fetch_add(&p->channel.ch->dev.map_gen, 1);
	if (!p->in_access) {
		kick(p); /* nobody waits for a reply that would tell of it */
	}
}

static uint64_t host_now_ns(struct mobo_dev *d)
{
	return mobo_clock_now_ns(the_process.page);
}

static void host_timer(struct mobo_dev *d)
{
	the_process.timer_dirty = true;
}

static bool host_bus_master(struct mobo_dev *d)
{
	return d->cls->n_functions == 0 ||
	       atomic_load_explicit(&the_process.channel.ch->bus_master, memory_order_acquire) != 0;
}

static void host_dma_dirty(struct mobo_dev *d, uint64_t ram_offset, size_t len)
{
	struct process *p = &the_process;
	_Atomic uint64_t *code, *dirty;
	bool any = false;

	if (!p->codemap) {
		return;
	}
	code = p->codemap->bits;
	dirty = code + (p->codemap_pages + 63) / 64;
	/* The data is stored before the bit is read; an engine sets the bit, then reads the data.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t page = ram_offset >> 12; page <= (ram_offset + len - 1) >> 12; page++) {
		uint64_t bit = 1ull << (page % 64);

		if (page < p->codemap_pages &&
		    (atomic_load_explicit(&code[page / 64], memory_order_relaxed) & bit)) {
			atomic_fetch_or(&dirty[page / 64], bit);
			any = true;
		}
	}
	if (any) {
		mobo_kick(p->page, 1u << MOBO_KICK_DMA_CODE);
	}
}

static size_t host_stream_read(struct mobo_dev *d, unsigned stream, void *buf, size_t len)
{
	return stream_read(&the_process, stream, buf, len);
}

static size_t host_stream_write(struct mobo_dev *d, unsigned stream, const void *buf, size_t len)
{
	return stream_write(&the_process, stream, buf, len);
}

static void on_watched_fd(void *arg, int fd, int events)
{
	struct process *p = arg;

	if (p->cls->fd_ready) {
		p->cls->fd_ready(p->dev, fd);
	}
}

static void host_watch_fd(struct mobo_dev *d, int fd, bool on)
{
	struct process *p = &the_process;
	struct fd_watch *free_slot = NULL;

	for (unsigned i = 0; i < PROCESS_WATCHES; i++) {
		struct fd_watch *w = &p->watches[i];

		if (w->watch && w->fd == fd) {
			if (!on) {
				mobo_watch_destroy(w->watch);
				w->watch = NULL;
			}
			return;
		}
		if (!w->watch && !free_slot) {
			free_slot = w;
		}
	}
	if (!on) {
		return;
	}
	MOBO_ASSERT(free_slot);
	free_slot->fd = fd;
	free_slot->watch = mobo_loop_fd(p->loop, fd, MOBO_LOOP_READ, on_watched_fd, p);
	if (!free_slot->watch) {
		mobo_dev_error(d, "No memory to watch a file descriptor.");
	}
}

static bool may_notify(struct process *p)
{
	uint64_t now = mobo_monotonic_ns();

	if (now - p->notify_second_ns >= 1000000000u) {
		if (p->notify_dropped) {
			mobo_warning("%llu notes were dropped: too many in a second",
				     (unsigned long long)p->notify_dropped);
		}
		p->notify_second_ns = now;
		p->notify_count = 0;
		p->notify_dropped = 0;
	}
	if (p->notify_count >= NOTIFY_A_SECOND) {
		p->notify_dropped++;
		return false;
	}
	p->notify_count++;
	return true;
}

static void host_notify(struct mobo_dev *d, const char *verb, const char *text)
{
	struct process *p = &the_process;
	Mobo__V1__DeviceNotify msg = MOBO__V1__DEVICE_NOTIFY__INIT;

	if (!p->bus || !may_notify(p)) {
		return;
	}
	msg.verb = (char *)verb;
	msg.text = (char *)text;
	mobo_bus_call(p->bus, 0, &msg.base, 0, NULL, NULL);
}

static void host_error(struct mobo_dev *d, const char *text)
{
	mobo_error("%s", text);
	host_notify(d, "error", text);
}

const struct mobo_dev_host process_host = {
	.line = host_line,
	.pulse = host_pulse,
	.msi = host_msi,
	.map = host_map,
	.now_ns = host_now_ns,
	.timer = host_timer,
	.bus_master = host_bus_master,
	.dma_dirty = host_dma_dirty,
	.stream_read = host_stream_read,
	.stream_write = host_stream_write,
	.watch_fd = host_watch_fd,
	.notify = host_notify,
	.error = host_error,
};

/* -- Accesses from the channel -- */

static void access_begin(struct process *p, uint64_t vtime_ns)
{
	p->in_access = true;
	p->dev->access_ns = vtime_ns;
}

static void access_end(struct process *p)
{
	p->in_access = false;
	p->dev->access_ns = 0;
}

static uint64_t io_read(void *arg, uint32_t region, uint64_t offset, unsigned size,
			uint64_t vtime_ns)
{
	struct process *p = arg;
	uint64_t v;

	access_begin(p, vtime_ns);
	v = mobo_dev_io_read(p->dev, region, offset, size);
	access_end(p);
	return v;
}

static void io_write(void *arg, uint32_t region, uint64_t offset, unsigned size, uint64_t val,
		     uint64_t vtime_ns)
{
	struct process *p = arg;

	access_begin(p, vtime_ns);
	mobo_dev_io_write(p->dev, region, offset, size, val);
	access_end(p);
}

static unsigned io_read_string(void *arg, uint32_t region, uint64_t offset, unsigned size,
			       void *buf, unsigned count, uint64_t vtime_ns)
{
	struct process *p = arg;
	unsigned n;

	access_begin(p, vtime_ns);
	n = mobo_dev_io_read_string(p->dev, region, offset, size, buf, count);
	access_end(p);
	return n;
}

static unsigned io_write_string(void *arg, uint32_t region, uint64_t offset, unsigned size,
				const void *buf, unsigned count, uint64_t vtime_ns)
{
	struct process *p = arg;
	unsigned n;

	access_begin(p, vtime_ns);
	n = mobo_dev_io_write_string(p->dev, region, offset, size, buf, count);
	access_end(p);
	return n;
}

static void io_pci_config(void *arg, uint32_t fn, uint64_t offset, unsigned len, uint64_t val)
{
	struct process *p = arg;

	if (p->cls->pci_config && fn < p->cls->n_functions && offset < 256 && len <= 4 &&
	    offset + len <= 256) {
		access_begin(p, 0);
		p->cls->pci_config(p->dev, fn, (unsigned)offset, len, (uint32_t)val);
		access_end(p);
	}
}

static void io_doorbell(void *arg, uint32_t region, uint64_t val)
{
	struct process *p = arg;

	if (p->cls->doorbell) {
		p->cls->doorbell(p->dev, region, 0, val);
	}
}

static const struct mobo_channel_ops io_ops = {
	.read = io_read,
	.write = io_write,
	.read_string = io_read_string,
	.write_string = io_write_string,
	.pci_config = io_pci_config,
	.doorbell = io_doorbell,
};

static unsigned usable_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static int open_channel(struct process *p)
{
	p->channel.page = p->page;
	p->channel.ops = &io_ops;
	p->channel.arg = p;
	p->channel.n_vcpus = p->init->cpus ? p->init->cpus : MOBO_IOCH_VCPUS;
	p->channel.n_cpus = usable_cpus();
	for (unsigned i = 0; i < p->cls->n_regions; i++) {
		if (p->dev->regions[i].attr == MOBO_DOORBELL) {
			p->channel.bells |= 1ull << i;
		}
	}
	return mobo_channel_open(&p->channel, sizeof(struct mobo_ioch));
}

/* -- The loop -- */

static void arm_timer(struct process *p)
{
	uint64_t next = p->paused ? UINT64_MAX : mobo_dev_next_timer(p->dev);

	p->timer_dirty = false;
	mobo_watch_timer(p->timer, mobo_clock_to_monotonic_ns(p->page, next));
}

static void on_timer(void *arg)
{
	struct process *p = arg;

	p->timer_dirty = true;
	if (!p->paused && mobo_clock_running(p->page)) {
		mobo_dev_fire_timers(p->dev, mobo_clock_now_ns(p->page));
	}
}

static void on_bell(void *arg, int fd, int events)
{
	struct process *p = arg;
	uint64_t n;

	if (p->serving) {
		mobo_channel_awake(&p->channel);
		mobo_channel_serve(&p->channel);
	}
	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN) {
		mobo_warning("the bell cannot be read: %s", strerror(errno));
	}
}

static bool on_prepare(void *arg)
{
	struct process *p = arg;
	bool more = false;

	if (p->serving) {
		mobo_channel_awake(&p->channel);
		more = mobo_channel_run(&p->channel);
	}
	streams_flush(p);
	if (p->timer_dirty) {
		arm_timer(p);
	}
	return more;
}

/* Without a supervisor the device stays as long as the engine, which it cannot wait for. */
static void on_orphan_timer(void *arg)
{
	struct process *p = arg;
	uint64_t now = mobo_monotonic_ns();
	pid_t engine = (pid_t)atomic_load(&p->channel.ch->engine_pid);

	if (engine > 0 && (kill(engine, 0) == 0 || errno == EPERM)) {
		p->orphan_since_ns = now;
	} else if (now - p->orphan_since_ns >= orphan_end_ns) {
		mobo_info("machine and engine are gone: ends");
		mobo_loop_stop(p->loop);
		return;
	}
	mobo_watch_timer(p->orphan_timer, now + orphan_look_ns);
}

static void on_fd3(void *arg, int fd, int events)
{
	struct process *p = arg;

	if (process_take_fds(p)) {
		return;
	}
	mobo_watch_destroy(p->fd3_watch);
	p->fd3_watch = NULL;
	if (p->stopping) {
		mobo_loop_stop(p->loop);
		return;
	}
	p->orphan_since_ns = mobo_monotonic_ns();
	p->orphan_timer =
		mobo_loop_timer(p->loop, p->orphan_since_ns + orphan_look_ns, on_orphan_timer, p);
}

static void on_stop_timer(void *arg)
{
	mobo_loop_stop(((struct process *)arg)->loop);
}

void process_stop(struct process *p)
{
	p->stopping = true;
	if (!p->stop_timer) {
		p->stop_timer = mobo_loop_timer(p->loop, mobo_monotonic_ns() + STOP_DELAY_NS,
						on_stop_timer, p);
	}
}

static void on_sigterm(void *arg, int signum)
{
	process_stop(arg);
}

static int make_loop(struct process *p)
{
	int r = mobo_loop_create(&p->loop);

	if (r < 0) {
		return r;
	}
	p->timer = mobo_loop_timer(p->loop, UINT64_MAX, on_timer, p);
	p->fd3_watch = mobo_loop_fd(p->loop, PROCESS_FD, MOBO_LOOP_READ, on_fd3, p);
	if (!p->timer || !p->fd3_watch ||
	    !mobo_loop_fd(p->loop, p->bell_fd, MOBO_LOOP_READ, on_bell, p) ||
	    !mobo_loop_prepare(p->loop, on_prepare, p) ||
	    !mobo_loop_signal(p->loop, SIGTERM, on_sigterm, p)) {
		return -ENOMEM;
	}
	return 0;
}

/* -- main -- */

static uint64_t log_clock(void *arg)
{
	return mobo_clock_now_ns(((struct process *)arg)->page);
}

/* Nothing but 0, 1, 2 and the socket on 3 is meant for this process. */
static void clean_up_inherited(void)
{
	int null = open("/dev/null", O_RDWR);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		if (null > PROCESS_FD) {
			close(null);
		}
	}
	close_range(PROCESS_FD + 1, ~0u, 0);
	fcntl(PROCESS_FD, F_SETFD, FD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* a terminal's ^C is for the foreground command */
}

static int begin(struct process *p, struct mobo_error *err)
{
	int r = process_receive_init(p, err);

	if (r < 0) {
		return r;
	}
	p->kick_bit = 1u << MOBO_MIN(p->init->slot, MOBO_KICK_SLOTS - 1u);
	p->paused = !mobo_clock_running(p->page);
	mobo_log_set_clock(log_clock, p);
	streams_open(p);
	r = make_loop(p);
	if (r < 0) {
		return mobo_error_set(err, -r, "The event loop cannot be made: %s.", strerror(-r));
	}
	r = process_connect(p, err);
	if (r < 0) {
		return r;
	}
	r = mobo_dev_start(p->dev);
	if (r < 0) {
		return mobo_error_set(err, -r, "The chip cannot start: %s.", strerror(-r));
	}
	if (p->init->restarted) {
		/* Lines and map words stand as the one before left them: no glitch. */
		p->dev->level = atomic_load(&p->channel.ch->irq.level);
		for (unsigned i = 0; i < p->cls->n_regions; i++) {
			p->dev->map[i] = atomic_load(&p->channel.ch->map[i]);
		}
		if (p->cls->restored) {
			p->cls->restored(p->dev);
		}
	} else {
		mobo_dev_reset(p->dev);
	}
	r = open_channel(p);
	if (r < 0) {
		return mobo_error_set(err, -r, "The I/O channel does not fit.");
	}
	return process_join(p, err);
}

static void end(struct process *p, bool started)
{
	bool wait = false;

	if (p->loop && !started) {
		/* The log line that says why shall leave. */
		mobo_loop_run_until(p->loop, &wait, mobo_monotonic_ns() + STOP_DELAY_NS);
	}
	p->serving = false;
	if (started) {
		mobo_channel_close(&p->channel);
	}
	if (p->dev) {
		streams_close(p);
		mobo_dev_free(p->dev, started);
	}
	mobo_log_to(NULL, NULL);
	if (p->bus) {
		mobo_bus_close(p->bus);
	}
	mobo_loop_destroy(p->loop);
	if (p->init) {
		mobo__v1__device_init__free_unpacked(p->init, NULL);
	}
}

int mobo_chip_main(const struct mobo_chip_class *cls, int argc, char **argv)
{
	struct process *p = &the_process;
	struct mobo_error err = {0};
	char name[48];
	int r;

	if (fcntl(PROCESS_FD, F_GETFD) < 0 || (argc > 1 && argv[1][0] == '-')) {
		fprintf(stderr,
			"mobo-dev-%s: %s. A part of a virtual machine, started by mobo-machine\n"
			"with a socket on descriptor 3; see docs/DEVICE.md.\n",
			cls->name, cls->description ? cls->description : "a chip");
		return 2;
	}
	snprintf(name, sizeof(name), "%s", argc > 1 ? argv[1] : cls->name);
	mobo_log_init(name);
	clean_up_inherited();
	p->cls = cls;
	r = begin(p, &err);
	if (r < 0) {
		mobo_error("%s", err.text);
	} else {
		mobo_loop_run(p->loop);
	}
	end(p, r == 0);
	return r < 0 ? 1 : 0;
}
