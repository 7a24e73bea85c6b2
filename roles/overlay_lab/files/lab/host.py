# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host: its disk, its identity, its start and its ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Dict, List, Optional

from . import cache, cgroups, image
from .base import LabError, Log, Process, dump, load, ok, run, spawn, wait_for, write
from .spec import Host, Lab

# What systemd takes as: power off, reboot.
POWEROFF, REBOOT = signal.SIGRTMIN + 4, signal.SIGRTMIN + 5


def ensure_key(lab: Lab, log: Log) -> None:
    """The lab's own key to its hosts."""
    key = lab.dir / "id_ed25519"
    if (not key.exists() or not key.with_suffix(".pub").exists()) and log.act("make the lab's key"):
        make_key(key, "overlay-lab-" + lab.name)


def make_key(path: Path, comment: str) -> None:
    """A new key pair, in place when both parts are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".new-" + path.name)
    for left in (temporary, temporary.with_suffix(".pub")):
        with contextlib.suppress(FileNotFoundError):
            left.unlink()
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(temporary)])
    os.replace(str(temporary) + ".pub", str(path) + ".pub")
    os.replace(str(temporary), str(path))


def files_of(lab: Lab, host: Host) -> Dict[str, str]:
    """What makes a host of an image."""
    servers = "".join("nameserver %s\n" % server for server in lab.wanted["nameservers"])
    network = "[Match]\nName=host0\n\n[Network]\nAddress=%s/%d\nGateway=%s\nIPv6AcceptRA=no\n"
    # https cannot be cached: it goes past the cache.
    proxy = 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "DIRECT";\n' % cache.url(lab)
    return {
        "etc/hostname": host.name + "\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n" % host.name,
        "etc/resolv.conf": servers,
        "etc/systemd/network/10-lab.network": network % (host.address, lab.network.prefixlen, lab.gateway),
        "etc/apt/apt.conf.d/90lab-cache": proxy,
        "root/.ssh/authorized_keys": (lab.dir / "id_ed25519.pub").read_text(),
    }


def ensure_disk(lab: Lab, log: Log, host: Host) -> None:
    """A host's disk: what differs from its image, and Docker's folder (which cannot lie on an overlay)."""
    place = lab.host_dir(host.name)
    have = load(place / "host.json")
    if have and have["release"] != host.release:
        words = "host %s was made of %s, not of %s: take the lab down first (playbooks/lab_down.yml)"
        raise LabError(words % (host.name, have["release"], host.release))
    if log.check:
        if not have:
            log.act("make host %s" % host.name)
        return
    files = files_of(lab, host)
    state = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    if have and have["files"] == state:
        return
    log.act("%s host %s" % ("change" if have else "make", host.name))
    if have and supervisor(lab, host):
        stop(lab, log, host)
    base = Path(have["image"]) if have else image.path_of(lab, host.release)
    write_disk(lab, host, files)
    dump(place / "host.json", {"address": host.address, "release": host.release, "image": str(base), "files": state})


def write_disk(lab: Lab, host: Host, files: Dict[str, str]) -> None:
    """Write what is a host's own; its host key is made once."""
    place = lab.host_dir(host.name)
    for name in ("upper", "work", "root", "docker"):
        (place / name).mkdir(parents=True, exist_ok=True)
    os.chmod(str(place), 0o700)
    for name, text in files.items():
        if name == "etc/resolv.conf":
            write(place / "upper" / name, text)
        elif name.startswith("root/"):
            (place / "upper/root/.ssh").mkdir(parents=True, exist_ok=True)
            os.chmod(str(place / "upper/root"), 0o700)
            os.chmod(str(place / "upper/root/.ssh"), 0o700)
            write(place / "upper" / name, text, 0o600)
        else:
            write(place / "upper" / name, text)
    key = place / "upper/etc/ssh/ssh_host_ed25519_key"
    if not key.exists():
        make_key(key, "root@" + host.name)
    # Left alone, systemd takes the machine-id from the virtual machine that the lab may run in: the same on all.
    machine_id = place / "upper/etc/machine-id"
    if not machine_id.exists() or not machine_id.read_text().strip():
        write(machine_id, uuid.uuid4().hex + "\n")


def ensure_known_hosts(lab: Lab, log: Log) -> None:
    """The hosts' keys are known from here, not taken from whoever answers first."""
    if log.check:
        return
    lines = []
    for host in lab.hosts:
        public = lab.host_dir(host.name) / "upper/etc/ssh/ssh_host_ed25519_key.pub"
        lines.append("%s,%s %s\n" % (host.address, host.name, " ".join(public.read_text().split()[:2])))
    if write(lab.dir / "known_hosts", "".join(lines), 0o644):
        log.act("write known_hosts")


def supervisor(lab: Lab, host: Host) -> Optional[Process]:
    """The process that keeps a host running."""
    return Process.load(lab.host_dir(host.name) / "supervisor.pid")


def leader(lab: Lab, host: Host) -> Optional[Process]:
    """The host's own PID 1, as this machine sees it."""
    return Process.load(lab.host_dir(host.name) / "leader.pid")


