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
# The chain, and the words that name the peer, this host and its interface in its rules.
WAYS = {"INPUT": ("-s", "-d", "-i"), "OUTPUT": ("-d", "-s", "-o")}
# Words of a rule that are looked at here, or that say nothing; each is followed by one value.
KNOWN = frozenset(("-s", "-d", "-p", "-i", "-o", "-m", "--dport", "--comment", "-j", "--reject-with"))
MODULES = frozenset(("udp", "tcp", "comment"))
# With these a rule drops some of what it names; with any other it may be about something else.
SOME = frozenset(("statistic", "length", "limit"))
DROPS, GOES_ON = frozenset(("DROP", "REJECT")), frozenset(("LOG", "NFLOG", "MARK", "CONNMARK", ""))
# What is let in of connections that there are is no answer for a new one.
OLD_CONNECTIONS = re.compile(r"--(ct)?state (RELATED|ESTABLISHED|,)+(?= |$)")

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


class Rule(NamedTuple):
    """``words`` are its values by option; ``plain`` is whether there is nothing in it that is not understood here; ``clear`` is the same
    but for what makes it take only some of the packets.
    """

    text: str
    words: Mapping[str, str]
    plain: bool
    clear: bool


def parse(text: str) -> Rule:
    """A line of iptables -S."""
    parts = re.findall(r'"[^"]*"|\S+', text)[2:]
    pairs = [(word, value) for word, value in zip(parts, parts[1:]) if word.startswith("-")]
    modules = {value for word, value in pairs if word == "-m"}
    options = {word for word in parts if word.startswith("-")}
    sure = "!" not in parts
    return Rule(
        text,
        dict(pairs),
        plain=sure and options <= KNOWN and modules <= MODULES,
        clear=sure and modules <= MODULES | SOME,
    )


def holds(place: str, address: str) -> bool:
    """Whether an address is in the network that a rule names."""
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(place, strict=False)


class Way(NamedTuple):
    """Packets between a peer and this host at a port: the words that name the two and the interface in a rule, and their values."""

    peer_word: str
    own_word: str
    device_word: str
    peer: str
    own: str
    device: str
    protocol: str
    port: int


def concerns(rule: Rule, way: Way) -> bool:
    """Whether it may be about such packets."""
    words = rule.words
    if words.get(way.device_word, way.device) != way.device or words.get("-p", way.protocol) not in (
        way.protocol,
        "all",
    ):
        return False
    if "!" in rule.text.split():
        return True
    places = ((way.peer_word, way.peer), (way.own_word, way.own))
    return words.get("--dport", str(way.port)) == str(way.port) and all(
        word not in words or holds(words[word], address) for word, address in places
    )


def obstacle(rules: Iterable[Rule], way: Way) -> Rule | None:
    """The rule that drops such packets, all of them or some, if it names the port and nothing before it may let them through."""
    for rule in rules:
        target = rule.words.get("-j", "")
        if not concerns(rule, way) or target in GOES_ON or OLD_CONNECTIONS.search(rule.text):
            continue
        if target in DROPS and rule.clear and "--dport" in rule.words:
            return rule
        if target not in DROPS or rule.plain:
            return None
    return None


def own_place(observed: Observed) -> tuple[str, str]:
    """The address that the engine advertises, and its interface; empty if that is not here."""
    address = str(observed["engine"]["info"].get("ClusterAdvertise") or "").rpartition(":")[0]
    devices = (entry["interface"] for entry in observed["addresses"] or [] if entry["address"] == address)
    return address, next(devices, "")


def other_hosts(observed: Observed, own: str) -> List[str]:
    """The other hosts of the store, by their IPv4 addresses: rules of iptables are about no others."""
    nodes = {node.rpartition(":")[0] for node in observed["store"].get("nodes", [])}
    return sorted(node for node in nodes - {own} if re.fullmatch(r"[0-9.]+", node))


def blocked(rules: List[Rule], ways: Iterable[Way]) -> dict[str, List[str]]:
    """Rule -> the peers and ports that it is in the way of."""
    found_of: dict[str, List[str]] = {}
    for way in ways:
        rule = obstacle(rules, way)
        if rule:
            found_of.setdefault(rule.text, []).append(f"{way.peer} {way.protocol}/{way.port}")
    return found_of


def check_ports(observed: Observed, _wanted: Observed) -> Findings:
    """No rule of this host drops what its peers send, or what they are sent."""
    own, device = own_place(observed)
    lines = (observed["rules"] or {}).get("filter", []) if device else []
    for chain, words in WAYS.items():
        rules = [parse(line) for line in lines if line.startswith(f"-A {chain} ")]
        ways = [
            Way(*words, peer, own, device, protocol, port)
            for protocol, port in PORTS
            for peer in other_hosts(observed, own)
        ]
        for text, named in blocked(rules, ways).items():
            direction = "from" if chain == "INPUT" else "to"
            yield found(
                "overlay_port_dropped",
                f"a rule of iptables drops packets {direction} peers: {', '.join(named)}",
                text,
                f"iptables {text.replace('-A', '-D', 1)}, if it is not meant; and where it comes from at boot",
            )
