# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that dockerd 20.10 loses in a network namespace that is gone, and how to bring them home.

In classic mode a thread of dockerd watches each overlay network from inside its namespace. When the last container of a
network leaves a host, dockerd lets go of that thread without bringing it back. Whatever it is used for next fails: a
call to the store is refused, an endpoint is left behind in the store, the watch for other hosts' names dies in silence.
A verify that came and went without a cure would break what it had just proven.

The cure uses what Docker's DNS does for each question that it forwards: its thread goes home, then into the asking
container's namespace to call the server there, and home again. Questions are asked by TCP, and the server lets every
call wait: so each question keeps a thread, and as many as dockerd has idle threads reach every one of them. An ICMP error
ends the calls at once.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import ExitStack, suppress
from typing import Callable, Dict, List, Set

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import checksum, encode_question
from ansible_collections.multihost.overlay.plugins.module_utils._ping_endpoint import DEAF_SERVER
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import DNS, inside

PID_FILE = "/var/run/docker.pid"
NAMESPACES = "/var/run/docker/netns"
# A watching thread that is not woken sees after up to 3 seconds that its network is gone.
PATIENCE = 8.0
SUMMONED = 1.0  # seconds within which all threads have a question
FORWARDED = 4.5  # seconds; dockerd gives a forwarded question up after 4
FEW = 8  # questions in the first round
MOST = 90  # Docker's DNS forwards at most 100 questions of a container at once
PAUSE = 0.05
_RTM_NEWNEIGH = 28
_NLM_F_REQUEST = 0x1
_NLM_F_CREATE = 0x400
_NUD_PERMANENT = 0x80


class Threads:
    """The threads of dockerd, as /proc shows them."""

    def __init__(self, pid_file: str = PID_FILE, namespaces: str = NAMESPACES) -> None:
        self._pid_file = pid_file
        self._namespaces = namespaces

    def _spaces(self) -> Dict[str, int]:
        """Thread's path -> inode of its network namespace; empty also when dockerd cannot be found."""
        try:
            with open(self._pid_file, encoding="ascii") as stream:
                tasks = f"/proc/{int(stream.read())}/task"
            paths = [f"{tasks}/{name}" for name in os.listdir(tasks)]
        except (OSError, ValueError):
            return {}
        found = {}
        for path in paths:
            with suppress(OSError):  # it ended meanwhile
                found[path] = os.stat(f"{path}/ns/net").st_ino
        return found

    def _living(self) -> Set[int]:
        """Namespaces that belong to the host, to a network or to a container."""
        found = {os.stat("/proc/self/ns/net").st_ino}
        with suppress(OSError):  # an engine that never ran a container
            for entry in os.scandir(self._namespaces):
                with suppress(OSError):
                    found.add(os.stat(entry.path).st_ino)
        return found

    def stray(self) -> List[str]:
        """Those in a namespace of nobody's."""
        living = self._living()
        return sorted(path for path, inode in self._spaces().items() if inode not in living)

    def inside(self, namespace: str) -> List[str]:
        """Those in a given namespace."""
        wanted = os.stat(namespace).st_ino
        return sorted(path for path, inode in self._spaces().items() if inode == wanted)

    def idle(self) -> List[str]:
        """Those that wait for work. A thread that watches a namespace waits for a socket."""
        return [path for path in self._spaces() if _waits_for_work(path)]


def _waits_for_work(path: str) -> bool:
    try:
        with open(f"{path}/wchan", encoding="ascii") as stream:
            where = stream.read()
    except OSError:
        return False  # it ended meanwhile
    # A kernel that does not tell says 0.
    return "futex" in where or where == "0"


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(PAUSE)
    return True


def _call(stack: ExitStack, address: tuple[str, int]) -> socket.socket:
    """A connection, begun."""
    caller = stack.enter_context(socket.socket())
    caller.setblocking(False)
    caller.connect_ex(address)
    return caller


def _deaf_server(stack: ExitStack) -> None:
    """A server whose queue is full: the kernel lets each further call wait."""
    server = stack.enter_context(socket.socket())
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((DEAF_SERVER, DNS[1]))
    server.listen(0)
    for _place in range(2):
        _call(stack, server.getsockname())


