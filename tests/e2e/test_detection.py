# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the data plane, made one by one: verify names exactly the pair, its direction and the kind, and blames no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import HOSTS, NETWORKS, leftovers, read, verify

pytestmark = [pytest.mark.lab, pytest.mark.long]

NETWORK = NETWORKS[0]
# Of a run of these: only the network that has containers, so that no engine has to start any.
SETTINGS: dict[str, Any] = {"overlay_verify_networks": [NETWORK]}
ALL = {(source, target) for source in HOSTS for target in HOSTS if source != target}
PEERS_UNIT = "multihost-overlay-peers.service"

# The pairs that fail, each with its kind, and words that the failure must have.
Trouble = tuple[dict[tuple[str, str], str], str]
Fault = Callable[[Cluster], AbstractContextManager[Trouble]]


def service(host: str) -> str:
    """The name of the container of a user's on a host."""
    return f"service-{host}"


def remove_services(cluster: Cluster) -> None:
    cluster.remove_containers(*map(service, HOSTS))


def start_services(cluster: Cluster, *addresses: str) -> None:
    """One on each host, new. Meanwhile another is on the network: when the last one leaves, an engine loses a thread (docs/verify.md)."""
    for host in HOSTS:
        cluster.start_service(host, f"meanwhile-{host}", NETWORK)
    remove_services(cluster)
    for host, address in zip_longest(HOSTS, addresses):
        options = ["--ip", address] if address else []
        cluster.start_service(host, service(host), NETWORK, "--network-alias", f"alias-{host}", *options)
    cluster.remove_containers(*(f"meanwhile-{host}" for host in HOSTS))


@pytest.fixture(scope="module")
def services(cluster: Cluster) -> Iterator[Cluster]:
    """A container of a user's on each host."""
    start_services(cluster)
    yield cluster
    cluster.remove_containers(*(f"meanwhile-{host}" for host in HOSTS))
    remove_services(cluster)


def inspect(cluster: Cluster, host: str) -> dict[str, Any]:
    """The container on a host."""
    found: dict[str, Any] = json.loads(cluster.out(host, "docker", "inspect", service(host)))[0]
    return found


def place(cluster: Cluster, host: str) -> tuple[str, str]:
    """Address and MAC of the container on a host."""
    settings = inspect(cluster, host)["NetworkSettings"]["Networks"][NETWORK]
    return settings["IPAddress"], settings["MacAddress"]


def inside(cluster: Cluster, host: str, *argv: str) -> str:
    """Run a program in the container's network namespace."""
    return cluster.out(host, "nsenter", "-t", str(inspect(cluster, host)["State"]["Pid"]), "-n", *argv)


def tunnel(cluster: Cluster, host: str, *argv: str) -> str:
    """Run a program in the network's own namespace, where its tunnel ends."""
    network = cluster.out(host, "docker", "network", "inspect", "--format", "{{.Id}}", NETWORK)
    # NUMBER-NETWORK; the number grows with each time that the network comes to the host.
    space = cluster.out(host, "sh", "-c", f"ls -d /run/docker/netns/*-{network[:9]}* | tail -n 1")
    return cluster.out(host, "nsenter", f"--net={space}", *argv)


@contextmanager
def rule(cluster: Cluster, host: str, *words: str) -> Iterator[None]:
    """A rule of a user's on udp/4789 from node1, in the way of one direction."""
    argv = ["INPUT", "-p", "udp", "--dport", "4789", "-s", "10.88.20.11", *words, "-j", "DROP"]
    cluster.run(host, "iptables", "-I", *argv)
    try:
        yield
    finally:
        cluster.run(host, "iptables", "-D", *argv)


@contextmanager
def peers_unit_off(cluster: Cluster) -> Iterator[None]:
    """Without the unit that mends what an engine does not know."""
    for host in HOSTS:
        cluster.run(host, "systemctl", "stop", PEERS_UNIT)
    try:
        yield
    finally:
        for host in HOSTS:
            cluster.run(host, "systemctl", "start", PEERS_UNIT)


@contextmanager
def dropped(cluster: Cluster) -> Iterator[Trouble]:
    """One direction is closed at the receiver."""
    with rule(cluster, "node3"):
        yield {("node1", "node3"): "no_answer"}, "came to node3's interface and were dropped there"


@contextmanager
def dropped_on_the_way_out(cluster: Cluster) -> Iterator[Trouble]:
    """One direction is closed at the sender."""
    argv = ["OUTPUT", "-p", "udp", "--dport", "4789", "-d", "10.88.20.13", "-j", "DROP"]
    cluster.run("node1", "iptables", "-I", *argv)
    yield {("node1", "node3"): "no_answer"}, "none left node1"
    cluster.run("node1", "iptables", "-D", *argv)


@contextmanager
def black_hole(cluster: Cluster) -> Iterator[Trouble]:
    """What is larger than 1400 bytes with the 50 of the tunnel vanishes, in one direction."""
    with rule(cluster, "node3", "-m", "length", "--length", "1401:65535"):
        yield {("node1", "node3"): "mtu"}, "packets of 1350 bytes pass but not those of 1450"


