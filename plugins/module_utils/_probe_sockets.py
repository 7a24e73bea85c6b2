# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of the underlay's probe on one host: ports that are free are really bound, ports that are held are only heard.

A raw socket gets a copy of each datagram that has passed the host's own firewall, also where a program or the kernel's
vxlan owns the port. A filter in the kernel lets only the probe's own datagrams, gossip, and the first packets of TCP
connections through to it, so it costs nothing on a host with traffic. It needs no device, and leaves none behind.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from typing import Dict, Iterable, List, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._probe_codec import MAGIC, VXLAN_PORT, VXLAN_SIZE

_SO_ATTACH_FILTER = 26
_SOL_RAW = 255
_ICMP_FILTER = 1
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_PROBE = 3  # set DF and send the full size, whatever path MTU the kernel believes in
_IP_MTU = 14
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 20

Instruction = Tuple[int, int, int, int]
# Classic BPF, linux/filter.h: the header's length into X; load 4, 2 or 1 bytes at X + k; and; jump if equal; return.
_HEADER, _WORD, _HALF, _BYTE, _AND, _EQUAL, _RETURN = 0xB1, 0x40, 0x48, 0x50, 0x54, 0x15, 0x06
_ALL, _NOTHING = (_RETURN, 0, 0, 0xFFFF), (_RETURN, 0, 0, 0)
_UDP_HEADER = 8
_SYN, _ACK = 0x02, 0x10


def udp_filter(gossip: List[int]) -> List[Instruction]:
    """Datagrams to ``gossip``, and those to the vxlan port that carry our mark: never a container's."""
    program: List[Instruction] = [(_HEADER, 0, 0, 0), (_HALF, 0, 0, 2)]
    left = len(gossip)
    program.append((_EQUAL, left + 1, 0, VXLAN_PORT))
    for place, port in enumerate(gossip):
        # Past the rest of the ports, the refusal, and the two instructions that look for the mark.
        program.append((_EQUAL, left - place - 1 + 4 - 1, 0, port))
    program.append(_NOTHING)
    program.append((_WORD, 0, 0, _UDP_HEADER + VXLAN_SIZE))
    program.append((_EQUAL, 0, 1, int.from_bytes(MAGIC, "big")))
    return [*program, _ALL, _NOTHING]


def tcp_filter(ports: List[int]) -> List[Instruction]:
    """The first packet of each connection to one of ``ports``."""
    program: List[Instruction] = [(_HEADER, 0, 0, 0), (_HALF, 0, 0, 2)]
    for place, port in enumerate(ports):
        program.append((_EQUAL, len(ports) - place, 0, port))
    program.append(_NOTHING)
    program += [(_BYTE, 0, 0, 13), (_AND, 0, 0, _SYN | _ACK), (_EQUAL, 0, 1, _SYN)]
    return [*program, _ALL, _NOTHING]


def _attach(sock: socket.socket, program: List[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


def _raw(address: str, protocol: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
    sock.bind((address, 0))
    sock.setblocking(False)
    return sock


def open_port(proto: str, address: str, port: int) -> socket.socket:
    """Bind a port as the service would; OSError when somebody holds it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    try:
        if proto == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if proto == "tcp":
            # Nobody accepts: the kernel shakes hands, and that is what is to be proven.
            sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def is_held(proto: str, address: str, port: int) -> bool:
    """Whether a program or the kernel has the port."""
    try:
        open_port(proto, address, port).close()
    except OSError:
        return True
    return False


def route_mtu(source: str, target: str) -> int:
    """What the kernel believes to be the largest packet on the way: the route's MTU, or one that it has learnt."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((source, 0))
            sock.connect((target, 9))
            return int(sock.getsockopt(socket.IPPROTO_IP, _IP_MTU))
        except OSError:
            return 0


class Sockets:
    """All that an agent holds."""

    def __init__(self, address: str, udp: Iterable[int], tcp: Iterable[int]) -> None:
        self.address = address
        udp, tcp = sorted(set(udp)), sorted(set(tcp))
        self.icmp = _raw(address, socket.IPPROTO_ICMP)
        self.icmp.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~(1 << 8)))
        self.udp = _raw(address, socket.IPPROTO_UDP)
        _attach(self.udp, udp_filter([port for port in udp if port != VXLAN_PORT]))
        self.tcp = _raw(address, socket.IPPROTO_TCP)
        _attach(self.tcp, tcp_filter(tcp))
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind((address, 0))
        self.sender.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        self.sender.setblocking(False)
        # While they are bound nobody answers that the port is closed. What arrives is read from the raw socket.
        self.bound: Dict[str, socket.socket] = {}
        for proto, ports in (("udp", udp), ("tcp", tcp)):
            for port in ports:
                with suppress(OSError):  # held, as the plan knows
                    self.bound[f"{proto}/{port}"] = open_port(proto, address, port)

    def send(self, stream: int, content: bytes, target: str) -> None:
        """Send a packet of a stream: a UDP port, or 0 for ICMP."""
        if stream:
            self.sender.sendto(content, (target, stream))
        else:
            self.icmp.sendto(content, (target, 0))

    def drain(self) -> None:
        """Throw away what the bound sockets got: it was read from the raw one."""
        for name, sock in self.bound.items():
            while name.startswith("udp/"):
                try:
                    sock.recv(1)
                except OSError:
                    break

    def close(self) -> None:
        """Let go of everything."""
        for sock in (self.icmp, self.udp, self.tcp, self.sender, *self.bound.values()):
            sock.close()
