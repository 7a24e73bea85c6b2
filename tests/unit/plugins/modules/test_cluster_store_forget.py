# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host that is gone is taken out of the store, and what of others stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_steps import RepairError
from ansible_collections.multihost.overlay.plugins.modules import cluster_store_forget as module

NID = "aa" * 32


def endpoint(name: str, host: str) -> dict[str, str]:
    return {"id": f"id-{name}", "name": name, "network_id": NID, "ipv4": "10.1.0.2/24", "host": host}


class Keys:
    """The hosts' entries, as Consul has them."""

    def __init__(self, nodes: list[str]) -> None:
        self.nodes = nodes

    def below(self, name: str) -> list[dict[str, Any]]:
        return [{"Key": f"their/{name}{node}", "ModifyIndex": 7} for node in self.nodes]

    def transact(self, operations: list[dict[str, Any]]) -> None:
        (entry,) = (operation["KV"] for operation in operations)
        assert (entry["Verb"], entry["Index"]) == ("delete-cas", 7)
        self.nodes.remove(entry["Key"].rpartition("/")[2])


class Store:
    """A store, and who repairs it; ``stubborn`` endpoints go at the second try, or never."""

    def __init__(self, stubborn: int = 0) -> None:
        self.endpoints = [endpoint("web", "10.0.0.4"), endpoint("db", "10.0.0.1"), endpoint("app", "10.0.0.4")]
        self.keys = Keys(["10.0.0.1:2376", "10.0.0.4:2376", "10.0.0.41:2376"])
        self.stubborn = stubborn
        self.kept: list[list[str]] = []

    def backup(self, steps: list[dict[str, str]], folder: str, _now: float, what: str) -> str:
        self.kept.append([one["name"] for one in steps])
        return f"{folder}/{what}-{len(self.kept)}.json" if steps else ""

    def do(self, one: dict[str, str]) -> dict[str, Any]:
        if self.stubborn:
            self.stubborn -= 1
            return {**one, "done": False, "error": "it has changed meanwhile"}
        self.endpoints = [row for row in self.endpoints if row["id"] != one["thing"]]
        return {**one, "done": True, "error": ""}

    def look(self, _reader: Any, _token: str) -> dict[str, Any]:
        networks = [{"id": NID, "name": "shop"}]
        store = {"nodes": list(self.keys.nodes), "networks": networks, "endpoints": list(self.endpoints)}
        return {"store": store, "repairer": self}


@pytest.fixture
def ask(
    monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    def run(store: Store, check: bool = False) -> dict[str, Any]:
        monkeypatch.setattr(module, "look", store.look)
        params = {"address": "10.0.0.4", "backup_dir": str(tmp_path)}
        return run_module(module.main, params, check=check)

    return run


def test_what_the_host_left_goes_and_what_others_have_stays(ask: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    store = Store()
    dry = ask(store, check=True)
    assert (dry["changed"], dry["nodes"], store.kept, len(store.endpoints)) == (True, ["10.0.0.4:2376"], [], 3)
    done = ask(store)
    assert [row["name"] for row in done["endpoints"]] == ["web", "app"]
    assert done["endpoints"][0] == {"name": "web", "network": "shop", "address": "10.1.0.2/24"}
    assert done["backup"] == f"{tmp_path}/removed-1.json"
    assert [row["name"] for row in store.endpoints] == ["db"]
    # The beginning of another's address is not that host.
    assert store.keys.nodes == ["10.0.0.1:2376", "10.0.0.41:2376"]
    assert ask(store)["changed"] is False


def test_what_changes_in_that_moment_is_looked_at_again(ask: Callable[..., dict[str, Any]]) -> None:
    store = Store(stubborn=2)
    assert ask(store)["changed"]
    assert [row["name"] for row in store.endpoints] == ["db"]


def test_what_does_not_go_is_a_failure(ask: Callable[..., dict[str, Any]]) -> None:
    assert "still has 2 endpoints of 10.0.0.4: it has changed" in ask(Store(stubborn=99))["msg"]


def test_a_host_that_is_in_no_store_cannot_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_engine", lambda _reader, _client: {"info": {}, "pid": 0})
    with pytest.raises(RepairError, match="in no store"):
        module.look(module.Reader(), "")
