# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight says of kernels and clocks that hosts of a lab do not have: theirs are the machine's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vagrant.machines import VirtualMachines, play

RELEASE = "/proc/sys/kernel/osrelease"
TABLE = "net.ipv4.neigh.default.gc_thresh3"


@pytest.fixture
def old_kernel(cluster: VirtualMachines) -> Iterator[str]:
    """Its release is a fake: no box has one that is so old."""
    cluster.write("node1", "/run/osrelease", "2.6.32-5-amd64\n")
    cluster.run("node1", "mount", "--bind", "/run/osrelease", RELEASE)
    yield "node1"
    cluster.run("node1", "umount", RELEASE)


@pytest.fixture
def small_table(cluster: VirtualMachines) -> Iterator[str]:
    before = cluster.out("node2", "sysctl", "-n", TABLE)
    cluster.run("node2", "sysctl", "-q", "-w", f"{TABLE}=66")
    yield "node2"
    cluster.run("node2", "sysctl", "-q", "-w", f"{TABLE}={before}")


@pytest.fixture
def late_clock(cluster: VirtualMachines) -> Iterator[str]:
    cluster.run("node3", "date", "-s", "-10 minutes")
    yield "node3"
    cluster.run("node3", "date", "-s", "+10 minutes")


def test_docker_s_neighbour_table_is_large_enough(cluster: VirtualMachines) -> None:
    """Docker raises it in the host; there is none in a container of systemd."""
    for host in cluster.hosts:
        assert int(cluster.out(host, "sysctl", "-n", TABLE)) >= 1024


def test_preflight_finds_them(old_kernel: str, small_table: str, late_clock: str, tmp_path: Path) -> None:
    run = play("playbooks/preflight.yml", tmp_path, succeeds=False)
    assert run.changed == {}
    rows = json.loads((tmp_path / "preflight.json").read_text())["findings"]
    found = {(row["host"], row["id"]): row["message"] for row in rows if row["level"] != "info"}
    assert "2.6.32-5-amd64" in found[(old_kernel, "kernel_too_old")]
    assert "66 entries" in found[(small_table, "neighbour_table_small")]
    assert "clock_offset" in {check for _host, check in found}, found


def test_site_refuses_a_kernel_that_is_too_old(old_kernel: str, tmp_path: Path) -> None:
    run = play("site.yml", tmp_path, succeeds=False)
    assert run.changed == {}
    assert "kernel 2.6.32-5-amd64 is older than 3.10" in run.messages
