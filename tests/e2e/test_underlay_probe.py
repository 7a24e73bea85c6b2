# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of the underlay on hosts of the lab: exactly what is broken, in the right direction, and nothing on sound hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import Cluster, wait_for
from tests.e2e.support import ROOT, Run, run_playbook, start_playbook

pytestmark = pytest.mark.lab

HOSTS = ("node1", "node2", "node3")
ADDRESSES = {host: f"10.88.60.1{number}" for number, host in enumerate(HOSTS, 1)}
INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "probe.yml"
LINK = "host0"
LISTENER = """
import socket, time
sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
for sock in sockets: sock.bind(("0.0.0.0", 7946))
sockets[0].listen()
time.sleep(120)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three bare hosts of the lab `probe`."""
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    yield Cluster("probe", HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def preflight(report: Path, **options: Any) -> Run:
    """preflight.yml, to whichever end."""
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    return run_playbook("playbooks/preflight.yml", inventory=INVENTORY, extra_vars=extra, succeeds=None, **options)


def read(report: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((report / "preflight.json").read_text())
    return content


def bad(report: Path) -> list[tuple[str, str, str]]:
    """(id, from, to) of what is worse than an info; of no path, from is empty and to the host."""
    rows = [row for row in read(report)["findings"] if row["level"] != "info"]
    return sorted((row["id"], row.get("from", ""), row.get("to", row["host"])) for row in rows)


def traces(cluster: Cluster) -> list[str]:
    """What a probe may have left: its place, its agent, its ports, a device."""
    script = "find /run/multihost-overlay -name '*probe*'; ss -Hlntu | grep -E ':(4789|7946|830[01]) '; ip -br link show type vxlan"
    return [f"{host}: {line}" for host in HOSTS for line in cluster.out(host, "sh", "-c", script).splitlines()]


@contextmanager
def rule(cluster: Cluster, host: str, *words: str) -> Iterator[None]:
    """A rule of the receiving host's own firewall."""
    cluster.run(host, "iptables", "-I", "INPUT", *words)
    try:
        yield
    finally:
        cluster.run(host, "iptables", "-D", "INPUT", *words)


@contextmanager
def cut(cluster: Cluster, source: str, target: str, proto: str, port: int) -> Iterator[None]:
    """A drop between the hosts, which none of them can see."""
    cluster.labctl("partition", source, target, "--one-way", "--proto", proto, "--port", str(port))
    try:
        yield
    finally:
        cluster.labctl("heal")


@contextmanager
def mtu(cluster: Cluster, size: int, *hosts: str) -> Iterator[None]:
    """Hosts whose interface is smaller."""
    for host in hosts:
        cluster.run(host, "ip", "link", "set", LINK, "mtu", str(size))
    try:
        yield
    finally:
        for host in hosts:
            cluster.run(host, "ip", "link", "set", LINK, "mtu", "1500")


def test_bare_hosts_in_order(cluster: Cluster, tmp_path: Path) -> None:
    run = preflight(tmp_path)
    assert (run.returncode, bad(tmp_path), run.changed) == (0, [], {})
    assert set(run.remote.values()) == {3}
    assert traces(cluster) == []
    underlay = read(tmp_path)["underlay"]
    assert underlay["mtu"] == 1500
    assert len(underlay["paths"]) == 6
    assert all(row["mtu"] == 1500 and row["rtt_ms"]["avg"] > 0 for row in underlay["paths"])


def test_a_dry_run_probes_too(cluster: Cluster, tmp_path: Path) -> None:
    # A refusal by ICMP may be held back: a kernel sends a peer one such message a second, and this probe knocks at closed ports too.
    refusal = ("-j", "REJECT", "--reject-with", "tcp-reset")
    with rule(cluster, "node2", "-s", ADDRESSES["node3"], "-p", "tcp", "--dport", "8301", *refusal):
        run = preflight(tmp_path, arguments=["--check"])
    assert bad(tmp_path) == [("path_tcp_refused", "node3", "node2")]
    assert run.returncode != 0


def test_gossip_is_dropped_in_one_direction_between_the_hosts(cluster: Cluster, tmp_path: Path) -> None:
    with cut(cluster, "node1", "node3", "udp", 7946):
        run = preflight(tmp_path)
    assert bad(tmp_path) == [("path_udp_dropped", "node1", "node3")]
    assert run.returncode != 0
    assert "node1 -> node3: datagrams to 7946/udp are dropped" in run.messages
    assert "Ports that must be open between the hosts:" in run.output


def test_vxlan_is_dropped_by_the_receiving_host_with_two_forks(cluster: Cluster, tmp_path: Path) -> None:
    with rule(cluster, "node2", "-s", ADDRESSES["node1"], "-p", "udp", "--dport", "4789", "-j", "DROP"):
        preflight(tmp_path, arguments=["--forks", "2"])
    assert bad(tmp_path) == [("path_vxlan_swallowed", "node1", "node2")]


def test_two_forks_alone_are_no_trouble(cluster: Cluster, tmp_path: Path) -> None:
    preflight(tmp_path, arguments=["--forks", "2"])
    assert bad(tmp_path) == []


def test_a_dead_direction(cluster: Cluster, tmp_path: Path) -> None:
    with rule(cluster, "node3", "-s", ADDRESSES["node2"], "-j", "DROP"):
        preflight(tmp_path)
    assert bad(tmp_path) == [("path_dead", "node2", "node3")]


def test_a_host_that_is_dead_to_all(cluster: Cluster, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for host in ("node1", "node3"):
            stack.enter_context(rule(cluster, "node2", "-s", ADDRESSES[host], "-j", "DROP"))
            stack.enter_context(rule(cluster, host, "-s", ADDRESSES["node2"], "-j", "DROP"))
        preflight(tmp_path)
    assert bad(tmp_path) == [("path_host_dead", "node2", "*")]


def test_a_small_route(cluster: Cluster, tmp_path: Path) -> None:
    route = (f"{ADDRESSES['node2']}/32", "dev", LINK, "mtu", "1400")
    cluster.run("node1", "ip", "route", "add", *route)
    try:
        run = preflight(tmp_path)
    finally:
        cluster.run("node1", "ip", "route", "del", *route[:3])
    assert bad(tmp_path) == [("path_mtu_small", "node1", "node2")]
    assert run.returncode == 0
    assert read(tmp_path)["underlay"]["mtu"] == 1400


def test_a_small_interface(cluster: Cluster, tmp_path: Path) -> None:
    with mtu(cluster, 1400, "node2"):
        preflight(tmp_path)
    assert bad(tmp_path) == [("path_mtu_small", "node1, node3", "node2")]
    assert read(tmp_path)["underlay"]["mtu"] == 1400


def test_a_port_that_another_program_holds(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run("node2", "systemd-run", "--unit", "holder", "/usr/bin/python3", "-c", LISTENER)
    try:
        wait_for("the listener", lambda: ":7946" in cluster.out("node2", "ss", "-Hlnt"))
        pid = cluster.unit("node2", "holder", "MainPID")
        run = preflight(tmp_path)
    finally:
        cluster.run("node2", "systemctl", "stop", "holder")
    assert bad(tmp_path) == [("port_held", "", "node2")] * 2
    assert f"7946/udp is held by python3 (pid {pid}," in run.messages
    assert f"7946/tcp is held by python3 (pid {pid}," in run.messages


def test_a_clock_that_is_ahead(cluster: Cluster, tmp_path: Path) -> None:
    """Simulated: the clock is the whole machine's, so the host only says that its own is ahead."""
    preflight(tmp_path, extra_vars={"__overlay_preflight_clock_shift": {"node3": 30}})
    assert [row[0] for row in bad(tmp_path)] == ["clock_offset"]
    (row,) = [row for row in read(tmp_path)["findings"] if row["id"] == "clock_offset"]
    assert row["host"] == "node3"
    assert "30.0 s ahead" in row["message"]


def test_a_part_of_the_hosts_is_not_probed_and_that_is_said(cluster: Cluster, tmp_path: Path) -> None:
    run = preflight(tmp_path, arguments=["--limit", "node1,node2,localhost"])
    assert set(run.remote.values()) == {1}
    (row,) = [row for row in read(tmp_path)["findings"] if row["id"] == "probe_skipped"]
    assert "leaves out node3" in row["evidence"]
    assert read(tmp_path)["underlay"] is None


def test_a_host_that_is_down_is_left_out(cluster: Cluster, tmp_path: Path) -> None:
    cluster.labctl("stop", "node1")
    try:
        preflight(tmp_path)
        assert bad(tmp_path) == [("host_unreachable", "", "node1")]
        assert {(row["from"], row["to"]) for row in read(tmp_path)["underlay"]["paths"]} == {
            ("node2", "node3"),
            ("node3", "node2"),
        }
    finally:
        cluster.labctl("start", "node1")


def test_a_run_that_is_killed_is_no_trouble_for_the_next(cluster: Cluster, tmp_path: Path) -> None:
    killed_run(cluster, tmp_path)
    preflight(tmp_path)
    assert bad(tmp_path) == []
    assert traces(cluster) == []


def killed_run(cluster: Cluster, report: Path) -> None:
    """The controller dies while the agents are at work, since one path is broken."""
    extra = {"overlay_report_dir": str(report), "overlay_preflight_probe_patience": 10}
    with (
        rule(cluster, "node3", "-s", ADDRESSES["node2"], "-j", "DROP"),
        start_playbook("playbooks/preflight.yml", inventory=INVENTORY, extra_vars=extra) as running,
    ):
        # While the agents' own time lasts: the task that started them sends them away at its end, though nobody hears it.
        running.wait_for_task("Start the probe's agents")
        wait_for("an agent", lambda: traces(cluster), 20, every=0.05)
        running.kill()
        # Before the rule goes: agents that hear each other have nothing left to wait for, and end.
        assert traces(cluster), "the agents were gone before the run was killed"


def test_a_run_that_is_killed_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    killed_run(cluster, tmp_path)
    wait_for("nothing to be left", lambda: traces(cluster) == [], 60)


# -- joined hosts


@pytest.fixture(scope="module")
def joined(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The same hosts after site.yml on a small underlay, with a container on each, so that the kernel's vxlan is at work."""
    extra = {"overlay_report_dir": str(tmp_path_factory.mktemp("site"))}
    with mtu(cluster, 1450, *HOSTS):
        run_playbook("site.yml", inventory=INVENTORY, extra_vars=extra)
    for host in HOSTS:
        cluster.start_service(host, f"service-{host}", "blue")
    yield cluster
    cluster.remove_containers(*(f"service-{host}" for host in HOSTS))


@pytest.mark.long
def test_joined_hosts_in_order(joined: Cluster, tmp_path: Path) -> None:
    begun = f"@{int(time.time()) + 1}"  # the hosts' clock is this machine's
    run = preflight(tmp_path)
    assert (run.returncode, bad(tmp_path), run.changed, set(run.remote.values())) == (0, [], {}, {3})
    # Neither engine nor store complains of what it got.
    journal = (
        "journalctl",
        "-u",
        "docker",
        "-u",
        "multihost-overlay-consul",
        "--no-pager",
        "-o",
        "cat",
        "--since",
        begun,
    )
    said = [line for host in HOSTS for line in joined.out(host, *journal).splitlines()]
    assert [line for line in said if "memberlist" in line or "serf" in line or "rpc" in line] == []


@pytest.mark.long
def test_joined_hosts_vxlan_is_dropped_in_one_direction(joined: Cluster, tmp_path: Path) -> None:
    with cut(joined, "node3", "node1", "udp", 4789):
        preflight(tmp_path)
    assert bad(tmp_path) == [("path_vxlan_swallowed", "node3", "node1")]
    with rule(joined, "node2", "-s", ADDRESSES["node1"], "-p", "udp", "--dport", "4789", "-j", "DROP"):
        preflight(tmp_path)
    assert bad(tmp_path) == [("path_vxlan_swallowed", "node1", "node2")]


@pytest.mark.long
def test_joined_hosts_gossip_ports_are_closed(joined: Cluster, tmp_path: Path) -> None:
    with rule(joined, "node2", "-s", ADDRESSES["node3"], "-p", "tcp", "--dport", "7946", "-j", "DROP"):
        preflight(tmp_path)
    assert bad(tmp_path) == [("path_tcp_dropped", "node3", "node2")]


@pytest.mark.long
def test_bridges_are_made_for_the_underlay(joined: Cluster, tmp_path: Path) -> None:
    option = '{{index .Options "com.docker.network.driver.mtu"}}'
    for host in HOSTS:
        for network in ("bridge", "docker_gwbridge"):
            assert joined.out(host, "docker", "network", "inspect", "-f", option, network) == "1450"
    # The underlay is larger by now: what was made for the smaller one stays.
    run = run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)})
    assert run.changed == {}


@pytest.mark.long
def test_a_network_gets_the_underlays_mtu_when_it_is_created(joined: Cluster, tmp_path: Path) -> None:
    networks = yaml.safe_load(INVENTORY.read_text())["all"]["vars"]["overlay_networks"]
    networks.append({"name": "green", "subnet": "10.100.61.0/24"})
    extra = {"overlay_report_dir": str(tmp_path), "overlay_networks": networks}
    with mtu(joined, 1420, *HOSTS):
        # The proof of the older network would rightly fail: its large packets are lost.
        run_playbook("site.yml", inventory=INVENTORY, extra_vars={**extra, "overlay_verify_networks": ["green"]})
        joined.start_service("node1", "small", "green")
        size = "print(open('/sys/class/net/eth0/mtu').read())"
        assert joined.out("node1", "docker", "exec", "small", "/usr/bin/python3", "-c", size) == "1370"
        joined.remove_containers("small")
        # The older network is as it was, and said to be too large; so are Docker's bridges.
        assert {row[0] for row in bad(tmp_path)} == {"network_mtu_large", "bridge_mtu_large"}
        messages = [row["message"] for row in read(tmp_path)["findings"]]
        assert any(
            "network blue was made for an underlay of 1450 bytes, but it carries 1420" in said for said in messages
        )
    # On the larger underlay again nothing is recreated, and nothing is wrong with a network that is smaller than it could be.
    run = run_playbook("site.yml", inventory=INVENTORY, extra_vars=extra)
    assert run.changed == {}
    assert bad(tmp_path) == []
