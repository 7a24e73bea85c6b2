# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam to the store, what Docker writes into it, and Consul's class with a stand-in client."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import (
    _store,
    _store_consul,
    _store_content,
    _store_http,
)

URL = _store.StoreUrl("consul", "127.0.0.1", 8500, "")


class FakeConsul:
    """As much of Consul's HTTP API as is used: keys, sessions that hold one, deletion by comparison."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        self.data = dict(data or {})
        self.owner: dict[str, str] = {}
        self.calls: list[tuple[str, str, bytes | None]] = []
        self.failures: list[tuple[int, bytes]] = []
        self.sessions: list[str] = []

    def __call__(self, path: str, token: str, body: bytes | None = None) -> tuple[int, bytes]:
        self.calls.append((path, token, body))
        if self.failures:
            return self.failures.pop(0)
        what, _mark, query = path[len("/v1/") :].partition("?")
        area, _slash, rest = what.partition("/")
        answer = getattr(self, f"_{area}")(unquote(rest), query, body)
        return (404, b"") if answer is None else (200, json.dumps(answer).encode())

    def _entry(self, key: str) -> dict[str, Any]:
        value = self.data[key]
        coded = None if value is None else base64.b64encode(value).decode()
        return {"Key": key, "Value": coded, "Session": self.owner.get(key), "ModifyIndex": 7}

    def _kv(self, key: str, query: str, body: bytes | None) -> Any:
        if body is not None:
            session = query.partition("acquire=")[2]
            if self.owner.get(key, session) != session:
                return False
            self.data[key], self.owner[key] = body, session
            return True
        found = [name for name in self.data if name == key or (query == "recurse" and name.startswith(key))]
        return [self._entry(name) for name in found] or None

    def _session(self, rest: str, _query: str, body: bytes | None) -> Any:
        assert body is not None
        if rest == "create":
            self.sessions.append(f"s{len(self.sessions) + 1}")
            return {"ID": self.sessions[-1]}
        return True

    def _txn(self, _rest: str, _query: str, body: bytes | None) -> Any:
        (operation,) = json.loads(body or b"[]")
        assert (operation["KV"]["Verb"], operation["KV"]["Index"]) == ("delete-cas", 7)
        del self.data[operation["KV"]["Key"]], self.owner[operation["KV"]["Key"]]
        return {"Results": None, "Errors": None}

    def _status(self, *_unused: Any) -> Any:
        return "10.89.3.11:8300"

    def sent(self, path: str) -> list[bytes | None]:
        """What was sent to a path."""
        return [body for called, _token, body in self.calls if called == "/v1/" + path]


def store(consul: FakeConsul, url: _store.StoreUrl = URL) -> _store_consul.ConsulStore:
    return _store_consul.ConsulStore(url, _store_consul.Consul(url, consul, "secret"))


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


def test_the_token_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "theirs")
    asked = FakeConsul()
    monkeypatch.setattr(_store_http, "http_asker", lambda url, options, timeout: asked)
    for token, expected in ((None, "theirs"), ("ours", "ours")):
        _store.open_store("consul://127.0.0.9:8501", token).leader()
        assert asked.calls[-1] == ("/v1/status/leader", expected, None)


def test_files_of_tls_that_are_not_there_are_named() -> None:
    files = {"kv.cacertfile": "/no/ca", "kv.certfile": "/no/crt", "kv.keyfile": "/no/key"}
    with pytest.raises(_store.StoreError, match="files of TLS"):
        _store.open_store("consul://127.0.0.9:8501", None, files)


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
        assert "some/docker/multihost-overlay/lock" in client.data


@pytest.mark.parametrize("value", [b"not json", b"[]"])
def test_a_foreign_value_names_its_key(value: bytes) -> None:
    client = FakeConsul({"docker/network/v1.0/network/x": value})
    with pytest.raises(_store.StoreError, match=r"docker/network/v1\.0/network/x"):
        store(client).networks()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ((0, b"refused"), "does not answer with its leader: refused"),
        ((500, b"No cluster leader"), "No cluster leader"),
        ((403, b"Permission denied"), "Pass a token"),
        ((200, b"<html>"), "something that Consul does not say"),
    ],
)
def test_failures_of_consul_are_explained(failure: tuple[int, bytes], words: str) -> None:
    client = FakeConsul()
    client.failures = [failure]
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
        assert client.data == {_store.LOCK: b"host1 pid 1"}
    (created,) = client.sent("session/create")
    wanted = {"Name": "multihost-overlay", "LockDelay": "1s", "Behavior": "delete", "TTL": "15s"}
    assert json.loads(created or b"") == wanted
    assert client.data == {}
    assert client.sent("session/destroy/s1") == [b""]
    assert {token for _path, token, _body in client.calls} == {"secret"}


def test_the_lock_is_given_back_after_a_failure() -> None:
    client = FakeConsul()
    with pytest.raises(RuntimeError), store(client).lock("me", 1):
        raise RuntimeError
    assert client.data == {}
    assert client.sent("session/destroy/s1") == [b""]


def test_a_held_lock_is_waited_for_and_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "POLL", 0.01)
    client = FakeConsul({_store.LOCK: b"node9 pid 4"})
    client.owner[_store.LOCK] = "other"
    with (
        pytest.raises(_store.StoreError, match=r"another run holds the lock.*node9 pid 4.*within 30 s"),
        store(client).lock("me", 0.05),
    ):
        pass
    assert client.sent("session/destroy/s1") == [b""]
    assert client.owner[_store.LOCK] == "other"


def test_a_lost_lock_is_noticed_and_not_taken_from_its_new_holder() -> None:
    client = FakeConsul()
    with store(client).lock("me", 1) as lock:
        client.owner[_store.LOCK] = "other"
        with pytest.raises(_store.StoreError, match="was lost"):
            lock.check()
    assert client.owner[_store.LOCK] == "other"


def test_the_session_is_renewed_while_the_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "LOCK_TTL", 0.03)
    client = FakeConsul()
    with store(client).lock("me", 1):
        for _try in range(100):
            if client.sent("session/renew/s1"):
                break
            _store_consul.time.sleep(0.01)
    assert client.sent("session/renew/s1")


def test_a_young_agent_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_consul, "POLL", 0.01)
    client = FakeConsul()
    client.failures = [(500, b"Missing node registration")]
    with store(client).lock("me", 1) as lock:
        assert lock.session == "s1"


def test_a_denied_session_is_explained_at_once() -> None:
    client = FakeConsul()
    client.failures = [(403, b"Permission denied")]
    with pytest.raises(_store.StoreError, match="session:write"), store(client).lock("me", 60):
        pass
