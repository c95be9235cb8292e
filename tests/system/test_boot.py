# SPDX-License-Identifier: Apache-2.0
"""Kernels started directly, to their first user program."""
import glob
import os

import packages
from mobo import Failure, Run

# What makes a processor one of x86-64-v3, and more of its kind.
FLAGS = "abm avx avx2 avx_vnni bmi1 bmi2 f16c fma gfni movbe vaes vpclmulqdq xsave xsavec xsaveopt".split()

CHECK = f"""
echo BOOT-$(uname -m)
for f in {" ".join(FLAGS)}; do grep -qw $f /proc/cpuinfo && echo FLAG-$f; done
dd if=/dev/zero bs=1M count=8 2>/dev/null | sha256sum
grep -c ^processor /proc/cpuinfo
echo DONE
poweroff -f
"""
ZEROS_8M = "2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74"


def host_flags():
    """Those of FLAGS that the host's processor has, in order."""
    with open("/proc/cpuinfo") as f:
        have = next(line for line in f if line.startswith("flags")).split()
    return [flag for flag in FLAGS if flag in have]


def boot(host, kernel, busybox, machine, cpus, timeout, *more):
    initrd = packages.initrd("check", CHECK, busybox)
    with Run(host, "--memory", "512M", "--cpus", str(cpus), "--kernel", packages.kernel(kernel), "--initrd", initrd,
             "--append", "console=ttyS0 panic=-1", *more) as run:
        run.expect("BOOT-" + machine, timeout)
        for flag in host_flags():
            run.expect("FLAG-" + flag, 20)
        run.expect(ZEROS_8M, 60)
        run.expect(rf"\n{cpus}\r?\n", 60)
        run.expect("DONE", 60)
        status = run.finish()
    if status != 0:
        raise Failure(f"the guest powered off, but mobo run ended with {status}")


def test_cloud_kernel(host):
    boot(host, "linux-image-cloud-amd64", "busybox-static", "x86_64", 1, 180)


def test_cloud_kernel_under_chaos(host):
    boot(host, "linux-image-cloud-amd64", "busybox-static", "x86_64", 1, 400,
         "--engine", "translator", "--set", "cpu.chaos=1")


def test_two_cpus(host):
    boot(host, "linux-image-cloud-amd64", "busybox-static", "x86_64", 2, 240)


def test_amd64_kernel(host):
    boot(host, "linux-image-amd64", "busybox-static", "x86_64", 1, 300)


def test_amd64_kernel_with_i386_programs(host):
    boot(host, "linux-image-amd64", "busybox-static:i386", "x86_64", 1, 300)


def test_686_pae_kernel(host):
    boot(host, "linux-image-686-pae:i386", "busybox-static:i386", "i686", 1, 400)


def test_debian_installer(host):
    top = packages.unpacked("debian-installer-12-netboot-amd64")
    (kernel,) = glob.glob(top + "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux")
    initrd = os.path.join(os.path.dirname(kernel), "initrd.gz")
    with Run(host, "--memory", "1200M", "--kernel", kernel, "--initrd", initrd,
             "--append", "console=ttyS0 TERM=linux") as run:
        run.expect("Select a language", 600)


def test_memtest(host):
    from mobo import Machine

    top = packages.unpacked("memtest86+")
    (image,) = glob.glob(top + "/boot/memtest86+x64.bin")
    m = Machine(host, "memtest", "--memory", "16M", "--kernel", image)
    m.start()
    m.wait_screen("Memtest86+ v6.10", 120)
    m.wait_screen("Errors: 0", 120)
    m.off()
