# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify_report: what it reads, writes and refuses."""

from __future__ import annotations

import json
import os
import time
from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.multihost.overlay.plugins.action import verify_report

HOSTS = ["a", "b"]
VIEW = {
    "id": "n",
    "ipam": [{"subnet": "10.1.0.0/24", "ip_range": None, "reserved": []}],
    "internal": False,
    "claims": [],
    "running": [],
}
STARTED = {"run_id": "1" * 16, "networks": {"net": dict(VIEW, error=None)}, "engine_error": None}
DEFAULTS = {
    "count": 10,
    "interval": 0.1,
    "patience": 10.0,
    "start_wait": 60.0,
    "transport": True,
    "peers": 0,
    "only": [],
    "rounds": 1,
    "streams": 0,
    "max_loss": 0.0,
    "baseline": "",
    "slower": 3.0,
}


@pytest.fixture
def action(monkeypatch):
    made = verify_report.ActionModule.__new__(verify_report.ActionModule)
    made._shown = []
    monkeypatch.setattr(made, "_show", lambda hosts, report: made._shown.append(report))
    return made


def begin(action, **changes):
    return action._begin(
        {"hosts": HOSTS, "networks": ["net"], **DEFAULTS, **changes}, {"ansible_play_hosts_all": HOSTS}
    )["run"]


def test_each_run_has_a_number(action):
    assert len(begin(action)["id"]) == 16
    assert begin(action)["id"] != begin(action)["id"]


def test_limit_is_refused_with_the_reason(action):
    with pytest.raises(AnsibleActionFail, match=r"leaves out b\. What the containers there claim is then unknown"):
        action._begin({"hosts": HOSTS, **DEFAULTS}, {"ansible_play_hosts_all": ["a"]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"interval": 0.0},
        {"patience": 0.5},
        {"start_wait": 0.0},
        {"peers": -1},
        {"rounds": 0},
        {"slower": 0.5},
    ],
)
def test_senseless_timing_is_refused(action, wrong):
    with pytest.raises(AnsibleActionFail, match="or more"):
        begin(action, **wrong)


def test_more_rounds_than_can_be_written_down_are_refused(action):
    with pytest.raises(AnsibleActionFail, match="50000 are the most"):
        begin(action, rounds=25001)
    begin(action, rounds=25000)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"max_loss": 5}, "from 0 to 1"), ({"streams": 1, "transport": False}, "needs overlay_verify_transport")],
)
def test_settings_that_do_not_go_together_are_refused(action, wrong, words):
    with pytest.raises(AnsibleActionFail, match=words):
        begin(action, **wrong)


def plan(action, run, hostvars):
    addresses = {host: f"192.0.2.{number}" for number, host in enumerate(HOSTS, 1)}
    args = {"hosts": HOSTS, "addresses": addresses, "networks": ["net"], "run": run, **DEFAULTS}
    return action._plan(args, {"hostvars": hostvars, "ansible_forks": 2})["plan"]


def test_what_another_run_registered_does_not_count(action):
    run = begin(action)
    hostvars = {"a": {verify_report.STARTED: dict(STARTED, run_id=run["id"])}, "b": {verify_report.STARTED: STARTED}}
    probes = plan(action, run, hostvars)["probes"][0]
    assert [probe["how"] for probe in probes] == ["temporary", "none"]
    assert probes[1]["kind"] == "host_unreachable"


def test_lost_hosts_have_rows_and_the_report_is_written_before_it_fails(action, tmp_path):
    run = begin(action)
    hostvars = {"a": {verify_report.STARTED: dict(STARTED, run_id=run["id"])}, "b": {}}
    args = {"hosts": HOSTS, "plan": plan(action, run, hostvars), "run": run, "max_loss": 0.0, "baseline": ""}
    result = action._compose({**args, "report_dir": str(tmp_path / "new" / "folder")}, {"hostvars": hostvars})
    assert result["failed"]
    assert "net: a -> b" in result["msg"]
    written = json.loads((tmp_path / "new" / "folder" / "verify.json").read_text())
    assert set(written) == {"schema_version", "networks", "pairs", "checks", "summary", "written"}
    assert 0 <= time.time() - written["written"] < 60
    assert [(row["from"], row["to"], row["ok"]) for row in written["pairs"]] == [("a", "b", False), ("b", "a", False)]
    assert set(written["pairs"][0]) == {
        *("network", "from", "to", "ok", "address_ok", "name_ok", "alias_ok", "mtu_ok", "path_mtu", "udp_ok", "tcp_ok"),
        *("bits_per_second", "wire", "loss", "rtt_ms", "kind", "error"),
    }
    assert written["summary"]["failed"] == 2
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["verify.json", "verify.xml"]
    cases = ElementTree.fromstring((tmp_path / "new" / "folder" / "verify.xml").read_bytes()).iter("testcase")
    assert [(case.get("name"), len(case)) for case in cases] == [("a -> b", 1), ("b -> a", 1)]


