# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of the doctor, both ways; the reading of the store; and that fleeting things are looked at twice."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _doctor_host, _doctor_spaces, _doctor_store
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor import doctor, judge_host, judge_store
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import CHECKS
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_spaces import Peer, shortened
from ansible_collections.multihost.overlay.plugins.module_utils._netlink import Entry, Tunnel
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.modules import host_doctor

NID = "aa" * 32
EID = "ee" * 32
URL = "consul://127.0.0.1:8500"
WANTED = {"address": "10.88.0.11", "store_token": "", "journal_minutes": 30}
RULES = {
    "filter": ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-ISOLATION-STAGE-1"],
    "nat": ["-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"],
}


# An endpoint of this host, and one of another; the newer one of the two namespaces of the network, and its tables.
OWN = Peer(EID, "web", "10.100.1.2", "02:42:0a:64:01:02", "10.88.0.11")
REMOTE = Peer("dd" * 32, "db", "10.100.1.3", "02:42:0a:64:01:03", "10.88.0.12")
SPACE = f"10-{NID[:9]}"


def tables(**changes: Any) -> dict[str, Any]:
    return {
        "tunnels": [Tunnel(3, "vxlan0", 256, 1450)],
        "neighbours": [Entry(3, REMOTE.address, REMOTE.mac, True)],
        "forwarding": [Entry(3, REMOTE.mac, REMOTE.host, True)],
        "watched": True,
        **changes,
    }


def container(**changes: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "name": "web",
        "running": True,
        "status": "running",
        "error": "",
        "policy": "always",
        "sandbox": "cafe00000001",
        "networks": {"shop": {"id": NID, "endpoint": EID, "wanted": ""}},
        **changes,
    }


def sound() -> dict[str, Any]:
    """A host of a sound cluster, with a container on an overlay."""
    info = {
        "ID": "AB",
        "ServerVersion": "20.10.5",
        "ClusterStore": URL,
        "ClusterAdvertise": "10.88.0.11:2376",
        "LiveRestoreEnabled": True,
        "Debug": False,
    }
    config = {"cluster-store": URL, "cluster-advertise": "eth0:2376", "live-restore": True, "debug": False}
    return {
        "hostname": "node1",
        "machine_id": "1" * 32,
        "now": 1_800_000_000.0,
        "certificates": {"consul": {"not_after": 1_831_536_000}, "ca": {"not_after": 2_115_360_000}},
        "addresses": [
            {"interface": "lo", "address": "127.0.0.1", "prefix": 8, "dynamic": False},
            {"interface": "eth0", "address": "10.88.0.11", "prefix": 24, "dynamic": False},
            {"interface": "docker0", "address": "172.17.0.1", "prefix": 16, "dynamic": False},
        ],
        "forwarding": "1",
        "engine": {
            "pid": 7,
            "installed": True,
            "answers": True,
            "silence": "",
            "info": info,
            "flags": [{"flag": "host", "value": "fd://", "source": "/unit"}],
            "daemon_json": {"exists": True, "error": "", "config": config},
            "stored_id": "AB",
            "pending": False,
        },
        "store": {
            "url": URL,
            "state": "ok",
            "error": "",
            "leader": "10.88.0.11:8300",
            "open": True,
            "nodes": ["10.88.0.11:2376"],
            "networks": [
                {
                    "id": NID,
                    "name": "shop",
                    "driver": "overlay",
                    "subnets": ["10.100.1.0/24"],
                    "vnis": [256],
                    "mtu": None,
                }
            ],
            "endpoints": [
                {"id": EID, "name": "web", "network_id": NID, "ipv4": "10.100.1.2/24", "host": "10.88.0.11"},
                {"id": REMOTE.id, "name": "db", "network_id": NID, "ipv4": "10.100.1.3/24", "host": "10.88.0.12"},
            ],
            "macs": {EID: OWN.mac, REMOTE.id: REMOTE.mac},
            "counts": {NID: 2},
            "taken": {"10.100.1.0/24": ["10.100.1.0", "10.100.1.1", "10.100.1.2", "10.100.1.3", "10.100.1.255"]},
            "reserved": {NID: ["10.100.1.1"]},
        },
        "containers": [container()],
        "complete": True,
        "known": {NID: "overlay"},
        "units": {"docker.service": {"ActiveState": "active", "SubState": "running"}},
        "journal": [],
        "namespaces": ["default", "cafe00000001", f"1-{NID[:10]}", SPACE],
        "overlays": {SPACE: tables()},
        "dns": {"web": True},
        "tunnels": ["vxlan7"],
        "rules": copy.deepcopy(RULES),
        "gossip": {"tcp": "dockerd", "udp": True},
        "stray": 0,
        "unreadable": [],
    }


