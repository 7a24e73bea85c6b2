# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of one agent: one process, one thread, all peers on all networks at once."""

from __future__ import annotations

import socket
import time
from typing import Any, Callable, Dict, List, Set

from ansible_collections.multihost.overlay.plugins.module_utils._ping_aside_io import Asides
from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import (
    APART,
    CONNECTION,
    DATAGRAM,
    DONE,
    ECHO_REPLY,
    ECHO_REQUEST,
    FULL,
    LOCAL,
    SIZED,
    SMALL,
    STREAM,
    Echo,
    Probe,
    decode,
    decode_answer,
    encode,
    encode_question,
    pack,
    unpack,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import Channel
from ansible_collections.multihost.overlay.plugins.module_utils._ping_pair import (
    KNOCKING,
    Dialogue,
    NameCheck,
    Pair,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import STREAM_SECONDS, round_seconds
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import partners
from ansible_collections.multihost.overlay.plugins.module_utils._ping_tcp import Answerer, Caller, Watch
from ansible_collections.multihost.overlay.plugins.module_utils._ping_wire import Wire

Json = Dict[str, Any]
_BATCH = 256  # packets read in one go before timers get their turn
_ALIAS = 1 << 15  # in a question's number: it asks for the peer's alias
QUESTION, ANSWER = b"?", b"!"  # what a datagram is


class Network:
    """One network as this host sees it: its sockets and a pair for every peer that is measured and has an address."""

    def __init__(
        self, plan: Json, number: int, place: int, channel: Channel, now: float, knock_until: float, turn: int = 0
    ) -> None:
        self.plan, self.number, self.place, self.channel, self.turn = plan, number, place, channel, turn
        self.run = bytes.fromhex(plan["run"])
        self.probes: List[Json] = plan["probes"][number]
        self.timing = plan["timing"]
        self.asides = Asides(plan, number, place, channel, turn)
        # Who was heard here from which other network.
        self.leaks: Set[tuple[int, int]] = set()
        self.pairs = {
            peer: self._pair(peer, now, knock_until)
            for peer in sorted(partners(plan["hosts"], self.timing["peers"])[place])
            if self.probes[peer]["how"] != "none"
        }
        # A container on several networks may be answered with the peer's address on another one; NAME.NETWORK is exact.
        self.suffix = f".{plan['networks'][number]}" if self.probes[place]["networks"] > 1 else ""

    def _pair(self, peer: int, now: float, knock_until: float) -> Pair:
        probe = self.probes[peer]
        pair = Pair(
            self.timing,
            probe["address"],
            now,
            knock_until,
            probe.get("spare", ""),
            alias=bool(probe.get("alias")),
            full=self.channel.mtu,
            stream=STREAM_SECONDS if [self.place, peer] in [list(ends) for ends in self.plan["streams"]] else 0.0,
        )
        pair.held = bool(self.asides.all)
        return pair

    def attend(self, watch: Watch) -> None:
        """Have the loop read this network's sockets."""
        self.watch = watch
        channel = self.channel
        readers = {channel.icmp: self.read_icmp, channel.dns: self.read_dns, channel.sideward: self._read_sideward}
        if channel.outward:
            readers[channel.outward] = self._read_outward
        if self.timing["transport"]:
            readers.update({channel.udp: self.read_udp, channel.listener: self._accept})
        for sock, read in readers.items():
            watch.reading(sock, read)

    def act(self, now: float) -> float:
        """Send what is due; return when the next thing is."""
        wake = self._act_beside(now)
        for peer, pair in self.pairs.items():
            if pair.may_connect() and self.timing["transport"]:
                self._call(peer, pair.tcp, CONNECTION, now)
            if pair.wake_at() <= now:
                self._act_on(peer, pair, now)
            if pair.stream and pair.may_stream():
                self._call(peer, pair.stream, STREAM, now)
            wake = min(wake, pair.wake_at())
        return wake

    def _act_beside(self, now: float) -> float:
        """What is tried beside the pairs begins when all probes are up or given up; until it is over no peer may go."""
        if any(pair.stage == KNOCKING for pair in self.pairs.values()):
            return now + 1.0
        wake = self.asides.act(now)
        if self.asides.finished(now):
            for pair in self.pairs.values():
                pair.release(now)
        return wake

    def _act_on(self, peer: int, pair: Pair, now: float) -> None:
        if pair.name.step(now):
            self._ask(peer, self.probes[peer]["name"], pair.name)
        if pair.alias and pair.alias.step(now):
            self._ask(peer | _ALIAS, self.probes[peer]["alias"], pair.alias)
        for phase, seq in pair.step(now):
            self._send(peer, pair, phase, seq)

    def hurry(self, now: float) -> float:
        """All endpoints are up now: patience begins for those that were not heard; return when all will be done."""
        for pair in self.pairs.values():
            pair.hurry(now)
        return now + self.timing["patience"] + round_seconds(self.timing)

    def _words(self, peer: int, phase: int, seq: int, now: float) -> Probe:
        port = self.channel.port if self.timing["transport"] else 0
        return Probe(self.number, self.place, peer, phase, seq, now, self.turn, port)

    def _send(self, peer: int, pair: Pair, phase: int, seq: int) -> None:
        now = time.monotonic()
        words = self._words(peer, phase, seq, now)
        try:
            if phase == DATAGRAM:
                self.channel.udp.sendto(QUESTION + pack(self.run, words), (pair.name.expected, pair.port))
                return
            packet = encode(self.run, words, {FULL: self.channel.mtu, SIZED: seq}.get(phase, SMALL))
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

    def _call(self, peer: int, talk: Dialogue, phase: int, now: float) -> None:
        """Open a connection to the peer's agent."""
        pair = self.pairs[peer]
        talk.begin(now)
        words = pack(self.run, self._words(peer, phase, 0, now))
        try:
            caller = Caller(self.watch, self.channel.tcp(), words, talk, STREAM_SECONDS if phase == STREAM else 0.0)
            caller.call(pair.name.expected, pair.port)
        except OSError as exc:
            talk.end(False, exc.strerror)

    def _accept(self) -> None:
        try:
            sock, _peer = self.channel.listener.accept()
        except OSError:  # it was given up meanwhile
            return
        sock.setblocking(False)
        Answerer(self.watch, self.run, sock)

    def _ask(self, number: int, name: str, check: NameCheck) -> None:
        try:
            # The question's number is the peer's: so the answer finds its pair.
            self.channel.dns.send(encode_question(number, name + self.suffix))
        except OSError as exc:
            check.answer([], f"127.0.0.11:53: {exc.strerror}")
        except ValueError as exc:
            check.answer([], str(exc))

    def read_dns(self) -> None:
        """Take one answer. A refusal belongs to no question in particular, so all that wait take it."""
        try:
            ident, addresses, error = decode_answer(self.channel.dns.recv(4096))
        except BlockingIOError:
            return
        except OSError as exc:
            for check in [check for pair in self.pairs.values() for check in pair.checks]:
                if check.addresses == []:
                    check.answer([], f"127.0.0.11:53: {exc.strerror}")
            return
        pair = self.pairs.get(ident & ~_ALIAS) if ident >= 0 else None
        asked = pair and (pair.alias if ident & _ALIAS else pair.name)
        if asked:
            asked.answer(addresses, error)

    def read_icmp(self) -> None:
        """Take what has arrived."""
        for packet in _packets(self.channel.icmp):
            echo = decode(self.run, packet)
            if echo is not None and echo.probe.network == self.number:
                self._follow(echo.probe, socket.inet_ntoa(packet[12:16]))
                self._sort(echo, time.monotonic())
                if echo.probe.phase == LOCAL:
                    self.asides.take(packet)

    def _read_sideward(self) -> None:
        """Nothing is expected there: who reaches another network is known by whom it reached. But the queue is emptied."""
        for _packet in _packets(self.channel.sideward):
            continue

    def _read_outward(self) -> None:
        if self.channel.outward:
            for packet in _packets(self.channel.outward):
                self.asides.take(packet)

    def read_udp(self) -> None:
        """Send questions back as answers; take answers."""
        for _count in range(_BATCH):
            try:
                data, source = self.channel.udp.recvfrom(2048)
                probe = unpack(self.run, data, 1)
                if probe is None or probe.network != self.number or probe.turn != self.turn:
                    continue
                self._sort_datagram(data, source, probe)
            except OSError:
                return

    def _sort_datagram(self, data: bytes, source: Any, probe: Probe) -> None:
        now = time.monotonic()
        if data[:1] == QUESTION and probe.target == self.place and probe.sender in self.pairs:
            self.pairs[probe.sender].on_heard(DATAGRAM, probe.seq, now)
            self.channel.udp.sendto(ANSWER + data[1:], source)
        elif data[:1] == ANSWER and probe.sender == self.place and probe.target in self.pairs:
            self.pairs[probe.target].on_reply(DATAGRAM, probe.seq, now - probe.stamp, now)

    def _follow(self, probe: Probe, source: str) -> None:
        """A peer that could not have the address that was planned for it knocks from its spare one."""
        if (
            probe.target == self.place
            and probe.sender in self.pairs
            and source == self.probes[probe.sender].get("spare")
        ):
            pair = self.pairs[probe.sender]
            self.probes[probe.sender]["address"] = source
            for check in pair.checks:
                check.expected = source

    def _sort(self, echo: Echo, now: float) -> None:
        probe = echo.probe
        if probe.phase == FULL and echo.size != self.channel.mtu:
            # Networks of different MTU at the two ends: what arrived was not full-size here, so it proves nothing.
            return
        if echo.kind == ECHO_REPLY and probe.sender == self.place and probe.target in self.pairs:
            if probe.turn == self.turn:
                self.pairs[probe.target].on_reply(probe.phase, probe.seq, now - probe.stamp, now, echo.size)
        elif echo.kind == ECHO_REQUEST and probe.target == self.place:
            self._hear(probe, echo.size, now)

    def _hear(self, probe: Probe, size: int, now: float) -> None:
        if probe.phase == APART:
            self.leaks.add((probe.seq, probe.sender))
        elif probe.sender in self.pairs and probe.turn >= self.turn:
            # Who is in its next round is done with this one, though its word was lost.
            phase = probe.phase if probe.turn == self.turn else DONE
            self.pairs[probe.sender].on_heard(phase, probe.seq, now, size if phase in (FULL, SIZED) else 0, probe.port)

    def finished(self, now: float) -> bool:
        """Everything is measured, and every peer has said that it needs this host no more. Without peers the rest still has its time."""
        return self.asides.finished(now) and all(pair.finished() for pair in self.pairs.values())

    def result(self, wire: Wire | None = None) -> Json:
        """This host's book for the network."""
        hosts = self.plan["hosts"]
        peers = {hosts[peer]: pair.result() for peer, pair in self.pairs.items()}
        for peer in self.pairs:
            peers[hosts[peer]]["wire"] = wire.of(self.number, peer) if wire else None
        return {
            "error": None,
            "kind": None,
            "mtu": self.channel.mtu,
            "peers": peers,
            "asides": self.asides.result(),
            "leaks": sorted([self.plan["networks"][number], hosts[sender]] for number, sender in self.leaks),
        }


def _packets(sock: socket.socket) -> Any:
    """What has arrived at a raw socket, so much that timers get their turn."""
    for _count in range(_BATCH):
        try:
            yield sock.recv(65535)
        except OSError:
            return


def run_loop(networks: List[Network], finish: float, told: Callable[[], bool], wire: Wire | None = None) -> None:
    """Measure until all is done, or until ``finish`` on the monotonic clock; ``told`` is whether all endpoints are known to be up."""
    watch = Watch()
    for network in networks:
        network.attend(watch)
    if wire:
        watch.reading(wire.sock, wire.read)
    try:
        _turn(networks, finish, told, watch)
    finally:
        watch.close()


def _turn(networks: List[Network], finish: float, told: Callable[[], bool], watch: Watch) -> None:
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
        if all(network.finished(now) for network in networks):
            return
        watch.wait(wake - time.monotonic())
