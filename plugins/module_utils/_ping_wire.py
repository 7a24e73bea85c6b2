# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the probes' packets passes the host's own interfaces: tells on which side of a path they vanish.

A packet socket sees what arrives before any rule of INPUT, and what leaves after all rules of OUTPUT (packet(7)). A filter in the kernel
lets through nothing but packets of verify, so that a busy host's traffic costs nothing here. Encrypted overlays are not seen.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Dict, List, Set, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import (
    ECHO_REQUEST,
    EGRESS,
    MAGIC,
    SERIES,
    Probe,
    decode,
)

_ETH_P_ALL, _ETH_P_IP = 3, 0x0800
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE, _BUFFER = 33, 1 << 22
_OUTGOING = 4
_UDP, _ICMP = 17, 1
_BATCH = 256
# Behind the outer IP header without options: UDP 8, VXLAN 8 (RFC 7348), Ethernet 14; then an IP header and ICMP's 8.
INNER = 20 + 8 + 8 + 14
_LOAD_PROTOCOL = (0x28, 0, 0, 0xFFFFF000)  # the packet's ethertype, wherever its header ends
_TAKE, _LEAVE = (0x06, 0, 0, 2048), (0x06, 0, 0, 0)


def packet_filter() -> List[Tuple[int, int, int, int]]:
    """Classic BPF, as (code, jump if true, jump if false, k): an echo of ours, bare or in VXLAN."""
    magic = int.from_bytes(MAGIC, "big")
    return [
        _LOAD_PROTOCOL,
        (0x15, 0, 8, _ETH_P_IP),
        (0x30, 0, 0, 9),  # the protocol in the outer header
        (0x15, 0, 2, _UDP),
        (0x20, 0, 0, INNER + 20 + 8),
        (0x15, 3, 4, magic),
        (0x15, 0, 3, _ICMP),
        (0x20, 0, 0, 20 + 8),
        (0x15, 0, 1, magic),
        _TAKE,
        _LEAVE,
    ]


def _attach(sock: socket.socket) -> None:
    code = b"".join(struct.pack("=HBBI", *step) for step in packet_filter())
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(packet_filter()), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class Wire:
    """What one run's agent saw of its requests on the way out, and of its peers' on the way in."""

    def __init__(self, run: bytes, place: int) -> None:
        self.run, self.place = run, place
        # (network, peer, turn) -> numbers of packets: one that passes several devices, as of a bond, is seen several times.
        self.left: Dict[Tuple[int, int, int], Set[int]] = {}
        self.arrived: Dict[Tuple[int, int, int], Set[int]] = {}
        self.egress: Set[Tuple[int, int]] = set()  # (network, sender)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
        _attach(self.sock)
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)

    def read(self) -> None:
        """Take what has passed; what came before the filter was there is not ours."""
        for _count in range(_BATCH):
            try:
                packet, (_interface, _protocol, direction, *_unused) = self.sock.recvfrom(2048)
            except OSError:
                return
            self.note(packet, direction == _OUTGOING)

    def note(self, packet: bytes, outgoing: bool) -> None:
        """Count a request of this host's or one that is for it."""
        tunnelled = len(packet) > INNER and packet[9] == _UDP
        echo = decode(self.run, packet[INNER:] if tunnelled else packet)
        if echo is None or echo.kind != ECHO_REQUEST:
            return
        probe = echo.probe
        if not tunnelled:
            if probe.phase == EGRESS and probe.target == self.place and not outgoing:
                self.egress.add((probe.network, probe.sender))
        elif probe.phase == SERIES:  # not knocks, which begin before the peer's agent looks
            self._count(probe, outgoing)

    def _count(self, probe: Probe, outgoing: bool) -> None:
        own, peer = (probe.sender, probe.target) if outgoing else (probe.target, probe.sender)
        if own == self.place:
            counts = self.left if outgoing else self.arrived
            counts.setdefault((probe.network, peer, probe.turn), set()).add(probe.seq)

    def of(self, network: int, peer: int, turn: int) -> Dict[str, int]:
        """The counters of a pair in one round, for its book."""
        key = network, peer, turn
        return {"left": len(self.left.get(key, ())), "arrived": len(self.arrived.get(key, ()))}

    def sees(self, network: int) -> bool:
        """Whether anything of a network's was seen at all: else its packets are hidden, and that none was seen says nothing."""
        return any(key[0] == network for key in (*self.left, *self.arrived))
