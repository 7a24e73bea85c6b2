# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify_report: what it reads, writes and refuses."""

from __future__ import annotations

import json
import time
from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.multihost.overlay.plugins.action import verify_report

HOSTS = ["a", "b"]
VIEW = {"id": "n", "ipam": [{"subnet": "10.1.0.0/24", "ip_range": None, "reserved": []}], "claims": [], "running": []}
STARTED = {"run_id": "1" * 16, "networks": {"net": dict(VIEW, error=None)}, "engine_error": None}
DEFAULTS = {"count": 10, "interval": 0.1, "patience": 10.0, "max_loss": 0.0}


@pytest.fixture
def action(monkeypatch):
    made = verify_report.ActionModule.__new__(verify_report.ActionModule)
    made._shown = []
    monkeypatch.setattr(made, "_show", lambda hosts, report: made._shown.append(report))
    return made


def begin(action, **changes):
    return action._begin({"hosts": HOSTS, **DEFAULTS, **changes}, {"ansible_play_hosts_all": HOSTS})["run"]


def test_each_run_has_a_number(action):
    assert len(begin(action)["id"]) == 16
    assert begin(action)["id"] != begin(action)["id"]


def test_limit_is_refused_with_the_reason(action):
    with pytest.raises(AnsibleActionFail, match=r"leaves out b\. What the containers there claim is then unknown"):
        action._begin({"hosts": HOSTS, **DEFAULTS}, {"ansible_play_hosts_all": ["a"]})


@pytest.mark.parametrize("wrong", [{"count": 0}, {"interval": 0.0}, {"patience": 0.5}])
def test_senseless_timing_is_refused(action, wrong):
    with pytest.raises(AnsibleActionFail, match="or more"):
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
    args = {"hosts": HOSTS, "plan": plan(action, run, hostvars), "run": run, "max_loss": 0.0}
    result = action._compose({**args, "report_dir": str(tmp_path / "new" / "folder")}, {"hostvars": hostvars})
    assert result["failed"]
    assert "net: a -> b" in result["msg"]
    written = json.loads((tmp_path / "new" / "folder" / "verify.json").read_text())
    assert set(written) == {"schema_version", "networks", "pairs", "summary", "written"}
    assert 0 <= time.time() - written["written"] < 60
    assert [(row["from"], row["to"], row["ok"]) for row in written["pairs"]] == [("a", "b", False), ("b", "a", False)]
    assert set(written["pairs"][0]) == {
        *("network", "from", "to", "ok", "address_ok", "name_ok", "mtu_ok", "loss", "rtt_ms", "kind", "error")
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
        "report_dir": str(tmp_path),
    }
    action._compose(args, {"hostvars": hostvars})
    assert "a: x cannot be removed" in said


def test_one_host_has_no_pairs_and_that_is_no_failure(action, tmp_path):
    run = begin(action)
    planned = {"run": run["id"], "hosts": ["a"], "networks": ["net"], "probes": [[{"how": "none"}]], "timing": {}}
    args = {"hosts": ["a"], "plan": planned, "run": run, "max_loss": 0.0, "report_dir": str(tmp_path)}
    result = action._compose(args, {"hostvars": {"a": {}}})
    assert "failed" not in result
    assert result["summary"]["pairs"] == 0
