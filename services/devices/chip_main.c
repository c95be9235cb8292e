/* SPDX-License-Identifier: Apache-2.0 */
/* main() of every chip's process; MOBO_CHIP is the class, given by the build (meson.build here). */
#include "mobo/device.h"

extern const struct mobo_chip_class MOBO_CHIP;

MOBO_CHIP_MAIN(MOBO_CHIP)
