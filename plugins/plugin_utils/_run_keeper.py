# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process on the controller that keeps the lock of a run for as long as ansible-playbook lives. Nothing else sees its end for sure."""

from __future__ import annotations

import getpass
import hashlib
import os
import signal
import socket
import time
from contextlib import suppress
from typing import Any, Callable, NoReturn, Sequence

# What ps shows.
NAME = "overlay-lock"
EVERY = 15.0
PAUSE = 0.2
Json = dict[str, Any]


def started(pid: int) -> str:
    """When a process began, as its number may be another's by now; empty if it is gone, or dead and not yet buried."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            words = stream.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in ("Z", "X") else words[19]


def lives(pid: int, since: str) -> bool:
    """Whether it is still that process. A controller without /proc knows the number alone."""
    if since:
        return started(pid) == since
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def place() -> str:
    """Where a number of a process means the same: this machine since it was booted, this container. Empty if that is not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{stream.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def user() -> str:
    """Containers may run as a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def holder(pid: int, playbooks: Sequence[str]) -> Json:
    """What others are told of the run with this process; its id is the same each time it is asked."""
    own: Json = {"controller": socket.gethostname(), "place": place(), "pid": pid, "started": started(pid)}
    own["id"] = hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:16]
    return {**own, "user": user(), "playbook": ", ".join(playbooks)}


def is_gone(other: Json) -> bool:
    """Whether a holder ran here and is dead. Of those elsewhere only their age tells."""
    here = place()
    return bool(here and other.get("place") == here and other.get("started")) and not lives(
        other["pid"], other["started"]
    )


def keep(
    alive: Callable[[], bool], renew: Callable[[], bool], release: Callable[[], None], end: Callable[[], None]
) -> None:
    """Renew while the run lives, then give the lock back; end the run if it has it no more."""
    last = time.time()
    while alive():
        time.sleep(PAUSE)
        # A clock that jumps, as after a sleep, only makes it look earlier.
        if abs(time.time() - last) >= EVERY:
            last = time.time()
            if not renew():
                end()
                return
    release()


def _leave() -> None:
    """Hold nothing that whoever waits for the run's end waits for: its output, descriptors that the run was given, its terminal."""
    os.setsid()
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as stream:
        stream.write(NAME)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in [int(name) for name in os.listdir("/dev/fd")]:
        # Python's own are not inheritable: those that are came from outside.
        with suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)
    for number, how in (
        (signal.SIGHUP, signal.SIG_IGN),
        (signal.SIGINT, signal.SIG_IGN),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        signal.signal(number, how)


def _live(work: Callable[[], None]) -> NoReturn:
    """It never returns into Ansible's code."""
    try:
        _leave()
        work()
    finally:
        os._exit(0)


def start(work: Callable[[], None]) -> None:
    """Do it in a process that is nobody's child, and return at once."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            _live(work)
        os._exit(0)
    os.waitpid(child, 0)
