# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only shows when hosts, engines and the store are looked at together."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils._doctor_report import (
    STORE,
    all_findings,
    refused,
    repair_lines,
    repaired,
)

URL = "consul://127.0.0.1:8500"
NID = "aa" * 32
ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}


def result(number: int, **changes: Any) -> dict[str, Any]:
    """What a sound host gives."""
    store = {
        "url": URL,
        "state": "ok",
        "leader": "10.0.0.1:8300",
        "nodes": [f"{address}:2376" for address in ADDRESSES.values()],
        "networks": [{"id": NID, "name": "shop", "driver": "overlay", "subnets": [], "vnis": [], "mtu": None}],
        "endpoints": [{"id": "e", "name": "web", "network_id": NID, "ipv4": "10.100.0.2/24", "host": "10.0.0.1"}],
    }
    engine = {
        "id": str(number),
        "answers": True,
        "version": "20.10.5",
        "store": URL,
        "advertise": f"10.0.0.{number}:2376",
        **changes.pop("engine", {}),
    }
    facts = {
        "hostname": f"node{number}",
        "machine_id": str(number),
        "addresses": [f"10.0.0.{number}"],
        "engine": engine,
    }
    facts["store"] = {**store, **changes.pop("store", {})}
    return {"findings": [], "store_findings": [], "facts": {**facts, **changes}}


def pairs(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any], skip: bool = False) -> list[tuple[str, str]]:
    rows = all_findings({"a": a, "b": b, "c": c}, ADDRESSES, skip)
    return [(row["host"], row["id"]) for row in rows]


def test_a_sound_cluster() -> None:
    assert pairs(result(1), result(2), result(3)) == []


def test_one_store_is_another() -> None:
    other = result(2, engine={"store": "consul://10.9.9.9:8500"}, store={"url": "consul://10.9.9.9:8500", "nodes": []})
    assert pairs(result(1), other, result(3)) == [("b", "store_differs")]
    assert pairs(result(1), result(2, engine={"store": ""}, store={}), result(3)) == [("b", "store_missing")]


def test_another_url_may_lead_to_the_same_store() -> None:
    local = "consul://127.0.0.1:8501"
    assert pairs(result(1), result(2), result(3, engine={"store": local}, store={"url": local})) == []


def test_an_engine_that_is_down_has_no_store_to_speak_of() -> None:
    silent = {"answers": False, "store": "", "advertise": ""}
    assert pairs(result(1), result(2, engine=silent), result(3)) == []


def test_a_cluster_without_a_store() -> None:
    bare = [result(number, engine={"store": "", "advertise": ""}, store={"url": ""}) for number in (1, 2, 3)]
    assert pairs(bare[0], bare[1], bare[2]) == []


def nodes(*extra: str) -> dict[str, Any]:
    return {"nodes": [*(f"{address}:2376" for address in ADDRESSES.values()), *extra]}


def test_ghosts() -> None:
    for extra in ("10.0.0.9:2376", "10.0.0.2:2375"):
        rows = all_findings({"a": result(1, store=nodes(extra)), "b": result(2), "c": result(3)}, ADDRESSES, False)
        assert [(row["host"], row["id"]) for row in rows] == [(STORE, "ghost_host")]
        assert f"consul kv delete docker/nodes/{extra}" in rows[0]["fix"]


def test_a_host_that_could_not_be_read_is_no_ghost() -> None:
    gone = {"unreachable": True, "msg": "no route"}
    assert pairs(result(1), gone, result(3)) == [("b", "host_unreachable")]
    assert pairs(result(1), gone, result(3), skip=True) == [("b", "host_skipped")]
    assert pairs(result(1), {"msg": "boom"}, result(3)) == [("b", "doctor_failed")]


def test_an_endpoint_of_nobody() -> None:
    stray = {"id": "f", "name": "old", "network_id": NID, "ipv4": "10.100.0.9/24", "host": "10.0.0.9"}
    rows = all_findings(
        {"a": result(1, store={"endpoints": [stray]}), "b": result(2), "c": result(3)}, ADDRESSES, False
    )
    assert [(row["host"], row["id"]) for row in rows] == [(STORE, "endpoint_of_nobody")]
    assert f"docker/network/v1.0/endpoint/{NID}/f/" in rows[0]["fix"]


def test_what_is_wrong_in_the_store_is_said_once() -> None:
    row = {"id": "stale_endpoint_count", "level": "warning", "message": "m", "evidence": "e", "fix": "f"}
    hosts = [dict(result(number), store_findings=[row]) for number in (1, 2, 3)]
    assert pairs(hosts[0], hosts[1], hosts[2]) == [(STORE, "stale_endpoint_count")]


