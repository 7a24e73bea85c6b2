# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe among twenty hosts of the lab: 380 directions, and the one that is broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import Cluster
from tests.e2e.support import Run, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

LAB = "probe20"
HOSTS = [f"node{number:02d}" for number in range(1, 21)]
FOLDER = f"/var/lib/multihost-overlay-lab/{LAB}"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty bare hosts, three of them for the store."""
    hosts = {host: {"ansible_host": f"10.88.61.{10 + number}"} for number, host in enumerate(HOSTS, 1)}
    lab = {"overlay_lab_name": LAB, "overlay_lab_network": "10.88.61.0/24", "overlay_lab_release": "bullseye"}
    options = f"-o UserKnownHostsFile={FOLDER}/known_hosts -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
    common = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": f"{FOLDER}/id_ed25519",
        "ansible_ssh_common_args": options,
        "overlay_networks": [{"name": "blue", "subnet": "10.100.60.0/24"}],
    }
    path = tmp_path_factory.mktemp("many") / "hosts.yml"
    content = {
        "overlay_lab": {"hosts": hosts, "vars": lab},
        "overlay_hosts": {"children": {"overlay_lab": None}},
        "overlay_store": {"hosts": dict.fromkeys(HOSTS[:3])},
        "all": {"vars": common},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def cluster(inventory: Path) -> Iterator[Cluster]:
    run_playbook("playbooks/lab_down.yml", inventory=inventory)
    run_playbook("playbooks/lab_up.yml", inventory=inventory)
    yield Cluster(LAB, HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=inventory)


def bad(inventory: Path, report: Path) -> tuple[Run, list[tuple[str, str, str]]]:
    """A run, and what it found that is worse than an info."""
    extra = {"overlay_report_dir": str(report)}
    run = run_playbook("playbooks/preflight.yml", inventory=inventory, extra_vars=extra, succeeds=None)
    rows = json.loads((report / "preflight.json").read_text())["findings"]
    return run, [(row["id"], row.get("from", ""), row.get("to", "")) for row in rows if row["level"] != "info"]


def test_twenty_hosts_in_order(cluster: Cluster, inventory: Path, tmp_path: Path) -> None:
    run, found = bad(inventory, tmp_path)
    assert (found, run.returncode, set(run.remote.values())) == ([], 0, {3})
    assert len(json.loads((tmp_path / "preflight.json").read_text())["underlay"]["paths"]) == 380


def test_the_one_broken_pair(cluster: Cluster, inventory: Path, tmp_path: Path) -> None:
    cluster.labctl("partition", "node07", "node15", "--one-way", "--proto", "udp", "--port", "4789")
    try:
        _run, found = bad(inventory, tmp_path)
    finally:
        cluster.labctl("heal")
    assert found == [("path_vxlan_swallowed", "node07", "node15")]