def ids(observed: dict[str, Any], **wanted: Any) -> list[str]:
    return [row["id"] for row in [*judge_host(observed, {**WANTED, **wanted}), *judge_store(observed)]]


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set something deep within."""

    def apply(observed: dict[str, Any]) -> None:
        *folders, last = path.split("/")
        place: Any = observed
        for name in folders:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[last] = value

    return apply


def journal(*lines: str, times: int = 1, age: float = 1.0) -> Callable[[dict[str, Any]], None]:
    return change("journal", [(age, f'node1 dockerd[7]: level=warning msg="{line}"') for line in lines] * times)


def add(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(observed: dict[str, Any]) -> None:
        place: Any = observed
        for name in path.split("/"):
            place = place[name]
        place.append(value)

    return apply


STORED = {"id": "ff" * 32, "name": "old", "network_id": NID, "ipv4": "10.100.1.9/24", "host": "10.88.0.11"}
STOPPED = {"running": False, "status": "exited"}
STATIC = {"shop": {"id": NID, "endpoint": "", "wanted": "10.100.1.2"}}
LOST = {"gone": {"id": "bb" * 32, "endpoint": EID, "wanted": ""}}
FAILED = "[INFO] serf: EventMemberFailed: node2 10.88.0.12"
RECONNECT = "[INFO] serf: attempting reconnect to node2 10.88.0.12:7946"
JOINED = "[INFO] serf: EventMemberJoin: node2 10.88.0.12"
TCP_ONLY = "[WARN] memberlist: Was able to connect to node2 but other probes failed, network may be misconfigured"
CONFLICT = "[WARN] serf: Name conflict for 'node2' both 10.88.0.12:7946 and 10.88.0.13:7946 are claiming"

PEERS = "units/multihost-overlay-peers.service"

# What is changed on a sound host, and all that is found then.
FAULTS: list[tuple[str, list[Callable[[dict[str, Any]], None]]]] = [
    ("certificate_ended", [change("certificates/consul/not_after", 1_799_999_999)]),
    ("certificate_ended", [change("certificates/ca/not_after", 1_799_999_999)]),
    ("certificate_ends", [change("certificates/consul/not_after", 1_800_086_400)]),
    ("ca_ends", [change("certificates/ca/not_after", 1_800_086_400)]),
    (
        "boot_repair_failed",
        [change("units/multihost-overlay-boot-repair.service", {"ActiveState": "failed", "Result": "exit-code"})],
    ),
    ("peers_unit_down", [change(PEERS, {"ActiveState": "failed", "UnitFileState": "enabled"})]),
    ("peers_unit_down", [change(PEERS, {"ActiveState": "active", "UnitFileState": "disabled"})]),
    ("peers_unit_down", [change(PEERS, {"ActiveState": "inactive", "UnitFileState": "masked"})]),
    ("restart_pending", [change("engine/daemon_json/config/debug", True)]),
    ("restart_pending", [change("engine/pending", True)]),
    ("restart_pending", [change("engine/daemon_json/error", "line 1"), change("engine/daemon_json/config", {})]),
    ("lost_threads", [change("stray", 2)]),
    ("store_silent", [change("store", {"url": URL, "state": "silent", "error": "refused"})]),
    ("store_leaderless", [change("store", {"url": URL, "state": "leaderless", "error": "no leader"})]),
    ("store_denied", [change("store", {"url": URL, "state": "denied", "error": "HTTP 403"})]),
    ("store_unsupported", [change("store", {"url": "etcd://x:2379", "state": "unsupported", "error": ""})]),
    ("unexamined", [change("store", {"url": URL, "state": "odd", "error": "HTTP 500"})]),
    ("store_unprotected", [change("store/url", "consul://10.88.0.5:8500")]),
    (
        "not_advertised",
        [
            change("engine/info/ClusterAdvertise", ""),
            change("engine/daemon_json/config/cluster-advertise", None),
            change("store/endpoints", []),
            change("store/counts", {}),
            change("store/taken", {}),
        ],
    ),
    ("gossip_silent", [change("gossip", {"tcp": "", "udp": True})]),
    ("gossip_silent", [change("gossip", {"tcp": "dockerd", "udp": False})]),
    ("gossip_silent", [change("gossip", {"tcp": "python3", "udp": True})]),
    ("engine_unregistered", [change("store/nodes", ["10.88.0.12:2376"])]),
    ("network_unseen", [change("known", {NID: ""})]),
    ("orphan_endpoint", [add("store/endpoints", STORED), change("store/counts", {NID: 3})]),
    ("static_address_taken", [add("containers", container(name="db", networks=STATIC, **STOPPED))]),
    (
        "network_lost",
        [
            add("containers", container(name="db", networks=LOST, sandbox="")),
            change("known", {NID: "overlay", "bb" * 32: ""}),
        ],
    ),
    (
        "container_down",
        [add("containers", container(name="db", networks={}, error="could not get network sandbox", **STOPPED))],
    ),
    (
        "container_without_endpoint",
        [add("containers", container(name="db", networks={"shop": {"id": NID, "endpoint": "", "wanted": ""}}))],
    ),
    ("leftover_namespace", [add("namespaces", "1-bbbbbbbbbb")]),
    ("leftover_namespace", [add("namespaces", "cafe00000002")]),
    ("leftover_vxlan", [add("tunnels", "vx-000100-abcde")]),
    ("forwarding_off", [change("forwarding", "0")]),
    ("docker_rules_gone", [change("rules/nat", [])]),
    ("docker_rules_gone", [change("rules/filter", ["-A FORWARD -j DOCKER-USER"])]),
    (
        "overlay_port_dropped",
        [
            change("store/nodes", ["10.88.0.11:2376", "10.88.0.12:2376"]),
            add("rules/filter", "-A INPUT -p udp -m udp --dport 4789 -j DROP"),
        ],
    ),
    ("journal_name_taken", [journal(CONFLICT)]),
    ("journal_peer_suspect", [journal(JOINED, FAILED)]),
    ("journal_peer_suspect", [journal(RECONNECT)]),
    ("journal_tcp_only", [journal(TCP_ONLY, times=3)]),
    ("journal_store_kept", [journal("modifies an existing datastore client")]),
    ("journal_session_refused", [journal("cannot set or renew session", times=3)]),
    ("journal_file_exists", [journal("error creating vxlan interface: file exists")]),
    (
        "journal_store_plain",
        [
            journal("Initializing discovery without TLS"),
            change("engine/daemon_json/config/cluster-store-opts", {"kv.certfile": "/x"}),
        ],
    ),
    ("journal_peer_unresolved", [journal('could not resolve peer \\"10.100.1.2\\": timed out', times=3)]),
    (
        "network_twice",
        [
            add(
                "store/networks",
                {"id": "cc" * 32, "name": "shop", "driver": "overlay", "subnets": [], "vnis": [], "mtu": None},
            )
        ],
    ),
    ("stale_endpoint_count", [change("store/counts", {NID: 4})]),
    ("leaked_address", [change("store/taken", {"10.100.1.0/24": ["10.100.1.1", "10.100.1.77"]})]),
    (
        "subnet_full",
        [
            change("store/networks/0/subnets", ["10.100.1.0/30"]),
            change("store/taken", {"10.100.1.0/30": ["10.100.1.0", "10.100.1.1", "10.100.1.2", "10.100.1.3"]}),
        ],
    ),
    ("unexamined", [change("unreadable", [{"what": "x", "error": "y"}])]),
    ("unexamined", [change("forwarding", "1"), lambda observed: observed.pop("tunnels")]),
]


SEEN = f"overlays/{SPACE}"
THIRD = Entry(3, "10.100.1.9", "02:42:0a:64:01:09", True)
TWIN = {"id": "ff" * 32, "name": "twin", "network_id": NID, "ipv4": "10.100.1.3/24", "host": "10.88.0.13"}

TWICE = [
    add("store/endpoints", TWIN),
    change("store/counts", {NID: 3}),
    change("store/macs", {EID: OWN.mac, REMOTE.id: REMOTE.mac, TWIN["id"]: REMOTE.mac}),
]

# What is changed in the tables of an overlay, and all that is found then.
TABLES: list[tuple[str, list[Callable[[dict[str, Any]], None]]]] = [
    ("fdb_wrong", [change(f"{SEEN}/forwarding", [Entry(3, REMOTE.mac, "10.88.0.13", True)])]),
    ("fdb_wrong", [add(f"{SEEN}/forwarding", Entry(3, OWN.mac, "10.88.0.12", True))]),
    ("fdb_missing", [change(f"{SEEN}/forwarding", [])]),
    ("neighbour_wrong", [change(f"{SEEN}/neighbours", [Entry(3, REMOTE.address, "02:42:0a:64:01:07", True)])]),
    ("neighbour_missing", [change(f"{SEEN}/neighbours", []), change(f"{SEEN}/watched", False)]),
    ("entry_of_nobody", [add(f"{SEEN}/neighbours", THIRD)]),
    ("entry_of_nobody", [add(f"{SEEN}/forwarding", Entry(3, THIRD.value, "10.88.0.13", True))]),
    ("tunnel_missing", [change(f"{SEEN}/tunnels", [])]),
    ("tunnel_missing", [change("namespaces", ["default", "cafe00000001"])]),
    ("tunnel_differs", [change(f"{SEEN}/tunnels", [Tunnel(3, "vxlan0", 257, 1450)])]),
    ("tunnel_differs", [change(f"{SEEN}/tunnels", [Tunnel(3, "vxlan0", 256, 1500)])]),
    ("tunnel_differs", [change("store/networks/0/mtu", 1400)]),
    ("dns_rules_gone", [change("dns/web", False)]),
    # Who of the two is right cannot be told, so their entries are neither wrong nor missing.
    ("address_twice", [*TWICE]),
    ("address_twice", [*TWICE, change(f"{SEEN}/forwarding", [])]),
]


@pytest.mark.parametrize(("expected", "changes"), TABLES, ids=[fault[0] for fault in TABLES])
def test_a_fault_of_an_overlay(expected: str, changes: list[Callable[[dict[str, Any]], None]]) -> None:
    observed = sound()
    for apply in changes:
        apply(observed)
    assert ids(observed) == [expected]


@pytest.mark.parametrize(
    "changes",
    [
        # dockerd asks for what is missing, as long as it is told.
        [change(f"{SEEN}/neighbours", []), change(f"{SEEN}/forwarding", [])],
        # What a device has learnt from packets goes by itself, and is a way as well.
        [change(f"{SEEN}/forwarding", [Entry(3, REMOTE.mac, "10.88.0.12", False)])],
        [add(f"{SEEN}/forwarding", Entry(3, THIRD.value, "10.88.0.13", False))],
        [add(f"{SEEN}/forwarding", Entry(3, REMOTE.mac, "10.88.0.13", False))],
        # dockerd has such of its own containers too.
        [add(f"{SEEN}/forwarding", Entry(3, OWN.mac, "10.88.0.11", True)), add(f"{SEEN}/neighbours", Entry(3, OWN.address, OWN.mac, True))],
        # One that is being made, and one that has no MAC in the store.
        [change("store/macs", {EID: OWN.mac}), change(f"{SEEN}/neighbours", []), change(f"{SEEN}/forwarding", [])],
        # What could not be read is said elsewhere; what ended meanwhile is nothing.
        [change("overlays", {})],
        [change("dns/web", None)],
        # No container of this host is on it any more, or the store does not know that there is one.
        [change("containers", []), change("namespaces", []), change("store/endpoints", []), change("store/counts", {NID: 0}),
         change("store/taken", {}), change("overlays", {})],
        [change("store/networks/0/mtu", 1500)],
        [change(f"{SEEN}/tunnels", [Tunnel(3, "vxlan0", 256, 1424)])],
        [change("store/networks/0/vnis", [])],
    ],
)  # fmt: skip
def test_an_overlay_that_is_in_order(changes: list[Callable[[dict[str, Any]], None]]) -> None:
    observed = sound()
    for apply in changes:
        apply(observed)
    assert ids(observed) == []


def found_in_tables(*changes: Callable[[dict[str, Any]], None]) -> list[dict[str, str]]:
    observed = sound()
    for apply in changes:
        apply(observed)
    return judge_host(observed, WANTED)


def test_the_cures_of_entries_are_commands() -> None:
    inside = f"nsenter --net=/run/docker/netns/{SPACE}"
    (row,) = found_in_tables(*TABLES[0][1])
    assert row["fix"].startswith(f"{inside} bridge fdb replace {REMOTE.mac} dev vxlan0 dst 10.88.0.12 self permanent;")
    assert row["message"] == "packets to db (10.100.1.3) on shop go to 10.88.0.13, and it is on 10.88.0.12"
    (row,) = found_in_tables(*TABLES[1][1])
    assert row["fix"].startswith(f"{inside} bridge fdb del {OWN.mac} dev vxlan0 dst 10.88.0.12 self;")
    (row,) = found_in_tables(*TABLES[2][1])
    assert row["fix"].startswith(f"{inside} bridge fdb add {REMOTE.mac} dev vxlan0 dst 10.88.0.12 self permanent;")
    assert (row["vtep"], row["endpoint"]) == ("10.88.0.12", REMOTE.id)
    (row,) = found_in_tables(*TABLES[3][1])
    assert f"ip neigh replace 10.100.1.3 lladdr {REMOTE.mac} dev vxlan0 nud permanent" in row["fix"]


def test_the_oldest_namespace_of_a_network_is_not_the_one_in_use() -> None:
    assert ids({**sound(), "overlays": {f"1-{NID[:10]}": tables(tunnels=[]), SPACE: tables()}}) == []


def test_many_entries_are_said_in_few_lines() -> None:
    rows = [{"id": "fdb_wrong", "evidence": str(number)} for number in range(9)] + [{"id": "x", "evidence": ""}] * 9
    kept = shortened(rows)
    assert [row["evidence"] for row in kept[:5]] == ["0", "1", "2", "3", "4; and 4 more like it"]
    assert len(kept) == 14


def test_the_unit_has_time_to_mend_entries() -> None:
    """It looks every ten seconds; other things are looked at again sooner."""
    slept: list[float] = []
    looks = [sound(), sound(), sound(), sound()]
    looks[0]["overlays"][SPACE]["forwarding"] = []
    looks[2]["overlays"][SPACE]["neighbours"].append(THIRD)
    assert doctor(lambda: looks.pop(0), WANTED, slept.append)["findings"] == []
    assert doctor(lambda: looks.pop(0), WANTED, slept.append)["findings"] == []
    assert slept == [12.0, 3.0]


def test_a_sound_host() -> None:
    assert ids(sound()) == []


@pytest.mark.parametrize(("expected", "changes"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault(expected: str, changes: list[Callable[[dict[str, Any]], None]]) -> None:
    observed = sound()
    for apply in changes:
        apply(observed)
    assert ids(observed) == [expected]


@pytest.mark.parametrize(
    "changes",
    [
        [journal(FAILED, JOINED)],
        [journal(CONFLICT, age=61)],
        [journal(TCP_ONLY, times=2)],
        [journal(TCP_ONLY, times=3, age=181)],
        [journal(TCP_ONLY, TCP_ONLY, TCP_ONLY.replace("node2", "node3"))],
        [journal('could not resolve peer \\"10.100.1.2\\": timed out', times=2)],
        [journal('could not resolve peer \\"10.100.1.250\\": timed out', times=9)],
        [journal("Initializing discovery without TLS")],
        [change("engine/daemon_json/config/iptables", False), change("rules/nat", [])],
        [add("engine/flags", {"flag": "iptables", "value": "false", "source": "x"}), change("rules/nat", [])],
        [change("rules", None)],
        [change("gossip", None)],
        [
            add(
                "containers",
                container(
                    name="db",
                    networks=STATIC | {"shop": {"id": NID, "endpoint": "", "wanted": "10.100.1.3"}},
                    **STOPPED,
                ),
            )
        ],
        [add("containers", container(name="db", networks={}, error="exec: not found", **STOPPED))],
        [add("containers", container(name="db", networks={}, policy="no", error="no endpoint", **STOPPED))],
        [change("store", {}), change("engine/info/ClusterStore", ""), change("engine/daemon_json/config", {})],
        [change("store/taken", {"10.100.1.0/24": ["10.100.1.0", "10.100.1.255"]})],
    ],
)
def test_nothing_to_complain_about(changes: list[Callable[[dict[str, Any]], None]]) -> None:
    observed = sound()
    for apply in changes:
        apply(observed)
    assert ids(observed) == []


def test_an_engine_that_is_down() -> None:
    observed = sound()
    observed["engine"].update(pid=0, answers=False, info={})
    words = ["level=info msg=hello", "unable to configure the Docker daemon with file /etc/docker/daemon.json: no"]
    observed.update(
        store={},
        containers=[],
        complete=False,
        known={},
        namespaces=["1-bbbbbbbbbb"],
        journal=[(5.0, word) for word in words],
    )
    observed["units"]["docker.service"] = {"ActiveState": "failed", "SubState": "failed"}
    (row,) = judge_host(observed, WANTED)
    assert row["id"] == "engine_down"
    assert row["evidence"] == f"docker.service is failed (failed); {words[1]}"
    observed["engine"].update(pid=7)
    assert ids(observed) == ["engine_hangs"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.88.0.99:2376", "advertises_elsewhere"),
        ("127.0.0.1:2376", "advertises_elsewhere"),
        ("172.17.0.1:2376", "advertises_elsewhere"),
    ],
)
def test_what_is_advertised(address: str, expected: str) -> None:
    observed = sound()
    observed["engine"]["info"]["ClusterAdvertise"] = address
    observed["engine"]["daemon_json"]["config"].pop("cluster-advertise")
    observed["store"].update(nodes=[address])
    assert ids(observed) == [expected]


def test_another_address_than_the_inventorys() -> None:
    assert ids(sound(), address="10.0.0.5") == ["advertises_other"]
    assert ids(sound(), address="") == []


# -- twice


def test_what_passes_is_not_blamed() -> None:
    looks = [sound(), sound()]
    looks[0]["store"]["endpoints"].append(STORED)
    looks[0]["store"]["counts"] = {NID: 3}
    slept: list[float] = []
    result = doctor(lambda: looks.pop(0), WANTED, slept.append)
    assert result["findings"] == result["store_findings"] == []
    assert len(slept) == 1


def test_what_stays_is_blamed() -> None:
    def look() -> dict[str, Any]:
        observed = sound()
        observed["store"]["counts"] = {NID: 7}
        observed["stray"] = len(slept) + 1
        return observed

    slept: list[float] = []
    result = doctor(look, WANTED, slept.append)
    assert [row["id"] for row in result["findings"]] == ["lost_threads"]
    assert [row["id"] for row in result["store_findings"]] == ["stale_endpoint_count"]
    json.dumps(result)


def test_what_is_new_at_the_second_look_is_not_blamed_yet() -> None:
    looks = [sound(), sound()]
    looks[0]["stray"] = 1
    looks[1]["store"]["counts"] = {NID: 7}
    looks[1]["forwarding"] = "0"
    result = doctor(lambda: looks.pop(0), WANTED, lambda _seconds: None)
    assert [row["id"] for row in result["findings"]] == ["forwarding_off"]
    assert result["store_findings"] == []


def test_a_sound_host_is_looked_at_once() -> None:
    looks = [sound()]
    assert doctor(lambda: looks.pop(0), WANTED)["findings"] == []


# -- the store


def pair(key: str, value: Any) -> dict[str, Any]:
    text = value if isinstance(value, str) else json.dumps(value)
    return {"Key": key, "Value": base64.b64encode(text.encode()).decode() if text else None}


def bits(*blocks: tuple[int, int]) -> str:
    data = struct.pack(">QQ", 256, 250) + b"".join(struct.pack(">IQ", *block) for block in blocks)
    return base64.b64encode(data).decode()


FOLDER = "docker/network/v1.0"
KEYS = [
    pair("docker/nodes", ""),
    pair("docker/nodes/10.88.0.11:2376", "10.88.0.11:2376"),
    pair(
        f"{FOLDER}/network/{NID}/",
        {
            "id": NID,
            "name": "shop",
            "networkType": "overlay",
            "ipamV4Info": json.dumps(
                [
                    {
                        "IPAMData": json.dumps(
                            {
                                "Pool": "10.100.1.0/24",
                                "Gateway": "10.100.1.1/24",
                                "AuxAddresses": {"x": "10.100.1.5/24"},
                            }
                        )
                    }
                ]
            ),
        },
    ),
    pair(
        f"{FOLDER}/endpoint/{NID}/{EID}/",
        {"id": EID, "name": "web", "ep_iface": {"addr": "10.100.1.2/24"}, "locator": "10.88.0.11"},
    ),
    pair(f"{FOLDER}/endpoint_count/{NID}/", {"Count": 1}),
    pair(f"{FOLDER}/endpoint_count/odd/", "[]"),
    pair(
        f"{FOLDER}/ipam/default/data/GlobalDefault/10.100.1.0/24/", {"sequence": bits((0xE0000000, 1), (0, 6), (1, 1))}
    ),
    pair(f"{FOLDER}/ipam/default/data/GlobalDefault/odd/", {}),
]


def asker(answers: dict[str, tuple[int, bytes]]) -> Callable[[str, str], tuple[int, bytes]]:
    return lambda path, token: answers.get(f"{path} {token}".strip(), answers.get(path, (404, b"")))


def answers(**changes: Any) -> dict[str, tuple[int, bytes]]:
    found = {
        "/v1/status/leader": (200, b'"10.88.0.11:8300"'),
        "/v1/kv/docker/?recurse": (200, json.dumps(KEYS).encode()),
    }
    found.update(changes)
    return found


def test_the_store_is_read() -> None:
    store = _doctor_store.read_store(URL, "", asker(answers()))
    assert (store["state"], store["leader"], store["open"]) == ("ok", "10.88.0.11:8300", True)
    assert store["nodes"] == ["10.88.0.11:2376"]
    assert store["taken"] == {"10.100.1.0/24": ["10.100.1.0", "10.100.1.1", "10.100.1.2", "10.100.1.255"]}
    assert store["reserved"] == {NID: ["10.100.1.1", "10.100.1.5"]}
    assert store["counts"] == {NID: 1}
    assert [entry["host"] for entry in store["endpoints"]] == ["10.88.0.11"]


def test_an_empty_store() -> None:
    store = _doctor_store.read_store(URL, "", asker({"/v1/status/leader": (200, b'"x:1"')}))
    assert (store["state"], store["nodes"]) == ("ok", [])


def test_a_store_in_a_folder() -> None:
    inside = [dict(entry, Key="their/" + entry["Key"]) for entry in KEYS]
    found = answers(**{"/v1/kv/their/docker/?recurse": (200, json.dumps(inside).encode())})
    assert _doctor_store.read_store(URL + "/their", "", asker(found))["nodes"] == ["10.88.0.11:2376"]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"/v1/status/leader": (0, b"refused")}, "silent"),
        ({"/v1/status/leader": (200, b'""')}, "leaderless"),
        ({"/v1/status/leader": (500, b"No cluster leader")}, "leaderless"),
        ({"/v1/kv/docker/?recurse": (403, b"denied")}, "denied"),
        ({"/v1/kv/docker/?recurse": (500, b"No cluster leader")}, "leaderless"),
        ({"/v1/kv/docker/?recurse": (500, b"rpc error")}, "odd"),
        ({"/v1/kv/docker/?recurse": (200, b"<html>")}, "odd"),
    ],
)
def test_a_store_that_cannot_be_read(given: dict[str, tuple[int, bytes]], state: str) -> None:
    assert _doctor_store.read_store(URL, "", asker(answers(**given)))["state"] == state


def test_a_store_of_another_kind() -> None:
    assert _doctor_store.read_store("etcd://x:1", "", asker({}))["state"] == "unsupported"


@pytest.mark.parametrize(("status", "is_open"), [(200, True), (403, False)])
def test_a_store_with_a_token(status: int, is_open: bool) -> None:
    found = answers(**{"/v1/kv/docker/?recurse&keys": (status, b"[]")})
    assert _doctor_store.read_store(URL, "secret", asker(found))["open"] is is_open


def test_a_long_sequence_ends() -> None:
    """A block that is said to repeat for ever does not take for ever."""
    data = base64.b64decode(bits((0xFFFFFFFF, 2**63)))
    assert _doctor_store.set_bits(data, 64) == list(range(64))


# -- reading


class Engine:
    """Answers as an engine does, and refuses to be asked for a list of networks."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def get(self, path: str, query: Any = None) -> Any:
        self.asked.append(path)
        assert path != "/networks", "a list of networks takes seconds"
        if path not in self.answers:
            raise DockerError("no such thing", 404)
        return self.answers[path]


