# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of one agent: one process, one thread, all peers on all networks at once."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Set

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
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
from ansible_collections.multihost.overlay.plugins.module_utils._ping_tcp import Answerer, Caller, Watch
from ansible_collections.multihost.overlay.plugins.module_utils._ping_wire import Wire

Json = Dict[str, Any]
_BATCH = 256  # packets read in one go before timers get their turn
LOOK_EVERY = 1.0  # seconds between questions for addresses
# Seconds. Packets are taken when they arrive, but all peers are gone through only so often: that costs the more the more there are.
PACE = 0.02
_ALIAS = 1 << 15  # in a question's number: it asks for the peer's alias
FULL_TABLES = (errno.EMFILE, errno.ENFILE)
QUESTION, ANSWER = b"?", b"!"  # what a datagram is


class Network:
    """One network as this host sees it: its sockets and a pair for every peer that is measured and has an address."""

    def __init__(
        self, plan: Json, number: int, place: int, channel: Channel, now: float, knock_until: float, peers: Set[int]
    ) -> None:
        self.plan, self.number, self.place, self.channel = plan, number, place, channel
        self.run = bytes.fromhex(plan["run"])
        self.probes: List[Json] = plan["probes"][number]
        self.timing = plan["timing"]
        self.asides = Asides(plan, number, place, channel)
        # How to ask the engine for peers' addresses, where they are not as planned, and when to ask next.
        self.lookup: Callable[[], Dict[str, str]] | None = None
        self.look_at = now
        # Who was heard here from which other network.
        self.leaks: Set[tuple[int, int]] = set()
        measured = [peer for peer in sorted(peers) if self.probes[peer]["how"] != "none"]
        # For each peer the results of the rounds that are over; each pair goes through the rounds for itself.
        self.over: Dict[int, List[Json]] = {peer: [] for peer in measured}
        self.pairs = {peer: self._pair(peer, now, knock_until) for peer in measured}
        for pair in self.pairs.values():
            pair.held = True
        # A container on several networks may be answered with the peer's address on another one; NAME.NETWORK is exact.
        self.suffix = f".{plan['networks'][number]}" if self.probes[place]["networks"] > 1 else ""

    def _pair(self, peer: int, now: float, knock_until: float) -> Pair:
        probe = self.probes[peer]
        last = len(self.over[peer]) == self.timing["rounds"] - 1
        streams = last and [self.number, self.place, peer] in [list(ends) for ends in self.plan["streams"]]
        return Pair(
            self.timing,
            probe["address"],
            now,
            knock_until,
            probe.get("spare", ""),
            alias=bool(probe.get("alias")),
            full=self.channel.mtu,
            stream=STREAM_SECONDS if streams else 0.0,
            rest=round_seconds(self.timing),
        )

    def attend(self, watch: Watch) -> None:
        """Have the loop read this network's sockets."""
        self.watch = watch
        channel = self.channel
        watch.reading(channel.icmp, self.read_icmp)
        watch.reading(channel.dns, self.read_dns)
        if channel.outward:
            watch.reading(channel.outward, self._read_outward)
        if channel.udp and channel.listener:
            watch.reading(channel.udp, self.read_udp)
            watch.reading(channel.listener, self._accept)

    def act(self, now: float, quiet: bool) -> float:
        """Send what is due; return when the next thing is. ``quiet`` is whether a stream is in nobody's way."""
        self._look_up(now)
        wake = self._act_beside(now)
        for peer in self.pairs:
            if self._has_next(peer):
                self.over[peer].append(self.pairs[peer].result())
                self.pairs[peer] = self._pair(peer, now, now + self.timing["patience"])
            pair = self.pairs[peer]
            if not pair.finished(now):
                self._act_on(peer, pair, now, quiet)
                wake = min(wake, now if self._has_next(peer) else pair.wake_at())
        return wake

    def _look_up(self, now: float) -> None:
        """Ask for the addresses of peers that have none yet."""
        missing = [peer for peer in self.pairs if not self.probes[peer]["address"]]
        if not self.lookup or not missing or now < self.look_at:
            return
        self.look_at = now + LOOK_EVERY
        with suppress(DockerError):  # it is asked again
            known = self.lookup()
            for peer in missing:
                self._move(peer, known.get(self.probes[peer]["name"], ""))

    def _has_next(self, peer: int) -> bool:
        """Whether both ends are done with a round that is not the last."""
        return self.pairs[peer].agreed() and len(self.over[peer]) < self.timing["rounds"] - 1

    def measured(self) -> bool:
        """Whether nothing is on its way that a stream could be in the way of."""
        return all(pair.measured() for pair in self.pairs.values())

    def _act_beside(self, now: float) -> float:
        """What is tried beside the pairs begins when all probes are up or given up."""
        if any(pair.stage == KNOCKING for pair in self.pairs.values()):
            return now + 1.0
        return self.asides.act(now)

    def release(self, now: float) -> None:
        """Nothing beside the pairs needs a peer any more."""
        for pair in self.pairs.values():
            pair.release(now)

    def _act_on(self, peer: int, pair: Pair, now: float, quiet: bool) -> None:
        if pair.may_connect() and self.channel.port:
            self._call(peer, pair.tcp, CONNECTION, now)
        if pair.wake_at() <= now:
            self._step(peer, pair, now)
        if pair.stream and quiet and pair.wants_stream():
            self._call(peer, pair.stream, STREAM, now)

    def _step(self, peer: int, pair: Pair, now: float) -> None:
        if pair.name.step(now):
            self._ask(peer, self.probes[peer]["name"], pair.name)
        if pair.alias and pair.alias.step(now):
            self._ask(peer | _ALIAS, self.probes[peer]["alias"], pair.alias)
        for phase, seq in pair.step(now):
            self._send(peer, pair, phase, seq)

    def hurry(self, now: float) -> None:
        """All endpoints are up now: patience begins for those that were not heard."""
        for pair in self.pairs.values():
            pair.hurry(now)

    def _words(self, peer: int, phase: int, seq: int, now: float) -> Probe:
        return Probe(self.number, self.place, peer, phase, seq, now, len(self.over[peer]), self.channel.port)

    def _send(self, peer: int, pair: Pair, phase: int, seq: int) -> None:
        now = time.monotonic()
        words = self._words(peer, phase, seq, now)
        try:
            if phase == DATAGRAM and self.channel.udp:
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
        if not planned:
            return []
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
            # Too many open files are no fault of the path.
            talk.end(None if exc.errno in FULL_TABLES else False, exc.strerror)

    def _accept(self) -> None:
        listener = self.channel.listener
        try:
            sock, _peer = listener.accept() if listener else (None, None)
        except OSError as exc:  # it was given up meanwhile
            if listener and exc.errno in FULL_TABLES:
                self.watch.forget(listener)
            return
        if sock:
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

    def _read_outward(self) -> None:
        if self.channel.outward:
            for packet in _packets(self.channel.outward):
                self.asides.take(packet)

    def read_udp(self) -> None:
        """Send questions back as answers; take answers."""
        for _count in range(_BATCH):
            try:
                if not self.channel.udp:
                    return
                data, source = self.channel.udp.recvfrom(2048)
                probe = unpack(self.run, data, 1)
                if probe is not None and probe.network == self.number:
                    self._sort_datagram(self.channel.udp, data, source, probe)
            except OSError:
                return

    def _sort_datagram(self, udp: socket.socket, data: bytes, source: Any, probe: Probe) -> None:
        now = time.monotonic()
        if data[:1] == QUESTION and probe.target == self.place and self._in_turn(probe.sender, probe):
            self.pairs[probe.sender].on_heard(DATAGRAM, probe.seq, now)
            udp.sendto(ANSWER + data[1:], source)
        elif data[:1] == ANSWER and probe.sender == self.place and self._in_turn(probe.target, probe):
            self.pairs[probe.target].on_reply(DATAGRAM, probe.seq, now - probe.stamp, now)

    def _in_turn(self, peer: int, probe: Probe) -> bool:
        """Whether a packet is of the round that is under way with a peer."""
        return peer in self.pairs and probe.turn == len(self.over[peer])

    def _follow(self, probe: Probe, source: str) -> None:
        """A peer that could not have the address that was planned for it knocks from another: its spare one, or one that Docker chose."""
        theirs = probe.target == self.place and probe.sender in self.pairs and probe.phase != APART
        # Only a temporary endpoint has a spare address, or none as yet.
        if theirs and "spare" in self.probes[probe.sender] and self.probes[probe.sender]["address"] != source:
            self._move(probe.sender, source)

    def _move(self, peer: int, address: str) -> None:
        self.probes[peer]["address"] = address
        for check in self.pairs[peer].checks:
            check.expected = address

    def _sort(self, echo: Echo, now: float) -> None:
        probe = echo.probe
        if echo.kind == ECHO_REQUEST and probe.target == self.place:
            self._hear(probe, echo.size, now)
        elif echo.kind == ECHO_REPLY and probe.sender == self.place and self._in_turn(probe.target, probe):
            self.pairs[probe.target].on_reply(probe.phase, probe.seq, now - probe.stamp, now, echo.size)

    def _hear(self, probe: Probe, size: int, now: float) -> None:
        if probe.phase == APART:
            self.leaks.add((probe.seq, probe.sender))
        elif self._in_turn(probe.sender, probe):
            large = size if probe.phase in (FULL, SIZED) else 0
            self.pairs[probe.sender].on_heard(probe.phase, probe.seq, now, large, probe.port)
        elif probe.sender in self.pairs and probe.turn > len(self.over[probe.sender]):
            # Who is in its next round is done with this one, though its word was lost.
            self.pairs[probe.sender].on_heard(DONE, 0, now)

    def finished(self, now: float) -> bool:
        """Everything is measured, and no peer needs this host any more, or it is not waited for."""
        done = all(pair.finished(now) and not self._has_next(peer) for peer, pair in self.pairs.items())
        return done and self.asides.finished(now)

    def result(self, wire: Wire | None = None) -> Json:
        """This host's book for the network: of each peer a result for each round."""
        hosts = self.plan["hosts"]
        return {
            "error": None,
            "kind": None,
            "mtu": self.channel.mtu,
            "sees": bool(wire and wire.sees(self.number)),
            "peers": {hosts[peer]: self._books(peer, wire) for peer in self.pairs},
            "asides": self.asides.result(),
            "leaks": sorted([self.plan["networks"][number], hosts[sender]] for number, sender in self.leaks),
        }

    def _books(self, peer: int, wire: Wire | None) -> List[Json]:
        results = [*self.over[peer], self.pairs[peer].result()]
        return [
            dict(result, wire=wire.of(self.number, peer, turn) if wire else None) for turn, result in enumerate(results)
        ]


