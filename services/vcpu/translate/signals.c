/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host signals that translated code causes: #DE, alignment, #UD become events; more calls than the
 * stack of return addresses has room for make it empty. They get a stack of their own.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "translate/generate.h"

static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
enum { N_SIGNALS = sizeof(signals) / sizeof(signals[0]) };

static struct sigaction old_actions[N_SIGNALS];

static struct sigaction *old_action(int sig)
{
	unsigned k = 0;

	while (signals[k] != sig) {
		k++;
	}
	return &old_actions[k];
}

static void pass_on(int sig, siginfo_t *info, void *uc)
{
	struct sigaction *old = old_action(sig);

	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, info, uc);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	} else {
		signal(sig, SIG_DFL); /* happens again, without a handler */
	}
}

static _Thread_local struct vcpu *running;
static _Thread_local bool lends; /* `running` has the thread's stack for signals */

/* Translated code's stack is no place for signals: they get one, if the thread has none yet. */
void signals_set_running(struct vcpu *v)
{
	uint8_t *end = (uint8_t *)v - VCPU_RETURNS - VCPU_GUARD;
	stack_t stack;

	if (running == v) {
		return;
	}
	running = v;
	if (lends || (sigaltstack(NULL, &stack) == 0 && stack.ss_flags & SS_DISABLE)) {
		stack = (stack_t){.ss_sp = end - VCPU_SIGNAL_STACK, .ss_size = VCPU_SIGNAL_STACK};
		lends = sigaltstack(&stack, NULL) == 0;
	}
}

void signals_forget_running(const struct vcpu *v)
{
	const stack_t none = {.ss_flags = SS_DISABLE};

	if (running == v) {
		running = NULL;
		if (lends) {
			sigaltstack(&none, NULL);
			lends = false;
		}
	}
}

/* More calls than the stack has room for: it is empty from now on. */
static bool is_returns_end(const struct vcpu *v, uint64_t rip, const void *at)
{
	const struct translator *x = v->translator;
	const uint8_t *guard = (const uint8_t *)v - VCPU_RETURNS - VCPU_GUARD;

	return (uint64_t)((const uint8_t *)at - guard) < VCPU_GUARD &&
	       rip - (uint64_t)(uintptr_t)cache_exec(x, 0) < x->code_used;
}

static void on_signal(int sig, siginfo_t *info, void *uc_)
{
	ucontext_t *uc = uc_;
	greg_t *reg = uc->uc_mcontext.gregs;
	struct vcpu *v = running;
	struct translator *x = v ? v->translator : NULL;
	struct region *r;
	unsigned k;

	if (x && sig == SIGSEGV && is_returns_end(v, (uint64_t)reg[REG_RIP], info->si_addr)) {
		reg[REG_RSP] = (greg_t)event_code_rsp(v);
		return;
	}
	r = x ? cache_find_host(x, (const uint8_t *)reg[REG_RIP], &k) : NULL;
	if (!r) {
		pass_on(sig, info, uc_);
		return;
	}
	x->fault = (struct site){.region = r->number,
				 .insn = k,
				 .kind = SITE_FAULT,
				 .flags = r->in_host[k] ? SITE_FLAGS : 0};
	reg[REG_RSP] -= 8;
	if ((uint64_t)reg[REG_RSP] < (uint64_t)(uintptr_t)v - VCPU_RETURNS) {
		reg[REG_RSP] = (greg_t)event_code_rsp(v) - 8;
	}
	*(const struct site **)(uintptr_t)reg[REG_RSP] = &x->fault;
	reg[REG_RIP] = (greg_t)(uintptr_t)cache_exec(x, x->event);
}

static int init_result;

static void init_signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	for (unsigned k = 0; k < N_SIGNALS && !init_result; k++) {
		init_result = sigaction(signals[k], &sa, &old_actions[k]) ? -errno : 0;
	}
}

int signals_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_signals);
	return init_result;
}
