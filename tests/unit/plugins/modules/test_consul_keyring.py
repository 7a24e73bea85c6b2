# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which a gossip key changes; Consul is played, as it was seen to answer (1.8.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.modules import consul_keyring as module

OLD, NEW = "b2xkb2xkb2xkb2xkb2xkbw==", "bmV3bmV3bmV3bmV3bmV3bg=="


class Played:
    """A ring of members, of which some may be deaf for new keys."""

    def __init__(self, keys: dict[str, int], nodes: int = 3, reached: int = 3, statuses: tuple[int, ...] = (1, 1, 1)):
        self.keys, self.nodes, self.reached, self.statuses = dict(keys), nodes, reached, statuses
        self.asked: list[tuple[str, Any]] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        if path == "agent/members":
            return [{"Name": f"node{number + 1}", "Status": status} for number, status in enumerate(self.statuses)]
        if method == "GET":
            return [{"Datacenter": "dc1", "WAN": False, "NumNodes": self.nodes, "Keys": dict(self.keys)}]
        self.asked.append((method, body["Key"]))
        if method == "POST":
            self.keys[body["Key"]] = max(self.reached, self.keys.get(body["Key"], 0))
        if method == "DELETE":
            del self.keys[body["Key"]]
        return None


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(played: Played, **options: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "Consul", lambda _url, _token: played)
        return run_module(module.main, {"token": "t", "key": NEW}, **options)

    return run


def test_a_key_is_installed_used_and_then_alone(change: Callable[..., dict[str, Any]]) -> None:
    played = Played({OLD: 3})
    assert change(played)["steps"] == ["installed", "used", "removed 1"]
    assert played.asked == [("POST", NEW), ("PUT", NEW), ("DELETE", OLD)]
    assert not change(played)["changed"]


def test_a_rotation_that_was_interrupted_goes_on(change: Callable[..., dict[str, Any]]) -> None:
    played = Played({OLD: 3, NEW: 3})
    assert change(played)["changed"]
    assert played.keys == {NEW: 3}


def test_while_a_member_lacks_the_new_key_the_old_one_stays(change: Callable[..., dict[str, Any]]) -> None:
    played = Played({OLD: 3}, reached=2)
    assert "not every member" in change(played)["msg"]
    assert played.asked == [("POST", NEW)]


def test_a_member_that_is_away_is_named_before_anything_is_done(change: Callable[..., dict[str, Any]]) -> None:
    played = Played({OLD: 3}, statuses=(1, 4, 3))
    message = change(played)["msg"]
    assert "node2 would keep the old key" in message and "node3" not in message
    assert played.asked == []


def test_check_mode_only_tells(change: Callable[..., dict[str, Any]]) -> None:
    played = Played({OLD: 3})
    assert change(played, check=True)["steps"] == ["installed", "used", "removed 1"]
    assert played.asked == []
