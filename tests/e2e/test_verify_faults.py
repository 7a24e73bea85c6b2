# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof fails on exactly the pairs that are broken, takes nobody's address, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import choose_addresses
from tests.cluster import Cluster, wait_for
from tests.e2e.shared import HOSTS, INVENTORY, NETWORKS, PAIRS, bad_pairs, leftovers, read, verify, wait_until_gone
from tests.e2e.support import ROOT, start_playbook

pytestmark = pytest.mark.lab

NETWORK, SUBNET = NETWORKS[0], "10.100.20.0/24"
SERVICE = "service"
POOL = f"docker/network/v1.0/ipam/default/data/GlobalDefault/{SUBNET}/"
ADDRESSES = {"node1": "10.88.20.11", "node2": "10.88.20.12", "node3": "10.88.20.13"}
LATE = ROOT / "tests" / "e2e" / "late.py"
# The highest address of NETWORK: temporary endpoints choose theirs from the top.
CLAIMED = "10.100.20.254"


@pytest.fixture
def one_way(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What node1 sends node3 over the overlay is lost."""
    cut = ("node1", "node3")
    cluster.labctl("partition", *cut, "--one-way", "--proto", "udp", "--port", "4789")
    yield cut
    cluster.labctl("heal")


@pytest.mark.parametrize("forks", [pytest.param(30, marks=pytest.mark.long), 2])
def test_one_direction_is_lost(cluster: Cluster, one_way: tuple[str, str], forks: int, tmp_path: Path) -> None:
    run = verify(tmp_path, succeeds=False, arguments=(f"--forks={forks}",))
    assert bad_pairs(tmp_path) == {(network, *one_way) for network in NETWORKS}
    rows = [pair for pair in read(tmp_path, "verify.json")["pairs"] if not pair["ok"]]
    assert {(row["address_ok"], row["loss"], row["kind"]) for row in rows} == {(False, 1.0, "no_answer")}
    assert "left node1 and none came to node3: udp/4789 is dropped between the hosts" in run.messages
    assert leftovers(cluster) == []


def baseline_options(folder: Path, **more: Any) -> dict[str, Any]:
    """What keeps a run, or compares with the one that was kept. Of hosts that share two cores even ten times may be chance."""
    return {"overlay_verify_baseline": str(folder / "baseline.json"), "overlay_verify_slower": 10, **more}


@pytest.fixture
def slow(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """A host whose packets of the overlay leave it 20 ms late; the baseline is from before."""
    host, device, program = "node2", "host0", "/run/late.py"
    verify(tmp_path, extra_vars=baseline_options(tmp_path))
    cluster.write(host, program, LATE.read_text())
    cluster.run(host, "systemd-run", "--unit=late", "python3", program, device, "0.02")
    wait_for("the detour", lambda: cluster.run(host, "tc", "filter", "show", "dev", device, "egress").stdout, 20)
    yield host
    # In this order: packets that are sent to a tap that is gone are lost.
    cluster.run(host, "tc", "qdisc", "del", "dev", device, "clsact")
    cluster.run(host, "systemctl", "stop", "late")
    cluster.run(host, "rm", program)


def pairs_of(rows: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """(network, from, to) of some rows."""
    return {(row["network"], row["from"], row["to"]) for row in rows}


@pytest.mark.long
def test_a_host_that_became_slow_is_told_by_the_baseline(cluster: Cluster, slow: str, tmp_path: Path) -> None:
    """A warning, no failure; and the baseline stays as it was."""
    kept = read(tmp_path, "baseline.json")
    first = read(tmp_path, "verify.json")["baseline"]
    assert (first["written"], first["slower"], first["new"]) == (True, [], [])
    assert pairs_of(kept["pairs"]) == pairs_of(read(tmp_path, "verify.json")["pairs"])
    slower = r"pair\(s\) are slower than in the baseline"
    run = verify(tmp_path, extra_vars=baseline_options(tmp_path), warnings=[slower])
    found = read(tmp_path, "verify.json")["baseline"]
    expected = {(network, *pair) for network in NETWORKS for pair in PAIRS if slow in pair}
    assert pairs_of(found["slower"]) == expected, run.output[-3000:]
    assert all(row["p50"] >= 20 for row in found["slower"])
    assert (found["written"], found["lost"], found["new"], found["gone"]) == (False, [], [], [])
    assert f"{len(expected)} slower, 0 lost, 0 new, 0 gone" in run.output
    assert read(tmp_path, "baseline.json") == kept


@pytest.mark.long
def test_pairs_that_were_lost_are_told_by_the_baseline(
    cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The first run is of one network, so the other one is new; the last is of the other, so the first is gone."""
    verify(tmp_path, extra_vars=baseline_options(tmp_path, overlay_verify_networks=[NETWORK]))
    cut = request.getfixturevalue("one_way")
    run = verify(tmp_path, succeeds=False, extra_vars=baseline_options(tmp_path))
    found = read(tmp_path, "verify.json")["baseline"]
    assert pairs_of(found["lost"]) == {(NETWORK, *cut)}
    assert {row["kind"] for row in found["lost"]} == {"no_answer"}
    other = [network for network in NETWORKS if network != NETWORK]
    assert pairs_of(found["new"]) == {(network, *pair) for network in other for pair in PAIRS}
    assert f"0 slower, 1 lost, {len(PAIRS)} new, 0 gone" in run.output
    verify(tmp_path, succeeds=False, extra_vars=baseline_options(tmp_path, overlay_verify_networks=other))
    assert pairs_of(read(tmp_path, "verify.json")["baseline"]["gone"]) == {(NETWORK, *pair) for pair in PAIRS}


def test_a_damaged_baseline_is_refused_before_a_host_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "baseline.json").write_text('{"pairs": [')
    run = verify(tmp_path, succeeds=False, extra_vars=baseline_options(tmp_path))
    assert "baseline.json on the controller cannot be used: it is no JSON" in run.messages
    assert run.remote == {}
    assert not (tmp_path / "verify.json").exists()