def _ask(stack: ExitStack, number: int) -> None:
    """Ask Docker's DNS by TCP for a name that nobody has."""
    caller = stack.enter_context(socket.create_connection(DNS, timeout=SUMMONED))
    question = encode_question(number, f"{number}.multihost-overlay.invalid")
    caller.sendall(struct.pack("!H", len(question)) + question)


def _refuse(calls: socket.socket, errors: socket.socket) -> None:
    """Answer each call that waits by ICMP's "port unreachable", which ends it (RFC 1122, 4.2.3.9)."""
    with suppress(BlockingIOError):
        while True:
            packet = calls.recv(4096)
            body = packet[: (packet[0] & 0x0F) * 4 + 8]
            head = struct.pack("!BBHI", 3, 3, 0, 0)
            errors.sendto(struct.pack("!BBHI", 3, 3, checksum(head + body), 0) + body, (DEAF_SERVER, 0))


def _raw(stack: ExitStack, protocol: int) -> socket.socket:
    found = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))
    found.bind((DEAF_SERVER, 0))
    found.setblocking(False)
    return found


def _summon(threads: Threads, namespace: str, number: int) -> None:
    """Give idle threads a question each, and wait until all have come home from it."""
    with ExitStack() as stack:
        with inside(namespace):
            _deaf_server(stack)
            calls, errors = _raw(stack, socket.IPPROTO_TCP), _raw(stack, socket.IPPROTO_ICMP)
            for place in range(number):
                _ask(stack, place)
        wait_until(lambda: not threads.stray(), SUMMONED)
        _refuse(calls, errors)
    wait_until(lambda: not threads.inside(namespace), FORWARDED)


def bring_home(namespace: str, threads: Threads, patience: float = PATIENCE) -> None:
    """Bring all stray threads home by questions from the container's namespace.

    The last to become idle is the first to be used again, so few questions mostly do. More than there are idle threads
    would only make dockerd start others, which it keeps.
    """
    limit = time.monotonic() + patience
    number = FEW
    while threads.stray() and time.monotonic() < limit:
        if not wait_until(lambda: set(threads.stray()) <= set(threads.idle()), limit - time.monotonic()):
            break
        _summon(threads, namespace, min(number, MOST))
        number = min(2 * number, len(threads.idle()) + 1)


class Watched:
    """The namespaces of overlay networks before containers leave, so that the watchers of those that end can be woken."""

    def __init__(self, namespaces: str = NAMESPACES) -> None:
        self._stack = ExitStack()
        self._held: Dict[str, int] = {}
        with suppress(OSError):  # an engine that never ran a container
            for entry in os.scandir(namespaces):
                if "-" in entry.name:  # NUMBER-NETWORK; a container's has no dash
                    self._held[entry.path] = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
                    self._stack.callback(os.close, self._held[entry.path])

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._stack.close()

    def wake(self) -> None:
        """Send the watchers of ended namespaces an event: they look up, find their network gone, and end at once."""
        for path, descriptor in self._held.items():
            if not _is(path, descriptor):
                with suppress(OSError), inside(f"/proc/self/fd/{descriptor}"):
                    _add_neighbour()


def _is(path: str, descriptor: int) -> bool:
    """Whether the namespace is still the one at the path. An empty file stays there for a while."""
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except OSError:
        return False


def _add_neighbour() -> None:
    """A neighbour of the loopback interface: rtnetlink(7), RTM_NEWNEIGH with NDA_DST and NDA_LLADDR."""
    neighbour = struct.pack("=BxxxiHBB", socket.AF_INET, socket.if_nametoindex("lo"), _NUD_PERMANENT, 0, 0)
    neighbour += struct.pack("=HH4s", 8, 1, b"\x7f\0\0\x09") + struct.pack("=HH6sxx", 10, 2, b"\x02\0\0\0\0\x01")
    header = struct.pack("=IHHII", 16 + len(neighbour), _RTM_NEWNEIGH, _NLM_F_REQUEST | _NLM_F_CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + neighbour)
