# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture: who is drawn where, and which paths."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils._report_topology import CARD, CARDS, picture
from tests import reports


def drawn(number: int, broken: dict[Any, Any] | None = None) -> dict[str, Any]:
    hosts = reports.names(number)
    return picture(reports.topology(hosts), reports.verify(hosts, broken)["pairs"])


@pytest.mark.parametrize("number", [1, 2, 3, 5, CARDS])
def test_cards_lie_apart_and_within(number: int) -> None:
    found = drawn(number)
    for node in found["nodes"]:
        assert CARD[0] / 2 <= node["x"] <= found["width"] - CARD[0] / 2
        assert CARD[1] / 2 <= node["y"] <= found["height"] - CARD[1] / 2
    for one, other in itertools.combinations(found["nodes"], 2):
        assert abs(one["x"] - other["x"]) >= CARD[0] or abs(one["y"] - other["y"]) >= CARD[1], (one, other)


@pytest.mark.parametrize("number", [CARDS + 1, 30, 100])
def test_dots_lie_apart_and_within(number: int) -> None:
    found = drawn(number)
    for node in found["nodes"]:
        assert 0 < node["x"] < found["width"]
        assert 0 < node["y"] < found["height"]
    near = [abs(a["x"] - b["x"]) + abs(a["y"] - b["y"]) for a, b in itertools.combinations(found["nodes"], 2)]
    assert min(near) > 2 * found["dot"]


def test_broken_paths_have_a_direction_and_come_last() -> None:
    found = drawn(3, {("backend", "node1", "node3"): reports.LOST, ("frontend", "node3", "node2"): reports.UNMEASURED})
    assert [link["state"] for link in found["links"]] == ["good"] * 4 + ["unknown", "bad"]
    assert found["links"][-1]["title"] == "node1 → node3: bad on backend"
    # node1 is at the top, node3 at the lower left: the arrow points down.
    assert found["links"][-1]["y1"] < found["links"][-1]["y2"]
    assert {node["name"]: node["state"] for node in found["nodes"]} == {"node1": "bad", "node2": "good", "node3": "bad"}
    assert [(net["name"], net["good"], net["state"]) for net in found["networks"]] == [
        ("frontend", 5, "unknown"),
        ("backend", 5, "bad"),
    ]


def test_many_hosts_show_broken_paths_only() -> None:
    found = drawn(30, {("backend", "node1", "node3"): reports.LOST})
    assert [link["title"] for link in found["links"]] == ["node1 → node3: bad on backend"]


def test_servers_of_the_store_that_run_no_containers() -> None:
    topology = {**reports.topology(["a", "b"]), "store_hosts": ["s"]}
    found = picture(topology, reports.verify(["a", "b"])["pairs"])
    nodes = {node["name"]: (node["docker"], node["store"], node["state"]) for node in found["nodes"]}
    assert nodes == {"a": (True, False, "good"), "b": (True, False, "good"), "s": (False, True, "none")}


def test_without_a_proof_nothing_is_good() -> None:
    found = picture(reports.topology(["a", "b"]), [])
    assert {node["state"] for node in found["nodes"]} == {"unknown"}
    assert {net["state"] for net in found["networks"]} == {"unknown"}
    assert found["links"] == []


@pytest.mark.parametrize("number", [2, 3, CARDS])
def test_lines_end_at_the_borders_of_cards(number: int) -> None:
    found = drawn(number)
    centres = {node["name"]: (node["x"], node["y"]) for node in found["nodes"]}
    for link in found["links"]:
        source, target = link["title"].split(":")[0].split(" → ")
        for host, x, y in ((source, link["x1"], link["y1"]), (target, link["x2"], link["y2"])):
            apart = (abs(x - centres[host][0]) - CARD[0] / 2, abs(y - centres[host][1]) - CARD[1] / 2)
            assert max(apart) == pytest.approx(4, abs=0.2), link