INSPECTED = {
    "Id": "c1",
    "Name": "/web",
    "State": {"Running": True, "Status": "running", "Error": ""},
    "HostConfig": {"RestartPolicy": {"Name": "always"}},
    "NetworkSettings": {
        "SandboxKey": "/var/run/docker/netns/cafe00000001",
        "Networks": {"shop": {"NetworkID": NID, "EndpointID": EID, "IPAMConfig": None}},
    },
}


def test_containers_are_read() -> None:
    engine = Engine(
        **{
            "/containers/json": [{"Id": "c1"}],
            "/containers/c1/json": INSPECTED,
            f"/networks/{NID}": {"Driver": "overlay"},
        }
    )
    reader = Reader()
    seen, complete = _doctor_host.read_containers(reader, engine)
    assert (seen, complete) == ([container()], True)
    store = {"networks": [{"id": "dd", "driver": "overlay"}, {"id": "local", "driver": "bridge"}]}
    assert _doctor_host.known_networks(reader, engine, store, seen) == {NID: "overlay", "dd": ""}
    assert reader.unreadable == []


def test_an_engine_that_says_nothing() -> None:
    class Silent:
        def get(self, path: str, query: Any = None) -> Any:
            raise DockerError("timed out")

    assert _doctor_host.ask_info(Silent()) == (None, "timed out")
    assert _doctor_host.ask_info(Engine(**{"/info": {"ID": "x"}})) == ({"ID": "x"}, "")


