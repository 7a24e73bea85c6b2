# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is not of the cluster reaches none of its ports, whatever befalls the host's other rules; peers reach what they need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.support import run_playbook
from tests.e2e.walls import (
    INVENTORY,
    IPV4,
    IPV6,
    LAB,
    MEMBERS,
    STRANGER,
    closed_to_the_stranger,
    every,
    inventory,
    loaded,
    open_to_peers,
    role,
    scan,
    scan_from_container,
    site,
    verify,
    wait_until_alone,
    wait_until_joined,
    wait_until_met,
    without,
)

pytestmark = pytest.mark.lab

# For who works on this suite: with it the hosts stay, and the next run takes them as they are.
KEEP = "OVERLAY_KEEP_FW"
BUDGET = 25


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two engines, a store, and a stranger that belongs to no group of the cluster."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    site(tmp_path_factory.mktemp("site"))
    yield Cluster(LAB, [*MEMBERS, STRANGER])
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def test_ports_are_closed_to_strangers_and_open_to_peers(walled: Cluster) -> None:
    closed_to_the_stranger(walled)
    open_to_peers(walled)


def test_a_second_run(walled: Cluster, tmp_path: Path) -> None:
    run = site(tmp_path)
    assert (run.changed, run.changes) == ({}, {})
    assert max(run.remote.values()) <= BUDGET, run.modules
    findings = json.loads((tmp_path / "preflight.json").read_text())["findings"]
    assert [row for row in findings if row["level"] != "info"] == []


def test_flushes_of_others(walled: Cluster, tmp_path: Path) -> None:
    """iptables' rules, and all that nftables.service does to tables."""
    walled.run("node1", "iptables", "-F", "INPUT")
    walled.run("node2", "iptables", "-F")
    for what in ("start", "restart", "reload", "stop"):
        walled.run("node3", "systemctl", what, "nftables.service")
        assert loaded(walled, "node3"), f"after systemctl {what} nftables"
    closed_to_the_stranger(walled)
    open_to_peers(walled)
    # The rules that -F took away are Docker's own.
    walled.run("node2", "systemctl", "restart", "docker.service")
    wait_until_joined(walled, "node2")
    walled.run("node1", "systemctl", "restart", "nftables.service")
    closed_to_the_stranger(walled, "node1")
    verify(tmp_path)
    walled.run("node1", "systemctl", "restart", "docker.service")
    wait_until_joined(walled, "node1")


# Closed ports to which no host sends without a container's doing.
QUIET = {"4 tcp 2375", "4 tcp 2376", "4 tcp 8500", "4 udp 4789"}


def test_a_container_does_not_pass_for_its_host(walled: Cluster) -> None:
    walled.start_service("node1", "prober", "bridge")
    try:
        # Of what hosts do not send one another by themselves.
        assert QUIET & scan_from_container(walled, "node1", "prober", "node2") == set()
        # It is our chain that stops it.
        walled.run("node1", "nft", "flush", "chain", "inet", "multihost_overlay", "forward")
        assert scan_from_container(walled, "node1", "prober", "node2") >= QUIET
    finally:
        walled.remove_containers("prober")
        walled.run("node1", "systemctl", "reload", "multihost-overlay-firewall.service")
    assert "drop" in walled.out("node1", "nft", "list", "chain", "inet", "multihost_overlay", "forward")


@pytest.mark.long
def test_what_was_edited_by_hand_is_mended(walled: Cluster, tmp_path: Path) -> None:
    """The loaded table counts, and not only its file."""
    walled.run("node1", "nft", "flush", "chain", "inet", "multihost_overlay", "input")
    walled.run("node2", "nft", "add", "element", "inet", "multihost_overlay", "peers", "{", IPV4[STRANGER], "}")
    walled.run("node3", "nft", "delete", "table", "inet", "multihost_overlay")
    assert scan(walled, STRANGER, "node1")[0] == every("node1", 4) | every("node1", 6)
    dry = role(tmp_path, arguments=["--check", "--diff"])
    assert set(dry.changed) == set(MEMBERS)
    assert f"-\t\telements = {{ {IPV4['node1']}" in dry.output or f"{IPV4[STRANGER]}" in dry.output
    assert not loaded(walled, "node3")
    assert set(role(tmp_path).changed) == set(MEMBERS)
    closed_to_the_stranger(walled)
    assert role(tmp_path).changed == {}


@pytest.mark.long
def test_the_operator_lets_others_in(walled: Cluster, tmp_path: Path) -> None:
    listed = {"overlay_host_firewall_allow": [f"{IPV4[STRANGER]}/32", f"{IPV6[STRANGER]}/128"]}
    role(tmp_path, extra_vars=listed)
    assert scan(walled, STRANGER, "node1")[0] == every("node1", 4) | every("node1", 6)
    role(tmp_path)
    closed_to_the_stranger(walled, "node1")


