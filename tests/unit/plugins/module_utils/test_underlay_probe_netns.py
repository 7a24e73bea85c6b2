# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of the underlay with real packets between network namespaces made here; bounded in count and time."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import inside
from ansible_collections.multihost.overlay.plugins.module_utils._probe_loop import Probe, run_probe
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import make_plan, ports_of
from ansible_collections.multihost.overlay.plugins.module_utils._probe_sockets import is_held
from ansible_collections.multihost.overlay.plugins.plugin_utils._probe_report import Paths, findings_of, underlay

NAMES = [f"ovprobe{os.getpid()}{letter}" for letter in "ab"]
HOSTS = ["a", "b"]
ADDRESSES = {"a": "10.254.252.1", "b": "10.254.252.2"}
TOPOLOGY = {
    "mode": "classic",
    "store_type": "consul",
    "store_managed": True,
    "docker_api": "none",
    "addresses": ADDRESSES,
    "groups": {"hosts": HOSTS, "servers": ["a"], "members": HOSTS},
}
TIMING = {"count": 1, "interval": 0.1, "patience": 1.5, "spread": 0.0, "gossip": 1.0}
PORTS = ports_of(TOPOLOGY)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def within(place, *words):
    ip("netns", "exec", NAMES[place], *words)


@pytest.fixture(autouse=True)
def namespaces():
    assert os.geteuid() == 0, "only root can make network namespaces: run the tests as root"
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("-n", NAMES[0], "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES.values(), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "v0")
            ip("-n", name, "link", "set", "v0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


def started(place, mtu=1500):
    with inside(f"/run/netns/{NAMES[place]}"):
        names = [f"{row['proto']}/{row['port']}" for row in PORTS]
        held = [name for name in names if is_held(name[:3], ADDRESSES[HOSTS[place]], int(name[4:]))]
    return {"problem": "", "mtu": mtu, "held": held, "bridges": {}, "networks": {}, "members": {}, "interface": "v0"}


def probe(clock_shift=None, mtus=(1500, 1500), during=None):
    """Both ends' books, and the findings of the controller; each end in a thread that lives in its namespace."""
    first = {host: started(place, mtus[place]) for place, host in enumerate(HOSTS)}
    plan = make_plan("0123456789abcdef", TOPOLOGY, PORTS, first, TIMING)
    plan["clock_shift"] = clock_shift or {}
    results = {}

    def work(place):
        with inside(f"/run/netns/{NAMES[place]}"):
            end = Probe(plan, place, time.monotonic())
            try:
                run_probe(end)
                results[HOSTS[place]] = dict(end.result(), errors=[], agent_died=False)
            finally:
                end.close()

    workers = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    begun = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    paths = Paths(TOPOLOGY, PORTS, plan, first, results)
    return findings_of(paths, 2.0), underlay(paths), time.monotonic() - begun


def named(findings):
    return {(row["id"], row.get("from"), row.get("to")) for row in findings}


def test_healthy_ends_are_done_at_once_and_find_nothing():
    findings, underlay_, seconds = probe()
    assert findings == []
    assert seconds < 1.5
    assert underlay_["mtu"] == 1500
    for row in underlay_["paths"]:
        assert row["mtu"] == 1500
        assert 0 < row["rtt_ms"]["min"] <= row["rtt_ms"]["avg"] <= row["rtt_ms"]["max"]
        assert abs(row["clock_offset"]) < 0.5


@contextmanager
def rule(place, *words):
    within(place, "iptables", "-I", "INPUT", *words)
    try:
        yield
    finally:
        within(place, "iptables", "-D", "INPUT", *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-p", "udp", "--dport", "7946", "-j", "DROP"], {("path_udp_dropped", "a", "b")}),
        (["-p", "udp", "--dport", "4789", "-j", "DROP"], {("path_vxlan_swallowed", "a", "b")}),
        (["-p", "tcp", "--dport", "7946", "-j", "DROP"], {("path_tcp_dropped", "a", "b")}),
        (["-p", "tcp", "--dport", "7946", "-j", "REJECT"], {("path_tcp_refused", "a", "b")}),
        (["-j", "DROP"], {("path_dead", "a", "b")}),
    ],
)
def test_what_is_dropped_names_its_direction_only(words, expected):
    with rule(1, "-s", ADDRESSES["a"], *words):
        findings, _underlay, _seconds = probe()
    assert named(findings) == expected


def test_both_directions_dead():
    with rule(1, "-s", ADDRESSES["a"], "-j", "DROP"), rule(0, "-s", ADDRESSES["b"], "-j", "DROP"):
        findings, _underlay, _seconds = probe()
    assert named(findings) == {("path_dead", "a", "b"), ("path_dead", "b", "a")}


def test_lost_answers_belong_to_the_way_back():
    """What b answers to a's connections is lost on its way to a; b's own connections are fine."""
    words = ["-s", ADDRESSES["b"], "-p", "tcp", "--sport", "8300", "-j", "DROP"]
    with rule(0, *words):
        findings, _underlay, _seconds = probe()
    assert findings == []
    with rule(1, "-s", ADDRESSES["a"], "-p", "tcp", "--sport", "8300", "-j", "DROP"):
        findings, _underlay, _seconds = probe()
    assert named(findings) == {("path_tcp_dropped", "a", "b")}
    assert "answer" in findings[0]["message"]


def test_a_smaller_path_is_measured():
    ip("-n", NAMES[1], "link", "set", "v0", "mtu", "1400")
    findings, underlay_, _seconds = probe(mtus=(1500, 1400))
    assert named(findings) == {("path_mtu_small", "a", "b"), ("underlay_mtu_below_default", None, None)}
    assert underlay_["mtu"] == 1400


def test_a_smaller_route_is_a_smaller_path():
    within(0, "ip", "route", "add", f"{ADDRESSES['b']}/32", "dev", "v0", "mtu", "1380")
    findings, underlay_, _seconds = probe()
    assert {row["id"] for row in findings} == {"path_mtu_small", "path_mtu_asymmetric", "underlay_mtu_below_default"}
    assert underlay_["mtu"] == 1380


def test_a_held_port_gets_no_datagram_and_vxlan_is_proven_past_the_kernels_own():
    """As on a joined host: the kernel's vxlan has 4789, a program 7946, and gossip is only heard."""
    for place in range(2):
        ip("-n", NAMES[place], "link", "add", "vx", "type", "vxlan", "id", "300", "dstport", "4789", "dev", "v0")
        ip("-n", NAMES[place], "link", "set", "vx", "up")
    held = []
    for place, host in enumerate(HOSTS):
        with inside(f"/run/netns/{NAMES[place]}"):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((ADDRESSES[host], 7946))
            listener = socket.socket()
            listener.bind((ADDRESSES[host], 7946))
            listener.listen()
        held += [sock, listener]
        sock.setblocking(False)
    ended = threading.Event()

    def gossip():
        while not ended.wait(0.2):
            held[0].sendto(b"gossip", (ADDRESSES["b"], 7946))

    talker = threading.Thread(target=gossip)
    talker.start()
    try:
        findings, _underlay, _seconds = probe()
    finally:
        ended.set()
        talker.join()
    # b was heard by nobody: that is unproven, and no fault.
    assert [(row["id"], row["level"], row["to"]) for row in findings] == [("path_unproven", "info", "a")]
    with pytest.raises(BlockingIOError):
        held[0].recv(2000)
    assert held[2].recv(2000) == b"gossip"
    with rule(1, "-s", ADDRESSES["a"], "-p", "udp", "--dport", "4789", "-j", "DROP"):
        findings, _underlay, _seconds = probe()
    assert named([row for row in findings if row["level"] != "info"]) == {("path_vxlan_swallowed", "a", "b")}
    for sock in held:
        sock.close()


def test_a_clock_that_is_ahead_is_seen():
    """No clock is set: the end says that its clock is ahead."""
    findings, underlay_, _seconds = probe(clock_shift={"b": 7.5})
    (row,) = findings
    assert row["id"] == "clock_offset"
    (ahead,) = [path for path in underlay_["paths"] if path["from"] == "a"]
    assert abs(ahead["clock_offset"] - 7.5) < 0.5


def test_nothing_is_held_afterwards():
    probe()
    for place in range(2):
        assert started(place)["held"] == []
