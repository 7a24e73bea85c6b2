# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one agent of the underlay's probe does about one peer, as a state machine over time. No I/O.

What arrives proves its direction only. So both ends keep books of what they heard, and the controller reads the
receiver's. Packets also say what has been heard of the other end, so that healthy pairs are done at once.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._probe_codec import ICMP, SMALL, VXLAN_PORT
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import Expected

NEVER = float("inf")
KNOCK_FIRST, KNOCK_SLOWEST = 0.05, 0.4
EVERY = 0.05
SETTLE, SETTLE_MOST = 2.0, 5.0  # seconds after a sign of the peer: what is not proven by then is not
LADDER_AFTER = 0.6
LADDER_ROUNDS = 2
BURST = 8  # sizes of the ladder in one go
SAMPLES, MOST_SAMPLES = 3, 50
PARTING, PARTING_LIMIT = 3, 1.0
DONE_FLAG = 1
FULL_BIT = 1 << 31
Packets = List[Tuple[int, int]]
Json = Dict[str, Any]


def ladder(mtu: int) -> List[int]:
    """Sizes to try below the interface's, closely where paths end: just below it, and where 1500 loses a tunnel or two."""
    sizes = [*range(mtu - 4, mtu - 160, -4), *range(1500, 1196, -4), *range(1196, 560, -36), *range(9000, 1500, -250)]
    return sorted({size for size in sizes if SMALL < size < mtu}, reverse=True)


