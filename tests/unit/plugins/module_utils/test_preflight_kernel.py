# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filters, kernel settings and interfaces' managers: what is read, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_kernel as kernel
from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_plan_kernel as planner
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_kernel import CHECKS
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan import check_forwarding
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader, read_sysctl_settings

DOCKER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
COMMIT
"""
DROPS = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n"


def observed(**changes: Any) -> dict[str, Any]:
    """A host where nothing is wrong."""
    found: dict[str, Any] = {
        "legacy": dict(kernel.NOTHING),
        "nft": dict(kernel.NOTHING),
        "walls": [],
        "interface": "eth0",
        "rp_filter": 2,
        "gc_thresh3": 1024,
        "managed": [],
        "mac_policy": "/usr/lib/systemd/network/99-default.link",
        "firewall": {"loaded": True, "peers": []},
        "open": [],
    }
    running = changes.pop("running", True)
    found.update(changes)
    return {
        "kernel": "5.10.0",
        "kernel_modules": {"br_netfilter": "loadable"},
        "kernel_net": found,
        "engine": {"running": running},
    }


def wanted(**changes: Any) -> dict[str, Any]:
    return {"mode": "classic", "hosts": 3, "firewall": "manage", "ports": ["7946/tcp"], "address": "", **changes}


def ids(host: dict[str, Any], **changes: Any) -> list[str]:
    checks = planner.KERNEL_HOST_CHECKS + planner.KERNEL_DOCKER_CHECKS
    rows = [row for check in checks for row in check(host, wanted(**changes))]
    assert all(row["level"] == CHECKS[row["id"]].level and row["fix"] and row["evidence"] for row in rows)
    return [row["id"] for row in rows]


def test_a_host_in_order_has_no_findings() -> None:
    assert ids(observed()) == []
    assert ids(observed(nft=kernel.parse_save(DOCKER))) == []
    # What could not be read was said already.
    assert ids({**observed(), "kernel_net": {}}) == []


def test_br_netfilter() -> None:
    assert ids({**observed(), "kernel_modules": {"br_netfilter": "missing"}}) == ["br_netfilter_missing"]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("classic", 1, []),
        ("routed", 1, ["rp_filter_strict"]),
        ("routed", 2, []),
        ("flannel", 1, ["rp_filter_strict", "mac_policy_persistent"]),
    ],
)
def test_rp_filter_matters_where_the_hosts_route(mode: str, value: int, expected: list[str]) -> None:
    assert ids(observed(rp_filter=value), mode=mode) == expected


def test_forward_drop_is_normal_where_docker_has_its_rules() -> None:
    dropping = kernel.parse_save(DROPS)
    assert ids(observed(nft=dropping)) == ["forward_drop"]
    assert ids(observed(legacy=dropping)) == ["forward_drop"]
    assert ids(observed(nft=dropping, running=False)) == ["forward_policy_drop"]


def test_rules_of_docker_that_were_flushed() -> None:
    flushed = observed(readable=True)
    assert ids(flushed) == ["docker_rules_missing"]
    assert ids(observed(readable=True, running=False)) == []
    assert ids(observed(readable=True, nft=kernel.parse_save(DOCKER))) == []
    flushed["engine"]["flags"] = [{"flag": "iptables", "value": "false", "source": "unit"}]
    assert ids(flushed) == []
    flushed["engine"].update(flags=[], daemon_json={"config": {"iptables": False}})
    assert ids(flushed) == []


def test_a_wall_of_nftables() -> None:
    assert ids(observed(walls=["inet filter forward"])) == ["forward_drop"]


def test_two_flavours() -> None:
    docker = kernel.parse_save(DOCKER)
    assert ids(observed(nft=docker, legacy=docker)) == ["iptables_mixed"]
    # A table that was only looked at has no rules.
    assert ids(observed(nft=docker, legacy=kernel.parse_save("*nat\nCOMMIT\n"))) == []


def test_the_neighbour_table() -> None:
    assert ids(observed(), hosts=1000) == ["neighbour_table_small"]
    assert ids(observed(gc_thresh3=None), hosts=5000) == []


def test_networkmanager() -> None:
    assert ids(observed(managed=["docker0 bridge connected"])) == ["networkmanager_manages"]


def test_a_report_of_the_firewall() -> None:
    exposed = observed(firewall={"loaded": False, "peers": []}, open=["7946/tcp"])
    assert ids(exposed) == []
    assert ids(exposed, firewall="off") == []
    assert ids(exposed, firewall="report") == ["firewall_would_close", "firewall_ports_open"]
    assert ids(observed(), firewall="report") == ["firewall_would_close"]
    assert ids(exposed, firewall="report", ports=[]) == []


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., Reader]:
    """host({path: text}, {command: output}) is a reader of such a host."""

    def make(files: dict[str, str], programs: dict[str, str] | None = None) -> Reader:
        for path, text in files.items():
            target = tmp_path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

        def run(argv: list[str]) -> tuple[int, str, str]:
            said = (programs or {}).get(" ".join(argv))
            return (127, "", "not found") if said is None else (0, said, "")

        return Reader(str(tmp_path), run)

    return make


def test_parse_save() -> None:
    assert kernel.parse_save(DOCKER) == {"rules": 3, "forward": "DROP", "docker": True}
    assert kernel.parse_save(DROPS) == {"rules": 0, "forward": "DROP", "docker": False}
    assert kernel.parse_save("") == kernel.NOTHING


def test_legacy_is_asked_for_tables_that_are_there_only(host: Callable[..., Reader]) -> None:
    programs = {"iptables-legacy-save -t nat": "*nat\n-A POSTROUTING -j MASQUERADE\n"}
    assert kernel.read_legacy(host({}, programs))["rules"] == 0
    assert kernel.read_legacy(host({"/proc/net/ip_tables_names": "nat\n"}, programs))["rules"] == 1


def chain(**changes: Any) -> dict[str, Any]:
    entry = {"family": "inet", "table": "filter", "name": "forward", "hook": "forward", "policy": "drop"}
    return {"chain": {**entry, **changes}}


@pytest.mark.parametrize(
    ("changes", "table", "expected"),
    [
        ({}, "", ["inet filter forward"]),
        ({}, 'iifname "docker0" accept', []),
        ({"policy": "accept"}, "", []),
        ({"hook": "input"}, "", []),
        ({"family": "ip6"}, "", []),
        ({"family": "ip", "name": "FORWARD"}, "", []),
    ],
)
def test_walls(host: Callable[..., Reader], changes: dict[str, str], table: str, expected: list[str]) -> None:
    listed = json.dumps({"nftables": [{"metainfo": {}}, chain(**changes)]})
    reader = host({}, {"nft -j list chains": listed, "nft list table inet filter": table})
    assert kernel.read_walls(reader, kernel.read_chains(reader)) == expected


def test_rp_filter_is_the_greater_of_two(host: Callable[..., Reader]) -> None:
    base = "/proc/sys/net/ipv4/conf/"
    assert kernel.read_rp_filter(host({}), "eth0") == 0
    assert kernel.read_rp_filter(host({f"{base}all/rp_filter": "0\n", f"{base}eth0/rp_filter": "1\n"}), "eth0") == 1


def test_networkmanagers_devices(host: Callable[..., Reader]) -> None:
    said = "eth0:ethernet:connected\ndocker0:bridge:connected (externally)\nveth12:ethernet:unmanaged\n"
    said += "docker_gwbridge:bridge:connected\nbr-lan:bridge:connected\n"
    programs = {"nmcli -t -f DEVICE,TYPE,STATE device": said}
    assert kernel.read_managed(host({}, programs)) == []
    assert kernel.read_managed(host({"/run/NetworkManager/x": ""}, programs)) == ["docker_gwbridge bridge connected"]


def test_the_first_link_file_that_matches_counts(host: Callable[..., Reader]) -> None:
    default = "[Match]\nOriginalName=*\n[Link]\nMACAddressPolicy=persistent\n"
    path = "/usr/lib/systemd/network/99-default.link"
    assert kernel.read_mac_policy(host({})) == ""
    assert kernel.read_mac_policy(host({path: default})) == path
    cure = "[Match]\nOriginalName=flannel*\n[Link]\nMACAddressPolicy=none\n"
    assert kernel.read_mac_policy(host({"/etc/systemd/network/50-flannel.link": cure})) == ""


TCP = """  sl  local_address rem_address   st
   0: 0100007F:2134 00000000:0000 0A
   1: 0B46580A:1F0A 00000000:0000 0A
   2: 0B46580A:206C 0C46580A:1234 01
