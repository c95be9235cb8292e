// SPDX-License-Identifier: Apache-2.0
/*
 * Guest program: threads on several CPUs that do what translators get wrong, each with a result
 * that is known. `stress SECONDS [NAME]` runs each of them, or one, so long; the last line is "all
 * well".
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MAX_THREADS = 4 };

static atomic_bool over;
static atomic_ulong n_wrong;

static void wrong(const char *what, unsigned long got, unsigned long want)
{
	if (atomic_fetch_add(&n_wrong, 1) < 20) {
		printf("WRONG %s: %#lx instead of %#lx\n", what, got, want);
	}
}

static void *pages(size_t n, int prot)
{
	void *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

/* -- counters: every kind of atomic addition, also over the ends of lines and pages -- */

struct wide {
	_Alignas(16) uint64_t low;
	uint64_t high;
};

static struct {
	_Alignas(64) uint64_t lock_add, xadd, cmpxchg, inc, locked, bits;
	struct wide wide;
	atomic_uint spin;
	uint8_t *split_line, *split_page;
	atomic_ulong rounds;
} counters;

static void spin_lock(atomic_uint *lock)
{
	while (atomic_exchange(lock, 1)) {
		while (atomic_load(lock)) {
			__builtin_ia32_pause();
		}
	}
}

static void add_wide(struct wide *w)
{
	uint64_t low = w->low, high = w->high;
	bool done = false;

	while (!done) {
		uint64_t b = low + 1, c = high + 3;

		__asm__ volatile("lock; cmpxchg16b %1; sete %0"
				 : "=q"(done), "+m"(*w), "+a"(low), "+d"(high)
				 : "b"(b), "c"(c)
				 : "cc", "memory");
	}
}

static void add_cmpxchg(uint64_t *at)
{
	uint64_t old = __atomic_load_n(at, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(at, &old, old + 5, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST)) {
	}
}

static void *count(void *arg)
{
	uint64_t one = (uint64_t)(uintptr_t)arg;
	unsigned long rounds = 0;

	for (; !atomic_load(&over); rounds++) {
		uint64_t x = 7;

		__asm__ volatile("lock; addq $3, %0" : "+m"(counters.lock_add)::"cc", "memory");
		__asm__ volatile("lock; xaddq %1, %0"
				 : "+m"(counters.xadd), "+r"(x)::"cc", "memory");
		__asm__ volatile("lock; incq %0" : "+m"(counters.inc)::"cc", "memory");
		__asm__ volatile("lock; btcq %1, %0"
				 : "+m"(counters.bits)
				 : "r"(one)
				 : "cc", "memory");
		__asm__ volatile("lock; addq $1, (%0)" ::"r"(counters.split_line) : "cc", "memory");
		if (rounds % 64 == 0) {
			__asm__ volatile("lock; addl $1, (%0)" ::"r"(counters.split_page)
					 : "cc", "memory");
		}
		add_cmpxchg(&counters.cmpxchg);
		add_wide(&counters.wide);
		spin_lock(&counters.spin);
		*(volatile uint64_t *)&counters.locked += 1;
		atomic_store(&counters.spin, 0);
	}
	atomic_fetch_add(&counters.rounds, rounds);
	__asm__ volatile("lock; addl %1, (%0)" ::"r"(counters.split_page),
			 "r"((uint32_t)(rounds - (rounds + 63) / 64))
			 : "cc", "memory");
	if (rounds & 1) {
		__asm__ volatile("lock; btcq %1, %0"
				 : "+m"(counters.bits)
				 : "r"(one)
				 : "cc", "memory");
	}
	return NULL;
}

static void check(const char *what, unsigned long got, unsigned long want)
{
	if (got != want) {
		wrong(what, got, want);
	}
}

static void start_counters(void)
{
	uint8_t *two = pages(2, PROT_READ | PROT_WRITE);

	counters.split_line = two + 61;
	counters.split_page = two + PAGE - 2;
}

static void end_counters(void)
{
	unsigned long n = atomic_load(&counters.rounds);
	uint64_t line;
	uint32_t page;

	memcpy(&line, counters.split_line, sizeof(line));
	memcpy(&page, counters.split_page, sizeof(page));
	check("lock add", counters.lock_add, 3 * n);
	check("xadd", counters.xadd, 7 * n);
	check("lock inc", counters.inc, n);
	check("cmpxchg", counters.cmpxchg, 5 * n);
	check("cmpxchg16b, low", counters.wide.low, n);
	check("cmpxchg16b, high", counters.wide.high, 3 * n);
	check("under a spin lock", counters.locked, n);
	check("btc", counters.bits, 0);
	check("over the end of a line", line, n);
	check("over the end of a page", page, (uint32_t)n);
	printf("counters: %lu rounds\n", n);
}