def start(lab: Lab, log: Log, host: Host) -> None:
    """Start a host that is off."""
    if supervisor(lab, host) or not log.act("start %s" % host.name):
        return
    place = lab.host_dir(host.name)
    if not Path(load(place / "host.json")["image"]).is_dir():
        raise LabError(
            "the image of host %s is gone: take the lab down (playbooks/lab_down.yml) and up again" % host.name
        )
    finish(lab, host)
    dump(place / "wanted.json", "on")
    program = str(Path(__file__).resolve().parent.parent / "labctl.py")
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, program]
    argv += ["--dir", str(lab.base), "--name", lab.name, "supervise", host.name]
    if by_systemd():
        # There the machine's systemd cares for the control groups, and takes back what is left of a unit that failed.
        console = "append:%s" % (place / "console.log")
        properties = ["Delegate=yes", "KillMode=mixed", "StandardOutput=" + console, "StandardError=" + console]
        options = [
            "--quiet",
            "--collect",
            "--unit=" + new_unit(lab, host),
            *("--property=" + item for item in properties),
        ]
        run(["systemd-run", *options, "--", *argv])
    else:
        with (place / "console.log").open("a") as output:
            spawn(argv, output)
    wait_for("host %s does not start; see %s" % (host.name, place / "console.log"), lambda: leader(lab, host), 30, 0.05)


def by_systemd() -> bool:
    """Does systemd run this machine? Then each supervisor is a unit of it."""
    return Path("/run/systemd/system").is_dir()


def new_unit(lab: Lab, host: Host) -> str:
    """A name that no unit had: systemd may take a minute to forget one whose processes are long dead."""
    name = "overlay-lab-%s-%d.service" % (lab.machine(host.name), time.time_ns())
    dump(lab.host_dir(host.name) / "unit.json", name)
    return name


def end_unit(place: Path) -> None:
    """End who is left in a host's unit."""
    name = load(place / "unit.json")
    if name:
        ok(["systemctl", "kill", "--signal=KILL", name])
        ok(["systemctl", "stop", "--no-block", name])
        (place / "unit.json").unlink()


def clean(lab: Lab, host: Host) -> None:
    """What a host that died may have left: processes in its control groups, these, its end of the cable."""
    place = lab.host_dir(host.name)
    end_unit(place)
    cgroups.leave(place / "cgroups.json")
    for name in ("leader.pid", "supervisor.pid"):
        with contextlib.suppress(FileNotFoundError):
            (place / name).unlink()
    name = "vb-" + lab.machine(host.name)
    with contextlib.suppress(LabError):
        # The kernel takes a dead host's network apart a moment later; a second cable of that name would be refused.
        wait_for("", lambda: not ok(["ip", "link", "show", "dev", name]), 3, 0.05)
        return
    run(["ip", "link", "del", "dev", name], check=False)


def off(lab: Lab, host: Host) -> None:
    """Tell the supervisor not to start the host again."""
    dump(lab.host_dir(host.name) / "wanted.json", "off")


def stop(lab: Lab, log: Log, host: Host, seconds: float = 90) -> None:
    """Shut a host down in order; one that will not is cut."""
    first = leader(lab, host)
    if is_on(lab, host) and log.act("stop %s" % host.name):
        off(lab, host)
        if first:
            first.kill(POWEROFF)
            try:
                wait_for("", lambda: not first.alive(), seconds)
            except LabError:
                log.act("%s did not stop within %d s: cut" % (host.name, seconds))
        finish(lab, host)


def cut(lab: Lab, log: Log, host: Host) -> None:
    """The plug is pulled: no process of the host runs another instruction."""
    if is_on(lab, host) and log.act("cut %s" % host.name):
        off(lab, host)
        finish(lab, host)


def is_on(lab: Lab, host: Host) -> bool:
    """Is anything of the host alive? (Its supervisor may have been killed, and a boot may not be at its PID 1 yet.)"""
    return bool(supervisor(lab, host) or leader(lab, host))


def finish(lab: Lab, host: Host) -> None:
    """Kill what is left of a host, the host first: its supervisor then sees that it is to end."""
    for process in (leader(lab, host), supervisor(lab, host)):
        if process:
            process.kill()
            wait_for("process %d of %s does not die" % (process.pid, host.name), process.dead, 10, 0.02)
    clean(lab, host)


def reboot(lab: Lab, log: Log, host: Host) -> None:
    """The host reboots itself, as its own `reboot` does."""
    first = leader(lab, host)
    if not first:
        raise LabError("host %s is off: start it" % host.name)
    if log.act("reboot %s" % host.name):
        first.kill(REBOOT)
        place = host.name
        wait_for("host %s does not come back" % place, lambda: (leader(lab, host) or first) != first, 120, 0.05)


def inside(first: Process, argv: List[str]) -> List[str]:
    """A command within a running host."""
    return ["nsenter", "--target", str(first.pid), "--all", "--", *argv]


def state(lab: Lab, host: Host) -> str:
    """What systemd in the host says of it."""
    first = leader(lab, host)
    if not first:
        return "starting" if supervisor(lab, host) else "off"
    if not supervisor(lab, host):
        return "unsupervised"
    with contextlib.suppress(LabError):
        return run(inside(first, ["systemctl", "is-system-running"]), check=False, timeout=20).strip() or "starting"
    return "starting"


def answers(address: str) -> bool:
    """Does its sshd greet?"""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            connection.settimeout(5)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait(lab: Lab, host: Host, seconds: float) -> None:
    """Until the host has booted and can be logged in to."""
    where = "see %s" % (lab.host_dir(host.name) / "console.log")
    what = "sshd of %s (%s) does not answer; %s" % (host.name, host.address, where)
    wait_for(what, lambda: answers(host.address), seconds, 0.2)
    ready = ("running", "degraded")
    wait_for("%s does not finish booting; %s" % (host.name, where), lambda: state(lab, host) in ready, seconds, 0.3)


def describe(lab: Lab, host: Host) -> Dict[str, Any]:
    """A host for `status`."""
    first = leader(lab, host)
    return {
        "address": host.address,
        "release": host.release,
        "state": state(lab, host),
        "ssh": answers(host.address),
        "pid": first.pid if first else None,
    }
