# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's cluster, and a container with a web server on each of its hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster

@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster("mol", ["node1", "node2", "node3"])


@pytest.fixture(scope="session")
def services(cluster: Cluster) -> Iterator[dict[str, dict[str, str]]]:
    """Network -> container -> host: one container for each network and host, which its engine starts again after a boot.

    Two on each host, because an engine that comes back after a power cut stumbles over the second one in another way than
    over the first.
    """
    placed = {network: {f"{network}-{host}": host for host in cluster.hosts} for network in ("frontend", "backend")}
    names = [name for containers in placed.values() for name in containers]
    cluster.remove_containers(*names)
    for network, containers in placed.items():
        for name, host in containers.items():
            cluster.start_service(host, name, network, "--restart", "always")
    yield placed
    cluster.remove_containers(*names)
