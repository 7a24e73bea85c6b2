# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fourth machine comes by add_node and goes by remove_node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Run
from tests.vagrant.machines import INVENTORY, VirtualMachines, play, vagrant

NEW = "node4"
BOTH = [f"--inventory={INVENTORY.with_name('node4.yml')}"]


def with_four(playbook: str, report: Path) -> Run:
    return play(playbook, report, extra_vars={"node": NEW}, arguments=BOTH)


@pytest.fixture(scope="module")
def four(cluster: VirtualMachines) -> Iterator[VirtualMachines]:
    """The cluster, and a machine that is bare."""
    vagrant("up", NEW)
    with cluster.ssh_config.open("a") as config:
        config.write(vagrant("ssh-config", NEW))
    yield VirtualMachines([*cluster.hosts, NEW], cluster.ssh_config)
    vagrant("destroy", "--force", NEW)


def test_it_comes(four: VirtualMachines, tmp_path: Path) -> None:
    with_four("playbooks/add_node.yml", tmp_path)
    proof = json.loads((tmp_path / "verify.json").read_text())
    assert {pair["to"] for pair in proof["pairs"] if pair["from"] == NEW} == {"node1", "node2", "node3"}
    assert proof["summary"]["failed"] == 0


def test_it_reaches_and_is_reached_by_name(four: VirtualMachines, services: dict[str, dict[str, str]]) -> None:
    try:
        four.start_service(NEW, "newcomer", "frontend")
        four.wait_until_whole({"frontend": {**services["frontend"], "newcomer": NEW}}, "with the new host", 300)
    finally:
        four.remove_containers("newcomer")


def test_it_goes(four: VirtualMachines, tmp_path: Path) -> None:
    with_four("playbooks/remove_node.yml", tmp_path)
    assert four.run(NEW, "nft", "list", "table", "inet", "multihost_overlay", check=False).returncode != 0
    members = four.out("node1", "nft", "list", "set", "inet", "multihost_overlay", "peers")
    assert "192.168.56.13" in members and "192.168.56.14" not in members
