# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that ask a server of another host, without an agent of their own: over TLS, with a certificate and a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.support import Run, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = "tests/e2e/inventories/direct.yml"
FAR = ("node1", "node2")
SERVER = "https://10.88.120.13:8501/v1"
CLIENT = "/etc/multihost-overlay/tls/store"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    site(tmp_path_factory.mktemp("direct"))
    yield Cluster("direct", (*FAR, "node3"))
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def site(folder: Path) -> Run:
    return run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(folder)})


def test_hosts_without_an_agent_reach_one_another(cluster: Cluster, tmp_path: Path) -> None:
    assert site(tmp_path).changed == {}
    report = json.loads((tmp_path / "verify.json").read_text())
    assert (len(report["pairs"]), report["summary"]["failed"]) == (6, 0)
    for host in FAR:
        assert cluster.run(host, "systemctl", "is-active", "multihost-overlay-consul", check=False).stdout != "active\n"
        assert cluster.out(host, "docker", "info", "-f", "{{.ClusterStore}}") == "consul://10.88.120.13:8501"
        assert "without TLS" not in cluster.out(host, "journalctl", "-b", "-u", "docker", "--no-pager")


def test_the_server_wants_a_certificate_and_a_token(cluster: Cluster) -> None:
    """From a peer's address, which the firewall lets pass."""
    trust = "/etc/multihost-overlay/tls/ca.crt"
    status, said = cluster.call("node1", f"{SERVER}/kv/docker/?recurse", ca=trust)
    assert (status, "certificate" in said.lower() or "reset" in said) == (0, True), said
    assert cluster.call("node1", f"{SERVER}/kv/docker/?recurse", ca=trust, pair=CLIENT)[0] == 404
    assert cluster.call("node1", f"{SERVER}/kv/docker/x", "PUT", body="x", ca=trust, pair=CLIENT)[0] == 403


def test_the_doctor_is_content(cluster: Cluster, tmp_path: Path) -> None:
    run_playbook("playbooks/doctor.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)})
    findings = json.loads((tmp_path / "doctor.json").read_text())["findings"]
    assert [row for row in findings if row["level"] != "info"] == []
