# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner of overlay networks: definitions, differences, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _network as net

ID = "a" * 64


def params(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "vnet1",
        "state": "present",
        "subnet": "10.201.1.0/24",
        "gateway": "10.201.1.1",
        "ip_range": None,
        "mtu": None,
        "internal": False,
        "attachable": False,
        "encrypted": False,
        "labels": {},
        "options": {},
        "recreate": False,
        "force": False,
        "timeout": 1,
    }
    return {**base, **changes}


def inspected(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "Name": "vnet1",
        "Id": ID,
        "Scope": "global",
        "Driver": "overlay",
        "EnableIPv6": False,
        "Internal": False,
        "Attachable": False,
        "Labels": {},
        "Options": {},
        "Containers": {},
        "IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "10.201.1.0/24", "Gateway": "10.201.1.1"}]},
    }
    return {**base, **changes}


def differing(wanted: dict[str, Any], found: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    listed = net.differences(net.wanted_definition(wanted), net.found_definition(found))
    return [(item["key"], item["wanted"], item["found"]) for item in listed]


def test_equal_networks_do_not_differ() -> None:
    assert differing(params(), inspected()) == []


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ({"subnet": "10.9.0.0/24", "gateway": None}, {}, [("subnet", "10.9.0.0/24", "10.201.1.0/24")]),
        ({"gateway": "10.201.1.254"}, {}, [("gateway", "10.201.1.254", "10.201.1.1")]),
        ({"ip_range": "10.201.1.128/25"}, {}, [("ip_range", "10.201.1.128/25", None)]),
        ({"mtu": 1400}, {}, [("mtu", 1400, None)]),
        # One that is not given was chosen when the network was created.
        ({}, {"Options": {net.MTU_OPTION: "1400"}}, []),
        ({"mtu": 1400}, {"Options": {net.MTU_OPTION: "1400"}}, []),
        ({"internal": True}, {}, [("internal", True, False)]),
        ({}, {"Attachable": True}, [("attachable", False, True)]),
        ({}, {"Options": {"encrypted": ""}}, [("encrypted", False, True)]),
        ({"labels": {"tier": 1}}, {"Labels": {"tier": "1"}}, []),
        ({}, {"Labels": {"tier": "1"}}, [("labels", {}, {"tier": "1"})]),
        ({"options": {"x": "y"}}, {"Options": None}, [("options", {"x": "y"}, {})]),
        ({}, {"Driver": "bridge"}, [("driver", "overlay", "bridge")]),
    ],
)
def test_each_difference_is_named(wanted: dict[str, Any], found: dict[str, Any], expected: list[Any]) -> None:
    assert differing(params(**wanted), inspected(**found)) == expected


def test_what_docker_chose_is_no_difference() -> None:
    found = inspected(IPAM={"Config": [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1/24"}]})
    assert differing(params(subnet=None, gateway=None), found) == []
    assert net.found_definition(found)["gateway"] == "10.0.0.1"


def test_two_subnets_differ_from_anything() -> None:
    found = inspected(IPAM={"Config": [{"Subnet": "10.201.1.0/24"}, {"Subnet": "10.202.1.0/24"}]})
    assert ("subnet", "10.201.1.0/24", "10.201.1.0/24, 10.202.1.0/24") in differing(params(), found)


def test_create_body() -> None:
    definition = net.wanted_definition(params(mtu=1400, internal=True, labels={"a": 1}, ip_range="10.201.1.128/25"))
    assert net.create_body("vnet1", definition) == {
        "Name": "vnet1",
        "Driver": "overlay",
        "CheckDuplicate": True,
        "Internal": True,
        "Attachable": False,
        "Labels": {"a": "1"},
        "Options": {net.MTU_OPTION: "1400"},
        "IPAM": {
            "Driver": "default",
            "Config": [{"Subnet": "10.201.1.0/24", "Gateway": "10.201.1.1", "IPRange": "10.201.1.128/25"}],
        },
    }


def test_create_body_without_a_subnet_leaves_it_to_docker() -> None:
    body = net.create_body("n", net.wanted_definition(params(subnet=None, gateway=None)))
    assert body["IPAM"] == {"Driver": "default", "Config": []}


def test_a_found_network_can_be_created_again() -> None:
    found = inspected(Options={net.MTU_OPTION: "1400", "encrypted": "", "x": "y"}, Labels={"a": "b"})
    body = net.create_body("vnet1", net.found_definition(found))
    assert body["Options"] == {net.MTU_OPTION: "1400", "encrypted": "", "x": "y"}
    assert body["Labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subnet": "10.201.1.5/24"}, "host bits"),
        ({"subnet": "nonsense"}, "is not an IPv4 network"),
        ({"gateway": "10.202.1.1"}, "gateway 10.202.1.1 lies outside the subnet 10.201.1.0/24"),
        ({"gateway": "x"}, "not an IPv4 address"),
        ({"ip_range": "10.202.0.0/25"}, "ip_range 10.202.0.0/25 lies outside"),
        ({"subnet": None}, "gateway needs a subnet"),
        ({"encrypted": True}, "refused in classic mode"),
        ({"options": {"encrypted": "true"}}, "refused in classic mode"),
        ({"options": {net.MTU_OPTION: "1400"}}, "option mtu"),
    ],
)
def test_a_bad_definition_is_explained(changes: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in net.problems_of(net.wanted_definition(params(**changes))))


