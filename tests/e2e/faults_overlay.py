# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of an overlay: what a host's kernel knows of containers elsewhere, their names, their addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import Cluster, wait_for
from tests.e2e.chk import Trouble
from tests.e2e.patient import KEYS, NAME, NETWORK, PEERS, STORE, Fault, consul, endpoint_of, network_id, restart

FAR = f"{NAME}-far"
# A program of a host in the namespace of an overlay, which is named by the beginning of the network's id.
IN_OVERLAY = 'id=$1; shift; exec nsenter --net="$(ls -d /run/docker/netns/*-"$id"* | tail -n 1)" "$@"'


def in_overlay(cluster: Cluster, host: str, *argv: str) -> str:
    return cluster.out(host, "sh", "-c", IN_OVERLAY, "sh", network_id(cluster)[:9], *argv)


@contextmanager
def across(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A container on each of two hosts, and nobody who mends the tables of the first host. The endpoint of the second one."""
    placed = {NAME: "node1", FAR: "node2"}
    try:
        for name, host in placed.items():
            cluster.start_service(host, name, NETWORK)
        wait_for("they reach each other", lambda: not cluster.unreached(placed), 60)
        cluster.run("node1", "systemctl", "stop", PEERS)
        yield endpoint_of(cluster, "node2", FAR)
    finally:
        cluster.remove_containers(*placed)
        cluster.run("node1", "systemctl", "start", PEERS)
        cluster.fresh_engines()


@contextmanager
def fdb_elsewhere(cluster: Cluster) -> Iterator[Trouble]:
    """A MAC that leads to a host where its container is not."""
    with across(cluster) as far:
        mac = far["MacAddress"]
        in_overlay(cluster, "node1", "bridge", "fdb", "del", mac, "dev", "vxlan0", "dst", "10.88.80.12", "self")
        in_overlay(cluster, "node1", *f"bridge fdb add {mac} dev vxlan0 dst 10.88.80.13 self permanent".split())
        yield {("node1", "fdb_wrong"), ("node1", "peers_unit_down")}


@contextmanager
def fdb_gone(cluster: Cluster) -> Iterator[Trouble]:
    """A MAC that leads nowhere."""
    with across(cluster) as far:
        in_overlay(cluster, "node1", *f"bridge fdb del {far['MacAddress']} dev vxlan0 dst 10.88.80.12 self".split())
        yield {("node1", "fdb_missing"), ("node1", "peers_unit_down")}


@contextmanager
def neighbour_elsewhere(cluster: Cluster) -> Iterator[Trouble]:
    """An address with the MAC of nobody."""
    with across(cluster) as far:
        command = f"ip neigh replace {far['IPAddress']} lladdr 02:42:0a:64:50:fe dev vxlan0 nud permanent"
        in_overlay(cluster, "node1", *command.split())
        yield {("node1", "neighbour_wrong"), ("node1", "peers_unit_down")}


@contextmanager
def neighbour_gone(cluster: Cluster) -> Iterator[Trouble]:
    """An engine that was restarted under its containers does not ask for others any more; and nothing else tells it."""
    with across(cluster) as far:
        restart(cluster, "node1")
        in_overlay(cluster, "node1", *f"ip neigh del {far['IPAddress']} dev vxlan0".split())
        yield {("node1", "neighbour_missing"), ("node1", "peers_unit_down")}


@contextmanager
def no_tunnel(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody deleted an overlay's vxlan device."""
    with across(cluster):
        in_overlay(cluster, "node1", "ip", "link", "delete", "vxlan0")
        yield {("node1", "tunnel_missing"), ("node1", "peers_unit_down")}


@contextmanager
def other_mtu(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody changed the MTU of an overlay's vxlan device."""
    with across(cluster):
        in_overlay(cluster, "node1", "ip", "link", "set", "vxlan0", "mtu", "1400")
        yield {("node1", "tunnel_differs"), ("node1", "peers_unit_down")}


@contextmanager
def no_names(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody flushed the rules within a container. The cure is the one that the doctor tells."""
    cluster.start_service("node3", NAME, NETWORK)
    path = cluster.out("node3", "docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", NAME)
    cluster.run("node3", "nsenter", f"--net={path}", "iptables", "-t", "nat", "-F")
    yield {("node3", "dns_rules_gone")}
    cluster.run("node3", "docker", "restart", "-t", "0", NAME)
    report = cluster.out("node3", "docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", NAME)
    assert "DOCKER_OUTPUT" in cluster.out("node3", "nsenter", f"--net={report}", "iptables", "-t", "nat", "-S")
    cluster.remove_containers(NAME)
    cluster.fresh_engines()


@contextmanager
def same_address(cluster: Cluster) -> Iterator[Trouble]:
    """The store gave an address out again: a second endpoint has it, which no container has."""
    cluster.start_service("node1", NAME, NETWORK)
    own, folder = endpoint_of(cluster, "node1", NAME)["EndpointID"], f"{KEYS}/endpoint/{network_id(cluster)}"
    record, other = json.loads(consul(cluster, "get", f"{folder}/{own}/")), "ab" * 32
    consul(cluster, "put", f"{folder}/{other}/", json.dumps({**record, "id": other, "name": "second"}))
    yield {(STORE, "address_twice"), (STORE, "stale_endpoint_count"), ("node1", "orphan_endpoint")}
    consul(cluster, "delete", f"{folder}/{other}/")
    cluster.remove_containers(NAME)
    cluster.fresh_engines()


FAULTS: tuple[Fault, ...] = (
    fdb_elsewhere, fdb_gone, neighbour_elsewhere, neighbour_gone, no_tunnel, other_mtu, no_names, same_address,
)  # fmt: skip
