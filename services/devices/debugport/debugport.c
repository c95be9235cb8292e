/* SPDX-License-Identifier: Apache-2.0 */
#include "mobo/device.h"

const struct mobo_chip_class mobo_chip_debugport;

const struct mobo_chip_class mobo_chip_debugport = {
	.name = "debugport",
};
