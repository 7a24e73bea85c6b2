# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify, doctor and preflight on a cluster that people made by hand: they change nothing of it, and tell the truth.

handmade.py says what it is. What breaks it comes last, each with its cure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.handmade import CHOSEN, EMPTY, ENGINES, NETWORK, Handmade
from tests.e2e.shared import leftovers, read
from tests.e2e.state import differences
from tests.e2e.support import ROOT, Run, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "handmade.yml"
# With it the hosts stay, and the next run takes them as they are: for who works on this suite.
KEEP = "OVERLAY_KEEP_HANDMADE"
THERE, BACK = ENGINES, ENGINES[::-1]
# The doctor's word on the cluster as it is: its store is open to everybody, which is the truth.
OPEN = {("node2", "store_unprotected"), ("node3", "store_unprotected")}
# What Docker itself keeps in the store of a network that has been used: its number, its count, which addresses were given out.
KEPT = {
    "key docker/network/v1.0/endpoint_count/ID/",
    "key docker/network/v1.0/idm/vxlan-id/",
    "key docker/network/v1.0/ipam/default/data/GlobalDefault/SUBNET/",
    "key docker/network/v1.0/overlay/network/ID/",
}

Pair = tuple[str, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Handmade]:
    """The hosts. What an earlier run left is removed first."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    hosts = Handmade("handmade", ("node1", "node2", "node3"))
    if hosts.run("node3", "docker", "inspect", "theirs-node3", check=False).returncode:
        hosts.set_up()
    yield hosts
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def play(name: str, folder: Path, succeeds: bool = True, **given: Any) -> Run:
    """One of the playbooks, as the people of this cluster would run it."""
    extra = {"overlay_report_dir": str(folder), **given}
    return run_playbook(f"playbooks/{name}.yml", inventory=INVENTORY, extra_vars=extra, succeeds=succeeds)


def verify(folder: Path, network: str = NETWORK, succeeds: bool = True) -> tuple[Run, dict[Pair, dict[str, Any]]]:
    """A proof, and its rows by their pairs."""
    run = play("verify", folder, succeeds, overlay_verify_networks=[network])
    rows = read(folder, "verify.json")["pairs"]
    assert [row["network"] for row in rows] == [network] * 2
    return run, {(row["from"], row["to"]): row for row in rows}


def doctor(folder: Path, succeeds: bool = True) -> dict[Pair, dict[str, str]]:
    """(host, check) -> finding, of all that it says, however little."""
    play("doctor", folder, succeeds)
    found = read(folder, "doctor.json")["findings"]
    rows = {(row["host"], row["id"]): row for row in found}
    assert len(rows) == len(found), "a finding twice"
    return rows


def changed(cluster: Handmade, before: Any, network: str) -> set[str]:
    """What is not as it was, without the network's own number and subnet."""
    identity = cluster.out("node2", "docker", "network", "inspect", "-f", "{{.Id}}", network)
    lines = (line.partition(": ")[0].replace(identity, "ID") for line in differences(before, cluster.digest()))
    return {re.sub(r"GlobalDefault/.*/", "GlobalDefault/SUBNET/", line) for line in lines}


def test_nothing_of_ours_is_there(cluster: Handmade) -> None:
    """Else the others prove less than they say."""
    assert cluster.out("node1", "docker", "ps", "--format", "{{.Names}}") == "consul"
    assert cluster.run("node1", "systemctl", "is-active", "consul.service", check=False).stdout.strip() == "inactive"
    assert not [thing for thing in cluster.digest() if "multihost" in thing]
    advertised = {host: cluster.out(host, "docker", "info", "-f", "{{.ClusterAdvertise}}") for host in ENGINES}
    assert advertised == {"node2": "10.88.140.12:2376", "node3": "10.88.140.13:2376"}


def test_verify_uses_their_containers_and_changes_nothing(cluster: Handmade, tmp_path: Path) -> None:
    before = cluster.digest()
    run, rows = verify(tmp_path)
    assert set(rows) == {THERE, BACK} and all(row["ok"] for row in rows.values())
    for row in rows.values():
        assert (row["name_ok"], row["alias_ok"], row["mtu_ok"], row["udp_ok"], row["tcp_ok"]) == (True,) * 5
    assert run.changed == {}
    assert differences(before, cluster.digest()) == []