/* -- shootdown: after mprotect() or munmap() returned, no other CPU gets at the page -- */

static struct {
	volatile uint64_t *_Atomic page;
	atomic_ulong writes, faults, rounds;
} shot;

static __thread sigjmp_buf after_fault;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(after_fault, 1);
}

static void *write_shot(void *arg)
{
	volatile uint64_t n = 0;

	(void)arg;
	while (!atomic_load(&over)) {
		volatile uint64_t *p = atomic_load(&shot.page);

		if (sigsetjmp(after_fault, 1) == 0) {
			n = n + 1;
			p[1 + n % 500] = n;
			p[0] = n;
			atomic_fetch_add(&shot.writes, 1);
		} else {
			atomic_fetch_add(&shot.faults, 1);
		}
	}
	return NULL;
}

static void shoot_protection(void)
{
	volatile uint64_t *p = atomic_load(&shot.page);
	uint64_t before;

	mprotect((void *)p, PAGE, PROT_READ);
	before = p[0];
	for (unsigned i = 0; i < 2000; i++) {
		if (p[0] != before) {
			wrong("a page that became read-only", p[0], before);
			break;
		}
	}
	mprotect((void *)p, PAGE, PROT_READ | PROT_WRITE);
}

/* The page that was at the address is seen through a second mapping of it. */
static void shoot_mapping(int memory, volatile uint64_t *second)
{
	void *p = (void *)atomic_load(&shot.page);
	uint64_t before;

	munmap(p, PAGE);
	before = second[0];
	for (unsigned i = 0; i < 2000; i++) {
		if (second[0] != before) {
			wrong("a page that was unmapped", second[0], before);
			break;
		}
	}
	if (mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0) != p) {
		perror("mmap");
		exit(2);
	}
}

static void *shoot(void *arg)
{
	int memory = memfd_create("shot", 0);
	volatile uint64_t *second;
	void *p = (void *)atomic_load(&shot.page);

	(void)arg;
	if (memory < 0 || ftruncate(memory, PAGE) < 0) {
		perror("memfd");
		exit(2);
	}
	second = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0);
	for (unsigned long n = 0; !atomic_load(&over); n++) {
		unsigned long was = atomic_load(&shot.writes);

		if (n & 1) {
			shoot_protection();
		} else {
			shoot_mapping(memory, second);
		}
		while (atomic_load(&shot.writes) == was && !atomic_load(&over)) {
			__builtin_ia32_pause();
		}
		atomic_fetch_add(&shot.rounds, 1);
	}
	return NULL;
}

static void start_shootdown(void)
{
	atomic_store(&shot.page, pages(1, PROT_READ | PROT_WRITE));
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
}

static void end_shootdown(void)
{
	if (atomic_load(&shot.faults) == 0) {
		wrong("faults", 0, 1);
	}
	printf("shootdown: %lu rounds, %lu faults\n", atomic_load(&shot.rounds),
	       atomic_load(&shot.faults));
}

/* -- signals: a computation is not disturbed by handlers that use every register -- */

static struct {
	atomic_ulong handled, sums;
	pthread_t target;
	_Atomic bool has_target;
	uint64_t want;
} signals;

static uint64_t mix(unsigned rounds)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, bits;
	double f = 1, g = 0.5;
	long double x = 1;

	for (unsigned i = 0; i < rounds; i++) {
		a = (a ^ b) * 0x9e3779b97f4a7c15;
		b += a >> 29 | c << 3;
		__asm__("addq %2, %0\n\tadcq %3, %1" : "+r"(c), "+r"(d) : "r"(a), "r"(b) : "cc");
		f = f * 1.0000001 + g;
		g = g * 0.999999 + 1e-9 * (double)(i & 15);
		x = x * 1.0000001L + (long double)f;
	}
	f += g + (double)x;
	memcpy(&bits, &f, sizeof(bits));
	return a ^ b ^ c ^ d ^ bits;
}

