# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's secrets: made once, never twice, and what follows from them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _secrets as cluster

NONE_GIVEN: dict[str, str] = {}


def test_a_new_cluster_gets_new_ones() -> None:
    first, second = (cluster.choose({"a": None, "b": None}, NONE_GIVEN, []) for _number in range(2))
    assert cluster.problems(first) == []
    assert first["seed"] != second["seed"]
    assert first["gossip_key"] != second["gossip_key"]


def test_those_of_one_host_are_those_of_all() -> None:
    held = cluster.new()
    assert cluster.choose({"a": None, "b": held}, NONE_GIVEN, ["c"]) == held


def test_none_are_made_while_a_host_cannot_be_asked() -> None:
    with pytest.raises(cluster.SecretsError, match=r"none of a .* and c could not be asked"):
        cluster.choose({"a": None}, NONE_GIVEN, ["c"])


def test_a_ca_is_added_to_a_cluster_that_has_none_and_never_replaced() -> None:
    held, ca = cluster.new(), {"ca_key": "k", "ca_certificate": "c"}
    with_ca = cluster.choose({"a": held}, ca, [])
    assert with_ca == {**held, **ca, "serial": 2}
    assert cluster.choose({"a": with_ca}, {"ca_key": "", "ca_certificate": ""}, []) == with_ca
    with pytest.raises(cluster.SecretsError, match="ca_key that was given is not the one"):
        cluster.choose({"a": with_ca}, {"ca_key": "other", "ca_certificate": "c"}, [])


def test_two_kinds_are_named() -> None:
    with pytest.raises(cluster.SecretsError, match="a and b have different secrets"):
        cluster.choose({"a": cluster.new(), "b": cluster.new()}, NONE_GIVEN, [])
    held = cluster.new()
    with pytest.raises(cluster.SecretsError, match="changed them at the same time"):
        cluster.choose({"a": cluster.rotated(held), "b": cluster.rotated(held)}, NONE_GIVEN, [])


def test_a_host_that_a_killed_run_did_not_reach_follows_the_others() -> None:
    held = cluster.new()
    begun = cluster.rotated(held)
    assert cluster.choose({"a": begun, "b": held}, NONE_GIVEN, []) == begun
    assert cluster.choose({"a": begun, "b": cluster.settled(begun)}, NONE_GIVEN, []) == cluster.settled(begun)


def test_given_ones_are_taken_by_a_new_cluster_and_refused_by_another() -> None:
    given = {"seed": "ab" * 32, "gossip_key": ""}
    assert cluster.choose({"a": None}, given, [])["seed"] == "ab" * 32
    with pytest.raises(cluster.SecretsError, match="take it out"):
        cluster.choose({"a": cluster.new()}, given, [])
    with pytest.raises(cluster.SecretsError, match="64 hexadecimal digits"):
        cluster.choose({"a": None}, {"seed": "short"}, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema_version is not 1"),
        ({"gossip_key": "AAAA"}, "has not 16, 24 or 32 bytes"),
        ({"gossip_key": "?"}, "is not base64"),
        ({"seed": "xy"}, "seed is not"),
        ({"generations": {"engine": "1"}}, "generations is not"),
        ({"ca_key": "x"}, "go together"),
    ],
)
def test_a_damaged_file_is_not_replaced(change: dict[str, Any], words: str) -> None:
    with pytest.raises(cluster.SecretsError, match=words):
        cluster.choose({"a": {**cluster.new(), **change}}, NONE_GIVEN, [])


def test_tokens_follow_from_the_seed_and_differ_by_host_purpose_and_generation() -> None:
    held = cluster.new()
    made = cluster.tokens(held, ["a", "b"])
    every = [made["management"], *(host[kind] for host in made["hosts"].values() for kind in ("agent", "engine"))]
    assert len(set(every)) == 5
    assert all(str(uuid.UUID(value)) == value for value in every)
    assert cluster.tokens(held, ["b", "a"]) == made
    later = {**held, "generations": {**held["generations"], "engine": 2}}
    assert cluster.token(later, "engine", "a") != cluster.token(held, "engine", "a")
    assert cluster.token(later, "agent", "a") == cluster.token(held, "agent", "a")


def test_a_rotation_changes_the_key_and_the_engines_tokens_and_nothing_else() -> None:
    held = {**cluster.new(), "ca_key": "k", "ca_certificate": "c"}
    begun = cluster.rotated(held)
    assert (begun["gossip_key_old"], begun["gossip_key"] != held["gossip_key"]) == (held["gossip_key"], True)
    assert cluster.problems(begun) == []
    for purpose, same in (("engine", False), ("agent", True), ("management", True)):
        assert (cluster.token(held, purpose, "a") == cluster.token(begun, purpose, "a")) is same
    # Interrupted and run again, it goes on with what it has.
    assert cluster.rotated(begun) == begun
    ended = cluster.settled(begun)
    assert ended["gossip_key"] == begun["gossip_key"]
    assert set(ended) == set(held)


def with_ca(**more: str) -> dict[str, Any]:
    return {**cluster.new(), "ca_key": "k1", "ca_certificate": "c1\n", **more}


def test_one_ca_follows_another_and_both_are_trusted_meanwhile() -> None:
    held = with_ca()
    begun = cluster.choose({"a": held}, {"ca_next_key": "k2", "ca_next_certificate": "c2"}, [])
    assert (begun["ca_key"], begun["serial"], cluster.trusted(begun)) == ("k1", 2, "c1\nc2\n")
    swapped = cluster.ca_swapped(begun)
    assert (swapped["ca_key"], swapped["serial"], cluster.trusted(swapped)) == ("k2", 3, "c2\nc1\n")
    assert cluster.ca_swapped(swapped) == swapped
    ended = cluster.ca_settled(swapped)
    assert (set(ended), cluster.trusted(ended)) == (set(held), "c2\n")
    assert cluster.ca_settled(ended) == ended
    assert [cluster.problems(found) for found in (begun, swapped, ended)] == [[], [], []]


def test_an_inventory_may_have_the_ca_that_follows_already() -> None:
    begun, given = with_ca(ca_next_key="k2", ca_next_certificate="c2"), {"ca_key": "k2", "ca_certificate": "c2"}
    assert cluster.choose({"a": begun}, given, []) == begun
    swapped = cluster.ca_swapped(begun)
    assert cluster.choose({"a": swapped}, given, []) == swapped
    with pytest.raises(cluster.SecretsError, match=r"run playbooks/rotate_ca\.yml"):
        cluster.choose({"a": with_ca()}, given, [])


def test_the_ca_of_docker_s_clients_can_be_dropped() -> None:
    held = with_ca(client_ca_key="k", client_ca_certificate="c")
    assert set(held) - set(cluster.clients_revoked(held)) == {"client_ca_key", "client_ca_certificate"}
    assert cluster.clients_revoked(held)["serial"] == 2


def test_the_ca_of_docker_s_clients_has_both_parts() -> None:
    assert cluster.problems({**cluster.new(), "client_ca_key": "k"}) == [
        "client_ca_key and client_ca_certificate go together"
    ]
