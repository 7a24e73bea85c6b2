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
_SO_BINDTODEVICE = 25
_BUFFER = 1 << 20
_PORTS = 20  # attempts to find one that is free for both protocols
DNS = ("127.0.0.11", 53)
_LIBC = ctypes.CDLL(None, use_errno=True)


class Channel(NamedTuple):
    """What an agent holds of one container on one network. ``outward`` is bound to the interface of the default route, if there is one,
    ``sideward`` to the network's own: what is sent there goes nowhere else.
    """

    icmp: socket.socket
    dns: socket.socket
    # For connections and datagrams, at one port; none where they are not wanted, and then the port is 0.
    udp: socket.socket | None
    listener: socket.socket | None
    port: int
    sideward: socket.socket
    outward: socket.socket | None
    space: int
    mtu: int

    def tcp(self) -> socket.socket:
        """A socket for a connection from the container."""
        with inside(f"/proc/self/fd/{self.space}"):
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def close(self) -> None:
        """Let go of the container's namespace."""
        for held in (self.icmp, self.dns, self.udp, self.listener, self.sideward, self.outward):
            if held:
                held.close()
        os.close(self.space)


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


def _interface_of(address: str) -> tuple[str, int]:
    """The name and the MTU of the interface that holds the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            answer = _ioctl(probe, _SIOCGIFADDR, name)
            if answer and socket.inet_ntoa(answer[20:24]) == address:
                mtu = _ioctl(probe, _SIOCGIFMTU, name)
                return name, int(struct.unpack("i", mtu[16:20])[0]) if mtu else 0
    raise OSError(f"no interface of the container holds {address}")


def default_interface(table: str) -> str:
    """The interface of the default route, from the text of /proc/net/route; empty without one."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return next((row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"), "")


def _icmp_socket(address: str, device: str = "", deaf: bool = False) -> socket.socket:
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    # Only echo requests (8) and replies (0); bound, so that a container on two networks keeps them apart.
    wanted = 0 if deaf else 1 << 0 | 1 << 8
    icmp.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~wanted))
    icmp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
    icmp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    if device:
        icmp.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode())
    icmp.bind((address, 0))
    icmp.setblocking(False)
    return icmp


def _bound_pair(address: str) -> tuple[socket.socket, socket.socket]:
    """A listener and a socket for datagrams at one port that the kernel chooses."""
    for attempt in range(_PORTS):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind((address, 0))
            udp.bind((address, listener.getsockname()[1]))
            listener.listen(socket.SOMAXCONN)
            break
        except OSError:  # somebody's datagrams come in at that port
            listener.close()
            udp.close()
            if attempt == _PORTS - 1:
                raise
    return listener, udp


def _resolver() -> socket.socket:
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    # The resolver is reached through NAT rules inside the namespace, so this asks exactly as the container would.
    # Where that fails, so does each question, and the name's check says so.
    dns.connect_ex(DNS)
    return dns


def open_channel(path: str, address: str, transport: bool = True) -> Channel:
    """Open the sockets of a probe in the namespace at ``path``."""
    space = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(path):
            device, mtu = _interface_of(address)
            with open("/proc/thread-self/net/route", encoding="ascii") as routes:
                outside = default_interface(routes.read())
            outward = _icmp_socket("", outside) if outside else None
            listener, udp = _bound_pair(address) if transport else (None, None)
            port = int(udp.getsockname()[1]) if udp else 0
            # What comes back there is of no interest: who reaches another network is known by whom it reached.
            sideward = _icmp_socket(address, device, deaf=True)
            return Channel(_icmp_socket(address), _resolver(), udp, listener, port, sideward, outward, space, mtu)
    except OSError:
        os.close(space)
        raise
