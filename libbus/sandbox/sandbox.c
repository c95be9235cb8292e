/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox of a process that works on what a guest or a stranger says (BUS.md section 12).
 *
 * After it: no open(), no socket(), no connect(), no exec, no ptrace, no new processes, no
 * executable memory; only what the process already holds. What is not on the list fails with EPERM
 * rather than killing, so that a library's harmless attempt (ZeroMQ that would reconnect, a C
 * library that would read a file for its locale) costs a log line at most.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mobo/sandbox.h"

enum { MAX_FDS = 1024 };

static const int allowed[] = {
	/* Files and sockets that are open already. */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(fallocate),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(accept4),
	SCMP_SYS(accept),
	/* Waiting. */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(timerfd_gettime),
	SCMP_SYS(timer_create),
	SCMP_SYS(timer_settime),
	SCMP_SYS(timer_gettime),
	SCMP_SYS(timer_delete),
	SCMP_SYS(futex),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_yield),
	SCMP_SYS(io_uring_enter),
	/* Time and identity. */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getppid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getcpu),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(times),
	/* Memory; mmap and mprotect have rules of their own. */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(msync),
	SCMP_SYS(membarrier),
	SCMP_SYS(mincore),
	/* Signals, threads and the end. */
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

static int allow_simple(scmp_filter_ctx ctx)
{
	int r;

	for (size_t i = 0; i < MOBO_ARRAY_LEN(allowed); i++) {
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* Memory that becomes executable was code of an attacker a moment ago. */
static int allow_memory(scmp_filter_ctx ctx, unsigned flags)
{
	static const int calls[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
	int r;

	for (size_t i = 0; i < MOBO_ARRAY_LEN(calls); i++) {
		if (flags & MOBO_SANDBOX_EXEC_MEMORY) {
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
		} else {
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 1,
					     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
		}
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int allow_threads(scmp_filter_ctx ctx, unsigned flags)
{
	int r;

	if (!(flags & MOBO_SANDBOX_THREADS)) {
		return 0;
	}
	/* clone3's arguments lie in memory, out of a filter's reach: the C library then uses clone.
	 */
	r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r < 0) {
		return r;
	}
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

static int allow_rest(scmp_filter_ctx ctx)
{
	int r;

	/* fstat() of the C library; no other path. */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
			     SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	if (r < 0) {
		return r;
	}
	/* abort() and pthread_kill(), to itself only. */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (r < 0) {
		return r;
	}
	/* Signal 0 asks whether a process lives. */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1, SCMP_A1(SCMP_CMP_EQ, 0));
	if (r < 0) {
		return r;
	}
	/* A thread of libzmq that has only just started looks at its scheduling and keeps it. */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(sched_setscheduler), 1,
			     SCMP_A1(SCMP_CMP_EQ, SCHED_OTHER));
	if (r < 0) {
		return r;
	}
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
}

static int load_filter(unsigned flags)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!ctx) {
		return -ENOMEM;
	}
	r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0) {
		/* A binary tree: device processes make few system calls, but those are hot. */
		seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		r = allow_simple(ctx);
	}
	if (r == 0) {
		r = allow_memory(ctx, flags);
	}
	if (r == 0) {
		r = allow_threads(ctx, flags);
	}
	if (r == 0) {
		r = allow_rest(ctx);
	}
	if (r == 0) {
		r = seccomp_load(ctx);
	}
	seccomp_release(ctx);
	return r;
}

static int set_limits(bool debugging)
{
	const struct rlimit no_core = {0, 0};
	struct rlimit files;

	if (!debugging && setrlimit(RLIMIT_CORE, &no_core) < 0) {
		return -errno;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) < 0) {
		return -errno;
	}
	files.rlim_cur = files.rlim_max = MOBO_MIN(files.rlim_max, (rlim_t)MAX_FDS);
	return setrlimit(RLIMIT_NOFILE, &files) < 0 ? -errno : 0;
}

int mobo_sandbox_enter(unsigned flags, struct mobo_error *err)
{
	/* $MOBO_DEBUG leaves it to debuggers and core dumps. */
	bool debugging = getenv("MOBO_DEBUG") != NULL;
	int r = set_limits(debugging);

	if (r < 0) {
		return mobo_error_set(err, -r, "Resource limits cannot be set: %s.", strerror(-r));
	}
	if (!debugging && prctl(PR_SET_DUMPABLE, 0) < 0) {
		return mobo_error_set(err, errno, "PR_SET_DUMPABLE: %s.", strerror(errno));
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return mobo_error_set(err, errno, "PR_SET_NO_NEW_PRIVS: %s.", strerror(errno));
	}
	r = load_filter(flags);
	if (r < 0) {
		return mobo_error_set(err, -r,
				      "The system call filter cannot be loaded: %s. "
				      "The kernel needs CONFIG_SECCOMP_FILTER.",
				      strerror(-r));
	}
	return 0;
}
