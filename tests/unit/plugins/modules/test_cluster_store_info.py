# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_store_info: what it shows, compares and waits for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError, StoreUrl
from ansible_collections.multihost.overlay.plugins.modules import cluster_store_info

URL = "consul://127.0.0.1:8500"


class FakeStore:
    """``looks`` are the engines registered at each look, the last one for ever; an exception is raised."""

    def __init__(self) -> None:
        self.url = StoreUrl("consul", "127.0.0.1", 8500, "")
        self.leaders = ["10.89.3.11:8300"]
        self.looks: list[Any] = [["10.89.3.11:2376", "10.89.3.12:2376"]]

    def leader(self) -> str:
        return self.leaders.pop(0) if len(self.leaders) > 1 else self.leaders[0]

    def nodes(self) -> list[str]:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, list):
            return look
        raise StoreError(str(look))

    def networks(self) -> list[dict[str, Any]]:
        return [{"id": "id1", "name": "a"}, {"id": "id2", "name": "a"}, {"id": "id3", "name": "b"}]

    def endpoints(self) -> list[dict[str, Any]]:
        return [{"network_id": "id1"}, {"network_id": "id1"}, {"network_id": "gone"}]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore()
    monkeypatch.setattr(cluster_store_info, "open_store", lambda url, token, options: fake)
    monkeypatch.setattr(cluster_store_info, "POLL", 0.01)
    return fake


def test_shows_the_store(run_module: Any, store: FakeStore) -> None:
    result = run_module(cluster_store_info.main, {"url": URL})
    assert (result["leader"], result["hosts"]) == ("10.89.3.11:8300", ["10.89.3.11:2376", "10.89.3.12:2376"])
    assert (result["missing"], result["ghosts"]) == (None, None)
    assert [network["endpoints"] for network in result["networks"]] == [2, 0, 0]
    assert result["duplicates"] == {"a": ["id1", "id2"]}
    assert (result["endpoints"], result["url"], result["changed"]) == (3, URL, False)


def test_compares_without_failing(run_module: Any, store: FakeStore) -> None:
    result = run_module(cluster_store_info.main, {"url": URL, "expected_hosts": ["10.89.3.11", "10.89.3.13:2376"]})
    assert (result["missing"], result["ghosts"]) == (["10.89.3.13:2376"], ["10.89.3.12:2376"])


def test_waits_for_a_leader_and_the_hosts(run_module: Any, store: FakeStore) -> None:
    store.leaders = ["", "10.89.3.11:8300"]
    store.looks = [StoreError("500"), [], ["10.89.3.11:2376"]]
    result = run_module(cluster_store_info.main, {"url": URL, "expected_hosts": ["10.89.3.11:2376"], "wait": 10})
    assert result["missing"] == []


def test_names_who_is_missing_in_the_end(run_module: Any, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(cluster_store_info.time, "monotonic", lambda: next(clock))
    result = run_module(cluster_store_info.main, {"url": URL, "expected_hosts": ["10.89.3.13:2376"], "wait": 5})
    assert result["failed"]
    assert "registered in consul://127.0.0.1:8500: 10.89.3.13:2376; registered are: 10.89.3.11:2376" in result["msg"]


def test_no_leader_is_a_failure(run_module: Any, store: FakeStore) -> None:
    store.leaders = [""]
    assert "has no leader" in run_module(cluster_store_info.main, {"url": URL})["msg"]


def test_the_engine_names_the_store(run_module: Any, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Docker:
        def info(self) -> dict[str, Any]:
            return {"ClusterStore": "consul://127.0.0.9:8500"}

    monkeypatch.setattr(cluster_store_info, "DockerClient", Docker)
    assert run_module(cluster_store_info.main, {})["url"] == "consul://127.0.0.9:8500"
