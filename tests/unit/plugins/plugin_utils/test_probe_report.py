# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all hosts' books say: exactly the broken direction, said once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterable

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_checks, _preflight_checks_paths
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import make_plan, ports_of
from ansible_collections.multihost.overlay.plugins.plugin_utils import _probe_report as report

HOSTS = ["a", "b", "c", "d"]
ADDRESSES = {host: f"10.0.0.{number}" for number, host in enumerate(HOSTS, 1)}
TIMING = {"count": 1, "interval": 1.0, "patience": 3.0, "gossip": 2.5, "spread": 1.0}
STREAMS = {"4789/udp": 4789, "7946/udp": 7946, "8301/udp": 8301, "icmp": 0}


class Cluster:
    """Books of hosts in order, to be broken."""

    def __init__(self, hosts: Iterable[str] = ("a", "b", "c"), **topology: Any) -> None:
        self.hosts = list(hosts)
        self.topology: dict[str, Any] = {
            "mode": "classic",
            "store_type": "consul",
            "store_managed": True,
            "docker_api": "none",
            "encryption": "none",
            "addresses": ADDRESSES,
            "groups": {"hosts": self.hosts, "servers": self.hosts[:1], "members": self.hosts},
        }
        self.topology.update(topology)
        self.started: dict[str, Any] = {
            host: {
                "problem": "",
                "interface": "eth0",
                "mtu": 1500,
                "held": [],
                "bridges": {},
                "networks": {},
                "members": {},
                "manager": "",
            }
            for host in self.hosts
        }
        self.collected = {host: self._book(host) for host in self.hosts}

    def _book(self, host: str) -> dict[str, Any]:
        tcp = {"7946": "connected", "8301": "connected", "8300": "connected"}
        heard = {"packets": 9, "largest": 1500, "mangled": 0}
        peer = {"sent": 9, "rtt": [0.1, 0.2, 0.3], "offset": 0.0, "route_mtu": 1500, "errors": {}, "gossip": []}
        return {
            "agent_died": False,
            "errors": [],
            "peers": {
                other: dict(peer, syn=[], tcp=dict(tcp), heard={str(port): dict(heard) for port in STREAMS.values()})
                for other in self.hosts
                if other != host
            },
        }

    def hold(self, *names: str) -> None:
        """All hosts run what they are to run, and nothing of gossip was heard yet."""
        for host in self.hosts:
            self.started[host]["held"] = list(names)
            for book in self.collected[host]["peers"].values():
                for name in names:
                    if name.startswith("udp/") and name != "udp/4789":
                        book["heard"].pop(name[4:], None)

    def drop(self, source: str, target: str, *names: str) -> None:
        """Nothing of these, or of all, arrives."""
        for name in names or (*STREAMS, "7946/tcp", "8300/tcp", "8301/tcp"):
            if name in STREAMS:
                self.collected[target]["peers"][source]["heard"].pop(str(STREAMS[name]), None)
            else:
                self.collected[source]["peers"][target]["tcp"][name[:-4]] = "timeout"
        if not names:
            # Nor do answers to what the other end sends.
            for port in self.collected[target]["peers"][source]["tcp"]:
                self.collected[target]["peers"][source]["tcp"][port] = "timeout"
                self.collected[source]["peers"][target]["syn"].append(int(port))
            self.collected[target]["peers"][source]["syn"] = []

    def cut(self, one: str, other: str) -> None:
        """Nothing arrives in either direction."""
        for source, target in ((one, other), (other, one)):
            self.drop(source, target)
        for source, target in ((one, other), (other, one)):
            self.collected[target]["peers"][source]["syn"] = []

    def offset(self, host: str, seconds: float) -> None:
        """A clock that is ahead."""
        for other in self.hosts:
            if other != host:
                self.collected[other]["peers"][host]["offset"] = seconds
                self.collected[host]["peers"][other]["offset"] = -seconds

    def paths(self) -> report.Paths:
        ports = ports_of(self.topology)
        plan = make_plan("0123456789abcdef", self.topology, ports, self.started, TIMING)
        return report.Paths(self.topology, ports, plan, self.started, self.collected)

    def findings(self) -> list[dict[str, str]]:
        return report.findings_of(self.paths(), 2.0, self.topology["encryption"])

    def ids(self) -> list[tuple[str, str, str]]:
        return sorted((row["id"], row.get("from", ""), row.get("to", "")) for row in self.findings())


