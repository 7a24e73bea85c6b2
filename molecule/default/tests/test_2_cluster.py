# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts have in common, and what a user's own containers see of one another."""

from __future__ import annotations

import json

from tests.cluster import Cluster, wait_for


def test_every_host_has_the_same_networks(cluster: Cluster, networks: dict[str, str]) -> None:
    seen = {}
    for host in cluster.hosts:
        found = json.loads(cluster.out(host, "docker", "network", "inspect", *networks))
        assert {(network["Driver"], network["Scope"]) for network in found} == {("overlay", "global")}
        keys = ("Id", "IPAM", "Options", "Internal", "Attachable")
        seen[host] = [{key: network[key] for key in keys} for network in found]
    assert seen["node1"] == seen["node2"] == seen["node3"]


def test_the_store_knows_every_engine_and_network(
    cluster: Cluster, addresses: dict[str, str], networks: dict[str, str]
) -> None:
    keys = cluster.consul("node2", "kv", "get", "-keys", "docker/nodes/").split()
    assert sorted(key.rsplit("/", 1)[1] for key in keys) == [f"{address}:2376" for address in addresses.values()]
    known = cluster.consul("node3", "kv", "get", "-keys", "docker/network/v1.0/overlay/network/").split()
    assert len(known) == len(networks)


def test_a_service_is_reached_by_name_from_every_other_host(
    cluster: Cluster, services: dict[str, dict[str, str]]
) -> None:
    for containers in services.values():
        wait_for("every service reaches every other by name", lambda found=containers: not cluster.unreached(found), 60)
