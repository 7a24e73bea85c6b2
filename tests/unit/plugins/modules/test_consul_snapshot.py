# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Consul is asked for a backup and for a restore; Consul is played, as it was seen to answer (1.8.7)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _consul_snapshot as steps
from ansible_collections.multihost.overlay.plugins.module_utils import _snapshot
from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import ConsulError
from ansible_collections.multihost.overlay.plugins.modules import consul_snapshot as module

NETWORK = "docker/network/v1.0/network/"


def row(key: str, value: str = "", index: int = 5) -> dict[str, Any]:
    return {"Key": key, "Value": base64.b64encode(value.encode()).decode(), "Flags": 0, "ModifyIndex": index}


def network(name: str) -> dict[str, Any]:
    record = {"id": f"id-{name}", "name": name, "networkType": "overlay"}
    return row(f"{NETWORK}id-{name}/", json.dumps(record))


class Played:
    """A Consul with Docker's keys; its snapshot are the keys themselves."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.version = "1.8.7"
        self.asked: list[tuple[str, str, Any]] = []
        self.refuses: list[ConsulError] = []
        self.between: Callable[[], None] = lambda: None
        self.nodes = [{"Node": "node1", "ID": "a"}]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path.partition("?")[0], body))
        if self.refuses:
            raise self.refuses.pop(0)
        answers = {
            "agent/self": {"Config": {"Version": self.version, "Datacenter": "dc1"}},
            "agent/members": [{"Name": "node1", "Addr": "10.0.0.1", "Status": 1, "Tags": {"id": "a"}}],
            "catalog/nodes": self.nodes,
            "kv/": [entry["Key"] for entry in self.rows],
            "kv/docker/": self.rows or None,
        }
        return answers.get(path.partition("?")[0])

    def send(self, method: str, path: str, data: bytes | None = None, timeout: float = 0) -> bytes:
        self.asked.append((method, path, data))
        if method == "PUT":
            self.rows = json.loads(data or b"")
            return b""
        taken = json.dumps(self.rows).encode()
        self.between()
        return taken

    def changes(self) -> list[tuple[str, Any]]:
        return [(path, body) for method, path, body in self.asked if method == "PUT"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(played: Played, check: bool = False, **params: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "consul_of", lambda *_words: played)
        return run_module(module.main, {"token": "t-o-k-e-n", "wait": 1, **params}, check=check)

    monkeypatch.setattr(steps, "POLL", 0.01)
    monkeypatch.setattr(_snapshot, "check", lambda data: {"index": 7, "bytes": len(data)})
    return run


def test_it_is_read(call: Callable[..., dict[str, Any]]) -> None:
    result = call(Played(network("shop"), row("mine/x", "y")))
    assert (result["answers"], result["version"], result["others"]) == (True, "1.8.7", 1)
    assert [entry["name"] for entry in result["networks"]] == ["shop"]


def test_a_store_that_does_not_answer_is_no_failure_when_it_is_read_alone(call: Callable[..., dict[str, Any]]) -> None:
    played = Played()
    played.refuses = [ConsulError("nobody there", 0)]
    assert call(played)["why"] == "nobody there"
    played.refuses = [ConsulError("nobody there", 0)]
    assert "nobody there" in call(played, state="taken")["msg"]


def test_a_snapshot_has_the_networks_that_are_said_of_it(call: Callable[..., dict[str, Any]]) -> None:
    """One that came while it was taken is in the next one."""
    played = Played(network("shop"))

    def comes() -> None:
        played.between = lambda: None
        played.rows.append(network("late"))

    played.between = comes
    result = call(played, state="taken")
    assert [entry["name"] for entry in result["networks"]] == ["late", "shop"]
    assert len(json.loads(base64.b64decode(result["content"]))) == 2
    assert not played.changes()


def test_networks_that_never_stand_still_end_it(call: Callable[..., dict[str, Any]]) -> None:
    played = Played()
    played.between = lambda: played.rows.append(network(str(len(played.rows))))
    assert "come and go so fast" in call(played, state="taken")["msg"]


def test_of_somebody_elses_only_dockers_keys_are_taken(call: Callable[..., dict[str, Any]]) -> None:
    played = Played(network("shop"))
    result = call(played, state="taken", scope="docker")
    assert [entry["Key"] for entry in json.loads(result["content"])] == [f"{NETWORK}id-shop/"]
    assert result["others"] is None
    assert {path for _method, path, _body in played.asked} == {"agent/self", "kv/docker/"}


def test_a_token_that_may_not_ask_the_agent_is_enough(call: Callable[..., dict[str, Any]]) -> None:
    played = Played(network("shop"))
    played.refuses = [ConsulError("no", 403)]
    assert call(played, scope="docker")["version"] == ""


def saved(*rows: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(rows).encode()).decode()


def test_everything_is_replaced(call: Callable[..., dict[str, Any]]) -> None:
    played = Played(network("new"))
    result = call(played, state="restored", content=saved(network("shop")), version="1.8.7")
    assert result["changed"]
    assert [entry["name"] for entry in result["networks"]] == ["shop"]
    assert [path for path, _body in played.changes()] == ["snapshot"]


def test_hosts_that_are_no_more_leave_the_catalog(call: Callable[..., dict[str, Any]]) -> None:
    played = Played()
    played.nodes = [{"Node": "node1", "ID": "of before"}, {"Node": "lost", "ID": "b"}]
    call(played, state="restored", content=saved())
    paths = [path for path, _body in played.changes()]
    assert paths == ["snapshot", "catalog/deregister", "catalog/deregister", "catalog/register"]


def test_a_server_that_has_just_taken_it_over_is_waited_for(
    call: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played()
    send = played.send

    def busy(method: str, path: str, data: bytes | None = None, timeout: float = 0) -> bytes:
        played.refuses = [ConsulError("no leader", 500), ConsulError("no tokens yet", 403)]
        return send(method, path, data)

    monkeypatch.setattr(played, "send", busy)
    assert call(played, state="restored", content=saved(network("shop")))["networks"]


def test_an_older_consul_is_left_alone(call: Callable[..., dict[str, Any]]) -> None:
    played = Played()
    assert "Nothing was restored" in call(played, state="restored", content=saved(), version="1.10.0")["msg"]
    assert not played.changes()


def test_a_damaged_snapshot_is_not_put(call: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_data: bytes) -> Any:
        raise _snapshot.SnapshotError("the snapshot is damaged")

    monkeypatch.setattr(_snapshot, "check", check)
    played = Played()
    assert "damaged" in call(played, state="restored", content=saved())["msg"]
    assert not played.changes()


def test_of_somebody_elses_only_what_differs_is_put(call: Callable[..., dict[str, Any]]) -> None:
    played = Played(row("docker/a", "old", 7), row("docker/b", "new", 8))
    content = json.dumps([row("docker/a", "was")])
    result = call(played, state="restored", scope="docker", content=content)
    assert (result["changed"], result["keys"]) == (True, 2)
    ((path, body),) = played.changes()
    assert path == "txn"
    assert [step["KV"]["Verb"] for step in body] == ["cas", "delete-cas"]
    assert not call(Played(row("docker/a", "was")), state="restored", scope="docker", content=content)["changed"]


def test_who_was_quicker_is_told(call: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(row("docker/a", "old", 7))
    ask = played.ask

    def quicker(method: str, path: str, body: Any = None) -> Any:
        if path == "txn":
            raise ConsulError("index mismatch", 409)
        return ask(method, path, body)

    monkeypatch.setattr(played, "ask", quicker)
    said = call(played, state="restored", scope="docker", content=json.dumps([row("docker/a", "was")]))["msg"]
    assert "0 of 1 keys are restored" in said
    assert "Run it again" in said


@pytest.mark.parametrize("scope", ["everything", "docker"])
def test_in_check_mode_nothing_is_put(call: Callable[..., dict[str, Any]], scope: str) -> None:
    played = Played(row("docker/a", "old", 7))
    assert call(played, True, state="restored", scope=scope, content="[]")["changed"]
    assert call(played, True, state="drilled", scope=scope, content="[]")["differences"] == {}
    assert not played.changes()


def test_keys_alone_are_compared_without_a_second_consul(call: Callable[..., dict[str, Any]]) -> None:
    played = Played(row("docker/a", "old", 7), row("docker/b", "new", 8))
    result = call(
        played, state="drilled", scope="docker", content=json.dumps([row("docker/a", "was"), row("docker/c", "c")])
    )
    assert result["differences"] == {
        "added": ["key docker/b"],
        "removed": ["key docker/c"],
        "changed": ["key docker/a"],
    }
    assert not played.changes()


def test_a_drill_puts_it_elsewhere(call: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    throwaway, played = Played(), Played(network("shop"), network("new"))

    class Drill:
        def __init__(self, *_words: str) -> None:
            pass

        def __enter__(self) -> Played:
            return throwaway

        def __exit__(self, *_exc: object) -> None:
            pass

    monkeypatch.setattr(module, "Drill", Drill)
    result = call(played, state="drilled", content=saved(network("shop"), network("old")))
    assert result["differences"] == {"added": ["network new"], "removed": ["network old"], "changed": []}
    assert not result["changed"]
    assert not played.changes()
    assert throwaway.changes()
