# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt that answers, also where no systemd runs it, and the machine as it was before when it is not needed any more."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import wait_for

# A disk's first sector: counts down from ten million, and writes 0x10 to the port of QEMU's isa-debug-exit, which then ends with status
# 2 * 0x10 + 1.
SECTOR = bytes.fromhex("66b980969800 6649 75fc ba0105 b010 ee f4").ljust(510, b"\0") + b"\x55\xaa"
SECTOR_RAN = 33
DISK = b"".join((SECTOR, bytes(512 * 2047)))
BUS = Path("/run/dbus/system_bus_socket")
# In this order; the folder must be there.
DAEMONS = {
    "dbus": ["dbus-daemon", "--system", "--nofork", "--nopidfile"],
    "virtlogd": ["virtlogd"],
    "libvirtd": ["libvirtd"],
}
KVM = Path("/dev/kvm")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
LAB = Path("/var/lib/multihost-overlay-lab/machine.json")
PREFIX = "vagrant_node"


def guests_run(accelerator: str, seconds: float) -> bool:
    """Whether QEMU runs a small guest in time. That there is a /dev/kvm says little: it may refuse, or be slower than none."""
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(DISK)
        disk.flush()
        machine = ["-nodefaults", "-display", "none", "-no-reboot", "-m", "32", "-accel", accelerator]
        devices = ["-device", "isa-debug-exit,iobase=0x501,iosize=1", "-drive", f"file={disk.name},format=raw"]
        command = ["qemu-system-x86_64", *machine, *devices]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == SECTOR_RAN


def virsh(*words: str, check: bool = True) -> str:
    """What a command of libvirt prints."""
    command = ["virsh", "--connect", "qemu:///system", "--quiet", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 or not check, f"virsh {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout.strip() if done.returncode == 0 else ""


def answers() -> bool:
    return bool(virsh("uri", check=False))


@contextlib.contextmanager
def daemon(name: str, logs: Path) -> Iterator[None]:
    """One daemon, in the foreground of ours, so that it is known by its own id."""
    with (logs / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            DAEMONS[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def kvm_as_udev_makes_it() -> Iterator[None]:
    """Where no udev runs it may be root's alone: libvirtd then finds it used by a QEMU that it asks, and not usable when it looks itself,
    takes what it has learnt of QEMU for outdated, and asks again, four seconds for each call (seen with 9.0)."""
    if not KVM.exists() or KVM.stat().st_mode & stat.S_IRWXG:
        yield
        return
    before = KVM.stat()
    os.chown(KVM, -1, grp.getgrnam("kvm").gr_gid)
    KVM.chmod(0o660)
    try:
        yield
    finally:
        os.chown(KVM, -1, before.st_gid)
        KVM.chmod(stat.S_IMODE(before.st_mode))


@contextlib.contextmanager
def libvirt(logs: Path) -> Iterator[None]:
    """What is there already is used, and left as it is."""
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if not answers():
            BUS.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(kvm_as_udev_makes_it())
            for name in DAEMONS:
                if name != "dbus" or not listens(BUS):
                    stack.enter_context(daemon(name, logs))
                    wait_for("the bus is there", lambda: listens(BUS))
            wait_for(f"libvirtd answers; its log is {logs}/libvirtd.log", answers)
        before = there()
        try:
            yield
        finally:
            remove_leftovers(before)


def listens(path: Path) -> bool:
    """Whether a program waits for connections there; a socket's file outlives its program."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return any(line.endswith(f" {path}") for line in lines)


def there() -> dict[str, list[str]]:
    """What outlives machines: networks that are up, networks, pools, and whether the machine forwards."""
    return {
        "up": virsh("net-list", "--name").split(),
        "networks": virsh("net-list", "--all", "--name").split(),
        "pools": virsh("pool-list", "--all", "--name").split(),
        "forward": [FORWARD.read_text().strip()],
    }


def remove_leftovers(before: dict[str, list[str]]) -> None:
    """The machines, if Vagrant has not, and the networks and pools that came with them."""
    for name in machines():
        virsh("destroy", name, check=False)
        virsh("undefine", name, "--remove-all-storage", check=False)
    remove_images()
    now = there()
    for name in set(now["up"]) - set(before["up"]):
        virsh("net-destroy", name)
    for name in set(now["networks"]) - set(before["networks"]):
        virsh("net-undefine", name)
    for name in set(now["pools"]) - set(before["pools"]):
        virsh("pool-destroy", name, check=False)
        virsh("pool-undefine", name)
    # A lab that is up needs it, and puts it back itself.
    if now["forward"] != before["forward"] and not labs():
        FORWARD.write_text(before["forward"][0])


def machines() -> list[str]:
    """Our domains, running or not."""
    return [name for name in virsh("list", "--all", "--name").split() if name.startswith(PREFIX)]


def remove_images() -> None:
    """The copies of our boxes that vagrant-libvirt leaves in its pool."""
    for line in virsh("vol-list", "default", check=False).splitlines():
        name = line.split()[0]
        if name.startswith(("overlay-bullseye-", PREFIX)):
            virsh("vol-delete", name, "--pool", "default")


def labs() -> list[str]:
    """The labs that are up on this machine."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(LAB.read_text())["labs"]
    return []


def memory() -> int:
    """What is free of this machine's memory, in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) // 1024


def lacks(wanted: int) -> list[str]:
    """What no package brings, and the cure."""
    found = [] if os.geteuid() == 0 else ["must be root: it makes networks and starts libvirtd"]
    if not Path("/dev/net/tun").exists():
        found.append("needs /dev/net/tun: in a container give it that device")
    if memory() < wanted:
        found.append(f"needs {wanted} MiB of free memory for four machines, and {memory()} are free")
    return found
