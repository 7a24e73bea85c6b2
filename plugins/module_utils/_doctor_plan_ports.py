# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of iptables that are in the way of the overlay's own ports. Pure; reads nothing.

A user's rules may let peers in and drop all others: so they are followed in their order, for each peer. What a chain of a user's own
does is not followed.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Iterable, List, Mapping, NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import found

# What engines need of each other: the tunnel's, and the gossip's both ways.
PORTS = (("udp", 4789), ("udp", 7946), ("tcp", 7946))
# The chain, and the word that names the peer in its rules.
WAYS = {"INPUT": "-s", "OUTPUT": "-d"}
# Words of a rule that are looked at here, or that say nothing; each is followed by one value.
KNOWN = frozenset(("-s", "-d", "-p", "-i", "-o", "-m", "--dport", "--comment", "-j", "--reject-with"))
MODULES = frozenset(("udp", "tcp", "comment"))
DROPS, GOES_ON = frozenset(("DROP", "REJECT")), frozenset(("LOG", "NFLOG", "MARK", "CONNMARK", ""))
# What is let in of connections that there are is no answer for a new one.
OLD_CONNECTIONS = re.compile(r"--(ct)?state (RELATED|ESTABLISHED|,)+(?= |$)")

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


class Rule(NamedTuple):
    """``words`` are its values by option; ``plain`` is whether there is nothing in it that is not understood here."""

    text: str
    words: Mapping[str, str]
    plain: bool


def parse(text: str) -> Rule:
    """A line of iptables -S."""
    parts = re.findall(r'"[^"]*"|\S+', text)[2:]
    pairs = [(word, value) for word, value in zip(parts, parts[1:]) if word.startswith("-")]
    modules = {value for word, value in pairs if word == "-m"}
    options = {word for word in parts if word.startswith("-")}
    return Rule(text, dict(pairs), "!" not in parts and options <= KNOWN and modules <= MODULES)


def holds(place: str, address: str) -> bool:
    """Whether an address is in the network that a rule names."""
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(place, strict=False)


def concerns(rule: Rule, word: str, peer: str, protocol: str, port: int) -> bool:
    """Whether it may be about packets from or to a peer at a port."""
    words = rule.words
    if words.get("-i", words.get("-o")) == "lo" or words.get("-p", protocol) not in (protocol, "all"):
        return False
    if "!" in rule.text.split():
        return True
    return words.get("--dport", str(port)) == str(port) and (word not in words or holds(words[word], peer))


def obstacle(rules: Iterable[Rule], word: str, peer: str, protocol: str, port: int) -> Rule | None:
    """The rule that drops such packets, all of them or some, if it names the port and nothing before it may let them through."""
    for rule in rules:
        target = rule.words.get("-j", "")
        if not concerns(rule, word, peer, protocol, port) or target in GOES_ON or OLD_CONNECTIONS.search(rule.text):
            continue
        if target in DROPS and "--dport" in rule.words and "!" not in rule.text.split():
            return rule
        if target not in DROPS or rule.plain:
            return None
    return None


def peers_of(observed: Observed) -> List[str]:
    """The other hosts of the store."""
    own = {entry["address"] for entry in observed["addresses"] or []}
    nodes = {node.rpartition(":")[0] for node in observed["store"].get("nodes", [])}
    return sorted(nodes - own, key=ipaddress.IPv4Address)


def blocked(rules: List[Rule], word: str, peers: List[str]) -> dict[str, List[str]]:
    """Rule -> the peers and ports that it is in the way of."""
    found_of: dict[str, List[str]] = {}
    for protocol, port in PORTS:
        for peer in peers:
            rule = obstacle(rules, word, peer, protocol, port)
            if rule:
                found_of.setdefault(rule.text, []).append(f"{peer} {protocol}/{port}")
    return found_of


def check_ports(observed: Observed, _wanted: Observed) -> Findings:
    """No rule of this host drops what its peers send, or what they are sent."""
    lines = (observed["rules"] or {}).get("filter", [])
    for chain, word in WAYS.items():
        rules = [parse(line) for line in lines if line.startswith(f"-A {chain} ")]
        for text, ways in blocked(rules, word, peers_of(observed)).items():
            direction = "from" if word == "-s" else "to"
            yield found(
                "overlay_port_dropped",
                f"a rule of iptables drops packets {direction} peers: {', '.join(ways)}",
                text,
                f"iptables {text.replace('-A', '-D', 1)}, if it is not meant; and where it comes from at boot",
            )
