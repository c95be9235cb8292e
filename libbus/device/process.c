/* SPDX-License-Identifier: Apache-2.0 */
#include "mobo/device.h"

int mobo_chip_main(const struct mobo_chip_class *cls, int argc, char **argv)
{
	return 1;
}
