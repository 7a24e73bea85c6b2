# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of one agent: one process, one thread, all peers on all networks at once."""

from __future__ import annotations

import select
import socket
import time
from typing import Any, Callable, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import (
    ECHO_REPLY,
    ECHO_REQUEST,
    FULL,
    SMALL,
    Echo,
    Probe,
    decode,
    decode_answer,
    encode,
    encode_question,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import Channel
from ansible_collections.multihost.overlay.plugins.module_utils._ping_pair import Pair
from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import GRACE

Json = Dict[str, Any]
_BATCH = 256  # packets read in one go before timers get their turn


class Network:
    """One network as this host sees it: its sockets and a pair for every peer that has an address."""

    def __init__(self, plan: Json, number: int, place: int, channel: Channel, now: float, knock_until: float) -> None:
        self.number = number
        self.place = place
        self.run = bytes.fromhex(plan["run"])
        self.channel = channel
        self.probes: List[Json] = plan["probes"][number]
        self.timing = plan["timing"]
        self.pairs = {
            peer: Pair(plan["timing"], probe["address"], now, knock_until, probe.get("spare", ""))
            for peer, probe in enumerate(self.probes)
            if peer != place and probe["how"] != "none"
        }
        # A container on several networks may be answered with the peer's address on another one; NAME.NETWORK is exact.
        suffix = f".{plan['networks'][number]}" if self.probes[place]["networks"] > 1 else ""
        self.names = {peer: self.probes[peer]["name"] + suffix for peer in self.pairs}

    def act(self, now: float) -> float:
        """Send what is due; return when the next thing is."""
        wake = now + 1.0
        for peer, pair in self.pairs.items():
            if pair.wake_at() <= now:
                if pair.name.step(now):
                    self._ask(peer, pair)
                for phase, seq in pair.step(now):
                    self._send(peer, pair, phase, seq)
            wake = min(wake, pair.wake_at())
        return wake

    def hurry(self, now: float) -> float:
        """All endpoints are up now: patience begins for those that were not heard; return when all will be done."""
        for pair in self.pairs.values():
            pair.hurry(now)
        return now + 2 * self.timing["patience"] + self.timing["count"] * self.timing["interval"] + GRACE

    def _send(self, peer: int, pair: Pair, phase: int, seq: int) -> None:
        now = time.monotonic()
        size = self.channel.mtu if phase == FULL else SMALL
        packet = encode(self.run, Probe(self.number, self.place, peer, phase, seq, now), size)
        try:
            for address in self._addresses(peer, pair.missed(now)):
                self.channel.icmp.sendto(packet, (address, 0))
        except OSError as exc:
            pair.send_error = exc.strerror

    def _addresses(self, peer: int, missed: bool) -> List[str]:
        """Where a peer may be: who could not have the address that was planned for it has its spare one.

        Only who is missed is looked for there: an engine stops for a second to ask all others for an address that nobody has.
        """
        planned, spare = self.probes[peer]["address"], self.probes[peer].get("spare")
        return [planned, spare] if spare and spare != planned and missed else [planned]

    def _ask(self, peer: int, pair: Pair) -> None:
        try:
            # The question's number is the peer's: so the answer finds its pair.
            self.channel.dns.send(encode_question(peer, self.names[peer]))
        except OSError as exc:
            pair.name.answer([], f"127.0.0.11:53: {exc.strerror}")
        except ValueError as exc:
            pair.name.answer([], str(exc))

    def read_dns(self) -> None:
        """Take one answer. A refusal belongs to no question in particular, so all that wait take it."""
        try:
            ident, addresses, error = decode_answer(self.channel.dns.recv(4096))
        except BlockingIOError:
            return
        except OSError as exc:
            for pair in self.pairs.values():
                if pair.name.addresses == []:
                    pair.name.answer([], f"127.0.0.11:53: {exc.strerror}")
            return
        if ident in self.pairs:
            self.pairs[ident].name.answer(addresses, error)

    def read_icmp(self) -> None:
        """Take what has arrived."""
        for _count in range(_BATCH):
            try:
                packet = self.channel.icmp.recv(65535)
            except OSError:
                return
            echo = decode(self.run, packet)
            if echo is not None and echo.probe.network == self.number:
                self._follow(echo.probe, socket.inet_ntoa(packet[12:16]))
                self._sort(echo, time.monotonic())

    def _follow(self, probe: Probe, source: str) -> None:
        """A peer that could not have the address that was planned for it knocks from its spare one."""
        if (
            probe.target == self.place
            and probe.sender in self.pairs
            and source == self.probes[probe.sender].get("spare")
        ):
            self.probes[probe.sender]["address"] = self.pairs[probe.sender].name.expected = source

    def _sort(self, echo: Echo, now: float) -> None:
        probe = echo.probe
        if probe.phase == FULL and echo.size != self.channel.mtu:
            # Networks of different MTU at the two ends: what arrived was not full-size here, so it proves nothing.
            return
        if echo.kind == ECHO_REPLY and probe.sender == self.place and probe.target in self.pairs:
            self.pairs[probe.target].on_reply(probe.phase, probe.seq, now - probe.stamp, now)
        elif echo.kind == ECHO_REQUEST and probe.target == self.place and probe.sender in self.pairs:
            self.pairs[probe.sender].on_heard(probe.phase, probe.seq, now)

    def finished(self) -> bool:
        """Everything is measured, and every peer has said that it needs this host no more."""
        return all(pair.finished() for pair in self.pairs.values())

    def result(self, hosts: List[str]) -> Json:
        """This host's book for the network."""
        peers = {hosts[peer]: pair.result() for peer, pair in self.pairs.items()}
        return {"error": None, "kind": None, "mtu": self.channel.mtu, "peers": peers}


def run_loop(networks: List[Network], finish: float, told: Callable[[], bool]) -> None:
    """Measure until all is done, or until ``finish`` on the monotonic clock; ``told`` is whether all endpoints are known to be up."""
    readers = {network.channel.icmp: network.read_icmp for network in networks}
    readers.update({network.channel.dns: network.read_dns for network in networks})
    poll = select.poll()
    by_descriptor = {sock.fileno(): read for sock, read in readers.items()}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    waiting = True
    while True:
        now = time.monotonic()
        if now >= finish:
            return
        if waiting and told():
            waiting = False
            finish = min([finish, *(network.hurry(now) for network in networks)])
        wake = min([finish, *(network.act(now) for network in networks)])
        # After acting, which may have been the last thing to do: nobody would wake us.
        if all(network.finished() for network in networks):
            return
        for descriptor, _event in poll.poll(max(0.0, wake - time.monotonic()) * 1000):
            by_descriptor[descriptor]()
