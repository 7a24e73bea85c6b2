# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of an overlay while servers of its store are lost. After each fault the tests only look, and bring back what they took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import HOSTS, converge, variables, variation, verify
from tests.e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.lab, pytest.mark.long]

ADDRESSES = {host: f"10.88.20.{11 + number}" for number, host in enumerate(HOSTS)}
CONTROLLER = "10.88.20.1"
UNIT = "multihost-overlay-consul.service"
# Seconds: until a leader is gone and another one chosen, and what the busy engines of a test need on top.
ELECTION = 60
HEALED = 60


@pytest.fixture
def busy(cluster: Cluster) -> Iterator[Traffic]:
    cluster.fresh_engines()
    with traffic(cluster, ADDRESSES, "frontend", CONTROLLER) as running:
        yield running


def leader_seen(cluster: Cluster, host: str) -> str:
    """Whom a host's Consul takes for the leader; '' for nobody."""
    said = cluster.call(host, "http://127.0.0.1:8500/v1/status/leader")[1]
    address = said.strip('"\n').partition(":")[0]
    return next((name for name, own in ADDRESSES.items() if own == address), "")


def other_leader(cluster: Cluster, old: str) -> str:
    """The leader that the survivors agree upon, once it is another."""
    survivors = [host for host in HOSTS if host != old]

    def agreed() -> str:
        seen = {leader_seen(cluster, host) for host in survivors}
        return seen.pop() if len(seen) == 1 and old not in seen else ""

    return str(wait_for(f"the others have a leader beside {old}", agreed, ELECTION))


def reaches_all(cluster: Cluster, host: str, others: list[str]) -> None:
    """A container that is started now reaches the others by name. Who is cut off from the store cannot learn its name."""
    cluster.remove_containers("late")
    cluster.start_service(host, "late", "frontend")
    for other in others:
        name = f"server-{other}"
        wait_for(f"late reaches {name}", partial(_reaches, cluster, host, name), 60)
    cluster.run(host, "docker", "rm", "-f", "late")


def _reaches(cluster: Cluster, host: str, name: str) -> bool:
    return cluster.ask(host, "late", name) == name


def lost_beside(busy: Traffic, victim: str) -> list[str]:
    """Probes that failed on the other hosts, but for those to the host that is gone."""
    gone = (f" {ADDRESSES[victim]}:", f" {busy.servers[victim]}:")
    lines = busy.failed(*[host for host in HOSTS if host != victim])
    return [line for line in lines if not any(address in line for address in gone)]


@contextmanager
def store_cut_off(cluster: Cluster, host: str) -> Iterator[None]:
    """Nothing of Consul's passes between a host and the others; everything else does."""
    others = [other for other in HOSTS if other != host]
    try:
        for proto, port in (("tcp", "8300"), ("tcp", "8301"), ("udp", "8301")):
            for other in others:
                cluster.labctl("partition", "--proto", proto, "--port", port, host, other)
        yield
    finally:
        cluster.labctl("heal")


def power_on(cluster: Cluster, *hosts: str) -> None:
    """Until what a boot has to repair is repaired."""
    for host in hosts:
        cluster.labctl("start", host)
    cluster.labctl("wait", *hosts)
    for host in hosts:
        wait_for(f"{host}'s boot is repaired", partial(_repaired, cluster, host), 120)


def _repaired(cluster: Cluster, host: str) -> bool:
    unit = "multihost-overlay-boot-repair.service"
    return cluster.unit(host, unit, "SubState") == "exited"


def proven_soon(report: Path) -> None:
    """The whole overlay, within a minute."""
    wait_for("verify passes", lambda: verify(report, succeeds=None).returncode == 0, HEALED, every=1)


def test_the_leader_is_killed(cluster: Cluster, busy: Traffic, tmp_path: Path) -> None:
    leader = leader_seen(cluster, "node1")
    cluster.run(leader, "systemctl", "kill", "-s", "KILL", UNIT)
    survivor = other_leader(cluster, leader)
    reaches_all(cluster, survivor, list(HOSTS))
    assert busy.failed() == []
    proven_soon(tmp_path)


