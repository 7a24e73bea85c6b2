# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""upgrade_report: what it reads, refuses and says last."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.multihost.overlay.plugins.action import upgrade_report
from tests.unit.plugins.module_utils.test_upgrade_plan import engine, newer, reading

TURNS = [{"host": host, "program": "engine"} for host in ("a", "b")]


def variables(**seen: Any) -> dict[str, Any]:
    """As Ansible hands them over."""
    return {"hostvars": {host: {"read": row} for host, row in seen.items()}, "ansible_play_hosts": list(seen)}


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Any:
    shown: list[str] = []
    monkeypatch.setattr(upgrade_report.Display, "display", lambda _self, text, **_options: shown.append(text))
    monkeypatch.setattr(upgrade_report.Display, "warning", lambda _self, text, **_options: shown.append(text))
    made = upgrade_report.ActionModule.__new__(upgrade_report.ActionModule)
    return made, shown


def args(**changes: Any) -> dict[str, Any]:
    base = {"hosts": ["a", "b"], "result_variable": "read", "servers": [], "leader": "", "despite": [], "archive": {}}
    return {**base, "plan": {"turns": TURNS}, "turn": TURNS[0], "problem": "", "back": "", **changes}


def packed(folder: Path, name: str, program: bytes) -> str:
    """An archive as Docker's static ones are laid out."""
    path = folder / name
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("docker/dockerd")
        entry.size = len(program)
        archive.addfile(entry, io.BytesIO(program))
    return str(path)


def test_the_plan_is_shown_and_says_who_waits(action: Any) -> None:
    made, shown = action
    due, dying = engine(**newer("20.10.24")), engine(**newer("20.10.24"), containers=["web"], live_restore=False)
    found = made._plan(args(), variables(a=reading(engine=due), b=reading(engine=dying)))
    assert [turn["host"] for turn in found["turns"]] == ["a"] and [row["host"] for row in found["waiting"]] == ["b"]
    assert any("20.10.24" in line for line in shown)


def test_an_engine_without_the_classic_mode_is_refused_whatever_its_name_says(action: Any, tmp_path: Path) -> None:
    made, _shown = action
    due = variables(a=reading(engine=engine(**newer("20.10.24"))), b=reading(engine=engine()))
    new = packed(tmp_path, "docker-20.10.99.tgz", b"no client at all")
    with pytest.raises(
        AnsibleActionFail, match=r"(?s)Nothing was changed.*no classic mode with consul \(it has clients for: no store"
    ):
        made._plan(args(archive={"path": new, "backend": "consul"}), due)
    good = packed(tmp_path, "docker-20.10.24.tgz", b"xx libkv/store/consul xx")
    assert made._plan(args(archive={"path": good, "backend": "consul"}), due)["turns"]


def test_what_is_no_archive_of_an_engine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docker.tgz").write_text("<html>")
    assert "cannot be read" in upgrade_report.archive_problem(str(tmp_path / "docker.tgz"), "consul")
    with tarfile.open(tmp_path / "empty.tgz", "w:gz"):
        pass
    assert "has no dockerd" in upgrade_report.archive_problem(str(tmp_path / "empty.tgz"), "consul")


def test_a_host_that_is_done_lets_the_next_one_come(action: Any) -> None:
    made, _shown = action
    assert made._judge(args(), variables(a=reading(engine=engine()), b=reading(engine=engine()))) == {}


@pytest.mark.parametrize(
    ("seen", "problem", "words"),
    [
        (engine(), "it does not start", "stopped at a .Docker.: it does not start"),
        (engine(replaced=["dockerd"]), "", "runs, and not"),
        (None, "", "could not be reached any more"),
    ],
)
def test_the_first_failed_gate_ends_the_run(action: Any, seen: Any, problem: str, words: str) -> None:
    made, _shown = action
    hosts = {"b": reading(engine=engine()), **({"a": reading(engine=seen)} if seen else {})}
    with pytest.raises(AnsibleActionFail, match=f"(?s){words}.*Not touched: b"):
        made._judge(args(problem=problem), variables(**hosts))


def test_engines_that_wait_fail_the_run_unless_nobody_was_to_be_restarted(action: Any) -> None:
    made, shown = action
    row = {"host": "b", "have": "1", "want": "2", "why": "these containers would die: web"}
    with pytest.raises(AnsibleActionFail, match="b: 1 -> 2: these containers would die"):
        made._end(args(plan={"waiting": [row]}), {})
    assert made._end(args(plan={"waiting": [dict(row, why="overlay_docker_restart is never")]}), {}) == {}
    assert "nobody has consented" in shown[-1]
