# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with a life of their own keep it; brownfield.py says what they are. One story, told in this file's order."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import wait_for
from tests.e2e import brownfield as users
from tests.e2e import digest
from tests.e2e.brownfield import Brownfield
from tests.e2e.support import Run, run_playbook

pytestmark = pytest.mark.lab

INVENTORY = "tests/e2e/inventories/brownfield.yml"
DOCKER_HOSTS = ("node1", "node2", "node4")
# What a run says of engines that it may not restart.
PENDING = (r"A restart of the engine is pending",)
OURS = {"cluster-store", "cluster-advertise", "live-restore", "shutdown-timeout"}


@dataclasses.dataclass
class Told:
    """A run of site.yml, what there was before and after it, and its report."""

    run: Run
    before: dict[str, Any]
    after: dict[str, Any]
    pairs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def brown() -> Iterator[Brownfield]:
    """The hosts, lived in."""
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    hosts = Brownfield("brown", ("node1", "node2", "node3", "node4"))
    hosts.set_up()
    yield hosts
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def site(hosts: Brownfield, folder: Path, succeeds: bool = True, **variables: Any) -> Told:
    """Run site.yml as a user would."""
    before = hosts.states()
    given = {"overlay_report_dir": str(folder), **variables}
    run = run_playbook("site.yml", inventory=INVENTORY, extra_vars=given, succeeds=succeeds, warnings=PENDING)
    report = folder / "verify.json"
    pairs = json.loads(report.read_text())["pairs"] if report.exists() else []
    return Told(run, before, hosts.states(), pairs)


