# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The validation of an inventory: every error names the thing and its cure, and all come at once."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils._inventory import (
    address_of,
    check_network,
    check_networks,
    resolve,
    validate,
)

DEFAULTS: dict[str, Any] = {
    "overlay_store_group": "overlay_store",
    "overlay_hosts_group": "overlay_hosts",
    "overlay_mode": "classic",
    "overlay_store_type": "consul",
    "overlay_datapath": "vxlan",
    "overlay_encryption": "none",
    "overlay_docker_api": "none",
    "overlay_docker_restart": "safe",
    "overlay_store_allow_any_count": False,
    "overlay_consul_manage": True,
    "overlay_store_url": "",
    "overlay_store_given": dict.fromkeys(("ca", "certificate", "key", "token"), False),
    "overlay_networks": [],
}


def no_dns(name: str) -> list[str]:
    return []


def cluster(store: int = 3, hosts: int = 3, **changes: Any) -> tuple[dict[str, str], list[str]]:
    """Validate an inventory of ``hosts`` hosts, of which the first ``store`` are store servers."""
    names = [f"node{number}" for number in range(1, max(store, hosts) + 1)]
    hostvars = {name: {"ansible_host": f"10.88.0.{number}"} for number, name in enumerate(names, 11)}
    groups = {"overlay_store": names[:store], "overlay_hosts": names[:hosts]}
    return validate(groups, hostvars, {**DEFAULTS, **changes}, no_dns)


def only_error(result: tuple[dict[str, str], list[str]]) -> str:
    assert len(result[1]) == 1, result[1]
    return result[1][0]


@pytest.mark.parametrize("servers", [1, 3, 5])
def test_a_good_inventory_yields_addresses(servers: int) -> None:
    addresses, errors = cluster(store=servers, hosts=3)
    assert errors == []
    assert addresses["node1"] == "10.88.0.11"
    assert len(addresses) == max(servers, 3)


@pytest.mark.parametrize("servers", [2, 4, 6])
def test_an_even_number_of_servers_is_refused(servers: int) -> None:
    error = only_error(cluster(store=servers, hosts=3))
    assert f"has {servers} hosts" in error and "1, 3 or 5" in error
    assert cluster(store=servers, overlay_store_allow_any_count=True)[1] == []


def test_the_store_in_the_middle_of_a_removal_has_any_number() -> None:
    """Whatever the inventory says, which knows nothing of it; the play's own names of groups hold."""
    names = [f"node{number}" for number in range(1, 5)]
    said = {"overlay_store_group": "overlay_store", "overlay_store_allow_any_count": False}
    hostvars = {name: {"ansible_host": f"10.88.0.{number}", **said} for number, name in enumerate(names, 11)}
    for group in ("overlay_removal_store", "overlay_remaining_store"):
        groups = {"overlay_store": names[:2], group: names, "overlay_hosts": names}
        assert validate(groups, hostvars, {**DEFAULTS, "overlay_store_group": group}, no_dns)[1] == []


def test_empty_groups_are_refused_both_at_once() -> None:
    errors = cluster(store=0, hosts=0)[1]
    assert any("group overlay_store is empty" in error for error in errors)
    assert any("group overlay_hosts is empty" in error for error in errors)


def test_an_external_store_needs_no_store_group_but_one_endpoint() -> None:
    external = {"overlay_consul_manage": False}
    assert cluster(store=0, **external, overlay_store_url="consul://10.0.0.9:8500")[1] == []
    assert "exactly one endpoint" in only_error(
        cluster(store=0, **external, overlay_store_url="consul://a:8500,b:8500")
    )
    assert "cannot be used" in only_error(cluster(store=0, **external))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ca": "x", "certificate": "x", "key": "x", "token": "x"}, ""),
        ({"ca": "x"}, ""),
        ({"ca": "x", "key": "x"}, "go together"),
        ({"ca": "x", "certificate": "x"}, "go together"),
        ({"certificate": "x", "key": "x"}, "and with overlay_store_ca"),
    ],
)
def test_tls_to_an_external_store_is_whole(given: dict[str, str], words: str) -> None:
    hostvars = {"a": {"ansible_host": "10.0.0.1", **{f"overlay_store_{name}": value for name, value in given.items()}}}
    outside = {**DEFAULTS, "overlay_consul_manage": False, "overlay_store_url": "consul://10.0.0.9:8500"}
    errors = validate({"overlay_hosts": ["a"]}, hostvars, outside, no_dns)[1]
    assert errors == [] if not words else words in errors[0] and errors[0].startswith("a: ")
    refused = validate({"overlay_hosts": ["a"], "overlay_store": ["a"]}, hostvars, DEFAULTS, no_dns)[1]
    assert ("for a store of somebody else" in refused[-1]) is ("ca" in given)
    by_a_play = {
        **outside,
        "overlay_store_given": {name: name in given for name in ("ca", "certificate", "key", "token")},
    }
    assert validate({"overlay_hosts": ["a"]}, {"a": {"ansible_host": "10.0.0.1"}}, by_a_play, no_dns)[1] == errors


