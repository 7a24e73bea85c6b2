# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of one agent of the underlay's probe: one process, one thread, all peers and ports at once."""

from __future__ import annotations

import errno
import select
import socket
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._probe_codec import (
    ICMP,
    MangledError,
    Packet,
    decode_icmp,
    decode_udp,
    encode,
    ports_of,
)
from ansible_collections.multihost.overlay.plugins.module_utils._probe_pair import Pair
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import (
    Expected,
    bound_ports,
    limits,
    peers_of,
)
from ansible_collections.multihost.overlay.plugins.module_utils._probe_sockets import Sockets, route_mtu

Json = Dict[str, Any]
_BATCH = 256  # packets read in one go before timers get their turn
_TCP_AGAIN = 0.25  # seconds after a refusal
_TCP_STALE = 0.7  # a first packet that was lost is sent anew by a new call, sooner than the kernel would
_OUTCOMES = {
    0: "connected",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
}


class Call:
    """Attempts to connect to one port of one peer: the handshake only, nothing is sent."""

    def __init__(self, source: str, target: str, port: int) -> None:
        self.source, self.target = source, (target, port)
        self.sock: socket.socket | None = None
        self.begun = 0.0
        self.again = 0.0
        self.outcome = ""

    def act(self, now: float) -> None:
        """Begin, look, or begin again."""
        if self.sock is None and now >= self.again:
            self._begin(now)
        elif self.sock is not None:
            self._look(self.sock, now)

    def _begin(self, now: float) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.begun = now
        try:
            self.sock.bind((self.source, 0))
            number = self.sock.connect_ex(self.target)
        except OSError as exc:
            number = exc.errno or errno.EIO
        if number not in (0, errno.EINPROGRESS):
            self._end(number, now)

    def _look(self, sock: socket.socket, now: float) -> None:
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLOUT)
        if poll.poll(0):
            self._end(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), now)
        elif now - self.begun > _TCP_STALE:
            self._end(errno.ETIMEDOUT, now)

    def _end(self, number: int, now: float) -> None:
        self.close()
        outcome = _OUTCOMES.get(number, errno.errorcode.get(number, str(number)))
        # Refusals by a firewall are sent at a limited rate: silence after one is the same refusal.
        if outcome != "timeout" or not self.outcome:
            self.outcome = outcome
        self.again = now if outcome == "timeout" else now + _TCP_AGAIN

    def close(self) -> None:
        """Hang up without a word: who listens sees the end of an empty connection."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Probe:
    """One run on one host: the sockets, and a pair for every peer."""

    def __init__(self, plan: Json, place: int, now: float) -> None:
        self.plan, self.place = plan, place
        self.run = bytes.fromhex(plan["run"])
        self.addresses = plan["addresses"]
        self.number_of = {address: number for number, address in enumerate(self.addresses)}
        ports = bound_ports(plan, place)
        self.sockets = Sockets(self.addresses[place], ports["udp"], ports["tcp"])
        knock, self.finish, _last, _keep = limits(plan, place)
        gossip_until = now + plan["timing"]["gossip"]
        # An internal hook of the tests, which must not set a clock: seconds that this host's would be ahead.
        self.shift = float((plan.get("clock_shift") or {}).get(plan["hosts"][place], 0.0))
        self.pairs: Dict[int, Pair] = {}
        self.calls: Dict[Tuple[int, int], Call] = {}
        for peer in peers_of(plan, place):
            out, back = Expected(plan, place, peer), Expected(plan, peer, place)
            self.pairs[peer] = Pair(out, back, now, now + knock, gossip_until, len(self.addresses))
            for port in out.tcp:
                self.calls[peer, port] = Call(self.addresses[place], self.addresses[peer], port)
        self.finish += now

    def act(self, now: float) -> None:
        """Send what is due, and look after the calls."""
        for peer, pair in self.pairs.items():
            for stream, size in pair.step(now):
                self._send(peer, pair, stream, size)
        for (peer, port), call in self.calls.items():
            if call.outcome != "connected" and not self.pairs[peer].closed(now):
                call.act(now)
                # A call that is under way again has not failed yet, but so far it has not got through.
                self.pairs[peer].tcp[port] = call.outcome

    def _send(self, peer: int, pair: Pair, stream: int, size: int) -> None:
        echo, received = pair.latest
        now = time.monotonic()
        packet = Packet(
            sender=self.place,
            target=peer,
            stream=stream,
            flags=pair.flags(),
            heard=pair.heard_bits(),
            size=size,
            stamp=now,
            clock=time.time() + self.shift,
            echo=echo,
            hold=now - received if echo else 0.0,
        )
        try:
            self.sockets.send(stream, encode(self.run, packet), self.addresses[peer])
        except OSError as exc:
            pair.errors[stream] = exc.strerror or str(exc)

    def read(self) -> None:
        """Take what has arrived."""
        self.sockets.drain()
        self._drain(self.sockets.udp, self._on_udp)
        self._drain(self.sockets.icmp, self._on_icmp)
        self._drain(self.sockets.tcp, self._on_syn)

    @staticmethod
    def _drain(sock: socket.socket, take: Callable[[bytes], None]) -> None:
        for _count in range(_BATCH):
            try:
                data = sock.recv(65535)
            except OSError:
                return
            take(data)

    def _on_icmp(self, data: bytes) -> None:
        with suppress(MangledError):  # no program needs ICMP; it only helps to say where a path ends
            self._on_packet(decode_icmp(self.run, data), ICMP)

    def _on_udp(self, data: bytes) -> None:
        address, _source, port = ports_of(data)
        peer = self.number_of.get(address)
        try:
            packet = decode_udp(self.run, data)
        except MangledError:
            if peer in self.pairs:
                self.pairs[peer].on_mangled(port)
            return
        if packet is not None:
            self._on_packet(packet, port)
        elif peer in self.pairs and port in self.pairs[peer].back.gossip:
            self.pairs[peer].gossip.add(port)

    def _on_packet(self, packet: Packet | None, stream: int) -> None:
        if packet is None or packet.target != self.place or packet.sender not in self.pairs:
            return
        pair, now = self.pairs[packet.sender], time.monotonic()
        pair.on_packet(stream, packet.size, packet.flags, packet.heard, now)
        pair.latest = (packet.stamp, now)
        if packet.echo:
            rtt = max(0.0, now - packet.echo - packet.hold)
            pair.on_sample(rtt, packet.clock + rtt / 2 - time.time() - self.shift)

    def _on_syn(self, data: bytes) -> None:
        address, _source, port = ports_of(data)
        peer = self.number_of.get(address)
        if peer in self.pairs and port in self.pairs[peer].back.tcp:
            self.pairs[peer].syn.add(port)

    def wake_at(self, now: float) -> float:
        """When there is something to do next. Calls are looked at often until they are through."""
        calling = any(call.outcome != "connected" for call in self.calls.values())
        due = [max(pair.at, now + 0.002) for pair in self.pairs.values() if not pair.closed(now)]
        return min([now + (0.02 if calling else 0.25), *due])

    def finished(self, now: float) -> bool:
        """All that can be proven is."""
        return now >= self.finish or all(pair.closed(now) for pair in self.pairs.values())

    def result(self) -> Json:
        """This host's books."""
        peers = {self.plan["hosts"][peer]: pair.result() for peer, pair in self.pairs.items()}
        own = self.addresses[self.place]
        for peer in self.pairs:
            peers[self.plan["hosts"][peer]]["route_mtu"] = route_mtu(own, self.addresses[peer])
        return {"peers": peers}

    def close(self) -> None:
        """Let go of all sockets."""
        for call in self.calls.values():
            call.close()
        self.sockets.close()


def run_probe(probe: Probe, dismissed: Callable[[], bool] = lambda: False) -> None:
    """Work until all is done, until the probe's end, or until it is sent away."""
    poll = select.poll()
    for sock in (probe.sockets.udp, probe.sockets.icmp, probe.sockets.tcp):
        poll.register(sock.fileno(), select.POLLIN)
    now = time.monotonic()
    while not probe.finished(now) and not dismissed():
        probe.act(now)
        poll.poll(max(0.0, probe.wake_at(now) - time.monotonic()) * 1000)
        now = time.monotonic()
        probe.read()