@pytest.fixture(scope="module")
def defaults(brown: Brownfield, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The first run, with nobody's consent to anything."""
    return site(brown, tmp_path_factory.mktemp("defaults"), succeeds=False)


@pytest.fixture(scope="module")
def consent(brown: Brownfield, defaults: Told, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The second run, with consent to restarts."""
    return site(brown, tmp_path_factory.mktemp("consent"), overlay_docker_restart="rolling")


# --- before anything is changed ---


def test_flags_that_say_otherwise_are_refused_by_the_file_that_sets_them(brown: Brownfield, tmp_path: Path) -> None:
    flagged = users.USERS_FLAGS.replace("10.88.30.12:2376", "10.88.30.12:2375")
    other = f"{users.DROP_INS}/other-store.conf"
    elsewhere = (
        "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --cluster-store consul://10.88.30.99:8500\n"
    )
    brown.write("node1", other, elsewhere)
    brown.write("node2", users.FLAGS, flagged)
    try:
        told = site(brown, tmp_path, succeeds=False)
    finally:
        brown.run("node1", "rm", other)
        brown.write("node2", users.FLAGS, users.USERS_FLAGS)
    assert told.after == told.before
    # Both at once, each with its host, its value and the file.
    assert f"--cluster-store=consul://10.88.30.99:8500 in {other}" in told.run.messages
    assert f"--cluster-advertise=10.88.30.12:2375 in {users.FLAGS}" in told.run.messages
    assert "node1" in told.run.messages and "node2" in told.run.messages


def test_a_dry_run_changes_nothing(brown: Brownfield, tmp_path: Path) -> None:
    before = brown.states()
    variables = {"overlay_report_dir": str(tmp_path)}
    run = run_playbook(
        "site.yml", inventory=INVENTORY, extra_vars=variables, arguments=["--check", "--diff"], warnings=PENDING
    )
    assert brown.states() == before
    # It foretells, down to the restart that will not be.
    assert set(run.changed) == set(DOCKER_HOSTS)
    assert '"cluster-store": "consul://10.88.30.13:8500"' in run.output
    assert "would die of it: node4-fleeting, node4-kept" in run.output.replace(
        "node4-kept, node4-fleeting", "node4-fleeting, node4-kept"
    )
    findings = json.loads((tmp_path / "preflight.json").read_text())["findings"]
    flags = {
        row["message"].split()[0] for row in findings if row["host"] == "node2" and row["id"] == "engine_flag_same"
    }
    assert flags == {"cluster-store", "cluster-advertise"}


# --- without consent ---


def test_no_container_dies_without_consent(defaults: Told) -> None:
    for host in DOCKER_HOSTS:
        assert defaults.after[host]["containers"] == defaults.before[host]["containers"]
        assert "0" not in [process for process, _id in defaults.after[host]["containers"].values()]


def test_only_the_engine_that_hurts_nobody_is_restarted(brown: Brownfield, defaults: Told) -> None:
    restarted = {host for host in DOCKER_HOSTS if defaults.after[host]["engine"] != defaults.before[host]["engine"]}
    # Of these live-restore could be switched on first. node2 needs none, and node4's user has said no.
    assert restarted == {"node1"}
    assert {host: brown.info(host).get("ClusterStore", "") for host in DOCKER_HOSTS} == {
        "node1": users.STORE, "node2": users.STORE, "node4": "",
    }  # fmt: skip


def test_the_run_says_what_is_pending_and_who_would_die_of_it(defaults: Told) -> None:
    said = defaults.run.messages
    assert "These hosts are not in the overlay yet" in said
    assert "node4: A restart of the engine is pending" in said
    assert "wanted is consul://10.88.30.13:8500" in said
    dying = said.partition("would die of it: ")[2].partition(".")[0]
    assert sorted(dying.split(", ")) == ["node4-fleeting", "node4-kept"]
    assert "(no restart policy): node4-fleeting." in said
    assert "live-restore would save them, but is switched off by a setting that is not ours" in said
    assert "overlay_docker_restart: rolling" in said and "systemctl restart docker" in said
    assert "The others are done: node1, node2, node3." in said
    # Nothing stumbled: what failed are the proof of all pairs and this message.
    failed = [task.name for task in defaults.run.tasks if "failed" in task.outcomes.values()]
    assert [name.rpartition(": ")[2].partition(",")[0] for name in failed] == [
        "Report every pair",
        "Name the hosts that fell out",
    ]


def test_the_hosts_that_are_done_are_proven_and_the_other_is_not(defaults: Told) -> None:
    good = {(row["from"], row["to"]) for row in defaults.pairs if row["ok"]}
    assert good == {("node1", "node2"), ("node2", "node1")}
    bad = [row for row in defaults.pairs if not row["ok"]]
    assert len(bad) == 4 and {row["kind"] for row in bad} == {"network_missing"}


def test_the_users_keys_stay_as_they_were_written(brown: Brownfield, defaults: Told) -> None:
    ours = {"cluster-store": users.STORE, "live-restore": True}
    theirs = {**users.USERS_KEYS, "shutdown-timeout": 20}
    for host, address in (("node1", "10.88.30.11"), ("node4", "10.88.30.14")):
        text = brown.text(host, users.DAEMON_JSON)
        document = json.loads(text)
        off = {"live-restore": False} if host == "node4" else {}
        assert document == {**theirs, **ours, "cluster-advertise": f"{address}:2376", **off}
        # The user's order and indentation, and ours behind.
        assert [key for key in document if key in {**users.USERS_KEYS, **off}] == [*off, *users.USERS_KEYS]
        assert text == json.dumps(document, indent=4) + "\n"


def test_a_setting_that_is_a_flag_is_not_set_twice(brown: Brownfield, defaults: Told) -> None:
    document = json.loads(brown.text("node2", users.DAEMON_JSON))
    assert document == {**users.USERS_KEYS, "shutdown-timeout": 20, "live-restore": True}
    assert brown.text("node2", users.FLAGS) == users.USERS_FLAGS


def test_the_manifest_knows_what_was_there_before(brown: Brownfield, defaults: Told) -> None:
    for host in DOCKER_HOSTS:
        keys = brown.manifest(host)["keys"][users.DAEMON_JSON]
        assert (keys["shutdown-timeout"]["had"], keys["shutdown-timeout"]["prior"]) == (True, 15)
        assert {key for key, record in keys.items() if not record["had"]} == {
            "node1": OURS, "node2": {"live-restore"}, "node4": {"cluster-store", "cluster-advertise"},
        }[host] - {"shutdown-timeout"}  # fmt: skip
    packages = {host: set(brown.manifest(host)["packages"]) for host in DOCKER_HOSTS}
    assert not any("docker.io" in names for names in packages.values()), "the engine is the user's"


def test_somebody_elses_consul_and_its_host_are_not_touched(defaults: Told) -> None:
    assert defaults.after["node3"] == defaults.before["node3"]
    assert "node3" not in defaults.run.changed


# --- with consent ---


@pytest.mark.long
def test_with_consent_the_run_converges_and_proves_it(brown: Brownfield, consent: Told) -> None:
    assert set(consent.run.changed) == {"node4"}
    assert consent.after["node3"] == consent.before["node3"], "somebody else's Consul is not touched"
    assert len(consent.pairs) == 6 and all(row["ok"] for row in consent.pairs)
    assert brown.info("node4")["ClusterStore"] == users.STORE
    assert brown.info("node4")["LiveRestoreEnabled"] is False, "the user's word holds"


@pytest.mark.long
def test_consent_restarts_no_other_engine(consent: Told) -> None:
    for host in ("node1", "node2"):
        for thing in ("engine", "containers"):
            assert consent.after[host][thing] == consent.before[host][thing]


@pytest.mark.long
def test_a_container_with_a_restart_policy_is_back(brown: Brownfield, consent: Told) -> None:
    wait_for("node4-kept runs again", lambda: brown.containers("node4")["node4-kept"][0] != "0", 60)
    assert brown.containers("node4")["node4-fleeting"][0] == "0", "else this scenario proves less than it says"


@pytest.mark.long
def test_the_users_networks_still_work(brown: Brownfield, defaults: Told, consent: Told) -> None:
    assert brown.ask("node1", "node1-fleeting", "node1-kept") == "node1-kept"
    # It was one engine's; the others see it now, because they are in the same store.
    assert {brown.network_id(host, "theirs") for host in DOCKER_HOSTS} == {brown.theirs}
    assert (
        brown.out(
            "node2", "docker", "network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}}{{end}}", "theirs"
        )
        == "10.100.32.7/24"
    )


@pytest.mark.long
def test_a_further_run_changes_nothing(brown: Brownfield, consent: Told, tmp_path: Path) -> None:
    told = site(brown, tmp_path)
    assert told.run.changed == {}
    assert told.after == told.before
    assert max(told.run.remote.values()) <= 25


@pytest.mark.long
def test_each_engine_starts_with_what_its_files_say(brown: Brownfield, consent: Told) -> None:
    """A key that is a flag too, or a broken file, would show only now."""
    before = brown.containers("node2")
    brown.run("node2", "systemctl", "restart", "docker.service")
    wait_for("node2's engine is in the store", lambda: brown.info("node2")["ClusterStore"] == users.STORE, 60)
    assert brown.containers("node2") == before


# --- and off again ---


@pytest.fixture(scope="module")
def untouched(brown: Brownfield) -> dict[str, set[str]]:
    """The hosts before the first run."""
    assert not any(brown.manifest(host) for host in brown.hosts), "else this comes too late"
    return digest.of_all(brown)


@pytest.mark.long
def test_a_reset_leaves_what_was_there_before(
    untouched: dict[str, set[str]], brown: Brownfield, defaults: Told, consent: Told
) -> None:
    keys, theirs, now = brown.keys(), brown.containers("node2"), digest.of_all(brown)
    confirmed = {"reset_confirm": "yes"}
    refused = run_playbook("playbooks/reset.yml", inventory=INVENTORY, extra_vars=confirmed, succeeds=False)
    assert (
        "node4: the engine has to be restarted" in refused.messages
        and "would die of it: node4-kept" in refused.messages
    )
    assert digest.left(now, digest.of_all(brown)) == {}
    consented = {**confirmed, "overlay_docker_restart": "rolling"}
    run_playbook("playbooks/reset.yml", inventory=INVENTORY, extra_vars=consented)
    # What died of the consent has another process now.
    left = digest.left(untouched, digest.of_all(brown))
    assert {host: [row for row in rows if "container /node4" not in row] for host, rows in left.items()} in (
        {},
        {"node4": []},
    )
    # Not ours, and so still there: the store with others' keys, the engine that was in it, its network and container.
    assert brown.keys() == keys and brown.containers("node2") == theirs
    assert brown.network_id("node2", "theirs") == brown.theirs and brown.network_id("node2", "ours") == ""
    assert brown.info("node2")["ClusterStore"] == users.STORE
    again = run_playbook("playbooks/reset.yml", inventory=INVENTORY, extra_vars=confirmed)
    assert again.changed == {}