def test_what_went_wrong_beside_the_pairs_is_said(action, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(verify_report.Display, "warning", lambda _self, text, **_unused: said.append(text))
    run = begin(action)
    hostvars = {"a": {verify_report.STARTED: dict(STARTED, run_id=run["id"])}, "b": {}}
    hostvars["a"][verify_report.COLLECTED] = {"run_id": run["id"], "networks": {}, "errors": ["x cannot be removed"]}
    args = {
        "hosts": HOSTS,
        "plan": plan(action, run, hostvars),
        "run": run,
        "max_loss": 0.0,
        "baseline": "",
        "report_dir": str(tmp_path),
    }
    action._compose(args, {"hostvars": hostvars})
    assert "a: x cannot be removed" in said


def test_one_host_has_no_pairs_and_that_is_no_failure(action, tmp_path):
    run = begin(action)
    timing = {"rounds": 1, "peers": 0}
    planned = {"run": run["id"], "hosts": ["a"], "networks": ["net"], "probes": [[{"how": "none"}]], "timing": timing}
    baseline = tmp_path / "baseline.json"
    args = {**DEFAULTS, "hosts": ["a"], "plan": planned, "run": run, "report_dir": str(tmp_path)}
    result = action._compose({**args, "baseline": str(baseline)}, {"hostvars": {"a": {}}})
    assert "failed" not in result
    assert result["summary"]["pairs"] == 0
    # Nothing was proven, so there is nothing to compare with.
    assert not baseline.exists()


def heard(sent=10, arrived=10, p50=0.2):
    name = {"ok": True, "kind": None, "addresses": ["x"], "error": None}
    return {
        "sent": sent,
        "replied": arrived,
        "rtt": [0.1, p50, 9.9, p50, 9.9] if arrived else None,
        "full_replied": True,
        "largest_replied": None,
        "datagrams": 0,
        "datagram_replied": False,
        "tcp": {"ok": None, "error": None, "rate": None},
        "stream": None,
        "name": name,
        "alias": None,
        "send_error": None,
        "heard": {"any": arrived > 0, "series": arrived, "largest": 1450, "datagram": False},
    }


def proof(action, folder, hosts=("a", "b"), networks=("net",), **books):
    """One whole run with a baseline; the books are a host's of its peer, as a_b. Returns the result and verify.json."""
    hosts = list(hosts)
    args = {**DEFAULTS, "hosts": hosts, "networks": list(networks), "baseline": str(folder / "base" / "line.json")}
    run = action._begin(args, {"ansible_play_hosts_all": hosts})["run"]
    views = {network: dict(VIEW, error=None) for network in networks}
    hostvars = {host: {verify_report.STARTED: dict(STARTED, run_id=run["id"], networks=views)} for host in hosts}
    for host in hosts:
        peers = {peer: [books.get(f"{host}_{peer}", heard())] for peer in hosts if peer != host}
        done = {
            network: {"kind": None, "error": None, "mtu": 1450, "sees": False, "peers": peers} for network in networks
        }
        book = {"run_id": run["id"], "networks": done, "errors": [], "agent_died": False}
        # The first host was done soon, and not asked again.
        both = (book, {"skipped": True}) if host == hosts[0] else ({"run_id": run["id"]}, book)
        hostvars[host][verify_report.PROBED], hostvars[host][verify_report.COLLECTED] = both
    addresses = {host: f"192.0.2.{number}" for number, host in enumerate(hosts, 1)}
    planned = action._plan({**args, "addresses": addresses, "run": run}, {"hostvars": hostvars})["plan"]
    args.update(plan=planned, run=run, report_dir=str(folder))
    result = action._compose(args, {"hostvars": hostvars})
    return result, json.loads((folder / "verify.json").read_text())


@pytest.fixture
def said(monkeypatch):
    """What is displayed, and warned of."""
    found: dict[str, list[str]] = {"display": [], "warning": []}
    for method, lines in found.items():
        monkeypatch.setattr(
            verify_report.Display, method, lambda _self, text, lines=lines, **_unused: lines.append(text)
        )
    return found


def pair(source, target, **more):
    return {"network": "net", "from": source, "to": target, **more}


def test_a_good_run_becomes_the_baseline_and_the_next_is_compared(action, tmp_path, said):
    result, written = proof(action, tmp_path)
    path = str(tmp_path / "base" / "line.json")
    assert written["baseline"] == {"path": path, "written": True, "slower": [], "lost": [], "new": [], "gone": []}
    assert [path in line and "is kept" in line for line in said["display"]] == [True]
    assert os.listdir(tmp_path / "base") == ["line.json"]
    kept = (tmp_path / "base" / "line.json").read_text()
    result, written = proof(action, tmp_path, a_b=heard(p50=5.0), b_a=heard(p50=1.1))
    # Slower pairs are a warning: 1.1 ms is far more than 0.2, but not by a millisecond.
    assert "failed" not in result
    assert written["baseline"]["slower"] == [pair("a", "b", was=0.2, p50=5.0)]
    assert written["baseline"]["written"] is False
    assert said["warning"] == [f"1 pair(s) are slower than in the baseline {path}: net: a -> b: 5.0 ms, was 0.2"]
    assert (tmp_path / "base" / "line.json").read_text() == kept


def test_pairs_that_are_lost_new_and_gone_are_told(action, tmp_path, said):
    proof(action, tmp_path, hosts=("a", "b", "old"))
    said["display"].clear()
    silent = {"a_b": heard(arrived=0), "b_a": heard(arrived=0)}
    result, written = proof(action, tmp_path, hosts=("a", "b", "new"), **silent)
    assert result["failed"]
    found = written["baseline"]
    assert found["lost"] == [pair("a", "b", kind="no_answer"), pair("b", "a", kind="no_answer")]
    assert found["new"] == [pair("a", "new"), pair("b", "new"), pair("new", "a"), pair("new", "b")]
    assert found["gone"] == [pair("a", "old"), pair("b", "old"), pair("old", "a"), pair("old", "b")]
    assert said["display"][0].endswith("0 slower, 2 lost, 4 new, 4 gone")
    assert said["display"][1:4] == [
        "   lost: net: a -> b: no_answer",
        "   lost: net: b -> a: no_answer",
        "   new: net: a -> new",
    ]


def test_a_bad_run_is_no_baseline(action, tmp_path, said):
    result, written = proof(action, tmp_path, a_b=heard(arrived=0), b_a=heard(arrived=0))
    assert result["failed"]
    assert written["baseline"]["written"] is False
    assert not (tmp_path / "base").exists()
    assert "is not written, because 2 pair(s) failed" in said["display"][-1]


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "another"}', "\x00"])
def test_a_file_that_is_no_baseline_is_refused_before_anything_is_sent(action, tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(
        AnsibleActionFail, match=r"overlay_verify_baseline: .*baseline\.json on the controller cannot be used"
    ):
        begin(action, baseline=str(path))
    assert path.read_text() == text


def test_a_baseline_that_could_not_be_written_is_refused_too(action, tmp_path):
    (tmp_path / "file").write_text("")
    begin(action, baseline=str(tmp_path / "new" / "folders" / "baseline.json"))
    for path in (tmp_path, tmp_path / "file" / "baseline.json"):
        with pytest.raises(AnsibleActionFail, match="overlay_verify_baseline"):
            begin(action, baseline=str(path))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AnsibleActionFail, match="cannot be written"):
        begin(action, baseline=str(tmp_path / "link" / "baseline.json"))


def test_a_factor_below_one_is_refused(action):
    with pytest.raises(AnsibleActionFail, match="overlay_verify_slower must be 1 or more"):
        begin(action, slower=0.5)


def test_pairs_of_some_hosts_alone(action):
    with pytest.raises(AnsibleActionFail, match="overlay_verify_hosts has c, which the overlay has not"):
        begin(action, only=["c"])
    run = begin(action, only=["b"])
    task_vars = {"hostvars": {host: {verify_report.STARTED: STARTED} for host in HOSTS}, "ansible_forks": 5}
    wanted = {"run": run, "hosts": HOSTS, "networks": ["net"], "addresses": {"a": "10.0.0.1", "b": "10.0.0.2"}}
    plan = action._plan({**DEFAULTS, **wanted, "only": ["b"]}, task_vars)["plan"]
    assert plan["timing"]["only"] == [1]
