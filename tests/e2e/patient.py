# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster on whose hosts the doctor's faults are made: its network, its store, its engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.cluster import Cluster, wait_for
from tests.e2e.chk import DAEMON_JSON, Trouble

NETWORK = "shop"
SUBNET = "10.100.80.0/24"
KEYS = "docker/network/v1.0"
STORE = "(store)"
NAME = "patient"
PEERS = "multihost-overlay-peers.service"

# Breaks something for as long as it lasts, and tells what the doctor has to find.
Fault = Callable[[Cluster], AbstractContextManager[Trouble]]


def consul(cluster: Cluster, *words: str, host: str = "node1") -> str:
    return cluster.consul(host, "kv", *words)


def export(cluster: Cluster, prefix: str) -> str:
    """The keys below a folder of the store, as Consul itself exports them."""
    return consul(cluster, "export", prefix)


def put_back(cluster: Cluster, exported: str) -> None:
    """Put exported keys where they were."""
    cluster.write("node1", "/root/keys.json", exported)
    consul(cluster, "import", "@/root/keys.json")
    cluster.run("node1", "rm", "/root/keys.json")


def network_id(cluster: Cluster, name: str = NETWORK) -> str:
    return cluster.out("node1", "docker", "network", "inspect", "-f", "{{.Id}}", name)


def endpoint_of(cluster: Cluster, host: str, name: str) -> dict[str, str]:
    """A container's endpoint on the network, as its engine tells: EndpointID, IPAddress, MacAddress."""
    told = json.loads(cluster.out(host, "docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", name))
    found: dict[str, str] = told[NETWORK]
    return found


def forgive(cluster: Cluster) -> None:
    """Let systemd forget how often an engine was started lately: it would refuse a fourth time within a minute."""
    for host in cluster.hosts:
        cluster.run(host, "systemctl", "reset-failed", "docker.service", "docker.socket")


def restart(cluster: Cluster, host: str) -> None:
    """Restart an engine and wait until it gossips."""
    forgive(cluster)
    cluster.run(host, "systemctl", "restart", "docker.service")
    wait_for(f"{host}'s engine gossips", lambda: ":7946" in cluster.out(host, "ss", "-Hlnt"))


def told(cluster: Cluster) -> list[str]:
    """The hosts in the store."""
    return [line.split("/")[-1] for line in consul(cluster, "get", "-keys", "docker/nodes/").splitlines()]


@contextmanager
def daemon_json(cluster: Cluster, host: str, keys: dict[str, object], *, apply: bool = True) -> Iterator[None]:
    """Other keys in a host's daemon.json; None takes one out. The engine is restarted, unless not."""
    before = cluster.run(host, "cat", DAEMON_JSON).stdout
    config = {**json.loads(before), **keys}
    cluster.write(host, DAEMON_JSON, json.dumps({key: value for key, value in config.items() if value is not None}))
    if apply:
        forgive(cluster)
        cluster.run(host, "systemctl", "restart", "docker.service")
    try:
        yield
    finally:
        cluster.write(host, DAEMON_JSON, before)
        restart(cluster, host)
        wait_for(f"{host} is in the store", lambda: any(f"{host[-1]}:2376" in name for name in told(cluster)))
