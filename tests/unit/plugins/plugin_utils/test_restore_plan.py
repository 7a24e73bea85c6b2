# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup may be restored, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils import _restore_plan as plan

OURS, THEIRS = "0123456789abcdef", "fedcba9876543210"


def network(name: str, *containers: str, subnet: str = "10.9.1.0/24") -> dict[str, Any]:
    ends = [{"name": one, "id": f"{name}-{one}", "host": "10.0.0.1", "ipv4": "10.9.1.2/24"} for one in containers]
    return {"name": name, "id": f"id-{name}", "ipam": [{"subnet": subnet}], "vnis": [256], "endpoints": ends}


def content(**more: Any) -> dict[str, Any]:
    made = {
        "cluster": OURS,
        "scope": "everything",
        "secrets": {"seed": "x"},
        "consul_version": "1.8.7",
        "networks": [network("shop", "web")],
    }
    return {**made, **more}


def live(*networks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"answers": True, "why": "", "version": "1.8.7", "networks": list(networks), "others": 0, **more}


SILENT = live(answers=False, why="it is down", version="")


@pytest.mark.parametrize(
    ("made", "managed", "cluster", "there", "words"),
    [
        (content(), True, OURS, live(network("shop")), ""),
        (content(), True, OURS, SILENT, ""),
        (content(), True, "", SILENT, ""),
        (content(), True, THEIRS, live(), f"keep the secrets of {THEIRS}"),
        (content(), True, OURS, live(version="1.7.4"), "Consul is 1.7.4 here"),
        (content(secrets={}), True, "", SILENT, "the backup has none"),
        (content(), False, OURS, live(), "somebody else's"),
        (content(scope="docker"), True, OURS, live(), "says that this one is ours"),
        (content(scope="docker"), False, OURS, live(network("other")), ""),
        (content(scope="docker"), False, THEIRS, live(network("shop")), ""),
        (content(scope="docker"), False, THEIRS, live(), ""),
        (content(scope="docker"), False, THEIRS, live(network("other")), "names another store"),
        (content(scope="docker"), False, OURS, SILENT, "cannot be read: it is down"),
    ],
)
def test_what_fits_is_restored_and_nothing_else(
    made: dict[str, Any], managed: bool, cluster: str, there: dict[str, Any], words: str
) -> None:
    said = plan.refusal(made, plan.Target(managed, cluster, there))
    assert words in said
    assert bool(said) is bool(words)


@pytest.mark.parametrize(
    ("target", "needed"),
    [
        (plan.Target(True, "", SILENT), False),
        (plan.Target(True, OURS, live()), False),
        (plan.Target(True, OURS, live(network("shop"))), True),
        (plan.Target(True, OURS, SILENT), True),
        (plan.Target(False, OURS, live()), False),
        (plan.Target(False, OURS, live(network("shop"))), True),
    ],
)
def test_where_something_can_be_lost_somebody_is_asked(target: plan.Target, needed: bool) -> None:
    assert plan.needs_consent(target) is needed


def test_what_is_lost_is_named() -> None:
    there = live(network("shop", "api", subnet="10.9.2.0/24"), network("new"), others=3)
    lines = plan.effects(content(networks=[network("shop", "web"), network("old")]), plan.Target(True, OURS, there))
    assert "network new (10.9.1.0/24), container api of shop on 10.0.0.1" in lines[0]
    assert "network old (10.9.1.0/24), container web of shop on 10.0.0.1" in lines[1]
    assert "network shop (10.9.1.0/24)" in lines[2]
    assert lines[3].startswith("containers that go from the store run on; restart them")
    assert lines[4].startswith("3 keys that are not Docker's")


def test_the_same_is_said_to_be_the_same() -> None:
    assert plan.effects(content(), plan.Target(True, OURS, live(network("shop", "web")))) == [
        "networks and containers in the store are those of the backup"
    ]
    assert len(plan.effects(content(), plan.Target(True, OURS, live(network("shop", "web"), network("new"))))) == 1
    assert "does not answer: it is down" in plan.effects(content(), plan.Target(True, OURS, SILENT))[0]
    assert "1 networks come back" in plan.effects(content(), plan.Target(True, "", SILENT))[0]


def test_of_many_some_are_named() -> None:
    assert plan.few([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_networks_that_did_not_come_back_are_named() -> None:
    saved = content(networks=[network("shop", "web"), network("old"), network("gone"), network("other")])
    there = [network("shop"), network("other", subnet="10.9.7.0/24"), network("more")]
    assert plan.missing(saved, there, ["gone"]) == [
        "network old (10.9.1.0/24) is not there",
        "network other (10.9.1.0/24) differs",
    ]
