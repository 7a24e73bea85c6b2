# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host joins a cluster under traffic, and then two become servers of its store: the others go on as if nothing was."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import IMAGE, PROGRAMS, Cluster, wait_for
from tests.e2e.shared import Inventory, read, variation
from tests.e2e.state import State, differences, state_of
from tests.e2e.support import ROOT, Run, run_playbook, start_playbook
from tests.e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "addnode.yml"
HOSTS = ("node1", "node2", "node3")
NEW = "node4"
NETWORKS = ("blue", "green")
ADDRESSES = {host: f"10.88.150.{11 + number}" for number, host in enumerate((*HOSTS, NEW))}
CONTROLLER = "10.88.150.1"
# What the host_firewall of the others writes, and what a new server of the store does.
WALLS = re.compile(r"node\d: (/etc/multihost-overlay(/firewall\.nft)?|/var/lib/multihost-overlay(/.*)?): ")
JOIN = re.compile(r"node\d: /etc/multihost-overlay/consul(/join\.json)?: ")


# One connection that says something ten times a second and is answered. Who loses it ends.
ANSWERS = """
import socket
server = socket.create_server(("", 9000))
link = server.accept()[0]
while data := link.recv(64): link.sendall(data)
"""
ASKS = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], 9000), 5)
link.settimeout(5)
for number in range(10**6):
    link.sendall(b"x")
    assert link.recv(64)
    print(number, flush=True)
    time.sleep(0.1)
"""


def joined(inventory: Inventory) -> None:
    """The fourth host is in the inventory."""
    inventory["overlay_hosts"]["hosts"][NEW] = None


def three_servers(inventory: Inventory) -> None:
    inventory["overlay_store"]["hosts"] = dict.fromkeys(HOSTS)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts, converged; the fourth is bare."""
    keep = bool(os.environ.get("OVERLAY_KEEP_E2E"))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    play("site.yml", INVENTORY, tmp_path_factory.mktemp("site"))
    yield Cluster("addnode", HOSTS)
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


@pytest.fixture(scope="module")
def busy(old: Cluster) -> Iterator[Traffic]:
    """Containers that ask one another all the time, and one connection that stays."""
    with traffic(old, ADDRESSES, "blue", CONTROLLER) as running:
        start_program(old, "node2", "answers", ANSWERS)
        start_program(old, "node1", "asks", ASKS, address_of(old, "node2", "answers"))
        wait_for("the connection is used", lambda: said(old) > 10)
        yield running
        old.remove_containers("answers", "asks")


def start_program(cluster: Cluster, host: str, name: str, program: str, *arguments: str) -> None:
    """A container with the host's Python."""
    mounts = [word for folder in PROGRAMS for word in ("-v", f"{folder}:{folder}:ro")]
    command = ["docker", "run", "-d", "--name", name, "--network", "blue", *mounts, IMAGE, "/usr/bin/python3", "-c"]
    cluster.run(host, *command, program, *arguments)


