# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback that says who is waited for: its words, and what a real run prints."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleOptionsError
from ansible.module_utils.common.collections import ImmutableDict

from ansible_collections.multihost.overlay.plugins.callback import progress
from tests.cluster import wait_for
from tests.e2e.support import Running, run_playbook, start_playbook

HOSTS = [f"node{place}" for place in range(1, 9)]


def waiting(hosts: int = 8, most: int = 5) -> progress.Waiting:
    return progress.Waiting("play / task", "1", hosts, most, 100.0)


def test_a_line_says_how_long_how_many_and_who() -> None:
    task = waiting(most=30)
    for host in HOSTS:
        task.start(host)
    for host in HOSTS[:2]:
        task.end(host)
    assert task.line(125.9) == (
        "[progress] play / task: 25 s, 2 of 8 hosts done, waiting for node3, node4, node5, node6 and 2 more"
    )
    assert task.line(225.0).startswith("[progress] play / task: 2 min 05 s, ")
    for host in HOSTS[2:]:
        task.end(host)
    assert task.line(130.0) == ""


def test_hosts_that_have_no_worker_yet_count_and_those_that_do_not_have_the_task_do_not() -> None:
    task = waiting(hosts=30, most=5)
    for host in HOSTS[:5]:
        task.start(host)
    assert "0 of 30 hosts done" in task.line(110.0)
    task.end("node1")
    assert "1 of 5 hosts done" in task.line(110.0)


def test_the_only_worker_has_one_host_though_the_result_of_the_one_before_was_not_read_yet() -> None:
    task = waiting(hosts=3, most=1)
    task.start("node1")
    task.start("node2")
    assert "1 of 3 hosts done, waiting for node2" in task.line(110.0)
    task.end("node1")
    assert "1 of 3 hosts done, waiting for node2" in task.line(110.0)


def test_a_name_of_several_lines_makes_one_line() -> None:
    task = progress.Waiting("play /\n  task", "1", 1, 1, 0.0)
    task.start("a")
    assert task.line(10.0).startswith("[progress] play / task: 10 s")


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One that prints into a list, and is at no hour but the test's."""
    made: Any = progress.CallbackModule()
    made._interval, made.lines, made.now = 10.0, [], 100.0
    monkeypatch.setattr(made, "_say", lambda line: made.lines.append(line) if line else None)
    monkeypatch.setattr(progress.time, "monotonic", lambda: made.now)
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(forks=5))
    made._play, made._hosts = "play", 2
    yield made
    made._over.set()


def task(uuid: str, **more: Any) -> Any:
    return types.SimpleNamespace(**{"_uuid": uuid, "get_name": lambda: uuid, "throttle": 0, "run_once": False, **more})


def host(name: str) -> Any:
    return types.SimpleNamespace(get_name=lambda: name)


def result(name: str, uuid: str) -> Any:
    return types.SimpleNamespace(host=host(name), task=task(uuid))


def begin(callback: Any, uuid: str, *hosts: str, **more: Any) -> None:
    callback.v2_playbook_on_task_start(task(uuid, **more), False)
    for name in hosts:
        callback.v2_runner_on_start(host(name), task(uuid))


def test_nothing_is_said_before_the_interval_and_one_line_in_each(callback: Any) -> None:
    begin(callback, "long", "a", "b")
    assert callback._look(109.0) == 1.0
    assert callback.lines == []
    assert callback._look(110.0) == 10.0
    callback.v2_runner_on_failed(result("a", "long"), ignore_errors=True)
    assert callback._look(120.5) == 9.5
    assert [line.partition(": ")[2] for line in callback.lines] == [
        "10 s, 0 of 2 hosts done, waiting for a, b",
        "20 s, 1 of 2 hosts done, waiting for b",
    ]
    # The main process was busy, and the thread did not come to it for a while: no lines are made up for.
    assert callback._look(165.0) == 5.0
    assert len(callback.lines) == 3


def test_short_tasks_are_never_spoken_of_however_many(callback: Any) -> None:
    for number in range(20):
        begin(callback, str(number), "a", "b")
        callback._look(callback.now)
        callback.now += 9.0
        callback._look(callback.now)
    assert callback.lines == []


@pytest.mark.parametrize("end", ["ok", "failed", "skipped", "unreachable"])
def test_a_task_that_is_done_is_not_spoken_of(callback: Any, end: str) -> None:
    begin(callback, "long", "a")
    getattr(callback, f"v2_runner_on_{end}")(result("a", "long"))
    callback._look(200.0)
    assert callback.lines == []


