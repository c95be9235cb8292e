# SPDX-License-Identifier: Apache-2.0
"""Guests from Debian's package archive: downloaded, unpacked, cached; nothing is installed."""
import fcntl
import functools
import glob
import os
import subprocess

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mobo", "tests")


def _one_at_a_time(fn):
    """Tests run side by side: what one is making, others wait for."""

    @functools.wraps(fn)
    def locked(*args, **kw):
        os.makedirs(CACHE, exist_ok=True)
        with open(os.path.join(CACHE, fn.__name__ + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return fn(*args, **kw)

    return locked


def _run(*args, cwd=None):
    subprocess.run(args, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def _apt_i386():
    """A private apt configuration that knows i386, so that the host needs no foreign architecture."""
    top = os.path.join(CACHE, "apt-i386")
    conf = os.path.join(top, "apt.conf")
    if not os.path.exists(conf):
        for sub in ("state/lists/partial", "cache/archives/partial", "etc"):
            os.makedirs(os.path.join(top, sub), exist_ok=True)
        open(os.path.join(top, "state", "status"), "w").close()
        text = (
            f'Dir::State "{top}/state";\nDir::State::status "{top}/state/status";\n'
            f'Dir::Cache "{top}/cache";\nAPT::Sandbox::User "root";\nAPT::Architecture "amd64";\n'
            'APT::Architectures { "amd64"; "i386"; };\n'
        )
        with open(conf + ".part", "w") as f:
            f.write(text)
        # One list that cannot be had (a mirror being updated) leaves the others usable.
        subprocess.run(["apt-get", "-qq", "-c", conf + ".part", "update"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        os.rename(conf + ".part", conf)
    return ["-c", conf]


def _real_package(name, options):
    """The package that a meta package like linux-image-amd64 stands for."""
    arch = "" if ":" not in name else ":" + name.split(":")[1]
    out = subprocess.run(
        ["apt-cache", *options, "depends", name], capture_output=True, text=True, check=True
    ).stdout
    for line in out.splitlines():
        word = line.split()[-1]
        if "Depends:" in line and word.startswith("linux-image-"):
            return word if ":" in word else word + arch
    return name


@_one_at_a_time
def unpacked(name):
    """Folder with the content of Debian package `name` ("pkg" or "pkg:i386")."""
    folder = os.path.join(CACHE, name.replace(":", "_"))
    if os.path.isdir(folder):
        return folder
    os.makedirs(CACHE, exist_ok=True)
    options = _apt_i386() if name.endswith(":i386") else []
    real = _real_package(name, options) if name.startswith("linux-image") else name
    part = folder + ".part"
    _run("rm", "-rf", part)
    os.makedirs(os.path.join(part, "deb"))
    _run("apt-get", "-qq", *options, "download", real, cwd=os.path.join(part, "deb"))
    (deb,) = glob.glob(os.path.join(part, "deb", "*.deb"))
    _run("dpkg", "-x", deb, part)
    os.rename(part, folder)
    return folder


def kernel(name):
    """Path of the bzImage in a linux-image package."""
    (path,) = glob.glob(os.path.join(unpacked(name), "boot", "vmlinuz-*"))
    return path


@_one_at_a_time
def program(source):
    """A C file compiled for guests, static; cached by content."""
    import hashlib

    with open(source, "rb") as f:
        key = hashlib.sha256(f.read()).hexdigest()
    path = os.path.join(CACHE, os.path.basename(source)[:-2] + "-" + key[:12])
    if not os.path.exists(path):
        _run("cc", "-static", "-O2", "-o", path + ".part", source)
        os.rename(path + ".part", path)
    return path


@_one_at_a_time
def initrd(name, init, busybox="busybox-static", files=None):
    """An initrd of busybox and the shell script `init`; cached by content."""
    import hashlib

    key = hashlib.sha256((init + busybox + repr(sorted((files or {}).items()))).encode()).hexdigest()
    path = os.path.join(CACHE, f"initrd-{name}-{key[:12]}.gz")
    if os.path.exists(path):
        return path
    root = path + ".root"
    _run("rm", "-rf", root)
    for d in ("bin", "dev", "proc", "sys", "tmp"):
        os.makedirs(os.path.join(root, d))
    _run("cp", os.path.join(unpacked(busybox), "bin", "busybox"), os.path.join(root, "bin", "busybox"))
    for target, source in (files or {}).items():
        os.makedirs(os.path.dirname(os.path.join(root, target)), exist_ok=True)
        _run("cp", source, os.path.join(root, target))
    with open(os.path.join(root, "init"), "w") as f:
        f.write("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n"
                "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n" + init)
    os.chmod(os.path.join(root, "init"), 0o755)
    subprocess.run(f"find . | cpio -o -H newc --quiet | gzip -1 > {path}.part", shell=True, cwd=root, check=True)
    os.rename(path + ".part", path)
    _run("rm", "-rf", root)
    return path
