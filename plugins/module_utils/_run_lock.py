# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the lock of a cluster is: one file for each holder, whose time is when it was last heard of."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from typing import Any, Collection, Dict, Iterator, List, Sequence, Tuple

# Not on disk: a host that was switched off has no lock, and a run that lives takes it again.
DIRECTORY = "/run/multihost-overlay-lock"
# Seconds after which a holder that was not heard of has lost it. Its keeper writes four times in that.
STALE = 60.0
Json = Dict[str, Any]


def duration(seconds: float) -> str:
    """In words."""
    whole = int(abs(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def say(holder: Json) -> str:
    """Who, where, which playbook, since when, last heard of."""
    who = f"{holder.get('user', 'somebody')} on {holder.get('controller', 'an unknown controller')}"
    what = f"process {holder.get('pid', 'unknown')}, {holder.get('playbook') or 'an unknown playbook'}"
    since = f"for {duration(holder['taken_ago'])}" if "taken_ago" in holder else "for an unknown time"
    return f"{who} ({what}) has had it {since}, and was last heard of {duration(holder['heard_ago'])} ago"


def refusal(holder: Json, host: str) -> str:
    """Why a run does not begin, and what to do."""
    left = max(1, int(STALE - holder["heard_ago"]) + 1)
    return (
        f"Another run works on this cluster; nothing was changed on any host. Its lock is on {host}: {say(holder)}. Wait until it has "
        f"ended. If it is gone, without having been able to say so, its lock ends in {left} s; run this again then. "
        "-e overlay_lock_break=true does not wait, at the risk of two runs that change the same hosts."
    )


def judge(found: Sequence[Json], wanted: str, gone: Collection[str], take_over: bool) -> Tuple[Json, List[Json]]:
    """Who holds the lock (nobody is empty), and who has it no more. A clock that was set makes times of the future, which count too."""
    over = [
        row
        for row in found
        if row["id"] != wanted and (take_over or row["id"] in gone or abs(row["heard_ago"]) > STALE)
    ]
    return next((row for row in found if row not in over), {}), over


def read(descriptor: int, name: str, now: float) -> Json:
    """One holder, with times by this host's clock alone. What cannot be read is a holder all the same, until it is too old."""
    holder: Json = {}
    with suppress(OSError, ValueError), open(name, encoding="utf-8", opener=_within(descriptor)) as stream:
        content = json.load(stream)
        holder = {**content, "taken_ago": now - content["taken"]}
    return {**holder, "id": name, "heard_ago": now - os.stat(name, dir_fd=descriptor).st_mtime}


def _within(descriptor: int) -> Any:
    return lambda name, flags: os.open(name, flags, 0o600, dir_fd=descriptor)


def holders(descriptor: int) -> List[Json]:
    """All of them; more than one only if a run was killed in the middle of taking the lock over."""
    found, now = [], time.time()
    for name in sorted(os.listdir(descriptor)):
        with suppress(FileNotFoundError):  # given back this moment
            found.append(read(descriptor, name, now))
    return found


@contextmanager
def alone(path: str) -> Iterator[int]:
    """The directory, made if need be, for nobody else who would take the lock. Who gives it back may take it away any time."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def look(path: str) -> List[Json]:
    """Who holds it, without making anything."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    try:
        return holders(descriptor)
    finally:
        os.close(descriptor)


def take(path: str, holder: Json, gone: Collection[str], take_over: bool) -> Tuple[Json, List[Json]]:
    """Who holds the lock now, and from whom it was taken. Again from the start if the directory was given back under our hands."""
    while True:
        with suppress(FileNotFoundError), alone(path) as descriptor:
            living, over = judge(holders(descriptor), holder["id"], gone, take_over)
            if not living:
                content = json.dumps({**holder, "taken": time.time()})
                with open(holder["id"], "x", encoding="utf-8", opener=_within(descriptor)) as stream:
                    stream.write(content)
                for row in over:
                    with suppress(FileNotFoundError):
                        os.unlink(row["id"], dir_fd=descriptor)
            return living, over
