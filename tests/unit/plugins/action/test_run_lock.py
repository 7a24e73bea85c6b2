# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the lock: from whom it is taken at once, what is said, and what the keeper does with it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.action import run_lock
from ansible_collections.multihost.overlay.plugins.plugin_utils import _run_keeper as keeper

FREE = {**run_lock.NOTHING, "held": True, "changed": False}
HERE = keeper.holder(os.getpid(), ["site.yml"])
OTHER = {**HERE, "id": "other", "user": "bob", "taken_ago": 5.0, "heard_ago": 2.0}
TAKEN = {**run_lock.NOTHING, "holder": OTHER}


class Host:
    """Answers in turn; what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any, check: bool = False) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.kept: list[Any] = []
        self.said: list[str] = []
        self.commands: list[str] = []
        action = object.__new__(run_lock.ActionModule)
        action._task = SimpleNamespace(check_mode=check, delegate_to="node1")
        self.action = action
        # Of the task, whose end takes it away.
        action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/gone"))
        monkeypatch.setattr(action, "cleanup", lambda: None)
        monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
        monkeypatch.setattr(action, "validate_argument_spec", lambda *_unused: (None, {"take_over": False}))
        monkeypatch.setattr(action, "_execute_module", self.ask)
        monkeypatch.setattr(action, "_low_level_execute_command", self.tell)
        monkeypatch.setattr(keeper, "start", self.kept.append)
        for name in ("display", "warning", "error"):
            monkeypatch.setattr(run_lock.Display, name, lambda _self, words, **_unused: self.said.append(words))

    def ask(self, module_args: dict[str, Any], task_vars: Any) -> Any:
        self.asked.append(module_args)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell(self, command: str) -> dict[str, Any]:
        self.commands.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"stdout": answer, "rc": 0}

    def run(self) -> Any:
        return self.action.run(None, {"inventory_hostname": "node2"})

    def lock(self) -> run_lock.Lock:
        return run_lock.Lock(self.action, "node1", HERE, {})


def test_it_is_taken_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, FREE)
    assert host.run() == FREE
    assert (len(host.kept), host.asked[0]["gone"], host.asked[0]["holder"]["pid"]) == (1, [], os.getppid())


def test_once_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {**FREE, "again": True})
    assert (host.run()["held"], host.kept) == (True, [])


def test_another_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, TAKEN)
    result = host.run()
    assert (result["held"], result["problem"], host.kept, len(host.asked)) == (False, "", [], 1)
    assert "bob on" in result["refusal"] and "on node1" in result["refusal"]


def test_a_dead_one_here_loses_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = {**OTHER, "started": "1"}
    host = Host(monkeypatch, {**TAKEN, "holder": dead}, {**FREE, "taken_from": [dead]})
    assert host.run()["held"]
    assert [asked["gone"] for asked in host.asked] == [[], ["other"]]
    assert len(host.kept) == 1
    assert "taken over on node1; bob on" in host.said[0]


def test_a_dry_run_only_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, TAKEN, check=True)
    assert (host.run()["refusal"], host.kept) == ("", [])
    assert "works on this cluster meanwhile: bob on" in host.said[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (AnsibleConnectionFailure("no route to host"), "no route to host"),
        ({"failed": True, "msg": "Permission denied"}, "Permission denied"),
        ({"unreachable": True}, "no message"),
    ],
)
def test_a_host_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, answer: Any, words: str) -> None:
    host = Host(monkeypatch, answer)
    result = host.run()
    assert (result["held"], result["problem"], result["refusal"], host.kept) == (False, words, "", [])


@pytest.mark.parametrize(
    ("answers", "kept", "modules"),
    [
        pytest.param(["kept\n"], True, 0, id="in order"),
        pytest.param([AnsibleConnectionFailure("away")], True, 0, id="the host is away"),
        pytest.param(["gone\n", FREE], True, 1, id="the host was rebooted"),
        pytest.param(["gone\n", AnsibleConnectionFailure("away")], True, 1, id="away between two questions"),
        pytest.param(["gone\n", TAKEN], False, 1, id="another one has it"),
    ],
)
def test_renewing(monkeypatch: pytest.MonkeyPatch, answers: list[Any], kept: bool, modules: int) -> None:
    host = Host(monkeypatch, *answers)
    assert (host.lock().renew(), len(host.asked)) == (kept, modules)
    assert host.action._connection._shell.tmpdir == (None if modules else "/gone")
    assert f"touch -c /run/multihost-overlay-lock/{HERE['id']}" in host.commands[0]


def test_giving_back_touches_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, "")
    host.lock().release()
    path = "/run/multihost-overlay-lock"
    assert host.commands == [f"rm -f {path}/{HERE['id']}; rmdir {path} 2>/dev/null"]


def test_a_run_that_lost_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    host, killed = Host(monkeypatch, "gone", TAKEN), []
    monkeypatch.setattr(run_lock.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(run_lock.os, "kill", lambda *args: killed.append(args))
    lock = host.lock()
    assert not lock.renew()
    lock.end()
    assert killed == [(os.getpid(), run_lock.signal.SIGTERM)]
    assert "on node1 is another run's now" in host.said[0] and "bob on" in host.said[0]
