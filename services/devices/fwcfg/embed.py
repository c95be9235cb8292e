#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a binary file down as a C array.

embed.py [--option-rom] SYMBOL INPUT OUTPUT

With --option-rom the input is padded to whole 512-byte blocks, the block count is stored at
offset 2 and the last byte makes the sum of all bytes zero (PnP BIOS specification 1.0a, 3.1).
"""
import sys


def option_rom(data):
    blocks = len(data) // 512 + 1  # at least one byte is left for the checksum
    rom = bytearray(data.ljust(blocks * 512, b"\0"))
    rom[2] = blocks
    rom[-1] = -sum(rom) & 0xFF
    return bytes(rom)


def main():
    args = sys.argv[1:]
    rom = args[0] == "--option-rom"
    symbol, source, target = args[rom:]
    with open(source, "rb") as f:
        data = f.read()
    if rom:
        data = option_rom(data)
    with open(target, "w", encoding="ascii") as f:
        f.write('/* Generated. */\n#include "fwcfg.h"\n\n')
        f.write(f"const uint8_t {symbol}[] = {{\n")
        for i in range(0, len(data), 16):
            f.write("\t" + "".join(f"0x{b:02x}, " for b in data[i : i + 16]).rstrip() + "\n")
        f.write(f"}};\nconst size_t {symbol}_len = sizeof({symbol});\n")


main()