def test_verify_of_a_network_that_nobody_uses(cluster: Handmade, tmp_path: Path) -> None:
    before = cluster.digest()
    _run, rows = verify(tmp_path, EMPTY)
    assert set(rows) == {THERE, BACK} and all(row["ok"] for row in rows.values())
    assert leftovers(cluster) == []
    assert changed(cluster, before, EMPTY) <= KEPT


def test_where_docker_chose_the_subnet_it_chooses_the_addresses_too(cluster: Handmade, tmp_path: Path) -> None:
    """Nobody may ask for an address there: peers look each other up."""
    before = cluster.digest()
    _run, rows = verify(tmp_path, CHOSEN)
    assert set(rows) == {THERE, BACK} and all(row["ok"] for row in rows.values())
    assert leftovers(cluster) == []
    assert changed(cluster, before, CHOSEN) <= KEPT


def test_the_doctor_says_what_is_so_and_changes_nothing(cluster: Handmade, tmp_path: Path) -> None:
    before = cluster.digest()
    found = doctor(tmp_path)
    assert set(found) == OPEN
    assert all(row["level"] == "warning" for row in found.values())
    assert differences(before, cluster.digest()) == []


def test_preflight_changes_nothing(cluster: Handmade, tmp_path: Path) -> None:
    before = cluster.digest()
    play("preflight", tmp_path)
    assert differences(before, cluster.digest()) == []
    found = {(row["host"], row["id"]) for row in read(tmp_path, "preflight.json")["findings"] if row["level"] != "info"}
    assert found == set()


@contextmanager
def dropped(cluster: Handmade) -> Iterator[None]:
    """What node2 sends through the tunnel is dropped at node3."""
    rule = ("INPUT", "-s", "10.88.140.12", "-p", "udp", "--dport", "4789", "-j", "DROP")
    cluster.run("node3", "iptables", "-I", *rule)
    yield
    cluster.run("node3", "iptables", "-D", *rule)
    cluster.wait_until_well()


@contextmanager
def no_engine(cluster: Handmade) -> Iterator[None]:
    cluster.run("node3", "systemctl", "stop", "docker.socket", "docker.service")
    yield
    cluster.run("node3", "systemctl", "start", "docker.socket", "docker.service")
    cluster.wait_until_well()


@contextmanager
def no_store(cluster: Handmade) -> Iterator[None]:
    cluster.run("node1", "docker", "stop", "consul")
    yield
    cluster.run("node1", "docker", "start", "consul")
    cluster.wait_for_leader()


def test_one_direction_is_dropped(cluster: Handmade, tmp_path: Path) -> None:
    with dropped(cluster):
        run, rows = verify(tmp_path, succeeds=False)
        found = doctor(tmp_path, succeeds=False)
    assert (rows[THERE]["kind"], rows[THERE]["loss"], rows[BACK]["ok"]) == ("no_answer", 1.0, True)
    assert rows[THERE]["wire"]["left"] > 0 and rows[THERE]["wire"]["arrived"] > 0
    assert "came to node3's interface and were dropped there" in run.messages
    assert set(found) == OPEN | {("node3", "overlay_port_dropped")}


def test_an_engine_is_down(cluster: Handmade, tmp_path: Path) -> None:
    with no_engine(cluster):
        _run, rows = verify(tmp_path, succeeds=False)
        found = doctor(tmp_path, succeeds=False)
    assert {pair: row["kind"] for pair, row in rows.items()} == {THERE: "engine_down", BACK: "engine_down"}
    assert all(row["error"].startswith("node3: ") for row in rows.values())
    # What node2 could do alone it did, and is not blamed.
    assert [row for row in read(tmp_path, "verify.json")["checks"] if row["ok"] is not True] == []
    assert set(found) == {("node3", "engine_down"), ("node2", "store_unprotected")}


def test_the_store_is_down(cluster: Handmade, tmp_path: Path) -> None:
    with no_store(cluster):
        # An engine without its store knows no networks; what runs there is proven all the same.
        _run, rows = verify(tmp_path)
        found = doctor(tmp_path, succeeds=False)
    assert set(rows) == {THERE, BACK}
    assert set(found) == {("node2", "store_silent"), ("node3", "store_silent")}
