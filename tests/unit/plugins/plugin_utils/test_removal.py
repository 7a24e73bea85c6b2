# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is left when a host leaves, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.action import cluster_removal
from ansible_collections.multihost.overlay.plugins.plugin_utils import _removal

GROUPS = {
    "all": ["h1", "h2", "h3", "h4", "spare"],
    "overlay_store": ["h1", "h2", "h3"],
    "overlay_hosts": ["h1", "h2", "h4"],
}
ASKED = {
    "node": "h4",
    "replace_with": "",
    "limit": "",
    "store_group": "overlay_store",
    "hosts_group": "overlay_hosts",
    "managed": True,
    "allow_any_count": False,
    "confirmed": False,
    "restart": "safe",
    "skip_unreachable": False,
    "servers": ["h1", "h2", "h3"],
}
VOTERS = [{"node": name, "address": f"{name}:8300", "alive": True} for name in GROUPS["overlay_store"]]
SEEN = {
    "reached": True,
    "unread": "",
    "troubles": [],
    "silent": [],
    "member": "alive",
    "leader": "h1:8300",
    "why": "",
    "voters": VOTERS,
    "registered": True,
    "endpoints": [],
    "containers": [],
    "restarts": True,
    "dying": [],
}
DEAD = {**SEEN, "reached": False, "member": "failed", "registered": False, "restarts": False}
WEB = {"name": "web", "running": True, "networks": ["shop"], "back": ["docker network connect shop web"]}


def plan(**asked: Any) -> tuple[dict[str, list[str]], list[str]]:
    groups = {**GROUPS, **asked.pop("groups", {})}
    return _removal.plan({**ASKED, **asked}, groups)


def judge(seen: dict[str, Any], **asked: Any) -> list[str]:
    return _removal.judge({**ASKED, **asked}, seen)


def dead(*names: str) -> list[dict[str, Any]]:
    return [dict(row, alive=row["node"] not in names) for row in VOTERS]


# -- by the inventory


def test_of_a_docker_host_the_store_stays() -> None:
    groups, errors = plan()
    assert errors == []
    assert groups["overlay_remaining_store"] == ["h1", "h2", "h3"]
    assert groups["overlay_remaining_hosts"] == ["h1", "h2"]
    assert groups["overlay_remaining"] == ["h1", "h2", "h3"]
    assert (groups["overlay_leaving"], groups["overlay_joining"]) == (["h4"], [])


@pytest.mark.parametrize("listed", [False, True])
def test_a_replacement_is_a_server_beside_the_host_and_then_without_it(listed: bool) -> None:
    """Also where it is in the group already."""
    store = [*GROUPS["overlay_store"], *(["spare"] if listed else [])]
    groups, errors = plan(node="h3", replace_with="spare", groups={"overlay_store": store})
    assert errors == []
    assert groups["overlay_removal_store"] == ["h1", "h2", "h3", "spare"]
    assert groups["overlay_remaining_store"] == ["h1", "h2", "spare"]
    assert groups["overlay_joining"] == ["spare"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"node": ""}, "give -e node=NAME"),
        ({"node": "h1,h2"}, "one host at a time"),
        ({"node": "zz"}, "zz is not in the inventory"),
        ({"node": "spare"}, "in neither group"),
        ({"limit": "h1"}, "without --limit"),
        ({"groups": {"overlay_hosts": ["h4"]}}, "only Docker host"),
        ({"node": "h3", "groups": {"overlay_store": ["h3"]}}, "last host of the store"),
        ({"node": "h3"}, "without it there are 2 (h1, h2)"),
        ({"replace_with": "spare"}, "h4 is no host of the store"),
        ({"node": "h3", "replace_with": "h3"}, "the same host"),
        ({"node": "h3", "replace_with": "zz"}, "zz is not in the inventory"),
        ({"node": "h3", "replace_with": "h2"}, "without it there are 2 (h1, h2)"),
        ({"node": "h3", "replace_with": "spare", "managed": False}, "somebody else's"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], words: str) -> None:
    groups, errors = plan(**asked)
    assert groups == {}
    assert words in "\n".join(errors)


def test_a_number_of_servers_that_is_allowed_by_name() -> None:
    groups, errors = plan(node="h3", allow_any_count=True)
    assert (errors, groups["overlay_remaining_store"]) == ([], ["h1", "h2"])
    assert plan(node="h3", allow_any_count=True, groups={"overlay_store": ["h3"]})[1] != []


def test_the_last_server_can_be_replaced() -> None:
    groups, errors = plan(node="h3", replace_with="spare", groups={"overlay_store": ["h3"]})
    assert (errors, groups["overlay_remaining_store"]) == ([], ["spare"])


# -- by what the hosts said


def test_an_idle_host_and_a_dead_one_may_go() -> None:
    assert judge(SEEN) == []
    assert judge(DEAD) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"member": "alive"}, "Consul sees its agent alive"),
        # Where it has no agent.
        ({"member": "", "registered": True}, "still registered"),
        ({"unread": "no python"}, "answers and cannot be read: no python"),
    ],
)
def test_a_host_that_lives_and_cannot_be_reached_stays(changes: dict[str, Any], words: str) -> None:
    (error,) = judge({**DEAD, **changes})
    assert words in error


def test_a_host_that_has_just_died_is_still_registered_for_a_while() -> None:
    assert judge({**DEAD, "registered": True}) == []


