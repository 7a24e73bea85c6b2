# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What shows only across hosts, and the report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ansible_collections.multihost.overlay.plugins.action.preflight_report import ActionModule
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import found
from ansible_collections.multihost.overlay.plugins.plugin_utils import _findings_report
from ansible_collections.multihost.overlay.plugins.plugin_utils import _preflight_report as report

ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2"}


def result(number: int, *findings: dict[str, str], **facts: Any) -> dict[str, Any]:
    own = {
        "hostname": f"node{number}",
        "machine_id": str(number) * 32,
        "addresses": [f"10.0.0.{number}"],
        "engine": {"id": f"ID{number}"},
    }
    return {"findings": list(findings), "ansible_facts": {"overlay_host_facts": {**own, **facts}}}


def judge(
    first: dict[str, Any], second: dict[str, Any], networks: Any = (), skip: bool = False
) -> list[dict[str, str]]:
    return report.all_findings({"a": first, "b": second}, ADDRESSES, networks, skip)


def pairs(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["host"], row["id"]) for row in rows]


def test_unlike_hosts() -> None:
    assert judge(result(1), result(2)) == []


@pytest.mark.parametrize(
    ("facts", "check_id"),
    [
        ({"hostname": "same"}, "hostname_duplicate"),
        ({"machine_id": "same"}, "machine_id_duplicate"),
        ({"engine": {"id": "same"}}, "engine_id_duplicate"),
    ],
)
def test_duplicates_name_each_other(facts: dict[str, Any], check_id: str) -> None:
    rows = judge(result(1, **facts), result(2, **facts))
    assert pairs(rows) == [("a", check_id), ("b", check_id)]
    assert "same" in rows[0]["evidence"]
    assert rows[0]["message"].endswith("b")


def test_missing_identities_are_not_alike() -> None:
    none: dict[str, Any] = {"hostname": "", "machine_id": "", "engine": {"id": ""}}
    assert judge(result(1, **none), result(2, **none)) == []


def test_an_address_on_two_hosts() -> None:
    rows = judge(result(1), result(2, addresses=["10.0.0.2", "10.0.0.1"]))
    assert pairs(rows) == [("a", "address_shared")]


def test_a_peer_inside_an_overlay_subnet() -> None:
    networks = [
        {"name": "blue", "subnet": "10.0.0.2/31"},
        {"name": "red"},
        {"subnet": "10.0.0.0/24", "state": "absent"},
    ]
    assert pairs(judge(result(1), result(2), networks)) == [("b", "subnet_overlaps_peer")]
    known = found("subnet_overlaps_address", "subnet 10.0.0.2/31 of network blue overlaps 10.0.0.0/24, which", "x")
    assert pairs(judge(result(1), result(2, known), networks)) == [("b", "subnet_overlaps_address")]


UNREACHABLE = {"unreachable": True, "msg": "Failed to connect to the host via ssh: Connection refused"}


def test_unreachable_hosts() -> None:
    rows = judge(result(1), dict(UNREACHABLE))
    assert pairs(rows) == [("b", "host_unreachable")]
    assert "Connection refused" in rows[0]["evidence"]
    assert [row["level"] for row in judge(result(1), dict(UNREACHABLE), skip=True)] == ["warning"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/bin/sh: 1: /usr/bin/python3: not found", "python_missing"),
        ("ansible-core requires a minimum of Python version 3.8. Current version: 3.6.8", "python_missing"),
        ("Missing sudo password", "become_failed"),
        ("Task failed: Incorrect sudo password", "become_failed"),
        ("/bin/sh: 1: sudo: not found", "become_failed"),
        ("sudo: a password is required", "become_failed"),
        ("deploy is not in the sudoers file.  This incident will be reported.", "become_failed"),
        ("Timeout (12s) waiting for privilege escalation prompt", "become_failed"),
        ("su: Authentication failure", "become_failed"),
        ("sudo: unable to resolve host node1; boom", "preflight_failed"),
        ("", "preflight_failed"),
    ],
)
def test_hosts_that_could_not_be_read(message: str, expected: str) -> None:
    assert pairs(judge(result(1), {"failed": False, "module_stderr": message})) == [("b", expected)]
    assert pairs(judge(result(1), {})) == [("b", "preflight_failed")]


def test_errors_come_first_and_the_summary_counts() -> None:
    rows = judge(
        result(1, found("ip_forward_off", "m", "e"), found("not_root", "m", "e")),
        result(2, found("kernel_old", "m", "e")),
    )
    assert [row["level"] for row in rows] == ["error", "warning", "info"]
    composed = _findings_report.compose({"a": result(1), "b": UNREACHABLE}, rows)
    assert composed["schema_version"] == 1
    assert composed["summary"] == {"hosts": 2, "hosts_read": 1, "errors": 1, "warnings": 1, "infos": 1}
    assert list(composed["findings"][0]) == ["host", "id", "level", "message", "evidence", "fix"]


