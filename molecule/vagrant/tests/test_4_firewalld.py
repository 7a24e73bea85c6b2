# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewalld with a kernel of its own, which was there first: it is open for peers, and the overlay outlives its reloads."""

from __future__ import annotations

from tests.cluster import wait_for
from tests.vagrant.machines import FIREWALLD, VirtualMachines


def test_it_is_open_for_peers(cluster: VirtualMachines) -> None:
    assert cluster.out(FIREWALLD, "firewall-cmd", "--state") == "running"
    rules = cluster.out(FIREWALLD, "firewall-cmd", "--zone=public", "--list-rich-rules")
    assert "192.168.56.11" in rules and "192.168.56.13" in rules


def test_the_overlay_outlives_a_reload(cluster: VirtualMachines, services: dict[str, dict[str, str]]) -> None:
    cluster.wait_until_whole(services, "before the reload", 300)
    cluster.run(FIREWALLD, "firewall-cmd", "--reload")
    chains = ("iptables", "-S", "FORWARD")
    wait_for("Docker's chains", lambda: "DOCKER-USER" in cluster.out(FIREWALLD, *chains), 120, every=3)
    cluster.wait_until_whole(services, "after the reload", 300)
