# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that keeps the lock: it outlives nobody, holds nothing open, and knows a dead holder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils import _run_keeper as keeper

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_process_and_its_end() -> None:
    with subprocess.Popen(SLEEPER) as child:
        since = keeper.started(child.pid)
        assert keeper.lives(child.pid, since)
        assert not keeper.lives(child.pid, "1")  # the number of another by now
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
        assert (keeper.started(child.pid), keeper.lives(child.pid, since)) == ("", False)


def test_without_proc_the_number_alone_tells() -> None:
    assert keeper.lives(os.getpid(), "")
    assert not keeper.lives(2**22 + 1, "")


def test_who_is_gone() -> None:
    """Only of holders on this machine, of this boot and in this container."""
    own = keeper.holder(os.getpid(), ["site.yml"])
    assert (own["pid"], own["playbook"]) == (os.getpid(), "site.yml")
    assert own == keeper.holder(os.getpid(), ["site.yml"])
    dead = {**own, "started": "1"}
    assert [
        keeper.is_gone(row) for row in (own, dead, {**dead, "place": "elsewhere"}, {}, {**dead, "started": ""})
    ] == [
        False,
        True,
        False,
        False,
        False,
    ]


class Run:
    """A run that ends after so many looks, by a clock that only moves when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int, lost_at: int = 0) -> None:
        self.looks, self.lost_at, self.now = looks, lost_at, 1000.0
        self.done: list[str] = []
        monkeypatch.setattr(keeper.time, "sleep", self.pause)
        monkeypatch.setattr(keeper.time, "time", lambda: self.now)

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def alive(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def renew(self) -> bool:
        self.done.append(f"renewed at {self.now - 1000:.0f}")
        return len(self.done) != self.lost_at

    def keep(self) -> list[str]:
        keeper.keep(self.alive, self.renew, lambda: self.done.append("released"), lambda: self.done.append("ended"))
        return self.done


def test_it_renews_and_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Run(monkeypatch, looks=160).keep() == ["renewed at 15", "renewed at 30", "released"]


def test_a_run_without_its_lock_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is another's is not given back."""
    assert Run(monkeypatch, looks=160, lost_at=2).keep() == ["renewed at 15", "renewed at 30", "ended"]


def test_a_sleep_of_the_controller_makes_it_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, looks=1)
    monkeypatch.setattr(run, "pause", lambda _seconds: setattr(run, "now", run.now + 400))
    monkeypatch.setattr(keeper.time, "sleep", run.pause)
    assert run.keep() == ["renewed at 400", "released"]


STARTER = """
import os, sys, time
import _run_keeper as keeper
me = os.getpid()
def work():
    own = [open("/proc/self/comm").read().strip()]
    own += sorted(os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if int(name) < 3)
    while keeper.lives(me, since):
        time.sleep(0.05)
    open(sys.argv[1], "w").write(" ".join([str(os.getsid(0) == os.getpid()), *own]))
since = keeper.started(me)
keeper.start(work)
print("done")
time.sleep(float(sys.argv[2]))
"""


def test_it_sees_the_end_and_holds_nothing_open(tmp_path: Path) -> None:
    """Who reads the run's output, or a descriptor that it was given, is done when the run is; the keeper is not."""
    wrote, reader, writer = tmp_path / "wrote", *os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(Path(keeper.__file__).parent)}
    argv = [sys.executable, "-c", STARTER, str(wrote)]
    with subprocess.Popen(
        [*argv, "60"], stdout=subprocess.PIPE, text=True, pass_fds=[writer], env=environment
    ) as child:
        os.close(writer)
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        assert not wrote.exists()
        child.kill()
        assert (child.stdout.read(), os.read(reader, 1)) == ("", b"")
    os.close(reader)
    limit = time.monotonic() + 10
    while not (wrote.exists() and wrote.read_text()) and time.monotonic() < limit:
        time.sleep(0.05)
    assert wrote.read_text() == "True overlay-lock /dev/null /dev/null /dev/null"
