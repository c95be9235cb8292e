/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chip's class is known when its process begins, but a bridge's comes with DeviceInit: that is
 * looked at here, and left for libbus to take.
 */
#include <stdio.h>
#include <sys/socket.h>

#include "bridge.h"
#include "process.h"

enum { INIT_MAX = 64 * 1024 };

int main(int argc, char **argv)
{
	static uint8_t buf[INIT_MAX];
	Mobo__V1__DeviceInit *init = NULL;
	ssize_t len = recv(PROCESS_FD, buf, sizeof(buf), MSG_PEEK);

	if (len > 0) {
		init = mobo__v1__device_init__unpack(NULL, (size_t)len, buf);
	}
	if (!init || !init->claims) {
		fprintf(stderr, "mobo-bridge: a message device's part of a virtual machine, "
				"started by mobo-machine\n"
				"with a socket on descriptor 3; see docs/PROTOCOL.md.\n");
		return 2;
	}

	/* The class points into init. */
	int status = mobo_chip_main(bridge_class(init->claims, init->peer), argc, argv);

	mobo__v1__device_init__free_unpacked(init, NULL);
	return status;
}