def test_no_list_of_containers_is_said() -> None:
    reader = Reader()
    assert _doctor_host.read_containers(reader, Engine()) == ([], False)
    assert len(reader.unreadable) == 1


def test_whether_all_containers_were_seen_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Engine):
        """One of the containers cannot be inspected in time."""

        def get(self, path: str, query: Any = None) -> Any:
            if path == "/containers/c2/json":
                raise DockerError("timed out")
            return super().get(path, query)

    one, two = {"Id": "c1"}, {"Id": "c2"}
    # One that has gone meanwhile was seen to go.
    gone = Engine(**{"/containers/json": [one, {"Id": "c3"}], "/containers/c1/json": INSPECTED})
    assert _doctor_host.read_containers(Reader(), gone) == ([container()], True)
    slow = Slow(**{"/containers/json": [one, two], "/containers/c1/json": INSPECTED})
    assert _doctor_host.read_containers(Reader(), slow) == ([container()], False)
    monkeypatch.setattr(_doctor_host, "MOST_CONTAINERS", 1)
    assert _doctor_host.read_containers(Reader(), slow) == ([container()], False)


@pytest.mark.parametrize(
    ("name", "cure"), [("web", "docker network disconnect -f "), ("old", "consul kv delete -recurse ")]
)
def test_no_cure_takes_a_container_off_its_network(name: str, cure: str) -> None:
    """That is what Docker's own command does if a container has the name of the endpoint in its way."""
    observed = sound()
    observed["store"]["endpoints"].append(STORED)
    observed["containers"].append(container(**STOPPED, id="c2", name=name, networks={}))
    (found,) = [row for row in judge_host(observed, WANTED) if row["id"] == "orphan_endpoint"]
    assert found["fix"].startswith(cure)