def test_a_good_definition_has_no_problems() -> None:
    assert net.problems_of(net.wanted_definition(params(ip_range="10.201.1.128/25", mtu=1400))) == []


def test_overlaps_name_the_other_network() -> None:
    stored = [
        {"name": "vnet1", "id": ID, "subnets": ["10.201.1.0/24"]},
        {"name": "wide", "id": "b" * 64, "subnets": ["fd00::/64", "10.201.0.0/16"]},
        {"name": "apart", "id": "c" * 64, "subnets": ["10.202.0.0/16"]},
    ]
    assert net.overlaps("vnet1", "10.201.1.0/24", stored) == ["wide (bbbbbbbbbbbb, 10.201.0.0/16)"]
    assert net.overlaps("vnet1", None, stored) == []


def test_attached_merges_engine_store_and_stopped() -> None:
    network = inspected(
        Containers={
            "c1": {"Name": "here", "EndpointID": "e1"},
            "ep-e2": {"Name": "there", "EndpointID": "e2"},
        }
    )
    stored = [
        {"id": "e2", "name": "there", "network_id": ID, "host": "10.89.3.12"},
        {"id": "e3", "name": "lost", "network_id": ID, "host": "10.89.3.13"},
        {"id": "e9", "name": "other", "network_id": "f" * 64, "host": ""},
    ]
    stopped = [{"id": "c1", "name": "here"}, {"id": "c4", "name": "off"}]
    assert net.attached(network, stored, stopped) == [
        {"name": "here", "where": "running", "ref": "c1"},
        {"name": "there", "where": "on another host, host 10.89.3.12", "ref": "there"},
        {"name": "lost", "where": "in the store only, host 10.89.3.13", "ref": "lost"},
        {"name": "off", "where": "stopped on this host", "ref": "c4"},
    ]


HELD = [{"name": "web", "where": "running", "ref": "c1"}]


@pytest.mark.parametrize(
    ("changes", "found", "held", "action", "refused"),
    [
        ({}, None, [], "create", ""),
        ({}, inspected(), [], "none", ""),
        ({}, inspected(), HELD, "none", ""),
        ({"mtu": 1400}, inspected(), [], "recreate", "mtu is None, wanted 1400"),
        ({"mtu": 1400, "recreate": True}, inspected(), [], "recreate", ""),
        ({"mtu": 1400, "recreate": True}, inspected(), HELD, "recreate", "web (running)"),
        ({"mtu": 1400, "recreate": True, "force": True}, inspected(), HELD, "recreate", ""),
        ({"mtu": 1400, "force": True}, inspected(), [], "recreate", "overlay_networks_recreate"),
        ({"recreate": True, "force": True}, inspected(Driver="bridge"), [], "recreate", "with the driver bridge"),
        ({"state": "absent"}, None, [], "none", ""),
        ({"state": "absent"}, inspected(), [], "remove", ""),
        ({"state": "absent", "mtu": 1400}, inspected(), [], "remove", ""),
        ({"state": "absent"}, inspected(), HELD, "remove", "is not removed because"),
        ({"state": "absent", "force": True}, inspected(), HELD, "remove", ""),
        ({"state": "absent"}, inspected(Driver="bridge"), [], "remove", "with the driver bridge"),
    ],
)
def test_plan(changes: dict[str, Any], found: Any, held: list[dict[str, Any]], action: str, refused: str) -> None:
    plan = net.plan(params(**changes), net.found_definition(found) if found else None, held)
    assert plan.action == action
    assert (refused in plan.refusal) if refused else plan.refusal == ""


def test_many_holders_are_counted() -> None:
    held = [{"name": f"c{n}", "where": "running", "ref": str(n)} for n in range(12)]
    plan = net.plan(params(state="absent"), net.found_definition(inspected()), held)
    assert "c9 (running) and 2 more" in plan.refusal


def test_after_definition_keeps_what_docker_chose() -> None:
    wanted = net.wanted_definition(params(subnet=None, gateway=None, mtu=1400))
    after = net.after_definition(wanted, net.found_definition(inspected()))
    assert (after["subnet"], after["gateway"], after["mtu"]) == ("10.201.1.0/24", "10.201.1.1", 1400)


def test_duplicates_are_named_with_the_cure() -> None:
    message = net.duplicate_message("vnet1", ["id1", "id2"])
    assert message.startswith("2 networks are named vnet1: id1, id2.")
    assert "`docker network rm id1` or `docker network rm id2`" in message


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, None), ({"mtu": 1300}, 1300), ({"underlay_mtu": 1400}, 1400), ({"mtu": 1300, "underlay_mtu": 1400}, 1300)],
)
def test_the_mtu_of_a_network_that_is_created(given, expected):
    body = net.create_body("blue", net.made_definition(params(**given)))
    assert body["Options"].get(net.MTU_OPTION) == (str(expected) if expected else None)


def test_an_underlay_that_changed_recreates_nothing():
    found = net.found_definition(inspected(Options={net.MTU_OPTION: "1500"}))
    assert net.plan(params(underlay_mtu=1400), found, []).action == "none"
