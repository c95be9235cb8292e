/* SPDX-License-Identifier: Apache-2.0 */
#include "mobo/device.h"

const struct mobo_chip_class mobo_chip_postport;

const struct mobo_chip_class mobo_chip_postport = {
	.name = "postport",
};
