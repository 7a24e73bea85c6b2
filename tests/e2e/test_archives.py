# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine and Consul from release archives, on Debian 11 and on Debian 12 whose own engine lacks Consul.

The archives are Debian 11's programs, laid out as their makers' archives are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e import repack_engine
from tests.e2e.support import run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = "tests/e2e/inventories/archives.yml"
HOSTS = ("node1", "node2")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables that name both archives."""
    folder = tmp_path_factory.mktemp("archives")
    mirror = repack_engine.mirror_of_this_machine()
    engine, consul = folder / "docker.tgz", folder / "consul.zip"
    return {
        "overlay_docker_archive": str(engine),
        "overlay_docker_archive_checksum": repack_engine.repack(engine, mirror),
        "overlay_consul_archive": str(consul),
        "overlay_consul_archive_checksum": repack_engine.zip_consul(consul, mirror),
        "overlay_report_dir": str(folder),
    }


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Two hosts that know nothing yet."""
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    yield Cluster("brown12", HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def test_archives_make_a_proven_cluster_of_two_releases(bare: Cluster, archives: dict[str, Any]) -> None:
    run_playbook("site.yml", inventory=INVENTORY, extra_vars=archives)
    report = json.loads((Path(archives["overlay_report_dir"]) / "verify.json").read_text())
    assert report["summary"]["pairs"] == 2 and report["summary"]["failed"] == 0
    for host in HOSTS:
        info = json.loads(bare.out(host, "docker", "info", "-f", "{{json .}}"))
        assert (info["ServerVersion"].split("+")[0], info["ClusterStore"]) == ("20.10.5", "consul://127.0.0.1:8500")
        program = bare.out(host, "sh", "-c", 'readlink "/proc/$(systemctl show -p MainPID --value docker)/exe"')
        assert program.startswith("/usr/local/lib/multihost-overlay/docker-")
        # Nothing of the distribution's stands in the way or was taken instead.
        assert bare.run(host, "dpkg-query", "-W", "docker.io", "consul", check=False).returncode != 0


def test_a_second_run_changes_nothing(bare: Cluster, archives: dict[str, Any]) -> None:
    engines = [bare.out(host, "systemctl", "show", "-p", "MainPID", "--value", "docker") for host in HOSTS]
    run = run_playbook("site.yml", inventory=INVENTORY, extra_vars=archives)
    assert run.changed == {}
    assert [bare.out(host, "systemctl", "show", "-p", "MainPID", "--value", "docker") for host in HOSTS] == engines


def test_containers_of_both_releases_reach_one_another_by_name(bare: Cluster) -> None:
    services = {"one": "node1", "two": "node2"}
    for name, host in services.items():
        bare.start_service(host, name, "ours", "--restart", "always")
    wait_for("both services answer each other", lambda: not bare.unreached(services), 60)
