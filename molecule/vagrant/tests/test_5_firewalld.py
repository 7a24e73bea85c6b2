# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewalld with a kernel of its own: it is opened for peers, and the overlay outlives its reloads and the host's reboot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import wait_for
from tests.vagrant.machines import VirtualMachines, play

HOST = "node2"


@pytest.fixture
def firewalld(cluster: VirtualMachines) -> Iterator[VirtualMachines]:
    """Installed beside a Docker that runs, which hears of it when it is restarted."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends firewalld"
    cluster.run(HOST, "sh", "-c", install, timeout=600)
    cluster.run(HOST, "systemctl", "restart", "docker.service", timeout=300)
    yield cluster
    cluster.run(HOST, "systemctl", "disable", "--now", "firewalld.service", timeout=120)
    cluster.run(HOST, "systemctl", "restart", "docker.service", timeout=300)


def test_firewalld(firewalld: VirtualMachines, tmp_path: Path) -> None:
    run = play("site.yml", tmp_path)
    assert set(run.changed) == {HOST}
    assert firewalld.out(HOST, "firewall-cmd", "--state") == "running"
    firewalld.run(HOST, "firewall-cmd", "--reload")
    wait_for("Docker's chains", lambda: "DOCKER-USER" in firewalld.out(HOST, "iptables", "-S", "FORWARD"), 120, every=3)
    play("playbooks/verify.yml", tmp_path)
    firewalld.end("reboot", HOST)
    play("playbooks/verify.yml", tmp_path)
