# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's cluster, and a container with a web server on each of its hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster

NETWORK = "frontend"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster("mol", ["node1", "node2", "node3"])


@pytest.fixture(scope="session")
def services(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Container -> host: one on each host, which its engine starts again after a boot."""
    placed = {f"web-{host}": host for host in cluster.hosts}
    cluster.remove_containers(*placed)
    for name, host in placed.items():
        cluster.start_service(host, name, NETWORK, "--restart", "always")
    yield placed
    cluster.remove_containers(*placed)