def test_results_of_another_task_do_not_count(callback: Any) -> None:
    begin(callback, "first", "a")
    begin(callback, "second", "a", "b")
    callback.v2_runner_on_ok(result("a", "first"))
    callback._look(110.0)
    assert callback.lines[0].endswith("0 of 2 hosts done, waiting for a, b")


def test_a_task_for_one_host_and_a_throttled_one(callback: Any) -> None:
    begin(callback, "once", "a", run_once=True)
    callback._look(110.0)
    callback.now = 200.0
    begin(callback, "slow", "b", throttle=1)
    callback._look(210.0)
    assert [line.split(", ")[1] for line in callback.lines] == ["0 of 1 hosts done", "0 of 2 hosts done"]


def test_several_playbooks_of_one_run_are_watched_by_one_thread(callback: Any) -> None:
    callback.v2_playbook_on_start(None)
    watcher = callback._watcher
    callback.v2_playbook_on_start(None)
    assert callback._watcher is watcher
    assert watcher.daemon
    callback.v2_playbook_on_stats(None)
    watcher.join(5)
    assert not watcher.is_alive()


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_a_senseless_interval_is_refused(callback: Any, monkeypatch: pytest.MonkeyPatch, interval: float) -> None:
    monkeypatch.setattr(progress.CallbackBase, "set_options", lambda self, **_unused: None)
    monkeypatch.setattr(callback, "get_option", lambda _name: interval)
    with pytest.raises(AnsibleOptionsError, match="OVERLAY_PROGRESS_INTERVAL"):
        callback.set_options()


def test_who_no_longer_listens_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = progress.CallbackModule()

    def broken(_text: str) -> None:
        raise BrokenPipeError

    made._display = types.SimpleNamespace(display=broken)
    made._say("[progress] x")
    assert made._over.is_set()


PLAYBOOK = """
- name: Proof
  hosts: all
  gather_facts: false
  tasks:
    - name: Wait for a file
      ansible.builtin.wait_for:
        path: "{{ file }}"
        timeout: 60
      when: inventory_hostname != "quick"
      timeout: 90
    - name: Say something
      ansible.builtin.debug:
        msg: hello
"""


@pytest.fixture
def play(tmp_path: Path) -> dict[str, Any]:
    """A playbook on three hosts that are this machine; two of them wait for a file."""
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    local = 'ansible_connection=local ansible_python_interpreter="{{ ansible_playbook_python }}"'
    (tmp_path / "hosts").write_text("".join(f"{name} {local}\n" for name in ("quick", "slow1", "slow2")))
    return {"inventory": tmp_path / "hosts", "extra_vars": {"file": str(tmp_path / "file")}}


def enabled(interval: float) -> dict[str, str]:
    names = "overlay_record,multihost.overlay.progress"
    # As with most users, and unlike in many containers, Python keeps what is no terminal in a buffer.
    return {"ANSIBLE_CALLBACKS_ENABLED": names, "OVERLAY_PROGRESS_INTERVAL": str(interval), "PYTHONUNBUFFERED": ""}


def lines(running: Running) -> list[str]:
    return [line for line in running.log.read_text().splitlines() if line.startswith("[progress]")]


@pytest.mark.parametrize("forks", [5, 1])
def test_a_real_run_says_in_time_who_is_waited_for(play: dict[str, Any], tmp_path: Path, forks: int) -> None:
    """The line is in the log while the task runs, though the log is no terminal."""
    arguments = [f"--forks={forks}"]
    with start_playbook(tmp_path / "play.yml", **play, env=enabled(1), arguments=arguments) as running:
        wait_for(
            "a line about those who wait", lambda: [line for line in lines(running) if "1 of 3" in line], 120, every=0.1
        )
        (tmp_path / "file").touch()
        run = running.wait(60)
    names = "slow1, slow2" if forks == 5 else "slow1"
    said = [line for line in lines(running) if "1 of 3" in line]
    assert all(line.startswith("[progress] Proof / Wait for a file: ") for line in said)
    assert all(line.endswith(f"s, 1 of 3 hosts done, waiting for {names}") for line in said)
    assert {"1 s", "2 s", "3 s"} & {line.split(": ")[1].split(",")[0] for line in said}
    assert run.output.count("PLAY RECAP") == 1


def test_without_long_tasks_the_output_is_ansible_s_own(play: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    on = run_playbook(tmp_path / "play.yml", **play, env=enabled(60))
    off = run_playbook(tmp_path / "play.yml", **play)
    # Hosts may end in another order.
    assert sorted(on.output.splitlines()) == sorted(off.output.splitlines())
