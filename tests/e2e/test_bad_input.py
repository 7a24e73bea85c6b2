# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: a clear message, and no host is changed.

Every run also has good news pending that would change each host, so that a run which goes too far is seen to do so; the
first test shows that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import HOSTS, NOBODY, Inventory, bad_pairs, converge, read, variables, variation
from tests.e2e.state import State, differences, state_of
from tests.e2e.support import Run

pytestmark = pytest.mark.lab

Change = Callable[[Inventory], None]
PENDING = variables(
    overlay_host_sysctls={"net.ipv4.ip_forward": 1, "net.ipv4.conf.lo.log_martians": 1},
    overlay_consul_config={"log_level": "WARN"},
    overlay_docker_config={"max-concurrent-downloads": 2},
)
DAEMON_JSON = "/etc/docker/daemon.json"
WRONG = "0" * 64


def group(name: str, *hosts: str) -> Change:
    """A group with just these hosts."""
    return lambda inventory: inventory.update({name: {"hosts": dict.fromkeys(hosts)}})


def host(name: str, **values: Any) -> Change:
    """Variables of one host."""
    return lambda inventory: inventory["overlay_lab"]["hosts"][name].update(values)


def fourth(*groups: str) -> Change:
    """A fourth host that nobody is, in these groups."""

    def change(inventory: Inventory) -> None:
        for name in groups:
            inventory[name]["hosts"] = {"node4": {"ansible_host": NOBODY}}

    return change


def networks(**backend: Any) -> Change:
    """The second network is another."""
    return lambda inventory: inventory["all"]["vars"]["overlay_networks"][1].update(backend)


def both_groups(inventory: Inventory) -> None:
    """Nobody is anywhere."""
    group("overlay_store")(inventory)
    group("overlay_hosts")(inventory)


# What is wrong, and what the message must have: the thing, and the cure.
WRITTEN: dict[str, tuple[Change, list[str]]] = {
    "no Docker hosts": (
        group("overlay_hosts"),
        [r"the group overlay_hosts is empty", r"put the Docker hosts .* into it"],
    ),
    "no store": (group("overlay_store"), [r"the group overlay_store is empty", r"put 1, 3 or 5 hosts"]),
    "no hosts at all": (both_groups, [r"the group overlay_hosts is empty", r"the group overlay_store is empty"]),
    "two servers": (
        group("overlay_store", "node1", "node2"),
        [r"overlay_store has 2 hosts \(node1, node2\)", r"1, 3 or 5", r"overlay_store_allow_any_count: true"],
    ),
    "four servers": (fourth("overlay_store"), [r"overlay_store has 4 hosts \(.*node4.*\)", r"1, 3 or 5"]),
    "unknown mode": (variables(overlay_mode="moon"), [r"overlay_mode: 'moon' is unknown", r"Use classic"]),
    "planned mode": (variables(overlay_mode="swarm"), [r"overlay_mode: swarm is planned", r"Use classic"]),
    "unknown store": (
        variables(overlay_store_type="redis"),
        [r"overlay_store_type: 'redis' is unknown", r"Use consul"],
    ),
    "no subnet": (
        networks(subnet="10.100.21.0/33"),
        [r"network backend: subnet '10\.100\.21\.0/33' is no IPv4 network", r"such as 10\.100\.1\.0/24"],
    ),
    "subnet with host bits": (
        networks(subnet="10.100.21.7/24"),
        [r"network backend: subnet '10\.100\.21\.7/24'", r"host bits zero"],
    ),
    "overlapping subnets": (
        networks(subnet="10.100.16.0/20"),
        [
            r"network backend: its subnet 10\.100\.16\.0/20 overlaps 10\.100\.20\.0/24 of network frontend",
            r"Give them subnets apart",
        ],
    ),
    "gateway outside": (
        networks(gateway="10.100.22.1"),
        [
            r"network backend: gateway 10\.100\.22\.1 lies outside its subnet 10\.100\.21\.0/24",
            r"such as 10\.100\.21\.1",
        ],
    ),
    "address given twice": (
        host("node2", overlay_address="10.88.20.11"),
        [r"node2: its underlay address 10\.88\.20\.11 is that of node1", r"overlay_address: its own"],
    ),
}


@pytest.fixture
def before(cluster: Cluster) -> State:
    return state_of(cluster)


