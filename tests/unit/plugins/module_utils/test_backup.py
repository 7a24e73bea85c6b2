# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the store is backed up, how two states differ, and what leads from one to the other."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _backup as plan

BASE = "docker/network/v1.0/"


def row(key: str, value: Any = "", index: int = 5, **more: Any) -> dict[str, Any]:
    text = value if isinstance(value, str) else json.dumps(value)
    encoded = base64.b64encode(text.encode()).decode() if text else None
    return {"Key": key, "Value": encoded, "Flags": 0, "ModifyIndex": index, **more}


def network(name: str, identifier: str, pool: str, **more: Any) -> dict[str, Any]:
    """As Docker 20.10.5 writes it."""
    info = [{"PoolID": "x", "IPAMData": json.dumps({"Pool": pool, "Gateway": pool.replace("0/", "1/")})}]
    record = {
        "id": identifier, "name": name, "networkType": "overlay", "scope": "global", "attachable": True, "internal": False,
        "ipamV4Config": json.dumps([{"PreferredPool": pool, "SubPool": "", "Gateway": ""}]), "ipamV4Info": json.dumps(info),
        "generic": {"com.docker.network.generic": {"com.docker.network.driver.mtu": "1400"}}, "labels": {"team": "a"},
    }  # fmt: skip
    return row(f"{BASE}network/{identifier}/", {**record, **more})


def endpoint(name: str, identifier: str, nid: str, host: str = "10.0.0.1") -> dict[str, Any]:
    record = {"id": identifier, "name": name, "locator": host, "ep_iface": {"addr": "10.9.1.2/24"}}
    return row(f"{BASE}endpoint/{nid}/{identifier}/", record)


ROWS = [
    row("docker/nodes", ""),
    row("docker/nodes/10.0.0.1:2376", "10.0.0.1:2376", Session="s"),
    row("docker/multihost-overlay/lock", "somebody"),
    row(BASE + "network/"),
    network("shop", "n1", "10.9.1.0/24"),
    network("going", "n2", "10.9.2.0/24", inDelete=True),
    endpoint("web", "e1", "n1"),
]


def test_networks_can_be_made_again_from_the_list() -> None:
    (shop,) = plan.inventory(ROWS)
    assert shop == {
        "name": "shop", "id": "n1", "driver": "overlay", "scope": "global", "vnis": [], "internal": False, "attachable": True,
        "ipam": [{"subnet": "10.9.1.0/24", "gateway": "10.9.1.1", "ip_range": ""}],
        "options": {"com.docker.network.driver.mtu": "1400"}, "labels": {"team": "a"},
        "endpoints": [{"name": "web", "ipv4": "10.9.1.2/24", "host": "10.0.0.1", "id": "e1"}],
    }  # fmt: skip
    assert plan.inventory([]) == []


def test_who_lives_by_a_session_is_not_brought_back() -> None:
    """An engine would stay in the store for ever, and a lock would be held by nobody."""
    assert [entry["Key"] for entry in plan.lasting(ROWS)] == [entry["Key"] for entry in ROWS[3:]]


def test_a_prefix_is_taken_off() -> None:
    assert plan.stripped([row("team/a/docker/x")], "team/a")[0]["Key"] == "docker/x"
    assert plan.stripped([row("docker/x")], "")[0]["Key"] == "docker/x"


def test_what_a_restore_does_is_said_of_networks_and_containers() -> None:
    live = [network("shop", "n1", "10.9.9.0/24"), network("new", "n3", "10.9.3.0/24"), endpoint("late", "e2", "n3")]
    found = plan.compare_networks(plan.inventory(ROWS), plan.inventory(live))
    assert found.gone == ["network new (10.9.3.0/24)", "container late of new on 10.0.0.1"]
    assert found.back == ["container web of shop on 10.0.0.1"]
    assert found.changed == ["network shop (10.9.1.0/24)"]
    assert not plan.compare_networks(plan.inventory(ROWS), plan.inventory(ROWS)).any


def test_a_container_alone_does_not_change_its_network() -> None:
    found = plan.compare_networks(plan.inventory(ROWS), plan.inventory(ROWS[:-1]))
    assert (found.back, found.changed) == (["container web of shop on 10.0.0.1"], [])


def test_a_drill_compares_key_by_key() -> None:
    live = [*ROWS[:-1], endpoint("late", "e2", "n1"), row(BASE + "ipam/x", "1")]
    saved = [*ROWS, row(BASE + "ipam/x", "2"), row("docker/nodes/10.0.0.9:1", "y", Session="t")]
    found = plan.compare_rows(saved, live)
    assert found == (["container late"], ["container web"], [f"key {BASE}ipam/x"])
    assert not plan.compare_rows(ROWS, ROWS).any
    assert not plan.compare_rows(ROWS, [*ROWS, row(BASE + "endpoint/n1/")]).any, "a folder"


def test_keys_are_changed_only_if_nobody_else_has() -> None:
    live = [row("docker/a", "old", 7), row("docker/b", "same", 8), row("docker/c", "new", 9), ROWS[1]]
    saved = [row("docker/a", "was"), row("docker/b", "same"), row("docker/d", "back"), row("other/x", "no")]
    steps = list(plan.operations(saved, live, ""))
    assert [(step["Verb"], step["Key"], step["Index"]) for step in steps] == [
        ("cas", "docker/a", 7),
        ("cas", "docker/d", 0),
        ("delete-cas", "docker/c", 9),
    ]
    assert base64.b64decode(steps[0]["Value"]) == b"was"
    assert [step["Key"] for step in plan.operations(saved, [], "team")] == [
        "team/docker/a",
        "team/docker/b",
        "team/docker/d",
    ]


def test_transactions_are_as_large_as_consul_takes_them() -> None:
    steps = [{"Verb": "cas", "Key": str(number), "Value": "x"} for number in range(130)]
    assert [len(batch) for batch in plan.batches(steps)] == [64, 64, 2]
    large = [{"Verb": "cas", "Key": str(number), "Value": "x" * 200_000} for number in range(3)]
    assert [len(batch) for batch in plan.batches(large)] == [1, 1, 1]
    assert list(plan.batches([])) == []


def test_hosts_of_before_leave_the_catalog_and_their_namesakes_are_known_at_once() -> None:
    nodes = [{"Node": "node1", "ID": "old"}, {"Node": "node2", "ID": "two"}, {"Node": "gone", "ID": "lost"}]
    members = [
        {"Name": "node1", "Addr": "10.0.0.1", "Status": 1, "Tags": {"id": "new"}},
        {"Name": "node2", "Addr": "10.0.0.2", "Status": 1, "Tags": {"id": "two"}},
        {"Name": "gone", "Addr": "10.0.0.3", "Status": 4, "Tags": {"id": "lost"}},
    ]
    gone = plan.strangers(nodes, members)
    assert gone == ["gone", "node1"]
    (body,) = plan.registrations(members, gone)
    assert (body["Node"], body["ID"], body["Address"]) == ("node1", "new", "10.0.0.1")
    assert (body["Check"]["CheckID"], body["Check"]["Status"]) == ("serfHealth", "passing")


@pytest.mark.parametrize(
    ("here", "made", "older"),
    [
        ("1.8.7", "1.8.7", False),
        ("1.8.7+dfsg1", "1.8.9", False),
        ("1.8.7", "1.10.1", True),
        ("1.10.0", "1.8.7", False),
        ("", "1.8.7", False),
    ],
)
def test_an_older_consul_is_told(here: str, made: str, older: bool) -> None:
    assert plan.is_older(here, made) is older
