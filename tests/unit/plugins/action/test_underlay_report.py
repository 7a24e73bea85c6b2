# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""underlay_report: what it reads from the hosts' tasks, and what it hands on."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.multihost.overlay.plugins.action import underlay_report

HOSTS = ["a", "b"]
TOPOLOGY = {
    "mode": "classic",
    "store_type": "consul",
    "store_managed": False,
    "store_url": "consul://127.0.0.1:8500",
    "networks": ["blue"],
    "docker_api": "none",
    "encryption": "none",
    "addresses": {"a": "10.0.0.1", "b": "10.0.0.2"},
    "groups": {"hosts": HOSTS, "servers": [], "members": HOSTS},
}
SEEN = {"problem": "", "interface": "eth0", "mtu": 1400, "held": [], "bridges": {}, "networks": {}, "members": {}}
ARGS = {
    "topology": TOPOLOGY,
    "patience": 3.0,
    "gossip": 2.5,
    "clock_offset": 2.0,
    "clock_shift": {},
    "unless_proven": False,
}


def book(largest: int = 1400) -> dict[str, Any]:
    heard = {str(stream): {"packets": 5, "largest": largest, "mangled": 0} for stream in (0, 4789, 7946)}
    common = {"gossip": [], "syn": [], "tcp": {"7946": "connected"}, "rtt": [1, 2, 3], "offset": 0.0, "sent": 5}
    return dict(common, heard=heard, errors={}, route_mtu=1400)


@pytest.fixture
def action():
    return underlay_report.ActionModule.__new__(underlay_report.ActionModule)


def begin(action, hosts=None, **changes):
    hostvars = changes.pop("hostvars", {})
    return action._begin(
        {**ARGS, **changes}, {"ansible_play_hosts_all": HOSTS if hosts is None else hosts, "hostvars": hostvars}
    )["run"]


def run_of(action, books, forks=1):
    """A run from its start to its end, with these books."""
    run = begin(action)
    hostvars = {host: {underlay_report.STARTED: dict(SEEN, run_id=run["id"])} for host in HOSTS}
    plan = action._plan({**ARGS, "run": run}, {"hostvars": hostvars, "ansible_forks": forks})["plan"]
    registered = underlay_report.COLLECTED if forks < len(HOSTS) else underlay_report.PROBED
    for host, peers in books.items():
        collected = {"run_id": run["id"], "agent_died": False, "errors": [], "peers": peers}
        hostvars[host][registered] = collected
    return plan, action._compose({**ARGS, "run": run, "plan": plan}, {"hostvars": hostvars})


def test_each_run_has_a_number_and_its_ports(action):
    run = begin(action)
    assert run["id"] != begin(action)["id"]
    assert (run["ports"], run["skipped"]) == (["udp/4789", "tcp/7946", "udp/7946"], "")


@pytest.mark.parametrize("forks", [1, 2])
def test_hosts_in_order(action, forks):
    plan, result = run_of(action, {"a": {"b": book()}, "b": {"a": book()}}, forks)
    assert plan["timing"]["together"] is (forks == 2)
    assert (plan["hosts"], plan["mtus"], plan["timing"]["spread"] >= 1) == (HOSTS, [1400, 1400], True)
    assert [row["id"] for row in result["findings"]] == ["underlay_mtu_below_default"]
    assert result["underlay"]["mtu"] == 1400
    assert result["ansible_facts"] == {"overlay_underlay": {"mtu": 1400}}
    assert result["ports"] == []


def test_a_closed_port_shows_the_table(action):
    broken = book()
    del broken["heard"]["4789"]
    _plan, result = run_of(action, {"a": {"b": book()}, "b": {"a": broken}})
    assert "path_vxlan_swallowed" in [row["id"] for row in result["findings"]]
    assert any("4789/udp" in line for line in result["ports"])


def test_hosts_without_a_result_are_said_and_set_no_mtu(action):
    _plan, result = run_of(action, {})
    assert [row["id"] for row in result["findings"]] == ["probe_failed", "probe_failed"]
    assert "ansible_facts" not in result


@pytest.mark.parametrize(("hosts", "words"), [(["a"], "leaves out b"), ([], "leaves out a, b")])
def test_a_part_of_the_hosts_is_not_probed(action, hosts, words):
    run = begin(action, hosts)
    assert words in run["skipped"]
    result = action._compose({**ARGS, "run": run, "plan": {}}, {"hostvars": {}, "ansible_play_hosts_all": hosts})
    (row,) = result["findings"]
    assert (row["id"], words in row["evidence"]) == ("probe_skipped", True)
    assert (result["underlay"], result.get("ansible_facts")) == ({}, None)


def test_nonsense_is_refused(action):
    with pytest.raises(AnsibleActionFail, match="patience must be 1 or more"):
        begin(action, patience=0.0)


JOINED = {"running": True, "cluster_store": "consul://127.0.0.1:8500", "networks": ["blue", "green"]}


@pytest.mark.parametrize(
    ("changes", "probed"),
    [({}, False), ({"networks": []}, True), ({"cluster_store": ""}, True), ({"running": False}, True)],
)
def test_where_a_proof_follows_only_hosts_or_networks_that_are_new_are_probed(action, changes, probed):
    def facts(engine):
        return {"ansible_facts": {"overlay_host_facts": {"engine": engine}}}

    hostvars = {"a": facts(JOINED), "b": facts({**JOINED, **changes})}
    assert (begin(action, unless_proven=True, hostvars=hostvars)["skipped"] == "") is probed
    assert begin(action, hostvars=hostvars)["skipped"] == ""
    assert begin(action, unless_proven=True)["skipped"] == ""
