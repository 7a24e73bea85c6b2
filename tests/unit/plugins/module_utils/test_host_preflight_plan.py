# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of the planner, both ways."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import CHECKS
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_host import NO_ENGINE
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan import network, plan, version
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_store import exempt

UNIT = "/lib/systemd/system/docker.service"
DROPIN = "/etc/systemd/system/docker.service.d/proxy.conf"


NOW = 1_800_000_000.0


def bare() -> dict[str, Any]:
    """A Debian 11 host as it comes, with nothing to complain about."""
    return {
        "root": True,
        "architecture": "x86_64",
        "now": NOW,
        "certificates": {"consul": {"not_after": NOW + 364 * 86400}, "ca": {"not_after": NOW + 3649 * 86400}},
        "distribution": {"id": "debian", "version": "11", "codename": "bullseye"},
        "kernel": "5.10.0-33-amd64",
        "hostname": "node1",
        "machine_id": "1" * 32,
        "systemd": True,
        "init": "systemd",
        "addresses": [
            {"interface": "lo", "address": "127.0.0.1", "prefix": 8, "dynamic": False},
            {"interface": "eth0", "address": "10.88.0.11", "prefix": 24, "dynamic": False},
        ],
        "routes": [{"destination": "10.88.0.0/24", "device": "eth0", "line": "10.88.0.0/24 dev eth0"}],
        "interfaces": ["eth0", "lo"],
        "resolvers": [{"address": "10.88.0.1", "file": "/etc/resolv.conf"}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "sysctl_settings": [],
        "kernel_modules": {"vxlan": "loadable", "bridge": "loaded"},
        "packages": {},
        "listeners": [],
        "manifest": {"roles": []},
        "engine": copy.deepcopy(NO_ENGINE),
        "unreadable": [],
    }


def docker(**changes: Any) -> dict[str, Any]:
    """The same host with Debian 11's engine running on it."""
    observed = bare()
    info = {"ServerVersion": "20.10.5", "Swarm": {"LocalNodeState": "inactive"}, "ContainersRunning": 0}
    observed["engine"].update(
        installed=True,
        running=True,
        binary="/usr/sbin/dockerd",
        version="20.10.5",
        backends=["consul", "etcd", "zk"],
        api={"answers": True, "info": info, "containers": []},
        unit_files=[UNIT],
        flags=[{"flag": "host", "value": "fd://", "source": UNIT}],
    )
    observed["engine"].update(changes)
    return observed


def params(**changes: Any) -> dict[str, Any]:
    wanted = {
        "mode": "classic",
        "store_type": "consul",
        "store_url": "",
        "store_ports": [8500],
        "store_managed": True,
        "address": "10.88.0.11",
        "address_origin": "",
        "interface": "",
        "networks": [{"name": "blue", "subnet": "172.30.1.0/24"}],
        "daemon_config": {
            "cluster-store": "consul://127.0.0.1:8500",
            "cluster-advertise": "10.88.0.11:2376",
            "live-restore": True,
        },
        "docker_host": True,
        "docker_install": "auto",
        "kernel_minimum": "3.10",
        "kernel_recommended": "3.18",
    }
    wanted.update(changes)
    return wanted


def ids(observed: dict[str, Any], **changes: Any) -> list[str]:
    return [row["id"] for row in plan(observed, params(**changes))]


def only(observed: dict[str, Any], check_id: str, **changes: Any) -> dict[str, str]:
    """The single finding with that id, and no other of the level error beside it."""
    rows = plan(observed, params(**changes))
    assert [row["id"] for row in rows if row["level"] == "error" and row["id"] != check_id] == []
    (row,) = [row for row in rows if row["id"] == check_id]
    assert row["level"] == CHECKS[check_id].level
    assert row["fix"]
    return row


@pytest.mark.parametrize("observed", [bare(), docker()])
def test_a_host_in_order_has_no_findings(observed: dict[str, Any]) -> None:
    assert plan(observed, params()) == []


def test_a_built_host_has_no_findings_on_the_second_run() -> None:
    observed = docker(daemon_json={"exists": True, "error": "", "config": params()["daemon_config"]})
    observed["engine"]["api"]["info"].update(ClusterStore="consul://127.0.0.1:8500", ClusterAdvertise="10.88.0.11:2376")
    observed["manifest"] = {"roles": ["overlay_consul", "overlay_docker"]}
    observed["listeners"] = [
        {"proto": "tcp", "port": 8500, "pid": 5, "program": "consul", "executable": "/usr/bin/consul"},
        {"proto": "tcp", "port": 7946, "pid": 6, "program": "dockerd", "executable": "/usr/sbin/dockerd"},
    ]
    observed["addresses"] += [
        {"interface": "docker0", "address": "172.17.0.1", "prefix": 16, "dynamic": False},
        {"interface": "docker_gwbridge", "address": "172.18.0.1", "prefix": 16, "dynamic": False},
        # What an overlay itself leaves on a kernel before 3.16.
        {"interface": "ov-000100-abcde", "address": "172.30.1.1", "prefix": 24, "dynamic": False},
    ]
    observed["routes"] += [
        {"destination": "172.30.1.0/24", "device": "ov-000100-abcde", "line": "172.30.1.0/24 dev ov-"}
    ]
    assert plan(observed, params()) == []


# -- the host itself


def test_not_root() -> None:
    """What such a user cannot see would else be taken for what is not there, or for a stranger's."""
    unread = [{"what": "/etc/docker/key.json", "error": "[Errno 13] Permission denied"}]
    held = [{"proto": "tcp", "port": 7946, "pid": 0, "program": "", "executable": ""}]
    only(dict(bare(), root=False, unreadable=unread, listeners=held), "not_root")


def test_an_address_that_nobody_has_set_says_where_it_comes_from() -> None:
    given = plan(bare(), params(address="10.88.0.12"))[0]
    taken = plan(bare(), params(address="10.88.0.12", address_origin="from ansible_host"))[0]
    assert "10.88.0.12 is not on this host" in given["message"] and "or configure it" in given["fix"]
    assert "10.88.0.12 (from ansible_host) is not on this host" in taken["message"]
    assert taken["fix"].startswith("set overlay_address for this host to one of its own")


def test_systemd_missing_names_what_runs() -> None:
    assert "sysvinit" in only(dict(bare(), systemd=False, init="sysvinit"), "systemd_missing")["evidence"]


@pytest.mark.parametrize(
    ("release", "expected"),
    [(("debian", "10"), True), (("ubuntu", "22.04"), True), (("", ""), True), (("debian", "11"), False)],
)
def test_distribution(release: tuple[str, str], expected: bool) -> None:
    observed = docker()
    observed["distribution"] = {"id": release[0], "version": release[1], "codename": ""}
    assert ("distribution_untested" in ids(observed)) is expected


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("2.6.32-754.el6.x86_64", ["kernel_too_old"]),
        ("3.9.11", ["kernel_too_old"]),
        ("3.10.0-1160.el7.x86_64", ["kernel_old"]),
        ("3.17.8", ["kernel_old"]),
        ("3.18", []),
        ("6.18.44-fc", []),
        ("", []),
    ],
)
def test_kernel(kernel: str, expected: list[str]) -> None:
    assert ids(dict(bare(), kernel=kernel)) == expected


