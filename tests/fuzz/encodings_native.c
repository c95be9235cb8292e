/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the encodings fuzzer: a child process that may do nothing but run cases.
 * Registers are loaded from fz_ctx at a fixed low address, the code is entered by a jump, and comes
 * back through a pad or a signal.
 */
#include <cpuid.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "encodings.h"
#include "execute/cpuid.h"

struct fz_native {
	struct fz_batch *batch;
	uint32_t mode;
	pid_t pid;
	unsigned n_deaths;
};

#define CTX ((struct fz_ctx *)(uintptr_t)FZ_CTX)
#define ZMM ((struct fz_zmm *)(uintptr_t)FZ_ZMM)

_Static_assert(offsetof(struct fz_ctx, rflags) == 128, "assembly below");
_Static_assert(offsetof(struct fz_ctx, host_rsp) == 168, "assembly below");
_Static_assert(offsetof(struct fz_ctx, landing) == 184, "assembly below");
_Static_assert(offsetof(struct fz_ctx, out_gpr) == 200, "assembly below");
_Static_assert(offsetof(struct fz_ctx, out_rflags) == 328, "assembly below");
_Static_assert(offsetof(struct fz_ctx, out_seg) == 352, "assembly below");
_Static_assert(offsetof(struct fz_ctx, far) == 384, "assembly below");
_Static_assert(offsetof(struct fz_ctx, avx) == 396, "assembly below");
_Static_assert(offsetof(struct fz_ctx, upper) == 400, "assembly below");
_Static_assert(offsetof(struct fz_ctx, fx) == 512, "assembly below");
_Static_assert(offsetof(struct fz_ctx, ymmh) == 1536, "assembly below");
_Static_assert(offsetof(struct fz_ctx, out_ymmh) == 1792, "assembly below");
_Static_assert(offsetof(struct fz_ctx, avx512) == 404, "assembly below");
_Static_assert(offsetof(struct fz_zmm, opmask) == 1536, "assembly below");
_Static_assert(sizeof(struct fz_zmm) == 1600, "assembly below");
_Static_assert(FZ_CTX == 0x35a70000 && FZ_ZMM == 0x35a80000, "assembly below");

void fz_enter(void);
void fz_landing(void);
void fz_signal(int sig, siginfo_t *info, void *uc);
void fz_signal_c(ucontext_t *uc);

/*
 * fz_enter() is a function that returns through fz_landing or fz_resume. The direction of a
 * register dump is the order of encoding: rax rcx rdx rbx rsp rbp rsi rdi r8..r15.
 */
