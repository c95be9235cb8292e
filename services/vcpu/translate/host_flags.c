/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flags that the manual leaves undefined: which of them this host sets without regard to what they
 * were. Found by running the instructions with all flags clear and all set.
 */
#include <pthread.h>

#include "translate/translate.h"

enum { OPERANDS = 6 };
static const uint64_t operand[OPERANDS] = {0, 1, 3, 0x8000000000000001, 0x7fffffffffffffff, 0x1234};

static flag_set same[N_HOST_FLAGS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Runs an instruction on %rax and %rcx (%rdx free) after setting flags to f; returns the flags. */
#define RUN(name, code)                                                              \
	static uint64_t name(uint64_t a, uint64_t c, uint64_t f)                     \
	{                                                                            \
		/* The stack below RSP may be the compiler's. */                     \
		__asm__ volatile("lea -128(%%rsp), %%rsp; push %[f]; popfq\n\t" code \
				 "\n\tpushfq; pop %[f]; lea 128(%%rsp), %%rsp"       \
				 : "+a"(a), "+c"(c), [f] "+r"(f)                     \
				 :                                                   \
				 : "rdx", "cc", "memory");                           \
		return f;                                                            \
	}
RUN(run_imul, "imul %%rcx, %%rax")
RUN(run_mul, "mul %%rcx")
RUN(run_shl_1, "shl $1, %%rax")
RUN(run_shl_5, "shl $5, %%rax")
RUN(run_shr_5, "shr $5, %%eax")
RUN(run_sar_5, "sar $5, %%rax")
RUN(run_rol_5, "rol $5, %%rax")
RUN(run_shld_5, "shld $5, %%rcx, %%rax")
RUN(run_bt, "bt $3, %%rax")
RUN(run_bsf, "bsf %%rcx, %%rax")
#undef RUN

typedef uint64_t run_fn(uint64_t a, uint64_t c, uint64_t f);

/* FCOMI of 0 and `a`. The x87 registers may be a guest's. */
static uint64_t run_fcomi(uint64_t a, uint64_t c, uint64_t f)
{
	uint8_t state[108];

	(void)c;
	__asm__ volatile("fnsave %[state]; fninit; fildll %[a]; fldz\n\t"
			 "lea -128(%%rsp), %%rsp; push %[f]; popfq; fcomi %%st(1), %%st\n\t"
			 "pushfq; pop %[f]; lea 128(%%rsp), %%rsp\n\t"
			 "frstor %[state]"
			 : [state] "=m"(state), [f] "+r"(f)
			 : [a] "m"(a)
			 : "cc");
	return f;
}

/* Flags that come out the same whatever they were. */
static flag_set independent(run_fn *run)
{
	flag_set differ = 0;

	for (unsigned n = 0; n < OPERANDS; n++) {
		for (unsigned m = 0; m < OPERANDS; m++) {
			differ |= (flag_set)((run(operand[n], operand[m], FL_1) ^
					      run(operand[n], operand[m], FL_1 | FL_ARITH)) &
					     FL_ARITH);
		}
	}
	return FL_ARITH & ~differ;
}

static void find(void)
{
	flag_set shift = independent(run_shl_5) & independent(run_shr_5) & independent(run_sar_5);

	same[HOST_MULTIPLY] = independent(run_imul) & independent(run_mul);
	same[HOST_SHIFT_1] = independent(run_shl_1) & (shift | FL_OF);
	same[HOST_SHIFT] = shift;
	same[HOST_ROTATE] = independent(run_rol_5);
	same[HOST_SHIFT_DOUBLE] = independent(run_shld_5);
	same[HOST_BIT] = independent(run_bt);
	same[HOST_BIT_SCAN] = independent(run_bsf);
	same[HOST_COMPARE_X87] = independent(run_fcomi);
}

flag_set host_flags(enum host_flags_of what)
{
	pthread_once(&once, find);
	return same[what];
}