@contextmanager
def lossy(cluster: Cluster) -> Iterator[Trouble]:
    """One packet in five is lost, in one direction."""
    with rule(cluster, "node3", "-m", "statistic", "--mode", "random", "--probability", "0.2"):
        yield {("node1", "node3"): "loss"}, "packets were lost: all"


@contextmanager
def no_connections(cluster: Cluster) -> Iterator[Trouble]:
    """A container lets in no connection."""
    argv = ["INPUT", "-p", "tcp", "--syn", "-j", "DROP"]
    inside(cluster, "node3", "iptables", "-I", *argv)
    yield {(host, "node3"): "tcp" for host in ("node1", "node2")}, "no connection from node1 to node3"
    inside(cluster, "node3", "iptables", "-D", *argv)


@contextmanager
def no_datagrams(cluster: Cluster) -> Iterator[Trouble]:
    """A container lets in no datagram of its peers."""
    argv = ["INPUT", "-i", "eth0", "-p", "udp", "-j", "DROP"]
    inside(cluster, "node3", "iptables", "-I", *argv)
    yield {(host, "node3"): "udp" for host in ("node1", "node2")}, "no datagram from node1 arrived at node3"
    inside(cluster, "node3", "iptables", "-D", *argv)


@contextmanager
def wrong_entry(cluster: Cluster) -> Iterator[Trouble]:
    """node1 believes that node3's container is on a host that is not there. The kernel then drops what comes from where it is, too."""
    _address, mac = place(cluster, "node3")
    entry = ("bridge", "fdb", "replace", mac, "dev", "vxlan0", "dst")
    with peers_unit_off(cluster):
        tunnel(cluster, "node1", *entry, "10.88.20.14", "self", "permanent")
        both = {("node1", "node3"): "no_answer", ("node3", "node1"): "no_answer"}
        yield both, "none left node1"
        tunnel(cluster, "node1", *entry, "10.88.20.13", "self", "permanent")


@contextmanager
def wrong_neighbour(cluster: Cluster) -> Iterator[Trouble]:
    """node1 believes that node3's container has another MAC."""
    address, mac = place(cluster, "node3")
    with peers_unit_off(cluster):
        tunnel(
            cluster,
            "node1",
            "ip",
            "neigh",
            "replace",
            address,
            "lladdr",
            "02:42:00:00:00:99",
            "dev",
            "vxlan0",
            "nud",
            "permanent",
        )
        inside(cluster, "node1", "ip", "neigh", "flush", "all")
        yield {("node1", "node3"): "no_answer"}, "none left node1"
        tunnel(cluster, "node1", "ip", "neigh", "replace", address, "lladdr", mac, "dev", "vxlan0", "nud", "permanent")
        inside(cluster, "node1", "ip", "neigh", "flush", "all")


@contextmanager
def address_twice(cluster: Cluster) -> Iterator[Trouble]:
    """node2's container holds the address of node3's as well: it answers itself, and takes node3's packets for its own."""
    address, _mac = place(cluster, "node3")
    inside(cluster, "node2", "ip", "addr", "add", f"{address}/32", "dev", "lo")
    yield (
        {("node2", "node3"): "address_taken", ("node3", "node2"): "no_answer"},
        "another container has the address of node3's",
    )
    inside(cluster, "node2", "ip", "addr", "del", f"{address}/32", "dev", "lo")


@contextmanager
def engine_down(cluster: Cluster) -> Iterator[Trouble]:
    """An engine is dead; its container runs on."""
    cluster.run("node3", "systemctl", "stop", "docker.socket", "docker.service")
    yield {pair: "engine_down" for pair in ALL if "node3" in pair}, "node3: the Docker engine does not answer"
    cluster.run("node3", "systemctl", "start", "docker.socket", "docker.service")
    wait_for("node3's engine", lambda: cluster.run("node3", "docker", "info", check=False).returncode == 0)
    if cluster.out("node3", "docker", "inspect", "--format", "{{.State.Running}}", service("node3")) != "true":
        cluster.run("node3", "docker", "start", service("node3"))


@contextmanager
def gossip_closed(cluster: Cluster) -> Iterator[Trouble]:
    """7946 is dropped between node3 and both others: what runs goes on, and nobody learns where a container is that starts now."""
    with peers_unit_off(cluster):
        for host in ("node1", "node2"):
            for protocol in ("udp", "tcp"):
                cluster.labctl("partition", "node3", host, "--port", "7946", "--proto", protocol)
        try:
            # Addresses that nobody had: of those of before the others still know where they were.
            start_services(cluster, "10.100.20.201", "10.100.20.202", "10.100.20.203")
            yield {pair: "no_answer" for pair in ALL if "node3" in pair}, "none left node3"
        finally:
            cluster.labctl("heal")
    start_services(cluster)
    wait_for("all see each other", lambda: all(sees(cluster, *pair) for pair in ALL), 120)


