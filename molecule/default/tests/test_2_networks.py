# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network keeps from those on another."""

from __future__ import annotations

from tests.cluster import Cluster


def test_networks_are_apart(cluster: Cluster, services: dict[str, dict[str, str]]) -> None:
    assert cluster.ask("node1", "frontend-node1", "frontend-node2") == "frontend-node2"
    assert cluster.ask("node1", "frontend-node1", "backend-node2") == ""
    assert cluster.ask("node2", "backend-node2", "frontend-node1") == ""
