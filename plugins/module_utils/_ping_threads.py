# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that dockerd 20.10 loses in a network namespace that is gone, and how to bring them home.

In classic mode a thread of dockerd watches each overlay network from inside its namespace. When the last container of a
network leaves a host, dockerd lets go of that thread without bringing it back. Whatever it is used for next fails: a call
to the store is refused, and the watch for other hosts' names dies in silence. Bridge networks bring the thread that serves
them home, so joining and leaving one heals. A verify that came and went without this would break what it had just proven.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Callable, List, Set

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError

PID_FILE = "/var/run/docker.pid"
NAMESPACES = "/var/run/docker/netns"
# Every host with an overlay endpoint has this bridge.
BRIDGE = "docker_gwbridge"
QUIET = 1.5  # the watching thread looks up once a second
LIMIT = 5.0


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
        home = os.stat("/proc/1/ns/net").st_ino
        found = {name: os.stat(f"{tasks}/{name}/ns/net").st_ino for name in os.listdir(tasks)}
    except (OSError, ValueError):
        return []
    known = _living(namespaces) | {home}
    return sorted(name for name, inode in found.items() if inode not in known)


def _cycle(client: DockerClient, container: str) -> None:
    with suppress(DockerError):  # best effort: what is left is reported
        client.post(f"/networks/{BRIDGE}/connect", {"Container": container})
        client.post(f"/networks/{BRIDGE}/disconnect", {"Container": container, "Force": True})


def bring_home(
    client: DockerClient, containers: List[str], strays: Callable[[], List[str]] = stray_threads, limit: float = LIMIT
) -> int:
    """Join and leave a bridge with all ``containers`` at once until no thread is astray; return how many still are.

    The thread that was let go last is the first to be used again, so going on while it is let go finds it; doing it with
    several containers at once makes dockerd use several threads.
    """
    begin = time.monotonic()
    while time.monotonic() < begin + limit:
        workers = [threading.Thread(target=_cycle, args=(client, container)) for container in containers]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if time.monotonic() > begin + QUIET and not strays():
            break
    return len(strays())
