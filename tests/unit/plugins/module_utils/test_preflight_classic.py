# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mode classic's own checks, both ways, and the reading of a store."""

from __future__ import annotations

import contextlib
import copy
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_classic as classic
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_classic import CHECKS
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_host import NO_ENGINE
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_classic import (
    CLASSIC_CHECKS,
    next_bridge,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader

TLS = {"kv.cacertfile": "/ca.pem", "kv.certfile": "/cert.pem", "kv.keyfile": "/key.pem"}


def address(interface: str, text: str, prefix: int) -> dict[str, Any]:
    return {"interface": interface, "address": text, "prefix": prefix, "dynamic": False}


def host(**changes: Any) -> dict[str, Any]:
    observed: dict[str, Any] = {
        "addresses": [address("lo", "127.0.0.1", 8), address("eth0", "10.88.0.11", 24)],
        "routes": [{"destination": "10.88.0.0/24", "device": "eth0", "line": "10.88.0.0/24 dev eth0"}],
        "engine": copy.deepcopy(NO_ENGINE),
        "classic": {},
    }
    observed.update(changes)
    return observed


def wanted(**changes: Any) -> dict[str, Any]:
    base = {
        "mode": "classic",
        "store_type": "consul",
        "store_url": "",
        "store_ports": [8500],
        "store_managed": True,
        "address": "10.88.0.11",
        "docker_host": True,
        "networks": [{"name": "blue", "subnet": "10.100.1.0/24"}],
        "daemon_config": {"cluster-store": "consul://127.0.0.1:8500", "cluster-advertise": "10.88.0.11:2376"},
    }
    base.update(changes)
    return base


def rows(observed: dict[str, Any], **changes: Any) -> list[dict[str, str]]:
    return [row for check in CLASSIC_CHECKS for row in check(observed, wanted(**changes))]


def ids(observed: dict[str, Any], **changes: Any) -> list[str]:
    return [row["id"] for row in rows(observed, **changes)]


def file(**config: Any) -> dict[str, Any]:
    """A host with this daemon.json; underscores stand for dashes."""
    observed = host()
    observed["engine"]["daemon_json"]["config"] = {key.replace("_", "-"): value for key, value in config.items()}
    return observed


def flags(*pairs: tuple[str, str]) -> dict[str, Any]:
    observed = host()
    observed["engine"]["flags"] = [{"flag": name, "value": value, "source": "/unit"} for name, value in pairs]
    return observed


def test_a_sound_host() -> None:
    assert ids(host()) == []


@pytest.mark.parametrize("url", ["consul://a:8500,b:8500", "consul://10.0.0.1:8500,10.0.0.2:8500/docker"])
def test_several_endpoints(url: str) -> None:
    assert ids(host(), daemon_config={"cluster-store": url}) == ["store_url_endpoints"]
    assert ids(file(cluster_store=url), daemon_config={}) == ["store_url_endpoints"]
    assert ids(flags(("cluster-store", url)), daemon_config={}) == ["store_url_endpoints"]
    # What we set is what the next start has.
    assert ids(file(cluster_store=url)) == []
    assert ids(host(), daemon_config={"cluster-store": url.replace("consul", "etcd")}) == []


def test_part_of_the_tls_files() -> None:
    for name in TLS:
        assert ids(file(cluster_store_opts={name: "/x"})) == ["store_tls_partial"]
        rest = {key: value for key, value in TLS.items() if key != name}
        assert name in rows(file(cluster_store_opts=rest))[0]["message"]
    assert ids(file(cluster_store_opts=TLS)) == []
    assert ids(file(cluster_store_opts={**TLS, "kv.keyfile": ""})) == ["store_tls_partial"]
    assert ids(flags(("cluster-store-opt", "kv.certfile=/x"))) == ["store_tls_partial"]


def test_missing_tls_files() -> None:
    observed = file(cluster_store_opts=TLS)
    observed["classic"] = {"missing_files": {"kv.keyfile": "/key.pem"}}
    (row,) = rows(observed)
    assert (row["id"], row["evidence"]) == ("store_tls_file_missing", "kv.keyfile: /key.pem")


@pytest.mark.parametrize(
    ("options", "bad"),
    [
        ({"discovery.ttl": "60"}, False),
        ({"discovery.ttl": "20", "discovery.heartbeat": "5"}, False),
        ({"discovery.ttl": "172800"}, False),
        ({"discovery.ttl": "172801"}, True),
        ({"discovery.ttl": "19", "discovery.heartbeat": "5"}, True),
        ({"discovery.ttl": "20"}, True),
        ({"discovery.heartbeat": "60", "discovery.ttl": "60"}, True),
        ({"discovery.heartbeat": "5"}, True),
        ({"discovery.heartbeat": "7"}, False),
        ({"discovery.ttl": "60s"}, True),
        ({"discovery.heartbeat": "0"}, True),
        ({"discovery.heartbeat": "-1"}, True),
        # A number is another check's.
        ({"discovery.ttl": 60}, False),
        ({}, False),
    ],
)
def test_times_to_live(options: dict[str, Any], bad: bool) -> None:
    assert ids(file(cluster_store_opts=options)) == (["store_ttl_invalid"] if bad else [])


def test_bounds_are_consuls() -> None:
    assert ids(file(cluster_store_opts={"discovery.ttl": "172801"}), store_type="etcd") == []


@pytest.mark.parametrize(
    ("value", "bad"),
    [("10.88.0.11:2376", False), ("eth0:2376", False), ("eth7:2376", True), ("10.88.0.11", True), ("eth0:", True)],
)
def test_advertised(value: str, bad: bool) -> None:
    assert ids(host(), daemon_config={"cluster-advertise": value}) == (["advertise_invalid"] if bad else [])


def test_nothing_advertised() -> None:
    observed = host()
    observed["engine"]["api"]["info"] = {"ClusterStore": "consul://127.0.0.1:8500"}
    assert ids(observed) == ["advertise_missing"]


@pytest.mark.parametrize(
    ("value", "bad"),
    [
        ("tcp://0.0.0.0:2375", True),
        ("tcp://10.88.0.11:2376", True),
        ("tcp://[::]:2375", True),
        ("tcp://127.0.0.1:2375", False),
        ("tcp://localhost:2375", False),
        ("tcp://:2375", False),
        ("fd://", False),
        ("unix:///var/run/docker.sock", False),
    ],
)
def test_open_api(value: str, bad: bool) -> None:
    expected = ["engine_api_open"] if bad else []
    assert ids(flags(("host", value))) == expected
    assert ids(file(hosts=[value])) == expected
    assert ids(flags(("host", value), ("tlsverify", "true"))) == []
    assert ids(file(hosts=[value], tlsverify=True)) == []


def test_the_store_is_out_of_reach() -> None:
    store = {"host": "10.1.1.1", "port": 8500, "error": "refused", "names": None}
    assert ids(host(classic={"store": store})) == ["store_unreachable"]
    assert ids(host(classic={"store": dict(store, error="")})) == []
    assert ids(host(classic={"store": dict(store, error="", names=[])})) == ["store_certificate_without_san"]
    assert ids(host(classic={"store": dict(store, error="", names=["consul"])})) == []


def test_what_docker_gives_its_bridge() -> None:
    """docker0 first, then docker_gwbridge; what the host uses is left out."""
    assert str(next_bridge(host())) == "172.18.0.0/16"
    bridges = [*host()["addresses"], address("docker0", "172.17.0.1", 16)]
    assert str(next_bridge(host(addresses=bridges))) == "172.18.0.0/16"
    route = [{"destination": "172.18.4.0/24", "device": "eth0", "line": ""}]
    assert str(next_bridge(host(addresses=bridges, routes=route))) == "172.19.0.0/16"
    assert next_bridge(host(addresses=[*bridges, address("docker_gwbridge", "172.18.0.1", 16)])) is None
    assert str(next_bridge(file(bip="10.5.0.1/24"))) == "172.17.0.0/16"
    assert str(next_bridge(file(default_address_pools=[{"base": "10.9.0.0/16", "size": 24}]))) == "10.9.1.0/24"
    assert next_bridge(host(addresses=None)) is None


def test_the_bridge_takes_a_subnet() -> None:
    inside = [{"name": "blue", "subnet": "172.18.9.0/24"}]
    assert ids(host(), networks=inside) == ["gwbridge_takes_subnet"]
    assert ids(host(), networks=[dict(inside[0], state="absent")]) == []
    assert ids(host(), networks=[{"name": "blue"}]) == []


def test_a_bridge_over_a_route() -> None:
    addresses = [*host()["addresses"], address("docker_gwbridge", "172.18.0.1", 16)]
    own = {"destination": "172.18.0.0/16", "device": "docker_gwbridge", "line": "own"}
    other = {"destination": "172.18.7.0/24", "device": "eth0", "line": "172.18.7.0/24 via 10.88.0.1 dev eth0"}
    assert ids(host(addresses=addresses, routes=[own])) == []
    (row,) = rows(host(addresses=addresses, routes=[own, other]))
    assert (row["id"], row["evidence"]) == ("bridge_overlaps_route", other["line"])
    halved = {"destination": "128.0.0.0/1", "device": "tun0", "line": ""}
    assert ids(host(addresses=addresses, routes=[own, halved])) == []


def test_checksums_of_vmxnet3() -> None:
    seen = {"interface": "eth0", "driver": "vmxnet3", "checksums": True}
    (row,) = rows(host(classic={"offload": seen}))
    assert row["fix"].startswith("ethtool -K eth0 tx-checksum-ip-generic off")
    assert row["id"] == "checksum_offload_vmxnet3"
    assert ids(host(classic={"offload": dict(seen, checksums=False)})) == []
    assert ids(host(classic={"offload": dict(seen, driver="virtio_net")})) == []


def test_the_driver_is_read(tmp_path: Path) -> None:
    link = tmp_path / "sys/class/net/eth0/device/driver"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../../../bus/pci/drivers/e1000")
    found = classic.read_classic(Reader(str(tmp_path)), host(), wanted())
    assert found["offload"] == {"interface": "eth0", "driver": "e1000", "checksums": None}
    assert classic.driver(Reader(str(tmp_path)), "lo") == ""
    # The ioctl is real: the loopback interface answers.
    assert classic.checksums_in_hardware("lo") in (True, False)
    assert classic.checksums_in_hardware("no-such-one") is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("consul://10.0.0.1:8500/x", [("10.0.0.1", 8500)]),
        ("consul://10.0.0.1", [("10.0.0.1", 8500)]),
        ("zk://a,b:2182/c", [("a", 2181), ("b", 2182)]),
        ("etcd://a:port", [("a:port", 0)]),
        ("", [("", 0)]),
    ],
)
def test_endpoints(url: str, expected: list[tuple[str, int]]) -> None:
    assert classic.endpoints(url) == expected