__asm__(".set CTX, 0x35a70000\n"
	".set ZMM, 0x35a80000\n"
	".macro upper_halves flag, insn\n"
	"	cmpl $0, \\flag\n"
	"	je 1f\n"
	"	.set n, 0\n"
	"	.irp reg, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	\\insn \\reg\n"
	"	.set n, n + 1\n"
	"	.endr\n"
	"1:\n"
	".endm\n"
	".macro each_high flag, insn\n"
	"	cmpl $0, \\flag\n"
	"	je 1f\n"
	"	.set n, 0\n"
	"	.irp reg, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"	\\insn \\reg\n"
	"	.set n, n + 1\n"
	"	.endr\n"
	"1:\n"
	".endm\n"
	".macro load_zmmh reg\n"
	"	vinsertf64x4 $1, ZMM+32*n, %zmm\\reg, %zmm\\reg\n"
	".endm\n"
	".macro store_zmmh reg\n"
	"	vextractf64x4 $1, %zmm\\reg, ZMM+1600+32*n\n"
	".endm\n"
	".macro load_zmm reg\n"
	"	vmovups ZMM+512+64*n, %zmm\\reg\n"
	".endm\n"
	".macro store_zmm reg\n"
	"	vmovups %zmm\\reg, ZMM+1600+512+64*n\n"
	".endm\n"
	".macro opmasks load\n"
	"	cmpl $0, CTX+404\n"
	"	je 1f\n"
	"	.set n, 0\n"
	"	.irp reg, 0,1,2,3,4,5,6,7\n"
	"	.if \\load\n"
	"	kmovq ZMM+1536+8*n, %k\\reg\n"
	"	.else\n"
	"	kmovq %k\\reg, ZMM+1600+1536+8*n\n"
	"	.endif\n"
	"	.set n, n + 1\n"
	"	.endr\n"
	"1:\n"
	".endm\n"
	".macro load_upper reg\n"
	"	vinsertf128 $1, CTX+1536+16*n, %ymm\\reg, %ymm\\reg\n"
	".endm\n"
	".macro store_upper reg\n"
	"	vextractf128 $1, %ymm\\reg, CTX+1792+16*n\n"
	".endm\n"
	".text\n"
	".globl fz_enter, fz_landing, fz_signal\n"
	"fz_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, CTX+168\n"
	"	fxrstor64 CTX+512\n"
	"	cmpl $0, CTX+396\n"
	"	je 1f\n"
	"	vzeroupper\n" /* also says that they are not in use */
	"1:\n"
	"	upper_halves CTX+400, load_upper\n"
	"	upper_halves CTX+404, load_zmmh\n"
	"	each_high CTX+404, load_zmm\n"
	"	opmasks 1\n"
	"	mov CTX+368, %es\n"
	"	mov CTX+374, %ds\n"
	"	mov CTX+376, %fs\n"
	"	mov CTX+378, %gs\n"
	"	mov CTX+136, %rax; wrfsbase %rax\n"
	"	mov CTX+144, %rax; wrgsbase %rax\n"
	"	pushq CTX+128; popfq\n"
	"	mov CTX+0, %rax; mov CTX+8, %rcx; mov CTX+16, %rdx; mov CTX+24, %rbx\n"
	"	mov CTX+32, %rsp; mov CTX+40, %rbp; mov CTX+48, %rsi; mov CTX+56, %rdi\n"
	"	mov CTX+64, %r8; mov CTX+72, %r9; mov CTX+80, %r10; mov CTX+88, %r11\n"
	"	mov CTX+96, %r12; mov CTX+104, %r13; mov CTX+112, %r14; mov CTX+120, %r15\n"
	"	jmp *CTX+152\n"
	"fz_landing:\n"
	"	mov %rax, CTX+200; mov %rcx, CTX+208; mov %rdx, CTX+216; mov %rbx, CTX+224\n"
	"	mov %rsp, CTX+232; mov %rbp, CTX+240; mov %rsi, CTX+248; mov %rdi, CTX+256\n"
	"	mov %r8, CTX+264; mov %r9, CTX+272; mov %r10, CTX+280; mov %r11, CTX+288\n"
	"	mov %r12, CTX+296; mov %r13, CTX+304; mov %r14, CTX+312; mov %r15, CTX+320\n"
	"	mov CTX+168, %rsp\n"
	"	pushfq; popq CTX+328\n"
	"	pushq $0x202; popfq\n"
	"	fxsave64 CTX+1024\n"
	"	upper_halves CTX+396, store_upper\n"
	"	upper_halves CTX+404, store_zmmh\n"
	"	each_high CTX+404, store_zmm\n"
	"	opmasks 0\n"
	"fz_resume:\n"
	"	rdfsbase %rax; mov %rax, CTX+336\n"
	"	rdgsbase %rax; mov %rax, CTX+344\n"
	"	mov %es, CTX+352; mov %ss, CTX+356; mov %ds, CTX+358\n"
	"	mov %fs, CTX+360; mov %gs, CTX+362\n"
	"	mov CTX+176, %rax; wrfsbase %rax\n"
	"	fninit\n"
	"	movl $0x1f80, CTX+392; ldmxcsr CTX+392\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	"fz_signal:\n"
	"	rdfsbase %r12\n" /* the code's own: the handler runs with the process's */
	"	mov CTX+176, %rax; wrfsbase %rax\n"
	"	mov %rdx, %rdi\n"
	"	cld\n"
	"	call fz_signal_c\n"
	"	wrfsbase %r12\n"
	"	mov CTX+168, %rsp\n"
	"	pushq $0x202; popfq\n"
	"	jmp fz_resume\n");

static struct fz_result *current;

/* AVX state of a signal frame: absent when it is the initial one. SDM volume 1 13.4. */
static void copy_upper_halves(uint8_t *ymmh, const uint8_t *xsave)
{
	uint64_t xstate_bv;

	memset(ymmh, 0, FZ_YMMH_LEN);
	if (!CTX->avx) {
		return;
	}
	memcpy(&xstate_bv, xsave + 512, sizeof(xstate_bv));
	if (xstate_bv & 4) {
		memcpy(ymmh, xsave + 576, FZ_YMMH_LEN);
	}
}