def test_an_old_kernel_is_told_why() -> None:
    row = only(dict(bare(), kernel="3.10.0-1160.el7.x86_64"), "kernel_old")
    assert "enterprise" in row["message"]
    assert "8472" in row["message"]
    assert "3.16" in row["message"]


def test_kernel_bounds_are_parameters() -> None:
    assert ids(bare(), kernel_minimum="6.0") == ["kernel_too_old"]
    assert ids(bare(), kernel_recommended="6.0") == ["kernel_old"]


@pytest.mark.parametrize("module", ["vxlan", "bridge"])
@pytest.mark.parametrize("state", ["loaded", "builtin", "loadable", "missing"])
def test_kernel_modules(module: str, state: str) -> None:
    observed = bare()
    observed["kernel_modules"][module] = state
    assert ids(observed) == ([module + "_missing"] if state == "missing" else [])


@pytest.mark.parametrize(("name", "expected"), [("consul", "certificate_ends"), ("ca", "ca_ends")])
@pytest.mark.parametrize("days", [-1, 20])
def test_a_certificate_that_ends(name: str, expected: str, days: int) -> None:
    """Also one that has ended lets a run go on, which may renew it."""
    row = only(dict(bare(), certificates={name: {"not_after": NOW + days * 86400}}), expected)
    assert (row["level"], name in row["evidence"]) == ("warning", True)


def test_forwarding_off_is_repaired_later() -> None:
    assert only(dict(bare(), sysctl={"net.ipv4.ip_forward": "0"}), "ip_forward_off")["level"] == "info"


