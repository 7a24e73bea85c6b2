# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's own firewall manager must let pass: firewalld's rich rules, ufw's rules.

Our table closes ports whatever these accept; they are used only to open what they would close. The functions turn
what is wanted and what was found into argument lists; running them is the caller's.
"""

from __future__ import annotations

import ipaddress
import shlex
from typing import Iterable

from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import Firewall

COMMENT = "multihost-overlay"
# ufw takes at most 15 ports in one rule.
UFW_PORTS = 15


def sources(firewall: Firewall) -> list[str]:
    """All who may pass, peers first."""
    return [*firewall.peers, *firewall.allow4, *firewall.allow6]


def family(source: str) -> str:
    return f"ipv{ipaddress.ip_network(source).version}"


def rich_rules(firewall: Firewall) -> list[str]:
    """One for each source and port, in the words in which firewalld prints them."""
    ports = [(port, "tcp") for port in firewall.tcp] + [(port, "udp") for port in firewall.udp]
    return [
        f'rule family="{family(source)}" source address="{source}" port port="{port}" protocol="{protocol}" accept'
        for source in sources(firewall)
        for port, protocol in ports
    ]


def ufw_rules(firewall: Firewall, six: bool = True) -> list[str]:
    """As ``ufw show added`` prints them, without the program's name and our comment; it may be told to leave IPv6 alone."""
    found = []
    for source in sources(firewall):
        if ":" in source and not six:
            continue
        for protocol, ports in (("tcp", firewall.tcp), ("udp", firewall.udp)):
            for start in range(0, len(ports), UFW_PORTS):
                listed = ",".join(map(str, ports[start : start + UFW_PORTS]))
                found.append(f"allow from {source} to any port {listed} proto {protocol}")
    return found


def ufw_ours(shown: str) -> list[str]:
    """Our rules among those of ``ufw show added``: they carry our comment."""
    found = []
    for line in shown.splitlines():
        rule, mark, comment = line.strip().partition(" comment ")
        if mark and rule.startswith("ufw ") and comment.strip("'\"") == COMMENT:
            found.append(rule[len("ufw ") :])
    return found


def ufw_steps(wanted: Iterable[str], found: Iterable[str]) -> list[list[str]]:
    """New rules before old ones go, so that a peer that stays is never closed out."""
    have, want = list(found), list(wanted)
    return [["ufw", *shlex.split(rule), "comment", COMMENT] for rule in want if rule not in have] + [
        ["ufw", "delete", *shlex.split(rule)] for rule in have if rule not in want
    ]


def firewalld_steps(
    zone: str, permanent: bool, wanted: list[str], found: list[str], ours: list[str]
) -> list[list[str]]:
    """One call that adds and one that removes; a rule that we did not add is never removed."""
    base = ["firewall-cmd", *(["--permanent"] if permanent else []), f"--zone={zone}", "--quiet"]
    add = [f"--add-rich-rule={rule}" for rule in wanted if rule not in found]
    remove = [f"--remove-rich-rule={rule}" for rule in ours if rule in found and rule not in wanted]
    return [base + options for options in (add, remove) if options]
