# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the engine and the Consul of a host for an upgrade, notes what there is to go back to, and goes back."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any, Dict, List, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils import _published_ports as published_ports
from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_packages as packages
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_engine import Engine, read_text, unit_files
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import merge_unit
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_pending import Running
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import (
    STATE_DIR,
    make_directories,
    write_atomic,
)
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import units

Json = Dict[str, Any]
FOLDER = STATE_DIR + "/upgrade"
UNITS = {"engine": "docker.service", "consul": "multihost-overlay-consul.service"}
SOCKETS = {"engine": ["docker.socket"], "consul": []}
CONTAINERD = "containerd.service"
DELETED = " (deleted)"
# systemd gives up on a Consul that does not join after overlay_consul_wait; an engine that waits for a store takes longest.
STARTS = 600.0
NO_PACKAGE: Json = {
    "package": "", "packages": {}, "changes": [], "removed": [], "held": [], "broken": [], "older": False,
}  # fmt: skip


# --- read ---


def _running(pid: str) -> str:
    """The program that a process runs, as the kernel names it; empty where there is none."""
    try:
        return os.readlink(f"/proc/{pid}/exe") if pid not in ("", "0") else ""
    except OSError:
        return ""


def _main_pid(unit: str) -> str:
    return units([unit]).get(unit, {}).get("MainPID", "0")


def _program(unit: str, runs: str) -> str:
    """The program that runs, or else the one that the unit would start."""
    words = merge_unit(unit_files(unit)).start.split()
    return runs.replace(DELETED, "") or (words[0].lstrip("-+!@:") if words else "")


def _version(argv: List[str]) -> str:
    found = re.search(r"\d+(\.\d+)+[^\s,]*", run_program(argv)[1])
    return found.group(0) if found else ""


def _packages(program: str, wanted: Mapping[str, Any]) -> Json:
    package = packages.owner(program) if program and wanted["source"] == "packages" else ""
    return packages.look(package, wanted["series"], wanted["unhold"]) if package else dict(NO_PACKAGE)


def read_consul(wanted: Mapping[str, Any]) -> Json:
    """Our Consul: which one runs, and what its packages offer."""
    pid = _main_pid(UNITS["consul"])
    runs = _running(pid)
    program = _program(UNITS["consul"], runs)
    return {
        "installed": bool(program),
        "running": bool(runs),
        "program": program,
        # Also of a program that is on the disk no more.
        "version": _version([f"/proc/{pid}/exe" if runs else program, "version"]) if program else "",
        "replaced": ["consul"] if runs.endswith(DELETED) else [],
        **_packages(program, wanted),
    }


def read_engine(wanted: Mapping[str, Any]) -> Json:
    """The engine: which one runs with which containers, and what its packages offer."""
    engine = Engine("/var/run/docker.sock")
    running = engine.look()
    runs = _running(engine.pid())
    program = _program(UNITS["engine"], runs)
    found = _packages(program, wanted)
    return {
        "installed": bool(program),
        "running": running.active,
        "program": program,
        "version": str((running.info or {}).get("ServerVersion") or _version([program, "--version"]))
        if program
        else "",
        "replaced": _replaced(runs, found["package"]),
        "containers": _names(engine, running),
        "live_restore": running.live_restore,
        "shims_survive": running.shims_survive,
        **found,
    }


def _replaced(runs: str, package: str) -> List[str]:
    """Which programs of the engine run though their files were replaced."""
    found = ["dockerd"] if runs.endswith(DELETED) else []
    # An archive's engine leaves the host's containerd alone.
    return found + (["containerd"] if package and _running(_main_pid(CONTAINERD)).endswith(DELETED) else [])


def _names(engine: Engine, running: Running) -> List[str]:
    return [entry["name"] for entry in engine.containers(running)] if running.containers else []


# --- keep, go on, go back ---


def _record_path(program: str) -> str:
    return f"{FOLDER}/{program}.json"


