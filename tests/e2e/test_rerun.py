# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run on a cluster that is in order changes nothing, costs little, and proves every pair again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import HOSTS, INVENTORY, NETWORKS, PAIRS, converge, leftovers, read, verify
from tests.e2e.state import differences, state_of
from tests.e2e.support import Run, start_playbook

pytestmark = pytest.mark.lab

# The design's bound for remote executions on a host.
BUDGET = 25
ROW = {
    *("network", "from", "to", "ok", "address_ok", "name_ok", "alias_ok", "mtu_ok", "path_mtu", "udp_ok", "tcp_ok"),
    *("bits_per_second", "wire", "loss", "rtt_ms", "kind", "error"),
}
FINDING = {"host", "id", "level", "message", "evidence", "fix"}


def unchanged(cluster: Cluster, report: Path, **options: Any) -> Run:
    """A run that must change nothing: not by its own words, and not in truth."""
    before = state_of(cluster)
    run = converge(report, **options)
    assert (run.changed, run.changes) == ({}, {})
    assert differences(before, state_of(cluster)) == []
    assert leftovers(cluster) == []
    return run


def check_proof(report: Path) -> None:
    """verify.json is as documented, and every ordered pair is good on each network."""
    proof = read(report, "verify.json")
    assert set(proof) == {"schema_version", "written", "networks", "pairs", "checks", "summary"}
    assert proof["schema_version"] == 1
    assert proof["networks"] == list(NETWORKS)
    assert set(proof["summary"]) == {"pairs", "failed", "checks", "checks_failed", "seconds"}
    assert (proof["summary"]["pairs"], proof["summary"]["failed"]) == (len(PAIRS) * len(NETWORKS), 0)
    rows = proof["pairs"]
    assert sorted((row["network"], row["from"], row["to"]) for row in rows) == sorted(
        (network, *pair) for network in NETWORKS for pair in PAIRS
    )
    for row in rows:
        assert set(row) == ROW
        assert (row["ok"], row["address_ok"], row["name_ok"], row["mtu_ok"], row["loss"]) == (True, True, True, True, 0)
        assert (row["kind"], row["error"]) == (None, None)
        times = row["rtt_ms"]
        assert set(times) == {"min", "avg", "max", "p50", "p99"}
        assert 0 < times["min"] <= times["avg"] <= times["max"]
        assert times["min"] <= times["p50"] <= times["p99"] <= times["max"]


def check_findings(report: Path) -> None:
    """preflight.json is as documented, and nothing stands in the way."""
    preflight = read(report, "preflight.json")
    assert set(preflight) == {"schema_version", "written", "seconds", "hosts", "findings", "summary", "underlay"}
    assert preflight["schema_version"] == 1
    for row in preflight["findings"]:
        assert set(row) - {"from", "to"} == FINDING
        assert all(isinstance(value, str) and value for value in row.values())
        assert row["host"] in HOSTS
        assert row["level"] in ("warning", "info")
    assert preflight["summary"]["errors"] == 0
    assert preflight["summary"]["hosts"] == preflight["summary"]["hosts_read"] == len(HOSTS)


def test_a_second_run(cluster: Cluster, tmp_path: Path) -> None:
    run = unchanged(cluster, tmp_path)
    assert set(run.remote) == set(HOSTS)
    assert max(run.remote.values()) <= BUDGET, run.modules
    check_proof(tmp_path)
    check_findings(tmp_path)


def test_a_dry_run(cluster: Cluster, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    options = {"extra_vars": {"overlay_verify_baseline": str(baseline)}}
    run = unchanged(cluster, tmp_path, arguments=["--check", "--diff"], **options)
    assert "+++" not in run.output
    assert not (tmp_path / "verify.json").exists()
    assert not baseline.exists()


def test_two_runs_at_a_time(cluster: Cluster, tmp_path: Path) -> None:
    """The second one ends at once, and the first is not disturbed."""
    with start_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)}) as first:
        first.wait_for_task("Read the host")
        second = converge(tmp_path, succeeds=False)
        assert f"(process {first.process.pid}, site.yml)" in second.messages
        assert (second.remote, second.changed) == ({HOSTS[0]: 1}, {})
        assert first.wait().changed == {}


@pytest.mark.long
def test_a_controller_with_two_forks(cluster: Cluster, tmp_path: Path) -> None:
    unchanged(cluster, tmp_path, arguments=["--forks", "2"])
    check_proof(tmp_path)


def test_a_part_of_the_hosts(cluster: Cluster, tmp_path: Path) -> None:
    """Others are asked for the lock alone, peers' addresses are still known, and what was not proven is said."""
    run = unchanged(cluster, tmp_path, arguments=["--limit", "node2"])
    assert run.modules["node1"] == ["multihost.overlay.run_lock"]
    assert set(run.remote) == {"node1", "node2"}
    assert "Not proven, because --limit leaves out node1, node3" in run.output
    assert not (tmp_path / "verify.json").exists()


def test_a_proof_of_a_part_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    run = verify(tmp_path, arguments=["--limit", "node2"], succeeds=False)
    assert "leaves out node1, node3" in run.messages
    assert "without --limit" in run.messages
    assert run.remote == {}
