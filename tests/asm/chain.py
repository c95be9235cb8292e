#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Checks that handlers which chain with NEXT() do so by jumps. A handler that calls the next one grows
the stack with every instruction of a guest's loop, and the guest decides how long that is.

chain.py LIBRARY: disassembles its members; interpreter.c and run.c hold the run loop, which may call.
"""
import re
import subprocess
import sys

text = subprocess.run(["objdump", "-d", sys.argv[1]], capture_output=True, text=True, check=True).stdout
member = function = ""
bad = []
for line in text.splitlines():
    m = re.match(r"(\S+\.o):", line)
    if m:
        member = m.group(1)
    m = re.match(r"[0-9a-f]+ <(.*)>:", line)
    if m:
        function = m.group(1)
    if re.search(r"\bcall\s+\*", line) and not re.search("interpreter|run", member):
        bad.append(f"{member}: {function}: {line.strip()}")
print("\n".join(bad) or "every handler chains by a jump")
sys.exit(1 if bad or not member else 0)