def test_of_containers_that_were_not_seen_nothing_is_left_over() -> None:
    observed = sound()
    observed.update(containers=[], complete=False)
    assert not {"orphan_endpoint", "leftover_namespace"} & set(ids(observed))


def run(outputs: dict[str, str]) -> Callable[[list[str]], tuple[int, str, str]]:
    def answer(argv: list[str]) -> tuple[int, str, str]:
        text = next((text for words, text in outputs.items() if " ".join(argv).startswith(words)), None)
        return (127, "", "not found") if text is None else (0, text, "")

    return answer


def test_units_tunnels_and_rules_are_read(tmp_path: Path) -> None:
    outputs = {
        "systemctl show": "Id=docker.service\nLoadState=loaded\nActiveState=active\n\n"
        "Id=x.service\nLoadState=not-found\n\nId=y.service\nLoadState=masked\n",
        "ip -o link show type vxlan": "9: vx-000100-abcde: <UP> mtu 1450\n12: vx0@if3: <UP> mtu 1\n",
        "iptables -w 5 -t": "-P INPUT ACCEPT\n",
    }
    reader = Reader(str(tmp_path), run(outputs))
    assert list(_doctor_host.read_units(reader)) == ["docker.service", "y.service"]
    assert _doctor_host.read_tunnels(reader) == ["vx-000100-abcde", "vx0"]
    assert _doctor_host.read_rules(reader) == {"filter": ["-P INPUT ACCEPT"], "nat": ["-P INPUT ACCEPT"]}
    assert _doctor_host.read_rules(Reader(str(tmp_path), run({}))) is None


