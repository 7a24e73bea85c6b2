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
from tests.e2e.shared import HOSTS, INVENTORY, NETWORKS, bad_pairs, leftovers, read, verify, wait_until_gone
from tests.e2e.support import start_playbook

pytestmark = pytest.mark.lab

NETWORK, SUBNET = NETWORKS[0], "10.100.20.0/24"
SERVICE = "service"
POOL = f"docker/network/v1.0/ipam/default/data/GlobalDefault/{SUBNET}/"
ADDRESSES = {"node1": "10.88.20.11", "node2": "10.88.20.12", "node3": "10.88.20.13"}
# The highest address of NETWORK: temporary endpoints choose theirs from the top.
CLAIMED = "10.100.20.254"


@pytest.fixture
def one_way(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What node1 sends node3 over the overlay is lost."""
    cut = ("node1", "node3")
    cluster.labctl("partition", *cut, "--one-way", "--proto", "udp", "--port", "4789")
    yield cut
    cluster.labctl("heal")


@pytest.mark.parametrize("forks", [30, 2])
def test_one_direction_is_lost(cluster: Cluster, one_way: tuple[str, str], forks: int, tmp_path: Path) -> None:
    run = verify(tmp_path, succeeds=False, arguments=(f"--forks={forks}",))
    assert bad_pairs(tmp_path) == {(network, *one_way) for network in NETWORKS}
    rows = [pair for pair in read(tmp_path, "verify.json")["pairs"] if not pair["ok"]]
    assert {(row["address_ok"], row["loss"], row["kind"]) for row in rows} == {(False, 1.0, "no_answer")}
    assert "left node1 and none came to node3: udp/4789 is dropped between the hosts" in run.messages
    assert leftovers(cluster) == []


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
    """On how many networks the temporary container of a host is."""
    found = cluster.out(host, "docker", "ps", "--filter", "label=multihost.overlay.verify", "--format", "{{.Networks}}")
    return len([name for name in found.split(",") if name in NETWORKS])


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
        running.wait_for_task("Take the agents' results")
        wait_for("something to be left behind", lambda: leftovers(cluster), 30, every=0.2)
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