@pytest.mark.parametrize(
    ("voters", "asked", "words"),
    [
        (dead("h2", "h3"), {"node": "h4"}, "h2, h3 is not"),
        (dead("h2"), {"node": "h3", "allow_any_count": True}, "h2 is not"),
        (dead("h2"), {"node": "h3", "replace_with": "spare"}, ""),
        (dead("h2"), {"node": "h2", "replace_with": "spare"}, ""),
        (dead("h2"), {"node": "h2", "allow_any_count": True}, ""),
        (VOTERS, {"node": "h3", "allow_any_count": True}, ""),
        (VOTERS[2:], {"node": "h3", "replace_with": "spare", "servers": ["h3", "spare"]}, ""),
        # Consul counts the dead no more.
        (VOTERS[::2], {"node": "h3", "allow_any_count": True}, "h2 is not"),
        (VOTERS[::2], {"node": "h2", "allow_any_count": True}, ""),
        # As after the recovery of a lost quorum.
        (VOTERS[:1], {"node": "h2", "replace_with": "spare"}, ""),
        (VOTERS[:1], {"node": "h1", "replace_with": "spare"}, "h2, h3 is not"),
        (None, {"node": "h4"}, ""),
    ],
)
def test_the_quorum_holds_before_and_after(voters: Any, asked: dict[str, Any], words: str) -> None:
    errors = judge({**SEEN, "voters": voters}, **asked)
    assert bool(errors) is bool(words)
    assert words in "\n".join(errors)


def test_without_a_leader_nothing_is_taken_out() -> None:
    (error,) = judge({**SEEN, "leader": "", "why": "No cluster leader"})
    assert "No cluster leader" in error and "The store has lost its quorum" in error


def test_a_run_that_was_killed_finds_the_host_gone_from_the_servers() -> None:
    left = [row for row in VOTERS if row["node"] != "h3"] + [{"node": "spare", "address": "", "alive": True}]
    assert judge({**DEAD, "member": "", "voters": left}, node="h3", replace_with="spare") == []


def test_containers_lose_their_networks_only_when_told() -> None:
    (error,) = judge({**SEEN, "containers": [WEB]})
    assert "h4 has 1 containers" in error and "-e remove_confirm=yes" in error
    assert judge({**SEEN, "containers": [WEB]}, confirmed=True) == []


@pytest.mark.parametrize(
    ("restart", "dying", "words"),
    [("safe", [WEB], "would die: web"), ("rolling", [WEB], ""), ("never", [], "overlay_docker_restart is never")],
)
def test_the_engine_is_restarted_as_elsewhere(restart: str, dying: list[Any], words: str) -> None:
    errors = judge({**SEEN, "dying": dying}, restart=restart)
    assert bool(errors) is bool(words)
    assert words in "\n".join(errors)


def test_others_that_cannot_be_asked_are_named() -> None:
    (error,) = judge({**SEEN, "silent": ["h2"]})
    assert error.startswith("h2 cannot be reached")
    assert judge({**SEEN, "silent": ["h2"]}, skip_unreachable=True) == []
    (error,) = judge({**SEEN, "silent": ["spare"]}, node="h3", replace_with="spare", skip_unreachable=True)
    assert error.startswith("replace_with: spare cannot be reached")
    assert judge({**SEEN, "troubles": ["the engine is off"]}) == ["it could not be asked: the engine is off"]


def test_the_story_has_the_way_back() -> None:
    lines = _removal.story({**ASKED, "replace_with": "spare"}, {**SEEN, "containers": [WEB]})
    assert "running container web leaves shop; back with: docker network connect shop web" in lines
    assert "the engine of h4 is restarted" in lines
    assert lines[-1].startswith("spare becomes a server")
    gone = [{"name": "web", "address": "10.0.0.2/24", "network": "shop"}]
    assert (
        _removal.story(ASKED, {**DEAD, "endpoints": gone})[1] == "the store forgets container web (10.0.0.2/24) on shop"
    )


# -- what the tasks before have registered


def test_of_several_servers_the_one_that_knows_a_leader_is_heard() -> None:
    node = {"__overlay_preflight_result": {"unreachable": True, "msg": "no route"}}
    # As a task that is let fail leaves it.
    one = {"__overlay_removal_member": {"failed": False, "failed_when_result": False, "msg": "no answer"}}
    two = {"__overlay_removal_member": {"member": "failed", "leader": "h2:8300", "why": "", "voters": VOTERS}}
    skipped = {"__overlay_removal_member": {"skipped": True}}
    hostvars = {"h4": node, "h1": one, "h2": two, "h3": skipped}
    args = {"node": "h4", "managed": True, "others": ["h1", "h2"]}
    seen = cluster_removal.observations(args, hostvars)
    assert (seen["reached"], seen["unread"], seen["member"], seen["leader"]) == (False, "", "failed", "h2:8300")
    # Nothing was read of these.
    assert seen["silent"] == ["h1", "h2"]
    del hostvars["h2"]
    seen = cluster_removal.observations({**args, "others": []}, hostvars)
    assert (seen["leader"], seen["why"]) == ("", "no answer")


def test_what_could_not_be_asked_is_heard() -> None:
    node = {
        "__overlay_preflight_result": {"findings": []},
        "__overlay_removal_containers": {"changed": False, "msg": "h4: the engine does not answer", "failed": False},
        "__overlay_removal_engine": {"restart_pending": True, "containers": [{"name": "a", "would_die": False}]},
    }
    seen = cluster_removal.observations({"node": "h4", "managed": False, "others": []}, {"h4": node})
    assert (seen["troubles"], seen["voters"]) == ([cluster_removal.NOBODY, "h4: the engine does not answer"], None)
    assert (seen["restarts"], seen["dying"]) == (True, [])