def test_the_leader_is_cut_off_from_the_others(cluster: Cluster, busy: Traffic, tmp_path: Path) -> None:
    leader = leader_seen(cluster, "node1")
    with store_cut_off(cluster, leader):
        survivor = other_leader(cluster, leader)
        reaches_all(cluster, survivor, list(HOSTS))
        assert busy.failed() == []
    proven_soon(tmp_path)
    assert busy.failed() == []


@pytest.mark.parametrize("victim", HOSTS)
def test_a_host_loses_its_power(cluster: Cluster, busy: Traffic, tmp_path: Path, victim: str) -> None:
    others = [host for host in HOSTS if host != victim]
    try:
        cluster.labctl("cut", victim)
        survivor = other_leader(cluster, victim)
        reaches_all(cluster, survivor, others)
        assert lost_beside(busy, victim) == []
    finally:
        power_on(cluster, victim)
    services = {f"server-{host}": host for host in HOSTS}
    wait_for("the host is back with its containers", lambda: not cluster.unreached(services), 240, every=2)
    proven_soon(tmp_path)


def test_overlays_work_after_a_power_cut_though_no_container_comes_back(cluster: Cluster) -> None:
    """Docker has left the overlay of a container without restart policy broken, and nobody is down who could tell."""
    try:
        cluster.start_service("node2", "server-node2", "frontend")
        cluster.start_service("node1", "fleeting", "frontend", "--rm")
        cluster.labctl("cut", "node1")
        power_on(cluster, "node1")
        cluster.start_service("node1", "late", "frontend")
        wait_for("late reaches server-node2", partial(_reaches, cluster, "node1", "server-node2"), 60)
    finally:
        cluster.remove_containers("late", "fleeting", "server-node2")


def test_two_of_three_servers_are_lost(cluster: Cluster, busy: Traffic, tmp_path: Path) -> None:
    """What runs goes on; what is new fails, or waits; all heals."""
    lost = HOSTS[1:]
    try:
        for host in lost:
            cluster.run(host, "systemctl", "stop", UNIT)
        wait_for("there is no leader", lambda: not leader_seen(cluster, "node1"), ELECTION)
        begun = cluster.run(
            "node1", "timeout", "20", "docker", "run", "--name", "late", "--network", "frontend", "--rm", "-d",
            "multihost-overlay-test:empty", "/bin/true", check=False,
        )  # fmt: skip
        assert begun.returncode != 0
        assert busy.failed() == []
    finally:
        for host in lost:
            cluster.run(host, "systemctl", "start", "--no-block", UNIT)
    wait_for("there is a leader again", lambda: leader_seen(cluster, "node1"), ELECTION)
    cluster.remove_containers("late")
    proven_soon(tmp_path)
    reaches_all(cluster, "node1", list(HOSTS))
    assert busy.failed() == []


@pytest.mark.parametrize(("live", "order"), [(True, (2, 0, 1)), (False, (1, 2, 0))], ids=["live-restore", "without"])
def test_all_hosts_lose_their_power(cluster: Cluster, tmp_path: Path, live: bool, order: tuple[int, ...]) -> None:
    inventory = variation(tmp_path, variables(overlay_docker_config={"live-restore": live}))
    converge(tmp_path, inventory=inventory, extra_vars={"overlay_docker_restart": "rolling"})
    assert {cluster.out(host, "docker", "info", "-f", "{{.LiveRestoreEnabled}}") for host in HOSTS} == {
        str(live).lower()
    }
    with traffic(cluster, ADDRESSES, "frontend", CONTROLLER):
        cluster.labctl("cut", *HOSTS)
        power_on(cluster, *[HOSTS[number] for number in order])
        services = {f"server-{host}": host for host in HOSTS}
        wait_for("all containers are back and reach one another", lambda: not cluster.unreached(services), 300, every=2)
        proven_soon(tmp_path)
    converge(tmp_path)
