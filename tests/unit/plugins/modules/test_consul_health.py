# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a store is whole; Consul is played, as it was seen to answer (1.8.7)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import ConsulError
from ansible_collections.multihost.overlay.plugins.modules import consul_health as module

SERVERS = ["node1", "node2", "node3"]


def health(**changes: Any) -> dict[str, Any]:
    rows = [
        {
            "Name": name,
            "SerfStatus": "alive",
            "Voter": True,
            "Healthy": True,
            "Leader": name == "node2",
            "LastIndex": 40,
            "LastContact": "8ms",
        }
        for name in SERVERS
    ]
    rows[2].update(changes)
    return {"Healthy": not changes, "Servers": rows}


class Played:
    """Answers once with each of these, and then with the last of them."""

    def __init__(self, *answers: dict[str, Any], raft: dict[str, str] | None = None) -> None:
        self.answers, self.raft = list(answers), raft

    def ask(self, _method: str, path: str) -> Any:
        if path == "agent/self":
            return {"Config": {"Version": "1.8.7+dfsg1"}, "Stats": {"raft": self.raft} if self.raft else {}}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer["Healthy"]:
            raise ConsulError("with 429", 429, json.dumps(answer))
        return answer


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(*answers: dict[str, Any], raft: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "Consul", lambda _url, _token: Played(*answers, raft=raft))
        monkeypatch.setattr(module, "POLL", 0)
        return run_module(module.main, {"token": "t", "servers": SERVERS, "wait": 0, **params})

    return run


def test_a_whole_store_says_who_leads(wait: Callable[..., dict[str, Any]]) -> None:
    assert wait(health(), version="1.8.7+dfsg1-2+b3")["leader"] == "node2"


def test_it_is_waited_for(wait: Callable[..., dict[str, Any]]) -> None:
    assert not wait(health(Voter=False), health(), wait=5).get("failed")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SerfStatus": "failed"}, "node3 is failed"),
        ({"Voter": False}, "node3 does not vote yet"),
        ({"Healthy": False}, "node3 is not up to date"),
        ({"Name": "other"}, "node3 is not among the servers"),
    ],
)
def test_what_is_not_so_is_said(wait: Callable[..., dict[str, Any]], changes: dict[str, Any], words: str) -> None:
    assert words in wait(health(**changes))["msg"]


@pytest.mark.parametrize(
    ("raft", "words"),
    [
        ({"state": "Candidate", "last_contact": "2s", "applied_index": "40"}, "is no peer yet"),
        ({"state": "Follower", "last_contact": "never", "applied_index": "40"}, "is no peer yet"),
        ({"state": "Follower", "last_contact": "9ms", "applied_index": "39"}, "at index 39 of 40"),
    ],
)
def test_a_server_that_was_just_restarted_is_asked_itself(
    wait: Callable[..., dict[str, Any]], raft: dict[str, str], words: str
) -> None:
    assert words in wait(health(), raft=raft)["msg"]
    assert not wait(health(), raft=dict(raft, state="Follower", last_contact="9ms", applied_index="41")).get("failed")


def test_another_version_than_the_wanted_one_fails(wait: Callable[..., dict[str, Any]]) -> None:
    assert "Consul 1.8.7+dfsg1 runs here, not 1.9.0" in wait(health(), version="1.9.0")["msg"]
    assert not wait(health(), version="?").get("failed")