@pytest.mark.parametrize(("fail_on", "count"), [("error", 1), ("warning", 2), ("info", 3), ("never", 0)])
def test_what_ends_the_run(fail_on: str, count: int) -> None:
    rows = [dict(found(check, "m", "e"), host="a") for check in ("not_root", "kernel_old", "ip_forward_off")]
    assert len(_findings_report.blocking(rows, fail_on)) == count


def test_the_table_leaves_out_notes() -> None:
    rows = [dict(found(check, "message", "seen"), host="a") for check in ("not_root", "ip_forward_off")]
    text = "\n".join(line for _level, line in _findings_report.table(rows))
    assert "not_root" in text
    assert "ip_forward_off" not in text
    assert _findings_report.table([]) == []


def test_the_report_is_written_as_a_whole(tmp_path: Path) -> None:
    path = _findings_report.write_report(str(tmp_path / "new"), {"schema_version": 1}, "preflight")
    assert json.loads(Path(path).read_text(encoding="utf-8")) == {"schema_version": 1}
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["preflight.json"]


def run_action(tmp_path: Path, first: dict[str, Any], **more: Any) -> dict[str, Any]:
    task = mock.Mock(args={"hosts": ["a"], "result_variable": "r", "report_dir": str(tmp_path), **more}, async_val=0)
    task.check_mode = True
    templar = mock.Mock()
    action = ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), templar, mock.Mock())
    return action.run(None, {"hostvars": {"a": {"r": first}}})


def test_the_action_fails_with_all_errors(tmp_path: Path) -> None:
    outcome = run_action(tmp_path, result(1, found("not_root", "first", "e"), found("vxlan_missing", "second", "e")))
    assert outcome["failed"]
    assert "first" in outcome["msg"]
    assert "second" in outcome["msg"]
    assert json.loads((tmp_path / "preflight.json").read_text(encoding="utf-8"))["summary"]["errors"] == 2


def test_the_action_passes_with_notes_in_check_mode_too(tmp_path: Path) -> None:
    outcome = run_action(tmp_path, result(1, found("ip_forward_off", "m", "e")))
    assert not outcome.get("failed")
    assert outcome["changed"] is False
    assert outcome["findings"][0]["host"] == "a"
    assert (tmp_path / "preflight.json").exists()


def test_a_peer_in_the_range_of_a_bridge() -> None:
    rows = judge(result(1, bridges={"docker_gwbridge": "10.0.0.9/29"}), result(2, bridges={"docker0": "172.17.0.1/16"}))
    assert pairs(rows) == []
    rows = judge(result(1, bridges={"docker_gwbridge": "10.0.0.7/29"}), result(2))
    assert pairs(rows) == [("a", "bridge_overlaps_peer")]
    assert "10.0.0.2" in rows[0]["evidence"]


def test_versions_that_differ() -> None:
    first = result(1, engine={"id": "1", "version": "20.10.5"})
    rows = judge(first, result(2, engine={"id": "2", "version": "20.10.24"}))
    assert pairs(rows) == [("b", "engine_versions_differ")]
    assert judge(first, result(2, engine={"id": "2", "version": ""})) == []


def test_what_is_known_of_hosts() -> None:
    fact = {
        "distribution": {"id": "debian", "version": "11", "codename": "bullseye"},
        "kernel": "5.10",
        "engine": {"version": "20.10.5+dfsg1"},
        "consul_version": "",
    }
    assert _findings_report.hosts_section(["a", "b"], {"a": fact}) == {
        "a": {"os": "debian 11", "kernel": "5.10", "engine": "20.10.5", "consul": None},
        "b": {"os": None, "kernel": None, "engine": None, "consul": None},
    }


def test_when_and_how_long() -> None:
    assert _findings_report.timing(100.0, 102.5) == {"written": 102.5, "seconds": 2.5}
    assert _findings_report.timing(None, 102.5)["seconds"] is None
    # The controller's clock was set back meanwhile.
    assert _findings_report.timing(200.0, 102.5)["seconds"] == 0


def test_the_report_says_it_too(tmp_path: Path) -> None:
    args = {"report_dir": str(tmp_path), "fail_on": "error", "begun": time.time() - 5}
    _findings_report.conclude("doctor", "no", args, {"a": result(1)}, [], hosts={"a": {"os": "x"}})
    report = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert report["hosts"] == {"a": {"os": "x"}}
    assert 0 <= time.time() - report["written"] < 60
    assert 5 <= report["seconds"] < 60
