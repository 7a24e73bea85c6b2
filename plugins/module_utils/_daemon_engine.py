# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the engine of this host and acts on it: systemd, /proc, Docker's socket, the journal. No decisions."""

from __future__ import annotations

import fcntl
import glob
import ipaddress
import os
import re
import shutil
import socket
import struct
import time
from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import (
    Flag,
    environment_file,
    from_argv,
    from_unit,
    merge_unit,
)
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_pending import Running
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import units

UNIT = "docker.service"
SOCKET_UNIT = "docker.socket"
# In systemd's order of precedence: the first directory that has a file of some name wins.
UNIT_DIRS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
GOSSIP_PORT = 7946
SIOCGIFADDR = 0x8915


def read_text(path: str) -> str | None:
    """A file's text, or None when there is none."""
    try:
        with open(path, "rb") as handle:
            return handle.read().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def address_of(name: str) -> str:
    """The IPv4 address of an interface; a name that is no interface (an address, for instance) comes back as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return name
    return socket.inet_ntoa(answer[20:24])


def unit_files(unit: str = UNIT) -> list[tuple[str, str]]:
    """The files on disk that make up a unit, in the order in which systemd reads them: what the next start will use."""
    main = next((f"{place}/{unit}" for place in UNIT_DIRS if os.path.exists(f"{place}/{unit}")), None)
    drop_ins: dict[str, str] = {}
    for place in UNIT_DIRS:
        for path in glob.glob(f"{place}/{unit}.d/*.conf"):
            drop_ins.setdefault(os.path.basename(path), path)
    paths = ([main] if main else []) + [drop_ins[name] for name in sorted(drop_ins)]
    return [(path, read_text(path) or "") for path in paths]


class Engine:
    """The engine behind docker.service."""

    def __init__(self, socket_path: str, timeout: float = 30.0) -> None:
        self.client = DockerClient(socket_path, timeout=timeout)
        self.socket_path = socket_path
        self.properties: dict[str, str] = {}
        self.unit_states: dict[str, dict[str, str]] = {}

    def look(self, others: list[str] | None = None) -> Running:
        """The engine as it is now, and the state of other units in the same call."""
        self.unit_states = units([UNIT, SOCKET_UNIT, *(others or [])])
        self.properties = self.unit_states.pop(UNIT, {})
        listens = self.unit_states.get(SOCKET_UNIT, {}).get("ActiveState") == "active"
        # Whoever asks a socket of systemd starts the engine by it.
        sleeps = listens and self.properties.get("ActiveState") in ("inactive", "failed")
        info = None if sleeps else self.info()
        loaded = self.properties.get("LoadState") == "loaded"
        return Running(
            installed=loaded or info is not None or shutil.which("dockerd") is not None,
            active=info is not None,
            invocation=self.properties.get("InvocationID", "") if info is not None else "",
            kill_mode=self.properties.get("KillMode") or "process",
            info=info,
        )

    def invocation(self) -> str:
        """systemd's number of the last start of the unit, now; empty where it was never started."""
        return units([UNIT]).get(UNIT, {}).get("InvocationID", "")

    def info(self) -> dict[str, Any] | None:
        """What the engine tells of itself; None when it does not answer."""
        try:
            return self.client.info()
        except DockerError:
            return None

    def pid(self) -> str:
        """The running dockerd: systemd's main process, or else the one in the namespace of process 1."""
        main = self.properties.get("MainPID", "0")
        if main not in ("", "0"):
            return main
        for path in glob.glob("/proc/[0-9]*/comm"):
            number = path.split("/")[2]
            if (read_text(path) or "").strip() == "dockerd" and _is_outermost(number):
                return number
        return ""

    def flags(self) -> dict[str, Flag]:
        """The flags that dockerd will be started with the next time; those of the running process if no unit tells."""
        known = from_unit(unit_files(), read_text)
        if known is not None:
            return known
        return from_argv(self.argv(), f"the command line of the running dockerd (process {self.pid()})")

    def environment(self) -> dict[str, str]:
        """The variables that the running dockerd was started with."""
        pid = self.pid()
        text = read_text(f"/proc/{pid}/environ") if pid else None
        return dict(item.split("=", 1) for item in (text or "").split("\0") if "=" in item)

    def argv(self) -> list[str]:
        """The running dockerd's command line; empty when none runs."""
        pid = self.pid()
        return (read_text(f"/proc/{pid}/cmdline") or "").rstrip("\0").split("\0") if pid else []

    def younger(self, paths: list[str]) -> list[str]:
        """Those of some files that were written after the running dockerd was started."""
        started = _started(self.pid())
        return [path for path in paths if started and os.path.exists(path) and os.stat(path).st_mtime > started]

    def other_binary(self) -> str:
        """The program that the unit starts, if the running one is another, or was replaced on the disk since; else nothing."""
        pid = self.pid()
        if not pid:
            return ""
        try:
            runs = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return ""
        words = merge_unit(unit_files()).start.split()
        wanted = words[0] if words else ""
        # Of a file that was replaced under a running program the kernel says so: " (deleted)".
        different = wanted.endswith("/dockerd") and os.path.realpath(wanted) != runs
        return wanted if different else ""

    def has_overlay_networks(self) -> bool | None:
        """Whether the engine knows overlay networks; None if it cannot be asked. Slow over a store."""
        try:
            return bool(self.client.get("/networks", {"filters": {"driver": ["overlay"]}}))
        except DockerError:
            return None

    def containers(self, running: Running) -> list[dict[str, Any]]:
        """The running containers, and what a restart of the engine would do to each."""
        found = []
        for item in self.client.get("/containers/json") or []:
            try:
                policy = self.client.get(f"/containers/{item['Id']}/json")["HostConfig"]["RestartPolicy"]["Name"]
            except DockerError:
                continue  # gone meanwhile
            found.append(
                {
                    "name": (item.get("Names") or [item["Id"]])[0].lstrip("/"),
                    "id": item["Id"],
                    "image": item.get("Image", ""),
                    "restart_policy": policy or "no",
                    "would_die": not (running.live_restore and running.shims_survive),
                }
            )
        return found

    def order(self, verb: str) -> tuple[int, str]:
        """Start, restart or reload the unit, without waiting: a dockerd whose store drops packets takes minutes."""
        if verb != "reload":
            # Also after files changed that systemd was not asked about since; of one that goes before another it says nothing.
            run_program(["systemctl", "daemon-reload"])
            run_program(["systemctl", "reset-failed", UNIT])
        status, out, complaints = run_program(["systemctl", "--no-block", verb, UNIT])
        return status, out + complaints

    def words(self, since: float) -> str:
        """What dockerd itself said since then, without its chatter."""
        # By its own name: what systemd says of the unit is not what dockerd says.
        argv = ["journalctl", "-u", UNIT, "-t", "dockerd", "-o", "cat", "--no-pager", "-n400", f"--since=@{int(since)}"]
        _status, text, _complaints = run_program(argv)
        chatter = re.compile(r"^\s*$|^-- |level=(info|debug)|is deprecated")
        lines = [line for line in text.splitlines() if not chatter.search(line)]
        return "\n".join(lines[-12:]) or "(nothing)"


def _started(pid: str) -> float:
    """When a process was started, in seconds since 1970 (proc(5): starttime in ticks since the boot, btime); 0 where there is none."""
    process, kernel = read_text(f"/proc/{pid}/stat") if pid else None, read_text("/proc/stat")
    booted = re.search(r"^btime (\d+)", kernel or "", re.MULTILINE)
    if not process or not booted:
        return 0.0
    ticks = int(process.rpartition(")")[2].split()[19])
    return int(booted.group(1)) + ticks / os.sysconf("SC_CLK_TCK")


def _is_outermost(pid: str) -> bool:
    """Whether a process lives in the namespace of process 1: a dockerd inside a container is not ours."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/1/ns/pid")
    except OSError:
        return False


def gossips(address: str) -> bool:
    """Whether somebody listens for the overlay's gossip here: dockerd does once it found itself in the store."""
    try:
        with socket.create_connection((address, GOSSIP_PORT), timeout=2):
            return True
    except OSError:
        return False


def environment_wanted(path: str | None) -> dict[str, str]:
    """The variables of the file that the drop-in hands to dockerd."""
    return environment_file(read_text(path) or "") if path else {}


def now() -> float:
    """The time, in one place for the tests."""
    return time.time()
