# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""overlay_network: what it asks the engine and the store, and what it says."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError, StoreUrl
from ansible_collections.multihost.overlay.plugins.modules import overlay_network

WANTED = {"name": "vnet1", "subnet": "10.201.1.0/24", "gateway": "10.201.1.1", "timeout": 1}


class FakeDocker:
    """An engine with networks by id; every change is recorded in ``sent``."""

    def __init__(self) -> None:
        self.networks: dict[str, dict[str, Any]] = {}
        self.sent: list[tuple[Any, ...]] = []
        self.stopped: list[dict[str, Any]] = []
        self.engine: dict[str, Any] = {"Name": "node1", "ClusterStore": "consul://127.0.0.1:8500"}
        self.alive = True
        self.refuse: list[str] = []

    def available(self) -> bool:
        return self.alive

    def info(self) -> dict[str, Any]:
        if not self.alive:
            raise DockerError("the Docker engine does not answer")
        return self.engine

    def get(self, path: str, query: Any = None) -> Any:
        if path == "/containers/json":
            assert query["all"] is True
            assert query["filters"]["network"]
            return self.stopped
        name = path.rsplit("/", 1)[-1]
        # As Docker does: a whole name before the beginning of an id.
        found = [network for network in self.networks.values() if network["Name"] == name]
        found += [network for network in self.networks.values() if network["Id"].startswith(name)]
        if not found:
            raise DockerError(f"network {name} not found", 404)
        return found[0]

    def post(self, path: str, body: Any = None, query: Any = None) -> Any:
        self.sent.append(("POST", path, body))
        if path.endswith("/disconnect"):
            return None
        if self.refuse:
            raise DockerError(self.refuse.pop(0), 500)
        identifier = f"new{len(self.sent)}"
        self.networks[identifier] = {
            **body,
            "Id": identifier,
            "Scope": "global",
            "Containers": {},
            "IPAM": {"Config": [dict(config) for config in body["IPAM"]["Config"]]},
        }
        return {"Id": identifier, "Warning": ""}

    def delete(self, path: str) -> None:
        self.sent.append(("DELETE", path))
        del self.networks[path.rsplit("/", 1)[-1]]


class FakeStore:
    """A store that holds the engine's networks and what a test adds."""

    def __init__(self, docker: FakeDocker) -> None:
        self.docker = docker
        self.url = StoreUrl("consul", "127.0.0.1", 8500, "")
        self.others: list[dict[str, Any]] = []
        self.stored: list[dict[str, Any]] = []
        self.locks: list[str] = []
        self.while_waiting: Any = None

    def networks(self) -> list[dict[str, Any]]:
        own = [
            {"id": n["Id"], "name": n["Name"], "subnets": [c["Subnet"] for c in n["IPAM"]["Config"]]}
            for n in self.docker.networks.values()
            if n["Driver"] == "overlay"
        ]
        return own + self.others

    def endpoints(self) -> list[dict[str, Any]]:
        return self.stored

    @contextmanager
    def lock(self, owner: str, wait: float) -> Iterator[Any]:
        self.locks.append(f"taken for {wait}")
        if self.while_waiting:
            self.while_waiting()
        yield self
        self.locks.append("given back")

    def check(self) -> None:
        self.locks.append("checked")


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker()
    monkeypatch.setattr(overlay_network, "DockerClient", lambda timeout: fake)
    return fake