def test_a_sysctl_file_that_resets_forwarding_is_named() -> None:
    off = {"file": "/etc/sysctl.d/99-zz.conf", "line": "3", "key": "net.ipv4.ip_forward", "value": "0"}
    ours = dict(off, file="/etc/sysctl.d/99-z-multihost-overlay.conf", value="1")
    row = only(dict(bare(), sysctl_settings=[ours, off]), "ip_forward_reset")
    assert "/etc/sysctl.d/99-zz.conf:3" in row["evidence"]
    assert "line 3 of /etc/sysctl.d/99-zz.conf" in row["fix"]
    assert ids(dict(bare(), sysctl_settings=[off, ours])) == []


# -- address and routes


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.88.0.11", []),
        ("", []),
        ("10.88.0.12", ["address_missing"]),
        ("127.0.0.1", ["address_loopback"]),
        ("172.17.0.1", ["address_on_docker_bridge"]),
        ("10.0.2.15", ["address_nat", "address_dynamic"]),
    ],
)
def test_address(address: str, expected: list[str]) -> None:
    observed = docker()
    observed["addresses"] += [
        {"interface": "docker0", "address": "172.17.0.1", "prefix": 16, "dynamic": False},
        {"interface": "eth1", "address": "10.0.2.15", "prefix": 24, "dynamic": True},
    ]
    assert ids(observed, address=address) == expected


def test_a_missing_address_shows_those_that_are_there() -> None:
    row = only(bare(), "address_missing", address="192.0.2.9")
    assert "10.88.0.11/24 on eth0" in row["evidence"]
    assert "127.0.0.1" not in row["evidence"]


def test_addresses_that_could_not_be_read_are_not_called_missing() -> None:
    observed = dict(bare(), addresses=None, routes=None, unreadable=[{"what": "ip", "error": "not found"}])
    assert ids(observed, interface="eth0") == ["unreadable"]


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("eth0", []),
        ("10.88.0.0/16", []),
        ("lo", ["interface_mismatch"]),
        ("eth7", ["interface_mismatch"]),
        ("10.89.0.0/24", ["interface_mismatch"]),
    ],
)
def test_interface(interface: str, expected: list[str]) -> None:
    assert ids(bare(), interface=interface) == expected


def test_an_absent_interface_is_called_absent() -> None:
    assert "there is no interface eth7" in only(bare(), "interface_mismatch", interface="eth7")["evidence"]


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("172.30.0.0/24", []),
        ("10.88.0.128/25", ["subnet_overlaps_address"]),
        ("10.0.0.0/8", ["subnet_overlaps_address", "subnet_overlaps_resolver"]),
        ("192.168.7.0/24", ["subnet_overlaps_route"]),
        ("10.99.0.0/24", ["subnet_overlaps_resolver"]),
        ("172.17.0.0/16", ["subnet_overlaps_address"]),
    ],
)
def test_subnets(subnet: str, expected: list[str]) -> None:
    observed = docker()
    observed["addresses"] += [{"interface": "docker0", "address": "172.17.0.1", "prefix": 16, "dynamic": False}]
    observed["routes"] += [
        {"destination": "192.168.0.0/16", "device": "tun0", "line": "192.168.0.0/16 dev tun0 table 51"},
        {"destination": "172.17.0.0/16", "device": "docker0", "line": "172.17.0.0/16 dev docker0"},
        {"destination": "128.0.0.0/1", "device": "tun0", "line": "128.0.0.0/1 dev tun0"},
    ]
    observed["resolvers"] = [{"address": "10.99.0.53", "file": "/etc/resolv.conf"}, {"address": "fe80::1", "file": "x"}]
    assert ids(observed, networks=[{"name": "blue", "subnet": subnet}]) == expected


def test_an_overlap_with_dockers_own_bridge_names_the_other_cure() -> None:
    observed = docker()
    observed["addresses"] += [{"interface": "docker_gwbridge", "address": "172.18.0.1", "prefix": 16, "dynamic": False}]
    row = only(observed, "subnet_overlaps_address", networks=[{"name": "blue", "subnet": "172.18.3.0/24"}])
    assert "docker_gwbridge" in row["fix"]


def test_an_absent_network_is_not_checked() -> None:
    assert ids(bare(), networks=[{"name": "blue", "subnet": "10.88.0.0/24", "state": "absent"}]) == []


