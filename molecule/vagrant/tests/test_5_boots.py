# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a real reboot and real power cuts at the same moment modules, sysctls, firewall and overlay are back, and nobody helps."""

from __future__ import annotations

import pytest

from tests.vagrant.machines import FIREWALLD, VirtualMachines

# Docker loads modules and sets ip_forward itself: what is there before it comes is ours.
WITNESS = "/run/overlay-witness"
UNIT = f"""[Unit]
After=sysinit.target multihost-overlay-firewall.service
Before=containerd.service docker.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'lsmod; sysctl net.ipv4.ip_forward; nft list tables'
StandardOutput=file:{WITNESS}

[Install]
WantedBy=multi-user.target
"""
# All at once, since each boot of all takes minutes where they are emulated; all in one way is for hosts of a lab.
ENDS = {"node1": "cut", "node2": "reboot", "node3": "cut"}
# Consul's election, the engine's start, and the repair with its one restart of the engine, all emulated.
SECONDS = 600


@pytest.fixture(scope="module")
def witnessed(cluster: VirtualMachines) -> VirtualMachines:
    for host in cluster.hosts:
        # A file that hardens the host, and is read before ours.
        cluster.write(host, "/etc/sysctl.d/90-hardening.conf", "net.ipv4.ip_forward=0\n")
        cluster.write(host, "/etc/systemd/system/overlay-witness.service", UNIT)
        cluster.run(host, "systemctl", "enable", "--quiet", "overlay-witness.service")
    return cluster


def test_all_is_back(witnessed: VirtualMachines, services: dict[str, dict[str, str]]) -> None:
    witnessed.wait_until_whole(services, "before the end of all hosts", 300)
    witnessed.end(ENDS)
    for host in witnessed.hosts:
        said = witnessed.out(host, "cat", WITNESS).splitlines()
        modules = {line.split()[0] for line in said}
        assert {"br_netfilter", "vxlan", "overlay", "bridge", "veth"} <= modules, host
        assert "net.ipv4.ip_forward = 1" in said, host
        assert "table inet multihost_overlay" in said, host
        # By its name: where it has ended before journald reads its words, these are of no unit.
        journal = witnessed.out(host, "journalctl", "-b", "-o", "cat", "-t", "systemd-modules-load")
        assert "Inserted module 'br_netfilter'" in journal, host
        assert "Inserted module 'vxlan'" in journal, host
    assert witnessed.out(FIREWALLD, "firewall-cmd", "--state") == "running"
    witnessed.wait_until_whole(services, "after their boots", SECONDS)
