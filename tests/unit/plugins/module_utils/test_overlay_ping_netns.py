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
    "underlay": ["127.0.0.1", "127.0.0.1"],
    "internal": [True],
    "apart": [None],
    "streams": [],
    "timing": {
        "count": 5,
        "interval": 0.05,
        "patience": 1.0,
        "stop": 0.0,
        "start_wait": 60.0,
        "transport": True,
        "peers": 0,
        "rounds": 1,
        "streams": 0,
    },
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
    transport = plans[0]["timing"]["transport"]
    channels = [open_channel(path, address, transport) for path, address in zip(paths, ADDRESSES, strict=False)]
    assert os.readlink("/proc/self/ns/net") == home
    now = time.monotonic()
    ends = [
        Network(copy.deepcopy(plan), 0, place, channel, now, now + 60, {1 - place})
        for place, (plan, channel) in enumerate(zip(plans, channels, strict=True))
    ]
    for end in ends:  # nobody serves names here
        for pair in end.pairs.values():
            pair.name.answer([pair.name.expected], None)
    yield ends
    for channel in channels:
        channel.close()


def books(ends):
    """What each has of the other."""
    results = [end.result() for end in ends]
    assert {entry["mtu"] for entry in results} == {1400}
    return results[0]["peers"]["b"][-1], results[1]["peers"]["a"][-1]


def measure(paths, plans=(PLAN, PLAN)):
    now = time.monotonic()
    with opened(paths, plans) as ends:
        workers = [threading.Thread(target=run_loop, args=([end], lambda: True)) for end in ends]
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
        assert book["heard"]["largest"] == 1400
    assert seconds < 4


def test_a_peer_is_waited_for_until_all_are_up(namespaces):
    """One end begins when the other has waited for longer than its patience."""
    now = time.monotonic()
    late = 2.0  # twice the patience

    def told():
        return time.monotonic() > now + late

    with opened(namespaces) as ends:
        workers = [threading.Thread(target=run_loop, args=([end], told)) for end in ends]
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


@pytest.mark.parametrize("asking", [0, 1])
def test_peers_whose_addresses_docker_chose_are_looked_up_or_known_by_their_knocks(namespaces, asking):
    planned: Any = copy.deepcopy(PLAN)
    for place, probe in enumerate(planned["probes"][0]):
        probe.update(how="temporary", name=f"overlay-verify-{place}", address="", spare="")
    known = {f"overlay-verify-{place}": address for place, address in enumerate(ADDRESSES)}
    with opened(namespaces, (planned, planned)) as ends:
        # One asks its engine, the other one's never knows.
        ends[asking].lookup = lambda: known
        ends[1 - asking].lookup = dict
        workers = [threading.Thread(target=run_loop, args=([end], lambda: True)) for end in ends]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    first, second = books(ends)
    assert first["replied"] == second["replied"] == 5
    assert first["tcp"]["ok"] and second["tcp"]["ok"]


def test_one_dropped_direction_is_seen_as_one(namespaces):
    # What comes from a is dropped when it arrives at b; nothing else.
    ip("netns", "exec", NAMES[1], "iptables", "-t", "raw", "-I", "PREROUTING", "-s", ADDRESSES[0], "-j", "DROP")
    first, second, _seconds = measure(namespaces)
    assert second["heard"]["series"] == 0
    assert first["replied"] == second["replied"] == 0
    assert first["heard"]["series"] == second["sent"] == 5


def drop(place, *rule):
    """What comes in at one end and fits is dropped."""
    ip("netns", "exec", NAMES[place], "iptables", "-I", "INPUT", *rule, "-j", "DROP")


def test_healthy_ends_exchange_datagrams_and_connections(namespaces):
    for book in measure(namespaces)[:2]:
        assert book["datagram_replied"]
        assert book["heard"]["datagram"]
        assert book["tcp"] == {"ok": True, "error": None, "rate": None}


def test_where_ports_are_not_wanted_none_is_tried(namespaces):
    plan: Any = copy.deepcopy(PLAN)
    plan["timing"]["transport"] = False
    for book in measure(namespaces, (plan, plan))[:2]:
        assert (book["tcp"]["ok"], book["datagrams"]) == (None, 0)


def test_datagrams_that_one_end_drops_are_missed_in_that_direction(namespaces):
    drop(1, "-p", "udp")
    first, second, _seconds = measure(namespaces)
    assert (first["datagram_replied"], second["heard"]["datagram"]) == (False, False)
    # What it sends itself arrives; only the answers come back to where all is dropped.
    assert first["heard"]["datagram"]
    assert (first["replied"], second["replied"]) == (5, 5)


