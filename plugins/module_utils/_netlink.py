# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the kernel's links, neighbours and forwarding entries by rtnetlink(7): hosts may lack `bridge`, and old ones print no JSON."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

_NEWLINK, _GETLINK, _NEWNEIGH, _GETNEIGH = 16, 18, 28, 30
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x1 | 0x300
_AF_BRIDGE = 7
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
# Of a link: its name, its MTU, its bridge, its kind; of its kind: the name and the data; of a vxlan's data: the VNI.
_IFNAME, _MTU, _MASTER, _LINKINFO, _KIND, _DATA, _VNI = 3, 4, 10, 18, 1, 2, 1
_DST, _LLADDR = 1, 2
# The group in which the kernel tells of addresses that it does not know: RTNLGRP_NEIGH.
_MISSES = 1 << 2
_TIMEOUT = 5.0

Dump = Callable[[int, int], bytes]


class Tunnel(NamedTuple):
    """A vxlan device."""

    device: int
    name: str
    vni: int
    mtu: int


class Entry(NamedTuple):
    """An IPv4 neighbour (address and MAC), or a forwarding entry (MAC and address of the other end)."""

    device: int
    key: str
    value: str
    stays: bool


def messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Type and content of each message of an answer."""
    while len(data) >= 16:
        size, kind = struct.unpack_from("=IH", data)
        if not 16 <= size <= len(data):
            raise ValueError(f"a message of {size} bytes in an answer of {len(data)}")
        yield kind, data[16:size]
        data = data[(size + 3) & ~3 :]


def attributes(data: bytes) -> Dict[int, bytes]:
    """The attributes of a message by their number."""
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if not 4 <= size <= len(data):
            break
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def _number(data: bytes) -> int:
    return int(struct.unpack("=I", data)[0]) if len(data) == 4 else 0


def _mac(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")


def tunnels(data: bytes) -> List[Tunnel]:
    """The vxlan devices in a dump of links."""
    found = []
    for kind, body in messages(data):
        if kind != _NEWLINK:
            continue
        link = attributes(body[16:])
        info = attributes(link.get(_LINKINFO, b""))
        if _text(info.get(_KIND, b"")) == "vxlan":
            vni = _number(attributes(info.get(_DATA, b"")).get(_VNI, b""))
            index = int(struct.unpack_from("=i", body, 4)[0])
            found.append(Tunnel(index, _text(link.get(_IFNAME, b"")), vni, _number(link.get(_MTU, b""))))
    return found


def _rows(data: bytes, states: int) -> Iterator[Tuple[int, bool, Dict[int, bytes]]]:
    """Device, whether it stays, and attributes of each entry in a dump of neighbours."""
    for kind, body in messages(data):
        if kind == _NEWNEIGH:
            index, state = struct.unpack_from("=iH", body, 4)
            yield index, bool(state & states), attributes(body[12:])


def neighbours(data: bytes) -> List[Entry]:
    """The entries with an address and a MAC in a dump of IPv4 neighbours. The kernel's own of multicast do not stay."""
    return [
        Entry(index, socket.inet_ntoa(row[_DST]), _mac(row[_LLADDR]), stays)
        for index, stays, row in _rows(data, _NUD_PERMANENT)
        if len(row.get(_DST, b"")) == 4 and len(row.get(_LLADDR, b"")) == 6
    ]


def forwarding(data: bytes) -> List[Entry]:
    """The entries that lead to another host in a dump of forwarding entries; a bridge's own lead nowhere."""
    return [
        Entry(index, _mac(row[_LLADDR]), socket.inet_ntoa(row[_DST]), stays)
        for index, stays, row in _rows(data, _NUD_NOARP | _NUD_PERMANENT)
        if len(row.get(_DST, b"")) == 4 and any(row.get(_LLADDR, b""))
    ]


def is_watched(text: str) -> bool:
    """Whether /proc/net/netlink shows somebody who wants to be told of addresses that the kernel does not know."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return any(len(row) > 3 and row[1] == "0" and int(row[3], 16) & _MISSES for row in rows)


def dump(request: int, family: int) -> bytes:
    """All messages of a kind from the network namespace in which the caller is."""
    # An ifinfomsg: every kernel takes it for each of the three questions.
    head = struct.pack("=IHHIIBxHiII", 32, request, _REQUEST_DUMP, 1, 0, family, 0, 0, 0, 0)
    answer = b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_TIMEOUT)
        kernel.send(head)
        while True:
            part = kernel.recv(1 << 18)
            for kind, body in messages(part):
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, f"rtnetlink: {os.strerror(number)}")
                if kind == _DONE:
                    return answer + part
            answer += part


def read_tables(ask: Dump = dump) -> Dict[str, Any]:
    """The vxlan devices of the namespace in which the caller is, and their entries."""
    devices = tunnels(ask(_GETLINK, 0))
    own = {one.device for one in devices}
    with open("/proc/self/net/netlink", encoding="ascii") as stream:
        watched = is_watched(stream.read())
    return {
        "tunnels": devices,
        "neighbours": [row for row in neighbours(ask(_GETNEIGH, socket.AF_INET)) if row.device in own],
        "forwarding": [row for row in forwarding(ask(_GETNEIGH, _AF_BRIDGE)) if row.device in own],
        "watched": watched,
    }