def test_a_network_without_subnet() -> None:
    assert ids(bare(), networks=[{"name": "blue"}]) == []
    observed = bare()
    observed["routes"] += [{"destination": "10.0.0.0/24", "device": "eth1", "line": "10.0.0.0/24 dev eth1"}]
    assert ids(observed, networks=[{"name": "blue", "subnet": None}]) == ["subnet_left_to_docker"]


# -- engine


@pytest.mark.parametrize(
    ("release", "store_type", "install", "expected"),
    [
        ("11", "consul", "auto", []),
        ("11", "zookeeper", "distribution", []),
        ("12", "consul", "auto", ["engine_unavailable"]),
        ("12", "etcd", "auto", []),
        ("12", "consul", "archive", []),
        ("12", "consul", "docker_ce", ["engine_unavailable"]),
        ("13", "etcd", "distribution", ["engine_unavailable"]),
        ("11", "consul", "docker_ce", []),
    ],
)
def test_planned_engine(release: str, store_type: str, install: str, expected: list[str]) -> None:
    observed = bare()
    observed["distribution"]["version"] = release
    assert ids(observed, store_type=store_type, docker_install=install) == expected
    assert ids(observed, store_type=store_type, docker_install=install, mode="swarm") == []


def test_planned_engine_of_another_distribution() -> None:
    observed = bare()
    observed["distribution"] = {"id": "fedora", "version": "40", "codename": ""}
    assert ids(observed) == ["distribution_untested", "engine_plan_unknown"]


@pytest.mark.parametrize(
    ("number", "backends", "install", "expected"),
    [
        ("20.10.5", ["consul", "etcd", "zk"], "auto", []),
        ("20.10.24", ["etcd", "zk"], "auto", ["engine_backend_missing"]),
        ("20.10.24", ["etcd", "zk"], "archive", ["engine_replaced"]),
        ("23.0.0", [], "auto", ["engine_too_new"]),
        ("26.1.5", [], "docker_ce", ["engine_replaced"]),
        ("", [], "auto", ["engine_backend_missing"]),
    ],
)
def test_installed_engine(number: str, backends: list[str], install: str, expected: list[str]) -> None:
    assert ids(docker(version=number, backends=backends), docker_install=install) == expected


def test_a_new_engine_serves_a_swarm() -> None:
    assert ids(docker(version="26.1.5", backends=[]), mode="swarm") == []


def test_engine_states() -> None:
    nothing = {"answers": False, "info": {}, "containers": []}
    assert ids(docker(running=False, api=nothing)) == ["engine_stopped"]
    assert ids(docker(api=nothing)) == ["engine_silent"]
    assert "engine_is_podman" in ids(docker(podman=True))


@pytest.mark.parametrize("state", ["active", "locked", "pending"])
def test_swarm_active(state: str) -> None:
    observed = docker()
    observed["engine"]["api"]["info"]["Swarm"] = {"LocalNodeState": state}
    assert ids(observed) == ["swarm_active"]
    assert ids(observed, mode="swarm") == []


def test_swarm_of_a_stopped_engine() -> None:
    observed = docker(running=False, api={"answers": False, "info": {}, "containers": []}, stored_swarm=True)
    assert "swarm_active" in ids(observed)


def test_cluster_store_blocks_swarm() -> None:
    observed = docker()
    observed["engine"]["api"]["info"].update(ClusterStore="consul://10.1.1.1:8500", ClusterAdvertise="10.88.0.11:2376")
    assert ids(observed, mode="swarm") == ["cluster_store_blocks_swarm"]


def test_another_store_is_a_warning() -> None:
    config = {"cluster-store": "consul://10.1.1.1:8500"}
    observed = docker(daemon_json={"exists": True, "error": "", "config": config})
    assert "10.1.1.1" in only(observed, "cluster_store_other")["message"]
    assert ids(observed, daemon_config=config) == []


# -- configuration


def test_invalid_daemon_json() -> None:
    broken = {"exists": True, "error": "Expecting ',' delimiter: line 3 column 5 (char 40)", "config": {}}
    assert "line 3" in only(docker(daemon_json=broken), "daemon_json_invalid")["message"]


def test_numbers_in_store_options() -> None:
    config = {"cluster-store-opts": {"discovery.ttl": 60, "kv.path": "docker/nodes"}}
    row = only(docker(daemon_json={"exists": True, "error": "", "config": config}), "store_opts_not_strings")
    assert "discovery.ttl" in row["message"]
    assert "kv.path" not in row["message"]


