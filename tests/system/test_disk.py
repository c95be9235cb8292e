# SPDX-License-Identifier: Apache-2.0
"""The Debian 12 disk: through SeaBIOS and GRUB to its login prompt, and what a user does then."""
import fcntl
import os
import subprocess

import packages
from mobo import MOBO, Failure, Machine

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOGIN = 600


def debian_image():
    """The cached image of deploy/quickstart, made where it is missing."""
    path = os.path.join(os.path.dirname(packages.CACHE), "debian-12.img")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            subprocess.run([os.path.join(TOP, "deploy", "debian-image"), path], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def debian(host, name, *args):
    disk = os.path.join(host.top, name + ".qcow2")
    host.mobo("disk", "create", disk, "--backing", debian_image())
    m = Machine(host, name, "--memory", "512M", "--disk", disk, *args)
    m.disk = disk
    return m.start()


def login(console):
    console.expect("login: ", LOGIN)
    console.send("root\n")
    console.expect("Password: ", 60)
    console.send("mobo\n")
    console.expect(r"root@mobo:~# ", 120)


def command(console, text, pattern, timeout=120):
    console.send(text + "\n")
    m = console.expect(pattern, timeout)
    console.expect(r"root@mobo:~# ", 60)
    return m


def check_image(path):
    r = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True)
    if r.returncode != 0:
        raise Failure("qemu-img check: " + r.stdout + r.stderr)


def test_login_command_reboot_poweroff(host):
    m = debian(host, "deb")
    with m.console() as c:
        login(c)
        command(c, "echo $((6 * 7)) > /root/answer; sync; cat /root/answer", r"42\r?\n")
        command(c, "lspci -n 2>/dev/null || cat /proc/bus/pci/devices | cut -f2 | head -3", r"80861237|8086:1237")
        c.send("reboot\n")
        login(c)
        command(c, "cat /root/answer", r"42\r?\n")
        c.send("poweroff\n")
        m.wait_state("powered-off", 180)
    check_image(m.disk)


def test_power_button(host):
    m = debian(host, "button")
    with m.console() as c:
        c.expect("login: ", LOGIN)
    host.mobo("stop", m.name, "--timeout", "300", timeout=330)
    info = host.json("show", m.name)
    if info["state"] != "POWERED_OFF" or "guest" not in info["reason"]:
        raise Failure(f"after the power button: {info['state']}, {info['reason']}")
    check_image(m.disk)