@pytest.fixture
def store(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore(docker)
    monkeypatch.setattr(overlay_network, "open_store", lambda url, token, options: fake)
    return fake


@pytest.fixture
def run(run_module: Any, docker: FakeDocker, store: FakeStore) -> Any:
    def call(check: bool = False, **params: Any) -> dict[str, Any]:
        return run_module(overlay_network.main, {**WANTED, **params}, check=check)

    return call


def test_create_under_the_lock_then_nothing(run: Any, docker: FakeDocker, store: FakeStore) -> None:
    result = run(labels={"tier": 1})
    assert (result["changed"], result["action"], result["id"]) == (True, "create", "new1")
    assert store.locks == ["taken for 1", "checked", "given back"]
    assert docker.sent[0][1] == "/networks/create"
    assert docker.sent[0][2]["CheckDuplicate"] is True
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["subnet"] == "10.201.1.0/24"
    again = run(labels={"tier": 1})
    assert (again["changed"], again["action"], again["id"], again["differences"]) == (False, "none", "new1", [])
    assert len(docker.sent) == 1
    assert len(store.locks) == 3


def test_check_mode_creates_nothing_and_takes_no_lock(run: Any, docker: FakeDocker, store: FakeStore) -> None:
    result = run(check=True)
    assert (result["changed"], result["action"], result["id"]) == (True, "create", "")
    assert (docker.sent, store.locks) == ([], [])


def test_another_run_created_it_while_we_waited(run: Any, docker: FakeDocker, store: FakeStore) -> None:
    definition = {"Name": "vnet1", "Driver": "overlay", "Internal": False, "Attachable": False}
    config = {"Subnet": WANTED["subnet"], "Gateway": WANTED["gateway"]}
    store.while_waiting = lambda: docker.networks.update(
        theirs={**definition, "Id": "theirs", "Containers": {}, "IPAM": {"Config": [config]}}
    )
    result = run()
    assert (result["changed"], result["id"]) == (False, "theirs")
    assert docker.sent == []


def test_a_difference_is_an_error_unless_recreate(run: Any, docker: FakeDocker) -> None:
    run()
    refused = run(mtu=1400)
    assert refused["failed"]
    assert "mtu is None, wanted 1400" in refused["msg"]
    assert refused["differences"] == [{"key": "mtu", "wanted": 1400, "found": None}]
    result = run(mtu=1400, recreate=True)
    assert (result["action"], result["changed"]) == ("recreate", True)
    assert result["differences"] == [{"key": "mtu", "wanted": 1400, "found": None}]
    assert [sent[:2] for sent in docker.sent[1:]] == [("DELETE", "/networks/new1"), ("POST", "/networks/create")]
    assert (result["diff"]["before"]["mtu"], result["diff"]["after"]["mtu"]) == (None, 1400)


def test_a_refused_recreate_brings_the_old_one_back(run: Any, docker: FakeDocker) -> None:
    run()
    docker.refuse = ["no such option"]
    result = run(mtu=1400, recreate=True)
    assert result["failed"]
    assert "no such option. The old one is back" in result["msg"]
    assert [network["Options"] for network in docker.networks.values()] == [{}]


def test_a_refused_recreate_and_restore_says_so(run: Any, docker: FakeDocker) -> None:
    run()
    docker.refuse = ["first", "second"]
    result = run(mtu=1400, recreate=True)
    assert "(first) and also the old one (second)" in result["msg"]


@pytest.mark.parametrize("change", [{"state": "absent"}, {"mtu": 1400, "recreate": True}])
def test_attached_anywhere_is_refused(run: Any, docker: FakeDocker, store: FakeStore, change: Any) -> None:
    run()
    docker.networks["new1"]["Containers"] = {"c1": {"Name": "here", "EndpointID": "e1"}}
    store.stored = [{"id": "e2", "name": "there", "network_id": "new1", "host": "10.89.3.12"}]
    docker.stopped = [{"Id": "c3", "Names": ["/off"]}]
    refused = run(**change)
    assert refused["failed"]
    for name in ("here (running)", "there (in the store only, host 10.89.3.12)", "off (stopped on this host)"):
        assert name in refused["msg"]
    assert len(docker.sent) == 1
    result = run(**change, force=True)
    assert result["attached"] == ["here", "there", "off"]
    disconnects = [sent[2] for sent in docker.sent if sent[1] == "/networks/new1/disconnect"]
    assert disconnects == [{"Container": name, "Force": True} for name in ("c1", "there", "c3")]


def test_absent(run: Any, docker: FakeDocker) -> None:
    assert run(state="absent")["changed"] is False
    run()
    shown = run(state="absent", check=True)
    assert (shown["changed"], shown["action"], shown["network"]) == (True, "remove", None)
    result = run(state="absent")
    assert (result["changed"], result["network"], docker.networks) == (True, None, {})


def test_duplicates_in_the_store_are_named(run: Any, docker: FakeDocker, store: FakeStore) -> None:
    store.others = [{"id": "id1", "name": "vnet1", "subnets": []}, {"id": "id2", "name": "vnet1", "subnets": []}]
    for state in ("present", "absent"):
        result = run(state=state)
        assert "2 networks are named vnet1: id1, id2" in result["msg"]
        assert result["ids"] == ["id1", "id2"]
    assert docker.sent == []


def test_an_ambiguous_answer_is_resolved_to_ids(run: Any, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(path: str, query: Any = None) -> Any:
        if path == "/networks":
            assert query == {"filters": {"name": ["vnet1"]}}
            return [{"Id": "b", "Name": "vnet1"}, {"Id": "c", "Name": "vnet10"}, {"Id": "a", "Name": "vnet1"}]
        raise DockerError("network vnet1 is ambiguous (2 matches found on name)", 400)

    monkeypatch.setattr(docker, "get", get)
    assert "2 networks are named vnet1: a, b" in run()["msg"]


def test_an_overlap_names_the_other_network(run: Any, docker: FakeDocker, store: FakeStore) -> None:
    store.others = [{"id": "id1", "name": "wide", "subnets": ["10.201.0.0/16"]}]
    for check in (True, False):
        assert "overlaps that of wide (id1, 10.201.0.0/16)" in run(check=check)["msg"]
    assert docker.sent == []


def test_a_bad_definition_is_refused_before_the_engine_is_asked(run: Any, docker: FakeDocker) -> None:
    docker.alive = False
    result = run(encrypted=True, gateway="10.9.9.9")
    assert "refused in classic mode" in result["msg"]
    assert "outside the subnet" in result["msg"]


def test_no_engine(run: Any, docker: FakeDocker) -> None:
    docker.alive = False
    assert "does not answer" in run()["msg"]
    shown = run(check=True)
    assert (shown["changed"], shown["action"], shown["id"]) == (True, "create", "")
    assert "not installed" in shown["message"]
    assert run(check=True, state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"Name": "node1", "ClusterStore": ""}, "the engine of node1 has no key-value store"),
        ({"Name": "node1", "Swarm": {"LocalNodeState": "active"}}, "in Swarm mode"),
        ({"Name": "node1", "Swarm": {"LocalNodeState": "inactive"}}, "set cluster-store"),
    ],
)
def test_an_engine_without_a_store(run: Any, docker: FakeDocker, engine: dict[str, Any], words: str) -> None:
    docker.engine = engine
    assert words in run()["msg"]
    shown = run(check=True)
    assert shown["changed"] is True
    assert words in shown["message"]


def test_a_beginning_of_an_id_is_not_a_name(run: Any, docker: FakeDocker) -> None:
    run(name="other", subnet="10.202.0.0/24", gateway="10.202.0.1")
    assert run(name="new1")["action"] == "create"


def test_a_failing_store_is_explained(run: Any, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise StoreError("no leader")

    monkeypatch.setattr(store, "networks", fail)
    assert run()["msg"].endswith(": no leader")