static void on_signal(int sig)
{
	(void)sig;
	__asm__ volatile(
		"fninit\n\tfldpi\n\tfldl2e\n\tfaddp\n\tstd\n\tcld\n\t"
		"pcmpeqd %%xmm0, %%xmm0\n\tmovdqa %%xmm0, %%xmm3\n\t"
		"pxor %%xmm7, %%xmm7\n\tpcmpeqd %%xmm15, %%xmm15\n\t"
		"movq $-1, %%r8\n\tmovq %%r8, %%r9\n\tmovq %%r8, %%r15\n\tcmpq %%r8, %%r9" ::
			: "r8", "r9", "r15", "cc", "xmm0", "xmm3", "xmm7", "xmm15", "st", "st(1)",
			  "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
	atomic_fetch_add(&signals.handled, 1);
}

static void *compute(void *arg)
{
	(void)arg;
	signals.target = pthread_self();
	atomic_store(&signals.has_target, true);
	while (!atomic_load(&over)) {
		uint64_t got = mix(20000);

		if (got != signals.want) {
			wrong("sum under signals", got, signals.want);
		}
		atomic_fetch_add(&signals.sums, 1);
	}
	return NULL;
}

static void *send_signals(void *arg)
{
	(void)arg;
	while (!atomic_load(&signals.has_target)) {
		sched_yield();
	}
	while (!atomic_load(&over)) {
		unsigned long was = atomic_load(&signals.handled);

		pthread_kill(signals.target, SIGUSR1);
		while (atomic_load(&signals.handled) == was && !atomic_load(&over)) {
			__builtin_ia32_pause();
		}
	}
	return NULL;
}

static void start_signals(void)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	signals.want = mix(20000);
	sigaction(SIGUSR1, &act, NULL);
}

static void end_signals(void)
{
	if (atomic_load(&signals.handled) < 100) {
		wrong("signals", atomic_load(&signals.handled), 100);
	}
	printf("signals: %lu, %lu sums\n", atomic_load(&signals.handled),
	       atomic_load(&signals.sums));
}

/* -- code: one CPU writes what another runs -- */

static struct {
	uint8_t *rw, *rx;
	_Atomic uint32_t written, called; /* number of the newest function, of the newest call */
	atomic_ulong calls;
} code;

/* mov $n, %eax; ret. The number is aligned: a change of it is seen as a whole. */
static void write_function(uint8_t *at, uint32_t n)
{
	at[3] = 0xb8;
	__atomic_store_n((uint32_t *)(at + 4), n, __ATOMIC_RELEASE);
	at[8] = 0xc3;
}

static void serialise(void)
{
	unsigned a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
}

static uint32_t call(const uint8_t *at)
{
	return ((uint32_t(*)(void))(uintptr_t)(at + 3))();
}

/* Cross-modifying code as SDM volume 3, 8.1.3 wants it: write; tell; the other serialises. */
static void *write_code(void *arg)
{
	(void)arg;
	for (uint32_t n = 1; !atomic_load(&over); n++) {
		write_function(code.rw + (n % 16) * 64, n);
		atomic_store(&code.written, n);
		while (atomic_load(&code.called) != n && !atomic_load(&over)) {
			/* Not told of: the old number or the new one, and never the old one again.
			 */
			__atomic_store_n((uint32_t *)(code.rw + PAGE + 4), n, __ATOMIC_RELEASE);
			__builtin_ia32_pause();
		}
	}
	return NULL;
}

static void *call_code(void *arg)
{
	uint32_t last = 0, patched = 0;

	(void)arg;
	while (!atomic_load(&over)) {
		uint32_t n = atomic_load(&code.written), got;

		got = call(code.rx + PAGE);
		if (got < patched || got > atomic_load(&code.written)) {
			wrong("patched code", got, patched);
		}
		patched = got;
		if (n == last) {
			__builtin_ia32_pause();
			continue;
		}
		serialise();
		got = call(code.rx + (n % 16) * 64);
		if (got != n) {
			wrong("code from another CPU", got, n);
		}
		last = n;
		atomic_store(&code.called, n);
		atomic_fetch_add(&code.calls, 1);
	}
	return NULL;
}

static void start_code(void)
{
	int memory = memfd_create("code", 0);

	if (memory < 0 || ftruncate(memory, 2 * PAGE) < 0) {
		perror("memfd");
		exit(2);
	}
	code.rw = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	code.rx = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0);
	write_function(code.rw + PAGE, 0);
}