def test_hosts_in_order_have_no_findings() -> None:
    assert Cluster().findings() == []
    seen = report.underlay(Cluster().paths())
    assert (seen["mtu"], len(seen["paths"])) == (1500, 6)


def test_around_a_host_the_others_need_no_books_of_one_another() -> None:
    cluster = Cluster()
    cluster.topology["only"] = ["c"]
    for one, other in (("a", "b"), ("b", "a")):
        del cluster.collected[one]["peers"][other]
    assert cluster.findings() == []
    cluster.drop("a", "c", "7946/tcp")
    assert [(row["id"], row["from"], row["to"]) for row in cluster.findings()] == [("path_tcp_dropped", "a", "c")]
    assert len(report.underlay(cluster.paths())["paths"]) == 4


def test_joined_hosts_whose_gossip_is_heard_have_no_findings() -> None:
    cluster = Cluster()
    cluster.hold("udp/4789", "udp/7946", "tcp/7946", "udp/8301", "tcp/8301", "tcp/8300")
    for host in cluster.hosts:
        for book in cluster.collected[host]["peers"].values():
            book["gossip"] = [7946, 8301]
    assert cluster.findings() == []


@pytest.mark.parametrize(
    ("name", "check_id"),
    [
        ("4789/udp", "path_vxlan_swallowed"),
        ("7946/udp", "path_udp_dropped"),
        ("8301/udp", "path_udp_dropped"),
        ("7946/tcp", "path_tcp_dropped"),
    ],
)
def test_one_port_in_one_direction(name: str, check_id: str) -> None:
    cluster = Cluster()
    cluster.drop("a", "b", name)
    (row,) = cluster.findings()
    assert (row["id"], row["from"], row["to"], row["host"]) == (check_id, "a", "b", "b")
    assert row["message"].startswith("a -> b: ")
    assert name in row["message"]
    assert "ICMP" in row["evidence"]
    assert row["level"] == "error"


def test_ports_that_a_host_does_not_need_are_not_probed() -> None:
    cluster = Cluster()
    cluster.drop("a", "b", "8300/tcp")  # b is no server
    assert cluster.findings() == []
    cluster.drop("b", "a", "8300/tcp")
    assert cluster.ids() == [("path_tcp_dropped", "b", "a")]


def test_a_refusal_is_told_from_silence() -> None:
    cluster = Cluster()
    cluster.collected["a"]["peers"]["b"]["tcp"]["7946"] = "EHOSTUNREACH"
    (row,) = cluster.findings()
    assert row["id"] == "path_tcp_refused"
    assert "a firewall refuses 7946/tcp of b" in row["message"]


def test_lost_answers_belong_to_the_way_back() -> None:
    cluster = Cluster()
    cluster.collected["a"]["peers"]["b"]["tcp"]["7946"] = "timeout"
    cluster.collected["b"]["peers"]["a"]["syn"] = [7946]
    assert cluster.ids() == [("path_tcp_dropped", "b", "a")]


def test_a_dead_direction_is_said_once() -> None:
    cluster = Cluster()
    cluster.drop("a", "b")
    assert cluster.ids() == [("path_dead", "a", "b")]


def test_a_changed_vxlan_packet_is_no_proof() -> None:
    cluster = Cluster()
    cluster.collected["b"]["peers"]["a"]["heard"]["4789"] = {"packets": 0, "largest": 0, "mangled": 5}
    (row,) = cluster.findings()
    assert row["id"] == "path_vxlan_swallowed"
    assert "changed" in row["message"]


