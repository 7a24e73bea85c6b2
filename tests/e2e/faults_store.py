# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults in the store, and of engines that use it wrongly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.cluster import Cluster, wait_for
from tests.e2e.chk import Trouble
from tests.e2e.patient import (
    KEYS,
    NAME,
    NETWORK,
    STORE,
    SUBNET,
    Fault,
    consul,
    daemon_json,
    export,
    network_id,
    put_back,
)

GHOST = "10.88.80.99:2376"


@contextmanager
def ghost(cluster: Cluster) -> Iterator[Trouble]:
    """A host that went without taking leave."""
    consul(cluster, "put", f"docker/nodes/{GHOST}", GHOST)
    yield {(STORE, "ghost_host")}
    consul(cluster, "delete", f"docker/nodes/{GHOST}")


@contextmanager
def orphan(cluster: Cluster) -> Iterator[Trouble]:
    """The store forgot that a container was removed. The cure is the one that the doctor tells."""
    cluster.start_service("node2", NAME, NETWORK)
    keys = export(cluster, KEYS)
    cluster.remove_containers(NAME)
    put_back(cluster, keys)
    cluster.fresh_engines()
    yield {("node2", "orphan_endpoint")}
    cluster.run("node2", "docker", "network", "disconnect", "-f", NETWORK, NAME)
    cluster.fresh_engines()


@contextmanager
def miscounted(cluster: Cluster) -> Iterator[Trouble]:
    """The store lost count of a network's endpoints."""
    key = f"{KEYS}/endpoint_count/{network_id(cluster)}/"
    before = export(cluster, key)
    consul(cluster, "put", key, '{"Count":3}')
    yield {(STORE, "stale_endpoint_count")}
    put_back(cluster, before)


@contextmanager
def leaked(cluster: Cluster) -> Iterator[Trouble]:
    """An address that was not given back when its container went."""
    key = f"{KEYS}/ipam/default/data/GlobalDefault/{SUBNET}/"
    before = export(cluster, key)
    cluster.start_service("node1", NAME, NETWORK, "--ip", "10.100.80.77")
    during = export(cluster, key)
    cluster.remove_containers(NAME)
    put_back(cluster, during)
    cluster.fresh_engines()
    yield {(STORE, "leaked_address")}
    put_back(cluster, before)


@contextmanager
def twins(cluster: Cluster) -> Iterator[Trouble]:
    """Two networks of one name, made at the same instant on two hosts."""

    # Hosts of the lab share a clock.
    instant = time.time_ns() + 1_500_000_000
    script = "while [ $(date +%s%N) -lt $1 ]; do :; done; exec docker network create -d overlay --subnet $2 twin"

    def create(host: str, subnet: str) -> str:
        return cluster.run(host, "sh", "-c", script, "sh", str(instant), subnet, check=False).stdout.strip()

    with ThreadPoolExecutor() as pool:
        ids = list(filter(None, pool.map(create, ("node1", "node2"), ("10.100.90.0/24", "10.100.91.0/24"))))
    try:
        assert len(ids) == 2, "only one of the two creates made a network"
        yield {(STORE, "network_twice")}
    finally:
        for one in ids:
            cluster.run("node1", "docker", "network", "rm", one)


@contextmanager
def lost_network(cluster: Cluster) -> Iterator[Trouble]:
    """The store lost a network that a container is on."""
    cluster.start_service("node3", NAME, NETWORK)
    prefix = f"{KEYS}/network/{network_id(cluster)}/"
    before = export(cluster, prefix)
    consul(cluster, "delete", prefix)
    yield {("node3", "network_lost")}
    put_back(cluster, before)
    cluster.remove_containers(NAME)
    cluster.fresh_engines()


@contextmanager
def full(cluster: Cluster) -> Iterator[Trouble]:
    """A network whose last address is given out."""
    cluster.run("node1", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.92.0/30", "tiny")
    cluster.start_service("node1", NAME, "tiny")
    yield {(STORE, "subnet_full")}
    cluster.remove_containers(NAME)
    cluster.fresh_engines()
    cluster.run("node1", "docker", "network", "rm", "tiny")


@contextmanager
def taken(cluster: Cluster) -> Iterator[Trouble]:
    """A stopped container's address was given to another; the first cannot start, whatever its restart policy."""
    cluster.start_service("node1", NAME, NETWORK, "--ip", "10.100.80.78", "--restart", "always")
    cluster.run("node1", "docker", "stop", "-t", "0", NAME)
    cluster.start_service("node2", "thief", NETWORK, "--ip", "10.100.80.78")
    assert cluster.run("node1", "docker", "start", NAME, check=False).returncode
    cluster.fresh_engines()
    yield {("node1", "static_address_taken"), ("node1", "container_down")}
    cluster.remove_containers(NAME, "thief")
    cluster.fresh_engines()


@contextmanager
def other_store(cluster: Cluster) -> Iterator[Trouble]:
    """One engine keeps its networks elsewhere, in a folder that its token opens."""
    with daemon_json(cluster, "node3", {"cluster-store": "consul://127.0.0.1:8500/docker/elsewhere"}):
        wait_for("node3's engine gossips", lambda: ":7946" in cluster.out("node3", "ss", "-Hlnt"))
        yield {("node3", "store_differs")}
    consul(cluster, "delete", "-recurse", "docker/elsewhere/")


@contextmanager
def no_store(cluster: Cluster) -> Iterator[Trouble]:
    """One engine has no store at all."""
    with daemon_json(cluster, "node2", {"cluster-store": None, "cluster-advertise": None}):
        consul(cluster, "delete", "docker/nodes/10.88.80.12:2376")
        yield {("node2", "store_missing")}


@contextmanager
def not_advertised(cluster: Cluster) -> Iterator[Trouble]:
    """A store, and no cluster-advertise."""
    with daemon_json(cluster, "node3", {"cluster-advertise": None}):
        consul(cluster, "delete", "docker/nodes/10.88.80.13:2376")
        yield {("node3", "not_advertised")}


FAULTS: tuple[Fault, ...] = (
    ghost, orphan, miscounted, leaked, twins, lost_network, full, taken, other_store, no_store, not_advertised,
)  # fmt: skip
