#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A POST-code display: the byte that firmware and kernels write to port 0x80, on your terminal.

    mobo set vm debug.post=false      (the machine's own chip at port 0x80 makes room)
    mobo start vm --paused
    deploy/examples/post_card.py vm & mobo resume vm

Usage: post_card.py MACHINE [PORT]
"""
import sys

from mobo_client import Device, Error, device


class PostCard(Device):
    claims = device.Attach(
        chip="post-card",
        description="POST-code display",
        regions=[device.Region(name="post", kind=device.REGION_PIO, base_address=0x80, len=1,
                               attrs=[device.AttrRange(len=1, attr=device.ATTR_POSTED)])])

    shown = 0xFF

    def write(self, region, offset, size, value, now_ns):
        # Posted: the guest did not wait for us, and several writes may come at once.
        if value != self.shown:
            self.shown = value
            print(f"{now_ns / 1e9:10.6f} s  [{value:02X}]", flush=True)
            self.notify("post-code", f"{value:02x}")

    def read(self, region, offset, size, now_ns):
        return self.shown

    def reset(self):
        self.shown = 0xFF
        print("-- reset --", flush=True)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    if len(sys.argv) > 2:
        PostCard.claims.regions[0].base_address = int(sys.argv[2], 0)
    try:
        card = PostCard(sys.argv[1], "post-card")
        print("attached", flush=True)
        card.run()
    except Error as e:
        sys.exit(f"post_card: {e}")
    except KeyboardInterrupt:
        pass