def test_a_host_that_is_dead_to_all_is_said_once() -> None:
    cluster = Cluster(HOSTS)
    for other in "abd":
        cluster.cut("c", other)
    assert cluster.ids() == [("path_host_dead", "c", "*")]


def test_what_no_peer_can_send_to_one_host_is_said_once() -> None:
    cluster = Cluster()
    for other in "ac":
        cluster.drop(other, "b", "4789/udp")
    cluster.drop("a", "c", "7946/udp")
    assert cluster.ids() == [("path_udp_dropped", "a", "c"), ("path_vxlan_swallowed", "a, c", "b")]


def test_what_one_host_cannot_send_to_any_is_said_once() -> None:
    cluster = Cluster()
    for other in "ac":
        cluster.drop("b", other, "4789/udp")
    (row,) = cluster.findings()
    assert (row["from"], row["to"], row["host"]) == ("b", "a, c", "b")
    assert "a firewall of" not in row["message"]


def test_what_fails_everywhere_is_said_once() -> None:
    cluster = Cluster()
    for source in cluster.hosts:
        for target in cluster.hosts:
            if source != target:
                cluster.drop(source, target, "4789/udp")
    (row,) = cluster.findings()
    assert (row["from"], row["to"]) == ("*", "*")
    assert "between all hosts" in row["message"]
    assert report.needs_ports([row])


def test_two_ports_are_two_findings() -> None:
    cluster = Cluster()
    for other in "ac":
        cluster.drop(other, "b", "7946/udp", "8301/udp")
    assert [row["id"] for row in cluster.findings()] == ["path_udp_dropped"] * 2


def test_silent_gossip_is_unproven_and_no_fault() -> None:
    cluster = Cluster()
    cluster.hold("udp/7946", "tcp/7946")
    cluster.collected["b"]["peers"]["a"]["gossip"] = [7946]
    rows = cluster.findings()
    assert {(row["id"], row["level"]) for row in rows} == {("path_unproven", "info")}
    (of_b,) = [row for row in rows if row["host"] == "b"]
    assert of_b["evidence"] == "7946/udp from c"


def test_consuls_word_counts_where_its_port_is_held() -> None:
    cluster = Cluster()
    cluster.hold("udp/8301", "tcp/8301")
    for host in cluster.hosts:
        cluster.started[host]["members"] = {ADDRESSES[other]: True for other in cluster.hosts}
    assert cluster.findings() == []
    cluster.started["a"]["members"][ADDRESSES["b"]] = False
    (row,) = cluster.findings()
    assert (row["id"], row["from"], row["to"]) == ("path_store_gossip", "a", "b")


def test_a_small_path_decides_what_networks_get() -> None:
    cluster = Cluster()
    cluster.collected["b"]["peers"]["a"]["heard"]["4789"]["largest"] = 1400
    cluster.collected["b"]["peers"]["a"]["heard"]["0"]["largest"] = 1400
    for stream in ("7946", "8301"):
        cluster.collected["b"]["peers"]["a"]["heard"][stream]["largest"] = 128
    assert cluster.ids() == [
        ("path_mtu_asymmetric", "a", "b"),
        ("path_mtu_small", "a", "b"),
        ("underlay_mtu_below_default", "", ""),
    ]
    assert report.underlay(cluster.paths())["mtu"] == 1400


def test_networks_and_bridges_that_are_too_large() -> None:
    cluster = Cluster()
    for host in cluster.hosts:
        cluster.started[host].update(
            mtu=1450, bridges={"docker0": 1500, "docker_gwbridge": 1450}, networks={"old": 0, "new": 1450}
        )
        for book in cluster.collected[host]["peers"].values():
            for heard in book["heard"].values():
                heard["largest"] = 1450
    rows = cluster.findings()
    assert [row["id"] for row in rows] == ["underlay_mtu_below_default", "network_mtu_large"] + ["bridge_mtu_large"] * 3
    assert "network old was made for an underlay of 1500 bytes, but it carries 1450" in rows[1]["message"]
    assert "docker0 has 1500, but" in rows[2]["message"]


