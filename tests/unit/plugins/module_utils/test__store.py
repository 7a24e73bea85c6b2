# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam to the store, what Docker writes into it, and Consul's class with a stand-in client."""

from __future__ import annotations

import json
from typing import Any

import consul
import pytest
import requests

from ansible_collections.multihost.overlay.plugins.module_utils import _store, _store_consul, _store_content

URL = _store.StoreUrl("consul", "127.0.0.1", 8500, "")


class FakeKV:
    """As much of Consul's KV as is used: recursive get, put with acquire, delete with cas."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        self.data = dict(data or {})
        self.owner: dict[str, str] = {}
        self.calls: list[tuple[Any, ...]] = []

    def get(self, key: str, recurse: bool = False, **options: Any) -> tuple[str, Any]:
        self.calls.append(("get", key, recurse, options))
        if recurse:
            found = [{"Key": name, "Value": value} for name, value in self.data.items() if name.startswith(key)]
            return "1", found or None
        if key not in self.data:
            return "1", None
        return "1", {"Value": self.data[key], "Session": self.owner.get(key), "ModifyIndex": 7}

    def put(self, key: str, value: str, acquire: str) -> bool:
        self.calls.append(("put", key, value, acquire))
        if self.owner.get(key, acquire) != acquire:
            return False
        self.data[key], self.owner[key] = value.encode(), acquire
        return True

    def delete(self, key: str, cas: int) -> None:
        self.calls.append(("delete", key, cas))
        del self.data[key], self.owner[key]


class FakeSession:
    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.destroyed: list[str] = []
        self.renewed: list[str] = []
        self.failures: list[Exception] = []

    def create(self, **options: Any) -> str:
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(options)
        return f"s{len(self.created)}"

    def destroy(self, session: str) -> None:
        self.destroyed.append(session)

    def renew(self, session: str) -> None:
        self.renewed.append(session)


class FakeConsul:
    def __init__(self, data: dict[str, Any] | None = None) -> None:
        self.kv = FakeKV(data)
        self.session = FakeSession()


def store(client: FakeConsul, url: _store.StoreUrl = URL) -> _store_consul.ConsulStore:
    return _store_consul.ConsulStore(url, client=client)


def network_record(name: str, identifier: str, pool: str, **more: Any) -> bytes:
    info = [{"PoolID": "x", "IPAMData": json.dumps({"AddressSpace": "GlobalDefault", "Pool": pool})}]
    record = {"id": identifier, "name": name, "networkType": "overlay", "ipamV4Info": json.dumps(info), **more}
    return json.dumps(record).encode()


def content() -> dict[str, Any]:
    base = "docker/network/v1.0/"
    return {
        "docker/nodes/10.89.3.12:2376": b"10.89.3.12:2376",
        "docker/nodes/10.89.3.11:2376": b"10.89.3.11:2376",
        base + "network/": None,
        base + "network/id1/": network_record("vnet1", "id1", "10.201.1.0/24"),
        base + "network/id3/": network_record("going", "id3", "10.201.3.0/24", inDelete=True),
        base + "network/id2/": network_record("alpha", "id2", "10.201.2.0/24"),
        base + "overlay/network/id1/": json.dumps(
            {"mtu": 1400, "subnets": [{"GwIP": "10.201.1.1/24", "SubnetIP": "10.201.1.0/24", "Vni": 256}]}
        ).encode(),
        base + "endpoint/gone/": b"",
        base + "endpoint/id1/e1/": json.dumps(
            {"id": "e1", "name": "web", "locator": "10.89.3.11", "ep_iface": {"addr": "10.201.1.2/24"}}
        ).encode(),
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("consul://127.0.0.1:8500", ("consul", "127.0.0.1", 8500, "")),
        ("consul://store.example:8500/some/prefix/", ("consul", "store.example", 8500, "some/prefix")),
    ],
)
def test_url(url: str, expected: tuple[Any, ...]) -> None:
    assert tuple(_store.parse_url(url)) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("consul://a:8500,b:8500", "exactly one endpoint"),
        ("127.0.0.1:8500", "is not the URL of a store"),
        ("consul://127.0.0.1", "is not the URL of a store"),
        ("consul://127.0.0.1:port", "is not the URL of a store"),
    ],
)
def test_a_bad_url_is_explained(url: str, words: str) -> None:
    with pytest.raises(_store.StoreError, match=words):
        _store.parse_url(url)


def test_an_unknown_store_is_an_error() -> None:
    with pytest.raises(_store.StoreError, match=r"etcd://127.0.0.1:2379.*can only read stores of the kind consul"):
        _store.open_store("etcd://127.0.0.1:2379")


def test_consul_is_opened_without_asking_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "elsewhere:1")
    monkeypatch.delenv("CONSUL_HTTP_TOKEN", raising=False)
    opened = _store.open_store("consul://127.0.0.9:8501", token="secret", timeout=3)
    http: Any = vars(opened)["client"].http
    assert http.base_uri == "http://127.0.0.9:8501"
    assert http.session.cert is None
    assert http.session.headers["X-Consul-Token"] == "secret"
    assert http.session.trust_env is False
    assert http.session.request.keywords == {"timeout": 3}


def test_tls_is_spoken_where_docker_speaks_it() -> None:
    files = {"kv.cacertfile": "/ca", "kv.certfile": "/crt", "kv.keyfile": "/key"}
    http: Any = vars(_store.open_store("consul://127.0.0.9:8501", None, files))["client"].http
    assert (http.base_uri, http.verify, http.session.cert) == ("https://127.0.0.9:8501", "/ca", ("/crt", "/key"))
    # Docker would speak in the clear with two of them.
    del files["kv.keyfile"]
    plain: Any = vars(_store.open_store("consul://127.0.0.9:8501", None, files))["client"].http
    assert plain.base_uri == "http://127.0.0.9:8501"


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "IMPORT_ERROR", "no module")
    with pytest.raises(_store.StoreError, match="python3-consul"):
        _store.open_store("consul://127.0.0.1:8500")


def test_content() -> None:
    found = store(FakeConsul(content()))
    assert found.nodes() == ["10.89.3.11:2376", "10.89.3.12:2376"]
    assert found.networks() == [
        {"id": "id2", "name": "alpha", "driver": "overlay", "subnets": ["10.201.2.0/24"], "vnis": [], "mtu": None},
        {"id": "id1", "name": "vnet1", "driver": "overlay", "subnets": ["10.201.1.0/24"], "vnis": [256], "mtu": 1400},
    ]
    assert found.endpoints() == [
        {"id": "e1", "name": "web", "network_id": "id1", "ipv4": "10.201.1.2/24", "host": "10.89.3.11"}
    ]


def test_an_empty_store_is_empty() -> None:
    found = store(FakeConsul())
    assert (found.nodes(), found.networks(), found.endpoints()) == ([], [], [])


def test_the_prefix_of_the_url_leads_every_key() -> None:
    client = FakeConsul({f"some/{key}": value for key, value in content().items()})
    found = store(client, _store.StoreUrl("consul", "127.0.0.1", 8500, "some"))
    assert len(found.nodes()) == 2
    assert [network["name"] for network in found.networks()] == ["alpha", "vnet1"]
    with found.lock("me", 1):
        assert "some/docker/multihost-overlay/lock" in client.kv.data


@pytest.mark.parametrize("value", [b"not json", b"[]"])
def test_a_foreign_value_names_its_key(value: bytes) -> None:
    client = FakeConsul({"docker/network/v1.0/network/x": value})
    with pytest.raises(_store.StoreError, match=r"docker/network/v1\.0/network/x"):
        store(client).networks()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (requests.ConnectionError("refused"), "does not answer with its leader: refused"),
        (consul.ConsulException("500 No cluster leader"), "No cluster leader"),
        (consul.ACLPermissionDenied("Permission denied"), "Pass a token"),
    ],
)
def test_failures_of_consul_are_explained(failure: Exception, words: str) -> None:
    class Status:
        def leader(self) -> str:
            raise failure

    client = FakeConsul()
    vars(client)["status"] = Status()
    with pytest.raises(_store.StoreError, match=words):
        store(client).leader()


def test_duplicates_and_hosts_are_compared() -> None:
    stored = [{"name": "a", "id": "1"}, {"name": "a", "id": "2"}, {"name": "b", "id": "3"}]
    assert _store_content.duplicates(stored) == {"a": ["1", "2"]}
    nodes = ["10.0.0.1:2376", "10.0.0.9:2376"]
    assert _store_content.compare_hosts(nodes, ["10.0.0.1", "10.0.0.2:2376"]) == (["10.0.0.2:2376"], ["10.0.0.9:2376"])
    assert _store_content.compare_hosts(nodes, ["10.0.0.1:1", "10.0.0.9:2376"]) == (["10.0.0.1:1"], ["10.0.0.1:2376"])


def test_the_lock_is_taken_and_given_back() -> None:
    client = FakeConsul()
    with store(client).lock("host1 pid 1", 1) as lock:
        lock.check()
        assert client.kv.data == {_store.LOCK: b"host1 pid 1"}
    assert client.session.created == [{"name": "multihost-overlay", "lock_delay": 1, "behavior": "delete", "ttl": 15}]
    assert ("put", _store.LOCK, "host1 pid 1", "s1") in client.kv.calls
    assert ("delete", _store.LOCK, 7) in client.kv.calls
    assert client.kv.data == {}
    assert client.session.destroyed == ["s1"]


def test_the_lock_is_given_back_after_a_failure() -> None:
    client = FakeConsul()
    with pytest.raises(RuntimeError), store(client).lock("me", 1):
        raise RuntimeError
    assert client.kv.data == {}
    assert client.session.destroyed == ["s1"]


def test_a_held_lock_is_waited_for_and_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "POLL", 0.01)
    client = FakeConsul({_store.LOCK: b"node9 pid 4"})
    client.kv.owner[_store.LOCK] = "other"
    with (
        pytest.raises(_store.StoreError, match=r"another run holds the lock.*node9 pid 4.*within 30 s"),
        store(client).lock("me", 0.05),
    ):
        pass
    assert client.session.destroyed == ["s1"]
    assert client.kv.owner[_store.LOCK] == "other"


def test_a_lost_lock_is_noticed_and_not_taken_from_its_new_holder() -> None:
    client = FakeConsul()
    with store(client).lock("me", 1) as lock:
        client.kv.owner[_store.LOCK] = "other"
        with pytest.raises(_store.StoreError, match="was lost"):
            lock.check()
    assert client.kv.owner[_store.LOCK] == "other"


def test_the_session_is_renewed_while_the_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "LOCK_TTL", 0.03)
    client = FakeConsul()
    with store(client).lock("me", 1):
        for _try in range(100):
            if client.session.renewed:
                break
            _store_consul.time.sleep(0.01)
    assert client.session.renewed[0] == "s1"


def test_a_young_agent_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "POLL", 0.01)
    client = FakeConsul()
    client.session.failures = [consul.ConsulException("500 Missing node registration")]
    with store(client).lock("me", 1) as lock:
        assert lock.session == "s1"


def test_a_denied_session_is_explained_at_once() -> None:
    client = FakeConsul()
    client.session.failures = [consul.ACLPermissionDenied("Permission denied")]
    with pytest.raises(_store.StoreError, match="session:write"), store(client).lock("me", 60):
        pass