class Pair:
    """Books and timers for one peer. ``out`` and ``back`` say what is sent to it and expected of it."""

    def __init__(
        self, out: Expected, back: Expected, now: float, knock_until: float, gossip_until: float, hosts: int = 2
    ) -> None:
        self.out, self.back = out, back
        # Many hosts mean many pairs for each agent: it goes round more slowly, and waits longer.
        slower = max(1.0, hosts / 12)
        self.every, self.burst = EVERY * slower, int(BURST * slower)
        self.settle = min(SETTLE + hosts * 0.1, SETTLE_MOST)
        self.streams = [*out.udp, ICMP]
        self.bits = {stream: 1 << place for place, stream in enumerate(back.udp)}
        self.sent_bits = {stream: 1 << place for place, stream in enumerate(out.udp)}
        self.at, self.pause = now, KNOCK_FIRST
        self.knock_until, self.gossip_until = knock_until, gossip_until
        self.up_at = self.done_at = NEVER
        self.heard: Dict[int, Json] = {}
        self.gossip: Set[int] = set()
        self.syn: Set[int] = set()
        self.acked = 0
        self.tcp: Dict[int, str] = dict.fromkeys(out.tcp, "")
        self.samples: List[Tuple[float, float]] = []
        self.latest = (0.0, 0.0)
        self.sent = self.parted = 0
        self.peer_done = False
        self.rungs: List[int] = []
        self.rounds = 0
        self.errors: Dict[int, str] = {}

    # -- what comes in

    def sign(self, now: float) -> None:
        """Something of the peer's agent came in: it is at work."""
        if self.up_at == NEVER:
            self.up_at = now
            self.at = now

    def on_packet(self, stream: int, size: int, flags: int, heard: int, now: float) -> None:
        """A packet arrived whole."""
        self.sign(now)
        book = self.heard.setdefault(stream, {"packets": 0, "largest": 0, "mangled": 0})
        book["packets"] += 1
        book["largest"] = max(book["largest"], size)
        self.acked |= heard
        self.peer_done = self.peer_done or bool(flags & DONE_FLAG)

    def on_mangled(self, stream: int) -> None:
        """A packet arrived that is not what was sent."""
        self.heard.setdefault(stream, {"packets": 0, "largest": 0, "mangled": 0})["mangled"] += 1

    def on_sample(self, rtt: float, offset: float) -> None:
        """A round trip, and how far the peer's clock is ahead."""
        if len(self.samples) < MOST_SAMPLES:
            self.samples.append((rtt, offset))

    # -- where things stand

    def heard_bits(self) -> int:
        """What is known here of the peer's packets, for the peer."""
        bits = sum(bit for stream, bit in self.bits.items() if self.heard.get(stream, {}).get("packets"))
        return bits | (FULL_BIT if self._largest() >= self.back.mtu else 0)

    def _largest(self) -> int:
        return max([book["largest"] for book in self.heard.values()] or [0])

    def settle_at(self) -> float:
        """When what is missing counts as lost."""
        return self.up_at + self.settle if self.up_at != NEVER else self.knock_until

    def _complete(self) -> bool:
        wanted = FULL_BIT | sum(self.bits.values())
        acked = FULL_BIT | sum(self.sent_bits.values())
        return (
            self.heard_bits() & wanted == wanted
            and self.acked & acked == acked
            and all(outcome == "connected" for outcome in self.tcp.values())
            and len(self.samples) >= SAMPLES
        )

    def _gossiped(self, now: float) -> bool:
        return now >= self.gossip_until or self.gossip >= set(self.back.audible)

    def is_done(self, now: float) -> bool:
        """Nothing more is needed of the peer."""
        settled = now >= self.settle_at()
        if self.done_at == NEVER and (settled or self._complete()) and self._gossiped(now):
            self.done_at = now
        return self.done_at != NEVER

    def closed(self, now: float) -> bool:
        """Nothing more is needed of the peer, nor by it."""
        if not self.is_done(now):
            return False
        parted = self.peer_done and self.parted >= PARTING
        return parted or now >= self.done_at + PARTING_LIMIT

    # -- what goes out

    def step(self, now: float) -> Packets:
        """The packets to send now, as (stream, size)."""
        if now < self.at or self.closed(now):
            return []
        done = self.is_done(now)
        if self.up_at == NEVER:
            self.at = now + self.pause
            self.pause = min(self.pause * 1.6, KNOCK_SLOWEST)
        else:
            self.at = now + self.every
        if done:
            self.parted += 1
        self.sent += 1
        return self._small() + ([] if done else self._large(now))

    def flags(self) -> int:
        """What packets say besides."""
        return DONE_FLAG if self.done_at != NEVER else 0

    def _small(self) -> Packets:
        missing = [stream for stream in self.streams if not self.acked & self.sent_bits.get(stream, 0)]
        # One that arrives carries the news; as long as none is known to, each of them is tried.
        proven = [stream for stream in self.streams if self.acked & self.sent_bits.get(stream, 0)]
        return [(stream, SMALL) for stream in proven[:1] + missing]

    def _large(self, now: float) -> Packets:
        if self.acked & FULL_BIT:
            return []
        carriers = [stream for stream in self.streams if stream in (VXLAN_PORT, ICMP)]
        if now < self.up_at + LADDER_AFTER or self.up_at == NEVER:
            return [(stream, self.out.mtu) for stream in carriers] if self.sent % 3 == 1 else []
        if not self.rungs and self.rounds < LADDER_ROUNDS:
            self.rounds += 1
            self.rungs = [self.out.mtu, *ladder(self.out.mtu)]
        now_due, self.rungs = self.rungs[: self.burst], self.rungs[self.burst :]
        return [(stream, size) for size in now_due for stream in carriers]

    def result(self) -> Json:
        """This side's book."""
        times = [rtt * 1000.0 for rtt, _offset in self.samples]
        return {
            "heard": {str(stream): book for stream, book in self.heard.items()},
            "gossip": sorted(self.gossip),
            "syn": sorted(self.syn),
            "tcp": {str(port): outcome or "timeout" for port, outcome in self.tcp.items()},
            "rtt": [round(value, 3) for value in (min(times), sum(times) / len(times), max(times))] if times else None,
            # The quickest round trip has the least doubt.
            "offset": round(min(self.samples)[1], 6) if self.samples else None,
            "sent": self.sent,
            "errors": {str(stream): error for stream, error in self.errors.items()},
        }
