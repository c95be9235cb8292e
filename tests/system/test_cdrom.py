# SPDX-License-Identifier: Apache-2.0
"""CD-ROMs: El Torito, and media that come and go."""
import glob

import packages
from mobo import Machine


def rescue_cd():
    (path,) = glob.glob(packages.unpacked("grub-rescue-pc") + "/usr/lib/grub-rescue/grub-rescue-cdrom.iso")
    return path


def test_grub_rescue_cd(host):
    m = Machine(host, "rescue", "--memory", "64M", "--cdrom", rescue_cd(), "--boot", "cdrom")
    m.start()
    m.wait_screen("GNU GRUB", 120)
    host.mobo("type", m.name, "c")
    m.wait_screen("grub>", 60)
    host.mobo("type", m.name, "ls\\n")
    m.wait_screen("(cd", 60)
    m.off()


def test_insert_and_eject(host):
    m = Machine(host, "tray", "--memory", "64M", "--cdrom", "", "--boot", "cdrom")
    m.start()
    m.wait_screen("No bootable device", 120)
    host.mobo("cd", "insert", m.name, rescue_cd())
    host.mobo("reset", m.name)
    m.wait_screen("GNU GRUB", 120)
    host.mobo("cd", "eject", m.name, "--force")
    host.mobo("reset", m.name)
    m.wait_screen("No bootable device", 120)
    m.off()
