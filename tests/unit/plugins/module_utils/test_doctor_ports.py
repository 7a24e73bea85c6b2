# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of iptables in the way of the overlay's ports."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_ports import check_ports

DROP = "-A INPUT -p udp -m udp --dport 4789 -j DROP"
LET_IN = "-A INPUT -s 10.88.0.0/24 -p udp -m udp --dport 4789 -j ACCEPT"
OWN_CHAIN = "-A INPUT -j PEERS"


def findings(*rules: str) -> list[dict[str, str]]:
    observed: dict[str, Any] = {
        "addresses": [{"interface": "eth0", "address": "10.88.0.11"}, {"interface": "eth1", "address": "192.0.2.9"}],
        "engine": {"info": {"ClusterAdvertise": "10.88.0.11:2376"}},
        "store": {"nodes": ["10.88.0.11:2376", "10.88.0.12:2376", "10.88.0.13:2376", "[fd00::1]:2376"]},
        "rules": {"filter": ["-P INPUT ACCEPT", *rules], "nat": []},
    }
    return list(check_ports(observed, {}))


@pytest.mark.parametrize(
    "rule",
    [
        DROP,
        "-A INPUT -s 10.88.0.12/32 -p udp -m udp --dport 4789 -j REJECT --reject-with icmp-port-unreachable",
        "-A INPUT -p udp -m udp --dport 4789 -m statistic --mode random --probability 0.20000000019 -j DROP",
        "-A INPUT -p udp -m udp --dport 4789 -m length --length 1401:65535 -j DROP",
        "-A INPUT -p tcp -m tcp --dport 7946 -j DROP",
        "-A OUTPUT -d 10.88.0.13/32 -p udp -m udp --dport 4789 -j DROP",
        "-A INPUT -d 10.88.0.11/32 -i eth0 -p udp -m udp --dport 4789 -j DROP",
    ],
)
def test_a_rule_that_drops_what_peers_send_or_are_sent(rule: str) -> None:
    (found,) = findings("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", rule)
    assert (found["id"], found["evidence"]) == ("overlay_port_dropped", rule)
    assert rule.replace("-A", "-D") in found["fix"]


def test_each_peer_and_port_is_named() -> None:
    (found,) = findings("-A INPUT -p udp -m udp --dport 7946 -j DROP")
    assert found["message"].endswith("from peers: 10.88.0.12 udp/7946, 10.88.0.13 udp/7946")


@pytest.mark.parametrize(
    "rules",
    [
        (),
        # Peers are let in before: by their network, by a set, by several ports at once, by a chain of the user's own.
        (LET_IN, DROP),
        ("-A INPUT -m set --match-set peers src -j ACCEPT", DROP),
        ("-A INPUT -p udp -m multiport --dports 4789,7946 -j ACCEPT", DROP),
        (OWN_CHAIN, DROP),
        # It is about others.
        ("-A INPUT -s 192.0.2.1/32 -p udp -m udp --dport 4789 -j DROP",),
        ("-A INPUT ! -s 10.88.0.0/24 -p udp -m udp --dport 4789 -j DROP",),
        ("-A INPUT -i lo -p udp -m udp --dport 4789 -j DROP",),
        # The side of the world, and what is not encrypted.
        ("-A INPUT -i eth1 -p udp -m udp --dport 4789 -j DROP",),
        ("-A INPUT -d 192.0.2.9/32 -p udp -m udp --dport 4789 -j DROP",),
        ("-A OUTPUT -o eth1 -p udp -m udp --dport 4789 -j DROP",),
        ("-A INPUT -p udp -m policy --dir in --pol none -m udp --dport 4789 -j DROP",),
        ("-A INPUT -p udp -m udp --dport 4789 -m conntrack --ctstate INVALID -j DROP",),
        ("-A INPUT -p udp -m udp --dport 8472 -j DROP",),
        ("-A FORWARD -p udp -m udp --dport 4789 -j DROP",),
        # What a firewall drops at its end is the rest; its chains have let in what it knows.
        ("-A INPUT -j DROP",),
    ],
)
def test_what_is_in_nobodys_way(rules: tuple[str, ...]) -> None:
    assert findings(*rules) == []


def test_one_peer_may_be_let_in_and_another_not() -> None:
    (found,) = findings("-A INPUT -s 10.88.0.12/32 -j ACCEPT", DROP)
    assert found["message"].endswith("from peers: 10.88.0.13 udp/4789")


def test_a_log_of_it_decides_nothing() -> None:
    assert len(findings('-A INPUT -p udp -m udp --dport 4789 -j LOG --log-prefix "vxlan -j ACCEPT "', DROP)) == 1


def test_without_iptables_nothing_is_said() -> None:
    nothing: dict[str, Any] = {"addresses": None, "store": {}, "engine": {"info": {}}, "rules": None}
    assert list(check_ports(nothing, {})) == []