def record(program: str) -> Json:
    """What there is to go back to; empty where nothing was noted."""
    text = read_text(_record_path(program))
    return dict(json.loads(text)) if text else {}


def keep(program: str, target: str, files: List[str], present: Mapping[str, str]) -> Json:
    """Note it, unless a run to the same target has: what is there now may be half of that one."""
    found = record(program)
    if found.get("to") == target:
        return found
    make_directories(FOLDER)
    os.chmod(FOLDER, 0o700)
    found = {
        "to": target,
        "files": {path: _kept_file(path) for path in files},
        "versions": dict(present),
        "packages": packages.keep(dict(present), FOLDER),
    }
    write_atomic(_record_path(program), (json.dumps(found, indent=2) + "\n").encode(), 0o600)
    return found


def _kept_file(path: str) -> Json | None:
    text = read_text(path)
    return None if text is None else {"content": text, "mode": os.stat(path).st_mode & 0o7777}


def replace(specs: List[str], free: bool) -> None:
    """Put the packages in place. containerd is restarted at once: its containers, and the engine, live on."""
    packages.install(specs, free)
    run_program(["systemctl", "daemon-reload"])
    if _running(_main_pid(CONTAINERD)).endswith(DELETED):
        run_program(["systemctl", "restart", CONTAINERD], timeout=STARTS)


def go_back(program: str, target: str, wait: float) -> Json:
    """Put back what was noted, and start it: whether it runs, and what is to be said of it."""
    found = record(program)
    # A note for another target is of an earlier upgrade.
    if found.get("to") != target:
        return {"back": False, "words": "nothing was noted before it failed, so nothing was changed there."}
    _restore_files(found["files"])
    lacking = _restore_packages(found)
    with published_ports.kept(2 * wait):
        runs = _start(program, wait)
    return {"back": runs and not lacking, "words": _words(program, found, lacking, runs)}


def _restore_files(files: Mapping[str, Json | None]) -> None:
    for path, kept in files.items():
        if kept is not None:
            write_atomic(path, kept["content"].encode(), kept["mode"])
        elif os.path.exists(path):
            os.unlink(path)


def _restore_packages(found: Json) -> List[str]:
    """Install those of before that differ; which of them cannot be had."""
    now = packages.installed(list(found["versions"])) if found["versions"] else {}
    differ = {
        name: version
        for name, version in found["versions"].items()
        if now.get(name) != {"version": version, "state": "installed"}
    }
    paths = [found["packages"][name] for name in differ if os.path.exists(found["packages"].get(name, ""))]
    if paths:
        replace(paths, free=True)
    return [f"{name}={version}" for name, version in differ.items() if name not in found["packages"]]


def _start(program: str, wait: float) -> bool:
    """Start it anew, whatever it was, and wait until it is there."""
    unit = UNITS[program]
    run_program(["systemctl", "daemon-reload"])
    run_program(["systemctl", "reset-failed", unit, *SOCKETS[program]])
    for socket in SOCKETS[program]:
        run_program(["systemctl", "start", socket])
    run_program(["systemctl", "--no-block", "restart", unit])
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        time.sleep(1)
        if _is_up(program):
            return True
    return False


def _is_up(program: str) -> bool:
    if program == "engine":
        return Engine("/var/run/docker.sock", timeout=5).look().active
    return units([UNITS[program]]).get(UNITS[program], {}).get("ActiveState") == "active"


def _words(program: str, found: Json, lacking: List[str], runs: bool) -> str:
    if lacking:
        return (
            f"these packages of before could not be had from the package sources, so that they are NOT back: {' '.join(lacking)}. Get"
            f" them, then: apt-get install --allow-downgrades ./*.deb && systemctl restart {UNITS[program]}."
        )
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    state = "runs" if runs else f"DOES NOT RUN either: journalctl -u {UNITS[program]}"
    return f"what was there before is back{f' ({versions})' if versions else ''} and {state}."
