# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends what is tried beside the pairs from one probe, and takes the answers."""

from __future__ import annotations

import socket
import time
from typing import Any, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_asides import (
    HOPS,
    MOST_HOPS,
    Aside,
    asides_of,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import (
    APART,
    ECHO_REPLY,
    Probe,
    decode,
    encode,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import Channel

Json = Dict[str, Any]


class Asides:
    """All of one probe's."""

    def __init__(self, plan: Json, number: int, place: int, channel: Channel) -> None:
        self.run = bytes.fromhex(plan["run"])
        self.number, self.place, self.channel = number, place, channel
        self.all: List[Aside] = asides_of(plan, number, place)

    def act(self, now: float) -> float:
        """Send what is due; return when the next thing is."""
        for aside in self.all:
            if aside.step(now):
                self._send(aside)
        return min([aside.at for aside in self.all if not aside.finished(now)], default=now + 1.0)

    def finished(self, now: float) -> bool:
        return all(aside.finished(now) for aside in self.all)

    def _send(self, aside: Aside) -> None:
        sock: socket.socket | None = getattr(self.channel, aside.via)
        if sock is None:
            aside.error = "the container has no default route"
            return
        probe = Probe(aside.network, self.place, aside.target, aside.phase, self.number, time.monotonic())
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOPS if aside.phase == APART else MOST_HOPS)
            sock.sendto(encode(self.run, probe), (aside.address, 0))
        except OSError as exc:
            aside.error = exc.strerror

    def take(self, packet: bytes) -> None:
        """An answer to one of them, if it is that."""
        echo = decode(self.run, packet)
        if echo is None or echo.kind != ECHO_REPLY or echo.probe.sender != self.place:
            return
        probe = echo.probe
        for aside in self.all:
            if (aside.phase, aside.target, aside.network) == (probe.phase, probe.target, probe.network) and (
                probe.seq == self.number
            ):
                aside.replied += 1

    def result(self) -> List[Json]:
        """What is written down."""
        return [aside.result() for aside in self.all]