@pytest.fixture
def deaf(cluster: Cluster) -> Iterator[str]:
    """A host whose container on the network cannot ask Docker's DNS any more: its redirection is flushed."""
    host = "node2"
    cluster.remove_containers(SERVICE)
    cluster.start_service(host, SERVICE, NETWORK)
    pid = cluster.out(host, "docker", "inspect", "--format", "{{.State.Pid}}", SERVICE)
    cluster.run(host, "nsenter", "-t", pid, "-n", "iptables", "-t", "nat", "-F")
    yield host
    cluster.remove_containers(SERVICE)


def test_dns_of_one_container_is_broken(cluster: Cluster, deaf: str, tmp_path: Path) -> None:
    verify(tmp_path, succeeds=False)
    assert bad_pairs(tmp_path) == {(NETWORK, deaf, peer) for peer in HOSTS if peer != deaf}
    rows = [pair for pair in read(tmp_path, "verify.json")["pairs"] if not pair["ok"]]
    # Packets pass all the same.
    assert {(row["name_ok"], row["address_ok"], row["loss"], row["kind"]) for row in rows} == {
        (False, True, 0, "name_failed")
    }
    assert leftovers(cluster) == []
    # It is a user's: the proof used it, and did not touch it.
    assert cluster.out(deaf, "docker", "inspect", "--format", "{{.State.Running}}", SERVICE) == "true"


@pytest.fixture
def stopped(cluster: Cluster) -> Iterator[str]:
    """A host with a stopped container that will want its address back."""
    host = "node3"
    cluster.remove_containers(SERVICE)
    cluster.start_service(host, SERVICE, NETWORK, "--ip", CLAIMED)
    cluster.run(host, "docker", "stop", "-t", "0", SERVICE)
    yield host
    cluster.remove_containers(SERVICE)