/* Where the host's processor and kernel have AVX-512 state: asked before the sandbox closes. */
static uint32_t zmm_offset[3]; /* components 5 to 7 */

static void find_zmm(void)
{
	unsigned a, c, d;

	for (unsigned k = 0; k < 3; k++) {
		__cpuid_count(0xd, 5 + k, a, zmm_offset[k], c, d);
	}
}

static void copy_zmm(struct fz_zmm *z, const uint8_t *xsave)
{
	void *const to[3] = {z->opmask, z->zmmh, z->zmm16};
	const size_t len[3] = {sizeof(z->opmask), sizeof(z->zmmh), sizeof(z->zmm16)};
	uint64_t xstate_bv;

	memset(z, 0, sizeof(*z));
	if (!CTX->avx512) {
		return;
	}
	memcpy(&xstate_bv, xsave + 512, sizeof(xstate_bv));
	for (unsigned k = 0; k < 3; k++) {
		if (xstate_bv >> (5 + k) & 1) {
			memcpy(to[k], xsave + zmm_offset[k], len[k]);
		}
	}
}

/* Notes a fault; the interrupted code is left for good. */
void fz_signal_c(ucontext_t *uc)
{
	static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				      REG_RSI, REG_RDI, REG_R8,	 REG_R9,  REG_R10, REG_R11,
				      REG_R12, REG_R13, REG_R14, REG_R15};
	const greg_t *g = uc->uc_mcontext.gregs;
	struct fz_result *r = current;

	if (!r) {
		_exit(1); /* not a case's, our own */
	}
	r->fault = true;
	r->trap = (uint32_t)g[REG_TRAPNO];
	r->error = (uint32_t)g[REG_ERR];
	r->cr2 = (uint64_t)g[REG_CR2];
	for (unsigned k = 0; k < 16; k++) {
		r->regs.gpr[k] = (uint64_t)g[order[k]];
	}
	r->regs.rip = (uint64_t)g[REG_RIP];
	r->regs.rflags = (uint64_t)g[REG_EFL];
	r->regs.seg[SEG_CS] = (uint16_t)g[REG_CSGSFS];
	r->regs.seg[SEG_SS] = (uint16_t)(g[REG_CSGSFS] >> 48);
	memcpy(r->regs.fx, uc->uc_mcontext.fpregs, FZ_FX_LEN);
	copy_upper_halves(r->regs.ymmh, (const uint8_t *)uc->uc_mcontext.fpregs);
	copy_zmm(&r->regs.zmm, (const uint8_t *)uc->uc_mcontext.fpregs);
}

static bool any_set(const uint8_t *p, unsigned len)
{
	return p[0] || memcmp(p, p + 1, len - 1);
}

static void load_case(const struct fz_case *c, unsigned slot, bool far)
{
	memcpy(CTX->gpr, c->in.gpr, sizeof(CTX->gpr));
	CTX->rflags = c->in.rflags;
	CTX->fs_base = c->in.fs_base;
	CTX->gs_base = c->in.gs_base;
	CTX->far_offset = FZ_CODE + slot * FZ_SLOT + FZ_INSN;
	CTX->far_selector = FZ_CS32;
	CTX->target = far ? FZ_LOW + 64 : CTX->far_offset;
	memcpy(CTX->in_seg, c->in.seg, sizeof(c->in.seg));
	memcpy(CTX->fx, c->in.fx, FZ_FX_LEN);
	memcpy(CTX->ymmh, c->in.ymmh, FZ_YMMH_LEN);
	CTX->upper = any_set(c->in.ymmh, FZ_YMMH_LEN);
	ZMM[0] = c->in.zmm;
	memcpy((uint8_t *)(uintptr_t)FZ_DATA + c->patch_off, c->patch, c->patch_len);
}

