# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process beside a running host: it holds its mounts, runs systemd-nspawn, and starts it again after a reboot."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Optional

from . import cgroups
from .base import Process, children, dump, environment, load, run
from .image import die_with_parent
from .spec import Host, Lab

# --keep-unit makes nspawn end with this when the host reboots.
REBOOTED = 133
SYSCALLS = "@known bpf keyctl add_key perf_event_open"


def argv(lab: Lab, host: Host) -> List[str]:
    """How a host is run: with all that Docker needs, and a network of its own."""
    place = lab.host_dir(host.name)
    command = ["systemd-nspawn", "--quiet", "--boot", "--settings=no", "--directory=" + str(place / "root")]
    command += ["--machine=" + lab.machine(host.name), "--hostname=" + host.name, "--register=no", "--keep-unit"]
    command += ["--network-bridge=" + lab.bridge, "--capability=all", "--system-call-filter=" + SYSCALLS]
    command += [
        "--bind=%s:/var/lib/docker" % (place / "docker"),
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
    ]
    if Path("/dev/net/tun").exists():
        command.append("--bind=/dev/net/tun")
    if Path("/lib/modules").is_dir():
        command.append("--bind-ro=/lib/modules")
    return [*command, "--console=pipe"]


def variables() -> Dict[str, str]:
    """The host gets the kind of control groups that the machine has."""
    unified = any(kind == "cgroup2" and str(mount) == "/sys/fs/cgroup" for kind, mount, _options in cgroups.mounts())
    return {
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1" if unified else "0",
        # What Debian 13's systemd wants to see before it accepts the old kind.
        "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE": "1",
    }


def mount_disk(lab: Lab, host: Host) -> None:
    """Put the host's disk together, seen by our processes alone: it goes with the last of them."""
    place = lab.host_dir(host.name)
    lower = load(place / "host.json")["image"]
    options = "lowerdir=%s,upperdir=%s,workdir=%s" % (lower, place / "upper", place / "work")
    run(["mount", "-t", "overlay", "overlay-lab", "-o", options, str(place / "root")])
    # Where /run is no tmpfs, a reboot stumbles over what is left there.
    Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/systemd/nspawn"])


def supervise(lab: Lab, host: Host) -> int:
    """Run the host until it is off."""
    place = lab.host_dir(host.name)
    me = Process.of(os.getpid())
    dump(place / "supervisor.pid", list(me or ()))
    if not Path("/run/systemd/system").is_dir():
        cgroups.enter(lab.machine(host.name), place / "cgroups.json")
    mount_disk(lab, host)
    code = REBOOTED
    while code == REBOOTED and load(place / "wanted.json") == "on":
        code = run_once(lab, host)
    return code


def run_once(lab: Lab, host: Host) -> int:
    """One life of the host, from its boot to its end."""
    place = lab.host_dir(host.name)
    with (place / "console.log").open("a") as output:
        child = subprocess.Popen(
            argv(lab, host),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(**variables()),
            preexec_fn=die_with_parent,
        )
    while child.poll() is None:
        first = find_leader(child.pid)
        if first:
            dump(place / "leader.pid", list(first))
            break
        time.sleep(0.02)
    return child.wait()


def find_leader(nspawn: int) -> Optional[Process]:
    """The child of nspawn that is PID 1 in namespaces of its own and has become the host's init."""
    for pid in children(nspawn):
        try:
            status = Path("/proc/%d/status" % pid).read_text()
        except OSError:
            continue
        numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(numbers) > 1 and numbers[-1] == "1" and "Name:\tsystemd\n" in status:
            return Process.of(pid)
    return None
