# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is hardened when it is asked for, what is opened when it is asked for by name, and that both go again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import HOSTS, converge, variables, variation

pytestmark = [pytest.mark.lab, pytest.mark.long]

ADDRESSES = {host: f"10.88.20.{11 + number}" for number, host in enumerate(HOSTS)}
CONTROLLER = "10.88.20.1"
HARDENED = {
    "no-new-privileges": True,
    "userland-proxy": False,
    "icc": False,
    "log-opts": {"max-size": "10m", "max-file": "5"},
}


def configuration(cluster: Cluster, host: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(cluster.out(host, "cat", "/etc/docker/daemon.json"))
    return found


def docker(host: str) -> str:
    """What the real client is told on the open port; '' when nobody answers."""
    argv = ["docker", "-H", f"tcp://{ADDRESSES[host]}:2375", "info", "--format", "{{.Name}}"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def test_hardened_engines_carry_an_overlay(cluster: Cluster, tmp_path: Path) -> None:
    before = {host: configuration(cluster, host) for host in HOSTS}
    inventory = variation(tmp_path, variables(overlay_docker_hardening=True))
    services = {f"hard-{host}": host for host in HOSTS}
    try:
        converge(tmp_path, inventory=inventory, extra_vars={"overlay_docker_restart": "rolling"})
        for name, host in services.items():
            assert configuration(cluster, host) == {**before[host], **HARDENED}
            assert cluster.out(host, "stat", "-c", "%a %U:%G", "/etc/docker/daemon.json") == "644 root:root"
            cluster.start_service(host, name, "frontend")
            privileges = cluster.out(host, "docker", "exec", name, "/bin/grep", "NoNewPrivs", "/proc/1/status")
            assert privileges.split() == ["NoNewPrivs:", "1"]
        assert cluster.unreached(services) == []
        assert converge(tmp_path, inventory=inventory).changed == {}
    finally:
        cluster.remove_containers(*services)
        converge(tmp_path, extra_vars={"overlay_docker_restart": "rolling"})
    assert {host: configuration(cluster, host) for host in HOSTS} == before


def test_the_open_api_is_warned_of_and_goes_again(cluster: Cluster, tmp_path: Path) -> None:
    allowed = variation(tmp_path, variables(overlay_docker_api="insecure", overlay_host_firewall_allow=[CONTROLLER]))
    try:
        run = converge(tmp_path, inventory=allowed)
        assert "whoever reaches port 2375 of a Docker host is root there without a password" in run.output
        assert [docker(host) for host in HOSTS] == list(HOSTS)
        assert converge(tmp_path, inventory=allowed).changed == {}
        converge(tmp_path, inventory=variation(tmp_path, variables(overlay_docker_api="insecure")))
        assert [docker(host) for host in HOSTS] == ["", "", ""], "the controller is no peer"
    finally:
        converge(tmp_path)
    for host in HOSTS:
        assert "2375" not in cluster.out(host, "ss", "-Hltn")
