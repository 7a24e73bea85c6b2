# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts leave the cluster, alive and dead, of the store and not; the others lose nothing, and a mistake changes nothing."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import Inventory, variables, variation
from tests.e2e.state import differences, state_of
from tests.e2e.support import ROOT, Run, run_playbook
from tests.e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.lab, pytest.mark.long]

# For who works on this suite: with it the hosts stay, and the next run takes them as they are.
KEEP = "OVERLAY_KEEP_RMNODE"
INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "rmnode.yml"
ADDRESSES = {f"h{number}": f"10.88.160.1{number}" for number in range(1, 6)}
CONTROLLER = "10.88.160.1"
NETWORK = "frontend"
STATIC = "10.100.160.77"
MEMBERS = "http://127.0.0.1:8500/v1/agent/members"


def grouped(store: str, hosts: str) -> Callable[[Inventory], None]:
    """The cluster as the inventory has it, with some of the hosts."""

    def change(inventory: Inventory) -> None:
        inventory["overlay_store"]["hosts"] = dict.fromkeys(store.split())
        inventory["overlay_hosts"]["hosts"] = dict.fromkeys(hosts.split())

    return change


def inventory_of(folder: Path, store: str, hosts: str, *changes: Callable[[Inventory], None]) -> Path:
    folder.mkdir(exist_ok=True)
    return variation(folder, grouped(store, hosts), *changes, base=INVENTORY)


def play(playbook: str, folder: Path, inventory: Path, **options: Any) -> Run:
    extra = {"overlay_report_dir": str(folder), **options.pop("extra_vars", {})}
    return run_playbook(playbook, inventory=inventory, extra_vars=extra, **options)


def remove(folder: Path, inventory: Path, node: str, **options: Any) -> Run:
    extra = {"node": node, **options.pop("extra_vars", {})}
    return play("playbooks/remove_node.yml", folder, inventory, extra_vars=extra, **options)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    play("site.yml", tmp_path_factory.mktemp("site"), INVENTORY)
    yield Cluster("rmnode", ADDRESSES)
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


@contextmanager
def busy(cluster: Cluster, *hosts: str) -> Iterator[Traffic]:
    """Requests and steady streams between hosts that a removal has no business with."""
    addresses = {host: ADDRESSES[host] for host in hosts}
    with traffic(Cluster(cluster.lab, hosts), addresses, NETWORK, CONTROLLER) as running:
        running.stream()
        running.failed()
        yield running


def token(cluster: Cluster, host: str) -> str:
    """That of a host's engine."""
    found = cluster.out(host, "sed", "-n", "s/^CONSUL_HTTP_TOKEN=//p", "/etc/multihost-overlay/dockerd.env")
    return found.strip('"')


def agent_token(cluster: Cluster, host: str) -> str:
    content = json.loads(cluster.out(host, "cat", "/etc/multihost-overlay/consul-secrets.json"))
    return str(content["acl"]["tokens"]["agent"])


def members(cluster: Cluster, host: str) -> dict[str, int]:
    """Name -> state of all that Consul knows there, whatever it is; 1 is alive."""
    status, text = cluster.call(host, MEMBERS, token=agent_token(cluster, host))
    assert status == 200, text
    return {row["Name"]: row["Status"] for row in json.loads(text)}


def keys(cluster: Cluster, host: str) -> list[str]:
    return cluster.consul(host, "kv", "get", "-keys", "-separator=", "docker/").split()


def endpoints(cluster: Cluster, host: str, node: str) -> list[str]:
    """The names of a host's containers, as the store has them."""
    pairs = json.loads(cluster.consul(host, "kv", "export", "docker/network/v1.0/endpoint/"))
    rows = [json.loads(base64.b64decode(pair["value"])) for pair in pairs if pair["value"]]
    return sorted(row["name"] for row in rows if row.get("locator") == ADDRESSES[node])