def test_an_api_with_certificates_needs_our_own_ca() -> None:
    outside: dict[str, Any] = {"overlay_consul_manage": False, "overlay_store_url": "consul://10.0.0.9:8500"}
    assert cluster(overlay_docker_api="tls")[1] == []
    assert "overlay_docker_api to none" in only_error(cluster(store=0, **outside, overlay_docker_api="tls"))


def test_a_switch_given_as_text_is_a_switch() -> None:
    hostvars = {
        "a": {
            "ansible_host": "10.0.0.1",
            "overlay_consul_manage": "false",
            "overlay_store_url": "consul://10.0.0.9:8500",
        }
    }
    assert validate({"overlay_hosts": ["a"]}, hostvars, DEFAULTS, no_dns)[1] == []


def test_a_store_url_beside_our_own_consul_is_refused() -> None:
    assert "overlay_consul_manage: false" in only_error(cluster(overlay_store_url="consul://10.0.0.9:8500"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("overlay_mode", "kubernetes", "unknown"),
        ("overlay_mode", "swarm", "planned"),
        ("overlay_store_type", "redis", "unknown"),
        ("overlay_docker_restart", "always", "safe or rolling or never"),
    ],
)
def test_a_choice_that_is_not_there_names_those_that_are(name: str, value: str, words: str) -> None:
    error = only_error(cluster(3, 3, **{name: value}))
    assert error.startswith(name) and words in error


def test_addresses_must_be_unique_and_reachable() -> None:
    hostvars = {
        "a": {"overlay_address": "10.0.0.1"},
        "b": {"ansible_host": "10.0.0.1"},
        "c": {"overlay_address": "127.0.0.1"},
    }
    groups = {"overlay_store": ["a"], "overlay_hosts": ["a", "b", "c"]}
    errors = validate(groups, hostvars, DEFAULTS, no_dns)[1]
    assert any(error.startswith("b:") and "that of a too" in error for error in errors)
    assert any(error.startswith("c:") and "no other host can reach" in error for error in errors)


def test_an_address_comes_from_the_inventory_in_this_order() -> None:
    assert address_of("a", {"overlay_address": "10.0.0.1", "ansible_host": "10.0.0.2"}, no_dns) == ("10.0.0.1", None)
    assert address_of("a", {"ansible_host": "10.0.0.2"}, no_dns) == ("10.0.0.2", None)
    assert address_of("a", {}, lambda name: ["10.0.0.3"]) == ("10.0.0.3", None)
    assert "does not resolve" in str(address_of("a", {}, no_dns)[1])
    assert "not an IPv4 address" in str(address_of("a", {"overlay_address": "eth0"}, no_dns)[1])


def test_no_address_is_guessed() -> None:
    """Each error names the host, what was seen and the cure."""
    several = address_of("a", {"ansible_host": "web.example"}, lambda name: ["10.0.0.3", "10.0.0.4"])[1]
    assert several == (
        "a: web.example resolves to several addresses (10.0.0.3, 10.0.0.4). "
        "Set overlay_address for this host: its own address, which all peers reach."
    )
    own = address_of("a", {}, lambda name: ["127.0.1.1"])[1]
    assert "would be 127.0.1.1, which a resolves to" in str(own) and "Set overlay_address" in str(own)
    forwarded = address_of("a", {"ansible_host": "127.0.0.1", "ansible_port": 2201}, no_dns)[1]
    assert "would be 127.0.0.1 by ansible_host" in str(forwarded) and "Set overlay_address" in str(forwarded)


def test_several_hosts_behind_one_address_want_their_own() -> None:
    hostvars = {
        name: {"ansible_host": "203.0.113.1", "ansible_port": port} for name, port in (("a", 2201), ("b", 2202))
    }
    errors = validate({"overlay_store": ["a"], "overlay_hosts": ["a", "b"]}, hostvars, DEFAULTS, no_dns)[1]
    assert len(errors) == 1 and errors[0].startswith("b:") and "Give each host an overlay_address" in errors[0]


