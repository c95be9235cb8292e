# SPDX-License-Identifier: Apache-2.0
"""quick.py MOBO [OPTION]...: `mobo bench` with the kernel of the system tests, downloaded if need be."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "system"))
import packages  # noqa: E402

KERNEL = packages.kernel("linux-image-cloud-amd64")
sys.exit(subprocess.run([sys.argv[1], "bench", "--kernel", KERNEL, *sys.argv[2:]]).returncode)