def test_gossip_is_read(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    reader = Reader(str(tmp_path), run({}))
    assert _doctor_host.gossip_listeners(reader) == {"tcp": "", "udp": False}
    (tmp_path / "proc/net/udp").write_text("head\n 1: 0B00580A:1F0A 00000000:0000 07 0 0 0 0 0 99\n")
    assert _doctor_host.gossip_listeners(reader)["udp"]


def test_the_journal_is_read(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def answer(argv: list[str]) -> tuple[int, str, str]:
        asked.append(argv)
        return 0, "1000.5 node1 dockerd[7]: hello\n-- odd\n", ""

    (first, second) = _doctor_host.read_journal(Reader(str(tmp_path), answer), 7, 30)
    assert first[0] > 0
    assert (first[1], second) == ("node1 dockerd[7]: hello", (0.0, "-- odd"))
    assert asked[0][-1] == "_PID=7"
    _doctor_host.read_journal(Reader(str(tmp_path), answer), 0, 30)
    assert asked[1][-2:] == ["-u", "docker.service"]


def test_dockerds_token_is_used(tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/environ").write_text("A=1\0CONSUL_HTTP_TOKEN=secret\0")
    assert _doctor_host.token_of(Reader(str(tmp_path)), 7) == "secret"
    assert _doctor_host.token_of(Reader(str(tmp_path)), 8) == ""


def test_a_pending_restart_is_read(tmp_path: Path) -> None:
    path = tmp_path / "var/lib/multihost-overlay/manifest.json"
    path.parent.mkdir(parents=True)
    reader = Reader(str(tmp_path))
    assert not _doctor_host.pending(reader)
    path.write_text(json.dumps({"state": {"docker_pending": {"x": 1}}}))
    assert _doctor_host.pending(reader)


RULES_OF_DNS = """-P OUTPUT ACCEPT
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:35677
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:53413
"""


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(0, RULES_OF_DNS)], True),
        ([(0, ""), (0, RULES_OF_DNS)], True),
        ([(0, ""), (0, ""), (0, "")], False),
        ([(0, ""), (127, ""), (127, "")], False),
        ([(0, RULES_OF_DNS.replace("-A OUTPUT", "-A OTHER")), (3, ""), (0, "")], False),
        ([(0, RULES_OF_DNS.replace("udp", "sctp")), (127, ""), (127, "")], False),
        ([(127, ""), (127, ""), (127, "")], None),
        ([(0, ""), (4, ""), (0, "")], None),
        ([(124, ""), (0, ""), (0, "")], None),
    ],
)
def test_rules_of_dns_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, str]], expected: bool | None
) -> None:
    monkeypatch.setattr(_doctor_spaces, "inside", lambda _path: contextlib.nullcontext())
    left = list(answers)

    def answer(_argv: list[str]) -> tuple[int, str, str]:
        status, out = left.pop(0)
        return status, out, ""

    assert _doctor_spaces.rules_look(Reader(run=answer))("/x") is expected