def test_a_usual_underlay_leaves_all_to_docker() -> None:
    cluster = Cluster()
    for host in cluster.hosts:
        cluster.started[host].update(bridges={"docker0": 1500, "docker_gwbridge": 1500}, networks={"old": 0})
    assert cluster.findings() == []


def test_encryption_takes_its_share() -> None:
    cluster = Cluster(encryption="wireguard")
    (row,) = cluster.findings()
    assert (row["id"], "1420" in row["message"]) == ("underlay_mtu_below_default", True)


def test_the_one_wrong_clock_is_named() -> None:
    cluster = Cluster()
    cluster.offset("b", -7.0)
    (row,) = cluster.findings()
    assert (row["id"], row["host"]) == ("clock_offset", "b")
    assert "the clock of b is 7.0 s behind its peers" in row["message"]


def test_of_two_clocks_nobody_knows_which_is_wrong() -> None:
    cluster = Cluster("ab")
    cluster.offset("b", 3.0)
    (row,) = cluster.findings()
    assert row["id"] == "clock_offset"
    cluster.offset("b", 1.0)
    assert cluster.findings() == []


def test_an_agent_without_a_result_is_said_and_its_paths_are_not_judged() -> None:
    cluster = Cluster()
    cluster.collected["b"] = {"agent_died": True, "errors": ["no agent of this run is on this host"], "peers": {}}
    (row,) = cluster.findings()
    assert (row["id"], row["host"], row["level"]) == ("probe_failed", "b", "warning")


def test_a_host_that_was_not_read_as_root_is_left_out() -> None:
    cluster = Cluster()
    cluster.started["b"].update(problem="it was not read as root", mtu=0)
    del cluster.collected["b"]
    (row,) = cluster.findings()
    assert (row["id"], row["host"], row["level"]) == ("probe_skipped", "b", "info")


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ({"msg": "it broke", "failed": True}, [("probe_failed", "b")]),
        ({"unreachable": True, "msg": "gone"}, [("probe_failed", "b")]),
        ({"skipped": True, "changed": False}, []),
    ],
)
def test_a_host_whose_first_call_failed(started: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    cluster = Cluster()
    cluster.started["b"] = started
    del cluster.collected["b"]
    assert [(row["id"], row["host"]) for row in cluster.findings()] == expected


def test_a_firewall_that_will_be_opened_is_no_error() -> None:
    cluster = Cluster(firewall="manage")
    for other in "ac":
        cluster.drop(other, "b", "7946/udp", "4789/udp", "7946/tcp")
    assert {row["level"] for row in cluster.findings()} == {"error"}
    cluster.started["b"]["manager"] = "firewalld"
    (row,) = cluster.findings()
    assert (row["id"], row["level"], row["from"], row["to"]) == ("path_opened_later", "info", "a, c", "b")
    assert "firewalld of b does not let it in yet" in row["message"]
    cluster.topology["firewall"] = "off"
    assert {row["level"] for row in cluster.findings()} == {"error"}


def test_who_joins_is_let_in_by_the_others_tables_later_and_who_is_in_is_not_excused() -> None:
    peers = [ADDRESSES[host] for host in "bc"]
    tables = {host: {"loaded": True, "peers": peers} for host in "bc"}
    cluster = Cluster(firewall="manage", tables=tables)
    for other in "bc":
        cluster.drop("a", other, "7946/udp", "4789/udp", "7946/tcp", "8301/tcp", "8301/udp")
    assert [(row["id"], row["level"]) for row in cluster.findings()] == [("path_opened_later", "info")]
    cluster.drop("b", "c", "4789/udp")
    assert ("path_vxlan_swallowed", "b", "c") in cluster.ids()


def test_the_register_has_its_page() -> None:
    text = (Path(__file__).parents[4] / "docs" / "checks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    checks = _preflight_checks_paths.CHECKS
    assert [row for row in rows if row[0] in checks] == [
        (check_id, *(field.replace("|", "\\|") for field in check)) for check_id, check in checks.items()
    ]
    assert not checks.keys() & _preflight_checks.CHECKS.keys()