static void end_code(void)
{
	printf("code: %lu functions\n", atomic_load(&code.calls));
}

/* -- processes: copies on write are copies -- */

static atomic_ulong n_forks;

static int child(volatile uint32_t *memory, size_t n, uint32_t mark)
{
	for (size_t i = 0; i < n; i += PAGE / 4) {
		if (memory[i] != i) {
			return 1;
		}
		memory[i] = mark;
	}
	for (size_t i = 0; i < n; i += PAGE / 4) {
		if (memory[i] != mark) {
			return 2;
		}
	}
	return 0;
}

static void *fork_off(void *arg)
{
	enum { N = 32 * PAGE / 4 };
	volatile uint32_t *memory = pages(32, PROT_READ | PROT_WRITE);

	for (size_t i = 0; i < N; i += PAGE / 4) {
		memory[i] = (uint32_t)i;
	}
	while (!atomic_load(&over)) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0) {
			_exit(child(memory, N, (uint32_t)(uintptr_t)arg + 0xc0de0000));
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
			wrong("status of a child", (unsigned long)status, 0);
		}
		for (size_t i = 0; i < N; i += PAGE / 4) {
			check("page of a parent", memory[i], i);
		}
		atomic_fetch_add(&n_forks, 1);
	}
	return NULL;
}

static void end_processes(void)
{
	printf("processes: %lu\n", atomic_load(&n_forks));
}

/* -- turns: threads that wait for each other, by spinning and by sleeping -- */

static struct {
	_Atomic uint32_t turn;
	atomic_ulong taken[2];
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	uint32_t slept;
} turns = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static void sleep_for_turn(uint32_t me)
{
	pthread_mutex_lock(&turns.mutex);
	while (turns.slept % 2 != me && !atomic_load(&over)) {
		pthread_cond_wait(&turns.cond, &turns.mutex);
	}
	turns.slept++;
	pthread_cond_broadcast(&turns.cond);
	pthread_mutex_unlock(&turns.mutex);
}

static void *take_turns(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	while (!atomic_load(&over)) {
		while (atomic_load(&turns.turn) % 2 != me && !atomic_load(&over)) {
			__builtin_ia32_pause();
		}
		atomic_fetch_add(&turns.taken[me], 1);
		atomic_fetch_add(&turns.turn, 1);
		if (atomic_load(&turns.taken[me]) % 64 == 0) {
			sleep_for_turn(me);
		}
	}
	return NULL;
}

static void end_turns(void)
{
	printf("turns: %u, %u slept for\n", atomic_load(&turns.turn), turns.slept);
}

struct part {
	const char *name;
	void (*start)(void);
	unsigned n_threads;
	void *(*thread[MAX_THREADS])(void *arg);
	void (*end)(void);
};

static const struct part parts[] = {
	{"counters", start_counters, 4, {count, count, count, count}, end_counters},
	{"shootdown", start_shootdown, 3, {shoot, write_shot, write_shot}, end_shootdown},
	{"signals", start_signals, 2, {compute, send_signals}, end_signals},
	{"code", start_code, 2, {write_code, call_code}, end_code},
	{"processes", NULL, 3, {fork_off, fork_off, fork_off}, end_processes},
	{"turns", NULL, 2, {take_turns, take_turns}, end_turns},
};

static void run(const struct part *p, unsigned ms)
{
	pthread_t thread[MAX_THREADS];
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};

	atomic_store(&over, false);
	if (p->start) {
		p->start();
	}
	for (uintptr_t i = 0; i < p->n_threads; i++) {
		pthread_create(&thread[i], NULL, p->thread[i], (void *)i);
	}
	nanosleep(&t, NULL);
	pthread_mutex_lock(&turns.mutex);
	atomic_store(&over, true);
	pthread_cond_broadcast(&turns.cond);
	pthread_mutex_unlock(&turns.mutex);
	for (unsigned i = 0; i < p->n_threads; i++) {
		pthread_join(thread[i], NULL);
	}
	p->end();
	fflush(stdout);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;

	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (argc < 3 || strcmp(argv[2], parts[i].name) == 0) {
			run(&parts[i], (unsigned)(seconds * 1000));
		}
	}
	printf("%s\n", atomic_load(&n_wrong) ? "NOT WELL" : "all well");
	return atomic_load(&n_wrong) != 0;
}