"""
TCP6 = """  sl  local_address rem_address   st
   0: 00000000000000000000000000000000:0947 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:0948 00000000000000000000000000000000:0000 0A
   2: 0000000000000000FFFF00000100007F:2135 00000000000000000000000000000000:0000 0A
"""


def test_listeners_of_the_loopback_address_are_not_open() -> None:
    assert kernel.listening_ports(TCP, "tcp", kernel.LISTEN) == {"7946/tcp"}
    assert kernel.listening_ports(TCP6, "tcp", kernel.LISTEN) == {"2375/tcp"}


def test_open_ports_are_asked_for_in_a_report_only(host: Callable[..., Reader]) -> None:
    reader = host({"/proc/net/tcp": TCP})
    assert kernel.read_open(reader, wanted()) == []
    assert kernel.read_open(reader, wanted(firewall="report")) == ["7946/tcp"]


def test_whom_our_table_lets_in(host: Callable[..., Reader]) -> None:
    command = "nft -j list set inet multihost_overlay peers"
    entry = {"family": "inet", "name": "peers", "table": "multihost_overlay", "type": "ipv4_addr"}
    full, empty = {"set": {**entry, "elem": ["10.88.0.11"]}}, {"set": entry}
    assert kernel.read_table(host({})) == {"loaded": False, "peers": []}
    for found, peers in ((full, ["10.88.0.11"]), (empty, [])):
        said = json.dumps({"nftables": [{"metainfo": {}}, found]})
        assert kernel.read_table(host({}, {command: said})) == {"loaded": True, "peers": peers}


@pytest.mark.parametrize("line", ["net.ipv4.ip_forward=0", "net/ipv4/ip_forward = 0", "-net.ipv4.conf.*.forwarding=0"])
def test_the_file_that_resets_forwarding_is_named(host: Callable[..., Reader], line: str) -> None:
    """Ours has been written; one that sorts after it has the last word all the same."""
    ours = {"/etc/sysctl.d/99-z-multihost-overlay.conf": "net.ipv4.ip_forward=1\n"}
    reader = host({**ours, "/etc/sysctl.d/99-zz.conf": f"# hardening\n{line}\n"})
    (row,) = check_forwarding({"sysctl": {}, "sysctl_settings": read_sysctl_settings(reader)}, {})
    assert row["id"] == "ip_forward_reset"
    assert row["message"].startswith("/etc/sysctl.d/99-zz.conf switches")
    assert "/etc/sysctl.d/99-zz.conf:2" in row["evidence"]


def test_a_file_before_ours_resets_nothing(host: Callable[..., Reader]) -> None:
    ours = {"/etc/sysctl.d/99-z-multihost-overlay.conf": "net.ipv4.ip_forward=1\n"}
    reader = host({**ours, "/etc/sysctl.d/99-hardening.conf": "net.ipv4.ip_forward=0\n"})
    assert list(check_forwarding({"sysctl": {}, "sysctl_settings": read_sysctl_settings(reader)}, {})) == []


def test_the_page_has_the_same_rows() -> None:
    text = (Path(__file__).parents[4] / "docs" / "checks.md").read_text(encoding="utf-8")
    rows = [tuple(line.split(" | ")) for line in text.splitlines() if line.startswith("| `")]
    documented = [row for row in rows if row[0][3:-1] in CHECKS]
    assert documented == [(f"| `{name}`", *check[:-1], f"{check.source} |") for name, check in CHECKS.items()]
