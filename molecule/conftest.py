# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's cluster, and a container with a web server on each of its hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.vagrant.machines import VirtualMachines

HOSTS = ("node1", "node2", "node3")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if os.environ["MOLECULE_SCENARIO_NAME"] == "vagrant":
        return VirtualMachines(HOSTS, Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ssh_config")
    return Cluster("mol", HOSTS)


@pytest.fixture(scope="session")
def addresses() -> dict[str, str]:
    """Each host's own on the network between them."""
    network = "192.168.56" if os.environ["MOLECULE_SCENARIO_NAME"] == "vagrant" else "10.88.10"
    return {host: f"{network}.{11 + place}" for place, host in enumerate(HOSTS)}


@pytest.fixture(scope="session")
def networks() -> dict[str, str]:
    """Those of the scenario's inventory, and how their addresses begin. An emulated machine takes a minute for a container on each."""
    frontend = {"frontend": "10.100.1"}
    return frontend if os.environ["MOLECULE_SCENARIO_NAME"] == "vagrant" else {**frontend, "backend": "10.100.2"}


@pytest.fixture(scope="session")
def services(cluster: Cluster, networks: dict[str, str]) -> Iterator[dict[str, dict[str, str]]]:
    """Network -> container -> host: one container for each network and host, which its engine starts again after a boot.

    Two on each host in a lab, because an engine that comes back after a power cut stumbles over the second one in another way than
    over the first.
    """
    placed = {network: {f"{network}-{host}": host for host in cluster.hosts} for network in networks}
    names = [name for containers in placed.values() for name in containers]
    cluster.remove_containers(*names)
    cluster.fresh_engines()

    def start(host: str) -> None:
        for network, prefix in networks.items():
            # Addresses of their own: an engine of 20.10 may remember one that moved from host to host at its old place.
            address = f"{prefix}.{100 + cluster.hosts.index(host)}"
            cluster.start_service(host, f"{network}-{host}", network, "--restart", "always", "--ip", address)

    with ThreadPoolExecutor() as pool:
        list(pool.map(start, cluster.hosts))
    yield placed
    cluster.remove_containers(*names)