def answers(cluster: Cluster, host: str) -> bool:
    """Whether the engine says what it is within the time that preflight gives it, with much to spare."""
    return cluster.run(host, "timeout", "10", "docker", "info", check=False).returncode == 0


@pytest.mark.long
def test_a_peer_that_leaves_and_joins(walled: Cluster, tmp_path: Path) -> None:
    """The inventory decides; its connections that are under way end too."""
    role(tmp_path, inventory=inventory(tmp_path, without("node2")))
    assert scan(walled, "node2", "node1")[0] == set()
    assert scan(walled, "node2", "node3")[0] == set()
    open_to_peers(walled, ("node3", "node1"))
    # Consul knocks at the doors of members that it takes for dead every now and then only: site.yml has to wait for that.
    wait_until_alone(walled, "node2")
    # Its engine has lost the store: while calls to that run into their time limits even `docker info` waits.
    wait_for("the engine answers", lambda: answers(walled, "node2"), 180)
    # It joins by site.yml, after a preflight that probes the paths before the others have let it in.
    run_playbook("playbooks/preflight.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)})
    found = {(row["id"], row["level"]) for row in json.loads((tmp_path / "preflight.json").read_text())["findings"]}
    assert ("path_opened_later", "info") in found
    assert {level for _id, level in found} == {"info"}
    site(tmp_path)
    open_to_peers(walled, ("node2", "node1"))
    wait_until_met(walled)


def test_what_is_refused(walled: Cluster, tmp_path: Path) -> None:
    """Before any host is changed."""
    run = role(tmp_path, extra_vars={"overlay_host_firewall_allow": ["10.88.70.300", "10.0.0.1/8"]}, succeeds=False)
    assert "'10.88.70.300' is neither" in run.messages
    assert "'10.0.0.1/8' is neither" in run.messages
    assert run.remote == {}
    closing = {"overlay_consul_config": {"ports": {"server": 22}}}
    run = site(tmp_path, extra_vars=closing, succeeds=False)
    assert "node3: SSH is reached on port 22, which is one of the cluster's ports" in run.messages
    assert run.changed == {}


@pytest.mark.long
def test_a_reboot(walled: Cluster, tmp_path: Path) -> None:
    walled.labctl("reboot", "node1")
    wait_until_joined(walled, "node1")
    closed_to_the_stranger(walled, "node1")
    open_to_peers(walled, ("node2", "node1"))
    # The table was there before the engine was.
    order = ["systemctl", "show", "-p", "ActiveEnterTimestampMonotonic", "--value"]
    ours, engine = (int(walled.out("node1", *order, unit)) for unit in ("multihost-overlay-firewall", "docker"))
    assert 0 < ours < engine
    verify(tmp_path)


@pytest.mark.long
def test_off_opens_and_report_tells(walled: Cluster, tmp_path: Path) -> None:
    """And so the other tests are seen to see: without the firewall the stranger does get through."""
    role(tmp_path, extra_vars={"overlay_host_firewall": False})
    assert not any(loaded(walled, host) for host in MEMBERS)
    found, answered = scan(walled, STRANGER, "node1")
    assert found == every("node1", 4) | every("node1", 6)
    assert answered == {7946, 8301}
    unit = walled.out("node1", "systemctl", "show", "-p", "LoadState", "--value", "multihost-overlay-firewall.service")
    assert unit == "not-found"
    reports = {"overlay_host_firewall": "report", "overlay_report_dir": str(tmp_path)}
    run = run_playbook("playbooks/preflight.yml", inventory=INVENTORY, extra_vars=reports)
    assert run.changed == {}
    findings = json.loads((tmp_path / "preflight.json").read_text())["findings"]
    told = {(row["host"], row["id"]): row["message"] for row in findings}
    assert set(told) == {(host, f"firewall_{what}") for host in MEMBERS for what in ("would_close", "ports_open")}
    # The kernel listens on 4789 as long as a container is in an overlay.
    assert ": 7946/tcp, 7946/udp" in told[("node1", "firewall_ports_open")]
    assert told[("node1", "firewall_ports_open")].endswith(" 8301/tcp, 8301/udp")
    assert told[("node3", "firewall_ports_open")].endswith("8301/tcp, 8300/tcp, 8301/udp")
    assert role(tmp_path, extra_vars={"overlay_host_firewall": "report"}).changed == {}
    role(tmp_path)
    closed_to_the_stranger(walled)


def install(cluster: Cluster, host: str, package: str) -> None:
    """A manager that the host's people have chosen."""
    command = (
        f"apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {package}"
    )
    cluster.run(host, "sh", "-c", command, timeout=240)


def docker_has_its_chains(cluster: Cluster, host: str) -> bool:
    """Its own, without which containers reach nothing outside."""
    forward, nat = cluster.out(host, "iptables", "-S", "FORWARD"), cluster.out(host, "iptables", "-t", "nat", "-S")
    return "DOCKER-USER" in forward and "MASQUERADE" in nat


def lives_beside(cluster: Cluster, folder: Path, host: str, peer: str, reload: list[str]) -> None:
    """Peers get through the manager, strangers do not, and both hold after its reload; nothing is done twice."""
    assert host in role(folder).changed
    assert role(folder).changed == {}
    for _again in range(2):
        open_to_peers(cluster, (peer, host), ("node3", host))
        closed_to_the_stranger(cluster, host)
        cluster.run(host, *reload)
        wait_for("Docker's chains", lambda: docker_has_its_chains(cluster, host), 30)
    verify(folder)
    assert role(folder).changed == {}


def findings_of(host: str, folder: Path) -> set[str]:
    """What preflight finds on one host."""
    extra = {"overlay_report_dir": str(folder)}
    run_playbook(
        "playbooks/preflight.yml", inventory=INVENTORY, extra_vars=extra, arguments=["--limit", f"localhost,{host}"]
    )
    rows = json.loads((folder / "preflight.json").read_text())["findings"]
    return {row["id"] for row in rows if row["host"] == host}


@pytest.fixture
def firewalld(walled: Cluster, tmp_path: Path) -> Iterator[str]:
    host = "node1"
    install(walled, host, "firewalld")
    walled.run(host, "firewall-cmd", "--permanent", "--zone=public", "--add-rich-rule", THEIRS)
    # Who starts firewalld beside a Docker that runs flushes Docker's rules, and that Docker does not hear of its reloads.
    assert not docker_has_its_chains(walled, host)
    assert "docker_rules_missing" in findings_of(host, tmp_path)
    walled.run(host, "systemctl", "restart", "docker.service")
    wait_until_joined(walled, host)
    assert "docker_rules_missing" not in findings_of(host, tmp_path)
    yield host
    walled.run(host, "apt-get", "purge", "-y", "-qq", "firewalld", timeout=240)
    # Its rules outlive the package.
    walled.run(host, "rm", "-rf", "/etc/firewalld")
    walled.run(host, "systemctl", "restart", "docker.service")
    wait_until_joined(walled, host)


THEIRS = 'rule family="ipv4" source address="10.88.70.12" port port="7946" protocol="tcp" accept'


@pytest.mark.long
def test_firewalld(walled: Cluster, firewalld: str, tmp_path: Path) -> None:
    lives_beside(walled, tmp_path, firewalld, "node2", ["firewall-cmd", "--reload"])
    role(tmp_path, extra_vars={"overlay_host_firewall": False})
    left = walled.out(firewalld, "firewall-cmd", "--permanent", "--zone=public", "--list-rich-rules")
    assert left == THEIRS
    # The one that was theirs was added to what runs by their own reload.
    assert walled.out(firewalld, "firewall-cmd", "--zone=public", "--list-rich-rules") == THEIRS
    # A datagram between members may still pass as part of a conversation that the kernel knows.
    reached = {port for port in scan(walled, "node3", firewalld)[0] if "tcp" in port}
    assert reached == set(), "firewalld itself closes what it was not told to open"
    role(tmp_path)


@pytest.fixture
def ufw(walled: Cluster) -> Iterator[str]:
    host = "node2"
    install(walled, host, "ufw")
    walled.run(host, "ufw", "allow", "22/tcp")
    walled.run(host, "ufw", "--force", "enable")
    yield host
    walled.run(host, "ufw", "--force", "disable")
    walled.run(host, "apt-get", "purge", "-y", "-qq", "ufw", timeout=240)
    walled.run(host, "iptables", "-P", "INPUT", "ACCEPT")
    walled.run(host, "systemctl", "restart", "docker.service")
    wait_until_joined(walled, host)


@pytest.mark.long
def test_ufw(walled: Cluster, ufw: str, tmp_path: Path) -> None:
    lives_beside(walled, tmp_path, ufw, "node1", ["ufw", "reload"])
    role(tmp_path, extra_vars={"overlay_host_firewall": False})
    assert walled.out(ufw, "ufw", "show", "added").splitlines()[1:] == ["ufw allow 22/tcp"]
    role(tmp_path)
