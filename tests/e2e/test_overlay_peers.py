# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers reach one another although an engine was restarted under live-restore, and dockerd gets on with what is added.

Two hosts: with a third a right answer might come in the place of the wrong one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.support import ROOT, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

HOSTS = ("node1", "node2")
INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "turn.yml"
UNIT = "multihost-overlay-peers.service"
RECORD = "/run/multihost-overlay/peers.json"
CONSUL = "multihost-overlay-consul.service"
# What is waited for at most until a round is done: they are ten seconds apart.
ROUND = 15
# Where "two" is at first, and its MAC, which Docker makes of the address.
ADDRESS, MAC = "10.100.90.11", "02:42:0a:64:5a:0b"
PLACED = {"one": "node1", "two": "node2"}
TABLES = """
for space in /run/docker/netns/*-*; do
    test -e "$space" || continue
    nsenter --net="$space" sh -c 'ip neighbour show nud permanent; bridge fdb | grep dst'
done
true
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two hosts of the lab `turn`, converged by site.yml."""
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    run_playbook(
        "site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path_factory.mktemp("site"))}
    )
    yield Cluster("turn", HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def restart_engine(cluster: Cluster, host: str) -> None:
    """As `systemctl restart docker` does under live-restore, until the engine is among its peers again."""
    cluster.run(
        host, "systemctl", "reset-failed", "docker.service"
    )  # systemd counts starts, and forbids many in a minute
    cluster.run(host, "systemctl", "restart", "docker.service")
    wait_for(f"{host}'s engine gossips", lambda: ":7946" in cluster.out(host, "ss", "-Hlnt"))
    others = len(HOSTS) - 1
    wait_for(f"{host}'s engine has met the others", partial(met, cluster, host, others))


def met(cluster: Cluster, host: str, others: int) -> bool:
    """Whether the engine that runs now has heard of that many other hosts."""
    pid = cluster.unit(host, "docker.service", "MainPID")
    said = cluster.out(host, "journalctl", "-o", "cat", "--no-pager", f"_PID={pid}")
    return said.count("EventMemberJoin") > others


def tables(cluster: Cluster, host: str) -> list[str]:
    """The entries of the overlays' namespaces that lead to other hosts."""
    return cluster.out(host, "sh", "-c", TABLES).splitlines()


def entries(cluster: Cluster, host: str, *words: str) -> list[str]:
    return [line for line in tables(cluster, host) if all(word in line.split() for word in words)]


def recorded(cluster: Cluster, host: str) -> list[str]:
    """What the unit holds for its own, as "key value"."""
    content = json.loads(cluster.run(host, "cat", RECORD, check=False).stdout or "{}")
    return sorted(f"{key} {value}" for rows in content.values() for _table, _device, key, value in rows)


def said(cluster: Cluster, host: str, since: float) -> list[str]:
    journal = ("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "--since", f"@{int(since)}")
    return cluster.out(host, *journal).splitlines()


def start(cluster: Cluster, name: str, host: str, address: str, network: str = "blue") -> None:
    cluster.start_service(host, name, network, "--restart", "always", "--ip", address)


def unreached(cluster: Cluster) -> list[str]:
    return cluster.unreached(PLACED)


def make_blind(cluster: Cluster) -> None:
    """Without the unit: "one" cannot reach "two", whose engine was restarted before that of "one" heard of it."""
    cluster.remove_containers(*PLACED)
    for host in HOSTS:
        cluster.run(host, "systemctl", "stop", UNIT)
        # What it still holds of networks that it took over can keep containers from starting.
        restart_engine(cluster, host)
    start(cluster, "two", "node2", ADDRESS)
    restart_engine(cluster, "node2")
    restart_engine(cluster, "node1")  # it has no container, and forgets what it was told
    start(cluster, "one", "node1", "10.100.90.10")


@pytest.fixture
def blind(cluster: Cluster) -> Iterator[Cluster]:
    """The fault, and afterwards hosts as they were."""
    try:
        make_blind(cluster)
        assert [cluster.ask("node1", "one", ADDRESS) for _try in range(3)] == ["", "", ""]
        assert len(entries(cluster, "node1", ADDRESS, MAC)) == 1
        assert entries(cluster, "node1", MAC, "dst") == []
        yield cluster
    finally:
        cluster.remove_containers(*PLACED)
        for host in HOSTS:
            cluster.run(host, "systemctl", "start", UNIT)


@pytest.fixture
def seeing(blind: Cluster) -> Cluster:
    """The same with the unit at work."""
    begun = time.time()
    for host in HOSTS:
        blind.run(host, "systemctl", "start", UNIT)
    wait_for("one reaches two", lambda: blind.ask("node1", "one", ADDRESS) == "two", ROUND)
    assert len(entries(blind, "node1", MAC, "10.88.100.12", "permanent")) == 1
    assert recorded(blind, "node1") == [f"{MAC} 10.88.100.12"], "the neighbour is dockerd's"
    assert any(f"added {MAC} -> 10.88.100.12" in line for line in said(blind, "node1", begun))
    return blind


def test_it_is_healed_in_a_round(seeing: Cluster) -> None:
    assert unreached(seeing) == []


def test_what_was_added_goes_with_the_container(seeing: Cluster) -> None:
    seeing.run("node2", "docker", "rm", "-f", "two")
    wait_for("no way to two", lambda: not entries(seeing, "node1", MAC, "dst"), ROUND)
    wait_for("nothing on record", lambda: recorded(seeing, "node1") == [], 2 * ROUND)


def test_an_address_comes_back_to_its_host(seeing: Cluster) -> None:
    seeing.run("node2", "docker", "rm", "-f", "two")
    start(seeing, "two", "node2", ADDRESS)
    wait_for("all reach all", lambda: not unreached(seeing), 2 * ROUND)


def test_an_address_moves_to_this_host_and_away_again(seeing: Cluster) -> None:
    seeing.run("node2", "docker", "rm", "-f", "two")
    start(seeing, "two", "node1", ADDRESS)
    wait_for("no way to where it was", lambda: not entries(seeing, "node1", MAC, "dst"), ROUND)
    wait_for("one reaches it here", lambda: seeing.ask("node1", "one", ADDRESS) == "two", ROUND)
    seeing.run("node1", "docker", "rm", "-f", "two")
    start(seeing, "two", "node2", ADDRESS)
    wait_for("all reach all", lambda: not unreached(seeing), 2 * ROUND)


def test_what_an_engine_has_learnt_of_an_address_that_moved_is_put_right(cluster: Cluster) -> None:
    """An engine that was asked for a container of its own host sends to itself for ever, wherever the address goes."""
    placed = {"two": "node1", "three": "node2"}
    try:
        cluster.remove_containers(*PLACED)
        for host in HOSTS:
            cluster.run(host, "systemctl", "stop", UNIT)
            restart_engine(cluster, host)
        start(cluster, "two", "node2", ADDRESS)
        start(cluster, "three", "node2", "10.100.90.12")
        wait_for("they reach each other", lambda: cluster.ask("node2", "three", ADDRESS) == "two", ROUND)
        cluster.run("node2", "docker", "rm", "-f", "two")
        start(cluster, "two", "node1", ADDRESS)
        assert [cluster.ask("node2", "three", ADDRESS) for _try in range(3)] == ["", "", ""]
        assert len(entries(cluster, "node2", MAC, "10.88.100.12", "permanent")) == 1
        for host in HOSTS:
            cluster.run(host, "systemctl", "start", UNIT)
        wait_for("all reach all", lambda: not cluster.unreached(placed), 2 * ROUND)
        assert len(entries(cluster, "node2", MAC, "10.88.100.11", "permanent")) == 1
    finally:
        cluster.remove_containers(*PLACED, *placed)
        for host in HOSTS:
            cluster.run(host, "systemctl", "start", UNIT)


def test_engines_are_restarted(seeing: Cluster) -> None:
    for host in HOSTS:
        restart_engine(seeing, host)
        wait_for("all reach all", partial(lambda: not unreached(seeing)), ROUND)
    assert len(entries(seeing, "node1", MAC, "10.88.100.12", "permanent")) == 1


def test_a_store_that_does_not_answer_changes_nothing(seeing: Cluster) -> None:
    begun = time.time()
    before = tables(seeing, "node1")
    seeing.run("node1", "systemctl", "stop", CONSUL)
    try:
        wait_for(
            "it is said", lambda: any("nothing more is changed" in line for line in said(seeing, "node1", begun)), ROUND
        )
        seeing.run("node2", "docker", "rm", "-f", "two")
        time.sleep(ROUND)  # that nothing happens shows only in time
        assert entries(seeing, "node1", MAC, "10.88.100.12", "permanent") == [
            line for line in before if "10.88.100.12" in line
        ]
        complaints = [line for line in said(seeing, "node1", begun) if line.startswith("nothing more is changed")]
        assert len(complaints) == 1
    finally:
        seeing.run("node1", "systemctl", "start", CONSUL)
    wait_for("no way to two", lambda: not entries(seeing, "node1", MAC, "dst"), 4 * ROUND)
    assert any(line.startswith("no longer: nothing more is changed") for line in said(seeing, "node1", begun))


def test_engines_whose_watch_has_failed_are_told_to_begin_anew(seeing: Cluster) -> None:
    """Nothing else would: what engines themselves write there stays the same. Without an overlay in use nobody does it."""

    def index() -> int:
        said = dict(
            line.split(maxsplit=1)
            for line in seeing.consul("node1", "kv", "get", "-detailed", "docker/nodes").splitlines()
            if " " in line.strip()
        )
        return int(said["ModifyIndex"])

    before = index()
    wait_for("the hosts' key changes", lambda: index() > before, 4 * ROUND)
    assert seeing.consul("node1", "kv", "get", "docker/nodes") == ""


def lose_names(cluster: Cluster, name: str) -> None:
    """What a reading that failed leaves: an engine that has not found an endpoint which is there.

    A thread that an engine has lost makes it fail, but by chance, and makes other calls fail too: here the record is away meanwhile.
    """
    endpoints = cluster.records("endpoint")
    key = next(key for key, value in endpoints.items() if json.loads(value)["name"] == name)
    cluster.consul("node1", "kv", "delete", key)
    for count, value in cluster.records("endpoint_count").items():
        cluster.consul("node1", "kv", "put", "-flags=1", count, value)
    wait_for(f"{name} is forgotten", lambda: not resolves(cluster, name), 30)
    cluster.consul("node1", "kv", "put", key, endpoints[key])


def resolves(cluster: Cluster, name: str) -> bool:
    """Whether "one" is told an address for it."""
    return cluster.run("node1", "docker", "exec", "one", "getent", "ahostsv4", name, check=False).returncode == 0


def test_an_engine_that_has_lost_names_reads_them_again(cluster: Cluster) -> None:
    try:
        cluster.remove_containers(*PLACED)
        for host in HOSTS:
            cluster.run(host, "systemctl", "stop", UNIT)
        start(cluster, "one", "node1", "10.100.90.10")
        start(cluster, "two", "node2", ADDRESS)
        wait_for("the name is known", lambda: resolves(cluster, "two"), 30)
        lose_names(cluster, "two")
        begun = time.time()
        for host in HOSTS:
            cluster.run(host, "systemctl", "start", UNIT)
        wait_for("the name is known again", lambda: resolves(cluster, "two"), 4 * ROUND)
        assert any("does not know the name of" in line for line in said(cluster, "node1", begun))
    finally:
        cluster.remove_containers(*PLACED)
        for host in HOSTS:
            cluster.run(host, "systemctl", "start", UNIT)


def test_a_network_can_be_removed(cluster: Cluster) -> None:
    for host in HOSTS:
        restart_engine(cluster, host)
    cluster.run("node1", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.91.0/24", "red")
    try:
        for number, (name, host) in enumerate(PLACED.items(), 10):
            start(cluster, name, host, f"10.100.91.{number}", "red")
        wait_for("all reach all", lambda: not unreached(cluster), 2 * ROUND)
    finally:
        cluster.remove_containers(*PLACED)
        cluster.run("node1", "docker", "network", "rm", "red")
    for host in HOSTS:
        wait_for("no namespace is left", partial(lambda host: not tables(cluster, host), host), ROUND)
        wait_for("nothing on record", partial(lambda host: not recorded(cluster, host), host), 2 * ROUND)


def test_a_host_loses_power(seeing: Cluster) -> None:
    """After the boot its engine asks that of "two" again, and gets the same useless answer."""
    seeing.labctl("cut", "node1")
    seeing.labctl("start", "node1")
    seeing.labctl("wait", "node1")
    wait_for("one is up", lambda: seeing.out("node1", "docker", "ps", "-q"), 120, every=2)
    wait_for("all reach all", lambda: not unreached(seeing), 60)
    wait_for("the way to two stays", lambda: entries(seeing, "node1", MAC, "10.88.100.12", "permanent"), 2 * ROUND)
    assert f"{MAC} 10.88.100.12" in recorded(seeing, "node1")


def test_a_run_starts_what_was_stopped(cluster: Cluster, tmp_path: Path) -> None:
    """And leaves alone what was masked."""
    cluster.run("node1", "systemctl", "stop", UNIT)
    cluster.run("node2", "systemctl", "mask", "--now", UNIT)
    try:
        run = run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)})
        assert run.changed == {"node1": 1}
        assert cluster.out("node1", "systemctl", "is-active", UNIT) == "active"
        assert cluster.run("node2", "systemctl", "is-active", UNIT, check=False).stdout.strip() == "inactive"
    finally:
        cluster.run("node2", "systemctl", "unmask", UNIT)
        cluster.run("node2", "systemctl", "start", UNIT)
