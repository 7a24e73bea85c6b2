# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host is asked for its files, and when what preflight read of it is enough."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar

from ansible_collections.multihost.overlay.plugins.action import host_files
from ansible_collections.multihost.overlay.plugins.module_utils._owned_files import described

FILE = {
    "path": "/etc/a",
    "content": "new\n",
    "template": None,
    "state": "present",
    "mode": "0644",
    "owner": "root",
    "group": "root",
}
ARGS: dict[str, Any] = {
    "role": "r",
    "packages": [],
    "sysctls": {},
    "units": ["u"],
    "directories": [],
    "files": [FILE],
    "secrets": {},
}


def facts(content: str) -> dict[str, Any]:
    found = described(0o644, "root", "root", content.encode())
    owned = {"files": {"/etc/a": found}, "directories": {}, "units": {"u": {"active": "active"}, "v": {}}}
    return {"ansible_facts": {"overlay_host_facts": {"kernel": "5", "owned": owned}}}


def run(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any], args: dict[str, Any] | None = None, check: bool = False
) -> Any:
    action = object.__new__(host_files.ActionModule)
    action._task = SimpleNamespace(check_mode=check)
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
    monkeypatch.setattr(action, "validate_argument_spec", lambda *_unused: (None, args or ARGS))
    monkeypatch.setattr(action, "_execute_module", lambda **_unused: {"changed": True})
    return action.run(None, variables)


READ: dict[str, Any] = {host_files.READ: {"findings": []}}
EMPTY: dict[str, Any] = {"ansible_facts": {}}


def test_a_host_in_order_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {**facts("new\n"), **READ})
    assert result == {"changed": False, "written": [], "units": {"u": {"active": "active"}}}


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param(EMPTY, id="nothing known"),
        pytest.param({**EMPTY, **READ}, id="facts were cleared"),
        pytest.param(facts("new\n"), id="known from a cache"),
        pytest.param({**facts("new\n"), host_files.READ: {"failed": True}}, id="could not be read in this run"),
    ],
)
def test_every_other_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any]) -> None:
    assert run(monkeypatch, variables) == {"changed": True}
    gone = {**ARGS, "units": [], "files": [{**FILE, "state": "absent"}]}
    assert run(monkeypatch, variables, gone) == {"changed": True}


def test_what_was_changed_is_not_known_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {**facts("old\n"), **READ}
    after = run(monkeypatch, before)
    assert after == {"changed": True, "ansible_facts": {"overlay_host_facts": {"kernel": "5", "owned": None}}}
    assert run(monkeypatch, {**after, **READ})["changed"]
    assert run(monkeypatch, before, check=True) == {"changed": True}


def test_a_template_is_rendered_with_what_the_task_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("{% for key in keys %}\n{{ key }}\\n\n{% endfor %}\n")
    action = object.__new__(host_files.ActionModule)
    action._loader = DataLoader()
    action._templar = Templar(loader=action._loader, variables={"keys": ["a", "b"]})
    monkeypatch.setattr(action, "_find_needle", lambda folder, name: str(tmp_path / name))
    entry = {**FILE, "content": None, "template": "a.j2"}
    assert action._with_content(entry) == {**FILE, "content": "a\\n\nb\\n\n"}
    assert action._with_content(FILE) is FILE