def sees(cluster: Cluster, source: str, target: str) -> bool:
    """One packet from container to container."""
    address, _mac = place(cluster, target)
    pid = str(inspect(cluster, source)["State"]["Pid"])
    argv = ("nsenter", "-t", pid, "-n", "ping", "-c", "1", "-W", "1", address)
    return cluster.run(source, *argv, check=False).returncode == 0


FAULTS: tuple[Fault, ...] = (
    dropped, dropped_on_the_way_out, black_hole, lossy, no_connections, no_datagrams, wrong_entry, wrong_neighbour, address_twice,
    engine_down, gossip_closed,
)  # fmt: skip


def kinds(report: Path) -> dict[tuple[str, str], str]:
    """The pairs that failed, and why."""
    return {(row["from"], row["to"]): row["kind"] for row in read(report, "verify.json")["pairs"] if not row["ok"]}


def failed_checks(report: Path) -> list[str]:
    """What failed beside the pairs."""
    return [row["error"] for row in read(report, "verify.json")["checks"] if row["ok"] is False]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_exactly(services: Cluster, fault: Fault, tmp_path: Path) -> None:
    # A hundred packets: of ten, one loss in five is missed in one run of nine.
    settings = {**SETTINGS, "overlay_verify_count": 100, "overlay_verify_interval": 0.02}
    with fault(services) as (expected, words):
        run = verify(tmp_path, succeeds=False, extra_vars=settings)
        assert kinds(tmp_path) == expected
        assert words in run.messages
        assert failed_checks(tmp_path) == []


def test_a_forwarding_entry_that_is_gone_comes_back(services: Cluster, tmp_path: Path) -> None:
    """The kernel learns it from what the peer sends, and the engine asks for it: no pair fails."""
    start_services(services)
    _address, mac = place(services, "node3")
    with peers_unit_off(services):
        verify(tmp_path, extra_vars=SETTINGS)
        tunnel(services, "node1", "bridge", "fdb", "del", mac, "dev", "vxlan0", "dst", "10.88.20.13")
        verify(tmp_path, extra_vars=SETTINGS)


def test_a_dead_store_is_not_in_the_way_of_what_runs(services: Cluster, tmp_path: Path) -> None:
    for host in HOSTS:
        services.run(host, "systemctl", "stop", "multihost-overlay-consul.service")
    try:
        verify(tmp_path, extra_vars=SETTINGS)
        assert kinds(tmp_path) == {}
    finally:
        for host in HOSTS:
            services.run(host, "systemctl", "start", "multihost-overlay-consul.service")
        wait_for("a leader", lambda: services.run("node1", "sh", "-c", KEYS, check=False).returncode == 0)


KEYS = "set -a; . /etc/multihost-overlay/dockerd.env; consul kv get -keys docker/"


def test_all_is_measured_where_nothing_is_wrong(services: Cluster, tmp_path: Path) -> None:
    verify(tmp_path, extra_vars={**SETTINGS, "overlay_verify_streams": 1})
    report = read(tmp_path, "verify.json")
    for row in report["pairs"]:
        assert row["ok"]
        assert (row["alias_ok"], row["tcp_ok"], row["udp_ok"], row["path_mtu"]) == (True, True, True, 1450)
        assert row["wire"]["left"] == row["wire"]["arrived"] > 0
    assert [row["bits_per_second"] > 1_000_000 for row in report["pairs"] if row["bits_per_second"]] == [True]
    assert {(row["check"], row["from"], row["ok"]) for row in report["checks"]} == {
        ("egress", host, True) for host in HOSTS
    }


def test_networks_are_apart_and_containers_get_out(cluster: Cluster, tmp_path: Path) -> None:
    """With the proof's own endpoints, which on all hosts but one are on both networks."""
    remove_services(cluster)
    verify(tmp_path)
    checks = read(tmp_path, "verify.json")["checks"]
    assert {row["ok"] for row in checks} == {True}
    assert {(row["network"], row["to"]) for row in checks if row["check"] == "isolation"} == {
        NETWORKS,
        NETWORKS[::-1],
    }
    assert {row["from"] for row in checks if row["check"] == "egress"} == set(HOSTS)
    assert leftovers(cluster) == []


def test_a_way_out_that_is_closed_is_named(services: Cluster, tmp_path: Path) -> None:
    start_services(services)
    inside(services, "node2", "ip", "route", "del", "default")
    run = verify(tmp_path, succeeds=False, extra_vars=SETTINGS)
    assert kinds(tmp_path) == {}
    assert len(failed_checks(tmp_path)) == 1
    assert "node2: a container on frontend does not get out" in run.messages


def test_round_after_round_gives_no_false_alarm(cluster: Cluster, tmp_path: Path) -> None:
    """A thousand rounds, the agents running them back to back."""
    start_services(cluster)
    settings = {**SETTINGS, "overlay_verify_rounds": 1000, "overlay_verify_count": 3, "overlay_verify_interval": 0.02}
    verify(tmp_path, extra_vars=settings, timeout=3000)
    assert {row["rounds"]["count"] for row in read(tmp_path, "verify.json")["pairs"]} == {1000}
    assert {row["rounds"]["failed"] for row in read(tmp_path, "verify.json")["pairs"]} == {0}
    remove_services(cluster)
