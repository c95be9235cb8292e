// SPDX-License-Identifier: Apache-2.0
/* Guest program to be debugged: adds up, writes the sum, and with an argument dies of a bad store.
 */
#include <stdint.h>
#include <stdio.h>

volatile int watched;

__attribute__((noinline)) int add(int sum, int n)
{
	watched = n;
	return sum + n;
}

int main(int argc, char **argv)
{
	int sum = 0;

	(void)argv;
	for (int i = 0; i < 10; i++) {
		sum = add(sum, i);
	}
	printf("sum %d\n", sum);
	fflush(stdout);
	if (argc > 1) {
		*(volatile int *)(uintptr_t)0x123450 = 1;
	}
	return 0;
}