def test_clones() -> None:
    rows = pairs(result(1, hostname="same"), result(2), result(3, hostname="same"))
    assert rows == [("a", "hostname_duplicate"), ("c", "hostname_duplicate")]


def test_errors_come_first_and_the_store_last() -> None:
    row = {"id": "network_twice", "level": "error", "message": "m", "evidence": "e", "fix": "f"}
    mild = {"id": "restart_pending", "level": "warning", "message": "m", "evidence": "e", "fix": "f"}
    hosts = [
        dict(result(1), findings=[mild], store_findings=[row]),
        result(2, engine={"store": ""}, store={}),
        result(3),
    ]
    assert pairs(hosts[0], hosts[1], hosts[2]) == [
        ("b", "store_missing"),
        (STORE, "network_twice"),
        ("a", "restart_pending"),
    ]


def test_what_has_a_cause_is_not_said_twice() -> None:
    suspect = {
        "id": "journal_peer_suspect",
        "level": "warning",
        "message": "m",
        "evidence": "e",
        "fix": "f",
        "peer": "node3",
    }
    taken = {"id": "journal_name_taken", "level": "error", "message": "m", "evidence": "e", "fix": "f"}
    first = dict(result(1), findings=[suspect])
    assert pairs(first, result(2), result(3)) == [("a", "journal_peer_suspect")]
    assert pairs(first, result(2), result(3, engine={"answers": False, "store": "", "advertise": ""})) == []
    assert pairs(first, result(2), result(3, engine={"store": "consul://x:1"})) == [("c", "store_differs")]
    assert pairs(first, result(2), {"unreachable": True}) == [("c", "host_unreachable")]
    named = dict(result(1), findings=[taken])
    assert pairs(named, result(2), result(3)) == [("a", "journal_name_taken")]
    rows = pairs(named, result(2, hostname="node3"), result(3))
    assert rows == [("b", "hostname_duplicate"), ("c", "hostname_duplicate")]
    silent = {"id": "gossip_silent", "level": "error", "message": "m", "evidence": "e", "fix": "f"}
    outvoted = dict(result(3), findings=[silent])
    rows = pairs(result(1), result(2, hostname="node3"), outvoted)
    assert rows == [("b", "hostname_duplicate"), ("c", "hostname_duplicate")]
    assert ("c", "gossip_silent") in pairs(result(1), result(2, hostname="node1"), outvoted)


@pytest.mark.parametrize("check_id", ["fdb_missing", "neighbour_missing"])
def test_nobody_misses_a_way_to_what_is_not_there(check_id: str) -> None:
    row = {
        "id": check_id,
        "level": "error",
        "message": "m",
        "evidence": "e",
        "fix": "f",
        "vtep": "10.0.0.2",
        "endpoint": "e1",
    }
    orphan = {"id": "orphan_endpoint", "level": "warning", "message": "m", "evidence": "e", "fix": "f", "thing": "e1"}
    blamed = dict(result(1), findings=[row])
    assert pairs(blamed, result(2), result(3)) == [("a", check_id)]
    assert pairs(blamed, result(2, engine={"answers": False}), result(3)) == []
    assert pairs(blamed, dict(result(2), findings=[orphan]), result(3)) == [("b", "orphan_endpoint")]


STEP = {"kind": "endpoint", "thing": "e", "network_id": "n", "network": "shop", "name": "web", "address": "10.1.0.2/24"}


def test_a_repair_is_reported() -> None:
    did = {
        "steps": [{**STEP, "done": True, "error": ""}, {**STEP, "done": False, "error": "boom"}],
        "backup": "/b.json",
    }
    rows = repaired({"a": did, "b": {"steps": []}})
    assert [(row["host"], row["done"], row["backup"]) for row in rows] == [
        ("a", True, "/b.json"),
        ("a", False, "/b.json"),
    ]
    words = "remove the endpoint web (10.1.0.2/24) of network shop from the store"
    assert repair_lines(rows) == [
        f"repair: a: {words}: done",
        f"repair: a: {words}: boom",
        "repair: a: the keys as they were: consul kv import @/b.json",
    ]
    assert repair_lines([{"host": "a", **STEP, "done": False, "error": "", "backup": ""}])[0].endswith(
        "not done: check mode"
    )


def test_a_repair_that_was_refused_or_failed_is_a_finding() -> None:
    no = {"steps": [], "refused": "b could not be examined"}
    (row,) = refused({"a": no, "c": no})
    assert (row["host"], row["id"], row["level"]) == (STORE, "repair_refused", "error")
    assert row["evidence"] == "b could not be examined"
    (row,) = refused({"a": {"steps": []}, "b": {"msg": "boom"}})
    assert (row["host"], row["id"]) == ("b", "doctor_failed")
