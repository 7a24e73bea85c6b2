# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for the store alone, and Docker hosts that run agents: nobody is in both groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.support import Run, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = "tests/e2e/inventories/agents.yml"
STORE, DOCKER = "node1", ("node2", "node3")
SECRETS = "/etc/multihost-overlay/secrets.json"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    play("site", tmp_path_factory.mktemp("agents"))
    yield Cluster("agents", (STORE, *DOCKER))
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def play(name: str, folder: Path, *arguments: str, **variables: object) -> Run:
    extra = {"overlay_report_dir": str(folder), **variables}
    return run_playbook(f"playbooks/{name}.yml", inventory=INVENTORY, extra_vars=extra, arguments=arguments)


def proven(folder: Path) -> tuple[int, int]:
    """Pairs, and those of them that failed."""
    report = json.loads((folder / "verify.json").read_text())
    return len(report["pairs"]), report["summary"]["failed"]


def test_engines_ask_the_agent_of_their_host(cluster: Cluster, tmp_path: Path) -> None:
    assert play("site", tmp_path).changed == {}
    assert proven(tmp_path) == (2, 0)
    assert cluster.run(STORE, "sh", "-c", "command -v dockerd", check=False).returncode != 0
    for host in DOCKER:
        assert cluster.out(host, "docker", "info", "-f", "{{.ClusterStore}}") == "consul://127.0.0.1:8500"
        assert json.loads(cluster.out(host, "cat", "/etc/multihost-overlay/consul/config.json"))["server"] is False


def test_only_the_host_of_the_store_keeps_the_secrets(cluster: Cluster) -> None:
    cluster.run(STORE, "test", "-f", SECRETS)
    for host in DOCKER:
        assert cluster.run(host, "test", "-e", SECRETS, check=False).returncode == 1


@pytest.mark.parametrize("playbook", ["rotate_keys", "rotate_certificates", "rotate_ca"])
def test_what_is_changed_reaches_hosts_of_either_group(cluster: Cluster, playbook: str, tmp_path: Path) -> None:
    """Its first play is of the store's hosts alone: the others are not known yet in the next."""
    play(playbook, tmp_path)
    assert proven(tmp_path) == (2, 0)
    assert play("site", tmp_path).changed == {}


def test_a_warning_that_concerns_engines_comes_once(cluster: Cluster, tmp_path: Path) -> None:
    """The first host of the play has none."""
    run = play("site", tmp_path, "--check", overlay_docker_api="insecure")
    assert run.output.count("overlay_docker_api is insecure") == 1


def test_the_doctor_is_content(cluster: Cluster, tmp_path: Path) -> None:
    play("doctor", tmp_path)
    findings = json.loads((tmp_path / "doctor.json").read_text())["findings"]
    assert [row for row in findings if row["level"] != "info"] == []