def flags(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"flag": flag, "value": value, "source": UNIT} for flag, value in pairs]


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("cluster-store", "consul://127.0.0.1:8500", "engine_flag_same"),
        ("cluster-store", "consul://10.1.1.1:8500", "engine_flag_conflict"),
        ("cluster-advertise", "10.88.0.11:2376", "engine_flag_same"),
        ("cluster-advertise", "eth0:2376", "engine_flag_same"),
        ("cluster-advertise", "eth0:2375", "engine_flag_conflict"),
        ("live-restore", "true", "engine_flag_same"),
        ("live-restore", "false", "engine_flag_conflict"),
    ],
)
def test_our_settings_as_flags(flag: str, value: str, expected: str) -> None:
    (row,) = [row for row in plan(docker(flags=flags((flag, value))), params()) if row["id"].startswith("engine_flag")]
    assert row["id"] == expected
    assert UNIT in row["evidence"]


def test_flags_that_repeat_are_compared_as_a_whole() -> None:
    observed = docker(flags=flags(("cluster-store-opt", "kv.path=a"), ("cluster-store-opt", "discovery.ttl=60")))
    both = {"cluster-store-opts": {"kv.path": "a", "discovery.ttl": "60"}}
    assert ids(observed, daemon_config=both) == ["engine_flag_same"]
    assert ids(observed, daemon_config={"cluster-store-opts": {"kv.path": "a"}}) == ["engine_flag_conflict"]
    assert ids(observed, daemon_config={"cluster-store-opts": {}}) == []


def test_secrets_in_flags_are_not_shown() -> None:
    observed = docker(flags=flags(("log-opt", "splunk-token=sesame")))
    rows = plan(observed, params(daemon_config={"log-opts": {"splunk-token": "tapioca"}}))
    assert [row["id"] for row in rows] == ["engine_flag_conflict"]
    assert "sesame" not in str(rows)
    assert "tapioca" not in str(rows)


def test_a_key_in_both_places() -> None:
    config = {"hosts": ["tcp://127.0.0.1:2375"], "runtimes": {}, "debug": True}
    observed = docker(
        flags=flags(("host", "fd://"), ("runtimes", "x")), daemon_json={"exists": True, "error": "", "config": config}
    )
    row = only(observed, "engine_key_twice")
    assert "--host" in row["evidence"]


def test_another_configuration_file() -> None:
    only(docker(flags=flags(("config-file", "/etc/docker/other.json"))), "engine_config_elsewhere")
    assert ids(docker(flags=flags(("config-file", "/etc/docker/daemon.json")))) == []


# -- store

EXTERNAL = {"daemon_config": {"cluster-store": "consul://10.1.1.1:8500"}}


def environment(**values: str) -> dict[str, Any]:
    return docker(environment=[{"name": name, "value": value, "source": DROPIN} for name, value in values.items()])


@pytest.mark.parametrize(
    ("values", "wanted", "swallowed"),
    [
        ({"HTTP_PROXY": "http://u:geheim@proxy:3128"}, EXTERNAL, True),
        ({"http_proxy": "http://proxy:3128"}, EXTERNAL, True),
        ({"HTTPS_PROXY": "http://proxy:3128"}, EXTERNAL, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,10.1.0.0/16"}, EXTERNAL, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost"}, EXTERNAL, True),
        # Go never asks a proxy for the loopback address.
        ({"HTTP_PROXY": "http://proxy:3128"}, {}, False),
        ({}, EXTERNAL, False),
    ],
)
def test_proxy(values: dict[str, str], wanted: dict[str, Any], swallowed: bool) -> None:
    rows = plan(environment(**values), params(**wanted))
    assert [row["id"] for row in rows] == (["proxy_swallows_store"] if swallowed else [])
    assert "geheim" not in str(rows)
    assert all(DROPIN in row["evidence"] for row in rows)


TLS = {"kv.cacertfile": "/ca.pem", "kv.certfile": "/cert.pem", "kv.keyfile": "/key.pem"}


def test_proxy_over_tls() -> None:
    wanted = {"cluster-store": "consul://10.1.1.1:8500", "cluster-store-opts": TLS}
    assert ids(environment(HTTPS_PROXY="http://proxy:1"), daemon_config=wanted) == ["proxy_swallows_store"]
    assert ids(environment(HTTP_PROXY="http://proxy:1"), daemon_config=wanted) == []


