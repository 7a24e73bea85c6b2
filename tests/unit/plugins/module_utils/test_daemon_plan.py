# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to daemon.json."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import Flag
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_plan import (
    Plan,
    Situation,
    all_wanted,
    is_foreign,
    make_plan,
)

STORE = "consul://127.0.0.1:8500"
WANTED = {"cluster-store": STORE, "cluster-advertise": "10.0.0.1:2376", "live-restore": True}


def plan(document: dict[str, Any], wanted: dict[str, Any] | None = None, **seen: Any) -> Plan:
    return make_plan(WANTED if wanted is None else wanted, Situation("/etc/docker/daemon.json", document, **seen))


def flag(key: str, value: Any, source: str = "/etc/default/docker") -> dict[str, Flag]:
    return {key: Flag(key, value, source)}


def test_our_keys_are_added_behind_the_users() -> None:
    made = plan({"log-driver": "journald"})
    assert list(made.document) == ["log-driver", *WANTED]
    assert [(change.key, change.had) for change in made.changes] == [(key, False) for key in WANTED]
    assert (made.problems, made.replaced) == ([], [])


def test_a_second_time_nothing_changes() -> None:
    assert plan(plan({"a": 1}).document).changes == []


def test_another_spelling_of_the_same_is_left_alone() -> None:
    document = {"cluster-store": "CONSUL://127.0.0.1:8500/", "cluster-advertise": "eth0:2376", "live-restore": True}
    made = plan(document, resolve={"eth0": "10.0.0.1", "10.0.0.1": "10.0.0.1"}.__getitem__)
    assert made.changes == []


def test_a_flag_with_the_same_value_satisfies_and_is_not_written() -> None:
    made = plan({}, flags=flag("cluster-store", STORE + "/"))
    assert "cluster-store" not in made.document
    assert made.satisfied == {"cluster-store": "/etc/default/docker"}
    assert made.problems == []


def test_a_flag_with_another_value_names_its_file_and_the_cure() -> None:
    (problem,) = plan({}, flags=flag("cluster-store", "consul://other:8500", "/etc/x.conf")).problems
    assert "remove the flag from /etc/x.conf" in problem


def test_our_key_leaves_the_file_when_the_user_makes_it_a_flag() -> None:
    made = plan(dict(WANTED), flags=flag("live-restore", True), owned={"live-restore": {"had": False, "prior": None}})
    assert "live-restore" not in made.document
    assert [(change.key, change.present) for change in made.changes] == [("live-restore", False)]
    assert made.problems == []


@pytest.mark.parametrize("key", ["hosts", "debug"])
def test_what_the_user_set_twice_is_told(key: str) -> None:
    (problem,) = plan({key: ["fd://"]}, flags=flag(key, ["fd://"], "docker.service")).problems
    assert problem.startswith(f"{key} is set in /etc/docker/daemon.json and as a flag in docker.service")


def test_the_users_value_gives_way_and_is_named() -> None:
    made = plan({"live-restore": False})
    assert made.replaced == ["live-restore"]
    assert made.changes[0].before is None or made.changes[-1].before is False


@pytest.mark.parametrize(
    ("in_use", "overwrite", "fails"),
    [
        (True, False, True),
        (None, False, True),
        (False, False, False),
        (True, True, False),
    ],
)
def test_a_foreign_store_in_use_is_the_users(in_use: bool | None, overwrite: bool, fails: bool) -> None:
    made = plan({"cluster-store": "etcd://theirs:2379"}, store_in_use=in_use, overwrite=overwrite)
    assert bool(made.problems) is fails
    assert all("overlay_docker_overwrite_keys" in problem for problem in made.problems)


def test_a_store_that_we_set_before_is_updated_freely() -> None:
    owned = {"cluster-store": {"had": True, "prior": "zk://a"}}
    made = plan({"cluster-store": "consul://old:8500"}, owned=owned, store_in_use=True)
    assert made.problems == []
    assert made.document["cluster-store"] == STORE


def test_the_users_own_prior_value_is_his_again() -> None:
    seen = Situation("p", {"cluster-store": "zk://a"}, owned={"cluster-store": {"had": True, "prior": "zk://a"}})
    assert is_foreign(WANTED, seen)


def test_a_key_no_longer_wanted_gets_its_prior_value_back() -> None:
    owned = {"debug": {"had": True, "prior": False}, "mtu": {"had": False, "prior": None}}
    made = plan({**WANTED, "debug": True, "mtu": 1400}, owned=owned)
    assert made.document == {**WANTED, "debug": False}
    assert sorted(made.forgotten) == ["debug", "mtu"]


def test_numbers_among_the_stores_options_become_strings() -> None:
    made = plan({}, {"cluster-store-opts": {"discovery.ttl": 60}})
    assert made.document == {"cluster-store-opts": {"discovery.ttl": "60"}}
    assert made.problems == []


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"cluster-store-opts": {"discovery.ttl": 60}}, "takes strings only"),
        ({"cluster-store-opts": ["x"]}, "must be an object of strings"),
        ({"cluster-store-opts": {"kv.cacertfile": "/ca"}}, "kv.certfile, kv.keyfile"),
    ],
)
def test_what_dockerd_would_die_of_or_misread_is_refused(document: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in plan(document).problems)


def test_consul_takes_one_endpoint() -> None:
    assert "exactly one" in plan({}, {"cluster-store": "consul://a:8500,b:8500"}).problems[0]


@pytest.mark.parametrize(
    ("document", "flags", "owned", "wanted"),
    [
        ({}, {}, {}, True),
        ({"live-restore": True}, {}, {}, True),
        ({"live-restore": False}, {}, {}, None),  # the user's word
        ({"live-restore": False}, {}, {"live-restore": {"had": False, "prior": None}}, True),  # ours, changed
        ({"live-restore": False}, {}, {"live-restore": {"had": True, "prior": False}}, None),  # the user's is back
        ({}, flag("live-restore", False), {}, None),
        ({}, flag("live-restore", True), {}, True),
    ],
)
def test_a_default_gives_way_to_the_users_decision(
    document: dict[str, Any], flags: dict[str, Flag], owned: dict[str, Any], wanted: bool | None
) -> None:
    seen = Situation("/etc/docker/daemon.json", document, flags=flags, owned=owned)
    assert all_wanted({}, {"live-restore": True}, [], seen).get("live-restore") is wanted


@pytest.mark.parametrize(
    ("document", "owned", "given", "wanted"),
    [
        ({}, {}, {}, None),
        ({}, {}, {"mtu": 1400}, 1400),
        ({"mtu": 1400}, {"mtu": {"had": False, "prior": None}}, {}, 1400),
        ({"mtu": 1400}, {"mtu": {"had": False, "prior": None}}, {"mtu": 1300}, 1300),
        ({"mtu": 1300}, {}, {"mtu": 1400}, None),  # the user's
        ({"mtu": 1300}, {}, {}, None),
    ],
)
def test_a_kept_key_stays_when_it_is_given_no_more(
    document: dict[str, Any], owned: dict[str, Any], given: dict[str, Any], wanted: int | None
) -> None:
    seen = Situation("/etc/docker/daemon.json", document, owned=owned)
    settings = all_wanted({}, given, ["mtu"], seen)
    assert settings.get("mtu") == wanted
    assert make_plan(settings, seen).document.get("mtu") == (wanted or document.get("mtu"))


def test_what_is_asked_for_by_name_wins_over_a_default() -> None:
    seen = Situation("/etc/docker/daemon.json", {"live-restore": False})
    assert all_wanted({"live-restore": True}, {"live-restore": False}, [], seen) == {"live-restore": True}
