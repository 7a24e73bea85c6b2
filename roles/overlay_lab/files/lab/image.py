# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of Debian releases: built once with debootstrap, kept, and whole or not there."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import List
from urllib.parse import urlsplit

from . import cache
from .base import LabError, Log, environment, load, locked, write
from .machine import KEYRING, apt_dates
from .spec import Lab

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "python3", "python3-apt", "openssh-server"),
    *("ca-certificates", "iproute2", "iptables", "iputils-ping", "nftables"),
)
# nspawn leaves the controllers of cgroup v1 read-only, and Docker has to write there.
WRITABLE = """#!/bin/sh
while read -r _ place kind _; do
    case "$kind" in cgroup | cgroup2) mount -o remount,bind,rw "$place" || true ;; esac
done < /proc/mounts
"""
WRITABLE_UNIT = """[Unit]
Description=Make this host's control groups writable
DefaultDependencies=no
Before=sysinit.target
ConditionVirtualization=container

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/lab-writable

[Install]
WantedBy=sysinit.target
"""
SSHD = "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n"
# Slow networks may keep apt waiting for a file that the cache fetches for another host just now.
APT = 'Acquire::Languages "none";\nAcquire::http::Timeout "600";\nAcquire::Retries "3";\n'
FILES = {
    "usr/local/lib/lab-writable": (WRITABLE, 0o755),
    "etc/systemd/system/lab-writable.service": (WRITABLE_UNIT, 0o644),
    "etc/ssh/sshd_config.d/lab.conf": (SSHD, 0o644),
    # A host of the lab does not outlive its machine: waiting for the disk at each file buys nothing.
    "etc/dpkg/dpkg.cfg.d/lab": ("force-unsafe-io\n", 0o644),
    "etc/machine-id": ("", 0o644),
    "etc/hostname": ("localhost\n", 0o644),
}
ENABLED = ("systemd-networkd.service", "ssh.service", "lab-writable.service")
# Timers of apt would take its lock from whoever tests just then; there is no console to log in at.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "getty.target")


def path_of(lab: Lab, release: str) -> Path:
    """Where an image of our recipe lies: another recipe, another place."""
    recipe = json.dumps([PACKAGES, sorted(FILES.items()), ENABLED, MASKED, APT])
    return lab.images / ("%s-%s" % (release, hashlib.sha256(recipe.encode()).hexdigest()[:8]))


def ensure_image(lab: Lab, log: Log, release: str) -> Path:
    """The image, built if it is not there; it gets its name when it is complete, so a kill leaves none by half."""
    path = path_of(lab, release)
    if path.is_dir() or not log.act("build the image of %s" % release):
        return path
    with locked(lab.images / (".%s.lock" % release), 1800):
        if not path.is_dir():
            temporary = lab.images / (".building-%s" % release)
            remove_tree(temporary)
            build(lab, release, temporary)
            os.rename(str(temporary), str(path))
            remove_unused(lab, release, path)
    return path


def remove_unused(lab: Lab, release: str, current: Path) -> None:
    """Images of an earlier recipe go, unless a host lives on one."""
    used = {load(path)["image"] for path in lab.base.glob("*/hosts/*/host.json")} | {str(current)}
    for path in lab.images.glob(release + "-*"):
        if str(path) not in used:
            remove_tree(path)


def build(lab: Lab, release: str, root: Path) -> None:
    """All steps of the recipe, in a folder that has no other use."""
    root.mkdir(parents=True)
    mirror = lab.wanted["mirror"]
    argv = ["debootstrap", "--variant=minbase", "--keyring=" + KEYRING, "--include=" + ",".join(PACKAGES)]
    contained([*argv, release, str(root), mirror], lab.dir / ("debootstrap-%s.log" % release), proxy(lab))
    for name, (text, mode) in FILES.items():
        write(root / name, text, mode)
    write(root / "etc/apt/apt.conf.d/80lab", APT + "".join(line + "\n" for line in apt_dates()))
    write(root / "etc/apt/sources.list", "deb %s %s main\n" % (mirror, release))
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    contained(["systemctl", "--root=" + str(root), "enable", *ENABLED], lab.dir / ("debootstrap-%s.log" % release), {})
    contained(["systemctl", "--root=" + str(root), "mask", *MASKED], lab.dir / ("debootstrap-%s.log" % release), {})
    update = ["chroot", str(root), "apt-get", "-q", "update", "-o", "Acquire::http::Proxy=" + cache.url(lab)]
    contained(update, lab.dir / ("debootstrap-%s.log" % release), {})
    contained(["chroot", str(root), "apt-get", "clean"], lab.dir / ("debootstrap-%s.log" % release), {})


def proxy(lab: Lab) -> dict:
    """The cache keeps what goes over http; https is the mirror's own matter."""
    return {"http_proxy": cache.url(lab)} if urlsplit(lab.wanted["mirror"]).scheme == "http" else {}


def contained(argv: List[str], log: Path, env: dict) -> None:
    """Run with mounts and processes of its own, so that nothing of it is left, even if we are killed meanwhile."""
    inner = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]
    with log.open("a") as output:
        code = subprocess.call(
            inner,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(**env),
            preexec_fn=die_with_parent,
        )
    if code:
        words = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise LabError("%s failed with status %d; the whole log is %s. Its end:\n%s" % (argv[0], code, log, words))


def die_with_parent() -> None:
    """In a child: be killed when the parent is."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)


def remove_tree(path: Path) -> None:
    """Remove a folder, but never through something that is mounted in it."""
    prefix = str(path.resolve()) + "/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(prefix):
            raise LabError("%s is still mounted: umount it and try again" % line.split()[4])
    if path.exists():
        shutil.rmtree(str(path))


def remove_images(lab: Lab, log: Log) -> None:
    """Images and cache go when asked for, unless another lab needs them."""
    others = load(lab.base / "machine.json", {"labs": []})["labs"]
    if others:
        raise LabError("images and cache are in use by the labs %s: take those down first" % ", ".join(others))
    for path in (lab.images, lab.cache):
        if path.exists() and log.act("remove %s" % path):
            remove_tree(path)
