# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that dockerd 20.10 loses in a network namespace that is gone, and how to bring them home.

In classic mode a thread of dockerd watches each overlay network from inside its namespace. When the last container of a
network leaves a host, dockerd lets go of that thread without bringing it back. Whatever it is used for next fails: a
call to the store is refused, an endpoint is left behind in the store, the watch for other hosts' names dies in silence.
Bridge networks bring the thread that serves them home, so joining and leaving one heals. A verify that came and went
without this would break what it had just proven.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, List, Sequence, Set

PID_FILE = "/var/run/docker.pid"
NAMESPACES = "/var/run/docker/netns"
QUIET = 1.5  # seconds; the watching thread looks up once a second
ROUNDS = 2  # of the strong calls: they cost about a second each


def _living(folder: str) -> Set[int]:
    """Namespaces that belong to a network or container."""
    try:
        return {os.stat(os.path.join(folder, name)).st_ino for name in os.listdir(folder)}
    except OSError:
        return set()


def stray_threads(pid_file: str = PID_FILE, namespaces: str = NAMESPACES) -> List[str]:
    """Return the threads of dockerd that are in a namespace of nobody's; empty also when dockerd cannot be found."""
    try:
        with open(pid_file, encoding="ascii") as stream:
            tasks = f"/proc/{int(stream.read())}/task"
        home = os.stat("/proc/self/ns/net").st_ino
        found = {name: os.stat(f"{tasks}/{name}/ns/net").st_ino for name in os.listdir(tasks)}
    except (OSError, ValueError):
        return []
    known = _living(namespaces) | {home}
    return sorted(name for name, inode in found.items() if inode not in known)


def at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Make dockerd use several threads."""
    workers = [threading.Thread(target=call) for call in calls]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def bring_home(
    light: Sequence[Callable[[], None]],
    strong: Sequence[Callable[[], None]],
    strays: Callable[[], List[str]] = stray_threads,
    quiet: float = QUIET,
    rounds: int = ROUNDS,
) -> int:
    """Use bridges until no thread is astray; return how many still are.

    The thread that was let go last is the first to be used again: so the light calls go on while it is let go. One that
    has sunk among the idle threads needs the strong calls, which keep more threads busy.
    """
    begin = time.monotonic()
    while light and time.monotonic() < begin + quiet:
        at_once(light)
    for _round in range(rounds):
        if not strays():
            return 0
        at_once(strong)
    return len(strays())