def is_out(cluster: Cluster, node: str, *others: str) -> None:
    """None of the others has anything of the host any more."""
    for other in others:
        # One that has left may be remembered as such (3) for a while.
        known = members(cluster, other)
        assert known.pop(node, 3) == 3
        assert set(known.values()) == {1}
        table = cluster.out(other, "nft", "list", "table", "inet", "multihost_overlay")
        assert ADDRESSES[node] not in table and ADDRESSES[others[0]] in table
    registered = [key for key in keys(cluster, others[0]) if key.startswith("docker/nodes/")]
    assert f"docker/nodes/{ADDRESSES[others[0]]}:2376" in registered
    assert [key for key in registered if f"/{ADDRESSES[node]}:" in key] == []
    assert endpoints(cluster, others[0], node) == []


def servers(cluster: Cluster, host: str) -> dict[str, bool]:
    """Name -> whether it has a vote."""
    kept = "/etc/multihost-overlay/consul-secrets.json"
    content = json.loads(cluster.out(host, "cat", kept))["acl"]["tokens"]
    status, text = cluster.call(
        host, "http://127.0.0.1:8500/v1/operator/raft/configuration", token=content.get("master", "")
    )
    assert status == 200, text
    return {row["Node"]: row["Voter"] for row in json.loads(text)["Servers"]}


def settled(cluster: Cluster, folder: Path, inventory: Path) -> None:
    """With the host out of the inventory there is nothing to do."""
    run = play("site.yml", folder, inventory)
    assert (run.changed, run.changes) == ({}, {})


# -- mistakes


@pytest.mark.parametrize(
    ("store", "extra", "arguments", "words"),
    [
        ("h1 h2 h3", {"node": ""}, (), "give -e node=NAME"),
        ("h1 h2 h3", {"node": "h9"}, (), "h9 is not in the inventory"),
        ("h1 h2 h3", {"node": "h5"}, (), "h5 is in neither group"),
        ("h1 h2 h3", {"node": "h3,h4"}, (), "one host at a time"),
        ("h1", {"node": "h1"}, (), "h1 is the last host of the store"),
        ("h1 h2 h3", {"node": "h3"}, (), "an even number survives"),
        ("h1 h2 h3", {"node": "h3", "replace_with": "h9"}, (), "h9 is not in the inventory"),
        ("h1 h2 h3", {"node": "h4"}, ("--limit", "h4"), "without --limit"),
        ("h1 h2 h3", {"node": "h4"}, ("--limit", "h1,localhost"), "without --limit"),
        ("h1 h2 h3", {"node": "h4", "overlay_store_group": "overlay_store"}, (), "were given with -e"),
        ("h1 h2 h3", {"node": "h4", "overlay_docker_restart": "never"}, (), "overlay_docker_restart is never"),
        ("h1 h2 h3", {"node": "h3", "replace_with": "h4"}, ("--check",), None),
        ("h1 h2 h3", {"node": "h4"}, ("--check", "--diff"), None),
    ],
)
def test_mistakes_and_dry_runs_change_nothing(
    cluster: Cluster, tmp_path: Path, store: str, extra: dict[str, str], arguments: tuple[str, ...], words: str | None
) -> None:
    inventory = inventory_of(tmp_path / "i", store, "h1 h2 h3 h4")
    before = state_of(cluster)
    run = play(
        "playbooks/remove_node.yml",
        tmp_path,
        inventory,
        extra_vars=extra,
        arguments=arguments,
        succeeds=words is None,
        warnings=(r"A restart of the engine is pending",),
    )
    if words:
        assert "nothing was changed on any host" in run.messages or "given with -e" in run.messages
        assert words in run.messages
    assert differences(before, state_of(cluster)) == []
    assert set(members(cluster, "h1").values()) == {1}