def _packets(sock: socket.socket) -> Any:
    """What has arrived at a raw socket, so much that timers get their turn."""
    for _count in range(_BATCH):
        try:
            yield sock.recv(65535)
        except OSError:
            return


def run_loop(networks: List[Network], told: Callable[[], bool], wire: Wire | None = None) -> None:
    """Measure until all is done or given up; ``told`` is whether all endpoints are known to be up."""
    watch = Watch()
    for network in networks:
        network.attend(watch)
    try:
        _turn(networks, told, watch, wire)
    finally:
        if wire:
            wire.read()
        watch.close()


def _turn(networks: List[Network], told: Callable[[], bool], watch: Watch, wire: Wire | None) -> None:
    waiting = True
    pace = min([PACE, *(network.timing["interval"] / 2 for network in networks)])
    while True:
        now = time.monotonic()
        if waiting and told():
            waiting = False
            for network in networks:
                network.hurry(now)
        quiet = all(network.asides.finished(now) for network in networks)
        if quiet:
            for network in networks:
                network.release(now)
        quiet = quiet and all(network.measured() for network in networks)
        wake = min([now + 1.0, *(network.act(now, quiet) for network in networks)])
        # After acting, which may have been the last thing to do: nobody would wake us.
        if all(network.finished(now) for network in networks):
            return
        # It only counts, and needs no waking.
        if wire:
            wire.read()
        _listen(watch, wake, now + pace)


def _listen(watch: Watch, wake: float, least: float) -> None:
    """Take what arrives until something is due or has come, and until the least of times."""
    watch.wait(wake - time.monotonic())
    while (left := least - time.monotonic()) > 0:
        watch.wait(left)
