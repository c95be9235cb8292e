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


# What programs run without.
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "var/lib")


@_one_at_a_time
def root(*names):
    """Folder with the packages `names` and all that they depend on, as one file system."""
    folder = os.path.join(CACHE, "root-" + "-".join(names))
    if os.path.isdir(folder):
        return folder
    part = folder + ".part"
    _run("rm", "-rf", part)
    os.makedirs(os.path.join(part, "deb", "partial"))
    # As if nothing was installed; what the host has beside Debian's archive comes second.
    open(os.path.join(part, "status"), "w").close()
    _run("apt-get", "-qq", "-y", "-t", "bookworm", "-o", f"Dir::State::status={part}/status", "-o",
         f"Dir::Cache::archives={part}/deb", "-o", "Debug::NoLocking=1", "-o", "APT::Install-Recommends=false",
         "-o", "APT::Sandbox::User=root", "--download-only", "install", *names)
    for deb in glob.glob(os.path.join(part, "deb", "*.deb")):
        _run("dpkg", "-x", deb, os.path.join(part, "root"))
    for path in _UNUSED:
        _run("rm", "-rf", os.path.join(part, "root", path))
    os.rename(os.path.join(part, "root"), folder)
    _run("rm", "-rf", part)
    return folder


@_one_at_a_time
def source(package, name, sha256):
    """A source archive of the Debian source package that the binary `package` is made from."""
    path = os.path.join(CACHE, name)
    if not os.path.exists(path):
        uri = subprocess.run(["apt-get", "-qq", "-t", "bookworm", "download", "--print-uris", package],
                             capture_output=True, text=True, check=True).stdout.split("'")[1]
        _run("/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file",
             os.path.dirname(uri) + "/" + name, path + ".part", "SHA256:" + sha256)
        os.rename(path + ".part", path)
    return path


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
def initrd(name, init, busybox="busybox-static", files=None, below=None):
    """
    An initrd of busybox and the shell script `init`; cached by content. `files`: where to put which
    others. `below`: a folder that everything is laid over; such an initrd is large, and not compressed.
    """
    import hashlib

    key = hashlib.sha256((init + busybox + repr((sorted((files or {}).items()), below))).encode()).hexdigest()
    path = os.path.join(CACHE, f"initrd-{name}-{key[:12]}." + ("cpio" if below else "gz"))
    if os.path.exists(path):
        return path
    root = path + ".root"
    _run("rm", "-rf", root)
    if below:
        _run("cp", "-a", below, root)
    for d in ("bin", "dev", "proc", "sys", "tmp"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    _run("cp", os.path.join(unpacked(busybox), "bin", "busybox"), os.path.join(root, "bin", "busybox"))
    for target, source in (files or {}).items():
        os.makedirs(os.path.dirname(os.path.join(root, target)), exist_ok=True)
        _run("cp", source, os.path.join(root, target))
    with open(os.path.join(root, "init"), "w") as f:
        f.write("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n"
                "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n" + init)
    os.chmod(os.path.join(root, "init"), 0o755)
    pack = "cat" if below else "gzip -1"
    subprocess.run(f"find . | cpio -o -H newc --quiet | {pack} > {path}.part", shell=True, cwd=root, check=True)
    os.rename(path + ".part", path)
    _run("rm", "-rf", root)
    return path
