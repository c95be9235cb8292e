#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A PCI device: a counter with an interrupt, and a sum over guest memory by DMA.

BAR 0, 32 bytes of ports:            32-bit registers
    0x00 COUNT    read: adds one and gives the new value; write: sets it
    0x04 LIMIT    the interrupt is raised when COUNT reaches it; 0: never
    0x08 STATUS   bit 0: interrupt; written with bit 0 set: acknowledges
    0x0c SCRATCH  keeps what is written
    0x10 ADDRESS  guest-physical address
    0x14 LENGTH   write: sums up that many bytes of RAM from ADDRESS (the guest must set bit 2,
                  bus master, of the command register)
    0x18 SUM      the sum, modulo 2^32; all ones: the memory could not be read
    0x1c DISCONNECT  written with 0xdead: leaves the bus

Attach it to a machine that is paused before its first instruction, and the firmware gives the BAR
its address; attached later, the guest must look again (echo 1 > /sys/bus/pci/rescan).

Usage: pci_counter.py MACHINE
"""
import sys

from mobo_client import Device, Error, device

COUNT, LIMIT, STATUS, SCRATCH, ADDRESS, LENGTH, SUM, DISCONNECT = range(0, 32, 4)


class Counter(Device):
    claims = device.Attach(
        chip="pci-counter",
        description="Counter with interrupt and DMA",
        functions=[device.PciFunction(device=0xFF, vendor_id=0x1AF4, device_id=0x10F0, class_code=0xFF0000,
                                      subsystem_vendor_id=0x1AF4, subsystem_id=1, interrupt_pin=1)],
        regions=[device.Region(name="registers", kind=device.REGION_BAR_IO, fn=0, bar=0, len=32)],
        lines=[device.Line(kind=device.LINE_INTX, n=0)])

    def __init__(self, machine_name, name):
        self.reset_registers()
        super().__init__(machine_name, name)

    def reset_registers(self):
        self.registers = dict.fromkeys(range(0, 32, 4), 0)

    def reset(self):
        self.reset_registers()  # the bridge has lowered the line

    def set_status(self, status):
        self.registers[STATUS] = status
        self.line(0, bool(status))

    def count(self):
        self.registers[COUNT] = (self.registers[COUNT] + 1) & 0xFFFFFFFF
        if self.registers[COUNT] == self.registers[LIMIT]:
            self.set_status(1)

    def read(self, region, offset, size, now_ns):
        if size != 4 or offset % 4:
            return super().read(region, offset, size, now_ns)
        if offset == COUNT:
            self.count()
        return self.registers[offset]

    def write(self, region, offset, size, value, now_ns):
        if size != 4 or offset % 4:
            return
        if offset == STATUS:
            self.set_status(self.registers[STATUS] & ~value)
        elif offset == LENGTH:
            self.sum_up(value)
        elif offset == DISCONNECT:
            if value == 0xDEAD:
                self.bus.close()
                sys.exit(0)
        else:
            self.registers[offset] = value

    def sum_up(self, length):
        total = 0
        try:
            for at in range(0, min(length, 1 << 20), 4096):
                total += sum(self.dma_read(self.registers[ADDRESS] + at, min(4096, length - at)))
            self.registers[SUM] = total & 0xFFFFFFFF
        except Error as e:
            self.notify("dma-refused", str(e))
            self.registers[SUM] = 0xFFFFFFFF


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        counter = Counter(sys.argv[1], "counter")
        print(f"attached in slot {counter.attached.pci_slots[0]}", flush=True)
        counter.run()
    except Error as e:
        sys.exit(f"pci_counter: {e}")
    except KeyboardInterrupt:
        pass
