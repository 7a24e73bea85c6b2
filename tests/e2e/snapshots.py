# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a lab as they were: their disks are copied while they are off, and put back, which is faster than making the hosts anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cluster import Cluster

LABS = Path("/var/lib/multihost-overlay-lab")
# What a host of the lab keeps: what differs from its image, and Docker's folder.
DISK = ("upper", "docker")


class Snapshot:
    """The disks of all hosts of a lab, of which there is one copy. The hosts are shut down for it, and started again."""

    def __init__(self, cluster: Cluster) -> None:
        # It goes with the lab.
        self.cluster, self.folder = cluster, LABS / cluster.lab / "snapshot"
        cluster.labctl("stop", *cluster.hosts)
        for host in cluster.hosts:
            for part in DISK:
                copy(self.place(host) / part, self.folder / host / part)
        self.start()

    def put_back(self) -> None:
        """Whatever the hosts have done since is lost."""
        self.cluster.labctl("cut", *self.cluster.hosts)
        for host in self.cluster.hosts:
            for part in DISK:
                copy(self.folder / host / part, self.place(host) / part)
        self.start()

    def start(self) -> None:
        self.cluster.labctl("start", *self.cluster.hosts)
        self.cluster.labctl("wait", *self.cluster.hosts)

    def place(self, host: str) -> Path:
        return LABS / self.cluster.lab / "hosts" / host


def copy(source: Path, target: Path) -> None:
    """A whole tree with owners and attributes, in the place of what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(target)], check=True, timeout=300)
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True, timeout=300)