static void run_case(const struct fz_case *c, unsigned slot, bool far, struct fz_result *r,
		     const uint8_t *pristine)
{
	load_case(c, slot, far);
	r->fault = false;
	r->trap = r->error = 0;
	r->cr2 = 0;
	current = r;
	fz_enter();
	current = NULL;
	if (r->fault) {
		CTX->out_seg[SEG_SS] = r->regs.seg[SEG_SS];
	}
	memcpy(r->regs.seg, CTX->out_seg, sizeof(r->regs.seg));
	r->regs.fs_base = CTX->out_fs_base;
	r->regs.gs_base = CTX->out_gs_base;
	if (!r->fault) {
		memcpy(r->regs.gpr, CTX->out_gpr, sizeof(r->regs.gpr));
		r->regs.rip = CTX->pad_rip;
		r->regs.rflags = CTX->out_rflags;
		memcpy(r->regs.fx, CTX->out_fx, FZ_FX_LEN);
		memcpy(r->regs.ymmh, CTX->out_ymmh, FZ_YMMH_LEN);
		r->regs.zmm = ZMM[1];
	}
	r->regs.seg[SEG_CS] = 0;
	r->ran = true;
	fz_collect_memory(r, c, (uint8_t *)(uintptr_t)FZ_DATA, pristine);
}

static bool map_at(uint64_t where, size_t len, int prot)
{
	return mmap((void *)(uintptr_t)where, len, prot,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		    0) == (void *)(uintptr_t)where;
}

