# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall's files, and the rules for a host's own manager."""

from __future__ import annotations

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._firewall_managers import (
    firewalld_steps,
    rich_rules,
    ufw_ours,
    ufw_rules,
    ufw_steps,
)
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import (
    Firewall,
    collapsed,
    dropin,
    files,
    locked_out,
    parse,
    parse_ports,
    ruleset,
    unit,
)

PORTS = ["7946/tcp", "7946/udp", "4789/udp", "2375/tcp"]


def firewall(allow: list[str] | None = None) -> Firewall:
    return parse(PORTS, ["10.88.0.12", "10.88.0.11", "10.88.0.9"], allow or [])


def test_ports_are_sorted_by_protocol() -> None:
    assert parse_ports([*PORTS, "7946/tcp"]) == {"tcp": (2375, 7946), "udp": (4789, 7946)}


@pytest.mark.parametrize("text", ["7946", "7946/sctp", "0/tcp", "65536/udp", "a/tcp", ""])
def test_what_is_no_port_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no port"):
        parse_ports([text])


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.256", "host", "10.0.0.1-10.0.0.9", "", "fe80::1%eth0/64"])
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="neither an IPv4 or IPv6 address"):
        firewall([text])


def test_a_peer_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="node1"):
        parse(PORTS, ["node1"], [])


def test_the_list_has_no_overlaps() -> None:
    assert collapsed(["192.0.2.0/25", "192.0.2.128/25", "192.0.2.7", "2001:db8::1", "198.51.100.1/32"]) == {
        4: ("192.0.2.0/24", "198.51.100.1"),
        6: ("2001:db8::1",),
    }


def test_peers_are_in_numerical_order() -> None:
    assert firewall().peers == ("10.88.0.9", "10.88.0.11", "10.88.0.12")


def test_the_ruleset_replaces_our_table_and_names_no_other() -> None:
    lines = [line.strip() for line in ruleset(firewall(["192.0.2.0/24", "2001:db8::/64"])).splitlines()]
    lines = [line for line in lines if not line.startswith("#")]
    assert lines[:3] == [
        "table inet multihost_overlay",
        "delete table inet multihost_overlay",
        "table inet multihost_overlay {",
    ]
    assert [line for line in lines if "table" in line] == lines[:3]
    assert "flush" not in " ".join(lines)
    assert "elements = { 10.88.0.9, 10.88.0.11, 10.88.0.12 }" in lines
    assert "elements = { 2001:db8::/64 }" in lines
    rules = lines[
        lines.index("type filter hook input priority -150; policy accept;") + 1 : lines.index("chain forward {") - 1
    ]
    assert rules == [
        'iifname "lo" accept',
        "meta l4proto tcp ct direction reply accept",
        "ip saddr @peers accept",
        "ip saddr @operators4 accept",
        "ip6 saddr @operators6 accept",
        "tcp dport { 2375, 7946 } counter drop",
        "udp dport { 4789, 7946 } counter drop",
    ]


def test_containers_do_not_reach_peers_ports_under_their_host_s_address() -> None:
    lines = [line.strip() for line in ruleset(firewall()).splitlines()]
    rules = lines[lines.index("type filter hook forward priority -150; policy accept;") + 1 : -2]
    assert rules == [
        "ip saddr @peers accept",
        "ip saddr @operators4 accept",
        "ip daddr @peers tcp dport { 2375, 7946 } counter drop",
        "ip daddr @peers udp dport { 4789, 7946 } counter drop",
    ]


def test_empty_lists_make_no_syntax_error() -> None:
    text = ruleset(parse(["8301/udp"], [], []))
    assert "elements" not in text
    assert "tcp dport" not in text


def test_conversations_of_udp_open_nothing() -> None:
    """A peer that has left would stay in as long as it goes on talking."""
    assert "established" not in ruleset(firewall())
    assert "udp ct" not in ruleset(firewall())


def test_ssh_is_not_closed() -> None:
    assert locked_out(firewall(), [22]) == []
    assert locked_out(firewall(), [22, 7946]) == [7946]
    assert locked_out(firewall(), [4789]) == []


def test_units_load_the_file() -> None:
    written = files(firewall(), "/usr/sbin/nft")
    assert len(written) == 3
    assert "Before=network-pre.target docker.service" in unit("/usr/sbin/nft")
    assert dropin("/usr/sbin/nft").count("=-/usr/sbin/nft -f /etc/multihost-overlay/firewall.nft") == 3


def test_rich_rules_are_for_each_source_and_port() -> None:
    rules = rich_rules(firewall(["2001:db8::/64"]))
    assert len(rules) == 4 * 4
    assert rules[0] == 'rule family="ipv4" source address="10.88.0.9" port port="2375" protocol="tcp" accept'
    assert rules[-1] == 'rule family="ipv6" source address="2001:db8::/64" port port="7946" protocol="udp" accept'


def test_firewalld_keeps_what_is_not_ours() -> None:
    steps = firewalld_steps("public", True, ["a", "b"], ["b", "c", "old"], ["old", "gone"])
    base = ["firewall-cmd", "--permanent", "--zone=public", "--quiet"]
    assert steps == [[*base, "--add-rich-rule=a"], [*base, "--remove-rich-rule=old"]]
    assert firewalld_steps("public", False, ["a"], ["a"], ["a"]) == []


def test_ufw_rules_take_at_most_fifteen_ports() -> None:
    rules = ufw_rules(parse([f"{port}/tcp" for port in range(1, 18)], ["10.0.0.1"], []))
    assert rules == [
        f"allow from 10.0.0.1 to any port {','.join(map(str, range(1, 16)))} proto tcp",
        "allow from 10.0.0.1 to any port 16,17 proto tcp",
    ]


def test_ufw_without_ipv6_gets_no_rules_for_it() -> None:
    both = firewall(["2001:db8::1"])
    assert any("2001:db8::1" in rule for rule in ufw_rules(both))
    assert not any("2001:db8::1" in rule for rule in ufw_rules(both, six=False))


def test_ufw_rules_of_ours_carry_our_comment() -> None:
    shown = """Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw allow from 10.0.0.9 to any port 22 proto tcp comment 'office'
ufw allow from 10.0.0.1 to any port 2375,7946 proto tcp comment 'multihost-overlay'
"""
    assert ufw_ours(shown) == ["allow from 10.0.0.1 to any port 2375,7946 proto tcp"]


def test_ufw_opens_before_it_closes() -> None:
    steps = ufw_steps(["allow from a to any"], ["allow from b to any"])
    assert [argv[1] for argv in steps] == ["allow", "delete"]
    assert steps[0][-2:] == ["comment", "multihost-overlay"]
