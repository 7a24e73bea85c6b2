# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel answered about a namespace with a bridge, a vxlan device of the number 4097, and two entries in each of its tables."""

from __future__ import annotations

import base64
import socket
import struct
import zlib

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _netlink
from ansible_collections.multihost.overlay.plugins.module_utils._netlink import Entry, Tunnel

# Recorded on Linux 6.18, packed.
LINKS = """
eNrtVz1PFEEYfmf39m6P++Q4QD7vkA8ViJ5KLBAVBSsttCNWiHchJgSUBGOj2dKCwh9ADIWFsbGys7KisDDGWPkDjIWViRYm5zszz172lvsCj4QzTHL3zMy+
8+47M+88z+w7iyhJBgkictr5jwKmrNukS4hMWlmT7Rh9M4ksZS1RGTPOkbYP8L9gPKf6bToP7AMOAi8BMxh3kopFiacwfhp4BTgLvEi/iyHGGdhfg5+s8mPR
EPwNo/8MMKcwSPPA64j7hMI2NYpQN0r1D9RN/0vJ8y4edInSBK+pXr8wr/Lq2toDWc+ZvbTJ/c8860xqR8t/5EF/ETWeVSpJ3lqZq5X8bBttnBPaW5ojlrn0
wjZpK6/H/MQcZjHCH2eRy3ZC28q6Mx0m57Yg+boFQ56l3fNb/F49VunDH7fwxUw11sf5caHmc1UC7rv0+/x2U8KkMToqeykznOP7PVXpCiMtMO4IxeuOD9Bl
J0BXnYWQn7uFyt65pAD3mbS0nivj7mAV7n5tkeLueXC35tjmcbfG+txtgLsFuFuAu2ercPen5Sc3Ou5o7i4W9WnycrfhW7uXLcrdxgHG7+XuLZGiCK/r0vr9
/HKBaFMY/DzpsW331FOeeodLM4pfv6p8MmgHefgxpPMstyHRghZzNjpyP0Noh+Erwt16Z6O8s249yE+0/xjyIA5MIB/SJJz38HFaYcZzB7DpLOy7kHfdwGPo
7wGOw75XzVydg6TEfuTnAO5AE8BJ5SfK5yRfWo8MPS+49Sxt3XPrQ/Q559aPl3Qqyrk/FXW5YAQ4ChyDjdTVhxuFjUJTdHWvpUFddVxdfcO6mn21W1cl19TS
VeXkH3VVVIi7FXXVv4eLh5Sn6uVYo3HX0tV672iWrv6poKumR1cj3Hr0eOXuaq78u4h82koNaquAtooD0FYbXzWNfB/tV2P3WswW+z5qRrxejZ0yUmpdVQ5x
e4f7JXeKpFx3C+vfDwwCB0qa5O6v7g9BwyLAKPpjaMeBPRhn06SQGMa+Jyj1Vj5Pwa4D49PAzpJmasyU8srVs1/6G6YY4Vx37w23hJyJPjdBnl8W94C88hGA
L8s3x5Bv7jZiCgP7gIPANthFEUvMc2+Ie+4NCb4XyDiSmHM72tXmPAC7DNruWg/79Hmo7KxYfGYJ9wIdT6dn/7voi+XWuz381IP1HFWXPBuKoc+9xPGW1f78
0yPtb6b232xR7W807sOg/WnF917tJ/oL++nnWQ==
"""
NEIGHBOURS = """
eNp9jkEKgDAMBKdGofQmiF58jHjuGzz5Be8+1aeYWLUUxIUlSxImicBIhdO6t2hKnqDx2j2gD9d80QSeGlOHsA26RLIpfrAk8ZyxwupqY1WzpZL13DW7H9ae
WfKypGTJvSv3X92VM8t0Aic3CYI=
"""
FORWARDING = """
eNrTYGBgkGFgYmAE0g2CDAzsQJoJxAaSXEBsbAzkACU1CKhjZIhjYMgirA5sXhaR5jESY95/b+EoBgYfLOqYweoYwOoupdeC1XEwcIL1czDwM4CACFgVRD07
AwS44DCLiYGJEWQWkxNXCiMLyAxGBq4IBl6YGcgAlxkHkM1ghpvBAzODEYohbgPpQZgBAgDyahYL
"""
ANSWERS = {(18, 0): LINKS, (30, socket.AF_INET): NEIGHBOURS, (30, 7): FORWARDING}
WATCHED = """sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000008dc74b6e 0   0          00000000 0        0        0     2        0        313334
000000004cca6274 {}   28351      {} 0        0        0     2        0        314633
"""


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode("".join(text.split())))


def recorded(request: int, family: int) -> bytes:
    return unpacked(ANSWERS[request, family])


def test_tunnels() -> None:
    assert _netlink.tunnels(unpacked(LINKS)) == [Tunnel(3, "vxlan0", 4097, 1450)]


def test_neighbours() -> None:
    """The kernel itself has one of a multicast address, on the bridge."""
    assert _netlink.neighbours(unpacked(NEIGHBOURS)) == [
        Entry(2, "224.0.0.22", "01:00:5e:00:00:16", False),
        Entry(3, "10.100.1.4", "02:42:0a:64:01:04", False),
        Entry(3, "10.100.1.3", "02:42:0a:64:01:03", True),
    ]


def test_forwarding() -> None:
    """Those of the bridge, and of multicast, are left out."""
    assert _netlink.forwarding(unpacked(FORWARDING)) == [
        Entry(3, "02:42:0a:64:01:04", "10.88.0.13", False),
        Entry(3, "02:42:0a:64:01:03", "10.88.0.12", True),
    ]


def test_all_tables() -> None:
    found = _netlink.read_tables(recorded)
    assert [device.name for device in found["tunnels"]] == ["vxlan0"]
    assert len(found["neighbours"]) == len(found["forwarding"]) == 2, "those of the bridge are left out"
    assert isinstance(found["watched"], bool)


def test_entries_of_other_devices_are_left_out() -> None:
    def ask(request: int, family: int) -> bytes:
        return b"" if request == 18 else recorded(request, family)

    assert _netlink.read_tables(ask)["neighbours"] == []


@pytest.mark.parametrize(
    ("protocol", "groups", "watched"),
    [("0", "00000004", True), ("0", "00000011", False), ("15", "00000004", False), ("0", "00000005", True)],
)
def test_who_is_told_of_misses(protocol: str, groups: str, watched: bool) -> None:
    assert _netlink.is_watched(WATCHED.format(protocol, groups)) is watched


@pytest.mark.parametrize("data", [struct.pack("=IHHII", 5, 28, 0, 0, 0), unpacked(NEIGHBOURS)[:-30]])
def test_an_answer_that_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes in an answer of"):
        _netlink.neighbours(data)


def test_odd_attributes_end_it() -> None:
    good = struct.pack("=HHI", 8, 1, 7)
    assert _netlink.attributes(good + struct.pack("=HH", 2, 9)) == {1: struct.pack("=I", 7)}
    assert _netlink.attributes(good + struct.pack("=HH", 200, 9)) == {1: struct.pack("=I", 7)}


def test_the_kernel_of_this_machine_answers() -> None:
    """Everybody may ask for links."""
    assert list(_netlink.messages(_netlink.dump(18, 0)))


def test_what_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(OSError, match="rtnetlink"):
        _netlink.dump(9999, 0)
