# SPDX-License-Identifier: Apache-2.0
"""Every command against a real guest: what it does, what it prints, its exit status."""
import json
import os
import pty
import signal
import struct
import subprocess
import time
import zlib

import packages
from mobo import MOBO, Failure, Machine, Run, boot_shell, check, shell_options

USAGE, NOT_FOUND, STATE, TIMEOUT, INTERRUPTED = 2, 3, 4, 5, 130


def status_of(host, expected, *args, **kw):
    r = host.mobo(*args, check=False, **kw)
    check(r.returncode == expected,
          f"mobo {' '.join(args)}: status {r.returncode}, not {expected}: {r.stdout}{r.stderr}")
    if "--json" in args:
        check("error" in json.loads(r.stdout), r.stdout)
    return r


def settings_file(host, name):
    return os.path.join(host.json("show", name)["folder"], "machine.conf")


# -- Without a guest --


def test_settings_and_their_comments(host):
    info = host.json("create", "web", "--memory", "64M", "--cpus", "2", "--set", "boot=cdrom")
    check(info["name"] == "web" and info["state"] == "POWERED_OFF", info)
    check([m["name"] for m in host.json("list")["machines"]] == ["web"], "list")
    path = settings_file(host, "web")
    with open(path, "a") as f:
        f.write("# by hand: as small as it boots\n")
    host.mobo("set", "web", "memory=96M")
    got = {s["key"]: s for s in host.json("set", "web")["settings"]}
    check(got["memory"]["value"] == "96M" and not got["memory"]["is_default"], got["memory"])
    host.mobo("unset", "web", "memory", "boot")
    got = {s["key"]: s for s in host.json("set", "web")["settings"]}
    check(got["memory"]["is_default"], got["memory"])
    with open(path) as f:
        text = f.read()
    check("# by hand: as small as it boots\n" in text, text)
    check("cpu.count" in host.mobo("show", "web").stdout, "show")


def test_register_unregister_delete(host):
    folder = os.path.join(host.top, "elsewhere")
    host.mobo("create", "x", "--folder", folder)
    host.json("unregister", "x")
    check(host.json("list")["machines"] == [], "still listed")
    check(os.path.exists(os.path.join(folder, "machine.conf")), "unregister removed files")
    check(host.json("register", folder)["name"] == "x", "register")
    status_of(host, USAGE, "delete", "x")
    would = host.json("delete", "x", "--dry-run")["paths"]
    check(os.path.exists(folder) and any(p.endswith("machine.conf") for p in would), would)
    host.mobo("delete", "x", "--yes")
    check(not os.path.exists(folder), "files are left")
    check(host.json("list")["machines"] == [], "still listed")


def test_exit_statuses_say_what_kind_of_failure(host):
    host.mobo("create", "off")
    for args in (["frobnicate"], ["start"], ["wait", "off"], ["type", "off"], ["set", "off", "memory"],
                 ["disk", "create", "x", "many"], ["key", "off", "ctrl-nokey"]):
        status_of(host, USAGE, *args)
    for verb in ("start", "show", "pause", "console", "ps", "delete"):
        r = status_of(host, NOT_FOUND, verb, "nobody", *(["--yes"] if verb == "delete" else []))
        check("nobody" in r.stderr and "mobo list" in r.stderr, r.stderr)
    for verb in ("pause", "resume", "reset", "powerbutton", "stop", "ps", "console", "screen", "cpu"):
        r = status_of(host, STATE, verb, "off")
        check("mobo start off" in r.stderr, r.stderr)
    status_of(host, NOT_FOUND, "--json", "start", "nobody")
    status_of(host, TIMEOUT, "wait", "off", "--state", "running", "--timeout", "0.5")
    check(host.json("doctor", check=False)[0]["verdict"] in ("ok", "fail"), "doctor")
    check("usage: mobo" in host.mobo("help").stdout, "help")
    check("--timeout" in host.mobo("help", "stop").stdout, "help stop")


def test_disk_images(host):
    disk, raw = os.path.join(host.top, "d.qcow2"), os.path.join(host.top, "d.raw")
    host.json("disk", "create", disk, "64M")
    status_of(host, 1, "disk", "create", disk, "64M")
    info = host.json("disk", "info", disk)
    check(info["format"] == "qcow2" and info["virtual_size"] == 64 << 20, info)
    host.json("disk", "resize", disk, "+32M")
    check(host.json("disk", "info", disk)["virtual_size"] == 96 << 20, "resize")
    host.json("disk", "convert", "--format", "raw", disk, raw)
    check(os.path.getsize(raw) == 96 << 20, "convert")
    r = subprocess.run(["qemu-img", "check", disk], capture_output=True, text=True)
    check(r.returncode == 0, r.stdout + r.stderr)
    status_of(host, 1, "disk", "info", os.path.join(host.top, "none"))


