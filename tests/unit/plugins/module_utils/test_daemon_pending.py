# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is due, and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_pending as pending
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_pending import Decision, Due, Running
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_plan import Change

WANTED = {"cluster-store": "consul://127.0.0.1:8500", "cluster-advertise": "10.0.0.1:2376", "live-restore": True}
JOINED = {"ClusterStore": WANTED["cluster-store"], "ClusterAdvertise": "10.0.0.1:2376", "LiveRestoreEnabled": True}


def running(containers: int = 0, live: bool = False, kill_mode: str = "process", invocation: str = "i1") -> Running:
    info = {"ContainersRunning": containers, "LiveRestoreEnabled": live}
    return Running(True, True, invocation, kill_mode, info)


def test_an_engine_with_all_settings_has_no_mismatch() -> None:
    assert pending.mismatches(JOINED, WANTED, str) == {}


def test_each_mismatch_is_told() -> None:
    assert set(pending.mismatches({}, WANTED, str)) == set(WANTED)


def test_live_restore_alone_is_a_reload_and_the_store_a_restart() -> None:
    changes = [Change("live-restore", None, True, False), Change("cluster-store", "a", "b", True)]
    due = pending.whats_due(running(), None, [pending.change_reasons(changes)])
    assert list(due.reload) == ["live-restore"]
    assert due.restart == {"cluster-store": 'cluster-store: "a" -> "b"'}


def test_secrets_are_not_in_the_reasons() -> None:
    changes = [Change("log-opts", {"splunk-token": "s3cret"}, {"splunk-token": "0ther"}, True)]
    assert "s3cret" not in str(pending.change_reasons(changes))
    assert "0ther" not in str(pending.change_reasons(changes))


@pytest.mark.parametrize(("invocation", "due"), [("i1", True), ("i2", False)])
def test_a_recorded_restart_is_due_only_while_the_same_engine_runs(invocation: str, due: bool) -> None:
    record = {"invocation": "i1", "reasons": {"mtu": "mtu: unset -> 1400"}, "previous": None}
    assert bool(pending.whats_due(running(invocation=invocation), record, []).restart) is due


def test_a_live_restore_that_was_reloaded_is_done() -> None:
    record = {"invocation": "i1", "reasons": {"live-restore": "live-restore: unset -> true"}}
    assert pending.whats_due(running(live=True), record, []).reload == {}
    assert pending.whats_due(running(live=False), record, []).reload


def test_an_engine_that_does_not_run_needs_a_start_only() -> None:
    due = pending.whats_due(Running(installed=True), None, [{"mtu": "x"}])
    assert (due.start, due.restart) == (True, {})
    assert not pending.whats_due(Running(), None, []).anything


def test_only_names_of_variables_are_told() -> None:
    (reason,) = pending.environment_mismatches({"TOKEN": "s3cret", "SAME": "1"}, {"SAME": "1"}).values()
    assert "TOKEN" in reason
    assert "s3cret" not in reason
    assert "SAME" not in reason


def test_the_first_previous_file_is_kept_while_the_same_engine_runs() -> None:
    due = Due(restart={"b": "b"})
    old = {"invocation": "i1", "reasons": {"a": "a"}, "previous": "/first"}
    assert pending.new_record(running(), old, due, {"previous": "/second"}) == {
        "invocation": "i1",
        "reasons": {"a": "a", "b": "b"},
        "previous": "/first",
    }
    assert pending.new_record(running(invocation="i2"), old, due, {"previous": "/second"})["previous"] == "/second"


@pytest.mark.parametrize(
    ("engine", "policy", "live_wanted", "decision"),
    [
        (running(), "safe", True, Decision(restart=True)),
        (running(), "never", True, Decision(pending=True)),
        (running(2, live=True), "safe", True, Decision(restart=True)),
        (running(2), "safe", True, Decision(reload=True, restart=True)),
        (running(2), "safe", False, Decision(pending=True)),
        (running(2), "rolling", False, Decision(restart=True)),
        (running(2), "rolling", True, Decision(reload=True, restart=True)),
        (running(2), "never", True, Decision(pending=True)),
        (running(2, kill_mode="control-group"), "safe", True, Decision(pending=True)),
        (running(2, live=True, kill_mode="control-group"), "safe", True, Decision(pending=True)),
    ],
)
def test_no_container_dies_without_consent(engine: Running, policy: str, live_wanted: bool, decision: Decision) -> None:
    assert pending.decide(Due(restart={"a": "a"}), policy, engine, live_wanted) == decision


@pytest.mark.parametrize("policy", ["safe", "rolling", "never"])
def test_a_reload_needs_no_consent(policy: str) -> None:
    assert pending.decide(Due(reload={"a": "a"}), policy, running(3), True) == Decision(reload=True)
    assert pending.decide(Due(), policy, running(3), True) == Decision()


def test_an_engine_that_does_not_run_is_started_unless_never() -> None:
    assert pending.decide(Due(start=True), "safe", Running(True), True) == Decision(start=True)
    assert pending.decide(Due(start=True), "never", Running(True), True) == Decision(pending=True)


@pytest.mark.parametrize(
    ("engine", "due", "joined", "gate"),
    [
        (running(2), Due(), True, "none"),
        (running(2), Due(), False, "idle"),
        (running(2), Due(reload={"a": "a"}), True, "idle"),
        (running(2), Due(restart={"a": "a"}), True, "busy"),
        (running(0), Due(restart={"a": "a"}), True, "idle"),
        (Running(), Due(), False, "idle"),
    ],
)
def test_who_has_to_go_one_after_another(engine: Running, due: Due, joined: bool, gate: str) -> None:
    assert pending.gate(engine, due, joined) == gate


def test_the_explanation_names_who_would_die_and_who_would_not_come_back() -> None:
    containers: list[dict[str, Any]] = [
        {"name": "web", "restart_policy": "always", "would_die": True},
        {"name": "batch", "restart_policy": "no", "would_die": True},
    ]
    text = pending.explain(Due(restart={"a": "why"}), running(2, kill_mode="control-group"), containers)
    assert "die of it: web, batch" in text
    assert "(no restart policy): batch" in text
    assert "KillMode=control-group" in text
    assert "overlay_docker_restart: rolling" in text


def test_the_explanation_says_that_the_user_has_switched_live_restore_off() -> None:
    containers: list[dict[str, Any]] = [{"name": "web", "restart_policy": "always", "would_die": True}]
    due = Due(restart={"a": "why"})
    assert "switched off by a setting that is not ours" in pending.explain(due, running(1), containers, refused=True)
    assert "switched off" not in pending.explain(due, running(1), containers)
