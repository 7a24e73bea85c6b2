# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which policies and tokens Consul is to have, and what is done about those that it has."""

from __future__ import annotations

from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils import _consul_acl as acl

HOSTS = [{"name": name, "agent": f"agent-{name}", "engine": f"engine-{name}"} for name in ("a", "b.example")]
WANT = acl.wanted(HOSTS)


def listed(want: acl.Wanted) -> tuple[list[Any], list[Any]]:
    """What the API lists once all is there: no rules, no secrets."""
    policies = [
        {"ID": f"id-{entry['Name']}", "Name": entry["Name"], "Description": entry["Description"]}
        for entry in want.policies
    ]
    tokens = [{"AccessorID": entry["AccessorID"], "Description": entry["Description"]} for entry in want.tokens]
    return policies, tokens


def test_an_engine_may_do_what_docker_needs_on_its_own_node() -> None:
    assert acl.engine_rules("a") == 'key_prefix "docker/" { policy = "write" }\nsession "a" { policy = "write" }\n'
    assert acl.engine_rules("b", ["a", "b"]).count("session") == 2
    assert len({policy["Name"] for policy in WANT.policies}) == 4
    assert all(set(policy["Name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for policy in WANT.policies)


def test_a_consul_may_register_its_node_and_see_the_others() -> None:
    """Of any name that an inventory can have."""
    assert acl.agent_rules('B."x').splitlines()[0] == 'node "B.\\"x" { policy = "write" }'


def test_what_is_there_is_not_made_again() -> None:
    assert not acl.plan(WANT, *listed(WANT)).any


def test_an_empty_consul_gets_all() -> None:
    steps = acl.plan(WANT, [], [])
    assert (len(steps.policies), len(steps.tokens), steps.stale) == (4, 4, [])


def test_a_policy_with_other_rules_is_updated_under_its_id() -> None:
    policies, tokens = listed(WANT)
    policies[1]["Description"] = "multihost.overlay: engine of a, rules 0"
    (step,) = acl.plan(WANT, policies, tokens).policies
    assert (step["ID"], step["Rules"]) == (policies[1]["ID"], acl.engine_rules("a"))


def test_rotated_tokens_replace_those_of_before_once_their_engine_has_them() -> None:
    policies, tokens = listed(WANT)
    rotated = acl.wanted([{**host, "engine": f"rotated-{host['name']}"} for host in HOSTS])
    steps = acl.plan(rotated, policies, tokens)
    assert [token["SecretID"] for token in steps.tokens] == [f"rotated-{host['name']}" for host in HOSTS]
    assert (steps.stale, steps.policies) == ([], [])
    assert acl.plan(rotated, policies, tokens, settled=["a"]).stale == [acl.accessor("engine-a")]


def test_tokens_of_a_host_that_is_no_more_go_and_somebody_else_s_stay() -> None:
    policies, tokens = listed(WANT)
    others = [
        {"AccessorID": "x", "Description": "somebody's"},
        {"AccessorID": "y", "Description": "multihost.overlay: engine of z"},
    ]
    assert acl.plan(WANT, policies, [*tokens, *others]).stale == ["y"]


def test_policies_of_a_host_that_is_no_more_go_and_somebody_else_s_stay() -> None:
    """A policy without a token is nobody's; but a name that only looks like ours is somebody's."""
    one = acl.wanted(HOSTS[:1])
    policies, tokens = listed(WANT)
    others = [{"ID": "z", "Name": "multihost-overlay-engine-z", "Description": "somebody's"}]
    steps = acl.plan(one, [*policies, *others], tokens)
    assert sorted(steps.unused.values()) == [policy["Name"] for policy in WANT.policies[2:]]
    assert len(steps.stale) == 2
    assert not acl.plan(one, policies[:2], tokens[:2]).any


def test_a_host_that_is_left_out_gets_nothing_and_keeps_what_it_has() -> None:
    want, due = acl.wants(HOSTS, [], ["a"])
    steps = acl.plan(want, [], [], due=due)
    assert [token["SecretID"] for token in steps.tokens] == ["agent-a", "engine-a"]
    assert len(steps.policies) == 2
    assert not acl.plan(want, *listed(WANT), due=due).any


def test_an_accessor_does_not_give_its_token_away() -> None:
    assert acl.accessor("engine-a") == acl.accessor("engine-a") != acl.accessor("engine-b")
    assert "engine-a" not in acl.accessor("engine-a")