def test_unset_variables_fall_back(host):
    env = {k: v for k, v in host.env.items() if not k.startswith("XDG_")}
    env["HOME"] = os.path.join(host.top, "home")
    os.mkdir(env["HOME"])
    home, host.env = host.env, env
    try:
        host.mobo("create", "plain")
        check(host.json("show", "plain")["folder"].startswith(env["HOME"] + "/.local/share/"), "data")
        runtime = next(c["text"] for c in host.json("doctor", check=False) if c["check"] == "runtime dir")
        folder = runtime.split(",")[0]
        st = os.stat(folder)
        check(st.st_uid == os.geteuid() and st.st_mode & 0o77 == 0, f"{folder}: mode {st.st_mode:o}")
        host.mobo("delete", "plain", "--yes")
        with open(os.path.join(folder, "registry", "lock")) as f:
            os.kill(int(f.read().split()[0]), signal.SIGTERM)
    finally:
        host.env = home


# -- One guest, many commands --


def png_size(path):
    """Width and height, every chunk's checksum verified."""
    with open(path, "rb") as f:
        data = f.read()
    check(data[:8] == b"\x89PNG\r\n\x1a\n", "no PNG signature")
    at, pixels, size = 8, b"", None
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + n]
        check(zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + n:at + 12 + n])[0], kind)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        pixels += body if kind == b"IDAT" else b""
        at += 12 + n
    check(len(zlib.decompress(pixels)) == size[1] * (1 + 3 * size[0]), "pixels missing")
    return size


def look_verbs(host, m):
    check({"machine", "vcpu", "uart0", "display"} <= set(m.pids()), m.pids())
    check(all(p["cpu_ns"] is not None and p["pss_bytes"] for p in host.json("ps", m.name)["processes"]), "ps")
    devices = {d["name"]: d for d in host.json("device", "list", m.name)["devices"]}
    check("pio 0x3f8-0x3ff" in " ".join(devices["uart0"]["claims"]), devices["uart0"])
    regs = host.json("device", "regs", m.name, "uart0")["registers"]
    check(any(r["name"].upper() == "LCR" for r in regs), regs)
    status_of(host, NOT_FOUND, "device", "regs", m.name, "nodevice")
    cpu = host.json("cpu", m.name)
    check(len(cpu["gpr"]) == 16 and cpu["cr0"] & 0x80000001 == 0x80000001, cpu)
    check(host.json("stats", m.name)["counters"], "stats")
    check(any("RUNNING" in line for line in host.json("log", m.name)["lines"]), "log")
    shown = host.json("show", m.name)
    check(shown["state"] == "RUNNING" and shown["rpc_endpoint"], shown)
    check(shown["live"]["engine"] and shown["live"]["engine_reason"], shown)
    for words in (["ps"], ["device", "list"], ["cpu"], ["stats"], ["log"], ["show"], ["screen"]):
        check(host.mobo(*words, m.name).stdout, " ".join(words))


def screen_verbs(host, m):
    text = "\n".join(host.json("screen", m.name)["rows"])
    check("#" in text, text)
    host.mobo("type", m.name, "echo typed-$((40 + 2))\\n")
    m.wait_screen("typed-42", 20)
    for k in ("e", "c", "h", "o", "space", "shift-k", "enter"):
        host.mobo("key", m.name, k)
    m.wait_screen("K", 20)
    for args in (["move", "5", "-5"], ["wheel", "1"], ["click", "left"]):
        host.json("mouse", m.name, *args)
    png = os.path.join(host.top, "s.png")
    host.json("screenshot", m.name, png)
    mode = host.mobo("screenshot", m.name, png).stdout.split()[-1]
    check("x".join(map(str, png_size(png))) == mode, f"{mode} {png_size(png)}")
    data = host.mobo("screenshot", m.name, "-", text=False).stdout
    check(data.startswith(b"\x89PNG"), "no PNG on standard output")


def pause_freezes_the_clock(host, m, con):
    before = m.uptime(con)
    host.mobo("pause", m.name)
    check(host.json("show", m.name)["state"] == "PAUSED", "state")
    time.sleep(3)
    host.json("pause", m.name)
    host.mobo("resume", m.name)
    after = m.uptime(con)
    check(0 <= after - before < 2.5, f"the guest's clock went {after - before:.2f} s in a pause of 3 s")