/* 32-bit code comes and goes through far jumps below 4 GB. */
static bool map_bridges(uint32_t mode)
{
	static const uint8_t to_32[] = {0xff, 0x2c, 0x25};	/* ljmp *abs */
	static const uint8_t to_landing[] = {0xff, 0x24, 0x25}; /* jmp *abs, 64-bit */
	uint8_t *p = (uint8_t *)(uintptr_t)FZ_LOW;
	uint32_t val;
	uint64_t landing = (uint64_t)(uintptr_t)fz_landing;

	if (!map_at(FZ_LOW, 4096, PROT_READ | PROT_WRITE)) {
		return false;
	}
	/* 0: ljmp $CS64, $FZ_LOW + 16; 16: jmp *(FZ_LOW + 128); 64: ljmp *far pointer */
	p[0] = 0xea;
	val = FZ_LOW + 16;
	memcpy(p + 1, &val, 4);
	p[5] = FZ_CS64;
	memcpy(p + 16, to_landing, 3);
	val = FZ_LOW + 128;
	memcpy(p + 19, &val, 4);
	memcpy(p + 64, to_32, 3);
	val = FZ_CTX + offsetof(struct fz_ctx, far_offset);
	memcpy(p + 67, &val, 4);
	memcpy(p + 128, &landing, 8);
	CTX->landing = mode == 64 ? landing : FZ_LOW;
	return !mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

/* Nothing but waiting for batches, and leaving. */
static int sandbox(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

static int futex(_Atomic uint32_t *word, int op, uint32_t val, const struct timespec *timeout)
{
	return (int)syscall(SYS_futex, word, op, val, timeout, NULL, 0);
}

static void wait_while(_Atomic uint32_t *word, uint32_t val)
{
	for (unsigned spin = 0; spin < 200; spin++) {
		if (*word != val) {
			return;
		}
		__builtin_ia32_pause();
	}
	while (*word == val) {
		futex(word, FUTEX_WAIT, val, NULL);
	}
}

static void catch_faults(void)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	static uint8_t stack[65536] __attribute__((aligned(64)));
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_sigaction = fz_signal,
			       .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

	sigaltstack(&ss, NULL);
	for (unsigned k = 0; k < sizeof(sigs) / sizeof(sigs[0]); k++) {
		sigaction(sigs[k], &sa, NULL);
	}
}

/* New code every batch; the mapping is never writable and executable at once. */
static void copy_code(const struct fz_batch *b, uint8_t *code)
{
	for (unsigned k = 0; k < FZ_BATCH; k++) {
		memcpy(code + k * FZ_SLOT, b->cases[k].code, FZ_SLOT);
	}
}

_Noreturn static void child_main(struct fz_batch *b, uint32_t mode, uint32_t seen)
{
	static uint8_t pristine[FZ_DATA_LEN];
	int fd = memfd_create("fuzz-code", MFD_CLOEXEC);
	uint8_t *code_w;
	uint64_t fs;

	if (fd < 0 || ftruncate(fd, FZ_CODE_LEN) ||
	    mmap((void *)(uintptr_t)FZ_CODE, FZ_CODE_LEN, PROT_READ | PROT_EXEC,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == MAP_FAILED) {
		_exit(2);
	}
	code_w = mmap(NULL, FZ_CODE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fz_pristine(pristine);
	if (code_w == MAP_FAILED || !map_at(FZ_DATA, FZ_DATA_LEN, PROT_READ | PROT_WRITE) ||
	    !map_at(FZ_CTX, 4096, PROT_READ | PROT_WRITE) ||
	    !map_at(FZ_ZMM, 4096, PROT_READ | PROT_WRITE) || !map_bridges(mode)) {
		_exit(2);
	}
	memcpy((void *)(uintptr_t)FZ_DATA, pristine, FZ_DATA_LEN);
	mprotect((void *)(uintptr_t)(FZ_DATA + FZ_RW_LEN), FZ_DATA_LEN - FZ_RW_LEN, PROT_READ);
	catch_faults();
	__asm__ volatile("rdfsbase %0" : "=r"(fs));
	CTX->host_fs = fs;
	CTX->avx = cpuid_has(FEAT_AVX);
	CTX->avx512 = cpuid_has(FEAT_AVX512);
	find_zmm();
	if (sandbox()) {
		_exit(3);
	}
	for (;;) {
		wait_while(&b->go, seen);
		seen = b->go;
		copy_code(b, code_w);
		for (unsigned k = b->current; k < FZ_BATCH; k++) {
			b->current = k;
			if (!b->cases[k].code_len) {
				continue;
			}
			run_case(&b->cases[k], k, mode == 32, &b->results[k], pristine);
		}
		b->done = seen;
		futex(&b->done, FUTEX_WAKE, 1, NULL);
	}
}

static int spawn(struct fz_native *n, uint32_t seen)
{
	pid_t parent = getpid();

	n->pid = fork();
	if (n->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent) {
			_exit(1);
		}
		child_main(n->batch, n->mode, seen);
	}
	return n->pid < 0 ? -1 : 0;
}

struct fz_native *fz_native_start(uint32_t mode)
{
	struct fz_native *n = calloc(1, sizeof(*n));

	if (!n) {
		return NULL;
	}
	n->batch = mmap(NULL, sizeof(*n->batch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (n->batch == MAP_FAILED) {
		free(n);
		return NULL;
	}
	n->mode = n->batch->mode = mode;
	if (spawn(n, 0)) {
		munmap(n->batch, sizeof(*n->batch));
		free(n);
		return NULL;
	}
	return n;
}

struct fz_batch *fz_native_batch(struct fz_native *n)
{
	return n->batch;
}

void fz_native_go(struct fz_native *n)
{
	n->batch->current = 0;
	n->batch->go++;
	futex(&n->batch->go, FUTEX_WAKE, 1, NULL);
}

/* CPU time that the child has used, in ns; 0: it cannot be told. */
static uint64_t child_cpu_ns(const struct fz_native *n)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(n->pid, &clock) || clock_gettime(clock, &ts)) {
		return 0;
	}
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The child died or hangs in a case: note it, start another behind that case. */
static void replace_child(struct fz_native *n)
{
	struct fz_batch *b = n->batch;

	kill(n->pid, SIGKILL);
	waitpid(n->pid, NULL, 0);
	if (b->done == b->go) { /* it was only slow */
		if (spawn(n, b->go)) {
			abort();
		}
		return;
	}
	b->results[b->current].ran = false;
	b->current++;
	n->n_deaths++;
	if (spawn(n, b->go - 1)) {
		for (unsigned k = b->current; k < FZ_BATCH; k++) {
			b->results[k].ran = false;
		}
		b->done = b->go;
	}
}

enum { HANGS_NS = 200000000 };

void fz_native_wait(struct fz_native *n)
{
	struct fz_batch *b = n->batch;
	struct timespec patience = {0, 300000000};
	uint64_t cpu = child_cpu_ns(n);
	uint32_t at = b->current, n_waits = 0;

	while (b->done != b->go) {
		uint32_t done = b->done;

		if (done == b->go) {
			break;
		}
		if (futex(&b->done, FUTEX_WAIT, done, &patience) && errno == ETIMEDOUT) {
			int dead = waitpid(n->pid, NULL, WNOHANG) == n->pid;

			/* On a busy host it may just not have run. */
			if (b->current == at && !dead && n_waits++ < 20 &&
			    child_cpu_ns(n) - cpu < HANGS_NS) {
				continue;
			}
			if (dead || b->current == at) {
				replace_child(n);
			}
			at = b->current;
			cpu = child_cpu_ns(n);
			n_waits = 0;
		}
	}
}

void fz_native_stop(struct fz_native *n)
{
	kill(n->pid, SIGKILL);
	waitpid(n->pid, NULL, 0);
	munmap(n->batch, sizeof(*n->batch));
	free(n);
}