def test_a_store_of_ours_is_not_asked() -> None:
    assert classic.read_store(Reader(), host(), wanted()) == {}
    assert classic.read_store(Reader(), host(), wanted(store_managed=False, docker_host=False)) == {}


def test_a_store_that_refuses() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"consul://127.0.0.1:{free.getsockname()[1]}"
    found = classic.read_store(Reader(), host(), wanted(store_managed=False, daemon_config={"cluster-store": url}))
    assert "refused" in found["error"]


@pytest.fixture(params=[True, False], ids=["with SAN", "without SAN"])
def tls_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[bool, dict[str, str], int]]:
    """A TLS server with a certificate that vouches for itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=store"]
    argv += ["-keyout", str(key), "-out", str(certificate)]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1"] if request.param else []
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = {"kv.cacertfile": str(certificate), "kv.certfile": str(certificate), "kv.keyfile": str(key)}
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _peer = server.accept()
            # A client that only wanted the certificate may leave in whatever way it likes.
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield request.param, options, server.getsockname()[1]
        thread.join(5)


def test_names_of_a_certificate(tls_store: tuple[bool, dict[str, str], int]) -> None:
    has_names, options, port = tls_store
    found = classic.reach(Reader(), "127.0.0.1", port, options)
    assert found["names"] == (["127.0.0.1"] if has_names else [])
    assert ("store_certificate_without_san" in ids(host(classic={"store": found}))) is not has_names


def test_every_check_has_been_seen() -> None:
    """Those across hosts are tried with the report."""
    text = (
        Path(__file__).read_text()
        + Path(__file__).parents[1].joinpath("plugin_utils/test_preflight_report.py").read_text()
    )
    assert [name for name in CHECKS if f'"{name}"' not in text] == []
