# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of the underlay's probe: one payload, carried by ICMP, by plain UDP, and behind a VXLAN header. No I/O."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import ECHO_REQUEST, IP_HEADER, checksum

VXLAN_PORT = 4789
# The reserved VNI. Docker allocates from the bottom, classic mode from 256 up and Swarm from 4096 up, so the last but one
# of the 16 million can be no network's. A kernel whose vxlan owns the port drops an unknown VNI without a word.
VNI = 0xFFFFFE
MAGIC = b"MHOP"
SMALL = 128  # bytes of the IP packet
ICMP = 0  # the stream that is no port

_ICMP_HEAD = struct.Struct("!BBHHH")
_UDP_HEADER = 8
# Inside the tunnel: a frame from and to addresses that nobody has, of the type that is free for local experiments.
_VXLAN = struct.pack("!B3xI", 0x08, VNI << 8) + b"\x02MHOV\x02" + b"\x02MHOV\x01" + b"\x88\xb5"
VXLAN_SIZE = len(_VXLAN)
# Before it: magic, and a digest of all that follows.
_BODY = struct.Struct("!8sHHHHIHxxdddd")
_HEAD = struct.Struct("!4sI")


class Packet(NamedTuple):
    """The payload. Hosts are numbers: their places in the plan's list. ``size`` is that of the whole IP packet.

    ``heard`` says to the peer what of its packets has come in, as bits. ``echo`` gives the peer's latest stamp back, which
    lay here for ``hold`` seconds; ``clock`` is the sender's wall clock when it was sent.
    """

    sender: int
    target: int
    stream: int
    flags: int
    heard: int
    size: int
    stamp: float
    clock: float
    echo: float
    hold: float


class MangledError(ValueError):
    """A packet of this run whose bytes are not those that were sent."""


def _payload(run: bytes, packet: Packet, length: int) -> bytes:
    body = _BODY.pack(
        run,
        packet.sender,
        packet.target,
        packet.stream,
        packet.flags,
        packet.heard,
        packet.size,
        packet.stamp,
        packet.clock,
        packet.echo,
        packet.hold,
    )
    body += bytes(max(0, length - _HEAD.size - len(body)))
    return _HEAD.pack(MAGIC, zlib.crc32(body)) + body


def _overhead(stream: int) -> int:
    return _UDP_HEADER + (VXLAN_SIZE if stream == VXLAN_PORT else 0)


def encode(run: bytes, packet: Packet) -> bytes:
    """Return what is handed to the stream's socket: an ICMP message, or a datagram's content."""
    content = _payload(run, packet, packet.size - IP_HEADER - _overhead(packet.stream))
    if packet.stream == VXLAN_PORT:
        return _VXLAN + content
    if packet.stream != ICMP:
        return content
    ident = int.from_bytes(run[:2], "big")
    head = _ICMP_HEAD.pack(ECHO_REQUEST, 0, 0, ident, 0)
    return _ICMP_HEAD.pack(ECHO_REQUEST, 0, checksum(head + content), ident, 0) + content


def _decode_payload(run: bytes, data: bytes) -> Packet | None:
    if len(data) < _HEAD.size + _BODY.size:
        return None
    magic, digest = _HEAD.unpack_from(data)
    owner, *fields = _BODY.unpack_from(data, _HEAD.size)
    if magic != MAGIC or owner != run:
        return None
    if zlib.crc32(data[_HEAD.size :]) != digest:
        raise MangledError
    return Packet(*fields)


def _checked(run: bytes, data: bytes, stream: int, size: int) -> Packet | None:
    packet = _decode_payload(run, data)
    if packet is not None and (packet.stream != stream or packet.size != size):
        raise MangledError
    return packet


def header_length(packet: bytes) -> int:
    """The length of an IP packet's header."""
    return (packet[0] & 0x0F) * 4 if packet else 0


def decode_icmp(run: bytes, packet: bytes) -> Packet | None:
    """Read an IP packet from a raw ICMP socket; None when it is no request of this run."""
    start = header_length(packet)
    if len(packet) < start + _ICMP_HEAD.size or packet[start] != ECHO_REQUEST:
        return None
    return _checked(run, packet[start + _ICMP_HEAD.size :], ICMP, len(packet))


def ports_of(packet: bytes) -> tuple[str, int, int]:
    """Sender's address, source port and target port of a UDP or TCP packet from a raw socket."""
    start = header_length(packet)
    source, target = struct.unpack_from("!HH", packet, start)
    return ".".join(str(byte) for byte in packet[12:16]), source, target


def decode_udp(run: bytes, packet: bytes) -> Packet | None:
    """Read an IP packet from a raw UDP socket; None when it is nobody's of this run."""
    start = header_length(packet)
    if len(packet) < start + _UDP_HEADER:
        return None
    port = ports_of(packet)[2]
    data = packet[start + _UDP_HEADER :]
    if port == VXLAN_PORT:
        found = _checked(run, data[VXLAN_SIZE:], port, len(packet))
        if found is not None and data[:VXLAN_SIZE] != _VXLAN:
            raise MangledError
        return found
    return _checked(run, data, port, len(packet))