def test_connections_that_one_end_refuses(namespaces):
    drop(1, "-p", "tcp", "--syn")
    first, second, _seconds = measure(namespaces)
    assert first["tcp"]["ok"] is False
    assert "within 1 s" in first["tcp"]["error"]
    assert second["tcp"]["ok"] is True


def test_a_black_hole_for_large_packets_is_measured(namespaces):
    drop(1, "-p", "icmp", "-m", "length", "--length", "1201:65535")
    first, _second, _seconds = measure(namespaces)
    assert (first["full_replied"], first["largest_replied"], first["replied"]) == (False, 1200, 5)


def test_a_stream_is_measured(namespaces):
    plan: Any = copy.deepcopy(PLAN)
    plan["streams"] = [[0, 0, 1]]
    plan["timing"]["streams"] = 1
    first, second, _seconds = measure(namespaces, (plan, plan))
    assert first["stream"]["rate"] > 1_000_000  # bits per second between two namespaces of one kernel
    assert second["stream"] is None


def test_rounds_follow_each_other_for_each_pair(namespaces):
    plan: Any = copy.deepcopy(PLAN)
    plan["timing"]["rounds"] = 5
    now = time.monotonic()
    with opened(namespaces, (plan, plan)) as ends:
        workers = [threading.Thread(target=run_loop, args=([end], lambda: True)) for end in ends]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for end, peer in zip(ends, "ba", strict=True):
        rounds = end.result()["peers"][peer]
        assert [(book["replied"], book["heard"]["series"], book["tcp"]["ok"]) for book in rounds] == [(5, 5, True)] * 5
    assert time.monotonic() - now < 60


def test_a_peer_that_ends_in_the_middle_is_not_waited_for_in_all_rounds(namespaces):
    """One has many more rounds to go than the other, which leaves."""
    plans: Any = [copy.deepcopy(PLAN), copy.deepcopy(PLAN)]
    plans[0]["timing"]["rounds"] = 1000
    first, _second, seconds = measure(namespaces, plans)
    assert (first["replied"], first["heard"]["any"]) == (5, False)  # its kernel answers, its agent is gone
    assert seconds < 20


def apart(reachable):
    """The second end is on a network of its own; the first one's has another number."""
    other = "10.254.252.2"
    ip("-n", NAMES[1], "link", "add", "d0", "type", "veth", "peer", "name", "d1")
    ip("-n", NAMES[1], "addr", "add", f"{other}/24", "dev", "d0")
    ip("-n", NAMES[1], "link", "set", "d0", "up")
    if not reachable:
        # Who answers for all its addresses on all its wires makes one network of two.
        ip("netns", "exec", NAMES[1], "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
    plan: Any = copy.deepcopy(PLAN)
    plan.update(networks=["net", "other"], internal=[True, True], apart=[None, 1])
    plan["probes"].append([{"how": "none"}, dict(plan["probes"][0][1], address=other)])
    return plan, other


@pytest.mark.parametrize("reachable", [True, False])
def test_a_packet_that_reaches_another_network_is_known_by_whom_it_reached(namespaces, reachable):
    plan, other = apart(reachable)
    with opened(namespaces, (plan, plan)) as ends:
        channel = open_channel(namespaces[1], other)
        now = time.monotonic()
        ends.append(Network(copy.deepcopy(plan), 1, 1, channel, now, now + 60, set()))
        groups = [ends[:1], ends[1:]]
        workers = [threading.Thread(target=run_loop, args=(group, lambda: True)) for group in groups]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        leaks = ends[2].result()["leaks"]
        sent = ends[0].result()["asides"]
        channel.close()
    assert [(aside["check"], aside["to"], aside["sent"]) for aside in sent] == [("isolation", "other", 5)]
    assert leaks == ([["net", "a"]] if reachable else [])


def test_without_any_peer_the_rest_is_tried_to_its_end(namespaces):
    """Else a way out would be blamed that had no time to answer."""
    plan: Any = copy.deepcopy(PLAN)
    plan["probes"][0][0]["neighbour"] = {"name": "n", "address": "10.254.253.9"}
    plan["probes"][0][1] = {"how": "none"}
    with opened(namespaces[:1], (plan,)) as ends:
        run_loop(ends[:1], lambda: True)
        assert [aside["sent"] for aside in ends[0].result()["asides"]] == [5]


def test_address_that_nobody_holds_is_said(namespaces):
    with pytest.raises(OSError, match=r"no interface of the container holds 10\.9\.9\.9"):
        open_channel(namespaces[0], "10.9.9.9")