def test_proxy_of_the_process_alone() -> None:
    entries = [{"name": "HTTP_PROXY", "value": "http://proxy:1", "source": "the running dockerd (pid 7)"}]
    assert "pid 7" in only(docker(environment=entries), "proxy_swallows_store", **EXTERNAL)["evidence"]
    # One and the same setting, seen in the file and in the process, is one finding.
    entries.append(dict(entries[0], source=DROPIN))
    assert DROPIN in only(docker(environment=entries), "proxy_swallows_store", **EXTERNAL)["evidence"]


@pytest.mark.parametrize(
    ("host", "no_proxy", "expected"),
    [
        ("localhost", "", True),
        ("127.0.0.9", "", True),
        ("10.1.1.1", "", False),
        ("10.1.1.1", "10.1.1.1", True),
        ("10.1.1.1", "10.1.1.1:8500", True),
        ("10.1.1.1", "10.1.1.1:9999", False),
        ("10.1.1.1", " 10.1.0.0/16 , x", True),
        ("consul.example.com", "example.com", True),
        ("consul.example.com", ".example.com", True),
        ("consul.example.com", "*.example.com", True),
        ("consul.badexample.com", "example.com", False),
        ("anything", "*", True),
    ],
)
def test_no_proxy(host: str, no_proxy: str, expected: bool) -> None:
    assert exempt(host, 8500, no_proxy) is expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"name": "kv", "image": "consul:1.8", "ports": [8500], "host_network": False}, True),
        ({"name": "kv", "image": "registry/consul", "ports": [], "host_network": True}, True),
        ({"name": "web", "image": "nginx", "ports": [80], "host_network": False}, False),
        ({"name": "kv", "image": "consul:1.8", "ports": [], "host_network": False}, False),
    ],
)
def test_store_in_a_container(row: dict[str, Any], expected: bool) -> None:
    observed = docker()
    observed["engine"]["api"]["containers"] = [row]
    assert ("store_in_container" in ids(observed)) is expected
    assert "store_in_container" not in ids(observed, **EXTERNAL)


@pytest.mark.parametrize(
    ("program", "roles", "expected"),
    [
        ("consul", [], True),
        ("consul", ["overlay_consul"], False),
        ("nginx", ["overlay_consul"], True),
        ("dockerd", [], False),
    ],
)
def test_ports(program: str, roles: list[str], expected: bool) -> None:
    observed = dict(bare(), manifest={"roles": roles})
    observed["listeners"] = [
        {"proto": "tcp", "port": 8500, "pid": 5, "program": program, "executable": "/opt/x/" + program}
    ]
    rows = plan(observed, params())
    assert [row["id"] for row in rows] == (["port_held"] if expected else [])
    assert all(f"/opt/x/{program}" in row["message"] for row in rows)


def test_a_udp_port_that_a_program_holds() -> None:
    observed = bare()
    observed["listeners"] = [
        {"proto": "udp", "port": 7946, "pid": 5, "program": "python3", "executable": "/usr/bin/python3"},
        # The kernel's vxlan: no process, and no trouble.
        {"proto": "udp", "port": 4789, "pid": 0, "program": "", "executable": ""},
    ]
    assert "port 7946/udp is held by python3 (pid 5" in only(observed, "port_held")["message"]


def test_a_published_port_names_its_container() -> None:
    observed = docker()
    observed["engine"]["api"]["containers"] = [{"name": "kv", "image": "x", "ports": [8500], "host_network": False}]
    observed["listeners"] = [
        {"proto": "tcp", "port": 8500, "pid": 5, "program": "docker-proxy", "executable": "/usr/bin/docker-proxy"}
    ]
    assert "container kv" in only(observed, "port_held")["message"]


# -- the planner as a whole


def test_a_host_of_the_store_alone_is_not_judged_by_its_engine() -> None:
    observed = docker(version="26.1.5", backends=[], stored_swarm=True)
    observed.update(kernel="3.2.0", kernel_modules={}, sysctl={"net.ipv4.ip_forward": "0"})
    assert ids(observed, docker_host=False, networks=[{"name": "blue", "subnet": "10.88.0.0/24"}]) == []


def test_what_could_not_be_read_is_a_finding() -> None:
    row = only(
        dict(bare(), unreadable=[{"what": "/etc/docker/daemon.json", "error": "Permission denied"}]), "unreadable"
    )
    assert "/etc/docker/daemon.json" in row["message"]


def test_a_check_that_stumbles_is_a_finding() -> None:
    observed = bare()
    del observed["kernel_modules"]
    row = only(observed, "unreadable")
    assert "check_modules" in row["message"]


def test_odd_text() -> None:
    assert network("nonsense") is None
    assert version("vNext") == ()
