# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts have in common, and what a user's own containers see of one another."""

from __future__ import annotations

import json

import pytest

from tests.cluster import Cluster, wait_for


@pytest.mark.parametrize("network", ["frontend", "backend"])
def test_every_host_has_the_same_network(cluster: Cluster, network: str) -> None:
    seen = {}
    for host in cluster.hosts:
        found = json.loads(cluster.out(host, "docker", "network", "inspect", network))[0]
        seen[host] = {key: found[key] for key in ("Id", "Driver", "Scope", "IPAM", "Options", "Internal", "Attachable")}
    assert len({json.dumps(value, sort_keys=True) for value in seen.values()}) == 1, seen
    assert seen["node1"]["Driver"] == "overlay" and seen["node1"]["Scope"] == "global"


def test_the_store_knows_every_engine_and_both_networks(cluster: Cluster, addresses: dict[str, str]) -> None:
    keys = cluster.consul("node2", "kv", "get", "-keys", "docker/nodes/").split()
    assert sorted(key.rsplit("/", 1)[1] for key in keys) == [f"{address}:2376" for address in addresses.values()]
    networks = cluster.consul("node3", "kv", "get", "-keys", "docker/network/v1.0/overlay/network/").split()
    assert len(networks) == 2


def test_a_service_is_reached_by_name_from_every_other_host(
    cluster: Cluster, services: dict[str, dict[str, str]]
) -> None:
    for containers in services.values():
        wait_for("every service reaches every other by name", lambda found=containers: not cluster.unreached(found), 60)


def test_networks_are_apart(cluster: Cluster, services: dict[str, dict[str, str]]) -> None:
    assert cluster.ask("node1", "frontend-node1", "frontend-node2") == "frontend-node2"
    assert cluster.ask("node1", "frontend-node1", "backend-node2") == ""
    assert cluster.ask("node2", "backend-node2", "frontend-node1") == ""