def events(host, m):
    out = [json.loads(x) for x in host.mobo("--json", "events", m.name).stdout.splitlines()]
    state = [e for e in out if e["topic"] == "vm.state"]
    check(state and state[-1]["body"]["state"] == "RUNNING", out)
    p = subprocess.Popen([MOBO, "--json", "events", m.name, "--follow", "--since", "1", "--topic", "vm.state"],
                         env=host.env, stdout=subprocess.PIPE, text=True)
    host.mobo("pause", m.name)
    host.mobo("resume", m.name)
    seen = []
    while seen[-3:] != ["RUNNING", "PAUSED", "RUNNING"] or len(seen) < 4:
        seen.append(json.loads(p.stdout.readline())["body"]["state"])
    check(seen[0] == "RUNNING", f"--since 1 began with {seen[0]}")
    p.send_signal(signal.SIGINT)
    check(p.wait(5) == INTERRUPTED, p.returncode)


def consoles(host, m):
    with m.console() as a, m.console() as b:
        b.expect("SHELL-READY", 10)  # the scrollback
        a.send("echo both-$((1 + 1))\n")
        a.expect("both-2", 10)
        b.expect("both-2", 10)
    # On a terminal Ctrl-] leaves, and the machine runs on.
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(MOBO, [MOBO, "console", m.name], host.env)
    time.sleep(0.5)
    os.write(fd, b"\x1d")
    deadline, end = time.monotonic() + 10, (0, 0)
    while end[0] == 0 and time.monotonic() < deadline:
        try:
            os.read(fd, 65536)
        except OSError:
            pass
        end = os.waitpid(pid, os.WNOHANG)
    os.close(fd)
    check(end[0] == pid and os.WEXITSTATUS(end[1]) == 0, f"the escape key: {end}")
    check(host.json("show", m.name)["state"] == "RUNNING", "state")


def waits(host, m):
    host.json("wait", m.name, "--serial", "SHELL-READY", "--timeout", "5")
    host.json("wait", m.name, "--state", "running", "--timeout", "5")
    for args in (["--serial", "never"], ["--screen", "never"], ["--state", "paused"]):
        start = time.monotonic()
        status_of(host, TIMEOUT, "wait", m.name, *args, "--timeout", "1")
        check(time.monotonic() - start < 4, "the time-out came late")
    p = subprocess.Popen([MOBO, "wait", m.name, "--serial", "never"], env=host.env, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    check(p.wait(3) == INTERRUPTED, p.returncode)


def test_a_running_machine(host):
    m = Machine(host, "all", *shell_options())
    con = boot_shell(m)
    status_of(host, STATE, "start", m.name)
    status_of(host, STATE, "delete", m.name, "--yes")
    look_verbs(host, m)
    screen_verbs(host, m)
    pause_freezes_the_clock(host, m, con)
    events(host, m)
    consoles(host, m)
    waits(host, m)
    host.json("reset", m.name)
    con.expect("SHELL-READY", 60)
    host.json("powerbutton", m.name)  # this guest has no ACPI daemon
    status_of(host, 0, "stop", m.name, "--timeout", "0.5")
    check(host.json("show", m.name)["state"] == "POWERED_OFF", "state")
    con.kill()


def test_start_paused_and_stop_by_force(host):
    m = Machine(host, "held", *shell_options())
    check(host.json("start", m.name, "--paused")["state"] == "PAUSED", "state")
    time.sleep(0.5)
    check(host.json("cpu", m.name)["instructions"] == 0, "it ran")
    host.mobo("resume", m.name)
    m.wait_state("running", 5)
    host.mobo("stop", m.name, "--force")
    m.wait_state("powered-off", 5)
    m.start()
    host.json("poweroff", m.name)


def test_cd_insert_and_eject(host):
    import test_cdrom

    m = Machine(host, "cd", *shell_options(), "--cdrom", "")
    m.start()
    iso = test_cdrom.rescue_cd()
    status_of(host, 1, "cd", "insert", m.name, os.path.join(host.top, "none.iso"))
    host.json("cd", "insert", m.name, iso)
    host.json("cd", "eject", m.name, "--force")
    seen = [json.loads(x)["topic"] for x in host.mobo("--json", "events", m.name, "--since", "1").stdout.splitlines()]
    check("vm.dev.ide0.media-inserted" in seen and "vm.dev.ide0.media-ejected" in seen, seen)
    m.off()


def test_run_ends_as_the_guest_does(host):
    with Run(host, *shell_options()) as run:
        run.expect("SHELL-READY", 60)
        run.send("poweroff -f\n")
        check(run.finish() == 0, run.p.returncode)
    check(host.json("list")["machines"] == [], "the throw-away machine is still there")
    with Run(host, *shell_options()) as run:
        run.expect("SHELL-READY", 60)
        run.p.send_signal(signal.SIGINT)
        check(run.finish(20) == INTERRUPTED, run.p.returncode)
    check(host.json("list")["machines"] == [], "the interrupted machine is still there")
    status_of(host, 1, "run", "--kernel", os.path.join(host.top, "none"))