@pytest.fixture
def refused(cluster: Cluster, before: State, tmp_path: Path) -> Callable[..., Run]:
    """Runs site.yml on a bad inventory: it must fail, say so in these words, and leave every host as it was."""

    def run(changes: list[Change], words: list[str], was: State | None = None, **extra_vars: Any) -> Run:
        inventory = variation(tmp_path, PENDING, *changes)
        result = converge(tmp_path, inventory=inventory, extra_vars=extra_vars, succeeds=False)
        for word in [*words, r"[Nn]othing was changed on any host"]:
            assert re.search(word, result.messages, re.DOTALL), f"{word!r} is not in: {result.messages}"
        assert differences(was or before, state_of(cluster)) == []
        return result

    return run


def test_what_is_pending_would_change_every_host(cluster: Cluster, tmp_path: Path) -> None:
    """Without this the other tests of this file would prove nothing."""
    run = converge(tmp_path, inventory=variation(tmp_path, PENDING), arguments=["--check"])
    assert set(run.changed) == set(HOSTS)


@pytest.mark.parametrize("case", WRITTEN)
def test_what_the_inventory_shows(refused: Callable[..., Run], case: str) -> None:
    """Seen on the controller: no host is even asked."""
    change, words = WRITTEN[case]
    assert refused([change], words).remote == {}


def test_an_address_that_is_not_on_its_host(refused: Callable[..., Run]) -> None:
    refused(
        [host("node2", overlay_address="10.88.20.99")],
        [
            r"node2: the overlay address 10\.88\.20\.99 is not on this host",
            r"10\.88\.20\.12",
            r"Cure: set overlay_address",
        ],
    )


def test_an_unreachable_host(refused: Callable[..., Run]) -> None:
    refused(
        [fourth("overlay_hosts")],
        [r"node4 cannot be reached", rf"{re.escape(NOBODY)}", r"Cure: start the host.*overlay_skip_unreachable: true"],
    )


def test_an_unreachable_host_can_be_left_out(cluster: Cluster, before: State, tmp_path: Path) -> None:
    """The run goes on without it, proves the others, and still fails with its name."""
    # Else the others' firewalls would be told of a new peer: test_firewall.py has that.
    settings = variables(overlay_skip_unreachable=True, overlay_host_firewall="report")
    inventory = variation(tmp_path, fourth("overlay_hosts"), settings)
    run = converge(tmp_path, inventory=inventory, succeeds=False)
    assert run.changed == {}
    assert re.search(
        r"fell out of the run and are not done: node4\..*node1, node2, node3.*again", run.messages, re.DOTALL
    )
    assert {pair[1:] for pair in bad_pairs(tmp_path)} == {
        pair for name in HOSTS for pair in ((name, "node4"), ("node4", name))
    }
    skipped = [row for row in read(tmp_path, "preflight.json")["findings"] if row["host"] == "node4"]
    assert [row["id"] for row in skipped] == ["host_skipped"]
    assert differences(before, state_of(cluster)) == []


@pytest.mark.parametrize("role", ["consul", "docker"])
def test_a_wrong_checksum(refused: Callable[..., Run], tmp_path: Path, role: str) -> None:
    archive = tmp_path / "archive.zip"
    archive.write_bytes(b"something else")
    name = f"overlay_{role}_archive"
    given = {name: str(archive), f"{name}_checksum": WRONG, f"overlay_{role}_install": "archive"}
    refused(
        [],
        [
            rf"{name}: {re.escape(str(archive))}",
            rf"has the SHA-256 [0-9a-f]{{64}}, not {WRONG}",
            rf"correct\s+{name}_checksum",
        ],
        **given,
    )


@pytest.fixture
def broken(cluster: Cluster) -> Iterator[str]:
    """A host whose daemon.json a user has spoilt."""
    name = "node2"
    cluster.run(name, "cp", "-a", DAEMON_JSON, "/root/daemon.json")
    cluster.write(name, DAEMON_JSON, '{"live-restore": true,\n  "debug": tru\n')
    yield name
    cluster.run(name, "mv", "/root/daemon.json", DAEMON_JSON)


def test_a_daemon_json_that_is_not_json(cluster: Cluster, refused: Callable[..., Run], broken: str) -> None:
    """Left as it is to the byte: the state holds its checksum and time."""
    refused(
        [],
        [
            rf"{broken}: .*{DAEMON_JSON}",
            r"line \d+|JSON",
            rf"Cure: correct the file: python3 -m json\.tool {DAEMON_JSON}",
        ],
        was=state_of(cluster),
    )
