# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups of a host where no systemd runs the machine: its own below ours, gone with it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from pathlib import Path
from typing import List, Tuple

from .base import dump, load, wait_for


def mounts() -> List[Tuple[str, Path, Tuple[str, ...]]]:
    """Mounted hierarchies: kind, place, controllers (named as in /proc/self/cgroup; none for cgroup2)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _dash, rest = line.partition(" - ")
        kind, _source, options = rest.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            found.append((kind, Path(fields.split()[4]), tuple(options.split(","))))
    return found


def own() -> List[Tuple[Tuple[str, ...], str]]:
    """Our own place in each hierarchy."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return [(tuple(name for name in names.split(",") if name), path) for _number, names, path in lines]


def places(machine: str) -> List[Path]:
    """Where a host's own groups belong: below ours, whatever limits those have."""
    found = []
    for names, path in own():
        for kind, mount, options in mounts():
            if (not names and kind == "cgroup2") or (names and kind == "cgroup" and set(names) <= set(options)):
                found.append(mount / path.lstrip("/") / ("overlay-lab-" + machine))
                break
    return [path for path in found if path.parent.is_dir()]


def enter(machine: str, record: Path) -> None:
    """Make a host's groups and go in; what we start from here on is born there."""
    paths = places(machine)
    dump(record, [str(path) for path in paths])
    for path in paths:
        path.mkdir(exist_ok=True)
        inherit_cpuset(path)
        delegate(path)
        (path / "cgroup.procs").write_text("%d\n" % os.getpid())


def inherit_cpuset(path: Path) -> None:
    """A new cpuset is empty, and an empty one takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        target = path / name
        if target.exists() and (path / "cpuset.sched_load_balance").exists() and not target.read_text().strip():
            target.write_text((path.parent / name).read_text())


def delegate(path: Path) -> None:
    """cgroup2: hand down the controllers as far as the machine lets us."""
    control = path.parent / "cgroup.subtree_control"
    for name in ("cpuset", "cpu", "io", "memory", "pids") if control.exists() else ():
        with contextlib.suppress(OSError):
            control.write_text("+%s\n" % name)


def leave(record: Path) -> None:
    """Remove a host's groups, what it made below, and who is still in there (its supervisor may have died first)."""
    for path in (Path(text) for text in load(record, [])):
        if path.is_dir() and path.name.startswith("overlay-lab-"):
            what = "%s cannot be removed: a process in it does not die" % path
            wait_for(what, functools.partial(empty, path), 15, 0.05)
    with contextlib.suppress(FileNotFoundError):
        record.unlink()


def empty(path: Path) -> bool:
    """Kill who is in a group, and remove it from below."""
    for place, _directories, _files in os.walk(str(path), topdown=False):
        with contextlib.suppress(OSError):
            for text in Path(place, "cgroup.procs").read_text().split():
                os.kill(int(text), signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.rmdir(place)
    return not path.exists()
