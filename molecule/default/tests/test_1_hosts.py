# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each host of a converged cluster looks like from the inside."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cluster import Cluster


@pytest.mark.parametrize(
    "unit", ["docker.service", "multihost-overlay-consul.service", "multihost-overlay-peers.service"]
)
def test_the_units_run_now_and_at_boot(host: Any, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running and service.is_enabled


def test_the_boot_repair_waits_for_the_next_boot(host: Any) -> None:
    assert host.service("multihost-overlay-boot-repair.service").is_enabled


def test_the_engine_is_configured_by_daemon_json(host: Any) -> None:
    config = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert config["cluster-store"] == "consul://127.0.0.1:8500"
    assert config["cluster-advertise"].endswith(":2376")
    assert config["live-restore"] is True


def test_the_engine_has_joined_with_its_own_address(host: Any, addresses: dict[str, str]) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["ClusterStore"] == "consul://127.0.0.1:8500"
    assert info["ClusterAdvertise"] == addresses[host.check_output("hostname")] + ":2376"


def test_the_engine_has_found_all_others(host: Any, cluster: Cluster) -> None:
    """Engines that start at the same moment may not, and the overlay then only works by what the peers unit fills in."""
    invocation = host.check_output("systemctl show -p InvocationID --value docker.service")
    said = host.check_output("journalctl _SYSTEMD_INVOCATION_ID=%s -o cat --no-pager", invocation)
    found = set(re.findall(r"EventMemberJoin: (\S+)", said))
    assert found == set(cluster.hosts)


def test_no_api_is_open_to_the_network(host: Any) -> None:
    for port in (2375, 2376):
        assert not host.socket(f"tcp://{port}").is_listening
    assert host.socket("tcp://127.0.0.1:8500").is_listening
    assert not host.socket("tcp://0.0.0.0:8500").is_listening


def test_the_kernel_forwards_now_and_after_a_boot(host: Any) -> None:
    assert host.sysctl("net.ipv4.ip_forward") == 1
    assert "net.ipv4.ip_forward=1" in host.file("/etc/sysctl.d/99-z-multihost-overlay.conf").content_string


def test_the_manifest_knows_what_is_ours_and_only_root_reads_it(host: Any) -> None:
    file = host.file("/var/lib/multihost-overlay/manifest.json")
    assert file.user == "root" and file.mode == 0o600
    manifest = json.loads(file.content_string)
    assert manifest["keys"]["/etc/docker/daemon.json"]["cluster-store"]["had"] is False
    assert "/etc/sysctl.d/99-z-multihost-overlay.conf" in manifest["files"]
    assert "consul" in manifest["packages"]


def test_verify_left_nothing_behind(host: Any) -> None:
    assert "verify" not in host.check_output("docker ps --all --format '{{.Names}}'")
    assert host.check_output("ls -d /run/multihost-overlay/verify-* 2>/dev/null || true") == ""
