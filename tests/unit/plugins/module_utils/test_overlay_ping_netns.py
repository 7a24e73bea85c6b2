# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's loop with real packets between network namespaces made here; bounded in count and time."""

from __future__ import annotations

import copy
import os
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._ping_loop import Network, run_loop
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import open_channel

NAMES = [f"ovtest{os.getpid()}{letter}" for letter in "ab"]
ADDRESSES = ["10.254.253.1", "10.254.253.2"]
PLAN = {
    "run": "0123456789abcdef",
    "hosts": ["a", "b"],
    "networks": ["net"],
    "probes": [[{"how": "container", "name": "x", "address": address, "networks": 1} for address in ADDRESSES]],
    "timing": {"count": 5, "interval": 0.05, "patience": 1.0, "stop": 0.0},
}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces():
    assert os.geteuid() == 0, "only root can make network namespaces: run the tests as root"
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("-n", NAMES[0], "link", "add", "v0", "mtu", "1400", "type", "veth", "peer", "name", "v0", "netns", NAMES[1])
        ip("-n", NAMES[1], "link", "set", "v0", "mtu", "1400")
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "v0")
            ip("-n", name, "link", "set", "v0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [f"/run/netns/{name}" for name in NAMES]
    finally:
        for name in NAMES:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


@contextmanager
def opened(paths, plans=(PLAN, PLAN)):
    home = os.readlink("/proc/self/ns/net")
    channels = [open_channel(path, address) for path, address in zip(paths, ADDRESSES, strict=True)]
    assert os.readlink("/proc/self/ns/net") == home
    now = time.monotonic()
    ends = [
        Network(copy.deepcopy(plan), 0, place, channel, now, now + 60)
        for place, (plan, channel) in enumerate(zip(plans, channels, strict=True))
    ]
    for end in ends:  # nobody serves names here
        for pair in end.pairs.values():
            pair.name.answer([pair.name.expected], None)
    yield ends
    for channel in channels:
        channel.icmp.close()
        channel.dns.close()


def books(ends):
    """What each has of the other."""
    results = [end.result(["a", "b"]) for end in ends]
    assert {entry["mtu"] for entry in results} == {1400}
    return results[0]["peers"]["b"], results[1]["peers"]["a"]


def measure(paths, plans=(PLAN, PLAN)):
    now = time.monotonic()
    with opened(paths, plans) as ends:
        workers = [threading.Thread(target=run_loop, args=([end], now + 6, lambda: True)) for end in ends]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return *books(ends), time.monotonic() - now


def test_healthy_ends_measure_each_other_and_end_at_once(namespaces):
    first, second, seconds = measure(namespaces)
    for book in (first, second):
        assert (book["sent"], book["replied"], book["heard"]["series"]) == (5, 5, 5)
        assert book["full_replied"]
        assert book["heard"]["full"]
    assert seconds < 4


def test_a_peer_is_waited_for_until_all_are_up(namespaces):
    """One end begins when the other has waited for longer than its patience."""
    now = time.monotonic()
    late = 2.0  # twice the patience

    def told():
        return time.monotonic() > now + late

    with opened(namespaces) as ends:
        workers = [threading.Thread(target=run_loop, args=([end], now + 20, told)) for end in ends]
        workers[0].start()
        workers[0].join(late)
        assert workers[0].is_alive()
        workers[1].start()
        for worker in workers:
            worker.join()
    first, second = books(ends)
    assert first["replied"] == second["replied"] == 5


@pytest.mark.parametrize("moved", [[1], [0, 1]])
def test_peers_at_their_spare_addresses_find_each_other(namespaces, moved):
    """What was planned for them are addresses that nobody has."""
    planned: Any = copy.deepcopy(PLAN)
    for place in moved:
        planned["probes"][0][place].update(address=f"10.254.253.{9 + place}", spare=ADDRESSES[place])
    first, second, _seconds = measure(namespaces, (planned, planned))
    assert first["replied"] == second["replied"] == 5


def test_whoever_answers_at_the_address_that_was_planned_is_not_the_peer(namespaces):
    """Another run's endpoint has it: its kernel answers, and the peer is at its spare one."""
    planned: Any = copy.deepcopy(PLAN)
    for place in (0, 1):
        # The other end of the wire holds what is planned for this one, as a third container would.
        taken = f"10.254.253.{9 + place}"
        ip("-n", NAMES[1 - place], "addr", "add", f"{taken}/24", "dev", "v0")
        planned["probes"][0][place].update(address=taken, spare=ADDRESSES[place])
    first, second, _seconds = measure(namespaces, (planned, planned))
    for book in (first, second):
        assert (book["replied"], book["heard"]["series"]) == (5, 5)


def test_one_dropped_direction_is_seen_as_one(namespaces):
    # What comes from a is dropped when it arrives at b; nothing else.
    ip("netns", "exec", NAMES[1], "iptables", "-t", "raw", "-I", "PREROUTING", "-s", ADDRESSES[0], "-j", "DROP")
    first, second, _seconds = measure(namespaces)
    assert second["heard"]["series"] == 0
    assert first["replied"] == second["replied"] == 0
    assert first["heard"]["series"] == second["sent"] == 5


def test_address_that_nobody_holds_is_said(namespaces):
    with pytest.raises(OSError, match=r"no interface of the container holds 10\.9\.9\.9"):
        open_channel(namespaces[0], "10.9.9.9")
