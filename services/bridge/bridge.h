/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mobo-bridge: to the engine a device process like any other, behind it a device outside the
 * machine that speaks messages only (docs/PROTOCOL.md, "Devices by message"). Main thread only.
 */
#ifndef BRIDGE_BRIDGE_H
#define BRIDGE_BRIDGE_H

#include "mobo/v1/device.pb-c.h"

/*
 * The class of the device whose claims and node are given; both stay with the bridge. Claims were
 * checked by mobo-machine, what does not fit nevertheless is left out. Static.
 */
const struct mobo_chip_class *bridge_class(const Mobo__V1__Attach *claims, uint32_t peer);

#endif