def test_a_store_whose_quorum_would_not_hold_is_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    """Two servers may be left if that is allowed, but not one alive of two; and none without a leader. A sick one is not asked."""
    allowed = inventory_of(tmp_path / "i", "h1 h2 h3", "h1 h2 h3 h4", variables(overlay_store_allow_any_count=True))
    try:
        cluster.run("h1", "systemctl", "stop", "multihost-overlay-consul")
        wait_for("h1 is missed", lambda: members(cluster, "h2")["h1"] != 1, 60)
        before = state_of(cluster)
        run = remove(tmp_path, allowed, "h3", succeeds=False)
        assert "2 must be alive, and h1 is not" in run.messages and "could not be asked" not in run.messages
        remove(tmp_path, allowed, "h4", arguments=["--check"])
        assert differences(before, state_of(cluster)) == []
        cluster.run("h3", "systemctl", "stop", "multihost-overlay-consul")
        before = state_of(cluster)
        run = remove(tmp_path, allowed, "h4", succeeds=False)
        assert "the store has no leader now" in run.messages and "docs/day-2.md" in run.messages
        assert differences(before, state_of(cluster)) == []
    finally:
        for host in ("h1", "h3"):
            cluster.run(host, "systemctl", "start", "multihost-overlay-consul")
    wait_for("all are back", lambda: set(members(cluster, "h2").values()) == {1}, 60)


# -- a Docker host


