# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The place of one run on a host: a directory in /run that root alone reads, with a lock that its agent holds."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from contextlib import suppress
from typing import Any, Dict, List, Sequence

BASE = "/run/multihost-overlay"
# Whose runs they are: the proof's of the overlay, or the probe's of the underlay.
VERIFY, PROBE = "verify", "probe"
# What is in it: the plan; later that this host's endpoints are up, that those of all hosts are (told by the controller), the result.
PLAN, READY, TOGETHER, RESULT = "plan.json", "ready.json", "together.json", "result.json"
Json = Dict[str, Any]


def directory(run: str, base: str = BASE, *, kind: str = VERIFY) -> str:
    """Where a run keeps its plan, log and result."""
    return os.path.join(base, f"{kind}-{run}")


def create(run: str, plan: Json, base: str = BASE, *, kind: str = VERIFY) -> int:
    """Make the directory of a run, locked; return the lock. It fails when the run has one already."""
    # It gets its name only when it is locked: an unlocked one would pass for a dead run's.
    nascent = os.path.join(base, f"new-{kind}-{run}")
    try:
        os.makedirs(base, mode=0o755, exist_ok=True)
        os.mkdir(nascent, 0o700)
    except FileNotFoundError:  # another run's end took the empty directory away in between
        os.makedirs(base, mode=0o755, exist_ok=True)
        os.mkdir(nascent, 0o700)
    descriptor = os.open(os.path.join(nascent, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    write_json(nascent, PLAN, plan)
    os.rename(nascent, directory(run, base, kind=kind))
    return descriptor


def write_json(path: str, name: str, content: Json) -> None:
    """Write a file that is there as a whole or not at all."""
    temporary = os.path.join(path, name + ".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    os.replace(temporary, os.path.join(path, name))


def read_json(path: str, name: str) -> Json | None:
    """Return a file's content, or None while it is not there."""
    try:
        with open(os.path.join(path, name), encoding="utf-8") as stream:
            content: Json = json.load(stream)
            return content
    except (OSError, ValueError):
        return None


def _held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def alive(run: str, base: str = BASE, *, kind: str = VERIFY) -> bool:
    """Whether the agent of a run lives: by its lock, since a process number may belong to another by now."""
    try:
        descriptor = os.open(os.path.join(directory(run, base, kind=kind), "lock"), os.O_RDWR)
    except OSError:
        return False
    try:
        return _held(descriptor)
    finally:
        os.close(descriptor)


def dismiss(run: str, seconds: float, base: str = BASE, *, kind: str = VERIFY) -> bool:
    """Remove the run's directory, which tells its agent to go; False when it is still there after ``seconds``."""
    descriptor = os.open(os.path.join(directory(run, base, kind=kind), "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        remove(run, base, kind=kind)
        limit = time.monotonic() + seconds
        while _held(descriptor) and time.monotonic() < limit:
            time.sleep(0.02)
        return not _held(descriptor)
    finally:
        os.close(descriptor)


def wait_json(run: str, seconds: float, names: Sequence[str], base: str = BASE, *, kind: str = VERIFY) -> Json | None:
    """Wait for one of the files that the agent writes; None when it died without them or is late."""
    limit = time.monotonic() + seconds
    path = directory(run, base, kind=kind)
    while time.monotonic() < limit:
        living = alive(run, base, kind=kind)
        found = [content for content in (read_json(path, name) for name in names) if content is not None]
        if found or not living:
            return found[0] if found else None
        time.sleep(0.05)
    return None


def remove(run: str, base: str = BASE, *, kind: str = VERIFY) -> None:
    """Remove the directory, which also tells a waiting agent to go."""
    shutil.rmtree(directory(run, base, kind=kind), ignore_errors=True)
    with suppress(OSError):  # somebody else's is in it
        os.rmdir(base)


def runs(base: str = BASE, *, kind: str = VERIFY) -> List[str]:
    """Runs whose directory is there."""
    try:
        names = [name for name in os.listdir(base) if name.startswith(kind + "-")]
    except OSError:
        return []
    return sorted(name[len(kind) + 1 :] for name in names)


def dead_runs(base: str = BASE, *, kind: str = VERIFY) -> List[str]:
    """Runs whose directory is there and whose agent is not."""
    return [run for run in runs(base, kind=kind) if not alive(run, base, kind=kind)]
