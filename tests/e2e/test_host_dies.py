# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host loses power in the middle of site.yml: the others get done, the run says what to do, and that works."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import HOSTS, NETWORKS, Inventory, bad_pairs, converge, leftovers, variables, variation
from tests.e2e.support import Run, start_playbook

pytestmark = pytest.mark.lab

EXTRA = "extra"
SETTING = "max-concurrent-downloads"


def more(inventory: Inventory) -> None:
    """Work for every role: a network more, and a key of daemon.json that an engine takes over while it runs."""
    inventory["all"]["vars"]["overlay_networks"].append({"name": EXTRA, "subnet": "10.100.22.0/24"})
    inventory["all"]["vars"]["overlay_docker_config"] = {SETTING: 2}


def less(inventory: Inventory) -> None:
    """The opposite of `more`: a key that is no longer wanted goes by itself, a network does not."""
    inventory["all"]["vars"]["overlay_networks"].append({"name": EXTRA, "state": "absent"})


def daemon_json(cluster: Cluster, host: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(cluster.out(host, "cat", "/etc/docker/daemon.json"))
    return content


def done(cluster: Cluster, host: str) -> bool:
    """Whether a host has what `more` asks for."""
    names = cluster.out(host, "docker", "network", "ls", "--format", "{{.Name}}").split()
    return EXTRA in names and daemon_json(cluster, host).get(SETTING) == 2


@pytest.fixture
def whole(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    """Whatever happens, the cluster is afterwards as it was before."""
    before = {host: daemon_json(cluster, host) for host in HOSTS}
    yield
    cluster.labctl("start", *HOSTS)
    cluster.labctl("wait", *HOSTS)
    folder = tmp_path / "less"
    folder.mkdir()
    converge(folder, inventory=variation(folder, less))
    assert {host: daemon_json(cluster, host) for host in HOSTS} == before


def run_with_a_death(cluster: Cluster, inventory: Path, report: Path, victim: str, task: str) -> Run:
    """site.yml, during which a host loses power as soon as that task has begun."""
    extra = {"overlay_report_dir": str(report)}
    with start_playbook("site.yml", inventory=inventory, extra_vars=extra) as running:
        running.wait_for_task(task)
        cluster.labctl("cut", victim)
        return running.wait(600, succeeds=False)


def check_the_rest(cluster: Cluster, run: Run, report: Path, victim: str) -> None:
    """The others are done and proven; the message has the dead host, and what to run again."""
    others = [host for host in HOSTS if host != victim]
    assert run.unreachable == [victim]
    assert [host for host in others if not done(cluster, host)] == []
    assert re.search(rf"fell out of the run and are not done: {victim}\. ", run.messages), run.messages
    assert f"The others are done: {', '.join(others)}." in run.messages
    assert "run the same playbook with the same options again" in run.messages
    expected = {
        (network, *pair)
        for network in (*NETWORKS, EXTRA)
        for other in others
        for pair in ((other, victim), (victim, other))
    }
    assert bad_pairs(report) == expected


def check_the_cure(cluster: Cluster, inventory: Path, report: Path, victim: str) -> None:
    """What the message says works, and nothing is left of the proof in which a host was missing."""
    cluster.labctl("start", victim)
    cluster.labctl("wait", victim)
    converge(report, inventory=inventory)
    assert done(cluster, victim)
    assert bad_pairs(report) == set()
    wait_for("nothing left of the proof", lambda: not leftovers(cluster), 60)


@pytest.mark.parametrize(
    ("victim", "task"),
    [
        pytest.param("node3", "Merge our keys into daemon.json", id="while it is configured"),
        # The one host that makes the networks for all.
        pytest.param(
            "node1", "Create, compare or remove each network", id="while it acts for all", marks=pytest.mark.long
        ),
        pytest.param("node1", "Write Consul's user, unit", id="while it runs the store", marks=pytest.mark.long),
    ],
)
def test_a_host_dies(cluster: Cluster, whole: None, tmp_path: Path, victim: str, task: str) -> None:
    inventory = variation(tmp_path, more)
    run = run_with_a_death(cluster, inventory, tmp_path, victim, task)
    check_the_rest(cluster, run, tmp_path, victim)
    check_the_cure(cluster, inventory, tmp_path, victim)


@pytest.mark.long
def test_a_host_dies_when_its_turn_comes(cluster: Cluster, whole: None, tmp_path: Path) -> None:
    """Engines with containers are restarted one after another: who dies at its turn must not stop the others' turns."""
    placed = {f"turn-{host}": host for host in HOSTS}
    settings = {SETTING: 2, "log-driver": "local"}
    inventory = variation(tmp_path, more, variables(overlay_docker_restart="rolling", overlay_docker_config=settings))
    try:
        for number, (name, host) in enumerate(placed.items(), 10):
            # Engines of this age may go on believing that an address is where it once was: these stay where they are.
            address = f"10.100.20.{number}"
            cluster.start_service(host, name, NETWORKS[0], "--restart", "always", "--ip", address)
        run = run_with_a_death(cluster, inventory, tmp_path, "node1", "Make the engine take over its configuration")
        check_the_rest(cluster, run, tmp_path, "node1")
        cluster.labctl("start", "node1")
        cluster.labctl("wait", "node1")
        # Engines need up to half a minute to learn of one another's containers again; a proof in it rightly fails.
        with contextlib.suppress(AssertionError):
            wait_for("the containers to meet again", lambda: not cluster.unreached(placed), 120, every=2)
        assert cluster.unreached(placed) == []
        check_the_cure(cluster, inventory, tmp_path, "node1")
    finally:
        cluster.labctl("start", "node1")
        cluster.labctl("wait", "node1")
        cluster.remove_containers(*placed)
