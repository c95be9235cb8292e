# SPDX-License-Identifier: Apache-2.0
"""The guest's clocks: which it chooses, and that none goes back over pauses and between CPUs."""
import os
import re
import time

import packages
from mobo import Machine, boot_shell, check, shell_options

CLOCKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clocks.c")
SOURCES = "/sys/devices/system/clocksource/clocksource0"


def ask(con, command, timeout=30):
    """A command's output in the guest."""
    con.send(f"{command}; echo en''d\n")
    text = con.expect(r"(?s)\n(.*?)end\r?\n", timeout).group(1)
    return text.decode().replace("\r", "")


def watch_over_pauses(host, m, con, seconds):
    """{clock: (times back, greatest step)} while the machine is paused again and again."""
    con.send(f"clocks {seconds}; echo en''d\n")
    until = time.monotonic() + seconds
    n = 0
    while time.monotonic() < until:
        host.mobo("pause", m.name)
        time.sleep(0.05 * (n % 4))
        host.mobo("resume", m.name)
        time.sleep(0.2)
        n += 1
    text = con.expect(r"(?s)\n(tsc.*?)end\r?\n", 120).group(1).decode()
    check(n > 3, f"only {n} pauses")
    return {name: (int(back), int(step))
            for name, back, step in re.findall(r"(\w+) back=(\d+) farthest=\d+ step=(\d+)", text)}


def test_no_clock_goes_back(host):
    m = Machine(host, "clocks", "--cpus", "2", *shell_options(files={"bin/clocks": packages.program(CLOCKS)}))
    with boot_shell(m) as con:
        check("kvm-clock" in ask(con, f"cat {SOURCES}/available_clocksource"), "no kvm-clock")
        check("tsc" in ask(con, f"cat {SOURCES}/current_clocksource"), "Linux does not trust the TSC")
        for source in ("tsc", "kvm-clock"):
            ask(con, f"echo {source} > {SOURCES}/current_clocksource")
            seen = watch_over_pauses(host, m, con, 5)
            check(len(seen) == 4, seen)
            check(all(back == 0 for back, _ in seen.values()), f"with {source}: {seen}")
            current = ask(con, f"cat {SOURCES}/current_clocksource")
            check(source in current, f"Linux went from {source} to {current}")
        check("unstable" not in ask(con, "dmesg | grep -i clocksource"), "a clock source is unstable")
    m.off()


def test_hidden_hypervisor(host):
    m = Machine(host, "hidden", "--set", "cpu.hypervisor=none", *shell_options())
    with boot_shell(m) as con:
        check("hypervisor" not in ask(con, "grep flags /proc/cpuinfo"), "CPUID tells of a hypervisor")
        sources = ask(con, f"cat {SOURCES}/available_clocksource")
        check("kvm" not in sources and "tsc" in sources, sources)
    m.off()