def address_of(cluster: Cluster, host: str, name: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return cluster.out(host, "docker", "inspect", "-f", form, name)


def said(cluster: Cluster) -> int:
    """How often the one connection was used; it ends with the first failure."""
    return int(cluster.out("node1", "docker", "logs", "--tail", "1", "asks") or 0)


def undisturbed(cluster: Cluster, running: Traffic) -> bool:
    """No probe was lost, and the connection still carries."""
    assert running.failed() == []
    before = said(cluster)
    wait_for("the connection is used", lambda: said(cluster) > before, 10)
    return True


@pytest.fixture(scope="module")
def with_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return variation(tmp_path_factory.mktemp("four"), joined, base=INVENTORY)


def play(playbook: str, inventory: Path, report: Path, **options: Any) -> Run:
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    return run_playbook(playbook, inventory=inventory, extra_vars=extra, **options)


def add(inventory: Path, report: Path, node: str = NEW, **options: Any) -> Run:
    return play("playbooks/add_node.yml", inventory, report, extra_vars={"node": node}, **options)


def others(lines: list[str], *patterns: re.Pattern[str]) -> list[str]:
    """What none of the patterns expects."""
    return [line for line in lines if not any(pattern.match(line) for pattern in patterns)]


def two_servers(inventory: Inventory) -> None:
    inventory["overlay_store"]["hosts"] = dict.fromkeys(HOSTS[:2])


def away(inventory: Inventory) -> None:
    inventory["overlay_lab"]["hosts"][NEW]["ansible_host"] = "10.88.150.99"


@pytest.mark.parametrize(
    ("changes", "extra", "arguments", "words"),
    [
        pytest.param([], {}, [], "Say which host is to come", id="nobody"),
        pytest.param([], {"node": "node9"}, [], "node9 is not in the inventory", id="unknown"),
        pytest.param(
            [], {"node": NEW}, [], "node4 is in the inventory, but in neither of its two groups", id="no group"
        ),
        pytest.param([joined], {"node": "node1,node2, node3,node4"}, [], "run the playbook site", id="all"),
        pytest.param([joined], {"node": NEW}, ["--limit", NEW], "--limit leaves out node1, node2, node3", id="limit"),
        pytest.param([joined, two_servers], {"node": NEW}, [], "1, 3 or 5", id="two servers"),
        pytest.param([joined, away], {"node": NEW}, [], "node4 cannot be reached", id="away"),
    ],
)
def test_a_mistake_changes_nothing(
    old: Cluster,
    tmp_path: Path,
    changes: list[Callable[[Inventory], None]],
    extra: dict[str, str],
    arguments: list[str],
    words: str,
) -> None:
    before = state_of(old)
    inventory = variation(tmp_path, *changes, base=INVENTORY)
    run = play("playbooks/add_node.yml", inventory, tmp_path, extra_vars=extra, arguments=arguments, succeeds=False)
    assert words in run.messages
    assert "othing was changed on any host" in run.messages
    assert run.changed == {}
    assert differences(before, state_of(old)) == []


def test_a_dry_run_lists_what_would_be_made(old: Cluster, with_four: Path, tmp_path: Path) -> None:
    both = Cluster("addnode", [*HOSTS, NEW])
    before = state_of(both)
    run = add(with_four, tmp_path, arguments=["--check", "--diff"])
    assert set(run.changed) == {*HOSTS, NEW}
    assert {host: run.changed[host] for host in HOSTS[1:]} == dict.fromkeys(HOSTS[1:], 1)
    assert "/etc/docker/daemon.json" in run.output and ADDRESSES[NEW] in run.output
    assert differences(before, state_of(both)) == []


def test_a_host_joins_and_nobody_notices(old: Cluster, busy: Traffic, with_four: Path, tmp_path: Path) -> None:
    """Also if the first run is killed in the middle."""
    before: State = state_of(old)
    with start_playbook("playbooks/add_node.yml", inventory=with_four, extra_vars={"node": NEW}) as killed:
        killed.wait_for_task("Merge our keys into daemon.json")
        killed.kill()
    run = add(with_four, tmp_path)
    assert undisturbed(old, busy)
    # Files with their times, the programs with their start: engines and Consuls went on.
    assert others(differences(before, state_of(old)), WALLS) == []
    assert max(run.remote[host] for host in HOSTS[1:]) <= 9, run.modules
    proof = read(tmp_path, "verify.json")
    ends = {(pair["from"], pair["to"]) for pair in proof["pairs"]}
    assert ends == {pair for host in HOSTS for pair in ((host, NEW), (NEW, host))}
    assert (len(proof["pairs"]), proof["summary"]["failed"]) == (6 * len(NETWORKS), 0)
    assert play("site.yml", with_four, tmp_path).changed == {}
    assert undisturbed(old, busy)


def test_it_reaches_and_is_reached_by_name(old: Cluster, busy: Traffic) -> None:
    four = Cluster("addnode", [*HOSTS, NEW])
    services = {f"web-{host}": host for host in four.hosts}
    try:
        for name, host in services.items():
            four.start_service(host, name, "green")
        assert four.unreached(services) == []
    finally:
        four.remove_containers(*services)


def test_one_that_is_there_is_left_as_it_is(old: Cluster, busy: Traffic, with_four: Path, tmp_path: Path) -> None:
    four = Cluster("addnode", [*HOSTS, NEW])
    before = state_of(four)
    run = add(with_four, tmp_path)
    assert "node4 is in the cluster already" in run.output
    assert run.changed == {}
    assert differences(before, state_of(four)) == []


def peers(cluster: Cluster) -> set[str]:
    """Those of the quorum, as the first server has them."""
    token = json.loads(cluster.out("node1", "cat", "/etc/multihost-overlay/consul-secrets.json"))["acl"]["tokens"][
        "master"
    ]
    _status, text = cluster.call("node1", "http://127.0.0.1:8500/v1/operator/raft/configuration", token=token)
    return {server["Node"] for server in json.loads(text)["Servers"] if server["Voter"]}


def test_two_servers_join_the_store(old: Cluster, busy: Traffic, with_four: Path, tmp_path: Path) -> None:
    """Hosts of the cluster already; of the others not even Consul is restarted."""
    four = Cluster("addnode", [*HOSTS, NEW])
    inventory = variation(tmp_path, three_servers, base=with_four)
    before = state_of(four)
    add(inventory, tmp_path, "node2, node3")
    assert peers(old) == set(HOSTS)
    assert undisturbed(old, busy)
    changed = others(differences(before, state_of(four)), JOIN)
    assert [line for line in changed if line.startswith(("node1: ", "node4: "))] == []
    assert [line for line in changed if "program dockerd" in line] == []
    join = json.loads(four.out(NEW, "cat", "/etc/multihost-overlay/consul/join.json"))
    assert join == {"retry_join": [ADDRESSES[host] for host in HOSTS]}
    assert play("site.yml", inventory, tmp_path).changed == {}
    assert undisturbed(old, busy)
