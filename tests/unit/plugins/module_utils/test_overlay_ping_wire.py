# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, samples, and what passes a host's interfaces."""

from __future__ import annotations

import os
import socket
import time

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _ping_codec as codec
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import partners, streams
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sizes import SizeSearch
from ansible_collections.multihost.overlay.plugins.module_utils._ping_wire import INNER, Wire

RUN = bytes.fromhex("0123456789abcdef")
HOSTS = [f"host{number}" for number in range(30)]


@pytest.mark.parametrize("passes", [84, 85, 576, 1199, 1200, 1449, 1450])
def test_the_largest_size_is_found_in_few_steps(passes):
    search, steps = SizeSearch(84, 1450), 0
    while not search.finished:
        for size in search.step():
            if size <= passes:
                search.answer(size)
        steps += 1
    assert search.low == passes
    assert steps <= 16  # four rungs of three tries


def test_all_are_measured_unless_few_are_asked_for():
    assert partners(["a", "b", "c"], 0) == partners(["a", "b", "c"], 2) == [{1, 2}, {0, 2}, {0, 1}]


def test_who_measures_is_measured_and_nobody_is_left_out():
    chosen = partners(HOSTS, 5)
    for place, peers in enumerate(chosen):
        assert len(peers) >= 5
        assert all(place in chosen[peer] for peer in peers)
    assert sum(map(len, chosen)) < 30 * 29 / 2


def test_a_host_that_comes_moves_few_pairs():
    def named(hosts):
        return {(hosts[place], hosts[peer]) for place, peers in enumerate(partners(hosts, 5)) for peer in peers}

    before, after = named(HOSTS), {pair for pair in named(["new", *HOSTS]) if "new" not in pair}
    assert len(before - after) < len(before) / 5


def test_around_some_hosts_they_and_all_others_measure_one_another():
    assert partners(["a", "b", "c", "d"], 0, ["d"]) == [{3}, {3}, {3}, {0, 1, 2}]
    assert partners(["a", "b", "c"], 1, ["a", "c"]) == [{1, 2}, {0, 2}, {0, 1}]
    assert streams(["a", "b", "c", "d"], 9, 0, ["d"]) in ([(0, 3)], [(1, 3)], [(2, 3)])


def test_streams_are_in_nobodys_way():
    chosen = streams(HOSTS, 4, 0)
    assert len(chosen) == 4
    assert len({place for pair in chosen for place in pair}) == 8
    assert streams(HOSTS, 0, 0) == []
    assert len(streams(["a", "b", "c"], 9, 0)) == 1


def probe(phase=codec.SERIES, sender=0, target=1, seq=1):
    return codec.Probe(2, sender, target, phase, seq, 0.0)


def tunnelled(packet):
    """The rest of a datagram to 4789: VXLAN's and Ethernet's headers, an IP packet."""
    return b"\0" * (INNER - 28) + bytes([0x45]) + b"\0" * 19 + packet


def heard(wire, wanted):
    limit = time.monotonic() + 5
    while not wanted() and time.monotonic() < limit:
        wire.read()
    return wanted()


@pytest.fixture
def wire():
    assert os.geteuid() == 0, "only root has packet sockets: run the tests as root"
    found = Wire(RUN, 0)
    yield found
    found.sock.close()


def test_own_requests_are_counted_when_they_leave_and_others_when_they_come(wire):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(tunnelled(codec.encode(RUN, probe())), ("127.0.0.1", 4789))
        sender.sendto(tunnelled(codec.encode(RUN, probe(sender=3, target=0))), ("127.0.0.1", 4789))
        # Answers, those of other runs, and those between others are not.
        sender.sendto(tunnelled(codec.encode(RUN, probe(), kind=codec.ECHO_REPLY)), ("127.0.0.1", 4789))
        sender.sendto(tunnelled(codec.encode(b"another1", probe())), ("127.0.0.1", 4789))
        sender.sendto(tunnelled(codec.encode(RUN, probe(sender=3, target=4))), ("127.0.0.1", 4789))
        sender.sendto(tunnelled(codec.encode(RUN, probe(seq=2))), ("127.0.0.1", 4789))
    assert heard(wire, lambda: wire.of(2, 1, 0)["left"] == 2)
    assert (wire.of(2, 1, 0), wire.of(2, 3, 0)) == ({"left": 2, "arrived": 0}, {"left": 0, "arrived": 1})
    assert (wire.of(2, 1, 1), wire.sees(2), wire.sees(1)) == ({"left": 0, "arrived": 0}, True, False)


def test_a_packet_that_passes_several_devices_is_one(wire):
    packet = b"\x45" + b"\0" * 8 + b"\x11" + b"\0" * 18 + tunnelled(codec.encode(RUN, probe()))
    for _device in ("eth0", "bond0"):
        wire.note(packet, outgoing=True)
    assert wire.of(2, 1, 0) == {"left": 1, "arrived": 0}


def test_a_packet_from_a_container_of_a_peers_is_seen_where_it_comes_in(wire):
    packet = codec.encode(RUN, probe(codec.EGRESS, sender=3, target=0))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
        sender.sendto(packet, ("127.0.0.1", 0))
    assert heard(wire, lambda: wire.egress == {(2, 3)})
    assert (wire.left, wire.arrived) == ({}, {})


def test_nothing_else_is_queued(wire):
    wire.read()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x" * 200, ("127.0.0.1", 4789))
        sender.sendto(tunnelled(codec.encode(RUN, probe())), ("127.0.0.1", 4789))
    packets = [wire.sock.recv(2048) for _unused in range(2)]
    assert all(codec.MAGIC in packet for packet in packets)
