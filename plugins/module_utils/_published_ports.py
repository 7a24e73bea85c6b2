# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps published ports reachable while dockerd is restarted under live-restore.

A dockerd that starts takes its chains away and makes them anew. Who calls a published port at that moment is refused, though the container
runs (seen with 20.10.5: for some tenths of a second). Rules of our own stand in meanwhile, before Docker's; each holds only as long as its
port is in a set whose elements the kernel itself forgets, so that a run which is killed leaves nothing in Docker's way.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner, run_program

TABLE = "multihost_overlay_ports"
DNAT = re.compile(
    r"^-A DOCKER (?:-d (?P<address>[0-9.]+)(?:/32)? )?! -i (?P<bridge>\S+) -p (?P<protocol>tcp|udp) -m (?:tcp|udp) "
    r"--dport (?P<port>\d+) -j DNAT --to-destination (?P<target>[0-9.]+:\d+)$"
)


class Port(NamedTuple):
    """A published port, as Docker's rule has it; ``address`` is empty for all of the host's."""

    protocol: str
    address: str
    port: int
    bridge: str
    target: str


def published(rules: str) -> List[Port]:
    """Docker's rules, as `iptables -t nat -S DOCKER` shows them."""
    found = [match for match in map(DNAT.match, rules.splitlines()) if match]
    return [
        Port(row["protocol"], row["address"] or "", int(row["port"]), row["bridge"], row["target"]) for row in found
    ]


def ruleset(ports: List[Port], seconds: float) -> str:
    """The table for nft; what is in it holds for so many seconds."""
    sets = []
    for protocol in sorted({port.protocol for port in ports}):
        numbers = sorted({port.port for port in ports if port.protocol == protocol})
        elements = ", ".join(f"{number} timeout {seconds:.0f}s" for number in numbers)
        sets.append(f"  set kept_{protocol} {{ type inet_service; flags timeout; elements = {{ {elements} }}; }}")
    rules = [_rule(port) for port in ports]
    arriving = [f'    iifname != "{port.bridge}" {rule}' for port, rule in zip(ports, rules)]
    own = [f"    ip daddr != 127.0.0.0/8 {rule}" for rule in rules]
    chains = [
        f"  chain {hook} {{\n    type nat hook {hook} priority -101;\n" + "\n".join(lines) + "\n  }"
        for hook, lines in (("prerouting", arriving), ("output", own))
    ]
    return f"{removal()}table ip {TABLE} {{\n" + "\n".join([*sets, *chains]) + "\n}\n"


def _rule(port: Port) -> str:
    where = f"ip daddr {port.address}" if port.address else "fib daddr type local"
    return (
        f"{where} {port.protocol} dport @kept_{port.protocol} {port.protocol} dport {port.port} dnat to {port.target}"
    )


def removal() -> str:
    """Takes the table away, also where there is none."""
    return f"add table ip {TABLE}\ndelete table ip {TABLE}\n"


@contextmanager
def kept(seconds: float, run: Runner = run_program) -> Iterator[None]:
    """Stand in for Docker's rules while the block runs. A host without nft, or without such ports, does without."""
    status, rules, _complaints = run(["iptables", "-w", "5", "-t", "nat", "-S", "DOCKER"])
    ports = published(rules) if status == 0 else []
    held = bool(ports) and run(["nft", "-f", "/dev/stdin"], ruleset(ports, seconds))[0] == 0
    try:
        yield
    finally:
        if held:
            run(["nft", "-f", "/dev/stdin"], removal())
