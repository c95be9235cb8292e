/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code memory for thunks. A memfd is mapped writable and, elsewhere, executable; no page is ever
 * both. Thunks are found by their own bytes and never freed: there are about 1.2 * 10^6 different
 * ones that a guest can ask for (registers are normalised, immediates are not), which fit.
 */
#include "execute/thunk.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum {
	CODE_SIZE = 128 << 20,
	CODE_ALIGN = 16,
	HASH_BITS = 21,
	HASH_SIZE = 1 << HASH_BITS,
};

struct thunk_slot {
	uint32_t off; /* 0: empty (the first bytes are the landing place) */
	uint32_t len;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int init_result;
static uint8_t *code_w, *code_x;
static uint32_t code_used;
static struct thunk_slot *slots; /* HASH_SIZE, open addressing */
static uint32_t n_slots_used;
static struct sigaction old_sigfpe, old_sigill;

_Thread_local bool thunk_may_be_refused;

enum { LANDING_ILLEGAL = 8 };

/* mov $1, %eax; ret; and, LANDING_ILLEGAL bytes from there, the same with 2 */
static const uint8_t landing[] = {0xb8, THUNK_FP,      0, 0, 0, 0xc3, 0, 0,
				  0xb8, THUNK_ILLEGAL, 0, 0, 0, 0xc3};

/*
 * An unmasked SSE exception in a thunk, or an instruction that the host has not: go on at the
 * landing place, which returns so to the thunk's caller. Thunks keep nothing on the stack and
 * commit after the instruction.
 */
static void on_signal(int sig, siginfo_t *info, void *uc_)
{
	ucontext_t *uc = uc_;
	uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	struct sigaction *old = sig == SIGFPE ? &old_sigfpe : &old_sigill;

	if (rip - (uint64_t)code_x < CODE_SIZE && (sig == SIGFPE || thunk_may_be_refused)) {
		const uint8_t *to = sig == SIGFPE ? code_x : code_x + LANDING_ILLEGAL;

		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)to;
		return;
	}
	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, info, uc_);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	} else {
		/* Not ours: happens again, without a handler. */
		signal(sig, SIG_DFL);
	}
}

static int init_code(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	int fd = memfd_create("mobo-thunks", MFD_CLOEXEC);
	int err;

	if (fd < 0) {
		return -errno;
	}
	slots = calloc(HASH_SIZE, sizeof(*slots));
	if (!slots) {
		err = -ENOMEM;
		goto close_fd;
	}
	if (ftruncate(fd, CODE_SIZE)) {
		goto fail;
	}
	code_w = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (code_w == MAP_FAILED) {
		goto fail;
	}
	code_x = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (code_x == MAP_FAILED) {
		goto unmap;
	}
	memcpy(code_w, landing, sizeof(landing));
	code_used = CODE_ALIGN;
	if (sigaction(SIGFPE, &sa, &old_sigfpe) || sigaction(SIGILL, &sa, &old_sigill)) {
		goto unmap_x;
	}
	close(fd);
	return 0;

unmap_x:
	err = -errno;
	munmap(code_x, CODE_SIZE);
	errno = -err;
unmap:
	err = -errno;
	munmap(code_w, CODE_SIZE);
	errno = -err;
fail:
	err = -errno;
	free(slots);
	slots = NULL;
close_fd:
	close(fd);
	return err;
}

static void init_once(void)
{
	init_result = init_code();
}

int thunk_init(void)
{
	pthread_once(&once, init_once);
	return init_result;
}

void thunk_byte(struct thunk_buf *t, uint8_t b)
{
	if (t->n < THUNK_MAX) {
		t->b[t->n++] = b;
	}
}

void thunk_bytes(struct thunk_buf *t, const char *bytes, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		thunk_byte(t, (uint8_t)bytes[k]);
	}
}

void thunk_u32(struct thunk_buf *t, uint32_t val)
{
	for (unsigned k = 0; k < 32; k += 8) {
		thunk_byte(t, (uint8_t)(val >> k));
	}
}

static uint32_t hash_bytes(const uint8_t *b, unsigned n)
{
	uint64_t h = 0x9e3779b97f4a7c15;

	for (unsigned k = 0; k < n; k++) {
		h = (h ^ b[k]) * 0x100000001b3;
	}
	return (uint32_t)((h ^ h >> 32) * 0x9e3779b97f4a7c15 >> (64 - HASH_BITS));
}

thunk_fn *thunk_get(const struct thunk_buf *t)
{
	uint32_t h, off = 0;

	if (thunk_init() || t->n >= THUNK_MAX) {
		return NULL;
	}
	pthread_mutex_lock(&lock);
	for (h = hash_bytes(t->b, t->n); slots[h].off; h = (h + 1) % HASH_SIZE) {
		if (slots[h].len == t->n && !memcmp(code_w + slots[h].off, t->b, t->n)) {
			off = slots[h].off;
			break;
		}
	}
	if (!off && code_used + THUNK_MAX <= CODE_SIZE && n_slots_used < HASH_SIZE * 3 / 4) {
		off = code_used;
		memcpy(code_w + off, t->b, t->n);
		slots[h] = (struct thunk_slot){off, t->n};
		n_slots_used++;
		code_used += (t->n + CODE_ALIGN - 1) / CODE_ALIGN * CODE_ALIGN;
	}
	pthread_mutex_unlock(&lock);
	return off ? (thunk_fn *)(void *)(code_x + off) : NULL;
}
