# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost threads: found in /proc, woken by real events, summoned by real calls; dockerd itself is a stand-in here.

That the cure works on a real engine is shown by tests/e2e/test_rerun.py.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _ping_threads as lost
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import inside

_RTNLGRP_NEIGH = 3
NAME = f"1-ovtest{os.getpid()}"
# A process of two threads, of which the second goes astray and waits for a lock, like an idle thread of dockerd.
ENGINE = """
import ctypes, sys, threading
lock = threading.Lock(); lock.acquire()
def astray():
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
    print("ready", flush=True)
    lock.acquire()
threading.Thread(target=astray, daemon=True).start()
sys.stdin.read()
"""


class Fake(lost.Threads):
    """Threads that come home after some rounds."""

    def __init__(self, astray: list[list[str]], idle: int = 3) -> None:
        super().__init__()
        self.astray = astray
        self.number = idle

    def stray(self) -> list[str]:
        return self.astray[0]

    def idle(self) -> list[str]:
        return [str(number) for number in range(self.number)]


@pytest.fixture
def engine(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{process.pid}\n")
        yield process.pid, lost.Threads(str(pid_file), str(tmp_path / "netns"))
    finally:
        process.communicate()


@pytest.fixture
def namespace():
    assert os.geteuid() == 0, "only root can make network namespaces: run the tests as root"
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    subprocess.run(["ip", "-n", NAME, "link", "set", "lo", "up"], check=True)
    yield f"/run/netns/{NAME}"
    subprocess.run(["ip", "netns", "del", NAME], check=False, capture_output=True)


def test_a_thread_in_a_namespace_of_nobodys_is_astray_and_idle(engine):
    pid, threads = engine
    (stray,) = threads.stray()
    assert stray.startswith(f"/proc/{pid}/task/")
    assert not stray.endswith(f"/{pid}")
    assert lost.wait_until(lambda: stray in threads.idle(), 5)
    assert threads.inside(f"{stray}/ns/net") == [stray]


def test_a_thread_in_a_container_s_namespace_is_not_astray(engine, tmp_path):
    _pid, threads = engine
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns" / "abc").symlink_to(f"{threads.stray()[0]}/ns/net")
    assert threads.stray() == []


def test_an_engine_that_is_not_there_has_no_threads(tmp_path):
    assert lost.Threads(str(tmp_path / "none"), str(tmp_path)).stray() == []


def test_watchers_of_ended_namespaces_are_woken_and_of_living_ones_not(namespace, tmp_path):
    (tmp_path / NAME).symlink_to(namespace)
    with lost.Watched(str(tmp_path)) as watched:
        with inside(namespace):
            watcher = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            watcher.bind((0, 1 << (_RTNLGRP_NEIGH - 1)))
        watcher.settimeout(0.2)
        watched.wake()
        with pytest.raises(TimeoutError):
            watcher.recv(4096)
        # As the engine leaves it: unmounted, an empty file in its place.
        (tmp_path / NAME).unlink()
        (tmp_path / NAME).touch()
        watched.wake()
        assert watcher.recv(4096)
        watcher.close()


def test_the_deaf_server_lets_calls_wait_until_they_are_refused(namespace):
    with ExitStack() as stack, inside(namespace):
        lost._deaf_server(stack)
        calls, errors = (lost._raw(stack, protocol) for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_ICMP))
        callers = [lost._call(stack, (lost.DEAF_SERVER, 53)) for _number in range(3)]
        waiting = select.poll()
        for caller in callers:
            waiting.register(caller, select.POLLOUT)
        assert waiting.poll(300) == []
        lost._refuse(calls, errors)
        # Before the callers' kernel would have called again, a second after the first call.
        assert len(waiting.poll(300)) == 3
        ends = {caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for caller in callers}
        assert ends == {errno.ECONNREFUSED}


def test_more_and_more_threads_are_summoned_until_all_are_home(monkeypatch):
    asked = []
    threads = Fake([["1"], ["1"], []], idle=30)

    def summon(_threads, _namespace, number):
        asked.append(number)
        threads.astray.pop(0)

    monkeypatch.setattr(lost, "_summon", summon)
    lost.bring_home("", threads)
    assert threads.stray() == []
    assert asked == [lost.FEW, 2 * lost.FEW]


def test_a_thread_that_still_watches_is_waited_for_but_not_forever(monkeypatch):
    monkeypatch.setattr(lost, "_summon", lambda *_unused: pytest.fail("it cannot come"))
    begin = time.monotonic()
    lost.bring_home("", Fake([["9"]]), 0.1)
    assert 0.1 <= time.monotonic() - begin < 5
