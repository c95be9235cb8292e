/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of code and of what is known of it. A memfd is mapped writable and, elsewhere,
 * executable; no page is ever both. Both are only added to: when one is used up everything goes,
 * and what is still needed is translated again, which the interpreter bridges.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "execute/cpuid.h"
#include "exits/board.h"
#include "translate/generate.h"

#define CODE_SIZE  ((size_t)64 << 20)
#define ARENA_SIZE ((size_t)128 << 20)

static bool host_has_avx(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & bit_AVX && c & bit_OSXSAVE;
}

/* Maps code memory twice: where it is written, and how far from there it can run. */
static bool map_code(uint8_t **code, int64_t *to_exec)
{
	int fd = memfd_create("mobo-code", MFD_CLOEXEC);
	uint8_t *write = MAP_FAILED, *exec = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, CODE_SIZE) == 0) {
		write = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		exec = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (write != MAP_FAILED && exec != MAP_FAILED) {
		*code = write;
		*to_exec = exec - write;
		return true;
	}
	if (write != MAP_FAILED) {
		munmap(write, CODE_SIZE);
	}
	if (exec != MAP_FAILED) {
		munmap(exec, CODE_SIZE);
	}
	return false;
}

static void unmap_code(uint8_t *code, int64_t to_exec)
{
	munmap(code + to_exec, CODE_SIZE);
	munmap(code, CODE_SIZE);
}

bool memory_has_code(void)
{
	int64_t to_exec;
	uint8_t *code;

	if (!map_code(&code, &to_exec)) {
		return false;
	}
	unmap_code(code, to_exec);
	return true;
}

int memory_init(struct vcpu *v)
{
	struct translator *x = calloc(1, sizeof(*x));

	if (!x) {
		return -ENOMEM;
	}
	x->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (x->arena == MAP_FAILED) {
		free(x);
		return -ENOMEM;
	}
	x->arena_size = ARENA_SIZE;
	if (!map_code(&x->code, &x->to_exec)) {
		munmap(x->arena, ARENA_SIZE);
		free(x);
		return -ENOMEM;
	}
	x->code_size = CODE_SIZE;
	v->translator = x;
	x->one_cpu = board_n_cpus(v->board) == 1;
	x->avx = host_has_avx();
	x->avx512 = cpuid_has(FEAT_AVX512);
	memory_flush(v);
	return 0;
}

void memory_finish(struct vcpu *v)
{
	struct translator *x = v->translator;

	if (x) {
		free(x->chaos);
		free(x->verify);
		munmap(x->code + x->to_exec, CODE_SIZE);
		munmap(x->code, CODE_SIZE);
		munmap(x->arena, ARENA_SIZE);
		free(x->regions);
		free(x->exits);
		free(x->returns);
		free(x);
		v->translator = NULL;
	}
}

void memory_forget_jumps(struct vcpu *v)
{
	for (unsigned c = 0; c < JUMP_CONTEXTS; c++) {
		if (v->translator->keys[c]) {
			memset(v->jumps[c], 0, sizeof(v->jumps[c]));
		}
		v->jumps[c][0].rip = 2; /* 0 and 1 would be of this slot */
	}
}

void memory_flush(struct vcpu *v)
{
	struct translator *x = v->translator;

	x->n_regions = 0;
	x->n_exits = 0;
	x->n_returns = 0;
	x->n_maps = 0;
	x->arena_used = 0;
	x->code_used = 0;
	memset(x->entries, 0, sizeof(x->entries));
	memset(x->found, 0, sizeof(x->found));
	memset(x->sources, 0, sizeof(x->sources));
	memset(x->maps, 0, sizeof(x->maps));
	memset(x->pages, 0, sizeof(x->pages));
	memory_forget_jumps(v);
	memset(x->keys, 0, sizeof(x->keys));
	mmu_forget_ids(v);
	x->flush = false;
	x->n_flushes++;
	event_code_emit(v);
}

void *memory_alloc(struct translator *x, size_t size)
{
	void *p = x->arena + x->arena_used;

	size = (size + 15) & ~(size_t)15;
	if (size > x->arena_size - x->arena_used) {
		x->flush = true;
		return NULL;
	}
	x->arena_used += size;
	memset(p, 0, size);
	return p;
}