def test_a_living_host_leaves_when_told_to(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_service("h4", "web", NETWORK, "--ip", STATIC, "--network-alias", "www")
    left = inventory_of(tmp_path / "i", "h1 h2 h3", "h1 h2 h3")
    had = token(cluster, "h4")
    try:
        with busy(cluster, "h1", "h2", "h3") as running:
            before = state_of(cluster)
            run = remove(tmp_path, INVENTORY, "h4", succeeds=False)
            back = f"docker network connect --ip {STATIC} --alias www {NETWORK} web"
            assert f"running container web leaves {NETWORK}; back with: {back}" in run.output
            assert "-e remove_confirm=yes" in run.messages
            assert differences(before, state_of(cluster)) == []
            assert cluster.ask("h4", "web", "server-h1") == "server-h1"
            run = remove(tmp_path, INVENTORY, "h4", extra_vars={"remove_confirm": "yes"})
            assert "h4 is out of the cluster. Delete it in the inventory now" in run.output
            is_out(cluster, "h4", "h1", "h2", "h3")
            assert cluster.call("h1", "http://127.0.0.1:8500/v1/kv/docker/?recurse", token=had)[0] == 403
            assert running.failed() == []
            # Again, as after a run that was killed late: there is nothing left to do.
            again = remove(tmp_path, INVENTORY, "h4")
            assert (again.changed, again.changes) == ({}, {})
            settled(cluster, tmp_path, left)
            assert running.failed() == []
        assert cluster.out("h4", "docker", "inspect", "-f", "{{.State.Running}}", "web") == "true"
        # There was none before us.
        assert cluster.run("h4", "test", "-e", "/etc/docker/daemon.json", check=False).returncode != 0
        assert cluster.out("h4", "docker", "info", "-f", "{{.ClusterStore}}") == ""
        assert cluster.run("h4", "pidof", "consul", check=False).stdout == ""
        # And neither does a boot bring it back.
        cluster.run("h4", "systemctl", "restart", "docker")
        assert cluster.run("h4", "pidof", "consul", check=False).stdout == ""
        play("site.yml", tmp_path, INVENTORY)
        cluster.run("h4", *back.split())
        assert set(members(cluster, "h1")) == {"h1", "h2", "h3", "h4"}
    finally:
        cluster.remove_containers("web")


def test_a_dead_host_is_forced_out_and_does_not_come_back(cluster: Cluster, tmp_path: Path) -> None:
    """The name and the address of its container are free, and what it writes when it wakes up is refused."""
    cluster.start_service("h4", "web", NETWORK, "--ip", STATIC, "--restart", "always")
    had = token(cluster, "h4")
    left = inventory_of(tmp_path / "i", "h1 h2 h3", "h1 h2 h3")
    try:
        with busy(cluster, "h1", "h2", "h3") as running:
            cluster.labctl("cut", "h4")
            run = remove(tmp_path, INVENTORY, "h4")
            assert f"the store forgets container web ({STATIC}/24) on {NETWORK}" in run.output
            is_out(cluster, "h4", "h1", "h2", "h3")
            # With the same name, and the same address.
            cluster.start_service("h1", "web", NETWORK, "--ip", STATIC)
            # Engines were told once that the address is on h4, and for the dead nobody takes that back: they are put right in ten seconds.
            wait_for("h2 to find it", lambda: cluster.ask("h2", "server-h2", "web") == "web", 30)
            settled(cluster, tmp_path, left)
            cluster.labctl("start", "h4")
            # Its boot does not end: its Consul waits for the others.
            wait_for("h4 tries", lambda: cluster.run("h4", "pidof", "consul", check=False).stdout, 120)
            assert cluster.call("h1", "http://127.0.0.1:8500/v1/kv/docker/x", "PUT", body="x", token=had)[0] == 403
            is_out(cluster, "h4", "h1", "h2", "h3")
            assert running.failed() == []
    finally:
        cluster.labctl("start", "h4")
        wait_for("its engine", lambda: cluster.run("h4", "pidof", "dockerd", check=False).stdout, 180)
        for host in ("h1", "h4"):
            cluster.run(host, "docker", "rm", "-f", "web", check=False, timeout=300)
    play("site.yml", tmp_path, INVENTORY)
    assert set(members(cluster, "h1")) == {"h1", "h2", "h3", "h4"}


def test_a_host_that_lives_is_not_taken_for_dead(cluster: Cluster, tmp_path: Path) -> None:
    """SSH fails, and nothing else."""

    def elsewhere(inventory: Inventory) -> None:
        inventory["overlay_lab"]["hosts"]["h4"].update(ansible_port=2, overlay_address=ADDRESSES["h4"])

    before = state_of(cluster)
    run = remove(tmp_path, variation(tmp_path, elsewhere, base=INVENTORY), "h4", succeeds=False)
    assert "Consul sees its agent alive" in run.messages
    assert differences(before, state_of(cluster)) == []


# -- servers, in the end because they are others then


def test_a_living_server_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """By a Docker host, whose Consul becomes a server; no engine but that of the host is restarted."""
    left = inventory_of(tmp_path / "i", "h1 h2 h4", "h1 h2 h4")
    with busy(cluster, "h1", "h2", "h4") as running:
        engines = {host: cluster.out(host, "pidof", "dockerd") for host in ("h1", "h2", "h4")}
        remove(tmp_path, INVENTORY, "h3", extra_vars={"replace_with": "h4"})
        is_out(cluster, "h3", "h1", "h2", "h4")
        assert servers(cluster, "h1") == {"h1": True, "h2": True, "h4": True}
        assert cluster.out("h4", "cat", "/etc/multihost-overlay/secrets.json") == cluster.out(
            "h1", "cat", "/etc/multihost-overlay/secrets.json"
        )
        settled(cluster, tmp_path, left)
        assert {host: cluster.out(host, "pidof", "dockerd") for host in engines} == engines
        assert running.failed() == []


def test_a_dead_server_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """By a bare host, which the others let in first; it becomes a host of the store alone."""
    now = inventory_of(tmp_path / "now", "h1 h2 h4", "h1 h2 h4")
    left = inventory_of(tmp_path / "left", "h1 h4 h5", "h1 h4")
    with busy(cluster, "h1", "h4") as running:
        cluster.labctl("cut", "h2")
        remove(tmp_path, now, "h2", extra_vars={"replace_with": "h5"})
        is_out(cluster, "h2", "h1", "h4", "h5")
        assert servers(cluster, "h1") == {"h1": True, "h4": True, "h5": True}
        settled(cluster, tmp_path, left)
        assert running.failed() == []
