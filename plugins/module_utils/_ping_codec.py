# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of verify, which say who sent them and why, and the DNS question asked in a container. No I/O."""

from __future__ import annotations

import struct
from typing import NamedTuple

ECHO_REPLY = 0
ECHO_REQUEST = 8

# What a packet is for. A knock asks whether the peer is up and is not counted; the series is counted; full is as large
# as the interface allows and must not be fragmented, sized is smaller than that; done tells the peer that it is not needed any more.
# Datagrams and connections carry the same words over UDP and TCP; a stream goes on after them. The last three are not between the
# probes of a pair: what must not arrive at another network, what leaves the overlay, what stays on its host.
KNOCK, SERIES, FULL, DONE, SIZED, DATAGRAM, CONNECTION, STREAM, APART, EGRESS, LOCAL = range(11)

SMALL = 84  # bytes with the IP header: what ping sends
IP_HEADER = 20
MAGIC = b"MHOV"
_ICMP = struct.Struct("!BBHHH")
_PROBE = struct.Struct("!4s8sHHHBxHHId")
WORDS = _PROBE.size  # bytes of what a datagram or a connection begins with
_DNS = struct.Struct("!HHHHHH")
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


class Probe(NamedTuple):
    """The payload of a packet. Hosts are numbers: their places in the plan's list. ``port`` is where the sender listens."""

    network: int
    sender: int
    target: int
    phase: int
    seq: int
    stamp: float
    turn: int = 0
    port: int = 0


class Echo(NamedTuple):
    """An echo of this run as it arrived."""

    kind: int
    probe: Probe
    size: int


def checksum(data: bytes) -> int:
    """The internet checksum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pack(run: bytes, probe: Probe) -> bytes:
    """Return the payload."""
    network, sender, target, phase, seq, stamp, turn, port = probe
    return _PROBE.pack(MAGIC, run, network, sender, target, phase, turn, port, seq, stamp)


def unpack(run: bytes, data: bytes, at: int = 0) -> Probe | None:
    """Read a payload; None when it is not one of this run."""
    if len(data) < at + WORDS:
        return None
    magic, owner, network, sender, target, phase, turn, port, seq, stamp = _PROBE.unpack_from(data, at)
    if magic != MAGIC or owner != run:
        return None
    return Probe(network, sender, target, phase, seq, stamp, turn, port)


def encode(run: bytes, probe: Probe, size: int = SMALL, kind: int = ECHO_REQUEST) -> bytes:
    """Return an ICMP message that makes an IP packet of ``size`` bytes (never less than the payload needs)."""
    payload = pack(run, probe)
    payload += b"\0" * (size - IP_HEADER - _ICMP.size - len(payload))
    ident = int.from_bytes(run[:2], "big")
    head = _ICMP.pack(kind, 0, 0, ident, probe.seq & 0xFFFF)
    return _ICMP.pack(kind, 0, checksum(head + payload), ident, probe.seq & 0xFFFF) + payload


def decode(run: bytes, packet: bytes) -> Echo | None:
    """Read an IP packet from a raw socket; None when it is not an echo of this run."""
    start = (packet[0] & 0x0F) * 4 if packet else 0
    probe = unpack(run, packet, start + _ICMP.size) if packet else None
    if probe is None or packet[start + 1] or packet[start] not in (ECHO_REQUEST, ECHO_REPLY):
        return None
    return Echo(packet[start], probe, len(packet))


def encode_question(ident: int, name: str) -> bytes:
    """Ask for the A records of a name."""
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} cannot be asked of a DNS server: each part between dots has 1 to 63 bytes")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _DNS.pack(ident, 0x0100, 1, 0, 0, 0) + question + struct.pack("!HH", 1, 1)


def _skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] & 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def _records(data: bytes, questions: int, answers: int) -> list[str]:
    at = _DNS.size
    for _unused in range(questions):
        at = _skip_name(data, at) + 4
    found = []
    for _unused in range(answers):
        at = _skip_name(data, at)
        kind, _class, _ttl, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        if kind == 1 and length == 4:
            found.append(".".join(str(byte) for byte in struct.unpack_from("4B", data, at)))
        at += length
    return found


def decode_answer(data: bytes) -> tuple[int, list[str], str | None]:
    """Return the question's id, the addresses, and what the server said when it gave none."""
    try:
        ident, flags, questions, answers, _unused, _unused2 = _DNS.unpack_from(data)
        addresses = _records(data, questions, answers)
    except (struct.error, IndexError):
        return -1, [], "an answer that is not DNS"
    error = None if addresses else _RCODES.get(flags & 0x0F, "no address")
    return ident, addresses, error
