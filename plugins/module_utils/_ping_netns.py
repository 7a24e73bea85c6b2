# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets inside a container's network namespace, opened from outside: nothing is run or installed in the container."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from contextlib import contextmanager
from typing import Iterator, NamedTuple

_CLONE_NEWNET = 0x40000000
_SIOCGIFADDR = 0x8915
_SIOCGIFMTU = 0x8921
_SOL_RAW = 255
_ICMP_FILTER = 1
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_PROBE = 3  # set DF and send the full size, whatever path MTU the kernel believes in
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 20
DNS = ("127.0.0.11", 53)
_LIBC = ctypes.CDLL(None, use_errno=True)


class Channel(NamedTuple):
    """What an agent holds of one container on one network."""

    icmp: socket.socket
    dns: socket.socket
    mtu: int


def _setns(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Be in a network namespace; sockets opened meanwhile stay in it. Needs root and a single thread."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _ioctl(probe: socket.socket, request: int, name: str) -> bytes | None:
    try:
        return fcntl.ioctl(probe.fileno(), request, struct.pack("256s", name.encode()[:15]))
    except OSError:
        return None  # an interface without an IPv4 address


def _mtu_of(address: str) -> int:
    """The MTU of the interface that holds the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            answer = _ioctl(probe, _SIOCGIFADDR, name)
            if answer and socket.inet_ntoa(answer[20:24]) == address:
                mtu = _ioctl(probe, _SIOCGIFMTU, name)
                return int(struct.unpack("i", mtu[16:20])[0]) if mtu else 0
    raise OSError(f"no interface of the container holds {address}")


def _icmp_socket(address: str) -> socket.socket:
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    # Only echo requests (8) and replies (0); bound, so that a container on two networks keeps them apart.
    icmp.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~(1 << 0 | 1 << 8)))
    icmp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
    icmp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    icmp.bind((address, 0))
    icmp.setblocking(False)
    return icmp


def open_channel(path: str, address: str) -> Channel:
    """Open the sockets of a probe in the namespace at ``path``."""
    with inside(path):
        mtu = _mtu_of(address)
        icmp = _icmp_socket(address)
        dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        dns.setblocking(False)
        # The resolver is reached through NAT rules inside the namespace, so this asks exactly as the container would.
        # Where that fails, so does each question, and the name's check says so.
        dns.connect_ex(DNS)
    return Channel(icmp, dns, mtu)
