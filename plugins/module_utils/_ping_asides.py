# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent tries beside the pairs: ways out of the overlay, ways between networks that must not be, neighbours on the host. No I/O."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import APART, EGRESS, LOCAL

Json = Dict[str, Any]
TRIES = 5
EVERY = 0.1  # seconds
WAIT = 0.5  # seconds for the last answer
OUTSIDE = 3  # peers' underlay addresses that are tried: one that answers is enough
# So far a packet to another network may get: out of its host, into another, into a container there; no farther into the world.
HOPS = 3
MOST_HOPS = 64


class Aside:
    """Packets to one address, through one of the network's sockets."""

    def __init__(self, phase: int, via: str, address: str, network: int, target: int, to: str) -> None:
        self.phase, self.via, self.address = phase, via, address
        # The network and the place that the packets name, so that who hears them knows.
        self.network, self.target = network, target
        self.to = to
        self.sent = self.replied = 0
        self.at = 0.0
        self.error: str | None = None

    def step(self, now: float) -> bool:
        """Whether to send one now."""
        if self.finished(now) or now < self.at:
            return False
        if self.sent == TRIES:
            return False
        self.sent += 1
        self.at = now + (EVERY if self.sent < TRIES else WAIT)
        return True

    def finished(self, now: float) -> bool:
        """All is sent and the last answer has had its time; or the answer that was wanted is there."""
        wanted = self.replied > 0 and self.phase != APART
        return wanted or (self.sent == TRIES and now >= self.at)

    def result(self) -> Json:
        """What is written down of it."""
        kind = {APART: "isolation", EGRESS: "egress", LOCAL: "same_host"}[self.phase]
        return {
            "check": kind,
            "via": self.via,
            "to": self.to,
            "sent": self.sent,
            "replied": self.replied,
            "error": self.error,
        }


def outside_of(plan: Json, network: int, place: int) -> List[Aside]:
    """Ways out: to the underlay addresses of the next hosts, through the default route; once for each container."""
    probes = [rows[place] for rows in plan["probes"]]
    before = [probe for probe, internal in zip(probes[:network], plan["internal"]) if not internal]
    if plan["internal"][network] or any(probe.get("name") == probes[network]["name"] for probe in before):
        return []
    hosts = plan["hosts"]
    peers = [(place + step) % len(hosts) for step in range(1, min(OUTSIDE, len(hosts) - 1) + 1)]
    return [Aside(EGRESS, "outward", plan["underlay"][peer], network, peer, hosts[peer]) for peer in peers]


def apart_from(plan: Json, network: int, place: int) -> List[Aside]:
    """Ways to other networks: over this network's own wire, and through the host."""
    targets = [
        (other, target)
        for other, target in enumerate(plan["apart"])
        # Where Docker chose the subnet the address is not known here.
        if target is not None and other != network and target != place and plan["probes"][other][target]["address"]
    ]
    return [
        Aside(APART, via, plan["probes"][other][target]["address"], other, target, plan["networks"][other])
        for other, target in targets
        for via in (("sideward",) if plan["internal"][network] else ("sideward", "outward"))
    ]


def beside(plan: Json, network: int, place: int) -> List[Aside]:
    """Another running container of the host on the same network."""
    neighbour = plan["probes"][network][place].get("neighbour")
    if not neighbour:
        return []
    return [Aside(LOCAL, "icmp", neighbour["address"], network, place, neighbour["name"])]


def asides_of(plan: Json, network: int, place: int) -> List[Aside]:
    """All of one probe's."""
    return outside_of(plan, network, place) + apart_from(plan, network, place) + beside(plan, network, place)