def endpoints(cluster: Cluster, host: str) -> int:
    """On how many networks the temporary containers of a host are; the first host has one for each."""
    found = cluster.out(host, "docker", "ps", "--filter", "label=multihost.overlay.verify", "--format", "{{.Networks}}")
    return len([name for line in found.splitlines() for name in line.split(",") if name in NETWORKS])


def test_the_address_of_a_stopped_container_is_not_taken(cluster: Cluster, stopped: str, tmp_path: Path) -> None:
    """It starts and gets its address while temporary endpoints run on all hosts."""
    with start_playbook(
        "playbooks/verify.yml",
        inventory=INVENTORY,
        extra_vars={"overlay_report_dir": str(tmp_path), "overlay_verify_count": 200},
    ) as running:
        running.wait_for_task("Start the agents")
        wait_for(
            "temporary endpoints on all hosts",
            lambda: all(endpoints(cluster, host) == len(NETWORKS) for host in HOSTS),
            60,
            every=0.2,
        )
        cluster.run(stopped, "docker", "start", SERVICE)
        assert endpoints(cluster, stopped) == len(NETWORKS), "the proof was over before the container started"
        address = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}'
        assert cluster.out(stopped, "docker", "inspect", "--format", address, SERVICE) == CLAIMED
        running.wait(300)
    assert bad_pairs(tmp_path) == set()
    assert leftovers(cluster) == []


def pool(cluster: Cluster) -> str:
    """Which addresses of NETWORK are given away, as Docker has it in the store."""
    return cluster.consul("node1", "kv", "get", "-base64", POOL)


@pytest.fixture
def never_given_back(cluster: Cluster) -> Iterator[str]:
    """The address of a host's temporary endpoint is taken for its engine, and no container has it."""
    host = "node2"
    ipam: list[dict[str, Any]] = [{"subnet": SUBNET, "ip_range": None, "reserved": []}]
    address = choose_addresses(ipam, set(), list(HOSTS), ADDRESSES)[host]
    cluster.remove_containers(SERVICE)
    before = pool(cluster)
    cluster.start_service(host, SERVICE, NETWORK, "--ip", address)
    taken = pool(cluster)
    assert taken != before
    cluster.remove_containers(SERVICE)
    cluster.consul("node1", "kv", "put", "-base64", POOL, taken)
    yield host
    cluster.consul("node1", "kv", "put", "-base64", POOL, before)


def test_an_address_that_an_engine_never_gave_back_is_in_nobody_s_way(
    cluster: Cluster, never_given_back: str, tmp_path: Path
) -> None:
    verify(tmp_path)
    assert bad_pairs(tmp_path) == set()
    assert leftovers(cluster) == []


def kill_in_the_middle(cluster: Cluster, report: Path) -> None:
    """A proof whose controller dies while the hosts' agents measure."""
    with start_playbook(
        "playbooks/verify.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(report)}
    ) as running:
        running.wait_for_task("Start the agents")
        wait_for(
            "endpoints that the proof has made", lambda: any(endpoints(cluster, host) for host in HOSTS), 60, every=0.2
        )
        running.kill()


def test_a_proof_that_is_killed_cleans_up(cluster: Cluster, tmp_path: Path) -> None:
    """Containers and images go by themselves as soon as the agents have measured; and the next proof is good."""
    kill_in_the_middle(cluster, tmp_path)
    wait_until_gone(cluster, 120, places=False)
    verify(tmp_path)
    assert bad_pairs(tmp_path) == set()


@pytest.mark.long
def test_a_proof_that_is_killed_leaves_no_trace(cluster: Cluster, tmp_path: Path) -> None:
    """A result waits some minutes for somebody to take it, and then goes too."""
    kill_in_the_middle(cluster, tmp_path)
    wait_until_gone(cluster, 420)
