# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reset leaves hosts as they were before site.yml. One story, told in this file's order.

node1 has an engine of its user's with a daemon.json, containers and packages; the others are bare.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e import digest
from tests.e2e.brownfield import DAEMON_JSON, INSTALL, USERS_JSON
from tests.e2e.conftest import KEEP
from tests.e2e.support import Run, run_playbook, start_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = "tests/e2e/inventories/reset.yml"
HOSTS = ("node1", "node2", "node3")
CONFIRM = {"reset_confirm": "yes"}
PIDS = "{{.Name}} {{.State.Running}} {{.State.Pid}}"
USERS_FILE = "/etc/modules-load.d/multihost-overlay.conf"
# Where site.yml is ended, by the task that begins then.
ENDS = (
    "Close the cluster's ports to all",
    "Start Consul now and at boot",
    "Give each host its tokens",
    "Merge our keys into daemon.json",
    "Make the engine take over",
    "Create, compare or remove each network",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    """The hosts, before they have heard of us."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    cluster = Cluster("reset", HOSTS)
    if cluster.run("node1", "test", "-e", DAEMON_JSON, check=False).returncode != 0:
        live_in(cluster)
    yield cluster
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def live_in(cluster: Cluster) -> None:
    """What the user of node1 did."""
    cluster.write("node1", DAEMON_JSON, USERS_JSON)
    # A file of ours that a user had before.
    cluster.write("node1", USERS_FILE, "# The user's.\nvxlan\n", mode="0640")
    cluster.run("node1", "sh", "-c", INSTALL, "sh", "docker.io", "unzip", timeout=300)
    cluster.run("node1", "docker", "network", "create", "shop")
    cluster.start_service("node1", "kept", "shop", "--restart", "always")
    cluster.start_service("node1", "fleeting", "shop")


@pytest.fixture(scope="module")
def before(lab: Cluster) -> dict[str, set[str]]:
    """The hosts as they are to be afterwards."""
    return digest.of_all(lab)


def site(folder: Path, **options: Any) -> Run:
    """site.yml."""
    return run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(folder)}, **options)


def reset(**options: Any) -> Run:
    """playbooks/reset.yml."""
    return run_playbook("playbooks/reset.yml", inventory=INVENTORY, **options)


def containers(cluster: Cluster, host: str) -> dict[str, tuple[str, str]]:
    """name -> (runs, process)."""
    ids = cluster.out(host, "docker", "ps", "-aq").split()
    lines = cluster.out(host, "docker", "inspect", "-f", PIDS, *ids).splitlines() if ids else []
    return {row.split()[0].lstrip("/"): (row.split()[1], row.split()[2]) for row in lines}


# --- nothing of ours, and half of it ---


def test_where_nothing_is_ours_nothing_is_done(lab: Cluster, before: dict[str, set[str]]) -> None:
    run = reset(extra_vars=CONFIRM)
    assert run.changed == {} and "nothing here is known as ours" in run.output
    assert digest.left(before, digest.of_all(lab)) == {}


@pytest.mark.parametrize("task", ENDS)
def test_after_half_of_a_site(lab: Cluster, before: dict[str, set[str]], tmp_path: Path, task: str) -> None:
    with start_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)}) as running:
        running.wait_for_task(task)
        running.kill()
    assert digest.left(before, digest.of_all(lab)), "else it was ended too early to prove anything"
    reset(extra_vars=CONFIRM)
    assert digest.left(before, digest.of_all(lab)) == {}


# --- a whole one ---


@pytest.fixture(scope="module")
def whole(lab: Cluster, before: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The hosts with the cluster on them."""
    site(tmp_path_factory.mktemp("site"))
    return digest.of_all(lab)


def test_without_a_word_of_consent_it_is_only_listed(lab: Cluster, whole: dict[str, set[str]]) -> None:
    run = reset(succeeds=False)
    assert digest.left(whole, digest.of_all(lab)) == {} and run.changed == {}
    assert "-e reset_confirm=yes" in run.messages
    for thing in (
        "remove the overlay network ours from the store",
        "purge the packages",
        "remove /etc/multihost-overlay/secrets.json",
        "remove all that is in /var/lib/multihost-overlay-consul",
        "the containers fleeting, kept",
    ):
        assert thing in run.output, thing


def test_a_dry_run_lists_the_same(lab: Cluster, whole: dict[str, set[str]]) -> None:
    run = reset(arguments=["--check", "--diff"])
    assert digest.left(whole, digest.of_all(lab)) == {} and set(run.changed) == set(HOSTS)
    assert "-remove /etc/multihost-overlay/secrets.json" in run.output


def test_single_hosts_are_refused(lab: Cluster, whole: dict[str, set[str]]) -> None:
    run = reset(extra_vars=CONFIRM, arguments=["--limit", "node2"], succeeds=False)
    assert "node1, node3" in run.messages and "remove_node.yml" in run.messages
    assert digest.left(whole, digest.of_all(lab)) == {}


def test_a_manifest_that_cannot_be_read_is_refused_for_all(lab: Cluster, whole: dict[str, set[str]]) -> None:
    manifest = "/var/lib/multihost-overlay/manifest.json"
    lab.run("node2", "cp", "-p", manifest, "/var/tmp/manifest")
    lab.write("node2", manifest, "{", mode="0600")
    run = reset(extra_vars=CONFIRM, succeeds=False)
    lab.run("node2", "mv", "/var/tmp/manifest", manifest)
    assert f"node2: {manifest} cannot be read" in run.messages and "Restore it from a backup" in run.messages
    assert digest.left(whole, digest.of_all(lab)) == {}


def test_containers_that_would_die_are_named_and_nothing_is_done(lab: Cluster, whole: dict[str, set[str]]) -> None:
    run = reset(extra_vars={**CONFIRM, "overlay_docker_restart": "never"}, succeeds=False)
    assert "node1: the engine has to be restarted" in run.messages
    assert digest.left(whole, digest.of_all(lab)) == {}


def test_it_is_finished_where_it_was_ended_and_all_is_as_before(
    lab: Cluster, before: dict[str, set[str]], whole: dict[str, set[str]]
) -> None:
    was = containers(lab, "node1")
    for task in ("Let the engine go on without the store", "Take off the rest"):
        with start_playbook("playbooks/reset.yml", inventory=INVENTORY, extra_vars=CONFIRM) as running:
            running.wait_for_task(task)
            running.kill()
    reset(extra_vars=CONFIRM)
    assert digest.left(before, digest.of_all(lab)) == {}
    # The same processes, though their engine was restarted.
    assert containers(lab, "node1") == was and {running for running, _pid in was.values()} == {"true"}
    assert lab.ask("node1", "fleeting", "kept") == "kept"


def test_once_more_changes_nothing(lab: Cluster, before: dict[str, set[str]], whole: dict[str, set[str]]) -> None:
    assert reset(extra_vars=CONFIRM).changed == {}
    assert digest.left(before, digest.of_all(lab)) == {}


# --- with containers on the overlay ---


def test_containers_of_the_overlay_run_on_and_their_engine_stays(
    lab: Cluster, whole: dict[str, set[str]], tmp_path: Path
) -> None:
    site(tmp_path)
    lab.start_service("node1", "both", "ours", "--restart", "always")
    lab.run("node1", "docker", "network", "connect", "shop", "both")
    lab.start_service("node2", "alone", "ours", "--restart", "always")
    assert lab.unreached({"both": "node1", "alone": "node2"}) == []
    lab.write("node2", "/etc/sysctl.d/99-z-multihost-overlay.conf", "# The user's now.\nnet.ipv4.ip_forward=1\n")
    was = {host: containers(lab, host) for host in ("node1", "node2")}
    run = reset(extra_vars=CONFIRM)
    assert {host: containers(lab, host) for host in was} == was
    assert "disconnect the container alone from the network ours; it is left without a network" in run.output
    assert "disconnect the container both from the network ours; it keeps shop" in run.output
    assert lab.ask("node1", "both", "kept") == "kept"
    assert "the engine that we installed, because it is used: 1 containers, 1 images" in run.output
    kept = lab.out("node2", "sh", "-c", "cat /var/lib/multihost-overlay/kept/99-z-*")
    assert kept.startswith("# The user's now.")
    assert list(json.loads(lab.out("node2", "cat", "/var/lib/multihost-overlay/manifest.json"))["packages"]) == [
        "docker.io"
    ]
    assert reset(extra_vars=CONFIRM).changed == {}


def test_what_was_left_goes_when_nobody_needs_it(
    lab: Cluster, before: dict[str, set[str]], whole: dict[str, set[str]]
) -> None:
    lab.run("node1", "docker", "rm", "-f", "both")
    lab.run("node2", "docker", "rm", "-f", "alone")
    lab.run("node2", "docker", "rmi", "multihost-overlay-test:empty")
    lab.run("node2", "rm", "-r", "/var/lib/multihost-overlay/kept")
    reset(extra_vars=CONFIRM)
    assert digest.left(before, digest.of_all(lab)) == {}


def test_a_host_that_is_away_is_refused_or_left_out(lab: Cluster, before: dict[str, set[str]], tmp_path: Path) -> None:
    site(tmp_path)
    now = digest.of_all(lab)
    lab.labctl("cut", "node3")
    others = Cluster("reset", ("node1", "node2"))
    try:
        run = reset(extra_vars=CONFIRM, succeeds=False)
        assert "node3 cannot be reached" in run.messages
        assert digest.left({host: now[host] for host in others.hosts}, digest.of_all(others)) == {}
        reset(extra_vars={**CONFIRM, "overlay_skip_unreachable": True}, succeeds=None)
        assert digest.left({host: before[host] for host in others.hosts}, digest.of_all(others)) == {}
    finally:
        lab.labctl("start", "node3")
        lab.labctl("wait", "node3")
    wait_for("node3 is up", lambda: lab.run("node3", "true", check=False).returncode == 0, 60)
    reset(extra_vars=CONFIRM)
    # Hosts of the lab have no modules, so that the boot with our list of them left this failed; it succeeds only without the list.
    lab.run("node3", "systemctl", "restart", "systemd-modules-load.service")
    assert digest.left(before, digest.of_all(lab)) == {}
