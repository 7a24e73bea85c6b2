# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt would do about a program's packages, and makes it do so without any program being started by a package."""

from __future__ import annotations

import glob
import os
import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List
from urllib.parse import quote

from ansible_collections.multihost.overlay.plugins.module_utils._manifest import make_directories, write_atomic
from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner, run_program

Json = Dict[str, Any]
# What goes with the package that has the program.
TOGETHER = {
    "docker.io": ["docker.io", "containerd", "runc", "docker-cli"],
    "docker-ce": ["docker-ce", "docker-ce-cli", "containerd.io"],
    "consul": ["consul"],
}
POLICY = "/usr/sbin/policy-rc.d"
ASIDE = POLICY + ".multihost-overlay"
MARK = "# multihost.overlay: no program is started or restarted by a package while it upgrades.\n"
ARCHIVES = "/var/cache/apt/archives"
INSTALL = re.compile(r"^Inst (?P<name>\S+)(?: \[(?P<old>[^]]+)\])? \((?P<new>\S+)", re.MULTILINE)
REMOVE = re.compile(r"^Remv (\S+)", re.MULTILINE)
ENOUGH = 1800.0
LISTS = 300.0


class PackagesError(Exception):
    """apt does not do it; the message has its own words."""


def owner(program: str, run: Runner = run_program) -> str:
    """The package that a program is of, if it is one that we know; empty otherwise."""
    status, text, _complaints = run(["dpkg", "-S", program])
    name = text.split(":", 1)[0].strip() if status == 0 else ""
    return name if name in TOGETHER else ""


def installed(names: List[str], run: Runner = run_program) -> Dict[str, Dict[str, str]]:
    """name -> version and state of those packages that dpkg knows."""
    _status, text, _complaints = run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n", *names])
    rows = [line.split() for line in text.splitlines()]
    # Of a package that is only known by name there is no version.
    return {row[0]: {"version": row[1], "state": row[2]} for row in rows if len(row) == 3 and row[2] != "config-files"}


def simulated(text: str) -> Json:
    """The changes that `apt-get --simulate` tells."""
    changes = [{"name": one["name"], "old": one["old"] or "", "new": one["new"]} for one in INSTALL.finditer(text)]
    return {"changes": changes, "removed": REMOVE.findall(text)}


def look(package: str, series: str, unhold: bool, run: Runner = run_program) -> Json:
    """What there is of a program's packages, and what apt would make of it. ``series`` are the versions of docker-ce that may be."""
    known = installed(TOGETHER[package], run)
    _status, text, _complaints = run(["apt-mark", "showhold", *known])
    held = [] if unhold else [name for name in text.split() if name in known]
    wanted = [name + (f"={series}" if name.startswith("docker-ce") else "") for name in known if name not in held]
    found = {
        "package": package,
        "packages": {name: row["version"] for name, row in known.items()},
        "held": held,
        "broken": sorted(name for name, row in known.items() if row["state"] != "installed"),
        **_simulate(wanted, unhold, run),
    }
    return dict(found, older=any(_is_older(step, run) for step in found["changes"] if step["name"] == package))


def _simulate(wanted: List[str], unhold: bool, run: Runner) -> Json:
    if not wanted:
        return simulated("")
    free = ["--allow-change-held-packages"] if unhold else []
    status, text, complaints = run(["apt-get", "-s", "-q", "--no-install-recommends", *free, "install", *wanted])
    if status and "dpkg --configure -a" not in complaints:
        raise PackagesError(f"apt-get cannot tell what it would do with {', '.join(wanted)}: {complaints.strip()}")
    return simulated(text)


def _is_older(step: Json, run: Runner) -> bool:
    return bool(step["old"]) and run(["dpkg", "--compare-versions", step["new"], "lt", step["old"]])[0] == 0


def refresh(run: Runner = run_program) -> None:
    """Read the package sources anew."""
    status, _text, complaints = run(["apt-get", "-q", "update"], timeout=LISTS)
    if status:
        raise PackagesError(f"apt-get update failed: {complaints.strip()}")


@contextmanager
def nothing_starts() -> Iterator[None]:
    """While the block runs packages start and restart nothing. What was there comes back, after a killed run with the next."""
    if os.path.exists(POLICY) and not _is_ours():
        os.replace(POLICY, ASIDE)
    write_atomic(POLICY, f"#!/bin/sh\n{MARK}exit 101\n".encode(), 0o755)
    try:
        yield
    finally:
        os.unlink(POLICY)
        if os.path.exists(ASIDE):
            os.replace(ASIDE, POLICY)


def _is_ours() -> bool:
    with open(POLICY, "rb") as handle:
        return MARK.encode() in handle.read()


def install(specs: List[str], free: bool, run: Runner = run_program) -> None:
    """Finish what was begun, and install exactly these. ``free`` also downgrades, and changes what is on hold."""
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"]
    options = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    options += ["-o", f"DPkg::Lock::Timeout={LISTS:.0f}", "--no-install-recommends"]
    options += ["--allow-downgrades", "--allow-change-held-packages"] if free else []
    autos = _automatic(specs, run)
    with nothing_starts():
        status, text, complaints = run([*quiet, "dpkg", "--configure", "-a", "--force-confold"], timeout=ENOUGH)
        if specs and not status:
            status, text, complaints = run([*quiet, "apt-get", "-y", "-q", *options, "install", *specs], timeout=ENOUGH)
    if status:
        raise PackagesError(f"apt-get install {' '.join(specs)} failed: {(complaints or text).strip()[-2000:]}")
    if autos:
        run(["apt-mark", "auto", *autos])


def _automatic(specs: List[str], run: Runner) -> List[str]:
    """Those that are there for others alone, which apt forgets of what it is asked for by name. A file is named as its package."""
    names = [os.path.basename(spec).split("=")[0].split("_")[0] for spec in specs]
    return run(["apt-mark", "showauto", *names])[1].split() if names else []


def keep(packages: Dict[str, str], folder: str, run: Runner = run_program) -> Dict[str, str]:
    """Have the files of the present packages in a folder, as far as they can be had: name -> path."""
    make_directories(folder)
    kept = {}
    for name, version in packages.items():
        path = _file(folder, name, version)
        if not path:
            run(["sh", "-c", 'cd "$0" && exec apt-get -q download "$1"', folder, f"{name}={version}"], timeout=LISTS)
            path = _file(folder, name, version) or _file(ARCHIVES, name, version)
        if path:
            kept[name] = path
    return kept


def _file(folder: str, name: str, version: str) -> str:
    # apt writes an epoch's colon as %3a.
    found = glob.glob(f"{glob.escape(folder)}/{name}_{quote(version, safe='+~').replace('%3A', '%3a')}_*.deb")
    return found[0] if found else ""
