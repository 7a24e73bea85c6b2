# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a member is seen, leaves and is forced out; Consul is played, as it was seen to answer (1.8.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import ConsulError
from ansible_collections.multihost.overlay.plugins.modules import consul_member as module

NUMBERS = {"alive": 1, "left": 3, "failed": 4}


class Played:
    """Servers by name, with their states; one that is forced out goes a step at each call."""

    def __init__(self, states: dict[str, str], raft: list[str] | None = None, leader: str = "10.0.0.1:8300"):
        self.states, self.leader = dict(states), leader
        self.raft = list(states) if raft is None else list(raft)
        self.catalog = list(states)
        self.asked: list[tuple[str, str]] = []
        self.deaf = False

    def address(self, name: str) -> str:
        return f"10.0.0.{name[-1]}:8300"

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 0) -> Any:
        if method == "GET":
            return self._tell(path)
        self.asked.append((method, path))
        if not self.deaf:
            self._change(path, body)
        return None

    def _tell(self, path: str) -> Any:
        if path == "agent/members":
            tags = {"role": "consul", "port": "8300"}
            return [
                {"Name": name, "Addr": self.address(name).partition(":")[0], "Status": NUMBERS[state], "Tags": tags}
                for name, state in self.states.items()
            ]
        if path == "catalog/nodes":
            return [{"Node": name} for name in self.catalog]
        if not self.leader:
            raise ConsulError("No cluster leader", 500)
        if path == "status/leader":
            return self.leader
        return {"Servers": [{"Node": name, "Address": self.address(name), "Voter": True} for name in self.raft]}

    def _change(self, path: str, body: Any) -> None:
        if path.startswith("operator/raft/peer"):
            self.raft = [name for name in self.raft if not path.endswith(f"{name[-1]}%3A8300")]
        elif path.startswith("agent/force-leave/"):
            self.states.pop(path.split("/")[2].split("?")[0])
        elif path == "catalog/deregister":
            self.catalog.remove(body["Node"])


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def run(played: Played, check: bool = False, **params: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "Consul", lambda _url, _token: played)
        return run_module(module.main, {"token": "t", "wait": 5, **params}, check=check)

    return run


Ask = Callable[..., dict[str, Any]]


def test_it_sees_the_member_and_who_has_a_vote(ask: Ask) -> None:
    played = Played({"h1": "alive", "h2": "failed", "h3": "alive"}, raft=["h1", "h2"])
    seen = ask(played, name="h2")
    assert (seen["changed"], seen["member"], seen["leader"]) == (False, "failed", "10.0.0.1:8300")
    assert [(row["node"], row["alive"]) for row in seen["voters"]] == [("h1", True), ("h2", False)]
    assert ask(played, name="zz")["member"] == ""
    assert played.asked == []


def test_without_a_leader_it_says_why(ask: Ask) -> None:
    seen = ask(Played({"h1": "alive"}, leader=""), name="h1")
    assert (seen["leader"], seen["why"], seen["voters"]) == ("", "No cluster leader", [])


def test_who_has_just_died_is_seen_so_in_time(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played({"h1": "alive", "h2": "alive"})
    tell, asked = played._tell, []

    def late(path: str) -> Any:
        asked.append(path)
        if asked.count("agent/members") > 3:
            played.states["h2"] = "failed"
        return tell(path)

    monkeypatch.setattr(played, "_tell", late)
    assert ask(played, name="h2", silent=True)["member"] == "failed"
    assert ask(Played({"h1": "alive", "h2": "alive"}), name="h2", silent=True)["member"] == "alive"


def test_a_dead_server_goes_from_all_places(ask: Ask) -> None:
    played = Played({"h1": "alive", "h2": "failed"})
    assert ask(played, check=True, state="absent", name="h2")["steps"] == [module.RAFT, module.MEMBERS, module.CATALOG]
    assert played.asked == []
    done = ask(played, state="absent", name="h2")
    assert (done["changed"], done["member"]) == (True, "failed")
    assert played.asked == [
        ("DELETE", "operator/raft/peer?address=10.0.0.2%3A8300"),
        ("PUT", "agent/force-leave/h2?prune"),
        ("PUT", "catalog/deregister"),
    ]
    assert (played.raft, list(played.states), played.catalog) == (["h1"], ["h1"], ["h1"])
    assert not ask(played, state="absent", name="h2")["changed"]


def test_one_that_lives_is_not_forced_out(ask: Ask) -> None:
    played = Played({"h1": "alive", "h2": "alive"})
    failed = ask(played, state="absent", name="h2")
    assert failed["failed"] and "it is alive: stop its Consul" in failed["msg"]
    assert played.asked == []


def test_one_that_does_not_go_is_a_failure(ask: Ask) -> None:
    played = Played({"h1": "alive", "h2": "failed"})
    played.deaf = True
    assert "still to be removed from Raft" in ask(played, state="absent", name="h2")["msg"]


def test_a_new_server_is_waited_for(ask: Ask) -> None:
    assert ask(Played({"h1": "alive", "h2": "alive"}), state="voter", name="h2")["changed"] is False
    failed = ask(Played({"h1": "alive", "h2": "alive"}, raft=["h1"]), state="voter", name="h2")
    assert "h2 has not become a server with a vote within 5 s" in failed["msg"]


@pytest.mark.parametrize(("active", "enabled", "steps"), [("active", "enabled", 2), ("inactive", "disabled", 0)])
def test_it_leaves_and_is_not_started_again(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, active: str, enabled: str, steps: int
) -> None:
    ran: list[list[str]] = []
    state = {"ActiveState": active, "UnitFileState": enabled}
    monkeypatch.setattr(module, "units", lambda names: {names[0]: state})

    def run_program(argv: list[str], **_more: Any) -> tuple[int, str, str]:
        ran.append(argv)
        return 0, "", ""

    monkeypatch.setattr(module, "run_program", run_program)
    played = Played({"h1": "alive"})
    assert len(ask(played, check=True, state="left", name="h1")["steps"]) == steps
    assert (played.asked, ran) == ([], [])
    assert len(ask(played, state="left", name="h1")["steps"]) == steps
    assert played.asked == ([("PUT", "agent/leave")] if steps else [])
    assert ran == ([["systemctl", "disable", "--now", "multihost-overlay-consul.service"]] if steps else [])