class Facts(dict[str, Any]):
    """Variables of a host whose address is a template over facts that nobody gathered."""

    def get(self, name: str, default: Any = None) -> Any:
        if name == "overlay_address":
            raise ValueError("trouble\nobject of type 'dict' has no attribute 'eth1'")
        return super().get(name, default)


def test_an_address_from_facts_is_an_error_and_no_crash() -> None:
    address, error = address_of("a", Facts(ansible_host="10.0.0.1"), no_dns)
    assert address is None
    assert error == (
        "a: overlay_address or ansible_host cannot be evaluated: object of type 'dict' has no attribute 'eth1'. "
        "No fact of any host is known here: write the address into the inventory."
    )


def test_names_are_resolved_here_to_all_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(None, None, None, "", (address, 0)) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_words: found)
    assert resolve("a") == ["10.0.0.1", "10.0.0.2"]
    monkeypatch.undo()
    assert resolve("a" * 64 + ".invalid") == []


def test_a_cluster_variable_that_differs_between_hosts_is_refused() -> None:
    hostvars = {
        "a": {"ansible_host": "10.0.0.1", "overlay_mode": "classic"},
        "b": {"ansible_host": "10.0.0.2", "overlay_mode": "swarm"},
    }
    errors = validate({"overlay_store": ["a"], "overlay_hosts": ["a", "b"]}, hostvars, DEFAULTS, no_dns)[1]
    assert any("differs between a and b" in error for error in errors)


def test_networks_set_on_the_docker_hosts_only_are_seen() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "s": {"ansible_host": "10.0.0.1"},
        "d": {"ansible_host": "10.0.0.2", "overlay_networks": [{"name": "n", "subnet": "none"}]},
    }
    errors = validate({"overlay_store": ["s"], "overlay_hosts": ["d"]}, hostvars, DEFAULTS, no_dns)[1]
    assert "no IPv4 network" in errors[0]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"name": "n", "subnet": "10.1.0.0"}, "no IPv4 network"),
        ({"name": "n", "subnet": "10.1.0.5/24"}, "host bits zero"),
        ({"name": "n", "subnet": "10.1.0.0/31"}, "no IPv4 network"),
        ({"name": "n", "subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}, "outside its subnet"),
        ({"name": "n", "subnet": "10.1.0.0/24", "gateway": "10.1.0.255"}, "broadcast"),
        ({"name": "n", "subnet": "10.1.0.0/24", "gateway": "gw"}, "not an IPv4 address"),
        ({"name": "n", "subnet": "10.1.0.0/24", "ip_range": "10.2.0.0/25"}, "outside its subnet"),
        ({"name": "n", "gateway": "10.1.0.1"}, "without a subnet"),
        ({"name": "n", "mtu": 100}, "mtu 100"),
        ({"name": "n", "mtu": "1450"}, "mtu '1450'"),
        ({"name": "n", "encrypted": True}, "encrypted"),
        ({"name": "n", "state": "gone"}, "neither present nor absent"),
        ({"name": "n", "subnett": "10.1.0.0/24"}, "the key subnett is unknown"),
        ({"name": "-n"}, "no name for a network"),
        ({}, "no name for a network"),
    ],
)
def test_a_bad_network_is_refused(network: dict[str, Any], words: str) -> None:
    errors = check_network(network)
    assert len(errors) == 1 and words in errors[0], errors


def test_a_good_network_is_accepted() -> None:
    assert (
        check_network(
            {"name": "n", "subnet": "10.1.0.0/24", "gateway": "10.1.0.1", "ip_range": "10.1.0.128/25", "mtu": 1450}
        )
        == []
    )


def test_overlapping_networks_and_the_underlay_are_refused() -> None:
    networks = [
        {"name": "a", "subnet": "10.1.0.0/16"},
        {"name": "b", "subnet": "10.1.2.0/24"},
        {"name": "c", "subnet": "10.9.0.0/24"},
    ]
    errors = check_networks(networks, {"node1": "10.9.0.7"})
    assert len(errors) == 2
    assert "b" in errors[0] and "overlaps 10.1.0.0/16 of network a" in errors[0]
    assert "node1's own address 10.9.0.7" in errors[1]


def test_a_name_twice_and_networks_that_are_no_list_are_refused() -> None:
    assert "2 times" in check_networks([{"name": "a"}, {"name": "a"}], {})[0]
    assert "must be a list" in check_networks("frontend", {})[0]


def test_a_network_that_goes_away_may_overlap() -> None:
    networks = [{"name": "a", "subnet": "10.1.0.0/24", "state": "absent"}, {"name": "b", "subnet": "10.1.0.0/24"}]
    assert check_networks(networks, {}) == []