def test_only_running_containers_on_overlays_are_asked_for_rules() -> None:
    asked: list[str] = []
    rows = [
        container(),
        container(name="off", running=False),
        container(name="host", sandbox=""),
        container(name="b", networks={}),
    ]

    def look(path: str) -> bool:
        asked.append(path)
        return True

    found = _doctor_spaces.read_dns(Reader(), rows, {NID: "overlay"}, look)
    assert (found, asked) == ({"web": True}, ["/run/docker/netns/cafe00000001"])
    assert _doctor_spaces.read_dns(Reader(), rows, {NID: "bridge"}, lambda path: True) == {}


def test_namespaces_are_read_within_bounds(tmp_path: Path) -> None:
    """One that cannot be read, and those for which there is no time, are said; one that ended is not."""
    (tmp_path / "run/docker/netns").mkdir(parents=True)
    names = [f"{number}-{NID[:10]}" for number in range(1, 6)]
    for name in names[:2] + names[3:]:
        (tmp_path / "run/docker/netns" / name).touch()
    clock = iter([0.0, 1.0, 2.0, 3.0, 19.0, 21.0])

    def look(path: str) -> Any:
        if path.endswith(names[1]):
            raise OSError("broken")
        if path.endswith(names[2]):
            raise OSError("ended")
        return {"tunnels": []}

    reader = Reader(str(tmp_path))
    found = _doctor_spaces.read_overlays(reader, ["default", "cafe00000001", *names], look, lambda: next(clock))
    assert list(found) == [names[0], names[3]]
    assert [entry["error"] for entry in reader.unreadable] == [
        "broken", "1 were not looked at, because it took more than 20 s"
    ]  # fmt: skip


def test_macs_are_read() -> None:
    pairs: list[tuple[str, bytes | None]] = [
        ("a", b'{"id": "e1", "ep_iface": {"mac": "02:42:0A:64:01:02"}}'), ("b", b'{"id": "e2"}'), ("c", b"[]"), ("d", None)
    ]  # fmt: skip
    assert _doctor_store.macs(pairs) == {"e1": "02:42:0a:64:01:02", "e2": ""}


def test_every_check_has_been_seen() -> None:
    """Those across hosts are tried with the report."""
    text = Path(__file__).read_text()
    text += Path(__file__).parents[1].joinpath("plugin_utils/test_doctor_report.py").read_text()
    assert [name for name in CHECKS if f'"{name}"' not in text] == []


def test_who_is_not_root_is_told_so_and_nothing_else(
    run_module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose process cannot be seen would pass for one that is down."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run_module(host_doctor.main, {})
    assert [row["id"] for row in result["findings"]] == ["not_root"]
    assert "the doctor does not run as root" in result["findings"][0]["message"]
    assert (result["store_findings"], result["facts"]) == ([], {})
